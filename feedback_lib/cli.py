"""The commands: parse, call the package, print. Everything they do, the package does (see pipeline)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from feedback_lib import __version__, privacy
from feedback_lib.commands import AS_JSON, PARAMS, ROOT, SET, SPEC, leave, print_json, progress, table
from feedback_lib.commands.capture import capture
from feedback_lib.commands.collect import collect
from feedback_lib.commands.duplicates import duplicates
from feedback_lib.commands.export import export as export_tables
from feedback_lib.commands.label import label
from feedback_lib.commands.review import review
from feedback_lib.commands.sources import init, reparse, sources
from feedback_lib.commands.sync import config_, sync
from feedback_lib.commands.topics import topics
from feedback_lib.errors import ConfigError, FeedbackError, nearest

if TYPE_CHECKING:
    from feedback_lib.pipeline import Run


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """What every command that makes a run takes."""
    for option in (
        AS_JSON,
        click.option("--as-of", metavar="DAY", help="Pretend it is this day or time (UTC)."),
        SET,
        PARAMS,
        click.option("--since", metavar="DAY", help="Read again what changed from this day on; moves no cursor."),
        click.option(
            "--source", "only", metavar="NAME", help="Read only this source: its kind, origin, or kind:origin."
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="feedback")
@click.option("--verbose", is_flag=True, help="Show one line per unit of work, and tracebacks of unexpected faults.")
@click.option("--quiet", is_flag=True, help="Show errors only.")
@click.pass_context
def feedback(context: click.Context, *, verbose: bool, quiet: bool) -> None:
    """Read what people and machines say about a product; find what is new, growing or recurring; report it.

    Exit codes: 0 fine, 1 finished but something failed, 2 wrong use or configuration, 3 an SLO is breached (only with
    --fail-on-breach).
    """
    context.obj = {"verbose": verbose, "quiet": quiet}
    _log(verbose=verbose, quiet=quiet)


for group in (topics, label, duplicates, export_tables, sources, init, reparse, capture, review, sync, config_):
    feedback.add_command(group)
feedback.add_command(collect)


@feedback.command()
@click.option("--run-once", is_flag=True, help="Run once and exit (there is no other way yet; kept for schedulers).")
@_run_options
@click.pass_obj
def aggregate(obj: Mapping[str, bool], /, *, run_once: bool, as_json: bool, **given: Any) -> None:
    """Poll the sources, process what is new, refresh what dashboards read, suggest, send the summary."""
    run = _made("aggregate", obj, as_json=as_json, **given)
    if as_json:
        print_json(run.report.to_dict())
    leave(run.status)


@feedback.group()
def report() -> None:
    """Make, list and re-run reports."""


@report.command()
@_run_options
@click.pass_obj
def weekly(obj: Mapping[str, bool], /, *, as_json: bool, **given: Any) -> None:
    """Aggregate, run the notebooks and write the weekly report; prints where it is."""
    run = _made("weekly", obj, as_json=as_json, **given)
    if as_json:
        print_json(run.record())
    else:
        page = " and .html" if run.folder and (run.folder / "signal_report.html").exists() else ""
        click.echo(f"Report: {run.folder}/signal_report.pdf{page}")
    leave(run.status)


@report.command("list")
@PARAMS
@SET
@AS_JSON
def list_(*, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """List the runs in the store, newest first."""
    from feedback_lib import config, pipeline

    rows = pipeline.runs(config.load(params, overrides))
    table(rows, ["run_id", "recipe", "as_of", "status", "signals", "findings", "suggestions", "seconds"], as_json)


@report.command()
@click.argument("run_id")
@PARAMS
@SET
@AS_JSON
@click.pass_obj
def rerun(obj: Mapping[str, bool], run_id: str, *, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """Compute a run again from the data as it stood then, and compare every table."""
    from feedback_lib import config, pipeline

    rows = pipeline.rerun(config.load(params, overrides), run_id, progress=progress(obj))
    table(rows, ["table", "rows", "equal", "difference"], as_json)
    leave("ok" if all(r["equal"] for r in rows) else "degraded")


@feedback.command()
@SPEC
@ROOT
@click.option("--run-once", is_flag=True, help="Measure and judge once and exit (the default).")
@click.option("--daemon", is_flag=True, help="Go on until stopped by Ctrl-C or SIGTERM.")
@click.option(
    "--interval", metavar="TIME", help="With --daemon: between measurements [default: observability.yaml, 60s]."
)
@click.option(
    "--port", type=int, help="With --daemon: of /healthz and /metrics on this machine [default: 9469 if free]."
)
@click.option("--as-of", metavar="TIME", help="Pretend it is this day or time (UTC).")
@click.option("--dry-run", is_flag=True, help="Tell nobody, write and remember nothing.")
@click.option("--fail-on-breach", is_flag=True, help="Exit with 3 when the service is unhealthy or degraded.")
@AS_JSON
@click.pass_obj
def monitor(
    obj: Mapping[str, bool],
    *,
    spec_id: str,
    root: str,
    run_once: bool,
    daemon: bool,
    interval: str | None,
    port: int | None,
    as_of: str | None,
    dry_run: bool,
    fail_on_breach: bool,
    as_json: bool,
) -> None:
    """Measure the SLOs of a spec, alert when an error budget burns, and write performance reports."""
    from feedback_lib import config, watch

    if daemon and (run_once or as_of or dry_run or as_json or fail_on_breach):
        raise ConfigError(
            "--daemon goes on for ever; leave out --run-once, --as-of, --dry-run, --json, --fail-on-breach"
        )
    if daemon:
        _daemon(obj, spec_id, root, _seconds("--interval", interval), port)
        return
    shot = watch.once(spec_id, root, now=config.parse_time(as_of) if as_of else None, dry_run=dry_run)
    if as_json:
        print_json(shot.to_dict())
    else:
        _show_health(shot, obj)
    if fail_on_breach and shot.status in ("unhealthy", "degraded"):
        raise click.exceptions.Exit(3)
    seen = all(health.status != "unknown" for health in shot.slos)
    leave("ok" if seen and not shot.undelivered else "degraded")


def _daemon(obj: Mapping[str, bool], spec_id: str, root: str, interval_s: float | None, port: int | None) -> None:
    """Run until told to stop; one line per change of status."""
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from feedback_lib import watch  # after the signals: it takes a second

    shown: dict[str, str] = {}

    def tell(shot: Any) -> None:
        for name, status, reason in [("", shot.status, ""), *((h.sli_name, h.status, h.reason) for h in shot.slos)]:
            if shown.get(name) != status and not obj["quiet"]:
                shown[name] = status
                words = f"{shot.at:%Y-%m-%d %H:%M} UTC  {shot.service}{' ' + name if name else ''} is {status}"
                click.echo(words + (f": {reason}" if reason else ""))
        for event in shot.events:
            click.echo(f"{event['at']}  {event['event']}: {event['summary']}")

    watch.run(spec_id, root, interval_s=interval_s, port=port, stop=stop, tell=tell)


def _show_health(shot: Any, obj: Mapping[str, bool]) -> None:
    """A service's health as a table, worst first."""
    if obj["quiet"]:
        return
    from feedback_lib.monitor import budget_words, percent

    click.echo(f"{shot.service} ({shot.spec_id}) is {shot.status} at {shot.at:%Y-%m-%d %H:%M} UTC")
    order = ("unhealthy", "degraded", "unknown", "healthy")
    rows = [
        {
            "status": h.status,
            "metric": h.sli_name,
            "now": f"{h.value:.4g} {h.unit}".strip() if h.value is not None else None,
            "limit": f"{h.op} {h.threshold:g} {h.unit}".strip(),
            "SLI": percent(h.sli, 2) if h.sli is not None else None,
            "target": f"{h.target} in {h.window}",
            "budget": budget_words(h.budget_remaining) if h.budget_remaining is not None else None,
            "alert": f"{h.alert} since {h.since:%m-%d %H:%M}" if h.alert else None,
            "why": h.reason or None,
        }
        for h in sorted(shot.slos, key=lambda h: order.index(h.status))
    ]
    table(rows, list(rows[0]) if rows else [], as_json=False)
    for text in shot.unmeasured:
        click.echo(f"not measured: {text}", err=True)
    for event in shot.events:
        click.echo(f"{event['event']}: {event['summary']}", err=True)
    if shot.undelivered:
        click.echo(f"{shot.undelivered} messages could not be delivered yet; they are kept and tried again.", err=True)


