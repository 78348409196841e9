"""Performance reports of the production monitor: a day or a week of each SLO, as JSON the aggregator reads.

The shape is the one of ``smartspec_production_monitor`` with further keys; docs/performance-report.md describes it and
data/performance-report.schema.json is its schema. A report is a function of the ledger, so it can be made again.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import polars as pl

from feedback_lib.analysis import alerts, regressions, slo
from feedback_lib.errors import ConfigError, MetricsError, StoreError
from feedback_lib.ledger import Ledger
from feedback_lib.metrics import Histograms
from feedback_lib.monitor import WORST, Monitor, Status, iso, query_text, shown
from feedback_lib.records import micros, moment
from feedback_lib.specs import Plan, Watched

SCHEMA = "performance-report/1"
FOLDER = ".spec/reports/production-monitoring"
HISTORY_DAYS = 56
HISTORY_STEP_S = 300
_HOUR_US = 3_600_000_000
SETTLED = dt.timedelta(minutes=10)  # late samples of a period are in by then
Period = Literal["daily", "weekly"]
logger = logging.getLogger(__name__)


def period_of(period: Period, day: dt.date) -> tuple[dt.datetime, dt.datetime, str]:
    """Start and end of the day or ISO week (from Monday) that holds ``day``, UTC, and its name.

    >>> period_of("weekly", dt.date(2026, 11, 20))[2]
    '2026-W47'
    """
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    if period == "daily":
        return start, start + dt.timedelta(days=1), day.isoformat()
    start -= dt.timedelta(days=day.weekday())
    year, week, _ = start.isocalendar()
    return start, start + dt.timedelta(days=7), f"{year}-W{week:02}"


def build(
    plan: Plan, ledger: Ledger, period: Period, day: dt.date, found: Mapping[str, regressions.Result] | None = None
) -> dict[str, Any]:
    """The report of the day or week that holds ``day``.

    Args:
        plan: the SLOs.
        ledger: the monitor's memory.
        period: daily or weekly.
        day: any day of it, UTC.
        found: what `find_regressions` found at its end, by SLI.
    """
    start, end, name = period_of(period, day)
    events = [e for e in ledger.events(micros(start), micros(end)) if e["service"] == plan.service]
    metrics = [_metric(w, plan, ledger, start, end) for w in plan.watched]
    status = next((s for s in WORST if any(m["status"] == s for m in metrics)), "unknown")
    return {
        "workflow": "smartspec_production_monitor",
        "version": importlib.metadata.version("feedback_lib"),
        "schema": SCHEMA,
        "run_id": f"{plan.spec_id}-{period}-{name}",
        "spec_id": plan.spec_id,
        "service": plan.service,
        "period": period,
        "name": name,
        "start": iso(start),
        "end": iso(end),
        "at": iso(end),
        "complete": _measured_to(plan, ledger, end),
        "status": status,
        "metrics": metrics,
        "alerts": [
            {k: e[k] for k in ("event", "fingerprint", "metric", "severity", "sev", "since", "at", "summary")}
            for e in events
        ],
        "regressions": regression_rows(plan, found or {}),
        "deploys": [
            {"at": iso(r["at"]), "version": r["version"]}
            for r in deploys(plan).filter(pl.col("at").is_between(start, end, closed="left")).iter_rows(named=True)
        ],
        "unmeasured": [{"line": t.line, "text": t.text.strip()} for t in plan.unmeasured],
        "rerun": f"feedback slo report --spec-id {plan.spec_id} --period {period} --day {start.date()}",
    }


def write(report: dict[str, Any], root: str | Path, *, replace: bool = False) -> tuple[Path, bool]:
    """Write a report into ``.spec/reports/production-monitoring/<spec-id>/``, whole or not at all.

    Returns:
        The file, and whether it was written now; one that is there stays unless ``replace``.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = _path(root, report["spec_id"], report["name"], report["period"])
    if path.exists() and not replace:
        return path, False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(report, file, ensure_ascii=False, indent=1, allow_nan=False)
            file.write("\n")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise StoreError("performance reports", f"{path}: {error.strerror}. Make its folder writable.") from error
    return path, True


