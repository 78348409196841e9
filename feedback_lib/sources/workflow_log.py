"""Runs of the workflow tool: what was skipped, what went wrong, and what people said of it in workflow feedback."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from feedback_lib import orchestrator, privacy
from feedback_lib.config import config_dir
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.orchestrator import Workflow
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Signal, real_time
from feedback_lib.sources import too_deep

PROCESS_FILE, TOOL_FILE = ".workflow_process_feedback.jsonl", ".workflow_tool_feedback.jsonl"
SAID = ("challenges", "improvements", "tool_suggestions", "learnings")  # the words of an entry, in this order


@register("sources", "workflow_log")
@dataclasses.dataclass(frozen=True)
class WorkflowLog:
    """The folder the workflow tool works in: its log and state, and the feedback captured from them.

    Options:
        path: the folder.
        name: what it is called instead of the folder.
    """

    path: str
    name: str | None = None

    personal_fields: ClassVar[tuple[str, ...]] = ()
    plain_fields: ClassVar[tuple[str, ...]] = (
        "workflow", "about", "key", "phase", "item", "by", "status", "at", "last_at", "version",
        "seconds",
    )  # fmt: skip

    @property
    def origin(self) -> str:
        """The option ``name``; else the folder's name."""
        return self.name or Path(self.path).expanduser().absolute().name

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Item | Rejected]:
        """Yield what happened in workflows whose last event lies in ``[since, until)``, by that event.

        That is each item skipped at last, each thing that went wrong, each phase that ended with how long it took, and
        each workflow with what was said of it; also a workflow that only its feedback still tells of.

        Raises:
            SourceError: there is no such folder.
        """
        found = self._found()
        yield from found.rejected
        folder = Path(self.path).expanduser()
        words, rejected = _words(folder)
        yield from rejected
        payloads = [(one, w.where) for w in found.workflows for one in _payloads(w, words.pop(w.id, None))]
        payloads += [(_told_only(said), PROCESS_FILE) for said in words.values()]
        seen: set[str] = set()
        for payload, where in sorted(payloads, key=lambda pair: (pair[0]["last_at"], pair[0]["at"], pair[0]["key"])):
            at, last = (dt.datetime.fromisoformat(payload[key]) for key in ("at", "last_at"))
            if payload["key"] not in seen and last < until and (since is None or last >= since):
                seen.add(payload["key"])
                yield Item(payload, f"{where}: {payload['key']}", payload["key"], at, last)

    def _found(self) -> orchestrator.Found:
        try:
            return orchestrator.read(Path(self.path).expanduser())
        except ConfigError:
            told = f"{self.path} is no folder; name the one the workflow tool works in in the option 'path'"
            raise SourceError("workflow_log", self.origin, told) from None

    def check(self) -> str:
        """How many workflows there are and how many lines are none; raises SourceError as `fetch` does."""
        found = self._found()
        bad = f", cannot be read: {len(found.rejected)}" if found.rejected else ""
        return f"workflows: {len(found.workflows)}{bad}"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one thing that happened into a signal of type ``workflow``, which no export holds.

        Raises:
            ValueError: the payload says not what happened, or not when.
        """
        about = payload.get("about")
        if about not in _NEEDED or any(payload.get(key) in (None, "") for key in (*_ALWAYS, *_NEEDED[about])):
            raise ValueError("says not what happened in which workflow, or not when")
        labels: tuple[str | None, ...]
        if about == "skip":
            title = f"Skipped: {str(payload['item']).replace('_', ' ')}"
            labels = ("skipped", payload["phase"], payload["item"])
        elif about == "error":
            title = str(payload["text"])
            labels = ("error", payload["by"], payload["phase"], payload.get("item"))
        elif about == "phase":
            seconds = payload["seconds"]
            if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
                raise ValueError(f"says that a phase took {seconds!r} seconds")
            title = f"{payload['phase']} took {f'{seconds / 60:,.0f} min' if seconds >= 60 else f'{seconds} s'}"
            labels = ("phase", payload["phase"], str(seconds))
        else:
            title = str(payload.get("text") or f"Workflow {payload['workflow']}")
            labels = ("workflow", payload.get("status"))
        created, updated = (dt.datetime.fromisoformat(payload[key]) for key in ("at", "last_at"))
        return Signal(
            kind="workflow_log",
            origin=self.origin,
            native_id=str(payload["key"]),
            type="workflow",
            title=title,
            body=str(payload.get("told") or ""),
            created_at=created.astimezone(dt.UTC),
            updated_at=updated.astimezone(dt.UTC),
            state=payload.get("status"),
            labels=tuple(label for label in labels if label),
            version=payload.get("version"),
        )


_ALWAYS = ("key", "workflow", "at", "last_at")
_NEEDED: dict[Any, tuple[str, ...]] = {
    "skip": ("phase", "item"), "error": ("phase", "by", "text"), "phase": ("phase", "seconds"), "workflow": (),
}  # fmt: skip


@dataclasses.dataclass(slots=True)
class _Said:
    """What the feedback files hold of one workflow."""

    workflow: str
    at: dt.datetime
    task: str
    words: dict[str, str]
    version: str | None = None


def _payloads(workflow: Workflow, said: _Said | None) -> Iterator[dict[str, Any]]:
    version = said.version if said else None
    for step in workflow.steps:
        if step.outcome == "skipped":
            which = privacy.redact_id(step.item)
            yield _payload(workflow, "skip", step.at, version, which, step.text, phase=step.phase, item=step.item)
    for failure in workflow.failures:
        by: Literal["tool", "project"] = "tool" if failure.by_tool else "project"
        phase = failure.phase or orchestrator.NO_PHASE
        parts = (failure.at.isoformat(), phase, failure.item or "", failure.text)
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        yield _payload(
            workflow, "error", failure.at, version, digest, failure.text, failure.message,
            phase=phase, item=failure.item, by=by,
        )  # fmt: skip
    for phase, seconds in workflow.phases.items():
        name = privacy.redact_id(phase)
        yield _payload(workflow, "phase", workflow.started_at, version, name, "", phase=phase) | {"seconds": seconds}
    words = said.words if said else {"learnings": "\n".join(workflow.learnings)}
    yield _payload(workflow, "workflow", workflow.started_at, version, "", _body(words), workflow.task)


def _payload(
    workflow: Workflow,
    about: str,
    at: dt.datetime,
    version: str | None,
    which: str,
    told: str,
    text: str = "",
    **more: str | None,
) -> dict[str, Any]:
    own = privacy.redact_id(workflow.id)
    return {
        "workflow": own,
        "about": about,
        "key": f"{own}/{about}/{which}" if which else f"{own}/{about}",
        **{k: privacy.redact_id(v) for k, v in more.items() if v},
        "status": workflow.status,
        "at": at.isoformat(),
        "last_at": workflow.last_at.isoformat(),
        "version": version,
        "text": text,
        "told": told,
    }


def _told_only(said: _Said) -> dict[str, Any]:
    """A workflow whose log is gone, as its feedback tells of it."""
    own, at = privacy.redact_id(said.workflow), said.at.isoformat()
    return {
        "workflow": own, "about": "workflow", "key": f"{own}/workflow", "status": None, "at": at, "last_at": at,
        "version": said.version, "text": said.task, "told": _body(said.words),
    }  # fmt: skip


def _body(words: Mapping[str, str]) -> str:
    return "\n\n".join(dict.fromkeys(words[key] for key in SAID if words.get(key)))


# --- the feedback files -----------------------------------------------------------------------------------------------


def _words(folder: Path) -> tuple[dict[str, _Said], list[Rejected]]:
    """What was said, by workflow; of two entries of one workflow the later line counts."""
    rejected: list[Rejected] = []
    said: dict[str, _Said] = {}
    for where, entry in _entries(folder / PROCESS_FILE, rejected):
        key = _text(entry.get("workflow_id"))
        try:
            if not key or key == "unknown":
                raise ValueError("is no entry: it has no workflow_id")
            at = _time(entry.get("timestamp"))
        except ValueError as problem:
            rejected.append(Rejected(where, str(problem)))
            continue
        said[key] = _Said(key, at, _text(entry.get("task")), {k: _text(entry.get(k)) for k in SAID})
    salt = _salt()
    tool = {_text(entry.get("workflow_id_hash")): entry for _, entry in _entries(folder / TOOL_FILE, rejected)}
    for key, one in said.items():
        # tool feedback names its workflow by a hash alone; only the installation that wrote it can tell which it is
        entry = tool.get(hmac.new(salt, key.encode(), hashlib.sha256).hexdigest()[:32], {}) if salt else {}
        one.words["tool_suggestions"] = _text(entry.get("tool_suggestions"))
        version = _text(entry.get("orchestrator_version"))
        one.version = privacy.redact_version(version) if version and version != "unknown" else None
    return said, rejected


def _salt() -> bytes | None:
    """The secret of this installation; nothing is made here, a source writes nothing."""
    try:
        salt = (config_dir() / "salt").read_bytes()
    except OSError:
        return None
    return salt if len(salt) == privacy.KEY_BYTES else None


def _entries(path: Path, rejected: list[Rejected]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as problem:
        rejected.append(Rejected(path.name, f"cannot be read ({problem.strerror})"))
        return
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            entry = json.loads(line.decode("utf-8-sig"), parse_constant=lambda _: None)
            if not isinstance(entry, dict) or too_deep(entry):
                raise ValueError("is no entry: not an object of a few levels")
        except UnicodeError:
            rejected.append(Rejected(where, "is not UTF-8"))
        except json.JSONDecodeError as problem:
            rejected.append(Rejected(where, f"is no JSON: {problem.msg}"))
        except (ValueError, RecursionError) as problem:
            rejected.append(Rejected(where, str(problem)))
        else:
            yield where, entry


def _text(value: Any) -> str:
    return value.encode("utf-8", "replace").decode("utf-8").strip() if isinstance(value, str) else ""


def _time(value: Any) -> dt.datetime:
    try:
        at = dt.datetime.fromisoformat(_text(value))
        return real_time(at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC))
    except (ValueError, OverflowError):
        raise ValueError("its timestamp is no time of the years 1970 to 2199; write ISO 8601") from None
