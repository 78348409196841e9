"""``feedback review``: patterns over what was captured."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from feedback_lib.commands import AS_JSON, FOLDER, SET, print_json
from feedback_lib.errors import ConfigError

if TYPE_CHECKING:
    from feedback_lib.config import Config
    from feedback_lib.workflows.all_users import AllUsers
    from feedback_lib.workflows.review import Review
    from feedback_lib.workflows.roadmap import Proposal

PARAMS_FILE = Path("params/weekly.yaml")
COLLECTED = Path("collected.sqlite")  # as feedback collect names it


@click.command("review")
@click.option("--tool", is_flag=True, help="Only what is said about the workflow tool.")
@click.option("--process", is_flag=True, help="Only what is said about the project.")
@click.option(
    "--days", type=click.IntRange(1), metavar="N", help="Workflows that ended in the last N days  [default: 7]."
)
@click.option("--all", "everything", is_flag=True, help="Workflows of all time.")
@click.option("--suggest", is_flag=True, help="Show drafts of roadmap items as a diff, and ask whether to add them.")
@click.option("--yes", is_flag=True, help="With --suggest: add them without asking.")
@click.option("--all-users", is_flag=True, help="With --tool: what a collector holds of many installations.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --all-users: the collector's file  [default: collected.sqlite].",
)
@FOLDER
@click.option("--params", "-f", metavar="FILE", help="The params file  [default: params/weekly.yaml, if it is there].")
@SET
@AS_JSON
def review(
    *,
    tool: bool,
    process: bool,
    days: int | None,
    everything: bool,
    suggest: bool,
    yes: bool,
    all_users: bool,
    data: Path | None,
    folder: Path,
    params: str | None,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Show patterns over what was captured, and suggest roadmap items.

    It reads what `feedback capture` wrote in the folder. With --tool --all-users it reads the file of a collector.
    """
    if everything and days is not None:
        raise ConfigError("--all is all time; leave out --days")
    if yes and not suggest:
        raise ConfigError("--yes agrees to what --suggest shows; add --suggest")
    if data is not None and not all_users:
        raise ConfigError("--data names a collector's file; add --tool --all-users")
    if all_users and (process or not tool):
        raise ConfigError("--all-users knows tool feedback alone; add --tool, leave out --process")
    if all_users and (suggest or days is not None):
        raise ConfigError("--all-users shows all that is held, of nobody's folder; leave out --days and --suggest")
    cfg = _config(params, overrides)
    if all_users:
        users = _of_all_users(cfg, data or COLLECTED)
        if as_json:
            print_json(users.to_dict())
        else:
            _print(_folded(users.text()))
        return
    found = _of_folder(cfg, folder, tool or not process, process or not tool, None if everything else days or 7)
    proposal = _drafts(found, folder) if suggest else None
    if as_json:
        added = _add(proposal) if proposal and yes else None
        told = {"suggested": proposal.to_dict() | {"added_to": added}} if proposal else {}
        print_json(_printable(found.to_dict() | told))
        return
    _print(_folded(found.text()))
    if proposal:
        from feedback_lib.workflows.capture import option

        again = (
            ["feedback review"]
            + [name for name, given in (("--tool", tool), ("--process", process), ("--all", everything)) if given]
            + ([f"--days {days}"] if days is not None else [])
            + ([f"--params {shlex.quote(params)}"] if params is not None else [])
            + [f"--set {shlex.quote(given)}" for given in overrides]
        )
        _offer(proposal, yes=yes, again=" ".join(again) + option(folder))


