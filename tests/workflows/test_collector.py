"""The receiving end: what it takes, what it refuses, what survives, and what it tells of many."""

import http.client
import itertools
import json
import random
import re
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

import pytest
from collecting import Collector, digits, entry, payload
from commands import called

from feedback_lib.analysis.patterns import Thresholds
from feedback_lib.errors import ConfigError
from feedback_lib.workflows import all_users, collected, collector, entries, settings

FREE = ("--rate", 1_000_000)
JSON_HEAD = b"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CUSTOM = "custom:0123abcd"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One for all tests that only ask; each sends workflows of its own."""
    with Collector(tmp_path_factory.mktemp("collected") / "collected.sqlite", *FREE, "--max-kb", 64) as one:
        yield one


def rows(path, what="*"):
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT {what} FROM entries").fetchall()
    connection.close()
    return found


# --- what it takes ---


def test_an_entry_is_accepted_once_and_known_from_then_on(running):
    before = running.entries()
    assert running.send(entry("once")).json() == {"accepted": 1, "known": 0, "refused": []}
    assert running.send(entry("once")).json() == {"accepted": 0, "known": 1, "refused": []}
    twice = running.send(entry("twice"), entry("twice"), installation="other")
    assert twice.json() == {"accepted": 1, "known": 1, "refused": []}
    assert running.entries() == before + 2


def test_nothing_to_send_is_fine(running):
    assert running.send().json() == {"accepted": 0, "known": 0, "refused": []}


def test_a_later_version_replaces_and_an_older_one_does_not(tmp_path):
    path = tmp_path / "collected.sqlite"
    held = collected.Collected(path)

    def taken(**changes):
        told = held.take([(digits("me"), [entry(**changes)])])[0]
        return told.accepted, told.known, json.loads(rows(path, "content")[0][0])["duration_seconds"]

    assert taken(duration_seconds=100) == (1, 0, 100)
    assert taken(timestamp="2026-01-12", duration_seconds=90) == (1, 0, 90)  # later by a day
    assert taken(timestamp="2026-01-11", duration_seconds=999) == (0, 1, 90)  # sent again late
    assert taken(timestamp="2026-01-12", duration_seconds=89) == (0, 1, 90)  # of the same day, with less in it
    assert taken(timestamp="2026-01-12", duration_seconds=90, mode="interactive") == (1, 0, 90)
    assert taken(timestamp="2026-01-12", duration_seconds=91) == (1, 0, 91)
    assert held.entries == len(rows(path)) == 1
    held.close()


def test_nobody_replaces_what_somebody_else_sent(running):
    running.send(entry("mine"), installation="owner")
    told = running.send(entry("not mine"), entry("mine", timestamp="2027-01-01"), installation="thief")
    refused = [{"index": 1, "field": "workflow_id_hash", "reason": "another installation sent this workflow"}]
    assert (told.status, told.json()) == (200, {"accepted": 1, "known": 0, "refused": refused})
    assert running.send(entry("mine"), installation="owner").json()["known"] == 1


