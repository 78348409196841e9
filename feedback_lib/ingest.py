"""From sources into the store: archive each item, understand its shape, quarantine what does not load."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from feedback_lib import privacy, records
from feedback_lib.errors import SourceError
from feedback_lib.records import Item, Rejected, Signal
from feedback_lib.sources import Source
from feedback_lib.store import Store

logger = logging.getLogger(__name__)
BATCH = 20_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceResult:
    """What one source gave in one run.

    ``watermark`` is where it stands after the run, unmoved when it failed or was left out (``not_read``).
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
    """Read every source into ``raw``, ``signals`` and ``quarantine``; a broken one does not stop the others.

    Args:
        sources: (kind, plug-in) pairs.
        store: where they go; its key pseudonymises people.
        since: read items from here on; None reads everything a source has.
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
        started = time.perf_counter()
        result = _gather_one(kind, source, store, since, until, fetched_at, run_id, key, progress)
        result = dataclasses.replace(result, seconds=round(time.perf_counter() - started, 2))
        logger.log(
            logging.WARNING if result.status == "failed" else logging.INFO,
            "source=%s status=%s fetched=%d new=%d updated=%d rejected=%d seconds=%.1f",
            *(result.name, result.status, result.read, result.new, result.updated, result.rejected, result.seconds),
        )
        results.append(result)
    return results


def _gather_one(
    kind: str,
    source: Source,
    store: Store,
    since: dt.datetime | None,
    until: dt.datetime,
    fetched_at: dt.datetime,
    run_id: str,
    key: bytes,
    progress: Callable[[str], None],
) -> SourceResult:
    origin = source.origin
    name = f"{kind}:{origin}"
    read = new = updated = rejected = 0
    watermark = before = store.watermark(name)
    refused: set[str] = set()
    try:
        for batch in _batches(source.fetch(since, until), BATCH):
            raws, signals, bad = [], [], []
            for item in batch:
                if isinstance(item, Rejected):
                    bad.append((item.where, item.reason))
                    continue
                read += 1
                payload = privacy.scrub(
                    item.payload, personal=source.personal_fields, plain=source.plain_fields, key=key
                )
                try:
                    signal = source.parse(payload)
                except ValueError as problem:
                    bad.append((item.where, str(problem)))
                    continue
                signals.append(_signal_row(signal, key, run_id))
                raws.append(_raw_row(signal, payload, fetched_at, run_id))
                seen = min(signal.updated_at, until)  # an item may have been updated since
                watermark = max(watermark or seen, seen)
            if raws:
                store.upsert("raw", records.frame("raw", raws))
                written = store.upsert("signals", records.frame("signals", signals))
                new, updated = new + written.inserted, updated + written.updated
            if bad:
                rejected += len(bad)
                refused.update(where for where, _ in bad)
                rows = [_quarantine_row(kind, origin, where, reason, fetched_at, run_id) for where, reason in bad]
                store.upsert("quarantine", records.frame("quarantine", rows))
            progress(f"{name}: {read:,} read, {new:,} new, {rejected:,} quarantined")
    except SourceError as problem:
        return SourceResult(
            name=name, kind=kind, origin=origin, status="failed", read=read, new=new, updated=updated,
            rejected=rejected, error=privacy.redact(str(problem)), watermark=before,
        )  # fmt: skip
    if since is None:
        _resolve(store, kind, origin, refused, fetched_at, run_id)
    if watermark and watermark != before:
        row = records.WatermarkRow(source=name, watermark=watermark, rows=read, updated_at=fetched_at, run_id=run_id)
        store.upsert("watermarks", records.frame("watermarks", [row]))
    return SourceResult(
        name=name, kind=kind, origin=origin, status="ok" if read else "empty", read=read, new=new, updated=updated,
        rejected=rejected, watermark=watermark,
    )  # fmt: skip


def left_out(sources: Sequence[tuple[str, Source]], store: Store) -> list[SourceResult]:
    """Results for sources that a run does not read: where they stand."""
    return [
        SourceResult(
            name=f"{kind}:{source.origin}", kind=kind, origin=source.origin, status="not_read",
            watermark=store.watermark(f"{kind}:{source.origin}"),
        )
        for kind, source in sources
    ]  # fmt: skip


def _resolve(store: Store, kind: str, origin: str, refused: set[str], at: dt.datetime, run_id: str) -> None:
    """Mark what stood in quarantine and loads, or is gone, now that the whole source was read."""
    mine = (pl.col("kind") == kind) & (pl.col("origin") == origin) & pl.col("resolved_at").is_null()
    done = store.read("quarantine").filter(mine & ~pl.col("where").is_in(list(refused)))
    if done.height:
        store.upsert("quarantine", done.with_columns(resolved_at=pl.lit(at), seen_at=pl.lit(at), run_id=pl.lit(run_id)))


def _batches(items: Iterator[Item | Rejected], size: int) -> Iterator[list[Item | Rejected]]:
    batch: list[Item | Rejected] = []
    for item in items:
        batch.append(item)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _signal_row(signal: Signal, key: bytes, run_id: str) -> dict[str, Any]:
    row = {f.name: getattr(signal, f.name) for f in dataclasses.fields(signal)}
    author = row["author"]
    row.update(
        uid=signal.uid,
        author=privacy.pseudonym(author, key) if author else None,  # a no-op on what is one already
        labels=list(signal.labels),
        month=records.month(signal.created_at),
        run_id=run_id,
    )
    return row


def _raw_row(signal: Signal, payload: Mapping[str, Any], fetched_at: dt.datetime, run_id: str) -> dict[str, Any]:
    text = json.dumps(payload, ensure_ascii=False, sort_keys=True, default=str)
    return {
        "uid": signal.uid,
        "kind": signal.kind,
        "origin": signal.origin,
        "native_id": signal.native_id,
        "created_at": signal.created_at,
        "updated_at": signal.updated_at,
        "fetched_at": fetched_at,
        "payload": text,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "month": records.month(signal.created_at),
        "run_id": run_id,
    }


def _quarantine_row(kind: str, origin: str, where: str, reason: str, at: dt.datetime, run_id: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "origin": origin,
        "where": where,
        "reason": privacy.redact(reason),
        "seen_at": at,
        "resolved_at": None,
        "run_id": run_id,
    }
