"""Calls over HTTP against real servers on loopback that misbehave, and a search for secrets in all that is written."""

import base64
import concurrent.futures
import contextlib
import datetime as dt
import email.utils
import gc
import gzip
import importlib.util
import io
import json
import logging
import math
import re
import socket
import ssl
import subprocess
import threading
import time
import traceback

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import stamina
from conftest import needed

from feedback_lib import limits, transport, wire
from feedback_lib.errors import ConfigError, FeedbackError, ReadOnlyError, TransportError
from feedback_lib.transport import Reply, Transport

KEY = "planted-key-7f3a9c"
FINE = b'{"fine": true}'
SECONDARY = b'{"message": "You have exceeded a secondary rate limit."}'


def said(status, body=b"", *, length=None, **headers):
    """The bytes of an answer."""
    fields = {"Content-Type": "application/json", "Content-Length": len(body) if length is None else length}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} {KEY}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class Service:
    """A server that gives one answer a request, the last one again and again; an answer is bytes or a function that
    gets the connection and closes it.
    """

    def __init__(self, *answers, context=None):
        self.requests, self.connections, self._answers = [], 0, answers
        self._context, self._open = context, []
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._socket.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(link,), daemon=True))
                self._threads[-1].start()

    def _serve(self, link):
        with contextlib.suppress(OSError, ValueError), link:
            if self._context:
                link = self._context.wrap_socket(link, server_side=True)
            self._open.append(link)
            with link, link.makefile("rb") as file:
                while request := self._read(file):
                    with self._lock:
                        self.requests.append(request)
                        answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
                    if callable(answer):
                        answer = answer(link, request)
                    if answer is None:
                        link.shutdown(socket.SHUT_RDWR)
                        return
                    link.sendall(answer)

    @staticmethod
    def _read(file):
        head = b""
        while (line := file.readline()).strip():
            head += line
        length = [int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")]
        return head + b"\n" + file.read(length[0] if length else 0) if head else b""

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for link in self._open:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def service():
    with contextlib.ExitStack() as stack:

        def start(*answers, **options):
            made = Service(*answers, **options)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def client():
    with contextlib.ExitStack() as stack:

        def make(url, **options):
            made = Transport("probe", url, **{"timeout_s": 5} | options)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def no_pauses():
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that is its own authority, for a host named elsewhere.test."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [needed("OpenSSL", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=elsewhere.test", "-addext", "subjectAltName=DNS:elsewhere.test,DNS:localhost"]
    subprocess.run([*command, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + file.with_name("both.pem.crt").read_bytes())
    return file


def tls(certificate, *protocols):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def drip(link, _, first=b""):
    link.sendall(first)
    for _ in range(200):
        link.sendall(b"x")
        time.sleep(0.02)


def silence(link, _):
    link.recv(1)  # until the other side gives up


# what may be asked


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "PURGE"])
def test_a_writing_method_is_refused_before_a_connection_is_made(service, client, method):
    there = service(said(200, FINE))
    reader = client(there.url, searches=("/api/v1/query",))
    with pytest.raises(ReadOnlyError, match=f"{method.upper()} /api/v1/series would write"):
        reader.call(method, "/api/v1/series", form={"a": 1})
    with pytest.raises(ReadOnlyError):
        reader._client.request(method, "/api/v1/series")
    with pytest.raises(ReadOnlyError):
        reader._client._transport.handle_request(httpx.Request(method, f"{there.url}/api/v1/series"))
    assert there.connections == 0


@pytest.mark.parametrize(
    "path",
    [
        *("/api/v1/query/", "/api/v1/query/x", "//api/v1/query", "/api/v1/admin", "/api/v1/query%2F..%2Fadmin"),
        *(
            "/api/v1/query/../admin/tsdb/delete_series",
            "/api/v1/query;x",
            "/API/v1/query",
            "/api/v1/query%3Fx",
            "/query",
        ),
    ],
)
def test_only_the_very_path_named_as_a_search_may_be_posted_to(service, client, path):
    there = service(said(200, FINE))
    with pytest.raises(ReadOnlyError):
        client(f"{there.url}/prefix", searches=("/api/v1/query",)).call("POST", path, form={"query": "up"})
    assert there.connections == 0


def test_a_search_is_posted_as_a_form_or_as_json_below_the_base_address(service, client):
    there = service(said(200, FINE))
    reader = client(f"{there.url}/prefix/", searches=("/api/v1/query",))
    assert reader.call("POST", "/api/v1/query", form={"query": "a+b", "step": 60}).json() == {"fine": True}
    assert reader.call("POST", "/api/v1/query", params={"x": "1"}, body={"a": 1}).status == 200
    form, body = there.requests
    assert form.startswith(b"POST /prefix/api/v1/query HTTP/1.1")
    assert form.endswith(b"query=a%2Bb&step=60")
    assert body.startswith(b"POST /prefix/api/v1/query?x=1 HTTP/1.1")
    assert json.loads(body.splitlines()[-1]) == {"a": 1}


