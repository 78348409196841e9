"""Every command in the README runs as it stands there, in a copy of the repository."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from commands import called

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
ONCE = [c for c in COMMANDS if c.startswith(".venv/bin/feedback")]
SERVERS = {"make lab": "/lab", "make dashboards": "/"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with the environment the tests run in, its stamps included, and the sample."""
    home = tmp_path_factory.mktemp("readme") / "checkout"
    shutil.copytree(
        ROOT, home, ignore=shutil.ignore_patterns(".git", ".venv", "data", "reports", ".*_cache", ".hypothesis")
    )
    shutil.copytree(ROOT / "feedback_lib" / "data", home / "feedback_lib" / "data", dirs_exist_ok=True)
    (home / ".venv").symlink_to(Path(sys.prefix))
    assert called("sample", cwd=home).returncode == 0
    shutil.copytree(home / "data" / "sample" / "workflows", home.parent / "my-project")
    mine = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert mine
    one = "notebooks: [signal_report]\n"  # the first weekly run makes them all
    (home / "params" / "mine.yaml").write_text(mine.group(1) + one, "utf-8")
    (home / "exports").mkdir()
    rows = [
        f"{i},2026-11-{1 + i % 15:02}T10:00:00Z,Export fails,The export fails with code {i},u{i}@example.com"
        for i in range(60)
    ]
    (home / "exports" / "tickets.csv").write_text("Ticket,Opened,Subject,Text,Requester\n" + "\n".join(rows), "utf-8")
    return home


def test_the_readme_shows_only_commands_that_are_run_here():
    known = {"make weekly", "make test", *SERVERS, *ONCE}
    assert set(COMMANDS) == known
    assert len(ONCE) >= 6


@pytest.mark.thorough  # test_cli*.py try the commands one by one
def test_the_commands_run_in_the_order_of_the_page(checkout):
    """The first as it stands there, the others in this process: each start would import everything again."""
    first, *others = sorted(ONCE, key=lambda c: "report weekly" not in c)
    done = subprocess.run(first.split(), cwd=checkout, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (first, done.stdout, done.stderr)
    shown = {}
    for command in others:
        done = called(*command.split()[1:], cwd=checkout)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        shown[command] = done.stdout
    (captured,) = (shown[c] for c in others if " capture " in c)
    (reviewed,) = (shown[c] for c in others if " review " in c)
    assert ".workflow_process_feedback.jsonl" in captured
    assert re.search(r"Often skipped: .*workflows", reviewed)
    assert "+++ b/ROADMAP.md" in reviewed
    folder = checkout / "reports" / "weekly" / "2026-11-16"
    assert (folder / "signal_report.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((folder / "run.json").read_text("utf-8"))["status"] == "ok"


def test_make_weekly_runs_those_commands():
    done = subprocess.run(
        ["make", "-n", "weekly"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    assert ".venv/bin/feedback report weekly --params params/weekly.yaml" in done.stdout


@pytest.mark.parametrize("command", sorted(SERVERS))
def test_a_server_answers_on_this_machine_only(command, checkout):
    """The same command as in the README, asked not to open a browser and to take a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = (ROOT / "Makefile").read_text("utf-8").split(f"\n{command.split()[1]}:")[1].splitlines()[1]
    run = f"{recipe.strip().replace('$(BIN)', '.venv/bin')} --no-browser --port={port}"
    if "jupyter" in run and os.geteuid() == 0:
        run += " --allow-root"  # Jupyter asks for it, and CI is root
    server = subprocess.Popen(
        run, shell=True, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert _answers(f"http://127.0.0.1:{port}{SERVERS[command]}", 90)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answers(url: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=60) as page:
                return page.status == 200
        except urllib.error.HTTPError as answer:
            return answer.code in (401, 403)  # it is there and asks for a token
        except OSError:
            time.sleep(0.5)
    return False
