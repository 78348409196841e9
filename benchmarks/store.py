"""Upserting a batch into the store: CPU seconds and peak memory, ours beside a plain merge by id.

``python -m benchmarks.store [--rows N] [--batch N] [--data FILE] --json`` prints one JSON object per result. FILE is
a Parquet file with the columns of ``records.schema("signals")``; without it, rows are made up. The batch is 80 %
updates of rows of the last three months and 20 % new rows in the last month. Every measurement is a process of its
own, so its peak holds the interpreter and the libraries too.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import DeltaTable

from feedback_lib import records
from feedback_lib.store import Store

CHUNK = 250_000
MONTHS = 24
WORDS = [
    *("the export stays empty after a retry and nobody told us why", "login takes nine seconds on a cold start"),
    *("love the new search", "page two of the guide contradicts the reference", "the build fails with a timeout"),
    *("please let me sort by owner", "works again since the last release, thank you", "which version has the fix"),
]


def made_up(first: int, count: int, months: list[str], moved: dt.timedelta = dt.timedelta(0)) -> pl.DataFrame:
    """``count`` signals numbered from ``first``, spread evenly over ``months`` by number."""
    number = pl.int_range(first, first + count, eager=True)
    rng = np.random.default_rng(first)
    text = pl.Series(WORDS).gather(rng.integers(0, len(WORDS), count))
    month = pl.Series(months).gather(number % len(months))
    created = (month + "-01").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
    rows = pl.DataFrame(
        {
            "kind": pl.repeat("files", count, eager=True),
            "origin": pl.repeat("bench", count, eager=True),
            "native_id": number.cast(pl.String),
            "type": pl.repeat("ticket", count, eager=True),
            "title": text,
            "body": text + " (" + number.cast(pl.String) + ") " + text.reverse() + ". " + text.shuffle(seed=first),
            "author": "anon-" + (number % 50_000).cast(pl.String),
            "created_at": created,
            "updated_at": created + moved,
            "uid": number.hash(seed=1).cast(pl.String) + number.hash(seed=2).cast(pl.String),
            "month": month,
            "run_id": pl.repeat("bench", count, eager=True),
        }
    )
    columns = records.schema("signals")
    return rows.with_columns(pl.lit(None, t).alias(c) for c, t in columns.items() if c not in rows.columns).select(
        list(columns)
    )


def month_names(count: int) -> list[str]:
    """The last ``count`` months up to November 2026."""
    return [f"{(2026 * 12 + 10 - i) // 12}-{(2026 * 12 + 10 - i) % 12 + 1:02}" for i in range(count)][::-1]


def build(folder: Path, rows: int, data: Path | None) -> None:
    """Fill a store."""
    store = Store(folder)
    if data is not None:
        store.append("signals", pl.read_parquet(data))
        return
    for first in range(0, rows, CHUNK):
        store.append("signals", made_up(first, min(CHUNK, rows - first), month_names(MONTHS)))


def make_batch(folder: Path, count: int) -> pl.DataFrame:
    """80 % updates of rows of the last three months, 20 % new rows in the last one."""
    signals = Store(folder).scan("signals").to_native().select(list(records.schema("signals")))
    months = signals.select(pl.col("month").unique()).collect()["month"].sort().to_list()
    recent = signals.filter(pl.col("month").is_in(months[-3:])).collect(engine="streaming")
    old = recent.sample(min(count * 4 // 5, recent.height), seed=42)
    later = pl.col("updated_at") + pl.duration(days=1)
    old = old.with_columns(later.alias("updated_at"), (pl.col("body") + " More: it happened again.").alias("body"))
    return pl.concat([old, made_up(10**9, count - old.height, months[-1:])])


def peak_mb() -> int:
    """Most memory this process ever held; ``ru_maxrss`` would hold the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def measure(what: str, folder: Path, batch: pl.DataFrame) -> dict[str, object]:
    """Run one way of writing the batch in this process."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    if what == "merge by id only (deltalake)":
        merger = DeltaTable(folder / "signals").merge(batch, "s.uid = t.uid", source_alias="s", target_alias="t")
        merger = merger.when_matched_update_all("s.updated_at > t.updated_at").when_not_matched_insert_all()
        done = merger.execute()
        inserted, updated = done["num_target_rows_inserted"], done["num_target_rows_updated"]
    else:
        result = Store(folder).upsert("signals", batch)
        inserted, updated = result.inserted, result.updated
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "benchmark": "store",
        "what": what,
        "inserted": inserted,
        "updated": updated,
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(seconds, 3),
        "peak_mb": peak_mb(),
    }


def main() -> None:
    """Build once, then measure each way on its own copy in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=20_000)
    parser.add_argument("--data", type=Path, help="Parquet file of signals to fill the store with")
    parser.add_argument("--json", action="store_true", help="one JSON object per line (also the default)")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "STORE", "BATCH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, folder, batch = args.measure
        print(json.dumps(measure(what, Path(folder), pl.read_parquet(batch))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        build(root / "store", args.rows, args.data)
        make_batch(root / "store", args.batch).write_parquet(root / "batch.parquet")
        stored = int(Store(root / "store").scan("signals").to_native().select(pl.len()).collect().item())
        ours = ["upsert (ours)", "same batch again (ours)"]
        for what in [*ours, "merge by id only (deltalake)"]:
            if what != ours[1]:
                shutil.rmtree(root / "copy", ignore_errors=True)
                shutil.copytree(root / "store", root / "copy")
            command = [sys.executable, "-m", "benchmarks.store", "--measure", what]
            command += [str(root / "copy"), str(root / "batch.parquet")]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(json.dumps({**json.loads(line), "rows": stored, "batch": args.batch}), flush=True)


if __name__ == "__main__":
    main()
