"""What tool feedback may hold when it leaves, and everything it must not."""

import dataclasses
import hashlib
import hmac
import json
import os
import subprocess
import time

import pytest

from feedback_lib.errors import PrivacyError
from feedback_lib.workflows import anonymous, entries, ids, telling

SALT = bytes(range(32))


def entry(**changes):
    values = {
        "timestamp": "2026-01-11T10:30:59Z",
        "workflow_id_hash": "ab" * 16,
        "orchestrator_version": "2.6.0",
        "repo_type": "python",
        "duration_seconds": 1234,
        "phases": {"PLAN": 300, "REVIEW": 200},
        "phase0_guidance_used": True,
        "reviews_worked": None,
        "orchestrator_errors": ("orchestrator prd spawn: command not found",),
        "items_skipped": ("visual_regression_test",),
        "items_skipped_pct": 0.15,
        "confusing_items": (),
        "tool_suggestions": "Phase 0 was helpful",
        "mode": "auto",
    }
    return entries.ToolEntry(**{**values, **changes})


def sent(**changes):
    """An entry as it leaves, with fields changed afterwards, as one who tampers would."""
    return {**anonymous.wire(entry(), SALT), **changes}


def content(*wires, **changes):
    held = {"schema": 1, "installation": ids.installation(SALT), "entries": list(wires)}
    return anonymous.dumped({**held, **changes})


# Ids


def test_an_id_is_the_salted_hmac_with_128_bits_and_another_salt_gives_another():
    whole = hmac.new(SALT, b"wf_ce03679d", hashlib.sha256).hexdigest()
    assert ids.hashed(SALT, "wf_ce03679d") == whole[:32]
    assert ids.hashed(b"x" * 32, "wf_ce03679d") != whole[:32]
    assert hashlib.sha256(b"wf_ce03679d").hexdigest()[:16] not in ids.hashed(SALT, "wf_ce03679d")
    assert len(ids.hashed(SALT, "\ud800 half a character")) == 32


def test_items_and_phases_that_the_tool_does_not_ship_lose_their_names():
    assert ids.item(SALT, "visual_regression_test") == "visual_regression_test"
    own = ids.item(SALT, "terraform_plan")
    assert own.startswith("custom:")
    assert len(own) == 15
    assert ids.item(SALT, own) == own
    assert ids.item(b"x" * 32, "terraform_plan") != own
    assert ids.item(SALT, "custom:my own words") not in ("custom:my own words", own)
    assert ids.phases({"REVIEW": 1, "ACME_ROLLOUT": 2, "CUSTOM": 4}) == {"REVIEW": 1, "CUSTOM": 6}


# What leaves


def test_the_bytes_are_these_and_no_others():
    one = entry(
        phases={"PLAN": 417, "ACME_ROLLOUT": 5, "ACME_CHECK": 7},
        items_skipped=("terraform_plan",),
        orchestrator_version="v2.6.0+g4f3a9c1",
        items_skipped_pct=1 / 3,
        synced_at="2026-01-12T00:00:00Z",
    )
    assert anonymous.payload([one], SALT).decode() == (
        f'{{"schema":1,"installation":"{ids.installation(SALT)}","entries":[{{"timestamp":"2026-01-11",'
        '"workflow_id_hash":"abababababababababababababababab","orchestrator_version":"2.6.0","repo_type":"python",'
        '"duration_seconds":1200,"phases":{"PLAN":300,"CUSTOM":10},"phase0_guidance_used":true,"reviews_worked":null,'
        '"orchestrator_errors":["orchestrator prd spawn: command not found"],'
        f'"items_skipped":["{ids.item(SALT, "terraform_plan")}"],"items_skipped_pct":0.33,'
        '"confusing_items":[],"tool_suggestions":"Phase 0 was helpful","mode":"auto"}]}'
    )


@pytest.mark.thorough  # the tests of steps show what leaves
def test_of_seconds_only_a_step_leaves_that_finds_no_commits():
    """Two commits of a day lie apart by any number of seconds; one of few steps fits those of nearly everybody."""
    steps = {anonymous.rounded(seconds) for seconds in range(700_000)}
    assert len(steps) == 30
    assert all(anonymous.rounded(step) == step for step in steps)
    assert all(0 <= seconds - anonymous.rounded(seconds) <= seconds / 2 for seconds in range(20, 604_800, 7))
    near = entry(duration_seconds=1201, phases={"PLAN": 305, "REVIEW": 181}, items_skipped_pct=0.1499)
    far = entry(duration_seconds=1499, phases={"PLAN": 410, "REVIEW": 230}, items_skipped_pct=0.1501)
    assert anonymous.payload([near], SALT) == anonymous.payload([far], SALT)


