"""Jira: the vendor's own examples field by field, and what Cloud and Data Center have of their own."""

import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import TOKEN
from fake_services.jira import Jira as Cloud
from fake_services.jira import document
from fake_services.jira_datacenter import DataCenter

from feedback_lib import privacy
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal
from feedback_lib.sources.jira import Jira
from feedback_lib.testing import END, KEY, Replay

RECORDED = REFERENCE / "contracts" / "jira"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="Jira's recorded answers are not there")
SITE = Jira(url="https://example.atlassian.net", token_env="")
AT = "2026-03-01T10:00:00.081+0100"
PERSON = {
    "accountId": "5b10a",
    "accountType": "atlassian",
    "displayName": "Mia Krystof",
    "emailAddress": "mia@a.example",
}


def answer(name):
    return json.loads((RECORDED / name).read_text("utf-8"))


def issue(number=10011, **fields):
    known = {
        "summary": "Slow",
        "created": AT,
        "updated": AT,
        "reporter": PERSON,
        "project": {"projectTypeKey": "software"},
    }
    return {"id": str(number), "key": "SUP-1", "fields": {**known, **fields}}


def comment(number=1, **more):
    row = {"id": str(number), "author": PERSON, "body": document("Me too."), "created": AT, "updated": AT}
    return {**row, **more}


def discussed(*comments, total=None, **fields):
    return issue(comment={"comments": list(comments), "total": len(comments) if total is None else total}, **fields)


def fetched(rows, *exchanges, headers=None, **options):
    """Everything but checkpoints that a site with these issues gives, and what it was asked."""
    search = {"path": "/rest/api/3/search/jql", "answer": {"issues": rows, "isLast": True}, "headers": headers or {}}
    with Replay([search, *exchanges]) as there:
        source = Jira(url=there.url, token_env="", **options)
        found = [one for one in source.fetch(None, END) if not isinstance(one, Checkpoint)]
    return found, there.requests


def kept(found):
    """An item as it is archived."""
    plain, personal = Jira.plain_fields, Jira.personal_fields
    return privacy.scrub(found.payload, personal=personal, plain=plain, key=KEY)


def ids(found):
    return [one.native_id for one in found]


@recorded
def test_the_recorded_issue_of_a_sprint():
    (row,) = answer("agile_sprint_issues_old_shape.json")["issues"]
    assert SITE.parse(row) == Signal(
        kind="jira", origin="example.atlassian.net", native_id="12338", type="issue", title="", body="",
        created_at=dt.datetime(2015, 12, 2, 15, 39, 15, tzinfo=dt.UTC), state="Ready", severity="Major",
        updated_at=dt.datetime(2016, 2, 1, 16, 17, 4, tzinfo=dt.UTC), url="https://example.atlassian.net/browse/AR-86",
        closed_at=dt.datetime(2015, 12, 7, 22, 19, 13, tzinfo=dt.UTC),
    )  # fmt: skip
    found, _ = fetched([row])
    assert "uservoice" not in json.dumps(found[0].payload), "people's addresses are not kept"


@recorded
def test_the_recorded_comment_is_for_administrators_only():
    (row,) = answer("issue_comments.json")["comments"]
    found, _ = fetched([discussed(row)])
    assert ids(found) == ["10011"]
    reply = SITE.reply({**row, "issueId": "10010"})
    assert reply.body.startswith("Lorem ipsum dolor sit amet, consectetur adipiscing elit.")
    assert reply == Reply(
        kind="jira", origin="example.atlassian.net", native_id="10010#10000", parent="10010", body=reply.body,
        created_at=dt.datetime(2021, 1, 17, 12, 34, tzinfo=dt.UTC), author="5b10a2844c20165700ede21g", team=None,
        updated_at=dt.datetime(2021, 1, 18, 23, 45, tzinfo=dt.UTC),
    )  # fmt: skip


@recorded
@pytest.mark.parametrize("name", ["issue.json", "search_jql_new.json", "search_old_deprecated.json"])
def test_a_recorded_row_without_times_is_refused_with_a_reason(name):
    """The vendor shortened its examples: ``updated`` is 1, ``created`` is not there."""
    found = answer(name)
    for row in found.get("issues", [found]):
        with pytest.raises(ValueError, match=r"has no time|another shape"):
            SITE.parse(row)
        refused = {"path": "/rest/api/3/issue/10002/comment", "answer": answer("issue_comments.json")}
        (rejected,) = fetched([row], refused)[0]
        assert "has no time 'updated'" in rejected.reason
        whole = {**row, "fields": {**row["fields"], "created": AT, "updated": AT, "comment": {"total": 1}}}
        assert (SITE.parse(whole).native_id, SITE.parse(whole).body) == ("10002", "Main order flow broken")


