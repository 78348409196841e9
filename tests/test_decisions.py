"""The file of decisions about topics: readable, checked, and people's part of it never rewritten."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
import yaml

from feedback_lib import decisions, records
from feedback_lib.analysis.registry import Decision, Proposal
from feedback_lib.errors import ConfigError

DAY = dt.date(2026, 11, 20)
UID = "75597bc791a79707a71e49369ba1fbf6"
DIGITS = "12345678901234567890123456789012"


def table(*names: str, **more) -> pl.DataFrame:
    rows = [
        dict.fromkeys(records.schema("topics"))
        | {"topic_id": i, "name": name, "pinned": False, "words": ("login", "password"), "examples": (UID,), "size": i}
        | {"dissenting": (), "parents": (), "centroid": (1.0, 0.0), "born_on": DAY}
        | more
        for i, name in enumerate(names, start=1)
    ]
    return records.frame("topics", rows)


FOUR = table("login", "print", "calendar", "slow")
MERGE = Proposal(kind="merge", topics=(2,), into=1, evidence=40, reason="30 of 31 texts together: yes, really")
SPLIT = Proposal(kind="split", topics=(3,), parts=((UID, DIGITS), (DIGITS,)), evidence=12, reason="apart")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "topics" / "weekly.yaml"
    decisions.save(path, FOUR, [MERGE, SPLIT])
    return path


def written(path, entries: str) -> None:
    head, rest = path.read_text().split(decisions.MARK)
    path.write_text(head + entries + decisions.MARK + rest)


def test_a_file_that_is_not_there_is_empty(tmp_path):
    assert decisions.load(tmp_path / "none.yaml").decisions == ()


def test_what_was_written_is_read_again(path):
    read = decisions.load(path)
    assert read.proposals[1] == MERGE
    assert read.proposals[2].parts == tuple(tuple(text[:12] for text in part) for part in SPLIT.parts)
    assert [t["name"] for t in read.topics] == ["login", "print", "calendar", "slow"]
    assert read.next_id == 5


def test_a_run_leaves_peoples_part_byte_for_byte(path):
    mine = "  # why?  because\n  - rename:   2\n    to: 'Druck – größer'\r\n    by: ana # she asked\n\n"
    written(path, mine)
    before = path.read_bytes().split(decisions.MARK.encode())[0]
    decisions.save(path, table("a", "b", "c", "d"), [])
    decisions.save(path, FOUR, [SPLIT])
    assert path.read_bytes().split(decisions.MARK.encode())[0] == before


def test_the_same_registry_is_the_same_file(path):
    before = path.read_bytes()
    decisions.save(path, FOUR.reverse(), [MERGE, SPLIT])
    assert path.read_bytes() == before


def test_a_proposal_keeps_its_number_while_it_is_open(path):
    other = Proposal(kind="retire", topics=(4,), evidence=9, reason="nobody")
    assert list(decisions.save(path, FOUR, [other, SPLIT]).proposals) == [2, 3]


def test_every_kind_of_decision_is_read(path):
    written(
        path,
        f"""\
- rename: 1
  to: Log in
  by: ana
  on: 2026-11-20
- merge: [2, 3]
  into: 4
- split: 1
  into: {{5: [{UID[:8]}], 6: ["{DIGITS[:8]}"]}}
- move: [{DIGITS[:12]}, 75597bc7]
  to: none
- move: 75597bc7
  to: 5
- pin: 1
- unpin: [1, 4]
- forbid: 2
- apart: [1, 4]
- retire: 3
- keep: merge
  topics: [1, 4]
  evidence: 40