def test_ids_of_one_kind_are_never_those_of_another():
    """A workflow may be called anything: its hash is neither the installation nor an item of the project's own."""
    for name in ("installation", "item terraform_plan", "terraform_plan", "", "\0item", "item"):
        assert ids.hashed(SALT, name) != ids.installation(SALT)
        assert ids.hashed(SALT, name)[:8] != ids.item(SALT, "terraform_plan").removeprefix("custom:")
    assert ids.item(SALT, "").removeprefix("custom:") != ids.installation(SALT)[:8]


def test_neither_the_salt_nor_what_it_hides_is_in_the_bytes():
    one = entry(items_skipped=("terraform_plan",), phases={"ACME": 1})
    found = anonymous.payload([one], SALT)
    for secret in (SALT, SALT.hex().encode(), b"terraform", b"ACME", b"10:30"):
        assert secret not in found


def test_nothing_is_a_payload_too():
    assert json.loads(anonymous.payload([], SALT))["entries"] == []


def test_every_field_of_an_entry_but_when_it_was_sent_leaves():
    fields = [field.name for field in dataclasses.fields(entries.ToolEntry)]
    assert list(anonymous.wire(entry(), SALT)) == [name for name in fields if name != "synced_at"]


# What must not leave: fields


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task": "Sell the company"}, ""),
        ({"repo": "github.com/acme/billing"}, ""),
        ({"synced_at": "2026-01-12T00:00:00Z"}, ""),
        ({"timestamp": "2026-01-11T10:30:59Z"}, "timestamp"),
        ({"timestamp": "2026-13-11"}, "timestamp"),
        ({"timestamp": "20260111  "}, "timestamp"),
        ({"timestamp": 20260111}, "timestamp"),
        ({"workflow_id_hash": "wf_ce03679d"}, "workflow_id_hash"),
        ({"workflow_id_hash": "ab" * 8}, "workflow_id_hash"),
        ({"workflow_id_hash": "AB" * 16}, "workflow_id_hash"),
        ({"workflow_id_hash": "ab" * 16 + "\n"}, "workflow_id_hash"),
        ({"orchestrator_version": "2.6.0+jane"}, "orchestrator_version"),
        ({"orchestrator_version": "10.0.0.12"}, "orchestrator_version"),
        ({"orchestrator_version": "jane's own"}, "orchestrator_version"),
        ({"repo_type": "cobol at Acme"}, "repo_type"),
        ({"repo_type": ["python"]}, "repo_type"),
        ({"duration_seconds": "1234"}, "duration_seconds"),
        ({"duration_seconds": 12.5}, "duration_seconds"),
        ({"duration_seconds": True}, "duration_seconds"),
        ({"duration_seconds": -1}, "duration_seconds"),
        ({"duration_seconds": 4930123456789}, "duration_seconds"),
        ({"duration_seconds": 1234}, "duration_seconds"),
        ({"phases": {"PLAN": 301}}, "phases.PLAN"),
        ({"phases": {"PLAN": {"task": "Sell the company"}}}, "phases.PLAN"),
        ({"phases": {"PLAN": "300"}}, "phases.PLAN"),
        ({"phases": {"ACME": 3}}, "phases"),
        ({"phases": ["PLAN"]}, "phases"),
        ({"phase0_guidance_used": "yes, at Acme"}, "phase0_guidance_used"),
        ({"phase0_guidance_used": 1}, "phase0_guidance_used"),
        ({"reviews_worked": {}}, "reviews_worked"),
        ({"orchestrator_errors": "one"}, "orchestrator_errors"),
        ({"orchestrator_errors": [{"text": "x"}]}, "orchestrator_errors[0]"),
        ({"orchestrator_errors": ["fine", "two\nlines"]}, "orchestrator_errors[1]"),
        ({"orchestrator_errors": ["x" * 501]}, "orchestrator_errors[0]"),
        ({"orchestrator_errors": ["x"] * 51}, "orchestrator_errors"),
        ({"items_skipped": ["terraform_plan"]}, "items_skipped[0]"),
        ({"items_skipped": ["visual_regression_test", "custom:acme"]}, "items_skipped[1]"),
        ({"items_skipped": [["visual_regression_test"]]}, "items_skipped[0]"),
        ({"items_skipped": None}, "items_skipped"),
        ({"items_skipped_pct": 1.01}, "items_skipped_pct"),
        ({"items_skipped_pct": -0.01}, "items_skipped_pct"),
        ({"items_skipped_pct": "0.15"}, "items_skipped_pct"),
        ({"items_skipped_pct": True}, "items_skipped_pct"),
        ({"items_skipped_pct": 0.1538}, "items_skipped_pct"),
        ({"confusing_items": ["Acme's own step"]}, "confusing_items[0]"),
        ({"tool_suggestions": ["x"]}, "tool_suggestions"),
        ({"tool_suggestions": None}, "tool_suggestions"),
        ({"tool_suggestions": "x" * 2001}, "tool_suggestions"),
        ({"mode": "by hand"}, "mode"),
    ],
)
def test_what_is_not_on_the_list_is_refused_by_name_and_without_repeating_it(changes, field):
    found = anonymous.entry_problem(sent(**changes))
    assert found is not None
    assert found[0] == field
    assert not any(word in "".join(found).lower() for word in ("acme", "jane", "company", "terraform"))
    with pytest.raises(PrivacyError) as told:
        anonymous.verify(content(sent(), sent(), sent(), sent(**changes)))
    assert told.value.field == (f"entries[3].{field}" if field else "entries[3]")


