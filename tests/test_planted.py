"""A secret planted in the environment, services that repeat it, and a search for it in all that is written."""

import dataclasses
import imaplib
import io
import json
import logging
import re
import time
import traceback
from pathlib import Path

import polars as pl
import pytest
import yaml
from commands import called
from fake_services import TOKEN, UNTIL, Answer, Fault, kinds, patient, service
from imap_server import USER, WORD, ImapServer, message, says
from imap_server import Fault as MailFault

from feedback_lib import plugins, wire
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.ingest import gather
from feedback_lib.store import Store

ROOT = Path(__file__).parents[1]
ELSEWHERE = f"https://{TOKEN}.example/{TOKEN}?private_token={TOKEN}"


@pytest.fixture(autouse=True)
def _planted(monkeypatch):
    monkeypatch.setenv("FAKE_TOKEN", TOKEN)
    monkeypatch.setenv("MAIL_PASSWORD", WORD)
    with patient():
        yield


@pytest.fixture
def written():
    """All that any logger writes, however it was set, with tracebacks and extra fields."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.format = lambda record: f"{logging.Formatter().format(record)} {record.__dict__}"
    names = [None, *wire.CHATTY.split(), "httpcore", "hpack", "h2", "asyncio", "concurrent.futures", "feedback_lib"]
    levels = [(logger := logging.getLogger(name), logger.level) for name in names]
    for logger, _ in levels:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)
    for logger, level in levels:
        logger.setLevel(level)


def told(service):
    """What the service repeats: the token, and each credential as it came."""
    names = ("authorization", "private-token", "api-key", "user-api-key")
    sent = {request.headers.get(name, "").rpartition(" ")[2] for request in service.requests for name in names}
    return " ".join(sorted({TOKEN, *sent} - {""}))


def stored(folder):
    """Every row of every table, and every byte that is no table, as text."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            parts.append(pl.read_parquet(path, hive_partitioning=False).write_ndjson())
        elif path.is_file():
            parts.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(parts)


def shown(error):
    """Whatever anybody can print of an error and of those it came from."""
    parts = [*traceback.format_exception(error)]
    while error is not None:
        parts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def _error(service, status=401, **headers):
    """An error in the shapes that services give theirs, all of them with what was sent."""
    words = f"The credentials {told(service)} are not valid."
    one = {"message": words, "reason": words, "text": words, "type": "FATAL", "extensions": {"code": words}}
    error = {**one, "root_cause": [one]}
    body = {**one, "error": error, "errors": [one], "errorMessages": [words], "messages": [one], "needed": words}
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def _slack(service, request, fault):
    return Answer({"ok": False, "error": told(service), "needed": told(service), "error_description": told(service)})


def _elsewhere(service, request, fault):
    """A page that goes on at another host, with the token in the address."""
    link = {"Link": f'<{ELSEWHERE}>; rel="next"', "X-Next-Page": TOKEN, "X-Echo": told(service)}
    return dataclasses.replace(service.answer(request), headers=link)


FAULTS = {
    "401": lambda service, *_: _error(service, WWW_Authenticate=told(service), X_Seraph_Loginreason=told(service)),
    "403": lambda service, *_: _error(service, 403, Retry_After=TOKEN, X_RateLimit_Reset=TOKEN),
    "400": lambda service, *_: _error(service, 400),
    "200, an error": lambda service, *_: _error(service, 200),
    "200, not ok": _slack,
    "404": lambda service, *_: _error(service, 404),
    "302": lambda service, *_: Answer(None, 302, {"Location": ELSEWHERE}),
    "HTML": lambda service, *_: Answer(
        f"<pre>Authorization: {told(service)}</pre>".encode(), 200, {"Content-Type": f"text/{TOKEN}"}
    ),
    "next elsewhere": _elsewhere,
}


def _repeats(cls):
    """The service, with what was sent in the words of its items."""

    class Repeats(cls):
        def answer(self, request):
            answer = super().answer(request)
            body, repeated = re.subn(rb" (?=is slow|minutes|failed|takes)", f" {told(self)} ".encode(), answer.bytes())
            self.repeated = repeated or getattr(self, "repeated", 0)
            return dataclasses.replace(answer, body=body)

    return Repeats


def read(source, store, written):
    """Read it into the store."""
    (result,) = gather(
        [(source.kind, source)], store, since=None, until=UNTIL, fetched_at=UNTIL, run_id="r1",
        progress=lambda line: print(line, file=written),
    )  # fmt: skip
    print(result, repr(source), file=written)
    return result


