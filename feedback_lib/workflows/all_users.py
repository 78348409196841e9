"""What many installations say of the tool together, and nothing that fewer than k of them say."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback_lib.analysis.patterns import USUAL, Pattern, Thresholds, find
from feedback_lib.workflows.collected import by_installation
from feedback_lib.workflows.review import Review

LEAST_K = 5  # installations that must say a thing before it is shown; options may ask for more, never for less
_EDGES = (0, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 604800)  # s; between them a phase lasts
_LISTS = ("items_skipped", "orchestrator_errors", "confusing_items")
_KINDS = ("error", "skip", "reviews", "guidance", "confusing")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AllUsers(Review):
    """What many installations say, of which nothing is said by fewer than ``k`` of them.

    ``installations`` is a multiple of ``k``, rounded down; None: there are fewer than ``k``. Counts of patterns are
    those of `shares`. No installation is named, so that ``workflows`` is empty.
    """

    window: str = "all users"
    workflows: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    k: int = LEAST_K
    installations: int | None = None
    phases: tuple[Mapping[str, Any], ...] = ()
    versions: tuple[Mapping[str, Any], ...] = ()

    def text(self) -> str:
        """As it is printed."""
        if self.installations is None:
            return f"Too few installations have sent feedback: nothing is shown of fewer than {self.k}."
        head = f"Feedback Review (all users, {_about(self.installations, self.k)})"
        lines = [head, "━" * len(head), "", "PATTERNS DETECTED:"]
        for pattern in self.patterns:
            lines.append(f"{pattern.mark} {pattern.sentence()}")
            lines += [f"   → Suggestion: {pattern.advice}"] if pattern.advice else []
        if not self.patterns:
            lines.append(f"None that {self.k} installations or more share.")
        if self.phases:
            lines += ["", "PHASES (what they usually take):"]
            lines += [f"  • {p['phase']}: {_span(p['from_s'], p['to_s'])} ({p['counted']})" for p in self.phases]
        if self.versions:
            lines += ["", "VERSIONS:", *(f"  • {v['version']}: {v['counted']}" for v in self.versions)]
        lines += [
            "",
            f"Each installation counts once. Nothing is shown that fewer than {self.k} say.",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-like; with nothing in it that the text does not tell."""
        fields = ("kind", "key", "warns", "title", "count", "of", "advice", "facts")
        return {
            "scope": "all users",
            "k": self.k,
            "installations": self.installations,
            "patterns": [{name: getattr(pattern, name) for name in fields} for pattern in self.patterns],
            "phases": [dict(phase) for phase in self.phases],
            "versions": [dict(version) for version in self.versions],
        }


def patterns(path: Path, options: Thresholds = USUAL) -> AllUsers:
    """What the installations in a collector's file say together.

    An installation weighs once, whatever it sent: it skips an item if it does so in at least half of its workflows,
    likewise guidance and reviews; it has an error or is confused by an item if any workflow says so; of each phase its
    median counts. A value that fewer than ``k`` installations sent is dropped before anything is computed.

    There is no window of time: two windows that differ by a day differ by what was sent on that day.

    Args:
        path: the file of ``feedback collect``; it may be in use.
        options: thresholds; ``k`` is at least `LEAST_K`, whatever stands there.

    Raises:
        ConfigError: there is no such file, it is another one, or damaged.
    """
    k = max(LEAST_K, options.k)
    voices = _frequent([_voice(number, entries) for number, entries in enumerate(by_installation(Path(path)))], k)
    if len(voices) < k:
        return AllUsers(k=k)
    options = dataclasses.replace(
        options, error_workflows=k, least_workflows=k, challenge_workflows=k, k=k
    )  # a pattern that fewer say is none
    found = find([{**voice, "phases": {}} for voice in voices], (), options)
    shown = [_shown_pattern(pattern, len(voices), k) for pattern in found if pattern.kind in _KINDS]
    return AllUsers(
        k=k,
        installations=_down(len(voices), k),
        patterns=tuple(sorted(filter(None, shown), key=lambda p: (not p.warns, _KINDS.index(p.kind), -p.count, p.key))),
        phases=tuple(_phases(voices, k)),
        versions=tuple(_versions(voices, k)),
    )


