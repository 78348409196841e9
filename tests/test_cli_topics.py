"""`feedback topics`: what an analyst sees, and that decisions go into the file and nowhere else."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
from click.testing import CliRunner

from feedback_lib import decisions, records
from feedback_lib.analysis.registry import Proposal
from feedback_lib.commands.topics import topics
from feedback_lib.errors import ConfigError
from feedback_lib.store import Store

AT = dt.datetime(2026, 11, 16, tzinfo=dt.UTC)
UIDS = [f"{i:x}" * 32 for i in range(1, 7)]
NAMES = ("login", "print", "calendar")


def known(names=NAMES):
    rows = [
        dict.fromkeys(records.schema("topics"))
        | {"topic_id": i, "name": name, "pinned": False, "words": (name,), "examples": (), "dissenting": ()}
        | {"parents": (), "born_on": AT.date(), "size": 2, "least": 0.3, "updated_at": AT, "run_id": "r"}
        | {"centroid": (np.array([1.0, i / 4, 0]) / np.linalg.norm([1.0, i / 4])).tolist()}
        for i, name in enumerate(names, start=1)
    ]
    return records.frame("topics", rows)


def row(table, **values):
    return dict.fromkeys(records.schema(table)) | {"run_id": "r", "month": "2026-11", "created_at": AT} | values


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "weekly.yaml"
    path.write_text(f"store: {tmp_path / 'store'}\n")
    store = Store(tmp_path / "store")
    before = store.upsert("topics", known(("log in", "print", "calendar"))).version
    after = store.upsert("topics", known().with_columns(updated_at=AT + dt.timedelta(days=1))).version
    read = [(UIDS[i], 1 + i // 2, 0.9 - i / 10) for i in range(6)]
    rows = [row("understanding", uid=u, topic_id=t, topic_score=s, inferred_at=AT) for u, t, s in read]
    store.upsert("understanding", records.frame("understanding", [r | {"text_sha256": "x"} for r in rows]))
    said = [row("signals", uid=u, kind="files", origin="support", title=f"title {u[0]}", body="") for u in UIDS]
    store.upsert("signals", records.frame("signals", [r | {"updated_at": AT, "labels": ()} for r in said]))
    inputs = json.dumps({"read": {"topics": before}, "written": {"topics": after}})
    run = dict.fromkeys(records.schema("runs")) | {"run_id": "r", "started_at": AT, "inputs": inputs, "updated_at": AT}
    store.upsert("runs", records.frame("runs", [run]))
    decisions.save(
        tmp_path / "topics" / "weekly.yaml",
        known(),
        [
            Proposal(kind="merge", topics=(2,), into=1, evidence=4, reason="together"),
            Proposal(kind="split", topics=(3,), parts=((UIDS[5],),), evidence=3, reason="apart"),
            Proposal(kind="retire", topics=(3,), evidence=9, reason="nobody"),
        ],
    )
    return path


def called(params, command, *arguments) -> str:
    done = CliRunner().invoke(topics, [command, *map(str, arguments), "--params", str(params)])
    if isinstance(done.exception, ConfigError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def decided(params):
    return decisions.load(params.parent / "topics" / "weekly.yaml").decisions


def test_the_list_shows_topics_and_open_proposals(params):
    shown = called(params, "list")
    assert "login" in shown
    assert "1. merge 2 “print” into 1 “login”: together." in shown
    assert [t["id"] for t in json.loads(called(params, "list", "--json"))["topics"]] == [1, 2, 3]


def test_a_topic_is_shown_with_every_member_its_distance_and_two_neighbours(params):
    shown = json.loads(called(params, "show", 1, "--json"))
    assert [(m["uid"], round(m["distance"], 1)) for m in shown["members"]] == [(UIDS[0], 0.1), (UIDS[1], 0.2)]
    assert [n["topic_id"] for n in shown["neighbours"]] == [2, 3]
    assert shown["neighbours"][0]["distance"] < shown["neighbours"][1]["distance"]
    text = called(params, "show", 1, "--limit", 1)
    assert "title 1" in text
    assert "and 1 more" in text


@pytest.mark.parametrize(
    ("arguments", "kind", "about"),
    [
        (("rename", 1, "Log in"), "rename", {"topics": (1,), "name": "Log in"}),
        (("merge", 2, 3, "--into", 1), "merge", {"topics": (2, 3), "into": 1}),
        (
            ("split", 1, "--part", UIDS[0][:8], "--part", f"{UIDS[1]},{UIDS[2]}"),
            "split",
            {"parts": ((4, (UIDS[0][:8],)), (5, (UIDS[1][:12], UIDS[2][:12])))},
        ),
        (("move", UIDS[0], UIDS[1][:8], "--to", 3), "move", {"texts": (UIDS[0], UIDS[1][:8]), "into": 3}),
        (("move", UIDS[0], "--to", "none"), "move", {"into": None}),
        (("pin", 1, 2), "pin", {"topics": (1, 2)}),
        (("unpin", 1), "unpin", {"topics": (1,)}),
        (("forbid", 1), "forbid", {"topics": (1,)}),
        (("apart", 1, 3), "apart", {"topics": (1, 3)}),
        (("retire", 2), "retire", {"topics": (2,)}),
    ],
)
def test_a_command_adds_one_decision_to_the_file(params, arguments, kind, about):
    said = called(params, *arguments, "--by", "ana", "--reason", "they said so")
    assert "The next run follows: feedback report weekly --params" in said
    (made,) = decided(params)
    assert (made.kind, made.by, made.reason) == (kind, "ana", "they said so")
    assert {key: getattr(made, key) for key in about} == about


def test_decisions_change_nothing_in_the_store(params):
    store = Store(params.parent / "store")
    before = store.versions()
    called(params, "merge", 2, "--into", 1)
    called(params, "accept", "all")
    assert store.versions() == before


def test_proposals_are_accepted_or_turned_down_by_number(params):
    called(params, "accept", 1)
    called(params, "reject", 2, 3)
    assert [(d.kind, d.proposal) for d in decided(params)] == [("merge", None), ("keep", "split"), ("keep", "retire")]
    with pytest.raises(ConfigError, match="no open proposal"):
        called(params, "accept", "all")


def test_the_difference_that_proposals_make_is_a_unified_diff(params):
    shown = called(params, "diff").splitlines()
    assert shown[:2] == ["--- now", "+++ with every open proposal"]
    assert "+  size: 4" in shown
    assert "+- id: 4" in shown
    assert "+  retired: by the next run" in shown


def test_what_the_last_run_changed_is_a_unified_diff(params):
    shown = called(params, "diff", "--last-run").splitlines()
    assert "-  name: log in" in shown
    assert "+  name: login" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rename", 9, "x"), "there is no topic 9"),
        (("show", 9), "there is no topic 9"),
        (("move", "nobody", "--to", 1), "is no uid"),
        (("move", UIDS[0], "--to", "one"), "the number of a topic, or none"),
        (("accept", 7), "open: 1, 2, 3"),
        (("apart", 1), "takes 2 topics"),
    ],
)
def test_a_wrong_argument_says_what_to_write(params, arguments, said):
    with pytest.raises(ConfigError, match=said):
        called(params, *arguments)
    assert decided(params) == ()


def test_without_a_run_the_command_to_make_one_is_named(tmp_path):
    path = tmp_path / "weekly.yaml"
    path.write_text("store: store\n")
    for arguments in (("list",), ("show", 1), ("pin", 1), ("diff", "--last-run")):
        with pytest.raises(ConfigError, match="feedback report weekly --params"):
            called(path, *arguments)
