"""Planted faults, of all tables: each changes one place of the code, and the part of the audit that is named must catch it."""

from __future__ import annotations

from tests.faults.bounds_and_copies import BOUNDS, COPIES
from tests.faults.consent import CONSENT
from tests.faults.disclosure import DISCLOSURE, NEIGHBOURS
from tests.faults.doors import DOORS
from tests.faults.fault import Fault
from tests.faults.noise_and_prices import NOISE, PRICES
from tests.faults.states import STATES

FAULTS: tuple[Fault, ...] = (*NOISE, *PRICES, *BOUNDS, *COPIES, *DOORS, *NEIGHBOURS, *DISCLOSURE, *CONSENT, *STATES)
