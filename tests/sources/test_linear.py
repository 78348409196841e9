"""Linear: its queries held against its published schema, what becomes of its rows, and its own traps."""

import datetime as dt
import json
from pathlib import Path

import graphql
import pytest
from fake_services import UNTIL, Answer, Fault, Request, read
from fake_services.linear import SCHEMA, Linear, understood, z

from feedback_lib import plugins, privacy
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.sources.linear import LOOK, QUERIES

EXAMPLE = json.loads(Path(__file__, "../../data/linear/exchanges.json").resolve().read_text("utf-8"))
ASKED = {"look": LOOK, **QUERIES}
KEY = b"k" * 32


@pytest.fixture(scope="module")
def published(request):
    """The schema as Linear publishes it, 1.2 MB."""
    path = request.getfixturevalue("reference") / "contracts" / "linear" / "schema.graphql"
    if not path.exists():
        pytest.skip(f"no {path}")
    document = graphql.parse(path.read_text("utf-8"), no_location=True)
    return graphql.build_ast_schema(document, assume_valid=True, assume_valid_sdl=True)


def source(**options):
    return plugins.build("sources", {"kind": "linear", "workspace": "octo", **options})


def answered(name, place=0):
    """A row of the committed example."""
    found = next(e for e in EXAMPLE if e["body"]["operationName"] == name)
    return sorted(found["answer"]["data"]["page"]["nodes"], key=lambda row: row["id"])[place]


def scrubbed(row):
    there = source()
    return privacy.scrub(row, personal=there.personal_fields, plain=there.plain_fields, key=KEY)


# The schema


@pytest.mark.parametrize("name", ASKED)
def test_a_query_is_valid_in_the_published_schema(published, name):
    assert graphql.validate(published, graphql.parse(ASKED[name])) == []
    assert understood(ASKED[name], name)


def made(name):
    """What the service on loopback answers to a query."""
    asked = {"operationName": name, "query": ASKED[name], "variables": {"filter": {}}}
    request = Request("POST", "/graphql", {}, {"content-type": "application/json"}, json.dumps(asked).encode())
    with Linear(30) as there:
        return there.answer(request).body["data"]


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("of", ["example", "service"])
def test_what_the_tests_answer_is_of_the_published_types(published, name, of):
    """Each field that may not be null is there, each has its type, and nothing is there that was not asked for."""
    recorded = next(e["answer"]["data"] for e in EXAMPLE if e["body"]["operationName"] == name)
    data = recorded if of == "example" else made(name)

    def lists(info, first=None, **rest):
        return data["first" if first == 1 else "page"]

    roots = {**data, name: lists}
    told = graphql.execute(published, graphql.parse(ASKED[name]), root_value=roots, variable_values={"filter": {}})
    assert told.errors is None
    assert told.data == data


def test_the_service_of_the_tests_has_the_fields_of_the_published_schema(published):
    for name, ours in graphql.build_schema(SCHEMA).type_map.items():
        theirs = published.type_map[name]
        for field, about in getattr(ours, "fields", {}).items():
            assert str(about.type) == str(theirs.fields[field].type), f"{name}.{field}"
            for argument, given in getattr(about, "args", {}).items():
                assert str(given.type) == str(theirs.fields[field].args[argument].type)


# Mapping


def test_an_issue_field_by_field():
    signal = source().parse(answered("issues"))
    assert (signal.native_id, signal.type) == ("5f0e2c1a-7b1d-4c62-9a51-000000000001", "issue")
    assert (signal.kind, signal.origin, signal.title) == ("linear", "octo", "Upload stops at 2 GB")
    assert signal.body.startswith("Since 4.2 uploads stop")
    assert signal.created_at.isoformat() == "2026-03-01T09:00:00.120000+00:00"
    assert signal.updated_at.isoformat() == "2026-03-02T10:00:00.250000+00:00"
    assert (signal.state, signal.severity, signal.product_area) == ("In Progress", "High", "App")
    assert (signal.labels, signal.reactions, signal.closed_at) == (("Bug", "Storage"), 4, None)
    assert signal.author == "a3c9d0be-1111-4a4a-8f8f-3b1c00000001"
    done, sentry, trashed = (source().parse(answered("issues", place)) for place in (1, 2, 3))
    assert (done.state, done.severity, done.author) == ("Done", None, "c77e1d2f-2222-4b4b-9e9e-5d2e00000002")
    assert done.closed_at == dt.datetime(2026, 3, 5, 8, tzinfo=dt.UTC)
    assert (sentry.author, sentry.body) == (None, "")
    assert (trashed.state, trashed.closed_at.isoformat()) == ("deleted", "2026-03-08T09:00:00+00:00")


