"""Alerts as the production monitor sends them."""

from __future__ import annotations

import datetime as dt

from feedback_lib.sinks import Message

FINGERPRINT = "0123456789abcdef0123456789abcdef"
OPENED = dt.datetime(2026, 11, 20, 10, tzinfo=dt.UTC)


def iso(at: dt.datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def alert(event="opened", minutes=0, *, start=OPENED, **changes) -> Message:
    """The event ``minutes`` after the alert opened, which gives it its sequence."""
    at = start + dt.timedelta(minutes=minutes)
    data = {
        "event": event,
        "fingerprint": FINGERPRINT,
        "episode": iso(start),
        "sequence": int(at.timestamp()),
        "source": "production_monitor",
        "spec_id": "spec-core-001",
        "service": "my-api",
        "metric": "api_latency_p99",
        "value": 350.0,
        "slo": 200.0,
        "unit": "ms",
        "op": "<",
        "target": "99.9%",
        "window": "30d",
        "sli": 0.97,
        "budget_remaining": 0.42,
        "burn_long": 15.2,
        "burn_short": 18.0,
        "long": "1h",
        "short": "5m",
        "factor": 14.4,
        "severity": "page",
        "previous_severity": None if event in ("opened", "reopened") else "page",
        "sev": "SEV-2",
        "since": iso(start),
        "at": iso(at),
        "resolved_at": iso(at) if event == "resolved" else None,
        "query": 'histogram_quantile(0.99, rate(latency_bucket{service="my-api"}[5m]))',
        "evidence_url": "http://prometheus.example:9090/graph?g0.expr=latency&g0.tab=0",
        "runbook": "https://runbooks.example.org/my-api",
        "summary": "my-api: api_latency_p99 is 350 ms, its target is < 200 ms",
        "reason": "burn rate over 14.4 for 1 h and 5 min",
        **changes,
    }
    key = f"{data['fingerprint']}-{data['sequence']}"
    return Message(key=key, title=data["summary"], text=data["reason"], data=data)


def watchdog(at=OPENED, **changes) -> Message:
    data = {
        "event": "watchdog",
        "source": "production_monitor",
        "at": iso(at),
        "summary": "The monitor of spec-core-001 is alive.",
        "interval_s": 60,
        **changes,
    }
    return Message(key=f"watchdog-{data['at']}", title=data["summary"], text="", data=data)
