"""Any export on disk: JSON lines, CSV or Parquet, with a mapping of its columns to ours."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import email.utils
import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from feedback_lib import privacy
from feedback_lib.errors import ConfigError, SourceError, nearest
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Signal, SignalType, real_time
from feedback_lib.sources import DEEPEST, too_deep

BATCH_ROWS = 5_000
CSV_FIELD_BYTES = 16 * 2**20  # the standard library stops at 128 KiB, less than a pasted log

_TIMES = ("created_at", "updated_at", "first_response_at", "closed_at")
_PLAIN = ("native_id", "url", *_TIMES, "state", "spec_id", "version", "severity", "locale", "type")
_NUMBERS = ("rating", "reactions", "customer_value", "thread_count")
_CLEANERS: Mapping[str, Callable[[str], str]] = {  # `_PLAIN` fields are not redacted later on
    **dict.fromkeys(_PLAIN, privacy.redact),
    "url": privacy.redact_address,
    "version": privacy.redact_version,
    "native_id": privacy.redact_id,  # last, since its column may be that of another field
}
_FIELDS = tuple(f.name for f in dataclasses.fields(Signal) if f.name not in ("kind", "origin"))
_REQUIRED = ("native_id", "created_at")
_PEOPLE = (  # columns that name a person in any export, whether or not they are mapped
    *("author", "user", "username", "user_name", "login", "reporter", "requester", "assignee", "submitter", "creator"),
    *("customer", "customer_name", "first_name", "last_name", "full_name", "display_name", "real_name", "nickname"),
    *("email", "e_mail", "email_address", "phone", "phone_number", "contact", "handle", "ip", "ip_address"),
)
_NOTHING = frozenset(("", "null", "none", "n/a", "nan", "-"))

T = TypeVar("T")
Row = tuple[int, dict[str, Any] | str]  # line or row number from 1, and the row or why there is none


@register("sources", "files")
@dataclasses.dataclass(frozen=True)
class Files:
    """JSON lines, CSV or Parquet on disk, told apart by suffix; items come in the order of the file.

    Options:
        path: the file, or several by wildcards.
        columns: which of our fields is which column, or dotted key.
        name: what it is called instead of its file.
        type: of its signals.
        constants: values of fields that no column holds.
        personal: further columns that name people.
    """

    path: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    name: str | None = None
    type: SignalType = "ticket"
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    personal: Sequence[str] = ()

    def __post_init__(self) -> None:
        for option, given in (("columns", self.columns), ("constants", self.constants)):
            for field in given:
                if field not in _FIELDS:
                    raise ConfigError(f"sources files: {option} has {field!r}; {nearest(str(field), list(_FIELDS))}")
        both = sorted(self.columns.keys() & self.constants.keys())
        if both:
            raise ConfigError(f"sources files: {both[0]!r} is in columns and in constants; keep one of them")
        if "author" in self.constants:
            raise ConfigError("sources files: constants cannot hold 'author'; leave it out when nobody is named")
        if self.type not in get_args(SignalType):
            known = nearest(str(self.type), list(get_args(SignalType)))
            raise ConfigError(f"sources files: type {self.type!r}; {known}")

    @property
    def origin(self) -> str:
        """The option ``name``; else the file's name without suffix, or the folder's when ``path`` has a wildcard."""
        if self.name:
            return self.name
        path = Path(self.path)
        return path.stem if not _wild(path.name) else _base(path).name or "files"

    @functools.cached_property
    def personal_fields(self) -> tuple[str, ...]:
        """The author's column, those named in the option ``personal``, and columns that name people anywhere."""
        used = {column.rpartition(".")[2] for field, column in self.columns.items() if field != "author"}
        people = (f"*.{name}" for name in _PEOPLE if name not in used)
        return (self._column("author"), *self.personal, *people)

    @functools.cached_property
    def plain_fields(self) -> tuple[str, ...]:
        """The columns that hold ids, addresses, times and numbers."""
        return tuple(dict.fromkeys(self._column(field) for field in (*_PLAIN, *_NUMBERS)))

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Item | Rejected]:
        """Yield rows created or updated in ``[since, until)``, in the order of the files.

        A file may be larger than memory and unsorted, so unlike other sources this one is not oldest first.

        Raises:
            SourceError: there is no such file, it cannot be read, or a mapped column is in none of its rows.
        """
        paths = self._paths()
        self._check_columns(paths)
        for path, label in paths:
            for number, row in self._rows(path, label):
                where = f"{label}:{number}"
                if isinstance(row, str):
                    yield Rejected(where, row)
                    continue
                try:
                    created = self._time(row, "created_at")
                    updated = self._time(row, "updated_at") or created
                    if created is None or updated is None:
                        raise ValueError(f"created_at is missing (column {self._column('created_at')!r})")
                except ValueError as error:
                    yield Rejected(where, str(error))
                    continue
                if _within(created, since, until) or _within(updated, since, until):
                    self._clean(row)
                    native_id = self._plain(row, "native_id")
                    if native_id:
                        yield Item(row, where, native_id, created, updated)
                    else:
                        yield Rejected(where, f"native_id is missing (column {self._column('native_id')!r})")

    def check(self) -> str:
        """How many files there are, and how large; raises SourceError as `fetch` does."""
        paths = self._paths()
        self._check_columns(paths)
        size = sum(path.stat().st_size for path, _ in paths) / 1e6
        return f"{len(paths)} {'file' if len(paths) == 1 else 'files'}, {size:.3g} MB"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one row into a signal.

        Raises:
            ValueError: a required value is missing or a value is not what its field needs.
        """
        native_id = self._plain(payload, "native_id")
        if not native_id:
            raise ValueError(f"native_id is missing (column {self._column('native_id')!r})")
        created = self._time(payload, "created_at")
        if created is None:
            raise ValueError(f"created_at is missing (column {self._column('created_at')!r})")
        title, body = _text(self._value(payload, "title")), _text(self._value(payload, "body"))
        if not title and not body:
            raise ValueError("title and body are both empty")
        kind_of_signal = _text(self._value(payload, "type")) or self.type
        if kind_of_signal not in get_args(SignalType):
            raise ValueError(f"type is none of {', '.join(get_args(SignalType))} (column {self._column('type')!r})")
        return Signal(
            kind="files",
            origin=self.origin,
            native_id=native_id,
            type=kind_of_signal,  # type: ignore[arg-type]  # checked just above
            title=title or "",
            body=body or "",
            created_at=created,
            updated_at=self._time(payload, "updated_at") or created,
            url=self._plain(payload, "url"),
            author=_text(self._value(payload, "author")),
            state=self._plain(payload, "state"),
            labels=_labels(self._value(payload, "labels")),
            product_area=_text(self._value(payload, "product_area")),
            service=_text(self._value(payload, "service")),
            spec_id=self._plain(payload, "spec_id"),
            version=self._plain(payload, "version"),
            severity=self._plain(payload, "severity"),
            rating=self._number(payload, "rating"),
            reactions=self._count(payload, "reactions"),
            customer_value=self._number(payload, "customer_value"),
            locale=self._plain(payload, "locale"),
            thread_count=self._count(payload, "thread_count"),
            first_response_at=self._time(payload, "first_response_at"),
            closed_at=self._time(payload, "closed_at"),
        )

    def _column(self, field: str) -> str:
        return self.columns.get(field, field)

    def _value(self, row: Mapping[str, Any], field: str) -> Any:
        if field in self.constants:
            return self.constants[field]
        return _look_up(row, self.columns.get(field, field))

    def _plain(self, row: Mapping[str, Any], field: str) -> str | None:
        text = _text(self._value(row, field))
        return _CLEANERS[field](text) if text else None

    def _clean(self, row: dict[str, Any]) -> None:
        """Take personal data out of the columns that redaction leaves alone, in place."""
        taken = {self._column(field) for field in _PLAIN if field != "native_id"}
        for field, clean in _CLEANERS.items():
            column = self._column(field)
            if field == "native_id" and column in taken:
                continue  # cleaned as what else it is; ``parse`` makes the id of that
            holder, key = _holder(row, column)
            if holder is None or field in self.constants:
                continue
            value = holder[key]
            if isinstance(value, str):
                holder[key] = clean(value)
            elif field == "native_id":
                text = _text(value)
                holder[key] = value if text is None or clean(text) == text else clean(text)
            elif isinstance(value, list | tuple | dict):
                holder[key] = _each(value, clean)

    def _time(self, row: Mapping[str, Any], field: str) -> dt.datetime | None:
        problem = "is no time of the years 1970 to 2199; write ISO 8601, or seconds or milliseconds since 1970"
        return self._convert(row, field, _time, problem)

    def _number(self, row: Mapping[str, Any], field: str) -> float | None:
        return self._convert(row, field, _number, "is no number")

    def _count(self, row: Mapping[str, Any], field: str) -> int | None:
        return self._convert(row, field, _count, "is no whole number of at most 64 bits")

    def _convert(self, row: Mapping[str, Any], field: str, convert: Callable[[Any], T], problem: str) -> T | None:
        value = self._value(row, field)
        if value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING):
            return None
        try:
            return convert(value)
        except (ValueError, TypeError, OverflowError, OSError):
            raise ValueError(f"{field} {problem} (column {self._column(field)!r})") from None

    def _paths(self) -> list[tuple[Path, str]]:
        """The files, and what each is called in messages: never with the folders above, which may name a person."""
        path = Path(self.path).expanduser()
        if path.is_file():
            return [(path, path.name)]
        if path.is_dir():
            raise SourceError("files", self.origin, f"{self.path} is a folder; write {self.path}/*.jsonl or the like")
        if not _wild(self.path):
            raise SourceError("files", self.origin, f"{self.path} does not exist; correct the option 'path'")
        base = _base(path)
        found = sorted(p for p in base.glob(str(path.relative_to(base))) if p.is_file())
        if not found:
            raise SourceError("files", self.origin, f"nothing matches {self.path}; correct the option 'path'")
        return [(p, p.relative_to(base).as_posix()) for p in found]

    def _rows(self, path: Path, label: str) -> Iterator[Row]:
        readers: dict[str, Callable[[Path], Iterator[Row]]] = {
            **dict.fromkeys((".jsonl", ".ndjson"), _json_rows),
            **dict.fromkeys((".csv", ".tsv"), _csv_rows),
            **dict.fromkeys((".parquet", ".pq"), _parquet_rows),
        }
        reader = readers.get(path.suffix.lower())
        if reader is None:
            hint = "; write one object per line (jq -c '.[]') into a .jsonl" if path.suffix.lower() == ".json" else ""
            raise SourceError(
                "files", self.origin, f"{label} has a suffix we do not read; known: {', '.join(readers)}{hint}"
            )
        try:
            yield from reader(path)
        except (OSError, _UnreadableError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SourceError("files", self.origin, f"{label} could not be read: {reason}") from error

    def _check_columns(self, paths: Sequence[tuple[Path, str]]) -> None:
        """Stop a wrong mapping at the start, naming the nearest column, instead of rejecting every row.

        Reads only until every column has been seen, which is the first row of most files.
        """
        wanted: list[tuple[str, ...]] = [(column,) for column in self.columns.values()]
        wanted += [(self._column(field),) for field in _REQUIRED if field not in self.constants]
        if not {"title", "body"} & self.constants.keys():
            wanted.append((self._column("title"), self._column("body")))
        missing, known = set(wanted), dict[str, None]()
        for row in itertools.chain.from_iterable(self._rows(path, label) for path, label in paths):
            if isinstance(row[1], str):
                continue
            found = row[1]
            known.update(dict.fromkeys(_names(found)))
            missing = {names for names in missing if not any(_has(found, name) for name in names)}
            if not missing:
                return
        if known and missing:
            names = next(names for names in wanted if names in missing)
            ours = {column: field for field, column in self.columns.items()}
            need = " or ".join(dict.fromkeys(ours.get(name, name) for name in names))
            raise SourceError(
                "files",
                self.origin,
                f"no row has a column {' or '.join(map(repr, names))} for {need}; {nearest(names[0], list(known))}; "
                f"set columns: {{{ours.get(names[0], names[0])}: <one of them>}}",
            )


class _UnreadableError(Exception):
    """A file as a whole is not what its suffix says."""


def _wild(path: str) -> bool:
    return any(c in path for c in "*?[")


def _base(path: Path) -> Path:
    """The folder above the first part with a wildcard."""
    parts = list(itertools.takewhile(lambda part: not _wild(part), path.parts))
    return Path(*parts)


def _within(at: dt.datetime, since: dt.datetime | None, until: dt.datetime) -> bool:
    return (since is None or at >= since) and at < until


# Reading


def _json_rows(path: Path) -> Iterator[Row]:
    decoder = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_finite)  # NaN is missing
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if not line:
                continue
            try:
                row = decoder.decode(line.decode("utf-8"))
            except UnicodeDecodeError:
                yield number, "is not UTF-8"
                continue
            except json.JSONDecodeError as error:
                yield number, f"is no JSON: {error.msg} (column {error.colno})"
                continue
            except (ValueError, RecursionError):
                yield number, "is JSON with a number too long or lists too deep"
                continue
            if not isinstance(row, dict):
                yield number, "is JSON, but no object"
                continue
            if line.count(b"[") + line.count(b"{") > DEEPEST and too_deep(row):
                yield number, f"is JSON with lists or objects too deep in each other: more than {DEEPEST} levels"
                continue
            yield number, _mend(row) if b"\\ud" in line or b"\\uD" in line else row


def _finite(written: str) -> float | None:
    number = float(written)
    return number if math.isfinite(number) else None


def _mend(value: Any) -> Any:
    """Halves of surrogate pairs, which no file may hold, become the replacement character."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mend(k): _mend(v) for k, v in value.items()}
    return [_mend(v) for v in value] if isinstance(value, list) else value


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), CSV_FIELD_BYTES))
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline()
        if "\0" in first or not _is_utf8(first):
            raise _UnreadableError("its first line is not UTF-8; save the export as UTF-8")
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t|", key=first.count), strict=True)
        header: list[str] | None = None
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise _UnreadableError(f"its first line is no CSV: {error}") from error
                yield number, f"is no CSV: {error}"
                continue
            if not cells:
                continue
            if header is None:
                header = [name.strip() for name in cells]
                repeated = len(set(header)) < len(header)
            elif len(cells) != len(header):
                yield number, f"has {len(cells)} columns where the first line has {len(header)}"
            elif not all(map(_is_utf8, cells)):
                yield number, "is not UTF-8"
            else:
                yield number, _gathered(header, cells) if repeated else dict(zip(header, cells, strict=True))


