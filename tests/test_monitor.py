"""The monitor on a made-up service: one alert per problem, whatever happens to data, clock and the monitor itself."""

import dataclasses
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import filelock
import pytest
from http_receiver import until
from monitor_world import T0, World, at, plan, project, write

from feedback_lib import watch
from feedback_lib.analysis import alerts
from feedback_lib.errors import FeedbackError
from feedback_lib.ledger import Ledger
from feedback_lib.monitor import Monitor

BURST = range(1441, 1501)  # the 25th hour


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


def incidents(folder):
    return [json.loads(p.read_text()) for p in sorted((folder / "alerts").glob("*.json"))]


def test_a_quiet_day_is_healthy_and_tells_nobody(world):
    write(world.csv, 1440)
    shot = world.tick(1440)
    assert shot.status == "healthy"
    assert [(h.value, h.status, h.budget_remaining) for h in shot.slos] == [
        (0.0, "healthy", 1.0),
        (100.0, "healthy", 1.0),
    ]
    assert incidents(world.folder) == []


def test_a_burst_is_one_alert_that_opens_at_minute_nine_escalates_down_and_resolves(world):
    write(world.csv, 6000, bad=BURST, slow=BURST)
    for minute in [1440, 1448, 1449, 1450, 1500, 1540, 6000]:
        shot = world.tick(minute)
    of_errors = [e for e in world.events if e[1] == "api_error_rate"]
    assert of_errors[0] == (1449, "api_error_rate", "opened", "page")  # 8.64 minutes at burn 100: the SRE Workbook
    assert [e[2:] for e in of_errors] == [("opened", "page"), ("updated", "ticket"), ("resolved", "ticket")]
    assert shot.status == "healthy" and shot.undelivered == 0
    files = incidents(world.folder)
    assert {f["metric"]: (f["state"], len(f["history"])) for f in files} == {
        "api_error_rate": ("resolved", 3),
        "api_latency_p99": ("resolved", 3),
    }


def test_while_it_burns_health_says_so_with_value_target_and_evidence(world):
    write(world.csv, 1460, bad=BURST, slow=BURST)
    world.tick(1440)
    shot = world.tick(1460)
    errors, p99 = shot.slos
    assert (shot.status, errors.status, errors.alert) == ("unhealthy", "unhealthy", "page")
    assert (errors.value, errors.op, errors.threshold, errors.unit) == (10.0, "<", 0.1, "%")
    assert (p99.value, p99.threshold, p99.unit) == (300.0, 200, "ms")
    assert errors.since == at(1449) and errors.query == "bad: bad; total: total"
    told = incidents(world.folder)[0]
    assert told["source"] == "production_monitor" and told["spec_id"] == "spec-api-001"
    assert told["fingerprint"] == alerts.fingerprint("spec-api-001", told["metric"])
    assert told["runbook"] == "https://runbooks.example.org/api" and told["severity"] == "SEV-2"


def test_watching_every_few_minutes_and_catching_up_once_make_the_same_events(tmp_path):
    worlds = []
    for name, minutes in [("often", [1440, *range(1445, 1520, 6), 1700]), ("once", [1440, 1700])]:
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "metrics.csv", 1700, bad=BURST)
        one = World(folder)
        for minute in minutes:
            one.tick(minute)
        one.close()
        worlds.append(one)
    assert worlds[0].events == worlds[1].events != []
    often, once = ([{**f, "evidence_url": None} for f in incidents(one.folder)] for one in worlds)
    assert often == once


def test_what_was_over_before_anybody_watched_is_not_told_but_what_still_burns_is(tmp_path):
    for name, minute, expected in [("over", 6000, []), ("burning", 1480, ["opened"])]:
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "metrics.csv", minute, bad=BURST)
        one = World(folder)
        shot = one.tick(minute)
        one.close()
        assert [e["event"] for e in shot.events] == expected
        assert {e["since"] for e in shot.events} <= {"2026-11-03T00:09:00Z"}


def test_a_backend_that_goes_away_leaves_health_unknown_raises_nothing_and_loses_nothing(world):
    write(world.csv, 1440)
    world.tick(1440)
    world.csv.rename(world.csv.with_suffix(".gone"))
    shot = world.tick(1470)
    assert [h.status for h in shot.slos] == ["unknown", "unknown"] and shot.status == "unknown"
    assert "metrics.csv" in shot.slos[0].reason and world.events == []
    write(world.csv, 1640, bad=BURST)  # it was away while the burst began
    world.tick(1640)
    assert world.events[0] == (1449, "api_error_rate", "opened", "page")


