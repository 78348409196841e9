"""What sources and metrics of log services share: which searches only read, whole answers, and signals of events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from feedback_lib import privacy
from feedback_lib.errors import ConfigError, nearest
from feedback_lib.transport import Reply

FIELDS = (  # of ours, that a source's option ``fields`` may say the service's names of
    *("native_id", "message", "error", "stack_trace", "severity", "service", "version", "labels", "product_area"),
    *("author", "url"),
)
PERSONAL = (  # the Elastic Common Schema's fields that name a person or their machine
    *(f"{one}.{field}" for one in ("user", "client.user", "source.user", "destination.user", "host.user")
      for field in ("name", "email", "full_name", "id", "hash")),
    *(f"{one}.{field}" for one in ("client", "source", "destination", "host", "server", "observer")
      for field in ("ip", "mac", "address")),
    *("client.nat.ip", "source.nat.ip", "related.user", "related.ip", "email.from.address", "email.to.address"),
    *("url.username", "user", "username", "src_user", "src_ip", "dest_ip", "clientip", "client_ip", "email"),
)  # fmt: skip
_TITLE = 300  # characters of a first line
_CLEANERS = {  # these are not redacted later on
    "native_id": privacy.redact_id,
    "version": privacy.redact_version,
    "url": privacy.redact_address,
}
_SPL_TEXT = re.compile(r'"(?:\\.|[^"\\])*"|```.*?```', re.DOTALL)
# commands of Splunk that only read and compute; a command that is not here is refused by its name
_SPL = """
    abstract accum addcoltotals addinfo addtotals analyzefields anomalies anomalousvalue anomalydetection append
    appendcols appendpipe arules associate autoregress bin bucket bucketdir chart cluster cofilter concurrency
    contingency convert correlate datamodel dbinspect dedup delta diff erex eval eventcount eventstats extract
    fieldformat fields fieldsummary filldown fillnull findtypes foreach format gauge gentimes geom geomfilter
    geostats head highlight history iconify inputcsv inputlookup iplocation join kmeans kv loadjob localize localop
    lookup makecontinuous makejson makemv makeresults mcatalog metadata metasearch mpreview msearch mstats multikv
    multisearch mvcombine mvexpand nomv outlier overlap pivot predict rangemap rare regex relevancy reltime rename
    replace require rest return reverse rex rtorder scrub search searchtxn selfjoin set setfields sichart sirare
    sistats sitimechart sitop sort spath stats strcat streamstats table tags tail timechart timewrap tojson top
    transaction transpose trendline tstats typeahead typer union uniq untable walklex where
    x11 xmlkv xmlunescape xpath xyseries
"""


def elastic_index(name: str, family: str) -> str:
    """An index of Elasticsearch as part of a path: nothing in it may lead to another call. Raises ConfigError."""
    if not re.fullmatch(r"[a-z0-9*.][a-z0-9*._,:+-]*", name) or set(name) == {"."}:
        raise ConfigError(f"{family} elasticsearch: index = {name!r}; write one such as logs-*, in small letters")
    return name


def elastic_partial(reply: Mapping[str, Any]) -> str | None:
    """Why an answer of Elasticsearch with status 200 is incomplete; None when it is whole."""
    shards = reply.get("_shards") or {}
    if reply.get("timed_out"):
        return "the search ran out of time; raise timeout_s or ask for less"
    if shards.get("failed"):
        return f"{shards['failed']} of {shards.get('total', '?')} shards failed"
    if reply.get("terminated_early") or (reply.get("_clusters") or {}).get("skipped"):
        return "the search left out a part of the data"
    return None


def spl(text: str, family: str) -> str:
    """The search to send to Splunk, after every command in it was found to only read. Raises ConfigError."""
    text = text.strip()
    if not text.startswith("|") and not re.match(r"search\s", text, re.IGNORECASE):
        text = f"search {text}"
    plain = _SPL_TEXT.sub(" ", text)
    if "`" in plain:
        raise ConfigError(
            f"{family} splunk: the query uses a macro, which may hide a command that writes; write it out"
        )
    for part in re.split(r"[|\[]", plain):
        command = re.match(r"\s*([^\s\]]*)", part)
        name = command[1].lower() if command else ""
        if name and name not in _SPL.split():
            raise ConfigError(
                f"{family} splunk: the query uses {name!r}, which is not known to only read; leave it out"
            )
    return text


def splunk_rows(reply: Reply) -> tuple[list[Mapping[str, Any]], list[tuple[str, str]], bool]:
    """Rows of a Splunk answer, messages as (type, text), and whether it came to its end.

    An export is one JSON object a line; preview rows are repeated later and left out. The other calls answer with one
    object that holds ``results``, or in old versions with a list of rows.

    Raises:
        TransportError: it is something else, such as a log-in page.
    """
    text = reply.content.decode("utf-8-sig", "replace").strip()
    rows: list[Mapping[str, Any]] = []
    messages: list[tuple[str, str]] = []
    whole = False
    try:
        parts = [json.loads(text)]
    except ValueError:
        try:
            parts = [json.loads(line) for line in text.split("\n") if line.strip()]
        except ValueError:
            if text.startswith("{"):
                return [], [], False  # cut in the middle of a line
            parts = reply.json()  # raises: it is something else
    for part in parts:
        if isinstance(part, list):
            part, whole = {"results": part}, True
        messages += [(str(one["type"]).upper(), str(one["text"])) for one in part.get("messages") or ()]
        if part.get("preview"):
            continue
        rows += part.get("results") or ()
        rows += [part["result"]] if part.get("result") else []
        whole = whole or "results" in part or bool(part.get("lastrow"))
    return rows, messages, whole


def columns(kind: str, given: Mapping[str, str], usual: Mapping[str, str]) -> dict[str, str]:
    """The service's name of each of our fields; an empty name leaves a usual one out. Raises ConfigError."""
    for field, name in given.items():
        if field not in FIELDS:
            raise ConfigError(f"sources {kind}: fields has {field!r}; {nearest(str(field), list(FIELDS))}")
        if not isinstance(name, str) or not re.fullmatch(r"[\w@.:{}/ -]*", name):
            raise ConfigError(f"sources {kind}: fields: {field} = {name!r} is no name of a field")
    return {field: name for field, name in {**usual, **given}.items() if name}


