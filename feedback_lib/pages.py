"""Pages made of a report: PDF, self-contained HTML, and the dashboards that Voila serves.

A page shows what the report says and computes nothing of its own but the wording of numbers. The templates under
``templates/`` hold the layout: ``signal_report.typ`` for PDF, ``fragments.html.j2`` for everything in HTML.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jinja2
import typst

from feedback_lib import charts, labelling, privacy
from feedback_lib.charts import FONTS, TEMPLATES, TOO_FEW, few, people, rate, times
from feedback_lib.errors import nearest

Report = Mapping[str, Any]
Paper = Literal["a4", "us-letter"]

LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "hr": "Croatian", "lt": "Lithuanian",
    "lv": "Latvian", "nb": "Norwegian", "nn": "Norwegian", "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian",
    "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "th": "Thai", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip

# How much goes on two pages, tried from the top until it fits.
_FIRST_PAGE: tuple[dict[str, int], ...] = tuple(
    {"words": words, "twice": twice, "frictions": frictions, "delights": delights}
    for words, twice, frictions, delights in (
        (25, 5, 5, 5), (25, 3, 5, 5), (25, 2, 5, 5), (25, 1, 5, 5), (25, 0, 5, 5), (25, 0, 5, 4),
        (18, 0, 5, 3), (12, 0, 5, 3), (8, 0, 5, 2), (6, 0, 4, 1),
    )
)  # fmt: skip
_SECOND_PAGE: tuple[dict[str, int], ...] = tuple(
    {"suggestions": suggestions, "recurring": recurring, "silent": silent, "sources": sources, "action": action}
    for suggestions, recurring, silent, sources, action in (
        (10, 5, 5, 14, 99), (8, 5, 5, 14, 99), (7, 4, 4, 12, 99), (6, 4, 4, 10, 99), (5, 3, 3, 10, 99),
        (5, 3, 3, 8, 99), (4, 3, 3, 8, 99), (4, 2, 2, 8, 99), (4, 2, 3, 6, 99), (4, 2, 2, 6, 99), (3, 1, 3, 4, 99),
        (3, 1, 2, 4, 99), (3, 1, 1, 4, 99), (1, 1, 2, 3, 99), (1, 1, 1, 3, 99),
        (1, 1, 1, 3, 25), (1, 1, 1, 3, 12), (1, 1, 1, 3, 5), (1, 1, 1, 2, 0), (1, 1, 0, 1, 0),
    )
)  # fmt: skip

RATES = (
    "Rates compare with the eight weeks before, among people who did not write about a topic that moved; "
    "the interval is 95 %. “Usual” on a card is the median of the four weeks before, a topic's “usually” the mean of "
    "the eight."
)
FEW_SAID = re.compile(r"(?<![\d.,])[1-4] (?:people|person)\b")
FEW_SAY = re.compile(r"\bsaid by [1-4](?![\d,]\d)\b")
MEASURED = "measured on our own labelled examples, not on this product"
CONTRADICTING = {"friction": ("DX Delight",), "delight": ("DX Friction", "Documentation Gap", "Missing Capability")}


def pdf(report: Report, *, paper: Paper = "a4") -> bytes:
    """The signal report on two pages: tagged (PDF/UA-1), with words for every picture, the same bytes every time.

    When a report says more than two pages hold, verbatims get shorter and lists end with "and 7 more"; nothing is set
    smaller than 9 pt. Characters the bundled font lacks are set in a font of the machine; where the machine has none
    either, the verbatim is replaced by a note naming its language.

    Args:
        report: as `report.Report.to_dict` gives it.
        paper: ``a4`` or ``us-letter``.

    Raises:
        ValueError: the report does not fit two pages even when cut as far as the layout allows.
    """
    return _typeset(report, paper)[1]


def png(report: Report, *, paper: Paper = "a4", ppi: float = 96) -> list[bytes]:
    """The two pages of `pdf` as pictures, for READMEs and for looking at."""
    masked, _ = _typeset(report, paper)
    made = _fitted(report, paper, masked=masked).compile(format="png", ppi=ppi)
    return [made] if isinstance(made, bytes) else list(made or [])


def _typeset(report: Report, paper: Paper) -> tuple[bool, bytes]:
    """Whether notes stand for verbatims that no font can show, and the PDF."""
    at = dt.datetime.fromisoformat(report["as_of"]).replace(microsecond=0)  # a PDF's date has none

    def made(*, masked: bool) -> bytes:
        compiler = _fitted(report, paper, masked=masked)
        return _bytes(compiler.compile(format="pdf", pdf_standards=["ua-1"], timestamp=at))

    try:
        return False, made(masked=False)
    except typst.TypstError as problem:
        if "could not be displayed" not in str(problem):
            raise
    return True, made(masked=True)


@functools.cache
def _fonts(*, system: bool) -> typst.Fonts:
    return typst.Fonts(include_system_fonts=system, font_paths=[str(FONTS)])


def _bytes(made: bytes | list[bytes] | None) -> bytes:
    assert isinstance(made, bytes)  # one PDF is one file
    return made


def _fitted(report: Report, paper: Paper, *, masked: bool = False) -> typst.Compiler:
    """A compiler holding the report, cut until it fits two pages.

    Fonts of the machine are asked only when the bundled one is not enough, so that a report in Latin, Greek or
    Cyrillic letters has the same bytes everywhere.
    """
    foreign = any(not _covered(c) and not _nameable(c) for c in set(json.dumps(report, ensure_ascii=False)))
    template: bytes = (TEMPLATES / "signal_report.typ").read_bytes()

    def compiler(first: Mapping[str, int], second: Mapping[str, int]) -> typst.Compiler:
        return typst.Compiler(
            template,
            font_paths=_fonts(system=foreign and not masked),
            sys_inputs=_sheet(report, {**first, **second}, paper, masked=masked),
        )

    def page_of(place: str, made: typst.Compiler) -> int:
        return int(made.query(f"<{place}>", field="value", one=True))

    for first in _FIRST_PAGE:
        if page_of("second", compiler(first, _SECOND_PAGE[-1])) > 2:
            continue
        for second in _SECOND_PAGE:
            made = compiler(first, second)
            if page_of("last", made) <= 2:
                return made
    raise ValueError(f"the report of {report['week']['label']} does not fit two pages")


PARTS = (
    "head",
    "numbers",
    "findings",
    "changed",
    "returning",
    "frictions",
    "delights",
    "suggestions",
    "recurring",
    "silent",
    "sources",
    "trust",
)


class Part(str):
    """HTML text that a notebook shows as such."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f'<div class="feedback">{self}</div>'


