import datetime as dt
import json
import os
import re
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import mistune
import pytest

from feedback_lib.analysis import patterns
from feedback_lib.analysis.patterns import Pattern
from feedback_lib.errors import ConfigError
from feedback_lib.workflows import roadmap

DAY = dt.date(2026, 1, 20)
REAL = (
    Path(os.environ.get("FEEDBACK_REFERENCE_DATA", Path(__file__).parents[2] / "../shared/reference")) / "orchestrator"
)


def pattern(key="smoke_test", kind="skip", **given):
    said = {"warns": True, "title": f"Frequently skipped: {key}", "count": 8, "of": 10, "workflows": ("wf_1", "wf_2")}
    return Pattern(kind=kind, key=key, **(said | given))


def drafted(folder, *patterns, of=10, window="last 7 days"):
    return roadmap.drafts(patterns or [pattern()], folder, day=DAY, of=of, window=window)


def written(folder, content):
    path = folder / "ROADMAP.md"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_an_item_has_the_form_of_the_roadmap(tmp_path):
    facts = {"share": 0.8, "low": 0.49, "high": 0.943, "level": 0.95, "threshold": 0.8, "examples": ["no UI"]}
    made = drafted(tmp_path, pattern(advice="Make it optional", facts=facts, workflows=tuple("abcdefgh"))).items[0]
    assert made.markdown == (
        "#### WF-001: Frequently skipped: smoke_test\n"
        "**Status:** Planned\n"
        "**Complexity:** To be estimated\n"
        "**Priority:** HIGH (80% of 10 workflows)\n"
        "**Source:** Workflow feedback (2026-01-20, last 7 days): 8 of 10 workflows\n"
        "<!-- workflow-feedback: skip smoke_test -->\n"
        "\n"
        "**Problem:**\n"
        "8 of 10 workflows (80%) skipped this item: there it checked nothing and cost a decision.\n"
        "\n"
        "**Evidence:**\n"
        "- Workflows: `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`\n"
        "- Counted: 8 of 10 workflows (95% interval 49 to 94%); often: from 80% on\n"
        "- Such as: no UI\n"
        "\n"
        "**Tasks:**\n"
        "- [ ] Read the reasons given when it was skipped (notebook workflow_review)\n"
        "- [ ] Make it optional\n"
        "- [ ] Look again with `feedback review` after ten more workflows\n"
        "\n"
        "---\n"
    )


def test_only_what_warns_is_proposed_and_each_pattern_once(tmp_path):
    fine = pattern("fine", "reviews", warns=False)
    made = drafted(tmp_path, fine, pattern(), pattern(), pattern(kind="error"))
    assert [(i.id, i.kind) for i in made.items] == [("WF-001", "skip"), ("WF-002", "error")]
    assert drafted(tmp_path, fine).diff == ""
    assert roadmap.add(drafted(tmp_path, fine)) == tmp_path / "ROADMAP.md"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "of", "priority"),
    [(8, 10, "HIGH (80%"), (7999, 10000, "MEDIUM (79.99%"), (5, 10, "MEDIUM (50%"), (4, 10, "LOW (40%")],
)
def test_priority_follows_the_share_exactly(tmp_path, count, of, priority):
    ids = tuple(f"wf_{n}" for n in range(count))
    said = drafted(tmp_path, pattern(count=count, of=of, workflows=ids), of=of).items[0].markdown
    assert f"**Priority:** {priority} of {of} workflows)" in said


def test_priority_is_of_all_workflows_not_of_the_few_that_tell(tmp_path):
    few = pattern(kind="challenge", count=3, of=3, workflows=("a", "b", "c"))
    said = drafted(tmp_path, few).items[0].markdown
    assert "**Priority:** LOW (30% of 10 workflows)" in said
    assert "- Counted: 3 of 3 workflows\n" in said


