"""What tool feedback may hold when it leaves, and everything it must not."""

import hashlib
import hmac

from feedback_lib.workflows import anonymous

SALT = bytes(range(32))


def test_an_id_is_the_salted_hmac_with_128_bits_and_another_salt_gives_another():
    whole = hmac.new(SALT, b"wf_ce03679d", hashlib.sha256).hexdigest()
    assert anonymous.hashed(SALT, "wf_ce03679d") == whole[:32]
    assert anonymous.hashed(b"x" * 32, "wf_ce03679d") != whole[:32]
    assert hashlib.sha256(b"wf_ce03679d").hexdigest()[:16] not in anonymous.hashed(SALT, "wf_ce03679d")
    assert len(anonymous.hashed(SALT, "\ud800 half a character")) == 32


def test_items_and_phases_that_the_tool_does_not_ship_lose_their_names():
    assert anonymous.item(SALT, "visual_regression_test") == "visual_regression_test"
    own = anonymous.item(SALT, "terraform_plan")
    assert own.startswith("custom:")
    assert len(own) == 15
    assert anonymous.item(SALT, own) == own
    assert anonymous.item(b"x" * 32, "terraform_plan") != own
    assert anonymous.item(SALT, "custom:my own words") not in ("custom:my own words", own)
    assert anonymous.phase("REVIEW") == "REVIEW"
    assert anonymous.phase("ACME_ROLLOUT") == anonymous.phase("CUSTOM") == "CUSTOM"
