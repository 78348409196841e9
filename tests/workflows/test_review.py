"""A folder's entries reviewed: the window, ids behind hashes, items by name, what is told of lines that are none."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from statistics import median

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from feedback_lib.analysis.patterns import Thresholds
from feedback_lib.config import Config
from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.workflows import entries, ids, review, settings
from feedback_lib.workflows.capture import capture

NOW = dt.datetime(2026, 1, 15, 12, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _installation(tmp_path, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "project"
    made.mkdir()
    return made


def stamp(at):
    return entries.stamp(at) if isinstance(at, dt.datetime) else at


def tool(workflow, at=NOW, **fields):
    """A tool entry of a workflow; an id of 16 or 32 hex digits stands as it is."""
    digest = workflow if len(workflow) in (16, 32) else ids.hashed(settings.salt(), workflow)
    told = {"timestamp": stamp(at), "workflow_id_hash": digest, "items_skipped": [], "items_skipped_pct": 0.0}
    return entries.tool_entry(told | fields, "here")


def process(workflow, at=NOW, **fields):
    return entries.process_entry({"timestamp": stamp(at), "workflow_id": workflow} | fields, "here")


def written(folder, *made):
    tools = [e for e in made if isinstance(e, entries.ToolEntry)]
    entries.Files(folder).append(tools, [e for e in made if isinstance(e, entries.ProcessEntry)])


def reviewed(folder, **options):
    return review.review(folder, **{"now": NOW, "days": None} | options)


def only(found, kind):
    return [p for p in found.patterns if p.kind == kind]


# --- which workflows --------------------------------------------------------------------------------------------------


def test_both_entries_of_a_workflow_are_one_workflow_shown_by_its_id(folder):
    written(folder, tool("wf_1", reviews_worked=True), process("wf_1"), process("wf_2"))
    found = reviewed(folder)
    assert sorted(found.workflows) == ["wf_1", "wf_2"]
    assert only(found, "reviews")[0].workflows == ("wf_1",)


def test_an_entry_on_the_edge_of_the_window_is_in_it_and_one_second_earlier_is_not(folder):
    edge = NOW - dt.timedelta(days=7)
    written(folder, process("wf_on", edge), process("wf_out", edge - dt.timedelta(seconds=1)), process("wf_now", NOW))
    found = reviewed(folder, days=7)
    assert found.workflows == ("wf_on", "wf_now")
    assert (found.since, found.window) == (edge, "last 7 days")
    assert reviewed(folder, days=None).workflows == ("wf_out", "wf_on", "wf_now")


def test_an_entry_dated_after_now_is_left_out_of_a_window_and_told(folder):
    written(folder, process("wf_1"), process("wf_late", NOW + dt.timedelta(seconds=1)))
    found = reviewed(folder, days=7)
    assert found.workflows == ("wf_1",)
    assert found.notes == ("1 of 2 entries is dated after now and left out; --all has it",)


def test_times_of_another_zone_are_compared_as_the_moments_they_are(folder):
    written(folder, process("wf_1", "2026-01-15T13:59:59+02:00"), process("wf_2", "2026-01-15T10:00:01-02:00"))
    assert reviewed(folder, days=1).workflows == ("wf_1",)


def test_a_window_longer_than_the_calendar_is_all_time(folder):
    written(folder, process("wf_1", "2001-01-01T00:00:00Z"))
    assert reviewed(folder, days=10**9).workflows == ("wf_1",)


def test_without_entries_it_says_where_it_looked_and_what_to_run(folder):
    found = reviewed(folder)
    assert (found.workflows, found.patterns) == ((), ())
    assert found.text().splitlines()[0] == "Feedback Review (all time, 0 workflows)"
    assert ".workflow_tool_feedback.jsonl and .workflow_process_feedback.jsonl" in found.text()
    assert f"run: feedback capture --dir {folder}" in found.text()
    assert "PATTERNS DETECTED" not in found.text()


def test_with_entries_outside_the_window_only_it_says_so(folder):
    written(folder, process("wf_1", "2025-12-01T00:00:00Z"), process("wf_2", "2025-12-02T00:00:00Z"))
    assert (
        "none of 2 entries is in the window; the newest is of 2025-12-02T00:00:00Z" in reviewed(folder, days=7).text()
    )


def test_a_workflow_of_which_only_a_hash_is_known_is_told_by_its_beginning(folder):
    written(folder, tool("ab" * 16, reviews_worked=True))
    found = reviewed(folder)
    assert found.workflows == ("ab" * 16,)
    assert f"in {'ab' * 6}…" in found.text()


def test_a_learning_is_not_called_one_twice(folder):
    written(folder, process("wf_1", learnings="Key learnings: mock less. Learnings: none"))
    assert '• Learned: "mock less. Learnings: none" (wf_1)' in reviewed(folder).text()
    assert reviewed(folder).said[0].text.startswith("Key learnings")


@pytest.mark.parametrize("width", [1, 20, 45, 200])
def test_folded_text_keeps_every_word_and_the_width_where_words_allow_it(folder, width):
    written(folder, *(process(f"wf_{n}", challenges="the cache is cold", learnings="warm it first") for n in range(9)))
    text = reviewed(folder).text()
    folded = review.folded(text, width)
    assert folded.replace("━", "").split() == text.replace("━", "").split()
    longest = max(map(len, text.split("\n")[2:] if width < 30 else folded.split("\n")))
    assert longest <= width or width < 30


def test_only_tool_or_only_process_looks_at_one_of_the_files(folder):
    written(folder, tool("wf_1", reviews_worked=True), process("wf_1", parallel_agents_used=False))
    assert {p.kind for p in reviewed(folder, process=False).patterns} == {"reviews"}
    assert {p.kind for p in reviewed(folder, tool=False).patterns} == {"parallel"}
    assert reviewed(folder, process=False).workflows == ("wf_1",)
    assert [f.rpartition("/")[2] for f in reviewed(folder, tool=False).files] == [".workflow_process_feedback.jsonl"]


def test_the_workflow_tools_own_public_hash_of_sixteen_digits_is_the_same_workflow(folder):
    public = hashlib.sha256(b"workflow-orchestrator-default-salt-v1wf_1").hexdigest()[:16]
    written(folder, process("wf_1"))
    path = folder / ".workflow_tool_feedback.jsonl"
    path.write_text(json.dumps({"timestamp": stamp(NOW), "workflow_id_hash": public}) + "\n")
    assert reviewed(folder).workflows == ("wf_1",)


def test_a_hash_that_no_salt_leads_to_is_joined_by_the_moment_when_nobody_else_claims_it(folder):
    lost, later = "a" * 32, NOW + dt.timedelta(hours=1)
    written(folder, tool(lost, reviews_worked=True), process("wf_1"), process("wf_2", later))
    assert reviewed(folder).workflows == ("wf_1", "wf_2")


def test_a_workflow_captured_with_two_salts_counts_once(folder):
    facts = {"duration_seconds": 60, "phases": {"PLAN": 60}, "items_skipped_pct": 0.5}
    skips = [{"items_skipped": ["check_roadmap", own]} for own in ("custom:12345678", "custom:9abcdef0")]
    lost, other = tool("a" * 32, **facts | skips[0]), tool("b" * 32, **facts | skips[0] | {"duration_seconds": 61})
    written(folder, lost, tool("wf_1", **facts | skips[1]), process("wf_1"), other)
    assert sorted(reviewed(folder).workflows) == ["b" * 32, "wf_1"]


def test_very_many_process_entries_without_a_tool_entry_are_joined_at_once(folder):
    read = entries.Entries(tool=(), process=tuple(process(f"wf_{n}") for n in range(20_000)), rejected=())
    began = time.perf_counter()
    assert len(review._ids(read, settings.salt())) == 20_000
    assert time.perf_counter() - began < 2  # each with each would be 200 million comparisons


def test_a_hash_that_two_workflows_of_one_moment_could_have_is_a_workflow_of_its_own(folder):
    written(folder, tool("a" * 32), process("wf_1"), process("wf_2"))
    assert sorted(reviewed(folder).workflows) == ["a" * 32, "wf_1", "wf_2"]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_items_of_the_project_are_shown_by_their_names(folder):
    salt = settings.salt()
    hidden = ids.item(salt, "terraform_plan")
    assert hidden.startswith("custom:")
    written(
        folder,
        process("wf_1", custom_workflow_items=["terraform_plan"]),
        *(tool(f"wf_{i}", items_skipped=[hidden, "custom:00000000"], items_skipped_pct=0.5) for i in range(3)),
    )
    assert [p.key for p in only(reviewed(folder), "skip")] == ["custom:00000000", "terraform_plan"]


def test_the_text_is_that_of_the_example(folder):
    """The shares, marks and suggestions of the workflow tool's own example."""
    said = ["Mock setup tricky", "Test timeout issues", "mock setup tricky", "test timeout issues.", ""]
    for i in range(5):
        at = NOW - dt.timedelta(hours=5 - i)
        errors = ["ModuleNotFoundError: pytest_asyncio"] if i < 3 else []
        written(
            folder,
            tool(f"wf_{i}", at, reviews_worked=True if i else None, phases={"PLAN": 900, "EXECUTE": 2700}),
            process(f"wf_{i}", at, parallel_agents_used=i == 4, project_errors=errors, challenges=said[i]),
        )
    assert reviewed(folder, days=7).text() == (
        "Feedback Review (last 7 days, 5 workflows)\n"
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━\n"
        "\n"
        "PATTERNS DETECTED:\n"
        '⚠ Common error: "ModuleNotFoundError: pytest_asyncio" (3 of 5 workflows, 60%)\n'
        '   → Suggestion: Add to roadmap: "Add dependency check to PLAN phase"\n'
        "   in wf_0, wf_1, wf_2\n"
        "\n"
        "⚠ Parallel agents rarely used (1 of 5 workflows, 20%)\n"
        "   → Suggestion: Improve Phase 0 guidance in workflow.yaml\n"
        "   in wf_4\n"
        "\n"
        "✓ Reviews performed consistently (4 of 5 workflows, 80%)\n"
        "   in wf_1, wf_2, wf_3, wf_4\n"
        "\n"
        "COMMON CHALLENGES:\n"
        '  • "Mock setup tricky" (mentioned in 2 of 4 workflows that name a challenge, 50%)\n'
        "     in wf_0, wf_2\n"
        '  • "Test timeout issues" (mentioned in 2 of 4 workflows that name a challenge, 50%)\n'
        "     in wf_1, wf_3\n"
        "\n"
        "LEARNINGS SUMMARY:\n"
        "  • Phase timings: median PLAN=15min (5), EXECUTE=45min (5); in brackets the workflows that closed it"
    )  # fmt: skip


