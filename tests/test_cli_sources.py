"""feedback sources, init and reparse, as somebody meets them who connects a service; the services are on loopback."""

import datetime as dt
import json
import re
from pathlib import Path

import polars as pl
import pytest
import yaml
from commands import called
from fake_services import FAULTS, TOKEN, patient
from fake_services.github import REPO, Github

from feedback_lib import config, pipeline, plugins
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.store import Store

ROOT = Path(__file__).parents[1]
PARAMS = ("-f", "params/sources.yaml")
NAME = f"github:{REPO}"


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    with patient():
        yield


@pytest.fixture
def home(tmp_path):
    """An empty folder in which ``feedback init`` was called."""
    assert called("init", cwd=tmp_path).returncode == 0
    return tmp_path


def adds(service, home, *more):
    done = called(
        "sources", "add", "github", "--repo", REPO, "--url", service.url, "--token-env", "FAKE_TOKEN", *more, *PARAMS,
        cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def listed(home, *more):
    return {row["name"]: row for row in json.loads(called("sources", *PARAMS, "--json", *more, cwd=home).stdout)}


def test_from_an_empty_folder_to_signals_in_the_store(home):
    shown = called("sources", *PARAMS, cwd=home).stdout
    assert "No source is configured. Add one: feedback sources add" in shown
    with Github(20) as service:
        adds(service, home)
        assert listed(home)[NAME]["health"] == "never read"
        checked = called("sources", "check", *PARAMS, cwd=home)
        assert checked.stdout == f"ok      {NAME}  octo/hello: 20 open issues and pull requests\n"
        done = called("sources", "read", *PARAMS, cwd=home)
    assert done.returncode == 0, done.stderr
    row = listed(home)[NAME]
    assert row["health"] == "ok"
    assert row["rows"] == 19 + 5, "issues and comments"
    assert row["lag_s"] < 60
    assert re.search(rf"{NAME} +ok +20\d\d.* +24 +just now", called("sources", *PARAMS, cwd=home).stdout)
    assert called("quarantine", *PARAMS, cwd=home).stdout == "Nothing yet.\n"


def test_init_overwrites_nothing_and_stays_in_its_folder(home):
    text = (home / "params/sources.yaml").read_text("utf-8")
    done = called("init", cwd=home)
    assert (done.returncode, text) == (2, (home / "params/sources.yaml").read_text("utf-8"))
    assert "is there already and was not changed" in done.stderr
    called("init", "mine.yaml", cwd=home)
    assert config.load(home / "mine.yaml").store == str(home / "data/store")


def examples():
    text = (ROOT / "feedback_lib/templates/sources.yaml").read_text("utf-8")
    parts = re.findall(r"^#( +- kind: .*\n(?:#    .*\n)*)", text, re.MULTILINE)
    return [yaml.safe_load(part.replace("\n#", "\n"))[0] for part in parts]


def test_init_knows_every_kind_and_each_example_builds():
    found = examples()
    assert sorted(entry["kind"] for entry in found) == plugins.available("sources")
    for entry in found:
        plugins.build("sources", entry)


def test_what_an_example_says_may_stand_in_the_list(home):
    path = home / "params/sources.yaml"
    text = path.read_text("utf-8").replace("sources: []", "sources:")
    path.write_text(re.sub(r"^#(  - kind|    \w+: )", r"\1", text, flags=re.MULTILINE), "utf-8")
    assert len(config.load(path).sources) == len(examples())


def test_add_lists_kinds_and_the_options_of_one(home):
    assert re.search("^github +Issues of one repository", called("sources", "add", cwd=home).stdout, re.MULTILINE)
    listed = called("sources", "add", *PARAMS, cwd=home)  # what `feedback init` says is next
    assert (listed.returncode, listed.stdout.count("github")) == (0, 1)
    assert "feedback sources add KIND --params params/sources.yaml" in listed.stdout
    shown = called("sources", "add", "github", cwd=home).stdout
    assert shown == called("sources", "add", "github", "--help", cwd=home).stdout
    told = " ".join(shown.split())
    assert "--repo TEXT owner/name. [required]" in told
    assert "--token-env TEXT environment variable, or entry of the system's keyring, that holds the token. " in told
    assert "[default: GITHUB_TOKEN]" in told
    assert told.index("--repo") < told.index("--start")


@pytest.mark.parametrize(("kind", "rights"), [("github", True), ("workflow_log", False), ("files", False)])
def test_only_a_kind_with_a_token_speaks_of_its_rights(home, kind, rights):
    shown = called("sources", "add", kind, "--help", cwd=home).stdout
    assert ("which rights a token needs" in shown) is rights
    assert "docs/sources.md says" in shown


def test_add_says_what_is_next_and_refuses_the_same_again(home):
    done = called("sources", "add", "github", "--repo", "a/b", *PARAMS, cwd=home)
    assert "github:a/b was added" in done.stdout
    assert "Set GITHUB_TOKEN in the environment" in done.stdout
    assert "Next: feedback sources check --params params/sources.yaml" in done.stdout
    before = (home / "params/sources.yaml").read_bytes()
    again = called("sources", "add", "github", "--repo", "a/b", *PARAMS, cwd=home)
    assert again.returncode == 2
    assert "has a source github:a/b already; give this one another with --name" in again.stderr
    assert (home / "params/sources.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("githb", "--repo", "a/b"), "did you mean 'github'?"),
        (("github", "--repo", "ab"), "write owner/name"),
        (("github", "--url", "https://x.example"), "option 'repo' is missing"),
        (("github", "--repo", "a/b", "--timeout-s", "soon"), "timeout_s = 'soon'"),
        (("github", "--rpo", "a/b"), "No such option"),
        (("github", "--repo", "a/b", "--token-env", "ghp_abcdefABCDEF0123456789abcd"), "not the secret"),
        (("files", "--path", "x.csv", "--columns", "{a: [}"), "not valid YAML"),
    ],
)
def test_add_writes_nothing_that_the_plug_in_refuses(home, given, said):
    before = (home / "params/sources.yaml").read_bytes()
    done = called("sources", "add", *given, *PARAMS, cwd=home)
    assert done.returncode == 2
    assert said in done.stderr
    assert "ghp_" not in done.stdout + done.stderr
    assert (home / "params/sources.yaml").read_bytes() == before


