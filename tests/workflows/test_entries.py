import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from feedback_lib.errors import ConfigError, PayloadError
from feedback_lib.workflows import entries, ids, telling
from feedback_lib.workflows.entries import Files, process_entry, to_line, tool_entry, version

SALT = b"s" * 32
TOOL_FIELDS = [
    "timestamp", "workflow_id_hash", "orchestrator_version", "repo_type", "duration_seconds", "phases",
    "phase0_guidance_used", "reviews_worked", "orchestrator_errors", "items_skipped", "items_skipped_pct",
    "confusing_items", "tool_suggestions", "mode",
]  # fmt: skip
PROCESS_FIELDS = [
    "timestamp", "workflow_id", "repo", "task", "parallel_agents_used", "project_errors", "learnings",
    "what_went_well", "challenges", "improvements", "custom_workflow_items", "mode",
]  # fmt: skip


def tool(wf="wf_1", **fields):
    told = {"timestamp": "2026-01-11T10:30:00Z", "workflow_id_hash": ids.hashed(SALT, wf)}
    return tool_entry(told | fields, "here")


def process(wf="wf_1", **fields):
    return process_entry({"timestamp": "2026-01-11T10:30:00Z", "workflow_id": wf} | fields, "here")


def written(folder, name, *rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))


def public(wf):
    """The workflow tool's own hash of an id."""
    return hashlib.sha256(f"workflow-orchestrator-default-salt-v1{wf}".encode()).hexdigest()[:16]


def test_the_fields_stand_in_the_order_of_the_formats_and_null_is_none():
    line = json.loads(to_line(tool(phases={"PLAN": 300}, items_skipped_pct=0.15)))
    assert list(line) == TOOL_FIELDS
    assert (line["phases"], line["items_skipped_pct"], line["reviews_worked"]) == ({"PLAN": 300}, 0.15, None)
    assert list(json.loads(to_line(process()))) == PROCESS_FIELDS


def test_when_it_was_sent_stands_last_and_only_in_what_was_sent():
    assert list(json.loads(to_line(tool(synced_at="2026-01-12T00:00:00Z")))) == [*TOOL_FIELDS, "synced_at"]


@pytest.mark.parametrize("make", [tool, process])
def test_what_was_written_is_read_as_the_same(make):
    entry = make(mode="interactive")
    again = {"ToolEntry": tool_entry, "ProcessEntry": process_entry}[type(entry).__name__]
    assert again(json.loads(to_line(entry)), "here") == entry


def test_half_a_surrogate_pair_and_odd_line_ends_stay_on_one_line(tmp_path):
    text = "half \ud83d, \u2028, \x85, \r\n, ü"
    Files(tmp_path).append([], [process(task=text)])
    assert len((tmp_path / entries.PROCESS_FILE).read_bytes().splitlines()) == 1
    assert Files(tmp_path).read(SALT).process[0].task == text


def test_entries_of_the_tool_itself_are_read():
    entry = tool_entry(
        {
            "timestamp": "2026-01-11T10:30:00.123456+00:00",
            "workflow_id_hash": public("wf_1"),
            "mode": "auto",
            "orchestrator_version": "2.6.0",
            "repo_type": "python",
            "duration_seconds": 1234,
            "phases": {"PLAN": 300},
            "parallel_agents_used": True,
            "reviews_performed": False,
            "errors_count": 2,
            "items_skipped_count": 3,
        },
        "here",
    )
    assert (entry.timestamp, entry.duration_seconds, entry.phases) == ("2026-01-11T10:30:00Z", 1234, {"PLAN": 300})
    assert entry.reviews_worked is None  # none was made, which is not a failed one
    assert entry.items_skipped_pct is None  # a count names no share


