"""Signals labelled by people: which to ask about, what they said, and how right the models were."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import functools
import hashlib
import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from feedback_lib import config, encoders, records
from feedback_lib.analysis import text, triage
from feedback_lib.errors import ConfigError, nearest
from feedback_lib.records import Rejected
from feedback_lib.store import Store

if TYPE_CHECKING:
    from feedback_lib.analysis.triage import Triage

LAST = 50  # reviewed texts that count in `quality`
QUESTIONS = ("category", "dx_label", "sentiment", "severity_score")
SHEET = ("uid", "chosen", "text", *QUESTIONS)
SENTIMENTS = {-1.0: "furious", -0.5: "unhappy", 0.0: "neither", 0.5: "pleased", 1.0: "delighted"}
SEVERITIES = {
    0.0: "cosmetic or no fault",
    0.33: "annoying",
    0.67: "somebody cannot work",
    1.0: "outage, loss, exposure",
}
CHOICES: dict[str, dict[Any, str]] = {
    "category": {c: c.replace("_", " ") for c in triage.CATEGORIES},
    "dx_label": {**{d: d for d in triage.DX_LABELS}, triage.NONE: "none of the five"},
    "sentiment": SENTIMENTS,
    "severity_score": SEVERITIES,
}
_RANGES = {"sentiment": (-1.0, 1.0), "severity_score": (0.0, 1.0)}
_FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would run a cell that begins so


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person says a signal is; None is "not said".

    Raises:
        ConfigError: a value is none of ours; names it and what is allowed.
    """

    category: str | None = None
    dx_label: str | None = None
    sentiment: float | None = None
    severity_score: float | None = None

    def __post_init__(self) -> None:
        for question in ("category", "dx_label"):
            value = getattr(self, question)
            if value is not None and value not in CHOICES[question]:
                raise ConfigError(f"{question} {value!r}: {nearest(value, list(CHOICES[question]))}")
        for question, (low, high) in _RANGES.items():
            value = getattr(self, question)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{question} {value:g}: must be from {low:g} to {high:g}")

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return all(getattr(self, question) is None for question in QUESTIONS)


# ---- which to ask about -------------------------------------------------------------------------------------------


def choose(
    signals: pl.DataFrame, understanding: pl.DataFrame, labels: pl.DataFrame, n: int = 50, seed: int = 0
) -> pl.DataFrame:
    """The signals to ask a person about, in the order to ask.

    Half is drawn at random, so that what the person says of it tells how right the models are; half is what the models
    are least sure of, so that it teaches them most. Never one that was asked before, a duplicate, a machine's, or a
    text that the models cannot read.

    The random half is a systematic sample: signals are laid out by what the models say of them and by month, and every
    k-th is taken from a random start. Each is as likely as any other, and each kind has its share.

    Args:
        signals: table ``signals``.
        understanding: table ``understanding``.
        labels: table ``labels``.
        n: how many; fewer when there are fewer.
        seed: of the draw.

    Returns:
        One row per signal, both halves mixed: uid · type · origin · created_at · text · chosen (``random`` or
        ``uncertain``) · text_sha256 · and what the models say: category, category_score, dx_label, dx_score, sentiment,
        severity_score, triage_model.
    """
    rng = np.random.default_rng(seed)
    asked = labels["uid"].implode()
    inferred = understanding.select(
        *("uid", "category", "category_score", "dx_label", "dx_score", "sentiment", "severity_score"),
        *("triage_model", "duplicate_of"),
    )
    told = _whole(signals).select("uid", "type", "origin", "created_at", "month", "text", "same", "text_sha256")
    known = told.filter(pl.col("uid").is_in(asked))["same"].implode()
    pool = (
        told.join(inferred, on="uid")
        .filter(
            pl.col("type").is_in(records.VOICES),
            pl.col("category_score").is_not_null() & pl.col("duplicate_of").is_null(),
            ~pl.col("uid").is_in(asked) & ~pl.col("same").is_in(known),
        )
        .sort("uid")
        .unique("same", keep="first", maintain_order=True)
    )
    n = min(n, pool.height)
    drawn_n = n if n == pool.height else math.ceil(n / 2)  # all of them are a sample of everything
    laid_out = pool.with_columns(shuffle=pl.Series(rng.permutation(pool.height), dtype=pl.Int64)).sort(
        "category", "dx_label", "month", "shuffle", nulls_last=True
    )
    step = pool.height / max(drawn_n, 1)
    places = np.floor((np.arange(drawn_n) + rng.random()) * step).astype(np.int64)
    drawn = laid_out[np.minimum(places, pool.height - 1)]
    rest = pool.filter(~pl.col("uid").is_in(drawn["uid"].implode()))
    unsure = rest.sort(pl.col("category_score") + pl.col("dx_score"), "uid").head(n - drawn_n)
    both = pl.concat(
        [
            drawn.drop("shuffle").with_columns(chosen=pl.lit("random")),
            unsure.with_columns(chosen=pl.lit("uncertain")),
        ]
    )
    mixed: pl.DataFrame = both.select(pl.all().gather(rng.permutation(both.height)))
    return mixed.drop("same", "month", "duplicate_of")


