"""Slack's channel history and threads, as https://docs.slack.dev/reference/methods describes them."""

import base64
import datetime as dt

from fake_services import BEGIN, Answer, FakeService, at

CHANNEL = "C0FEEDBACK"
WEB = "https://acme.slack.com"
PAGE = 15  # fewer than asked for, as Slack may give


def ts(when):
    return f"{int(when.timestamp())}.{when.microsecond:06}"


def micros(text):
    seconds, _, rest = text.partition(".")
    return int(seconds) * 1_000_000 + int((rest + "000000")[:6])


def posted(i):
    """Ten times as far apart as `at` says, so that they fill windows of 30 days; no two share a time."""
    return BEGIN + (at(i) - BEGIN) * 10 + dt.timedelta(microseconds=i)


def message(when, text, user, **more):
    return {
        "type": "message", "user": user, "text": text, "ts": ts(when), "client_msg_id": f"m-{ts(when)}",
        "team": "T0ACME", "blocks": [{"type": "rich_text", "block_id": "x", "elements": []}], **more,
    }  # fmt: skip


class Slack(FakeService):
    kind = "slack"
    unauthorised = (200, {"ok": False, "error": "invalid_auth"})
    page = PAGE
    quiet_extra = 8  # the last 14 days are read again, in pages of 15

    def options(self):
        return {"url": f"{self.url}/api", "channel": CHANNEL, "start": "2026-01-01", "token_env": "FAKE_TOKEN"}

    def make(self, count):
        items, self.answers = [], {}
        for i in range(count):
            row = message(posted(i), f"Build {i} is slow &amp; red, <@U0SOMEONE>", f"U0USER{i % 17:03}")
            if i == 11:
                del row["user"]
            if i % 23 == 5:
                row |= {"subtype": "channel_join", "text": "<@U0NEW> has joined the channel"}
            elif i % 10 == 0:
                answer = message(posted(i) + dt.timedelta(seconds=9), "We see it too.", "U0TEAM", thread_ts=row["ts"])
                row |= {
                    "thread_ts": row["ts"], "reply_count": 1, "reply_users": ["U0TEAM"], "reply_users_count": 1,
                    "latest_reply": answer["ts"], "is_locked": False, "subscribed": False,
                }  # fmt: skip
                self.answers[row["ts"]] = [answer]
            items.append(row)
        return items

    def answer(self, request):
        asked = request.query
        assert request.method == "GET"
        assert "token" not in asked
        if request.path == "/api/auth.test":
            return Answer({"ok": True, "url": f"{WEB}/", "team": "Acme", "user": "reader", "team_id": "T0ACME"})
        if request.path == "/api/conversations.list":
            return self._channels(asked)
        if request.path not in ("/api/conversations.history", "/api/conversations.replies"):
            return Answer({"ok": False, "error": "unknown_method"})
        if asked["channel"] != CHANNEL:
            return Answer({"ok": False, "error": "channel_not_found"})
        assert 0 < int(asked.get("limit", 100)) <= 999
        if request.path == "/api/conversations.history":
            return self._page(asked, self.items, newest_first=True)
        parent = next((row for row in self.items if row["ts"] == asked["ts"]), None)
        if parent is None:
            return Answer({"ok": False, "error": "thread_not_found"})
        found = self._page(asked, self.answers.get(asked["ts"], []), newest_first=False)
        found.body["messages"].insert(0, parent)
        return found

    def _channels(self, asked):
        """In two pages, the first of which is empty, as Slack may do when it filters."""
        if "cursor" not in asked:
            return Answer({"ok": True, "channels": [], "response_metadata": {"next_cursor": "dGVhbTpDMA=="}})
        return Answer(
            {"ok": True, "channels": [{"id": "C0OTHERS", "name": "else"}, {"id": CHANNEL, "name": "feedback"}]}
        )

    def _page(self, asked, rows, newest_first):
        oldest, latest = micros(asked.get("oldest", "0")), micros(asked.get("latest", "9999999999"))
        if asked.get("inclusive") == "true":
            oldest, latest = oldest - 1, latest + 1
        rows = [row for row in rows if oldest < micros(row["ts"]) < latest]
        rows.sort(key=lambda row: micros(row["ts"]), reverse=newest_first)
        if cursor := asked.get("cursor"):
            mark = int(base64.b64decode(cursor).decode().removeprefix("next_ts:"))
            rows = [row for row in rows if (micros(row["ts"]) <= mark if newest_first else micros(row["ts"]) >= mark)]
        size = min(self.page, int(asked.get("limit", 100)))
        body = {
            "ok": True,
            "messages": [dict(row) for row in rows[:size]],
            "has_more": len(rows) > size,
            "pin_count": 0,
        }
        if len(rows) > size:
            mark = base64.b64encode(f"next_ts:{micros(rows[size]['ts'])}".encode()).decode()
            body["response_metadata"] = {"next_cursor": mark}
        return Answer(body)

    def lists(self, request):
        return request.path == "/api/conversations.history"

    def follows(self, request):
        return "cursor" in request.query

    def empty(self, answer):
        return Answer({**answer.body, "messages": []})

    def touch(self, item, when):
        """Slack does not tell when somebody reacted; edits are tested on their own."""
        item["reactions"] = [{"name": "eyes", "users": ["U0OTHER"], "count": 1}]

    def expected(self):
        found = {}
        for row in self.items:
            if "subtype" not in row:
                found[row["ts"]] = row["ts"]
                found |= {f"{row['ts']}#{a['ts']}": a["ts"] for a in self.answers.get(row["ts"], [])}
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return {key: epoch + dt.timedelta(microseconds=micros(when)) for key, when in found.items()}


SERVICE = Slack
