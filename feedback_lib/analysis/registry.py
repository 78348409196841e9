"""The topics that last: a text keeps its topic from week to week, new topics are born, people's decisions hold."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from feedback_lib import records
from feedback_lib.analysis import naming, topics

if TYPE_CHECKING:
    import polars as pl

DecisionKind = Literal["rename", "merge", "split", "move", "pin", "unpin", "forbid", "apart", "retire", "keep"]
ProposalKind = Literal["split", "merge", "retire"]
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Chosen on banking77, Stack Overflow titles and a mixture of both, cut into eight weeks: see benchmarks/registry.py.
NEAREST = 10  # neighbours of a text that have a say in its topic
CLOSEST = 10  # neighbours that say whether a text is of something new
NEWEST_DAYS = (14, 7, 3, 1)  # a topic is born of what was said in these days: the most that are not most of the window
NOVEL, NOVEL_MEAN = 0.65, 0.75  # how far above chance the share of new neighbours of a newborn topic's texts is
BORN = 0.3  # a newborn topic is at least so far from all others, as a share of what most topics are
TWINS = 1.0  # groups born together are one when they are nearer than this, in the same measure
APART, USUAL = 0.12, 0.25  # most topics: all but this share of them; APART where few are known
LEAVES_OUT, SLACK = 0.02, 0.1  # `least` is the score that this share of members does not reach, less the slack
DORMANT_WEEKS = 8  # nobody for so long, and retirement is proposed
# While the last week is more than YOUNG of the window, a run corrects topics that were fitted on little: at most
# CHANGED of the texts in a week, by groups of CELL texts or more, and of a part too dear at once at least PART.
YOUNG, CHANGED, CELL, PART = 0.07, 0.045, 3, 0.3
FINER = 1.0  # no topic is split when there are so many times the groups of the new fit
OWNED = 0.6  # a part is a new topic when it is at least this share of a group of the new fit
HELD_WEEKS = 3  # a topic this young is not proposed for merging: that would contradict its birth
GREW = 1.5  # a rejected proposal comes back when so many times the texts speak for it
_VECTOR, _CENTRE = 2048, 2**20  # steps of the grids: products of whole numbers are exact, whatever the threads
_BLOCK = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """One thing people decided about topics; later ones win over earlier ones.

    Attributes:
        kind: ``rename`` (topics[0], name) · ``merge`` (topics, into) · ``split`` (topics[0], parts) · ``move`` (texts,
            into; None: to no topic) · ``pin``, ``unpin``, ``forbid``, ``retire`` (topics) · ``apart`` (topics) ·
            ``keep`` (a proposal turned down: proposal, topics, evidence).
        topics: The topics it is about.
        into: The topic that stays or receives.
        name: The new name.
        texts: uids, or beginnings of uids that are unique.
        parts: The new id of each part and texts that show it; what is left keeps the id.
        proposal: Kind of the proposal turned down.
        evidence: Its evidence then.
        by: Who decided.
        on: When.
        reason: Why.
        line: Where it stands in the file.
    """

    kind: DecisionKind
    topics: tuple[int, ...] = ()
    into: int | None = None
    name: str | None = None
    texts: tuple[str, ...] = ()
    parts: tuple[tuple[int, tuple[str, ...]], ...] = ()
    proposal: ProposalKind | None = None
    evidence: int = 0
    by: str | None = None
    on: dt.date | None = None
    reason: str | None = None
    line: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a run would change and does not, until somebody accepts it.

    ``evidence`` counts the texts that speak for it (weeks of silence for ``retire``); ``parts`` of a split are texts
    that show each part to be cut off.
    """

    kind: ProposalKind
    topics: tuple[int, ...]
    into: int | None = None
    parts: tuple[tuple[str, ...], ...] = ()
    evidence: int
    reason: str

    @property
    def about(self) -> frozenset[int]:
        """Every topic it would change."""
        return frozenset(t for t in (*self.topics, self.into) if t is not None)


@dataclasses.dataclass(frozen=True)
class Updated:
    """The registry after a run.

    Attributes:
        topic_ids: The topic of each text; None for none.
        scores: 0–1, cosine of each text to the centre of the other members of its topic; None without a topic.
        topics: Table ``topics``: every topic ever, retired ones too.
        proposals: Open proposals, most evidence first.
        notes: Decisions that could not be followed, and why.
    """

    topic_ids: list[int | None]
    scores: list[float | None]
    topics: pl.DataFrame
    proposals: tuple[Proposal, ...]
    notes: tuple[str, ...]


