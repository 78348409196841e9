"""What was inferred about each signal: language, kind, severity, duplicates, topic; each value names its model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from feedback_lib import records
from feedback_lib.analysis import text, topics, triage

if TYPE_CHECKING:
    from feedback_lib.encoders import Encoder


@dataclasses.dataclass(frozen=True)
class Understood:
    """The understanding of the signals in the fit window, the topic registry after it, and how sure it is."""

    understanding: pl.DataFrame  # table ``understanding``
    topics: pl.DataFrame  # table ``topics``
    quality: dict[str, Any]  # languages, unread, no_topic_ratio, duplicates, models, classifier, abstained_ratio


def understand(
    signals: pl.DataFrame,
    known: pl.DataFrame,
    registry: pl.DataFrame,
    encoder: Encoder,
    options: topics.TopicOptions,
    *,
    as_of: dt.datetime,
    run_id: str,
    progress: Callable[[str], None] = lambda _: None,
) -> Understood:
    """Infer language, kind, sentiment, severity, duplicates and topic.

    Args:
        signals: table ``signals`` of the fit window, one row per signal.
        known: table ``understanding`` as it stood; topic ids of its rows are kept where topics are recognised.
        registry: table ``topics`` as it stood.
        encoder: turns texts into vectors.
        options: how topics are fitted.
        as_of: the moment the run pretends is now; new topics are born on its day.
        run_id: the run that infers.
        progress: called with a line per step.
    """
    signals = signals.sort("created_at", "uid")
    if signals.is_empty():
        return Understood(records.frame("understanding", []), registry, _quality(None, None, None))
    read = _read(signals)
    progress(f"… reading {signals.height:,} texts")
    vectors = encoder.encode(read["gloss"].to_list())
    judge = triage.train(encoder.encode, seed=options.seed)
    judged = judge.predict(read["gloss"].to_list(), vectors)
    judged = judged.with_columns(
        pl.when(read["readable"]).then(pl.col(c)).otherwise(None).alias(c) for c in judged.columns
    )
    progress("… finding near-duplicates")
    voice = signals["type"].is_in(records.VOICES).to_numpy()
    readable = read["readable"].to_numpy()
    uids = signals["uid"].to_list()
    copies = text.near_duplicates(uids, read["clean"].to_list(), vectors)
    progress("… fitting topics")
    fit = np.flatnonzero(voice & readable)
    labels, scores, registry = _topics(
        [uids[i] for i in fit],
        [read["gloss"][int(i)] for i in fit],
        vectors[fit],
        signals,
        known,
        registry,
        options,
        as_of,
        run_id,
    )
    by_uid = dict(zip((uids[i] for i in fit), zip(labels, scores, strict=True), strict=True))
    none: tuple[int | None, float | None] = (None, None)
    understanding = signals.select("uid", "created_at", "month").with_columns(
        language=read["language"],
        **{c: judged[c] for c in judged.columns},
        duplicate_of=pl.Series([copies.get(u) for u in uids], dtype=pl.String),
        topic_id=pl.Series([by_uid.get(u, none)[0] for u in uids], dtype=pl.Int64),
        topic_score=pl.Series([by_uid.get(u, none)[1] for u in uids], dtype=pl.Float64),
        fingerprint=read["fingerprint"],
        language_model=pl.lit(text.LANGUAGE_MODEL),
        triage_model=pl.lit(judge.version),
        topic_model=pl.lit(f"{topics.VERSION}+{encoder.name}"),
        text_sha256=read["sha256"],
        inferred_at=pl.lit(as_of),
        run_id=pl.lit(run_id),
    )
    columns = records.schema("understanding")
    understanding = understanding.select(pl.col(c).cast(t) for c, t in columns.items())
    return Understood(understanding, registry, _quality(understanding, read, judge, voice=voice))


def _read(signals: pl.DataFrame) -> pl.DataFrame:
    """One row per signal: clean text, language, English gloss, whether the models can read it, error fingerprint."""
    rows = []
    for title, body, locale in signals.select("title", "body", "locale").iter_rows():
        whole = f"{title}\n{body}".strip()
        clean = text.clean(whole)
        language = text.language(clean, hint=locale)
        gloss, share = text.gloss(clean, language)
        rows.append(
            {
                "clean": clean,
                "language": language,
                "gloss": gloss,
                "readable": share >= text.READABLE and bool(gloss.strip()),
                "fingerprint": text.fingerprint(whole),
                "sha256": hashlib.sha256(whole.encode()).hexdigest(),
            }
        )
    return pl.DataFrame(
        rows,
        schema={
            "clean": pl.String, "language": pl.String, "gloss": pl.String, "readable": pl.Boolean,
            "fingerprint": pl.String, "sha256": pl.String,
        },
    )  # fmt: skip


def _topics(
    uids: list[str],
    texts: list[str],
    vectors: np.ndarray[Any, Any],
    signals: pl.DataFrame,
    known: pl.DataFrame,
    registry: pl.DataFrame,
    options: topics.TopicOptions,
    as_of: dt.datetime,
    run_id: str,
) -> tuple[list[int | None], list[float | None], pl.DataFrame]:
    """Fit the window, recognise the topics that were there before, and bring the registry up to date."""
    if len(uids) < options.min_size * 4:
        return [None] * len(uids), [None] * len(uids), registry
    model = topics.fit(texts, vectors, options)
    previous: Mapping[str, int] = dict(
        known.filter(pl.col("topic_id").is_not_null()).select("uid", "topic_id").iter_rows()
    )
    next_id = int(registry["topic_id"].max() or 0) + 1 if registry.height else 1  # type: ignore[arg-type]
    stable = _returned(topics.keep_ids(model.labels, uids, previous, next_id), next_id, model.labels, uids, registry)
    central, dissenting = topics.representatives(model, vectors)
    created = dict(signals.select("uid", "created_at").iter_rows())
    born = dict(registry.select("topic_id", "born_on").iter_rows())
    rows = []
    for label, topic_id in stable.items():
        members = [uids[i] for i in np.flatnonzero(model.labels == label)]
        rows.append(
            records.TopicRow(
                topic_id=topic_id,
                name=model.names[label],
                named_by=None,
                pinned=False,
                theme_id=None,
                theme=None,
                words=model.words[label],
                examples=tuple(uids[i] for i in central[label]),
                dissenting=tuple(uids[i] for i in dissenting[label]),
                born_on=born.get(topic_id) or min(created[u] for u in members).date(),
                retired_on=None,
                parents=(),
                size=len(members),
                centroid=tuple(model.centroids[label].tolist()),
                least=options.weak,
                updated_at=as_of,
                run_id=run_id,
            )
        )
    fresh = records.frame("topics", rows)
    others = registry.filter(~pl.col("topic_id").is_in(fresh["topic_id"].implode()))
    leaving = others.filter(pl.col("retired_on").is_null()).with_columns(
        retired_on=pl.lit(as_of.date()), updated_at=pl.lit(as_of), run_id=pl.lit(run_id)
    )
    merged = pl.concat([fresh, leaving, others.filter(pl.col("retired_on").is_not_null())]).sort("topic_id")
    ids = [stable.get(int(label)) for label in model.labels]
    return ids, [float(s) if i is not None else None for s, i in zip(model.scores, ids, strict=True)], merged


def _returned(
    stable: Mapping[int, int], next_id: int, labels: np.ndarray[Any, Any], uids: list[str], registry: pl.DataFrame
) -> dict[int, int]:
    """The ids, where a topic that would be new but holds most examples of a retired one takes that one's id back."""
    retired = registry.filter(pl.col("retired_on").is_not_null()).select("topic_id", "examples").rows()
    label_of = dict(zip(uids, labels.tolist(), strict=True))
    kept = dict(stable)
    for topic_id, examples in retired:
        found = [label_of.get(uid, -1) for uid in examples]
        label = max(set(found), key=found.count, default=-1)
        if kept.get(label, 0) >= next_id and 2 * found.count(label) > len(found):
            kept[label] = topic_id
    return kept


