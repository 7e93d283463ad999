"""Foundation and plan versions in the state store. Each function is a part of one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import sqlalchemy as sa

from hushmeter.errors import StateConflict, ensure
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency
from hushmeter.model.stored import Approval, Deployment, PlanVersion
from hushmeter.plan.catalog import SeriesBlock
from hushmeter.storage.state import schema
from hushmeter.storage.state.schema import plans


def founded(connection: sa.Connection) -> Deployment | None:
    """What the store was founded with; None for a new one."""
    both = sa.select(schema.deployment, plans).join(plans, schema.deployment.c.plan_version == plans.c.version)
    row = connection.execute(both).one_or_none()
    if row is None:
        return None
    return Deployment(row.deployment_id, row.created_at_ms, row.version, row.hash, row.text, _budget(row))


def found(connection: sa.Connection, new: Deployment, blocks: Sequence[SeriesBlock], approvals: Sequence[Approval]) -> None:
    """Founds the store, once."""
    existing = founded(connection)
    if existing is not None:
        raise StateConflict(
            f"this state was founded before, as deployment {existing.deployment_id}; open it as it is, or choose another "
            "state_dir for another deployment"
        )
    at = new.created_at_ms
    first = PlanVersion(new.plan_version, new.plan_hash, new.plan_text, new.budget, at, at, at, tuple(approvals))
    connection.execute(sa.insert(plans).values(_row(first)))
    row = {
        "id": 1,
        "deployment_id": new.deployment_id,
        "created_at_ms": new.created_at_ms,
        "plan_version": new.plan_version,
    }
    connection.execute(sa.insert(schema.deployment).values(row))
    _insert_blocks(connection, blocks)


def plan_versions(connection: sa.Connection, after: int) -> tuple[PlanVersion, ...]:
    """The versions with numbers above one, in order."""
    later = sa.select(plans).where(plans.c.version > after).order_by(plans.c.version)
    return tuple(
        PlanVersion(
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
        for row in connection.execute(later)
    )


def add_plan(connection: sa.Connection, added: PlanVersion, after: int, blocks: Sequence[SeriesBlock]) -> None:
    """Records a version that follows `after`, with all series blocks so far."""
    newest = connection.scalar(sa.select(sa.func.max(plans.c.version)))
    if newest != after:
        raise StateConflict(f"version {newest} was recorded meanwhile; read the plan's versions again")
    ensure(added.version > after, f"version {added.version} does not follow {after}")
    ensure(added.recorded_at_ms <= min(added.stops_from_ms, added.active_from_ms), "a plan cannot change the past")
    known = {block.first for block in recorded_blocks(connection)}
    connection.execute(sa.insert(plans).values(_row(added)))
    _insert_blocks(connection, [block for block in blocks if block.first not in known])


def approve_plan(connection: sa.Connection, version: int, approvals: Sequence[Approval]) -> None:
    """Replaces the approvals of a version; nothing else of it ever changes."""
    changed = sa.update(plans).where(plans.c.version == version).values(approvals=_approvals_text(approvals))
    ensure(connection.execute(changed).rowcount == 1, f"version {version} was never recorded")


def recorded_blocks(connection: sa.Connection) -> tuple[SeriesBlock, ...]:
    """All series blocks, by first number."""
    rows = connection.execute(sa.select(schema.series_blocks).order_by(schema.series_blocks.c.first))
    return tuple(SeriesBlock(*row) for row in rows)


def _insert_blocks(connection: sa.Connection, blocks: Sequence[SeriesBlock]) -> None:
    rows = [{"first": b.first, "size": b.size, "metric": b.metric, "signature": b.signature} for b in blocks]
    if rows:
        connection.execute(sa.insert(schema.series_blocks), rows)


def _budget(row: sa.Row[Any]) -> PrivacyBudget:
    loss = PrivacyLoss(Fraction(row.amount), Fraction(row.selection_delta))
    return PrivacyBudget(row.epsilon, row.delta, Currency(row.currency), loss)


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