def update(
    uids: Sequence[str],
    texts: Sequence[str],
    vectors: topics.Vectors,
    created: Sequence[dt.datetime],
    previous: Mapping[str, int],
    known: pl.DataFrame,
    decisions: Sequence[Decision] = (),
    options: topics.TopicOptions | None = None,
    *,
    as_of: dt.datetime,
    run_id: str,
    refit: bool = True,
) -> Updated:
    """Give each text of a window its topic, and bring the registry up to date.

    A text that has a topic keeps it. A new one goes where its nearest neighbours and the nearest centre point to, if
    its cosine to that centre reaches the topic's own ``least``. With ``refit``, texts that resemble only texts as new
    as themselves, or fit nothing, are grouped: a group that stands as far from every topic as known topics stand from
    each other is a new topic at once. The window is also fitted anew, and where that fit disagrees with the registry
    (a topic that falls in parts, two that are one) a proposal says so. The first run is a fit. While the window grows
    fast, topics fitted on little text are corrected towards the new fit without being asked, a few texts a week; topics
    that people pinned or shaped are left alone.

    Args:
        uids: n uids of what people said, oldest first.
        texts: n clean texts in English, or their English glosses; only for names.
        vectors: Shape (n, d), each of length 1.
        created: n times.
        previous: uid → topic, of the texts that have not changed since; others are new. May hold more uids.
        known: Table ``topics`` as it stood. A topic without centroid is recognised by its examples.
        decisions: What people decided, all of it, each time.
        options: How topics are fitted.
        as_of: The moment the run pretends is now.
        run_id: The run.
        refit: False only assigns: no topic is born and nothing is proposed.

    Returns:
        See `Updated`; the same for the same input, whatever the number of threads.
    """
    work = _Work(uids, texts, vectors, created, known, decisions, options or topics.TopicOptions())
    work.recall(previous)
    if not work.live and not work.recognise():
        return work.result([], as_of, run_id)
    work.cut()
    work.assign()
    if refit:
        work.bear(work.allowed(as_of))
        work.refine(work.allowed(as_of))
    work.move()
    return work.result(work.proposals() if refit else [], as_of, run_id)


# --- what people decided ----------------------------------------------------------------------------------------------


class _Book:
    """Decisions read in order into what holds now."""

    def __init__(self, decisions: Sequence[Decision], known: Iterable[int]) -> None:
        self.names: dict[int, tuple[str, str | None]] = {}
        self.merged: dict[int, int] = {}
        self.parts: dict[int, tuple[int, tuple[str, ...]]] = {}  # new topic → what it is cut from, texts that show it
        self.moves: dict[str, tuple[int | None, Decision]] = {}
        self.pinned: set[int] = set()
        self.forbidden: set[int] = set()
        self.retired: set[int] = set()
        self.apart: set[frozenset[int]] = set()
        self.kept: dict[tuple[str, frozenset[int]], int] = {}
        self.notes: list[str] = []
        there = set(known)
        for d in decisions:
            there |= {part for part, _ in d.parts}
            missing = sorted({t for t in (*d.topics, d.into) if t is not None} - there)
            if missing:
                self.notes.append(f"{_place(d)}: there is no topic {', '.join(map(str, missing))}; nothing was done")
            else:
                self._take(d)

    def _take(self, d: Decision) -> None:
        if d.kind == "rename" and d.name:
            self.names[d.topics[0]] = d.name, d.by
        elif d.kind == "merge" and d.into is not None:
            self.merged |= {t: d.into for t in d.topics if t != d.into and self.now(d.into) != t}
        elif d.kind == "split":
            self.parts |= {part: (d.topics[0], shown) for part, shown in d.parts}
        elif d.kind == "move":
            for text in d.texts:
                if text in self.moves and self.moves[text][0] != d.into:
                    self.notes.append(f"{_place(d)}: text {text[:8]} was moved before; this later decision holds")
                self.moves[text] = d.into, d
        elif d.kind in ("pin", "unpin"):
            self.pinned = self.pinned | set(d.topics) if d.kind == "pin" else self.pinned - set(d.topics)
        elif d.kind == "forbid":
            self.forbidden |= set(d.topics)
        elif d.kind == "retire":
            self.retired |= set(d.topics)
        elif d.kind == "apart":
            self.apart |= {frozenset((a, b)) for a in d.topics for b in d.topics if a < b}
        elif d.kind == "keep" and d.proposal:
            self.kept[d.proposal, frozenset(d.topics)] = d.evidence

    @property
    def shaped(self) -> set[int]:
        """Topics that people made what they are: no run corrects them."""
        kept = {t for kind, about in self.kept if kind == "split" for t in about}
        received = {into for into, _ in self.moves.values() if into is not None}
        cut = {source for source, _ in self.parts.values()}
        merged = {self.now(t) for t in self.merged}
        return self.pinned | kept | received | cut | merged | set(self.parts) | set(self.names)

    def now(self, topic: int) -> int:
        """The topic that a topic has become."""
        while topic in self.merged:
            topic = self.merged[topic]
        return topic

    def over(self, topic: int) -> bool:
        """Whether a topic takes no texts any more."""
        return topic in self.merged or topic in self.forbidden or topic in self.retired


def _place(decision: Decision) -> str:
    return f"{decision.kind} in line {decision.line}" if decision.line else decision.kind


# --- one run ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Topic:
    row: Mapping[str, Any] | None  # of the table, when it was there
    parents: frozenset[int]
    centre: Floats | None = None  # whole numbers
    least: float = 0.0
    cut: bool = False  # by this run, from others


