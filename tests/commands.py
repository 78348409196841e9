"""The programs as a user calls them: in a process of their own, or in this one where that makes no difference."""

import contextlib
import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_lib import cli

BIN = Path(sys.executable).parent
PROGRAMS = {
    "feedback": cli.main,
    "smartspec_feedback_aggregator": cli.aggregator,
    "smartspec_production_monitor": cli.production_monitor,
    "orchestrator-feedback": cli.orchestrator_feedback,
}


def started(*args, cwd=None, program="feedback") -> subprocess.CompletedProcess:
    """What an installed program prints and leaves with; each start imports everything again, for a second or so."""
    return subprocess.run(
        [BIN / program, *map(str, args)], capture_output=True, text=True, cwd=cwd, check=False, timeout=300
    )


def called(*args, cwd=None, program="feedback") -> subprocess.CompletedProcess:
    """The same from the same entry point, in this process."""
    shown = io.StringIO(), io.StringIO()
    root = logging.getLogger()  # a program sets up logging for itself
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [program, *map(str, args)])
            if cwd:
                patch.chdir(cwd)
            with contextlib.redirect_stdout(shown[0]), contextlib.redirect_stderr(shown[1]):
                PROGRAMS[program]()
    except SystemExit as end:
        code = end.code or 0
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return subprocess.CompletedProcess(args, code, shown[0].getvalue(), shown[1].getvalue())
