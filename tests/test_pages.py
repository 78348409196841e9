import copy
import functools
import io
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pypdf
import pytest
from nbformat import v4

from feedback_lib import charts, pages

ALARM = (0xB3 / 255, 0x12 / 255, 0x1D / 255)


@pytest.fixture
def report():
    return json.loads((Path(__file__).parent / "data" / "report.json").read_text("utf-8"))


def quiet(report):
    """A week in which nothing was new or growing."""
    report["quiet"] |= {"nothing_happened": True}
    report["verdict"] = "Nothing new or growing passed q < 0.05 among 24 subjects."
    report["findings"] = report["trends_identified"] = report["suggestions"] = report["recurring"] = []
    for row in report["frictions"] + report["delights"]:
        row |= {"badge": "STEADY", "ratio": 1.0, "low": 0.7, "high": 1.4, "q": 0.8}


def source_down(report):
    """One source could not be read; what it would have told is withheld."""
    report["status"] = "degraded"
    report["sources"][1] |= {"status": "failed", "read": None, "new": None, "error": "connection refused (forum.csv)"}
    report["numbers"][0] |= {"value": None, "text": "–", "ratio": None, "low": None, "high": None, "note": "withheld"}
    report["numbers"][0]["spark"][-1] = None


def no_data(report):
    """A first run over empty sources."""
    report |= {"frictions": [], "delights": [], "findings": [], "suggestions": [], "recurring": [], "data_as_of": None}
    report |= {"feedback_items_processed": 0, "verdict": "Nobody was heard in week 46."}
    for number in report["numbers"]:
        number |= {"value": None, "text": "–", "baseline": None, "ratio": None, "low": None, "high": None}
        number |= {"spark": [None] * 13, "note": "no data"}
    for source in report["sources"]:
        source |= {"status": "empty", "read": 0, "new": 0, "watermark": None}
    report["quality"] |= {
        "languages": [],
        "no_topic_ratio": None,
        "classifier": [],
        "abstained_ratio": None,
        "models": {},
    }
    report["quiet"] |= {"tested": 0, "power": "there was no topic to test"}


def first_week(report):
    """The first report of a new user: one week of data, nothing to compare it with."""
    report |= {"findings": [], "trends_identified": []}
    report["verdict"] = "212 people were heard; no earlier week has data, 3 are needed to say what is new."
    for number in report["numbers"]:
        number |= {"baseline": None, "ratio": None, "low": None, "high": None, "note": ""}
        number["spark"] = [None] * 12 + [number["value"]]
    for row in report["frictions"] + report["delights"]:
        row |= {"badge": "", "baseline_people": None, "ratio": None, "low": None, "high": None, "q": None}
        row["spark"] = [None] * 12 + [float(row["people"])]
    for error in report["recurring"]:
        error |= {"baseline_mentions": None, "spark": [None] * 12 + [float(error["mentions"])]}
    for suggestion in report["suggestions"]:
        suggestion |= {"history": suggestion["history"][:1], "moving": False}
    report["quiet"] |= {"tested": 0, "power": "nothing could be tested: no earlier week has data, 3 are needed"}


def left_out(report):
    """A run of one source: the others were not read."""
    for source in report["sources"][1:]:
        source |= {"status": "not_read", "read": None, "new": None, "updated": None, "rejected": None}


def too_much(report):
    """More of everything than two pages hold."""
    long = "a rather long sentence with many different words in it " * 12
    for row in report["frictions"] + report["delights"]:
        row["name"] = "An unusually long topic name that says everything there is to say about the matter at hand"
        for voice in row["verbatims"]:
            voice["text"] = long
    report["delights"] = [*report["delights"], *copy.deepcopy(report["delights"])][:5]
    report["suggestions"] = [
        s | {"action": s["action"] * 3, "suggestion_id": f"{n:032x}"} for n, s in enumerate(report["suggestions"] * 5)
    ]
    report["recurring"] = report["recurring"] * 6
    report["sources"] = [s | {"name": f"{s['name']}-{n}"} for n, s in enumerate(report["sources"] * 5)]


