"""Linear's GraphQL: issues, comments and customers' requests, as its published schema describes them.

A query is held against `SCHEMA`, which has the fields of the real one that this project knows, and is answered with
nothing but what it asks for. Its complexity is counted as https://linear.app/developers/rate-limiting says.
"""

import datetime as dt
import functools
import math

import graphql

from fake_services import TOKEN, Answer, FakeService, at

SCHEMA = """
scalar DateTime
scalar DateTimeOrDuration
enum PaginationOrderBy { createdAt updatedAt }
input StringComparator { eq: String }
input DateComparator { gt: DateTimeOrDuration gte: DateTimeOrDuration lt: DateTimeOrDuration }
input TeamFilter { key: StringComparator }
input NullableIssueFilter { null: Boolean team: TeamFilter }
input IssueFilter { updatedAt: DateComparator team: TeamFilter }
input CommentFilter { updatedAt: DateComparator issue: NullableIssueFilter }
input CustomerNeedFilter { updatedAt: DateComparator issue: NullableIssueFilter }
type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
type Organization { id: ID! name: String! urlKey: String! createdIssueCount: Int! }
type User { id: ID! name: String! email: String! app: Boolean! guest: Boolean! }
type ExternalUser { id: ID! name: String! email: String }
type ActorBot { id: ID type: String! name: String userDisplayName: String }
type WorkflowState { id: ID! name: String! type: String! }
type Team { id: ID! key: String! name: String! }
type TeamConnection { nodes: [Team!]! pageInfo: PageInfo! }
type Project { id: ID! name: String! url: String! }
type IssueLabel { id: ID! name: String! }
type IssueLabelConnection { nodes: [IssueLabel!]! pageInfo: PageInfo! }
type Reaction { id: ID! emoji: String! }
type Issue {
  id: ID! identifier: String! title: String! description: String url: String! createdAt: DateTime!
  updatedAt: DateTime! completedAt: DateTime canceledAt: DateTime archivedAt: DateTime trashed: Boolean
  priority: Float! priorityLabel: String! customerTicketCount: Int! slaBreachesAt: DateTime reactions: [Reaction!]!
  state: WorkflowState! team: Team! project: Project creator: User externalUserCreator: ExternalUser botActor: ActorBot
  labels(first: Int, after: String): IssueLabelConnection!
}
type IssueConnection { nodes: [Issue!]! pageInfo: PageInfo! }
type Comment {
  id: ID! body: String! url: String! createdAt: DateTime! updatedAt: DateTime! user: User externalUser: ExternalUser
  botActor: ActorBot issue: Issue
}
type CommentConnection { nodes: [Comment!]! pageInfo: PageInfo! }
type CustomerTier { id: ID! name: String! }
type Customer { id: ID! name: String! revenue: Int size: Float tier: CustomerTier }
type CustomerNeed {
  id: ID! body: String content: String priority: Float! url: String createdAt: DateTime! updatedAt: DateTime!
  archivedAt: DateTime customer: Customer issue: Issue project: Project creator: User
}
type CustomerNeedConnection { nodes: [CustomerNeed!]! pageInfo: PageInfo! }
type Query {
  organization: Organization!
  teams(first: Int): TeamConnection!
  issues(first: Int, after: String, last: Int, before: String, orderBy: PaginationOrderBy, includeArchived: Boolean,
    filter: IssueFilter): IssueConnection!
  comments(first: Int, after: String, last: Int, before: String, orderBy: PaginationOrderBy, includeArchived: Boolean,
    filter: CommentFilter): CommentConnection!
  customerNeeds(first: Int, after: String, last: Int, before: String, orderBy: PaginationOrderBy,
    includeArchived: Boolean, filter: CustomerNeedFilter): CustomerNeedConnection!
}
"""
LISTS = ("issues", "comments", "customerNeeds")


@functools.cache
def schema():
    return graphql.build_schema(SCHEMA)


@functools.cache
def understood(text, name):
    """The selections of an operation; AssertionError when the service would refuse it."""
    document = graphql.parse(text)
    assert not graphql.validate(schema(), document)
    operation = graphql.get_operation_ast(document, name)
    assert operation.operation == graphql.OperationType.QUERY
    selections = _selections(operation.selection_set)
    assert math.ceil(sum(map(_complexity, selections))) <= 10_000, "Query too complex"
    return selections


def _selections(chosen):
    """(name in the answer, field, arguments, selections below) of each field."""
    return tuple(
        ((f.alias or f.name).value, f.name.value, tuple(f.arguments or ()), _selections(f.selection_set))
        for f in (chosen.selections if chosen else ())
    )


def _complexity(selection):
    arguments, below = selection[2:]
    if not below:
        return 0.1
    given = {a.name.value: getattr(a.value, "value", None) for a in arguments}
    many = int(given.get("first") or given.get("last") or (50 if any(b[1] == "nodes" for b in below) else 1))
    assert many <= 250
    return many * (1 + sum(map(_complexity, below)))


def projected(value, selections):
    """A value with the fields asked for only; one that the service does not have is None."""
    if isinstance(value, list):
        return [projected(one, selections) for one in value]
    if not selections or value is None:
        return value
    return {shown: projected(value.get(field), below) for shown, field, _, below in selections}


def z(when):
    return f"{when:%Y-%m-%dT%H:%M:%S}.000Z"


def uuid(kind, n):
    return f"{kind:08x}-aaaa-4bbb-8ccc-{n:012x}"


def person(i):
    return {"id": uuid(9, i), "name": f"Person {i}", "email": f"p{i}@example.com", "app": False, "guest": False}


