"""``feedback label``: an analyst says what signals are; the models learn from it and say how right they are."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from feedback_lib.commands import AS_JSON, PARAMS, SET, leave, print_json, progress, table

if TYPE_CHECKING:
    from feedback_lib.config import Config
    from feedback_lib.labelling import Session
    from feedback_lib.store import Store

SHOWN = 1_500  # characters of a text
NAMES = {"category": "Kind", "dx_label": "Label", "sentiment": "Feeling", "severity_score": "Severity"}
HELP = "a as the models say   . leave open   s skip   b back   q quit"


@click.command()
@PARAMS
@SET
@click.option("--count", default=50, show_default=True, type=click.IntRange(1), help="How many signals to ask about.")
@click.option("--as", "by", metavar="NAME", help="Who answers; by default the user of this machine.")
@click.option("--export", "export_", metavar="FILE", type=click.Path(dir_okay=False), help="Write a sheet to fill in.")
@click.option("--import", "import_", metavar="FILE", type=click.Path(dir_okay=False), help="Read a sheet filled in.")
@click.option("--show", is_flag=True, help="Show how right the models were on the signals reviewed so far.")
@AS_JSON
@click.pass_obj
def label(
    obj: Mapping[str, bool],
    *,
    params: str,
    overrides: Sequence[str],
    count: int,
    by: str | None,
    export_: str | None,
    import_: str | None,
    show: bool,
    as_json: bool,
) -> None:
    """Say what signals are, one at a time, so that the models learn your product and their errors are known.

    Half of the signals are drawn at random and judge the models; half are those the models are least sure of. Every
    answer is kept at once: quit whenever you like. The next run uses what you said.
    """
    import getpass

    from feedback_lib import config
    from feedback_lib.store import Store

    if sum([bool(export_), bool(import_), show]) > 1:
        raise click.UsageError("--export, --import and --show exclude each other.")
    if as_json and not (show or import_):
        raise click.UsageError("--json goes with --show or --import.")
    cfg = config.load(params, overrides)
    store = Store(cfg.store)
    who = by or getpass.getuser()
    if show:
        _show(store, as_json)
    elif export_:
        _export(store, cfg, count, who, export_)
    elif import_:
        _import(obj, store, cfg, who, import_, as_json)
    else:
        _ask(obj, store, cfg, count, who)


def _show(store: Store, as_json: bool) -> None:
    from feedback_lib import labelling

    labels = store.read("labels")
    rows = labelling.quality(labels).to_dicts()
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("No reviewed sample yet. feedback label asks about fifty signals.")
    else:
        random = labels.filter(labels["chosen"] == "random").height
        click.echo(f"{labels.height} signals labelled, {random} of them drawn at random; the newest")
        click.echo(f"{min(random, labelling.LAST)} of these judge what the models had said before. In brackets: 95 %.")
        table(labelling.summary(rows), ["label", "precision", "recall"], as_json)


def _export(store: Store, cfg: Config, count: int, by: str, path: str) -> None:
    from feedback_lib import labelling

    asked = labelling.start(store, count, by, cfg.seed).asked
    labelling.export_sheet(asked, path)
    click.echo(f"{asked.height} signals in {path}. Fill in what you know, then: feedback label --import {path}")
    for question, choices in labelling.CHOICES.items():
        numbers = question in ("sentiment", "severity_score")
        click.echo(f"  {question}: " + ", ".join(f"{k:g} {v}" if numbers else str(k) for k, v in choices.items()))


def _import(obj: Mapping[str, bool], store: Store, cfg: Config, by: str, path: str, as_json: bool) -> None:
    import datetime as dt

    from feedback_lib import labelling

    rows, rejected = labelling.import_sheet(
        path,
        store.read("signals"),
        store.read("understanding"),
        store.read("labels"),
        by=by,
        at=dt.datetime.now(dt.UTC),
    )
    store.upsert("labels", rows)
    click.echo(f"{rows.height} labels read, {len(rejected)} lines left out.", err=as_json)
    for one in rejected:
        click.echo(f"  {one.where}: {one.reason}", err=True)
    if rows.height:
        _learn(obj, store, cfg, as_json)
    leave("degraded" if rejected else "ok")


def _ask(obj: Mapping[str, bool], store: Store, cfg: Config, count: int, by: str) -> None:
    from feedback_lib import labelling

    session = labelling.start(store, count, by, cfg.seed)
    keys = _keys()
    try:
        while session.current and _one(session, keys):
            pass
    except (KeyboardInterrupt, click.Abort, EOFError):
        click.echo()
    click.echo(f"\n{len(session.answers)} of {session.asked.height} labelled; all are kept.")
    if session.answers:
        _learn(obj, store, cfg, as_json=False)


def _keys() -> Callable[[], str]:
    """Reads the next key: from the terminal, or through a pipe any character that is no white space."""
    if sys.stdin.isatty():
        return click.getchar
    stream: Iterator[str] = (c for line in sys.stdin for c in line if not c.isspace())

    def piped() -> str:
        key = next(stream, None)
        if key is None:
            raise EOFError
        return key

    return piped


def _one(session: Session, keys: Callable[[], str]) -> bool:
    """Ask about the signal shown; False when the person quits."""
    from feedback_lib import labelling

    row = session.current
    assert row is not None
    blind = session.blind
    _show_signal(session, row, blind=blind)
    given: dict[str, Any] = {}
    questions = list(labelling.QUESTIONS)
    while len(given) < len(questions):
        question = questions[len(given)]
        values = list(labelling.CHOICES[question])
        options = "   ".join(f"{i} {_option(question, v)}" for i, v in enumerate(values, 1))
        click.echo(f"{NAMES[question]:9} {options}\n{'':9} {HELP if not blind else HELP.partition('   ')[2]}")
        while True:
            key = keys().lower()
            if key == "q":
                return False
            if key == "s":
                session.skip()
                return True
            if key == "b":
                if not given:
                    session.back()
                    return True
                given.popitem()
                break
            if key == ".":
                given[question] = None
            elif key == "a" and not blind:
                given[question] = labelling.nearest_choice(question, row[question])
            elif key.isdigit() and 1 <= int(key) <= len(values):
                given[question] = values[int(key) - 1]
            else:
                continue
            click.echo(f"{'':9} → {_option(question, given[question])}")
            break
    session.answer(labelling.Answer(**given))
    if blind:
        click.echo(f"The models said: {labelling.view_of(row)}")
    return True


def _show_signal(session: Session, row: Mapping[str, Any], *, blind: bool) -> None:
    from feedback_lib import labelling

    where = f"{session.position + 1} of {session.asked.height}"
    click.echo(f"\n{click.style(where, bold=True)} · {row['type']} · {row['origin']} · {row['created_at']:%Y-%m-%d}\n")
    told = row["text"] if len(row["text"]) <= SHOWN else row["text"][:SHOWN].rsplit(" ", 1)[0] + " …"
    for line in "".join(c for c in told if c.isprintable() or c == "\n").splitlines():  # nothing a terminal would obey
        click.echo(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="  "))
    click.echo(
        "\nDrawn at random, to judge the models: what they say is shown after your answer.\n"
        if blind
        else f"\nThe models say: {labelling.view_of(row)}\n"
    )


def _option(question: str, value: Any) -> str:
    from feedback_lib import labelling

    return "left open" if value is None else labelling.CHOICES[question][value]


def _learn(obj: Mapping[str, bool], store: Store, cfg: Config, as_json: bool) -> None:
    """Train with everything said so far and print what that brought."""
    from feedback_lib import config, encoders, labelling

    tell = progress(obj)
    tell("… learning from your answers")
    encoder = encoders.make(cfg.encoder, cache=config.cache_dir(), threads=cfg.threads)
    trained = labelling.retrain(store, encoder.encode, cfg.seed)
    if as_json:
        print_json(trained.reviewed_quality)
        return
    tell(f"learnt; models are now {trained.version}")
    if not trained.reviewed_quality:
        click.echo("None of the signals drawn at random is labelled yet, so there is nothing to judge the models by.")
        return
    click.echo("On the signals drawn at random, each judged by models that had not seen it. In brackets: 95 %.")
    click.echo("before: precision / recall of the models without your answers.")
    rows = labelling.summary(trained.reviewed_quality)
    table(rows, ["label", "precision", "recall", "before", "given"], as_json)
    click.echo("The next run uses what you said.")
