"""A process of its own for test_store.py: ``python store_worker.py write|apply|read|hold STORE ...``."""

import datetime as dt
import itertools
import json
import os
import sys
import time
from pathlib import Path

import polars as pl

from feedback_lib.store import Store


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def write(store: Store, template: str) -> None:
    """Upsert batch after batch for ever: all rows of the template take the batch's number, and one row is new."""
    rows = pl.read_parquet(template)
    say("ready")
    for number in itertools.count(int(sys.stdin.readline())):
        later = pl.col("updated_at") + dt.timedelta(seconds=number)
        batch = rows.with_columns(later.alias("updated_at"), pl.lit(str(number)).alias("body"))
        mark = batch.head(1).with_columns(pl.lit(f"mark-{number}").alias("uid"))
        store.upsert("signals", pl.concat([batch, mark]))
        say(number)


def apply(store: Store, go: str, *batches: str) -> None:
    """Upsert the given files in order, once everybody may start."""
    frames = [pl.read_parquet(path) for path in batches]
    say("ready")
    while not Path(go).exists():
        time.sleep(0.001)
    for frame in frames:
        done = store.upsert("signals", frame)
        say([done.inserted, done.updated, done.unchanged])


def read(store: Store, stop: str) -> None:
    """Read for ever, and say which batch each read saw; a read of two batches at once says both."""
    while not Path(stop).exists():
        seen = store.scan("signals").to_native().select("uid", "body").collect()
        rows = seen.filter(~pl.col("uid").str.starts_with("mark-"))
        say([sorted(rows["body"].unique()), rows.height, seen.height - rows.height])


def hold(store: Store) -> None:
    """Hold the run lock until killed."""
    with store.lock():
        say(os.getpid())
        time.sleep(60)


if __name__ == "__main__":
    {"write": write, "apply": apply, "read": read, "hold": hold}[sys.argv[1]](Store(sys.argv[2]), *sys.argv[3:])
