"""params/*.yaml as frozen dataclasses, and the few things read from the environment.

Order: defaults in the dataclass, then the file, then ``--set key=value``. Relative paths start at the params file.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from feedback_lib.errors import ConfigError, nearest

T = TypeVar("T")
_PATH_OPTIONS = ("path", "folder", "state_file")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What a run is given. Every key stands in params/example.yaml with one line of explanation."""

    recipe: str = "weekly"
    product: str = ""
    synthetic: bool = False
    store: str = "../data/store"
    reports: str = "../reports"
    notebooks: tuple[str, ...] = ("weekly_trends", "suggestions", "signal_report")
    notebook_folder: str = "../notebooks"
    notebook_timeout_s: int = 600
    as_of: dt.datetime | None = None
    seed: int = 42
    threads: int = 2
    window_weeks: int = 26
    sources: tuple[Mapping[str, Any], ...] = ()
    sinks: tuple[Mapping[str, Any], ...] = ({"kind": "stdout"},)
    encoder: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"kind": "minilm"})
    registry: str = ""
    replies: bool = False
    topics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    writer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trends: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    exposure: str = ""
    specs: str = ""
    path: str = ""

    def folder(self, name: str) -> Path:
        """A path option of this configuration, made absolute."""
        return Path(getattr(self, name))


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a params file.

    Args:
        path: the YAML file.
        overrides: ``key=value`` texts; keys may be dotted (``trends.weeks=4``), values are YAML.

    Raises:
        ConfigError: the file is missing or broken, or a key or value is wrong; names file, line and nearest key.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as problem:
        raise ConfigError(f"params file {path}: {problem.strerror}. Pass an existing file with --params.") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML ({getattr(problem, 'problem', problem)}).") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}.")
    lines = _key_lines(node)
    for text in overrides:
        key, sep, value = text.partition("=")
        if not sep:
            raise ConfigError(f"--set {text!r}: write key=value.")
        _assign(values, key.strip().split("."), parse_value("--set", key, value))
        lines.setdefault(key.strip().split(".")[0], 0)

    def where(key: str) -> str:
        return f"{path} line {lines[key]}" if lines.get(key) else f"--set {key}"

    config = section(Config, values, where)
    base = path.resolve().parent
    return dataclasses.replace(
        config,
        path=str(path.resolve()),
        store=resolve(config.store, base),
        reports=resolve(config.reports, base),
        notebook_folder=resolve(config.notebook_folder, base),
        registry=resolve(config.registry or f"topics/{path.stem}.yaml", base),
        exposure=resolve(config.exposure, base) if config.exposure else "",
        specs=resolve(config.specs, base) if config.specs else "",
        encoder=_entry(config.encoder, base, f"{path} encoder"),
        sources=tuple(_entry(e, base, f"{path} sources[{i}]") for i, e in enumerate(config.sources)),
        sinks=tuple(_entry(e, base, f"{path} sinks[{i}]") for i, e in enumerate(config.sinks)),
    )


def section(cls: type[T], values: Mapping[str, Any], where: Any = None) -> T:
    """A dataclass from a mapping; an unknown key or a value of the wrong type is a ConfigError.

    Args:
        cls: a dataclass.
        values: its fields by name.
        where: text, or a function from key to text, that begins the message (``params/weekly.yaml line 4``).
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "path"}  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for key, value in values.items():
        place = where(key) if callable(where) else where or cls.__name__
        if key not in fields:
            raise ConfigError(f"{place}: unknown key {key!r}; {nearest(str(key), list(fields))}")
        made[key] = _typed(value, hints[key], f"{place}: {key}")
    return cls(**made)


def resolve(text: str, base: Path) -> str:
    """A path option with ``${NAME:-default}`` filled from the environment, made absolute from ``base``.

    Raises:
        ConfigError: a variable without default is not set.
    """

    def fill(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        value = os.environ.get(name) or default
        if value is None:
            raise ConfigError(f"path {text!r}: environment variable {name} is not set.")
        return value

    return os.path.normpath(base / _VARIABLE.sub(fill, text))


def parse_time(text: str | dt.date | dt.datetime) -> dt.datetime:
    """A moment as written by people, aware, in UTC; a bare day is its midnight.

    Raises:
        ConfigError: not a day or a time.

    >>> parse_time("2026-11-16")
    datetime.datetime(2026, 11, 16, 0, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        value = text if isinstance(text, dt.date) else dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a day or time; write 2026-11-16 or 2026-11-16T06:00Z.") from None
    if not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time(), dt.UTC)
    return value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)


def parse_value(option: str, key: str, text: str) -> Any:
    """A value given on the command line, as YAML; nothing is an empty text.

    Raises:
        ConfigError: not valid YAML.
    """
    import yaml

    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        raise ConfigError(f"{option} {key}={text}: the value is not valid YAML.") from None


def cache_dir() -> Path:
    """Where models and embeddings are cached: FEEDBACK_CACHE, else the user's cache folder."""
    own = os.environ.get("FEEDBACK_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedback_lib"


def _entry(entry: Mapping[str, Any], base: Path, place: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{place}: expected a mapping such as {{kind: files, path: …}}, found {entry!r}")
    return {k: resolve(v, base) if k in _PATH_OPTIONS and isinstance(v, str) else v for k, v in entry.items()}


def _assign(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {key!r} is not a group of keys.")
    values[keys[-1]] = value


def _key_lines(node: Any) -> dict[str, int]:
    return {key.value: key.start_mark.line + 1 for key, _ in getattr(node, "value", ()) or ()}


def _typed(value: Any, hint: Any, place: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _typed(value, next(a for a in args if a is not type(None)), place)
    if hint is dt.datetime and isinstance(value, str | dt.date):
        return parse_time(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is tuple and isinstance(value, list):
        return tuple(value)
    wanted = origin or hint
    if wanted in (Mapping, typing.Mapping) or getattr(wanted, "__name__", "") == "Mapping":
        wanted = dict
    if not isinstance(value, wanted) or (hint is int and isinstance(value, bool)):
        name = {"tuple": "a list", "dict": "a group of keys"}.get(wanted.__name__, wanted.__name__)
        raise ConfigError(f"{place} = {value!r}: expected {name}")
    return value