def test_a_customers_request_names_its_issue_and_what_the_customer_is_worth():
    signal = source().parse(answered("customerNeeds"))
    assert (signal.type, signal.title) == ("ticket", "APP-1 Upload stops at 2 GB")
    assert (signal.author, signal.customer_value) == ("e1d0a5b4-4444-4e4e-8c8c-7f4a00000004", 120000.0)
    assert (signal.labels, signal.severity, signal.state) == (("Enterprise",), "important", "In Progress")
    assert signal.product_area == "App"
    bare = source().parse(answered("customerNeeds", 1))
    assert (bare.title, bare.body, bare.author, bare.customer_value) == ("Large files", "", None, None)
    assert (bare.url, bare.severity) == ("https://linear.app/octo/project/large-files-3f1d", None)


def test_a_comment_says_who_answers():
    team, outside = (source().reply(answered("comments", place)) for place in (1, 2))
    assert (team.team, team.author) == (True, "a3c9d0be-1111-4a4a-8f8f-3b1c00000009")
    assert team.parent == "5f0e2c1a-7b1d-4c62-9a51-000000000001"
    assert team.native_id == f"{team.parent}#7c44aa01-9d2e-4f0b-8b77-000000000002"
    assert (outside.team, outside.author) == (False, "c77e1d2f-2222-4b4b-9e9e-5d2e00000002")


def test_people_are_pseudonyms_in_what_is_kept():
    issue, need = scrubbed(answered("issues", 1)), scrubbed(answered("customerNeeds"))
    assert source().parse(issue).author.startswith("anon-")
    assert source().parse(need).author.startswith("anon-")
    assert issue["botActor"]["userDisplayName"].startswith("anon-")


def test_an_address_has_no_words_of_the_title_and_none_of_a_person():
    with Linear(1) as there:
        (need,), (issue,) = there.needs, there.items
        need["url"] = "https://desk.example.com/17?email=jane.doe%40example.org"
        found = read(there.source()).items
    assert found[issue["id"]].where == "https://linear.app/octo/issue/ENG-1"
    assert found[need["id"]].where == "https://desk.example.com/17?email=[email]"
    assert found[need["id"]].payload["issue"]["url"] == "https://linear.app/octo/issue/ENG-1"
    (comment,) = (item for item in found.values() if item.parent)
    assert comment.where == "https://linear.app/octo/issue/ENG-1#comment-0"


# Traps


def errors(code, status=200, data=None, **more):
    return Answer({"data": data, "errors": [{"message": "no", "extensions": {"code": code, **more}}]}, status)


class Says(Fault):
    """Answers so to the operation, from the first page on."""

    def __init__(self, operation, answer, left=1):
        def asks(service, request):
            return request.json()["operationName"] == operation

        super().__init__(lambda *ignored: answer, when=asks, left=left, page=0)


def test_a_limit_inside_a_200_is_waited_for():
    with Linear(120, fault=Says("issues", errors("RATELIMITED"))) as there:
        done = read(there.source())
        assert (done.error, done.ids()) == (None, there.expected())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (errors("FORBIDDEN", statusCode=403), "the key needs the permission Read"),
        (errors("AUTHENTICATION_ERROR", 401), "401 Unauthorized; are the credentials right"),
        (errors("AUTHENTICATION_ERROR", 400), "the key is wrong, or no longer valid"),
        (errors("GRAPHQL_VALIDATION_FAILED", 400), "its API has changed"),
        (errors("INTERNAL_SERVER_ERROR", data={"first": None, "page": None}), "answered 200 with errors. Not read"),
        (Answer({"errors": ["Request blocked"]}), "answered 200 with errors. Not read"),
        (Answer({"errors": [{"message": "x", "extensions": None}]}), "answered 200 with errors. Not read"),
    ],
)
def test_errors_inside_an_answer_end_the_reading_and_say_what_to_do(answer, told):
    with Linear(20, fault=Says("issues", answer)) as there:
        done = read(there.source())
        assert told in str(done.error)
        assert "its issues" in str(done.error)
        assert read(there.source(), done).ids() == there.expected()


