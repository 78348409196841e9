"""Where signals come from: one module each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal

DEEPEST = 100  # lists in lists; what people export has three or four levels


def too_deep(value: Any) -> bool:
    """Whether JSON-like values lie in each other deeper than can be looked through."""
    level = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        if not inner:
            return False
        level = inner
    return True


class Source(Protocol):
    """A place feedback is read from. Its dataclass fields are its options; it never writes.

    ``personal_fields`` are the dotted keys of a payload that name a person: their values become pseudonyms before
    anything is stored. ``plain_fields`` are ids, addresses and times, which redaction leaves as they are, so that a
    source yields them without personal data (`feedback_lib.privacy.redact_id`, ``redact_address``). All other strings
    of a payload are people's words and are redacted. ``parse`` and ``reply`` therefore see the payload after that.
    """

    personal_fields: ClassVar[tuple[str, ...]]
    plain_fields: ClassVar[tuple[str, ...]]

    @property
    def origin(self) -> str:
        """Which instance of the kind this is: a site, a repository, a file."""
        ...

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Item | Rejected | Checkpoint]:
        """Yield items created or updated in ``[since, until)`` as they were found, and those that could not be read.

        A source that can go on where it stopped yields a `Checkpoint` after each page; it starts at the ``cursor`` of
        one when ``since`` is None. Others read everything each time. ``since`` None and no cursor: from the beginning.

        Raises:
            SourceError: the source could not be read to its end; the message says what is missing. Everything yielded
                before it counts.
        """
        ...

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one payload into a signal; no input or output, no clock.

        Raises:
            ValueError: the item was not understood; the message says why, in words for the person who owns the file.
        """
        ...

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn the payload of an item that has a parent into a reply; only for sources that yield such. As `parse`."""
        ...

    def check(self) -> str:
        """Try the place with one cheap call, and say in a line what is there.

        Raises:
            SourceError, ConfigError: what is wrong, and what to do.
        """
        ...
