"""Suggestions: what kind of work, in what words, how urgent, on what evidence, and only one per problem."""

import dataclasses
import datetime as dt
import math

import fake_world as world
import polars as pl
import pytest

from feedback_lib import records, suggest
from feedback_lib.analysis import trends

NEXT = world.WEEK + dt.timedelta(weeks=1)


def drafts(frame: pl.DataFrame, week: dt.date = world.WEEK, run_id: str = "8f3c21d0", **options):
    names = world.topics(frame)
    as_of = world.AS_OF + (week - world.WEEK)
    findings = trends.find(frame, week, names, run_id=run_id, as_of=as_of)
    return suggest.draft(findings, frame, names, week, run_id=run_id, as_of=as_of, **options)


def by_topic(made) -> dict[str, records.SuggestionRow]:
    return {s.subject: s for s in made}


@pytest.fixture(scope="module")
def grown() -> pl.DataFrame:
    return world.understood(world.steady(13, t1=[40, 44]), week=NEXT)


def test_each_kind_of_problem_asks_for_its_kind_of_work(grown):
    types = {s.subject: s.type for s in drafts(grown, steady=9)}
    assert types == {
        "topic:1": "performance investigation",
        "topic:2": "documentation",
        "topic:4": "feature spec",
        "error:f00d5eed": "bug fix",  # topic 5 is its error
        "topic:6": "refactor",
        "topic:7": "documentation",  # people ask, so nobody told them
    }


def one(frame: pl.DataFrame, **columns) -> pl.DataFrame:
    given = frame.filter(pl.col("topic_id") == 6).head(5)
    return given.with_columns(pl.lit(v, frame.schema[c]).alias(c) for c, v in columns.items())


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"body": "Nobody owns the action items of the last post-mortem."}, "process change"),
        ({"type": "incident"}, "process change"),
        ({"type": "performance"}, "performance investigation"),
        ({"fingerprint": "f00d5eed"}, "bug fix"),
        ({"category": "bug_report"}, "bug fix"),
        ({"category": None, "dx_label": "Missing Capability"}, "feature spec"),
        ({"category": None, "dx_label": None}, "refactor"),
    ],
)
def test_the_signals_decide_what_kind_of_work_it_is(grown, columns, expected):
    assert suggest.suggestion_type("topic", "settings", one(grown, **columns)) == expected


def test_an_error_is_a_bug_even_when_it_is_called_a_timeout(grown):
    slow = one(grown, body="TimeoutError: the export is slow")
    assert suggest.suggestion_type("error", "TimeoutError", slow) == "bug fix"
    assert suggest.suggestion_type("topic", "TimeoutError", slow) == "performance investigation"


def test_one_slow_signal_of_five_is_no_performance_investigation(grown):
    mixed = pl.concat([one(grown).head(4), one(grown, body="This page is slow.").tail(1)])
    assert suggest.suggestion_type("topic", "settings hidden", mixed) == "refactor"


def test_what_grows_comes_first_and_says_by_how_much(grown):
    first = drafts(grown)[0]
    assert first.subject == "topic:1"
    assert first.title == "Find out why “export slow timeout” is slow: from about 8 to 40 people in week 46"
    assert first.action.startswith("The owner of export should first compare latency before and after 9 November")
    assert first.people == len(first.evidence) == 40
    assert len(first.findings) == 1


def test_a_growth_of_a_short_name_says_the_rise_in_full():
    frame = world.understood(world.steady(12, t5=[30]))
    made = by_topic(drafts(frame))
    assert made["error:f00d5eed"].title == "Fix “region missing”: rose from about 4 to 30 people a week in week 46"


def test_what_is_new_was_never_heard_before_only_when_that_is_true():
    plan = world.steady(20) | {4: [0] * 19 + [14]}
    frame = world.understood(plan)
    title = by_topic(drafts(frame))["topic:4"].title
    assert title == "Write a spec for “rename a project”: new in week 46: 14 people, never heard before"
    older = world.understood(plan | {4: [1] + [0] * 18 + [14]})
    assert by_topic(drafts(older))["topic:4"].title.endswith("new in week 46: 14 people")


def slow(*columns: pl.Expr, tail: list[int] | None = None) -> pl.DataFrame:
    """Topic 1 that grew to 40 people this week, with other columns for this week's signals of it."""
    frame = world.understood(world.steady(12, t1=tail or [40]))
    start = pl.lit(world.WEEK).cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(
        pl.when((pl.col("topic_id") == 1) & (pl.col("created_at") >= start)).then(c).otherwise(c.meta.output_name())
        for c in columns
    )


