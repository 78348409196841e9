"""What every sink promises. A new one joins by its module, `tests/data/sinks/<kind>.json` and a row in the docs."""

import datetime as dt
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from feedback_lib import plugins, sinks
from feedback_lib.errors import ConfigError, DeliveryError

ROOT = Path(__file__).parents[2]
KINDS = sorted(f.stem for f in (ROOT / "feedback_lib" / "sinks").glob("[a-z]*.py"))
MESSAGE = sinks.Message(
    key="weekly 2026-W46/ünï",
    title="Developer Signal Report, week 46",
    text="14 people say exports fail.\n\nNothing else grew.",
    attachments=("signal_report.html",),
)


def options(kind, folder):
    described = ROOT / "tests" / "data" / "sinks" / f"{kind}.json"
    assert described.exists(), f"say in {described.relative_to(ROOT)} with which options sink {kind} is tested"
    return {k: v.replace("{folder}", str(folder)) for k, v in json.loads(described.read_text()).items()}


@pytest.fixture(params=KINDS)
def sink(request, tmp_path):
    """Makes the sink anew, as the next run of a recipe does."""
    given = {"kind": request.param} | options(request.param, tmp_path)
    return lambda: plugins.build("sinks", given)


def arrived(tmp_path, capsys):
    """Everything that went out: printed text and files, by name and content."""
    files = {str(f): f.read_bytes() for f in sorted(tmp_path.rglob("*")) if f.is_file() and f.suffix != ".lock"}
    return capsys.readouterr().out, files


def test_a_delivered_message_says_where_it_went(sink, tmp_path, capsys):
    before = dt.datetime.now(dt.UTC)
    receipt = sink().deliver(MESSAGE)
    printed, files = arrived(tmp_path, capsys)
    everything = printed + "".join(content.decode() for content in files.values())
    assert receipt.delivered
    assert receipt.key == MESSAGE.key
    assert receipt.kind in KINDS
    assert receipt.where
    assert before <= receipt.at <= dt.datetime.now(dt.UTC)
    for said in (MESSAGE.title, "14 people say exports fail.", "Nothing else grew.", "signal_report.html"):
        assert said in everything


def test_the_same_key_is_delivered_once_also_by_the_next_run(sink, tmp_path, capsys):
    sink().deliver(MESSAGE)
    _, first = arrived(tmp_path, capsys)
    again = sink().deliver(MESSAGE)
    assert not again.delivered
    assert arrived(tmp_path, capsys) == ("", first)


def test_the_same_object_delivers_a_key_once(sink, tmp_path, capsys):
    one = sink()
    assert [one.deliver(MESSAGE).delivered, one.deliver(MESSAGE).delivered] == [True, False]


def test_another_key_is_delivered_although_its_text_is_equal(sink):
    other = sinks.Message(key="weekly 2026-W46 ünï", title=MESSAGE.title, text=MESSAGE.text)
    assert sink().deliver(MESSAGE).delivered
    assert sink().deliver(other).delivered


def test_a_dry_run_says_where_and_writes_nothing(sink, tmp_path, capsys):
    receipt = sink().deliver(MESSAGE, dry_run=True)
    assert not receipt.delivered
    assert receipt.where
    assert arrived(tmp_path, capsys) == ("", {})


def test_a_dry_run_does_not_count_as_delivered(sink):
    sink().deliver(MESSAGE, dry_run=True)
    assert sink().deliver(MESSAGE).delivered


def test_a_place_that_cannot_be_written_is_a_delivery_error_with_kind_and_key(sink, tmp_path):
    (tmp_path / "messages").write_text("a file where a folder should be")
    (tmp_path / "delivered.jsonl").mkdir()
    with pytest.raises(DeliveryError) as failed:
        sink().deliver(MESSAGE)
    assert failed.value.key == MESSAGE.key
    assert failed.value.kind in KINDS


def test_the_text_of_a_message_does_not_stand_in_an_error(sink, tmp_path):
    (tmp_path / "messages").write_text("")
    (tmp_path / "delivered.jsonl").mkdir()
    with pytest.raises(DeliveryError) as failed:
        sink().deliver(MESSAGE)
    assert "exports fail" not in str(failed.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sink_has_a_row_in_the_docs_with_its_options(kind):
    rows = [line for line in (ROOT / "docs" / "sinks.md").read_text().splitlines() if line.startswith(f"| `{kind}` ")]
    assert len(rows) == 1, f"docs/sinks.md needs one row for {kind}"
    for option in inspect.signature(plugins.get("sinks", kind)).parameters:
        assert f"`{option}`" in rows[0]


def test_a_format_the_file_sink_does_not_know_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'html'; write one of markdown, json"):
        plugins.build("sinks", {"kind": "file", "folder": str(tmp_path), "format": "html"})


def test_the_json_file_holds_the_message_as_it_was(tmp_path):
    sink = plugins.build("sinks", {"kind": "file", "folder": str(tmp_path), "format": "json"})
    held = json.loads(Path(sink.deliver(MESSAGE).where).read_text())
    assert held == {
        "key": MESSAGE.key,
        "title": MESSAGE.title,
        "text": MESSAGE.text,
        "attachments": ["signal_report.html"],
    }


def test_a_key_cannot_leave_the_folder(tmp_path):
    sink = plugins.build("sinks", {"kind": "file", "folder": str(tmp_path / "in")})
    for key in ("../out", "/etc/x", "..", "", "a" * 300):
        where = Path(sink.deliver(sinks.Message(key=key, title="t", text="x")).where)
        assert where.resolve().parent == (tmp_path / "in").resolve()


def test_processes_that_deliver_the_same_key_at_once_deliver_it_once(sink, tmp_path):
    kind = type(sink()).__module__.rpartition(".")[2]
    program = (
        "import json, sys; from feedback_lib import plugins, sinks; sys.stdin.read(); "
        "s = plugins.build('sinks', json.loads(sys.argv[1])); "
        "r = s.deliver(sinks.Message(key='k', title='t', text='x')); print('delivered', r.delivered)"
    )
    arguments = [sys.executable, "-c", program, json.dumps({"kind": kind} | options(kind, tmp_path))]
    racing = [
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(4)
    ]
    for process in racing:
        process.stdin.close()
    said = []
    for process in racing:
        said.append(process.stdout.read())
        process.stdout.close()
        assert process.wait() == 0
    assert sum("delivered True" in text for text in said) == 1
