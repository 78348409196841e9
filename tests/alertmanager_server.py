"""A real Alertmanager on a free loopback port, with a receiver that notes its notifications."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
from conftest import needed
from http_receiver import Receiver, until

CONFIG = """\
global: {{resolve_timeout: 200ms}}
route: {{receiver: hook, group_by: ['...'], group_wait: 50ms, group_interval: 100ms, repeat_interval: 1h}}
receivers:
  - name: hook
    webhook_configs: [{{url: '{hook}', send_resolved: true}}]
"""


class Alertmanager:
    """Debian's prometheus-alertmanager; what it stores stands in ``folder`` and outlives a restart.

    Its resolve_timeout is 200 ms, so that an alert sent without an end is gone soon.
    """

    def __init__(self, folder: Path) -> None:
        self._program = needed("Alertmanager", "prometheus-alertmanager", "alertmanager")
        self._folder = folder
        self.hook = Receiver(usual=200)
        (folder / "alertmanager.yml").write_text(CONFIG.format(hook=self.hook.url))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self._folder / "alertmanager.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    str(self._program),
                    f"--config.file={self._folder / 'alertmanager.yml'}",
                    f"--storage.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--cluster.listen-address=",
                ],
                stdout=log,
                stderr=log,
            )
        until(self._ready, 10)

    def _ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "alertmanager.log").read_text()[-2000:]
        try:
            return httpx.get(f"{self.url}/-/ready").is_success
        except httpx.HTTPError:
            return False

    def stop(self, how=signal.SIGTERM) -> None:
        if self._process is not None:
            os.kill(self._process.pid, how)
            self._process.wait(10)
            self._process = None

    def active(self) -> list[dict]:
        """The alerts that fire now."""
        return httpx.get(f"{self.url}/api/v2/alerts", params={"active": "true"}).raise_for_status().json()

    def notified(self, *labels: str) -> list[tuple[str, ...]]:
        """The alerts in its notifications so far: the labels asked for, and whether it was firing or resolved."""
        alerts = [alert for request in list(self.hook.requests) for alert in request.json()["alerts"]]
        return [(*(a["labels"].get(name) for name in labels), a["status"]) for a in alerts]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failed) -> None:
        self.stop()
        self.hook.close()
