"""What every `PlanStore` promises."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from hushmeter.errors import InvariantError, StateConflict
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency
from hushmeter.model.stored import Approval
from hushmeter.ports import Deployment, PlanStore
from hushmeter.testing.contracts.state_values import BLOCKS, BUDGET, DEPLOYMENT


class PlanStoreContract:
    """A deployment is founded once, and its keys are known for good."""

    def test_approvals(self, store: PlanStore) -> None:
        """Approvals of a recorded version are replaced; nothing else of it changes, and no other version has any."""
        first, second = Approval("é", bytes(32), bytes(64)), Approval("b", bytes(range(32)), bytes(range(64)))
        store.found(DEPLOYMENT, BLOCKS, [first])
        (before,) = store.plan_versions()
        assert before.approvals == (first,)
        store.approve_plan(before.version, [second, first])
        assert store.plan_versions() == (dataclasses.replace(before, approvals=(second, first)),)
        with pytest.raises(InvariantError, match="never recorded"):
            store.approve_plan(before.version + 1, [first])

    def test_founded(self, store: PlanStore) -> None:
        """A founded store gives back the deployment exactly, and its blocks by first number."""
        store.found(DEPLOYMENT, BLOCKS)
        assert store.deployment() == DEPLOYMENT
        assert store.series_blocks() == tuple(sorted(BLOCKS))

    @pytest.mark.parametrize("currency", Currency)
    def test_budget(self, store: PlanStore, currency: Currency) -> None:
        """A budget comes back in its currency, with exact fractions that no float holds (C1, C2)."""
        loss = PrivacyLoss(Fraction(10**40 + 1, 3 * 10**40), Fraction(1, 7 * 10**12))
        founded = dataclasses.replace(DEPLOYMENT, budget=PrivacyBudget(1 / 3, 1e-9, currency, loss))
        store.found(founded, [])
        found = store.deployment()
        assert found == founded
        assert found.budget.loss == loss
        assert found.budget.currency is currency

    def test_founded_once(self, store: PlanStore) -> None:
        """A second foundation is refused and changes nothing."""
        store.found(DEPLOYMENT, BLOCKS)
        other = Deployment("ef" * 16, 0, 4, "00", "", BUDGET)
        with pytest.raises(StateConflict, match="founded before"):
            store.found(other, [])
        assert store.deployment() == DEPLOYMENT
        assert len(store.series_blocks()) == 2

    def test_a_keys_first_fingerprint_stays(self, store: PlanStore) -> None:
        """What is recorded of a key is what was recorded first; of one that was never used nothing is known."""
        assert store.key_fingerprint("data/1") is None
        assert store.record_key("data/1", b"first") == b"first"
        assert store.record_key("data/1", b"second") == b"first"
        assert (store.key_fingerprint("data/1"), store.key_fingerprint("data/2")) == (b"first", None)
