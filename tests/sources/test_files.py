"""What is special about exports on disk."""

import datetime as dt
import gc
import json
import random
import subprocess
import sys

import polars as pl
import pytest

from feedback_lib import plugins, privacy
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Item, Rejected

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
KEY = b"k" * 32
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    """What other tests left behind is not finalised in the depth of a recursion, where finalising fails."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def files(path, **options):
    return plugins.build("sources", {"kind": "files", "path": str(path), **options})


def lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def row(native_id=1, created_at="2026-03-01T12:00:00Z", **more):
    return {"native_id": native_id, "created_at": created_at, "title": "It is slow", **more}


def signals(source, since=None, until=END):
    return [source.parse(found.payload) for found in source.fetch(since, until) if isinstance(found, Item)]


def rejected(source):
    return [(found.where, found.reason) for found in source.fetch(None, END) if isinstance(found, Rejected)]


def test_the_same_rows_give_the_same_signals_in_every_format(tmp_path):
    rows = [row(n, f"2026-03-0{n}T12:00:00Z", body='b, "q"\nline', rating=n / 2, reactions=n) for n in (1, 2, 3)]
    lines(tmp_path / "a.jsonl", *rows)
    frame = pl.DataFrame(rows)
    frame.write_csv(tmp_path / "a.csv")
    frame.write_csv(tmp_path / "b.csv", separator=";")
    frame.with_columns(pl.col("created_at").str.to_datetime(time_zone="UTC")).write_parquet(tmp_path / "a.parquet")
    expected = signals(files(tmp_path / "a.jsonl", name="x"))
    assert [s.rating for s in expected] == [0.5, 1.0, 1.5]
    for other in ("a.csv", "b.csv", "a.parquet"):
        assert signals(files(tmp_path / other, name="x")) == expected


def test_real_support_questions_all_load(reference):
    source = files(
        reference / "feedback" / "sumo_thunderbird_2025-09_2025-12.parquet",
        columns={
            "native_id": "id",
            "created_at": "created",
            "updated_at": "updated",
            "labels": "tags",
            "product_area": "topic",
            "closed_at": "solved_at",
            "thread_count": "num_answers",
        },
    )
    found = list(source.fetch(None, END))
    assert len(found) == 4341
    assert all(isinstance(item, Item) for item in found)
    parsed = [source.parse(item.payload) for item in found]
    assert len({s.uid for s in parsed}) == 4341
    assert sum(s.closed_at is not None for s in parsed) == sum(item.payload["solved_at"] is not None for item in found)


@pytest.mark.parametrize(
    "written",
    [
        *("2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01 12:00:00", "2026-03-01 12:00:00 UTC"),
        *("2026-03-01 13:00:00 +0100", "2026/03/01 12:00", "20260301T120000Z", "Sun, 01 Mar 2026 12:00:00 +0000"),
        *(1772366400, 1772366400000, 1772366400000000, "1772366400", "1772366400.0", 1772366400.5),
    ],
    ids=repr,
)
def test_a_time_is_understood_however_it_is_written(tmp_path, written):
    (signal,) = signals(files(lines(tmp_path / "a.jsonl", row(created_at=written))))
    assert signal.created_at.replace(microsecond=0) == NOON
    assert signal.updated_at == signal.created_at


@pytest.mark.parametrize(
    "written", ["yesterday", "2026-02-30", "01/02/2026", 2026, "12:00", True, [1], "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_rejected_without_repeating_it(tmp_path, written):
    ((where, reason),) = rejected(files(lines(tmp_path / "a.jsonl", row(created_at=written))))
    assert where == "a.jsonl:1"
    assert reason.startswith("created_at is no time")
    assert str(written) not in reason


def test_broken_lines_are_rejected_with_their_line_and_the_others_load(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + json.dumps(row(1)).encode()
        + b'\n\n{"native_id": 2, "cre\n[1]\n{"title": "\xff"}\n'
        + json.dumps(row(6)).encode()
        + b"\n"
        + b"[" * 100_000
        + b"\n"
    )
    source = files(path)
    assert [s.native_id for s in signals(source)] == ["1", "6"]
    found = dict(rejected(source))
    assert list(found) == ["a.jsonl:3", "a.jsonl:4", "a.jsonl:5", "a.jsonl:7"]
    assert "no JSON" in found["a.jsonl:3"]
    assert "no object" in found["a.jsonl:4"]
    assert "UTF-8" in found["a.jsonl:5"]


def test_ragged_and_badly_encoded_csv_rows_are_rejected_with_their_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'native_id,created_at,title,body\n1,2026-03-01,"two\nlines",x\n2,2026-03-01,short\n'
        b'3,2026-03-01,\xe9,x\n4,2026-03-01,"quo"ted,x\n5,2026-03-01,fine,x\n'
    )
    source = files(path)
    assert [s.native_id for s in signals(source)] == ["1", "5"]
    found = dict(rejected(source))
    assert list(found) == ["a.csv:4", "a.csv:5", "a.csv:6"]
    assert found["a.csv:4"] == "has 3 columns where the first line has 4"


def test_a_quote_that_never_closes_costs_one_rejection_not_silence(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('native_id,created_at,title\n1,2026-03-01,fine\n2,2026-03-01,"open\n3,2026-03-01,gone\n', "utf-8")
    source = files(path)
    assert [s.native_id for s in signals(source)] == ["1"]
    assert [where for where, _ in rejected(source)] == ["a.csv:3"]


def test_a_csv_column_that_repeats_becomes_one_list(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("native_id,created_at,title,labels,labels\n1,2026-03-01,t,api,slow\n2,2026-03-01,t,api,\n", "utf-8")
    assert [s.labels for s in signals(files(path))] == [("api", "slow"), ("api",)]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["a", "b", "a"], ("a", "b")),
        ("a, b;c", ("a", "b", "c")),
        ('["a", "b"]', ("a", "b")),
        ([{"name": "a"}, {"id": 1}], ("a",)),
        ("", ()),
        (None, ()),
        (7, ("7",)),
    ],
)
def test_labels_come_from_lists_and_texts(tmp_path, written, expected):
    (signal,) = signals(files(lines(tmp_path / "a.jsonl", row(labels=written))))
    assert signal.labels == expected


def test_numbers_are_read_from_text_and_what_stands_for_nothing_is_none(tmp_path):
    path = lines(tmp_path / "a.jsonl", row(1, rating="4.5", reactions="3"), row(2, rating="N/A", reactions=""))
    assert [(s.rating, s.reactions) for s in signals(files(path))] == [(4.5, 3), (None, None)]


def test_a_value_that_does_not_fit_its_field_is_refused_by_name(tmp_path):
    source = files(lines(tmp_path / "a.jsonl", row(stars="jane@example.org")), columns={"rating": "stars"})
    with pytest.raises(ValueError, match=r"rating is no number \(column 'stars'\)") as error:
        signals(source)
    assert "jane" not in str(error.value)


def test_columns_constants_and_type_shape_the_signal(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"id": 9.0, "at": "2026-03-01", "who": {"name": "Jane"}, "text": "Slow"})
    source = files(
        path,
        columns={"native_id": "id", "created_at": "at", "author": "who.name", "body": "text"},
        constants={"product_area": "api", "rating": 3},
        type="review",
    )
    (signal,) = signals(source)
    assert (signal.native_id, signal.author, signal.body, signal.title) == ("9", "Jane", "Slow", "")
    assert (signal.product_area, signal.rating, signal.type, signal.origin) == ("api", 3.0, "review", "a")


def test_a_wrong_column_stops_the_source_and_names_the_nearest_before_any_row(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"ident": 1, "created": "2026-03-01", "title": "t", "user": {"login": "j"}})
    columns = {"native_id": "ident", "created_at": "created"}
    found = files(path, columns={**columns, "author": "user.logn"}).fetch(None, END)
    with pytest.raises(SourceError, match=r"did you mean 'user\.login'"):
        next(found)
    with pytest.raises(SourceError, match=r"no row has a column 'native_id'.*columns: \{native_id: <one of them>\}"):
        next(files(path, columns={"created_at": "created"}).fetch(None, END))
    assert len(signals(files(path, columns=columns))) == 1


def test_a_column_that_only_the_last_row_has_is_no_mistake(tmp_path):
    path = lines(tmp_path / "a.jsonl", *(row(n) for n in range(50)), row(50, stars=5))
    assert [s.rating for s in signals(files(path, columns={"rating": "stars"}))] == [*[None] * 50, 5.0]


def test_a_row_created_in_the_window_counts_although_it_was_updated_later(tmp_path):
    """An export taken today, read as of last month: the questions of that month are there."""
    path = lines(tmp_path / "a.jsonl", row(1, updated_at="2026-06-01T00:00:00Z"), row(2, "2026-06-02T00:00:00Z"))
    source = files(path)
    april = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    assert [s.native_id for s in signals(source, until=april)] == ["1"]
    assert [s.native_id for s in signals(source, since=april)] == ["1", "2"]


def test_a_wildcard_reads_all_files_in_order_and_the_folder_is_the_origin(tmp_path):
    folder = tmp_path / "exports"
    (folder / "march").mkdir(parents=True)
    lines(folder / "march" / "b.jsonl", row(2), "{")
    lines(folder / "march" / "a.jsonl", row(1))
    source = files(folder / "*" / "*.jsonl")
    assert [s.native_id for s in signals(source)] == ["1", "2"]
    assert {s.origin for s in signals(source)} == {"exports"}
    assert [where for where, _ in rejected(source)] == ["march/b.jsonl:2"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b"[]", "jq -c"),
        ("a.xlsx", b"", "known: .jsonl"),
        ("a.csv", "native_id,título\n".encode("utf-16"), "save the export as UTF-8"),
        ("a.csv", "native_id,título\n".encode("latin-1"), "save the export as UTF-8"),
        ("a.parquet", b"PAR1 cut off", "no complete Parquet file"),
    ],
)
def test_a_file_that_is_not_what_we_read_is_a_source_error_that_says_what_to_do(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=expected):
        list(files(tmp_path / name).fetch(None, END))


def test_an_empty_file_is_no_mistake(tmp_path):
    for name in ("a.jsonl", "a.csv"):
        (tmp_path / name).write_bytes(b"")
        assert list(files(tmp_path / name).fetch(None, END)) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"columns": {"creatd_at": "x"}}, "did you mean 'created_at'"),
        ({"constants": {"servce": "x"}}, "did you mean 'service'"),
        ({"columns": {"service": "x"}, "constants": {"service": "y"}}, "'service' is in columns and in constants"),
        ({"type": "tiket"}, "did you mean 'ticket'"),
        ({"constants": {"author": "us"}}, "author"),
    ],
)
def test_a_wrong_option_names_the_nearest_right_one(options, expected):
    with pytest.raises(ConfigError, match=expected):
        files("a.jsonl", **options)


def test_people_in_columns_nobody_mapped_are_pseudonyms_too(tmp_path):
    hidden = {"assignee": "Jane Doe", "customer": {"name": "Jane Doe", "tier": "gold"}, "team_lead": "Jane Doe"}
    path = lines(tmp_path / "a.jsonl", row(**hidden))
    source = files(path, columns={"customer_value": "customer.tier"}, personal=["team_lead"])
    (item,) = source.fetch(None, END)
    clean = privacy.scrub(item.payload, personal=source.personal_fields, plain=source.plain_fields, key=KEY)
    assert "Jane" not in json.dumps(clean)
    assert clean["customer"]["tier"] == "gold"


def test_half_a_surrogate_pair_is_mended_so_that_it_can_be_stored(tmp_path):
    path = lines(
        tmp_path / "a.jsonl", '{"native_id": 1, "created_at": "2026-03-01", "title": "x \\ud83d y \\ud83d\\ude00"}'
    )
    (signal,) = signals(files(path))
    assert signal.title == "x \ufffd y \U0001f600"


def test_not_a_number_is_missing_so_that_the_payload_is_json(tmp_path):
    path = lines(tmp_path / "a.jsonl", '{"native_id": 1, "created_at": "2026-03-01", "title": "x", "rating": NaN}')
    (signal,) = signals(files(path))
    assert signal.rating is None


SCALE = r"""
import datetime as dt, re, sys, time
from feedback_lib import plugins, privacy
source = plugins.build("sources", {"kind": "files", "path": sys.argv[1]})
start, count = time.perf_counter(), 0
for item in source.fetch(None, dt.datetime(2027, 1, 1, tzinfo=dt.UTC)):
    clean = privacy.scrub(item.payload, personal=source.personal_fields, plain=source.plain_fields, key=b"k" * 32)
    count += bool(source.parse(clean).uid)
peak_kib = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]  # ru_maxrss starts at the parent's
print(count, time.perf_counter() - start, int(peak_kib) // 1024)
"""


@pytest.mark.thorough  # of speed
def test_items_are_read_at_a_hundred_thousand_a_minute_and_one_after_the_other(tmp_path):
    rng = random.Random(7)
    words = ["the", "build", "is", "slow", "again", "since", "monday", "why", "does", "error", "500", "stop", "v1.2.3"]
    path = tmp_path / "big.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(20_000):
            told = " ".join(rng.choices(words, k=50))
            contact = f" mail me at user{number}@example.org" if number % 10 == 0 else ""
            file.write(
                json.dumps(row(number, author=f"user{number % 900}", body=told + contact, labels=["api"])) + "\n"
            )
    done = subprocess.run([sys.executable, "-c", SCALE, str(path)], capture_output=True, text=True, check=True)
    count, seconds, peak_mib = (float(part) for part in done.stdout.split())
    assert count == 20_000
    assert seconds < 12
    assert peak_mib < 40  # a list of them takes 50
