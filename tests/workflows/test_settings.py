"""Settings and the salt: off unless the owner says on, no to whatever cannot be read, one secret per installation."""

import concurrent.futures
import json
import os
import stat
import subprocess
import sys

import pytest

from feedback_lib.errors import ConfigError, PrivacyError
from feedback_lib.workflows import settings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv(settings.SKIP, raising=False)
    return tmp_path / "config"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def test_sending_is_off_until_someone_says_true_and_looking_makes_no_file(folder):
    assert settings.load() == settings.Settings(feedback_sync=False, feedback_endpoint="")
    assert not folder.exists()


def test_a_change_keeps_the_other_keys_and_is_readable_by_its_owner_alone(folder):
    settings.change("feedback_endpoint", "https://feedback.example.org/submit")
    settings.change("feedback_sync", "TRUE")
    assert settings.load() == settings.Settings(
        feedback_sync=True, feedback_endpoint="https://feedback.example.org/submit"
    )
    assert settings.change("feedback_sync", "false").feedback_sync is False
    assert settings.load().feedback_endpoint == "https://feedback.example.org/submit"
    assert [path.name for path in folder.iterdir()] == ["settings.json"]
    assert stat.S_IMODE((folder / "settings.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("feedback_sink", "true", "did you mean 'feedback_sync'"),
        ("colour", "red", "known: feedback_endpoint, feedback_sync"),
        ("feedback_sync", "yes", "write true or false"),
        ("feedback_sync", "", "write true or false"),
        ("feedback_endpoint", "feedback.example.org", "write an address such as"),
        ("feedback_endpoint", "ftp://feedback.example.org", "write an address such as"),
        ("feedback_endpoint", "https://feedback.example.org:99999", "write an address such as"),
        ("feedback_endpoint", "https://[::1", "write an address such as"),
        ("feedback_endpoint", "https://exa mple.org", "write an address such as"),
        ("feedback_endpoint", "https://me:secret@feedback.example.org", "user or password"),
        ("feedback_endpoint", "https://feedback.example.org/?key=1", "end it before"),
        ("feedback_endpoint", "http://feedback.example.org", "write https"),
    ],
)
def test_what_cannot_be_set_is_told_and_changes_nothing(folder, key, text, said):
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")) as told:
        settings.change(key, text)
    assert "secret" not in str(told.value)
    assert not folder.exists()


@pytest.mark.parametrize("address", ["gist", "", "http://localhost:8080", "http://127.0.0.1:1/x", "http://[::1]:8080"])
def test_a_gist_nothing_and_this_machine_itself_are_endpoints(address):
    assert settings.change("feedback_endpoint", address).feedback_endpoint == address


@pytest.mark.parametrize(
    "content",
    [
        b"feedback_sync: true",
        b'{"feedback_sync": "true"}',
        b'{"feedback_sync": 1}',
        b'{"feedback_sync": true, "feedback_sinc": true}',
        b'{"feedback_sync": true, "feedback_endpoint": "http://feedback.example.org"}',
        b'{"feedback_sync": true, "feedback_endpoint": null}',
        b'{"feedback_sync": false, "feedback_sync": true}',
        b'{"Feedback_Sync": true}',
        b"[]",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"feedback_sync": true, "x": "' + b"x" * 100_000 + b'"}',
    ],
)
def test_settings_that_are_not_quite_right_are_told_and_never_taken_for_a_yes(folder, project, content):
    folder.mkdir()
    (folder / "settings.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.json"):
        settings.load()
    with pytest.raises(ConfigError):
        settings.why_off(project)


@pytest.mark.parametrize(
    ("content", "key", "text"),
    [
        ({"feedback_sync": "maybe"}, "feedback_sync", "false"),
        ({"feedback_sync": 1, "feedback_endpoint": "gist"}, "feedback_sync", "true"),
        ({"feedback_sync": True, "feedback_endpoint": "ftp://example.org"}, "feedback_endpoint", "gist"),
        ({"feedback_sync": False, "feedback_endpoint": None}, "feedback_endpoint", ""),
    ],
)
def test_a_wrong_value_is_told_with_the_command_that_mends_it_and_that_mends_it(folder, content, key, text):
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"settings\.json: {key}.*To mend it: feedback config set {key} \S+$"):
        settings.load()
    changed = settings.change(key, text)
    assert settings.load() == changed
    kept = {name: value for name, value in content.items() if name != key}
    assert {name: getattr(changed, name) for name in kept} == kept


