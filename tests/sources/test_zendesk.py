"""Zendesk: the vendor's own examples field by field, and what its exports have of their own."""

import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import TOKEN, Fault, at, read
from fake_services.zendesk import AGENT, comment
from fake_services.zendesk import Zendesk as Fake

from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.sources.zendesk import Zendesk
from feedback_lib.testing import END, Replay

RECORDED = REFERENCE / "contracts" / "zendesk"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="Zendesk's recorded answers are not there")
TICKETS = "/api/v2/incremental/tickets/cursor"
EVENTS = "/api/v2/incremental/ticket_events"
SURVEYS = "/api/v2/guide/survey_responses"
USERS = {"path": "/api/v2/users", "answer": {"users": [{"id": AGENT}], "meta": {"has_more": False}}}
NOTHING = {"ticket_events": [], "end_time": None, "end_of_stream": True}
AT = "2026-03-01T09:00:00Z"


def answer(name):
    return json.loads((RECORDED / f"{name}.json").read_text("utf-8"))


def found(tickets=(), events=(), comments=(), surveys=()):
    """What a reading gives of these rows, and the source."""
    page = {"tickets": list(tickets), "after_cursor": "abc", "end_of_stream": True}
    exchanges = [
        {"path": TICKETS, "answer": page},
        {"path": EVENTS, "answer": {**NOTHING, "ticket_events": list(events)}},
        {"path": "/api/v2/tickets/1/comments", "answer": {"comments": list(comments)}},
        {"path": SURVEYS, "answer": {"survey_responses": list(surveys), "meta": {"has_more": False}}},
        USERS,
    ]
    with Replay(exchanges) as there:
        source = Zendesk(url=there.url, name="acme", token_env="FAKE_TOKEN", surveys=bool(surveys))
        given = list(source.fetch(None, END))
    assert not there.unknown
    return [one for one in given if isinstance(one, Item | Rejected)], source


def ticket(**more):
    row = {
        "id": 1, "subject": "Slow", "description": "It is slow.", "created_at": AT, "updated_at": AT, "status": "open",
        "generated_timestamp": 1772355600, "requester_id": 5,
    }  # fmt: skip
    return {**row, **more}


def event(*children, when=1772355600, **more):
    return {"id": when, "ticket_id": 1, "timestamp": when, "child_events": list(children), **more}


def signal(**more):
    ((item,), source) = found([ticket(**more)])
    return source.parse(item.payload)


@recorded
@pytest.mark.parametrize("name", ["incremental_tickets_cursor", "incremental_tickets_time"])
def test_a_recorded_ticket_field_by_field(name):
    (row,) = answer(name)["tickets"]
    assert row["submitter_id"] != row["requester_id"]
    ((item,), source) = found([row])
    assert item.payload["description"] == ""  # by an agent, who may have written it to colleagues
    ((item,), source) = found([{**row, "submitter_id": row["requester_id"]}])
    assert source.parse(item.payload) == Signal(
        kind="zendesk",
        origin="acme",
        native_id="35436",
        type="ticket",
        title="Help, my printer is on fire!",
        body="The fire is very colorful.\n\nGreat support!",
        created_at=dt.datetime(2009, 7, 20, 22, 55, 29, tzinfo=dt.UTC),
        updated_at=dt.datetime(2011, 5, 5, 10, 38, 52, tzinfo=dt.UTC),
        url=f"{source.url}/agent/tickets/35436",
        author="20978392",
        state="open",
        labels=("enterprise", "other_tag", "csat:good"),
        severity="high",
        rating=5.0,
    )
    assert item.payload["via"] == {"channel": "web"}
    assert not {"recipient", "raw_subject", "url", "custom_fields", "collaborator_ids"} & item.payload.keys()


@recorded
def test_recorded_comments_field_by_field():
    rows = answer("ticket_comments_partly_edited")["comments"] + answer("ticket_comments")["comments"]
    taken = [{"event_type": "CommentRedactionEvent", "comment_id": one} for one in ("2", "3", "1274")]
    items, source = found(events=[event(*taken)], comments=rows)
    again = dt.datetime.fromtimestamp(1772355600, dt.UTC)
    assert [source.reply(item.payload) for item in items] == [  # the first one is the description
        Reply(
            kind="zendesk",
            origin="acme",
            native_id=f"1#{number}",
            parent="1",
            body=body,
            created_at=created,
            updated_at=again,
            author=author,
            team=False,
        )
        for number, body, created, author in (
            (3, "Mail to create fixture ticket for testing",
             dt.datetime(2019, 6, 3, 2, 23, 47, tzinfo=dt.UTC), "377922500012"),
            (1274, "Thanks for your help!", dt.datetime(2009, 7, 20, 22, 55, 29, tzinfo=dt.UTC), "123123"),
        )
    ]  # fmt: skip
    assert "1.1.1.1" not in str(items)
    assert "Melbourne" not in str(items)


