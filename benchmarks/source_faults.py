"""Every live source against every fault of its service: what arrived, and what it cost in requests.

``python -m benchmarks.source_faults [--kinds …] [--json]``. The services are those of ``tests/fake_services``. Without
``--json`` a table in Markdown, a row per fault and a column per source: the requests made more than by a reading
without the fault, "then next run" where the reading ended in an error that said what is missing and the next run had
it all, "–" where the service knows no such thing, and "LOST" if something was. With ``--json`` one object per source
and fault; ``repeated`` counts items that were given twice, which the store knows by their id.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import fake_services as fakes


def measured(kind: str, name: str | None) -> dict[str, Any]:
    """One reading of one service with one fault, and the next where it ended in an error."""
    fault = fakes.FAULTS[name]() if name else None
    with fakes.patient(), fakes.service(kind)(fault=fault) as there:
        source = there.source()
        done = fakes.read(source)
        error = str(done.error) if done.error else None
        if error and fault:
            fault.left = 0
            done = fakes.read(source, done)
        expected = there.expected()
        found = done.ids()
        return {
            "source": kind,
            "fault": name,
            "happened": fault.done if fault else 0,
            "expected": len(expected),
            "lost": sum(found.get(i) != at for i, at in expected.items()),
            "repeated": sum(times - 1 for times in done.versions.values()),
            "requests": len(there.requests),
            "error": error,
            "error_after": str(done.error) if done.error else None,
        }


def run(kinds: list[str]) -> Iterator[dict[str, Any]]:
    """Every fault for every source, and a reading without one before them."""
    os.environ["FAKE_TOKEN"] = fakes.TOKEN
    for kind in kinds:
        quiet = measured(kind, None)["requests"]
        for name in fakes.FAULTS:
            found = measured(kind, name)
            yield {**found, "requests_more": found["requests"] - quiet}


def cell(found: dict[str, Any]) -> str:
    """What the table says of one reading."""
    if not found["happened"]:
        return "–"
    if found["lost"] or found["error_after"]:
        return "LOST"
    return "then next run" if found["error"] else f"+{max(0, found['requests_more'])}"


def main() -> None:
    """Print the table or the objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=fakes.kinds(), choices=fakes.kinds())
    parser.add_argument("--json", action="store_true", help="one JSON object per source and fault")
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # every wait for a limit is one
    try:
        results = list(run(given.kinds))
    finally:
        logging.disable(logging.NOTSET)
    if given.json:
        for found in results:
            print(json.dumps(found))
        return
    print(f"| fault | {' | '.join(given.kinds)} |\n| --- |{' --: |' * len(given.kinds)}")
    for name in fakes.FAULTS:
        of = {found["source"]: found for found in results if found["fault"] == name}
        print(f"| {name} | {' | '.join(cell(of[kind]) for kind in given.kinds)} |")


if __name__ == "__main__":
    main()
