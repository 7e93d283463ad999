from __future__ import annotations

from tests.examples import load_profile
from tests.surroundings import settle

load_profile()
settle()
