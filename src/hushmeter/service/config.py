"""How an operator configures the service: one small YAML file, or nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hushmeter.errors import ConfigError
from hushmeter.runtime import cores

WORKERS_MAX = 256


def _cores() -> int:
    return min(cores(), WORKERS_MAX)


class Config(BaseModel):
    """Everything that may be configured, with defaults that are safe on one machine.

    Attributes:
        state_dir: where the database and the intake log live.
        keys_dir: where keys live; a place that is not in the backups of `state_dir`. `state_dir/keys` by default.
        master_key_file: 64 hexadecimal digits or 32 bytes; by default the environment's HUSHMETER_MASTER_KEY, and where
            that is not set `keys_dir/master.key`, which is made on the first start.
        plan: the telemetry plan; needed on the first start alone.
        listen: host and port of the gRPC services.
        metrics: host and port of the operators' metrics for Prometheus; empty for none.
        workers: ingest processes.
        sealers: processes that seal one large window side by side; as many as there are cores by default.
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
    log_format: Literal["console", "json"] = "console"

    @property
    def keys(self) -> Path:
        """Where keys live."""
        return self.keys_dir or self.state_dir / "keys"

    @property
    def database_url(self) -> str:
        """The state store, as SQLAlchemy names it."""
        return f"sqlite:///{self.state_dir.absolute() / 'state.db'}"


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
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {str(e['input'])[:80]!r}; known fields: "
            f"{', '.join(Config.model_fields)})"
            for e in error.errors()
        ]
        raise ConfigError("the configuration is not valid:\n  " + "\n  ".join(lines)) from None


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, checked by the configuration; an IPv6 host loses its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
