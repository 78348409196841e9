import contextlib
import datetime as dt
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from feedback_lib import dashboard, pages, pipeline, records
from feedback_lib.store import Store

ROOT = Path(__file__).parents[1]
MONDAY = dt.datetime(2026, 11, 9, tzinfo=dt.UTC)


@pytest.fixture
def report():
    shown = json.loads((Path(__file__).parent / "data" / "report.json").read_text("utf-8"))
    return shown | {"inputs": {}}


def signal_row(n, *, weeks_ago=0, **given):
    at = MONDAY - dt.timedelta(weeks=weeks_ago) + dt.timedelta(hours=n % 100)
    row = dict.fromkeys(records.schema("signals"))
    row |= {"uid": f"{n:032x}", "kind": "files", "origin": "forum", "native_id": str(n), "type": "ticket"}
    row |= {"title": "t", "body": "b", "author": f"anon-{n:012x}", "created_at": at, "updated_at": at, "labels": []}
    return row | {"product_area": "api", "month": records.month(at), "run_id": "r"} | given


def understood(signal, topic):
    row = dict.fromkeys(records.schema("understanding"))
    row |= {k: signal[k] for k in ("uid", "created_at", "month", "run_id")} | {"inferred_at": signal["created_at"]}
    return row | {"topic_id": topic, "language_model": "l", "triage_model": "t", "text_sha256": "x"}


@pytest.fixture
def store(tmp_path, report):
    """Topic 41: this week 2 people of the forum and 1 of support, 3 signals of one more forum person last week."""
    kept = report["frictions"][0]["verbatims"][1]["uid"]
    signals = [
        signal_row(1, uid=kept),
        signal_row(2),
        signal_row(3, origin="support", product_area="cli"),
        *(signal_row(10 + n, weeks_ago=1, author="anon-1") for n in range(3)),
        signal_row(20, type="error"),
        signal_row(21, weeks_ago=13),
        signal_row(22, weeks_ago=-1),
    ]
    made = Store(tmp_path / "store")
    made.upsert("signals", records.frame("signals", signals))
    made.upsert("understanding", records.frame("understanding", [understood(s, 41) for s in signals]))
    return made


