"""The Prometheus backend: recorded answers field by field, servers that misbehave, and a real Prometheus."""

import base64
import contextlib
import datetime as dt
import http.server
import json
import logging
import math
import threading
import urllib.parse

import polars as pl
import prometheus_server
import pytest
import stamina

from feedback_lib import plugins
from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import prometheus

AT = dt.datetime.fromtimestamp(1795208400, dt.UTC)
KEY = "planted-key-41d2"
LATENCY = "histogram_quantile(0.99, sum by (le,service)(rate(http_request_duration_seconds_bucket[5m])))"
NOT_FOR_US = ("alertmanagers", "alerts", "buildinfo", "labels_le", "metadata_empty", "rules", "series")


@contextlib.contextmanager
def serving(*answers):
    """A server that gives each (status, JSON or bytes), the last one again and again; yields its address and requests
    as (method, path, fields, headers).
    """
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            path, _, query = self.path.partition("?")
            seen.append((self.command, path, dict(urllib.parse.parse_qsl(body or query)), self.headers))
            status, said = answers[min(len(seen), len(answers)) - 1]
            said = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def backend(url, **options):
    return plugins.build("metrics", {"kind": "prometheus", "url": url} | options)


def rows(answer):
    assert answer.frame.schema == {"series": pl.String, "at": pl.Datetime("us", "UTC"), "value": pl.Float64}
    return [(series, at.timestamp(), value) for series, at, value in answer.frame.rows()]


def vector(*values, **more):
    found = [{"metric": {"n": str(n)}, "value": [1795208400, value]} for n, value in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": found}} | more


def matrix(*series):
    found = [{"metric": {}, "values": samples} for samples in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": found}}


@pytest.fixture
def no_pauses():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


# recorded answers


@pytest.fixture
def recorded(reference):
    """A recorded exchange: the request and the answer."""
    return lambda name: json.loads((reference / "contracts" / "prometheus" / f"{name}.json").read_text())


def replayed(exchange):
    """What the backend makes of a recorded answer, having asked what was asked then."""
    asked = exchange["request"].get("params") or {"query": LATENCY, "start": 1795204800, "end": 1795208400, "step": 300}
    with serving((exchange["status"], exchange["body"])) as (url, seen):
        if exchange["request"]["path"].endswith("query_range"):
            start, end = (dt.datetime.fromtimestamp(asked[side], dt.UTC) for side in ("start", "end"))
            answer = backend(url).between(asked["query"], start, end, asked["step"])
        else:
            answer = backend(url).now(asked["query"], dt.datetime.fromtimestamp(asked["time"], dt.UTC))
    ((method, path, fields, _),) = seen
    assert (method, path) == ("POST", exchange["request"]["path"])
    assert {name: float(value) if name != "query" else value for name, value in fields.items()} == asked
    return answer


@pytest.mark.parametrize("name", ["query_range_p99", "query_range_post"])
def test_a_recorded_range_keeps_each_moment_and_value(recorded, name):
    exchange = recorded(name)
    answer = replayed(exchange)
    (series,) = exchange["body"]["data"]["result"]
    assert rows(answer) == [('service="svc0"', at, float(value)) for at, value in series["values"]]
    assert [at for _, at, _ in rows(answer)] == list(range(1795204800, 1795208401, 300))
    assert answer.partial is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("query_instant_vector", [('service="svc0"', 1795208400, 0.19711567164179095)]),
        ("query_instant_scalar", [("", 1795208400, math.inf)]),
        ("query_instant_nan", []),
        ("query_empty", []),
        ("query_range_empty", []),
        ("matrix_raw", [('__name__="http_requests_total", code="500", service="svc0"', 1795208400, 28396.0)]),
    ],
)
def test_a_recorded_answer_becomes_rows_and_no_data_none(recorded, name, expected):
    answer = replayed(recorded(name))
    assert rows(answer) == expected
    assert answer.partial is None


