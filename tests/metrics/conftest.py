"""What the tests of metric backends share: a service to ask, and no waiting between tries."""

import pytest
import stamina
from http_receiver import Receiver


@pytest.fixture
def service():
    """A service on loopback that answers what a test puts into ``answers``, else 500; tries follow at once."""
    with stamina.set_testing(True), Receiver(usual=500, limit=20) as server:
        yield server
