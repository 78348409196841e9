"""``feedback sync``: tool feedback leaves, if its owner agreed."""

from __future__ import annotations

import click


@click.command("sync")
def sync() -> None:
    """Send tool feedback to the tool's maintainers, if feedback_sync is true."""


@click.command("config")
def config_() -> None:
    """Settings of this installation."""
