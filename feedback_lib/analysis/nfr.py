"""Requirement lines of a Markdown specification, as targets a monitor can watch.

``read`` cuts the document into pieces (a bullet, a table cell, a paragraph) and sentences, finds the quantities of
each, the comparator beside each, and the words that say what is measured: first beside the number, then in its
sentence, its column and row, its parent bullets and its headings. What looks like a target and is none is kept with
the reason. The words are in `nfr_words`, the cutting in `nfr_markdown`.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from feedback_lib.analysis import nfr_words as words
from feedback_lib.analysis.nfr_markdown import ID, Piece, lower, pieces, sentences
from feedback_lib.analysis.nfr_words import LOW_IS_GOOD, Category, Op

NEAR = 60  # characters before a number in which its comparator stands
MAX_QUANTITIES = 20  # of a sentence; it is no requirement any more
QUICK_S = 5  # nobody does a task in fewer seconds

# ---- results ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One wanted limit: a comparator, a value and what they are said of."""

    line: int  # in the document, from 1
    text: str  # that line as written
    category: Category
    op: Op
    value: Decimal  # as written, in `unit`
    unit: str  # ns µs ms s min h d · % ‰ · req/s req/min req/h req/d · kB/s …
    value_si: Decimal  # seconds, a share of 1, events or bytes per second
    percentile: Decimal | None = None  # 0–100
    percentile_from_heading: bool = False  # it stands above the line, not in it
    window: str | None = None  # "day", "week", "month", "quarter", "year", or a length such as "30d" and "5m"
    subject: str | None = None  # what it is said of, in the author's words, or the metric's name
    lang: str | None = None  # ISO 639-1 when the line is not English
    confidence: float = 1.0  # 0–1: how little had to be guessed
    missing: tuple[str, ...] = ()  # what the author did not say: comparator, percentile, window, subject, query name

    @property
    def name(self) -> str:
        """A name for the metric: the one in backticks, or one made of subject, category and percentile."""
        if self.subject and "query name" not in self.missing:
            return self.subject
        subject = self.subject or ""
        said = [subject, "" if self.category.replace("_", " ") in subject.lower() else self.category]
        if self.percentile is not None:
            said.append(f"p{_short(self.percentile)}")
        folded = unicodedata.normalize("NFKD", " ".join(said).lower())
        letters = "".join(char for char in folded if not unicodedata.combining(char))
        slug = re.sub(r"[^\w]+", "-", letters.replace("_", "-")).strip("-")
        return re.sub(r"\b([a-z]+)(?:-\1\b)+", r"\1", slug)

    def to_dict(self) -> dict[str, Any]:
        """The target as JSON values; what is not known is left out."""
        raw = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        raw |= {"missing": list(self.missing), "name": self.name}
        if not self.percentile_from_heading:
            del raw["percentile_from_heading"]
        return {key: _json(value) for key, value in raw.items() if value is not None}


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """A line that looks like a target and is not used."""

    line: int
    text: str
    reason: str
    closest: str | None  # the nearest line that would be read


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What ``read`` found, in the order of the document."""

    targets: tuple[Target, ...]
    skipped: tuple[Skipped, ...]


def _json(value: object) -> object:
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def _short(value: Decimal) -> str:
    digits = f"{value:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def read(markdown: str) -> Reading:
    """The targets of a specification, and the lines that look like targets and could not be used.

    Args:
        markdown: The whole document; headings, tables and parent bullets give meaning to the lines below them. Fenced
            blocks are read when they are Markdown, or plain text whose line says everything itself.

    Returns:
        Targets and skipped lines in the order of the document. A line can hold several targets. No text is refused.

    >>> [target] = read("- API response time **p95 < 500 ms**").targets
    >>> target.category, target.op, target.value, target.unit, target.percentile
    ('latency', '<', Decimal('500'), 'ms', Decimal('95'))
    """
    targets: list[Target] = []
    skipped: list[Skipped] = []
    for piece in pieces(markdown):
        for start, end in sentences(piece.text):
            found, missed = _Sentence(piece, start, end).judge()
            targets += found
            skipped += missed
    once = {(entry.line, entry.reason): entry for entry in reversed(skipped)}
    return Reading(tuple(dict.fromkeys(targets)), tuple(reversed(once.values())))


# ---- quantities and comparators -----------------------------------------------------------------------------------


class _Quantity(NamedTuple):
    start: int
    end: int
    value: Decimal
    low: Decimal | None  # of a range
    unit: str
    dimension: str
    scale: Decimal
    plus: bool  # "1000+"
    noun: str  # of a rate: what there is so much of

    @property
    def value_si(self) -> Decimal:
        return self.value / self.scale if self.dimension == "rate" else self.value * self.scale


def _quantities(low: str, text: str, comma_lang: bool) -> Iterator[_Quantity]:
    """The numbers of a sentence that have a unit, from left to right."""
    for match in words.NUMBER.finditer(low):
        end, plus, factor, noun = match.end(), False, 1, ""
        if (times := words.TIMES.match(low, end)) and not (times["m"] == "m" and text[times.end() - 1] == "m"):
            end, factor = times.end(), words.TIMES_OF[times.lastgroup or ""]
        if low.startswith("+", end):
            end, plus = end + 1, True
        if unit := words.UNIT.match(low, end):
            name, dimension, scale, _ = words.UNITS[int((unit.lastgroup or "u0")[1:])]
        elif unit := words.PER.match(low, end):
            place = int((unit.lastgroup or "u4")[1:])
            name, dimension, scale, noun = words.PERIODS[place], "rate", words.UNITS[place][2], unit["noun"].strip()
        else:
            continue
        high = _decimal(match["high"], comma_lang, dimension == "ratio") * factor
        bottom = _decimal(match["low"], comma_lang, dimension == "ratio") * factor if match["low"] else None
        yield _Quantity(match.start(), unit.end(), high, bottom, name, dimension, Decimal(scale), plus, noun)


def _decimal(digits: str, comma_lang: bool, ratio: bool) -> Decimal:
    """A number as people write it: 1,000.5 · 1.000,5 · 1 000,5 · 99,9 · 1'000."""
    digits = re.sub(r"[ '_]", "", digits)
    mark = max(".,", key=digits.rfind)
    groups = digits.split(mark)
    if not ("." in digits and "," in digits):
        by_three = len(groups) == 2 and len(groups[1]) == 3 and groups[0].strip("0") != "" and not ratio
        if len(groups) > 2 or (by_three and (mark == "," or comma_lang)):
            return Decimal("".join(groups))
    *whole, part = groups if len(groups) > 1 else (digits, "")
    return Decimal(re.sub(r"[.,]", "", "".join(whole)) + (f".{part}" if part else ""))


