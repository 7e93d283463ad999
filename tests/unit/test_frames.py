"""Sealed chunks: what goes in comes out, at its own place and nowhere else."""

import dataclasses
import itertools
import os

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import SegmentLost
from hushmeter.model.report import ReportBatch, pruned_tokens
from hushmeter.model.stored import grain
from hushmeter.storage.log.frames import (
    ENCRYPTION_BYTES,
    FOOTER,
    FRAME,
    RUN,
    SegmentName,
    bucket_numbers,
    decode,
    decrypt,
    encode,
    encrypt,
    pieces,
)
from hushmeter.testing.batches import said
from tests.batches import any_batch
from tests.examples import examples

COLUMNS = [field.name for field in dataclasses.fields(ReportBatch) if field.name != "tokens"]
SEGMENT = SegmentName("d" * 32, 3_600_000, "a" * 32)
CIPHER = AESGCM(bytes(range(32)))


def assert_same(left: ReportBatch, right: ReportBatch) -> None:
    """Both batches have the same columns, values and dtypes, and the same dictionary of tokens."""
    assert left.tokens == right.tokens
    for name in COLUMNS:
        a, b = getattr(left, name), getattr(right, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=name)


def one_report(points: int = 3) -> ReportBatch:
    """One report of so many points."""
    ids = np.array([[2**64 - 1, 1]], np.uint64)
    one = np.ones(1, np.int64)
    offsets = np.array([0, points], np.int64)
    return ReportBatch(
        ids, ids, one, one, one, np.ones(1, np.uint32), offsets, np.arange(points, dtype=np.uint32), np.arange(points)
    )


def with_token(token: bytes, points: int = 1) -> ReportBatch:
    """One report of so many points, all with one token."""
    return dataclasses.replace(one_report(points), tokens=(token,), token_numbers=np.ones(points, np.uint32))


@examples(150)
@given(any_batch())
def test_decoding_undoes_encoding(batch):
    """Every column of every batch, also an empty one, comes back with its values and its dtype."""
    tokens, numbers = pruned_tokens(batch.tokens, batch.token_numbers)
    assert_same(decode(encode(batch)), dataclasses.replace(batch, tokens=tokens, token_numbers=numbers))
    assert said(decode(encode(batch))) == said(batch)


@examples(50)
@given(any_batch(with_tokens=True))
def test_chunks_without_tokens_have_not_a_byte_of_them(batch):
    """Rows whose points have no tokens take one record batch, the same bytes whatever the dictionary holds."""
    nobody = dataclasses.replace(batch, token_numbers=np.zeros_like(batch.token_numbers))
    plain = dataclasses.replace(nobody, tokens=())
    assert bytes(encode(nobody)) == bytes(encode(plain))
    reader = pa.BufferReader(bytes(encode(plain)))
    pa.ipc.read_message(reader)
    assert reader.tell() == reader.size()


def test_a_token_that_no_point_has_is_not_stored():
    """What was said by rows that are not of this chunk does not stand in it."""
    batch = ReportBatch.concat([with_token(b"kept here"), with_token(b"kept elsewhere")])
    assert b"kept here" in bytes(encode(batch.take(np.array([0]))))
    assert b"kept elsewhere" not in bytes(encode(batch.take(np.array([0]))))


@examples(50)
@given(any_batch())
def test_what_is_decoded_is_read_only(batch):
    """No stage can change rows that another one reads."""
    decoded = decode(bytes(encode(batch)))
    assert not any(getattr(decoded, name).flags.writeable for name in COLUMNS if getattr(decoded, name).size)


def test_identifiers_are_stored_as_their_bytes():
    """A pseudonym stands in the plaintext as the 16 bytes that were hashed."""
    assert (b"\xff" * 8 + b"\0" * 7 + b"\x01") in bytes(encode(one_report()))


def test_the_same_rows_never_seal_to_the_same_bytes():
    """A nonce is drawn for each chunk, so equal rows cannot be recognised."""
    first, second = (encrypt(CIPHER, SEGMENT, FRAME, 0, b"rows") for _ in range(2))
    assert first[:12] != second[:12]
    assert first[12:] != second[12:]


def test_any_flipped_bit_is_refused():
    """Not one bit of a sealed chunk can change unseen."""
    sealed = encrypt(CIPHER, SEGMENT, FRAME, 0, b"a few rows")
    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SegmentLost, match="damaged or does not belong"):
            decrypt(CIPHER, SEGMENT, FRAME, 0, bytes(damaged))


@pytest.mark.parametrize("length", range(ENCRYPTION_BYTES + 4))
def test_any_shortened_chunk_is_refused(length):
    """A chunk that lost its end is refused, also when nothing of it is left."""
    sealed = encrypt(CIPHER, SEGMENT, FRAME, 0, b"rows")
    with pytest.raises(SegmentLost):
        decrypt(CIPHER, SEGMENT, FRAME, 0, sealed[: min(length, len(sealed) - 1)])


@pytest.mark.parametrize(
    ("segment", "kind", "number", "bits"),
    [
        (SegmentName("e" * 32, 3_600_000, "a" * 32), RUN, 1, 2),
        (SegmentName("d" * 32, 7_200_000, "a" * 32), RUN, 1, 2),
        (SegmentName("d" * 32, 3_600_000, "b" * 32), RUN, 1, 2),
        (SEGMENT, FRAME, 1, 2),
        (SEGMENT, FOOTER, 1, 2),
        (SEGMENT, RUN, 2, 2),
        (SEGMENT, RUN, 1, 3),
    ],
    ids=["deployment", "window", "segment", "frame", "footer", "number", "bits"],
)
def test_a_chunk_opens_only_at_its_own_place(segment, kind, number, bits):
    """A chunk moved to another deployment, window, segment, kind, number or grain is refused."""
    sealed = encrypt(CIPHER, SEGMENT, RUN, 1, b"rows", bits=2)
    assert decrypt(CIPHER, SEGMENT, RUN, 1, sealed, bits=2) == b"rows"
    with pytest.raises(SegmentLost):
        decrypt(CIPHER, segment, kind, number, sealed, bits=bits)


