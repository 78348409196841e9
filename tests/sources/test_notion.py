"""Notion: rows of every age and properties of every type, the text of pages, and its own traps."""

import datetime as dt
import json
from pathlib import Path

import pytest
from fake_services import Answer, Fault, read
from fake_services.notion import DATABASE, SOURCE, Notion, option, page, rich, user, uuid, z

from feedback_lib import plugins, privacy
from feedback_lib.errors import ConfigError, SourceError

EXAMPLE = json.loads(Path(__file__, "../../data/notion/exchanges.json").resolve().read_text("utf-8"))
KEY = b"k" * 32
NINE = dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)


@pytest.fixture
def recorded(reference):
    folder = reference / "contracts" / "notion"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")

    def load(name):
        answer = json.loads((folder / f"{name}.json").read_text("utf-8"))
        return answer.get("response", answer)

    return load


def source(**options):
    return plugins.build("sources", {"kind": "notion", "data_source": SOURCE, "url": "http://127.0.0.1:9", **options})


def item(row, **options):
    """What is archived of a row, before and after personal data is taken out, and its signal."""
    there = source(**options)
    (found,) = there._read(row)
    kept = privacy.scrub(found.payload, personal=there.personal_fields, plain=there.plain_fields, key=KEY)
    return found.payload, kept, there.parse(kept)


def alias(name):
    return privacy.pseudonym(name, KEY)


# What was recorded from the service


def test_the_recorded_row_of_2021(recorded):
    (row,) = recorded("databases_query_legacy_2021")["results"]
    signal = source(name="old").parse(row)
    assert (signal.native_id, signal.origin) == ("bb85a889-3eb3-4146-9325-80508fb5e23d", "old")
    assert (signal.title, signal.body, signal.type) == ("First", "", "ticket")
    assert signal.created_at.isoformat() == "2021-05-15T17:16:51.364000+00:00"
    assert signal.updated_at.isoformat() == "2021-05-15T17:16:00+00:00"
    assert (signal.author, signal.url, signal.state, signal.labels) == (None, None, None, ())


def test_the_recorded_row_with_more_properties(recorded):
    (row,) = recorded("databases_query_legacy_props")["results"]
    signal = source().parse(row)
    assert (signal.native_id, signal.title, signal.body) == ("some_id", "ba", "a")
    assert (signal.labels, signal.author, signal.url) == (("a", "v", "b", "a"), "some_id", "some_url")
    assert signal.created_at.isoformat() == signal.updated_at.isoformat() == "2021-05-24T05:06:34.827000+00:00"
    assert source(columns={"labels": "Tags"}).parse(row).labels == ("a",)


def test_of_recorded_search_results_the_database_is_refused_and_the_page_read(recorded):
    database, plans = recorded("search_results_legacy")["results"]
    with pytest.raises(ValueError, match="is no page but database"):
        source().parse(database)
    signal = source().parse(plans)
    assert (signal.native_id, signal.title) == ("71", "Plans")
    assert signal.url == "https://www.notion.so/Plans"
    assert signal.created_at.isoformat() == "2021-05-22T22:38:00+00:00"
    assert signal.updated_at.isoformat() == "2021-05-31T17:09:00+00:00"


def test_the_recorded_comment(recorded):
    (comment,) = recorded("comments_list")["results"]
    reply = source().reply(comment)
    assert reply.parent == "393abc1e-edcd-8137-bc49-ee507c3c70c6"
    assert reply.native_id == f"{reply.parent}#393abc1e-edcd-813d-93f2-001d4a22f5de"
    assert (reply.body, reply.team) == ("This is a test comment.", None)
    assert reply.author == "7775f3a3-893f-43fa-b625-460c61094c78"
    assert reply.created_at.isoformat() == reply.updated_at.isoformat() == "2026-07-04T09:11:00+00:00"


