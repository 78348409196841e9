"""A small made-up world of understood feedback, the same on every call: what trends, suggestions and reports read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from feedback_lib import records

WEEK = dt.date(2026, 11, 9)
AS_OF = dt.datetime(2026, 11, 16, 6, 10, tzinfo=dt.UTC)

SCHEMA = {
    "uid": pl.String, "kind": pl.String, "origin": pl.String, "url": pl.String, "type": pl.String,
    "title": pl.String, "body": pl.String, "author": pl.String, "created_at": pl.Datetime("us", "UTC"),
    "updated_at": pl.Datetime("us", "UTC"), "state": pl.String, "product_area": pl.String, "service": pl.String,
    "spec_id": pl.String, "version": pl.String, "severity": pl.String, "rating": pl.Float64, "reactions": pl.Int64,
    "customer_value": pl.Float64, "first_response_at": pl.Datetime("us", "UTC"),
    "closed_at": pl.Datetime("us", "UTC"), "language": pl.String, "category": pl.String,
    "category_score": pl.Float64, "dx_label": pl.String, "sentiment": pl.Float64, "severity_score": pl.Float64,
    "duplicate_of": pl.String, "topic_id": pl.Int64, "topic_score": pl.Float64, "fingerprint": pl.String,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Story:
    """What the signals of one topic look like."""

    name: str
    words: tuple[str, ...]
    category: str | None
    dx_label: str | None
    sentiment: float
    severity: float
    area: str | None
    texts: tuple[tuple[str, str], ...]  # title, body
    usual: int
    fingerprint: str | None = None
    type: str = "ticket"
    origin: str = "support"


STORIES: dict[int, Story] = {
    1: Story("export slow timeout", ("export", "slow", "timeout"), "bug_report", "DX Friction", -0.6, 0.8, "export",
             (("Export hangs", "The nightly export is slow and then runs into a timeout after 60 seconds."),
              ("Export takes minutes", "Since last week the export takes minutes, it used to take seconds."),
              ("Latency of exports", "Export latency went through the roof, our job gives up.")), 8),
    2: Story("webhook signature guide", ("webhook", "signature", "docs"), "documentation", "Documentation Gap", -0.3,
             0.4, "webhooks",
             (("Which header?", "The guide for webhook signatures never says which header holds the digest."),
              ("Docs unclear", "I read the signature page three times and still guess the encoding."),
              ("Example missing", "An example in Go for checking signatures would help.")), 6),
    3: Story("live logs", ("live", "logs"), "praise", "DX Delight", 0.8, 0.1, "console",
             (("Live logs!", "Live logs are the best thing you have shipped this year."),
              ("Thank you", "Watching a deploy in live logs saves me an hour a week."),
              ("Love it", "The new log view is fast and calm.")), 6, origin="forum"),
    4: Story("rename a project", ("rename", "project"), "feature_request", "Missing Capability", -0.1, 0.3, "console",
             (("Rename", "Please let us rename a project without making a new one."),
              ("Wrong name for ever", "We misspelt our project and cannot rename it."),
              ("Feature wish", "A rename button in the settings, please.")), 5, origin="forum", type="issue"),
    5: Story("region missing", ("region", "keyerror"), "bug_report", "DX Friction", -0.5, 0.7, "cli",
             (("Deploy crashes", "harbour deploy\nTraceback (most recent call last):\nKeyError: 'region'"),
              ("KeyError", "Every deploy without a region ends in KeyError: 'region'"),
              ("CLI fails", "KeyError: 'region' when the config has no region")), 4, fingerprint="f00d5eed"),
    6: Story("settings hidden", ("settings", "menu"), "usability", "DX Friction", -0.3, 0.4, "console",
             (("Where is it", "I never find the billing settings, the menu hides them."),
              ("Menu", "Three clicks to reach settings is two too many."),
              ("Lost", "The settings moved again and nobody told us.")), 5),
    7: Story("invite colleagues", ("invite", "team"), "question", None, 0.0, 0.2, "accounts",
             (("How to invite", "How do I invite a colleague to my team?"),
              ("Invitation", "Is there a limit on invitations per team?"),
              ("Team", "Can a guest be invited to one project only?")), 6),
}  # fmt: skip


def weeks_before(count: int, week: dt.date = WEEK) -> list[dt.date]:
    """``count`` Mondays, the last of them ``week``."""
    return [week - dt.timedelta(weeks=n) for n in range(count - 1, -1, -1)]


def steady(weeks: int, **changed: Sequence[int]) -> dict[int, list[int]]:
    """The usual people of every story in every week; ``t1=[...]`` replaces the last weeks of topic 1."""
    plan = {topic: [story.usual] * weeks for topic, story in STORIES.items()}
    for name, tail in changed.items():
        topic = int(name[1:])
        plan[topic][-len(tail) :] = tail
    return plan


def understood(
    plan: Mapping[int, Sequence[int]] | None = None, *, week: dt.date = WEEK, language: str = "en"
) -> pl.DataFrame:
    """One signal per planned person: people per week of each topic, oldest first, the last one for ``week``.

    Every author speaks once a week, so people are exactly as planned. Times, scores and wording differ from signal to
    signal but not from call to call.
    """
    plan = steady(12) if plan is None else plan
    rows = []
    for topic, counts in plan.items():
        story = STORIES[topic]
        for monday, count in zip(weeks_before(len(counts), week), counts, strict=True):
            rows += [_signal(topic, story, monday, n, language) for n in range(count)]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("created_at", "uid")
    return with_us(frame)


def with_us(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its ``<time>_us`` columns made anew."""
    times = [c for c, t in frame.schema.items() if isinstance(t, pl.Datetime)]
    return frame.with_columns(pl.col(c).dt.epoch("us").alias(f"{c}_us") for c in times)


