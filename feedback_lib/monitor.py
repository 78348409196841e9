"""The production monitor: measure, judge, alert once, remember.

A tick asks each backend for the samples it has not sent yet, keeps them in the `Ledger`, and carries each alert over
the moments these samples speak of. Nothing is judged by the clock of this machine, so a backend that was away, a
monitor that was killed and a second monitor beside the first all lead to the same alerts. A backend that fails, or
says that its answer is incomplete, leaves the SLO unknown: no sample is kept, no alert starts or ends, and the same
stretch is asked for again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime as dt
import hashlib
import importlib.metadata
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import filelock
import narwhals as nw
import polars as pl

from feedback_lib import plugins, privacy
from feedback_lib.analysis import alerts, slo
from feedback_lib.errors import ConfigError, DeliveryError, MetricsError
from feedback_lib.ledger import SAMPLE_SCHEMA, Delivery, Ledger
from feedback_lib.metrics import Backend, Query
from feedback_lib.records import micros, moment
from feedback_lib.sinks import Message, Sink
from feedback_lib.specs import Plan, Watched

logger = logging.getLogger(__name__)

Status = Literal["healthy", "degraded", "unhealthy", "unknown"]
WORST: tuple[Status, ...] = ("unhealthy", "degraded", "unknown", "healthy")
HOLD_S = 300  # calm this long ends an alert
REOPEN_S = 86_400  # the same problem within a day is the same alert
OVERLAP_S = 900  # asked for again: the newest samples of many services still change
WORKERS = 4  # queries at a time
SILENT_AFTER = 2 * WORKERS  # queries without any answer, and none with one: the backend is away
LATE_S = 86_400  # samples may come so much later than their moment
LEAST_COVERAGE = 0.25  # of the last hour; with less nothing can be said
SURPLUS = 0.01  # an extrapolated count of good or bad may be so much over the total
RETRY_S = (15, 60, 300, 900)  # between tries to tell a sink
_US = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Health:
    """How one SLO stands.

    ``value`` is the newest measurement and ``threshold`` its limit, both in ``unit``; ``sli``, ``budget_remaining``
    and ``burn`` are plain ratios over the SLO's window, None without data; ``exhaustion_s`` is None when the budget
    lasts.
    """

    sli_name: str
    category: str
    status: Status
    reason: str
    value: float | None
    op: str
    threshold: float
    unit: str
    target: str
    window: str
    sli: float | None
    budget_remaining: float | None
    burn: float | None
    exhaustion_s: float | None
    last_at: dt.datetime | None
    alert: str | None  # page or ticket while one is open
    since: dt.datetime | None
    query: str
    evidence_url: str | None
    runbook: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How a service stands: the worst of its SLOs, and what sinks could not be told."""

    spec_id: str
    service: str
    at: dt.datetime
    status: Status
    slos: tuple[Health, ...]
    unmeasured: tuple[str, ...]
    events: tuple[Mapping[str, Any], ...]  # new in this tick
    undelivered: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values in the shape of ``smartspec_production_monitor``, with further keys; times are ISO 8601."""
        metrics = []
        for health in self.slos:
            row = dataclasses.asdict(health)
            metrics.append({"name": row.pop("sli_name"), "slo": row.pop("threshold"), **row})
        made = {
            "workflow": "smartspec_production_monitor",
            "version": importlib.metadata.version("feedback_lib"),
            "run_id": f"{self.spec_id}-{iso(self.at)}",
            "spec_id": self.spec_id,
            "service": self.service,
            "at": self.at,
            "status": self.status,
            "metrics": metrics,
            "unmeasured": self.unmeasured,
            "events": self.events,
            "undelivered": self.undelivered,
        }
        return json.loads(json.dumps(made, default=iso))  # type: ignore[no-any-return]


class Monitor:
    """Watches the SLOs of one spec.

    Args:
        plan: what to watch, see `specs.load`.
        ledger: its memory.
        interval_s: seconds between ticks; None takes those of the plan.
        dry_run: tell no sink.
        stopping: asked before each query; True ends the tick soon.

    Raises:
        ConfigError: a backend or sink is configured wrongly.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        *,
        interval_s: float | None = None,
        dry_run: bool = False,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan, self.ledger, self.dry_run = plan, ledger, dry_run
        self._interval_s, self._stopping = interval_s or plan.interval_s, stopping
        made: dict[str, Backend] = {}
        self.backends: dict[str, Backend] = {}  # by SLI
        for watched in plan.watched:
            options = dict(watched.backend)
            same = json.dumps(options, sort_keys=True, default=str)
            self.backends[watched.slo.sli] = made.setdefault(same, plugins.build("metrics", options))
        self._sinks: dict[str, Sink] = {_sink_name(o): plugins.build("sinks", o) for o in plan.sinks}
        for sink in plan.sinks:
            for variable in (v for k, v in sink.items() if k.endswith("_env") and v and not os.environ.get(str(v))):
                logger.warning("sink=%s variable %s is not set; no alert would arrive", sink.get("kind"), variable)
        self._begun = False
        self._problems: dict[str, str] = {}
        self._unanswered: Counter[int] = Counter()  # queries of this tick, by backend
        self._answered: set[int] = set()
        self._links: dict[str, str | None] = {}

    def tick(self, now: dt.datetime) -> Snapshot:
        """Measure and judge everything once, tell the sinks what is new, and say how the service stands."""
        events: list[Mapping[str, Any]] = [] if self._begun else self._begin(now)
        self.deliver(now)  # what waits does not wait for slow backends
        self._unanswered.clear()
        self._answered.clear()
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            outcomes = pool.map(lambda watched: self._gather(watched, now), self.plan.watched)
            for watched, problem in zip(self.plan.watched, outcomes, strict=True):
                self._problems[watched.slo.sli] = problem
        events += [event for watched in self.plan.watched for event in self._judge(watched)]
        healths = tuple(self._health(watched, now) for watched in self.plan.watched)
        status: Status = next((s for s in WORST if any(h.status == s for h in healths)), "unknown")
        stands = [("", status, ""), *((h.sli_name, h.status, h.reason) for h in healths)]
        for name, state, reason in [] if self._stopping() else stands:  # cut short, it is no sign of bad health
            if self.ledger.note_health(name, micros(now), state, reason):
                logger.info("spec=%s sli=%s status=%s reason=%s", self.plan.spec_id, name or "*", state, reason or "-")
        self.deliver(now)
        self._beat(now)
        return Snapshot(
            spec_id=self.plan.spec_id,
            service=self.plan.service,
            at=now,
            status=status,
            slos=healths,
            unmeasured=tuple(f"line {t.line}: {t.text.strip()}" for t in self.plan.unmeasured),
            events=tuple(events),
            undelivered=len(self.ledger.open_deliveries()),
        )

    def _begin(self, now: dt.datetime) -> list[Mapping[str, Any]]:
        """Bring the memory in line with the plan: what is measured otherwise now, watched no more, told elsewhere."""
        self._begun = True
        for watched in self.plan.watched:
            self.ledger.define(watched.slo.sli, _definition(watched))
        ended: list[Mapping[str, Any]] = []
        known = {alerts.fingerprint(self.plan.spec_id, w.slo.sli) for w in self.plan.watched}
        for last in self.ledger.standing():
            mark = last["fingerprint"]
            if mark in known:
                continue
            at = max(micros(now) // _US, last["sequence"] + 1)
            over = {**last, "event": "resolved", "sequence": at, "at": iso(moment(at * _US))}
            over |= {"resolved_at": over["at"], "reason": "it is no longer watched"}
            over["summary"] = f"{last['service']}: {last['metric']} is no longer watched; its alert is closed."
            self.ledger.save_alert(mark, alerts.AlertState(at * _US), [over], list(self._sinks))
            ended.append(over)
        if not self.dry_run:
            self.ledger.tell_also(list(self._sinks))
        return ended

    # measure

    def _gather(self, watched: Watched, now: dt.datetime) -> str:
        """Ask for what is new and keep it; the reason why not, "" when it worked."""
        backend, step = self.backends[watched.slo.sli], watched.slo.slice_s
        until = micros(now) // (step * _US) * step
        name = watched.slo.sli
        asked = self.ledger.asked(name)
        if asked is not None and asked > until * _US:  # the clock was ahead, and is set back now
            self.ledger.turn_back(name, alerts.fingerprint(self.plan.spec_id, name), until * _US)
            asked = self.ledger.asked(name)
        start = until - lookback_s(watched.slo)
        if not backend.history:
            start = until
        elif asked is not None:
            newest = max(self.ledger.newest(name) or 0, asked - LATE_S * _US)
            start = max(start, (min(asked, newest) // _US - OVERLAP_S) // step * step)
        if self._stopping():
            return "the monitor is stopping"
        if self._unanswered[id(backend)] >= SILENT_AFTER and id(backend) not in self._answered:
            return "the backend answered no other query"
        try:
            samples, partial = self.sample(watched, start, until)
        except (MetricsError, ConfigError) as error:
            self._unanswered[id(backend)] += isinstance(error, MetricsError) and error.unreachable
            return str(error)
        except Exception as fault:  # one odd answer must not blind the other SLOs
            logger.exception("spec=%s sli=%s unexpected fault", self.plan.spec_id, name)
            return f"unexpected fault ({type(fault).__name__}); the log says where"
        self._answered.add(id(backend))
        if partial:
            return f"the answer is incomplete: {partial}"
        self.ledger.add_samples(name, samples, until * _US)
        return ""

    def sample(self, watched: Watched, start: int, until: int) -> tuple[pl.DataFrame, str | None]:
        """Samples from ``start`` to ``until``, and why they are incomplete, None when they are whole.

        Args:
            watched: the SLO.
            start: epoch seconds, a multiple of its slice.
            until: epoch seconds, included.

        Returns:
            at_us (the end of the slice) · good · valid · value; nothing is kept.

        Raises:
            MetricsError: the backend failed, or its answer makes no sense for this SLO.
        """
        backend = self.backends[watched.slo.sli]
        series: dict[str, pl.DataFrame] = {}
        why = None
        for role in ("query", "good", "bad", "total"):
            query: Query | None = getattr(watched, role)
            if query is None:
                continue
            if backend.history:
                answer = backend.between(query, moment(start * _US), moment(until * _US), watched.slo.slice_s)
            else:
                answer = backend.now(query, moment(until * _US))
            if answer.frame.get_column("series").n_unique() > 1:
                names = answer.frame.get_column("series").unique().sort().to_list()
                raise MetricsError(
                    str(watched.backend["kind"]),
                    f"{watched.slo.sli}: {role} gave {len(names)} series ({names[0]}; {names[1]}; …); "
                    "aggregate them into one, such as with sum(…)",
                )
            self._links[watched.slo.sli] = answer.address
            why = why or answer.partial
            series[role] = answer.frame.select(at_us=pl.col("at").dt.epoch("us"), value="value")
        return _samples(watched, series, until * _US), why

    # judge

    def _judge(self, watched: Watched) -> Sequence[Mapping[str, Any]]:
        """Carry the alert of an SLO over the moments that are new; returns the events nobody had noted before."""
        name = watched.slo.sli
        newest = self.ledger.newest(name)  # not the clock: silence is looked at when it is over
        if newest is None:
            return []
        mark = alerts.fingerprint(self.plan.spec_id, name)
        with self.ledger.transaction():
            state = self.ledger.alert_state(mark)
            if state is not None and state.folded_us >= newest:
                return []
            oldest = max(
                newest - lookback_s(watched.slo) * _US, (self.ledger.first(name) or 0) - watched.slo.slice_s * _US
            )
            start = state.folded_us if state else oldest
            longest_us = (max(w.long_s for w in watched.slo.alerts) + watched.slo.slice_s) * _US
            measured = self.ledger.measurements(watched.slo.service, name, after_us=start - longest_us)
            timeline = nw.to_native(
                slo.timeline(nw.from_native(measured.lazy()), watched.slo, moment(start), moment(newest)).collect()
            )
            hold_s = math.ceil(HOLD_S / watched.slo.slice_s) * watched.slo.slice_s
            after, events = alerts.fold(state or alerts.AlertState(start), timeline, hold_s=hold_s, reopen_s=REOPEN_S)
            if state is None:  # what was over before anybody watched is not told
                events = events[-1:] if after.severity else []
            after = dataclasses.replace(after, folded_us=newest)
            told = [self._alert(watched, mark, event, timeline) for event in events]
            self.ledger.save_alert(mark, after, told, list(self._sinks))
        for alert in told:
            logger.info(
                "spec=%s sli=%s event=%s severity=%s since=%s",
                self.plan.spec_id,
                name,
                alert["event"],
                alert["severity"],
                alert["since"],
            )
        return told

    def _alert(self, watched: Watched, mark: str, event: alerts.Event, timeline: pl.DataFrame) -> dict[str, Any]:
        at = moment(event.at_us)
        stand = self._stand(watched, self._window(watched, at), at)
        rows = timeline.filter((pl.col("at_us") == event.at_us) & (pl.col("severity") == event.severity))
        rows = rows.sort(pl.col("decision") != "firing", pl.col("long_s")) if rows.height else rows
        window = rows.row(0, named=True) if rows.height else {}
        over = event.kind == "resolved"
        alert = {
            "event": event.kind,
            "fingerprint": mark,
            "episode": iso(moment(event.episode_us)),
            "sequence": event.sequence,
            "source": "production_monitor",
            "spec_id": self.plan.spec_id,
            "service": watched.slo.service,
            "metric": watched.slo.sli,
            "category": watched.slo.category,
            "value": shown(watched, stand["last_value"]),
            "op": watched.op,
            "slo": watched.limit,
            "unit": watched.unit,
            "target": watched.slo.target,
            "window": watched.slo.window,
            "sli": stand["sli_ratio"],
            "budget_remaining": stand["budget_remaining"],
            "burn_long": window.get("burn_long"),
            "burn_short": window.get("burn_short"),
            "long": _length(window.get("long_s")),
            "short": _length(window.get("short_s")),
            "factor": window.get("factor"),
            "severity": event.severity,
            "previous_severity": event.previous_severity,
            "sev": _sev(watched.slo, event.severity, window),
            "since": iso(moment(event.since_us)),
            "at": iso(at),
            "resolved_at": iso(at) if over else None,
            "query": query_text(watched),
            "evidence_url": self._links.get(watched.slo.sli),
            "runbook": watched.runbook or self.plan.runbook,
        }
        return {**alert, "summary": _sentence(alert), "reason": _why(alert)}

    def _window(self, watched: Watched, at: dt.datetime) -> pl.DataFrame:
        """The measurements an SLO is judged by at a moment."""
        until_us = micros(at)
        after_us = until_us - lookback_s(watched.slo) * _US
        return self.ledger.measurements(watched.slo.service, watched.slo.sli, after_us, until_us)

    def _stand(self, watched: Watched, measured: pl.DataFrame, at: dt.datetime) -> dict[str, Any]:
        rows = nw.to_native(slo.evaluate(nw.from_native(measured.lazy()), [watched.slo], at).collect())
        newest = measured.filter(pl.col("valid") > 0).tail(1)
        bad = float((newest["valid"] - newest["good"]).sum()) / float(newest["valid"].sum() or 1)
        return {
            **rows.row(0, named=True),
            "last_bad": bad > float(watched.slo.budget),
            "recent_coverage": _recent_coverage(watched, measured),
        }

    def _health(self, watched: Watched, now: dt.datetime) -> Health:
        asked = self.ledger.asked(watched.slo.sli)
        at = min(moment(asked), now) if asked is not None else now
        measured = self._window(watched, at)
        stand = self._stand(watched, measured, at)
        state = self.ledger.alert_state(alerts.fingerprint(self.plan.spec_id, watched.slo.sli))
        severity = state.severity if state else None
        since = moment(state.since_us) if state and severity and state.since_us is not None else None
        status, reason = self._status(watched, stand, severity, measured.height, now)
        return Health(
            sli_name=watched.slo.sli,
            category=watched.slo.category,
            status=status,
            reason=reason,
            value=shown(watched, stand["last_value"]),
            op=watched.op,
            threshold=watched.limit,
            unit=watched.unit,
            target=watched.slo.target,
            window=watched.slo.window,
            sli=stand["sli_ratio"],
            budget_remaining=stand["budget_remaining"],
            burn=stand["burn"],
            exhaustion_s=stand["exhaustion_s"],
            last_at=moment(stand["last_us"]) if stand["last_us"] is not None else None,
            alert=severity,
            since=since,
            query=query_text(watched),
            evidence_url=self._links.get(watched.slo.sli),
            runbook=watched.runbook or self.plan.runbook,
        )

    def _status(
        self, watched: Watched, stand: Mapping[str, Any], severity: str | None, samples: int, now: dt.datetime
    ) -> tuple[Status, str]:
        """One of the four states, and why in a few words ("" when healthy)."""
        if problem := self._problems.get(watched.slo.sli):
            return "unknown", problem
        if stand["last_us"] is None:
            return "unknown", "no data in its window"
        if stand["recent_coverage"] < LEAST_COVERAGE:
            share = percent(stand["recent_coverage"], 0)
            return "unknown", f"only {share} of the last hour was measured; is the slice shorter than two scrapes?"
        age_s = (micros(now) - stand["last_us"]) / _US
        if age_s > max(3 * watched.slo.slice_s, HOLD_S):
            return "unknown", f"no data since {_short(moment(stand['last_us']))}"
        if severity == "page":
            return "unhealthy", "the error budget burns fast"
        if severity == "ticket":
            return "degraded", "the error budget burns slowly"
        over = stand["last_bad"]
        if over and samples == 1:
            return "unhealthy", "over its limit in the only measurement there is"
        if stand["budget_remaining"] is not None and stand["budget_remaining"] <= 0:
            return "degraded", "the error budget of the window is spent"
        if over:
            return "degraded", "over its limit in the newest measurement"
        return "healthy", ""

    # tell

    def deliver(self, now: dt.datetime) -> None:
        """Tell each sink what it has not been told, in order; one that is slow or down keeps no other waiting.

        One monitor of a ledger tells at a time.
        """
        pending: dict[str, list[Delivery]] = {}
        try:
            with filelock.FileLock(f"{self.ledger.path}.deliver", timeout=0):
                for delivery in self.ledger.open_deliveries(micros(now)):
                    pending.setdefault(delivery.sink, []).append(delivery)
                self._each(pending, lambda name: self._tell(name, pending[name], now))
        except filelock.Timeout:
            logger.debug("spec=%s another monitor is telling the sinks", self.plan.spec_id)

    def _each(self, names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do something for every sink, side by side."""
        names = list(names)
        if not names:
            return
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(work, names))

    def _tell(self, name: str, pending: Sequence[Delivery], now: dt.datetime) -> None:
        sink = self._sinks.get(name)
        for delivery in pending:
            if sink is None:
                logger.warning("spec=%s sink=%s is not configured any more; not told", self.plan.spec_id, name)
                self.ledger.delivered(delivery, micros(now))
                continue
            try:
                sink.deliver(_message(delivery.alert), dry_run=self.dry_run)
            except (DeliveryError, ConfigError) as error:
                wait = RETRY_S[min(delivery.attempts, len(RETRY_S) - 1)]
                self.ledger.failed(delivery, str(error), micros(now) + wait * _US)
                logger.error("spec=%s sink=%s not told, next try in %d s: %s", self.plan.spec_id, name, wait, error)
                return
            self.ledger.delivered(delivery, micros(now))

    def _beat(self, now: dt.datetime) -> None:
        """Show the sinks that this monitor lives, and repeat what is open to those that forget.

        A watcher of silence (dead man's switch) waits for the first. The second is harmless where it is known.
        """
        if self.dry_run:
            return
        beat = {
            "event": "watchdog",
            "source": "production_monitor",
            "spec_id": self.plan.spec_id,
            "service": self.plan.service,
            "at": iso(now),
            "interval_s": self._interval_s,
            "summary": f"the monitor of {self.plan.spec_id} is running",
        }
        blind = all(self._problems.get(w.slo.sli) for w in self.plan.watched)  # then silence is the right sign
        alive = Message(f"watchdog-{self.plan.spec_id}-{iso(now)}", str(beat["summary"]), "", data=beat)

        def show(name: str) -> None:
            sink = self._sinks[name]
            again = self.ledger.standing(name) if getattr(sink, "forgets", False) else []
            try:
                for message in ([] if blind else [alive]) + [_message(alert) for alert in again]:
                    sink.deliver(message)
            except (DeliveryError, ConfigError) as error:
                logger.error("spec=%s sink=%s heartbeat failed: %s", self.plan.spec_id, name, error)

        self._each(self._sinks, show)


def _samples(watched: Watched, series: Mapping[str, pl.DataFrame], until_us: int) -> pl.DataFrame:
    """at_us · good · valid · value from what was queried, up to ``until_us``.

    Of two counts, good or bad that is missing where the other is there is 0: a counter of errors begins with the first
    error. A total that is missing is no data, and so is good that may only be late.
    """
    if "query" in series:
        values = series["query"]
        shares = pl.col("value") * watched.scale
        if watched.slo.method == "ratio_timeslices":
            values = values.with_columns(1 - shares if watched.invert else shares)
            outside = values.filter(~pl.col("value").is_between(0, 1))
            if outside.height:
                raise _senseless(watched, f"{outside['value'][0]:g} is no share of good; mend its unit")
        measured: pl.DataFrame = nw.to_native(slo.measure(nw.from_native(values.lazy()), watched.slo).collect())
        return measured.select("at_us", "good", "valid").join(series["query"], on="at_us").select(*SAMPLE_SCHEMA)
    (a, left), (b, right) = series.items()
    both = left.join(right, on="at_us", how="full", coalesce=True).rename({"value": a, "value_right": b})
    if "total" in series:
        both = both.filter(pl.col("total").is_not_null())
    if "good" in series:
        settled = pl.col("at_us") <= until_us - OVERLAP_S * _US
        both = both.filter(pl.col("good").is_not_null() | settled)
    both = both.fill_null(0)
    count = {a: pl.col(a), b: pl.col(b)}
    valid = count["total"] if "total" in count else count["good"] + count["bad"]
    part = pl.col(a)
    if "total" in count and both.filter(part > valid * (1 + SURPLUS) + 1).height:
        raise _senseless(watched, f"{a!r} is more than 'total'; they count different things")
    good = count["good"] if "good" in count else valid - count["bad"]
    valid, good = valid.clip(0), good.clip(0, valid)  # an extrapolated increase may be a hair beyond
    share = pl.col("valid") - pl.col("good") if watched.op.startswith("<") else pl.col("good")
    value = pl.when(pl.col("valid") > 0).then(share / pl.col("valid"))
    return both.select("at_us", good=good, valid=valid).with_columns(value=value).sort("at_us")


def _recent_coverage(watched: Watched, measured: pl.DataFrame) -> float:
    """The share of the slices that have data in the hour before the newest, or since the first if that is later."""
    if measured.is_empty():
        return 0.0
    first, newest = int(measured.item(0, "at_us")), int(measured.item(-1, "at_us"))
    slice_us = watched.slo.slice_s * _US
    span_us = min(max(3_600 * _US, slice_us), newest - first + slice_us)
    return measured.filter(pl.col("at_us") > newest - span_us).height / max(1, span_us // slice_us)


def _senseless(watched: Watched, what: str) -> MetricsError:
    return MetricsError(str(watched.backend["kind"]), f"{watched.slo.sli}: {what}")


def percent(ratio: float | None, places: int) -> str:
    """A ratio as a percentage; all but all is not 100 %, hardly any is not 0 %.

    >>> percent(0.9985, 2), percent(0.99999, 2), percent(1.0, 2), percent(0.0004, 1), percent(None, 2)
    ('99.85 %', '99.999 %', '100 %', '0.04 %', '–')
    """
    if ratio is None:
        return "–"
    text = f"{ratio * 100:.{places}f}"
    while places < 9 and ratio not in (0, 1) and float(text) in (0, 100):
        places += 1
        text = f"{ratio * 100:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def budget_words(remaining: float | None) -> str:
    """What is left of an error budget, or how far it is overspent.

    >>> [budget_words(left) for left in (0.8495, 0.0, -0.374, -2.37, -17.06, None)]
    ['85 % left', 'just spent', 'overspent by 37 %', 'spent 3.4 times over', 'spent 18 times over', 'no data']
    """
    if remaining is None:
        return "no data"
    if remaining > 0:
        return f"{percent(remaining, 0)} left"
    if remaining == 0:
        return "just spent"
    if remaining > -1:
        return f"overspent by {percent(-remaining, 0)}"
    return f"spent {float(f'{1 - remaining:.2g}'):g} times over"


def query_text(watched: Watched) -> str:
    """What a backend is asked, in one text: the evidence of a number."""
    asked = {role: getattr(watched, role) for role in ("query", "good", "bad", "total")}
    texts = {role: q if isinstance(q, str) else json.dumps(q) for role, q in asked.items() if q is not None}
    if watched.backend["kind"] in ("http_check", "command"):  # an address or arguments, where secrets may stand
        texts = {role: privacy.redact(text) for role, text in texts.items()}
    return texts.get("query") or "; ".join(f"{role}: {text}" for role, text in texts.items())


def shown(watched: Watched, measured: float | None) -> float | None:
    """A measured value in the unit of its limit; None for no value and for one beyond all numbers."""
    return None if measured is None or not math.isfinite(measured) else watched.shown(measured)


def _message(alert: Mapping[str, Any]) -> Message:
    title = f"{str(alert['event']).capitalize()}: {alert['service']} {alert['metric']} ({alert['sev']})"
    return Message(f"{alert['fingerprint']}-{alert['sequence']}", title, str(alert["summary"]), data=alert)


def _sentence(alert: Mapping[str, Any]) -> str:
    """What happened, in one sentence."""
    name = f"{alert['service']}: {alert['metric']}"
    if alert["event"] == "resolved":
        return f"{name} is calm again; it burned from {_clock(alert['since'])} to {_clock(alert['at'])} UTC."
    text = f"{name} burns its error budget"
    if alert["burn_long"] is not None:
        text += f" {alert['burn_long']:.3g} times too fast over {alert['long']}"
        text += f" ({alert['burn_short']:.3g} over {alert['short']})"
    if alert["value"] is not None and alert["slo"] is not None:
        unit = f" {alert['unit']}".rstrip()
        text += f"; now {alert['value']:.4g}{unit} against {alert['op']} {alert['slo']:g}{unit}"
    if alert["budget_remaining"] is not None:
        text += f"; budget of {alert['window']}: {budget_words(alert['budget_remaining'])}"
    return text + "."


def _why(alert: Mapping[str, Any]) -> str:
    if alert["factor"] is None:
        return "every window is below its limit"
    verb = "calm for the hold time below" if alert["event"] == "resolved" else "at or over"
    return f"{verb} {alert['factor']:.3g} × the sustainable rate in {alert['long']} and {alert['short']}"


def _sev(watched: slo.Slo, severity: str, window: Mapping[str, Any]) -> str:
    """SEV-1 when half of what is asked fails, SEV-2 for a page, SEV-3 for a ticket."""
    if severity == "ticket":
        return "SEV-3"
    failing = (window.get("burn_short") or 0.0) * float(watched.budget)
    return "SEV-1" if watched.category in ("availability", "error_rate", "reliability") and failing >= 0.5 else "SEV-2"


def lookback_s(watched: slo.Slo) -> int:
    """How far back samples count: the SLO's window, or the longest alert window."""
    days: int | None = {"week": 7, "month": 31, "quarter": 92}.get(watched.window)
    window = days * 86_400 if days else watched.window_s
    return max(window, 3 * 86_400) // watched.slice_s * watched.slice_s


def _definition(watched: Watched) -> str:
    """What a sample means: where it comes from and what makes it good."""
    rule = watched.slo
    backend = {k: v for k, v in watched.backend.items() if not k.endswith(("_env", "_s")) and k not in ("ca", "user")}
    parts = [backend, watched.query, watched.good, watched.bad, watched.total, watched.scale]
    parts += [watched.invert, rule.method, rule.slice_s, rule.op, rule.threshold]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _sink_name(options: Mapping[str, Any]) -> str:
    """A stable name of one configured sink: its kind, and a hash of where it goes."""
    mark = hashlib.sha256(json.dumps(dict(options), sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{options.get('kind')}-{mark}"


def iso(at: Any) -> str:
    """A time as ISO 8601 with Z; anything else as text."""
    return at.isoformat().replace("+00:00", "Z") if isinstance(at, dt.datetime) else str(at)


def _short(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _clock(iso: str) -> str:
    return iso[:16].replace("T", " ")


def _length(seconds: int | None) -> str | None:
    return None if seconds is None else slo.format_duration(seconds)
