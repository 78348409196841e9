"""The recipes: one function per workflow. The command, the scheduler and the analyst call the same function."""

from __future__ import annotations

import bisect
import concurrent.futures
import contextlib
import dataclasses
import datetime as dt
import hashlib
import importlib.metadata
import json
import logging
import os
import resource
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import polars as pl

from feedback_lib import (
    __version__,
    config,
    decisions,
    encoders,
    given,
    ingest,
    labelling,
    plugins,
    privacy,
    records,
    suggest,
    transport,
    understand,
    writer,
)
from feedback_lib import report as reports
from feedback_lib.analysis import friction, patterns, revisions, topics, trends
from feedback_lib.analysis.registry import Decision, Proposal
from feedback_lib.config import Config
from feedback_lib.errors import ConfigError, DeliveryError, PrivacyError, SourceError, StoreError, nearest
from feedback_lib.ingest import SourceResult
from feedback_lib.report import Report
from feedback_lib.sinks import Message, Sink
from feedback_lib.sources import Source
from feedback_lib.store import VOLATILE, Store

logger = logging.getLogger(__name__)
Progress = Callable[[str], None]
INPUTS = (
    "signals", "replies", "understanding", "topics", "suggestions", "quarantine", "counts", "labels", "merges", "runs",
)  # fmt: skip
LARGEST_TOPIC = 0.1  # of all texts: a topic that is a quarter of everything is nothing to act on
LOCK_WAIT_S = 900.0  # as long as another run may take
LATE = dt.timedelta(days=8)  # a weekly run that was left out
CHECKED_AT_ONCE = 8  # sources
OUTPUTS = ("understanding", "topics", "findings", "friction", "counts", "suggestions")


def _silent(_: str) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Plan:
    """A configuration made ready: every plug-in built and every option checked before anything is read."""

    config: Config
    store: Store
    sources: tuple[tuple[str, Source], ...]
    sinks: tuple[Sink, ...]
    topics: topics.TopicOptions
    trends: trends.TrendOptions
    workflows: patterns.Thresholds
    writer: writer.WriterOptions
    encoder: encoders.Encoder
    given: given.Given


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a run inferred: frames shaped like the tables they go to, and the report made of them."""

    understanding: pl.DataFrame
    topics: pl.DataFrame
    findings: pl.DataFrame
    friction: pl.DataFrame
    counts: pl.DataFrame
    suggestions: pl.DataFrame
    report: Report
    proposals: tuple[Proposal, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run of a recipe."""

    run_id: str
    recipe: str
    as_of: dt.datetime
    status: str
    report: Report
    stages: tuple[dict[str, Any], ...]
    params: Mapping[str, Any]
    folder: Path | None = None

    def record(self) -> dict[str, Any]:
        """What ``run.json`` holds: parameters, versions, data versions, counts, duration by stage."""
        shown = self.report.to_dict()
        return {
            "run_id": self.run_id,
            "recipe": self.recipe,
            "as_of": self.as_of.isoformat(),
            "status": self.status,
            "folder": str(self.folder) if self.folder else None,
            "params": self.params,
            "versions": shown["versions"],
            "inputs": shown["inputs"],
            "counts": _counts(self.report),
            "sources": shown["sources"],
            "stages": list(self.stages),
            "seconds": round(sum(s["seconds"] for s in self.stages), 2),
        }


class _Stages:
    """Seconds and peak memory of each named part of a run."""

    def __init__(self, progress: Progress) -> None:
        self.done: list[dict[str, Any]] = []
        self.progress = progress

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.done.append({"stage": name, "seconds": round(time.perf_counter() - started, 2), "peak_mb": peak_mb})
        self.progress(f"{name}: {self.done[-1]['seconds']:.1f} s")


def plan(cfg: Config, beside: given.Given | None = None) -> Plan:
    """Build every plug-in and check every option of a configuration.

    Args:
        cfg: the configuration.
        beside: what the run is given beside the store; None reads the files that the configuration names.

    Raises:
        ConfigError: something is wrong; no source has been read and nothing written.
    """
    place, sources = cfg.path or "params", _sources(cfg)
    options = {"seed": cfg.seed, "largest": LARGEST_TOPIC} | dict(cfg.topics)
    looked_at = config.section(trends.TrendOptions, dict(cfg.trends), f"{place}: trends")
    least = trends.SPARK_WEEKS + looked_at.weeks + 1
    if cfg.window_weeks < least:
        raise ConfigError(f"{place}: window_weeks = {cfg.window_weeks}: trends need at least {least} weeks.")
    return Plan(
        config=cfg,
        sources=sources,
        sinks=tuple(plugins.build("sinks", e) for e in cfg.sinks),
        topics=config.section(topics.TopicOptions, options, f"{place}: topics"),
        trends=looked_at,
        workflows=config.section(patterns.Thresholds, dict(cfg.workflows), f"{place}: workflows"),
        writer=config.section(writer.WriterOptions, dict(cfg.writer), f"{place}: writer"),
        encoder=encoders.make(cfg.encoder, cache=config.cache_dir(), threads=cfg.threads),
        given=given.read(cfg) if beside is None else beside,
        store=_writable(cfg),
    )