def _whole(signals: pl.DataFrame) -> pl.DataFrame:
    """Signals with ``text``, its hash as `understand` writes it, and ``same``, equal for texts that say the same."""
    whole = [f"{title}\n{body}".strip() for title, body in signals.select("title", "body").iter_rows()]
    return signals.with_columns(
        text=pl.Series(whole, dtype=pl.String),
        same=pl.Series([" ".join(t.lower().split()) for t in whole], dtype=pl.String),
        text_sha256=pl.Series([hashlib.sha256(t.encode()).hexdigest() for t in whole], dtype=pl.String),
    )


# ---- what they said -----------------------------------------------------------------------------------------------


def record(asked: pl.DataFrame, answers: Mapping[str, Answer], *, by: str, at: dt.datetime) -> pl.DataFrame:
    """Rows of table ``labels``: what a person said, beside what the models had said before.

    Args:
        asked: of `choose`.
        answers: by uid; one that says nothing is left out.
        by: who says so.
        at: when.
    """
    rows = [
        records.LabelRow(
            uid=row["uid"],
            **dataclasses.asdict(answers[row["uid"]]),
            **{f"predicted_{c}": row[c] for c in (*QUESTIONS, "category_score", "dx_score") if c != "dx_score"},
            predicted_dx_score=row["dx_score"],
            triage_model=row["triage_model"],
            chosen=row["chosen"],
            text_sha256=row["text_sha256"],
            by=by,
            labelled_at=at,
        )
        for row in asked.iter_rows(named=True)
        if row["uid"] in answers and not answers[row["uid"]].empty
    ]
    return records.frame("labels", rows)


class Session:
    """One sitting: shows one signal at a time, keeps every answer at once, can go back.

    Args:
        store: where answers are kept.
        asked: of `choose`.
        by: who answers.
        clock: gives the moment of an answer; by default the machine's.

    Attributes:
        position: index of the signal shown; equal to ``len(asked)`` at the end.
        answers: what was said so far, by uid.
    """

    def __init__(
        self,
        store: Store,
        asked: pl.DataFrame,
        by: str,
        clock: Callable[[], dt.datetime] | None = None,
    ) -> None:
        self.store, self.asked, self.by = store, asked, by
        self._now = clock or functools.partial(dt.datetime.now, dt.UTC)
        self.position = 0
        self.answers: dict[str, Answer] = {}

    @property
    def current(self) -> dict[str, Any] | None:
        """The signal shown, as a row of `choose`; None at the end."""
        return self.asked.row(self.position, named=True) if self.position < self.asked.height else None

    @property
    def blind(self) -> bool:
        """Whether the models' view is kept back: seen first it would colour the answer that is to judge them."""
        row = self.current
        return row is not None and row["chosen"] == "random" and row["uid"] not in self.answers

    def answer(self, answer: Answer) -> None:
        """Keep the answer in the store and go on; one that says nothing is a skip."""
        row = self.current
        if row is None:
            raise IndexError("every signal of this session has been shown")
        if not answer.empty:
            self.answers[row["uid"]] = answer
            shown = self.asked[self.position : self.position + 1]
            self.store.upsert("labels", record(shown, {row["uid"]: answer}, by=self.by, at=self._now()))
        self.position += 1

    def skip(self) -> None:
        """Go on without an answer."""
        self.position = min(self.position + 1, self.asked.height)

    def back(self) -> None:
        """Show the signal before again; a new answer takes the place of the old."""
        self.position = max(self.position - 1, 0)


