"""Silent friction: which workflows ran into what, who says the same, and who does not."""

import datetime as dt
import itertools
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feedback_lib import config, encoders, records, sample
from feedback_lib.analysis import friction, patterns, text
from feedback_lib.analysis.patterns import Thresholds

MONDAY = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)
LABELLED = Path(friction.__file__).parents[1] / "data" / "labelled.jsonl"
STAMP = {"run_id": "r", "as_of": MONDAY + dt.timedelta(days=7)}
TRACE = "Traceback (most recent call last):\n  File \"x.py\", line {n}, in f\nKeyError: 'state'"
COLUMNS = records.schema("signals") | {c: t for c, t in records.schema("understanding").items() if c != "created_at"}


def signal(native_id, at=MONDAY, title="", body="", labels=(), origin="log", kind="workflow_log", **fields):
    """One row as `understand.join` gives it: of a workflow, or with ``author`` of a person."""
    row = dict.fromkeys(COLUMNS) | {"type": "workflow", "updated_at": at, "created_at_us": records.micros(at)}
    row |= {"kind": kind, "origin": origin, "native_id": native_id, "uid": records.uid(kind, origin, native_id)}
    row |= {"title": title, "body": body, "labels": list(labels), "created_at": at}
    return row | {"fingerprint": text.fingerprint(f"{title}\n{body}")} | fields


def skip(wf, item, at=MONDAY, reason="", **fields):
    labels = ("skipped", "VERIFY", item)
    return signal(f"{wf}/skip/{item}", at, f"Skipped: {item.replace('_', ' ')}", reason, labels, **fields)


def error(wf, what, at=MONDAY, **fields):
    title = what.splitlines()[-1]
    return signal(
        f"{wf}/error/{abs(hash(what)):x}", at, title, what, ("error", "tool", "EXECUTE", "write_tests"), **fields
    )


def done(wf, at=MONDAY):
    return signal(f"{wf}/workflow", at, "a task", labels=("workflow", "completed"))


def said(words, author, at=MONDAY, **fields):
    known = {"type": "ticket", "kind": "files", "origin": "support", "author": author} | fields
    return signal(f"{author}-{words[:9]}-{at:%d}", at, words, **known)


def find(rows, **options):
    frame = pl.DataFrame(rows, schema=COLUMNS | {"created_at_us": pl.Int64()}, orient="row")
    return friction.find(frame, MONDAY.date(), **STAMP, **options)


def known_by(found):
    return {f.key: f for f in found}


# What workflows ran into


def test_a_step_counts_each_workflow_once():
    rows = [done("a"), done("b"), skip("a", "x"), skip("a", "x", MONDAY + dt.timedelta(hours=1), kind="files")]
    assert [(f.key, f.workflows, f.of) for f in find(rows)] == [("x", 2, 3)]  # another source is another workflow
    rows = [done("a"), done("b"), *[skip("a", "x")] * 3]
    assert [(f.key, f.workflows, f.of) for f in find(rows)] == [("x", 1, 2)]


def test_nothing_comes_of_no_workflow_and_of_other_machines():
    assert find([]) == []
    assert find([said("visual test", "p1")]) == []
    assert find([signal("build-17", title="KeyError: 'a'", type="error"), signal("17", title="deployed")]) == []
    assert find([done("a")]) == []


@pytest.mark.parametrize(
    ("skipped", "of", "telling"), [(8, 10, True), (4, 5, True), (7, 9, False), (2, 2, False), (3, 3, True)]
)
def test_a_skip_is_telling_exactly_from_the_threshold_on(skipped, of, telling):
    rows = [done(f"w{n}") for n in range(of)] + [skip(f"w{n}", "x") for n in range(skipped)]
    assert [f.telling for f in find(rows)] == [telling]


def test_an_error_is_the_same_on_another_line_and_telling_in_two_workflows():
    rows = [error("a", TRACE.format(n=3)), error("b", TRACE.format(n=99)), error("b", "ValueError: other")]
    found = find(rows)
    assert [(f.name, f.workflows, f.telling) for f in found] == [
        ("KeyError: 'state'", 2, True),
        ("ValueError: other", 1, False),
    ]
    assert {f.phase for f in found} == {"EXECUTE"}
    assert not find(rows, options=Thresholds(error_workflows=3))[0].telling


