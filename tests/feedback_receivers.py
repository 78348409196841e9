"""The two places tool feedback goes to, small and on loopback: a collector that stores by key, and GitHub's Gists."""

import contextlib
import json
import socket
import threading
import urllib.parse

from feedback_lib.testing import Loopback

LOST = "lost"  # do what is asked, then cut the connection instead of answering
CUT = "cut"  # cut the connection before anything is done
SLOW = "slow"  # do what is asked, and answer when nobody waits any more


class _Service(Loopback):
    """Answers the next of ``faults`` instead, if there is one: a status with headers and body, or LOST …; None is none.

    ``connections`` counts every connection that was opened, whatever was asked on it.
    """

    def __init__(self, *faults) -> None:
        self.faults = list(faults)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        self.given_up = threading.Event()
        self._mutex = threading.Lock()
        super().__init__()
        accept = self._server.get_request

        def counted():
            self.connections += 1
            return accept()

        self._server.get_request = counted

    def answer(self, method, path, query, body):
        raise NotImplementedError

    def serve(self, handler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._mutex:
            self.requests.append((handler.command, handler.path, headers, body))
            fault = self.faults.pop(0) if self.faults else None
            if fault is None or fault in (LOST, SLOW):
                status, more, told = self.answer(
                    handler.command, url.path, dict(urllib.parse.parse_qsl(url.query)), body
                )
            elif fault != CUT:
                status, more, told = (*fault, {}, {})[:3] if isinstance(fault, tuple) else (fault, {}, {})
        if fault in (LOST, CUT):
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == SLOW:
            self.given_up.wait(20)
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        with contextlib.suppress(OSError):
            handler.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
                **more,
            }.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)

    def __exit__(self, *failed) -> None:
        self.given_up.set()
        super().__exit__(*failed)


class Collector(_Service):
    """Keeps one entry for each workflow; ``picky(entry)`` may give (field, reason); ``most`` bytes are a request."""

    def __init__(self, *faults, picky=lambda entry: None, most=10**9) -> None:
        super().__init__(*faults)
        self.held: dict[str, dict] = {}
        self.picky, self.most = picky, most

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, _, body in self.requests]

    def answer(self, method, path, query, body):
        if (method, path) != ("POST", "/submit"):
            return 404, {}, {"error": "nothing is here"}
        if len(body) > self.most:
            return 413, {}, {"error": "too large"}
        told = {"accepted": 0, "known": 0, "refused": []}
        for at, entry in enumerate(json.loads(body)["entries"]):
            key = entry["workflow_id_hash"]
            if found := self.picky(entry):
                told["refused"].append({"index": at, "field": found[0], "reason": found[1]})
            elif self.held.get(key) == entry:
                told["known"] += 1
            else:
                self.held[key] = entry
                told["accepted"] += 1
        return 200, {}, told


class Gists(_Service):
    """The Gists of one user, two on a page; the API shows ``shown`` bytes of a file."""

    token = "a-token-of-the-tests-7c1e"

    def __init__(self, *faults, shown=10**6) -> None:
        super().__init__(*faults)
        self.gists: list[dict] = []
        self.shown = shown

    def add(self, description, *, public=False, files=None, created_at=None) -> dict:
        made = {
            "id": f"{len(self.gists):032x}",
            "description": description,
            "public": public,
            "created_at": created_at or f"2026-01-01T00:00:{len(self.gists):02d}Z",
            "files": dict(files or {}),
        }
        self.gists.append(made)
        return made

    def answer(self, method, path, query, body):
        sent = json.loads(body) if body else {}
        if (method, path) == ("GET", "/gists"):
            page = int(query.get("page", 1))
            newest = self.gists[::-1][2 * page - 2 : 2 * page]
            more = {"Link": f'<{self.url}/gists?per_page=100&page={page + 1}>; rel="next"'}
            rows = [{k: v for k, v in gist.items() if k != "files"} for gist in newest]
            return 200, more if 2 * page < len(self.gists) else {}, rows
        if (method, path) == ("POST", "/gists"):
            files = {name: file["content"] for name, file in sent["files"].items()}
            return 201, {}, self._told(self.add(sent["description"], public=sent["public"], files=files))
        found = next((gist for gist in self.gists if path == f"/gists/{gist['id']}"), None)
        if found is None or method not in ("GET", "PATCH"):
            return 404, {}, {"message": "Not Found"}
        found["files"].update({name: file["content"] for name, file in sent.get("files", {}).items()})
        return 200, {}, self._told(found)

    def _told(self, gist):
        files = {
            name: {"filename": name, "content": text[: self.shown], "truncated": len(text) > self.shown}
            for name, text in gist["files"].items()
        }
        return {**gist, "files": files}
