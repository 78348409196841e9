"""A health check by a command of this machine, such as a Nagios plug-in."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, Any, ClassVar

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import Answer, Query, asked, clean, frame, labels, perfdata, positive
from feedback_lib.plugins import register
from feedback_lib.records import micros
from feedback_lib.transport import secret

_EXAMPLE = "[check_disk, -w, 10%], or {command: […], value: up, exit or a label of its performance data, timeout_s: 10}"
_KEPT = 65_536  # bytes of output that are read
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_UP = {0: 1.0, 1: 1.0, 2: 0.0, 3: None}  # OK, WARNING, CRITICAL, UNKNOWN


@register("metrics", "command")
@dataclasses.dataclass(frozen=True)
class Command:
    """A health check by a command with the conventions of Nagios plug-ins. It has no history.

    A query is the list of the command and its arguments, run without a shell, or ``{command: […], value: …}``. The
    value is ``up`` (1 for exit 0 OK and 1 WARNING, 0 for 2 CRITICAL, no data for 3 UNKNOWN), ``exit`` (its number), or
    a label of the performance data it prints, in base units (seconds, bytes; percent stays).

    What the command does is not seen from here: give it an account that can only read.

    Options:
        folder: where it runs; the present one when left out.
        pass_env: variables it gets beside PATH, HOME, the language and the time zone, such as the one of its password.
        timeout_s: seconds it may take; then it and what it started are killed.
    """

    folder: str = ""
    pass_env: tuple[str, ...] = ()
    timeout_s: float = 10
    history: ClassVar[bool] = False

    def now(self, query: Query, at: dt.datetime) -> Answer:
        """Runs the command once, now; ``at`` is only written beside the value."""
        command, wanted, timeout_s = self._parts(query)
        code, output = self._run(command, timeout_s)
        name = os.path.basename(command[0])  # noqa: PTH119  # a name to show
        first = clean(output.partition("|")[0].partition("\n")[0], self._secrets())
        partial = None
        if code < 0:
            raise MetricsError("command", f"{name} died of signal {-code}")
        if wanted == "exit":
            value: float | None = float(code)
        elif code not in _UP:
            raise MetricsError("command", f"{name} ended with {code}, which says nothing; plug-ins end with 0 to 3")
        elif wanted == "up":
            value = _UP[code]
            partial = f"{name} does not know: {first}" if value is None else None
        else:
            measured = perfdata(" ".join(line.partition("|")[2] for line in output.splitlines()))
            if measured and wanted not in measured:
                raise MetricsError(
                    "command", f"{name} has no performance data {wanted!r}; it has {', '.join(measured)}"
                )
            value = measured.get(wanted)
            partial = f"{name} gave no value of {wanted!r}: {first}" if value is None else None
        series = labels({"label": wanted} if wanted not in ("up", "exit") else {})
        return Answer(frame([(series, micros(at), value)]), partial)

    def between(self, query: Query, start: dt.datetime, end: dt.datetime, step_s: int) -> Answer:
        """Refused: a check knows only the present."""
        raise MetricsError("command", f"{self._parts(query)[0][0]}: a check knows only the present")

    def _run(self, command: Sequence[str], timeout_s: float) -> tuple[int, str]:
        """Exit code and the beginning of the standard output."""
        own = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            process = subprocess.Popen(
                command,
                cwd=self.folder or None,
                env=own | self._secrets(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that its children can be killed with it
            )
        except OSError as problem:
            raise MetricsError("command", f"{command[0]} cannot be run: {problem.strerror}") from None
        with process:
            assert process.stdout is not None
            try:
                output = _read(process, process.stdout, time.monotonic() + timeout_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the process is not waited for yet, so the id is its own
        if output is None:
            raise MetricsError("command", f"{command[0]} did not end within {timeout_s:g} s and was killed")
        return process.returncode, output.decode("utf-8", "replace")

    def _secrets(self) -> dict[str, str]:
        return {name: secret(name, "command") for name in self.pass_env}

    def _parts(self, query: Any) -> tuple[list[str], str, float]:
        if isinstance(query, list | tuple):
            query = {"command": query}
        given = asked("command", query, ("command", "value", "timeout_s"), _EXAMPLE)
        command, value = given.get("command"), given.get("value", "up")
        if isinstance(command, str) or not isinstance(command, Sequence) or not command:
            raise ConfigError(f"metrics command: command = {command!r} is no list of arguments; write {_EXAMPLE}")
        if not isinstance(value, str) or not value:
            raise ConfigError(f"metrics command: value = {value!r}; write {_EXAMPLE}")
        program = shutil.which(str(command[0]), path=os.environ.get("PATH"))
        if program is None and not self.folder:
            raise ConfigError(f"metrics command: there is no program {str(command[0])!r} that can be run here")
        return (
            [str(part) for part in command],
            value,
            positive("command", "timeout_s", given.get("timeout_s", self.timeout_s)),
        )


def _read(process: subprocess.Popen[bytes], stream: IO[bytes], until: float) -> bytes | None:
    """The first bytes of the output when the process ended in time; what its children still print is not awaited."""
    kept = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            left = until - time.monotonic()
            more = bool(selector.get_map()) and bool(selector.select(0 if ended else min(0.02, max(left, 0))))
            if more:
                part = os.read(stream.fileno(), _KEPT)
                kept += part[: _KEPT - len(kept)]
                if not part:
                    selector.unregister(stream)
            if ended and (not more or len(kept) == _KEPT or left <= 0):
                return bytes(kept)
            if left <= 0:
                return None
            if not selector.get_map():
                time.sleep(0.005)