class TestFound:
    """Items of the patterns that reviews find."""

    @pytest.fixture
    def items(self, tmp_path):
        def at(n):
            return {"timestamp": f"2026-01-{n + 1:02d}T00:00:00Z", "workflow": f"wf_{n}"}

        tool = [
            at(n)
            | {"items_skipped": ["smoke_test"], "reviews_worked": None, "phases": {"PLAN": 100 if n < 5 else 300 + n}}
            for n in range(10)
        ]
        process = [
            at(n)
            | {"parallel_agents_used": n == 0, "challenges": "Mock setup tricky" if n < 3 else ""}
            | {"project_errors": [f"KeyError: 'x' in /a/{n}/b.py"] if n < 2 else []}
            for n in range(10)
        ]
        return {i.kind: i.markdown for i in drafted(tmp_path, *patterns.find(tool, process)).items}

    def test_every_kind_that_warns_has_an_item(self, items):
        assert set(items) == {"error", "skip", "reviews", "parallel", "phase", "challenge"}

    def test_rare_parallel_work_names_the_workflows_that_did_without(self, items):
        assert "**Priority:** HIGH (90% of 10 workflows)" in items["parallel"]
        assert "): 9 of 10 workflows\n" in items["parallel"]
        assert "- Workflows: `wf_1`, `wf_2`" in items["parallel"]
        assert "- Used in: 1 of 10 workflows, 10% (95% interval 2 to 40%); rare: under 30%\n" in items["parallel"]

    def test_a_phase_tells_both_medians_and_the_interval(self, items):
        assert "**Priority:** HIGH (at least 3.05 times as long as before)" in items["phase"]
        assert "- Before: median 2min of 5 workflows\n- Since: median 5min of 5 workflows\n" in items["phase"]
        assert re.search(r"- Ratio of durations: 3\.07 \(95% interval 3\.05 to 3\.09\)", items["phase"])

    def test_an_error_has_its_words_and_its_advice_without_quotes(self, items):
        assert "- Such as: KeyError: 'x' in /a/1/b.py\n" in items["error"]
        assert re.search(r"\*\*Tasks:\*\*\n- \[ \] Find the cause of: KeyError", items["error"])

    def test_the_problem_says_how_many_have_it_and_from_when_on_it_is_one(self, items):
        assert "\nThe same error came back in 2 of 10 workflows (20%).\n" in items["error"]
        assert "; a pattern from 2 workflows on\n- Error of the project\n" in items["error"]
        assert "\n10 of 10 workflows (100%) had no review that worked.\n" in items["reviews"]
        assert "; missing: from 50% on\n" in items["reviews"]
        assert "\n9 of 10 workflows (90%) did one piece of work after the other.\n" in items["parallel"]
        assert not [m for m in items.values() if "Threshold" in m or "{" in m or "Few" in m]

    def test_a_long_error_is_cut_at_a_word_in_its_title_and_shows_no_mask(self, tmp_path):
        said = (
            "npm error enoent Could not read package.json: no such file or directory, open '/home/ann/it/package.json'"
        )
        rows = [{"workflow": f"w{n}", "project_errors": [f"Error: {said}"]} for n in range(3)]
        (item,) = drafted(tmp_path, *patterns.find([], rows)).items
        assert item.title == 'Common error: "Error: npm error enoent Could not read package.json: no such file or…"'
        assert len(item.title) <= 90
        assert "\\[path" not in item.markdown
        assert "open '…/it/package.json'" in item.markdown
        (short,) = drafted(tmp_path, pattern(kind="error", title="Common error: \"no '/home/ann/it'\"")).items
        assert short.title == "Common error: \"no '…/it'\""

    def test_examples_that_look_the_same_are_shown_once(self, tmp_path):
        texts = [f"Traceback (most recent call last):\n  line {n}\nKeyError: 'x'" for n in range(3)] + ["OSError: y"]
        said = drafted(tmp_path, pattern(kind="error", facts={"examples": texts})).items[0].markdown
        assert said.count("- Such as: ") == 2
        assert "- Such as: KeyError: 'x'\n- Such as: OSError: y\n" in said

    def test_a_challenge_is_quoted_with_who_said_it(self, items):
        assert "- `wf_0`: Mock setup tricky\n- `wf_1`: Mock setup tricky\n" in items["challenge"]

    def test_reviews_tell_how_many_worked(self, items):
        assert "- Worked 0, failed 0, missing 10\n" in items["reviews"]


