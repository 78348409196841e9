"""What is special about the sinks of alerts."""

import datetime as dt
import hashlib
import hmac
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from alert_messages import FINGERPRINT, OPENED, alert, iso, watchdog
from alertmanager_server import Alertmanager
from conftest import needed
from http_receiver import CUT, Receiver, until

from feedback_lib import plugins, sinks
from feedback_lib.errors import ConfigError, DeliveryError

LIFE = (
    alert("opened"),
    alert("updated", 10, severity="ticket", sev="SEV-3", value=260.0),
    alert("resolved", 30, severity="ticket", sev="SEV-3", value=150.0, previous_severity="ticket"),
    alert("reopened", 60, since=iso(OPENED + dt.timedelta(minutes=60))),
    alert("resolved", 90, value=140.0),
)


def build(kind, **options):
    return plugins.build("sinks", {"kind": kind, **options})


def only(folder):
    (path,) = Path(folder).glob("*.json")
    return json.loads(path.read_text("utf-8"))


# incident_file


def test_an_incident_file_is_the_payload_the_incident_workflow_takes(tmp_path):
    receipt = build("incident_file", folder=str(tmp_path)).deliver(alert())
    held = json.loads(Path(receipt.where).read_text())
    payload = {
        "source": "production_monitor",
        "spec_id": "spec-core-001",
        "metric": "api_latency_p99",
        "value": 350.0,
        "slo": 200.0,
        "severity": "SEV-2",
    }
    assert dict(itertools.islice(held.items(), 6)) == payload
    assert (held["state"], held["urgency"], held["fingerprint"]) == ("open", "page", FINGERPRINT)
    assert Path(receipt.where).name == f"20261120T100000Z-{FINGERPRINT}.json"


def test_the_events_of_an_episode_are_one_file_with_their_history(tmp_path):
    states = []
    for message in LIFE:
        build("incident_file", folder=str(tmp_path)).deliver(message)
        states.append(only(tmp_path)["state"])
    assert states == ["open", "open", "resolved", "open", "resolved"]
    history = only(tmp_path)["history"]
    assert [step["event"] for step in history] == ["opened", "updated", "resolved", "reopened", "resolved"]
    assert [step["value"] for step in history] == [350.0, 260.0, 150.0, 350.0, 140.0]


def test_another_episode_is_another_file(tmp_path):
    sink = build("incident_file", folder=str(tmp_path))
    sink.deliver(alert())
    sink.deliver(alert(start=OPENED + dt.timedelta(days=9)))
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_events_in_any_order_and_twice_end_in_the_same_file(tmp_path):
    shuffle = random.Random(7)
    ends = set()
    for number in range(20):
        sink = build("incident_file", folder=str(tmp_path / str(number)))
        messages = [*LIFE, *LIFE[:3]] if number else list(LIFE)
        if number:
            shuffle.shuffle(messages)
        changed = [sink.deliver(message).delivered for message in messages]
        assert sum(changed) == len(LIFE)
        ends.add(json.dumps(only(tmp_path / str(number))))
    assert len(ends) == 1


def test_what_the_incident_workflow_wrote_into_the_file_stays(tmp_path):
    sink = build("incident_file", folder=str(tmp_path))
    path = Path(sink.deliver(LIFE[0]).where)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"incident_id": "INC-7"}))
    sink.deliver(LIFE[4])
    sink.deliver(LIFE[1])
    assert (only(tmp_path)["incident_id"], only(tmp_path)["state"]) == ("INC-7", "resolved")


@pytest.mark.parametrize("content", ["", "[]", '{"history": [1]}', "{"])
def test_a_file_that_is_no_alert_is_left_alone_and_named(tmp_path, content):
    sink = build("incident_file", folder=str(tmp_path))
    path = Path(sink.deliver(alert()).where)
    path.write_text(content)
    with pytest.raises(DeliveryError, match=f"{path.name} is no alert file; move it away"):
        sink.deliver(alert("resolved", 5))
    assert path.read_text() == content


def test_a_number_that_json_cannot_hold_is_null(tmp_path):
    build("incident_file", folder=str(tmp_path)).deliver(alert(burn_long=float("inf"), value=float("nan")))
    assert (only(tmp_path)["burn_long"], only(tmp_path)["value"]) == (None, None)