@recorded
def test_a_history_of_changes_is_no_issue():
    for row in answer("issue_changelog.json")["values"]:
        with pytest.raises(ValueError, match="is no issue"):
            SITE.parse(row)


def test_every_field_of_a_request():
    row = issue(
        project={"projectTypeKey": "service_desk"}, labels=["vip"], components=[{"name": "Registry"}, {"name": "UI"}],
        versions=[{"name": "4.2.1.17"}], priority={"name": "High"}, votes={"votes": 3}, comment={"total": 2},
        description={"type": "paragraph", "content": [{"type": "text", "text": "Slow."}]}, satisfaction={"rating": 4},
        status={"name": "Declined", "statusCategory": {"key": "done"}}, statuscategorychangedate=AT,
    )  # fmt: skip
    at = dt.datetime(2026, 3, 1, 9, 0, 0, 81000, dt.UTC)
    options = {"url": "https://api.atlassian.com/ex/jira/1f2e", "site": "https://acme.atlassian.net/"}
    source = Jira(satisfaction_field="satisfaction", project="SUP", token_env="", **options)
    assert source.parse(row) == Signal(
        kind="jira", origin="acme.atlassian.net/SUP", native_id="10011", type="ticket", title="Slow", body="Slow.",
        created_at=at, updated_at=at, url="https://acme.atlassian.net/browse/SUP-1", author="5b10a", state="Declined",
        labels=("vip",), product_area="Registry", version="4.2.1.17", severity="High", rating=4.0, reactions=3,
        thread_count=2, closed_at=at,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "stars"), [({"rating": 5}, 5), ({"value": "3"}, 3), (4.0, 4), ("2", 2), (None, None)]
)
def test_satisfaction(value, stars):
    assert Jira(url="https://a.example", satisfaction_field="cf").parse(issue(cf=value)).rating == stars


def test_an_issue_that_is_not_done_is_not_closed():
    open_again = {"name": "Open", "statusCategory": {"key": "new"}}
    assert SITE.parse(issue(status=open_again, statuscategorychangedate=AT)).closed_at is None


def test_people_are_told_apart_without_their_names():
    server = {"name": "mmorris", "key": "JIRAUSER10100", "displayName": "Mister Morris", "emailAddress": "m@a.example"}
    found, _ = fetched([issue(reporter=server), issue(10012, reporter=None, creator=PERSON)])
    one, other = (SITE.parse(kept(item)).author for item in found)
    assert (one, other) == (privacy.pseudonym("JIRAUSER10100", KEY), privacy.pseudonym("5b10a", KEY))
    assert not any(word in json.dumps([kept(item) for item in found]) for word in ("orris", "Krystof", "5b10a"))
    assert not any(word in json.dumps([item.payload for item in found]) for word in ("Morris", "Krystof", "a.example"))


def test_whom_a_text_mentions_is_not_kept():
    mention = {"type": "mention", "attrs": {"id": "5b10a", "text": "@Mia Krystof"}}
    words = {
        "type": "doc",
        "content": [{"type": "paragraph", "content": [mention, {"type": "text", "text": " asks."}]}],
    }
    found, _ = fetched([issue(description=words), issue(10012, description="[~mkrystof] and [~accountid:5b10a] ask.")])
    said = [SITE.parse(item.payload).body for item in found]
    assert said == ["@someone asks.", "@someone and @someone ask."]
    assert "krystof" not in json.dumps([item.payload["fields"]["description"] for item in found]).lower()


def test_a_number_that_is_partly_bold_is_redacted():
    parts = [
        {"type": "text", "text": "Call +49 30 "},
        {"type": "text", "text": "5550 1234", "marks": [{"type": "strong"}]},
    ]
    found, _ = fetched([issue(description={"type": "paragraph", "content": parts})])
    assert SITE.parse(kept(found[0])).body == "Call [phone]"


def test_internal_comments_restricted_ones_and_those_of_apps_are_not_archived():
    found, requests = fetched([discussed(
        comment(1), comment(2, jsdPublic=True), comment(3, jsdPublic=False), comment(5, author=None),
        comment(4, visibility={"type": "role", "value": "Developers"}),
        comment(6, author={**PERSON, "accountType": "app"}),
        comment(7, properties=[{"key": "sd.public.comment", "value": {"internal": True}}]),
        comment(8, properties=[{"key": "sd.public.comment", "value": {"internal": False}}, {"key": "of-an-app"}]),
        comment(9, properties=["?"]),
    )])  # fmt: skip
    assert ids(found) == ["10011", "10011#1", "10011#2", "10011#5", "10011#8"]
    assert SITE.parse(found[0].payload).thread_count == 4
    assert "Me too" not in str(found[0].payload)
    assert len(requests) == 1, "the search gave them all"


