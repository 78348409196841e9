"""Signals labelled by people: what is asked, kept, learnt from, and what the numbers about it are worth."""

import csv
import datetime as dt
import sys

import click
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from feedback_lib import encoders, labelling, records
from feedback_lib.analysis import triage
from feedback_lib.commands.label import label
from feedback_lib.errors import ConfigError
from feedback_lib.store import Store

AT = dt.datetime(2026, 11, 16, 9, tzinfo=dt.UTC)
SIGNAL, UNDERSTANDING = records.schema("signals"), records.schema("understanding")
KINDS = ("bug_report", "feature_request", "question")
TEXTS = {
    "bug_report": "The {} crashes with an error whenever I open page {}.",
    "feature_request": "Please add a dark mode to the {}, version {}.",
    "question": "How do I change the colour of the {} on page {}?",
}


def signal(n, kind="bug_report", **given):
    row = dict.fromkeys(SIGNAL)
    text = TEXTS[kind].format(["editor", "viewer", "board", "list", "map"][n % 5], n)
    row |= {"uid": f"u{n:04}", "kind": "files", "origin": "box", "native_id": str(n), "type": "review", "title": ""}
    row |= {"body": text, "created_at": AT - dt.timedelta(days=n), "updated_at": AT, "labels": (), "run_id": "r"}
    row |= given
    return row | {"month": records.month(row["created_at"])}


def inferred(row, n, **given):
    score = 0.3 + (n * 7 % 13) / 20
    one = dict.fromkeys(UNDERSTANDING)
    one |= {"uid": row["uid"], "created_at": row["created_at"], "month": row["month"], "language": "en"}
    one |= {"category": KINDS[n % 3] if score > 0.45 else None, "category_score": score, "dx_score": score}
    one |= {"sentiment": -0.4, "severity_score": 0.5, "language_model": "l", "triage_model": "t", "text_sha256": "x"}
    return one | {"inferred_at": AT, "run_id": "r"} | given


def tables(n=60, of=lambda i: {}, said=lambda i: {}):
    rows = [signal(i, KINDS[i % 3], **of(i)) for i in range(n)]
    beliefs = [inferred(row, i, **said(i)) for i, row in enumerate(rows)]
    return records.frame("signals", rows), records.frame("understanding", beliefs), records.frame("labels", [])


def answered(asked, truth, at=AT):
    """The labels of somebody who says the truth about everything asked."""
    answers = {u: labelling.Answer(category=truth(u)) for u in asked["uid"]}
    return labelling.record(asked, answers, by="ann", at=at)


def kind_of(uid):
    return KINDS[int(uid[1:]) % 3]


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    signals, understanding, _ = tables()
    made.upsert("signals", signals)
    made.upsert("understanding", understanding)
    (tmp_path / "run.yaml").write_text("store: store\n", "utf-8")
    return made


# ---- which are asked


def test_half_is_drawn_at_random_and_half_is_what_the_models_are_least_sure_of():
    signals, understanding, labels = tables()
    asked = labelling.choose(signals, understanding, labels, n=20, seed=3)
    assert asked["uid"].n_unique() == asked.height == 20
    assert asked["chosen"].value_counts().sort("chosen").rows() == [("random", 10), ("uncertain", 10)]
    rest = understanding.filter(~pl.col("uid").is_in(asked["uid"].implode()))
    unsure = asked.filter(pl.col("chosen") == "uncertain")["category_score"]
    assert unsure.max() <= rest["category_score"].min()
    assert asked.equals(labelling.choose(signals.sample(60, shuffle=True, seed=1), understanding, labels, 20, seed=3))
    assert not asked.equals(labelling.choose(signals, understanding, labels, 20, seed=4))


def test_every_signal_is_as_likely_as_any_other_to_be_drawn():
    signals, understanding, labels = tables(40)
    times = np.zeros(40)
    for seed in range(200):
        asked = labelling.choose(signals, understanding, labels, n=20, seed=seed)
        times[[int(u[1:]) for u in asked.filter(pl.col("chosen") == "random")["uid"]]] += 1
    assert abs(times / 200 - 0.25).max() < 0.12  # 10 of 40; 4 standard deviations are 0.12