@pytest.mark.parametrize("path", ["/../admin", "/a/../../admin", "/%2e%2e/admin", "/a/%2E./x", "/..", "/x/.%2e"])
def test_no_path_leads_above_the_base_address(service, client, path):
    there = service(said(200, FINE))
    with pytest.raises(ReadOnlyError, match="is above this client's address"):
        client(f"{there.url}/prefix").get(path, {"q": ".."})
    assert there.connections == 0


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "x-http-method", "X-METHOD-OVERRIDE", "x_http_method_override"]
)
def test_a_header_that_turns_reading_into_writing_is_refused(service, client, header):
    there = service(said(200, FINE))
    with pytest.raises(ReadOnlyError):
        client(there.url).call("GET", "/", headers={header: "DELETE"})
    assert there.connections == 0


def test_credentials_go_to_no_other_host_or_port(service, client):
    there, elsewhere = service(said(200, FINE)), service(said(200, FINE))
    for writes in (False, True):
        reader = client(there.url, headers={"Authorization": KEY}, writes=writes)
        for address in (elsewhere.url, f"http://localhost:{there.port}/", f"https://127.0.0.1:{there.port}/"):
            with pytest.raises(ReadOnlyError, match="not the service this client was made for"):
                reader.call("GET", address)
    assert there.connections == elsewhere.connections == 0


def test_a_client_made_for_writing_writes(service, client):
    there = service(said(202, FINE))
    assert client(there.url, writes=True).call("DELETE", "/x").status == 202
    assert there.requests[0].startswith(b"DELETE /x ")


# answers


def test_a_redirect_is_not_followed_and_the_error_names_only_its_host(service, client):
    elsewhere = service(said(200, FINE))
    there = service(said(302, Location=f"http://localhost:{elsewhere.port}/login?next={KEY}"))
    with pytest.raises(TransportError, match="answered 302 Found and points to localhost;") as caught:
        client(there.url).get("/")
    assert KEY not in str(caught.value)
    assert caught.value.status == 302
    with pytest.raises(ReadOnlyError):
        client(there.url)._client.get("/", follow_redirects=True)
    assert elsewhere.connections == 0


@pytest.mark.parametrize("location", ["http://[", "", "http://a b/"])
def test_a_redirect_to_nowhere_is_an_error_too(service, client, location):
    with pytest.raises(TransportError):
        client(service(said(301, Location=location)).url).get("/")


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"", b"\xff\xfe", b"[" * 100_000])
def test_an_answer_that_is_not_json_says_what_it_is(service, client, body):
    there = service(said(200, body, Content_Type="text/html; charset=utf-8"))
    reply = client(there.url).get("/")
    assert reply.content == body
    with pytest.raises(TransportError, match=r"the answer is not JSON \(text/html\)"):
        reply.json()


def test_an_error_holds_what_the_service_said_but_does_not_repeat_it(service, client):
    there = service(said(422, b'{"error": "many-to-many"}'))
    with pytest.raises(TransportError) as caught:
        client(there.url).get("/api", {"q": "secret question"})
    assert str(caught.value) == f"probe: 127.0.0.1:{there.port} /api answered 422 Unprocessable Entity"
    assert json.loads(caught.value.body) == {"error": "many-to-many"}
    assert len(there.requests) == 1


def test_an_unknown_status_is_an_error_without_words(service, client):
    with pytest.raises(TransportError, match=r"answered 499$"):
        client(service(said(499)).url).get("/")


def test_cookies_are_not_kept(service, client):
    there = service(said(200, FINE, Set_Cookie="session=1; Path=/"))
    reader = client(there.url)
    for _ in range(2):
        reader.get("/")
    assert not any(b"ookie" in request for request in there.requests)


def endless(link, _):
    link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        link.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        endless,
        said(200, b"", length=10**12),
        said(200, gzip.compress(bytes(4 * 2**20)), Content_Encoding="gzip"),
    ],
    ids=["endless", "announced", "packed"],
)
def test_an_answer_that_is_too_long_is_refused_and_not_asked_for_again(service, client, answer):
    there = service(answer)
    with pytest.raises(TransportError, match="sent more than 2 MiB; ask for less"):
        client(there.url, max_bytes=2 * 2**20).get("/")
    assert len(there.requests) == 1


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip,identity", "x" * 99])
def test_an_answer_packed_twice_or_unasked_is_refused_before_it_is_unpacked(service, client, encoding):
    body = gzip.compress(gzip.compress(bytes(2**20)))
    there = service(said(200, body, Content_Encoding=encoding))
    with pytest.raises(TransportError, match="packed in another way than was asked for"):
        client(there.url).get("/")
    assert b"accept-encoding: gzip, deflate\r\n" in there.requests[0].lower()


def test_an_answer_that_cannot_be_unpacked_is_an_error(service, client):
    with pytest.raises(TransportError, match="DecodingError"):
        client(service(said(200, b"nonsense", Content_Encoding="gzip")).url).get("/")


# trying again


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 522, 529])
def test_what_may_pass_is_tried_again(service, client, no_pauses, status):
    there = service(said(status), said(status), said(200, FINE))
    assert client(there.url).get("/").json() == {"fine": True}
    assert len(there.requests) == 3