def test_add_takes_lists_groups_and_paths_from_here(home):
    called("sources", "add", "files", "--path", "in/*.csv", "--columns", "{native_id: id}", "--name", "7", *PARAMS,
           cwd=home)  # fmt: skip
    called("sources", "add", "imap", "--host", "h.example", "--user", "u", "--password_env", "PW", "--folders", "A",
           "--folders", "B, C", "--port", "143", *PARAMS, cwd=home)  # fmt: skip
    text = yaml.safe_load((home / "params/sources.yaml").read_text("utf-8"))
    files = {"kind": "files", "path": "../in/*.csv", "columns": {"native_id": "id"}, "name": "7"}
    assert sorted(text["sources"][0].items(), key=str) == sorted(files.items(), key=str)
    assert text["sources"][1]["folders"] == ["A", "B, C"]
    assert text["sources"][1]["port"] == 143
    assert config.load(home / "params/sources.yaml").sources[0]["path"] == str(home / "in/*.csv")


def test_options_may_stand_before_the_sub_command(home):
    called("sources", *PARAMS, "add", "mbox", "--path", "a.mbox", cwd=home)
    assert list(listed(home)) == ["mbox:a"]
    assert "a.mbox" in called("sources", *PARAMS, "check", cwd=home).stdout


def test_check_says_in_one_line_each_what_is_wrong(home):
    with Github(5) as service, Github(5, fault=FAULTS["token revoked"]()) as other:
        adds(service, home)
        adds(service, home, "--name", "revoked", "--token-env", "OTHER_TOKEN")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTHER_TOKEN", "wrong-secret-91a7")
            adds(other, home, "--name", "wrong")
            called("sources", "add", "github", "--repo", "a/b", *PARAMS, cwd=home)
            path = home / "params/sources.yaml"
            text = path.read_text("utf-8").replace(
                "sinks:", "  - {kind: mbox, pth: x}\n  - {kind: github, repo: a/b}\nsinks:", 1
            )
            path.write_text(text, "utf-8")
            done = called("sources", "check", *PARAMS, cwd=home)
            shown = json.loads(called("sources", "check", "a/b", "mbox", "--json", *PARAMS, cwd=home).stdout)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert [line.split()[:2] for line in lines] == [
        ["ok", NAME], ["FAILED", "github:revoked"], ["ok", "github:wrong"], ["FAILED", "github:a/b"],
        ["FAILED", "mbox"], ["FAILED", "github:a/b"],
    ]  # fmt: skip
    assert "401" in lines[1]
    assert "GITHUB_TOKEN is not set" in lines[3]
    assert "unknown option 'pth'; did you mean 'path'?" in lines[4]
    assert "sources[3] and sources[5] are both github:a/b" in lines[5]
    assert "wrong-secret-91a7" not in done.stdout + done.stderr
    assert [row["ok"] for row in shown] == [False, False, False]


def test_check_of_a_source_that_is_not_there_names_the_nearest(home):
    called("sources", "add", "mbox", "--path", "a.mbox", *PARAMS, cwd=home)
    done = called("sources", "check", "mbx", *PARAMS, cwd=home)
    assert done.returncode == 2
    assert "did you mean 'mbox'?" in done.stderr


