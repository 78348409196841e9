"""The command check: what a command may see and print, and how it is ended."""

import datetime as dt
import os
import time

import pytest
from http_receiver import until

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics import perfdata
from feedback_lib.metrics.command import Command

AT = dt.datetime(2026, 11, 20, 10, 4, tzinfo=dt.UTC)


def sh(text, **more):
    return {"command": ["sh", "-c", text], **more}


@pytest.mark.parametrize(("code", "value"), [(0, 1.0), (1, 1.0), (2, 0.0)])
def test_the_exit_codes_of_plug_ins_are_up_up_and_down(code, value):
    answer = Command().now(sh(f"exit {code}"), AT)
    assert (answer.frame.rows(), answer.partial) == ([("", AT, value)], None)


def test_unknown_is_no_data_with_what_the_command_said():
    answer = Command().now(sh("echo 'DISK UNKNOWN: no such path | a=1'; exit 3"), AT)
    assert answer.frame.is_empty()
    assert answer.partial == "sh does not know: DISK UNKNOWN: no such path"


def test_another_exit_code_says_nothing_about_the_service():
    with pytest.raises(MetricsError, match="sh ended with 127, which says nothing"):
        Command().now(sh("no-such-command-anywhere"), AT)
    assert Command().now(sh("exit 127", value="exit"), AT).frame.rows() == [("", AT, 127.0)]


@pytest.mark.parametrize("value", ["up", "exit"])
def test_a_command_that_dies_of_a_signal_has_no_value(value):
    with pytest.raises(MetricsError, match="died of signal 9"):
        Command().now(sh("kill -9 $$", value=value), AT)


def test_a_label_is_read_from_every_line_of_the_performance_data():
    text = "printf 'OK - fine | a=1 b=250ms;1;2\\nmore text = 5 | c=8%%\\n'"
    assert Command().now(sh(text, value="b"), AT).frame.rows() == [('label="b"', AT, 0.25)]
    assert Command().now(sh(text, value="c"), AT).frame.rows() == [('label="c"', AT, 8.0)]
    with pytest.raises(MetricsError, match="no performance data 'text'; it has a, b, c"):
        Command().now(sh(text, value="text"), AT)


def test_a_label_without_a_value_is_no_data():
    answer = Command().now(sh("echo 'UNKNOWN: timeout'; exit 3", value="a"), AT)
    assert answer.frame.is_empty()
    assert answer.partial == "sh gave no value of 'a': UNKNOWN: timeout"


def test_arguments_are_not_read_by_a_shell():
    query = {"command": ["echo", "OK | a=$(echo 1) b=2"]}
    assert Command().now({**query, "value": "b"}, AT).frame["value"][0] == 2.0
    with pytest.raises(MetricsError, match="no performance data 'a'; it has b"):
        Command().now({**query, "value": "a"}, AT)


def test_it_sees_no_variable_but_the_ones_named(monkeypatch):
    monkeypatch.setenv("OUR_SECRET", "s3cret")
    monkeypatch.setenv("ITS_PASSWORD", "pa55")
    seen = sh('test -z "$OUR_SECRET" && test "$ITS_PASSWORD" = pa55 && test -n "$PATH" || exit 2')
    assert Command(pass_env=("ITS_PASSWORD",)).now(seen, AT).frame["value"][0] == 1.0


def test_what_it_prints_of_its_password_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("ITS_PASSWORD", "pa55word")
    answer = Command(pass_env=("ITS_PASSWORD",)).now(sh('echo "log-in with $ITS_PASSWORD failed"; exit 3'), AT)
    assert answer.partial == "sh does not know: log-in with [secret] failed"


def test_after_the_time_it_and_its_children_are_killed(tmp_path):
    began = time.monotonic()
    text = f"sleep 30 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; sleep 30"
    with pytest.raises(MetricsError, match=r"sh did not end within 0\.3 s and was killed"):
        Command(timeout_s=0.3).now(sh(text), AT)
    assert time.monotonic() - began < 2
    for name in ("child", "own"):
        pid = int((tmp_path / name).read_text())
        until(lambda pid=pid: _gone(pid))


