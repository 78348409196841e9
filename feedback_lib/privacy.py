"""Redaction of people's words and pseudonyms for their names, before anything is stored or leaves."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import re
import secrets
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback_lib.errors import PrivacyError

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32

_MARKER = r"\[(?:email|phone|ip|mac|card|token|path|query)\]"
_NOT_MARKED = rf"(?!{_MARKER})"

# Every repetition below is bounded or possessive: the time stays linear in the text, whatever the text is.

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?(?:-----END \1-----|\Z)", re.DOTALL)

_URL_LOGIN = re.compile(rf"(?<=://){_NOT_MARKED}[^\s/?#@<>\"']{{1,300}}@")
_URL_QUERY = re.compile(rf"(://[^\s?#<>\"']{{0,1000}}+)\?{_NOT_MARKED}[^\s<>\"')]{{0,4000}}[^\s<>\"')\].,;:!?]")
_URL_FRAGMENT = re.compile(
    rf"(://[^\s#<>\"']{{0,1000}}+)#{_NOT_MARKED}(?=[^\s<>\"')=]{{0,200}}=)[^\s<>\"')]{{0,4000}}[^\s<>\"')\].,;:!?]"
)

_TOKEN_SHAPES = {  # a literal that must be there: the shape of the token
    "ghp_": r"ghp_[A-Za-z0-9]{16,}",
    "gho_": r"gho_[A-Za-z0-9]{16,}",
    "ghu_": r"ghu_[A-Za-z0-9]{16,}",
    "ghs_": r"ghs_[A-Za-z0-9]{16,}",
    "ghr_": r"ghr_[A-Za-z0-9]{16,}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{16,}",
    "glpat-": r"glpat-[\w-]{16,}",
    "sk-": r"sk-(?:[A-Za-z0-9]{20,}|(?=[\w-]{0,200}?[0-9])[\w-]{16,})[\w-]*",
    "k_live_": r"[rsp]k_live_[A-Za-z0-9]{8,}",
    "k_test_": r"[rsp]k_test_[A-Za-z0-9]{8,}",
    "_live_": r"[A-Za-z][A-Za-z0-9]{1,11}_live_[A-Za-z0-9]{16,}",  # the habit that many services took over
    "_test_": r"[A-Za-z][A-Za-z0-9]{1,11}_test_(?=[A-Za-z]*[0-9])[A-Za-z0-9]{16,}",
    "xox": r"xox[abceoprs]-[A-Za-z0-9-]{8,}",
    "xapp-": r"xapp-[A-Za-z0-9-]{8,}",
    "AKIA": r"AKIA[A-Z0-9]{12,}",
    "ASIA": r"ASIA[A-Z0-9]{12,}",
    "AIza": r"AIza[\w-]{30,}",
    "eyJ": r"eyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?",
    "npm_": r"npm_[A-Za-z0-9]{30,}",
    "pypi-": r"pypi-[\w-]{30,}",
    "hf_": r"hf_[A-Za-z0-9]{20,}",
    "ya29.": r"ya29\.[\w-]{20,}",
    "SG.": r"SG\.[\w-]{16,}\.[\w-]{16,}",
    "dop_v1_": r"dop_v1_[a-f0-9]{40,}",
    "dckr_pat_": r"dckr_pat_[\w-]{16,}",
    "hvs.": r"hvs\.[\w-]{16,}",
    "hooks.slack.com": r"hooks\.slack\.com/(?:services|workflows)/[\w/-]{8,}",
    "/api/webhooks/": r"(?:discord|discordapp)\.com/api/webhooks/[\w/-]{8,}",
}
_TOKENS = [(hint, re.compile(rf"(?<![A-Za-z0-9]){shape}")) for hint, shape in _TOKEN_SHAPES.items()]

_SECRET_HINTS = ("pass", "pwd", "secret", "token", "key", "auth", "credential", "cookie", "session")
_SECRET_SCHEMES = ("bearer", "basic ")
_SECRET_NAME = (
    r"(?:password|passwd|passphrase|(?<![a-z])pass(?![ \t]{0,3}[=:][ \t]{0,3}[0-9]+(?!\S))|(?<![a-z])pwd|"
    r"credentials?|cookie|"
    r"secret(?:[_-]?access)?(?:[_-]?key)?|(?:api|access|private|account|encryption|signing|auth)[_-]?key|"
    r"(?:session|auth|access|refresh|id|bearer|api|bot)?[_-]?token|session[_-]?(?:id|key)|sessid|"
    r"authorization)"
)
_NOT_A_SECRET = rf"(?!{_MARKER}|(?:none|null|nil|true|false|undefined|empty)\b|\*{{3}}|\$|\{{\{{|<)"
_QUOTED_SECRET = re.compile(
    rf"({_SECRET_NAME}[\"']?[ \t]{{0,3}}(?:=>|:=|[=:])[ \t]{{0,3}}([\"'])){_NOT_A_SECRET}"
    rf"(?:(?!\2)[^\n]){{1,400}}(?=\2)",
    re.IGNORECASE,
)
_SET_SECRET = re.compile(
    rf"({_SECRET_NAME}[ \t]{{0,3}}=>?[ \t]{{0,3}}){_NOT_A_SECRET}(?=[^\s\"'=>])"
    r"[^\s\"'&;,<>]{0,400}[^\s\"'&;,<>).\]}:!?]",
    re.IGNORECASE,
)
_TOLD_SECRET = re.compile(  # with a colon people also write sentences: a word alone on its line, or no plain word
    rf"({_SECRET_NAME}[ \t]{{0,3}}(?::|[ \t](?:is|was)(?=[^\n]{{0,40}}[0-9]))[ \t]{{1,3}}){_NOT_A_SECRET}(?!\S{{0,20}}://)"
    r"(?:[a-z]{6,60}(?=[ \t]*(?:\n|\Z))|(?=[^\s\"'&;,<>]{0,100}[0-9!@#$%^*+=~])[^\s\"'&;,<>]{3,400}(?<![).\]}:!?]))",
    re.IGNORECASE,
)
_PLAIN_KEY = re.compile(
    rf"((?<!\w)key=){_NOT_A_SECRET}(?=[^\s&]{{0,60}}[0-9])(?=[^\s&]{{0,60}}[a-z])[\w+/=.-]{{8,400}}", re.IGNORECASE
)
_BEARER = re.compile(
    rf"((?<![a-z])bearer[ \t]{{1,3}}){_NOT_MARKED}(?![0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})"
    r"(?:[\w.~+/-]{20,2000}=*|(?=[\w.~+/-]{0,20}[0-9=])[\w.~+/-]{7,2000}=*)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"((?<![a-z])authorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?(?:basic|digest|token|apikey|bearer)[ \t]{1,3})"
    rf"{_NOT_MARKED}[^\s\"']{{4,2000}}",
    re.IGNORECASE,
)
_BASIC = re.compile(rf"((?<![a-z])basic ){_NOT_MARKED}[\w+/]{{12,2000}}={{1,2}}", re.IGNORECASE)
_COOKIE = re.compile(rf"((?:set-)?cookie:[ \t]*){_NOT_MARKED}[^\n=]{{1,80}}=[^\n]{{1,4000}}", re.IGNORECASE)

_SECRETS = (_COOKIE, _HEADER, _BEARER, _BASIC, _QUOTED_SECRET, _SET_SECRET, _TOLD_SECRET, _PLAIN_KEY)

_LOCAL = r"A-Za-z0-9_\u00c0-\u024f\u0370-\u052f"
_EMAIL = re.compile(
    rf"(?<![{_LOCAL}])[{_LOCAL}][{_LOCAL}.%+'-]{{0,250}}+@"
    r"(?:[\w-]{1,63}\.){1,8}(?!(?:png|jpe?g|gif|svg|webp|js|css|json|service|socket|timer)\b)[^\W\d_][\w-]{1,23}(?![\w@])"
)

_HOME_NIX = re.compile(
    rf"(?<![\w.\])-])(?:/(?:var|mnt|export|usr|data|nfs|mnt/[a-z]|[a-z]))?/(?:home|Users)/{_NOT_MARKED}"
    r"[^\s/\\:;,\"'`<>|()\[\]]{1,64}"
)
_HOME_WINDOWS = re.compile(
    r"(?<![A-Za-z])[A-Za-z]:[\\/]{1,2}users[\\/]{1,2}"
    r"(?:[^\\/:*?\"<>|\r\n]{1,40}(?=[\\/])|[^\\/:*?\"<>|\s,;]{1,40})",
    re.IGNORECASE,
)

_HEX_PAIRS = re.compile(r"[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]")
_HEX_GROUPS = re.compile(r"::[0-9A-Fa-f]|(?<=[0-9A-Fa-f])::|:(?:[0-9A-Fa-f]{1,4}:){4}")
_IPV4 = re.compile(
    r"(?<![\w.])(?<![A-Za-z]-)(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})"
    r"(?!\w|\.\w|-[A-Za-z])"
)
_NOT_AN_ADDRESS = re.compile(
    r"(?:\b(?:v|ver|version|release|build|firmware|section|chapter|step)|§)[ .:=]{0,2}\Z", re.IGNORECASE
)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_MAC = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")

_MANY_DIGITS = re.compile(r"[0-9](?:[^A-Za-z0-9\n]{0,3}[0-9]){6}")
_CARD = re.compile(
    r"(?<![\w.+-])(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}|3[0-9]{3}([ -])[0-9]{6}\2[0-9]{5})"
    r"(?![\w-]|\.[0-9])"
)
_CARD_ISSUER = re.compile(r"4(?:.{12}|.{15}|.{18})|(?:5[1-5]|2[2-7]|6[045]).{14}|3[47].{13}|3[068].{12}")
_CARD_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){12}")
_FOUR_NUMBERS = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_PHONES = [  # what must be there, the number
    # +49 30 1234567, +1 (212) 555-0100
    (r"\+[1-9]", re.compile(r"(?<![\w+])\+[1-9][0-9]{0,2}(?:[ .\-/]{0,2}\(?[0-9]{1,5}\)?){1,6}(?![\w(])")),
    # 212-555-0100, 212.555.0100, 1-800-555-0100, (212) 555 0100; a version has no such numbers
    (
        r"[0-9]{3}[-. ][0-9]{4}",
        re.compile(
            r"(?<![\w.+/-])(?:1[-. ])?(?:\([0-9]{3}\)[ -]?[0-9]{3}[-. ]|[0-9]{3}-[0-9]{3}-|"
            r"[2-9][0-9]{2}\.[2-9][0-9]{2}\.)[0-9]{4}(?!\w|[-./:][0-9])"
        ),
    ),
    # 06 12 34 56 78
    (
        r"0[1-9][ .-][0-9]{2}[ .-]",
        re.compile(r"(?<![\w.+/:-])(?<![0-9] )0[1-9]([ .-])[0-9]{2}(?:\1[0-9]{2}){3}(?!\w|[ .:/-]?[0-9])"),
    ),
    # 030 1234567, 0171/2345678, 020 7946 0958
    (
        r"0[1-9][0-9]{1,3}\)?[ /-][0-9]{3}",
        re.compile(
            r"(?<![\w.+/:-])(?<![0-9] )\(?0[1-9][0-9]{1,3}\)?[ /-][0-9]{3,8}(?:[ -][0-9]{2,5}){0,2}"
            r"(?!\w|[ .:/,-]?[0-9])"
        ),
    ),
    # 0049 30 1234567
    (
        r"00[1-9][0-9]{0,2}[ .\-/]",
        re.compile(r"(?<![\w.+/:-])00[1-9][0-9]{0,2}(?:[ .\-/]\(?[0-9]{1,5}\)?){2,6}(?!\w|[.:-]?[0-9]|-\w)"),
    ),
]
# phone: 1234567, call me at 212 555 0100
_PHONE_WORDS = ("phone", "tel", "fax", "whatsapp", "mobile", "cell", "handy", "call", "text me", "reach me")
_WORDED = re.compile(r"[ \t.:#(][0-9][0-9 ()./-]{5,18}[0-9]")
_WORDED_PHONE = re.compile(
    r"(?<![A-Za-z])(?:(?:tele)?phone|telefon|tel|fax|whatsapp|mobile|cell|handy|call me|text me|reach me|call)"
    r"(?:\.|:|#|[ \t]|\b(?:number|no|nr|is|at|on|us)\b){1,8}"
    r"(?![0-9]{4}-[0-9]{2}-[0-9]{2})\(?[0-9][0-9 ()./-]{5,18}[0-9](?!\w|[-./:][0-9])",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])")


def redact(text: str) -> str:
    """The text with e-mail addresses, phone numbers, IP addresses, card numbers, secrets and home folders replaced.

    They become ``[email]``, ``[phone]``, ``[ip]``, ``[mac]``, ``[card]``, ``[token]``, ``[path]`` (the rest of the
    path stays) and ``[query]`` (what follows ``?`` in an address). Dates, versions, ids and names in prose stay.
    Redacting twice equals redacting once.

    >>> redact("jane@example.org saw 500 at https://api.example.org/v2?user=jane from 203.0.113.9")
    '[email] saw 500 at https://api.example.org/v2?[query] from [ip]'
    >>> redact("File /home/jane/app/main.py, version 1.2.3.4, 2026-11-20T10:00:00Z")
    'File [path]/app/main.py, version 1.2.3.4, 2026-11-20T10:00:00Z'
    """
    if len(text) < 16 and text.isalpha():
        return text
    for _ in range(10):  # a replacement can uncover the next one; two rounds are the usual number
        once = _redact_once(text)
        if once == text:
            break
        text = once
    return text


def _redact_once(text: str, *, queries: bool = True) -> str:
    """One pass; each rule runs only where a cheap look says that it might find something."""
    if "-----BEGIN" in text:
        text = _PEM.sub("[token]", text)
    if queries and "://" in text:
        text = _URL_LOGIN.sub("[token]@", text)
        text = _URL_QUERY.sub(r"\1?[query]", text)
        text = _URL_FRAGMENT.sub(r"\1#[query]", text)
    for hint, shape in _TOKENS:
        if hint in text:
            text = shape.sub("[token]", text)
    lower = text.lower()
    if _may_tell_a_secret(lower):
        text = "\n".join(map(_without_secrets, text.split("\n")))
    if "@" in text:
        text = _EMAIL.sub(_email, text)
    if "/home/" in text or "users/" in lower or "users\\" in lower:
        text = _HOME_WINDOWS.sub("[path]", text)
        text = _HOME_NIX.sub("[path]", text)
    if _HEX_PAIRS.search(text):
        text = _MAC.sub(_mac, text)
    if ("::" in text or text.count(":") >= 7) and _HEX_GROUPS.search(text):
        text = _IPV6.sub(_ipv6, text)
    if _FOUR_NUMBERS.search(text):
        text = _IPV4.sub(_ipv4, text)
    if _MANY_DIGITS.search(text):
        if _CARD_DIGITS.search(text):
            text = _CARD.sub(_card, text)
        for hint, shape in _PHONES:
            if re.search(hint, text):
                text = shape.sub(_phone, text)
        if any(word in lower for word in _PHONE_WORDS) and _WORDED.search(text):
            text = _WORDED_PHONE.sub(_phone, text)
    return text


def _without_secrets(line: str) -> str:
    """A line without what stands after the name of a secret."""
    if _may_tell_a_secret(line.lower()):
        for rule in _SECRETS:
            line = rule.sub(r"\1[token]", line)
    return line


# Part by part: what stands between the marks of an address, and a name with its value.
_PART = re.compile(r"(?<=[/?&;#=:@])[^/?&;#=:@\s<>\"']{1,4000}")
_LOGIN = re.compile(rf"(?<=//){_NOT_MARKED}[^\s/?#<>\"']{{1,300}}@")
_PAIR = re.compile(r"(?<=[?&;#])([^=&;#?\s<>\"']{1,200})=([^&;#\s<>\"']{1,4000})")
_ALONE = re.compile(r"(?<=[?&;#])[^=&;#?/\s<>\"']{16,4000}(?![^&;#\s<>\"'])")
_AFTER_SECRET = re.compile(
    r"(/[\w.-]{0,40}(?:reset|verif|confirm|invit|activat|unsubscri|magic|token|secret|password|login|signin|sign-in|"
    r"auth|session|share)[\w.-]{0,40}/)([^/?#\s<>\"']{12,4000})",
    re.IGNORECASE,
)
_ID_NAME = re.compile(
    r"(?!.*(?:session|sess|client|auth|user|customer|account|device))(?:.*[_-])?(?:id|ids)", re.IGNORECASE
)
_SECRET_PARAMETER = re.compile(
    r".*(?:token|secret|passw|passphrase|pwd|auth|signature|session|sessid|credential|jwt|saml|otp|api.?key|nonce|"
    r"invit).*|.*[_-]key|(?:pass|key|sig|sid|code|hmac|pin)",
    re.IGNORECASE,
)
_PERSONAL_PARAMETER = re.compile(
    r".*(?:mail|phone|mobile|user|login|customer|contact|(?:first|last|full|real|display|nick).?name).*|"
    r"name|tel|fax|ip|to|cc|bcc|author|account|recipient",
    re.IGNORECASE,
)
_OPAQUE = re.compile(
    r"(?<![A-Za-z0-9])(?=[A-Za-z]{0,60}[0-9])(?=[0-9]{0,60}[A-Za-z])[A-Za-z0-9]{16,}|"
    r"(?<![A-Za-z0-9])(?=[a-z0-9]{0,60}[A-Z])(?=[A-Z0-9]{0,60}[a-z])[A-Za-z0-9]{24,}|"
    r"(?<![0-9a-f])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-f])"
)


def redact_address(text: str) -> str:
    """An address that still opens what it names where it can: only what is personal or secret in it is replaced.

    As `redact`, but of what follows ``?`` or ``#`` the harmless parts stay. A login, the values of parameters with
    telling names, values that look like keys, and what stands after ``/reset/`` and the like become markers; encoded
    characters are decoded first. Redacting twice equals redacting once.

    >>> redact_address("https://jane@x.example/reset?token=abcd1234efgh5678&to=jane%40example.org&id=17#top")
    'https://[token]@x.example/reset?token=[token]&to=[email]&id=17#top'
    """
    for _ in range(10):
        once = _redact_address_once(text)
        if once == text:
            return text
        text = once
    return redact(text)


def _redact_address_once(text: str) -> str:
    text = _LOGIN.sub("[token]@", text)
    text = _redact_once(text, queries=False)
    if "%" in text or "+" in text:
        text = _PART.sub(_part, text)
    text = _PAIR.sub(_pair, text)
    text = _ALONE.sub(lambda found: "[token]" if _OPAQUE.search(found[0]) else found[0], text)
    return _AFTER_SECRET.sub(lambda found: found[1] + ("[token]" if _OPAQUE.search(found[2]) else found[2]), text)


def _part(found: re.Match[str]) -> str:
    decoded = found[0]
    for _ in range(4):  # encoded twice or more often
        decoded, before = urllib.parse.unquote_plus(decoded), decoded
        if decoded == before:
            break
    else:
        return "[query]"
    clean = redact_address(decoded) if decoded != found[0] else decoded
    return found[0] if clean == decoded else urllib.parse.quote(clean, safe="[]")


def _pair(found: re.Match[str]) -> str:
    name, value = urllib.parse.unquote_plus(found[1]), found[2]
    if re.fullmatch(_MARKER, value) or _ID_NAME.fullmatch(name):
        return found[0]
    if _SECRET_PARAMETER.fullmatch(name) or _OPAQUE.search(value):
        return f"{found[1]}=[token]"
    return f"{found[1]}=[query]" if _PERSONAL_PARAMETER.fullmatch(name) else found[0]


def redact_id(text: str) -> str:
    """An id; its SHA-256 as 64 hex digits when `redact` would change it, so that it stays one of its own.

    >>> redact_id("ticket-17"), redact_id("jane@example.org")[:8]
    ('ticket-17', '13d855ce')
    """
    return text if redact(text) == text else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_name(text: str) -> bool:
    """Whether a text can be the name of an environment variable, and is not a secret in the place of one.

    >>> is_name("GITLAB_TOKEN"), is_name("hunter2"), is_name("glpat-0123456789abcdefghij")
    (True, False, False)
    """
    usual = re.fullmatch(r"[A-Z][A-Z0-9_]*|[A-Za-z]*_\w*", text, re.ASCII)
    return bool(usual) and redact(text) == text and not _OPAQUE.search(text)


def redact_version(text: str) -> str:
    """As `redact`, for a text known to be a version: four numbers with dots are no IP address.

    >>> redact_version("4.2.1.17")
    '4.2.1.17'
    """
    word = "version "
    return redact(word + text).removeprefix(word)


def _may_tell_a_secret(lower: str) -> bool:
    """Whether a word for a secret stands closely before something like an assignment."""
    for hint in (*_SECRET_HINTS, *_SECRET_SCHEMES):
        at = lower.find(hint)
        while at >= 0:
            after = lower[at : at + 40]
            if "=" in after or ":" in after or " is " in after or " was " in after or hint in _SECRET_SCHEMES:
                return True
            at = lower.find(hint, at + 1)
    return False


def _email(found: re.Match[str]) -> str:
    remote = found[0].startswith("git@") and found.string[found.end() : found.end() + 1] == ":"
    return found[0] if remote else "[email]"


def _mac(found: re.Match[str]) -> str:
    written = found[0]
    plain_number = found[1] == "-" and written.replace("-", "").isdigit()  # 26-11-20-10-30-00 is a time
    return written if plain_number else "[mac]"


def _ipv6(found: re.Match[str]) -> str:
    written = found[0]
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return written
    # a scope such as ``abc::def`` is code; ``::`` and ``::1`` name no person
    told = any(c.isdigit() for c in written) and not (address.is_loopback or address.is_unspecified)
    return "[ip]" if told else written


def _ipv4(found: re.Match[str]) -> str:
    written = found[0]
    if written == "0.0.0.0" or written.startswith("127."):
        return written
    before = found.string[max(0, found.start() - 12) : found.start()]
    return written if _NOT_AN_ADDRESS.search(before) else "[ip]"


def _card(found: re.Match[str]) -> str:
    digits = re.sub(r"[ -]", "", found[0])
    return "[card]" if _CARD_ISSUER.fullmatch(digits) and _luhn(digits) else found[0]


def _luhn(digits: str) -> bool:
    """Whether the check digit fits. Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _phone(found: re.Match[str]) -> str:
    written = found[0]
    digits = sum(c.isdigit() for c in written)
    worded = written[0].isalpha()
    if not (7 if worded else 8) <= digits <= 15 or _DATE.search(written):
        return written
    if not worded:
        return "[phone]"
    number = re.search(r"[0-9(]", written)
    start = number.start() if number else 0
    if written[:4].lower() == "call" and written[4:8].lower() != " me " and written[start:].isdigit():
        return written  # "call 12345678 failed" is a log line
    return written[:start] + "[phone]"


