"""The ten questions: their order and meaning, skipping and going back, in a terminal, through a pipe, and as a form."""

import datetime as dt
import io
import stat
import threading

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from feedback_lib.errors import ConfigError
from feedback_lib.orchestrator import Step, Workflow
from feedback_lib.workflows import questions
from feedback_lib.workflows.capture import Answers
from feedback_lib.workflows.questions import QUESTIONS, Form, Session, understood

AT = dt.datetime(2026, 1, 7, 4, tzinfo=dt.UTC)


def workflow(task="Add a login"):
    step = Step(phase="PLAN", item="risk_analysis", outcome="completed", at=AT, text="")
    return Workflow(
        id="wf_1",
        task=task,
        status="completed",
        started_at=AT,
        last_at=AT,
        events=1,
        phases={},
        steps=(step,),
        failures=(),
        reviewed=None,
        parallel=None,
        definition=None,
        where="log.jsonl",
    )


def test_there_are_five_about_the_tool_and_five_about_the_work_each_for_a_field_of_its_own():
    assert [q.about for q in QUESTIONS] == ["tool"] * 5 + ["process"] * 5
    assert {q.field for q in QUESTIONS} == set(Answers.__dataclass_fields__)
    assert [len(Session(tool=tool, process=not tool).questions) for tool in (True, False)] == [5, 5]


@pytest.mark.parametrize(
    ("field", "text", "means"),
    [
        ("phase0_guidance_used", "yes", True),
        ("phase0_guidance_used", " Didn't see ", None),
        ("reviews_worked", "no", False),
        ("reviews_worked", "s", None),
        ("parallel_agents_used", "no", False),
        ("parallel_agents_used", "N", False),
        ("parallel_agents_used", "not applicable", None),
        ("parallel_agents_used", "n/a", None),
        ("phase0_guidance_used", "didn’t see", None),
        ("parallel_agents_used", "", None),
        ("confusing_items", "none", ()),
        ("confusing_items", "risk_analysis,  user_approval, risk_analysis", ("risk_analysis", "user_approval")),
        ("orchestrator_errors", "no", ()),
        (
            "orchestrator_errors",
            "orchestrator prd spawn: not found, twice",
            ("orchestrator prd spawn: not found, twice",),
        ),
        ("challenges", "  the\ncache  ", "the cache"),
        ("improvements", "", None),
    ],
)
def test_what_a_text_answers(field, text, means):
    question = next(q for q in QUESTIONS if q.field == field)
    assert understood(question, text) == means


@pytest.mark.parametrize("text", ["maybe", "'"])
def test_what_is_no_choice_names_the_choices(text):
    question = next(q for q in QUESTIONS if q.field == "parallel_agents_used")
    with pytest.raises(ValueError, match="yes, no or not-applicable"):
        understood(question, text)


def test_one_can_skip_go_back_and_answer_again():
    session = Session(tool=False)
    session.back()
    assert session.current is session.questions[0]
    for text in ("yes", "", "slow builds"):
        session.answer(text)
    session.back()
    session.back()
    assert session.current.field == "what_went_well"
    for text in ("tests first", "slow tests", "", ""):
        session.answer(text)
    assert session.current is None
    said = session.answers()
    assert (said.parallel_agents_used, said.what_went_well, said.challenges) == (True, "tests first", "slow tests")
    assert (said.learnings, said.tool_suggestions) == (None, None)


def test_through_a_pipe_lines_are_answers_and_the_end_is_the_end(monkeypatch):
    shown = []
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\nperhaps\nno\n<\nyes\nnone"))
    said = questions.ask(workflow("Tidy\x1b[2J up"), say=shown.append)
    assert (said.phase0_guidance_used, said.reviews_worked, said.confusing_items) == (True, True, ())
    assert "Workflow wf_1: Tidy [2J up" in shown
    assert any("write yes, no or skipped" in line for line in shown)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n" * 10))
    assert questions.ask(workflow(), say=shown.append) is None, "nothing was answered"


def in_terminal(keys, monkeypatch, tmp_path, **kinds):
    """Ask in a terminal at which these keys are pressed, each group once the one before has been seen."""
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        first, *later = keys
        pipe.send_text(first)
        timers = [threading.Timer(0.4 * n, pipe.send_text, [text]) for n, text in enumerate(later, 1)]
        for timer in timers:
            timer.start()
        try:
            return questions.ask(workflow(), say=lambda line: None, **kinds)
        finally:
            for timer in timers:
                timer.join()


def test_in_a_terminal_answers_have_a_history_only_their_owner_can_read(monkeypatch, tmp_path):
    first = in_terminal(["yes\rtests first\rcache\rmuch\r\r"], monkeypatch, tmp_path, tool=False)
    assert (first.what_went_well, first.challenges, first.improvements) == ("tests first", "cache", None)
    kept = tmp_path / "history" / "challenges"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    again = in_terminal(["no\r", "\x1b[A\r", "<\r", " again\r\r\r\r"], monkeypatch, tmp_path, tool=False)
    assert again.parallel_agents_used is False
    assert again.what_went_well == "tests first again", "arrow up brings what was answered before, < goes back"
    assert "<" not in (tmp_path / "history" / "challenges").read_text()


def test_a_choice_made_before_stays_with_enter_and_is_written_anew_else(monkeypatch, tmp_path):
    keys = ["yes\r", "<\r", "no\r", "<\r", "\r\r\r\r\r"]
    assert in_terminal(keys, monkeypatch, tmp_path, tool=False).parallel_agents_used is False


def test_ctrl_c_keeps_nothing(monkeypatch, tmp_path):
    assert in_terminal(["yes\rtests\r\x03"], monkeypatch, tmp_path, tool=False) is None


def test_a_history_that_cannot_be_kept_stops_nobody(monkeypatch, tmp_path):
    (tmp_path / "history").write_text("a file where the folder should be")
    assert in_terminal(["yes\rfine\r\r\r\r"], monkeypatch, tmp_path, tool=False).what_went_well == "fine"


def test_the_form_gives_the_same_answers_and_says_what_came_of_it():
    kept = []
    form = Form(workflow("A <b>bold</b> task"), lambda said: kept.append(said) or "1 entry <written>")
    assert "&lt;b&gt;bold" in form.widget.children[0].value
    form.inputs["reviews_worked"].value = "yes"
    form.inputs["confusing_items"].value = ["risk_analysis"]
    form.inputs["challenges"].value = "the cache\n"
    form.button.click()
    assert kept == [Answers(reviews_worked=True, confusing_items=("risk_analysis",), challenges="the cache")]
    assert form.said.value == "<p>1 entry &lt;written&gt;</p>"


def test_a_form_without_a_workflow_says_so_and_a_failure_is_told():
    assert Form(None, lambda said: "").button.disabled

    def refuse(_):
        raise ConfigError("the folder cannot be written")

    form = Form(workflow(), refuse)
    form.button.click()
    assert "Not captured: the folder cannot be written" in form.said.value