def _folded(text: str) -> str:
    """As wide as the terminal; as it is where a file or a program reads."""
    from feedback_lib.workflows.review import folded

    return folded(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else text


def _print(text: str) -> None:
    """What the terminal's encoding lacks becomes a question mark."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower() == "ascii":  # which click prints as UTF-8
        encoding = "utf-8"
    click.echo(text.encode(encoding, "replace").decode(encoding))


def _config(params: str | None, overrides: Sequence[str]) -> Config:
    """The params file that was named, the usual one where it is, or the defaults; with ``--set``."""
    from feedback_lib import config

    if params is not None:
        return config.load(params, overrides)
    if PARAMS_FILE.exists():
        usual = config.load(PARAMS_FILE, overrides)
        # a file that nobody named does not move the clock, such as that of the sample
        return (
            usual if any(given.startswith("as_of") for given in overrides) else dataclasses.replace(usual, as_of=None)
        )
    values: dict[str, Any] = {}
    for given in overrides:
        key, sep, text = given.partition("=")
        group, _, name = key.strip().partition(".")
        if not sep or "." in name:
            raise ConfigError(f"--set {given!r}: write key=value, such as workflows.skip_share=0.9")
        value = config.parse_value("--set", key, text)
        if not name:
            values[group] = value
        elif isinstance(values.setdefault(group, {}), dict):
            values[group][name] = value
        else:
            raise ConfigError(f"--set {given!r}: {group!r} is not a group of keys")
    made = config.section(config.Config, values, lambda key: f"--set {key}")
    # paths start where the command was called, as there is no file
    encoder = config.plugin_entry(made.encoder, Path.cwd(), "--set encoder")
    return config.section(config.Config, values | {"encoder": encoder})


def _of_folder(cfg: Config, folder: Path, tool: bool, process: bool, days: int | None) -> Review:
    import datetime as dt

    from feedback_lib.workflows import review

    options = review.thresholds(cfg)
    found = review.review(
        folder,
        tool=tool,
        process=process,
        days=days,
        options=options,
        now=cfg.as_of or dt.datetime.now(dt.UTC),
        similar=review.by_meaning(cfg, options.challenge_similarity),
    )
    if cfg.as_of and days is not None:
        return dataclasses.replace(found, window=f"{found.window} before {cfg.as_of:%Y-%m-%d %H:%M} UTC")
    return found


def _of_all_users(cfg: Config, data: Path) -> AllUsers:
    from feedback_lib.workflows import all_users, review

    return all_users.patterns(data, review.thresholds(cfg))


def _drafts(found: Review, folder: Path) -> Proposal:
    import datetime as dt

    from feedback_lib.workflows import roadmap

    day = (found.until or dt.datetime.now(dt.UTC)).date()
    return roadmap.drafts(found.patterns, folder, day=day, of=len(found.workflows), window=found.window)


def _offer(proposal: Proposal, *, yes: bool, again: str) -> None:
    """Show what would be added; add it when a person says so, or say how to by ``again``, the call that showed it."""
    click.echo()
    if shown := proposal.text():
        _print(shown)
    many = len(proposal.items)
    if not many:
        click.echo("Nothing to add to the roadmap.")
        return
    what = f"{many} item{'' if many == 1 else 's'} to {proposal.path.name}"
    if not yes:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            _print(f"Not added: there is no terminal to ask on. To add {what}: {again} --suggest --yes")
            return
        if hasattr(signal, "siginterrupt"):  # polars' own handler would have the question go on waiting after Ctrl-C
            signal.siginterrupt(signal.SIGINT, True)
        try:
            agreed = click.confirm(f"Add {what}?", show_default=False, prompt_suffix=" (y/n) ")
        except click.Abort:
            click.echo("\nNot added.")
            raise click.exceptions.Exit(1) from None
        if not agreed:
            click.echo("Not added.")
            return
    click.echo(f"Added {what.replace(proposal.path.name, _add(proposal))}.")


def _add(proposal: Proposal) -> str:
    from feedback_lib.workflows import roadmap

    return str(roadmap.add(proposal))


def _printable(value: Any) -> Any:
    """Half a character, which JSON can hold and a terminal cannot, becomes a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(k): _printable(v) for k, v in value.items()}
    return [_printable(v) for v in value] if isinstance(value, list | tuple) else value
