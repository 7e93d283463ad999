"""The deployment and its plan, in the state store: `PlanStore`.

This file alone writes the tables `plans`, `deployment`, `series_blocks`, `known_keys`, `serving` and `restores`; for
transactions that span files see `store`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import sqlalchemy as sa

from hushmeter.errors import StateConflict, ensure
from hushmeter.model.ledger import LedgerMark, PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency
from hushmeter.model.stored import Approval, Deployment, PlanVersion, Restore
from hushmeter.plan.catalog import SeriesBlock
from hushmeter.storage.state import schema
from hushmeter.storage.state.consent import newest_decision
from hushmeter.storage.state.credentials import revoke_all
from hushmeter.storage.state.database import OnDatabase
from hushmeter.storage.state.schema import known_keys, plans, restores, series_blocks


class SqlPlans(OnDatabase):
    """What deployment this is, and by which plan it lives."""

    def deployment(self) -> Deployment | None:
        """See `PlanStore`."""
        with self._database.read() as connection:
            return _founded(connection)

    def found(self, deployment: Deployment, blocks: Sequence[SeriesBlock], approvals: Sequence[Approval] = ()) -> None:
        """See `PlanStore`."""
        new, at = deployment, deployment.created_at_ms
        first = PlanVersion(new.plan_version, new.plan_hash, new.plan_text, new.budget, at, at, at, tuple(approvals))
        row = {"id": 1, "deployment_id": new.deployment_id, "created_at_ms": at, "plan_version": new.plan_version}
        with self._database.write() as connection:
            existing = _founded(connection)
            if existing is not None:
                raise StateConflict(
                    f"this state was founded before, as deployment {existing.deployment_id}; open it as it is, or choose "
                    "another state_dir for another deployment"
                )
            connection.execute(sa.insert(plans).values(_row(first)))
            connection.execute(sa.insert(schema.deployment).values(row))
            _insert_blocks(connection, blocks)

    def plan_versions(self, after: int = 0) -> tuple[PlanVersion, ...]:
        """See `PlanStore`."""
        later = sa.select(plans).where(plans.c.version > after).order_by(plans.c.version)
        with self._database.read() as connection:
            return tuple(map(_version, connection.execute(later)))

    def add_plan(self, added: PlanVersion, after: int, blocks: Sequence[SeriesBlock]) -> None:
        """See `PlanStore`; the blocks are all so far."""
        with self._database.write() as connection:
            newest = connection.scalar(sa.select(sa.func.max(plans.c.version)))
            if newest != after:
                raise StateConflict(f"version {newest} was recorded meanwhile; read the plan's versions again")
            ensure(added.version > after, f"version {added.version} does not follow {after}")
            ensure(added.recorded_at_ms <= min(added.stops_from_ms, added.active_from_ms), "a plan cannot change the past")
            known = {block.first for block in _blocks(connection)}
            connection.execute(sa.insert(plans).values(_row(added)))
            _insert_blocks(connection, [block for block in blocks if block.first not in known])

    def approve_plan(self, version: int, approvals: Sequence[Approval]) -> None:
        """See `PlanStore`; nothing else of a version ever changes."""
        changed = sa.update(plans).where(plans.c.version == version).values(approvals=_approvals_text(approvals))
        with self._database.write() as connection:
            ensure(connection.execute(changed).rowcount == 1, f"version {version} was never recorded")

    def series_blocks(self) -> tuple[SeriesBlock, ...]:
        """See `PlanStore`."""
        with self._database.read() as connection:
            return _blocks(connection)

    def key_fingerprint(self, name: str) -> bytes | None:
        """See `PlanStore`."""
        with self._database.read() as connection:
            return _fingerprint(connection, name)

    def record_key(self, name: str, fingerprint: bytes) -> bytes:
        """See `PlanStore`."""
        with self._database.write() as connection:
            return _first_fingerprint(connection, name, fingerprint)

    def record_keys(self, fingerprints: Mapping[str, bytes]) -> None:
        """See `PlanStore`."""
        with self._database.write() as connection:
            for name, fingerprint in fingerprints.items():
                _first_fingerprint(connection, name, fingerprint)

    def epoch(self) -> str:
        """See `PlanStore`."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(schema.epoch.c.epoch)) or ""

    def begin_epoch(self, epoch: str) -> None:
        """See `PlanStore`."""
        with self._database.write() as connection:
            connection.execute(sa.delete(schema.epoch))
            connection.execute(sa.insert(schema.epoch).values(id=1, epoch=epoch))

    def record_restore(self, made: Restore) -> None:
        """See `PlanStore`; earlier grants and credentials do not count from then on (C6, P8)."""
        row = {
            "at_ms": made.at_ms,
            "ledger_sequence": made.ledger_sequence,
            "published_sequence": None if made.published is None else made.published.sequence,
            "published_hash": None if made.published is None else made.published.entry_hash,
        }
        with self._database.write() as connection:
            connection.execute(sa.insert(restores).values(decisions_through=newest_decision(connection), **row))
            revoke_all(connection, made.at_ms)

    def restores(self, deployment_id: str) -> tuple[Restore, ...]:
        """See `PlanStore`."""
        with self._database.read() as connection:
            return tuple(
                Restore(
                    row.at_ms,
                    row.ledger_sequence,
                    LedgerMark(deployment_id, row.published_sequence, row.published_hash) if row.published_hash else None,
                )
                for row in connection.execute(sa.select(restores).order_by(restores.c.number))
            )


