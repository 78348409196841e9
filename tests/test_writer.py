"""Names worded by a language model: off by default, little leaves, nothing fails for it; the service is real, here."""

import datetime as dt
import json

import pytest
from http_receiver import CUT, Receiver

from feedback_lib import records, writer
from feedback_lib.errors import ConfigError, PrivacyError
from feedback_lib.writer import WriterOptions

TEXTS = {
    "u1": "The card is not working, write to jane@example.org or call 0151 23456789",
    "u2": "My card was declined " + "again and again " * 60,
    "u3": "Declined at the shop",
    "u4": "A fourth text that must not leave",
}


def topics(*names, **more):
    rows = [
        {
            "topic_id": i + 1, "name": name, "named_by": None, "pinned": False, "theme_id": None, "theme": None,
            "words": tuple(name.split(", ")), "examples": ("u1", "u2", "u3", "u4"), "dissenting": (),
            "born_on": dt.date(2026, 11, 16), "retired_on": None, "parents": (), "size": 9, "centroid": (1.0,),
            "least": 0.2, "updated_at": dt.datetime(2026, 11, 16, tzinfo=dt.UTC), "run_id": "r", **more,
        }
        for i, name in enumerate(names)
    ]  # fmt: skip
    return records.frame("topics", rows)


def said(content):
    return (
        200,
        {"Content-Type": "application/json"},
        json.dumps({"choices": [{"message": {"content": content}}]}).encode(),
    )


def options(service, **more):
    return WriterOptions(**{"endpoint": f"{service.url}/v1", "model": "small", "timeout_s": 2.0, **more})


def written(service, frame, folder, **more):
    return writer.write(frame, TEXTS, options(service, **more), folder)


def test_without_an_endpoint_nobody_is_asked_and_nothing_changes(tmp_path):
    frame = topics("card, declined")
    result = writer.write(frame, TEXTS, WriterOptions(), tmp_path)
    assert (result.topics, result.sent, result.warning) == (frame, (), None)
    assert not list(tmp_path.iterdir())


def test_an_answer_becomes_the_name(tmp_path):
    with Receiver(said(' "Declined cards." ')) as service:
        result = written(service, topics("card, declined"), tmp_path)
    (asked,) = service.requests
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.json()["temperature"] == 0
    assert asked.json()["model"] == "small"
    assert result.topics["name"].to_list() == ["Declined cards"]
    assert result.warning is None
    assert result.sent == (asked.body,)


def test_only_words_and_the_beginnings_of_three_texts_leave_redacted(tmp_path):
    with Receiver(said("Declined cards")) as service:
        written(service, topics("card, declined"), tmp_path, language="German")
    (asked,) = service.requests
    system, user = asked.json()["messages"]
    words, *told = user["content"].splitlines()
    assert "in German" in system["content"]
    assert words == "Words: card, declined"
    assert [line.partition(": ")[0] for line in told] == ["Text"] * 3
    assert all(len(line.partition(": ")[2]) <= 300 for line in told)
    for secret in (b"jane", b"example.org", b"23456789", b"fourth"):
        assert secret not in asked.body


def test_a_dry_run_shows_the_bytes_and_sends_nothing(tmp_path):
    frame = topics("card, declined")
    with Receiver(said("Declined cards")) as service:
        shown = writer.write(frame, TEXTS, options(service), tmp_path, dry_run=True)
        assert not service.requests
        assert shown.topics.equals(frame)
        sent = written(service, frame, tmp_path).sent
    assert shown.sent == sent == (service.requests[0].body,)


def test_what_fails_the_check_does_not_leave(tmp_path):
    with Receiver(said("Declined cards")) as service:
        with pytest.raises(PrivacyError, match="writer"):
            written(service, topics("card, declined"), tmp_path, language="English as jane@example.org writes it")
        assert not service.requests


