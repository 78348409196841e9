"""The report as data: its numbers, rankings, verbatims and words, and what it says when data are missing."""

import dataclasses
import datetime as dt
import json
import re

import fake_world as world
import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import example, given, settings

from feedback_lib import records, suggest
from feedback_lib import report as reports
from feedback_lib.analysis import trends
from feedback_lib.errors import StoreError
from feedback_lib.store import Store

START = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
QUALITY = {
    "languages": [{"language": "en", "signals": 40, "read": True}], "unread": 0, "no_topic_ratio": 0.0,
    "duplicates": 0, "models": {}, "classifier": [], "abstained_ratio": 0.0,
}  # fmt: skip


def source(name: str, status: str = "ok") -> dict:
    error = f"files ({name}): the file is gone" if status == "failed" else None
    return {
        "name": name, "kind": "files", "origin": name, "status": status, "read": 3, "new": 1, "updated": 0,
        "rejected": 0, "error": error, "watermark": world.AS_OF,
    }  # fmt: skip


def build(
    frame: pl.DataFrame,
    *,
    failed: tuple[str, ...] = (),
    names: pl.DataFrame | None = None,
    quality: dict = QUALITY,
    options: trends.TrendOptions = trends.USUAL,
) -> reports.Report:
    names = world.topics(frame) if names is None else names
    read = [source(n, "failed" if n in failed else "ok") for n in ("support", "forum")]
    stamp = {"run_id": "8f3c21d0", "as_of": world.AS_OF}
    told = trends.analyse(frame, world.WEEK, names, options, exclude=[("files", n) for n in failed], **stamp)
    drafts = suggest.draft(
        records.frame("findings", told.findings), frame, names, world.WEEK, weeks=options.weeks, **stamp
    )
    return reports.build(
        understood=frame,
        topics=names,
        told=told,
        suggestions=suggest.merge(drafts, []),
        sources=read,
        quality=quality,
        week=world.WEEK,
        product="Harbour",
        synthetic=True,
        quarantined=2,
        **stamp,
    )


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return world.understood(world.steady(14, t1=[40], t3=[7]))


@pytest.fixture(scope="module")
def report(frame) -> reports.Report:
    return build(frame)


def number(report: reports.Report, key: str) -> dict:
    return next(n for n in report.numbers if n["key"] == key)


def test_the_shape_is_the_one_readers_know(report):
    """The keys of summary.json; pages, dashboards and other programs read them."""
    shown = report.to_dict()
    assert set(shown) == {
        "workflow", "version", "run_id", "feedback_items_processed", "suggestions_generated", "trends_identified",
        "recipe", "status", "title", "product", "synthetic", "as_of", "data_as_of", "week", "verdict", "numbers",
        "frictions", "delights", "findings", "suggestions", "recurring", "sources", "quality", "quiet", "rerun",
        "versions", "inputs", "params",
    }  # fmt: skip
    assert [n["key"] for n in shown["numbers"]] == ["people", "answered", "friction", "praise", "moving"]
    assert set(shown["frictions"][0]) == {
        "rank", "topic_id", "name", "words", "badge", "people", "mentions", "baseline_people", "ratio", "low", "high",
        "q", "spark", "dx_label", "category", "severity", "verbatims", "dissenting", "evidence", "sources", "since",
        "exposed", "baseline_exposed", "delight", "first_heard_this_week",
    }  # fmt: skip
    assert set(shown["suggestions"][0]) == {*records.schema("suggestions"), "moving", "weights"}
    assert set(shown["findings"][0]) == {*records.schema("findings"), "exposed", "baseline_exposed"}
    assert shown["trends_identified"] == shown["findings"]
    assert shown["suggestions_generated"] == len(shown["suggestions"]) > 0
    assert shown["rerun"] == "feedback report rerun 8f3c21d0"