def _signal(topic: int, story: Story, monday: dt.date, n: int, language: str) -> dict[str, object]:
    key = f"{topic}-{monday}-{n}"
    digest = hashlib.sha256(key.encode()).digest()
    at = dt.datetime.combine(monday, dt.time(8), dt.UTC) + dt.timedelta(
        hours=digest[0] % 120, minutes=digest[1] % 60, seconds=n % 60
    )
    title, body = story.texts[n % len(story.texts)]
    return {
        "uid": records.uid("files", story.origin, key),
        "kind": "files",
        "origin": story.origin,
        "url": f"https://feedback.example/{story.origin}/{key}",
        "type": story.type,
        "title": title,
        "body": body,
        "author": f"anon-{hashlib.sha256(f'{topic}-{n}'.encode()).hexdigest()[:12]}",
        "created_at": at,
        "updated_at": at,
        "product_area": story.area,
        "first_response_at": at + dt.timedelta(hours=6 if digest[2] % 5 else 90) if story.origin == "support" else None,
        "language": language,
        "category": story.category,
        "category_score": 0.8,
        "dx_label": story.dx_label,
        "sentiment": story.sentiment,
        "severity_score": story.severity,
        "topic_id": topic,
        "topic_score": 0.4 + digest[3] / 512,
        "fingerprint": story.fingerprint,
    }


def topics(frame: pl.DataFrame) -> pl.DataFrame:
    """The registry that goes with an understood frame."""
    rows = []
    for (topic,), part in sorted(
        frame.filter(pl.col("topic_id").is_not_null()).partition_by("topic_id", as_dict=True).items()
    ):
        story = STORIES[int(topic)]
        ranked = part.sort("topic_score", descending=True)["uid"].to_list()
        rows.append(
            records.TopicRow(
                topic_id=int(topic),
                name=story.name,
                named_by=None,
                pinned=False,
                theme_id=None,
                theme=None,
                words=story.words,
                examples=tuple(ranked[:3]),
                dissenting=tuple(ranked[-2:]),
                born_on=part["created_at"].min().date(),
                retired_on=None,
                parents=(),
                size=part.height,
                centroid=(),
                least=None,
                updated_at=AS_OF,
                run_id="0000feed",
            )
        )
    return records.frame("topics", rows)


def many_topics(counts: np.ndarray, *, week: dt.date = WEEK) -> pl.DataFrame:
    """Signals that hold nothing but a topic: ``counts`` is (topics, weeks) people, every one a new person."""
    rows = []
    for topic, line in enumerate(counts, start=1):
        for monday, count in zip(weeks_before(len(line), week), line, strict=True):
            at = dt.datetime.combine(monday, dt.time(12), dt.UTC)
            rows += [
                {
                    "uid": f"{topic}-{monday}-{n}", "kind": "files", "origin": "support", "type": "ticket",
                    "title": "", "body": "", "created_at": at, "updated_at": at, "topic_id": topic,
                }
                for n in range(int(count))
            ]  # fmt: skip
    return with_us(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
