"""Messages on standard output."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from feedback_lib.errors import DeliveryError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt


@register("sinks", "stdout")
@dataclasses.dataclass(frozen=True)
class Stdout:
    """Prints title and text. What was printed is forgotten with the process; ``state_file`` remembers the keys."""

    prints: ClassVar[bool] = True  # a command that prints JSON for a machine leaves this sink out
    state_file: str | None = None

    @functools.cached_property
    def _printed(self) -> set[str]:
        """Keys this object printed."""
        return set()

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Print the message unless its key was printed before: by this object, or by any run with the state file.

        The key is kept after printing, so a run killed in between prints again rather than never. A watchdog event is
        not printed.

        Raises:
            DeliveryError: the output is closed, or the state file cannot be read or written.
        """
        try:
            delivered = not (dry_run or message.watchdog) and self._print(message)
        except OSError as error:
            raise DeliveryError("stdout", message.key, f"{error.strerror}: {self.state_file or 'output'}") from error
        return Receipt("stdout", message.key, "standard output", delivered, dt.datetime.now(dt.UTC))

    def _print(self, message: Message) -> bool:
        with self._held():
            if message.key in self._printed | self._remembered():
                return False
            files = "".join(f"  {name}\n" for name in message.attachments)
            sys.stdout.write(f"{message.title}\n\n{message.text.rstrip()}\n" + (f"\n{files}" if files else ""))
            sys.stdout.flush()
            self._printed.add(message.key)
            if self.state_file:
                with Path(self.state_file).open("a", encoding="utf-8") as state:
                    state.write(json.dumps(message.key) + "\n")
            return True

    def _remembered(self) -> set[str]:
        """Keys of the state file; a line cut short by a kill is not one."""
        if not self.state_file or not Path(self.state_file).exists():
            return set()
        keys = set()
        for line in Path(self.state_file).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                keys.add(json.loads(line))
        return keys

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody else prints and notes keys of the same state file meanwhile."""
        if not self.state_file:
            yield
            return
        import filelock

        path = Path(self.state_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            yield
