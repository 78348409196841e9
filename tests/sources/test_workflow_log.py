"""What is special about the runs of the workflow tool."""

import datetime as dt
import hashlib
import hmac
import json
import shutil

import polars as pl
import pytest

from feedback_lib import export, ingest, plugins, privacy
from feedback_lib.records import Item, Rejected
from feedback_lib.store import Store
from feedback_lib.testing import KEY, items, scrubbed

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
LOG, STATE = ".workflow_log.jsonl", ".workflow_state.json"
TOOL, PROCESS = ".workflow_tool_feedback.jsonl", ".workflow_process_feedback.jsonl"


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """Settings of an installation, without a salt."""
    folder = tmp_path / "configuration"
    folder.mkdir()
    monkeypatch.setenv("FEEDBACK_CONFIG", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "project"
    made.mkdir()
    return made


def event(kind, time, item=None, phase=None, workflow="wf_1", message="", **details):
    return {"timestamp": f"2026-03-02T{time}Z", "event_type": kind, "workflow_id": workflow, "phase_id": phase,
            "item_id": item, "message": message, "details": details}  # fmt: skip


def put(folder, name, *rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def source(folder, **options):
    return plugins.build("sources", {"kind": "workflow_log", "path": str(folder), **options})


def read(folder, since=None, until=END):
    """The signals by their native ids, as they are stored; and what was rejected."""
    reader = source(folder)
    found = list(reader.fetch(since, until))
    signals = [reader.parse(scrubbed(reader, item)) for item in found if isinstance(item, Item)]
    return {s.native_id: s for s in signals}, [item for item in found if isinstance(item, Rejected)]


RUN = (
    event("workflow_started", "09:00:00", message="Started workflow: Add a search"),
    event("item_skipped", "09:05:00", "manual_smoke_test", "VERIFY", reason="No page changed"),
    event("verification_failed", "09:10:00", "all_tests_pass", "EXECUTE", command="pytest", stdout="KeyError: 'a'"),
    event("review_failed", "09:15:00", None, "REVIEW", message="Review failed: no key", error="no key"),
    event("item_completed", "09:20:00", "document_learnings", "LEARN", notes="Small steps help"),
    event("workflow_completed", "09:30:00"),
)


def entry(workflow="wf_1", **fields):
    return {"timestamp": "2026-03-02T09:30:00Z", "workflow_id": workflow, "task": "Add a search", "learnings": "",
            "challenges": "", "improvements": "", "what_went_well": "", **fields}  # fmt: skip


def test_each_thing_that_happened_is_a_signal_in_the_agreed_form(folder):
    put(folder, LOG, *RUN)
    signals, rejected = read(folder)
    assert rejected == []
    told = {
        tuple(s.labels): (s.title, s.body.partition("\n")[0], s.created_at.strftime("%H:%M"))
        for key, s in signals.items()
    }
    assert told == {
        ("workflow", "completed"): ("Add a search", "Small steps help", "09:00"),
        ("skipped", "VERIFY", "manual_smoke_test"): ("Skipped: manual smoke test", "No page changed", "09:05"),
        ("error", "project", "EXECUTE", "all_tests_pass"): ("pytest: KeyError: 'a'", "$ pytest", "09:10"),
        ("error", "tool", "REVIEW"): ("review: no key", "Review failed: no key", "09:15"),
    }  # fmt: skip
    errors = [key for key in signals if "/error/" in key]
    assert sorted(set(signals) - set(errors)) == ["wf_1/skip/manual_smoke_test", "wf_1/workflow"]
    assert all(len(key.removeprefix("wf_1/error/")) == 12 for key in errors)
    for signal in signals.values():
        assert (signal.type, signal.state, signal.author, signal.url) == ("workflow", "completed", None, None)
        assert signal.updated_at == dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)


def test_a_phase_that_ended_is_a_signal_with_its_seconds(folder):
    def phase(kind, time, name):
        return event(f"phase_{kind}", time, None, name)

    times = ("started", "09:00:00", "PLAN"), ("completed", "09:26:00", "PLAN"), ("started", "09:26:00", "EXECUTE")
    put(folder, LOG, *(phase(*t) for t in times))
    signals, _ = read(folder)
    assert {key for key in signals if "/phase/" in key} == {"wf_1/phase/PLAN"}  # the other one goes on
    told = signals["wf_1/phase/PLAN"]
    assert (told.title, told.labels, told.body) == ("PLAN took 26 min", ("phase", "PLAN", "1560"), "")
    assert told.created_at == dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)
    put(folder, LOG, *(phase(*t) for t in times), phase("completed", "09:26:00", "EXECUTE"))
    assert read(folder)[0]["wf_1/phase/EXECUTE"].labels == ("phase", "EXECUTE", "0")


