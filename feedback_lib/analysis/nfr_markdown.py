"""A Markdown document as the pieces of plain text a requirement can stand in, each with what stands around it."""

from __future__ import annotations

import dataclasses
import html
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from feedback_lib.analysis.nfr_words import PERCENTILE

MAX_SENTENCE = 1_000  # characters; a longer one is read in parts
MAX_CHARS = 4_000  # of a line; what stands behind them is not read


@dataclasses.dataclass(slots=True)
class Piece:
    """A stretch of text that belongs together, and what stands around it (in lower case)."""

    text: str  # plain
    lines: list[tuple[int, int, str]]  # where each source line begins in `text`, its number, itself
    kind: str = "text"  # text, heading, cell or code
    column: str = ""  # the header of a cell
    row: str = ""  # the other cells of its row that hold no target of their own
    near: tuple[str, ...] = ()  # parent bullets, the line that introduces the list, the nearest heading
    above: tuple[str, ...] = ()  # these and the other headings, nearest first
    title: str = ""  # of the document: it names the product, not what stands below


# ---- one way to write it ------------------------------------------------------------------------------------------

_TAGS = re.compile(
    r"</?(?:b|i|em|strong|code|br|sub|sup|span|kbd|u|p|td|tr|th|small|mark)\b[^<>]{0,200}>", re.IGNORECASE
)
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SPELT_OUT = {f"{n} nines": f"{99 if i == 1 else '99.' + '9' * (i - 1)}%" for i, n in enumerate(_COUNTS) if i} | {
    f"{words} {unit}": f"{count} {unit}"
    for unit in ("second", "minute", "hour", "millisecond")
    for words, count in zip(_COUNTS, range(1, 11), strict=True)
}
_SPELT = re.compile(rf"(?<!per )\b({'|'.join(sorted(_SPELT_OUT, key=len, reverse=True))})(?=s?\b)", re.IGNORECASE)
_NUMERAL = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty|seventy"
    r"|eighty|ninety|hundred|thousand|and|point|per ?cent"
)
_SIGNS = {"≦≲⩽": "≤", "≧≳⩾": "≥", "\u2010\u2212": "-", "’": "'", "“”„": '"', "⁰¹²³⁴⁵⁶⁷⁸⁹": "^"}
_ONE_SIGN = str.maketrans({char: sign for chars, sign in _SIGNS.items() for char in chars})
_REWRITES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"!?\[([^\]\[]{0,200})\]\([^()\s]{0,500}\)", r"\1"),  # links
        (r"~~[^~]*~~", ""),
        (r"\\(?:leq?|le)\b", "≤"),
        (r"\\(?:geq?|ge)\b", "≥"),
        (r"\\([^\w\s])", r"\1"),
        (r"[*`]|(?<![^\W_])_+|_+(?![^\W_])|\$(?=[<>≤≥\\])|(?<=[\d%])\$", ""),
        (r"^\s*(?:>\s?)+(?![\s\d.=])", ""),  # quotations, but not "> 99.9 %"
        (r"^\s*(?:\[[ xX]\]|[✅☐☑✔✓❌•])\s*", ""),
        (r"[毎每](秒|分)([^\d]{0,8})(\d[\d,.]{0,12}[万萬k]?)", r"\2\3/\1"),
        (r"초당 ?(\d[\d,.]{0,12}만?)", r"\1/초"),
        (rf"(?i)\b(?:(?:{_NUMERAL})[ -]?)+ ?\((\d[\d.,]{{0,12}} ?%?)\)", r"\1"),  # three hundred (300)
        (r"\bsub-?(?=\d)", "under "),
        (r"\bsub-?second\b", "under 1 second"),
        (r"(?i)\bhalf a (?=second\b|minute\b)", "0.5 "),
        (r"(?i)\b(than|within|under|below|in) an? (?=(?:second|minute|hour)\b)", r"\1 1 "),
        (r"\{\{[^{}]*\}\}", "{{}}"),
        (r"\s+", " "),
    )
)
_IN_ONE = re.compile(
    r"((?:\bp\d{2,3}(?:\.\d)? ?/ ?){1,5}p\d{2,3}(?:\.\d)?\b)([^\d/]{0,40}?)((?:\d{1,7} ?/ ?){1,5}\d{1,7})"
    r"( ?[a-zA-Zμ%]{1,12})"
)
ID = re.compile(  # NFR-001, SC-007:, [FEAT-001-PAC002]
    r"\[?(?:[A-Z][A-Z0-9]{0,9}(?:[-_.][A-Z0-9]{1,9}){0,4}[-_][A-Z]{0,5}\d{1,6}[a-z]?|(?!TP)[A-Z]{2,5}\d{1,6}(?=[\]:.)]))\]?"
    r"(?!\w)[\s:.)|–-]*"
)