def action(frame: pl.DataFrame) -> str:
    return by_topic(drafts(frame, steady=9))["topic:1"].action


def test_a_growth_names_the_version_that_its_evidence_names():
    frame = slow()
    assert "version" not in action(frame)
    start = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
    uids = frame.filter(pl.col("topic_id") == 1, pl.col("created_at") >= start)["uid"].to_list()
    told = frame.with_columns(
        version=pl.when(pl.col("uid").is_in(uids[:10])).then(pl.lit("4.2.1")).otherwise(pl.lit(None, pl.String)),
        body=pl.when(pl.col("uid").is_in(uids[10:16])).then(pl.lit("Slow since 4.2.")).otherwise("body"),
    )
    assert "compare latency before and after version 4.2 (4.2 is named in 16 of 40), starting" in action(told)


def test_a_version_that_everybody_always_had_is_no_reason_for_a_growth():
    frame = world.understood(world.steady(12, t1=[40])).with_columns(version=pl.lit("4.2.0"))
    assert "4.2" not in action(frame)


def test_a_growth_without_a_version_names_the_first_day_louder_than_any_before():
    wednesday = dt.datetime(2026, 11, 11, 9, tzinfo=dt.UTC)
    frame = world.with_us(slow(pl.lit(wednesday).dt.cast_time_unit("us").alias("created_at")))
    assert "compare latency before and after 11 November, starting" in action(frame)


def test_a_topic_that_does_not_grow_is_given_no_date():
    steady = action(world.understood(world.steady(12)))
    assert steady == (
        "The owner of export should first measure where the time goes, starting from the 8 linked signals; "
        "then say which part to make faster."
    )


def measured(frame: pl.DataFrame, service: str, title: str, state: str = "unhealthy") -> pl.DataFrame:
    """The frame and one report of a machine on the performance of a service, this week."""
    last = frame.filter(pl.col("topic_id") == 2).sort("created_at").tail(1)
    given = {
        "uid": f"report {title}", "type": "performance", "author": None, "topic_id": None, "service": service,
        "title": title, "state": state, "product_area": None, "spec_id": "spec-core-001",
    }  # fmt: skip
    return pl.concat([frame, last.with_columns(pl.lit(v, frame.schema[c]).alias(c) for c, v in given.items())])


@pytest.mark.parametrize(("service", "words"), [("export-api", "report: "), ("billing", "report, also this week: ")])
def test_a_performance_report_of_the_week_is_named_and_is_evidence(service, words):
    title = "p99_latency 930 against 300 (spec-core-001)"
    base = world.understood(world.steady(12))
    frame = measured(measured(base, "search", "error_rate 0.1 against 0.01 (spec-x)"), service, title)
    made = by_topic(drafts(frame, steady=9))
    assert made["topic:1"].action.endswith(f" Performance {words}{title}.")
    assert made["topic:1"].evidence[-1] == f"report {title}"
    assert len(made["topic:1"].evidence) == 8 + 1
    assert "Performance report" not in made["topic:2"].action


def test_a_healthy_performance_report_is_not_named():
    frame = measured(world.understood(world.steady(12)), "export", "p99_latency 93 against 300", state="healthy")
    assert "Performance report" not in action(frame)


def test_few_people_are_not_counted_out_in_a_title():
    made = by_topic(drafts(world.understood(world.steady(12, t4=[4])), steady=9))
    assert made["topic:4"].title == "Write a spec for “rename a project”: fewer than 5 people in week 46"


def test_praise_and_what_falls_make_no_suggestion():
    frame = world.understood(world.steady(12, t3=[30], t7=[30] * 11 + [3]))
    made = by_topic(drafts(frame, steady=9))
    assert "topic:3" not in made
    assert "topic:7" not in made
    assert "topic:1" in made


def test_a_recurring_error_and_the_topic_it_makes_are_one_suggestion(grown):
    made = by_topic(drafts(grown))
    assert "topic:5" not in made
    assert made["error:f00d5eed"].title == "Fix “region missing”: seen in 9 of the last 9 weeks to week 46"
    assert len(made["error:f00d5eed"].findings) == 1


def test_a_recurring_error_without_a_topic_makes_its_own(grown):
    frame = grown.with_columns(topic_id=pl.when(pl.col("topic_id") != 5).then("topic_id"))
    assert by_topic(drafts(frame))["error:f00d5eed"].type == "bug fix"


