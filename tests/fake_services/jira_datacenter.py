"""Jira Data Center's search and comments: by number, by the second, and internal comments told by a property."""

import datetime as dt

from fake_services import TOKEN, Answer
from fake_services.jira import JQL, Jira, moment


class DataCenter(Jira):
    base = "/rest/api/2"
    search = "/rest/api/2/search"
    quiet_extra = 1  # the comments of the request in the lag that has some

    def options(self):
        return {"url": self.url, "deployment": "datacenter", "project": "SUP", "token_env": "FAKE_TOKEN"}

    def allowed(self, request):
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    def words(self, *paragraphs):
        return "\n\n".join(paragraphs)

    def discussion(self, issue, when, count, desk):
        found = super().discussion(issue, when, count, desk)
        for one in found:
            internal = not one.pop("jsdPublic")
            one["author"] = one["updateAuthor"] = {"name": "sam", "key": "JIRAUSER10100", "displayName": "Sam Writes"}
            one["properties"] = [{"key": "sd.public.comment", "value": {"internal": internal}}] if desk else []
        return found

    def chosen(self, request):
        asked = JQL.fullmatch(request.query["jql"])
        assert asked, request.query["jql"]
        assert asked[2] or request.query["maxResults"] == "0"
        since = dt.datetime.fromtimestamp(int(asked[1]) // 1000, dt.UTC)
        rows = [(moment(row).replace(microsecond=0), int(row["id"]), row) for row in self.items]
        return [row for when, _, row in sorted(rows, key=lambda one: one[:2]) if when >= since]

    def fields(self, request, row):
        """All comments, but without their properties."""
        full = super().fields(request, row)
        if "comment" in full["fields"]:
            every = [{k: v for k, v in one.items() if k != "properties"} for one in self.comments[row["id"]]]
            listed = {"comments": every, "startAt": 0, "maxResults": len(every), "total": len(every)}
            full["fields"]["comment"] = listed
        return full

    def page(self, request):
        rows, start = self.chosen(request), int(request.query.get("startAt", 0))
        size = min(int(request.query["maxResults"]), 1000)
        found = [self.fields(request, row) for row in rows[start : start + size]]
        return Answer({"startAt": start, "maxResults": size, "total": len(rows), "issues": found})

    def follows(self, request):
        return request.query.get("startAt", "0") != "0"

    def internal(self, comment):
        told = any(one["value"]["internal"] for one in comment["properties"])
        return told or "visibility" in comment


SERVICE = DataCenter
