"""A made-up service for tests of the monitor: minutes of counts and latencies in a CSV file, and its plan."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from pathlib import Path

import polars as pl

from feedback_lib.analysis.slo import Slo
from feedback_lib.ledger import Ledger
from feedback_lib.monitor import Monitor
from feedback_lib.specs import Plan, Watched

T0 = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)


def at(minute: float) -> dt.datetime:
    """So many minutes after the beginning of the world."""
    return T0 + dt.timedelta(minutes=minute)


def write(path: Path, minutes: int, *, bad=(), slow=(), gone=(), first: int = 1) -> None:
    """1,000 requests a minute; 100 of them fail in the minutes of ``bad``, 300 ms instead of 100 in ``slow``."""
    rows = [
        (f"{at(m):%Y-%m-%dT%H:%M:%SZ}", 1000, 100 if m in bad else 0, 0.3 if m in slow else 0.1)
        for m in range(first, minutes + 1)
        if m not in gone
    ]
    frame = pl.DataFrame(rows, schema=["at", "total", "bad", "p99"], orient="row")
    part = path.with_suffix(".part")
    frame.write_csv(part)
    part.replace(path)


def plan(folder: Path, *, sinks=None, backend=None, window="30d") -> Plan:
    """Two SLOs of "api": errors by counts, p99 by minutes."""
    backend = backend or {"kind": "csv_file", "path": str(folder / "metrics.csv")}
    errors = Slo(
        service="api", sli="api_error_rate", category="error_rate", target="99.9%", window=window, method="occurrences"
    )
    p99 = Slo(
        service="api", sli="api_latency_p99", category="latency", target="99%", window=window, op="<", threshold=0.2
    )
    percent, milli = {"unit": "%", "exact_factor": Fraction(100)}, {"unit": "ms", "exact_factor": Fraction(1000)}
    return Plan(
        spec_id="spec-api-001",
        service="api",
        spec=folder / "spec.md",
        observability=folder / "observability.yaml",
        watched=(
            Watched(slo=errors, backend=backend, bad="bad", total="total", op="<", limit=0.1, **percent),
            Watched(slo=p99, backend=backend, query="p99", op="<", limit=200, **milli),
        ),
        sinks=tuple(sinks if sinks is not None else ({"kind": "incident_file", "folder": str(folder / "alerts")},)),
        runbook="https://runbooks.example.org/api",
    )  # fmt: skip


class World:
    """The service with one monitor; ``tick(m)`` looks at minute ``m``."""

    def __init__(self, folder: Path, **options) -> None:
        self.folder = folder
        self.csv = folder / "metrics.csv"
        self.ledger = Ledger(folder / "monitor.sqlite")
        self.monitor = Monitor(plan(folder, **options), self.ledger)
        self.events: list[tuple[int, str, str, str]] = []

    def tick(self, minute: float):
        shot = self.monitor.tick(at(minute) + dt.timedelta(seconds=2))
        self.events += [(_minute(e["at"]), e["metric"], e["event"], e["severity"]) for e in shot.events]
        return shot

    def close(self) -> None:
        self.ledger.close()


def _minute(iso: str) -> int:
    return int((dt.datetime.fromisoformat(iso) - T0).total_seconds() // 60)


SPEC = """\
# API

## Non-Functional Requirements

| Category | Requirement | Metric | Target |
|---|---|---|---|
| Reliability | Error Rate | `api_error_rate` | < 0.1% |
| Performance | p99 Latency | `api_latency_p99` | < 200ms |
"""

OBSERVABILITY = """\
{provider}
service: api
window: 30d
metrics:
  - name: api_error_rate
    bad: {bad}
    total: {total}
  - name: api_latency_p99
    query: {p99}
    unit: s
alerts:
{alerts}
"""


def project(
    root: Path, *, provider="provider: csv_file\npath: metrics.csv", alerts="", bad="bad", total="total", p99="p99"
):
    """A project's folder with the spec of "api"; returns the folder of the spec."""
    folder = root / "specs" / "spec-api-001"
    folder.mkdir(parents=True)
    (folder / "spec.md").write_text(SPEC)
    alerts = f"  - kind: incident_file\n{alerts}".rstrip()
    text = OBSERVABILITY.format(provider=provider, alerts=alerts, bad=bad, total=total, p99=p99)
    (folder / "observability.yaml").write_text(text)
    return folder
