"""Plain text of what services send as HTML or as an Atlassian document; linear in its length, however it is nested."""

from __future__ import annotations

import collections
import datetime as dt
import html
import re
from collections.abc import Mapping
from typing import Any

# quotes delimit only after "="; possessive, so that nothing is looked at twice
_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')|=)*+)>""")
_CARELESS_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)([^>]*+)>")
_LONG_NUMBER = re.compile(r"&#[0-9]{8,}+;?")  # no character, and too long for int()
_RAW = frozenset(("script", "style", "title", "textarea", "iframe", "noembed", "noframes", "xmp"))
_HIDDEN = frozenset(("head", "template", "object", "svg", "math", "select"))
_KEPT = frozenset(("pre", "code"))
_PARAGRAPHS = (
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "pre", "hr", "blockquote", "figure",
    "details", "aside",
)  # fmt: skip
_BLOCKS = frozenset((
    *_PARAGRAPHS, "div", "li", "dt", "dd", "tr", "caption", "address", "article", "body", "center", "fieldset",
    "figcaption", "footer", "form", "header", "main", "nav", "section", "summary", "thead", "tbody", "tfoot", "option",
))  # fmt: skip
_CELLS = frozenset(("td", "th"))
_LISTS = frozenset(("ul", "ol", "dl"))
_VOID = ("hr", "br", "img", "input", "meta", "link", "wbr", "col", "base", "area", "embed", "source", "track")
_QUOTE = re.compile(
    r"\b(?:gmail_quote|yahoo_quoted|moz-cite-prefix|protonmail_quote|tutanota_quote|zmail_extra)\b"
    r"|\bclass\s*+=\s*+[\"']?quote\b"
)
_DIVIDER = re.compile(r"\b(?:divRplyFwdMsg|appendonsend|stopSpelling|zwchr|OLK_SRC_BODY_SECTION)\b")