def pseudonym(name: str, key: bytes) -> str:
    """The same stand-in for the same name, on this machine only; a pseudonym stays what it is.

    Case, surrounding blanks and Unicode composition do not matter.

    >>> pseudonym("Jane", b"k" * 32) == pseudonym(" jane ", b"k" * 32)
    True
    """
    if _PSEUDONYM.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKC", name).strip().casefold()
    return "anon-" + hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), key=key, digest_size=6).hexdigest()


_PSEUDONYM = re.compile(r"anon-[0-9a-f]{12}")


def scrub(
    payload: Mapping[str, Any], *, personal: Collection[str], plain: Collection[str], key: bytes
) -> dict[str, Any]:
    """A payload without personal data: what is stored, and what ``parse`` sees.

    Args:
        payload: JSON-like values; it is not changed.
        personal: Dotted keys whose text and numbers, however deep, become pseudonyms; ``*.email`` means the key
            ``email`` at any depth. A list does not count as a step of a key.
        plain: Dotted keys whose values stay as they are: ids, addresses, times. A dotted key in ``personal`` wins
            over ``plain``, and ``plain`` wins over ``*.`` keys.
        key: The machine's own key, see `load_key`.

    Returns:
        A new dict. All other strings are redacted, keys included.
    """
    return scrub_all([payload], personal=personal, plain=plain, key=key)[0]