def test_a_thousand_workflows_are_not_all_named(tmp_path):
    said = drafted(tmp_path, pattern(workflows=tuple(f"wf_{n:03d}" for n in range(1000)), of=0)).items[0].markdown
    assert "`wf_011`, and 988 more\n" in said


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("#### WF-034: Title", "WF-035"),
            ("WF-034-P3b is part of it", "WF-035"),
            ("see (WF-041), and wf-042.", "WF-043"),
            ("| WF-7 |", "WF-008"),
            ("```\nWF-050\n```", "WF-051"),
            ("WF-999", "WF-1000"),
            ("WF-1000", "WF-1001"),
            ("WF-XXX, wf_12345678, WF-3c236a6b, PWF-900, WF-", "WF-001"),
            ("feature/wf-060-smoke", "WF-061"),
        ],
    )
    def test_the_next_number_is_one_that_stands_nowhere(self, tmp_path, text, expected):
        written(tmp_path, f"# Roadmap\n\n{text}\n")
        assert drafted(tmp_path).items[0].id == expected

    def test_finished_items_keep_their_number_in_changelog_docs_and_names_of_files(self, tmp_path):
        written(tmp_path, "#### WF-003: Title\n")
        (tmp_path / "CHANGELOG.md").write_text("- WF-010: shipped\n", "utf-8")
        assert drafted(tmp_path).items[0].id == "WF-011"
        (tmp_path / "docs/archive").mkdir(parents=True)
        (tmp_path / "docs/archive/plan.md").write_bytes(b"\xff for WF-020 \n")
        assert drafted(tmp_path).items[0].id == "WF-021"
        (tmp_path / "docs/archive/2026-01-11_wf-030-check.md").write_text("", "utf-8")
        assert drafted(tmp_path).items[0].id == "WF-031"

    def test_what_was_added_and_deleted_keeps_its_number(self, tmp_path):
        roadmap.add(drafted(tmp_path))
        (tmp_path / "ROADMAP.md").unlink()
        assert drafted(tmp_path, pattern("other")).items[0].id == "WF-002"


class TestNeverTwice:
    def test_an_item_in_the_roadmap_is_told_with_its_number(self, tmp_path):
        roadmap.add(drafted(tmp_path))
        again = drafted(tmp_path, pattern(title="Skipped by everyone"), pattern("new"))
        assert [(k.id, k.key, k.where) for k in again.known] == [("WF-001", "smoke_test", "ROADMAP.md")]
        assert [i.id for i in again.items] == ["WF-002"]
        assert again.text().startswith("already WF-001: Skipped by everyone (ROADMAP.md)\n--- a/ROADMAP.md\n")

    def test_a_renamed_and_renumbered_item_is_known(self, tmp_path):
        path = roadmap.add(drafted(tmp_path))
        path.write_text(path.read_text("utf-8").replace("WF-001: Frequently", "WF-077: Less often"), "utf-8")
        assert [k.id for k in drafted(tmp_path).known] == ["WF-077"]

    def test_an_item_that_was_finished_and_deleted_is_known(self, tmp_path):
        path = roadmap.add(drafted(tmp_path))
        path.write_text("# Roadmap\n", "utf-8")
        again = drafted(tmp_path)
        assert [(k.id, k.where) for k in again.known] == [("WF-001", ".workflow_suggestions.jsonl")]
        assert (again.items, again.diff) == ((), "")

    def test_an_item_moved_to_the_changelog_is_known_without_the_record(self, tmp_path):
        path = roadmap.add(drafted(tmp_path))
        path.rename(tmp_path / "CHANGELOG.md")
        (tmp_path / ".workflow_suggestions.jsonl").unlink()
        assert [(k.id, k.where) for k in drafted(tmp_path).known] == [("WF-001", "CHANGELOG.md")]

    def test_a_copy_without_the_record_writes_it_again(self, tmp_path):
        roadmap.add(drafted(tmp_path))
        (tmp_path / ".workflow_suggestions.jsonl").unlink()
        path = roadmap.add(drafted(tmp_path, pattern(), pattern("new")))
        path.unlink()
        assert [k.id for k in drafted(tmp_path, pattern(), pattern("new")).known] == ["WF-001", "WF-002"]

    def test_the_same_proposal_is_added_once(self, tmp_path):
        made = drafted(tmp_path)
        roadmap.add(made)
        with pytest.raises(ConfigError, match="changed since it was read"):
            roadmap.add(made)
        (tmp_path / "ROADMAP.md").unlink()  # as it was when it was drafted
        with pytest.raises(ConfigError, match="has 1 of the items by now"):
            roadmap.add(made)
        assert not (tmp_path / "ROADMAP.md").exists()

    def test_of_many_who_add_at_once_one_does(self, tmp_path):
        made = drafted(tmp_path)
        told = []

        def one():
            try:
                told.append(roadmap.add(made))
            except ConfigError:
                told.append(None)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(bool, told)) == [False] * 7 + [True]
        assert (tmp_path / "ROADMAP.md").read_text("utf-8").count("#### WF-") == 1

    def test_lines_of_the_record_that_are_broken_are_told_and_the_others_count(self, tmp_path):
        roadmap.add(drafted(tmp_path))
        record = tmp_path / ".workflow_suggestions.jsonl"
        record.write_bytes(b'\xff\n[]\n{"id": "WF-009"}\n' + record.read_bytes() + b'{"id": "WF-0')
        (tmp_path / "ROADMAP.md").unlink()
        made = drafted(tmp_path, pattern(), pattern("new"))
        assert [r.where for r in made.rejected] == [f"{record.name}:{n}" for n in (1, 2, 3, 5)]
        assert [k.id for k in made.known] == ["WF-001"]
        roadmap.add(made)
        assert json.loads(record.read_bytes().split(b"\n")[-2])["id"] == "WF-002"  # not glued to the half line


