"""SLOs as rules for others to run: Prometheus recording and alerting rules, OpenSLO v1 documents, Sloth input.

The Prometheus rules decide as `feedback_lib.analysis.slo.timeline` does: one recorded sample per slice, error ratios of
windows as sums over those samples, a missing slice counted as good before an alert fires. What a format cannot say is
listed in comments at the top, with the reason.

Sources: Google SRE Workbook 2018, chapter 5; OpenSLO v1; Sloth ``prometheus/v1``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

from feedback_lib.analysis.slo import CALENDAR, DAY, HOUR, MINUTE, AlertWindow, Slo, exact, format_duration

HEARTBEAT = "feedback_monitor_last_evaluation_timestamp_seconds"  # the daemon's own metric
_OPENSLO_OP = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_BAD_OP = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_PERIOD = {"week": ("1w", "2024-01-01 00:00:00"), "month": ("1M", "2024-01-01 00:00:00"),
           "quarter": ("1Q", "2024-01-01 00:00:00")}  # fmt: skip


class Measured(Protocol):
    """One SLO and how it is measured; `feedback_lib.specs.Watched` says what each attribute means."""

    @property
    def slo(self) -> Slo:
        """What is promised."""
        ...

    @property
    def backend(self) -> Mapping[str, Any]:
        """Options of the plug-in that measures, with its kind."""
        ...

    @property
    def written(self) -> Mapping[str, Any]:
        """The queries by role, with ``$slice`` and ``$window`` in them."""
        ...

    @property
    def scale(self) -> float:
        """What a ratio is multiplied with to lie between 0 and 1."""
        ...

    @property
    def invert(self) -> bool:
        """Whether the ratio is of what was bad."""
        ...

    @property
    def runbook(self) -> str | None:
        """Address of what to do."""
        ...

    @property
    def dashboard(self) -> str | None:
        """Address of where to look."""
        ...


class Plan(Protocol):
    """What is watched for one spec; `feedback_lib.specs.Plan` is one."""

    @property
    def spec_id(self) -> str:
        """The spec."""
        ...

    @property
    def service(self) -> str:
        """The service it is of."""
        ...

    @property
    def watched(self) -> Sequence[Measured]:
        """Its SLOs."""
        ...

    @property
    def interval_s(self) -> int:
        """Seconds between evaluations of the monitor."""
        ...


def number(value: Fraction | float) -> str:
    """A number in full: exact when it ends, else the shortest that names the nearest float.

    >>> number(Fraction("14.4") * Fraction("0.001")), number(Fraction(14, 15)), number(0.2)
    ('0.0144', '0.9333333333333333', '0.2')
    """
    whole = exact(value)
    rest = whole.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return repr(float(whole))
    text = f"{Decimal(whole.numerator) / Decimal(whole.denominator):f}"
    return text if exact(text) == whole else repr(float(whole))


# ------------------------------------------------------------------------------------------------------- Prometheus


def prometheus(plan: Plan) -> str:
    """A rule file for Prometheus.

    Per SLO one group, evaluated once per slice: what was bad (and valid) in the slice, the error ratio of every alert
    window, an alert per severity, an alert on missing data. One more group alerts when the monitor itself is silent.
    """
    groups: list[dict[str, Any]] = []
    left_out = []
    for watched in plan.watched:
        why = _not_promql(watched)
        if why:
            left_out.append(f"{watched.slo.sli}: {why}")
        else:
            groups.append(_group(plan, watched))
    groups.append(_heartbeat(plan))
    notes = [
        f"Recording and alerting rules of {plan.spec_id}, from its spec and observability.yaml.",
        "slo:sli_bad:slice and slo:sli_valid:slice are one slice each; slo:sli_error:ratio<window> is the error ratio",
        "of a window in which a missing slice counts as good, so that missing data never fires an alert by itself.",
    ]
    return _comments([*notes, *_missing("no rules here for", left_out)]) + _yaml({"groups": groups})


def _not_promql(watched: Measured) -> str | None:
    kind = watched.backend.get("kind")
    if kind != "prometheus":
        return f"its backend is {kind}, which Prometheus cannot query"
    if not all(isinstance(q, str) for q in watched.written.values()):
        return "its query is no PromQL text"
    return None


def _group(plan: Plan, watched: Measured) -> dict[str, Any]:
    slo = watched.slo
    labels = {"service": slo.service, "slo": slo.sli, "spec_id": plan.spec_id}
    selector = "{" + ", ".join(f"{k}={_text(v)}" for k, v in labels.items()) + "}"
    rules = [{"record": f"slo:sli_{n}:slice", "expr": e, "labels": labels} for n, e in _slice(watched, selector)]
    lengths = sorted({s for a in slo.alerts for s in (a.long_s, a.short_s)})
    rules += [{"record": _ratio(length), "expr": _over(slo, length, selector), "labels": labels} for length in lengths]
    rules.append({"record": "slo:objective:ratio", "expr": f"vector({number(slo.objective)})", "labels": labels})
    severities = dict.fromkeys(a.severity for a in slo.alerts)
    rules += [_alert(watched, s, [a for a in slo.alerts if a.severity == s], labels, selector) for s in severities]
    quiet = max(5 * slo.slice_s, 5 * MINUTE)
    rules.append(
        {
            "alert": "SLONoData",
            "expr": f"absent_over_time(slo:sli_bad:slice{selector}[{quiet}s])",
            "labels": {"severity": "ticket", **labels},
            "annotations": _annotations(
                f"{slo.service}: no data for {slo.sli} in {format_duration(quiet)}; it is neither good nor bad", watched
            ),
        }
    )
    return {"name": f"{plan.spec_id}: {slo.sli}", "interval": f"{slo.slice_s}s", "rules": rules}


def _slice(watched: Measured, selector: str) -> list[tuple[str, str]]:
    """What is recorded of one slice: how much was bad and, with occurrences, how much was valid.

    ``>= -Inf`` and ``>= 0`` leave out NaN, which is no measurement. Of two counts one that is missing where the other
    is there is 0; only a missing ``good`` is no data, since a mistake in its query would look like an outage.
    """
    slo = watched.slo
    window = {"slice": f"{slo.slice_s}s", "window": _promql_window(slo)}
    asked = {k: f"({_filled(q, window)})" for k, q in watched.written.items()}
    if slo.method == "timeslices":
        assert slo.op is not None and slo.threshold is not None, "a timeslice SLO that is measured has a threshold"
        return [("bad", f"({asked['query']} >= -Inf) {_BAD_OP[slo.op]} bool {number(slo.threshold)}")]
    if slo.method == "ratio_timeslices":
        share = f"({asked['query']} >= 0)"
        share += "" if watched.scale == 1 else f" * {number(watched.scale)}"
        within = f"({share} <= 1)"
        return [("bad", within if watched.invert else f"1 - {within}")]
    good, bad, total = (f"({asked[k]} >= 0)" if k in asked else "" for k in ("good", "bad", "total"))
    if bad and total:
        return [("valid", f"{total} or {bad} * 0"), ("bad", f"{bad} or {total} * 0")]
    if good and total:
        return [("valid", f"{total} and {good}"), ("bad", f"{total} - {good}")]
    either = f"({good} or {bad} * 0) + ({bad} or {good} * 0)"
    return [("valid", either), ("bad", f"{bad} or {good} * 0")]


def _over(slo: Slo, length: int, selector: str) -> str:
    """The error ratio of a window: the sum of what was bad by the sum of what was valid, a missing slice being good.

    The range ends half a slice early, so that it holds exactly as many samples as the window has slices, whether or
    not the server counts a sample at the very start of a range.
    """
    slices = -(-max(length, slo.slice_s) // slo.slice_s)
    span = Fraction(slices * slo.slice_s * 1000) - Fraction(slo.slice_s * 1000, 2)
    ranged = f"slice{selector}[{int(span)}ms]" if span % 1000 else f"slice{selector}[{int(span / 1000)}s]"
    bad, enough = f"sum_over_time(slo:sli_bad:{ranged})", number(slo.min_events)
    if slo.method == "occurrences":
        valid = f"sum_over_time(slo:sli_valid:{ranged})"
        floor = f"{valid} >= {enough}" if slo.min_events > 0 else f"{valid} > 0"
        return f"{bad} * count_over_time(slo:sli_bad:{ranged}) / (({floor}) * {slices})"
    floor = f" and count_over_time(slo:sli_bad:{ranged}) >= {enough}" if slo.min_events > 1 else ""
    return f"{bad} / {slices}{floor}"


def _alert(
    watched: Measured, severity: str, windows: Sequence[AlertWindow], labels: Mapping[str, str], selector: str
) -> dict[str, Any]:
    slo = watched.slo
    terms, said = [], []
    for w in windows:
        limit = number(w.factor * slo.budget)
        terms.append(f"({_ratio(w.long_s)}{selector} >= {limit} and {_ratio(w.short_s)}{selector} >= {limit})")
        said.append(f"{number(w.factor)} over {format_duration(w.long_s)} and {format_duration(w.short_s)}")
    rule: dict[str, Any] = {
        "alert": "SLOErrorBudgetBurn",
        "expr": "\nor\n".join(terms),
        "labels": {"severity": severity, **labels},
        "annotations": _annotations(
            f"{slo.service}: {slo.sli} burns its error budget of {number(slo.budget * 100)}% "
            f"({slo.window}) at least {' or '.join(said)} times too fast",
            watched,
        )
        | {"error_ratio": "{{ $value | humanizePercentage }}"},
    }
    wait = max(w.for_s for w in windows)
    return rule | ({"for": f"{wait}s"} if wait else {})


def _heartbeat(plan: Plan) -> dict[str, Any]:
    """The dead man's switch: an alert on the silence of the monitor itself."""
    quiet = max(5 * plan.interval_s, 5 * MINUTE)
    selector = f"{{spec_id={_text(plan.spec_id)}}}"
    return {
        "name": f"{plan.spec_id}: monitor",
        "rules": [
            {
                "alert": "SLOMonitorSilent",
                "expr": f"time() - max({HEARTBEAT}{selector}) > {quiet}\nor\nabsent({HEARTBEAT}{selector})",
                "for": f"{MINUTE}s",
                "labels": {"severity": "page", "service": plan.service, "spec_id": plan.spec_id},
                "annotations": {
                    "summary": _plain(
                        f"The monitor of {plan.spec_id} has not evaluated for {format_duration(quiet)}, "
                        "or its metrics are not scraped"
                    )
                },
            }
        ],
    }


