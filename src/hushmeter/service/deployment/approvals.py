"""Approvals as files, the keys that make them, and the rule of a deployment: how many approvers must have signed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hushmeter.errors import ConfigError, KeyUnavailable, PlanError
from hushmeter.model.plan import Plan
from hushmeter.model.stored import Approval
from hushmeter.plan.approving import ensure_approved, ensure_signed
from hushmeter.secret_files import read_secret, read_small, unread_text
from hushmeter.service.deployment.config import Config

FILE_MAX_BYTES = 16_384


def read_private_key(path: Path) -> bytes:
    """The 32-byte Ed25519 private key of a PEM file that its owner alone may read.

    Raises:
        ConfigError: it is no such key, or others may read it.
        KeyUnavailable: it cannot be read.
    """
    try:
        content = read_secret(path, "key", FILE_MAX_BYTES)
    except OSError as error:
        raise KeyUnavailable(unread_text(path, "key", error, "name a file of yours")) from None
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{path} holds no Ed25519 private key in PEM without a password; make one with "
            "openssl genpkey -algorithm ed25519 -out FILE"
        )
    return key.private_bytes_raw()


def approval_text(approval: Approval, plan: Plan) -> str:
    """An approval as the text of a file."""
    fields = {
        "plan": plan.name,
        "version": plan.version,
        "plan_hash": plan.plan_hash,
        "name": approval.name,
        "public_key": approval.public_key.hex(),
        "signature": approval.signature.hex(),
    }
    return json.dumps(fields, indent=1) + "\n"


def read_approval(path: Path) -> Approval:
    """The approval of a file; whether it holds is `ensure_approved`'s to say.

    Raises:
        ConfigError: it is none.
    """
    try:
        fields = json.loads(read_small(path, FILE_MAX_BYTES))
        approval = Approval(str(fields["name"]), bytes.fromhex(fields["public_key"]), bytes.fromhex(fields["signature"]))
    except OSError as error:
        raise ConfigError(f"cannot read the approval {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is no approval; hushmeter plan approve writes one") from None
    return approval


def ensure_plan_approved(config: Config, plan: Plan, approvals: Sequence[Approval]) -> None:
    """Checks a version against the configuration's rule; raises `PlanError` where it is not approved."""
    ensure_approved(
        approvals,
        config.approver_keys,
        config.require_approval,
        plan=plan.name,
        version=plan.version,
        plan_hash=plan.plan_hash,
    )


def approved_also(
    config: Config, plan: Plan, recorded: Sequence[Approval], added: Sequence[Approval]
) -> tuple[Approval, ...]:
    """The approvals of a recorded version once others are added: of the recorded ones those that hold, and the added ones.

    Raises:
        PlanError: an added one does not hold.
    """
    for approval in added:
        _ensure_holds(config, plan, approval)
    new = {approval.public_key for approval in added}
    kept = [a for a in recorded if a.public_key not in new and _holds(config, plan, a)]
    return (*kept, *{a.public_key: a for a in added}.values())


def _holds(config: Config, plan: Plan, approval: Approval) -> bool:
    with contextlib.suppress(PlanError):
        _ensure_holds(config, plan, approval)
        return True
    return False


def _ensure_holds(config: Config, plan: Plan, approval: Approval) -> None:
    """Checks that an approval is of this version, and by somebody whom the configuration names, where it names anybody."""
    of = {"plan": plan.name, "version": plan.version, "plan_hash": plan.plan_hash}
    ensure_approved([approval], config.approver_keys, min(1, len(config.approvers)), **of)  # type: ignore[arg-type]
    ensure_signed([approval], **of)  # type: ignore[arg-type]