def _sources(cfg: Config) -> tuple[tuple[str, Source], ...]:
    """The sources of a configuration, at least one, each with a name of its own. Raises ConfigError."""
    if not cfg.sources:
        place = cfg.path or "params"
        raise ConfigError(f"{place}: no sources; add one with feedback sources add, or see params/example.yaml.")
    built = []
    for entry in _entries(cfg):
        if entry.source is None:
            raise ConfigError(entry.problem)
        built.append((entry.kind, entry.source))
    return tuple(built)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One entry under ``sources``; without a plug-in where ``problem`` says why it could not be built."""

    kind: str
    origin: str
    source: Source | None
    problem: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.origin}" if self.origin else self.kind

    @property
    def names(self) -> set[str]:
        """What it may be called on the command line."""
        return {self.kind, self.origin, self.name} - {""}


def _entries(cfg: Config) -> Iterator[_Entry]:
    places: dict[str, int] = {}
    for i, options in enumerate(cfg.sources):
        kind = str(options.get("kind", "?"))
        try:
            source = plugins.build("sources", options)
            entry = _Entry(kind, source.origin, source)
        except ConfigError as problem:
            yield _Entry(kind, "", None, f"{problem} (sources[{i}])")
            continue
        first = places.setdefault(entry.name, i)
        if first != i:
            words = f"sources[{first}] and sources[{i}] are both {entry.name} and would share what was read"
            entry = dataclasses.replace(entry, source=None, problem=f"{words}; give one of them a name")
        yield entry


def _writable(cfg: Config) -> Store:
    """The store of a configuration, its folder made; called when everything else has been checked."""
    try:
        cfg.folder("store").mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"store {cfg.store}: {problem.strerror}. Name a folder this user can write.") from None
    return Store(cfg.folder("store"))


def _existing(cfg: Config, table: str = "runs") -> Store:
    """The store of a configuration, which must be there: a wrong path must not look like an empty store."""
    store = Store(cfg.folder("store"))
    if store.version(table) is None:
        raise ConfigError(f"no run in the store {cfg.store} yet. Make one: feedback report weekly --params {cfg.path}")
    return store


def aggregate(
    cfg: Config,
    *,
    as_of: dt.datetime | None = None,
    only: str | None = None,
    since: dt.datetime | None = None,
    progress: Progress = _silent,
    quiet_sinks: bool = False,
) -> Run:
    """The feedback aggregator: poll, process what is new, refresh what dashboards read, suggest, send the summary.

    Args:
        cfg: what to read and where to write.
        as_of: the moment the run pretends is now; None takes the configuration's, else the clock.
        only: read this source alone (kind, origin or ``kind:origin``).
        since: read items updated from here on again, which moves no cursor; None goes on where each source stands,
            and reads those whole that have no cursor.
        progress: called with a line per step.
        quiet_sinks: leave out the ``stdout`` sink, for callers that print JSON.

    Returns:
        The run; its status is ``degraded`` when a source or a sink failed.

    Raises:
        FeedbackError: the run could not be made at all.
    """
    ready = plan(cfg)
    with ready.store.lock(LOCK_WAIT_S, progress):
        run = _analysed(ready, as_of, only, since, progress)
        return _marked(ready.store, _delivered(ready, run, progress, quiet_sinks))


def weekly(
    cfg: Config,
    *,
    as_of: dt.datetime | None = None,
    only: str | None = None,
    since: dt.datetime | None = None,
    progress: Progress = _silent,
    quiet_sinks: bool = False,
) -> Run:
    """The weekly run: `aggregate`, then the notebooks, pages and JSON files, written all or none.

    Everything goes to ``<reports>/<recipe>/<day of as_of>/``. When a notebook fails, the report that was there
    stays and the failed notebook is kept beside it.

    Raises:
        ConfigError: a notebook is not there; nothing has been read.
        NotebookError: a notebook failed; names the notebook kept with its traceback.
    """
    _has_notebooks(cfg)
    ready = plan(cfg)
    with ready.store.lock(LOCK_WAIT_S, progress):
        run = _analysed(ready, as_of, only, since, progress)
        _marked(ready.store, dataclasses.replace(run, status="failed"))  # until everything of it is there
        return _marked(ready.store, _delivered(ready, _published(ready, run, progress), progress, quiet_sinks))


def _has_notebooks(cfg: Config) -> None:
    """Raise ConfigError when a notebook of a configuration is not there."""
    folder = cfg.folder("notebook_folder")
    gone = [name for name in cfg.notebooks if not (folder / f"{name}.ipynb").is_file()]
    if gone:
        raise ConfigError(
            f"{cfg.path or 'params'}: notebooks: {folder} has no {gone[0]}.ipynb. Name the workbench's folder of "
            "notebooks in notebook_folder, or write notebooks: [] for the PDF alone."
        )


def rerun(cfg: Config, run_id: str, *, progress: Progress = _silent) -> list[dict[str, Any]]:
    """Compute a run again from its parameters and the data as it stood then.

    Returns:
        One row per table: table, rows, equal, difference (in words, None when equal).

    Raises:
        ConfigError: there is no such run in the store.
    """
    store = _existing(cfg)
    row = _run_row(store, run_id)
    inputs = json.loads(row["inputs"])
    beside = given.Given.from_json(inputs.get("given", {}))
    ready = plan(dataclasses.replace(_config_of(json.loads(row["params"])), store=cfg.store), beside)
    before = Report.from_dict(json.loads(row["report"]))
    gathered = [SourceResult(**s) for s in json.loads(row["counts"])["gathered"]]
    again = _analyse(ready, row["as_of"], row["run_id"], inputs["read"], gathered, progress)
    written = store.at(inputs["written"])
    rows = [_compare(name, getattr(again, name), written.read(name), run_id) for name in inputs["written"]]
    shown, recorded = again.report.to_dict(), before.to_dict()
    changed = sorted(k for k in recorded if shown.get(k) != recorded[k])
    rows.append(
        {
            "table": "report",
            "rows": len(recorded),
            "equal": not changed,
            "difference": f"other values under {', '.join(changed)}" if changed else None,
        }
    )
    return rows


def runs(cfg: Config) -> list[dict[str, Any]]:
    """The runs in the store, newest first, with their counts."""
    table = _existing(cfg).read("runs").sort("started_at", descending=True)
    return [
        {k: r[k] for k in ("run_id", "recipe", "as_of", "started_at", "status", "seconds")} | json.loads(r["counts"])
        for r in table.iter_rows(named=True)
    ]


def suggestions(cfg: Config) -> list[dict[str, Any]]:
    """The open suggestions, most urgent first."""
    table = _existing(cfg).read("suggestions")
    table = table.filter(pl.col("state") == "open")
    return table.sort("priority", "people", "suggestion_id", descending=[True, True, False]).to_dicts()


def quarantine(cfg: Config) -> list[dict[str, Any]]:
    """The items that do not load, in the order of their files."""
    return _unresolved(_existing(cfg, "watermarks")).sort("kind", "origin", "where").to_dicts()


def read(
    cfg: Config,
    *,
    as_of: dt.datetime | None = None,
    only: str | None = None,
    since: dt.datetime | None = None,
    progress: Progress = _silent,
) -> list[SourceResult]:
    """Read the sources into the store and analyse nothing, as often as wanted; arguments as `aggregate`.

    Returns:
        One result per source read.

    Raises:
        FeedbackError: nothing could be read at all.
    """
    chosen, store = _chosen(_sources(cfg), only), _writable(cfg)
    with store.lock(LOCK_WAIT_S, progress):
        now = dt.datetime.now(dt.UTC)
        at = _moment(cfg, as_of, since, now)
        done = ingest.gather(
            chosen, store, since=since, until=at, fetched_at=now, run_id=secrets.token_hex(4), progress=progress
        )
        store.optimize()
    return done


def reparse(cfg: Config, *, only: str | None = None, progress: Progress = _silent) -> list[SourceResult]:
    """Make signals and replies anew from what the archive holds, without asking any service; arguments as `aggregate`.

    Raises:
        ConfigError: nothing was read into the store yet.
    """
    chosen, store = _chosen(_sources(cfg), only), Store(cfg.folder("store"))
    if store.version("raw") is None:
        raise ConfigError(f"nothing in the store {cfg.store} yet. Read something: feedback sources read -f {cfg.path}")
    with store.lock(LOCK_WAIT_S, progress):
        now = dt.datetime.now(dt.UTC)
        done = ingest.reparse(chosen, store, at=now, run_id=secrets.token_hex(4), progress=progress)
        store.optimize()
    return done


def standing(cfg: Config, *, late: dt.timedelta = LATE) -> list[dict[str, Any]]:
    """How far each source of a configuration has been read; those that only the store knows come last.

    Args:
        cfg: the configuration; its store need not be there yet.
        late: a source is late when it was last read to its end longer ago than this.

    Returns:
        By source: name, configured, health (ok, late, failed, interrupted, reading, never read), last_run, watermark,
        rows (signals and replies in the store), complete_at, lag_s (seconds since), error.
    """
    store, now = Store(cfg.folder("store")), dt.datetime.now(dt.UTC)
    stood = {row["source"]: row for row in store.read("watermarks").to_dicts()}
    stored: dict[str, int] = {}
    for table in ("signals", "replies"):
        for kind, origin, rows in store.scan(table).to_native().group_by("kind", "origin").len().collect().rows():
            stored[f"{kind}:{origin}"] = stored.get(f"{kind}:{origin}", 0) + rows
    names = [f"{kind}:{source.origin}" for kind, source in _sources(cfg)] if cfg.sources else []
    going_on = any(row["status"] == "reading" for row in stood.values()) and _held(store)
    return [
        _standing(name, name in names, stood.get(name), stored.get(name, 0), now, late, going_on)
        for name in [*names, *(known for known in sorted(stood.keys() | stored) if known not in names)]
    ]


def _standing(
    name: str,
    configured: bool,
    row: Mapping[str, Any] | None,
    rows: int,
    now: dt.datetime,
    late: dt.timedelta,
    going_on: bool,
) -> dict[str, Any]:
    read, row = row is not None, row or {}
    complete = row.get("complete_at")
    lag = now - complete if complete else None
    health = "never read" if not read else "late" if lag and lag > late else "ok"
    health = {"failed": "failed", "reading": "reading" if going_on else "interrupted"}.get(
        str(row.get("status")), health
    )
    return {
        "name": name,
        "configured": configured,
        "health": health,
        "last_run": row.get("updated_at"),
        "watermark": row.get("watermark"),
        "rows": rows,
        "complete_at": complete,
        "lag_s": lag.total_seconds() if lag else None,
        "error": row.get("error"),
    }


def _held(store: Store) -> bool:
    """Whether a run has the store at this moment."""
    try:
        with store.lock(0):
            return False
    except StoreError:
        return True


def names(cfg: Config) -> set[str]:
    """The names (``kind:origin``) of the configured sources that can be built."""
    return {entry.name for entry in _entries(cfg) if entry.source is not None}


def check(cfg: Config, names: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Try sources with one cheap call each, several at a time; limits are not waited for.

    Args:
        cfg: the configuration.
        names: try these alone (kind, origin or ``kind:origin``).

    Yields:
        In their order: name, ok, and what is there or what is wrong.

    Raises:
        ConfigError: no such source is configured.
    """
    entries = list(_entries(cfg))
    known = sorted({name for entry in entries for name in entry.names})
    for name in names:
        if name not in known:
            raise ConfigError(f"{name!r}: no such source is configured; {nearest(name, known)}")
    chosen = [entry for entry in entries if not names or entry.names & set(names)]
    with concurrent.futures.ThreadPoolExecutor(CHECKED_AT_ONCE) as pool:
        yield from pool.map(_checked, chosen)


