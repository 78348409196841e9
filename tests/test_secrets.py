"""Where secrets are found: the environment, then the system's keyring, here one in memory."""

import subprocess
import sys

import keyring
import keyring.backend
import keyring.errors
import pytest

from feedback_lib.errors import ConfigError
from feedback_lib.transport import secret

KEY = "planted-key-7f3a9c"


class InMemory(keyring.backend.KeyringBackend):
    priority = 1

    def __init__(self, failure=None):
        super().__init__()
        self.kept, self.asked, self.failure = {}, [], failure

    def get_password(self, service, username):
        self.asked.append(username)
        if self.failure:
            raise self.failure
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password


@pytest.fixture
def use(monkeypatch):
    monkeypatch.delenv("PROBE_KEY", raising=False)
    before = keyring.get_keyring()

    def set_up(backend):
        keyring.set_keyring(backend)
        return backend

    yield set_up
    keyring.set_keyring(before)


def test_a_secret_is_found_in_the_keyring_under_the_name_of_its_variable(use):
    use(InMemory())
    keyring.set_password("feedback-workbench", "PROBE_KEY", f"{KEY}\n")
    keyring.set_password("elsewhere", "OTHER_KEY", KEY)
    assert secret("PROBE_KEY", "probe") == KEY
    with pytest.raises(ConfigError, match="environment variable OTHER_KEY is not set"):
        secret("OTHER_KEY", "probe")


def test_the_environment_comes_first_and_the_keyring_is_not_asked(use, monkeypatch):
    held = use(InMemory())
    keyring.set_password("feedback-workbench", "PROBE_KEY", "old")
    monkeypatch.setenv("PROBE_KEY", KEY)
    assert (secret("PROBE_KEY", "probe"), held.asked) == (KEY, [])
    monkeypatch.setenv("PROBE_KEY", "")
    assert secret("PROBE_KEY", "probe") == "old"


@pytest.mark.parametrize(
    "failure",
    [None, *(error(KEY) for error in (keyring.errors.NoKeyringError, keyring.errors.KeyringLocked))],
)
def test_without_either_the_message_says_how_to_set_both(use, failure):
    use(InMemory(failure))
    with pytest.raises(ConfigError) as caught:
        secret("PROBE_KEY", "probe")
    assert str(caught.value) == (
        "probe: environment variable PROBE_KEY is not set; it should hold the credentials, or keep them in the "
        "system's keyring: keyring set feedback-workbench PROBE_KEY"
    )


@pytest.mark.parametrize(
    "pasted",
    [
        "ghp_0123456789abcdefABCDEF0123456789abcd",
        "github_pat_11ABCDEFG0123456789_abcdefghij",
        "glpat-0123456789abcdefghij",
        "xoxb-123456789012-abcdefGHIJKL",
        "lin_api_0123456789abcdefABCDEF0123456789abcd",
        "ntn_0123456789abcdefABCDEF",
        "6wiIBWbGkBMo1mRDMuVwkw1EPsNkeUj95PIz2akv",
        "dG9rOjEyMzQ1Njc4OTBhYmNkZWY=",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "hunter2",
        "pass word",
        "ATATT3xFfGF0abcdefghijklmnop=1A2B3C4D",
    ],
)
def test_a_secret_in_the_place_of_a_name_is_refused_and_not_repeated(use, pasted):
    use(InMemory())
    with pytest.raises(ConfigError, match="write the variable's name") as caught:
        secret(pasted, "probe")
    assert pasted not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["GITHUB_TOKEN", "MY_2ND_KEY", "_KEY", "jira_token", "PASSWORD", "OAUTH2_CLIENT_SECRET"]
)
def test_usual_names_are_names(use, monkeypatch, name):
    use(InMemory())
    monkeypatch.setenv(name, KEY)
    assert secret(name, "probe") == KEY


def test_the_package_is_optional_and_loaded_only_when_it_is_needed():
    program = """
import os, sys
import feedback_lib.transport as transport
assert "keyring" not in sys.modules
os.environ["PROBE_KEY"] = "set"
assert transport.secret("PROBE_KEY", "probe") == "set"
assert "keyring" not in sys.modules
sys.modules["keyring"] = None  # what import finds where it is not installed
del os.environ["PROBE_KEY"]
try:
    transport.secret("PROBE_KEY", "probe")
except transport.ConfigError:
    print("fine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")
