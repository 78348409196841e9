"""``feedback sources``, ``feedback init`` and ``feedback reparse``: set up what is read, try it, see how it stands."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from feedback_lib.commands import AS_JSON, PARAMS, SET, leave, print_json, progress, table
from feedback_lib.errors import ConfigError

_SOURCE = click.option("--source", "only", metavar="NAME", help="Only this source: its kind, origin, or kind:origin.")


@click.group(invoke_without_command=True)
@click.option(
    "--late", metavar="DAYS", type=float, default=8, show_default=True, help="Late is a source not read for so long."
)
@PARAMS
@SET
@AS_JSON
@click.pass_context
def sources(context: click.Context, *, late: float, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """List the sources with their last run, how far they have been read, rows and health; add, try and read them.

    ok: read to its end. late: too long ago. failed: the last reading broke off. interrupted: it was stopped. Both go on
    there with the next. read up to: the newest change that was read. complete: when all there was had been read.
    """
    if context.invoked_subcommand:  # options before the sub-command are meant for it
        given = {"params": params, "overrides": overrides, "as_json": as_json}
        context.default_map = dict.fromkeys(sources.commands, given)
        return
    from feedback_lib import config, pipeline

    rows = pipeline.standing(config.load(params, overrides), late=dt.timedelta(days=late))
    if as_json:
        print_json(rows)
        return
    mine = [row for row in rows if row["configured"]]
    if mine:
        columns = ["source", "health", "last run", "read up to", "rows", "complete"]
        table([_standing_cells(row) for row in mine], columns, as_json=False)
    else:
        click.echo(f"No source is configured. Add one: feedback sources add --params {params}")
    for row in mine:
        if row["error"]:
            click.echo(row["error"])
    gone = [f"{row['name']} ({row['rows']:,} rows)" for row in rows if not row["configured"]]
    if gone:
        click.echo(f"In the store, but not configured: {', '.join(gone)}")


def _standing_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": row["name"],
        "health": row["health"],
        "last run": _minute(row["last_run"]),
        "read up to": _minute(row["watermark"]),
        "rows": f"{row['rows']:,}",
        "complete": _ago(row["lag_s"]),
    }


def _minute(at: dt.datetime | None) -> str | None:
    return f"{at:%Y-%m-%d %H:%M}" if at else None


def _ago(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


@sources.command()
@click.argument("names", metavar="[NAME]…", nargs=-1)
@PARAMS
@SET
@AS_JSON
def check(*, names: Sequence[str], params: str, overrides: Sequence[str], as_json: bool) -> None:
    """Try the credentials of each source with one cheap call; say in one line what is there or what is wrong.

    NAME is a kind, an origin, or kind:origin; without, all are tried. Exit code 1 when one failed.
    """
    from feedback_lib import config, pipeline

    cfg = config.load(params, overrides)
    if not cfg.sources:
        raise ConfigError(f"{params}: no sources. Add one: feedback sources add --params {params}")
    done = []
    for row in pipeline.check(cfg, names):
        done.append(row)
        if not as_json:
            click.echo(f"{'ok    ' if row['ok'] else 'FAILED'}  {row['name']}  {row['said']}")
    if as_json:
        print_json(done)
    leave("ok" if all(row["ok"] for row in done) else "failed")


@sources.command("read")
@_SOURCE
@click.option("--since", metavar="DAY", help="Read again what changed from this day on; moves no cursor.")
@PARAMS
@SET
@AS_JSON
@click.pass_obj
def read_(
    obj: Mapping[str, bool],
    *,
    only: str | None,
    since: str | None,
    params: str,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Read the sources into the store and analyse nothing: for schedules that read more often than they report."""
    from feedback_lib import config, pipeline

    cfg = config.load(params, overrides)
    start = config.parse_time(since) if since else None
    _show(pipeline.read(cfg, only=only, since=start, progress=progress(obj)), as_json)