class TestNarrow:
    def test_members_are_peoples_signals_of_the_thirteen_weeks(self, store, report):
        found = dashboard.members(store, report)
        assert found.height == 6
        assert set(found.columns) == {"uid", "author", "created_at_us", "origin", "product_area", "topic_id"}

    def test_a_choice_counts_its_own_people_per_week(self, store, report):
        shown = dashboard.narrow(report, dashboard.members(store, report), source="forum")
        assert shown["frictions"][0]["spark"] == [None] * 11 + [1.0, 2.0]
        assert shown["frictions"][0]["people"] == 2
        assert shown["numbers"][0]["spark"] == [None] * 11 + [1.0, 2.0]
        assert shown["numbers"][0]["text"] == "<5"

    def test_a_topic_nobody_of_the_choice_speaks_of_is_not_shown(self, store, report):
        shown = dashboard.narrow(report, dashboard.members(store, report), area="cli")
        assert shown["frictions"][0]["spark"] == [None] * 11 + [0.0, 1.0]
        assert len(shown["frictions"]) == 1

    def test_a_choice_keeps_only_its_own_words_and_claims_no_rate(self, store, report):
        row = dashboard.narrow(report, dashboard.members(store, report), source="forum")["frictions"][0]
        assert (
            [v["uid"] for v in row["verbatims"]] == row["evidence"] == [report["frictions"][0]["verbatims"][1]["uid"]]
        )
        assert (row["ratio"], row["low"], row["high"], row["q"]) == (None,) * 4
        assert row["badge"] == ""

    def test_a_choice_has_its_own_suggestions_and_no_verdict_on_everybody(self, store, report):
        kept = report["frictions"][0]["verbatims"][1]["uid"]
        shown = dashboard.narrow(report, dashboard.members(store, report), source="forum")
        assert shown["suggestions"] == [s for s in report["suggestions"] if kept in s["evidence"]]
        assert 0 < len(shown["suggestions"]) < len(report["suggestions"])
        assert shown["verdict"] == "Counts are of forum only; nothing was tested for this choice."

    def test_no_choice_is_the_report_itself_and_a_choice_leaves_it_alone(self, store, report):
        before = json.dumps(report)
        signals = dashboard.members(store, report)
        assert dashboard.narrow(report, signals) is report
        dashboard.narrow(report, signals, source="forum")
        assert json.dumps(report) == before

    def test_the_usual_value_is_the_mean_of_the_baseline_weeks_with_data(self, tmp_path, report):
        """Ten people a week for nine weeks and none in two of them, after three weeks of a hundred."""
        people = {0: 7, 1: 10, 2: 10, 4: 10, 5: 12, 6: 10, 7: 10, 9: 100, 10: 100, 11: 100}
        signals = [
            signal_row(1000 * ago + n, weeks_ago=ago, author=f"anon-{n}")
            for ago, count in people.items()
            for n in range(count)
        ]
        made = Store(tmp_path / "other")
        made.upsert("signals", records.frame("signals", signals))
        made.upsert("understanding", records.frame("understanding", [understood(s, 41) for s in signals]))
        shown = dashboard.narrow(report, dashboard.members(made, report), source="forum")
        row = shown["frictions"][0]
        assert row["spark"] == [None, 100, 100, 100, None, 10, 10, 12, 10, None, 10, 10, 7]
        assert row["baseline_people"] == pytest.approx(62 / 6)
        assert shown["numbers"][0]["baseline"] == 10  # the median of the last four weeks with data
        fewer = dashboard.narrow(report, dashboard.members(made, report), source="forum", weeks=2)
        assert fewer["frictions"][0]["baseline_people"] == 10

    def test_a_choice_without_a_single_earlier_week_has_no_usual_value(self, store, report):
        shown = dashboard.narrow(report, dashboard.members(store, report), source="support")
        assert shown["frictions"][0]["spark"] == [None] * 12 + [1.0]
        assert shown["frictions"][0]["baseline_people"] is None
        assert (shown["numbers"][0]["text"], shown["numbers"][0]["baseline"]) == ("<5", None)

    def test_a_choice_with_no_data_this_week_has_no_number(self, store, report):
        late = signal_row(50, weeks_ago=2, origin="chat")
        store.upsert("signals", records.frame("signals", [late]))
        shown = dashboard.narrow(report, dashboard.members(store, report), source="chat")
        assert (shown["numbers"][0]["value"], shown["numbers"][0]["text"]) == (None, "–")
        assert shown["frictions"][0]["people"] is None
        assert all(pages.part(name, shown) for name in pages.PARTS)

    def test_a_source_that_failed_is_left_out_as_the_report_leaves_it_out(self, store, report):
        report["sources"] = [{**report["sources"][0], "kind": "files", "origin": "support", "status": "failed"}]
        assert dashboard.members(store, report)["origin"].unique().to_list() == ["forum"]
        shown = dashboard.narrow(report, dashboard.members(store, report), area="api")
        assert shown["frictions"][0]["spark"][-2:] == [1.0, 2.0]

    def test_topics_are_those_that_the_reports_run_wrote(self, store, report):
        versions = {t: store.version(t) for t in ("signals", "understanding")}
        row = run_row(report, MONDAY, "r1")
        row["inputs"] = json.dumps(
            {"read": versions | {"understanding": 0}, "written": {"understanding": versions["understanding"]}}
        )
        row["params"] = json.dumps({"trends": {"weeks": 2}})
        store.upsert("runs", records.frame("runs", [row]))
        later = understood(signal_row(2), 99) | {"run_id": "later", "inferred_at": MONDAY + dt.timedelta(days=7)}
        store.upsert("understanding", records.frame("understanding", [later]))
        assert 99 in Store(store.path).read("understanding")["topic_id"].to_list()
        found = dashboard.members(store, report | {"run_id": "r1"})
        assert found["topic_id"].unique().to_list() == [41]
        assert dashboard.Board(report | {"run_id": "r1"}, store).weeks == 2

    def test_members_come_from_the_tables_the_report_was_made_of(self, store, report):
        report["inputs"] = {"signals": store.version("signals")}
        store.upsert("signals", records.frame("signals", [signal_row(99)]))
        assert dashboard.members(store, report).height == 6


class TestAge:
    @pytest.mark.parametrize(
        ("hours", "said"), [(3, "The data is 3 hours old"), (72, "The data is 3 days old"), (-5, "")]
    )
    def test_is_said_in_words(self, report, hours, said):
        now = dt.datetime.fromisoformat(report["data_as_of"]) + dt.timedelta(hours=hours)
        assert said in dashboard.age(report, now)

    def test_old_data_is_a_warning_unless_it_is_made_up(self, report):
        now = dt.datetime.fromisoformat(report["data_as_of"]) + dt.timedelta(days=9)
        assert "alarm" not in dashboard.age(report, now)
        assert "a weekly run seems to be missing" in dashboard.age(report | {"synthetic": False}, now)