@pytest.mark.parametrize("seconds", [None, "60", -1, 1.5, True, ""])
def test_a_phase_without_whole_seconds_is_refused(folder, seconds):
    at = "2026-03-02T09:00:00+00:00"
    payload = {"key": "wf_1/phase/PLAN", "workflow": "wf_1", "about": "phase", "at": at, "last_at": at}
    with pytest.raises(ValueError, match="says"):
        source(folder).parse(payload | {"phase": "PLAN", "seconds": seconds})


def test_the_same_error_twice_is_two_signals_and_a_line_twice_is_one(folder):
    again = {**RUN[2], "timestamp": "2026-03-02T09:11:00Z"}
    put(folder, LOG, RUN[2], again, RUN[2])
    assert sum("/error/" in key for key in read(folder)[0]) == 2


def test_a_workflow_that_goes_on_is_read_again_with_the_same_ids(folder):
    put(folder, LOG, *RUN[:3])
    before, _ = read(folder)
    put(folder, LOG, *RUN)
    after, _ = read(folder)
    assert set(before) < set(after)
    assert {s.state for s in before.values()} == {"active"}
    assert all(after[key].updated_at > before[key].updated_at for key in before)


def test_an_item_that_was_skipped_and_then_completed_is_no_skip(folder):
    put(folder, LOG, *RUN, event("item_completed", "09:40:00", "manual_smoke_test", "VERIFY", notes="Done"))
    assert "wf_1/skip/manual_smoke_test" not in read(folder)[0]


def test_what_people_said_is_the_body_of_their_workflow(folder, configuration):
    salt = b"s" * 32
    (configuration / "salt").write_bytes(salt)
    put(folder, LOG, *RUN)
    old = entry(challenges="An earlier answer")
    put(folder, PROCESS, old, entry(challenges="The database was down", improvements="Check it first", learnings="A"))
    hashed = hmac.new(salt, b"wf_1", hashlib.sha256).hexdigest()[:32]
    said = {"tool_suggestions": "Ask fewer questions", "orchestrator_version": "2.6.0"}
    put(
        folder,
        TOOL,
        {"workflow_id_hash": "0" * 32, "tool_suggestions": "Of another"},
        {"workflow_id_hash": hashed, **said},
    )
    signals, _ = read(folder)
    assert signals["wf_1/workflow"].body == "The database was down\n\nCheck it first\n\nAsk fewer questions\n\nA"
    assert {s.version for s in signals.values()} == {"2.6.0"}


def test_the_hash_is_that_of_the_entries(folder, configuration):
    from feedback_lib.workflows import ids

    (configuration / "salt").write_bytes(KEY)
    put(folder, PROCESS, entry())
    put(folder, TOOL, {"workflow_id_hash": ids.hashed(KEY, "wf_1"), "tool_suggestions": "Shorter, please"})
    assert read(folder)[0]["wf_1/workflow"].body == "Shorter, please"


def test_without_the_salt_tool_feedback_belongs_to_nobody_and_no_salt_is_made(folder, configuration):
    put(folder, LOG, *RUN)
    put(folder, PROCESS, entry(challenges="Slow tests"))
    put(
        folder,
        TOOL,
        {"workflow_id_hash": hmac.new(b"", b"wf_1", hashlib.sha256).hexdigest()[:32], "tool_suggestions": "No"},
    )
    assert read(folder)[0]["wf_1/workflow"].body == "Slow tests"
    (configuration / "salt").write_bytes(b"short")
    assert read(folder)[0]["wf_1/workflow"].body == "Slow tests"
    (configuration / "salt").unlink()
    read(folder)
    assert list(configuration.iterdir()) == []


