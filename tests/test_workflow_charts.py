import re
import xml.etree.ElementTree as ET

import polars as pl
import pytest

from feedback_lib import charts
from feedback_lib.analysis import workflow_frames as frames
from feedback_lib.charts import workflows as drawn
from feedback_lib.workflows import shown
from tests.analysis.test_workflow_frames import ORDER, entry, workflow

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def view():
    return shown.open()


def tree(chart):
    return ET.fromstring(charts.svg(chart, alt="words"))


def texts(chart):
    return ["".join(t.itertext()) for t in tree(chart).iter(f"{SVG}text")]


def rows(chart, mark):
    """The data of the layers that draw with a mark."""
    spec = chart.to_dict()
    return [r for la in spec["layer"] if la["mark"]["type"] == mark for r in la["data"].get("values", ())] or [
        r
        for la in spec["layer"]
        if la["mark"]["type"] == mark
        for r in spec.get("datasets", {}).get(la["data"].get("name"), ())
    ]


def all_four(found, entries=()):
    every, spent, errors = frames.workflows(found), frames.spent(found), frames.errors(found)
    return {
        "skips": charts.skip_map(every, frames.steps(found), frames.skips(found, ORDER)),
        "phases": charts.phase_durations(every, spent, frames.phases(spent)),
        "errors": charts.error_timeline(every, errors, frames.repeated(errors, len(found))),
        "versions": charts.version_trend(frames.versions(entries)),
    }


def test_the_map_has_a_cell_for_every_item_a_workflow_dealt_with(view):
    cells = [r for r in rows(charts.skip_map(view.workflows, view.steps, view.skips), "rect") if "item" in r]
    often = view.skips.filter(pl.col("skipped") > 0)["item"].to_list()
    wanted = view.steps.filter(pl.col("item").is_in(often))
    assert len(cells) == wanted.height
    dark = [c for c in cells if c["outcome"] == "skipped"]
    assert len(dark) == wanted.filter(pl.col("outcome") == "skipped").height


def test_the_map_tells_shares_with_counts_and_leaves_out_what_nobody_skips(view):
    said = texts(charts.skip_map(view.workflows, view.steps, view.skips))
    assert "16 of 18, 88.9%" in said
    assert "visual_regression_test" in said
    assert "implement_code" not in said
    assert "9 items nobody skipped" in charts.skip_map_words(view.workflows, view.skips)


def test_columns_go_from_the_oldest_to_the_newest(view):
    cells = [r for r in rows(charts.skip_map(view.workflows, view.steps, view.skips), "rect") if "item" in r]
    order = {w: n for n, w in enumerate(view.workflows["workflow"])}
    placed = sorted({(c["x"], order[c["workflow"]]) for c in cells})
    assert [n for _, n in placed] == sorted(n for _, n in placed)


def test_dates_stand_below_their_columns_within_the_drawing_and_do_not_repeat(view):
    months = {at.strftime("%b") for at in view.workflows["last_at"]}
    said = [t for t in texts(charts.skip_map(view.workflows, view.steps, view.skips)) if t.split(" ")[-1] in months]
    assert said[0] == "18 Sep"
    assert len(set(said)) == len(said) > 5
    same_day = [workflow(0, skipped=[("PLAN", "ask")]) for _ in range(30)]
    assert texts(all_four(same_day)["skips"]).count("2 Mar") == 1


def test_bars_of_shares_start_at_zero_and_grow_with_the_share():
    found = [workflow(n, skipped=[("PLAN", "ask")], done=[("VERIFY", "smoke")]) for n in range(2)]
    found += [workflow(n, skipped=[("PLAN", "ask"), ("VERIFY", "smoke")]) for n in (2, 3)]
    bars = [r for r in rows(all_four(found)["skips"], "rect") if "middle" in r]
    full, half = (b["x2"] - b["x"] for b in bars)
    assert full == pytest.approx(2 * half)


def test_a_longer_phase_is_coloured_and_one_that_may_be_chance_is_not(view):
    said = charts.phase_durations_words(view.phases)
    assert re.search(r"PLAN: median 26min, ×2\.19 \(1\.21–3\.93\) longer", said)
    assert said.count("may be chance") == 4
    text = charts.svg(charts.phase_durations(view.workflows, view.spent, view.phases), alt=said)
    assert text.count(charts.FRICTION) >= 4  # two lines, two texts


def test_a_shorter_phase_has_the_other_colour():
    found = [workflow(n, phases={"PLAN": 1000 if n < 6 else 100 + n}) for n in range(12)]
    text = charts.svg(all_four(found)["phases"], alt="words")
    assert charts.DELIGHT in text
    assert charts.FRICTION not in text
    assert "shorter" in text