def test_process_entries_of_both_older_forms_are_read():
    one = process(
        errors_summary=["boom"], parallel_agents_used=True, items_skipped_reasons=["a: b"], mode="interactive"
    )
    assert (one.project_errors, one.parallel_agents_used) == (("boom",), True)
    assert process(errors_summary=[], parallel_agents_used=True, mode="auto").parallel_agents_used is None
    two = process(multi_agents_used=False, notes="Nice", reviews_performed=True)
    assert (two.parallel_agents_used, two.learnings, two.repo) == (False, "Nice", "unknown")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("timestamp", None, "has no timestamp"),
        ("timestamp", "yesterday", "timestamp is no time"),
        ("timestamp", "0001-01-01T00:00:00+14:00", "timestamp is no time"),
        ("timestamp", 1768127400, "timestamp is no text"),
        ("workflow_id_hash", None, "has no workflow_id_hash"),
        ("workflow_id_hash", "wf_ce03679d", "workflow_id_hash is not 32 hex digits"),
        ("duration_seconds", -1, "duration_seconds is no number"),
        ("duration_seconds", True, "duration_seconds is no number"),
        ("duration_seconds", float("inf"), "duration_seconds is no number"),
        ("phases", {"PLAN": "5"}, "phases.PLAN is no number"),
        ("phases", [1], "phases is no object"),
        ("reviews_worked", "yes", "reviews_worked is neither"),
        ("items_skipped", "a, b", "items_skipped is no list"),
        ("items_skipped", [1], "items_skipped is no list"),
        ("items_skipped_pct", 15, "items_skipped_pct is no share"),
        ("items_skipped_pct", float("nan"), "items_skipped_pct is no share"),
        ("mode", "robot", "mode is neither"),
    ],
)
def test_a_wrong_field_is_named(field, value, told):
    with pytest.raises(PayloadError) as refused:
        tool(**{field: value})
    assert refused.value.reason.startswith(told)
    assert refused.value.where == "here"


def test_bad_lines_are_told_with_file_and_line_and_the_good_ones_load(tmp_path):
    good = json.loads(to_line(tool()))
    written(
        tmp_path, entries.TOOL_FILE,
        b"\xef\xbb\xbf" + json.dumps(good).encode() + b"\r", b"", b"{", b"\xff\xfe", b"[]", b"3", b"null",
        b'{"items_skipped_pct": NaN}', b"[" * 100_000, good | {"phases": 1},
    )  # fmt: skip
    read = Files(tmp_path).read(SALT)
    assert read.tool == (tool(),)
    assert [r.where.split(":") for r in read.rejected] == [[entries.TOOL_FILE, str(n)] for n in range(3, 11)]
    reasons = [r.reason for r in read.rejected]
    assert reasons[0].startswith("is no JSON: Expecting property name")
    assert reasons[1:] == [
        "is not UTF-8", "is no JSON object", "is no JSON object", "is no JSON object", "is no JSON that can be read",
        "is no JSON that can be read", "phases is no object of seconds by phase",
    ]  # fmt: skip


def test_no_files_and_empty_files_hold_nothing(tmp_path):
    nothing = entries.Entries(tool=(), process=(), rejected=())
    assert Files(tmp_path).read(SALT) == nothing
    for name in (entries.TOOL_FILE, entries.PROCESS_FILE):
        (tmp_path / name).touch()
    assert Files(tmp_path).read(SALT) == nothing
    assert Files(tmp_path / "gone").read(SALT) == nothing


def test_the_later_line_of_a_workflow_counts_and_the_oldest_workflow_comes_first(tmp_path):
    files = Files(tmp_path)
    files.append([tool("wf_2", timestamp="2026-01-12T00:00:00Z"), tool("wf_1"), tool("wf_2", duration_seconds=5)], [])
    files.append([], [process("wf_2", timestamp="2026-01-12T00:00:00Z"), process("wf_1"), process("wf_1", task="b")])
    read = files.read(SALT)
    assert [e.duration_seconds for e in read.tool] == [0, 5]
    assert [(e.workflow_id, e.task) for e in read.process] == [("wf_1", "b"), ("wf_2", "")]