def plain(marked: str) -> str:
    """Text without Markdown and leading identifier, with one way to write signs, widths, spaces and spelt numbers."""
    text = _TAGS.sub(" ", html.unescape(marked[:MAX_CHARS]).translate(_ONE_SIGN))
    text = re.sub(r"(?<=\d)[\u00a0\u2007-\u200a\u202f](?=\d{3}(?!\d))", "", text)
    text = unicodedata.normalize("NFKC", text).translate(_ONE_SIGN)
    text = "".join(char for char in text if char.isprintable() or char == "\t").strip()
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    text = text.strip()
    if identifier := ID.match(text):
        text = text[identifier.end() :]
    text = _SPELT.sub(lambda match: _SPELT_OUT[match[1].lower()], text)
    return _IN_ONE.sub(_one_by_one, text).strip()


def _one_by_one(match: re.Match[str]) -> str:
    """``p50/p95 < 50/100 ms`` as ``p50 < 50 ms, p95 < 100 ms``."""
    names, values = re.split(r" ?/ ?", match[1]), re.split(r" ?/ ?", match[3])
    if len(names) != len(values):
        return match[0]
    return ", ".join(f"{name}{match[2]}{value}{match[4]}" for name, value in zip(names, values, strict=True))


def lower(text: str) -> str:
    """Lower case of the same length, so that places in one are places in the other."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


_SENTENCE_END = re.compile(
    r"(?<!e\.g)(?<!i\.e)(?<!z\.B)(?<!max)(?<!min)(?<!approx)(?<!vs)(?<!resp)(?<!\d)[.!?] +(?=[^\W\d_])|[。!]"
)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends."""
    start = 0
    for end in (*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)):
        while end - start > MAX_SENTENCE:
            yield start, start + MAX_SENTENCE
            start += MAX_SENTENCE
        yield start, end
        start = end


# ---- lines to pieces ----------------------------------------------------------------------------------------------

_FENCE = re.compile(r"(`{3,}|~{3,})\s*([\w+-]*)[^`]*$")
_READ_FENCES = {"markdown": "text", "md": "text", "": "code", "text": "code", "txt": "code", "plain": "code"}
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"(?:[-*+•◦▪–]|\(?(?:\d{1,3}|[a-z])[.)])\s+")
_INDICATOR = re.compile(r"(?:sli|indicator|metric|measure)s?\b[^:]{0,20}:")
_RULE = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?")
_LABEL = re.compile(r"(?:\*\*|__)[^*]+(?:\*\*|__)\s*[:\uff1a]?|[^|]{1,100}[:\uff1a]")
_IGNORED = re.compile(  # columns whose numbers are not targets
    r"current|actual|baseline|today|(?<!response )measure(?!s?$)|\bnow\b|as-is|status|owner|priority|notes?\b|rationale"
    r"|comment|\bwhy\b|reason|remark|warning|critical|alert|breach|previous|probability|impact|mitigation|budget"
    r"|remaining|consumed|observed|existing|example|effort|\bcost|time-?out|ttl|retention|error budget"
    r"|downtime|method|\bhow\b|tool\b|window|period|verif|\brto\b|\brpo\b"
    r"|rate limit|forecast|projected|\bin \d+ |^(?:month|year) \d|phase|\bid\b|percentile|conditions?\b"
)
_ASIDE = re.compile(  # of these, the columns that say how a target is meant
    r"measure|method|how|tool|window|period|verif|condition|percentile|scope"
)