@pytest.mark.parametrize(("status", "tries"), [(503, 3), (400, 1), (401, 1), (403, 1), (404, 1), (501, 1)])
def test_a_failure_that_stays_is_raised_with_its_status_after_as_many_tries(service, client, no_pauses, status, tries):
    there = service(said(status, b"why"))
    with pytest.raises(TransportError) as caught:
        client(there.url).get("/")
    assert (caught.value.status, caught.value.body, len(there.requests)) == (status, b"why", tries)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("start", [said(200, b'{"fine"', length=14), CHUNKED + b"7\r\n" + FINE[:7], CHUNKED])
def test_a_cut_answer_is_asked_for_again(service, client, no_pauses, start):
    def cut(link, _):
        link.sendall(start)

    there = service(cut, said(200, FINE))
    assert client(there.url).get("/").json() == {"fine": True}
    with pytest.raises(TransportError, match="the connection broke in the middle of its answer"):
        client(service(cut).url).get("/")


def test_a_connection_closed_without_an_answer_is_tried_again(service, client, no_pauses):
    there = service(lambda *_: None)
    with pytest.raises(TransportError, match="the connection broke before its answer"):
        client(there.url).get("/")
    assert len(there.requests) == 3


def test_the_pause_a_service_asks_for_is_kept(service, client):
    there = service(said(429, Retry_After="0.6"), said(200, FINE))
    began = time.monotonic()
    assert client(there.url).get("/").json() == {"fine": True}
    assert 0.6 <= time.monotonic() - began < 2


def test_a_date_in_the_past_asks_for_no_pause_beyond_the_usual(service, client):
    there = service(said(503, Retry_After="Sun, 06 Nov 1994 08:49:37 GMT"), said(200, FINE))
    began = time.monotonic()
    client(there.url).get("/")
    assert 0.2 <= time.monotonic() - began < 1


def in_an_hour():
    return email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    "headers",
    [
        lambda: {"Retry_After": 3600},
        lambda: {"Retry_After": in_an_hour()},
        lambda: {"X_RateLimit_Reset": 3600},
        lambda: {"X_RateLimit_Reset": int(time.time()) + 3600},
    ],
    ids=["seconds", "date", "limit", "limit as a moment"],
)
def test_a_pause_longer_than_the_call_may_take_is_told_and_not_waited_for(service, client, headers):
    there = service(said(429, **headers()))
    began = time.monotonic()
    with pytest.raises(TransportError) as caught:
        client(there.url).get("/")
    assert time.monotonic() - began < 1
    assert 3590 <= caught.value.retry_after_s <= 3600
    assert len(there.requests) == 1


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "-1", "Sun, 99 Nov 1994 08:49:37 GMT", "1e400", ""])
def test_a_pause_that_makes_no_sense_is_no_error_of_ours(service, client, no_pauses, text):
    there = service(said(503, Retry_After=text), said(200, FINE))
    assert client(there.url).get("/").json() == {"fine": True}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (silence, "did not answer"),
        (drip, "did not answer"),
        (lambda *link: drip(*link, b"HTTP/1.1 200 OK\r\nX: "), "did not answer"),
        (lambda *link: drip(*link, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"), "was still sending"),
    ],
    ids=["silent", "slow status", "slow headers", "slow body"],
)
def test_a_try_ends_at_its_deadline_however_the_bytes_come(service, client, answer, words):
    there = service(answer)
    began = time.monotonic()
    with pytest.raises(TransportError, match=rf"{words} after (\d\.\d) s") as caught:
        client(there.url, timeout_s=0.3, attempts=1).get("/")
    took = time.monotonic() - began
    assert 0.3 <= took < 1.5  # a busy machine wakes late; without a deadline it would be seconds
    told = float(re.search(r"after (\d\.\d) s", str(caught.value))[1])
    assert 0.3 <= told <= took + 0.05  # what it waited, not what it was asked to wait


def test_all_tries_together_end_in_time(service, client):
    there = service(silence)
    began = time.monotonic()
    with pytest.raises(TransportError, match="did not answer"):
        client(there.url, timeout_s=0.3, attempts=3).get("/")
    assert time.monotonic() - began < 1.1
    assert 2 <= len(there.requests) <= 3


# limits, with a clock that tests move (see limits.wait_until)


@pytest.fixture
def clock():
    """Nothing is slept; called, it says how many seconds would have been."""
    with stamina.set_testing(True, attempts=8, cap=True):
        began = limits.now()
        yield lambda: limits.now() - began


def patient(client, there, **options):
    return client(there.url, **{"patience_s": 3600} | options)


def test_a_limit_is_waited_for_told_and_counts_as_no_try(service, client, clock):
    there, lines = service(said(429, Retry_After=43), said(403, SECONDARY), said(529), said(200, FINE)), []
    reader = patient(client, there, attempts=1, notify=lines.append)
    assert reader.ask("/x", {"key": KEY}).json() == {"fine": True}
    assert 43 + 120 + 4 <= clock() < 43 + 120 + 4 + 4
    assert lines == ["waits 43 s: probe's rate limit", "waits 2 min: probe's rate limit", "waits 4 s: probe is busy"]
    assert len(there.requests) == 4


def test_failures_in_a_row_are_survived_by_as_many_tries_as_there_are(service, client, clock):
    there = service(*[said(status) for status in (500, 502, 500, 504, 503, 500)], said(200, FINE))
    assert patient(client, there, attempts=8).ask("/").json() == {"fine": True}
    with pytest.raises(TransportError, match=r"500 Internal Server Error$"):
        patient(client, service(said(500)), attempts=6).ask("/")
    assert clock() < 1, "and are no limit"


