"""What the commands share: options, progress, and how results are printed. One module per group of commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

PARAMS = click.option(
    "--params", "-f", default="params/weekly.yaml", show_default=True, help="The params file of the run."
)
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the params file.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
SPEC = click.option("--spec-id", required=True, metavar="ID", help="The spec, such as spec-core-001.")
FOLDER = click.option(
    "-d",
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    metavar="FOLDER",
    help="The folder the workflow tool works in.",
)
ROOT = click.option("--root", default=".", show_default=True, help="The project's folder: holds specs/ and .spec/.")


def leave(status: str) -> None:
    """Exit with 1 unless the status is ``ok``."""
    if status != "ok":
        raise click.exceptions.Exit(1)


def progress(obj: Mapping[str, bool]) -> Callable[[str], None]:
    """One line per step; what begins with "…" is passing and shown on a terminal only, in one line that changes."""
    passing = sys.stderr.isatty()

    def show(line: str) -> None:
        if obj["quiet"] or (line.startswith("…") and not passing):
            return
        click.echo(f"\r\x1b[K{line}" if passing else line, err=True, nl=not line.startswith("…"))

    return show


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print rows as a table of the named columns, or as JSON with all of them."""
    rows = list(rows)
    if as_json:
        print_json([dict(r) for r in rows])
        return
    if not rows:
        click.echo("Nothing yet.")
        return
    cells = [[_cell(r.get(c)) for c in columns] for r in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    for line in [list(columns), *cells]:
        click.echo("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
