"""The ten questions about a workflow, in a terminal or as a form in JupyterLab: five of the tool, five of the work."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from feedback_lib import config
from feedback_lib.analysis.patterns import shortened
from feedback_lib.orchestrator import Workflow
from feedback_lib.workflows.capture import Answers, capture, current

HELP = "Enter: skip   <: back   ↑: earlier answers   Ctrl-C: stop, nothing is kept"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One question. ``choices`` are answers and what they mean; without, any text is one."""

    field: str
    about: Literal["tool", "process"]
    text: str
    hint: str
    choices: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)
    listed: bool = False  # the answer is a list, separated by commas; "none" is the empty one


QUESTIONS = (
    Question(
        "phase0_guidance_used",
        "tool",
        "Were the Phase 0 parallel execution prompts helpful?",
        "yes/no/didn't-see",
        {"yes": True, "no": False, "didn't-see": None},
    ),
    Question(
        "reviews_worked",
        "tool",
        "Did third-party reviews work correctly?",
        "yes/no/skipped",
        {"yes": True, "no": False, "skipped": None},
    ),
    Question(
        "confusing_items", "tool", "Which workflow items were confusing or unclear?", "a list, or none", listed=True
    ),
    Question(
        "orchestrator_errors", "tool", "Did any orchestrator commands fail?", "no, or what they said", listed=True
    ),
    Question("tool_suggestions", "tool", "Suggestions for improving the tool?", "optional; it may be shared"),
    Question(
        "parallel_agents_used",
        "process",
        "Did you use multi-agents?",
        "yes/no/not-applicable",
        {"yes": True, "no": False, "not-applicable": None},
    ),
    Question("what_went_well", "process", "What went well in this workflow?", "1-2 sentences"),
    Question("challenges", "process", "What challenges did you face?", "1-2 sentences"),
    Question("learnings", "process", "What did you learn?", "1-2 sentences"),
    Question("improvements", "process", "Project-specific improvements?", "optional"),
)
_NONE = ("none", "no", "-", "n", "nothing")


def understood(question: Question, text: str) -> Any:
    """What a text answers; None when it leaves the question open.

    Raises:
        ValueError: it is none of the choices.

    >>> understood(QUESTIONS[0], "Y"), understood(QUESTIONS[2], "none"), understood(QUESTIONS[2], "a, b")
    (True, (), ('a', 'b'))
    """
    text = " ".join(text.split())
    if not text:
        return None
    if question.choices:
        said = _plain(text)
        said = {"n": "no", "na": "notapplicable"}.get(said, said)
        fits = [name for name in question.choices if _plain(name) == said]
        fits = fits or [name for name in question.choices if said and _plain(name).startswith(said)]
        if len(fits) != 1:
            raise ValueError(f"write {', '.join(list(question.choices)[:-1])} or {list(question.choices)[-1]}")
        return question.choices[fits[0]]
    if not question.listed:
        return text
    if text.lower() in _NONE:
        return ()
    if question.field == "orchestrator_errors":  # an error may hold commas
        return (text,)
    return tuple(dict.fromkeys(part for part in (p.strip() for p in text.split(",")) if part))


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


class Session:
    """The questions in their order, with the answers so far; one can skip and go back.

    Args:
        tool: ask those about the tool.
        process: ask those about the work.
    """

    def __init__(self, *, tool: bool = True, process: bool = True) -> None:
        self.questions = tuple(q for q in QUESTIONS if (tool if q.about == "tool" else process))
        self.texts: dict[str, str] = {}
        self.position = 0

    @property
    def current(self) -> Question | None:
        """The question to ask now; None after the last."""
        return self.questions[self.position] if self.position < len(self.questions) else None

    def answer(self, text: str) -> None:
        """Answer the current question and go on; an empty text leaves it open. Raises ValueError as `understood`."""
        question = self.questions[self.position]
        understood(question, text)
        self.texts[question.field] = text
        self.position += 1

    def back(self) -> None:
        """To the question before; its answer stands until another one is given."""
        self.position = max(0, self.position - 1)

    def answers(self) -> Answers:
        """What was answered so far."""
        return Answers(**{q.field: understood(q, self.texts.get(q.field, "")) for q in self.questions})


def ask(
    workflow: Workflow | None,
    *,
    tool: bool = True,
    process: bool = True,
    say: Callable[[str], None] = print,
) -> Answers | None:
    """Ask in the terminal; without one, the answers are the lines of standard input.

    Args:
        workflow: what the questions are about: its items complete the answers.
        tool: ask those about the tool.
        process: ask those about the work.
        say: shows a line.

    Returns:
        None when it was stopped, or nothing was answered.
    """
    session = Session(tool=tool, process=process)
    with _reader(workflow) as read:
        if workflow:
            say(f"Workflow {shortened(workflow.id)}: {shortened(workflow.task)}")
        say(f"{HELP}\n")
        while question := session.current:
            about = "tool, anonymous" if question.about == "tool" else "your project, private"
            say(f"{session.position + 1}/{len(session.questions)} ({about}) {question.text}")
            try:
                text = read(question, session.texts.get(question.field, "")).strip()
            except KeyboardInterrupt:
                say("Stopped; answers are not kept.")
                return None
            except EOFError:
                break
            if text == "<":
                session.back()
                continue
            try:
                session.answer(text)
            except ValueError as wrong:
                say(f"   {wrong}")
    found = session.answers()
    return found if found.given() else None