def test_a_workflow_that_the_tool_captured_too_counts_once_under_our_hash(tmp_path):
    at = "2026-01-11T11:00:00.5+00:00"
    written(tmp_path, entries.TOOL_FILE, {"timestamp": at, "workflow_id_hash": public("wf_1"), "duration_seconds": 9})
    written(tmp_path, entries.PROCESS_FILE, {"timestamp": at, "workflow_id": "wf_1"})
    assert [e.workflow_id_hash for e in Files(tmp_path).read(SALT).tool] == [ids.hashed(SALT, "wf_1")]
    Files(tmp_path).append([tool("wf_1", duration_seconds=7)], [])
    assert [e.duration_seconds for e in Files(tmp_path).read(SALT).tool] == [7]


def test_a_hash_that_can_be_guessed_is_never_passed_on(tmp_path):
    written(tmp_path, entries.TOOL_FILE, {"timestamp": "2026-01-11T11:00:00Z", "workflow_id_hash": public("wf_9")})
    (entry,) = Files(tmp_path).read(SALT).tool
    assert entry.workflow_id_hash == ids.hashed(SALT, public("wf_9"))


def test_entries_whose_workflow_the_tool_did_not_know_are_workflows_of_their_own(tmp_path):
    times = ["2026-01-11T11:00:00.000001+00:00", "2026-01-11T11:00:00.000002+00:00"]
    written(tmp_path, entries.TOOL_FILE, *({"timestamp": t, "workflow_id_hash": public("unknown")} for t in times))
    written(tmp_path, entries.PROCESS_FILE, *({"timestamp": t, "workflow_id": "unknown"} for t in times))
    read = Files(tmp_path).read(SALT)
    assert len(read.process) == 2
    assert {e.workflow_id_hash for e in read.tool} == {ids.hashed(SALT, e.workflow_id) for e in read.process}


def test_what_is_no_file_is_told_and_waited_for_by_nobody(tmp_path):
    os.mkfifo(tmp_path / entries.TOOL_FILE)
    with pytest.raises(ConfigError, match="is no file"):
        Files(tmp_path).read(SALT)
    with pytest.raises(ConfigError, match=r"is no file|No such device"):
        Files(tmp_path).append([tool()], [])
    (tmp_path / entries.TOOL_FILE).unlink()
    (tmp_path / entries.TOOL_FILE).mkdir()
    with pytest.raises(ConfigError, match="directory"):
        Files(tmp_path).read(SALT)


def test_an_entry_after_half_a_line_begins_a_line_of_its_own(tmp_path):
    (tmp_path / entries.TOOL_FILE).write_bytes(b'{"timestamp": "20')
    Files(tmp_path).append([tool()], [])
    read = Files(tmp_path).read(SALT)
    assert (read.tool, [r.where for r in read.rejected]) == ((tool(),), [f"{entries.TOOL_FILE}:1"])


def test_nobody_else_may_read_what_is_private(tmp_path):
    Files(tmp_path).append([tool()], [process()])
    assert (tmp_path / entries.PROCESS_FILE).stat().st_mode & 0o077 == 0


def in_process(code, *args, check=True):
    """Runs a script in a Python of its own."""
    script = "import sys\nfrom pathlib import Path\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=check, timeout=60
    )


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    files = Files(tmp_path)
    files.append([tool()], [])
    before = files.tool.read_bytes()
    failed = in_process(
        f"""
        import resource
        from feedback_lib.workflows.entries import *
        resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100}, resource.RLIM_INFINITY))
        entry = tool_entry({{"timestamp": "2026-01-12T00:00:00Z", "workflow_id_hash": "ab" * 16}}, "here")
        try:
            Files(Path(sys.argv[1])).append([entry], [])
        except Exception as problem:
            print(type(problem).__name__, problem)
        """,
        tmp_path,
    )
    assert failed.stdout.startswith("ConfigError")
    assert files.tool.read_bytes() == before