@pytest.mark.parametrize(("kind", "team"), [("customer", False), ("atlassian", None)])
def test_customers_are_not_the_team(kind, team):
    assert SITE.reply({**comment(author={**PERSON, "accountType": kind}), "issueId": "10011"}).team is team


def test_comments_of_a_service_project_that_do_not_say_whether_they_are_internal_are_asked_for():
    whole = {"comments": [comment(1, jsdPublic=False), comment(2, jsdPublic=True)], "total": 2, "startAt": 0}
    asked = {"path": "/rest/api/3/issue/10011/comment", "query": {"expand": "properties"}, "answer": whole}
    found, _ = fetched([discussed(comment(1), comment(2), project={"projectTypeKey": "service_desk"})], asked)
    assert ids(found) == ["10011", "10011#2"]


def test_an_issue_that_went_away_before_its_comments_were_asked_for():
    assert ids(fetched([discussed(comment(1), total=2)])[0]) == ["10011"]


def test_a_row_or_a_comment_of_another_shape_is_quarantined_alone():
    rows = ["?", {"id": "1", "key": "A-1"}, issue(updated=17), issue(2, project=[]), issue(3, comment=["?"])]
    found, _ = fetched([*rows, discussed(comment(1, created=None), "?", comment(2))])
    assert ids(one for one in found if isinstance(one, Item)) == ["2", "3", "10011", "10011#2"]
    assert len([one for one in found if isinstance(one, Rejected)]) == 5


def test_credentials_that_are_passed_over_are_no_empty_site():
    """Cloud answers 200 to an expired token, as if nobody had asked, and nobody sees no issue."""
    with pytest.raises(SourceError, match="expires"):
        fetched([], headers={"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"})
    assert fetched([], headers={"X-Seraph-LoginReason": "OK"})[0] == []


def test_a_condition_stands_beside_the_time_and_words_of_jira_reach_the_user():
    refusal = {"errorMessages": ["The value 'nope' does not exist for the field 'level'."], "errors": {}}
    jql = 'project = "S\\"UP" AND (level = nope OR text ~ "order by") AND updated >= 0 ORDER BY updated ASC, key ASC'
    refused = {"path": "/rest/api/2/search", "query": {"jql": jql}, "status": 400, "answer": refusal}
    with Replay([refused]) as there, pytest.raises(SourceError, match="does not exist for the field 'level'"):
        options = {"project": 'S"UP', "jql": 'level = nope OR text ~ "order by"', "deployment": "datacenter"}
        list(Jira(url=there.url, token_env="", **options).fetch(None, END))


def test_a_search_begins_with_a_whole_second_in_milliseconds():
    since = dt.datetime(2026, 3, 1, 10, 0, 0, 999000, dt.timezone(dt.timedelta(hours=1)))
    assert SITE._jql(since) == "updated >= 1772355600000"


@pytest.mark.parametrize(
    ("options", "told"),
    [({"deployment": "server"}, "known: cloud, datacenter"), ({"jql": "a = b order  BY c"}, "ORDER BY")],
)
def test_a_wrong_option_is_said_at_once(options, told):
    with pytest.raises(ConfigError, match=told):
        Jira(url="https://a.example", **options)


@pytest.mark.parametrize(("status", "told"), [(401, "e-mail"), (403, "browse"), (404, "datacenter"), (410, "Cloud")])
def test_a_refusal_says_what_is_missing(status, told):
    refused = {"path": "/jira/rest/api/2/search", "status": status, "answer": {}}
    with Replay([refused]) as there, pytest.raises(SourceError, match=told):
        Jira(url=f"{there.url}/jira", deployment="datacenter", token_env="").check()


def test_an_account_that_sees_nothing_is_told_so():
    with Replay([{"path": "/rest/api/2/search", "answer": {"startAt": 0, "total": 0, "issues": []}}]) as there:
        assert "browse" in Jira(url=there.url, deployment="datacenter", token_env="").check()


@pytest.mark.parametrize("service", [Cloud, DataCenter])
def test_a_long_discussion_is_read_whole(service, monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    with service(count=9) as there:
        when = there.items[8]["fields"]["updated"]
        there.comments["10009"] = there.discussion("10009", when, 130, True)
        found = [one for one in there.source().fetch(None, END) if isinstance(one, Item)]
    assert len([one for one in found if one.parent == "10009"]) == 130