def test_of_two_wrong_values_one_after_the_other_is_mended_and_until_then_nothing_is_on(folder, project):
    folder.mkdir()
    (folder / "settings.json").write_text('{"feedback_sync": "on", "feedback_endpoint": 7}')
    with pytest.raises(ConfigError, match=r"feedback_sync is set, but .* set feedback_endpoint https"):
        settings.change("feedback_sync", "true")
    with pytest.raises(ConfigError, match="feedback_endpoint"):
        settings.why_off(project)
    assert settings.change("feedback_endpoint", "gist") == settings.Settings(
        feedback_sync=True, feedback_endpoint="gist"
    )


def test_a_key_that_stands_twice_is_mended_by_setting_it_and_by_no_other(folder):
    folder.mkdir()
    twice = '{"feedback_sync": false, "feedback_sync": true}'
    (folder / "settings.json").write_text(twice)
    with pytest.raises(ConfigError, match="set it anew"):
        settings.change("feedback_endpoint", "gist")
    assert (folder / "settings.json").read_text() == twice
    assert settings.change("feedback_sync", "false") == settings.load() == settings.Settings()


def test_a_key_that_nobody_knows_stays_and_is_told(folder):
    folder.mkdir()
    (folder / "settings.json").write_text('{"feedback_sinc": true}')
    with pytest.raises(ConfigError, match=r"unknown key 'feedback_sinc'; did you mean .* Take it out of the file"):
        settings.change("feedback_sync", "true")
    assert json.loads((folder / "settings.json").read_text())["feedback_sinc"] is True


def test_a_yes_that_others_may_have_written_is_none(folder, project):
    settings.change("feedback_sync", "true")
    assert settings.load().feedback_sync
    (folder / "settings.json").chmod(0o646)
    with pytest.raises(ConfigError, match="Others can write it"):
        settings.why_off(project)


def test_a_byte_order_mark_of_an_editor_does_not_matter(folder):
    folder.mkdir()
    (folder / "settings.json").write_bytes(b'\xef\xbb\xbf{"feedback_sync": true}\r\n')
    assert settings.load().feedback_sync is True


def test_of_two_changes_at_once_neither_is_lost(folder):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            told = pool.map(settings.change, ("feedback_sync", "feedback_endpoint"), ("true", "gist"))
            assert len(list(told)) == 2
            assert settings.load() == settings.Settings(feedback_sync=True, feedback_endpoint="gist")
            (folder / "settings.json").unlink()


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEEDBACK_CONFIG", str(tmp_path / "file"))
    for act in (lambda: settings.change("feedback_sync", "true"), settings.salt):
        with pytest.raises(ConfigError, match=r"Not a directory|File exists"):
            act()