def test_titles_say_the_week_and_the_window_they_speak_of_and_fit_on_a_line(grown):
    long = grown.with_columns(product_area=pl.lit(None, pl.String))
    names = world.topics(long).with_columns(name=pl.format("{} and a very long tail of words nobody reads", "name"))
    stamp = {"run_id": "8f3c21d0", "as_of": world.AS_OF}
    findings = trends.find(long, world.WEEK, names, trends.TrendOptions(weeks=4), **stamp)
    made = suggest.draft(findings, long, names, world.WEEK, steady=9, weeks=4, **stamp)
    assert len(made) == 6
    for s in made:
        assert len(s.title) <= 90
        assert "this week" not in s.title
        assert "week 46" in s.title
    assert by_topic(made)["error:f00d5eed"].title.endswith("…”: seen in 5 of the last 5 weeks to week 46")


def test_what_grows_stands_before_what_is_worse_and_always_there(grown):
    worse = pl.when(pl.col("topic_id") == 2).then(1.0).when(pl.col("topic_id") == 1).then(0.0)
    made = drafts(grown.with_columns(severity_score=worse.otherwise("severity_score")), steady=9)
    assert made[0].subject == "topic:1"
    assert by_topic(made)["topic:2"].priority > made[0].priority
    rest = [s.priority for s in made[1:]]
    assert rest == sorted(rest, reverse=True)


# Machines are no people


def errors(frame: pl.DataFrame, count: int, fingerprint: str = "deadbeef", **columns) -> pl.DataFrame:
    """``count`` error reports of a machine in each of the weeks of the frame, without a topic and an author."""
    first = frame.filter(pl.col("topic_id") == 6).group_by("created_at_us").first().select(frame.columns)
    weeks = [first.filter(pl.col("created_at").dt.date().is_between(m, m + dt.timedelta(days=6))).head(1)
             for m in world.weeks_before(13, NEXT)]  # fmt: skip
    made = pl.concat([w for w in weeks for _ in range(count)]).with_row_index("n")
    given = {
        "type": "error", "author": None, "topic_id": None, "fingerprint": fingerprint, "category": "bug_report",
        "title": "ValueError: bad digest", "body": "ValueError: bad digest", "origin": "crashes",
    } | columns  # fmt: skip
    made = made.with_columns(
        *(pl.lit(v, frame.schema[c]).alias(c) for c, v in given.items()),
        uid=pl.format("{}-{}", pl.lit(fingerprint), "n"),
    )
    return made.select(frame.columns)


def test_forty_errors_of_a_machine_are_no_people_and_do_not_stand_before_people():
    frame = world.understood({6: [10] * 13}, week=NEXT)
    frame = pl.concat([frame, errors(frame, 40)])
    made = by_topic(drafts(frame))
    machine = made["error:deadbeef"]
    assert (machine.people, machine.impact) == (0, 0)
    assert len(machine.evidence) == 40
    assert machine.title == (
        "Fix “ValueError: bad digest”: 0 people, seen 40 times in week 46, in 9 of the last 9 weeks"
    )
    assert machine.history[0].endswith(f"0 people, priority {machine.priority:.2f}")
    assert made["topic:6"].people == 10
    assert made["topic:6"].impact == 1
    assert made["topic:6"].priority > machine.priority


def test_the_volume_of_what_machines_report_is_in_its_frequency():
    base = world.understood({6: [10] * 13}, week=NEXT)
    parts = {n: by_topic(drafts(pl.concat([base, errors(base, n)])))["error:deadbeef"].frequency for n in (1, 10, 100)}
    assert parts == {1: pytest.approx(1 / 2), 10: pytest.approx((1 + 1 / 3) / 2), 100: pytest.approx((1 + 2 / 3) / 2)}


def test_customers_of_machines_reports_make_no_impact(grown):
    frame = pl.concat([grown, errors(grown, 3, customer_value=1000.0, author="anon-000000000000")])
    assert by_topic(drafts(frame))["error:deadbeef"].impact == 0


def test_what_only_machines_say_about_a_topic_is_no_steady_friction(grown):
    frame = pl.concat([grown, errors(grown, 5, topic_id=2, fingerprint="0")]).filter(
        (pl.col("topic_id") != 2) | (pl.col("type") == "error")
    )
    assert "topic:2" not in by_topic(drafts(frame.with_columns(fingerprint=pl.lit(None, pl.String)), steady=9))