@click.command()
@_SOURCE
@PARAMS
@SET
@AS_JSON
@click.pass_obj
def reparse(obj: Mapping[str, bool], *, only: str | None, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """Make signals and replies anew from the archive, without asking any service: after a newer version."""
    from feedback_lib import config, pipeline

    _show(pipeline.reparse(config.load(params, overrides), only=only, progress=progress(obj)), as_json)


def _show(results: Iterable[Any], as_json: bool) -> None:
    """Results of sources as a table; leaves with 1 when one failed."""
    import dataclasses

    rows = [dataclasses.asdict(result) for result in results]
    if as_json:
        print_json(rows)
    else:
        counts = ("read", "new", "updated", "rejected")
        cells = [
            {"source": r["name"], "read up to": _minute(r["watermark"]), "status": r["status"], "seconds": r["seconds"]}
            | {c: f"{r[c]:,}" for c in counts}
            for r in rows
        ]
        table(cells, ["source", "status", *counts, "read up to", "seconds"], as_json=False)
        for row in rows:
            if row["error"]:
                click.echo(row["error"], err=True)
    leave("failed" if any(row["status"] == "failed" for row in rows) else "ok")


class _Kinds(click.Group):
    """One command per kind of source, made of its plug-in's options when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the kinds."""
        from feedback_lib.plugins import available

        return available("sources")

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Return the command that adds a source of a kind. Raises ConfigError with the nearest known kind."""
        return _adding(name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Leave them out: to say what each is, all plug-ins would be imported."""


@sources.command(cls=_Kinds, invoke_without_command=True, subcommand_metavar="KIND [OPTIONS]")
@PARAMS
@click.pass_context
def add(context: click.Context, *, params: str) -> None:
    """Write a source into the params file; everything else in the file stays as it is.

    Without KIND: list the kinds. With KIND alone: list its options. Lists are given by repeating the option, groups of
    keys as YAML. What the plug-in refuses is not written.
    """
    if context.invoked_subcommand:
        context.default_map = {context.invoked_subcommand: {"params": params}}
        return
    from feedback_lib.plugins import available, get

    rows = [{"kind": kind, "what": _first_line(get("sources", kind))} for kind in available("sources")]
    table(rows, ["kind", "what"], as_json=False)
    click.echo(f"The options of one: feedback sources add KIND --params {params}")


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].replace("``", "")


def _adding(kind: str) -> click.Command:
    """The command that adds a source of a kind, with an option for each of the plug-in's."""
    import dataclasses
    import inspect

    from feedback_lib.plugins import get, option_types

    cls = get("sources", kind)
    types, told = option_types(cls), _told(cls)

    def run(params: str, **given: Any) -> None:
        values = {name: value for name, value in given.items() if value is not None and value != ()}
        if not values:
            click.echo(click.get_current_context().get_help())
            return
        _add(kind, params, {name: _value(name, value, types.get(name, Any)) for name, value in values.items()})

    command: Callable[..., None] = PARAMS(run)
    own = inspect.get_annotations(cls)
    fields = sorted(dataclasses.fields(cls), key=lambda f: (not _required(f), f.name not in own))
    for field in reversed(fields):
        many = _is_list(types.get(field.name))
        text = " ".join(filter(None, (told.get(field.name), _default(field))))
        flag = f"--{field.name.replace('_', '-')}"
        command = click.option(
            flag, field.name, multiple=many, metavar=_metavar(types.get(field.name)), help=text, default=None
        )(command)
    settings = {"token_normalize_func": lambda name: name.replace("_", "-")}  # as in the params file
    rights = any(field.name == "token_env" for field in fields)
    more = "docs/sources.md says which rights a token needs." if rights else "docs/sources.md says more about it."
    summary = f"{_first_line(cls)}\n\n{more}"
    return click.command(kind, help=summary, context_settings=settings)(command)


