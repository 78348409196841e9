"""Every exception this package raises on purpose.

FeedbackError
├── ConfigError          a key, value, plug-in name or environment variable is wrong
├── SourceError          a source could not be read            .kind .origin
│   └── PayloadError     … one item was not understood         .where
├── TransportError       a service gave no usable answer       .kind .status .body .retry_after_s
├── ReadOnlyError        a request that writes, from a client that only reads
├── MetricsError         a measurement could not be taken      .kind .unreachable
├── DeliveryError        a message did not arrive              .kind .key
├── StoreError           the archive refused or is damaged     .table
├── PrivacyError         something personal was about to leave .field
└── NotebookError        a notebook run failed                 .notebook .cell

A message says what, where, and what to do; facts are attributes; no secret and no person's words stand in a message.
"""

from __future__ import annotations


class FeedbackError(Exception):
    """Base class: catch this to catch everything raised on purpose."""


class ConfigError(FeedbackError):
    """A key, value, plug-in name or environment variable is wrong; the message says which and what to write."""


class SourceError(FeedbackError):
    """A source could not be read. Other sources in the same run go on."""

    def __init__(self, kind: str, origin: str, message: str) -> None:
        super().__init__(f"{kind} ({origin}): {message}")
        self.kind = kind
        self.origin = origin


class PayloadError(SourceError):
    """One item of a source was not understood; it is quarantined and the others load."""

    def __init__(self, kind: str, origin: str, where: str, message: str) -> None:
        super().__init__(kind, origin, f"{where}: {message}")
        self.where = where
        self.reason = message


class TransportError(FeedbackError):
    """A service gave no usable answer.

    ``body`` is what it said, for the caller to read; it is not in the message. ``retry_after_s`` is how long it asks
    to be left alone, None when it names none.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        status: int | None = None,
        body: bytes = b"",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s


class ReadOnlyError(FeedbackError):
    """A request that writes was asked of a client that only reads; it was not sent."""


class MetricsError(FeedbackError):
    """A measurement could not be taken; its SLO is unknown, neither good nor bad.

    ``unreachable`` when the backend gave no answer at all, so that asking it something else now is in vain.
    """

    def __init__(self, kind: str, message: str, *, unreachable: bool = False) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.unreachable = unreachable


class DeliveryError(FeedbackError):
    """A message did not arrive."""

    def __init__(self, kind: str, key: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.key = key


class StoreError(FeedbackError):
    """The store refused or is damaged."""

    def __init__(self, table: str, message: str) -> None:
        super().__init__(f"store table {table}: {message}")
        self.table = table


class PrivacyError(FeedbackError):
    """Something personal was about to leave."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotebookError(FeedbackError):
    """A notebook run failed; the notebook with its traceback was kept."""

    def __init__(self, notebook: str, cell: int | None, message: str) -> None:
        super().__init__(f"{notebook}: {message}")
        self.notebook = notebook
        self.cell = cell


def nearest(word: str, known: list[str]) -> str:
    """A hint for a wrong word: the closest known one, or all of them.

    >>> nearest("jsnl", ["jsonl", "mbox"])
    "did you mean 'jsonl'?"
    """
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
