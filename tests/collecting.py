"""A collector as a process of its own, and what installations send to it."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import urllib.parse
from typing import NamedTuple

from commands import BIN


def digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def entry(workflow="w1", **changes):
    """A tool entry as it stands on the wire."""
    made = {
        "timestamp": "2026-01-11",
        "workflow_id_hash": digits(workflow),
        "orchestrator_version": "2.6.0",
        "repo_type": "python",
        "duration_seconds": 1200,
        "phases": {"PLAN": 300, "EXECUTE": 600},
        "phase0_guidance_used": True,
        "reviews_worked": True,
        "orchestrator_errors": [],
        "items_skipped": [],
        "items_skipped_pct": 0.0,
        "confusing_items": [],
        "tool_suggestions": "",
        "mode": "auto",
    }
    return made | changes


def payload(*entries, installation="me", **changes):
    return {"schema": 1, "installation": digits(installation), "entries": list(entries)} | changes


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


class Collector:
    """``feedback collect`` on a free port, until the block ends."""

    def __init__(self, data, *options, env=()):
        self.process = subprocess.Popen(
            [BIN / "feedback", "collect", "--port", "0", "--data", data, *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # so that a line read leaves the next ones where they are
            env={**os.environ, **dict(env)},
        )
        line = self.process.stdout.readline().decode()
        found = re.search(r"(http://\S+)/submit", line)
        if not found:
            _, err = self.process.communicate(timeout=30)
            raise AssertionError(f"it did not start: {line} {err.decode()}")
        self.url = found[1]
        self.address = urllib.parse.urlsplit(self.url)

    def ask(self, method="POST", path="/submit", body=b"", headers=(), **options) -> Answer:
        """One request on a connection of its own."""
        content = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, content, {"Content-Type": "application/json", **dict(headers)}, **options)
            told = connection.getresponse()
            return Answer(told.status, {k.lower(): v for k, v in told.getheaders()}, told.read())

    def send(self, *entries, **changes) -> Answer:
        return self.ask(body=payload(*entries, **changes))

    def entries(self) -> int:
        return self.ask("GET", "/healthz").json()["entries"]

    def raw(self, content: bytes, seconds=20.0) -> bytes:
        """All that it answers to bytes until it ends the connection."""
        with socket.create_connection((self.address.hostname, self.address.port), timeout=seconds) as line:
            answer = b""
            with contextlib.suppress(ConnectionError):
                line.sendall(content)
                while part := line.recv(65536):
                    answer += part
            return answer

    def end(self, number=signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, stdout and stderr after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), err.decode()

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.process.stdout.close()
        self.process.stderr.close()