@lru_cache(maxsize=1_000)
def _has(pattern: re.Pattern[str], text: str) -> bool:
    """Whether a pattern stands in a text; headings and sentences are asked again for each quantity."""
    return pattern.search(text) is not None


@lru_cache(maxsize=1_000)
def _named(text: str) -> tuple[tuple[int, Category], ...]:
    """What a share could measure by the words of a text, and where they stand."""
    return tuple(
        (match.start(), category)
        for category, (dimension, phrases) in words.CATEGORIES.items()
        if dimension == "ratio"
        for match in phrases.finditer(text)
    )


@lru_cache(maxsize=1_000)
def _percentiles(low: str) -> tuple[tuple[int, int, Decimal], ...]:
    """Begin, end and value (0–100) of each percentile a text names."""
    return tuple(_each_percentile(low))


def _each_percentile(low: str) -> Iterator[tuple[int, int, Decimal]]:
    for match in words.PERCENTILE.finditer(low):
        digits = (match["a"] or match["b"] or match["c"] or match["d"] or "50").replace(",", ".")
        if digits == "100":
            continue  # the maximum
        if match["a"] and "." not in digits and len(digits) > 2:
            digits = f"{digits[:2]}.{digits[2:]}"  # p999
        if 0 < Decimal(digits) < 100:
            yield match.start(), match.end(), Decimal(digits)


_FLIPPED: dict[Op, Op] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class _Comparator(NamedTuple):
    op: Op | None
    start: int  # where it begins in the text before the number
    said: bool  # False when it is only read into the words, as "<=" into "loads in 2 s"


