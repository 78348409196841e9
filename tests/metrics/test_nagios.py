"""Nagios: recorded answers of its CGI in three formats, and what counts as no data."""

import base64
import datetime as dt
import json
import urllib.parse

import pytest

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics.nagios import Nagios

NOW = dt.datetime(2026, 11, 20, 21, 46, 22, tzinfo=dt.UTC)  # when the answers were recorded
P99 = 'host="spec-core-001", service="p99_latency"'
ERRORS = 'host="spec-core-001", service="error_rate"'
LOAD = 'host="spec-core-001", service="load"'


@pytest.fixture(autouse=True)
def _password(monkeypatch):
    monkeypatch.setenv("NAGIOS_PASSWORD", "pässwörd")


@pytest.fixture
def backend(service):
    return Nagios(url=f"{service.url}/nagios/cgi-bin", user="nagiosadmin", password_env="NAGIOS_PASSWORD")


@pytest.fixture
def recorded(reference, service):
    """Makes the service answer with a recorded CGI output: its headers, then its body."""

    def answer(name):
        head, _, body = (reference / f"contracts/nagios/{name}.http").read_bytes().partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        service.answers.append((200, headers | {"Content-Length": str(len(body))}, body))
        return json.loads(body)

    return answer


def one(status="ok", perf_data="", checked=0, **more):
    """An answer about one service that was last checked ``checked`` seconds ago."""
    last = int(NOW.timestamp() - checked) * 1000
    found = {"host_name": "h", "description": "s", "status": status, "perf_data": perf_data, "last_check": last}
    body = {"result": {"type_code": 0}, "data": {"service": {"has_been_checked": True, **found, **more}}}
    return (200, {}, json.dumps(body).encode())


def test_a_recorded_service_gives_its_performance_data_and_is_asked_for_by_name(backend, service, recorded):
    recorded("service_p99")
    answer = backend.now("spec-core-001/p99_latency/p99", NOW)
    assert answer.frame.rows() == [(P99, NOW, 0.35)]
    assert answer.partial is None
    assert answer.address.endswith("/nagios/cgi-bin/extinfo.cgi?type=2&host=spec-core-001&service=p99_latency")
    request = service.requests[0]
    url = urllib.parse.urlsplit(request.path)
    assert (request.method, url.path) == ("GET", "/nagios/cgi-bin/statusjson.cgi")
    assert url.query == ("query=service&formatoptions=enumerate&hostname=spec-core-001&servicedescription=p99_latency")
    assert base64.b64decode(request.headers["authorization"].split()[1]).decode() == "nagiosadmin:pässwörd"


def test_a_recorded_critical_state_is_down(backend, recorded):
    recorded("service_p99")
    assert backend.now("spec-core-001/p99_latency", NOW).frame.rows() == [(P99, NOW, 0.0)]


@pytest.mark.parametrize("name", ["servicelist", "servicelist_numeric", "servicelist_bitmask"])
def test_recorded_states_mean_the_same_as_words_as_numbers_and_as_bits(backend, recorded, name):
    states = [s["status"] for s in recorded(name)["data"]["servicelist"]["spec-core-001"].values()]
    assert states == (["warning", "ok", "critical"] if name == "servicelist" else [4, 2, 16])
    assert backend.now("*/*", NOW).frame.rows() == [(ERRORS, NOW, 1.0), (LOAD, NOW, 1.0), (P99, NOW, 0.0)]


def test_a_recorded_host_is_up(backend, service, recorded):
    assert recorded("hostlist")["data"]["hostlist"]["spec-core-001"]["status"] == 2
    recorded("hostlist")
    assert backend.now("*", NOW).frame.rows() == [('host="spec-core-001"', NOW, 1.0)]
    assert backend.now({"host": "*", "label": "load5"}, NOW).frame.rows() == [('host="spec-core-001"', NOW, 0.05)]
    assert "query=hostlist&formatoptions=enumerate&details=true" in service.requests[0].path


def test_a_label_that_is_not_there_is_said_with_those_that_are(backend, recorded):
    recorded("servicelist")
    with pytest.raises(MetricsError, match=r"spec-core-001/load has no performance data 'load15'; it has load1, load5"):
        backend.now("*/load/load15", NOW)


def test_of_all_services_those_with_the_label_are_read(backend, recorded):
    recorded("servicelist")
    assert backend.now("*/*/err", NOW).frame.rows() == [(ERRORS, NOW, 0.08)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("service_missing", "The service 'nope' on host 'spec-core-001' could not be found."),
        ("bad_query", "The query option value 'foo' is invalid."),
    ],
)
def test_a_recorded_refusal_comes_with_status_200_and_is_an_error_in_its_words(backend, recorded, name, words):
    recorded(name)
    with pytest.raises(MetricsError) as failed:
        backend.now("spec-core-001/nope", NOW)
    assert words in str(failed.value)
    assert "Option Value Invalid" in str(failed.value)


@pytest.mark.parametrize("name", ["servicecount", "performancedata", "object_service", "archive_alerts"])
@pytest.mark.parametrize("query", ["spec-core-001/load", "*/load/load1", "spec-core-001"])
def test_a_recorded_answer_of_another_query_is_never_taken_for_a_value(backend, recorded, name, query):
    recorded(name)
    with pytest.raises(MetricsError, match="another shape"):
        backend.now(query, NOW)


@pytest.mark.parametrize(
    ("status", "value"), [("ok", 1), ("warning", 1), ("critical", 0), ("unknown", None), ("pending", None), (8, None)]
)
def test_unknown_and_pending_are_no_data_with_a_reason(backend, service, status, value):
    service.answers = [one(status)]
    answer = backend.now("h/s", NOW)
    assert answer.frame["value"].to_list() == ([] if value is None else [value])
    assert answer.partial == (None if value is not None else f"h/s is {status} without a value")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"checked": 901}, "h/s was last checked 901 s ago"),
        ({"checked": -1000}, "h/s was last checked 1000 s after the moment asked about"),
        ({"has_been_checked": False}, "h/s was never checked"),
    ],
)
def test_a_check_that_is_too_old_is_no_data_with_its_age(backend, service, more, reason):
    service.answers = [one("ok", "a=1", **more)]
    answer = backend.now("h/s/a", NOW)
    assert answer.frame.is_empty()
    assert answer.partial == reason


def test_a_check_of_exactly_the_longest_age_still_counts(backend, service):
    service.answers = [one("ok", "a=1", checked=900)]
    assert backend.now("h/s/a", NOW).frame["value"].to_list() == [1.0]


@pytest.mark.parametrize(
    ("text", "value"), [("a=U;1;2", []), ("", []), ("a=80ms b=1", [0.08]), ("b=1 'a'=2KB", [2048])]
)
def test_a_value_of_the_performance_data_is_in_base_units_and_u_is_no_data(backend, service, text, value):
    service.answers = [one("ok", text)]
    assert backend.now("h/s/a", NOW).frame["value"].to_list() == value


def test_names_with_a_slash_are_given_one_by_one(backend, service):
    service.answers = [one("ok", "/var=12MB;;;0;99", description="Disk /var")]
    assert backend.now({"host": "h", "service": "Disk /var", "label": "/var"}, NOW).frame["value"][0] == 12 * 2**20
    assert "servicedescription=Disk+%2Fvar" in service.requests[0].path.replace("%20", "+")
    with pytest.raises(ConfigError, match="more than two slashes"):
        backend.now("h/Disk /var//var", NOW)


def test_a_user_without_a_password_is_wrong():
    with pytest.raises(ConfigError, match="user and password_env"):
        Nagios(url="http://127.0.0.1:9", user="me")
