"""What every built-in source must do, run against every one there is."""

import datetime as dt
import hashlib
import importlib.resources
import json
import os
import shutil
from pathlib import Path

import pytest

from feedback_lib import plugins, privacy
from feedback_lib.errors import SourceError
from feedback_lib.records import Item, Rejected, Signal

DATA = Path(__file__).parents[1] / "data"
DOCS = Path(__file__).parents[2] / "docs" / "sources.md"
KINDS = sorted(
    path.name.removesuffix(".py")
    for path in importlib.resources.files("feedback_lib.sources").iterdir()
    if path.name.endswith(".py") and not path.name.startswith("_")
)
END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
WRITTEN = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)  # the recorded files, so that a fresh checkout changes nothing
KEY = b"k" * 32
PLANTED = "jane.doe@example.org"  # stands in every recorded example
STREAMED = {"files"}  # larger than memory and unsorted, so in the order of the file


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def options(kind, tmp_path, monkeypatch):
    example = DATA / kind
    assert (example / "options.json").exists(), f"add tests/data/{kind}/options.json (options for a recorded example)"
    folder = tmp_path / "example"
    shutil.copytree(example, folder)
    for path in folder.rglob("*"):
        os.utime(path, (WRITTEN.timestamp(), WRITTEN.timestamp()))
    monkeypatch.chdir(folder)
    return json.loads(Path("options.json").read_text("utf-8"))


@pytest.fixture
def source(kind, options):
    return plugins.build("sources", {"kind": kind, **options})


def scrubbed(source, item):
    return privacy.scrub(item.payload, personal=source.personal_fields, plain=source.plain_fields, key=KEY)


def items(source, since=None, until=END):
    return [found for found in source.fetch(since, until) if isinstance(found, Item)]


def read(source, since=None, until=END):
    signals = []
    for item in items(source, since, until):
        try:
            signals.append(source.parse(scrubbed(source, item)))
        except ValueError:
            continue
    return signals


def test_yields_at_least_two_signals_of_its_kind(source, kind):
    signals = read(source)
    assert len(signals) >= 2
    assert {(s.kind, s.origin) for s in signals} == {(kind, source.origin)}


def test_reading_twice_gives_the_same_signals_in_the_same_order(source):
    assert list(source.fetch(None, END)) == list(source.fetch(None, END))
    assert read(source) == read(source)


def test_ids_are_unique_and_times_are_aware_utc(source):
    signals = read(source)
    assert len({s.uid for s in signals}) == len(signals)
    for signal in signals:
        for at in (signal.created_at, signal.updated_at, signal.first_response_at, signal.closed_at):
            assert at is None or at.tzinfo is dt.UTC


def test_oldest_comes_first_unless_it_is_streamed(source, kind):
    times = [s.updated_at for s in read(source)]
    assert (times == sorted(times)) is (kind not in STREAMED)


def test_the_window_is_half_open(source):
    signals = read(source)
    first = min(signals, key=lambda s: s.updated_at)
    last = max(signals, key=lambda s: s.updated_at)
    assert first in read(source, since=first.updated_at)
    assert first not in read(source, until=first.created_at)
    assert last in read(source, since=last.updated_at)
    assert last not in read(source, since=last.updated_at + dt.timedelta(microseconds=1))


def test_two_windows_side_by_side_read_everything(source):
    signals = read(source)
    middle = sorted(s.updated_at for s in signals)[len(signals) // 2]
    both = [*read(source, until=middle), *read(source, since=middle)]
    assert {s.uid for s in both} == {s.uid for s in signals}


def test_what_cannot_be_read_says_where_and_why(source):
    for found in source.fetch(None, END):
        if isinstance(found, Rejected):
            assert found.where.strip()
            assert found.reason.strip()
        else:
            assert found.where.strip()


def test_an_empty_payload_is_refused_with_a_reason(source):
    with pytest.raises(ValueError, match=r"\w"):
        source.parse({})


def test_a_missing_file_or_folder_is_a_source_error_that_names_it(kind, options):
    place = next(name for name in ("path", "folder") if name in options)
    source = plugins.build("sources", {"kind": kind, **options, place: "nowhere/at-all"})
    with pytest.raises(SourceError, match="nowhere/at-all") as error:
        list(source.fetch(None, END))
    assert error.value.kind == kind
    assert place in str(error.value)


def test_reading_writes_nothing(source):
    def prints():
        return {
            p: (hashlib.sha256(p.read_bytes()).digest(), p.stat().st_mtime) for p in Path().rglob("*") if p.is_file()
        }

    before = prints()
    read(source)
    assert prints() == before


def test_a_payload_is_json_as_it_is(source):
    for item in items(source):
        assert json.loads(json.dumps(item.payload, allow_nan=False)) == item.payload
        json.dumps(item.payload, ensure_ascii=False).encode("utf-8")


def test_no_personal_data_passes_into_the_store(source):
    """Planted in every example, so a source that forgets a field fails here."""
    before = json.dumps([item.payload for item in items(source)])
    assert PLANTED in before, f"plant {PLANTED} in the recorded example"
    after = json.dumps([scrubbed(source, item) for item in items(source)]) + repr(read(source))
    for part in ("jane.doe", "5550 1234", "ghp_0123", "203.0.113.9"):
        assert part not in after


def test_what_is_stored_would_be_stored_again_unchanged(source):
    for item in items(source):
        once = scrubbed(source, item)
        again = privacy.scrub(once, personal=source.personal_fields, plain=source.plain_fields, key=KEY)
        assert again == once


def test_a_signal_is_hashable_and_its_text_is_not_empty(source):
    for signal in read(source):
        assert isinstance(signal, Signal)
        assert signal.text
        hash(signal)


def test_is_documented(kind):
    assert f"| `{kind}` |" in DOCS.read_text("utf-8"), f"add a row for {kind} to docs/sources.md"
