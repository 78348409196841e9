"""The review of workflows as a page in a browser, as `feedback dashboards` shows it of a folder."""

import os
from pathlib import Path

import pytest
from commands import BIN, called
from test_dashboard import answering, browser, free_port, wait_for  # noqa: F401  # browser is a fixture

from feedback_lib.workflows import sample

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TEXT = "return document.body.innerText"
CHARTS = "return document.querySelectorAll('svg').length"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A place with a params file and beside it a project, whose log is the sample's and somebody's own."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "weekly.yaml").write_text(f"notebook_folder: {NOTEBOOKS}\nstore: store\nsources: []\n", "utf-8")
    log = sample.write(folder / "project") / ".workflow_log.jsonl"
    log.write_text(log.read_text("utf-8").replace("risk_analysis", "ask_the_lawyers"), "utf-8")
    return folder


@pytest.fixture(scope="module")
def address(home, cache):
    port = free_port()
    command = [BIN / "feedback", "dashboards", "-f", "weekly.yaml", "--notebook", "workflow_review", "--no-browser"]
    command += ["-p", "folder=project", "--port", str(port)]
    env = os.environ | {"FEEDBACK_CONFIG": str(home / "config")}
    with answering(command, port, cwd=home, env=env) as (found, _):
        yield found


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.thorough  # test_dashboard.py shows a page, test_workflow_notebook.py its parts
def test_the_page_shows_the_workflows_of_the_folder_that_is_named(address, browser):  # noqa: F811
    """The folder is meant from where the command was started, not from where the page is served."""
    browser.get(address)
    said = wait_for(browser, TEXT, lambda text: "How far to trust this" in text and "18 workflows" in text)
    assert "ask_the_lawyers" in said
    assert "invented" not in said
    assert "Low risk, and the form got long" in said
    assert wait_for(browser, CHARTS, lambda count: count >= 4) >= 4
    told = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [m for m in told if "favicon" not in m]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--notebook", "workflow_revue"], "did you mean 'workflow_review'?"),
        (["--notebook", "workflow_review", "-p", "foldr=project"], "did you mean 'folder'?"),
        (["--notebook", "workflow_review", "-p", "folder=3"], "folder"),
        (["--notebook", "workflow_review", "-p", "folder"], "write key=value"),
        (["-p", "folder=project"], "folder"),
    ],
)
def test_what_the_notebook_does_not_ask_for_is_refused_before_anything_is_served(home, args, words):
    said = called("dashboards", "-f", "weekly.yaml", *args, "--no-browser", cwd=home)
    assert said.returncode == 2
    assert words in said.stderr
    assert "Dashboard:" not in said.stderr
