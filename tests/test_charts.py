import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import altair as alt
import pytest

from feedback_lib import charts
from feedback_lib.charts import look
from feedback_lib.charts import slo as slo_charts

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def report():
    return json.loads((Path(__file__).parent / "data" / "report.json").read_text("utf-8"))


@pytest.fixture
def rows(report):
    return [*report["frictions"], *report["delights"]]


def drawn(chart, words="words"):
    return ET.fromstring(charts.svg(chart, alt=words))


def texts(tree):
    return ["".join(t.itertext()) for t in tree.iter(f"{SVG}text")]


def values(chart):
    """Every row of data of a chart."""
    spec = chart.to_dict()
    return [row for data in spec["datasets"].values() for row in data]


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_topics_by_week_names_every_topic_and_labels_its_last_week(report, rows):
    said = texts(drawn(charts.topics_by_week(report, rows)))
    assert all(row["name"] in said for row in rows)
    assert all(charts.people(row["people"]) in said for row in rows)


def test_bands_of_all_topics_share_one_scale(report, rows):
    """The height of the last point over its baseline is proportional to the people."""
    points = values(charts.topics_by_week(report, rows))
    heights = {p["topic"]: p["top"] - p["base"] for p in points if p.get("last")}
    for row in rows:
        assert heights[row["name"]] / heights[rows[0]["name"]] == pytest.approx(row["people"] / rows[0]["people"])


def test_a_week_without_data_is_a_gap_not_a_zero(report, rows):
    whole = charts.svg(charts.topics_by_week(report, rows[2:3]), alt="words")
    rows[2]["spark"][5] = None
    broken = charts.svg(charts.topics_by_week(report, rows[2:3]), alt="words")
    for mark in (r'd="([^"]*)" stroke=', r'd="(M[^"]*)" fill="#57'):  # the line, the area
        pens = [max(d.count("M") for d in re.findall(mark, text)) for text in (whole, broken)]
        assert pens == [1, 2]


def test_forest_plot_draws_an_interval_for_every_known_ratio_and_says_when_there_is_none(rows):
    known = {p["topic"]: (p["low"], p["high"]) for p in values(charts.ratios(rows)) if "ratio" in p}
    assert known == {r["name"]: (r["low"], r["high"]) for r in rows if r["ratio"] is not None and r["people"] >= 5}
    assert "not heard before" in texts(drawn(charts.ratios(rows)))


def test_what_few_people_say_is_neither_counted_out_nor_compared(report, rows):
    rows[0] |= {"people": 3, "spark": [2.0] * 12 + [3.0]}
    report["numbers"][0] |= {"value": 4.0, "spark": [1.0, 2.0, 4.0], "baseline": 1.5, "text": "4"}
    said = texts(drawn(charts.ratios(rows[:1])))
    assert charts.TOO_FEW in said
    assert not any("×4.4" in s for s in said)
    assert charts.TOO_FEW in charts.ratios_words(rows[:1])
    told = {p["people"] for p in values(charts.topics_by_week(report, rows[:1])) if "people" in p}
    assert told == {"<5"}
    bars = {p["text"] for p in values(charts.people_per_week(report, report["numbers"][0]))}
    assert bars == {"<5", "usual <5"}
    assert charts.number_words(report["numbers"][0]) == "people heard: <5 this week, usually <5."


def test_the_section_decides_the_colour(report):
    report["delights"][0] |= {"badge": "GROWING", "dx_label": "DX Friction"}
    report["frictions"][0] |= {"badge": "GROWING", "dx_label": "DX Delight"}
    hues = {row["name"]: charts.hue(row) for row in charts.rows(report)}
    assert hues[report["delights"][0]["name"]] == charts.DELIGHT
    assert hues[report["frictions"][0]["name"]] == charts.FRICTION


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow(rows):
    rows[0] |= {"low": 0.5, "high": 90.0}
    plain, far = (charts.svg(charts.ratios(r), alt="w") for r in (rows[1:2], rows[:1]))
    shapes = {layer["mark"].get("shape") for layer in charts.ratios(rows).to_dict()["layer"]}
    assert {"triangle-left", "triangle-right"} <= shapes
    assert far.count("<path") > plain.count("<path")


def test_bars_start_at_zero(report):
    spec = charts.people_per_week(report, report["numbers"][0]).to_dict()
    assert spec["layer"][0]["encoding"]["y"]["scale"]["zero"] is True


