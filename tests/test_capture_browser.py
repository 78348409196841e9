"""The ten questions as a form in a browser: answered, captured, and written into the folder's files."""

import json
import os
from pathlib import Path

import pytest
from test_dashboard import browser, serving, wait_for  # noqa: F401  # browser is a fixture

from feedback_lib.workflows import sample

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "capture.ipynb"
TEXT = "return document.body.innerText"


@pytest.fixture(scope="module")
def served(cache, tmp_path_factory):
    """A folder with workflows, and the address of the form about it."""
    folder = sample.write(tmp_path_factory.mktemp("project"))
    given, env = {"folder": str(folder)}, os.environ | {"FEEDBACK_CONFIG": str(folder / "config")}
    with serving(NOTEBOOK, given, env=env) as (address, _):
        yield folder, address


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.thorough  # workflows/test_questions.py shows it without a browser
def test_the_form_is_answered_and_captured(served, browser):  # noqa: F811
    from selenium.webdriver.common.by import By

    folder, address = served
    browser.get(address)
    wait_for(browser, TEXT, lambda text: "What challenges did you face?" in text)
    assert "private" in browser.execute_script(TEXT)
    for question in browser.find_elements(By.CSS_SELECTOR, "textarea"):
        if question.is_displayed():
            question.send_keys("The cache was slow")
    browser.find_element(By.CSS_SELECTOR, "input[type=radio][value='2']").click()  # no, of the first question
    next(b for b in browser.find_elements(By.CSS_SELECTOR, "button") if b.text == "Capture").click()
    said = wait_for(browser, TEXT, lambda text: "new entries about the tool" in text or "Not captured" in text)
    assert "Not captured" not in said
    entries = [
        json.loads(line) for line in (folder / ".workflow_process_feedback.jsonl").read_text("utf-8").splitlines()
    ]
    asked = [entry for entry in entries if entry["mode"] == "interactive"]
    assert [entry["challenges"] for entry in asked] == ["The cache was slow"]
    tool = [json.loads(line) for line in (folder / ".workflow_tool_feedback.jsonl").read_text("utf-8").splitlines()]
    assert [e["phase0_guidance_used"] for e in tool if e["mode"] == "interactive"] == [False]