def test_an_error_without_fingerprint_is_known_by_its_line():
    lines = {"a": "step 3 went wrong", "b": "step 12 went wrong", "c": "it hangs"}
    rows = [signal(f"{wf}/error/{wf * 12}", title=line, labels=("error", "tool")) for wf, line in lines.items()]
    assert {(f.name, f.phase, f.workflows) for f in find(rows)} == {
        ("step 3 went wrong", None, 2),
        ("it hangs", None, 1),
    }


def test_two_commands_that_left_with_the_same_code_are_two_errors_as_in_the_review():
    failed = "Verification failed: Command failed (exit code 1, expected 0)\n$ {}"
    rows = [
        error("a", failed.format("pytest")),
        error("b", failed.format("mypy .")),
        error("c", failed.format("mypy .")),
    ]
    rows.append(said("CI says: exit code 1", "p1"))
    found = find(rows)
    assert sorted((f.workflows, f.people, f.telling) for f in found) == [(1, 0, False), (2, 0, True)]
    assert {f.key for f in found} == {patterns.error_key(failed.format(c)) for c in ("pytest", "mypy .")}
    printed = failed + "\nValueError: bad port 80"
    rows = [
        error("a", printed.format("pytest")),
        error("b", printed.format("mypy .")),
        said("ValueError: bad port 9", "p1"),
    ]
    assert [(f.workflows, f.people) for f in find(rows)] == [(2, 1)]


def test_the_weeks_before_are_counted_and_what_lies_outside_is_not():
    at = [
        MONDAY + dt.timedelta(weeks=w, seconds=s) for w, s in ((0, 0), (0, 604799), (1, 0), (-1, 0), (-8, 0), (-9, 0))
    ]
    rows = [skip(f"w{n}", "x", t) for n, t in enumerate(at)] + [done("z", at[3])]
    (found,) = find(rows)
    assert found.by_week == (1, 0, 0, 0, 0, 0, 0, 1, 2)
    assert found.of_by_week == (1, 0, 0, 0, 0, 0, 0, 2, 2)
    assert set(found.evidence) == {r["uid"] for r in rows[:2]}
    assert find([skip("a", "x", at[3])]) == []  # not this week


def test_a_source_that_was_not_read_is_left_out():
    assert find([skip("a", "x")], exclude=[("workflow_log", "log")]) == []


def test_the_commonest_reason_of_the_week_is_told():
    rows = [skip("a", "x", reason="b"), skip("b", "x", reason=" c "), skip("c", "x", reason="c")]
    rows += [skip(f"d{n}", "x", MONDAY - dt.timedelta(weeks=1), "old") for n in range(5)] + [skip("e", "x")]
    assert find(rows)[0].reason == "c"


def test_rows_do_not_depend_on_the_order_of_signals():
    rows = [skip(wf, item, reason=r) for wf, (item, r) in itertools.product("abc", [("x", "1"), ("y", "2")])]
    rows += [error("a", TRACE), error("b", TRACE), said(TRACE, "p")]
    assert find(rows) == find(rows[::-1])
    assert records.frame("friction", find(rows)).height == 3


# Phases that take longer


def took(minutes, phase="PLAN", **fields):
    """A workflow every three days with these minutes; the last on the report week's Wednesday."""
    for n, m in enumerate(minutes):
        at = MONDAY + dt.timedelta(days=2 - 3 * (len(minutes) - 1 - n))
        labels = ("phase", phase, str(int(60 * m)))
        yield signal(f"w{n}/phase/{phase}", at, f"{phase} took {m} min", labels=labels, **fields)


GREW = [14, 15, 16, 13, 17, 15, 30, 33, 32, 29, 35, 32]


def test_a_phase_that_takes_longer_is_a_friction_with_its_numbers():
    (found,) = find(list(took(GREW)))
    assert (found.kind, found.key, found.name, found.phase) == ("phase", "PLAN", "PLAN", "PLAN")
    assert (found.earlier_s, found.later_s) == (900, 1920)
    assert found.ratio == pytest.approx(2.13, abs=0.01)
    assert 1 < found.low < found.ratio < found.high
    assert (found.workflows, found.of, found.people, found.said, found.telling) == (6, 12, 0, (), True)
    assert (sum(found.by_week), sum(found.of_by_week)) == (6, 12)
    assert found.evidence[0] == records.uid("workflow_log", "log", "w11/phase/PLAN")  # the newest first
    assert records.frame("friction", [found]).height == 1