class TestFile:
    """Only lines are added; whatever the file is made of stays."""

    CASES = (
        None,
        b"",
        b"\n",
        b"# Roadmap\n",
        b"# Roadmap",
        b"# Roadmap\r\n\r\ntext\r\n",
        b"# Roadmap\r\ntext",
        b"\xef\xbb\xbf# Roadmap\n",
        "# Roadmap\n\nThüringen 🐝\n".encode(),
        b"# R\n\n### From workflow feedback\n\n#### WF-002: Old\n\n---\n\n## Later\n\nLast",
        b"# R\n\n### From workflow feedback\n## Later\n",
        b"# R\n\n### From workflow feedback",
        b"# R\r\n\r\n### From workflow feedback\r\n\r\nold\r\n\r\n\r\n",
        b"# R\n```\nnever closed\n",
    )

    @pytest.mark.parametrize("content", CASES)
    @pytest.mark.parametrize("tool", [["git", "apply"], ["patch", "-p1", "--binary", "-s", "-i"]])
    def test_the_diff_says_what_is_written(self, tmp_path, content, tool):
        if not shutil.which(tool[0]):
            pytest.skip(f"needs {tool[0]}")
        if content is not None:
            written(tmp_path, content)
        made = drafted(tmp_path, pattern(), pattern("other"))
        mark = "\ufeff" if content and content.startswith(b"\xef") else ""
        (tmp_path / "x.diff").write_bytes(made.diff.replace(" # R", f" {mark}# R").encode())
        subprocess.run([*tool, "x.diff"], cwd=tmp_path, check=True, timeout=60)
        applied = (tmp_path / "ROADMAP.md").read_bytes()
        (tmp_path / "ROADMAP.md").unlink()
        if content is not None:
            written(tmp_path, content)
        assert roadmap.add(made).read_bytes() == applied

    @pytest.mark.parametrize("content", [c for c in CASES if c])
    def test_what_was_there_stays_byte_for_byte(self, tmp_path, content):
        path = written(tmp_path, content)
        roadmap.add(drafted(tmp_path))
        after = path.read_bytes()
        same = next((n for n, (a, b) in enumerate(zip(content, after, strict=False)) if a != b), len(content))
        assert after.endswith(content[same:])
        assert after.endswith(b"\n") == content.endswith(b"\n")
        if b"\r\n" in content:
            assert after.count(b"\n") == after.count(b"\r\n")

    @pytest.mark.parametrize("content", [b"Th\xfcringen\n", "# Gr\xf6\xdfe\n".encode("utf-16")])
    def test_a_roadmap_that_is_not_utf_8_is_told(self, tmp_path, content):
        written(tmp_path, content)
        with pytest.raises(ConfigError, match=r"ROADMAP\.md: is not UTF-8"):
            drafted(tmp_path)

    def test_the_mode_and_a_link_stay(self, tmp_path):
        (tmp_path / "real").mkdir()
        target = written(tmp_path / "real", "# Roadmap\n")
        target.chmod(0o640)
        (tmp_path / "ROADMAP.md").symlink_to("real/ROADMAP.md")
        roadmap.add(drafted(tmp_path))
        assert (tmp_path / "ROADMAP.md").is_symlink()
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        assert "WF-001" in target.read_text("utf-8")
        assert sorted(p.name for p in tmp_path.iterdir()) == [".workflow_suggestions.jsonl", "ROADMAP.md", "real"]

    @pytest.mark.parametrize("name", ["ROADMAP.md", ".workflow_suggestions.jsonl"])
    @pytest.mark.parametrize("there", [True, False])
    def test_a_link_out_of_the_folder_is_not_written_to(self, tmp_path, name, there):
        """Of a repository that somebody else made: it may point at any file of whoever works in it."""
        project, profile = tmp_path / "project", tmp_path / "profile"
        project.mkdir()
        if there:
            profile.write_text("mine\n")
        (project / name).symlink_to(profile)
        with pytest.raises(ConfigError, match="a link out of its folder"):
            roadmap.add(drafted(project))
        assert profile.exists() == there
        assert not there or profile.read_text() == "mine\n"
        assert sorted(p.name for p in project.iterdir()) == [name]

    def test_a_roadmap_in_small_letters_is_the_roadmap(self, tmp_path):
        (tmp_path / "roadmap.md").write_text("#### WF-004: Old\n", "utf-8")
        made = drafted(tmp_path)
        assert (made.path.name, made.items[0].id) == ("roadmap.md", "WF-005")
        assert made.diff.startswith("--- a/roadmap.md\n+++ b/roadmap.md\n")

    def test_a_roadmap_that_changed_is_not_written(self, tmp_path):
        path = written(tmp_path, "# Roadmap\n")
        made = drafted(tmp_path)
        path.write_text("# Roadmap\n\n#### WF-001: Mine\n", "utf-8")
        with pytest.raises(ConfigError, match=r"ROADMAP\.md: it changed"):
            roadmap.add(made)
        assert path.read_text("utf-8") == "# Roadmap\n\n#### WF-001: Mine\n"
        assert not (tmp_path / ".workflow_suggestions.jsonl").exists()

    def test_what_cannot_be_read_is_said(self, tmp_path):
        with pytest.raises(ConfigError, match="is no folder"):
            drafted(tmp_path / "none")
        (tmp_path / "ROADMAP.md").mkdir()
        with pytest.raises(ConfigError, match="is no file"):
            drafted(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_left(self, tmp_path):
        made = drafted(tmp_path)
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(ConfigError, match="othing was added"):
                roadmap.add(made)
        finally:
            tmp_path.chmod(0o700)
        assert list(tmp_path.iterdir()) == []


class TestPlace:
    def test_items_come_to_the_end_of_their_section(self, tmp_path):
        written(
            tmp_path, "# R\n\n### From workflow feedback\n\n#### WF-002: Old\n\n---\n\n### Later\n\n#### WF-001: X\n"
        )
        text = roadmap.add(drafted(tmp_path)).read_text("utf-8")
        heads = [line for line in text.split("\n") if line.startswith("#")]
        assert heads[1:] == [
            "### From workflow feedback",
            "#### WF-002: Old",
            "#### WF-003: Frequently skipped: smoke_test",
            "### Later",
            "#### WF-001: X",
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "```md\n### From workflow feedback\n```\n\n## Later\n",
            "<!--\n### From workflow feedback\n-->\n\n## Later\n",
            "~~~~\n```\n~~~\n### From workflow feedback\n~~~~\n\n## Later\n",
        ],
    )
    def test_a_heading_in_code_or_a_comment_is_none(self, tmp_path, text):
        written(tmp_path, text)
        assert (
            roadmap.add(drafted(tmp_path)).read_text("utf-8").startswith(f"{text}\n### From workflow feedback\n\n####")
        )

    def test_a_comment_in_code_does_not_end_the_section(self, tmp_path):
        """Shell comments in a block of code look like headings."""
        written(tmp_path, "### From workflow feedback\n\n```sh\n# run it\n```\n\n# Other\n")
        text = roadmap.add(drafted(tmp_path)).read_text("utf-8")
        assert text.index("# run it") < text.index("#### WF-001") < text.index("# Other")

    def test_code_that_was_never_closed_does_not_swallow_items(self, tmp_path):
        written(tmp_path, "# R\n````\nnever closed\n")
        text = roadmap.add(drafted(tmp_path)).read_text("utf-8")
        assert text.startswith("# R\n````\nnever closed\n````\n\n### From workflow feedback\n")