def test_the_salt_is_made_once_even_by_several_processes_and_only_its_owner_reads_it(folder):
    code = "from feedback_lib.workflows import settings; print(settings.salt().hex())"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    made = {process.communicate(timeout=60)[0].strip() for process in running}
    assert made == {settings.salt().hex()}
    assert len(made.pop()) == 64
    assert stat.S_IMODE((folder / "salt").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["salt"]


@pytest.mark.parametrize("size", [0, 16, 33])
def test_a_damaged_salt_is_refused_instead_of_replaced(folder, size):
    settings.salt()
    (folder / "salt").write_bytes(b"s" * size)
    with pytest.raises(PrivacyError, match=f"salt: has {size} bytes instead of 32"):
        settings.salt()
    assert (folder / "salt").read_bytes() == b"s" * size


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
@pytest.mark.parametrize("rights", [0o644, 0o640, 0o604])
def test_a_salt_that_others_can_read_is_no_secret(folder, rights):
    settings.salt()
    (folder / "salt").chmod(rights)
    with pytest.raises(PrivacyError, match="chmod 600"):
        settings.salt()


def agree():
    settings.change("feedback_sync", "true")


def test_all_agree_or_it_is_off_and_says_why(project, monkeypatch):
    assert "feedback config set feedback_sync true" in settings.why_off(project)
    agree()
    assert settings.why_off(project) is None
    monkeypatch.setenv(settings.SKIP, "1")
    assert settings.SKIP in settings.why_off(project)
    monkeypatch.setenv(settings.SKIP, "0")
    assert settings.why_off(project) is None


@pytest.mark.parametrize(
    ("content", "off"),
    [
        (b"feedback_sync: false\n", True),
        (b"\xef\xbb\xbffeedback_sync: no\r\n", True),
        (b'feedback_sync: "false"\n', True),
        (b"feedback_sync:\n", True),
        (b"feedback_sync: 1\n", True),
        (b"feedback_sync: [true\n", True),
        (b"\xff\xfe\x00", True),
        (b"- feedback_sync\n", True),
        (b"x: " + b"x" * 100_000, True),
        (b"feedback_sync: false\nfeedback_sync: true\n", True),
        (b"Feedback_Sync: false\n", True),
        (b"feedback-sync: no\n", True),
        (b"FEEDBACKSYNC: off\n", True),
        (b"feedback_sync: true\nfeedback-sync: false\n", True),
        (b"feedback:\n  sync: false\n", True),
        (b"feedback:\n  feedback_sync: true\n  sync: false\n", True),
        (b"feedback: off\n", True),
        (b"a: 1\n---\nfeedback_sync: false\n", True),
        (b"base: &b {feedback_sync: false}\n<<: *b\n", True),
        (b"feedback_sync: true\n", False),
        (b"feedback:\n  sync: true\n  mode: auto\n", False),
        (b"feedback: true\n", False),
        (b"feedback: docs/feedback.md\n", False),
        (b"mode: strict\n", False),
        (b"# nothing yet\n", False),
        (b"", False),
    ],
)
def test_a_repository_says_no_for_everybody_in_it_and_what_cannot_be_read_may_say_no(project, content, off):
    agree()
    (project / ".orchestrator").mkdir()
    (project / ".orchestrator" / "config.yaml").write_bytes(content)
    said = settings.why_off(project)
    assert (said is not None) is off
    if off:
        assert "config.yaml" in said


def test_a_no_counts_with_the_other_ending_of_the_file_too(project):
    agree()
    (project / ".orchestrator").mkdir()
    (project / ".orchestrator" / "config.yaml").write_text("mode: strict\n")
    assert settings.why_off(project) is None
    (project / ".orchestrator" / "config.yml").write_text("feedback_sync: false\n")
    assert "config.yml" in settings.why_off(project)


def test_what_is_no_file_keeps_nobody_waiting(folder, project):
    agree()
    (project / ".orchestrator").mkdir()
    os.mkfifo(project / ".orchestrator" / "config.yaml")
    assert "cannot be read" in settings.why_off(project)
    (folder / "settings.json").unlink()
    os.mkfifo(folder / "settings.json")
    with pytest.raises(ConfigError, match="Is no file"):
        settings.load()


def test_a_repository_cannot_say_yes_for_its_user(project):
    (project / ".orchestrator").mkdir()
    (project / ".orchestrator" / "config.yaml").write_text("feedback_sync: true\n")
    assert "feedback config set" in settings.why_off(project)


def test_the_no_at_the_root_of_a_repository_holds_below_and_that_of_a_folder_around_it_does_not(tmp_path, project):
    agree()
    (project / ".git").mkdir()
    below = project / "packages" / "one"
    below.mkdir(parents=True)
    (tmp_path / ".orchestrator").mkdir()
    (tmp_path / ".orchestrator" / "config.yaml").write_text("feedback_sync: false\n")
    assert settings.why_off(below) is None
    (project / ".orchestrator").mkdir()
    (project / ".orchestrator" / "config.yaml").write_text("feedback_sync: false\n")
    assert "feedback_sync: false" in settings.why_off(below)


def test_the_file_of_settings_is_json_with_all_keys(folder):
    agree()
    assert json.loads((folder / "settings.json").read_text()) == {"feedback_sync": True, "feedback_endpoint": ""}