def _gathered(header: Iterable[str], cells: Iterable[str]) -> dict[str, Any]:
    """A column that stands several times (labels in Jira's export) becomes one list of what is filled in."""
    row: dict[str, list[str]] = {}
    for name, cell in zip(header, cells, strict=True):
        row.setdefault(name, []).extend([cell] if cell else [])
    return {name: values if len(values) > 1 else "".join(values) for name, values in row.items()}


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parquet_rows(path: Path) -> Iterator[Row]:
    import polars as pl

    number = 0
    try:
        for batch in pl.scan_parquet(path, glob=False).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            for row in batch.iter_rows(named=True):
                number += 1
                yield number, {name: _json_value(value) for name, value in row.items()}
    except pl.exceptions.PolarsError as error:
        raise _UnreadableError(f"it is no complete Parquet file ({type(error).__name__})") from error


def _json_value(value: Any) -> Any:
    """What JSON can hold; times as ISO 8601."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_json_value(v) for v in value]
    if isinstance(value, dict):
        return {k: _json_value(v) for k, v in value.items()}
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# Values


def _look_up(row: Mapping[str, Any], column: str) -> Any:
    """The value under a column or dotted key, None when there is none."""
    if column in row or "." not in column:
        return row.get(column)
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _holder(row: dict[str, Any], column: str) -> tuple[dict[str, Any], str] | tuple[None, str]:
    """The object that holds a column or dotted key, and its name there."""
    if column in row:
        return row, column
    *above, last = column.split(".")
    value: Any = row
    for part in above:
        value = value.get(part) if isinstance(value, dict) else None
    return (value, last) if isinstance(value, dict) and last in value else (None, last)


def _each(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {privacy.redact(name): _each(one, clean) for name, one in value.items()}
    return [_each(one, clean) for one in value] if isinstance(value, list | tuple) else value


def _has(row: Mapping[str, Any], column: str) -> bool:
    if column in row:
        return True
    head, dot, rest = column.partition(".")
    below = row.get(head)
    return bool(dot) and isinstance(below, Mapping) and _has(below, rest)


def _names(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in row.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple):
        return "\n".join(filter(None, map(_text, value))) or None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)


def _labels(value: Any) -> tuple[str, ...]:
    """Labels from a list, or from a string with commas or semicolons; of objects, their name."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = value.strip().strip("[]").replace("'", "")
    if isinstance(value, str):
        value = re.split(r"[,;]", value)
    if not isinstance(value, list | tuple):
        value = [] if value is None else [value]
    names = (_text(v.get("name") if isinstance(v, Mapping) else v) for v in value)
    return tuple(dict.fromkeys(name for name in names if name))


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _count(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError("not whole")
    whole = value if isinstance(value, int) else int(number)
    if not -(2**63) <= whole < 2**63:
        raise ValueError("more than 64 bits")
    return whole


_EARLIEST_EPOCH = 100_000_000  # seconds: 1973; a smaller number is a year or a day, not an epoch


def _time(value: Any) -> dt.datetime:
    """An aware UTC time from ISO 8601 (no zone is UTC), an RFC 5322 date, or seconds, ms, µs or ns since 1970."""
    return real_time(_any_time(value))


def _any_time(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return _in_utc(value)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _epoch(value)
    if not isinstance(value, str):
        raise TypeError("no time")
    text = value.strip()
    try:
        return _in_utc(dt.datetime.fromisoformat(text))
    except ValueError:
        pass
    if re.fullmatch(r"[0-9]{9,19}(\.[0-9]+)?", text):
        return _epoch(float(text) if "." in text else int(text))
    iso = re.sub(r"^([0-9]{4})/([0-9]{2})/([0-9]{2})", r"\1-\2-\3", text)
    iso = re.sub(r"\s*(?:UTC|GMT)$", "+00:00", iso)
    iso = re.sub(r"\s+([+-][0-9]{2}:?[0-9]{2})$", r"\1", iso)
    try:
        return _in_utc(dt.datetime.fromisoformat(iso))
    except ValueError:
        return _in_utc(email.utils.parsedate_to_datetime(text))


def _in_utc(at: dt.datetime) -> dt.datetime:
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)


def _epoch(number: float) -> dt.datetime:
    """Told apart by size: 10^11 seconds is the year 5138, 10^11 milliseconds is 1973."""
    if number < _EARLIEST_EPOCH:
        raise ValueError("too small for a time")
    per_second = 1 if number < 1e11 else 10**3 if number < 1e14 else 10**6 if number < 1e17 else 10**9
    micros = int(number * 1_000_000 // per_second) if isinstance(number, int) else round(number / per_second * 1e6)
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)
