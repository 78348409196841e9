import datetime as dt
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import polars as pl
import pytest

from feedback_lib import charts, pipeline, whats_new
from feedback_lib.errors import ConfigError, StoreError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def new(cache):
    return whats_new.whats_new(pipeline.sample_store(), specs=pipeline.sample_folder())


SLOW, LOGIN = 9_001, 9_002


@pytest.fixture(scope="module")
def told(new):
    """The sample with two topics as the stories were planted, whatever the topics of the run are."""
    words = pl.concat_str("title", "body", separator=" ").str.to_lowercase()
    slow = (pl.col("product_area") == "search") & words.str.contains("slow|timeout|latency|time out|langsam|seconds")
    topic = pl.when(words.str.contains("okta|sso")).then(LOGIN).when(slow).then(SLOW).otherwise(None)
    topics = pl.DataFrame({"topic_id": [SLOW, LOGIN], "name": ["slow search, timeouts", "SSO logout, Okta"]})
    empty = new.topics.clear()
    topics = pl.concat([empty, topics.cast({"topic_id": empty.schema["topic_id"]})], how="diagonal")
    texts = new.texts.with_columns(topic_id=topic.cast(new.texts.schema["topic_id"]))
    return whats_new.dataclasses.replace(new, texts=texts, topics=topics, findings=new.findings.clear())


def topic_about(new, *words):
    return next(t for t in new.badges if any(w in new.names[t] for w in words))


def texts(picture):
    return ["".join(t.itertext()) for t in ET.fromstring(picture.text).iter(f"{SVG}text")]


class TestFindings:
    def test_the_planted_stories_come_first_with_people_rate_and_origins(self, new):
        moving = ["new", "regression", "growing"]
        topics = new.findings.filter(pl.col("subject_type") == "topic", pl.col("kind").is_in(moving))
        assert "growing" in set(topics["kind"])
        said = " ".join(topics["name"])
        assert "search" in said or "latency" in said
        assert "Okta" in said or "SSO" in said
        assert topics["people"].min() >= 3
        assert topics.filter(pl.col("kind") == "growing")["low"].min() > 1
        assert topics["q"].max() < 0.05
        assert all(new.findings["origins"].list.len() > 0)
        kinds = new.findings["kind"].to_list()
        assert kinds == sorted(kinds, key=list(whats_new.trends.KINDS).index)

    def test_each_has_central_and_dissenting_voices_of_different_people(self, new):
        row = new.findings.filter(pl.col("topic_id") == topic_about(new, "search", "latency")).row(0, named=True)
        uids = [v["uid"] for v in row["central"] + row["dissenting"]]
        assert (len(row["central"]), len(row["dissenting"])) == (3, 2)
        people = new.texts.filter(pl.col("uid").is_in(uids))["person"]
        assert people.n_unique() == 5

    def test_the_summary_tells_the_verdict_and_the_table_opens_to_links(self, new):
        assert new.report["verdict"].split("”")[0].strip("“") in new._repr_html_()
        page = new.evidence()
        assert page.count("<details>") == new.findings.height
        assert re.search(r"<a href='https://[^']*beacon\.example[^']*'>source</a>", page)

    def test_an_unknown_run_is_refused(self):
        with pytest.raises(StoreError, match="no report of run"):
            whats_new.whats_new(pipeline.sample_store(), "nothing")

    def test_nothing_found_says_so(self, new):
        quiet = whats_new.dataclasses.replace(new, findings=new.findings.clear())
        assert "more than chance explains" in quiet.evidence()
        assert quiet.badges == {}
        assert "Deploys" in quiet.river().alt
        assert "No topic moved" in charts.document_map_words([], quiet._islands())


class TestVerbatims:
    def row(self, n, score, body="What people write of the thing in about fifty letters.", language="en"):
        made = {"uid": str(n), "person": f"p{n}", "title": "", "body": f"{n} {body}", "url": None}
        return made | {"topic_score": score, "language": language, "duplicate_of": None}

    def test_of_the_best_third_those_that_are_quickly_read_go_first(self):
        rows = [
            self.row(n, 1 - n / 30, "long " * 200 if n < 3 else "as it is, it does not work for me at all")
            for n in range(30)
        ]
        central, dissenting = whats_new._verbatims(rows, scored=True)
        assert [v["uid"] for v in central] == ["3", "4", "5"]
        assert [v["uid"] for v in dissenting] == ["29", "28"]

    def test_one_text_in_a_language_few_write_is_enough(self):
        rows = [self.row(n, 1 - n / 30, language="cs" if n < 5 else "en") for n in range(20)]
        central, _ = whats_new._verbatims(rows, scored=True)
        assert [v["uid"] for v in central] == ["0", "5", "6"]

    def test_few_or_no_texts_are_shown_as_they_are(self):
        assert whats_new._verbatims([], scored=True) == ([], [])
        central, dissenting = whats_new._verbatims([self.row(0, None, "no")])
        assert (len(central), dissenting) == (1, [])


