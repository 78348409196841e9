"""feedback sync and feedback config, as somebody meets them who decides what leaves."""

import json
import os
import subprocess

import pytest
from collecting import Collector as RealCollector
from commands import BIN, called
from feedback_receivers import Collector

from feedback_lib.workflows import entries, settings
from feedback_lib.workflows import sync as syncing

ENTRY = {
    "timestamp": "2026-01-11T10:30:00Z",
    "workflow_id_hash": "ab" * 16,
    "orchestrator_version": "2.6.0",
    "repo_type": "python",
    "duration_seconds": 1234,
    "phases": {"PLAN": 300},
    "phase0_guidance_used": True,
    "reviews_worked": None,
    "orchestrator_errors": [],
    "items_skipped": ["visual_regression_test"],
    "items_skipped_pct": 0.15,
    "confusing_items": [],
    "tool_suggestions": "Größere Schritte, bitte",
    "mode": "auto",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    for name in (settings.SKIP, syncing.TOKEN):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "project").mkdir()
    write(tmp_path / "project", ENTRY)
    return tmp_path / "project"


def write(folder, *rows):
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / entries.TOOL_FILE).write_text("".join(lines), "utf-8")


def agree(url):
    assert called("config", "set", "feedback_endpoint", url).returncode == 0
    assert called("config", "set", "feedback_sync", "true").returncode == 0


def test_settings_are_set_shown_one_by_one_and_listed():
    assert called("config", "get", "feedback_sync").stdout == "false\n"
    done = called("config", "set", "feedback_sync", "true")
    assert done.stdout == "feedback_sync = true\n"
    assert "Nobody is named to send to yet" in done.stderr
    assert called("config", "set", "feedback_endpoint", "gist").stderr == ""
    assert called("config", "get", "feedback_endpoint").stdout == "gist\n"
    assert json.loads(called("config", "get", "feedback_sync", "--json").stdout) is True
    listed = called("config", "list").stdout.splitlines()
    assert [line.split() for line in listed[1:]] == [["feedback_sync", "true"], ["feedback_endpoint", "gist"]]
    held = json.loads(called("config", "list", "--json").stdout)
    assert held == {"feedback_sync": True, "feedback_endpoint": "gist"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("set", "feedback_sink", "true"), "did you mean 'feedback_sync'"),
        (("get", "feedback_sink"), "did you mean 'feedback_sync'"),
        (("set", "feedback_sync", "maybe"), "write true or false"),
        (("set", "feedback_endpoint", "http://feedback.example.org"), "write https"),
        (("set", "feedback_sync"), "Missing argument"),
    ],
)
def test_what_cannot_be_set_or_shown_is_told_with_2(args, said):
    done = called("config", *args)
    assert done.returncode == 2
    assert said in done.stderr


def test_off_is_said_and_is_no_failure(folder):
    with Collector() as receiver:
        called("config", "set", "feedback_endpoint", receiver.url)
        for more in ((), ("--force",)):
            done = called("sync", "--dir", folder, *more)
            assert done.returncode == 0
            assert done.stdout.startswith("Nothing was sent: feedback_sync is false")
        assert json.loads(called("sync", "--dir", folder, "--json").stdout)["confirmed"] == 0
        assert receiver.connections == 0


def test_standard_output_of_a_dry_run_is_what_the_receiver_gets_byte_for_byte(folder):
    with Collector() as receiver:
        called("config", "set", "feedback_endpoint", receiver.url)
        shown = subprocess.run(
            [BIN / "feedback", "sync", "--dry-run", "--dir", folder],
            capture_output=True,
            check=True,
            timeout=100,
            env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        )
        assert "Sending is off" in shown.stderr.decode("latin-1")
        assert receiver.connections == 0
        agree(receiver.url)
        done = called("sync", "--dir", folder)
        assert done.returncode == 0
        assert done.stdout == f"Sent to {receiver.url}: 1 entry.\n"
        assert receiver.bodies == [shown.stdout.removesuffix(b"\n")]
        told = called("sync", "--dry-run", "--dir", folder)
        assert (told.stdout, told.stderr.partition(":")[0]) == ("", "Nothing to send")
        again = called("sync", "--dry-run", "--force", "--dir", folder)
        assert again.stdout.encode() == shown.stdout
        assert called("sync", "--dir", folder).stdout.startswith("Nothing to send")


