"""What is special about the production monitor's reports."""

import datetime as dt
import json
import os

import pytest

from feedback_lib import plugins
from feedback_lib.records import Item, Rejected

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def report(**changes):
    return {
        "workflow": "smartspec_production_monitor",
        "version": "1.0.0",
        "run_id": "r1",
        "spec_id": "spec-core-001",
        "status": "unhealthy",
        "generated_at": "2026-03-01T06:00:00Z",
        "metrics": [{"name": "p99_latency", "value": 260, "slo": 200, "status": "unhealthy"}],
        **changes,
    }


def read(folder, *reports, since=None, until=END):
    """What the folder yields: signals and rejected ones."""
    for number, content in enumerate(reports):
        (folder / f"{number}.json").write_text(json.dumps(content), "utf-8")
    source = plugins.build("sources", {"kind": "spec_reports", "folder": str(folder)})
    found = list(source.fetch(since, until))
    signals = [source.parse(item.payload) for item in found if isinstance(item, Item)]
    return signals, [item for item in found if isinstance(item, Rejected)]


def test_a_metric_over_its_slo_is_a_performance_signal_that_says_so_in_its_title(tmp_path):
    ((signal,), _) = read(tmp_path, report())
    assert signal.title == "p99_latency 260 against 200 (spec-core-001)"
    assert (signal.type, signal.spec_id, signal.severity, signal.state) == (
        "performance",
        "spec-core-001",
        "high",
        "unhealthy",
    )
    assert signal.created_at == dt.datetime(2026, 3, 1, 6, tzinfo=dt.UTC)


def test_a_healthy_report_yields_nothing_and_is_counted_in_the_log(tmp_path, caplog):
    healthy = report(status="healthy", metrics=[{"name": "p99_latency", "value": 150, "slo": 200, "status": "healthy"}])
    with caplog.at_level("INFO", logger="feedback_lib.sources.spec_reports"):
        assert read(tmp_path, healthy, report()) != ([], [])
    assert "reports_healthy=1 metrics_not_healthy=1" in caplog.text


@pytest.mark.parametrize(
    ("status", "severity"), [("critical", "critical"), ("FAIL", "high"), ("degraded", "medium"), ("no_data", "low")]
)
def test_the_severity_is_the_status(tmp_path, status, severity):
    ((signal,), _) = read(tmp_path, report(metrics=[{"name": "m", "value": 1, "slo": 2, "status": status}]))
    assert signal.severity == severity


def test_no_data_is_no_breach_and_says_so(tmp_path):
    ((signal,), _) = read(
        tmp_path, report(metrics=[{"name": "uptime", "value": None, "slo": 99.9, "status": "no_data"}])
    )
    assert signal.title == "uptime has no data (spec-core-001)"
    assert signal.state == "no_data"


def test_an_unhealthy_report_that_names_no_metric_is_one_signal(tmp_path):
    ((signal,), _) = read(tmp_path, report(metrics=[]))
    assert signal.title == "spec-core-001 is unhealthy"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "no JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"spec_id": "\\ud800", "metrics": []}', "not UTF-8"),
        (b"3", "not an object"),
        (b'{"status": "unhealthy"}', "no list 'metrics'"),
        (b'{"metrics": [{"value": 1}]}', "metric 1 has no name"),
        (b'{"metrics": [{"name": "m", "value": 1}]}', "metric 1 has no status"),
        (b'{"generated_at": "soon", "metrics": []}', "generated_at is no time"),
    ],
)
def test_a_bad_file_is_rejected_and_the_others_load(tmp_path, content, reason):
    (tmp_path / "bad.json").write_bytes(content)
    signals, (bad,) = read(tmp_path, report())
    assert len(signals) == 1
    assert bad.where == "bad.json"
    assert reason in bad.reason


def test_the_time_comes_from_the_run_id_or_file_name_when_the_report_has_none(tmp_path):
    untimed = report(run_id="20260302T063000Z")
    del untimed["generated_at"]
    named = {**untimed, "run_id": "r2"}
    (tmp_path / "2026-03-03").mkdir()
    (tmp_path / "2026-03-03" / "daily.json").write_text(json.dumps(named), "utf-8")
    signals, _ = read(tmp_path, untimed)
    assert [s.created_at for s in signals] == [
        dt.datetime(2026, 3, 2, 6, 30, tzinfo=dt.UTC),
        dt.datetime(2026, 3, 3, tzinfo=dt.UTC),
    ]


def test_a_report_that_reaches_the_folder_after_the_last_run_is_read_by_the_next(tmp_path):
    """Its own time lies before the watermark; the time its file was written does not."""
    watermark = dt.datetime(2026, 3, 1, 7, tzinfo=dt.UTC)
    read(tmp_path, report())
    late = watermark + dt.timedelta(hours=1)
    os.utime(tmp_path / "0.json", (late.timestamp(), late.timestamp()))
    assert len(read(tmp_path, since=watermark)[0]) == 1
    early = watermark - dt.timedelta(minutes=30)
    os.utime(tmp_path / "0.json", (early.timestamp(), early.timestamp()))
    assert read(tmp_path, since=watermark) == ([], [])


def test_the_same_run_saved_twice_counts_once_and_equal_names_in_it_stay_apart(tmp_path):
    twice = [{"name": "p99", "value": v, "slo": 200, "status": "unhealthy"} for v in (260, 300)]
    signals, _ = read(tmp_path, report(metrics=twice), report(metrics=twice))
    assert [s.title for s in signals] == [
        "p99 260 against 200 (spec-core-001)",
        "p99 (2) 300 against 200 (spec-core-001)",
    ]


def test_files_below_a_folder_named_alerts_are_alerts_and_no_reports(tmp_path):
    """Beside the reports the monitor keeps one file per alert, for the incident workflow."""
    for place in ("alerts", "my-api/alerts/2026"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.json").write_text(json.dumps(report(run_id="r2")), "utf-8")
    (tmp_path / "alerts.json").write_text(json.dumps(report(run_id="r3")), "utf-8")
    signals, rejected = read(tmp_path, report())
    assert [s.native_id for s in signals] == ["spec-core-001/r1/p99_latency", "spec-core-001/r3/p99_latency"]
    assert rejected == []


def regressed(**changes):
    found = {
        "metric": "api_latency_p99",
        "found": True,
        "sentence": "api_latency_p99 of api rose by 20 %",
        "after": 0.3,
    }
    return {**found, "unit": "s", **changes}


def test_a_regression_is_a_signal_also_when_the_metric_is_within_its_limit(tmp_path):
    calm = [{"name": "api_latency_p99", "value": 0.3, "slo": 0.5, "status": "healthy"}]
    rows = [regressed(), regressed(metric="other", found=False, sentence=None)]
    ((signal,), _) = read(tmp_path, report(status="healthy", metrics=calm, regressions=rows))
    assert signal.title == "api_latency_p99 of api rose by 20 %"
    assert (signal.state, signal.severity, signal.spec_id) == ("regressed", "medium", "spec-core-001")


def test_of_our_own_weekly_report_only_regressions_count_since_the_daily_ones_say_the_rest(tmp_path):
    own = {"schema": "performance-report/1", "period": "weekly", "regressions": [regressed()]}
    (signals, _) = read(tmp_path, report(**own), report(run_id="r2", period="weekly"))
    assert [s.state for s in signals] == ["regressed", "unhealthy"]
