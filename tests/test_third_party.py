"""A source in a package of its own, as CONTRIBUTING.md writes it, is found and passes the shipped tests."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^   ```\w+\n   (?:#|//) (\S+)\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The files of the page, and what an installer would leave beside them."""
    folder = tmp_path_factory.mktemp("acme")
    for name, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
    about = folder / "acme_feedback-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-feedback\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[feedback_lib.sources]\nacme = acme_feedback:Acme\n")
    return folder


def run(package, *arguments):
    path = os.pathsep.join([str(package), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=package,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_the_shipped_tests_pass(package):
    done = run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b\d\d passed", done.stdout)


def test_the_shipped_tests_see_what_is_wrong(package, tmp_path):
    wrong = tmp_path / "wrong"
    subprocess.run(["cp", "-r", str(package), str(wrong)], check=True)
    module = wrong / "acme_feedback.py"
    module.write_text(module.read_text().replace('("customer",)', "()").replace('"changed")', '"changed", "customer")'))
    done = run(wrong, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py")
    assert done.returncode == 1
    assert "test_no_personal_data_passes_into_the_store" in done.stdout


def test_the_command_lists_it(package):
    done = run(package, "-c", "import sys; sys.argv[1:] = ['plugins']; from feedback_lib.cli import main; main()")
    assert "sources: acme, " in done.stdout, done.stderr
