"""Is what is captured right? Every workflow of a real log against values computed independently of this package.

python -m benchmarks.workflow_capture [--data FOLDER] [--json]

--data holds workflow_log_union.jsonl and derived_expected_from_log.json [default: orchestrator/ of the reference data].

expected, ours: seconds from the first to the last event, seconds of each phase, items skipped, notes of learnings ·
equal: all of them are, and so is the time of the entry · theirs: what the workflow tool's own rules find in the events
of the same workflow. They take an event's kind from ``type`` and its phase from ``phase`` (the log has ``event_type``
and ``phase_id``), so that no skip, phase or learning is ever counted, and make one entry of a whole log, whose seconds
are those of all its workflows together.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

REFERENCE = Path(
    os.environ.get("FEEDBACK_REFERENCE_DATA") or Path(__file__).parents[1] / "../shared/reference"
).resolve()
LOG, EXPECTED = "workflow_log_union.jsonl", "derived_expected_from_log.json"


def main() -> None:
    """Print a table, or one JSON object per workflow."""
    parser = argparse.ArgumentParser(description="Is what is captured of workflows right?")
    parser.add_argument("--data", type=Path, default=REFERENCE / "orchestrator", help="the log and what is expected")
    parser.add_argument("--json", action="store_true", help="one JSON object per workflow")
    given = parser.parse_args()
    lacking = [name for name in (LOG, EXPECTED) if not (given.data / name).is_file()]
    if lacking:
        sys.exit(f"{given.data} has no {' and no '.join(lacking)}; name a folder that has, with --data.")
    rows = compared(given.data / LOG, json.loads((given.data / EXPECTED).read_text("utf-8")))
    print("\n".join(map(json.dumps, rows)) if given.json else table(rows))


def compared(log: Path, expected: dict[str, Any]) -> list[dict[str, Any]]:
    """What is expected of each workflow of a log, what we capture, and what the workflow tool does."""
    ours = captured(log)
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    rows = []
    for wf in dict.fromkeys([*expected, *ours]):
        told, found = expected.get(wf), ours.get(wf)
        wanted = told and {
            "seconds": int((_time(told["last"]) - _time(told["first"])).total_seconds()),
            "phases": told["phases"],
            "skipped": sorted(told["skipped"]),
            "learnings": told["learnings"],
            "at": _time(told["last"]).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        rows.append(
            {
                "benchmark": "workflow_capture",
                "workflow": wf,
                "expected": wanted,
                "ours": found,
                "equal": wanted == found,
                "theirs": theirs([e for e in events if e["workflow_id"] == wf], events),
            }
        )
    return rows


def captured(log: Path) -> dict[str, dict[str, Any]]:
    """What our capture writes, read back from its files, by workflow; items and phases are the tool's own here."""
    from feedback_lib.workflows import entries, ids, settings
    from feedback_lib.workflows.capture import capture

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FEEDBACK_CONFIG"] = (
            f"{scratch}/config"  # a salt of its own: the machine's settings stay as they are
        )
        folder = Path(scratch, "project")
        folder.mkdir()
        shutil.copyfile(log, folder / ".workflow_log.jsonl")
        capture(folder)
        salt = settings.salt()
        held = entries.Files(folder).read(salt)
    tools = {entry.workflow_id_hash: entry for entry in held.tool}
    found = {}
    for process in held.process:
        tool = tools[ids.hashed(salt, process.workflow_id)]
        found[process.workflow_id] = {
            "seconds": tool.duration_seconds,
            "phases": dict(tool.phases),
            "skipped": sorted(tool.items_skipped),
            "learnings": int(bool(process.learnings)),
            "at": tool.timestamp,
        }
    return found


def theirs(events: list[dict[str, Any]], log: list[dict[str, Any]]) -> dict[str, Any]:
    """What the workflow tool's rules give; see above."""
    kinds = [(event.get("type"), event) for event in events]
    times = [_time(event["timestamp"]) for event in log]
    return {
        "seconds": int((times[-1] - times[0]).total_seconds()),
        "phases": sum(kind == "phase_completed" for kind, _ in kinds),
        "skipped": sum(kind == "item_skipped" for kind, _ in kinds),
        "learnings": sum(kind == "item_completed" and e["item_id"] == "document_learnings" for kind, e in kinds),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The same as Markdown: expected / ours, and theirs."""
    lines = [
        "| workflow | seconds | phases | skipped | learnings | equal "
        "| theirs: seconds | phases | skipped | learnings |",
        "| --- | --: | --: | --: | --: | --- | --: | --: | --: | --: |",
    ]
    for row in rows:
        pair = [row["expected"] or {}, row["ours"] or {}]
        seconds = " / ".join(f"{one.get('seconds', '–'):,}" if one else "–" for one in pair)
        sizes = [" / ".join(str(len(one[k])) if one else "–" for one in pair) for k in ("phases", "skipped")]
        notes = " / ".join(str(one["learnings"]) if one else "–" for one in pair)
        other = row["theirs"]
        cells = [
            row["workflow"], seconds, *sizes, notes, "yes" if row["equal"] else "NO", f"{other['seconds']:,}",
            *(str(other[k]) for k in ("phases", "skipped", "learnings")),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    whole = [sum(len((row[who] or {}).get("skipped", ())) for row in rows) for who in ("expected", "ours")]
    equal, none = sum(row["equal"] for row in rows), sum(row["theirs"]["skipped"] for row in rows)
    lines += [
        "",
        f"{equal} of {len(rows)} equal in every value (seconds of each phase and ids of each skipped item, too). "
        f"Skips: {whole[0]} expected, {whole[1]} ours, {none} theirs.",
    ]
    return "\n".join(lines)


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


if __name__ == "__main__":
    main()