def _founded(connection: sa.Connection) -> Deployment | None:
    both = sa.select(schema.deployment, plans).join(plans, schema.deployment.c.plan_version == plans.c.version)
    row = connection.execute(both).one_or_none()
    if row is None:
        return None
    return Deployment(row.deployment_id, row.created_at_ms, row.version, row.hash, row.text, _budget(row))


def _blocks(connection: sa.Connection) -> tuple[SeriesBlock, ...]:
    rows = connection.execute(sa.select(series_blocks).order_by(series_blocks.c.first))
    return tuple(SeriesBlock(*row) for row in rows)


def _insert_blocks(connection: sa.Connection, blocks: Sequence[SeriesBlock]) -> None:
    rows = [{"first": b.first, "size": b.size, "metric": b.metric, "signature": b.signature} for b in blocks]
    if rows:
        connection.execute(sa.insert(series_blocks), rows)


def _fingerprint(connection: sa.Connection, name: str) -> bytes | None:
    found: bytes | None = connection.scalar(sa.select(known_keys.c.fingerprint).where(known_keys.c.name == name))
    return found


def _first_fingerprint(connection: sa.Connection, name: str, fingerprint: bytes) -> bytes:
    """Records a key's fingerprint unless there is one, and returns which one is recorded."""
    known = _fingerprint(connection, name)
    if known is None:
        connection.execute(sa.insert(known_keys).values(name=name, fingerprint=fingerprint))
    return known or fingerprint


def _budget(row: sa.Row[Any]) -> PrivacyBudget:
    loss = PrivacyLoss(Fraction(row.amount), Fraction(row.selection_delta))
    return PrivacyBudget(row.epsilon, row.delta, Currency(row.currency), loss)


def _version(row: sa.Row[Any]) -> PlanVersion:
    return PlanVersion(
        row.version,
        row.hash,
        row.text,
        _budget(row),
        row.recorded_at_ms,
        row.active_from_ms,
        row.stops_from_ms,
        tuple(
            Approval(name, bytes.fromhex(key), bytes.fromhex(signature))
            for name, key, signature in json.loads(row.approvals)
        ),
    )


def _row(version: PlanVersion) -> dict[str, object]:
    return {
        "version": version.version,
        "hash": version.plan_hash,
        "text": version.plan_text,
        "epsilon": version.budget.epsilon,
        "delta": version.budget.delta,
        "currency": version.budget.currency.value,
        "amount": str(version.budget.loss.amount),
        "selection_delta": str(version.budget.loss.delta),
        "recorded_at_ms": version.recorded_at_ms,
        "active_from_ms": version.active_from_ms,
        "stops_from_ms": version.stops_from_ms,
        "approvals": _approvals_text(version.approvals),
    }


def _approvals_text(approvals: Sequence[Approval]) -> str:
    return json.dumps([[a.name, a.public_key.hex(), a.signature.hex()] for a in approvals])
