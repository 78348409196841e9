import dataclasses
import datetime as dt
import json
import math
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import narwhals as nw
import polars as pl
import pytest
import yaml
from conftest import needed

from feedback_lib.analysis import rules, slo
from feedback_lib.specs import Plan, Watched

PROMETHEUS = {"kind": "prometheus", "url": "http://127.0.0.1:9090"}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
US = 1_000_000
BAD = 'sum(increase(http_requests_total{code=~"5.."}[$slice]))'
GOOD = 'sum(increase(http_requests_total{code!~"5.."}[$slice]))'
TOTAL = "sum(increase(http_requests_total[$slice]))"


def counted(sli: str, target: str = "99.9%", slice_s: int = 60, min_events: float = 1, **written: str) -> Watched:
    made = slo.Slo(service="api", sli=sli, target=target, method="occurrences", slice_s=slice_s, min_events=min_events)
    return Watched(slo=made, backend=PROMETHEUS, written=written, runbook="https://runbooks.example/api?q={{x}}")


ERRORS = counted("error_rate", bad=BAD, total=TOTAL)
LATENCY = Watched(
    slo=slo.Slo(service="api", sli="latency_p99", target="99%", op="<", threshold=0.2),
    backend=PROMETHEUS,
    written={"query": "latency_p99_seconds"},
)
UPTIME = Watched(
    slo=slo.Slo(service="api", sli="uptime", target="99.9%", method="ratio_timeslices", window="month"),
    backend=PROMETHEUS,
    written={"query": "up_percent"},
    scale=0.01,
)
FAILED = dataclasses.replace(UPTIME, slo=dataclasses.replace(UPTIME.slo, sli="failed"), invert=True, scale=1.0)
ELSEWHERE = dataclasses.replace(LATENCY, backend={"kind": "datadog"}, slo=dataclasses.replace(LATENCY.slo, sli="other"))


def plan_of(*watched: Watched) -> Plan:
    return Plan(
        spec_id="spec-1",
        service="My API",
        spec=Path("spec.md"),
        observability=Path("o.yaml"),
        watched=watched,
        sinks=(),
    )


@pytest.fixture(scope="module")
def promtool() -> Path:
    return needed("promtool", "promtool")


