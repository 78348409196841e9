"""Patterns over the feedback of many workflows: repeated errors, skipped items, missing reviews, phases that grow."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from feedback_lib.analysis.rates import wilson
from feedback_lib.analysis.text import error_template, fingerprint

PatternKind = Literal[
    "error", "skip", "reviews", "parallel", "challenge", "guidance", "phase", "went_well", "confusing"
]


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """When a pattern is one. The defaults are the workflow tool's own; every field stands in params/example.yaml.

    ``least_workflows``: with fewer that tell, no share of them warns.
    """

    error_workflows: int = 2
    skip_share: float = 0.8
    least_workflows: int = 3
    reviews_missing: float = 0.5
    parallel_share: float = 0.3
    challenge_workflows: int = 2
    challenge_similarity: float = 0.6
    drift_level: float = 0.95
    k: int = 5

    def __post_init__(self) -> None:
        """Refuse what would make a pattern of nothing.

        Raises:
            ValueError: a number of workflows is under 1, a share not from 0 to 1, a level not between 0 and 1.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, int):
                if value < 1:
                    raise ValueError(f"{field.name} = {value}: expected 1 or more")
            elif field.name == "drift_level":
                if not 0 < value < 1:
                    raise ValueError(f"{field.name} = {value}: expected a number between 0 and 1, such as 0.95")
            elif not 0 <= value <= 1:
                raise ValueError(f"{field.name} = {value}: expected a share from 0 to 1, such as {field.default}")


USUAL = Thresholds()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Something that holds for several workflows.

    Args:
        kind: of the pattern; ``key`` identifies it within its kind and stays the same from review to review.
        warns: someone should act; False for what is fine or only told.
        title: in words, such as ``Common error: "…"``.
        count: workflows it holds for, of ``of``; each once, however often it happened there.
        workflows: their ids (hashes when nothing else is known): the evidence.
        advice: what the workflow tool's own review suggests; "" for none.
        facts: the numbers behind the title (medians, intervals, examples), JSON-like.
    """

    kind: PatternKind
    key: str
    warns: bool
    title: str
    count: int
    of: int
    workflows: tuple[str, ...]
    advice: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def sentence(self) -> str:
        """The title with its counts, such as ``Often skipped: update_docs (8 of 10 workflows, 80%)``."""
        if not self.of or self.facts.get("tell") == 0:
            return self.title
        return f"{self.title} ({self.facts.get('counted') or counted(self.count, self.of)})"

    @property
    def mark(self) -> str:
        """What stands before it in the review: ⚠ someone should act, ✓ fine, · told, neither good nor bad."""
        if self.warns:
            return "⚠"
        good = self.kind in ("reviews", "parallel") and self.key != "failed" and not self.facts.get("few")
        return "✓" if good or self.kind == "went_well" else "·"


KINDS: tuple[PatternKind, ...] = (
    "error", "skip", "reviews", "parallel", "guidance", "confusing", "phase", "challenge", "went_well",
)  # fmt: skip
CONSISTENT = 0.8  # reviews in at least this share are called consistent, as in the workflow tool's own example
NEWEST = 2_000  # workflows a phase's drift is looked at in; all pairs of them are compared
EXACT = 100  # values up to which the distribution behind a drift's interval is counted, not approximated

Row = Mapping[str, Any]
Rows = Mapping[str, Row]  # by workflow, in the order of time


def find(
    tool: Sequence[Row],
    process: Sequence[Row],
    options: Thresholds = USUAL,
    *,
    similar: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> list[Pattern]:
    """The patterns that entries show; those that someone should act on first.

    Args:
        tool: tool entries, with the fields of the file. ``workflow`` names the workflow, in both lists alike; without
            it ``workflow_id_hash`` does. Of several entries of a workflow the last in time counts.
        process: process entries; without ``workflow`` their ``workflow_id`` names the workflow.
        options: when a pattern is one.
        similar: from texts to a number each, the same number for texts that mean the same; asked only when there are
            two different texts. None: only texts that are equal but for case and punctuation are the same.

    A field that an entry lacks, or that is null, says nothing: its workflow is in no ``of``. Only ``reviews_worked``
    null says something, that no review was made. Values of a wrong type are passed over.
    """
    tools, processes = _by_workflow(tool, "workflow_id_hash"), _by_workflow(process, "workflow_id")
    found = [
        *_errors(tools, processes, options),
        *_skipped(tools, options),
        *_reviews(tools, options),
        *_parallel(processes, options),
        *_guidance(tools),
        *_confusing(tools, options),
        *_phases(tools, options),
        *_alike("challenge", processes, "challenges", options, similar),
        *_alike("went_well", processes, "what_went_well", options, similar),
    ]
    return sorted(found, key=lambda p: (not p.warns, KINDS.index(p.kind), -p.count, p.title, p.key))


# --- errors -----------------------------------------------------------------------------------------------------------


def _errors(tools: Rows, processes: Rows, options: Thresholds) -> Iterator[Pattern]:
    """The same error, whatever its paths, numbers and line, in several workflows."""
    seen: dict[str, list[tuple[str, str, str]]] = {}  # fingerprint -> (workflow, origin, text)
    for origin, rows, field in (("tool", tools, "orchestrator_errors"), ("project", processes, "project_errors")):
        for workflow, row in rows.items():
            for text in _texts(row.get(field)):
                seen.setdefault(error_key(text), []).append((workflow, origin, text))
    for key, cases in seen.items():
        workflows = _distinct(w for w, _, _ in cases)
        if len(workflows) < options.error_workflows:
            continue
        origins = sorted({origin for _, origin, _ in cases})
        rows = {**tools, **processes} if len(origins) == 2 else tools if origins == ["tool"] else processes
        shown = headline(cases[-1][2])
        missing = re.search(r"\b(?:ModuleNotFoundError|ImportError|No module named|command not found)\b", shown)
        todo = "Add dependency check to PLAN phase" if missing else f"Find the cause of: {shortened(shown, 60)}"
        examples = list(dict.fromkeys(text for _, _, text in reversed(cases)))
        yield Pattern(
            kind="error",
            key=key,
            warns=True,
            title=f'Common error: "{shown}"',
            count=len(workflows),
            of=len(rows),
            workflows=workflows,
            advice=f'Add to roadmap: "{todo}"',
            facts=_share(len(workflows), len(rows))
            | {"origins": origins, "examples": examples[:3], "threshold": options.error_workflows},
        )


def error_key(text: str) -> str:
    """What identifies an error: its fingerprint; of a text in which no error is seen, the hash of its normal form."""
    text = text.encode("utf-8", "replace").decode()  # half a character, which JSON can hold, has no bytes
    cause = _cause(text)
    if cause is None:
        return text_key(text)
    return fingerprint(cause) or text_key(_VARIABLE.sub("#", cause))


def _cause(text: str) -> str | None:
    """What a command that failed printed, without the lines that only say so; None when it printed nothing.

    That pytest and a linter both left with 1 does not make their errors the same one.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not _EXIT.search(lines[0]):
        return text
    said = [line for line in lines[1:] if not line.startswith("$ ") and not _EXIT.fullmatch(line.strip())]
    return "\n".join(said) or None


