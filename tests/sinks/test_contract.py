"""What every sink promises. A new one joins by its module, `tests/data/sinks/<kind>.json` and a row in the docs."""

import datetime as dt
import inspect
import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from alert_messages import alert, watchdog
from http_receiver import Receiver

from feedback_lib import plugins, sinks
from feedback_lib.errors import ConfigError, DeliveryError

ROOT = Path(__file__).parents[2]
KINDS = sorted(f.stem for f in (ROOT / "feedback_lib" / "sinks").glob("[a-z]*.py"))
MESSAGE = sinks.Message(
    key="weekly 2026-W46/ünï",
    title="Developer Signal Report, week 46",
    text="14 people say exports fail.\n\nNothing else grew.",
    attachments=("signal_report.html",),
)
PLANTED = "planted-4f1c9e-key"


def described(kind):
    """How a sink is tested: the messages it takes, whether it remembers keys itself, and its options."""
    path = ROOT / "tests" / "data" / "sinks" / f"{kind}.json"
    assert path.exists(), f"say in {path.relative_to(ROOT)} with which options sink {kind} is tested"
    return json.loads(path.read_text())


def kinds(**wanted):
    return [k for k in KINDS if all(described(k)[name] == value for name, value in wanted.items())]


def message(kind):
    return {"reports": MESSAGE, "alerts": alert(), "watchdog": watchdog()}[described(kind)["takes"]]


def another(kind):
    """A message with another key whose text is equal."""
    equal = sinks.Message(key="weekly 2026-W46 ünï", title=MESSAGE.title, text=MESSAGE.text)
    later = watchdog(dt.datetime(2026, 11, 21, tzinfo=dt.UTC))
    return {"reports": equal, "alerts": alert("updated", 5), "watchdog": later}[described(kind)["takes"]]


class Place:
    """Where the messages of one test arrive: a folder, standard output, and a service."""

    def __init__(self, folder, capsys):
        self.folder, self._capsys = folder, capsys
        self.service = Receiver()

    def sink(self, kind):
        """The sink made anew, as the next run makes it."""
        return plugins.build("sinks", {"kind": kind} | self.options(kind))

    def options(self, kind):
        def fill(value):
            return (
                value.replace("{folder}", str(self.folder)).replace("{server}", self.service.url)
                if isinstance(value, str)
                else value
            )

        return {name: fill(value) for name, value in described(kind)["options"].items()}

    def plant(self, kind, patch):
        """Put secrets into the environment variables that the options name; returns them."""
        self.planted = []
        for name, variable in self.options(kind).items():
            if name.endswith("_env"):
                secret = f"{PLANTED}-{name}"
                self.planted.append(secret)
                patch.setenv(variable, f"{self.service.url}/in/{secret}?k={secret}" if name == "url_env" else secret)
        return self.planted

    def arrived(self):
        """Everything that went out: printed text, files by name, and different requests."""
        files = {str(f): f.read_bytes() for f in sorted(self.folder.rglob("*")) if f.is_file() and f.suffix != ".lock"}
        asked = {(r.method, r.path, r.headers.get("idempotency-key"), r.body) for r in self.service.requests}
        return self._capsys.readouterr().out, files, asked

    def said(self):
        printed, files, asked = self.arrived()
        return printed + "".join(c.decode() for c in files.values()) + "".join(body.decode() for *_, body in asked)

    def fail(self):
        """From now on nothing can be written and the service refuses what it is asked, repeating it."""
        (self.folder / "messages").write_text("a file where a folder should be")
        (self.folder / "delivered.jsonl").mkdir()
        echo = json.dumps({"message": MESSAGE.text, "errors": [f"{secret} is unknown" for secret in self.planted]})
        self.service.usual = (400, {}, echo.encode())


@pytest.fixture
def place(tmp_path, capsys, monkeypatch):
    made = Place(tmp_path, capsys)
    for kind in KINDS:
        made.plant(kind, monkeypatch)
    yield made
    made.service.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_delivered_message_says_where_it_went(kind, place):
    before = dt.datetime.now(dt.UTC)
    receipt = place.sink(kind).deliver(message(kind))
    assert receipt.delivered
    assert receipt.key == message(kind).key
    assert receipt.kind == kind
    assert receipt.where
    assert receipt.body is None
    assert before <= receipt.at <= dt.datetime.now(dt.UTC)
    assert place.arrived() != ("", {}, set())


