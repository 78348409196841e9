"""``feedback capture``: what a workflow tool's own runs say, as entries."""

from __future__ import annotations

import click


@click.command("capture")
def capture() -> None:
    """Capture what the workflows in a folder say about the tool and about the project."""
