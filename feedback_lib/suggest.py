"""Findings become suggestions: what kind of work, who does what first, how urgent with its parts, on what evidence.

Priority is a weighted mean of three parts, each 0 to 1 and each shown (weights are a parameter, `Weights`):

- severity: how bad. The mean over this week's evidence of the severity a person wrote on the signal, else of the
  inferred one; 0.5 where neither is known.
- impact: how many. The square root of the share of all people heard, or of all customer value heard where sources
  give one, whichever is larger. The root keeps small topics apart: 1 % is 0.1, 4 % is 0.2, 25 % is 0.5.
- frequency: how often. Half is the share of the last weeks in which it was said; half is growth: 1 for what is new,
  the lower end of the rate ratio's interval on a log scale for what grows (×4 is 1), else 0.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from feedback_lib import records
from feedback_lib.analysis import trends
from feedback_lib.records import FindingRow, SuggestionRow, SuggestionType, monday

OPEN = "open"
FEW = 5  # fewer people than this are not counted out in front of stakeholders

SEVERITIES = {
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
    """What a suggestion is made of: one subject, its finding if there is one, and the signals behind it."""

    subject_type: str
    subject: str
    name: str
    finding: FindingRow | None
    signals: pl.DataFrame  # this week's, best evidence first; the window's when there are none this week
    people: int
    weeks_seen: int

    @property
    def kind(self) -> str:
        return self.finding.kind if self.finding else "steady"


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
) -> list[SuggestionRow]:
    """Suggestions for one week: what is new, what grows, what recurs, then the worst of what is always there.

    Topics and errors make suggestions; a category or a product area names no problem that somebody could fix. What
    falls and what is praised makes none. A recurring error whose signals are a topic's makes one with it.

    Args:
        findings: Rows of the table ``findings`` of that week.
        understood: As for `trends.analyse`.
        topics: The registry, for names.
        week: Any day of the report week.
        run_id: Written into every row.
        as_of: Written into every row.
        limit: At most so many suggestions.
        steady: At most so many of them for frictions that are neither new nor growing nor recurring.
        weeks: How far back frequency looks.
        weights: Of the parts of priority.

    Returns:
        Most urgent first. When there are more than ``limit``, what is new or growing is kept before what is not.
    """
    start = monday(week)
    window = understood.filter(
        pl.col("created_at_us").is_between(
            _micros(start - dt.timedelta(weeks=weeks)), _micros(start + dt.timedelta(weeks=1)), closed="left"
        )
    ).with_columns(
        person=pl.coalesce("author", pl.format("signal {}", "uid")),
        now=pl.col("created_at_us") >= _micros(start),
        voice=~pl.col("type").is_in(trends.MACHINES),
    )
    rows = [FindingRow(**r) for r in findings.to_dicts()] if isinstance(findings, pl.DataFrame) else list(findings)
    rows = [r for r in rows if r.week == start and r.subject_type in ("topic", "error") and r.kind != "steady"]
    names = dict(topics.select("topic_id", "name").iter_rows())
    problems = _problems(rows, window, {str(k): str(v) for k, v in names.items()}, steady)
    heard = window.filter("now", "voice")
    made = [_suggestion(p, heard, start, weeks, weights, run_id, as_of) for p in problems]
    order = sorted(range(len(made)), key=lambda i: (problems[i].kind not in ("new", "growing"), -made[i].priority, i))
    return sorted((made[i] for i in order[:limit]), key=lambda s: -s.priority)


def merge(drafts: Sequence[SuggestionRow], existing: pl.DataFrame | Iterable[SuggestionRow]) -> pl.DataFrame:
    """This week's drafts brought together with what was suggested before.

    A suggestion keeps its id, state, first day and history; a week adds one line to the history, and the same week
    again adds none. Once a person has taken it (its state is not ``open``), its words and type stay as they are.
    Numbers of an older week than the newest known only fill the history.

    Args:
        drafts: As `draft` makes them.
        existing: The table ``suggestions``, or rows of it.

    Returns:
        One row per draft, in their order, columns of the table ``suggestions``. A row that says nothing new is
        exactly the one that was there.
    """
    before = existing.to_dicts() if isinstance(existing, pl.DataFrame) else [_as_dict(r) for r in existing]
    known = {r["suggestion_id"]: r for r in before}
    return records.frame("suggestions", [_merged(_as_dict(d), known.get(d.suggestion_id)) for d in drafts])


def suggestion_id(subject_type: str, subject: str) -> str:
    """The same problem has the same id in every run and week.

    >>> suggestion_id("topic", "17") == suggestion_id("topic", "17") != suggestion_id("error", "17")
    True
    """
    return hashlib.sha256(f"suggestion\0{subject_type}\0{subject}".encode()).hexdigest()[:32]


def people_words(count: int) -> str:
    """A number of people as stakeholders see it.

    >>> people_words(14), people_words(3)
    ('14 people', 'fewer than 5 people')
    """
    return f"fewer than {FEW} people" if count < FEW else f"{count:,} people"


def _micros(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * 86_400_000_000


def _as_dict(row: SuggestionRow) -> dict[str, Any]:
    return {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}


def _problems(
    findings: Sequence[FindingRow], window: pl.DataFrame, names: dict[str, str], steady: int
) -> list[_Problem]:
    strongest = ("falling", "recurring", "growing", "new")  # the strongest row of a subject comes last and wins
    by_subject = {(f.subject_type, f.subject): f for f in sorted(findings, key=lambda f: strongest.index(f.kind))}
    found = [_problem(*k, f.name, f, window) for k, f in by_subject.items() if f.kind != "falling"]
    found = [p for p in found if not is_praise(p.signals)]
    moving = [p for p in found if p.subject_type == "topic"]
    standing = _standing(window, {s for t, s in by_subject if t == "topic"}, names)
    # an error and the topic that its signals make are one problem; the topic carries it
    for error in [p for p in found if p.subject_type == "error"]:
        twin = next((p for p in [*moving, *standing] if _same(error, p)), None)
        if twin is None:
            moving.append(error)
        elif any(twin is p for p in standing):
            standing = [p for p in standing if p is not twin]
            moving.append(dataclasses.replace(twin, finding=error.finding))
    return moving + standing[:steady]


def _problem(subject_type: str, subject: str, name: str, finding: FindingRow | None, window: pl.DataFrame) -> _Problem:
    column = trends.SUBJECTS[subject_type]  # type: ignore[index]
    mine = window.filter(pl.col(column).cast(pl.String) == subject).sort(
        pl.col("duplicate_of").is_null(),
        pl.col("topic_score").fill_null(0),
        "created_at_us",
        "uid",
        descending=[True, True, False, False],
    )
    now = mine.filter("now")
    return _Problem(
        subject_type=subject_type,
        subject=subject,
        name=name,
        finding=finding,
        signals=now if now.height else mine,
        people=now.filter("voice")["person"].n_unique() or now["person"].n_unique(),
        weeks_seen=mine.select(_week_us()).n_unique(),
    )


def _week_us() -> pl.Expr:
    return pl.col("created_at_us") - (pl.col("created_at_us") - records.MONDAY_US) % records.WEEK_US


def _standing(window: pl.DataFrame, known: set[str], names: dict[str, str]) -> list[_Problem]:
    """Frictions without a finding, the most people × pain first."""
    ids = window.filter("now", pl.col("topic_id").is_not_null())["topic_id"].unique().sort().cast(pl.String)
    found = [_problem("topic", i, names.get(i, f"topic {i}"), None, window) for i in ids if i not in known]
    found = [p for p in found if p.people > 0 and not is_praise(p.signals)]
    return sorted(found, key=lambda p: (-p.people * severity(p.signals), p.subject))


def _same(error: _Problem, topic: _Problem) -> bool:
    """Whether at least half of all signals of the two are signals of both (Jaccard)."""
    if topic.subject_type != "topic":
        return False
    one, two = set(error.signals["uid"]), set(topic.signals["uid"])
    return len(one & two) >= 0.5 * len(one | two)


def is_praise(signals: pl.DataFrame) -> bool:
    """Whether most of the labelled signals praise; where none is labelled, whether they sound glad on average."""
    told = signals.filter(pl.col("category").is_not_null() | pl.col("dx_label").is_not_null())
    if told.height:
        praise = (pl.col("category") == "praise").fill_null(False) | (pl.col("dx_label") == "DX Delight").fill_null(
            False
        )
        return told.filter(praise).height * 2 > told.height
    return float(signals["sentiment"].mean() or 0.0) > 0.2  # type: ignore[arg-type]


def severity(signals: pl.DataFrame) -> float:
    """0 to 1: what people wrote as severity, else what was inferred, else 0.5; the mean over signals."""
    written = pl.col("severity").str.to_lowercase().replace_strict(SEVERITIES, default=None, return_dtype=pl.Float64)
    known = signals.select(pl.coalesce(written, "severity_score")).to_series().drop_nulls()
    return float(known.mean()) if known.len() else 0.5  # type: ignore[arg-type]


def _impact(problem: _Problem, heard: pl.DataFrame) -> float:
    everybody = heard["person"].n_unique()
    now = problem.signals.filter("now")
    share = now["person"].n_unique() / everybody if everybody else 0.0
    worth = heard.group_by("person").agg(pl.col("customer_value").max()).drop_nulls()
    total = float(worth["customer_value"].sum())
    mine = float(worth.filter(pl.col("person").is_in(now["person"].implode()))["customer_value"].sum())
    return math.sqrt(min(1.0, max(share, mine / total if total > 0 else 0.0)))


def _frequency(problem: _Problem, weeks: int) -> float:
    growth = 0.0
    if problem.kind == "new":
        growth = 1.0
    elif problem.kind == "growing" and problem.finding and problem.finding.low:
        growth = min(1.0, max(0.0, math.log2(problem.finding.low) / 2))
    return (min(1.0, problem.weeks_seen / (weeks + 1)) + growth) / 2


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
    "performance investigation": "Find out why it is slow: “{name}”",
    "bug fix": "Fix “{name}”",
    "feature spec": "Write a spec for “{name}”",
    "documentation": "Explain “{name}” in the documentation",
    "refactor": "Make “{name}” easier to use",
    "process change": "Change how we work on “{name}”",
}
_ACTIONS: dict[SuggestionType, str] = {
    "performance investigation": "{who} should first compare latency before and after {since}, starting from the "
    "{signals}; then say which change did it.",
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


def _suggestion(
    problem: _Problem,
    heard: pl.DataFrame,
    week: dt.date,
    weeks: int,
    weights: Weights,
    run_id: str,
    as_of: dt.datetime,
) -> SuggestionRow:
    made = suggestion_type(
        "error" if problem.finding and problem.finding.subject_type == "error" else problem.subject_type,
        problem.name,
        problem.signals,
    )
    parts = severity(problem.signals), _impact(problem, heard), _frequency(problem, weeks)
    shares = weights.severity, weights.impact, weights.frequency
    priority = sum(p * w for p, w in zip(parts, shares, strict=True)) / sum(shares)
    count = problem.signals.height
    action = _ACTIONS[made].format(
        who=_who(problem.signals),
        signals="linked signal" if count == 1 else f"{count:,} linked signals",
        since=f"{week.day} {week:%B}",
        version=_version(problem.signals),
    )
    return SuggestionRow(
        suggestion_id=suggestion_id(problem.subject_type, problem.subject),
        type=made,
        title=f"{_TITLES[made].format(name=problem.name)}: {_said(problem, weeks)}",
        action=action,
        priority=priority,
        severity=parts[0],
        impact=parts[1],
        frequency=parts[2],
        people=problem.people,
        evidence=tuple(problem.signals["uid"]),
        findings=(problem.finding.finding_id,) if problem.finding else (),
        subject=f"{problem.subject_type}:{problem.subject}",
        state=OPEN,
        history=(f"{week} run {run_id[:4]}: {problem.people} people, priority {priority:.2f}",),
        created_at=as_of,
        updated_at=as_of,
        run_id=run_id,
    )


def _said(problem: _Problem, weeks: int) -> str:
    count = people_words(problem.people)
    if problem.kind == "new":
        return f"new, {count} this week"
    if problem.kind == "growing" and problem.finding and problem.finding.ratio:
        return f"{count} this week, ×{problem.finding.ratio:.1f} the usual share"
    if problem.kind == "recurring" or not problem.people:
        return f"seen in {problem.weeks_seen} of the last {weeks + 1} weeks"
    return f"{count} this week"


def _who(signals: pl.DataFrame) -> str:
    for column in ("service", "product_area"):
        common = signals[column].drop_nulls()
        if common.len() * 2 > signals.height:
            return f"The owner of {common.mode().sort()[0]}"
    return "Whoever owns this (no product area is recorded)"


def _version(signals: pl.DataFrame) -> str:
    known = signals["version"].drop_nulls()
    return f" on version {known.mode().sort()[-1]}" if known.len() * 2 > signals.height else ""


def _merged(new: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
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
    unchanged = all(_plain(merged[c]) == _plain(old[c]) for c in old if c not in ("updated_at", "run_id"))
    return old if unchanged else merged


def _told(line: str) -> str:
    """What a line of history says, without the run that said it."""
    return line.partition(": ")[2]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
