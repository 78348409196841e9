"""A week of p99 and error ratio of several services from a real Prometheus: our time beside the bare exchange.

``python -m benchmarks.prometheus [--services N] [--days N] [--rounds N] --json`` prints one JSON object per result.
The bare exchange sends the same requests and throws the bytes away unread, once packed and once as they are. The ways
take turns, so that what else the machine does meets all of them; ``ratio`` is the median over the rounds of our time
to the bare exchange's in the same round. Prometheus and promtool are needed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from feedback_lib.metrics.prometheus import Prometheus

END = dt.datetime(2026, 11, 16, tzinfo=dt.UTC)
STEP_S = 60
EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
QUERIES = {
    "p99": 'histogram_quantile(0.99, sum by (le) (rate(http_seconds_bucket{{service="{service}"}}[5m])))',
    "error ratio": 'sum(rate(http_requests_total{{service="{service}",code="500"}}[5m]))'
    ' / sum(rate(http_requests_total{{service="{service}"}}[5m]))',
}


def samples(services: list[str], days: int) -> Iterator[str]:
    """OpenMetrics lines: requests by status, and their durations in Prometheus' default buckets."""
    draw = random.Random(42)
    first = int(END.timestamp()) - days * 86_400 - 600
    times = range(first, int(END.timestamp()) + 1, STEP_S)
    spread = {s: [[draw.randint(0, 40) for _ in EDGES] for _ in times] for s in services}
    yield "# TYPE http_requests counter"
    for service in services:
        for code, one_in in (("200", 1), ("500", 200)):
            total = 0
            for at, counts in zip(times, spread[service], strict=True):
                total += sum(counts) // one_in
                yield f'http_requests_total{{code="{code}",service="{service}"}} {total} {at}'
    yield "# TYPE http_seconds histogram"
    for service in services:
        totals = [0] * len(EDGES)
        rows = []
        for counts in spread[service]:
            below = 0
            for n, count in enumerate(counts):
                below += count
                totals[n] += below
            rows.append(tuple(totals))
        for n, edge in enumerate(EDGES):
            name = f'http_seconds_bucket{{le="{"+Inf" if edge == math.inf else edge}",service="{service}"}}'
            for at, row in zip(times, rows, strict=True):
                yield f"{name} {row[n]} {at}"


def bare(url: str, asked: list[dict[str, object]], encoding: str) -> tuple[float, int]:
    """Seconds and bytes of the exchange alone."""
    with httpx.Client(headers={"Accept-Encoding": encoding}, timeout=60) as client:
        client.get(f"{url}/-/ready")  # a connection, as ours has one
        began, size = time.perf_counter(), 0
        for form in asked:
            with client.stream("POST", f"{url}/api/v1/query_range", data=form) as answer:
                answer.raise_for_status()
                size += sum(len(part) for part in answer.iter_raw())
        return time.perf_counter() - began, size


def ours(backend: Prometheus, asked: list[dict[str, object]], days: int) -> tuple[float, int]:
    """Seconds and rows of the same through the backend."""
    backend.now("vector(1)", END)
    began, rows = time.perf_counter(), 0
    for form in asked:
        rows += backend.between(str(form["query"]), END - dt.timedelta(days=days), END, STEP_S).frame.height
    return time.perf_counter() - began, rows


def main() -> None:
    """Write the samples, start a Prometheus over them and take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=5)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object per line (also the default)")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import prometheus_server

    services = [f"svc{n}" for n in range(args.services)]
    start = int((END - dt.timedelta(days=args.days)).timestamp())
    asked: list[dict[str, object]] = [
        {"query": query.format(service=s), "start": start, "end": int(END.timestamp()), "step": STEP_S}
        for s in services
        for query in QUERIES.values()
    ]
    with tempfile.TemporaryDirectory() as temporary:
        tsdb = prometheus_server.backfill(Path(temporary), "\n".join(samples(services, args.days)))
        with prometheus_server.Prometheus(tsdb) as server:
            backend = Prometheus(url=server.url)
            ways: dict[str, Callable[[], tuple[float, int]]] = {
                "bare exchange": lambda: bare(server.url, asked, "identity"),
                "bare exchange, packed": lambda: bare(server.url, asked, "gzip"),
                "between (ours)": lambda: ours(backend, asked, args.days),
            }
            for way in ways.values():
                way()  # Prometheus reads the block for the first time
            taken: dict[str, list[float]] = {name: [] for name in ways}
            sizes: dict[str, int] = {}
            for turn in range(args.rounds):
                for name in list(ways)[turn % 3 :] + list(ways)[: turn % 3]:
                    seconds, sizes[name] = ways[name]()
                    taken[name].append(seconds)
    for name, found in taken.items():
        ratio = statistics.median(a / b for a, b in zip(found, taken["bare exchange"], strict=True))
        size = {"rows" if name.endswith("(ours)") else "bytes": sizes[name]}
        result = {"benchmark": "prometheus", "what": name, "queries": len(asked), "days": args.days, **size}
        print(json.dumps({**result, "wall_s": round(statistics.median(found), 3), "ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
