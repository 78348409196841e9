"""Alerts to a Prometheus Alertmanager, API version 2."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from feedback_lib import sinks
from feedback_lib.errors import ConfigError, DeliveryError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt

_PATH = "/api/v2/alerts"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OURS = ("alertname", "service", "slo", "spec_id", "severity", "fingerprint")

# An alert without an end is resolved by Alertmanager after its resolve_timeout, five minutes, unless it is sent again
# and again; ours is sent when something changes. So an open alert ends this long after its last event: the usual SLO
# window, in which a burn that goes on has long changed state, and after which an alert of a monitor that is gone for
# good goes too. Chosen by us.
_OPEN = dt.timedelta(days=30)
_MISSED = 4  # intervals without a sign of life, after which the watchdog's alert ends; chosen by us


@register("sinks", "alertmanager")
@dataclasses.dataclass(frozen=True)
class Alertmanager:
    """Alerts under labels that stay the same from opening to resolving.

    Of several Alertmanagers in a cluster each is a sink of its own: they sort out duplicates among themselves.
    """

    url: str
    user: str | None = None
    password_env: str | None = None
    token_env: str | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    forgets: ClassVar[bool] = True  # a restart loses what is open: it is to be told again and again

    def __post_init__(self) -> None:
        sinks.check_address(self.url, "alertmanager", "url")
        if bool(self.user) != bool(self.password_env) or (self.user and self.token_env):
            raise ConfigError("sinks alertmanager: write both user and password_env, or token_env alone, or none")
        for name in self.labels:
            if not _LABEL.fullmatch(str(name)) or name in _OURS:
                why = "is set by us" if name in _OURS else "may hold letters, digits and _ only"
                raise ConfigError(f"sinks alertmanager: label {name!r} {why}; write another name")

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Post the alert as it stands; the same one again changes nothing.

        When its severity changed, the alert with the old severity label is ended in the same request. A watchdog event
        is an alert named Watchdog, to be routed to what notices its absence.

        Raises:
            DeliveryError: the message is no alert, or it did not arrive.
            ConfigError: an environment variable for credentials is not set.
        """
        alert = sinks.alert(message, "alertmanager")
        try:
            body = [self._watchdog(alert)] if message.watchdog else self._alerts(alert)
        except ValueError:
            raise DeliveryError("alertmanager", message.key, "a time of the alert is not in ISO 8601") from None
        address = self.url.rstrip("/") + _PATH
        if not dry_run:
            login = self._login()
            hidden = [word for value in login.values() for word in value.split()[1:]]
            reply = sinks.send("alertmanager", message.key, "POST", address, body=body, headers=login, hidden=hidden)
            if "html" in reply.headers.get("content-type", ""):
                raise DeliveryError(
                    "alertmanager", message.key, f"{address} answered a web page; is this Alertmanager's address?"
                )
        shown = sinks.dumped(body) if dry_run else None
        return Receipt("alertmanager", message.key, address, not dry_run, dt.datetime.now(dt.UTC), shown)

    def _alerts(self, alert: Mapping[str, Any]) -> list[dict[str, Any]]:
        at, since = _time(alert["at"]), _time(alert["since"])
        ends = _time(alert.get("resolved_at") or alert["at"]) if alert["event"] == "resolved" else at + _OPEN
        made = [self._alert(alert, str(alert["severity"]), since, ends)]
        before = alert.get("previous_severity")
        if before and before != alert["severity"]:
            made.append(self._alert(alert, str(before), since, at))
        return made

    def _alert(self, alert: Mapping[str, Any], severity: str, since: dt.datetime, ends: dt.datetime) -> dict[str, Any]:
        labels = {
            "alertname": "SLOErrorBudgetBurn",
            "service": alert.get("service"),
            "slo": alert.get("metric"),
            "spec_id": alert.get("spec_id"),
            "severity": severity,
            "fingerprint": alert["fingerprint"],
        }
        made = {
            "labels": self._labels(labels),
            "annotations": _annotations(alert),
            "startsAt": _written(since),
            "endsAt": _written(max(since, ends)),  # an end before the start is refused
        }
        if sinks.is_address(alert.get("evidence_url")):
            made["generatorURL"] = alert["evidence_url"]
        return made

    def _watchdog(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        at = _time(alert["at"])
        about = {name: alert.get(name) for name in ("source", "service", "spec_id")}
        return {
            "labels": self._labels({"alertname": "Watchdog", "severity": "none", **about}),
            "annotations": {"summary": str(alert.get("summary") or "The monitor is alive.")},
            "startsAt": _written(at),
            "endsAt": _written(at + dt.timedelta(seconds=_MISSED * float(alert.get("interval_s") or 60))),
        }

    def _labels(self, labels: Mapping[str, Any]) -> dict[str, str]:
        return {name: str(value) for name, value in {**self.labels, **labels}.items() if value not in (None, "")}

    def _login(self) -> dict[str, str]:
        from feedback_lib.transport import secret

        if self.token_env:
            return {"Authorization": f"Bearer {secret(self.token_env, 'alertmanager')}"}
        if self.user and self.password_env:
            pair = f"{self.user}:{secret(self.password_env, 'alertmanager')}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        return {}


def _annotations(alert: Mapping[str, Any]) -> dict[str, str]:
    """What a person reads; numbers are rounded here only."""
    unit = f" {alert['unit']}" if alert.get("unit") else ""
    told = {
        "summary": alert["summary"],
        "reason": alert.get("reason"),
        "value": _shown(alert.get("value"), unit),
        "threshold": " ".join(p for p in (alert.get("op"), _shown(alert.get("slo"), unit)) if p),
        "target": alert.get("target"),
        "window": alert.get("window"),
        "sli": _shown(alert.get("sli")),
        "budget_remaining": _shown(alert.get("budget_remaining")),
        "burn_rate": _burn(alert),
        "sev": alert.get("sev"),
        "runbook_url": alert.get("runbook"),  # the name that Alertmanager's own templates and pages look for
        "query": alert.get("query"),
        "evidence": None if sinks.is_address(alert.get("evidence_url")) else alert.get("evidence_url"),
    }
    return {name: str(text) for name, text in told.items() if text not in (None, "")}


def _burn(alert: Mapping[str, Any]) -> str:
    parts = [
        f"{_shown(alert.get(rate))} over {alert.get(window)}"
        for rate, window in (("burn_long", "long"), ("burn_short", "short"))
        if alert.get(rate) is not None
    ]
    limit = f" (alerts at {_shown(alert['factor'])})" if parts and alert.get("factor") is not None else ""
    return ", ".join(parts) + limit


def _shown(value: Any, unit: str = "") -> str:
    if value is None:
        return ""
    return f"{value:.6g}{unit}" if isinstance(value, int | float) else f"{value}{unit}"


def _time(text: Any) -> dt.datetime:
    at = dt.datetime.fromisoformat(str(text))
    return at.replace(tzinfo=at.tzinfo or dt.UTC).astimezone(dt.UTC)


def _written(at: dt.datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