""",
    )
    read = decisions.load(path).decisions
    assert [d.kind for d in read][:4] == ["rename", "merge", "split", "move"]
    assert (read[0].name, read[0].by, read[0].on) == ("Log in", "ana", DAY)
    assert read[2].parts == ((5, ("75597bc7",)), (6, ("12345678",)))
    assert read[3].texts == ("123456789012", "75597bc7")
    assert (read[3].into, read[4].into) == (None, 5)
    assert read[-1].proposal == "merge"
    assert decisions.load(path).next_id == 7


def test_decisions_survive_being_written_and_being_recorded(path):
    made = [
        Decision(kind="rename", topics=(1,), name="no: yes # [1]", by="ana", on=DAY, reason="'quoted' \"twice\""),
        Decision(kind="merge", topics=(2,), into=1),
        Decision(kind="split", topics=(3,), parts=((5, (DIGITS[:8], UID[:8])),)),
        Decision(kind="move", texts=(DIGITS[:8],), into=None),
        Decision(kind="keep", proposal="merge", topics=(1, 2), evidence=7),
        Decision(kind="pin", topics=(1, 4)),
    ]
    decisions.add(decisions.load(path), made)
    assert decisions.load(path).decisions == tuple(made)
    assert decisions.from_json(decisions.to_json(made)) == tuple(made)


def test_accepting_moves_a_proposal_up_and_gives_its_parts_new_ids(path):
    read = decisions.load(path)
    after = decisions.add(read, decisions.accepted(read, [1, 2], by="ana", on=DAY), without=[1, 2])
    assert after.proposals == {}
    assert [d.kind for d in after.decisions] == ["merge", "split"]
    assert [part for part, _ in after.decisions[1].parts] == [5, 6]
    assert after.next_id == 7


def test_an_accepted_split_takes_ids_that_nothing_written_by_hand_took(path):
    written(path, f"- split: 1\n  into: {{5: [{UID}]}}\n")
    read = decisions.load(path)
    after = decisions.add(read, decisions.accepted(read, [2], by=None, on=DAY), without=[2])
    assert [part for part, _ in after.decisions[1].parts] == [6, 7]


def test_rejecting_remembers_the_evidence(path):
    read = decisions.load(path)
    after = decisions.add(read, decisions.rejected(read, [1], by="ana", on=DAY, reason="two teams"), without=[1])
    assert (after.decisions[0].topics, after.decisions[0].evidence) == ((1, 2), 40)
    assert list(after.proposals) == [2]


def test_a_proposal_moved_up_by_hand_is_a_decision(path):
    entries = yaml.safe_load(path.read_text())["proposals"]
    written(path, yaml.safe_dump(entries, sort_keys=False))
    assert [d.kind for d in decisions.load(path).decisions] == ["merge", "split"]


def test_decisions_written_in_brackets_are_added_to(path):
    path.write_text(path.read_text().replace("decisions:\n", "decisions: []\n", 1))
    after = decisions.add(decisions.load(path), [Decision(kind="pin", topics=(1,))])
    assert after.decisions[0].topics == (1,)


def test_entries_set_in_are_added_to_set_in(path):
    written(path, "    - pin: 1\n")
    assert len(decisions.add(decisions.load(path), [Decision(kind="pin", topics=(2,))]).decisions) == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("- renam: 1\n", "did you mean 'rename'?"),
        ("- rename: 9\n  to: x\n", "there is no topic 9; there are 1 to 4"),
        ("- rename: 1\n", "rename needs a line 'to:'"),
        ("- pin: one\n", "the number of a topic"),
        ("- pin: 1\n  forbid: 2\n", "both pin and forbid"),
        ("- pin: 1\n  becuse: x\n", "pin has no key 'becuse'"),
        ("- pin: 1\n  on: soon\n", "on is a day"),
        ("- move: [zz]\n  to: 1\n", "expected a uid"),
        ("- merge: 1\n  into: 1\n", "merged into itself"),
        ("- split: 1\n  into: 2\n", "write the parts as"),
        ("- split: 1\n  into: {2: [75597bc7]}\n", "topic 2 is there already; take 5 or higher"),
        ("- keep: rename\n  topics: [1]\n", "keep names the kind of a proposal"),
        ("- 17\n", "decisions are a list"),
        ("- pin: 1: 2\n", "not valid YAML"),
    ],
)
def test_a_mistake_names_file_line_and_what_to_do(path, entry, said):
    line = len(path.read_text().split(decisions.MARK)[0].splitlines()) + 1
    written(path, entry)
    with pytest.raises(ConfigError) as problem:
        decisions.load(path)
    assert said in str(problem.value)
    assert str(path) in str(problem.value)
    assert any(f"line {n}" in str(problem.value) for n in (line, line + 1, line + 2))


def test_merges_that_go_in_a_circle_are_refused(path):
    written(path, "- merge: 1\n  into: 2\n- merge: 2\n  into: 3\n- merge: 3\n  into: 1\n")
    with pytest.raises(ConfigError, match="3 would be merged into itself"):
        decisions.load(path)


def test_two_splits_cannot_make_the_same_topic(path):
    written(path, f"- split: 1\n  into: {{5: [{UID}]}}\n- split: 2\n  into: {{5: [{UID}]}}\n")
    with pytest.raises(ConfigError, match="makes a topic 5, too"):
        decisions.load(path)


def test_a_decision_that_cannot_be_followed_is_not_written(path):
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="no topic 17"):
        decisions.add(decisions.load(path), [Decision(kind="pin", topics=(17,))])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["weekly.yaml"]


def test_topics_without_a_store_are_known_by_their_examples(path):
    known = decisions.known(decisions.load(path))
    assert known["topic_id"].to_list() == [1, 2, 3, 4]
    assert known["examples"].to_list()[0] == [UID]
    assert known.schema == pl.Schema(records.schema("topics"))


def test_a_topic_is_a_few_short_lines(path):
    text = path.read_text().split("topics:\n")[-1]
    assert text.split("- id: 2\n")[1].split("- id")[0] == (
        f"  name: print\n  words: login, password\n  size: 2\n  born: 2026-11-20\n  examples: [{UID}]\n"
    )
