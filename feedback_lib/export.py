"""The store's tables handed to other programs: Parquet or CSV files, a DuckDB database, a warehouse through dlt.

What leaves was redacted when it was read into the store. On top of that process feedback stays (`PRIVATE`) with what
was made of it, and the people who labelled, merged and named become pseudonyms (`_CLEANED`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback_lib import privacy, transport
from feedback_lib.errors import ConfigError, DeliveryError, FeedbackError, StoreError, nearest
from feedback_lib.records import TABLES, schema

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from feedback_lib.store import Store

DEFAULT = (
    "signals", "replies", "understanding", "topics", "findings", "counts", "labels", "merges", "suggestions",
)  # fmt: skip
PRIVATE = ("workflow",)  # types of signals about one project's own work; they and what hangs on them stay
PRIVATE_TABLES = ("friction",)  # made of them alone
NOTE = "export.json"  # beside the files: which of them are ours
BATCH = 20_000  # rows at once on their way to CSV or a warehouse
PIPELINE = "feedback_export"
_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - a spreadsheet runs what begins so

_Tell = Callable[[str], None]
_CLEANED: Mapping[str, Callable[[str, bytes], str]] = {  # columns that people of the team wrote
    "by": lambda name, key: privacy.pseudonym(name, key) if name.strip() else name,
    "named_by": lambda name, key: privacy.pseudonym(name, key) if name.strip() else name,
    "reason": lambda text, _: privacy.redact(text),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Where tables go: a folder or file, or a dataset of a destination that dlt knows.

    ``credentials_env`` names an environment variable that holds an address with user and password; without it dlt
    looks into its own variables, such as ``DESTINATION__POSTGRES__CREDENTIALS``.
    """

    out: Path | None = None
    destination: str = "postgres"
    dataset: str = "feedback"
    credentials_env: str | None = None

    @property
    def path(self) -> Path:
        """The folder or file.

        Raises:
            ConfigError: none was named.
        """
        if self.out is None:
            raise ConfigError("name where to write with --out.")
        return self.out


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: rows by table, and where. Of a warehouse, rows that are new or changed since the last time."""

    rows: Mapping[str, int]
    where: str


def write(
    store: Store, to: str, target: Target, tables: Sequence[str] = (), *, tell: _Tell = lambda _: None
) -> Exported:
    """Write tables as they stand now, all of one moment, while others may write.

    Args:
        store: Where they are.
        to: A name of `WRITERS`.
        target: Where they go.
        tables: Names from ``records.TABLES``; none are `DEFAULT`.
        tell: Told one line per table.

    Raises:
        ConfigError: a table or the target cannot be; what is there was not changed.
        StoreError: the store is damaged.
        DeliveryError: writing failed; what was there before is there still.
    """
    import polars as pl

    for table in tables:
        if table in PRIVATE_TABLES:
            raise ConfigError(f"--table {table}: it is about one project's own work, which stays. Leave it out.")
        if table not in TABLES:
            raise ConfigError(f"--table {table}: there is no such table; {nearest(table, list(TABLES))}")
    where = str(target.out or target.dataset)
    try:
        return WRITERS[to](_Picture(store, tuple(dict.fromkeys(tables or DEFAULT))), target, tell)
    except (OSError, pl.exceptions.PolarsError) as fault:
        why = getattr(fault, "strerror", None) or _first_line(fault)
        raise DeliveryError(
            f"export to {to}", where, f"reading the store or writing {where} failed ({why}). Check space and rights."
        ) from None


# What leaves


class _Picture:
    """Tables of one moment as they may leave: now, or when they had the given versions."""

    def __init__(self, store: Store, tables: tuple[str, ...], versions: Mapping[str, int] | None = None) -> None:
        self.tables = tables
        self.versions = store.versions() if versions is None else versions
        self._store = store.at(self.versions)

    def earlier(self, versions: Mapping[str, int]) -> _Picture:
        """The same tables when they had these versions."""
        return _Picture(self._store, self.tables, versions)

    @functools.cached_property
    def key(self) -> bytes:
        """The key behind the pseudonyms of this store."""
        return privacy.load_key(self._store.path)

    def frame(self, table: str) -> pl.LazyFrame:
        """A table without process feedback, colleagues' names as pseudonyms; one row per key, in no order."""
        import polars as pl

        frame: pl.LazyFrame = self._store.scan(table).to_native().select(list(schema(table)))
        for column in {"uid", "duplicate_of"} & set(TABLES[table].key):
            frame = frame.join(self._private, left_on=column, right_on="private", how="anti")
        if "evidence" in schema(table):
            key = list(TABLES[table].key)
            named = frame.select(*key, "evidence").explode("evidence")
            told = named.join(self._private, left_on="evidence", right_on="private", how="semi").select(key).unique()
            frame = frame.join(told, on=key, how="anti")
        if "history" in schema(table):  # once it was hit, words that a person took may still tell of it
            hit = pl.col("history").list.join("\n").str.contains(", hit by ", literal=True)
            frame = frame.filter(~hit.fill_null(False))
        if "report" in schema(table) and self._has_private:
            frame = frame.with_columns(report=pl.lit("{}"))  # it tells of them in words
        for column, clean in _CLEANED.items():
            if column in schema(table):
                known = frame.select(pl.col(column).drop_nulls().unique()).collect()[column]
                frame = frame.with_columns(pl.col(column).replace({text: clean(text, self.key) for text in known}))
        return frame

    @functools.cached_property
    def _has_private(self) -> bool:
        """Whether process feedback was ever read."""
        return bool(self._private.head(1).collect().height)

    @functools.cached_property
    def _private(self) -> pl.LazyFrame:
        """The uids of process feedback and of the replies to it."""
        import polars as pl

        signals, replies = (self._store.scan(table).to_native() for table in ("signals", "replies"))
        uids = signals.filter(pl.col("type").is_in(PRIVATE)).select(private="uid")
        answers = replies.join(uids, left_on="signal", right_on="private", how="semi").select(private="uid")
        private: pl.DataFrame = pl.concat([uids, answers]).collect(engine="streaming")
        return private.lazy()