def test_evidence_is_cut_in_the_text_and_whole_in_json(folder):
    written(folder, *(process(f"wf_{i:02}", parallel_agents_used=True) for i in range(12)))
    found = reviewed(folder)
    assert "   in wf_00, wf_01, wf_02, wf_03, wf_04, wf_05, wf_06, wf_07, wf_08, wf_09 and 2 more" in found.text()
    assert len(found.to_dict()["patterns"][0]["workflows"]) == 12


def test_learnings_improvements_and_suggestions_are_told_newest_first(folder):
    earlier = NOW - dt.timedelta(hours=1)
    written(
        folder,
        process("wf_1", earlier, learnings="Small steps", improvements="none"),
        process("wf_2", learnings="Flags helped", improvements="Check the database"),
        tool("wf_2", tool_suggestions="Shorter prompts"),
    )
    found = reviewed(folder)
    assert [(s.field, s.workflow, s.text) for s in found.said if s.field == "learnings"] == [
        ("learnings", "wf_2", "Flags helped"),
        ("learnings", "wf_1", "Small steps"),
    ]
    assert '  • Suggested for the project: "Check the database" (wf_2)' in found.text()
    assert '  • Suggested for the tool: "Shorter prompts" (wf_2)' in found.text()
    assert "none" not in [s.text for s in found.said]