def test_a_report_survives_being_written_and_read(report):
    assert reports.Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_the_same_input_in_another_order_gives_the_same_report(frame, report):
    assert build(frame.sample(fraction=1, shuffle=True, seed=5)).to_dict() == report.to_dict()


def test_half_a_report_is_refused_with_what_is_missing(report):
    shown = report.to_dict()
    del shown["verdict"]
    with pytest.raises(ValueError, match="verdict is missing"):
        reports.Report.from_dict(shown)


@pytest.mark.parametrize(
    ("monday", "label", "iso"),
    [
        (dt.date(2026, 11, 9), "week 46, 9–15 November 2026", "2026-W46"),
        (dt.date(2026, 9, 28), "week 40, 28 September – 4 October 2026", "2026-W40"),
        (dt.date(2025, 12, 29), "week 1, 29 December 2025 – 4 January 2026", "2026-W01"),
    ],
)
def test_a_week_is_named_by_its_iso_number_and_its_days(monday, label, iso):
    day = dt.datetime.combine(monday, dt.time(9), dt.UTC)
    frame = world.understood({1: [3]}, week=monday)
    told = trends.analyse(frame, monday, world.topics(frame), as_of=day)
    made = reports.build(
        understood=frame, topics=world.topics(frame), told=told,
        suggestions=records.frame("suggestions", []), sources=[], quality=QUALITY, week=monday, as_of=day,
        run_id="1", product="Harbour",
    )  # fmt: skip
    assert (made.week["label"], made.week["iso"]) == (label, iso)


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def test_nothing_without_an_end_leaves_a_report(report):
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(report, quality={"abstained_ratio": float("nan")}).to_dict()
    broken = build(world.understood(), quality=QUALITY | {"abstained_ratio": float("inf"), "models": {"x": [1e999]}})
    assert broken.quality["abstained_ratio"] is None
    assert broken.quality["models"] == {"x": [None]}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.integers(0, 400).map(float), min_size=13, max_size=13))
@example([0.0, 0.0, 300.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 5.0])
def test_a_number_is_json_whatever_the_weeks_before(spark):
    made = reports._counted("people", "people heard", spark, "none", "", "")
    assert json.loads(json.dumps(made), parse_constant=no_constant) == made
    if None not in (made["ratio"], made["low"], made["high"]):
        assert made["low"] <= made["ratio"] <= made["high"]


def test_a_report_of_an_earlier_version_without_params_can_be_read(report):
    shown = report.to_dict()
    del shown["params"]
    assert reports.Report.from_dict(shown) == report


@pytest.mark.parametrize(
    ("params", "more"), [("", ""), ("params/weekly.yaml", ""), ("params/mine.yaml", " --params params/mine.yaml")]
)
def test_the_command_that_runs_it_again_names_other_params(report, params, more):
    made = dataclasses.replace(report, params=params)
    assert made.to_dict()["rerun"] == f"feedback report rerun 8f3c21d0{more}"
    assert reports.Report.from_dict(made.to_dict()) == made


# The five numbers


def test_people_heard_are_compared_with_the_median_of_four_weeks(report):
    people = number(report, "people")
    assert (people["value"], people["text"], people["baseline"]) == (73, "73", 40)
    assert people["ratio"] == pytest.approx(73 / 40)
    assert people["low"] < people["ratio"] < people["high"]
    assert people["spark"] == [40.0] * 12 + [73.0]


def test_friction_and_praise_count_people_by_their_labels(report):
    assert number(report, "friction")["value"] == 40 + 6 + 4 + 5  # topics 1, 2, 5 and 6
    assert number(report, "praise")["value"] == 7
    assert number(report, "moving")["value"] == 1


