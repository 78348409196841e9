"""The map of what is new in a browser: dragging lists documents, a click shows one with its link."""

import re

import nbformat
import numpy as np
import pytest
from test_dashboard import browser, serving, wait_for  # noqa: F401  # browser is a fixture

from feedback_lib import pipeline, whats_new

CELLS = (
    'store = ""',
    "from feedback_lib import pages\nfrom feedback_lib.whats_new import whats_new\npages.style()",
    'whats_new(store).map("widget")',
)
DOTS = """return [...document.querySelectorAll('.feedback-chart svg path')].map(e => {
  const at = /translate\\(([-\\d.]+),([-\\d.]+)\\)/.exec(e.getAttribute('transform') ?? '');
  const box = e.getBoundingClientRect();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  return [at && +at[1], at && +at[2], x, y, box.width, document.elementFromPoint(x, y) === e ? 1 : 0];
}).filter(d => d[0] !== null && d[4] > 3 && d[4] < 12)"""
TOLD = "return document.querySelector('.widget-vbox .widget-html').innerText"


@pytest.fixture(scope="module")
def address(cache, tmp_path_factory):
    """The map alone, served by Voila, over the bundled sample."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    book.cells[0].metadata.tags = ["parameters"]
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    written = tmp_path_factory.mktemp("map") / "map.ipynb"
    nbformat.write(book, written)
    with serving(written, {"store": str(pipeline.sample_store().path)}) as (found, _):
        yield found


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.thorough  # test_whats_new.py shows it without a browser
def test_dragging_over_the_map_lists_its_texts_and_a_click_shows_one_with_its_link(address, browser):  # noqa: F811
    from selenium.webdriver import ActionChains

    new = whats_new.whats_new(pipeline.sample_store())
    texts = new.places.join(new.texts, on="uid", how="left", maintain_order="left")
    spots = np.column_stack([texts["x"] * 860, (1 - texts["y"]) * 560])
    browser.get(address)
    wait_for(browser, "return document.querySelector('.feedback-chart')?.dataset.revision", lambda r: r == "0")
    assert "Drag over the map" in browser.execute_script(TOLD)
    dots = np.array(browser.execute_script(DOTS))
    assert len(dots) == texts.height

    def pointed(*moves):
        chain = ActionChains(browser, duration=250)
        pointer = chain.w3c_actions.pointer_action
        for name, *at in moves:
            getattr(pointer, name)(*(round(float(v)) for v in at))
        chain.perform()

    scale = np.polyfit(dots[:, 0], dots[:, 2], 1), np.polyfit(dots[:, 1], dots[:, 3], 1)
    corners = np.array([[300, 200], [480, 380]])
    start, end = ([np.polyval(line, v) for line, v in zip(scale, corner, strict=True)] for corner in corners)
    pointed(("move_to_location", *start), ("pointer_down",), ("move_to_location", *end), ("pointer_up",))
    said = wait_for(browser, TOLD, lambda t: "score" in t)
    few, many = (((spots > corners[0] + m) & (spots < corners[1] - m)).all(axis=1).sum() for m in (2, -2))
    assert 10 < few <= int(re.match(r"(\d+) texts", said)[1]) <= many

    away = ((spots < corners[0] - 40) | (spots > corners[1] + 40)).any(axis=1)
    apart = np.sqrt(((spots[:, None] - spots[None]) ** 2).sum(axis=2)) + 1e9 * np.eye(len(spots))
    free = dots[np.abs(dots[None, :, :2] - spots[:, None]).sum(axis=2).argmin(axis=1), 5] == 1
    hit = np.where(away & free & texts["url"].is_not_null().to_numpy(), apart.min(axis=1), -1).argmax()
    dot = dots[np.abs(dots[:, :2] - spots[hit]).sum(axis=1).argmin()]
    pointed(("move_to_location", *dot[2:4]), ("click",))
    wait_for(browser, TOLD, lambda t: "score" not in t)  # the first click may only end what was dragged
    pointed(("click",))
    row = texts.row(int(hit), named=True)
    title = " ".join(row["title"].split()[:3])
    said = wait_for(browser, TOLD, lambda t: "score" not in t and title in t, seconds=20)
    assert " ".join(row["body"].split()[:3]) in " ".join(said.split())
    link = "return document.querySelector('.widget-vbox .widget-html a').href"
    assert browser.execute_script(link) == row["url"]
    assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
