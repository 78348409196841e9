"""What is in the repository, and what must never be."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tracked():
    """The files of the repository as they stand; without git, every file outside what tools made."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts():
    """Tracked files with their text; fonts, pictures and weights are left out."""
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT), content.decode("utf-8")


# written apart, so that this file does not hold what it forbids
HOSTS = [r"py" + r"pi\.org", r"python" + r"hosted\.org", r"registry\.npm" + r"js", r"deb\." + r"debian\.org"]


def test_no_file_names_a_package_host():
    found = [f"{path}: {hit}" for path, text in texts() for host in HOSTS for hit in re.findall(host, text)]
    assert found == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on():
    places = [str(p) for p in (ROOT, ROOT.parent / "shared", Path.home() / ".pyenv") if len(p.parts) > 2]
    assert [f"{path}: {place}" for path, text in texts() for place in places if place in text] == []


def test_notebooks_are_committed_without_outputs_and_counts():
    for path in (p for p in tracked() if p.suffix == ".ipynb"):
        for number, cell in enumerate(json.loads(path.read_text())["cells"], 1):
            assert not cell.get("outputs"), f"{path.name}: cell {number} has outputs; run nbstripout"
            assert cell.get("execution_count") is None, f"{path.name}: cell {number} has a number; run nbstripout"


def test_every_file_passes_the_check_for_whitespace_ends_and_size():
    ran = subprocess.run(
        [sys.executable, ROOT / ".ci/check_files.py", *tracked()], capture_output=True, text=True, cwd=ROOT
    )
    assert ran.stdout.replace(str(ROOT) + "/", "") == ""
    assert ran.returncode == 0


def test_the_file_check_finds_what_it_is_for(tmp_path):
    names = {
        "big.json": b"x" * 500_001 + b"\n",
        "end.py": b"x",
        "space.py": b"x \n",
        "dos.md": b"x\r\n",
        "ok.py": b"x\n",
    }
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    ran = subprocess.run(
        [sys.executable, ROOT / ".ci/check_files.py", *names], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 1
    assert sorted(line.partition(":")[0] for line in ran.stdout.splitlines()) == sorted(set(names) - {"ok.py"})


def test_the_licence_is_apache_and_the_package_says_so():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/seeds.md", "docs/glossary.md", "docs/sinks.md"]
)
def test_links_between_our_pages_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_every_promise_in_the_seeds_page_names_a_function_and_a_test_that_exist():
    rows = [line.split("|") for line in (ROOT / "docs/seeds.md").read_text().splitlines() if line.startswith("| ")]
    promises = [[cell.strip() for cell in row[1:-1]] for row in rows if row[1].strip() != "promise"]
    assert len(promises) > 20
    for _promise, functions, tests in promises:
        for reference in re.findall(r"`([\w/.]+\.py)(?:::(\w+))?`", functions + tests):
            path, name = reference
            source = ROOT / path
            assert source.exists(), f"docs/seeds.md names {path}"
            assert not name or re.search(rf"(?:def|class) {name}\b", source.read_text()), (
                f"docs/seeds.md: {path}::{name}"
            )


def test_every_decision_says_what_was_asked_tried_and_chosen():
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert len(pages) >= 4
    assert [p.name[:4] for p in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        for part in ("## Question", "## Tried", "## Choice", "## Look again when"):
            assert part in text, f"{page.name} lacks {part}"
