"""Words that tell something: who, where, what project. And the names that would, on this machine.

The rules would rather refuse a harmless sentence than let one out that tells something.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import getpass
import html
import os
import re
import socket
import subprocess
import sys
import unicodedata
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from feedback_lib import privacy
from feedback_lib.workflows.ids import default_items, default_phases


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every repetition is bounded, as in privacy: the time stays linear in the text, which is short besides.

_LOOKALIKES = {
    **dict.fromkeys(map(ord, "\u3002\uff61\u2024\u00b7\u2027\u30fb\ufe52\uff0e\u0701\u0702\u06d4\u2e31\u2219"), "."),
    **dict.fromkeys(map(ord, "\u22c5\u2022\ua4ff\ua4f8"), "."),
    **dict.fromkeys(map(ord, "\uff20\ufe6b"), "@"),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"), "-"),
    **dict.fromkeys(map(ord, "\u203f\u2040\u2054\ufe33\ufe34\ufe4d\ufe4e\ufe4f\uff3f"), "_"),
    **dict.fromkeys(map(ord, "\u2044\u2215\uff0f\u29f8"), "/"),
    **dict.fromkeys(map(ord, "\uff3c\ufe68\u29f5\u2216"), "\\"),
}
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")  # letters that show nothing
_MARKED = re.compile(r"[<\[](?:path|id|n|time|url|query|email|phone|ip|mac|card|token|name|str|num|hex|addr)[>\]]")
_ESCAPES = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u\{?([0-9a-fA-F]{4,6})\}?|U([0-9a-fA-F]{8}))")
_SPELT_DOT = re.compile(
    r"(?<=\w)\s{0,2}[\[({]\s{0,2}(?:\.|dot)\s{0,2}[\])}]\s{0,2}(?=\w)|"
    r"(?<=\w)\s{1,3}\.\s{0,3}(?=(?:com|net|org|io)\b)|(?<=\w),(?=(?:com|net|org)\b)|"
    r"(?<=\w)\s{1,3}dot\s{1,3}(?=(?:com|org|net|io|dev|app|ai|co|de|eu|uk|edu|gov|info|example|internal|local|corp)\b)",
    re.IGNORECASE,
)
_PACKED = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{12,2000}={0,2}")

_ADDRESSES = re.compile(
    r"\w\s?@\s?\w|@\w|\w\s{0,3}[\[({<]\s{0,3}(?:at|@)\s{0,3}[\])}>]\s{0,3}\w|"
    r"\w\s{1,3}at\s{1,3}[\w-]{1,60}\s{1,3}dot\s{1,3}\w",
    re.IGNORECASE,
)
_PATHS = re.compile(
    r"(?<![\w./])(?:~[\w.-]{0,60}|\.{1,2})?/[\w.@~-]|(?<![A-Za-z])[A-Za-z]:\s?[\\/]|\\\\\w|\w\\\w|(?<![\w.])\.{1,2}\\\w|"
    r"(?<!\w)file:|%[A-Za-z_]{3,40}%|\$\{?[A-Za-z_]|[\w.-]/[\w-]{1,80}\.\w{1,8}\b|(?<!\w)~[/\\a-z]|\w/[\w.-]{1,80}:\w",
    re.IGNORECASE,
)
_SEGMENTS = re.compile(r"(?<![\w./-])[\w.-]{1,80}(?:/[\w.-]{1,80}){1,40}")
_ALTERNATIVES = _words("yes no skip skipped and or true false none n a w o input output auto interactive")
_HOSTS = re.compile(
    r"[A-Za-z][\w+.-]{0,30}://|(?<![\w:/])//\w|(?<!\w)www\.|(?<!\w)localhost:|(?<!\w)xn--|(?<!\w)[jo]dbc:|"
    r"(?<!\w)(?!(?:pre|post|non|in|re)-)[a-z][\w-]{0,60}-(?:prod|production|staging|stg|preprod|uat|qa)(?![a-z])|"
    r"[\w'\u2019]{2,60}-(?:macbook|mbp|imac|laptop|thinkpad)\b|(?<![\d-])(?:[0-9]{1,3}-){3}[0-9]{1,3}(?![\d-])|"
    r"(?<![\d.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\d.]{0,3}\d)|"
    r"(?<![\w-])(?=[\w-]{0,60}[A-Za-z])[\w-]{1,60}:(?:[0-9]{4,5}|22|25|53|80|443)(?!\w)",
    re.IGNORECASE,
)
_DOTTED = re.compile(r"(?<![\w.-])[\w-]{1,80}(?:\.[\w-]{1,80}){1,20}")
_PUBLIC_FILES = _words(
    "workflow.yaml default_workflow.yaml workflow_state.json workflow_log.jsonl workflow_tool_feedback.jsonl "
    "workflow_process_feedback.jsonl workflow_feedback.jsonl roadmap.md changelog.md learnings.md readme.md claude.md "
    "contributing.md agents.md pyproject.toml package.json cargo.toml go.mod go.sum requirements.txt node.js next.js "
    "vue.js"
)
_PUBLIC_PACKAGES = sys.stdlib_module_names | {"requests", "yaml", "pydantic", "click", "httpx", "litellm", "git"}
_EXCEPTION = re.compile(r"[A-Z][A-Za-z]{1,60}(?:Error|Exception|Warning|Expired|Interrupt)")
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?=[A-Za-z]{0,60}[0-9])(?=[0-9]{0,60}[A-Za-z])[A-Za-z0-9]{16,2000}|[A-Za-z0-9]{40,2000}|"
    r"(?=[a-f]{0,60}[0-9])[0-9a-f]{12,2000}|[0-9]{9,2000}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|"
    r"(?=[A-Za-z-]{0,60}[0-9])[A-Za-z0-9]{4,8}(?:-[A-Za-z0-9]{4,8}){2,20}|"
    r"(?=[a-f]{1,6}[0-9]|[0-9]{1,11}[a-f])[0-9a-f]{7,11}|(?:[0-9a-fA-F]{2}[ :,-]){5,100}[0-9a-fA-F]{2})"
    r"(?![A-Za-z0-9])|"
    r"\b(?i:commit|sha|revision)\s{1,3}[0-9a-f]{6,40}\b|"
    r"(?<=[A-Za-z0-9]-)(?=[a-z]{0,9}[0-9])(?=[0-9]{0,9}[a-z]{1,9}[0-9]|[0-9]{1,9}[a-z]{1,9}[0-9])[a-z0-9]{5,10}(?![A-Za-z0-9])|"
    r"(?<=[A-Z]-)(?=[A-Z]{0,12}[0-9])(?=[0-9]{0,12}[A-Z])[A-Z0-9]{5,12}(?![A-Za-z0-9])|"
    r"(?<![A-Za-z0-9])(?:[A-Z]{2}[0-9]{8,12}|0x[0-9a-fA-F]{6,64})(?![A-Za-z0-9])|(?<![\d.])[0-9]{1,3}\.[0-9]{4,20}(?!\d)|"
    r"(?<![\w+])(?:\+|00)[0-9][0-9 ()/.-]{6,20}[0-9]"
)
# Of a project's own keeping: its tickets, its pull requests, and machines that are numbered.
_NUMBERED = re.compile(
    r"(?<![A-Za-z0-9-])([A-Z][A-Z0-9]{1,9})-[0-9]{1,7}(?![A-Za-z0-9])|"
    r"(?<![A-Za-z0-9-])([A-Za-z]{2,20})-?[0-9]{2,7}(?![A-Za-z0-9.])|"
    r"(?<![A-Za-z0-9])([a-z]{2,20}(?:-[a-z]{2,20}){1,5})-?[0-9]{2,7}(?![A-Za-z0-9.])"
)
_SERIES = _words(
    "aes base catch cwe cve claude cp e2e ecma ed es exit f5 float gpt h http int iso ipv log node opus p pep phase py "
    "python ref rfc rsa sha sonnet step top uint utf wf win x"
)
_REFERENCE = re.compile(
    r"(?<![\w&])#[0-9]{2,8}\b|\b(?:PR|MR|GH|issue|ticket|bug|(?:pull|merge) request)\s?[#!]?[0-9]{2,8}\b", re.IGNORECASE
)
_CLOCK = re.compile(
    r"(?<![\d:.])(?:[01][0-9]|2[0-3])[:h][0-5][0-9](?![0-9])|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]|"
    r"(?<![\w.])[0-9]{1,2}(?::[0-5][0-9])?\s?[aApP]\.?[mM]\b"
)
_IDENTIFIER = re.compile(r"(?<!\w)[^\W\d]\w{2,2000}")
_CODE = re.compile(
    "|".join(
        (
            r"```|~~~|\)\s*[=-]>|=>\s*\{|\w\s*=>\s*\w{1,60}\s*[+*(.{-]|&&|\|\||==|!=|\+=|::\w|\$\(",
            # definitions and imports
            r"^\s{0,40}(?:async\s+)?(?:def|class)\s+\w{1,80}\s*[(:{]|\bdef\s+\w{1,80}\s*\(",
            r"^\s{0,40}import\s+[\w.]{1,80}(?:\s+as\s+\w{1,80})?(?:\s*,\s*[\w.]{1,80}){0,20}\s*;?\s*$",
            r"\bfrom\s+[\w.]{1,80}\s+import\b|\bimport\s+[\w{*][^\n]{0,200}\bfrom\s+['\"]|\brequire\s*\(",
            r"\bfunction\s*\w{0,80}\s*\(|\b(?:fn|func)\s+\w{1,80}\s*[(<]|^\s*@\w",
            r"\b(?:public|private|protected)\s+(?:static|class|void|final)\b|^\s*#\s?(?:include|define|!)",
            # statements
            r"\{[^{}\n]{0,400};|;\s*\}|\)\s*\{|;\s*$|^\s*[{}]\s*$",
            r"\b(?:const|let|var|int|string|bool)\s+\w{1,80}\s*[:=]|\b\w{1,80}\s*:?=\s*(?:new\s+)?[\w.]{1,80}\(",
            r"\b(?:self|this)\.\w|\b(?:if|for|while|switch)\s*\([^()\n]{0,200}[=<>!&|;][^()\n]{0,200}\)|\breturn\s+[\w.]{1,80}\s*[;(]",
            r"\b\w{1,80}\((?!s\))[^()\n]{0,400}[=,'\"\[{.][^()\n]{0,400}\)|\b\w{1,60}_\w{1,60}\(|\w\(\)",
            r"\b(?:print|printf|println|len|range|isinstance|open|exec|eval)\(|\blambda\s+\w{1,60}\s*:",
            r"\braise\s+\w{1,60}(?:Error|Exception)\b|^\s*\w{1,60}\s*=\s*\S{1,200}\s*$|\{\s*['\"]\w",
            r"\[\s*['\"]\w{1,80}['\"]\s*\]|\b[A-Z][A-Z0-9_]{2,60}=\S",
            # other languages
            r"\bselect\s+(?:\*|\w{1,60}\s*,)[^\n]{0,200}\bfrom\s|\binsert\s+into\s+\w",
            r"\bselect\s+[\w.]{1,60}\s+from\s+\w{1,60}\s*(?:;|$|where\b|limit\b|order\b|join\b)",
            r"</?[a-z][\w-]{0,40}(?:\s[^<>\n]{0,400})?/?>",
            r"\bsudo\s|^\s*\$\s|\brm\s+-|<\?(?:php|xml|=)",
            # stack frames
            r"traceback \(most recent|\bfile \"|,\s?line [0-9]|^\s*at\s+\S{1,200}\(",
            r"\bat\s+[\w$]{1,80}(?:\.[\w$<>]{1,80}){1,20}\(|panicked at|goroutine [0-9]",
            r"\.(?:py|js|ts|tsx|jsx|go|rs|java|rb|c|cc|cpp|h|cs|php|kt|swift|sh):[0-9]",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)
_QUOTED = re.compile(r"`([^`\n]{0,400})(`|\n|$)")
_QUOTABLE = re.compile(r"orchestrator(?: [a-z][a-z-]{0,30}){0,4}(?: --[a-z][a-z-]{0,30}){0,4}|--?[a-z][a-z-]{0,30}|")
_ALPHABETS = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"}  # that look like each other


def text_problem(text: str, known: Collection[str] = (), *, longest: int = 2000) -> str | None:
    """Why words may not leave; None when nothing in them tells who, where or what project. Repeats none of them.

    Args:
        text: the words; placeholders such as ``<path>`` and ``[email]`` may stand in them.
        known: names that must not occur in any case, nor inside of names joined by ``-``, ``_``, ``.`` or capitals.
        longest: letters that it may have.

    >>> text_problem("Phase 0 was helpful"), text_problem("ask jane@example.org")
    (None, 'holds an address of a person, or a name with @')
    """
    if len(text) > longest:
        return f"has {len(text):,} letters, more than {longest:,}"
    if any(map(_hides, text)):
        return "holds characters that do not show"
    if _mixed(unicodedata.normalize("NFKC", text)):
        return "holds a word in letters of several alphabets"
    for view in _views(text):
        if view is None:
            return "holds text that is encoded again and again"
        if reason := _problem(view, known):
            return reason
    return None


def _hides(letter: str) -> bool:
    if letter in "\n\t\ufe0f":  # the last makes a sign an emoji
        return False
    kind = unicodedata.category(letter)
    return (
        kind in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp")
        or letter in _BLANKS
        or "\ufe00" <= letter <= "\ufe0e"
        or "\U000e0100" <= letter <= "\U000e01ef"
    )


def _mixed(text: str) -> bool:
    """Whether a word mixes alphabets, so that it looks like another word."""
    if text.isascii():
        return False
    for word in re.findall(r"[^\W\d_]{2,}", text):
        found = {"LATIN" if c.isascii() else unicodedata.name(c, "?").split()[0] for c in word}
        if len(found) > 1 and found & _ALPHABETS:
            return True
    return False


def _views(text: str) -> Iterator[str | None]:
    """A text as it is read once lookalikes and encodings are undone, step by step; None when there is no end of it."""
    for _ in range(5):
        text = unicodedata.normalize("NFKC", text.translate(_LOOKALIKES)).translate(_LOOKALIKES).replace("\ufe0f", "")
        text = _SPELT_DOT.sub(".", text)
        yield text
        plain = _ESCAPES.sub(_unescaped, html.unescape(urllib.parse.unquote(text, errors="replace")))
        if plain == text:
            return
        text = plain
    yield None


def _unescaped(found: re.Match[str]) -> str:
    number = int(found[1] or found[2] or found[3], 16)
    return chr(number) if number < 0x110000 else found[0]


def _problem(text: str, known: Collection[str]) -> str | None:
    """What is wrong with one view of a text."""
    plain = _MARKED.sub(" ", text)
    rules: tuple[tuple[str, Callable[[str], Any]], ...] = (
        ("holds an address of a person, or a name with @", _ADDRESSES.search),
        ("holds the address of a host", _HOSTS.search),
        ("holds a path", lambda words: _PATHS.search(words) or any(map(_is_path, _SEGMENTS.findall(words)))),
        ("holds personal data or a secret", lambda words: privacy.redact(words) != words),
        ("holds code", lambda words: _CODE.search(words) or any(map(_is_code, _QUOTED.finditer(words)))),
        ("holds the name of a host, a file or a module", lambda words: any(map(_is_name, _DOTTED.findall(words)))),
        ("holds a token or an id", _TOKENS.search),
        ("holds text in another encoding", lambda words: any(map(_is_packed, _PACKED.findall(words)))),
        ("holds a name of this repository, user or machine", lambda words: _is_known(words, known)),
        ("holds the number of a ticket, a change or a machine", _is_numbered),
        ("holds a time of day", _CLOCK.search),
        ("holds a name from code", lambda words: any(map(_is_own, _IDENTIFIER.findall(words)))),
    )
    return next((reason for reason, finds in rules if finds(plain)), None)


def _is_path(text: str) -> bool:
    parts = [part.strip("-") for part in text.split("/")]
    if len(parts) == 2:  # and/or, but no src/my_module
        return any(("_" in part or "-" in part) and part not in default_items() for part in parts)
    return not all(part.lower() in _ALTERNATIVES or part in default_phases() for part in parts)


def _is_code(found: re.Match[str]) -> bool:
    """Whether backticks hold anything but what everybody knows of the tool."""
    held = found[1].strip()
    if found[2] != "`":
        return True
    return not (held in default_items() or held in default_phases() or _QUOTABLE.fullmatch(held))


def _is_name(text: str) -> bool:
    """Whether a dotted word names something of the project: no version, no abbreviation, no public file or error."""
    parts = text.split(".")
    last = parts[-1]
    if text.lower() in _PUBLIC_FILES or len(last) < 2 or any(c.isdigit() for c in last):
        return False
    return not (parts[0] in _PUBLIC_PACKAGES and len(parts) <= 3 and _EXCEPTION.fullmatch(last))


def _is_numbered(text: str) -> bool:
    """Whether a project's ticket, change or machine is named; not the standards and models that everybody numbers."""

    def own(found: re.Match[str]) -> bool:
        name = (found[1] or found[2] or found[3]).casefold()
        few = len(re.findall("[0-9]", found[0])) < 4  # of item-12 there is one everywhere, of job-12345 there is not
        return name not in _SERIES and not (few and name in _USUAL)

    return bool(_REFERENCE.search(text)) or any(map(own, _NUMBERED.finditer(text)))