def as_it_is(report):
    """The report of the fixture."""


def moving_much(report):
    """More than two pages hold, and all ten suggestions are about something new or growing but the last two."""
    too_much(report)
    report["suggestions"] = [
        s | {"moving": n < 10, "title": f"Number {n:02} of them, {s['title']}, with a name too long for one line"}
        for n, s in enumerate((report["suggestions"] * 3)[:12])
    ]


def silent_much(report):
    """More than two pages hold, and what workflows ran into besides."""
    moving_much(report)
    row = {"kind": "error", "name": "npm ERR! " + "a rather long error line " * 3, "phase": "EXECUTE", "people": 2}
    row |= {"people_before": 3, "workflows": 41, "of": 1045, "by_week": [0] * 8 + [41], "of_by_week": [0] * 8 + [1045]}
    report["silent"] = [row | {"said": ["0a" * 16] * 2, "evidence": ["0b" * 16] * 41}] * 7


VARIANTS = [as_it_is, quiet, source_down, no_data, first_week, left_out, too_much, moving_much, silent_much]


def printed(report, paper="a4"):
    """The PDF of a report, set once for all tests that look at the same one: it depends on nothing else."""
    return _printed(json.dumps(report), paper)


@functools.cache
def _printed(report, paper):
    return pages.pdf(json.loads(report), paper=paper)


def read(made):
    return pypdf.PdfReader(io.BytesIO(made))


def words(made, page=None):
    pages_read = read(made).pages
    text = " ".join(p.extract_text() for p in (pages_read if page is None else [pages_read[page]]))
    return " ".join(text.split())