def _checked(entry: _Entry) -> dict[str, Any]:
    ok, said, source = False, entry.problem, entry.source
    if source is not None:
        try:
            ok, said = True, source.check()
        except SourceError as problem:
            said = str(problem).removeprefix(f"{entry.kind} ({entry.origin}): ")
        except ConfigError as problem:
            said = str(problem)
        except Exception as fault:  # of the plug-in: the other sources are tried
            logger.debug("source=%s broke", entry.name, exc_info=True)
            said = f"its plug-in broke ({type(fault).__name__}); please report"
    for secret in _secrets(source):
        said = said.replace(secret, "[secret]")
    return {"name": entry.name, "ok": ok, "said": " ".join(said.split())}


def _secrets(source: Any) -> Iterator[str]:
    """The values that the options of a source name, as far as they are there."""
    for field in dataclasses.fields(source) if source is not None else ():
        name = getattr(source, field.name)
        if field.name.endswith("_env") and name:
            with contextlib.suppress(ConfigError):
                yield transport.secret(name, source.kind, hidden=False)


def sample_store(progress: Progress = _silent) -> Store:
    """The store of the bundled sample after its newest weekly run, made once per version of the package."""
    from feedback_lib import sample

    home = config.cache_dir() / "sample" / _own_fingerprint()
    store = Store(home / "store")
    if store.version("runs") is None:
        home.mkdir(parents=True, exist_ok=True)
        with store.lock(timeout_s=600):  # several notebooks may ask for it at once
            if store.version("runs") is None:
                sample.generate(home / "data")
                ready = plan(sample_config(home))
                _analysed(ready, None, None, None, progress)
    return store


