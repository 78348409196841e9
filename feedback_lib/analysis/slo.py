"""Service level objectives: SLI, error budget, burn rate and the multi-window alert decision, from counts per slice.

1. A measurement is one slice of time: how many events were good and how many were valid. `measure` makes one of a
   value or of counts, by the budgeting method; from there on every method is the same sum.
2. Good and valid are added up as whole millionths of an event, so that a sum is exact and does not depend on the order
   of rows, on the engine, or on how a window was split. A threshold is a fraction p / q of whole numbers, compared as
   ``bad * q >= p * valid``: whole counts exactly below 2**53, others as the decimals they were written as. No ratio is
   rounded before it is compared.
3. A slice without a row is no data. A window fires only if it would with every missing slice good, and is clear only if
   it would be with every missing slice bad; in between it is undecided. Missing slices of the method occurrences are
   given the average traffic of the measured ones.
4. A window is ``(t - w, t]`` over the ends of slices, and at least one slice long.

docs/slo-math.md has the formulas with their sources and worked numbers.

Sources: Google SRE Workbook 2018, chapter 5 "Alerting on SLOs"; OpenSLO v1 (budgeting methods, time windows).
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, get_args

import narwhals as nw

from feedback_lib.records import micros

Number = int | float | str | Decimal | Fraction
Frame = nw.LazyFrame[Any]
Severity = Literal["page", "ticket"]
Method = Literal["occurrences", "timeslices", "ratio_timeslices"]
Op = Literal["<", "<=", ">", ">="]
Recipe = Literal["sre", "pyrra"]
State = Literal["met", "missed", "no_data"]
Decision = Literal["firing", "clear", "undecided"]

SECOND_US = 1_000_000
MINUTE, HOUR, DAY = 60, 3_600, 86_400
CALENDAR = {"week": 7 * DAY, "month": 30 * DAY, "quarter": 90 * DAY}  # for alert factors; budgets use the true length
UNIT = 1_000_000  # events are added up in millionths
MOST = 2.0**53 / UNIT  # more valid events in one slice are not a count any more
MOST_TOTAL = 9.0e12  # a window's events in millionths must fit into 63 bits
CALM_COVERAGE = 0.5  # of a window, to believe what it measured when an alert is to end
NEAR = 1e-14  # some roundings of a float: two products of fractional counts this close are equal
CURRENT_S = DAY  # a last value older than this (or than two slices) says nothing about now
REACHABLE = Fraction(9, 10)  # no alert needs a larger bad ratio than this, see alert_windows
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_PART = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_SECONDS = {"w": 7 * DAY, "d": DAY, "h": HOUR, "m": MINUTE, "s": 1}
_PERCENT = re.compile(r"([0-9.,]+)\s*(%?)")
_KEYS = ["service", "sli"]

# (severity, share of the budget, long, short): SRE Workbook, table 5-8; the 10 % in a day row is in its text and sloth
SRE: tuple[tuple[Severity, Fraction, int, int], ...] = (
    ("page", Fraction(2, 100), HOUR, 5 * MINUTE),
    ("page", Fraction(5, 100), 6 * HOUR, 30 * MINUTE),
    ("ticket", Fraction(10, 100), DAY, 2 * HOUR),
    ("ticket", Fraction(10, 100), 3 * DAY, 6 * HOUR),
)
# (severity, factor, parts of the SLO window that are for, long and short): Pyrra, slo.go; the parts of 28 d
PYRRA: tuple[tuple[Severity, int, int, int, int], ...] = (
    ("page", 14, 28 * 24 * 30, 28 * 24, 28 * 24 * 12),
    ("page", 7, 28 * 24 * 4, 28 * 4, 28 * 24 * 2),
    ("ticket", 2, 28 * 24, 28, 28 * 12),
    ("ticket", 1, 28 * 8, 7, 28 * 4),
)


# Numbers as they are written


def exact(number: Number) -> Fraction:
    """The number a person reads: a float is the shortest decimal that names it, not its binary expansion.

    >>> exact(0.999), exact("14.4")
    (Fraction(999, 1000), Fraction(72, 5))
    """
    return Fraction(repr(float(number))) if isinstance(number, float) else Fraction(number)


def objective(target: str) -> Fraction:
    """The wanted share of good of a target as written, between 0 and 1, both excluded.

    Args:
        target: ``"99.9%"``, ``"99,9 %"`` or ``"0.999"``.

    Raises:
        ValueError: it is no share, or leaves no budget (100 %), or is all budget (0 %).

    >>> objective("99.9%")
    Fraction(999, 1000)
    """
    found = _PERCENT.fullmatch(target.strip())
    digits = found[1].replace(",", ".") if found else ""
    try:
        share = Fraction(digits) / (100 if found and found[2] else 1)
    except ValueError:
        raise ValueError(f"target {target!r} is no share: write it as '99.9%' or '0.999'") from None
    if not 0 < share < 1:
        hint = "leaves no error budget" if share == 1 else "is not between 0 and 1 (99.9 percent is '99.9%' or '0.999')"
        raise ValueError(f"target {target!r} {hint}")
    return share


def parse_duration(text: str) -> int:
    """Whole seconds of ``30d``, ``6h``, ``5m``, ``90s``, ``1w`` or several in a row such as ``7h12m``.

    Raises:
        ValueError: it is no duration, 0, or not a whole number of seconds.

    >>> parse_duration("30d"), parse_duration("7h12m")
    (2592000, 25920)
    """
    parts = _PART.findall(text.strip())
    seconds = sum((Fraction(number) * _SECONDS[unit] for number, unit in parts), Fraction(0))
    if "".join(number + unit for number, unit in parts) != text.strip() or seconds <= 0 or seconds.denominator != 1:
        raise ValueError(f"{text!r} is no duration: write it as '30d', '6h', '5m' or '90s'")
    return int(seconds)


def format_duration(seconds: Number) -> str:
    """A length of time for people, without loss: the days, hours, minutes and seconds that are not 0.

    >>> format_duration(3600), format_duration(25_920), format_duration(Fraction(1512, 5)), format_duration(0)
    ('1h', '7h12m', '5m2.4s', '0s')
    """
    left = exact(seconds)
    if left < 0:
        return f"-{format_duration(-left)}"
    words = []
    for unit in ("d", "h", "m"):
        whole, left = divmod(left, _SECONDS[unit])
        words += [f"{whole}{unit}"] * (whole > 0)
    if left or not words:
        words.append(f"{left if left.denominator == 1 else float(left)}s")
    return "".join(words)


# Error budget and burn rate: exact, on Fractions


def error_budget(target: str) -> Fraction:
    """The share of bad that a target allows.

    >>> error_budget("99.9%")
    Fraction(1, 1000)
    """
    return 1 - objective(target)


def budget_seconds(target: str, window_s: Number) -> Fraction:
    """Seconds of total outage that a target allows in a window of that many seconds.

    >>> format_duration(budget_seconds("99.9%", 30 * 86_400))
    '43m12s'
    """
    return error_budget(target) * exact(window_s)


def burn_rate(good: Number, valid: Number, target: str) -> Fraction:
    """How many times faster than sustainable the error budget is being spent.

    Args:
        good: Good events in the window.
        valid: Valid events in the window, more than 0.
        target: SLO target as written in the spec, such as ``"99.9%"``.

    Returns:
        A plain ratio: 1 spends the whole budget in exactly one SLO window.

    Raises:
        ValueError: ``valid`` is 0 (that is "no data", not a rate), good is not between 0 and valid, or ``target``
            leaves no budget.

    Source: Google SRE Workbook, chapter 5, "Alerting on SLOs".

    >>> float(burn_rate(good=9_856, valid=10_000, target="99.9%"))
    14.4
    """
    good, valid = exact(good), exact(valid)
    if valid <= 0:
        raise ValueError("no valid events: that is no data, not a burn rate")
    if not 0 <= good <= valid:
        raise ValueError(f"good must be between 0 and valid, got {good} of {valid}")
    return (valid - good) / valid / error_budget(target)


def burn_rate_threshold(share: Number, long_s: Number, window_s: Number) -> Fraction:
    """The burn rate that spends ``share`` of the budget of ``window_s`` in ``long_s``.

    Source: Google SRE Workbook, chapter 5, section 4 ("alert on burn rate").

    >>> float(burn_rate_threshold("0.02", 3_600, 30 * 86_400))
    14.4
    """
    return exact(share) * exact(window_s) / exact(long_s)


def budget_share(factor: Number, long_s: Number, window_s: Number) -> Fraction:
    """The share of the budget spent when ``long_s`` burns at ``factor``: the inverse of `burn_rate_threshold`.

    >>> budget_share("14.4", 3_600, 30 * 86_400)
    Fraction(1, 50)
    """
    return exact(factor) * exact(long_s) / exact(window_s)


def time_to_exhaustion(burn: Number, window_s: Number, remaining: Number = 1) -> Fraction | None:
    """Seconds until the remaining share of the budget is spent at a steady burn rate.

    Returns:
        0 when nothing remains, None (never) when nothing burns.

    >>> time_to_exhaustion(10, 30 * 86_400) / 86_400
    Fraction(3, 1)
    """
    if exact(remaining) <= 0:
        return Fraction(0)
    return exact(remaining) * exact(window_s) / exact(burn) if exact(burn) > 0 else None


def detection_time(target: str, error_ratio: Number, factor: Number, long_s: Number) -> Fraction | None:
    """Seconds from the start of a steady error ratio, after a clean past, until the long window reaches ``factor``.

    Returns:
        None when it never does because the error ratio is under ``factor`` budgets.

    Source: Google SRE Workbook, chapter 5: (1 - SLO) / error ratio × window × burn rate.

    >>> float(detection_time("99.9%", "0.1", "14.4", 3_600) / 60)
    8.64
    """
    needed = exact(factor) * error_budget(target)
    return needed / exact(error_ratio) * exact(long_s) if exact(error_ratio) >= needed else None


def absent_minutes(target: str, factor: Number, long_s: Number, for_s: Number) -> int:
    """Whole minutes a metric may be absent before that alone would have fired a window, were every event bad.

    Source: Pyrra, ``AbsentDuration`` in slo.go: whole seconds of ``factor × budget × long``, plus the rule's ``for``,
    rounded half up to minutes.

    >>> absent_minutes("99.9%", 14, 3_600, 120)
    3
    """
    seconds = math.floor(exact(factor) * error_budget(target) * exact(long_s)) + exact(for_s)
    return _rounded(seconds, MINUTE) // MINUTE


def _rounded(seconds: Fraction, to: int) -> int:
    """The nearest multiple, a half going up."""
    return math.floor(seconds / to + Fraction(1, 2)) * to


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One window of one SLO as numbers, exact. Every field but ``state`` is None when there is no data.

    ``gap`` is SLI minus objective; the minutes are those of the window that the budget, its rest and the bad ratio
    stand for. ``alert`` says whether the burn rate reached the factor; None also when none was given.
    """

    state: State
    sli: Fraction | None = None
    gap: Fraction | None = None
    budget: Fraction | None = None
    bad_ratio: Fraction | None = None
    burn: Fraction | None = None
    budget_minutes: Fraction | None = None
    remaining_minutes: Fraction | None = None
    bad_minutes: Fraction | None = None
    alert: bool | None = None