def _told(cls: type) -> dict[str, str]:
    """What the docstrings of a plug-in and of what it is made from say of its options."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        names: list[str] = []
        for line in (one.__doc__ or "").partition("Options:\n")[2].splitlines():
            if not line.strip() or not line.startswith(" " * 8):
                break
            if not line.startswith(" " * 9):
                listed, _, said = line.strip().partition(": ")
                names = listed.split(", ")
                found.update(dict.fromkeys(names, said))
            else:
                found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return {name: said.replace("``", "") for name, said in found.items()}


def _required(field: Any) -> bool:
    import dataclasses

    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: Any) -> str:
    if _required(field) or field.default in (None, "", ()) or not isinstance(field.default, str | int | float | tuple):
        return "[required]" if _required(field) else ""
    value = field.default
    shown = ", ".join(value) if isinstance(value, tuple) else str(value).lower() if value in (True, False) else value
    return f"[default: {shown}]"


def _is_list(hint: Any) -> bool:
    import collections.abc
    import typing

    return typing.get_origin(hint) in (tuple, list, collections.abc.Sequence)


def _metavar(hint: Any) -> str:
    import typing

    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, typing.get_args(hint)))
    names = {bool: "true|false", int: "NUMBER", float: "NUMBER"}
    return names.get(hint, "YAML" if getattr(typing.get_origin(hint), "__name__", "") == "Mapping" else "TEXT")


def _value(name: str, given: Any, hint: Any) -> Any:
    """A value from the command line: texts as they stand, everything else as YAML."""
    from feedback_lib import config

    flag = f"--{name.replace('_', '-')}"
    if _is_list(hint):
        parts = [config.parse_value(flag, name, text) if text.startswith("[") else [text] for text in given]
        return [text for part in parts for text in part]
    if hint is not str and given.startswith(("{", "[")):
        return config.parse_value(flag, name, given)
    try:
        return config.typed(given, hint, flag)  # what takes a text takes it as it stands
    except ConfigError:
        return config.parse_value(flag, name, given)


def _add(kind: str, params: str, values: Mapping[str, Any]) -> None:
    """Check an entry as a run would, write it, and say what is next."""
    from feedback_lib import config, pipeline, plugins, privacy

    for name, value in values.items():
        if name.endswith("_env") and value and not privacy.is_name(value):
            raise ConfigError(f"--{name.replace('_', '-')} takes the name of an environment variable, not the secret.")
    base = Path(params).resolve().parent
    cfg = config.load(params)
    entry = {"kind": kind, **{name: _from(base, name, value) for name, value in values.items()}}
    source = plugins.build("sources", config.plugin_entry(entry, base, params))
    name = f"{kind}:{source.origin}"
    if name in pipeline.names(cfg):
        raise ConfigError(f"{params} has a source {name} already; give this one another with --name.")
    config.add_source(params, entry)
    click.echo(f"{name} was added to {params}.")
    for variable in _unset(source):
        click.echo(f"Set {variable} in the environment, or: keyring set feedback-workbench {variable}")
    click.echo(f"Next: feedback sources check --params {params}")


def _from(base: Path, name: str, value: Any) -> Any:
    """A path as it stands in a params file in ``base``; other values as they are."""
    from feedback_lib import config

    if name not in config.PATH_OPTIONS or not value or value.startswith(("/", "${")):
        return value
    return os.path.relpath(value, base)


def _unset(source: Any) -> list[str]:
    """The variables with credentials of a source that are not there."""
    import dataclasses

    from feedback_lib.transport import secret

    missing = []
    for field in dataclasses.fields(source):
        name = getattr(source, field.name)
        if field.name.endswith("_env") and name:
            try:
                secret(name, source.kind, hidden=False)
            except ConfigError:
                missing.append(name)
    return missing


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default="params/sources.yaml")
def init(*, path: Path) -> None:
    """Write a commented params file to start from [default: params/sources.yaml]; never over another file.

    It has every kind of source as an example. Its store and reports go beside the folder `params`, else into the
    file's own folder.
    """
    import importlib.resources

    text = importlib.resources.files("feedback_lib").joinpath("templates/sources.yaml").read_text("utf-8")
    if path.resolve().parent.name != "params":
        text = text.replace("../", "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already and was not changed; name another file.") from None
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}.") from None
    click.echo(f"Written: {path}. Next: feedback sources add --params {path}")
