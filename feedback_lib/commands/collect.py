"""``feedback collect``: the maintainers' side of sync."""

from __future__ import annotations

import click


@click.command("collect")
def collect() -> None:
    """Receive tool feedback from many installations."""
