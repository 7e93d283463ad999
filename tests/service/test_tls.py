"""TLS and mutual TLS with real certificates, and what is said where they do not fit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from hushmeter.access.roles import Role
from hushmeter.analyst import AnalystClient
from hushmeter.channels import ClientIdentity
from hushmeter.errors import ConfigError
from hushmeter.patience import PATIENCE_S
from hushmeter.sdk import IngestClient
from hushmeter.service.deployment.config import Config, read_config
from hushmeter.service.door.tls import read_tls
from tests.service.calls import GET_PLAN, OK, UNAUTHENTICATED, UNAVAILABLE
from tests.service.certificates import Authority, Pair, tls_config, trusting
from tests.service.guarded_service import guarded
from tests.service.running_service import FOUNDED_MS


class TestSockets:
    """What a client meets."""

    def test_tls(self, tmp_path: Path) -> None:
        """A client that trusts the authority is served; one that trusts another, or speaks plain text, is not."""
        authority, other = Authority(tmp_path), Authority(tmp_path, "other")
        tls = read_tls(tls_config(authority.issue("server")), FOUNDED_MS)
        with guarded(tmp_path / "state", tls=tls, channel=trusting(authority)) as service:
            bearer = service.credential()
            assert service.code(GET_PLAN, bearer)[0] is OK
            assert service.code(GET_PLAN)[0] is UNAUTHENTICATED
            for channel in (
                grpc.secure_channel(service.target, trusting(other)),
                grpc.insecure_channel(service.target),
            ):
                with channel, pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(GET_PLAN)(b"", timeout=PATIENCE_S)
                assert refused.value.code() is UNAVAILABLE

    def test_another_name(self, tmp_path: Path) -> None:
        """A certificate for another name is not taken for the service's."""
        authority = Authority(tmp_path)
        tls = read_tls(tls_config(authority.issue("server")), FOUNDED_MS)
        with guarded(tmp_path / "state", tls=tls, channel=trusting(authority)) as service:
            options = [("grpc.ssl_target_name_override", "telemetry.example.com")]
            with grpc.secure_channel(service.target, trusting(authority), options) as channel:
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(GET_PLAN)(b"", timeout=PATIENCE_S)
                assert refused.value.code() is UNAVAILABLE

    def test_mutual(self, tmp_path: Path) -> None:
        """Where a client authority is named, a client without a certificate of it is not served, credential or not."""
        authority, other = Authority(tmp_path), Authority(tmp_path, "other")
        own = tls_config(authority.issue("server"), tls_client_ca=authority.file)
        client, stranger = authority.issue("client"), other.issue("stranger")
        with guarded(tmp_path / "state", tls=read_tls(own, FOUNDED_MS), channel=trusting(authority, client)) as service:
            bearer = service.credential()
            assert service.code(GET_PLAN, bearer)[0] is OK
            assert service.code(GET_PLAN)[0] is UNAUTHENTICATED
            for pair in (None, stranger):
                with grpc.secure_channel(service.target, trusting(authority, pair)) as channel:
                    with pytest.raises(grpc.RpcError) as refused:
                        channel.unary_unary(GET_PLAN)(
                            b"", metadata=[("authorization", f"Bearer {bearer}")], timeout=PATIENCE_S
                        )
                    assert refused.value.code() is UNAVAILABLE

    def test_clients_by_files(self, tmp_path: Path) -> None:
        """The clients take authority, certificate and credential from files."""
        authority = Authority(tmp_path)
        own, client = tls_config(authority.issue("server"), tls_client_ca=authority.file), authority.issue("client")
        with guarded(tmp_path / "state", tls=read_tls(own, FOUNDED_MS), channel=trusting(authority, client)) as service:
            (tmp_path / "credential").write_text(service.credential(Role.OPERATOR))
            identity = ClientIdentity(authority.file, client.certificate, client.key, tmp_path / "credential")
            with IngestClient(service.target, identity=identity) as ingest:
                assert ingest.plan().name == "test"
            with AnalystClient(service.target, identity=identity) as analyst:
                assert analyst.metrics().metrics
        with pytest.raises(ConfigError, match="both a certificate and its key"):
            IngestClient("127.0.0.1:1", identity=dataclasses.replace(identity, client_key=None))
        with pytest.raises(ConfigError, match="cannot be read"):
            IngestClient("127.0.0.1:1", identity=dataclasses.replace(identity, ca_file=tmp_path / "none"))


