"""A private Gist of one's own as the place tool feedback goes: one line for each workflow, merged by its hash."""

from __future__ import annotations

import contextlib
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from feedback_lib import config
from feedback_lib.errors import ConfigError, FeedbackError
from feedback_lib.workflows import settings

if TYPE_CHECKING:
    from feedback_lib.transport import Transport

KIND = "feedback sync"
TOKEN = "GITHUB_TOKEN"
API = "GITHUB_API_URL"  # as GitHub's own runners name it; for GitHub Enterprise
DESCRIPTION = "workflow-orchestrator tool feedback"
FILE = "tool_feedback.jsonl"
FILE_BYTES = 500_000  # what is longer goes into a next file; the API cuts files off at a million
_NAME = re.compile(r"tool_feedback(?:_([0-9]{1,6}))?\.jsonl")
_PAGES = 100  # of a hundred gists
_LOCK_S = 30


class Unsent(FeedbackError):
    """Something was not sent, or nobody confirmed it; the message says what to do. It stays queued."""


def put(
    lines: Mapping[str, bytes],
    confirm: Callable[[Sequence[str], int], None],
    *,
    timeout_s: float,
    attempts: int,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Bring lines into the Gist: what is there of another version is replaced, no other line is touched.

    Args:
        lines: by the hash of its workflow each line, with its end; verified already.
        confirm: told the hashes of the lines that the answer shows, and how many of them were there before.
        timeout_s: of one try.
        attempts: tries of what may be repeated; a Gist is made in one, since a second try could make a second one.
        progress: told of each request that writes.

    Raises:
        ConfigError: there is no token, or the address of the API cannot be used.
        TransportError: no usable answer.
        Unsent: the Gist is public, or an answer does not show what was sent.
    """
    from feedback_lib.transport import Transport, secret

    base = os.environ.get(API) or "https://api.github.com"
    host = urllib.parse.urlsplit(base).hostname or ""
    if not base.startswith("https://") and not settings.is_here(host):
        raise ConfigError(f"{API}: the token would go over a network unencrypted; write https")
    headers = {
        "Authorization": f"Bearer {secret(TOKEN, KIND)}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }

    def client(tries: int) -> contextlib.closing[Transport]:
        return contextlib.closing(
            Transport(KIND, base, headers=headers, writes=True, timeout_s=timeout_s, attempts=tries)
        )

    with _alone(), client(attempts) as github:
        found = _find(github)
        if found is None:
            files, _ = _merged({}, lines)
            progress(f"makes a private Gist for {len(lines)} entries")
            with client(1) as once:
                made = once.call("POST", "/gists", body={"description": DESCRIPTION, "public": False, "files": files})
            confirm(_shown(made.json(), lines), 0)
            return
        held = github.ask(f"/gists/{found}").json()
        _check_private(held)
        files, known = _merged(_files(held), lines)
        confirm(known, len(known))
        for name, content in files.items():
            progress(f"writes {name} of a private Gist")
            answer = github.call("PATCH", f"/gists/{found}", body={"files": {name: content}}).json()
            fresh = [key for key in lines if key not in known and lines[key].decode() in content["content"]]
            sent = {key: lines[key] for key in fresh}
            confirm(_shown(answer, sent), 0)


@contextlib.contextmanager
def _alone() -> Any:
    """Of two syncs on this machine the second sees what the first wrote."""
    import filelock

    path = config.config_dir() / "gist.lock"
    try:
        with filelock.FileLock(path, timeout=_LOCK_S):
            yield
    except filelock.Timeout:
        raise Unsent("another sync to the Gist is under way; run it again when that one is over") from None


def _find(github: Transport) -> str | None:
    """The id of the oldest private Gist with our description; None when there is none.

    Raises:
        Unsent: there are public ones only.
    """
    private: list[tuple[str, str]] = []
    public = False
    path: str | None = "/gists?per_page=100"
    for _ in range(_PAGES):
        reply = github.ask(path or "")
        rows = reply.json()
        if not isinstance(rows, list):
            raise Unsent(f"{github.host} answered, but with no list of Gists; is {API} the address of its API?")
        for row in rows:
            if isinstance(row, dict) and row.get("description") == DESCRIPTION and _is_id(row.get("id")):
                if row.get("public") is False:
                    private.append((str(row.get("created_at", "")), row["id"]))
                else:
                    public = True
        path = reply.link()
        if path is None:
            break
    if not private and public:
        raise Unsent(
            f"your Gist {DESCRIPTION!r} is public, and a public one cannot be made private; delete it or change its "
            "description, then a private one is made"
        )
    return min(private)[1] if private else None


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z]{1,64}", value) is not None


def _check_private(held: Any) -> None:
    if not isinstance(held, dict) or held.get("public") is not False:
        raise Unsent("the Gist is not private any more; nothing is added to it. Delete it, then a private one is made")


def _files(held: Mapping[str, Any]) -> dict[str, str | None]:
    """Our files of a Gist in their order, with their content; None for one that the API cut off."""
    files = held.get("files")
    found: dict[str, str | None] = {}
    for name, file in files.items() if isinstance(files, dict) else ():
        if _NAME.fullmatch(name) and isinstance(file, dict):
            whole = file.get("truncated") is False and isinstance(file.get("content"), str)
            found[name] = file["content"] if whole else None
    return dict(sorted(found.items(), key=lambda pair: _number(pair[0])))


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1] or 1) if found else 0


def _merged(held: Mapping[str, str | None], lines: Mapping[str, bytes]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The files that change, as the API takes them, and the hashes of lines that stand there already."""
    texts = {name: _split(text) for name, text in held.items() if text is not None}
    places = {key: (name, at) for name, rows in texts.items() for at, row in enumerate(rows) if (key := _key(row))}
    known: list[str] = []
    changed: set[str] = set()
    sizes = {name: sum(len(row.encode()) for row in rows) for name, rows in texts.items()}
    last = max((*held, FILE), key=_number)  # one that was cut off is full
    if held.get(last, "") is None:
        last = _next(last)
    for key, line in lines.items():
        row = line.decode()
        if key in places:
            name, at = places[key]
            if texts[name][at] == row:
                known.append(key)
                continue
            texts[name][at] = row
        else:
            if sizes.get(last, 0) + len(line) > FILE_BYTES and texts.get(last):
                last = _next(last)
            name = last
            texts.setdefault(name, []).append(row)
            sizes[name] = sizes.get(name, 0) + len(line)
        changed.add(name)
    return {name: {"content": "".join(texts[name])} for name in sorted(changed, key=_number)}, known


def _next(name: str) -> str:
    return FILE.replace(".", f"_{_number(name) + 1}.")


def _split(text: str) -> list[str]:
    """Lines with their ends; a last one without gets one, so that nothing is written into it."""
    rows = [row + "\n" for row in text.split("\n")]
    return rows[:-1] if rows[-1] == "\n" else rows


def _key(row: str) -> str | None:
    """The hash of the workflow that a line is about; None when it is none of ours."""
    try:
        value = json.loads(row)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get("entries"), list) and len(value["entries"]) == 1:
        value = value["entries"][0]
    key = value.get("workflow_id_hash") if isinstance(value, dict) else None
    return key if isinstance(key, str) else None


def _shown(answer: Any, lines: Mapping[str, bytes]) -> list[str]:
    """The hashes of the lines that an answer shows.

    Raises:
        Unsent: it shows none, or that they are public.
    """
    _check_private(answer)
    there = {row for text in _files(answer).values() if text is not None for row in _split(text)}
    shown = [key for key, line in lines.items() if line.decode() in there]
    if len(shown) < len(lines):
        raise Unsent("GitHub's answer does not show all that was sent; nothing of it is taken for sent, run it again")
    return shown
