"""Splunk's export of a search, as its REST API Reference Manual (search/v2/jobs/export) describes it."""

import datetime as dt
import json
import re

from fake_services import Answer, FakeService, at

QUERY = "index=web log_level=ERROR"
GUID = "BC509B13-C34D-4A69-B216-488806E9EA63"
EMPTY = {"preview": False, "lastrow": True}


def epoch(when):
    return int(when.timestamp())


def export(rows, *messages, preview=True):
    """One object a line, after a byte order mark; ``rows`` are the last."""
    lines = [{"preview": False, "messages": [{"type": t, "text": text} for t, text in messages]}] if messages else []
    lines += [{"preview": True, "offset": i, "result": row} for i, row in enumerate(rows[:2])] if preview else []
    lines += [{"preview": False, "offset": i, "result": row} for i, row in enumerate(rows)] or [EMPTY]
    if rows:
        lines[-1]["lastrow"] = True
    return "\ufeff" + "".join(json.dumps(line) + "\n" for line in lines)


class Splunk(FakeService):
    kind = "splunk"
    unauthorised = (401, {"messages": [{"type": "WARN", "text": "call not properly authenticated"}]})
    cursors = False

    def options(self):
        return {"url": self.url, "query": QUERY, "token_env": "FAKE_TOKEN", "size": 60, "name": "web",
                "start": "2026-01-01"}  # fmt: skip

    def make(self, count):
        self.made = 0
        return [self._event(at(i)) for i in range(count)]

    def _event(self, when):
        self.made += 1
        n, happened = self.made, when - dt.timedelta(seconds=90 + self.made % 7, microseconds=419_000)
        return {
            "_bkt": f"web~{n % 3 + 40}~{GUID}", "_cd": f"{n % 3 + 40}:{5000 + n}", "_indextime": str(epoch(when)),
            "_raw": f"{happened:%Y-%m-%d %H:%M:%S},581 ERROR [uploads] Upload {n} failed", "_serial": str(n),
            "_si": ["idx1.example.org", "web"], "_time": f"{happened:%Y-%m-%d %H:%M:%S}.581 UTC",
            "feedback_time": f"{happened.timestamp():.6f}", "host": "web-1", "index": "web", "log_level": "ERROR",
            "source": "/var/log/web.log", "sourcetype": "web_log",
        }  # fmt: skip

    def answer(self, request):
        assert request.method == "POST"
        if request.path != "/services/search/v2/jobs/export":
            return Answer({"messages": [{"type": "ERROR", "text": "Not Found"}]}, 404)
        asked = request.form
        assert (asked["output_mode"], asked["preview"]) == ("json", "false")
        assert (asked["earliest_time"], asked["latest_time"]) == ("0", "2147483647"), (
            "all time, or late events are lost"
        )
        search = asked["search"]
        assert search.startswith(f'search {QUERY} | fields "_raw", ')
        if search.endswith("| stats count"):
            return self._sent([{"count": str(len(self.items))}])
        start, end = int(asked["index_earliest"]), int(asked["index_latest"])
        assert 0 <= start < end
        limit = re.search(r"\| head (\d+)$", search)
        rows = [row for row in self.items if start <= int(row["_indextime"]) < end]
        rows.sort(key=lambda row: row["_time"], reverse=True)
        return self._sent(rows[: int(limit[1])] if limit else rows)

    def _sent(self, rows):
        return Answer(export(rows).encode(), headers={"Content-Type": "application/json; charset=UTF-8"})

    def lists(self, request):
        return request.path.endswith("/export") and not request.form["search"].endswith("stats count")

    def empty(self, answer):
        """Nothing at all, as a gateway leaves of an answer that it gave up."""
        return Answer(b"", headers=answer.headers)

    def touch(self, item, when):
        """Events do not change; a later one comes."""
        self.items.append(self._event(when))

    def expected(self):
        return {f"{e['_bkt']}/{e['_cd']}": dt.datetime.fromtimestamp(int(e["_indextime"]), dt.UTC) for e in self.items}


SERVICE = Splunk
