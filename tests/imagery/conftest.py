from collections.abc import Iterator

import pytest
from web_world import World

from geopipe.web import Client


@pytest.fixture(scope="session")
def _world() -> Iterator[World]:
    server = World().start()
    yield server
    server.shutdown()


@pytest.fixture
def world(_world):
    _world.reset()
    return _world


@pytest.fixture
def client():
    """Asks at once, and only notes how long it would have waited."""
    pauses = []
    made = Client(rate=1e6, sleep=lambda s: pauses.append(s), timeout_s=5)
    made.pauses = pauses
    return made