class _Work:
    """The state of one `update`. ``labels`` holds topic ids, -1 for none; of a forbidden topic, too, until the end."""

    def __init__(
        self,
        uids: Sequence[str],
        texts: Sequence[str],
        vectors: topics.Vectors,
        created: Sequence[dt.datetime],
        known: pl.DataFrame,
        decisions: Sequence[Decision],
        options: topics.TopicOptions,
    ) -> None:
        if not len(uids) == len(texts) == len(vectors) == len(created):
            raise ValueError(f"{len(uids)} uids, {len(texts)} texts, {len(vectors)} vectors, {len(created)} times")
        self.uids, self.texts, self.vectors, self.options = list(uids), texts, vectors, options
        self.grid = np.rint(vectors * _VECTOR).astype(np.float32)
        squares = np.einsum("ij,ij->i", self.grid, self.grid).astype(np.float64)  # whole numbers below 2^24: exact
        self.lengths = np.maximum(np.sqrt(squares), 1.0)
        self.at = np.array([records.micros(c) for c in created], np.int64)
        self.created = created
        self.labels: Ids = np.full(len(self.uids), -1, np.int64)
        rows = {int(r["topic_id"]): r for r in known.iter_rows(named=True)}
        self.book = _Book(decisions, rows)
        self.notes = self.book.notes
        self.topics = {
            # a centre of another encoder, seen by its length, says nothing about these vectors
            t: _Topic(
                r,
                frozenset(r["parents"] or ()),
                _centre(r["centroid"]) if vectors.shape[-1] == len(r["centroid"] or ()) else None,
                r["least"] or 0.0,
            )
            for t, r in rows.items()
        }
        for source, target in self.book.merged.items():
            self.topics[self.book.now(target)].parents |= {source}
        self.next_id = max([0, *rows, *self.book.parts]) + 1
        self.new = np.ones(len(self.uids), bool)
        self.before, self.old = self.labels, ~self.new  # after `recall`: the topics that texts had; who was here
        self.last = max((r["updated_at"] for r in rows.values() if r["updated_at"]), default=None)

    # the topics there are

    @property
    def live(self) -> list[int]:
        """Topics that take texts."""
        return [t for t, topic in self.topics.items() if topic.centre is not None and not self._over(t)]

    def _over(self, topic: int) -> bool:
        row = self.topics[topic].row
        # retired by an older version of this package: nobody decided it, and there is no centre to go by
        lost = row is not None and row["retired_on"] is not None and not row["centroid"]
        return lost or self.book.over(topic)

    def _taboo(self) -> list[int]:
        return [t for t in sorted(self.book.forbidden) if self.topics[t].centre is not None]

    def _members(self, topic: int) -> Ids:
        return np.flatnonzero(self.labels == topic)

    def _measure(self, topic: int) -> None:
        """Take the centre and ``least`` of a topic from its members."""
        members = self._members(topic)
        if not len(members):
            return
        total = self.grid[members].sum(axis=0, dtype=np.float64)
        self.topics[topic].centre = np.rint(total / max(float(np.linalg.norm(total)), 1e-9) * _CENTRE)
        if len(members) >= self.options.min_size:
            scores = _to_others(self.grid[members].astype(np.float64), total)
            usual = float(np.quantile(scores, LEAVES_OUT))
            self.topics[topic].least = round(max(usual - SLACK, self.options.weak), 6)

    def _found(self, members: Ids, topic: int | None = None) -> int:
        """Make a group a topic; a new one unless it is known."""
        if topic is None:
            topic, self.next_id = self.next_id, self.next_id + 1
            self.topics[topic] = _Topic(None, frozenset())
        self.labels[members] = topic
        self._measure(topic)
        return topic

    # the steps

    def recall(self, previous: Mapping[str, int]) -> None:
        """Texts that have a topic keep it."""
        for i, uid in enumerate(self.uids):
            before = self.book.now(previous.get(uid, -1))
            if before in self.topics:
                self.labels[i], self.new[i] = before, False
        counts = dict(zip(*(a.tolist() for a in np.unique(self.labels, return_counts=True)), strict=True))
        for t, topic in self.topics.items():
            if counts.get(t, 0) >= (self.options.min_size if topic.centre is not None else 1):
                self._measure(t)
        self.before = self.labels.copy()
        self.old = ~self.new
        if self.last:  # what an earlier run saw and gave no topic: that it gets one is a change, too
            self.old |= self.at <= records.micros(self.last)

    def recognise(self) -> bool:
        """Fit the window; a group with most examples of a known topic is that topic, others are new."""
        groups = self.groups
        group_of = dict(zip(self.uids, groups.tolist(), strict=True))
        claims: list[tuple[int, int, int]] = []
        for t, topic in self.topics.items():
            if topic.row and topic.row["retired_on"] and not self.book.over(t):
                continue
            shown = [group_of.get(uid, -1) for uid in (topic.row or {}).get("examples") or ()]
            best = max(sorted(set(shown) - {-1}), key=shown.count, default=-1)
            if best >= 0 and 2 * shown.count(best) > len(shown):
                claims.append((-shown.count(best), self.book.now(t), best))
        owner: dict[int, int] = {}
        for _, t, group in sorted(claims):
            owner.setdefault(group, t)
        for group in range(int(groups.max(initial=-1)) + 1):
            members = np.flatnonzero((groups == group) & (self.labels < 0))
            back = (
                group not in owner and self._away(members, self._taboo()).min() < BORN * APART if len(members) else True
            )
            if not back:
                self._found(members, owner.get(group))
        return bool(self.live)

    def cut(self) -> None:
        """Carry out splits that were decided and are not yet done."""
        place = _Places(self.uids)
        by_source: dict[int, dict[int, list[int]]] = {}
        for part, (source, shown) in self.book.parts.items():
            if part in self.topics:
                continue
            seeds = place.of(shown, self.notes)
            if self._over(source) or not seeds:
                self.notes.append(f"topic {part} was not cut from {source}: none of its texts is here")
                continue
            by_source.setdefault(source, {})[part] = seeds
        for source, parts in by_source.items():
            members = np.union1d(self._members(source), np.concatenate([np.array(s) for s in parts.values()]))
            rest = np.setdiff1d(members, np.concatenate([np.array(s) for s in parts.values()]))
            ids = [source, *parts]
            groups = [rest, *(np.array(s) for s in parts.values())]
            for _ in range(5):
                centres = np.stack([_unit(self.grid[g].sum(axis=0, dtype=np.float64)) for g in groups])
                nearest = (self.grid[members].astype(np.float64) @ centres.T).argmax(axis=1)
                for i, seeds in enumerate(parts.values(), start=1):
                    nearest[np.isin(members, seeds)] = i
                groups = [members[nearest == i] for i in range(len(ids))]
            for topic, group in zip(ids, groups, strict=True):
                if topic != source:
                    self.topics[topic] = _Topic(None, frozenset({source}))
                self.labels[group] = topic
            for topic in ids:
                self._measure(topic)
                self.new[self._members(topic)] = False

    def assign(self) -> None:
        """Give texts without a topic the one they fit."""
        live, taboo = self.live, self._taboo()
        rows = np.flatnonzero(self.labels < 0)
        if not len(rows) or not live:
            return
        ids = np.array(live + taboo)
        least = np.array([self.topics[int(t)].least for t in ids])
        cosines = self._cosines(rows, live + taboo)
        best = cosines.argmax(axis=1)
        barred = (best >= len(live)) & (cosines[np.arange(len(rows)), best] >= least[best])
        self.labels[rows[barred]] = ids[best[barred]]
        rows, cosines = rows[~barred], cosines[~barred, : len(live)]
        best = (cosines + self._votes(rows, live)).argmax(axis=1)
        fits = cosines[np.arange(len(rows)), best] >= least[best]
        self.labels[rows[fits]] = ids[best[fits]]

    def allowed(self, as_of: dt.datetime) -> int:
        """How many texts may still change their topic in this run."""
        days = (as_of - self.last) / dt.timedelta(days=7) if self.last else 1.0
        moved = (self.labels != self.before) & self.old
        return int(CHANGED * min(max(days, 0.0), 1.0) * self.old.sum()) - int(moved.sum())

    def bear(self, allowed: int) -> None:
        """New topics out of texts that resemble what is as new as themselves, or that fit nothing."""
        rows = self._unsettled()
        if len(rows) < self.options.min_size:
            return
        new = np.zeros(len(self.labels), bool)
        new[rows] = True
        chance = float(new.mean())
        novelty = np.zeros(len(self.labels))
        novelty[rows] = (self._novelty(rows, new) - chance) / max(1 - chance, 1e-9)
        apart, old = self._apart(), self._settled_centres(new)
        found = []
        for group in range(int(self.groups.max(initial=-1)) + 1):
            inside = np.flatnonzero(self.groups == group)
            if (new[inside].mean() - chance) / max(1 - chance, 1e-9) >= NOVEL_MEAN:
                found.append(np.intersect1d(inside, rows))
        # a fit of everything overlooks what is small; among the novel it is large
        taken = np.concatenate(found) if found else np.empty(0, np.int64)
        chosen = np.setdiff1d(rows[novelty[rows] >= NOVEL], taken)
        groups = self._fit(chosen)
        found += [chosen[groups == g] for g in range(int(groups.max(initial=-1)) + 1)]
        found = self._together([m for m in found if len(m) >= self.options.min_size], TWINS * apart)
        for members in sorted(found, key=lambda m: (-len(m), int(m[0]))):
            # of an old topic that many speak of this week the neighbours are new, too; it lies near the old texts
            if self._away(members, [*old.values()]).min() < BORN * apart:
                continue
            young = [t for t in self.live if t not in old]
            away = self._away(members, young)
            if away.min() < TWINS * apart:
                twin = young[int(away.argmin())]
                self.labels[members[self.new[members] | (self.labels[members] < 0)]] = twin
                self._measure(twin)
            else:
                settled = members[~self.new[members] & (self.labels[members] >= 0)]
                if len(settled) > allowed:
                    members, settled = np.setdiff1d(members, settled), settled[:0]
                if len(members) >= self.options.min_size:
                    allowed -= len(settled)
                    self._gather(self._found(members), rows)

    def refine(self, allowed: int) -> None:
        """Bring topics nearer to the new fit while the window grows fast: parts that lie apart from the rest leave.

        Each group of the fit belongs to one topic at most, the one it shares most texts with. What other topics hold of
        the group goes there, or is a new topic; never most of a topic. Parts that cost few old texts and leave many
        come first; new texts cost nothing.
        """
        import scipy.optimize

        groups, shaped = self.groups, self.book.shaped
        ids = [t for t in self.live if t not in shaped and len(self._members(t))]
        k = int(groups.max(initial=-1)) + 1
        newest = self.at > self.at.max(initial=0) - records.WEEK_US
        if not ids or not k or newest.mean() < YOUNG or not self.last:
            return
        place = {t: i for i, t in enumerate(ids)}
        topic = np.array([place.get(t, -1) for t in self.labels.tolist()], np.int64)
        both = (topic >= 0) & (groups >= 0)
        shared, old = np.zeros((len(ids), k), np.int64), np.zeros((len(ids), k), np.int64)
        np.add.at(shared, (topic[both], groups[both]), 1)
        np.add.at(old, (topic[both & self.old], groups[both & self.old]), 1)
        pairs = zip(*scipy.optimize.linear_sum_assignment(shared * len(topic) + old, maximize=True), strict=True)
        owner = {int(g): int(t) for t, g in pairs if shared[t, g]}
        apart, sizes, full = self._apart(), shared.sum(axis=1), np.bincount(groups[groups >= 0], minlength=k)
        parts: list[tuple[float, int, int, list[int], Ids]] = []
        for g in range(k):
            target, inside = owner.get(g, -1), np.flatnonzero(both & (groups == g))
            sources, members, value = [], [], 0.0
            for t in np.flatnonzero((shared[:, g] >= CELL) & (2 * shared[:, g] <= sizes)).tolist():
                rows, rest = inside[topic[inside] == t], np.flatnonzero((topic == t) & (groups != g))
                kept_apart = target >= 0 and frozenset((ids[t], ids[target])) in self.book.apart
                gap = float(self._gaps([rows, rest])[0, 1])
                newborn = not self.topics[ids[t]].parents and self._held(ids[t])
                if t != target and not kept_apart and not newborn and gap >= apart:
                    sources.append(ids[t])
                    members.append(rows)
                    value += gap * len(rest) * len(rows)
            rows = np.concatenate(members) if members else np.empty(0, np.int64)
            if target >= 0 < len(rows) or len(rows) >= max(self.options.min_size, OWNED * full[g]):
                cost = int((self.old[rows]).sum())
                parts.append((value / (cost + 1), g, target, sources, rows))
        born = 0
        for _, _, target, sources, rows in sorted(parts, key=lambda p: (-p[0], p[1])):
            settled = rows[self.old[rows]]
            most = max(allowed, 0)
            moved = np.concatenate([rows[~self.old[rows]], settled[max(len(settled) - most, 0) :]])
            if len(settled) > most and len(moved) < max(PART * len(settled), self.options.min_size):
                continue
            if target < 0 and len(ids) + born >= FINER * k:
                continue
            allowed -= min(len(settled), most)
            born += target < 0
            if target >= 0:
                self._found(moved, ids[target])
            else:
                new = self._found(moved)
                self.topics[new].parents, self.topics[new].cut = frozenset(sources), True
                self.notes.append(f"topic {', '.join(map(str, sources))} was split: {new}")
            for t in sources:
                self._measure(t)

    @functools.cached_property
    def groups(self) -> Ids:
        """A new fit of the window: group of each text, -1 for none."""
        return topics.fit([""] * len(self.texts), self.vectors, self.options).labels

    def _fit(self, rows: Ids) -> Ids:
        """Groups of some texts; too few for a fit are one group."""
        if len(rows) < 2 * self.options.min_size:
            return np.full(len(rows), 0 if len(rows) >= self.options.min_size else -1, np.int64)
        return topics.fit([""] * len(rows), self.vectors[rows], self.options).labels

    def _unsettled(self) -> Ids:
        """Texts a new topic may be born of: those without a topic, and those of the newest days."""
        if not len(self.at):
            return np.empty(0, np.int64)
        loose = self.labels < 0
        for days in NEWEST_DAYS:
            newest = self.at > self.at.max() - days * 86_400_000_000
            if newest.mean() <= 0.5:
                loose |= newest
                break
        held = np.isin(self.labels, list(self.book.forbidden)) | (
            np.isin(self.labels, list(self.book.pinned)) & ~self.new
        )
        return np.flatnonzero(loose & ~held)

    def _settled_centres(self, new: npt.NDArray[np.bool_]) -> dict[int, Floats]:
        """Centres of topics out of what was there before; of a topic whose texts are nearly all new there is none."""
        centres = {}
        for t in [*self.live, *self._taboo()]:
            members = self._members(t)
            rest = members[~new[members]]
            if len(rest) >= max(0.2 * len(members), 1):
                centres[t] = self._middle(rest)
            elif not len(members):
                centres[t] = self._centre(t)
        return centres

    def move(self) -> None:
        """Texts that people moved."""
        place = _Places(self.uids)
        for text, (into, decision) in self.book.moves.items():
            target = -1 if into is None else self.book.now(into)
            if target >= 0 and self._over(target):
                self.notes.append(f"{_place(decision)}: topic {target} takes no texts; they have none now")
                target = -1
            for i in place.of((text,), self.notes):
                self.labels[i] = target

    def proposals(self) -> list[Proposal]:
        """Where a new fit of the window disagrees with the registry."""
        found = [*self._dormant()]
        free = [t for t in self.live if t not in self.book.pinned and len(self._members(t))]
        if free:
            found += [*self._splits(free), *self._merges(free)]
        open_ = [p for p in found if p.evidence >= GREW * self.book.kept.get((p.kind, p.about), 0)]
        return sorted(open_, key=lambda p: (p.kind, -p.evidence, p.topics))

    def _dormant(self) -> Iterable[Proposal]:
        if not len(self.at):
            return
        silence = DORMANT_WEEKS * records.WEEK_US
        if self.at.max() - self.at.min() < silence:
            return
        for t in self.live:
            members = self._members(t)
            last = self.at[members].max(initial=self.at.min())
            weeks = int(self.at.max() - last) // records.WEEK_US
            if self.at.max() - last >= silence and t not in self.book.pinned:
                since = f"nobody since {records.moment(int(last)):%Y-%m-%d}" if len(members) else "nobody in the window"
                yield Proposal(kind="retire", topics=(t,), evidence=weeks, reason=f"{since}, {weeks} weeks")

    def _splits(self, free: Sequence[int]) -> Iterable[Proposal]:
        groups = self.groups
        apart, sizes = self._apart(), np.bincount(groups[groups >= 0], minlength=1)
        for t in free:
            members = self._members(t)
            inside = np.bincount(groups[members][groups[members] >= 0], minlength=len(sizes))
            least = max(self.options.min_size, 0.2 * len(members))
            parts = [members[groups[members] == g] for g in np.flatnonzero((inside >= least) & (inside >= 0.6 * sizes))]
            parts = sorted(self._together(parts, apart), key=len, reverse=True)
            if len(parts) < 2 or sum(map(len, parts)) < 0.7 * len(members):
                continue
            gap = float(self._gaps(parts).min())
            which = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
            words = naming.words([self.texts[i] for p in parts for i in p.tolist()], which)
            told = " and ".join(f"{len(p)} texts ({', '.join(w[:3])})" for p, w in zip(parts, words, strict=True))
            yield Proposal(
                kind="split",
                topics=(t,),
                parts=tuple(tuple(self.uids[i] for i in self._central(p, 5)) for p in parts[1:]),
                evidence=sum(map(len, parts[1:])),
                reason=f"of its {len(members)} texts a new fit puts apart {told}; "
                f"they are {gap:.2f} apart, most topics at least {apart:.2f}",
            )

    def _merges(self, free: Sequence[int]) -> Iterable[Proposal]:
        apart, groups = self._apart(), self.groups
        free = [t for t in free if not self._held(t)]
        k = int(groups.max(initial=-1)) + 1
        sizes = {t: len(self._members(t)) for t in free}
        shared = {t: np.bincount(groups[m][groups[m] >= 0], minlength=k) for t in free for m in [self._members(t)]}
        for g in range(k):
            alike = sorted((t for t in free if shared[t][g] >= 0.5 * sizes[t]), key=lambda t: (-sizes[t], t))
            for i, a in enumerate(alike):
                for b in alike[i + 1 :]:
                    gap = float(self._gaps([self._members(a), self._members(b)])[0, 1])
                    if frozenset((a, b)) in self.book.apart or gap >= apart:
                        continue
                    texts = int(shared[a][g] + shared[b][g])
                    yield Proposal(
                        kind="merge",
                        topics=(b,),
                        into=a,
                        evidence=texts,
                        reason=f"a new fit puts {shared[a][g]} of the {sizes[a]} texts of {a} and {shared[b][g]} of "
                        f"the {sizes[b]} of {b} together; they are {gap:.2f} apart, most topics at least {apart:.2f}",
                    )

    def _held(self, topic: int) -> bool:
        """Whether a run made a topic so lately that to propose its end would be to contradict itself."""
        row = self.topics[topic].row
        if topic in self.book.parts or row is None:
            return topic not in self.book.parts
        newest, oldest = (records.moment(int(at)).date() for at in (self.at.max(), self.at.min()))
        born = row["born_on"]
        return bool(born and born > oldest and born > newest - dt.timedelta(weeks=HELD_WEEKS))

    def result(self, proposals: Sequence[Proposal], as_of: dt.datetime, run_id: str) -> Updated:
        """Everything as it leaves."""
        self.labels[np.isin(self.labels, list(self.book.forbidden))] = -1
        ids = sorted(t for t in self.topics if len(self._members(t)))
        place = {t: i for i, t in enumerate(ids)}
        index = np.array([place.get(t, -1) for t in self.labels.tolist()], np.int64)
        scores = np.zeros(len(self.labels))
        for t in ids:
            members = self._members(t)
            own = self.grid[members].astype(np.float64)
            scores[members] = np.clip(_to_others(own, own.sum(axis=0)), 0.0, 1.0)
            if not self._over(t):
                self._measure(t)
        words = naming.words(self.texts, index) if ids else []
        model = topics.TopicModel(index, scores, [""] * len(ids), words, np.empty((0, 0), np.float32))
        shown = topics.representatives(model, self.vectors)
        rows = []
        for t, topic in sorted(self.topics.items()):
            before = topic.row or {}
            i = place.get(t)
            members = self._members(t)
            telling = words[i] if i is not None and words[i] else tuple(before.get("words") or ())
            name, named_by = self.book.names.get(t, (None, None))
            over = self._over(t)
            rows.append(
                {
                    "topic_id": t,
                    "name": name or ("" if before.get("named_by") else before.get("name")) or "",
                    "named_by": (named_by or "someone") if name else None,
                    "pinned": t in self.book.pinned,
                    "theme_id": before.get("theme_id"),
                    "theme": before.get("theme"),
                    "words": telling,
                    "examples": [self.uids[j] for j in shown[0][i]] if i is not None else before.get("examples") or (),
                    "dissenting": [self.uids[j] for j in shown[1][i]]
                    if i is not None
                    else before.get("dissenting") or (),
                    "born_on": before.get("born_on") or (as_of.date() if topic.cut else self._first(members, as_of)),
                    "retired_on": (before.get("retired_on") or as_of.date()) if over else None,
                    "parents": tuple(sorted(topic.parents)),
                    "size": len(members),
                    "centroid": (topic.centre / _CENTRE).tolist() if topic.centre is not None else (),
                    "least": topic.least if topic.centre is not None else None,
                    "updated_at": as_of,
                    "run_id": run_id,
                }
            )
        _name(rows)
        labels = self.labels.tolist()
        return Updated(
            [t if t >= 0 else None for t in labels],
            [s if t >= 0 else None for s, t in zip(scores.tolist(), labels, strict=True)],
            records.frame("topics", rows),
            tuple(proposals),
            tuple(self.notes),
        )

    def _first(self, members: Ids, as_of: dt.datetime) -> dt.date:
        return records.moment(int(self.at[members].min())).date() if len(members) else as_of.date()

    # how near things are

    def _middle(self, members: Ids) -> Floats:
        return _unit(self.grid[members].sum(axis=0, dtype=np.float64))

    def _centre(self, topic: int) -> Floats:
        centre = self.topics[topic].centre
        if centre is None:
            raise ValueError(f"topic {topic} has no centre")
        return centre

    def _cosines(self, rows: Ids, to: Sequence[int] | Sequence[Floats]) -> Floats:
        """Cosines of texts to topics, or to centres given; shape (rows, to)."""
        centres = np.stack([self._centre(c) if isinstance(c, int) else c for c in to])
        products = self.grid[rows].astype(np.float64) @ centres.T
        cosines: Floats = products / np.linalg.norm(centres, axis=1) / self.lengths[rows, None]
        return cosines

    def _nearest(self, rows: Ids, columns: Ids, most: int = NEAREST) -> Iterable[tuple[Ids, Ids, Floats]]:
        """Blocks of rows, the nearest columns of each other than itself, and their cosines."""
        if len(columns) > self.options.max_fit:
            columns = columns[np.unique(np.linspace(0, len(columns) - 1, self.options.max_fit).astype(int))]
        count = min(most, len(columns) - 1)
        if count < 1:
            return
        place = np.full(len(self.labels), -1, np.int64)
        place[columns] = np.arange(len(columns))
        others = self.grid[columns].T
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            products = self.grid[block] @ others
            here = np.flatnonzero(place[block] >= 0)
            products[here, place[block[here]]] = -np.inf
            best = np.argpartition(products, len(columns) - count, axis=1)[:, len(columns) - count :]
            cosines = np.take_along_axis(products, best, axis=1).astype(np.float64)
            yield (
                block,
                columns[best],
                np.maximum(cosines, 0.0) / self.lengths[block, None] / self.lengths[columns[best]],
            )

    def _votes(self, rows: Ids, ids: Sequence[int]) -> Floats:
        """What the nearest texts with a topic say, shape (rows, ids): cubed cosines over their number."""
        place = {t: i for i, t in enumerate(ids)}
        index = np.array([place.get(t, -1) for t in self.labels.tolist()], np.int64)
        votes = np.zeros((len(rows), len(ids)))
        start = 0
        for block, nearest, cosines in self._nearest(rows, np.flatnonzero(index >= 0)):
            at = np.repeat(np.arange(start, start + len(block)), nearest.shape[1])
            np.add.at(votes, (at, index[nearest].ravel()), cosines.ravel() ** 3 / nearest.shape[1])
            start += len(block)
        return votes

    def _novelty(self, rows: Ids, new: npt.NDArray[np.bool_]) -> Floats:
        """Share of a text's neighbours that are new, too."""
        everything = np.arange(len(self.labels))
        shares = [new[nearest].mean(axis=1) for _, nearest, _ in self._nearest(rows, everything, CLOSEST)]
        return np.concatenate(shares) if shares else np.zeros(len(rows))

    def _away(self, members: Ids, others: Sequence[int] | Sequence[Floats]) -> Floats:
        """How much nearer texts are to each other's centre than to those of topics, or to centres given; inf of none.

        A text is left out of its own centre, or small groups would look compact.
        """
        own = self.grid[members].astype(np.float64)
        inside = float(np.mean(_to_others(own, own.sum(axis=0))))
        return inside - self._cosines(members, others).mean(axis=0) if len(others) else np.array([np.inf])

    def _gaps(self, groups: Sequence[Ids]) -> Floats:
        """The same between groups, the mean of both ways, shape (k, k); infinite on the diagonal."""
        k = len(groups)
        sums = np.stack([self.grid[g].sum(axis=0, dtype=np.float64) for g in groups]) / _VECTOR
        sizes = np.array([len(g) for g in groups], np.float64)
        products = np.rint(sums * _VECTOR) @ np.rint(sums * _VECTOR).T / _VECTOR**2
        lengths = np.sqrt(np.diag(products))
        own = (np.diag(products) - sizes) / sizes / np.maximum(lengths * (1 - 1 / sizes), 1e-9)
        away = np.where(sizes > 1, own, 1.0)[:, None] - products / sizes[:, None] / lengths[None, :]
        gaps: Floats = (away + away.T) / 2
        gaps[np.arange(k), np.arange(k)] = np.inf
        return gaps

    def _apart(self) -> float:
        """How far most topics are from the nearest other."""
        groups = [m for t in self.live if len(m := self._members(t)) >= self.options.min_size]
        if len(groups) < 4:
            return APART
        return max(float(np.quantile(self._gaps(groups).min(axis=1), USUAL)), APART / 2)

    def _together(self, groups: Sequence[Ids], apart: float) -> list[Ids]:
        """Groups, the nearest two joined until all are apart."""
        groups = list(groups)
        while len(groups) > 1:
            gaps = self._gaps(groups)
            one, other = sorted(divmod(int(gaps.argmin()), len(groups)))
            if gaps[one, other] >= apart:
                break
            groups[one] = np.union1d(groups[one], groups.pop(other))
        return groups

    def _gather(self, topic: int, rows: Ids) -> None:
        """Texts of this run, and those without a topic, that a new topic suits better than where they went."""
        rows = rows[(self.new[rows] | (self.labels[rows] < 0)) & (self.labels[rows] != topic)]
        if not len(rows):
            return
        cosines = self._cosines(rows, [topic, *(t for t in self.live if t != topic)])
        self.labels[rows[(cosines.argmax(axis=1) == 0) & (cosines[:, 0] >= self.topics[topic].least)]] = topic

    def _central(self, members: Ids, count: int) -> list[int]:
        own = self.grid[members].astype(np.float64)
        order = np.argsort(-_to_others(own, own.sum(axis=0)), kind="stable")
        return members[order[:count]].tolist()  # type: ignore[no-any-return]


