"""Write docs/cli.md from every command's --help; with --check, say whether it is stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from feedback_lib.cli import feedback

PAGE = Path(__file__).parent / "cli.md"
HEAD = """# Commands

For everybody who runs the workbench from a terminal or a scheduler. Written by `make docs` from `--help`.
Each command is a thin door to a function of `feedback_lib.pipeline` that a notebook can call too.
"""


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below (and with) this one, by its full name."""
    yield name, command
    for key, sub in sorted(getattr(command, "commands", {}).items()):
        yield from walk(sub, f"{name} {key}")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in walk(feedback, "feedback"):
        with click.Context(command, info_name=name, terminal_width=100, max_content_width=100) as context:
            parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        if not PAGE.exists() or PAGE.read_text("utf-8") != page():
            sys.exit(f"{PAGE.name} is stale: run make docs")
    else:
        PAGE.write_text(page(), "utf-8")
