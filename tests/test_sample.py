"""The sample world: the same every time, plainly synthetic, and with the stories its key tells of."""

import csv
import dataclasses
import datetime as dt
import email
import hashlib
import json
import mailbox
import re
import time
from collections import Counter
from pathlib import Path

import narwhals as nw
import polars as pl
import pytest
import yaml
from scipy.stats import poisson

from feedback_lib import plugins, sample, specs
from feedback_lib.analysis import regressions, slo
from feedback_lib.errors import ConfigError
from feedback_lib.records import Item

DOCS = Path(__file__).parents[1] / "docs" / "sample.md"
NEWEST = "2026-11-09"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample")
    sample.generate(path)
    return path


@pytest.fixture(scope="module")
def key(folder):
    return sample.expected(folder)


@pytest.fixture(scope="module")
def stories(key):
    return {story["id"]: story for story in key["stories"]}


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tickets(folder):
    return [json.loads(line) for line in (folder / "support.jsonl").read_text("utf-8").splitlines()]


def mail_id(message):
    return hashlib.sha256(message["Message-ID"].strip("<>").encode()).hexdigest()


def texts(folder):
    """Source -> native id -> title and body, read with the standard library only."""
    issues = pl.read_parquet(folder / "issues.parquet").iter_rows(named=True)
    with (folder / "reviews.csv").open(encoding="utf-8", newline="") as file:
        reviews = list(csv.DictReader(file))
    errors = [json.loads(line) for line in (folder / "errors.jsonl").read_text("utf-8").splitlines()]
    box = mailbox.mbox(folder / "mail.mbox", create=False)
    mails = [(mail_id(m), str(email.header.make_header(email.header.decode_header(m["Subject"]))), m) for m in box]
    found = {
        "support": {str(t["ticket_id"]): f"{t['subject']}\n{t['description']}" for t in tickets(folder)},
        "issues": {str(i["number"]): f"{i['title']}\n{i['body']}" for i in issues},
        "reviews": {r["review_id"]: f"{r['title']}\n{r['text']}" for r in reviews},
        "errors": {e["event_id"]: f"{e['message']}\n{e['stacktrace']}" for e in errors},
        "mail": {i: f"{subject}\n{m.get_payload(decode=True).decode()}" for i, subject, m in mails},
    }
    box.close()
    return found


def by_week(key, folder):
    """Theme -> week -> signals, duplicates left out."""
    copies = {(d["source"], d["native_id"]) for d in key["duplicates"]}
    told = {
        "support": {str(t["ticket_id"]): t["created"] for t in tickets(folder)},
        "issues": {
            str(i["number"]): i["created_at"].isoformat()
            for i in pl.read_parquet(folder / "issues.parquet").iter_rows(named=True)
        },
    }
    with (folder / "reviews.csv").open(encoding="utf-8", newline="") as file:
        told["reviews"] = {r["review_id"]: r["date"] for r in csv.DictReader(file)}
    lines = (folder / "errors.jsonl").read_text("utf-8").splitlines()
    told["errors"] = {e["event_id"]: e["timestamp"] for e in map(json.loads, lines)}
    box = mailbox.mbox(folder / "mail.mbox", create=False)
    told["mail"] = {mail_id(m): email.utils.parsedate_to_datetime(m["Date"]).isoformat() for m in box}
    box.close()
    counts = {}
    for source, items in key["items"].items():
        for native_id, about in items.items():
            if (source, native_id) not in copies:
                day = dt.date.fromisoformat(told[source][native_id][:10])
                week = (day - dt.timedelta(days=day.weekday())).isoformat()
                counts.setdefault(about["theme"], Counter())[week] += 1
    return counts


def weeks_before(week, count):
    return [(dt.date.fromisoformat(week) - dt.timedelta(weeks=n)).isoformat() for n in range(1, count + 1)]


def test_the_same_arguments_write_the_same_bytes(folder, tmp_path):
    sample.generate(tmp_path)
    assert files(tmp_path) == files(folder)


