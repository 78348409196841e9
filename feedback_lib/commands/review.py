"""``feedback review``: patterns over what was captured."""

from __future__ import annotations

import click


@click.command("review")
def review() -> None:
    """Show patterns over what was captured, and suggest roadmap items."""