def test_an_unchanged_topic_is_asked_once_and_a_changed_one_again(tmp_path):
    with Receiver(said("Declined cards"), said("Refused cards")) as service:
        for _ in range(3):
            assert written(service, topics("card, declined"), tmp_path).topics["name"].item() == "Declined cards"
        assert len(service.requests) == 1
        assert written(service, topics("card, refused"), tmp_path).topics["name"].item() == "Refused cards"
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "x" * 61,
        "Declined\ncards",
        "Cards of jane@example.org",
        "<b>Cards</b>",
        "…",
        "fee, transfers",
        "a\x1b[31mred",
    ],
)
def test_an_answer_that_is_no_name_or_another_topics_name_leaves_ours(tmp_path, answer):
    with Receiver(said(answer), said("Transfer fees")) as service:
        result = written(service, topics("card, declined", "transfer, fees"), tmp_path)
        assert result.topics["name"].to_list()[0] == "card, declined"
        assert "keep our names" in result.warning
        asked = len(service.requests)
        written(service, topics("card, declined", "transfer, fees"), tmp_path)
    assert len(service.requests) == asked, "an answer without use is not asked for again"


def test_two_topics_never_get_one_name(tmp_path):
    with Receiver(said("Card trouble"), said("card troubles")) as service:
        names = written(service, topics("card, declined", "card, swallowed"), tmp_path).topics["name"].to_list()
    assert names == ["Card trouble", "card, swallowed"]


@pytest.mark.parametrize(
    "fault", [CUT, 500, 401, 429, (200, {}, b"<html>log in</html>"), (302, {"Location": "http://localhost/"})]
)
def test_a_service_that_fails_leaves_our_names_with_one_warning(tmp_path, caplog, fault):
    frame = topics("card, declined", "transfer, fees", "top-up, failed")
    with Receiver(usual=fault) as service:
        result = written(service, frame, tmp_path)
    assert result.topics.equals(frame)
    assert len(service.requests) <= 2, "after a failure the others are not tried"
    assert [record.getMessage() for record in caplog.records] == [result.warning]
    assert "keep our names" in result.warning


def test_a_service_that_is_not_there_leaves_our_names(tmp_path):
    with Receiver() as service:
        pass
    assert written(service, topics("card, declined"), tmp_path).topics["name"].item() == "card, declined"


def test_a_refused_topic_does_not_keep_the_next_from_its_name(tmp_path):
    with Receiver(400, said("Transfer fees")) as service:
        result = written(service, topics("card, declined", "transfer, dear"), tmp_path)
    assert result.topics["name"].to_list() == ["card, declined", "Transfer fees"]
    assert "400" in result.warning


def test_answers_of_another_shape_are_no_names(tmp_path):
    with Receiver((200, {}, b'{"choices": []}'), (200, {}, b"[1]")) as service:
        result = written(service, topics("card, declined", "transfer, fees"), tmp_path)
    assert result.topics["name"].to_list() == ["card, declined", "transfer, fees"]


def test_names_people_gave_and_retired_topics_are_not_asked(tmp_path):
    with Receiver(said("Declined cards")) as service:
        assert not written(service, topics("card, declined", named_by="ana"), tmp_path).sent
        assert not written(service, topics("card, declined", retired_on=dt.date(2026, 11, 2)), tmp_path).sent
    assert not service.requests


def test_the_token_comes_from_the_environment_and_is_in_no_message(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NAMES_TOKEN", "s3cret-value")
    with Receiver(said("Declined cards"), 401) as service:
        written(service, topics("card, declined"), tmp_path, token_env="NAMES_TOKEN")
        result = written(service, topics("transfer, fees"), tmp_path, token_env="NAMES_TOKEN")
    assert service.requests[0].headers["authorization"] == "Bearer s3cret-value"
    assert "s3cret" not in result.warning + caplog.text
    monkeypatch.delenv("NAMES_TOKEN")
    with Receiver() as service:
        result = written(service, topics("top-up, failed"), tmp_path, token_env="NAMES_TOKEN")
    assert "NAMES_TOKEN is not set" in result.warning
    assert not service.requests


def test_an_endpoint_without_a_model_or_with_a_broken_address_is_a_wrong_configuration(tmp_path):
    with pytest.raises(ConfigError, match="model"):
        WriterOptions(endpoint="http://localhost:1/v1")
    with pytest.raises(ConfigError, match="no address"):
        writer.write(topics("card"), TEXTS, WriterOptions(endpoint="localhost", model="m"), tmp_path)
