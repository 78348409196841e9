"""The SLOs of a service: its spec, and the observability.yaml that says how each is measured.

`load` joins both into a `Plan`. Everything that is wrong is a ConfigError with the file, the line and what to write.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from feedback_lib import plugins
from feedback_lib.analysis import nfr
from feedback_lib.analysis.slo import Slo, exact, parse_duration
from feedback_lib.config import resolve
from feedback_lib.errors import ConfigError, nearest
from feedback_lib.metrics import Query

ALERTS = ".spec/reports/production-monitoring/alerts"
TOP_KEYS = (
    "provider", "service", "spec_id", "version", "window", "interval", "runbook", "dashboard", "deploys", "metrics",
    "alerts",
)  # fmt: skip
METRIC_KEYS = (
    "name", "query", "good", "bad", "total", "unit", "category", "method", "slice", "objective", "target", "window",
    "min_events", "runbook", "dashboard", "provider",
)  # fmt: skip
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FRONT = re.compile(r"^(?:spec_id|id):[ \t]*['\"]?([^'\"#\s]+)", re.MULTILINE)
_OTHER_NAMES = {"application_key": "app_key"}  # Datadog's own docs have both
_ENV = re.compile(r"\{\{\s*env\.(\w+)\s*\}\}")
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET = re.compile(
    r"(^|[_-])(api[_-]?key|app[_-]?key|application[_-]?key|token|password|passwd|routing[_-]?key|secret|authorization)$",
    re.I,
)
_CREDENTIALS_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")
_TARGET = re.compile(r"(<=|>=|<|>|≤|≥)?\s*(\d[\d.,_  ]*)\s*(.*)")
_PATHS = ("path", "folder", "state_file", "ca")
_SKIPPED_FOLDERS = frozenset(("node_modules", "venv", "__pycache__", "_backup", "reports", "site-packages"))
_YAML_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null"))
_USUAL_ADDRESS = {"prometheus": "http://127.0.0.1:9090", "grafana": "http://127.0.0.1:3000"}
_CALENDAR = {"week": "week", "month": "month", "quarter": "quarter", "year": "365d"}
_RATIOS = ("error_rate", "availability", "reliability")  # categories whose percentage is itself the share of good


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """One SLO and how it is measured.

    A value ``v`` of ``query`` becomes, with ``slo.method``:

    - timeslices: compared as it is (``v slo.op slo.threshold``), since the threshold is in the query's own unit;
    - ratio_timeslices: the share of good, ``v * scale``, or ``1 - v * scale`` with ``invert``. A share outside 0–1
      means that ``unit`` in observability.yaml is wrong: it is no measurement.

    With occurrences there are two of ``good``, ``bad`` and ``total`` instead: numbers of events per slice.
    """

    slo: Slo
    backend: Mapping[str, Any]  # options of a plug-in of family metrics, with its kind
    query: Query | None = None
    good: Query | None = None
    bad: Query | None = None
    total: Query | None = None
    scale: float = 1.0
    invert: bool = False
    op: str = ">="
    limit: float = 0.0  # the target's number as people wrote it, in `unit`
    unit: str = ""
    exact_factor: Fraction = Fraction(1)  # what was measured × this is in `unit`
    target: nfr.Target | None = None
    runbook: str | None = None
    dashboard: str | None = None
    written: Mapping[str, Query] = dataclasses.field(default_factory=dict)  # queries with $slice and $window in them
    line: int = 0  # in observability.yaml

    @property
    def factor(self) -> float:
        """What was measured × this is in ``unit``, up to rounding; `shown` is exact."""
        return float(self.exact_factor)

    def shown(self, measured: float) -> float:
        """A measured value in the unit of the target, to be compared with ``limit`` by a reader.

        ``measured`` is what ``query`` returned; with occurrences the share of bad events when ``op`` is ``<`` or
        ``<=``, else the share of good ones.
        """
        return float(exact(measured) * self.exact_factor) if math.isfinite(measured) else measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a monitor watches for one spec. ``unmeasured`` are targets that no metric measures."""

    spec_id: str
    service: str
    spec: Path
    observability: Path
    watched: tuple[Watched, ...]
    sinks: tuple[Mapping[str, Any], ...]
    interval_s: int = 60
    runbook: str | None = None
    deploys: Path | None = None
    unmeasured: tuple[nfr.Target, ...] = ()
    skipped: tuple[nfr.Skipped, ...] = ()


def duration_s(text: str | int) -> int:
    """Seconds of a duration as people write it; a bare number is seconds.

    Raises:
        ValueError: it is no duration, or 0.

    >>> duration_s("5m"), duration_s("60"), duration_s("30d")
    (300, 60, 2592000)
    """
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is no duration: write it as '60s', '5m', '1h' or '30d'")
    written = str(text).strip()
    return parse_duration(f"{written}s" if written.isdecimal() else written)


# ---------------------------------------------------------------------------------------------------------- finding