def part(name: str, report: Report) -> Part:
    """One part of a report as HTML, for notebooks, dashboards and pages.

    Args:
        name: one of `PARTS`.
        report: as `report.Report.to_dict` gives it.

    Raises:
        ValueError: there is no such part; says the nearest.
    """
    if name not in PARTS:
        raise ValueError(f"no part named {name!r}; {nearest(name, list(PARTS))}")
    macros = _templates().get_template("fragments.html.j2").module
    return Part(getattr(macros, name)(view(report)))


def snapshot(report: Report) -> str:
    """The whole report as one HTML page: no script, nothing fetched, charts as SVG."""
    rows = charts.rows(report)
    heard = report["numbers"][0]
    drawn = [
        ("Topics over 13 weeks", charts.topics_by_week(report, rows), charts.topics_words(rows)),
        ("Rate against the weeks before", charts.ratios(rows), charts.ratios_words(rows)),
        (f"{heard['label'].capitalize()} per week", charts.people_per_week(report, heard), charts.number_words(heard)),
    ]
    if not _comparable(rows):
        del drawn[1]
    pictures = [{"title": title, "svg": charts.svg(chart, alt=words)} for title, chart, words in drawn]
    return _templates().get_template("snapshot.html.j2").render(d=view(report), charts=pictures, css=css())


def export_html(notebook: Path, target: Path) -> Path:
    """An executed notebook as a page that stands alone: words, tables and charts, no code, no script, nothing fetched.

    Args:
        notebook: executed, with its outputs.
        target: the file to write.

    Returns:
        ``target``.
    """
    from nbconvert import HTMLExporter

    templates = [str(TEMPLATES / "nbconvert")]
    exporter: Any = HTMLExporter(template_name="feedback", extra_template_basedirs=templates)  # type: ignore[no-untyped-call]
    exporter.exclude_anchor_links = True
    text, _ = exporter.from_filename(str(notebook), resources={"page_css": css(), "metadata": {"name": notebook.stem}})
    target.write_text(text, "utf-8")
    return target


