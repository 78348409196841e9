"""What the monitor remembers, with several writers at once."""

import multiprocessing
import sqlite3

import polars as pl
import pytest

from feedback_lib.analysis.alerts import AlertState
from feedback_lib.errors import StoreError
from feedback_lib.ledger import SAMPLE_SCHEMA, Ledger

MARK = "f" * 32


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "spec" / "monitor.sqlite")
    yield made
    made.close()


def samples(*rows):
    return pl.DataFrame(rows, schema=SAMPLE_SCHEMA, orient="row")


def event(sequence):
    return {"sequence": sequence, "event": "opened"}


def test_samples_come_back_in_order_and_a_known_moment_is_replaced(ledger):
    ledger.add_samples("p99", samples((120, 1.0, 1.0, 0.1), (60, 0.0, 1.0, 0.9)), asked_until_us=120)
    ledger.add_samples("p99", samples((60, 1.0, 1.0, 0.2)))
    found = ledger.measurements("api", "p99")
    assert found.select("at_us", "value").rows() == [(60, 0.2), (120, 0.1)]
    assert found.columns == ["service", "sli", "at_us", "good", "valid", "value"]
    assert ledger.measurements("api", "p99", after_us=60).height == 1


def test_how_far_was_asked_never_goes_back(ledger):
    assert ledger.asked("p99") is None
    ledger.add_samples("p99", samples(), asked_until_us=300)
    ledger.add_samples("p99", samples(), asked_until_us=240)
    assert ledger.asked("p99") == 300


def test_an_event_noted_twice_is_told_once(ledger):
    state = AlertState(folded_us=5)
    assert ledger.save_alert(MARK, state, [event(7)], ["a", "b"]) == 1
    assert ledger.save_alert(MARK, state, [event(7)], ["a", "b"]) == 0
    assert ledger.alert_state(MARK) == state
    assert [(d.sequence, d.sink) for d in ledger.open_deliveries()] == [(7, "a"), (7, "b")]


def test_a_later_event_waits_behind_one_that_is_retried(ledger):
    ledger.save_alert(MARK, AlertState(0), [event(1), event(2)], ["a"])
    first = ledger.open_deliveries(0)[0]
    ledger.failed(first, "refused", next_us=100)
    assert ledger.open_deliveries(50) == []
    assert [d.sequence for d in ledger.open_deliveries(100)] == [1, 2]
    ledger.delivered(first, 100)
    assert [d.sequence for d in ledger.open_deliveries()] == [2]


def test_health_keeps_changes_only(ledger):
    changed = [ledger.note_health("p99", at, s, "") for at, s in [(1, "healthy"), (2, "healthy"), (3, "unknown")]]
    assert changed == [True, False, True]
    assert ledger.health().select("at_us", "status").rows() == [(1, "healthy"), (3, "unknown")]


def test_a_transaction_that_fails_leaves_nothing(ledger):
    with pytest.raises(RuntimeError), ledger.transaction():
        ledger.add_samples("p99", samples((60, 1.0, 1.0, 0.2)))
        raise RuntimeError
    assert ledger.measurements("api", "p99").is_empty()


def _write(path, number):
    own = Ledger(path)
    for sequence in range(20):
        own.save_alert(MARK, AlertState(number), [event(sequence)], ["a"])
    own.close()


def test_processes_that_start_and_write_at_once_lose_and_double_nothing(tmp_path):
    path = tmp_path / "monitor.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [0, 0, 0]
    ledger = Ledger(path)
    assert [d.sequence for d in ledger.open_deliveries()] == list(range(20))
    ledger.close()


def test_a_damaged_or_newer_file_is_a_clear_error(tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"this is no database, but long enough to be looked at" * 20)
    with pytest.raises(StoreError, match="Move it away"):
        Ledger(broken)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="newer version"):
        Ledger(newer)
