"""The error that a text shows: its kind, its root cause, and the code that raised it, whatever the language.

A stack trace is read for three things: the exception at its root (of a Python chain what "was the direct cause", of a
Java or .NET one the innermost cause, of a group every member), its message without variable parts, and two frames: the
innermost one that is no runtime of the language, and the innermost one outside of installed libraries. Line numbers,
paths, addresses and the depth of the trace are left out. Without a trace the first line that names an error counts.
"""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

VERSION = 2  # of what a fingerprint is made of: 1 was the message alone
MAX_TEXT = 1_000_000  # characters of a text that are looked at
MAX_LINES = 20_000
MAX_LINE = 2_000
MAX_MESSAGE = 1_000
MAX_DEPTH = 100  # columns a group may be indented
MAX_MEMBERS = 50  # of a group, that are told apart
OWN, LIBRARY, RUNTIME = range(3)

_SUFFIXES = ("Error", "Exception", "Failure", "Fault", "Interrupt", "Timeout", "Warning")
_OTHER = re.compile(
    r"""\bpanic:|\bfatal\ error:|\bFATAL\b|\bERROR\b|\bError:
    |\bE[A-Z]{4,}\b                       # ECONNREFUSED and its like
    |\b(?:error|status)\ (?:code\ )?\d{3}\b|\bHTTP[ /]?(?:1\.1\ |2\ )?[45]\d\d\b
    |\bNS_ERROR_\w+|\bSIG(?:SEGV|ABRT|KILL|BUS)\b|\bexit\ (?:code|status)\ [1-9]\d*
    |\bnpm\ (?:error|ERR!)""",
    re.VERBOSE,
)
_SHELL = re.compile(
    r"""^\s*(?:[\w./+-]+:\ ){0,2}(?:line\ \d+:\ |\d+:\ )?(?:
        command\ not\ found:\ (?P<zsh>\S+)|(?P<sh>[\w./+@-]+):\ (?:command\ )?not\ found
    )\s*$|'(?P<cmd>[^']{1,100})'\ is\ not\ recognized\ as\ an\ internal\ or\ external\ command""",
    re.VERBOSE,
)
_WORDS = (
    *_SUFFIXES, "ERROR", "FATAL", "panic", "fatal error", "error code ", "status ", "error ", "HTTP", "exit code ",
    "SIG", "npm ", "not found", "not recognized", ".rb:", 'File "', "Caused by:",
)  # fmt: skip
_CODE = re.compile(r"E[A-Z]{4}")


def _hints(text: str) -> bool:
    """Whether a text may tell of an error; quick, because most do not."""
    return any(word in text for word in _WORDS) or _CODE.search(text) is not None


_NAME = re.compile(r"[A-Za-z_$][\w$]*(?:(?:[.\\]|::)[A-Za-z_$][\w$]*)*+")