def test_another_seed_tells_the_same_stories_in_other_words(folder, tmp_path):
    for seed in (1, 2, 3):
        told = sample.generate(tmp_path / str(seed), seed=seed)
        assert (tmp_path / str(seed) / "support.jsonl").read_bytes() != (folder / "support.jsonl").read_bytes()
        stories = {story["id"]: story for story in told["stories"]}
        search = stories["search-slow-4-2"]["people"]
        assert search[NEWEST] > 3 * sum(search.get(w, 0) for w in weeks_before(NEWEST, 8)) / 8
        assert set(stories["sso-logout-loop"]["people"]) == {NEWEST}


def test_the_world_is_made_in_three_seconds(tmp_path):
    start = time.process_time()
    sample.generate(tmp_path)
    assert time.process_time() - start < 3


def test_twenty_six_weeks_hold_about_two_thousand_signals(key):
    assert 1_800 <= sum(key["counts"].values()) <= 2_400
    assert set(key["counts"]) == {"support", "issues", "reviews", "mail", "errors"}


def test_at_least_five_hundred_sentences_were_written_by_hand():
    written = {
        s for theme in sample.themes() for s in (*theme.says, *theme.more, *(text for _, _, text in theme.other))
    }
    assert len(written) >= 900
    assert all(len(theme.says) >= 5 for theme in sample.themes() if theme.channels != {"errors": 1})


def test_a_shorter_world_is_the_end_of_the_longer_one(folder, tmp_path):
    sample.generate(tmp_path, weeks=4)
    short, full = texts(tmp_path)["support"], texts(folder)["support"]
    assert 80 < len(short) < 200
    assert short.items() <= full.items()


def test_a_day_within_a_week_is_taken_back_to_its_monday(tmp_path):
    a = sample.generate(tmp_path / "a", until=dt.date(2026, 11, 19), weeks=2)
    b = sample.generate(tmp_path / "b", weeks=2)
    assert a == b


def test_no_week_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        sample.generate(tmp_path, weeks=0)


def test_making_it_again_replaces_its_own_files_and_no_others(tmp_path):
    (tmp_path / ".spec/reports/post-mortems").mkdir(parents=True)
    own = tmp_path / ".spec/reports/post-mortems/2026-01-01-own.md"
    own.write_text("mine")
    sample.generate(tmp_path, weeks=26)
    sample.generate(tmp_path, weeks=2)
    assert own.read_text() == "mine"
    reports = list((tmp_path / ".spec/reports/production-monitoring").iterdir())
    assert len(reports) == 2 * len(sample.SPECS)


def test_a_folder_without_a_key_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="feedback sample"):
        sample.expected(tmp_path)


def test_everything_says_that_it_is_synthetic(folder, key):
    assert key["synthetic"] is True
    assert "invented" in (folder / "SYNTHETIC.md").read_text()
    assert all(b"X-Synthetic: yes" in part for part in (folder / "mail.mbox").read_bytes().split(b"\nFrom ")[:-1])
    for path in (folder / ".spec/reports/post-mortems").iterdir():
        assert "ynthetic example" in path.read_text()
    for path in (folder / ".spec/reports/production-monitoring").iterdir():
        assert json.loads(path.read_text())["synthetic"] is True


def test_every_address_belongs_to_a_name_reserved_for_examples(folder):
    everything = "\n".join(text for source in texts(folder).values() for text in source.values())
    hosts = set(re.findall(r"[\w.+-]+@((?:[\w-]+\.)+[a-z]+)", everything + (folder / "support.jsonl").read_text()))
    hosts |= set(re.findall(r"https?://(?:[^/@\s]+@)?([\w.-]+)", everything))
    assert hosts
    assert all(re.search(r"(^|\.)example(\.(com|org|net))?$", host) for host in hosts), hosts


def test_slow_search_is_reported_by_three_sources_in_the_newest_week_only(stories):
    story = stories["search-slow-4-2"]
    before = [story["people"].get(week, 0) for week in weeks_before(NEWEST, 8)]
    assert 12 <= story["people"][NEWEST] <= 20
    assert sum(before) / 8 < 3.5
    assert set(story["native_ids"]) == {"support", "issues", "mail"}


def test_the_webhook_page_is_asked_about_more_every_week(stories):
    people = stories["webhook-docs"]["people"]
    last_three = [people[week] for week in ("2026-10-26", "2026-11-02", NEWEST)]
    assert last_three == sorted(last_three)
    assert last_three[-1] >= 8 > 2 >= max(people.get(week, 0) for week in weeks_before("2026-10-26", 8))