def _quality(
    understanding: pl.DataFrame | None,
    read: pl.DataFrame | None,
    judge: triage.Triage | None,
    voice: np.ndarray[Any, Any] | None = None,
) -> dict[str, Any]:
    if understanding is None or read is None or judge is None:
        return {
            "languages": [], "unread": 0, "no_topic_ratio": None, "duplicates": 0, "models": {}, "classifier": [],
            "abstained_ratio": None,
        }  # fmt: skip
    heard = understanding.with_columns(readable=read["readable"]).filter(pl.Series(voice))
    languages = (
        heard.group_by("language")
        .agg(signals=pl.len(), read=pl.col("readable").mean() >= 0.5)
        .sort("signals", "language", descending=[True, False])
    )
    readable = heard.filter("readable")
    first = understanding.row(0, named=True)
    return {
        "languages": languages.to_dicts(),
        "unread": heard.height - readable.height,
        "no_topic_ratio": readable["topic_id"].is_null().mean(),
        "duplicates": heard["duplicate_of"].count(),
        "models": {c: first[c] for c in ("language_model", "triage_model", "topic_model")},
        "classifier": judge.quality,
        "abstained_ratio": readable["category"].is_null().mean(),
    }


def join(signals: pl.DataFrame, understanding: pl.DataFrame) -> pl.DataFrame:
    """Signals beside what was inferred about them, with ``<time>_us`` columns: what trends and the report count."""
    inferred = understanding.drop("created_at", "month", "run_id")
    joined = signals.join(inferred, on="uid", how="left").sort("created_at", "uid")
    times = [c for c, t in joined.schema.items() if isinstance(t, pl.Datetime)]
    return joined.with_columns(pl.col(c).dt.epoch("us").alias(f"{c}_us") for c in times)
