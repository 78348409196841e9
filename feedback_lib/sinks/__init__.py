"""Where messages go: one module each."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What is sent. ``key`` is the idempotency key: the same key is delivered once.

    ``data`` is the same as values, for sinks that machines read; an alert's keys stand in `feedback_lib.monitor`.
    """

    key: str
    title: str
    text: str
    attachments: tuple[str, ...] = ()
    data: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """Where a message went; ``delivered`` is False when it had been delivered before or it was a dry run."""

    kind: str
    key: str
    where: str
    delivered: bool
    at: dt.datetime


class Sink(Protocol):
    """A place messages go. Its dataclass fields are its options."""

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Deliver once per key; with ``dry_run`` say where it would go and write nothing.

        Raises:
            DeliveryError: it did not arrive.
        """
        ...
