"""Post-mortems: eight real ones read by hand, three of our own, and the traps they set."""

import datetime as dt
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_lib import plugins
from feedback_lib.records import Item, Rejected
from feedback_lib.sources.post_mortems import Action, parse_post_mortem

DATA = Path(__file__).parents[1] / "data" / "post_mortems" / "reports" / "2026"
END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
MINUTE, HOUR = 60, 3600

# Read by hand: title, day, duration, words of impact, root cause and resolution (None: the text has none),
# action items, how many of them are done.
REAL = {
    "2i2c__2025-07-11-cloudbank-healthcheck.md": (
        *("Incident report July 11 2025 - CloudBank health check fail plus GroupExporter pod restarts", "2025-07-11"),
        220 * MINUTE,  # timeline: declared 12:42 PM, resolved 4:22 PM; three days later only the pager is tidied
        *("failed health check", None, "disabling Jupyterhub configurator", 2, 0),
    ),
    "2i2c__2025-08-12-leap-outage.md": (
        *("Incident report August 12 2025 - LEAP hub outage", "2025-08-12", HOUR),  # "inaccessible for ~1hr"
        *("hub rendered entirely inaccessible", "bug in our NFS deployment process", "user-pod was deleted", 5, 2),
    ),
    "k8stestinfra__2019-03-26.md": (
        *("March 26th, 2019 Boskos Outage", "2019-03-26", 9 * HOUR),  # the impact speaks of February by mistake
        *("All jobs depending on boskos failed", "bug was introduced", "a new image was built", 3, 0),
    ),
    "moj__2022-11-15-prometheus-ekslive-down.md": (
        *("Incident on 2022-11-15 - Prometheus eks-live DOWN", "2022-11-15", 27 * MINUTE),
        *("Prometheus was unavailable for 27 minutes", None, "The pod was killed by us", 5, 0),
    ),
    "moj__2023-09-18-lack-of-diskspace.md": (
        *("Incident on 2023-09-18 - Lack of Disk space on nodes", "2023-09-18"),
        35 * HOUR + 36 * MINUTE,  # time to resolve; the time to repair, 4h 12m, is kept beside it
        *("Several nodes are experiencing", None, "disk space was reduced from 100Gb to 20Gb", 7, 0),
    ),
    "mybinder__2018-02-22-nginx-down.md": (
        *("2018-02-22 NGINX crash", "2018-02-22", 5 * MINUTE),  # timeline: 16:30 to 16:35
        *("services were down", None, None, 2, 1),
    ),
    "mybinder__2019-04-03-ingress-cordoned.md": (
        *("2019-04-03, 30min outage during node pool upgrade", "2019-04-03"),
        40 * MINUTE,  # the summary; the title says 30, the timeline 39
        *("40min of total outage", None, None, 2, 0),
    ),
    "mybinder__2022-06-02-pod-limit.md": (
        *("2022-01-27, pod limit reached", "2022-06-02"),  # the heading was left over from an older one
        9 * HOUR,
        *("preventing the `prod` hub", "bug in the GKE resource quota", None, 1, 0),
    ),
}


def says(text, words):
    return text is None if words is None else words in " ".join((text or "").split())


@pytest.mark.parametrize("name", REAL)
def test_a_real_post_mortem_is_read_as_a_person_reads_it(reference, name):
    title, day, duration, impact, cause, resolution, actions, done = REAL[name]
    read = parse_post_mortem((reference / "postmortems" / name).read_text("utf-8"), name)
    assert (read.title, str(read.date), read.duration_s) == (title, day, duration)
    assert says(read.impact, impact)
    assert says(read.root_cause, cause)
    assert says(read.resolution, resolution)
    assert (len(read.actions), sum(a.done for a in read.actions)) == (actions, done)


def test_every_real_post_mortem_is_in_the_table(reference):
    assert {p.name for p in (reference / "postmortems").glob("*.md")} == set(REAL)


def test_time_to_repair_and_time_to_resolve_are_kept_apart(reference):
    name = "moj__2023-09-18-lack-of-diskspace.md"
    read = parse_post_mortem((reference / "postmortems" / name).read_text("utf-8"), name)
    assert (read.repair_s, read.duration_s) == (4 * HOUR + 12 * MINUTE, 35 * HOUR + 36 * MINUTE)