@pytest.mark.parametrize("count", [0, 1])
def test_few_or_no_topics_still_draw(report, rows, count):
    for chart in (charts.topics_by_week(report, rows[:count]), charts.ratios(rows[:count])):
        assert drawn(chart).tag == f"{SVG}svg"


def test_nothing_in_a_chart_is_smaller_than_nine_points(report, rows):
    made = [
        charts.topics_by_week(report, rows),
        charts.ratios(rows),
        charts.people_per_week(report, report["numbers"][0]),
    ]
    sizes = [float(s) for c in made for s in re.findall(r'font-size="([\d.]+)', charts.svg(c, alt="words"))]
    assert sizes
    assert min(sizes) >= 12  # pixels; 12 px are 9 pt


def test_text_is_dark_enough_and_greys_tell_loud_from_quiet():
    """WCAG contrast of at least 4.5 for words; the marks of moving topics are much darker than old weeks' bars."""
    for colour in (charts.INK, charts.MUTED, charts.FRICTION, charts.DELIGHT):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5
    for colour in (charts.FRICTION, charts.DELIGHT, charts.INK):
        assert luminance(charts.GREY) - luminance(colour) > 0.3


def test_every_picture_carries_its_words(report, rows):
    tree = drawn(charts.ratios(rows), charts.ratios_words(rows))
    assert tree.get("role") == "img"
    assert "Search API times out: ×4.4 (2.9–6.6)" in tree.get("aria-label")
    assert tree.find(f"{SVG}title").text == tree.get("aria-label")
    with pytest.raises(ValueError, match="words"):
        charts.show(charts.ratios(rows), alt="")


def test_a_drawing_stands_alone(report, rows):
    text = charts.svg(charts.topics_by_week(report, rows), alt="words")
    assert "<script" not in text
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_chart_is_drawn_to_the_same_text(report, rows):
    assert charts.svg(charts.ratios(rows), alt="a") == charts.svg(charts.ratios(rows), alt="a")


def test_names_are_data_not_markup(report, rows):
    rows[0]["name"] = '<script>alert("x")</script> & co'
    text = charts.svg(charts.topics_by_week(report, rows), alt=charts.topics_words(rows))
    assert "<script" not in text
    assert rows[0]["name"] in texts(ET.fromstring(text))


def test_characters_that_xml_cannot_hold_are_replaced_and_all_others_stay():
    """The drawing engine would end the process."""
    bad = [*map(chr, (*range(9), 11, 12, *range(14, 32))), "\ufffe", "\uffff", "\ud83d"]
    good = ["\x7f", "\\", "\\u0000", "\\\\b", "🐝", "ä", "\u2028", '"']
    row = {"text": "".join(["a", *bad, *good, "z"])}
    tree = drawn(alt.Chart(look.inline([row])).mark_text().encode(text="text:N"), row["text"])
    wanted = "".join(["a", *["\ufffd"] * len(bad), *good, "z"])
    assert texts(tree) == [wanted]
    assert tree.find(f"{SVG}title").text == wanted


def test_a_number_that_is_none_draws_beside_such_a_character():
    rows = [{"x": float("nan"), "text": "a\0"}, {"x": 1.0, "text": "b"}]
    assert "b" in texts(drawn(alt.Chart(look.inline(rows)).mark_text().encode(x="x:Q", text="text:N")))


def test_show_gives_a_picture_or_a_widget_by_argument(rows):
    picture = charts.show(charts.ratios(rows), alt="words")
    data, metadata = picture._repr_mimebundle_()
    assert data["image/svg+xml"].startswith("<svg")
    assert data["text/plain"] == metadata["image/svg+xml"]["alt"] == "words"
    widget = charts.show(charts.ratios(rows), alt="words", render="widget")
    assert (widget.words, widget.revision) == ("words", 0)


def test_redrawing_a_widget_sends_the_new_chart_and_counts(report, rows):
    widget = charts.ChartWidget(charts.ratios(rows), "before")
    widget.redraw(charts.ratios(rows[:1]), "after")
    assert (widget.words, widget.revision) == ("after", 1)
    assert widget.spec == charts.ratios(rows[:1]).to_dict()


def test_the_bundle_is_sent_once_not_with_every_chart(rows):
    first, second = charts.ChartWidget(charts.ratios(rows), "a"), charts.ChartWidget(charts.ratios(rows), "b")
    assert len(first._esm) == len(second._esm) < 5_000
    assert 500_000 < len(charts.bundle()) < 1_200_000
    assert look._engine() is look._engine()


