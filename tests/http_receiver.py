"""A service on loopback that notes what it is asked and answers as told."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from typing import NamedTuple

CUT = "cut"  # take the request, then break the connection instead of answering


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


class Receiver:
    """Answers each request with the next of ``answers``, and with ``usual`` after them.

    An answer is a status, ``(status, headers)``, ``(status, headers, body)`` or `CUT`. It takes ``limit`` requests.
    """

    def __init__(self, *answers, usual=202, limit=100) -> None:
        self.answers, self.usual, self.limit = list(answers), usual, limit
        self.requests: list[Request] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                receiver._answer(self)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *ignored):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def _answer(self, handler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Request(handler.command, handler.path, headers, body))
        answer = self.answers.pop(0) if self.answers else self.usual
        if len(self.requests) > self.limit:
            answer = 418
        if answer == CUT:
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, content = (*answer, {}, b"")[:3] if isinstance(answer, tuple) else (answer, {}, b"")
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *failed) -> None:
        self.close()


def until(true, seconds=30.0):
    """Wait until ``true()`` holds and return what it returned; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found