def test_a_template_with_tables_is_read():
    read = parse_post_mortem((DATA / "2026-03-04-search-outage.md").read_text("utf-8"), "x.md")
    assert (read.title, read.date, read.severity) == ("Search outage (incident 118)", dt.date(2026, 3, 4), "high")
    assert read.duration_s == 85 * MINUTE
    assert says(read.root_cause, "took its analyser from the staging configuration")
    assert says(read.resolution, "switched the alias back")
    assert read.actions == (
        Action("Compare document counts before the alias is switched", True),
        Action("Read the analyser from the deployed configuration", False),
        Action("Alert on the share of empty result pages", False),
    )


def test_a_template_with_front_matter_bold_keys_and_underlined_headings_is_read():
    read = parse_post_mortem((DATA / "queue-backlog.md").read_text("utf-8"), "x.md")
    assert (read.title, read.date, read.severity) == ("Build queue backlog", dt.date(2026, 3, 17), "low")
    assert read.duration_s == 145 * MINUTE  # from start and end
    assert read.impact == "212 builds started late. No build was lost."
    assert read.resolution == "Workers were restarted by hand, in groups of ten."
    assert read.root_cause == "The lease of a worker was renewed by a cron job that the image update had removed."
    assert [(a.text[:18], a.done) for a in read.actions] == [
        ("Renew the lease in", True),
        ("Refuse an image wi", False),
        ("Alert when fewer t", False),
    ]


def test_a_heading_left_over_from_an_older_post_mortem_loses_to_file_name_and_timeline():
    text = (DATA / "certificate-2026-04-02.md").read_text("utf-8")
    assert parse_post_mortem(text, "certificate-2026-04-02.md").date == dt.date(2026, 4, 2)
    assert parse_post_mortem(text, "certificate.md").date == dt.date(2026, 4, 2)
    read = parse_post_mortem(text, "certificate.md")
    assert read.duration_s == 41 * MINUTE
    assert [a.done for a in read.actions] == [True, True, False]
    assert read.actions[2].text == "Renew certificates automatically and alert two weeks before one expires"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(
            ("27m", 27 * MINUTE),
            ("4h 12m", 252 * MINUTE),
            ("1h30m", 90 * MINUTE),
            ("~1hr", HOUR),
            ("nine hours", 9 * HOUR),
        ),
        *(("1 hour and 25 minutes", 85 * MINUTE), ("2.5 hours", 150 * MINUTE), ("an hour and a half", 90 * MINUTE)),
        *(("half an hour", 30 * MINUTE), ("1 day, 2 hours", 26 * HOUR), ("02:15", 135 * MINUTE), ("90 seconds", 90)),
        *(("10:00 - 12:30 UTC", 150 * MINUTE), ("11 PM to 1 AM", None), ("23:30 to 00:10", 40 * MINUTE)),
        *(("2026-03-01 10:00 – 10:20 (20 min)", 20 * MINUTE), ("TBD", None), ("a few hours", None)),
    ],
)
def test_a_stated_duration_is_understood(written, expected):
    read = parse_post_mortem(f"# Outage\n\n**Duration:** {written}\n", "2026-03-01.md")
    assert read.duration_s == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The API was unavailable for just over nine hours.", 9 * HOUR),
        ("The incident lasted 2 hours and 14 minutes.", 134 * MINUTE),
        ("This caused a 45-minute outage.", 45 * MINUTE),
        ("We saw 40min of total outage.", 40 * MINUTE),
        ("From 6:26 PM to 7:58 PM PT, requests failed.", 92 * MINUTE),
        ("The cache expires every 5 minutes and each update takes ten minutes.", None),
        ("It took 30 minutes until somebody looked, with a timeout of 30 seconds.", None),
        ("The price went down for 5m users.", None),
    ],
)
def test_only_a_sentence_about_the_outage_states_its_duration(sentence, expected):
    assert parse_post_mortem(f"# Outage\n\n## Summary\n\n{sentence}\n", "2026-03-01.md").duration_s == expected