def test_the_random_half_holds_each_kind_as_often_as_there_are_of_it():
    signals, understanding, labels = tables(60, said=lambda i: {"category": "praise" if i < 12 else "question"})
    asked = labelling.choose(signals, understanding, labels, n=40, seed=1)
    drawn = asked.filter(pl.col("chosen") == "random")["category"]
    assert drawn.to_list().count("praise") == 4


def test_machines_duplicates_unread_and_labelled_signals_are_not_asked_about():
    def of(i):
        return {"type": "error"} if i < 5 else {"body": "The same words."} if i in (20, 21, 22) else {}

    def said(i):
        return {"duplicate_of": "u0050"} if 5 <= i < 10 else {"category_score": None} if 10 <= i < 15 else {}

    signals, understanding, labels = tables(60, of, said)
    asked = labelling.choose(signals, understanding, labels, n=60)
    assert set(asked["chosen"]) == {"random"}  # all there are: a sample of everything
    assert set(asked["uid"]) == {f"u{i:04}" for i in range(15, 60)} - {"u0021", "u0022"}
    labels = answered(asked.filter(pl.col("uid").is_in(["u0020", "u0030"])), kind_of)
    again = labelling.choose(signals, understanding, labels, n=60)
    assert set(again["uid"]) == set(asked["uid"]) - {"u0020", "u0030"}


def test_a_store_with_nothing_left_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="run feedback aggregate first"):
        labelling.start(Store(tmp_path / "empty"), 50, "ann")


# ---- what is kept


def test_an_answer_is_kept_at_once_beside_what_the_models_said(store):
    session = labelling.start(store, 10, "ann")
    row = session.current
    session.answer(labelling.Answer(category="praise", dx_label="none", severity_score=0.0))
    kept = store.read("labels").row(0, named=True)
    assert (kept["uid"], kept["category"], kept["dx_label"], kept["sentiment"]) == (row["uid"], "praise", "none", None)
    assert (kept["predicted_category"], kept["predicted_dx_score"]) == (row["category"], row["dx_score"])
    assert (kept["triage_model"], kept["chosen"], kept["by"]) == ("t", row["chosen"], "ann")
    assert session.position == 1


def test_going_back_replaces_the_answer_and_saying_nothing_keeps_nothing(store):
    session = labelling.start(store, 10, "ann")
    session.answer(labelling.Answer(category="praise"))
    session.back()
    session.answer(labelling.Answer(category="question"))
    session.answer(labelling.Answer())
    session.skip()
    assert store.read("labels")["category"].to_list() == ["question"]
    assert session.position == 3


def test_the_models_view_is_kept_back_where_it_would_judge_itself(store):
    session = labelling.start(store, 20, "ann")
    seen = []
    while session.current:
        seen.append((session.current["chosen"] == "random", session.blind))
        session.skip()
    assert all(drawn == blind for drawn, blind in seen)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"category": "bug"}, "bug_report"), ({"dx_label": "Friction"}, "DX Friction"), ({"sentiment": 3.0}, "-1 to 1")],
)
def test_an_answer_outside_our_words_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        labelling.Answer(**given)


# ---- sheets


