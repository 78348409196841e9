"""GitHub's recorded answers, field by field, and its own traps."""

import datetime as dt
import json
import urllib.parse

import pytest
from fake_services import TOKEN, UNTIL, read
from fake_services.github import Github as Fake

from feedback_lib import plugins
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Reply, Signal
from feedback_lib.testing import Replay

UTC = dt.UTC


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)


@pytest.fixture
def recorded(reference):
    return lambda name: json.loads((reference / "contracts" / "github" / f"{name}.json").read_text("utf-8"))


def github(**options):
    return plugins.build("sources", {"kind": "github", "repo": "octocat/Hello-World", "name": "r", **options})


def signal(native_id, title, at, **more):
    common = {"kind": "github", "origin": "r", "type": "issue", "body": "", "created_at": at, "updated_at": at}
    return Signal(**{**common, "native_id": native_id, "title": title, "state": "open", **more})


def test_issues_as_recorded(recorded):
    at = dt.datetime(2017, 10, 10, 16, tzinfo=UTC)
    web = "https://github.com/octokit-fixture-org/paginate-issues/issues"
    expected = [
        signal(
            str(n),
            f"Test issue {n}",
            at,
            url=f"{web}/{n}",
            author="octokit-fixture-user-a",
            reactions=0,
            thread_count=42,
        )
        for n in (13, 12, 11)
    ]
    assert [github().parse(row) for row in recorded("issues_list_page1")] == expected


@pytest.mark.parametrize("name", ["issues_list_openapi_example", "issues_all_openapi_example"])
def test_the_vendor_s_issue_is_a_pull_request_and_parses_as_an_issue_without_that(recorded, name):
    (row,) = recorded(name)
    assert list(github()._issue(row)) == []
    del row["pull_request"]
    at = dt.datetime(2011, 4, 22, 13, 33, 48, tzinfo=UTC)
    assert github().parse(row) == signal(
        "1347", "Found a bug", at, body="I'm having a problem with this.", author="octocat", labels=("bug",),
        thread_count=0, url="https://github.com/octocat/Hello-World/issues/1347",
    )  # fmt: skip


def test_a_found_issue_parses_as_a_listed_one(recorded):
    for row in recorded("search_issues_exchange")[0]["response"]["items"]:
        made = github().parse(row)
        assert (made.native_id, made.title, made.thread_count) == (str(row["number"]), row["title"], row["comments"])
        assert (made.author, made.state, made.url) == (row["user"]["login"], row["state"], row["html_url"])


def test_a_comment_as_the_vendor_prints_it(recorded):
    (row,) = recorded("issue_comments_openapi_example")
    at = dt.datetime(2011, 4, 14, 16, 0, 49, tzinfo=UTC)
    (item,) = github()._comment(row)
    assert (item.native_id, item.parent, item.where) == ("1347#1", "1347", row["html_url"])
    assert github().reply(item.payload) == Reply(
        kind="github", origin="r", native_id="1347#1", parent="1347", body="Me too", created_at=at, updated_at=at,
        author="octocat", team=True,
    )  # fmt: skip


def test_five_recorded_pages_with_their_own_links(recorded):
    """Thirteen issues of one time; GitHub's links name the repository by its number."""
    served = []
    for n, exchange in enumerate(recorded("issues_list_5_pages_exchange")):
        url = urllib.parse.urlsplit(exchange["path"])
        headers = {"Link": exchange["headers"]["link"].replace("https://api.github.com", "{url}")}
        place = (
            {"path": url.path, "query": dict(urllib.parse.parse_qsl(url.query))} if n else {"path": "/repos/o/n/issues"}
        )
        served.append({**place, "headers": headers, "answer": exchange["response"]})
    served.append({"path": "/repos/o/n/issues/comments", "answer": []})
    with Replay(served) as there:
        done = read(github(repo="o/n", url=there.url), until=dt.datetime(2018, 1, 1, tzinfo=UTC))
    assert done.error is None
    assert set(done.items) == {str(n) for n in range(1, 14)}
    assert not there.unknown


def test_a_refused_request_says_what_github_said_about_it(recorded):
    exchange = recorded("error_422_exchange")[0]
    with Replay([{"path": "/repos/o/n/issues", "status": exchange["status"], "answer": exchange["response"]}]) as there:
        done = read(github(repo="o/n", url=there.url))
    assert "422" in str(done.error)


def test_the_number_of_the_limit_as_recorded_is_no_error(recorded):
    assert recorded("rate_limit_openapi_example")["resources"]["core"]["limit"] == 5000


def test_comments_of_pull_requests_and_their_issues_are_left_out():
    with Fake() as there:
        done = read(there.source())
        pulls = {str(i["number"]) for i in there.items if "pull_request" in i}
    assert pulls
    assert not pulls & {key.partition("#")[0] for key in done.items}


@pytest.mark.parametrize(
    ("label", "severity"),
    [("priority: high", "high"), ("Severity/2", "2"), ("prio-low", "low"), ("P1", None), ("priority", None)],
)
def test_severity_stands_in_a_label(label, severity):
    row = {"number": 1, "title": "x", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    assert github().parse({**row, "labels": [{"name": label}]}).severity == severity
    assert github().parse({**row, "labels": [label]}).severity == severity


def test_an_account_that_is_gone_has_no_name_and_a_robot_is_no_team():
    at = "2026-01-01T00:00:00Z"
    row = {
        "id": 5,
        "issue_url": "https://x/issues/1",
        "created_at": at,
        "updated_at": at,
        "author_association": "MEMBER",
    }
    assert github().reply({**row, "user": None}).author is None
    assert github().reply({**row, "user": {"login": "ci[bot]", "type": "Bot"}}).team is False


def test_a_public_repository_is_read_without_a_token():
    with Replay([{"path": "/repos/o/n", "answer": {"full_name": "o/n", "open_issues_count": 3}}]) as there:
        source = github(repo="o/n", url=there.url, token_env="")
        assert source.check() == "o/n: 3 open issues and pull requests"
        assert "Authorization" not in source.headers()


def test_enterprise_server_answers_below_a_path():
    served = [{"path": f"/api/v3/repos/o/n/issues{what}", "answer": []} for what in ("", "/comments")]
    with Replay(served) as there:
        assert read(github(repo="o/n", url=f"{there.url}/api/v3"), until=UNTIL).error is None


def test_what_is_no_repository_is_refused_when_it_is_built():
    with pytest.raises(ConfigError, match="write owner/name"):
        github(repo="https://github.com/octo/hello")


def test_a_repository_that_is_not_there_is_said():
    gone = {"path": "/repos/o/n", "status": 404, "answer": {"message": "Not Found"}}
    with Replay([gone]) as there, pytest.raises(SourceError, match="404 Not Found"):
        github(repo="o/n", url=there.url).check()


def test_a_state_says_why_only_where_an_issue_is_closed():
    at = "2026-01-01T00:00:00Z"
    row = {"number": 1, "title": "x", "created_at": at, "updated_at": at, "state": "open", "state_reason": "reopened"}
    assert github().parse(row).state == "open"
    assert (
        github().parse({**row, "state": "closed", "state_reason": "not_planned", "closed_at": at}).state
        == "not_planned"
    )
