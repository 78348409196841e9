"""What every test gets: no network but this machine, a shared cache, the reference data when it is there."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = Path(os.environ.get("FEEDBACK_REFERENCE_DATA") or ROOT / "../shared/reference").resolve()

collect_ignore = ["data"]
pytest.register_assert_rewrite("feedback_lib.testing")

if sys.dont_write_bytecode:
    # where Python is told to keep no bytecode (many containers), every process a test starts would compile all its
    # imports again, a third of the run; it is kept with the environment instead, and no __pycache__ appears in the tree
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(sys.prefix) / "pycache"))
    sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]


# The files that take more than six seconds of one core, in the order they start: `weekly_topics` and `faults` need no
# model, so that two workers that start side by side do not both embed the sample.
LONG = (
    "pipeline", "weekly_topics", "faults", "readme", "dashboard", "benchmarks", "thunderbird", "notebooks", "pages",
    "watch", "whats_new", "labelling", "monitor", "collector", "store", "runner", "export", "ingest", "encoders",
    "review", "suggest", "whats_new_browser", "report", "topics", "cli", "regressions", "cli_monitor", "trends",
    "trends_kinds", "triage", "sync", "slo",
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """Long files first, then notebooks, so that the last are short and end together; thorough ones only in CI."""
    if os.environ.get("CI") != "true":
        left = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    place = {f"test_{name}.py": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG) + (item.path.suffix != ".ipynb")))


def _is_here(address) -> bool:
    """Whether a socket address stays on this machine: a path, or a loopback host."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _guarded(name: str):
    real = getattr(socket.socket, name)

    def guard(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address):
            raise RuntimeError(f"a test went off this machine: {name} to {address!r}")
        return real(self, address, *rest)

    return guard


def _looked_up(host, *rest, _real=socket.getaddrinfo, **options):
    if not _is_here((host.decode() if isinstance(host, bytes) else host or "",)):
        raise RuntimeError(f"a test went off this machine: it looked up {host!r}")
    return _real(host, *rest, **options)


@pytest.fixture(scope="session", autouse=True)
def _only_this_machine():
    """A connection or look-up that leaves the machine fails, with the address it wanted."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(name))
        patch.setattr(socket, "getaddrinfo", _looked_up)
        yield


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """The folder of models and embeddings, shared by the workers of one test run unless FEEDBACK_CACHE names one."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(os.environ.get("FEEDBACK_CACHE") or shared / "feedback-cache")
        patch.setenv("FEEDBACK_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _settings_of_nobody(tmp_path_factory):
    """The settings, salt and history of whoever runs the tests are neither read nor made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDBACK_CONFIG", str(tmp_path_factory.mktemp("settings")))
        patch.delenv("ORCHESTRATOR_SKIP_FEEDBACK", raising=False)
        yield


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of real inputs (FEEDBACK_REFERENCE_DATA, default ../shared/reference); without it the test skips."""
    if not REFERENCE.is_dir():
        pytest.skip(
            f"no reference data: {REFERENCE} is not a folder. The real inputs belong to others, so they cannot be "
            "committed and the test skips in CI too; name a folder that holds them in FEEDBACK_REFERENCE_DATA"
        )
    return REFERENCE


def needed(what: str, *names: str) -> Path:
    """A program a test needs, by the first of its names that is installed; in CI a missing one fails the test."""
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    message = f"{what} is not installed ({' or '.join(names)}); .ci/run installs it on Debian"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def chromium() -> tuple[Path, Path]:
    """Chromium and its driver."""
    browser = needed("Chromium", "chromium", "chromium-browser", "google-chrome")
    return browser, needed("Chromium's driver", "chromedriver")