@recorded
def test_a_recorded_event_of_another_shape_is_refused_with_a_reason():
    ((bad,), _) = found(events=answer("incremental_ticket_events")["ticket_events"])
    assert isinstance(bad, Rejected)
    assert "comments 926256957613" in bad.where
    assert "time that can be read" in bad.reason


@recorded
def test_recorded_ratings_mean_the_same_on_a_ticket():
    for row in answer("satisfaction_ratings")["satisfaction_ratings"]:
        rated = signal(satisfaction_rating=row)
        assert (rated.rating, rated.labels) == (5.0, ("csat:good",))
        assert rated.body == "It is slow.\n\nAwesome support!"


def test_a_bad_rating_is_1_and_an_offered_one_none():
    assert (signal(satisfaction_rating={"score": "bad"}).rating) == 1.0
    for score in ("offered", "unoffered", None):
        rated = signal(satisfaction_rating={"score": score})
        assert (rated.rating, rated.labels) == (None, ())


def test_times_and_counts_out_of_what_stands_beside_the_tickets():
    with Fake(count=1) as there:
        there.items[0] |= {"status": "solved", "comment_count": 4}
        item = read(there.source()).items["1"]
        one = there.source().parse(item.payload)
    assert one.first_response_at == at(0) + dt.timedelta(minutes=5)
    assert (one.thread_count, one.locale, one.closed_at) == (3, "en-US", None)
    solved = signal(status="closed", metric_set={"solved_at": AT}).closed_at
    assert solved == dt.datetime.fromisoformat(AT)
    assert signal(status="open", metric_set={"solved_at": AT}).closed_at is None


def test_the_cursor_is_followed_across_runs_and_start_time_asked_once():
    with Fake(count=250) as there:
        done = read(there.source())
        there.touch(there.items[3], at(600))
        done = read(there.source(), done)
        assert done.ids()["4"] == at(600)
        asked = [request.query for request in there.requests if request.path == TICKETS]
    assert [("start_time" in query, "cursor" in query) for query in asked] == [(True, False)] + [(False, True)] * 3
    assert asked[0]["start_time"] == "0"


def test_a_cursor_that_is_no_more_is_replaced_by_the_watermark_less_the_lag():
    fault = Fault(lambda *ignored: None, left=0)
    with Fake(count=20, fault=fault) as there:
        done = read(there.source())
        done.cursor["tickets"]["next"] = "bm8gY3Vyc29y"
        again = read(there.source(), done)
        asked = [request.query for request in there.requests if request.path == TICKETS][-1]
    assert again.error is None
    assert asked["start_time"] == str(int((at(19) - Zendesk.lag).timestamp()))


def test_the_watermark_is_the_generated_time_not_that_of_the_last_update():
    with Fake(count=3) as there:
        there.items[0]["generated_timestamp"] = int(at(500).timestamp())
        done = read(there.source())
        assert done.cursor["tickets"]["at"] == at(500).isoformat()
        assert done.ids()["1"] == at(0)


def test_notes_and_tickets_among_colleagues_never_arrive():
    items, _ = found(
        [ticket(is_public=False)],
        [
            event({**comment(7, AGENT, "He always asks.", public=False)}),
            event(comment(8, -1, "Closed by a rule.")),
            event({**comment(9, AGENT, "Sent by a trigger."), "via": {"channel": "rule"}}),
            event({"event_type": "VoiceComment", "id": 10, "public": True, "body": "Call from …"}),
        ],
    )
    assert items == []


def test_the_first_comment_is_the_description_and_agents_are_the_team():
    items, source = found(
        events=[event(comment(6, 5, "It is slow."), {"event_type": "Create"}), event(comment(7, AGENT, "We see it.")),
                event(comment(8, 5, "Thanks."))]
    )  # fmt: skip
    given = [source.reply(item.payload) for item in items]
    assert [(one.native_id, one.body, one.team, one.author) for one in given] == [
        ("1#7", "We see it.", True, str(AGENT)),
        ("1#8", "Thanks.", False, "5"),
    ]


def test_what_was_taken_back_later_is_taken_back_here():
    with Fake(count=1) as there:
        done = read(there.source())
        assert done.items["1#11"].payload["body"] == "We look into it."
        there.event(1, at(50), {"event_type": "CommentPrivacyChange", "comment_id": 11, "public": False})
        taken = {**comment(11, AGENT, "Not for you.", public=False), "created_at": AT}
        there.now[1] = [comment(10, 10, "It takes 1 minutes."), taken]
        done = read(there.source(), done)
    assert done.items["1#11"].payload["body"] == ""
    assert done.items["1#11"].updated_at == at(50)


