"""One module for each command. Each has `app`, a `typer.Typer` with its commands."""
