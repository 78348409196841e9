"""Settings of this installation, its secret salt, and whether tool feedback may leave: only if everything agrees."""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import json
import os
import re
import stat
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from feedback_lib import config, privacy
from feedback_lib.errors import ConfigError, nearest
from feedback_lib.workflows import disk

SETTINGS_FILE = "settings.json"
SALT_FILE = "salt"
SKIP = "ORCHESTRATOR_SKIP_FEEDBACK"
GIST = "gist"
REPOSITORY_FILES = (".orchestrator/config.yaml", ".orchestrator/config.yml")
_LONGEST = 64 * 1024  # bytes of a settings file


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``feedback config`` changes.

    ``feedback_sync``: whether tool feedback may be sent. ``feedback_endpoint``: where to, the address of a collector or
    ``gist`` for a private Gist; nothing until it is set.
    """

    feedback_sync: bool = False
    feedback_endpoint: str = ""


def load() -> Settings:
    """The settings; the defaults when there are none.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is wrong. Then nothing may be sent.
    """
    path = config.config_dir() / SETTINGS_FILE
    return _settings(_values(path), path)


def _values(path: Path, replaced: str = "") -> dict[str, Any]:
    """What stands in the file; ``replaced`` is a key that is about to get another value, and may stand twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object whose keys differ: of two answers, nobody knows which one was meant."""
        keys = [key for key, _ in pairs if key != replaced]
        if len(set(keys)) != len(keys):
            raise _TwiceError
        return dict(pairs)

    try:
        text = _content(path, ours=True).decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=once) if len(text) <= _LONGEST else None
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise ConfigError(
            f"{path}: {problem.strerror}; make it a file that you can read and nobody else can write, or delete it for "
            "the defaults"
        ) from None
    except _TwiceError:
        raise ConfigError(
            f"{path}: a key stands twice; set it anew with feedback config set, or delete the file for the defaults"
        ) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: is not JSON; write {{}} into it, or delete it for the defaults") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values; write {{}} into it, or delete it for the defaults")
    return values


def _settings(values: Mapping[str, Any], path: Path) -> Settings:
    """The settings that values are; one that is wrong is told with the command that mends it."""
    for key, value in values.items():
        if key not in _TAKEN:
            known = nearest(key, list(_TAKEN))
            raise ConfigError(f"{path}: unknown key {key!r}; {known}. Take it out of the file, or write it right.")
        try:
            held = config.section(Settings, {key: value}, str(path))
            _endpoint(held.feedback_endpoint, f"{path}: {key}")
        except ConfigError as problem:
            raise ConfigError(f"{problem}. To mend it: feedback config set {key} {_EXAMPLES[key]}") from None
    return Settings(**values)


class _TwiceError(Exception):
    pass


def change(key: str, text: str) -> Settings:
    """Set one key, keep the others, and return what holds now.

    Raises:
        ConfigError: there is no such key, it does not take this value, the file cannot be written, or another key in
            it is wrong; then this one is set all the same, so that one after the other can be mended.
    """
    taken = _TAKEN.get(key)
    if taken is None:
        raise ConfigError(f"unknown setting {key!r}; {nearest(key, list(_TAKEN))}")
    value = taken(text.strip(), key)
    folder = _folder()
    path = folder / SETTINGS_FILE
    with disk.alone(folder):
        values = dataclasses.asdict(Settings()) | _values(path, key) | {key: value}
        disk.replace(path, f"{json.dumps(values, indent=1)}\n".encode(), 0o600)
    try:
        return _settings(values, path)
    except ConfigError as problem:
        raise ConfigError(f"{key} is set, but something else is wrong: {problem}") from None


def _folder() -> Path:
    """The folder of settings and salt; made when it is missing, for its owner alone."""
    folder = config.config_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise ConfigError(
            f"{folder}: {problem.strerror}; make the folder above it writable, or name one in FEEDBACK_CONFIG"
        ) from None
    return folder


def salt() -> bytes:
    """The secret of this installation that ids are hashed with: 32 random bytes, made on first use, never sent.

    Raises:
        PrivacyError: the file holds something else, or others on this machine can read it.
        ConfigError: it cannot be read or made.
    """
    folder = _folder()
    lost = "what was sent before can no longer be recognised as this installation's"
    try:
        return privacy.load_key(folder, SALT_FILE, lost, private=True)
    except OSError as problem:
        raise ConfigError(
            f"{folder / SALT_FILE}: {problem.strerror}; make the folder writable, or name one in FEEDBACK_CONFIG"
        ) from None


def skipped() -> bool:
    """Whether ``ORCHESTRATOR_SKIP_FEEDBACK`` asks for no feedback at all; 0, false and no do not."""
    return os.environ.get(SKIP, "").strip().lower() not in ("", "0", "false", "no", "off")


def why_off(folder: Path) -> str | None:
    """Why nothing may be sent from a folder; None when it may. Nothing but settings is read for it.

    The repository can say no for everybody who works in it, but yes is for the owner of the installation alone.

    Raises:
        ConfigError: the settings cannot be read.
    """
    if skipped():
        return f"the environment variable {SKIP} is set"
    if not load().feedback_sync:
        return "feedback_sync is false, its default; to agree: feedback config set feedback_sync true"
    for path in _repository_files(folder):
        if reason := _repository_says_no(path):
            return reason
    return None


def _repository_files(folder: Path) -> Iterator[Path]:
    """The repository's own settings: in the folder, and above it up to the root of its repository."""
    folder = folder.resolve()
    above = [folder, *folder.parents]
    root = next((at for at, one in enumerate(above) if (one / ".git").exists()), 0)
    for one in above[: root + 1]:
        yield from (one / name for name in REPOSITORY_FILES)