def test_steady_frictions_and_all_suggestions_are_capped(grown):
    assert {s.subject for s in drafts(grown, steady=0)} == {"topic:1", "error:f00d5eed"}
    assert [s.subject for s in drafts(grown, limit=1)] == ["topic:1"]


def test_a_week_in_which_nobody_spoke_suggests_nothing(grown):
    assert drafts(grown, week=NEXT + dt.timedelta(weeks=3)) == []


# Priority


def test_priority_is_the_weighted_mean_of_the_parts_shown(grown):
    for s in drafts(grown, weights=suggest.Weights(severity=2, impact=1, frequency=1)):
        assert s.priority == pytest.approx((2 * s.severity + s.impact + s.frequency) / 4)
        assert 0 <= min(s.severity, s.impact, s.frequency) <= max(s.severity, s.impact, s.frequency) <= 1


def test_the_parts_are_what_the_module_says(grown):
    made = by_topic(drafts(grown, steady=9))
    assert made["topic:2"].severity == pytest.approx(0.4)
    assert made["topic:2"].impact == pytest.approx(math.sqrt(6 / 72))  # 6 of 72 people
    assert made["topic:2"].frequency == pytest.approx(0.5)  # every week, no growth


def test_a_severity_that_a_person_wrote_counts_before_the_inferred_one(grown):
    assert suggest.severity(one(grown, severity="Critical", severity_score=0.1)) == 1
    assert suggest.severity(one(grown, severity="purple", severity_score=0.1)) == pytest.approx(0.1)
    assert suggest.severity(one(grown, severity=None, severity_score=None)) == 0.5


@pytest.mark.parametrize(
    ("level", "score", "expected"),
    [("fatal", 0.9, 0.95), ("error", 0.9, 0.7), ("WARNING", 0.95, 0.6), ("info", 0.9, 0.5), ("low", None, 0.25),
     (None, 0.9, 0.9), ("purple", 0.9, 0.9), (None, None, 0.5)],
)  # fmt: skip
def test_how_bad_a_machine_sounds_counts_only_half_where_its_level_is_known(grown, level, score, expected):
    reported = one(grown, type="error", severity=level, severity_score=score)
    assert suggest.severity(reported) == pytest.approx(expected)


def test_customers_who_pay_most_of_it_make_an_impact_though_they_are_few(grown):
    worth = pl.when(pl.col("topic_id") == 2).then(90.0).otherwise(1.0)
    rich = by_topic(drafts(grown.with_columns(customer_value=worth), steady=9))["topic:2"]
    assert rich.impact == pytest.approx(math.sqrt(6 * 90 / (6 * 90 + 66)))


# Running again


def test_the_same_window_twice_gives_the_same_rows_exactly(grown):
    first = suggest.merge(drafts(grown, run_id="aaaa0001"), records.frame("suggestions", []))
    again = suggest.merge(drafts(grown, run_id="bbbb0002"), first)
    assert again.equals(first)
    assert first.schema == records.schema("suggestions")


def test_next_week_the_same_problem_updates_the_old_suggestion(grown):
    first = suggest.merge(drafts(grown, run_id="aaaa0001"), [])
    second = suggest.merge(drafts(grown, week=NEXT, run_id="bbbb0002"), first)
    old = first.filter(pl.col("subject") == "topic:1").row(0, named=True)
    new = second.filter(pl.col("subject") == "topic:1").row(0, named=True)
    assert new["suggestion_id"] == old["suggestion_id"]
    assert new["created_at"] == old["created_at"]
    assert new["people"] == 44
    assert [line[:19] for line in new["history"]] == ["2026-11-09 run aaaa", "2026-11-16 run bbbb"]


def test_a_week_corrected_by_late_data_replaces_its_line_of_history(grown):
    first = suggest.merge(drafts(grown), [])
    more = world.understood(world.steady(13, t1=[41, 44]), week=NEXT)
    second = suggest.merge(drafts(more, run_id="bbbb0002"), first)
    (line,) = second.filter(pl.col("subject") == "topic:1")["history"][0]
    assert line.startswith("2026-11-09 run bbbb: 41 people")


def test_a_suggestion_that_a_person_took_keeps_its_state_and_words(grown):
    (taken,) = [s for s in drafts(grown) if s.subject == "topic:1"]
    taken = dataclasses.replace(taken, state="accepted", title="Speed up the export")
    merged = suggest.merge(drafts(grown, week=NEXT), [taken])
    row = merged.filter(pl.col("subject") == "topic:1").row(0, named=True)
    assert (row["state"], row["title"], row["people"]) == ("accepted", "Speed up the export", 44)


