"""Credentials, unit tokens and rate limits, as pure functions."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.access.credentials import Credential, Proof, bearer_in, bearer_of, hash_of, parts_of, proves
from hushmeter.access.rates import MINUTE_S, Judged, TokenBucket, UnitRates
from hushmeter.access.roles import Role
from hushmeter.access.unit_tokens import TOKEN_BYTES, invalid_among, is_valid, issue
from hushmeter.errors import ConfigError

KEYS = st.binary(min_size=32, max_size=32)
UNITS = st.binary(min_size=1, max_size=128)
TIMES = st.integers(0, 2**61)
IDS = st.text("0123456789abcdef", min_size=16, max_size=16)


class TestUnitTokens:
    """A token opens one unit's door until it expires."""

    @given(KEYS, UNITS, TIMES, st.integers(1, 2**61))
    def test_holds_until_it_expires(self, key: bytes, unit: bytes, now: int, lifetime: int) -> None:
        """A token is valid up to the millisecond before its expiry, and from the expiry on never again."""
        token = issue(key, unit, now + lifetime)
        assert len(token) == TOKEN_BYTES
        assert is_valid(key, unit, token, now)
        assert is_valid(key, unit, token, now + lifetime - 1)
        assert not is_valid(key, unit, token, now + lifetime)

    @given(KEYS, UNITS, UNITS)
    def test_serves_no_other_unit(self, key: bytes, unit: bytes, other: bytes) -> None:
        """One unit's token is valid for another unit only where the two are one."""
        assert is_valid(key, other, issue(key, unit, 10), 5) == (unit == other)

    @given(KEYS, UNITS, st.integers(0, TOKEN_BYTES - 1), st.integers(1, 255))
    def test_no_byte_can_be_changed(self, key: bytes, unit: bytes, at: int, flip: int) -> None:
        """Changing any byte, the expiry's included, makes a token worthless."""
        token = bytearray(issue(key, unit, 2**40))
        token[at] ^= flip
        assert not is_valid(key, unit, bytes(token), 5)

    @given(KEYS, UNITS, st.integers(0, TOKEN_BYTES - 1), st.binary(min_size=1, max_size=16))
    def test_truncated_or_prolonged(self, key: bytes, unit: bytes, length: int, more: bytes) -> None:
        """A token that lost bytes or got some is worthless."""
        token = issue(key, unit, 2**40)
        assert not is_valid(key, unit, token[:length], 5)
        assert not is_valid(key, unit, token + more, 5)

    @given(KEYS, UNITS, st.binary(max_size=2), st.integers(0, 2**40))
    def test_bytes_do_not_move_between_fields(self, key: bytes, unit: bytes, moved: bytes, expiry: int) -> None:
        """The border between expiry and unit id is fixed, so bytes cannot move across it."""
        token = issue(key, moved + unit, expiry + 10)
        assert is_valid(key, unit, token, expiry) == (not moved)

    @given(KEYS, KEYS, UNITS)
    def test_another_deployment(self, key: bytes, other: bytes, unit: bytes) -> None:
        """A token of one deployment is worthless at another."""
        assert is_valid(other, unit, issue(key, unit, 10), 5) == (key == other)

    @given(KEYS, UNITS, st.binary(max_size=40))
    def test_guessed(self, key: bytes, unit: bytes, token: bytes) -> None:
        """No bytes that were not issued are a token."""
        assert not is_valid(key, unit, token, 5)

    @given(KEYS, st.lists(st.tuples(UNITS, st.sampled_from(["own", "none", "expired", "other"])), max_size=8))
    def test_many_at_once(self, key: bytes, reports: list[tuple[bytes, str]]) -> None:
        """Judging many reports is judging each."""
        tokens = {
            i: issue(key, unit + (b"x" if kind == "other" else b""), 5 if kind == "expired" else 10)
            for i, (unit, kind) in enumerate(reports)
            if kind != "none"
        }
        bad = invalid_among(key, [unit for unit, _ in reports], tokens, 5)
        assert bad == [i for i, (_, kind) in enumerate(reports) if kind != "own"]


def credential(secret: bytes, **changes: object) -> Credential:
    made = Credential("0" * 16, "x", Role.INGEST, (), hash_of(secret), 0)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