def test_an_alert_stays_open_while_the_backend_is_away(world):
    write(world.csv, 1640, bad=BURST)
    world.tick(1440)
    world.tick(1460)
    world.csv.rename(world.csv.with_suffix(".gone"))
    shot = world.tick(1560)
    assert shot.slos[0].alert == "page" and shot.slos[0].status == "unknown"
    assert [e[2] for e in world.events] == ["opened"]


def test_silence_of_the_service_is_unknown_neither_good_nor_bad(world):
    write(world.csv, 1500, gone=range(1441, 1501))
    world.tick(1440)
    shot = world.tick(1500)
    assert {(h.status, h.reason) for h in shot.slos} == {("unknown", "no data since 2026-11-03 00:00 UTC")}
    assert world.events == []


def test_a_clock_that_jumps_ahead_and_is_set_back_loses_no_alert(world):
    write(world.csv, 1440)
    world.tick(1430)
    ahead = world.tick(1430 + 7 * 1440)
    assert {h.status for h in ahead.slos} == {"unknown"}
    write(world.csv, 1460, bad=BURST)
    back = world.tick(1460)
    assert back.slos[0].status == "unhealthy"
    assert world.events == [(1449, "api_error_rate", "opened", "page")]


def test_two_monitors_of_one_ledger_tell_each_event_once(tmp_path):
    write(tmp_path / "metrics.csv", 1700, bad=BURST, slow=BURST)
    ledgers = [Ledger(tmp_path / "monitor.sqlite") for _ in range(2)]
    pair = [Monitor(plan(tmp_path), ledger) for ledger in ledgers]
    seen = []
    for minute in [1440, 1448, 1449, 1455, 1500, 1530, 1540, 1700]:
        for one in pair:
            seen += [(e["metric"], e["sequence"]) for e in one.tick(at(minute)).events]
    for ledger in ledgers:
        ledger.close()
    assert len(seen) == len(set(seen)) == 4
    assert all(len(f["history"]) == 2 for f in incidents(tmp_path))


def test_two_monitors_with_memories_of_their_own_make_one_alert(tmp_path):
    """As on two machines that share the sinks; the second started when the problem was open already."""
    write(tmp_path / "metrics.csv", 1700, bad=BURST)
    first, second = Ledger(tmp_path / "a.sqlite"), Ledger(tmp_path / "b.sqlite")
    one, two = Monitor(plan(tmp_path), first), Monitor(plan(tmp_path), second)
    for minute in [1440, 1450, 1480, 1540, 1700]:
        one.tick(at(minute))
        if minute >= 1480:
            two.tick(at(minute))
    first.close()
    second.close()
    (file,) = incidents(tmp_path)
    assert [h["event"] for h in file["history"]] == ["opened", "updated"]