@contextlib.contextmanager
def _reader(workflow: Workflow | None) -> Iterator[Callable[[Question, str], str]]:
    """How answers are read: with history and completion in a terminal, line by line else."""
    if not sys.stdin.isatty():
        yield lambda question, before: _next_line()
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    folder = config.config_dir() / "history"
    items = sorted({step.item for step in workflow.steps}) if workflow else []

    class Said(FileHistory):
        """Answers alone: neither `<` nor what was no choice comes up again."""

        def __init__(self, question: Question, path: Path) -> None:
            self.question = question
            super().__init__(str(path))

        def append_string(self, string: str) -> None:
            with contextlib.suppress(ValueError):
                understood(self.question, string)
                if string.strip() != "<":
                    super().append_string(string)

    def history(question: Question) -> History:
        path = folder / question.field
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))  # what was said is nobody else's
        except OSError:
            return InMemoryHistory()
        return Said(question, path)

    def read(question: Question, before: str) -> str:
        words = list(question.choices) or (items if question.field == "confusing_items" else [])
        session: PromptSession[str] = PromptSession(history=history(question), completer=WordCompleter(words))
        if question.choices and before:  # one word is sooner written anew than changed
            return session.prompt(f"   ({question.hint}) [{before}]: ") or before
        return session.prompt(f"   ({question.hint}): ", default=before)

    yield read


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


class Form:
    """The questions as a form; ``widget`` shows it, a press on its button captures.

    Args:
        workflow: what it is about; None: no workflow was found.
        keep: takes the answers, captures, and says what was captured.
    """

    def __init__(self, workflow: Workflow | None, keep: Callable[[Answers], str]) -> None:
        import ipywidgets as widgets

        self._keep = keep
        self.inputs: dict[str, Any] = {}
        parts: list[Any] = [widgets.HTML(f"<p>{html.escape(_headed(workflow))}</p>")]
        # Voila's own style draws no frames
        wide = widgets.Layout(width="40em", max_width="100%", border="1px solid #8c939c", min_height="2.2em")
        items = sorted({step.item for step in workflow.steps}) if workflow else []
        told = {"tool": "About the tool: anonymous, may be shared", "process": "About your project: private"}
        for about, heading in told.items():
            parts.append(widgets.HTML(f"<h3>{heading}</h3>"))
            for question in QUESTIONS:
                if question.about != about:
                    continue
                hint = "" if question.choices else f" <small>({question.hint})</small>"
                label = widgets.HTML(f"<label>{html.escape(question.text)}{hint}</label>")
                if question.choices:
                    one: Any = widgets.RadioButtons(
                        options=[("left open", ""), *((name, name) for name in question.choices)],
                        orientation="horizontal",
                        layout=widgets.Layout(width="auto"),
                    )
                elif question.field == "confusing_items" and items:
                    one = widgets.TagsInput(allowed_tags=items, allow_duplicates=False, layout=wide)
                else:
                    one = widgets.Textarea(rows=2, layout=wide)
                self.inputs[question.field] = one
                parts += [label, one]
        colours = {"button_color": "#1f4e79", "text_color": "#ffffff"}
        self.button = widgets.Button(description="Capture", style=colours, disabled=workflow is None)
        self.button.on_click(self._pressed)
        self.said = widgets.HTML()
        self.widget = widgets.VBox([*parts, self.button, self.said])

    def answers(self) -> Answers:
        """What stands in the form."""
        texts = {name: self._text(one) for name, one in self.inputs.items()}
        return Answers(**{q.field: understood(q, texts[q.field]) for q in QUESTIONS})

    @staticmethod
    def _text(one: Any) -> str:
        return ", ".join(one.value) if isinstance(one.value, list | tuple) else str(one.value)

    def _pressed(self, _: Any) -> None:
        from feedback_lib.errors import FeedbackError

        try:
            told = self._keep(self.answers())
        except FeedbackError as problem:
            told = f"Not captured: {problem}"
        self.said.value = f"<p>{html.escape(told)}</p>"


def _headed(workflow: Workflow | None) -> str:
    if workflow is None:
        return "No workflow was found in this folder."
    name, task = shortened(workflow.id), shortened(workflow.task)
    return f"{name}: {task} ({workflow.status}, last event {workflow.last_at:%Y-%m-%d %H:%M} UTC)"


def form(folder: str | Path = "") -> Form:
    """The questions about the current workflow of a folder, as a form for JupyterLab.

    Args:
        folder: where the workflow tool works; "" is a copy of the bundled sample, for trying.

    Raises:
        ConfigError: there is no such folder.
    """
    from feedback_lib import orchestrator
    from feedback_lib.workflows import sample

    place = Path(folder) if folder else sample.write(Path(tempfile.mkdtemp(prefix="workflows-")))

    def keep(answers: Answers) -> str:
        done = capture(place, answers=answers if answers.given() else None)
        if done.reason:
            return done.reason
        return f"{done.written[0]} new entries about the tool, {done.written[1]} about the project, in {place}"

    return Form(current(orchestrator.read(place)), keep)
