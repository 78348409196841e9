"""``feedback capture``: what a workflow tool's own runs say, as entries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feedback_lib import privacy
from feedback_lib.commands import AS_JSON, FOLDER, print_json, progress
from feedback_lib.errors import FeedbackError

if TYPE_CHECKING:
    from feedback_lib.workflows.capture import Answers, Captured


@click.command("capture")
@click.option("--auto", is_flag=True, help="Take what the log says and ask nothing (the default).")
@click.option("--interactive", is_flag=True, help="Ask about the current workflow, too.")
@click.option("--tool", is_flag=True, help="Only what is about the workflow tool: anonymous, may be shared.")
@click.option("--process", is_flag=True, help="Only what is about the project: private, stays here.")
@FOLDER
@AS_JSON
@click.pass_obj
def capture(
    obj: Mapping[str, bool],
    *,
    auto: bool,
    interactive: bool,
    tool: bool,
    process: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Capture what the workflows in a folder say about the tool and about the project.

    One entry for each workflow of the log goes into .workflow_tool_feedback.jsonl and .workflow_process_feedback.jsonl;
    capturing again adds only what is new. With --auto this never fails the workflow: what goes wrong is told, and the
    exit code is 0. Where ORCHESTRATOR_SKIP_FEEDBACK=1 is set, nothing is read or written.

    `feedback review` shows what several workflows have in common. Under the workflow tool's own name the commands are
    orchestrator-feedback (this one), and orchestrator-feedback review, sync, config and collect.
    """
    if auto and interactive:
        raise click.UsageError("--auto and --interactive exclude each other.")
    both = tool == process
    asked = {"tool": tool or both, "process": process or both}
    if interactive:
        _interactive(obj, folder, asked, as_json)
        return
    try:
        _show(obj, _captured(obj, folder, asked), as_json, folder)
    except (FeedbackError, OSError) as problem:
        _not_captured(str(problem), as_json)
    except Exception as fault:  # whatever it is, the workflow goes on
        if obj["verbose"]:
            raise
        _not_captured(f"unexpected fault ({type(fault).__name__}: {privacy.redact(str(fault))})", as_json)


def _captured(
    obj: Mapping[str, bool],
    folder: Path,
    asked: Mapping[str, bool],
    answers: Answers | None = None,
    about: str | None = None,
) -> Captured:
    from feedback_lib.workflows import capture as package

    return package.capture(
        folder, tool=asked["tool"], process=asked["process"], answers=answers, about=about, progress=progress(obj)
    )


def _interactive(obj: Mapping[str, bool], folder: Path, asked: Mapping[str, bool], as_json: bool) -> None:
    """Ask first, then capture; what was answered is never lost."""
    from feedback_lib import orchestrator
    from feedback_lib.workflows import capture as package
    from feedback_lib.workflows import questions, settings

    now = None if settings.skipped() else package.current(orchestrator.read(folder))
    answers = None
    if now is not None:  # else there is nothing to ask about: the capture says why
        answers = questions.ask(
            now, tool=asked["tool"], process=asked["process"], say=lambda line: click.echo(line, err=as_json)
        )
        if answers is None:
            click.echo("Nothing was captured. Without questions: feedback capture", err=True)
            return
    try:
        captured = _captured(obj, folder, asked, answers, now.id if now else None)
    except FeedbackError:
        if answers is not None:
            click.echo(f"Your answers, so that they are not lost: {json.dumps(answers.given())}", err=True)
        raise
    _show(obj, captured, as_json, folder, now.id if now and answers else None)


def _show(
    obj: Mapping[str, bool], captured: Captured, as_json: bool, folder: Path, answered: str | None = None
) -> None:
    from feedback_lib.analysis.patterns import many, shortened
    from feedback_lib.workflows.capture import option
    from feedback_lib.workflows.entries import PROCESS_FILE, TOOL_FILE

    for one in captured.rejected:
        click.echo(f"not read: {one.where}: {one.reason}", err=True)
    if as_json:
        print_json(captured.to_dict())
        return
    if captured.reason:
        click.echo(captured.reason, err=True)
    if captured.reason or obj["quiet"]:
        return
    found = len(captured.tool or captured.process)
    click.echo(f"{many(found)} in {', '.join(captured.files)}")
    for entries, new, file, what in (
        (captured.tool, captured.written[0], TOOL_FILE, "about the tool; anonymous"),
        (captured.process, captured.written[1], PROCESS_FILE, "about the project; private"),
    ):
        if entries:
            click.echo(f"  {file}: {many(new, 'new entry', 'new entries')} ({what})")
    if answered:
        click.echo(f"Your answers stand in the entry of {shortened(answered)}.")
    if any(captured.written):
        click.echo(f"What they have in common: feedback review --all{option(folder)}")


def _not_captured(problem: str, as_json: bool) -> None:
    """Say why in auto mode, and let the workflow go on."""
    click.echo(f"Feedback was not captured: {problem}", err=True)
    if as_json:
        print_json({"reason": problem, "files": [], "written": {"tool": 0, "process": 0}, "tool": [], "process": []})
