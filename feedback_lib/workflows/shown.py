"""What the notebook ``workflow_review`` shows: the workflows of a folder as frames, and the words between the charts.

Reading only: nothing is captured, written or sent.
"""

from __future__ import annotations

import collections
import dataclasses
import html as markup
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from feedback_lib import orchestrator, privacy
from feedback_lib.analysis.patterns import USUAL, counted, many, percent, reaches, shortened
from feedback_lib.errors import ConfigError, nearest
from feedback_lib.records import Rejected
from feedback_lib.workflows.entries import Files

if TYPE_CHECKING:
    import polars as pl

PART = Literal["head", "reasons", "errors", "trust"]
PARTS: tuple[PART, ...] = ("head", "reasons", "errors", "trust")
REASONS = 3  # of an item, the ones given most
ITEMS = 12
IDS = 8
UNREAD = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A folder's workflows as frames, see `analysis.workflow_frames`; ``versions`` are of the captured entries."""

    where: str
    synthetic: bool
    found: orchestrator.Found
    captured: int
    rejected: tuple[Rejected, ...]
    workflows: pl.DataFrame
    steps: pl.DataFrame
    skips: pl.DataFrame
    spent: pl.DataFrame
    phases: pl.DataFrame
    errors: pl.DataFrame
    repeated: pl.DataFrame
    versions: pl.DataFrame


def open(folder: str | Path = "") -> Shown:
    """Read a folder's log, states and tool entries; "" is the bundled sample.

    Raises:
        ConfigError: there is no such folder, or a file in it cannot be read.
    """
    if folder:
        return _read(Path(folder).expanduser(), synthetic=False)
    from feedback_lib.workflows import sample

    with tempfile.TemporaryDirectory() as made:
        return _read(sample.write(Path(made)), synthetic=True)


def _read(folder: Path, *, synthetic: bool) -> Shown:
    from feedback_lib.analysis import workflow_frames as frames

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name the one the workflow tool works in as the parameter folder.")
    found = orchestrator.read(folder)
    entries = Files(folder).read(os.urandom(32))  # ids are only told apart, so that no secret salt is made by looking
    order = orchestrator.default_items()
    spent, errors = frames.spent(found.workflows), frames.errors(found.workflows, _clean)
    return Shown(
        where="the bundled sample" if synthetic else str(folder if folder.name.strip(".") else folder.resolve()),
        synthetic=synthetic,
        found=found,
        captured=len(entries.tool),
        rejected=(*found.rejected, *entries.rejected),
        workflows=frames.workflows(found.workflows),
        steps=frames.steps(found.workflows),
        skips=frames.skips(found.workflows, order),
        spent=spent,
        phases=frames.phases(spent, list(order)),
        errors=errors,
        repeated=frames.repeated(errors, len(found.workflows)),
        versions=frames.versions(entries.tool),
    )


def html(part: PART, shown: Shown) -> str:
    """One part of the page as HTML.

    Args:
        part: ``head`` what was read; ``reasons`` why items were skipped; ``errors`` where and in which workflows;
            ``trust`` what could not be read, and how numbers are made.
        shown: as `open` gives it.

    Raises:
        ValueError: there is no such part; says the nearest.
    """
    if part not in PARTS:
        raise ValueError(f"no part named {part!r}; {nearest(part, list(PARTS))}")
    return {"head": _head, "reasons": _reasons, "errors": _errors, "trust": _trust}[part](shown)


