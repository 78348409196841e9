"""Alerts as files for the incident workflow, one per episode of a problem."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from feedback_lib import sinks
from feedback_lib.errors import DeliveryError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt

_UPSTREAM = ("source", "spec_id", "metric", "value", "slo", "severity")  # the payload the incident workflow takes
_STEP = ("sequence", "event", "at", "severity", "urgency", "value", "burn_long", "burn_short", "reason")
_LOCK_S = 30


@register("sinks", "incident_file")
@dataclasses.dataclass(frozen=True)
class IncidentFile:
    """One JSON file per fingerprint and episode, which the alert's events bring up to date."""

    folder: str = ".spec/reports/production-monitoring/alerts"

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Put the event into the file of its episode.

        The file holds the state after the event with the highest sequence and the list of all events, whatever the
        order they arrive in; an event it holds changes nothing. It is replaced in one step, one writer at a time.

        Raises:
            DeliveryError: the message is no alert, the folder cannot be written, or the file is none of ours.
        """
        alert = sinks.alert(message, "incident_file")
        path = Path(self.folder)
        body, delivered = None, False
        if not message.watchdog:
            path = path / _name(alert, message)
            try:
                if dry_run:
                    body = _merged(_held(path, message), alert)
                else:
                    delivered = _update(path, alert, message)
            except OSError as error:
                raise DeliveryError(
                    "incident_file",
                    message.key,
                    f"{path.parent}: {error.strerror or 'another process holds it'}. "
                    "Make the folder writable or name another.",
                ) from error
        return Receipt("incident_file", message.key, str(path), delivered, dt.datetime.now(dt.UTC), body)


def _name(alert: Mapping[str, Any], message: Message) -> str:
    """The file of an episode: its moment, so that files sort by it, and the fingerprint."""
    try:
        at = dt.datetime.fromisoformat(str(alert["episode"])).astimezone(dt.UTC)
    except ValueError:
        raise DeliveryError("incident_file", message.key, "the alert's episode is no time in ISO 8601") from None
    moment = at.strftime("%Y%m%dT%H%M%S") + (f".{at.microsecond:06}" if at.microsecond else "") + "Z"
    return f"{moment}-{re.sub('[^A-Za-z0-9]+', '-', str(alert['fingerprint']))[:64]}.json"


def _update(path: Path, alert: Mapping[str, Any], message: Message) -> bool:
    """Whether the file was changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.parent / ".alerts.lock", timeout=_LOCK_S):
        text = _merged(_held(path, message), alert)
        if text is None:
            return False
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)  # the incident workflow may be another user
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return True


def _held(path: Path, message: Message) -> dict[str, Any]:
    """What the file holds; nothing when there is none."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        held = None
    if not isinstance(held, dict) or not all(isinstance(step, dict) for step in held.get("history") or [None]):
        raise DeliveryError("incident_file", message.key, f"{path} is no alert file; move it away")
    return held


def _merged(held: Mapping[str, Any], alert: Mapping[str, Any]) -> str | None:
    """The file with the event in it; None when it was there. Keys that others added stay."""
    history = list(held.get("history", ()))
    if any(step.get("sequence") == alert["sequence"] for step in history):
        return None
    now = dict(alert)
    now["urgency"], now["previous_urgency"] = now.pop("severity"), now.pop("previous_severity", None)
    now["severity"] = now.pop("sev", None)
    history.append({name: now.get(name) for name in _STEP})
    history.sort(key=lambda step: step["sequence"])
    now["state"] = "resolved" if now["event"] == "resolved" else "open"
    ordered = {name: now.pop(name, None) for name in (*_UPSTREAM, "state")} | now
    newest = history[-1]["sequence"] == alert["sequence"]
    merged = {**held, **ordered} if newest else dict(held)
    merged.pop("history", None)
    return json.dumps({**merged, "history": history}, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