def start(store: Store, n: int, by: str, seed: int = 0) -> Session:
    """A session on the signals of a store.

    Raises:
        ConfigError: nothing in the store is left to ask about.
    """
    labels = store.read("labels")
    asked = choose(store.read("signals"), store.read("understanding"), labels, n, seed + labels.height)
    if asked.is_empty():
        raise ConfigError(
            f"store {store.path}: nothing to label. Signals of people are labelled once a run has read them; "
            f"run feedback aggregate first ({labels.height} are labelled already)."
        )
    return Session(store, asked, by)


# ---- sheets -------------------------------------------------------------------------------------------------------


def export_sheet(asked: pl.DataFrame, path: str | Path) -> None:
    """Write a CSV that a spreadsheet opens: one line per signal, with columns to fill in.

    The models' view is not in it, because it would colour the answers that are to judge them.
    """
    with Path(path).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SHEET)
        for uid, chosen, told in asked.select("uid", "chosen", "text").iter_rows():
            writer.writerow([uid, chosen, f"'{told}" if told.startswith(_FORMULA) else told, "", "", "", ""])


def import_sheet(
    path: str | Path,
    signals: pl.DataFrame,
    understanding: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    by: str,
    at: dt.datetime,
) -> tuple[pl.DataFrame, list[Rejected]]:
    """Read a sheet that somebody filled in.

    Args:
        path: a CSV with the columns of `export_sheet`; commas or semicolons. Lines with nothing filled in are left
            out. A line without ``chosen`` was picked by hand, so it teaches the models but does not judge them.
        signals: table ``signals``.
        understanding: table ``understanding``.
        labels: table ``labels``: of a signal labelled before, what the models said then is kept.
        by: who filled it in.
        at: when it is read.

    Returns:
        Rows of table ``labels``, and the lines that could not be used with the reason.

    Raises:
        ConfigError: the file is missing, is no text, or lacks a column.
    """
    path = Path(path)
    try:
        content = path.read_text("utf-8-sig")
    except OSError as problem:
        raise ConfigError(
            f"sheet {path}: {problem.strerror}. Pass a file written with feedback label --export."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"sheet {path}: not UTF-8 text. Save it as CSV UTF-8.") from None
    head = content.partition("\n")[0]
    reader = csv.reader(content.splitlines(keepends=True), delimiter=";" if head.count(";") > head.count(",") else ",")
    header = [name.strip().lower() for name in next(reader, [])]
    missing = [c for c in ("uid", *QUESTIONS) if c not in header]
    if missing:
        raise ConfigError(f"sheet {path}: no column {', '.join(missing)}. Its first line must name {', '.join(SHEET)}.")
    known = {r["uid"]: r for r in _told(signals, understanding, labels).iter_rows(named=True)}
    rows: dict[str, tuple[dict[str, Any], Answer]] = {}
    rejected = []
    while True:
        where = f"{path.name} line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
            if cells is None:
                break
            line = dict(zip(header, (c.strip() for c in cells), strict=False))
            answer = _answer(line)
            if answer.empty:
                continue
            uid = line.get("uid", "")
            if uid not in known:
                raise ConfigError(f"uid {uid!r}: there is no such signal in the store")
            if uid in rows:
                raise ConfigError(f"uid {uid!r}: labelled twice in this sheet; the first line counts")
            chosen = line.get("chosen") or "uncertain"
            if chosen not in ("random", "uncertain"):
                raise ConfigError(f"chosen {chosen!r}: must be random, uncertain or empty")
            rows[uid] = ({"chosen": chosen} | {k: v for k, v in known[uid].items() if v is not None}, answer)
        except (ConfigError, csv.Error) as problem:
            rejected.append(Rejected(where, str(problem)))
    asked = pl.DataFrame([known[u] | row for u, (row, _) in rows.items()], schema=_ASKED)
    return record(asked, {u: answer for u, (_, answer) in rows.items()}, by=by, at=at), rejected


_ASKED = {
    "uid": pl.String, "text_sha256": pl.String, "chosen": pl.String, "triage_model": pl.String,
    "category": pl.String, "category_score": pl.Float64, "dx_label": pl.String, "dx_score": pl.Float64,
    "sentiment": pl.Float64, "severity_score": pl.Float64,
}  # fmt: skip