class TestPdf:
    @pytest.mark.parametrize("paper", ["a4", "us-letter"])
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_is_two_pages_at_most_and_small(self, report, variant, paper):
        variant(report)
        made = printed(report, paper=paper)
        assert len(read(made).pages) <= 2
        assert len(made) <= 150_000
        width, height = (float(v) for v in read(made).pages[0].mediabox[2:])
        assert (round(width), round(height)) == {"a4": (595, 842), "us-letter": (612, 792)}[paper]

    def test_is_the_same_bytes_every_time(self, report):
        assert pages.pdf(report) == pages.pdf(copy.deepcopy(report))

    def test_takes_the_time_of_a_clock(self, report):
        assert pages.pdf(report | {"as_of": "2026-11-21T10:38:11.123456+00:00"}).startswith(b"%PDF")

    def test_is_tagged_for_screen_readers_with_words_for_every_picture(self, report):
        made = read(printed(report))
        root = made.trailer["/Root"]
        assert root["/MarkInfo"]["/Marked"]
        assert "pdfuaid:part" in root["/Metadata"].get_data().decode()
        figures = [n for n in nodes(root["/StructTreeRoot"]) if n.get("/S") == "/Figure"]
        assert len(figures) >= len(report["numbers"]) + len(report["frictions"]) + len(report["delights"]) + 1
        assert all(len(f["/Alt"]) > 20 for f in figures)
        assert any("34 people this week" in f["/Alt"] for f in figures)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_sets_nothing_smaller_than_nine_points(self, report, variant):
        variant(report)
        sizes = []

        def note(text, _cm, tm, _font, size):
            if text.strip():
                sizes.append(round(size * abs(tm[3]) if tm[3] else size, 2))

        for page in read(printed(report)).pages:
            page.extract_text(visitor_text=note)
        assert min(sizes) >= 8.99

    def test_page_one_says_what_a_reader_with_a_minute_needs(self, report):
        first = words(printed(report), page=0)
        assert report["verdict"] in first
        for number in report["numbers"]:
            assert number["text"] in first
            assert number["label"] in first
        for row in report["frictions"]:
            assert row["name"] in first
            assert charts.badge(row) in first
            assert row["badge"] == "NEW" or charts.rate(row).split()[0] in first
        assert "STEADY" not in first
        assert "+49 % on usual 54" in first
        assert "+16 % to +92 %" in first
        assert "data as of Mon 16 Nov 05:58 UTC" in first

    def test_page_two_says_what_to_do_and_how_far_to_trust_it(self, report):
        second = words(printed(report), page=1)
        for suggestion in report["suggestions"]:
            assert suggestion["title"] in second
            assert f"{suggestion['priority']:.2f}" in second
            assert suggestion["evidence"][0][:8] in second
        for said in (
            report["rerun"],
            "24 subjects tested at q < 0.05",
            "8 of 261 signals",
            "precision .71–.92, recall .58–.90 over 5 labels",
        ):
            assert said in second
        for source in report["sources"]:
            assert source["name"] in second

    def test_made_up_data_is_labelled_on_both_pages(self, report):
        made = printed(report)
        assert all("synthetic sample data" in words(made, page=n).lower() for n in (0, 1))
        report["synthetic"] = False
        assert "synthetic" not in words(printed(report)).lower()

    def test_a_source_that_is_down_stands_in_red_on_page_one(self, report):
        source_down(report)
        made = printed(report)
        assert "Forum could not be read to the end and is left out of every number." in words(made, page=0)
        assert "connection refused" not in words(made, page=0)
        assert "connection refused (forum.csv)" in words(made, page=1)
        assert pages.view(report)["sources"][0]["rejected"] == "–"
        operators = pypdf.generic.ContentStream(read(made).pages[0].get_contents(), read(made)).operations
        reds = [o for o, name in operators if name in (b"sc", b"scn", b"rg") and len(o) == 3]
        assert any(all(abs(float(a) - b) < 0.004 for a, b in zip(o, ALARM, strict=True)) for o in reds)

    def test_a_source_left_out_of_the_run_stands_on_page_one_and_not_in_red(self, report):
        left_out(report)
        made = printed(report)
        first = words(made, page=0)
        assert "Left out of this run: forum (forum.csv), read up to 2026-11-15; tickets (tickets.mbox)" in first
        assert "could not be read" not in first
        for page in read(made).pages:
            operators = pypdf.generic.ContentStream(page.get_contents(), read(made)).operations
            reds = [o for o, name in operators if name in (b"sc", b"scn", b"rg") and len(o) == 3]
            assert not any(all(abs(float(a) - b) < 0.004 for a, b in zip(o, ALARM, strict=True)) for o in reds)
        assert words(made, page=1).count("left out of this run") == 5

    def test_a_first_week_compares_with_nothing(self, report):
        first_week(report)
        made = read(printed(report))
        said = [f["/Alt"] for f in nodes(made.trailer["/Root"]["/StructTreeRoot"]) if f.get("/S") == "/Figure"]
        assert any(alt.endswith("Search API times out: 34 people this week") for alt in said)
        assert not any("usually" in alt for alt in said)
        assert "Nothing to compare yet." in words(printed(report), page=0)
        assert "Rate against the weeks before" not in pages.snapshot(report)

    def test_all_that_is_new_or_growing_has_its_suggestion_on_page_two_however_much_there_is(self, report):
        moving_much(report)
        second = words(printed(report), page=1)
        assert [f"Number {n:02} of them" in second for n in range(12)] == [True] * 10 + [False] * 2
        assert "and 2 more in suggestions.json" in second

    def test_suggestions_stand_in_two_groups_in_the_order_given(self, report):
        for n, suggestion in enumerate(report["suggestions"]):
            suggestion["moving"] = n == 1
        second = words(printed(report), page=1)
        titles = [s["title"] for s in report["suggestions"]]
        order = ["New or growing", titles[1], "Always there", titles[0], *titles[2:]]
        places = [second.index(said) for said in order]
        assert places == sorted(places)

    def test_a_report_that_does_not_tell_what_moves_has_one_list(self, report):
        second = words(printed(report), page=1)
        assert "New or growing" not in second
        assert "Always there" not in second

    def test_a_quiet_week_says_so_and_what_would_have_been_seen(self, report):
        quiet(report)
        first = words(printed(report), page=0)
        assert "24 subjects were tested at q < 0.05." in first
        assert report["quiet"]["power"] in first

    def test_no_data_is_a_dash_and_never_a_zero(self, report):
        no_data(report)
        first = words(printed(report), page=0)
        assert first.count("–") >= 5
        assert "None this week." in first
        assert not re.search(r"(?<![\d:])0 %", first)

    def test_what_does_not_fit_is_counted(self, report):
        too_much(report)
        second = words(printed(report), page=1)
        assert re.search(r"and \d+ more in suggestions.json", second)
        assert re.search(r"and \d+ more sources", second)

    def test_fewer_than_five_people_are_not_counted_out(self, report):
        report["frictions"][0]["people"] = 3
        report["suggestions"][0]["people"] = 3
        said = words(printed(report))
        assert "<5 people" in said
        assert not re.search(r"\b[1-4] people", said)

    def test_verbatims_are_shortened_never_reworded(self, report):
        said = words(printed(report)).replace(" ", "")  # a line may break after a slash
        for row in report["frictions"][:4]:
            assert row["verbatims"][0]["text"].replace(" ", "") in said

    def test_a_character_no_font_has_becomes_a_note_not_an_empty_box(self, report):
        """Linear B stands for any script without a font here; a picture character is named."""
        report["frictions"][0]["verbatims"][0] |= {"text": "𐀀𐀁𐀂 𐀃𐀄", "language": "ja"}
        said = words(printed(report), page=0)
        assert "[ja] in Japanese, see the HTML report" in said
        assert "[person with folded hands]" in said
        assert "После обновления" in said

    def test_takes_half_a_second_of_one_core(self, report):
        pages.pdf(report)
        taken = []
        for another in range(3):
            report["frictions"][0]["ratio"] += another  # nothing is taken from an earlier report
            started = time.process_time()
            pages.pdf(report)
            taken.append(time.process_time() - started)
        assert min(taken) <= 0.5

    def test_pictures_of_the_pages_can_be_had(self, report):
        made = pages.png(report, ppi=40)
        assert [p[:8] for p in made] == [b"\x89PNG\r\n\x1a\n"] * 2


