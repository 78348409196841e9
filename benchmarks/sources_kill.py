"""A load of 100,000 items that is killed again and again: what is lost, what is doubled, what is asked for twice.

``python -m benchmarks.sources_kill [--items N] [--kills N] [--seed N] [--json]``. The server of ``benchmarks.sources``
serves the items; a process reads them into a store and is killed (``kill -9``) at random moments of what is left to
read, then started again; the last one may finish. One JSON object: items lost and doubled in the archive and among the
signals, items the last process read, and the day up to which the store stood after each kill.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import sources
from feedback_lib.store import Store


def reader(url: str, folder: Path) -> subprocess.Popen[str]:
    """A process that reads the service into the store."""
    command = [sys.executable, "-m", "benchmarks.sources", "--way", "ours", "--url", url, "--folder", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def whole(url: str, folder: Path) -> tuple[float, float]:
    """Seconds until the first items are stored and until the end, of a reading that nobody kills."""
    began = time.monotonic()
    first = 0.0
    with reader(url, folder) as process:
        while process.poll() is None:
            first = first or (time.monotonic() - began if (folder / "store" / "signals").exists() else 0.0)
            time.sleep(0.01)
        assert not process.returncode, process.stderr and process.stderr.read()
    return first, time.monotonic() - began


def run(count: int, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill it, start it again, and count."""
    rng = random.Random(seed)
    places: list[str | None] = []
    with sources.server(count) as url:
        first, end = whole(url, folder / "quiet")
        left = end - first
        for kill in range(kills):
            with reader(url, folder / "killed") as process:
                # past its start, and a random share of what is left for each of the kills to come
                time.sleep(first * rng.uniform(0.5, 1.0) + left / (kills - kill) * rng.uniform(0.2, 1.4))
                process.send_signal(signal.SIGKILL)
            mark = Store(folder / "killed" / "store").watermark(f"github:{sources.REPO}")
            places.append(f"{mark:%Y-%m-%d}" if mark else None)
            done = (mark - sources.BEGIN) / sources.EACH / count if mark else 0.0
            left = (end - first) * (1 - done)
        with reader(url, folder / "killed") as process:
            told, problem = process.communicate()
            assert not process.returncode, problem
    store, expected = Store(folder / "killed" / "store"), {str(n + 1) for n in range(count)}
    found: dict[str, Any] = {"items": count, "kills": kills, "read_by_last": json.loads(told.splitlines()[-1])["items"]}
    for table in ("raw", "signals"):
        ids = store.read(table)["native_id"]
        found |= {f"{table}_lost": len(expected - set(ids)), f"{table}_doubled": len(ids) - ids.n_unique()}
    return {**found, "seconds_unkilled": round(end, 1), "stood_at": places}


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="accepted for symmetry; the output is always JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(given.items, given.kills, given.seed, Path(folder))))


if __name__ == "__main__":
    main()
