"""The archive: one Delta table per record in a folder; the only place that knows the storage engine.

Readers never wait and never see half a write. A write is computed against one version of the table and is committed
on top of exactly that version or not at all, so a writer that was killed leaves nothing behind and two writers never
lose each other's rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import logging
import os
import random
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import narwhals as nw
import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from filelock import FileLock, Timeout

from feedback_lib.errors import StoreError, nearest
from feedback_lib.records import TABLES, Table, schema

logger = logging.getLogger(__name__)

VOLATILE = frozenset(
    {"run_id", "fetched_at", "seen_at", "inferred_at"}
)  # say who wrote a row and when, not what it says
KEEP_DAYS = 180  # how long files that no run names stay readable
ATTEMPTS = 50  # tries to commit, up to half a second apart
_OLD = "__stored"
_WRITING = ("writing a batch failed", "Check the disk's space and rights, then run again")
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Upserted:
    """What an upsert did, in rows; ``version`` is the table's version that holds the result.

    ``unchanged`` counts what was stored already in the same words, what was older than the stored row, and repeats
    of a key within the batch, so the three always add up to the batch.
    """

    inserted: int
    updated: int
    unchanged: int
    version: int

    @property
    def changed(self) -> int:
        """Rows inserted or updated."""
        return self.inserted + self.updated


class _Delta(DeltaTable):
    """A table in a folder of any name: deltalake percent-encodes what Polars then takes literally."""

    @property
    def table_uri(self) -> str:
        return urllib.parse.unquote(super().table_uri)

    def file_uris(self, *wanted: Any, **more: Any) -> list[str]:
        return [urllib.parse.unquote(uri) for uri in super().file_uris(*wanted, **more)]


class Store:
    """Tables of records in a folder, created on first write.

    A key lives in the month its row was first stored with: when a later version of a signal claims another
    ``created_at``, the first one is kept, so a signal is never counted in two months.

    Args:
        path: The folder; one subfolder per table.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._frozen: Mapping[str, int] | None = None

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})" + ("" if self._frozen is None else f".at({dict(self._frozen)!r})")

    def at(self, versions: Mapping[str, int]) -> Store:
        """The store as it stood at these table versions, for reading; tables not named did not exist then.

        ``store.at(store.versions())`` is one consistent picture of all tables while others write.
        """
        view = Store(self.path)
        view._frozen = dict(versions)
        return view

    def scan(self, table: str, as_of: int | None = None) -> nw.LazyFrame[Any]:
        """One table as a lazy frame: its columns, and ``<column>_us`` (Int64, microseconds) for every datetime.

        Args:
            table: A name from ``records.TABLES``.
            as_of: A version of the table; None is the newest.

        Returns:
            One row per key, in no order. A table that does not exist gives no rows; a column that is newer than the
            table gives nulls.

        Raises:
            StoreError: the table is damaged, or has no version ``as_of``.
        """
        frame = self._lazy(table, as_of)
        times = [name for name, dtype in schema(table).items() if isinstance(dtype, pl.Datetime)]
        return nw.from_native(frame.with_columns(pl.col(c).dt.epoch("us").alias(f"{c}_us") for c in times))

    def read(self, table: str, as_of: int | None = None) -> pl.DataFrame:
        """One table in memory, ordered by key; raises as `scan` does."""
        frame = self._lazy(table, as_of)
        with _errors(table, "reading it failed", "Restore it from a backup, or read an earlier version with as_of"):
            return frame.collect(engine="streaming").sort(TABLES[table].key)

    def upsert(self, table: str, frame: pl.DataFrame) -> Upserted:
        """Insert rows with new keys and update rows that are newer, or as new but with other content, at once.

        Content leaves out which run wrote the row and when it was fetched. A batch that changes nothing makes no new
        version. Safe beside other writers: if one commits first, the difference is computed again.

        Args:
            table: A name from ``records.TABLES``.
            frame: Rows with the table's columns, in any order; of rows with one key the newest counts, then the last.

        Raises:
            StoreError: a column is missing, unknown, of the wrong type or null where the table needs it; the table is
                damaged; or other writers won every race.
        """
        started = time.monotonic()
        spec = self._spec(table)
        batch = _checked(table, frame)
        batch = batch.sort(spec.version, maintain_order=True).unique(spec.key, keep="last", maintain_order=True)
        done = _until_committed(table, lambda: self._upsert_once(table, batch))
        logger.debug(
            "table=%s inserted=%d updated=%d rows=%d version=%d seconds=%.2f",
            *(table, done.inserted, done.updated, frame.height, done.version, time.monotonic() - started),
        )
        return dataclasses.replace(done, unchanged=frame.height - done.changed)

    def append(self, table: str, frame: pl.DataFrame) -> int:
        """Add rows without looking at keys; returns the new version. For tables of events, where nothing changes.

        Raises:
            StoreError: as `upsert` does.
        """
        self._spec(table)
        rows = _checked(table, frame)

        def once() -> int:
            stored = self._open_to_write(table)
            if not rows.is_empty():
                with _errors(table, *_WRITING):
                    write_deltalake(stored, rows, mode="append", writer_properties=_zstd())
            return stored.version()

        return _until_committed(table, once)

    def version(self, table: str) -> int | None:
        """The newest version of a table; None when it does not exist."""
        stored = self._open(table, None)
        return None if stored is None else stored.version()

    def versions(self) -> dict[str, int]:
        """The newest version of every table that exists, to be named in ``runs.inputs`` and given to `at`."""
        found = {table: self.version(table) for table in TABLES}
        return {table: version for table, version in found.items() if version is not None}

    def standing(self, source: str) -> dict[str, Any] | None:
        """The row of ``watermarks`` of a source (``kind:origin``); None when it was never read."""
        rows = self.read("watermarks").filter(pl.col("source") == source)
        return rows.row(0, named=True) if rows.height else None

    def watermark(self, source: str) -> dt.datetime | None:
        """Up to where a source has been read, UTC; None when it never was."""
        stood = self.standing(source)
        return stood["watermark"] if stood else None

    @contextlib.contextmanager
    def lock(self, timeout_s: float = 60.0, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the store for one run; a second run waits. The lock of a killed run is free at once.

        Args:
            timeout_s: how long to wait for another run.
            waiting: told in one line when there is something to wait for.

        Raises:
            StoreError: another run still held it after ``timeout_s``, and the message names its process; or the store
                cannot be written.
        """
        holder, lock = self.path / "run.pid", FileLock(self.path / "run.lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._held(lock, holder, timeout_s, waiting)
            holder.write_text(f"{os.getpid()} since {dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}")
        except OSError as problem:
            lock.release()
            raise StoreError(
                "runs", f"{self.path}: {problem.strerror}. Check the disk's space and rights, then run again"
            ) from None
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def _held(self, lock: FileLock, holder: Path, timeout_s: float, waiting: Callable[[str], None]) -> None:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            who = holder.read_text() if holder.exists() else "unknown"
            by = f"{self.path} is held by another run (process {who})"
        if timeout_s:
            waiting(f"{by}; waiting for it, at most {timeout_s:g} s")
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout:
            words = f"{by} and was not free after {timeout_s:g} s. Wait for that run or stop it, then run again"
            raise StoreError("runs", words) from None

    def optimize(self, *, keep_days: int = KEEP_DAYS) -> list[str]:
        """Join small files and delete what nothing needs; returns the tables whose files were joined.

        Files of versions named in ``runs.inputs`` stay for ever, other replaced files for ``keep_days``. Meant for
        the end of a run; skips a table that somebody else is writing.
        """
        self._refuse_frozen("runs")
        with _errors("runs", "reading it failed", "Restore it from a backup"):
            named = _named_versions(self._lazy("runs", None).select("inputs").collect()["inputs"])
        joined = []
        for table in TABLES:
            stored = self._open(table, None)
            if stored is None:
                continue
            try:
                with _errors(table, "joining its files failed", "The table is unharmed; run again"):
                    if _compact(stored):
                        joined.append(table)
                    _vacuum(stored, keep_days * 24, named.get(table, []))
            except CommitFailedError:
                logger.info("table=%s not optimized: another writer was faster", table)
        return joined

    def _spec(self, table: str) -> Table:
        if table not in TABLES:
            raise StoreError(table, f"there is no such table; {nearest(table, list(TABLES))}")
        return TABLES[table]

    def _refuse_frozen(self, table: str) -> None:
        if self._frozen is not None:
            raise StoreError(table, f"{self!r} is a view of the past and cannot be written; use Store({self.path})")

    def _upsert_once(self, table: str, batch: pl.DataFrame) -> Upserted:
        """Commit what a batch changes, or raise CommitFailedError when another writer was faster."""
        stored = self._open_to_write(table)
        with _errors(table, "comparing it with a batch failed", "Restore it from a backup"):
            inserts, updates = _changes(table, stored, batch)
        with _errors(table, *_WRITING):
            if updates.height:
                _merge(stored, TABLES[table], pl.concat([inserts, updates]))
            elif inserts.height:
                write_deltalake(
                    stored, inserts, mode="append", writer_properties=_zstd(), commit_properties=_exactly_next()
                )
        return Upserted(
            inserts.height, updates.height, batch.height - inserts.height - updates.height, stored.version()
        )

    def _lazy(self, table: str, as_of: int | None) -> pl.LazyFrame:
        """One table with exactly the columns of its record."""
        self._spec(table)
        stored = self._open(table, as_of)
        columns = schema(table)
        if stored is None:
            return pl.LazyFrame(schema=columns)
        with _errors(table, "its files cannot be read", "Restore it from a backup"):
            return _columns_of(stored, columns)

    def _open(self, table: str, as_of: int | None) -> DeltaTable | None:
        """The table at a version, its files checked; None when it does not exist."""
        self._spec(table)
        if as_of is None and self._frozen is not None:
            if table not in self._frozen:
                return None
            as_of = self._frozen[table]
        where = self.path / table
        hint = f"Restore {where} from a backup, or move it away and load again"
        with _errors(table, "its log cannot be read", hint):
            try:
                stored = _Delta(where)
            except TableNotFoundError:
                if next(where.rglob("*.parquet"), None) is not None:
                    raise StoreError(table, f"{where} holds data but no log. {hint}") from None
                if as_of is not None:
                    raise StoreError(table, f"{where} does not exist, so it has no version {as_of}") from None
                return None
            if as_of is not None:
                if not 0 <= as_of <= stored.version():
                    raise StoreError(table, f"there is no version {as_of}; the newest is {stored.version()}")
                stored.load_as_version(as_of)
            _check_files(table, where, stored)
        return stored

    def _open_to_write(self, table: str) -> DeltaTable:
        """The newest version, created or widened to today's columns first."""
        self._refuse_frozen(table)
        columns = schema(table)
        stored = self._open(table, None)
        if stored is None:
            with _errors(table, "creating it failed", f"Check space and rights of {self.path}"):
                stored = self._create(table, columns)
        missing = [c for c in columns if c not in {f.name for f in stored.schema().fields}]
        if missing:
            with _errors(table, "adding columns failed", f"Check the rights of {self.path / table}"):
                stored.alter.add_columns(_delta_schema({c: columns[c] for c in missing}).fields)
        return stored

    def _create(self, table: str, columns: Mapping[str, pl.DataType]) -> DeltaTable:
        spec, where = TABLES[table], self.path / table
        where.mkdir(parents=True, exist_ok=True)
        try:
            return _Delta.create(
                where,
                schema=_delta_schema(columns),
                partition_by=["month"] if spec.partitioned else None,
                configuration={
                    "delta.enableDeletionVectors": "false",  # readers that take the list of files ignore them
                    "delta.enableExpiredLogCleanup": "false",  # re-runs name old versions
                    "delta.logRetentionDuration": "interval 3650 days",
                    "delta.deletedFileRetentionDuration": f"interval {KEEP_DAYS} days",
                    "delta.checkpointInterval": "25",
                    # no people's words in the log
                    "delta.dataSkippingStatsColumns": ",".join(dict.fromkeys((*spec.key, spec.version))),
                },
            )
        except DeltaError:
            try:
                return _Delta(where)  # another writer created it in the meantime
            except TableNotFoundError:
                pass
            raise


def _until_committed(table: str, attempt: Callable[[], _T]) -> _T:
    """What ``attempt`` returns; it starts over, with jitter, while other writers commit first."""
    for tries in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except CommitFailedError as error:
            lost = error
        time.sleep(random.uniform(0.01, 0.05) * min(tries, 10))
    raise StoreError(table, f"not committed in {ATTEMPTS} tries ({lost}); run again when fewer are writing") from lost


def _delta_schema(columns: Mapping[str, pl.DataType]) -> Schema:
    return Schema.from_arrow(pl.Schema(columns))


def _zstd() -> WriterProperties:
    return WriterProperties(compression="ZSTD")


def _exactly_next() -> CommitProperties:
    """Commit as the version after the one that was read, or not at all."""
    return CommitProperties(max_commit_retries=0)


def _columns_of(stored: DeltaTable, columns: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    frame = pl.scan_delta(stored)
    have = {f.name for f in stored.schema().fields}
    return frame.select(
        pl.col(name) if name in have else pl.lit(None, dtype).alias(name) for name, dtype in columns.items()
    )


def _checked(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The batch with the table's columns in its order and types, without NaN; StoreError says what is wrong."""
    columns, spec = schema(table), TABLES[table]
    for name in frame.columns:
        if name not in columns:
            raise StoreError(table, f"the batch has an unknown column {name!r}; {nearest(name, list(columns))}")
    for name in columns:
        if name not in frame.columns:
            raise StoreError(table, f"the batch has no column {name!r}; build it with records.frame({table!r}, rows)")
    for name, dtype in columns.items():
        if frame.schema[name] not in (dtype, pl.Null):
            raise StoreError(table, f"column {name!r} of the batch is {frame.schema[name]}, not {dtype}")
    batch = frame.select(pl.col(name).cast(dtype) for name, dtype in columns.items())
    batch = batch.with_columns(pl.col(pl.Float64).fill_nan(None))
    required = [*spec.key, spec.version, *(["month", "created_at"] if spec.partitioned else [])]
    for name in required:
        if batch[name].null_count():
            raise StoreError(table, f"column {name!r} is null in {batch[name].null_count()} rows; it must be known")
    if spec.partitioned:
        wrong = batch.filter(pl.col("month") != pl.col("created_at").dt.strftime("%Y-%m"))
        if not wrong.is_empty():
            first = wrong.row(0, named=True)
            raise StoreError(
                table,
                f"month {first['month']!r} of {first[spec.key[0]]!r} is not the month of its created_at "
                f"({first['created_at']:%Y-%m-%d}); use records.month(created_at)",
            )
    return batch


def _changes(table: str, stored: DeltaTable, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of the batch with new keys, and rows that change a stored one."""
    columns, spec = schema(table), TABLES[table]
    now, key, version = _columns_of(stored, columns), list(spec.key), spec.version
    old = _stored_rows(now.select(_known_by(spec)), spec, batch)
    if spec.partitioned and old.height < batch.height and _months(stored) - set(batch["month"]):
        batch, moved = _settle(now, spec, batch, batch.join(old, on=key, how="anti"))
        if moved:
            old = _stored_rows(now.select(_known_by(spec)), spec, batch)
    pairs = batch.join(old.select(*key, pl.col(version).alias(_OLD)), on=key, how="left")
    inserts = pairs.filter(pl.col(_OLD).is_null()).drop(_OLD)
    newer, equal = pl.col(version) > pl.col(_OLD), pl.col(version) == pl.col(_OLD)
    if version in VOLATILE:  # then a newer row may say the same
        newer, equal = pl.lit(False), newer | equal
    updates = pairs.filter(newer).drop(_OLD)
    compare = pairs.filter(equal).drop(_OLD)
    parts = compare.partition_by("month") if spec.partitioned else [compare]  # a month at a time bounds the memory
    return inserts, pl.concat([updates, *(_different(now, spec, part) for part in parts if part.height)])


def _known_by(spec: Table) -> list[str]:
    return [*spec.key, spec.version, *(["month"] if spec.partitioned else [])]


def _different(now: pl.LazyFrame, spec: Table, batch: pl.DataFrame) -> pl.DataFrame:
    """Rows of the batch whose content is not what is stored under their keys."""
    old = _stored_rows(now, spec, batch)
    content = [c for c in batch.columns if c not in spec.key and c not in VOLATILE]
    other = pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}{_OLD}")) for c in content)
    return batch.join(old, on=list(spec.key), suffix=_OLD).filter(other).select(batch.columns)


def _stored_rows(now: pl.LazyFrame, spec: Table, batch: pl.DataFrame) -> pl.DataFrame:
    """Stored rows with the keys of the batch; looks only into the months of the batch."""
    if spec.partitioned:
        now = now.filter(pl.col("month").is_in(batch["month"].unique().to_list()))
    return now.join(batch.lazy().select(spec.key), on=list(spec.key), how="semi").collect(engine="streaming")


def _settle(now: pl.LazyFrame, spec: Table, batch: pl.DataFrame, unseen: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """The batch with rows that are stored under another month given back their first ``created_at``."""
    key, first = list(spec.key), ["created_at", "month"]
    elsewhere = (
        now.filter(~pl.col("month").is_in(batch["month"].unique().to_list()))
        .select(key)
        .join(unseen.lazy().select(key), on=key, how="semi")
        .collect(engine="streaming")
    )
    if elsewhere.is_empty():
        return batch, False
    known = now.select(*key, *first).join(elsewhere.lazy(), on=key, how="semi").collect(engine="streaming")
    return batch.update(known, on=key), True


def _merge(stored: DeltaTable, spec: Table, changes: pl.DataFrame) -> None:
    """Commit the changes on top of the version they were computed from, or raise CommitFailedError.

    Without max_spill_size: with it a merge can wait for itself for ever (delta-rs issue 4614; seen in 2 of 6 merges
    of 50k rows into 1.25M).
    """
    match = [f's."{c}" = t."{c}"' for c in spec.key]
    if spec.partitioned:
        months = ", ".join(f"'{m}'" for m in changes["month"].unique().sort())
        match += ["s.month = t.month", f"t.month in ({months})"]  # the list lets it skip other months' files
    (
        stored.merge(
            changes,
            " and ".join(match),
            source_alias="s",
            target_alias="t",
            writer_properties=_zstd(),
            commit_properties=_exactly_next(),
        )
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )


def _files(stored: DeltaTable) -> pl.DataFrame:
    return pl.DataFrame(stored.get_add_actions(flatten=True))


def _months(stored: DeltaTable) -> set[str]:
    return {str(partition["month"]) for partition in stored.partitions()}


def _check_files(table: str, where: Path, stored: DeltaTable) -> None:
    """Every file the log names is there and whole; readers stop in worse ways otherwise."""
    for path, size in _files(stored).select("path", "size_bytes").iter_rows():
        try:
            found = (where / path).stat().st_size
        except FileNotFoundError:
            found = None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise StoreError(
                table,
                f"{where / path} {state} (version {stored.version()}). Restore that file from a backup, "
                "or read an earlier version with as_of",
            )


def _compact(stored: DeltaTable) -> bool:
    files = _files(stored)
    parts = files["partition.month"].n_unique() if "partition.month" in files.columns else 1
    if files.height <= 2 * parts + 8:
        return False
    done = stored.optimize.compact(writer_properties=_zstd(), commit_properties=_exactly_next())
    stored.create_checkpoint()
    return int(done["numFilesRemoved"]) > 0


def _vacuum(stored: DeltaTable, hours: int, named: Sequence[int]) -> None:
    keep = sorted({stored.version(), *(v for v in named if 0 <= v <= stored.version())})
    if stored.vacuum(hours, enforce_retention_duration=False, full=True, keep_versions=keep):
        stored.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True, keep_versions=keep)


def _named_versions(inputs_of_runs: pl.Series) -> dict[str, list[int]]:
    """Versions that runs read and wrote, by table, from their ``inputs`` (``{"read": {table: version}, …}``)."""
    named: dict[str, list[int]] = {}
    for inputs in inputs_of_runs.drop_nulls():
        for versions in json.loads(inputs).values():
            for table, version in versions.items():
                named.setdefault(table, []).append(version)
    return named


@contextlib.contextmanager
def _errors(table: str, what: str, hint: str) -> Iterator[None]:
    """Turn the engines' errors into StoreError; a lost race passes, because it is tried again."""
    try:
        yield
    except CommitFailedError:
        raise
    except (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(table, f"{what}: {reason}. {hint}") from error
