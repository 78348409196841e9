"""From sources into the store: archive each item, understand its shape, quarantine what does not load.

Everything is written in batches by key, and a source's cursor after the batch it speaks of: a run that is killed
loses at most one batch of reading, and reading it again changes nothing.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import time
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import orjson
import polars as pl

from feedback_lib import privacy, records
from feedback_lib.analysis import threads
from feedback_lib.errors import FeedbackError, SourceError
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal
from feedback_lib.sources import DEEPEST, Source, too_deep
from feedback_lib.store import Store

logger = logging.getLogger(__name__)
T = TypeVar("T", Signal, Reply, Item)
BATCH = 5_000  # items between two commits
BATCH_S = 3.0  # and the longest time, for services that are slow to give so many
_AHEAD = dt.timedelta(days=1)  # by how much a clock may have been put back since the last run


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceResult:
    """What one source gave in one run.

    ``watermark`` is where it stands after the run: of a source that failed it is where it can go on, of one that was
    left out (``not_read``) where it stood.
    """

    name: str
    kind: str
    origin: str
    status: Literal["ok", "empty", "failed", "not_read"]
    read: int = 0
    new: int = 0
    updated: int = 0
    rejected: int = 0
    error: str | None = None
    watermark: dt.datetime | None = None
    seconds: float = 0.0


def gather(
    sources: Sequence[tuple[str, Source]],
    store: Store,
    *,
    since: dt.datetime | None,
    until: dt.datetime,
    fetched_at: dt.datetime,
    run_id: str,
    progress: Callable[[str], None] = lambda _: None,
) -> list[SourceResult]:
    """Read every source into ``raw``, ``signals``, ``replies`` and ``quarantine``; a broken one stops no other.

    Args:
        sources: (kind, plug-in) pairs.
        store: where they go; its key pseudonymises people.
        since: read items from here on; None goes on where each source stands, and reads the others whole.
        until: the moment the run pretends is now, exclusive.
        fetched_at: when the items were read.
        run_id: the run that reads.
        progress: called with a line per batch.

    Returns:
        One result per source, in the order given.
    """
    key = privacy.load_key(store.path)
    results = []
    for kind, source in sources:
        reading = _Reading(kind, source, store, key, fetched_at, run_id)
        result = reading.run(since, until, progress)
        logger.log(
            logging.WARNING if result.status == "failed" else logging.INFO,
            "source=%s status=%s fetched=%d new=%d updated=%d rejected=%d seconds=%.1f",
            *(result.name, result.status, result.read, result.new, result.updated, result.rejected, result.seconds),
        )
        results.append(result)
    return results


def reparse(
    sources: Sequence[tuple[str, Source]],
    store: Store,
    *,
    at: dt.datetime,
    run_id: str,
    progress: Callable[[str], None] = lambda _: None,
) -> list[SourceResult]:
    """Rebuild signals and replies from the archive, without asking any service; arguments as `gather`."""
    key = privacy.load_key(store.path)
    return [_Reading(kind, source, store, key, at, run_id).again(progress) for kind, source in sources]


def left_out(sources: Sequence[tuple[str, Source]], store: Store) -> list[SourceResult]:
    """Results for sources that a run does not read: where they stand."""
    return [
        SourceResult(
            name=f"{kind}:{source.origin}", kind=kind, origin=source.origin, status="not_read",
            watermark=store.watermark(f"{kind}:{source.origin}"),
        )
        for kind, source in sources
    ]  # fmt: skip


class _Reading:
    """One source on its way into the store."""

    def __init__(self, kind: str, source: Source, store: Store, key: bytes, at: dt.datetime, run_id: str) -> None:
        self.kind, self.source, self.store, self.key, self.at, self.run_id = kind, source, store, key, at, run_id
        self.origin = source.origin
        self.name = f"{kind}:{self.origin}"
        self.read = self.new = self.updated = self.rejected = 0
        self.refused: set[str] = set()
        self.newest: dt.datetime | None = None
        self.began = time.perf_counter()
        mine = (pl.col("kind") == kind) & (pl.col("origin") == self.origin)
        self.open = store.read("quarantine").filter(mine & pl.col("resolved_at").is_null())
        self.waiting = set(self.open["where"])
        self.loaded: set[str] = set()  # of those

    def run(self, since: dt.datetime | None, until: dt.datetime, progress: Callable[[str], None]) -> SourceResult:
        """Read it to its end, or up to where it breaks."""
        stood = self.store.standing(self.name) or {}
        cursor = self._cursor(stood) if since is None else None
        before: dt.datetime | None = stood.get("watermark")
        mark: Checkpoint | None = None
        batch: list[Item | Rejected] = []
        meter = _Meter(self.name, until, progress)
        problem: SourceError | None = None
        flushed = time.monotonic()
        self._stand(stood, None, "reading", None)  # a run that is killed leaves threads to bring up to date
        try:
            for found in self._fetched(since, until, cursor):
                if not isinstance(found, Checkpoint):
                    batch.append(found)
                    if len(batch) >= 4 * BATCH or (mark is None and len(batch) >= BATCH):
                        batch = self._flush(batch)
                    continue
                mark = found
                meter.at(self.read + len(batch), found.watermark)
                if len(batch) >= BATCH or time.monotonic() - flushed > BATCH_S:
                    batch = self._flush(batch)
                    if since is None:
                        self._stand(stood, _onward(mark, before, cursor), "reading", None)
                    flushed = time.monotonic()
        except SourceError as error:
            problem = error
        self._flush(batch)
        if self.new or self.updated or stood.get("status") != "ok":
            self._rethread()
        whole = since is None and mark is None and problem is None
        self._resolve(whole=whole)
        if mark is None and problem is None:  # read whole each time; what broke off at once stands where it stood
            mark = Checkpoint({}, _later(before, self.newest and min(self.newest, until)))
        elif since is not None:  # reading again from a day moves no cursor
            mark = None
        mark = _onward(mark, before, cursor)
        status: Literal["ok", "empty", "failed"] = "failed" if problem else "ok" if self.read else "empty"
        told = _utf8(privacy.redact(str(problem))) if problem else None
        self._stand(stood, mark, status, told)
        progress(f"{self.name}: {self.read:,} read, {self.new:,} new, {self.rejected:,} quarantined")
        return self._result(status, told, mark.watermark if mark else before)

    def _cursor(self, stood: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Where to go on; None, for the beginning, when what was kept is no cursor or is ahead of the clock."""
        kept, mark = stood.get("cursor"), stood.get("watermark")
        if not kept:
            return None
        try:
            cursor = json.loads(kept)
        except ValueError:
            cursor = None
        if isinstance(cursor, dict) and not (mark and mark > self.at + _AHEAD):
            return cursor
        why = f"{mark:%Y-%m-%d}, where it stood, is yet to come" if isinstance(cursor, dict) else "its mark is damaged"
        logger.warning("source=%s is read from the beginning, because %s", self.name, why)
        return None

    def _fetched(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None
    ) -> Iterator[Item | Rejected | Checkpoint]:
        """What the source gives; whatever breaks in its plug-in is a SourceError, so that the other sources go on."""
        given = False
        try:
            for found in self.source.fetch(since, until, cursor):
                given = True
                yield found
        except SourceError:
            raise
        except FeedbackError as error:
            raise SourceError(self.kind, self.origin, str(error)) from error
        except Exception as error:
            logger.debug("source=%s broke", self.name, exc_info=True)
            if cursor and not given:
                told = "source=%s is read from the beginning, because it cannot go on from its mark (%s)"
                logger.warning(told, self.name, type(error).__name__)
                yield from self._fetched(since, until, None)
                return
            words = f"its plug-in broke ({type(error).__name__}); please report"
            raise SourceError(self.kind, self.origin, words) from error

    def again(self, progress: Callable[[str], None]) -> SourceResult:
        """Parse what the archive holds of it; what does not load any more stays as it was, and is in quarantine."""
        for replies in (True, False):  # first, so that signals see them as they are now
            for batch in self._archived(replies=replies):
                self._flush(batch)
                progress(f"… {self.name}: {self.read:,} read again")
        self._rethread()
        self._resolve(whole=False)
        progress(f"{self.name}: {self.read:,} read again, {self.updated:,} changed, {self.rejected:,} quarantined")
        return self._result("ok" if self.read else "empty", None, self.store.watermark(self.name))

    def _archived(self, *, replies: bool) -> Iterator[list[Item | Rejected]]:
        mine = (pl.col("kind") == self.kind) & (pl.col("origin") == self.origin)
        mine &= pl.col("parent").is_not_null() == replies
        archive = self.store.scan("raw").to_native().filter(mine)
        fields = ("payload", "where", "native_id", "created_at", "updated_at", "parent")
        for part in archive.select(fields).collect_batches(chunk_size=BATCH, maintain_order=False):
            yield [Item(json.loads(row[0]), row[1] or row[2], *row[2:]) for row in part.iter_rows()]

    def _flush(self, batch: Iterable[Item | Rejected]) -> list[Item | Rejected]:
        """Write a batch: the archive first, so that what cannot be parsed today is not lost; returns an empty one."""
        raws: list[dict[str, Any]] = []
        signals: list[dict[str, Any]] = []
        replies: list[dict[str, Any]] = []
        bad: list[tuple[str, str]] = []
        batch = [_storable(found) for found in batch]
        places = privacy.redact_all([found.where for found in batch])
        items = [(where, item) for where, item in zip(places, batch, strict=True) if isinstance(item, Item)]
        bad += ((where, bad.reason) for where, bad in zip(places, batch, strict=True) if isinstance(bad, Rejected))
        self.read += len(items)
        payloads = privacy.scrub_all(
            (item.payload for _, item in items),
            personal=self.source.personal_fields,
            plain=self.source.plain_fields,
            key=self.key,
        )
        for (where, item), scrubbed in zip(items, payloads, strict=True):
            text, payload = _archivable(scrubbed)
            raws.append(self._raw_row(item, where, text))
            try:
                if item.parent is None:
                    signals.append(self._signal_row(_fitting(self.source.parse(payload), _SIGNAL_KINDS)))
                else:
                    replies.append(self._reply_row(_fitting(self.source.reply(payload), _REPLY_KINDS)))
            except ValueError as problem:
                bad.append((where, str(problem)))
                continue
            except Exception as problem:  # noqa: BLE001 - whatever a plug-in raises costs its item
                bad.append((where, f"was not understood ({type(problem).__name__}: {problem})"))
                continue
            if where in self.waiting:
                self.loaded.add(where)
            if self.newest is None or item.updated_at > self.newest:
                self.newest = item.updated_at
        self._write(raws, signals, replies, bad)
        return []

    def _write(
        self,
        raws: list[dict[str, Any]],
        signals: list[dict[str, Any]],
        replies: list[dict[str, Any]],
        bad: list[tuple[str, str]],
    ) -> None:
        if raws:
            self.store.upsert("raw", records.frame("raw", raws))
        if replies:
            written = self.store.upsert("replies", records.frame("replies", replies))
            self.new, self.updated = self.new + written.inserted, self.updated + written.updated
        if signals:
            frame = records.frame("signals", signals)
            if self.store.version("replies") is not None:
                frame = threads.with_replies(frame, self.store.scan("replies").to_native())
            written = self.store.upsert("signals", frame)
            self.new, self.updated = self.new + written.inserted, self.updated + written.updated
        if bad:
            self.rejected += len(bad)
            self.refused.update(where for where, _ in bad)
            rows = [self._quarantine_row(where, reason) for where, reason in bad]
            self.store.upsert("quarantine", records.frame("quarantine", rows))

    def _rethread(self) -> None:
        """Bring the signals up to date whose replies came after them."""
        if self.store.version("replies") is None:
            return
        mine = (pl.col("kind") == self.kind) & (pl.col("origin") == self.origin)
        signals = self.store.scan("signals").to_native().filter(mine)
        had = signals.select("uid", "author", "month", *threads.FIELDS).collect(engine="streaming")
        have = threads.with_replies(had, self.store.scan("replies").to_native().filter(mine))
        other = pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}_had")) for c in threads.FIELDS)
        changed = have.join(had.select("uid", *threads.FIELDS), on="uid", suffix="_had").filter(other)
        columns = list(records.schema("signals"))
        for part in changed.partition_by("month"):  # a month at a time bounds the memory
            rows = signals.filter(pl.col("month") == part["month"][0]).select(columns)
            rows = rows.join(part.lazy().select("uid"), on="uid", how="semi").collect(engine="streaming")
            rows = rows.update(part.select("uid", *threads.FIELDS), on="uid").with_columns(run_id=pl.lit(self.run_id))
            self.store.upsert("signals", rows.select(columns))

    def _resolve(self, *, whole: bool) -> None:
        """Mark what stood in quarantine and loads now, or is gone now that the ``whole`` source was read."""
        gone = ~pl.col("where").is_in(list(self.refused))
        done = self.open.filter(gone if whole else gone & pl.col("where").is_in(list(self.loaded)))
        if done.height:
            row = {"resolved_at": self.at, "seen_at": self.at}
            done = done.with_columns(run_id=pl.lit(self.run_id), **{c: pl.lit(at) for c, at in row.items()})
            self.store.upsert("quarantine", done)

    def _stand(self, stood: Mapping[str, Any], mark: Checkpoint | None, status: str, error: str | None) -> None:
        """Write down where the source stands; without a ``mark`` it stays where it stood."""
        row = records.WatermarkRow(
            source=self.name,
            watermark=mark.watermark if mark else stood.get("watermark"),
            cursor=(json.dumps(mark.cursor) if mark.cursor else None) if mark else stood.get("cursor"),
            rows=self.read,
            status=status,
            error=error,
            complete_at=self.at if status in ("ok", "empty") else stood.get("complete_at"),
            updated_at=max(self.at, stood.get("updated_at") or self.at),
            run_id=self.run_id,
        )
        self.store.upsert("watermarks", records.frame("watermarks", [row]))

    def _result(
        self, status: Literal["ok", "empty", "failed"], error: str | None, watermark: dt.datetime | None
    ) -> SourceResult:
        return SourceResult(
            name=self.name, kind=self.kind, origin=self.origin, status=status, read=self.read, new=self.new,
            updated=self.updated, rejected=self.rejected, error=error, watermark=watermark,
            seconds=round(time.perf_counter() - self.began, 2),
        )  # fmt: skip

    def _signal_row(self, signal: Signal) -> dict[str, Any]:
        row = {name: getattr(signal, name) for name in _SIGNAL_FIELDS}
        row.update(
            uid=signal.uid,
            author=privacy.pseudonym(signal.author, self.key) if signal.author else None,  # a no-op on what is one
            labels=list(signal.labels),
            month=records.month(signal.created_at),
            run_id=self.run_id,
        )
        return row

    def _reply_row(self, reply: Reply) -> dict[str, Any]:
        row = {name: getattr(reply, name) for name in _REPLY_FIELDS}
        row.update(
            uid=reply.uid,
            signal=reply.signal,
            author=privacy.pseudonym(reply.author, self.key) if reply.author else None,
            month=records.month(reply.created_at),
            run_id=self.run_id,
        )
        return row

    def _raw_row(self, item: Item, where: str, text: bytes) -> dict[str, Any]:
        return {
            "uid": records.uid(self.kind, self.origin, item.native_id),
            "kind": self.kind,
            "origin": self.origin,
            "native_id": item.native_id,
            "parent": item.parent,
            "where": where,
            "created_at": item.created_at,
            "updated_at": item.updated_at,
            "fetched_at": self.at,
            "payload": text.decode(),
            "sha256": hashlib.sha256(text).hexdigest(),
            "month": records.month(item.created_at),
            "run_id": self.run_id,
        }

    def _quarantine_row(self, where: str, reason: str) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "origin": self.origin,
            "where": where,
            "reason": _utf8(privacy.redact(reason)),
            "seen_at": self.at,
            "resolved_at": None,
            "run_id": self.run_id,
        }


