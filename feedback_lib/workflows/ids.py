"""Ids that tell nothing: of workflows by a secret salt, of items and phases as they are if the tool ships them."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Mapping

from feedback_lib import orchestrator

HASH = re.compile(r"[0-9a-f]{32}")
CUSTOM_ITEM = re.compile(r"custom:[0-9a-f]{8}")
CUSTOM_PHASE = "CUSTOM"


@functools.cache
def default_items() -> frozenset[str]:
    """The ids of the items that the tool ships, in any phase."""
    return frozenset(item_id for items in orchestrator.default_items().values() for item_id in items)


@functools.cache
def default_phases() -> frozenset[str]:
    """The phases that the tool ships."""
    return frozenset(orchestrator.default_items())


def hashed(salt: bytes, text: str) -> str:
    """An id that only this installation can make again: HMAC-SHA256 with its secret salt, cut to 128 bits.

    >>> hashed(b"s" * 32, "wf_ce03679d")
    '55b988563478962cb3a43afe7f3ccc89'
    """
    return hmac.new(salt, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def installation(salt: bytes) -> str:
    """The id of this installation, 32 hex digits; the salt cannot be found from it."""
    return hashed(_apart(salt, "installation"), "")


def item(salt: bytes, item_id: str) -> str:
    """An item's id as the tool's maintainers may see it: its own if the tool ships it, else ``custom:`` and 8 digits.

    What it gave is given back unchanged.
    """
    if item_id in default_items() or CUSTOM_ITEM.fullmatch(item_id):
        return item_id
    return f"custom:{hashed(_apart(salt, 'item'), item_id)[:8]}"


def _apart(salt: bytes, what: str) -> bytes:
    """A key for one kind of ids, so that no workflow, whatever it is called, has the id of another kind of thing."""
    return hashlib.blake2b(what.encode(), key=salt[:64]).digest()


def phases(seconds: Mapping[str, int]) -> dict[str, int]:
    """Seconds by phase; those of phases that the tool does not ship are summed as ``CUSTOM``.

    >>> phases({"PLAN": 3, "BUY": 4, "SELL": 5})
    {'PLAN': 3, 'CUSTOM': 9}
    """
    found: dict[str, int] = {}
    for name, lasted in seconds.items():
        public = name if name in default_phases() else CUSTOM_PHASE
        found[public] = found.get(public, 0) + lasted
    return found
