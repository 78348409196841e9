"""Performance reports of the production monitor: a signal for every metric that is not healthy or got worse."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from feedback_lib import privacy
from feedback_lib.errors import SourceError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Signal, real_time
from feedback_lib.sources import too_deep

logger = logging.getLogger(__name__)

_HEALTHY = frozenset(("healthy", "ok", "pass", "passed", "met", "green"))
_SEVERITY = {"regressed": "medium", "critical": "critical", "unhealthy": "high", "degraded": "medium", "no_data": "low"}
_ALIASES = {
    **dict.fromkeys(("fail", "failed", "breach", "breached", "violated", "red"), "unhealthy"),
    **dict.fromkeys(("warning", "warn", "at_risk", "yellow"), "degraded"),
    **dict.fromkeys(("unknown", "no data", "missing"), "no_data"),
}
_TIME_KEYS = ("generated_at", "timestamp", "time", "finished_at", "created_at", "at")
_NO_TIME = "is no time of the years 1970 to 2199; write ISO 8601"
_TIME_IN_NAME = re.compile(
    r"(20[0-9]{2})-?([01][0-9])-?([0-3][0-9])(?:[T_ -]?([0-2][0-9])[:-]?([0-5][0-9])(?:[:-]?([0-5][0-9]))?)?"
)


@register("sources", "spec_reports")
@dataclasses.dataclass(frozen=True)
class SpecReports:
    """The folder the production monitor writes its ``summary.json`` files to, read with its subfolders.

    What lies below a folder ``alerts`` is no report and is left out.

    Options:
        folder: where it is.
        name: what it is called instead of the folder.
    """

    folder: str = ".spec/reports/production-monitoring"
    name: str | None = None

    personal_fields: ClassVar[tuple[str, ...]] = ()
    plain_fields: ClassVar[tuple[str, ...]] = ("file", "at", "run_id", "spec_id", "service", "version", "url")

    @property
    def origin(self) -> str:
        """The option ``name``; else the folder's name."""
        return self.name or Path(self.folder).name

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Item | Rejected]:
        """Yield one item for each metric that is not healthy or regressed, oldest report first.

        A report counts when its own time lies in ``[since, until)``, or when it lies before ``until`` and its file
        was written in the window: reports reach the folder after the time they speak of. A healthy report yields
        nothing; how many there were is logged.

        Raises:
            SourceError: there is no such folder.
        """
        folder = self._folder()
        found: list[tuple[str, dict[str, Any]]] = []
        healthy = 0
        for path in sorted(folder.rglob("*.json")):
            file = path.relative_to(folder).as_posix()
            if "alerts" in path.relative_to(folder).parts[:-1]:  # one file per alert, for the incident workflow
                continue
            try:
                written = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
                reports = _reports(path.read_bytes())
            except (OSError, ValueError, RecursionError) as error:
                yield Rejected(file, getattr(error, "strerror", None) or str(error))
                continue
            for number, report in enumerate(reports, 1):
                where = file if len(reports) == 1 else f"{file}:{number}"
                try:
                    at = _report_time(report, file) or real_time(written)
                    items = _items(report, file, at)
                except ValueError as error:
                    yield Rejected(where, str(error))
                    continue
                healthy += not items
                if at < until and (since is None or at >= since or since <= written < until):
                    found += ((where, item) for item in items)
        logger.info("source=%s reports_healthy=%d metrics_not_healthy=%d", self.origin, healthy, len(found))
        seen: set[str] = set()
        for where, item in sorted(found, key=lambda pair: (pair[1]["at"], pair[0], pair[1]["metric"]["name"])):
            key = _native_id(item)
            if key not in seen:  # the same run saved under two names
                seen.add(key)
                at = dt.datetime.fromisoformat(item["at"])
                yield Item(item, where, key, at, at)

    def _folder(self) -> Path:
        folder = Path(self.folder)
        if not folder.is_dir():
            raise SourceError(
                "spec_reports",
                self.origin,
                f"{self.folder} is no folder; start in the project's root or set the option 'folder'",
            )
        return folder

    def check(self) -> str:
        """How many files there are; raises SourceError as `fetch` does."""
        return f"{sum(1 for _ in self._folder().rglob('*.json'))} files"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one metric of a report into a signal.

        Raises:
            ValueError: the payload has no metric or no time.
        """
        metric, at = payload.get("metric"), payload.get("at")
        if not isinstance(metric, Mapping) or not isinstance(at, str):
            raise ValueError("has no metric or no time")
        status, unit = str(metric["status"]), str(metric.get("unit") or "")
        value, limit = _shown(metric.get("value"), unit), _shown(metric.get("slo"), unit)
        subject = str(payload.get("spec_id") or payload.get("service") or self.origin)
        if metric["name"] == _WHOLE:
            title = f"{subject} is {status}"
        elif status == _REGRESSED:
            title = str(metric["sentence"])
        elif status == "no_data":
            title = f"{metric['name']} has no data ({subject})"
        else:
            title = f"{metric['name']} {value} against {limit} ({subject})"
        told = [f"The production monitor found {metric['name']} {status.replace('_', ' ')}."]
        told += [f"{word}: {text}." for word, text in (("Value", value), ("SLO", limit)) if text != "?"]
        told += [str(metric[k]) for k in ("message", "description") if metric.get(k)]
        created = dt.datetime.fromisoformat(at)
        return Signal(
            kind="spec_reports",
            origin=self.origin,
            native_id=_native_id(payload),
            type="performance",
            title=title,
            body=" ".join(told),
            created_at=created,
            updated_at=created,
            url=privacy.redact_address(str(metric.get("url") or payload.get("url") or "")) or None,
            state=status,
            labels=(str(metric["name"]),),
            service=_optional(metric.get("service") or payload.get("service")),
            spec_id=_optional(payload.get("spec_id")),
            severity=_SEVERITY.get(status, "high"),
        )


_WHOLE = "the service as a whole"
_REGRESSED = "regressed"  # worse than in the weeks before, whether or not it is within its limit


def _reports(content: bytes) -> list[Any]:
    try:
        read = json.loads(content.decode("utf-8-sig"), parse_constant=lambda _: None, parse_float=_finite)
        if too_deep(read):
            raise ValueError("is JSON with lists or objects too deep in each other")
        json.dumps(read, ensure_ascii=False).encode("utf-8")  # half a surrogate pair cannot be stored
    except UnicodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} (line {error.lineno})") from None
    return read if isinstance(read, list) else [read]


def _finite(written: str) -> float | None:
    number = float(written)
    return number if math.isfinite(number) else None


_CLEANERS: dict[str, Callable[[str], str]] = {  # what redaction leaves alone later on
    "run_id": privacy.redact_id,
    "spec_id": privacy.redact,
    "service": privacy.redact,
    "version": privacy.redact_version,
    "url": privacy.redact_address,
}


def _items(report: Any, file: str, at: dt.datetime) -> list[dict[str, Any]]:
    """One payload per metric that is not healthy; one for the report when only its overall status says so."""
    if not isinstance(report, Mapping):
        raise ValueError("is no report: not an object")
    metrics = report.get("metrics")
    if not isinstance(metrics, list):
        raise ValueError("is no report: it has no list 'metrics'")
    overall = _status(report.get("status"))
    about = {k: report[k] for k in ("workflow", "version", "run_id", "spec_id", "service", "url") if report.get(k)}
    about |= {k: clean(str(about[k])) for k, clean in _CLEANERS.items() if not isinstance(about.get(k, 0), int | float)}
    about |= {"file": privacy.redact_id(file), "at": at.isoformat(), "status": overall}
    items: list[dict[str, Any]] = []
    names: Counter[str] = Counter()
    for number, metric in enumerate(metrics, 1):
        if not isinstance(metric, Mapping) or not metric.get("name"):
            raise ValueError(f"metric {number} has no name")
        status = _status(metric.get("status")) or (overall if overall == "healthy" else None)
        if status is None:
            raise ValueError(f"metric {number} has no status")
        name = privacy.redact(str(metric["name"]))
        names[name] += 1
        if names[name] > 1:  # one line per endpoint, all with the same name
            name = f"{name} ({names[name]})"
        if status != "healthy":
            items.append({**about, "metric": {**metric, "name": name, "status": status}})
    if str(report.get("schema", "")).startswith("performance-report/") and report.get("period") == "weekly":
        items, overall = [], None  # the daily reports of the same monitor say it day by day
    regressions = report.get("regressions")
    for found in regressions if isinstance(regressions, list) else ():
        if isinstance(found, Mapping) and found.get("found") and found.get("metric") and found.get("sentence"):
            name = f"{privacy.redact(str(found['metric']))}, regression"
            items.append({**about, "metric": {**found, "name": name, "status": _REGRESSED}})
    if not items and overall not in (None, "healthy"):
        items.append({**about, "metric": {"name": _WHOLE, "status": overall}})
    return items


def _status(written: Any) -> str | None:
    if not isinstance(written, str) or not written.strip():
        return None
    word = written.strip().lower()
    return "healthy" if word in _HEALTHY else _ALIASES.get(word, word)


def _report_time(report: Any, file: str) -> dt.datetime | None:
    """The time the report states; else the one in its run id or file name, which unlike the file's own never moves."""
    if not isinstance(report, Mapping):
        return None
    for key in _TIME_KEYS:
        value = report.get(key)
        if isinstance(value, str) and value.strip():
            try:
                return real_time(_in_utc(dt.datetime.fromisoformat(value.strip())))
            except (ValueError, OverflowError):
                raise ValueError(f"{key} {_NO_TIME}") from None
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if value >= 1e11 else value
            try:
                return real_time(dt.datetime.fromtimestamp(seconds, dt.UTC))
            except (ValueError, OverflowError, OSError):
                raise ValueError(f"{key} {_NO_TIME}") from None
    for name in (str(report.get("run_id") or ""), file):
        for found in _TIME_IN_NAME.finditer(name):
            try:
                return dt.datetime(*(int(part or 0) for part in found.groups()), tzinfo=dt.UTC)  # type: ignore[misc,arg-type]
            except ValueError:
                continue
    return None


def _in_utc(at: dt.datetime) -> dt.datetime:
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)


def _native_id(payload: Mapping[str, Any]) -> str:
    run = payload.get("run_id") or f"{payload['file']}@{payload['at']}"
    return f"{payload.get('spec_id') or ''}/{run}/{payload['metric']['name']}"


def _shown(value: Any, unit: str) -> str:
    if value is None or value == "":
        return "?"
    if isinstance(value, float) and math.isfinite(value):
        value = f"{value:.6g}"
    unit = unit if not unit or unit == "%" else f" {unit}"
    return f"{value}{unit if not isinstance(value, str) or value[-1:].isdigit() else ''}"


def _optional(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None
