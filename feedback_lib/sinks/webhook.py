"""Messages to any address that takes JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import hmac

from feedback_lib import privacy, sinks
from feedback_lib.errors import ConfigError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt


@register("sinks", "webhook")
@dataclasses.dataclass(frozen=True)
class Webhook:
    """A POST of ``{"key", "title", "text", "attachments", "data"}`` for each message.

    The header ``Idempotency-Key`` is the message's key: who has seen it drops the repetition. With ``secret_env`` the
    header ``X-Feedback-Signature-256`` is ``sha256=`` and the HMAC-SHA256 of the body's bytes in hex.
    """

    url: str | None = None
    url_env: str | None = None
    token_env: str | None = None
    secret_env: str | None = None

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.url_env):
            raise ConfigError("sinks webhook: write url, or url_env with the variable that holds a secret address")
        if self.url:
            sinks.check_address(self.url, "webhook", "url")

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Post the message; any status from 200 to 299 is an arrival. A watchdog event is not sent.

        Raises:
            DeliveryError: it did not arrive.
            ConfigError: an environment variable is not set, or holds no address.
        """
        from feedback_lib.transport import secret

        body = {
            "key": message.key,
            "title": privacy.redact(message.title),
            "text": privacy.redact(message.text),
            "attachments": [privacy.redact(name) for name in message.attachments],
            "data": None if message.data is None else sinks.clean(message.data),
        }
        if not (dry_run or message.watchdog):
            headers = {"Idempotency-Key": _in_header(message.key)}
            hidden = []
            if self.token_env:
                hidden.append(secret(self.token_env, "webhook"))
                headers["Authorization"] = f"Bearer {hidden[0]}"
            if self.secret_env:
                key = secret(self.secret_env, "webhook").encode()
                signature = hmac.new(key, sinks.dumped(body).encode(), hashlib.sha256).hexdigest()
                headers["X-Feedback-Signature-256"] = f"sha256={signature}"
            address = self.url or ""
            if self.url_env:
                address = sinks.check_address(secret(self.url_env, "webhook"), "webhook", self.url_env, shown=False)
                hidden += sinks.secrets_in(address)
            sinks.send("webhook", message.key, "POST", address, body=body, headers=headers, hidden=hidden, quote=False)
        where = f"${{{self.url_env}}}" if self.url_env else privacy.redact_address(str(self.url))
        shown = sinks.dumped(body) if dry_run and not message.watchdog else None
        delivered = not (dry_run or message.watchdog)
        return Receipt("webhook", message.key, where, delivered, dt.datetime.now(dt.UTC), shown)


def _in_header(key: str) -> str:
    """The key; its SHA-256 when a header cannot hold it."""
    plain = key.isascii() and key.isprintable() and key == key.strip() and 0 < len(key) <= 255
    return key if plain else hashlib.sha256(key.encode()).hexdigest()