def _head(shown: Shown) -> str:
    from feedback_lib.analysis import workflow_frames as frames

    said = '<p class="mark">Synthetic: these workflows are invented.</p>' if shown.synthetic else ""
    found = shown.found.workflows
    if not found:
        where = markup.escape(shown.where)
        return f"{said}<p>No workflow in {where}: it has no log and no state of the workflow tool.</p>"
    first, last = min(w.started_at for w in found), max(w.last_at for w in found)
    states = collections.Counter[str](w.status for w in found)
    names = (("completed", "completed"), ("abandoned", "abandoned"), ("active", "not ended"))
    ended = ", ".join(f"{states[status]} {name}" for status, name in names if states[status])
    enough = len(found) >= USUAL.least_workflows
    often = sum(
        enough and reaches(n, of, USUAL.skip_share) for n, of in shown.skips.select("skipped", "of").iter_rows()
    )
    verdict = f"{many(often, 'item')} skipped in {percent(USUAL.skip_share)} of the workflows or more"
    grown = shown.phases.filter(shown.phases["low"] > 1)["phase"].to_list()
    verdict += f"; {' and '.join(grown)} {'take' if len(grown) > 1 else 'takes'} longer than before" if grown else ""
    verdict += f"; {many(shown.repeated.height, 'error')} came back"
    days = f"{first.day} {first:%b %Y} to {last.day} {last:%b %Y}"
    drawn = f" The pictures draw the newest {frames.DRAWN}; numbers are of all." if len(found) > frames.DRAWN else ""
    return (
        f'{said}<p class="dim">{many(len(found))} in {markup.escape(shown.where)}, {days}: {ended}.{drawn}</p>'
        f'<p class="verdict">{markup.escape(verdict)}.</p>'
    )


def _reasons(shown: Shown) -> str:
    import polars as pl

    most = shown.skips.filter(pl.col("skipped") > 0).sort("share", descending=True, maintain_order=True).head(ITEMS)
    rows = []
    for row in most.iter_rows(named=True):
        these = (pl.col("phase") == row["phase"]) & (pl.col("item") == row["item"]) & (pl.col("outcome") == "skipped")
        texts = shown.steps.filter(these)["reason"].to_list()
        given = collections.Counter(shortened(_clean(t or ""), 160) or "no reason given" for t in texts)
        said = [f"{text}{f' ({times} times)' if times > 1 else ''}" for text, times in given.most_common(REASONS)]
        said += [f"and {len(given) - REASONS} more" for _ in range(len(given) > REASONS)]
        rows.append((f"{row['phase']} / {row['item']}", counted(row["skipped"], row["of"]), said))
    return _table(("item", "skipped in", "because"), rows) if rows else "<p>No item was skipped.</p>"


def _errors(shown: Shown) -> str:
    rows = []
    for row in shown.repeated.iter_rows(named=True):
        ids = row["ids"][:IDS] + [f"and {len(row['ids']) - IDS} more"][: len(row["ids"]) > IDS]
        between = f"{row['first']:%Y-%m-%d} to {row['last']:%Y-%m-%d}"
        origin = "tool" if row["by_tool"] else "project"
        rows.append((row["title"], origin, counted(row["workflows"], row["of"]), between, [", ".join(ids)]))
    if not rows:
        return "<p>No error came back.</p>"
    return _table(("error", "of the", "in", "from, to", "workflows"), rows)


def _trust(shown: Shown) -> str:
    told = (
        "A share counts workflows: skipped or not, however often, out of all that were found. A phase's later half of "
        "workflows is compared with its earlier half; the interval is that of the ratio of durations, supposes no "
        "distribution, and holds at 95 % for all phases together. Versions are those of captured entries: "
        f"{shown.captured} of them here. Shares of workflows have Wilson's interval, medians that of the sign test, "
        "which needs six workflows. Intervals that overlap prove no difference."
    )
    files = ", ".join(shown.found.files[:UNREAD]) or "none"
    said = f'<p>{told}</p><p class="dim">Files read: {markup.escape(files)}.</p>'
    if not shown.rejected:
        return f"{said}<p>Every line could be read.</p>"
    rows = [(r.where, r.reason) for r in shown.rejected[:UNREAD]]
    more = len(shown.rejected) - UNREAD
    rest = f"<p>And {more} more.</p>" if more > 0 else ""
    return f"{said}<h3>Could not be read</h3>{_table(('where', 'why'), rows)}{rest}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str | Sequence[str]]]) -> str:
    top = "".join(f"<th>{markup.escape(h)}</th>" for h in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: str | Sequence[str]) -> str:
    return markup.escape(value) if isinstance(value, str) else "<br>".join(markup.escape(one) for one in value)


def _clean(text: str) -> str:
    return shortened(privacy.redact(text), 200)
