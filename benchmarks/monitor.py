"""The production monitor under stress: kills, a second daemon, and a day of ticks.

``python -m benchmarks.monitor [--kills N] [--hours N] [--json]``. On the bundled sample world, with a clock that runs
fast. ``kills``: two daemons watch one spec over the days of its planted outage while one of them is ended by
SIGKILL N times at random moments and started again; a webhook on this machine counts what it is told. ``memory``: one
monitor ticks through N simulated hours, a minute apart, 1-minute slices; resident memory after the first hour and at
the end. One JSON object per part.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from feedback_lib import sample, watch

SPEC = "spec-reg-002"  # an outage is planted in it, on 12 November
START = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
DAYS = 6
SECONDS = 60.0  # they pass in so many


def clock(began: float, speed: float) -> dt.datetime:
    """The simulated time, the same in every process."""
    return START + dt.timedelta(seconds=(time.time() - began) * speed)


def worker(root: str, began: float, speed: float) -> None:
    """A daemon with a fast clock, until it is ended."""
    watch.run(SPEC, root, interval_s=0.05, port=0, stop=threading.Event(), clock=lambda: clock(began, speed))


class Receiver(http.server.BaseHTTPRequestHandler):
    """Counts messages by their idempotency key."""

    told: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        """Take a message."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.told[self.headers["Idempotency-Key"]] += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def kills(count: int) -> dict[str, object]:
    """Two daemons, one killed again and again; every event is to be told once."""
    speed = DAYS * 86_400 / SECONDS
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as root:
        sample.generate(Path(root), seed=42)
        config = Path(root) / "specs" / SPEC / "observability.yaml"
        told = f"alerts:\n  - kind: incident_file\n  - kind: webhook\n    url: http://127.0.0.1:{server.server_port}/\n"
        config.write_text(config.read_text("utf-8").partition("alerts:")[0] + told, "utf-8")
        began = time.time()

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.monitor", "--worker", root, str(began), str(speed)],
                stderr=subprocess.DEVNULL,
            )

        steady, victim = start(), start()
        chance = random.Random(42)
        for _ in range(count):
            time.sleep(chance.uniform(0.8, 2 * (SECONDS + 5) / count - 0.8) if count else 0)
            victim.kill()
            victim.wait()
            victim = start()
        time.sleep(max(0.0, began + SECONDS + 5 - time.time()))
        for process in (steady, victim):
            process.kill()
            process.wait()
        events = [
            f"{alert['fingerprint']}-{step['sequence']}"
            for path in Path(root).rglob("alerts/*.json")
            for alert in [json.loads(path.read_text("utf-8"))]
            for step in alert["history"]
        ]
        alone = _alone(root)
    server.shutdown()
    server.server_close()
    return {
        "part": "kills",
        "kills": count,
        "events_of_one_undisturbed_monitor": len(alone),
        "events": len(events),
        "lost": len(set(alone) - set(Receiver.told)),
        "invented": len(set(Receiver.told) - set(alone)),
        "sent_twice": sum(n - 1 for n in Receiver.told.values()),
    }


def _alone(root: str) -> list[str]:
    """The events one monitor makes that nobody disturbs."""
    from feedback_lib import specs
    from feedback_lib.ledger import Ledger
    from feedback_lib.monitor import Monitor

    ledger = Ledger(Path(root) / "alone.sqlite")
    watcher = Monitor(specs.load(SPEC, root), ledger, dry_run=True)
    for now in (START, START + dt.timedelta(days=DAYS)):
        watcher.tick(now)
    found = [f"{e['fingerprint']}-{e['sequence']}" for e in ledger.events()]
    ledger.close()
    return found


def memory(hours: int) -> dict[str, object]:
    """Resident memory over simulated hours of one-minute ticks."""
    with tempfile.TemporaryDirectory() as root:
        sample.generate(Path(root), seed=42)
        config = Path(root) / "specs" / SPEC / "observability.yaml"
        config.write_text(config.read_text("utf-8").replace("slice: 5m", "slice: 1m"), "utf-8")
        moments = _minutes(START, hours)
        seen: list[float] = []
        began = time.process_time()
        own = watch.run(
            SPEC,
            root,
            interval_s=1e-6,
            port=0,
            stop=threading.Event(),
            clock=lambda: next(moments),
            tell=lambda _: seen.append(resident_mb()),
            ticks=hours * 60,
        )
        cpu_s = time.process_time() - began
    return {
        "part": "memory",
        "ticks": own.evaluations,
        "slos": len(own.last.slos) if own.last else 0,
        "mb_after_first_hour": round(seen[59], 1),
        "mb_at_end": round(seen[-1], 1),
        "ratio": round(seen[-1] / seen[59], 3),
        "cpu_ms_per_tick": round(1000 * cpu_s / len(seen), 1),
    }


def _minutes(start: dt.datetime, hours: int) -> Iterator[dt.datetime]:
    return (start + dt.timedelta(minutes=n) for n in range(hours * 60))


def resident_mb() -> float:
    """Memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main() -> None:
    """Run both parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        root, began, speed = given.worker
        worker(root, float(began), float(speed))
        return
    for result in (memory(given.hours), kills(given.kills)):
        print(json.dumps(result) if given.json else "\n".join(f"{k}: {v}" for k, v in result.items()) + "\n")


if __name__ == "__main__":
    main()