def asked(source, written):
    """Check it and read it; whether it failed."""
    for ask in (source.check, lambda: list(source.fetch(None, UNTIL, None))):
        try:
            print(ask(), file=written)
        except SourceError as error:
            failed = error
            print(shown(error), file=written)
            logging.getLogger("probe").exception("failed")
        else:
            failed = None
    return failed is not None


@pytest.mark.parametrize("kind", kinds())
def test_a_token_that_a_service_repeats_is_written_nowhere(kind, tmp_path, written):
    store, failed = Store(tmp_path / "store"), set()
    with _repeats(service(kind))(count=20, limit=2000) as there:
        source = there.source()
        assert read(source, store, written).status == "ok"
        assert there.repeated
        secrets = told(there).split()
        for name, act in FAULTS.items():
            there.fault = Fault(act, page=0, left=40)
            failed |= {name} if asked(source, written) else set()
        there.fault = Fault(FAULTS["400"], page=0, left=40)
        assert read(source, store, written).status == "failed"
        print(repr(source.client), repr(source.client.ask), file=written)
    assert failed >= {"401", "302", "400", "HTML"}
    for text in (written.getvalue(), stored(store.path)):
        assert "[token]" in text
        assert [secret for secret in secrets if secret in text] == []


def test_the_password_of_a_mailbox_is_written_nowhere(tmp_path, written, monkeypatch, capfd):
    monkeypatch.setattr(imaplib, "Debug", 5)
    store, words = Store(tmp_path / "store"), f"My password {WORD} does not work."
    base64 = {"Content_Transfer_Encoding": "base64", "Content_Type": "text/plain; charset=utf-8"}
    inbox = [message(1, words), message(2, "TXkgcGFzc3dvcmQgcCJzc1x3w7ZyZC01ZjJkIQ==", Subject=words, **base64)]
    with ImapServer(INBOX=inbox) as server:
        given = {"host": "127.0.0.1", "port": server.port, "tls": "none", "user": USER, "password_env": "MAIL_PASSWORD"}
        source = plugins.build("sources", {"kind": "imap", **given})
        assert read(source, store, written).read == 2
        for at in ("AUTHENTICATE", "EXAMINE", "UID SEARCH", "UID FETCH"):
            for line in (f"NO [ALERT] {USER} {WORD}", f"BYE {WORD}", WORD):
                server.fault = MailFault(at, says(line), left=20)
                assert asked(source, written) or at == "UID FETCH"
        server.fault = MailFault("EXAMINE", says(f"NO [ALERT] {WORD}"), left=20)
        assert read(source, store, written).status == "failed"
    for text in (written.getvalue(), stored(store.path), "".join(capfd.readouterr())):
        assert WORD not in text
        assert json.dumps(WORD)[1:-1] not in text
    assert "My password [token] does not work." in stored(store.path)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_whole_run_writes_the_token_nowhere(tmp_path, cache):
    began = time.time()
    with (
        _repeats(service("github"))(count=60) as fine,
        service("gitlab")(fault=Fault(FAULTS["401"], left=40)) as broken,
    ):
        given = {
            "store": "../store", "reports": "../reports", "notebooks": ["signal_report"], "sources": [
                {"kind": one.kind, **one.options()} for one in (fine, broken)
            ], "notebook_folder": str(ROOT / "notebooks"), "sinks": [{"kind": "file", "folder": "../outbox"}],
        }  # fmt: skip
        (tmp_path / "params").mkdir()
        (tmp_path / "params" / "weekly.yaml").write_text(yaml.safe_dump(given), "utf-8")
        done = called(
            "--verbose", "report", "weekly", "--params", "params/weekly.yaml", "--as-of", "2026-03-01", cwd=tmp_path
        )
        secrets = told(fine).split() + told(broken).split()
    assert done.returncode == 1, done.stderr
    assert fine.repeated
    assert "answered 401" in done.stdout + stored(tmp_path)
    new = [path for path in cache.rglob("*") if path.is_file() and path.stat().st_mtime >= began]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "signal_report.ipynb", "signal_report.html"} <= {path.name for path in files}
    assert "[token]" in stored(tmp_path / "store")
    for secret in secrets:
        assert secret not in done.stdout + done.stderr + stored(tmp_path / "store")
        assert [path for path in files + new if secret.encode() in path.read_bytes()] == []


# people