def css() -> str:
    """The style sheet that every page shares."""
    return (TEMPLATES / "page.css").read_text("utf-8")


def style() -> Part:
    """The style sheet as something a notebook shows, so that parts look in JupyterLab as they do on a page."""
    return Part(f"<style>{css()}</style>")


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)


def view(report: Report, fit: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The report as a page says it: every number a text, every list cut to what fits, sparklines drawn.

    Args:
        report: as `report.Report.to_dict` gives it.
        fit: how many of each list and how many words of a verbatim; None shows all.
    """
    fit = fit or {}
    moment = dt.datetime.fromisoformat(report["data_as_of"]) if report["data_as_of"] else None
    quality, quiet = report["quality"], report["quiet"]
    order = {"failed": 0, "not_read": 1}
    sources = sorted(report["sources"], key=lambda s: order.get(s["status"], 2))
    suggestions, silent = _suggestions(report, fit), report.get("silent", [])
    return {
        "title": report["title"],
        "product": report["product"],
        "week": report["week"]["label"],
        "data_as_of": f"{moment:%a} {moment.day} {moment:%b %H:%M} UTC" if moment else "–",
        "run_id": report["run_id"],
        "synthetic": report["synthetic"],
        "verdict": report["verdict"],
        "quiet": _quiet_words(quiet) if quiet["nothing_happened"] else "",
        "badges": f"A badge means the change is larger than chance explains after testing {quiet['tested']} subjects."
        if quiet["tested"]
        else "",
        "tested": f"{quiet['tested']} subjects tested at q < {quiet['q']:g}; {quiet['power']}",
        "rates": RATES if quiet["tested"] else "",
        "failed": _failed_words([s for s in sources if s["status"] == "failed"]),
        "left_out": _left_out_words([s for s in sources if s["status"] == "not_read"]),
        "numbers": [_number(n) for n in report["numbers"]],
        "frictions": [_topic(r, fit, report, "friction") for r in report["frictions"][: fit.get("frictions")]],
        "delights": [_topic(r, fit, report, "delight") for r in report["delights"][: fit.get("delights")]],
        "findings": [_finding(f) for f in report["findings"]],
        "suggestions": suggestions,
        "more_suggestions": len(report["suggestions"]) - sum(len(group["rows"]) for group in suggestions),
        "recurring": [_recurring(r) for r in report["recurring"][: fit.get("recurring")]],
        "more_recurring": max(0, len(report["recurring"]) - fit.get("recurring", len(report["recurring"]))),
        "silent": [_silent(f) for f in silent[: fit.get("silent")]],
        "more_silent": max(0, len(silent) - fit.get("silent", len(silent))),
        "sources": [_source(s) for s in sources[: fit.get("sources")]],
        "more_sources": max(0, len(sources) - fit.get("sources", len(sources))),
        "quality": _quality(quality, report["feedback_items_processed"]),
        "processed": _heard_words(report),
        "rerun": report["rerun"],
        "version": report["version"],
        "inputs": ", ".join(f"{t} v{v}" for t, v in report["inputs"].items() if v is not None),
    }


def _heard_words(report: Report) -> str:
    """How much was read: this week's signals and people where the report tells them, and all."""
    every = f"{report['feedback_items_processed']:,}"
    heard = next((n for n in report["numbers"] if n["key"] == "people"), None)
    told = re.match(r"of ([\d,]+) signals", heard["note"] or "") if heard else None
    if heard is None or told is None or heard["value"] is None:
        return f"{every} signals read"
    return f"{told[1]} signals from {people(heard['value'])} people this week; {every} in all"


def _quiet_words(quiet: Mapping[str, Any]) -> str:
    return f"{quiet['tested']} subjects were tested at q < {quiet['q']:g}. For comparison: {quiet['power']}."


def _failed_words(sources: Sequence[Mapping[str, Any]], shown: int = 4) -> list[str]:
    """The sources that could not be read, in one sentence; the table of sources says why."""
    if not sources:
        return []
    names = [s["name"] for s in sources[:shown]] + ([f"{len(sources) - shown} more"] if len(sources) > shown else [])
    said = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    verb = "is" if len(sources) == 1 else "are"
    return [f"{said[0].upper()}{said[1:]} could not be read to the end and {verb} left out of every number."]


def _left_out_words(sources: Sequence[Mapping[str, Any]], shown: int = 4) -> str:
    """The sources that this run was told to leave out, and up to where the data has them."""
    if not sources:
        return ""
    told = [_source_name(s) + (f", read up to {s['watermark'][:10]}" if s["watermark"] else "") for s in sources]
    rest = f"; and {len(told) - shown} more" if len(told) > shown else ""
    return f"Left out of this run: {'; '.join(told[:shown])}{rest}."


def _source_name(source: Mapping[str, Any]) -> str:
    name, origin = source["name"], source["origin"] or ""
    return name if origin in name else f"{name} ({origin})"


def _number(number: Mapping[str, Any]) -> dict[str, Any]:
    ratio, low, high = number["ratio"], number["low"], number["high"]
    change = interval = ""
    tone = "none"
    if ratio is not None and _unsure(number):
        change = TOO_FEW
    elif ratio is not None:
        change = f"{_percent(ratio)} on usual {_plain(number)}"
        if low is not None and high is not None:
            interval = f"{_percent(low)} to {_percent(high)}"
            sure = "up" if low > 1 else "down" if high < 1 else ""
            if sure and number["better"] != "none":
                tone = "good" if sure == number["better"] else "bad"
    elif number["baseline"] is not None and number["value"] is not None:
        change = f"usual {_plain(number)}"
    else:
        change = number["note"]
    hue = {"good": charts.DELIGHT, "bad": charts.FRICTION}.get(tone, charts.INK)
    spark = charts.sparkline(
        number["spark"], alt=charts.number_words(number), hue=hue, width=110, height=26, zero=False
    )
    shown = {k: number[k] for k in ("key", "label", "text")}
    if number["key"] not in charts.NOT_PEOPLE and few(number["value"]):
        shown["text"] = people(number["value"])
    return shown | {"change": change, "interval": interval, "tone": tone, "spark": spark}


def _unsure(number: Mapping[str, Any]) -> bool:
    """Whether a change rests on so few that its interval says next to nothing."""
    if number["key"] in charts.NOT_PEOPLE:
        low, high = number["low"], number["high"]
        return not low or not high or bool(high > 4 * low)
    return few(number["value"]) or few(number["baseline"])


def _percent(ratio: float) -> str:
    change = round((ratio - 1) * 100)
    sign = "+" if change > 0 else "\N{MINUS SIGN}" if change < 0 else "±"
    return f"{sign}{abs(change)} %"


def _plain(number: Mapping[str, Any]) -> str:
    return charts.count(number, number["baseline"])


def _topic(row: Mapping[str, Any], fit: Mapping[str, int], report: Report, section: str) -> dict[str, Any]:
    voices = [_voice(v, fit.get("words", 60)) for v in row["verbatims"]]
    label = people(row["people"])
    usual = "" if row["baseline_people"] is None else f", usually {people(row['baseline_people'])}"
    hidden = few(row["people"])
    ratio = times(row["ratio"]) if row["ratio"] is not None else "new" if row["badge"] == "NEW" else "–"
    ratio = TOO_FEW if hidden else ratio
    said = f"{row['name']}: {label} people this week{usual}" if row["spark"] else ""
    return {
        "rank": row["rank"],
        "id": row["topic_id"],
        "name": row["name"],
        "badge": charts.badge(row),
        "liked": section == "delight",
        "loud": row["badge"] in charts.MOVING,
        "tag": "" if row["dx_label"] in CONTRADICTING[section] else row["dx_label"] or "",
        "people": label,
        "ratio": ratio,
        "interval": "" if hidden else times(row["ratio"], row["low"], row["high"]).partition(" ")[2].strip("()"),
        "q": "" if hidden else _q(row["q"]),
        "since": _since(row, dt.date.fromisoformat(report["week"]["start"])),
        "sources": ", ".join(row["sources"]),
        "spark": charts.sparkline(row["spark"], alt=said, label=label, hue=charts.hue({**row, "section": section})),
        "quoted": voices[: 2 if row["rank"] <= fit.get("twice", 0) else 1],
        "voices": voices,
        "dissenting": [_voice(v, fit.get("words", 60)) for v in row["dissenting"]],
        "evidence": _evidence(row["evidence"]),
        "list": _listed(row),
    }


def _since(row: Mapping[str, Any], week: dt.date) -> str:
    """Since when a topic is known, unless it is as old as the data that the line beside it shows."""
    if not row["since"]:
        return ""
    since = dt.date.fromisoformat(row["since"][:10])
    if since >= week:
        return f"first heard {since.day} {since:%b}"
    silent = next((n for n, v in enumerate(row["spark"]) if v is not None), len(row["spark"]))
    first = week - dt.timedelta(weeks=len(row["spark"]) - 1 - silent)
    return "" if since < first + dt.timedelta(weeks=1) else f"since {since.day} {since:%b}"


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": finding["kind"].upper(),
        "moved": finding["q"] is not None,
        "name": finding["name"],
        "subject": finding["subject_type"].replace("_", " "),
        "people": people(finding["people"]),
        "usual": "" if finding["baseline_people"] is None else f"usually {people(finding['baseline_people'])}",
        "mentions": f"{finding['mentions']:,}",
        "ratio": rate(finding),
        "q": "" if few(finding["people"]) else _q(finding["q"]),
        "evidence": _evidence(finding["evidence"]),
        "sources": ", ".join(origin.partition(":")[2] or origin for origin in finding.get("origins", ())),
        "release": f"after {finding['release']}" if finding.get("release") else "",
    }


