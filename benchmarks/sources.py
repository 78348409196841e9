"""Reading 100,000 GitHub-shaped issues from a local server into a store: CPU and memory, beside a bare loop and dlt.

``python -m benchmarks.sources [--items N] [--ways …] [--json]``. A process of its own serves pages of 100 issues, each
like GitHub's answer (about 4 KB), by ``since`` and by number. Every way reads all of them in a process of its own:

- ``ours``: `ingest.gather` with the source ``github``: pages by time, personal data taken out, archive, signals,
  checkpoints.
- ``fetch``: the walk of ours alone: the items are counted and dropped.
- ``bare``: httpx, ``.json()``, and ``polars.write_parquet`` of each ten pages as they are.
- ``dlt``: dlt's ``rest_api`` source with the same pages into the files it writes by default.
- ``again``: ours once more on the same store, when nothing has changed.

One JSON object per way: CPU seconds (user and system, without the server), seconds, peak memory, and CPU over ``bare``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WAYS = ("bare", "fetch", "ours", "again", "dlt")
REPO = "octo/hello"
BEGIN = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
PAGE = 100
EACH = dt.timedelta(minutes=1)  # between two issues


def issue(n: int, rng: random.Random) -> dict[str, Any]:
    """An issue with every key that GitHub sends."""
    api, web = f"https://api.github.com/repos/{REPO}", f"https://github.com/{REPO}"
    login = f"user{rng.randrange(5000)}"
    person = f"https://api.github.com/users/{login}"
    links = (
        "followers", "following{/other_user}", "gists{/gist_id}", "starred{/owner}{/repo}", "subscriptions", "orgs",
        "repos", "events{/privacy}", "received_events",
    )  # fmt: skip
    user = {
        "login": login, "id": n, "node_id": "MDQ6VXNlcjE=", "gravatar_id": "", "url": person, "type": "User",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{n}?v=4", "html_url": f"https://github.com/{login}",
        "site_admin": False, "user_view_type": "public", **{f"{k.split('{')[0]}_url": f"{person}/{k}" for k in links},
    }  # fmt: skip
    body = " ".join(rng.choice(_WORDS) for _ in range(rng.randrange(30, 250)))
    if n % 2:  # of real issues 65 % hold something that might be personal, such as an address, and 20 % do
        body += f"\nSee https://docs.example.org/upload?page={n} since 4.2.{n % 9}.1, ask jo{n}@example.org"
    created = BEGIN + EACH * n
    updated = f"{created:%Y-%m-%dT%H:%M:%SZ}"
    names = rng.sample(("bug", "priority: high", "upload", "docs", "good first issue"), rng.randrange(3))
    return {
        "url": f"{api}/issues/{n}", "repository_url": api, "labels_url": f"{api}/issues/{n}/labels{{/name}}",
        "comments_url": f"{api}/issues/{n}/comments", "events_url": f"{api}/issues/{n}/events",
        "html_url": f"{web}/issues/{n}", "id": 10**9 + n, "node_id": f"I_kwDOA{n}", "number": n,
        "title": " ".join(rng.choice(_WORDS) for _ in range(8)), "user": user, "state": "open", "locked": False,
        "labels": [
            {"id": i, "node_id": "MDU6TGFiZWw=", "url": f"{api}/labels/{i}", "name": name, "color": "d73a4a",
             "default": True, "description": "Something does not work"} for i, name in enumerate(names)
        ],
        "assignee": None, "assignees": [], "milestone": None, "comments": rng.randrange(4), "created_at": updated,
        "updated_at": updated, "closed_at": None, "author_association": "NONE", "active_lock_reason": None,
        "sub_issues_summary": {"total": 0, "completed": 0, "percent_completed": 0}, "body": body, "closed_by": None,
        "reactions": {"url": f"{api}/issues/{n}/reactions", "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "hooray": 0,
                      "confused": 0, "heart": 0, "rocket": 0, "eyes": 0},
        "timeline_url": f"{api}/issues/{n}/timeline", "performed_via_github_app": None, "state_reason": None,
    }  # fmt: skip


_TEXT = (
    "the upload of a large file stops after some minutes with error 500 since version 4.2 and we cannot see why it is "
    "slow when many people build at once please add a setting for the timeout or tell us where the log is found "
    "it worked in March but the new release broke it for our whole team"
)
_WORDS = _TEXT.split()


class Pages:
    """The issues as bytes, for any page of them."""

    def __init__(self, count: int) -> None:
        rng = random.Random(1)
        self.items = [json.dumps(issue(n + 1, rng)).encode() for n in range(count)]

    def answer(self, target: str) -> tuple[bytes, str | None]:
        """The body for an address, and the address of the next page."""
        url = urllib.parse.urlsplit(target)
        asked = dict(urllib.parse.parse_qsl(url.query))
        if not url.path.endswith("/issues"):
            return b"[]", None
        first = 0
        if since := asked.get("since"):
            first = -(-(dt.datetime.fromisoformat(since) - BEGIN) // EACH) - 1
        number = int(asked.get("page", 1))
        start = max(0, first) + PAGE * (number - 1)
        body = b"[" + b",".join(self.items[start : start + PAGE]) + b"]"
        after = {**asked, "page": str(number + 1)}
        return body, f"{url.path}?{urllib.parse.urlencode(after)}" if start + PAGE < len(self.items) else None


def serve(count: int) -> None:
    """Answer on a free port of this machine, which is printed, until the input closes."""
    import http.server

    pages = Pages(count)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body, after = pages.answer(self.path)
            head = [f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-RateLimit-Remaining: 4000\r\n"]
            if after:
                head.append(f'Link: <http://{self.headers["Host"]}{after}>; rel="next"\r\n')
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{''.join(head)}\r\n".encode() + body)

        def log_message(self, *ignored: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a reader that is killed breaks off
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def server(count: int) -> Iterator[str]:
    """A running server; its address."""
    command = [sys.executable, "-m", "benchmarks.sources", "--serve", "--items", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait()


def ours(url: str, folder: Path) -> int:
    """Rows that a run of the source left in the store."""
    from feedback_lib import ingest, plugins
    from feedback_lib.store import Store

    os.environ["GITHUB_TOKEN"] = "none"
    source = plugins.build("sources", {"kind": "github", "repo": REPO, "url": url})
    now = dt.datetime.now(dt.UTC)
    store = Store(folder / "store")
    (result,) = ingest.gather([("github", source)], store, since=None, until=UNTIL, fetched_at=now, run_id="r")
    assert result.status in ("ok", "empty"), result.error
    return result.read


def fetch(url: str, folder: Path) -> int:
    """Items that our walk gives."""
    from feedback_lib import plugins
    from feedback_lib.records import Item

    os.environ["GITHUB_TOKEN"] = "none"
    source = plugins.build("sources", {"kind": "github", "repo": REPO, "url": url})
    return sum(isinstance(found, Item) for found in source.fetch(None, UNTIL))


def bare(url: str, folder: Path) -> int:
    """What a loop of ten lines does."""
    import httpx
    import polars as pl

    rows: list[dict[str, Any]] = []
    count = part = 0
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer none"}) as client:
        after: str | None = f"/repos/{REPO}/issues?state=all&sort=updated&direction=asc&per_page={PAGE}"
        while after:
            reply = client.get(after)
            reply.raise_for_status()
            rows += reply.json()
            after = reply.links.get("next", {}).get("url")
            if len(rows) >= 10 * PAGE or not after:
                pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / f"{part:05}.parquet")
                count, part, rows = count + len(rows), part + 1, []
    return count


def dlt(url: str, folder: Path) -> int:
    """The same pages through dlt."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "DLT_DATA_DIR": str(folder / "dlt")}
    import dlt
    from dlt.sources.rest_api import rest_api_source

    query = {"state": "all", "sort": "updated", "direction": "asc", "per_page": PAGE}
    source = rest_api_source(
        {
            "client": {"base_url": url, "paginator": "header_link"},
            "resources": [{"name": "issues", "endpoint": {"path": f"repos/{REPO}/issues", "params": query}}],
        }
    )
    pipeline = dlt.pipeline(
        "peer",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=(folder / "out").as_uri()),
        dataset_name="issues",
    )
    pipeline.run(source)
    return int(pipeline.last_trace.last_normalize_info.row_counts["issues"])