_SIGNAL_FIELDS = tuple(f.name for f in dataclasses.fields(Signal))
_REPLY_FIELDS = tuple(f.name for f in dataclasses.fields(Reply))


def _kinds(record: type) -> dict[str, tuple[type, ...]]:
    """By field the Python types it may hold."""
    kinds = {}
    for name, hint in typing.get_type_hints(record).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        plain = [{Literal: str, None: part}.get(origin := typing.get_origin(part), origin) for part in parts]
        kinds[name] = tuple([*plain, int] if float in plain else plain)
    return kinds


_SIGNAL_KINDS, _REPLY_KINDS, _ITEM_KINDS = _kinds(Signal), _kinds(Reply), _kinds(Item)


def _fitting(record: T, kinds: Mapping[str, tuple[type, ...]]) -> T:
    """The record; ValueError when a field holds what its column cannot, so that this item alone is quarantined."""
    for name, allowed in kinds.items():
        value = getattr(record, name)
        if not isinstance(value, allowed) or isinstance(value, bool) is not (bool in allowed and value is not None):
            raise ValueError(f"{name} is of another kind ({type(value).__name__})")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise ValueError(f"{name} is a number of more than 64 bits")
        if type(value) is tuple and not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name} holds something that is no text")
    return record


def _storable(found: Item | Rejected) -> Item | Rejected:
    """What was found, in quarantine if it is an item that no archive can hold."""
    if isinstance(found, Rejected):
        return Rejected(_utf8(str(found.where)), str(found.reason))
    try:
        _fitting(found, _ITEM_KINDS)
        if too_deep(found.payload):
            raise ValueError(f"has more than {DEEPEST} lists or objects in each other")
        if found.created_at.tzinfo is None or found.updated_at.tzinfo is None:
            raise ValueError("has a time without a zone")
        found.native_id.encode()
        return dataclasses.replace(found, where=_utf8(found.where))
    except ValueError as problem:
        return Rejected(_utf8(str(found.where or found.native_id)), str(problem))


