"""Discourse: topics and posts in its documented shape field by field, and what its lists have of their own."""

import datetime as dt
import time

import pytest
from fake_services import UNTIL, Answer, Read, found, read
from fake_services.discourse import Discourse as Fake
from fake_services.discourse import post, z

from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Rejected, Reply, Signal
from feedback_lib.sources.discourse import Discourse

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


def forum(*topics):
    """A forum with these topics; each is its row and its posts."""
    there = Fake(0)
    for row, posts in topics:
        there.items.append(row)
        there.posts[row["id"]] = posts
    return there


def topic(number, *answers, at=NOON, user="jane", **more):
    """A topic of which the first post is by ``user``, and the ``answers`` follow."""
    (row,) = Fake.make(Fake.__new__(Fake), 1)
    row |= {"id": number, "title": f"Topic {number}", "created_at": z(at), "bumped_at": z(at), "tags": []}
    row["posts_count"] = 1 + len(answers)
    return row | more, [post(1, number, at, user), *answers]


def answer(number, of, user="sam", **more):
    return post(number, of, NOON + number * HOUR, user, **more)


def asked(there, path):
    return [request for request in there.requests if request.path == path]


# Fields


def test_every_field_of_a_topic_and_its_posts():
    reply = answer(3, 7, staff=True, version=2, updated_at=z(NOON + 9 * HOUR), cooked="<p>It is <b>fixed</b>.</p>")
    row, posts = topic(7, answer(2, 7), reply, closed=True, tags=["ci", {"id": 1, "name": "4.2"}], op_like_count=4)
    posts[0] |= {"cooked": "<p>Slow &amp; loud</p>", "locale": "de"}
    with forum((row, posts)) as there:
        source = there.source(name="forum")
        done = read(source)
        made = [source.reply(i.payload) if i.parent else source.parse(i.payload) for i in done.items.values()]
        url = f"{there.url}/t/7"
    times = {"created_at": NOON, "updated_at": NOON}
    assert made[0] == Signal(
        kind="discourse", origin="forum", native_id="7", type="ticket", title="Topic 7", body="Slow & loud", url=url,
        author="jane", state="closed", labels=("ci", "4.2"), product_area="Bugs", reactions=4, locale="de",
        thread_count=2, **times,
    )  # fmt: skip
    assert made[1:] == [
        Reply(
            kind="discourse", origin="forum", native_id="7#7002", parent="7", body="It takes 7 minutes.",
            created_at=NOON + 2 * HOUR, updated_at=NOON + 2 * HOUR, author="sam", team=False,
        ),
        Reply(
            kind="discourse", origin="forum", native_id="7#7003", parent="7", body="It is fixed.",
            created_at=NOON + 3 * HOUR, updated_at=NOON + 9 * HOUR, author="sam", team=True,
        ),
    ]  # fmt: skip
    assert done.items["7#7003"].where == f"{url}/3"


def test_a_solution_ends_a_topic():
    solved = topic(7, answer(2, 7, accepted_answer=True), answer(3, 7), closed=True, has_accepted_answer=True)
    listed = topic(8, has_accepted_answer=True)
    closed = topic(9, answer(2, 9, post_type=3, action_code="autoclosed.enabled"), closed=True)
    again = topic(10, answer(2, 10, post_type=3, action_code="closed.enabled"))
    with forum(solved, listed, closed, again) as there:
        made, _ = found(there)
    states = {i: (one.state, one.closed_at) for i, one in made.items() if isinstance(one, Signal)}
    assert states == {
        "7": ("solved", NOON + 2 * HOUR), "8": ("solved", None), "9": ("closed", NOON + 2 * HOUR), "10": ("open", None),
    }  # fmt: skip


def test_what_is_not_for_everybody_or_by_nobody_is_left_out():
    posts = [
        answer(2, 7, post_type=4), answer(3, 7, post_type=3, action_code="pinned.enabled"), answer(4, 7, hidden=True),
        answer(5, 7, deleted_at=z(NOON)), answer(6, 7, user_deleted=True), answer(7, 7, user_id=-2),
        answer(8, 7, post_type=2, moderator=True),
    ]  # fmt: skip
    unlisted, hidden = topic(8, visible=False), topic(9)
    hidden[1][0]["hidden"] = True
    robot = topic(10)
    robot[1][0]["user_id"] = -1
    withdrawn = topic(11)
    withdrawn[1][0]["user_deleted"] = True
    with forum(topic(7, *posts), unlisted, hidden, robot, withdrawn) as there:
        made, _ = found(there)
    assert list(made) == ["7", "7#7008", "11"]
    assert made["11"].state == "deleted"


