"""Intercom: the vendor's own examples field by field, and what its conversations have of their own."""

import copy
import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import BEGIN, read
from fake_services.intercom import AGENT, part
from fake_services.intercom import Intercom as Fake

from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.sources.intercom import Intercom
from feedback_lib.testing import END, Replay

RECORDED = REFERENCE / "contracts" / "intercom"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="Intercom's recorded answers are not there")
WHEN = 1772355600  # 2026-03-01 09:00
CUSTOMER = {"type": "user", "id": "u1", "name": "Lee Reads", "email": "lee@example.org"}
ME = {"path": "/me", "answer": {"app": {"id_code": "abc", "name": "Acme"}}}


def answer(name):
    return json.loads((RECORDED / f"{name}_v2.16.json").read_text("utf-8"))


def found(conversations=(), tickets=(), parts=(), total=None):
    """What a reading gives of these rows, every conversation with these parts, and the source."""
    listed = {"conversation_parts": list(parts), "total_count": len(parts) if total is None else total}
    exchanges = [
        {"method": "POST", "path": "/conversations/search", "answer": {"conversations": list(conversations)}},
        {"method": "POST", "path": "/tickets/search", "answer": {"tickets": list(tickets)}},
        *({"path": f"/conversations/{row['id']}", "answer": {**row, "conversation_parts": listed}}
          for row in conversations if isinstance(row, dict)),
        ME,
    ]  # fmt: skip
    with Replay(exchanges) as there:
        source = Intercom(url=there.url, name="acme", token_env="FAKE_TOKEN")
        given = list(source.fetch(None, END))
    assert not there.unknown
    return [one for one in given if isinstance(one, Item | Rejected)], source


def conversation(author=CUSTOMER, **more):
    row = {
        "type": "conversation", "id": "7", "created_at": WHEN, "updated_at": WHEN, "state": "open",
        "source": {"type": "email", "delivered_as": "customer_initiated", "subject": "<p>Slow &amp; loud</p>",
                   "body": "<p>It is <b>slow</b></p>", "author": author},
    }  # fmt: skip
    return {**row, **more}


def signal(**more):
    ((item,), source) = found([conversation(**more)])
    return source.parse(item.payload)


@recorded
@pytest.mark.parametrize("name", ["conversations_search", "conversations_list"])
def test_recorded_conversations_that_only_the_team_wrote_in_give_nothing(name):
    items, source = found(answer(name)["conversations"])
    assert items == []
    with pytest.raises(ValueError, match="neither a conversation with a customer"):
        source.parse(answer(name)["conversations"][0])


@recorded
def test_a_recorded_conversation_field_by_field():
    row = answer("conversation_retrieve")
    parts = row.pop("conversation_parts")["conversation_parts"]
    assert found([row], parts=parts)[0] == []  # an admin began it, nobody answered
    row["source"]["author"] = {"type": "user", "id": "6762f1261bb69f9f2193bba7"}
    (item, answered), source = found([row], parts=parts)
    created = dt.datetime(2024, 12, 18, 15, 58, 31, tzinfo=dt.UTC)
    assert source.parse(item.payload) == Signal(
        kind="intercom",
        origin="acme",
        native_id="503",
        type="ticket",
        title="",
        body="this is the message body",
        created_at=created,
        updated_at=created,
        url="https://app.intercom.com/a/inbox/abc/inbox/conversation/503",
        author="6762f1261bb69f9f2193bba7",
        state="closed",
        labels=("Test tag",),
        thread_count=1,
    )
    assert source.reply(answered.payload) == Reply(
        kind="intercom",
        origin="acme",
        native_id="503#1",
        parent="503",
        body="Okay!",
        created_at=dt.datetime(2022, 9, 19, 14, 20, 23, tzinfo=dt.UTC),
        updated_at=dt.datetime(2022, 9, 19, 14, 21, 0, tzinfo=dt.UTC),
        author="274",
        team=True,
    )
    for personal in ("@", "Operator", "1a2b3c", "Ciaran"):
        assert personal not in str([item.payload, answered.payload])


@recorded
def test_a_recorded_ticket_field_by_field():
    row = answer("tickets_search")["tickets"][0]
    assert found(tickets=[row])[0] == []  # colleagues write Back-office tickets to each other
    ((item,), source) = found(tickets=[{**row, "category": "Customer"}])
    assert source.parse(item.payload) == Signal(
        kind="intercom",
        origin="acme",
        native_id="ticket-633",
        type="ticket",
        title="attribute_value",
        body="",
        created_at=dt.datetime(2024, 12, 18, 16, 6, 30, tzinfo=dt.UTC),
        updated_at=dt.datetime(2024, 12, 18, 16, 6, 32, tzinfo=dt.UTC),
        url="https://app.intercom.com/a/inbox/abc/inbox/conversation/633",
        author="6762f3061bb69f9f2193bc5b",
        state="submitted",
        labels=("my-ticket-type-35",),
        thread_count=0,
    )


@recorded
def test_a_recorded_refusal_says_what_to_do():
    refusal = {"path": "/me", "status": 401, "answer": answer("error_401")}
    with Replay([refusal]) as there, pytest.raises(SourceError, match=r"401 Unauthorized.*is region right"):
        Intercom(url=there.url, token_env="FAKE_TOKEN").check()


def test_what_changed_on_the_same_day_is_found_though_a_search_compares_days():
    with Fake(count=40) as there:
        done = read(there.source())
        there.touch(there.items[2], BEGIN + dt.timedelta(hours=31))
        done = read(there.source(), done)
    assert done.ids()["3"] == BEGIN + dt.timedelta(hours=31)


