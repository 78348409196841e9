"""What was inferred about each signal: language, kind, severity, duplicates, topic; each value names its model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from feedback_lib import merging, records
from feedback_lib.analysis import duplicates, registry, text, themes, threads, topics, triage
from feedback_lib.analysis.registry import Decision, Proposal

if TYPE_CHECKING:
    from feedback_lib.encoders import Encoder


@dataclasses.dataclass(frozen=True)
class Said:
    """What people decided and said, which goes before what models infer.

    Attributes:
        decisions: about topics, see `decisions`.
        labels: table ``labels``.
        reviewed: the labelled texts, as `labelling.reviewed` gives them; the models learn from them.
        merges: table ``merges``.
    """

    decisions: Sequence[Decision] = ()
    labels: pl.DataFrame | None = None
    reviewed: pl.DataFrame | None = None
    merges: pl.DataFrame | None = None


@dataclasses.dataclass(frozen=True)
class Understood:
    """The understanding of the signals in the fit window, the topic registry after it, and how sure it is."""

    understanding: pl.DataFrame  # table ``understanding``
    topics: pl.DataFrame  # table ``topics``
    proposals: tuple[Proposal, ...]
    notes: tuple[str, ...]  # decisions that could not be followed
    voices: tuple[Sequence[str], np.ndarray[Any, Any]]  # uids of people's texts that can be read, and their vectors
    quality: dict[str, Any]  # languages, unread, no_topic_ratio, duplicates, models, classifier, reviewed, …


def understand(
    signals: pl.DataFrame,
    known: pl.DataFrame,
    topic_table: pl.DataFrame,
    encoder: Encoder,
    options: topics.TopicOptions,
    *,
    as_of: dt.datetime,
    run_id: str,
    said: Said | None = None,
    replies: pl.DataFrame | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Understood:
    """Infer language, kind, sentiment, severity, duplicates and topic.

    Args:
        signals: table ``signals`` of the fit window, one row per signal.
        known: table ``understanding`` as it stood; a text that has not changed keeps its topic.
        topic_table: table ``topics`` as it stood.
        encoder: turns texts into vectors; texts in languages it does not read are glossed into English first.
        options: how topics are fitted.
        as_of: the moment the run pretends is now.
        run_id: the run that infers.
        said: what people decided and said.
        replies: table ``replies`` of the signals; topics are then made of what a thread says, not of its first text.
        progress: called with a line per step.
    """
    said = said or Said()
    signals = signals.sort("created_at", "uid")
    if signals.is_empty():
        nothing = records.frame("understanding", [])
        return Understood(nothing, topic_table, (), (), ((), np.zeros((0, 0))), _quality(None, None, None))
    read = _read(signals, encoder.languages)
    progress(f"… reading {signals.height:,} texts")
    vectors = encoder.encode(read["gloss"].to_list())
    judge = _trained(encoder, options.seed, said.reviewed)
    judged = judge.predict(read["gloss"].to_list(), vectors)
    judged = judged.with_columns(
        pl.when(read["readable"]).then(pl.col(c)).otherwise(None).alias(c) for c in judged.columns
    )
    judged = _as_said(judged, signals["uid"], read["sha256"], said.labels)
    progress("… finding near-duplicates")
    voice = signals["type"].is_in(records.VOICES).to_numpy()
    readable = read["readable"].to_numpy()
    uids = signals["uid"].to_list()
    copies = duplicates.near_copies(uids, read["clean"].to_list(), vectors)
    if said.merges is not None:
        copies = merging.apply(copies, said.merges, uids)
    progress("… giving topics")
    fit = np.flatnonzero(voice & readable)
    unchanged = known.filter(pl.col("topic_id").is_not_null()).join(
        pl.DataFrame({"uid": uids, "text_sha256": read["sha256"]}), on=["uid", "text_sha256"], how="semi"
    )
    model = f"{topics.VERSION}+{encoder.name}"
    before = unchanged["topic_model"].drop_nulls()
    if before.len() and not before.str.ends_with(f"+{encoder.name}").all():  # centres of another encoder say nothing
        topic_table = topic_table.with_columns(centroid=pl.lit([], dtype=pl.List(pl.Float64)))
    texts, topic_vectors = read["gloss"].to_list(), vectors
    if replies is not None and replies.height:
        texts = threads.texts(uids, texts, replies)
        topic_vectors = encoder.encode(texts)
    spoken, spoken_vectors = [uids[i] for i in fit], topic_vectors[fit]
    given = registry.update(
        spoken,
        [texts[i] for i in fit],
        spoken_vectors,
        [signals["created_at"][int(i)] for i in fit],
        dict(unchanged.select("uid", "topic_id").iter_rows()),
        topic_table,
        said.decisions,
        options,
        as_of=as_of,
        run_id=run_id,
    )
    by_uid = dict(zip(spoken, zip(given.topic_ids, given.scores, strict=True), strict=True))
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
        topic_model=pl.lit(model),
        text_sha256=read["sha256"],
        inferred_at=pl.lit(as_of),
        run_id=pl.lit(run_id),
    )
    columns = records.schema("understanding")
    understanding = understanding.select(pl.col(c).cast(t) for c, t in columns.items())
    return Understood(
        understanding,
        themes.arrange(given.topics),
        given.proposals,
        given.notes,
        (spoken, spoken_vectors),
        _quality(understanding, read, judge, voice=voice),
    )


_last: dict[tuple[str, int, str], triage.Triage] = {}


def _trained(encoder: Encoder, seed: int, reviewed: pl.DataFrame | None) -> triage.Triage:
    """The models; those of the run before in this process when they would be the same."""
    key = (encoder.name, seed, reviewed.write_json() if reviewed is not None else "")
    judge = _last.get(key) or triage.train(encoder.encode, seed=seed, reviewed=reviewed)
    _last.clear()
    _last[key] = judge
    return judge


def _read(signals: pl.DataFrame, languages: frozenset[str] | None) -> pl.DataFrame:
    """One row per signal: clean text, language, the text as models read it, whether they can, error fingerprint.

    A text in one of ``languages`` (None: any) is read as it is, another one as its English gloss.
    """
    rows = []
    for title, body, locale in signals.select("title", "body", "locale").iter_rows():
        whole = f"{title}\n{body}".strip()
        rows.append(
            {
                **text.read(whole, locale, languages)._asdict(),
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


def _as_said(judged: pl.DataFrame, uids: pl.Series, sha256: pl.Series, labels: pl.DataFrame | None) -> pl.DataFrame:
    """What a person said of a signal instead of what a model thinks, as long as the text is the one they read."""
    if labels is None or labels.is_empty():
        return judged
    beside = pl.DataFrame({"uid": uids, "text_sha256": sha256}).join(
        labels.select("uid", "text_sha256", "category", "dx_label", "sentiment", "severity_score"),
        on=["uid", "text_sha256"],
        how="left",
        maintain_order="left",
    )
    spoken = {c: beside[c].is_not_null() for c in ("category", "dx_label", "sentiment", "severity_score")}
    label = pl.when(beside["dx_label"] == triage.NONE).then(None).otherwise(beside["dx_label"])
    return judged.with_columns(
        pl.when(spoken["category"]).then(beside["category"]).otherwise(pl.col("category")).alias("category"),
        pl.when(spoken["category"]).then(1.0).otherwise(pl.col("category_score")).alias("category_score"),
        pl.when(spoken["dx_label"]).then(label).otherwise(pl.col("dx_label")).alias("dx_label"),
        pl.when(spoken["dx_label"]).then(1.0).otherwise(pl.col("dx_score")).alias("dx_score"),
        *(pl.when(spoken[c]).then(beside[c]).otherwise(pl.col(c)).alias(c) for c in ("sentiment", "severity_score")),
    )


def _quality(
    understanding: pl.DataFrame | None,
    read: pl.DataFrame | None,
    judge: triage.Triage | None,
    voice: np.ndarray[Any, Any] | None = None,
) -> dict[str, Any]:
    if understanding is None or read is None or judge is None:
        return {
            "languages": [], "unread": 0, "no_topic_ratio": None, "duplicates": 0, "models": {}, "classifier": [],
            "reviewed": [], "abstained_ratio": None,
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
        "reviewed": judge.reviewed_quality,
        "abstained_ratio": readable["category"].is_null().mean(),
    }


def join(signals: pl.DataFrame, understanding: pl.DataFrame) -> pl.DataFrame:
    """Signals beside what was inferred about them, with ``<time>_us`` columns: what trends and the report count."""
    inferred = understanding.drop("created_at", "month", "run_id")
    joined = signals.join(inferred, on="uid", how="left").sort("created_at", "uid")
    times = [c for c, t in joined.schema.items() if isinstance(t, pl.Datetime)]
    return joined.with_columns(pl.col(c).dt.epoch("us").alias(f"{c}_us") for c in times)