@feedback.group()
def slo() -> None:
    """Read SLOs from a spec, set up their measurement, export them as rules, report on them."""


@slo.command()
@click.argument("spec", type=click.Path())
@AS_JSON
def check(*, spec: str, as_json: bool) -> None:
    """List the SLOs that a spec's Markdown states, and the lines that could not be used."""
    from feedback_lib.analysis import nfr

    reading = nfr.read(_text(spec))
    if as_json:
        print_json([target.to_dict() for target in reading.targets])
        return
    if not reading.targets:
        click.echo(f"No SLO was found in {spec}; docs/nfr.md shows lines that are read.", err=True)
    rows = [
        {**target.to_dict(), "limit": f"{target.op} {target.value:f} {target.unit}", "lacks": ", ".join(target.missing)}
        for target in reading.targets
    ]
    table(rows, ["line", "category", "limit", "percentile", "window", "name", "confidence", "lacks"], as_json=False)
    for line in reading.skipped:
        hint = f"\n  readable would be: {line.closest}" if line.closest else ""
        click.echo(f"line {line.line} not used, {line.reason}: {line.text.strip()}{hint}", err=True)


@slo.command("init")
@click.argument("spec", type=click.Path())
@click.option("--provider", default="prometheus", show_default=True, help="The metric backend, see feedback plugins.")
@click.option("--url", help="Its address.")
@click.option("--out", type=click.Path(), help="The file to write [default: observability.yaml beside the spec].")
def init_(*, spec: str, provider: str, url: str | None, out: str | None) -> None:
    """Write the observability.yaml of a spec: one entry per SLO, with a query to complete."""
    from feedback_lib import specs

    path = Path(out) if out else Path(spec).parent / "observability.yaml"
    text = specs.init(Path(spec), provider=provider, url=url)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already and was not changed; name another file with --out") from None
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from None
    spec_id = Path(spec).resolve().parent.name
    click.echo(f"Written: {path}. Complete its queries, then: feedback monitor --spec-id {spec_id} --dry-run")


