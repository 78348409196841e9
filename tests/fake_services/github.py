"""GitHub's issues and issue comments, as https://docs.github.com/rest describes them."""

import datetime as dt
import urllib.parse

from fake_services import Answer, FakeService, at

REPO = "octo/hello"
WEB = f"https://github.com/{REPO}"
API = f"https://api.github.com/repos/{REPO}"


def person(login):
    api = f"https://api.github.com/users/{login}"
    return {
        "login": login, "id": sum(login.encode()), "node_id": "MDQ6VXNlcjE=", "type": "User", "site_admin": False,
        "avatar_url": f"https://avatars.githubusercontent.com/{login}", "gravatar_id": "", "url": api,
        "html_url": f"https://github.com/{login}", "followers_url": f"{api}/followers", "repos_url": f"{api}/repos",
    }  # fmt: skip


def z(when):
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


class Github(FakeService):
    kind = "github"

    def options(self):
        return {"url": self.url, "repo": REPO, "token_env": "FAKE_TOKEN"}

    def make(self, count):
        items = []
        for i in range(count):
            n = i + 1
            row = {
                "id": 9_000_000 + n, "node_id": f"I_{n}", "number": n, "url": f"{API}/issues/{n}",
                "repository_url": API, "labels_url": f"{API}/issues/{n}/labels{{/name}}",
                "html_url": f"{WEB}/issues/{n}", "title": f"Build {n} is slow",
                "body": None if i % 50 == 7 else f"It takes {n} minutes since Monday.",
                "user": None if i == 11 else person(f"user-{i % 17}"), "state": "closed" if i % 3 == 0 else "open",
                "state_reason": "completed" if i % 3 == 0 else None, "locked": False, "assignees": [], "assignee": None,
                "labels": [{"id": 1, "url": f"{API}/labels/bug", "name": "bug", "color": "f29513"}, "priority: high"],
                "comments": 1 if i % 4 == 0 else 0, "created_at": z(at(i)), "updated_at": z(at(i)),
                "closed_at": z(at(i)) if i % 3 == 0 else None, "author_association": "NONE",
                "reactions": {"url": f"{API}/issues/{n}/reactions", "total_count": i % 5, "+1": i % 5, "-1": 0},
            }  # fmt: skip
            if i % 23 == 5:
                row["pull_request"] = {"url": f"{API}/pulls/{n}"}
                row["html_url"] = f"{WEB}/pull/{n}"
            items.append(row)
        self.comments = []
        for row in items[::4]:
            n = row["number"]
            path = "pull" if "pull_request" in row else "issues"
            self.comments.append({
                "id": 7_000_000 + n, "url": f"{API}/issues/comments/{n}", "issue_url": f"{API}/issues/{n}",
                "html_url": f"{WEB}/{path}/{n}#issuecomment-{n}", "user": person("maintainer"),
                "created_at": row["created_at"], "updated_at": row["updated_at"], "author_association": "MEMBER",
                "body": "We see it too.", "reactions": {"total_count": 0}, "performed_via_github_app": None,
            })  # fmt: skip
        return items

    def answer(self, request):
        if request.path == f"/repos/{REPO}":
            return Answer({"full_name": REPO, "open_issues_count": len(self.items)})
        if request.path == f"/repos/{REPO}/issues":
            assert request.query["state"] == "all"
            return self._page(request, self.items)
        if request.path == f"/repos/{REPO}/issues/comments":
            return self._page(request, self.comments)
        return Answer({"message": "Not Found"}, 404)

    def _page(self, request, rows):
        asked = request.query
        assert (asked["sort"], asked["direction"]) == ("updated", "asc")
        rows = sorted(
            (r for r in rows if r["updated_at"] >= asked.get("since", "")), key=lambda r: (r["updated_at"], r["id"])
        )
        size, number = int(asked["per_page"]), int(asked.get("page", 1))
        headers = {"X-RateLimit-Remaining": "4999"}
        if len(rows) > size * number:
            query = urllib.parse.urlencode({**asked, "page": number + 1})
            headers["Link"] = f'<{self.url}{request.path}?{query}>; rel="next", <{self.url}>; rel="last"'
        return Answer(rows[size * (number - 1) : size * number], headers=headers)

    def lists(self, request):
        return request.path.startswith(f"/repos/{REPO}/issues")

    def follows(self, request):
        return "page" in request.query

    def empty(self, answer):
        return Answer([], headers=answer.headers)

    def touch(self, item, when):
        item["updated_at"] = z(when)

    def expected(self):
        found = {str(i["number"]): i["updated_at"] for i in self.items if "pull_request" not in i}
        for c in self.comments:
            if "/pull/" not in c["html_url"]:
                n = c["issue_url"].rpartition("/")[2]
                found[f"{n}#{c['id']}"] = c["updated_at"]
        return {key: dt.datetime.fromisoformat(when) for key, when in found.items()}


SERVICE = Github
