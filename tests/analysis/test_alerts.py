"""The life of an alert, on hand-made time lines of verdicts."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from feedback_lib.analysis.alerts import AlertState, fold

MINUTE = 60_000_000
SCHEMA = {"at_us": pl.Int64, "severity": pl.String, "decision": pl.String, "calm": pl.Boolean}


def timeline(verdicts, first=1):
    """One page and one ticket window a minute.

    P pages, T tickets, t tickets while a page might be, . is clear, ? undecided, c undecided but calm.
    """
    rows = []
    for minute, verdict in enumerate(verdicts, first):
        page = {"P": "firing", "?": "undecided", "t": "undecided", "c": "undecided"}.get(verdict, "clear")
        ticket = "firing" if verdict in "PTt" else "undecided" if verdict in "?c" else "clear"
        calm = verdict in ".c"
        rows += [(minute * MINUTE, "page", page, calm), (minute * MINUTE, "ticket", ticket, calm)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def steps(verdicts, **options):
    _, events = fold(AlertState(folded_us=0), timeline(verdicts), **options)
    return [(e.kind, e.at_us // MINUTE, e.severity) for e in events]


def test_a_quiet_day_makes_no_event():
    assert steps("." * 100) == []


def test_a_burn_opens_once_and_resolves_after_the_hold():
    assert steps("..PPPPPP........") == [("opened", 3, "page"), ("resolved", 14, "page")]


def test_a_flicker_shorter_than_the_hold_is_one_alert():
    assert steps("P.P..P....P...PP.......") == [("opened", 1, "page"), ("resolved", 22, "page")]


def test_a_ticket_that_becomes_a_page_is_an_update_not_a_second_alert():
    assert steps("TTTPPP.......") == [("opened", 1, "ticket"), ("updated", 4, "page"), ("resolved", 12, "page")]


def test_a_page_that_calms_to_a_ticket_is_told_after_the_hold():
    assert steps("PPTTTTTTTT.......") == [
        ("opened", 1, "page"),
        ("updated", 8, "ticket"),
        ("resolved", 16, "ticket"),
    ]


def test_clear_minutes_among_tickets_do_not_end_a_page_early():
    assert steps("PTTTT..TTT") == [("opened", 1, "page"), ("updated", 8, "ticket")]


def test_an_undecided_stretch_neither_ends_nor_starts_an_alert():
    assert steps("?" * 30) == []
    assert steps("PP" + "?" * 60 + "......") == [("opened", 1, "page"), ("resolved", 68, "page")]


def test_what_is_undecided_but_calm_ends_an_alert_and_starts_none():
    assert steps("c" * 30) == []
    assert steps("PPcc.c.cc...") == [("opened", 1, "page"), ("resolved", 8, "page")]


def test_a_page_is_not_calmed_to_a_ticket_while_it_is_undecided():
    assert steps("P" + "t" * 30) == [("opened", 1, "page")]
    assert steps("t" * 3) == [("opened", 1, "ticket")]


def test_a_problem_that_comes_back_reopens_with_its_first_episode():
    state, events = fold(AlertState(folded_us=0), timeline("P......" + "." * 20 + "PP"))
    assert [e.kind for e in events] == ["opened", "resolved", "reopened"]
    assert {e.episode_us for e in events} == {MINUTE} and events[-1].since_us == 28 * MINUTE
    assert state.severity == "page"


def test_after_the_reopen_time_it_is_a_new_problem():
    _, events = fold(AlertState(folded_us=0), timeline("P......" + "." * 20 + "PP"), reopen_s=600)
    assert [e.kind for e in events] == ["opened", "resolved", "opened"]
    assert events[-1].episode_us == 28 * MINUTE


@given(st.text("PTt.?c", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_catching_up_makes_the_same_events_as_watching(verdicts, cuts):
    whole_state, whole = fold(AlertState(folded_us=0), timeline(verdicts))
    state, events = AlertState(folded_us=0), []
    for cut in [*sorted(cuts), len(verdicts)]:
        state, made = fold(state, timeline(verdicts[:cut]))
        events += made
    assert events == whole
    assert state == whole_state


@given(st.text("PTt.?c", max_size=80))
def test_openings_and_endings_take_turns(verdicts):
    _, events = fold(AlertState(folded_us=0), timeline(verdicts))
    is_open = False
    for event in events:
        assert (event.kind in ("opened", "reopened")) == (not is_open)
        is_open = event.kind != "resolved"
    sequences = [e.sequence for e in events]
    assert sequences == sorted(set(sequences))
