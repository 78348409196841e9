"""Redaction, pseudonyms and the last check before something leaves."""

import json
import re
import stat
import subprocess
import sys
import time
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_lib import privacy
from feedback_lib.errors import PrivacyError
from feedback_lib.privacy import redact

KEY = b"k" * 32

REMOVED = {
    "jane.doe+spam@mail.example.org": "[email]",
    "o'brien@example.co.uk": "[email]",
    "jürgen@müller.example": "[email]",
    "请联系jane@example.org。": "请联系[email]。",
    "mailto:jane@example.org": "mailto:[email]",
    "+49 30 5550 1234": "[phone]",
    "+1 (555) 010-9999": "[phone]",
    "call (212) 555-0100 now": "call [phone] now",
    "555-123-4567": "[phone]",
    "212.555.0100": "[phone]",
    "06 12 34 56 78": "[phone]",
    "Tel.: 030/1234567": "Tel.: [phone]",
    "020 7946 0958": "[phone]",
    "phone 5550100": "phone [phone]",
    "from 203.0.113.9:8080": "from [ip]:8080",
    "net 10.0.0.0/8": "net [ip]/8",
    "2001:db8::ff00:42:8329": "[ip]",
    "fe80::1": "[ip]",
    "3c:22:fb:12:9a:07": "[mac]",
    "4111 1111 1111 1111": "[card]",
    "378282246310005": "[card]",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345": "[token]",
    "gho_0123456789abcdefghijABCDEFGHIJ012345": "[token]",
    "github_pat_11ABCDEFG0123456789_abcdefghij": "[token]",
    "sk-proj-abc123DEF456ghi789": "[token]",
    "sk-abcdefghijklmnopqrstuvwx": "[token]",
    "xoxb-123456789012-abcdefABCDEF": "[token]",
    "xoxp-123456789012-abcdefABCDEF": "[token]",
    "AKIAIOSFODNN7EXAMPLE": "[token]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-bmF0dXJl": "[token]",
    "Authorization: Bearer abc.def.ghi123": "Authorization: Bearer [token]",
    "Authorization: Basic amFuZTpwdw": "Authorization: Basic [token]",
    "curl -H 'X-Api-Key: 7f3a9c'": "curl -H 'X-Api-Key: [token]'",
    "password=hunter2, next": "password=[token], next",
    "DB_PASSWORD='two words'": "DB_PASSWORD='[token]'",
    '{"password": "hunter"}': '{"password": "[token]"}',
    "secret: correcthorse\nnext": "secret: [token]\nnext",
    "my password is Hunter22": "my password is [token]",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG": "aws_secret_access_key = [token]",
    "?key=AbC123dEf456": "?key=[token]",
    "Cookie: sid=1; theme=dark": "Cookie: [token]",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY----- after": "[token] after",
    "-----BEGIN PRIVATE KEY-----\nMIIEow cut off": "[token]",
    "/home/jane/app/main.py": "[path]/app/main.py",
    'File "/Users/jane/main.py", line 3': 'File "[path]/main.py", line 3',
    "C:\\Users\\Jane Doe\\app.log": "[path]\\app.log",
    "C:/Users/jane/app.log": "[path]/app.log",
    "/mnt/c/Users/jane/x": "[path]/x",
    "https://jane:pw@example.org/a": "https://[token]@example.org/a",
    "postgres://app:pw@db.example.org/x": "postgres://[token]@db.example.org/x",
    "see https://example.org/a?user=jane&x=1.": "see https://example.org/a?[query].",
    "https://example.org/cb#access_token=abc": "https://example.org/cb#[query]",
}
KEPT = [
    "2026-11-20T10:00:00.123456+01:00",
    "2026-11-20 10:00:00,123 +0100",
    "20.11.2026 10:00",
    "081109 203615 148 INFO dfs.DataNode",
    "version 1.2.3.4 and v10.0.0.1 and Release: 4.3.2.1",
    "1.2.3, 2.0.0-rc.1+build.5, 120.0.6099.109, 1.2.3.4.5",
    "id 550e8400-e29b-41d4-a716-446655440000, run 1554149587937, issue #1993842",
    "commit 02110870507abdeb93dfd6205c70f82145f8993c",
    "listens on 127.0.0.1:8080 and 0.0.0.0, ::1 and std::vector",
    "at 12:30:45 it took 1200 1300 1400 ms, ratio 0.5 - 0.75",
    "product key 00330-53523-17486-AAOEM",
    "4111 1111 1111 1112",
    "@handle said: pkg@1.2.3, icon@2x.png, git@github.com:org/repo.git",
    "Forgot password: cannot log in, the password is wrong, the secret is out",
    "sorted(rows, key=len); max_tokens=100; pass=12 fail=0; password=None",
    "Basic internationalization features, bearer of bad news",
    "+1 for this",
    "https://example.org/home/settings#section",
]