def test_nobody_but_the_author_is_named_and_others_words_are_not_theirs():
    cooked = (
        '<aside class="quote no-group" data-username="jane.doe" data-post="1"><div class="title">jane.doe:</div>'
        '<blockquote><p>It is slow</p><aside class="quote" data-username="jane.doe"><p>Is it?</p></aside><p>Yes</p>'
        "</blockquote></aside>"
        '<p>Ask <a class="mention" href="/u/jane.doe">@jane.doe</a> or <span class="mention">@jane.doe</span></p>'
        '<aside class="onebox allowlistedgeneric"><header>example.org</header><h3>by jane.doe</h3></aside><p>Thanks</p>'
    )
    row, posts = topic(7, answer(2, 7, cooked=cooked, user="lee", display_username="jane.doe"), user="lee")
    row["last_poster_username"] = "jane.doe"
    with forum((row, posts)) as there:
        made, done = found(there)
    assert made["7#7002"].body == "Ask @someone or @someone\n\nThanks"
    assert "jane.doe" not in repr([item.payload for item in done.items.values()])
    assert made["7"].author == made["7#7002"].author != "lee"


@pytest.mark.parametrize(
    ("cooked", "own"),
    [
        ('a<aside class="quote">b</aside>c', "ac"),
        ('a<aside class="quote">b<aside class="onebox">c</aside>d<aside class="quote">e</aside></aside>f', "af"),
        ('a<aside class="quote">b</aside>c</aside>d<aside class="quote">e</aside>f', "acdf"),
        ('a<aside class="quote">b', "a"),
        ('<aside class="poll">a</aside>', "a"),
    ],
)
def test_quotes_are_cut_out_however_they_are_nested(cooked, own):
    with forum(topic(7, answer(2, 7, cooked=cooked))) as there:
        made, _ = found(there)
    assert "".join(made["7#7002"].body.split()) == own


def test_an_account_that_is_gone_is_nobody():
    with forum(topic(7, answer(2, 7, user="x", username=None, user_id=None), user="x")) as there:
        there.posts[7][0] |= {"username": None, "user_id": None}
        made, _ = found(there)
    assert [one.author for one in made.values()] == [None, None]


# Lists


def test_what_is_pinned_stands_first_and_hides_nothing():
    """Its time is not that of its place: taken for it, all between would be passed over."""
    topics = [topic(n, at=NOON + n * HOUR) for n in range(1, 41)]
    pin = topic(90, at=NOON + 5 * DAY, pinned=True, pinned_globally=True)
    with forum(*topics, pin) as there:
        _, done = found(there)
        assert set(done.items) == {str(n) for n in [*range(1, 41), 90]}
        assert done.watermark == NOON + 40 * HOUR
        pin[0]["bumped_at"] = z(NOON + 6 * DAY)
        _, done = found(there, done)
        assert done.items["90"].updated_at == NOON + 6 * DAY
        _, before = found(there, until=NOON + 5 * DAY)
        assert "90" not in before.items


def test_a_busy_day_is_gone_on_with_where_it_was_left():
    """Lists know no finer bound than a day."""
    topics = [topic(n, at=NOON + n * dt.timedelta(minutes=2)) for n in range(1, 101)]
    with forum(*topics) as there:
        done = found(there, until=NOON + 2 * HOUR)[1]
        assert len(done.items) == 59
        before = len(there.requests)
        _, done = found(there, done)
        assert len(done.items) == 100
        later = {request.path for request in there.requests[before:] if request.path.startswith("/t/")}
        assert later == {f"/t/{n}.json" for n in range(58, 101)}, "only what is new, and the lag before it"


def test_all_of_one_moment_are_read():
    """As after an import, more than a page."""
    topics = [topic(n, at=NOON) for n in range(1, 80)] + [topic(90, at=NOON + HOUR)]
    with forum(topic(95, at=NOON - HOUR), *topics) as there:
        assert len(found(there)[1].items) == 81


def test_a_topic_is_asked_for_once_although_its_page_is_read_twice():
    topics = [topic(n, at=NOON + n * HOUR) for n in range(1, 71)]
    with forum(*topics) as there:
        found(there)
        assert all(len(asked(there, f"/t/{n}.json")) == 1 for n in range(1, 71))


# Posts


def test_a_long_topic_is_read_whole_then_only_what_may_be_new():
    """A day between two posts."""
    posts = [post(n, 7, NOON + n * DAY, "sam") for n in range(2, 171)]
    long = topic(7, *posts, bumped_at=z(NOON + 170 * DAY))
    with forum(long) as there:
        _, done = found(there, until=UNTIL)
        assert len(done.items) == 170
        assert len(asked(there, "/t/7/posts.json")) == 3
        there.posts[7].append(post(171, 7, NOON + 171 * DAY, "sam"))
        long[0]["bumped_at"] = z(NOON + 171 * DAY)
        _, done = found(there, done)
        assert "7#7171" in done.items
        assert len(asked(there, "/t/7/posts.json")) == 4


