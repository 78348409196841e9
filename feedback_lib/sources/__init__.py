"""Where signals come from: one module each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from feedback_lib.records import Item, Rejected, Signal

FIRST_YEAR, LAST_YEAR = 1970, 2199  # outside lie default values and slips, such as 0001-01-01
DEEPEST = 100  # lists in lists; what people export has three or four levels


def real_time(at: dt.datetime) -> dt.datetime:
    """A time as it is.

    Raises:
        ValueError: it lies outside the years 1970 to 2199, so it tells of no feedback.
    """
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"is no time of the years {FIRST_YEAR} to {LAST_YEAR}")
    return at


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
    of a payload are people's words and are redacted. ``parse`` therefore sees the payload after that.
    """

    personal_fields: ClassVar[tuple[str, ...]]
    plain_fields: ClassVar[tuple[str, ...]]

    @property
    def origin(self) -> str:
        """Which instance of the kind this is: a site, a repository, a file."""
        ...

    def fetch(self, since: dt.datetime | None, until: dt.datetime) -> Iterator[Item | Rejected]:
        """Yield items created or updated in ``[since, until)`` as they were found, and those that could not be read.

        ``since`` None means from the beginning.

        Raises:
            SourceError: the source as a whole could not be read.
        """
        ...

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one payload into a signal; no input or output, no clock.

        Raises:
            ValueError: the item was not understood; the message says why, in words for the person who owns the file.
        """
        ...
