"""params/*.yaml as frozen dataclasses, and the few things read from the environment.

Order: defaults in the dataclass, then the file, then ``--set key=value``. Relative paths start at the params file.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import os
import re
import tempfile
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from feedback_lib.errors import ConfigError, nearest

T = TypeVar("T")
PATH_OPTIONS = ("path", "folder", "state_file", "ca")  # of plug-ins: relative ones start at the params file
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
    workflows: Mapping[str, Any] = dataclasses.field(default_factory=dict)
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
        raise ConfigError(
            f"params file {path}: {problem.strerror}. Pass an existing file with --params, or make one: feedback init."
        ) from None
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
        encoder=plugin_entry(config.encoder, base, f"{path} encoder"),
        sources=tuple(plugin_entry(e, base, f"{path} sources[{i}]") for i, e in enumerate(config.sources)),
        sinks=tuple(plugin_entry(e, base, f"{path} sinks[{i}]") for i, e in enumerate(config.sinks)),
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
        made[key] = typed(value, hints[key], f"{place}: {key}")
    return cls(**made)


def typed(value: Any, hint: Any, place: str) -> Any:
    """A value as YAML gave it, as a field with this annotation takes it.

    A whole number is a float, too; a day that YAML saw in a text is the text again; a text alone is a list of one.

    Raises:
        ConfigError: the value is of another type; the message begins with ``place``.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, args, place)
    if hint is dt.datetime and isinstance(value, str | dt.date):
        return parse_time(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, dt.date):
        return value.isoformat()
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{place} = {value!r}; {nearest(str(value), [str(a) for a in args])}")
        return value
    if args and args[0] is str and origin in (tuple, collections.abc.Sequence):
        return _texts(value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(value)
    wanted = origin or hint
    if wanted is collections.abc.Mapping:
        wanted = dict
    if isinstance(wanted, type) and (not isinstance(value, wanted) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{_stands(place, value)}: expected {_words(wanted, value)}")
    return value


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


def plugin_entry(entry: Mapping[str, Any], base: Path, place: str) -> dict[str, Any]:
    """An entry under ``sources``, ``sinks`` or ``encoder`` with its paths made absolute from ``base``.

    Raises:
        ConfigError: it is no mapping, or a path names a variable that is not set.
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{place}: expected a mapping such as {{kind: files, path: …}}, found {entry!r}")
    return {k: resolve(v, base) if k in PATH_OPTIONS and v and isinstance(v, str) else v for k, v in entry.items()}


def add_source(path: str | Path, entry: Mapping[str, Any]) -> None:
    """Write an entry at the end of ``sources`` in a params file; every other byte of it stays as it is.

    Args:
        path: the params file.
        entry: the entry; relative paths in it start at the params file.

    Raises:
        ConfigError: the file cannot be read or written, or it is not certain where the entry belongs; the message
            then holds the entry to paste.
    """
    import yaml

    path = Path(path)
    try:
        before = path.read_bytes().decode("utf-8")
        after = _with_source(before, entry)
        held = yaml.safe_load(before) or {}
        if yaml.safe_load(after) != {**held, "sources": [*(held.get("sources") or ()), dict(entry)]}:
            raise ValueError
    except OSError as problem:
        raise ConfigError(f"params file {path}: {problem.strerror}.") from None
    except (ValueError, TypeError, AttributeError, yaml.YAMLError):
        told = _block(entry, "  ", "\n")
        raise ConfigError(
            f"{path} was not changed: its form is unusual. Paste this under 'sources':\n\n{told}"
        ) from None
    _replace(path.resolve(), after)


def _with_source(text: str, entry: Mapping[str, Any]) -> str:
    """A params file's text with an entry more; whether it is right is for the caller to see."""
    import yaml

    end = "\r\n" if "\r\n" in text else "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    listed = next((value for key, value in reversed(pairs) if key.value == "sources"), None)
    if listed is None:
        return f"{text}{end if text and not text.endswith(end) else ''}sources:{end}{_block(entry, '  ', end)}"
    if not listed.value or isinstance(listed, yaml.ScalarNode):  # [], null, or nothing
        cut = text[: listed.start_mark.index].rstrip(" ")
        return _after_line(cut + text[listed.end_mark.index :], len(cut), _block(entry, "  ", end), end)
    last = listed.value[-1]
    if listed.flow_style:
        at = last.end_mark.index
        return f"{text[:at]}, {_flow(dict(entry))}{text[at:]}"
    while not isinstance(last, yaml.ScalarNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    at = len(text[: last.end_mark.index].rstrip())  # a block of text ends where something follows
    return _after_line(text, at, _block(entry, " " * listed.start_mark.column, end), end)


def _after_line(text: str, at: int, lines: str, end: str) -> str:
    """The text with lines put in after the one that ``at`` stands in."""
    stop = text.find("\n", at) + 1
    return text[:stop] + lines + text[stop:] if stop else text + end + lines


def _block(entry: Mapping[str, Any], indent: str, end: str) -> str:
    lines = [f"{key}: {_flow(value)}" for key, value in entry.items()]
    return f"{indent}- " + f"{end}{indent}  ".join(lines) + end


def _flow(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").rstrip("\n")


def _replace(path: Path, text: str) -> None:
    """Put a text in the place of a file at once, with the file's rights."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            Path(temporary).chmod(path.stat().st_mode & 0o777)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}. Make its folder writable.") from None


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


def config_dir() -> Path:
    """Where this installation's settings and secret salt are: FEEDBACK_CONFIG, else the user's configuration folder."""
    own = os.environ.get("FEEDBACK_CONFIG")
    return Path(own) if own else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "feedback_lib"


def _assign(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {key!r} is not a group of keys.")
    values[keys[-1]] = value


def _key_lines(node: Any) -> dict[str, int]:
    return {key.value: key.start_mark.line + 1 for key, _ in getattr(node, "value", ()) or ()}


def _one_of(value: Any, types: tuple[Any, ...], place: str) -> Any:
    """The value as the first of several types that takes it."""
    if value is None and type(None) in types:
        return None
    hints = [hint for hint in types if hint is not type(None)]
    for hint in hints[:-1]:
        try:
            return typed(value, hint, place)
        except ConfigError:
            continue
    return typed(value, hints[-1], place)


def _texts(value: Any, place: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ConfigError(f"{_stands(place, value)}: expected a list")
    return tuple(typed(text, str, place) for text in texts)


def _stands(place: str, value: Any) -> str:
    """What stands at a place; groups of keys are not repeated, they may hold a secret."""
    if value is None:
        return f"{place} is empty"
    return f"{place} is a group of keys" if isinstance(value, dict) else f"{place} = {value!r}"


def _words(wanted: type, value: Any) -> str:
    """What was expected, for people who write YAML."""
    quoted = "text; put it in quotes" if isinstance(value, int | float) else "text"
    listed = "a list; begin each entry with '- ', or write [] for none"
    names = {"tuple": listed, "Sequence": "a list", "dict": "a group of keys", "str": quoted}
    names |= {"bool": "true or false", "int": "a whole number", "float": "a number"}
    return names.get(wanted.__name__, wanted.__name__)