def test_recorded_raw_samples_are_all_read(recorded):
    frame, warnings = prometheus.parse(recorded("matrix_raw")["body"])
    assert frame["value"].to_list() == [28391, 28391, 28391, 28391, 28393, 28396]
    assert [at.timestamp() for at in frame["at"]] == list(range(1795208100, 1795208401, 60))
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("query_parse_error", "400 Bad Request: bad_data: .*1:16: parse error: unclosed left parenthesis"),
        ("query_exec_error", "422 Unprocessable Entity: execution: found duplicate series for the match group"),
        ("query_range_too_many_points", "400 Bad Request: bad_data: exceeded maximum resolution of 11,000 points"),
        ("query_timeout_error", "503 Service Unavailable: timeout: query timed out in expression evaluation"),
        ("query_missing_param", '400 Bad Request: bad_data: invalid parameter "start": cannot parse'),
    ],
)
def test_a_recorded_failure_is_told_in_the_words_of_prometheus(recorded, no_pauses, name, words):
    exchange = recorded(name)
    with serving((exchange["status"], exchange["body"])) as (url, seen), pytest.raises(MetricsError, match=words):
        backend(url).between("up", AT, AT, 60)
    assert len(seen) == (3 if exchange["status"] == 503 else 1)


@pytest.mark.parametrize("name", NOT_FOR_US)
def test_a_recorded_answer_to_another_question_is_not_taken_for_measurements(recorded, name):
    exchange = recorded(name)
    with serving((200, exchange["body"])) as (url, _), pytest.raises(MetricsError, match="not what Prometheus sends"):
        backend(url).now("up", AT)


def test_every_recorded_answer_is_read_by_a_test_above(reference):
    marks = [
        *test_a_recorded_range_keeps_each_moment_and_value.pytestmark,
        *test_a_recorded_answer_becomes_rows_and_no_data_none.pytestmark,
        *test_a_recorded_failure_is_told_in_the_words_of_prometheus.pytestmark,
        *test_a_recorded_answer_to_another_question_is_not_taken_for_measurements.pytestmark,
    ]
    read = {case if isinstance(case, str) else case[0] for mark in marks for case in mark.args[1]}
    assert read == {file.stem for file in (reference / "contracts" / "prometheus").glob("*.json")}


# answers nobody recorded


def test_warnings_make_an_answer_partial_and_infos_do_not(caplog):
    caplog.set_level(logging.INFO)
    said = {"warnings": ["no answer from store a", "jane@example.org"], "infos": ["PromQL info: might be no counter"]}
    with serving((200, vector("1", **said))) as (url, _):
        answer = backend(url).now("up", AT)
    assert answer.partial == "no answer from store a; [email]"
    assert rows(answer) == [('n="0"', AT.timestamp(), 1.0)]
    assert "PromQL info: might be no counter" in caplog.text
    with serving((200, vector("1", infos=["only this"]))) as (url, _):
        assert backend(url).now("up", AT).partial is None
    with serving((200, vector("1", isPartial=True))) as (url, _):
        assert backend(url).now("up", AT).partial == "some of its storage nodes did not answer"


def test_nan_is_no_row_and_infinities_stay_as_they_are_sent():
    with serving((200, vector("NaN", "+Inf", "-Inf", "1e-05", "0"))) as (url, _):
        assert [value for *_, value in rows(backend(url).now("up", AT))] == [math.inf, -math.inf, 1e-05, 0.0]


def test_labels_are_written_in_the_order_of_their_names_with_quotes_escaped():
    found = [{"metric": {"b": 'say "é"', "a": "x\\y", "__name__": "up"}, "value": [1.5, "1"]}]
    with serving((200, {"status": "success", "data": {"resultType": "vector", "result": found}})) as (url, _):
        assert rows(backend(url).now("up", AT)) == [(r'__name__="up", a="x\\y", b="say \"é\""', 1.5, 1.0)]


