"""What only whole understanding shows: topics made of threads."""

import datetime as dt

import pytest

from feedback_lib import encoders, records
from feedback_lib.analysis import topics
from feedback_lib.understand import understand

DAY = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
SUBJECTS = (
    ("The invoice shows the wrong tax rate", "Tax on our invoice is wrong", "The wrong VAT stands on the invoice"),
    (
        "Large uploads stop with a timeout",
        "Uploads over two gigabytes time out",
        "Uploading a big file ends in a timeout",
    ),
)


def row(n, hours=0, **more):
    at = DAY + dt.timedelta(hours=n + hours)
    return {
        "uid": records.uid("t", "o", str(n)), "kind": "t", "origin": "o", "native_id": str(n), "month": "2026-03",
        "created_at": at, "updated_at": at, "run_id": "r", **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def encoder(cache):
    return encoders.make({"kind": "minilm"}, cache=cache, threads=1)


def understood(encoder, replies):
    signals = [row(n, type="ticket", title="Please help", body="", labels=[]) for n in range(24)]
    nothing = {t: records.frame(t, []) for t in ("understanding", "topics")}
    return understand(
        records.frame("signals", signals), nothing["understanding"], nothing["topics"], encoder,
        topics.TopicOptions(seed=42), as_of=DAY + dt.timedelta(days=7), run_id="r", replies=replies,
    )  # fmt: skip


def test_replies_tell_subjects_apart_where_the_first_texts_do_not(encoder):
    said = [
        row(n, 1, uid=f"r{n}", signal=records.uid("t", "o", str(n)), parent=str(n), body=SUBJECTS[n % 2][n // 2 % 3])
        for n in range(24)
    ]
    without, beside = understood(encoder, None), understood(encoder, records.frame("replies", said))
    assert without.topics.height == 1
    assert beside.topics["size"].to_list() == [12, 12]
    assert beside.understanding["text_sha256"].equals(without.understanding["text_sha256"])
    assert beside.understanding["category"].equals(without.understanding["category"])
    assert {"invoice" in name for name in beside.topics["name"]} == {True, False}