class TestRiver:
    def test_names_what_moved_with_its_share_and_the_deploys(self, new):
        said = texts(new.river())
        assert any(t.startswith(new.names[topic_about(new, "search", "latency")][:20]) for t in said)
        assert {"4.2.0", "deploys"} <= set(said)
        assert any(re.fullmatch(r"\d+ % (new|growing)", t) for t in said)
        assert any("other topics" in t or "more topics" in t for t in said)

    def test_the_share_is_of_all_people_heard(self, new):
        topic = topic_about(new, "search", "latency")
        rows = new.texts.filter(pl.col("week") == new.week)
        share = rows.filter(pl.col("topic_id") == topic)["person"].n_unique() / rows["person"].n_unique()
        assert new._band("x", new._of(topic))["shares"][-1] == pytest.approx(share)

    def test_the_widget_is_the_same_chart_and_small(self, new):
        widget = new.river("widget")
        assert len(json.dumps(widget.spec)) < 200_000


def bands(shares, badges):
    named = [f"topic {n}" for n in range(len(shares))]
    return [
        {"name": n, "badge": b, "delight": False, "shares": s, "people": 9}
        for n, s, b in zip(named, shares, badges, strict=True)
    ]


class TestRiverChart:
    def test_a_band_is_as_wide_as_its_share_and_none_overlaps(self):
        made = charts.river(["a", "b"], bands([[0.1, 0.3], [0.2, 0.1]], ["GROWING", ""]))
        rows = [r for d in made.to_dict()["datasets"].values() for r in d if "low" in r]
        width = {(r["topic"], r["x"]): round(r["high"] - r["low"], 5) for r in rows}
        assert width == {("topic 0", 0.5): 0.1, ("topic 0", 1.5): 0.3, ("topic 1", 0.5): 0.2, ("topic 1", 1.5): 0.1}
        edges = {(r["topic"], r["x"]): r for r in rows}
        assert all(edges["topic 0", x]["low"] == pytest.approx(edges["topic 1", x]["high"]) for x in (0.5, 1.5))

    def test_a_week_without_data_breaks_the_bands(self):
        made = charts.river(["a", "b", "c"], bands([[0.1, None, 0.1]], [""]))
        rows = [r for d in made.to_dict()["datasets"].values() for r in d if r.get("x") == 1.5 and "low" in r]
        assert {(r["low"], r["share"]) for r in rows} == {(None, "no data")}

    def test_names_at_the_end_do_not_lie_on_each_other(self):
        many = bands([[0.001, 0.001]] * 7 + [[0.5, 0.5]], ["NEW"] + [""] * 7)
        tree = ET.fromstring(charts.svg(charts.river(["a", "b"], many), alt="w"))
        ends = [t for t in tree.iter(f"{SVG}text") if "".join(t.itertext()).startswith("topic")]
        heights = sorted(float(re.search(r",([\d.]+)\)", t.get("transform"))[1]) for t in ends)
        assert len(heights) == 8
        assert min(np.diff(heights)) >= 14

    def test_no_topic_still_draws(self):
        assert charts.svg(charts.river(["a"], []), alt="w").startswith("<svg")
        assert "no topic" in charts.river_words(["a"], [], [], [])


class TestMap:
    def test_every_text_is_a_dot_and_what_moved_is_named(self, new):
        picture = new.map()
        said = " ".join(texts(picture))
        assert new.places.height == new.texts.height
        for topic in new.badges:
            assert new.names[topic].split(",")[0].split()[0] in said
        spots = sum(
            len(re.findall(r"h0(?=M|$)", p.get("d", ""))) for p in ET.fromstring(picture.text).iter(f"{SVG}path")
        )
        assert spots == new.texts.height
        assert len(picture.text) < 100_000

    def test_what_is_dragged_over_is_listed_and_a_click_shows_the_text(self, new):
        first = new.places.row(0, named=True)
        px, py = first["x"] * 860, (1 - first["y"]) * 560
        listed = new.selected({"brush": {"px": [px - 1, px + 1], "py": [py + 1, py - 1]}})
        title = new.texts.filter(pl.col("uid") == first["uid"])["title"][0]
        assert whats_new.html.escape(title.split()[0]) in listed
        assert "1 texts" in listed or "texts" in listed
        shown = new.selected({"text": {"n": [0]}})
        assert "pre-wrap" in shown
        assert "Drag over" in new.selected({})

    def test_the_page_stands_alone_and_its_titles_end_no_script(self, new, tmp_path):
        text = new.page(tmp_path / "map.html").read_text("utf-8")
        assert len(text) < 1_400_000
        assert text.count("</script>") == 1
        assert re.findall(r'(?:src|href)="https?:', text) == []

    def test_the_widget_tells_what_is_selected(self, new):
        box = new.map("widget")
        box.children[0].selection = {"text": {"n": [1]}}
        assert "pre-wrap" in box.children[1].value