@pytest.mark.parametrize("key", ["histogram", "histograms"])
def test_native_histograms_are_refused_with_what_to_write_instead(key):
    sample = [1795208400, {"count": "30", "sum": "4.5", "buckets": [[0, "0.1", "0.2", "20"], [0, "0.2", "0.4", "10"]]}]
    found = [{"metric": {}, key: sample if key == "histogram" else [sample]}]
    kind = "vector" if key == "histogram" else "matrix"
    with (
        serving((200, {"status": "success", "data": {"resultType": kind, "result": found}})) as (url, _),
        pytest.raises(ConfigError, match=r"2026-11-20T21:00:00Z holds 30 observations in 2 buckets, sum 4\.5.*Wrap it"),
    ):
        backend(url).now("rate(x[5m])", AT)


def test_a_text_is_refused():
    with (
        serving((200, {"status": "success", "data": {"resultType": "string", "result": [1, "up"]}})) as (url, _),
        pytest.raises(ConfigError, match="gives a text, not a number"),
    ):
        backend(url).now('"up"', AT)


@pytest.mark.parametrize(
    "said",
    [
        (200, b"<html>Log in</html>"),
        (200, []),
        (200, {}),
        (200, {"status": "success"}),
        (200, {"status": "success", "data": {"resultType": "tensor", "result": []}}),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}),
        (200, vector("many")),
        (200, vector(None)),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": [None, "1"]}}),
        (200, matrix([[1795208400, "1"], [1795208400, "2"]])),
        (200, matrix([[1795208400, "1"], [1795208340, "2"]])),
        (200, matrix([[1795208400, "1"]], [[1795208400, "2"]])),
        (200, {"status": "error", "errorType": "internal", "error": "out of memory"}),
        (302, b""),
        (404, b"no such page"),
        (502, b"<html>Bad gateway</html>"),
    ],
)
def test_an_answer_that_lies_is_an_error_and_never_a_value(said, no_pauses):
    with serving(said) as (url, _), pytest.raises(MetricsError, match=r"^prometheus: "):
        backend(url).now("up", AT)


@pytest.mark.parametrize("at", [1795208399, 1795208400.5, 1795208430, 1795208340, 1795208520])
def test_values_of_moments_that_were_not_asked_for_are_an_error(at):
    good = [[1795208400, "1"], [1795208460, "NaN"]]
    with serving((200, matrix(good)), (200, matrix(sorted([*good, [at, "1"]])))) as (url, _):
        assert rows(backend(url).between("up", AT, AT + dt.timedelta(seconds=119), 60)) == [("", AT.timestamp(), 1.0)]
        with pytest.raises(MetricsError, match="answered for moments it was not asked for"):
            backend(url).between("up", AT, AT + dt.timedelta(seconds=119), 60)


@pytest.mark.parametrize("said", [{}, {"data": {"result": [{"metric": {"le": "wide"}}]}}, {"data": []}])
def test_edges_that_are_no_numbers_are_an_error(said):
    with serving((200, {"status": "success"} | said)) as (url, _), pytest.raises(MetricsError, match="are no numbers"):
        backend(url).bucket_edges(LATENCY, AT)


def test_a_failure_in_an_answer_with_status_200_is_told_too():
    said = {"status": "error", "errorType": "internal", "error": "out of memory at jane@example.org" + " x" * 600}
    with (
        serving((200, said)) as (url, _),
        pytest.raises(MetricsError, match=r"internal: out of memory at .email.") as e,
    ):
        backend(url).now("up", AT)
    assert len(str(e.value)) < 600


