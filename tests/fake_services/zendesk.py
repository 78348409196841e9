"""Zendesk's incremental exports, as https://developer.zendesk.com/api-reference/ticketing describes them."""

import base64
import datetime as dt

from fake_services import TOKEN, Answer, FakeService, at, page_number

EMAIL = "admin@acme.example"
KEY = base64.b64encode(f"{EMAIL}/token:{TOKEN}".encode()).decode()
AGENT = 900


def z(when):
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def person(number, role="end-user"):
    name = f"Person {number}"
    return {
        "id": number,
        "name": name,
        "email": f"p{number}@example.org",
        "role": role,
        "locale": "en-US",
        "phone": None,
    }


def comment(number, author, body, *, public=True):
    return {
        "id": number, "type": "Comment", "event_type": "Comment", "author_id": author, "body": body, "public": public,
        "html_body": f'<div class="zd-comment" dir="auto">{body}</div>', "plain_body": body, "attachments": [],
        "audit_id": number + 1, "via": {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}},
        "metadata": {"system": {"ip_address": "1.1.1.1", "location": "Here"}, "custom": {}},
    }  # fmt: skip


class Zendesk(FakeService):
    kind = "zendesk"
    unauthorised = (401, {"error": "Couldn't authenticate you"})
    quiet_extra = 1  # who the agents are

    def options(self):
        return {"url": self.url, "email": EMAIL, "token_env": "FAKE_TOKEN"}

    def allowed(self, request):
        return request.headers.get("authorization") == f"Basic {KEY}"

    def make(self, count):
        self.events, self.now = [], {}  # what changed; by ticket, its comments as they are now
        return [self.ticket(i) for i in range(count)]

    def ticket(self, i):
        n, when, public = i + 1, at(i), i % 23 != 5
        who = None if i == 11 else 10 + i % 17
        self.event(n, when, comment(n * 10, who, f"It takes {n} minutes.", public=public), {"event_type": "Create"})
        if i % 9 == 0:
            self.event(n, when, {"id": n * 10 + 4, "field_name": "status", "value": "open", "event_type": "Change"})
        if i % 4 == 0:
            self.event(n, when, comment(n * 10 + 1, AGENT, "We look into it.", public=public))
            self.event(n, when, comment(n * 10 + 2, AGENT, "He always asks that.", public=False))
        return {
            "id": n, "url": f"https://acme.zendesk.com/api/v2/tickets/{n}.json", "external_id": None,
            "via": {"channel": "email", "source": {"from": {"name": "A Person", "address": "p@example.org"}}},
            "created_at": z(when), "updated_at": z(when), "generated_timestamp": int(when.timestamp()),
            "type": "question", "subject": f"Build {n} is slow", "raw_subject": f"Build {n} is slow",
            "description": f"It takes {n} minutes.", "priority": None if i % 3 else "high", "status": "open",
            "requester_id": who, "submitter_id": who, "assignee_id": AGENT, "organization_id": None, "group_id": 1,
            "collaborator_ids": [], "follower_ids": [], "is_public": public, "tags": ["build"], "custom_fields": [],
            "satisfaction_rating": {"score": "unoffered"}, "comment_count": 2 if i % 4 == 0 else 1, "brand_id": 1,
        }  # fmt: skip

    def event(self, ticket, when, *children):
        self.events.append({
            "id": 70_000 + len(self.events), "ticket_id": ticket, "timestamp": int(when.timestamp()),
            "created_at": z(when), "updater_id": AGENT, "via": "Web form", "system": {"ip_address": "1.1.1.1"},
            "event_type": "Audit", "child_events": list(children),
        })  # fmt: skip

    def answer(self, request):
        asked = request.query
        if request.path == "/api/v2/users/me":
            return Answer({"user": person(AGENT, "admin")})
        if request.path == "/api/v2/tickets/count":
            return Answer({"count": {"value": len(self.items), "refreshed_at": z(at(0))}})
        if request.path == "/api/v2/users":
            assert asked["role[]"] in ("agent", "admin")
            assert asked["page[size]"] == "100"
            return Answer({"users": [person(AGENT, "agent")], "meta": {"has_more": False, "after_cursor": None}})
        if request.path == "/api/v2/incremental/tickets/cursor":
            return self.export(asked)
        if request.path == "/api/v2/incremental/ticket_events":
            assert asked["include"] == "comment_events"
            return self.stream(int(asked["start_time"]))
        if request.path == "/api/v2/guide/survey_responses":
            return self.answered(asked)
        if (n := page_number(request.path, r"^/api/v2/tickets/(\d+)/comments$")) in self.now:
            assert int(asked["page[size]"]) <= 100
            return Answer({"comments": self.now[n], "meta": {"has_more": False, "after_cursor": None}})
        return Answer({"error": "RecordNotFound", "description": "Not found"}, 404)

    def export(self, asked):
        assert ("start_time" in asked) != ("cursor" in asked), "one of both, never both"
        assert int(asked["per_page"]) <= 1000
        assert set(asked["include"].split(",")) <= {"users", "groups", "metric_sets", "comment_count"}
        assert asked["support_type_scope"] in ("agent", "ai_agent", "all")
        try:
            text = base64.b64decode(asked["cursor"]).decode() if "cursor" in asked else f"{asked['start_time']}.0||-1|"
            begin, _, last = text.removesuffix("|").partition(".0||")
            after = int(begin), int(last)
        except ValueError:
            return Answer({"error": "InvalidCursor"}, 400)
        rows = sorted(self.items, key=self.place)
        rows = [row for row in rows if self.place(row) > after]
        page = rows[:100]  # fewer than asked for, as it may
        after = self.place(page[-1]) if page else after
        people = {row["requester_id"] for row in page} - {None}
        metrics = [{"ticket_id": r["id"], "reply_time_in_minutes": {"calendar": 5, "business": 0}} for r in page]
        return Answer({
            "tickets": page, "users": [person(n) for n in sorted(people)], "metric_sets": metrics,
            "after_cursor": base64.b64encode(f"{after[0]}.0||{after[1]}|".encode()).decode(), "after_url": "…",
            "before_cursor": None, "before_url": None, "end_of_stream": len(rows) <= 100,
        })  # fmt: skip

    def answered(self, asked):
        assert int(asked["page[size]"]) <= 50
        assert asked["sort"] == "id"
        rows = [self.survey(i) for i in range(0, len(self.items), 7)]
        rows = [row for row in rows if row["sent"] * 1000 >= int(asked.get("filter[created_at_start]", 0))]
        begin, size = int(asked.get("page[after]", 0)), int(asked["page[size]"])
        more = {"has_more": len(rows) > begin + size, "after_cursor": str(begin + size)}
        return Answer({"survey_responses": rows[begin : begin + size], "meta": more})

    def survey(self, i):
        """Sent at the time of the ticket, answered two hours later, every second one not at all."""
        times = {"created_at": z(at(i) + dt.timedelta(hours=2)), "updated_at": z(at(i) + dt.timedelta(hours=2))}
        question = {"type": "rating_scale_numeric", "alias": "customer satisfaction rating"}
        rated = {"type": "rating_scale", "rating": 1 + i % 5, "rating_category": "good", "question": question, **times}
        return {
            "id": f"01J{i:05}", "responder_id": 10 + i % 17, "expires_at": "2027-01-01T00:00:00Z", "survey_version": 1,
            "subjects": [{"type": "ticket", "id": str(i + 1), "zrn": f"zen:ticket:{i + 1}"}],
            "answers": [rated, {"type": "open_ended", "value": "Quick.", **times}] if i % 2 else [],
            "sent": int(at(i).timestamp()),
        }  # fmt: skip

    def place(self, row):
        return row["generated_timestamp"], row["id"]

    def stream(self, start):
        rows = sorted((e for e in self.events if e["timestamp"] >= start), key=lambda e: (e["timestamp"], e["id"]))
        page = rows[:400]
        end = page[-1]["timestamp"] if page else start
        return Answer({
            "ticket_events": page, "count": len(page), "end_time": end, "end_of_stream": len(rows) <= 400,
            "next_page": f"https://acme.zendesk.com/api/v2/incremental/ticket_events.json?start_time={end}",
        })  # fmt: skip

    def lists(self, request):
        return "/incremental/" in request.path

    def follows(self, request):
        return "cursor" in request.query

    def empty(self, answer):
        rows = "tickets" if "tickets" in answer.body else "ticket_events"
        return Answer({**answer.body, rows: []})

    def touch(self, item, when):
        item["updated_at"], item["generated_timestamp"] = z(when), int(when.timestamp())

    def remove(self, item):
        self.touch(item, at(len(self.items) + 40))
        item["status"] = "deleted"

    def expected(self):
        public = [i for i in self.items if i["is_public"]]
        found = {str(i["id"]): dt.datetime.fromisoformat(i["updated_at"]) for i in public}
        for event in self.events:
            kinds = [child["event_type"] for child in event["child_events"]]
            for child in event["child_events"]:
                if child["event_type"] == "Comment" and child["public"] and "Create" not in kinds:
                    key = f"{event['ticket_id']}#{child['id']}"
                    found[key] = dt.datetime.fromtimestamp(event["timestamp"], dt.UTC)
        rows = [self.survey(i) for i in range(0, len(self.items), 7)]
        answers = {f"survey-{row['id']}": row["answers"][0]["updated_at"] for row in rows if row["answers"]}
        return found | {key: dt.datetime.fromisoformat(when) for key, when in answers.items()}


SERVICE = Zendesk
