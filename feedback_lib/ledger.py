"""What the production monitor remembers: samples, health, alerts, and which sink has been told what.

One SQLite file for each monitored spec. Several monitors may share it: every step is one transaction, and each event
and delivery has a key of its own, so that a step done twice changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import polars as pl

from feedback_lib.analysis.alerts import AlertState
from feedback_lib.errors import StoreError

VERSION = 1
_SCHEMA = """
CREATE TABLE samples (
  sli TEXT, at_us INTEGER, good REAL, valid REAL, value REAL, PRIMARY KEY (sli, at_us)) WITHOUT ROWID;
CREATE TABLE asked (sli TEXT PRIMARY KEY, until_us INTEGER) WITHOUT ROWID;
CREATE TABLE definitions (sli TEXT PRIMARY KEY, digest TEXT) WITHOUT ROWID;
CREATE TABLE alerts (fingerprint TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID;
CREATE TABLE events (fingerprint TEXT, sequence INTEGER, alert TEXT, PRIMARY KEY (fingerprint, sequence)) WITHOUT ROWID;
CREATE TABLE deliveries (
  fingerprint TEXT, sequence INTEGER, sink TEXT, done_us INTEGER, attempts INTEGER DEFAULT 0, next_us INTEGER DEFAULT 0,
  error TEXT, PRIMARY KEY (fingerprint, sequence, sink)) WITHOUT ROWID;
CREATE TABLE health (sli TEXT, at_us INTEGER, status TEXT, reason TEXT, PRIMARY KEY (sli, at_us)) WITHOUT ROWID;
"""
LONGEST_WAIT_US = 3_600_000_000
SAMPLE_SCHEMA = {"at_us": pl.Int64, "good": pl.Float64, "valid": pl.Float64, "value": pl.Float64}


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One event that a sink has not been told yet."""

    fingerprint: str
    sequence: int
    sink: str
    attempts: int
    alert: Mapping[str, Any]


class Ledger:
    """The memory of one spec's monitor; safe for several threads and processes.

    Args:
        path: the SQLite file, made with its folder when it is not there.

    Raises:
        StoreError: the file is damaged, newer than this package, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._thread = threading.RLock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                "ledger", f"{self.path.parent}: {error.strerror}. Make it a folder you can write."
            ) from None
        try:
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            with filelock.FileLock(f"{self.path}.new", timeout=30):
                self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise StoreError("ledger", f"{self.path}: {error}. Move it away to start with an empty memory.") from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise StoreError("ledger", f"{self.path} was written by a newer version of this package; update it.")
        if found == 0:
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        """Close the file."""
        with self._thread:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, one writer at a time among threads and processes; nests."""
        with self._thread:
            if self._db.in_transaction:
                yield
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._rollback()
                raise StoreError("ledger", f"{self.path}: {error}") from error
            except BaseException:
                self._rollback()
                raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._thread:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError("ledger", f"{self.path}: {error}") from error

    def _first(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return next(iter(self._read(statement, values)), None)

    # samples

    def define(self, sli: str, digest: str) -> None:
        """Note what the samples of an SLI mean; those that meant something else are dropped, to be asked for anew."""
        with self.transaction():
            row = self._db.execute("SELECT digest FROM definitions WHERE sli = ?", (sli,)).fetchone()
            if row == (digest,):
                return
            self._db.execute("INSERT OR REPLACE INTO definitions VALUES (?, ?)", (sli, digest))
            if row is None:
                return
            for table in ("samples", "asked"):
                self._db.execute(f"DELETE FROM {table} WHERE sli = ?", (sli,))

    def add_samples(self, sli: str, samples: pl.DataFrame, asked_until_us: int | None = None) -> None:
        """Keep samples (at_us · good · valid · value); those of a known moment replace it.

        ``asked_until_us`` notes that everything up to there has been asked for.
        """
        rows = samples.select(*SAMPLE_SCHEMA).iter_rows()
        with self.transaction():
            self._db.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?)", ((sli, *row) for row in rows))
            if asked_until_us is not None:
                self._db.execute(
                    "INSERT INTO asked VALUES (?, ?) "
                    "ON CONFLICT (sli) DO UPDATE SET until_us = MAX(until_us, excluded.until_us)",
                    (sli, asked_until_us),
                )

    def measurements(self, service: str, sli: str, after_us: int = 0, until_us: int = 2**62) -> pl.DataFrame:
        """The samples of an SLI in ``(after, until]``, oldest first, as `slo.evaluate` takes them.

        Returns:
            service · sli · at_us (the end of the slice) · good · valid · value
        """
        rows = self._read(
            "SELECT at_us, good, valid, value FROM samples WHERE sli = ? AND at_us > ? AND at_us <= ? ORDER BY at_us",
            (sli, after_us, until_us),
        )
        frame = pl.DataFrame(rows, schema=SAMPLE_SCHEMA, orient="row")
        return frame.select(pl.lit(service).alias("service"), pl.lit(sli).alias("sli"), *SAMPLE_SCHEMA)

    def asked(self, sli: str) -> int | None:
        """Up to where an SLI has been asked for, in microseconds; None when never."""
        row = self._first("SELECT until_us FROM asked WHERE sli = ?", (sli,))
        return row[0] if row else None

    def turn_back(self, sli: str, fingerprint: str, until_us: int) -> None:
        """Forget what was measured and judged of an SLI after a moment, because the clock had been ahead."""
        with self.transaction():
            self._db.execute("DELETE FROM samples WHERE sli = ? AND at_us > ?", (sli, until_us))
            self._db.execute("DELETE FROM asked WHERE sli = ?", (sli,))
            newest = self._db.execute("SELECT MAX(at_us) FROM samples WHERE sli = ?", (sli,)).fetchone()[0]
            if newest is not None:
                self._db.execute("INSERT INTO asked VALUES (?, ?)", (sli, newest))
            state = self.alert_state(fingerprint)
            if state is not None and state.folded_us > until_us:
                back = dataclasses.replace(state, folded_us=until_us, below_us=None, clear_us=None)
                text = json.dumps(dataclasses.asdict(back))
                self._db.execute("UPDATE alerts SET state = ? WHERE fingerprint = ?", (text, fingerprint))

    def newest(self, sli: str) -> int | None:
        """The moment of the newest sample of an SLI; None when there is none."""
        row = self._first("SELECT MAX(at_us) FROM samples WHERE sli = ?", (sli,))
        return row[0]  # type: ignore[no-any-return]

    def first(self, sli: str) -> int | None:
        """The moment of the oldest sample of an SLI; None when there is none."""
        row = self._first("SELECT MIN(at_us) FROM samples WHERE sli = ?", (sli,))
        return row[0]  # type: ignore[no-any-return]

    def forget(self, before_us: int) -> None:
        """Drop samples before a moment; alerts and health stay."""
        with self.transaction():
            self._db.execute("DELETE FROM samples WHERE at_us < ?", (before_us,))

    # alerts

    def alert_state(self, fingerprint: str) -> AlertState | None:
        """Where an alert stands; None when its SLO was never judged."""
        row = self._first("SELECT state FROM alerts WHERE fingerprint = ?", (fingerprint,))
        return AlertState(**json.loads(row[0])) if row else None

    def save_alert(
        self, fingerprint: str, state: AlertState, events: Sequence[Mapping[str, Any]], sinks: Sequence[str]
    ) -> int:
        """Note where an alert stands, its new events, and that each sink is to be told; returns how many are new."""
        new = 0
        with self.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO alerts VALUES (?, ?)", (fingerprint, json.dumps(dataclasses.asdict(state)))
            )
            for alert in events:
                key = (fingerprint, alert["sequence"])
                new += self._db.execute(
                    "INSERT OR IGNORE INTO events VALUES (?, ?, ?)", (*key, json.dumps(alert))
                ).rowcount
                self._db.executemany(
                    "INSERT OR IGNORE INTO deliveries (fingerprint, sequence, sink) VALUES (?, ?, ?)",
                    ((*key, sink) for sink in sinks),
                )
        return new

    def events(self, since_us: int = 0, until_us: int = 2**62) -> list[dict[str, Any]]:
        """The events whose time lies in ``[since, until)``, oldest first."""
        rows = self._read(
            "SELECT alert FROM events WHERE sequence >= ? AND sequence < ? ORDER BY sequence, fingerprint",
            (since_us // 1_000_000, -(-until_us // 1_000_000)),
        )
        return [json.loads(text) for (text,) in rows]

    def worst_severity(self, fingerprint: str, since_us: int, until_us: int) -> str | None:
        """The worst severity an alert had open at any moment of ``[since, until)``; None when it was never open."""
        standing: str | None = None
        worst: set[str | None] = set()
        for event in self.events(until_us=until_us):
            if event["fingerprint"] != fingerprint:
                continue
            if event["sequence"] * 1_000_000 > since_us:
                worst.add(standing)
            standing = None if event["event"] == "resolved" else event["severity"]
        worst.add(standing)
        return next((s for s in ("page", "ticket") if s in worst), None)

    def open_deliveries(self, now_us: int | None = None) -> list[Delivery]:
        """What sinks are still to be told, oldest first; with ``now_us`` only what may be tried by then.

        Behind one that waits for its next try, later events of the same sink and alert wait too.
        """
        rows = self._read(
            "SELECT d.fingerprint, d.sequence, d.sink, d.attempts, e.alert, d.next_us FROM deliveries d "
            "JOIN events e USING (fingerprint, sequence) WHERE d.done_us IS NULL ORDER BY d.sequence"
        )
        found, waiting = [], set()
        for fingerprint, sequence, sink, attempts, alert, next_us in rows:
            later = now_us is not None and now_us < next_us <= now_us + LONGEST_WAIT_US  # beyond, the clock was ahead
            if later or (fingerprint, sink) in waiting:
                waiting.add((fingerprint, sink))
                continue
            found.append(Delivery(fingerprint, sequence, sink, attempts, json.loads(alert)))
        return found

    def delivered(self, delivery: Delivery, at_us: int) -> None:
        """Note that a sink has been told."""
        with self.transaction():
            self._db.execute(
                "UPDATE deliveries SET done_us = ?, error = NULL WHERE fingerprint = ? AND sequence = ? AND sink = ?",
                (at_us, delivery.fingerprint, delivery.sequence, delivery.sink),
            )

    def failed(self, delivery: Delivery, error: str, next_us: int) -> None:
        """Note that a sink could not be told, why, and when to try again."""
        with self.transaction():
            self._db.execute(
                "UPDATE deliveries SET attempts = attempts + 1, error = ?, next_us = ? "
                "WHERE fingerprint = ? AND sequence = ? AND sink = ?",
                (error, next_us, delivery.fingerprint, delivery.sequence, delivery.sink),
            )

    def standing(self, sink: str | None = None) -> list[dict[str, Any]]:
        """The last event of each alert that is open; with ``sink`` only those this sink has been told."""
        rows = self._read(
            "SELECT alert, fingerprint, sequence FROM events e WHERE sequence = "
            "(SELECT MAX(sequence) FROM events n WHERE n.fingerprint = e.fingerprint)"
        )
        told = self._read(
            "SELECT fingerprint, sequence FROM deliveries WHERE done_us IS NOT NULL AND sink = ?", (sink,)
        )
        last = [json.loads(text) for text, *key in rows if sink is None or tuple(key) in told]
        return [alert for alert in last if alert["event"] != "resolved"]

    def tell_also(self, sinks: Sequence[str]) -> None:
        """Let sinks that were not there when an alert opened be told how it stands now."""
        with self.transaction():
            for alert in self.standing():
                self._db.executemany(
                    "INSERT OR IGNORE INTO deliveries (fingerprint, sequence, sink) VALUES (?, ?, ?)",
                    ((alert["fingerprint"], alert["sequence"], sink) for sink in sinks),
                )

    # health

    def note_health(self, sli: str, at_us: int, status: str, reason: str) -> bool:
        """Keep a status when it is not the one before (``sli`` "" is the service); True when it changed."""
        with self.transaction():
            row = self._db.execute(
                "SELECT status FROM health WHERE sli = ? AND at_us <= ? ORDER BY at_us DESC LIMIT 1", (sli, at_us)
            ).fetchone()
            if row and row[0] == status:
                return False
            self._db.execute("INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?)", (sli, at_us, status, reason))
            return True

    def health(self) -> pl.DataFrame:
        """The history of health, oldest first: sli ("" is the service) · at_us · status · reason."""
        rows = self._read("SELECT sli, at_us, status, reason FROM health ORDER BY at_us, sli")
        schema = {"sli": pl.String, "at_us": pl.Int64, "status": pl.String, "reason": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row")


def copied(path: Path, to: Path) -> Path:
    """A copy of a ledger, whole also while a monitor writes it."""
    with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(to)) as new:
        old.backup(new)
    return to