class TestWords:
    @pytest.mark.parametrize(
        "title",
        [
            "two\nlines\r\n#### WF-900: forged",
            "comment --> <script>alert(1)</script> <!--",
            "`` ` ``` code",
            "# * [x](http://a) | ~~y~~ $z$ &lt;",
            "\x1b[31mred\x00 \u202e\ud800 \u2028---",
            "x" * 5000,
            "",
        ],
    )
    def test_what_others_wrote_breaks_no_markdown(self, tmp_path, title):
        odd = pattern(title, "error", title=title, workflows=(title, "wf_1"), advice=title, facts={title: [title, 1]})
        path = roadmap.add(drafted(tmp_path, odd, pattern()))
        lines = path.read_text("utf-8").split("\n")
        parsed, fence = roadmap._parsed(lines)
        heads = [h for _, h in parsed if h]
        assert [level for level, _ in heads] == [1, 3, 4, 4]
        assert heads[2][1].startswith("WF-001:")
        assert fence == ""
        assert lines.count("---") == 2
        assert max(map(len, lines)) < 2000
        page = mistune.create_markdown(escape=False)("\n".join(lines))
        assert (page.count("<h"), page.count("<script"), page.count("<a ")) == (4 + 2, 0, 0)  # two lines are <hr>
        assert not {c for line in lines for c in line if c != "\n" and not c.isprintable()}
        assert [k.id for k in drafted(tmp_path, odd, pattern()).known] == ["WF-001", "WF-002"]

    def test_a_secret_in_what_was_said_does_not_reach_the_roadmap(self, tmp_path):
        token = "ghp_" + "a1B2c3D4" * 4 + "e5F6"
        said = {"said": [{"workflow": "wf_1", "text": f"push with {token}"}], "examples": [token], "other": token}
        made = drafted(tmp_path, pattern(title=f"Error {token}", advice=f"rotate {token}", facts=said))
        assert token not in made.diff
        assert made.diff.count("[") > 5

    def test_patterns_of_other_keys_have_other_marks(self, tmp_path):
        keys = ("a b", "a-b", "a--b", "a%20b", "a/b", "a-->", "", " ", "-", "ä", "x" * 101, "x" * 102)
        made = drafted(tmp_path, *(pattern(k) for k in keys))
        assert len(made.items) == len(keys)
        roadmap.add(made)
        assert len(drafted(tmp_path, *(pattern(k) for k in keys)).known) == len(keys)

    def test_a_diff_on_a_terminal_moves_no_cursor(self, tmp_path):
        written(tmp_path, "a\x1b]0;title\x07\n")
        assert "\x1b" not in drafted(tmp_path).text()

    def test_the_proposal_is_json(self, tmp_path):
        told = json.loads(json.dumps(drafted(tmp_path, pattern(title="\ud800")).to_dict()))
        assert [i["id"] for i in told["items"]] == ["WF-001"]
        assert set(told) == {"path", "items", "known", "diff", "rejected"}