def _q(q: float | None) -> str:
    if q is None:
        return ""
    return "q < 0.001" if q < 0.001 else f"q = {q:.3f}" if q < 0.1 else f"q = {q:.1f}"


def _evidence(uids: Sequence[str]) -> str:
    if not uids:
        return "no evidence kept"
    return f"{len(uids):,} signal{'s' if len(uids) > 1 else ''}, first {uids[0][:8]}"


def _listed(row: Mapping[str, Any], most: int = 40) -> dict[str, Any]:
    """The evidence of a topic, to follow: day, source and address where the report has them, else ids."""
    mine = set(row["evidence"])
    known = [_voice(v, 0) for v in (*row["verbatims"], *row["dissenting"]) if v["uid"] in mine]
    rest = [u[:8] for u in row["evidence"] if u not in {v["uid"] for v in known}]
    return {"known": known, "ids": rest[:most], "more": max(0, len(rest) - most)}


def _voice(voice: Mapping[str, Any], words: int) -> dict[str, Any]:
    language = LANGUAGES.get(voice["language"] or "", voice["language"] or "")
    spoken = "" if language in ("English", "") else f", {language}"
    url = voice["url"] or ""
    return {
        "text": _excerpt(voice["text"], words),
        "who": f"{voice['origin']}{spoken}",
        "code": voice["language"] or "und",
        "language": language or "an unknown language",
        "url": url if url.startswith(("https://", "http://")) else "",
        "uid": voice["uid"],
        "day": voice["created_at"][:10],
    }


