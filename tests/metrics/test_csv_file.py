"""The CSV backend: which rows a moment holds, times in every form, and rows that cannot be read."""

import datetime as dt
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_lib import plugins
from feedback_lib.errors import ConfigError, MetricsError

START = dt.datetime(2026, 11, 16, tzinfo=dt.UTC)
EPOCH = int(START.timestamp())


def seconds(n):
    return START + dt.timedelta(seconds=n)


@pytest.fixture
def made(tmp_path):
    """Writes a file and makes the backend that reads it."""

    def make(text, **options):
        path = tmp_path / "metrics.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return plugins.build("metrics", {"kind": "csv_file", "path": str(path)} | options)

    return make


def rows(answer):
    assert answer.frame.schema == {"series": pl.String, "at": pl.Datetime("us", "UTC"), "value": pl.Float64}
    return [(series, (at - START).total_seconds(), value) for series, at, value in answer.frame.rows()]


def values(answer):
    return [(at, value) for _, at, value in rows(answer)]


MANY = "at,service,p99,other\n" + "".join(
    f"{seconds(n).isoformat()},{service},{value},7\n"
    for n, service, value in [
        (-60, "api", 1),  # belongs to the moment before the first
        (-59.999999, "api", 2),
        (0, "api", 4),
        (0.000001, "api", 8),
        (30, "web", 100),
        (60, "api", 16),
        (180, "api", 32),
        (180.000001, "api", 64),  # after the last
    ]
)
API = {"column": "p99", "where": {"service": "api"}}


def test_a_moment_holds_the_rows_after_the_moment_before_up_to_itself(made):
    answer = made(MANY).between(API, START, seconds(180), 60)
    assert rows(answer) == [('service="api"', 0, 3), ('service="api"', 60, 12), ('service="api"', 180, 32)]
    assert answer.partial is None


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("mean", (3, 12, 32)), ("sum", (6, 24, 32)), ("max", (4, 16, 32)), ("min", (2, 8, 32)), ("last", (4, 16, 32))],
)
def test_the_rows_of_a_moment_become_one_by_the_aggregate(made, aggregate, expected):
    for backend, query in ((made(MANY, aggregate=aggregate), API), (made(MANY), API | {"aggregate": aggregate})):
        assert tuple(value for _, value in values(backend.between(query, START, seconds(180), 60))) == expected


def test_the_mean_of_equal_values_is_that_value(made):
    """Three times 0.1 divided by three is a little more than 0.1, enough to miss a target."""
    backend = made("at,v\n" + f"{EPOCH},0.1\n" * 3 + f"{EPOCH + 60},1e308\n" * 2 + f"{EPOCH + 120},0.7\n" * 7)
    assert values(backend.between("v", START, seconds(120), 60)) == [(0, 0.1), (120, 0.7)]


def test_infinities_of_both_signs_have_a_highest_but_no_mean(made):
    backend = made(f"at,v\n{EPOCH},inf\n{EPOCH},-inf\n{EPOCH + 60},inf\n{EPOCH + 60},1\n")
    assert values(backend.between("v", START, seconds(60), 60)) == [(60, float("inf"))]
    assert values(backend.between({"column": "v", "aggregate": "max"}, START, START, 60)) == [(0, float("inf"))]


def test_the_last_of_two_rows_of_one_time_is_the_later_line(made):
    backend = made(f"at,v\n{EPOCH},1\n{EPOCH - 5},9\n{EPOCH},2\n", aggregate="last")
    assert values(backend.between("v", START, START, 60)) == [(0, 2)]


def test_a_bare_column_means_all_rows(made):
    assert rows(made(MANY).between("p99", seconds(60), seconds(60), 60)) == [("", 60, (8 + 100 + 16) / 3)]


def test_several_conditions_must_all_hold_and_name_the_series_in_order(made):
    backend = made("at,b,a,v\n2026-11-16,1,x,5\n2026-11-16,1,y,6\n2026-11-16,2,x,7\n")
    answer = backend.between({"column": "v", "where": {"b": 1, "a": "x"}}, START, START, 60)
    assert rows(answer) == [('a="x", b="1"', 0, 5)]


def test_no_row_in_time_or_condition_is_no_data(made):
    backend = made(MANY)
    assert rows(backend.between(API, seconds(600), seconds(900), 60)) == []
    assert rows(backend.between({"column": "p99", "where": {"service": "nobody"}}, START, seconds(180), 60)) == []
    assert rows(made("at,v\n").between("v", START, seconds(60), 60)) == []