def test_answered_counts_only_what_is_due_and_only_origins_that_tell(frame):
    week = frame.filter(pl.col("created_at") >= START)
    told = week.filter(pl.col("origin") == "support", pl.col("created_at") <= world.AS_OF - dt.timedelta(hours=48))
    quick = told.filter(pl.col("first_response_at") - pl.col("created_at") <= dt.timedelta(hours=48))
    answered = number(build(frame), "answered")
    assert answered["value"] == pytest.approx(quick.height / told.height)
    assert answered["text"].endswith(" %")
    assert (answered["good"], answered["valid"]) == (quick.height, told.height)
    assert answered["points"] == pytest.approx(100 * (answered["value"] - answered["baseline"]))


def test_an_open_signal_past_the_limit_counts_as_unanswered(frame):
    due = (pl.col("created_at") >= START) & (pl.col("created_at") <= world.AS_OF - dt.timedelta(hours=48))
    silent = frame.with_columns(first_response_at=pl.when(~due).then("first_response_at"))
    assert number(build(silent), "answered")["value"] == 0


def test_no_answering_times_at_all_are_a_dash_and_not_zero(frame):
    answered = number(build(frame.with_columns(first_response_at=pl.lit(None, pl.Datetime("us", "UTC")))), "answered")
    assert (answered["value"], answered["text"], answered["baseline"]) == (None, "–", None)
    assert (answered["good"], answered["valid"], answered["points"]) == (0, 0, None)
    assert answered["note"] == "no source tells when it answered"


def test_unlabelled_feedback_has_no_friction_and_no_praise_number(frame):
    bare = frame.with_columns(category=pl.lit(None, pl.String), dx_label=pl.lit(None, pl.String))
    assert [number(build(bare), k)["text"] for k in ("friction", "praise")] == ["–", "–"]


def test_the_ratio_of_two_shares_has_the_interval_of_katz():
    """Katz et al. 1978 by hand: 30/50 over 40/100 is 1.5, the logarithm's variance .4/30 + .6/40 = .028333."""
    ratio, low, high = reports.share_ratio(30, 50, 0.4, 100)
    assert ratio == pytest.approx(1.5)
    assert (low, high) == (pytest.approx(1.0785, abs=1e-4), pytest.approx(2.0862, abs=1e-4))


# Frictions and delights


def test_frictions_are_ranked_and_praise_stands_apart(report):
    assert report.frictions[0]["topic_id"] == 1
    assert [r["rank"] for r in report.frictions] == [1, 2, 3, 4, 5]
    assert [r["topic_id"] for r in report.delights] == [3]


def test_a_topic_of_two_people_is_no_top_row():
    made = build(world.understood(world.steady(12, t2=[2], t4=[3])))
    assert {r["topic_id"] for r in made.frictions} == {1, 4, 5, 6, 7}
    assert build(world.understood({1: [2] * 12})).frictions == []


def test_every_ratio_of_a_row_or_finding_can_be_computed_again(report):
    rows = [r for r in [*report.frictions, *report.delights, *report.findings] if r["ratio"] is not None]
    assert len(rows) >= 7
    for r in rows:
        again = (r["people"] / r["exposed"]) / (r["baseline_people"] / r["baseline_exposed"])
        assert r["ratio"] == pytest.approx(again)
    assert {f["exposed"] for f in report.findings if f["kind"] == "recurring"} == {None}


def test_growth_ranks_before_standing_pain():
    frame = world.understood(world.steady(12) | {2: [0] * 11 + [9], 1: [10] * 12})
    assert [r["topic_id"] for r in build(frame).frictions][:2] == [2, 1]


def test_badges_come_from_the_findings(report):
    badges = {r["topic_id"]: r["badge"] for r in [*report.frictions, *report.delights]}
    assert badges[1] == "GROWING"
    assert badges[5] == "RECURRING"
    assert badges[2] == badges[3] == "STEADY"


def test_nothing_is_called_steady_when_nothing_was_tested():
    made = build(world.understood(world.steady(2)))
    assert {r["badge"] for r in made.delights} == {""}