@pytest.mark.parametrize(("text", "expected"), REMOVED.items())
def test_what_is_personal_or_secret_is_replaced(text, expected):
    assert redact(text) == expected
    assert redact(expected) == expected


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays(text):
    assert redact(text) == text


PIECES = st.one_of(
    st.sampled_from([*REMOVED, *REMOVED.values(), *KEPT]),
    st.text(max_size=12),
    st.text("0123456789 -.:/@+()", max_size=20),
    st.text("[]emailtokn:=\"' ?#/\\", max_size=20),
    st.sampled_from([" ", "\n", "=", ":", "'", '"', "://", "@", "?", ".", "[token]", "password=", "key: ", "/home/"]),
)


@given(st.lists(st.lists(PIECES, max_size=4).map("".join), min_size=50, max_size=60))
def test_many_texts_are_redacted_as_each_of_them_is(texts):
    """What the search over all of them passes over holds nothing that a rule finds."""
    assert privacy.redact_all(texts) == [privacy.redact(text) for text in texts]


def test_each_known_case_is_found_among_many():
    for text in [*REMOVED, *KEPT]:
        assert privacy.redact_all([text, *["nothing here"] * 60]) == [privacy.redact(text), *["nothing here"] * 60]


def test_half_a_surrogate_pair_among_many_texts_costs_nothing():
    assert privacy.redact_all(["\ud800 jane@example.org", *["x"] * 60])[0] == "\ud800 [email]"


@given(st.lists(PIECES, max_size=8).map("".join))
def test_redacting_twice_equals_redacting_once(text):
    once = redact(text)
    assert redact(once) == once
    privacy.assert_anonymous(once, "text")


ADDRESSES = {
    "https://x.example/reset?token=abcd1234efgh5678&mail=jane@example.org": (
        "https://x.example/reset?token=[token]&mail=[email]"
    ),
    "https://jane:p@ss@x.example/a": "https://[token]@x.example/a",
    "https://x.example/reset-password/abcd1234efgh5678": "https://x.example/reset-password/[token]",
    "https://x.example/users/jane%40example.org/posts": "https://x.example/users/[email]/posts",
    "https://x.example/users/jane%2540example.org?page=2": "https://x.example/users/[email]?page=2",
    "https://x.example/?next=https%3A%2F%2Fy.example%2F%3Ftoken%3Dabc": (
        "https://x.example/?next=https%3A%2F%2Fy.example%2F%3Ftoken%3D[token]"
    ),
    "https://x.example/#/reset?code=123456": "https://x.example/#/reset?code=[token]",
    "https://x.example/#access_token=abc&state=open": "https://x.example/#access_token=[token]&state=open",
    "https://x.example/?abcd1234efgh5678ijkl": "https://x.example/?[token]",
    "https://x.example/?t=550e8400-e29b-41d4-a716-446655440000": "https://x.example/?t=[token]",
    "https://x.example/?user=jane&session_id=17&sig=a%2Bb": "https://x.example/?user=[query]&session_id=[token]&sig=[token]",
    "https://203.0.113.9:8443/a": "https://[ip]:8443/a",
    "mailto:jane@example.org?subject=Help": "mailto:[email]?subject=Help",
}
HARMLESS_ADDRESSES = [
    "https://x.example/?id=17",
    "https://x.example/issues?state=open&page=2&sort=created-desc&q=is%3Aissue+label%3Abug",
    "https://x.example/o/r/issues/17#issuecomment-1234567890",
    "https://x.example/o/r/commit/02110870507abdeb93dfd6205c70f82145f8993c#L10",
    "https://x.example/view?ticket_id=550e8400-e29b-41d4-a716-446655440000",
    "https://x.example/docs/how-to-reset-your-password-in-2026",
    "ticket 17",
    "",
]


@pytest.mark.parametrize(("address", "expected"), ADDRESSES.items())
def test_an_address_loses_what_is_personal_or_secret_and_keeps_the_rest(address, expected):
    assert privacy.redact_address(address) == expected
    assert privacy.redact_address(expected) == expected


@pytest.mark.parametrize("address", HARMLESS_ADDRESSES)
def test_a_harmless_address_stays_word_for_word(address):
    assert privacy.redact_address(address) == address


