import dataclasses
import datetime as dt
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_lib.analysis import patterns
from feedback_lib.analysis import workflow_frames as frames
from feedback_lib.orchestrator import Failure, Step, Workflow
from feedback_lib.workflows.entries import tool_entry

START = dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)
ORDER = {"PLAN": ("ask", "draft"), "VERIFY": ("smoke",)}


def workflow(nth=0, *, skipped=(), done=(), phases=(), failures=()):
    at = START + dt.timedelta(days=nth)
    steps = [(i, "skipped") for i in skipped] + [(i, "completed") for i in done]
    return Workflow(
        id=f"wf_{nth}",
        task="",
        status="completed",
        started_at=at,
        last_at=at,
        events=1,
        phases=dict(phases),
        steps=tuple(Step(phase=p, item=i, outcome=o, at=at, text=f"why {nth}") for (p, i), o in steps),
        failures=tuple(
            Failure(phase="VERIFY", item=None, at=at, message=m, text=f"Command failed\n{m}", by_tool=False)
            for m in failures
        ),
        reviewed=None,
        parallel=None,
        definition=None,
        where="log",
    )


def entry(nth, version, **given):
    return tool_entry(
        {"timestamp": f"2026-03-{nth + 1:02d}T09:00:00Z", "workflow_id_hash": f"{nth:032x}"}
        | {"orchestrator_version": version, "duration_seconds": 60}
        | given,
        "here",
    )


def test_workflows_that_overlap_are_halved_as_in_the_review():
    """Which began first ended last: begin and last event give other halves."""
    took = [100, 101, 102, 103, 300, 301, 302, 303]
    found = [
        dataclasses.replace(workflow(n, phases=[("PLAN", s)]), last_at=START + dt.timedelta(days=40 - n))
        for n, s in enumerate(took)
    ]
    assert frames.workflows(found)["workflow"].to_list() == [f"wf_{n}" for n in reversed(range(8))]
    (row,) = frames.phases(frames.spent(found)).iter_rows(named=True)
    entries = [
        {"workflow": w.id, "timestamp": w.last_at.isoformat(), "phases": dict(w.phases)} for w in reversed(found)
    ]
    (review,) = [p for p in patterns.find(entries, []) if p.kind == "phase"]
    names = ("earlier_median_s", "later_median_s", "ratio", "low", "high")
    assert [row[n] for n in names] == [review.facts[n] for n in names]
    assert row["ratio"] < 1


def test_a_share_counts_workflows_and_keeps_the_order_of_the_definition():
    found = [workflow(n, skipped=[("VERIFY", "smoke"), ("OWN", "z")], done=[("PLAN", "draft")]) for n in range(3)]
    found.append(workflow(3, done=[("PLAN", "ask")]))
    rows = frames.skips(found, ORDER).rows()
    assert rows == [
        ("PLAN", "ask", 0, 1, 4, 0.0),
        ("PLAN", "draft", 0, 3, 4, 0.0),
        ("VERIFY", "smoke", 3, 3, 4, 0.75),
        ("OWN", "z", 3, 3, 4, 0.75),
    ]
    assert frames.skips([*found, workflow(4)], ORDER).rows() == rows  # it dealt with nothing yet; as in the review


def test_the_reason_of_a_skip_comes_along_the_notes_of_a_completion_do_not():
    rows = frames.steps([workflow(skipped=[("PLAN", "ask")], done=[("PLAN", "draft")])])
    assert rows.select("item", "reason").rows() == [("ask", "why 0"), ("draft", None)]


def test_without_workflows_every_frame_is_empty_and_has_its_columns():
    spent = frames.spent([])
    errors = frames.errors([])
    made = [frames.workflows([]), frames.steps([]), frames.skips([], ORDER), spent, frames.phases(spent), errors]
    made += [frames.repeated(errors, 0), frames.versions([])]
    assert [f.height for f in made] == [0] * len(made)
    assert all(f.width > 3 for f in made)


def test_a_phase_is_compared_with_its_own_earlier_half():
    seconds = [100, 110, 90, 105, 95, 200, 220, 180, 210, 190]
    found = [workflow(n, phases={"PLAN": s}) for n, s in enumerate(seconds)] + [workflow(10)]
    row = frames.phases(frames.spent(found), ["VERIFY", "PLAN"]).row(0, named=True)
    assert (row["workflows"], row["earlier"], row["later"]) == (10, 5, 5)
    assert (row["median_s"], row["earlier_median_s"], row["later_median_s"]) == (145.0, 100.0, 200.0)
    assert row["ratio"] == pytest.approx(2.0, abs=0.02)
    assert 1 < row["low"] < 2 < row["high"]


