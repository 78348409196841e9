"""``feedback topics``: look at the topics, decide about them. Decisions go into the file; the next run follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from feedback_lib.commands import AS_JSON, PARAMS, SET, print_json, table
from feedback_lib.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from feedback_lib.analysis.registry import Decision
    from feedback_lib.config import Config
    from feedback_lib.decisions import Registry


@click.group("topics")
def topics() -> None:
    """List topics, show their members, and decide: rename, merge, split, move, pin, forbid, keep apart, retire.

    Every decision is an entry in a YAML file (`registry` in the params file) that you can also edit by hand and keep
    in version control. A run never changes your entries and follows them from then on.
    """


def _deciding(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that writes a decision."""
    for option in (
        SET,
        PARAMS,
        click.option("--reason", metavar="TEXT", help="Why; it stands in the file."),
        click.option("--by", metavar="NAME", help="Who decides; it stands in the file."),
    ):
        command = option(command)
    return command


@topics.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that take no texts any more.")
@PARAMS
@SET
@AS_JSON
def list_(*, everything: bool, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """List the topics of the last run, largest first, and the open proposals."""
    from feedback_lib import decisions

    read = _registry(params, overrides)
    rows = [t for t in read.topics if everything or not t.get("retired")]
    rows = sorted(rows, key=lambda t: (-t["size"], t["id"]))
    proposals = [{"number": n, "proposal": _sentence(read, p), "reason": p.reason} for n, p in read.proposals.items()]
    if as_json:
        print_json({"topics": rows, "proposals": proposals})
        return
    gone = decisions.gone(read.decisions)
    shown = [dict(t) | {"state": _state(t, gone)} for t in rows]
    table(shown, ["id", "name", "theme", "size", "born", "state"], as_json=False)
    for proposal in proposals:
        click.echo(f"{proposal['number']}. {proposal['proposal']}: {proposal['reason']}.")
    if proposals:
        click.echo("Decide with: feedback topics accept NUMBER, or reject NUMBER.")


@topics.command()
@click.argument("topic", type=int)
@click.option("--limit", type=int, default=50, show_default=True, help="How many members to show; 0: all.")
@PARAMS
@SET
@AS_JSON
def show(topic: int, *, limit: int, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """Show every member of a topic with its distance from the topic's centre, and the two nearest topics."""
    import polars as pl

    from feedback_lib.store import Store

    cfg = _config(params, overrides)
    store = Store(cfg.folder("store"))
    if store.version("topics") is None:
        raise ConfigError(
            f"no topics in the store {cfg.store} yet. Make a run: feedback report weekly --params {params}"
        )
    known = store.read("topics")
    row = known.filter(pl.col("topic_id") == topic)
    if row.is_empty():
        raise ConfigError(f"there is no topic {topic}; see feedback topics list --params {params}")
    members = (
        store.read("understanding")
        .filter(pl.col("topic_id") == topic)
        .join(store.read("signals").select("uid", "title", "origin"), on="uid", how="left")
        .sort("topic_score", "uid", descending=[True, False], nulls_last=True)
        .select(
            "uid",
            score=pl.col("topic_score"),
            distance=1 - pl.col("topic_score"),
            created=pl.col("created_at").dt.date(),
            origin=pl.col("origin"),
            title=pl.col("title"),
        )
        .to_dicts()
    )
    found = row.row(0, named=True)
    near = _neighbours(known, topic)
    if as_json:
        about = {k: found[k] for k in ("topic_id", "name", "theme", "words", "size", "born_on", "retired_on", "least")}
        print_json(about | {"neighbours": near, "members": members})
        return
    click.echo(f"{topic} {found['name']}: {', '.join(found['words'] or ())}")
    least = f"{found['least']:.2f}" if found["least"] is not None else "–"
    click.echo(f"{found['size']} texts in the window of the last run; a new one belongs to it from score {least}.")
    if near:
        told = ", ".join(f"{n['topic_id']} {n['name']} (distance {n['distance']:.2f})" for n in near)
        click.echo(f"Nearest topics: {told}")
    shown = [m | {"uid": m["uid"][:8], "title": " ".join((m["title"] or "").split())[:60]} for m in members]
    cut = shown[:limit] if limit else shown
    table(cut, ["uid", "score", "distance", "created", "origin", "title"], as_json=False)
    if len(cut) < len(shown):
        click.echo(f"… and {len(shown) - len(cut)} more, less like the topic; --limit 0 shows all.")


@topics.command()
@click.argument("topic", type=int)
@click.argument("name")
@_deciding
def rename(topic: int, name: str, **given: Any) -> None:
    """Give a topic a name; runs keep it."""
    _decide([{"kind": "rename", "topics": (topic,), "name": name}], **given)


@topics.command()
@click.argument("merged", metavar="ID…", type=int, nargs=-1, required=True)
@click.option("--into", type=int, required=True, help="The topic that stays.")
@_deciding
def merge(merged: tuple[int, ...], into: int, **given: Any) -> None:
    """Make topics part of another one."""
    _decide([{"kind": "merge", "topics": merged, "into": into}], **given)


@topics.command()
@click.argument("topic", type=int)
@click.option(
    "--part",
    "parts",
    multiple=True,
    required=True,
    metavar="UID,UID…",
    help="Texts that show a part to cut off; once for each new topic. What is left keeps the id.",
)
@_deciding
def split(topic: int, parts: Sequence[str], **given: Any) -> None:
    """Cut a topic into two or more; each text goes to the part it is nearest to."""
    read = _registry(given["params"], given["overrides"])
    made = tuple((read.next_id + i, tuple(_uids(part.split(",")))) for i, part in enumerate(parts))
    _decide([{"kind": "split", "topics": (topic,), "parts": made}], **given)


@topics.command()
@click.argument("texts", metavar="UID…", nargs=-1, required=True)
@click.option("--to", "into", required=True, metavar="ID", help="The topic they belong to, or none.")
@_deciding
def move(texts: Sequence[str], into: str, **given: Any) -> None:
    """Move texts to a topic, or out of every topic."""
    if into != "none" and not into.isdecimal():
        raise ConfigError(f"--to {into!r}: write the number of a topic, or none.")
    _decide([{"kind": "move", "texts": tuple(_uids(texts)), "into": None if into == "none" else int(into)}], **given)


def _simple(kind: str, what: str, least: int = 1) -> None:
    """A command that takes topics and nothing else."""

    @topics.command(kind, help=what)
    @click.argument("ids", metavar="ID…", type=int, nargs=-1, required=True)
    @_deciding
    def command(ids: tuple[int, ...], **given: Any) -> None:
        if len(set(ids)) < least:
            raise ConfigError(f"{kind} takes {least} topics or more.")
        _decide([{"kind": kind, "topics": ids}], **given)


_simple("pin", "Leave topics alone: no proposal splits, merges or retires them.")
_simple("unpin", "Take a pin back.")
_simple("forbid", "Say that topics are no subject: their texts have no topic, and they never come back.")
_simple("apart", "Say that topics are different: merging them is never proposed again.", least=2)
_simple("retire", "Let topics take no new texts; those they have stay.")


@topics.command()
@click.option("--last-run", is_flag=True, help="Instead: what the last run changed.")
@PARAMS
@SET
def diff(*, last_run: bool, params: str, overrides: Sequence[str]) -> None:
    """Show what accepting every open proposal would do to the list of topics, as a unified diff."""
    import difflib

    from feedback_lib import decisions

    cfg = _config(params, overrides)
    if last_run:
        before, after = _last_run(cfg, params)
        names = "before the last run", "after it"
    else:
        read = _registry(params, overrides)
        before, after = decisions.topics_text(read.topics), decisions.topics_text(_foreseen(read))
        names = "now", "with every open proposal"
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="", n=1))
    click.echo("\n".join(lines) if lines else "No difference.")