def test_the_recorded_pages_of_blocks_and_the_empty_query(recorded):
    """Served one after the other, they are one text."""
    with Notion(1) as there:
        row = there.items[0]
        row["properties"]["What happened"]["rich_text"] = []
        blocks = [block for n in ("", "_1", "_2") for block in recorded(f"paginated_children{n}")["results"]]
        there.blocks[row["id"]] = blocks
        kept = read(there.source(content=True)).items[row["id"]].payload
        assert there.source().parse(kept).body == "paragraph 0\nparagraph 1\nparagraph 2\nparagraph 3\nparagraph 4"
        nothing = Answer(recorded("data_sources_query"))
        there.fault = Fault(lambda *ignored: nothing, page=0, left=9)
        done = read(there.source())
        assert (done.error, done.items) == (None, {})


def test_the_recorded_mention_of_a_person_leaves_no_name(recorded):
    mention = recorded("rich_text_mention_user_person_legacy")
    row = page(1, NINE, Name=[*rich("Ask "), mention])
    kept, _, signal = item(row)
    assert "John" not in json.dumps(kept)
    assert signal.title == "Ask @someone"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("error", "answered 400 Bad Request. Not read"),
        ("error_1", "answered 401 Unauthorized; are the credentials right"),
        ("error_legacy", "answered 400 Bad Request. Not read"),
    ],
)
def test_recorded_errors_end_the_reading(recorded, name, told):
    said = recorded(name)
    with Notion(5, fault=Fault(lambda *ignored: Answer(said, said["status"]), page=0)) as there:
        assert told in str(read(there.source()).error)


# Properties


def every_type():
    row = next(e["answer"]["results"][0] for e in EXAMPLE if e.get("body") == {"in_trash": False, "page_size": 100})
    assert len(row["properties"]) == 24
    return row


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("What happened", "Since 4.2 uploads stop. Ask [email], [phone], or @someone"), ("State", "New"),
        ("Name", "Upload stops at 2 GB"),
        ("Severity", "High"), ("Tags", "storage, upload"), ("Email", alias("jane.doe@example.org")),
        ("Phone", alias("+49 30 5550 1234")), ("Customer", alias("Jane Doe")), ("Rating", "2"), ("Votes", "3"),
        ("Owner", alias("5c1b77e0-2d2d-4e4e-8f8f-000000000003")), ("Paying", "yes"), ("Heard on", "2026-02-27"),
        ("Source", "https://desk.example.com/17?email=[email]"), ("No", "FB-1"), ("Age", "1 days"),
        ("Accounts", "0d0d0d0d-1111-4222-8333-444444444444"), ("Made", "2026-03-01T09:00:00.000Z"),
        ("Owners of accounts", alias("5c1b77e0-2d2d-4e4e-8f8f-000000000004")), ("Edited", "2026-03-02T10:00:00.000Z"),
        ("Made by", alias("5c1b77e0-2d2d-4e4e-8f8f-000000000005")), ("Files", None), ("Reply", None),
        ("Checked", "unverified"),
    ],
)  # fmt: skip
def test_a_property_of_every_type_can_be_any_field(name, value):
    columns = {"service": name}
    if name == "Customer":
        columns = {"author": name}
    assert getattr(item(every_type(), columns=columns)[2], *columns) == value


def test_what_is_not_mapped_is_guessed_from_types_and_names():
    kept, scrubbed, signal = item(every_type())
    assert (signal.title, signal.state, signal.severity) == ("Upload stops at 2 GB", "New", "High")
    assert (signal.labels, signal.rating, signal.reactions) == (("storage", "upload"), 2.0, None)
    assert signal.author == alias("jane.doe@example.org")
    assert signal.created_at == NINE
    assert signal.url == "https://www.notion.so/7a9b3c106d4e4f21b0a8000000000001"
    assert "Jane" not in json.dumps(kept).replace('["Jane Doe"]', "")
    assert "Jane" not in json.dumps(scrubbed)
    assert "expiry_time" not in json.dumps(kept)