class TestCredentials:
    """A bearer text proves what its secret's hash says, and nothing else."""

    @given(IDS, KEYS)
    def test_read_as_written(self, name: str, secret: bytes) -> None:
        """A bearer text is read back as its id and its secret's hash, and has 63 characters of ASCII."""
        text = bearer_of(name, secret)
        assert len(text) == 63
        assert parts_of(text) == (name, hash_of(secret))
        assert bearer_in([f"Bearer {text}"]) == bearer_in([f"bearer  {text}".encode()]) == text

    @given(IDS, KEYS, st.integers(0, 62), st.characters())
    def test_one_spelling(self, name: str, secret: bytes, at: int, other: str) -> None:
        """Another text never proves the same secret for the same id."""
        text = bearer_of(name, secret)
        changed = text[:at] + other + text[at + 1 :]
        assert changed == text or parts_of(changed) != (name, hash_of(secret))

    @pytest.mark.parametrize("values", [[], ["Basic eA=="], ["Bearer"], ["a", "b"], [b"\xff\xfe"], [""]])
    def test_no_bearer(self, values: list[str | bytes]) -> None:
        """Other headers hold no bearer text, and are no error."""
        assert bearer_in(values) == ""

    @given(KEYS, KEYS)
    def test_what_is_proved(self, secret: bytes, other: bytes) -> None:
        """Forged, revoked and unknown look alike; only the holder of the secret learns that it has expired."""
        good, ended = credential(secret), credential(secret, expires_at_ms=5)
        assert proves(good, hash_of(secret), 5) is proves(ended, hash_of(secret), 4) is Proof.GOOD
        assert proves(ended, hash_of(secret), 5) is Proof.EXPIRED
        revoked = credential(secret, revoked_at_ms=1, expires_at_ms=5)
        assert {proves(revoked, hash_of(secret), 9), proves(None, hash_of(secret), 9)} == {Proof.NOTHING}
        if other != secret:
            assert {proves(c, hash_of(other), 9) for c in (good, ended, revoked)} == {Proof.NOTHING}

    def test_purposes_are_an_analysts(self) -> None:
        """Only an analyst has purposes, and has some; a name is short and printable."""
        for changes in ({"role": Role.ANALYST}, {"purposes": ("p",)}, {"name": "x" * 65}, {"name": "a\nb"}):
            with pytest.raises(ConfigError):
                credential(bytes(32), **changes)


class TestBucket:
    """One caller's messages."""

    @given(st.floats(0.1, 1e6), st.integers(1, 1_000), st.floats(0, 1e6))
    def test_the_burst_and_then_the_flow(self, per_s: float, burst: int, start: float) -> None:
        """A full bucket gives just its burst at once; the next token is there once it has flowed in."""
        bucket = TokenBucket(per_s, burst)
        assert all(bucket.take(start) for _ in range(burst))
        assert not bucket.take(start)
        assert not bucket.take(start + 0.9 / per_s - 1e-6)
        assert bucket.take(start + 1.001 / per_s + 1e-6)

    def test_refusals_cost_nothing(self) -> None:
        """Asking in vain does not put the next token off."""
        bucket = TokenBucket(1, 1)
        assert bucket.take(0)
        assert not any(bucket.take(0.5) for _ in range(100))
        assert bucket.take(1.0)


class TestUnitRates:
    """What a unit may send depends on its own reports alone."""

    @given(
        st.integers(1, 5),
        st.lists(st.tuples(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=12), st.floats(0, 40)), max_size=6),
    )
    def test_others_change_nothing(self, limit: int, groups: list[tuple[list[bytes], float]]) -> None:
        """A unit among others is judged as it would be alone (P1), however its reports are grouped with theirs."""
        together, alone = UnitRates(limit), {unit: UnitRates(limit) for unit in (b"a", b"b", b"c")}
        now = 0.0
        for units, later in groups:
            now += later
            over = together.judge(units, now).over
            together.settle()
            for unit, rates in alone.items():
                mine = [i for i, u in enumerate(units) if u == unit]
                refused = rates.judge([unit] * len(mine), now).over
                rates.settle()
                assert [i for i in over if units[i] == unit] == [mine[i] for i in refused]

    def test_a_minutes_worth_at_once(self) -> None:
        """The whole minute's allowance may come at once, and is whole again after a minute of silence."""
        rates = UnitRates(3)
        for now in (0.0, MINUTE_S):
            assert rates.judge([b"a"] * 5, now).over == [3, 4]
            rates.settle()
            assert rates.judge([b"a", b"b"], now).over == [0]

    def test_nothing_counts_before_it_was_taken_in(self) -> None:
        """Judging again without settling judges the same."""
        rates = UnitRates(2)
        assert rates.judge([b"a"] * 3, 0) == rates.judge([b"a"] * 3, 0) == Judged([2], [])

    def test_a_full_table_has_no_room(self) -> None:
        """So many units are remembered; further ones find no room, and those in it are judged as ever."""
        rates = UnitRates(10, tracked=100)
        rates.judge([b"heavy"] * 10, 0.0)
        rates.settle()
        units = [b"%d" % i for i in range(150)]
        assert rates.judge(units, 0.0) == Judged([], list(range(99, 150)))
        rates.settle()
        assert len(rates) == 100
        assert rates.judge([b"heavy", b"0", b"new"], 0.0) == Judged([0], [2])

    @given(
        st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=8), st.floats(0, 2.5)), max_size=12),
        st.lists(st.booleans(), min_size=12, max_size=12),
    )
    def test_a_unit_leaves_by_its_own_time(self, groups: list[tuple[list[int], float]], asked: list[bool]) -> None:
        """A table holds just the units whose bucket was not full when this second began, whoever asked in between."""
        rates, other, full_at = UnitRates(60, tracked=4), UnitRates(60, tracked=4), dict[int, float]()
        now = 0.0
        for (units, later), asks in zip(groups, asked, strict=False):
            now += later
            if asks:
                other.judge([b"x%d" % i for i in range(9)], now)
            here = {unit for unit, at in full_at.items() if at > int(now)}
            crowded = []
            for index, unit in enumerate(units):
                if unit not in here and len(here) == 4:
                    crowded.append(index)
                else:
                    here.add(unit)
                    full_at[unit] = max(full_at.get(unit, now), now) + 1
            for table in (rates, other):
                assert table.judge([b"%d" % unit for unit in units], now) == Judged([], crowded)
                table.settle()