def sheet(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(labelling.SHEET)
        writer.writerows(rows)
    return path


def loaded(path, store, at=AT):
    given = [store.read(t) for t in ("signals", "understanding", "labels")]
    return labelling.import_sheet(path, *given, by="ann", at=at)


def test_a_sheet_goes_out_is_filled_in_and_comes_back(store, tmp_path):
    asked = labelling.start(store, 10, "ann").asked
    path = tmp_path / "sheet.csv"
    labelling.export_sheet(asked, path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    assert tuple(lines[0]) == labelling.SHEET
    filled = [[*line[:3], "Bug report", "dx friction", "-0,5", "0.67"] for line in lines[1:]]
    rows, rejected = loaded(sheet(path, filled, ";"), store)
    assert rejected == []
    assert set(rows["category"]) == {"bug_report"}
    assert set(rows.select("dx_label", "sentiment", "severity_score").rows()) == {("DX Friction", -0.5, 0.67)}
    both = rows.join(asked, on="uid", suffix="_asked")
    assert both.height == 10
    for column in ("chosen", "text_sha256"):
        assert both[column].equals(both[f"{column}_asked"], check_names=False)
    assert both["predicted_category_score"].equals(both["category_score"], check_names=False)


def test_bad_lines_of_a_sheet_are_named_and_the_good_ones_load(store, tmp_path):
    path = sheet(
        tmp_path / "sheet.csv",
        [
            ["u0001", "random", "two\nlines", "praise", "", "", ""],
            ["u0002", "random", "", "prase", "", "", ""],
            ["u9999", "random", "", "praise", "", "", ""],
            ["u0003", "", "", "", "", "", ""],
            ["u0004", "", "", "", "none", "much", ""],
            ["u0005", "", "", "", "none", "", ""],
            ["u0001", "random", "", "question", "", "", ""],
            ["u0006", "guess", "", "question", "", "", ""],
        ],
    )
    rows, rejected = loaded(path, store)
    assert rows.select("uid", "category", "chosen").sort("uid").rows() == [
        ("u0001", "praise", "random"),
        ("u0005", None, "uncertain"),  # picked by hand: teaches, but does not judge
    ]
    assert [r.where for r in rejected] == [f"sheet.csv line {n}" for n in (4, 5, 7, 9, 10)]
    reasons = [r.reason for r in rejected]
    for reason, said in zip(reasons, ("praise", "no such signal", "a number", "twice", "random"), strict=True):
        assert said in reason


def test_a_sheet_read_again_keeps_what_the_models_said_before_they_were_told(store, tmp_path):
    path = sheet(tmp_path / "sheet.csv", [["u0001", "random", "", "praise", "", "", ""]])
    rows, _ = loaded(path, store)
    store.upsert("labels", rows)
    wiser = store.read("understanding").with_columns(category=pl.lit("praise"), triage_model=pl.lit("taught"))
    store.upsert("understanding", wiser.with_columns(inferred_at=AT + dt.timedelta(days=1)))
    again, _ = loaded(path, store, AT + dt.timedelta(days=2))
    assert again["predicted_category"].to_list() == rows["predicted_category"].to_list() != ["praise"]
    assert again["triage_model"].to_list() == ["t"]


def test_a_sheet_without_its_columns_is_refused_with_the_missing_ones(store, tmp_path):
    (tmp_path / "sheet.csv").write_text("uid,category\n", "utf-8")
    with pytest.raises(ConfigError, match="no column dx_label, sentiment, severity_score"):
        loaded(tmp_path / "sheet.csv", store)
    with pytest.raises(ConfigError, match="--export"):
        loaded(tmp_path / "none.csv", store)


def test_a_text_that_a_spreadsheet_would_run_is_written_as_text(store, tmp_path):
    asked = labelling.start(store, 2, "ann").asked.with_columns(text=pl.lit("=HYPERLINK(1)"))
    labelling.export_sheet(asked, tmp_path / "sheet.csv")
    assert "'=HYPERLINK" in (tmp_path / "sheet.csv").read_text("utf-8")


# ---- how right the models were


def test_quality_counts_what_was_drawn_at_random_and_only_the_newest():
    signals, understanding, labels = tables(60, said=lambda i: {"category": kind_of(f"u{i:04}")})
    assert labelling.quality(labels).is_empty()
    asked = labelling.choose(signals, understanding, labels, n=40)
    right = answered(asked, kind_of)
    wrong = answered(asked, lambda uid: "praise")
    of = {r["label"]: r for r in labelling.quality(right).to_dicts()}
    assert of["any"]["n"] == 20  # the other half was chosen because the models were unsure
    assert of["any"]["precision"] == 1.0
    assert 0.8 < of["any"]["precision_low"] < 1.0  # twenty of twenty is no proof
    assert of["documentation"]["precision"] is None
    assert of["documentation"]["recall"] is None
    only_wrong = wrong.filter(pl.col("chosen") == "uncertain")
    assert labelling.quality(only_wrong).is_empty()
    later = wrong.with_columns(labelled_at=pl.lit(AT + dt.timedelta(days=1)), uid=pl.lit("w") + pl.col("uid"))
    rolling = {r["label"]: r for r in labelling.quality(pl.concat([right, later]), last=20).to_dicts()}
    assert rolling["any"]["precision"] == 0.0


def test_abstaining_costs_recall_and_not_precision():
    row = triage.judged("category", "praise", ["praise", "praise", "question"], ["praise", None, "question"])
    assert (row["precision"], row["recall"], row["abstained_ratio"], row["n"]) == (1.0, 0.5, 0.5, 2)
    row = triage.judged("dx_label", "any", ["none", "DX Delight"], ["DX Delight", "DX Delight"])
    assert (row["precision"], row["recall"], row["n"]) == (0.5, 1.0, 1)


# ---- learning


JARGON = ("the gizmo is purple", "gizmo purple again", "purple gizmo on floor {}", "room {} has a purple gizmo")


def taught(n, truth, chosen="random", texts=JARGON):
    """Reviewed texts of a product whose people mean something by words that mean nothing to us."""
    rows = [
        {"text": f"{texts[i % len(texts)]} at {i} {['north', 'south', 'east', 'west'][i % 4]}".replace("{}", str(i))}
        | {"category": truth(i), "dx_label": None, "sentiment": None, "severity_score": None, "chosen": chosen}
        for i in range(n)
    ]
    return pl.DataFrame(rows, schema={c: pl.Float64 if c[0] == "s" else pl.String for c in triage.REVIEWED})


@pytest.fixture(scope="module")
def encoder(cache):
    return encoders.minilm(cache)


def test_what_an_analyst_says_changes_what_is_said_of_texts_like_it(encoder):
    texts = ["A purple gizmo in the hall.", "Another gizmo, purple as ever."]
    before = triage.train(encoder.encode)
    after = triage.train(encoder.encode, reviewed=taught(40, lambda i: "praise"))
    index = triage.CATEGORIES.index("praise")
    vectors = encoder.encode(texts)
    old, new = (m.category_scores(texts, vectors)[:, index] for m in (before, after))
    assert (new > old + 0.3).all()
    assert after.predict(texts, vectors)["category"].to_list() == ["praise", "praise"]
    known = triage.labelled().texts[:200]
    vectors = encoder.encode(known)
    same = before.predict(known, vectors)["category"].eq_missing(after.predict(known, vectors)["category"])
    assert same.mean() > 0.9  # and hardly anything else
    assert after.version != before.version
    assert after.version.count("+") == 1


def test_labels_without_rhyme_or_reason_are_not_learnt_by_heart(encoder):
    """Whoever labels by throwing dice must not read a hundred per cent, whatever the models could memorise."""
    drawn = np.random.default_rng(5).choice(triage.CATEGORIES[:3], 60)
    model = triage.train(encoder.encode, reviewed=taught(60, lambda i: str(drawn[i])))
    overall = next(r for r in model.reviewed_quality if (r["kind"], r["label"]) == ("category", "any"))
    assert overall["n"] == 60
    assert overall["recall"] < 0.6
    assert overall["precision"] is None or overall["precision"] < 0.75


def test_a_label_that_the_analyst_shows_to_be_wrong_is_withheld(encoder):
    faults = ("The app crashes when I save {}", "Error on page {}", "It fails to open file {}", "Login is broken in {}")
    mixed = taught(48, lambda i: ("bug_report", "question")[i // 4 % 2], texts=faults)  # a coin decides
    model = triage.train(encoder.encode, reviewed=mixed)
    row = next(r for r in model.reviewed_quality if r["label"] == "bug_report")
    texts = ["The app crashes whenever I open it.", "Please add a dark mode."]
    said = model.predict(texts, encoder.encode(texts))["category"].to_list()
    assert said[0] is None  # withheld, or the threshold has risen above it
    assert said[1] == "feature_request"
    assert row["withheld"] == (row["said"] > 0 and row["precision_high"] < triage.PRECISION)


def test_the_order_of_labels_makes_no_difference_and_hand_picked_ones_do_not_judge(encoder):
    own = taught(12, lambda i: "praise", chosen="uncertain")
    one = triage.train(encoder.encode, reviewed=own)
    other = triage.train(encoder.encode, reviewed=own.reverse())
    assert one.version == other.version
    assert one.reviewed_quality == other.reviewed_quality == []
    texts = ["purple gizmo", "It crashes."]
    assert one.predict(texts, encoder.encode(texts)).equals(other.predict(texts, encoder.encode(texts)))


def test_labels_of_a_text_that_has_changed_since_are_left_out(store):
    session = labelling.start(store, 4, "ann")
    asked = session.asked["uid"].to_list()
    for _ in asked:
        session.answer(labelling.Answer(category="question"))
    assert labelling.reviewed(store).height == 4
    changed = store.read("signals").filter(pl.col("uid") == asked[0])
    store.upsert("signals", changed.with_columns(body=pl.lit("Other words."), updated_at=AT + dt.timedelta(days=1)))
    assert labelling.reviewed(store).height == 3


# ---- the command


@pytest.fixture
def say(store, cache, tmp_path):
    def run(*args, keys=""):
        given = [*args, "-f", str(tmp_path / "run.yaml")]
        return CliRunner().invoke(label, given, input=keys, obj={"quiet": True, "verbose": False})

    return run


def test_keys_through_a_pipe_label_learn_and_say_how_right_the_models_are(say, store):
    done = say("--count", "6", "--as", "ann", keys="1123\n" * 6)
    assert done.exit_code == 0, done.output
    kept = store.read("labels")
    assert kept.select("category", "dx_label", "sentiment", "severity_score").unique().rows() == [
        ("bug_report", "DX Friction", -0.5, 0.67)
    ]
    assert (kept.height, set(kept["by"])) == (6, {"ann"})
    assert "6 of 6" in done.output
    assert "6 of 6 labelled; all are kept." in done.output
    assert "before" in done.output
    shown = say("--show")
    assert "6 signals labelled, 3 of them drawn at random" in shown.output
    assert '"kind": "category"' in say("--show", "--json").output


def test_a_session_broken_off_keeps_what_was_answered_and_does_not_ask_it_again(say, store):
    done = say("--count", "6", keys="1123\ns\n11b12q")
    assert done.exit_code == 0
    assert "1 of 6 labelled" in done.output
    first = store.read("labels")["uid"].to_list()
    assert len(first) == 1
    assert "1 of 59" in say("--count", "60").output  # the input ends without a q
    assert store.read("labels")["uid"].to_list() == first


def test_nothing_that_a_terminal_would_obey_is_printed(say, store):
    evil = store.read("signals").with_columns(body=pl.lit("\x1b[2J\x07gone ") + pl.col("uid"))
    store.upsert("signals", evil.with_columns(updated_at=AT + dt.timedelta(days=1)))
    done = say("--count", "2", keys="q")
    assert "gone" in done.output
    assert "\x1b[2J" not in done.output


def test_a_sheet_with_bad_lines_loads_and_leaves_with_one(say, store, tmp_path):
    path = tmp_path / "sheet.csv"
    assert say("--export", str(path), "--count", "4").exit_code == 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[*line[:3], "question", "", "", ""] for line in list(csv.reader(file))[1:]]
    rows[1][3] = "answer"
    done = say("--import", str(sheet(path, rows)))
    assert done.exit_code == 1
    assert "3 labels read, 1 lines left out." in done.output
    assert "category 'answer'" in done.output
    assert store.read("labels").height == 3


def test_before_anything_is_labelled_there_is_no_number(say):
    assert "No reviewed sample yet" in say("--show").output
    assert say("--show", "--json").output.strip() == "[]"
    assert say("--show", "--export", "x.csv").exit_code == click.UsageError.exit_code


# ---- the buttons


def test_buttons_do_what_the_keys_do(store):
    board = labelling.Board(labelling.start(store, 6, "ann"), learn=lambda: pytest.fail("not asked to learn"))
    assert board.learn.disabled
    seen = []
    while board.session.current:
        blind = board.session.blind
        seen.append(blind)
        assert board.take.disabled == blind
        assert ("models say:" in board.told.value) != blind
        board.choices["category"].value = "praise"
        board.keep.click()
        assert ("models said" in board.after.value) == blind
        assert board.choices["category"].value is None
    assert set(seen) == {True, False}
    assert store.read("labels")["category"].to_list() == ["praise"] * 6
    assert "6 of 6 labelled" in board.told.value
    assert not board.learn.disabled
    board.back.click()
    assert board.choices["category"].value == "praise"  # what was said is shown again


def test_the_text_of_a_signal_is_no_markup(store):
    evil = store.read("signals").with_columns(body=pl.lit("<img src=x onerror=alert(1)> ") + pl.col("uid"))
    store.upsert("signals", evil.with_columns(updated_at=AT + dt.timedelta(days=1)))
    board = labelling.Board(labelling.start(store, 2, "ann"), learn=lambda: pytest.fail("not asked to learn"))
    assert "<img" not in board.told.value
    assert "&lt;img" in board.told.value


def test_the_package_can_be_imported_without_the_notebook_widgets():
    assert "ipywidgets" not in vars(labelling)
    assert sys.modules["feedback_lib.labelling"] is labelling