def _is_own(text: str) -> bool:
    """Whether a word in the form of an identifier is somebody's own; one made of ordinary words alone tells nothing."""
    joined = "_" in text.strip("_")
    if not joined and (text.casefold() in _BRANDS or not re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]{2}", text)):
        return False
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z_]+|[^\W_]", text)
    plain = (part.casefold().strip("0123456789") for part in parts)
    return not (text.lower() in _public() or all(len(part) < 3 or part in _ordinary() for part in plain))


@functools.cache
def _public() -> frozenset[str]:
    return frozenset(name.lower() for name in (*default_items(), *default_phases()))


@functools.cache
def _ordinary() -> frozenset[str]:
    """Words that identifiers everywhere are made of, and those of the tool's own items."""
    return _USUAL | _TECHNICAL | {part for name in _public() for part in name.split("_")}


def _is_packed(text: str) -> bool:
    """Whether it is base64 of something readable."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode("utf-8")
    except ValueError:
        return False
    return len(found) >= 8 and found.isprintable()


# Errors of the tool

_SUBCOMMAND = (
    r"(?:abandon|add|advance|capture|complete|config|feedback|finish|handoff|init|list|merge|minds|plan|prd|resume|"
    r"retry|review|run|skip|spawn|start|status|sync|task-done|validate|verify|wait|workflow)\b"
)
_COMMAND = re.compile(rf"(?<![\w/.-])orchestrator(?:[ \t]+{_SUBCOMMAND})*")
_OF_TOOL = re.compile(rf"\s*(?:\$ )?orchestrator(?::[ \t]*command not found|[ \t]+{_SUBCOMMAND})")
_SAID = re.compile(
    r"command not found|no such file or directory|permission denied|timed out|exit (?:code|status) \d+", re.IGNORECASE
)
_RAISED = re.compile(r"[\w.]{0,60}[A-Z]\w{0,60}(?:Error|Exception|Failure|Fault|Interrupt|Timeout|Warning)")
_OWN = (
    (re.compile(r"""(['"`])[^'"`\n]*\1"""), "<id>"),
    (re.compile(r"\b[\w-]+(?:\.[\w-]+)+\b"), "<name>"),  # of hosts, files and modules
)


