"""The monitor as a service: a tick every interval, reports when a day or week is over, its own health on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import http.server
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import filelock

from feedback_lib import performance, specs
from feedback_lib.errors import ConfigError, FeedbackError, StoreError
from feedback_lib.ledger import Ledger, copied
from feedback_lib.monitor import WORST, Monitor, Snapshot, iso, lookback_s
from feedback_lib.records import micros, moment

logger = logging.getLogger(__name__)

PORT = 9469
REPORTED_US = 9 * 86_400_000_000  # reports look back this far beyond the window


def now_utc() -> dt.datetime:
    """The time of this machine."""
    return dt.datetime.now(dt.UTC)


def ledger_path(root: str | Path, spec_id: str) -> Path:
    """Where the memory of a spec's monitor stands, beside its reports."""
    return Path(root) / performance.FOLDER / spec_id / "monitor.sqlite"


def _labels(**pairs: str) -> str:
    """Labels of a sample in Prometheus' text format."""
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in pairs.items()}
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


@dataclasses.dataclass
class Own:
    """How the daemon itself is doing."""

    spec_id: str
    interval_s: float
    started: float = dataclasses.field(default_factory=time.monotonic)
    evaluations: int = 0
    failures: int = 0
    last: Snapshot | None = None
    last_tick: float | None = None  # time.monotonic, so that a clock that jumps does not matter
    last_seconds: float = 0.0
    problem: str = ""

    def age_s(self) -> float:
        """Seconds since the last evaluation that went through, or since the start."""
        return time.monotonic() - (self.last_tick if self.last_tick is not None else self.started)

    def alive(self) -> bool:
        """Whether the newest evaluation is younger than three intervals (at least a minute)."""
        return self.age_s() <= max(3 * self.interval_s, 60)

    def healthz(self) -> dict[str, object]:
        """What ``/healthz`` answers."""
        return {
            "status": "stalled" if not self.alive() else "blind" if self.last and _blindness(self.last) else "ok",
            "spec_id": self.spec_id,
            "service_status": self.last.status if self.last else None,
            "evaluations": self.evaluations,
            "failures": self.failures,
            "seconds_since_evaluation": round(self.age_s(), 1),
            "undelivered": self.last.undelivered if self.last else 0,
            "problem": self.problem,
        }

    def metrics(self) -> str:
        """What ``/metrics`` answers: Prometheus text exposition."""
        last = self.last
        label = _labels(spec_id=self.spec_id)
        lines: list[str] = []

        def add(name: str, kind: str, told: str, samples: Sequence[tuple[str, float]]) -> None:
            lines.extend((f"# HELP feedback_monitor_{name} {told}", f"# TYPE feedback_monitor_{name} {kind}"))
            lines.extend(f"feedback_monitor_{name}{labels} {value!r}" for labels, value in samples)

        add("evaluations_total", "counter", "Evaluations that went through.", [(label, self.evaluations)])
        add("failures_total", "counter", "Evaluations that failed.", [(label, self.failures)])
        add("evaluation_seconds", "gauge", "How long the last evaluation took.", [(label, self.last_seconds)])
        if last is not None:
            stamp = micros(last.at) / 1e6
            lines += [
                "# HELP feedback_monitor_last_evaluation_timestamp_seconds When the last evaluation was.",
                "# TYPE feedback_monitor_last_evaluation_timestamp_seconds gauge",
                f"feedback_monitor_last_evaluation_timestamp_seconds{label} {stamp:.3f}",
            ]
            add("undelivered", "gauge", "Messages that sinks have not been told.", [(label, last.undelivered)])
            states = [
                (_labels(spec_id=self.spec_id, sli=h.sli_name, status=s), int(h.status == s))
                for h in last.slos
                for s in WORST
            ]
            add("slo_status", "gauge", "1 for the status an SLO has.", states)
            left = [
                (_labels(spec_id=self.spec_id, sli=h.sli_name), h.budget_remaining)
                for h in last.slos
                if h.budget_remaining is not None
            ]
            add("budget_remaining_ratio", "gauge", "Share of the error budget that is left.", left)
        return "\n".join(lines) + "\n"