@pytest.mark.parametrize("field", list(anonymous.wire(entry(), SALT)))
def test_a_missing_field_is_named(field):
    short = sent()
    del short[field]
    assert anonymous.entry_problem(short) == (field, "is missing")


@pytest.mark.parametrize("value", [None, [], "x", 3, {}])
def test_what_is_no_entry_at_all_is_refused(value):
    assert anonymous.entry_problem(value) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_seconds": 0},
        {"phases": {}},
        {"duration_seconds": 604_800},
        {"phases": {"CUSTOM": 30}},
        {"items_skipped_pct": 0},
        {"items_skipped_pct": 1},
        {"items_skipped_pct": None},
        {"orchestrator_version": "unknown"},
        {"orchestrator_version": "2.6.0rc1"},
        {"orchestrator_version": "2.6.0.dev3"},
        {"orchestrator_errors": []},
        {"orchestrator_errors": ["x y " * 125]},
        {"tool_suggestions": "a b " * 500},
        {"items_skipped": ["custom:0123abcd"]},
    ],
)
def test_what_is_on_the_edge_of_the_list_may_leave(changes):
    assert anonymous.entry_problem(sent(**changes)) is None
    anonymous.verify(content(sent(**changes)))


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "payload"),
        (b"{", "payload"),
        (b"[]", "payload"),
        (b"\xff", "payload"),
        (b"[" * 100_000, "payload"),
        (content(schema=2), "schema"),
        (content(schema=True), "schema"),
        (content(installation="acme"), "installation"),
        (content(installation=None), "installation"),
        (content(entries={}), "entries"),
        (content(host="acme"), "payload"),
        (content(*[sent()] * 501), "entries"),
        (content(sent()).replace(b":1,", b": 1,", 1), "payload"),
        (content(sent()).replace(b'"mode"', b'"mode":"acme","mode"'), "payload"),
        (content(sent()).replace(b"0.15", b"NaN"), "payload"),
        (content(sent()).replace(b"Phase", b"\\u0050hase"), "payload"),
        (content(sent()) + b"\n", "payload"),
        (b"\xef\xbb\xbf" + content(sent()), "payload"),
        (content(sent(tool_suggestions="x y " * 200_000)), "payload"),
    ],
)
def test_bytes_that_hold_more_than_their_values_say_are_refused(raw, field):
    with pytest.raises(PrivacyError) as told:
        anonymous.verify(raw)
    assert told.value.field == field


# What must not leave: words