def sample_folder() -> Path:
    """The bundled sample world as files, with the specs of its services, made once per version of the package."""
    from feedback_lib import sample

    folder = config.cache_dir() / "sample" / _own_fingerprint() / "world"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock", timeout=600):  # several notebooks may ask for it at once
        if not (folder / "key.json").exists():  # written last
            sample.generate(folder)
    return folder


def _own_fingerprint() -> str:
    """A short hash of this package's code and data: another one may make another sample run."""
    here = Path(__file__).parent
    files = sorted(p for p in here.rglob("*") if p.suffix in (".py", ".txt", ".md", ".csv", ".jsonl"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]


def sample_config(home: Path) -> Config:
    """The configuration that reads the sample in ``home / "data"`` and keeps its store in ``home / "store"``."""
    from feedback_lib import sample

    return Config(
        product=sample.PRODUCT,
        synthetic=True,
        store=str(home / "store"),
        reports=str(home / "reports"),
        as_of=dt.datetime.combine(sample.UNTIL, dt.time(), dt.UTC),
        sources=tuple(sample.sources(home / "data")),
        sinks=(),
    )


def _analysed(
    ready: Plan, as_of: dt.datetime | None, only: str | None, since: dt.datetime | None, progress: Progress
) -> Run:
    """Gather, analyse, and write every table; the run's own row comes last, so a killed run leaves no report.

    A run that looks back (a newer one is there) leaves topics, understanding and suggestions as they are.
    """
    started = dt.datetime.now(dt.UTC)
    at = _moment(ready.config, as_of, since, started)
    run_id = secrets.token_hex(4)
    stages = _Stages(progress)
    chosen = _chosen(ready.sources, only)
    with stages.stage("gather"):
        gathered = ingest.gather(
            chosen,
            ready.store,
            since=since,
            until=at,
            fetched_at=started,
            run_id=run_id,
            progress=progress,
        )
    gathered += ingest.left_out([s for s in ready.sources if s not in chosen], ready.store)
    _recall(ready, at, run_id)
    versions = ready.store.versions()
    inputs = {t: versions[t] for t in INPUTS if t in versions}
    made = _analyse(ready, at, run_id, inputs, gathered, progress, stages)
    with stages.stage("store"):
        looks_back = _looks_back(ready.store, at)
        tables: tuple[str, ...] = ("findings", "friction") if looks_back else OUTPUTS
        nothing = {"counts"} if made.report.quality["revised"] is None else set()
        nothing |= {"friction"} if made.friction.is_empty() else set()
        tables = tuple(name for name in tables if name not in nothing)
        written = {name: ready.store.upsert(name, getattr(made, name)).version for name in tables}
        run = Run(
            run_id=run_id,
            recipe=ready.config.recipe,
            as_of=at,
            status="degraded" if any(g.status == "failed" for g in gathered) else "ok",
            report=made.report,
            stages=tuple(stages.done),
            params=_params(ready.config, at),
        )
        _keep(ready.store, run, started, {"read": inputs, "written": written, "given": ready.given.to_json()}, gathered)
    if ready.config.registry and not looks_back:
        try:
            decisions.save(ready.config.registry, made.topics, made.proposals, ready.encoder.name)
        except ConfigError as problem:  # the topics are in the store, and the next run writes the file
            logger.warning("%s", problem)
            progress(f"the list of topics was not written: {problem}")
            run = dataclasses.replace(run, status="degraded")
    ready.store.optimize()
    return run


def _moment(cfg: Config, as_of: dt.datetime | None, since: dt.datetime | None, now: dt.datetime) -> dt.datetime:
    """The moment a run pretends is now, after ``since``."""
    at = as_of or cfg.as_of or now
    if since and since >= at:
        raise ConfigError(f"since {since:%Y-%m-%d} is not before as_of {at:%Y-%m-%d}.")
    return at


def _analyse(
    ready: Plan,
    as_of: dt.datetime,
    run_id: str,
    inputs: Mapping[str, int],
    gathered: Sequence[SourceResult],
    progress: Progress,
    stages: _Stages | None = None,
) -> Analysis:
    """Everything between the tables read (at the versions given) and the tables written. No writing, no clock."""
    stages = stages or _Stages(progress)
    store = ready.store.at(inputs)
    week = _report_week(as_of)
    end = dt.datetime.combine(week + dt.timedelta(days=7), dt.time(), dt.UTC)
    first = end - dt.timedelta(weeks=ready.config.window_weeks)
    with stages.stage("understand"):
        signals = (
            store.scan("signals")
            .to_native()
            .filter((pl.col("created_at") >= first) & (pl.col("created_at") < end))
            .collect()
            .select(records.schema("signals").keys())
        )
        said = understand.Said(
            decisions=_of_window(ready.given.decisions, store, signals),
            labels=store.read("labels"),
            reviewed=labelling.reviewed(store),
            merges=store.read("merges"),
        )
        understood = understand.understand(
            signals,
            store.read("understanding"),
            store.read("topics"),
            ready.encoder,
            ready.topics,
            as_of=as_of,
            run_id=run_id,
            said=said,
            replies=store.read("replies") if ready.config.replies else None,
            progress=progress,
        )
        named = _worded(ready, understood.topics, signals, progress)
    with stages.stage("find"):
        joined = understand.join(signals, understood.understanding)
        gaps = [(g.kind, g.origin) for g in gathered if _has_gap(g, end)]
        told = trends.analyse(
            joined,
            week,
            named,
            ready.trends,
            run_id=run_id,
            as_of=as_of,
            exclude=gaps,
            deploys=ready.given.deploys,
            exposure=ready.given.exposure,
            per=ready.given.per,
        )
        findings = records.frame("findings", told.findings)
        counts = revisions.week_counts(joined, week, run_id=run_id, as_of=as_of, weeks=ready.trends.weeks, exclude=gaps)
        told_before, late = _told_before(ready.store, inputs, week, signals)
        revised = revisions.revised(
            joined,
            week,
            told_before,
            late,
            named,
            as_of=as_of,
            weeks=ready.trends.weeks,
            exclude=gaps,
        )
        silent = friction.find(
            joined,
            week,
            run_id=run_id,
            as_of=as_of,
            meaning=_meaning(ready, understood, named),
            options=ready.workflows,
            weeks=ready.trends.weeks,
            exclude=gaps,
        )
    with stages.stage("suggest"):
        drafts = suggest.draft(
            findings, joined, named, week, run_id=run_id, as_of=as_of, weeks=ready.trends.weeks, friction=silent
        )
        gone = decisions.gone(ready.given.decisions)
        before = store.read("suggestions")
        followed = suggest.follow(before, gone)
        merged = suggest.merge(drafts, followed)
        line = f"{week} run {run_id[:4]}: "
        ended = suggest.changed_with_topic(
            before, followed, merged["suggestion_id"].to_list(), gone, line, run_id, as_of
        )
    with stages.stage("report"):
        made = reports.build(
            understood=joined,
            topics=named,
            told=told,
            suggestions=merged,
            friction=silent,
            sources=[dataclasses.asdict(g) | {"left_out": _has_gap(g, end)} for g in gathered],
            quality=understood.quality
            # counts without a source are not those of a whole run: they revise nothing and are not kept
            | {"revised": None if gaps else revised.to_dicts(), "notes": [*understood.notes, *ready.given.notes]}
            | {"proposals": len(understood.proposals)},
            week=week,
            as_of=as_of,
            run_id=run_id,
            product=ready.config.product,
            synthetic=ready.config.synthetic,
            recipe=ready.config.recipe,
            params="/".join(Path(ready.config.path).parts[-2:]),
            versions=_versions(),
            inputs=dict(inputs),
            quarantined=_unresolved(store).height,
        )
    kept = pl.concat([merged, ended])
    met = records.frame("friction", silent)
    return Analysis(understood.understanding, named, findings, met, counts, kept, made, understood.proposals)


def _meaning(ready: Plan, understood: understand.Understood, named: pl.DataFrame) -> friction.Meaning | None:
    """What people said, for `friction.find`; None with an encoder that its limits were not measured for."""
    if not ready.encoder.name.startswith(friction.MEASURED):
        return None
    living = named.filter(pl.col("retired_on").is_null(), pl.col("centroid").list.len() > 0)
    centres = {topic: np.array(centre) for topic, centre in living.select("topic_id", "centroid").iter_rows()}
    return friction.Meaning(*understood.voices, centres, ready.encoder.encode)


def _recall(ready: Plan, as_of: dt.datetime, run_id: str) -> None:
    """Take the topics over from the registry's file where the store has none: a clone of it keeps the ids."""
    if not ready.config.registry or ready.store.version("topics") is not None:
        return
    known = decisions.known(decisions.load(ready.config.registry), ready.encoder.name)
    if known.height:
        ready.store.upsert("topics", known.with_columns(updated_at=pl.lit(as_of), run_id=pl.lit(run_id)))


def _of_window(told: Sequence[Decision], store: Store, signals: pl.DataFrame) -> list[Decision]:
    """Decisions without the moved texts that are older than the window: a run has no word to say about them."""
    if not any(d.kind == "move" for d in told):
        return list(told)
    uids = store.scan("signals").to_native().select("uid").collect()["uid"]
    older = uids.filter(~uids.is_in(signals["uid"].implode())).sort().to_list()

    def gone(text: str) -> bool:
        at = bisect.bisect_left(older, text)
        return any(uid.startswith(text) for uid in older[at : at + 1])

    return [
        dataclasses.replace(d, texts=tuple(t for t in d.texts if not gone(t))) if d.kind == "move" else d for d in told
    ]


def _worded(ready: Plan, table: pl.DataFrame, signals: pl.DataFrame, progress: Progress) -> pl.DataFrame:
    """The topics, named by the writer where one is configured."""
    if not ready.writer.endpoint:
        return table
    shown = signals.filter(pl.col("uid").is_in(table["examples"].explode().drop_nulls().unique().implode()))
    texts = {uid: f"{title}\n{body}".strip() for uid, title, body in shown.select("uid", "title", "body").iter_rows()}
    written = writer.write(table, texts, ready.writer, config.cache_dir() / "names")
    if written.warning:
        progress(written.warning)
    return written.topics


def _told_before(
    store: Store, inputs: Mapping[str, int], week: dt.date, signals: pl.DataFrame
) -> tuple[pl.DataFrame, list[str]]:
    """What was told of the report week and the weeks before it, as rows of ``counts``, and the uids that came since.

    Earlier weeks are held against the first run that told the newest of them, the report week against its own first
    run: a second run of a week, such as after a notebook failed, says the same of them as the first.
    """
    told = store.at({"runs": inputs["runs"]}).read("runs") if "runs" in inputs else records.frame("runs", [])
    firsts: dict[dt.date, Mapping[str, Any]] = {}
    for row in told.filter(pl.col("status") != "failed").sort("as_of", "started_at").iter_rows(named=True):
        made = json.loads(row["inputs"])
        if "counts" in made["written"]:  # a run that looked back wrote none
            firsts.setdefault(_report_week(row["as_of"]), made)
    own = firsts.get(week)
    earlier = firsts.get(max((w for w in firsts if w < week), default=week))
    start = dt.datetime.combine(week, dt.time(), dt.UTC)
    counts, late = [records.frame("counts", [])], []
    for made, weeks, times in (
        (earlier, pl.col("week") < week, pl.col("created_at") < start),
        (own, pl.col("week") == week, pl.col("created_at") >= start),
    ):
        if made is not None:
            then = store.at(made["read"]).scan("signals").to_native().select("uid").collect()["uid"]
            counts.append(store.at(made["written"]).read("counts").filter(weeks))
            late += signals.filter(times & ~pl.col("uid").is_in(then.implode()))["uid"].to_list()
    return pl.concat(counts), late


def _published(ready: Plan, run: Run, progress: Progress) -> Run:
    """Run the notebooks and write everything of the run into its folder, all or none."""
    from feedback_lib import pages, runner

    cfg = ready.config
    target = cfg.folder("reports") / cfg.recipe / f"{run.as_of:%Y-%m-%d}"
    stages = _Stages(progress)
    with runner.publish(target) as folder:
        for name in cfg.notebooks:
            with stages.stage(f"notebook {name}"):
                done = folder / f"{name}.ipynb"
                runner.run_notebook(
                    cfg.folder("notebook_folder") / f"{name}.ipynb",
                    {"store": str(ready.store.path), "run_id": run.run_id},
                    done,
                    timeout_s=cfg.notebook_timeout_s,
                    progress=lambda line: progress(f"… {line}"),
                )
                _portable_notebook(done, ready.store.path, target)
                pages.export_html(done, done.with_suffix(".html"))
        with stages.stage("pdf"):
            (folder / "signal_report.pdf").write_bytes(pages.pdf(run.report.to_dict()))
        run = dataclasses.replace(run, stages=(*run.stages, *stages.done), folder=target)
        for name, value in (
            ("suggestions", run.report.to_dict()["suggestions"]),
            ("summary", run.report.to_dict()),
            ("run", _portable(run.record(), target)),
        ):
            text = json.dumps(value, ensure_ascii=False, indent=1, default=str)
            (folder / f"{name}.json").write_text(text + "\n", "utf-8")
    shutil.rmtree(target.with_name(f"{target.name}.failed"), ignore_errors=True)  # of an earlier try
    return run


def _portable(value: Any, folder: Path) -> Any:
    """The value with absolute paths made relative to a folder: a report that is passed on names no home folder."""
    if isinstance(value, Mapping):
        return {k: _portable(v, folder) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(v, folder) for v in value]
    return os.path.relpath(value, folder) if isinstance(value, str) and value.startswith("/") else value


def _portable_notebook(path: Path, store: Path, folder: Path) -> None:
    """Name the store in an executed notebook relative to its folder, from where it can be run again."""
    text = path.read_text("utf-8")
    path.write_text(text.replace(str(store), os.path.relpath(store, folder)), "utf-8")


def _delivered(ready: Plan, run: Run, progress: Progress, quiet: bool) -> Run:
    """Send the summary to every sink; one that fails does not stop the others."""
    failed = []
    for sink in ready.sinks:
        if quiet and getattr(sink, "prints", False):
            continue
        try:
            receipt = sink.deliver(_message(run))
        except (DeliveryError, PrivacyError) as problem:
            failed.append(str(problem))
            logger.warning("%s", problem)
            continue
        said = "sent" if receipt.delivered else "had been sent before"
        progress(f"{receipt.kind}: {said} to {receipt.where} (key {receipt.key})")
    return dataclasses.replace(run, status="degraded") if failed else run


def _message(run: Run) -> Message:
    """The summary; its key is made of what it says, so the same window run twice is sent once."""
    shown = run.report.to_dict()
    said = {k: shown[k] for k in ("week", "verdict", "frictions", "delights", "findings")}
    for finding in said["findings"]:
        del finding["run_id"], finding["updated_at"]  # the same week looked at a day later says the same
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:8]
    text = reports.summary_text(run.report)
    privacy.assert_anonymous(text, "summary")
    return Message(
        key=f"{run.recipe}-{shown['week']['iso']}-{digest}",
        title=f"{shown['title']} · {shown['week']['label']}",
        text=text,
        attachments=(str(run.folder / "signal_report.pdf"),) if run.folder else (),
    )


