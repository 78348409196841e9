"""Judging many SLOs at one moment: seconds and peak memory, ours beside hand-written Polars queries of the same sums.

``python -m benchmarks.slo [--slos N] [--days N] [--data FILE] [--json]``. Without ``--data``, N SLOs with one-minute
points are made up and written as Parquet, sorted by service, sli and time, one row group per SLO, into a temporary
folder; FILE is a Parquet file (or pattern) of measurements with service, sli, at_us, good, valid and value. Ours is
`slo.evaluate` (the SLO window) and `slo.burns` (the usual alert windows, 99.9 % over 30 d); ``polars`` only sums good
and valid of all those windows, one query per window, and ``least`` only of the SLO window; neither decides anything.
All read lazily with the streaming engine, each in a process of its own, in turn; the better of two runs counts. One
JSON object per way, with our seconds and memory over its.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import narwhals as nw
import numpy as np
import polars as pl

from feedback_lib.analysis import slo

MINUTE_US = 60_000_000
END_US = 1_795_176_000_000_000  # 2026-11-20 12:00 UTC
BATCH = 50  # SLOs per file
WAYS = ("ours", "polars", "least")
RUNS = 2


def made_up(first: int, count: int, points: int) -> pl.DataFrame:
    """Measurements of ``count`` SLOs from number ``first``, five to a service."""
    rng = np.random.default_rng(first)
    number = np.repeat(np.arange(first, first + count), points)
    valid = rng.poisson(1000, count * points).astype(np.float64)
    bad = rng.binomial(valid.astype(np.int64), 0.0008).astype(np.float64)
    at_us = np.tile(END_US - MINUTE_US * np.arange(points - 1, -1, -1), count)
    frame = pl.DataFrame({"number": number, "at_us": at_us, "good": valid - bad, "valid": valid})
    return frame.select(
        pl.format("service-{}", (pl.col("number") // 5).cast(pl.String).str.zfill(5)).alias("service"),
        pl.format("sli_{}", pl.col("number") % 5).alias("sli"),
        "at_us",
        "good",
        "valid",
        (pl.col("good") / pl.col("valid")).alias("value"),
    )


def write(folder: Path, slos: int, days: int) -> None:
    """The made-up measurements, one file per batch."""
    points = days * 1440
    for first in range(0, slos, BATCH):
        frame = made_up(first, min(BATCH, slos - first), points)
        frame.write_parquet(folder / f"{first:06}.parquet", row_group_size=points)


def names(data: str) -> list[tuple[str, str]]:
    """The SLOs of the measurements."""
    return sorted(pl.scan_parquet(data).select("service", "sli").unique().collect(engine="streaming").rows())


def ours(data: str, slos: list[slo.Slo], as_of: dt.datetime) -> dict[str, object]:
    """Everything about every SLO: its window and its alert windows."""
    measurements = nw.from_native(pl.scan_parquet(data))
    stands = slo.evaluate(measurements, slos, as_of).collect(engine="streaming").to_polars()
    burns = slo.burns(measurements, slos, as_of).collect(engine="streaming").to_polars()
    decisions = burns["decision"].value_counts().sort("decision").rows()
    return {
        "rows": int(stands["slices"].sum()),
        "valid": stands["valid"].sum(),
        "bad": stands["bad"].sum(),
        "decisions": dict(decisions),
    }


def polars(data: str, slos: list[slo.Slo], as_of: dt.datetime, *, least: bool = False) -> dict[str, object]:
    """The sums of every window, one query per window, all at once; or of the SLO window only."""
    rows = pl.scan_parquet(data)
    end_us = int(as_of.timestamp()) * 1_000_000
    lengths = {slos[0].window_s}
    if not least:
        lengths |= {seconds for a in slos[0].alerts for seconds in (a.long_s, a.short_s)}
    queries = [
        rows.filter(pl.col("at_us") > end_us - length * 1_000_000, pl.col("at_us") <= end_us)
        .group_by("service", "sli")
        .agg(pl.col("good").sum(), pl.col("valid").sum(), pl.len())
        for length in sorted(lengths, reverse=True)
    ]
    whole, *_ = pl.collect_all(queries, engine="streaming")
    good, valid = whole["good"].sum(), whole["valid"].sum()
    return {"rows": int(whole["len"].sum()), "valid": valid, "bad": valid - good}


def peak_mb() -> int:
    """Most memory this process ever held; ``ru_maxrss`` would hold the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def measure(way: str, data: str) -> dict[str, object]:
    """Run one way in this process."""
    slos = [slo.Slo(service=s, sli=i, target="99.9%", method="occurrences") for s, i in names(data)]
    end_us = pl.scan_parquet(data).select(pl.col("at_us").max()).collect(engine="streaming").item()
    as_of = dt.datetime.fromtimestamp(end_us // 1_000_000, dt.UTC)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = ours(data, slos, as_of) if way == "ours" else polars(data, slos, as_of, least=way == "least")
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = {"wall_s": round(seconds, 2), "cpu_s": round(cpu_s, 2), "peak_mb": peak_mb()}
    return {"benchmark": "slo", "what": way, "slos": len(slos), **took, **found}


def main() -> None:
    """Write once, then run each way in turn in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slos", type=int, default=1000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--data", help="Parquet file or pattern of measurements")
    parser.add_argument("--json", action="store_true", help="one JSON object per line (also the default)")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "DATA"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or f"{folder}/*.parquet"
        if not args.data:
            write(Path(folder), args.slos, args.days)
        best: dict[str, dict[str, object]] = {}
        for way in WAYS * RUNS:
            command = [sys.executable, "-m", "benchmarks.slo", "--measure", way, data]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            best[way] = min(best.get(way, found), found, key=lambda run: run["wall_s"])
        for way in WAYS:
            for name in ("wall_s", "cpu_s", "peak_mb"):
                ratio = float(str(best["ours"][name])) / max(float(str(best[way][name])), 0.01)
                best[way][f"ours_{name}_ratio"] = round(ratio, 2)
            print(json.dumps(best[way]), flush=True)


if __name__ == "__main__":
    main()