def test_without_customers_requests_the_rest_is_read_and_the_error_names_the_option():
    refused = errors("FEATURE_NOT_ACCESSIBLE", 400)
    with Linear(20, fault=Says("customerNeeds", refused, left=9)) as there:
        done = read(there.source())
        assert "leave them out with requests: false. Not read: its requests" in str(done.error)
        read(there.source(requests=False), done)
        assert done.error is None
        assert done.items.keys() == there.expected().keys() - {need["id"] for need in there.needs}


def test_a_service_that_turned_its_order_round_is_told_instead_of_losing_what_is_old():
    class Turned(Linear):
        def _field(self, field, given):
            if "orderBy" not in given:
                return super()._field(field, given)
            rows = sorted(self.items, key=lambda row: row["updatedAt"])
            about = {"hasPreviousPage": True, "startCursor": rows[-100]["id"]}
            return {"nodes": rows[-100:] if "last" in given else rows[:1], "pageInfo": about}

    with Turned(120) as there:
        assert "no longer shows the latest change first" in str(read(there.source()).error)


def test_a_personal_key_goes_as_it_is_and_a_token_of_oauth_as_bearer(monkeypatch):
    monkeypatch.setenv("LINEAR_API_KEY", "lin_api_Zz")
    assert source().headers() == {"Authorization": "lin_api_Zz"}
    monkeypatch.setenv("LINEAR_API_KEY", "lin_oauth_Zz")
    assert source().headers() == {"Authorization": "Bearer lin_oauth_Zz"}


def test_all_comments_of_a_busy_issue_come_also_when_it_did_not_change_with_them():
    with Linear(5) as there:
        done = read(there.source())
        late = [
            {**there.comments[0], "id": f"late-{n}", "updatedAt": z(UNTIL - dt.timedelta(n))} for n in range(1, 131)
        ]
        there.comments += late
        read(there.source(), done)
        assert done.ids() == there.expected()
        assert sum(item.parent == there.items[0]["id"] for item in done.items.values()) == 131


def test_one_odd_row_is_quarantined_alone():
    with Linear(20) as there:
        there.items[3]["createdAt"] = "yesterday"
        there.items[4]["updatedAt"] = "today"
        done = read(there.source())
        assert done.error is None
        assert sorted(one.where for one in done.rejected) == [f"octo issues {there.items[n]['id']}" for n in (3, 4)]
        assert len([item for item in done.items.values() if not item.parent]) == 18 + 4


def test_only_a_teams_issues_requests_and_comments_are_asked_for():
    with Linear(1) as there:
        read(there.source(team="ENG", start="2025-12-01"))
        asked = [request.json()["variables"]["filter"] for request in there.requests]
    team, start = {"team": {"key": {"eq": "ENG"}}}, {"updatedAt": {"gte": "2025-12-01T00:00:00.000+00:00"}}
    assert asked == [
        {**team, **start}, {"issue": {"null": False, **team}, **start}, {"issue": team, **start},
    ]  # fmt: skip


def test_the_check_knows_the_workspace_and_the_team():
    with Linear(3) as there:
        assert there.source().check() == "Octo: 3 issues in all, teams ENG"
        with pytest.raises(SourceError, match="workspace = 'acme', but the token belongs to 'octo'"):
            there.source(workspace="acme").check()
        with pytest.raises(SourceError, match="team = 'OPS' is none that the token may see; it sees ENG"):
            there.source(team="OPS").check()
    with pytest.raises(ConfigError, match="write WORKSPACE of linear"):
        source(workspace="linear.app/octo")
    assert source(team="ENG").origin == "octo/ENG"
