"""What approvers of a plan sign: one version of one plan, by its hash; nothing of any deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hushmeter import signatures
from hushmeter.errors import PlanError
from hushmeter.model.ledger import canonical_json
from hushmeter.model.stored import Approval

KIND = "plan approval"
"""Of the signed statement; see `hushmeter.signatures`."""
NAME = re.compile(r"[\w.@+ -]{1,64}")


def statement(plan: str, version: int, plan_hash: str) -> bytes:
    """What is signed: canonical JSON of the plan's name, its version and its hash."""
    return canonical_json({"plan": plan, "plan_hash": plan_hash, "version": version}).encode()


def approve(private_key: bytes, name: str, plan: str, version: int, plan_hash: str) -> Approval:
    """Signs a version with a 32-byte private key.

    Raises:
        PlanError: the name is no name.
    """
    if NAME.fullmatch(name) is None:
        raise PlanError(f"the approver's name {name[:80]!r} must be 1 to 64 letters, digits, spaces and any of . @ + - _")
    signature = signatures.sign(private_key, KIND, statement(plan, version, plan_hash))
    return Approval(name, signatures.public_key(private_key), signature)


def ensure_signed(approvals: Iterable[Approval], *, plan: str, version: int, plan_hash: str) -> None:
    """Checks that each approval is of this version, by the key that it names; raises `PlanError` where one is not."""
    said = statement(plan, version, plan_hash)
    for a in approvals:
        if not signatures.is_signed(a.public_key, KIND, said, a.signature):
            raise PlanError(
                f"the approval of {a.name!r} is not of version {version} of plan {plan!r} with hash {plan_hash[:12]}...: "
                "it was forged or damaged, or is of another version; sign this one with hushmeter plan approve"
            )


def ensure_approved(
    approvals: Iterable[Approval],
    approvers: Mapping[str, bytes],
    required: int,
    *,
    plan: str,
    version: int,
    plan_hash: str,
) -> None:
    """Checks that enough named approvers have signed a version, each with the key that is known to be theirs.

    Where an approval is required, one by nobody who is named, by another key, or of another version is refused as such: so
    each approval in the record is what it says.

    Args:
        approvals: of the version.
        approvers: public keys, 32 bytes, by name.
        required: how many of them must have signed.
        plan: the plan's name.
        version: its version.
        plan_hash: its hash.

    Raises:
        PlanError: with who is missing, or whose approval does not hold.
    """
    if not required:
        return
    good: set[bytes] = set()
    for a in approvals:
        if a.name not in approvers:
            raise PlanError(f"{a.name!r} is no approver; the configuration names {', '.join(approvers) or 'nobody'}")
        if a.public_key != approvers[a.name]:
            raise PlanError(f"the approval of {a.name!r} is by another key than the configuration names")
        ensure_signed([a], plan=plan, version=version, plan_hash=plan_hash)
        good.add(a.public_key)
    if len(good) < required:
        missing = [name for name, key in approvers.items() if key not in good]
        raise PlanError(
            f"version {version} of plan {plan!r} has {len(good)} of {required} approvals; it needs those of "
            f"{', '.join(missing) or 'approvers whom the configuration does not name yet'}: each signs with hushmeter plan "
            "approve, and the files are given with --approval"
        )
