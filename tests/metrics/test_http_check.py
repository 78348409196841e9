"""The HTTP check: a service that fails is a value, not an error."""

import datetime as dt
import re
import time

import pytest
import stamina
from http_receiver import CUT, Receiver

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics.http_check import HttpCheck

AT = dt.datetime(2026, 11, 20, 10, 4, tzinfo=dt.UTC)
UP, DOWN = [("", AT, 1.0)], [("", AT, 0.0)]


@pytest.fixture(autouse=True)
def _no_waiting():
    with stamina.set_testing(True):
        yield


@pytest.fixture
def service():
    with Receiver(usual=(200, {}, b"all is ready"), limit=10) as server:
        yield server


def test_an_address_that_answers_200_is_up(service):
    answer = HttpCheck().now(f"{service.url}/healthz?deep=1&x=", AT)
    assert answer.frame.rows() == UP
    assert answer.address == f"{service.url}/healthz"
    assert [(r.method, r.path) for r in service.requests] == [("GET", "/healthz?deep=1&x=")]


@pytest.mark.parametrize("usual", [204, 301, 401, 404, 429, 500, 503, CUT], ids=str)
def test_another_status_or_a_broken_connection_is_down(service, usual):
    service.usual = usual
    assert HttpCheck().now(service.url, AT).frame.rows() == DOWN


def test_a_failure_is_not_tried_again(service):
    service.usual = 503
    with stamina.set_testing(False):
        assert HttpCheck().now(service.url, AT).frame.rows() == DOWN
    assert len(service.requests) == 1


def test_a_service_that_is_not_there_is_down():
    with Receiver() as gone:
        address = gone.url
    assert HttpCheck().now(address, AT).frame.rows() == DOWN


def test_a_service_that_is_too_slow_is_down(service):
    class Slow:
        def pop(self, _):
            time.sleep(0.3)
            return 200

    service.answers = Slow()
    assert HttpCheck().now({"url": service.url, "timeout_s": 0.1}, AT).frame.rows() == DOWN


def test_a_redirect_is_not_followed_but_may_be_what_is_expected(service):
    service.usual = (302, {"Location": f"{service.url}/login"}, b"")
    assert HttpCheck().now(f"{service.url}/", AT).frame.rows() == DOWN
    assert HttpCheck().now({"url": f"{service.url}/", "status": [301, 302]}, AT).frame.rows() == UP
    assert [r.path for r in service.requests] == ["/", "/"]


@pytest.mark.parametrize(("text", "rows"), [("ready", UP), ("broken", DOWN)])
def test_the_body_may_have_to_contain_a_text(service, text, rows):
    assert HttpCheck().now({"url": service.url, "contains": text}, AT).frame.rows() == rows


def test_the_text_is_also_looked_for_in_an_expected_failure(service):
    service.usual = (503, {}, b"down for maintenance")
    query = {"url": service.url, "status": 503, "contains": "maintenance"}
    assert HttpCheck().now(query, AT).frame.rows() == UP


def test_head_asks_without_a_body(service):
    handler = service._server.RequestHandlerClass  # of this server alone
    handler.do_HEAD = handler.do_GET
    service.usual = 200
    assert HttpCheck().now({"url": service.url, "method": "head"}, AT).frame.rows() == UP
    assert [r.method for r in service.requests] == ["HEAD"]


def test_seconds_are_measured_up_to_the_end_of_the_answer(service):
    class Slow:
        def pop(self, _):
            time.sleep(0.1)
            return (200, {}, b"ready")

    service.answers = Slow()
    (_, at, seconds), *_ = HttpCheck().now({"url": service.url, "value": "seconds"}, AT).frame.rows()
    assert at == AT
    assert 0.1 <= seconds < 2


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"status": 500}, r"^no time to measure: 127\.0\.0\.1:\d+ / answered 200$"), ({"contains": "x"}, "without 'x'$")],
)
def test_the_seconds_of_a_failed_check_are_no_data_with_a_reason(service, more, reason):
    answer = HttpCheck().now({"url": f"{service.url}/", "value": "seconds", **more}, AT)
    assert answer.frame.is_empty()
    assert re.search(reason, answer.partial)


def test_the_token_goes_to_the_host_of_the_url_option_only(service, monkeypatch):
    monkeypatch.setenv("CHECK_TOKEN", "t0ken")
    with Receiver(usual=200) as other:
        backend = HttpCheck(url=service.url, token_env="CHECK_TOKEN")
        backend.now("/healthz", AT)
        backend.now(f"{other.url}/healthz", AT)
        backend.now(f"{service.url}/deep", AT)
        assert [r.headers.get("authorization") for r in service.requests] == ["Bearer t0ken"] * 2
        assert [r.headers.get("authorization") for r in other.requests] == [None]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("api.example.org", "url = 'api.example.org'"),
        ("file:///etc/passwd", "url = 'file"),
        ({"url": "http://127.0.0.1", "method": "DELETE"}, "only GET and HEAD"),
        ({"url": "http://127.0.0.1", "status": "ok"}, "status = 'ok'"),
        ({"url": "http://127.0.0.1", "status": 99}, "status = 99"),
        ({"url": "http://127.0.0.1", "value": "ms"}, "value = 'ms'; write up or seconds"),
        ({"url": "http://127.0.0.1", "timeout_s": "5s"}, "timeout_s = '5s'; write a number"),
        ({"url": "http://me:pw@127.0.0.1/"}, "user or password"),
        ({"url": "http://127.0.0.1", "statsu": 200}, "did you mean 'status'"),
    ],
    ids=str,
)
def test_a_wrong_query_says_what_is_wrong(query, words):
    with pytest.raises(ConfigError, match=words):
        HttpCheck().now(query, AT)


def test_a_token_without_a_host_is_wrong_and_the_past_is_refused():
    with pytest.raises(ConfigError, match="token_env needs url"):
        HttpCheck(token_env="T")
    with pytest.raises(MetricsError, match=r"^http_check: http://127\.0\.0\.1/x: a check knows only the present$"):
        HttpCheck().between("http://127.0.0.1/x?secret=1", AT, AT, 60)