def test_looking_again_at_an_older_week_leaves_the_newer_numbers(grown):
    newest = suggest.merge(drafts(grown, week=NEXT), [])
    merged = suggest.merge(drafts(grown), newest)
    row = merged.filter(pl.col("subject") == "topic:1").row(0, named=True)
    assert row["people"] == 44
    assert [line[:10] for line in row["history"]] == ["2026-11-09", "2026-11-16"]


# An error and its topic are one problem, week after week


def share_of_errors(frame: pl.DataFrame, shares: list[float]) -> pl.DataFrame:
    """Topic 5 with its error in so large a part of its signals, week by week up to the last."""
    rules = pl.lit(False)
    for monday, share in zip(world.weeks_before(len(shares), NEXT), shares, strict=True):
        week = frame.filter(
            pl.col("topic_id") == 5, pl.col("created_at").dt.date().is_between(monday, monday + dt.timedelta(days=6))
        )
        rules = rules | pl.col("uid").is_in(week["uid"][: round(share * week.height)].implode())
    return frame.with_columns(fingerprint=pl.when(rules).then(pl.lit("f00d5eed")))


def kept(tables: pl.DataFrame, frame: pl.DataFrame, week: dt.date) -> pl.DataFrame:
    """The table suggestions after a run of that week."""
    rows = suggest.merge(drafts(frame, week=week, run_id=f"{week:%m%d}aaaa", steady=9), tables)
    assert rows["suggestion_id"].is_unique().all()
    return pl.concat([rows, tables.join(rows, on="suggestion_id", how="anti")])


@pytest.mark.parametrize(
    "shares",
    [
        [0.6, 0.4] * 6 + [0.6],  # now most of the topic's signals, now not
        [0.3] * 7 + [0.9] * 6,  # they become one
        [0.9] * 7 + [0.45] * 6,  # they come apart a little
        [0.0] * 8 + [0.7] * 5,  # a new error, not yet recurring
    ],
    ids=["flip", "join", "part", "new"],
)
def test_an_error_and_its_topic_stay_one_suggestion_over_many_weeks(shares):
    frame = share_of_errors(world.understood({1: [8] * 13, 5: [10] * 13}, week=NEXT), shares)
    table = records.frame("suggestions", [])
    ids = []
    for week in world.weeks_before(6, NEXT):
        table = kept(table, frame, week)
        (row,) = table.filter(pl.col("subject").is_in(["topic:5", "error:f00d5eed"])).to_dicts()
        ids.append(row["suggestion_id"])
    assert len(set(ids)) == 1
    assert [line[:10] for line in row["history"]] == [str(w) for w in world.weeks_before(6, NEXT)]


def test_a_suggestion_of_the_topic_alone_is_continued_by_its_error(grown):
    (made,) = [s for s in drafts(grown) if s.subject == "error:f00d5eed"]
    plain = {f.name: getattr(made, f.name) for f in dataclasses.fields(records.SuggestionRow)}
    old = records.SuggestionRow(
        **plain | {"subject": "topic:5", "suggestion_id": suggest.suggestion_id("topic", "5"), "state": "accepted"}
    )
    merged = suggest.merge(drafts(grown, week=NEXT), [old])
    (row,) = merged.filter(pl.col("suggestion_id") == old.suggestion_id).to_dicts()
    assert (row["subject"], row["state"], len(row["history"])) == ("error:f00d5eed", "accepted", 2)
    assert suggest.suggestion_id("error", "f00d5eed") not in set(merged["suggestion_id"])
    assert suggest.merge(drafts(grown, week=NEXT), merged).equals(merged)


def test_an_error_inside_a_large_topic_keeps_a_suggestion_of_its_own():
    frame = share_of_errors(world.understood({1: [8] * 13, 5: [20] * 13}, week=NEXT), [0.2] * 13)
    table = records.frame("suggestions", [])
    for week in world.weeks_before(4, NEXT):
        table = kept(table, frame, week)
    assert {"topic:5", "error:f00d5eed"} <= set(table["subject"])
    assert table.height == 3


# Kinds that came with days and releases