def test_the_review_is_json_with_all_of_its_numbers(folder):
    written(folder, *(tool(f"wf_{i}", items_skipped=["docs"], phases={"PLAN": 60}) for i in range(3)))
    told = json.loads(json.dumps(reviewed(folder, days=3).to_dict()))
    assert told["summary"]["items_skipped"] == 3
    assert told["summary"]["phases"] == {"PLAN": {"median_s": 60, "workflows": 3}}
    assert told["thresholds"]["skip_share"] == 0.8
    assert (told["since"], told["until"]) == ("2026-01-12T12:00:00+00:00", "2026-01-15T12:00:00+00:00")
    (skip,) = [p for p in told["patterns"] if p["kind"] == "skip"]
    assert (skip["mark"], skip["facts"]["share"], round(skip["facts"]["low"], 2)) == ("⚠", 1, 0.44)


def test_a_drift_is_told_with_its_interval_among_the_patterns(folder):
    at = [NOW - dt.timedelta(hours=20 - i) for i in range(8)]
    written(folder, *(tool(f"wf_{i}", at[i], phases={"PLAN": 100 if i < 4 else 300}) for i in range(8)))
    assert "⚠ Phase PLAN takes 3 times as long as before (95% interval 3–3) (median 3min in 8 workflows)\n" in (
        reviewed(folder).text()
    )