@pytest.mark.parametrize("status", [405, 501])
def test_where_no_post_is_let_through_the_same_is_asked_by_get(status):
    with serving((status, b""), (200, vector("1"))) as (url, seen):
        assert len(rows(backend(f"{url}/prometheus/").now('up{a="b&c"}', AT))) == 1
    asked = [(method, path, fields) for method, path, fields, _ in seen]
    fields = {"query": 'up{a="b&c"}', "time": "1795208400.000"}
    assert asked == [(method, "/prometheus/api/v1/query", fields) for method in ("POST", "GET")]


def test_credentials_and_tenant_go_in_headers_only(monkeypatch, caplog, no_pauses):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PROM_TOKEN", KEY)
    monkeypatch.setenv("PROM_USER", "jané")
    monkeypatch.setenv("PROM_PASSWORD", KEY)
    with serving((200, vector("1"))) as (url, seen):
        made = [
            backend(url, token_env="PROM_TOKEN", tenant="team-a"),
            backend(url, user_env="PROM_USER", password_env="PROM_PASSWORD"),
            backend(url),
        ]
        answers = [one.now("up", AT) for one in made]
    assert seen[0][3]["Authorization"] == f"Bearer {KEY}"
    assert seen[0][3]["X-Scope-OrgID"] == "team-a"
    assert base64.b64decode(seen[1][3]["Authorization"].removeprefix("Basic ")).decode() == f"jané:{KEY}"
    assert [header for header in ("Authorization", "X-Scope-OrgID") if header in seen[2][3]] == []
    with pytest.raises(MetricsError) as gone:
        made[0].now("up", AT)
    assert KEY not in repr((made, answers, gone.value)) + caplog.text
    monkeypatch.delenv("PROM_TOKEN")
    with pytest.raises(ConfigError, match="environment variable PROM_TOKEN is not set"):
        made[0].now("up", AT)


@pytest.mark.parametrize("options", [{"token_env": "PROM"}, {"user_env": "PROM_USER", "password_env": "PROM"}])
def test_a_service_that_repeats_our_credentials_is_not_quoted_with_them(monkeypatch, caplog, no_pauses, options):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PROM", KEY)
    monkeypatch.setenv("PROM_USER", "me")
    pair = base64.b64encode(f"me:{KEY}".encode()).decode()
    words = f"not you: {KEY} {pair if 'user_env' in options else ''}"
    said = {"status": "error", "errorType": "execution", "error": words}
    with serving((200, vector("1", warnings=[words], infos=[words])), (422, said), (200, said)) as (url, _):
        made = backend(url, **options)
        answer = made.now("up", AT)
        assert answer.partial.startswith("not you: [token]")
        for _ in range(2):
            with pytest.raises(MetricsError, match=r"127\.0\.0\.1.* execution: not you: \[token\]") as failed:
                made.now("up", AT)
            for text in (repr(answer), repr(failed.value), caplog.text):
                assert KEY not in text
                assert pair not in text


@pytest.mark.parametrize(
    "options",
    [
        *({"user_env": "A"}, {"password_env": "A"}, {"token_env": "A", "user_env": "B", "password_env": "C"}),
        *({"url": "prometheus:9090"}, {"url": f"http://me:{KEY}@127.0.0.1"}, {"timeout_s": 0}, {"url": None}),
    ],
)
def test_options_that_cannot_work_are_said_when_it_is_made(options):
    with pytest.raises(ConfigError) as caught:
        backend(**{"url": "http://127.0.0.1:9090"} | options)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("query", ["", "  ", {"query": "up"}, 7, None])
def test_a_query_that_is_no_promql_is_a_configuration_error(query):
    with pytest.raises(ConfigError, match="a query is PromQL"):
        backend("http://127.0.0.1:1").now(query, AT)