@pytest.mark.parametrize("minutes", [GREW[::-1], [15] * 12, GREW[3:9], [15, 31, 14, 33, 16, 30, 15, 32], [], [3]])
def test_a_phase_that_did_not_get_longer_is_none(minutes):
    """Shorter, equal, too few, up and down."""
    assert find([done("a"), *took(minutes)]) == []


def test_growth_is_told_only_while_workflows_still_close_the_phase():
    before = [r | {"created_at_us": r["created_at_us"] - records.WEEK_US} for r in took(GREW)]
    assert find([done("a"), *before]) == []


def test_a_phase_of_the_same_length_in_two_projects_did_not_grow():
    """The later workflows are another project's; each project alone is as ever."""
    rows = [*took(GREW[:6]), *took([30, 33, 32, 29, 35, 32], origin="slow")]
    for row in rows[:6]:
        row["created_at_us"] -= 3 * records.WEEK_US
    assert find(rows) == []
    both = find([*took(GREW), *took([30] * 12, origin="slow")])
    assert [f.key for f in both] == ["PLAN in log"]


def test_a_phase_is_named_in_one_short_line():
    (found,) = find(list(took(GREW, phase="PLAN\nand " + "more " * 40)))
    assert found.name.startswith("PLAN and more more")
    assert len(found.name) <= 60
    assert found.key == "PLAN\nand " + "more " * 40


def test_the_level_of_growth_is_that_of_the_params_for_all_phases_together():
    rows = list(took([14, 15, 16, 17, 15, 18, 19, 20]))
    assert find(rows, options=Thresholds(drift_level=0.8))
    assert not find(rows, options=Thresholds(drift_level=0.99))
    others = [r for name in "ABCD" for r in took([10, 12, 11, 10, 12, 11, 10, 12], phase=name)]
    short = list(took([10, 11, 12, 13, 20, 21, 22, 23]))  # eight workflows prove a growth at 95 % alone, not of five
    assert find(short)
    assert not find(short + others)


@pytest.mark.parametrize("labels", [("phase", "PLAN"), ("phase", "PLAN", "long"), ("phase", "PLAN", "nan"), ("phase",),
                                    ("phase", "PLAN", "-5"), ("phase", "PLAN", "inf"), ("phase", "", "5")])  # fmt: skip
def test_a_phase_without_seconds_counts_in_nothing_but_workflows(labels):
    rows = [signal(f"w{n}/phase/PLAN", title="PLAN", labels=labels) for n in range(12)] + [skip("w1", "x")]
    assert [(f.key, f.workflows, f.of) for f in find(rows)] == [("x", 1, 12)]


# Who says the same


def test_who_shows_the_same_error_says_it():
    rows = [error("a", TRACE.format(n=3)), error("b", TRACE.format(n=4))]
    rows += [said(f"It broke\n{TRACE.format(n=77)}", a) for a in ("p1", "p2")]
    rows += [said(f"It broke\n{TRACE.format(n=7)}", a, MONDAY - dt.timedelta(weeks=2)) for a in ("p1", "p3")]
    rows += [said("KeyError: is what I like", "p4", category="praise"), said("TypeError: no", "p5")]
    (found,) = find(rows)
    assert (found.people, found.people_before) == (2, 1)
    assert set(found.said) == {r["uid"] for r in rows[2:6]}
    assert found.topic_id is None


def meant(rows, vectors, topics=None):
    """`friction.Meaning` of two dimensions: every friction's name is (1, 0)."""
    voices = [r["uid"] for r in rows if r["type"] == "ticket"]
    centres = {t: np.array(c) for t, c in (topics or {}).items()}
    return friction.Meaning(
        voices, np.array(vectors).reshape(-1, 2), centres, lambda texts: np.array([[1.0, 0.0]] * len(texts))
    )