def shaped(findings_of: dict, frame: pl.DataFrame, **given) -> dict[str, records.SuggestionRow]:
    findings = trends.find(frame, world.WEEK, world.topics(frame), run_id="8f3c", as_of=world.AS_OF, **given)
    kinds = {r["subject"]: r["kind"] for r in findings.to_dicts() if r["subject_type"] == "topic"}
    assert kinds == findings_of
    stamp = {"run_id": "8f3c21d0", "as_of": world.AS_OF}
    return by_topic(suggest.draft(findings, frame, world.topics(frame), world.WEEK, **stamp))


def test_a_rise_after_a_release_names_it_and_does_not_call_it_the_cause():
    monday = dt.datetime(2026, 11, 9, 6, tzinfo=dt.UTC)
    frame = world.understood(world.steady(12, t1=[24]))
    made = shaped({"1": "regression"}, frame, deploys=[(monday, "4.2", None)])["topic:1"]
    assert made.title.endswith("from about 8 to 24 people after 4.2")
    assert "compare latency before and after 4.2, starting" in made.action
    assert made.action.endswith("It rose after 4.2 came out, which need not be the cause.")


def test_a_spike_asks_what_happened_on_its_day():
    thursday = dt.datetime(2026, 11, 12, 9, tzinfo=dt.UTC)
    frame = world.understood(world.steady(12, t6=[20]))
    start = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
    mine = frame.filter(pl.col("topic_id") == 6, pl.col("created_at") >= start)["uid"].sort()[:17]
    at = pl.when(pl.col("uid").is_in(mine.implode())).then(pl.lit(thursday).dt.cast_time_unit("us"))
    frame = world.with_us(frame.with_columns(at.otherwise("created_at").alias("created_at")))
    made = shaped({"6": "spike"}, frame)["topic:6"]
    assert made.title == "Find out what happened to “settings hidden”: 17 people on 12 November"
    assert "first find out what happened on 12 November" in made.action


def test_what_fell_silent_is_to_be_checked():
    made = shaped({"7": "silent"}, world.understood(world.steady(12, t7=[20] * 11 + [0])))["topic:7"]
    assert made.title == "Check why “invite colleagues” fell silent: nobody in week 46, usually about 20 people"
    assert made.type == "process change"
    assert "first check that people can still reach us about it" in made.action


def test_what_comes_back_says_so():
    frame = world.understood(world.steady(20) | {2: [6] * 8 + [0] * 11 + [14]})
    assert shaped({"2": "recurring"}, frame)["topic:2"].title.endswith("back in week 46: 14 people")


# Silent friction


def friction(**given):
    """What `friction.find` says of a step that 41 of 45 workflows skipped."""
    row = {"friction_id": "f" * 32, "kind": "skip", "key": "visual_test", "name": "visual test", "phase": "VERIFY"}
    row |= {"reason": "no UI", "week": world.WEEK, "workflows": 41, "of": 45, "by_week": (0, 41), "of_by_week": (3, 45)}
    row |= {"people": 0, "people_before": 0, "topic_id": None, "similarity": None, "telling": True, "said": ()}
    row |= {"evidence": tuple(f"{n:032x}" for n in range(41)), "updated_at": world.AS_OF, "run_id": "8f3c"}
    return records.FrictionRow(**row | given)


@pytest.fixture(scope="module")
def calm() -> pl.DataFrame:
    return world.understood(world.steady(12))


def spoken(frame: pl.DataFrame, topic: int, count: int = 2) -> tuple[str, ...]:
    monday = dt.datetime.combine(world.WEEK, dt.time(), dt.UTC)
    rows = frame.filter(pl.col("topic_id") == topic, pl.col("created_at") >= monday)
    return tuple(rows["uid"].sort()[:count])


def test_what_workflows_skip_and_nobody_says_is_a_suggestion_of_its_own(calm):
    before = by_topic(drafts(calm))
    made = by_topic(drafts(calm, friction=[friction()]))
    own = made.pop("skip:visual_test")
    assert made == before
    assert own.title == "Rethink the step “visual test”: said by nobody, hit by 41 of 45 workflows in week 46"
    assert (
        "said by nobody, hit by 41 of 45 workflows, which skipped “visual test”, most often because “no UI”"
        in own.action
    )
    assert (own.people, own.type, own.evidence) == (0, "process change", friction().evidence)
    assert own.impact == pytest.approx(math.sqrt(0.7927), abs=1e-3)  # at least so many of 45 in 95 of 100 cases
    assert own.frequency == pytest.approx((1 / 9 + math.log10(41) / 3) / 2)