def test_another_key_opens_nothing():
    """A chunk is refused under any key but its own."""
    with pytest.raises(SegmentLost):
        decrypt(AESGCM(os.urandom(32)), SEGMENT, FRAME, 0, encrypt(CIPHER, SEGMENT, FRAME, 0, b"rows"))


@examples(100)
@given(any_batch(), st.integers(4_200, 4_900))
def test_pieces_put_together_are_the_batch(batch, room):
    """Cutting a batch to frames loses and reorders nothing."""
    assert_same(ReportBatch.concat(list(pieces(batch, room))), batch)


def test_a_batch_without_reports_is_one_piece():
    """Whatever tokens it has, and however little room there is."""
    batch = with_token(b"x" * 256).take(np.zeros(0, np.int64))
    (piece,) = pieces(batch, ENCRYPTION_BYTES + 4_096)
    assert_same(piece, batch)


def test_a_piece_fits_a_frame_on_both_sides_of_the_limit():
    """A batch is one piece up to the limit; one report more makes two, and each of them, sealed, is within it."""
    reports, points = 40, 25
    batch = ReportBatch.concat([one_report(points)] * reports)
    room = ENCRYPTION_BYTES + 4_096 + reports * (68 + 12 * points)
    assert [len(p) for p in pieces(batch, room)] == [reports]
    cut = list(pieces(ReportBatch.concat([batch, one_report(points)]), room))
    assert [len(p) for p in cut] == [reports, 1]
    assert all(len(encode(p)) + ENCRYPTION_BYTES <= room for p in cut)


def test_a_piece_with_tokens_fits_a_frame_on_both_sides_of_the_limit():
    """Tokens count by their bytes and each point by its number; a batch that shares them is one piece where it fits."""
    own = ReportBatch.concat([with_token(b"%03d" % i * 64, 2) for i in range(40)])
    room = ENCRYPTION_BYTES + 4_096 + 40 * (68 + 2 * 16 + 3 * 64 + 4)
    assert [len(p) for p in pieces(own, room)] == [40]
    assert [len(p) for p in pieces(own, room - 1)] == [39, 1]
    assert [len(p) for p in pieces(ReportBatch.concat([own, with_token(b"x", 1)]), room)] == [40, 1]
    shared = ReportBatch.concat([with_token(b"t" * 250, 2)] * 40)
    assert [len(p) for p in pieces(shared, ENCRYPTION_BYTES + 4_096 + 40 * (68 + 2 * 16) + 254)] == [40]
    for batch in (own, shared):
        for small in (5_000, 7_000, 8_000):
            cut = list(pieces(batch, small))
            assert len(cut) > 1
            assert all(len(encode(p)) + ENCRYPTION_BYTES <= small for p in cut)


@pytest.mark.parametrize("count", [1, 2, 1_000])
@pytest.mark.parametrize("length", [0, 1, 256])
def test_the_estimate_with_tokens_is_never_too_small(count, length):
    """A chunk of reports with tokens of their own is at most its rows, points and token bytes, and the overhead."""
    own = [with_token((b"%08d" % i * 32)[:length] if length > 1 else bytes(length)) for i in range(count)]
    batch = ReportBatch.concat(own)
    assert len(encode(batch)) <= (68 + 16) * count + sum(len(t) + 4 for t in batch.tokens) + 4_096


@pytest.mark.parametrize(("reports", "points"), [(0, 0), (1, 0), (1, 4_096), (3_000, 1), (50, 200)])
def test_the_estimate_of_a_frame_is_never_too_small(reports, points):
    """A chunk of any shape is at most its rows' and points' bytes and the overhead that `pieces` allows for."""
    batch = ReportBatch.concat([one_report(points)] * reports)
    assert len(encode(batch)) <= 68 * reports + 12 * points * reports + 4_096


def test_buckets_are_the_top_bits():
    """Zero bits are one bucket; k bits are the k highest bits of the pseudonym."""
    pseudonyms = np.array([[0, 7], [2**63, 7], [2**64 - 1, 7], [2**62, 7]], np.uint64)
    assert bucket_numbers(pseudonyms, 0).tolist() == [0, 0, 0, 0]
    assert bucket_numbers(pseudonyms, 1).tolist() == [0, 1, 1, 0]
    assert bucket_numbers(pseudonyms, 2).tolist() == [0, 2, 3, 1]
    assert bucket_numbers(pseudonyms, 10).tolist() == [0, 512, 1023, 256]


def test_a_segment_is_cut_when_it_outgrows_its_runs():
    """The grain follows the size, on both sides of each border, and stops at the finest one."""
    assert [grain(size, 1000, 10) for size in (0, 1, 1000, 1001, 2000, 2001, 4000, 4001)] == [0, 0, 0, 1, 1, 2, 2, 3]
    assert grain(1000 << 10, 1000, 10) == grain(2000 << 10, 1000, 10) == 10
    assert all(a <= b for a, b in itertools.pairwise(grain(2**k, 1000, 10) for k in range(40)))
    assert all(size <= 1000 << grain(size, 1000, 60) for size in range(0, 20_000, 7))