def test_instant_rollback_is_praised_steadily_since_its_release(stories):
    people = stories["instant-rollback"]["people"]
    assert min(people) == "2026-08-17"
    assert len(people) >= 12
    assert 3 <= people[NEWEST] <= 8


def test_the_traceback_comes_back_with_other_ids_paths_and_lines(folder, stories):
    story = stories["upload-keyerror"]
    weeks = [NEWEST, *weeks_before(NEWEST, 8)]
    assert sum(story["people"].get(week, 0) > 0 for week in weeks) >= 6
    errors = texts(folder)["errors"]
    traces = [errors[i] for i in story["native_ids"]["errors"]]
    assert len(set(traces)) == len(traces)
    assert {t.splitlines()[0] for t in traces} == {"KeyError: 'artifact_id'"}
    paths = [re.findall(r'File "(.+?)/beacon_worker', t) for t in traces]
    assert all(len(set(p)) == 1 for p in paths)
    assert len({p[0] for p in paths}) > len(traces) / 2


def test_the_okta_loop_is_brand_new(folder, key, stories):
    assert set(stories["sso-logout-loop"]["people"]) == {NEWEST}
    assert 5 <= stories["sso-logout-loop"]["people"][NEWEST] <= 12
    others = (
        text
        for source, items in texts(folder).items()
        for native_id, text in items.items()
        if key["items"][source][native_id]["theme"] != "sso-logout-loop"
    )
    assert not any("okta" in text.lower() for text in others)


def test_invoice_complaints_end_in_august(stories):
    people = stories["invoice-pdf"]["people"]
    assert sum(people.get(week, 0) for week in ("2026-07-27", "2026-08-03")) >= 18
    assert sum(people.get(week, 0) for week in stories["invoice-pdf"]["seen_in"]) <= 2


def test_no_background_theme_moves_by_chance_in_the_weeks_the_tests_look_at(folder, key, stories):
    planted = {theme for story in sample.STORIES for theme in story.themes}
    counts = {theme: found for theme, found in by_week(key, folder).items() if theme not in planted}
    assert key["quiet_weeks"] == ["2026-10-12", "2026-10-19"]
    for week in (NEWEST, *key["quiet_weeks"]):
        for theme, found in counts.items():
            usual = max(sum(found[w] for w in weeks_before(week, 8)) / 8, 0.5)
            odds = min(poisson.sf(found[week] - 1, usual), poisson.cdf(found[week], usual))
            assert odds > 0.05 / len(counts), (week, theme, found[week], usual)


def test_a_story_names_only_signals_that_exist_and_use_its_words(folder, key, stories):
    written = texts(folder)
    for story in stories.values():
        for source, native_ids in story["native_ids"].items():
            english = [i for i in native_ids if key["items"][source][i]["language"] == "en"]
            about = [any(w in written[source][i].lower() for w in story["words"]) for i in english]
            assert sum(about) >= 0.9 * len(about), story["id"]


def test_the_key_knows_every_signal(folder, key):
    assert {s: set(items) for s, items in key["items"].items()} == {s: set(t) for s, t in texts(folder).items()}


def test_planted_secrets_stand_where_the_key_says(folder, key):
    written = texts(folder)
    assert {s["kind"] for s in key["planted_secrets"]} == {"email", "phone", "ip", "token", "path", "url"}
    for secret in key["planted_secrets"]:
        assert secret["value"] in written[secret["source"]][secret["native_id"]]


def test_duplicates_repeat_the_words_of_the_first(folder, key):
    written = texts(folder)
    assert len(key["duplicates"]) >= 20
    for copy in key["duplicates"]:
        first = written[copy["of_source"]][copy["of"]].splitlines()[1]
        assert first in written[copy["source"]][copy["native_id"]]


def test_about_one_signal_in_twelve_is_in_another_language(key):
    languages = Counter(about["language"] for items in key["items"].values() for about in items.values())
    assert set(languages) == {"en", "de", "fr", "es", "it", "nl", "pt"}
    assert 0.05 < 1 - languages["en"] / languages.total() < 0.12