def test_a_limit_longer_than_patience_is_an_error_that_says_how_long_and_holds_until_it_is_over(service, client, clock):
    there = service(said(429, b"why", Retry_After=2800), said(200, FINE))
    reader = patient(client, there, patience_s=600)
    with pytest.raises(TransportError) as caught:
        reader.get("/x")
    asks = "it asks to wait 47 min, more than patience_s leaves"
    assert str(caught.value) == f"probe: 127.0.0.1:{there.port} /x answered 429 Too Many Requests: {asks}"
    assert caught.value.retry_after_s == pytest.approx(2800, abs=1)
    assert (caught.value.status, caught.value.body) == (429, b"why")
    with pytest.raises(TransportError, match=f"127.0.0.1:{there.port}: {asks}"):
        reader.get("/y")
    assert len(there.requests) == 1
    limits.wait_until(limits.now() + 2801, threading.Event())
    assert reader.get("/y").json() == {"fine": True}


def test_patience_is_for_the_life_of_a_client(service, client, clock):
    reader = patient(
        client, service(said(429, Retry_After=40), said(200, FINE), said(429, Retry_After=40)), patience_s=60
    )
    reader.get("/")
    with pytest.raises(TransportError, match="asks to wait 40 s, more than patience_s leaves"):
        reader.get("/")


def test_a_service_that_always_says_at_once_is_not_asked_for_ever(service, client, clock):
    there = service(said(429, Retry_After=0))
    with pytest.raises(TransportError, match="answered 429 Too Many Requests 20 times in a row"):
        patient(client, there).get("/")
    assert len(there.requests) == 20


def test_linears_limit_is_a_status_400_with_a_code(service, client, clock):
    body = b'{"errors": [{"extensions": {"code": "RATELIMITED"}}]}'
    told = {"X_RateLimit_Complexity_Remaining": 0, "X_RateLimit_Complexity_Reset": int(time.time() * 1000) + 90_000}
    there = service(said(400, body, **told), said(200, FINE))
    assert patient(client, there, searches=("/graphql",)).ask("/graphql", body={"query": "{}"}).json()
    assert 85 < clock() < 92
    with pytest.raises(TransportError, match="400 Bad Request; a rate limit; it asks to wait 90 s"):
        client(service(said(400, body, **told)).url).get("/")


def test_a_limit_told_in_an_answer_with_status_200_is_waited_for_too(service, client, clock):
    """GraphQL puts its errors there; what a service merely tells about the word is no limit."""
    body = b'{"data": null, "errors": [{"extensions": {"code": "RATELIMITED"}}]}'
    there = service(said(200, body, X_RateLimit_Requests_Reset=int(time.time() * 1000) + 90_000), said(200, FINE))
    assert patient(client, there, searches=("/graphql",)).ask("/graphql", body={"query": "{}"}).json() == {"fine": True}
    assert 85 < clock() < 92
    talk = b'{"data": {"title": "What is \\"RATELIMITED\\"?", "code": "RATELIMITED"}}'
    assert patient(client, service(said(200, talk))).ask("/").json()["data"]["code"] == "RATELIMITED"
    with pytest.raises(TransportError, match="answered 200 OK with errors; a rate limit 20 times in a row"):
        patient(client, service(*[said(200, body)] * 20)).ask("/")


def test_after_the_last_request_of_a_budget_the_next_one_waits_first(service, client, clock):
    last = said(200, FINE, X_RateLimit_Remaining=0, X_RateLimit_Reset=int(time.time()) + 100)
    there = service(last, said(200, FINE))
    reader = patient(client, there)
    reader.get("/")
    assert clock() < 1
    reader.get("/")
    assert 95 < clock() < 102
    for impatient in (client(service(last).url), patient(client, service(last), patience_s=50)):
        for _ in range(2):
            impatient.get("/")
    assert clock() < 102, "nobody refused them"


def test_a_budget_is_shared_by_the_clients_of_a_host(service, client, clock):
    there = service(said(200, FINE))
    one, two, other = (client(there.url, per_minute=many) for many in (10, 10, 1000))
    for _ in range(12):
        one.get("/")
        two.get("/")
        other.get("/")
    assert 120 <= clock() < 122


def test_no_more_requests_are_under_way_at_a_host_than_the_clients_allow(service, client):
    both, under_way, most = threading.Barrier(2, timeout=5), [], []

    def answer(*_):
        under_way.append(1)
        most.append(len(under_way))
        both.wait()
        under_way.pop()
        return said(200, FINE)

    there = service(answer)
    readers = [client(there.url, concurrent=2) for _ in range(3)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(lambda n: readers[n % 3].get("/"), range(12)))) == 12
    assert max(most) == 2


def test_waiting_for_a_turn_is_no_part_of_a_tries_time(service, client):
    def late(*_):
        threading.Event().wait(0.15)
        return said(200, FINE)

    reader = client(service(late).url, concurrent=1, timeout_s=0.3, attempts=1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: reader.get("/"), range(4)))) == 4