def text_key(text: str) -> str:
    """What identifies a text but for case, punctuation and spacing."""
    return hashlib.sha256(normal(text).encode("utf-8", "replace")).hexdigest()[:16]


_VARIABLE = re.compile(r"(?:[A-Za-z]:)?(?:[\\/~][\w.@%+~-]+){2,}|\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{7,40}\b|\d+")


def headline(text: str, longest: int = 100) -> str:
    """The line of an error's text that says most: of a Python trace the last with an error, else the first.

    One that names the error and goes on (``Error: …``) says more than a mere code.
    """
    cause = _cause(text) or text
    lines = [line for line in cause.splitlines() if line.strip()]
    telling = [line for line in lines if error_template(line)] or lines or [""]
    if "Traceback (most recent call last)" in cause:
        return _worded(telling[-1], longest)
    return _worded(next((line for line in telling if _NAMED.search(line)), telling[0]), longest)


_EXIT = re.compile(r"\bexit (?:code|status) \d+", re.IGNORECASE)
_NAMED = re.compile(r"(?:Error|Exception): \S")


# --- items, reviews, parallel work, guidance --------------------------------------------------------------------------


def _skipped(tools: Rows, options: Thresholds) -> Iterator[Pattern]:
    rows = {
        w: frozenset(_texts(row["items_skipped"]))
        for w, row in tools.items()
        # earlier versions of the workflow tool wrote no list of what was skipped, and so no share either
        if _listed(row, "items_skipped") and (row["items_skipped"] or row.get("items_skipped_pct", 0) is not None)
    }
    if len(rows) < options.least_workflows:
        return
    for item in sorted(set().union(*rows.values())):
        workflows = tuple(w for w, items in rows.items() if item in items)
        if not reaches(len(workflows), len(rows), options.skip_share):
            continue
        yield Pattern(
            kind="skip",
            key=item,
            warns=True,
            title=f"Often skipped: {shortened(item)}",
            count=len(workflows),
            of=len(rows),
            workflows=workflows,
            advice="Consider making it optional, or removing it",
            facts=_share(len(workflows), len(rows)) | {"threshold": options.skip_share},
        )