def test_the_heading_names_the_product(report):
    assert "<h2>Developer signals of A &amp; B</h2>" in dashboard.title(report | {"product": "A & B"})


class TestBoard:
    def test_offers_what_there_is(self, store, report):
        board = dashboard.Board(report, store)
        assert board.source.options == ("all", "forum", "support")
        assert board.area.options == ("all", "api", "cli")

    def test_a_choice_redraws_charts_and_tables_and_says_what_is_counted(self, store, report):
        board = dashboard.Board(report, store)
        before = board.topics.spec, board.frictions.value
        board.source.value = "forum"
        assert (board.topics.revision, board.people.revision, board.rates.revision) == (1, 1, 0)
        assert board.topics.spec != before[0]
        assert board.frictions.value != before[1]
        assert "Counts are of forum only" in board.message.value
        assert "p.verdict { display: none; }" in board.message.value
        board.source.value = "all"
        assert (board.topics.spec, board.frictions.value) == before

    def test_a_fault_in_a_callback_is_a_sentence_on_the_page_and_a_traceback_in_the_log(self, store, report, caplog):
        board = dashboard.Board(report, store)
        shown = board.frictions.value
        board.signals = board.signals.drop("topic_id")
        board.source.value = "forum"
        assert "This choice could not be shown" in board.message.value
        assert "ColumnNotFound" not in board.message.value
        assert board.frictions.value == shown
        assert "Traceback" in caplog.text

    def test_an_empty_store_still_makes_a_page(self, tmp_path, report):
        board = dashboard.Board(report, Store(tmp_path / "nothing"))
        assert board.source.options == ("all",)
        assert isinstance(board.signals, pl.DataFrame)


# The page itself, in a browser


def free_port():
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def settled(pid, count, seconds):
    """How many child processes there are, once it is ``count`` or the time is over."""
    until = time.monotonic() + seconds
    while True:
        found = len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        if found == count or time.monotonic() > until:
            return found
        time.sleep(0.1)


@contextlib.contextmanager
def answering(command, port, **options):
    """A server in a process of its own that answers on this port: its address and process."""
    process = subprocess.Popen([*command], **options)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, "the server stopped"
            time.sleep(0.1)
        else:
            pytest.fail("the server did not start in a minute")
        yield f"http://127.0.0.1:{port}/", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def serving(notebook, given, **options):
    """A notebook with these parameters, as `feedback dashboards` serves it: its address and process."""
    port = free_port()
    code = "import json, sys, pathlib; from feedback_lib import dashboard_server as s; "
    code += "s.serve(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), port=int(sys.argv[3]))"
    command = [sys.executable, "-c", code, str(notebook), json.dumps(given), str(port)]
    return answering(command, port, **options)


def served(store):
    """The dashboard over a store."""
    return serving(ROOT / "notebooks" / "dashboards" / "feedback.ipynb", {"store": str(store.path)})


@pytest.fixture(scope="module")
def shown_store(cache, tmp_path_factory):
    """A copy of the sample's store, to which a run may be added."""
    return Store(shutil.copytree(pipeline.sample_store().path, tmp_path_factory.mktemp("dashboard") / "store"))


@pytest.fixture(scope="module")
def server(shown_store):
    with served(shown_store) as running:
        yield running


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium[0])
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "window-size=1200,900"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser') / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(chromium[1])))
    driver.set_page_load_timeout(120)
    try:
        yield driver
        driver.get("about:blank")  # a page that is left tells its kernel
    finally:
        driver.quit()


CHARTS = """return [...document.querySelectorAll('.feedback-chart')].map(e => {
  const box = e.getBoundingClientRect(), svg = e.querySelector('svg');
  return {width: box.width, height: box.height, paths: e.querySelectorAll('svg path').length,
          drawn: svg ? svg.getBoundingClientRect().width : 0, words: e.getAttribute('aria-label'),
          revision: e.dataset.revision};
})"""