def test_our_theme_is_on_for_charts_of_analysts_too():
    assert alt.theme.active == "feedback"


class TestSparkline:
    def test_gaps_break_the_line(self):
        path = ET.fromstring(charts.sparkline([1, 2, None, 3, 4], alt="words")).find(f"{SVG}path").get("d")
        assert path.count("M") == 2

    def test_all_are_as_wide_with_and_without_a_label(self):
        """Weeks stand under each other: the last point is at the same place whatever the numbers are."""
        ends = {
            ET.fromstring(charts.sparkline(v, alt="words", label=label)).find(f"{SVG}circle").get("cx")
            for v, label in (([1] * 13, ""), ([0, 900] * 6 + [5], "900"), ([None] * 12 + [3], "3"))
        }
        assert len(ends) == 1

    def test_no_data_is_a_dash(self):
        tree = ET.fromstring(charts.sparkline([None] * 13, alt="words"))
        assert texts(tree) == ["–"]
        assert tree.find(f"{SVG}path") is None

    def test_a_line_from_zero_keeps_proportions(self):
        tree = ET.fromstring(charts.sparkline([10, 5], alt="words", height=108))
        heights = [104 - float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", tree.find(f"{SVG}path").get("d"))]
        assert heights == pytest.approx([100, 50])


def slo(**changed):
    """A figure of two weeks: half a day without data, a deploy, an open page, a budget spent 18 times over."""
    points = [
        {"x": n / 4 + 0.1, "value": v, "low": v * 0.9, "high": v * 1.2, "stretch": int(n > 21)}
        for n, v in enumerate([230.0] * 40 + [950.0] * 16)
        if n not in (20, 21)
    ]
    left = [{"x": n / 4, "left": 0.85 if n < 40 else 0.85 - 1.2 * (n - 40)} for n in range(57)]
    made = {
        "sli": "search_p99",
        "unit": "ms",
        "op": "<",
        "limit": 300.0,
        "now": "837 ms",
        "limit_text": "< 300 ms",
        "budget_text": "spent 18 times over",
        "window": "30 days",
        "status": "unhealthy",
        "marks": "Line: median.",
        "days": 14.0,
        "ticks": [{"x": 0.0, "text": "2 Nov"}, {"x": 7.0, "text": "9 Nov"}, {"x": 14.0, "text": "16 Nov"}],
        "series": points,
        "budget": left,
        "alerts": [{"start": 10.1, "end": 14.0, "severity": "page", "text": "page since 12 Nov 02:15 UTC"}],
        "deploys": [{"x": 10.0, "version": "4.2.0"}],
        "no_data": [{"start": 5.0, "end": 5.5}],
    }
    return made | changed


class TestSlo:
    @pytest.mark.parametrize("width", [860, 356])
    def test_says_on_the_picture_what_is_shown(self, width):
        said = texts(drawn(charts.slo_figure(slo(), width=width)))
        for text in ("4.2.0", "page since 12 Nov 02:15 UTC", "limit < 300 ms", "Measured: now 837 ms", "0: spent"):
            assert text in said
        assert {"2 Nov", "9 Nov", "16 Nov", "500 ms", "1000 ms", "100 %", "0 %", "no data"} <= set(said)
        assert "Error budget of 30 days: spent 18 times over" in said
        assert "\N{MINUS SIGN}1,835 %" in said  # what leaves the panel is told

    @pytest.mark.parametrize("width", [860, 356])
    def test_fits_its_width_with_letters_of_nine_points(self, width):
        text = charts.svg(charts.slo_figure(slo(), width=width), alt="words")
        assert float(re.search(r'width="(\d+)"', text).group(1)) <= width + 6
        assert min(float(s) for s in re.findall(r'font-size="([\d.]+)', text)) >= 12

    def test_the_panels_share_their_time_axis(self):
        spec = charts.slo_figure(slo()).to_dict()
        domains = [
            layer["encoding"]["x"]["scale"]["domain"]
            for panel in spec["vconcat"]
            for layer in panel["layer"]
            if "x" in layer["encoding"]
        ]
        assert len(spec["vconcat"]) == 3
        assert {tuple(d) for d in domains} == {(0, 14.0)}
        assert len({panel["width"] for panel in spec["vconcat"]}) == 1

    def test_no_data_breaks_the_line_and_is_grey_not_zero(self):
        whole, broken = (charts.svg(charts.slo_figure(f), alt="w") for f in (slo(no_data=[]), slo()))
        line = r'd="([^"]*)" stroke="#1f5fa8"'
        assert len(re.findall(line, broken)) == 2  # one path for each stretch
        assert f'fill="{charts.GREY}"' in broken
        assert f'fill="{charts.GREY}"' not in whole
        points = [row for row in values(charts.slo_figure(slo())) if "stretch" in row]
        assert min(row["low"] for row in points) > 200
        assert not [row for row in points if 5.0 < row["x"] < 5.5]

    def test_a_budget_without_data_breaks_its_line(self):
        left = [dict(p, left=None) if 20 <= n < 24 else p for n, p in enumerate(slo()["budget"])]
        known = [row for row in values(charts.slo_figure(slo(budget=left))) if "kept" in row]
        assert [row["x"] for row in known if row["percent"] is None] != []
        assert all(row["kept"] is None and row["over"] is None for row in known if row["percent"] is None)

    def test_a_slow_line_is_drawn_with_few_points_and_keeps_its_steps(self):
        budget = [{"x": n / 8, "left": 0.9 if n < 60 else 0.7} for n in range(113)]
        kept = slo_charts._steps(budget)
        assert kept == [budget[0], budget[59], budget[60], budget[-1]]

    def test_a_peak_that_would_flatten_everything_leaves_the_panel_and_is_told(self):
        points = slo()["series"]
        points[30] = points[30] | {"high": 60_000.0}
        figure = charts.slo_figure(slo(series=points))
        assert "up to 60,000 ms ↑" in texts(drawn(figure))
        (domain, peak) = slo_charts._slo_domain(slo(series=points))
        assert domain[1] < 6_000
        assert peak is points[30]

    def test_availability_has_its_limit_above_and_hundred_percent_in_sight(self):
        points = [{"x": n / 4, "value": 99.9, "low": 99.0, "high": 100.0, "stretch": 0} for n in range(56)]
        figure = slo(op=">=", unit="%", limit=99.5, limit_text="≥ 99.5 %", series=points)
        (low, high), peak = slo_charts._slo_domain(figure)
        assert 98 < low < 99
        assert 100 < high < 101
        assert peak is None

    def test_a_page_is_filled_and_a_ticket_is_hollow(self):
        bars = [{"start": 2.0, "end": 3.0, "severity": "ticket", "text": "ticket"}, *slo()["alerts"]]
        text = charts.svg(charts.slo_figure(slo(alerts=bars)), alt="w")
        fills = re.findall(r'fill="(#[0-9a-f]{6})" stroke="#b5451b"', text)
        assert sorted(fills) == ["#b5451b", "#ffffff"]

    def test_labels_do_not_lie_on_each_other(self):
        marks = [(n * 20.0, n * 20.0, f"4.2.{n}", "deploys") for n in range(30)]
        placed = slo_charts.placed(marks, 600)
        spans = sorted(
            (p["px"], p["px"] + 6.6 * 5) if p["align"] == "left" else (p["px"] - 33, p["px"]) for p in placed
        )
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        assert slo_charts.placed(marks[-1:], 700)[0]["text"] == "4.2.29"

    def test_a_service_without_deploys_and_alerts_says_so(self):
        said = texts(drawn(charts.slo_figure(slo(deploys=[], alerts=[], no_data=[]))))
        assert said.count("none") == 2

    def test_the_page_has_a_wide_and_a_narrow_drawing_with_their_words(self):
        made = charts.slo_figures([slo(sli="<b>&", budget_text="85 % left")])
        assert made.text.count("<svg ") == 2
        assert re.findall(r'<div class="(\w+)"><svg', made.text) == ["wide", "narrow"]
        assert "<b>&" not in made.text
        assert "<script" not in made.text
        assert "page since 12 Nov 02:15 UTC" in made.alt
        assert "no data for 12.0 hours" in made.alt
        assert len(made.text) < 45_000

    def test_a_lean_drawing_keeps_what_it_says(self):
        figure = slo(now="1.4217 %")
        whole = charts.svg(charts.slo_figure(figure), alt="words")
        lean = slo_charts._lean(whole)
        assert texts(ET.fromstring(lean)) == texts(ET.fromstring(whole))
        assert "Measured: now 1.4217 %" in texts(ET.fromstring(lean))
        assert len(lean) < 0.75 * len(whole)
        for mark in ("opacity", "stroke-width"):
            kept = set(re.findall(rf' {mark}="([\d.]+)"', lean))
            assert kept <= set(re.findall(rf' {mark}="([\d.]+)"', whole))
