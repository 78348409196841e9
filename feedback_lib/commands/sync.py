"""``feedback sync`` and ``feedback config``: tool feedback leaves, if its owner agreed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feedback_lib.commands import AS_JSON, FOLDER, leave, print_json, progress, table

if TYPE_CHECKING:
    from feedback_lib.workflows.sync import Status, Synced

_ONE = click.UsageError("--dry-run, --status and --force exclude each other, but for --dry-run --force")

_TOLD = 5  # of what may not leave
_NONE_YET = "Nothing to send: there is no tool feedback here yet; feedback capture writes it."
_ALL_SENT = "Nothing to send: everything was sent before. --force sends it again."


@click.command("sync")
@click.option("--dry-run", is_flag=True, help="Print the very bytes that would leave, and send nothing.")
@click.option(
    "--status", "only_status", is_flag=True, help="Say how much was sent and waits, where to, and if it is on."
)
@click.option("--force", is_flag=True, help="Send everything again; the receiver keeps one of each.")
@FOLDER
@AS_JSON
@click.pass_obj
def sync(
    obj: Mapping[str, bool], *, dry_run: bool, only_status: bool, force: bool, folder: Path, as_json: bool
) -> None:
    """Send tool feedback to the tool's maintainers, if feedback_sync is true; process feedback never leaves.

    Begin with --dry-run. Then `feedback config set feedback_endpoint ADDRESS` says where to, and `feedback config set
    feedback_sync true` agrees. A receiver's token is taken from FEEDBACK_SYNC_TOKEN, that of a Gist from GITHUB_TOKEN.
    """
    from feedback_lib.workflows import sync as syncing

    if only_status and (dry_run or force):
        raise _ONE
    if only_status:
        _show_status(syncing.status(folder), as_json)
        return
    made = syncing.sync(folder, dry_run=dry_run, force=force, progress=progress(obj))
    if as_json:
        print_json(made.to_dict())
    elif dry_run:
        _show_dry_run(made)
    else:
        _show(made, quiet=obj["quiet"])
    leave("ok" if made.ok else "failed")


def _show(made: Synced, *, quiet: bool) -> None:
    if not quiet:
        if made.off:
            click.echo(f"Nothing was sent: {made.off}")
            return
        again = f", {made.known} of them known there already" if made.known else ""
        if made.confirmed:
            click.echo(f"Sent to {made.where}: {_count(made.confirmed)}{again}.")
        elif not made.total:
            click.echo(_NONE_YET)
        elif not made.pending and made.ok:
            click.echo(_ALL_SENT)
        if made.pending:
            click.echo(f"Still queued: {_count(made.pending)}.")
    _show_trouble(made)
    if made.problem:
        click.echo(f"Error: {made.problem}", err=True)


def _count(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries:,} entries"


def _show_dry_run(made: Synced) -> None:
    """The bytes alone on standard output, everything else beside them."""
    out = getattr(sys.stdout, "buffer", None)  # no terminal's encoding in between, where there is one
    for body in made.bodies:
        line = body if body.endswith(b"\n") else body + b"\n"
        out.write(line) if out else click.echo(line.decode(), nl=False)
    sys.stdout.flush()
    size = sum(map(len, made.bodies))
    if made.bodies:
        click.echo(f"Would be sent to {made.where}: {size:,} bytes.", err=True)
    elif not made.total:
        click.echo(_NONE_YET, err=True)
    elif not made.refused:
        click.echo(_ALL_SENT, err=True)
    if made.off:
        click.echo(f"Sending is off: {made.off}", err=True)
    _show_trouble(made)


def _show_trouble(made: Synced | Status) -> None:
    for refused in made.refused[:_TOLD]:
        words = refused.field.rpartition(".")[2] in ("tool_suggestions", "orchestrator_errors")
        what = "; shorten or reword it in the file" if words else ""
        click.echo(f"Error: {refused}. It stays queued{what}.", err=True)
    if len(made.refused) > _TOLD:
        click.echo(f"Error: {len(made.refused) - _TOLD} more may not leave; --json has all.", err=True)
    for line in made.unread:
        click.echo(f"{line.where} is not read: {line.reason}", err=True)


def _show_status(status: Status, as_json: bool) -> None:
    if as_json:
        print_json(status.to_dict())
        return
    click.echo(f"Sending is off: {status.off}" if status.off else "Sending is on.")
    click.echo(f"To: {status.where}")
    click.echo(f"Workflows: {status.total}, sent {status.synced}, waiting {status.pending}", nl=False)
    click.echo(f", of which {len(status.refused)} may not leave" if status.refused else "")
    click.echo(f"Last sent: {status.last or 'never'}")
    if not status.total:
        click.echo(_NONE_YET)
    _show_trouble(status)


@click.group("config")
def config_() -> None:
    """Settings of this installation: whether tool feedback may be sent, and where to.

    They stand in settings.json of the folder that FEEDBACK_CONFIG names, else of ~/.config/feedback_lib, and hold for
    all projects.
    """


@config_.command("set")
@click.argument("key")
@click.argument("value")
def set_(*, key: str, value: str) -> None:
    """Set feedback_sync to true or false, or feedback_endpoint to an address or `gist`."""
    from feedback_lib.workflows import settings

    changed = settings.change(key, value)
    click.echo(f"{key} = {_words(getattr(changed, key))}")
    if changed.feedback_sync and not changed.feedback_endpoint:
        click.echo(
            "Nobody is named to send to yet: feedback config set feedback_endpoint https://… (or gist)", err=True
        )


@config_.command()
@click.argument("key")
@AS_JSON
def get(*, key: str, as_json: bool) -> None:
    """Print one setting."""
    value = _held(key)
    if as_json:
        print_json(value)
    else:
        click.echo(_words(value))


@config_.command("list")
@AS_JSON
def list_(*, as_json: bool) -> None:
    """List the settings."""
    import dataclasses

    from feedback_lib.workflows import settings

    held = dataclasses.asdict(settings.load())
    if as_json:
        print_json(held)
    else:
        table([{"key": key, "value": _words(value) or None} for key, value in held.items()], ["key", "value"], False)


def _held(key: str) -> bool | str:
    import dataclasses

    from feedback_lib.errors import ConfigError, nearest
    from feedback_lib.workflows import settings

    held: dict[str, bool | str] = dataclasses.asdict(settings.load())
    if key not in held:
        raise ConfigError(f"unknown setting {key!r}; {nearest(key, list(held))}")
    return held[key]


def _words(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value