def test_lines_of_many_writers_neither_mix_nor_get_lost(tmp_path):
    long = "x" * 20_000
    writers = [
        threading.Thread(
            target=lambda n=n: [
                Files(tmp_path).append([tool(f"{n} {i}", tool_suggestions=long)], [process(f"{n} {i}", task=long)])
                for i in range(5)
            ]
        )
        for n in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    read = Files(tmp_path).read(SALT)
    assert (len(read.tool), len(read.process), read.rejected) == (40, 40, ())


def test_exactly_the_version_that_was_sent_is_marked(tmp_path):
    files = Files(tmp_path)
    first, second = tool("wf_1"), tool("wf_1", duration_seconds=9)
    files.append([first, tool("wf_2")], [])
    files.tool.write_bytes(files.tool.read_bytes() + b"no entry\n")
    files.append([second], [])
    assert files.mark({first.workflow_id_hash: version(first)}, "2026-01-12T00:00:00Z") == 1
    assert [e.synced_at for e in files.read(SALT).tool] == [None, None]  # the latest of wf_1 was not sent
    assert files.mark({second.workflow_id_hash: version(second)}, "2026-01-13T00:00:00Z") == 1
    assert files.mark({second.workflow_id_hash: version(second)}, "2026-01-14T00:00:00Z") == 0
    sent = {e.workflow_id_hash: e.synced_at for e in files.read(SALT).tool}
    assert sent[second.workflow_id_hash] == "2026-01-13T00:00:00Z"
    assert b"\nno entry\n" in files.tool.read_bytes()
    assert files.mark({second.workflow_id_hash: version(second)}, "2026-01-14T00:00:00Z", again=True) == 1
    assert "2026-01-14T00:00:00Z" in {e.synced_at for e in files.read(SALT).tool}


def test_an_entry_of_the_tool_itself_is_marked_under_our_hash_and_keeps_its_fields(tmp_path):
    row = {"timestamp": "2026-01-11T11:00:00Z", "workflow_id_hash": public("wf_1"), "errors_count": 3}
    written(tmp_path, entries.TOOL_FILE, row)
    (entry,) = Files(tmp_path).read(SALT).tool
    assert Files(tmp_path).mark({entry.workflow_id_hash: version(entry)}, "2026-01-12T00:00:00Z") == 1
    assert json.loads(Files(tmp_path).tool.read_bytes()) == row | {"synced_at": "2026-01-12T00:00:00Z"}


def test_marking_keeps_a_link_and_the_rights_of_the_file(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "tool.jsonl"
    real.write_text(to_line(tool()) + "\n")
    real.chmod(0o640)
    (tmp_path / entries.TOOL_FILE).symlink_to(real)
    Files(tmp_path).mark({tool().workflow_id_hash: version(tool())}, "2026-01-12T00:00:00Z")
    assert (tmp_path / entries.TOOL_FILE).is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "synced_at" in real.read_text()


def _migrated(files):
    files.legacy.write_text(json.dumps(OLD[1]) + "\n")
    files.migrate(SALT)


@pytest.mark.parametrize("name", [entries.TOOL_FILE, entries.PROCESS_FILE])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "write", [lambda files: files.append([tool()], []) or files.append([], [process()]), _migrated]
)
def test_what_a_repository_links_out_of_its_folder_is_not_written_to(tmp_path, name, there, write):
    """It could be a file that a shell runs, and an entry has words of the repository in it."""
    project, profile = tmp_path / "project", tmp_path / "profile"
    project.mkdir()
    if there:
        profile.write_text("mine\n")
    (project / name).symlink_to(profile)
    with pytest.raises(ConfigError, match="a link out of its folder"):
        write(Files(project))
    assert profile.exists() == there
    assert not there or profile.read_text() == "mine\n"


def test_what_lies_behind_a_link_out_of_the_folder_is_not_marked_either(tmp_path):
    project, other = tmp_path / "project", tmp_path / "other"
    project.mkdir()
    other.write_text(to_line(tool()) + "\n")
    (project / entries.TOOL_FILE).symlink_to(other)
    with pytest.raises(ConfigError, match="a link out of its folder"):
        Files(project).mark({tool().workflow_id_hash: version(tool())}, "2026-01-12T00:00:00Z")
    assert other.read_text() == to_line(tool()) + "\n"


def test_what_is_private_is_for_its_owner_alone_also_where_the_tool_made_it_for_everybody(tmp_path):
    files = Files(tmp_path)
    files.process.touch()
    files.process.chmod(0o644)
    files.append([tool()], [process()])
    assert files.process.stat().st_mode & 0o777 == 0o600
    assert files.tool.stat().st_mode & 0o600 == 0o600


# The single file of earlier versions

OLD = [
    {
        "timestamp": "2026-01-11T10:30:00.000001Z",
        "mode": "auto",
        "workflow_id": "unknown",
        "task": "",
        "repo": "https://jane:ghp_0123456789abcdef0123@git.example.org/acme/api",
        "parallel_agents_used": True,
        "reviews_performed": True,
        "errors_count": 3,
        "errors_summary": [
            "boom in billing",
            "orchestrator of acme broke",
            "orchestrator prd spawn: command not found",
            "ask jane@example.org",
        ],
        "items_skipped_count": 2,
        "items_skipped_reasons": ["visual_regression_test: no UI: none", "terraform_plan: no cloud"],
        "learnings": "Mock less.",
        "duration_seconds": 1234,
        "phases": {"PLAN": 300, "DEPLOY": 20, "ROLLBACK": 5},
    },
    {
        "workflow_id": "wf_2",
        "task": "Add login",
        "timestamp": "2026-01-12T10:30:00.5+00:00",
        "multi_agents_used": False,
        "what_went_well": "Tests first",
        "challenges": "Slow builds",
        "improvements": "Cache",
        "reviews_performed": False,
        "notes": "Nice",
    },
]


def test_the_single_file_is_split_in_two(tmp_path):
    (tmp_path / "go.mod").touch()
    written(tmp_path, entries.LEGACY_FILE, *OLD)
    before = (tmp_path / entries.LEGACY_FILE).read_bytes()
    done = Files(tmp_path).migrate(SALT)
    assert (done.entries, done.rejected, done.backup.read_bytes()) == (2, (), before)
    assert not (tmp_path / entries.LEGACY_FILE).exists()
    read = Files(tmp_path).read(SALT)
    auto, asked = read.tool
    assert (auto.repo_type, auto.duration_seconds, auto.phases) == ("go", 1234, {"PLAN": 300, "CUSTOM": 25})
    assert auto.orchestrator_errors == ("orchestrator prd spawn: command not found",)
    assert auto.items_skipped == (ids.item(SALT, "terraform_plan"), "visual_regression_test")
    assert auto.reviews_worked
    assert (asked.reviews_worked, asked.workflow_id_hash) == (None, ids.hashed(SALT, "wf_2"))
    first, second = read.process
    assert first.workflow_id == "unknown@2026-01-11T10:30:00.000001+00:00"
    assert first.project_errors == ("boom in billing", "orchestrator of acme broke", "ask [email]")
    assert first.repo == "https://[token]@git.example.org/acme/api"
    assert (first.parallel_agents_used, first.learnings) == (None, "Mock less.")  # it only looked for the word
    assert first.custom_workflow_items == ("terraform_plan",)
    assert (second.workflow_id, second.task, second.learnings) == ("wf_2", "Add login", "Nice")
    assert (second.what_went_well, second.challenges, second.improvements) == ("Tests first", "Slow builds", "Cache")
    assert second.parallel_agents_used is False
    assert {e.workflow_id_hash for e in read.tool} == {ids.hashed(SALT, e.workflow_id) for e in read.process}


def test_nothing_private_stands_in_the_tool_file_after_it(tmp_path):
    secret = {"repo_type": "cobol at Acme", "orchestrator_version": "of Acme", "tool_suggestions": "for Acme"}
    written(tmp_path, entries.LEGACY_FILE, *(row | secret for row in OLD))
    Files(tmp_path).migrate(SALT)
    text = Files(tmp_path).tool.read_text()
    for word in ("acme", "Acme", "billing", "terraform", "no UI", "Mock", "wf_2", "login", "DEPLOY", "unknown@"):
        assert word not in text


def test_lines_of_it_that_say_nothing_are_told_and_kept(tmp_path):
    written(tmp_path, entries.LEGACY_FILE, b"{half", OLD[1], {"workflow_id": "wf_3"}, b"\xff")
    done = Files(tmp_path).migrate(SALT)
    assert [r.where for r in done.rejected] == [f"{entries.LEGACY_FILE}:{n}" for n in (1, 3, 4)]
    assert done.entries == 1
    assert done.backup.read_bytes().startswith(b"{half\n")


def test_without_it_nothing_happens(tmp_path):
    assert Files(tmp_path).migrate(SALT) is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_captured_later_still_counts(tmp_path):
    files = Files(tmp_path)
    files.append([tool("wf_2", duration_seconds=7)], [process("wf_2", task="newer")])
    files.tool.write_bytes(b"\xef\xbb\xbf" + files.tool.read_bytes().rstrip(b"\n"))
    written(tmp_path, entries.LEGACY_FILE, *OLD)
    files.migrate(SALT)
    read = files.read(SALT)
    assert [e.duration_seconds for e in read.tool if e.workflow_id_hash == ids.hashed(SALT, "wf_2")] == [7]
    assert [e.task for e in read.process if e.workflow_id == "wf_2"] == ["newer"]
    assert (len(files.tool.read_bytes().splitlines()), read.rejected) == (3, ())


def test_a_second_single_file_does_not_replace_the_backup_of_the_first(tmp_path):
    files = Files(tmp_path)
    written(tmp_path, entries.LEGACY_FILE, OLD[0])
    first = files.migrate(SALT)
    written(tmp_path, entries.LEGACY_FILE, OLD[0], OLD[1])
    second = files.migrate(SALT)
    assert (first.backup.name, second.backup.name) == (entries.BACKUP_FILE, entries.BACKUP_FILE + ".2")
    assert json.loads(first.backup.read_bytes()) == OLD[0]
    assert len(files.tool.read_bytes().splitlines()) == len(files.process.read_bytes().splitlines()) == 2


KILLED = """
    import itertools, json, os, shutil, signal
    from feedback_lib.workflows.entries import Files, LEGACY_FILE

    SALT, legacy, root = b"s" * 32, Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
    ended = []

    def state(folder):
        return {p.name: p.read_bytes().decode() for p in sorted(folder.iterdir())}

    def prepared(name, there):
        folder = root / name
        folder.mkdir()
        for file, content in there.items():
            (folder / file).write_text(content)
        (folder / LEGACY_FILE).write_bytes(legacy)
        return folder

    for kind, there in json.loads(sys.argv[3]).items():
        whole = prepared(f"{kind}-whole", there)
        Files(whole).migrate(SALT)
        wanted = state(whole)
        for count in itertools.count(1):
            folder = prepared(f"{kind}-{count}", there)
            child = os.fork()
            if not child:
                left = [count]
                def hook(event, args):  # before each thing that is done to a file of the folder
                    if any(isinstance(a, (str, os.PathLike)) and str(a).startswith(str(folder)) for a in args):
                        left[0] -= 1
                        if not left[0]:
                            os.kill(os.getpid(), signal.SIGKILL)
                sys.addaudithook(hook)
                Files(folder).migrate(SALT)
                os._exit(0)
            killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            between = state(folder)
            for old, new in there.items():  # at no moment is a line of before lost
                assert all(line in between[old] for line in new.splitlines()), (kind, count)
            held = "".join(between.values())
            assert legacy.decode() in held, (kind, count)
            Files(folder).migrate(SALT)
            assert state(folder) == wanted, (kind, count, state(folder))
            ended.append(killed)
            if not killed:
                break
    print(sum(ended), len(ended))
"""


def test_stopped_at_any_point_it_goes_on_and_neither_loses_nor_doubles_anything(tmp_path):
    written(tmp_path, "legacy", *OLD, b"half a li")
    here = {"wf_5": to_line(tool("wf_5")) + "\n", "wf_6": to_line(process("wf_6"))}
    kinds = {
        "alone": {},
        "both": {entries.TOOL_FILE: here["wf_5"] + "no entry\n", entries.PROCESS_FILE: here["wf_6"]},
        "one": {entries.PROCESS_FILE: here["wf_6"]},
        "stale": {entries.TOOL_FILE: here["wf_5"]},
    }
    (tmp_path / "work").mkdir()
    done = in_process(KILLED, tmp_path / "legacy", tmp_path / "work", json.dumps(kinds), check=False)
    assert done.returncode == 0, done.stderr
    killed, runs = map(int, done.stdout.split())
    assert runs - killed == len(kinds)  # only the last run of each kind came to its end
    assert killed >= 8 * len(kinds)


def test_what_a_stopped_one_left_half_written_is_not_used(tmp_path):
    for name in (entries.TOOL_FILE, entries.PROCESS_FILE):
        (tmp_path / f"{name}.part").write_text('{"half')
    written(tmp_path, entries.LEGACY_FILE, *OLD)
    Files(tmp_path).migrate(SALT)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [entries.BACKUP_FILE, entries.TOOL_FILE, entries.PROCESS_FILE]
    )
    assert Files(tmp_path).read(SALT).rejected == ()