def scrub_all(
    payloads: Iterable[Mapping[str, Any]], *, personal: Collection[str], plain: Collection[str], key: bytes
) -> list[dict[str, Any]]:
    """`scrub` of many payloads, in much less time: texts in which nothing can be found are told by one search."""
    rules = _rules(tuple(personal), tuple(plain))
    texts: list[tuple[Any, Any, str]] = []
    clean = [_scrub_dict(payload, rules, "", key, texts) for payload in payloads]
    for holder, place, text in _redacted(texts):
        holder[place] = text
    return clean


def redact_all(texts: Sequence[str]) -> list[str]:
    """`redact` of many texts."""
    done = list(texts)
    for _, place, text in _redacted([(done, place, text) for place, text in enumerate(texts)]):
        done[place] = text
    return done


def _redacted(texts: list[tuple[Any, Any, str]]) -> Iterator[tuple[Any, Any, str]]:
    """Of (holder, place, text) those with a text that redaction changes, with the new text.

    No rule but that of keys (PEM) looks beyond a line, so that only lines in which something may be are looked at.
    """
    if len(texts) < 50:
        yield from ((holder, place, clean) for holder, place, text in texts if (clean := redact(text)) != text)
        return
    found = [texts[number] for number in _suspects([text for _, _, text in texts])]
    lines = [text.split("\n") if "-----BEGIN" not in text else [text] for _, _, text in found]
    flat = [line for text in lines for line in text]
    known = {flat[number]: "" for number in _suspects(flat)}
    known = {line: redact(line) for line in known}
    for (holder, place, text), parts in zip(found, lines, strict=True):
        clean = "\n".join([known.get(part, part) for part in parts])
        if clean != text:
            yield holder, place, clean


