"""Keys lie beside the state directory, so that a copy of that reads nothing; those of before are found, and told of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hushmeter.cli.app import run
from hushmeter.errors import ConfigError
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.key_opening import warning_of_keys
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.kept_states import OF_SCHEMA_7, migrated
from tests.processes import hushmeter_serve
from tests.service.deployment_by_hand import PLAN, H, of_today, opened

LATER = H + 3_600_000 + 12 * 60_000


def founded(state: Path) -> str:
    """The id of a deployment that was founded or opened, and left."""
    context = opened(state, FakeClock(H))
    context.keys.get_or_create("deployment")
    context.store.close()
    return context.deployment.deployment_id


@pytest.fixture
def of_before(tmp_path: Path) -> Path:
    """A state with its keys inside, as hushmeter made them before."""
    state = migrated(OF_SCHEMA_7, tmp_path)
    assert (state / "keys" / "check").exists()
    return state


def reopened(config: Config) -> Context:
    return open_context(config, FakeClock(LATER), ExactMechanisms())


def test_a_copy_of_the_state_holds_no_key(tmp_path: Path) -> None:
    """Neither keys nor master key are in the state directory, and its copy alone is not opened."""
    founded(tmp_path / "state")
    keys = {p.name for p in (tmp_path / "state-keys").rglob("*.key")}
    assert {"master.key", "deployment.key"} <= keys
    assert not [p for p in (tmp_path / "state").rglob("*") if p.name in keys or p.name == "check"]
    shutil.copytree(tmp_path / "state", tmp_path / "elsewhere" / "state")
    with pytest.raises(ConfigError, match="there is no master key"):
        opened(tmp_path / "elsewhere" / "state", FakeClock(H))


@pytest.mark.parametrize("name", ["state", "./state", "other/../state", "link"])
def test_every_name_of_a_state_leads_to_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """However the directory is named, also by a link or relative to another directory, its keys are found."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    deployment = founded(tmp_path / "state")
    (tmp_path / "link").symlink_to("state")
    assert Config(state_dir=Path(name)).keys == tmp_path / "state-keys"
    assert founded(Path(name)) == deployment
    monkeypatch.chdir(tmp_path / "state")
    assert Config(state_dir=Path()).keys == tmp_path / "state-keys"


def test_two_deployments_side_by_side(tmp_path: Path) -> None:
    """Each has its own keys; where the one would take the other's directory for its keys or its state it is refused."""
    first, second = (founded(tmp_path / name) for name in ("a", "b"))
    assert first != second
    assert founded(tmp_path / "a") == first
    with pytest.raises(ConfigError, match="holds the keys of a deployment"):
        founded(tmp_path / "a-keys")
    founded(tmp_path / "c-keys")
    with pytest.raises(ConfigError, match="holds a state"):
        founded(tmp_path / "c")


def test_a_state_of_before_opens_and_is_warned_of(of_before: Path) -> None:
    """Keys inside the state directory are used as ever; the warning says how to move them, after which there is none."""
    config = Config(state_dir=of_before)
    assert config.keys == of_before / "keys"
    before = reopened(config)
    before.store.close()
    key = before.keys.get("deployment")
    warning = warning_of_keys(config)
    assert warning is not None
    command = f"mv {of_before / 'keys'} {of_before}-keys"
    assert f"'{command}'" in warning
    subprocess.run(command.split(), check=True)
    assert (config.keys, warning_of_keys(config)) == (Path(f"{of_before}-keys"), None)
    after = reopened(config)
    after.store.close()
    assert after.deployment == before.deployment
    assert after.keys.get("deployment") == key


def test_a_place_that_was_named(of_before: Path) -> None:
    """Who named a place inside is told that the new one must be named too; one outside is nobody's business."""
    inside = of_before / "keys"
    warning = warning_of_keys(Config(state_dir=of_before, keys_dir=inside, master_key_file=inside / "master.key"))
    assert warning is not None
    assert f"name {of_before}-keys as keys_dir, name {of_before}-keys/master.key as master_key_file" in warning
    assert warning_of_keys(Config(state_dir=of_before, keys_dir=of_before.parent / "keys")) is None


def test_keys_at_both_places(of_before: Path) -> None:
    """Keys that were copied in place of moved are two rings for one state: nobody guesses which is the newer one."""
    shutil.copytree(of_before / "keys", f"{of_before}-keys")
    with pytest.raises(ConfigError, match="there are keys in"):
        reopened(Config(state_dir=of_before))
    for named in (of_before / "keys", Path(f"{of_before}-keys")):
        reopened(Config(state_dir=of_before, keys_dir=named)).store.close()


@pytest.mark.parametrize("inside", [True, False])
def test_each_start_warns(tmp_path: Path, inside: bool) -> None:
    """`hushmeter serve` says at each start that keys lie inside the state, in its output and in its log."""
    state = tmp_path / "state"
    (tmp_path / "plan.yaml").write_text(of_today(PLAN))
    if inside:
        (state / "keys").mkdir(parents=True)
    for more in (["--plan", "plan.yaml"], []):
        with hushmeter_serve(tmp_path, "--state-dir", str(state), "--metrics", "", *more) as service:
            said = service.said
        logged = service.log.read_text()
        assert ("Warning: the keys are in" in said) is inside
        assert ("keys lie inside the state directory" in logged) is inside


def test_commands_find_the_same_keys(
    of_before: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands beside the service need no word of where the keys are, before they were moved and after."""
    # By the clock of today every window since the archive was made would have to be ended.
    monkeypatch.setattr("hushmeter.clock.SystemClock", lambda: FakeClock(LATER))
    reopened(Config(state_dir=of_before)).store.close()
    for _ in range(2):
        assert run(["keys", "rotate", "--state-dir", str(of_before)]) == 0
        assert run(["retention", "--state-dir", str(of_before)]) == 0
        keys = Config(state_dir=of_before).keys
        assert f"{keys / 'master.key'} holds the master key now" in capsys.readouterr().out.replace("\n", "")
        if keys.parent == of_before:
            keys.rename(f"{of_before}-keys")
    backup = of_before.parent / "backup"
    assert run(["backup", str(backup), "--state-dir", str(of_before)]) == 0
    assert run(["restore", str(backup), "--state-dir", str(of_before.parent / "new")]) == 0
    assert (of_before.parent / "new-keys" / "master.key").exists()