def _excerpt(text: str, words: int) -> str:
    """The beginning of a verbatim, never re-worded; scripts without spaces are cut by letters."""
    cut = privacy.excerpt(text, words)
    return cut if len(cut) <= 10 * words else f"{cut[: 10 * words].rstrip(' …')} …"


def _suggestions(report: Report, fit: Mapping[str, int]) -> list[dict[str, Any]]:
    """The suggestions to show, in groups with a heading where the report says what moves.

    What is new or growing is always shown; the rest is cut to what fits.
    """
    given = report["suggestions"]
    start = dt.date.fromisoformat(report["week"]["start"])
    known = any("moving" in s for s in given)
    moving = [s for s in given if s.get("moving")]
    others = [s for s in given if not s.get("moving")]
    shown = others[: max(0, fit.get("suggestions", len(given)) - len(moving))]
    groups = [("New or growing", moving), ("Always there" if known else "", shown)]
    return [
        {"heading": heading, "rows": [_suggestion(s, start, fit, _topic_of(s, report)) for s in rows]}
        for heading, rows in groups
        if rows
    ]


def _topic_of(suggestion: Mapping[str, Any], report: Report) -> str:
    """The topic row of the report that shares most evidence with a suggestion; empty when none does."""
    mine = set(suggestion["evidence"])
    shared = [(len(mine.intersection(r["evidence"])), r) for r in (*report["frictions"], *report["delights"])]
    nothing: tuple[int, Mapping[str, Any]] = (0, {})
    most, row = max(shared, key=lambda pair: pair[0], default=nothing)
    return f"topic-{row['topic_id']}" if most else ""