def test_most_people_speak_once_and_a_few_often(folder):
    spoken = Counter(Counter(t["requester"] for t in tickets(folder)).values())
    assert spoken[1] > sum(n for times, n in spoken.items() if times > 1)
    assert max(spoken) >= 8


def test_tickets_are_answered_within_two_days_as_a_rule(folder):
    answered = [
        t["first_reply_at"] is not None
        and dt.datetime.fromisoformat(t["first_reply_at"]) - dt.datetime.fromisoformat(t["created"])
        <= dt.timedelta(hours=48)
        for t in tickets(folder)
        if t["created"] < "2026-11-14"
    ]
    assert 0.9 < sum(answered) / len(answered) < 0.96


def test_nothing_happens_after_the_end(folder):
    times = [t[k] for t in tickets(folder) for k in ("created", "updated", "first_reply_at", "solved_at") if t[k]]
    assert max(times) < "2026-11-16"
    issues = pl.read_parquet(folder / "issues.parquet")
    assert issues["updated_at"].max() < dt.datetime(2026, 11, 16, tzinfo=dt.UTC)


def test_only_the_retrieval_api_of_the_newest_week_is_unhealthy(folder):
    unhealthy = [
        report["run_id"]
        for path in (folder / ".spec/reports/production-monitoring").iterdir()
        if (report := json.loads(path.read_text()))["status"] != "healthy"
    ]
    assert unhealthy == ["spec-core-001-2026-11-15"]


# --- measurements ------------------------------------------------------------------------------------------------

LATENCY = {  # spec -> column and its milliseconds
    "spec-core-001": ("search_latency_p99", 1_000),
    "spec-reg-002": ("api_latency_p99", 1),
    "spec-ci-003": ("start_latency_p99", 1_000),
}
FAILED = {
    "spec-core-001": ("errors", "requests"),
    "spec-reg-002": ("errors", "requests"),
    "spec-ci-003": ("failed", "jobs"),
}


def metrics(folder, spec_id, start=None, end=None):
    """The rows that end within (start, end]; times are ISO text, which sorts as time does."""
    frame = pl.read_csv(folder / "specs" / spec_id / "metrics.csv")
    return frame.filter(pl.col("at") > (start or ""), pl.col("at") <= (end or "9"))


def share(frame, spec_id):
    failed, of = FAILED[spec_id]
    return frame[failed].sum() / frame[of].sum()


@pytest.fixture(scope="module")
def incidents(key):
    return {incident["id"]: incident for incident in key["monitor"]["incidents"]}


def test_every_spec_has_its_measurements_in_five_minute_steps(folder, key):
    monitor = key["monitor"]
    for spec_id, metric in LATENCY.items():
        at = metrics(folder, spec_id)["at"].str.to_datetime(time_zone="UTC")
        steps = at.diff().drop_nulls().dt.total_seconds()
        assert set(metrics(folder, spec_id).columns) >= {"at", metric[0], *FAILED[spec_id]}
        assert (steps % monitor["slice_s"] == 0).all()
        assert (steps == monitor["slice_s"]).mean() > 0.995
        assert at.max() == dt.datetime.fromisoformat(monitor["until"])
        assert at.min() == dt.datetime.fromisoformat(monitor["since"]) + dt.timedelta(minutes=5)
        assert at.len() > 0.98 * 8 * 7 * 288


def test_every_spec_knows_the_deploys_of_all_releases(folder):
    for spec_id in LATENCY:
        deploys = pl.read_csv(folder / "specs" / spec_id / "deploys.csv")
        assert deploys["version"].to_list() == [version for _, _, version in sample.RELEASES]
        assert deploys.filter(pl.col("version") == "4.2.0")["at"].item() == "2026-11-10T14:00:00Z"


def test_the_measurements_of_a_week_are_what_its_report_says(folder):
    for path in sorted((folder / ".spec/reports/production-monitoring").iterdir())[-78:]:
        report = json.loads(path.read_text())
        day = dt.date.fromisoformat(path.stem[-10:])
        monday, end = (day + dt.timedelta(days=d) for d in (-6, 1))
        week = metrics(folder, report["spec_id"], f"{monday}T00:00:00Z", f"{end}T00:00:00Z")
        if week.is_empty():
            assert day < dt.date(2026, 9, 21)
            continue
        column, ms = LATENCY[report["spec_id"]]
        p99, failed = (metric["value"] for metric in report["metrics"])
        assert week[column].median() * ms == pytest.approx(p99, rel=0.01)
        assert share(week, report["spec_id"]) == pytest.approx(failed, rel=0.05)