@given(
    st.lists(st.tuples(st.integers(-400, 400), st.integers(-9, 9)), max_size=30),
    st.integers(1, 90),
    st.integers(0, 8),
)
def test_every_row_within_is_counted_exactly_once(tmp_path_factory, written, step, moments):
    path = tmp_path_factory.getbasetemp() / "counted.csv"
    path.write_text("at,v\n" + "".join(f"{EPOCH + n},{value}\n" for n, value in written))
    os.utime(path, ns=(0, hash((tuple(written), step, moments)) % 10**15))
    backend = plugins.build("metrics", {"kind": "csv_file", "path": str(path), "aggregate": "sum"})
    answer = backend.between("v", START, seconds(step * moments), step)
    expected = {}
    for n, value in written:
        for k in range(moments + 1):
            if (k - 1) * step < n <= k * step:
                expected[float(k * step)] = expected.get(float(k * step), 0) + value
    assert dict(values(answer)) == expected
    assert answer.frame["at"].is_sorted()


def test_now_is_the_newest_row_up_to_then_unless_it_is_old(made):
    backend = made(f"at,v\n{EPOCH},1\n{EPOCH + 60},2\n{EPOCH + 400},3\n", lookback_s=100)
    asked = (-1, 0, 59, 60, 159, 160, 399, 400)
    found = [values(backend.now("v", seconds(n))) for n in asked]
    assert found == [[], [(0, 1)], [(59, 1)], [(60, 2)], [(159, 2)], [], [], [(400, 3)]]


# times


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-16T00:00:00Z", "2026-11-16T01:00:00+01:00", "2026-11-16 00:00:00", "2026-11-16", "20261116"),
        *("20261116T00Z", f"{EPOCH}", f"{EPOCH}.0", f" {EPOCH} ", "1.7947872e9"),
        *(f"{EPOCH}{zeros}" for zeros in ("000", "000000", "000000000")),
    ],
)
def test_a_time_is_understood_as_people_and_programs_write_it(made, text):
    backend = made(f"at,v\n{text},5\n")
    answer = backend.between("v", START, START, 60)
    assert values(answer) == [(0, 5)]
    assert answer.partial is None


@pytest.mark.parametrize("name", ["at", "Time", "timestamp", "DATE", "datetime", "ts"])
def test_the_column_of_the_times_is_found_by_its_name(made, name):
    assert values(made(f"v,{name}\n5,2026-11-16\n").between("v", START, START, 60)) == [(0, 5)]


def test_the_column_of_the_times_can_be_named(made):
    backend = made("at,when,v\nnever,2026-11-16,5\n", time="when")
    assert values(backend.between("v", START, START, 60)) == [(0, 5)]


def test_rows_need_not_stand_in_the_order_of_time(made):
    backend = made(f"at,v\n{EPOCH + 60},2\n{EPOCH},1\n{EPOCH + 30},4\n")
    assert values(backend.between("v", START, seconds(60), 60)) == [(0, 1), (60, 3)]


# rows that cannot be read


BAD = f"""at,service,v
{EPOCH},api,1
yesterday,api,2
{EPOCH},api
{EPOCH},api,2,3

{EPOCH},"a
b",2
{EPOCH},api,fast
{EPOCH},api,
{EPOCH},api,NaN
{EPOCH},web,slow
{EPOCH},api,3
"""


def test_good_rows_are_used_and_the_bad_ones_told_with_the_first_line(made):
    answer = made(BAD).between({"column": "v", "where": {"service": "api"}}, START, START, 60)
    assert values(answer) == [(0, 2)]
    first = "first: line 3: at is 'yesterday', not a time"
    assert answer.partial == f"4 rows of metrics.csv could not be read ({first})"


def test_lines_are_counted_through_cells_of_several_lines(made):
    answer = made(f'at,note,v\n{EPOCH},"a\nb\nc",1\n{EPOCH},x,fast\n').between("v", START, START, 60)
    assert answer.partial == "1 row of metrics.csv could not be read (first: line 5: v is 'fast', not a number)"


@pytest.mark.parametrize("row", [b"\xff\xfe,1", b"nan,1", b"inf,1", b"1e99,1", b"9" * 30 + b",1", b"1\x00,1", b'"1,1'])
def test_a_row_of_rubbish_costs_only_itself(made, row):
    answer = made(b"at,v\n" + f"{EPOCH},4\n".encode() + row + b"\n").between("v", START, START, 60)
    assert values(answer) == [(0, 4)]
    assert answer.partial.startswith("1 row of metrics.csv could not be read (first: line 3: ")