def _suggestion(
    suggestion: Mapping[str, Any], week: dt.date, fit: Mapping[str, int], topic: str = ""
) -> dict[str, Any]:
    parts = [(p, suggestion[p]) for p in ("severity", "impact", "frequency")]
    return {
        "id": suggestion["suggestion_id"][:8],
        "type": suggestion["type"],
        "title": suggestion["title"],
        "action": _first_words(FEW_SAY.sub(f"said by <{charts.FEW}", suggestion["action"]), fit.get("action")),
        "priority": f"{suggestion['priority']:.2f}",
        "parts": [{"name": p, "value": v, "text": f"{v:.2f}"} for p, v in parts],
        "topic": topic,
        "people": people(suggestion["people"]),
        "state": suggestion["state"],
        "history": [FEW_SAID.sub(f"<{charts.FEW} people", line) for line in suggestion["history"]],
        "age": _age(suggestion["history"], week),
        "evidence": _evidence(suggestion["evidence"]),
    }


def _first_words(text: str, words: int | None) -> str:
    return text if words is None else privacy.excerpt(text, words) if words else ""


def _age(history: Sequence[str], week: dt.date) -> str:
    """How long something has been suggested; each line of a history begins with the Monday of its week."""
    told = {dt.date.fromisoformat(line[:10]) for line in history}
    told = {day for day in told if day < week} | {week}  # a look back at an old week does not know what came after
    running = 1
    while week - dt.timedelta(weeks=running) in told:
        running += 1
    if running > 1:
        return f"suggested {running} weeks running"
    return f"suggested again, {len(told)} weeks in all" if len(told) > 1 else "first suggested this week"


def _recurring(error: Mapping[str, Any]) -> dict[str, Any]:
    label = f"{error['mentions']:,}"
    words = f"{error['name']}: {label} times this week, seen in {error['weeks_seen']} weeks"
    return {
        "name": error["name"],
        "people": people(error["people"]),
        "mentions": label,
        "weeks": error["weeks_seen"],
        "fingerprint": error["fingerprint"][:8],
        "evidence": _evidence(error["evidence"]),
        "spark": charts.sparkline(error["spark"], alt=words, label=label),
    }


def _silent(friction: Mapping[str, Any]) -> dict[str, Any]:
    """What workflows ran into, and how many people say so."""
    said, hit = friction["people"], f"{friction['workflows']:,}"
    before = "" if said or not friction["people_before"] else f", {people(friction['people_before'])} before"
    weeks = [float(n) if of else None for n, of in zip(friction["by_week"], friction["of_by_week"], strict=True)]
    words = f"{friction['name']}: hit by {hit} workflows this week, the weeks before beside it"
    growth = friction.get("growth")
    words = f"{friction['name']}: the later {hit} workflows by week" if growth else words
    return {
        "name": friction["name"],
        "what": {"skip": "skipped", "phase": "longer"}.get(friction["kind"], "error"),
        "phase": growth or friction["phase"] or "",
        "said": "–" if growth else f"{people(said) if said else 'nobody'}{before}",
        "hit": f"{hit} of {friction['of']:,}",
        "spark": charts.sparkline(weeks, alt=words, label=hit),
        "evidence": _evidence([*friction["said"], *friction["evidence"]]),
    }


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    counts = {k: f"{source[k]:,}" if source[k] is not None else "–" for k in ("read", "new", "updated", "rejected")}
    failed = source["status"] == "failed"
    if failed and not source["read"]:
        counts = dict.fromkeys(counts, "–")
    upto = source["watermark"][:16].replace("T", " ") if source["watermark"] else "–"
    return counts | {
        "name": _source_name(source),
        "status": {"ok": "read", "empty": "nothing new", "not_read": "left out of this run"}.get(
            source["status"], source["status"]
        ),
        "failed": failed,
        "error": source["error"] or "",
        "upto": upto,
    }


