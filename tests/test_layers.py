"""The import contracts of pyproject.toml: kept, and seen to fail when broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder):
    """Check the contracts of the package in a folder."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_the_contracts_are_kept():
    linted = lint(ROOT)
    assert linted.returncode == 0, linted.stdout


def test_every_module_of_the_package_has_a_layer():
    contract = (ROOT / "pyproject.toml").read_text().partition('name = "Layers look down only"')[2].partition("[[")[0]
    named = {name for line in contract.splitlines() for name in line.strip(' ",').split(" | ")}
    modules = {p.stem if p.is_file() else p.name for p in (ROOT / "feedback_lib").iterdir() if p.suffix in ("", ".py")}
    packages = {name for name in modules if (ROOT / "feedback_lib" / name / "__init__.py").exists()}
    files = {name for name in modules if (ROOT / "feedback_lib" / f"{name}.py").exists()} - {"__init__"}
    assert sorted((packages | files) - named) == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors", "from feedback_lib import pipeline", "Layers look down only"),
        ("workflows/ids", "from feedback_lib.workflows import entries", "Workflow feedback looks down, too"),
        ("sinks/file", "from feedback_lib.sinks import stdout", "Plug-ins do not know each other"),
        ("sources/mbox", "from feedback_lib.sources import files", "Plug-ins do not know each other"),
        ("analysis/trends", "import socket", "Analysis is pure"),
        ("analysis/trends", "from feedback_lib import config", "Analysis is pure"),
    ],
)
def test_a_broken_contract_is_found(module, line, contract, tmp_path):
    shutil.copytree(ROOT / "feedback_lib", tmp_path / "feedback_lib", ignore=shutil.ignore_patterns("data", "*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "feedback_lib" / f"{module}.py").open("a") as file:
        file.write(f"\n{line}\n")
    linted = lint(tmp_path)
    assert linted.returncode == 1
    assert f"{contract} BROKEN" in linted.stdout