def once(spec_id: str, root: str | Path, *, now: dt.datetime | None = None, dry_run: bool = False) -> Snapshot:
    """One tick: measure, judge, tell the sinks, write the reports that are due.

    With ``dry_run`` it works on a copy of the memory, and nothing is told, written or remembered. So does a ``now``
    before what was judged already, with an empty memory: looking back changes nothing.

    Raises:
        ConfigError: the spec or its observability.yaml is wrong.
        StoreError: the memory cannot be used.
    """
    plan = specs.load(spec_id, root)
    path = ledger_path(root, spec_id)
    with contextlib.ExitStack() as stack:
        if not dry_run:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(filelock.FileLock(f"{path}.once", timeout=0))
            except filelock.Timeout:
                raise FeedbackError(f"another run watches {spec_id} right now; nothing was done") from None
            except OSError as error:
                raise StoreError(
                    "ledger", f"{path.parent}: {error.strerror}. Make it a folder you can write."
                ) from None
        if now and path.exists() and _judged_until(path, plan) > now:
            dry_run, path = True, Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
        elif dry_run:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
            path = copied(path, copy) if path.exists() else copy
        ledger = stack.enter_context(contextlib.closing(Ledger(path)))
        watcher = Monitor(plan, ledger, dry_run=dry_run)
        snapshot = watcher.tick(now or now_utc())
        if not dry_run:
            _housekeeping(watcher, root, snapshot.at)
        return snapshot


def _judged_until(path: Path, plan: specs.Plan) -> dt.datetime:
    with contextlib.closing(Ledger(path)) as ledger:
        return moment(max((ledger.newest(w.slo.sli) or 0 for w in plan.watched), default=0))


def report(spec_id: str, root: str | Path, period: performance.Period, day: dt.date) -> tuple[dict[str, Any], Path]:
    """Make the report of a day or week again from the memory, with what is asked of the backends now.

    Raises:
        ConfigError: the spec or its observability.yaml is wrong, or the period is not over.
    """
    plan = _untold(specs.load(spec_id, root))
    _, end, name = performance.period_of(period, day)
    with _kept(spec_id, root) as ledger:
        watcher = Monitor(plan, ledger)
        if all((ledger.first(w.slo.sli) or micros(end)) >= micros(end) for w in plan.watched):
            raise ConfigError(f"{spec_id}: nothing was measured in {name}; name a later day")
        if any((ledger.asked(w.slo.sli) or micros(end)) < micros(end) for w in plan.watched):
            raise ConfigError(f"{spec_id}: {name} is not measured to its end; name a day or week before it")
        found = performance.find_regressions(watcher, end) if period == "weekly" else None
        made = performance.build(plan, ledger, period, day, found)
    return made, performance.write(made, root, replace=True)[0]


def history(spec_id: str, root: str | Path) -> list[dict[str, Any]]:
    """What happened to a spec, oldest first: each change of health, and each event of an alert.

    Returns:
        Rows of at (ISO 8601) · metric ("" is the service as a whole) · what (a status, or an event with its severity)
        · why.

    Raises:
        ConfigError: there is no such spec, or it was never measured.
    """
    specs.find(spec_id, root)
    with _kept(spec_id, root) as ledger:
        rows = [
            {"at": iso(moment(r["at_us"])), "metric": r["sli"], "what": r["status"], "why": r["reason"]}
            for r in ledger.health().iter_rows(named=True)
        ]
        rows += [
            {"at": e["at"], "metric": e["metric"], "what": f"{e['severity']} {e['event']}", "why": e["summary"]}
            for e in ledger.events()
        ]
    return sorted(rows, key=lambda row: row["at"])


def regressions(spec_id: str, root: str | Path, as_of: dt.datetime | None = None) -> list[dict[str, Any]]:
    """What got worse for good over the last week, one row per SLO, asked of the backends; see `performance`."""
    plan = _untold(specs.load(spec_id, root))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Ledger(Path(folder) / "none.sqlite")) as ledger:
        watcher = Monitor(plan, ledger)
        found = performance.find_regressions(watcher, as_of or now_utc())
    return performance.regression_rows(plan, found)