HARMLESS = [
    "",
    "Phase 0 was helpful",
    "orchestrator prd spawn: command not found",
    "visual_regression_test is skipped in 8 of 10 workflows; make it optional.",
    "The `visual_regression_test` item and `orchestrator advance --yes` are unclear",
    "Reviews took 10 minutes, e.g. the security review (item 3).",
    "Update workflow.yaml and ROADMAP.md",
    "yes/no/skipped should be and/or",
    "FileNotFoundError: no <id> on <name>",
    "KeyError: <id> at <n>",
    "TimeoutExpired: <path> timed out after <n> seconds",
    "json.decoder.JSONDecodeError: Expecting value",
    "v2.6.0 is slower than 2.5.1",
    "Great tool \N{THUMBS UP SIGN}\ufe0f – thanks! It’s fast.",
    "PLAN/EXECUTE/REVIEW order",
    "Läuft gut, größere Schritte wären schön",
    "ошибка в шаге",
    "日本語のテキスト",
    "Step 3: write tests; step 4: run them\nand then stop",
    "Please import the roadmap first, and select the item from the list",
    "ratio 3:1, it took 1:30 h",
    "review item(s) unclear",
    "Make the LEARN phase (PLAN, too) shorter; the user (me) was lost",
    "What if (as in my case) there is no UI? Then stop if (and only if) tests pass",
    "REVIEW -> VERIFY order; Phase 0 => helpful",
    "Add `--json` to `orchestrator status`, and n/a to CI/CD, A/B, client/server",
    "gpt-4 was unavailable; it returned exit code 1 (failure) on 2026-01-11",
    "Should say: 'Skipped (no UI)'. 5 > 3 and 2 < 4, $5 per run, 100%",
    "visual_regression_test/user_approval overlap",
    "Look at workflow.yaml; it fails at v2.6.0, at 2.5 s",
    "LockTimeoutError: <path>",
    "AttributeError: <id> object has no attribute <id>",
    "JavaScript and TypeScript on GitHub, PRs by ChatGPT, many LLMs and APIs",
    "feedback_sync and items_skipped_pct should be in the summary; parallel_agents_used, too",
    "UTF-8, SHA-256, ISO-8601, WF-012, CVE-2024, python-312, sha256, step-10, the top-10, phase-0, item #1",
    "post-production and non-prod checks; a dry-run of the pre-prod step",
    "about 5 minutes, ~5 of 10",
    "I am here, 3 PMs are not; item-12 of build-3, 2.5 vs. 0.125; slow\u2014but fine",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_people_say_of_a_tool_may_leave(text):
    assert telling.text_problem(text) is None


TELLING = {
    "people": [
        "jane@example.org",
        "jane @ example . org",
        "jane\uff20example\uff0eorg",
        "jane\ufe6bexample\u3002org",
        "jane\u200b@\u200bexample.org",
        "jane\u2060 is here",
        "exa\u202emple",
        "soft\u00adhyphen",
        "tags\U000e0041",
        "ja\u3164ne",
        "jane%40example.org",
        "jane%2540example%252Eorg",
        "j" + "%25" * 40 + "40x",
        "jane&#64;example.org",
        "jane\\u0040example.org",
        "jane\\x40example.org",
        "jane [at] example [dot] org",
        "jane at example dot org",
        "amFuZUBleGFtcGxlLm9yZw==",
        "written as amFuZS5kb2VAZXhhbXBsZS5vcmc",
        "ask @janedoe",
        "j\u0430ne is lost",  # a Cyrillic a
        "call 030 1234567",
        "4111 1111 1111 1111",
    ],
    "paths": [
        "/home/jane/x",
        "see /etc/passwd",
        "(/srv)",
        "C:\\Users\\jane",
        "d:/data",
        "\\\\server\\share",
        "..\\up",
        "file:///x",
        "file:x",
        "~/code",
        "~jane/code",
        "$HOME/x",
        "${HOME}",
        "%USERPROFILE%",
        "src/acme/main",
        "src/main.py",
        "billing_service/models",
        "C: \\x",
        "~jane",
        "acme/billing:1.2.3",
        "../x",
        "\u2215etc\u2215passwd",
        "[path]/billing/main",
    ],
    "hosts": [
        "https://acme.example",
        "//acme/x",
        "acme.internal is down",
        "acme\u2024internal",
        "www.acme",
        "10.0.0.12",
        "v10.0.0.12",
        "2001:db8::1",
        "localhost:8080",
        "db-prod:5432",
        "xn--caf-dma.example",
        "acme[.]example",
        "acme (dot) example",
        "acme dot com",
        "hxxps://acme[.]example",
        "s3://bucket",
        "jdbc:oracle:thin:acme",
        "jenkins-prod",
        "jane's-macbook",
        "10-0-1-23",
        "acme . com",
        "acme .com",
        "acme,com",
        "the pod billing-api-7d9f8b6c5-x2x9z",
    ],
    "tokens": [
        "ghp_" + "a" * 36,
        "sk-proj-abcdefgh12345678",
        "AKIAABCDEFGHIJKLMNOP",
        "password=hunter22",
        "commit 4f3a9c1b2d4e",
        "550e8400-e29b-41d4-a716-446655440000",
        "customer 123456789",
        "my key is abcd-efgh-1234-5678",
        "6a 61 6e 65 40 61 63 6d 65",
        "3f2b8c1e",
        "commit deadbeef",
        "DESKTOP-4F2K9QL",
        "at 0x7f3a9c0012",
        "VAT DE123456789",
        "52.5200, 13.4050",
        "0049 30 1234567",
    ],
    "numbers of a project": [
        "ACME-123",
        "on branch ACME-123-login",
        "acme-1234",
        "db01",
        "jenkins-build-03",
        "#4512",
        "PR 4512",
        "Issue #57",
        "ACME\u2011123",
        "job-12345",
    ],
    "the minute of a commit": [
        "2026-01-11T10:30:05Z",
        "on 2026-01-11 10:30:05",
        "at 14:32",
        "14h05",
        "at 2:05 pm",
    ],
    "names in code": [
        "acme_billing",
        "the module _acme_billing",
        "ACME_BILLING_URL",
        "acme\u203fbilling",
        "InvoiceReconciler",
        "HTTPInvoice2Handler",
        "invoiceReconciler",
        "AcmeBillingError: <id>",
        "invoice_" + "x" * 300,
    ],
    "code": [
        "```\nx\n```",
        "`acme_secret`",
        "an open ` backtick",
        "def price(order):",
        "async def x():",
        "class Order(Base):",
        "import os",
        "import numpy as np, os;",
        "from a import b",
        "import x from 'y'",
        "function f() {",
        "fn main() -> Order",
        "const x = 3",
        "x => x + 1",
        "(x) => y",
        "x.y()",
        "print(x)",
        "lambda x: x",
        "raise ValueError",
        "price = total",
        "{'a': 1}",
        "<?php",
        "rm -rf build",
        "foo(bar, baz)",
        "foo.bar(x)",
        "charge_card(order)",
        "if (x) { y; }",
        "return x;",
        "self.price",
        "row['price']",
        "total += 1",
        "SELECT * FROM orders",
        "select name from orders where id",
        "<div>hi</div>",
        "API_URL=x",
        "make && make install",
        "sudo reboot",
        '  File "a", line 3',
        "Traceback (most recent call last):",
        "    at com.acme.Foo.bar(Foo.java:12)",
        "main.py:12",
        "see billing.py",
        "acme.billing.core",
        "acme.errors.BillingError",
    ],
}


@pytest.mark.parametrize("text", [pytest.param(text, id=ascii(text)) for texts in TELLING.values() for text in texts])
def test_words_that_tell_something_are_refused_alone_and_in_a_sentence_and_never_repeated(text):
    for whole in (text, f"I think\n{text}\nis wrong"):
        reason = telling.text_problem(whole)
        assert reason is not None
        assert reason.startswith("holds ")
        assert "acme" not in reason
        assert "jane" not in reason
    for field, value in (("tool_suggestions", text), ("orchestrator_errors", [text])):
        with pytest.raises(PrivacyError) as told:
            anonymous.verify(content(sent(), sent(**{field: value})))
        assert told.value.field.startswith(f"entries[1].{field}")


def test_half_a_character_is_refused():
    with pytest.raises(PrivacyError) as told:
        anonymous.payload([entry(tool_suggestions="half \ud800")], SALT)
    assert told.value.field == "payload"


@pytest.mark.parametrize(
    "evil",
    [
        "a",
        "(",
        "a.",
        "/a",
        "%25",
        "a@",
        " ",
        "`",
        "\\u0041",
        "<a ",
        "{",
        "1-",
        "select ",
        "a_b",
        "f(",
        "import ",
        "a=b",
        "&#64;",
        "\u0430",
        "x:",
        "a b at ",
        "=",
        "\u2024",
        "[path]",
        "aA",
        "a-",
        "00 ",
        "ab1-",
        " . ",
    ],
)
def test_no_text_keeps_the_rules_busy(evil):
    began = time.perf_counter()
    telling.text_problem((evil * 2000)[:2000], {"acme-billing-api"})
    assert time.perf_counter() - began < 1


# Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("the acme-billing_api fails", "acme"),
        ("AcmeBilling fails", "acme-billing"),
        ("ACME BILLING fails", "acme_billing"),
        ("acmebilling fails", "acme-billing"),
        ("JANE says so", "jane"),
        ("Jan\u00e9 says so", "Jane"),
        ("\uff4a\uff41\uff4e\uff45 says so", "Jane"),
        ("jane%20doe", "Jane Doe"),
        ("on build01", "build01"),
        ("OddlyNamed fails", "oddlynamed"),
    ],
)
def test_names_of_here_are_found_in_any_case_and_inside_of_identifiers(text, name):
    assert telling.text_problem(text, {name}) == "holds a name of this repository, user or machine"
    assert telling.text_problem(text, {"other"}) != "holds a name of this repository, user or machine"
    with pytest.raises(PrivacyError) as told:
        anonymous.payload([entry(), entry(tool_suggestions=text)], SALT, {name})
    assert told.value.field == "entries[1].tool_suggestions"


