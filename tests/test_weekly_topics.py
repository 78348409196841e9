"""Topics from week to week through the whole run: ids, people's decisions, late data, labels, merges, releases."""

import concurrent.futures
import csv
import datetime as dt
import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from feedback_lib import config, decisions, pages, pipeline, records
from feedback_lib.analysis.registry import Decision
from feedback_lib.errors import ConfigError
from feedback_lib.store import Store
from tests.commands import called

START = dt.date(2026, 8, 3)  # a Monday
SUBJECTS = {
    "login": "login password account locked token session expired",
    "upload": "upload file attachment progress stuck megabytes folder",
    "search": "search results query index slow filter ranking",
    "print": "print paper margins preview landscape printer pages",
    "calendar": "calendar meeting invite timezone reminder event recurring",
    "billing": "invoice payment card refund receipt charge subscription",
}
LATER = "camera photo blurry flash gallery zoom lens"  # a subject that begins in week 8
WEEKS, EACH = 12, 4


def texts():
    """One row per text: id, day, author, title, body; the same on every call."""
    rng = np.random.default_rng(3)
    rows = []
    for week in range(WEEKS):
        told = dict(SUBJECTS) | ({"camera": LATER} if week >= 8 else {})
        for subject, words in told.items():
            for n in range(EACH if subject != "camera" else 7):
                chosen = rng.choice(words.split(), 5, replace=False).tolist()
                at = dt.datetime.combine(START, dt.time(9), dt.UTC) + dt.timedelta(weeks=week, days=n % 5, hours=n)
                rows.append(
                    {
                        "native_id": f"{subject}-{week}-{n}",
                        "created_at": at.isoformat(),
                        "author": f"p{week}-{subject}-{n}",
                        "title": " ".join(chosen),
                        "body": f"case {week} {n}",
                        "locale": "en",
                        "version": "2.0" if subject == "camera" else "1.9",
                    }
                )
    return rows


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        made = csv.DictWriter(file, list(rows[0]))
        made.writeheader()
        made.writerows(rows)


def make_model(folder):
    """A static encoder that knows the words of the subjects: words of one subject are near each other."""
    rng = np.random.default_rng(7)
    words, table = ["[UNK]"], [rng.standard_normal(24) * 0.05]
    for vocabulary in (*SUBJECTS.values(), LATER):
        centre = rng.standard_normal(24)
        for word in vocabulary.split():
            words.append(word)
            table.append(centre + 0.5 * rng.standard_normal(24))
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": np.array(table, np.float32)}, folder / "model.safetensors")


class World:
    """A folder with params, data, store and registry; copies of it are cheap."""

    def __init__(self, home):
        self.home = home

    @classmethod
    def make(cls, home):
        home.mkdir(parents=True, exist_ok=True)
        make_model(home / "model")
        write(home / "box.csv", texts())
        (home / "weekly.yaml").write_text(
            "product: Test\nstore: store\nreports: reports\nregistry: topics.yaml\nsinks: [{kind: file, folder: out}]\n"
            "encoder: {kind: static, path: " + f"{home}/model" + "}\n"
            "sources: [{kind: files, name: box, path: box.csv, type: ticket}]\n",
            "utf-8",
        )
        return cls(home)

    def copy(self, home):
        shutil.copytree(self.home, home)
        return World(home)

    def cfg(self, *overrides):
        return config.load(self.home / "weekly.yaml", list(overrides))

    def run(self, week, *overrides):
        """The run on the Monday after a week."""
        at = dt.datetime.combine(START, dt.time(6), dt.UTC) + dt.timedelta(weeks=week + 1)
        return pipeline.aggregate(self.cfg(*overrides), as_of=at)

    def topic_of(self):
        return dict(self.store.read("understanding").select("uid", "topic_id").iter_rows())

    @property
    def store(self):
        return Store(self.home / "store")

    @property
    def registry(self):
        return self.home / "topics.yaml"

    def topic(self, subject, week=0):
        """The topic that most texts of a subject have."""
        given = self.topic_of()
        found = [given.get(uid(f"{subject}-{w}-{n}")) for w in range(week, WEEKS) for n in range(EACH)]
        found = [t for t in found if t is not None]
        return max(sorted(set(found)), key=found.count)

    def name(self, topic):
        return self.store.read("topics").filter(pl.col("topic_id") == topic)["name"][0]

    def command(self, *arguments):
        return called(*arguments, "--params", self.home / "weekly.yaml")

    def outbox(self):
        return sorted(p.name for p in (self.home / "out").iterdir())