# Files


def _folder(picture: _Picture, target: Target, tell: _Tell, *, suffix: str, sink: Callable[..., Any]) -> Exported:
    """One file per table. All are written beside the folder first; files of an earlier export are then replaced."""
    out = target.path
    before = _ours(out)
    wanted = [f"{table}.{suffix}" for table in picture.tables]
    for name in wanted:
        if name not in before and (out / name).exists():
            raise ConfigError(f"{out / name} is there and no export of ours; name another folder with --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = {}
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".part") as part:
        for table in picture.tables:
            rows[table] = _written(picture.frame(table), Path(part) / f"{table}.{suffix}", sink, table, tell)
        out.mkdir(exist_ok=True)
        _note(out, {*before, *wanted})  # first: what is then replaced is ours, whenever this is stopped
        for name in wanted:
            (Path(part) / name).replace(out / name)
    return Exported(rows, str(out))


def _written(frame: pl.LazyFrame, path: Path, sink: Callable[..., Any], table: str, tell: _Tell) -> int:
    """Write one file and return its rows."""
    import polars as pl

    rows: int = frame.select(pl.len()).collect(engine="streaming").item()
    tell(f"… {table}: {rows:,} rows")
    sink(frame, path)
    tell(f"{table}: {rows:,} rows")
    return rows


