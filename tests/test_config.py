"""params/*.yaml, their messages, and params/example.yaml."""

import dataclasses
import datetime as dt
import re
from pathlib import Path

import pytest
import yaml

from feedback_lib import config
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


def test_a_value_of_the_wrong_type_names_the_key_and_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"line 1: seed = 'many': expected int"):
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
    for name, cls, own in (("topics", TopicOptions, {"largest": LARGEST_TOPIC}), ("trends", TrendOptions, {})):
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
