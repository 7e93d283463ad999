"""Compares a state with what its keys have seen of it: how far ledger, decisions and plan had come (C6, C7)."""

from __future__ import annotations

from dataclasses import replace

from hushmeter.errors import ConfigError, StateConflict
from hushmeter.model.ring import PlanMark, RingRecord
from hushmeter.pipeline.claims import ensure_newest
from hushmeter.ports import KeyRing, StateStore, WindowStore
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.foundation import ensure_founded
from hushmeter.service.deployment.key_opening import existing_keys


def ensure_newest_of_keys(config: Config, ring: KeyRing, store: StateStore, deployment_id: str) -> None:
    """Compares a state with its keys as of one moment: whoever serves it moves both, one after the other."""
    while True:
        record = ring.record()
        try:
            return ensure_newest(record_met(config, record, store, deployment_id), store)
        except StateConflict:
            if ring.record() == record:
                raise


def newest_followed(config: Config, store: StateStore) -> PlanMark:
    """The newest version of the plan that the keys of a state have seen followed; version 0 where they have seen none.

    Raises:
        ConfigError: the keys are another deployment's, or the state is not founded.
        KeyUnavailable: there are none.
    """
    deployment = ensure_founded(store.deployment(), config.state_dir)
    return record_met(config, existing_keys(config).record(), store, deployment.deployment_id).plan


def record_met(config: Config, record: RingRecord | None, store: WindowStore, deployment_id: str) -> RingRecord:
    """The record as it is once the keys have met a deployment; nothing is written."""
    head = store.ledger_head(deployment_id)
    if record is None or record.head.deployment_id != deployment_id:
        if head.sequence or (record is not None and record.was_used):
            raise ConfigError(
                f"the keys in {config.keys} have never seen the ledger of {config.state_dir}; "
                "give the keys_dir that this deployment has always used"
            )
        return RingRecord(head)
    if record.serving is None and record.head.sequence < head.sequence:
        # An older ring holds a mark without claims. The mark was moved after a publication, and a crash between both left
        # it behind.
        at = next(store.ledger(record.head.sequence), None) if record.head.sequence else None
        if at is None or at.entry_hash == record.head.entry_hash:
            return replace(record, head=head)
    return record
