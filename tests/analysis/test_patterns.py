"""Patterns over entries: every threshold exactly on its edge, and what must not become a pattern."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from feedback_lib.analysis import patterns
from feedback_lib.analysis.patterns import Thresholds, drift, find, groups, growths, percent, reaches, statements

TRACE = """Traceback (most recent call last):
  File "{path}", line {line}, in load
    return table[key]
KeyError: 'order-{number}'"""


def at(number):
    return (dt.datetime(2026, 1, 5, tzinfo=dt.UTC) + dt.timedelta(hours=number)).isoformat()


def tool(number, **fields):
    return {"workflow_id_hash": f"h{number}", "timestamp": at(number)} | fields


def process(number, **fields):
    return {"workflow_id": f"wf_{number}", "timestamp": at(number)} | fields


def only(found, kind):
    return [p for p in found if p.kind == kind]


# --- skipped items ----------------------------------------------------------------------------------------------------


def skips(skipped, of):
    return [tool(i, items_skipped=("docs",) if i < skipped else ()) for i in range(of)]


@pytest.mark.parametrize(
    ("skipped", "of", "is_one"),
    [(8, 10, True), (7, 10, False), (4, 5, True), (3, 4, False), (799, 1000, False), (800, 1000, True)],
)
def test_an_item_is_often_skipped_from_exactly_80_percent_on(skipped, of, is_one):
    """0.8 * 10 is 8.000000000000002 nowhere, and 79.9 % is not 80."""
    assert bool(only(find(skips(skipped, of), []), "skip")) is is_one


@pytest.mark.parametrize(("share", "skipped", "of"), [(0.7, 7, 10), (0.55, 11, 20), (0.57, 57, 100), (0.29, 29, 100)])
def test_a_share_that_floats_cannot_hold_is_compared_as_it_is_written(share, skipped, of):
    options = Thresholds(skip_share=share)
    assert only(find(skips(skipped, of), [], options), "skip")
    assert not only(find(skips(skipped - 1, of), [], options), "skip")


def test_nothing_is_said_of_skipped_items_with_fewer_than_three_workflows():
    assert not only(find(skips(2, 2), []), "skip")
    (found,) = only(find(skips(3, 3), []), "skip")
    assert (found.key, found.count, found.of, found.workflows) == ("docs", 3, 3, ("h0", "h1", "h2"))
    assert found.sentence() == "Often skipped: docs (3 of 3 workflows, 100%)"


def test_an_item_skipped_twice_in_a_workflow_counts_once():
    rows = [tool(i, items_skipped=("docs", "docs") if i < 2 else ()) for i in range(4)]
    assert not only(find(rows, []), "skip")


def test_workflows_that_do_not_tell_what_was_skipped_are_in_no_share():
    rows = [
        *skips(3, 3),
        *(tool(i) for i in range(3, 10)),
        tool(11, items_skipped=None),
        tool(12, items_skipped="docs"),
    ]
    (found,) = only(find(rows, []), "skip")
    assert (found.count, found.of) == (3, 3)


def test_an_entry_of_an_earlier_version_that_wrote_no_list_of_skips_is_in_no_share():
    silent = [tool(i, items_skipped=(), items_skipped_pct=None) for i in range(3, 20)]
    (found,) = only(find([*skips(3, 3), *silent], []), "skip")
    assert (found.count, found.of) == (3, 3)
    (found,) = only(find([*skips(4, 4), tool(9, items_skipped=(), items_skipped_pct=0.0)], []), "skip")
    assert (found.count, found.of) == (4, 5)


def test_a_share_has_its_95_percent_interval():
    (found,) = only(find(skips(8, 10), []), "skip")
    assert found.facts["share"] == 0.8
    assert [round(found.facts[end], 3) for end in ("low", "high")] == [0.49, 0.943]  # Wilson, 8 of 10


# --- errors -----------------------------------------------------------------------------------------------------------


def test_the_same_error_on_another_line_path_and_order_is_one_pattern_of_two_workflows():
    rows = [
        process(0, project_errors=(TRACE.format(path="/home/ann/a.py", line=4, number=11),)),
        process(1, project_errors=(TRACE.format(path="/srv/b/a.py", line=90, number=77),)),
        process(2, project_errors=()),
    ]
    (found,) = only(find([], rows), "error")
    assert (found.count, found.of, found.workflows) == (2, 3, ("wf_0", "wf_1"))
    assert found.title == "Common error: \"KeyError: 'order-77'\""
    assert len(found.facts["examples"]) == 2


def test_an_error_is_common_from_two_workflows_on_however_often_it_happened_in_one():
    rows = [process(0, project_errors=("ValueError: bad",) * 5), process(1, project_errors=("TypeError: worse",))]
    assert not only(find([], rows), "error")
    again = [*rows, process(2, project_errors=("ValueError: bad",))]
    (found,) = only(find([], again), "error")
    assert found.sentence() == 'Common error: "ValueError: bad" (2 of 3 workflows, 66.7%)'
    assert not only(find([], again, Thresholds(error_workflows=3)), "error")


def test_a_text_in_which_no_error_is_seen_is_compared_without_numbers_paths_and_case():
    rows = [
        process(0, project_errors=("Terraform state locked by 4711 in /tmp/a/b.lock",)),
        process(1, project_errors=("terraform state LOCKED by 12 in /var/x/b.lock.",)),
        process(2, project_errors=("Connection refused",)),
    ]
    (found,) = only(find([], rows), "error")
    assert found.workflows == ("wf_0", "wf_1")


def test_npm_without_its_package_file_is_one_error_in_any_folder():
    said = (
        "Verification failed: Command failed (exit code 254, expected 0)\n$ npm run build\n"
        "npm error code ENOENT\nnpm error path {folder}/package.json\nnpm error enoent Could not read package.json: "
        "Error: ENOENT: no such file or directory, open '{folder}/package.json'\n"
        "npm error A complete log of this run can be found in: {log}-debug-0.log"
    )
    rows = [
        process(i, project_errors=(said.format(folder=f"/home/u{i}/it", log=f"/root/.npm/_logs/2026-01-0{i}T02_32"),))
        for i in range(1, 6)
    ]
    (found,) = only(find([], rows), "error")
    assert (found.count, found.of) == (5, 5)
    assert found.title.startswith('Common error: "npm error enoent Could not read package.json: Error: ENOENT')


FAILED = "Verification failed: Command failed (exit code 1, expected 0)\n$ {command}\n{printed}"


def test_that_two_commands_left_with_the_same_code_does_not_make_it_the_same_error():
    printed = {"pytest": "E   AssertionError: 3 != 4", "ruff check": "E501 line too long", "mypy .": "error: bad type"}
    texts = [FAILED.format(command=command, printed=text) for command, text in printed.items()]
    rows = [process(i, project_errors=(text,)) for i, text in enumerate(texts)]
    assert not only(find([], rows), "error")
    (found,) = only(find([], [*rows, process(9, project_errors=texts[:1])]), "error")
    assert found.title == 'Common error: "E AssertionError: 3 != 4"'


def test_a_line_that_only_repeats_the_code_tells_nothing_of_the_error():
    go = "--- FAIL: {} (0.{}s)\n    a_test.go:1{}: got 1 want 2\nFAIL\nexit status 1\nFAIL\texample.com/a\t0.{}s"
    texts = [FAILED.format(command="go test", printed=go.format(*which)) for which in ("A123", "A789", "B123")]
    found = only(find([], [process(i, project_errors=(text,)) for i, text in enumerate(texts)]), "error")
    assert [(p.title, p.count) for p in found] == [('Common error: "--- FAIL: A (0.7s)"', 2)]


def test_commands_that_printed_nothing_are_told_apart_by_what_was_called():
    calls = [FAILED.format(command=command, printed="") for command in ("make a", "make a", "make b")]
    (found,) = only(find([], [process(i, project_errors=(text,)) for i, text in enumerate(calls)]), "error")
    assert found.workflows == ("wf_0", "wf_1")


def test_a_workflow_counts_once_when_both_its_entries_tell_the_error():
    said = "orchestrator advance: Error: no active workflow"
    tools = [tool(i, workflow=f"w{i}", orchestrator_errors=(said,) if i < 2 else ()) for i in range(4)]
    processes = [process(i, workflow=f"w{i}", project_errors=(said,) if i == 0 else ()) for i in range(4)]
    (found,) = only(find(tools, processes), "error")
    assert (found.count, found.of, found.facts["origins"]) == (2, 4, ["project", "tool"])


def test_an_error_of_the_tool_is_counted_out_of_the_workflows_that_have_a_tool_entry():
    tools = [tool(i, workflow=f"w{i}", orchestrator_errors=("Error: locked",)) for i in range(2)]
    (found,) = only(find(tools, [process(i, workflow=f"w{i}", project_errors=()) for i in range(9)]), "error")
    assert (found.count, found.of) == (2, 2)


def test_a_missing_package_suggests_a_check_of_dependencies():
    rows = [process(i, project_errors=("ModuleNotFoundError: pytest_asyncio",)) for i in range(2)]
    (found,) = only(find([], rows), "error")
    assert found.advice == 'Add to roadmap: "Add dependency check to PLAN phase"'


# --- reviews, parallel work, guidance ---------------------------------------------------------------------------------


def reviews(*values):
    return [tool(i, reviews_worked=value) for i, value in enumerate(values)]


@pytest.mark.parametrize(("missing", "of", "warns"), [(5, 10, True), (4, 9, False), (2, 4, True), (499, 999, False)])
def test_reviews_are_missing_from_exactly_half_on(missing, of, warns):
    (found,) = only(find(reviews(*[None] * missing, *[True] * (of - missing)), []), "reviews")
    assert found.warns is warns
    assert found.count == (missing if warns else of - missing)


def test_reviews_in_four_of_five_are_consistent_as_in_the_example():
    (found,) = only(find(reviews(True, True, True, True, None), []), "reviews")
    assert (found.mark, found.sentence()) == ("✓", "Reviews performed consistently (4 of 5 workflows, 80%)")
    (found,) = only(find(reviews(True, True, True, None, None), []), "reviews")
    assert found.sentence() == "Reviews performed (3 of 5 workflows, 60%)"


def test_a_failed_review_is_not_a_missing_one_and_is_told_of_those_that_were_made():
    made, failed = only(find(reviews(True, False, None, True, True), []), "reviews")
    assert (made.key, made.count, made.facts["failed"], made.facts["worked"]) == ("made", 4, 1, 3)
    assert failed.sentence() == "Reviews failed (1 of 4 workflows with a review, 25%)"
    assert (failed.warns, failed.mark) == (False, "·")


def test_failed_reviews_warn_from_two_workflows_on():
    found = only(find(reviews(False, False, True), []), "reviews")
    assert [p.warns for p in found if p.key == "failed"] == [True]


def test_an_entry_without_the_field_says_nothing_of_reviews():
    assert not only(find([tool(0), tool(1, reviews_worked="yes")], []), "reviews")


def parallel(used, not_used, silent=0):
    values = [True] * used + [False] * not_used + [None] * silent
    return [process(i, parallel_agents_used=value) for i, value in enumerate(values)]


@pytest.mark.parametrize(("used", "of", "rare"), [(3, 10, False), (2, 10, True), (0, 3, True), (299, 1000, True)])
def test_parallel_work_is_rare_under_exactly_30_percent(used, of, rare):
    (found,) = only(find([], parallel(used, of - used)), "parallel")
    assert (found.warns, found.count, found.of) == (rare, used, of)


def test_parallel_work_is_shown_as_in_the_example():
    (found,) = only(find([], parallel(1, 4)), "parallel")
    assert found.sentence() == "Parallel agents rarely used (1 of 5 workflows, 20%)"
    assert (found.mark, found.advice) == ("⚠", "Improve Phase 0 guidance in workflow.yaml")
    assert found.facts["not_used"] == ["wf_1", "wf_2", "wf_3", "wf_4"]


def test_fewer_than_three_workflows_that_tell_make_no_warning_of_a_share():
    """The answer of one workflow of ten is no habit; it is told, without praise or blame."""
    (of_two,) = only(find(reviews(None, None), []), "reviews")
    (of_three,) = only(find(reviews(None, None, None), []), "reviews")
    assert (of_two.warns, of_two.mark, of_two.sentence()) == (False, "·", "Reviews performed (0 of 2 workflows, 0%)")
    assert (of_three.warns, of_three.mark, of_three.title) == (True, "⚠", "Reviews missing")
    assert [p.mark for n in (2, 3) for p in only(find(reviews(*[True] * n), []), "reviews")] == ["·", "✓"]
    (of_two,) = only(find([], parallel(0, 2, silent=8)), "parallel")
    (of_three,) = only(find([], parallel(0, 3, silent=7)), "parallel")
    assert (of_two.warns, of_two.mark, of_two.advice) == (False, "·", "")
    assert of_two.sentence() == "Parallel agents used (0 of 2 workflows, 0%, 8 more tell nothing)"
    assert (of_three.warns, of_three.title) == (True, "Parallel agents rarely used")
    (told,) = only(find([], parallel(0, 2), Thresholds(least_workflows=2)), "parallel")
    assert told.warns


def test_workflows_that_do_not_tell_of_parallel_work_are_in_no_share_and_are_told():
    (found,) = only(find([], parallel(3, 7, silent=90)), "parallel")
    assert not found.warns
    assert found.sentence() == "Parallel agents used (3 of 10 workflows, 30%, 90 more tell nothing)"


def test_that_no_workflow_tells_of_parallel_work_is_neither_good_nor_bad():
    (found,) = only(find([], parallel(0, 0, silent=10)), "parallel")
    assert (found.warns, found.mark, found.of) == (False, "·", 0)
    assert found.sentence() == "Parallel agents: none of 10 workflows tells whether they were used"


def test_guidance_is_counted_where_the_workflow_has_the_item():
    rows = [tool(i, phase0_guidance_used=value) for i, value in enumerate((True, False, None, None))]
    (found,) = only(find(rows, []), "guidance")
    assert found.sentence() == "Phase 0 guidance used (1 of 2 workflows that have it, 50%)"
    assert not only(find(rows[2:], []), "guidance")


# --- phases -----------------------------------------------------------------------------------------------------------


def phases(*seconds, name="PLAN"):
    return [tool(i, phases={name: value}) for i, value in enumerate(seconds)]


def test_a_phase_is_told_with_its_median_and_the_workflows_that_closed_it():
    (found,) = only(find([*phases(60, 3600, 120), tool(9, phases={})], []), "phase")
    assert (found.facts["median_s"], found.of, found.warns) == (120, 3, False)
    assert found.sentence() == "Phase PLAN (median 2min in 3 workflows)"


def test_a_phase_that_takes_twice_as_long_in_the_later_half_warns():
    (found,) = only(find(phases(100, 101, 102, 103, 200, 202, 204, 206), []), "phase")
    assert found.warns
    assert found.title == "Phase PLAN takes 2 times as long as before (95% interval 1.9–2.1)"
    assert (found.facts["earlier"], found.facts["later"]) == (4, 4)
    assert [found.facts[x] for x in ("low", "high")] == [200 / 103, 206 / 100]  # the outermost pairs, at four and four


def test_seven_workflows_are_too_few_to_say_that_a_phase_grew():
    """Of three and four values the outermost pairs cover 94.3 %, less than was asked."""
    (found,) = only(find(phases(1, 1, 1, 1, 900, 900, 900), []), "phase")
    assert (found.facts["ratio"], found.facts["low"], found.facts["high"], found.warns) == (900, None, None, False)


def test_an_interval_that_ends_on_one_does_not_exclude_it():
    on, above = phases(100, 100, 100, 100, 100, 200, 200, 200), phases(100, 100, 100, 100, 101, 200, 200, 200)
    (found,) = only(find(on, []), "phase")
    assert (found.facts["low"], found.warns) == (1.0, False)
    (found,) = only(find(above, []), "phase")
    assert (found.facts["low"], found.warns) == (1.01, True)


def test_a_phase_that_became_shorter_is_told_and_is_no_warning():
    (found,) = only(find(phases(200, 200, 200, 200, 100, 100, 100, 100), []), "phase")
    assert (found.warns, found.mark) == (False, "·")
    assert found.title == "Phase PLAN takes 0.5 times as long as before (95% interval 0.5–0.5)"


def test_halves_are_taken_in_the_order_of_time_not_of_the_file():
    rows = phases(100, 100, 100, 100, 300, 300, 300, 300)
    random.Random(7).shuffle(rows)
    (found,) = only(find(rows, []), "phase")
    assert found.facts["ratio"] == 3


def test_an_entry_without_a_readable_time_is_in_the_median_and_in_no_half():
    rows = [
        *phases(100, 100, 100, 100, 300, 300, 300, 300),
        tool(9, phases={"PLAN": 5000}) | {"timestamp": "yesterday"},
    ]
    (found,) = only(find(rows, []), "phase")
    assert (found.of, found.facts["earlier"] + found.facts["later"], found.facts["ratio"]) == (9, 8, 3)


def test_zero_seconds_are_half_a_second():
    assert drift([0, 0, 0, 0], [0, 0, 0, 0]) == (1, 1, 1)
    assert drift([0, 0, 0, 0], [1, 1, 1, 1]) == (2, 2, 2)


def test_intervals_of_several_phases_hold_together():
    """The level of each is lower by how many can be tested; a phase with too few values lowers none."""
    some, few = list(range(10, 30)), [1, 2, 3]
    alone = growths({"A": some, "few": few})
    assert (alone["A"].level, alone["few"].low) == (0.95, None)
    assert (alone["A"].low, alone["A"].high) == drift(some[:10], some[10:])[1:]
    five = growths(dict.fromkeys("ABCDE", some))
    assert {g.level for g in five.values()} == {0.99}
    assert (five["A"].ratio, five["A"].low, five["A"].high) == drift(some[:10], some[10:], 0.99)
    assert (growths({"A": [3, 1, 2]})["A"].earlier, growths({"A": []})["A"].ratio) == ([3, 1], None)


def test_of_five_phases_that_did_not_change_one_warns_rarely():
    """With an interval at 95 % each, one in eight reviews would warn of growth; together it is one in forty at most."""
    dice = np.random.default_rng(7)
    runs, alarms = 400, 0
    for _ in range(runs):
        told = growths({name: dice.lognormal(5, 0.5, 20).tolist() for name in "ABCDE"})
        alarms += any(g.low > 1 for g in told.values())
    assert alarms / runs <= 0.05  # 0.025 and what chance adds


def test_drift_of_nothing_is_unknown():
    assert drift([], [1]) == drift([1], []) == (None, None, None)
    assert drift([2], [6]) == (3, None, None)


@pytest.mark.parametrize(
    ("m", "n", "cut"),
    # two-sided 5 % points of the Mann-Whitney statistic as tabulated, plus 1; 0 where the table has none
    [(3, 3, 0), (3, 4, 0), (3, 5, 1), (4, 4, 1), (4, 5, 2), (5, 5, 3), (6, 6, 6), (7, 7, 9), (8, 8, 14), (10, 10, 24),
     (12, 15, 50), (20, 20, 128)],
)  # fmt: skip
def test_the_interval_is_cut_where_the_tables_say(m, n, cut):
    assert patterns._cut(m, n, 0.95) == cut


def test_the_distribution_is_that_of_all_orders():
    m, n = 3, 4
    counts = [0] * (m * n + 1)
    for chosen in itertools.combinations(range(m + n), m):
        counts[sum(rank - i for i, rank in enumerate(chosen))] += 1
    assert patterns._ways(m, n) == counts[: m * n // 2 + 1]
    assert sum(counts) == math.comb(7, 3)


@pytest.mark.parametrize(("m", "n", "level"), [(4, 4, 0.95), (7, 9, 0.95), (12, 11, 0.9), (15, 15, 0.99)])
def test_the_interval_holds_what_an_exact_rank_test_does_not_reject(m, n, level):
    """Just inside an end the test of another implementation keeps the ratio, just outside it rejects it."""
    dice = np.random.default_rng(m * n)
    earlier, later = (dice.lognormal(6, 1, size) for size in (m, n))
    _, low, high = drift(earlier.tolist(), later.tolist(), level)

    def p(ratio):
        return stats.mannwhitneyu(later / ratio, earlier, method="exact").pvalue

    assert min(p(low * 1.0001), p(high / 1.0001)) > 1 - level >= max(p(low / 1.0001), p(high * 1.0001))


def test_beyond_exact_counting_the_cut_goes_on_where_it_was():
    exact = patterns._cut(50, 50, 0.95)
    assert abs(exact - (1250 - 1.959964 * math.sqrt(2500 * 101 / 12))) < 2
    assert exact < patterns._cut(50, 51, 0.95) < patterns._cut(51, 51, 0.95)


def test_an_interval_of_unchanged_times_excludes_one_about_as_often_as_its_level_says():
    dice = random.Random(3)
    wrong = 0
    for _ in range(1000):
        sample = [round(math.exp(dice.gauss(6, 1))) for _ in range(20)]
        _, low, high = drift(sample[:10], sample[10:])
        wrong += low > 1 or high < 1
    assert 20 <= wrong <= 65  # 4.3 % by the exact distribution at ten and ten


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=8, max_size=16), st.integers(2, 9))
def test_what_takes_a_factor_longer_drifts_by_this_factor(seconds, factor):
    ratio, low, high = drift(seconds, [s * factor for s in seconds])
    assert ratio == pytest.approx(factor)
    assert low <= factor <= high


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, True, "60", None, [60]])
def test_seconds_that_are_none_are_passed_over(value):
    assert not only(find(phases(value), []), "phase")


# --- what people say --------------------------------------------------------------------------------------------------


def said(*texts, field="challenges"):
    return [process(i, **{field: text}) for i, text in enumerate(texts)]


def test_a_challenge_is_common_from_two_workflows_on_and_equal_but_for_case_without_a_model():
    rows = said("Mock setup tricky.", "mock setup: tricky", "Slow tests", "")
    (found,) = only(find([], rows), "challenge")
    assert (found.title, found.count, found.of) == ('Common challenge: "Mock setup tricky."', 2, 3)
    assert found.workflows == ("wf_0", "wf_1")
    assert not only(find([], rows, Thresholds(challenge_workflows=3)), "challenge")


def test_a_challenge_told_twice_in_one_workflow_counts_once():
    assert not only(find([], said("Slow tests. Slow tests!\n- slow tests")), "challenge")


def test_challenges_are_grouped_as_the_given_function_says():
    asked = []

    def similar(texts):
        asked.extend(texts)
        return [0 if "mock" in text.lower() else 1 + i for i, text in enumerate(texts)]

    (found,) = only(
        find([], said("Mock setup tricky", "Setting up mocks was hard", "Slow"), similar=similar), "challenge"
    )
    assert asked == ["Mock setup tricky", "Setting up mocks was hard", "Slow"]
    assert [said["text"] for said in found.facts["said"]] == asked[:2]
    assert found.advice


def test_what_went_well_is_grouped_likewise_and_no_warning():
    (found,) = only(find([], said("TDD helped", "tdd helped", field="what_went_well")), "went_well")
    assert (found.mark, found.warns, found.advice) == ("✓", False, "")


def test_nothing_is_asked_of_the_model_for_fewer_than_two_texts():
    def similar(texts):
        raise AssertionError(texts)

    assert len(only(find([], said("Slow tests", "slow tests", "none"), similar=similar), "challenge")) == 1


def test_a_key_stays_when_others_join():
    before = find([], said("Slow tests", "slow tests"))
    after = find([], said("Slow tests", "slow tests", "Slow tests!"))
    assert [p.key for p in only(before, "challenge")] == [p.key for p in only(after, "challenge")]


def test_a_wrong_number_of_groups_is_refused():
    with pytest.raises(ValueError, match="1 numbers for 2 texts"):
        find([], said("a b", "c d"), similar=lambda texts: [0])


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("Docker was slow. Tests timed out; CI red", ["Docker was slow.", "Tests timed out", "CI red"]),
        ("- one thing\r\n* another\n2) third", ["one thing", "another", "third"]),
        ("None.", []), ("n/a", []), ("", []), (None, []), (7, []), ("-", []),
        ("Version 2.5 was hard", ["Version 2.5 was hard"]),
    ],
)  # fmt: skip
def test_an_answer_is_cut_into_statements_and_none_is_none(answer, parts):
    assert statements(answer) == parts


def test_texts_are_similar_from_exactly_the_given_cosine_on():
    vectors = np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert len(set(groups(vectors, 0.6))) == 1
    assert len(set(groups(vectors, 0.6001))) == 2


def test_a_chain_of_neighbours_is_no_group():
    angles = np.deg2rad([0, 50, 100])  # neighbours at cosine 0.64, the ends at -0.17
    first, second, third = groups(np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.6)
    assert first != third
    assert second in (first, third)


def test_groups_of_nothing_and_of_one():
    assert groups(np.empty((0, 2)), 0.6) == []
    assert groups(np.array([[1.0, 0.0]]), 0.6) == [0]


def test_a_confusing_item_is_told_and_warns_from_two_workflows_on():
    rows = [
        tool(0, confusing_items=("Phase 0",)),
        tool(1, confusing_items=("phase 0", "none")),
        tool(2, confusing_items=()),
    ]
    (found,) = only(find(rows, []), "confusing")
    assert (found.warns, found.count, found.of) == (True, 2, 3)
    (found,) = only(find(rows[1:], []), "confusing")
    assert (found.warns, found.count, found.of) == (False, 1, 2)


# --- all of it --------------------------------------------------------------------------------------------------------


def test_nothing_shows_no_pattern():
    assert find([], []) == []


def test_of_several_entries_of_a_workflow_the_last_in_time_counts():
    rows = [tool(0, reviews_worked=True) | {"timestamp": at(5)}, tool(0, reviews_worked=None)]
    (found,) = only(find(rows, []), "reviews")
    assert (found.of, found.warns) == (1, False)


def test_warnings_come_first_and_the_order_does_not_depend_on_that_of_the_entries():
    rows = [*reviews(True, True, True), *(tool(i + 3, items_skipped=("b", "a")) for i in range(3))]
    found = find(rows, parallel(0, 3))
    assert [(p.kind, p.key) for p in found] == [("skip", "a"), ("skip", "b"), ("parallel", "used"), ("reviews", "made")]
    assert [p.key for p in find(rows[::-1], parallel(0, 3)[::-1])] == [p.key for p in found]


def test_control_characters_and_half_characters_do_not_reach_a_title():
    rows = [process(i, project_errors=("Error: \x1b[31mred\ud800\x07 alert",)) for i in range(2)]
    (found,) = only(find([], rows), "error")
    assert found.title == 'Common error: "Error: [31mred alert"'
    assert found.sentence().encode("utf-8")


FIELDS = [
    "timestamp", "workflow_id_hash", "workflow_id", "phases", "reviews_worked", "orchestrator_errors", "items_skipped",
    "items_skipped_pct", "confusing_items", "phase0_guidance_used", "parallel_agents_used", "project_errors",
    "challenges", "what_went_well",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                FIELDS
            ),
            st.none() | st.booleans() | st.text(max_size=8) | st.floats() | st.lists(st.text(max_size=5) | st.none())
            | st.dictionaries(st.text(max_size=3), st.floats() | st.text(max_size=2), max_size=2),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_entries_of_any_shape_do_no_harm(rows):
    for found in find(rows, rows, Thresholds(error_workflows=1, challenge_workflows=1, least_workflows=1)):
        assert 0 <= found.count <= max(found.of, len(found.workflows))
        assert found.sentence()
        assert len(set(found.workflows)) == len(found.workflows)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.8, "80%"), (0.799, "79.9%"), (0.79996, "79.996%"), (1 / 3, "33.3%"), (0, "0%"), (1, "100%"), (0.0004, "0.04%")],
)
def test_a_percentage_is_never_rounded_to_a_whole_that_it_is_not(share, shown):
    assert percent(share) == shown


def test_a_share_of_nothing_is_reached_by_nothing():
    assert reaches(0, 0, 0.5)  # which is why every rule asks first whether anything tells


@pytest.mark.parametrize(
    ("name", "value"),
    [("skip_share", 1.01), ("skip_share", -0.1), ("skip_share", float("nan")), ("error_workflows", 0), ("k", 0),
     ("drift_level", 1.0), ("drift_level", 0.0), ("parallel_share", float("inf"))],
)  # fmt: skip
def test_a_threshold_that_means_nothing_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} = "):
        Thresholds(**{name: value})