def test_closing_a_client_ends_what_waits(service, client):
    waiting = threading.Event()
    there = service(said(429, Retry_After=3000))
    reader = patient(client, there, notify=lambda _: waiting.set())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(reader.get, "/")
        assert waiting.wait(5)
        reader.close()
        with pytest.raises(TransportError, match="this client was closed"):
            answer.result(5)
    assert len(there.requests) == 1


# JSON and links


@pytest.mark.parametrize("page", [b"<html>Bad gateway</html>", FINE + b"<html>", b""])
def test_what_is_not_json_is_asked_for_again_a_few_times(service, client, clock, page):
    there = service(said(200, page, Content_Type="text/html"), said(200, page), said(200, FINE))
    reply = client(there.url, attempts=8).ask("/")
    assert reply.json() is reply.json()
    assert reply.json() == {"fine": True}
    there = service(said(200, page, Content_Type="text/html"))
    with pytest.raises(TransportError, match=r"/x: the answer is not JSON \(text/html\)"):
        client(there.url, attempts=8).ask("/x")
    assert len(there.requests) == 3


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b'{"a": Infinity}', {"a": math.inf}),
        (b"\xef\xbb\xbf[]", []),
        (b'"\\ud83d"', "\ud83d"),
        (b'["a", "\xe2\x82"]', ["a", "\ufffd"]),
    ],
)
def test_json_that_only_the_standard_library_reads_is_read(service, client, body, read):
    assert client(service(said(200, body)).url).ask("/").json() == read


def test_asking_with_a_body_or_a_form_is_a_search(service, client):
    there = service(said(200, FINE))
    reader = client(there.url, searches=("/search",))
    reader.ask("/search", {"a": 1}, body={})
    reader.ask("/search", form={"q": "x"})
    assert there.requests[0].startswith(b"POST /search?a=1 ")
    assert [request[-3:] for request in there.requests] == [b"\n{}", b"q=x"]
    with pytest.raises(ReadOnlyError):
        reader.ask("/other", body={})


def test_a_next_link_is_followed_below_the_clients_address(service, client):
    links = '<{}/api/v4/issues?page=1>; rel="first", <{}/api/v4/issues?page=3&q=a%2Fb>; rel="next"'
    there = service(lambda *_: said(200, FINE, Link=links.replace("{}", there.url)), said(200, FINE))
    reader = client(f"{there.url}/api/v4")
    path = reader.ask("/issues", {"page": 2}).link()
    assert path == "/issues?page=3&q=a%2Fb"
    last = reader.ask(path)
    assert there.requests[1].startswith(b"GET /api/v4/issues?page=3&q=a%2Fb ")
    assert last.link() is last.link("prev") is None
    assert Reply(200, {}, b"", "probe").link() is None


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("<?page=2>; rel=next", "/issues?page=2"),
        ('</api/others>; rel="last Next"', "/others"),
        ("<https://127.0.0.1/api/x>; rel=next", None),
        (f"<http://evil.example/api/{KEY}>; rel=next", None),
        (f"<http://{KEY}@127.0.0.1:PORT/api/x>; rel=next", None),
        ("<//evil.example/api/x>; rel=next", None),
        ("</admin>; rel=next", None),
        ("</api/../admin>; rel=next", None),
        ("</api/%2e%2E/admin>; rel=next", None),
        ("</api/x?q=%2E>; rel=next", "/x?q=%2E"),
        ("<http://[/>; rel=next", None),
    ],
)
def test_a_link_that_leads_elsewhere_is_an_error(service, client, link, path):
    there = service(lambda *_: said(200, FINE, Link=link.replace("PORT", str(there.port))))
    reply = client(f"{there.url}/api").get("/issues")
    if path:
        assert reply.link() == path
    else:
        with pytest.raises(TransportError, match="/api/issues: its link rel=next ") as caught:
            reply.link()
        assert KEY not in "".join(traceback.format_exception(caught.value))


# proxies


class Proxy(Service):
    """A proxy that lets a request with the right credentials through, and answers the others 407."""

    def __init__(self, *answers, credentials=f"me:{KEY}", **options):
        self._asks = f"proxy-authorization: basic {base64.b64encode(credentials.encode()).decode()}".lower().encode()
        super().__init__(*answers or (self._pass,), **options)

    def _pass(self, link, request):
        method, target, _ = request.split(b" ", 2)
        if self._asks not in request.lower():
            return said(407, KEY.encode(), Proxy_Authenticate=f"Basic realm={KEY}")
        if method != b"CONNECT":
            return said(200, target)
        name, _, port = target.decode().partition(":")
        with socket.create_connection((name, int(port)), 5) as other:
            link.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(other, link), daemon=True)
            back.start()
            pump(link, other)
            back.join(5)
        return None


def pump(one, other):
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy():
    with contextlib.ExitStack() as stack:

        def start(*answers, **options):
            made = Proxy(*answers, **options)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def no_proxies(monkeypatch):
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    return monkeypatch