def test_fields_of_ours_from_properties_of_theirs():
    columns = {
        "title": ["No", "Name"], "body": ["What happened", "Age"], "labels": ["Tags", "State"], "reactions": "Votes",
        "created_at": "Heard on", "closed_at": "Edited", "customer_value": "Rating", "product_area": "Severity",
    }  # fmt: skip
    _, _, signal = item(every_type(), columns=columns, type="interview")
    assert (signal.type, signal.title) == ("interview", "FB-1, Upload stops at 2 GB")
    assert signal.body.endswith("or @someone\n\n1 days")
    assert signal.labels == ("storage", "upload", "New")
    assert (signal.reactions, signal.customer_value, signal.product_area) == (3, 2.0, "High")
    assert signal.created_at == dt.datetime(2026, 2, 27, tzinfo=dt.UTC)
    assert signal.closed_at == dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"type": "number", "number": 2.5}, "2.5"), ({"type": "boolean", "boolean": False}, "no"),
        ({"type": "date", "date": {"start": "2026-03-01", "end": None}}, "2026-03-01"),
        ({"type": "string", "string": None}, None), ({"type": "unsupported", "unsupported": {}}, None),
        ({"type": "array", "array": [{"type": "title", "title": rich("a")}, {"type": "number", "number": 1}]}, "a, 1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["formula", "rollup"])
def test_what_a_formula_or_a_rollup_gives(kind, result, text):
    row = page(1, NINE, Name=rich("x"))
    row["properties"]["Sum"] = {"id": "z", "type": kind, kind: result}
    row["properties"]["New type"] = {"id": "y", "type": "place", "place": {"lat": 1}}
    assert item(row, columns={"version": "Sum", "locale": "New type"})[2].version == text


def test_people_in_a_column_of_their_own_names_are_pseudonyms_only():
    row = page(1, NINE, Name=rich("x"), Email="x@example.com")
    for name, kind in (("Customer name", "rich_text"), ("Contact", "select"), ("Seller", "select")):
        row["properties"][name] = {
            "id": "z",
            "type": kind,
            kind: rich("Jane Doe") if kind == "rich_text" else option("Jane Doe"),
        }
    _, scrubbed, _ = item(row, personal=["Seller"])
    assert "Jane" not in json.dumps(scrubbed)


def test_a_kept_row_read_with_another_author_in_mind_gives_no_name_away():
    row = page(1, NINE, Name=rich("x"))
    row["properties"]["Seller"] = {"id": "z", "type": "select", "select": option("Jane Doe")}
    _, scrubbed, _ = item(row)
    assert source(columns={"author": "Seller"}).parse(scrubbed).author == alias(uuid(9, 1))


def test_a_property_may_be_called_as_a_key_of_the_service():
    row = page(1, NINE, Name=rich("x"))
    row["properties"]["email"] = {"id": "z", "type": "rich_text", "rich_text": rich("The mail is late.")}
    row["properties"]["person"] = {"id": "z", "type": "number", "number": 7}
    assert item(row, columns={"body": "email"})[2].body == "The mail is late."
    assert item(row, columns={"version": "person"})[2].version == "7"


def test_a_number_that_is_none_refuses_this_row_only():
    row = page(1, NINE, Name=rich("x"), State=option("good"))
    with pytest.raises(ValueError, match="rating is no number"):
        item(row, columns={"rating": "State"})


# Reading


def test_the_text_of_a_page_follows_its_body_and_its_comments_are_replies():
    with Notion(2) as there:
        first, second = there.items

        def block(n, kind, inside, more=False):
            return {"object": "block", "id": uuid(4, n), "type": kind, kind: inside, "has_children": more}

        there.blocks[first["id"]] = [block(n, "paragraph", {"rich_text": rich(f"line {n}")}) for n in range(120)]
        there.blocks[second["id"]] = [
            block(200, "toggle", {"rich_text": rich("Log")}, more=True),
            block(201, "child_page", {"title": "Call"}, more=True),
            block(202, "table_row", {"cells": [rich("size"), rich("2 GB")]}),
            block(203, "image", {"caption": rich("The dialog"), "file": {"url": "https://x.example/?sig=1"}}),
            block(204, "divider", {}),
        ]
        there.blocks[uuid(4, 200)] = [block(210, "code", {"rich_text": rich("413"), "caption": []})]
        there.comments[first["id"]] = [
            {
                "object": "comment", "id": uuid(5, n), "created_time": z(NINE), "last_edited_time": z(NINE),
                "created_by": user(n), "rich_text": rich(f"We see {n}."), "parent": {"type": "page_id"},
                "display_name": {"type": "user", "resolved_name": "Jane Doe"},
            }
            for n in range(130)
        ]  # fmt: skip
        robot = {**there.comments[first["id"]][0], "id": uuid(6, 1), "display_name": {"type": "integration"}}
        whole = there.expected()
        there.comments[first["id"]].append(robot)
        there_is = there.source(content=True, comments=True)
        done = read(there_is)
        assert done.ids() == whole
        assert all("Jane" not in json.dumps(one.payload) for one in done.items.values())
        body = there_is.parse(done.items[first["id"]].payload).body.splitlines()
        assert body == ["0 minutes.", "", *(f"line {n}" for n in range(120))]
        body = there_is.parse(done.items[second["id"]].payload).body.splitlines()
        assert body == ["1 minutes.", "", "Log", "413", "Call", "size | 2 GB", "The dialog"]
        asked = {request.path for request in there.requests}
        assert f"/v1/blocks/{uuid(4, 201)}/children" not in asked


def test_a_row_in_the_trash_is_marked_as_deleted():
    with Notion(30) as there:
        where = there.source()
        done = read(where)
        there.remove(there.items[4])
        read(where, done)
        assert done.ids() == there.expected()
        assert where.parse(done.items[there.items[4]["id"]].payload).state == "deleted"


def test_rows_beyond_the_most_that_a_query_gives_are_read_too():
    """When more than 10,000 rows, here 200, were edited in one minute, the query just ends."""
    with Notion(700) as there:
        there.cap = 200
        for n, row in enumerate(there.items):
            row["created_time"] = z(NINE + dt.timedelta(minutes=n // 30))
            row["last_edited_time"] = z(NINE + dt.timedelta(days=1 + n // 650))
        done = read(there.source())
        assert done.error is None
        assert done.ids() == there.expected()


def test_a_database_is_read_as_its_data_sources():
    with Notion(20) as there:
        where = there.source(database=DATABASE, data_source="")
        done = read(where)
        assert done.ids() == there.expected()
        assert (where.origin, sorted(done.cursor)) == (DATABASE, [f"rows {SOURCE}", f"trash {SOURCE}"])
        assert read(where, done).error is None
        assert where.check().startswith("Feedback: ")


def test_the_check_says_what_is_read_as_what():
    with Notion(1) as there:
        line = there.source(columns={"product_area": "Tags"}).check()
        assert line == (
            "Feedback: labels from Tags, title from Name, body from What happened, state from State, severity from "
            "Priority, rating from Score, author from Email, product_area from Tags"
        )
        for option_, told in (({"columns": {"state": "Stat"}}, "'Stat'"), ({"personal": ["Owners"]}, "'Owners'")):
            with pytest.raises(SourceError, match=f"no row has the property {told}; "):
                there.source(**option_).check()
            assert f"no row has the property {told}" in str(read(there.source(**option_)).error)


def test_a_database_that_is_not_shared_and_a_missing_right_say_what_to_do():
    with Notion(3) as there:
        done = read(there.source(data_source=DATABASE))
        assert "; is the database shared with the integration" in str(done.error)
        there.fault = Fault(lambda *ignored: Answer({"code": "restricted_resource"}, 403), page=0)
        assert "; the integration needs the capability to read content" in str(read(there.source()).error)


def test_one_odd_row_is_quarantined_alone():
    with Notion(20) as there:
        there.items[3]["properties"]["Name"] = "slow"
        del there.items[4]["properties"]
        done = read(there.source())
        assert done.error is None
        assert sorted(one.where for one in done.rejected) == [f"{SOURCE} rows {SOURCE} {uuid(1, n)}" for n in (3, 4)]
        assert len(done.items) == 18


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data_source": ""}, "either a database or a data_source"),
        ({"database": DATABASE}, "either a database or a data_source"),
        ({"data_source": "https://www.notion.so/Feedback"}, "32 digits"),
        ({"columns": {"titel": "Name"}}, "columns has 'titel'"),
        ({"type": "tickets"}, "did you mean 'ticket'"),
    ],
)
def test_wrong_options_are_told_at_once(options, told):
    with pytest.raises(ConfigError, match=told):
        source(**options)