class TestFiles:
    """Certificates and keys that cannot be used are told at the start."""

    def test_each_problem_has_its_words(self, tmp_path: Path) -> None:
        """Missing, unreadable, foreign, sealed and expired files are refused, each with what to do."""
        authority = Authority(tmp_path)
        good, other = authority.issue("good"), authority.issue("other")
        sealed = authority.issue("sealed", password=b"secret")
        ended = authority.issue("ended", end=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        shared = authority.issue("shared")
        shared.key.chmod(0o640)
        nonsense = tmp_path / "nonsense"
        nonsense.touch(mode=0o600)
        nonsense.write_text("nonsense")
        cases: list[tuple[Config, str]] = [
            (Config(tls_certificate=good.certificate), "both tls_certificate and tls_key"),
            (Config(tls_key=good.key), "both tls_certificate and tls_key"),
            (Config(tls_client_ca=authority.file), "both tls_certificate and tls_key"),
            (tls_config(Pair(tmp_path / "none", good.key)), "cannot be read .No such file"),
            (tls_config(Pair(good.certificate, tmp_path)), "cannot be read .Is a directory"),
            (tls_config(shared), "mode 0640.*chmod 600"),
            (tls_config(Pair(nonsense, good.key)), "holds no certificate"),
            (tls_config(Pair(good.certificate, nonsense)), "holds no private key"),
            (tls_config(Pair(good.certificate, other.key)), "not that of the first certificate"),
            (tls_config(sealed), "has a password"),
            (tls_config(ended), "to 2026-01-01 00:00 UTC, not now"),
            (tls_config(good, tls_client_ca=nonsense), "holds no certificate"),
            (tls_config(good, tls_client_ca=tmp_path / "none"), "client authority .* cannot be read"),
        ]
        for chosen, words in cases:
            with pytest.raises(ConfigError, match=words) as refused:
                read_tls(chosen, FOUNDED_MS)
            assert "PRIVATE KEY-----\n" not in str(refused.value)
        found = read_tls(tls_config(good), FOUNDED_MS)
        assert found is not None
        assert "PRIVATE" not in repr(found)


class TestPlainText:
    """Plain text stays on this machine."""

    @pytest.mark.parametrize("listen", ["127.0.0.1:5", "127.1.2.3:5", "localhost:5", "[::1]:5"])
    def test_here(self, listen: str) -> None:
        """Loopback addresses need neither certificate nor credential."""
        chosen = Config(listen=listen)
        assert read_tls(chosen, FOUNDED_MS) is None
        assert not chosen.access_rules.credentials_required

    @pytest.mark.parametrize("listen", ["0.0.0.0:5", "[::]:5", "10.1.2.3:5", "telemetry.example.com:5"])
    def test_beyond(self, listen: str) -> None:
        """Any other address is refused unless somebody insists, and then asks for credentials all the same."""
        with pytest.raises(ConfigError, match="--i-accept-that-anyone-on-the-network-can-read-everything"):
            read_tls(Config(listen=listen), FOUNDED_MS)
        insisting = Config(listen=listen, i_accept_that_anyone_on_the_network_can_read_everything=True)
        assert read_tls(insisting, FOUNDED_MS) is None
        assert insisting.access_rules.credentials_required

    def test_yaml(self, tmp_path: Path) -> None:
        """A bare `off` in YAML is the word, and limits are checked."""
        file = tmp_path / "c.yaml"
        file.write_text("unit_tokens: off\ncredentials: required\nunit_reports_per_minute: 7\n")
        rules = read_config(file, {}).access_rules
        assert (rules.unit_tokens, rules.credentials_required, rules.unit_reports_per_minute) == (False, True, 7)
        for line in ("unit_tokens: maybe", "credentials: off", "messages_per_second: -1", "message_burst: 0"):
            file.write_text(line)
            with pytest.raises(ConfigError, match=line.partition(":")[0]):
                read_config(file, {})


class TestCommands:
    """The command line, as an operator uses it."""

    def run(self, cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hushmeter", *arguments]
        inherited = {k: v for k, v in os.environ.items() if k != "HUSHMETER_CREDENTIAL"} | environment
        return subprocess.run(
            command, cwd=cwd, env=inherited, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def test_credentials(self, tmp_path: Path) -> None:
        """Credentials are made, used, listed and revoked while the service runs; the access log tells of it."""
        authority = Authority(tmp_path)
        own = tls_config(authority.issue("server"))
        with guarded(tmp_path / "state", tls=read_tls(own, FOUNDED_MS), channel=trusting(authority)) as service:
            state = ("--state-dir", "state")
            made = self.run(
                tmp_path, "credential", "create", "--role", "analyst", "--purpose", "research", "--name", "Ann", *state
            )
            assert made.returncode == 0, made.stderr
            bearer = made.stdout.strip()
            name, secret = bearer.split("_", 2)[1:]
            query = ("query", "crashed", "--resolution", "1h", "--target", service.target, "--ca-file", "ca.pem")
            assert self.run(tmp_path, *query, HUSHMETER_CREDENTIAL=bearer).returncode == 0
            assert "UNAUTHENTICATED" in self.run(tmp_path, *query).stderr
            listed = self.run(tmp_path, "credential", "list", *state)
            assert all(word in listed.stdout for word in (name, "Ann", "analyst", "research", "valid"))
            assert secret not in listed.stdout
            (tmp_path / "file").write_text(bearer)
            denied = self.run(tmp_path, *query[:1], "starts", *query[2:], "--credential-file", "file")
            assert denied.returncode == 2
            assert "PERMISSION_DENIED: this credential may ask for research" in denied.stderr
            logged = self.run(tmp_path, "credential", "log", *state)
            assert [line.count(name) for line in logged.stdout.splitlines()] == [1, 1]
            assert '"allowed": false' in logged.stdout
            assert self.run(tmp_path, "credential", "revoke", name, *state).returncode == 0
            assert "revoked" in self.run(tmp_path, "credential", "list", *state).stdout
            assert secret.encode() not in b"".join(p.read_bytes() for p in (tmp_path / "state").glob("state.db*"))

    def test_refusals(self, tmp_path: Path) -> None:
        """What makes no sense is refused with what would."""
        with guarded(tmp_path / "state"):
            pass
        state = ("--state-dir", "state")
        for arguments, words in (
            (("create", "--role", "analyst", *state), "add --purpose"),
            (("create", "--role", "analyst", "--purpose", "nonsense", *state), "its purposes are model_tuning, research"),
            (("create", "--role", "ingest", "--purpose", "research", *state), "leave --purpose out"),
            (("create", "--role", "ingest", "--expires", "soon", *state), "--expires takes days"),
            (("create", "--role", "ingest", "--expires", "9999d", *state), "--expires takes days"),
            (("revoke", "0" * 16, *state), "there is no credential of that id"),
            (("list", "--state-dir", "elsewhere"), "holds no state.db"),
        ):
            refused = self.run(tmp_path, "credential", *arguments)
            assert refused.returncode == 2
            assert words in refused.stderr

    def test_serving_in_the_open(self, tmp_path: Path) -> None:
        """`serve` beyond loopback ends with what to do before it founds anything."""
        ended = self.run(tmp_path, "serve", "--listen", "0.0.0.0:0")
        assert ended.returncode == 2
        assert "give tls_certificate and tls_key" in ended.stderr
        assert not (tmp_path / "hushmeter-state").exists()