@pytest.mark.skipif(not REAL.is_dir(), reason="reference data not found")
def test_a_real_roadmap_grows_by_one_small_hunk(tmp_path):
    shutil.copyfile(REAL / "roadmap/ROADMAP_archived_HEAD.md", tmp_path / "ROADMAP.md")
    shutil.copyfile(REAL / "CHANGELOG.md", tmp_path / "CHANGELOG.md")
    before = (tmp_path / "ROADMAP.md").read_bytes()
    made = drafted(tmp_path)
    assert made.items[0].id == "WF-037"
    assert made.diff.count("\n@@ ") == 1
    assert len(made.diff) < 2_000
    assert [line for line in made.diff.split("\n")[3:] if line.startswith("-")] == []
    (tmp_path / "x.diff").write_text(made.diff, "utf-8")
    subprocess.run(["git", "apply", "--check", "x.diff"], cwd=tmp_path, check=True, timeout=60)
    after = roadmap.add(made).read_bytes()
    assert after.startswith(before)
    assert [k.id for k in drafted(tmp_path).known] == ["WF-037"]


def test_a_challenge_stays_known_when_the_text_it_began_with_leaves_the_window(tmp_path):
    """The key of a pattern is that of its first text; another week begins with another one."""

    def told(*texts):
        rows = [
            {"timestamp": f"2026-01-{10 + n}T10:00:00Z", "workflow_id": f"wf_{text[0]}", "challenges": text}
            for n, text in enumerate(texts)
        ]
        found = patterns.find([], rows, similar=lambda texts: [0] * len(texts))
        return drafted(tmp_path, *found, of=2)

    roadmap.add(told("Mocks are hard", "Setting up mocks"))
    second = told("Setting up mocks", "The mock setup")
    assert (second.items, [k.id for k in second.known]) == ((), ["WF-001"])
    other = told("Builds", "CI is slow")
    assert [i.id for i in other.items] == ["WF-002"]
    roadmap.add(other)
    assert [k.id for k in told("CI is slow", "A slow CI").known] == ["WF-002"]