def _suspects(texts: list[str]) -> Iterable[int]:
    """Where a rule might find something."""
    import polars as pl

    try:
        return pl.Series(texts, dtype=pl.String).str.contains(_SUSPECT).arg_true()
    except UnicodeEncodeError:  # half a surrogate pair
        return range(len(texts))


# Holds of every text that a rule of `_redact_once` changes; in the dialect of Polars, without looking around.
_SUSPECT = "|".join(
    (
        "-----BEGIN",
        r"://[^\s<>\"']*[?#@]",
        *(re.escape(hint) for hint in _TOKEN_SHAPES),
        rf"(?i:{'|'.join(_SECRET_HINTS)})(?s:.{{0,40}})(?i:[=:]| is | was )",
        rf"(?i:{'|'.join(_SECRET_SCHEMES)})",
        r"[^\s@]@[\w-]",
        r"/home/|(?i:users[\\/])",
        r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]",
        r"[0-9A-Fa-f]::|::[0-9A-Fa-f]|(?:[0-9A-Fa-f]{1,4}:){6}",
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        _MANY_DIGITS.pattern,
    )
)


class _Rules:
    """What becomes of each key, found once for each place of a payload and then looked up."""

    def __init__(self, personal: tuple[str, ...], plain: tuple[str, ...]) -> None:
        self.named, self.plain = frozenset(personal), frozenset(plain)
        self.anywhere = frozenset(n[2:] for n in self.named if n.startswith("*."))
        self.known: dict[str, dict[Any, tuple[str, str, str]]] = {}

    def at(self, prefix: str) -> dict[Any, tuple[str, str, str]]:
        """By key below a prefix: what to do, the key as it is kept, its whole path."""
        if len(self.known) > 10_000:  # keys that are data
            self.known.clear()
        return self.known.setdefault(prefix, {})

    def of(self, name: Any, prefix: str) -> tuple[str, str, str]:
        """What to do at one key."""
        name = str(name)
        path = prefix + name
        if path in self.named:
            return "personal", name, path
        if path in self.plain:
            return "plain", name, path
        if name in self.anywhere:
            return "anywhere", name, path
        return "", _redact_key(name), path