def trust(run):
    """What the report says of its own numbers: name of the row → text."""
    shown = run.report.to_dict()
    return {row["name"]: row["text"] for row in pages._quality(shown["quality"], shown["feedback_items_processed"])}


def uid(native_id):
    return records.uid("files", "box", native_id)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A world after the runs of weeks 7 to 9; the camera is spoken of from week 8 on. And its state after week 8."""
    world = World.make(tmp_path_factory.mktemp("topics") / "world")
    seen = {}
    for week in range(7, 10):
        if week == 9:
            before = world.copy(world.home.parent / "before")
        seen[week] = world.run(week), world.topic_of()
    return world, before, seen


@pytest.fixture
def world(made, tmp_path):
    """A copy of that world for one test."""
    return made[0].copy(tmp_path / "world")


# ---- the same topic next week -------------------------------------------------------------------------------------


def test_texts_keep_their_topic_from_week_to_week_and_a_new_subject_is_a_new_topic(made):
    world, _, seen = made
    for week in (8, 9):
        before, after = seen[week - 1][1], seen[week][1]
        assert {u: after[u] for u in before} == before
    assert len({world.topic(s) for s in SUBJECTS}) == len(SUBJECTS)
    camera = world.topic("camera")
    assert camera not in set(seen[7][1].values())
    findings = seen[8][0].report.to_dict()["findings"]
    assert {("new", str(camera))} == {(f["kind"], f["subject"]) for f in findings if f["subject_type"] == "topic"}


def test_the_same_week_again_changes_nothing_and_sends_nothing(world):
    before = world.outbox(), world.topic_of(), world.store.read("findings"), world.registry.read_bytes()
    history = world.store.read("suggestions")["history"]
    world.run(9)
    assert (world.outbox(), world.topic_of()) == before[:2]
    assert world.store.read("findings").equals(before[2])
    assert world.registry.read_bytes() == before[3]
    assert world.store.read("suggestions")["history"].equals(history)


@pytest.mark.thorough  # test_pipeline.py runs again and compares
def test_one_thread_gives_what_two_give(made, tmp_path):
    one = made[1].copy(tmp_path / "one")
    one.run(9, "threads=1")
    assert one.topic_of() == made[2][9][1]
    content = pl.exclude("run_id")
    assert one.store.read("topics").select(content).equals(made[0].store.read("topics").select(content))


# ---- what people decide -------------------------------------------------------------------------------------------


def test_decisions_hold_from_the_next_run_on_in_reports_in_later_weeks_and_on_another_machine(
    made, tmp_path, monkeypatch
):
    world = made[1].copy(tmp_path / "world")
    login, upload, search, paper, calendar, billing = (made[1].topic(s) for s in SUBJECTS)
    moved = [uid("search-0-0"), uid("camera-8-0")]
    old = world.store.read("runs").sort("as_of")["run_id"][-1]
    for arguments in (
        ("rename", login, "Cannot log in", "--by", "ana"),
        ("merge", calendar, "--into", billing, "--reason", "one desk"),
        ("forbid", paper),
        ("move", *moved, "--to", upload),
        ("apart", upload, search),
        ("pin", billing),
    ):
        done = world.command("topics", *arguments)
        assert done.returncode == 0, done.stderr
    for week in (9, 11):
        run = world.run(week)
        given = world.topic_of()
        rows = {t["topic_id"]: t for t in world.store.read("topics").to_dicts()}
        assert rows[login]["name"] == "Cannot log in"
        assert rows[login]["named_by"] == "ana"
        assert {given[u] for u in moved} == {upload}
        assert given[uid("calendar-2-1")] == given[uid("billing-2-1")] == billing
        assert given[uid("print-2-1")] is None
        assert calendar in rows[billing]["parents"]
        assert rows[calendar]["retired_on"] is not None
        assert run.report.to_dict()["quality"]["notes"] == []
        assert decisions.load(world.registry).proposals == {}  # the pin holds the two subjects of it together
    shown = json.dumps(run.report.to_dict())
    assert "Cannot log in" in shown
    rows = pipeline.rerun(world.cfg(), old)  # of before the decisions
    assert [r for r in rows if not r["equal"]] == []

    away = world.copy(tmp_path / "away")
    shutil.rmtree(away.home / "store")
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path / "empty"))
    away.run(11)
    assert away.topic_of() == world.topic_of()
    names = pl.col("topic_id", "name", "theme", "pinned", "named_by", "born_on", "parents")
    assert away.store.read("topics").select(names).equals(world.store.read("topics").select(names))


@pytest.mark.thorough  # test_decisions.py shows it of rows
def test_a_split_written_by_hand_is_carried_out_and_what_a_topic_was_is_listed(made, tmp_path):
    world = made[1].copy(tmp_path / "world")
    login, upload = world.topic("login"), world.topic("upload")
    both = world.registry.read_text("utf-8").replace(
        "decisions:\n", f"decisions:\n- merge: {upload}\n  into: {login}\n", 1
    )
    world.registry.write_text(both, "utf-8")
    world.run(9)
    assert "merged into" in world.command("topics", "list", "--all").stdout
    proposed = world.command("topics", "list").stdout
    assert f"1. split {login} " in proposed
    assert "+- id: " in world.command("topics", "diff").stdout
    assert world.command("topics", "accept", "1").returncode == 0
    world.run(9)
    given = world.topic_of()
    assert given[uid("login-3-0")] != given[uid("upload-3-0")]
    assert {given[uid("login-3-0")], given[uid("upload-3-0")]} == {login, max(t for t in given.values() if t)}


def test_a_moved_text_that_is_older_than_the_window_is_no_news(world):
    world.command("topics", "move", uid("search-0-0")[:8], "beef0000", "--to", world.topic("login"))
    notes = world.run(30).report.to_dict()["quality"]["notes"]
    assert notes == ["text beef0000 is not among the texts of this run"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("- renam: 4\n  to: x\n", "line 12: unknown decision 'renam'; did you mean 'rename'"),
        ("- rename: [4\n  to: x\n", "line 13: not valid YAML"),
        ("- pin: 99\n", "line 12: there is no topic 99"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_read(world, entry, said):
    text = world.registry.read_text("utf-8")
    world.registry.write_text(text.replace("decisions:\n", f"decisions:\n{entry}", 1), "utf-8")
    before = world.store.versions()
    with pytest.raises(ConfigError, match=said):
        world.run(10)
    assert world.store.versions() == before


@pytest.mark.thorough  # test_suggest.py shows it of rows
def test_a_suggestion_follows_its_topic_into_another_or_is_closed_and_opens_again(world):
    rows = {s["subject"]: s for s in world.store.read("suggestions").to_dicts()}
    with_one = [int(s.removeprefix("topic:")) for s in sorted(rows)]
    topics = [t for t in world.store.read("topics")["topic_id"] if world.name(t)]
    without = next(t for t in topics if t not in with_one)
    camera, first, second = world.topic("camera"), *[t for t in with_one if t != world.topic("camera")][:2]
    text = world.registry.read_text("utf-8")
    world.command("topics", "merge", camera, "--into", without)
    world.command("topics", "merge", first, "--into", second)
    world.run(9)
    after = {s["suggestion_id"]: s for s in world.store.read("suggestions").to_dicts()}
    followed = after[rows[f"topic:{camera}"]["suggestion_id"]]
    assert (followed["subject"], followed["state"]) == (f"topic:{without}", "open")
    ended = after[rows[f"topic:{first}"]["suggestion_id"]]
    assert ended["state"] == "closed"
    assert ended["history"][-1].endswith(f"closed, topic {first} is part of topic {second} now")
    assert ended["suggestion_id"] not in {s["suggestion_id"] for s in pipeline.suggestions(world.cfg())}
    world.registry.write_text(text, "utf-8")  # the decisions are taken back
    world.run(10)
    again = {s["suggestion_id"]: s for s in world.store.read("suggestions").to_dicts()}
    assert again[ended["suggestion_id"]]["state"] == "open"


# ---- the file and the store ---------------------------------------------------------------------------------------


def test_a_run_killed_before_it_wrote_the_file_is_made_good_by_the_next(made, tmp_path, monkeypatch):
    world = made[1].copy(tmp_path / "world")
    text = world.registry.read_text("utf-8")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decisions, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            world.run(9)
    assert world.registry.read_text("utf-8") == text
    world.run(9)
    assert world.topic_of() == made[2][9][1]
    assert world.registry.read_text("utf-8") == made[0].registry.read_text("utf-8")


def test_a_file_that_cannot_be_written_costs_the_list_and_not_the_report(world, tmp_path):
    said = []
    at = dt.datetime.combine(START, dt.time(6), dt.UTC) + dt.timedelta(weeks=11)
    run = pipeline.aggregate(world.cfg("registry=/proc/nowhere/topics.yaml"), as_of=at, progress=said.append)
    assert run.status == "degraded"
    assert any("/proc/nowhere/topics.yaml" in line and "registry" in line for line in said)
    assert len(world.outbox()) == 4
    assert len(world.topic_of()) > 200


def test_of_many_who_decide_at_once_nobody_is_lost(world):
    read = decisions.load(world.registry)  # all of them have seen the same file
    made = [Decision(kind="rename", topics=(t["id"],), name=f"Name {t['id']}") for t in read.topics]
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        list(pool.map(lambda one: decisions.add(read, [one]), made))
    assert sorted(d.name for d in decisions.load(world.registry).decisions) == sorted(d.name for d in made)
    assert len(decisions.load(world.registry).centres) == len(read.topics)


def test_a_store_of_the_version_before_goes_on_with_its_topics(world):
    new = ("named_by", "pinned", "theme_id", "theme", "centroid", "least")
    old = world.store.read("topics").drop(new)
    given = world.topic_of()
    shutil.rmtree(world.home / "store" / "topics")
    write_deltalake(world.home / "store" / "topics", old)
    findings = world.store.read("findings").drop("origins", "per", "release")
    shutil.rmtree(world.home / "store" / "findings")
    write_deltalake(world.home / "store" / "findings", findings)
    for table in ("counts",):
        shutil.rmtree(world.home / "store" / table)
    runs = world.store.read("runs")
    inputs = [json.loads(text) for text in runs["inputs"]]
    for made in inputs:
        made.pop("given")
        for part in made.values():
            part.pop("counts", None)
        made["read"]["topics"] = 0
    world.store.upsert("runs", runs.with_columns(inputs=pl.Series([json.dumps(made) for made in inputs])))
    world.registry.unlink()
    quality = world.run(10).report.to_dict()["quality"]
    after = world.topic_of()
    assert {u: after[u] for u in given} == given
    assert world.store.read("topics")["name"].to_list() == old["name"].to_list()
    assert (quality["revised"], quality["notes"]) == ([], [])
    assert world.registry.exists()


# ---- late, labelled, merged, counted ------------------------------------------------------------------------------


def test_what_came_late_revises_the_week_it_is_of_and_is_told_again_when_the_week_is_run_again(world):
    late = [
        r | {"native_id": f"late-{i}", "author": f"late-{i}"}
        for i, r in enumerate(texts())
        if "search-7" in r["native_id"]
    ]
    write(world.home / "box.csv", texts() + late)
    week = (START + dt.timedelta(weeks=7)).isoformat()
    told = {
        "week": week,
        "subject": str(world.topic("search")),
        "people_before": 4,
        "people": 8,
        "late": 4,
        "why": "revised",
    }
    for _ in range(2):
        run = world.run(10)
        (row,) = run.report.to_dict()["quality"]["revised"]
        assert {key: row[key] for key in told} == told
    assert f"week {dt.date.fromisoformat(week).isocalendar().week}: <5 → 8 people, 4 came late" in trust(run)["Revised"]
    file, topics = world.registry.read_bytes(), world.store.version("topics")
    world.run(8)
    assert (world.registry.read_bytes(), world.store.version("topics")) == (file, topics)


@pytest.mark.thorough  # test_labelling.py shows it of rows
def test_a_person_s_label_holds_until_the_text_is_edited(world):
    sheet = world.home / "sheet.csv"
    world.command("label", "--count", "20", "--export", sheet)
    with sheet.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    write(sheet, [row | {"category": "praise", "dx_label": "none"} for row in rows])
    assert world.command("label", "--import", sheet, "--as", "ana").returncode == 0
    edited = rows[0]["uid"]
    write(world.home / "box.csv", [r | ({"body": "edited"} if uid(r["native_id"]) == edited else {}) for r in texts()])
    before = world.store.read("understanding")["triage_model"][0]
    run = world.run(10)
    after = {r["uid"]: r for r in world.store.read("understanding").to_dicts()}
    labelled = [after[r["uid"]] for r in rows if r["uid"] != edited]
    assert {(r["category"], r["category_score"], r["dx_label"]) for r in labelled} == {("praise", 1.0, None)}
    assert after[edited]["category_score"] != 1.0
    assert after[edited]["triage_model"] != before
    assert re.search(r"all kinds [\d.–]+.*\(", trust(run)["Reviewed"])


@pytest.mark.thorough  # test_merging.py shows it of rows
def test_people_s_word_on_duplicates_shows_in_the_next_run_and_nobody_is_lost(world):
    older, later = uid("login-0-0"), uid("login-9-1")
    people = world.store.read("counts").select("week", "subject", "people")
    assert world.command("duplicates", "merge", later, "--into", older).returncode == 0
    world.run(9)
    pointed = dict(world.store.read("understanding").select("uid", "duplicate_of").iter_rows())
    assert (pointed[later], pointed[older]) == (older, None)
    assert world.store.read("counts").select("week", "subject", "people").equals(people)
    assert world.command("duplicates", "unmerge", later).returncode == 0
    world.run(9)
    assert dict(world.store.read("understanding").select("uid", "duplicate_of").iter_rows())[later] is None


def test_rates_are_per_what_the_exposure_counts_and_a_release_is_named(made, tmp_path):
    world = made[1].copy(tmp_path / "world")
    lines = [f"{START + dt.timedelta(days=i)},1000," for i in range(120)]
    (world.home / "used.csv").write_text("day,active_users,product_area\n" + "\n".join([*lines, "soon,5,"]), "utf-8")
    spec = world.home / "specs" / "my-api"
    spec.mkdir(parents=True)
    (spec / "spec.md").write_text("# My API\n", "utf-8")
    (spec / "deploys.csv").write_text(f"at,version\n{START + dt.timedelta(weeks=9)}T00:00Z,2.0\n", "utf-8")
    (spec / "observability.yaml").write_text(
        "provider: csv_file\npath: m.csv\ndeploys: deploys.csv\n"
        "metrics: [{name: api_uptime, query: up, target: '> 99.9%'}]\n",
        "utf-8",
    )
    run = world.run(9, f"exposure={world.home}/used.csv", f"specs={world.home}")
    shown = run.report.to_dict()
    finding = next(f for f in shown["findings"] if f["subject"] == str(world.topic("camera")))
    assert finding["per"] == "active users"
    assert shown["quality"]["notes"][0].startswith("used.csv:122")
    assert [r for r in pipeline.rerun(world.cfg(), run.run_id) if not r["equal"]] == []
    with pytest.raises(ConfigError, match=r"exposure .*gone.csv: No such file.*Name a CSV file"):
        pipeline.plan(world.cfg(f"exposure={world.home}/gone.csv"))


def test_an_encoder_of_any_language_reads_every_text_as_it_is(tmp_path):
    world = World.make(tmp_path / "world")
    said = [
        ("de", "Das Hochladen der Datei schlägt fehl und niemand hilft"),
        ("ja", "ファイルをアップロードできません"),
    ]
    rows = [r | {"title": said[i % 2][1], "locale": said[i % 2][0], "body": ""} for i, r in enumerate(texts()[:24])]
    write(world.home / "box.csv", texts()[24:72] + rows)
    quality = world.run(3).report.to_dict()["quality"]
    assert quality["unread"] == 0
    assert {r["language"]: r["read"] for r in quality["languages"]} == {"en": True, "de": True, "ja": True}
