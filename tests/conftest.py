from __future__ import annotations

import datetime as dt
import os

from hypothesis import HealthCheck, settings

from hushmeter.service.deployment.logs import configure_logs

settings.register_profile("dev", deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

configure_logs("console", quiet=True)

# Tables are as wide as in a pipe: a process that another one starts inherits a width that readline has set there.
os.environ.pop("COLUMNS", None)

# Processes that share the tests are started by one that comes by here first: they have one day, also at midnight.
os.environ.setdefault("HUSHMETER_FAULTS_OF_DAY", str(dt.datetime.now(dt.UTC).toordinal()))