def _voice(number: int, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one installation says in all its workflows, as one entry."""
    skipped = collections.Counter(item for entry in entries for item in set(entry["items_skipped"]))
    told = [entry["phase0_guidance_used"] for entry in entries if entry["phase0_guidance_used"] is not None]
    reviews = [entry["reviews_worked"] for entry in entries if entry["reviews_worked"] is not None]
    seconds: dict[str, list[int]] = {}
    for entry in entries:
        for phase, lasted in entry["phases"].items():
            seconds.setdefault(phase, []).append(lasted)
    return {
        "workflow": str(number),
        "timestamp": None,
        "items_skipped": sorted(item for item, count in skipped.items() if 2 * count >= len(entries)),
        "orchestrator_errors": sorted({text for entry in entries for text in entry["orchestrator_errors"]}),
        "confusing_items": sorted({text for entry in entries for text in entry["confusing_items"]}),
        "phase0_guidance_used": 2 * sum(told) >= len(told) if told else None,
        "reviews_worked": 2 * sum(reviews) >= len(reviews) if 2 * len(reviews) >= len(entries) else None,
        "phases": {phase: statistics.median(lasted) for phase, lasted in seconds.items()},
        "orchestrator_version": entries[-1]["orchestrator_version"],
    }


def _frequent(voices: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """The voices without what fewer than ``k`` of them say, so that no rare text can come through a group."""
    for field in _LISTS:
        said = collections.Counter(text for voice in voices for text in voice[field])
        for voice in voices:
            voice[field] = [text for text in voice[field] if said[text] >= k]
    return voices


def _down(count: int, k: int) -> int:
    return count // k * k


def shares(count: int, rest: int, silent: int, k: int) -> tuple[int, int] | None:
    """A count and what it is of, as they may be shown, both as lower bounds; None for not at all.

    Neither leads to a group of fewer than ``k``: what it is of is a multiple of ``k``; the count is one, too, or all
    but ``k - 1`` when fewer than ``k``, or none, are left. Those that tell nothing are counted with those that say
    otherwise when they are fewer than ``k``, and left out when they are more.

    Args:
        count: installations that say it.
        rest: that say otherwise.
        silent: that tell nothing.
        k: the least to be shown.

    >>> shares(17, 6, 0, 5), shares(17, 4, 0, 5), shares(20, 0, 0, 5), shares(4, 30, 0, 5)
    ((15, 20), (16, 20), (16, 20), None)
    """
    if count < k:
        return None
    rest += silent if silent < k else 0
    of = _down(count + rest, k)
    return (max(k, of - k + 1) if rest < k else _down(count, k)), of


def _about(of: int, k: int) -> str:
    return f"{of}–{of + k - 1} installations"


def _told(count: int, of: int, k: int, which: str = "") -> dict[str, Any]:
    """The two numbers, also in words; a share only where the steps make little of it."""
    share = count / of if of >= 10 * k else None
    words = f", about {100 * share:.0f}%" if share is not None else ""
    return {"count": count, "of": of, "share": share, "counted": f"at least {count} of {_about(of, k)}{which}{words}"}


def _shown_pattern(pattern: Pattern, all_: int, k: int) -> Pattern | None:
    """A pattern of installations as it may be shown; it names none of them."""
    of = all_ if pattern.key == "failed" else pattern.of  # how many made reviews is not told twice
    title = pattern.title
    may = shares(pattern.count, of - pattern.count, all_ - of, k)
    if pattern.kind == "guidance":
        title = "Phase 0 guidance helpful"
        if may is None:
            title, may = "Phase 0 guidance not helpful", shares(of - pattern.count, pattern.count, all_ - of, k)
    if may is None:
        return None
    told = _told(*may, k, " that tell" if may[1] < _down(all_, k) else "")
    facts = {name: told[name] for name in ("counted", "share")}
    return dataclasses.replace(pattern, title=title, count=may[0], of=may[1], workflows=(), facts=facts)


def _phases(voices: Sequence[Mapping[str, Any]], k: int) -> Iterator[dict[str, Any]]:
    """Between which of the fixed edges a phase lasts in the middle of the installations, and in at least k of them."""
    for phase in sorted({phase for voice in voices for phase in voice["phases"]}):
        lasted = sorted(voice["phases"][phase] for voice in voices if phase in voice["phases"])
        may = shares(len(lasted), len(voices) - len(lasted), 0, k)
        if may is None:
            continue
        middle = lasted[(len(lasted) - 1) // 2]
        low = high = next(at for at in reversed(range(len(_EDGES))) if _EDGES[at] <= middle)
        while True:
            ceiling = _EDGES[high + 1] if high + 1 < len(_EDGES) else None
            if sum(_EDGES[low] <= s and (ceiling is None or s < ceiling) for s in lasted) >= k:
                break
            low, high = max(0, low - 1), min(len(_EDGES) - 1, high + 1)
        yield {"phase": phase, "from_s": _EDGES[low], "to_s": ceiling} | _told(*may, k)


def _versions(voices: Sequence[Mapping[str, Any]], k: int) -> list[dict[str, Any]]:
    """Versions by the installations that used them last; what is not shown is none or at least k."""
    held = collections.Counter(str(voice["orchestrator_version"]) for voice in voices)
    kept = sorted(((name, count) for name, count in held.items() if count >= k), key=lambda row: (-row[1], row[0]))
    rest = len(voices) - sum(count for _, count in kept)
    while len(kept) > 1 and 0 < rest < k:
        rest += kept.pop()[1]
    rows = []
    for name, count in kept:
        if may := shares(count, len(voices) - count, 0, k):
            rows.append({"version": name} | _told(*may, k))
    return sorted(rows, key=lambda row: (-row["count"], row["version"]))  # their exact order would tell more


def _span(low: int, high: int | None) -> str:
    """Two edges in words."""

    def words(seconds: int) -> str:
        for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
            if seconds >= size:
                return f"{seconds // size}{unit}"
        return f"{seconds}s"

    return f"{words(low)} or more" if high is None else f"{words(low)}–{words(high)}" if low else f"up to {words(high)}"
