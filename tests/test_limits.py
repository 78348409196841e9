"""What answers say "later", in the words of real services, and what is waited; no network, and no test sleeps."""

import json
import threading

import pytest
import stamina

from feedback_lib import limits
from feedback_lib.limits import Limit

DATE = "Sat, 21 Nov 2026 10:00:00 GMT"
NOW = 1795255200  # the same moment; this machine's clock is elsewhere, and must not matter
SECONDARY = b'{"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}'
LINEAR = json.dumps({"errors": [{"message": "?", "extensions": {"code": "RATELIMITED"}}]}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "limit"),
    [
        # GitHub: the hour's budget, the secondary limit with and without a time
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 2800)}, b"", Limit(2800, 60)),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 2800)}, b"", Limit(2800)),
        (403, {"Retry-After": "90", "X-RateLimit-Remaining": "4999"}, SECONDARY, Limit(90, 60)),
        (403, {"X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": str(NOW + 2800)}, SECONDARY, Limit(None, 60)),
        (429, {"X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": str(NOW + 2800)}, SECONDARY, Limit(None, 60)),
        (403, {}, b"You have triggered an abuse detection mechanism.", Limit(None, 60)),
        # GitLab: with its headers, and from a limit of the application, without any
        (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": str(NOW + 37)}, b"Retry later", Limit(37)),
        (429, {}, b"Retry later", Limit(None)),
        # Jira: seconds beside a moment in ISO 8601
        (429, {"Retry-After": "7", "X-RateLimit-Reset": "2026-11-21T10:01:00Z"}, b"", Limit(7)),
        (429, {"X-RateLimit-Reset": "2026-11-21T12:01:00+02:00"}, b"", Limit(60)),
        (503, {"Retry-After": "5"}, b"", Limit(5)),
        # Zendesk, Intercom, Linear (milliseconds, two budgets), Notion, Slack, Discourse, Elasticsearch, Splunk
        (429, {"Retry-After": "93", "X-Rate-Limit-Remaining": "0", "ratelimit-reset": "11"}, b"", Limit(93)),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 10)}, b"", Limit(10)),
        (
            400,
            {
                "X-RateLimit-Requests-Remaining": "12",
                "X-RateLimit-Requests-Reset": str(NOW * 1000 + 9e5),
                "X-RateLimit-Complexity-Remaining": "0",
                "X-RateLimit-Complexity-Reset": str(NOW * 1000 + 2500),
            },
            LINEAR,
            Limit(2.5),
        ),
        (529, {"Retry-After": "30"}, b'{"code": "service_overload"}', Limit(30)),
        (529, {}, b"", Limit(None)),
        (429, {"Retry-After": "Sat, 21 Nov 2026 10:00:43 GMT"}, b"", Limit(43)),
        (429, {"X-Rate-Limit-Reset": "12"}, b"", Limit(12)),
        (429, {"X-RateLimit-Remaining": "1", "X-RateLimit-Reset-After": "2.5"}, b"", Limit(None)),
        (503, {"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT"}, b"", Limit(0)),
    ],
)
def test_a_limit_is_told_by_what_the_answer_says(status, headers, body, limit):
    assert limits.limit(status, {"Date": DATE} | headers, body) == limit


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, b"rate limit"),
        (200, {}, b'{"data": {"issues": [{"extensions": {"code": "RATELIMITED"}}]}}'),
        (400, {}, b'{"errors": [{"extensions": {"code": "INVALID_INPUT"}}]}'),
        *((400, {}, body) for body in (b"RATELIMITED", b"[]", b'{"errors": 1}', b'{"errors": ["RATELIMITED"]}')),
        (401, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, b""),
        (403, {"X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": "9"}, b"Resource not accessible"),
        (403, {}, b"<html>Access denied. Report abuse: abuse@example.com"),
        (404, {}, b"rate limit"),
        (500, {}, b"rate limit"),
        (502, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}, b""),
        (503, {"Retry-After": "soon"}, b""),
    ],
)
def test_a_failure_is_no_limit(status, headers, body):
    assert limits.limit(status, headers, body) is None


def test_an_answer_tells_when_it_was_the_last_of_its_budget():
    gone = {"Date": DATE, "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 60)}
    assert limits.spent(gone) == 60
    assert limits.spent(gone | {"X-RateLimit-Remaining": "1"}) is None
    assert limits.spent(gone | {"X-RateLimit-Limit": "0"}) is None, "a budget that is not in force"
    assert limits.spent({"X-RateLimit-Remaining": "0"}) is None
    assert limits.spent({}) is None


def test_a_service_that_keeps_refusing_is_asked_less_and_less_often():
    waits = [[limit.wait_s(nth) for nth in (1, 2, 3, 8, 19)] for limit in (Limit(None), Limit(0), Limit(None, 60))]
    assert waits == [[1, 2, 4, 60, 60], [0, 1, 2, 60, 60], [60, 120, 240, 960, 960]]
    assert [Limit(43).wait_s(nth) for nth in (1, 7, 8)] == [43, 43, 60]


def test_a_budget_is_never_exceeded_in_any_minute():
    sent, told, stop = [], [], threading.Event()
    with stamina.set_testing(True):
        host = limits.Host()
        for n in range(35):
            with host.turn(8, 10, stop, told.append):
                sent.append(limits.now())
            if n == 3:
                limits.wait_until(limits.now() + 45, stop)
    assert min(later - sooner for sooner, later in zip(sent, sent[10:], strict=False)) >= 60
    assert 225 <= sent[-1] - sent[0] < 228, "and no more is waited than that takes"
    assert len(told) == 6, "long waits are told, short ones are not"
    assert all(5 < seconds < 61 for seconds in told)


def test_a_budget_below_one_a_minute_spaces_its_requests():
    host, told, stop = limits.Host(), [], threading.Event()
    with stamina.set_testing(True):
        began = limits.now()
        for _ in range(2):
            with host.turn(1, 0.5, stop, told.append):
                took = limits.now() - began
    assert 120 <= took < 121
    assert [round(seconds) for seconds in told] == [120]


def test_threads_that_wait_side_by_side_spend_patience_once_and_tell_once():
    line, told = limits.Line(("http", "127.0.0.1", 1), 8, None, 60), []
    line.closed.set()  # nothing is slept, so all of these wait for the same moment
    line.refuse(50)
    assert [line.hold(told.append) for _ in range(3)] == [0, 0, 0]
    line.refuse(58)
    assert line.hold(told.append) == 0, "8 s more"
    line.refuse(61)
    assert line.hold(told.append) == pytest.approx(61, abs=0.5), "3 s more than the 2 that were left"
    assert told == [pytest.approx(50, abs=0.5), pytest.approx(58, abs=0.5)]


def test_a_wait_ends_when_it_is_told_to():
    stop = threading.Event()
    thread = threading.Thread(target=limits.wait_until, args=(limits.now() + 3600, stop))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