def _reviews(tools: Rows, options: Thresholds) -> Iterator[Pattern]:
    rows = {w: row["reviews_worked"] for w, row in tools.items() if _told(row, "reviews_worked", none=True)}
    if not rows:
        return
    missing, failed = (tuple(w for w, worked in rows.items() if worked is value) for value in (None, False))
    made = tuple(w for w, worked in rows.items() if worked is not None)
    few = len(rows) < options.least_workflows
    warns = not few and reaches(len(missing), len(rows), options.reviews_missing)
    usual = "Reviews performed consistently" if reaches(len(made), len(rows), CONSISTENT) else "Reviews performed"
    usual = "Reviews performed" if few else usual
    shown = missing if warns else made
    facts = {"missing": len(missing), "worked": len(made) - len(failed), "failed": len(failed), "few": few}
    yield Pattern(
        kind="reviews",
        key="made",
        warns=warns,
        title="Reviews missing" if warns else usual,
        count=len(shown),
        of=len(rows),
        workflows=shown,
        advice="Add a reminder of reviews, or enforce them" if warns else "",
        facts=_share(len(shown), len(rows)) | facts | {"threshold": options.reviews_missing},
    )
    if failed:
        told = counted(len(failed), len(made), " with a review")
        yield Pattern(
            kind="reviews",
            key="failed",
            warns=len(failed) >= options.error_workflows,
            title="Reviews failed",
            count=len(failed),
            of=len(made),
            workflows=failed,
            advice="Look into why reviews fail" if len(failed) >= options.error_workflows else "",
            facts=_share(len(failed), len(made)) | {"counted": told, "threshold": options.error_workflows},
        )


def _parallel(processes: Rows, options: Thresholds) -> Iterator[Pattern]:
    rows = {w: row["parallel_agents_used"] for w, row in processes.items() if _told(row, "parallel_agents_used")}
    used = tuple(w for w, value in rows.items() if value)
    few = len(rows) < options.least_workflows
    rare = not few and not reaches(len(used), len(rows), options.parallel_share)
    if not processes:
        return
    if not rows:
        title = f"Parallel agents: none of {many(len(processes))} tells whether they were used"
    else:
        title = "Parallel agents rarely used" if rare else "Parallel agents used"
    silent = f", {len(processes) - len(rows)} more tell nothing" if len(rows) < len(processes) else ""
    yield Pattern(
        kind="parallel",
        key="used",
        warns=rare,
        title=title,
        count=len(used),
        of=len(rows),
        workflows=used,
        advice="Improve Phase 0 guidance in workflow.yaml" if rare else "",
        facts=_share(len(used), len(rows))
        | {"counted": counted(len(used), len(rows)) + silent, "tell": len(rows), "threshold": options.parallel_share}
        | {"few": few, "not_used": [w for w, value in rows.items() if not value]},
    )


def _guidance(tools: Rows) -> Iterator[Pattern]:
    rows = {w: row["phase0_guidance_used"] for w, row in tools.items() if _told(row, "phase0_guidance_used")}
    if not rows:
        return
    used = tuple(w for w, value in rows.items() if value)
    yield Pattern(
        kind="guidance",
        key="used",
        warns=False,
        title="Phase 0 guidance used",
        count=len(used),
        of=len(rows),
        workflows=used,
        facts=_share(len(used), len(rows))
        | {"counted": counted(len(used), len(rows), " that have it"), "tell": len(rows)},
    )


def _confusing(tools: Rows, options: Thresholds) -> Iterator[Pattern]:
    rows = {w: _texts(row["confusing_items"]) for w, row in tools.items() if _listed(row, "confusing_items")}
    said: dict[str, list[tuple[str, str]]] = {}
    for workflow, items in rows.items():
        for item in items:
            if not _nothing(item):
                said.setdefault(normal(item), []).append((workflow, item))
    for key, cases in said.items():
        workflows = _distinct(w for w, _ in cases)
        warns = len(workflows) >= options.challenge_workflows
        yield Pattern(
            kind="confusing",
            key=key,
            warns=warns,
            title=f"Confusing: {shortened(cases[0][1])}",
            count=len(workflows),
            of=len(rows),
            workflows=workflows,
            advice="Say in the workflow definition what it asks for" if warns else "",
            facts=_share(len(workflows), len(rows)) | {"threshold": options.challenge_workflows},
        )