def grew(**given):
    numbers = {"earlier_s": 900.0, "later_s": 1920.0, "ratio": 2.23, "low": 1.52, "high": 3.6}
    row = {"kind": "phase", "key": "PLAN", "name": "PLAN", "phase": "PLAN", "reason": "", "workflows": 9, "of": 18}
    return friction(**row | {"by_week": (0, 9), "of_by_week": (9, 9)} | numbers | given)


def test_a_phase_that_takes_longer_is_a_suggestion_with_its_numbers(calm):
    made = by_topic(drafts(calm, friction=[grew()]))["phase:PLAN"]
    assert made.title == "Find out why “PLAN” takes longer: 15 min → 32 min in the later 9 of 18 workflows"
    assert made.action == (
        "Whoever looks after the workflow should first compare the first and the last of the 41 linked signals; then "
        "shorten what was added to the phase, or say what it is for. Silent friction: hit by 9 of 18 workflows, which "
        "took longer for “PLAN” than those before: 15 min → 32 min, ×2.2 (1.5–3.6)."
    )
    assert (made.people, made.type, made.evidence) == (0, "process change", friction().evidence)
    assert made.impact == pytest.approx(math.sqrt(0.29), abs=0.01)


def test_workflows_count_in_impact_by_the_lower_end_of_their_share(calm):
    """What most of many workflows run into outweighs few people; one workflow of one proves little."""
    impact = {}
    for hit, of in ((41, 45), (1, 1), (9, 45)):
        said = friction(topic_id=6, workflows=hit, of=of, people=5, said=spoken(calm, 6, 5))
        impact[hit, of] = by_topic(drafts(calm, steady=9, friction=[said]))["topic:6"].impact
    alone = by_topic(drafts(calm, steady=9))["topic:6"].impact
    assert alone == pytest.approx(math.sqrt(6 / 48))
    assert impact[41, 45] == pytest.approx(math.sqrt(0.7927), abs=1e-3)
    assert impact[1, 1] == pytest.approx(math.sqrt(0.2065), abs=1e-3)
    assert impact[9, 45] == alone  # people are the larger share, workflows are 0.109 at least


def test_what_more_of_the_workflows_run_into_is_told_first(calm):
    many = [grew(), *(friction(key=f"s{n}", workflows=3, of=3) for n in range(3))]
    made = drafts(calm, friction=many)
    assert [s.subject for s in made if s.subject[:4] in ("skip", "phas")] == ["skip:s0", "skip:s1", "skip:s2"]
    many[3] = friction(key="s2", workflows=3, of=3, people=1, said=spoken(calm, 6, 1))
    told = [s.subject for s in drafts(calm, steady=1, friction=many) if s.subject.startswith("skip:")]
    assert told == ["skip:s2"]  # of equals, what somebody speaks of


def mild(frame: pl.DataFrame, topic: int) -> pl.DataFrame:
    """The same, but what is said of the topic is no more than a mild complaint."""
    low = pl.when(pl.col("topic_id") == topic).then(0.13).otherwise("severity_score")
    return frame.with_columns(severity_score=low)


@pytest.mark.parametrize("telling", [True, False])
@pytest.mark.parametrize(("said", "silent", "above"), [(8, 8, True), (9, 8, True), (8, 9, False)])
def test_a_mild_complaint_says_more_than_none_of_what_no_more_workflows_run_into(calm, said, silent, above, telling):
    calm = mild(calm, 7)
    long = {"by_week": (*[9] * 8, silent), "of_by_week": (10,) * 9}  # seen much longer than what people speak of
    heard = friction(
        key="a", workflows=said, of=45, topic_id=7, people=2, said=spoken(calm, 7), by_week=(0, said), telling=telling
    )
    made = drafts(calm, limit=1, steady=2, friction=[friction(key="b", workflows=silent, of=45, **long), heard])
    subjects = [s.subject for s in made]
    assert "skip:b" in subjects
    if above:
        spoke, nobody = (next(s for s in made if s.subject == subject) for subject in ("topic:7", "skip:b"))
        assert subjects.index("topic:7") < subjects.index("skip:b")
        assert spoke.priority >= nobody.priority
        assert min(spoke.severity - nobody.severity, spoke.frequency - nobody.frequency) >= 0
    else:
        assert "topic:7" not in subjects or subjects.index("skip:b") < subjects.index("topic:7")


