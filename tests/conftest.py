from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.examples import load_profile
from tests.surroundings import settle

pytest_plugins = ["tests.mutation.limit"]
load_profile()
settle()
_LOGS = structlog.get_config()


@pytest.fixture(autouse=True)
def logs_of_all_tests() -> Iterator[None]:
    """Ends what a command has configured: its logs go to the streams of its own test, which are closed after it."""
    yield
    structlog.configure(**_LOGS)