class _Lines:
    """Text as it grows: words with single spaces, at most one empty line, none at the ends."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._breaks = 0
        self._open = False  # whether the line has words that a space may follow

    def words(self, text: str) -> None:
        """Running text: white space of any length is one space."""
        if not text:
            return
        if text[0].isspace():
            self.space()
        if words := " ".join(text.split()):
            self._put(words)
            if text[-1].isspace():
                self.space()

    def kept(self, text: str) -> None:
        """Text whose line breaks and indents count."""
        for number, line in enumerate(text.split("\n")):
            if number:
                self.newline()
            if line.strip():
                self._put(line.replace("\xa0", " "))
            elif line:
                self.space()

    def space(self) -> None:
        if self._open:
            self._parts.append(" ")
            self._open = False

    def newline(self) -> None:
        self._breaks += 1
        self._open = False

    def block(self, breaks: int = 1) -> None:
        """What follows stands at least so many line breaks further down."""
        self._breaks = max(self._breaks, breaks)
        self._open = False

    def _put(self, text: str) -> None:
        if self._parts and self._breaks:
            if self._parts[-1] == " ":
                self._parts.pop()
            self._parts.append("\n" * min(self._breaks, 2))
        self._breaks = 0
        self._parts.append(text)
        self._open = True

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in "".join(self._parts).split("\n")).strip("\n")


# HTML


def html_text(text: str, *, quotes: bool = True) -> str:
    r"""The words of an HTML page, a line for each block; links keep their text, pictures are left out.

    Args:
        text: HTML, however broken.
        quotes: keep what an earlier message said; False drops block quotes, the quotes of mail programs, and all that
            follows the line which Outlook draws above one.

    >>> html_text("<p>It is <b>slow</b> &amp; loud.</p><ul><li>one<li>two</ul>")
    'It is slow & loud.\n\none\ntwo'
    """
    page = _Page(quotes=quotes)
    page.read(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""))
    return page.lines.text()


class _Page:
    def __init__(self, *, quotes: bool) -> None:
        self.lines = _Lines()
        self._quotes = quotes
        self._hidden: list[str] = []  # the open elements from the outermost hidden one on
        self._kept = 0
        self._lists = 0

    def read(self, text: str) -> None:
        tag, at, last = _TAG, 0, text.rfind(">")
        while (begin := text.find("<", at)) >= 0 and begin < last:
            found = tag.match(text, begin)
            if not found and tag is _TAG and (found := _CARELESS_TAG.match(text, begin)):
                tag = _CARELESS_TAG  # a quote is never closed: from here on a tag ends at the first ">"
            if found:
                self._data(text[at:begin])
                at = self._element(text, found)
                if at < 0:
                    return
            elif text.startswith(("<!", "<?"), begin):
                self._data(text[at:begin])
                end = text.find("-->", begin + 2) if text.startswith("<!--", begin) else text.find(">", begin)
                if end < 0:
                    return
                at = end + (3 if text.startswith("<!--", begin) else 1)
            else:
                self._data(text[at : begin + 1])
                at = begin + 1
        self._data(text[at:])

    def _element(self, text: str, found: re.Match[str]) -> int:
        """Where to go on; less than 0 for nowhere."""
        closes, name, attributes = found[1], found[2].lower(), found[3]
        if not closes and name in _RAW:
            end = re.compile(rf"</{name}\b[^>]*+>?", re.IGNORECASE).search(text, found.end())
            return end.end() if end else -1
        if closes:
            self._close(name)
        elif not self._quotes and _DIVIDER.search(attributes):
            return -1
        else:
            self._start(name, attributes)
        return found.end()

    def _start(self, name: str, attributes: str) -> None:
        if name == "body" and self._hidden == ["head"]:
            self._hidden.clear()  # its end was left out
        quoted = not self._quotes and (name == "blockquote" or _QUOTE.search(attributes) is not None)
        if (name in _HIDDEN or quoted or (self._hidden and name == self._hidden[-1])) and name not in _VOID:
            self._hidden.append(name)
        if name == "br":
            self.lines.newline()
        elif name in _CELLS:
            self.lines.space()
        elif name in _BLOCKS:
            self._block(name)
        self._lists += name in _LISTS
        self._kept += name in _KEPT

    def _close(self, name: str) -> None:
        if self._hidden and name == self._hidden[-1]:
            self._hidden.pop()
        self._lists = max(0, self._lists - (name in _LISTS))
        self._kept = max(0, self._kept - (name in _KEPT))
        if name in _BLOCKS:
            self._block(name)

    def _block(self, name: str) -> None:
        self.lines.block(2 if name in _PARAGRAPHS and not self._lists else 1)

    def _data(self, text: str) -> None:
        if self._hidden or not text:
            return
        words = html.unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text
        (self.lines.kept if self._kept else self.lines.words)(words)


# Markdown

_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)", re.DOTALL)
_MENTION = re.compile(
    r"(?<![\w@/.&-])@(?=[0-9_-]*[A-Za-z])(?!(?:all|everyone|someone|media|import|param|returns?|property|override|test)\b)"
    r"[A-Za-z0-9_](?:\w|[.-](?=[A-Za-z0-9]))*+(?![/@])"
)


def unnamed(text: str) -> str:
    """Markdown with ``@someone`` for each person it mentions; what stands in code, and packages, are no people.

    >>> unnamed("@jane-d, see `@Test` of @acme/tools; mail a@b.example")
    '@someone, see `@Test` of @acme/tools; mail a@b.example'
    """
    if "@" not in text:
        return text
    parts = _CODE.split(text)
    parts[::2] = [_MENTION.sub("@someone", part) for part in parts[::2]]
    return "".join(parts)


# Atlassian Document Format

_ADF_PARAGRAPHS = (
    "paragraph", "heading", "codeBlock", "blockquote", "panel", "rule", "table", "expand", "nestedExpand",
    "bulletList", "orderedList", "taskList", "decisionList", "blockCard", "embedCard", "bodiedExtension",
    "layoutSection",
)  # fmt: skip
_ADF_LINES = ("listItem", "taskItem", "decisionItem", "tableRow", "caption", "layoutColumn")
_ADF_LISTS = ("bulletList", "orderedList", "taskList", "decisionList")
_ADF_DROPPED = ("media", "mediaInline", "placeholder")
_ADF_WORDS = {"emoji": ("text", "shortName"), "expand": ("title",), "nestedExpand": ("title",)}  # attributes to show
_BAR = {"type": "text", "text": " | "}


def adf_text(node: Any) -> str:
    """The words of a document in Atlassian Document Format, as Jira and Confluence keep them.

    Whoever is mentioned becomes ``@someone``; pictures and files are left out; of a node that is not known here, its
    text is kept. A string is returned as it is, anything else that is no node as an empty text.

    >>> adf_text({"type": "paragraph", "content": [{"type": "text", "text": "Slow. "}, {"type": "mention"}]})
    'Slow. @someone'
    """
    if isinstance(node, str):
        return node
    lines = _Lines()
    inside: collections.Counter[str] = collections.Counter()
    stack = [(node, True)]
    while stack:
        one, opens = stack.pop()
        kind = _kind(one)
        if not isinstance(one, dict) or kind in _ADF_DROPPED:
            continue
        inside[kind] -= not opens
        _separate(lines, kind, inside)
        if not opens:
            continue
        inside[kind] += 1
        (lines.kept if inside["codeBlock"] else lines.words)(_said(kind, one))
        stack.append((one, False))
        content = one.get("content")
        children = content if isinstance(content, list) else []
        if kind == "tableRow":
            children = [part for child in children for part in (_BAR, child)][1:]
        stack += [(child, True) for child in reversed(children)]
    return lines.text()


def _separate(lines: _Lines, kind: str, inside: Mapping[str, int]) -> None:
    """Before and after each node: what stands between it and its neighbours."""
    if kind == "hardBreak" or kind in _ADF_PARAGRAPHS or kind in _ADF_LINES:
        if inside["tableRow"]:
            lines.space()  # a row stays one line
        elif kind == "hardBreak":
            lines.block()
        else:
            lines.block(2 if kind in _ADF_PARAGRAPHS and not any(inside[one] for one in _ADF_LISTS) else 1)


def _kind(node: Any) -> str:
    return str(node.get("type") or "?") if isinstance(node, dict) else "?"


def _said(kind: str, node: dict[str, Any]) -> str:
    """What a node says itself, without what stands in it."""
    attributes = node.get("attrs")
    known = attributes if isinstance(attributes, dict) else {}
    if kind == "mention":
        return "@someone"
    if kind == "date":
        return _day(known.get("timestamp"))
    own = node.get("text")
    named = (own, *(known.get(name) for name in _ADF_WORDS.get(kind, ("text", "url"))))
    return next((words for words in named if isinstance(words, str)), "")


def _day(timestamp: Any) -> str:
    try:
        return (dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=int(timestamp))).date().isoformat()  # noqa: DTZ001
    except (TypeError, ValueError, OverflowError):
        return ""
