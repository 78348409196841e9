"""Examples that something else than HTTP serves."""

import shutil
from pathlib import Path

import pytest
from fake_services import TOKEN as FAKE_TOKEN
from fake_services import patient
from imap_server import ImapServer

from feedback_lib.testing import TOKEN


@pytest.fixture(autouse=True)
def _services(monkeypatch):
    """The fakes' token is there, and pauses of retries and limits are over at once."""
    monkeypatch.setenv("FAKE_TOKEN", FAKE_TOKEN)
    with patient():
        yield


@pytest.fixture(autouse=True)
def _served_example(request, tmp_path, monkeypatch):
    """Where the options of an example want a ``{port}``, its folders of mails are served there."""
    example = getattr(request.cls, "example", None)
    options = example and example / "options.json"
    if not options or "{port}" not in options.read_text("utf-8"):
        yield
        return
    folders = sorted(path for path in example.iterdir() if path.is_dir())
    mails = {f.name: [p.read_bytes().replace(b"\n", b"\r\n") for p in sorted(f.glob("*.eml"))] for f in folders}
    with ImapServer(word=TOKEN, **mails) as server:
        copy = shutil.copytree(example, tmp_path / "served")
        filled = options.read_text("utf-8").replace('"{port}"', str(server.port))
        Path(copy, "options.json").write_text(filled, "utf-8")
        monkeypatch.setattr(request.cls, "example", copy)
        yield