def test_good_entries_are_kept_and_bad_ones_named(running):
    bad = entry("bad", tool_suggestions="write to jane.doe@example.org")
    told = running.send(bad, entry("good"), {"workflow_id_hash": digits("half")}, 7)
    assert told.status == 200
    assert told.json()["accepted"] == 1
    assert [(one["index"], one["field"]) for one in told.json()["refused"]] == [
        (0, "tool_suggestions"),
        (2, "timestamp"),
        (3, ""),
    ]
    assert b"jane" not in told.body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool_suggestions", "mail jane.doe@example.org"),
        ("tool_suggestions", "see /home/jane/project/main.py"),
        ("tool_suggestions", "the token ghp_0123456789abcdefABCDEF0123 fails"),
        ("tool_suggestions", "half \ud800"),
        ("orchestrator_errors", ["failed on build7.corp.example.com"]),
        ("items_skipped", ["terraform_plan_of_acme"]),
        ("confusing_items", ["our_secret_item"]),
        ("phases", {"ACME": 3}),
        ("phases", {"PLAN": -1}),
        ("phases", {"PLAN": True}),
        ("timestamp", "2026-01-11T10:30:00Z"),
        ("workflow_id_hash", "wf_ce03679d"),
        ("orchestrator_version", "2.6.0+jane"),
        ("repo_type", "github.com/jane/my-api"),
        ("duration_seconds", 1.5),
        ("duration_seconds", 10**30),
        ("duration_seconds", 1234),
        ("phases", {"PLAN": 301}),
        ("items_skipped_pct", 2),
        ("mode", "auto "),
        ("repo", "github.com/jane/my-api"),
        ("synced_at", "2026-01-11T10:30:00Z"),
    ],
)
def test_what_is_personal_or_not_the_schema_is_refused_without_repeating_it(running, field, value):
    before = running.entries()
    told = running.send(entry("refused", **{field: value}))
    assert told.status == 422
    assert [one["index"] for one in told.json()["refused"]] == [0]
    for word in re.findall(r"\w{4,}", json.dumps(value)):
        assert word not in {"jane", "acme", "corp"} or word.encode() not in told.body
    assert running.entries() == before


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, ""),
        (b"{", 400, ""),
        (b"\xff\xfe{}", 400, ""),
        (b"\xef\xbb\xbf{}", 400, ""),
        (b'{"schema": NaN}', 400, ""),
        (b"1" * 5000, 400, ""),
        (b"[" * 60_000, 422, ""),
        (b'{"a":' * 9_000, 422, ""),
        (b"null", 422, ""),
        (b"[]", 422, ""),
        (b'{"schema": 1, "schema": 1}', 422, ""),
        (payload(schema=0), 422, "schema"),
        (payload(schema=2), 422, "schema"),
        (payload(schema=True), 422, "schema"),
        (payload(schema="1"), 422, "schema"),
        ({"entries": []}, 422, "schema"),
        (payload(repo="x"), 422, ""),
        (payload(entries={}), 422, "entries"),
        (payload(entries=[1] * 501), 413, "entries"),
        ({**payload(), "installation": "jane"}, 422, "installation"),
        ({**payload(), "installation": 5}, 422, "installation"),
    ],
)
def test_what_is_not_the_schema_is_told_by_field(running, body, status, field):
    told = running.ask(body=body)
    assert told.status == status
    assert [(one["index"], one["field"]) for one in told.json()["refused"]] == [(None, field)]


def test_an_older_client_is_told_what_is_known(running):
    told = running.ask(body=payload(entry(), schema=0)).json()
    assert told["known_schemas"] == [1]
    assert "schema 1" in told["error"]


# --- what comes over a network ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "identity"}, 200),
    ],
)
def test_only_plain_json_is_read(running, headers, status):
    told = running.ask(body=payload(), headers=headers)
    assert told.status == status
    assert ("error" in told.json()) == (status != 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/submit", 405),
        ("HEAD", "/submit", 405),
        ("OPTIONS", "/submit", 405),
        ("DELETE", "/submit", 405),
        ("HEAD", "/healthz", 200),
        ("POST", "/healthz", 405),
        ("POST", "/submit/", 404),
        ("GET", "/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/submit%00", 404),
    ],
)
def test_other_methods_and_places_are_answered_shortly(running, method, path, status):
    told = running.ask(method, path)
    assert told.status == status
    assert status != 405 or told.headers["allow"] in ("POST", "GET, HEAD", "HEAD, GET")
    assert len(told.body) < 200


def test_a_body_in_chunks_is_read_like_any_other(running):
    content = json.dumps(payload(entry("chunks"))).encode()
    parts = (content[at : at + 7] for at in range(0, len(content), 7))
    assert running.ask(body=parts, encode_chunked=True).json()["accepted"] == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_the_sender_hears_it(running, chunked):
    exactly = json.dumps(payload()).encode().ljust(64 * 1024)
    for content, status in ((exactly, 200), (exactly + b" ", 413)):
        body = iter([content]) if chunked else content
        headers = {"Transfer-Encoding": "chunked"} if chunked else {}
        told = running.ask(body=body, headers=headers, encode_chunked=chunked)
        assert told.status == status
    assert told.headers["connection"] == "close"


