"""Tool feedback that tells neither who nor what project it came from: made so, and verified before it leaves.

What may leave is listed: fields, types, ranges. Only two fields hold words, and `telling` refuses those that tell
something. No reason repeats what it was given for.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_args

from feedback_lib.errors import PrivacyError
from feedback_lib.workflows import ids
from feedback_lib.workflows.entries import RELEASE, UNKNOWN, Mode, RepoType, ToolEntry
from feedback_lib.workflows.telling import text_problem

SCHEMA = 1
MOST_ENTRIES = 500  # in one payload
MOST_BYTES = 512_000
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VERSION = re.compile(f"{UNKNOWN}|{RELEASE}")
STEPS_S = (
    0, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1500, 1800, 2700, 3600, 5400, 7200, 10_800,
    14_400, 21_600, 28_800, 43_200, 86_400, 172_800, 345_600, 604_800,
)  # fmt: skip
"""What is left of seconds when they leave. Exact ones of a day find the commits that were made then; see docs."""


def rounded(seconds: int) -> int:
    """The step of `STEPS_S` that was reached; a week for all that is longer.

    >>> [rounded(s) for s in (0, 59, 60, 3751, 10**9)]
    [0, 45, 60, 3600, 604800]
    """
    return max(step for step in STEPS_S if step <= max(0, seconds))


# What leaves


def wire(entry: ToolEntry, salt: bytes) -> dict[str, Any]:
    """The fields of an entry that may leave, as they leave.

    The day instead of the minute, steps of `STEPS_S` instead of seconds, whole percents, items and phases by `ids`, the
    version without its build. Words are not changed; `entry_problem` refuses them.
    """
    share = entry.items_skipped_pct
    return {
        "timestamp": entry.timestamp[:10],
        "workflow_id_hash": entry.workflow_id_hash,
        "orchestrator_version": entry.orchestrator_version.partition("+")[0].removeprefix("v"),
        "repo_type": entry.repo_type,
        "duration_seconds": rounded(entry.duration_seconds),
        "phases": {public: rounded(seconds) for public, seconds in ids.phases(entry.phases).items()},
        "phase0_guidance_used": entry.phase0_guidance_used,
        "reviews_worked": entry.reviews_worked,
        "orchestrator_errors": list(entry.orchestrator_errors),
        "items_skipped": [ids.item(salt, one) for one in entry.items_skipped],
        "items_skipped_pct": None if share is None else round(float(share), 2),
        "confusing_items": [ids.item(salt, one) for one in entry.confusing_items],
        "tool_suggestions": entry.tool_suggestions,
        "mode": entry.mode,
    }


def dumped(value: Any) -> bytes:
    """JSON in the one form that `verify` takes and that goes over the network."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def payload(entries: Sequence[ToolEntry], salt: bytes, known: Collection[str] = ()) -> bytes:
    """The exact bytes that leave for these entries, verified.

    Args:
        entries: at most `MOST_ENTRIES`.
        salt: see `feedback_lib.workflows.settings.salt`; it is not in the bytes.
        known: names that must not stand in them, see `telling.own_names`.

    Raises:
        PrivacyError: ``.field`` names what must not leave, such as ``entries[3].tool_suggestions``.
    """
    wires = [wire(entry, salt) for entry in entries]
    content = dumped({"schema": SCHEMA, "installation": ids.installation(salt), "entries": wires})
    verify(content, known)
    return content


def verify(content: bytes, known: Collection[str] = ()) -> None:
    """Refuse bytes that are anything but tool feedback.

    Args:
        content: what is about to be sent.
        known: names of the repository, its owner, this user and this machine, see `telling.own_names`.

    Raises:
        PrivacyError: ``.field`` names the first place, such as ``entries[3].tool_suggestions``.
    """
    if len(content) > MOST_BYTES:
        raise PrivacyError("payload", f"has {len(content):,} bytes, more than the {MOST_BYTES:,} that one may have")
    try:
        held = json.loads(content.decode("utf-8"))
        same = dumped(held) == content  # a key that stands twice, blanks, NaN, escapes: all of it would be lost here
    except (ValueError, RecursionError):
        raise PrivacyError("payload", "is not JSON in UTF-8") from None
    if not same:
        raise PrivacyError("payload", "holds more than its values say: a key twice, blanks, or letters written in code")
    if not isinstance(held, dict) or list(held) != ["schema", "installation", "entries"]:
        raise PrivacyError("payload", "has other fields than schema, installation, entries")
    if held["schema"] != SCHEMA or isinstance(held["schema"], bool | float):
        raise PrivacyError("schema", f"is not {SCHEMA}")
    if not isinstance(held["installation"], str) or not ids.HASH.fullmatch(held["installation"]):
        raise PrivacyError("installation", "is not 32 hex digits")
    if not isinstance(held["entries"], list) or len(held["entries"]) > MOST_ENTRIES:
        raise PrivacyError("entries", f"is no list of at most {MOST_ENTRIES}")
    for at, entry in enumerate(held["entries"]):
        if found := entry_problem(entry, known):
            raise PrivacyError(f"entries[{at}].{found[0]}" if found[0] else f"entries[{at}]", found[1])