def _ours(out: Path) -> set[str]:
    """The files that an earlier export wrote into a folder.

    Raises:
        ConfigError: it is a file, or holds something and no export of ours.
    """
    if not out.exists():
        return set()
    if not out.is_dir():
        raise ConfigError(f"{out} is a file; name a folder with --out.")
    try:
        return set(json.loads((out / NOTE).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        if any(out.iterdir()):
            raise ConfigError(f"{out} holds files but no export of ours; name an empty folder with --out.") from None
        return set()


def _note(out: Path, files: set[str]) -> None:
    part = out / f".{NOTE}.part"
    part.write_text(json.dumps({"written_by": "feedback export", "files": sorted(files)}, indent=1) + "\n", "utf-8")
    part.replace(out / NOTE)


def _sink_parquet(frame: pl.LazyFrame, path: Path) -> None:
    frame.sink_parquet(path, compression="zstd")


def _sink_csv(frame: pl.LazyFrame, path: Path) -> None:
    with path.open("wb") as file:
        file.write((",".join(frame.collect_schema().names()) + "\n").encode())
        for batch in _batches(_flat(frame), path.with_suffix(".parquet")):
            batch.write_csv(file, include_header=False, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")


def _batches(frame: pl.LazyFrame, path: Path) -> Iterator[pl.DataFrame]:
    """A table in pieces, by way of a file: read straight, Polars runs far ahead of whoever takes them slowly."""
    import polars as pl

    frame.sink_parquet(path, row_group_size=BATCH)
    file = pl.scan_parquet(path)
    for start in range(0, file.select(pl.len()).collect().item(), BATCH):
        yield file.slice(start, BATCH).collect()
    path.unlink()


def _flat(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Lists as JSON text; no NUL, and an apostrophe before what a spreadsheet would run as a formula."""
    import polars as pl

    def flat(name: str, dtype: pl.DataType) -> pl.Expr:
        column = pl.col(name)
        if isinstance(dtype, pl.List):
            text = pl.struct(name).struct.json_encode()  # {"labels":[…]}
            inner = text.str.slice(len(json.dumps(name, ensure_ascii=False)) + 2)
            return pl.when(column.is_not_null()).then(inner.str.head(-1)).alias(name)
        if dtype == pl.String:
            text = column.str.replace_all("\0", "", literal=True)
            runs = pl.any_horizontal(text.str.starts_with(mark) for mark in _RUNS)
            return pl.when(runs).then("'" + text).otherwise(text).alias(name)
        return column

    return frame.select(flat(name, dtype) for name, dtype in frame.collect_schema().items())


# DuckDB


def _duckdb(picture: _Picture, target: Target, tell: _Tell) -> Exported:
    """Replace our tables in a database in one transaction; tables of others stay."""
    import duckdb

    out = target.path
    new = not out.exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = {}
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".part") as part:
            for table in picture.tables:
                rows[table] = _written(
                    picture.frame(table), Path(part) / f"{table}.parquet", _sink_parquet, table, tell
                )
            settings: dict[str, Any] = {"temp_directory": part, "preserve_insertion_order": False}  # to stream
            with duckdb.connect(config=settings) as database:
                # attached, because to connect to a name such as x.csv would read that file instead
                database.execute(f"attach '{_quoted(out)}' as target (type duckdb)")
                database.execute("use target")
                _replace_tables(database, picture.tables, Path(part), out)
    except BaseException as fault:
        if new:
            out.unlink(missing_ok=True)
        if isinstance(fault, duckdb.Error):
            raise ConfigError(
                f"{out} cannot be written as a DuckDB database ({_first_line(fault)}). "
                "Close the program that has it open, or name another file with --out."
            ) from None
        raise
    return Exported(rows, str(out))


def _replace_tables(database: duckdb.DuckDBPyConnection, tables: Sequence[str], folder: Path, out: Path) -> None:
    comment = "written by feedback export"
    known = (
        "select table_name, comment = ? from duckdb_tables() where database_name = 'target' and schema_name = 'main'"
    )
    standing = dict(database.execute(known, [comment]).fetchall())
    for table in tables:
        if table in standing and not standing[table]:
            raise ConfigError(f"{out} has a table {table} that is no export of ours; name another file with --out.")
    database.begin()
    for table in tables:
        path = _quoted(folder / f"{table}.parquet")
        database.execute(f"create or replace table \"{table}\" as from read_parquet('{path}')")
        database.execute(f"comment on table \"{table}\" is '{comment}'")
    database.commit()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


# Warehouse


def _warehouse(picture: _Picture, target: Target, tell: _Tell) -> Exported:
    """Merge what changed since the last load into a dataset, by key; each table arrives whole or not at all."""
    if target.out is not None:
        raise ConfigError("--out is for files; a warehouse takes --destination and --dataset.")
    address = transport.secret(target.credentials_env, target.destination) if target.credentials_env else None
    rows: dict[str, int] = {}
    try:
        import dlt
        from dlt.common.destination import Destination
    except ImportError:
        raise ConfigError('--to warehouse needs an extra. Run: pip install "feedback_lib[warehouse]"') from None
    with tempfile.TemporaryDirectory(prefix="feedback-export-") as folder, _settled(Path(folder)):
        try:
            pipeline = dlt.pipeline(
                PIPELINE,
                pipelines_dir=folder,
                destination=Destination.from_reference(target.destination, credentials=address),
                dataset_name=target.dataset,
            )
            pipeline.run([_resource(picture, table, Path(folder), rows, tell) for table in picture.tables])
            where = f"{target.destination}, dataset {pipeline.dataset_name}"
            problem = None
        except Exception as fault:  # noqa: BLE001 - dlt raises dozens of kinds, each with many lines
            problem = _said(fault, target, address)
    if problem is not None:
        raise problem  # out here it carries nothing of dlt, so no address shows in a traceback
    return Exported(rows, where)


@contextlib.contextmanager
def _settled(folder: Path) -> Iterator[None]:
    """Let dlt take settings from the environment only, keep its files in a folder, tell nobody and log nothing."""
    from dlt.common.configuration.container import Container
    from dlt.common.configuration.providers import EnvironProvider
    from dlt.common.configuration.specs import RuntimeConfiguration
    from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
    from dlt.common.runtime.run_context import RunContext
    from dlt.common.runtime.telemetry import stop_telemetry

    class Settings(RunContext):  # type: ignore[misc]
        global_dir = data_dir = run_dir = local_dir = str(folder)

        def initial_providers(self) -> list[Any]:
            return [EnvironProvider()]

        def initialize_runtime(self, runtime_config: Any = None) -> None:
            super().initialize_runtime(RuntimeConfiguration(dlthub_telemetry=False, log_level="CRITICAL"))

    stop_telemetry()  # somebody else in this process may have let it on
    with Container().injectable_context(PluggableRunContext(Settings(str(folder)))):
        yield


def _resource(picture: _Picture, table: str, folder: Path, rows: dict[str, int], tell: _Tell) -> Any:
    """A table as dlt reads it, with every column's type given, so that it infers none."""
    import dlt
    import polars as pl

    types = {
        pl.String: "text", pl.Int64: "bigint", pl.Float64: "double", pl.Boolean: "bool", pl.Date: "date",
        pl.Datetime: "timestamp", pl.List: "json",
    }  # fmt: skip
    key = TABLES[table].key
    columns = {
        name: {"data_type": types[dtype.base_type()], "nullable": name not in key}
        for name, dtype in schema(table).items()
    }

    def read() -> Iterator[Any]:
        rows[table] = 0
        yield dlt.mark.materialize_table_schema()
        state = dlt.current.resource_state()  # kept in the destination, and only when all of a load has arrived
        for batch in _batches(_changed(picture, table, state), folder / f"{table}.parquet"):
            rows[table] += batch.height
            yield batch.to_dicts()
            tell(f"… {table}: {rows[table]:,} rows read")
        state.update(store=_mark(picture), versions=dict(picture.versions))
        tell(f"{table}: {rows[table]:,} rows new or changed")

    return dlt.resource(
        read,
        name=table,
        write_disposition="merge",
        primary_key=key,
        columns=columns,
        max_table_nesting=0,
    )


def _changed(picture: _Picture, table: str, loaded: Mapping[str, Any]) -> pl.LazyFrame:
    """Rows that were not the same when the table was loaded last; all when it never was, or nobody can say."""
    import polars as pl

    def marked(picture: _Picture) -> pl.LazyFrame:
        return _without_nul(picture.frame(table)).with_columns(pl.struct(pl.all()).hash().alias("_hash"))

    now = marked(picture)
    versions = loaded.get("versions")
    if versions is None or loaded.get("store") != _mark(picture):
        return now.drop("_hash")
    if all(versions.get(t) == picture.versions.get(t) for t in (table, "signals", "replies")):
        return now.drop("_hash").head(0)
    try:
        before = marked(picture.earlier(versions))
    except StoreError:  # a version that is cleared away, or of a store that was put back
        return now.drop("_hash")
    known = [*TABLES[table].key, "_hash"]
    return now.join(before.select(known), on=known, how="anti").drop("_hash")


def _mark(picture: _Picture) -> str:
    """What tells this store from others, for the destination to remember."""
    return privacy.pseudonym("store", picture.key)


def _without_nul(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Texts without NUL, which most databases refuse."""
    import polars as pl

    texts = pl.col(pl.String).str.replace_all("\0", "", literal=True)
    lists = pl.col(pl.List(pl.String)).list.eval(pl.element().str.replace_all("\0", "", literal=True))
    return frame.with_columns(texts, lists)


def _said(fault: BaseException, target: Target, address: str | None) -> FeedbackError:
    """One sentence about what dlt raised, without a secret."""
    from dlt.common.configuration.exceptions import ConfigurationException
    from dlt.common.destination.exceptions import UnknownDestinationModule
    from dlt.common.exceptions import MissingDependencyException

    name, chain = target.destination, list(_causes(fault))
    own = target.credentials_env or f"DESTINATION__{name.upper()}__CREDENTIALS"

    def among(kind: type[BaseException] | tuple[type[BaseException], ...]) -> BaseException | None:
        return next((f for f in chain if isinstance(f, kind)), None)

    known = among(FeedbackError)
    if isinstance(known, FeedbackError):
        return known
    if among(UnknownDestinationModule):
        from dlt import destinations

        hint = nearest(name, [n for n in destinations.__all__ if n.lower() != "destination"])
        return ConfigError(f"--destination {name}: dlt knows no such destination; {hint}")
    if among(MissingDependencyException):
        return ConfigError(f'{name}: its driver is not installed. Run: pip install "dlt[{name}]"')
    if among(ConfigurationException):
        return ConfigError(
            f"{name}: no usable credentials. Set the environment variable {own}, for postgres to an address such as "
            "postgresql://user:password@host:5432/database, or name the variable that holds it with --credentials-env."
        )
    why = _unsecret(_first_line(chain[-1]), address)
    return DeliveryError(
        name,
        target.dataset,
        f"loading into dataset {target.dataset} failed ({why}). Each table is there as before or whole. Check address, "
        f"user and password in {own}, and that the user may create schemas and tables, then run again.",
    )


def _causes(fault: BaseException) -> Iterator[BaseException]:
    """A fault and what lies behind it, innermost last."""
    at: BaseException | None = fault
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def _unsecret(text: str, address: str | None) -> str:
    """A text without the values of variables that hold credentials, or the passwords in them."""
    held = [address] if address else []
    held += [value for name, value in os.environ.items() if "CREDENTIALS" in name]
    for value in held:
        with contextlib.suppress(ValueError):
            password = urllib.parse.urlsplit(value).password
            held += [password, urllib.parse.unquote(password)] if password else []
    for value in sorted(filter(None, held), key=len, reverse=True):
        text = text.replace(value, "[token]")
    return privacy.redact(text)


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return (lines[0] if lines else type(fault).__name__)[:200]


WRITERS: Mapping[str, Callable[[_Picture, Target, _Tell], Exported]] = {
    "parquet": functools.partial(_folder, suffix="parquet", sink=_sink_parquet),
    "duckdb": _duckdb,
    "csv": functools.partial(_folder, suffix="csv", sink=_sink_csv),
    "warehouse": _warehouse,
}
