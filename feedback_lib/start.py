"""Where the programs start: Ctrl-C while they are still being imported is told in a sentence, as later."""

from __future__ import annotations

import sys
from typing import NoReturn


def feedback() -> NoReturn:
    """Start ``feedback``."""
    _go("main")


def aggregator() -> NoReturn:
    """Start ``smartspec_feedback_aggregator``."""
    _go("aggregator")


def production_monitor() -> NoReturn:
    """Start ``smartspec_production_monitor``."""
    _go("production_monitor")


def orchestrator_feedback() -> NoReturn:
    """Start ``orchestrator-feedback``."""
    _go("orchestrator_feedback")


def _go(name: str) -> NoReturn:
    try:
        from feedback_lib import cli
    except KeyboardInterrupt:
        sys.stderr.write("Error: Stopped before anything was done.\n")
        sys.exit(1)
    getattr(cli, name)()
    sys.exit(0)