def at(cosine):
    return [cosine, (1 - cosine**2) ** 0.5]


@pytest.mark.parametrize(("cosine", "people"), [(0.5800001, 1), (0.579, 0), (-1.0, 0)])
def test_a_text_is_joined_from_the_limit_on(cosine, people):
    rows = [skip("a", "x"), said("words", "p1")]
    assert find(rows, meaning=meant(rows, [at(cosine)]))[0].people == people


def test_all_people_of_a_topic_about_it_say_it():
    rows = [skip("a", "x"), *(said(f"words {n}", f"p{n}", topic_id=1 + n // 2) for n in range(4))]
    (found,) = find(rows, meaning=meant(rows, [at(0.1)] * 4, {1: at(0.56), 2: at(0.54), 3: at(0.9)}))
    assert (found.topic_id, found.people) == (1, 2)  # nobody speaks of topic 3
    assert found.similarity == pytest.approx(0.56)
    (found,) = find(rows, meaning=meant(rows, [at(0.1)] * 4, {2: at(0.54)}))
    assert (found.topic_id, found.similarity, found.people) == (None, None, 0)


def test_praise_joins_nothing():
    rows = [skip("a", "x"), *(said(f"words {n}", f"p{n}", topic_id=1, category="praise") for n in range(3))]
    rows += [said("but", "p9", topic_id=1)]
    (found,) = find(rows, meaning=meant(rows, [at(0.9)] * 3 + [at(0.2)], {1: at(0.9)}))
    assert (found.topic_id, found.people) == (None, 0)


# The limits, measured


SENTENCES = {
    "visual_regression_test": (
        "The visual test step is pointless for our CLI",
        "Why do I have to run a visual regression test on a command line tool without any UI?",
        "screenshot comparison makes no sense for a backend library",
        "Every time I have to click away the visual regression check, we have no frontend",
        "The visual test step blocks us although there is nothing visual to test",
    ),
    "update_knowledge_base": (
        "Nobody reads the knowledge base, updating it after each task is a waste",
        "The knowledge base step at the end asks me for the same thing twice",
        "I never know what to write into the knowledge base",
    ),
    "refactoring_assessment": (
        "The refactoring assessment comes at the wrong moment",
        "Asking for a refactoring assessment on a one line fix is silly",
        "we always skip assessing refactoring, too much ceremony",
    ),
    "clarifying_questions": (
        "It asks clarifying questions even if the task is completely clear",
        "The clarifying questions are annoying",
        "Stop asking me questions before every tiny task",
    ),
    "backport_improvements": (
        "Backporting improvements to the template is not possible for us",
        "what is the backport step for?",
        "I don't understand what improvements I should backport",
    ),
    "check_roadmap": (
        "We have no roadmap file, the roadmap check always fails",
        "Checking the roadmap before each bug fix is a waste of time",
    ),
    "manual_smoke_test": (
        "Manual smoke testing cannot be done in CI",
        "The manual smoke test is useless for a headless agent",
    ),
    "security_review": (
        "The security review never finds anything",
        "Security review by the model times out every time",
    ),
    "changelog_entry": (
        "A changelog entry for every internal change is too much",
        "I forget the changelog because the step comes too late",
    ),
    "update_api_docs": (
        "We have no public API, so the API docs step is noise",
        "Updating the api docs should be optional",
    ),
    "risk_analysis": (
        "The risk analysis for a typo fix is over the top",
        "Risk and impact analysis produces boilerplate",
    ),
}
ALIKE = {  # in their words, and about something else
    "visual_regression_test": (
        "Unit tests are flaky since the last release",
        "The regression in search performance is back",
        "The visual design of the dashboard is dated",
        "Load tests time out",
        "Test reports are missing from the pipeline page",
    ),
    "update_knowledge_base": (
        "Update to 4.2 broke my plugins",
        "The help center article about SSO is outdated",
        "Please update the base image",
    ),
    "refactoring_assessment": (
        "The assessment form cannot be submitted",
        "Refactoring the config format broke our builds",
    ),
    "clarifying_questions": ("I have a question about pricing", "Support did not answer my question"),
    "backport_improvements": ("Please backport the fix to 3.9", "Great improvements in this release!"),
    "check_roadmap": ("Is dark mode on the roadmap?", "Health checks are failing"),
    "manual_smoke_test": ("The manual is out of date", "Test emails are not sent"),
    "security_review": (
        "Code review comments are lost",
        "Two factor login is broken",
        "Review apps are not cleaned up",
    ),
    "changelog_entry": ("The changelog page returns 404", "Log entries are missing since Monday"),
    "update_api_docs": (
        "API returns 500 on update",
        "The webhook docs are wrong",
        "The api docs miss the retry header",
    ),
    "risk_analysis": ("Static analysis reports false positives", "The risk of losing data is too high"),
}
ERRORS = {
    'npm error Missing script: "test"': (
        ("npm test fails because there is no test script", "missing script test error every time"),
        ("npm install is slow", "tests are flaky", "script tag missing in docs"),
    ),
    "pytest: command not found": (
        ("pytest is not found although it is in the venv", "the tool cannot find pytest"),
        ("command palette not found", "test results are not shown"),
    ),
    "TimeoutError: review model did not answer within 120 s": (
        ("The review model times out all the time", "reviews hang until they time out"),
        ("the build timed out", "uploads time out after 120 s", "review apps time out"),
    ),
    "FileNotFoundError: workflow.yaml": (
        ("workflow.yaml is not found in a fresh clone", "it complains about a missing workflow.yaml"),
        ("file not found when I download the invoice", "workflow editor loses my changes"),
    ),
    "PermissionError: [Errno 13] Permission denied: .workflow_state.json": (
        ("I get permission denied on the state file", "state file cannot be written"),
        ("permission denied when pulling the image", "I miss permissions for groups"),
    ),
}


@pytest.fixture(scope="module")
def encoder(cache):
    return encoders.minilm(config.cache_dir(), 2)


def joins(encoder, named, words):
    """Which of some sentences, each somebody's, are joined to which friction: friction -> sentences."""
    people = [said(w, f"p{n}") for n, w in enumerate(words)]
    vectors = encoder.encode([text.read(w, None, encoder.languages).gloss for w in words])
    found = find(named + people, meaning=friction.Meaning([p["uid"] for p in people], vectors, {}, encoder.encode))
    told = {p["uid"]: p["title"] for p in people}
    return {f.key if f.kind == "skip" else f.name: {told[u] for u in f.said} for f in found}


def test_sentences_about_a_step_are_joined_to_it_and_hardly_any_other(encoder):
    words = [w for some in (*SENTENCES.values(), *ALIKE.values()) for w in some]
    made = joins(encoder, [skip("a", item) for item in SENTENCES], words)
    right = sum(len(made[item] & set(own)) for item, own in SENTENCES.items())
    assert right >= 0.7 * sum(map(len, SENTENCES.values()))
    assert not [(item, w) for item, joined in made.items() for w in joined - set(SENTENCES[item])]


def test_sentences_about_an_error_are_joined_to_it_and_no_other(encoder):
    words = [w for own, other in ERRORS.values() for w in (*own, *other)]
    rows = [signal(f"a/error/{n}", title=e, body=e, labels=("error", "tool")) for n, e in enumerate(ERRORS)]
    made = joins(encoder, rows, words)
    right = sum(len(joined & set(ERRORS[e][0])) for e, joined in made.items())
    assert right >= 0.5 * sum(len(own) for own, _ in ERRORS.values())
    assert not [(e, w) for e, joined in made.items() for w in joined - set(ERRORS[e][0])]


def test_two_thousand_texts_of_another_product_are_joined_to_nothing_but_praise(encoder, tmp_path):
    sample.generate(tmp_path)
    rows = [json.loads(line) for f in tmp_path.glob("*.jsonl") for line in f.read_text("utf-8").splitlines()]
    words = {"\n".join(str(r.get(c) or "") for c in ("subject", "title", "description", "body")).strip() for r in rows}
    labelled = [json.loads(line) for line in LABELLED.read_text("utf-8").splitlines()]
    words |= {row["text"] for row in labelled if row["category"] != "praise"}
    assert len(words) > 1_500
    made = joins(encoder, [skip("a", item) for item in SENTENCES], sorted(words))
    assert {item: joined for item, joined in made.items() if joined} == {}
