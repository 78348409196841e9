"""What every built-in metric backend must do, run against every one there is."""

import base64
import dataclasses
import datetime as dt
import importlib.resources
import json
import logging
import re
import shutil
import urllib.parse
from pathlib import Path

import polars as pl
import pytest
import stamina
import yaml
from http_receiver import CUT, Receiver

from feedback_lib import plugins
from feedback_lib.errors import ConfigError, MetricsError, ReadOnlyError
from feedback_lib.transport import Transport

DATA = Path(__file__).parents[1] / "data" / "metrics"
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
KINDS = sorted(
    path.name.removesuffix(".py")
    for path in importlib.resources.files("feedback_lib.metrics").iterdir()
    if path.name.endswith(".py") and not path.name.startswith("_")
)
SERVICES = [kind for kind in KINDS if "{url}" in (DATA / kind / "options.json").read_text("utf-8")]
ANSWERING = [kind for kind in SERVICES if kind != "http_check"]  # whose failure is no measurement
EXPECTED = {kind: json.loads((DATA / kind / "expected.json").read_text("utf-8")) for kind in KINDS}
CASES = pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in EXPECTED[kind]])
SEARCHES = {  # the only paths that may be asked by POST
    "datadog": {"/api/v2/query/scalar", "/api/v2/query/timeseries"},
    "elasticsearch": {"/logs-*/_search"},
    "grafana": {"/api/ds/query"},
    "prometheus": {"/api/v1/query", "/api/v1/query_range"},
    "splunk": {"/services/search/v2/jobs/export"},
}
PLANTED = "planted-5d1c7a90-key"
SCHEMA = {"series": pl.String(), "at": pl.Datetime("us", "UTC"), "value": pl.Float64()}


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True):
        yield


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Copies the recorded example of a backend and plants the key in each variable it names."""

    def prepare(kind, url="http://127.0.0.1:9"):
        assert (DATA / kind / "options.json").exists(), f"add tests/data/metrics/{kind} with a recorded example"
        folder = tmp_path / kind
        shutil.copytree(DATA / kind, folder, dirs_exist_ok=True)
        monkeypatch.chdir(folder)
        options = json.loads((folder / "options.json").read_text("utf-8").replace("{url}", url))
        for name, value in options.items():
            for variable in ([value] if isinstance(value, str) else value) if name.endswith("_env") else ():
                monkeypatch.setenv(variable, PLANTED)
        return plugins.build("metrics", {"kind": kind, **options}), json.loads((folder / "expected.json").read_text())

    return prepare


def exchanges(kind, case):
    file = DATA / kind / "answers.json"
    return json.loads(file.read_text("utf-8")).get(case, []) if file.exists() else []


def body_of(answer):
    return (answer if isinstance(answer, str) else json.dumps(answer)).encode()


@pytest.fixture(scope="module")
def _server():
    with Receiver(limit=30) as server:
        yield server


@pytest.fixture
def service(_server):
    """A server that is told what to answer: the recorded answers of a case in their order, or one to everything."""

    def tell(kind=None, case=None, *, usual=500):
        _server.answers = [(200, {}, body_of(one["answer"])) for one in exchanges(kind, case)] if kind else []
        _server.usual = usual
        _server.requests.clear()
        return _server

    return tell


def moment(text):
    return dt.datetime.fromisoformat(text)


def ask(backend, case):
    if "at" in case:
        return backend.now(case["query"], moment(case["at"]))
    return backend.between(case["query"], moment(case["start"]), moment(case["end"]), case["step_s"])


@pytest.fixture
def run(service, example):
    """Asks for a recorded case; gives the answer, what is expected, and the requests that were sent."""

    def ask_for(kind, name):
        server = service(kind, name)
        backend, expected = example(kind, server.url)
        return ask(backend, expected[name]), expected[name], server.requests

    return ask_for


@CASES
def test_the_recorded_example_gives_the_expected_rows(kind, name, run):
    answer, expected, _ = run(kind, name)
    assert answer.frame.rows() == [(series, moment(at), value) for series, at, value in expected["rows"]]


@CASES
def test_frames_have_the_schema_in_order_without_nan_and_repeats(kind, name, run):
    frame = run(kind, name)[0].frame
    assert frame.schema == SCHEMA
    assert frame.equals(frame.sort("series", "at"))
    assert not frame["value"].is_nan().any()
    assert not frame["value"].has_nulls()
    assert not frame.select("series", "at").is_duplicated().any()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "between" in EXPECTED[kind]])
def test_the_past_stands_at_whole_moments_of_the_grid_up_to_the_end(kind, run):
    answer, case, _ = run(kind, "between")
    start, end = moment(case["start"]), moment(case["end"])
    ats = answer.frame["at"].to_list()
    assert all(at.timestamp() % case["step_s"] == 0 and start <= at <= end for at in ats)
    assert end in ats


@CASES
def test_requests_are_the_recorded_ones(kind, name, run):
    _, _, requests = run(kind, name)
    wanted = [one["request"] for one in exchanges(kind, name)]
    assert len(requests) == len(wanted)
    for request, want in zip(requests, wanted, strict=True):
        url = urllib.parse.urlsplit(request.path)
        assert (request.method, urllib.parse.unquote(url.path)) == (want["method"], want["path"])
        if "json" in want:
            assert request.json() == want["json"]
        for part, sent in {"query": url.query, "form": request.body.decode()}.items():
            given = dict(urllib.parse.parse_qsl(sent))
            assert {name: given.get(name) for name in want.get(part, {})} == want.get(part, {})


@pytest.mark.parametrize("kind", SERVICES)
def test_the_key_goes_into_a_header_and_nowhere_else(kind, run):
    _, _, requests = run(kind, "now")
    for request in requests:
        headers = " ".join(request.headers.values())
        encoded = [base64.b64decode(word).decode() for word in re.findall(r"Basic (\S+)", headers)]
        assert PLANTED in headers + " ".join(encoded)
        assert PLANTED not in request.path
        assert PLANTED.encode() not in request.body


@CASES
def test_only_reading_requests_reach_the_service(kind, name, run):
    for request in run(kind, name)[2]:
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
        assert request.method in ("GET", "HEAD") or path in SEARCHES[kind]


@pytest.mark.parametrize("kind", SERVICES)
def test_its_client_refuses_everything_that_writes(kind, service, example):
    server = service(kind, "now")
    backend, expected = example(kind, server.url)
    ask(backend, expected["now"])
    seen = len(server.requests)
    kept = [value for part in vars(backend).values() for value in (part.values() if type(part) is dict else [part])]
    clients = [value for value in kept if isinstance(value, Transport)]
    assert clients
    for method, path in [("POST", "/"), ("PUT", "/x"), ("DELETE", "/x"), ("PATCH", "/x"), ("POST", "/_bulk")]:
        with pytest.raises(ReadOnlyError):
            clients[0].call(method, path)
    assert len(server.requests) == seen


HTML = b"<!doctype html><title>Log in</title><form>" + PLANTED.encode() + b"</form>"
TOLD = json.dumps({"message": f"the key {PLANTED} is not good", "errors": [f"{PLANTED}!"], "error": PLANTED}).encode()
FAILURES = {
    "401": (401, {}, TOLD),
    "403": (403, {}, TOLD),
    "429": (429, {"Retry-After": "1"}, TOLD),
    "500": (500, {}, HTML),
    "503 and no body": (503, {}, b""),
    "a redirect": (302, {"Location": "http://127.0.0.1:9/login"}, b""),
    "a log-in page with 200": (200, {"Content-Type": "text/html"}, HTML),
    "an answer that breaks off": (200, {"Content-Length": "5000", "Connection": "close"}, b'{"results": {"A'),
    "half a document": (200, {}, b'{"preview":false,"offset":0,"result":{"_time":"20'),
    "another document": (200, {}, b'{"status": "success", "data": {"attributes": 7}, "hits": []}'),
    "a list": (200, {}, b"[1, 2]"),
    "null": (200, {}, b"null"),
    "nothing": (200, {}, b""),
    "a broken connection": CUT,
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("kind", ANSWERING)
def test_a_failure_names_the_backend_and_the_host_and_never_the_key(kind, failure, service, example, caplog):
    caplog.set_level(logging.DEBUG)
    server = service(usual=FAILURES[failure])
    backend, expected = example(kind, server.url)
    for name in ("now", "between") if backend.history else ("now",):
        with pytest.raises(MetricsError) as failed:
            ask(backend, expected[name])
        assert failed.value.kind == kind
        assert str(failed.value).startswith(f"{kind}: ")
        assert "127.0.0.1" in str(failed.value)
        assert PLANTED not in str(failed.value)
        assert len(str(failed.value)) < 600
    encoded = base64.b64encode(f"reader:{PLANTED}".encode()).decode()
    for written in (caplog.text, repr(backend), str(vars(backend))):
        assert PLANTED not in written
        assert encoded not in written


@pytest.mark.parametrize("kind", ANSWERING)
def test_a_service_that_is_not_there_is_an_error_with_its_address(kind, example):
    with Receiver() as server:
        address = server.url
    backend, expected = example(kind, address)
    with pytest.raises(MetricsError, match=r"127\.0\.0\.1.*no connection"):
        ask(backend, expected["now"])


@pytest.mark.parametrize("kind", ANSWERING)
def test_a_refusal_says_which_right_is_missing(kind, service, example):
    server = service(usual=(403, {}, b"{}"))
    backend, expected = example(kind, server.url)
    with pytest.raises(MetricsError, match=r"403 Forbidden.*(credentials|key|user|token|account)"):
        ask(backend, expected["now"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "PLANTED" in (DATA / kind / "options.json").read_text()])
def test_a_missing_variable_is_named_before_anything_is_sent(kind, service, example, monkeypatch):
    server = service(kind, "now")
    backend, expected = example(kind, server.url)
    named = [f for f in dataclasses.fields(backend) if f.name.endswith("_env") and getattr(backend, f.name)]
    value = getattr(backend, named[0].name)
    variable = value if isinstance(value, str) else value[0]
    monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match=variable):
        ask(backend, expected["now"])
    assert server.requests == []


@pytest.mark.parametrize("query", ["", "   ", {}, {"a": []}, 17, None], ids=repr)
def test_a_query_of_the_wrong_shape_says_what_to_write(query, kind, service, example):
    server = service(kind, "now")
    backend, expected = example(kind, server.url)
    with pytest.raises(ConfigError, match=rf"{kind}.*(write|a query is|known:|did you mean|has no column)"):
        backend.now(query, moment(expected["now"]["at"]))
    assert server.requests == []


def test_without_history_the_past_is_refused(kind, example):
    backend, expected = example(kind)
    assert backend.history is ("between" in expected)
    if not backend.history:
        at = moment(expected["now"]["at"])
        with pytest.raises(MetricsError, match=kind):
            backend.between(expected["now"]["query"], at - dt.timedelta(hours=1), at, 60)


@pytest.mark.parametrize("kind", ANSWERING)
def test_a_wrong_address_is_said_when_it_is_configured(kind, example):
    for url in ("prometheus", "ftp://x", "http://me:pw@127.0.0.1/", "http://"):
        with pytest.raises(ConfigError, match="address"):
            example(kind, url)


def test_the_docs_have_a_row_with_its_options_and_an_example(kind):
    text = DOCS.read_text("utf-8")
    row = next((line for line in text.splitlines() if line.startswith(f"| `{kind}` |")), "")
    assert row, f"docs/metrics.md has no row for {kind}"
    missing = [f.name for f in dataclasses.fields(plugins.get("metrics", kind)) if f"`{f.name}`" not in row]
    assert missing == []


def shown(kind):
    """The examples of the docs page for a backend."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    return [one for one in map(yaml.safe_load, blocks) if one.get("provider") == kind]


def test_the_docs_show_a_configuration_that_can_be_built(kind):
    assert len(shown(kind)) == 1
    for one in shown(kind):
        options = {name: value for name, value in one.items() if name not in ("provider", "metrics")}
        plugins.build("metrics", {"kind": kind, **options})


@pytest.mark.parametrize("kind", ANSWERING)
def test_the_queries_in_the_docs_are_understood_and_sent(kind, example, monkeypatch):
    example(kind)
    for one in shown(kind):
        for name in (name for name in one if name.endswith("_env")):
            monkeypatch.setenv(one[name], PLANTED)
        options = {name: value for name, value in one.items() if name not in ("provider", "metrics")}
        backend = plugins.build("metrics", {"kind": kind, **options, "url": "http://127.0.0.1:9"})
        for metric in one["metrics"]:
            for query in (metric[part] for part in ("query", "good", "bad", "total") if part in metric):
                with pytest.raises(MetricsError, match="no connection"):
                    backend.now(query, moment("2026-11-20T10:00:00Z"))
