"""Messages as files in a folder, one per message."""

from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Literal

from feedback_lib import sinks
from feedback_lib.errors import ConfigError, DeliveryError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt

SUFFIX = {"markdown": ".md", "json": ".json"}


@register("sinks", "file")
@dataclasses.dataclass(frozen=True)
class File:
    """One Markdown or JSON file per idempotency key; a key that has a file is not delivered again."""

    folder: str
    format: Literal["markdown", "json"] = "markdown"

    def __post_init__(self) -> None:
        if self.format not in SUFFIX:
            raise ConfigError(f"sinks file: format is {self.format!r}; write one of {', '.join(SUFFIX)}")

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Write the message unless its file is there. A watchdog event is not written.

        The file appears complete or not at all, also when two processes deliver the same key at once.

        Raises:
            DeliveryError: the folder cannot be written.
        """
        path = self._path(message.key)
        try:
            wanted = not (dry_run or message.watchdog or path.exists())
            delivered = wanted and _create(path, self._content(message))
        except OSError as error:
            raise DeliveryError(
                "file", message.key, f"{path.parent}: {error.strerror}. Make the folder writable or name another."
            ) from error
        return Receipt("file", message.key, str(path), delivered, dt.datetime.now(dt.UTC))

    def _path(self, key: str) -> Path:
        """The file of a key: readable, and different for keys that differ only in what a file name cannot hold."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip("-.")[:80] or "message"
        if name != key:
            name += "-" + hashlib.sha256(key.encode()).hexdigest()[:8]
        return Path(self.folder) / (name + SUFFIX[self.format])

    def _content(self, message: Message) -> str:
        if self.format == "json":
            held: dict[str, Any] = dataclasses.asdict(dataclasses.replace(message, data=None))
            del held["data"]
            if message.data is not None:
                held["data"] = sinks.clean(message.data)
            return json.dumps(held, ensure_ascii=False, indent=2) + "\n"
        links = "".join(f"- [{Path(name).name}]({name})\n" for name in message.attachments)
        return f"# {message.title}\n\n{message.text.rstrip()}\n" + (f"\n{links}" if links else "")


def _create(path: Path, text: str) -> bool:
    """Write a file that was not there, in one step; False when somebody else was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.link(temporary, path)  # unlike a rename it fails when the name is taken
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        Path(temporary).replace(path)  # a file system without links
        return True
    finally:
        Path(temporary).unlink(missing_ok=True)
    return True