_UNIT_IN_WORDS = re.compile(  # "Latency (ms)", "time in s", "Requests per second"
    r"\(([^()]{1,12})\)\s*$|\bin (\S+)$|(\S+ (?:per|por|par|pro) \w+|\S+ ?/ ?s(?:ec)?)$"
)
_AIM = re.compile(r"target|goal|objective|\bslos?\b|目標|zielwert")  # beside such a column only these hold limits:
_PROMISE = re.compile(r"^(?:target|slo|sla|commitment|guarantee)s?$")  # a column of what is kept, not of what is missed
_LIMIT = re.compile(r"\bmax|\bmin\b|\bminimum|limit|threshold|stretch|\bslas?\b|\bp\d\d")


def lines(markdown: str) -> Iterator[tuple[int, str, str]]:
    """Number, text and kind of each line; code, comments and front matter come as empty lines."""
    rows = markdown.split("\n")
    front = rows[0].strip() == "---" and any(row.strip() in ("---", "...") for row in rows[1:100])
    fence, readable, comment = "", "", False
    for number, raw in enumerate(rows, start=1):
        bare = raw.strip()
        marker = _FENCE.match(bare)
        if front:
            front = number == 1 or bare not in ("---", "...")
            yield number, "", "text"
        elif fence:
            closes = bool(marker) and bare.startswith(fence) and not bare.strip(fence[0])
            yield number, "" if closes or not readable else raw, readable or "text"
            fence = "" if closes else fence
        elif marker:
            fence, readable = marker[1], _READ_FENCES.get(marker[2].lower(), "")
            yield number, "", "text"
        else:
            kept = raw
            if comment or "<!--" in raw:
                kept, comment = _uncommented(raw, comment)
            yield number, kept, "text"


def _uncommented(raw: str, comment: bool) -> tuple[str, bool]:
    kept = ""
    for part in re.split(r"(<!--|-->)", raw):
        if part in ("<!--", "-->"):
            comment = part == "<!--"
        elif not comment:
            kept += part
    return kept, comment


class _Around:
    """What stands above the current line."""

    def __init__(self) -> None:
        self.headings: list[tuple[int, str]] = []
        self.parents: list[tuple[int, str]] = []
        self.bold = self.lead = ""  # a bold line over a list; a line that ends in a colon
        self.indicator = ""  # the line beside the objective that says what is measured
        self.title = ""

    def texts(self) -> tuple[tuple[str, ...], tuple[str, ...], str]:
        """What a piece knows as `near`, `above` and `title`."""
        leads = (text for text in (self.indicator, self.lead, self.bold) if text)
        inner = (*(text for _, text in reversed(self.parents)), *leads)
        outer = tuple(text for _, text in reversed(self.headings))
        return (*inner, *outer[:1]), (*inner, *outer), self.title

    def enter(self, level: int, text: str) -> None:
        while self.headings and self.headings[-1][0] >= level:
            self.headings.pop()
        self.title = lower(text) if level == 1 and not (self.headings or self.title) else self.title
        self.headings.append((level, lower(text)))
        self.parents, self.bold, self.lead, self.indicator = [], "", "", ""


def pieces(markdown: str) -> Iterator[Piece]:
    """The document from top to bottom."""
    around = _Around()
    header: list[str] | None = None
    current: Piece | None = None
    for (number, raw, kind), (_, following, _) in pairwise([*lines(markdown), (0, "", "")]):
        expanded = raw[:MAX_CHARS].expandtabs(4).rstrip()
        bare = expanded.strip()
        indent = len(expanded) - len(expanded.lstrip())
        item = _ITEM.match(bare)
        if current and bare and not item and kind == "text" and _continues(current.text, bare):
            current.lines.append((len(current.text) + 1, number, raw))
            current.text += " " + plain(bare)
            continue
        if current:
            yield current
            current = None
        header = header if "|" in bare else None
        if not bare or set(bare) <= set("-=*_ "):
            continue
        source = [(0, number, raw)]
        if kind == "code":
            yield Piece(plain(bare), source, "code", "", "", *around.texts())
        elif heading := _HEADING.match(bare):
            text = plain(heading[2].rstrip(" #"))
            around.parents, around.bold, around.lead = [], "", ""
            yield Piece(text, source, "heading", "", "", *around.texts())
            around.enter(len(heading[1]), text)
        elif "|" in bare and (header is not None or bare.startswith("|") or _is_rule(following)):
            if _is_rule(following) and not _is_rule(bare):
                header = [lower(plain(cell)) for cell in _cells(bare)]
            elif not _is_rule(bare):
                yield from _row(bare, header or [], source, *around.texts())
        else:
            text = plain(bare[item.end() :] if item else bare)
            while item and around.parents and around.parents[-1][0] >= indent:
                around.parents.pop()
            if not item and indent == 0:
                around.parents = []
            label = _LABEL.fullmatch(bare) if not item else None
            bold = bool(label) and bare.startswith(("**", "__"))
            if not item and not around.parents:
                around.lead = ""
                around.bold = "" if bold else around.bold
            current = Piece(text, source, "text", "", "", *around.texts())
            if _INDICATOR.match(lower(text)):
                around.indicator = lower(text)
            if item:
                around.parents.append((indent, lower(text)))
            elif bold:
                around.bold = lower(text)
            elif label:
                around.lead = lower(text)
    if current:
        yield current