def test_two_processes_that_write_one_file_at_once_lose_no_event(tmp_path):
    program = (
        "import json, sys; from feedback_lib import plugins, sinks; "
        "s = plugins.build('sinks', {'kind': 'incident_file', 'folder': sys.argv[1]}); print('ready', flush=True); "
        "given = [json.loads(line) for line in sys.stdin]; "
        "print(sum(s.deliver(sinks.Message(key='k', title='t', text='x', data=d)).delivered for d in given))"
    )
    events = [alert("updated", minute).data for minute in range(100)]
    shares = (events[::2] + events[1:50:2], events[1::2])  # some are told by both
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in shares
    ]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
    for writer, share in zip(writers, shares, strict=True):
        writer.stdin.write("".join(json.dumps(data) + "\n" for data in share))
        writer.stdin.close()
    changed = 0
    for writer in writers:
        changed += int(writer.stdout.read())
        writer.stdout.close()
        assert writer.wait() == 0
    assert changed == 100
    assert [step["at"] for step in only(tmp_path)["history"]] == [data["at"] for data in events]


def test_a_writer_that_is_killed_leaves_a_whole_file_and_no_lock(tmp_path):
    program = (
        "import json, sys; from feedback_lib import plugins, sinks; "
        "s = plugins.build('sinks', {'kind': 'incident_file', 'folder': sys.argv[1]}); d = json.load(sys.stdin)\n"
        "while True:\n"
        "    d['sequence'] += 1; s.deliver(sinks.Message(key='k', title='t', text='x', data=d)); print(flush=True)"
    )
    folder = tmp_path / "alerts"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    writer.stdin.write(json.dumps(dict(alert().data)))
    writer.stdin.close()
    told = sum(1 for _ in itertools.islice(writer.stdout, 25))
    os.kill(writer.pid, signal.SIGKILL)
    told += len(writer.stdout.readlines())
    writer.stdout.close()
    writer.wait()
    assert len(only(folder)["history"]) - told in (0, 1)
    build("incident_file", folder=str(folder)).deliver(alert("resolved", 1000))
    assert only(folder)["state"] == "resolved"


# alertmanager


@pytest.fixture
def manager(tmp_path):
    with Alertmanager(tmp_path) as running:
        yield running


def now(seconds=0):
    return dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=seconds)


def test_one_problem_is_one_alert_from_opening_to_resolving(manager):
    sink = build("alertmanager", url=manager.url, labels={"team": "payments"})
    start = now(-600)
    sink.deliver(alert(start=start))
    (active,) = manager.active()
    assert active["labels"] == {
        "alertname": "SLOErrorBudgetBurn",
        "service": "my-api",
        "slo": "api_latency_p99",
        "spec_id": "spec-core-001",
        "severity": "page",
        "fingerprint": FINGERPRINT,
        "team": "payments",
    }
    assert dt.datetime.fromisoformat(active["startsAt"]) == start
    assert active["generatorURL"] == alert().data["evidence_url"]
    assert active["annotations"]["value"] == "350 ms"
    assert active["annotations"]["threshold"] == "< 200 ms"
    assert active["annotations"]["burn_rate"] == "15.2 over 1h, 18 over 5m (alerts at 14.4)"
    assert active["annotations"]["runbook_url"] == alert().data["runbook"]

    sink.deliver(alert(start=start))
    sink.deliver(alert("updated", 1, start=start, value=420.0))
    (active,) = manager.active()
    assert active["annotations"]["value"] == "420 ms"
    assert dt.datetime.fromisoformat(active["startsAt"]) == start
    until(lambda: manager.notified("severity") == [("page", "firing")])

    sink.deliver(alert("updated", 2, start=start, severity="ticket", sev="SEV-3"))
    assert [a["labels"]["severity"] for a in manager.active()] == ["ticket"]
    told = [("page", "firing"), ("page", "resolved"), ("ticket", "firing")]
    until(lambda: sorted(manager.notified("severity")) == told)

    sink.deliver(alert("resolved", 3, start=start, severity="ticket", previous_severity="ticket"))
    assert manager.active() == []
    told.append(("ticket", "resolved"))
    until(lambda: sorted(manager.notified("severity")) == told)
    time.sleep(0.25)  # two group intervals: nothing comes after
    assert sorted(manager.notified("severity")) == told


def test_an_alert_that_is_not_sent_again_stays_open_and_is_told_once_at_each_end(manager):
    """Its receiver's resolve_timeout is 200 ms here; five minutes by default."""
    sink, start = build("alertmanager", url=manager.url), now(-600)
    sink.deliver(alert(start=start))
    until(lambda: manager.notified("fingerprint") == [(FINGERPRINT, "firing")])
    time.sleep(0.3)
    assert len(manager.active()) == 1
    sink.deliver(alert("resolved", 5, start=start))
    assert manager.active() == []
    until(lambda: manager.notified("fingerprint") == [(FINGERPRINT, "firing"), (FINGERPRINT, "resolved")])
    sink.deliver(alert("reopened", 7, start=start, since=iso(start + dt.timedelta(minutes=7))))
    assert len(manager.active()) == 1
    until(lambda: [status for _, status in manager.notified("fingerprint")] == ["firing", "resolved", "firing"])