def of_tool(error: str) -> bool:
    """Whether an error begins with a command of the workflow tool."""
    return _OF_TOOL.match(error) is not None


def tool_errors(texts: Iterable[str], known: Collection[str] = ()) -> tuple[str, ...]:
    """Errors of the tool as they may be shared, each once; see `tool_error`."""
    return tuple(dict.fromkeys(tool_error(text, known) for text in texts))


def tool_error(text: str, known: Collection[str] = ()) -> str:
    """An error of the tool as it may be shared: its kind, and of the rest only what is nobody's own.

    Of a command that failed without naming an exception, the command's first words and what the shell said of it. What
    the command was given (a task, names) is left out.

    Args:
        text: the command, what it printed, the trace; as much as there is.
        known: names that must not stand in it, see `own_names`.

    >>> tool_error("orchestrator prd spawn: command not found")
    'orchestrator prd spawn: command not found'
    >>> tool_error("orchestrator start 'Sell Acme' failed with exit code 2")
    'orchestrator start: exit code 2'
    >>> tool_error("FileNotFoundError: no 'acme.yaml' on build.acme.example")
    'FileNotFoundError: no <id> on <name>'
    """
    from feedback_lib.analysis.text import error_template

    text = privacy.redact(text)
    command, said = _COMMAND.search(text), _SAID.search(text)
    kind, colon, rest = (error_template(text) or "").partition(":")
    forms = []  # from what says most to what says least
    if _RAISED.fullmatch(kind):
        for pattern, mask in _OWN:
            rest = pattern.sub(mask, rest)
        forms += [(kind + colon + rest)[:300], kind, kind.rpartition(".")[2]]
    if command:
        words = " ".join(command[0].split())
        forms += [f"{words}: {said[0].lower()}" if said else f"{words}: failed"]
    forms += [said[0].lower()] if said else []
    return next((form for form in forms if text_problem(form, known) is None), "error")