# --- bad input --------------------------------------------------------------------------------------------------------


def test_lines_that_are_no_entries_are_told_with_file_line_and_reason_and_the_others_count(folder):
    written(folder, process("wf_1"))
    path = folder / ".workflow_process_feedback.jsonl"
    good = path.read_text()
    path.write_text(
        good + '{"timestamp": "yesterday", "workflow_id": "wf_2"}\n{"half": \n' + good.replace("wf_1", "wf_3")
    )
    found = reviewed(folder)
    assert sorted(found.workflows) == ["wf_1", "wf_3"]
    assert ["2" in r.where and ".workflow_process_feedback.jsonl" in r.where for r in found.rejected] == [True, False]
    assert len(found.rejected) == 2
    assert "2 lines could not be read and are in no number:" in found.text()
    assert found.to_dict()["rejected"][0]["reason"]


def test_the_single_file_of_earlier_versions_is_taken_over_first(folder):
    said = {"timestamp": stamp(NOW), "workflow_id": "wf_1", "mode": "auto", "challenges": "Slow tests"}
    (folder / ".workflow_feedback.jsonl").write_text(json.dumps(said) + "\n")
    found = reviewed(folder)
    assert found.workflows == ("wf_1",)
    assert found.notes[0].startswith("1 entry was taken over from .workflow_feedback.jsonl, which is kept as ")
    assert not (folder / ".workflow_feedback.jsonl").exists()
    assert reviewed(folder).notes == ()


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere is no folder; --dir"):
        reviewed(tmp_path / "nowhere")


# --- thresholds and meaning -------------------------------------------------------------------------------------------


def test_thresholds_are_those_of_the_params_and_an_unknown_one_names_the_nearest():
    assert review.thresholds(Config(workflows={"skip_share": 0.9})) == Thresholds(skip_share=0.9)
    with pytest.raises(ConfigError, match=r"unknown key 'skip_shar'; did you mean 'skip_share'"):
        review.thresholds(Config(workflows={"skip_shar": 0.9}))
    with pytest.raises(ConfigError, match=r"weekly.yaml workflows: skip_share = 80.0: expected a share from 0 to 1"):
        review.thresholds(Config(workflows={"skip_share": 80}, path="weekly.yaml"))