def _comparator(left: str, right: str, last: bool) -> _Comparator:
    """The comparator of a number between the text before and the text behind it; `last` when no number follows."""
    near, shift = left[-NEAR:], max(len(left) - NEAR, 0)
    hits = [
        (match.end(), match.end() - match.start(), op, match)
        for op, phrases in words.OPS.items()
        for match in phrases.finditer(near)
        if words.FILLER.fullmatch(near, match.end())
    ]
    if hits:
        _, _, op, match = max(hits, key=lambda hit: hit[:2])
        start = match.start()
        if match[0][0].isalpha() and (negations := list(words.NOT.finditer(near, 0, start))):
            between = near[negations[-1].end() : start]
            reach = 5 if op in "<>" else 0
            if not re.search(r"[,;(]|\b(?:and|und|et)\b", between) and len(between.split()) <= reach:
                op, start = _FLIPPED[op], negations[-1].start()
        return _Comparator(op, shift + start, True)
    for op, phrases in words.AFTER.items():
        for match in phrases.finditer(right[:NEAR]):
            belongs_ahead = (
                not last and words.OPS[op].fullmatch(match[0]) and words.FILLER.fullmatch(right, match.end())
            )
            if words.GAP.fullmatch(right, 0, match.start()) and not belongs_ahead:
                return _Comparator(op, len(left), True)
    if far := words.FAR.search(left):
        return _Comparator("<=" if far["max"] else ">=", len(left), True)
    if weak := re.search(r"\bin (?:about |approx\w* )?$", left):
        return _Comparator("<=", weak.start(), False)
    return _Comparator(None, len(left), False)


# ---- a sentence to targets ----------------------------------------------------------------------------------------

_SEPARATOR = re.compile(
    r"[,;·•|(\[{、]| / | [-–—] |\b(?:and|und|et|y|with|while|but|plus|mit|avec|con)\b|และ|โดย|及", re.ASCII
)
_AND = re.compile(r"\b(?:and|und|et|y)\b|[,;]|和|และ")
_CIRCUMSTANCE = re.compile(r"\b(?:during|while|when|under|with)\b")  # what follows does not say what is measured
_PLAIN = re.compile(r"\b(?:uptime|availability|error rate)\W*$")  # whatever it is said of
_METRIC = re.compile(r"`([A-Za-z_][\w:.]*(?:_|:|\w\.\w+\.)[\w:.]*\w)`", re.ASCII)
_SEEN = re.compile(
    r"\b(?:see|sees|experience\w*|get|gets|receiv\w*|load\w*|latenc\w*|served|page views?|results?|response times?)\b"
)
_TARGET_COLUMN = re.compile(
    r"target|threshold|criteri|value|limit|max|min|metric|expected|desired|sla|slo|acceptance|[≤<≥>]|require|目標|zielwert"
)
_LETTER = {"time": "t", "ratio": "r", "rate": "p", "bytes": "b"}
_SILENT = "it does not say what is measured, or on which side of the number is good"
_NOWHERE = 99  # the rank of a category that no word names
_ROW = 5  # the rank of the last scope that belongs to the line