def find(spec_id: str, root: str | Path) -> Path:
    """The spec.md of a spec.

    Looked for under ``root``: a folder of that name below a folder ``specs`` (also ``.spec/specs``), a front matter
    that says ``spec_id`` or ``id``, and the entries (id, path) of ``.spec/SPEC_INDEX.json``. Links are not followed
    out of ``root``.

    Raises:
        ConfigError: the id is malformed, unknown (with the nearest known ids) or stands for several files.
    """
    if not _ID.fullmatch(spec_id) or ".." in spec_id:
        raise ConfigError(f"spec id {spec_id!r}: write letters, digits, '.', '_' and '-' only, such as spec-core-001")
    top = Path(root).resolve()
    if not top.is_dir():
        raise ConfigError(f"{root} is not a folder; name the one that holds specs/ or .spec/")
    known: dict[str, dict[Path, None]] = {}
    for name, path in (*_indexed(top, spec_id), *_on_disk(top)):
        known.setdefault(name, {})[path] = None
    found = list(known.get(spec_id, ()))
    if not found:
        if not known:
            raise ConfigError(f"no spec named {spec_id!r}: no spec.md under {top}; name the project's folder")
        close = difflib.get_close_matches(spec_id, known, n=3, cutoff=0.4) or sorted(known)[:10]
        raise ConfigError(f"no spec named {spec_id!r} under {top}; nearest: {', '.join(close)}")
    if len(found) > 1:
        places = ", ".join(str(p.relative_to(top)) for p in sorted(found))
        raise ConfigError(f"spec id {spec_id!r} stands for {len(found)} files: {places}. Give each its own id.")
    return found[0]


def ids(root: str | Path) -> list[str]:
    """The specs under ``root`` that say how they are measured (an observability.yaml beside them), by name, sorted.

    Raises:
        ConfigError: ``root`` is no folder.
    """
    top = Path(root).resolve()
    if not top.is_dir():
        raise ConfigError(f"{root} is not a folder; name the one that holds specs/ or .spec/")
    places = {path: name for name, path in _on_disk(top)}
    return sorted(name for path, name in places.items() if (path.parent / "observability.yaml").is_file())


def _on_disk(top: Path) -> Iterator[tuple[str, Path]]:
    """Every spec.md under ``top`` with each id it goes by."""
    for folder, inner, files in os.walk(top, followlinks=False):
        inner[:] = sorted(n for n in inner if n not in _SKIPPED_FOLDERS and (n == ".spec" or not n.startswith(".")))
        path = Path(folder) / "spec.md"
        if "spec.md" not in files or not _inside(path, top):
            continue
        within = path.parent.relative_to(top).parts
        if within and "specs" in (top.name, *within[:-1]):
            yield within[-1], path.resolve()
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(20_000)
        if head.startswith("---"):
            for name in dict.fromkeys(_FRONT.findall(head[3:].split("\n---", 1)[0])):
                yield name, path.resolve()


def _indexed(top: Path, spec_id: str) -> list[tuple[str, Path]]:
    """The entries of the index; one that cannot be used stops the run only when it is the one asked for."""
    index = top / ".spec" / "SPEC_INDEX.json"
    if not index.is_file() or not _inside(index, top):
        return []
    try:
        entries = json.loads(index.read_text("utf-8"))["specs"]
        pairs = [(e["id"], e["path"]) for e in entries if isinstance(e, dict) and "id" in e and "path" in e]
    except (ValueError, KeyError, TypeError, OSError) as problem:
        raise ConfigError(f"{index}: not an index of specs ({problem}); it is JSON with a list 'specs'") from None
    found = []
    for name, text in pairs:
        path = top / str(text)
        path = path / "spec.md" if path.is_dir() else path
        if path.is_file() and _inside(path, top):
            found.append((str(name), path.resolve()))
        elif name == spec_id:
            what = "leads out of the project" if path.is_file() else "is no file"
            raise ConfigError(f"{index}: the path of {spec_id}, {text!r}, {what}; name its spec.md below {top}")
    return found


def _inside(path: Path, top: Path) -> bool:
    return path.resolve().is_relative_to(top)


def _observability(spec_id: str, spec: Path, top: Path) -> Path:
    places = [spec.parent, top / ".spec" / "observability" / spec_id, top]
    for folder in places:
        path = folder / "observability.yaml"
        if path.is_file():
            if not _inside(path, top):
                raise ConfigError(f"{path} leads out of {top}; put the file itself there")
            return path
    raise ConfigError(
        f"no observability.yaml for {spec_id}; looked in {', '.join(str(p) for p in dict.fromkeys(places))}. "
        f"'feedback slo init {spec}' writes one."
    )


# ---------------------------------------------------------------------------------------------------------- loading