@slo.command()
@SPEC
@ROOT
@click.option("--to", "form", type=click.Choice(["prometheus", "openslo", "sloth"]), required=True)
@click.option("--out", type=click.Path(), help="The file to write [default: print].")
def export(*, spec_id: str, root: str, form: str, out: str | None) -> None:
    """Write the SLOs of a spec as Prometheus rules, OpenSLO documents or Sloth input."""
    from feedback_lib import specs
    from feedback_lib.analysis import rules

    text = getattr(rules, form)(specs.load(spec_id, root))
    if out:
        Path(out).write_text(text, "utf-8")
        click.echo(f"Written: {out}")
    else:
        click.echo(text, nl=False)


@slo.command("report")
@SPEC
@ROOT
@click.option("--period", type=click.Choice(["daily", "weekly"]), default="daily", show_default=True)
@click.option("--day", metavar="DAY", help="Any day of it (UTC) [default: the last one that is over].")
@AS_JSON
def report_(*, spec_id: str, root: str, period: Any, day: str | None, as_json: bool) -> None:
    """Write the performance report of a day or week from what the monitor measured."""
    import datetime as dt

    from feedback_lib import config, watch

    chosen = (
        config.parse_time(day).date()
        if day
        else dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1 if period == "daily" else 7)
    )
    made, path = watch.report(spec_id, root, period, chosen)
    if as_json:
        print_json(made)
        return
    click.echo(f"{made['service']} was {made['status']} in {made['name']}: {path}")
    from feedback_lib.monitor import budget_words, percent

    rows = [
        {
            "status": m["status"],
            "metric": m["name"],
            "value": f"{m['value']:.4g} {m['unit']}".strip() if m["value"] is not None else None,
            "limit": f"{m['op']} {m['slo']:g} {m['unit']}".strip(),
            "SLI": percent(m["sli"], 2),
            "target": m["target"],
            "budget": budget_words(m["budget_remaining"]),
        }
        for m in made["metrics"]
    ]
    table(rows, list(rows[0]) if rows else [], as_json=False)
    for found in made["regressions"]:
        click.echo(_regression(found))


@slo.command()
@SPEC
@ROOT
@AS_JSON
def history(*, spec_id: str, root: str, as_json: bool) -> None:
    """List how health changed and what became of alerts, oldest first."""
    from feedback_lib import watch

    table(watch.history(spec_id, root), ["at", "metric", "what", "why"], as_json)