class _Sentence:
    """One sentence of a piece, and the judgement on each quantity in it."""

    def __init__(self, piece: Piece, start: int, end: int) -> None:
        self.piece, self.offset = piece, start
        self.text = piece.text[start:end]
        self.low = lower(self.text).replace("_", " ")
        self.own = (self.low, piece.column, lower(piece.row))
        self.quantities: list[_Quantity] = []
        self.outages: list[_Quantity] = []
        if not re.search(r"\d", self.low):
            return
        self.lang = _language(" ".join(self.own))
        self.percentiles = _percentiles(self.low)
        masked = self.low
        for first, behind, _ in self.percentiles:
            masked = masked[:first] + " " * (behind - first) + masked[behind:]
        found = list(islice(_quantities(masked, self.text, self.lang in words.COMMA_LANGS), MAX_QUANTITIES))
        for q in found:
            if q.dimension == "rate":
                masked = masked[: q.start] + "#" * (q.end - q.start) + masked[q.end :]
        self.spans = list(words.WINDOW.finditer(masked))
        found = [q for q in found if not any(s.start() <= q.start < s.end() for s in self.spans)]
        self.outages = [q for q in found if q.dimension == "time" and words.OUTAGE.match(self.low, q.end)]
        self.quantities = [q for q in found if q not in self.outages]
        self.shares = [q for q in self.quantities if self._is_share(q)]

    @property
    def formal(self) -> bool:
        """Whether a heading above says that these are requirements."""
        above, title = self.piece.above, self.piece.title
        return any(
            _has(words.FORMAL, text) or bool(_percentiles(text)) for text in above if text != title or len(above) == 1
        )

    @property
    def must(self) -> bool:
        """Whether the sentence speaks as a requirement."""
        return bool(_has(words.MUST, self.low) or ID.match(self.piece.lines[0][2].strip(" -*+|[]xX")))

    @property
    def aimed(self) -> bool:
        """Whether the column says that its cells are targets."""
        column = self.piece.column
        return bool(_has(words.MUST, column) or _has(_TARGET_COLUMN, column) or bool(_percentiles(column)))

    def judge(self) -> tuple[list[Target], list[Skipped]]:
        """The targets and the unusable quantities, in the order of the sentence."""
        targets: list[Target] = []
        skipped: list[Skipped] = []
        for index in range(len(self.quantities)):
            verdict = self._verdict(index, targets)
            if isinstance(verdict, Skipped):
                skipped.append(verdict)
            elif verdict and not any(  # "5000 ms (5 seconds)", "three nines (99.9 %)"
                t.value_si == verdict.value_si and (t.name == verdict.name or "comparator" in verdict.missing)
                for t in targets
            ):
                targets.append(verdict)
        if self.outages and not self.quantities and self.formal:
            skipped.append(Skipped(*self._line(self.outages[0].start), words.OUTAGE_REASON, None))
        elif not self.quantities and (unreadable := self._unreadable()):
            skipped.append(unreadable)
        return targets, skipped

    def _verdict(self, index: int, before: list[Target]) -> Target | Skipped | None:
        """What a quantity is: a target, something the author should hear about, or neither."""
        q, low = self.quantities[index], self.low
        begin = self.quantities[index - 1].end if index else 0
        last = index == len(self.quantities) - 1
        left, right = low[begin : q.start], low[q.end : len(low) if last else self.quantities[index + 1].start]
        compared = _comparator(left, right, last)
        alike = before[-1] if index and before and self._goes_on(index, before[-1], left) else None
        if alike and not compared.op and "comparator" not in alike.missing:  # "under 20 ms at p50 and 45 ms at p99"
            compared = compared._replace(op=alike.op, said=True)
        op: Op | None = compared.op or (">=" if q.plus and q.dimension != "time" else None)
        free = left[: compared.start]
        tail, head = _SEPARATOR.split(free)[-1], _SEPARATOR.split(right.lstrip(" ()"))[0]
        if q in self.shares or self._is_load(q, free):
            return None
        category, rank, clash = self._category(q, op, (tail, head, left, low[: q.end + len(right)], *self.own[1:]))
        if alike and category is None and not clash and len(tail.split()) <= 3:  # "99.9 % uptime, tier 1 99.95 %"
            category, rank = alike.category, 0
        percentile, from_heading = self._percentile(index, tail, head, free)
        if clash == "latency" and percentile and percentile <= 10:  # "under 1 % take longer than 2 s" is a p99
            category, clash, op, percentile = "latency", None, op and _FLIPPED[op], 100 - percentile
        own = rank <= _ROW or (percentile is not None and (self.formal or not from_heading))

        def skip(reason: str, wanted: Category | None = None, wanted_op: Op | None = None) -> Skipped | None:
            loud = self.must or q.plus or reason != _SILENT
            if not (compared.said or (loud and self.formal) or ((self.must or q.plus) and own)):
                return None
            return Skipped(*self._line(q.start), reason, _closest(wanted, percentile, wanted_op, q) if wanted else None)

        beside = bool(_percentiles(f"{tail} | {head}"))
        if reason := self._refused(
            q, (_SEPARATOR.split(left)[-1], head, free), compared.said and (rank <= 1 or beside)
        ):
            return skip(reason)
        if clash:
            return skip("a limit from this side is the condition of an alert, not a target", clash, op)
        if q.low is not None:
            return skip("a range has two limits", category, op)
        if not compared.said and words.ESTIMATE.search(left):
            return skip("an estimate, not a limit", category)
        if (
            category is None
            and q.dimension == "time"
            and (percentile or (op and (self.formal or (self.must and q.value_si <= 60) or q.unit in words.SUBSECOND)))
        ):
            category = "latency"
        if category is None or not self._holds(q, category, op, compared.said, own, free):
            return skip(_SILENT, category, op)
        metric = self._metric(q.start)
        subject = metric or self._subject(
            self.text[begin : begin + compared.start], self.text[q.end : q.end + len(head) + 1]
        )
        window = self._window() if category != "throughput" else None
        timed = q.dimension == "time"
        missing = {
            "comparator": op is None,
            "percentile": category == "latency" and percentile is None,
            "window": window is None,
            "subject": subject is None,
            "query name": metric is None,
        }
        doubts = (
            (0.1, not compared.said),
            (0.1, not compared.said and category not in ("availability", "throughput")),
            (0.15, rank > _ROW),
            (0.15, not (self.formal or self.must or self.aimed)),
            (0.05, missing["percentile"]),
            (0.05, _has(words.WISHED, low)),
            (0.2, self.piece.kind in ("code", "heading")),
        )
        number, text = self._line(q.start)
        return Target(
            line=number,
            text=text,
            category=category,
            op=">=" if category == "throughput" else op or _usual(category),  # "up to 1000 req/s" is a capacity
            value=q.value,
            unit=q.unit,
            value_si=q.value_si,
            percentile=percentile if timed else None,
            percentile_from_heading=from_heading and timed,
            window=window,
            subject=subject,
            lang=self.lang,
            confidence=round(max(1 - sum(doubt for doubt, there in doubts if there), 0.05), 2),
            missing=tuple(word for word, lacks in missing.items() if lacks),
        )

    # -- what a quantity is

    def _is_share(self, q: _Quantity) -> bool:
        """Whether a percentage is the percentile of a duration in the same sentence."""
        if q.dimension != "ratio" or not any(other.dimension == "time" for other in self.quantities):
            return False
        if match := words.SHARE_OF.match(self.low, q.end):
            return "time" not in match["noun"] or not _has(words.CATEGORIES["availability"][1], self.low)
        before = [other for other in self.quantities if other.end <= q.start]
        behind = [other for other in self.quantities if other.start >= q.end]
        if q.value >= 50 and before and before[-1].dimension == "time" and self.low[: q.start].rstrip().endswith("("):
            return True  # "300 ms (95 %)"
        if behind and behind[0].dimension == "time":  # "99 % under 1 s", "99 % requests < 1 s"
            between = words.CATEGORIES["throughput"][1].sub("", self.low[q.end : behind[0].start]).strip()
            if any(phrases.fullmatch(between) for phrases in words.OPS.values()):
                return True
        return bool(words.SHARE_BEFORE.search(self.low, max(q.start - 12, 0), q.start))

    def _goes_on(self, index: int, before: Target, left: str) -> bool:
        """Whether a quantity is listed beside the one before it, which is a target."""
        last = self.quantities[index - 1]
        return before.value == last.value and last.unit == self.quantities[index].unit and bool(_AND.search(left))

    def _is_load(self, q: _Quantity, free: str) -> bool:
        """Whether a quantity is the load under which another holds."""
        others = [other for other in self.quantities if other is not q and other.dimension != q.dimension]
        return bool(
            others
            and q.dimension in ("rate", "bytes", "ratio")
            and (match := words.LOAD_BEFORE.search(free))
            and not _has(words.BEARS, match[0])
            and (q.dimension != "ratio" or not any(c.search(match[0]) for _, c in words.CATEGORIES.values()))
        )

    def _category(
        self, q: _Quantity, op: Op | None, scopes: tuple[str, ...]
    ) -> tuple[Category | None, int, Category | None]:
        """What a quantity measures, the rank of the scope that says so, and what it would be the wrong way round."""
        wanted_low = op in ("<", "<=") if op else q.dimension == "ratio" and q.value_si <= Decimal("0.5")
        label = self.low[: self.quantities[0].start].rpartition(":")[0]
        near = " | ".join((*scopes[:3], *scopes[4:], label))
        if q.dimension in ("rate", "bytes"):
            if op == "<":  # "up to" is a capacity, "under" is not
                return None, 0, "throughput"
            named = _has(words.CATEGORIES["throughput"][1], near + q.noun)
            return "throughput", 0 if self._bears() or named else _NOWHERE, None
        if q.dimension == "time":
            if re.search(r"\bmtbf\b|time between failures", near):
                return (None if wanted_low else "reliability"), 0, None
            clash: Category | None = "latency" if op and not wanted_low else None
            if _has(words.CATEGORIES["freshness"][1], near):
                return (None if clash else "freshness"), 0, clash and "freshness"
            latency = words.CATEGORIES["latency"][1]
            rank = next((i for i, text in enumerate(scopes) if _has(latency, text)), _NOWHERE)
            if rank == _NOWHERE and any(_has(words.CATEGORIES["freshness"][1], text) for text in self.piece.near):
                return (None if clash else "freshness"), _ROW, clash and "freshness"
            return (None if clash or rank == _NOWHERE else "latency"), rank, clash
        for rank, text in enumerate((*scopes, *self._told_above())):  # the word nearest to the number, or the last one
            hits = sorted(_named(text), reverse=rank in (0, 2, 4, 5))
            fitting = [c for _, c in hits if (c in LOW_IS_GOOD) == wanted_low or (not op and c == "saturation")]
            if rank == _ROW:  # "Availability | successful / all requests"
                fitting.sort(key="reliability".__eq__)
            if fitting:
                return fitting[0], rank, None
            if hits and op and rank <= _ROW:
                return None, rank, hits[0][1]
        return None, _NOWHERE, None

    def _told_above(self) -> tuple[str, ...]:
        """What stands above a line that does not name its measure: "Target: > 95 %", "Checkout: 99.95 %"."""
        label, _, rest = self.low.rpartition(": ")
        rest = words.WINDOW.sub(" ", _SEPARATOR.split(re.sub(r"\([^()]*\)?", " ", rest))[0])
        for phrases in (*words.OPS.values(), *words.AFTER.values(), words.MUST):
            rest = phrases.sub(" ", rest)
        if len(re.findall(r"[^\W\d]{2,}", rest)) > 1 or words.NAMED_SHARE.search(label or self.own[2]):
            return ()
        above = self.piece.near if label and not _has(words.MUST, label) else self.piece.above
        return tuple(words.GENERIC.sub("", text) for text in above)

    def _bears(self) -> bool:
        texts = (*self.own, *self.piece.near)
        return any(_has(words.BEARS, text) or _has(words.CAPACITY, text) for text in texts)

    def _holds(self, q: _Quantity, category: Category, op: Op | None, said: bool, own: bool, free: str) -> bool:
        """Whether enough is said to take a quantity for a target."""
        if self.piece.kind in ("code", "heading"):
            return said and own and (self.formal or self.piece.kind == "heading")
        if q.unit in ("h", "d") and category == "latency":
            return op is not None and q.unit == "h" and own
        cue = self.must or self.formal or self.aimed
        if q.dimension in ("rate", "bytes"):
            return (self._bears() or ((self.formal or self.must) and q.dimension == "rate")) and (op is not None or cue)
        if op is None and category == "saturation":  # or a setting
            return self.must or self.aimed or ":" in free
        if op is None and q.dimension == "ratio":
            return cue or (q.value_si >= Decimal("0.9") and (category == "availability" or ":" in free))
        if not said:  # "page load time: 2 s", "loads in 2 s"
            stands = self.piece.kind == "cell" or words.SET.search(free) or not free.strip(" (") or op
            return own and cue and bool(stands) and (op is None or bool(_has(words.CATEGORIES["latency"][1], free)))
        return True

    def _refused(self, q: _Quantity, parts: tuple[str, str, str], named: bool) -> str | None:
        """The reason why a quantity is no target, whatever is compared with it."""
        tail, head, free = parts
        place = self.offset + q.start
        if self.piece.text.count('"', 0, place) % 2 and '"' in self.piece.text[place:]:
            return "a text shown to people"
        if re.search(r"[$€£¥฿] ?$", free):
            return "an amount of money"
        if match := words.LENGTH_BEFORE.search(free):
            by = re.search(r"\bby\b", match[0])
            if q.dimension == "time" and not by:
                return "a length of time or an interval, not a measured duration"
            if q.dimension == "ratio" and by:
                return "a change, not a level"
        if q.dimension != "rate" and words.HELD_FOR.match(self.low, q.end):
            return "a condition of an alert or an action, not a target"
        if any(_has(words.NO_REQUIREMENTS, text) for text in self.piece.above if text != self.piece.title):
            return "its section does not hold requirements"
        label = self.low[: self.quantities[0].start].rpartition(":")[0]
        if label and words.NO_REQUIREMENT.search(label):
            return "its label says that it is no requirement"
        if re.search(r"[×*] ?\d|\d ?[×*] |\d[^<>≤≥]{0,12}[^<>≤≥]= ?~?\d", self.low):
            return "a calculation, not a limit"
        quick = q.dimension == "time" and (q.value_si <= QUICK_S or (q.value_si <= 60 and bool(_has(_SEEN, self.low))))
        named = (
            named
            and not re.match(r"(?:duration|frequency|schedule)\W", self.low)
            and (q.dimension != "rate" or bool(_has(words.BEARS, self.low)))
        )
        behind = _CIRCUMSTANCE.split(head)[0][:40]
        ahead = free if "(" in free else tail
        if q.dimension == "ratio" and (plain := _PLAIN.search(_SEPARATOR.split(free)[-1])):
            ahead = plain[0]
        beside = " | ".join((ahead, behind, q.noun.rpartition(" ")[2]))
        for rule in words.REJECTS:
            if _LETTER[q.dimension] not in rule.dimensions or (rule.patient and quick):
                continue
            scope = {"l": [self.low[: q.start]], "h": []}.get(rule.reach, [beside])
            if "s" in rule.reach:
                scope += self.own[1:] if named and not rule.patient else self.own
            if "h" in rule.reach and not named:
                scope += self.piece.near
            if any(_has(rule.words, text) for text in scope):
                return rule.reason
        return None

    # -- what is said of it

    def _percentile(self, index: int, tail: str, head: str, free: str) -> tuple[Decimal | None, bool]:
        """The percentile a quantity is said of, and whether it stands above the line."""
        if self.shares:
            of_each = len(self.shares) * 2 == len(self.quantities)  # "95 % within 30 s, 99 % within 5 min"
            return self.shares[index // 2 if of_each else 0].value, False
        for text, place in ((tail, -1), (head, 0), (free, -1)):
            if values := [value for *_, value in _percentiles(text)]:
                return values[place], False
        here = [value for *_, value in self.percentiles]
        behind = [value for start, _, value in self.percentiles if start >= self.quantities[-1].end]
        label = ":" in self.low[: self.quantities[0].start]
        if here and (behind == here or (len(here) == 1 and (label or "(" in free or not re.search(r"[^\W\d]", tail)))):
            return here[0], False
        for text in self.own[1:]:
            if values := [value for *_, value in _percentiles(text)]:
                return values[0], False
        for text in self.piece.above:
            if values := [value for *_, value in _percentiles(text)]:
                return (values[0], True) if len(values) == 1 else (None, False)
        return None, False

    def _window(self) -> str | None:
        """The length of time the target holds for, as said in the sentence, its row or above it."""
        spans = [*self.spans, *(m for text in (*self.own[1:], *self.piece.above) for m in words.WINDOW.finditer(text))]
        for span in spans:
            if span.lastgroup in ("month", "quarter", "week", "year", "day"):
                return span.lastgroup
            count, unit = int(span["a"] or span["b"] or span["c"]), span["au"] or span["bu"] or span["cu"]
            if unit.startswith("month"):
                return {1: "month", 3: "quarter", 12: "year"}.get(count, f"{count * 30}d")
            return f"{count}{unit[0] if unit[0] in 'hmwd' else 'd'}"
        return None

    def _line(self, at: int) -> tuple[int, str]:
        """Number and text of the source line that holds a place of the sentence."""
        _, number, raw = [line for line in self.piece.lines if line[0] <= self.offset + at][-1]
        return number, raw.strip()

    def _metric(self, at: int) -> str | None:
        """The metric named in backticks: in a row the first, in a sentence the last before the number."""
        names: list[str] = _METRIC.findall(self._line(at)[1])
        if self.piece.kind == "cell" or len(names) < 2:
            return names[0] if names else None
        before = [(place, name) for name in names if 0 <= (place := self.text.find(name)) < at]
        return max(before)[1] if before else names[0]

    def _subject(self, before: str, behind: str) -> str | None:
        """What is measured, in the author's words: beside the number, in the row, in the line that introduces it."""
        candidates = [part for text in reversed(before.split(":")) for part in (_SEPARATOR.split(text)[-1], text)]
        for text in (*candidates, *self.piece.row.split(" · "), *self.piece.near[:1]):
            if subject := _noun(text):
                return subject
        return None

    def _unreadable(self) -> Skipped | None:
        """A requirement without a usable number, with a line like the one it would have to be."""
        if self.piece.kind in ("heading", "code") or not (self.formal or self.must):
            return None
        everything = " ".join(self.own)
        named = _has(words.NAMED, everything)
        closest = next(
            (words.EXAMPLES[c] for c, (_, w) in words.CATEGORIES.items() if named and w.search(everything)), None
        )
        digits = re.search(r"\d", self.low)
        for phrases, reason in words.UNREADABLE:
            if phrases.search(self.low) and (named if reason == words.PLACEHOLDER else digits and self.formal):
                return Skipped(*self._line(0), reason, closest if reason == words.PLACEHOLDER else None)
        compared = _has(words.VAGUE, self.low) or any(phrases.search(self.low) for phrases in words.OPS.values())
        if named and compared and not digits and self.formal and len(self.low.split()) <= 20 and '"' not in self.low:
            return Skipped(*self._line(0), "it gives no number", closest)
        return None


def _usual(category: Category) -> Op:
    return "<=" if category in LOW_IS_GOOD else ">="


def _closest(category: Category, percentile: Decimal | None, op: Op | None, q: _Quantity) -> str | None:
    """A line that would be read, as near to the one that was not as its words allow."""
    if words.CATEGORIES[category][0] != q.dimension or q.unit in ("h", "d"):
        return None
    op = op or _usual(category)
    if (category in LOW_IS_GOOD) != (op in ("<", "<=")):
        op = _FLIPPED[op]
    label = re.split(r" p95| [<>]", words.EXAMPLES[category])[0]
    share = f" p{_short(percentile)}" if percentile is not None and category == "latency" else ""
    return f"{label}{share} {op} {_short(q.value)} {q.unit}"


def _language(low: str) -> str | None:
    """The language of a text by its script or its commonest words here; None for English and when nothing tells."""
    for code, letters in words.SCRIPTS:
        if re.search(letters, low):
            return code
    counts = {code: len(set(phrases.findall(low))) for code, phrases in words.LANG_WORDS.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] >= 2 else None


def _noun(text: str) -> str | None:
    """The words that name something: no verb, no measure at either end; None when none is left."""
    named = words.VERB.sub("", text[-200:]).strip(" :,.;()[]<>≤≥=~|-").split()
    while named and (named[0].lower() in words.MEASURE or re.fullmatch(r"[\W\d]+|t?p\d+", named[0].lower())):
        named = named[1:]
    while named and (
        named[-1].lower().strip("()") in words.MEASURE
        or re.fullmatch(r"[\W\d]+|\(?t?p[\d.]+\)?|\d+th", named[-1].lower())
    ):
        named = named[:-1]
    if all(word.lower().strip("()[],*") in words.NOT_A_SUBJECT or not re.search(r"[^\W\d]", word) for word in named):
        return None
    return " ".join(named)[:60].strip(" :,.;()[]")