def test_a_body_without_end_is_cut_off(running):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    sent = 0
    with socket.create_connection((running.address.hostname, running.address.port), timeout=20) as line:
        line.sendall(head)
        with pytest.raises(OSError):  # reset, or a broken pipe
            for sent in range(2_000):  # noqa: B007
                line.sendall(chunk)
    assert sent < 500  # 4 times the limit, and what the sockets hold
    assert running.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000,
        b"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01garbage\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_garbage_ends_its_connection_and_nothing_else(running, content):
    answer = running.raw(content)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    assert answer.count(b'"status":"ok"') == content.count(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    assert running.ask("GET", "/healthz").status == 200


def test_a_head_or_body_that_never_ends_is_given_up(tmp_path):
    """Whatever trickles in does not prolong the time."""
    script = (
        "import sys, pathlib\nfrom feedback_lib.workflows import collector\n"
        "collector.serve(pathlib.Path(sys.argv[1]), port=0, limits=collector.Limits(head_s=0.5, read_s=0.5), "
        "tell=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "c.sqlite"], stdout=subprocess.PIPE) as process:
        port = int(re.search(rb":(\d+)/submit", process.stdout.readline())[1])
        head = JSON_HEAD + b"Content-Length: 999\r\n\r\n"
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        answers = {}
        for name, begun, drip in (
            ("head", b"POST /submit HTT", b"P"),
            ("body", head, b" "),
            ("second head", first, b"G"),
            ("nothing", b"", b""),
            ("body nobody reads", b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b" "),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=0.1) as line:
                line.sendall(begun)
                answer, end = b"", time.monotonic() + 8
                while time.monotonic() < end:
                    try:
                        part = line.recv(65536)
                        if not part:
                            break
                        answer += part
                    except TimeoutError:
                        line.sendall(drip)
                    except ConnectionError:
                        break
                answers[name] = (answer[9:12], end - time.monotonic() > 1)
        process.terminate()
        assert process.wait(30) == 0
    assert answers == {
        "head": (b"", True),
        "body": (b"408", True),
        "second head": (b"200", True),
        "nothing": (b"", True),
        "body nobody reads": (b"200", True),
    }


# --- who may send ---


def test_too_many_requests_are_told_when_to_come_back(tmp_path):
    with Collector(tmp_path / "c.sqlite", "--rate", 3) as one:
        told = [one.send() for _ in range(4)]
        assert [t.status for t in told] == [200, 200, 200, 429]
        assert 1 <= int(told[-1].headers["retry-after"]) <= 21
        assert one.ask("GET", "/healthz").status == 200
        # the first of several addresses is the sender's own invention, and counts only behind a proxy
        assert one.ask(body=payload(), headers={"X-Forwarded-For": "203.0.113.9"}).status == 429


def test_behind_a_proxy_each_address_has_its_own_budget_and_each_installation_one_over_all(tmp_path):
    with Collector(tmp_path / "c.sqlite", "--rate", 2, "--forwarded") as one:

        def status(address, installation):
            headers = {"X-Forwarded-For": f"198.51.100.1, {address}"}
            return one.ask(body=payload(installation=installation), headers=headers).status

        assert [status("203.0.113.9", str(n)) for n in range(3)] == [200, 200, 429]
        assert [status("2001:db8::1", "a"), status("2001:db8::2", "b"), status("2001:db8::3", "c")] == [200, 200, 429]
        assert [status(f"203.0.113.{n}", "same") for n in (1, 2, 3)] == [200, 200, 429]


def test_a_large_request_counts_as_several(tmp_path):
    """Else one sender could keep the checks busy with the largest ones all the time."""
    large = json.dumps(payload(entry())).encode() + b" " * 200 * 1024
    with Collector(tmp_path / "c.sqlite", "--rate", "10") as running:
        assert [running.ask(body=large).status for _ in range(3)] == [200, 200, 429]
        assert [running.send(entry()).status for _ in range(2)] == [200, 429]
    for rate in ("1", "2", "3"):
        with Collector(tmp_path / "c.sqlite", "--rate", rate) as running:
            assert [running.ask(body=large).status for _ in range(2)] == [200, 429]
    buckets = collector._Buckets(10)
    assert [buckets.wait_s("a", 0.0, 4) for _ in range(3)] == [0, 0, 12]


def test_a_budget_comes_back_with_time_and_memory_is_bounded():
    buckets = collector._Buckets(60, most=100)
    assert [buckets.wait_s("a", 0.0) for _ in range(61)] == [0.0] * 60 + [1.0]
    assert buckets.wait_s("a", 0.5) == 0.5
    assert buckets.wait_s("a", 1.0) == 0.0
    assert buckets.wait_s("a", 1.0) == 1.0
    for n in range(1_000):
        buckets.wait_s(f"other {n}", 2.0)
    assert len(buckets) == 100
    assert not any(b"other" in key for key in buckets._held)


def test_a_token_is_asked_for_when_there_is_one(tmp_path):
    with Collector(tmp_path / "c.sqlite", env={"COLLECTOR_TOKEN": "s3cret-of-ours"}) as one:
        shown = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret-of-ours"}]
        assert [one.ask(body=payload(), headers=h).status for h in shown] == [403, 403, 403]
        assert one.ask(body=payload(), headers={"Authorization": "Bearer s3cret-of-ours"}).status == 200
        _, out, err = one.end()
    assert "s3cret" not in out + err


# --- what stays ---


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    path = tmp_path / "c.sqlite"
    acknowledged, lock = [], threading.Lock()
    with Collector(path, *FREE) as one:

        def load(sender):
            for n in range(500):
                names = [f"{sender}-{n}-{m}" for m in range(3)]
                try:
                    told = one.send(*map(entry, names), installation=sender)
                except (OSError, http.client.HTTPException):  # also half of an answer
                    return
                assert told.json()["accepted"] == 3
                with lock:
                    acknowledged.extend(names)

        threads = [threading.Thread(target=load, args=(f"sender {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 30
        while len(acknowledged) < 150 and time.monotonic() < end:
            time.sleep(0.005)
        one.process.kill()
        for thread in threads:
            thread.join()
    assert 150 <= len(acknowledged) < 4 * 500 * 3
    assert len(acknowledged) <= len(rows(path)) <= len(acknowledged) + 4 * 3
    with Collector(path, *FREE) as again:  # what was acknowledged is known, the rest is taken now
        for sender in range(4):
            mine = [name for name in acknowledged if name.startswith(f"sender {sender}-")]
            told = again.send(*map(entry, mine), installation=f"sender {sender}").json()
            assert told == {"accepted": 0, "known": len(mine), "refused": []}
        code, out, _ = again.end()
    assert code == 0
    assert "Stopped." in out
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_what_is_under_way(tmp_path, number):
    with Collector(tmp_path / "c.sqlite") as one:
        content = json.dumps(payload(entry("last"))).encode()
        head = JSON_HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode()
        with socket.create_connection((one.address.hostname, one.address.port), timeout=20) as line:
            line.sendall(head + content[:50])
            time.sleep(0.3)
            one.process.send_signal(number)
            time.sleep(0.3)
            line.sendall(content[50:])
            assert b'"accepted":1' in b"".join(iter(lambda: line.recv(65536), b""))
        code, out, _ = one.end()
    assert code == 0
    assert out.endswith("Stopped.\n")
    assert len(rows(tmp_path / "c.sqlite")) == 1


def test_neither_file_nor_log_tells_who_sent_what(tmp_path):
    path = tmp_path / "c.sqlite"
    with Collector(path, *FREE, "--forwarded") as one:
        secret = "mail jane.doe@example.org"
        one.ask(
            path="/submit?who=jane",
            body=payload(entry("a", tool_suggestions="Phase 0 was helpful")),
            headers={"X-Forwarded-For": "203.0.113.77", "User-Agent": "agent-of-jane"},
        )
        one.ask(body=payload(entry("b", tool_suggestions=secret)), headers={"X-Forwarded-For": "203.0.113.77"})
        one.ask("GET", "/jane")
        one.raw(b"jane garbage\r\n\r\n")
        held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        _, out, err = one.end()
    held += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for word in ("jane", "203.0.113", "127.0.0.1", digits("me"), digits("a"), digits("b")):
        assert word.encode() not in held
        assert bytes.fromhex(word) not in held if re.fullmatch("[0-9a-f]{32}", word) else True
        assert word not in err
    assert "jane" not in out
    assert not re.search(rb"\d\d:\d\d", held)  # no time of day
    assert path.stat().st_mode & 0o077 == 0
    lines = [json.loads(line)["message"] for line in err.splitlines()]
    assert [line.split()[:5] for line in lines] == [
        ["route=submit", "status=200", lines[0].split()[2], "accepted=1", "known=0"],
        ["route=submit", "status=422", lines[1].split()[2], "accepted=0", "known=0"],
        ["route=other", "status=404", "bytes=0", "accepted=0", "known=0"],
        ["route=none", "status=400", "bytes=0", "accepted=0", "known=0"],
    ]


def test_two_collectors_can_share_a_file(tmp_path):
    path = tmp_path / "c.sqlite"
    with Collector(path, *FREE) as one, Collector(path, *FREE) as two:

        def load(to):
            for n in range(20):
                assert to.send(entry(str(n))).status == 200

        threads = [threading.Thread(target=load, args=(to,)) for to in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(rows(path)) == 20


def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path):
    text = tmp_path / "text.sqlite"
    text.write_bytes(b"These are somebody's notes, not a database. " * 100)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (a)")
    connection.close()
    before = other.read_bytes(), text.read_bytes()
    for path in (text, other, tmp_path):
        said = "Is a directory" if path == tmp_path else "is no file of feedback collect"
        with pytest.raises(ConfigError, match=rf"{path.name}: {said}.*--data"):
            collected.Collected(path)
        said = "no such file" if path == tmp_path else said
        with pytest.raises(ConfigError, match=rf"{said}.*--data"):
            all_users.patterns(path)
    assert (other.read_bytes(), text.read_bytes()) == before


def test_a_newer_file_is_refused(tmp_path):
    path = tmp_path / "c.sqlite"
    collected.Collected(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(ConfigError, match="is of version 2, and this program knows 1; use a newer one"):
        collected.Collected(path)


def test_when_nothing_can_be_written_the_sender_is_asked_to_come_back(tmp_path):
    path = tmp_path / "c.sqlite"
    with Collector(path, *FREE) as one:
        assert one.send(entry("a")).status == 200
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE entries")
        connection.close()
        told = one.send(entry("b"))
        assert (told.status, told.headers["retry-after"]) == (503, "60")
        assert one.ask("GET", "/healthz").status == 503
        _, _, err = one.end()
    assert "nothing could be written" in err
    assert "Traceback" not in err


def test_a_damaged_row_stops_neither_the_collector_nor_the_next_sender(tmp_path):
    path = tmp_path / "c.sqlite"
    with Collector(path, *FREE) as one:
        assert one.send(entry("a"), entry("b")).status == 200
        connection = sqlite3.connect(path)
        connection.execute("UPDATE entries SET day = x'00'")
        connection.commit()
        connection.close()
        assert one.send(entry("a", timestamp="2026-02-01", tool_suggestions="Damaged words")).status == 503
        assert one.send(entry("c"), installation="other").json()["accepted"] == 1
        code, _, err = one.end()
    assert code == 0
    assert "Traceback" not in err
    assert "Damaged" not in err


def test_a_full_file_takes_nothing_more_and_loses_nothing(tmp_path):
    path = tmp_path / "c.sqlite"
    held = collected.Collected(path, max_mb=1)
    told = 0
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for n in range(200):
            batch = [entry(f"{n} {m}", tool_suggestions="Reviews take long. " * 100) for m in range(10)]
            told += held.take([(digits("me"), batch)])[0].accepted
    assert 100 < told < 1000
    assert len(rows(path)) == held.entries == told
    assert held.take([(digits("me"), [entry("0 0", tool_suggestions="Reviews take long. " * 100)])])[0].known == 1
    held.close()
    assert path.stat().st_size <= 1024 * 1024


# --- what many say together ---

ITEM, OTHER = "visual_regression_test", "update_knowledge_base"


def file_of(tmp_path, *installations):
    """A collector's file with what installations sent: a list of entries each."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
    held = collected.Collected(path)
    named = [
        (f"installation {number}", [e | {"workflow_id_hash": digits(f"{number} {at}")} for at, e in enumerate(sent)])
        for number, sent in enumerate(installations)
    ]
    held.take([(digits(name), sent) for name, sent in named])
    held.close()
    return path


def shown(tmp_path, *installations, **options):
    return all_users.patterns(file_of(tmp_path, *installations), Thresholds(**options))


def by_kind(found, kind):
    return {pattern.key: (pattern.count, pattern.of) for pattern in found.patterns if pattern.kind == kind}


def test_four_installations_are_too_few_and_five_are_enough(tmp_path):
    four = shown(tmp_path, *[[entry(items_skipped=[ITEM])] * 9] * 4)
    assert four.text() == "Too few installations have sent feedback: nothing is shown of fewer than 5."
    assert four.to_dict()["installations"] is None
    assert (four.patterns, four.phases, four.versions) == ((), (), ())
    assert shown(tmp_path).text() == four.text()
    five = shown(tmp_path, *[[entry(items_skipped=[ITEM])]] * 5)
    assert by_kind(five, "skip") == {ITEM: (5, 5)}
    assert shown(tmp_path, *[[entry(items_skipped=[ITEM])]] * 5, k=6).installations is None
    assert shown(tmp_path, *[[entry(items_skipped=[ITEM])]] * 4, k=1).installations is None


def test_an_installation_counts_once_whatever_it_sent(tmp_path):
    loud = [entry(items_skipped=[ITEM], orchestrator_errors=["prd spawn failed"])] * 50
    quiet = [entry()]
    found = shown(tmp_path, loud, *[quiet] * 9)
    assert found.installations == 10
    assert by_kind(found, "skip") == by_kind(found, "error") == {}


def test_what_an_installation_usually_does_counts(tmp_path):
    half = [entry(items_skipped=[ITEM, OTHER]), entry(items_skipped=[ITEM]), entry(), entry()]
    assert by_kind(shown(tmp_path, *[half] * 5), "skip") == {ITEM: (5, 5)}  # OTHER in a quarter


@pytest.mark.parametrize(("count", "expected"), [(4, {}), (5, {(5, 10)}), (6, {(6, 10)}), (10, {(6, 10)})])
def test_an_error_is_shown_from_five_installations_on(tmp_path, count, expected):
    failing = [entry(orchestrator_errors=["orchestrator prd spawn: command not found"])]
    found = shown(tmp_path, *[failing] * count, *[[entry()]] * (10 - count))
    assert set(by_kind(found, "error").values()) == set(expected)
    assert ("prd spawn" in found.text()) == bool(expected)
    assert ("prd spawn" in json.dumps(found.to_dict())) == bool(expected)


def test_the_sentences_of_the_review_speak_of_installations(tmp_path):
    failing = [entry(orchestrator_errors=["orchestrator prd spawn: command not found"], items_skipped=[ITEM])]
    other = [entry(phase0_guidance_used=False, items_skipped=[ITEM], reviews_worked=None)]
    text = shown(tmp_path, *[failing] * 34, *[other] * 6).text()
    assert "all users, 40–44 installations" in text
    assert f"Often skipped: {ITEM} (at least 36 of 40–44 installations)" in text
    assert "Phase 0 guidance helpful (at least 30 of 40–44 installations)" in text
    assert "prd spawn" in text
    assert "workflows" not in text
    assert "PLAN: 5min–10min" in text
    assert "2.6.0: at least 36 of 40–44 installations" in text


def test_shown_numbers_lead_to_no_small_group():
    """Of all worlds of up to 6 k installations: those that look alike never agree on a group of 1 to k - 1."""
    for k in (5, 6):
        alike = {}
        for yes, no, silent in itertools.product(range(6 * k), repeat=3):
            all_ = yes + no + silent
            if all_ < 6 * k and (told := all_users.shares(yes, no, silent, k)):
                alike.setdefault((all_ // k * k, *told), []).append((yes, no, silent))
        assert len(alike) > 30
        for (_, count, of), worlds in alike.items():
            assert of % k == 0
            assert all(k <= count <= yes for yes, _, _ in worlds)
            others = {no + silent for _, no, silent in worlds}
            assert min(others) == 0 or min(others) >= k
            for group in (1, 2):
                assert not all(0 < world[group] < k for world in worlds)


def test_guidance_that_helped_hardly_anybody_is_told_as_such(tmp_path):
    told = [[entry(phase0_guidance_used=n < 3)] for n in range(30)]
    text = shown(tmp_path, *told).text()
    assert "Phase 0 guidance not helpful (at least 26 of 30–34 installations)" in text


def test_who_tells_nothing_is_left_out_when_they_are_many(tmp_path):
    told = [[entry(phase0_guidance_used=n < 20)] for n in range(30)]
    silent = [[entry(phase0_guidance_used=None)]]
    many = shown(tmp_path, *told, *silent * 30).text()
    assert "Phase 0 guidance helpful (at least 20 of 30–34 installations that tell)" in many
    few = shown(tmp_path, *told, *silent * 4).text()
    assert "Phase 0 guidance helpful (at least 20 of 30–34 installations)" in few


def test_a_share_is_told_where_the_steps_make_little_of_it(tmp_path):
    skipping = [[entry(items_skipped=[ITEM])]] * 46 + [[entry()]] * 8
    assert f"Often skipped: {ITEM} (at least 45 of 50–54 installations, about 90%)" in shown(tmp_path, *skipping).text()


def test_in_no_world_is_shown_what_fewer_than_five_say(tmp_path):
    """Random worlds: every text and version that is shown was sent by five, every count is at most the true one."""
    chance = random.Random(7)
    errors = [
        f"orchestrator {verb} failed: {what}" for verb in ("prd spawn", "finish") for what in ("no state", "full")
    ]
    items = (ITEM, OTHER, "refactoring_assessment", "backport_improvements", CUSTOM)
    for _ in range(40):
        often = chance.choice((0.2, 0.5, 0.9))
        sent = [
            [
                entry(
                    items_skipped=[one for one in items if chance.random() < often],
                    confusing_items=[one for one in items if chance.random() < 0.3],
                    orchestrator_errors=[one for one in errors if chance.random() < often / 2],
                    phases={p: int(10 ** chance.uniform(0, 5)) for p in ("PLAN", "LEARN") if chance.random() < often},
                    phase0_guidance_used=chance.choice((True, True, False, None)),
                    reviews_worked=chance.choice((True, False, None)),
                    orchestrator_version=chance.choice(("1.1", "2.2", "3.3")),
                )
                for _ in range(chance.randint(1, 3))
            ]
            for _ in range(chance.randint(5, 24))
        ]
        found = shown(tmp_path, *sent)
        told = found.text() + json.dumps(found.to_dict())

        def senders(says, sent=sent):
            return sum(any(says(one) for one in mine) for mine in sent)

        for item in items:
            if item in told:
                assert senders(lambda e, i=item: i in e["items_skipped"] + e["confusing_items"]) >= 5
        for error in errors:
            if error in told:
                assert senders(lambda e, x=error: x in e["orchestrator_errors"]) >= 5
        for phase in found.phases:
            low, high = phase["from_s"], phase["to_s"] or 10**9
            assert senders(lambda e, p=phase["phase"]: p in e["phases"]) >= phase["count"] >= 5
            medians = [[e["phases"][phase["phase"]] for e in mine if phase["phase"] in e["phases"]] for mine in sent]
            assert sum(low <= statistics.median(lasted) < high for lasted in medians if lasted) >= 5
        for version in found.versions:
            assert senders(lambda e, v=version["version"]: e["orchestrator_version"] == v) >= version["count"] >= 5
        for pattern in found.patterns:
            assert 5 <= pattern.count <= pattern.of <= len(sent)
            assert pattern.of % 5 == 0
            if pattern.kind == "skip":
                assert senders(lambda e, i=pattern.key: i in e["items_skipped"]) >= pattern.count


def test_one_installation_of_a_group_cannot_be_singled_out(tmp_path):
    """Its days, durations, items and words are known to the attacker; the review is the same without them."""
    usual = [
        [
            entry(
                timestamp=f"2026-01-{n + 1:02}",
                duration_seconds=3000 + n,
                items_skipped=[ITEM],
                phases={"PLAN": 310 + n, "EXECUTE": 700 + 11 * n},
            )
        ]
        for n in range(20)
    ]
    known = entry(
        timestamp="2026-02-28",
        duration_seconds=86_399,
        items_skipped=[ITEM, OTHER, CUSTOM],
        confusing_items=[CUSTOM],
        orchestrator_errors=["KeyError: <str> in a rare place"],
        phases={"PLAN": 54_321, "CUSTOM": 17, "EXECUTE": 700},
        orchestrator_version="9.9.9",
        repo_type="rust",
        phase0_guidance_used=False,
        reviews_worked=False,
        tool_suggestions="Something only this one says",
    )
    with_it = shown(tmp_path, *usual, [known])
    plain = entry(items_skipped=[ITEM], phases={"PLAN": 315, "EXECUTE": 700})
    without = shown(tmp_path, *usual, [plain])
    assert with_it.text() == without.text()
    assert with_it.to_dict() == without.to_dict()
    everything = with_it.text() + json.dumps(with_it.to_dict())
    for word in (OTHER, "custom", "CUSTOM", "KeyError", "9.9.9", "rust", "Something", "54321", "2026", "86399", "3000"):
        assert word not in everything
    assert not re.search(r"[0-9a-f]{32}", everything.replace(json.dumps([p.key for p in with_it.patterns]), ""))


def test_two_spellings_of_an_error_do_not_bring_up_the_rare_one(tmp_path):
    """They are the same error, but only what five wrote alike is shown, and counted."""
    common = [entry(orchestrator_errors=["ValueError: cannot read line 5"])]
    rare = [entry(orchestrator_errors=["ValueError: cannot read line 7"])]
    found = shown(tmp_path, *[common] * 6, *[rare] * 4, *[[entry()]] * 10)
    assert list(by_kind(found, "error").values()) == [(5, 20)]
    assert "line 7" not in found.text() + json.dumps(found.to_dict())
    assert by_kind(shown(tmp_path, *[rare] * 4, *[[entry()]] * 10), "error") == {}


@pytest.mark.parametrize(
    ("seconds", "span"),
    [
        ([60] * 5, (60, 120)),
        ([59] * 5, (0, 60)),
        ([0] * 5, (0, 60)),
        ([700_000] * 5, (604_800, None)),
        ([61, 130, 310, 610, 1300], (0, None)),
        ([100] * 4 + [130, 130, 130, 130, 9000], (60, 600)),
    ],
)
def test_a_phase_is_shown_by_fixed_edges_that_hold_five(tmp_path, seconds, span):
    found = shown(tmp_path, *[[entry(phases={"PLAN": s})] for s in seconds])
    (phase,) = found.phases
    low, high = phase["from_s"], phase["to_s"]
    assert sum(low <= s and (high is None or s < high) for s in seconds) >= 5
    if span != (0, None):
        assert (low, high) == span


def test_versions_leave_no_small_rest(tmp_path):
    def versions(*counts):
        sent = [[entry(orchestrator_version=f"1.{n}")] for n, count in enumerate(counts) for _ in range(count)]
        return {v["version"]: v["count"] for v in shown(tmp_path, *sent).versions}

    assert versions(14, 14) == {"1.0": 10, "1.1": 10}
    assert versions(14, 14, 2) == {"1.0": 10}  # 1.1 is left out, so that the rest is 16, not 2
    assert versions(14, 2) == versions(15) == {"1.0": 11}
    assert versions(4, 4, 4) == {}


def test_the_newest_entry_tells_the_version(tmp_path):
    sent = [entry(timestamp="2026-03-01", orchestrator_version="3.0"), entry(orchestrator_version="1.0")]
    assert [v["version"] for v in shown(tmp_path, *[sent] * 5).versions] == ["3.0"]


def test_a_file_in_use_can_be_reviewed(tmp_path):
    path = tmp_path / "c.sqlite"
    with Collector(path, *FREE) as one:
        for n in range(5):
            one.send(entry(str(n), items_skipped=[ITEM]), installation=str(n))
        assert by_kind(all_users.patterns(path), "skip") == {ITEM: (5, 5)}
        assert one.send(entry("more")).json()["accepted"] == 1


def test_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="feedback collect fills"):
        all_users.patterns(tmp_path / "missing.sqlite")


def test_the_command_reviews_what_a_collector_holds(tmp_path):
    path = file_of(tmp_path, *[[entry(items_skipped=[ITEM])]] * 7)
    told = called("review", "--tool", "--all-users", "--data", path, cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert f"Often skipped: {ITEM} (at least 5 of 5–9 installations)" in told.stdout
    as_json = called("review", "--tool", "--all-users", "--data", path, "--json", cwd=tmp_path)
    assert json.loads(as_json.stdout)["installations"] == 5
    assert "7" not in re.sub(r"[0-9a-f]{16}", "", told.stdout)


def test_what_sync_sends_arrives_once_and_is_marked(tmp_path, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("ORCHESTRATOR_SKIP_FEEDBACK", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    made = [entry(str(n), timestamp="2026-01-11T10:30:00Z", items_skipped=[ITEM, "our_own_item"]) for n in range(3)]
    files = entries.Files(folder)
    files.append([entries.tool_entry(one, "here") for one in made], [])
    with Collector(tmp_path / "c.sqlite") as one:
        settings.change("feedback_endpoint", f"{one.url}/submit")
        assert called("sync", "--dir", folder).returncode in (0, 1)
        assert one.entries() == 0  # nobody agreed
        settings.change("feedback_sync", "true")
        for _ in range(2):
            done = called("sync", "--dir", folder)
            assert done.returncode == 0, done.stdout + done.stderr
        assert one.entries() == 3
        assert called("sync", "--force", "--dir", folder).returncode == 0
        assert one.entries() == 3
        _, _, err = one.end()
    counts = [re.findall(r"accepted=\d+ known=\d+", line)[0] for line in err.splitlines() if "route=submit" in line]
    assert counts == ["accepted=3 known=0", "accepted=0 known=3"]
    assert all(one.synced_at for one in files.read(settings.salt()).tool)
    held = [json.loads(content) for (content,) in rows(tmp_path / "c.sqlite", "content")]
    assert {one["timestamp"] for one in held} == {"2026-01-11"}
    assert all(ITEM in one["items_skipped"] and "our_own_item" not in one["items_skipped"] for one in held)
