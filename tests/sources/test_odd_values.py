"""One odd value costs its own item: the others load, and the odd one is quarantined with the reason."""

import datetime as dt
import gc
import json
import os

import polars as pl
import pytest

from feedback_lib import ingest, plugins, privacy, records
from feedback_lib.records import Item, Rejected
from feedback_lib.store import Store

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    """What other tests left behind is not finalised in the depth of a recursion, where finalising fails."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def gathered(tmp_path, kind, **options):
    """What a run stored: the signals, and where and why items were quarantined."""
    source = plugins.build("sources", {"kind": kind, "name": "odd", **options})
    store = Store(tmp_path / "store")
    (result,) = ingest.gather([(kind, source)], store, since=None, until=END, fetched_at=END, run_id="r1")
    assert result.status == "ok", result.error
    refused = dict(store.read("quarantine").select("where", "reason").iter_rows())
    assert result.rejected == len(refused)
    raw = store.read("raw")
    assert set(store.read("signals")["uid"]) <= set(raw["uid"])
    for payload in raw["payload"]:
        json.loads(payload, parse_constant=pytest.fail)
    return store.read("signals").sort("native_id"), refused


def row(native_id, created_at="2026-03-01T12:00:00Z", **more):
    return {"native_id": native_id, "created_at": created_at, "title": "It is slow", **more}


ODD_FIELDS = {
    "a count larger than 64 bits": {"reactions": 10**20},
    "a count larger than 64 bits in words": {"thread_count": "1e300"},
    "a count just too large": {"reactions": 2**63},
    "a count just too small": {"reactions": -(2**64)},
    "an infinite rating in words": {"rating": "inf"},
    "the first day of .NET": {"created_at": "0001-01-01T00:00:00Z"},
    "a year after those of any export": {"created_at": "9999-12-31T23:59:59Z"},
    "before 1970": {"created_at": "1969-12-31T23:59:59Z"},
    "after 2199": {"updated_at": "2200-01-01T00:00:00Z"},
    "microseconds read as nanoseconds": {"updated_at": 17_723_664_000_000_000_000},
    "an odd closing time": {"closed_at": "0001-01-01T00:00:00Z"},
    "an odd first answer": {"first_response_at": "9999-12-31T00:00:00Z"},
    "labels nested without end": {"labels": "[" * 5000},
}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
def test_an_odd_field_of_an_export_costs_its_row_only(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    odd = [row(name, **fields) for name, fields in ODD_FIELDS.items()]
    rows = [row("first"), *odd, row("last", reactions=None, updated_at=None)]
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    else:
        columns = {k for r in rows for k in r}
        texts = [{k: None if r.get(k) is None else str(r[k]) for k in sorted(columns)} for r in rows]
        getattr(pl.DataFrame(texts), {"parquet": "write_parquet", "csv": "write_csv"}[suffix])(path)
    signals, refused = gathered(tmp_path, "files", path=str(path))
    one = "labels nested without end"  # brackets without end are no list, so they are one odd label
    assert set(signals["native_id"]) == {"first", "last", one}
    first = 3 if suffix == "csv" else 2
    fields = {f"a.{suffix}:{n}": next(iter(ODD_FIELDS[r["native_id"]])) for n, r in enumerate(odd, first)}
    del fields[f"a.{suffix}:{first + list(ODD_FIELDS).index(one)}"]
    assert refused.keys() == fields.keys()
    assert [(where, reason) for where, reason in refused.items() if not reason.startswith(fields[where])] == []


def test_the_ends_of_what_a_table_holds_load(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [row("1", "1970-01-01T00:00:00Z"), row("2", reactions=2**63 - 1), row("3", reactions=-(2**63))]
    late = row("4", "2026-03-02T00:00:00Z", closed_at="2199-12-31T23:59:59.999999Z")
    path.write_text("".join(json.dumps(r) + "\n" for r in [*rows, late]), "utf-8")
    signals, refused = gathered(tmp_path, "files", path=str(path))
    assert refused == {}
    assert signals["reactions"].to_list() == [None, 2**63 - 1, -(2**63), None]


def test_a_number_too_large_for_a_float_is_missing_in_the_payload(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"native_id": 1, "created_at": "2026-03-01", "title": "x", "rating": 1e999, "more": [-1e999]}\n', "utf-8"
    )
    signals, refused = gathered(tmp_path, "files", path=str(path))
    assert (signals["rating"].to_list(), refused) == ([None], {})


def test_lists_in_lists_too_deep_to_be_looked_through_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    deep = '{"native_id": 2, "created_at": "2026-03-01", "title": "x", "more": ' + "[" * 400 + "]" * 400 + "}"
    path.write_text(f"{json.dumps(row('1'))}\n{deep}\n", "utf-8")
    signals, refused = gathered(tmp_path, "files", path=str(path))
    assert signals["native_id"].to_list() == ["1"]
    assert "too deep" in refused["a.jsonl:2"]


def report(folder, name, **changes):
    metric = {"name": "p99_latency", "value": 260, "slo": 200, "status": "unhealthy", **changes.pop("metric", {})}
    content = {"run_id": name, "generated_at": "2026-03-01T06:00:00Z", "status": "unhealthy", "metrics": [metric]}
    (folder / f"{name}.json").write_text(json.dumps(content | changes), "utf-8")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", -1, 253_402_300_799_000, 1e300])
def test_a_performance_report_of_an_odd_time_costs_itself_only(tmp_path, at):
    folder = tmp_path / "reports"
    folder.mkdir()
    report(folder, "a")
    report(folder, "b", generated_at=at)
    signals, refused = gathered(tmp_path, "spec_reports", folder=str(folder))
    assert signals["native_id"].to_list() == ["/a/p99_latency"]
    assert refused["b.json"].startswith("generated_at is no time")


def test_odd_values_of_a_metric_are_missing_or_cost_their_report(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    report(folder, "a")
    report(folder, "b", metric={"value": 10**20})
    (folder / "c.json").write_text((folder / "a.json").read_text().replace("260", "1e999").replace('"a"', '"c"'))
    (folder / "d.json").write_text('{"metrics": [], "status": "ok", "more": ' + "[" * 400 + "]" * 400 + "}")
    signals, refused = gathered(tmp_path, "spec_reports", folder=str(folder))
    assert signals["title"].sort().to_list() == [
        "p99_latency 100000000000000000000 against 200 (odd)",
        "p99_latency 260 against 200 (odd)",
        "p99_latency ? against 200 (odd)",
    ]
    assert list(refused) == ["d.json"]


def test_a_report_whose_file_has_an_odd_time_costs_itself_only(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    report(folder, "a")
    report(folder, "b", generated_at=None)
    os.utime(folder / "b.json", (-86_400, -86_400))
    signals, refused = gathered(tmp_path, "spec_reports", folder=str(folder))
    assert (signals.height, list(refused)) == (1, ["b.json"])


def mail(number, date, body="Hello"):
    return f"From x Mon Mar  2 09:00:00 2026\nMessage-ID: <{number}@x.example>\nSubject: Hi\nDate: {date}\n\n{body}\n\n"


@pytest.mark.parametrize("date", ["Fri, 01 Jan 1000 00:00:00 +0000", "Fri, 31 Dec 9999 23:59:59 +0000"])
def test_mail_of_an_odd_date_costs_itself_only_and_is_dated_by_received_where_it_can(tmp_path, date):
    usual, path = "Mon, 02 Mar 2026 09:00:00 +0000", tmp_path / "a.mbox"
    received = f"{date}\nReceived: from a by b; {usual}"
    path.write_text(mail(1, usual) + mail(2, date) + mail(3, received), "utf-8")
    signals, refused = gathered(tmp_path, "mbox", path=str(path))
    assert signals.height == 2
    assert set(signals["created_at"].dt.year()) == {2026}
    assert list(refused) == ["a.mbox: message 2"]
    assert "no date" in refused["a.mbox: message 2"]


def test_mail_in_mail_without_end_costs_itself_only(tmp_path):
    parts = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(2000))
    usual, path = "Mon, 02 Mar 2026 09:00:00 +0000", tmp_path / "a.mbox"
    deep = mail(2, usual).split("\n\n")[0] + "\n" + parts + "\n\n"
    path.write_text(mail(1, usual) + deep + mail(3, usual), "utf-8")
    signals, refused = gathered(tmp_path, "mbox", path=str(path))
    assert signals.height + len(refused) == 3
    assert signals.filter(pl.col("body") == "Hello").height == 2


ODD_POST_MORTEMS = {
    "before 1970": "# Outage 1953-03-01\n\nImpact: all of it.\n",
    "a duration beyond any number": f"# Outage 2026-03-01\n\nDuration: {'9' * 400} hours\n",
    "front matter without end": f"---\na: {'[' * 5000}\n---\n# Outage 2026-03-01\n\nImpact: all.\n",
    "front matter with a number too long": f"---\ntitle: 0x{'f' * 5000}\n---\n# Outage 2026-03-01\n\nImpact: all.\n",
    "front matter with a time that is none": "---\nat: !!timestamp never\n---\n# Outage 2026-03-01\n\nImpact: all.\n",
}


@pytest.mark.parametrize("text", ODD_POST_MORTEMS.values(), ids=list(ODD_POST_MORTEMS))
def test_an_odd_post_mortem_costs_itself_at_most(tmp_path, text):
    folder = tmp_path / "post-mortems"
    folder.mkdir()
    (folder / "a.md").write_text("# Outage 2026-03-02\n\nImpact: half of it.\n", "utf-8")
    (folder / "b.md").write_text(text, "utf-8")
    signals, refused = gathered(tmp_path, "post_mortems", folder=str(folder))
    assert signals.height + len(refused) == 2
    assert "a.md" in signals["native_id"]
    assert ("b.md" in refused) is ("1953" in text or "0x" in text)


@pytest.mark.parametrize(
    ("at", "expected"),
    [(dt.datetime(1, 1, 1, tzinfo=dt.UTC), "0001-01"), (dt.datetime(987, 6, 5, tzinfo=dt.UTC), "0987-06")],
)
def test_a_month_has_a_year_of_four_digits_whatever_the_year(at, expected):
    assert records.month(at) == expected


# --- what redaction leaves alone is made harmless by the source ---


URL = "https://x.example/reset?token=abcd1234efgh5678&mail=jane@example.org&id=17"
CLEAN_URL = "https://x.example/reset?token=[token]&mail=[email]&id=17"
JANE = "jane@example.org"


def everything(tmp_path):
    store = Store(tmp_path / "store")
    return "".join(store.read(table).write_json() for table in ("raw", "signals"))


def test_addresses_and_ids_of_an_export_hold_no_personal_data_in_any_table(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        row("1", link={"href": URL}, state=f"waits for {JANE}", version="4.2.1.17", locale=JANE, severity=JANE),
        row(f"{JANE}-1", link={"href": "https://x.example/?id=17"}, spec_id=f"spec {JANE}", version=f"4 {JANE}"),
        row(f"{JANE}-2", link=[URL], closed_at=f"Sun, 01 Mar 2026 12:00:00 +0000 ({JANE})", state={"by": JANE}),
        row(4111111111111111, locale="de"),
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    mapped = {"url": "link.href"}
    signals, refused = gathered(tmp_path, "files", path=str(path), columns=mapped)
    assert refused == {}
    stored = everything(tmp_path)
    assert "jane" not in stored
    assert "abcd1234" not in stored
    assert "4111111111111111" not in stored
    first = signals.row(0, named=True)
    assert (first["native_id"], first["url"], first["state"]) == ("1", CLEAN_URL, "waits for [email]")
    assert (first["version"], first["locale"]) == ("4.2.1.17", "[email]")
    assert "https://x.example/?id=17" in signals["url"]
    hashed = [i for i in signals["native_id"] if len(i) == 64]
    assert len(set(hashed)) == 3


def test_reading_an_export_again_changes_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row(JANE, url=URL)) + "\n", "utf-8")
    source = plugins.build("sources", {"kind": "files", "path": str(path)})
    (item,) = source.fetch(None, END)
    clean = privacy.scrub(item.payload, personal=source.personal_fields, plain=source.plain_fields, key=b"k" * 32)
    assert source.parse(clean).native_id == source.parse(row(JANE)).native_id == clean["native_id"]
    assert source.parse(clean).url == source.parse(row(1, url=URL)).url == CLEAN_URL


def test_an_address_that_is_also_the_id_still_opens(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"created_at": "2026-03-01", "title": "x", "at": "https://x.example/?id=17"}), "utf-8")
    signals, _ = gathered(tmp_path, "files", path=str(path), columns={"native_id": "at", "url": "at"})
    assert signals["url"].to_list() == ["https://x.example/?id=17"]


def test_ids_and_addresses_of_a_performance_report_hold_no_personal_data(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    for name in ("a", "b"):
        changes = {"run_id": f"{JANE}-{name}", "spec_id": f"for {JANE}", "service": JANE, "version": "4.2.1.17"}
        report(folder, name, **changes, url=URL, metric={"name": f"mails to {JANE}", "url": URL})
    report(folder, f"{JANE}-c", run_id=None)
    signals, refused = gathered(tmp_path, "spec_reports", folder=str(folder))
    assert refused == {}
    assert signals.height == 3
    stored = everything(tmp_path)
    assert "jane" not in stored
    assert "abcd1234" not in stored
    assert "4.2.1.17" in stored


def test_a_file_name_of_a_post_mortem_with_an_address_is_no_id(tmp_path):
    folder = tmp_path / "post-mortems"
    folder.mkdir()
    for name in (f"{JANE} 1", f"{JANE} 2"):
        text = "# Outage 2026-03-01\n\nImpact: all of it.\n\n## Action items\n\n- [ ] Write a test for it\n"
        (folder / f"{name}.md").write_text(text, "utf-8")
    source = plugins.build("sources", {"kind": "post_mortems", "folder": str(folder)})
    items = [found for found in source.fetch(None, END) if isinstance(found, Item)]
    signals, refused = gathered(tmp_path, "post_mortems", folder=str(folder))
    assert (signals.height, refused) == (len(items), {}) == (4, {})
    assert "jane" not in everything(tmp_path)
    assert not any(isinstance(found, Rejected) for found in items)