class Receiver(ThreadingHTTPServer):
    """Counts what a webhook receives; refuses while ``refuse`` is set."""

    def __init__(self):
        receiver = self
        self.keys, self.refuse = [], False

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.refuse:
                    receiver.keys.append(self.headers["Idempotency-Key"])
                self.send_response(400 if receiver.refuse else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/alerts"


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.shutdown()
    made.server_close()


def test_a_sink_that_refuses_is_told_later_in_order_and_the_others_at_once(tmp_path, receiver):
    sinks = [{"kind": "webhook", "url": receiver.url}, {"kind": "incident_file", "folder": str(tmp_path / "alerts")}]
    write(tmp_path / "metrics.csv", 1700, bad=BURST)
    world = World(tmp_path, sinks=sinks)
    world.tick(1440)
    receiver.refuse = True
    shot = world.tick(1450)
    assert shot.undelivered == 1 and len(incidents(tmp_path)) == 1
    world.tick(1700)
    receiver.refuse = False
    shot = world.tick(1720)
    assert shot.undelivered == 0
    sequences = [int(key.rpartition("-")[2]) for key in receiver.keys]
    assert len(sequences) == 2 and sequences == sorted(sequences)
    world.close()


def test_no_event_carries_a_moment_before_the_world_began(world):
    write(world.csv, 300, bad=range(1, 60))
    world.tick(300)
    assert all(minute > 0 for minute, *_ in world.events)
    assert world.ledger.first("api_error_rate") > T0.timestamp() * 1e6


def test_looking_back_judges_anew_and_changes_nothing(tmp_path):
    write(project(tmp_path) / "metrics.csv", 1500, bad=BURST)
    assert watch.once("spec-api-001", tmp_path, now=at(1500)).status == "unhealthy"
    ledger = watch.ledger_path(tmp_path, "spec-api-001")
    before = ledger.stat().st_mtime_ns
    back = watch.once("spec-api-001", tmp_path, now=at(1440))
    assert back.status == "healthy" and back.slos[0].last_at == at(1440)
    assert ledger.stat().st_mtime_ns == before
    assert watch.once("spec-api-001", tmp_path, now=at(1500)).slos[0].alert == "page"


def test_a_query_that_changes_is_measured_anew_and_old_samples_are_not_mixed_in(tmp_path):
    folder = project(tmp_path)
    write(folder / "metrics.csv", 1500, slow=BURST)
    watch.once("spec-api-001", tmp_path, now=at(1500))
    text = (folder / "observability.yaml").read_text()
    (folder / "observability.yaml").write_text(
        text.replace("query: p99", "query: total").replace("unit: s", "unit: ms")
    )
    shot = watch.once("spec-api-001", tmp_path, now=at(1500))
    p99 = shot.slos[1]
    assert (p99.value, p99.sli, p99.last_at) == (1000.0, 0.0, at(1500))


def test_a_backend_that_does_not_answer_is_not_waited_for_once_per_slo(tmp_path):
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        provider = {"kind": "prometheus", "url": f"http://127.0.0.1:{deaf.getsockname()[1]}", "timeout_s": 0.2}
        one = plan(tmp_path, backend=provider)
        many = [
            dataclasses.replace(w, slo=dataclasses.replace(w.slo, sli=f"s{n}")) for n in range(40) for w in one.watched
        ]
        ledger = Ledger(tmp_path / "monitor.sqlite")
        began = time.monotonic()
        shot = Monitor(dataclasses.replace(one, watched=tuple(many)), ledger).tick(at(10))
        ledger.close()
    assert {h.status for h in shot.slos} == {"unknown"} and "answered no other query" in shot.slos[-1].reason
    assert time.monotonic() - began < 10


def test_a_few_missing_minutes_do_not_keep_an_alert_open_for_ever(world):
    write(world.csv, 3200, bad=BURST, gone=range(1450, 3200, 50))
    for minute in (1440, 1480, 3200):
        world.tick(minute)
    assert [e[2] for e in world.events if e[1] == "api_error_rate"][-1] == "resolved"


def test_a_sink_that_is_mended_or_new_is_told_what_is_open(tmp_path, receiver):
    write(tmp_path / "metrics.csv", 1500, bad=BURST)
    ledger = Ledger(tmp_path / "monitor.sqlite")
    wrong = {"kind": "webhook", "url": "http://127.0.0.1:9/alerts"}
    Monitor(plan(tmp_path, sinks=[wrong]), ledger).tick(at(1440))
    assert Monitor(plan(tmp_path, sinks=[wrong]), ledger).tick(at(1470)).undelivered == 1
    shot = Monitor(plan(tmp_path, sinks=[{"kind": "webhook", "url": receiver.url}]), ledger).tick(at(1471))
    ledger.close()
    assert shot.undelivered == 0 and len(receiver.keys) == 1


def test_an_alert_of_a_metric_that_is_no_longer_watched_is_closed(tmp_path):
    write(tmp_path / "metrics.csv", 1500, bad=BURST)
    ledger = Ledger(tmp_path / "monitor.sqlite")
    whole = plan(tmp_path)
    Monitor(whole, ledger).tick(at(1440))
    Monitor(whole, ledger).tick(at(1470))
    shot = Monitor(dataclasses.replace(whole, watched=whole.watched[1:]), ledger).tick(at(1471))
    ledger.close()
    assert [(e["metric"], e["event"]) for e in shot.events] == [("api_error_rate", "resolved")]
    (file,) = incidents(tmp_path)
    assert file["state"] == "resolved" and "no longer watched" in file["summary"]


def counted(tmp_path, good, total, minute=20):
    """One SLO of good and total, each given minute by minute; None is missing."""
    rows = [f"{at(m):%Y-%m-%dT%H:%M:%SZ},{g},{t}" for m, (g, t) in enumerate(zip(good, total, strict=True), 1)]
    (tmp_path / "metrics.csv").write_text("\n".join(["at,good,total", *rows]).replace("None", "") + "\n")
    first = plan(tmp_path).watched[0]
    one = dataclasses.replace(plan(tmp_path), watched=(dataclasses.replace(first, bad=None, good="good"),))
    ledger = Ledger(tmp_path / "monitor.sqlite")
    shot = Monitor(one, ledger).tick(at(minute))
    found = ledger.measurements("api", "api_error_rate").select("good", "valid").rows()
    ledger.close()
    return shot, found


def test_good_that_may_only_be_late_is_no_data_and_raises_nothing(tmp_path):
    shot, found = counted(tmp_path, [1000] * 19 + [None], [1000] * 20)
    assert len(found) == 19 and shot.events == ()


def test_good_that_stays_away_while_the_total_goes_on_is_an_outage(tmp_path):
    shot, found = counted(tmp_path, [1000] * 60 + [None] * 60, [1000] * 120, minute=120)
    assert found[-1] == (0.0, 1000.0) and [e["severity"] for e in shot.events] == ["page"]


def test_more_bad_than_there_is_in_total_is_a_wrong_query_and_no_outage(tmp_path):
    shot, found = counted(tmp_path, [1500] * 20, [1000] * 20)
    assert found == [] and "'good' is more than 'total'" in shot.slos[0].reason


def test_one_bad_minute_at_the_first_start_is_not_a_spent_budget(world):
    write(world.csv, 60, slow=[30])
    shot = world.tick(60)
    assert shot.slos[1].status == "healthy" and shot.slos[1].budget_remaining > 0.99


def test_a_slow_sink_keeps_no_other_waiting(tmp_path):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        sinks = [{"kind": "webhook", "url": f"http://127.0.0.1:{deaf.getsockname()[1]}/"}]
        sinks += [{"kind": "incident_file", "folder": str(tmp_path / "alerts")}]
        write(tmp_path / "metrics.csv", 1500, bad=BURST, slow=BURST)
        ledger = Ledger(tmp_path / "monitor.sqlite")
        watcher = Monitor(plan(tmp_path, sinks=sinks), ledger)
        thread = threading.Thread(target=lambda: watcher.tick(at(1500)), daemon=True)
        thread.start()
        until(lambda: len(incidents(tmp_path)) == 2, 8)  # the webhook would be waited for 30 seconds


def test_an_address_that_holds_a_secret_is_not_written_down(tmp_path):
    address = "http://127.0.0.1:9/health?api_key=planted-k3y-0815"
    first = plan(tmp_path).watched[0]
    slo = dataclasses.replace(first.slo, method="ratio_timeslices")
    check = dataclasses.replace(first, slo=slo, backend={"kind": "http_check"}, query=address, bad=None, total=None)
    ledger = Ledger(tmp_path / "monitor.sqlite")
    shot = Monitor(dataclasses.replace(plan(tmp_path), watched=(check,)), ledger).tick(at(10))
    ledger.close()
    assert "planted" not in json.dumps(shot.to_dict())
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"planted-k3y" in p.read_bytes()]