def write_due(watcher: Monitor, root: str | Path, now: dt.datetime) -> list[Path]:
    """Write the reports of the days and weeks that are over and not written yet, back to the first sample or a week.

    A period is written when everything of it has been asked for, at the latest a day after its end.
    """
    plan, ledger = watcher.plan, watcher.ledger
    settled = now - SETTLED
    first = min((us for w in plan.watched if (us := ledger.first(w.slo.sli)) is not None), default=None)
    asked = [ledger.asked(w.slo.sli) or 0 for w in plan.watched]
    if first is None:
        return []
    written = []
    days = [settled.date() - dt.timedelta(days=n) for n in range(1, 9)]
    due: list[tuple[Period, dt.date]] = [("daily", d) for d in days]
    due += [("weekly", d) for d in days if d.weekday() == 6]
    for period, day in due:
        _, end, name = period_of(period, day)
        complete = min(asked) >= micros(end) or now - end > dt.timedelta(days=1)
        if end > settled or micros(end) <= first or not complete:
            continue
        standing = _complete(_path(root, plan.spec_id, name, period))
        whole = _measured_to(plan, ledger, end)
        if standing or (standing is False and not whole):
            continue
        found = find_regressions(watcher, end) if period == "weekly" else None
        path, new = write(build(plan, ledger, period, day, found), root, replace=standing is False)
        if new:
            logger.info("spec=%s report=%s", plan.spec_id, path)
            written.append(path)
    return written


def deploys(plan: Plan) -> pl.DataFrame:
    """The deploys the plan names, oldest first: at · version. Empty when it names none.

    Raises:
        ConfigError: the file cannot be read as at,version.
    """
    empty = pl.DataFrame(schema={"at": pl.Datetime("us", "UTC"), "version": pl.String})
    if plan.deploys is None:
        return empty
    try:
        frame = pl.read_csv(plan.deploys, schema_overrides={"version": pl.String}).select("at", "version")
        return frame.with_columns(pl.col("at").str.to_datetime(time_unit="us", time_zone="UTC")).sort("at")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(
            f"{plan.deploys}: {str(error).splitlines()[0]}; write columns at,version, such as 2026-11-20T08:00Z,4.2.0"
        ) from None


def find_regressions(watcher: Monitor, as_of: dt.datetime) -> dict[str, regressions.Result]:
    """What got worse for good over the last week, by SLI, from eight weeks asked of the backends.

    A value with a limit is tested as it is, everything that is a share by its share of bad, in percent. A backend
    without history is left out; one that fails has a result that says so.
    """
    found = {}
    for watched in watcher.plan.watched:
        backend = watcher.backends[watched.slo.sli]
        if not backend.history:
            continue
        try:
            values, edges = _history(watcher, watched, as_of)
        except (MetricsError, ConfigError) as error:
            found[watched.slo.sli] = regressions.Result(None, str(error))
            continue
        worse: Literal["up", "down"] = "up" if _by_share(watched) or watched.op.startswith("<") else "down"
        found[watched.slo.sli] = regressions.find(
            values,
            as_of=as_of,
            options=regressions.RegressionOptions(direction=worse),
            bucket_edges=edges or None,
            subject=watched.slo.sli,
        )
    return found


def _by_share(watched: Watched) -> bool:
    return watched.slo.method != "timeslices" or watched.query is None


