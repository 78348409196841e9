"""The guards of the test-suite itself."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_a_connection_off_this_machine_fails_before_a_packet_leaves():
    with socket.socket() as out, pytest.raises(RuntimeError, match=r"off this machine: connect to \('192\.0\.2\.1'"):
        out.connect(("192.0.2.1", 80))


def test_looking_up_a_name_fails():
    with pytest.raises(RuntimeError, match=r"looked up 'feedback\.example'"):
        socket.create_connection(("feedback.example", 443))


def test_this_machine_is_reachable():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_the_cache_is_one_folder_for_the_whole_run(cache):
    assert Path(os.environ["FEEDBACK_CACHE"]) == cache


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_missing_browser_skips_here_and_fails_in_ci(ci, outcome, tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_page.py").write_text("def test_page(chromium):\n    pass\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rsE", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        env=os.environ | {"CI": ci, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert outcome in ran.stdout
    assert "Chromium is not installed" in ran.stdout


@pytest.mark.parametrize(("ci", "passed"), [("", "1 passed, 1 deselected"), ("true", "2 passed")])
def test_thorough_tests_run_in_ci_only(ci, passed, tmp_path):
    (tmp_path / "test_two.py").write_text(
        "import pytest\n\n\n@pytest.mark.thorough\ndef test_long():\n    pass\n\n\ndef test_short():\n    pass\n"
    )
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "ignore", str(tmp_path)],
        cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True,
    )  # fmt: skip
    assert passed in done.stdout, done.stdout + done.stderr