ADDRESS_PIECES = st.one_of(
    PIECES,
    st.sampled_from([*ADDRESSES, *ADDRESSES.values(), *HARMLESS_ADDRESSES]),
    st.sampled_from(
        ["https://", "/", "?", "&", "#", "=", "token", "id", "%40", "%25", "%2B", "+", "a1" * 8, "/reset/"]
    ),
)


@given(st.lists(ADDRESS_PIECES, max_size=8).map("".join))
def test_redacting_an_address_twice_equals_redacting_it_once(text):
    once = privacy.redact_address(text)
    assert privacy.redact_address(once) == once
    assert "jane@example.org" not in once


@given(
    st.sampled_from(["jane.doe@mail.example", "ghp_0123456789abcdefghijABCDEFGHIJ012345"]),
    st.sampled_from(["/{}", "/a/{}/b", "?{}", "?x={}", "?id={}&page=2", "#{}", "#x={}", "?next=https://y.example/{}"]),
    st.integers(0, 3),
)
def test_an_address_never_keeps_an_e_mail_address_or_a_key_however_often_it_is_encoded(planted, where, times):
    for _ in range(times):
        planted = "".join(c if c.isalnum() and times < 2 else f"%{ord(c):02X}" for c in planted)
    clean = privacy.redact_address("https://x.example" + where.format(planted))
    assert planted not in clean
    assert "doe" not in urllib.parse.unquote(urllib.parse.unquote(clean))


@pytest.mark.parametrize("piece", ["%25", "?a=", "/reset/", "https://", "&", "#a1", "=", "a1", "%2540", "+"])
def test_no_address_takes_long(piece):
    start = time.process_time()
    privacy.redact_address(f"https://x.example/{piece * (20_000 // len(piece))}")
    assert time.process_time() - start < 2


def test_an_id_with_personal_data_becomes_a_hash_of_its_own():
    ids = ["jane@example.org", "jane@example.org-1", "4111111111111111"]
    hashed = [privacy.redact_id(i) for i in ids]
    assert all(re.fullmatch("[0-9a-f]{64}", h) for h in hashed)
    assert len(set(hashed)) == 3
    assert [privacy.redact_id(h) for h in hashed] == hashed
    assert privacy.redact_id("BEACON-17") == "BEACON-17"


def test_four_numbers_of_a_version_are_no_ip_address():
    assert [privacy.redact_version(v) for v in ("4.2.1.17", "v4.2", "4.2 by jane@example.org")] == [
        *("4.2.1.17", "v4.2", "4.2 by [email]")
    ]


WORDS = st.text("noxyz", max_size=8)  # words that announce no secret
TIMES = st.datetimes().filter(lambda at: 1970 <= at.year <= 2100)


@given(WORDS, TIMES, st.sampled_from(["", "Z", "+01:00"]), WORDS)
def test_a_time_is_never_redacted(before, at, zone, after):
    for text in (
        f"{before} {at.isoformat()}{zone} {after}",
        f"{before} {at:%Y-%m-%d %H:%M:%S} {after}",
        f"[{at:%d/%b/%Y}]",
    ):
        assert redact(text) == text


@given(WORDS, st.lists(st.integers(0, 999), min_size=2, max_size=3), st.sampled_from(["", "v", "=="]))
def test_a_version_is_never_redacted(name, numbers, mark):
    text = f"{name} {mark}{'.'.join(map(str, numbers))}"
    assert redact(text) == text


@given(
    st.one_of(st.uuids().map(str), st.integers(0, 10**12).map(str), st.binary(min_size=4, max_size=32).map(bytes.hex))
)
def test_a_plain_id_is_never_redacted(native_id):
    assert redact(f"see {native_id}") == f"see {native_id}"


@pytest.mark.parametrize(
    "piece",
    [
        "a.",
        "@",
        "1 ",
        "://",
        "password=",
        "password: ",
        "::",
        "key ",
        "(0",
        "-----BEGIN A-----",
        "/home/",
        "sk-",
        "tel 1",
    ],
)
def test_no_text_takes_long(piece):
    start = time.process_time()
    redact(f"{piece * (200_000 // len(piece))}@ ?a")
    assert time.process_time() - start < 2


def test_a_pseudonym_is_stable_keyed_and_its_own():
    name = privacy.pseudonym("Jane Doe", KEY)
    assert name.startswith("anon-")
    assert len(name) == 17
    assert privacy.pseudonym(" jane doe ", KEY) == name
    assert privacy.pseudonym(name, KEY) == name
    assert privacy.pseudonym("Jane Doe", b"x" * 32) != name
    assert privacy.pseudonym("Jane Roe", KEY) != name