@pytest.mark.parametrize(
    ("timeline", "expected"),
    [
        ("- 23:50 outage starts\n- 00:20 outage ends", 30 * MINUTE),
        ("| 10:00 | Error rate rises |\n| 10:40 | Incident resolved |", 40 * MINUTE),
        ("| Time | Event |\n| --- | --- |\n| 10:00 | Errors |\n| 10:40 | Incident resolved |", 40 * MINUTE),
        ("- 2026-03-01 10:00 first alert\n- 2026-03-02 11:00 all services restored, back to normal", 25 * HOUR),
        ("### 9:55 AM\nIncident declared\n### 1:05 PM\nIncident resolved", 190 * MINUTE),
        ("- 10:00 rollback\n- 10:30 still not resolved", None),
        ("- 10:00 deploy\n- 10:30 rollback", None),
        ("Nobody wrote it down.", None),
    ],
)
def test_a_timeline_gives_the_duration_only_when_it_names_the_end(timeline, expected):
    assert parse_post_mortem(f"# Outage\n\n## Timeline\n\n{timeline}\n", "2026-03-01.md").duration_s == expected


@pytest.mark.parametrize(
    ("heading", "field"),
    [
        *(
            ("## 3. Root Cause(s)", "root_cause"),
            ("## Contributing Factors", "root_cause"),
            ("**Root cause:**", "root_cause"),
        ),
        *(("## What was the impact?", "impact"), ("### Customer Impact", "impact"), ("Impact\n------", "impact")),
        *(
            ("## Resolution and recovery", "resolution"),
            ("## Mitigation", "resolution"),
            ("## How we fixed it", "resolution"),
        ),
        *(("## TL;DR", "summary"), ("## Executive summary", "summary"), ("**What happened**", "summary")),
    ],
)
def test_headings_of_other_templates_are_known(heading, field):
    read = parse_post_mortem(f"# Outage of search\n\n{heading}\n\nThe words below.\n\n## Other\n\nMore.\n", "x.md")
    assert getattr(read, field) == "The words below."
    assert read.title == "Outage of search"


@pytest.mark.parametrize(
    "heading",
    [
        "Action items",
        "Corrective and Preventative Measures",
        "Follow-ups",
        "Next steps",
        "Review actions",
        "Remediation items",
        "What will we do to prevent this?",
        "Preventive actions",
        "Improvements",
        "To-dos",
        "Recommendations",
    ],
)
def test_every_usual_heading_of_action_items_is_known(heading):
    read = parse_post_mortem(
        f"# Outage\n\n## {heading}\n\n- [x] one\n* two (DONE)\n1. three\n   goes on\n\nWords.\n", "x.md"
    )
    assert read.actions == (Action("one", True), Action("two", True), Action("three goes on", False))


@pytest.mark.parametrize(
    "heading", ["Follow-up timeline", "What went well", "Actions taken", "Lessons learned", "Detection"]
)
def test_other_lists_are_no_action_items(heading):
    assert parse_post_mortem(f"# Outage\n\n## {heading}\n\n- 10:00 one\n- two\n", "x.md").actions == ()


def test_boxes_count_when_no_heading_names_actions_and_placeholders_never_do():
    read = parse_post_mortem("# Outage\n\nText.\n\n- [ ] alert\n- [x] <action>\n- [ ] TBD\n- plain\n", "x.md")
    assert read.actions == (Action("alert", False),)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(("2026-03-04", (2026, 3, 4)), ("March 4th, 2026", (2026, 3, 4)), ("4 March 2026", (2026, 3, 4))),
        *(("04.03.2026", (2026, 3, 4)), ("13/03/2026", (2026, 3, 13)), ("03/13/2026", (2026, 3, 13))),
        *(("Mar 4, 2026", (2026, 3, 4)), ("03/04/2026", None), ("2026-02-30", None)),
    ],
)
def test_a_day_is_read_in_every_form_that_is_no_guess(written, expected):
    read = parse_post_mortem(f"# Outage\n\nDate: {written}\n", "x.md")
    assert read.date == (expected and dt.date(*expected))


def test_what_stands_in_code_is_no_heading():
    read = parse_post_mortem("# Outage\n\n## Impact\n\n```\n# Root cause\nnot here\n```\n\nTwo users.\n", "x.md")
    assert read.root_cause is None
    assert says(read.impact, "Two users.")