def _quality(quality: Mapping[str, Any], processed: int) -> list[dict[str, Any]]:
    """What a reader must know before believing the numbers: a word, a sentence, the sentence in short for print.

    Two rows that are not ``wide`` stand side by side in print.
    """
    unread = [x for x in quality["languages"] if not x["read"]]
    told = [f"{LANGUAGES.get(x['language'], x['language'])} {x['signals']:,}" for x in unread if x["language"]]
    silent = quality["unread"] - sum(x["signals"] for x in unread if x["language"])
    names = ", ".join([*told, f"unknown or too short {silent:,}"] if silent > 0 else told)
    classes = "; ".join(
        f"{c['label'].replace('_', ' ')} {_two(c['precision'])} / {_two(c['recall'])} (n\u00a0{c['n']})"
        for c in quality["classifier"]
    )
    short = {
        "Labels": _spread(quality["classifier"]),
        "Quarantined": f"{quality['quarantined']:,}; see feedback quarantine" if quality["quarantined"] else "none",
    }
    narrow = ("Without a topic", "Left unlabelled", "Duplicates", "Quarantined")
    rows = [
        ("Languages not read", f"{quality['unread']:,} of {processed:,} signals{f' ({names})' if names else ''}"),
        ("Without a topic", f"{_share(quality['no_topic_ratio'])} of signals"),
        ("Labels", f"precision / recall, {MEASURED}: {classes}" if classes else "not measured"),
        ("Reviewed", _reviewed_words(quality.get("reviewed", []))),
        ("Left unlabelled", f"{_share(quality['abstained_ratio'])} were too unsure to label"),
        ("Duplicates", f"{quality['duplicates']:,} counted once"),
        (
            "Quarantined",
            f"{quality['quarantined']:,} items could not be read; feedback quarantine lists them"
            if quality["quarantined"]
            else "none",
        ),
    ]
    revised = quality.get("revised")
    if revised is not None:
        rows.append(("Revised", _revised_words(revised)))
    if quality.get("proposals"):
        rows.append(
            ("Topics to review", f"{_counted(quality['proposals'], 'proposal')}; feedback topics diff shows them")
        )
    rows += [("Note", note) for note in quality.get("notes", [])]
    rows.append(("Models", "; ".join(f"{k.removesuffix('_model')}: {v}" for k, v in quality["models"].items()) or "–"))
    rows.sort(key=lambda row: row[0] in narrow)  # in print two of them share a line
    return [{"name": n, "text": t, "short": short.get(n, t), "wide": n not in narrow} for n, t in rows]


def _spread(classes: Sequence[Mapping[str, Any]]) -> str:
    """How good the labels are, in one line."""
    told = []
    for name in ("precision", "recall"):
        known = [c[name] for c in classes if c[name] is not None]
        if known:
            told.append(f"{name} {_dot(min(known))}–{_dot(max(known))}")
    return f"{', '.join(told)} over {len(classes)} labels, {MEASURED}" if told else "not measured"


def _reviewed_words(reviewed: Sequence[Mapping[str, Any]]) -> str:
    """Precision and recall on what an analyst labelled, with their intervals."""
    shown = [r for r in reviewed if (r["label"] == "any" or r["withheld"]) and (r["n"] or r["said"])]
    if not shown:
        return "no signal of this product was reviewed yet; feedback label asks for fifty"
    told = [
        f"{s['label']} {s['precision']} / {s['recall']}{', withheld' if r['withheld'] else ''}"
        for r, s in zip(shown, labelling.summary(shown), strict=True)
    ]
    return f"precision / recall on signals of this product drawn at random: {'; '.join(told)}"


