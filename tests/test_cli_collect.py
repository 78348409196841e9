"""``feedback collect`` as its user starts it."""

import json
import socket
import subprocess
import sys

import pytest
from collecting import Collector, entry
from commands import called, started


def test_it_says_where_it_listens_and_stops_without_a_word_too_many(tmp_path):
    with Collector(tmp_path / "sub" / "c.sqlite") as one:
        assert one.url.startswith("http://127.0.0.1:")
        assert one.send(entry()).json()["accepted"] == 1
        code, out, err = one.end()
    assert (code, out) == (0, "Stopped.\n")
    (line,) = err.splitlines()
    assert json.loads(line)["message"].startswith("route=submit status=200 bytes=")


def test_it_warns_when_other_machines_can_reach_it(tmp_path):
    with Collector(tmp_path / "c.sqlite", "--host", "0.0.0.0") as one:
        _, out, _ = one.end()
    assert "Other machines can reach it" in out
    assert "TLS" in out


def test_quiet_says_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = called("--quiet", "collect", "--port", taken.getsockname()[1], "--data", tmp_path / "c.sqlite")
    assert (told.returncode, told.stdout) == (2, "")
    assert "--port" in told.stderr


def test_what_it_cannot_listen_on_is_told(tmp_path):
    for host in ("203.0.113.5", "not a host"):
        told = started("collect", "--host", host, "--port", 0, "--data", tmp_path / "c.sqlite")
        assert told.returncode == 2
        assert f"cannot listen on {host}" in told.stderr
    assert not (tmp_path / "c.sqlite").exists()


def test_a_file_that_is_none_of_its_own_is_told(tmp_path):
    other = tmp_path / "notes.sqlite"
    other.write_text("somebody's notes " * 500)
    told = called("collect", "--port", 0, "--data", other)
    assert told.returncode == 2
    assert str(other) in told.stderr
    assert "--data" in told.stderr
    assert "Traceback" not in told.stderr


def test_an_empty_token_lets_nobody_in_by_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("COLLECTOR_TOKEN", " ")
    told = called("collect", "--port", 0, "--data", tmp_path / "c.sqlite")
    assert told.returncode == 2
    assert "COLLECTOR_TOKEN" in told.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package_is_told_with_the_extra_that_brings_it(tmp_path, package):
    hide = (
        "import importlib.util as u, sys\n"
        f"real = u.find_spec\nu.find_spec = lambda name, *a: None if name == {package!r} else real(name, *a)\n"
        f"sys.modules[{package!r}] = None\n"
        "from feedback_lib import cli\ncli.main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", hide, "collect", "--data", tmp_path / "c.sqlite"], capture_output=True, check=False
    )
    assert told.returncode == 2
    assert f"needs the package {package}: pip install 'feedback_lib[collector]'" in told.stderr.decode()


def test_its_help_loads_neither_the_service_nor_its_packages():
    look = (
        "import sys\nfrom feedback_lib import cli\nsys.argv = ['feedback', 'collect', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('starlette', 'uvicorn', 'sqlite3', 'feedback_lib.workflows') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, text=True)
    assert told.stdout.splitlines()[-1] == "[]"
    assert "Receive tool feedback from many installations" in told.stdout
