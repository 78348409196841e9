"""Findings become suggestions: what kind of work, who does what first, how urgent with its parts, on what evidence.

Priority is a weighted mean of three parts, each 0 to 1 and each shown (weights are a parameter, `Weights`):

- severity: how bad. The mean over this week's evidence: of what a person reports, the severity written on the signal,
  else the inferred one; of what a machine reports, the mean of the two, or the one there is (a traceback sounds bad
  whatever it is about). 0.5 where nothing is known. Written words stand for the numbers of `SEVERITIES`.
- impact: how many. The square root of the share of all people heard, of all customer value heard where sources give
  one, or of all workflows seen that ran into it, whichever is largest; of workflows the lower end of the share's 95 %
  interval (Wilson's), since a week has few: 41 of 45 is 0.79, 1 of 1 is 0.21. The root keeps small topics apart: 1 %
  is 0.1, 4 % is 0.2, 25 % is 0.5. Other machines are no people: what only they report has impact 0.
- frequency: how often. Half is the share of the last weeks in which it was said; half is growth: 1 for what is new,
  the lower end of the rate ratio's interval on a log scale for what grows (×4 is 1), else 0; or the volume of what
  machines reported this week, where that is more: 10 times is a third, 100 two thirds, 1,000 is 1. Workflows that
  ran into it count once each.

What people speak of and workflows ran into is at least as urgent, in each part, as what nobody speaks of and no more
workflows ran into: a mild complaint says more than none, of which how bad it is is unknown.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import polars as pl

from feedback_lib import privacy, records
from feedback_lib.analysis import trends
from feedback_lib.analysis.rates import wilson
from feedback_lib.records import FindingRow, FrictionRow, SuggestionRow, SuggestionType, monday

OPEN = "open"
CLOSED = "closed"  # of a suggestion whose topic people ended
MOVING = trends.UPWARD
TITLE_LETTERS = 90
LEAST_NAME = 26  # letters of a name that a title keeps before it says less about the numbers
FEW = 5  # fewer people than this are not counted out in front of stakeholders

SEVERITIES = {
    "fatal": 1.0, "emergency": 1.0, "alert": 1.0, "error": 0.5, "warning": 0.25, "warn": 0.25, "notice": 0.1,
    "info": 0.1, "debug": 0.1,  # levels of log lines: "error" is the usual one, so it says nothing special
    "blocker": 1.0, "critical": 1.0, "urgent": 1.0, "highest": 1.0, "sev1": 1.0, "p0": 1.0,
    "major": 0.75, "high": 0.75, "sev2": 0.75, "p1": 0.75,
    "medium": 0.5, "normal": 0.5, "moderate": 0.5, "sev3": 0.5, "p2": 0.5,
    "minor": 0.25, "low": 0.25, "sev4": 0.25, "p3": 0.25,
    "trivial": 0.1, "lowest": 0.1,
}  # fmt: skip

_SLOW = re.compile(
    r"\b(slow\w*|latenc\w+|laggy|lags?|time[sd]?[ -]?outs?|timing out|takes? (minutes|hours|ages|forever)|hangs?"
    r"|performance|p9[59]|unresponsive|langsam\w*|lent[eo]?s?|lenteur)\b",
    re.IGNORECASE,
)
_LATENCY = re.compile(r"latenc|duration|response|p9[0-9]", re.IGNORECASE)
_GENERIC = {
    "api",
    "app",
    "core",
    "main",
    "prod",
    "production",
    "server",
    "service",
    "spec",
    "the",
    "web",
    "slow",
    "and",
}
_PROCESS = re.compile(
    r"\b(action items?|runbooks?|post-?mortems?|on-?call|escalat\w+|approvals?|hand-?overs?|checklists?|roll-?outs?"
    r"|sign-?offs?|review process|change freeze)\b",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """How much each part counts for priority; only their proportions matter."""

    severity: float = 0.4
    impact: float = 0.35
    frequency: float = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class _Problem:
    """What a suggestion is made of: one subject, its findings if there are any, and the signals behind it."""

    subject_type: str
    subject: str
    name: str
    findings: tuple[FindingRow, ...]  # strongest first
    window: pl.DataFrame  # its signals of all weeks looked at, this week's first, best evidence first
    twin: str = ""  # the topic whose signals are mostly this error's, as "topic:5"
    first: bool = False  # nobody spoke of it before this week
    reports: pl.DataFrame | None = None  # what machines reported about performance this week, one row, or nothing
    related: bool = False  # those reports are about the same service or area
    friction: tuple[FrictionRow, ...] = ()  # the same as workflows ran into it this week, most workflows first
    heavier: bool = False  # people speak of it, and no fewer workflows ran into it than into one that nobody speaks of

    @property
    def now(self) -> pl.DataFrame:
        return self.window.filter(pl.col("place") == 0)

    @property
    def signals(self) -> pl.DataFrame:
        """This week's; the window's when there are none this week."""
        return self.now if self.now.height else self.window

    @property
    def people(self) -> int:
        return self.now.filter("voice")["person"].n_unique()

    @property
    def hit(self) -> int:
        """Workflows that ran into it this week."""
        return self.friction[0].workflows if self.friction else 0

    @property
    def hit_share(self) -> float:
        """The share of workflows that ran into it, at least: the lower end of its interval; 0 where none did."""
        return max(map(share_hit, self.friction), default=0.0)

    @property
    def silent(self) -> bool:
        """Whether it is told because of what workflows ran into alone."""
        return not self.findings and (self.heavier or any(f.telling for f in self.friction))

    def outweighs(self, other: _Problem) -> bool:
        """Whether people speak of it, and of the other, which no more workflows ran into, nobody does."""
        quiet = other.friction and not other.people and other.kind not in MOVING
        return bool(self.people and self.friction and quiet and self.hit >= other.hit)

    @property
    def skipped(self) -> bool:
        """Whether it is first of all a step that is skipped: by more workflows than people speak of it."""
        return self.hit > self.people and self.friction[0].kind == "skip"

    @property
    def grown(self) -> bool:
        """Whether it is a phase that takes longer."""
        return self.subject_type == "phase"

    @property
    def weeks_seen(self) -> int:
        ran_into = {-ago for f in self.friction for ago, count in enumerate(reversed(f.by_week)) if count}
        return len(ran_into | set(self.window["place"]))

    @property
    def finding(self) -> FindingRow | None:
        return self.findings[0] if self.findings else None

    @property
    def kind(self) -> str:
        return self.finding.kind if self.finding else "steady"

    @property
    def day(self) -> dt.date | None:
        """Of a spike: its evidence is what was said on that day."""
        if self.finding is None or self.kind != "spike":
            return None
        said = self.now.filter(pl.col("uid").is_in(list(self.finding.evidence)))["created_at"].dt.date().min()
        return said if isinstance(said, dt.date) else None

    @property
    def release(self) -> str:
        """What it rose after, where the finding names a release."""
        return (self.finding.release or "") if self.finding and self.kind in MOVING else ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Draft(SuggestionRow):
    """A suggestion of one week, with that by which `merge` knows its problem under another subject."""

    twin: str = ""  # the topic it speaks for besides its own subject
    steps: tuple[str, ...] = ()  # skipped steps it speaks for, as "skip:manual_smoke_test"
    said: tuple[tuple[dt.date, str], ...] = ()  # Monday and uid of every signal of the problem in the weeks looked at


def draft(
    findings: pl.DataFrame | Iterable[FindingRow],
    understood: pl.DataFrame,
    topics: pl.DataFrame,
    week: dt.date,
    *,
    run_id: str,
    as_of: dt.datetime,
    limit: int = 10,
    steady: int = 3,
    weeks: int = 8,
    weights: Weights = Weights(),
    friction: Sequence[FrictionRow] = (),
) -> list[Draft]:
    """Suggestions for one week: what is new, what rose, what recurs, then the worst of what is always there.

    Topics and errors make suggestions; a category or a product area names no problem that somebody could fix. What
    falls and what is praised makes none; what fell silent is to be checked, and a day that stood out to be explained.
    A release that something rose after is named and not called its cause. An error and a topic with mostly the same
    signals make one, carried by the error: its fingerprint stays the same when topics are made anew. What workflows
    ran into joins what people say where the two are the same, else it makes one of its own when it is telling.

    Args:
        findings: Rows of the table ``findings`` of that week.
        understood: As for `trends.analyse`.
        topics: The registry, for names.
        week: Any day of the report week.
        run_id: Written into every row.
        as_of: Written into every row.
        limit: At most so many suggestions, besides those for what workflows ran into.
        steady: At most so many of them for frictions without a finding, and as many for what workflows ran into.
        weeks: How far back frequency looks.
        weights: Of the parts of priority.
        friction: What workflows ran into that week, as `friction.find` gives it.

    Returns:
        What is new or rose first, then the rest; the most urgent first in each.
    """
    start = monday(week)
    window = seen(understood, start, weeks)
    rows = [FindingRow(**r) for r in findings.to_dicts()] if isinstance(findings, pl.DataFrame) else list(findings)
    rows = [r for r in rows if r.week == start and r.subject_type in ("topic", "error") and r.kind != "steady"]
    names = dict(topics.select("topic_id", "name").iter_rows())
    problems = _problems(rows, window, {str(k): str(v) for k, v in names.items()}, steady, friction)
    words = {str(k): list(v or []) for k, v in topics.select("topic_id", "words").iter_rows()}
    problems = [_with_reports(_with_first(p, understood, start), window, words) for p in problems]
    heard = window.filter(pl.col("place") == 0, "voice")
    own = [(severity(p.signals), _impact(p, heard), _frequency(p, weeks)) for p in problems]
    made = []
    for problem, parts in zip(problems, own, strict=True):
        lighter = [theirs for other, theirs in zip(problems, own, strict=True) if problem.outweighs(other)]
        most = tuple(map(max, zip(parts, *lighter, strict=True)))
        made.append(_suggestion(problem, most, start, weeks, weights, run_id, as_of))
    places = range(len(made))
    order = sorted(
        places, key=lambda i: (problems[i].kind not in MOVING, -made[i].priority, -made[i].people, made[i].subject)
    )
    usual = [i for i in order if not problems[i].silent][:limit]
    usual += [i for i in places if any(problems[i].outweighs(other) for other in problems)]
    return [made[i] for i in order if i in usual or problems[i].silent]


def merge(drafts: Sequence[SuggestionRow], existing: pl.DataFrame | Iterable[SuggestionRow]) -> pl.DataFrame:
    """This week's drafts brought together with what was suggested before.

    A suggestion keeps its id, state, first day and history; a week adds one line to the history, and the same week
    again adds none. Once a person has taken it (its state is not ``open``), its words and type stay as they are.
    Numbers of an older week than the newest known only fill the history.

    A draft continues the row with its subject, else with its id. Without one, an error continues the row of its topic
    (and a topic that of an error) when they are one problem: this week, or when that row was last written, at least
    half of the signals of both were signals of both. The row is the error's from then on. What people speak of
    continues the row of the skipped step that it joined, which is the topic's from then on.

    Args:
        drafts: As `draft` makes them.
        existing: The table ``suggestions``, or rows of it.

    Returns:
        One row per draft, in their order, columns of the table ``suggestions``; a draft that would continue the row of
        another draft is left out. A row that says nothing new is exactly the one that was there.
    """
    before = existing.to_dicts() if isinstance(existing, pl.DataFrame) else [_as_dict(r) for r in existing]
    continued: dict[int, str | None] = {}  # place among the drafts: id of the row before
    for same in (_same_subject, _same_id, _same_problem, _same_step):
        for n, made in enumerate(drafts):
            if n not in continued:
                old = next((r["suggestion_id"] for r in before if same(made, r)), None)
                if old is not None:
                    continued[n] = None if old in continued.values() else old
    by_id = {r["suggestion_id"]: r for r in before}
    rows = [
        _merged(_as_dict(made), by_id.get(continued.get(n) or ""), getattr(made, "steps", ()))
        for n, made in enumerate(drafts)
        if continued.get(n, "") is not None
    ]
    return records.frame("suggestions", rows)


def follow(before: pl.DataFrame, gone: Mapping[int, int | None]) -> pl.DataFrame:
    """Suggestions about topics that people merged are about the topic that is left, unless it has one of its own.

    Those that were closed with their topic are open again when the decision was taken back.

    Args:
        before: table ``suggestions``.
        gone: topics that take no texts any more, and the topic that each is part of now, or None.
    """
    rows = before.sort("created_at", "suggestion_id").to_dicts()
    subjects = {row["subject"] for row in rows}
    for row in rows:
        topic = _topic_of(row)
        into = gone.get(topic)
        if row["state"] == OPEN and into is not None and f"topic:{into}" not in subjects:
            row["subject"] = f"topic:{into}"
            subjects.add(row["subject"])
        elif row["state"] == CLOSED and topic not in gone:
            row["state"] = OPEN
    return records.frame("suggestions", rows)


def changed_with_topic(
    before: pl.DataFrame,
    followed: pl.DataFrame,
    told: Sequence[str],
    gone: Mapping[int, int | None],
    line: str,
    run_id: str,
    as_of: dt.datetime,
) -> pl.DataFrame:
    """Suggestions that this week says nothing of and that changed with their topic, each with a line that says why."""
    old = {row["suggestion_id"]: row for row in before.iter_rows(named=True)}
    rows = []
    for row in followed.filter(~pl.col("suggestion_id").is_in(list(told))).to_dicts():
        was, topic = old[row["suggestion_id"]], _topic_of(row)
        why = ""
        if row["subject"] != was["subject"]:
            why = f"topic {_topic_of(was)} is part of topic {topic} now"
        elif row["state"] != was["state"]:
            why = f"open again, topic {topic} is back"
        elif row["state"] == OPEN and topic in gone:
            into = gone[topic]
            row["state"] = CLOSED
            why = f"closed, topic {topic} {f'is part of topic {into} now' if into else 'has ended'}"
        if why:
            rows.append(row | {"history": [*row["history"], line + why], "updated_at": as_of, "run_id": run_id})
    return records.frame("suggestions", rows)


def _topic_of(suggestion: Mapping[str, Any]) -> int:
    """The topic a suggestion is about; 0 when it is about something else."""
    kind, _, subject = suggestion["subject"].partition(":")
    return int(subject) if kind == "topic" and subject.isdecimal() else 0


def _same_subject(made: SuggestionRow, old: dict[str, Any]) -> bool:
    return bool(made.subject == old["subject"])


def _same_id(made: SuggestionRow, old: dict[str, Any]) -> bool:
    return bool(made.suggestion_id == old["suggestion_id"])


def _same_problem(made: SuggestionRow, old: dict[str, Any]) -> bool:
    """Whether a topic's draft and an error's row, or the other way round, are the same problem."""
    if not isinstance(made, Draft) or {made.subject[:6], old["subject"][:6]} != {"topic:", "error:"}:
        return False
    if made.twin == old["subject"] or not old["history"]:
        return bool(made.twin == old["subject"])
    written = dt.date.fromisoformat(max(old["history"])[:10])
    evidence = set(old["evidence"])
    that_week = {uid for week, uid in made.said if week == written}
    until_then = {uid for week, uid in made.said if week <= written}  # the evidence when it was silent that week
    return _alike(evidence, that_week) or _alike(evidence, until_then)


def _same_step(made: SuggestionRow, old: dict[str, Any]) -> bool:
    """Whether people speak now of a step that workflows skipped in silence before."""
    return isinstance(made, Draft) and old["subject"] in made.steps


def _alike(one: set[str], two: set[str]) -> bool:
    """Whether at least half of all signals of the two are signals of both (Jaccard)."""
    return bool(one & two) and len(one & two) >= 0.5 * len(one | two)


def suggestion_id(subject_type: str, subject: str) -> str:
    """The same problem has the same id in every run and week.

    >>> suggestion_id("topic", "17") == suggestion_id("topic", "17") != suggestion_id("error", "17")
    True
    """
    return hashlib.sha256(f"suggestion\0{subject_type}\0{subject}".encode()).hexdigest()[:32]


def people_words(count: int) -> str:
    """A number of people as stakeholders see it.

    >>> people_words(14), people_words(3), people_words(0)
    ('14 people', 'fewer than 5 people', '0 people')
    """
    if count == 0:
        return "0 people"
    return f"fewer than {FEW} people" if count < FEW else f"{count:,} people"


def rise_words(before: float, people: int) -> str:
    """How many people more, in numbers that a reader can check: people of a usual week and of this one.

    >>> rise_words(1.25, 15), rise_words(7.6, 40)
    ('from about 1 to 15 people', 'from about 8 to 40 people')
    """
    usual = 0 if before <= 0 else max(1, math.floor(before + 0.5))
    return f"from {'about ' if usual else ''}{usual:,} to {people_words(people)}"


def share_hit(friction: FrictionRow) -> float:
    """The share of workflows that ran into it, at least: the lower end of its 95 % interval."""
    low, _ = wilson(friction.workflows, friction.of) or (0.0, 1.0)
    return low


def growth_words(friction: Mapping[str, Any]) -> str:
    """How much longer a phase takes; keys as of `FrictionRow`.

    >>> growth_words({"earlier_s": 900, "later_s": 1920, "ratio": 2.23, "low": 1.52, "high": 3.6})
    '15 min → 32 min, ×2.2 (1.5–3.6)'
    """
    ratio, low, high = (f"{v:.2g}" if v < 100 else f"{v:,.0f}" for v in (friction[c] for c in ("ratio", "low", "high")))
    return f"{lasted(friction['earlier_s'])} → {lasted(friction['later_s'])}, ×{ratio} ({low}–{high})"


def lasted(seconds: float | None) -> str:
    """A duration in words.

    >>> lasted(45), lasted(900), lasted(9000)
    ('45 s', '15 min', '2.5 h')
    """
    seconds = seconds or 0.0
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3_570 else f"{seconds / 3_600:,.1f} h"


def _micros(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * 86_400_000_000


def _as_dict(row: SuggestionRow) -> dict[str, Any]:
    return {f.name: getattr(row, f.name) for f in dataclasses.fields(SuggestionRow)}


def seen(understood: pl.DataFrame, week: dt.date, weeks: int) -> pl.DataFrame:
    """The signals of one week and of the weeks before it, with who spoke and when.

    Args:
        understood: As for `trends.analyse`.
        week: Any day of the report week.
        weeks: How many weeks before it.

    Returns:
        The rows with three columns more: person · voice, whether a person said it (not a machine) · place, 0 in the
        report week, -1 in the week before it, and so on.
    """
    made = nw.from_native(understood, eager_only=True).with_columns(person=trends.person(), place=trends.week_us())
    return (
        made.to_native()
        .with_columns(
            voice=~pl.col("type").is_in(trends.MACHINES),
            place=(pl.col("place") - _micros(monday(week))) // records.WEEK_US,
        )
        .filter(pl.col("place").is_between(-weeks, 0))
    )


def praises() -> pl.Expr:
    """Whether a signal praises: labelled DX Delight, or of category praise."""
    return (pl.col("category") == "praise").fill_null(False) | (pl.col("dx_label") == "DX Delight").fill_null(False)


def labelled() -> pl.Expr:
    """Whether a signal has a category or a DX label."""
    return pl.col("category").is_not_null() | pl.col("dx_label").is_not_null()


def _problems(
    findings: Sequence[FindingRow],
    window: pl.DataFrame,
    names: dict[str, str],
    steady: int,
    friction: Sequence[FrictionRow],
) -> list[_Problem]:
    strongest = trends.KINDS
    by_subject: dict[tuple[str, str], list[FindingRow]] = {}
    for row in sorted(findings, key=lambda f: strongest.index(f.kind)):
        by_subject.setdefault((row.subject_type, row.subject), []).append(row)
    known = {k: [r for r in rows if r.kind != "falling"] for k, rows in by_subject.items()}
    spoken = window.filter(pl.col("place") == 0)["topic_id"].drop_nulls().unique().sort().cast(pl.String)
    topics = dict.fromkeys([s for t, s in known if t == "topic"] + list(spoken))
    errors = dict.fromkeys(s for t, s in known if t == "error")
    twins = _twins(window)
    found = []
    for topic in topics:
        mine = known.get(("topic", topic), [])
        if ("topic", topic) in by_subject and not mine:
            continue  # it falls
        name = mine[0].name if mine else names.get(topic, f"topic {topic}")
        error = twins.get(topic)
        if error is None:
            found.append(_problem("topic", topic, name, mine, window, pl.col("topic_id") == int(topic)))
            continue
        errors.pop(error, None)
        rows = sorted(mine + known.get(("error", error), []), key=lambda f: strongest.index(f.kind))
        both = (pl.col("topic_id") == int(topic)) | (pl.col("fingerprint") == error)
        made = _problem("error", error, name, rows, window, both)
        found.append(dataclasses.replace(made, twin=f"topic:{topic}"))
    alone = [(error, rows) for error in errors if (rows := known["error", error])]
    found += [_problem("error", e, rows[0].name, rows, window, pl.col("fingerprint") == e) for e, rows in alone]
    found = _with_friction([p for p in found if not is_praise(p.signals)], window, names, friction)
    # without a finding, the most people × pain first
    standing = sorted(
        (p for p in found if not p.findings and p.people), key=lambda p: (-p.people * severity(p.signals), p.subject)
    )
    chosen = [p for p in found if p.findings] + standing[:steady]
    telling = [p for p in found if p.silent]
    told = [*chosen, *telling]
    more = [p for p in found if not p.silent and not p.findings and any(p.outweighs(other) for other in told)]
    silent = telling + [dataclasses.replace(p, heavier=True) for p in more if not any(p is other for other in chosen)]
    silent = [p for p in silent if not any(p is other for other in chosen)]
    return chosen + sorted(silent, key=lambda p: (-p.hit_share, -p.people, p.subject))[:steady]


def _with_friction(
    problems: Sequence[_Problem], window: pl.DataFrame, names: Mapping[str, str], friction: Sequence[FrictionRow]
) -> list[_Problem]:
    """The problems with what workflows ran into, and those that only workflows ran into."""
    made = list(problems)
    for row in friction:
        topic = [("topic", str(row.topic_id))] if row.topic_id is not None else []
        subjects = [("error", row.key), *topic] if row.kind == "error" else topic
        places = {(p.subject_type, p.subject): n for n, p in enumerate(made)}
        places |= {("topic", p.twin.removeprefix("topic:")): n for n, p in enumerate(made) if p.twin}
        at = next((places[subject] for subject in subjects if subject in places), len(made))
        if at == len(made):
            subject_type, subject = topic[0] if topic else (row.kind, row.key)
            name = names.get(subject, row.name) if topic else row.name
            made.append(_Problem(subject_type, subject, name, (), window.clear()))
        old = made[at]
        # skips say nothing of how bad it is, so they count as workflows and not among the signals
        more = (*row.said, *row.evidence) if row.kind == "error" else row.said
        rule = pl.col("uid").is_in([*old.window["uid"], *more])
        grown = _problem(old.subject_type, old.subject, old.name, old.findings, window, rule)
        made[at] = dataclasses.replace(grown, twin=old.twin, friction=(*old.friction, row))
    return made


def _problem(
    subject_type: str, subject: str, name: str, findings: Sequence[FindingRow], window: pl.DataFrame, rule: pl.Expr
) -> _Problem:
    mine = window.filter(rule).sort(
        pl.col("place") == 0,
        pl.col("duplicate_of").is_null(),
        pl.col("topic_score").fill_null(0),
        "created_at_us",
        "uid",
        descending=[True, True, True, False, False],
    )
    return _Problem(subject_type, subject, name, tuple(findings), mine)


def _with_first(problem: _Problem, understood: pl.DataFrame, week: dt.date) -> _Problem:
    """The problem with whether anybody spoke of it before this week, however long ago."""
    topic = problem.subject if problem.subject_type == "topic" else problem.twin.removeprefix("topic:")
    rule = pl.col("topic_id") == int(topic) if topic else pl.lit(False)
    if problem.subject_type == "error":
        rule = rule.fill_null(False) | (pl.col("fingerprint") == problem.subject)
    earlier = understood.filter(
        rule, pl.col("created_at_us") < _micros(week), ~pl.col("type").is_in(trends.MACHINES)
    )  # fmt: skip
    return dataclasses.replace(problem, first=earlier.is_empty())


def _with_reports(problem: _Problem, window: pl.DataFrame, words: dict[str, list[str]]) -> _Problem:
    """The problem with one unhealthy performance report of its week: one about the same service or area, else any.

    They are about the same when a service, spec or area of the report shares a telling word with the problem's area,
    service, name or words. A report of latency goes before one of anything else.
    """
    found = window.filter(
        pl.col("place") == 0, pl.col("type") == "performance", pl.col("state").fill_null("unhealthy") != "healthy"
    )
    topic = problem.subject if problem.subject_type == "topic" else problem.twin.removeprefix("topic:")
    told = {*_tokens(problem.name), *_tokens(" ".join(words.get(topic, ()))), *_tokens(owner(problem.signals) or "")}
    ranked = []
    for n, row in enumerate(found.sort("title", "uid").iter_rows(named=True)):
        about = _tokens(" ".join(str(row[c] or "") for c in ("service", "spec_id", "product_area")))
        ranked.append((told.isdisjoint(about), not _LATENCY.search(row["title"]), n))
    if not ranked:
        return problem
    apart, _, n = min(ranked)
    return dataclasses.replace(problem, reports=found.sort("title", "uid")[n : n + 1], related=not apart)


def _tokens(text: str) -> set[str]:
    """The telling words of a name such as ``retrieval-api``."""
    return {w for w in re.split(r"[\W_]+", text.casefold()) if len(w) > 2} - _GENERIC


def _twins(window: pl.DataFrame) -> dict[str, str]:
    """The error of each topic that is one problem with it: the same signals (`_alike`) this week or in all weeks."""
    pairs: dict[tuple[str, str], float] = {}
    for rows in (window, window.filter(pl.col("place") == 0)):
        topics = dict(rows.group_by(pl.col("topic_id").cast(pl.String)).len().iter_rows())
        errors = dict(rows.group_by("fingerprint").len().iter_rows())
        both = rows.drop_nulls(["topic_id", "fingerprint"]).group_by(pl.col("topic_id").cast(pl.String), "fingerprint")
        for topic, error, shared in both.len().iter_rows():
            alike = shared / (topics[topic] + errors[error] - shared)
            pairs[topic, error] = max(alike, pairs.get((topic, error), 0.0))
    twins: dict[str, str] = {}
    for (topic, error), alike in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0])):
        if alike >= 0.5 and topic not in twins and error not in twins.values():
            twins[topic] = error
    return twins


def is_praise(signals: pl.DataFrame) -> bool:
    """Whether most of the labelled signals praise; where none is labelled, whether they sound glad on average."""
    told = signals.filter(labelled())
    if told.height:
        return told.filter(praises()).height * 2 > told.height
    return float(signals["sentiment"].mean() or 0.0) > 0.2  # type: ignore[arg-type]


def severity(signals: pl.DataFrame) -> float:
    """0 to 1: the mean over signals of what was written or inferred, see the module; 0.5 where nothing is known."""
    written = pl.col("severity").str.to_lowercase().replace_strict(SEVERITIES, default=None, return_dtype=pl.Float64)
    machine = pl.col("type").is_in(trends.MACHINES)
    each = (
        pl.when(machine)
        .then(pl.mean_horizontal(written, "severity_score"))
        .otherwise(pl.coalesce(written, "severity_score"))
    )
    known = signals.select(each.alias("severity")).to_series().drop_nulls()
    return float(known.mean()) if known.len() else 0.5  # type: ignore[arg-type]


def _impact(problem: _Problem, heard: pl.DataFrame) -> float:
    everybody = heard["person"].n_unique()
    mine = problem.now.filter("voice")["person"].unique()
    share = len(mine) / everybody if everybody else 0.0
    worth = heard.group_by("person").agg(pl.col("customer_value").max()).drop_nulls()
    total = float(worth["customer_value"].sum())
    theirs = float(worth.filter(pl.col("person").is_in(mine.implode()))["customer_value"].sum())
    return math.sqrt(min(1.0, max(share, theirs / total if total > 0 else 0.0, problem.hit_share)))


def _frequency(problem: _Problem, weeks: int) -> float:
    growth = 0.0
    if problem.kind == "new":
        growth = 1.0
    elif problem.kind in MOVING and problem.finding and problem.finding.low:
        growth = min(1.0, max(0.0, math.log2(problem.finding.low) / 2))
    machines = problem.now.filter(~pl.col("voice"), pl.col("type") != "workflow")
    reported = max(machines.height, problem.hit)
    volume = min(1.0, math.log10(reported) / 3) if reported else 0.0
    return (min(1.0, problem.weeks_seen / (weeks + 1)) + max(growth, volume)) / 2


def suggestion_type(problem_type: str, name: str, signals: pl.DataFrame) -> SuggestionType:
    """What kind of work it is, by the first rule that fits more than half of the signals.

    Args:
        problem_type: ``error`` or ``topic``.
        name: The topic's name, which counts as much as half of the signals' words.
        signals: With type, title, body, category, dx_label and fingerprint.
    """
    n = signals.height

    def most(rule: pl.Expr) -> bool:
        return signals.filter(rule.fill_null(False)).height * 2 > n

    text = signals["title"] + " " + signals["body"]
    slow = sum(1 for t in text if _SLOW.search(t)) + (n / 3 if _SLOW.search(name) else 0)
    process = sum(1 for t in text if _PROCESS.search(t))
    if problem_type == "error":
        return "bug fix"
    if most(pl.col("type") == "performance") or slow * 2 > n:
        return "performance investigation"
    if most(pl.col("fingerprint").is_not_null()):
        return "bug fix"
    if process * 2 > n or most(pl.col("type").is_in(["incident", "workflow"])):
        return "process change"
    rules: tuple[tuple[str, str, SuggestionType], ...] = (
        ("category", "bug_report", "bug fix"),
        ("category", "documentation", "documentation"),
        ("dx_label", "Documentation Gap", "documentation"),
        ("category", "feature_request", "feature spec"),
        ("dx_label", "Missing Capability", "feature spec"),
        ("category", "question", "documentation"),
        ("category", "usability", "refactor"),
        ("dx_label", "Strategic Insight", "feature spec"),
    )
    for column, value, made in rules:
        if most(pl.col(column) == value):
            return made
    # no majority: the commonest label decides
    common = signals["category"].drop_nulls().mode().sort()
    by_category = {value: made for column, value, made in rules if column == "category"}
    return by_category.get(common[0], "refactor") if common.len() else "refactor"


_TITLES: dict[SuggestionType, str] = {
    "performance investigation": "Find out why “{name}” is slow",
    "bug fix": "Fix “{name}”",
    "feature spec": "Write a spec for “{name}”",
    "documentation": "Explain “{name}” in the docs",
    "refactor": "Make “{name}” easier to use",
    "process change": "Change how we work on “{name}”",
}
_ACTIONS: dict[SuggestionType, str] = {
    "performance investigation": "{who} should first {measure}, starting from the {signals}; then say {cause}.{report}",
    "bug fix": "{who} should first reproduce it with the {signals}{version}; then fix it and tell those who "
    "reported it.",
    "feature spec": "{who} should first read the {signals} and write down what people try to get done; then decide, "
    "and give the reason either way.",
    "documentation": "{who} should first correct the page these people were on, in the words they use in the "
    "{signals}; then answer them with the link.",
    "refactor": "{who} should first watch one person do it and compare with the {signals}; then remove the step where "
    "they get lost.",
    "process change": "{who} should first list the open action items behind the {signals}, give each an owner and a "
    "date; then change the step that let it happen.",
}
_SKIPPED = (
    "{who} should first read the reasons in the {signals}; then drop the step, ask for it only where it applies, or "
    "say what it is for."
)
_GROWN = (
    "{who} should first compare the first and the last of the {signals}; then shorten what was added to the phase, or "
    "say what it is for."
)
_SPIKE = (
    "{who} should first find out what happened on {day}, starting from the {signals}; then say whether it can happen "
    "again."
)
_SILENT = (
    "{who} should first check that people can still reach us about it; then ask somebody behind the {signals} whether "
    "it is solved."
)


def _date(day: dt.date | None) -> str:
    return f"{day.day} {day:%B}" if day else ""


def _suggestion(
    problem: _Problem,
    parts: tuple[float, ...],
    week: dt.date,
    weeks: int,
    weights: Weights,
    run_id: str,
    as_of: dt.datetime,
) -> Draft:
    made = suggestion_type(problem.subject_type, problem.name, problem.signals)
    silent = problem.kind == "silent"
    made = "process change" if silent or problem.skipped or problem.grown else made
    shares = weights.severity, weights.impact, weights.frequency
    priority = sum(p * w for p, w in zip(parts, shares, strict=True)) / sum(shares)
    evidence = list(dict.fromkeys([*problem.signals["uid"], *(uid for f in problem.friction for uid in f.evidence)]))
    count = len(evidence)
    report = ""
    if made == "performance investigation" and problem.reports is not None:
        (told,) = problem.reports.select("title", "uid").rows()
        known = "" if problem.related else ", also this week"
        report = f" Performance report{known}: {told[0].rstrip('.')}."
        evidence += [told[1]] if told[1] not in evidence else []
    since = _since(problem, week)
    moved = problem.kind in MOVING
    spike = problem.day is not None and made != "performance investigation"
    pattern = _SILENT if silent else _SPIKE if spike else _SKIPPED if problem.skipped else _ACTIONS[made]
    pattern = _GROWN if problem.grown else pattern
    action = pattern.format(
        who="Whoever looks after the workflow" if problem.subject_type in ("skip", "phase") else _who(problem.signals),
        signals="linked signal" if count == 1 else f"{count:,} linked signals",
        measure=f"compare latency before and after {since}"
        if since
        else "compare latency now with the weeks before"
        if moved
        else "measure where the time goes",
        cause="which change did it" if moved else "which part to make faster",
        report=report,
        version=_version(problem.signals),
        day=_date(problem.day),
    )
    if problem.release:
        action += f" It rose after {problem.release} came out, which need not be the cause."
    action += _met(problem.friction)
    ran_into = f", hit by {problem.hit:,} workflows" if problem.hit else ""
    return Draft(
        suggestion_id=suggestion_id(problem.subject_type, problem.subject),
        type=made,
        title=_title(made, problem, week, weeks),
        action=action,
        priority=priority,
        severity=parts[0],
        impact=parts[1],
        frequency=parts[2],
        people=problem.people,
        evidence=tuple(evidence),
        findings=tuple(f.finding_id for f in problem.findings),
        subject=f"{problem.subject_type}:{problem.subject}",
        state=OPEN,
        history=(f"{week} run {run_id[:4]}: {problem.people} people{ran_into}, priority {priority:.2f}",),
        created_at=as_of,
        updated_at=as_of,
        run_id=run_id,
        twin=problem.twin,
        steps=tuple(f"skip:{f.key}" for f in problem.friction if f.kind == "skip"),
        said=tuple(
            (week + dt.timedelta(weeks=place), uid) for place, uid in problem.window.select("place", "uid").iter_rows()
        ),
    )


def _met(friction: Sequence[FrictionRow]) -> str:
    """What workflows ran into, beside who says so; people of this week, else of the weeks before."""
    if not friction:
        return ""
    first, *others = friction
    also = "; ".join(f"{f.workflows:,} {_what(f)}" for f in others[:2])
    if first.kind == "phase":
        return f" Silent friction: hit by {first.workflows:,} of {first.of:,} workflows, which {_what(first)}."
    said = f"{first.people:,}" if first.people or not first.people_before else f"{first.people_before:,} before"
    said = said if said != "0" else "nobody"
    why = f", most often because “{privacy.excerpt(first.reason, 12)}”" if first.reason else ""
    return (
        f" Silent friction: said by {said}, hit by {first.workflows:,} of {first.of:,} workflows, which "
        f"{_what(first)}{why}{f'; {also}' if also else ''}."
    )


def _what(friction: FrictionRow) -> str:
    if friction.kind == "phase":
        return f"took longer for “{friction.name}” than those before: {growth_words(dataclasses.asdict(friction))}"
    return f"{'skipped' if friction.kind == 'skip' else 'met'} “{privacy.excerpt(friction.name, 12)}”"


def _title(made: SuggestionType, problem: _Problem, week: dt.date, weeks: int) -> str:
    """What to do about what, and how often it was said in which week; it stays true when it is read later."""
    pattern = _TITLES[made]
    if problem.subject_type == "skip":
        pattern = "Rethink the step “{name}”"
    elif problem.grown:
        pattern = "Find out why “{name}” takes longer"
    elif problem.kind == "silent":
        pattern = "Check why “{name}” fell silent"
    elif problem.day and made != "performance investigation":
        pattern = "Find out what happened to “{name}”"
    full = pattern.format(name="")
    said = _said(problem, week, weeks)
    room = [TITLE_LETTERS - len(f"{full}: {words}") for words in said]
    enough = min(LEAST_NAME, len(problem.name))
    best = next((i for i, letters in enumerate(room) if letters >= enough), len(said) - 1)
    name = problem.name
    if len(name) > room[best]:
        name = f"{name[: room[best] - 1].rstrip()}…"
    return f"{pattern.format(name=name)}: {said[best]}"


def _said(problem: _Problem, week: dt.date, weeks: int) -> list[str]:
    """How often it was said, at length and shorter."""
    when = f"in week {week.isocalendar().week}"
    count = people_words(problem.people)
    if not problem.people:
        times = problem.now.height
        count = f"0 people, seen {'once' if times == 1 else f'{times:,} times'}"
    if problem.grown:
        (grown,) = problem.friction
        longer = f"{lasted(grown.earlier_s)} → {lasted(grown.later_s)}"
        return [f"{longer} in the later {grown.workflows:,} of {grown.of:,} workflows", longer]
    if problem.friction and not problem.findings:
        of = problem.friction[0].of
        hit = [f"hit by {problem.hit:,} of {of:,} workflows {when}", f"hit by {problem.hit:,} workflows {when}"]
        return [f"{f'{count}, ' if problem.people else 'said by nobody, '}{hit[0]}", *hit]
    often = f"in {problem.weeks_seen} of the last {weeks + 1} weeks"
    if problem.kind == "new":
        never = [f"new {when}: {count}, never heard before"] if problem.first else []
        return [*never, f"new {when}: {count}"]
    if problem.kind == "growing" and problem.finding:
        rise = rise_words(problem.finding.baseline_people, problem.people)
        return [f"rose {rise} a week {when}", f"{rise} {when}", f"{count} {when}"]
    if problem.kind == "regression" and problem.finding:
        rise = rise_words(problem.finding.baseline_people, problem.people)
        after = f"after {problem.release}"
        return [f"{rise} {when}, {after}", f"{rise} {after}", f"{rise} {when}", f"{count} {when}"]
    if problem.day and problem.finding:
        told = problem.now.filter("voice", pl.col("uid").is_in(list(problem.finding.evidence)))["person"].n_unique()
        return [f"{people_words(told)} on {_date(problem.day)}", f"{count} {when}"]
    if problem.kind == "silent" and problem.finding:
        return [f"nobody {when}, usually about {people_words(max(1, round(problem.finding.baseline_people)))}"]
    if problem.kind == "recurring" and problem.finding and problem.finding.q is not None:
        return [f"back {when} after weeks of silence: {count}", f"back {when}: {count}", f"{count} {when}"]
    if not problem.now.height:
        return [f"seen {often} to week {week.isocalendar().week}"]
    if problem.kind == "recurring" and problem.people:
        return [f"seen {often} to week {week.isocalendar().week}", f"{count} {when}"]
    if problem.kind == "recurring":
        return [f"{count} {when}, {often}", f"{count} {when}"]
    return [f"{count} {when}"]


def _since(problem: _Problem, week: dt.date) -> str:
    """What a growth may have begun with: a version that its evidence names, else a release, else the day it rose.

    Empty when unclear.

    A version counts when a third of this week's signals, and at least three, name it, and a larger part than in the
    weeks before. The day is the first with at least two people and more than on any day of the weeks before.
    """
    if problem.kind not in MOVING:
        return ""
    now, before = problem.now, problem.window.filter(pl.col("place") < 0)
    written = now["version"].drop_nulls().unique()
    candidates = {*written, *(".".join(v.split(".")[:2]) for v in written if v.count(".") > 1)}
    named = [(_naming(now, v), len(v), v) for v in sorted(candidates)]
    count, _, version = max(named, default=(0, 0, ""))
    if count >= 3 and count * 3 >= now.height and count * before.height > _naming(before, version) * now.height:
        return f"version {version} ({version} is named in {count} of {now.height})"
    if problem.release:
        return problem.release
    day = pl.col("created_at").dt.date()
    people = pl.col("person").n_unique()
    most = max(before.group_by(day).agg(people)["person"].max() or 0, 1)
    days = now.filter("voice").group_by(day).agg(people).filter(pl.col("person") > most)["created_at"]
    first = days.min()
    return _date(first if isinstance(first, dt.date) else None)


def _naming(signals: pl.DataFrame, version: str) -> int:
    """How many signals are of a version, or name it in their words; 4.2 stands for 4.2.1 too."""
    rule = rf"(?:^|[^\d.])v?{re.escape(version)}(?:\.\d+)*(?:$|[^\d.]|\.(?:\D|$))"
    said = pl.concat_str("version", "title", "body", separator=" ", ignore_nulls=True)
    return signals.filter(said.str.contains(rule)).height


def owner(signals: pl.DataFrame) -> str | None:
    """The service, else the product area, that more than half of the signals name."""
    for column in ("service", "product_area"):
        common = signals[column].drop_nulls()
        if common.len() * 2 > signals.height:
            return str(common.mode().sort()[0])
    return None


def _who(signals: pl.DataFrame) -> str:
    known = owner(signals)
    return f"The owner of {known}" if known else "Whoever owns this (no product area is recorded)"


def _version(signals: pl.DataFrame) -> str:
    known = signals["version"].drop_nulls()
    return f" on version {known.mode().sort()[-1]}" if known.len() * 2 > signals.height else ""


def _merged(new: dict[str, Any], old: dict[str, Any] | None, steps: Sequence[str] = ()) -> dict[str, Any]:
    if old is None:
        return new
    (line,) = new["history"]
    week = line[:10]
    history = list(old["history"])
    same = [i for i, told in enumerate(history) if told[:10] == week]
    if same and _told(history[same[0]]) == _told(line):
        line = history[same[0]]
    history = sorted([told for told in history if told[:10] != week] + [line])
    newest = max(history)[:10]
    merged = old | {"history": history, "updated_at": new["updated_at"], "run_id": new["run_id"]}
    if week == newest:
        numbers = ("priority", "severity", "impact", "frequency", "people", "evidence", "findings")
        words = ("type", "title", "action") if old["state"] == OPEN else ()
        merged |= {c: new[c] for c in (*numbers, *words)}
    if new["subject"].startswith("error:") or old["subject"] in steps:
        merged["subject"] = new["subject"]
    unchanged = all(_plain(merged[c]) == _plain(old[c]) for c in old if c not in ("updated_at", "run_id"))
    return old if unchanged else merged


def _told(line: str) -> str:
    """What a line of history says, without the run that said it."""
    return line.partition(": ")[2]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
