"""Topics that last: ids stay, new topics are born, and what people decided holds whatever a new fit says."""

from __future__ import annotations

import datetime as dt
import functools

import numpy as np
import polars as pl
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_lib import records
from feedback_lib.analysis import registry
from feedback_lib.analysis.registry import Decision

START = dt.datetime(2026, 9, 7, tzinfo=dt.UTC)
SUBJECTS = ("printer", "calendar", "password", "startup", "folder", "billing", "search", "export")
EACH, WEEKS = 8, 4  # texts of a subject in a week
EMPTY = records.frame("topics", [])


class World:
    """Texts about subjects, week by week; ``first`` is the week from which on a subject is spoken of."""

    def __init__(self, first: dict[str, int] | None = None, weeks: int = WEEKS, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        centres = {s: rng.normal(size=48) for s in SUBJECTS}
        said = [
            (week, subject, n)
            for week in range(weeks)
            for n in range(EACH)
            for subject in SUBJECTS
            if week >= (first or {}).get(subject, 0)
        ]
        self.subjects = [subject for _, subject, _ in said]
        self.weeks = np.array([week for week, _, _ in said])
        self.uids = [f"{i * 7919 % 10**6:06d}{'ab' * 13}" for i in range(len(said))]
        self.texts = [f"the {subject} of team{n} breaks daily" for _, subject, n in said]
        vectors = np.stack([centres[s] / 6 + rng.normal(size=48) / 11 for s in self.subjects])
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.created = [START + dt.timedelta(weeks=week, minutes=i % 10_000) for i, (week, _, _) in enumerate(said)]
        self.created.sort()

    def run(self, week, previous=None, known=EMPTY, decisions=(), **more):
        n = int((self.weeks <= week).sum())
        at = START + dt.timedelta(weeks=week + 1)
        return registry.update(
            self.uids[:n], self.texts[:n], self.vectors[:n], self.created[:n], previous or {}, known, decisions,
            as_of=at, run_id=f"run-{week}", **more,
        )  # fmt: skip

    def after(self, week, made, decisions=(), **more):
        """The run of a week after the one that made something."""
        return self.run(week, self.kept(made), made.topics, decisions, **more)

    def kept(self, made):
        return {u: t for u, t in zip(self.uids, made.topic_ids, strict=False) if t is not None}

    def of(self, made, subject, week=None):
        """The topics that texts of a subject have, most frequent first."""
        ids = [
            t
            for t, s, w in zip(made.topic_ids, self.subjects, self.weeks, strict=False)
            if s == subject and week in (None, w)
        ]
        return sorted(set(ids), key=lambda t: (-ids.count(t), t or 0))


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def first(world):
    return world.run(1)


def row(made, topic):
    return made.topics.row(by_predicate=pl.col("topic_id") == topic, named=True)


def test_the_first_run_finds_the_subjects(world, first):
    assert [len(world.of(first, s)) for s in SUBJECTS] == [1] * len(SUBJECTS)
    assert first.topics["topic_id"].to_list() == list(range(1, len(SUBJECTS) + 1))
    topic = row(first, world.of(first, "printer")[0])
    assert "printer" in topic["name"]
    assert topic["size"] == 2 * EACH
    assert topic["born_on"] == START.date()
    assert np.linalg.norm(topic["centroid"]) == pytest.approx(1, abs=1e-4)


def test_unchanged_texts_keep_their_topic_and_new_ones_find_theirs(world, first):
    second = world.after(2, first)
    assert second.topic_ids[: len(first.topic_ids)] == first.topic_ids
    assert [world.of(second, s) for s in SUBJECTS] == [world.of(first, s) for s in SUBJECTS]
    assert second.topics["name"].to_list() == first.topics["name"].to_list()


def test_texts_can_be_assigned_without_a_fit(world, first):
    daily = world.after(2, first, refit=False)
    assert daily.topic_ids == world.after(2, first).topic_ids
    assert daily.proposals == ()


def test_a_late_subject_is_a_new_topic_within_two_weeks():
    world = World(first={"export": 2})
    made = world.run(1)
    for week in (2, 3):
        made = world.after(week, made)
    (late,) = world.of(made, "export", week=3)
    assert late not in {t for s in SUBJECTS if s != "export" for t in world.of(made, s)}
    assert late == len(SUBJECTS)
    assert row(made, late)["born_on"] >= (START + dt.timedelta(weeks=2)).date()


def test_a_subject_that_many_speak_of_this_week_is_no_new_topic(world, first):
    loud = [i for i, s in enumerate(world.subjects) if s == "printer" and world.weeks[i] == 3] * 5
    quiet = int((world.weeks <= 2).sum())
    order = [*range(quiet), *loud]
    at = START + dt.timedelta(weeks=4)
    made = registry.update(
        [f"{world.uids[i][:20]}{n:06d}" if n >= quiet else world.uids[i] for n, i in enumerate(order)],
        [world.texts[i] for i in order], world.vectors[order], [world.created[i] for i in order],
        world.kept(first), first.topics, as_of=at, run_id="loud",
    )  # fmt: skip
    assert made.topics.height == first.topics.height
    assert set(made.topic_ids[quiet:]) == set(world.of(first, "printer"))


def test_a_text_unlike_everything_has_no_topic(world, first):
    n = int((world.weeks <= 1).sum())
    stranger = np.zeros((1, 48), np.float32)
    stranger[0, int(np.abs(world.vectors).mean(axis=0).argmin())] = 1
    made = registry.update(
        [*world.uids[:n], "f" * 32], [*world.texts[:n], "zyx"], np.vstack([world.vectors[:n], stranger]),
        [*world.created[:n], world.created[n]], world.kept(first), first.topics, as_of=START, run_id="x",
    )  # fmt: skip
    assert (made.topic_ids[-1], made.scores[-1]) == (None, None)


def test_scores_lie_between_0_and_1_and_stand_beside_topics_only(first):
    assert all((t is None) == (s is None) for t, s in zip(first.topic_ids, first.scores, strict=True))
    assert all(0 <= s <= 1 for s in first.scores if s is not None)


def test_the_same_input_is_the_same_registry_in_one_thread_or_two(world, first):
    made = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            made.append(world.after(3, first))
    assert made[0].topic_ids == made[1].topic_ids
    assert made[0].scores == made[1].scores
    assert made[0].topics.equals(made[1].topics)
    assert made[0].proposals == made[1].proposals


def test_a_second_run_over_the_same_texts_changes_nothing(world, first):
    second = world.after(1, first)
    assert second.topic_ids == first.topic_ids
    assert second.topics.drop("run_id").equals(first.topics.drop("run_id"))


def test_nobody_has_said_anything():
    made = registry.update([], [], np.empty((0, 48), np.float32), [], {}, EMPTY, as_of=START, run_id="x")
    assert (made.topic_ids, made.topics.height, made.proposals) == ([], 0, ())


def test_a_window_without_texts_keeps_the_topics(first):
    nothing = np.empty((0, 48), np.float32)
    made = registry.update([], [], nothing, [], {}, first.topics, as_of=START, run_id="x")
    assert made.topics["topic_id"].equals(first.topics["topic_id"])
    assert made.topics["centroid"].equals(first.topics["centroid"])
    assert set(made.topics["size"]) == {0}


def test_as_many_texts_as_vectors_are_asked_for():
    with pytest.raises(ValueError, match="1 uids, 1 texts, 0 vectors"):
        registry.update(["a"], ["a"], np.empty((0, 4), np.float32), [START], {}, EMPTY, as_of=START, run_id="x")


# --- a young registry -------------------------------------------------------------------------------------------------


@functools.cache
def lumped():
    """A registry that was fitted on too little: five topics hold two subjects together with another."""
    world = World()
    made = world.run(1)
    ids = {s: world.of(made, s)[0] for s in SUBJECTS}
    one, other = ids["printer"], ids["calendar"]
    previous = {u: one if t == other else t for u, t in world.kept(made).items()}
    known = made.topics.filter(pl.col("topic_id") != other)
    return world, previous, known, one


def young(week, decisions=()):
    world, previous, known, _ = lumped()
    return world.run(week, previous, known, decisions)


def test_a_young_registry_splits_what_a_new_fit_puts_apart_and_few_texts_change():
    world, previous, known, one = lumped()
    made, changed = None, []
    for week in (2, 3):
        made = world.run(week, previous, known)
        now = world.kept(made)
        changed.append(sum(now.get(u) != t for u, t in previous.items()) / len(previous))
        previous, known = now, made.topics
    assert max(changed) <= 0.05
    late = world.of(made, "calendar", week=3)
    assert late != [one] == world.of(made, "printer", week=3)
    assert row(made, late[0])["parents"] == [one]


def test_a_split_that_a_run_makes_is_told():
    *_, one = lumped()
    made = young(2)
    (new,) = set(made.topic_ids) - set(lumped()[1].values()) - {None}
    assert f"topic {one} was split: {new}" in made.notes


@pytest.mark.parametrize("kind", ["pin", "rename", "keep"])
def test_what_people_shaped_is_not_split_by_a_run(kind):
    _, previous, _, one = lumped()
    decision = Decision(kind=kind, topics=(one,), name="Paper", proposal="split", evidence=1000)
    made = young(2, [decision])
    assert not [note for note in made.notes if "was split" in note]
    assert {made.topic_ids[i] for i, u in enumerate(lumped()[0].uids[: len(made.topic_ids)]) if u in previous} == set(
        previous.values()
    )


def test_no_merge_is_proposed_of_a_topic_that_was_just_born():
    world = World(first={"export": 2})
    made = world.after(2, world.run(1))
    born = set(world.of(made, "export", week=2))
    assert born
    assert not [p for p in made.proposals if p.kind == "merge" and p.about & born]


# --- decisions --------------------------------------------------------------------------------------------------------


def of_two(world, made, *subjects):
    return [world.of(made, s)[0] for s in subjects]


def test_a_name_given_by_a_person_stays(world, first):
    (topic,) = of_two(world, first, "printer")
    named = [Decision(kind="rename", topics=(topic,), name="Paper", by="ana")]
    second = world.after(2, first, named)
    third = world.after(3, second, named)
    assert (row(third, topic)["name"], row(third, topic)["named_by"]) == ("Paper", "ana")
    taken_back = world.after(3, second)
    assert "printer" in row(taken_back, topic)["name"]
    assert row(taken_back, topic)["named_by"] is None


def test_merged_topics_are_one_from_then_on(world, first):
    one, other = of_two(world, first, "printer", "calendar")
    merged = [Decision(kind="merge", topics=(other,), into=one)]
    third = world.after(3, world.after(2, first, merged), merged)
    assert world.of(third, "calendar") == world.of(third, "printer") == [one]
    assert row(third, one)["parents"] == [other]
    assert row(third, other)["retired_on"] is not None
    assert not [p for p in third.proposals if one in p.about and p.kind == "split" and p.evidence < EACH]


def test_a_new_fit_proposes_to_split_what_was_merged_unless_it_is_pinned(world, first):
    one, other = of_two(world, first, "printer", "calendar")
    merged = [Decision(kind="merge", topics=(other,), into=one)]
    (split,) = world.after(2, first, merged).proposals
    assert (split.kind, split.topics) == ("split", (one,))
    assert "calendar" in split.reason
    assert world.after(2, first, [*merged, Decision(kind="pin", topics=(one,))]).proposals == ()


def test_a_rejected_proposal_comes_back_only_when_the_evidence_grew(world, first):
    one, other = of_two(world, first, "printer", "calendar")
    merged = [Decision(kind="merge", topics=(other,), into=one)]
    (split,) = world.after(2, first, merged).proposals
    kept = [*merged, Decision(kind="keep", proposal="split", topics=(one,), evidence=split.evidence)]
    assert world.after(2, first, kept).proposals == ()
    weaker = [*merged, Decision(kind="keep", proposal="split", topics=(one,), evidence=split.evidence // 2)]
    assert len(world.after(2, first, weaker).proposals) == 1


def test_an_accepted_split_is_done_once_and_stays(world, first):
    one, other = of_two(world, first, "printer", "calendar")
    merged = [Decision(kind="merge", topics=(other,), into=one)]
    second = world.after(2, first, merged)
    (proposal,) = second.proposals
    new = second.topics.height + 1
    cut = [*merged, Decision(kind="split", topics=(one,), parts=((new, proposal.parts[0]),))]
    third = world.after(2, second, cut)
    assert {world.of(third, "printer")[0], world.of(third, "calendar")[0]} == {one, new}
    assert len(world.of(third, "printer")) == len(world.of(third, "calendar")) == 1
    assert row(third, new)["parents"] == [one]
    fourth = world.after(3, third, cut)
    assert fourth.topic_ids[: len(third.topic_ids)] == third.topic_ids
    assert world.of(fourth, "calendar") == world.of(third, "calendar")


def test_two_that_a_fit_finds_to_be_one_are_proposed_for_merging_unless_kept_apart(world, first):
    (one,) = of_two(world, first, "printer")
    members = [u for u, t in zip(world.uids, first.topic_ids, strict=False) if t == one]
    new = first.topics.height + 1
    cut = [Decision(kind="split", topics=(one,), parts=((new, tuple(members[:EACH])),))]
    second = world.after(2, first, cut)
    (merge,) = second.proposals
    assert (merge.kind, merge.about) == ("merge", {one, new})
    assert world.after(2, second, [*cut, Decision(kind="apart", topics=(one, new))]).proposals == ()


def test_a_moved_text_stays_where_it_was_put_and_the_later_word_wins(world, first):
    one, other = of_two(world, first, "printer", "calendar")
    text = world.uids[first.topic_ids.index(one)]
    moved = [Decision(kind="move", texts=(text[:10],), into=other)]
    second = world.after(2, first, moved)
    assert second.topic_ids[world.uids.index(text)] == other
    both = world.after(3, second, [*moved, Decision(kind="move", texts=(text[:10],), into=None, line=7)])
    assert both.topic_ids[world.uids.index(text)] is None
    assert any("line 7" in note and "moved before" in note for note in both.notes)


def test_a_forbidden_subject_has_no_topic_and_never_comes_back(world, first):
    (topic,) = of_two(world, first, "printer")
    forbidden = [Decision(kind="forbid", topics=(topic,))]
    made = first
    for week in (2, 3, 3):
        made = world.after(week, made, forbidden)
    assert world.of(made, "printer") == [None]
    assert made.topics.height == first.topics.height
    assert row(made, topic)["retired_on"] is not None


def test_a_retired_topic_keeps_its_texts_and_takes_no_new_ones(world, first):
    (topic,) = of_two(world, first, "printer")
    made = world.after(2, first, [Decision(kind="retire", topics=(topic,))])
    assert world.of(made, "printer", week=1) == [topic]
    assert topic not in world.of(made, "printer", week=2)


def test_a_topic_nobody_speaks_of_is_proposed_for_retirement_and_stays_until_then():
    world = World(weeks=11)
    early = world.run(1)
    (topic,) = of_two(world, early, "printer")
    silent = [i for i in range(len(world.uids)) if world.subjects[i] != "printer" or world.weeks[i] <= 1]
    made = registry.update(
        [world.uids[i] for i in silent], [world.texts[i] for i in silent], world.vectors[silent],
        [world.created[i] for i in silent], world.kept(early), early.topics, as_of=START, run_id="x",
    )  # fmt: skip
    (retire,) = [p for p in made.proposals if p.kind == "retire"]
    assert (retire.topics, retire.evidence) == ((topic,), 9)
    assert row(made, topic)["retired_on"] is None


def test_unknown_topics_and_texts_are_reported_and_nothing_else_happens(world, first):
    odd = [Decision(kind="pin", topics=(99,), line=3), Decision(kind="move", texts=("feedbeef",), into=1)]
    made = world.after(2, first, odd)
    assert made.notes == (
        "pin in line 3: there is no topic 99; nothing was done",
        "text feedbeef is not among the texts of this run",
    )
    assert made.topic_ids == world.after(2, first).topic_ids


def test_a_new_store_recognises_topics_by_their_examples(world, first):
    known = first.topics.with_columns(
        topic_id=pl.col("topic_id") + 20, centroid=pl.lit([], dtype=pl.List(pl.Float64)), least=None
    )
    again = world.run(1, known=known)
    assert [t and t + 20 for t in first.topic_ids] == again.topic_ids


def test_another_encoder_changes_no_topic_of_a_text(world, first):
    n = int((world.weeks <= 2).sum())
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(64, 48)))[0].T.astype(np.float32)
    made = registry.update(
        world.uids[:n], world.texts[:n], (world.vectors @ turn)[:n], world.created[:n], world.kept(first),
        first.topics, as_of=START, run_id="x",
    )  # fmt: skip
    assert made.topic_ids == world.after(2, first).topic_ids


@functools.cache
def whole_world():
    world = World()
    return world, world.run(1)


TOPIC = st.integers(1, len(SUBJECTS))
DECISION = st.one_of(
    st.builds(lambda t: Decision(kind="rename", topics=(t,), name="mine"), TOPIC),
    st.builds(lambda a, b: Decision(kind="merge", topics=(a,), into=b), TOPIC, TOPIC),
    st.builds(lambda i, t: Decision(kind="move", texts=(whole_world()[0].uids[i],), into=t), st.integers(0, 99), TOPIC),
    st.builds(lambda k, t: Decision(kind=k, topics=(t,)), st.sampled_from(["pin", "forbid", "retire", "unpin"]), TOPIC),
    st.builds(
        lambda t, i: Decision(kind="split", topics=(t,), parts=((50 + t, (whole_world()[0].uids[i],)),)),
        TOPIC,
        st.integers(0, 99),
    ),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(DECISION, max_size=5))
def test_whatever_is_decided_ids_are_never_used_again_and_deciding_twice_is_deciding_once(made):
    world, start = whole_world()
    once = world.after(2, start, made, refit=False)
    twice = world.after(2, start, [*made, *made], refit=False)
    assert twice.topic_ids == once.topic_ids
    again = world.after(2, once, made, refit=False)
    assert set(again.topics["topic_id"]) == set(once.topics["topic_id"]) >= set(start.topics["topic_id"])
    over = set(once.topics.filter(pl.col("retired_on").is_not_null())["topic_id"])
    newcomers = range(len(start.topic_ids), len(once.topic_ids))
    assert not over & {once.topic_ids[i] for i in newcomers}
    assert {t for t in once.topic_ids if t is not None} <= set(once.topics["topic_id"])