class TestPanels:
    def test_the_planted_link_is_claimed_with_its_lag_interval_and_chance_and_said_to_be_no_proof(self, told):
        made = told.panels()
        assert (made.topic_id, made.what) == (SLOW, "retrieval API: search_latency_p99")
        assert made.follows.clear
        assert made.follows.first < 6
        for said in ("product area “search”", "Complaints follow", "p = 0.0", "95 % interval", "need not be caused"):
            assert said in made.note

    def test_a_topic_stands_above_its_service_on_one_axis(self, told):
        made = told.panels(SLOW, "spec-core-001")
        said = ["".join(t.itertext()) for t in ET.fromstring(made.picture).iter(f"{SVG}text")]
        assert any(t.startswith("People who speak of") for t in said)
        assert any(t.startswith("Error budget") for t in said)
        assert "4.2.0" in said
        assert "After 4.2.0 (10 Nov 14:00 UTC)" in made.note
        assert re.search(r"sure \d+ hours after it", made.note)
        assert "<li>After 4.2.0" in made._repr_html_()

    def test_a_topic_about_no_service_is_asked_about_and_claims_nothing_of_a_named_one(self, told):
        asked = told.panels(LOGIN)
        assert asked.picture is None
        assert "spec-core-001 (retrieval API), spec-reg-002" in asked.note
        named = told.panels(LOGIN, "spec-core-001")
        assert named.picture is not None
        assert named.follows is None
        assert "nothing is claimed" in named.note
        assert "Complaints follow" not in named.note

    def test_complaints_about_the_service_that_begin_at_another_time_claim_nothing(self, told):
        moved = pl.when(pl.col("topic_id") == SLOW).then(pl.col("created_at") - pl.duration(days=3, hours=12))
        sooner = told.texts.with_columns(created_at=moved.otherwise(pl.col("created_at")))
        placebo = whats_new.dataclasses.replace(told, texts=sooner)
        placebo._reviews.update(told._reviews)
        made = placebo.panels(SLOW)
        assert made.what == "retrieval API: search_latency_p99"
        assert not made.follows.clear
        assert "No claim." in made.note

    def test_no_service_or_an_unknown_one_is_said(self, told):
        alone = whats_new.dataclasses.replace(told, root=None)
        assert "No service is measured here" in alone.panels().note
        assert "no deploy" in alone.river().alt.lower()
        with pytest.raises(ConfigError, match="spec-core-001"):
            told.panels(spec_id="spec-core-9")


class TestDocuments:
    def test_members_come_most_central_first_with_two_other_topics(self, new):
        topic = topic_about(new, "search", "latency")
        found = new.documents(topic)
        assert found.height == new.texts.filter(pl.col("topic_id") == topic).height
        assert found["distance"].is_sorted()
        assert new.names[topic] not in {*found["neighbour"], *found["neighbour_2"]}
        assert (found["neighbour_distance"] <= found["neighbour_2_distance"]).all()

    def test_an_older_store_without_centroids_has_distances_too(self, new):
        topics = new.topics.with_columns(centroid=pl.lit([], dtype=pl.List(pl.Float64)), theme=pl.lit(None, pl.String))
        older = whats_new.dataclasses.replace(new, topics=topics)
        assert older.documents(new.ranked[0])["distance"].null_count() == 0

    def test_an_unknown_topic_is_refused(self, new):
        with pytest.raises(ConfigError, match="no topic 99999"):
            new.documents(99999)

    def test_only_web_addresses_are_links(self, new):
        row = {"title": "a <b>", "url": "javascript:alert(1)"}
        assert whats_new._link(row) == "a &lt;b&gt;"


def test_days_without_a_measurement_are_unknown_and_falling_is_worse_for_availability():
    figure = {
        "days": 3.0,
        "op": ">=",
        "series": [{"x": 0.2, "value": 99.0}, {"x": 0.7, "value": 97.0}, {"x": 2.5, "value": 50.0}],
    }
    found = whats_new._daily(figure)
    assert found[0] == -98
    assert np.isnan(found[1])
    assert found[2] == -50


@pytest.mark.thorough  # tests/analysis/test_layout.py shows it of smaller maps
def test_the_map_of_a_week_is_the_same_twice(new):
    again = whats_new.whats_new(pipeline.sample_store(), specs=pipeline.sample_folder())
    assert again.places.equals(new.places)
    assert again.findings.equals(new.findings)
    assert new.week < dt.date(2026, 11, 16)
