"""The file of a collector: one SQLite row for each workflow, that tells nobody who sent it.

Ids are hashed again with a secret of the file, and the rows stand in the order of these hashes, so that not even the
order of arrival remains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback_lib.errors import ConfigError
from feedback_lib.workflows.anonymous import SCHEMA

_APPLICATION = 0x46624331  # of the file, so that another SQLite file is not taken for ours
_BUSY_S = 10.0  # for another process to finish its write


@dataclasses.dataclass(slots=True)
class Taken:
    """What became of the entries of one request. ``foreign``: places of those that belong to somebody else."""

    accepted: int = 0
    known: int = 0
    foreign: list[int] = dataclasses.field(default_factory=list)


class Collected:
    """The file with what was received: one row per workflow, the latest version of it.

    Args:
        path: the file, made if missing.
        max_mb: how large it may become.

    Raises:
        ConfigError: it cannot be opened, is no such file, or is of a newer version; it is as it was.
    """

    def __init__(self, path: Path, max_mb: int = 4096) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as problem:
            raise _unusable(self.path, problem) from None
        try:
            self._secret = self._set_up(max_mb)
            self.entries: int = self._connection.execute("SELECT count(*) FROM entries").fetchone()[0]
        except sqlite3.Error as problem:
            self._connection.close()
            raise _unusable(self.path, problem) from None

    def _set_up(self, max_mb: int) -> bytes:
        run = self._connection.execute
        if run("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            _check_file(self._connection)  # before anything of it changes
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")  # what was acknowledged is on the disk
        run("PRAGMA secure_delete = ON")  # and a version that was replaced is no longer
        run(f"PRAGMA max_page_count = {max_mb * 1024 * 1024 // run('PRAGMA page_size').fetchone()[0]}")
        run("BEGIN IMMEDIATE")
        if run("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {SCHEMA}")
            run("CREATE TABLE secret (key BLOB NOT NULL)")
            run("INSERT INTO secret VALUES (?)", [secrets.token_bytes(32)])
            run(
                "CREATE TABLE entries (id BLOB PRIMARY KEY, installation BLOB NOT NULL, day TEXT NOT NULL, "
                "seconds INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID"
            )
        run("COMMIT")
        _check_file(self._connection)
        return bytes(run("SELECT key FROM secret").fetchone()[0])

    def take(self, requests: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[Taken]:
        """Write the entries of several requests (installation, entries) at once; when it returns they are on the disk.

        Raises:
            sqlite3.Error: nothing was written.
        """
        run = self._connection.execute
        before = self._connection.total_changes
        run("BEGIN IMMEDIATE")
        try:
            told = [self._take(installation, entries) for installation, entries in requests]
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        if self._connection.total_changes != before:
            self.entries = run("SELECT count(*) FROM entries").fetchone()[0]
        return told

    def _take(self, installation: str, entries: Sequence[Mapping[str, Any]]) -> Taken:
        run, told = self._connection.execute, Taken()
        owner = self._hidden("installation", installation)
        for place, entry in enumerate(entries):
            key = self._hidden("workflow", entry["workflow_id_hash"])
            day, seconds = str(entry["timestamp"])[:10], int(entry["duration_seconds"])
            content = json.dumps({name: entry[name] for name in sorted(entry) if name != "workflow_id_hash"})
            held = run("SELECT installation, day, seconds, content FROM entries WHERE id = ?", [key]).fetchone()
            if held is None:
                run("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", [key, owner, day, seconds, content])
                told.accepted += 1
            elif held[0] != owner:
                told.foreign.append(place)
            elif held[3] == content or (day, seconds) < (held[1], held[2]):  # a log only grows: this one is older
                told.known += 1
            else:
                run("UPDATE entries SET day = ?, seconds = ?, content = ? WHERE id = ?", [day, seconds, content, key])
                told.accepted += 1
        return told

    def _hidden(self, what: str, text: str) -> bytes:
        """An id as it is kept: what was sent can be found again, but not read from the file."""
        return hmac.new(self._secret, f"{what} {text}".encode(), hashlib.sha256).digest()[:16]

    def close(self) -> None:
        """Close the file; what the log of writes holds goes into it."""
        self._connection.close()


def by_installation(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The entries of each installation in a file, oldest first; it may be in use.

    Raises:
        ConfigError: there is no such file, it is another one, or damaged.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; --data names the one that feedback collect fills")
    try:
        with contextlib.closing(_reading(path)) as connection:
            _check_file(connection)
            rows = connection.execute(
                "SELECT installation, content FROM entries ORDER BY installation, day, seconds, id"
            )
            held: list[dict[str, Any]] = []
            before = None
            for installation, content in rows:
                if installation != before and held:
                    yield held
                    held = []
                before = installation
                held.append(json.loads(content))
            if held:
                yield held
    except (sqlite3.Error, ValueError) as problem:
        raise _unusable(path, problem) from None


def _reading(path: Path) -> sqlite3.Connection:
    """The file, for reading only; also from a folder that nobody may write to."""
    place = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(place, uri=True, timeout=_BUSY_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        return sqlite3.connect(f"{place}&immutable=1", uri=True)  # nobody has it open
    return connection


def _check_file(connection: sqlite3.Connection) -> None:
    run = connection.execute
    found = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
    if found[0] != _APPLICATION:
        raise _ForeignError("is no file of feedback collect, and was left as it is; name another one with --data")
    if found[1] != SCHEMA:
        raise _ForeignError(
            f"is of version {found[1]}, and this program knows {SCHEMA}; use a newer one, or name "
            "another file with --data"
        )


class _ForeignError(sqlite3.DatabaseError):
    """The file can be read, and is not for us; the message says what to do."""


def _unusable(path: Path, problem: Exception) -> ConfigError:
    if isinstance(problem, _ForeignError):
        return ConfigError(f"{path}: {problem}")
    words = (problem.strerror if isinstance(problem, OSError) else str(problem)) or type(problem).__name__
    if getattr(problem, "sqlite_errorname", "") == "SQLITE_NOTADB":
        words = "is no file of feedback collect"
    return ConfigError(f"{path}: {words}; name another file with --data, or bring this one back from a backup")