def test_a_request_with_tls_goes_through_a_tunnel_of_the_proxy(service, client, certificate, proxy):
    there, between = service(said(200, FINE), context=tls(certificate)), proxy()
    address = f"http://me:{KEY}@127.0.0.1:{between.port}"
    reader = client(f"https://localhost:{there.port}", ca=f"{certificate}.crt", proxy=address, headers={"X-Key": "k"})
    assert reader.ask("/x").json() == {"fine": True}
    assert between.requests[0].startswith(f"CONNECT localhost:{there.port} ".encode())
    assert b"X-Key" not in between.requests[0]
    assert b"X-Key: k" in there.requests[0]
    assert b"roxy" not in there.requests[0]


def test_a_request_without_tls_is_forwarded_by_the_proxy_that_the_environment_names(client, proxy, no_proxies):
    between = proxy(credentials="me:né/")
    no_proxies.setenv("HTTP_PROXY", f"http://me:n%C3%A9%2F@127.0.0.1:{between.port}")
    assert client("http://service.example/base").get("/x").content == b"http://service.example/base/x"


def test_this_machine_is_reached_directly_unless_the_option_says_otherwise(service, client, proxy, no_proxies):
    there, between = service(said(200, FINE)), proxy()
    address = f"http://me:{KEY}@127.0.0.1:{between.port}"
    no_proxies.setenv("ALL_PROXY", address)
    assert client(there.url).get("/").json() == {"fine": True}
    assert between.requests == []
    assert client(there.url, proxy=address).get("/").content == f"{there.url}/".encode()
    assert len(there.requests) == 1


@pytest.mark.parametrize(
    ("address", "environment", "goes"),
    [
        ("http://service.example", {}, False),
        ("http://service.example", {"HTTP_PROXY": "proxy.example:3128"}, True),
        ("https://service.example", {"HTTP_PROXY": "http://proxy.example"}, False),
        ("https://service.example", {"HTTPS_PROXY": "http://proxy.example"}, True),
        ("https://service.example", {"all_proxy": "http://proxy.example"}, True),
        *(
            (address, {"ALL_PROXY": "http://proxy.example", "NO_PROXY": entry}, False)
            for address, entry in [
                ("http://service.example", "service.example"),
                ("http://api.service.example", "other.example, .service.example"),
                ("http://service.example", "*"),
                ("http://service.example:81", "service.example:81"),
                ("http://10.1.2.3:80", "10.0.0.0/8"),
                ("http://[fd00::1]", "fd00::/8"),
                ("http://10.1.2.3", "10.1.2.3"),
            ]
        ),
        ("http://myservice.example", {"ALL_PROXY": "http://proxy.example", "NO_PROXY": "service.example"}, True),
        ("http://11.1.2.3", {"ALL_PROXY": "http://proxy.example", "NO_PROXY": "10.0.0.0/8, x"}, True),
        *(
            (f"http://{name}", {"ALL_PROXY": "http://proxy.example"}, False)
            for name in ("localhost:1", "127.0.0.9", "[::1]:80")
        ),
    ],
)
def test_the_usual_variables_say_what_goes_through_a_proxy(no_proxies, address, environment, goes):
    for name, value in environment.items():
        no_proxies.setenv(name, value)
    assert (wire.proxy("probe", httpx.URL(address), None, None) is not None) == goes


@pytest.mark.parametrize("address", [f"ftp://me:{KEY}@x", f"http://me:{KEY}@", f"http://{KEY}@[::1", 5, "http://"])
def test_a_proxy_that_is_no_address_is_a_configuration_error_without_its_password(address):
    with pytest.raises(ConfigError, match="proxy is no address") as caught:
        Transport("probe", "http://127.0.0.1", proxy=address)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="the package for SOCKS is installed")
def test_a_proxy_that_needs_a_package_names_it(no_proxies):
    no_proxies.setenv("ALL_PROXY", f"socks5://me:{KEY}@127.0.0.1:1080")
    with pytest.raises(ConfigError, match=r"the environment names speaks SOCKS.*pip install 'httpx\[socks\]'$"):
        Transport("probe", "https://service.example")


@pytest.mark.parametrize(
    ("answer", "words", "tries"),
    [
        (None, "its proxy 127.0.0.1:PORT wants other credentials$", 1),
        (said(503), r"its proxy 127.0.0.1:PORT refused \(503 Service Unavailable\)$", 3),
        (said(599), r"its proxy 127.0.0.1:PORT refused \(599\)$", 1),
        (lambda *_: None, "the connection broke before its answer", 3),
    ],
)
def test_a_proxy_that_makes_no_tunnel_is_told_from_the_service(client, proxy, no_pauses, answer, words, tries):
    between = proxy(*filter(None, [answer]))
    reader = client("https://service.example", proxy=f"http://other:{KEY}x@127.0.0.1:{between.port}")
    with pytest.raises(TransportError, match=words.replace("PORT", str(between.port))) as caught:
        reader.get("/")
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(between.requests) == tries


def test_a_proxy_that_does_not_run_is_told_from_the_service(client, no_pauses):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match=f"no connection to its proxy 127.0.0.1:{port}; is it running"):
        client("https://service.example", proxy=f"http://127.0.0.1:{port}").get("/")


# connections


def test_nobody_listening_is_said_in_words(client, no_pauses):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TransportError, match=f"127.0.0.1:{port} /x: no connection; is it running"):
        client(f"http://127.0.0.1:{port}").get("/x", {"q": KEY})