def test_every_row_has_its_evidence_and_a_first_day(report, frame):
    row = report.frictions[0]
    assert len(row["evidence"]) == row["mentions"] == 40
    window = frame.filter(pl.col("topic_id") == 1, pl.col("created_at") >= START - dt.timedelta(weeks=8))
    assert row["since"] == window["created_at"].min().date().isoformat()
    assert (row["delight"], row["first_heard_this_week"], report.delights[0]["delight"]) == (False, False, True)
    assert row["sources"] == ["support"]


def test_a_delight_that_broke_this_week_is_a_friction():
    frame = world.understood({1: [8] * 12, 3: [6] * 12})
    angry = (pl.col("topic_id") == 3) & (pl.col("created_at") >= START)
    frame = frame.with_columns(
        category=pl.when(angry).then(pl.lit("bug_report")).otherwise("category"),
        dx_label=pl.when(angry).then(pl.lit("DX Friction")).otherwise("dx_label"),
    )
    assert [r["topic_id"] for r in build(frame).frictions] == [1, 3]
    assert build(frame).delights == []


def test_the_weeks_looked_back_at_are_the_ones_asked_for():
    """What was said six weeks ago is quoted with a window of eight weeks and not with one of four."""
    plan = {1: [8] * 13, 2: [9] * 7 + [0] * 5 + [3]}
    frame = repeated(distinct(world.understood(plan))).with_columns(topic_score=pl.lit(0.5))
    bare = world.topics(frame).with_columns(pl.lit([], pl.List(pl.String)).alias(c) for c in ("examples", "dissenting"))
    quoted = {}
    for weeks in (4, 8, 16):
        made = build(frame, names=bare, options=trends.TrendOptions(weeks=weeks))
        quoted[weeks] = len(next(r for r in made.frictions if r["topic_id"] == 2)["verbatims"])
    assert quoted == {4: 1, 8: 3, 16: 3}


def test_what_moved_this_week_stands_before_what_is_always_there(frame):
    worse = pl.when(pl.col("topic_id") == 2).then(1.0).when(pl.col("topic_id") == 1).then(0.0)
    made = build(frame.with_columns(severity_score=worse.otherwise("severity_score")))
    assert [s["moving"] for s in made.suggestions] == [True, False, False, False, False]
    assert made.suggestions[0]["subject"] == "topic:1"
    assert made.suggestions[1]["priority"] > made.suggestions[0]["priority"]
    rest = [s["priority"] for s in made.suggestions[1:]]
    assert rest == sorted(rest, reverse=True)
    for s in made.suggestions:
        parts = sum(s[p] * w for p, w in s["weights"].items())
        assert s["priority"] == pytest.approx(parts / sum(s["weights"].values()))


def test_a_recurring_error_is_as_many_people_as_spoke_of_it(frame):
    hit = frame.filter(pl.col("topic_id") == 5).with_columns(
        uid=pl.format("machine {}", "uid"), type=pl.lit("error"), author=pl.lit(None, pl.String)
    )
    (error,) = build(pl.concat([frame, hit])).recurring
    assert (error["people"], error["mentions"]) == (4, 8)


# Verbatims


def repeated(frame: pl.DataFrame) -> pl.DataFrame:
    """All that was said of topic 2 this week repeats the first."""
    now = frame.filter(pl.col("topic_id") == 2, pl.col("created_at") >= START)["uid"]
    return frame.with_columns(duplicate_of=pl.when(pl.col("uid").is_in(now[1:].implode())).then(pl.lit(now[0])))


def distinct(frame: pl.DataFrame) -> pl.DataFrame:
    """Every signal with words of its own."""
    return frame.with_columns(body=pl.format("{} Case {}.", "body", "uid"))


