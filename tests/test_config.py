"""params/*.yaml, their messages, and params/example.yaml."""

import dataclasses
import datetime as dt
import re
from pathlib import Path

import pytest
import yaml

from feedback_lib import config, plugins
from feedback_lib.analysis.patterns import Thresholds
from feedback_lib.analysis.topics import TopicOptions
from feedback_lib.analysis.trends import TrendOptions
from feedback_lib.errors import ConfigError
from feedback_lib.pipeline import LARGEST_TOPIC

PARAMS = Path(__file__).parents[1] / "params"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, "utf-8")
    return path


def test_an_unknown_key_names_file_line_and_the_nearest_known_key(tmp_path):
    path = write(tmp_path, "product: Beacon\nsede: 7\n")
    with pytest.raises(ConfigError, match=r"run\.yaml line 2: unknown key 'sede'; did you mean 'seed'\?"):
        config.load(path)


@pytest.mark.parametrize("given", ["sources:\n", "sources:\n  kind: github\n  repo: a/b\n"])
def test_sources_that_are_no_list_say_how_to_write_one_and_repeat_nothing(tmp_path, given):
    with pytest.raises(ConfigError, match=r"line 1: sources is (empty|a group of keys): expected .* with '- '") as told:
        config.load(write(tmp_path, given))
    assert "a/b" not in str(told.value)


def test_a_value_of_the_wrong_type_names_the_key_and_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"line 1: seed = 'many': expected a whole number"):
        config.load(write(tmp_path, "seed: many\n"))


def test_a_missing_file_says_what_to_pass(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml.*Pass an existing file with --params"):
        config.load(tmp_path / "nowhere.yaml")


def test_broken_yaml_names_the_line(tmp_path):
    with pytest.raises(ConfigError, match="line 3: not valid YAML"):
        config.load(write(tmp_path, "seed: 1\nsources: [\n"))


def test_set_wins_over_the_file_and_may_be_dotted(tmp_path):
    path = write(tmp_path, "seed: 1\ntrends: {weeks: 8}\n")
    loaded = config.load(path, ["seed=5", "trends.weeks=4"])
    assert (loaded.seed, loaded.trends) == (5, {"weeks": 4})


def test_relative_paths_start_at_the_params_file(tmp_path):
    loaded = config.load(write(tmp_path, "store: here\nsources: [{kind: mbox, path: mail/a.mbox}]\n"))
    assert loaded.store == str(tmp_path / "here")
    assert loaded.sources[0]["path"] == str(tmp_path / "mail/a.mbox")


def test_an_empty_path_stays_empty(tmp_path):
    assert config.load(write(tmp_path, "sources: [{kind: github, ca: ''}]\n")).sources[0]["ca"] == ""
    loaded = config.load(write(tmp_path, "sources: [{kind: github, ca: own.pem}]\n"))
    assert loaded.sources[0]["ca"] == str(tmp_path / "own.pem")


ENTRY = {"kind": "github", "repo": "a/b", "team": ["x, y", "z: é"], "start": "2026-01-01", "note": "yes"}
BLOCK = """- kind: github
  repo: a/b
  team: ['x, y', 'z: é']
  start: '2026-01-01'
  note: 'yes'
"""
FLOW = "{kind: github, repo: a/b, team: ['x, y', 'z: é'], start: '2026-01-01', note: 'yes'}"


def indented(by):
    return "".join(" " * by + line for line in BLOCK.splitlines(keepends=True))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "sources:\n" + indented(2)),
        ("# only words", "# only words\nsources:\n" + indented(2)),
        ("seed: 1  # one\n", "seed: 1  # one\nsources:\n" + indented(2)),
        ("sources: []  # none\n# end\n", "sources:  # none\n" + indented(2) + "# end\n"),
        ("sources:\n  # - kind: mbox\nseed: 1\n", "sources:\n" + indented(2) + "  # - kind: mbox\nseed: 1\n"),
        ("sources: null\nseed: 1\n", "sources:\n" + indented(2) + "seed: 1\n"),
        ("sources: [{kind: a}, {kind: b}] # x\n", f"sources: [{{kind: a}}, {{kind: b}}, {FLOW}] # x\n"),
        ("sources: [\n  {kind: a}, # a\n]\n", f"sources: [\n  {{kind: a}}, {FLOW}, # a\n]\n"),
        ("sources:\n- kind: a  # a\n\n# then\nseed: 1\n", f"sources:\n- kind: a  # a\n{BLOCK}\n# then\nseed: 1\n"),
        (
            "sources:\n    - kind: a\n      columns:\n        b: c   # é\n    # - kind: d\nsinks: []",
            f"sources:\n    - kind: a\n      columns:\n        b: c   # é\n{indented(4)}    # - kind: d\nsinks: []",
        ),
        ("sources:\n  - kind: a", f"sources:\n  - kind: a\n{indented(2)}"),
        ("sources:\n  - {kind: a,\n     b: c}\n", "sources:\n  - {kind: a,\n     b: c}\n" + indented(2)),
        (
            "sources:\n  - kind: a\n    b: |\n      c\n\n# d\n",
            f"sources:\n  - kind: a\n    b: |\n      c\n{indented(2)}\n# d\n",
        ),
        ("sources:\n  - kind:\n      - a\n      -\n", f"sources:\n  - kind:\n      - a\n      -\n{indented(2)}"),
        ("seed: 1\r\nsources:\r\n  - kind: a\r\n", None),
    ],
)  # fmt: skip
def test_a_source_is_added_and_all_else_stays_byte_for_byte(tmp_path, before, after):
    path = tmp_path / "run.yaml"
    path.write_bytes(before.encode())
    path.chmod(0o640)
    config.add_source(path, ENTRY)
    wanted = before + indented(2).replace("\n", "\r\n") if after is None else after
    assert path.read_bytes().decode() == wanted
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        "{seed: 1}\n",
        "- a list\n",
        "sources: words\n",
        "sources: {kind: a}\n",
        "base: &b [{kind: a}]\nsources: *b\n",
        "sources:\n  - kind: a\n    b: |+\n      c\n\n",
        "seed: 1\n...\n",
    ],
)
def test_where_the_place_is_not_certain_nothing_is_written_and_the_entry_is_shown(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(
        ConfigError, match=r"run\.yaml was not changed(?s:.*)Paste this(?s:.*)- kind: github\n +repo: a/b"
    ):
        config.add_source(path, ENTRY)
    assert path.read_text("utf-8") == text


def test_a_link_to_a_params_file_stays_a_link(tmp_path):
    path = write(tmp_path, "sources: []\n")
    (tmp_path / "link.yaml").symlink_to(path)
    config.add_source(tmp_path / "link.yaml", ENTRY)
    assert (tmp_path / "link.yaml").is_symlink()
    assert "kind: github" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "github", "repo": 17}, "sources github: repo = 17: expected text; put it in quotes"),
        ({"kind": "github", "repo": "a/b", "token_env": ["X"]}, r"token_env = \['X'\]: expected text$"),
        (
            {"kind": "gitlab", "project": "a/b", "confidential": "maybe"},
            "confidential = .*: expected true or false",
        ),
        ({"kind": "imap", "host": "h", "user": "u", "password_env": "P", "folders": [1]}, "folders"),
        ({"kind": "slack", "channel": "c", "team": {"a": "b"}}, "team is a group of keys: expected a list"),
        ({"kind": "files", "path": "x", "type": "tiket"}, "did you mean 'ticket'"),
        ({"kind": "mbox", "path": "x", "team": 3}, "team"),
    ],
)
def test_an_option_of_another_type_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        plugins.build("sources", options)


