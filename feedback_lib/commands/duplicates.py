"""``feedback duplicates``: what may say the same is shown to a person, who merges, parts and takes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from feedback_lib.commands import AS_JSON, PARAMS, SET, print_json, progress, table

if TYPE_CHECKING:
    import datetime as dt

    from feedback_lib.config import Config
    from feedback_lib.store import Store

_BY = click.option("--as", "by", metavar="NAME", help="Who decides; by default the user of this machine.")
_REASON = click.option("--reason", default="", help="Why, in a few words.")
_AS_OF = click.option("--as-of", metavar="DAY", help="Pretend it is this day or time (UTC).")


@click.group()
def duplicates() -> None:
    """Decide which signals say the same; every voice still counts, and every merge can be taken back.

    UID may be the beginning of one. Decisions hold from the next run on.
    """


@duplicates.command("list")
@PARAMS
@SET
@click.option("--least", type=click.FloatRange(0, 1), help="The lowest score shown [default: 0.05].")
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1), help="Most pairs shown.")
@click.option("--merged", is_flag=True, help="Show the groups that are merged instead, with whom they speak for.")
@_AS_OF
@AS_JSON
@click.pass_obj
def list_(
    obj: Mapping[str, bool],
    *,
    params: str,
    overrides: Sequence[str],
    least: float | None,
    limit: int,
    merged: bool,
    as_of: str | None,
    as_json: bool,
) -> None:
    """List pairs that may say the same and wait for a decision, likeliest first.

    The score is about the share of pairs with such a score that say the same.
    """
    from feedback_lib import merging
    from feedback_lib.analysis.duplicates import LIKELY

    cfg, store = _opened(params, overrides)
    if merged:
        rows = merging.voices(store.read("signals"), merging.groups(store)).head(limit).to_dicts()
        shown = [{**row, "uid": row["uid"][:8], "origins": ", ".join(row["origins"])} for row in rows]
        table(rows if as_json else shown, ["uid", "people", "mentions", "origins"], as_json)
        return
    progress(obj)("… comparing texts")
    found = merging.proposals(
        store, _encoder(cfg), since=_since(cfg, store, as_of), least=LIKELY if least is None else least
    )
    _pairs(found.head(limit).to_dicts(), as_json)


@duplicates.command()
@click.argument("uid")
@PARAMS
@SET
@_AS_OF
@AS_JSON
@click.pass_obj
def show(
    obj: Mapping[str, bool], uid: str, *, params: str, overrides: Sequence[str], as_of: str | None, as_json: bool
) -> None:
    """Show a signal, its group, what people decided about it, and what may say the same."""
    import polars as pl

    from feedback_lib import merging

    cfg, store = _opened(params, overrides)
    whole = merging.full_uid(store, uid)
    roots = merging.groups(store)
    root = roots.get(whole, whole)
    group = [root, *(u for u, r in roots.items() if r == root)]
    signals = {r["uid"]: r for r in store.read("signals").filter(pl.col("uid").is_in(group)).to_dicts()}
    decided = store.read("merges").filter((pl.col("uid") == whole) | (pl.col("duplicate_of") == whole))
    progress(obj)("… comparing texts")
    found = merging.proposals(store, _encoder(cfg), since=_since(cfg, store, as_of), least=0.0, about=whole).head(5)
    signal = signals[whole]
    if as_json:
        print_json(
            {
                "uid": whole,
                "title": signal["title"],
                "body": signal["body"],
                "root": root,
                "group": group if len(group) > 1 else [],
                "decisions": decided.to_dicts(),
                "candidates": found.to_dicts(),
            }
        )
        return
    click.echo(f"{whole}  {signal['created_at']:%Y-%m-%d}  {signal['kind']}:{signal['origin']}")
    click.echo(f"{signal['title']}\n{signal['body'][:500]}".strip())
    if len(group) > 1:
        click.echo("\nOne group, oldest first:")
        rows = [
            {"uid": u[:8], "day": f"{signals[u]['created_at']:%Y-%m-%d}", "title": _title(signals[u])} for u in group
        ]
        table(rows, ["uid", "day", "title"], as_json=False)
    for row in decided.sort("decided_at").to_dicts():
        other = row["duplicate_of"] if row["uid"] == whole else row["uid"]
        why = f": {row['reason']}" if row["reason"] else ""
        click.echo(f"{row['decided_at']:%Y-%m-%d} {row['by']} said {row['verdict']} as {other[:8]}{why}")
    click.echo("\nMay say the same:")
    _pairs(found.to_dicts(), as_json=False)


@duplicates.command()
@click.argument("uid")
@click.option("--into", required=True, metavar="UID", help="The signal it says the same as.")
@PARAMS
@SET
@_BY
@_REASON
@AS_JSON
def merge(uid: str, *, into: str, **given: Any) -> None:
    """Say that two signals say the same; the oldest of the group stands for it."""
    _decide(uid, into, "same", **given)


@duplicates.command()
@click.argument("uid")
@click.argument("other")
@PARAMS
@SET
@_BY
@_REASON
@AS_JSON
def different(uid: str, other: str, **given: Any) -> None:
    """Say that two signals do not say the same; they are never put together again."""
    _decide(uid, other, "different", **given)


@duplicates.command()
@click.argument("uid")
@PARAMS
@SET
@_BY
@_REASON
@AS_JSON
def unmerge(uid: str, *, params: str, overrides: Sequence[str], by: str | None, reason: str, as_json: bool) -> None:
    """Take a signal out of its group: words on it are taken back, a copy that was found is parted."""
    from feedback_lib import merging

    _, store = _opened(params, overrides)
    whole = merging.full_uid(store, uid)
    with store.lock():
        rows = merging.release(store, whole, by=by or _user(), at=_now(), reason=reason)
    _said([_row(row) for row in rows], as_json, f"{whole[:8]} is in no group; nothing was changed.")


def _decide(
    uid: str,
    other: str,
    verdict: Any,
    *,
    params: str,
    overrides: Sequence[str],
    by: str | None,
    reason: str,
    as_json: bool,
) -> None:
    from feedback_lib import merging

    _, store = _opened(params, overrides)
    one, two = merging.full_uid(store, uid), merging.full_uid(store, other)
    with store.lock():
        row = merging.decide(store, one, two, verdict, by=by or _user(), at=_now(), reason=reason)
    _said([_row(row)], as_json, "")


def _row(row: Any) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(row)


def _said(rows: Sequence[Mapping[str, Any]], as_json: bool, nothing: str) -> None:
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['uid'][:8]} and {row['duplicate_of'][:8]}: {row['verdict']}. It holds from the next run on.")
    if not rows:
        click.echo(nothing)


def _pairs(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    shown = [
        {**r, "uid": r["uid"][:8], "duplicate of": r["duplicate_of"][:8], "title": r["title"][:60],
         "title of the earlier": r["title_of"][:60]}
        for r in rows
    ]  # fmt: skip
    table(
        rows if as_json else shown, ["score", "uid", "title", "duplicate of", "title of the earlier"], as_json=as_json
    )


def _title(signal: Mapping[str, Any]) -> str:
    return str(signal["title"] or signal["body"])[:80]


def _opened(params: str, overrides: Sequence[str]) -> tuple[Config, Store]:
    from feedback_lib import config
    from feedback_lib.errors import ConfigError
    from feedback_lib.store import Store

    cfg = config.load(params, overrides)
    store = Store(cfg.store)
    if store.version("signals") is None:
        raise ConfigError(f"no signals in the store {cfg.store} yet. Run: feedback aggregate --params {params}")
    return cfg, store


def _encoder(cfg: Config) -> Any:
    from feedback_lib import config, encoders

    return encoders.make(cfg.encoder, cache=config.cache_dir(), threads=cfg.threads)


def _since(cfg: Config, store: Store, as_of: str | None) -> dt.datetime:
    """Where the window of the runs begins, counted from the given day or else from the newest signal."""
    import datetime as dt

    from feedback_lib import config

    newest = config.parse_time(as_of) if as_of else store.read("signals")["created_at"].max()
    assert isinstance(newest, dt.datetime)
    return newest - dt.timedelta(weeks=cfg.window_weeks)


def _user() -> str:
    import getpass

    return getpass.getuser()


def _now() -> dt.datetime:
    import datetime as dt

    return dt.datetime.now(dt.UTC)