@pytest.mark.parametrize("kind", kinds(takes="reports"))
def test_a_report_arrives_with_its_title_text_and_attachments(kind, place):
    place.sink(kind).deliver(MESSAGE)
    said = place.said()
    for part in (MESSAGE.title, "14 people say exports fail.", "Nothing else grew.", "signal_report.html"):
        assert part in said


@pytest.mark.parametrize("kind", [*kinds(takes="alerts"), "webhook"])
def test_an_alert_arrives_with_what_names_it_and_what_a_person_needs(kind, place):
    place.sink(kind).deliver(alert())
    said = place.said()
    for name in ("fingerprint", "service", "metric", "summary", "runbook", "evidence_url"):
        assert alert().data[name] in said


@pytest.mark.parametrize("kind", kinds(remembers=True))
def test_the_same_key_is_delivered_once_also_by_the_next_run(kind, place):
    place.sink(kind).deliver(message(kind))
    _, first, _ = place.arrived()
    again = place.sink(kind).deliver(message(kind))
    assert not again.delivered
    assert place.arrived() == ("", first, set())


@pytest.mark.parametrize("kind", kinds(remembers=True))
def test_the_same_object_delivers_a_key_once(kind, place):
    one = place.sink(kind)
    assert [one.deliver(message(kind)).delivered, one.deliver(message(kind)).delivered] == [True, False]


@pytest.mark.parametrize("kind", kinds(remembers=False))
def test_a_service_gets_the_same_message_again_in_the_same_bytes_so_that_it_can_tell(kind, place):
    place.sink(kind).deliver(message(kind))
    first = place.arrived()
    place.sink(kind).deliver(message(kind))
    assert len(place.service.requests) == 2
    assert place.arrived() == first


@pytest.mark.parametrize("kind", KINDS)
def test_another_key_is_delivered_although_its_text_is_equal(kind, place):
    assert place.sink(kind).deliver(message(kind)).delivered
    assert place.sink(kind).deliver(another(kind)).delivered


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_says_where_and_writes_nothing(kind, place):
    receipt = place.sink(kind).deliver(message(kind), dry_run=True)
    assert not receipt.delivered
    assert receipt.where
    assert place.arrived() == ("", {}, set())


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_does_not_count_as_delivered(kind, place):
    place.sink(kind).deliver(message(kind), dry_run=True)
    assert place.sink(kind).deliver(message(kind)).delivered


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in kinds(takes="reports") or k == "webhook"])
def test_a_dry_run_shows_the_bytes_that_would_go_out_with_names_for_secrets(kind, place):
    shown = place.sink(kind).deliver(message(kind), dry_run=True).body
    place.sink(kind).deliver(message(kind))
    assert shown.replace("${PAGERDUTY_KEY}", f"{PLANTED}-routing_key_env") == place.said()
    assert PLANTED not in shown


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_refuses_is_a_delivery_error_with_kind_and_key(kind, place):
    place.fail()
    with pytest.raises(DeliveryError) as failed:
        place.sink(kind).deliver(message(kind))
    assert failed.value.key == message(kind).key
    assert failed.value.kind == kind
    assert len(place.service.requests) <= 1, "what was refused is not tried again"


@pytest.mark.parametrize("kind", kinds(takes="reports"))
def test_the_text_of_a_report_does_not_stand_in_an_error(kind, place):
    place.fail()
    with pytest.raises(DeliveryError) as failed:
        place.sink(kind).deliver(MESSAGE)
    assert "exports fail" not in str(failed.value)