@topics.command()
@click.argument("numbers", metavar="NUMBER…|all", nargs=-1, required=True)
@_deciding
def accept(numbers: Sequence[str], **given: Any) -> None:
    """Let the next run carry out open proposals."""
    _settle(numbers, accept=True, **given)


@topics.command()
@click.argument("numbers", metavar="NUMBER…|all", nargs=-1, required=True)
@_deciding
def reject(numbers: Sequence[str], **given: Any) -> None:
    """Turn open proposals down; they come back only when half as many texts again speak for them."""
    _settle(numbers, accept=False, **given)


def _config(params: str, overrides: Sequence[str]) -> Config:
    from feedback_lib import config

    return config.load(params, overrides)


def _registry(params: str, overrides: Sequence[str]) -> Registry:
    from feedback_lib import decisions

    path = _config(params, overrides).registry
    read = decisions.load(path)
    if not read.topics:
        raise ConfigError(f"{path}: no topics yet. Make a run: feedback report weekly --params {params}")
    return read


def _decide(made: Sequence[Mapping[str, Any]], *, params: str, overrides: Sequence[str], **given: Any) -> None:
    """Write decisions into the file and say what is next."""
    from feedback_lib import decisions
    from feedback_lib.analysis.registry import Decision

    day = _today()
    new = [Decision(**about, by=given["by"], on=day, reason=given["reason"]) for about in made]
    _said(decisions.add(_registry(params, overrides), new), new, params)


