"""Intercom's searches, as version 2.16 of its API description has them."""

import base64
import datetime as dt
import json

from fake_services import Answer, FakeService, at

AGENT = {"type": "admin", "id": "900", "name": "Agent Nine", "email": "nine@acme.example"}
DAY = 86400


def user(n):
    return {"type": "user", "id": f"u{n % 17}", "name": f"User {n}", "email": f"user{n}@example.org"}


def part(number, when, kind, author, body):
    return {
        "type": "conversation_part", "id": str(number), "part_type": kind, "body": body, "created_at": when,
        "updated_at": when, "notified_at": when, "assigned_to": None, "author": author, "attachments": [],
        "redacted": False,
    }  # fmt: skip


class Intercom(FakeService):
    kind = "intercom"
    enough = 350
    quiet_extra = 4  # another page because a search may compare whole days, and the parts of the last conversations
    unauthorised = (
        401,
        {"type": "error.list", "errors": [{"code": "unauthorized", "message": "Access Token Invalid"}]},
    )

    def options(self):
        return {"url": self.url, "token_env": "FAKE_TOKEN"}

    def make(self, count):
        self.parts = {}
        self.tickets = [self.ticket(i) for i in range(0, count, 10)]
        return [self.conversation(i) for i in range(count)]

    def conversation(self, i):
        n, when = i + 1, int(at(i).timestamp())
        writer = AGENT if i % 23 == 5 else user(n)
        self.parts[str(n)] = []
        if i % 8 == 0:
            bot = {"type": "bot", "id": "278", "name": "Fin", "email": "op@intercom.example", "from_ai_agent": True}
            self.parts[str(n)] = [
                part(n * 10 + 1, when, "comment", bot, "<p>Have you tried our docs?</p>"),
                part(n * 10 + 2, when, "note", AGENT, "<p>He always asks that.</p>"),
                part(n * 10 + 3, when, "assignment", AGENT, "<p>Over to you</p>"),
                part(n * 10 + 4, when, "comment", AGENT, "<p>We look into it.</p>"),
                part(n * 10 + 5, when, "comment", user(n), "<p>Thanks.</p>"),
                part(n * 10 + 6, when, "close", AGENT, None),
            ]
        return {
            "type": "conversation", "id": str(n), "created_at": when, "updated_at": when, "title": None,
            "source": {"type": "conversation", "id": "4", "delivered_as": "customer_initiated", "subject": "",
                       "body": f"<p>Build {n} takes <b>long</b></p>", "author": writer, "attachments": []},
            "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": user(n)["id"]}]},
            "first_contact_reply": None, "open": True, "state": "open", "read": True, "priority": "none",
            "tags": {"type": "tag.list", "tags": [{"type": "tag", "id": "1", "name": "build"}]},
            "statistics": {"count_conversation_parts": len(self.parts[str(n)])}, "conversation_rating": None,
        }  # fmt: skip

    def ticket(self, i):
        n, when = 5000 + i, int(at(i).timestamp())
        said = [part(n * 10, when, "comment", AGENT, "<p>Done.</p>"), part(n * 10 + 1, when, "note", AGENT, "<p>x</p>")]
        return {
            "type": "ticket", "id": str(n), "ticket_id": str(i), "created_at": when, "updated_at": when, "open": True,
            "ticket_attributes": {"_default_title_": f"Invoice {n}", "_default_description_": None},
            "ticket_state": {"type": "ticket_state", "id": "1", "category": "submitted"},
            "ticket_type": {"type": "ticket_type", "id": "1", "name": "Billing"}, "is_shared": True,
            "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": "u1"}] if i % 20 else []},
            "category": "Back-office" if i == 30 else "Customer",
            "ticket_parts": {"type": "ticket_part.list", "ticket_parts": said, "total_count": len(said)},
        }  # fmt: skip

    def answer(self, request):
        assert request.headers["intercom-version"] == "2.16"
        kind, _, rest = request.path.strip("/").partition("/")
        if request.path == "/me":
            return Answer({"type": "admin", **AGENT, "app": {"id_code": "abc", "name": "Acme", "region": "US"}})
        if kind in ("conversations", "tickets") and rest == "search":
            assert request.method == "POST"
            return self.search(kind, self.items if kind == "conversations" else self.tickets, request.json())
        row = next((row for row in self.items if kind == "conversations" and row["id"] == rest), None)
        if row is None:
            return Answer({"type": "error.list", "errors": [{"code": "not_found"}]}, 404)
        parts = self.parts[rest]
        listed = {"type": "conversation_part.list", "conversation_parts": parts[-500:], "total_count": len(parts)}
        return Answer({**row, "conversation_parts": listed})

    def search(self, kind, rows, asked):
        (one,) = asked["query"]["value"]
        assert (asked["query"]["operator"], one["field"], one["operator"]) == ("AND", "updated_at", ">")
        assert isinstance(one["value"], int)
        assert one["value"] >= 0
        assert asked["sort"] == {"field": "updated_at", "order": "ascending"}
        size = asked["pagination"]["per_page"]
        assert 1 <= size <= 150
        day = one["value"] // DAY  # the trap: later than this day, not later than this second
        rows = sorted((r for r in rows if r["updated_at"] // DAY > day), key=self.place)
        number = 1
        if following := asked["pagination"].get("starting_after"):
            when, row_id, number = json.loads(base64.b64decode(following))
            rows = [r for r in rows if self.place(r) > (when // 1000, row_id)]
        pages = {"type": "pages", "page": number, "per_page": size, "total_pages": 9}
        if len(rows) > size:
            when, row_id = self.place(rows[size - 1])
            cursor = json.dumps([when * 1000, row_id, number + 1]).encode()
            pages["next"] = {"page": number + 1, "starting_after": base64.b64encode(cursor).decode()}
        return Answer({"type": f"{kind[:-1]}.list", kind: rows[:size], "total_count": len(rows), "pages": pages})

    def place(self, row):
        return row["updated_at"], int(row["id"])

    def lists(self, request):
        return request.path == "/conversations/search"

    def follows(self, request):
        return b"starting_after" in request.body

    def empty(self, answer):
        return Answer({**answer.body, "conversations": []})

    def touch(self, item, when):
        item["updated_at"] = int(when.timestamp())

    def expected(self):
        found = {}
        for row in self.items:
            said = [p for p in self.parts[row["id"]] if p["part_type"] == "comment" and p["author"]["type"] != "bot"]
            if row["source"]["author"]["type"] == "admin":
                if not said:
                    continue
                said = []  # the customer's one comment is the signal
            found[row["id"]] = row["updated_at"]
            found |= {f"{row['id']}#{p['id']}": p["updated_at"] for p in said}
        for row in self.tickets:
            if row["category"] == "Customer":
                found[f"ticket-{row['id']}"] = row["updated_at"]
                said = row["ticket_parts"]["ticket_parts"][0]
                found[f"ticket-{row['id']}#{said['id']}"] = said["updated_at"]
        return {key: dt.datetime.fromtimestamp(when, dt.UTC) for key, when in found.items()}


SERVICE = Intercom