def test_what_one_workflow_meets_again_and_again_counts_it_once(calm):
    """An error that 3 workflows met 300 times has the volume of three."""
    met = calm.filter(pl.col("topic_id") == 7).head(1).select(pl.all().repeat_by(300).explode())
    uids = [f"e{n:031x}" for n in range(300)]
    met = met.with_columns(
        uid=pl.Series(uids), type=pl.lit("workflow"), topic_id=pl.lit(None, met["topic_id"].dtype),
        fingerprint=pl.lit("beef"), created_at=calm["created_at"].max(), created_at_us=calm["created_at_us"].max(),
    )  # fmt: skip
    row = friction(kind="error", key="beef", name="E", workflows=3, evidence=tuple(uids))
    made = by_topic(drafts(pl.concat([calm, met.select(calm.columns)]), friction=[row]))["error:beef"]
    assert made.frequency == pytest.approx((1 / 9 + math.log10(3) / 3) / 2)


def test_what_is_not_telling_and_nobody_says_makes_none(calm):
    assert by_topic(drafts(calm, friction=[friction(telling=False)])) == by_topic(drafts(calm))


def test_a_friction_joins_the_suggestion_of_its_topic_and_no_other(calm):
    before = by_topic(drafts(calm, steady=9))
    made = by_topic(drafts(calm, steady=9, friction=[friction(topic_id=6, people=5, said=spoken(calm, 6, 5))]))
    assert {s for s in made if made[s] != before[s]} == {"topic:6"}
    assert "Silent friction: said by 5, hit by 41 of 45 workflows" in made["topic:6"].action
    assert set(made["topic:6"].evidence) == {*before["topic:6"].evidence, *friction().evidence}
    assert (made["topic:6"].people, made["topic:6"].severity) == (5, before["topic:6"].severity)
    assert made["topic:6"].type == "process change"


def test_a_friction_brings_up_a_topic_that_would_not_be_told(calm):
    assert "topic:7" not in by_topic(drafts(calm))
    made = by_topic(drafts(calm, friction=[friction(topic_id=7, people=6, said=spoken(calm, 7, 6))]))
    assert "hit by 41 of 45 workflows" in made["topic:7"].title


def test_an_error_joins_what_is_told_of_the_error(grown):
    errors = friction(kind="error", key="f00d5eed", name="KeyError: 'region'", reason="", workflows=3, topic_id=2)
    made = by_topic(drafts(grown, week=world.WEEK, friction=[errors]))
    assert "hit by 3 of 45 workflows, which met “KeyError: 'region'”." in made["error:f00d5eed"].action
    assert made["error:f00d5eed"].type == "bug fix"
    assert "hit by" not in made["topic:2"].action


def test_frictions_of_one_topic_are_one_suggestion(calm):
    both = [friction(topic_id=6), friction(key="b", name="b", workflows=9, topic_id=6, evidence=("e" * 32,))]
    (made,) = [s for s in drafts(calm, friction=both) if "hit by" in s.action]
    assert made.action.endswith("most often because “no UI”; 9 skipped “b”.")
    assert {"e" * 32, *friction().evidence} <= set(made.evidence)


def test_no_more_than_some_frictions_are_told_and_the_limit_holds_for_the_others(calm):
    many = [friction(key=f"s{n}", workflows=41 - n) for n in range(9)]
    made = drafts(calm, limit=1, friction=many)
    assert len([s for s in made if not s.subject.startswith("skip:")]) == 1
    assert [s.subject for s in made if s.subject.startswith("skip:")] == ["skip:s0", "skip:s1", "skip:s2"]


def test_a_step_that_people_begin_to_speak_of_stays_one_suggestion(calm):
    first = suggest.merge(drafts(calm, week=world.WEEK - dt.timedelta(weeks=1), steady=1, friction=[friction()]), [])
    (old,) = first.filter(pl.col("subject") == "skip:visual_test").to_dicts()
    joined = friction(topic_id=6, people=2, said=spoken(calm, 6))
    merged = suggest.merge(drafts(calm, steady=1, friction=[joined]), first)
    (row,) = merged.filter(pl.col("suggestion_id") == old["suggestion_id"]).to_dicts()
    assert (row["subject"], len(row["history"])) == ("topic:6", 2)
    assert suggest.merge(drafts(calm, steady=1, friction=[joined]), merged).equals(merged)
    silent = suggest.merge(drafts(calm, steady=1, friction=[friction()]), merged)
    assert old["suggestion_id"] in set(silent["suggestion_id"])