def test_the_address_is_the_page_where_a_person_sees_the_same():
    with serving((200, vector("1"))) as (url, _):
        one = backend(f"{url}/prom/").now('up{a="b"}', AT).address
    with serving((200, {"status": "success", "data": {"resultType": "matrix", "result": []}})) as (url, _):
        many = backend(url).between("up", AT - dt.timedelta(hours=6), AT, 60).address
    assert one.split("?")[0].endswith("/prom/graph")
    fields = dict(urllib.parse.parse_qsl(one.split("?")[1]))
    assert fields == {"g0.expr": 'up{a="b"}', "g0.tab": "1", "g0.moment_input": "2026-11-20 21:00:00"}
    fields = dict(urllib.parse.parse_qsl(many.split("?")[1]))
    assert (fields["g0.range_input"], fields["g0.end_input"]) == ("21600s", "2026-11-20 21:00:00")
    assert (fields["g0.step_input"], fields["g0.tab"]) == ("60", "0")


@pytest.mark.parametrize(
    ("promql", "expected"),
    [
        (LATENCY, ["http_request_duration_seconds_bucket"]),
        ('histogram_quantile(0.9, rate(x_bucket{p="}",q=~\'a"b\', r=`{`}[5m]))', ['x_bucket{p="}",q=~\'a"b\', r=`{`}']),
        (
            "histogram_quantile(.5, a_bucket) / histogram_quantile(.5, b:c_bucket {x='1'})",
            ["a_bucket", "b:c_bucket{x='1'}"],
        ),
        ('histogram_quantile(0.9, rate({__name__="x_bucket", a="b"}[5m]))', ['{__name__="x_bucket", a="b"}']),
        ('histogram_quantile(0.9, rate({"x.y_bucket"}[5m]))', ['{"x.y_bucket"}']),
        ('histogram_quantile(0.9, rate(x{a="y_bucket"}[5m])) # z_bucket', []),
        ("histogram_quantile(0.9, rate(native[5m]))", []),
        ("sum(rate(x_bucket[5m]))", []),
        ("service:latency:p99", []),
    ],
)
def test_the_histograms_behind_a_quantile_are_found(promql, expected):
    assert prometheus.buckets(promql) == expected


# a real one


DAYS, GAP = 7, (AT - dt.timedelta(hours=30), AT - dt.timedelta(hours=29))


def samples():
    """A week: one failure in a hundred requests, ten times that in the last hour; half of the requests under 0.1 s,
    98 % under 0.2 s and all under 0.5 s; nothing was written for one hour.
    """
    times = range(int(AT.timestamp()) - DAYS * 86_400 - 600, int(AT.timestamp()) + 1, 60)
    times = [t for t in times if not GAP[0].timestamp() < t <= GAP[1].timestamp()]
    last_hour = AT.timestamp() - 3600
    yield "# TYPE http_requests counter"
    for code in ("200", "500"):
        total = 0
        for t in times:
            failed = 100 if t > last_hour else 10
            total += failed if code == "500" else 1000 - failed
            yield f'http_requests_total{{code="{code}",service="api"}} {total} {t}'
    yield "# TYPE http_seconds histogram"
    for edge, below in (("0.1", 500), ("0.2", 980), ("0.5", 1000), ("+Inf", 1000)):
        for n, t in enumerate(times):
            yield f'http_seconds_bucket{{le="{edge}",service="api"}} {n * below} {t}'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tsdb = prometheus_server.backfill(tmp_path_factory.mktemp("prometheus"), "\n".join(samples()))
    with prometheus_server.Prometheus(tsdb) as running:
        yield running


P99 = 'histogram_quantile(0.99, sum by (le, service) (rate(http_seconds_bucket{service="api"}[5m])))'
ERRORS = 'sum(rate(http_requests_total{code="500"}[5m])) / sum(rate(http_requests_total[5m]))'