def test_an_alertmanager_that_starts_anew_learns_of_an_open_alert_and_tells_nobody_twice(manager):
    sink, start = build("alertmanager", url=manager.url), now(-600)
    sink.deliver(alert(start=start))
    until(lambda: manager.notified("severity") == [("page", "firing")])
    manager.stop()
    manager.start()
    assert manager.active() == []
    sink.deliver(alert(start=start))
    assert len(manager.active()) == 1
    sink.deliver(alert("resolved", 2, start=start))
    assert manager.active() == []
    until(lambda: manager.notified("severity") == [("page", "firing"), ("page", "resolved")])


def test_the_watchdog_fires_while_the_monitor_lives_and_ends_after_four_missed_intervals(manager):
    sink = build("alertmanager", url=manager.url)
    sink.deliver(watchdog(now(-120)))
    sink.deliver(watchdog(now(), spec_id="spec-core-001"))
    sink.deliver(watchdog(now(-60), spec_id="spec-core-001"))
    sink.deliver(watchdog(now(-300), spec_id="spec-core-002"))
    by_spec = {a["labels"].get("spec_id"): a for a in manager.active() if a["labels"]["alertname"] == "Watchdog"}
    assert set(by_spec) == {None, "spec-core-001"}
    starts, ends = (dt.datetime.fromisoformat(by_spec[None][name]) for name in ("startsAt", "endsAt"))
    assert ends - starts == dt.timedelta(seconds=240)


def test_its_own_tool_finds_the_alert_by_service(manager):
    build("alertmanager", url=manager.url).deliver(alert(start=now(-60)))
    tool = needed("Alertmanager's tool", "amtool")
    asked = [str(tool), f"--alertmanager.url={manager.url}", "alert", "query", "service=my-api", "-o", "json"]
    (found,) = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    assert found["annotations"]["summary"] == alert().data["summary"]


def test_the_log_in_of_an_alertmanager_behind_a_proxy_is_sent(monkeypatch):
    monkeypatch.setenv("ALERTS_PASSWORD", "pässword-4f1c")
    with Receiver(usual=200) as proxy:
        build("alertmanager", url=f"{proxy.url}/am/", user="bot", password_env="ALERTS_PASSWORD").deliver(alert())
        (request,) = proxy.requests
    assert request.path == "/am/api/v2/alerts"
    assert request.headers["authorization"] == "Basic Ym90OnDDpHNzd29yZC00ZjFj"


@pytest.mark.parametrize("wrong", ["http://no%zzaddress", "http://jane:secret@prometheus:9090/graph", "see the wiki"])
def test_a_link_that_alertmanager_would_refuse_does_not_lose_the_alert(manager, wrong):
    build("alertmanager", url=manager.url).deliver(alert(start=now(-60), evidence_url=wrong, runbook=wrong))
    (active,) = manager.active()
    assert "generatorURL" not in active or active["generatorURL"] == ""
    assert active["annotations"]["evidence"] == wrong.replace("jane:secret", "[token]")


def test_what_alertmanager_says_about_a_refusal_is_told():
    said = b'"invalid label set: invalid name \\"team\\""'
    with Receiver((400, {}, said)) as refusing, pytest.raises(DeliveryError) as refused:
        build("alertmanager", url=refusing.url).deliver(alert())
    assert str(refused.value).endswith('answered 400 Bad Request: invalid label set: invalid name "team"')


