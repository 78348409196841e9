"""Sync as the receiver sees it: nothing without a yes, only what was shown before, each workflow once."""

import concurrent.futures
import dataclasses
import json
import os
import shutil
import socket

import pytest
import stamina
from feedback_receivers import CUT, LOST, SLOW, Collector, Gists

from feedback_lib.errors import ConfigError, PrivacyError
from feedback_lib.workflows import anonymous, capture, entries, gist, ids, settings
from feedback_lib.workflows import sync as syncing

SECRETS = ("acme", "jane", "wf_")


def entry(number=1, **changes):
    values = {
        "timestamp": f"2026-01-11T10:{number // 60:02d}:{number % 60:02d}Z",
        "workflow_id_hash": f"{number:032x}",
        "orchestrator_version": "2.6.0",
        "repo_type": "python",
        "duration_seconds": 1234,
        "phases": {"PLAN": 300},
        "phase0_guidance_used": True,
        "reviews_worked": None,
        "orchestrator_errors": ("orchestrator prd spawn: command not found",),
        "items_skipped": ("visual_regression_test",),
        "items_skipped_pct": 0.15,
        "confusing_items": (),
        "tool_suggestions": f"Phase {number} was helpful",
        "mode": "auto",
    }
    return entries.ToolEntry(**{**values, **changes})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A project whose installation has not said anything yet; nobody waits for long."""
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    for name in (settings.SKIP, syncing.TOKEN, gist.TOKEN, gist.API):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(syncing, "TIMEOUT_S", 1.0)
    (tmp_path / "project").mkdir()
    with stamina.set_testing(True, attempts=100, cap=True):  # no pauses between tries
        yield tmp_path / "project"


def agree(endpoint):
    settings.change("feedback_sync", "true")
    settings.change("feedback_endpoint", endpoint)


def captured(folder, *entries_):
    entries.Files(folder).append(entries_, ())


def marked(folder):
    """By workflow whether it was marked as sent, as the file has it."""
    lines = (folder / entries.TOOL_FILE).read_text().splitlines()
    return {int(held["workflow_id_hash"], 16): "synced_at" in held for held in map(json.loads, lines)}


def fifo(path):
    """What keeps whoever opens it to read, and fails whoever does it without waiting."""
    os.mkfifo(path)


# The yes


def off_by_default(folder, monkeypatch):
    settings.change("feedback_sync", "false")


def off_by_environment(folder, monkeypatch):
    monkeypatch.setenv(settings.SKIP, "1")


def off_by_repository(folder, monkeypatch):
    (folder / ".orchestrator").mkdir()
    (folder / ".orchestrator" / "config.yaml").write_text("feedback_sync: false\n")


@pytest.mark.parametrize("off", [off_by_default, off_by_environment, off_by_repository])
@pytest.mark.parametrize("force", [False, True])
def test_without_a_yes_nobody_is_even_called_and_nothing_is_read(folder, monkeypatch, off, force):
    with Collector() as receiver:
        agree(receiver.url)
        off(folder, monkeypatch)
        fifo(folder / entries.TOOL_FILE)  # opening it would be told
        made = syncing.sync(folder, force=force)
        assert made.off
        assert made.confirmed == 0
        assert receiver.connections == 0
        (folder / entries.TOOL_FILE).unlink()
        captured(folder, entry())
        assert syncing.sync(folder, force=force).off
        assert receiver.connections == 0
        assert marked(folder) == {1: False}


def test_the_server_of_these_tests_counts_what_is_called(folder):
    with Collector() as receiver:
        agree(receiver.url)
        captured(folder, entry())
        assert syncing.sync(folder).confirmed == 1
        assert receiver.connections == 1


def test_an_installation_that_never_heard_of_it_sends_nothing(folder):
    captured(folder, entry())
    made = syncing.sync(folder)
    assert "feedback config set feedback_sync true" in made.off
    assert marked(folder) == {1: False}


def test_a_yes_without_a_place_says_how_to_name_one(folder):
    settings.change("feedback_sync", "true")
    captured(folder, entry())
    with pytest.raises(ConfigError, match="feedback_endpoint https"):
        syncing.sync(folder)


def test_the_file_of_process_feedback_is_not_opened(folder):
    with Collector() as receiver:
        agree(receiver.url)
        captured(folder, entry())
        fifo(folder / entries.PROCESS_FILE)
        assert syncing.sync(folder).ok
        assert syncing.sync(folder, dry_run=True, force=True).ok
        assert syncing.status(folder).synced == 1
        assert len(receiver.held) == 1


def test_a_dry_run_works_while_off_shows_the_bytes_and_calls_nobody(folder):
    with Collector() as receiver:
        settings.change("feedback_endpoint", receiver.url)
        captured(folder, entry(1), entry(2))
        made = syncing.sync(folder, dry_run=True)
        assert made.off
        assert len(made.bodies) == 1
        assert receiver.connections == 0
        assert marked(folder) == {1: False, 2: False}
        settings.change("feedback_sync", "true")
        syncing.sync(folder)
        assert tuple(receiver.bodies) == made.bodies


# What leaves


def test_the_received_bytes_are_those_that_were_shown_whatever_the_file_says(folder):
    lines = [json.loads(entries.to_line(entry(number))) for number in range(1, 4)]
    lines[0] |= {"task": "Sell Acme", "repo": "github.com/acme/billing", "x": {"y": ["jane@acme.example"]}}
    lines[1] |= {"phases": {"PLAN": 1, "ACME_ROLLOUT": 2}, "items_skipped": ["acme_check"]}
    lines[2] |= {"tool_suggestions": "größer 👍 “so”", "orchestrator_version": "2.6.0+gacme"}
    (folder / entries.TOOL_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Collector() as receiver:
        agree(receiver.url)
        shown = syncing.sync(folder, dry_run=True).bodies
        made = syncing.sync(folder)
        assert made.ok
        assert tuple(receiver.bodies) == shown
        (method, path, headers, body), *_ = receiver.requests
        assert (method, path, headers["content-type"]) == ("POST", "/submit", "application/json")
        assert not any(word in (str(headers) + body.decode()).lower() for word in SECRETS)
        assert settings.salt().hex() not in body.decode()
        assert json.loads(body)["installation"] == ids.installation(settings.salt())
        assert {at for held in receiver.held.values() for at in held} == set(anonymous.wire(entry(), b"s" * 32))


TAMPERED = [
    {"tool_suggestions": "ask jane@acme.example"},
    {"tool_suggestions": "x" * 2001},
    {"tool_suggestions": "jane\u200b"},
    {"orchestrator_errors": ["fine", "at /home/jane/acme/main.py"]},
    {"confusing_items": ["x"] * 201},
    {"tool_suggestions": "acme_billing fails"},
]


@pytest.mark.parametrize("changes", TAMPERED)
def test_an_entry_that_tells_too_much_stays_is_named_and_holds_up_no_other(folder, changes):
    lines = [json.loads(entries.to_line(entry(number))) for number in (1, 2, 3)]
    lines[1] |= changes
    (folder / entries.TOOL_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Collector() as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert not made.ok
        assert (made.confirmed, made.pending) == (2, 1)
        (refused,) = made.refused
        assert isinstance(refused, PrivacyError)
        assert refused.field.startswith(f"entries[1].{next(iter(changes))}")
        assert not any(word in str(refused) for word in SECRETS)
        assert marked(folder) == {1: True, 2: False, 3: True}
        assert set(receiver.held) == {f"{1:032x}", f"{3:032x}"}
        assert syncing.status(folder).refused[0].field.startswith(f"entries[0].{next(iter(changes))}")
        sent = len(receiver.requests)
        assert not syncing.sync(folder).ok
        assert len(receiver.requests) == sent


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"workflow_id_hash": "wf_x", "timestamp": "2026-01-11T10:00:00Z"}',
        b"[" * 5000,
        b'{"timestamp": "2026-01-11T10:00:00Z", "workflow_id_hash": "%s", "phases": {"PLAN": {"a": 1}}}' % (b"ab" * 16),
    ],
)
def test_a_line_without_meaning_is_told_with_its_place_and_holds_up_no_other(folder, line):
    captured(folder, entry())
    with (folder / entries.TOOL_FILE).open("ab") as file:
        file.write(line + b"\r\n\r\n")
    with Collector() as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.confirmed == 1
        assert [one.where for one in made.unread] == [f"{entries.TOOL_FILE}:2"]
        assert not made.ok
    assert line in (folder / entries.TOOL_FILE).read_bytes()


def test_of_real_workflows_no_id_no_time_and_none_of_their_words_leave(folder, reference):
    log = reference / "orchestrator" / "workflow_log_union.jsonl"
    shutil.copyfile(log, folder / ".workflow_log.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    capture.capture(folder)
    with Collector() as receiver:
        agree(receiver.url)
        shown = syncing.sync(folder, dry_run=True).bodies
        made = syncing.sync(folder)
        assert made.ok
        assert made.confirmed == len(receiver.held) == len({event["workflow_id"] for event in events})
        assert tuple(receiver.bodies) == shown
        received = b"".join(receiver.bodies).decode()
    telling = {event["workflow_id"] for event in events} | {event["timestamp"][:16] for event in events}
    for event in events:
        notes = [event["details"].get(name) for name in ("reason", "notes", "task", "error", "command")]
        telling |= {text for text in (event["message"], *notes) if isinstance(text, str) and len(text) > 12}
    assert len(telling) > 200
    assert [text for text in telling if text in received] == []


def test_a_name_of_here_does_not_leave(folder, monkeypatch):
    monkeypatch.setenv("USER", "oddlynamed")
    captured(folder, entry(1, tool_suggestions="OddlyNamed's workflow is slow"), entry(2))
    with Collector() as receiver:
        agree(receiver.url)
        assert [one.field for one in syncing.sync(folder).refused] == ["entries[0].tool_suggestions"]
        assert b"ddly" not in b"".join(receiver.bodies)


def test_nothing_to_send_calls_nobody(folder):
    with Collector() as receiver:
        agree(receiver.url)
        assert syncing.sync(folder).ok
        (folder / entries.TOOL_FILE).write_bytes(b"")
        assert syncing.sync(folder, force=True).ok
        assert receiver.connections == 0


def test_many_entries_go_in_parts(folder):
    captured(folder, *(entry(number) for number in range(1, 1202)))
    with Collector() as receiver:
        agree(receiver.url)
        shown = syncing.sync(folder, dry_run=True).bodies
        made = syncing.sync(folder)
        assert made.confirmed == len(receiver.held) == 1201
        assert tuple(receiver.bodies) == shown
        assert len(shown) > 2
        assert all(len(body) <= anonymous.MOST_BYTES for body in shown)
        assert all(len(json.loads(body)["entries"]) <= anonymous.MOST_ENTRIES for body in shown)
        assert syncing.sync(folder).confirmed == 0


def test_a_receiver_that_takes_less_gets_less_at_a_time(folder):
    captured(folder, *(entry(number) for number in range(1, 12)))
    with Collector(most=2000) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.ok
        assert made.confirmed == len(receiver.held) == 11


# Once


@pytest.mark.parametrize("faults", [(LOST,), (CUT,), (SLOW,), (500, 503), (LOST, CUT)])
def test_what_passes_is_tried_again_and_nothing_is_there_twice(folder, faults):
    captured(folder, entry(1), entry(2))
    with Collector(*faults) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.ok
        assert made.confirmed == 2
        assert len(receiver.held) == 2
        assert len(set(receiver.bodies)) == 1
        assert marked(folder) == {1: True, 2: True}


def test_an_answer_that_never_comes_leaves_entries_queued_and_the_next_run_finds_them_known(folder):
    captured(folder, entry(1), entry(2))
    with Collector(LOST, LOST, LOST) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.confirmed == 0
        assert made.pending == 2
        assert "queued" in made.problem
        assert marked(folder) == {1: False, 2: False}
        assert len(receiver.held) == 2  # it has them, but nobody knows
        again = syncing.sync(folder)
        assert (again.confirmed, again.known, again.pending) == (2, 2, 0)
        assert len(receiver.held) == 2


def test_being_killed_between_sending_and_marking_costs_a_repetition_and_no_double(folder, monkeypatch):
    captured(folder, entry(1))
    with Collector() as receiver:
        agree(receiver.url)
        with monkeypatch.context() as patch:
            patch.setattr(entries.Files, "mark", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                syncing.sync(folder)
        assert marked(folder) == {1: False}
        assert syncing.sync(folder).known == 1
        assert len(receiver.held) == 1
        assert marked(folder) == {1: True}


def test_what_cannot_be_noted_is_told_and_costs_a_repetition(folder):
    captured(folder, entry(1))
    in_the_way = folder / f"{entries.TOOL_FILE}.part"
    (in_the_way / "x").mkdir(parents=True)
    with Collector() as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert "cannot be noted" in made.problem
        assert (made.confirmed, made.pending) == (0, 1)
        (in_the_way / "x").rmdir()
        in_the_way.rmdir()
        assert syncing.sync(folder).known == 1
        assert len(receiver.held) == 1


def test_several_at_once_send_each_workflow_once(folder):
    captured(folder, *(entry(number) for number in range(1, 30)))
    with Collector() as receiver:
        agree(receiver.url)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: syncing.sync(folder), range(4)))
        assert all(one.ok for one in made)
        assert len(receiver.held) == 29
        assert marked(folder) == dict.fromkeys(range(1, 30), True)


def test_a_part_that_arrived_stays_marked_when_the_next_fails(folder):
    captured(folder, *(entry(number) for number in range(1, 702)))
    with Collector(None, 403) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.problem
        assert 0 < made.confirmed == len(receiver.held) < 701
        assert sum(marked(folder).values()) == made.confirmed
        assert made.pending == 701 - made.confirmed
        assert syncing.sync(folder).ok
        assert len(receiver.held) == 701


def test_an_entry_that_is_written_anew_meanwhile_stays_to_be_sent(folder):
    captured(folder, entry(1))
    newer = dataclasses.replace(entry(1), duration_seconds=9999)
    with Collector() as receiver:
        agree(receiver.url)
        store = receiver.answer

        def answer(*request):
            captured(folder, newer)
            return store(*request)

        receiver.answer = answer
        syncing.sync(folder)
        receiver.answer = store
        assert syncing.status(folder).pending == 1
        syncing.sync(folder)
        assert receiver.held[f"{1:032x}"]["duration_seconds"] == 7200
        assert syncing.status(folder).pending == 0


def test_force_sends_all_again_and_the_receiver_has_it_once(folder):
    captured(folder, entry(1), entry(2))
    with Collector() as receiver:
        agree(receiver.url)
        syncing.sync(folder)
        captured(folder, entry(3))
        shown = syncing.sync(folder, dry_run=True, force=True).bodies
        assert marked(folder) == {1: True, 2: True, 3: False}
        made = syncing.sync(folder, force=True)
        assert (made.confirmed, made.known) == (3, 2)
        assert receiver.bodies[-1:] == list(shown)
        assert len(receiver.held) == 3
        assert marked(folder) == {1: True, 2: True, 3: True}


def test_a_forced_run_that_fails_forgets_nothing_that_is_known(folder):
    captured(folder, entry(1), entry(2))
    with Collector() as receiver:
        agree(receiver.url)
        syncing.sync(folder)
    before = syncing.status(folder)
    captured(folder, entry(3))
    made = syncing.sync(folder, force=True)  # nobody listens any more
    assert (made.ok, made.confirmed, made.pending) == (False, 0, 1)
    assert made.problem.endswith("stays noted as sent; --force sends it again, too.")
    after = syncing.status(folder)
    assert (after.synced, after.pending, after.last) == (2, 1, before.last)
    assert before.last is not None
    with Collector() as receiver:
        agree(receiver.url)
        assert syncing.sync(folder, force=True).pending == 0
        assert len(receiver.held) == 3


# Trouble, told apart


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((429, {"Retry-After": "3600"}), ("429", "rate limit", "again after 20")),
        (429, ("429", "rate limit", "in some minutes")),
        ((403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}), ("rate limit", "again after 2")),
        ((403, {}, {"message": "You have exceeded a secondary rate limit."}), ("rate limit",)),
        (403, ("403", "takes nothing from this sender")),
        (401, ("401", "token is not accepted")),
        (404, ("404", "feedback_endpoint")),
        (413, ("413", "too large")),
        (422, ("422", "update the package")),
        (500, ("500", "fault of its own")),
        ((503, {"Retry-After": "600"}), ("503", "again after 20")),
        (301, ("301", "redirect")),
        (CUT, ("broke", "could not be reached")),
        (LOST, ("broke", "nothing is sent twice")),
        (SLOW, ("did not answer", "could not be reached")),
        ((200, {}, b"<html>Log in</html>"), ("not JSON",)),
        ((200, {}, {"accepted": 2}), ("not as a collector does",)),
        ((200, {}, {"accepted": "1", "known": 0, "refused": []}), ("not as a collector does",)),
        ((200, {}, {"accepted": True, "known": 0, "refused": []}), ("not as a collector does",)),
        ((200, {}, {"accepted": 0, "known": 0, "refused": [{"index": 7}]}), ("not as a collector does",)),
        ((200, {}, {"accepted": 7, "known": 0, "refused": []}), ("confirms 7 entries of 1",)),
        ((200, {}, {"accepted": 0, "known": 0, "refused": []}), ("confirms 0 entries of 1",)),
        ((200, {}, []), ("not as a collector does",)),
    ],
)
def test_each_trouble_has_its_words_and_leaves_entries_queued(folder, fault, words):
    captured(folder, entry(1))
    with Collector(*[fault] * 3) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.problem is not None
        for word in words:
            assert word in made.problem
        assert "stays queued" in made.problem
        assert not any(odd in made.problem for odd in ("?.", "..", "  "))
        assert (made.confirmed, made.pending, made.ok) == (0, 1, False)
        assert marked(folder) == {1: False}


def test_nobody_there_and_no_such_name_are_told_apart(folder):
    captured(folder, entry(1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        agree(f"http://127.0.0.1:{free.getsockname()[1]}")
        assert "no connection" in syncing.sync(folder).problem
    assert marked(folder) == {1: False}


def test_a_name_that_is_not_known_is_told(folder, monkeypatch):
    captured(folder, entry(1))
    agree("https://feedback.invalid/submit")

    def unknown(*ignored, **also):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    made = syncing.sync(folder)
    assert "name of the host is not known" in made.problem
    assert "could not be reached" in made.problem


def test_entries_that_the_receiver_does_not_take_are_named_and_stay(folder):
    captured(folder, entry(1), entry(2), entry(3))

    def picky(held):
        return ("tool_suggestions", "too\x1b[31m long") if held["workflow_id_hash"].endswith("2") else None

    with Collector(picky=picky) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert (made.confirmed, made.pending) == (2, 1)
        assert made.refused[0].field == "entries[1].tool_suggestions"
        assert "the receiver does not take it: too [31m long" in str(made.refused[0])
        assert marked(folder) == {1: True, 2: False, 3: True}


def test_after_a_422_the_entries_that_were_not_named_are_sent(folder):
    captured(folder, entry(1), entry(2), entry(3))
    named = {"refused": [{"index": 1, "field": "mode", "reason": "unknown"}]}
    with Collector((422, {}, named)) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert made.confirmed == len(receiver.held) == 2
        assert [one.field for one in made.refused] == ["entries[1].mode"]
        assert marked(folder) == {1: True, 2: False, 3: True}


def test_a_token_goes_to_the_collector_and_nowhere_else(folder, monkeypatch):
    monkeypatch.setenv(syncing.TOKEN, "sync-token-of-the-tests-19")
    captured(folder, entry(1))
    with Collector((403, {}, b"no sync-token-of-the-tests-19")) as receiver:
        agree(receiver.url)
        made = syncing.sync(folder)
        assert receiver.requests[0][2]["authorization"] == "Bearer sync-token-of-the-tests-19"
        assert "19" not in json.dumps(made.to_dict()).replace("2026-01-11", "").replace(receiver.url, "").replace(
            receiver.url.removeprefix("http://"), ""
        )
        monkeypatch.delenv(syncing.TOKEN)
        syncing.sync(folder)
        assert "authorization" not in receiver.requests[1][2]


def test_an_address_with_a_path_of_its_own_is_taken_as_it_stands(folder):
    captured(folder, entry(1))
    with Collector() as receiver:
        agree(receiver.url + "/api/feedback")
        assert "404" in syncing.sync(folder).problem
        assert receiver.requests[0][1] == "/api/feedback"


def test_a_folder_that_is_none_and_a_broken_salt_are_told(folder):
    with Collector() as receiver:
        agree(receiver.url)
        captured(folder, entry(1))
        settings.salt()
        (settings.config.config_dir() / settings.SALT_FILE).chmod(0o644)
        with pytest.raises(PrivacyError, match="chmod 600"):
            syncing.sync(folder)
        assert receiver.connections == 0


# How it stands


def test_status_counts_workflows_and_says_where_to_and_why_not(folder):
    assert syncing.status(folder).total == 0
    captured(folder, entry(1), entry(1), entry(2), entry(3, tool_suggestions="see /etc/passwd"))
    with Collector() as receiver:
        settings.change("feedback_endpoint", receiver.url)
        told = syncing.status(folder)
        assert (told.total, told.synced, told.pending, len(told.refused), told.last) == (3, 0, 3, 1, None)
        assert told.where == receiver.url
        assert "feedback_sync is false" in told.off
        settings.change("feedback_sync", "true")
        assert receiver.connections == 0
        syncing.sync(folder)
        told = syncing.status(folder)
        assert (told.total, told.synced, told.pending, told.off) == (3, 2, 1, None)
        assert told.last.endswith("Z")


# A private Gist


@pytest.fixture
def gists(folder, monkeypatch):
    with Gists() as service:
        monkeypatch.setenv(gist.API, service.url)
        monkeypatch.setenv(gist.TOKEN, service.token)
        agree("gist")
        yield service


def kept(held):
    """The workflows in the files of a Gist, in their order."""
    rows = [json.loads(line) for text in held["files"].values() for line in text.splitlines()]
    return [int(row["entries"][0]["workflow_id_hash"], 16) for row in rows]


def test_a_private_gist_is_made_once_holds_what_was_shown_and_grows(folder, gists):
    captured(folder, entry(1), entry(2))
    shown = b"".join(syncing.sync(folder, dry_run=True).bodies)
    assert gists.connections == 0
    assert syncing.sync(folder).ok
    (held,) = gists.gists
    assert held["public"] is False
    assert held["description"] == "workflow-orchestrator tool feedback"
    assert held["files"] == {"tool_feedback.jsonl": shown.decode()}
    assert gists.requests[0][2]["authorization"] == f"Bearer {gists.token}"
    captured(folder, entry(3))
    assert syncing.sync(folder).confirmed == 1
    assert len(gists.gists) == 1
    assert kept(held) == [1, 2, 3]
    assert marked(folder) == {1: True, 2: True, 3: True}


def test_the_gist_is_found_on_a_later_page_and_other_gists_are_not_touched(folder, gists):
    ours = gists.add("workflow-orchestrator tool feedback", files={"tool_feedback.jsonl": ""})
    others = [gists.add(f"notes {number}", public=True, files={"a": "b"}) for number in range(5)]
    captured(folder, entry(1))
    assert syncing.sync(folder).ok
    assert kept(ours) == [1]
    assert all(other["files"] == {"a": "b"} for other in others)
    assert len(gists.gists) == 6


def test_lines_are_merged_by_workflow_and_what_is_not_ours_keeps_its_bytes(folder, gists):
    captured(folder, entry(1), entry(2))
    syncing.sync(folder)
    (held,) = gists.gists
    odd = '{"workflow_id_hash": "abc", "note": "of the older tool"}\n\n  no json \u2028 \r\nwithout an end'
    held["files"] = {"tool_feedback.jsonl": odd + "\n" + held["files"]["tool_feedback.jsonl"], "readme": "mine"}
    captured(folder, dataclasses.replace(entry(2), duration_seconds=7), entry(3))
    made = syncing.sync(folder, force=True)
    assert (made.confirmed, made.known) == (3, 1)
    text = held["files"]["tool_feedback.jsonl"]
    assert text.startswith(odd + "\n")
    rows = [json.loads(line)["entries"][0] for line in text[len(odd) + 1 :].splitlines()]
    assert [(int(row["workflow_id_hash"], 16), row["duration_seconds"]) for row in rows] == [
        (1, 1200),
        (2, 0),
        (3, 1200),
    ]
    assert held["files"]["readme"] == "mine"


def test_a_last_line_without_an_end_is_not_written_into(folder, gists):
    held = gists.add("workflow-orchestrator tool feedback", files={"tool_feedback.jsonl": '{"of": "mine"}'})
    captured(folder, entry(1))
    assert syncing.sync(folder).ok
    assert held["files"]["tool_feedback.jsonl"].startswith('{"of": "mine"}\n{"schema":1,')


def test_a_file_that_is_full_or_cut_off_is_left_alone_and_a_next_one_begins(folder, gists, monkeypatch):
    monkeypatch.setattr(gist, "FILE_BYTES", 1200)
    captured(folder, *(entry(number) for number in range(1, 6)))
    assert syncing.sync(folder).confirmed == 5
    (held,) = gists.gists
    assert list(held["files"]) == ["tool_feedback.jsonl", "tool_feedback_2.jsonl", "tool_feedback_3.jsonl"]
    assert kept(held) == [1, 2, 3, 4, 5]
    held["files"]["tool_feedback_3.jsonl"] += "x" * 5000 + "\n"
    before = dict(held["files"])
    gists.shown = 4000
    captured(folder, entry(6))
    assert syncing.sync(folder).ok
    assert {name: held["files"][name] for name in before} == before
    assert '"tool_suggestions":"Phase 6' in held["files"]["tool_feedback_4.jsonl"]


def test_a_public_gist_is_refused_and_nothing_is_added(folder, gists):
    public = gists.add("workflow-orchestrator tool feedback", public=True, files={"tool_feedback.jsonl": ""})
    captured(folder, entry(1))
    made = syncing.sync(folder)
    assert "is public" in made.problem
    assert public["files"] == {"tool_feedback.jsonl": ""}
    assert {method for method, *_ in gists.requests} == {"GET"}
    assert marked(folder) == {1: False}


def test_a_lost_answer_when_the_gist_is_made_does_not_make_a_second_one(folder, gists):
    captured(folder, entry(1))
    gists.faults = [None, LOST]
    made = syncing.sync(folder)
    assert "queued" in made.problem
    assert marked(folder) == {1: False}
    again = syncing.sync(folder)
    assert (again.confirmed, again.known) == (1, 1)
    assert len(gists.gists) == 1
    assert kept(gists.gists[0]) == [1]


def test_a_lost_answer_to_a_change_is_tried_again(folder, gists):
    captured(folder, entry(1))
    syncing.sync(folder)
    captured(folder, entry(2))
    gists.faults = [None, None, LOST]
    assert syncing.sync(folder).confirmed == 1
    assert kept(gists.gists[0]) == [1, 2]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (401, "token is not accepted"),
        ((403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}), "rate limit"),
        (403, "what the token may do"),
        (404, "what the token may do"),
        ((200, {}, {"message": "no"}), "no list of Gists"),
        ((200, {}, b"<html>"), "not JSON"),
        (CUT, "could not be reached"),
    ],
)
def test_troubles_with_github_are_told_apart_too(folder, gists, fault, word):
    captured(folder, entry(1))
    gists.faults = [fault] * 3
    made = syncing.sync(folder)
    assert word in made.problem
    assert gists.token not in made.problem
    assert marked(folder) == {1: False}


def test_what_the_answer_does_not_show_is_not_taken_for_sent(folder, gists):
    captured(folder, entry(1))
    gists.faults = [None, (201, {}, {"id": "1", "public": False, "files": {}})]
    made = syncing.sync(folder)
    assert "does not show" in made.problem
    assert marked(folder) == {1: False}


def test_without_a_token_and_over_an_open_network_github_is_not_called(folder, gists, monkeypatch):
    captured(folder, entry(1))
    monkeypatch.delenv(gist.TOKEN)
    with pytest.raises(ConfigError, match="GITHUB_TOKEN"):
        syncing.sync(folder)
    monkeypatch.setenv(gist.TOKEN, gists.token)
    monkeypatch.setenv(gist.API, "http://ghe.example/api/v3")
    with pytest.raises(ConfigError, match="https"):
        syncing.sync(folder)
    assert gists.connections == 0
