"""The collector under load, on loopback.

``python -m benchmarks.collector [--senders N] [--seconds N] [--entries N] [--json]``. N senders, each an installation
of its own on a connection of its own, send requests of so many entries as fast as they are answered; every fifth
request is sent again with the same bytes. Prints one JSON object: requests and entries a second, latencies, answers
other than 200, the share of entries sent again that the collector knew, the server's greatest memory, and how many
entries were acknowledged and are held.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

AGAIN = 5  # every fifth request is sent twice


def digits(text: str) -> str:
    """An id as it stands on the wire."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def payload(sender: int, number: int, entries: int) -> bytes:
    """A request of one installation, with workflows that nobody else sends."""
    rows = [
        {
            "timestamp": f"2026-01-{number % 28 + 1:02}",
            "workflow_id_hash": digits(f"{sender} {number} {at}"),
            "orchestrator_version": "2.6.0",
            "repo_type": "python",
            "duration_seconds": 1200,
            "phases": {"PLAN": 300, "EXECUTE": 600, "REVIEW": 180, "VERIFY": 90, "LEARN": 30},
            "phase0_guidance_used": True,
            "reviews_worked": True,
            "orchestrator_errors": ["orchestrator prd spawn: command not found"],
            "items_skipped": ["visual_regression_test", "update_knowledge_base", "custom:0123abcd"],
            "items_skipped_pct": 0.15,
            "confusing_items": [],
            "tool_suggestions": "Phase 0 was helpful",
            "mode": "auto",
        }
        for at in range(entries)
    ]
    return json.dumps({"schema": 1, "installation": digits(f"sender {sender}"), "entries": rows}).encode()


class Load:
    """What the senders saw."""

    def __init__(self, url: str, entries: int) -> None:
        self.url, self.entries = url, entries
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.accepted = self.again = self.known = 0

    async def send(self, client: httpx.AsyncClient, content: bytes) -> tuple[int, int]:
        """Accepted and known entries of one request."""
        began = time.perf_counter()
        try:
            told = await client.post(self.url, content=content, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as problem:
            self.statuses[type(problem).__name__] += 1
            return 0, 0
        self.latencies.append(time.perf_counter() - began)
        self.statuses[str(told.status_code)] += 1
        answer = told.json()
        return (answer["accepted"], answer["known"]) if told.status_code == 200 else (0, 0)

    async def sender(self, number: int, until: float) -> None:
        """One installation, until the time is over."""
        async with httpx.AsyncClient(timeout=30) as client:
            for request in itertools.count():
                if time.monotonic() >= until:
                    return
                content = payload(number, request, self.entries)
                accepted, _ = await self.send(client, content)
                self.accepted += accepted
                if accepted and request % AGAIN == 0:
                    more, known = await self.send(client, content)
                    self.accepted += more
                    self.again += self.entries
                    self.known += known

    async def run(self, senders: int, seconds: float) -> None:
        """All senders side by side."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.sender(number, until) for number in range(senders)))


def memory_mb(process: int) -> float:
    """The greatest resident memory of a process so far, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text("utf-8"))
    return round(int(found[1]) / 1000, 1) if found else float("nan")


def main() -> None:
    """Start a collector, load it, print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--senders", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--entries", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object (also the default)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "collected.sqlite"
        command = [Path(sys.executable).parent / "feedback", "collect", "--port", "0", "--data", path]
        command += ["--rate", "1000000000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout
            url = re.search(r"http://\S+/submit", server.stdout.readline())
            assert url, "the collector did not start"
            before = memory_mb(server.pid)
            load = Load(url[0], given.entries)
            began = time.perf_counter()
            asyncio.run(load.run(given.senders, given.seconds))
            took = time.perf_counter() - began
            after = memory_mb(server.pid)
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        with sqlite3.connect(path) as connection:
            held = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
        connection.close()
        size = path.stat().st_size
    ordered = sorted(load.latencies)
    requests = sum(load.statuses.values())
    result = {
        "senders": given.senders,
        "entries_per_request": given.entries,
        "seconds": round(took, 1),
        "requests_per_s": round(requests / took),
        "entries_per_s": round(load.accepted / took),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 1) if ordered else None,
        "p99_ms": round(1000 * ordered[int(len(ordered) * 0.99)], 1) if ordered else None,
        "errors": {status: count for status, count in load.statuses.items() if status != "200"},
        "sent_again_known_ratio": load.known / load.again if load.again else None,
        "acknowledged": load.accepted,
        "held": held,
        "bytes_per_entry": round(size / held) if held else None,
        "memory_mb": {"at_start": before, "greatest": after},
        "exit": server.returncode,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
