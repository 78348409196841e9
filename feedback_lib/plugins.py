"""Find a source or sink by name.

A plug-in named ``mbox`` of family ``sources`` is the class registered by ``feedback_lib/sources/mbox.py``, or by an
installed package that declares the entry point group ``feedback_lib.sources``. Nothing is imported until asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import pkgutil
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from feedback_lib import config, privacy
from feedback_lib.errors import ConfigError, nearest

T = TypeVar("T", bound=type)
FAMILIES = ("sources", "metrics", "sinks")
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")
_CLASSES: dict[tuple[str, str], type] = {}


def register(family: str, name: str) -> Callable[[T], T]:
    """Class decorator: make a class known as ``name`` in ``family``; ``kind`` of the class then says so."""

    def keep(cls: T) -> T:
        cls.kind = name  # type: ignore[attr-defined]
        _CLASSES[family, name] = cls
        return cls

    return keep


def available(family: str) -> list[str]:
    """Names in ``family``, built in and installed, sorted; imports no plug-in."""
    try:
        package = importlib.import_module(f"feedback_lib.{family}")
    except ModuleNotFoundError as missing:
        if missing.name != f"feedback_lib.{family}":
            raise
        built_in: set[str] = set()
    else:
        built_in = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    return sorted(built_in | {e.name for e in importlib.metadata.entry_points(group=f"feedback_lib.{family}")})


def get(family: str, name: str) -> type:
    """The class known as ``name``. Raises ConfigError with the closest known name."""
    if (family, name) not in _CLASSES:
        known = available(family)
        if name not in known:
            raise ConfigError(f"no {family} plug-in named {name!r}; {nearest(name, known)}")
        outside = list(importlib.metadata.entry_points(group=f"feedback_lib.{family}", name=name))
        if outside:
            _CLASSES[family, name] = outside[0].load()
        else:
            importlib.import_module(f"feedback_lib.{family}.{name}")
    return _CLASSES[family, name]


def build(family: str, options: Mapping[str, Any]) -> Any:
    """Make one plug-in from a params entry such as ``{kind: mbox, path: mail.mbox}``.

    Raises:
        ConfigError: an option is unknown, missing or of another type than the plug-in's annotation says, or the
            plug-in refuses it.
    """
    given = dict(options)
    if "kind" not in given:
        raise ConfigError(f"an entry under {family} has no 'kind'; known: {', '.join(available(family))}")
    kind = str(given.pop("kind"))
    cls = get(family, kind)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in sorted(given.keys() - fields.keys()):
        raise ConfigError(f"{family} {kind}: unknown option {name!r}; {nearest(name, list(fields))}")
    for name, f in fields.items():
        if name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{family} {kind}: option {name!r} is missing")
    for name, value in given.items():
        if name.endswith("_env") and value and not all(map(privacy.is_name, _texts(value))):
            raise ConfigError(
                f"{family} {kind}: {name} is no name of an environment variable; if it is the secret itself, take it "
                "out, put it into a variable, and write the variable's name"
            )
    options, wrong = _typed(cls, given, f"{family} {kind}")
    try:
        built = cls(**options)
    except (TypeError, AttributeError, ValueError):
        if wrong is None:
            raise
    if wrong:
        raise wrong
    for name, value in given.items():
        if any(_PASSWORD.search(text) for text in _texts(value)):
            told = "take it out: params are copied into every run's record"
            raise ConfigError(f"{family} {kind}: {name} holds a password; {told}")
    return built


def _texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list | tuple) else [value])]


def _typed(cls: type, given: Mapping[str, Any], place: str) -> tuple[dict[str, Any], ConfigError | None]:
    """Options as the plug-in's annotations have them, and what is wrong with the first that does not fit.

    The plug-in sees that one, too: it may refuse it in better words.
    """
    hints, made, wrong = option_types(cls), dict(given), None
    for name, value in given.items():
        try:
            fits = config.typed(value, hints.get(name, Any), f"{place}: {name}")
        except ConfigError as problem:
            wrong = wrong or problem
        else:
            made[name] = value if fits == value else fits
    return made, wrong


def option_types(cls: type) -> dict[str, Any]:
    """The types of a plug-in's options; nothing where they cannot be known while the program runs."""
    try:
        return typing.get_type_hints(cls)
    except NameError:  # imported for type checkers only
        return {}