def test_parts_are_asked_for_only_where_there_are_any_and_something_changed():
    with Fake(count=40) as there:
        done = read(there.source())
        first = [request.path for request in there.requests if request.path.startswith("/conversations/")]
        assert len(first) == 1 + 5
        before = len(there.requests)
        read(there.source(), done)
        again = [request.path for request in there.requests[before:]]
    assert sorted(again) == ["/conversations/33", "/conversations/search", "/me", "/tickets/search"]


def test_notes_events_and_answers_of_bots_never_arrive():
    fin = {"type": "admin", "id": "1", "from_ai_agent": True}
    parts = [
        part(1, WHEN, "note", AGENT, "<p>He always asks.</p>"),
        part(2, WHEN, "assignment", AGENT, "<p>For you.</p>"),
        part(3, WHEN, "comment", {"type": "bot", "id": "2"}, "<p>Hello!</p>"),
        part(4, WHEN, "comment", fin, "<p>Our pages say so.</p>"),
        part(5, WHEN, "close", AGENT, None),
        part(6, WHEN, "comment", AGENT, "<p>We see it.</p>"),
        part(7, WHEN, "quick_reply", CUSTOMER, "Thanks"),
        {**part(8, WHEN, "comment", CUSTOMER, None), "redacted": True},
    ]
    (item, *rest), source = found([conversation()], parts=parts)
    assert source.parse(item.payload).thread_count == 3
    given = [source.reply(one.payload) for one in rest]
    assert [(one.native_id, one.body, one.team, one.author) for one in given] == [
        ("7#6", "We see it.", True, "900"),
        ("7#7", "Thanks", False, "u1"),
        ("7#8", "", False, "u1"),
    ]


def test_where_the_team_wrote_first_the_first_answer_is_the_signal():
    parts = [
        part(1, WHEN, "comment", AGENT, "<p>Are you there?</p>"),
        part(2, WHEN, "comment", CUSTOMER, "<p>It loses my text.</p>"),
        part(3, WHEN, "comment", CUSTOMER, "<p>Twice.</p>"),
    ]
    (item, more), source = found([conversation(AGENT)], parts=parts)
    one = source.parse(item.payload)
    assert (one.body, one.author, one.thread_count) == ("It loses my text.", "u1", 1)
    assert more.native_id == "7#3"


def test_a_rating_is_1_to_5_and_its_remark_a_reply_of_the_customer():
    rating = {"rating": 2, "remark": "Too slow", "created_at": WHEN + 60, "updated_at": WHEN + 90}
    (item, remark), source = found([conversation(conversation_rating=rating)])
    assert source.parse(item.payload).rating == 2.0
    said = source.reply(remark.payload)
    assert (said.native_id, said.body, said.team, said.author) == ("7#rating", "Too slow", False, "u1")
    assert said.updated_at == dt.datetime.fromtimestamp(WHEN + 90, dt.UTC)


def test_state_times_priority_and_revenue():
    statistics = {"count_conversation_parts": 0, "first_admin_reply_at": WHEN + 60, "last_close_at": WHEN + 120}
    one = signal(state="closed", priority="priority", statistics=statistics, company={"monthly_spend": 490})
    assert one.title == "Slow & loud"
    assert one.first_response_at == dt.datetime.fromtimestamp(WHEN + 60, dt.UTC)
    assert one.closed_at == dt.datetime.fromtimestamp(WHEN + 120, dt.UTC)
    assert (one.severity, one.customer_value) == ("high", 490)
    reopened = signal(statistics=statistics, priority="none")
    assert (reopened.closed_at, reopened.severity, reopened.customer_value) == (None, None, None)
    assert signal(priority="urgent").severity == "urgent"


def test_more_than_500_parts_are_told():
    (item, bad), _ = found([conversation()], parts=[part(1, WHEN, "note", AGENT, "x")] * 500, total=612)
    assert item.native_id == "7"
    assert "has 112 earlier parts" in bad.reason


def test_a_conversation_deleted_meanwhile_is_left_without_its_parts():
    row = conversation(id="8")
    with Replay([ME, {"method": "POST", "path": "/conversations/search", "answer": {"conversations": [row]}},
                 {"method": "POST", "path": "/tickets/search", "answer": {"tickets": []}}]) as there:  # fmt: skip
        given = list(Intercom(url=there.url, token_env="FAKE_TOKEN").fetch(None, END))
    assert [one.native_id for one in given if isinstance(one, Item)] == ["8"]


def test_a_wrong_type_in_one_row_is_told_and_the_others_load():
    odd = [conversation(id="8", source=3), conversation(id="9", updated_at="soon"), 4]
    nobody = conversation(id="10")
    nobody["source"]["author"] = None
    ticket = {"id": "1", "created_at": WHEN, "updated_at": WHEN, "tags": 3, "ticket_parts": {"total_count": 0}}
    items, _ = found([*odd, nobody, conversation()], [ticket])
    assert [one.native_id for one in items if isinstance(one, Item)] == ["7"]
    assert len([one for one in items if isinstance(one, Rejected)]) == 4


@pytest.mark.parametrize(
    ("region", "api", "web"),
    [("us", "https://api.intercom.io", "https://app.intercom.com/"),
     ("eu", "https://api.eu.intercom.io", "https://app.eu.intercom.com/"),
     ("au", "https://api.au.intercom.io", "https://app.au.intercom.com/")],
)  # fmt: skip
def test_a_region_has_its_own_addresses(region, api, web):
    source = Intercom(region=region)
    assert (source.address, source.origin) == (api, region)
    payload = {"id": "7", "author": None, "replies": 0, "app": "abc", "created_at": WHEN, "updated_at": WHEN}
    assert source.parse(copy.deepcopy(payload)).url.startswith(web)


def test_another_region_is_refused():
    with pytest.raises(ConfigError, match="known: au, eu, us"):
        Intercom(region="asia")