def test_a_page_that_answers_200_in_place_of_alertmanager_is_no_delivery():
    login = (200, {"Content-Type": "text/html"}, b"<html>log in</html>")
    with Receiver(login) as page, pytest.raises(DeliveryError, match="answered a web page"):
        build("alertmanager", url=page.url).deliver(alert())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "alertmanager:9093"}, "no address"),
        ({"url": "http://[bad"}, "no address"),
        ({"url": "http://bot:pass@host"}, "use the options for credentials"),
        ({"url": "http://host", "user": "bot"}, "user and password_env"),
        ({"url": "http://host", "user": "bot", "password_env": "A", "token_env": "B"}, "token_env alone"),
        ({"url": "http://host", "labels": {"severity": "x"}}, "'severity' is set by us"),
        ({"url": "http://host", "labels": {"my-team": "x"}}, "'my-team' may hold"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_sent(options, said):
    with pytest.raises(ConfigError, match=said):
        build("alertmanager", **options)


# pagerduty, webhook, heartbeat


@pytest.fixture
def secrets(monkeypatch):
    for name in ("ROUTING_KEY", "HOOK_SECRET", "HOOK_TOKEN"):
        monkeypatch.setenv(name, f"planted-{name}")


@pytest.fixture(scope="module")
def event_schema(reference):
    described = json.loads((reference / "contracts/pagerduty/events-v2-openapiv3.json").read_text("utf-8"))
    event = described["paths"]["/enqueue"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return jsonschema.Draft202012Validator({**event, "components": described["components"]})


@pytest.mark.parametrize("message", LIFE, ids=lambda m: m.key[-6:])
def test_each_event_is_one_that_pagerduty_describes(secrets, event_schema, message):
    with Receiver() as pagerduty:
        build("pagerduty", routing_key_env="ROUTING_KEY", url=pagerduty.url).deliver(message)
        (request,) = pagerduty.requests
    assert list(event_schema.iter_errors(request.json())) == []
    assert list(event_schema.iter_errors({**request.json(), "event_action": "open"})), "the schema checks nothing"
    assert (request.method, request.path) == ("POST", "/v2/enqueue")
    resolved = message.data["event"] == "resolved"
    assert request.json()["event_action"] == ("resolve" if resolved else "trigger")
    assert request.json()["dedup_key"] == FINGERPRINT


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"sev": "SEV-1"}, "critical"),
        ({"sev": "SEV-2"}, "error"),
        ({"sev": "SEV-3"}, "warning"),
        ({"sev": "SEV-4"}, "info"),
        ({"sev": None}, "critical"),
        ({"sev": None, "severity": "ticket"}, "warning"),
    ],
)
def test_pagerduty_hears_how_severe_it_is_in_its_own_words(changes, severity):
    shown = build("pagerduty", routing_key_env="ROUTING_KEY").deliver(alert(**changes), dry_run=True).body
    assert json.loads(shown)["payload"]["severity"] == severity


def test_a_summary_longer_than_pagerduty_keeps_is_cut():
    shown = build("pagerduty", routing_key_env="ROUTING_KEY").deliver(alert(summary="ab " * 999), dry_run=True).body
    assert json.loads(shown)["payload"]["summary"] == ("ab " * 999)[:1024]


SINKS = {
    "pagerduty": lambda url: build("pagerduty", routing_key_env="ROUTING_KEY", url=url),
    "webhook": lambda url: build("webhook", url=url, token_env="HOOK_TOKEN", secret_env="HOOK_SECRET"),
}


@pytest.mark.parametrize(
    ("kind", "failure"),
    [("pagerduty", 500), ("pagerduty", CUT), ("pagerduty", (429, {"Retry-After": "1"})), ("webhook", CUT)],
)
def test_what_may_pass_is_sent_again_under_the_same_key_and_counts_once(secrets, kind, failure):
    """A cut answer is the hard one: the service has the message, and the sender cannot know."""
    with Receiver(failure) as service:
        began = time.monotonic()
        assert SINKS[kind](service.url).deliver(alert()).delivered
        waited = time.monotonic() - began
        first, again = service.requests
    assert first.body == again.body
    assert first.headers.get("idempotency-key") == again.headers.get("idempotency-key")
    named = {r.json()["dedup_key"] if kind == "pagerduty" else r.headers["idempotency-key"] for r in (first, again)}
    assert named == ({FINGERPRINT} if kind == "pagerduty" else {alert().key})
    assert waited >= (1 if isinstance(failure, tuple) else 0)


@pytest.mark.parametrize("kind", SINKS)
def test_a_message_that_is_refused_is_not_sent_again(secrets, kind):
    with Receiver(usual=400) as service:
        with pytest.raises(DeliveryError, match="answered 400"):
            SINKS[kind](service.url).deliver(alert())
        assert len(service.requests) == 1


def test_what_pagerduty_says_about_a_refusal_is_told_without_the_key(secrets):
    said = {
        "status": "invalid event",
        "message": "Event object is invalid",
        "errors": ["'planted-ROUTING_KEY' is no key"],
    }
    with Receiver((400, {}, json.dumps(said).encode())) as pagerduty, pytest.raises(DeliveryError) as refused:
        SINKS["pagerduty"](pagerduty.url).deliver(alert())
    assert str(refused.value).endswith("Event object is invalid; '[token]' is no key")


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_that_is_not_pagerdutys_is_no_delivery(secrets, status):
    with Receiver(usual=status) as service, pytest.raises(DeliveryError, match=f"answered {status}, not 202"):
        SINKS["pagerduty"](service.url).deliver(alert())


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_webhook_has_arrived_with_any_status_of_success(secrets, status):
    with Receiver(usual=status) as service:
        assert SINKS["webhook"](service.url).deliver(alert()).delivered