def test_a_plug_in_that_breaks_is_said_and_the_others_are_tried(home, monkeypatch):
    cls = plugins.get("sources", "mbox")

    def breaks(self):
        raise RuntimeError("a secret word")

    def tells(self):
        raise SourceError("github", self.origin, f"10.0.0.7 has no right for {TOKEN}")

    monkeypatch.setattr(cls, "check", breaks)
    monkeypatch.setattr(plugins.get("sources", "github"), "look", tells)
    called("sources", "add", "github", "--repo", "a/b", "--token-env", "FAKE_TOKEN", *PARAMS, cwd=home)
    called("sources", "add", "mbox", "--path", "a.mbox", *PARAMS, cwd=home)
    called("sources", "add", "post_mortems", "--folder", ".", *PARAMS, cwd=home)
    done = called("sources", "check", *PARAMS, cwd=home)
    assert "FAILED  mbox:a  its plug-in broke (RuntimeError); please report" in done.stdout
    assert "post_mortems" in done.stdout
    assert "FAILED  github:a/b  10.0.0.7 has no right for [secret]" in done.stdout
    assert "secret word" not in done.stdout + done.stderr


def test_one_that_fails_is_exit_code_1_and_goes_on_later(home):
    with Github(250, fault=FAULTS["token revoked"]()) as service:
        adds(service, home)
        done = called("sources", "read", *PARAMS, "--json", cwd=home)
        assert done.returncode == 1
        assert [row["status"] for row in json.loads(done.stdout)] == ["failed"]
        row = listed(home)[NAME]
        assert row["health"] == "failed"
        assert row["rows"] > 100
        assert row["complete_at"] is None
        assert f"\ngithub ({REPO}): " in called("sources", *PARAMS, cwd=home).stdout
        service.fault = None
        done = called("sources", "read", *PARAMS, "--source", NAME, cwd=home)
    assert done.returncode == 0, done.stderr
    assert listed(home)[NAME]["error"] is None
    assert listed(home)[NAME]["health"] == "ok"


def test_the_list_knows_what_was_stopped_is_late_or_is_gone(home):
    with Github(5) as service:
        adds(service, home)
        called("sources", "read", *PARAMS, cwd=home)
    store = Store(home / "data/store")
    row = store.read("watermarks")
    assert listed(home, "--late", "0")[NAME]["health"] == "late"
    later = row["updated_at"][0] + dt.timedelta(seconds=1)
    store.upsert("watermarks", row.with_columns(status=pl.lit("reading"), updated_at=pl.lit(later)))
    assert listed(home)[NAME]["health"] == "interrupted"
    with store.lock():
        assert listed(home)[NAME]["health"] == "reading"
    path = home / "params/sources.yaml"
    path.write_text(path.read_text("utf-8").replace("repo: octo/hello", "repo: octo/bye"), "utf-8")
    shown = called("sources", *PARAMS, cwd=home).stdout
    assert f"In the store, but not configured: {NAME} (7 rows)" in shown


def test_reparse_asks_no_service(home):
    done = called("reparse", *PARAMS, cwd=home)
    assert "no sources" in done.stderr
    with Github(20) as service:
        adds(service, home)
        assert "nothing in the store" in called("reparse", *PARAMS, cwd=home).stderr
        called("sources", "read", *PARAMS, cwd=home)
        asked = len(service.requests)
        store = Store(home / "data/store")
        signals = store.read("signals")
        store.upsert("signals", signals.with_columns(title=pl.lit("an older version's words")))
        done = called("reparse", *PARAMS, "--source", "github", cwd=home)
        assert len(service.requests) == asked
    assert done.returncode == 0, done.stderr
    assert store.read("signals")["title"].equals(signals["title"])
    assert set(store.read("watermarks")["status"]) == {"ok"}


def test_since_reads_again_and_moves_no_cursor(home):
    with Github(30) as service:
        adds(service, home)
        called("sources", "read", *PARAMS, cwd=home)
        before = Store(home / "data/store").read("watermarks")["cursor"][0]
        done = called("sources", "read", *PARAMS, "--since", "2026-01-01", "--json", cwd=home)
    assert json.loads(done.stdout)[0]["read"] > 30
    assert Store(home / "data/store").read("watermarks")["cursor"][0] == before


def test_two_sources_of_one_name_are_refused_before_anything_is_read(home):
    entries = [{"kind": "mbox", "path": "a/mail.mbox"}, {"kind": "mbox", "path": "b/mail.mbox"}]
    cfg = config.Config(sources=tuple(entries), store=str(home / "store"))
    for door in (pipeline.plan, pipeline.read, pipeline.standing):
        with pytest.raises(ConfigError, match=r"sources\[0\] and sources\[1\] are both mbox:mail .*one of them a name"):
            door(cfg)
    assert not (home / "store").exists()


def test_every_row_of_the_page_has_every_column():
    rows = [
        line for line in (ROOT / "docs/sources.md").read_text("utf-8").splitlines() if re.match(r"\| `\w+` \|", line)
    ]
    assert sorted(row.split("`")[1] for row in rows) == plugins.available("sources")
    assert {row.count(" | ") for row in rows} == {6}
