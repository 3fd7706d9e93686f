"""The documentation and the deploy files that come with rotator: from the wheel, or from a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from rotator.core.errors import UsageError

# What `write_deployment` writes: each file's place in the repository, and its name below the folder.
DEPLOYMENTS: Final[dict[str, dict[str, str]]] = {
    "systemd": {
        "deploy/systemd/rotator.service": "rotator.service",
        "deploy/systemd/rotator-agent.service": "rotator-agent.service",
        "deploy/systemd/rotator-console.service": "rotator-console.service",
        "deploy/prometheus/alerts.yaml": "alerts.yaml",
        "deploy/grafana/rotator.json": "dashboard.json",
        "deploy/postgresql/journal-role.sql": "journal-role.sql",
        "deploy/postgresql/console-role.sql": "console-role.sql",
    },
    "kubernetes": {
        "deploy/kubernetes/rotator.yaml": "rotator.yaml",
        "deploy/kubernetes/agent.yaml": "agent.yaml",
        "deploy/kubernetes/console.yaml": "console.yaml",
        "deploy/prometheus/alerts.yaml": "alerts.yaml",
        "deploy/grafana/rotator.json": "dashboard.json",
        "deploy/postgresql/journal-role.sql": "journal-role.sql",
        "deploy/postgresql/console-role.sql": "console-role.sql",
    },
    # Their places matter: docker-compose.yml names them.
    "compose": {
        "docker-compose.yml": "docker-compose.yml",
        "deploy/compose/owner.yaml": "deploy/compose/owner.yaml",
        "deploy/compose/rotator.yaml": "deploy/compose/rotator.yaml",
        "deploy/compose/console.yaml": "deploy/compose/console.yaml",
        "deploy/postgresql/journal-role.sql": "deploy/postgresql/journal-role.sql",
        "deploy/postgresql/console-role.sql": "deploy/postgresql/console-role.sql",
    },
    "lambda": {
        "deploy/lambda/template.yaml": "template.yaml",
        "deploy/lambda/terraform/main.tf": "terraform/main.tf",
    },
}
# Pages that are not under docs/.
_ROOT_PAGES: Final = {"readme": "README.md", "security": "SECURITY.md", "changelog": "CHANGELOG.md"}


def topics() -> dict[str, str]:
    """Return each topic of the documentation with its title, sorted by topic."""
    return {name: _title(file) for name, file in sorted(_pages().items())}


def page(topic: str) -> str:
    """Return the Markdown text of a page.

    Raises `UsageError` when there is no such topic.
    """
    pages = _pages()
    file = pages.get(topic.lower().removesuffix(".md").rpartition("/")[2])
    if file is None:
        raise UsageError(f"there is no topic `{topic}`.", hint="`rotator docs` lists all topics.")
    return file.read_text("utf-8")


def write_deployment(kind: str, folder: Path) -> list[Path]:
    """Write the files of one of `DEPLOYMENTS` below `folder`; return them.

    Raises `UsageError` when there is no such kind, or when one of the files exists: then nothing
    is written.
    """
    wanted = DEPLOYMENTS.get(kind)
    if wanted is None:
        raise UsageError(
            f"there is no deployment `{kind}`.", hint=f"Known: {', '.join(DEPLOYMENTS)}."
        )
    texts = {
        folder / name: (_root() / source).read_text("utf-8") for source, name in wanted.items()
    }
    for file in texts:
        if file.exists():
            raise UsageError(f"{file} exists already.", hint="Choose another folder.")
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        _ = file.write_text(text, "utf-8")
    return list(texts)


def _pages() -> dict[str, Path]:
    root = _root()
    pages = {file.stem: file for file in (root / "docs").rglob("*.md")}
    return pages | {name: root / file for name, file in _ROOT_PAGES.items()}


def _title(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        return opened.readline().removeprefix("#").strip()


def _root() -> Path:
    """Return the folder that holds docs/ and deploy/: in the wheel, else that of the checkout."""
    package = Path(str(files("rotator")))
    inside = package / "data"
    return inside if inside.is_dir() else package.parent