def _keep(
    store: Store, run: Run, started: dt.datetime, inputs: Mapping[str, Any], gathered: Sequence[SourceResult]
) -> None:
    row = records.RunRow(
        run_id=run.run_id,
        recipe=run.recipe,
        as_of=run.as_of,
        started_at=started,
        seconds=sum(s["seconds"] for s in run.stages),
        status=run.status,
        params=json.dumps(run.params, default=str),
        versions=json.dumps(_versions()),
        inputs=json.dumps(inputs),
        counts=json.dumps(_counts(run.report) | {"gathered": [dataclasses.asdict(g) for g in gathered]}, default=str),
        report=json.dumps(run.report.to_dict(), ensure_ascii=False, default=str),
        updated_at=started,
    )
    store.upsert("runs", records.frame("runs", [row]))


def _marked(store: Store, run: Run) -> Run:
    """The run, with its status and duration so far written into its row."""
    row = store.read("runs").filter(pl.col("run_id") == run.run_id)
    seconds = sum(s["seconds"] for s in run.stages)
    store.upsert("runs", row.with_columns(status=pl.lit(run.status), seconds=pl.lit(seconds)))
    return run


def _report_week(as_of: dt.datetime) -> dt.date:
    """The last complete week."""
    return records.monday(as_of) - dt.timedelta(days=7)