NAME, MAIL, PHONE, FACE = "Planted Person", "planted@person.example", "+49 30 5550 9999", "planted-face"
ABOUT = {  # what services tell of a person beside what tells people apart
    **dict.fromkeys(("name", "displayName", "display_name", "real_name", "full_name", "display_username"), NAME),
    **dict.fromkeys(("email", "emailAddress", "public_email", "mail"), MAIL),
    **dict.fromkeys(("avatar_url", "avatar", "avatar_template", "image", "iconUrl", "html_url", "web_url"), FACE),
    **{key: {"48x48": FACE} for key in ("avatarUrls", "photo")},
    **dict.fromkeys(("phone", "mobile", "phone_number"), PHONE),
    **{key: {"real_name": NAME, "email": MAIL, "image_72": FACE} for key in ("user_profile", "profile", "person")},
}
TELLS_APART = ("login", "username", "accountId", "requester_id", "author_id", "emailAddress")
SAID = "@planted-login and cc @Planted-Login: `@Test` is slow."
WHO = {"login": "planted-login", "username": "planted-login", **ABOUT}
MORE = {  # what a row has at one of its keys: the kind, the key that only rows have, and what else
    "github": ("labels_url", {"milestone": {"title": "4.2", "creator": WHO}, "body": SAID, "title": SAID}),
    "gitlab": ("iid", {"milestone": {"title": "4.2"}, "assignee": WHO, "description": SAID, "title": SAID}),
    "linear": ("creator", {"description": f"{SAID} [Planted Person](https://linear.app/octo/profiles/planted-login)"}),
    "zendesk": ("subject", {"satisfaction_rating": {"score": "bad", "comment": "Slow", "name": NAME, "email": MAIL}}),
    "jira": ("labels", {"components": [{"name": "api", "lead": {"displayName": NAME, "accountId": "planted-login"}}]}),
    "notion": ("Name", {"Checked": {"type": "verification", "verification": {
        "state": "verified", "date": None, "verified_by": {"object": "user", "id": "u", "name": NAME}}}}),
}  # fmt: skip


def _with_people(value, kind):
    if isinstance(value, list):
        return [_with_people(one, kind) for one in value]
    if not isinstance(value, dict):
        return value
    made = {name: _with_people(one, kind) for name, one in value.items()}
    typed = value.get("object") == "user" or value.get("type") in ("user", "admin", "lead", "contact")
    if typed or any(name in value for name in TELLS_APART) or str(value.get("user")).startswith("U0"):
        made = {**ABOUT, **made} if "html_url" in made or "user" in made else {**made, **ABOUT}
    key, more = MORE.get(kind, ("", {}))
    return made | more if key in value else made


@pytest.mark.parametrize("kind", kinds())
def test_no_name_address_or_face_of_a_person_is_stored(kind, tmp_path, written):
    class Tells(service(kind)):
        def answer(self, request):
            answer = super().answer(request)
            body = answer.body if isinstance(answer.body, bytes) else _with_people(answer.body, self.kind)
            return dataclasses.replace(answer, body=body)

    store = Store(tmp_path / "store")
    with Tells(count=30) as there:
        assert read(there.source(), store, written).status == "ok"
    text = stored(store.path)
    for planted in (NAME, MAIL, PHONE, FACE, "planted-login", "Planted-Login"):
        assert planted not in text + written.getvalue(), [line for line in text.split("\n") if planted in line][:1]
    for table in ("signals", "replies"):
        if store.version(table) is not None:
            authors = [one for one in store.read(table)["author"] if one]
            assert all(re.fullmatch("anon-[0-9a-f]{12}", one) for one in authors)


# params


@pytest.mark.parametrize("pasted", ["ghp_0123456789abcdefABCDEF0123456789abcd", "hunter2", "pass word", 12345678])
@pytest.mark.parametrize(
    ("family", "given", "option"),
    [
        ("sources", {"kind": "github", "repo": "octo/hello"}, "token_env"),
        ("sources", {"kind": "imap", "host": "127.0.0.1", "user": "me"}, "password_env"),
        ("sinks", {"kind": "webhook"}, "url_env"),
    ],
)
def test_a_secret_pasted_in_the_place_of_its_name_is_refused_and_not_repeated(family, given, option, pasted):
    with pytest.raises(ConfigError, match=f"{option} is no name of an environment variable") as caught:
        plugins.build(family, {**given, option: pasted})
    assert str(pasted) not in str(caught.value)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="proxy holds a password") as caught:
        plugins.build("sources", {"kind": "github", "repo": "a/b", "proxy": f"http://me:{TOKEN}@proxy.example:3128"})
    assert TOKEN not in str(caught.value)
