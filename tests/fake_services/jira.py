"""Jira Cloud's search and comments, as https://developer.atlassian.com/cloud/jira/platform/rest/v3 describes them."""

import base64
import datetime as dt
import json
import re

from fake_services import TOKEN, Answer, FakeService, at

SITE = "https://acme.atlassian.net"
USER = "robot@acme.example"
JQL = re.compile(r'project = "SUP" AND updated >= (\d+)( ORDER BY updated ASC, key ASC)?')
INLINE = 20  # comments that a search gives of an issue


def person(n, kind="atlassian"):
    return {
        "self": f"{SITE}/rest/api/3/user?accountId=5b10a2844c20165700ede{n:03}", "accountType": kind, "active": True,
        "accountId": f"5b10a2844c20165700ede{n:03}", "displayName": f"Mia {n}", "timeZone": "Europe/Berlin",
        "avatarUrls": {"48x48": f"https://avatar.example.com/initials/M{n}.png"},
    }  # fmt: skip


def document(*words):
    paragraphs = [{"type": "paragraph", "content": [{"type": "text", "text": one}]} for one in words]
    return {"type": "doc", "version": 1, "content": paragraphs}


def told(when):
    """A time as Jira writes it, without a colon in the zone."""
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}+0000"


def moment(row):
    return dt.datetime.fromisoformat(row["fields"]["updated"])


class Jira(FakeService):
    kind = "jira"
    base = "/rest/api/3"
    search = "/rest/api/3/search/jql"
    unauthorised = (401, {"errorMessages": ["You are not authenticated."]})

    def options(self):
        return {"url": self.url, "project": "SUP", "user": USER, "token_env": "FAKE_TOKEN"}

    def allowed(self, request):
        basic = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {basic}"

    def make(self, count):
        self.comments = {}
        return [self.issue(i) for i in range(count)]

    def time(self, i):
        """Nine tenths of a second apart, the later one with the smaller key: an order by whole seconds is another."""
        return at(i) + dt.timedelta(milliseconds=100 * (9 - i % 10))

    def words(self, *paragraphs):
        return document(*paragraphs)

    def issue(self, i):
        n, when = 10_001 + i, told(self.time(i))
        done = i % 3 == 0
        desk = i % 2 == 0
        self.comments[str(n)] = self.discussion(n, when, 24 if i == 8 else i % 20 == 4, desk)
        return {
            "expand": "operations,versionedRepresentations", "id": str(n), "self": f"{SITE}/rest/api/3/issue/{n}",
            "key": f"SUP-{i + 1}",
            "fields": {
                "summary": f"Build {i} is slow", "created": when, "updated": when, "labels": ["build"],
                "description": None if i % 50 == 7 else self.words(f"It takes {i} minutes.", "Since Monday."),
                "reporter": None if i == 11 else person(i % 17, "customer" if desk else "atlassian"),
                "creator": person(1), "issuetype": {"id": "1", "name": "Bug", "subtask": False},
                "status": {"name": "Done" if done else "Open", "statusCategory": {"key": "done" if done else "new"}},
                "statuscategorychangedate": when, "resolutiondate": when if done else None,
                "priority": {"id": "2", "name": "High", "iconUrl": f"{SITE}/images/high.svg"}, "votes": {"votes": 0},
                "project": {"id": "7", "key": "SUP", "projectTypeKey": "service_desk" if desk else "software"},
                "components": [], "versions": [],
            },
        }  # fmt: skip

    def discussion(self, issue, when, count, desk):
        found = []
        for nth in range(1, count + 1 + bool(count)):
            last = nth == count + 1  # for the team only
            found.append({
                "self": f"{SITE}/rest/api/3/issue/{issue}/comment/{issue}{nth:03}", "id": f"{issue}{nth:03}",
                "author": person(1), "body": self.words("We see it too."), "updateAuthor": person(1), "created": when,
                "updated": when, "jsdPublic": not (desk and last),
                **({"visibility": {"type": "role", "value": "Developers"}} if last and not desk else {}),
            })  # fmt: skip
        return found

    def answer(self, request):
        if request.path == self.search:
            assert request.method == "GET"
            return self.page(request)
        if request.path == "/rest/api/3/search/approximate-count" and request.method == "POST":
            return Answer({"count": len(self.items)})
        return self.thread(request)

    def thread(self, request):
        found = re.fullmatch(rf"{self.base}/issue/(\d+)/comment", request.path)
        if not found or not any(item["id"] == found[1] for item in self.items):
            return Answer({"errorMessages": ["Issue does not exist or you do not have permission to see it."]}, 404)
        assert (request.query["orderBy"], request.query["expand"]) == ("created", "properties")
        start, size, every = int(request.query["startAt"]), 100, self.comments[found[1]]
        return Answer({"startAt": start, "maxResults": size, "total": len(every), "comments": every[start:][:size]})

    def chosen(self, request):
        """The rows a query asks for, in its order; a query without a bound is refused."""
        asked = JQL.fullmatch(request.query["jql"])
        assert asked, request.query["jql"]
        assert asked[2] or request.query["maxResults"] == "0"
        since = int(asked[1]) / 1000
        rows = [row for row in self.items if moment(row).timestamp() >= since]
        return sorted(rows, key=lambda row: (moment(row), int(row["key"].partition("-")[2])))

    def fields(self, request, row):
        """The fields asked for; a search gives none unless they are named."""
        asked = request.query.get("fields", "").split(",")
        every = self.comments[row["id"]]
        listed = {"comments": every[:INLINE], "startAt": 0, "maxResults": len(every[:INLINE]), "total": len(every)}
        known = {**row["fields"], "comment": listed}
        return {**row, "fields": {name: known[name] for name in asked if name in known}}

    def page(self, request):
        size = int(request.query["maxResults"])
        assert size <= 5000
        rows, start = self.chosen(request), 0
        if token := request.query.get("nextPageToken"):
            start, query = json.loads(base64.b64decode(token))
            if query != request.query["jql"]:
                return Answer({"errorMessages": ["The token is of another query."]}, 400)
        end = start + size
        more = {"isLast": True}
        if end < len(rows):
            token = base64.b64encode(json.dumps([end, request.query["jql"]]).encode()).decode()
            more = {"nextPageToken": token, "isLast": False}
        return Answer({"issues": [self.fields(request, row) for row in rows[start:end]], **more})

    def lists(self, request):
        return request.path == self.search

    def follows(self, request):
        return "nextPageToken" in request.query

    def empty(self, answer):
        return Answer({**answer.body, "issues": []})

    def touch(self, item, when):
        item["fields"]["updated"] = told(when)

    def expected(self):
        found = {item["id"]: moment(item) for item in self.items}
        for item in self.items:
            for one in self.comments[item["id"]]:
                if one.get("jsdPublic", True) and not self.internal(one):
                    found[f"{item['id']}#{one['id']}"] = dt.datetime.fromisoformat(one["updated"])
        return found

    def internal(self, comment):
        return "visibility" in comment


SERVICE = Jira