@pytest.mark.parametrize(
    ("incident", "metric", "rise"),
    [("search-slow-4-2", "search_latency_p99", 4.0), ("document-slower-4-2", "document_latency_p99", 1.2)],
)
def test_the_p99_rises_after_the_deploy_by_what_the_key_says(folder, incidents, incident, metric, rise):
    told = incidents[incident]
    assert told["start"] == "2026-11-10T15:00:00Z"  # 4.2.0 went out at 14:00
    assert told["size"][metric] == pytest.approx(rise, rel=0.01)
    after = metrics(folder, "spec-core-001", told["start"])
    week_before = metrics(folder, "spec-core-001", "2026-11-03T15:00:00Z", "2026-11-09T00:00:00Z")
    assert after[metric].median() / week_before[metric].median() == pytest.approx(told["size"][metric], rel=0.04)


def test_slow_search_is_over_its_limit_from_the_step_on_and_reading_a_document_never(folder, incidents):
    start = incidents["search-slow-4-2"]["start"]
    before, after = metrics(folder, "spec-core-001", None, start), metrics(folder, "spec-core-001", start)
    assert (before["search_latency_p99"].drop_nulls() >= 0.3).mean() < 0.003
    assert after["search_latency_p99"].min() > 0.6
    assert (after["document_latency_p99"] >= 0.2).mean() < 0.003


def test_searches_fail_as_often_as_the_key_says(folder, incidents):
    told = incidents["search-slow-4-2"]
    after = share(metrics(folder, "spec-core-001", told["start"]), "spec-core-001")
    before = share(metrics(folder, "spec-core-001", "2026-11-03T15:00:00Z", told["start"]), "spec-core-001")
    assert after == pytest.approx(0.0166, abs=0.001)
    assert after / before == pytest.approx(told["size"]["api_error_rate"], rel=0.01)


def test_for_an_hour_nothing_is_published_and_the_budget_burns_fast(folder, incidents):
    told = incidents["publish-outage"]
    assert (told["start"], told["end"]) == ("2026-11-12T02:10:00Z", "2026-11-12T03:10:00Z")
    outage = metrics(folder, "spec-reg-002", told["start"], told["end"])
    assert outage["probes"].sum() == 120
    assert outage["probes_ok"].sum() == 0
    burn = share(outage, "spec-reg-002") / 0.001
    assert burn == pytest.approx(told["size"]["api_error_rate"] / 0.001, rel=0.01)
    assert burn > 3 * 14.4
    day_after = metrics(folder, "spec-reg-002", told["end"], "2026-11-13T03:10:00Z")
    assert day_after["probes_ok"].sum() == day_after["probes"].sum() == 2_880


def test_the_runner_pool_is_empty_when_its_post_mortem_says_so(folder, incidents):
    told = incidents["runner-pool"]
    text = (folder / ".spec/reports/post-mortems/2026-09-22-runner-pool.md").read_text()
    assert f"{told['start'][:10]}, {told['start'][11:16]} to {told['end'][11:16]} UTC" in text
    week = metrics(folder, "spec-ci-003", None, "2026-09-23T12:00:00Z")
    slow = week.filter(pl.col("start_latency_p99") > 120)["at"]
    assert (slow.min(), slow.max(), slow.len()) == ("2026-09-22T13:10:00Z", told["end"], 9)


def test_half_a_day_of_runner_starts_was_never_measured(folder, incidents):
    told = incidents["half-day-unmeasured"]
    hours = dt.datetime.fromisoformat(told["end"]) - dt.datetime.fromisoformat(told["start"])
    assert hours == dt.timedelta(hours=12)
    assert metrics(folder, "spec-ci-003", told["start"], told["end"]).is_empty()
    assert metrics(folder, "spec-core-001", told["start"], told["end"]).height > 140