@slo.command()
@SPEC
@ROOT
@click.option("--as-of", metavar="TIME", help="Pretend it is this day or time (UTC).")
@AS_JSON
def regressions(*, spec_id: str, root: str, as_of: str | None, as_json: bool) -> None:
    """Say which measurements got worse for good over the last 7 days, against the 4 weeks before."""
    from feedback_lib import config, watch

    rows = watch.regressions(spec_id, root, config.parse_time(as_of) if as_of else None)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(_regression(row))


@feedback.command()
@PARAMS
@SET
@AS_JSON
def suggestions(*, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """List the open suggestions, most urgent first."""
    from feedback_lib import config, pipeline

    rows = pipeline.suggestions(config.load(params, overrides))
    table(rows, ["suggestion_id", "priority", "type", "people", "title", "action"], as_json)


@feedback.command()
@PARAMS
@SET
@AS_JSON
def quarantine(*, params: str, overrides: Sequence[str], as_json: bool) -> None:
    """List the items that did not load: where each stands and why."""
    from feedback_lib import config, pipeline

    rows = pipeline.quarantine(config.load(params, overrides))
    table(rows, ["kind", "origin", "where", "reason", "seen_at"], as_json)


@feedback.command()
@click.option("--out", default="data/sample", show_default=True, help="Folder to write.")
@click.option("--seed", default=42, show_default=True, help="Another seed makes another world.")
@AS_JSON
def sample(*, out: str, seed: int, as_json: bool) -> None:
    """Write the bundled sample: 26 weeks of invented feedback on an invented platform."""
    from feedback_lib import sample as world

    key = world.generate(Path(out), seed=seed)
    if as_json:
        print_json(key)
    else:
        click.echo(f"Sample: {out} ({len(key['stories'])} planted stories, listed in key.json). All of it is invented.")


@feedback.command()
@click.argument("notebook", type=click.Path())
@click.option("--param", "-p", "given", multiple=True, metavar="KEY=VALUE", help="A parameter of the notebook (YAML).")
@click.option("--out", type=click.Path(), help="Where the executed notebook goes [default: reports/<name>.ipynb].")
@click.option("--timeout", default=600, show_default=True, help="Seconds the notebook may take.")
@click.pass_obj
def run(obj: Mapping[str, bool], notebook: str, *, given: Sequence[str], out: str | None, timeout: int) -> None:
    """Run one notebook with parameters, refusing unknown or mistyped ones before any cell runs."""
    from feedback_lib import pages, runner

    values = _given(given)
    target = Path(out or f"reports/{Path(notebook).stem}.ipynb")
    done = runner.run_notebook(Path(notebook), values, target, timeout_s=timeout, progress=progress(obj))
    page = pages.export_html(target, target.with_suffix(".html"))
    click.echo(f"Notebook: {target} ({done.seconds:.1f} s)\nPage: {page}")


def _given(texts: Sequence[str]) -> dict[str, Any]:
    """Parameters of a notebook as they stand on the command line."""
    from feedback_lib import config

    values = {}
    for text in texts:
        key, sep, value = text.partition("=")
        if not sep:
            raise ConfigError(f"--param {text!r}: write key=value.")
        values[key] = config.parse_value("--param", key, value)
    return values


@feedback.command()
@PARAMS
@SET
@click.option("--port", default=8866, show_default=True, help="The first port tried, on this machine only.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page when it is there.")
@click.option("--notebook", default="feedback", show_default=True, help="Which notebook of notebooks/.")
@click.option("--param", "-p", "given", multiple=True, metavar="KEY=VALUE", help="A parameter of the notebook (YAML).")
def dashboards(
    *, params: str, overrides: Sequence[str], port: int, browser: bool, notebook: str, given: Sequence[str]
) -> None:
    """Show a dashboard of the newest run in the browser, on this machine only."""
    from feedback_lib import config, dashboard_server, runner

    cfg = config.load(params, overrides)
    folder = cfg.folder("notebook_folder")
    pages = {page.stem: page for page in (*folder.glob("*.ipynb"), *folder.glob("dashboards/*.ipynb"))}
    if notebook not in pages:
        raise ConfigError(f"no dashboard {folder / f'{notebook}.ipynb'}; {nearest(notebook, sorted(pages))}")
    page, values = pages[notebook], _given(given)
    asked = runner.parameters(page)
    values |= {"store": cfg.store} if "store" in asked and "store" not in values else {}
    runner.check(page, values)
    click.echo(f"Dashboard: http://127.0.0.1:{port} (Ctrl-C stops it)", err=True)
    dashboard_server.serve(page, values, port=port, open_browser=browser)


@feedback.command()
@AS_JSON
def plugins(*, as_json: bool) -> None:
    """List the sources, metric backends and sinks that can be named in a params file."""
    from feedback_lib.plugins import FAMILIES, available

    known = {family: available(family) for family in FAMILIES}
    if as_json:
        print_json(known)
    else:
        for family, names in known.items():
            click.echo(f"{family}: {', '.join(names) or '–'}")


def main() -> NoReturn:
    """Run a command; what went wrong is said in a message, never in a traceback."""
    _run(feedback)


def aggregator() -> NoReturn:
    """Run ``smartspec_feedback_aggregator``: ``feedback aggregate`` under its older name, with its own flags."""
    _run_as("aggregate")


def production_monitor() -> NoReturn:
    """Run ``smartspec_production_monitor``: ``feedback monitor`` under its older name, with its own flags."""
    _run_as("monitor")


def orchestrator_feedback() -> NoReturn:
    """Run ``orchestrator-feedback``: capture, review, sync and config under the workflow tool's own name."""
    known = ("capture", "review", "sync", "config", "collect")
    named = next((a for a in sys.argv[1:] if a not in ("--verbose", "--quiet")), "")
    if named in known:
        _run(feedback)
    if named and not named.startswith("-"):
        _say(f"no command {named!r}; {nearest(named, list(known))}", 2)
    _run_as("capture")


def _run_as(command: str) -> NoReturn:
    given = sys.argv[1:]
    if "--version" in given:
        click.echo(f"{Path(sys.argv[0]).name}, version {__version__}")
        sys.exit(0)
    group = [a for a in given if a in ("--verbose", "--quiet")]
    _run(feedback, [*group, command, *(a for a in given if a not in group)])


def _run(command: click.Command, args: list[str] | None = None) -> NoReturn:
    try:
        code = command.main(args=args, standalone_mode=False)  # what a command leaves with, see leave
    except FeedbackError as problem:
        _say(str(problem), 2 if isinstance(problem, ConfigError) else 1)
    except click.ClickException as problem:
        problem.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _say("Stopped. What had been read is kept; run the command again to go on.", 1)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as fault:  # the last line of defence: a user sees a sentence, not a traceback
        if "--verbose" in (args or sys.argv):
            raise
        kind, text = type(fault).__name__, privacy.redact(str(fault))
        _say(f"unexpected fault ({kind}: {text}). Nothing stored was lost; --verbose shows where it happened.", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


def _made(
    recipe: str,
    obj: Mapping[str, bool],
    *,
    only: str | None,
    since: str | None,
    params: str,
    overrides: Sequence[str],
    as_of: str | None,
    as_json: bool,
) -> Run:
    """Run a recipe of the pipeline with what `_run_options` gave."""
    from feedback_lib import config, pipeline

    make: Callable[..., Run] = getattr(pipeline, recipe)
    return make(
        config.load(params, overrides),
        as_of=config.parse_time(as_of) if as_of else None,
        only=only,
        since=config.parse_time(since) if since else None,
        progress=progress(obj),
        quiet_sinks=as_json,
    )


def _regression(row: Mapping[str, Any]) -> str:
    word = "no regression" if row["tested"] else "not known"
    return row["sentence"] or f"{row['metric']}: {word} ({row['reason']})"


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "is not UTF-8"
        raise ConfigError(f"{path}: {what}. Name a Markdown file.") from None


def _seconds(option: str, text: str | None) -> float | None:
    from feedback_lib import specs

    try:
        return specs.duration_s(text) if text else None
    except ValueError as problem:
        raise ConfigError(f"{option}: {problem}") from None


def _log(*, verbose: bool, quiet: bool) -> None:
    handler = logging.StreamHandler()
    if not sys.stderr.isatty():
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(
        level=logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True
    )


class _JsonLines(logging.Formatter):
    """One JSON object per line, for machines that read logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, logger and message as JSON."""
        return json.dumps(
            {
                "at": self.formatTime(record),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
            }
        )