class Linear(FakeService):
    kind = "linear"
    unauthorised = (
        401,
        {"errors": [{"message": "?", "extensions": {"code": "AUTHENTICATION_ERROR", "statusCode": 401}}]},
    )

    def options(self):
        return {"url": self.url, "workspace": "octo", "token_env": "FAKE_TOKEN"}

    def allowed(self, request):
        """A personal key with "Bearer" before it is refused, an OAuth token without it too."""
        sent = request.headers.get("authorization", "")
        return sent.startswith("lin_api_") or sent == f"Bearer {TOKEN}"

    def make(self, count):
        issues = [self._issue(i) for i in range(count)]
        self.comments, self.needs = [], []
        for i, issue in enumerate(issues):
            times = {"createdAt": issue["createdAt"], "updatedAt": issue["updatedAt"]}
            if i % 4 == 0:
                robot = (
                    {"id": None, "type": "github", "name": "GitHub", "userDisplayName": None} if i % 20 == 8 else None
                )
                about = {"user": None if robot else person(3), "externalUser": None, "issue": issue}
                self.comments.append({
                    "id": uuid(2, i), "body": "We see it too.", "url": f"{issue['url']}#comment-{i}", **times, **about,
                    "botActor": robot,
                })  # fmt: skip
            if i % 5 == 0:
                self.needs.append({
                    "id": uuid(3, i), "content": "Ours hang as well.", "body": "Ours hang as well.", "priority": i % 2,
                    "url": None, **times, "archivedAt": None, "issue": issue, "project": None, "creator": person(3),
                    "customer": {"id": uuid(8, i % 7), "name": "Acme", "revenue": 1000 * (i % 7), "tier": None},
                })  # fmt: skip
        return issues

    def _issue(self, i):
        when, n = z(at(i)), i + 1
        done = i % 3 == 0
        return {
            "id": uuid(1, n), "identifier": f"ENG-{n}", "title": f"Build {n} is slow", "createdAt": when,
            "description": None if i % 50 == 7 else f"It takes {n} minutes since Monday.", "updatedAt": when,
            "url": f"https://linear.app/octo/issue/ENG-{n}/build-{n}-is-slow", "completedAt": when if done else None,
            "canceledAt": None, "archivedAt": when if i % 30 == 0 else None, "trashed": None, "priority": i % 5,
            "priorityLabel": ("No priority", "Urgent", "High", "Medium", "Low")[i % 5], "customerTicketCount": 0,
            "slaBreachesAt": None, "reactions": [{"id": "1", "emoji": "+1"}] * (i % 3), "project": None,
            "state": {"id": "s", "name": "Done" if done else "Todo", "type": "completed" if done else "unstarted"},
            "team": {"id": "t", "key": "ENG", "name": "Engineering"}, "creator": None if i == 11 else person(i % 17),
            "externalUserCreator": None, "botActor": None, "labels": {"nodes": [{"id": "l", "name": "Bug"}]},
        }  # fmt: skip

    def answer(self, request):
        assert (request.method, request.path) == ("POST", "/graphql")
        assert request.headers["content-type"] == "application/json"
        asked = request.json()
        selections = understood(asked["query"], asked["operationName"])
        variables, data = asked["variables"], {}
        for shown, field, arguments, below in selections:
            given = {a.name.value: graphql.value_from_ast_untyped(a.value, variables) for a in arguments}
            try:
                data[shown] = projected(self._field(field, given), below)
            except LookupError:
                wrong = {"code": "INVALID_INPUT", "type": "invalid input", "statusCode": 400, "userError": True}
                return Answer({"data": None, "errors": [{"message": "no such cursor", "extensions": wrong}]})
        return Answer({"data": data}, headers={"X-Complexity": "1", "X-RateLimit-Requests-Remaining": "1499"})

    def _field(self, field, given):
        if field == "organization":
            return {"id": "o", "name": "Octo", "urlKey": "octo", "createdIssueCount": len(self.items)}
        if field == "teams":
            return {"nodes": [{"id": "t", "key": "ENG", "name": "Engineering"}]}
        assert given["orderBy"] == "updatedAt"
        assert given["includeArchived"] is True
        assert ("first" in given) != ("last" in given)
        rows = {"issues": self.items, "comments": self.comments, "customerNeeds": self.needs}[field]
        start = given["filter"].get("updatedAt", {}).get("gte", "")
        rows = sorted(  # the latest change first, always
            (row for row in rows if row["updatedAt"] >= start), key=lambda r: (r["updatedAt"], r["id"]), reverse=True
        )
        if "first" in given:
            return {"nodes": rows[: given["first"]]}
        end = len(rows)
        if given.get("before"):
            end = next((n for n, row in enumerate(rows) if row["id"] == given["before"]), None)
            if end is None:
                raise LookupError
        page = rows[max(0, end - given["last"]) : end]
        about = {"hasPreviousPage": end > given["last"], "startCursor": page[0]["id"] if page else None}
        return {"nodes": page, "pageInfo": {**about, "hasNextPage": end < len(rows)}}

    def lists(self, request):
        return request.json()["operationName"] in LISTS

    def follows(self, request):
        return bool(request.json()["variables"].get("before"))

    def empty(self, answer):
        data = answer.body["data"]
        return Answer({"data": {**data, "page": {**data["page"], "nodes": []}}})

    def touch(self, item, when):
        item["updatedAt"] = z(when)

    def expected(self):
        found = {row["id"]: row["updatedAt"] for row in (*self.items, *self.needs)}
        found |= {f"{c['issue']['id']}#{c['id']}": c["updatedAt"] for c in self.comments if not c["botActor"]}
        return {key: dt.datetime.fromisoformat(when) for key, when in found.items()}


SERVICE = Linear