def test_an_empty_cell_is_a_missing_value_and_infinity_is_one(made):
    backend = made(f"at,v\n{EPOCH},\n{EPOCH + 60},inf\n{EPOCH + 120},-Infinity\n")
    answer = backend.between("v", START, seconds(120), 60)
    assert values(answer) == [(60, float("inf")), (120, float("-inf"))]
    assert answer.partial is None


def test_a_byte_order_mark_other_line_ends_and_separators_are_read(made):
    backend = made("\ufeffat;v\r\n2026-11-16;5\r\n", separator=";")
    assert values(backend.between("v", START, START, 60)) == [(0, 5)]


def test_a_bad_row_long_before_or_after_what_is_asked_does_not_make_it_partial(made):
    lines = [
        f"{EPOCH},1",
        "x,1",
        f"{EPOCH + 60},fast",
        f"{EPOCH + 60},2",
        f"{EPOCH + 600},3",
        "y,1",
        f"{EPOCH + 900},4",
    ]
    backend = made("\n".join(["at,v", *lines, "z,1"]) + "\n")
    asked = [(0, 0), (60, 60), (120, 540), (600, 600), (660, 840), (960, 1000)]
    found = [backend.between("v", seconds(a), seconds(b), 60).partial for a, b in asked]
    lines = [int(partial.split("line ")[1].split(":")[0]) if partial else None for partial in found]
    assert lines == [3, 3, None, 7, 7, 9]
    assert found[1].startswith("2 rows")
    assert backend.now("v", seconds(500)).partial is None


# the file


def test_a_file_that_grew_is_read_again_and_one_that_did_not_is_not(made, monkeypatch):
    backend = made(f"at,v\n{EPOCH},1\n")
    assert values(backend.between("v", START, seconds(60), 60)) == [(0, 1)]
    state = Path(backend.path).stat()
    with Path(backend.path).open("a") as file:
        file.write(f"{EPOCH + 60},2\n")
    assert values(backend.between("v", START, seconds(60), 60)) == [(0, 1), (60, 2)]
    with Path(backend.path).open("r+") as file:
        file.write(f"at,v\n{EPOCH},9\n")
    os.utime(backend.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert values(backend.between("v", START, seconds(60), 60)) == [(0, 9), (60, 2)]
    with Path(backend.path).open("r+") as file:
        file.write(f"at,v\n{EPOCH},7\n")
    os.utime(backend.path, ns=(state.st_atime_ns, state.st_mtime_ns))  # the same state: what was read stays
    assert values(backend.between("v", START, seconds(60), 60)) == [(0, 9), (60, 2)]


def test_a_missing_or_empty_file_is_a_measurement_that_could_not_be_taken(made, tmp_path):
    with pytest.raises(MetricsError, match=r"metrics.csv is empty"):
        made("").between("v", START, START, 60)
    backend = made("at,v\n")
    Path(backend.path).unlink()
    with pytest.raises(MetricsError, match=r"metrics.csv: No such file or directory. Name an existing file in 'path'"):
        backend.now("v", START)
    with pytest.raises(MetricsError, match="Is a directory"):
        plugins.build("metrics", {"kind": "csv_file", "path": str(tmp_path)}).now("v", START)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("p95", "no column 'p95'; did you mean 'p99'"),
        ({"column": "p99", "where": {"servce": "api"}}, "no column 'servce'; did you mean 'service'"),
        ({"column": "p99", "were": {}}, "has no 'were'; did you mean 'where'"),
        ({"where": {"service": "api"}}, "a query is a column, or"),
        ({"column": "p99", "where": "api"}, "a query is a column, or"),
        ({"column": "p99", "aggregate": "avg"}, "aggregate = 'avg'"),
        (7, "a query is a column, or"),
    ],
)
def test_a_wrong_query_says_what_to_write(made, query, words):
    with pytest.raises(ConfigError, match=words):
        made(MANY).between(query, START, START, 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time": "when"}, "no column 'when'"),
        ({"aggregate": "median"}, "aggregate = 'median'"),
        ({"separator": "ab"}, "separator = 'ab': expected one character"),
    ],
)
def test_a_wrong_option_says_what_to_write(made, options, words):
    with pytest.raises(ConfigError, match=words):
        made(MANY, **options).now("p99", START)


def test_a_file_without_a_column_of_times_says_which_names_are_known(made):
    with pytest.raises(ConfigError, match=r"no column of .*metrics.csv is named at, time, timestamp"):
        made("a,b\n1,2\n").now("b", START)


def test_the_address_is_the_file(made):
    backend = made(MANY)
    assert backend.now("p99", START).address == f"file://{backend.path}"
