"""A service as people see it: the frames of a review hold what the sample planted, and nobody is told by looking."""

import ast
import datetime as dt
import json
import re
from pathlib import Path

import nbformat
import polars as pl
import pytest
from monitor_world import at, project, write

from feedback_lib import charts, pages, review, sample, watch
from feedback_lib.errors import ConfigError

ROOT = Path(__file__).parents[1]
END = dt.datetime(2026, 11, 16, tzinfo=dt.UTC)
SPECS = ("spec-core-001", "spec-reg-002", "spec-ci-003")
PARTS = ("head", "slos", "regressions", "unmeasured", "evidence")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("review") / "world"
    sample.generate(made, weeks=8)
    return made


@pytest.fixture(scope="module")
def reviews(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    made = {spec_id: review.open(spec_id, folder, END) for spec_id in SPECS}
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before  # no alert, no memory, no report
    return made


@pytest.fixture(scope="module")
def planted(folder):
    key = sample.expected(folder)["monitor"]
    return {i["id"]: i for i in key["incidents"]} | {"expected": key["expected"], "unreadable": key["unreadable"]}


def moment(text):
    return dt.datetime.fromisoformat(text)


def of(frame, sli):
    return frame.filter(pl.col("sli") == sli)


def words(shown):
    text = " ".join(review.html(part, shown) for part in PARTS)
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(text.replace("&lt;", "<").replace("&#34;", '"').split())


@pytest.mark.parametrize("spec_id", SPECS)
def test_a_series_is_short_keeps_its_highest_and_lowest_value_and_lies_in_the_review(spec_id, reviews, folder):
    shown = reviews[spec_id]
    rows = pl.read_csv(folder / "specs" / spec_id / "metrics.csv", try_parse_dates=True)
    rows = rows.filter(pl.col("at") > shown.start)
    for watched in (w for w in shown.plan.watched if w.slo.method == "timeslices"):
        mine = of(shown.series, watched.slo.sli)
        assert 200 < mine.height <= review.BUCKETS
        measured = rows[watched.query].drop_nulls() * watched.factor
        assert mine["high"].max() == pytest.approx(measured.max())
        assert mine["low"].min() == pytest.approx(measured.min())
        assert mine.filter(~pl.col("value").is_between(pl.col("low"), pl.col("high"))).is_empty()
        assert shown.start < mine["at"].min() < mine["at"].max() <= shown.end
    assert shown.series.columns == ["sli", "at", "value", "low", "high", "stretch"]


@pytest.mark.parametrize("spec_id", SPECS)
def test_status_and_alert_are_those_planted(spec_id, reviews, planted):
    for health in reviews[spec_id].health.slos:
        expected = planted["expected"][spec_id][health.sli_name]
        assert health.alert == expected["alert"]
        still_open = of(reviews[spec_id].alerts, health.sli_name).filter(pl.col("end").is_null())
        assert still_open["severity"].to_list() == ([expected["alert"]] if expected["alert"] else [])
        assert (health.budget_remaining < 0) == (expected["state"] == "missed")


def test_a_planted_outage_is_an_alert_that_begins_within_it_and_is_over(reviews, planted):
    outage = planted["publish-outage"]
    for sli in outage["metrics"]:
        first = of(reviews["spec-reg-002"].alerts, sli).row(0, named=True)
        assert moment(outage["start"]) < first["start"] < moment(outage["end"]) < first["end"]
        assert first["severity"] == "page"
        assert "package registry" in first["summary"]
    assert "raised a page on 12 Nov" in words(reviews["spec-reg-002"])


def test_a_planted_step_is_a_regression_with_its_day(reviews, planted):
    found = {r["metric"]: r for r in reviews["spec-core-001"].regressions if r["found"]}
    assert set(found) == {"search_latency_p99", "document_latency_p99", "api_error_rate"}
    for incident in ("search-slow-4-2", "document-slower-4-2"):
        for metric, size in planted[incident]["size"].items():
            if metric.endswith("_p99"):  # the share of errors falls again after its first day
                assert found[metric]["start"] == planted[incident]["start"][:10]
                assert found[metric]["low"] < size - 1 < found[metric]["high"] + 0.1
    assert not any(r["found"] for spec in SPECS[1:] for r in reviews[spec].regressions)


def test_a_half_day_without_data_is_a_stretch_of_no_data_and_never_zero(reviews, planted):
    shown, gap = reviews["spec-ci-003"], planted["half-day-unmeasured"]
    start, end = moment(gap["start"]), moment(gap["end"])
    for sli in gap["metrics"]:
        stretches = of(shown.no_data, sli).filter(pl.col("end") - pl.col("start") > dt.timedelta(hours=2))
        assert stretches.rows() == [(sli, start, end)]
        series = of(shown.series, sli)
        assert series.filter(pl.col("at").is_between(start, end)).is_empty()
        assert series.filter(pl.col("at") < start)["stretch"].max() < series.filter(pl.col("at") > end)["stretch"].min()
        assert 0.5 / 28 < shown.no_data_ratio(sli) < 0.6 / 28
    assert of(shown.series, "start_latency_p99")["value"].min() > 30  # seconds; zero would be the best ever
    assert "Nothing was measured from 31 Oct 06:00 to 18:00 UTC." in words(shown)


@pytest.mark.parametrize("spec_id", SPECS)
def test_the_budget_burns_down_to_what_the_health_says(spec_id, reviews):
    shown = reviews[spec_id]
    for health in shown.health.slos:
        mine = of(shown.budget, health.sli_name)
        assert mine["at"].max() == END
        assert mine["budget_remaining"][-1] == pytest.approx(health.budget_remaining)
        assert mine["budget_remaining"].max() <= 1


def test_the_report_is_the_one_of_the_last_complete_week(folder, reviews):
    assert reviews["spec-core-001"].report["name"] == "2026-W46"
    assert reviews["spec-core-001"].report["end"] == "2026-11-16T00:00:00Z"
    midweek = review.open("spec-reg-002", folder, dt.datetime(2026, 11, 12, 2, 40, tzinfo=dt.UTC), days=7)
    assert midweek.report["name"] == "2026-W45"
    assert midweek.health.status == "unhealthy"  # in the middle of the outage
    assert midweek.start == dt.datetime(2026, 11, 5, 2, 40, tzinfo=dt.UTC)
    assert midweek.series["at"].min() > midweek.start


def test_the_worst_comes_first_and_only_what_matters_has_a_figure(reviews):
    shown = reviews["spec-core-001"]
    assert review.matters(shown) == ("search_latency_p99", "api_error_rate", "document_latency_p99")
    assert review.view(shown)["quiet"] == ["api_availability"]
    assert review.matters(reviews["spec-reg-002"]) == ("api_error_rate", "publish_availability")
    assert review.matters(reviews["spec-ci-003"]) == ("start_latency_p99",)
    assert review.view(shown)["verdict"].startswith("Unhealthy: search_latency_p99 of retrieval API is at 837 ms")


def test_people_read_numbers_as_they_write_them(reviews):
    said = words(reviews["spec-core-001"])
    for text in (
        "837 ms limit < 300 ms",
        "81.89 % wanted 99 %",
        "spent 18 times over",
        "1 h 10 min after deploy 4.2.0",
        "spec.md line 35",
        "bad: errors; total: requests",
        "feedback run notebooks/slo_report.ipynb -p spec_id=spec-core-001",
    ):
        assert text in said
    assert "api_latency_p99: no lasting rise. A rise of" in words(reviews["spec-reg-002"])
    assert not re.search(r"None|\bnan\b|\d\.\d{5}|\de[+-]\d", said)


@pytest.mark.parametrize("spec_id", SPECS)
def test_what_is_not_measured_and_what_cannot_be_read_is_told(spec_id, reviews, planted):
    said = words(reviews[spec_id])
    assert planted["unreadable"][spec_id] in said
    for target in reviews[spec_id].plan.unmeasured:
        assert f"line {target.line}" in said


@pytest.mark.parametrize("spec_id", SPECS)
def test_figures_are_plain_values_of_a_picture_that_is_not_too_big(spec_id, reviews):
    figures = json.loads(json.dumps(review.figures(reviews[spec_id]), allow_nan=False))
    assert [f["sli"] for f in figures] == list(review.matters(reviews[spec_id]))
    assert all(0 <= a["start"] <= a["end"] <= f["days"] == 28 for f in figures for a in f["alerts"])
    assert all([d["version"] for d in f["deploys"]] == ["4.2.0"] for f in figures)
    assert [t["text"] for t in figures[0]["ticks"]] == ["19 Oct", "26 Oct", "2 Nov", "9 Nov", "16 Nov"]


def test_a_backend_that_is_gone_leaves_unknown_and_no_picture_of_zeros(tmp_path):
    project(tmp_path)
    shown = review.open("spec-api-001", tmp_path, at(1440), days=1)
    assert shown.health.status == "unknown"
    assert shown.series.is_empty()
    assert shown.budget.is_empty()
    assert shown.no_data_ratio("api_latency_p99") == 1
    said = words(shown)
    assert "Unknown: api_error_rate of api is unknown" in said
    assert "no data limit < 200 ms" in said
    assert re.search(r"[^\d]0 (ms|%) limit", said) is None
    figures = review.figures(shown)
    assert [(f["now"], f["series"], f["budget"]) for f in figures] == [("no data", [], [])] * 2
    assert charts.svg(charts.slo_figure(figures[0]), alt=charts.slo_words(figures[0])).count(">no data<") == 2


def test_what_the_monitor_remembers_is_used_where_it_reaches_back_and_is_not_changed(tmp_path):
    folder = project(tmp_path)
    write(folder / "metrics.csv", 3 * 1440, bad=range(4200, 4321))
    watch.once("spec-api-001", tmp_path, now=at(3 * 1440))
    (folder / "metrics.csv").unlink()
    (folder / "metrics.csv").write_text("at,total,bad,p99\n")
    files = {p: p.read_bytes() for p in (tmp_path / ".spec").rglob("*.json")}
    told = [p for p in files if "alerts" in p.parts]
    shown = review.open("spec-api-001", tmp_path, at(3 * 1440), days=2)
    assert {p: p.read_bytes() for p in (tmp_path / ".spec").rglob("*.json")} == files
    assert len(told) == 1
    assert of(shown.series, "api_error_rate")["high"].max() == pytest.approx(10)  # percent
    assert of(shown.alerts, "api_error_rate").height == 1
    longer = review.open("spec-api-001", tmp_path, at(3 * 1440), days=10)
    assert longer.series.is_empty()  # the memory does not reach back, and nothing is measured any more


def test_a_check_that_knows_only_the_present_is_not_asked_about_the_past(tmp_path):
    folder = project(tmp_path)
    write(folder / "metrics.csv", 1440)
    text = (folder / "observability.yaml").read_text().replace("query: p99", "query: {command: [touch, asked.txt]}")
    text = text.replace("    unit: s\n", f"    unit: s\n    provider: {{kind: command, folder: {tmp_path}}}\n")
    (folder / "observability.yaml").write_text(text)
    shown = review.open("spec-api-001", tmp_path, at(1440), days=1)
    assert not (tmp_path / "asked.txt").exists()
    assert {h.sli_name: h.status for h in shown.health.slos}["api_latency_p99"] == "unknown"
    assert "its backend has no history" in words(shown)


def test_names_and_lines_of_a_spec_are_text_not_markup(reviews):
    shown = reviews["spec-core-001"]
    target = shown.plan.unmeasured[0]
    line = review.dataclasses.replace(target, text="<script>alert(1)</script> & more")
    plan = review.dataclasses.replace(shown.plan, unmeasured=(line,), service="<b>evil</b>")
    made = "".join(review.html(p, review.dataclasses.replace(shown, plan=plan)) for p in PARTS)
    assert "<script" not in made
    assert "<b>evil" not in made
    assert "&lt;script&gt;" in made


def test_wrong_arguments_are_refused_with_what_to_write(folder, reviews):
    with pytest.raises(ConfigError, match="days is 0: name 1 or more"):
        review.open("spec-core-001", folder, END, days=0)
    with pytest.raises(ConfigError, match="spec-core-001"):
        review.open("spec-core-01", folder, END)
    with pytest.raises(ValueError, match="did you mean 'evidence'"):
        review.html("evidenc", reviews["spec-core-001"])


def test_the_notebook_runs_through(folder):
    """Every cell, and every output as text; nothing here needs a kernel."""
    book = nbformat.read(ROOT / "notebooks" / "slo_report.ipynb", as_version=4)
    cells = [c.source for c in book.cells if c.cell_type == "code"]
    known = {}
    exec(cells[0], known)
    known |= {"root": str(folder), "spec_id": "spec-ci-003", "as_of": "2026-11-16"}
    shown = []
    for source in cells[1:]:
        *before, last = ast.parse(source).body
        exec(compile(ast.Module(before, []), "slo_report", "exec"), known)
        shown.append(eval(compile(ast.Expression(last.value), "slo_report", "eval"), known))
    assert all(isinstance(s, pages.Part | charts.Figures) for s in shown)
    page = "".join(s._repr_html_() for s in shown)
    assert page.count('<figure class="slo">') == 1
    assert f"-p root={folder}" in page
    assert "<script" not in page
