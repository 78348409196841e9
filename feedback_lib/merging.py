"""Which signals say the same: copies found, what people decided, and everyone's voice in what was merged.

Merging only points: no signal, person or mention goes away, and taking a decision back is one more row of ``merges``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import polars as pl

from feedback_lib import records
from feedback_lib.errors import ConfigError

if TYPE_CHECKING:
    from feedback_lib.encoders import Encoder
    from feedback_lib.store import Store

Verdict = Literal["same", "different", "undecided"]


def apply(copies: Mapping[str, str], decisions: pl.DataFrame, uids: Sequence[str]) -> dict[str, str]:
    """Where each signal that says what an older one said points to.

    A person's word goes before what was found: two signals said to be different are never in one group, whatever else
    was found or decided; of decisions that cannot all hold, the newer ones do.

    Args:
        copies: uid → uid of the earlier text it copies, as `analysis.duplicates.near_copies` found them.
        decisions: table ``merges``.
        uids: All signals, earliest first. A decision about a signal that is not there still joins what is.

    Returns:
        uid → uid of the oldest signal of its group, without the oldest themselves; nothing points to what points.
    """
    said: dict[frozenset[str], str] = {}
    told = decisions.filter(pl.col("uid") != pl.col("duplicate_of"))
    told = told.sort("decided_at", "uid", "duplicate_of", descending=[True, False, False])
    for uid, other, verdict in told.select("uid", "duplicate_of", "verdict").iter_rows():
        said.setdefault(frozenset((uid, other)), verdict)  # the newest word on a pair, whichever way round it was given
    groups = _Groups(pair for pair, verdict in said.items() if verdict == "different")
    for pair, verdict in said.items():
        if verdict == "same":
            groups.join(*sorted(pair))
    order = {uid: i for i, uid in enumerate(uids)}
    for uid in sorted(copies, key=lambda u: order.get(u, -1)):
        groups.join(uid, copies[uid])
    root: dict[str, str] = {}
    found: dict[str, str] = {}
    for uid in uids:
        oldest = root.setdefault(groups.find(uid), uid)
        if oldest != uid:
            found[uid] = oldest
    return found


class _Groups:
    """Sets of uids that are joined unless a pair within was said to be different."""

    def __init__(self, different: Iterable[frozenset[str]]) -> None:
        self.parent: dict[str, str] = {}
        self.members: dict[str, set[str]] = {}
        self.apart: dict[str, set[str]] = {}
        for pair in different:
            one, other = pair
            self.apart.setdefault(one, set()).add(other)
            self.apart.setdefault(other, set()).add(one)

    def find(self, uid: str) -> str:
        while (above := self.parent.get(uid, uid)) != uid:
            self.parent[uid] = self.parent.get(above, above)
            uid = above
        return uid

    def join(self, one: str, other: str) -> None:
        """Put two groups together, unless that would hold two that are different."""
        one, other = self.find(one), self.find(other)
        if one == other:
            return
        mine, theirs = self.members.get(one, {one}), self.members.get(other, {other})
        if len(mine) < len(theirs):
            one, other, mine, theirs = other, one, theirs, mine
        if any(not mine.isdisjoint(self.apart.get(uid, ())) for uid in theirs):
            return
        self.parent[other] = one
        self.members[one] = mine | theirs


def voices(signals: pl.DataFrame, roots: Mapping[str, str]) -> pl.DataFrame:
    """Who is heard in each merged group.

    Args:
        signals: table ``signals``.
        roots: what `apply` returned.

    Returns:
        One row per group of two or more, most people first: ``uid`` (the oldest), ``uids`` (earliest first),
        ``mentions``, ``people`` (a signal without author counts as one), ``origins``.
    """
    whole = signals.select(
        "uid", "created_at", "author", pl.format("{}:{}", "kind", "origin").alias("from")
    ).with_columns(root=pl.col("uid").replace(dict(roots)))
    groups = (
        whole.sort("created_at", "uid")
        .group_by("root", maintain_order=True)
        .agg(
            pl.col("uid").alias("uids"),
            pl.len().cast(pl.Int64).alias("mentions"),
            pl.coalesce("author", "uid").n_unique().cast(pl.Int64).alias("people"),
            pl.col("from").unique().sort().alias("origins"),
        )
        .rename({"root": "uid"})
    )
    return groups.filter(pl.col("mentions") > 1).sort("people", "mentions", "uid", descending=[True, True, False])


def decide(
    store: Store,
    uid: str,
    other: str,
    verdict: Verdict,
    *,
    by: str,
    at: dt.datetime,
    reason: str = "",
    score: float | None = None,
) -> records.MergeRow:
    """Write down a person's word on a pair; the newest word on a pair counts.

    Raises:
        ConfigError: both are the same signal.
    """
    if uid == other:
        raise ConfigError(f"{uid[:8]} twice: name two different signals.")
    later, earlier = _by_age(store, uid, other)
    row = records.MergeRow(
        uid=later, duplicate_of=earlier, verdict=verdict, by=by, reason=reason, score=score, decided_at=at
    )
    store.upsert("merges", records.frame("merges", [row]))
    return row


def _by_age(store: Store, uid: str, other: str) -> tuple[str, str]:
    """The pair, later first: a pair has one row whichever way round it is named."""
    created = dict(_signals(store, [uid, other]).select("uid", "created_at").iter_rows())
    later, earlier = sorted((uid, other), key=lambda u: (created[u], u), reverse=True)
    return later, earlier


def _signals(store: Store, uids: Sequence[str]) -> pl.DataFrame:
    return store.read("signals").filter(pl.col("uid").is_in(list(uids)))


def full_uid(store: Store, start: str) -> str:
    """The uid that begins so.

    Raises:
        ConfigError: no signal or several begin so.
    """
    found: list[str] = store.read("signals")["uid"].unique().sort().to_list()
    found = [uid for uid in found if start and uid.startswith(start)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"no signal's uid begins with {start!r}; feedback duplicates list shows uids.")
    raise ConfigError(
        f"{len(found)} uids begin with {start!r}; write more of it, such as {found[0][: len(start) + 4]}."
    )


def release(store: Store, uid: str, *, by: str, at: dt.datetime, reason: str = "") -> list[records.MergeRow]:
    """Take a signal out of its group: words that it is the same are taken back, links that were found are cut.

    Returns:
        The rows written; none when it was in no group.
    """
    decisions = store.read("merges")
    touching = decisions.filter((pl.col("verdict") == "same") & pl.any_horizontal(_ends() == uid))
    verdicts: dict[str, Verdict] = {}
    for one, other in touching.select(_ends()).iter_rows():
        verdicts[other if one == uid else one] = "undecided"
    roots = groups(store)
    mine = roots.get(uid, uid)
    if mine == uid and uid not in roots.values():
        return []
    said = _Groups([])
    for one, other in decisions.filter(pl.col("verdict") == "same").select(_ends()).iter_rows():
        said.join(one, other)
    for one, other in _links(store).items():
        if uid in (one, other) and said.find(one) != said.find(other):
            verdicts[other if one == uid else one] = "different"
    return [
        decide(store, uid, other, verdict, by=by, at=at, reason=reason) for other, verdict in sorted(verdicts.items())
    ]


def _ends() -> pl.Expr:
    return pl.col("uid", "duplicate_of")


def _links(store: Store) -> dict[str, str]:
    """Older signal of each uid, as the last run linked them; not where a word that joined them was taken back since."""
    undone = store.read("merges").filter(pl.col("verdict") == "undecided")
    undone = pl.concat([undone.select(pl.col(end).alias("uid"), "decided_at") for end in ("uid", "duplicate_of")])
    linked = store.read("understanding").filter(pl.col("duplicate_of").is_not_null())
    since = linked.select("uid", "duplicate_of", "inferred_at").join(
        undone.group_by("uid").agg(pl.col("decided_at").max()), on="uid", how="left"
    )
    kept = since.filter(pl.col("decided_at").is_null() | (pl.col("inferred_at") >= pl.col("decided_at")))
    return dict(kept.select("uid", "duplicate_of").iter_rows())


def groups(store: Store) -> dict[str, str]:
    """Where each signal points as people's words stand now, see `apply`."""
    uids = store.read("signals").sort("created_at", "uid")["uid"].to_list()
    return apply(_links(store), store.read("merges"), uids)