def entry_problem(entry: Any, known: Collection[str] = ()) -> tuple[str, str] | None:
    """Why an entry may not leave, or not be taken: the field and the reason; None when nothing is wrong.

    Field and reason repeat nothing that the entry says, names of keys included.
    """
    if not isinstance(entry, Mapping):
        return "", "is no object"
    for field, check in _FIELDS.items():
        if field not in entry:
            return field, "is missing"
        if reason := check(entry[field], known):
            place, _, words = reason.rpartition("\0")
            return field + place, words
    if len(entry) > len(_FIELDS):
        return "", f"has {len(entry) - len(_FIELDS)} fields that are not on the list of what may be sent"
    return None


def _no_day(value: Any, known: Collection[str]) -> str | None:
    try:
        right = isinstance(value, str) and _DAY.fullmatch(value) and 2000 <= dt.date.fromisoformat(value).year < 2200
    except ValueError:
        right = False
    return None if right else "is not a day such as 2026-01-11"


def _no_id(value: Any, known: Collection[str]) -> str | None:
    return None if isinstance(value, str) and ids.HASH.fullmatch(value) else "is not 32 hex digits"


def _no_version(value: Any, known: Collection[str]) -> str | None:
    return (
        None if isinstance(value, str) and _VERSION.fullmatch(value) else "is not a version such as 2.6.0, or unknown"
    )


def _not_among(*allowed: str) -> Callable[[Any, Collection[str]], str | None]:
    def check(value: Any, known: Collection[str]) -> str | None:
        return None if isinstance(value, str) and value in allowed else f"is none of {', '.join(allowed)}"

    return check


def _no_seconds(value: Any, known: Collection[str] = ()) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return None if whole and value in STEPS_S else "is none of the steps that seconds are rounded to"


def _no_phases(value: Any, known: Collection[str]) -> str | None:
    if not isinstance(value, Mapping):
        return "is no object"
    allowed = ids.default_phases() | {ids.CUSTOM_PHASE}
    for name, seconds in value.items():
        if name not in allowed:
            return "has a phase that the tool does not ship"
        if reason := _no_seconds(seconds):
            return f".{name}\0{reason}"
    return None


def _no_answer(value: Any, known: Collection[str]) -> str | None:
    return None if value is None or isinstance(value, bool) else "is not true, false or null"


def _no_share(value: Any, known: Collection[str]) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = number and math.isfinite(value) and 0 <= value <= 1 and value == round(value, 2)
    return None if value is None or right else "is not between 0 and 1, in whole percents"


def _no_items(value: Any, known: Collection[str]) -> str | None:
    if not isinstance(value, list) or len(value) > 200:
        return "is no list of at most 200"
    allowed = ids.default_items()
    for at, one in enumerate(value):
        if not isinstance(one, str) or not (one in allowed or ids.CUSTOM_ITEM.fullmatch(one)):
            return f"[{at}]\0is neither an item that the tool ships nor custom: and 8 hex digits"
    return None


def _no_errors(value: Any, known: Collection[str]) -> str | None:
    if not isinstance(value, list) or len(value) > 50:
        return "is no list of at most 50"
    for at, one in enumerate(value):
        if not isinstance(one, str):
            return f"[{at}]\0is no text"
        if reason := "has more than one line" if "\n" in one else text_problem(one, known, longest=500):
            return f"[{at}]\0{reason}"
    return None


def _no_words(value: Any, known: Collection[str]) -> str | None:
    return text_problem(value, known) if isinstance(value, str) else "is no text"


_FIELDS: dict[str, Callable[[Any, Collection[str]], str | None]] = {
    "timestamp": _no_day,
    "workflow_id_hash": _no_id,
    "orchestrator_version": _no_version,
    "repo_type": _not_among(*get_args(RepoType)),
    "duration_seconds": _no_seconds,
    "phases": _no_phases,
    "phase0_guidance_used": _no_answer,
    "reviews_worked": _no_answer,
    "orchestrator_errors": _no_errors,
    "items_skipped": _no_items,
    "items_skipped_pct": _no_share,
    "confusing_items": _no_items,
    "tool_suggestions": _no_words,
    "mode": _not_among(*get_args(Mode)),
}
