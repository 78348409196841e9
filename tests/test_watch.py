"""The daemon as an owner runs it: processes that are stopped, killed and doubled, a real Prometheus, its own health."""

import datetime as dt
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import jsonschema
import pytest
from alertmanager_server import Alertmanager
from http_receiver import Receiver, until
from monitor_world import at, project, write
from prometheus_server import Prometheus, backfill

import feedback_lib
from feedback_lib import watch
from feedback_lib.errors import ConfigError
from feedback_lib.records import Item
from feedback_lib.sources.spec_reports import SpecReports

HERE = Path(__file__).parent
SPEED = 4000.0  # simulated seconds a second
BURSTS = [range(1441 + 180 * n, 1501 + 180 * n) for n in range(2)]
MINUTES = 1441 + 180 * 2


def alert_files(root):
    return [json.loads(p.read_text()) for p in sorted((root / ".spec").rglob("alerts/*.json"))]


@pytest.fixture
def receiver():
    with Receiver(usual=204) as made:
        yield made


@pytest.fixture
def daemons(tmp_path):
    """Starts daemons with a fast clock; whatever is left is ended."""
    running = []
    began = time.time() - 1441 * 60 / SPEED

    def start():
        command = [sys.executable, HERE / "monitor_daemon.py", tmp_path, str(began), str(SPEED)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def finish(process):
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "stopped after" in output and "Traceback" not in output
    return output


def simulated_end(began_at):
    return began_at + (MINUTES - 1441) * 60 / SPEED


def keys(receiver):
    return Counter(request.headers["idempotency-key"] for request in receiver.requests)


@pytest.mark.thorough  # test_monitor.py shows it of one that stops
def test_killed_again_and_again_beside_a_second_daemon_every_alert_arrives_once(tmp_path, receiver, daemons):
    folder = project(tmp_path, alerts=f"  - kind: webhook\n    url: {receiver.url}\n")
    bursts = {m for burst in BURSTS for m in burst}
    write(folder / "metrics.csv", MINUTES, bad=bursts, slow=bursts)
    chance = random.Random(7)
    began = time.time()
    steady, victim = daemons(), daemons()
    while time.time() < simulated_end(began):
        time.sleep(chance.uniform(1.2, 2.4))
        victim.kill()
        victim = daemons()
    until(lambda: len(alert_files(tmp_path)) == 2, 30)
    finish(steady)
    finish(victim)
    told = keys(receiver)
    expected = {f"{f['fingerprint']}-{h['sequence']}" for f in alert_files(tmp_path) for h in f["history"]}
    assert set(told) == expected and len(expected) >= 4
    assert sum(told.values()) - len(told) <= 1  # only a kill between the answer and its note sends the same key again


def feedback(root, *arguments, **environment):
    command = [Path(sys.executable).with_name("feedback"), *arguments, "--spec-id", "spec-api-001", "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def openmetrics(end, failing):
    """Two days of counters and a gauge every minute up to ``end``; in the last ``failing`` minutes 10 % fail."""
    lines = []
    start = end - 2 * 86_400
    moments = range(start, end + 1, 60)
    bad = [0]
    for moment in moments[1:]:
        bad.append(bad[-1] + (100 if moment > end - failing * 60 else 0))
    for code, counts in [("200", [1000 * n - b for n, b in enumerate(bad)]), ("500", bad)]:
        lines += [f'requests_total{{code="{code}"}} {c} {m}' for m, c in zip(moments, counts, strict=True)]
    return (
        "# TYPE requests counter\n"
        + "\n".join(lines)
        + "\n# TYPE p99 gauge\n"
        + "\n".join(f"p99 0.1 {m}" for m in moments)
    )


def test_a_real_prometheus_that_dies_and_comes_back_and_a_real_alertmanager(tmp_path):
    """From the shell, as an owner does: one alert, kept while Prometheus is away, never sent twice."""
    tsdb = backfill(tmp_path / "prometheus", openmetrics(int(time.time()) // 60 * 60 - 60, failing=30))
    (tmp_path / "alertmanager").mkdir()
    with Prometheus(tsdb) as prometheus, Alertmanager(tmp_path / "alertmanager") as manager:
        project(
            tmp_path,
            provider=f"provider: prometheus\nurl: {prometheus.url}\ntoken_env: PLANTED",
            bad="'sum(increase(requests_total{code=\"500\"}[2m])) / 2'",
            total="sum(increase(requests_total[2m])) / 2",
            alerts=f"  - kind: alertmanager\n    url: {manager.url}\n",
        )
        secret = "planted-" + "k3y-0815"
        first = feedback(tmp_path, "--verbose", "monitor", "--run-once", "--fail-on-breach", PLANTED=secret)
        assert first.returncode == 3, first.stderr
        assert "unhealthy" in first.stdout and "page since" in first.stdout
        prometheus.kill()
        away = feedback(tmp_path, "--verbose", "monitor", "--json", PLANTED=secret)
        assert away.returncode == 1
        assert {m["status"] for m in json.loads(away.stdout)["metrics"]} == {"unknown"}
        prometheus.start()
        back = feedback(tmp_path, "monitor", "--run-once", PLANTED=secret)
        assert "unhealthy" in back.stdout and "Traceback" not in back.stderr
        alerts = [a for a in manager.active() if a["labels"]["alertname"] != "Watchdog"]
        assert [a["labels"]["slo"] for a in alerts] == ["api_error_rate"]
        until(lambda: ("api_error_rate", "firing") in manager.notified("slo"), 10)
        assert Counter(manager.notified("slo"))["api_error_rate", "firing"] == 1
    (file,) = alert_files(tmp_path)
    assert [h["event"] for h in file["history"]] == ["opened"]
    for written in [first, away, back]:
        assert secret not in written.stdout + written.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_daemon_serves_its_own_health_on_loopback(tmp_path):
    write(project(tmp_path) / "metrics.csv", 1440)
    stop, port, answers = threading.Event(), free_port(), {}

    def look(_):
        for path in ("healthz", "metrics", "nothing"):
            answers[path] = httpx.get(f"http://127.0.0.1:{port}/{path}")

    watch.run("spec-api-001", tmp_path, port=port, stop=stop, clock=lambda: at(1440), tell=look, ticks=1)
    assert answers["healthz"].status_code == 200 and answers["healthz"].json()["service_status"] == "healthy"
    assert answers["nothing"].status_code == 404
    lines = answers["metrics"].text.splitlines()
    assert 'feedback_monitor_slo_status{spec_id="spec-api-001",sli="api_error_rate",status="healthy"} 1' in lines
    assert (
        f'feedback_monitor_last_evaluation_timestamp_seconds{{spec_id="spec-api-001"}} {at(1440).timestamp():.3f}'
        in lines
    )
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz")


def test_a_daemon_without_evaluations_says_that_it_stalls():
    own = watch.Own("spec-api-001", interval_s=1)
    assert own.healthz()["status"] == "ok"
    own.started -= 61
    assert own.healthz()["status"] == "stalled"


def test_a_daemon_whose_backend_is_away_says_that_it_is_blind_and_stops_its_sign_of_life(tmp_path, receiver):
    project(tmp_path, alerts=f"  - kind: heartbeat\n    url: {receiver.url}\n")  # there is no metrics.csv
    own = watch.run("spec-api-001", tmp_path, port=0, stop=threading.Event(), clock=lambda: at(10), ticks=1)
    assert own.healthz()["status"] == "blind" and "metrics.csv" in own.healthz()["problem"]
    assert receiver.requests == []


def test_a_port_that_is_taken_is_an_error_when_asked_for(tmp_path):
    write(project(tmp_path) / "metrics.csv", 10)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="Name another with --port"):
            watch.run("spec-api-001", tmp_path, port=taken.getsockname()[1], stop=threading.Event(), ticks=1)


def test_a_plan_that_breaks_while_the_daemon_runs_is_reported_and_the_old_one_goes_on(tmp_path):
    folder = project(tmp_path)
    write(folder / "metrics.csv", 1440)
    seen = []

    def tell(shot):
        seen.append(shot.status)
        (folder / "observability.yaml").write_text("provider: [")

    own = watch.run(
        "spec-api-001",
        tmp_path,
        interval_s=0.01,
        port=0,
        stop=threading.Event(),
        clock=lambda: at(1440),
        tell=tell,
        ticks=3,
    )
    assert seen == ["healthy"] * 3 and own.failures == 0
    assert "not valid YAML" in own.problem and "the plan before goes on" in own.healthz()["problem"]


def test_a_week_leaves_daily_and_weekly_reports_that_keep_their_schema_and_that_the_aggregator_reads(tmp_path):
    week = 7 * 1440
    burst = range(3 * 1440 + 60, 3 * 1440 + 120)
    write(project(tmp_path) / "metrics.csv", week + 30, bad=burst, slow=burst)
    for minute in [10, 4 * 1440 + 11, week + 11]:
        watch.once("spec-api-001", tmp_path, now=at(minute))
    folder = tmp_path / ".spec/reports/production-monitoring/spec-api-001"
    reports = {p.name: json.loads(p.read_text()) for p in folder.glob("*.json")}
    assert sorted(reports) == sorted([*(f"2026-11-{d:02}-daily.json" for d in range(2, 9)), "2026-W45-weekly.json"])
    schema = json.loads((Path(feedback_lib.__file__).parent / "data/performance-report.schema.json").read_text())
    for report in reports.values():
        jsonschema.validate(report, schema)
    errors, p99 = reports["2026-W45-weekly.json"]["metrics"]
    assert errors["valid"] == week * 1000 and errors["good"] == week * 1000 - 6000
    assert errors["value"] == pytest.approx(100 * 6000 / (week * 1000)) and errors["status"] == "unhealthy"
    assert (p99["value"], p99["worst"], p99["slo"], p99["unit"]) == (100.0, 300.0, 200, "ms")
    assert reports["2026-11-04-daily.json"]["status"] == "healthy"
    assert [a["event"] for a in reports["2026-11-05-daily.json"]["alerts"]][:1] == ["opened"]
    source = SpecReports(folder=str(folder.parent))
    items = [item for item in source.fetch(None, at(week + 60)) if isinstance(item, Item)]
    titles = {source.parse(item.payload).title for item in items}
    assert any("api_error_rate" in title for title in titles)


def test_a_report_made_again_says_the_same(tmp_path):
    write(project(tmp_path) / "metrics.csv", 2 * 1440 + 30)
    watch.once("spec-api-001", tmp_path, now=at(2 * 1440 + 11))
    path = tmp_path / ".spec/reports/production-monitoring/spec-api-001/2026-11-03-daily.json"
    before = path.read_bytes()
    path.unlink()
    watch.report("spec-api-001", tmp_path, "daily", dt.date(2026, 11, 3))
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="not measured to its end"):
        watch.report("spec-api-001", tmp_path, "daily", dt.date(2026, 11, 4))


def test_a_dry_run_leaves_no_trace(tmp_path):
    write(project(tmp_path) / "metrics.csv", 1470, bad=BURSTS[0])
    shot = watch.once("spec-api-001", tmp_path, now=at(1470), dry_run=True)
    assert [e["event"] for e in shot.events] == ["opened"]
    assert not (tmp_path / ".spec").exists()