def test_a_trusted_certificate_for_the_right_name_is_accepted(service, client, certificate):
    there = service(said(200, FINE), context=tls(certificate))
    reader = client(f"https://localhost:{there.port}", ca=f"{certificate}.crt")
    assert reader.get("/").json() == {"fine": True}


def test_a_certificate_for_another_name_or_of_a_stranger_is_refused_at_once(service, client, certificate):
    there = service(said(200, FINE), context=tls(certificate))
    with pytest.raises(TransportError, match=r"certificate is not accepted \(IP address mismatch"):
        client(there.url, ca=f"{certificate}.crt", headers={"Authorization": KEY}).get("/")
    with pytest.raises(TransportError, match=r"certificate is not accepted \(self.signed certificate\)"):
        client(f"https://localhost:{there.port}").get("/")
    assert there.connections == 2
    assert there.requests == []


def test_a_connection_cut_while_tls_begins_is_made_again(service, client, certificate, no_pauses):
    class Cutting:
        """Ends the first connection when TLS should begin, then serves."""

        def __init__(self):
            self.rest = iter([None])

        def wrap_socket(self, link, **options):
            if next(self.rest, link):
                return tls(certificate).wrap_socket(link, **options)
            link.recv(65536)
            link.shutdown(socket.SHUT_RDWR)
            raise OSError

    there = service(said(200, FINE), context=Cutting())
    assert client(f"https://localhost:{there.port}", ca=f"{certificate}.crt").ask("/").json() == {"fine": True}
    assert there.connections == 2


def test_tls_where_there_is_none_is_said(client):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse():
            with server.accept()[0] as link:
                link.recv(65536)
                link.sendall(said(400))

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(TransportError, match=r"no TLS connection .* does it speak https"):
            client(f"https://127.0.0.1:{server.getsockname()[1]}").get("/")
        thread.join(5)


def test_many_threads_share_one_client_and_each_gets_its_own_answer(service, client):
    there = service(lambda _, request: said(200, request.split(b" ")[1]))
    reader = client(there.url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = pool.map(lambda n: reader.get(f"/{n}", {"n": n}).content, range(200))
        assert list(replies) == [f"/{n}?n={n}".encode() for n in range(200)]
    assert there.connections <= 8


def test_a_client_nobody_holds_closes_its_connections(service):
    there = service(said(200, FINE))
    reader = Transport("probe", there.url)
    reader.get("/")
    inside = reader._client
    del reader
    gc.collect()
    assert inside.is_closed


# options


@pytest.mark.parametrize(
    "address",
    [
        *(None, 9090, "prometheus:9090", "ftp://x", "http://", "", "http://[::1", "http://a\nb"),
        *(f"http://me:{KEY}@x", f"me:{KEY}@x:80", f"{KEY}@x", f"http://x/?key={KEY}", f"http://x/#{KEY}", f"//x?{KEY}"),
    ],
)
def test_an_address_that_cannot_be_used_or_holds_a_secret_is_a_configuration_error(address):
    with pytest.raises(ConfigError) as caught:
        Transport("probe", address)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, "10", None, True, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_a_configuration_error(seconds):
    with pytest.raises(ConfigError, match="timeout_s"):
        Transport("probe", "http://127.0.0.1", timeout_s=seconds)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("patience_s", [-1, "10", None, True, math.nan, math.inf]),
        ("per_minute", [0, -1, "10", True, math.nan, math.inf]),
        ("concurrent", [0, 0.5, "8", None, True, math.inf]),
    ],
)
def test_a_number_that_cannot_be_used_is_a_configuration_error(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=f"{name} = .*: expected"):
            Transport("probe", "http://127.0.0.1", **{name: value})


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_holds_no_certificates_is_a_configuration_error(tmp_path, content):
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ConfigError, match="no file of certificates"):
        Transport("probe", "https://127.0.0.1", ca=str(file))


@pytest.mark.parametrize("value", [f"{KEY}\r\nX-Evil: 1", f" {KEY}", f"{KEY}é", f"{KEY}\0"])
def test_a_secret_that_no_header_can_carry_is_named_by_its_header_only(service, client, value):
    there = service(said(200, FINE))
    with pytest.raises(ConfigError, match="header Authorization") as caught:
        client(there.url, headers={"Authorization": value}).get("/")
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert there.connections == 0


def test_a_path_with_control_letters_is_a_configuration_error(service, client):
    for path in ("/a\nb", "/\ud800"):
        with pytest.raises(ConfigError, match="is no path on"):
            client(service(said(200)).url).get(path)


def test_a_secret_is_read_anew_for_each_request_and_asked_for_when_missing(service, client, monkeypatch):
    there = service(said(200, FINE))
    reader = client(there.url, headers=lambda: {"X-Key": transport.secret("PROBE_KEY", "probe")})
    with pytest.raises(ConfigError, match="environment variable PROBE_KEY is not set"):
        reader.get("/")
    for value in ("one", "two\n"):
        monkeypatch.setenv("PROBE_KEY", value)
        reader.get("/")
    assert [b"X-Key: one" in there.requests[0], b"X-Key: two\r\n" in there.requests[1]] == [True, True]


# secrets