def run(
    spec_id: str,
    root: str | Path,
    *,
    interval_s: float | None = None,
    port: int | None = None,
    stop: threading.Event,
    clock: Callable[[], dt.datetime] = now_utc,
    tell: Callable[[Snapshot], None] = lambda _: None,
    ticks: int | None = None,
) -> Own:
    """Watch a spec until ``stop`` is set; the tick under way is finished first.

    Args:
        spec_id: the spec.
        root: the project's folder.
        interval_s: seconds between ticks; None takes the one of observability.yaml.
        port: of /healthz and /metrics on this machine; None takes 9469 when it is free, 0 any free one.
        stop: set it to end.
        clock: what time it is.
        tell: called with each snapshot.
        ticks: end after so many.

    Raises:
        ConfigError: the spec, its observability.yaml or the port is wrong at the start. A change that is wrong later
            is logged, and the plan before it goes on.
    """
    plan = specs.load(spec_id, root)
    seen, stale = _stamps(plan), ""
    ledger = Ledger(ledger_path(root, spec_id))
    watcher = Monitor(plan, ledger, interval_s=interval_s, stopping=stop.is_set)
    own = Own(spec_id, interval_s or plan.interval_s)
    server = _serve(own, port)
    try:
        done = 0
        while not stop.is_set() and (ticks is None or done < ticks):
            began = time.monotonic()
            now = clock()
            try:
                if (stamps := _stamps(plan)) != seen:
                    seen = stamps
                    changed, stale = _read_again(spec_id, root)
                    if changed is not None:
                        plan = changed
                        watcher = Monitor(plan, ledger, interval_s=interval_s, stopping=stop.is_set)
                own.last = watcher.tick(now)
                own.last_tick, own.problem = time.monotonic(), stale or _blindness(own.last)
                own.evaluations += 1
                tell(own.last)
                _housekeeping(watcher, root, now)
            except FeedbackError as problem:
                own.failures += 1
                own.problem = str(problem)
                logger.error("spec=%s evaluation failed: %s", spec_id, problem)
            except Exception as fault:  # a daemon that ends is worse than one that says it failed
                own.failures += 1
                own.problem = f"unexpected fault ({type(fault).__name__})"
                logger.exception("spec=%s evaluation failed", spec_id)
            own.last_seconds = time.monotonic() - began
            done += 1
            if ticks is None or done < ticks:
                stop.wait(max(0.0, own.interval_s - own.last_seconds))
        logger.info("spec=%s stopped after %d evaluations", spec_id, own.evaluations)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
        ledger.close()
    return own


def _read_again(spec_id: str, root: str | Path) -> tuple[specs.Plan | None, str]:
    """The changed plan of a spec; None, and why, when it is wrong."""
    try:
        plan = specs.load(spec_id, root)
    except FeedbackError as problem:
        logger.error("spec=%s the plan before goes on: %s", spec_id, problem)
        return None, f"{problem} (the plan before goes on)"
    logger.info("spec=%s its spec or observability.yaml changed and was read again", spec_id)
    return plan, ""


def _blindness(shot: Snapshot) -> str:
    """Why nothing can be seen; "" while anything can."""
    if any(health.status != "unknown" for health in shot.slos):
        return ""
    return next((health.reason for health in shot.slos), "")


def _kept(spec_id: str, root: str | Path) -> contextlib.closing[Ledger]:
    """The memory of a spec's monitor.

    Raises:
        ConfigError: there is none yet.
    """
    path = ledger_path(root, spec_id)
    if not path.exists():
        raise ConfigError(f"{spec_id}: nothing was measured yet; run 'feedback monitor --spec-id {spec_id}' first")
    return contextlib.closing(Ledger(path))


def _untold(plan: specs.Plan) -> specs.Plan:
    """The plan without its sinks: nobody is told, and none of their secrets is needed."""
    return dataclasses.replace(plan, sinks=())


def _housekeeping(watcher: Monitor, root: str | Path, now: dt.datetime) -> None:
    """Write the reports that are due; drop samples nobody needs any more."""
    performance.write_due(watcher, root, now)
    oldest_us = max((lookback_s(w.slo) for w in watcher.plan.watched), default=0) * 1_000_000
    newest = [us for w in watcher.plan.watched if (us := watcher.ledger.newest(w.slo.sli)) is not None]
    if newest:  # not by the clock, which may be wrong
        watcher.ledger.forget(max(newest) - oldest_us - REPORTED_US)


def _stamps(plan: specs.Plan) -> list[int]:
    """When the files of a plan were last written."""
    return [p.stat().st_mtime_ns if p.exists() else 0 for p in (plan.spec, plan.observability)]


class _Handler(http.server.BaseHTTPRequestHandler):
    own: Own

    def do_GET(self) -> None:
        """Answer /healthz and /metrics."""
        if self.path == "/healthz":
            self._answer(200 if self.own.alive() else 503, "application/json", json.dumps(self.own.healthz()) + "\n")
        elif self.path == "/metrics":
            self._answer(200, "text/plain; version=0.0.4", self.own.metrics())
        else:
            self._answer(404, "text/plain", "There are /healthz and /metrics.\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep scrapes out of the log."""
        logger.debug("own health: " + format, *args)


def _serve(own: Own, port: int | None) -> http.server.ThreadingHTTPServer | None:
    handler = type("Handler", (_Handler,), {"own": own})
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT if port is None else port), handler)
    except OSError as error:
        if port is not None:
            raise ConfigError(f"port {port} of this machine: {error.strerror}. Name another with --port.") from None
        logger.warning("port %d is taken; own health is not served. Name another with --port.", PORT)
        return None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="own-health", daemon=True).start()
    logger.info("own health: http://127.0.0.1:%d/healthz and /metrics", server.server_address[1])
    return server