def test_what_it_leaves_behind_is_killed_and_not_waited_for(tmp_path):
    began = time.monotonic()
    text = f"yes & echo $! > {tmp_path}/child; echo 'OK | a=1'; exit 0"
    assert Command(timeout_s=20).now(sh(text), AT).frame["value"][0] == 1.0
    assert time.monotonic() - began < 5
    until(lambda: _gone(int((tmp_path / "child").read_text())))


def _gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] == "Z"  # dead, and not yet noticed by its parent
    except OSError:
        return True


def test_a_command_that_never_stops_printing_is_ended_and_its_first_words_are_kept():
    with pytest.raises(MetricsError, match="did not end"):
        Command(timeout_s=0.3).now({"command": ["yes"]}, AT)
    text = "echo 'OK | first=1'; head -c 3000000 /dev/zero | tr '\\0' x; echo ' | last=2'"
    assert Command().now(sh(text, value="first"), AT).frame["value"][0] == 1.0


def test_a_command_that_closes_its_output_is_still_waited_for():
    assert Command().now(sh("exec >&-; sleep 0.1; exit 2"), AT).frame["value"][0] == 0.0


def test_it_runs_in_the_folder_named(tmp_path):
    (tmp_path / "here").touch()
    assert Command(folder=str(tmp_path)).now({"command": ["test", "-e", "here"]}, AT).frame["value"][0] == 1.0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("check_disk -w 10%", r"write \[check_disk"),
        ({"command": "check_disk -w 10%"}, "no list of arguments"),
        ({"command": []}, "no list of arguments"),
        ({"command": ["no-such-command-anywhere"]}, "no program 'no-such-command-anywhere'"),
        (sh("true", value=""), "value = ''"),
        (sh("true", timeout_s=-1), "timeout_s = -1"),
        (sh("true", timout_s=1), "did you mean 'timeout_s'"),
    ],
    ids=str,
)
def test_a_wrong_query_says_what_is_wrong(query, words):
    with pytest.raises(ConfigError, match=words):
        Command().now(query, AT)


def test_a_file_that_cannot_be_run_is_an_error(tmp_path):
    (tmp_path / "check").write_text("no program")
    os.chmod(tmp_path / "check", 0o755)  # noqa: PTH101
    with pytest.raises(MetricsError, match="cannot be run: Exec format error"):
        Command().now({"command": [str(tmp_path / "check")]}, AT)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("time=0.012s;1;2;0 size=1KB;;;0", {"time": 0.012, "size": 1024.0}),
        ("a=350ms b=20us c=7ns", {"a": 0.35, "b": 2e-5, "c": 7e-9}),
        ("a=1B b=2MB c=3GB d=4TB e=5MiB", {"a": 1, "b": 2 * 2**20, "c": 3 * 2**30, "d": 4 * 2**40, "e": 5 * 2**20}),
        ("err=0.08%;0.05;0.1;0;100", {"err": 0.08}),
        ("requests=12345c", {"requests": 12345.0}),
        ("'free space /'=5 'it''s'=6", {"free space /": 5.0, "it's": 6.0}),
        ("x=U;1;2", {"x": None}),
        ("x=-1.5e-3", {"x": -0.0015}),
        ("x=0,35s", {"x": 0.35}),
        ("x=;1;2 y= z=abc n=1.2.3", {}),
        ("load1=0.100;5;10;0; load5=0.050;4;6;0;", {"load1": 0.1, "load5": 0.05}),
        ("p99=0.35s;0.18;0.2;0;", {"p99": 0.35}),
        ("rta=10ms;3000,000;5000,000;0; pl=0%;80;100;;", {"rta": 0.01, "pl": 0.0}),
    ],
)
def test_performance_data_is_read_in_base_units(text, found):
    assert perfdata(text) == found