def _repository_says_no(path: Path) -> str | None:
    """The reason, if a repository's file does not leave it to the installation; one that cannot be read says no."""
    import yaml

    try:
        content = _content(path)
        values = yaml.safe_load(content) if len(content) <= _LONGEST else None
        root = yaml.compose(content, yaml.SafeLoader) if isinstance(values, dict) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        return f"{path} cannot be read ({problem.strerror}), and it may say no"
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"{path} is not valid YAML, and it may say no"
    if values is None and not content.strip():
        return None
    if not isinstance(values, dict):
        return None if values is None and len(content) <= _LONGEST else f"{path} holds no keys, and it may say no"
    if sum(_is_sync(key.value) for key, _ in getattr(root, "value", ())) > 1:
        return f"{path} has feedback_sync twice, and one of them may say no"
    said = [value for key, value in values.items() if _is_sync(key)]
    if isinstance(group := values.get("feedback"), dict):
        said += [value for key, value in group.items() if _is_sync(f"feedback_{key}")]
    elif group is False:
        said.append(group)
    if all(value is True for value in said):
        return None
    return f"{path} says feedback_sync: false" if False in said else f"{path} has a feedback_sync that is not true"


def _is_sync(key: object) -> bool:
    """Whether a key is meant to be ``feedback_sync``, however it is written: a no counts, a yes is none anyway."""
    return isinstance(key, str) and re.sub(r"[\W_]", "", key).casefold() == "feedbacksync"


def _content(path: Path, *, ours: bool = False) -> bytes:
    """The first bytes of a file, one more than it may have; what is no file does not keep us waiting.

    With ``ours`` nobody else can have written it: a yes of somebody else on this machine is none.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        about, user = os.fstat(handle), os.geteuid()
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "Is no file")
        if ours and (about.st_mode & 0o002 or (user and about.st_uid not in (user, 0))):
            raise OSError(errno.EPERM, "Others can write it")
        return file.read(_LONGEST + 1)


def _sync(text: str, where: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{where} = {text!r}: write true or false")
    return text.lower() == "true"


def _endpoint(text: str, where: str) -> str:
    """An address that tool feedback may be sent to.

    Raises:
        ConfigError: it is none, holds credentials, or would go over a network unencrypted.
    """
    if text in ("", GIST):
        return text
    form = f"{where}: write an address such as https://feedback.example.org/submit, or {GIST}"
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(form) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{where}: the address holds a user or password; put a token into FEEDBACK_SYNC_TOKEN instead"
        )
    if parts.scheme not in ("http", "https") or not host or not text.isascii() or any(c <= " " for c in text):
        raise ConfigError(form)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ConfigError(f"{where}: the address holds a '?' or '#'; end it before")
    if parts.scheme == "http" and not is_here(host):
        raise ConfigError(f"{where}: {host} is another machine; write https, so that nobody on the way can read along")
    return text


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_TAKEN: dict[str, Callable[[str, str], Any]] = {"feedback_sync": _sync, "feedback_endpoint": _endpoint}
_EXAMPLES = {"feedback_sync": "false", "feedback_endpoint": "https://feedback.example.org/submit"}
