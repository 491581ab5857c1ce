"""What the tests share."""

import json
import os
import pathlib

import pytest
import pytest_asyncio
from server import Server

SDKS = pathlib.Path(__file__).resolve().parents[2]


@pytest_asyncio.fixture
async def server():
    running = await Server().start()
    yield running
    await running.stop()


@pytest.fixture(scope="session")
def structure():
    return json.loads((SDKS / "structure.json").read_text())


@pytest.fixture
def real_gateway():
    """Host and port of a gateway that runs."""
    address = os.environ.get("VIRTUFIN_TEST_GATEWAY")
    if not address:
        pytest.skip("VIRTUFIN_TEST_GATEWAY (host:port) is not set")
    host, _, port = address.rpartition(":")
    return host, int(port)