def _history(watcher: Monitor, watched: Watched, as_of: dt.datetime) -> tuple[pl.DataFrame, list[float]]:
    """Eight weeks of what is tested, at · value in the shown unit, and the edges of the histogram behind it."""
    backend, days = watcher.backends[watched.slo.sli], dt.timedelta(days=HISTORY_DAYS)
    step = watched.slo.slice_s if _by_share(watched) else max(HISTORY_STEP_S, watched.slo.slice_s)
    end = int(as_of.timestamp()) // step * step
    if _by_share(watched):
        samples, _ = watcher.sample(watched, end - int(days.total_seconds()), end)
        hours = samples.group_by((pl.col("at_us") - 1) // _HOUR_US).agg(pl.col("good", "valid").sum())
        bad = hours.filter(pl.col("valid") > 0).select(
            at=((pl.col("at_us") + 1) * _HOUR_US).cast(pl.Datetime("us", "UTC")),
            value=100 * (1 - pl.col("good") / pl.col("valid")).clip(0, 1),
        )
        return bad, []
    assert watched.query is not None  # or it would be a share
    end_at = moment(end * 1_000_000)
    answer = backend.between(watched.query, end_at - days, end_at, step)
    edges = backend.bucket_edges(watched.query, end_at) if isinstance(backend, Histograms) else ()
    return (
        answer.frame.select("at", pl.col("value") * watched.factor),
        [e * watched.factor for e in edges if 0 < e < math.inf],
    )


def _measured_to(plan: Plan, ledger: Ledger, end: dt.datetime) -> bool:
    """Whether every SLO has samples up to the end of a period."""
    return all((ledger.newest(w.slo.sli) or 0) >= micros(end) for w in plan.watched)


def _complete(path: Path) -> bool | None:
    """Whether the report that stands there is complete; None when there is none, or it cannot be read."""
    try:
        return bool(json.loads(path.read_text("utf-8")).get("complete", True))
    except (OSError, ValueError):
        return None


def regression_rows(plan: Plan, found: Mapping[str, regressions.Result]) -> list[dict[str, Any]]:
    """What `find_regressions` found as JSON values, one row per SLO that was looked at."""
    return [_regression(w, plan, found[w.slo.sli]) for w in plan.watched if w.slo.sli in found]


def _path(root: str | Path, spec_id: str, name: str, period: str) -> Path:
    return Path(root) / FOLDER / spec_id / f"{name}-{period}.json"


def _metric(watched: Watched, plan: Plan, ledger: Ledger, start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    """One SLO over the period; ``value`` is the median of its slices, or the ratio of the counted events."""
    rule = watched.slo
    measured = ledger.measurements(rule.service, rule.sli, until_us=micros(end))
    inside = measured.filter(pl.col("at_us") > micros(start))
    stand = nw.to_native(slo.evaluate(nw.from_native(measured.lazy()), [rule], end).collect()).row(0, named=True)
    good, valid = float(inside.get_column("good").sum()), float(inside.get_column("valid").sum())
    values = inside.drop_nulls("value")
    worst = values.sort("value", descending=watched.op.startswith("<")).head(1)
    share = (valid - good if watched.op.startswith("<") else good) / valid if valid else None
    value: Any = share if rule.method == "occurrences" else values.get_column("value").median()
    burn = (1 - good / valid) / float(rule.budget) if valid else None
    severity = ledger.worst_severity(alerts.fingerprint(plan.spec_id, rule.sli), micros(start), micros(end))
    status: Status = "healthy"
    if not valid:
        status = "unknown"
    elif severity == "page":
        status = "unhealthy"
    elif severity == "ticket" or (burn is not None and burn > 1):
        status = "degraded"
    expected = int((end - start).total_seconds()) // rule.slice_s
    return {
        "name": rule.sli,
        "category": rule.category,
        "value": shown(watched, value),
        "op": watched.op,
        "slo": watched.limit,
        "unit": watched.unit,
        "status": status,
        "worst": shown(watched, worst.get_column("value").item() if worst.height else None),
        "worst_at": iso(moment(worst.get_column("at_us").item())) if worst.height else None,
        "target": rule.target,
        "sli": good / valid if valid else None,
        "good": good,
        "valid": valid,
        "burn": burn,
        "window": rule.window,
        "window_sli": stand["sli_ratio"],
        "budget_remaining": stand["budget_remaining"],
        "no_data_ratio": 1 - min(inside.height / expected, 1.0),
        "query": query_text(watched),
        "runbook": watched.runbook or plan.runbook,
        "line": watched.target.line if watched.target else None,
    }


def _regression(watched: Watched, plan: Plan, result: regressions.Result) -> dict[str, Any]:
    rise = result.regression
    share = _by_share(watched)
    name, unit = (f"bad share of {watched.slo.sli}", "%") if share else (watched.slo.sli, watched.unit)
    return {
        "metric": watched.slo.sli,
        "found": rise is not None,
        "reason": result.reason,
        "estimate": rise.estimate if rise else None,
        "low": rise.low if rise else None,
        "high": rise.high if rise else None,
        "start": rise.start.isoformat() if rise else None,
        "before": rise.before if rise else None,
        "after": rise.after if rise else None,
        "unit": unit,
        "tested": result.tested,
        "power": result.power,
        "bucket": [result.bucket.low, result.bucket.high] if result.bucket else None,
        "notes": list(result.notes),
        "sentence": rise.sentence(name, plan.service, unit) if rise else None,
    }