def test_the_history_tells_health_and_alerts_in_order(tmp_path):
    write(project(tmp_path) / "metrics.csv", 1700, bad=BURST)
    for minute in (1440, 1470, 1700):
        watch.once("spec-api-001", tmp_path, now=at(minute))
    rows = watch.history("spec-api-001", tmp_path)
    of_errors = [row["what"] for row in rows if row["metric"] == "api_error_rate"]
    assert of_errors == ["healthy", "page opened", "unhealthy", "ticket updated", "degraded"]
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


def test_a_tick_cut_short_by_the_end_of_the_daemon_is_no_sign_of_bad_health(tmp_path):
    write(tmp_path / "metrics.csv", 1440)
    ledger = Ledger(tmp_path / "monitor.sqlite")
    Monitor(plan(tmp_path), ledger).tick(at(1440))
    before = ledger.health()
    shot = Monitor(plan(tmp_path), ledger, stopping=lambda: True).tick(at(1445))
    assert {h.reason for h in shot.slos} == {"the monitor is stopping"}
    assert ledger.health().equals(before)
    ledger.close()


def test_a_second_run_once_leaves_at_once(tmp_path):
    write(project(tmp_path) / "metrics.csv", 10)
    path = watch.ledger_path(tmp_path, "spec-api-001")
    path.parent.mkdir(parents=True)
    with filelock.FileLock(f"{path}.once"), pytest.raises(FeedbackError, match="another run watches"):
        watch.once("spec-api-001", tmp_path, now=at(10))
    assert not path.exists()