def _settle(
    numbers: Sequence[str], *, accept: bool, params: str, overrides: Sequence[str], by: str | None, reason: str | None
) -> None:
    from feedback_lib import decisions

    read = _registry(params, overrides)
    if not read.proposals:
        raise ConfigError(f"{read.path}: no open proposal.")
    known = [str(number) for number in read.proposals]
    wrong = [number for number in numbers if number not in (*known, "all")]
    if wrong:
        raise ConfigError(f"there is no open proposal {', '.join(wrong)}; open: {', '.join(known)}")
    chosen = [n for n in read.proposals if "all" in numbers or str(n) in numbers]
    turn = decisions.accepted if accept else decisions.rejected
    new = turn(read, chosen, by=by, on=_today(), reason=reason)
    _said(decisions.add(read, new, without=chosen), new, params)


def _said(after: Registry, new: Sequence[Decision], params: str) -> None:
    many = f"{len(new)} decisions" if len(new) != 1 else "1 decision"
    click.echo(f"{many} written to {after.path}. The next run follows: feedback report weekly --params {params}")


def _today() -> Any:
    import datetime as dt

    return dt.datetime.now(dt.UTC).date()


def _uids(texts: Sequence[str]) -> list[str]:
    import re

    found = [text.strip().lower() for text in texts if text.strip()]
    for text in found:
        if not re.fullmatch(r"[0-9a-f]{4,32}", text):
            raise ConfigError(f"{text!r} is no uid; feedback topics show ID lists them.")
    return found


def _state(topic: Mapping[str, Any], gone: Mapping[int, int | None]) -> str | None:
    """What is special about a topic."""
    into = gone.get(topic["id"])
    ended = f"merged into {into}" if into else "retired"
    return ", ".join([*(["pinned"] if topic.get("pinned") else []), *([ended] if topic.get("retired") else [])]) or None


def _sentence(read: Registry, proposal: Any) -> str:
    names = {t["id"]: t["name"] for t in read.topics}
    told = " and ".join(f"{t} “{names.get(t, '')}”" for t in proposal.topics)
    if proposal.kind == "merge":
        return f"merge {told} into {proposal.into} “{names.get(proposal.into, '')}”"
    return f"{proposal.kind} {told}"


def _foreseen(read: Registry) -> list[dict[str, Any]]:
    """The list of topics as it would be with every open proposal; what a run has to find out is left out."""
    after = {t["id"]: dict(t) for t in read.topics}
    free = read.next_id
    for proposal in read.proposals.values():
        if proposal.kind == "merge" and proposal.into in after:
            for topic in proposal.topics:
                after[proposal.into]["size"] += after[topic]["size"]
                after[topic] |= {"size": 0, "retired": "by the next run"}
        elif proposal.kind == "split":
            for _ in proposal.parts:
                after[free] = {"id": free, "name": "named by the next run", "parents": list(proposal.topics)}
                free += 1
        elif proposal.kind == "retire":
            for topic in proposal.topics:
                after[topic]["retired"] = "by the next run"
    return list(after.values())


def _last_run(cfg: Config, params: str) -> tuple[str, str]:
    """The list of topics before and after the last run that wrote it."""
    import json

    from feedback_lib import decisions
    from feedback_lib.store import Store

    store = Store(cfg.folder("store"))
    if store.version("runs") is None:
        raise ConfigError(f"no run in the store {cfg.store} yet. Make one: feedback report weekly --params {params}")
    for row in store.read("runs").sort("started_at", descending=True).iter_rows(named=True):
        inputs = json.loads(row["inputs"])
        if "topics" in inputs.get("written", {}):
            after = decisions.table_text(store.at(inputs["written"]).read("topics"))
            if "topics" not in inputs["read"]:
                return decisions.topics_text([]), after
            return decisions.table_text(store.at(inputs["read"]).read("topics")), after
    raise ConfigError(f"no run in the store {cfg.store} wrote topics yet.")


def _neighbours(known: pl.DataFrame, topic: int) -> list[dict[str, Any]]:
    """The two nearest topics that take texts."""
    import numpy as np

    rows = [
        row
        for row in known.iter_rows(named=True)
        if row["centroid"] and (row["topic_id"] == topic or row["retired_on"] is None)
    ]
    own = next((np.array(row["centroid"]) for row in rows if row["topic_id"] == topic), None)
    if own is None:
        return []
    found = [
        {"topic_id": r["topic_id"], "name": r["name"], "distance": 1 - float(own @ np.array(r["centroid"]))}
        for r in rows
        if r["topic_id"] != topic
    ]
    return sorted(found, key=lambda n: (n["distance"], n["topic_id"]))[:2]