def test_one_workflow_is_too_few_to_compare():
    row = frames.phases(frames.spent([workflow(phases={"PLAN": 0})])).row(0, named=True)
    assert (row["median_s"], row["later_median_s"], row["ratio"], row["low"]) == (0.0, None, None, None)


def test_the_same_error_is_counted_by_workflow_whatever_its_lines_and_paths():
    found = [
        workflow(0, failures=["KeyError: 'a' in /x/1/y.py line 3", "KeyError: 'a' in /x/1/y.py line 9"]),
        workflow(1, failures=["KeyError: 'a' in /z/2/y.py line 7", "AssertionError: expected 3, got 4"]),
        workflow(2, failures=["ConnectionError: host refused"]),
    ]
    errors = frames.errors(found)
    rows = frames.repeated(errors, len(found)).to_dicts()
    assert [(r["workflows"], r["of"], r["occurrences"], r["ids"]) for r in rows] == [(2, 3, 3, ["wf_0", "wf_1"])]
    assert rows[0]["title"] == "KeyError: 'a' in /z/2/y.py line 7"
    assert rows[0]["places"] == ["VERIFY / –"]
    assert frames.repeated(errors, 3, least=1).height == 3  # what the runner says of every failure joins nothing
    assert frames.repeated(errors, 3, least=3).height == 0


def test_texts_are_cleaned_before_they_are_shown():
    errors = frames.errors([workflow(failures=["Error: token abc"])], clean=lambda text: text.replace("abc", "…"))
    assert errors["title"].to_list() == ["Error: token …"]


class TestVersions:
    def test_versions_stand_in_the_order_they_were_first_used(self):
        rows = frames.versions([entry(5, "2.9"), entry(1, "2.10"), entry(9, "2.10"), entry(7, "")])
        assert rows.filter(pl.col("measure") == "minutes").select("version", "place", "workflows").rows() == [
            ("2.10", 0, 2),
            ("2.9", 1, 1),
            ("unknown", 2, 1),
        ]

    def test_shares_are_of_workflows_with_wilson_s_interval(self):
        entries = [entry(n, "1", orchestrator_errors=["E"] if n < 9 else []) for n in range(10)]
        row = frames.versions(entries).row(by_predicate=pl.col("measure") == "tool_errors", named=True)
        assert (row["count"], row["workflows"], row["value"]) == (9, 10, 0.9)
        assert (round(row["low"], 2), round(row["high"], 2)) == (0.60, 0.98)

    def test_a_review_that_failed_was_made(self):
        entries = [entry(0, "1", reviews_worked=False), entry(1, "1", reviews_worked=None), entry(2, "1")]
        row = frames.versions(entries).row(by_predicate=pl.col("measure") == "no_review", named=True)
        assert (row["count"], row["workflows"]) == (2, 3)

    def test_what_no_entry_tells_is_no_data_not_zero(self):
        row = frames.versions([entry(0, "1")]).row(by_predicate=pl.col("measure") == "skipped", named=True)
        assert (row["workflows"], row["value"], row["low"]) == (0, None, None)
        told = [entry(n, "1", duration_seconds=seconds) for n, seconds in enumerate((0, 600, 0))]
        row = frames.versions(told).row(by_predicate=pl.col("measure") == "minutes", named=True)
        assert (row["workflows"], row["value"]) == (1, 10)  # as in the review

    def test_a_median_needs_six_workflows_for_an_interval(self):
        for many, known in ((5, False), (6, True)):
            rows = frames.versions([entry(n, "1", items_skipped_pct=n / 10) for n in range(many)])
            row = rows.row(by_predicate=pl.col("measure") == "skipped", named=True)
            assert (row["low"] is not None) is known


@pytest.mark.parametrize(("many", "ends"), [(6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (20, (5, 14)), (100, (39, 60))])
def test_the_interval_of_a_median_is_that_of_the_sign_test(many, ends):
    """Known answers: tables of the sign test, for 20 the 6th and the 15th value, for 100 the 40th and the 61st."""
    assert frames.median_interval(range(many)) == ends


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80))
def test_the_interval_of_a_median_holds_it_and_covers_its_level(values):
    found = frames.median_interval(values)
    if found is None:
        assert len(values) < 6
        return
    ordered = sorted(values)
    assert found[0] <= ordered[len(values) // 2] <= found[1]
    missed = next(n for n, v in enumerate(ordered) if v == found[0])
    tail = sum(math.comb(len(values), k) for k in range(missed + 1)) / 2 ** len(values)
    assert 2 * tail <= 0.05


def test_the_interval_of_two_thousand_values_is_counted_too():
    low, high = frames.median_interval(range(2000))
    assert (low, high) == (955, 1044)
