"""The locks, the conda environment, the Makefile and the CI script agree with each other."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("runtime", "dev", "uv")
DESIGN_CARD = ("jupyterlab", "papermill", "polars", "altair", "bertopic", "voila", "nbmake", "pytest")


def lock(name):
    """Every entry of a lock as (requirement, its hashes)."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.findall(r"^(\S[^\\\n]*?) ?\\?\n((?:[ \t].*\n)*)", text, flags=re.MULTILINE)
    return [(Requirement(entry), re.findall(r"--hash=sha256:([0-9a-f]{64})", hashes)) for entry, hashes in found]


def pinned(name):
    """Versions by package and marker."""
    return {(canonicalize_name(r.name), str(r.marker or "")): str(r.specifier) for r, _ in lock(name)}


def here(name):
    """Versions of the packages that a lock installs on this machine."""
    return {
        canonicalize_name(r.name): str(r.specifier).removeprefix("==")
        for r, _ in lock(name)
        if r.marker is None or r.marker.evaluate()
    }


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_of_a_lock_has_one_version_and_hashes_and_no_address(name):
    entries = lock(name)
    assert entries
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert requirement.url is None
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, flags=re.MULTILINE), "options name an index or a folder"


def test_the_test_lock_contains_the_runtime_lock():
    assert pinned("runtime").items() <= pinned("dev").items()


def test_the_locks_satisfy_what_the_project_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, wanted in (
        ("runtime", project["dependencies"]),
        ("dev", project["dependencies"] + project["optional-dependencies"]["dev"]),
    ):
        held = here(name)
        for requirement in map(Requirement, wanted):
            assert held[canonicalize_name(requirement.name)] in requirement.specifier, f"run make lock: {requirement}"


def test_what_is_installed_is_what_the_test_lock_says():
    installed = {canonicalize_name(d.name): d.version for d in importlib.metadata.distributions()}
    held = here("dev")
    assert {name: installed.get(name) for name in held} == held


@pytest.mark.parametrize("heavy", ["torch", "sentence-transformers", "numba", "llvmlite", "umap-learn", "hdbscan"])
def test_no_lock_brings(heavy):
    assert heavy not in {canonicalize_name(r.name) for name in LOCKS for r, _ in lock(name)}


def test_the_conda_environment_names_every_package_of_the_design_card_with_the_version_of_the_lock():
    held = here("dev")
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    named = {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, (x for x in lines if x[0] != "-"))}
    assert set(named) >= set(DESIGN_CARD)
    assert named == {name: f"=={held[name]}" for name in named}


def test_the_conda_environment_installs_the_lock_and_the_package():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    assert any(str(entry).startswith("python=3.11") for entry in environment["dependencies"])
    assert "pip" in environment["dependencies"]
    assert environment["dependencies"][-1]["pip"][-2:] == ["-r requirements/conda.txt", "-e ."]


def test_the_lock_for_conda_is_the_test_lock_without_hashes():
    assert pinned("conda") == pinned("dev")
    assert not any(hashes for _, hashes in lock("conda"))


def load(path):
    """The names a script of ours defines."""
    names = {"__name__": "script", "__file__": str(path)}
    sys.path.insert(0, str(path.parent))
    try:
        exec(compile(path.read_text(), path, "exec"), names)
    finally:
        sys.path.remove(str(path.parent))
    return names


def test_what_the_user_told_pip_reaches_uv_and_what_they_told_uv_wins(tmp_path, monkeypatch):
    run_uv = load(ROOT / "requirements" / "run_uv.py")
    said = [
        "global.index-url='https://one.example/simple'",
        ":env:.index-url='https://two.example/simple'",
        "global.extra-index-url='https://three.example/simple\\nhttps://four.example/simple'",
        "install.find-links='/wheels /more'",
        "freeze.index-url='https://no.example'",
        "global.progress-bar='off'",
    ]
    assert run_uv["from_pip"](said) == {
        "UV_DEFAULT_INDEX": "https://two.example/simple",
        "UV_INDEX": "https://three.example/simple https://four.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert run_uv["from_pip"]([]) == {}
    own = {"XDG_CONFIG_HOME": str(tmp_path), "UV_DEFAULT_INDEX": "https://mine.example", "PATH": os.environ["PATH"]}
    assert run_uv["environment"](own)["UV_DEFAULT_INDEX"] == "https://mine.example"
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").touch()
    assert run_uv["environment"](own) == own


def test_what_the_overrides_switch_off_leaves_the_lock():
    tools = load(ROOT / "requirements" / "lock.py")
    text = (
        "one==1.0 \\\n    --hash=sha256:aa\n"
        "torch==2.0 ; python_full_version < '3.12' and sys_platform == 'never' \\\n    --hash=sha256:bb\n"
        "two==2.0 ; os_name == 'nt' \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
    )
    kept = tools["without_never"](text)
    assert kept == text.replace(tools["entries"](text)[1], "")
    assert tools["without_hashes"](kept) == "one==1.0\ntwo==2.0 ; os_name == 'nt'\n"


def test_markers_of_the_locks_can_be_evaluated():
    markers = {str(r.marker) for name in LOCKS for r, _ in lock(name) if r.marker}
    assert all(Marker(text).evaluate() in (True, False) for text in markers)


def make(*arguments, **variables):
    """What make would do."""
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_lists_every_target_with_a_line():
    shown = make()
    listed = dict(re.findall(r"^  make (\w+) +(\S.*)$", shown, flags=re.MULTILINE))
    everyday = {"help", "weekly", "test", "lab", "dashboards", "docs", "lint"}
    assert set(listed) == everyday | {"bench", "peer", "lock", "clean"}
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_the_ci_script_runs_the_tests_as_a_person_does_and_does_not_skip_the_browser():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert "export CI=true" in script
    assert script.rstrip().endswith("exec make test")
    for name in ("run", "clean_check"):
        assert os.access(ROOT / ".ci" / name, os.X_OK)
        subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)


@pytest.mark.slow
@pytest.mark.thorough  # test_pipeline.py runs the report with all that is installed
def test_the_runtime_lock_and_the_built_package_are_enough_for_the_weekly_report(tmp_path, cache):
    if not (ROOT / ".venv" / ".uv").exists():
        pytest.skip("needs the .venv that make builds")
    ran = subprocess.run([ROOT / ".ci" / "clean_check", tmp_path / "clean"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Usage: feedback" in ran.stdout
    reports = list((tmp_path / "clean" / "reports" / "weekly").glob("[0-9]*/signal_report.html"))
    assert len(reports) == 1
    site = next((tmp_path / "clean" / "venv" / "lib").glob("python3*/site-packages"))
    assert (site / "feedback_lib" / "cli.py").exists()
    assert not (site / "pytest").exists()