def test_runners_start_too_slowly_every_four_hours_and_burn_the_budget_slowly(folder, incidents):
    told = incidents["slow-start-every-4h"]
    after = metrics(folder, "spec-ci-003", told["start"])
    slow = after.filter(pl.col("start_latency_p99") > 60)["at"].str.to_datetime(time_zone="UTC")
    assert slow.len() / after.height == pytest.approx(told["size"]["start_latency_p99"], abs=0.0001)
    assert set(slow.diff().drop_nulls()) == {dt.timedelta(hours=4)}


def test_a_shorter_world_measures_its_own_weeks_and_tells_of_their_incidents(tmp_path):
    told = sample.generate(tmp_path, weeks=2)["monitor"]
    assert told["since"] == "2026-11-02T00:00:00Z"
    assert told["expected"] == {}
    assert {i["id"] for i in told["incidents"]} == {i.incident_id for i in sample.INCIDENTS if i.ago < 2}
    for spec_id in LATENCY:
        assert metrics(tmp_path, spec_id)["at"].min() == "2026-11-02T00:05:00Z"


def test_another_seed_measures_other_noise_and_the_same_incidents(key, folder, tmp_path):
    told = sample.generate(tmp_path, seed=5)["monitor"]
    assert [(i["id"], i["start"]) for i in told["incidents"]] == [
        (i["id"], i["start"]) for i in key["monitor"]["incidents"]
    ]
    start = "2026-11-10T15:00:00Z"
    here, there = (metrics(path, "spec-core-001", start)["search_latency_p99"] for path in (folder, tmp_path))
    assert (here != there).mean() > 0.99
    assert there.min() > 0.6


@pytest.fixture(scope="module")
def plans(folder):
    return {spec_id: specs.load(spec_id, root=folder) for spec_id in LATENCY}


@pytest.fixture(scope="module")
def measured(plans, key):
    """(spec, metric) -> its SLO and what `analysis.slo` makes of the eight weeks."""
    since, until = (dt.datetime.fromisoformat(key["monitor"][name]) for name in ("since", "until"))
    found = {}
    for spec_id, plan in plans.items():
        for watched in plan.watched:
            backend = plugins.build("metrics", watched.backend)
            queries = {"value": watched.query, "good": watched.good, "bad": watched.bad, "valid": watched.total}
            frame = pl.DataFrame(schema={"at": pl.Datetime("us", "UTC")})
            for name, query in queries.items():
                if query is not None:
                    answer = backend.between(query, since + dt.timedelta(minutes=5), until, watched.slo.slice_s)
                    assert answer.partial is None
                    part = answer.frame.select("at", pl.col("value").alias(name))
                    frame = frame.join(part, on="at", how="full", coalesce=True)
            values = nw.from_native(frame.select(pl.col("at").dt.epoch("us").alias("at_us"), pl.exclude("at")).lazy())
            found[spec_id, watched.slo.sli] = watched.slo, slo.measure(values, watched.slo)
    return found


def test_each_spec_promises_the_limit_of_its_weekly_reports(plans):
    for spec_id, service, limit_ms in sample.SPECS:
        plan = plans[spec_id]
        first = next(watched for watched in plan.watched if watched.slo.category == "latency")
        assert plan.service == service
        assert plan.deploys.name == "deploys.csv"
        assert first.slo.sli == LATENCY[spec_id][0]
        assert first.slo.threshold * LATENCY[spec_id][1] == pytest.approx(limit_ms)
        assert {w.slo.target for w in plan.watched if w.slo.category == "error_rate"} == {"99.9%"}
        assert {w.slo.slice_s for w in plan.watched} == {300}
        assert {w.slo.category for w in plan.watched} == {"latency", "error_rate", "availability"}


def test_each_spec_has_a_promise_nobody_measures_and_a_line_that_cannot_be_read(plans, key):
    for spec_id, line in key["monitor"]["unreadable"].items():
        plan = plans[spec_id]
        assert plan.unmeasured
        assert any(line in skipped.text for skipped in plan.skipped), [s.text for s in plan.skipped]
        assert not any(
            re.search("TLS|WCAG|RTO|RPO", t.text) for t in (*plan.unmeasured, *(w.target for w in plan.watched))
        )


