"""GitLab's issues and notes, as https://docs.gitlab.com/api/issues and /api/notes describe them."""

import datetime as dt
import re

from fake_services import TOKEN, Answer, FakeService, at

API = "/api/v4"
PROJECT = "octo/tools/hello"
WEB = f"https://gitlab.example.com/{PROJECT}/-"


def person(login):
    return {
        "id": sum(login.encode()), "username": login, "public_email": "", "name": login.title(), "state": "active",
        "locked": False, "avatar_url": f"https://gitlab.example.com/{login}.png",
        "web_url": f"https://gitlab.example.com/{login}",
    }  # fmt: skip


def ms(when):
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"


class Gitlab(FakeService):
    kind = "gitlab"
    unauthorised = (401, {"message": "401 Unauthorized"})

    def options(self):
        return {"url": self.url, "project": PROJECT, "token_env": "FAKE_TOKEN"}

    def allowed(self, request):
        return request.headers.get("private-token") == TOKEN

    def make(self, count):
        self.notes = {}
        return [self._issue(i) for i in range(count)]

    def _issue(self, i):
        n, discussed, when = i + 1, i % 40 == 8 or (i < 100 and i % 5 == 3), ms(at(i) + dt.timedelta(milliseconds=81))
        closed = i % 3 == 0
        self.notes[n] = [self.note(n, 0, when, system=True), self.note(n, 1, when, internal=True)]
        if discussed:
            self.notes[n] += [self.note(n, nth, when) for nth in range(2, 3)]
        return {
            "id": 9_000_000 + n, "iid": n, "project_id": 7, "title": f"Build {n} is slow",
            "description": None if i % 50 == 7 else f"It takes {n} minutes since Monday.",
            "state": "closed" if closed else "opened", "created_at": when, "updated_at": when,
            "closed_at": when if closed else None, "closed_by": person("maintainer") if closed else None,
            "labels": ["bug", "priority::high"], "milestone": None, "assignees": [], "assignee": None,
            "author": None if i == 11 else person(f"user-{i % 17}"), "type": "ISSUE", "issue_type": "issue",
            "user_notes_count": len(self.notes[n]) - 1 if discussed else 0, "merge_requests_count": 0,
            "upvotes": i % 5, "downvotes": 0, "due_date": None, "confidential": i % 23 == 5,
            "discussion_locked": None, "severity": "UNKNOWN", "moved_to_id": None, "imported": False,
            "web_url": f"{WEB}/issues/{n}", "service_desk_reply_to": None,
            "references": {"short": f"#{n}", "relative": f"#{n}", "full": f"{PROJECT}#{n}"},
            "_links": {"self": f"https://gitlab.example.com/api/v4/projects/7/issues/{n}"},
        }  # fmt: skip

    def note(self, n, nth, when, system=False, internal=False):
        return {
            "id": 1000 * n + nth, "type": None, "body": "changed title" if system else "We see it too.",
            "author": person("maintainer"), "created_at": when, "updated_at": when, "system": system,
            "noteable_id": 9_000_000 + n, "noteable_type": "Issue", "project_id": 7, "resolvable": False,
            "confidential": internal, "internal": internal, "imported": False, "noteable_iid": n,
        }  # fmt: skip

    def answer(self, request):
        place = f"{API}/projects/{PROJECT}"
        if request.path == f"{place}/issues_statistics":
            return Answer({"statistics": {"counts": {"all": len(self.items), "closed": 0, "opened": len(self.items)}}})
        if request.path == f"{place}/issues":
            return self._issues(request)
        found = re.fullmatch(rf"{API}/projects/7/issues/(\d+)/notes", request.path)
        if not found or not any(item["iid"] == int(found[1]) for item in self.items):
            return Answer({"message": "404 Not found"}, 404)
        assert request.query["order_by"] == "created_at"
        return self._page(request, self.notes[int(found[1])])

    def _issues(self, request):
        asked = request.query
        assert (asked["order_by"], asked["scope"]) == ("updated_at", "all")
        assert asked.get("confidential") == "false"
        rows = [r for r in self.items if not r["confidential"]]
        if after := asked.get("updated_after"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", after)
            rows = [r for r in rows if r["updated_at"] >= after]
        return self._page(request, sorted(rows, key=lambda r: (r["updated_at"], r["id"])))

    def _page(self, request, rows):
        size, number = int(request.query["per_page"]), int(request.query.get("page", 1))
        assert (request.query["sort"], size <= 100) == ("asc", True)
        more = len(rows) > size * number
        headers = {"X-Next-Page": str(number + 1) if more else "", "X-Per-Page": str(size), "RateLimit-Remaining": "60"}
        return Answer(rows[size * (number - 1) : size * number], headers=headers)

    def lists(self, request):
        return request.path == f"{API}/projects/{PROJECT}/issues"

    def follows(self, request):
        return request.query.get("page", "1") != "1"

    def empty(self, answer):
        return Answer([], headers=answer.headers)

    def touch(self, item, when):
        item["updated_at"] = ms(when)

    def expected(self):
        found = {}
        for item in self.items:
            if not item["confidential"]:
                found[str(item["id"])] = item["updated_at"]
                notes = self.notes[item["iid"]] if item["user_notes_count"] else []
                for note in notes:
                    if not (note["system"] or note["internal"]):
                        found[f"{item['id']}#{note['id']}"] = note["updated_at"]
        return {key: dt.datetime.fromisoformat(when) for key, when in found.items()}


SERVICE = Gitlab