@pytest.mark.parametrize("kind", [k for k in KINDS if any(o.endswith("_env") for o in described(k)["options"])])
def test_a_secret_stands_in_no_log_error_repr_or_receipt(kind, place, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    planted = place.plant(kind, monkeypatch)
    sink = place.sink(kind)
    told = [repr(sink), repr(sink.deliver(message(kind), dry_run=True)), repr(sink.deliver(message(kind)))]
    sent = repr(place.service.requests)
    assert all(secret in sent for secret in planted if not secret.endswith("-secret_env"))
    place.fail()
    with pytest.raises(DeliveryError) as refused:
        sink.deliver(message(kind))
    told += traceback.format_exception(refused.value)
    place.service.usual = (200, {"Content-Type": "text/html"}, f"<html>log in, {PLANTED}</html>".encode())
    try:
        sink.deliver(message(kind))
    except DeliveryError as odd:
        told += traceback.format_exception(odd)
    assert caplog.records, "nothing was logged, so nothing was shown"
    assert PLANTED not in "".join(told) + caplog.text


@pytest.mark.parametrize("kind", [k for k in KINDS if any(o.endswith("_env") for o in described(k)["options"])])
def test_a_variable_that_is_not_set_is_named(kind, place, monkeypatch):
    named = [v for o, v in described(kind)["options"].items() if o.endswith("_env")]
    for variable in named:
        monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match="|".join(named)):
        place.sink(kind).deliver(message(kind))
    assert place.service.requests == []


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("alertmanager", "heartbeat")])
def test_a_sign_of_life_is_told_only_to_what_notices_its_absence(kind, place):
    assert not place.sink(kind).deliver(watchdog()).delivered
    assert place.arrived() == ("", {}, set())


@pytest.mark.parametrize("kind", [*kinds(takes="alerts"), *kinds(takes="watchdog")])
def test_a_sink_of_alerts_refuses_a_report_and_says_so(kind, place):
    with pytest.raises(DeliveryError, match="takes alerts only"):
        place.sink(kind).deliver(MESSAGE)
    assert place.arrived() == ("", {}, set())


@pytest.mark.parametrize("kind", KINDS)
def test_every_sink_has_a_row_in_the_docs_with_its_options(kind):
    rows = [line for line in (ROOT / "docs" / "sinks.md").read_text().splitlines() if line.startswith(f"| `{kind}` ")]
    assert len(rows) == 1, f"docs/sinks.md needs one row for {kind}"
    for option in inspect.signature(plugins.get("sinks", kind)).parameters:
        assert f"`{option}`" in rows[0]


def test_a_format_the_file_sink_does_not_know_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'html'; write one of markdown, json"):
        plugins.build("sinks", {"kind": "file", "folder": str(tmp_path), "format": "html"})


def test_the_json_file_holds_the_message_as_it_was(tmp_path):
    sink = plugins.build("sinks", {"kind": "file", "folder": str(tmp_path), "format": "json"})
    held = json.loads(Path(sink.deliver(MESSAGE).where).read_text())
    assert held == {
        "key": MESSAGE.key,
        "title": MESSAGE.title,
        "text": MESSAGE.text,
        "attachments": ["signal_report.html"],
    }


def test_the_json_file_of_an_alert_holds_its_values(tmp_path):
    sink = plugins.build("sinks", {"kind": "file", "folder": str(tmp_path), "format": "json"})
    assert json.loads(Path(sink.deliver(alert()).where).read_text())["data"] == alert().data


def test_a_key_cannot_leave_the_folder(tmp_path):
    sink = plugins.build("sinks", {"kind": "file", "folder": str(tmp_path / "in")})
    for key in ("../out", "/etc/x", "..", "", "a" * 300):
        where = Path(sink.deliver(sinks.Message(key=key, title="t", text="x")).where)
        assert where.resolve().parent == (tmp_path / "in").resolve()


@pytest.mark.parametrize("kind", kinds(remembers=True))
def test_processes_that_deliver_the_same_key_at_once_deliver_it_once(kind, place):
    program = (
        "import json, sys; from feedback_lib import plugins, sinks; sys.stdin.read(); "
        "s = plugins.build('sinks', json.loads(sys.argv[1])); "
        "r = s.deliver(sinks.Message(key='k', title='t', text='x', data=json.loads(sys.argv[2]))); "
        "print('delivered', r.delivered)"
    )
    options, data = {"kind": kind} | place.options(kind), message(kind).data
    arguments = [sys.executable, "-c", program, json.dumps(options), json.dumps(data and dict(data))]
    racing = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(4)
    ]
    for process in racing:
        process.stdin.close()
    said = []
    for process in racing:
        said.append(process.stdout.read())
        process.stdout.close()
        assert process.wait() == 0
    assert sum("delivered True" in text for text in said) == 1
