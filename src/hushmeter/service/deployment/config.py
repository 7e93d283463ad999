"""How an operator configures the service: one small YAML file, or nothing at all."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hushmeter.errors import ConfigError
from hushmeter.runtime import cores
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.storage.keys.files import CHECK_NAME
from hushmeter.storage.state.database import STATE_NAME, url_of

WORKERS_MAX = 256


def _cores() -> int:
    return min(cores(), WORKERS_MAX)


def _word(value: object) -> object:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class Config(BaseModel):
    """Everything that may be configured, with defaults that are safe on one machine.

    Attributes:
        state_dir: where the database and the intake log live.
        keys_dir: where keys live; a place that is not in the backups of `state_dir`. `STATE_DIR-keys` beside it by default.
        master_key_file: 64 hexadecimal digits or 32 bytes; by default the environment's HUSHMETER_MASTER_KEY, and where
            that is not set `keys_dir/master.key`, which is made on the first start.
        plan: the telemetry plan; needed on the first start alone.
        listen: host and port of the gRPC services.
        metrics: host and port of the operators' metrics for Prometheus; empty for none.
        workers: ingest processes.
        sealers: processes that seal one large window side by side; as many as there are cores by default.
        credentials: `required`, or `auto`: as soon as one was made, and wherever other machines can reach `listen`.
        unit_tokens: `required` where each report and consent call proves whose it is with a signed token; asks for
            credentials too. `off` by default.
        messages_per_second, message_burst: of one credential, in one worker; 0 messages a second for no limit.
        unit_reports_per_minute: of one unit, in one worker; 0 for no limit.
        tls_certificate, tls_key: PEM files; the certificate's chain with the service's own first, and its private key,
            which only its owner may read.
        tls_client_ca: PEM file of authorities; where it is named, every client needs a certificate of theirs.
        i_accept_that_anyone_on_the_network_can_read_everything: lets plain text leave this machine.
        approvers: public keys (Ed25519, 64 hexadecimal digits) by name, of those who may approve versions of the plan.
        require_approval: how many of them must have signed a version before it is founded with, started with or applied.
        log_format: how structured logs are written to standard error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Path("hushmeter-state")
    keys_dir: Path | None = None
    master_key_file: Path | None = None
    plan: Path | None = None
    listen: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$")] = "127.0.0.1:50551"
    metrics: Annotated[str, Field(pattern=r"^((\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5})?$")] = "127.0.0.1:9464"
    workers: Annotated[int, Field(ge=1, le=WORKERS_MAX)] = 1
    sealers: Annotated[int, Field(ge=1, le=WORKERS_MAX)] = Field(default_factory=_cores)
    credentials: Literal["auto", "required"] = "auto"
    unit_tokens: Annotated[Literal["off", "required"], BeforeValidator(_word)] = "off"
    messages_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10_000
    message_burst: Annotated[int, Field(ge=1, le=10**9)] = 50_000
    unit_reports_per_minute: Annotated[int, Field(ge=0, le=10**9)] = 6_000
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    i_accept_that_anyone_on_the_network_can_read_everything: bool = False
    approvers: Annotated[dict[str, Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]], Field(max_length=64)] = {}
    require_approval: Annotated[int, Field(ge=0, le=64)] = 0
    log_format: Literal["console", "json"] = "console"

    @property
    def keys(self) -> Path:
        """Where keys lie: where the configuration says; else inside an old state that holds them, and beside any other.

        Raises:
            ConfigError: there are keys at both places.
        """
        if self.keys_dir is not None:
            return self.keys_dir
        inside, beside = self.state_dir / "keys", self.beside
        if not inside.is_dir():
            return beside
        if (beside / CHECK_NAME).exists():
            raise ConfigError(
                f"there are keys in {inside} and in {beside}; move those away that this deployment has not used last, or "
                "name one of both as keys_dir"
            )
        return inside

    @property
    def beside(self) -> Path:
        """Where keys lie by default; the same for every name that leads to the state directory."""
        state = self.state_dir.resolve()
        return state.parent / f"{state.name}-keys"

    @property
    def keys_are_inside(self) -> bool:
        """Whether whoever copies the state directory has its keys too."""
        return self.keys.resolve().is_relative_to(self.state_dir.resolve())

    @property
    def approver_keys(self) -> dict[str, bytes]:
        """The approvers' public keys, 32 bytes, by name."""
        return {name: bytes.fromhex(key) for name, key in self.approvers.items()}

    @property
    def access_rules(self) -> AccessRules:
        """What is asked of those who come in."""
        return AccessRules(
            credentials_required=self.credentials == "required" or not is_loopback(self.listen),
            unit_tokens=self.unit_tokens == "required",
            messages_per_s=self.messages_per_second,
            message_burst=self.message_burst,
            unit_reports_per_minute=self.unit_reports_per_minute,
        )

    @property
    def database_url(self) -> str:
        """The state store, as SQLAlchemy names it."""
        return url_of(self.state_dir / STATE_NAME)


def is_loopback(listen: str) -> bool:
    """Whether an address is of this machine alone; a name counts only where it is `localhost`."""
    host, _ = split_address(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_config(path: Path | None, overrides: dict[str, object]) -> Config:
    """Reads the configuration file, if there is one, and lays the command line's choices over it.

    Args:
        path: of the file.
        overrides: by field; `None` means not chosen.

    Raises:
        ConfigError: the file cannot be read, or a field is not admissible; each with its path and value.
    """
    fields: dict[str, object] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read the configuration {path}: {error}") from None
        if not isinstance(loaded, dict | None):
            raise ConfigError(f"the configuration {path} must be a mapping such as 'workers: 2'")
        fields = loaded or {}
    fields |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Config.model_validate(fields)
    except ValidationError as error:
        lines = [
            # The value of a field that does not exist is not shown: it may be a secret.
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} ("
            + ("" if e["type"] == "extra_forbidden" else f"got {str(e['input'])[:80]!r}; ")
            + f"known fields: {', '.join(Config.model_fields)})"
            for e in error.errors()
        ]
        raise ConfigError("the configuration is not valid:\n  " + "\n  ".join(lines)) from None


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, checked by the configuration; an IPv6 host loses its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
