"""One look for every chart, and the one way a chart reaches a reader: `show`, as a drawing or as a widget."""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt
import anywidget
import traitlets

from feedback_lib import config

Report = Mapping[str, Any]
Row = Mapping[str, Any]
Width = int | Literal["container"]
Drawing = alt.LayerChart | alt.FacetChart

INK, MUTED, GREY, GRID = "#1b2330", "#576170", "#b4bcc8", "#dfe3e9"
FRICTION, DELIGHT = "#b5451b", "#1f5fa8"
FONT = "Inter, 'Segoe UI', Helvetica, Arial, sans-serif"
TEMPLATES = Path(__file__).parents[1] / "templates"
FONTS = TEMPLATES / "fonts"
SIZE = 12  # pixels, 9 pt: nothing in a chart is smaller


@alt.theme.register("feedback", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    axis: Any = {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": SIZE, "titleFontSize": SIZE}
    title: Any = {"anchor": "start", "fontSize": 13, "fontWeight": 600, "color": INK, "offset": 8, "frame": "group"}
    return {
        "config": {
            "font": FONT,
            "background": "transparent",
            "aria": False,  # the words of the whole chart are set once, by `svg` and by chart.js
            "view": {"stroke": None},
            "title": title | {"subtitleColor": MUTED, "subtitleFontSize": SIZE},
            "axis": axis | {"titleFontWeight": 400, "gridColor": GRID, "domainColor": GREY, "tickColor": GREY},
            "axisX": {"grid": False},
            "axisY": {"domain": False, "ticks": False},
            "text": {"fontSize": SIZE, "color": INK, "font": FONT},
            "range": {"category": [FRICTION, DELIGHT, MUTED, GREY]},
        }
    }


def svg(chart: alt.TopLevelMixin, *, alt: str) -> str:
    """A chart as SVG text that stands alone: no script, no address but the namespace, ids unlike any other chart's.

    Args:
        chart: an Altair chart with a width in pixels.
        alt: what it shows, in words.
    """
    import vl_convert

    _know_fonts()
    text = vl_convert.vegalite_to_svg(_drawable(chart), vl_version=_vega_version())
    text = re.sub(r'<path [^>]*opacity="0"[^>]*/>', "", text)  # there for tooltips only
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(id="|url\(#)(clip|gradient)', rf"\g<1>{own}\2", text)
    words = html.escape(_NO_XML.sub("�", alt))
    head = f'<svg role="img" aria-label="{words}" '
    return re.sub(r"<svg ([^>]*)>", lambda found: f"{head}{found[1]}><title>{words}</title>", text, count=1)


_NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_UNDRAWABLE = re.compile(r"(\\\\)|\\[bf]|\\u00(?:0[0-8bef]|1[0-9a-f])|[\ufffe\uffff\ud800-\udfff]")


def _drawable(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The chart, where what XML has no place for is �, because the drawing engine ends the process over it."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    text = json.dumps(spec, ensure_ascii=False)
    clean = _UNDRAWABLE.sub(lambda found: found[1] or "�", text)
    return spec if clean == text else json.loads(clean)


class Picture:
    """A drawn chart: notebooks display it as SVG with its words beside it."""

    def __init__(self, text: str, alt: str) -> None:
        self.text = text
        self.alt = alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"image/svg+xml": self.text, "text/plain": self.alt}, {"image/svg+xml": {"alt": self.alt}}


def show(chart: alt.TopLevelMixin, *, alt: str, render: Literal["svg", "widget"] = "svg") -> Picture | ChartWidget:
    """The one way a chart reaches a reader.

    Args:
        chart: an Altair chart.
        alt: what it shows, in words; every chart has some.
        render: ``svg`` draws it now, for papermill, HTML and PDF; ``widget`` draws it in the browser, with tooltips and
            redrawing, in JupyterLab and Voila. Neither asks the network.
    """
    if not alt:
        raise ValueError("a chart needs words: pass alt=.")
    return ChartWidget(chart, alt) if render == "widget" else Picture(svg(chart, alt=alt), alt)


class ChartWidget(anywidget.AnyWidget):
    """A chart drawn in the browser; the Vega bundle is sent once per page, not once per chart.

    What a reader selects in it arrives in ``selection``: the value of each of the chart's selections, by name.
    """

    _esm = TEMPLATES / "chart.js"
    spec = traitlets.Dict().tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    revision = traitlets.Int(0).tag(sync=True)
    selection = traitlets.Dict().tag(sync=True)

    def __init__(self, chart: alt.TopLevelMixin, alt: str) -> None:
        _engine()
        super().__init__(spec=chart.to_dict(validate=False), words=alt)

    def redraw(self, chart: alt.TopLevelMixin, alt: str) -> None:
        """Show another chart in the same place."""
        with self.hold_sync():
            self.spec, self.words = chart.to_dict(validate=False), alt
            self.revision += 1


class _Engine(anywidget.AnyWidget):
    """Carries `bundle` to the page; it shows nothing."""


@functools.cache
def _engine() -> _Engine:
    made: _Engine = type("Engine", (_Engine,), {"_esm": bundle()})()
    return made


def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one JavaScript module, built once and kept in the cache folder."""
    import importlib.metadata

    import vl_convert

    kept = config.cache_dir() / f"vega-{importlib.metadata.version('vl-convert-python')}.js"
    if not kept.exists():
        start = "globalThis.feedbackEmbed = vegaEmbed; export default {render() {}};"
        text = vl_convert.javascript_bundle(start, vl_version=_vega_version())
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(f".{hashlib.sha256(text.encode()).hexdigest()[:8]}")
        half.write_text(text, "utf-8")
        half.replace(kept)
    return kept.read_text("utf-8")


@functools.cache
def _know_fonts() -> None:
    import vl_convert

    vl_convert.register_font_directory(str(FONTS))


def _vega_version() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Rows as the data of a chart."""
    return alt.InlineData(values=json.loads(json.dumps(rows)))


def linear(low: float, high: float) -> alt.Scale:
    """A scale that begins and ends exactly where told."""
    return alt.Scale(domain=[low, high], nice=False, zero=False)


def page(chart: alt.TopLevelMixin, *, alt: str, title: str) -> str:
    """A chart as one HTML file that asks nobody: the Vega bundle is in it, and reacts to the reader.

    Args:
        chart: an Altair chart.
        alt: what it shows, in words.
        title: of the page.
    """
    spec = json.dumps(chart.to_dict(validate=False)).replace("<", "\\u003c")  # no end of the script in a text
    name, words = html.escape(title), html.escape(alt)
    script = f"globalThis.feedbackEmbed('#chart', {spec}, {{actions: false, renderer: 'svg', ast: true}});"
    style = f"body {{ font: 15px/1.5 {FONT}; color: {INK}; margin: 20px auto; max-width: 920px; padding: 0 16px; }}"
    engine = bundle().replace("</script", "<\\/script")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{style}</style></head>'
        f'<body><h1 style="font-size: 22px">{name}</h1><div id="chart" role="img" aria-label="{words}"></div>'
        f'<script type="module">{engine}\n{script}</script></body></html>'
    )
