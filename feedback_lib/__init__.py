"""Feedback Workbench: what people and machines say about a product, found, counted and told to those who can act.

The names an analyst types come from here; each is imported when first used, so ``import feedback_lib`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feedback_lib.report import Report, open_report
    from feedback_lib.store import Store

__all__ = ["Report", "Store", "__version__", "open_report"]
__version__ = "0.1.0"

_HOME = {"Report": "report", "open_report": "report", "Store": "store"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"feedback_lib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'feedback_lib' has no attribute {name!r}")