def _looks_back(store: Store, as_of: dt.datetime) -> bool:
    newest = store.read("runs")["as_of"].max()
    return isinstance(newest, dt.datetime) and newest > as_of


def _has_gap(result: SourceResult, end: dt.datetime) -> bool:
    """Whether a source may lack signals of the report week: it is then left out of every week, and is no fall."""
    if result.status == "not_read":
        return result.watermark is None or result.watermark < end - dt.timedelta(days=1)
    return result.status == "failed"


def _unresolved(store: Store) -> pl.DataFrame:
    return store.read("quarantine").filter(pl.col("resolved_at").is_null())


def _counts(made: Report) -> dict[str, int]:
    shown = made.to_dict()
    return {
        "signals": shown["feedback_items_processed"],
        "findings": len(shown["findings"]),
        "suggestions": shown["suggestions_generated"],
        "quarantined": shown["quality"]["quarantined"],
    }


def _params(cfg: Config, as_of: dt.datetime) -> dict[str, Any]:
    return dataclasses.asdict(dataclasses.replace(cfg, as_of=as_of))


def _config_of(params: Mapping[str, Any]) -> Config:
    path = params.get("path", "")
    made = config.section(Config, {k: v for k, v in params.items() if k != "path"}, "the run's recorded params")
    return dataclasses.replace(made, path=path)


