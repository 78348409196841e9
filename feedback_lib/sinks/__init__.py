"""Where messages go: one module each."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from feedback_lib import privacy
from feedback_lib.errors import ConfigError, DeliveryError, TransportError

if TYPE_CHECKING:
    from feedback_lib.transport import Reply


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

    @property
    def watchdog(self) -> bool:
        """Whether it only says that the monitor lives; nobody is to be told, something is to notice its absence."""
        return self.data is not None and self.data.get("event") == "watchdog"


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """Where a message went.

    ``delivered`` is False when nothing was sent: it had been delivered before, the sink has no use for such a message,
    or it was a dry run. ``body`` is what a dry run would have sent, byte for byte, with the names of environment
    variables (``${NAME}``) for secrets; None where a sink does not tell.
    """

    kind: str
    key: str
    where: str
    delivered: bool
    at: dt.datetime
    body: str | None = None


class Sink(Protocol):
    """A place messages go. Its dataclass fields are its options."""

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Deliver once per key; with ``dry_run`` say where it would go and write nothing.

        A place that many write to knows its keys itself: the same message is sent again in the same bytes, and changes
        nothing there.

        Raises:
            DeliveryError: it did not arrive.
        """
        ...


_IDENTITY = frozenset(("event", "fingerprint", "episode", "since", "at", "resolved_at"))
_ADDRESS = re.compile(
    r"https?://(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?#](?:[^\s%]|%[0-9A-Fa-f]{2})*)?"
)
_REQUIRED = ("event", "fingerprint", "episode", "sequence", "severity", "since", "at", "summary")


def alert(message: Message, kind: str) -> dict[str, Any]:
    """The alert in a message, see `clean`.

    Raises:
        DeliveryError: the message holds none.
    """
    data = message.data or {}
    missing = [name for name in (("at",) if message.watchdog else _REQUIRED) if data.get(name) is None]
    if missing:
        what = f"this one has no {missing[0]}" if message.data else "name it under alerts, not under sinks"
        raise DeliveryError(kind, message.key, f"this sink takes alerts only; {what}")
    cleaned: dict[str, Any] = clean(data)
    return cleaned


def clean(value: Any, name: str = "") -> Any:
    """A JSON value as it may leave: texts redacted, addresses still usable, no number that JSON cannot hold."""
    if isinstance(value, str):
        if name in _IDENTITY:
            return value
        alone = value.startswith(("http://", "https://")) and not any(c.isspace() for c in value)
        return privacy.redact_address(value) if alone else privacy.redact(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): clean(held, str(key)) for key, held in value.items()}
    if isinstance(value, Sequence):
        return [clean(held, name) for held in value]
    return value


def is_address(text: Any) -> bool:
    """Whether a value is an http or https address that services accept as one; a wrong one loses a whole alert."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


def dumped(body: Any) -> str:
    """A body as JSON, in exactly the characters `send` sends."""
    import httpx

    return httpx.Request("POST", "http://localhost", json=body).content.decode()


def check_address(address: str, kind: str, option: str, *, shown: bool = True) -> str:
    """The address.

    Raises:
        ConfigError: it is none that can be called, or holds a password. The message has the address if ``shown``.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        what = f"{option} is {address!r}" if shown else f"what {option} holds"
        raise ConfigError(f"sinks {kind}: {what}: no address; write one such as https://alerts.example.org/in")
    if parts.username is not None:
        raise ConfigError(f"sinks {kind}: {option} holds a user or password; use the options for credentials")
    return address


def send(
    kind: str,
    key: str,
    method: str,
    address: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    quote: bool = True,
) -> Reply:
    """Call a service; what may pass is tried again, with the same bytes.

    Args:
        kind: plug-in name.
        key: of the message.
        method: GET or POST.
        address: whole, with path and query.
        body: sent as JSON.
        headers: sent with it.
        hidden: secrets, kept out of logs and errors.
        quote: let an error say what the service said; not where it may repeat what people wrote.

    Raises:
        DeliveryError: it did not arrive, or was refused.
    """
    from feedback_lib.transport import Transport

    parts = urllib.parse.urlsplit(address)
    base = f"{parts.scheme}://{parts.netloc}"
    client = Transport(kind, base, headers=headers, writes=True, hidden=tuple(hidden))
    try:
        query = urllib.parse.parse_qs(parts.query, keep_blank_values=True) or None
        return client.call(method, parts.path or "/", params=query, body=body)
    except TransportError as error:
        told = _without(str(error), hidden).removeprefix(f"{kind}: ")
        if quote and (said := _said(error.body)):
            told += f": {_without(said, hidden)}"
        raise DeliveryError(kind, key, told) from None
    finally:
        client.close()


def _said(body: bytes) -> str:
    """What a service said about an error, short and redacted; "" when it is a page and not for a program."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    if isinstance(answer, Mapping):
        parts = [answer.get("message") or answer.get("error"), *(answer.get("errors") or [])]
        answer = "; ".join(str(part) for part in parts if part)
    return privacy.redact(str(answer))[:300]


def _without(text: str, hidden: Sequence[str]) -> str:
    for secret in hidden:
        text = text.replace(secret, "[token]") if secret else text
    return text


def secrets_in(address: str) -> list[str]:
    """The parts of an address that is itself a secret, longest first, as they may be written in a log or an error."""
    parts = urllib.parse.urlsplit(address)
    pieces = [parts.path, parts.query, *parts.path.split("/"), *(v for _, v in urllib.parse.parse_qsl(parts.query))]
    forms = {form for p in pieces for form in (p, urllib.parse.quote(p), urllib.parse.unquote(p))}
    return sorted((form for form in forms if len(form) >= 6), key=len, reverse=True)