@pytest.mark.parametrize("text", ["janet", "acmes", "rejane", "a fine reviewer"])
def test_a_name_inside_of_another_word_is_another_word(text):
    assert telling.text_problem(text, {"jane", "acme", "review"}) is None


@pytest.mark.parametrize("name", ["test", "root", "app", "api", "me", "x1", "42", "1234", "my-api", "plan", "...", ""])
def test_usual_and_very_short_names_tell_nothing_and_do_not_make_everything_refuse(name):
    assert not telling.telling(name)


@pytest.mark.parametrize("name", ["joe", "acme", "acme-api", "jane.doe", "billing", "Müller", "build01"])
def test_other_names_tell_something(name):
    assert telling.telling(name)


def git(folder, *args):
    subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A home and a machine that say nothing of their own."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("GITHUB_ACTOR", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "jdoe")
    (tmp_path / "home" / "janehome").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "janehome"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "storefront-xy").mkdir()
    return tmp_path / "storefront-xy"


def test_own_names_are_those_of_repository_person_user_home_and_machine(alone):
    git(alone, "init")
    git(alone, "remote", "add", "origin", "https://jane:secret-word@git.acme.example/payments/billing-core.git")
    git(alone, "remote", "add", "fork", "git@github.com:octojane/Fork.git")
    git(alone, "config", "user.name", "Jane Doe")
    git(alone, "config", "user.email", "12345+jane.doe@corp.example")
    (alone / "sub").mkdir()
    names = telling.own_names(alone / "sub")
    wanted = {"storefront-xy", "git.acme.example", "payments", "billing-core", "octojane", "Fork", "Jane", "Doe"}
    assert wanted | {"Jane Doe", "jane.doe", "corp.example", "corp", "jdoe", "janehome"} <= names
    assert not {"github.com", "secret-word", "test", "app"} & names
    for text in ("billing_core broke", "OctoJane", "ask Doe", "the Corp one"):
        assert telling.text_problem(text, names)