@pytest.fixture
def written():
    """All that any logger writes, down to DEBUG, however the loggers were set; with tracebacks and extra fields."""

    class Everything(logging.Formatter):
        def format(self, record):
            return f"{super().format(record)} {record.__dict__}"

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Everything("%(name)s %(message)s"))
    here = threading.get_ident()
    handler.addFilter(lambda record: record.thread == here)  # not what the servers above write
    names = [None, *wire.CHATTY.split(), "httpcore", "hpack", "h2"]
    levels = [(logger := logging.getLogger(name), logger.level) for name in names]
    for logger, _ in levels:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)
    for logger, level in levels:
        logger.setLevel(level)


def speak_http2(link, _request=None):
    """Answer one request with a cookie and a status 200, over HTTP/2."""
    talk = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=False))
    talk.initiate_connection()
    link.sendall(talk.data_to_send())
    while data := link.recv(65536):
        for event in talk.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                fields = [(":status", "200"), ("set-cookie", KEY), ("content-length", str(len(FINE)))]
                talk.send_headers(event.stream_id, fields)
                talk.send_data(event.stream_id, FINE, end_stream=True)
        link.sendall(talk.data_to_send())


@pytest.fixture
def http2(certificate):
    server, context = socket.create_server(("127.0.0.1", 0)), tls(certificate, "h2")

    def serve():
        with contextlib.suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as link:
            link.settimeout(0.5)
            speak_http2(link)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://localhost:{server.getsockname()[1]}"
    server.close()
    thread.join(5)


def test_no_secret_is_written_whatever_happens(
    service, client, proxy, certificate, http2, written, monkeypatch, no_pauses
):
    monkeypatch.setenv("PROBE_KEY", KEY)
    headers = {"Authorization": f"Bearer {KEY}", "X-Key": KEY}
    plain = [
        service(said(200, FINE, Set_Cookie=f"session={KEY}")),
        service(said(302, Location=f"http://localhost/{KEY}?{KEY}")),
        service(said(401, KEY.encode(), WWW_Authenticate=KEY)),
        service(said(500, KEY.encode())),
        service(said(429, KEY.encode(), Retry_After=9, RateLimit_Policy=KEY)),
        service(said(403, SECONDARY + KEY.encode(), Retry_After=KEY)),
        service(said(200, FINE, Link=f"<http://{KEY}.example/{KEY}>; rel=next")),
        service(said(200, KEY.encode(), Content_Type=f"text/html; {KEY}")),
        service(lambda link, _: link.sendall(f"{KEY}\r\n\r\n".encode())),
        service(said(200, b"nonsense", Content_Encoding="gzip", X_Key=KEY)),
        service(silence),
    ]
    addresses = [there.url for there in plain] + [service(said(200), context=tls(certificate)).url]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addresses.append(f"http://127.0.0.1:{taken.getsockname()[1]}")  # closed below: refused
    failed = []
    for address in addresses:
        reader = client(
            address,
            headers=lambda: headers,
            timeout_s=0.05 if address == plain[-1].url else 0.3,
            searches=("/search",),
            hidden=(KEY,),
            patience_s=60,
            notify=lambda line: print(line, file=written),
        )
        for ask in (
            lambda reader: reader.get(f"/hooks/{KEY}", {"token": KEY}).json(),
            lambda reader: reader.ask("/search", {"token": KEY}, body={"token": KEY}).link(),
            lambda reader: reader.call("POST", "/search", form={"token": KEY}, body=None).json(),
            lambda reader: reader.call("PUT", f"/hooks/{KEY}", body={"token": KEY}),
        ):
            try:
                print(repr(ask(reader)), repr(reader), file=written)
            except FeedbackError as error:
                failed.append(error)
                print("".join(traceback.format_exception(error)), repr(error), error.__dict__.keys(), file=written)
                logging.getLogger("probe").exception("failed")
    assert {type(error) for error in failed} == {TransportError, ReadOnlyError}
    through = f"http://me:{KEY}@127.0.0.1:"
    for between in (proxy(), proxy(said(407, KEY.encode())), proxy(lambda link, _: link.sendall(KEY.encode()))):
        reader = client(http2, headers=headers, ca=f"{certificate}.crt", proxy=f"{through}{between.port}")
        try:
            reply = reader.get("/", {"token": KEY})
        except TransportError as error:
            print("".join(traceback.format_exception(error)), error.__dict__.keys(), repr(reader), file=written)
            logging.getLogger("probe").exception("failed")
    print(repr(reply), file=written)
    assert reply.json() == {"fine": True}
    assert reply.headers["set-cookie"] == "[token]", "it was HTTP/2 and the key was there to be written"
    text = written.getvalue()
    assert "kind=probe method=GET host=127.0.0.1:" in text
    assert "path=/hooks/[token] status=200" in text
    assert "waits 9 s: probe's rate limit" in text
    assert "wants other credentials" in text
    assert KEY not in text


def test_other_users_of_the_same_libraries_keep_their_logs(service, client, written):
    there = service(said(200, FINE))
    client(there.url).get("/ours")
    with httpx.Client() as other:
        other.get(f"{there.url}/theirs")
    assert "/theirs" in written.getvalue()
    assert "httpx HTTP Request" in written.getvalue()
    assert [
        line for line in written.getvalue().splitlines() if "/ours" in line and not line.startswith("feedback")
    ] == []
