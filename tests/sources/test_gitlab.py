"""GitLab: the vendor's own examples field by field, and what its issues and notes have of their own."""

import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import BEGIN, TOKEN, Fault, read
from fake_services.gitlab import Gitlab as Fake

from feedback_lib import privacy
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal
from feedback_lib.sources.gitlab import Gitlab
from feedback_lib.testing import END, KEY, Replay

RECORDED = REFERENCE / "contracts" / "gitlab"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="GitLab's recorded answers are not there")
AT = "2026-03-01T09:00:00.081Z"
PROJECT = Gitlab(project="octo/hello", token_env="")
PATH = "/api/v4/projects/octo/hello/issues"


def issue(**more):
    row = {
        "id": 71, "iid": 1, "project_id": 7, "title": "Slow", "description": "It is slow.", "state": "opened",
        "created_at": AT, "updated_at": AT, "web_url": "https://gitlab.example.com/octo/hello/-/issues/1",
        "author": {"id": 5, "username": "lee", "name": "Lee Reads"}, "confidential": False,
    }  # fmt: skip
    return {**row, **more}


def note(number, **more):
    row = {
        "id": number, "body": "Me too.", "author": {"id": 6, "username": "sam", "name": "Sam Writes"}, "system": False,
        "created_at": AT, "updated_at": AT, "internal": False, "noteable_id": 71,
    }  # fmt: skip
    return {**row, **more}


def fetched(rows, notes=(), status=200, headers=None, **options):
    """Everything but checkpoints that a project with these issues and notes gives."""
    exchanges = [
        {"path": PATH, "query": {"page": "1"}, "answer": rows, "headers": headers or {}},
        {"path": PATH, "answer": []},
        {"path": "/api/v4/projects/7/issues/1/notes", "answer": list(notes), "status": status},
    ]
    with Replay(exchanges) as there:
        source = Gitlab(project="octo/hello", url=there.url, token_env="", **options)
        found = [one for one in source.fetch(None, END) if not isinstance(one, Checkpoint)]
    return found, there.requests


def kept(found):
    """An item as it is archived."""
    plain, personal = Gitlab.plain_fields, Gitlab.personal_fields
    return privacy.scrub(found.payload, personal=personal, plain=plain, key=KEY)


@recorded
def test_the_recorded_issue():
    rows = json.loads((RECORDED / "issues_list.json").read_text("utf-8"))
    at = dt.datetime(2016, 1, 4, 15, 31, 51, 81000, dt.UTC)
    assert [PROJECT.parse(row) for row in rows] == [
        Signal(
            kind="gitlab", origin="octo/hello", native_id="76", type="issue", created_at=at, updated_at=at,
            title="Consequatur vero maxime deserunt laboriosam est voluptas dolorem.",
            body="Ratione dolores corrupti mollitia soluta quia.", state="opened", labels=("foo", "bar"),
            url="http://example.com/my-group/my-project/issues/6", author="eileen.lowe", reactions=4, thread_count=1,
        )
    ]  # fmt: skip
    found, _ = fetched(rows, [note(1, noteable_id=76)])
    assert [one.native_id for one in found] == ["76"], "no exchange for the notes of project 1: the issue went away"


@recorded
def test_of_the_recorded_notes_one_is_of_the_system_and_one_is_internal():
    rows = json.loads((RECORDED / "issue_notes.json").read_text("utf-8"))
    found, _ = fetched([issue(user_notes_count=2)], rows)
    assert [one.native_id for one in found] == ["71"]
    assert PROJECT.reply(rows[1]) == Reply(
        kind="gitlab", origin="octo/hello", native_id="121#305", parent="121", body="Text of the comment\r\n",
        created_at=dt.datetime(2013, 10, 2, 9, 56, 3, tzinfo=dt.UTC), author="pipin",
        updated_at=dt.datetime(2013, 10, 2, 9, 56, 3, tzinfo=dt.UTC), team=None,
    )  # fmt: skip


def test_every_field_of_an_issue():
    row = issue(
        labels=["ux", {"name": "severity::2"}], severity="UNKNOWN", upvotes=3, downvotes=5, user_notes_count=9,
        state="closed", closed_at="2026-03-02T01:02:03.004+02:00", references={"full": "octo/tools/hello#1"},
    )  # fmt: skip
    signal = Gitlab(group="octo", name="ours").parse(row)
    assert (signal.origin, signal.labels, signal.severity) == ("ours", ("ux", "severity::2"), "2")
    assert (signal.reactions, signal.thread_count, signal.state) == (-2, 9, "closed")
    assert signal.closed_at == dt.datetime(2026, 3, 1, 23, 2, 3, 4000, tzinfo=dt.UTC)
    assert signal.product_area == "octo/tools/hello", "of a group, which project"
    assert PROJECT.parse(row).product_area is None
    assert PROJECT.parse(issue()).reactions is None
    assert PROJECT.parse(issue(moved_to_id=80, state="closed")).state == "moved"


@pytest.mark.parametrize(("named", "kind"), [("issue", "issue"), ("incident", "incident"), ("ticket", "ticket")])
def test_what_an_issue_is(named, kind):
    assert PROJECT.parse(issue(issue_type=named)).type == kind