_rules = functools.lru_cache(maxsize=64)(_Rules)


def _scrub_dict(
    payload: Mapping[str, Any], rules: _Rules, prefix: str, key: bytes, texts: list[tuple[Any, Any, str]]
) -> dict[str, Any]:
    """A copy without personal data; texts that have to be redacted are left in it and named in ``texts``."""
    clean: dict[str, Any] = {}
    known = rules.at(prefix)
    for name, value in payload.items():
        found = known.get(name)
        if found is None:
            found = rules.of(name, prefix)
            if len(known) < 10_000:
                known[name] = found
        what, kept, path = found
        if not what:
            kind = type(value)
            if kind is str:
                clean[kept] = value
                texts.append((clean, kept, value))
            elif kind in _NUMBERS:
                clean[kept] = value
            else:
                clean[kept] = _scrub_value(value, rules, path, key, texts)
        elif what == "plain":
            clean[kept] = value
        else:
            clean[kept] = _pseudonyms(value, path, rules.plain if what == "anywhere" else frozenset(), key)
    return clean


_NUMBERS = frozenset((int, float, bool, type(None)))


def _scrub_value(value: Any, rules: _Rules, path: str, key: bytes, texts: list[tuple[Any, Any, str]]) -> Any:
    if isinstance(value, Mapping):
        return _scrub_dict(value, rules, path + ".", key, texts)
    if not isinstance(value, list | tuple):
        return redact(value) if isinstance(value, str) else value
    clean: list[Any] = []
    for one in value:
        if type(one) is str:
            texts.append((clean, len(clean), one))
            clean.append(one)
        else:
            clean.append(_scrub_value(one, rules, path, key, texts))
    return clean