def _chosen(sources: Sequence[tuple[str, Source]], only: str | None) -> Sequence[tuple[str, Source]]:
    if only is None:
        return sources
    names = {n for kind, s in sources for n in (kind, s.origin, f"{kind}:{s.origin}")}
    if only not in names:
        raise ConfigError(f"--source {only!r}: no such source is configured; {nearest(only, sorted(names))}")
    return [(kind, s) for kind, s in sources if only in (kind, s.origin, f"{kind}:{s.origin}")]


def _versions() -> dict[str, str]:
    names = ("polars", "narwhals", "deltalake", "bertopic", "scikit-learn", "onnxruntime", "altair", "typst")
    return {"feedback_lib": __version__} | {n: importlib.metadata.version(n) for n in names}


def _run_row(store: Store, run_id: str) -> dict[str, Any]:
    table = store.read("runs")
    found = table.filter(pl.col("run_id") == run_id)
    if found.is_empty():
        known = table.sort("started_at")["run_id"].to_list()
        raise ConfigError(f"no run {run_id!r} in {store.path}; {nearest(run_id, known)}")
    return found.row(0, named=True)


def _compare(name: str, again: pl.DataFrame, stored: pl.DataFrame, run_id: str) -> dict[str, Any]:
    """Whether the stored rows of these keys say the same, whichever run wrote them first, and where they differ."""
    key = list(records.TABLES[name].key)
    content = [c for c in again.columns if c not in VOLATILE]
    left = again.select(content).sort(key)
    mine = stored.filter(pl.col("run_id") == run_id).select(key)  # what the run wrote must be found again, too
    expected = pl.concat([left.select(key), mine]).unique()
    right = stored.join(expected, on=key, how="semi").select(content).sort(key)
    difference = None
    if left.height != right.height:
        difference = f"{left.height} rows against {right.height}"
    elif not left.equals(right):
        columns = [c for c in content if not left[c].equals(right[c])]
        difference = f"other values in {', '.join(columns)}"
    return {"table": name, "rows": left.height, "equal": difference is None, "difference": difference}