def report(
    good: Number | None,
    bad: Number | None,
    target: str,
    window_s: Number,
    *,
    factor: Number | None = None,
    min_events: Number = 1,
) -> Report:
    """The report of one window.

    Args:
        good: Good events; None when the service gave no such count, which is 0 if it gave the other one.
        bad: Bad events; the same.
        target: SLO target as written.
        window_s: Length of the window.
        factor: The burn rate that alerts.
        min_events: With fewer events there is no data.

    Source: the arithmetic of Google's slo-generator, where -1 means no count.
    """
    valid = exact(good or 0) + exact(bad or 0)
    if valid <= 0 or valid < exact(min_events):
        return Report("no_data")
    budget, bad_ratio = error_budget(target), exact(bad or 0) / valid
    burn, minutes = bad_ratio / budget, exact(window_s) / MINUTE
    return Report(
        state="met" if bad_ratio <= budget else "missed",
        sli=1 - bad_ratio,
        gap=budget - bad_ratio,
        budget=budget,
        bad_ratio=bad_ratio,
        burn=burn,
        budget_minutes=budget * minutes,
        remaining_minutes=(budget - bad_ratio) * minutes,
        bad_minutes=bad_ratio * minutes,
        alert=None if factor is None else burn >= exact(factor),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class BucketQuantile:
    """A quantile of a classic histogram, and the bucket it fell in: the true one is anywhere in ``(low, high]``."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """The uncertainty that comes from the bucket; infinite in the last one."""
        return self.high - self.low


def bucket_quantile(q: float, buckets: Mapping[float, float]) -> BucketQuantile | None:
    """A quantile by linear interpolation in a classic histogram, as Prometheus computes it.

    Args:
        q: 0 to 1.
        buckets: Upper edge to cumulative count, the last edge infinite.

    Returns:
        None when the histogram holds nothing. In the last bucket the value is the highest finite edge.

    Raises:
        ValueError: q is outside 0 to 1, there is no finite edge, the last edge is not infinite, or counts fall.

    Source: Prometheus, ``histogram_quantile``: the lowest bucket starts at 0 unless its edge is not positive.

    >>> bucket_quantile(0.99, {0.1: 90.0, 0.2: 100.0, float("inf"): 100.0})
    BucketQuantile(value=0.19, low=0.1, high=0.2)
    """
    edges = sorted(buckets)
    counts = [buckets[edge] for edge in edges]
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile is between 0 and 1, got {q}")
    if len(edges) < 2 or edges[-1] != math.inf:
        raise ValueError("a histogram needs a finite edge and the last edge +Inf")
    if any(later < before for before, later in itertools.pairwise([0.0, *counts])):
        raise ValueError("the counts of a histogram are cumulative: they never fall")
    if counts[-1] == 0:
        return None
    rank = q * counts[-1]
    at = next(i for i, count in enumerate(counts) if count >= rank)
    high = edges[at]
    if at == len(edges) - 1:
        return BucketQuantile(edges[-2], edges[-2], math.inf)
    if at == 0 and high <= 0:
        return BucketQuantile(high, -math.inf, high)
    low, before = (edges[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    inside = counts[at] - before
    return BucketQuantile(low + (high - low) * ((rank - before) / inside if inside else 1.0), low, high)


# The SLO and its alert windows


@dataclasses.dataclass(frozen=True, slots=True)
class AlertWindow:
    """Speak when both the long and the short window burn at ``factor`` or more.

    ``for_s`` is how long a Prometheus rule made of it waits in addition (Pyrra's recipe); `burns` does not.
    """

    severity: Severity
    long_s: int
    short_s: int
    factor: Fraction
    for_s: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", exact(self.factor))
        if self.severity not in get_args(Severity):
            raise ValueError(f"severity {self.severity!r}: write 'page' or 'ticket'")
        if not 0 < self.short_s <= self.long_s or self.factor <= 0 or self.for_s < 0:
            raise ValueError(f"an alert window needs 0 < short_s <= long_s and a factor above 0, got {self}")


def alert_windows(window: str | int, recipe: Recipe = "sre", *, target: str | None = None) -> tuple[AlertWindow, ...]:
    """The alert windows of an SLO window.

    ``sre`` keeps the windows of the SRE Workbook and derives each factor from the share of the budget it stands for.
    Rows whose long window is longer than the SLO window are left out; a factor under 1 becomes 1, because a pace that
    the budget allows is no alert; of rows of one severity with the same factor the shortest stays, because a longer
    one cannot reach it unless the shorter one did before.

    ``pyrra`` keeps the factors and scales the windows with the SLO window, to whole minutes.

    With a ``target``, a factor that would need a bad ratio above nine tenths (14.4 budgets of 10 % are 144 %: it could
    never fire) is lowered to nine tenths. That only makes it speak after a smaller share of the budget than the recipe.

    Args:
        window: ``"30d"``, ``"week"``, ``"month"`` (taken as 30 days), ``"quarter"`` (90 days), or seconds.
        recipe: Which table.
        target: SLO target as written; without it factors are not limited.

    Raises:
        ValueError: the window is no duration, or so short that no row of the recipe fits.

    Sources: SRE Workbook, table 5-8 and sloth (10 % in a day); Pyrra, ``Windows`` in slo.go.
    """
    window_s = window if isinstance(window, int) else _window_s(window)
    if recipe == "sre":
        made = [
            AlertWindow(severity, long_s, short_s, max(burn_rate_threshold(share, long_s, window_s), Fraction(1)))
            for severity, share, long_s, short_s in SRE
            if long_s <= window_s
        ]
    elif recipe == "pyrra":
        made = []
        for severity, factor, *parts in PYRRA:
            for_s, long_s, short_s = (max(_rounded(Fraction(window_s, part), MINUTE), MINUTE) for part in parts)
            if long_s <= window_s:
                made.append(AlertWindow(severity, long_s, min(short_s, long_s), Fraction(factor), for_s))
    else:
        raise ValueError(f"recipe {recipe!r}: write 'sre' or 'pyrra'")
    if not made:
        raise ValueError(f"no alert window of the recipe {recipe} fits into {format_duration(window_s)}: give a policy")
    if target is not None:
        most = REACHABLE / error_budget(target)
        made = [dataclasses.replace(row, factor=min(row.factor, most)) for row in made]
    kept: dict[tuple[str, Fraction], AlertWindow] = {}
    for row in made:
        kept.setdefault((row.severity, row.factor), row)
    return tuple(kept.values())


def _window_s(window: str) -> int:
    """Seconds of an SLO window; a calendar one has its nominal length."""
    return CALENDAR[window] if window in CALENDAR else parse_duration(window)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slo:
    """One service level objective.

    Attributes:
        service: Whose it is.
        sli: Name of the measured indicator, unique in the service.
        category: What it is about, as the NFR reader says.
        target: Wanted share of good as written, such as ``"99.9%"``.
        window: Rolling (``"30d"``, ``"7d"``) or calendar-aligned in UTC (``"week"`` from Monday, ``"month"``,
            ``"quarter"``).
        method: occurrences: good events of valid events · timeslices: good slices of slices ·
            ratio_timeslices: the mean of the slices' good ratios.
        slice_s: Length of a slice.
        op: With ``threshold``: what makes a slice good. Only `measure` with timeslices needs them.
        threshold: In the unit of the measured value (of the good ratio, when counts are measured).
        min_events: An alert window with fewer valid events (slices, for the slice methods) is not judged.
        policy: Alert windows; None takes those of the SRE Workbook for this window and target.

    Raises:
        ValueError: a value is wrong; the message says which and what to write.
    """

    service: str
    sli: str
    category: str = "other"
    target: str
    window: str = "30d"
    method: Method = "timeslices"
    slice_s: int = 60
    op: Op | None = None
    threshold: float | None = None
    min_events: float = 1
    policy: tuple[AlertWindow, ...] | None = None

    def __post_init__(self) -> None:
        where = f"SLO {self.service}/{self.sli}"
        try:
            objective(self.target)
            window_s = _window_s(self.window)
            _ = self.alerts
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if not self.alerts:
            raise ValueError(f"{where}: the policy is empty: give an alert window, or None for the usual ones")
        if self.method not in get_args(Method):
            raise ValueError(f"{where}: method {self.method!r}: write one of {', '.join(get_args(Method))}")
        if self.op is not None and self.op not in get_args(Op):
            raise ValueError(f"{where}: op {self.op!r}: write one of {' '.join(get_args(Op))}")
        if (self.op is None) != (self.threshold is None):
            raise ValueError(f"{where}: op and threshold belong together; give both or none")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"{where}: threshold {self.threshold} is no number")
        if not isinstance(self.slice_s, int) or not 0 < self.slice_s <= window_s:
            raise ValueError(f"{where}: slice_s {self.slice_s!r} must be whole seconds, at most the window")
        if not (math.isfinite(self.min_events) and self.min_events >= 0):
            raise ValueError(f"{where}: min_events {self.min_events} must be 0 or more")

    @property
    def objective(self) -> Fraction:
        """The target as an exact share."""
        return objective(self.target)

    @property
    def budget(self) -> Fraction:
        """The allowed share of bad, exact."""
        return 1 - self.objective

    @property
    def window_s(self) -> int:
        """Length of the window; of a calendar window its nominal length (7, 30, 90 days)."""
        return _window_s(self.window)

    @property
    def alerts(self) -> tuple[AlertWindow, ...]:
        """The alert windows: the policy, or those of the SRE Workbook."""
        return self.policy if self.policy is not None else alert_windows(self.window, target=self.target)

    def period(self, as_of: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
        """Start and end of the SLO window at a moment; windows are ``(start, end]``.

        A rolling window ends at ``as_of``. A calendar window is the whole period that ``as_of`` is in; midnight, being
        the end of the day before, belongs to the period before.
        """
        at_us = _us(as_of)
        start_us, end_us = self._period_us(at_us)
        return _EPOCH + dt.timedelta(microseconds=start_us), _EPOCH + dt.timedelta(microseconds=end_us)

    def _period_us(self, at_us: int) -> tuple[int, int]:
        if self.window not in CALENDAR:
            return at_us - self.window_s * SECOND_US, at_us
        day = (_EPOCH + dt.timedelta(microseconds=at_us - 1)).date()
        if self.window == "week":
            first = day - dt.timedelta(days=day.weekday())
            last = first + dt.timedelta(days=7)
        else:
            months = 1 if self.window == "month" else 3
            number = day.year * 12 + (day.month - 1) // months * months
            first, last = (dt.date(n // 12, n % 12 + 1, 1) for n in (number, number + months))
        return _day_us(first), _day_us(last)


def _day_us(day: dt.date) -> int:
    return (day - _EPOCH.date()).days * DAY * SECOND_US


def _us(moment: dt.datetime) -> int:
    """Microseconds since the epoch, exact."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: give an aware time")
    return micros(moment)


# Measurements


def measure(values: Frame, slo: Slo) -> Frame:
    """Measurements of one SLO from what its backend answered.

    Args:
        values: Rows with at_us Int64, any moment of a slice (it is moved to the slice's end), and either value Float64
            or two of good, bad, valid Float64. For timeslices the value is compared with the threshold, for
            ratio_timeslices it is the good ratio; from counts the value is good / valid. Occurrences need counts.
        slo: The SLO.

    Returns:
        One row per slice that has data, in no order: service · sli · at_us Int64, the slice's end · good Float64 ·
        valid Float64 · value Float64. No row, because that is no data: a null or NaN, a negative count, more good than
        valid, a ratio outside 0 to 1, no valid event (slice methods only), and a slice measured twice with
        different results.

    Raises:
        ValueError: columns are missing, or timeslices without a threshold.
    """
    names = set(values.collect_schema().names())
    counts = [name for name in ("good", "bad", "valid") if name in names]
    if len(counts) < 2 and (slo.method == "occurrences" or "value" not in names):
        need = "two of good, bad, valid" + ("" if slo.method == "occurrences" else ", or value")
        raise ValueError(f"SLO {slo.service}/{slo.sli}: {slo.method} need {need}; got {', '.join(sorted(names))}")
    slice_us = slo.slice_s * SECOND_US
    at_us = nw.col("at_us") + (slice_us - nw.col("at_us") % slice_us) % slice_us
    good, bad, valid, value = (nw.col(name) for name in ("good", "bad", "valid", "value"))
    if len(counts) >= 2:
        parts = {
            "good": good if "good" in names else valid - bad,
            "valid": valid if "valid" in names else good + bad,
        }
        rows = values.select(at_us.alias("at_us"), *(e.cast(nw.Float64()).alias(n) for n, e in parts.items()))
        rows = rows.filter(*_sound()).with_columns(nw.when(good > valid).then(valid).otherwise(good).alias("good"))
        rows = rows.with_columns(nw.when(valid > 0).then(good / valid).alias("value"))
    else:
        rows = values.select(at_us.alias("at_us"), value.cast(nw.Float64()).alias("value"))
    if slo.method != "occurrences":
        rows = rows.filter(~value.is_null(), ~value.is_nan()).with_columns(
            (_is_good(slo) if slo.method == "timeslices" else value).alias("good"), nw.lit(1.0).alias("valid")
        )
    rows = rows.filter(*_sound())
    once = rows.group_by("at_us").agg(
        *(getattr(nw.col(n), how)().alias(f"{n}_{how}") for n in ("good", "valid", "value") for how in ("min", "max"))
    )
    same = [nw.col(f"{n}_min") == nw.col(f"{n}_max") for n in ("good", "valid")]
    return once.filter(*same).select(
        nw.lit(slo.service).alias("service"),
        nw.lit(slo.sli).alias("sli"),
        nw.col("at_us"),
        nw.col("good_min").alias("good"),
        nw.col("valid_min").alias("valid"),
        nw.col("value_max").alias("value"),
    )


def _is_good(slo: Slo) -> nw.Expr:
    """1.0 where the slice's value keeps to the threshold, 0.0 where not."""
    if slo.op is None or slo.threshold is None:
        raise ValueError(f"SLO {slo.service}/{slo.sli}: timeslices need op and threshold to tell good from bad")
    value = nw.col("value")
    holds = {
        "<": value < slo.threshold,
        "<=": value <= slo.threshold,
        ">": value > slo.threshold,
        ">=": value >= slo.threshold,
    }
    return holds[slo.op].cast(nw.Float64())


def _sound() -> list[nw.Expr]:
    """What a row must be to count: 0 <= good <= valid, up to rounding, and not absurd. Null and NaN are not."""
    good, valid = nw.col("good"), nw.col("valid")
    return [good >= 0, good <= valid + 0.4 / UNIT, valid <= MOST]


# Sums over windows


def _counted(measurements: Frame, after_us: int, end_us: int) -> Frame:
    """The rows of ``(after_us, end_us]`` that are data, with bad and valid in whole millionths."""
    good, valid = nw.col("good"), nw.col("valid")
    return measurements.filter(nw.col("at_us") > after_us, nw.col("at_us") <= end_us, *_sound()).with_columns(
        ((valid - good) * UNIT + 0.5).floor().cast(nw.Int64()).alias("bad_u"),
        (valid * UNIT + 0.5).floor().cast(nw.Int64()).alias("valid_u"),
    )


def _sum(name: str, kind: Any) -> nw.Expr:
    """A sum in the type it came in; SQL engines widen it."""
    return nw.col(name).sum().cast(kind)


def _totals() -> list[nw.Expr]:
    """The columns `_SUMS` of a group of counted rows."""
    slices = nw.len().cast(nw.Int64()).alias("slices")
    return [_sum("bad_u", nw.Int64()), _sum("valid_u", nw.Int64()), nw.col("valid").sum().alias("events"), slices]


def _segments(measurements: Frame, starts: Sequence[int], end_us: int) -> Frame:
    """Sums between one start of a window and the next, in one pass; a window is the segments from its own on.

    Args:
        measurements: As everywhere.
        starts: Distinct starts of windows, ascending.
        end_us: Where all windows end.

    Returns:
        One row per service, sli and segment that has data: service · sli · segment, from 0 · bad_u Int64 ·
        valid_u Int64 · events Float64, the rough number of valid events · slices · last_us Int64.
    """
    rows = _counted(measurements, starts[0], end_us)
    keys = list(_KEYS)
    if len(starts) > 1:
        keys.append("segment")
        segment = nw.sum_horizontal(*((nw.col("at_us") > start).cast(nw.Int64()) for start in starts[1:]))
        rows = rows.with_columns(segment.alias("segment"))
    sums = rows.group_by(keys).agg(*_totals(), nw.col("at_us").max().alias("last_us"))
    return sums if len(starts) > 1 else sums.with_columns(nw.lit(0, nw.Int64()).alias("segment"))


def _slices(after_us: int, end_us: int, slice_s: int) -> int:
    """How many ends of slices are in ``(after_us, end_us]``."""
    slice_us = slice_s * SECOND_US
    return max(end_us // slice_us - after_us // slice_us, 0)


def _lazy_like(frame: Frame, rows: Mapping[str, Sequence[Any]], schema: Mapping[str, Any]) -> Frame:
    """Our own few rows as a lazy frame of the engine of another one."""
    made = nw.from_dict(dict(rows), schema, backend="polars")
    if frame.implementation.is_polars():
        return made.lazy()
    return made.lazy(frame.implementation.value, session=getattr(frame.to_native(), "sparkSession", None))


def _columns(rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> dict[str, list[Any]]:
    listed = list(rows)
    return {name: [row[name] for row in listed] for name in schema}


def _distinct(slos: Sequence[Slo]) -> None:
    seen: set[tuple[str, str]] = set()
    for slo in slos:
        if (slo.service, slo.sli) in seen:
            raise ValueError(f"SLO {slo.service}/{slo.sli} is given twice: an sli is unique in its service")
        seen.add((slo.service, slo.sli))


def _fraction(name: str, value: Fraction) -> dict[str, float]:
    return {f"{name}_p": float(value.numerator), f"{name}_q": float(value.denominator)}


def _events(millionths: nw.Expr) -> nw.Expr:
    """Events as Float64: a whole count exactly, also where its millionths do not fit a float."""
    whole = (millionths // UNIT).cast(nw.Float64())
    unit = millionths * 0 + UNIT  # a column: Polars divides by a constant as it multiplies by its rounded reciprocal
    return nw.when(millionths % UNIT == 0).then(whole).otherwise(millionths / unit)


def _whole(bad_u: nw.Expr, valid_u: nw.Expr) -> nw.Expr:
    """Whether both are whole counts."""
    return (bad_u % UNIT == 0) & (valid_u % UNIT == 0)


def _at_least(left: nw.Expr, right: nw.Expr, whole: nw.Expr) -> nw.Expr:
    """Whether left >= right: exactly for products of whole counts, else with products that differ by rounding equal."""
    return nw.when(whole).then(left >= right).otherwise(left >= right * (1 - NEAR))


def _judged(frame: Frame) -> Frame:
    """Adds burn, coverage, decision and calm to rows that have the sums of a long and a short window.

    The columns ``<name>_long`` and ``<name>_short`` of bad_u, valid_u, events, slices and expected are needed, and
    budget_p / budget_q, limit_p / limit_q (factor × budget) and min_events.
    """
    steps: list[list[nw.Expr]] = [[], [], []]
    for which in ("long", "short"):
        c = {n: nw.col(f"{n}_{which}") for n in (*_SUMS, "expected", "bad", "valid", "whole", "sound", "limit")}
        c |= {n: nw.col(f"{n}_{which}") for n in ("low", "high", "over", "under")}
        bad, valid, slices, expected = (c[n] for n in ("bad", "valid", "slices", "expected"))
        full, enough = slices == expected, c["sound"] & (valid >= nw.col("min_events"))
        high = nw.when(full).then(bad).otherwise(bad * slices + valid * (expected - slices))
        made: list[dict[str, nw.Expr]] = [
            {
                "bad": _events(c["bad_u"]),
                "valid": _events(c["valid_u"]),
                "whole": _whole(c["bad_u"], c["valid_u"]),
                "sound": (slices <= expected) & (c["events"] < MOST_TOTAL) & (c["valid_u"] > 0),
            },
            {
                "low": nw.when(full).then(bad).otherwise(bad * slices) * nw.col("limit_q"),
                "high": high * nw.col("limit_q"),
                "limit": nw.when(full).then(valid).otherwise(valid * expected) * nw.col("limit_p"),
                "coverage": slices / expected,
            },
            {
                "over": enough & _at_least(c["low"], c["limit"], c["whole"]),
                "under": enough & ~_at_least(c["high"], c["limit"], c["whole"]),
                "burn": nw.when(c["sound"]).then(bad * nw.col("budget_q") / (valid * nw.col("budget_p"))),
            },
        ]
        for step, columns in zip(steps, made, strict=True):
            step += [e.alias(f"{name}_{which}") for name, e in columns.items()]
    decision = (
        nw.when(nw.col("over_long") & nw.col("over_short"))
        .then(nw.lit("firing"))
        .otherwise(
            nw.when(nw.col("under_long") | nw.col("under_short")).then(nw.lit("clear")).otherwise(nw.lit("undecided"))
        )
    )
    looks_calm = [
        (nw.col(f"coverage_{w}") >= CALM_COVERAGE) & (nw.col(f"burn_{w}") < nw.col("factor")) for w in ("long", "short")
    ]
    calm = (nw.col("decision") != "firing") & (looks_calm[0].fill_null(False) | looks_calm[1].fill_null(False))
    for step in (*steps, [decision.alias("decision")], [calm.alias("calm")]):
        frame = frame.with_columns(*step)
    return frame


_PLAN: dict[str, Any] = {
    **{name: nw.String() for name in ("service", "sli", "severity")},
    **{name: nw.Int64() for name in ("number", "long_s", "short_s", "from_long", "from_short")},
    **{name: nw.Float64() for name in ("factor", "min_events", "expected_long", "expected_short")},
    **{f"{name}_{part}": nw.Float64() for name in ("budget", "limit") for part in "pq"},
}
_BURNS = [*_KEYS, "severity", "long_s", "short_s", "factor", "burn_long", "burn_short"]
_BURNS += ["coverage_long", "coverage_short", "decision", "calm"]
_SUMS: dict[str, Any] = {"bad_u": nw.Int64(), "valid_u": nw.Int64(), "events": nw.Float64(), "slices": nw.Int64()}


def _start(at_us: int, length_s: int, slice_s: int) -> int:
    """Where an alert window starts; it is at least one slice long."""
    return at_us - max(length_s, slice_s) * SECOND_US


def burns(measurements: Frame, slos: Sequence[Slo], as_of: dt.datetime) -> Frame:
    """What each alert window of each SLO says at one moment. One pass, over the longest alert window only.

    Args:
        measurements: One row per slice that has data: service · sli · at_us Int64, the slice's end · good · valid.
            A row that is no data by the rules of `measure` is left out. Slices are distinct: a window that holds
            more rows than slices is not judged.
        slos: The SLOs; service and sli together are unique. Rows of others are ignored.
        as_of: The moment, aware.

    Returns:
        One row per SLO and alert window, in the order given: service · sli · severity · long_s Int64 · short_s Int64 ·
        factor Float64 · burn_long, burn_short Float64, over the slices that have data, null when there was no valid
        event · coverage_long, coverage_short Float64, share of slices that have data · decision: firing, clear or
        undecided.

    Raises:
        ValueError: two SLOs are the same, or as_of has no time zone.

    Source: Google SRE Workbook, chapter 5, section 6; the decision with missing slices is ours, docs/slo-math.md.
    """
    _distinct(slos)
    at_us = _us(as_of)
    starts = sorted(
        {_start(at_us, length, slo.slice_s) for slo in slos for a in slo.alerts for length in (a.long_s, a.short_s)}
    )
    plan = _lazy_like(measurements, _columns(_plan(slos, at_us, starts), _PLAN), _PLAN)
    sums = _segments(measurements, starts or [at_us], at_us)
    parts = plan.join(sums, on=_KEYS, how="left")
    inside = {which: nw.col("segment") >= nw.col(f"from_{which}") for which in ("long", "short")}
    totals = (
        parts.with_columns(
            *(
                nw.when(inside[which]).then(nw.col(name)).otherwise(nw.lit(0, kind)).alias(f"{name}_{which}")
                for which in ("long", "short")
                for name, kind in _SUMS.items()
            )
        )
        .group_by("number")
        .agg(*(_sum(f"{name}_{which}", kind) for which in ("long", "short") for name, kind in _SUMS.items()))
    )
    return _judged(plan.join(totals, on="number", how="left")).sort("number").select(_BURNS)


def _plan(slos: Sequence[Slo], at_us: int, starts: Sequence[int]) -> Iterable[dict[str, Any]]:
    """One row per SLO and alert window: what it is compared with and which segments it is made of."""
    place = {start: number for number, start in enumerate(starts)}
    numbers = itertools.count()
    for slo in slos:
        for alert in slo.alerts:
            first = {w: _start(at_us, getattr(alert, f"{w}_s"), slo.slice_s) for w in ("long", "short")}
            yield {
                "service": slo.service,
                "sli": slo.sli,
                "number": next(numbers),
                **_limits(slo, alert),
                **{f"from_{which}": place[start] for which, start in first.items()},
                **{f"expected_{w}": float(_slices(start, at_us, slo.slice_s)) for w, start in first.items()},
            }


def _limits(slo: Slo, alert: AlertWindow) -> dict[str, Any]:
    return {
        "severity": alert.severity,
        "long_s": alert.long_s,
        "short_s": alert.short_s,
        "factor": float(alert.factor),
        "min_events": float(slo.min_events),
        **_fraction("budget", slo.budget),
        **_fraction("limit", alert.factor * slo.budget),
    }


_SLO_PLAN: dict[str, Any] = {
    **{name: nw.String() for name in ("service", "sli")},
    **{name: nw.Int64() for name in ("number", "first", "expected_slices")},
    **{name: nw.Float64() for name in ("whole", "window_s", "left_s", "min_events", "budget", "budget_p", "budget_q")},
}
_EVALUATED = [*_KEYS, "good", "valid", "bad", "slices", "expected_slices", "coverage", "sli_ratio", "state", "budget"]
_EVALUATED += ["budget_used", "budget_remaining", "burn", "exhaustion_s", "last_us", "last_value"]


def evaluate(measurements: Frame, slos: Sequence[Slo], as_of: dt.datetime) -> Frame:
    """How each SLO stands in its window at one moment. One pass, plus one over the last day for the last value.

    Args:
        measurements: As for `burns`, with value Float64.
        slos: The SLOs; service and sli together are unique.
        as_of: The moment, aware.

    Returns:
        One row per SLO, in the order given: service · sli · good, valid, bad Float64, events (or slices) ·
        slices Int64, how many have data · expected_slices Int64, how many have passed (in a calendar window: since the
        period began) · coverage Float64, slices / expected_slices · sli_ratio Float64, good / valid · state: met or
        missed, sli_ratio against the target, or no_data with fewer than min_events valid events · budget Float64, the
        allowed bad ratio · budget_used Float64, the share of the whole window's budget that is known to be spent, may
        exceed 1: burn × slices / all slices of the window, future ones of a calendar period included ·
        budget_remaining Float64, 1 - budget_used · burn Float64, bad ratio over budget · exhaustion_s Float64, until
        the rest is spent at this burn: 0 when it is, null when it never is, in a calendar window when its period ends
        before · last_us Int64, end of the latest slice · last_value Float64, its value, null when it is older than a
        day (or than two slices, if that is longer).
        Ratios are null where there is no valid event, and where a window holds more rows than slices.

    Raises:
        ValueError: two SLOs are the same, or as_of has no time zone.
    """
    _distinct(slos)
    at_us = _us(as_of)
    starts = sorted({slo._period_us(at_us)[0] for slo in slos})
    plan = _lazy_like(measurements, _columns(_slo_plan(slos, at_us, starts), _SLO_PLAN), _SLO_PLAN)
    starts = starts or [at_us]
    parts = plan.join(_segments(measurements, starts, at_us), on=_KEYS, how="left")
    inside = nw.col("segment") >= nw.col("first")
    totals = (
        parts.with_columns(
            *(nw.when(inside).then(nw.col(n)).otherwise(nw.lit(0, kind)).alias(n) for n, kind in _SUMS.items()),
            nw.when(inside).then(nw.col("last_us")).alias("last_us"),
        )
        .group_by("number")
        .agg(*(_sum(name, kind) for name, kind in _SUMS.items()), nw.col("last_us").max())
    )
    recent_s = max([CURRENT_S, *(2 * slo.slice_s for slo in slos)])
    recent = _counted(measurements, max(at_us - recent_s * SECOND_US, starts[0]), at_us)
    latest = recent.group_by(_KEYS).agg(nw.col("at_us").max().alias("last_us"))
    values = (
        recent.join(latest, left_on=[*_KEYS, "at_us"], right_on=[*_KEYS, "last_us"], how="inner")
        .group_by([*_KEYS, "at_us"])
        .agg(nw.col("value").max().alias("last_value"))
    )
    rows = plan.join(totals, on="number", how="left")
    rows = rows.join(values, left_on=[*_KEYS, "last_us"], right_on=[*_KEYS, "at_us"], how="left")
    return _spent(rows).sort("number").select(_EVALUATED)


def _slo_plan(slos: Sequence[Slo], at_us: int, starts: Sequence[int]) -> Iterable[dict[str, Any]]:
    place = {start: number for number, start in enumerate(starts)}
    for number, slo in enumerate(slos):
        start, end = slo._period_us(at_us)
        yield {
            "service": slo.service,
            "sli": slo.sli,
            "number": number,
            "first": place[start],
            "expected_slices": _slices(start, at_us, slo.slice_s),
            "whole": float(_slices(start, end, slo.slice_s)),
            "window_s": (end - start) / SECOND_US,
            "left_s": (end - at_us) / SECOND_US if slo.window in CALENDAR else math.inf,
            "min_events": float(slo.min_events),
            "budget": float(slo.budget),
            **_fraction("budget", slo.budget),
        }


def _spent(frame: Frame) -> Frame:
    """Adds good to exhaustion_s to rows that have the sums of an SLO's window."""
    names = ("bad_u", "valid_u", "slices", "expected_slices", "bad", "valid", "sound", "burn")
    bad_u, valid_u, slices, expected, bad, valid, sound, burn = (nw.col(name) for name in names)
    frame = frame.with_columns(
        _events(valid_u - bad_u).alias("good"),
        _events(valid_u).alias("valid"),
        _events(bad_u).alias("bad"),
        _whole(bad_u, valid_u).alias("whole_counts"),
        ((slices <= expected) & (nw.col("events") < MOST_TOTAL) & (valid_u > 0)).alias("sound"),
        nw.when(expected > 0).then(slices / expected).alias("coverage"),
    )
    met = _at_least(nw.col("budget_p") * valid, bad * nw.col("budget_q"), nw.col("whole_counts"))
    judged = nw.when(met).then(nw.lit("met")).otherwise(nw.lit("missed"))
    frame = frame.with_columns(
        nw.when(sound).then(nw.col("good") / valid).alias("sli_ratio"),
        nw.when(sound & (valid >= nw.col("min_events"))).then(judged).otherwise(nw.lit("no_data")).alias("state"),
        nw.when(sound).then(bad * nw.col("budget_q") / (valid * nw.col("budget_p"))).alias("burn"),
    ).with_columns((burn * slices / nw.col("whole")).alias("budget_used"))
    used = nw.col("budget_used")
    frame = frame.with_columns(
        (1 - used).alias("budget_remaining"),
        nw.when(used >= 1)
        .then(nw.lit(0.0))
        .otherwise(nw.when(nw.col("burn") > 0).then((1 - used) * nw.col("window_s") / nw.col("burn")))
        .alias("exhaustion_s"),
    )
    never = nw.col("exhaustion_s") > nw.col("left_s") * (1 + NEAR)
    return frame.with_columns(nw.when(~never).then(nw.col("exhaustion_s")).alias("exhaustion_s"))


# Every moment of one SLO


def _prefixed(measurements: Frame, slo: Slo, grid: Mapping[str, Sequence[Any]]) -> Frame:
    """The rows of ``grid`` (one per slice, without gaps) with the sums of its ``period`` so far (prefix sums)."""
    moments = grid["at_us"]
    mine = measurements.filter(nw.col("service") == slo.service, nw.col("sli") == slo.sli)
    rows = _counted(mine, moments[0] - slo.slice_s * SECOND_US, moments[-1]).group_by("at_us").agg(*_totals())
    return (
        _lazy_like(measurements, grid, {name: _SLO_PLAN.get(name, nw.Int64()) for name in grid})
        .join(rows, on="at_us", how="left")
        .with_columns(*(nw.col(name).fill_null(0) for name in _SUMS))
        .with_columns(
            *(nw.col(n).cum_sum().over("period", order_by="at_us").cast(k).alias(n) for n, k in _SUMS.items())
        )
    )


def _grid(first: int, last: int, slice_s: int) -> dict[str, Sequence[Any]]:
    """Every slice from number ``first`` to ``last``, all in one period."""
    slice_us = slice_s * SECOND_US
    moments = range(first * slice_us, last * slice_us + 1, slice_us)
    return {"at_us": moments, "period": [0] * len(moments)}


def _window(count: int) -> dict[str, nw.Expr]:
    """The sums of the last ``count`` slices, from prefix sums."""
    return {n: nw.col(n) - nw.col(n).shift(count).over(order_by="at_us").fill_null(0) for n in _SUMS}


def _moments(slo: Slo, start: dt.datetime, end: dt.datetime) -> tuple[int, int]:
    """Numbers of the first and the last slice that ends in ``(start, end]``."""
    slice_us = slo.slice_s * SECOND_US
    first, last = _us(start) // slice_us + 1, _us(end) // slice_us
    if last < first:
        raise ValueError(f"no slice of {slo.slice_s} s ends in ({start.isoformat()}, {end.isoformat()}]")
    return first, last


def timeline(measurements: Frame, slo: Slo, start: dt.datetime, end: dt.datetime) -> Frame:
    """What each alert window of one SLO said at every slice: the decisions of `burns` at each moment, in one pass.

    Args:
        measurements: As for `burns`; rows from the longest alert window before ``start`` on are used.
        slo: The SLO.
        start: Excluded, aware.
        end: Included, aware.

    Returns:
        One row per end of a slice in ``(start, end]`` and alert window, oldest first, then in the order of the policy:
        at_us Int64 · severity · long_s Int64 · short_s Int64 · factor Float64 · burn_long, burn_short Float64, nullable
        · decision · calm Boolean: not firing, and in a window that is at least half covered what was measured burns
        less than the factor; enough to end an alert, not to be sure that there is none.

    Raises:
        ValueError: no slice ends in ``(start, end]``, or a time has no zone.
    """
    first, last = _moments(slo, start, end)
    lengths = [[-(-s // slo.slice_s) for s in (a.long_s, a.short_s)] for a in slo.alerts]
    before = max(itertools.chain(*lengths))
    sums = _prefixed(measurements, slo, _grid(first - before, last, slo.slice_s))
    shown = nw.col("at_us") >= first * slo.slice_s * SECOND_US
    made = []
    for number, (alert, counts) in enumerate(zip(slo.alerts, lengths, strict=True)):
        parts = dict(zip(("long", "short"), counts, strict=True))
        windows = [e.alias(f"{name}_{which}") for which, count in parts.items() for name, e in _window(count).items()]
        limits: dict[str, Any] = {**_limits(slo, alert), "number": number}
        limits |= {f"expected_{which}": float(count) for which, count in parts.items()}
        constants = [nw.lit(value, _PLAN[name]).alias(name) for name, value in limits.items()]
        made.append(sums.select("at_us", *windows).filter(shown).with_columns(*constants))
    wanted = ["at_us", "severity", "long_s", "short_s", "factor", "burn_long", "burn_short", "decision", "calm"]
    # judged together: each use of the expressions is parsed anew, which takes longer than the rows
    return _judged(nw.concat(made)).sort("at_us", "number").select(wanted)


def burn_down(measurements: Frame, slo: Slo, start: dt.datetime, end: dt.datetime) -> Frame:
    """The error budget that remained at every slice: `evaluate`'s budget_remaining at each moment, in one pass.

    Args:
        measurements: As for `burns`; rows from one SLO window (or the start of the calendar period) before ``start``
            on are used.
        slo: The SLO.
        start: Excluded, aware.
        end: Included, aware.

    Returns:
        One row per end of a slice in ``(start, end]``, oldest first: at_us Int64 · budget_remaining Float64, 1 is
        untouched, negative is overspent, null where there is no data.

    Raises:
        ValueError: no slice ends in ``(start, end]``, or a time has no zone.
    """
    first, last = _moments(slo, start, end)
    slice_us = slo.slice_s * SECOND_US
    count = -(-slo.window_s // slo.slice_s)
    if slo.window in CALENDAR:
        periods = [slo._period_us(first * slice_us)]
        while periods[-1][1] < last * slice_us:
            periods.append(slo._period_us(periods[-1][1] + 1))
        grid = _grid(periods[0][0] // slice_us + 1, last, slo.slice_s)
        starts = [start_us for start_us, _ in periods]
        number = [bisect.bisect_left(starts, at_us) - 1 for at_us in grid["at_us"]]
        whole = [float(_slices(*ends, slo.slice_s)) for ends in periods]
        passed = [_slices(starts[n], at_us, slo.slice_s) for n, at_us in zip(number, grid["at_us"], strict=True)]
        grid |= {"period": number, "whole": [whole[n] for n in number], "expected_slices": passed}
        rows = _prefixed(measurements, slo, grid)
    else:
        grid = _grid(first - count, last, slo.slice_s)
        grid |= {name: [count] * len(grid["at_us"]) for name in ("whole", "expected_slices")}
        rows = _prefixed(measurements, slo, grid).with_columns(**_window(count))
    limits = {**_fraction("budget", slo.budget), "min_events": 0.0, "window_s": 1.0, "left_s": 1.0}
    constants = [nw.lit(value, _SLO_PLAN[name]).alias(name) for name, value in limits.items()]
    rows = rows.filter(nw.col("at_us") >= first * slice_us).with_columns(*constants)
    return _spent(rows).sort("at_us").select("at_us", "budget_remaining")