def _told(signals: pl.DataFrame, understanding: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Every signal with what the models said of it; where it is labelled, what they said before it was."""
    now = _whole(signals).select("uid", "text_sha256")
    told = now.join(understanding.drop("text_sha256"), on="uid", how="left").with_columns(
        chosen=pl.lit(None, pl.String)
    )
    kept = {c: c for c in ("uid", "chosen", "triage_model")}
    before = labels.select(pl.col(kept.get(c, f"predicted_{c}")).alias(c) for c in _ASKED if c != "text_sha256").join(
        now, on="uid"
    )
    return pl.concat([f.select(list(_ASKED)) for f in (told.join(labels, on="uid", how="anti"), before)])


def _answer(line: Mapping[str, str]) -> Answer:
    """What one line of a sheet says."""
    given: dict[str, Any] = {}
    for question in QUESTIONS:
        cell = line.get(question, "")
        if not cell:
            continue
        if question in _RANGES:
            try:
                given[question] = float(cell.replace(",", ".").replace("\N{MINUS SIGN}", "-"))
            except ValueError:
                raise ConfigError(f"{question} {cell!r}: must be a number") from None
        else:
            plain = {str(c).lower().replace("_", " "): c for c in CHOICES[question]}
            given[question] = plain.get(cell.lower().replace("_", " "), cell)
    return Answer(**given)


# ---- how right the models were ------------------------------------------------------------------------------------


def quality(labels: pl.DataFrame, last: int = LAST) -> pl.DataFrame:
    """How right the models were before they were told: on the newest signals that were drawn at random.

    They had not seen these when they judged them, so nothing here is too good; `triage.Triage.reviewed_quality` says
    how right the models are that have learnt from them.

    Args:
        labels: table ``labels``.
        last: how many signals count.

    Returns:
        A row per label of each kind, and one ``any`` for all of a kind: as `triage.judged` gives it. No rows when
        nobody has reviewed a random sample.
    """
    newest = labels.filter(pl.col("chosen") == "random").sort("labelled_at", "uid").tail(last)
    rows = []
    for kind, names in {"category": triage.CATEGORIES, "dx_label": triage.DX_LABELS, **triage.IN_WORDS}.items():
        column = "severity_score" if kind == "severity" else kind
        mine = newest.filter(pl.col(column).is_not_null())
        truth, said = mine[column].to_list(), mine[f"predicted_{column}"].to_list()
        if kind in triage.IN_WORDS:
            truth, said = triage.in_words(kind, truth), triage.in_words(kind, said)
        rows += [triage.judged(kind, name, truth, said) for name in (*names, "any") if mine.height]
    return pl.DataFrame(rows, schema=_QUALITY)


_QUALITY = {
    "kind": pl.String, "label": pl.String, "n": pl.Int64, "said": pl.Int64, "right": pl.Int64,
    "precision": pl.Float64, "precision_low": pl.Float64, "precision_high": pl.Float64,
    "recall": pl.Float64, "recall_low": pl.Float64, "recall_high": pl.Float64, "abstained_ratio": pl.Float64,
}  # fmt: skip


def reviewed(store: Store) -> pl.DataFrame:
    """What people said, as `triage.train` takes it: one row per labelled signal whose text is still the same."""
    labels = store.read("labels")
    wanted = labels["uid"].implode()
    signals = store.scan("signals").to_native().filter(pl.col("uid").is_in(wanted)).collect()
    both = _whole(signals).select("uid", "text", "locale", "text_sha256").join(labels, on=["uid", "text_sha256"])
    read = [_readable(whole, locale) for whole, locale in both.select("text", "locale").iter_rows()]
    columns = [c for c in triage.REVIEWED if c != "text"]
    return both.select(pl.Series("text", read, dtype=pl.String), *columns).filter(pl.col("text") != "")


def _readable(whole: str, locale: str | None) -> str:
    """The text as the models see it; empty when they cannot."""
    seen = text.read(whole, locale)
    return seen.gloss.strip() if seen.readable else ""


def retrain(store: Store, encode: triage.Encode, seed: int = 0) -> Triage:
    """The models with everything people said so far, and in ``reviewed_quality`` what that brought."""
    return triage.train(encode, seed, reviewed(store))


def view_of(row: Mapping[str, Any]) -> str:
    """What the models say of a signal (a row of `choose`), in one line."""

    def sure(name: str, score: str) -> str:
        if row[name] is None:
            return "nothing" if row[score] is None else f"unsure ({row[score]:.0%})"
        return f"{CHOICES[name][row[name]]} ({row[score]:.0%})"

    told = [f"kind {sure('category', 'category_score')}", f"label {sure('dx_label', 'dx_score')}"]
    told += [f"feeling {row['sentiment']:+.1f}"] if row["sentiment"] is not None else []
    told += [f"severity {row['severity_score']:.1f}"] if row["severity_score"] is not None else []
    return " · ".join(told)


def nearest_choice(question: str, value: Any) -> Any:
    """What the models say as one of `CHOICES`; None when they say nothing."""
    if value is None or question not in _RANGES:
        return value
    return min(CHOICES[question], key=lambda choice: abs(choice - value))


_ALL = {"category": "all kinds", "dx_label": "all labels", "sentiment": "all feelings", "severity": "all severities"}


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows of quality as words: label, precision and recall with interval and counts, what was before."""
    told = []
    for row in rows:
        if not row["n"] and not row["said"]:
            continue
        line = {
            "label": _ALL[row["kind"]] if row["label"] == "any" else row["label"].replace("_", " "),
            "precision": _share(row, "precision", row["right"], row["said"]) if row["said"] else "never said",
            "recall": _share(row, "recall", row["right"], row["n"]) if row["n"] else "none reviewed",
        }
        if "precision_without" in row:
            before = [_two(row[f"{name}_without"]) for name in ("precision", "recall")]
            line["before"] = " / ".join(before)
            line["given"] = "withheld" if row["withheld"] else "yes"
        told.append(line)
    return told


def as_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of quality as a table for a notebook."""
    told = summary(rows)
    if not told:
        return "<p>No reviewed sample yet: none of the signals drawn at random is labelled.</p>"
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row.values()) + "</tr>" for row in told)
    heads = "".join(f'<th scope="col">{name}</th>' for name in told[0])
    return f'<div class="scroll"><table><tr>{heads}</tr>{cells}</table></div>'


def _share(row: Mapping[str, Any], name: str, right: int, of: int) -> str:
    return f"{_two(row[name])} ({_two(row[f'{name}_low'])}–{_two(row[f'{name}_high'])}), {right} of {of}"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".removeprefix("0")


# ---- in a notebook ------------------------------------------------------------------------------------------------

_STYLE = """<style>
.labelling { max-width: 860px; overflow: hidden; font: 15px/1.5 Inter, "Segoe UI", Helvetica, Arial, sans-serif; }
.labelling .told { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 320px; overflow-y: auto; margin: 4px 0;
  font-size: 15px; line-height: 1.5; padding: 12px 16px; background: #f1f3f6; color: #1b2330;
  border-left: 3px solid #576170; border-radius: 3px; }
.labelling .where, .labelling .view { font-size: 14px; line-height: 1.4; color: #576170; white-space: normal; }
.labelling .where b { color: #1b2330; font-size: 16px; }
.labelling .progress { background: #dfe3e9; border-radius: 3px; height: 6px; }
.labelling .progress-bar { background: #1f5fa8; height: 6px; }
.labelling .widget-toggle-buttons { width: auto; height: auto; flex-wrap: wrap; margin: 4px 0; }
.labelling .widget-toggle-buttons > .widget-label { width: 68px; text-align: left; color: #1b2330; font-weight: 600; }
.labelling button { width: auto; height: 32px; line-height: 1; padding: 0 12px; margin: 2px 6px 2px 0;
  background: #fff; color: #1b2330; border: 1px solid #8d97a5; border-radius: 3px; box-shadow: none; }
.labelling .widget-hbox { margin: 10px 0 4px; }
.labelling .widget-html-content { width: 100%; min-width: 0; }
.labelling button:hover:enabled { background: #f1f3f6; }
.labelling button.mod-active, .labelling button.mod-active:hover:enabled {
  background: #1f5fa8; color: #fff; border-color: #1f5fa8; box-shadow: none; }
.labelling button.mod-primary, .labelling button.mod-primary:hover:enabled {
  background: #1b2330; color: #fff; border-color: #1b2330; }
.labelling button:disabled { opacity: .45; }
.labelling button:focus-visible, .labelling .told:focus-visible { outline: 3px solid #1b2330; outline-offset: 2px; }
.labelling .scroll { overflow-x: auto; }
.labelling table { border-collapse: collapse; font-size: 14px; line-height: 1.4; }
.labelling th { text-align: left; font-weight: 400; color: #576170; border-bottom: 1px solid #576170; }
.labelling th, .labelling td { padding: 3px 18px 3px 0; white-space: nowrap; }
</style>"""
_TITLES = {"category": "Kind", "dx_label": "Label", "sentiment": "Feeling", "severity_score": "Severity"}


class Board:
    """A session as buttons, for a notebook; show `widget`. Tab and the space bar reach everything.

    Args:
        session: of `start`.
        learn: trains the models with everything said, for the last button.
    """

    def __init__(self, session: Session, learn: Callable[[], Triage]) -> None:
        import ipywidgets as widgets

        self.session, self._learn = session, learn
        self.progress = widgets.IntProgress(max=session.asked.height, layout={"width": "auto", "height": "8px"})
        self.told, self.after, self.result = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.choices = {
            question: widgets.ToggleButtons(
                options=[(words, value) for value, words in CHOICES[question].items()],
                value=None,
                description=_TITLES[question],
            )
            for question in QUESTIONS
        }
        self.keep = widgets.Button(description="Keep and go on", button_style="primary")
        self.take = widgets.Button(description="As the models say", tooltip="Fill in what the models say")
        self.skip = widgets.Button(description="Skip")
        self.back = widgets.Button(description="Back")
        self.learn = widgets.Button(description="Learn from my answers", layout={"width": "auto"})
        for button, do in (
            *((self.keep, self._keep), (self.take, self._take), (self.skip, self._skip), (self.back, self._back)),
            (self.learn, self._train),
        ):
            button.on_click(do)
        buttons = widgets.HBox([self.keep, self.take, self.skip, self.back, self.learn])
        buttons.layout.flex_flow = "row wrap"
        parts = [self.progress, self.told, *self.choices.values(), buttons, self.after, self.result]
        self.widget = widgets.VBox([widgets.HTML(_STYLE), *parts])
        self.widget.add_class("labelling")
        self._show()

    def _show(self) -> None:
        row, done = self.session.current, len(self.session.answers)
        self.progress.value = self.session.position
        for question, buttons in self.choices.items():
            before = self.session.answers.get(row["uid"]) if row else None
            buttons.value = getattr(before, question) if before else None
            buttons.disabled = row is None
        self.keep.disabled = self.skip.disabled = row is None
        self.back.disabled = self.session.position == 0
        self.take.disabled = row is None or self.session.blind
        self.learn.disabled = done == 0
        if row is None:
            self.told.value = f'<div class="where"><b>Done: {done} of {self.session.asked.height} labelled.</b></div>'
            return
        view = (
            "Drawn at random, to judge the models: what they say is shown after your answer."
            if self.session.blind
            else f"The models say: {view_of(row)}"
        )
        place = f"{self.session.position + 1} of {self.session.asked.height}"
        source = html.escape(f"{row['type']} · {row['origin']} · {row['created_at']:%Y-%m-%d}")
        self.told.value = (
            f'<div class="where"><b>{place}</b> · {source}</div><div class="told" tabindex="0">'
            f'{html.escape(row["text"])}</div><div class="view">{html.escape(view)}</div>'
        )

    def _keep(self, _: Any) -> None:
        row, blind = self.session.current, self.session.blind
        answer = Answer(**{question: buttons.value for question, buttons in self.choices.items()})
        self.session.answer(answer)
        view = f"The models said of the last one: {view_of(row)}" if row and blind and not answer.empty else ""
        self.after.value = f'<div class="view">{html.escape(view)}</div>'
        self._show()

    def _take(self, _: Any) -> None:
        row = self.session.current or {}
        for question, buttons in self.choices.items():
            buttons.value = nearest_choice(question, row.get(question))

    def _skip(self, _: Any) -> None:
        self.session.skip()
        self._show()

    def _back(self, _: Any) -> None:
        self.session.back()
        self._show()

    def _train(self, _: Any) -> None:
        self.learn.disabled = True
        self.result.value = "Learning …"
        self.result.value = (
            '<p class="view">On the signals drawn at random, each judged by models that had not seen it; in brackets '
            "95 %. Before: precision / recall without your answers. The next run uses what you said.</p>"
            + as_html(self._learn().reviewed_quality)
        )
        self.learn.disabled = False


def board(store: Store, n: int = 50, by: str = "analyst", seed: int = 0) -> Board:
    """A `Board` on the signals of a store.

    Raises:
        ConfigError: nothing in the store is left to ask about.
    """

    def learn() -> Triage:
        return retrain(store, encoders.minilm(config.cache_dir()).encode, seed)

    return Board(start(store, n, by, seed), learn)
