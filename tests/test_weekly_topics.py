"""Topics from week to week through the whole run: ids, people's decisions, late data, labels, merges, releases."""

import csv
import dataclasses
import datetime as dt
import json
import shutil

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from feedback_lib import config, decisions, pipeline, records
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
        done = called(*arguments, "--params", self.home / "weekly.yaml")
        return done

    def outbox(self):
        return sorted(p.name for p in (self.home / "out").iterdir())


def uid(native_id):
    return records.uid("files", "box", native_id)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A world after the runs of weeks 7 to 10; the camera is spoken of from week 8 on. And its state after week 9."""
    world = World.make(tmp_path_factory.mktemp("topics") / "world")
    seen = {}
    for week in range(7, 11):
        if week == 10:
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
    for week in (8, 9, 10):
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
    world.run(10)
    assert (world.outbox(), world.topic_of()) == before[:2]
    assert world.store.read("findings").equals(before[2])
    assert world.registry.read_bytes() == before[3]
    assert world.store.read("suggestions")["history"].equals(history)


def test_one_thread_gives_what_two_give(made, tmp_path):
    one = made[1].copy(tmp_path / "one")
    one.run(10, "threads=1")
    assert one.topic_of() == made[2][10][1]
    content = pl.exclude("run_id")
    assert one.store.read("topics").select(content).equals(made[0].store.read("topics").select(content))


# ---- what people decide -------------------------------------------------------------------------------------------


def test_decisions_hold_from_the_next_run_on_in_reports_in_later_weeks_and_on_another_machine(
    made, tmp_path, monkeypatch
):
    world = made[1].copy(tmp_path / "world")
    login, upload, search, paper, calendar, billing = (made[1].topic(s) for s in SUBJECTS)
    moved = [uid("search-0-0"), uid("camera-9-0")]
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
    for week in (9, 10, 11):
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