def ran(promtool: Path, *arguments: str | Path) -> str:
    """What promtool complains about."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def cumulated(increments: list[float]) -> list[float]:
    total = [0.0]
    for more in increments:
        total.append(total[-1] + more)
    return total


def firing(watched: Watched, frame: pl.DataFrame, slices: int) -> dict[tuple[str, str], set[int]]:
    """The numbers of the slices at whose end `slo.timeline` fires, by SLI and severity."""
    step = watched.slo.slice_s
    measured = slo.measure(nw.from_native(frame.lazy()), watched.slo)
    rows = slo.timeline(measured, watched.slo, EPOCH, EPOCH + dt.timedelta(seconds=slices * step)).collect().to_native()
    rows = rows.filter(pl.col("decision") == "firing").with_columns(number=pl.col("at_us") // (US * step))
    return {(watched.slo.sli, s): set(part["number"].to_list()) for (s,), part in rows.group_by("severity")}


def compared(
    promtool: Path, folder: Path, watched: list[Watched], series: dict[str, list], ours: dict[tuple[str, str], set[int]]
) -> str:
    """What promtool complains about when, for every slice, it should fire exactly the severities that we fire."""
    (folder / "rules.yml").write_text(rules.prometheus(plan_of(*watched)))
    step = watched[0].slo.slice_s
    fired = 'count by (slo, severity) (ALERTS{alertname="SLOErrorBudgetBurn", alertstate="firing"})'
    expected = {
        number: [
            {"labels": f'{{severity="{severity}", slo="{sli}"}}', "value": 1}
            for (sli, severity), numbers in ours.items()
            if number in numbers
        ]
        for number in range(1, max(len(values) for values in series.values()))
    }
    test = {
        "interval": f"{step}s",
        "input_series": [
            {
                "series": name,
                "values": " ".join("stale" if v is None else f"{v:.17g}".replace("nan", "NaN") for v in values),
            }
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {"expr": fired, "eval_time": f"{number * step}s", "exp_samples": wanted}
            for number, wanted in expected.items()
        ],
    }
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": f"{step}s", "tests": [test]}
    (folder / "test.yml").write_text(json.dumps(whole))
    return ran(promtool, "test", "rules", folder / "test.yml")


def requests(errors: list[float], per_slice: int = 1000, slice_s: int = 60) -> tuple[dict[str, list], pl.DataFrame]:
    """Counters of requests with these shares of errors, and the same as counts per slice."""
    bad = [float(round(per_slice * e)) for e in errors]
    series = {
        'http_requests_total{code="200"}': cumulated([per_slice - b for b in bad]),
        'http_requests_total{code="500"}': cumulated(bad),
    }
    at = [(i + 1) * slice_s * US for i in range(len(bad))]
    return series, pl.DataFrame({"at_us": at, "bad": bad, "valid": [float(per_slice)] * len(bad)})


INCIDENT = [0.0] * 480 + [0.1] * 60 + [0.0] * 240  # minutes: the reference case, 10 % errors for an hour after 8 h
SLOW_BURN = [0.0] * 24 + [0.005] * 180 + [0.0] * 84  # of five minutes each
CALM = [0.0005] * 288


@pytest.mark.parametrize(
    ("errors", "slice_s", "fires"),
    [(INCIDENT, 60, {"page", "ticket"}), (SLOW_BURN, 300, {"ticket"}), (CALM, 300, set())],
    ids=["incident", "slow burn", "calm day"],
)
def test_promtool_fires_and_clears_in_the_slices_of_our_own_time_line(promtool, tmp_path, errors, slice_s, fires):
    watched = counted("error_rate", slice_s=slice_s, bad=BAD, total=TOTAL)
    series, counts = requests(errors, slice_s=slice_s)
    ours = firing(watched, counts, len(errors))
    assert {severity for _, severity in ours} == fires
    assert compared(promtool, tmp_path, [watched], series, ours) == ""


def test_every_method_fires_as_ours_when_measurements_are_missing_and_odd(promtool, tmp_path):
    minutes = 140
    times = [(i + 1) * 60 * US for i in range(minutes)]
    latency = [0.1] * 40 + [0.2, 0.25] * 15 + [None] * 20 + [math.nan, math.inf] * 10 + [0.1] * (minutes - 110)
    uptime = [100.0] * 60 + [95.0] * 20 + [None] * 15 + [98.5] * 30 + [100.0] * (minutes - 125)
    share = [v / 100 if v is not None else None for v in uptime]
    bad = [0.0] * 50 + [30.0] * 40 + [0.0] * (minutes - 90)
    good = [1000.0 - b for b in bad]
    gone = range(70, 78)  # samples that nobody took
    held = {
        code: [None if i in gone else v for i, v in enumerate(cumulated(per_minute))]
        for code, per_minute in (("500", bad), ("200", good))
    }
    seen = [i for i in range(minutes) if i not in gone and i + 1 not in gone]
    counts = pl.DataFrame(
        {"at_us": [times[i] for i in seen], "bad": [bad[i] for i in seen], "valid": [1000.0] * len(seen)}
    )
    policy = (
        slo.AlertWindow("page", 3600, 300, Fraction("14.4")),
        slo.AlertWindow("ticket", 86_400, 7200, Fraction(3)),
    )
    watched = [
        (dataclasses.replace(w, slo=dataclasses.replace(w.slo, policy=policy)), frame)
        for w, frame in (
            (LATENCY, pl.DataFrame({"at_us": times, "value": latency})),
            (UPTIME, pl.DataFrame({"at_us": times, "value": share})),
            (counted("bad_of_total", bad=BAD, total=TOTAL), counts),
            (counted("good_of_total", good=GOOD, total=TOTAL), counts),
            (counted("good_and_bad", good=GOOD, bad=BAD), counts),
            (counted("too_rare", min_events=100_000, bad=BAD, total=TOTAL), counts),
        )
    ]
    ours = {key: numbers for w, frame in watched for key, numbers in firing(w, frame, minutes).items()}
    series = {
        "latency_p99_seconds": [None, *latency],
        "up_percent": [None, *uptime],
        'http_requests_total{code="200"}': held["200"],
        'http_requests_total{code="500"}': held["500"],
    }
    assert {sli for sli, _ in ours} == {"latency_p99", "uptime", "bad_of_total", "good_of_total", "good_and_bad"}
    assert compared(promtool, tmp_path, [w for w, _ in watched], series, ours) == ""


@pytest.mark.parametrize(("bad", "fires"), [(144, True), (143, False)])
def test_a_burn_rate_exactly_on_the_limit_fires_and_one_event_less_does_not(promtool, tmp_path, bad, fires):
    series, counts = requests([bad / 10_000] * 62, per_slice=10_000)
    ours = firing(ERRORS, counts, 62)
    assert ours.get(("error_rate", "page"), set()) == ({60, 61, 62} if fires else set())
    assert compared(promtool, tmp_path, [ERRORS], series, ours) == ""


def test_missing_data_and_a_silent_monitor_are_alerts_of_their_own(promtool, tmp_path):
    text = rules.prometheus(plan_of(LATENCY))
    (tmp_path / "rules.yml").write_text(text)
    quiet, silent = "SLONoData", "SLOMonitorSilent"
    present = {"eval_time": "30m", "exp_alerts": []}
    labels = {"service": "api", "slo": "latency_p99", "spec_id": "spec-1", "severity": "ticket"}
    summary = "api: no data for latency_p99 in 5m; it is neither good nor bad"
    gone = {"eval_time": "40m", "alertname": quiet}
    died = {"eval_time": "40m", "alertname": silent}
    told = "The monitor of spec-1 has not evaluated for 5m, or its metrics are not scraped"
    page = {"exp_labels": {"severity": "page", "service": "My API", "spec_id": "spec-1"}}
    test = {
        "interval": "1m",
        "input_series": [
            {"series": "latency_p99_seconds", "values": "0.1x30" + " NaN" * 15},
            {
                "series": 'feedback_monitor_last_evaluation_timestamp_seconds{spec_id="spec-1"}',
                "values": "0+60x30 1800x30",
            },
        ],
        "alert_rule_test": [
            {**present, "alertname": quiet},
            {**present, "alertname": silent},
            {**gone, "exp_alerts": [{"exp_labels": labels, "exp_annotations": {"summary": summary}}]},
            {**died, "exp_alerts": [{**page, "exp_annotations": {"summary": told}}]},
        ],
    }
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(json.dumps(whole))
    assert ran(promtool, "test", "rules", tmp_path / "test.yml") == ""


def test_promtool_takes_the_rules_of_every_window_slice_and_odd_name(promtool, tmp_path):
    odd = [
        dataclasses.replace(
            w, slo=dataclasses.replace(w.slo, sli=f'{w.slo.sli} "{window}" \\ é', window=window, slice_s=s)
        )
        for w in (ERRORS, LATENCY, UPTIME, FAILED)
        for window, s in (("7d", 60), ("month", 300), ("quarter", 45), ("90d", 7 * 60))
    ]
    (tmp_path / "rules.yml").write_text(rules.prometheus(plan_of(*odd)))
    assert ran(promtool, "check", "rules", tmp_path / "rules.yml") == ""


def test_limits_and_targets_are_written_in_full():
    assert rules.number(Fraction("14.4") * Fraction("0.001")) == "0.0144"
    assert rules.number(Fraction("13.44") * Fraction("0.0005")) == "0.00672"
    assert rules.number(Fraction(14, 15)) == repr(14 / 15)
    assert rules.number(1e-7) == "0.0000001"
    assert rules.number(Fraction(10) ** 21) == "1" + "0" * 21
    assert (
        re.findall(r">= (0\.\d+)", rules.prometheus(plan_of(ERRORS)))
        == ["0.0144"] * 2 + ["0.006"] * 2 + ["0.003"] * 2 + ["0.001"] * 2
    )


def test_what_prometheus_and_sloth_cannot_do_is_said_in_comments():
    plan = plan_of(ERRORS, LATENCY, UPTIME, ELSEWHERE)
    assert "# no rules here for other: its backend is datadog, which Prometheus cannot query\n" in rules.prometheus(
        plan
    )
    comments = [line for line in rules.sloth(plan).splitlines() if line.startswith("# not here")]
    assert [line.split(":")[0] for line in comments] == [
        "# not here latency_p99",
        "# not here uptime",
        "# not here other",
    ]
    assert "counts time slices" in comments[0]
    assert "does not contain $slice" in comments[1]


def test_sloth_gets_its_own_window_template_and_the_exact_objective():
    text = rules.sloth(plan_of(ERRORS, counted("good_of_total", good=GOOD, total=TOTAL)))
    made = yaml.safe_load(text)
    assert (made["version"], made["service"]) == ("prometheus/v1", "My API")
    errors, good = made["slos"]
    assert errors["sli"]["events"]["error_query"] == BAD.replace("$slice", "{{.window}}")
    assert errors["sli"]["events"]["total_query"] == TOTAL.replace("$slice", "{{.window}}")
    assert good["sli"]["events"]["error_query"] == f"({TOTAL}) - ({GOOD})".replace("$slice", "{{.window}}")
    assert re.search(r"objective: 99\.9$", text, re.MULTILINE)
    assert errors["alerting"]["page_alert"] == {"labels": {"severity": "page"}}


def problems(document: dict, names: dict[str, set[str]]) -> list[str]:
    """What OpenSLO v1 asks of a document and this one does not have."""
    found = []

    def need(holds: bool, what: str) -> None:
        if not holds:
            found.append(f"{document.get('kind')} {document.get('metadata')}: {what}")

    duration = re.compile(r"[1-9]\d*[mhdwMQY]")
    name = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
    spec, kind = document["spec"], document["kind"]
    need(document["apiVersion"] == "openslo/v1", "apiVersion")
    need(bool(name.fullmatch(document["metadata"]["name"])), "metadata.name by RFC 1123")
    need(len(spec.get("description", "")) <= 1050, "description of at most 1050 characters")
    if kind == "SLO":
        need(spec["service"] in names["Service"], "a service that is there")
        (window,) = spec["timeWindow"]
        need(bool(duration.fullmatch(window["duration"])), "timeWindow.duration")
        need(window["isRolling"] is not ("calendar" in window), "a rolling or a calendar window")
        if "calendar" in window:
            dt.datetime.strptime(window["calendar"]["startTime"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=dt.UTC)
        method = spec["budgetingMethod"]
        need(method in ("Occurrences", "Timeslices", "RatioTimeslices"), "budgetingMethod")
        sli = spec["indicator"]["spec"]
        need(len({"thresholdMetric", "ratioMetric"} & set(sli)) == 1, "one metric")
        (objective,) = spec["objectives"]
        need(0 <= objective["target"] < 1 and isinstance(objective["target"], float), "target")
        if "thresholdMetric" in sli:
            need(objective["op"] in ("lt", "lte", "gt", "gte"), "op")
            need(isinstance(objective["value"], int | float), "value")
            metrics = [sli["thresholdMetric"]]
        else:
            ratio = sli["ratioMetric"]
            metrics = [ratio[k] for k in ("good", "bad", "total", "raw") if k in ratio]
            if "raw" in ratio:
                need(ratio["rawType"] in ("success", "failure") and len(metrics) == 1, "rawType with raw alone")
            else:
                need("total" in ratio and ("good" in ratio) != ("bad" in ratio), "total and either good or bad")
                need(isinstance(ratio["counter"], bool), "counter")
        need(all(m["metricSource"]["type"] and m["metricSource"]["spec"] for m in metrics), "type and spec of a source")
        if method == "Timeslices":
            need(0 < objective["timeSliceTarget"] <= 1, "timeSliceTarget")
        if method != "Occurrences":
            size = objective["timeSliceWindow"]
            need(isinstance(size, int | float) or bool(duration.fullmatch(size)), "timeSliceWindow")
        need(all(r["alertPolicyRef"] in names["AlertPolicy"] for r in spec["alertPolicies"]), "policies that are there")
    elif kind == "AlertPolicy":
        need(len(spec["conditions"]) == 1, "one condition")
        need(spec["conditions"][0]["conditionRef"] in names["AlertCondition"], "a condition that is there")
        targets = {t["targetRef"] for t in spec["notificationTargets"]}
        need(bool(targets) and targets <= names["AlertNotificationTarget"], "notification targets that are there")
        need(all(isinstance(spec[f"alertWhen{w}"], bool) for w in ("NoData", "Resolved", "Breaching")), "alertWhen…")
    elif kind == "AlertCondition":
        condition = spec["condition"]
        need(bool(spec["severity"]) and condition["kind"] == "burnrate", "severity and kind")
        need(condition["op"] in ("lt", "lte", "gt", "gte"), "op")
        need(isinstance(condition["threshold"], int | float), "threshold")
        need(bool(duration.fullmatch(condition["lookbackWindow"])), "lookbackWindow")
    elif kind == "AlertNotificationTarget":
        need(bool(spec["target"]), "target")
    else:
        need(kind == "Service", "a kind")
    return found


def openslo_of(*watched: Watched) -> list[dict]:
    return list(yaml.safe_load_all(rules.openslo(plan_of(*watched))))


def test_openslo_documents_have_what_the_specification_requires():
    long = dataclasses.replace(LATENCY, slo=dataclasses.replace(LATENCY.slo, sli="x" * 80 + "é", slice_s=90))
    watched = [ERRORS, LATENCY, UPTIME, FAILED, long, counted("both", good=GOOD, bad=BAD)]
    documents = openslo_of(*watched)
    names: dict[str, set[str]] = {}
    for document in documents:
        names.setdefault(document["kind"], set()).add(document["metadata"]["name"])
    assert [p for d in documents for p in problems(d, names)] == []
    assert sum(d["kind"] == "SLO" for d in documents) == len(watched)
    assert sum(len(found) for found in names.values()) == len(documents), "two documents of one kind and name"


def test_openslo_says_method_threshold_and_target_as_ours():
    slos = {d["metadata"]["name"]: d["spec"] for d in openslo_of(ERRORS, LATENCY, UPTIME, FAILED) if d["kind"] == "SLO"}
    errors, latency, uptime, failed = slos.values()
    assert (errors["budgetingMethod"], errors["objectives"][0]["target"]) == ("Occurrences", 0.999)
    assert {k: latency["objectives"][0][k] for k in ("op", "value", "timeSliceWindow")} == {
        "op": "lt",
        "value": 0.2,
        "timeSliceWindow": "1m",
    }
    assert uptime["timeWindow"][0]["duration"] == "1M"
    assert uptime["indicator"]["spec"]["ratioMetric"]["raw"]["metricSource"]["spec"] == {"query": "(up_percent) * 0.01"}
    assert failed["indicator"]["spec"]["ratioMetric"]["rawType"] == "failure"


def test_openslo_leaves_out_what_it_cannot_say_with_the_reason():
    datadog = {"kind": "datadog"}
    both = dataclasses.replace(counted("both", good=GOOD, bad=BAD), backend=datadog)
    percent = dataclasses.replace(UPTIME, backend=datadog)
    text = rules.openslo(plan_of(both, percent))
    assert "kind: SLO\n" not in text
    assert "# no documents here for both: OpenSLO wants a total, and two queries of datadog cannot be added" in text
    assert "# no documents here for uptime: its query returns percent" in text