def test_a_day_is_a_text_and_a_text_alone_is_a_list_of_one():
    given = {"kind": "slack", "channel": "c", "team": "U1", "start": dt.date(2026, 1, 1), "timeout_s": 3}
    built = plugins.build("sources", given)
    assert (built.team, built.start, built.timeout_s) == (("U1",), "2026-01-01", 3)


def test_a_path_may_name_an_environment_variable_with_a_default(tmp_path, monkeypatch):
    path = write(tmp_path, "store: ${SOMEWHERE:-fallback}/x\n")
    monkeypatch.delenv("SOMEWHERE", raising=False)
    assert config.load(path).store == str(tmp_path / "fallback/x")
    monkeypatch.setenv("SOMEWHERE", str(tmp_path / "set"))
    assert config.load(path).store == str(tmp_path / "set/x")


def test_an_environment_variable_without_default_must_be_set(tmp_path, monkeypatch):
    monkeypatch.delenv("SOMEWHERE", raising=False)
    with pytest.raises(ConfigError, match="SOMEWHERE is not set"):
        config.load(write(tmp_path, "store: ${SOMEWHERE}/x\n"))


@pytest.mark.parametrize("text", ["2026-11-16", dt.date(2026, 11, 16), "2026-11-16T01:00+01:00"])
def test_times_are_read_as_aware_utc(text):
    assert config.parse_time(text) == dt.datetime(2026, 11, 16, tzinfo=dt.UTC)


def test_a_time_that_is_none_is_refused_with_an_example():
    with pytest.raises(ConfigError, match="write 2026-11-16"):
        config.parse_time("next week")


def test_the_example_holds_every_key_with_its_default():
    text = (PARAMS / "example.yaml").read_text("utf-8")
    shown = yaml.safe_load(text)
    defaults = {f.name: f.default for f in dataclasses.fields(config.Config) if f.default is not dataclasses.MISSING}
    for name in defaults.keys() - {"path", "sources", "sinks"}:
        value = tuple(shown[name]) if isinstance(defaults[name], tuple) else shown[name]
        assert value == defaults[name], name
    for name, cls, own in (
        ("topics", TopicOptions, {"largest": LARGEST_TOPIC}),
        ("trends", TrendOptions, {}),
        ("workflows", Thresholds, {}),
    ):
        assert shown[name] == {f.name: f.default for f in dataclasses.fields(cls) if f.name != "seed"} | own
    assert set(shown) == {f.name for f in dataclasses.fields(config.Config)} - {"path"}


def test_every_key_of_the_example_is_explained():
    text = (PARAMS / "example.yaml").read_text("utf-8")
    for line in text.splitlines():
        if re.match(r"^( {2})?\w+:( |$)", line):
            assert "#" in line, f"no explanation: {line}"


@pytest.mark.parametrize("path", sorted(PARAMS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_params_file_loads(path):
    assert config.load(path).sources