class _Meter:
    """A line that says how fast a source is read, how far it is, and how long it may take."""

    def __init__(self, name: str, until: dt.datetime, progress: Callable[[str], None]) -> None:
        self.name, self.until, self.progress = name, until, progress
        self.began = self.told = time.monotonic()
        self.first: dt.datetime | None = None

    def at(self, read: int, watermark: dt.datetime | None) -> None:
        now = time.monotonic()
        self.first = self.first or watermark
        if now - self.told < 0.5:
            return
        self.told = now
        words = f"… {self.name}: {read:,} read, {read / (now - self.began):,.0f}/s"
        if watermark and self.first:
            words += f", up to {watermark:%Y-%m-%d}"
            done, whole = watermark - self.first, self.until - self.first
            if dt.timedelta() < whole * 0.01 < done:
                words += f", about {_duration((now - self.began) * (whole / done - 1))} left"
        self.progress(words)


def _onward(mark: Checkpoint | None, before: dt.datetime | None, cursor: Mapping[str, Any] | None) -> Checkpoint | None:
    """The mark; None when it lies before the one that was gone on from, as of a run that pretends an earlier day."""
    back = mark and cursor is not None and before and mark.watermark and mark.watermark < before
    return None if back else mark


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _later(one: dt.datetime | None, other: dt.datetime | None) -> dt.datetime | None:
    return max((at for at in (one, other) if at), default=None)


def _archivable(payload: Mapping[str, Any]) -> tuple[bytes, Mapping[str, Any]]:
    """A payload as JSON, and as that is read again: half a character, where a service cut a text, becomes ``?``."""
    try:
        return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS, default=str), payload
    except TypeError:  # such halves, or whole numbers of more than 64 bits
        text = _utf8(json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str))
        return text.encode(), json.loads(text)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
