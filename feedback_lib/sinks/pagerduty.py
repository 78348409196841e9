"""Alerts to PagerDuty, Events API version 2."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from feedback_lib import sinks
from feedback_lib.errors import DeliveryError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt

_SEVERITY = {"SEV-1": "critical", "SEV-2": "error", "SEV-3": "warning", "SEV-4": "info"}
_URGENCY = {"page": "critical", "ticket": "warning"}
_SUMMARY = 1024  # characters PagerDuty keeps
_ELSEWHERE = frozenset(
    ("event", "fingerprint", "at", "summary", "service", "metric", "spec_id", "evidence_url", "runbook", "source")
)


@register("sinks", "pagerduty")
@dataclasses.dataclass(frozen=True)
class PagerDuty:
    """One PagerDuty alert per fingerprint, triggered while it is open and resolved after."""

    routing_key_env: str
    url: str = "https://events.pagerduty.com"

    def __post_init__(self) -> None:
        sinks.check_address(self.url, "pagerduty", "url")

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Trigger or resolve; PagerDuty knows an alert by its fingerprint and counts it once.

        Raises:
            DeliveryError: the message is no alert, it did not arrive, or PagerDuty refused it.
            ConfigError: the environment variable with the routing key is not set.
        """
        from feedback_lib.transport import secret

        alert = sinks.alert(message, "pagerduty")
        address = self.url.rstrip("/") + "/v2/enqueue"
        body = None
        if not message.watchdog:
            key = f"${{{self.routing_key_env}}}" if dry_run else secret(self.routing_key_env, "pagerduty")
            event = {"routing_key": key, **_event(alert)}
            if dry_run:
                body = sinks.dumped(event)
            else:
                reply = sinks.send("pagerduty", message.key, "POST", address, body=event, hidden=(key,))
                if reply.status != 202:
                    raise DeliveryError(
                        "pagerduty",
                        message.key,
                        f"{address} answered {reply.status}, not 202; is this the address of its Events API?",
                    )
        delivered = not (dry_run or message.watchdog)
        return Receipt("pagerduty", message.key, address, delivered, dt.datetime.now(dt.UTC), body)


def _event(alert: Mapping[str, Any]) -> dict[str, Any]:
    resolved = alert["event"] == "resolved"
    event: dict[str, Any] = {
        "event_action": "resolve" if resolved else "trigger",
        "dedup_key": alert["fingerprint"],
        "payload": {
            "summary": str(alert["summary"])[:_SUMMARY],
            "source": str(alert.get("service") or alert.get("spec_id") or alert.get("source")),
            "severity": _SEVERITY.get(str(alert.get("sev"))) or _URGENCY.get(str(alert["severity"]), "error"),
            "timestamp": alert["at"],
            "component": alert.get("metric"),
            "group": alert.get("spec_id"),
            "class": "SLO burn rate",
            "custom_details": {k: v for k, v in alert.items() if k not in _ELSEWHERE and v is not None},
        },
    }
    event["payload"] = {name: value for name, value in event["payload"].items() if value is not None}
    links = (("evidence_url", "Measurements"), ("runbook", "Runbook"))
    found = [{"href": alert[name], "text": text} for name, text in links if sinks.is_address(alert.get(name))]
    if found:
        event["links"] = found
    if not resolved:
        event["client"] = "Feedback Workbench"
        if sinks.is_address(alert.get("evidence_url")):
            event["client_url"] = alert["evidence_url"]
    return event