def proposals(
    store: Store,
    encoder: Encoder,
    *,
    since: dt.datetime,
    least: float,
    about: str | None = None,
) -> pl.DataFrame:
    """Pairs that may say the same and that nobody has decided about; likeliest first.

    Args:
        store: where signals, understanding and decisions are.
        encoder: turns texts into vectors.
        since: signals created before are not looked at.
        least: the lowest score proposed.
        about: only pairs of this signal.

    Returns:
        ``uid`` (the later), ``duplicate_of``, ``score``, ``title`` and ``title_of`` (the earlier's), ``lexical_rank``,
        ``dense_rank``. Without pairs that are in one group already or were decided.
    """
    from feedback_lib.analysis import duplicates, text

    wanted = (pl.col("created_at") >= since) & pl.col("type").is_in(list(records.VOICES))
    if about:
        wanted |= pl.col("uid") == about
    signals = store.read("signals").filter(wanted).sort("created_at", "uid")
    texts = [f"{title}\n{body}".strip() for title, body in signals.select("title", "body").iter_rows()]
    read = [text.read(t, locale, encoder.languages) for t, locale in zip(texts, signals["locale"], strict=True)]
    vectors = encoder.encode([one.gloss for one in read])
    uids = signals["uid"].to_list()
    asked = [uids.index(about)] if about else None
    found = duplicates.candidates(uids, texts, vectors, asked=asked).filter(pl.col("score") >= least)
    decided = store.read("merges").filter(pl.col("verdict") != "undecided")
    known = {frozenset(pair) for pair in decided.select(_ends()).iter_rows()}
    roots = groups(store)
    open_ = [
        frozenset(pair) not in known and roots.get(pair[0], pair[0]) != roots.get(pair[1], pair[1])
        for pair in found.select(_ends()).iter_rows()
    ]
    titles = dict(zip(uids, (t.partition("\n")[0][:100] for t in texts), strict=True))
    return found.filter(pl.Series(open_, dtype=pl.Boolean)).select(
        "uid",
        "duplicate_of",
        "score",
        pl.col("uid").replace_strict(titles, return_dtype=pl.String).alias("title"),
        pl.col("duplicate_of").replace_strict(titles, return_dtype=pl.String).alias("title_of"),
        "lexical_rank",
        "dense_rank",
    )
