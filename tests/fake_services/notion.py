"""Notion's data sources, pages, blocks and comments, version 2025-09-03, as https://developers.notion.com describes."""

import datetime as dt
import re

from fake_services import Answer, FakeService, at

DATABASE = "11112222-3333-4444-8555-666677778888"
SOURCE = "99990000-aaaa-4bbb-8ccc-ddddeeeeffff"
SCHEMA = {
    "Name": "title", "What happened": "rich_text", "State": "status", "Tags": "multi_select", "Priority": "select",
    "Score": "number", "Reported by": "people", "Email": "email",
}  # fmt: skip


def z(when):
    return f"{when:%Y-%m-%dT%H:%M}:00.000Z"


def uuid(kind, n):
    return f"{kind:08x}-aaaa-4bbb-8ccc-{n:012x}"


def rich(text):
    plain = {"bold": False, "italic": False, "strikethrough": False, "underline": False, "code": False}
    about = {"annotations": {**plain, "color": "default"}, "plain_text": text, "href": None}
    return [{"type": "text", "text": {"content": text, "link": None}, **about}] if text else []


def user(n):
    return {"object": "user", "id": uuid(9, n), "name": f"Person {n}", "avatar_url": None, "type": "person"}


def option(name):
    return {"id": name.lower(), "name": name, "color": "blue"} if name else None


def page(n, when, **properties):
    values = {name: {"id": name[:4], "type": kind, kind: properties.get(name)} for name, kind in SCHEMA.items()}
    return {
        "object": "page", "id": uuid(1, n), "created_time": z(when), "last_edited_time": z(when), "cover": None,
        "icon": None, "created_by": {"object": "user", "id": uuid(9, n % 17)},
        "last_edited_by": {"object": "user", "id": uuid(9, 3)}, "properties": values, "archived": False,
        "in_trash": False, "url": f"https://www.notion.so/Build-{n}-is-slow-{uuid(1, n).replace('-', '')}",
        "parent": {"type": "data_source_id", "data_source_id": SOURCE, "database_id": DATABASE}, "public_url": None,
    }  # fmt: skip


def listed(rows, start, size, **more):
    following = rows[start + size]["id"] if start + size < len(rows) else None
    answer = {"object": "list", "results": rows[start : start + size], "next_cursor": following}
    return Answer({**answer, "has_more": following is not None, **more})


class Notion(FakeService):
    kind = "notion"
    unauthorised = (
        401,
        {"object": "error", "status": 401, "code": "unauthorized", "message": "API token is invalid."},
    )
    cap = 10_000  # results of one query

    def options(self):
        return {"url": self.url, "data_source": SOURCE, "token_env": "FAKE_TOKEN"}

    def make(self, count):
        self.blocks, self.comments = {}, {}  # by the id of what they are below
        return [
            page(
                i, at(i), Name=rich(f"Build {i} is slow"), State=option("Done" if i % 3 == 0 else "New"),
                Tags=[option("ci")], Priority=option("High" if i % 4 == 0 else None), Score=i % 5, Email=None,
                **{"What happened": rich("" if i % 50 == 7 else f"{i} minutes."), "Reported by": [user(i % 17)]},
            )
            for i in range(count)
        ]  # fmt: skip

    def answer(self, request):
        if request.headers.get("notion-version") != "2025-09-03":
            return self._wrong("missing_version")
        assert int(request.query.get("page_size", 100)) <= 100
        for path, does in (
            (f"/v1/data_sources/{SOURCE}/query", self._query),
            (f"/v1/data_sources/{SOURCE}", self._data_source),
            (f"/v1/databases/{DATABASE}", self._database),
            ("/v1/blocks/(.+)/children", self._children),
            ("/v1/comments", self._comments),
        ):
            if found := re.fullmatch(path, request.path):
                return does(request, *found.groups())
        return Answer({"object": "error", "status": 404, "code": "object_not_found", "message": "?"}, 404)

    def _wrong(self, code="validation_error"):
        return Answer({"object": "error", "status": 400, "code": code, "message": "?"}, 400)

    def _data_source(self, request):
        properties = {name: {"id": name[:4], "name": name, "type": kind, kind: {}} for name, kind in SCHEMA.items()}
        return Answer({"object": "data_source", "id": SOURCE, "title": rich("Feedback"), "properties": properties})

    def _database(self, request):
        sources = [{"id": SOURCE, "name": "Feedback"}]
        return Answer({"object": "database", "id": DATABASE, "title": rich("Feedback"), "data_sources": sources})

    def _query(self, request):
        assert request.method == "POST"
        asked = request.json()
        assert asked.keys() <= {"filter", "sorts", "page_size", "start_cursor", "in_trash"}
        order = [sort["timestamp"] for sort in asked["sorts"] if sort["direction"] == "ascending"]
        assert order == ["last_edited_time", "created_time"]
        rows = [row for row in self.items if row["in_trash"] is asked["in_trash"]]
        for one in asked.get("filter", {"and": []})["and"]:
            (operator, limit), field = *one[one["timestamp"]].items(), one["timestamp"]
            assert operator in ("on_or_after", "before")
            assert limit.endswith(":00.000Z"), "the service compares whole minutes"
            rows = [row for row in rows if (row[field] >= limit) is (operator == "on_or_after")]
        rows.sort(key=lambda row: [*(row[field] for field in order), row["id"]])
        capped = {"request_status": {"type": "incomplete", "incomplete_reason": "query_result_limit_reached"}}
        more = capped if len(rows) > self.cap else {}
        rows = rows[: self.cap]
        return self._list(rows, asked, **more)

    def _list(self, rows, asked, **more):
        start = 0
        if "start_cursor" in asked:
            start = next((n for n, row in enumerate(rows) if row["id"] == asked["start_cursor"]), None)
            if start is None:
                return self._wrong()
        return listed(rows, start, int(asked["page_size"]), **more)

    def _children(self, request, parent):
        if parent in self.blocks or any(row["id"] == parent for row in self.items):
            return self._list(self.blocks.get(parent, []), request.query)
        return Answer({"object": "error", "status": 404, "code": "object_not_found", "message": "?"}, 404)

    def _comments(self, request):
        return self._list(self.comments.get(request.query["block_id"], []), request.query)

    def lists(self, request):
        return request.path.endswith("/query")

    def follows(self, request):
        return "start_cursor" in request.json()

    def empty(self, answer):
        return Answer({**answer.body, "results": []})

    def touch(self, item, when):
        item["last_edited_time"] = z(when)

    def remove(self, item):
        """It goes to the trash, which is an edit."""
        item.update(in_trash=True, archived=True, last_edited_time=max(row["last_edited_time"] for row in self.items))

    def expected(self):
        found = {row["id"]: row["last_edited_time"] for row in self.items}
        for parent, comments in self.comments.items():
            found |= {f"{parent}#{one['id']}": one["last_edited_time"] for one in comments}
        return {key: dt.datetime.fromisoformat(when) for key, when in found.items()}


SERVICE = Notion