def test_what_may_not_leave_is_named_with_1_and_the_others_go(folder):
    write(folder, ENTRY, {**ENTRY, "workflow_id_hash": "cd" * 16, "tool_suggestions": "ask jane@acme.example"})
    with Collector() as receiver:
        agree(receiver.url)
        done = called("sync", "--dir", folder)
        assert done.returncode == 1
        assert "Error: entries[1].tool_suggestions: holds an address of a person" in done.stderr
        assert "jane" not in done.stdout + done.stderr
        assert len(receiver.held) == 1
        told = json.loads(called("sync", "--dir", folder, "--json").stdout)
        assert [one["field"] for one in told["refused"]] == ["entries[0].tool_suggestions"]
        assert (told["confirmed"], told["pending"]) == (0, 1)


def test_of_many_that_may_not_leave_the_first_are_named_and_the_others_counted(folder):
    write(
        folder,
        *({**ENTRY, "workflow_id_hash": f"{n:032x}", "tool_suggestions": "ask jane@acme.example"} for n in range(7)),
    )
    told = called("sync", "--dry-run", "--dir", folder).stderr.splitlines()
    assert sum("shorten or reword it in the file" in line for line in told) == 5
    assert told[-1] == "Error: 2 more may not leave; --json has all."
    assert len(json.loads(called("sync", "--dry-run", "--dir", folder, "--json").stdout)["refused"]) == 7


def test_trouble_is_a_sentence_and_1(folder):
    with Collector(403) as receiver:
        agree(receiver.url)
        done = called("sync", "--dir", folder)
        assert done.returncode == 1
        assert "takes nothing from this sender" in done.stderr
        assert "Still queued: 1 entry." in done.stdout
        assert "Traceback" not in done.stderr


def test_status_in_words_and_for_machines(folder):
    with Collector() as receiver:
        told = called("sync", "--status", "--dir", folder)
        assert told.returncode == 0
        assert "Sending is off: feedback_sync is false" in told.stdout
        assert "nowhere (feedback_endpoint is not set)" in told.stdout
        agree(receiver.url)
        told = called("sync", "--status", "--dir", folder).stdout
        assert told.splitlines() == [
            "Sending is on.", f"To: {receiver.url}", "Workflows: 1, sent 0, waiting 1", "Last sent: never"
        ]  # fmt: skip
        assert receiver.connections == 0
        called("sync", "--dir", folder)
        held = json.loads(called("sync", "--status", "--dir", folder, "--json").stdout)
        assert (held["total"], held["synced"], held["pending"], held["off"]) == (1, 1, 0, None)


def test_a_folder_without_feedback_has_nothing_to_send_and_one_that_is_none_is_told(tmp_path, folder):
    with Collector() as receiver:
        agree(receiver.url)
        (tmp_path / "empty").mkdir()
        assert called("sync", "--dir", tmp_path / "empty").stdout.startswith("Nothing to send: there is no")
        assert "feedback capture writes it" in called("sync", "--dry-run", "-d", tmp_path / "empty").stderr
        assert "feedback capture writes it" in called("sync", "--status", "-d", tmp_path / "empty").stdout
        assert receiver.connections == 0
        done = called("sync", "--dir", tmp_path / "none")
        assert done.returncode == 2
        assert "--dir" in done.stderr


def test_status_goes_alone():
    for more in ("--dry-run", "--force"):
        done = called("sync", "--status", more)
        assert done.returncode == 2
        assert "--status" in done.stderr


def test_the_collector_of_this_package_takes_it_once(tmp_path, folder):
    more = [{**ENTRY, "workflow_id_hash": f"{number:032x}"} for number in range(20)]
    write(folder, *more)
    with RealCollector(tmp_path / "collected.sqlite") as receiver:
        agree(receiver.url)
        done = called("sync", "--dir", folder)
        assert (done.returncode, done.stderr.count("Error")) == (0, 0), done.stderr
        assert "20 entries" in done.stdout
        assert receiver.ask("GET", "/healthz").json()["entries"] == 20
        again = called("sync", "--force", "--dir", folder)
        assert "20 entries, 20 of them known there already" in again.stdout
        assert receiver.ask("GET", "/healthz").json()["entries"] == 20