class _Places:
    """Where texts are, by uid or the beginning of one."""

    def __init__(self, uids: Sequence[str]) -> None:
        self.sorted = sorted((uid, i) for i, uid in enumerate(uids))

    def of(self, texts: Iterable[str], notes: list[str]) -> list[int]:
        """Indices of texts; one that is not here, or not one only, is noted."""
        import bisect

        found = []
        for text in texts:
            at = bisect.bisect_left(self.sorted, (text,))
            hits = [i for uid, i in self.sorted[at : at + 2] if uid.startswith(text)]
            if len(hits) == 1:
                found.append(hits[0])
            elif hits:
                notes.append(f"text {text} is the beginning of several ids; write more of it")
            else:
                notes.append(f"text {text} is not among the texts of this run")
        return found


def _centre(stored: Sequence[float] | None) -> Floats | None:
    return np.rint(np.array(stored) * _CENTRE) if stored else None


def _unit(vector: Floats) -> Floats:
    return np.rint(vector / max(float(np.linalg.norm(vector)), 1e-9) * _CENTRE)


def _to_others(own: Floats, total: Floats) -> Floats:
    """Cosine of each text to the centre of the others; 1 for one alone."""
    if len(own) == 1:
        return np.ones(1)
    others = total - own
    lengths = np.maximum(np.linalg.norm(others, axis=1) * np.linalg.norm(own, axis=1), 1e-9)
    cosines: Floats = (own * others).sum(axis=1) / lengths
    return cosines


def _name(rows: list[dict[str, Any]]) -> None:
    """Name topics that have no name yet by their words; a name that is there stays."""
    taken = {row["name"] for row in rows}
    for row in rows:
        if row["name"]:
            continue
        words, length = list(row["words"]), 3
        name = naming.names([tuple(words)])[0] if words else f"topic {row['topic_id']}"
        while name in taken and length < len(words):
            length += 1
            name = ", ".join(words[:length])
        row["name"] = name if name not in taken else f"{name} ({row['topic_id']})"
        taken.add(row["name"])