@pytest.mark.parametrize("severity", ["HIGH", "CRITICAL"])
def test_a_severity_goes_before_a_label(severity):
    assert PROJECT.parse(issue(severity=severity, labels=["priority::low"])).severity == severity.lower()


def test_internal_notes_those_of_the_system_and_of_robots_are_not_archived():
    robots = ["project_7_bot", "group_12_bot_4ffe", "alert-bot", "gitlab-bot", "GitLab-Security-Bot", "GitLabDuo"]
    dropped = [note(n, author={"username": name}) for n, name in enumerate(robots, 10)]
    dropped += [note(20, system=True), note(21, internal=True), note(22, internal=None, confidential=True)]
    found, _ = fetched([issue(user_notes_count=11)], [*dropped, note(1), note(2, author=None)])
    assert [one.native_id for one in found] == ["71", "71#1", "71#2"]
    assert "Me too" not in str(found[0].payload)


def test_confidential_issues_are_left_out_unless_they_are_asked_for():
    rows = [issue(confidential=True, title="A hole in the gate", user_notes_count=0)]
    assert fetched(rows)[0] == [], "even where an old instance does not know the parameter"
    found, requests = fetched(rows, confidential=True)
    assert [one.native_id for one in found] == ["71"]
    assert "confidential" not in requests[0]


def test_who_wrote_by_mail_is_no_member_of_the_team():
    desk = {"id": 2, "username": "support-bot", "name": "GitLab Support Bot"}
    row = issue(author=desk, service_desk_reply_to="jane@example.org", user_notes_count=2)
    found, _ = fetched([row], [note(1, author=desk), note(2)])
    signal = PROJECT.parse(kept(found[0]))
    assert signal.author == privacy.pseudonym("jane@example.org", KEY)
    by_mail, by_us = (PROJECT.reply(kept(one)) for one in found[1:])
    assert (by_mail.author, by_mail.team) == (None, False)
    assert (by_us.author, by_us.team) == (privacy.pseudonym("sam", KEY), None)


def test_a_ghost_is_nobody_and_no_name_is_kept():
    ghost = {"id": 1, "username": "ghost", "name": "Ghost User"}
    found, _ = fetched([issue(author=ghost, assignees=[{"username": "sam", "name": "Sam Writes"}])])
    assert PROJECT.parse(kept(found[0])).author is None
    assert found[0].payload["assignees"] == [{"username": "sam"}]


def test_an_issue_that_went_away_before_its_notes_were_asked_for():
    found, _ = fetched([issue(user_notes_count=1)], status=404)
    assert [one.native_id for one in found] == ["71"]


def test_a_page_goes_on_where_a_proxy_dropped_the_header_that_says_so():
    rows = [issue(id=n, iid=n) for n in range(100)]
    _, requests = fetched(rows)
    assert any("page=2" in request for request in requests)
    _, requests = fetched(rows, headers={"X-Next-Page": ""})
    assert len(requests) == 1


def test_a_row_or_a_note_of_another_shape_is_quarantined_alone():
    rows = ["?", issue(updated_at=None), issue(id=72, author="lee", user_notes_count=None), issue(user_notes_count=2)]
    found, _ = fetched(rows, [note(1, created_at=3.5e300), note(2)])
    assert [one.native_id for one in found if isinstance(one, Item)] == ["72", "71", "71#2"]
    assert len([one for one in found if isinstance(one, Rejected)]) == 3


def test_an_answer_that_is_no_list_stops_the_source():
    with pytest.raises(SourceError, match="another shape"):
        fetched({"message": "maintenance"})


@pytest.mark.parametrize("options", [{}, {"project": "a/b", "group": "a"}])
def test_one_of_project_and_group_is_named(options):
    with pytest.raises(ConfigError, match="one of project and group"):
        Gitlab(**options)


@pytest.mark.parametrize(("status", "told"), [(401, "read_api"), (403, "read_api"), (404, "may not see")])
def test_a_refusal_says_what_the_token_lacks(status, told):
    refused = {"path": "/api/v4/groups/octo/issues_statistics", "status": status, "answer": {"message": "no"}}
    with Replay([refused]) as there, pytest.raises(SourceError, match=told):
        Gitlab(group="octo", url=there.url, token_env="").check()


def test_the_address_may_end_with_a_slash_and_the_project_be_a_number():
    with Replay([{"path": "/git/api/v4/projects/7/issues", "answer": []}]) as there:
        assert list(Gitlab(project=7, url=f"{there.url}/git/", token_env="").fetch(None, END))


def test_many_notes_are_read_page_by_page(monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    with Fake(count=10) as there:
        there.notes[9] = [there.note(9, nth, AT) for nth in range(121)]
        found = [one.native_id for one in there.source().fetch(None, END) if isinstance(one, Item)]
        assert len([one for one in found if one.startswith("9000009#")]) == 121


def test_of_many_pages_of_one_time_nothing_is_lost_when_an_issue_goes_away_between_them(monkeypatch):
    """An import gives hundreds of issues one time; they are walked by number, and those behind the gap move up."""
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    fault = Fault(lambda service, request, fault: service.remove(service.items[1]), page=4)
    with Fake(count=450, fault=fault) as there:
        for item in there.items:
            item["user_notes_count"] = 0
        for item in there.items[:400]:
            there.touch(item, BEGIN)
        done = read(there.source())
        assert fault.done
        assert there.expected().keys() <= done.ids().keys()