def test_a_workflow_whose_log_is_gone_is_still_heard(folder):
    put(folder, PROCESS, entry("wf_9", challenges="The changelog missed a breaking change"))
    signals, _ = read(folder)
    assert list(signals) == ["wf_9/workflow"]
    signal = signals["wf_9/workflow"]
    assert (signal.title, signal.state, signal.labels) == ("Add a search", None, ("workflow",))
    assert signal.body == "The changelog missed a breaking change"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "no JSON"), (b"[]", "not an object"), (b"\xff", "not UTF-8"), (b"{}", "no workflow_id"),
        (b'{"workflow_id": "unknown"}', "no workflow_id"), (b'{"workflow_id": "wf_1"}', "timestamp"),
        (b'{"workflow_id": "wf_1", "timestamp": "0001-01-01T00:00:00+14:00"}', "timestamp"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", ""), (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "levels"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_told_with_its_place_and_the_others_load(line, reason, folder):
    good = json.dumps(entry(challenges="Slow tests")).encode()
    (folder / PROCESS).write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\r\n" + line + b"\n")
    signals, rejected = read(folder)
    assert [bad.where for bad in rejected] == [f"{PROCESS}:3"]
    assert reason in rejected[0].reason
    assert signals["wf_1/workflow"].body == "Slow tests"


def test_an_entry_of_odd_types_says_what_it_can(folder):
    put(folder, PROCESS, entry(challenges=["a"], improvements=3, learnings=None, task=None))
    signal = read(folder)[0]["wf_1/workflow"]
    assert (signal.title, signal.body) == ("Workflow wf_1", "")


def test_a_bad_line_of_the_log_is_quarantined_and_a_half_last_one_waits(folder):
    put(folder, LOG, *RUN)
    with (folder / LOG).open("a") as file:
        file.write('nonsense\n{"timestamp": "2026-03')
    signals, rejected = read(folder)
    assert [bad.where for bad in rejected] == [f"{LOG}:{len(RUN) + 1}"]
    assert len(signals) == 4


def test_names_in_ids_are_hashed_wherever_they_stand(folder):
    put(folder, LOG, event("item_skipped", "09:00:00", "ask jane.doe@example.org", "QA jane.doe@example.org",
                           "jane.doe@example.org", reason="away"))  # fmt: skip
    signals, _ = read(folder)
    assert len(signals) == 2
    assert "jane" not in repr(signals)
    assert "jane" not in repr([item.native_id + item.where for item in items(source(folder))])


def test_an_empty_folder_says_nothing(folder):
    assert read(folder) == ({}, [])
    assert source(folder).check() == "workflows: 0"
    put(folder, LOG, *RUN, {})
    assert source(folder).check() == "workflows: 1, cannot be read: 1"


def test_the_origin_is_the_folder_or_the_name(folder, monkeypatch):
    assert source(folder).origin == "project"
    assert source(folder, name="shop").origin == "shop"
    monkeypatch.chdir(folder)
    assert source(".").origin == "project"


def test_a_payload_that_lacks_something_is_refused(folder):
    put(folder, LOG, *RUN)
    reader = source(folder)
    for item in items(reader):
        for key in ("key", "workflow", "about", "at", "last_at"):
            with pytest.raises(ValueError, match="says not what happened"):
                reader.parse({k: v for k, v in item.payload.items() if k != key})
        for key in {"item", "phase", "by"} & set(item.payload) if "/error/" not in item.native_id else {"phase", "by"}:
            with pytest.raises(ValueError, match="says not what happened"):
                reader.parse({k: v for k, v in item.payload.items() if k != key})


def gather(folder, store, run):
    (result,) = ingest.gather(
        [("workflow_log", source(folder))], store, since=None, until=END, fetched_at=END, run_id=run
    )
    return result


def test_nothing_of_it_is_exported(folder, tmp_path):
    put(folder, LOG, *RUN)
    store = Store(tmp_path / "store")
    assert gather(folder, store, "r1").status == "ok"
    assert store.scan("signals").to_native().collect().height == 4
    tables = ("signals", "raw")
    assert export.write(store, "csv", export.Target(out=tmp_path / "out"), tables).rows == dict.fromkeys(tables, 0)
    assert not any(b"KeyError" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_reading_again_changes_only_what_is_new(folder, tmp_path):
    put(folder, LOG, *RUN)
    store = Store(tmp_path / "store")
    gather(folder, store, "r1")
    put(folder, PROCESS, entry(challenges="Slow tests"))  # answered later: the workflow's last event is as it was
    gather(folder, store, "r2")
    rows = store.scan("signals").to_native().collect()
    assert sorted(rows.filter(pl.col("run_id") == "r2")["native_id"]) == ["wf_1/workflow"]
    assert rows.filter(pl.col("native_id") == "wf_1/workflow")["body"].to_list() == ["Slow tests"]


def test_the_real_log_gives_what_happened_in_it(reference, folder):
    given = reference / "orchestrator"
    shutil.copyfile(given / "workflow_log_union.jsonl", folder / LOG)
    expected = json.loads((given / "derived_expected_from_log.json").read_text("utf-8"))
    signals, rejected = read(folder)
    assert rejected == []
    skips = {f"{key}/skip/{item}" for key, one in expected.items() for item in one["skipped"]}
    assert {key for key in signals if "/skip/" in key} == skips
    assert {key for key in signals if key.endswith("/workflow")} == {f"{key}/workflow" for key in expected}
    errors = [s for key, s in signals.items() if "/error/" in key]
    assert len(errors) == sum(one["verification_failed"] for one in expected.values()) == 8
    assert {s.labels[1] for s in errors} == {"project"}
    assert all(privacy.redact(s.text) == s.text for s in signals.values())
