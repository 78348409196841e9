"""The life of an alert: from what each window decides, moment by moment, to opened, updated, resolved, reopened.

One problem is one alert. Everything here is a function of the data's own times, so two monitors that read the same
measurements, or one that was down and catches up, make the same events with the same numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

import polars as pl

Severity = Literal["page", "ticket"]
EventKind = Literal["opened", "updated", "resolved", "reopened"]
_RANK = {"page": 2, "ticket": 1, "ticket?": 1}


def fingerprint(spec_id: str, sli: str) -> str:
    """128 bits that name the problem "this SLO of this spec burns", the same for everyone who watches it.

    >>> fingerprint("my-api", "api_latency_p99")
    'ba4695191c493af5d3b50971adf91981'
    """
    return hashlib.sha256(f"slo\0{spec_id}\0{sli}".encode()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True, slots=True)
class AlertState:
    """Where the alert of one SLO stands. Times are microseconds since the epoch, UTC.

    ``folded_us`` is the last moment looked at; ``episode_us`` is when the problem first opened, kept when it reopens;
    ``below_us`` is since when nothing fires at its severity, ``clear_us`` since when nothing fires at all.
    """

    folded_us: int
    severity: Severity | None = None  # None: not open
    episode_us: int | None = None
    since_us: int | None = None
    resolved_us: int | None = None
    below_us: int | None = None
    clear_us: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One step in the life of an alert; no two steps of one alert have the same time."""

    kind: EventKind
    at_us: int
    severity: Severity
    previous_severity: Severity | None
    episode_us: int
    since_us: int

    @property
    def sequence(self) -> int:
        """A number that grows from step to step, the same for everyone who watches: its time in epoch seconds."""
        return self.at_us // 1_000_000


class _Run(NamedTuple):
    """Moments in a row with the same verdict; both ends are included."""

    verdict: str  # a severity, "undecided", "clear", or "ticket?": a ticket fires and a page might
    start_us: int
    end_us: int


def fold(
    state: AlertState, timeline: pl.DataFrame, *, hold_s: int = 300, reopen_s: int = 86_400
) -> tuple[AlertState, list[Event]]:
    """Carry an alert over the moments after ``state.folded_us``.

    It opens at the first moment a window fires, and takes the severity of the worst that fires. It resolves, or falls
    from page to ticket, when every window has been clear of it, or at least calm, for ``hold_s``. A moment that is
    neither changes nothing. What opens again within ``reopen_s`` of being resolved is the same problem and reopens.

    Args:
        state: where it stood.
        timeline: `slo.timeline` of its SLO: at_us · severity · decision · calm, one row per moment and window.
        hold_s: seconds of calm before it counts as over, a multiple of the slice; a problem that flickers faster is
            one problem.
        reopen_s: seconds after which a new start is a new problem.

    Returns:
        The new state, and the events in order.
    """
    events: list[Event] = []
    for run in _runs(timeline.filter(pl.col("at_us") > state.folded_us)):
        state, made = _carry(state, run, hold_s * 1_000_000, reopen_s * 1_000_000)
        events += made
    return state, events


def _carry(state: AlertState, run: _Run, hold_us: int, reopen_us: int) -> tuple[AlertState, list[Event]]:
    rank, held = _RANK.get(run.verdict, 0), _RANK.get(state.severity or "", 0)
    state = dataclasses.replace(
        state,
        folded_us=run.end_us,
        below_us=None
        if run.verdict in ("undecided", "ticket?") or rank >= held
        else _first(state.below_us, run.start_us),
        clear_us=None if run.verdict != "clear" or not held else _first(state.clear_us, run.start_us),
    )
    if rank > held:
        return _rise(state, run, reopen_us)
    if run.verdict == "clear" and state.clear_us is not None and run.end_us - state.clear_us >= hold_us:
        return _fall(state, max(state.clear_us + hold_us, run.start_us), over=True)
    if run.verdict == "ticket" and state.below_us is not None and run.end_us - state.below_us >= hold_us:
        return _fall(state, max(state.below_us + hold_us, run.start_us), over=False)
    return state, []


def _first(earlier: int | None, now: int) -> int:
    return now if earlier is None else earlier


def _rise(state: AlertState, run: _Run, reopen_us: int) -> tuple[AlertState, list[Event]]:
    severity: Severity = "page" if run.verdict == "page" else "ticket"
    kind: EventKind = "updated"
    episode, since = state.episode_us, state.since_us
    if state.severity is None:
        again = state.resolved_us is not None and run.start_us - state.resolved_us <= reopen_us
        kind, since = ("reopened" if again else "opened"), run.start_us
        episode = episode if again else run.start_us
    assert episode is not None and since is not None  # an alert that is open has both
    event = Event(kind, run.start_us, severity, state.severity, episode, since)
    state = dataclasses.replace(
        state,
        severity=severity,
        episode_us=episode,
        since_us=since,
        resolved_us=None,
        below_us=None,
        clear_us=None,
    )
    return state, [event]


def _fall(state: AlertState, at_us: int, *, over: bool) -> tuple[AlertState, list[Event]]:
    assert state.severity is not None and state.episode_us is not None and state.since_us is not None
    event = Event(
        "resolved" if over else "updated",
        at_us,
        state.severity if over else "ticket",
        state.severity,
        state.episode_us,
        state.since_us,
    )
    state = dataclasses.replace(
        state,
        severity=None if over else "ticket",
        resolved_us=at_us if over else None,
        below_us=None,
        clear_us=None,
    )
    return state, [event]


def _runs(timeline: pl.DataFrame) -> Iterable[_Run]:
    """The moments' verdicts, worst window first, as runs: a month of minutes is a handful of rows."""
    page, firing = pl.col("severity") == "page", pl.col("decision") == "firing"
    open_question = (pl.col("decision") == "undecided") & ~pl.col("calm")
    moments = (
        timeline.group_by("at_us")
        .agg(
            page=(firing & page).any(),
            ticket=(firing & ~page).any(),
            perhaps_page=(open_question & page).any(),
            undecided=open_question.any(),
        )
        .sort("at_us")
        .with_columns(
            verdict=pl.when("page")
            .then(pl.lit("page"))
            .when(pl.col("ticket") & pl.col("perhaps_page"))
            .then(pl.lit("ticket?"))
            .when("ticket")
            .then(pl.lit("ticket"))
            .when("undecided")
            .then(pl.lit("undecided"))
            .otherwise(pl.lit("clear"))
        )
        .with_columns(run=pl.col("verdict").rle_id())
    )
    runs = moments.group_by("run", maintain_order=True).agg(
        pl.col("verdict").first(), start_us=pl.col("at_us").first(), end_us=pl.col("at_us").last()
    )
    return (_Run(*row) for row in runs.select("verdict", "start_us", "end_us").iter_rows())
