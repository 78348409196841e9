"""Discourse's lists of topics and its posts, as https://docs.discourse.org and its source describe them."""

import datetime as dt
import re

from fake_services import BEGIN, TOKEN, Answer, FakeService, at

PAGE, CHUNK = 30, 20


def z(when):
    return f"{when:%Y-%m-%dT%H:%M:%S.}{when.microsecond // 1000:03}Z"


def written(i):
    """Five times as close as `at` says: more than a page of topics are of one day, the finest bound there is."""
    return BEGIN + (at(i) - BEGIN) / 5


def post(number, topic, when, user, **more):
    return {
        "id": topic * 1000 + number, "topic_id": topic, "post_number": number, "post_type": 1, "username": user,
        "name": f"{user} by name", "avatar_template": f"/user_avatar/{user}/{{size}}.png", "user_id": len(user),
        "created_at": z(when), "updated_at": z(when), "version": 1, "cooked": f"<p>It takes {topic} minutes.</p>",
        "moderator": False, "admin": False, "staff": False, "hidden": False, "deleted_at": None, "user_deleted": False,
        "trust_level": 1, "actions_summary": [{"id": 2, "count": 1}], "reply_to_post_number": None, **more,
    }  # fmt: skip


class Discourse(FakeService):
    kind = "discourse"
    unauthorised = (403, {"errors": ["The API username or key is invalid."], "error_type": "invalid_access"})
    quiet_extra = 28  # the categories, and the 20 topics of the last time anew, which are asked for one by one

    def __init__(self, count=140, fault=None, limit=800):
        super().__init__(count, fault, limit)

    def options(self):
        return {"url": self.url, "category": "bugs", "user": "reader", "token_env": "FAKE_TOKEN"}

    def make(self, count):
        items, self.posts = [], {}
        for i in range(count):
            n, when = i + 1, z(written(i))
            row = {
                "id": n, "title": f"Build {n} is slow", "fancy_title": f"Build {n} is slow", "slug": f"build-{n}",
                "posts_count": 1, "reply_count": 0, "highest_post_number": 1, "created_at": when, "bumped_at": when,
                "last_posted_at": when, "bumped": False, "archetype": "regular", "pinned": False, "unpinned": None,
                "pinned_globally": False, "visible": True, "closed": False, "archived": False, "views": 9,
                "like_count": 1, "category_id": 5 if i % 6 in (0, 2) else 7, "tags": ["ci"], "image_url": None,
                "last_poster_username": f"user-{i % 17}", "posters": [{"user_id": 3, "description": "Original Poster"}],
            }  # fmt: skip
            self.posts[n] = [post(1, n, written(i), f"user-{i % 17}")]
            if i % 14 == 4:
                self._talk(row, written(i))
            if i == 20:
                self.posts[n][0] |= {"username": None, "user_id": None}
            if i == 44:
                row |= {"pinned": True, "pinned_globally": True}
            items.append(row)
        return items

    def _talk(self, row, when):
        """Thirty answers, more than come with the topic; one is a whisper, one says that it was closed."""
        for number in range(2, 32):
            more = {2: {"post_type": 4}, 31: {"post_type": 3, "action_code": "closed.enabled"}}.get(number, {})
            self.posts[row["id"]].append(post(number, row["id"], when, "helper", staff=True, moderator=True, **more))
        row |= {"posts_count": 29, "highest_post_number": 31}

    def allowed(self, request):
        return request.headers.get("api-key") == TOKEN and request.headers.get("api-username") == "reader"

    def answer(self, request):
        assert request.method == "GET"
        assert request.headers["accept"] == "application/json"
        if request.path == "/site.json":
            known = [{"id": 5, "name": "Bugs", "slug": "bugs"}, {"id": 7, "name": "Chat", "slug": "chat"}]
            return Answer({"categories": known})
        if request.path == "/filter.json":
            return self._list(request)
        if found := re.fullmatch(r"/t/(\d+)(/posts)?\.json", request.path):
            topic = int(found[1])
            if not any(item["id"] == topic for item in self.items):
                return Answer({"errors": ["gone"], "error_type": "not_found"}, 404)
            posts = self.posts[topic]
            if found[2]:
                wanted = {int(one) for one in request.every["post_ids[]"]}
                return Answer({"post_stream": {"posts": [one for one in posts if one["id"] in wanted]}, "id": topic})
            stream = {"posts": posts[:CHUNK], "stream": [one["id"] for one in posts]}
            return Answer({"post_stream": stream, "id": topic, "chunk_size": CHUNK, "details": {}})
        return Answer({"errors": ["no such page"], "error_type": "not_found"}, 404)

    def _list(self, request):
        """As `TopicQuery`: what is pinned for all comes first, whatever the order."""
        asked = dict(word.rsplit(":", 1) for word in request.query["q"].split())
        assert asked.keys() <= {"category", "activity-after", "order"}
        first = asked.get("activity-after", "2000-01-01")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", first)
        rows = [i for i in self.items if i["category_id"] == 5 and i["bumped_at"] >= first]
        rows.sort(key=lambda row: (row["bumped_at"], row["id"]), reverse=asked["order"] != "activity-asc")
        rows.sort(key=lambda row: not row["pinned"])
        begin = PAGE * int(request.query.get("page", 0))
        listed = {"can_create_topic": False, "per_page": PAGE, "topics": [dict(r) for r in rows[begin : begin + PAGE]]}
        if len(listed["topics"]) == PAGE:
            listed["more_topics_url"] = f"/filter?page={begin // PAGE + 1}&q={request.query['q']}"
        return Answer({"users": [{"id": 3, "username": "user-1", "name": "User One"}], "topic_list": listed})

    def lists(self, request):
        return request.path == "/filter.json"

    def follows(self, request):
        return "page" in request.query

    def empty(self, answer):
        return Answer({**answer.body, "topic_list": {**answer.body["topic_list"], "topics": []}})

    def touch(self, item, when):
        item["bumped_at"] = z(when)  # four days after all others

    def expected(self):
        found = {}
        for item in self.items:
            if item["category_id"] == 5:
                found[str(item["id"])] = item["bumped_at"]
                for one in self.posts[item["id"]][1:]:
                    if one["post_type"] == 1:
                        found[f"{item['id']}#{one['id']}"] = one["created_at"]
        return {key: dt.datetime.fromisoformat(when) for key, when in found.items()}


SERVICE = Discourse
