"""What is new this week, in one call: findings with their people and verbatims, a river, a map, panels, documents."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import functools
import html
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import numpy as np
import polars as pl

from feedback_lib import charts, config, pages, performance, privacy, records, review, suggest, understand
from feedback_lib import report as reports
from feedback_lib import specs as plans
from feedback_lib.analysis import alignment, counts, layout, text, trends
from feedback_lib.errors import ConfigError, FeedbackError
from feedback_lib.store import Store

if TYPE_CHECKING:
    import ipywidgets as widgets

Render = Literal["svg", "widget"]
Row = dict[str, Any]

WEEKS = trends.SPARK_WEEKS
COLOURED = 8  # bands of the river
THEMES = 4  # that the others are grouped into
ON_THE_MAP = 20_000
WATCHED_DAYS = 56
CENTRAL, DISSENTING = 3, 2
READABLE = 40, 400  # letters
READ = 30  # documents listed
_HINT = "Drag over the map to list texts; click a dot to read it."
_DAY = dt.timedelta(days=1)
# words that say how something is measured, not what; by their stems
_MEASURES = frozenset(
    re.split(
        r"\s+",
        "api app availability availabl avg core count duration error fail failur latency p50 p90 p95 p99 rat ratio "
        "request respons servic server spec start success system tim total",
    )
)
# words of people, and words of a measurement that answers them; by their stems
_SUITS = tuple(
    (frozenset(re.split(r"\s+", said)), frozenset(re.split(r"\s+", asked)))
    for said, asked in (
        ("slow slower timeout lag latency delay wait stuck queu hang", "latency duration tim p50 p90 p95 p99"),
        (
            "error fail failur crash refus broken down outag unavailabl 403 500 502 503 504",
            "error availability success",
        ),
    )
)
_FINDINGS: dict[str, Any] = {
    "kind": pl.String,
    "subject_type": pl.String,
    "name": pl.String,
    "topic_id": pl.Int64,
    "theme": pl.String,
    "people": pl.Int64,
    "mentions": pl.Int64,
    "usual_people": pl.Float64,
    "ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "q": pl.Float64,
    "per": pl.String,
    "release": pl.String,
    "origins": pl.List(pl.String),
    "central": pl.List(pl.Struct({"text": pl.String, "url": pl.String, "uid": pl.String})),
    "dissenting": pl.List(pl.Struct({"text": pl.String, "url": pl.String, "uid": pl.String})),
    "finding_id": pl.String,
}


def whats_new(store: Store | str | Path, run_id: str | None = None, *, specs: str | Path | None = None) -> WhatsNew:
    """Everything about the newest week that an analyst asks first.

    Args:
        store: the store, or its folder.
        run_id: of the run to look at; None is the newest.
        specs: the folder that holds ``specs/``, for deploys and measurements; None takes the run's own, if it has one.

    Raises:
        StoreError: there is no such run.
    """
    store = store if isinstance(store, Store) else Store(store)
    report = reports.open_report(store, run_id or "").to_dict()
    row = store.read("runs").filter(pl.col("run_id") == report["run_id"]).row(0, named=True)
    inputs = json.loads(row["inputs"])
    versions = inputs.get("read", {}) | inputs.get("written", {})
    store = store.at({t: v for t, v in versions.items() if v is not None}) if versions else store
    params = json.loads(row["params"])
    week = dt.date.fromisoformat(report["week"]["start"])
    texts = _voices(store, report, week)
    topics = store.read("topics").filter(pl.col("retired_on").is_null())
    found = store.read("findings").filter(pl.col("week") == week, pl.col("kind") != "steady")
    root = Path(specs or params.get("specs") or "") if specs or params.get("specs") else None
    return WhatsNew(
        report=report,
        week=week,
        findings=_findings(found, topics, texts, week),
        topics=topics,
        texts=texts,
        root=root,
        encoder=params.get("encoder") or {"kind": "minilm"},
    )


def _voices(store: Store, report: Mapping[str, Any], week: dt.date) -> pl.DataFrame:
    """What people said in the thirteen weeks, with what was inferred; without sources the run could not read."""
    end = dt.datetime.combine(week, dt.time(), dt.UTC) + 7 * _DAY
    inside = pl.col("created_at").is_between(end - WEEKS * 7 * _DAY, end, closed="left")
    signals = store.read("signals").filter(inside, pl.col("type").is_in(records.VOICES))
    for source in report["sources"]:
        if source["status"] == "failed":
            gone = (pl.col("kind") == source["kind"]) & (pl.col("origin") == source["origin"])
            signals = signals.filter(~gone)
    return understand.join(signals, store.read("understanding")).with_columns(
        person=pl.coalesce("author", pl.concat_str(pl.lit("signal "), "uid")),
        week=pl.col("created_at").dt.truncate("1w").dt.date(),
    )


def _findings(found: pl.DataFrame, topics: pl.DataFrame, texts: pl.DataFrame, week: dt.date) -> pl.DataFrame:
    """The findings with their verbatims, strongest first."""
    themes = dict(topics.select("topic_id", "theme").iter_rows())
    said = {r["uid"]: r for r in texts.iter_rows(named=True)}
    rows = []
    for finding in found.iter_rows(named=True):
        topic = int(finding["subject"]) if finding["subject_type"] == "topic" else None
        evidence = [said[uid] for uid in finding["evidence"] if uid in said]
        central, dissenting = _verbatims(evidence, scored=topic is not None)
        per = finding["per"] or "people heard"
        origins = list(finding["origins"] or dict.fromkeys(f"{e['kind']}:{e['origin']}" for e in evidence))
        rows.append(
            {c: finding[c] for c in _FINDINGS if c in finding}
            | {"topic_id": topic, "theme": themes.get(topic) if topic is not None else None}
            | {"usual_people": finding["baseline_people"], "per": per, "origins": origins}
            | {"central": central, "dissenting": dissenting}
        )
    kinds, types = list(trends.KINDS), list(counts.SUBJECTS)
    rows.sort(
        key=lambda r: (
            kinds.index(r["kind"]),
            types.index(r["subject_type"]),
            1.0 if r["q"] is None else r["q"],
            r["name"],
        )
    )
    return pl.DataFrame(rows, schema=_FINDINGS, orient="row")


def _verbatims(evidence: Sequence[Row], *, scored: bool = False) -> tuple[list[Row], list[Row]]:
    """Three central and two dissenting voices; each person speaks once.

    Central are the first of the evidence, of a topic the best third; dissenting the last, of a topic those that belong
    to it least. Among those, texts that are quickly read go first, and one language that few read speaks once.

    Args:
        evidence: the best first.
        scored: the evidence is members of a topic, which are put in the order of how well they belong.
    """
    taken: set[str] = set()
    foreign = 0
    rows = [row for row in evidence if row["duplicate_of"] is None]
    if scored:
        rows = sorted(rows, key=lambda r: -(r["topic_score"] or 0.0))
    usual = collections.Counter(r["language"] for r in rows).most_common(1)

    def some(rows: Sequence[Row], count: int) -> list[Row]:
        nonlocal foreign
        chosen: list[Row] = []
        for row in rows:
            words = reports.verbatim(row["title"], row["body"])
            strange = row["language"] != usual[0][0]
            if len(chosen) == count or not words or {row["person"], words.casefold()} & taken:
                continue
            if strange and foreign:
                continue
            foreign += strange
            taken.update((row["person"], words.casefold()))
            chosen.append({"text": words, "url": row["url"], "uid": row["uid"]})
        return chosen

    near = max(2 * CENTRAL, len(rows) // 3)
    far = max(2 * DISSENTING, len(rows) // 5)
    central = some([*sorted(rows[:near], key=_unread), *rows[near:]], CENTRAL)
    back = rows[::-1]
    return central, some([*sorted(back[:far], key=_unread), *back[far:]], DISSENTING)


def _unread(row: Row) -> bool:
    """Whether a text is too short to say something or too long to be read at a glance."""
    return not READABLE[0] <= len(f"{row['title'] or ''} {row['body'] or ''}".strip()) <= READABLE[1]


@dataclasses.dataclass(frozen=True)
class WhatsNew:
    """The answer for one week; shown in a notebook, it is a short summary.

    Attributes:
        report: the report of the run, as `report.Report.to_dict` gives it.
        week: its Monday.
        findings: one row per finding, strongest first: kind · subject_type · name · topic_id · theme · people ·
            mentions · usual_people · ratio, low, high, of the rate, 95 % · q · per · release · origins · central and
            dissenting, verbatims with their links · finding_id.
        topics: the registry without what is retired.
        texts: what people said in thirteen weeks, with topic and score.
        root: the folder that holds ``specs/``; None where no service is measured.
        encoder: the options of the encoder that the run used.
    """

    report: Mapping[str, Any]
    week: dt.date
    findings: pl.DataFrame
    topics: pl.DataFrame
    texts: pl.DataFrame
    root: Path | None
    encoder: Mapping[str, Any]

    # ---------------------------------------------------------------------------------------------- what was counted

    @functools.cached_property
    def badges(self) -> dict[int, str]:
        """The kind of each topic that has a finding, as its badge."""
        found: dict[int, str] = {}
        for topic, kind in self.findings.drop_nulls("topic_id").select("topic_id", "kind").iter_rows():
            found.setdefault(topic, kind.upper())
        return found

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """Topic names by id."""
        return dict(self.topics.select("topic_id", "name").iter_rows())

    @functools.cached_property
    def ranked(self) -> list[int]:
        """Topics that anybody spoke of: those with a finding first, then the most people."""
        sizes = (
            self.texts.drop_nulls("topic_id")
            .group_by("topic_id")
            .agg(pl.col("person").n_unique().alias("people"))
            .sort("people", "topic_id", descending=[True, False])
        )
        known = [t for t in sizes["topic_id"].to_list() if t in self.names]
        return [t for t in self.badges if t in self.names] + [t for t in known if t not in self.badges]

    def _mondays(self) -> list[dt.date]:
        """The weeks from the first that has data."""
        first = self.texts["week"].min()
        every = [self.week - dt.timedelta(weeks=back) for back in range(WEEKS - 1, -1, -1)]
        return [day for day in every if first is None or day >= first] or every[-1:]  # type: ignore[operator]

    def _labels(self) -> list[str]:
        return [f"{day.day} {day:%b}" for day in self._mondays()]

    def _band(self, name: str, rows: pl.DataFrame, badge: str = "", *, delight: bool = False) -> Row:
        """A band of the river: the share of all people heard who are in some rows, week by week."""
        counted = trends.weekly_heard(nw.from_native(rows.lazy())).collect("polars").to_native()
        people = dict(counted.select("week_us", "people").iter_rows())
        mondays = [records.micros(dt.datetime.combine(d, dt.time(), dt.UTC)) for d in self._mondays()]
        heard = self._heard
        shares = [people.get(m, 0) / heard[m] if heard.get(m) else None for m in mondays]
        return {
            "name": name,
            "badge": badge,
            "delight": delight,
            "shares": shares,
            "people": people.get(mondays[-1], 0),
        }

    @functools.cached_property
    def _heard(self) -> dict[int, int]:
        counted = trends.weekly_heard(nw.from_native(self.texts.lazy())).collect("polars").to_native()
        return dict(counted.select("week_us", "people").iter_rows())

    def _delight(self, topic: int) -> bool:
        rows = self.texts.filter(pl.col("topic_id") == topic)
        return bool(suggest.is_praise(rows)) if rows.height else False

    @functools.cached_property
    def deploys(self) -> pl.DataFrame:
        """The deploys of the specs in the thirteen weeks: at · version, each version once."""
        frames = [performance.deploys(plan) for plan in self._plans.values()]
        empty = pl.DataFrame(schema={"at": pl.Datetime("us", "UTC"), "version": pl.String})
        first = dt.datetime.combine(self._mondays()[0], dt.time(), dt.UTC)
        inside = pl.col("at").is_between(first, first + dt.timedelta(weeks=len(self._mondays())))
        every = pl.concat([empty, *frames]).filter(inside)
        return every.sort("at", "version").unique("version", keep="first", maintain_order=True)

    @functools.cached_property
    def _plans(self) -> dict[str, plans.Plan]:
        """The specs that can be read and name something that is measured."""
        found: dict[str, plans.Plan] = {}
        for spec_id in plans.ids(self.root) if self.root else ():
            try:
                plan = plans.load(spec_id, self.root or "")
            except FeedbackError:
                continue  # `feedback watch` says what is wrong with it
            if plan.watched:
                found[plan.spec_id] = plan
        return found

    # ------------------------------------------------------------------------------------------------------- pictures

    def river(self, render: Render = "svg") -> charts.Picture | charts.ChartWidget:
        """Which topics people spoke of, as shares of all people heard, week by week, with the deploys."""
        chosen = self.ranked[:COLOURED]
        bands = [
            self._band(self.names[t], self._of(t), self.badges.get(t, ""), delight=self._delight(t)) for t in chosen
        ]
        labels, rest = self._labels(), self._rest(chosen)
        first = dt.datetime.combine(self._mondays()[0], dt.time(), dt.UTC)
        deploys = [{"x": (at - first) / (7 * _DAY), "version": version} for at, version in self.deploys.iter_rows()]
        drawn = charts.river(labels, bands, rest, deploys)
        return charts.show(drawn, alt=charts.river_words(labels, bands, rest, deploys), render=render)

    def _of(self, topic: int) -> pl.DataFrame:
        return self.texts.filter(pl.col("topic_id") == topic)

    def _rest(self, chosen: Sequence[int]) -> list[Row]:
        """The other topics, by theme where there are themes, the biggest themes first."""
        others = self.texts.drop_nulls("topic_id").filter(~pl.col("topic_id").is_in(list(chosen)))
        if others.is_empty():
            return []
        themes = dict(self.topics.drop_nulls("theme").select("topic_id", "theme").iter_rows())
        theme = pl.col("topic_id").replace_strict(themes, default=None, return_dtype=pl.String)
        named = others.with_columns(theme=theme)
        sizes = named.drop_nulls("theme").group_by("theme").agg(pl.col("person").n_unique().alias("n"))
        big = sizes.sort("n", "theme", descending=[True, False])["theme"].to_list()[:THEMES]
        bands = [self._band(theme, named.filter(pl.col("theme") == theme)) for theme in big]
        left = named.filter(~pl.col("theme").is_in(big).fill_null(False))
        count = left["topic_id"].n_unique()
        if count:
            words = f"{count} {'more topics' if bands else 'other topics'}" if count > 1 else "1 other topic"
            bands.append(self._band(words, left))
        return bands

    @functools.cached_property
    def vectors(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A vector per row of ``texts``, out of the cache of the encoder; nothing is embedded twice."""
        from feedback_lib import encoders

        made = encoders.make(self.encoder, cache=config.cache_dir())
        rows = self.texts.select("title", "body", "locale").iter_rows()
        read = (text.read(f"{title}\n{body}".strip(), locale, made.languages) for title, body, locale in rows)
        return made.encode([one.gloss for one in read])

    @functools.cached_property
    def centres(self) -> tuple[list[int], np.ndarray[Any, np.dtype[np.float64]]]:
        """The topics that somebody spoke of, and a centre for each: the registry's, else the mean of its members."""
        stored = dict(self.topics.select("topic_id", "centroid").iter_rows())
        owner = self.texts["topic_id"].fill_null(-1).to_numpy()
        ids, rows = [], []
        for topic in sorted(self.ranked):
            centre = np.asarray(stored.get(topic) or (), dtype=np.float64)
            if centre.size != self.vectors.shape[1]:
                centre = self.vectors[owner == topic].sum(axis=0, dtype=np.float64)
            if np.linalg.norm(centre) > 0:
                ids.append(topic)
                rows.append(centre / np.linalg.norm(centre))
        return ids, np.array(rows).reshape(len(ids), self.vectors.shape[1])

    @functools.cached_property
    def places(self) -> pl.DataFrame:
        """What is on the map: uid · x · y, 0 to 1; an even choice where there are very many texts."""
        chosen = np.unique(np.linspace(0, self.texts.height - 1, min(self.texts.height, ON_THE_MAP)).astype(np.int64))
        labels = self.texts["topic_id"].fill_null(-1).to_numpy()[chosen]
        found = layout.places(self.vectors[chosen], labels)
        return self.texts[chosen].select("uid").with_columns(x=pl.Series(found[:, 0]), y=pl.Series(found[:, 1]))

    def _dots(self, *, told: bool) -> list[Row]:
        least = dict(self.topics.select("topic_id", "least").iter_rows())
        usual = dict(
            self.texts.drop_nulls("topic_score")
            .group_by("topic_id")
            .agg(pl.col("topic_score").quantile(0.1))
            .iter_rows()
        )
        made = []
        shown = self.places.join(self.texts, on="uid", how="left", maintain_order="left")
        for row in shown.iter_rows(named=True):
            topic, score = row["topic_id"], row["topic_score"]
            weak = topic is None or score is None or score < max(least.get(topic) or 0.0, usual.get(topic) or 0.0)
            made.append({"x": row["x"], "y": row["y"], "topic": topic, "weak": weak, "now": row["week"] == self.week})
            if told:
                made[-1] |= {"title": privacy.redact(row["title"]) or "(no title)", "url": _address(row["url"])}
        return made

    def _islands(self) -> list[Row]:
        return [
            {
                "topic": t,
                "name": self.names[t],
                "badge": self.badges.get(t, ""),
                "delight": t in self.badges and self._delight(t),
            }
            for t in self.ranked
        ]

    def map(self, render: Render = "svg") -> charts.Picture | widgets.VBox:
        """Every text as a dot; as a widget, dragging lists the texts and a click shows one."""
        dots, islands = self._dots(told=render == "widget"), self._islands()
        words = charts.document_map_words(dots, islands)
        drawn = charts.document_map(dots, islands)
        if render == "svg":
            return charts.Picture(charts.joined(charts.svg(drawn, alt=words)), words)
        import ipywidgets as widgets

        shown = charts.ChartWidget(drawn, words)
        below = widgets.HTML(pages.Part(f"<p class='dim'>{_HINT}</p>"))
        shown.observe(lambda change: setattr(below, "value", self.selected(change["new"])), names="selection")
        return widgets.VBox([shown, below])

    def selected(self, selection: Mapping[str, Any]) -> pages.Part:
        """The texts that a selection of the map picks, as a table; one that was clicked is shown whole.

        Args:
            selection: as `charts.ChartWidget.selection` tells it: ``brush``, ranges of pixels; ``text``, a dot.
        """
        shown = self.places.join(self.texts, on="uid", how="left", maintain_order="left")
        brush = selection.get("brush") or {}
        if "px" not in brush or "py" not in brush:  # a click takes the brush away
            picked = (selection.get("text") or {}).get("n") or []
            if picked:
                return pages.Part("".join(self._whole(shown.row(int(n), named=True)) for n in picked[:3]))
            return pages.Part(f"<p class='dim'>{_HINT}</p>")
        inside = pl.lit(value=True)
        for name, place in (("px", pl.col("x") * 860), ("py", (1 - pl.col("y")) * 560)):
            inside = inside & place.is_between(min(brush[name]), max(brush[name]))
        return self._table(shown.filter(inside).sort("created_at", descending=True))

    def page(self, target: str | Path) -> Path:
        """The map as one HTML file for somebody without Python: dragging lists titles, a click opens the source."""
        dots, islands = self._dots(told=True), self._islands()
        drawn = charts.document_map(dots, islands, listed=True)
        written = Path(target)
        written.write_text(
            charts.page(drawn, alt=charts.document_map_words(dots, islands), title=self._title()), "utf-8"
        )
        return written

    def _title(self) -> str:
        return f"What is new: {self.report['product']}, {self.report['week']['label']}"

    # ------------------------------------------------------------------------------------------------------ the service

    def panels(self, topic_id: int | None = None, spec_id: str | None = None) -> Panels:
        """People who speak of a topic, above what is measured of a service, on one axis of time.

        What a topic is about decides which service stands below it, not what lines up best: the service that its
        signals name, else the one whose name or measurements share a word with their product area, or with the
        topic's name. So one line-up is tested, and only of a topic that is about the service it is claimed.

        Args:
            topic_id: None is the strongest topic that is about a service.
            spec_id: which service; None is the one that the topic is about.

        Raises:
            ConfigError: there is no such topic or service.
        """
        if spec_id not in (None, *self._plans):
            raise ConfigError(f"no spec named {spec_id!r} under {self.root}; there is {', '.join(self._plans)}")
        chosen = self._chosen(topic_id)
        if topic_id is None:
            of_services = (t for t in self.ranked if spec_id in (None, self._about(t)[0]) and self._about(t)[0])
            chosen = next((t for t in of_services if not self._delight(t)), chosen)
        name, (service, slis, why) = self.names[chosen], self._about(chosen)
        if not self._plans:
            none = "No service is measured here: name the folder that holds specs/."
            return Panels(chosen, name, "", none, None, None, None)
        if spec_id is None and service is None:
            asked = ", ".join(f"{s} ({plan.service})" for s, plan in self._plans.items())
            none = f"Nothing in what people say of “{name}” names a service. Name the one you mean: {asked}."
            return Panels(chosen, name, "", none, None, None, None)
        about = spec_id is None or spec_id == service
        shown = self._reviewed(spec_id or service or "")
        measured = {h.sli_name for h in shown.health.slos}
        sli = next((s for s in slis if s in measured), None) if about else None
        alone = tuple(h for h in shown.health.slos if h.sli_name == sli)
        asked_for = dataclasses.replace(shown, health=dataclasses.replace(shown.health, slos=alone)) if alone else shown
        figure = review.figures(asked_for)[0]
        people, said = self._said(chosen)
        lag = alignment.best_lag(_daily(figure), np.array([p["people"] for p in people], dtype=np.float64))
        follows = self._follows(shown, figure, said)
        hours = [(d["x"] * 24.0, str(d["version"])) for d in figure["deploys"]]
        risen = alignment.rises(hours, said, 0.0, figure["days"] * 24.0)
        note = (
            f"{why} "
            if about
            else f"Nothing in what people say of “{name}” names this service, so nothing is claimed. "
        )
        note += _lag_words(lag, follows, figure["sli"], shown.start, about=about)
        note += "".join(f"\n{_rise_words(r, shown.start)}" for r in risen)
        drawn = charts.aligned(figure, people, name)
        words = f"{name}, people per day, above {charts.slo_words(figure)} {note}"
        what = f"{shown.plan.service}: {figure['sli']}"
        return Panels(chosen, name, what, note, charts.svg(drawn, alt=words), lag, follows if about else None)

    def _about(self, topic: int) -> tuple[str | None, list[str], str]:
        """The service that a topic is about, its measurements that suit best first, and why; None where none is."""
        rows = self._of(topic)
        name = self.names[topic]
        told = [("service", "spec_id"), ("service", "service"), ("product area", "product_area")]
        terms = [(f"of the {what} “{word}”", word) for what, c in told if (word := _most(rows[c])) is not None]
        for why, term in [*terms, (f"which share a word with “{name}”", name)]:
            words = _stems(term) - _MEASURES
            found = {}
            for spec, plan in self._plans.items():
                slis = [w.slo.sli for w in plan.watched]
                own = [s for s in slis if words & (_stems(s) - _MEASURES)]
                if term in (spec, plan.service):
                    found[spec] = (99, slis)
                elif shared := words & ((_stems(f"{plan.service} {spec}") | _stems(" ".join(slis))) - _MEASURES):
                    found[spec] = (len(shared), own or slis)
            if found:
                spec = max(found, key=lambda s: found[s][0])  # of equals the first
                wanted = _stems(name) | _stems(" ".join(rows["title"].drop_nulls()))
                suits = [
                    sum(bool(wanted & said and _stems(s) & asked) for said, asked in _SUITS) for s in found[spec][1]
                ]
                order = np.argsort(-np.array(suits), kind="stable")
                slis = [found[spec][1][n] for n in order]
                return spec, slis, f"These texts are {why}, hence {self._plans[spec].service}: {slis[0]}."
        return None, [], ""

    def _reviewed(self, spec_id: str) -> review.Review:
        if spec_id not in self._reviews:
            end = dt.datetime.combine(self.week, dt.time(), dt.UTC) + 7 * _DAY
            self._reviews[spec_id] = review.open(spec_id, self.root or "", end, WATCHED_DAYS)
        return self._reviews[spec_id]

    @functools.cached_property
    def _reviews(self) -> dict[str, review.Review]:
        return {}

    def _follows(self, shown: review.Review, figure: Row, said: Sequence[float]) -> alignment.Follows | None:
        """Whether complaints began when the measurement got worse; None where it did not in the last week."""
        begun = [r["start"] for r in shown.regressions if r["metric"] == figure["sli"] and r["found"]]
        if not begun:
            return None
        day = (dt.date.fromisoformat(begun[0]) - shown.start.date()).days
        near = [p for p in figure["series"] if day - 7 <= p["x"]]
        values = np.array([p["value"] for p in near], dtype=np.float64)
        place = alignment.turn(values if figure["op"].startswith("<") else -values)
        if place is None:
            return None
        at, step = near[place]["x"], near[place]["x"] - near[place - 1]["x"]
        # a deploy within that step says the moment better
        moment = next((d["x"] for d in figure["deploys"] if at - step <= d["x"] <= at + step), at)
        return alignment.follows(moment * 24, said, 0.0, figure["days"] * 24)

    def _said(self, topic: int) -> tuple[list[Row], list[float]]:
        """People per day before the end of the week, and the hour of each person's first word of a day."""
        start = dt.datetime.combine(self.week, dt.time(), dt.UTC) + (7 - WATCHED_DAYS) * _DAY
        first = (
            self._of(topic)
            .filter(pl.col("created_at") >= start)
            .group_by("person", pl.col("created_at").dt.date().alias("day"))
            .agg(pl.col("created_at").min())
        )
        hours = sorted((at - start) / dt.timedelta(hours=1) for at in first["created_at"])
        counts = np.bincount([int(h // 24) for h in hours], minlength=WATCHED_DAYS)
        return [{"start": n, "people": int(count)} for n, count in enumerate(counts)], hours

    def _chosen(self, topic_id: int | None) -> int:
        if topic_id is None:
            if not self.ranked:
                raise ConfigError("there is no topic in this store yet; it needs more texts")
            return self.ranked[0]
        if topic_id not in self.names:
            raise ConfigError(f"no topic {topic_id} in this store; `topics` lists them")
        return topic_id

    # -------------------------------------------------------------------------------------------------------- documents

    def documents(self, topic_id: int) -> pl.DataFrame:
        """The members of a topic, most central first, each with the two topics that lie nearest to it.

        Returns:
            uid · created_at · origin · language · score · distance, 1 - cosine to the topic's centre · neighbour,
            neighbour_distance · neighbour_2, neighbour_2_distance · title · text · url.

        Raises:
            ConfigError: there is no such topic.
        """
        topic = self._chosen(topic_id)
        mine = self.texts.with_row_index("place").filter(pl.col("topic_id") == topic)
        ids, centres = self.centres
        apart = 1 - self.vectors[mine["place"].to_numpy()].astype(np.float64) @ centres.T
        own = ids.index(topic) if topic in ids else None
        distance = apart[:, own].tolist() if own is not None else [None] * mine.height
        if own is not None:
            apart[:, own] = np.inf
        order = np.argsort(apart, axis=1, kind="stable")[:, :2]
        near: Row = {}
        for n, name in enumerate(("neighbour", "neighbour_2")):
            known = n < len(ids) - (own is not None)
            near[name] = [self.names[ids[o[n]]] if known else None for o in order]
            near[f"{name}_distance"] = [float(a[o[n]]) if known else None for a, o in zip(apart, order, strict=True)]
        made = mine.with_columns(
            pl.Series("distance", distance, pl.Float64),
            *(pl.Series(k, v, pl.Float64 if k.endswith("distance") else pl.String) for k, v in near.items()),
            text=pl.concat_str("title", "body", separator="\n"),
        )
        columns = ("created_at", "origin", "language", "topic_score", "distance", *near, "title", "text", "url")
        return made.sort("distance", "uid", nulls_last=True).select("uid", *columns).rename({"topic_score": "score"})

    def read(self, topic_id: int | None = None, most: int = READ) -> pages.Part:
        """The members of a topic as a table with links: the most central and, at the end, the least."""
        topic = self._chosen(topic_id)
        members = self.documents(topic)
        tail = members.tail(min(5, max(members.height - most, 0)))
        said = f"<p><b>{html.escape(self.names[topic])}</b> <span class='dim'>{members.height} texts in {WEEKS} weeks; "
        said += f"the {min(most, members.height)} most central"
        said += f" and the {tail.height} least</span></p>" if tail.height else "</span></p>"
        return pages.Part(said + self._rows(pl.concat([members.head(most), tail])))

    def evidence(self) -> pages.Part:
        """The findings as a table; each opens its verbatims and, of a topic, its texts, with links to their sources."""
        if self.findings.is_empty():
            return pages.Part(f"<p>{html.escape(self._quiet())}</p>")
        body = []
        for row in self.findings.iter_rows(named=True):
            usual = (
                "" if row["usual_people"] is None else f" <span class='dim'>usually {row['usual_people']:.1f}</span>"
            )
            after = f" after {html.escape(row['release'])}" if row["release"] else ""
            who = f"{row['people']}{usual}" if row["people"] else f"– <span class='dim'>{row['mentions']} times</span>"
            q = "" if row["q"] is None else f"<br><span class='dim'>q {row['q']:.2g}</span>"
            origins = ", ".join(o.rsplit(":", 1)[-1] for o in row["origins"])
            inside = "".join(_quote(v) for v in row["central"])
            if row["dissenting"]:
                inside += "<p class='dim'>Said otherwise:</p>" + "".join(_quote(v) for v in row["dissenting"])
            kind, what = row["kind"].upper(), row["subject_type"].replace("_", " ")
            what += "" if row["topic_id"] is None else f" {row['topic_id']}"
            ratio = charts.times(row["ratio"], row["low"], row["high"])
            ratio = f"over ×{row['low']:.1f}" if row["ratio"] is None and row["low"] else ratio
            body.append(
                f"<tr><td><span class='badge {kind}'>{kind}</span>{after}</td>"
                f"<td><b>{html.escape(row['name'])}</b> <span class='dim'>{html.escape(what)}</span>"
                f"<details><summary>{html.escape(origins or 'verbatims')}</summary>{inside}</details></td>"
                f"<td data-head='people'>{who}</td>"
                f"<td class='rate' data-head='rate'>{ratio}{q}</td></tr>"
            )
        head = "<thead><tr><th>kind</th><th>what</th><th>people</th><th>rate</th></tr></thead>"
        return pages.Part(f"<table class='rows'>{head}<tbody>{''.join(body)}</tbody></table>")

    def _quiet(self) -> str:
        quiet = self.report["quiet"]
        return f"Nothing changed more than chance explains; {quiet['power']}."

    def _table(self, rows: pl.DataFrame) -> pages.Part:
        said = f"<p class='dim'>{rows.height} texts{f', the newest {READ}' if rows.height > READ else ''}</p>"
        shown = rows.head(READ).with_columns(score="topic_score", text=pl.concat_str("title", "body", separator="\n"))
        return pages.Part(said + self._rows(shown))

    def _rows(self, rows: pl.DataFrame) -> str:
        near = "neighbour" in rows.columns
        body = []
        for row in rows.iter_rows(named=True):
            topic = f"{row['score']:.2f}" if row["score"] is not None else "–"
            also = [row["neighbour"], row["neighbour_2"]] if near else [self.names.get(row["topic_id"] or -1)]
            beside = "<br>".join(html.escape(a) for a in also if a)
            body.append(
                f"<tr><td class='dim'>{row['created_at']:%d %b}<br>{html.escape(row['origin'])}</td>"
                f"<td>{_link(row)}<details><summary>text</summary>{_prose(row['text'])}</details></td>"
                f"<td class='count' data-head='score'>{topic}</td><td class='dim'>{beside}</td></tr>"
            )
        last = "also near" if near else "topic"
        head = f"<thead><tr><th>when</th><th>what</th><th class='count'>score</th><th>{last}</th></tr></thead>"
        return f"<table class='rows'>{head}<tbody>{''.join(body)}</tbody></table>"

    def _whole(self, row: Row) -> str:
        name = html.escape(self.names.get(row["topic_id"] or -1, "no topic"))
        said = _prose(f"{row['title']}\n{row['body']}")
        return f"<p>{_link(row)} <span class='dim'>{row['created_at']:%d %b %Y}, {name}</span></p>{said}"

    def _repr_html_(self) -> str:
        count = self.findings.height
        moved = "; ".join(
            f"{kind} {len(list(group))}" for kind, group in itertools.groupby(self.findings["kind"].to_list())
        )
        said = f"{count} {'finding' if count == 1 else 'findings'}: {moved}." if count else self._quiet()
        return pages.Part(
            f"<p class='dim'>{html.escape(self._title())}</p>"
            f"<p class='verdict'>{html.escape(self.report['verdict'])}</p>"
            f"<p>{html.escape(said)} <span class='dim'>{self.texts.height:,} texts of "
            f"{self.texts['person'].n_unique():,} people in {WEEKS} weeks, {len(self.ranked)} topics.</span></p>"
        )._repr_html_()


@dataclasses.dataclass(frozen=True)
class Panels:
    """A topic above a service; shown in a notebook, it is the picture with what can be said of it.

    Attributes:
        topic_id: the topic.
        name: its name.
        what: the service and what is measured of it.
        note: how the two line up, and what came after each deploy, in words.
        picture: SVG; None where nothing is measured.
        lag: how the two line up day by day; None where nothing can be compared.
        follows: what was said after the measurement got worse; None where it did not, or where the topic is not about
            the service.
    """

    topic_id: int
    name: str
    what: str
    note: str
    picture: str | None
    lag: alignment.Lag | None
    follows: alignment.Follows | None

    def _repr_html_(self) -> str:
        claim, *deploys = map(html.escape, self.note.splitlines())
        note = f"<p>{claim}</p>" + (f"<ul><li>{'</li><li>'.join(deploys)}</li></ul>" if deploys else "")
        if self.picture is None:
            return pages.Part(note)._repr_html_()
        head = f"<p class='dim'>{html.escape(self.what)}</p>"
        return pages.Part(f"{head}<figure>{self.picture}</figure>{note}")._repr_html_()


def _daily(figure: Row) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean of each day of a figure's series, higher is worse; NaN where nothing was measured."""
    days = round(figure["days"])
    at = np.array([min(int(p["x"]), days - 1) for p in figure["series"]], dtype=np.int64)
    values = np.array([p["value"] for p in figure["series"]], dtype=np.float64)
    count = np.bincount(at, minlength=days).astype(np.float64)
    total = np.bincount(at, weights=values, minlength=days)
    mean = np.divide(total, count, out=np.full(days, np.nan), where=count > 0)
    return mean if figure["op"].startswith("<") else -mean


def _lag_words(
    lag: alignment.Lag | None, follows: alignment.Follows | None, sli: str, start: dt.datetime, *, about: bool = True
) -> str:
    if lag is None:
        return "There are too few days, or too little change, to compare the two."
    when = "on the same day" if lag.days == 0 else f"about {lag.days} {'day' if lag.days == 1 else 'days'} later"
    measured = f"r = {lag.r:.2f}, 95 % interval {lag.low:.2f} to {lag.high:.2f}"
    if follows is not None:
        at = start + dt.timedelta(hours=follows.at)
        first = "" if follows.first is None else f", the first after {max(follows.first, 1):.0f} h"
        rate = f", {charts.times(follows.ratio, follows.low, follows.high)} of the rate before" if follows.ratio else ""
        rate = f", over ×{follows.low:.1f} of the rate before" if not follows.ratio and follows.low else rate
        worse = f"{sli} got worse on {at.day} {at:%b}, {at:%H:%M} UTC."
        after = (
            f"{follows.people} {'person' if follows.people == 1 else 'people'} in {follows.hours:.0f} h{first}{rate}"
        )
        daily = f"day by day the two line up best {when} ({measured})"
        chance = f"p = {follows.p:.2g}, the share of the hours of that week that are followed as sharply"
        if follows.clear and about:
            return (
                f"{worse} Complaints follow: {after}; {chance}; {daily}. "
                "It happened once, and what follows need not be caused."
            )
        return (
            f"{worse} No more follows than after many other hours of that week: {after}; {chance}; {daily}. No claim."
            if (not follows.clear)
            else f"{worse} {after[0].upper()}{after[1:]}; {chance}; {daily}. No claim."
        )
    if lag.clear:
        end = "That is no proof of a cause." if about else "No claim."
        return f"Complaints follow {when} ({measured}, p = {max(lag.p, lag.without):.3f}). {end}"
    if lag.once:
        return (
            f"Complaints line up best {when} ({measured}), but all of it rests on one stretch of days: "
            "two single events line up like that by chance often enough. No claim."
        )
    return f"No line-up beyond chance: the best is {when} ({measured}, p = {lag.p:.2f})."


def _most(values: pl.Series) -> str | None:
    """What most of those who say something say, if a third of all do."""
    counted = values.drop_nulls().value_counts(sort=True)
    if counted.is_empty():
        return None
    word, count = counted.sort("count", values.name, descending=[True, False]).row(0)
    return str(word) if 3 * count >= len(values) and 2 * count > values.len() - values.null_count() else None


def _stems(words: str) -> set[str]:
    """The words of a name without their endings."""
    return {re.sub(r"(?<=\w{3})(ing|ed|es|s|e)$", "", w) for w in re.findall(r"[a-z]{2,}|\d{3}", words.lower())}


def _rise_words(rise: alignment.Rise, start: dt.datetime) -> str:
    at = start + dt.timedelta(hours=rise.at)
    when = f"After {rise.version} ({at.day} {at:%b %H:%M} UTC)"
    people = f"{rise.people} {'person' if rise.people == 1 else 'people'} in {rise.hours:.0f} hours"
    if rise.sure_after is None:
        return f"{when}: {people}, no more than before."
    rate = f", {charts.times(rise.ratio, rise.low, rise.high)} of the rate before" if rise.ratio else ""
    return f"{when}: {people}{rate}; sure {rise.sure_after:.0f} hours after it."


def _address(url: str | None) -> str | None:
    """The address if a browser may follow it."""
    return url if url and url.startswith(("https://", "http://")) else None


def _link(row: Row) -> str:
    title = html.escape(privacy.excerpt(privacy.redact(row["title"] or ""), 16) or "(no title)")
    address = _address(row["url"])
    return f"<a href='{html.escape(address)}'>{title}</a>" if address else title


def _quote(verbatim: Row) -> str:
    address = _address(verbatim["url"])
    link = f" <a href='{html.escape(address)}'>source</a>" if address else ""
    return f"<blockquote><q>{html.escape(verbatim['text'])}</q>{link}</blockquote>"


def _prose(words: str) -> str:
    shown = html.escape(privacy.redact(words))
    return f"<p style='white-space: pre-wrap'>{shown}</p>"
