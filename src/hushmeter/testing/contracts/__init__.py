"""Contract suites: what every implementation of a port promises, as classes that a suite of its own inherits.

    port                suite                                          fixtures that it needs
    `PlanStore`         `plans.PlanStoreContract`                      `store`: new
    `WorkerStore`       `workers.WorkerStoreContract`                  `store`
    `WindowStore`       `windows.WindowStoreContract`                  `store`
    `ConsentStore`      `consent.ConsentStoreContract`                 `store`
    `CredentialStore`   `credentials.CredentialStoreContract`          `store`
    `StateStore`        `spanning.StateStoreContract`, all of these    `store`
    `IntakeLog`         `intake_log.IntakeLogContract`                 `log`: new; `keys`: the ring that it asks
    `KeyRing`           `key_ring.KeyRingContract`                     `ring`: new

An implementation has a file of tests with a class that inherits the suite, and the fixtures beside it:

    class TestMyKeyRing(KeyRingContract):
        @pytest.fixture
        def ring(self, tmp_path: Path) -> MyKeyRing: ...

They need pytest (the extra `testing`), which nothing else in the package imports.
"""

import pkgutil
from typing import Final

import pytest

_SUITES: Final = [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]

# Before any of them is imported, so that an assertion that fails says what it compared.
pytest.register_assert_rewrite(*_SUITES)