def load(spec_id: str, root: str | Path) -> Plan:
    """Read the spec of ``spec_id`` and its observability.yaml, and join metrics to targets by name.

    The file is the one beside spec.md, else ``.spec/observability/<id>/observability.yaml``, else the one in ``root``.

    Raises:
        ConfigError: something is missing or wrong; the message says file, line and what to write.
    """
    top = Path(root).resolve()
    spec = find(spec_id, top)
    document = _Document.read(_observability(spec_id, spec, top))
    reading = nfr.read(_text(spec))
    values = document.values
    if "spec_id" in values and values["spec_id"] != spec_id:
        raise document.wrong(["spec_id"], f"the file speaks of spec {values['spec_id']!r}, not of {spec_id}")
    if not isinstance(values.get("metrics"), list) or not values["metrics"]:
        raise document.wrong(["metrics"], f"metrics: write one entry per target; 'feedback slo init {spec}' shows how")
    targets = _named(reading.targets)
    service = document.text(["service"]) or spec_id
    provider = _provider(document)
    watched: list[Watched] = []
    seen: dict[str, int] = {}
    for i, entry in enumerate(values["metrics"]):
        if not isinstance(entry, dict):
            raise document.wrong(["metrics", i], "write a metric as keys and values, such as '- name: api_latency_p99'")
        one = _metric(document, i, service, spec, targets, provider)
        slug = _slug(one.slo.sli)
        if slug in seen:
            raise document.wrong(
                ["metrics", i, "name"],
                f"metric {one.slo.sli!r} stands on line {seen[slug]} already; give it another name",
            )
        seen[slug] = one.line
        watched.append(one)
    measured = {id(w.target) for w in watched}
    return Plan(
        spec_id=spec_id,
        service=service,
        spec=spec,
        observability=document.path,
        watched=tuple(watched),
        sinks=_sinks(document, top),
        interval_s=document.seconds(["interval"]) or 60,
        runbook=document.text(["runbook"]),
        deploys=_deploys(document),
        unmeasured=tuple(t for t in targets.values() if id(t) not in measured),
        skipped=reading.skipped,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read ({problem}); it is Markdown in UTF-8") from None


Keys = Sequence[str | int]


@dataclasses.dataclass(frozen=True)
class _Document:
    """A YAML file whose every value knows its line."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[tuple[str | int, ...], int]

    @classmethod
    def read(cls, path: Path) -> _Document:
        import yaml

        text = _text(path)
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            lines: dict[tuple[str | int, ...], int] = {}
            _lines(node, (), lines, path, ())
            values = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as problem:
            mark = getattr(problem, "problem_mark", None)
            line = f" line {mark.line + 1}" if mark else ""
            hint = " Text in {{…}} needs quotes." if "unhashable" in str(problem) else ""
            raise ConfigError(f"{path}{line}: not valid YAML ({getattr(problem, 'problem', problem)}).{hint}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected keys and values such as 'provider: prometheus'")
        return cls(path, values, lines)

    def line(self, keys: Keys) -> int:
        """The line of a key, or of the nearest thing around it."""
        for end in range(len(keys), 0, -1):
            if tuple(keys[:end]) in self.lines:
                return self.lines[tuple(keys[:end])]
        return 1

    def wrong(self, keys: Keys, message: str) -> ConfigError:
        return ConfigError(f"{self.path} line {self.line(keys)}: {message}")

    def get(self, keys: Keys) -> Any:
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else value[key] if isinstance(key, int) else None
        return value

    def text(self, keys: Keys) -> str | None:
        value = self.get(keys)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(keys, f"{keys[-1]} is {value!r}; write a text")
        if _CREDENTIALS_IN_URL.search(value):
            raise self.wrong(keys, f"{keys[-1]}: the address holds a user and a password; take them out")
        return value.strip()

    def seconds(self, keys: Keys) -> int | None:
        value = self.get(keys)
        try:
            return None if value is None else duration_s(value)
        except ValueError as problem:
            raise self.wrong(keys, f"{keys[-1]}: {problem}") from None


def _lines(
    node: Any, keys: tuple[str | int, ...], found: dict[tuple[str | int, ...], int], path: Path, above: tuple[int, ...]
) -> None:
    """Note the line of every key and list entry; a key given twice is an error."""
    import yaml

    if id(node) in above:
        raise ConfigError(f"{path} line {node.start_mark.line + 1}: an alias that holds itself; write the values out")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = (*keys, key.value if isinstance(key, yaml.ScalarNode) else "")
            line = key.start_mark.line + 1
            if at in found and at[-1] != "<<":
                raise ConfigError(f"{path} line {line}: {at[-1]!r} stands on line {found[at]} already; keep one")
            found[at] = line
            _lines(value, at, found, path, (*above, id(node)))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            found[*keys, i] = value.start_mark.line + 1
            _lines(value, (*keys, i), found, path, (*above, id(node)))


# ---------------------------------------------------------------------------------------------- providers and sinks


def _provider(document: _Document) -> Callable[[Keys], Mapping[str, Any]]:
    """A function from the place of a metric to the options of its backend, each checked once."""
    given = document.get(["provider"])
    others = {k: v for k, v in document.values.items() if k not in TOP_KEYS}
    if isinstance(given, dict):
        for key in others:
            raise document.wrong([key], f"unknown key {key!r}; {nearest(str(key), list(TOP_KEYS))}")
        top_options = {**given}
        top_keys: Keys = ["provider"]
    else:
        top_options = {"kind": given, **others}
        top_keys = []
    checked: dict[str, Mapping[str, Any]] = {}

    def of(keys: Keys) -> Mapping[str, Any]:
        own = document.get([*keys, "provider"])
        if own is None or (isinstance(own, str) and own == top_options.get("kind")):
            if given is None:
                raise document.wrong(
                    [], f"write 'provider:' with one of {', '.join(plugins.available('metrics'))}, and its options"
                )
            if "" not in checked:
                checked[""] = _plugin(document, "metrics", top_options, top_keys, "provider")
            return checked[""]
        options = own if isinstance(own, dict) else {"kind": own}
        return _plugin(document, "metrics", options, [*keys, "provider"], "kind")

    if given is not None:
        of([])
    return of


def _sinks(document: _Document, top: Path) -> tuple[Mapping[str, Any], ...]:
    given = document.get(["alerts"])
    if given is None:
        given = [{"kind": "incident_file"}]
    if not isinstance(given, list) or not all(isinstance(e, dict) for e in given):
        raise document.wrong(["alerts"], "alerts: write a list such as '- kind: incident_file'")
    made = []
    for i, entry in enumerate(given):
        options = dict(entry)
        if options.get("kind") == "incident_file":
            options.setdefault("folder", str(top / ALERTS))
        made.append(_plugin(document, "sinks", options, ["alerts", i], "kind"))
    return tuple(made)


def _plugin(document: _Document, family: str, given: Mapping[str, Any], keys: Keys, kind_key: str) -> Mapping[str, Any]:
    """Options as the plug-in takes them: credentials by name, paths absolute; proven by building it once."""
    place = [*keys, kind_key]
    kind = given.get("kind")
    if not isinstance(kind, str):
        raise document.wrong(place, f"write the kind: one of {', '.join(plugins.available(family))}")
    try:
        fields = [f.name for f in dataclasses.fields(plugins.get(family, kind))]
    except ConfigError as problem:
        raise document.wrong(place, str(problem)) from None
    options: dict[str, Any] = {"kind": kind}
    for name, value in given.items():
        if name == "kind":
            continue
        at = [*keys, name]
        name, value = _credential(document, at, str(name), value, kind, fields)
        if name not in fields:
            own = fields if keys else [*fields, *TOP_KEYS]
            what = f"unknown option {name!r} of {kind}" if keys else f"unknown key {name!r}"
            raise document.wrong(at, f"{what}; {nearest(name, own)}")
        if name in _PATHS and isinstance(value, str):
            value = _resolved(document, at, value)
        options[name] = value
    try:
        built = plugins.build(family, options)
    except (ConfigError, TypeError, ValueError, AttributeError) as problem:
        raise document.wrong(place, str(problem)) from None
    if callable(close := getattr(built, "close", None)):
        close()
    return options


def _credential(
    document: _Document, at: Keys, name: str, value: Any, kind: str, fields: Sequence[str]
) -> tuple[str, Any]:
    """An option without a secret in it: ``api_key: "{{env.X}}"`` is ``api_key_env: X``; a literal one is refused."""
    if isinstance(value, str) and (match := _ENV.fullmatch(value.strip())):
        name = _OTHER_NAMES.get(name, name)
        if f"{name}_env" not in fields:
            known = [f[:-4] for f in fields if f.endswith("_env")]
            where = f"takes {', '.join(known)} from the environment" if known else "takes nothing from the environment"
            raise document.wrong(at, f"{name}: this plug-in {where}; write the value itself or use another option")
        name, value = f"{name}_env", match[1]
    elif isinstance(value, str) and _ENV.search(value):
        raise document.wrong(at, f'{name}: "{{{{env.NAME}}}}" is the whole value or none of it; put all of it there')
    names = value if isinstance(value, list) else [value]
    if name.endswith("_env") and not all(isinstance(n, str) and _ENV_NAME.fullmatch(n) for n in names):
        raise document.wrong(at, f"{name} holds the NAME of an environment variable, in capitals, such as MY_TOKEN")
    _no_secrets(document, at, name, value, kind)
    return name, value


def _no_secrets(document: _Document, at: Keys, name: str, value: Any, kind: str = "") -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _no_secrets(document, [*at, key], str(key), inner, kind)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _no_secrets(document, [*at, i], name, inner, kind)
    elif value is not None and _SECRET.search(name):
        variable = re.sub(r"\W", "_", f"{kind}_{name}".strip("_").upper())
        raise document.wrong(
            at, f'{name}: a secret does not belong in this file. Write "{{{{env.{variable}}}}}" and set that variable.'
        )
    elif isinstance(value, str) and _CREDENTIALS_IN_URL.search(value):
        raise document.wrong(at, f"{name}: the address holds a user and a password; use the options for credentials")


def _resolved(document: _Document, at: Keys, text: str) -> str:
    try:
        return resolve(text, document.path.parent)
    except ConfigError as problem:
        raise document.wrong(at, str(problem)) from None


def _deploys(document: _Document) -> Path | None:
    text = document.text(["deploys"])
    if text is None:
        return None
    path = Path(_resolved(document, ["deploys"], text))
    if not path.is_file():
        raise document.wrong(["deploys"], f"deploys: {path} is no file; write a CSV with the columns at,version")
    return path


# ------------------------------------------------------------------------------------------------ targets and units


def _slug(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")


def _named(targets: Sequence[nfr.Target]) -> dict[str, nfr.Target]:
    """Targets by a name of their own.

    A requirement said twice is one; different ones of the same name get their percentile or a number behind it.
    """
    groups: dict[str, list[nfr.Target]] = {}
    for target in targets:
        same = groups.setdefault(_slug(target.name), [])
        if not any(_meaning(target) == _meaning(t) for t in same):
            same.append(target)
    named: dict[str, nfr.Target] = {s[0].name: s[0] for s in groups.values() if len(s) == 1}
    used = {_slug(n) for n in named}
    for same in groups.values():
        percentiles = {t.percentile for t in same}
        for i, target in enumerate(same if len(same) > 1 else (), start=1):
            by_percentile = len(percentiles) == len(same) and target.percentile is not None
            ending = f"p{_plain(target.percentile)}" if by_percentile and target.percentile is not None else str(i)
            name = f"{target.name}-{ending}"
            while _slug(name) in used:
                name += "-x"
            used.add(_slug(name))
            named[name] = target
    return dict(sorted(named.items(), key=lambda item: item[1].line))


def _meaning(target: nfr.Target) -> tuple[Any, ...]:
    return (target.category, target.op.rstrip("="), target.value_si, target.percentile)


def _plain(value: Decimal | Fraction) -> str:
    """A number in full, without an exponent or needless zeros."""
    if isinstance(value, Fraction):
        value = Decimal(value.numerator) / Decimal(value.denominator)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclasses.dataclass(frozen=True)
class _Goal:
    """What is asked of a metric, from the spec or from ``target:``."""

    category: str
    op: str
    value: Decimal
    unit: str
    percentile: Decimal | None = None
    window: str | None = None


_TIME = {
    **dict.fromkeys(("ns", "nanoseconds"), Fraction(1, 10**9)),
    **dict.fromkeys(("us", "µs", "μs", "microseconds"), Fraction(1, 10**6)),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), Fraction(1, 1000)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), Fraction(1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), Fraction(60)),
    **dict.fromkeys(("h", "hr", "hour", "hours"), Fraction(3600)),
    **dict.fromkeys(("d", "day", "days"), Fraction(86400)),
}
_RATIO = {"%": Fraction(1, 100), "percent": Fraction(1, 100), "‰": Fraction(1, 1000), "ratio": Fraction(1)}
_RATES = dict.fromkeys(("rps", "tps", "qps", "ops", "iops", "eps"), Fraction(1)) | dict.fromkeys(
    ("rpm", "tpm"), Fraction(1, 60)
)
_BITS = {"kbps": Fraction(125), "mbps": Fraction(125_000), "gbps": Fraction(125_000_000)}
_BYTES = {"b": Fraction(1), "byte": Fraction(1), "bytes": Fraction(1)} | {
    f"{prefix}{end}": Fraction(base**power)
    for power, prefix in enumerate(("k", "m", "g", "t"), start=1)
    for end, base in (("b", 1000), ("ib", 1024))
}


def _unit(text: str) -> tuple[str, Fraction]:
    """What a unit measures, and how many of the base unit it is."""
    word = text.strip().lower()
    if word in _RATIO:
        return "ratio", _RATIO[word]
    if word in _TIME:
        return "time", _TIME[word]
    if word in _BYTES:
        return "bytes", _BYTES[word]
    if word in _RATES:
        return "rate", _RATES[word]
    if word in _BITS:
        return "bytes/s", _BITS[word]
    what, slash, per = (p.strip() for p in word.rpartition("/"))
    if slash and per in _TIME:
        return ("bytes/s", _BYTES[what] / _TIME[per]) if what in _BYTES else ("rate", 1 / _TIME[per])
    return word or "number", Fraction(1)


def _said(text: str, category: str | None) -> _Goal:
    """A target as written in observability.yaml, such as ``< 200ms`` or ``99.9%``.

    Raises:
        ValueError: it is no target.
    """
    match = _TARGET.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no target; write one such as '< 200ms', '< 0.1%' or '>= 99.9%'")
    op, number, unit = match[1], re.sub(r"[  _]", "", match[2]), match[3].strip()
    number = number.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", number) else number.replace(",", ".")
    try:
        value = Decimal(number)
    except ArithmeticError:
        raise ValueError(f"{match[2].strip()!r} is no number; write one such as 99.9 or 1000") from None
    if not unit and 0 < value < 1 and category in (None, *_RATIOS):
        unit = "ratio"
    dimension, _ = _unit(unit)
    op = {"≤": "<=", "≥": ">="}.get(op, op)
    if not op:
        if dimension not in ("ratio", "time"):
            raise ValueError(f"{text!r} does not say above or below; write '< {text}' or '>= {text}'")
        op = "<=" if dimension == "time" or category in ("error_rate", "saturation") else ">="
    if category is None:
        below = op.startswith("<")
        category = {"time": "latency", "ratio": "error_rate" if below else "availability", "rate": "throughput"}.get(
            dimension, "other"
        )
    return _Goal(category, op, value, unit)


# ---------------------------------------------------------------------------------------------------------- metrics


def _metric(
    document: _Document,
    i: int,
    service: str,
    spec: Path,
    targets: Mapping[str, nfr.Target],
    provider: Callable[[Keys], Mapping[str, Any]],
) -> Watched:
    """One entry under ``metrics``."""
    here: Keys = ["metrics", i]
    entry = document.get(here)
    for key in entry:
        if key not in METRIC_KEYS:
            raise document.wrong([*here, key], f"unknown key {key!r}; {nearest(str(key), list(METRIC_KEYS))}")
    name = document.text([*here, "name"])
    if name is None:
        raise document.wrong(here, "name: is missing; write the name of a target in the spec")
    target = _joined(document, here, name, targets, spec)
    goal = _goal(document, here, name, target)
    queries = _queries(document, here, name)
    made = _measured(document, here, name, goal, queries)
    window = _window(document, here, goal)
    slice_s = document.seconds([*here, "slice"]) or 60
    try:
        slo = Slo(
            service=service,
            sli=name,
            category=goal.category,
            target=made["target"],
            window=window,
            method=made["method"],
            slice_s=slice_s,
            op=made.get("op"),
            threshold=made.get("threshold"),
            min_events=_number(document, [*here, "min_events"], 1),
        )
    except ValueError as problem:
        raise document.wrong(here, f"{name}: {problem}") from None
    op, limit, unit = made.get("read_as", (goal.op, goal.value, goal.unit))
    filled = {k: _filled(q, slice_s, window, document, [*here, k]) for k, q in queries.items()}
    return Watched(
        slo=slo,
        backend=provider(here),
        query=filled.get("query"),
        good=filled.get("good"),
        bad=filled.get("bad"),
        total=filled.get("total"),
        scale=made.get("scale", 1.0),
        invert=made.get("invert", False),
        op=op,
        limit=float(limit),
        unit="" if unit == "ratio" else unit,
        exact_factor=made["factor"],
        target=target,
        runbook=document.text([*here, "runbook"]) or document.text(["runbook"]),
        dashboard=document.text([*here, "dashboard"]) or document.text(["dashboard"]),
        written=queries,
        line=document.line(here),
    )


def _joined(
    document: _Document, here: Keys, name: str, targets: Mapping[str, nfr.Target], spec: Path
) -> nfr.Target | None:
    """The target a metric measures; None when the entry brings its own."""
    if name in targets:
        return targets[name]
    for known, target in targets.items():
        if _slug(known) == _slug(name):
            return target
    same = {k: t for k, t in targets.items() if _slug(t.name) == _slug(name)}
    if document.get([*here, "target"]) is not None:
        return None
    if same:
        several = "; ".join(f"{k} (line {t.line}: {t.op} {_plain(t.value)} {t.unit})" for k, t in same.items())
        raise document.wrong([*here, "name"], f"{name!r} has {len(same)} targets in {spec}: write one of {several}")
    close = difflib.get_close_matches(name, targets, n=3, cutoff=0.3) or list(targets)[:5]
    known = f"nearest targets there: {', '.join(close)}" if close else "it has no target that can be read"
    raise document.wrong(
        [*here, "name"], f"{name!r} has no target in {spec}; {known}. Or write 'target:', such as '< 200ms', here."
    )


def _goal(document: _Document, here: Keys, name: str, target: nfr.Target | None) -> _Goal:
    category = document.text([*here, "category"]) or (target.category if target else None)
    said = document.get([*here, "target"])
    if said is None:
        assert target is not None, "a metric without a target was refused"
        return _Goal(category or "other", target.op, target.value, target.unit, target.percentile, target.window)
    try:
        goal = _said(str(said), category)
    except ValueError as problem:
        raise document.wrong([*here, "target"], f"{name}: target {problem}") from None
    return goal if target is None else dataclasses.replace(goal, percentile=target.percentile, window=target.window)


def _queries(document: _Document, here: Keys, name: str) -> dict[str, Query]:
    """The queries of a metric: ``query``, or two of ``good``, ``bad`` and ``total``."""
    found: dict[str, Query] = {}
    for key in ("query", "good", "bad", "total"):
        value = document.get([*here, key])
        if value is None:
            continue
        if not (isinstance(value, dict) and value) and not (isinstance(value, str) and value.strip()):
            raise document.wrong([*here, key], f"{name}: {key} is {value!r}; write the query as the provider takes it")
        _no_secrets(document, [*here, key], key, value)
        found[key] = value
    if list(found) != ["query"] and ("query" in found or len(found) != 2):
        raise document.wrong(
            here, f"{name}: write 'query', or two of 'good', 'bad' and 'total'; found {', '.join(found) or 'none'}"
        )
    return found


def _measured(document: _Document, here: Keys, name: str, goal: _Goal, queries: Mapping[str, Query]) -> dict[str, Any]:
    """Method, target, threshold and scale of a metric."""
    dimension, base = _unit(goal.unit)
    share = dimension == "ratio" and goal.category in _RATIOS
    method = document.text([*here, "method"])
    counted = "query" not in queries
    if method is None:
        method = "occurrences" if counted else "ratio_timeslices" if share else "timeslices"
    if method not in ("occurrences", "timeslices", "ratio_timeslices"):
        known = nearest(method, ["occurrences", "timeslices", "ratio_timeslices"])
        raise document.wrong([*here, "method"], f"{name}: unknown method {method!r}; {known}")
    if counted != (method == "occurrences"):
        needs = "two of 'good', 'bad' and 'total'" if method == "occurrences" else "'query'"
        raise document.wrong([*here, "method"], f"{name}: method {method} is measured with {needs}")
    objective = _objective(document, [*here, "objective"], name)
    if method == "timeslices":
        own = _query_unit(document, here, name, goal, goal.unit)
        return {
            "method": method,
            "target": objective or "99%",
            "op": goal.op,
            "threshold": float(Fraction(goal.value) * base / own),
            "factor": own / base,
        }
    if dimension == "ratio":
        good = Fraction(goal.value) * base
        below = goal.op.startswith("<")
        good = 1 - good if below else good
        if objective is not None:
            raise document.wrong(
                [*here, "objective"], f"{name}: the target is {_percent(good)} of good already; write 'target:' instead"
            )
        if not 0 < good < 1:
            raise document.wrong(
                here, f"{name}: a target of {goal.op} {_plain(goal.value)}{goal.unit} leaves no error budget; write "
                "'target:' with one that does, such as '< 0.1%' or '>= 99.9%'"
            )  # fmt: skip
        made: dict[str, Any] = {"method": method, "target": _percent(good), "factor": 1 / base}
        if method == "ratio_timeslices":
            own = _query_unit(document, here, name, goal, "ratio")
            made |= {"scale": float(own), "invert": below, "factor": own / base}
        return made
    if method == "ratio_timeslices":
        raise document.wrong([*here, "method"], f"{name}: a target in {goal.unit or 'numbers'} is no share of good")
    wanted = objective or (f"{_plain(goal.percentile)}%" if goal.percentile is not None else None)
    if wanted is None:
        raise document.wrong(
            here,
            f"{name}: which share of events must be {goal.op} {_plain(goal.value)} {goal.unit}? Write 'objective: 99%'",
        )
    share_wanted = Decimal(wanted[:-1])
    return {"method": method, "target": wanted, "factor": Fraction(100), "read_as": (">=", share_wanted, "%")}


def _query_unit(document: _Document, here: Keys, name: str, goal: _Goal, default: str) -> Fraction:
    """The base units in one unit of what the query returns."""
    text = document.text([*here, "unit"]) or default
    dimension, own = _unit(text)
    wanted, _ = _unit(goal.unit)
    if dimension != wanted:
        raise document.wrong(
            [*here, "unit"],
            f"{name}: a value in {text or 'plain numbers'} cannot be compared with {_plain(goal.value)} "
            f"{goal.unit or '(no unit)'}; write the unit the query returns",
        )
    return own


def _objective(document: _Document, keys: Keys, name: str) -> str | None:
    value = document.get(keys)
    if value is None:
        return None
    text = str(value).strip()
    try:
        share = Fraction(text[:-1].strip()) / 100 if text.endswith("%") else Fraction(text)
    except ValueError:
        share = Fraction(0)
    if isinstance(value, bool) or not 0 < share < 1:
        raise document.wrong(keys, f"{name}: objective {text!r} is no share below 100 %; write one such as 99.5%")
    return _percent(share)


def _percent(share: Fraction) -> str:
    return f"{_plain(share * 100)}%"


def _number(document: _Document, keys: Keys, default: float) -> float:
    value = document.get(keys)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise document.wrong(keys, f"{keys[-1]} is {value!r}; write a number such as 10")
    return float(value)


def _window(document: _Document, here: Keys, goal: _Goal) -> str:
    """The window of an SLO: the metric's, the file's, the spec's, 30 days."""
    for keys in ([*here, "window"], ["window"]):
        if (value := document.get(keys)) is not None:
            try:
                return _span(value)
            except ValueError as problem:
                raise document.wrong(keys, f"window: {problem}; or week, month, quarter") from None
    try:
        return _span(goal.window) if goal.window else "30d"
    except ValueError:  # such as "5m", over which the number itself is taken
        return "30d"


def _span(value: Any) -> str:
    text = str(value).strip().lower()
    if text in _CALENDAR:
        return _CALENDAR[text]
    seconds = duration_s(value)
    if seconds < 86400:
        raise ValueError(f"{value!r} is shorter than a day; write one such as 7d or 30d")
    return f"{seconds // 86400}d" if seconds % 86400 == 0 else f"{seconds // 3600}h"


def _filled(query: Query, slice_s: int, window: str, document: _Document, keys: Keys) -> Query:
    """A query with ``$slice`` and ``$window`` replaced by their lengths, such as 60s and 30d."""
    if isinstance(query, Mapping):
        return {k: _filled(v, slice_s, window, document, keys) for k, v in query.items()}
    if isinstance(query, list):
        return [_filled(v, slice_s, window, document, keys) for v in query]
    if not isinstance(query, str):
        return query
    if "$window" in query and window in _CALENDAR:
        raise document.wrong(keys, f"$window: a calendar {window} has no fixed length; write the length, such as 30d")
    return re.sub(r"\$window\b", window, re.sub(r"\$slice\b", f"{slice_s}s", query))


# ---------------------------------------------------------------------------------------------------------- writing


def init(spec_path: str | Path, provider: str = "prometheus", url: str | None = None) -> str:
    """The text of an observability.yaml for a spec: one metric per readable target, to be edited.

    The queries are suggestions by provider and category; the text loads as it is. What cannot be measured as written,
    and lines that could not be read, stand in comments.

    Args:
        spec_path: the spec.md.
        provider: plug-in of family metrics.
        url: its address; None leaves it out, or writes a usual one where it cannot be left out.

    Raises:
        ConfigError: the spec cannot be read, or there is no such provider.
    """
    spec = Path(spec_path)
    markdown = _text(spec)
    reading = nfr.read(markdown)
    names = _FRONT.findall(markdown[3:].split("\n---", 1)[0]) if markdown.startswith("---") else []
    label = re.sub(r"[^\w.:-]", "-", names[0] if names else spec.resolve().parent.name)
    lines = [
        f"# How the targets in {spec.name} are measured. docs/observability.md explains every key.",
        "# The queries are suggestions: put your own metrics and labels into them.",
        f"provider: {_quoted(provider)}",
        *_required(provider, url),
        "interval: 60s",
        "metrics:",
    ]
    entries = 0
    for name, target in _named(reading.targets).items():
        said = f"{spec.name} line {target.line}: {_one_line(target.text)}"
        suggested = _suggested(provider, name, label, target)
        if not suggested:
            lines += [f"  # {said}", "  # is no target with an error budget; write one such as '< 0.1%' or '>= 99.9%'"]
            continue
        entries += 1
        lines += [f"  # {said}", f"  - name: {_quoted(name)}"]
        lines += [f"    {key}: {_quoted(value)}" for key, value in suggested.items()]
    if not entries:
        lines[-1:] = [
            "metrics:",
            "  # No target could be read in the spec. This entry brings its own; edit it.",
            "  - name: latency_p99",
            '    target: "< 200ms"',
            *(
                f"    {k}: {_quoted(v)}"
                for k, v in _query_for(provider, "latency", "time", "latency_p99", label, "0.99").items()
            ),
        ]
    if reading.skipped:
        lines += ["", "# Lines that look like targets but could not be used:"]
        for skipped in reading.skipped:
            closest = f"; closest form: {_one_line(skipped.closest)}" if skipped.closest else ""
            lines.append(f"# line {skipped.line}: {_one_line(skipped.text)} ({_one_line(skipped.reason)}{closest})")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _quoted(value: Any) -> str:
    """A YAML scalar that means this text, on one line."""
    text = str(value)
    if re.fullmatch(r"[A-Za-z_][\w./:-]*[\w/]|[A-Za-z_]", text, re.A) and text.lower() not in _YAML_WORDS:
        return text
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


def _required(provider: str, url: str | None) -> list[str]:
    """The provider's address, its credentials by name, and the options it cannot do without."""
    lines = []
    for field in dataclasses.fields(plugins.get("metrics", provider)):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name == "url" and (url or needed):
            lines.append(f"url: {_quoted(url or _USUAL_ADDRESS.get(provider, 'http://127.0.0.1'))}")
        elif field.name.endswith("_env") and (needed or field.default):
            variable = field.default if isinstance(field.default, str) else f"{provider}_{field.name[:-4]}".upper()
            lines.append(f'{field.name[:-4]}: "{{{{env.{variable}}}}}"')
        elif needed:
            lines.append(f"{field.name}: edit-me")
    return lines


def _suggested(provider: str, name: str, label: str, target: nfr.Target) -> dict[str, str]:
    """The keys of a metric for a target; empty when the target has no error budget as written."""
    dimension, base = _unit(target.unit)
    if dimension == "ratio" and target.category in _RATIOS and not 0 < Fraction(target.value) * base < 1:
        return {}
    percentile = target.percentile if target.percentile is not None else Decimal(95)
    return _query_for(provider, target.category, dimension, name, label, _plain(percentile / 100)) | (
        {} if dimension in ("time", "ratio", "rate") else {"unit": target.unit} if target.unit else {}
    )


def _query_for(provider: str, category: str, dimension: str, name: str, label: str, quantile: str) -> dict[str, str]:
    """A query that may fit a category, with the unit it returns."""
    metric = re.sub(r"\W", "_", name, flags=re.A).strip("_") or "metric"
    if provider == "prometheus":
        requests = f'http_requests_total{{job="{label}"'
        counts = {
            "bad": f'sum(increase({requests},code=~"5.."}}[$slice]))',
            "total": f"sum(increase({requests}}}[$slice]))",
        }
        suggestions = {
            ("latency", "time"): {
                "query": f"histogram_quantile({quantile}, sum by (le) "
                f'(rate(http_request_duration_seconds_bucket{{job="{label}"}}[5m])))',
                "unit": "s",
            },
            ("error_rate", "ratio"): counts,
            ("reliability", "ratio"): counts,
            ("availability", "ratio"): {"query": f'avg(avg_over_time(up{{job="{label}"}}[$slice]))', "unit": "ratio"},
            ("throughput", "rate"): {"query": f"sum(rate({requests}}}[5m]))", "unit": "req/s"},
            ("saturation", "ratio"): {
                "query": '1 - avg(rate(node_cpu_seconds_total{mode="idle"}[5m]))',
                "unit": "ratio",
            },
            ("freshness", "time"): {
                "query": f'time() - max(last_success_timestamp_seconds{{job="{label}"}})',
                "unit": "s",
            },
        }
    elif provider == "datadog":
        counts = {
            "bad": f"sum:trace.http.request.errors{{service:{label}}}.as_count()",
            "total": f"sum:trace.http.request.hits{{service:{label}}}.as_count()",
        }
        suggestions = {
            ("latency", "time"): {
                "query": f"p{_plain(Decimal(quantile) * 100)}:trace.http.request{{service:{label}}}",
                "unit": "s",
            },
            ("error_rate", "ratio"): counts,
            ("reliability", "ratio"): counts,
            ("availability", "ratio"): {"query": f"avg:network.http.can_connect{{instance:{label}}}", "unit": "ratio"},
            ("throughput", "rate"): {
                "query": f"sum:trace.http.request.hits{{service:{label}}}.as_rate()",
                "unit": "req/s",
            },
            ("saturation", "ratio"): {"query": f"avg:system.cpu.user{{service:{label}}}", "unit": "%"},
        }
    else:
        suggestions = {}
    units = {"time": "s", "ratio": "ratio", "rate": "req/s"}
    query = f"avg:{metric}{{service:{label}}}" if provider == "datadog" else metric
    other = {"query": query} | ({"unit": units[dimension]} if dimension in units else {})
    return suggestions.get((category, dimension), other)