def _pseudonyms(value: Any, path: str, plain: frozenset[str], key: bytes) -> Any:
    if path in plain or isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return pseudonym(value, key) if value.strip() else value
    if isinstance(value, Mapping):
        return {_redact_key(str(k)): _pseudonyms(v, f"{path}.{k}", plain, key) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_pseudonyms(v, path, plain, key) for v in value]
    return pseudonym(str(value), key)


_redact_key = functools.lru_cache(maxsize=4096)(redact)  # the same few keys stand in every item


def assert_anonymous(text_or_obj: Any, field: str) -> None:
    """Refuse something that still holds what `redact` would remove; call it before anything leaves.

    Args:
        text_or_obj: A text, or JSON-like values, looked through to the bottom.
        field: What it is, such as ``suggestions.json``; the message adds the dotted key, never the words.

    Raises:
        PrivacyError: ``.field`` names the place.
    """
    if isinstance(text_or_obj, str):
        if redact(text_or_obj) != text_or_obj:
            raise PrivacyError(field, "personal data or a secret was about to leave; pass it through privacy.redact")
    elif isinstance(text_or_obj, Mapping):
        for name, value in text_or_obj.items():
            assert_anonymous(str(name), field)
            assert_anonymous(value, f"{field}.{name}")
    elif isinstance(text_or_obj, list | tuple | set | frozenset):
        for value in text_or_obj:
            assert_anonymous(value, field)