def test_at_the_end_every_slo_is_where_the_key_says(measured, key):
    until = dt.datetime.fromisoformat(key["monitor"]["until"])
    promised = [one for one, _ in measured.values()]
    everything = nw.concat([frame for _, frame in measured.values()])
    states = nw.to_native(slo.evaluate(everything, promised, until)).collect()
    firing = nw.to_native(slo.burns(everything, promised, until)).collect().filter(decision="firing")
    names = {plan_service: spec_id for spec_id, plan_service, _ in sample.SPECS}
    worst = {(r["service"], r["sli"]): r["severity"] for r in firing.sort("severity", descending=True).to_dicts()}
    found = {
        (names[r["service"]], r["sli"]): (r["state"], worst.get((r["service"], r["sli"]))) for r in states.to_dicts()
    }
    assert found == {
        (spec_id, metric): (told["state"], told["alert"])
        for spec_id, by_metric in key["monitor"]["expected"].items()
        for metric, told in by_metric.items()
    }


def test_in_eight_weeks_nothing_pages_but_what_was_planted(measured, key):
    since, until = (dt.datetime.fromisoformat(key["monitor"][name]) for name in ("since", "until"))
    paged = {}
    for (spec_id, metric), (promised, frame) in measured.items():
        only_pages = dataclasses.replace(promised, policy=tuple(a for a in promised.alerts if a.severity == "page"))
        lines = nw.to_native(slo.timeline(frame, only_pages, since, until)).collect().filter(decision="firing")
        if lines.height:
            first, last = (
                dt.datetime.fromtimestamp(us / 1e6, dt.UTC) for us in (lines["at_us"].min(), lines["at_us"].max())
            )
            paged[spec_id, metric] = (first, last)
    incidents = [i for i in key["monitor"]["incidents"] if i["finding"] in ("step", "outage")]
    planted = {
        (i["spec_id"], metric): (
            dt.datetime.fromisoformat(i["start"]),
            dt.datetime.fromisoformat(i["end"] or "2026-11-16T00:00Z"),
        )
        for i in incidents
        for metric in i["metrics"]
        if metric != "document_latency_p99"  # slower, and inside its limit
    }
    assert paged.keys() == planted.keys()
    for which, (first, last) in paged.items():
        start, end = planted[which]
        assert dt.timedelta() < first - start <= dt.timedelta(minutes=30)
        assert dt.timedelta() <= last - end <= dt.timedelta(minutes=30)


def test_the_regression_finder_finds_both_steps_and_nothing_else(folder, key):
    as_of = dt.datetime.fromisoformat(key["monitor"]["until"])
    found = {}
    columns = [*LATENCY.items(), ("spec-core-001", ("document_latency_p99", 1_000))]
    for spec_id, (metric, _) in columns:
        frame = metrics(folder, spec_id).select(pl.col("at").str.to_datetime(time_zone="UTC"), value=metric)
        found[metric] = regressions.find(nw.from_native(frame.lazy()), as_of=as_of).regression
    steps = [metric for metric, regression in found.items() if regression]
    assert sorted(steps) == ["document_latency_p99", "search_latency_p99"]
    assert all(found[metric].start == dt.date(2026, 11, 10) for metric in steps)
    assert found["document_latency_p99"].estimate == pytest.approx(0.2, abs=0.03)


def test_the_page_names_every_metric_and_incident(key):
    text = DOCS.read_text("utf-8")
    for spec_id, by_metric in key["monitor"]["expected"].items():
        assert spec_id in text
        assert all(f"`{metric}`" in text for metric in by_metric)
    assert all(f"| `{incident['id']}` |" in text for incident in key["monitor"]["incidents"])


def test_the_documented_sources_read_every_signal(folder, key):
    block = re.search(r"```yaml\n(sources:.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert yaml.safe_load(block[1])["sources"] == sample.sources(Path("data/sample"))
    for entry in sample.sources(folder):
        source = plugins.build("sources", entry)
        found = list(source.fetch(None, dt.datetime(2026, 11, 16, tzinfo=dt.UTC)))
        assert all(isinstance(item, Item) for item in found), found[:1]
        signals = [source.parse(item.payload) for item in found]
        if source.origin in key["items"]:
            assert {s.native_id for s in signals} == set(key["items"][source.origin])
            assert all(s.author for s in signals)
        else:
            told = {"production-monitoring": 2, "post-mortems": 11, "retrospectives": 3, "workflows": 197}
            assert len(signals) == told[source.origin]