def test_posts_are_read_whole_as_long_as_no_run_came_to_its_end():
    posts = [post(n, 7, NOON + n * DAY, "sam") for n in range(2, 171)]
    with forum(topic(3), topic(7, *posts, bumped_at=z(NOON + 170 * DAY))) as there:
        killed = Read()
        walk = there.source().fetch(None, UNTIL)
        for item in walk:
            if hasattr(item, "cursor"):
                killed.cursor = {"topics": {"at": z(NOON)}}
                break
        walk.close()
        _, done = found(there, killed)
        assert len([i for i in done.items if i.startswith("7")]) == 170


def test_a_topic_that_is_deleted_while_it_is_listed_is_passed_over():
    with forum(topic(7), topic(8)) as there:
        ask = there.answer
        there.answer = lambda request: Answer({"errors": []}, 404) if request.path == "/t/7.json" else ask(request)
        assert list(found(there)[0]) == ["8"]


def test_one_odd_topic_is_quarantined_alone():
    odd = topic(9)
    odd[0]["bumped_at"] = "soon"
    with forum(topic(7), topic(8), odd) as there:
        ask = there.answer
        there.answer = lambda request: Answer({"id": 7}) if request.path == "/t/7.json" else ask(request)
        source = there.source()
        walk = list(source.fetch(None, UNTIL))
    refused = [one for one in walk if isinstance(one, Rejected)]
    assert {one.where.rpartition(" ")[2] for one in refused} == {"7", "9"}
    assert {item.native_id for item in walk if hasattr(item, "native_id")} == {"8"}


def test_one_odd_post_is_quarantined_alone():
    odd = [answer(2, 7, created_at=None), answer(3, 7, cooked=5), {"id": 1}, answer(4, 7)]
    with forum(topic(7, *odd)) as there:
        made, done = found(there)
    assert list(made) == ["7", "7#7004"]
    assert [one.where.rpartition(" ")[2] for one in done.rejected] == ["7#7002", "7#7003"]


def test_topics_of_other_categories_are_not_taken_when_the_filter_passes_over_a_slug():
    with forum(topic(7), topic(8, category_id=7), topic(9, category_id=9)) as there:
        ask = there.answer
        below = {"id": 9, "name": "Uploads", "slug": "up", "parent_category_id": 5}

        def answered(request):
            given = ask(request)
            if request.path == "/site.json":
                given.body["categories"].append(below)
            elif request.path == "/filter.json":
                given.body["topic_list"]["topics"] = [dict(item) for item in there.items]
            return given

        there.answer = answered
        made, _ = found(there)
    assert {i: one.product_area for i, one in made.items()} == {"7": "Bugs", "9": "Uploads"}


# Access


def test_keys_of_administrators_of_users_and_none(monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", "secret-key")
    place = {"url": "https://forum.example.org", "token_env": "FAKE_TOKEN"}
    sent = {"Accept": "application/json"}
    assert Discourse(**place, user="reader").headers() == {**sent, "Api-Key": "secret-key", "Api-Username": "reader"}
    assert Discourse(**place).headers() == {**sent, "User-Api-Key": "secret-key"}
    assert Discourse(url="https://forum.example.org").headers() == sent
    assert Discourse(**place, category="a:b").origin == "forum.example.org/a:b"


def test_checking_says_when_something_was_written():
    with forum(topic(7)) as there:
        assert there.source(name="forum").check() == "forum: last activity 2026-03-02 12:00 UTC, 2 categories"


def test_a_category_that_is_not_there_is_no_empty_forum():
    with forum(topic(7)) as there:
        source = there.source(category="bugs:uplaods")
        for call in (source.check, lambda: list(source.fetch(None, UNTIL))):
            with pytest.raises(SourceError, match="no category 'bugs:uplaods'"):
                call()


def test_a_forum_that_wants_a_log_in_says_so():
    with (
        forum(topic(7)) as there,
        pytest.raises(SourceError, match=r"see it\?; a forum that asks for a log-in needs a key"),
    ):
        there.source(user="somebody-else").check()


@pytest.mark.parametrize(
    ("options", "told"), [({"category": "a b"}, "slug of its address"), ({"user": "reader"}, "user needs token_env")]
)
def test_options_that_cannot_be_right_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        Discourse(url="https://forum.example.org", **options)


@pytest.mark.parametrize("part", ['<a class="mention"', '<aside class="quote">'])
def test_a_broken_post_takes_no_time(part):
    """A square of its length would be minutes."""
    with forum(topic(7, answer(2, 7, cooked=part * 20_000 + "</aside>" * 20_000))) as there:
        began = time.process_time()
        found(there)
    assert time.process_time() - began < 2