def nodes(tree):
    """Every node of a PDF structure tree."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop().get_object()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            found.append(node)
            if "/K" in node and not isinstance(node["/K"], int):
                waiting.append(node["/K"])
    return found


class Page(HTMLParser):
    """What a page would run or fetch, and the words and ids it has."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.fetched, self.ids, self.words = 0, [], [], []
        self._style = False
        self.feed(text)
        self.fetched += re.findall(r"url\((?!#)['\"]?(?!data:)([^)]*)", text) + re.findall(r"@import[^;]*", text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.scripts += tag == "script" or any(name.startswith("on") for name in given)
        self._style = tag == "style"
        self.ids += [given["id"]] if "id" in given else []
        links = [given.get("src"), given.get("href") if tag in ("link", "image", "use") else None]
        self.fetched += [u for u in links if u and not u.startswith(("data:", "#"))]

    def handle_data(self, data):
        if not self._style:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def executed(tmp_path, report):
    """A notebook as a run leaves it: code, printed lines, a part, a chart, a widget, a failed cell."""
    rows = report["frictions"]
    picture, metadata = charts.show(charts.ratios(rows), alt="words for the chart")._repr_mimebundle_()
    shown = [
        v4.new_output("stream", text="a secret on standard output"),
        v4.new_output("execute_result", {"text/html": pages.part("head", report)._repr_html_(), "text/plain": "plain"}),
        v4.new_output("display_data", picture, metadata=metadata),
        v4.new_output(
            "display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "W()"}
        ),
        v4.new_output("error", ename="ValueError", evalue="no", traceback=["Traceback: /home/ann/secret.py"]),
    ]
    notebook = v4.new_notebook(
        cells=[v4.new_markdown_cell("# A title & words"), v4.new_code_cell("code_of_mine = 1", outputs=shown)],
        metadata={"title": "A <title>"},
    )
    path = tmp_path / "book.ipynb"
    nbformat.write(notebook, path)
    return path


class TestHtml:
    def test_an_exported_notebook_shows_words_tables_and_charts_but_no_code(self, executed, report):
        target = pages.export_html(executed, executed.with_suffix(".html"))
        page = Page(target.read_text("utf-8"))
        assert report["verdict"] in page.text
        assert "A title & words" in page.text
        assert "words for the chart" in page.text
        for hidden in ("code_of_mine", "secret", "Traceback", "W()", "plain"):
            assert hidden not in page.text
        assert "This section could not be computed" in page.text

    def test_an_exported_notebook_runs_nothing_and_fetches_nothing(self, executed):
        page = Page(pages.export_html(executed, executed.with_suffix(".html")).read_text("utf-8"))
        assert page.scripts == 0
        assert page.fetched == []

    def test_a_snapshot_is_the_whole_report_and_stands_alone(self, report):
        made = pages.snapshot(report)
        page = Page(made)
        assert (page.scripts, page.fetched) == (0, [])
        assert len(made) <= 150_000
        for said in (report["verdict"], *(r["name"] for r in report["frictions"]), report["rerun"]):
            assert said in page.text
        assert made.count('role="img"') >= 3 + len(report["numbers"]) + len(report["frictions"])

    def test_no_two_charts_of_a_page_share_an_id(self, report):
        ids = Page(pages.snapshot(report)).ids
        assert len(ids) == len(set(ids))

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_every_part_of_every_kind_of_week_can_be_made(self, report, variant):
        variant(report)
        for name in pages.PARTS:
            assert Page(pages.part(name, report)).text

    def test_what_people_wrote_is_never_markup(self, report):
        report["frictions"][0]["verbatims"][0] |= {
            "text": "<script>alert(1)</script> <b onclick=x>",
            "url": "javascript:alert(1)",
        }
        report["frictions"][0]["name"] = "<img src=//evil.example/x>"
        report["sources"][0] |= {"status": "failed", "error": "<script>alert(2)</script>"}
        page = Page(pages.snapshot(report))
        assert (page.scripts, page.fetched) == (0, [])
        assert "javascript:" not in pages.snapshot(report)
        assert "<script>alert(1)</script>" in page.text

    def test_full_numbers_of_the_labels_and_groups_of_suggestions_are_in_the_html(self, report):
        for n, suggestion in enumerate(report["suggestions"]):
            suggestion["moving"] = n == 1
        said = Page(pages.snapshot(report)).text
        assert "DX Friction 0.86 / 0.81 (n\u00a0120)" in said.replace("(n 120)", "(n\u00a0120)")
        assert said.index("New or growing") < said.index(report["suggestions"][1]["title"]) < said.index("Always there")

    def test_a_source_left_out_is_told_with_how_far_it_was_read(self, report):
        left_out(report)
        said = Page(pages.part("sources", report)).text
        assert "read up to (UTC)" in said
        assert "forum (forum.csv) left out of this run – – – – 2026-11-15 23:02" in said
        assert 'class="alarm"' not in pages.part("head", report)
        assert "Left out of this run: forum" in Page(pages.part("head", report)).text

    @pytest.mark.parametrize(
        ("weeks", "said"),
        [
            (["2026-11-09"], "first suggested this week"),
            (["2026-11-02", "2026-11-09"], "suggested 2 weeks running"),
            (["2026-11-09", "2026-11-02"], "suggested 2 weeks running"),
            (["2026-08-03", "2026-10-26", "2026-11-02", "2026-11-09"], "suggested 3 weeks running"),
            (["2026-08-03", "2026-11-09"], "suggested again, 2 weeks in all"),
            (["2026-11-09", "2026-11-16", "2026-11-23"], "first suggested this week"),
        ],
    )
    def test_how_long_something_has_been_suggested_is_told_as_such(self, report, weeks, said):
        report["suggestions"][0]["history"] = [f"{week} run 8f30: 34 people, priority 0.86" for week in weeks]
        shown = pages.view(report)["suggestions"][0]["rows"][0]
        assert shown["age"] == said

    def test_a_count_of_few_people_and_what_is_made_of_it_stand_nowhere(self, report):
        report["numbers"][0] |= {"value": 2.0, "text": "2", "baseline": 3.0, "ratio": 0.7, "low": 0.0, "high": 3.88}
        report["findings"][0] |= {"people": 3, "baseline_people": 1.5}
        report["suggestions"][0]["history"] = ["2026-11-09 run 8f30: 3 people, priority 0.86"]
        shown = pages.view(report)
        assert (shown["numbers"][0]["text"], shown["numbers"][0]["change"]) == ("<5", charts.TOO_FEW)
        assert (shown["findings"][0]["people"], shown["findings"][0]["usual"]) == ("<5", "usually <5")
        assert (shown["findings"][0]["ratio"], shown["findings"][0]["q"]) == (charts.TOO_FEW, "")
        assert shown["suggestions"][0]["rows"][0]["history"] == ["2026-11-09 run 8f30: <5 people, priority 0.86"]

    def test_a_section_shows_no_tag_that_contradicts_it(self, report):
        report["delights"][0]["dx_label"], report["frictions"][0]["dx_label"] = "DX Friction", "DX Delight"
        shown = pages.view(report)
        assert (shown["delights"][0]["tag"], shown["frictions"][0]["tag"]) == ("", "")
        assert shown["delights"][0]["liked"]
        assert not shown["frictions"][0]["liked"]

    @pytest.mark.parametrize(
        ("since", "said"),
        [("2026-11-10", "first heard 10 Nov"), ("2026-10-05", "since 5 Oct"), ("2026-08-19", ""), ("2026-05-18", "")],
    )
    def test_since_is_told_unless_it_is_as_old_as_the_data_shown(self, report, since, said):
        report["frictions"][0]["since"] = since
        assert pages.view(report)["frictions"][0]["since"] == said

    def test_languages_not_read_add_up(self, report):
        report["quality"] |= {"unread": 8, "languages": [{"language": "sl", "signals": 5, "read": False}]}
        said = {q["name"]: q["text"] for q in pages.view(report)["quality"]}
        assert said["Languages not read"] == "8 of 261 signals (Slovenian 5, unknown or too short 3)"

    def test_evidence_can_be_followed_from_a_suggestion_to_what_was_said(self, report):
        row, suggestion = report["frictions"][0], report["suggestions"][0]
        assert set(row["evidence"]) & set(suggestion["evidence"])
        made = pages.snapshot(report)
        assert f'href="#topic-{row["topic_id"]}"' in made
        assert made.count(f'id="topic-{row["topic_id"]}"') == 1
        assert f"<code>{row['verbatims'][0]['uid'][:8]}</code> {row['verbatims'][0]['created_at'][:10]}" in made
        assert all(uid[:8] in made for uid in row["evidence"][:20])

    def test_what_changed_and_what_keeps_coming_back_are_two_tables(self, report):
        report["findings"][0] |= {"kind": "recurring", "mentions": 77, "q": None}
        changed, returning = (Page(pages.part(p, report)).text for p in ("changed", "returning"))
        name = report["findings"][0]["name"]
        assert name not in changed
        assert name in returning
        assert "77" in returning

    def test_an_unknown_part_is_refused_with_the_nearest(self, report):
        with pytest.raises(ValueError, match="did you mean 'frictions'"):
            pages.part("friction", report)

    def test_every_number_on_a_page_is_the_reports(self, report):
        shown = pages.view(report)
        assert [n["text"] for n in shown["numbers"]] == [n["text"] for n in report["numbers"]]
        assert shown["numbers"][2]["change"] == "+49 % on usual 54"
        assert shown["numbers"][2]["tone"] == "bad"
        assert shown["numbers"][0]["tone"] == "none"  # neither way is better
        assert [t["ratio"] for t in shown["frictions"]] == ["×4.4", "new", "×1.1", "×1.2", charts.TOO_FEW]
        assert shown["frictions"][0]["evidence"] == f"41 signals, first {report['frictions'][0]['evidence'][0][:8]}"