# --- phases -----------------------------------------------------------------------------------------------------------


def _phases(tools: Rows, options: Thresholds) -> Iterator[Pattern]:
    """Each phase: its median, and how the later half of the workflows compares with the earlier half."""
    spent: dict[str, dict[str, float]] = {}
    for workflow, row in tools.items():
        phases = row.get("phases")
        for name, seconds in phases.items() if isinstance(phases, Mapping) else ():
            if _seconds(seconds):
                spent.setdefault(str(name), {})[workflow] = seconds
    dated = {n: [s for w, s in told.items() if when(tools[w].get("timestamp"))] for n, told in spent.items()}
    changes = growths(dated, options.drift_level)
    for name, by_workflow in spent.items():
        change = changes[name]
        earlier, later, ratio, low, high = change.earlier, change.later, change.ratio, change.low, change.high
        grew = low is not None and low > 1
        title, advice = f"Phase {shortened(name)}", ""
        drifts = grew or (high is not None and high < 1)
        if drifts and ratio is not None and low is not None and high is not None:
            level = f"{percent(change.level)} interval {_times(low)}–{_times(high)}"
            title = f"{title} takes {_times(ratio)} times as long as before ({level})"
            advice = f"Look at what made {shortened(name)} longer" if grew else ""
        median = statistics.median(by_workflow.values())
        yield Pattern(
            kind="phase",
            key=name,
            warns=grew,
            title=title,
            count=len(by_workflow),
            of=len(by_workflow),
            workflows=tuple(by_workflow),
            advice=advice,
            facts={
                "drifts": drifts,
                "counted": f"median {duration(median)} in {many(len(by_workflow))}",
                "median_s": median,
            }
            | {"earlier_median_s": statistics.median(earlier) if earlier else None, "earlier": len(earlier)}
            | {"later_median_s": statistics.median(later) if later else None, "later": len(later)}
            | {"ratio": ratio, "low": low, "high": high, "level": change.level},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Growth:
    """How something's later times compare with its earlier ones; ``level`` is that of its own interval."""

    earlier: Sequence[float]
    later: Sequence[float]
    ratio: float | None
    low: float | None
    high: float | None
    level: float


def growths(spent: Mapping[str, Sequence[float]], level: float = 0.95) -> dict[str, Growth]:
    """The later half of the times of each of several things against its earlier half, as `drift` gives it.

    Args:
        spent: seconds by name, in the order of time; the newest `NEWEST` count.
        level: Coverage of all intervals together (Bonferroni): where three things have enough values, each interval
            is at 1 - (1 - level) / 3.

    >>> growths({"PLAN": [1] * 5 + [2] * 5, "LEARN": [1] * 10, "VERIFY": [1]})["PLAN"].level
    0.975
    """
    halves = {}
    for name, seconds in spent.items():
        newest = seconds[-NEWEST:]
        half = len(newest) - len(newest) // 2
        halves[name] = newest[:half], newest[half:]
    tested = sum(1 for one, two in halves.values() if _cut(len(one), len(two), level) > 0)
    each = float(1 - (1 - _exact(level)) / max(1, tested))
    return {name: Growth(one, two, *drift(one, two, each), each) for name, (one, two) in halves.items()}


def drift(
    earlier: Sequence[float], later: Sequence[float], level: float = 0.95
) -> tuple[float | None, float | None, float | None]:
    """How many times as long something takes later as earlier, with an interval that supposes no distribution.

    Args:
        earlier: seconds, rounded down, 0 or more; 0 is taken as half a second.
        later: likewise.
        level: Coverage of the interval, at least.

    Returns:
        ratio, low, high: the median of all ratios later / earlier (of two middle ones their geometric mean), and the
        ratios between which the true one lies if both are the same but for a factor. All None when one side is empty,
        low and high None when there are too few values for the level (at 0.95, fewer than four in each half).

    Source: Hodges & Lehmann 1963; the interval is Moses', from the distribution of the Mann-Whitney statistic, see
    Hollander, Wolfe & Chicken, "Nonparametric Statistical Methods", 2014, section 4.3. It is counted exactly up to
    `EXACT` values and taken as normal beyond.

    >>> [round(x, 3) for x in drift([300, 310, 290, 305, 295], [600, 620, 580, 610, 590])]
    [2.0, 1.903, 2.102]
    """
    if not earlier or not later:
        return None, None, None
    import numpy as np

    ratios = np.divide.outer(np.maximum(later, 0.5), np.maximum(earlier, 0.5)).ravel()
    ratios.sort()
    many = len(ratios)
    middle = ratios[(many - 1) // 2], ratios[many // 2]
    ratio = float(middle[0] if middle[0] == middle[1] else np.sqrt(middle[0] * middle[1]))
    cut = _cut(len(earlier), len(later), level)
    if cut < 1:
        return ratio, None, None
    return ratio, float(ratios[cut - 1]), float(ratios[many - cut])


@functools.lru_cache(64)
def _cut(m: int, n: int, level: float) -> int:
    """How many of the ordered ratios are cut off at each end, plus 1; 0 when not even the outermost pair is enough."""
    tail = (1 - _exact(level)) / 2
    if m + n > EXACT:
        spread = (m * n * (m + n + 1) / 12) ** 0.5
        return max(0, int(m * n / 2 - statistics.NormalDist().inv_cdf(1 - float(tail)) * spread))
    ways, sofar = _ways(m, n), 0
    limit = tail * math.comb(m + n, m)
    for cut, count in enumerate(ways):
        sofar += count
        if sofar > limit:
            return cut
    return len(ways)


def _ways(m: int, n: int) -> list[int]:
    """In how many orders of m and n values the Mann-Whitney statistic is 0, 1, …, up to its middle."""
    ways = [1] + [0] * (m * n // 2)
    for i in range(1, m + 1):  # the Gaussian binomial coefficient, factor by factor
        for u in range(len(ways) - 1, n + i - 1, -1):
            ways[u] -= ways[u - n - i]
        for u in range(i, len(ways)):
            ways[u] += ways[u - i]
    return ways


# --- what people said -------------------------------------------------------------------------------------------------


def _alike(
    kind: Literal["challenge", "went_well"],
    processes: Rows,
    field: str,
    options: Thresholds,
    similar: Callable[[Sequence[str]], Sequence[int]] | None,
) -> Iterator[Pattern]:
    """What several workflows say with the same meaning."""
    said = [(w, text) for w, row in processes.items() for text in statements(row.get(field))]
    first: dict[str, str] = {}
    for _, text in said:
        first.setdefault(normal(text), text)
    numbers: Sequence[int] = range(len(first))
    if similar is not None and len(first) > 1:
        numbers = similar(list(first.values()))
        if len(numbers) != len(first):
            raise ValueError(f"similar gave {len(numbers)} numbers for {len(first)} texts")
    group = dict(zip(first, numbers, strict=True))
    cases: dict[int, list[tuple[str, str]]] = {}
    for workflow, text in said:
        cases.setdefault(group[normal(text)], []).append((workflow, text))
    tell = len({w for w, _ in said})
    for members in cases.values():
        workflows = _distinct(w for w, _ in members)
        if len(workflows) < options.challenge_workflows:
            continue
        text = members[0][1]  # the first that was said, so that the key stays when others join
        words = "Common challenge" if kind == "challenge" else "Went well"
        yield Pattern(
            kind=kind,
            key=text_key(text),
            warns=kind == "challenge",
            title=f'{words}: "{shortened(text)}"',
            count=len(workflows),
            of=tell,
            workflows=workflows,
            advice="Investigate what is behind it" if kind == "challenge" else "",
            facts=_share(len(workflows), tell)
            | {"text": text, "said": [{"workflow": w, "text": t} for w, t in members]}
            | {"counted": counted(len(workflows), tell, f" that {_NAMES[kind]}")}
            | {"similarity": options.challenge_similarity, "threshold": options.challenge_workflows},
        )


_NAMES = {"challenge": "name a challenge", "went_well": "say what did"}
_STATEMENT = re.compile(r"[\r\n]+|;\s+|(?<=[.!?])\s+(?=[A-Z0-9\"'`])")
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\d+[.)])\s+")
_NO_ANSWER = frozenset(
    ["", "no", "none", "nothing", "n a", "na", "nope", "skip", "skipped", "unknown", "todo", "tbd", "null"]
) | {"no challenges", "no challenge", "none really", "nothing special", "not applicable"}


def statements(value: Any) -> list[str]:
    """What an answer says, one statement each; "none" and its like say nothing."""
    if not isinstance(value, str):
        return []
    found = [_BULLET.sub("", part).strip() for part in _STATEMENT.split(value)]
    return [part for part in found if not _nothing(part)]


def groups(vectors: Any, least: float) -> list[int]:
    """Numbers of texts, the same for those of which each two have a cosine of at least ``least``.

    Args:
        vectors: (n, d), each of length 1.
        least: from which on two texts are similar; off by 1e-6 or less, which is what float32 can tell, is on it.

    Complete linkage: no text joins a group because of one member alone, so that a chain of neighbours is no group.
    """
    import numpy as np
    from scipy.cluster import hierarchy

    vectors = np.asarray(vectors, np.float64)
    if len(vectors) < 2:
        return [0] * len(vectors)
    apart = 1 - (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    tree = hierarchy.linkage(np.clip(apart, 0, 2), "complete")
    return [int(number) for number in hierarchy.fcluster(tree, 1 - least + 1e-6, "distance")]


# --- words and numbers ------------------------------------------------------------------------------------------------


def reaches(count: int, of: int, share: float) -> bool:
    """Whether a count is at least this share of the whole, compared exactly: 8 of 10 is 0.8, and 79.9 % is not 80 %."""
    return count >= _exact(share) * of


def _exact(share: float) -> Fraction:
    """The share as it was written."""
    return Fraction(str(share))


def counted(count: int, of: int, which: str = "") -> str:
    """Such as ``8 of 10 workflows with a review, 80%``."""
    return f"{count:,} of {many(of)}{which}, {percent(Fraction(count, of))}" if of else "no workflow"


def percent(share: Fraction | float) -> str:
    """A share in percent; rounding never makes it a whole number that it is not.

    >>> percent(Fraction(799, 1000)), percent(Fraction(2, 3)), percent(Fraction(19999, 25000))
    ('79.9%', '66.7%', '79.996%')
    """
    exact = 100 * (share if isinstance(share, Fraction) else _exact(share))
    if exact.denominator == 1:
        return f"{exact}%"
    for digits in range(1, 12):
        shown = f"{float(exact):.{digits}f}"
        if Fraction(shown).denominator != 1:
            break
    return f"{shown}%"


def duration(seconds: float) -> str:
    """Such as ``45s``, ``15min``, ``2.4h``."""
    if seconds < 60:
        return f"{seconds:g}s"
    return f"{seconds / 60:.0f}min" if seconds < 3_570 else f"{seconds / 3_600:.1f}h"


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"


def many(count: int, noun: str = "workflow", plural: str = "") -> str:
    """A count with its noun.

    >>> many(1), many(1200), many(2, "entry", "entries")
    ('1 workflow', '1,200 workflows', '2 entries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _share(count: int, of: int) -> dict[str, Any]:
    """A share with its 95 % interval."""
    low, high = wilson(count, of) or (None, None)
    return {"share": count / of if of else None, "low": low, "high": high, "level": 0.95 if of else None}


def when(value: Any) -> dt.datetime | None:
    """An entry's timestamp, in UTC, which is supposed where it names no zone; None when it is none."""
    try:
        found = dt.datetime.fromisoformat(value)
        return found.replace(tzinfo=found.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def normal(text: str) -> str:
    """A text without case, punctuation and spacing."""
    return " ".join(re.findall(r"\w+", text.casefold().replace("'", "")))


def shortened(text: str, longest: int = 100) -> str:
    """A text in one line, without control characters, cut where it is too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def _worded(text: str, longest: int) -> str:
    """As `shortened`, cut before a word; a word that is too long alone is cut."""
    whole, line = shortened(text, len(text)), shortened(text, longest)
    words = line.removesuffix("…").rpartition(" ")[0]
    return line if line == whole or not words else f"{words.rstrip(' ,;:(')}…"


def _by_workflow(rows: Sequence[Row], named: str) -> dict[str, Row]:
    """The last row of each workflow, in the order of time; those without a time come first."""
    early = dt.datetime.min.replace(tzinfo=dt.UTC)
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: when(r.get("timestamp")) or early):
        name = row.get("workflow") or row.get(named) or f"entry of {row.get('timestamp')}"
        found.pop(str(name), None)
        found[str(name)] = row
    return found


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str) and text.strip()) if _is_list(value) else ()


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _listed(row: Row, field: str) -> bool:
    return _is_list(row.get(field))


def _told(row: Row, field: str, *, none: bool = False) -> bool:
    """Whether an entry tells yes or no; ``none``: null tells something, too."""
    return isinstance(row.get(field), bool) or (none and field in row and row[field] is None)


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _nothing(text: str) -> bool:
    return normal(text) in _NO_ANSWER


def _distinct(workflows: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(workflows))