# Names

_JOINED = r"[\W_]{0,2}"


def _is_known(text: str, known: Collection[str]) -> bool:
    if not known:
        return False
    pattern = _pattern(frozenset(known))
    return any(pattern.search(_folded(one)) for one in (text, text.lower()))  # with and without parts of CamelCase


@functools.lru_cache(maxsize=16)
def _pattern(known: frozenset[str]) -> re.Pattern[str]:
    """Finds names however their parts are joined, but not inside of a word."""
    wanted = [re.findall(r"[^\W_]+", _folded(name)) for name in sorted(known)]
    found = [_JOINED.join(map(re.escape, parts)) for parts in wanted if parts]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(found)})(?![^\W_])" if found else r"(?!)")


def _folded(text: str) -> str:
    """Without case and accents, and with a blank where CamelCase begins a word."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    bare = "".join(c for c in unicodedata.normalize("NFKD", parted) if not unicodedata.combining(c))
    return bare.casefold()


# Names so usual that they tell nothing, and whose search would refuse everything.
_USUAL = _words(
    """
    admin administrator agent agents alpha analysis and answer any api apis app application apps archive are assets
    auto backend base beta bin bot bots box build builder builds can change changes check checkout checks circleci cli
    client code codespace codespaces command common complete computer config container core custom daemon data
    database debian default demo deploy desktop dev devel develop developer development dist doc docker docs document
    error errors event events example examples execute experiment feature features feedback file files first fix for
    frontend git github gitlab golang guest hello help home host http https image index info init input item items
    java javascript jenkins job jobs json jupyter kernel lab laptop last learn lib library linux list local
    localdomain localhost log logs mac macbook mail main manager master mode model module monorepo more multi name
    new next nobody node none not notes now null obj old one open ops orchestrator org osx out output own owner
    package packages page parallel path personal phase phases pipeline plan platform play playground plugin private
    process prod product production program project projects prompt proxy public push pypi python quality release
    remote repo report repos repository review reviews root ruby run runner rust sample sandbox script scripts sdk
    secret security self server service services session set setup share shared shell site skip skipped slow small
    software some source spec src stable stage staging standard start state step steps store sub suggestion
    suggestions support sync sys system systems task tasks team temp template terminal test tester testing tests that
    the this time tmp todo token tool tools toy try two type ubuntu unknown update use user users util utils vagrant
    venv verify version virtual vscode was web website win windows with work worker workflow workflows workspace
    workspaces yes you your
    """
)
# More of them for errors, the tool's own among them, and for fields: those of a name of one's own are none.
_TECHNICAL = _words(
    """
    abandoned access active actor address adherence aborted advance already approval approver argument arithmetic
    array assertion async asyncio attack attribute audit auth authentication authorization available awaited bad
    binding blocked blocking boolean branch breaker broken budget buffer busy bytes call callback called cancel
    cancelled capability captured cell certificate character child chunked circuit circular class classify claude
    cleanup clone close closed cmd codec column comment commit compile completed concurrency condition config
    configuration conflict confusing connect connection connector constraint content context cookie count cpu create
    created current custom cycle dead deadlock decode decoder decoding decompression definition delete dependency
    deprecated deprecation descriptor dict did dir directory dirty disabled disconnect disk dns division duplicate
    duration element empty enabled encode encoder encoding end engine enter entries entry enum environment eof
    exception exceeded execution executor exhausted exist exists exit expected expired export extension external
    failed failure fatal fault fetch field floating fmt footer forbidden format found frozen function future gate
    gateway generate generator get guidance handler handshake hash header hub human id identifier ids illegal
    implemented import improvements incomplete indentation indexed insecure install integer integration integrity
    interceptor internal interpreter interrupt interrupted invalid invocation io ip is issue iteration iterator key
    keyboard keys keyword kill language launch learnings length lex limit line link llm load locale location lock
    locked loop lookup loss manual map mapping match max memory merge message meta metadata method min missing mkdir
    modified mount negative nested network node none non notes notification number numeric object offline offset
    opcode operation operational option overflow override pair panic parallel param parameter parent parse parser
    parsing part patch pause pct pending percent performance performed permission phases pickle pickling pid pip pipe
    poll pool port post pre precondition preview print procedure programming progress projects property protocol
    provider put query queue quota race raise random range rate read reader ready record recursion redirect reduce
    ref reference refused register regex rejected relation reload removed rename render replay reset resolution
    resource response result resume retry retryable return reviewer reviews route row rule running runtime sandbox
    scan scanner schema schedule screen search seconds segment select send sent serialization serialize signal
    signature size sleep socket sort split squad ssl stack stale started state status stop storage stream string
    subprocess success suggest summary switch symbol sync synced syntax tab table tamper tampered target template
    thread threshold time timed timeout timestamp tls tmux too tracking transaction transfer transform translate
    traversal tree trigger truncated tuple types unauthorized unavailable unbound undefined unexpected unicode unique
    unit unprocessable unreachable unsupported updated upload used upstream uri url validate validation validator value
    variable verification version visual visualization wait warn warning warnings went webhook well worked worker
    working worktree write writer wrong xml yaml zero zip zipfile
    """
)
_BRANDS = _words(
    "github gitlab javascript typescript openai chatgpt deepseek openrouter circleci jupyterlab pypi pytest vscode "
    "macos ios iphone ipad langchain litellm graphql postgresql mysql sqlite nosql mongodb devops mlops coderabbit "
    "jetbrains intellij pycharm webstorm websocket websockets wifi fastapi numpy pytorch tensorflow dataframe todo "
    "powershell wordpress youtube linkedin latex openapi oauth webassembly readthedocs sourcegraph huggingface "
    "dropdown codex anthropic xai bitbucket"
)
_PROVIDERS = _words(
    "github.com gitlab.com bitbucket.org codeberg.org gmail.com googlemail.com outlook.com hotmail.com yahoo.com "
    "icloud.com protonmail.com proton.me users.noreply.github.com localhost example.com example.org"
)


def telling(name: str) -> bool:
    """Whether a name tells something: three letters or more, not only digits, and not made of usual words alone.

    >>> [telling(name) for name in ("test", "app", "al", "my-api", "workflow-orchestrator", "jane", "acme-api")]
    [False, False, False, False, False, True, True]
    """
    parts = re.findall(r"[^\W_]+", _folded(name))
    return (
        sum(map(len, parts)) >= 3
        and not all(part.isdigit() for part in parts)
        and not all(part in _USUAL or len(part) < 3 for part in parts)
        and not {"_".join(parts), "".join(parts)} & {word.lower() for word in (*default_items(), *default_phases())}
    )


def own_names(folder: Path) -> frozenset[str]:
    """Names that would tell where feedback from a folder comes from.

    Those of the repository and its owner in its remotes, of the packages in it, of the person in git's settings, of the
    user, the home folder and this machine, as far as they tell something, see `telling`.
    """
    folder = Path(folder).resolve()
    root = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)
    found = {root.name, *_of_packages(root), *(_of_packages(folder) if folder != root else ())}
    for key, value in _git_settings(folder):
        if key.endswith(".url"):
            found.update(_of_remote(value))
        elif key == "user.email":
            found.update(_of_email(value))
        elif key in ("user.name", "github.user"):
            found.update((value, *value.split()))
    for variable in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        found.update((os.environ.get(variable, ""), *os.environ.get(variable, "").split()))
    for variable in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL"):
        found.update(_of_email(os.environ.get(variable, "")))
    found.update(os.environ.get(variable, "") for variable in ("USER", "LOGNAME", "USERNAME", "GITHUB_ACTOR"))
    found.update(_of_remote(os.environ.get("GITHUB_REPOSITORY", "")))
    found.update(_of_this_machine())
    return frozenset(name for name in (one.strip() for one in found) if telling(name))


def _of_this_machine() -> Iterator[str]:
    host = socket.gethostname()
    yield host
    yield host.partition(".")[0]
    try:
        yield getpass.getuser()
        yield Path.home().name
    except (OSError, KeyError, RuntimeError, ImportError):
        return  # a user without a name, as in some containers


_NAMED = (  # files in which a project gives itself a name
    ("pyproject.toml", re.compile(r"""^\s*name\s*=\s*["']([^"'\n]{1,200})["']""", re.MULTILINE)),
    ("Cargo.toml", re.compile(r"""^\s*name\s*=\s*["']([^"'\n]{1,200})["']""", re.MULTILINE)),
    ("setup.cfg", re.compile(r"^name\s*=\s*(\S{1,200})", re.MULTILINE)),
    ("package.json", re.compile(r'"name"\s*:\s*"([^"\n]{1,200})"')),
    ("go.mod", re.compile(r"^module\s+(\S{1,200})", re.MULTILINE)),
)
_NAMED_BYTES = 64 * 1024


def _of_packages(folder: Path) -> Iterator[str]:
    """What a project calls itself, and its packages: their names stand in its traces and in what is said of it."""
    for name, pattern in _NAMED:
        with contextlib.suppress(OSError):
            handle = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                if found := pattern.search(file.read(_NAMED_BYTES).decode("utf-8", "replace")):
                    yield from (part for part in found[1].lstrip("@").split("/") if part.lower() not in _PROVIDERS)
    for place in (folder, folder / "src"):
        with contextlib.suppress(OSError):
            yield from (one.parent.name for one in place.glob("*/__init__.py"))


def _of_remote(address: str) -> Iterator[str]:
    """Host, owner and repository of a remote; credentials in it are not looked at."""
    address = address.strip().rstrip("/").removesuffix(".git")
    rest = (address.partition("://")[2] or address).rpartition("@")[2]
    if "://" in address or "@" in address:
        host, _, path = rest.replace(":", "/").partition("/")
        if host.lower() not in _PROVIDERS:
            yield host
    else:
        path = rest
    yield from path.split("/")[-3:]


def _of_email(address: str) -> Iterator[str]:
    local, _, domain = address.strip().partition("@")
    yield address
    yield re.sub(r"^[0-9]+\+", "", local)
    if domain and domain.lower() not in _PROVIDERS:
        yield domain
        yield domain.partition(".")[0]


def _git_settings(folder: Path) -> Iterable[tuple[str, str]]:
    """What git is set to in a folder, (key, value); of the repository's file alone where git cannot be run."""
    try:
        told = subprocess.run(
            ["git", "-C", str(folder), "config", "--list", "--null"], capture_output=True, timeout=10, check=False
        )
        if told.returncode == 0:
            pairs = (one.partition("\n") for one in told.stdout.decode("utf-8", "replace").split("\0") if one)
            return [(key.lower(), value) for key, _, value in pairs]
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        text = (folder / ".git" / "config").read_text("utf-8", "replace")
    except OSError:
        return []
    named = {"url": "remote.url", "name": "user.name", "email": "user.email"}
    return [(named[key], value) for key, value in re.findall(r"^\s*(url|name|email)\s*=\s*(.+?)\s*$", text, re.M)]