def test_packages_of_a_project_are_names_of_its_own(alone):
    for name, text in {
        "pyproject.toml": '[project]\nname = "invoicing-py"\n',
        "package.json": '{"name": "@shopfront/cart-ui", "version": "1.0.0"}',
        "go.mod": "module github.com/octojane/ledger\n",
        "Cargo.toml": "[package]\nname = 'till'\n",
        "setup.cfg": "[metadata]\nname = invoicing-old\n",
    }.items():
        (alone / name).write_text(text)
    for package in ("payroll", "src/vouchers", "tests"):
        (alone / package).mkdir(parents=True)
        (alone / package / "__init__.py").touch()
    names = telling.own_names(alone)
    assert {"invoicing-py", "shopfront", "cart-ui", "octojane", "ledger", "till", "invoicing-old"} <= names
    assert {"payroll", "vouchers"} <= names
    assert not {"github.com", "tests"} & names
    assert telling.text_problem("the vouchers are slow", names)


def test_a_project_file_that_is_none_keeps_nobody_waiting(alone):
    os.mkfifo(alone / "pyproject.toml")
    (alone / "package.json").mkdir()
    (alone / "go.mod").write_bytes(b"\xff" * 100_000)
    assert "storefront-xy" in telling.own_names(alone)


def test_without_git_and_without_a_remote_there_are_still_names(alone, monkeypatch):
    (alone / ".git").mkdir()
    (alone / ".git" / "config").write_text('[remote "origin"]\n\turl = git@github.com:octojane/billing.git\n')
    monkeypatch.setenv("PATH", "")
    assert {"storefront-xy", "octojane", "billing", "jdoe"} <= telling.own_names(alone)


def test_the_tool_working_on_itself_is_no_secret(alone):
    git(alone, "init")
    git(alone, "remote", "add", "origin", "https://github.com/somebody-xy/workflow-orchestrator.git")
    names = telling.own_names(alone)
    assert "workflow-orchestrator" not in names
    assert telling.text_problem("workflow-orchestrator is slow", names) is None
    assert "somebody-xy" in names