def test_within_one_page_a_redacted_text_does_not_even_arrive():
    items, _ = found(
        events=[
            event(comment(7, 5, "My card is 4111 1111 1111 1111")),
            event({"event_type": "CommentRedactionEvent", "comment_id": "7"}, when=1772355700),
        ],
        comments=[comment(6, 5, "It is slow."), {**comment(7, 5, "My card is ▇▇▇▇"), "created_at": AT}],
    )
    assert [item.payload["body"] for item in items] == ["My card is ▇▇▇▇"]


def test_more_events_of_one_second_than_a_page_do_not_stop_the_reading():
    with Fake(count=1) as there:
        for _ in range(450):
            there.event(1, at(20), {"event_type": "Change"})
        there.event(1, at(30), comment(77, AGENT, "Done."))
        done = read(there.source())
        assert "1#77" in done.items
        assert done.error is None
        assert len(there.requests) < 12


def test_a_wrong_type_in_one_row_is_told_and_the_others_load():
    odd = [ticket(id=2, metric_set=7), ticket(id=3, generated_timestamp="soon"), "no ticket", ticket(id=4, via=3)]
    items, _ = found([*odd, ticket()], [event(comment(7, 5, "Yes.")), {"id": 8}, 9])
    assert [one.native_id for one in items if isinstance(one, Item)] == ["2", "1", "1#7"]
    assert len([one for one in items if isinstance(one, Rejected)]) == 5


def test_an_oauth_token_is_a_bearer_and_the_address_follows_from_the_subdomain():
    source = Zendesk(subdomain="acme", token_env="FAKE_TOKEN")
    assert source.headers() == {"Authorization": f"Bearer {TOKEN}"}
    assert (source.address, source.origin) == ("https://acme.zendesk.com", "acme")


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, "subdomain"), ({"subdomain": "acme.zendesk.com"}, "subdomain"), ({"subdomain": "a", "url": "http://b"}, "or"),
     ({"subdomain": "acme", "scope": "people"}, "ai_agent")],
)  # fmt: skip
def test_a_wrong_option_is_told_at_once(options, told):
    with pytest.raises(ConfigError, match=told):
        Zendesk(**options)


def test_a_token_that_may_not_export_is_told_with_what_to_do():
    nobody = {"path": "/api/v2/users/me", "answer": {"user": {"id": None, "role": "end-user"}}}
    with Replay([nobody, {"path": TICKETS, "status": 403, "answer": {"error": "Forbidden"}}]) as there:
        source = Zendesk(url=there.url, token_env="FAKE_TOKEN")
        with pytest.raises(SourceError, match="of role end-user; the exports need an administrator's"):
            source.check()
        with pytest.raises(SourceError, match="need an administrator's token"):
            list(source.fetch(None, END))


def test_an_answered_survey_is_a_signal_of_its_own():
    times = {"created_at": AT, "updated_at": "2026-03-02T09:00:00.250Z"}
    rated = {"type": "rating_scale", "rating": 4, "rating_category": "good", "question": {"alias": "x"}, **times}
    said = {"type": "open_ended", "value": "Quick, thanks.", **times}
    answered = {"id": "01J", "responder_id": 5, "subjects": [{"type": "ticket", "id": "1"}], "answers": [rated, said]}
    (item, bad), source = found(surveys=[answered, {**answered, "id": "01K", "answers": []}, 3])
    assert source.parse(item.payload) == Signal(
        kind="zendesk",
        origin="acme",
        native_id="survey-01J",
        type="review",
        title="Satisfaction survey: 4",
        body="Quick, thanks.",
        created_at=dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC),
        updated_at=dt.datetime(2026, 3, 2, 9, 0, 0, 250_000, tzinfo=dt.UTC),
        url=f"{source.url}/agent/tickets/1",
        author="5",
        labels=("csat:good",),
        rating=4.0,
    )
    assert "not understood" in bad.reason


def test_surveys_are_asked_for_from_as_long_ago_as_they_may_be_answered():
    with Fake(count=800) as there:
        done = read(there.source())
        read(there.source(), done)
        asked = [request.query for request in there.requests if request.path == SURVEYS]
    assert [query.get("page[after]") for query in asked[:3]] == [None, "50", "100"]
    assert "filter[created_at_start]" not in asked[0]
    newest = dt.datetime.fromisoformat(done.cursor["surveys"]["at"])
    assert asked[3]["filter[created_at_start]"] == str(
        int((newest - Zendesk.lag - dt.timedelta(days=29)).timestamp()) * 1000
    )


def test_an_account_without_surveys_is_told_how_to_leave_them_out():
    page = {"tickets": [], "after_cursor": "abc", "end_of_stream": True}
    exchanges = [{"path": TICKETS, "answer": page}, {"path": EVENTS, "answer": NOTHING}]
    with Replay(exchanges) as there, pytest.raises(SourceError, match="Write surveys: false"):
        list(Zendesk(url=there.url, token_env="FAKE_TOKEN").fetch(None, END))