def test_a_week_of_a_real_prometheus_has_the_values_written_and_no_row_where_nothing_was(server):
    start = AT - dt.timedelta(days=DAYS)
    p99 = backend(server.url).between(P99, start, AT, 60)
    errors = backend(server.url).between(ERRORS, start, AT, 60)
    assert p99.partial is None
    assert p99.frame["series"].unique().to_list() == ['service="api"']
    assert errors.frame["series"].unique().to_list() == [""]
    assert p99.frame["value"].to_numpy() == pytest.approx(0.35)  # half-way from 980 to 1000 is half-way from 0.2 to 0.5
    grid = pl.datetime_range(start, AT, "1m", time_unit="us", eager=True)
    # a rate needs two samples in its five minutes: it ends three minutes into the gap, and returns one after it
    silent = (grid > GAP[0] + dt.timedelta(minutes=4)) & (grid < GAP[1] + dt.timedelta(minutes=2))
    for answer in (p99, errors):
        assert answer.frame["at"].to_list() == grid.filter(~silent).to_list()
    before = errors.frame.filter(pl.col("at") <= AT - dt.timedelta(hours=1))["value"]
    after = errors.frame.filter(pl.col("at") >= AT - dt.timedelta(minutes=55))["value"]
    assert before.to_numpy() == pytest.approx(0.01)
    assert after.to_numpy() == pytest.approx(0.1)


@pytest.mark.parametrize("points", [1, 2, 10_999, 11_000, 11_001, 22_000, 22_001])
def test_pieces_neither_lose_nor_repeat_the_points_at_their_borders(server, points):
    start = AT - dt.timedelta(seconds=60 * (points - 1))
    answer = backend(server.url).between("time()", start, AT, 60)
    expected = [AT.timestamp() - 60 * n for n in reversed(range(points))]
    assert rows(answer) == [("", at, at) for at in expected]


def test_an_end_between_two_moments_is_not_asked_beyond(server):
    answer = backend(server.url).between("time()", AT, AT + dt.timedelta(seconds=179.9), 60)
    assert [at for _, at, _ in rows(answer)] == [AT.timestamp() + 60 * n for n in range(3)]
    assert rows(backend(server.url).between("time()", AT, AT - dt.timedelta(seconds=1), 60)) == []


def test_a_real_instant_query_is_the_value_at_that_moment(server):
    real = backend(server.url)
    assert rows(real.now(P99, AT)) == [('service="api"', AT.timestamp(), pytest.approx(0.35))]
    assert rows(real.now("1/0", AT)) == [("", AT.timestamp(), math.inf)]
    assert rows(real.now("-1/0", AT)) == [("", AT.timestamp(), -math.inf)]
    assert rows(real.now("vector(0)/vector(0)", AT)) == []
    assert rows(real.now("nosuch", AT)) == []
    later = AT + dt.timedelta(milliseconds=250)
    assert rows(real.now("time()", later)) == [("", later.timestamp(), later.timestamp())]


def test_the_edges_around_a_quantile_are_those_of_its_real_series(server):
    real = backend(server.url)
    assert real.bucket_edges(P99, AT) == (0.1, 0.2, 0.5, math.inf)
    assert real.bucket_edges(P99.replace("api", "other"), AT) == ()
    assert real.bucket_edges(P99, AT + dt.timedelta(hours=1)) == ()
    assert real.bucket_edges(ERRORS, AT) == ()


def test_the_words_of_a_real_prometheus_are_told(server):
    real = backend(server.url)
    with pytest.raises(MetricsError, match=r"bad_data: .*unclosed left parenthesis"):
        real.now("sum(up", AT)
    with pytest.raises(MetricsError, match=r"execution: .*many-to-many matching not allowed"):
        real.now("http_requests_total * on(service) http_requests_total", AT)


def test_a_real_prometheus_that_is_killed_is_an_error_and_answers_again_when_it_is_back(server, no_pauses):
    real = backend(server.url)
    before = rows(real.now(P99, AT))
    server.kill()
    with pytest.raises(MetricsError, match="no connection; is it running"):
        real.now(P99, AT)
    with pytest.raises(MetricsError):
        real.between(P99, AT, AT, 60)
    server.start()
    assert rows(real.now(P99, AT)) == before
