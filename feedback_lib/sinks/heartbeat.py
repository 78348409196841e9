"""Signs of life to a dead man's switch, such as healthchecks or a push monitor."""

from __future__ import annotations

import dataclasses
import datetime as dt

from feedback_lib import privacy, sinks
from feedback_lib.errors import ConfigError
from feedback_lib.plugins import register
from feedback_lib.sinks import Message, Receipt


@register("sinks", "heartbeat")
@dataclasses.dataclass(frozen=True)
class Heartbeat:
    """A GET for each watchdog event; the service behind the address raises the alarm when it stops.

    Who knows such an address can keep it quiet, so it may be held by a variable (``url_env``).
    """

    url: str | None = None
    url_env: str | None = None

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.url_env):
            raise ConfigError("sinks heartbeat: write url, or url_env with the variable that holds a secret address")
        if self.url:
            sinks.check_address(self.url, "heartbeat", "url")

    def deliver(self, message: Message, *, dry_run: bool = False) -> Receipt:
        """Ask for the address if this is a watchdog event; every other event is ignored.

        Raises:
            DeliveryError: the message is no alert, or the service did not answer.
            ConfigError: the environment variable is not set, or holds no address.
        """
        from feedback_lib.transport import secret

        sinks.alert(message, "heartbeat")
        if message.watchdog and not dry_run:
            address, hidden = self.url or "", []
            if self.url_env:
                address = sinks.check_address(secret(self.url_env, "heartbeat"), "heartbeat", self.url_env, shown=False)
                hidden = sinks.secrets_in(address)
            sinks.send("heartbeat", message.key, "GET", address, hidden=hidden, quote=False)
        where = f"${{{self.url_env}}}" if self.url_env else privacy.redact_address(str(self.url))
        shown = "" if dry_run and message.watchdog else None
        delivered = message.watchdog and not dry_run
        return Receipt("heartbeat", message.key, where, delivered, dt.datetime.now(dt.UTC), shown)