def load_key(
    folder: Path, name: str = KEY_FILE, lost: str = "every author gets a new pseudonym", *, private: bool = False
) -> bytes:
    """A secret of this machine: 32 random bytes in ``folder/name``, made on first use, never sent.

    Args:
        folder: where it is kept; made when it is missing.
        name: its file, by default the key behind the pseudonyms.
        lost: what it means to delete it, for the message about a damaged one.
        private: refuse one that others on this machine can read.

    Raises:
        PrivacyError: the file holds something else, or others can read it though it is ``private``.
        OSError: it cannot be read or made.
    """
    path = Path(folder) / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # of several first users one wins, and nobody sees half a key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    if private and os.name == "posix" and (rights := path.stat().st_mode & 0o077):
        raise PrivacyError(
            name, f"others on this machine can use it (rights {rights:03o} beyond the owner's); run: chmod 600 {path}"
        )
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise PrivacyError(
            name,
            f"has {len(key)} bytes instead of {KEY_BYTES}; restore it from a backup, or delete it and accept that "
            f"{lost}",
        )
    return key


def excerpt(text: str, words: int = 25) -> str:
    """The first words of a text on one line, with an ellipsis where it goes on.

    >>> excerpt("The build is slow again, since Monday", words=4)
    'The build is slow …'
    """
    split = text.split(None, words)
    return " ".join(split[:words]) + (" …" if len(split) > words else "")