def _continues(before: str, bare: str) -> bool:
    """Whether a line goes on with the sentence of the line before it."""
    return not (
        before.endswith((".", ":", ";", "!", "?", "。"))
        or bare[0].isupper()
        or bare[0] in "|`*_>#[!"
        or set(bare) <= set("-=*_ ")
        or re.match(r"[^:\uff1a]{1,50}[:\uff1a]\s", bare)
        or len(before) > MAX_CHARS
    )


def _is_rule(row: str) -> bool:
    return "|" in row and "-" in row and len(row) < MAX_CHARS and _RULE.fullmatch(row.strip()) is not None


def _cells(bare: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", bare)
    return [cell.strip() for cell in cells[bare.startswith("|") : len(cells) - (bare.endswith("|") and len(cells) > 1)]]


def _row(bare: str, header: list[str], source: list[tuple[int, int, str]], *around: Any) -> Iterator[Piece]:
    """The cells of one row of a table, each with its header and the cells that say what it is about."""
    texts = [plain(cell) for cell in _cells(bare)][:50]
    names = [*header, *[""] * len(texts)][: len(texts)]
    if any(map(PERCENTILE.search, names)):  # "Average" beside "p95"
        names = [f"{name} latency" if re.match(r"(?:avg|average|mean|max|maximum)\b", name) else name for name in names]
    texts = [  # "30 days" below "Window"
        f"per {text}"
        if re.search(r"window|period", name) and re.match(r"\d+ ?[a-z]|(?:calendar )?month$", lower(text))
        else text
        for text, name in zip(texts, names, strict=True)
    ]
    if any(re.search(r"credit|penalt|refund", name) for name in names) and not any(map(_PROMISE.search, names)):
        return  # what is paid when a commitment is missed, step by step
    read = [not _IGNORED.search(name) and name != "unit" for name in names]
    unit = next((text for text, name in zip(texts, names, strict=True) if name == "unit"), "")
    says = [  # what a cell tells the others
        bool(_ASIDE.search(name)) if not kept else not re.search(r"\d ?(?:%|[a-z/]{1,6}\b)", text)
        or bool(PERCENTILE.search(lower(text)))
        for text, name, kept in zip(texts, names, read, strict=True)
    ]  # fmt: skip
    aimed = any(
        _AIM.search(name) and re.search(r"\d", PERCENTILE.sub("", lower(text)))
        for text, name in zip(texts, names, strict=True)
    )
    for place, (text, name) in enumerate(zip(texts, names, strict=True)):
        if not read[place] or (aimed and not (_AIM.search(name) or _LIMIT.search(name))):
            continue
        others = [other for index, other in enumerate(texts) if index != place and says[index]]
        if re.fullmatch(r"[<>≤≥=~ ]*[\d.,]+", text):
            in_words = (_UNIT_IN_WORDS.search(lower(place)) for place in (name, *others, *around[0]))
            text += " " + (unit or next((found[found.lastindex or 0] for found in in_words if found), ""))
        beside = " · ".join(others)
        yield Piece(text, source, "cell", name, beside, *around)
