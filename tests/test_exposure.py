"""Exposure read from a CSV file: what is taken, what is left out and why, and what is refused."""

import datetime as dt

import pytest

from feedback_lib import exposure
from feedback_lib.errors import ConfigError


def test_a_line_a_day_is_read_and_the_column_says_what_is_counted(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("day,active_users\n2026-11-10,1200\n2026-11-09,1000.5\n")
    read = exposure.read(path)
    assert read.per == "active users"
    assert read.frame.rows() == [(dt.date(2026, 11, 9), 1000.5), (dt.date(2026, 11, 10), 1200.0)]
    assert read.frame.columns == ["day", "exposure"]
    assert read.rejected == ()


def test_an_empty_area_is_the_whole_product(tmp_path):
    path = tmp_path / "users.csv"
    path.write_text("\ufeffDate,product_area,sessions\n2026-11-09,,900\n2026-11-09,console,300\n")
    assert exposure.read(path).frame.to_dicts() == [
        {"day": dt.date(2026, 11, 9), "product_area": None, "exposure": 900.0},
        {"day": dt.date(2026, 11, 9), "product_area": "console", "exposure": 300.0},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2026-11-31,5", "day"),
        ("2026-11-10,many", "not a number"),
        ("2026-11-10,0", "not more than 0"),
        ("2026-11-10,nan", "not more than 0"),
        ("2026-11-10", "1 columns where the first line has 2"),
        ("2026-11-09,7", "was there before with another number"),
    ],
)
def test_a_bad_line_is_left_out_and_told_with_its_place(tmp_path, line, reason):
    path = tmp_path / "users.csv"
    path.write_text(f"day,users\n2026-11-09,5\n\n{line}\n")
    read = exposure.read(path)
    assert read.frame.height == 1
    ((where, why),) = [(r.where, r.reason) for r in read.rejected]
    assert where == "users.csv:4"
    assert reason in why


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "columns none"),
        ("day\n2026-11-09\n", "columns day"),
        ("day,users,sessions\n2026-11-09,1,2\n", "columns day, users, sessions"),
        ("day,users\n2026-11-09,none\n", r"no line with a day and a number \(users.csv:2"),
    ],
)
def test_a_file_that_says_nothing_is_refused_with_what_to_write(tmp_path, text, message):
    path = tmp_path / "users.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        exposure.read(path)