def test_verbatims_are_the_most_central_of_this_week_and_dissent_the_least(frame):
    told = distinct(frame)
    row = build(told).frictions[0]
    week = told.filter(pl.col("topic_id") == 1, pl.col("created_at") >= START).sort("topic_score", "uid")
    assert [v["uid"] for v in row["verbatims"]] == week.sort("topic_score", descending=True)["uid"][:3].to_list()
    assert [v["uid"] for v in row["dissenting"]] == week["uid"][:2].to_list()


def test_the_same_words_are_not_quoted_twice(report):
    texts = [v["text"] for r in report.frictions for v in r["verbatims"] + r["dissenting"]]
    assert len(texts) == len(set(texts))


def test_duplicates_are_not_quoted_while_there_are_originals(frame):
    told = distinct(frame)
    best = build(told).frictions[0]["verbatims"][0]["uid"]
    copied = told.with_columns(duplicate_of=pl.when(pl.col("uid") == best).then(pl.lit("x")).otherwise("duplicate_of"))
    row = build(copied).frictions[0]
    assert best not in [v["uid"] for v in row["verbatims"] + row["dissenting"]]
    assert best in row["evidence"]


def test_a_topic_of_one_original_this_week_is_quoted_from_before():
    told = repeated(distinct(world.understood({1: [8] * 12, 2: [6] * 11 + [3]})))
    row = build(told).frictions[1]
    assert row["verbatims"][0]["created_at"] >= START.isoformat()
    assert len(row["verbatims"]) == 3
    assert row["verbatims"][1]["created_at"] < START.isoformat()


def test_a_verbatim_is_redacted_and_keeps_its_language_and_words(frame):
    german = "Der Export ist langsam, bitte an otto@example.org antworten. " + "Wort " * 40
    told = frame.with_columns(body=pl.lit(german), title=pl.lit(""), language=pl.lit("de"))
    voice = build(told).frictions[0]["verbatims"][0]
    assert voice["text"].startswith("Der Export ist langsam")
    assert "otto" not in json.dumps(build(told).to_dict())
    assert voice["language"] == "de"
    assert len(voice["text"].removesuffix(" …").split()) <= 25


def test_the_language_most_people_write_is_quoted_first(frame):
    told = distinct(frame)
    first = build(told).frictions[0]["verbatims"]
    german = told.with_columns(
        language=pl.when(pl.col("uid") == first[0]["uid"]).then(pl.lit("de")).otherwise("language")
    )
    quoted = build(german).frictions[0]["verbatims"]
    assert [v["uid"] for v in quoted] == [first[n]["uid"] for n in (1, 0, 2)]


def test_greetings_and_headings_are_cut_before_the_words_are_counted():
    body = "Hello everyone, hope you are well. ## Summary The export " + "word " * 40
    cut = reports.verbatim("", body)
    assert cut.startswith("… The export word")
    assert 22 <= cut.split().count("word") <= 24
    assert reports.verbatim("Thanks", "Hi there, great work") == "Thanks · Hi there, great work"


def test_markup_is_left_out_of_a_verbatim_and_an_error_line_stays():
    assert reports.verbatim("", "<p>List&lt;int&gt; fails<br>twice</p>") == "List<int> fails twice"


# Words


def test_the_verdict_names_what_grew_and_how_many_people(report):
    assert report.verdict == "“export slow timeout” rose from about 8 to 40 people a week."


def test_the_verdict_names_the_worst_first_with_its_owner():
    """Forty people who are a little annoyed weigh less than thirty who are stuck; praise comes last."""
    frame = world.understood(world.steady(12, t5=[30], t6=[40], t3=[60]))
    assert build(frame).verdict == (
        "Cli: “region missing” rose from about 4 to 30 people a week; "
        "console: “settings hidden” rose from about 5 to 40 people a week; 1 more moved."
    )