def test_an_entry_that_was_sent_before_a_stopped_migration_went_on_is_not_doubled(tmp_path):
    files = Files(tmp_path)
    written(tmp_path, entries.LEGACY_FILE, *OLD)
    files.migrate(SALT)
    files.mark({e.workflow_id_hash: version(e) for e in files.read(SALT).tool}, "2026-01-13T00:00:00Z")
    (tmp_path / entries.BACKUP_FILE).rename(tmp_path / entries.LEGACY_FILE)
    files.process.unlink()
    files.migrate(SALT)
    assert len(files.tool.read_bytes().splitlines()) == len(files.process.read_bytes().splitlines()) == 2
    assert all(e.synced_at for e in files.read(SALT).tool)


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("$ orchestrator start 'Sell Acme to Bob'\nError: exit code 3", "orchestrator start: exit code 3"),
        ("orchestrator task-done acme-billing exploded", "orchestrator task-done: failed"),
        ("KeyError: 'acme'", "KeyError: <id>"),
        ("ConnectionError: HTTPSConnectionPool(host='git.acme.corp', port=443): Max retries", "ConnectionError"),
        ("something odd about Acme", "error"),
        ("", "error"),
    ],
)
def test_an_error_of_the_tool_is_shared_without_what_is_somebodys_own(text, shared):
    assert telling.tool_error(text).startswith(shared)
    assert "acme" not in telling.tool_error(text).lower()


def test_names_of_here_stand_in_no_error_of_the_tool():
    assert telling.tool_error("KeyError: Zanzibar is not there", {"zanzibar"}) == "KeyError"


def test_only_a_version_is_one():
    assert tool(orchestrator_version="2.6.0rc1").orchestrator_version == "2.6.0rc1"
    assert tool(orchestrator_version="of Acme").orchestrator_version == "unknown"