def wait_for(driver, script, good, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = driver.execute_script(script)
        if good(value):
            return value
        time.sleep(0.1)
    pytest.fail(f"not in {seconds} s: {value}")


def all_drawn(found):
    return len(found) == 3 and all(c["revision"] is not None for c in found)


def requests(driver):
    """Addresses asked for since the last look."""
    events = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")]
    return [p["request"]["url"] if "request" in p else p["url"] for p in sent]


@pytest.fixture(scope="module")
def desktop(server, browser):
    """The browser with the page drawn: each page that is opened starts a kernel, so two tests look at this one."""
    browser.get("about:blank")
    requests(browser)
    browser.get(server[0])
    wait_for(browser, CHARTS, all_drawn)
    return browser


@pytest.fixture(scope="module")
def phone(server, browser):
    """The browser with the page drawn as on a phone, for the tests after those of ``desktop``."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    browser.get(server[0])
    wait_for(browser, CHARTS, all_drawn)
    return browser


@pytest.mark.browser
@pytest.mark.slow
def test_the_dashboard_draws_every_chart_and_asks_nobody_but_its_own_server(server, desktop):
    address, browser = server[0], desktop
    for chart in browser.execute_script(CHARTS):
        assert chart["width"] > 150
        assert chart["drawn"] > 150
        assert chart["height"] > 60
        assert chart["paths"] > 3
        assert len(chart["words"]) > 20
    said = browser.find_element("tag name", "main").text
    for words in ("data as of", "old.", "people heard", "Top frictions", "Suggestions", "How far to trust this"):
        assert words in said
    assert "open_report" not in browser.page_source
    assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
    ours = (address, address.replace("http", "ws"), "data:", "blob:", "chrome://")
    assert [u for u in requests(browser) if not u.startswith(ours)] == []


@pytest.mark.browser
@pytest.mark.slow
def test_a_filter_redraws_the_charts_and_the_words(desktop):
    from selenium.webdriver.support.ui import Select

    browser = desktop
    before = browser.execute_script(CHARTS)[0]["words"]
    choices = Select(browser.find_element("css selector", ".widget-dropdown select"))
    choices.select_by_index(1)
    found = wait_for(browser, CHARTS, lambda cs: [c["revision"] for c in cs[:2]] == ["1", "1"], seconds=20)
    assert found[0]["words"] != before
    assert all(c["paths"] > 3 and c["drawn"] > 150 for c in found)
    told = "nothing was tested for this choice"  # the words come in a message after the charts'
    said = wait_for(browser, "return document.querySelector('main').innerText", lambda text: told in text, seconds=20)
    assert told in said
    assert [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_fits_a_phone(phone):
    found = phone.execute_script(CHARTS)
    assert len(found) == 3
    assert all(150 < c["drawn"] <= 375 for c in found)
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 376


@pytest.mark.browser
@pytest.mark.slow
def test_a_closed_page_leaves_no_kernel(server, phone):
    process = server[1]
    assert settled(process.pid, 2, seconds=30) == 2  # the page's, and one made ready for the next reader
    phone.get("about:blank")
    assert settled(process.pid, 1, seconds=5) == 1


@pytest.mark.slow
def test_the_server_shows_its_own_error_page_and_refuses_other_hosts(server):
    address, _ = server

    def asked(path, **headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(address + path, headers=headers), timeout=60) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode(), refused.headers

    status, text, headers = asked("no/such/page")
    assert status == 404
    assert "There is no such page" in text
    assert "'unsafe-eval'" not in headers["Content-Security-Policy"]
    assert asked("voila/files/feedback.ipynb")[0] == 404
    status, text, _ = asked("", Host="evil.example")
    assert status == 403
    assert "This page could not be shown" in text


def run_row(report, as_of, verdict):
    row = dict.fromkeys(records.schema("runs"), "{}")
    row |= {"run_id": verdict, "recipe": "weekly", "status": "ok", "seconds": 1.0}
    row |= {"as_of": as_of, "started_at": as_of, "updated_at": as_of}
    return row | {"report": json.dumps(report | {"run_id": verdict, "verdict": verdict})}


def idle(pid, seconds=60):
    """Wait until the only child process, a kernel, has run up to where it waits: no CPU time in a second."""
    until = time.monotonic() + seconds
    (kernel,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    used = []
    while time.monotonic() < until:
        used.append(Path(f"/proc/{kernel}/stat").read_text().rpartition(")")[2].split()[11:13])
        if len(used) > 10 and used[-1] == used[-11]:
            return
        time.sleep(0.1)
    pytest.fail(f"the kernel was still busy after {seconds} s")


@pytest.mark.slow
def test_a_kernel_made_ready_in_advance_shows_the_newest_data(server, shown_store, report):
    """The last one here: the other tests look at the run of the sample."""
    address, process = server
    assert settled(process.pid, 1, seconds=30) == 1
    idle(process.pid)
    (old,) = shown_store.read("runs").to_dicts()
    newer = run_row(report, old["as_of"] + dt.timedelta(days=7), "The new verdict.")
    shown_store.upsert("runs", records.frame("runs", [newer]))
    with urllib.request.urlopen(address, timeout=60) as answer:
        text = answer.read().decode()
    assert "The new verdict." in text
    assert json.loads(old["report"])["verdict"] not in text