def test_the_verdict_says_which_source_was_not_read(frame):
    stamp = {"run_id": "8f3c21d0", "as_of": world.AS_OF}
    told = trends.analyse(frame, world.WEEK, world.topics(frame), exclude=[("files", "forum")], **stamp)
    made = reports.build(
        understood=frame, topics=world.topics(frame), told=told,
        suggestions=records.frame("suggestions", []), quality=QUALITY, week=world.WEEK, product="Harbour",
        sources=[source("forum", "not_read") | {"left_out": True}, source("support")], **stamp,
    )  # fmt: skip
    assert made.status == "ok"
    assert made.verdict.startswith("Without forum, which was not read: ")


def test_a_quiet_week_says_so_with_what_was_tested_and_what_would_have_been_seen():
    made = build(world.understood())
    assert made.verdict == (
        "A quiet week: no topic changed more than chance explains. The most pressing is “export slow timeout”."
    )
    assert made.quiet["nothing_happened"] is True
    assert re.fullmatch(
        r"a topic of 6 people a week would have been noticed from about \d+ people", made.quiet["power"]
    )
    assert int(made.quiet["power"].split()[-2]) > 6


def test_the_verdict_says_never_heard_before_only_of_what_never_was():
    plan = world.steady(20) | {4: [0] * 19 + [14]}
    assert build(world.understood(plan)).verdict.endswith("“rename a project” is new: 14 people, never heard before.")
    older = build(world.understood(plan | {4: [1] + [0] * 18 + [14]}))
    assert older.verdict.endswith("“rename a project” is new: 14 people.")
    assert [r["first_heard_this_week"] for r in older.frictions if r["topic_id"] == 4] == [False]


def test_a_week_in_which_something_fell_is_not_said_to_be_without_change():
    made = build(world.understood(world.steady(12, t7=[30] * 11 + [3])))
    assert [f["subject"] for f in made.findings if f["kind"] == "falling" and f["subject_type"] == "topic"] == ["7"]
    assert made.verdict.startswith("A quiet week: no topic grew more than chance explains.")


def test_a_short_history_is_said_and_is_not_a_quiet_week():
    made = build(world.understood(world.steady(2)))
    assert "only 1 earlier week has data, 3 are needed" in made.verdict
    assert made.quiet["nothing_happened"] is False


def test_loved_topics_grow_as_praise():
    made = build(world.understood(world.steady(12, t3=[40])))
    assert made.verdict.startswith("Praise for “live logs” rose")


@pytest.mark.parametrize(
    "plan",
    [{}, {"t1": [40]}, {"t1": [60], "t2": [60], "t4": [50], "t6": [45], "t3": [70]}, {"t1": [0]}],
    ids=["quiet", "one", "many", "gone"],
)
@pytest.mark.parametrize("failed", [(), ("support",), ("support", "forum")], ids=["all", "one failed", "all failed"])
def test_the_verdict_never_exceeds_thirty_words(plan, failed):
    frame = world.understood(world.steady(12, **plan))
    long = world.topics(frame).with_columns(name=pl.format("{} and a very long tail of words nobody reads", "name"))
    made = build(frame, failed=failed, names=long)
    assert 3 <= len(made.verdict.split()) <= 30
    assert made.verdict.endswith(".")


def test_the_summary_is_plain_text_with_every_number_and_the_failed_source(frame):
    text = reports.summary_text(build(frame, failed=("forum",)))
    assert "NOT READ: forum: the file is gone" in text
    for label in ("people heard", "answered within 48 h", "topics new or on the rise"):
        assert label in text


# Missing data


def test_a_failed_source_degrades_the_report_and_withholds_what_it_mostly_makes(frame):
    made = build(frame, failed=("support",))
    assert made.status == "degraded"
    assert made.verdict.startswith("Without support, which could not be read: ")
    assert [number(made, k)["text"] for k in ("people", "answered", "friction")] == ["–", "–", "–"]
    assert number(made, "praise")["value"] == 7
    assert {r["topic_id"] for r in made.frictions} == {4}