def test_every_duration_lies_within_its_band(view):
    dots = rows(charts.phase_durations(view.workflows, view.spent, view.phases), "point")
    assert len(dots) == view.spent.height
    assert all((d["y"] % 84) == pytest.approx(d["y"] % 84) and 8 <= d["y"] % 84 <= 72 for d in dots)


def test_errors_of_the_tool_have_another_shape_not_only_another_colour(view):
    chart = charts.error_timeline(view.workflows, view.errors, view.repeated)
    marks = [la["mark"] for la in chart.to_dict()["layer"] if la["mark"]["type"] == "point"]
    assert {m.get("shape") for m in marks} == {None, "diamond"}
    assert "5 of 18 workflows" in texts(chart)
    assert "3 of 18 workflows" in texts(chart)


def test_versions_carry_their_interval_and_the_workflows_they_are_made_of(view):
    said = charts.version_trend_words(view.versions)
    assert "Workflows with an error of the tool: 2.5.0 3 of 10 (11–60%), 2.6.0 0 of 7 (0–35%)" in said
    assert {"2.5.0", "2.6.0", "3 of 10 (11–60%)"} <= set(texts(charts.version_trend(view.versions)))


def test_nothing_in_a_chart_is_smaller_than_nine_points(view):
    made = [
        charts.skip_map(view.workflows, view.steps, view.skips),
        charts.phase_durations(view.workflows, view.spent, view.phases),
        charts.error_timeline(view.workflows, view.errors, view.repeated),
        charts.version_trend(view.versions),
    ]
    for chart in made:
        sizes = [float(s) for s in re.findall(r'font-size="([\d.]+)', charts.svg(chart, alt="words"))]
        assert min(sizes) >= 12


@pytest.mark.parametrize("name", ["skips", "phases", "errors", "versions"])
def test_without_data_a_chart_is_a_sentence(name):
    said = [t for t in texts(all_four([])[name]) if t]
    assert len(said) == 1
    assert said[0][0].isupper()


def test_each_kind_of_nothing_has_its_own_sentence():
    once = [workflow(n, done=[("PLAN", "ask")], failures=[f"Error: {'abc'[n]}x"]) for n in range(2)]
    assert charts.skip_map_words(frames.workflows(once), frames.skips(once, ORDER)) == (
        "No item was skipped in 2 workflows."
    )
    errors = frames.errors(once)
    assert charts.error_timeline_words(errors, frames.repeated(errors, 2)) == (
        "No error came back: 2 errors, each in one workflow."
    )


def test_one_workflow_draws():
    only = workflow(skipped=[("PLAN", "ask")], phases={"PLAN": 0}, failures=["Error: x"])
    made = all_four([only], [entry(0, "1.0")])
    assert all(tree(chart).tag == f"{SVG}svg" for chart in made.values())
    assert "too few to compare" in texts(made["phases"])


def test_of_many_workflows_items_errors_and_versions_the_newest_and_most_are_drawn_and_the_rest_is_told():
    items = [("PLAN", f"item_{n:02d}") for n in range(40)]
    broken = [f"E{k}Error: no" for k in range(15)]
    entries = [entry(n, f"1.{n}") for n in range(20)]
    found = [workflow(n, skipped=items[: 40 - n % 5], phases={"PLAN": 60 + n}, failures=broken) for n in range(300)]
    made = all_four(found, entries)
    cells = [r for r in rows(made["skips"], "rect") if "item" in r]
    assert len({c["workflow"] for c in cells}) == frames.DRAWN
    assert len({c["item"] for c in cells}) == drawn.ROWS
    assert "300 of 300, 100%" in texts(made["skips"])
    words = charts.skip_map_words(frames.workflows(found), frames.skips(found, ORDER))
    assert "10 items skipped less often left out. 240 older workflows counted but not drawn." in words
    errors = frames.errors(found)
    assert charts.error_timeline_words(errors, frames.repeated(errors, 300)).endswith("; and 3 more.")
    assert "12 older versions left out" in charts.version_trend_words(
        frames.versions([entry(n, f"1.{n}") for n in range(20)])
    )
    for chart in made.values():
        box = [float(v) for v in tree(chart).get("viewBox").split()]
        assert box[2] <= 880


def test_odd_names_are_data_not_markup():
    odd = '<b>"x"</b> & \x00\n' + "y" * 500
    found = [workflow(n, skipped=[(odd, odd)], phases={odd: 5}, failures=[f"{odd}Error: no"]) for n in range(3)]
    for chart in all_four(found, [entry(0, odd)]).values():
        assert "<b>" not in charts.svg(chart, alt=odd.replace("\x00", ""))


def test_the_same_frames_are_drawn_to_the_same_text(view):
    made = [charts.error_timeline(view.workflows, view.errors, view.repeated) for _ in range(2)]
    assert charts.svg(made[0], alt="a") == charts.svg(made[1], alt="a")