@given(st.text())
def test_any_text_is_a_post_mortem_of_some_kind(text):
    assert isinstance(parse_post_mortem(text, "x.md").title, str)


LINES = st.sampled_from(
    [
        "# a",
        "## Impact",
        "**Root cause**",
        "- **Impact**: x",
        "| Date | 2026-01-01 |",
        "| --- | --- |",
        "- [ ] b",
        "```",
        "---",
        "10:00 outage starts",
        "## Timeline",
        "## Action items",
        "  - c",
        "",
        "words",
        "Date: 9999-99-99",
        "<!--",
        "===",
        "23:59 resolved",
    ]
)


@given(st.lists(LINES, max_size=25).map("\n".join))
def test_any_mixture_of_markdown_is_read_without_a_traceback(text):
    parse_post_mortem(text, "2026-01-01.md")


@pytest.mark.parametrize("line", ["# a\n", "- **Impact**: x\n", "| a | b |\n", "one two ", "from 10:00 ", "- x\n"])
def test_a_huge_file_is_read_in_seconds(line):
    start = time.process_time()
    parse_post_mortem(f"# t\n\n## Timeline\n\n{line * 20_000}\n\n## Summary\n\n{line * 5_000}", "x.md")
    assert time.process_time() - start < 5


def read_folder(folder, since=None, until=END):
    source = plugins.build("sources", {"kind": "post_mortems", "folder": str(folder)})
    found = list(source.fetch(since, until))
    return [source.parse(i.payload) for i in found if isinstance(i, Item)], [
        i for i in found if isinstance(i, Rejected)
    ]


def test_the_incident_and_each_action_are_signals(tmp_path):
    shutil.copy(DATA / "2026-03-04-search-outage.md", tmp_path)
    signals, _ = read_folder(tmp_path)
    assert [(s.type, s.labels, s.state) for s in signals] == [
        ("incident", ("post-mortem",), None),
        ("incident", ("action item",), "done"),
        ("incident", ("action item",), "open"),
        ("incident", ("action item",), "open"),
    ]
    assert signals[0].body.startswith("Impact: Search was down for 1 hour and 25 minutes.")
    assert "\n\nRoot cause: " in signals[0].body
    assert "\n\nResolution: " in signals[0].body
    assert signals[1].title == "Compare document counts before the alias is switched"
    assert {s.created_at for s in signals} == {dt.datetime(2026, 3, 4, tzinfo=dt.UTC)}


def test_a_ticked_box_updates_its_action_and_makes_no_second_one(tmp_path):
    path = tmp_path / "2026-03-01.md"
    path.write_text("# Outage\n\n## Actions\n\n- [ ] Alert on it\n", "utf-8")
    before = read_folder(tmp_path)[0][1]
    path.write_text("# Outage\n\n## Actions\n\n- [x] Alert on it (DONE)\n", "utf-8")
    after = read_folder(tmp_path)[0][1]
    assert (before.uid, before.state, after.state) == (after.uid, "open", "done")


def test_a_post_mortem_written_or_changed_after_the_last_run_is_read_by_the_next(tmp_path):
    path = tmp_path / "2026-03-01.md"
    path.write_text("# Outage\n", "utf-8")
    watermark = dt.datetime(2026, 3, 8, tzinfo=dt.UTC)
    for days, expected in ((3, 1), (-3, 0)):
        at = (watermark + dt.timedelta(days=days)).timestamp()
        os.utime(path, (at, at))
        assert len(read_folder(tmp_path, since=watermark)[0]) == expected


def test_one_without_a_date_is_rejected_with_what_to_do_and_templates_are_passed_over(tmp_path):
    (tmp_path / "outage.md").write_text("# Outage\n", "utf-8")
    (tmp_path / "bad.md").write_bytes(b"# 2026-03-01 \xff")
    for name in ("README.md", "_index.md", "post-mortem-template.md"):
        (tmp_path / name).write_text("# How to\n", "utf-8")
    signals, rejected = read_folder(tmp_path)
    assert signals == []
    assert [(r.where, "date:" in r.reason or "UTF-8" in r.reason) for r in rejected] == [
        ("bad.md", True),
        ("outage.md", True),
    ]