def test_a_webhook_is_signed_over_the_bytes_that_arrive(secrets):
    with Receiver() as service:
        SINKS["webhook"](f"{service.url}/in?team=payments&empty=").deliver(alert(summary="Größe ≥ 200 ms – “p99”"))
        (request,) = service.requests
    signature = hmac.new(b"planted-HOOK_SECRET", request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-feedback-signature-256"] == f"sha256={signature}"
    assert request.headers["authorization"] == "Bearer planted-HOOK_TOKEN"
    assert request.path == "/in?team=payments&empty="
    assert request.json()["data"]["summary"] == "Größe ≥ 200 ms – “p99”"


def test_a_webhook_takes_a_report_without_values(secrets):
    message = sinks.Message("weekly 2026-W46", "Developer Signal Report", "jane@example.org says exports fail.")
    with Receiver() as service:
        SINKS["webhook"](service.url).deliver(message)
        (request,) = service.requests
    assert request.json() == {
        "key": "weekly 2026-W46",
        "title": "Developer Signal Report",
        "text": "[email] says exports fail.",
        "attachments": [],
        "data": None,
    }


def test_a_heartbeat_is_asked_for_with_each_sign_of_life_and_not_for_alerts(secrets):
    with Receiver(usual=200) as switch:
        sink = build("heartbeat", url=f"{switch.url}/ping/1")
        told = [sink.deliver(m).delivered for m in (watchdog(), *LIFE, watchdog(OPENED + dt.timedelta(minutes=1)))]
    assert told == [True, *[False] * len(LIFE), True]
    assert [(r.method, r.path, r.body) for r in switch.requests] == [("GET", "/ping/1", b"")] * 2


@pytest.mark.parametrize("kind", ["webhook", "heartbeat"])
@pytest.mark.parametrize("options", [{}, {"url": "http://host", "url_env": "X"}])
def test_an_address_is_written_or_named_and_not_both(kind, options):
    with pytest.raises(ConfigError, match="write url, or url_env"):
        build(kind, **options)


@pytest.mark.parametrize("kind", ["webhook", "heartbeat"])
def test_a_variable_that_holds_no_address_is_named_without_what_it_holds(kind, monkeypatch):
    monkeypatch.setenv("ADDRESS", "planted-4f1c")
    with pytest.raises(ConfigError, match="what ADDRESS holds: no address") as refused:
        build(kind, url_env="ADDRESS").deliver({"webhook": alert(), "heartbeat": watchdog()}[kind])
    assert "planted" not in str(refused.value)


# all of them


@pytest.mark.parametrize("kind", ["incident_file", "alertmanager", "pagerduty", "webhook"])
def test_a_token_in_a_query_or_a_sentence_does_not_leave_and_what_names_the_alert_stays(kind, tmp_path):
    options = {
        "incident_file": {"folder": str(tmp_path)},
        "alertmanager": {"url": "http://localhost"},
        "pagerduty": {"routing_key_env": "ROUTING_KEY"},
        "webhook": {"url": "http://localhost"},
    }[kind]
    message = alert(
        query='up{token="glpat-4f1c9e4f1c9e4f1c9e4f"}',
        summary="jane@example.org sees 350 ms",
        evidence_url="http://prometheus:9090/graph?g0.expr=up%7Btoken%3D%22glpat-4f1c9e4f1c9e4f1c9e4f%22%7D&g0.tab=0",
        runbook="https://runbooks.example.org/my-api?key=4f1c9e4f1c9e4f1c",
    )
    body = build(kind, **options).deliver(message, dry_run=True).body
    assert "4f1c9e" not in body
    assert "jane@" not in body
    assert "[email] sees 350 ms" in body
    assert FINGERPRINT in body
    assert "http://prometheus:9090/graph?g0.expr=up" in body


@pytest.mark.parametrize("kind", ["incident_file", "alertmanager", "pagerduty"])
@pytest.mark.parametrize("name", ["fingerprint", "sequence", "episode", "at"])
def test_an_alert_without_what_names_it_is_refused(kind, name, tmp_path):
    options = {"folder": str(tmp_path)} if kind == "incident_file" else {}
    options |= {"url": "http://localhost"} if kind == "alertmanager" else {}
    options |= {"routing_key_env": "ROUTING_KEY"} if kind == "pagerduty" else {}
    with pytest.raises(DeliveryError, match=f"takes alerts only; this one has no {name}"):
        build(kind, **options).deliver(alert(**{name: None}), dry_run=True)