def test_scrub_replaces_names_keeps_plain_fields_and_redacts_the_rest():
    payload = {
        "id": "jane@example.org",
        "author": "Jane",
        "meta": {"url": "https://example.org/?u=1", "users": [{"login": "jane", "age": 3}], "note": "jane@example.org"},
        "tags": ["a", "10.0.0.1"],
        "count": 7,
        "nobody": None,
    }
    clean = privacy.scrub(payload, personal=("author", "meta.users.login"), plain=("id", "meta.url"), key=KEY)
    jane = privacy.pseudonym("jane", KEY)
    assert clean == {
        "id": "jane@example.org",
        "author": jane,
        "meta": {"url": "https://example.org/?u=1", "users": [{"login": jane, "age": 3}], "note": "[email]"},
        "tags": ["a", "[ip]"],
        "count": 7,
        "nobody": None,
    }
    assert payload["author"] == "Jane"


def test_a_personal_key_covers_everything_below_it_numbers_included():
    clean = privacy.scrub(
        {"user": {"id": 4711, "names": ["Jane", ""], "bot": False}}, personal=("user",), plain=(), key=KEY
    )
    assert clean["user"]["id"] == privacy.pseudonym("4711", KEY)
    assert clean["user"]["names"] == [privacy.pseudonym("Jane", KEY), ""]
    assert clean["user"]["bot"] is False


def test_a_starred_key_is_personal_at_any_depth_unless_it_is_plain():
    payload = {"email": "a", "x": [{"email": "b", "site": {"email": "c"}}]}
    clean = privacy.scrub(payload, personal=("*.email",), plain=("x.site.email",), key=KEY)
    assert clean["email"] == privacy.pseudonym("a", KEY)
    assert clean["x"][0]["email"] == privacy.pseudonym("b", KEY)
    assert clean["x"][0]["site"]["email"] == "c"


def test_personal_data_in_a_key_is_redacted_as_well():
    assert privacy.scrub({"jane@example.org": 1}, personal=(), plain=(), key=KEY) == {"[email]": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | PIECES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4))
def test_scrubbing_twice_equals_scrubbing_once(payload):
    rules = {"personal": ("a", "*.b"), "plain": ("c",), "key": KEY}
    once = privacy.scrub(payload, **rules)
    assert privacy.scrub(once, **rules) == once


def test_the_last_check_names_the_place_and_never_the_words():
    with pytest.raises(PrivacyError) as error:
        privacy.assert_anonymous({"rows": [{"text": "fine"}, {"text": "ask jane@example.org"}]}, "summary.json")
    assert error.value.field == "summary.json.rows.text"
    assert "jane" not in str(error.value)
    privacy.assert_anonymous({"rows": ["fine", 3, None]}, "summary.json")


def test_the_key_is_made_once_even_by_several_processes_and_only_the_owner_reads_it(tmp_path):
    folder = tmp_path / "new" / "store"
    code = f"from feedback_lib import privacy; print(privacy.load_key({str(folder)!r}).hex())"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    keys = {process.communicate(timeout=60)[0].strip() for process in running}
    assert keys == {privacy.load_key(folder).hex()}
    assert len(keys.pop()) == 64
    assert [p.name for p in folder.iterdir()] == ["pseudonym.key"]
    assert stat.S_IMODE((folder / "pseudonym.key").stat().st_mode) == 0o600


def test_a_damaged_key_is_refused_instead_of_replaced(tmp_path):
    (tmp_path / "pseudonym.key").write_bytes(b"short")
    with pytest.raises(PrivacyError, match="5 bytes instead of 32"):
        privacy.load_key(tmp_path)


def test_an_excerpt_is_one_line_of_whole_words():
    assert privacy.excerpt("a  b\nc d", words=3) == "a b c …"
    assert privacy.excerpt("a b c", words=3) == "a b c"
    assert privacy.excerpt("") == ""


@pytest.mark.slow
def test_ten_thousand_texts_a_second(reference):
    """On real support questions, with half of what one free core does as the bar."""
    import polars as pl

    bodies = pl.read_parquet(reference / "feedback" / "sumo_thunderbird_2025-09_2025-12.parquet")["body"].to_list()
    texts = [body[:300] for body in bodies]
    start = time.process_time()
    redacted = [redact(text) for text in texts]
    rate = len(texts) / (time.process_time() - start)
    assert rate > 10_000
    assert json.dumps(redacted)