def personal_fields(names: Mapping[str, str], prefix: str = "") -> tuple[str, ...]:
    """Of a payload whose columns stand below ``prefix``: the author, and what usually names people."""
    return tuple(f"{prefix}{name}" for name in (*PERSONAL, *_mapped(names, "author")))


def plain_fields(names: Mapping[str, str], prefix: str = "") -> tuple[str, ...]:
    """Of such a payload: what is mapped to an id, an address or a version."""
    return tuple(f"{prefix}{name}" for name in _mapped(names, *_CLEANERS))


def _mapped(names: Mapping[str, str], *fields: str) -> list[str]:
    return [names[field] for field in fields if field in names]


def kept(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The columns of an event, flat, by the service's names; without personal data where they are not redacted later.

    >>> kept({"log": {"level": "error"}, "service.name": "api"}, {"severity": "log.level", "service": "service.name"})
    {'log.level': 'error', 'service.name': 'api'}
    """
    found = {}
    for field, name in names.items():
        values = list(_values(_dig(row, name)))
        if values:
            cleaned = [clean(value) for value in values] if (clean := _CLEANERS.get(field)) else values
            found[name] = cleaned[0] if len(cleaned) == 1 else cleaned
    return found


def told(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of a `Signal` from the columns of an event: the first line of its message is the title.

    Raises:
        ValueError: it has no words.
    """

    def text(field: str) -> str:
        return "\n".join(_values(_dig(row, names.get(field, "")))).strip()

    words = list(dict.fromkeys(part for field in ("message", "error") if (part := text(field))))
    trace = text("stack_trace")
    if trace and not any(trace in part for part in words):  # some loggers put the whole trace into the message
        words.append(trace)
    if not words:
        raise ValueError("has no message; name the field that holds it in the option fields")
    first = words[0].partition("\n")[0].rstrip()
    labels = tuple(dict.fromkeys(_values(_dig(row, names.get("labels", "")))))
    single = ("severity", "service", "version", "product_area", "author", "url")
    return {
        "title": first if len(first) <= _TITLE else first[: _TITLE - 1] + "…",
        "body": "\n".join(words),
        "labels": labels,
        **{field: text(field).partition("\n")[0] or None for field in single},
    }


def first(row: Mapping[str, Any], name: str) -> str | None:
    """The first value at a dotted name, as text."""
    return next(_values(_dig(row, name)), None)


def _dig(row: Any, name: str) -> Any:
    """The value at a dotted name, whose dots may be levels or part of a key."""
    if not name or not isinstance(row, Mapping):
        return None
    if name in row:
        return row[name]
    for at, letter in enumerate(name):
        if letter == "." and (found := _dig(row.get(name[:at]), name[at + 1 :])) is not None:
            return found
    return None


def _values(value: Any) -> Iterator[str]:
    """A value, or those of a list, as texts; what is nested deeper is left out."""
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, bool):
            yield str(one).lower()
        elif isinstance(one, str | int | float) and str(one).strip():
            yield str(one)