@pytest.fixture
def static(tmp_path):
    """A model of five words: mock and stub are near, docker is not."""
    path = tmp_path / "model"
    path.mkdir()
    words = {"[UNK]": 0, "mock": 1, "stub": 2, "docker": 3, "slow": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    table = np.array([[0, 0, 1], [1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [-1, 0, 0]], np.float32)
    save_file({"embeddings": table}, path / "model.safetensors")
    return {"kind": "static", "path": str(path)}


def test_challenges_are_grouped_by_the_meaning_that_the_encoder_of_the_params_sees(folder, static):
    written(
        folder,
        process("wf_1", challenges="mock"),
        process("wf_2", challenges="stub"),
        process("wf_3", challenges="docker"),
    )
    similar = review.by_meaning(Config(encoder=static), 0.6)
    (found,) = only(reviewed(folder, similar=similar), "challenge")
    assert found.workflows == ("wf_1", "wf_2")
    assert not only(reviewed(folder, similar=review.by_meaning(Config(encoder=static), 0.81)), "challenge")


def test_no_encoder_is_made_for_fewer_than_two_challenges(folder):
    written(folder, process("wf_1", challenges="mock"), process("wf_2", challenges="mock"))
    broken = review.by_meaning(Config(encoder={"kind": "static", "path": "/nowhere"}), 0.6)
    assert only(reviewed(folder, similar=broken), "challenge")
    written(folder, process("wf_3", challenges="docker"))
    with pytest.raises(ConfigError, match="static encoder"):
        reviewed(folder, similar=broken)


def test_a_model_that_cannot_be_had_leaves_equal_texts_alike_and_is_told(folder):
    def offline(texts):
        raise TransportError("hub", "no answer")

    written(folder, *(process(f"wf_{i}", challenges="mock" if i < 2 else "stub") for i in range(3)))
    found = reviewed(folder, similar=offline)
    assert only(found, "challenge")[0].workflows == ("wf_0", "wf_1")
    assert found.notes == ("texts are alike only where they are equal, as the model could not be had: hub: no answer",)


def test_of_very_many_texts_the_newest_are_compared(static, monkeypatch):
    monkeypatch.setattr(review, "_GROUPED", 2)
    first, second, third = review.by_meaning(Config(encoder=static), 0.6)(["mock", "slow", "docker"])
    assert len({first, second, third}) == 3
    assert first < 0


def test_the_default_encoder_sees_that_two_people_name_the_same_challenge(folder, cache):
    """Paraphrases are found; other subjects of the same trade are none."""
    said = {
        "wf_1": "Mock setup tricky",
        "wf_2": "Setting up mocks was hard",
        "wf_3": "Docker builds were slow because the cache was invalidated",
        "wf_4": "Docker build cache issues slowed iteration",
        "wf_5": "Tests kept timing out",
        "wf_6": "Merge conflicts with main",
    }
    written(folder, *(process(workflow, challenges=text) for workflow, text in said.items()))
    options = Thresholds()
    found = reviewed(folder, options=options, similar=review.by_meaning(Config(), options.challenge_similarity))
    assert {p.workflows for p in only(found, "challenge")} == {("wf_1", "wf_2"), ("wf_3", "wf_4")}


# --- the real log -----------------------------------------------------------------------------------------------------


@pytest.fixture
def real(folder, reference):
    """What was derived from the real log by other means, and the folder with the log captured."""
    source = reference / "orchestrator"
    (folder / ".workflow_log.jsonl").write_bytes((source / "workflow_log_union.jsonl").read_bytes())
    capture(folder)
    return json.loads((source / "derived_expected_from_log.json").read_text("utf-8"))


def test_on_the_real_log_three_items_are_skipped_in_eight_of_ten_workflows(folder, real):
    skipped = {}
    for workflow, about in real.items():
        for item in about["skipped"]:
            skipped.setdefault(item, set()).add(workflow)
    found = {p.key: p for p in only(reviewed(folder), "skip")}
    assert found.keys() == {"refactoring_assessment", "update_knowledge_base", "visual_regression_test"}
    assert found.keys() == {item for item, workflows in skipped.items() if len(workflows) >= 8}
    for item, pattern in found.items():
        assert (pattern.count, pattern.of) == (8, 10)
        assert set(pattern.workflows) == skipped[item]


def test_on_the_real_log_the_missing_package_file_is_one_error_in_five_workflows(folder, real):
    (found,) = only(reviewed(folder), "error")
    failed = {"wf_ce03679d", "wf_e3bef6ab", "wf_4279a9ec", "wf_5ed34242", "wf_66575d3b"}
    assert failed == set(found.workflows)
    assert failed == {workflow for workflow, about in real.items() if about["verification_failed"]} - {"wf_3c236a6b"}
    assert "Could not read package.json" in found.title
    assert (found.count, found.of, found.facts["origins"]) == (5, 10, ["project"])


def test_on_the_real_log_phases_have_the_medians_of_what_was_derived(folder, real):
    found = {p.key: p for p in only(reviewed(folder), "phase")}
    spent = {}
    for about in real.values():
        for name, seconds in about["phases"].items():
            spent.setdefault(name, []).append(seconds)
    assert {name: p.facts["median_s"] for name, p in found.items()} == {n: median(s) for n, s in spent.items()}
    assert {name: p.of for name, p in found.items()} == {n: len(s) for n, s in spent.items()}


def test_on_the_real_log_no_workflow_tells_of_parallel_work(folder, real):
    (found,) = only(reviewed(folder), "parallel")
    assert (found.warns, found.of, found.mark) == (False, 0, "·")
