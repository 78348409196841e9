from __future__ import annotations

import datetime as dt
import json

import pytest
from click.testing import CliRunner

from feedback_lib import records
from feedback_lib.commands.duplicates import duplicates
from feedback_lib.errors import ConfigError
from feedback_lib.store import Store

AT = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
SAID = [
    ("Export fails with ConnectionResetError", "The nightly export of orders stops after one minute."),
    ("Please add a dark mode", "My eyes hurt in the evening."),
    ("The export fails with ConnectionResetError", "After one minute the nightly export of orders stops."),
    ("Folder names are in English", "My computer is set to French."),
    ("Invoices arrive late", "The post takes a week."),
]


@pytest.fixture
def home(tmp_path):
    rows = []
    for i, (title, body) in enumerate(SAID):
        at = AT + dt.timedelta(days=i)
        rows.append(
            records.SignalRow(
                kind="files", origin="box", native_id=str(i), type="ticket", title=title, body=body, created_at=at,
                updated_at=at, author=f"p{i}", uid=records.uid("files", "box", str(i)), month="2026-03", run_id="r",
            )
        )  # fmt: skip
    Store(tmp_path / "store").upsert("signals", records.frame("signals", rows))
    (tmp_path / "run.yaml").write_text("store: store\n", "utf-8")
    return tmp_path / "run.yaml", [row.uid for row in rows]


def run(params, *arguments):
    done = CliRunner().invoke(duplicates, [*arguments, "-f", str(params)], obj={"quiet": True})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def told(params, *arguments):
    return json.loads(run(params, *arguments, "--json"))


def test_a_likely_pair_is_listed_merged_and_taken_back(home):
    params, uids = home
    (pair,) = told(params, "list")
    assert (pair["uid"], pair["duplicate_of"]) == (uids[2], uids[0])
    assert pair["title_of"] == SAID[0][0]
    (row,) = told(params, "merge", uids[0][:6], "--into", uids[2][:6], "--as", "ann", "--reason", "same trace")
    assert (row["uid"], row["duplicate_of"], row["verdict"], row["by"]) == (uids[2], uids[0], "same", "ann")
    assert told(params, "list") == []
    (group,) = told(params, "list", "--merged")
    assert (group["people"], group["mentions"], group["uids"]) == (2, 2, [uids[0], uids[2]])
    shown = told(params, "show", uids[2])
    assert shown["root"] == uids[0]
    assert [d["reason"] for d in shown["decisions"]] == ["same trace"]
    (row,) = told(params, "unmerge", uids[2])
    assert row["verdict"] == "undecided"
    assert told(params, "list", "--merged") == []
    assert len(told(params, "list")) == 1
    assert "is in no group" in run(params, "unmerge", uids[2])


def test_a_pair_said_to_be_different_is_not_proposed_again(home):
    params, uids = home
    assert "different" in run(params, "different", uids[0], uids[2])
    assert told(params, "list") == []
    shown = run(params, "show", uids[0][:8])
    assert SAID[0][0] in shown
    assert f"said different as {uids[2][:8]}" in shown


def test_a_start_that_fits_no_uid_or_several_is_refused(home):
    params, _ = home
    with pytest.raises(ConfigError, match="no signal's uid begins with 'zz'"):
        run(params, "show", "zz")
    with pytest.raises(ConfigError, match="no signal's uid begins with ''"):
        run(params, "show", "")
    with pytest.raises(ConfigError, match="twice"):
        run(params, "merge", home[1][0], "--into", home[1][0])


def test_an_empty_store_says_what_to_do(tmp_path):
    (tmp_path / "run.yaml").write_text("store: nothing\n", "utf-8")
    with pytest.raises(ConfigError, match="feedback aggregate"):
        run(tmp_path / "run.yaml", "list")