_MASKS = (
    (re.compile(r"(?:https?|wss?|ftp)://[^\s'\"`<>]+"), "<url>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,3}\.[A-Za-z]{2,24}\b"), "<id>"),
    (re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:{1,2}){3,7}[0-9a-f]{1,4}\b", re.IGNORECASE), "<n>"),
    (re.compile(r"\[path\][\\/][\w.@%+~\\/-]*"), "<path>"),
    (re.compile(r"\[(?:email|phone|ip|mac|card|token|path|query|url|name)\]"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (
        re.compile(r"""(?<![\w'])(['"`])(?:[A-Za-z]:|~|\.{1,2}|file:)?[\\/](?!(?:usr/)?bin/\w+\ )[^'"`\n]+\1"""),
        r"\1<path>\1",
    ),  # with spaces; a command is no path
    (re.compile(r"(?:[A-Za-z]:)?(?:[\\/~]\\?[\w.@%+~-]+){2,}[\\/]?|\b[\w.-]+(?:/[\w.@%+-]+){2,}"), "<path>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<n>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"""(?<!\w)(['"`])[^'"`\n]*\d[^'"`\n]*\1"""), "<id>"),
    (re.compile(r"\b\w*[A-Za-z_-]\d[\w-]*\b|\b\d[\d.,:_]*(?:ms|s|m|h|[kKMGT]i?B|%)?\b"), "<n>"),
)
_KEPT = re.compile(
    r"(?:HTTP|error|status|exit)\D{0,40}\d+"
)  # the status of a failed request or command says what failed


class Frame(NamedTuple):
    """One call: a class, or a file's base name; the function; and whose code it is."""

    where: str
    function: str
    whose: int = OWN


class Raised(NamedTuple):
    """One exception of a trace, its frames innermost first."""

    kind: str
    message: str
    frames: tuple[Frame, ...] = ()


class Trace(NamedTuple):
    """What a trace shows: the exception that was reported, what it comes from, what was handled when it came."""

    reported: str
    roots: tuple[Raised, ...]
    handled: Raised | None = None


def fingerprint(text: str) -> str | None:
    """A hash of the error in a text that does not depend on line numbers, paths, ids, times and addresses.

    The first 8 digits are those of the error's kind and message (`error_template`). The others add the reported
    exception and the frames, so the same error raised by other code differs in them, and so does an error pasted
    without its trace: what its trace would say is not known. Kind and message still agree in the first 8 digits.

    Returns:
        16 hex digits, or None when there is no error text.
    """
    seen = _seen(text)
    if seen is None:
        return None
    template, rest = seen
    family = hashlib.sha256(template.encode(errors="replace")).hexdigest()[:16]
    if not rest:
        return family
    return family[:8] + hashlib.sha256(f"{template}\n{rest}".encode(errors="replace")).hexdigest()[:8]


def error_template(text: str) -> str | None:
    """Kind and message of the error at the root, variable parts masked; None when there is no error text.

    >>> error_template("KeyError: 'order-1182' at 0x7f3a")
    'KeyError: <id> at <n>'
    """
    seen = _seen(text)
    return seen[0] if seen else None


def _seen(text: str) -> tuple[str, str] | None:
    """(template, what else the fingerprint is made of)."""
    if not _hints(text) and "Traceback (most" not in text:
        return None
    lines = _lines(text)
    trace = _trace(lines)
    if trace is None:
        template = _line(lines)
        return (template, "") if template else None
    members = sorted({(_masked(one.kind, one.message), _places(one.frames)) for one in trace.roots[:MAX_MEMBERS]})
    template = " + ".join(dict.fromkeys(said for said, _ in members))[:300].rstrip(" .:;,")
    reported = trace.reported if any(one.kind != trace.reported for one in trace.roots) else ""
    handled = trace.handled
    before = f"{handled.kind} {_places(handled.frames)}" if handled else ""
    rest = "\n".join([reported, before, *(places for _, places in members)]).strip()
    return template, rest


def _places(frames: Sequence[Frame]) -> str:
    """Where it was raised, and from where in the own code, one a line; nothing when only a runtime was seen.

    The innermost frames tell: callers further out differ from user to user, and so does how deep a trace was cut.
    """
    calls = [f for f in frames if f.whose != RUNTIME and f.function not in _ENTRY] or [
        f for f in frames if f.whose != RUNTIME
    ]
    own = next((f for f in calls if f.whose == OWN), None)
    places = [f"{f.where}:{f.function}" for f in (*calls[:1], own) if f]
    return "\n".join(dict.fromkeys(places))


_ENTRY = frozenset({"<module>", "main", "Main", "__main__", "<main>"})  # scripts of users, as a rule


# --- lines ---

_ESCAPED = re.compile(
    r"""\\n(?:\ |\\+t|\t)*(?:File\ \\*"|at\ |from\ |\#0\ |\.\.\.\ )|\(most\ recent\ call\ last\):\\+n""", re.X
)
_ESCAPE = re.compile(r"""\\(u001[bB]|[nrt"'/\\])|(")""")
_UNESCAPED: dict[str | None, str] = {"n": "\n", "r": "", "t": "\t", "u001b": "\x1b", "u001B": "\x1b"}


def _unescaped(known: Mapping[str | None, str], found: re.Match[str]) -> str:
    return known.get(found[1], found[1] or "")


_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\n]{0,200}\x07)")


def _lines(text: str) -> list[str]:
    """The lines of a text; those of a trace inside a JSON string or HTML, too; without colours."""
    text = text[:MAX_TEXT]
    for _ in range(2):  # a log line in a JSON string in a JSON string
        if "\\n" in text and _ESCAPED.search(text):
            end = '"' if 'File "' in text else "\n"  # a quote that is not escaped ends a JSON string
            text = _ESCAPE.sub(functools.partial(_unescaped, {**_UNESCAPED, None: end}), text)
    if "&" in text and ("&quot;" in text or "&lt;" in text or "&gt;" in text or "&#" in text):
        text = html.unescape(text)
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    parts = (line[:MAX_LINE] for whole in text.splitlines() for line in _parted(whole) if line.strip())
    return list(itertools.islice(parts, MAX_LINES))


_GLUED = re.compile(
    r"""(?<=\S)\s*(?=\bat\ [^\s()]{1,200}\ ?\((?:[^\s()]{1,200}:\d+|Native\ Method|Unknown\ Source)\))
    |(?<=\S)\s*(?=Caused\ by:\ )""",
    re.VERBOSE,
)


def _parted(line: str) -> list[str]:
    """A line, or the lines of a trace whose ends were lost, as trackers do when they make one paragraph of it."""
    if len(line) < 80 or line.count("at ") < 2 or ":" not in line:
        return [line]
    parts = _GLUED.split(line, MAX_LINES)
    return parts if len(parts) > 2 else [line]


# --- one line ---


def _named(line: str, start: int = 0) -> re.Match[str] | None:
    """The first name of an exception in a line."""
    if not any(suffix in line for suffix in _SUFFIXES):
        return None
    for found in _NAME.finditer(line, start):
        last = re.split(r"[.\\:]", found[0])[-1]
        if last.endswith(_SUFFIXES) and last[0].isupper() and (last not in _SUFFIXES or last != found[0]):
            return found
    return None


def _line(lines: Sequence[str]) -> str | None:
    """The template of the error that a text without a trace tells of: its first line that names one.

    That a command ended with a code counts only when nothing says why.
    """
    found = [line for line in lines if len(line) < MAX_LINE and _hints(line)]
    of_python = any("Traceback (most recent call last)" in line for line in lines)
    ended: str | None = None
    for line in reversed(found) if of_python else found:  # a sentence that mentions an error comes before
        if line.lstrip().startswith(("at ", "File ", "from ", "#")) and (_python_frame(line) or _frame(line, "")):
            continue
        if shell := _SHELL.search(line):
            return f"command not found: {shell['zsh'] or shell['sh'] or shell['cmd']}"
        if "npm " in line and _NPM.search(line):
            return _npm(lines)
        if named := _named(line):
            return _masked(named[0], line[named.end() :], joint="")
        if other := _OTHER.search(line):
            template = _masked(other[0], line[other.end() :], joint="")
            if not other[0].startswith("exit"):
                return template
            ended = ended or template
    return ended


def _masked(kind: str, message: str, joint: str = ": ") -> str:
    kind = kind.removeprefix("__main__.")
    template = kind + (joint if message else "") + message[:MAX_MESSAGE]
    status = _KEPT.match(template)
    at = status.end() if status else len(kind)
    if named := _MISSING.search(template, at):  # its digits are part of its name: cv2 is not psycopg2
        masked = _without(template[at : named.start(1)]) + named[1] + _without(template[named.end(1) :])
    else:
        masked = _without(template[at:])
    whole = " ".join((template[:at] + masked).split())
    if whole.count(")") > whole.count("("):
        whole = whole.replace(")", "", 1) if whole.index(")") < len(whole) - 1 else whole[:-1]
    return whole[:300].rstrip(" .:;,")


def _without(text: str) -> str:
    """A text with its variable parts masked."""
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


_MISSING = re.compile(
    r"""\b(?:no\ module\ named|cannot\ find\ (?:module|package)|cannot\ import\ name|has\ no\ attribute)
    \ (['"`]?@?[A-Za-z_][\w.-]{0,60}(?:/[\w.-]{1,60})?['"`]?)(?=[\s;,:.)]|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_NPM = re.compile(r"\bnpm (?:error|ERR!)(?: (?P<rest>.*))?$")
_NPM_CODE = re.compile(r"code (\S+)$")
_NPM_FACT = re.compile(
    r"(?:code|syscall|path|errno|dest|signal|cwd|command|workspace|location)\b|A complete log|\s*$|/|\s*at "
)


def _npm(lines: Iterable[str]) -> str:
    """Of what npm prints its code and the first sentence: the rest are paths and where the log is."""
    told = [m["rest"] or "" for m in map(_NPM.search, lines) if m]
    code = next((m[1] for m in map(_NPM_CODE.match, told) if m), "")
    sentence = next((line for line in told if not _NPM_FACT.match(line)), "")
    if code and sentence.lower().startswith(code.lower() + " "):
        sentence = sentence[len(code) + 1 :]
    elif code.startswith("E") and sentence.startswith(code[1:] + " "):  # E404: "404 Not Found"
        sentence = sentence[len(code) :]
    return _masked(f"npm {code}".strip(), sentence)


# --- frames ---

_PYTHON = re.compile(r"""File "([^"]+)", line \d+(?:, in (<?[\w.]+>?))?""")
_PYTHON_SHORT = re.compile(  # of IPython, and of pytest --tb=short
    r"""^\s*(?:
        (?:(?:File|Input|Cell)\ )?(?P<a>\S+\.py|<ipython-input[^>]{0,80}>)(?::\d+)?,?\ in\ (?P<f><?[\w.]+>?)(?:\ *\(|$)
        |(?P<b>\S+\.py):\d+:\ in\ (?P<g>\w+)\s*$
        |(?:Cell|Input)\ In\ ?\[\d+\],?\ (?:line\ \d+|in\ <cell\ line:\ \d+>).{0,20}$
    )""",
    re.VERBOSE,
)
_AT = re.compile(r"(?:^|[\s|>:\]])at (?=\S)")
_JAVA = re.compile(
    r"""(?:[\w$+-]+\.(?:java|kts?|scala|groovy|clj\w?|sc))?(?::\d+)?
    |Native\ Method|Unknown\ Source|SourceFile.*|<generated>""",
    re.VERBOSE,
)
_SPOT = re.compile(r":\d+:\d+\)*,?$")
_GECKO = re.compile(
    r"^\s*([\w$.<>/*\[\] -]{0,200})@((?:https?|file|resource|chrome|moz-extension|webpack\S{0,20}):\S+):\d+:\d+$"
)
_GO = re.compile(r"\.go:\d+(?: \+0x[0-9a-f]+)?\s*$")
_RUBY = re.compile(
    r"""(?<!\S)(\S+\.(?:rb|rake|erb|ru|haml)|<internal:[^>]+>|\S*bin/\w+):\d+:in\ [`']
    (?:(?:block|rescue|ensure)[^'`]{0,20}\ in\ )*([^'`]+)'""",
    re.VERBOSE,
)
_PHP = re.compile(r"(?:^|\s)#\d+ (?:([^\s(][^(]{0,200})\(\d+\)|\[internal function\]): ([\w\\:>{}$-]+)\(")
_NATIVE = re.compile(r"(?:^|\s)#\d+\s+0x[0-9a-f]+ in ([\w:~<>.$]+)(?:.*?([\w.+-]+\.\w+):\d+)?")
_RUST = re.compile(r"^\s*\d+:\s+(?:0x[0-9a-f]+ - )?([\w<][\w:<>&{}$#*, ]*?)(?:::h[0-9a-f]{16})?$")
_INSTALLED = re.compile(r"site-packages|dist-packages|node_modules|/gems/|/vendor/|/pkg/mod/|\.cargo|[/\\]\.nuget[/\\]")
_STANDARD = re.compile(
    r"""lib(?:64)?[/\\]python\d|[/\\]Python\d+[/\\]lib[/\\]|^<frozen\ |^node:
    |^internal/|^native|/lib/ruby/\d|^<internal:
    |/usr/local/go/|/lib/go[\w.-]*/src/|/rustc/|/libexec/src/|[/\\]go\d[\d.]*/src/""",
    re.IGNORECASE | re.VERBOSE,
)
_RUNTIME = (
    "java.", "javax.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala.", "groovy.", "org.codehaus.groovy.",
    "org.junit.", "junit.", "org.hamcrest.", "org.mockito.", "org.testng.", "android.", "androidx.", "com.android.",
    "dalvik.", "System.", "Microsoft.", "runtime.", "runtime/", "std::", "core::", "alloc::", "<core::", "<alloc::",
    "<std::", "rust_begin_unwind", "__rust", "_start", "__libc", "panic", "testing.", "reflect.", "net/http.", "sync.",
    "backtrace::", "Process.", "Module.", "__asan", "__interceptor",
)  # fmt: skip
_LIBRARIES = (
    "org.springframework.", "org.apache.catalina.", "org.apache.tomcat.", "org.apache.coyote.", "org.hibernate.",
    "io.netty.", "com.google.common.", "com.google.protobuf.", "com.fasterxml.", "okhttp3.", "retrofit2.", "reactor.",
    "io.reactivex.", "org.eclipse.jetty.", "org.mortbay.", "com.zaxxer.", "org.postgresql.", "com.mysql.", "org.jboss.",
    "io.undertow.", "feign.", "org.slf4j.", "io.grpc.", "akka.", "org.apache.http.", "Newtonsoft.", "tokio::",
)  # fmt: skip
_SHADED = re.compile(r"\.(?:shaded|thirdparty|repackaged)\.")  # libraries inside another's packages
_GENERATED = re.compile(
    r"\$\$(?:Enhancer|FastClass|SpringCGLIB|Hibernate)|\$Proxy\d|Generated\w*Accessor\d|^\$\$Lambda|CGLIB\$"
)
_LAMBDA_CLASS = re.compile(r"\$\$Lambda[\w$]*(?:/(?:0x)?[0-9a-f]+)?")
_LAMBDA = re.compile(r"(?:^|-)?lambda\$(?:([^$]+)\$)?\d*|\$anonfun\$([^$]+)\$\d+")
_SHARP = re.compile(r"[A-Za-z_][\w`+]*(?:\.+[\w<][\w`+<>|]*)+(?:\[[\w,]+\])?")
_STATE_MACHINE = re.compile(r"<(\w+)>[a-z]\w*(?:\|[\d_]+)?(?:\.MoveNext)?|<>c(?:__\w+)?\.?")
_BUILD = re.compile(r"(?<=[.\-_~])(?:\d+|(?=[A-Fa-f]*\d)[0-9A-Fa-f]{6,}|(?=\w*(?:\d|[a-z][A-Z]))\w{8})(?=[.\-_~]|$)")
_INPUT = re.compile(r"^<(?:stdin|string|cell)|^<?ipython-input|^\d+\.py$|^tmp\w{6,10}\.\w+$")


def _file(path: str) -> str:
    """A file's base name, without what a build puts into it."""
    base = re.split(r"[\\/]", re.split(r"[?#]", path, maxsplit=1)[0].rstrip("/\\"))[-1]
    return _BUILD.sub("#", "<input>" if _INPUT.match(base) else base)


def _whose(path: str, call: str = "") -> int:
    if _INSTALLED.search(path) or _SHADED.search(call):
        return LIBRARY
    if _STANDARD.search(path) or call.startswith(_RUNTIME):
        return RUNTIME
    return LIBRARY if call.startswith(_LIBRARIES) else OWN


def _python_frame(line: str) -> Frame | None:
    if 'File "' in line and (found := _PYTHON.search(line)):
        path, function = found[1], found[2] or ""
    elif (".py" in line or " In" in line or "<ipy" in line) and (found := _PYTHON_SHORT.match(line)):
        path, function = found["a"] or found["b"] or "<stdin>", found["f"] or found["g"] or "<module>"
    else:
        return None
    if function.startswith(("<listcomp", "<dictcomp", "<setcomp", "<genexpr")):
        return Frame("", function, RUNTIME)  # Python 3.12 shows none for most of them
    return Frame(_file(path), re.sub(r"\(.*|.*\.(?=\w)", "", function), _whose(path))


def _frame(line: str, before: str) -> Frame | None:
    """The frame a line shows; ``before`` is the line above, which names the function in Go."""
    if "at " in line and (at := _AT.search(line)):
        return _at(line[at.end() :].rstrip(" {"))
    if ".go:" in line and _GO.search(line):
        return _go(line, before)
    if ":in " in line and (found := _RUBY.search(line)):
        return Frame(_file(found[1]), re.split(r"[#.](?=[^#.]+$)", found[2])[-1], _whose(found[1]))
    if "#" in line and (found := _PHP.search(line)):
        return Frame("", found[2], _whose(found[1] or "native"))
    if "#" in line and (found := _NATIVE.search(line[:500])):
        return Frame(found[2] or "", found[1], _whose("", found[1]))
    if "@" in line and (found := _GECKO.match(line)):
        return Frame(_file(found[2]), found[1].strip().removeprefix("async*") or "<anonymous>", _whose(found[2]))
    if "::" in line and (found := _RUST.match(line)):
        call = found[1].replace("::{{closure}}", "")
        return Frame("", call, _whose("", call))
    return None


def _at(rest: str) -> Frame | None:
    """What follows ``at``: in Java ``call(File.java:1)``, JavaScript ``call (file:1:2)``, .NET ``call(int n) in …``."""
    call, opened, source = rest.partition("(")
    if not opened:
        path = _SPOT.sub("", rest.removeprefix("async "))
        if (
            path == rest.removeprefix("async ")
            or " " in path
            or not re.search(r"[A-Za-z<]", path)
            or not re.search(r"[/.<\\]", path)
        ):
            return None  # such as "at 10:30:12"
        return Frame(_file(path), "<anonymous>", _whose(path))
    inner = source.partition(")")[0]
    if _JAVA.fullmatch(inner) and inner and "." in call:
        call = _LAMBDA_CLASS.sub("$$Lambda", call)
        call = call.rpartition("/")[2].strip()
        where, _, function = call.rpartition(".")
        if _GENERATED.search(call) or "$$Lambda" in where:
            return Frame(where, function, RUNTIME)
        function = _LAMBDA.sub(lambda m: m[1] or m[2] or "lambda", function)
        return Frame(re.sub(r"\$\d+", "$", where).rstrip("$"), re.sub(r"\$\d+", "", function), _whose("", call))
    if _SPOT.search(rest) or inner in ("<anonymous>", "native", "native code") or inner.startswith("index "):
        call = re.sub(r"^(?:async |new )+|^Object\.| \[as [^\]]*\]", "", call.strip())
        path = _SPOT.sub("", source)
        if path.startswith("eval at"):
            path = path.rpartition("(")[2].partition(":")[0]
        whose = RUNTIME if "/" not in path and "\\" not in path and path.endswith((".js)", ".js")) and (
            call.startswith(_RUNTIME)
        ) else _whose(path, "")  # fmt: skip
        if path.startswith(("<anonymous>", "index ", "native", "unknown")):
            whose = RUNTIME
        return Frame(_file(path), call or "<anonymous>", whose)
    if _SHARP.fullmatch(call) and re.match(r"[^)]*\)(?:\s*$| in .)", source):
        call = _STATE_MACHINE.sub(lambda m: m[1] or "", call).removesuffix(".MoveNext")
        call = re.sub(r"`\d+|\[[^\]]*\]", "", call).replace("..", ".").strip(".")
        return Frame("", call, _whose("", call))
    return None


def _go(line: str, before: str) -> Frame | None:
    name = before.strip()
    if name.startswith("created by ") or not name.endswith(")"):
        return Frame("", name, RUNTIME)
    depth = 0
    for at in range(len(name) - 1, -1, -1):  # back to where the arguments begin
        depth += (name[at] == ")") - (name[at] == "(")
        if not depth:
            name = (name[:at].split() or [""])[-1]
            break
    call = re.sub(r"@v[\w.+-]+|\.func[\d.]+$|\[\.\.\.\]", "", name)
    return Frame("", call, _whose(line, call))


# --- traces ---


def _trace(lines: Sequence[str]) -> Trace | None:
    """The first trace of a text that shows an error."""
    frames: dict[int, Frame] = {}
    of_python: dict[int, Frame] = {}
    panics = [at for at, line in enumerate(lines) if " panicked at " in line]
    for at, line in enumerate(lines):
        if " panicked at " in line:
            continue
        if shown := _python_frame(line):
            of_python[at] = shown
        elif shown := _frame(line, lines[at - 1] if at else ""):
            frames[at] = shown
    readers = [(min(of_python), _pythons, of_python)] if of_python else []
    starts = [*list(frames)[:1], *([panics[0]] if panics else [])]
    if starts:
        readers.append((min(starts), _others, frames))
    for _, reader, shown_at in sorted(readers, key=lambda r: r[0]):
        if trace := reader(lines, shown_at):
            return trace
    return None


class _Open:
    """An exception whose frames are being read."""

    def __init__(self, kind: str, message: str, at: int, *, firm: bool = True) -> None:
        self.kind, self.message, self.at, self.firm = kind, message, at, firm
        self.frames: list[Frame] = []

    def closed(self) -> Raised:
        frames = self.frames
        if self.kind == "panic" and any(not f.function for f in frames):  # of Rust: the spot, unless calls are shown
            frames = [f for f in frames if f.function and f.whose != RUNTIME] or frames
        return Raised(self.kind.removeprefix("__main__."), self.message, tuple(frames))


_CAUSE = re.compile(r"(?:^|[\s|>\]\[])(Caused by: |Suppressed: |Wrapped by: |\[cause\]: |---> |Next (?=[\w\\]+: ))")
_INNER = re.compile(r"\(Inner Exception #\d+\) ")
_BARE = re.compile(r"(?:^|[^\w.])(Error|panic|fatal error|\w+Sanitizer)(?: \[\w+\])?: ")
_ABOVE = re.compile(  # an exception whose name does not say so
    r"""^\W*((?:[A-Za-z_$][\w$]*(?:\.|::))+[A-Z][\w$]*|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]*)+|[A-Z][a-z]+\ Violation)
    (?<!State)(?::\s+(.*)|\ \((.*)\):|\s*)$""",
    re.VERBOSE,
)
_RUBY_HEAD = re.compile(r"(?:: | \()(.*?)(?: \(([A-Z]\w*(?:::\w+)*)\))?$")
_RUST_PANIC = re.compile(r" panicked at (?:'(.*)', )?(\S+\.rs):\d+:\d+(:?)\s*$")
_PHP_SPOT = re.compile(r" in \S+:\d+$")
_LEADS = (
    "",
    ":",
    '"',
    "Uncaught",
    "promise)",
    "exception.",
    "Exception.",
    "-",
    "]",
    "|",
    "[",
    "{",
    ">",
    "}",
    "is",
    "E",
)
_NEAR = 40  # lines between an error's name and its first frame: messages have several


def _header(line: str, at: int) -> _Open | None:
    """The exception a line above frames names."""
    named = _named(line)
    if named and not line.startswith("(", named.end()):  # a call in a line of code
        lead = line[: named.start()].split()
        firm = not lead or lead[-1].endswith(_LEADS[1:])
        message = re.sub(r"^(?: \[\w+\])?[: ]+", "", line[named.end() :])
        message = re.sub(r"^\((.*)\):?$", r"\1", message)  # as Rails writes it
        return _Open(named[0], _PHP_SPOT.sub("", message).strip(), at, firm=firm)
    if bare := _BARE.search(line):
        lead = line[: bare.start(1)].split()
        message = line[bare.end() :].partition(" [recovered")[0].strip()
        return _Open(bare[1], message, at, firm=not lead or lead[-1].endswith(_LEADS[1:]))
    return None


def _others(lines: Sequence[str], frames: dict[int, Frame]) -> Trace | None:
    """A trace that names its error above the frames: every language but Python."""
    chain: list[_Open] = []
    members: list[_Open] | None = None  # of an AggregateError
    suppressed: int | None = None  # the column of what was suppressed; it is no cause
    root_first = False
    for at, line in enumerate(lines):
        if at in frames and ":in " in line and (raised := _ruby(line, at)):
            chain.append(raised)
        if at in frames:
            if suppressed is None:
                if not chain or (not chain[-1].frames and at - chain[-1].at > _NEAR):
                    above = _ABOVE.match(lines[at - 1]) if at else None
                    chain = [_Open(above[1], above[2] or above[3] or "", at)] if above else []
                (members or chain or [_Open("", "", at)])[-1].frames.append(frames[at])
            continue
        if "--- End of inner exception" in line and chain:
            break
        if " panicked at " in line:
            if chain:
                break
            chain.append(_panic(lines, at))
            continue
        if line.lstrip().startswith("[errors]: [") and chain:
            members = []
            continue
        cause = _CAUSE.search(line)
        if cause and (suppressed is None or (cause.start(1) < suppressed and cause[1] == "Caused by: ")):
            suppressed = cause.start(1) if cause[1] == "Suppressed: " else None
            if suppressed is not None:
                continue
            if cause[1] == "---> " and line[: cause.start()].strip() and (head := _header(line[: cause.start()], at)):
                chain = [head]
            root_first = root_first or cause[1] in ("Wrapped by: ", "Next ")
            start = cause.end()
            if cause[1] == "---> ":  # the innermost comes last
                start = line.rfind("---> ") + 5
                if (inner := _INNER.match(line, start)) is not None:
                    start = inner.end()
            name = _NAME.match(line, start)
            kind = name[0] if name else line[start:].partition(":")[0]
            message = line[start + len(kind) :].strip(": ")
            opened = _Open(kind, _PHP_SPOT.sub("", message), at)
            if members:
                members[-1] = opened
            else:
                chain.append(opened)
        elif suppressed is None and (head := _header(line, at)):
            if members is not None:
                members.append(head)
            elif not chain or not any(one.frames for one in chain):
                # a line that begins with the error rather than a sentence that mentions it; of a Go panic in a
                # deferred call the first
                if not chain or (head.firm >= chain[-1].firm and "[recovered" not in lines[chain[-1].at]):
                    chain = [head]
            elif head.firm and not head.frames and chain[-1].frames:
                break
    if not any(one.frames for one in chain) and not members and not any(one.kind == "panic" for one in chain):
        return None
    root = chain[0] if root_first else chain[-1]
    roots = members if members else [root]
    reported = chain[-1] if root_first else chain[0]
    return Trace(reported.closed().kind, tuple(one.closed() for one in roots))


def _ruby(line: str, at: int) -> _Open | None:
    """The exception in the first frame of a Ruby trace."""
    spot = None if "from " in line else _RUBY.search(line)
    head = _RUBY_HEAD.match(line, spot.end()) if spot else None
    return _Open(head[2], head[1], at) if head and head[2] else None


def _panic(lines: Sequence[str], at: int) -> _Open:
    """A panic of Rust: its message is in the line or, since 1.73, below it."""
    found = _RUST_PANIC.search(lines[at])
    if not found:
        return _Open("panic", lines[at].partition(" panicked at ")[2], at)
    message = found[1] or (lines[at + 1] if found[3] and at + 1 < len(lines) else "")
    opened = _Open("panic", message, at)
    opened.frames.append(Frame(_file(found[2]), ""))
    return opened


# --- Python ---

_MARGIN = re.compile(r"^(\s*)[|+] ?(?!-)(.*)$")
_SEPARATOR = re.compile(r"^\s*\+(?:-\+)?-{4,} (?:\d+|\.\.\.) -{4,}$")
_QUOTE = re.compile(r"^(?:> ?)+")
_KIND = re.compile(r"(?:E\s+)?([A-Za-z_]\w*(?:\.[A-Za-z_<]\w*>?)*)(?::\s?(.*))?$")
_CAPITAL = re.compile(r"(?:^|\.)_*[A-Z]\w*$")
_NO_SUFFIX = frozenset({"StopIteration", "SystemExit", "GeneratorExit", "StopAsyncIteration", "ExceptionGroup"})


class _Block(NamedTuple):
    depth: int
    link: str  # to the block before: cause, context, member, or none
    raised: Raised


def _pythons(lines: Sequence[str], frames: dict[int, Frame]) -> Trace | None:
    """A Python trace: the error stands below the frames; chains begin with what happened first."""
    blocks = list(_blocks(lines, frames))
    return _rooted(blocks) if blocks else None


def _blocks(lines: Sequence[str], frames: dict[int, Frame]) -> Iterator[_Block]:
    prefix = _prefix(lines[min(frames)])
    found: list[Frame] = []
    link, indent, yielded, closed, plain = "", 0, False, False, ""
    above = ""
    for at, whole in enumerate(lines):
        line = whole
        if prefix is not None and (said := prefix.match(line)):
            line = line[said.end() :]
        if line.startswith(">"):
            line = _QUOTE.sub("", line)
        if _SEPARATOR.match(line):
            link, found = "member", []
            continue
        margin = _MARGIN.match(line)
        depth, line = (len(margin[1]), margin[2]) if margin else (0, line)
        above, plain = plain or above, line.strip()
        if at in frames:
            if yielded and not link:  # another trace
                return
            indent = len(line) - len(line.lstrip()) if not found else indent
            found.append(frames[at])
        elif not plain:
            continue
        elif "(most recent call last)" in plain:
            if yielded and not link:
                return
            found = []
        elif "direct cause of the following" in plain or "During handling of the above" in plain:
            if not closed and (bare := _KIND.match(above)) and _CAPITAL.search(bare[1]):  # a cause that nobody raised
                yield _Block(min(max(depth - 2, 0), MAX_DEPTH), link, Raised(bare[1], bare[2] or ""))
            link, found, closed, yielded = "cause" if "direct cause" in plain else "context", [], False, True
        elif (found or link == "member") and (named := _KIND.match(plain)):
            away = len(line) - len(line.lstrip())
            sure = (away < indent or plain.startswith("E ")) if found else away == 0
            kind = named[1]
            typed = _CAPITAL.search(kind) and (kind.endswith((*_SUFFIXES, "Group")) or kind in _NO_SUFFIX)
            if not (sure or (typed and found and indent == 0)):
                continue
            message = named[2] or _next(lines, at)
            yield _Block(
                min(max(depth - 2, 0), MAX_DEPTH),
                link,
                Raised(kind.removeprefix("__main__."), message, tuple(found[::-1])),
            )
            link, found, closed, yielded = "", [], True, True


def _next(lines: Sequence[str], at: int) -> str:
    """The second line of a message that begins with an empty one."""
    named = lines[at].rstrip().endswith(":")
    following = lines[at + 1].strip() if named and at + 1 < len(lines) else ""
    return "" if following.startswith(("Traceback", "File ", '"""', "+-")) else following


def _prefix(line: str) -> re.Pattern[str] | None:
    """What a log writes before each line of a trace, of which ``line`` is a frame; its numbers may differ."""
    start = line.find('File "')
    lead = line[: max(start, 0)]
    lead = lead.removesuffix("  ")
    if not lead.strip(" \t|+>"):
        return None
    return re.compile(re.sub(r"\d+", lambda _: r"\d+", re.escape(lead.rstrip())) + (r" ?" if lead[-1:] == " " else ""))


def _rooted(blocks: Sequence[_Block]) -> Trace:
    """Follows ``blocks`` to what they come from: causes, and the members of groups."""
    base = blocks[0].depth
    chain: list[_Block] = []
    inner: list[list[list[_Block]]] = []
    for block in blocks:
        if block.depth <= base and not (block.link == "member" and chain):
            chain.append(block)
            inner.append([])
        elif block.link == "member" and (not inner[-1] or block.depth <= inner[-1][0][0].depth):
            inner[-1].append([block])
        elif inner[-1]:
            inner[-1][-1].append(block)
    at = len(chain) - 1
    while at and chain[at].link == "cause":
        at -= 1
    handled = chain[0].raised if at else None
    reported = chain[-1].raised.kind
    frames = chain[at].raised.frames  # a member that nobody raised has none of its own
    roots = [root._replace(frames=root.frames or frames) for group in inner[at] for root in _rooted(group).roots]
    if not roots:
        raising = next((one.raised.frames for one in chain[at:] if one.raised.frames), ())
        roots = [chain[at].raised._replace(frames=raising)]
    return Trace(reported, tuple(dict.fromkeys(roots)), handled)