def _revised_words(revised: Sequence[Mapping[str, Any]], shown: int = 3) -> str:
    """What earlier weeks were told as and are now, because signals came late; and how much was merely recounted."""
    late = [r for r in revised if r["late"] > 0 and r["people"] != r["people_before"]]
    late.sort(key=lambda r: -abs(r["people"] - r["people_before"]))
    said = [
        f"{r['name']}, week {dt.date.fromisoformat(r['week']).isocalendar().week}: {people(r['people_before'])} → "
        f"{people(r['people'])} people, {r['late']} came late"
        for r in late[:shown]
    ]
    if len(late) > shown:
        said.append(f"{len(late) - shown} more")
    again = sum(r["why"] == "recounted" for r in revised)
    if again:
        said.append(f"{_counted(again, 'number')} of earlier weeks counted again, for topics changed")
    return "; ".join(said) or "no number of an earlier week changed"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _dot(value: float | None) -> str:
    """A share from 0 to 1 as briefly as it can be told: ``.86``."""
    return _two(value).removeprefix("0")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.0f} %"


def _sheet(report: Report, fit: Mapping[str, int], paper: Paper, *, masked: bool) -> dict[str, str]:
    """What the typst template is given: words the bundled font can set, and the pictures as SVG text."""
    shown = view(report, fit)
    cut = {key: report[key][: fit[key]] for key in ("frictions", "delights")}
    raw = charts.rows(cut)
    rows = [*shown["frictions"], *shown["delights"]]
    if masked:
        for row in rows:
            row["quoted"] = [_masked(v) for v in row["quoted"]]
    words = charts.ratios_words(raw)
    drawing = _forest(json.dumps(raw)) if _comparable(raw) else ""
    return {
        "data": json.dumps(_settable(shown | {"chart": drawing, "chart_words": words}), ensure_ascii=False),
        "paper": paper,
    }


def _comparable(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there were weeks before that any topic can be compared with."""
    return any(row["ratio"] is not None or row["badge"] == "NEW" for row in rows)


@functools.lru_cache(maxsize=4)
def _forest(rows: str) -> str:
    """The forest plot of rows given as JSON: drawn once while the rest of a page is fitted."""
    raw = json.loads(rows)
    return charts.svg(charts.ratios(raw), alt=charts.ratios_words(raw))


def _masked(voice: dict[str, Any]) -> dict[str, Any]:
    if all(_covered(c) or _nameable(c) for c in voice["text"]):
        return voice
    return voice | {"text": f"[{voice['code']}] in {voice['language']}, see the HTML report", "note": True}


def _settable(value: Any) -> Any:
    if isinstance(value, str):
        plain = value.startswith("<svg") or _inter().issuperset(map(ord, value))
        return value if plain else "".join(_named(c) for c in value)
    if isinstance(value, Mapping):
        return {k: _settable(v) for k, v in value.items()}
    return [_settable(v) for v in value] if isinstance(value, list | tuple) else value


def _named(character: str) -> str:
    """A picture character as its name in brackets, so that no print shows an empty box.

    >>> _named("🙏"), _named("é")
    ('[person with folded hands]', 'é')
    """
    if _covered(character) or not _nameable(character):
        return character
    name = unicodedata.name(character, "").lower()
    return f"[{name}]" if unicodedata.category(character) == "So" and name else ""


def _nameable(character: str) -> bool:
    return (
        unicodedata.category(character) in ("So", "Sk", "Cf", "Cc", "Co", "Cn", "Cs")
        or "\ufe00" <= character <= "\ufe0f"
    )


def _covered(character: str) -> bool:
    return character in "\n\t" or ord(character) in _inter()


@functools.cache
def _inter() -> frozenset[int]:
    """The characters of the bundled font, read from the format 12 part of its ``cmap`` (OpenType 1.9)."""
    font = (FONTS / "Inter-Regular.otf").read_bytes()
    tables = {font[12 + 16 * n : 16 + 16 * n]: 20 + 16 * n for n in range(struct.unpack_from(">H", font, 4)[0])}
    start = struct.unpack_from(">I", font, tables[b"cmap"])[0]
    known: set[int] = set()
    for n in range(struct.unpack_from(">H", font, start + 2)[0]):
        at = start + struct.unpack_from(">I", font, start + 8 + 8 * n)[0]
        if struct.unpack_from(">H", font, at)[0] == 12:
            for group in range(struct.unpack_from(">I", font, at + 12)[0]):
                first, last = struct.unpack_from(">II", font, at + 16 + 12 * group)
                known.update(range(first, last + 1))
    return frozenset(known)