def measured(way: str, url: str, folder: Path) -> dict[str, Any]:
    """One way in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.sources", "--way", way, "--url", url, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": round(time.perf_counter() - began, 2)}


def run(count: int, ways: tuple[str, ...], folder: Path) -> Iterator[dict[str, Any]]:
    """Results of the ways, in turn."""
    with server(count) as url:
        results = []
        for way in ways:
            if way == "dlt" and not importlib.util.find_spec("dlt"):
                print("dlt is not installed (pip install 'feedback_lib[warehouse]')", file=sys.stderr)
                continue
            place = folder / ("ours" if way == "again" else way)
            place.mkdir(exist_ok=True, parents=True)
            results.append(measured(way, url, place))
        base = next((r["cpu_s"] for r in results if r["way"] == "bare"), None)
        for result in results:
            yield {**result, "cpu_over_bare": round(result["cpu_s"] / base, 2) if base else None}


def main() -> None:
    """Print a JSON object per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--json", action="store_true", help="accepted for symmetry; the output is always JSON")
    for internal in ("--way", "--url", "--folder"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.items)
    elif given.way:
        way = {"ours": ours, "again": ours, "fetch": fetch, "bare": bare, "dlt": dlt}[given.way]
        rows = way(given.url, Path(given.folder))
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        print(json.dumps({"way": given.way, "items": rows, "cpu_s": round(cpu, 2), "peak_mb": used.ru_maxrss // 1024}))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for result in run(given.items, tuple(given.ways), Path(folder)):
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