def test_a_failed_source_is_left_out_of_the_weeks_before_too(frame):
    people = number(build(frame, failed=("forum",)), "people")
    assert (people["value"], people["baseline"]) == (40 + 6 + 4 + 5 + 6, 29)
    assert people["note"].endswith("without forum")


def test_with_every_source_failed_all_numbers_are_dashes(frame):
    made = build(frame, failed=("support", "forum"))
    assert [n["text"] for n in made.numbers] == ["–"] * 5
    assert made.frictions == made.delights == []
    assert "nobody was heard in week 46" in made.verdict


def test_no_feedback_at_all_is_a_report_too(frame):
    made = build(frame.clear())
    assert [n["text"] for n in made.numbers] == ["–"] * 5
    assert made.feedback_items_processed == 0


# The store


def run_row(report: reports.Report, as_of: dt.datetime, updated_at: dt.datetime) -> records.RunRow:
    return records.RunRow(
        run_id=report.run_id, recipe="weekly", as_of=as_of, started_at=as_of, seconds=1.0, status="ok", params="{}",
        versions="{}", inputs="{}", counts="{}", report=json.dumps(report.to_dict()), updated_at=updated_at,
    )  # fmt: skip


def test_a_report_is_opened_by_run_or_the_newest_week(tmp_path, report):
    store = Store(tmp_path / "store")
    old = reports.Report.from_dict(report.to_dict() | {"run_id": "0ld"})
    day = dt.timedelta(days=1)
    rows = [
        run_row(report, world.AS_OF, world.AS_OF),
        run_row(old, world.AS_OF - 7 * day, world.AS_OF + day),  # an old week, looked at again later
    ]
    store.upsert("runs", records.frame("runs", rows))
    assert reports.open_report(store) == report
    assert reports.open_report(store, "0ld") == old
    with pytest.raises(StoreError, match="did you mean '8f3c21d0'"):
        reports.open_report(store, "8f3c21d1")


def test_a_store_without_a_report_says_what_to_run(tmp_path):
    with pytest.raises(StoreError, match="feedback report weekly"):
        reports.open_report(Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("Hi there, export is slow since Monday", "Slow · … export is slow since Monday"),
        ("### Describe the bug Export is slow since Monday", "Slow · … Export is slow since Monday"),
        ("Hello, ### What happened? It is slow since Monday", "Slow · … It is slow since Monday"),
        ("Good morning, Yesterday we could export ### Version 4", "Slow · … Yesterday we could export … Version 4"),
        ("Bonjour, depuis hier tout est lent", "Slow · … depuis hier tout est lent"),
        ("Hi-res images load slowly since Monday", "Slow · Hi-res images load slowly since Monday"),
        ("Hello world, the first example, fails", "Slow · Hello world, the first example, fails"),
        ("See # 5 and C# 12 for what fails", "Slow · See # 5 and C# 12 for what fails"),
    ],
)
def test_only_what_stands_before_what_is_said_is_cut(body, shown):
    assert reports.verbatim("Slow", body) == shown


def ran_into(key, **given):
    row = {"friction_id": key * 32, "kind": "skip", "key": key, "name": key, "phase": None, "reason": ""}
    row |= {"week": world.WEEK, "workflows": 8, "of": 10, "by_week": (8,), "of_by_week": (10,), "people": 0}
    row |= {"people_before": 0, "topic_id": None, "similarity": None, "telling": True, "said": (), "evidence": ()}
    return records.FrictionRow(**row | {"updated_at": world.AS_OF, "run_id": "8f3c"} | given)


def test_silent_friction_begins_with_what_people_speak_of_then_with_what_most_workflows_run_into():
    told = [
        ran_into("a"),
        ran_into("b", workflows=9),
        ran_into("c", people_before=2),
        ran_into("d", workflows=3, people=1, telling=False),
        ran_into("e", workflows=3, telling=False),
    ]
    assert [row["key"] for row in reports._silent(told)] == ["d", "b", "c", "a"]