def _ratio(length: int) -> str:
    return f"slo:sli_error:ratio{_short(length)}"


def _annotations(summary: str, watched: Measured) -> dict[str, str]:
    texts = {"summary": summary, "runbook_url": watched.runbook, "dashboard": watched.dashboard}
    return {name: _plain(text) for name, text in texts.items() if text}


def _plain(text: str) -> str:
    """Text in which the template language of Prometheus finds nothing to run."""
    return text.replace("{{", '{{ "{{" }}')


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _filled(query: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$(slice|window)\b", lambda match: values[match[1]], query.strip())


def _promql_window(slo: Slo) -> str:
    return f"{slo.window_s // DAY}d" if slo.window in CALENDAR else slo.window


def _short(seconds: int) -> str:
    """A length of time as one number and one unit."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


# ---------------------------------------------------------------------------------------------------------- OpenSLO


def openslo(plan: Plan) -> str:
    """OpenSLO v1 documents: Service, and per SLO its SLO, AlertPolicy and AlertCondition, and who is told."""
    documents: list[dict[str, Any]] = [_document("Service", plan.service, {"description": f"Spec {plan.spec_id}."})]
    left_out, policies, used = [], [], set()
    for watched in plan.watched:
        slo, name = watched.slo, _dns(f"{plan.service}-{watched.slo.sli}")
        try:
            indicator = _indicator(watched)
            window = _time_window(slo)
        except ValueError as why:
            left_out.append(f"{slo.sli}: {why}")
            continue
        refs = []
        for alert in slo.alerts:
            policy = _dns(f"{name}-{alert.severity}-{_short(alert.long_s)}")
            refs.append({"alertPolicyRef": policy})
            policies += _policy(policy, slo, alert)
            used.add(alert.severity)
        objective: dict[str, Any] = {"displayName": slo.sli, "target": _Number(number(slo.objective))}
        if slo.method == "timeslices":
            assert slo.op is not None and slo.threshold is not None, "a timeslice SLO that is measured has a threshold"
            objective |= {"op": _OPENSLO_OP[slo.op], "value": _Number(number(slo.threshold)), "timeSliceTarget": 1}
        if slo.method != "occurrences":
            minutes = number(Fraction(slo.slice_s, MINUTE))  # a bare number is minutes
            objective["timeSliceWindow"] = _short(slo.slice_s) if slo.slice_s % MINUTE == 0 else _Number(minutes)
        documents.append(
            _document(
                "SLO",
                name,
                {
                    "description": f"{slo.sli} of {slo.service}: {slo.target} in {slo.window}.",
                    "service": _dns(plan.service),
                    "indicator": {"metadata": {"name": _dns(f"{name}-sli")}, "spec": indicator},
                    "timeWindow": [window],
                    "budgetingMethod": {"timeslices": "Timeslices", "ratio_timeslices": "RatioTimeslices"}.get(
                        slo.method, "Occurrences"
                    ),
                    "objectives": [objective],
                    "alertPolicies": refs,
                },
            )
        )
    targets = [_document("AlertNotificationTarget", s, {"target": s}) for s in sorted(used)]
    notes = [
        f"OpenSLO v1 documents of {plan.spec_id}.",
        "An AlertCondition has one window: the short window of a multi-window alert is in its description only.",
    ]
    text = "---\n".join(_yaml(d) for d in (*documents, *policies, *targets))
    return _comments([*notes, *_missing("no documents here for", left_out)]) + text


def _indicator(watched: Measured) -> dict[str, Any]:
    """The spec of an SLI.

    Raises:
        ValueError: OpenSLO cannot say it.
    """
    slo, kind = watched.slo, str(watched.backend.get("kind"))
    window = {"slice": f"{slo.slice_s}s", "window": _promql_window(slo)}

    def source(query: Any) -> dict[str, Any]:
        spec = {"query": _filled(query, window)} if isinstance(query, str) else _filled_all(query, window)
        return {"metricSource": {"type": _SOURCES.get(kind, kind), "spec": spec}}

    if slo.method == "timeslices":
        return {"thresholdMetric": source(watched.written["query"])}
    if slo.method == "ratio_timeslices":
        query = watched.written["query"]
        if watched.scale != 1:
            if kind != "prometheus" or not isinstance(query, str):
                raise ValueError(f"its query returns percent, and a query of {kind} cannot be divided by 100 here")
            query = f"({query}) * {number(watched.scale)}"
        return {"ratioMetric": {"rawType": "failure" if watched.invert else "success", "raw": source(query)}}
    if "total" in watched.written:
        return {"ratioMetric": {"counter": False} | {k: source(q) for k, q in watched.written.items()}}
    good, bad = watched.written["good"], watched.written["bad"]
    if kind != "prometheus" or not isinstance(good, str) or not isinstance(bad, str):
        raise ValueError(f"OpenSLO wants a total, and two queries of {kind} cannot be added up here")
    return {"ratioMetric": {"counter": False, "bad": source(bad), "total": source(f"({good}) + ({bad})")}}


_SOURCES = {
    "prometheus": "Prometheus", "datadog": "Datadog", "grafana": "Grafana", "elasticsearch": "Elasticsearch",
    "splunk": "Splunk",
}  # fmt: skip


def _filled_all(query: Any, values: Mapping[str, str]) -> Any:
    if isinstance(query, Mapping):
        return {k: _filled_all(v, values) for k, v in query.items()}
    if isinstance(query, list):
        return [_filled_all(v, values) for v in query]
    return _filled(query, values) if isinstance(query, str) else query


def _time_window(slo: Slo) -> dict[str, Any]:
    if slo.window in _PERIOD:
        duration, start = _PERIOD[slo.window]
        calendar = {"startTime": start, "timeZone": "UTC"}
        return {"duration": duration, "isRolling": False, "calendar": calendar}
    if slo.window_s % MINUTE:
        raise ValueError(f"OpenSLO counts windows in whole minutes, not in {slo.window}")
    return {"duration": _short(slo.window_s), "isRolling": True}


def _policy(name: str, slo: Slo, alert: AlertWindow) -> list[dict[str, Any]]:
    what = f"{slo.sli} burns its budget {number(alert.factor)} times too fast"
    long, short = format_duration(alert.long_s), format_duration(alert.short_s)
    condition = {
        "kind": "burnrate",
        "op": "gte",
        "threshold": _Number(number(alert.factor)),
        "lookbackWindow": _short(alert.long_s),
        "alertAfter": _short(max(alert.for_s // MINUTE, 0) * MINUTE) if alert.for_s >= MINUTE else "0m",
    }
    return [
        _document(
            "AlertPolicy",
            name,
            {
                "description": f"{what} over {long} and over {short}.",
                "alertWhenNoData": False,
                "alertWhenResolved": True,
                "alertWhenBreaching": True,
                "conditions": [{"conditionRef": f"{name}"}],
                "notificationTargets": [{"targetRef": alert.severity}],
            },
        ),
        _document(
            "AlertCondition",
            name,
            {
                "description": f"{what} over {long} and over {short}.",
                "severity": alert.severity,
                "condition": condition,
            },
        ),
    ]


def _document(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": _dns(name)} | ({"displayName": name} if _dns(name) != name else {})
    return {"apiVersion": "openslo/v1", "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _dns(name: str) -> str:
    """A name by RFC 1123: lower case, digits and dashes, at most 63; what was changed beyond that leaves a hash."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if made and len(made) <= 63 and name.isascii():
        return made
    return f"{made[:54].strip('-') or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


# ------------------------------------------------------------------------------------------------------------ Sloth


def sloth(plan: Plan) -> str:
    """Input for Sloth (``version: prometheus/v1``), which makes rules of its own from it."""
    slos: list[dict[str, Any]] = []
    left_out = []
    for watched in plan.watched:
        try:
            slos.append(_sloth(watched))
        except ValueError as why:
            left_out.append(f"{watched.slo.sli}: {why}")
    periods = sorted({w.slo.window for w in plan.watched if w.slo.sli in {s["name"] for s in slos}})
    notes = [f"Sloth input of {plan.spec_id}. Sloth takes the period for all SLOs from --default-slo-period:"]
    notes.append(f"the spec says {', '.join(periods) or 'none'}; a calendar period becomes a rolling one there.")
    body = {
        "version": "prometheus/v1",
        "service": plan.service,
        "labels": {"spec_id": plan.spec_id},
        "slos": slos,
    }
    return _comments([*notes, *_missing("not here", left_out)]) + _yaml(body)


def _sloth(watched: Measured) -> dict[str, Any]:
    """One SLO of Sloth.

    Raises:
        ValueError: Sloth cannot say it.
    """
    slo = watched.slo
    if why := _not_promql(watched):
        raise ValueError(why)
    if slo.method == "timeslices":
        raise ValueError("it counts time slices over a limit, and Sloth only divides bad events by all events")
    for name, query in watched.written.items():
        if "$slice" not in query:
            raise ValueError(f"{name} does not contain $slice, which Sloth replaces by the length of each window")
    window = {"slice": "{{.window}}", "window": _promql_window(slo)}
    asked = {k: _filled(q, window) for k, q in watched.written.items()}
    if slo.method == "ratio_timeslices":
        share = f"({asked['query']})" + ("" if watched.scale == 1 else f" * {number(watched.scale)}")
        sli: dict[str, Any] = {"raw": {"error_ratio_query": share if watched.invert else f"1 - {share}"}}
    else:
        total = asked.get("total") or f"({asked['good']}) + ({asked['bad']})"
        bad = asked.get("bad") or f"({asked['total']}) - ({asked['good']})"
        sli = {"events": {"error_query": bad, "total_query": total}}
    annotations = {k: v for k, v in (("runbook", watched.runbook), ("dashboard", watched.dashboard)) if v}
    return {
        "name": slo.sli,
        "objective": _Number(number(slo.objective * 100)),
        "description": f"{slo.sli} of {slo.service}: {slo.target} in {slo.window}.",
        "sli": sli,
        "alerting": {
            "name": "SLOErrorBudgetBurn",
            "labels": {"slo": slo.sli},
            **({"annotations": annotations} if annotations else {}),
            "page_alert": {"labels": {"severity": "page"}},
            "ticket_alert": {"labels": {"severity": "ticket"}},
        },
    }


# ------------------------------------------------------------------------------------------------------------- YAML


class _Number(str):
    """A number that is written exactly as it stands."""


def _missing(what: str, left_out: Iterable[str]) -> list[str]:
    return [f"{what} {line}" for line in left_out]


def _comments(lines: Iterable[str]) -> str:
    return "".join(f"# {''.join(c if c.isprintable() else ' ' for c in line)}\n" for line in lines)


def _yaml(document: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    def plain(dumper: yaml.SafeDumper, value: _Number) -> yaml.ScalarNode:
        return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in value else 'int'}", str(value))

    Dumper.add_representer(str, text)
    Dumper.add_representer(_Number, plain)
    made: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return made
