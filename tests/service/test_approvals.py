"""Approvals: a version that not enough named approvers have signed is neither founded with, started with nor applied."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from hushmeter.cli.app import app, run
from hushmeter.clock import ReplayClock, SystemClock
from hushmeter.errors import ConfigError, KeyUnavailable, PlanError
from hushmeter.model.stored import Approval
from hushmeter.plan.approving import approve, ensure_approved
from hushmeter.plan.reading import parse_plan, parse_recorded
from hushmeter.service.deployment.approvals import approval_text, approved_also, read_approval, read_private_key
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.service.sealer.sealer import Sealer
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.deployment_by_hand import of_today
from tests.service.plan_versions import changed
from tests.service.running_service import FOUNDED_MS

ADA, BOB, EVE = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3))
KEYS = {"ada": ADA.public_key().public_bytes_raw(), "bob": BOB.public_key().public_bytes_raw()}
FIRST, SECOND = changed(1), changed(2, privacy__epsilon=2)
PLAN = parse_plan(FIRST, dt.date(2026, 3, 2))


def signed(key: Ed25519PrivateKey, name: str, text: str = FIRST) -> Approval:
    plan = parse_recorded(text)
    return approve(key.private_bytes_raw(), name, plan.name, plan.version, plan.plan_hash)


def check(*approvals: Approval, required: int = 2) -> None:
    ensure_approved(approvals, KEYS, required, plan=PLAN.name, version=PLAN.version, plan_hash=PLAN.plan_hash)


def config(state: Path, required: int = 2) -> Config:
    return Config(state_dir=state, approvers={n: k.hex() for n, k in KEYS.items()}, require_approval=required)


def test_named_approvers_who_signed_this_version_are_counted() -> None:
    check(signed(ADA, "ada"), signed(BOB, "bob"))
    check(required=0)
    for few in ([], [signed(ADA, "ada")], [signed(ADA, "ada"), signed(ADA, "ada")]):
        with pytest.raises(PlanError, match=r"of 2 approvals; it needs those of .*bob"):
            check(*few)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (signed(EVE, "eve"), "is no approver"),
        (signed(EVE, "bob"), "another key"),
        (signed(BOB, "bob", SECOND), "not of version 1"),
        (dataclasses.replace(signed(BOB, "bob"), signature=bytes(64)), "forged or damaged"),
        (dataclasses.replace(signed(EVE, "bob"), public_key=KEYS["bob"]), "forged or damaged"),
        (dataclasses.replace(signed(ADA, "ada"), name="bob"), "another key"),
    ],
    ids=["unknown name", "another key", "another version", "no signature", "forged", "lent"],
)
def test_an_approval_that_does_not_hold_is_refused(bad: Approval, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        check(signed(ADA, "ada"), signed(BOB, "bob"), bad)


def test_an_unsigned_version_is_neither_founded_started_nor_followed(tmp_path: Path) -> None:
    clock, mechanisms = ReplayClock(FOUNDED_MS), ExactMechanisms()
    both = [signed(ADA, "ada"), signed(BOB, "bob")]
    with pytest.raises(PlanError, match="1 of 2 approvals"):
        open_context(config(tmp_path / "a"), clock, mechanisms, FIRST, both[:1])
    with pytest.raises(ConfigError, match="no plan was given"):
        open_context(config(tmp_path / "a"), clock, mechanisms)
    context = open_context(config(tmp_path / "b"), clock, mechanisms, FIRST, both)
    assert context.store.plan_versions()[0].approvals == tuple(both)
    apply_plan(context.store, mechanisms, SECOND, "next-period", FOUNDED_MS + 1)
    with pytest.raises(PlanError, match="version 2 of plan 'test' has 0 of 2"):
        context.timeline.follow()
    assert [e.version.version for e in context.timeline.eras] == [1]
    with pytest.raises(PlanError, match="version 2 of plan 'test' has 0 of 2"):
        open_context(config(tmp_path / "b"), clock, mechanisms)
    # A version that is approved takes the time of the one that was not.
    third = changed(3, privacy__epsilon=2)
    signatures = [signed(ADA, "ada", third), signed(BOB, "bob", third)]
    apply_plan(context.store, mechanisms, third, "next-period", FOUNDED_MS + 2, signatures)
    assert context.timeline.follow()
    assert [e.version.version for e in context.timeline.eras] == [1, 3]
    context.store.close()
    open_context(Config(state_dir=tmp_path / "c"), clock, mechanisms, FIRST).store.close()
    with pytest.raises(PlanError, match="of 2 approvals"):
        open_context(config(tmp_path / "c"), clock, mechanisms)


def test_keys_are_read_as_openssl_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        read_private_key(path)
    path.chmod(0o600)
    assert len(read_private_key(path)) == 32
    path.write_text("-----BEGIN PRIVATE KEY-----\nnothing\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match="no Ed25519 private key"):
        read_private_key(path)
    with pytest.raises(KeyUnavailable, match="cannot be read"):
        read_private_key(tmp_path / "none.pem")


def test_the_command_signs_and_its_file_is_read(tmp_path: Path) -> None:
    key, plan, out = tmp_path / "key.pem", tmp_path / "plan.yaml", tmp_path / "ada.json"
    plan.write_text(FIRST)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    key.chmod(0o600)
    asked = ["plan", "approve", str(plan), "--key", str(key), "--name", "ada", "--out", str(out)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    approval = read_approval(out)
    assert approval.public_key.hex() in done.output
    ensure_approved(
        [approval], {"ada": approval.public_key}, 1, plan=PLAN.name, version=PLAN.version, plan_hash=PLAN.plan_hash
    )
    assert out.read_text() == approval_text(approval, PLAN)
    assert isinstance(CliRunner().invoke(app, asked).exception, ConfigError), "an approval is not overwritten"
    out.write_text("{}")
    with pytest.raises(ConfigError, match="is no approval"):
        read_approval(out)


def test_approvals_are_added_to_a_recorded_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A version that was recorded without its approvals gets them, one by one; then it is followed, and started with."""
    clock, mechanisms = SystemClock(), ExactMechanisms()
    state, plan = tmp_path / "state", tmp_path / "plan.yaml"
    text = of_today(FIRST)
    plan.write_text(text)
    context = open_context(Config(state_dir=state), clock, mechanisms, text)
    context.store.close()
    with pytest.raises(PlanError, match="0 of 2 approvals"):
        open_context(config(state), clock, mechanisms)
    settings = tmp_path / "config.yaml"
    settings.write_text(
        yaml.safe_dump({"state_dir": str(state), "approvers": config(state).approvers, "require_approval": 2})
    )

    def apply(key: Ed25519PrivateKey, name: str, *options: str) -> int:
        file = tmp_path / f"{name}.json"
        file.write_text(approval_text(signed(key, name, text), parse_recorded(text)))
        return run(["plan", "apply", str(plan), "--approval", str(file), *(options or ("--config", str(settings)))])

    # Whoever applies without the configuration may put anything there that is signed; it is left out again.
    assert apply(EVE, "eve", "--state-dir", str(state)) == 0
    with pytest.raises(PlanError, match="'eve' is no approver"):
        open_context(config(state), clock, mechanisms)
    assert apply(EVE, "eve") == 2
    assert "'eve' is no approver" in capsys.readouterr().err
    assert apply(ADA, "ada") == 0
    assert capsys.readouterr().out == "Version 1 was recorded already; it is approved by ada.\n"
    with pytest.raises(PlanError, match="1 of 2 approvals"):
        open_context(config(state), clock, mechanisms)
    assert apply(BOB, "bob") == apply(BOB, "bob") == 0
    context = open_context(config(state), clock, mechanisms)
    assert [a.name for a in context.store.plan_versions()[0].approvals] == ["ada", "bob"]
    context.store.close()
    assert run(["plan", "apply", str(plan), "--config", str(settings)]) == 2
    assert "0 of 2 approvals" in capsys.readouterr().err


def test_an_unsigned_approval_is_never_recorded(tmp_path: Path) -> None:
    """Also where no configuration says who may approve, an approval is of the version that it is given with."""
    plan = parse_recorded(FIRST)
    ada, second = signed(ADA, "ada"), signed(BOB, "bob", SECOND)
    assert approved_also(Config(state_dir=tmp_path), plan, [second], [ada, ada]) == (ada,)
    with pytest.raises(PlanError, match="not of version 1"):
        approved_also(Config(state_dir=tmp_path), plan, [], [second])


def test_erasures_do_not_wait_for_approvals(tmp_path: Path) -> None:
    """While a version that nobody approved keeps windows waiting, rows of units that ask for it are removed."""
    clock, mechanisms = ReplayClock(FOUNDED_MS), ExactMechanisms()
    context = open_context(config(tmp_path), clock, mechanisms, FIRST, [signed(ADA, "ada"), signed(BOB, "bob")])
    apply_plan(context.store, mechanisms, SECOND, "next-period", FOUNDED_MS + 1)
    context.store.record_decisions([], lambda: FOUNDED_MS, {bytes(16)})
    with pytest.raises(PlanError, match="0 of 2 approvals"):
        Sealer(context, Meters()).run_due()
    assert context.store.erasures() == ()
