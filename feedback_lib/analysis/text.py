"""What can be known from one text: its clean form, its language, an English gloss, the error in it."""

from __future__ import annotations

import csv
import functools
import html
import importlib.resources
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from feedback_lib.analysis import traces
from feedback_lib.analysis.traces import error_template as error_template
from feedback_lib.analysis.traces import fingerprint as fingerprint

LANGUAGE_MODEL = f"py3langid+gloss.1+errors.{traces.VERSION}"
READABLE = 0.5  # share of content words the lexicon must know before a text in another language is understood at all
MAX_CHARS = 4_000

GLOSSED = ("de", "fr", "es", "it", "nl", "pt", "pl", "cs", "sv", "ru", "ja")
_OTHERS = ("en", "fi", "hu", "tr", "da", "no", "ro", "sl", "el", "uk", "zh", "ko", "ar", "he")
_COMPOUNDING = ("de", "nl", "sv")  # these write "folder names" as one word
_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
)
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_UKRAINIAN = re.compile(r"[іїєґ]", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W_]+(?:[-'’.+][^\W_]+)*")
_ENGLISH_FUNCTIONS = """
the a an and or but of to in on at for from with by as is are was were be been am i me my you your he she it its we our
they their this that these those not no do does did have has had can could will would should may if when what which who
how why where there here than then so too very just also all any some more most other into about after before because
since until while only out up down over again still now get got
"""
_ENGLISH = frozenset(_ENGLISH_FUNCTIONS.split())


# --- clean ------------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"```[^\n]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<!--.*?-->", re.DOTALL)
_MARKDOWN_LINK = re.compile(r"!?\[([^\]]{0,200})\]\([^)\s]{0,500}\)")
_URL = re.compile(r"(?:https?|ftp)://\S+|www\.\S+")
_REDACTED = re.compile(r"\[(?:email|phone|ip|mac|card|token|path|query)\]")
_QUOTED = re.compile(r"^\s*>.*$", re.MULTILINE)
_SIGNATURE = re.compile(r"^--\s*$.*", re.MULTILINE | re.DOTALL)
_WROTE = re.compile(r"^.{0,120}\b(?:wrote|schrieb|a écrit|escribió|ha scritto|schreef)\s*:\s*$", re.MULTILINE)
_MARKS = re.compile(r"[*_#`|~=]{2,}|^[ \t]*[#*>|-]+[ \t]", re.MULTILINE)

_FRAME = re.compile(
    r"""^\s*(?:File\ "[^"]*",\ line\ \d+|at\ [\w$.<>\[\]/\s-]+\(.*\)\s*$|at\ \S+:\d+:\d+|\.\.\.\ \d+\ more|
    goroutine\ \d+|\S+\.go:\d+|[\w./*()]+\(0x[0-9a-f, .x]*\)|created\ by\ |Traceback\ \(most|\^+\s*$|~*\^+~*\s*$)""",
    re.VERBOSE,
)
_ERROR = re.compile(
    r"""\b[A-Z][\w$]*(?:Error|Exception|Failure|Fault|Interrupt|Timeout|Warning)\b
        |\bpanic:|\bfatal\ error:|\bFATAL\b|\bERROR\b|\bError:
        |\bE[A-Z]{4,}\b                       # ECONNREFUSED and its like
        |\b(?:error|status)\ (?:code\ )?\d{3}\b|\bHTTP[ /]?(?:1\.1\ |2\ )?[45]\d\d\b
        |\bNS_ERROR_\w+|\bSIG(?:SEGV|ABRT|KILL|BUS)\b|\bexit\ (?:code|status)\ [1-9]\d*""",
    re.VERBOSE,
)


def clean(text: str) -> str:
    """A text as the models should see it, never for showing: no markup, quotes, signature, addresses; code shortened.

    Of a code block the first two lines stay, and of a stack trace the error lines, which say what went wrong. At most
    `MAX_CHARS` characters.
    """
    text = html.unescape(text.replace("\r\n", "\n"))
    text = _FENCE.sub(lambda m: "\n" + "\n".join(_shortened(m[1].strip().splitlines())) + "\n", text)
    text = _SIGNATURE.sub("", _QUOTED.sub("", _WROTE.sub("", text)))
    text = _MARKDOWN_LINK.sub(r"\1", text)
    text = _REDACTED.sub(" ", _URL.sub(" ", _TAG.sub(" ", text)))
    text = "\n".join(line for line in text.splitlines() if not _FRAME.match(line))
    text = _MARKS.sub(" ", text).replace("`", " ")
    text = re.sub(r"[ \t\xa0]+", " ", text)
    text = re.sub(r"\s*\n\s*", "\n", text).strip()
    return text[:MAX_CHARS]


def _shortened(lines: list[str]) -> list[str]:
    errors = [line for line in lines if _ERROR.search(line[:2_000]) and not _FRAME.match(line)]
    return list(dict.fromkeys(lines[:2] + errors[:2]))


# --- language ---------------------------------------------------------------------------------------------------------


def language(text: str, hint: str | None = None) -> str | None:
    """The language a text is written in, ISO 639-1.

    The script decides where it can; for the Latin alphabet py3langid's probabilities and the share of each language's
    function words are added up. ``hint`` (such as a locale, ``pt-BR``) only breaks ties: people write in other
    languages than their settings say.

    Returns:
        None when there are fewer than three words or it may as well be English.

    >>> language("nom des dossiers en anglais", hint="en-US")
    'fr'
    >>> language("ok") is None
    True
    """
    letters = len(_LETTERS.findall(text))
    if not letters:
        return None
    for code, script in _SCRIPTS:
        if len(script.findall(text)) > 0.15 * letters:
            return code
    if len(_CYRILLIC.findall(text)) > 0.3 * letters:
        return "uk" if _UKRAINIAN.search(text) else "ru"
    words = _words(text)
    if len(words) < 3:
        return None
    scores: dict[str, float] = defaultdict(float, _identifier().rank(" ".join(words).lower()))
    lexicon = _lexicon()
    folded = [_folded(word) for word in words]
    for code in (*GLOSSED, "en"):
        functions = _ENGLISH if code == "en" else lexicon[code].functions
        scores[code] += 2 * sum(map(functions.__contains__, folded)) / len(words)
    if hint:
        scores[hint.lower().replace("_", "-").split("-")[0]] += 0.1
    (score, best), (next_score, other) = sorted(((s, code) for code, s in scores.items()), reverse=True)[:2]
    return None if "en" in (best, other) and score - next_score < 0.05 else best


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    latin = {"en", "de", "fr", "es", "it", "nl", "pt", "pl", "cs", "sv", "fi", "hu", "tr", "da", "no", "ro", "sl"}
    identifier.set_languages(sorted(latin))
    return identifier


def _words(text: str) -> list[str]:
    return [w for w in _WORD.findall(text) if w.isalpha() or not any(c.isdigit() for c in w)]


# --- gloss ------------------------------------------------------------------------------------------------------------


class _Language:
    """One column of the lexicon: forms to English, stems to English, and function words."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.forms: dict[str, str] = {}
        self.stems: dict[str, str] = {}
        self.phrases: dict[str, str] = {}
        self.longest = 0  # the longest form, in characters; for text without spaces

    def add(self, form: str, english: str) -> None:
        if " " in form:
            self.phrases.setdefault(form, english)
        elif not english:
            self.functions.add(form)
        elif form.endswith("*"):
            self.stems.setdefault(form[:-1], english)
        else:
            self.forms.setdefault(form, english)
            self.longest = max(self.longest, len(form))

    def known(self, word: str, ending: int = 7) -> str | None:
        """English for a word: by its form, else by the longest stem it begins with; the ending at most so long."""
        if word in self.forms:
            return self.forms[word]
        for length in range(len(word), 1, -1):
            # a short stem may have a short ending only: "us*" is "usado", not "uskoro"
            if word[:length] in self.stems and len(word) - length <= min(ending, 3 if length < 4 else 7):
                return self.stems[word[:length]]
        return None

    def parts(self, word: str) -> str | None:
        """English for a compound of two known words, such as ``Ordnernamen``."""
        for cut in range(len(word) - 3, 2, -1):
            tail = self.known(word[cut:])
            if tail is None:
                continue
            for joint in ("", "s", "en", "n", "e"):
                head = word[:cut].removesuffix(joint) if joint else word[:cut]
                first = self.known(head) if len(head) > 2 and (not joint or head != word[:cut]) else None
                if first:
                    return f"{first} {tail}"
        return None


@functools.cache
def _lexicon() -> dict[str, _Language]:
    """The hand-written lexicon in ``feedback_lib/data/gloss.csv``, see `gloss`."""
    found: dict[str, _Language] = defaultdict(_Language)
    source = importlib.resources.files("feedback_lib").joinpath("data/gloss.csv")
    for row in csv.DictReader(source.read_text(encoding="utf-8").splitlines()):
        english = row.pop("english")
        for code, cell in row.items():
            for form in filter(None, cell.split("|")):
                found[code].add(_folded(form) if code != "ja" else form, english)
        found["en"].add(english, english)
    return dict(found)


class Read(NamedTuple):
    """A text as models read it: without mark-up, its language, itself or its English gloss, and whether they can."""

    clean: str
    language: str | None
    gloss: str
    readable: bool


def read(whole: str, locale: str | None = None, languages: frozenset[str] | None = frozenset({"en"})) -> Read:
    """What models are given of a signal.

    Args:
        whole: its title and body, on lines of their own.
        locale: what the source says of the language.
        languages: what the encoder was made for; None is any. A text in another language is glossed into English.
    """
    plain = clean(whole)
    spoken = language(plain, hint=locale)
    own = languages is None or spoken in languages
    words, share = (plain, 1.0) if own else gloss(plain, spoken)
    return Read(plain, spoken, words, share >= READABLE and bool(words.strip()))


def gloss(text: str, language: str | None) -> tuple[str, float]:
    """A rough English word-for-word gloss of a text, so that an English model can place it among English ones.

    Known words become English; English words, product names, and words in capitals stay; function words and unknown
    words go. It is not a translation and never shown to anyone. The lexicon (one row per English word, one column per
    language; ``|`` between forms, ``*`` for any ending) is our own and general: product support, not one product.

    Returns:
        The gloss, and the share of content words known, 0–1. English, and a text whose language is unsure but whose
        letters are Latin, comes back as it is with 1.0; a language without a column gives 0.0.

    >>> gloss("Les noms des dossiers sont en anglais", "fr")
    ('name folder English', 1.0)
    """
    if language == "en" or (language is None and not re.search(r"[^\W\d_\u0000-\u024f]", text)):
        return text, 1.0
    if language not in GLOSSED:
        return "", 0.0
    known = list(_glossed_japanese(text) if language == "ja" else _glossed(text, language))
    content = [word for word, counts in known if counts]
    words = [word for word, _ in known if word]
    words = [w for i, w in enumerate(words) if i == 0 or w != words[i - 1]]
    share = sum(word is not None for word in content) / len(content) if content else 0.0
    return " ".join(words), share


def _glossed(text: str, code: str) -> Iterator[tuple[str | None, bool]]:
    """(English or None, whether it counts as a content word) for each word."""
    own, english = _lexicon()[code], _lexicon()["en"].forms
    words = [part for word in _WORD.findall(text) for part in _elided(word)]
    folded = [_folded(word) for word in words]
    at = 0
    while at < len(words):
        for length in (4, 3, 2):
            phrase = own.phrases.get(" ".join(folded[at : at + length])) if at + length <= len(words) else None
            if phrase is not None:
                yield phrase, bool(phrase)
                at += length
                break
        else:
            word, fold = words[at], folded[at]
            at += 1
            if fold in own.functions or fold.isdigit() or len(fold) == 1:
                continue
            # Ordner|namen is two words before it is a form of Ordner
            compound = own.parts(fold) if code in _COMPOUNDING and not own.known(fold, ending=4) else None
            if compound or own.known(fold):
                yield compound or own.known(fold), True
            elif fold in english:
                yield english[fold], True
            elif word.isascii() and (any(c.isdigit() for c in word) or any(c.isupper() for c in word[1:])):
                yield (word if len(word) < 20 else None), False  # a product, a version, an abbreviation
            else:
                yield None, True


def _elided(word: str) -> list[str]:
    return [part for part in re.split(r"['’]", word) if part]


def _glossed_japanese(text: str) -> Iterator[tuple[str | None, bool]]:
    """No spaces: the longest known form at each place; unknown kanji and katakana count, hiragana is mostly grammar."""
    own, english = _lexicon()["ja"], _lexicon()["en"].forms
    for run in re.findall(
        r"[A-Za-z][A-Za-z0-9_.+-]*|[\u3040-\u30ff\u3400-\u9fffー々]+", unicodedata.normalize("NFKC", text)
    ):
        if run[0].isascii():
            yield (run.lower() if run.lower() in english else run), run.lower() in english
            continue
        at = 0
        while at < len(run):
            for length in range(min(own.longest, len(run) - at), 0, -1):
                if run[at : at + length] in own.forms:
                    yield own.forms[run[at : at + length]], True
                    at += length
                    break
            else:
                other = re.match(r"[\u30a0-\u30ff]+|[\u3400-\u9fff]+?|.", run[at:])
                assert other is not None
                yield None, not re.match(r"[\u3040-\u309f]", run[at])
                at += other.end()


@functools.lru_cache(100_000)
def _folded(word: str) -> str:
    """Lower case without accents; Japanese aside, the lexicon is compared so."""
    plain = unicodedata.normalize("NFKD", word.casefold().replace("ł", "l").replace("ø", "o").replace("’", "'"))
    return "".join(c for c in plain if not unicodedata.combining(c))
