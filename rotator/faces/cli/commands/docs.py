"""docs: read the documentation that comes with rotator."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator import bundled
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.render.console import table

app = typer.Typer()


def _complete_topics(incomplete: str) -> list[str]:
    return [topic for topic in bundled.topics() if topic.startswith(incomplete)]


@command(app, "docs", Panel.PREPARE)
def docs(
    ctx: typer.Context,
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC",
            show_default=False,
            autocompletion=_complete_topics,
            help="Print this page. Default: list all topics.",
        ),
    ] = None,
) -> None:
    """List the documentation, or print one page of it as Markdown.

    Examples:
        rotator docs
        rotator docs postgresql
        rotator docs first-rotation
    """
    call: Invocation = ctx.obj
    if topic is None:
        topics = bundled.topics()
        call.data["topics"] = [{"topic": name, "title": title} for name, title in topics.items()]
        call.print(table(call.screen, ("topic", "title"), topics.items()))
        call.print("", "Print one: rotator docs TOPIC")
        return
    text = bundled.page(topic)
    call.data |= {"topic": topic, "text": text}
    if not call.as_json:
        call.write(text)
