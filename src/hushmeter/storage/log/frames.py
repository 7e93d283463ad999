"""Reports as ciphertext: one Arrow record batch a chunk, encrypted and authenticated for the place where it belongs.

Where any point of a chunk has a token, a second record batch of one row follows: the chunk's dictionary of tokens, and the
number of each point's token. Chunks without tokens have not a byte of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter.errors import SegmentLost, ensure
from hushmeter.model.arrays import Int64, UInt64
from hushmeter.model.report import ReportBatch, UInt32, no_token_numbers, pruned_tokens

Bytes = bytes | memoryview

NONCE_BYTES = 12
ENCRYPTION_BYTES = NONCE_BYTES + 16
"""How much longer an encrypted chunk is than its plaintext."""
LENGTH_BYTES = 4
"""Of the length before a frame, and after a footer."""
FRAME = "frame"
RUN = "run"
FOOTER = "footer"
CLAIM = "claim"

_ARROW_OVERHEAD_BYTES = 4_096
"""More than the metadata and the padding of the record batches of a chunk."""
_ROW_BYTES = 2 * 16 + 3 * 8 + 4 + 2 * 4
_POINT_BYTES = 4 + 8
_NUMBER_BYTES = 4
_ENTRY_BYTES = 4
"""Of a token's offset in the dictionary; its bytes come on top."""
_POINTS_MAX = 2**31 - 1


def _column(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_SCHEMA = pa.schema(
    [
        _column("pseudonym", pa.binary(16)),
        _column("report_id", pa.binary(16)),
        _column("received_at_ms", pa.int64()),
        _column("interval_start_ms", pa.int64()),
        _column("interval_end_ms", pa.int64()),
        _column("plan_version", pa.uint32()),
        _column("series", pa.list_(_column("item", pa.uint32()))),
        _column("values", pa.list_(_column("item", pa.int64()))),
    ]
)
_TOKENS_SCHEMA = pa.schema(
    [
        _column("tokens", pa.list_(_column("item", pa.binary()))),
        _column("token_numbers", pa.list_(_column("item", pa.uint32()))),
    ]
)


@dataclass(frozen=True, slots=True)
class SegmentName:
    """Which segment of which deployment.

    Attributes:
        deployment_id: 32 hexadecimal digits.
        storage_start_ms: start of its storage window.
        segment_id: 32 hexadecimal digits.
    """

    deployment_id: str
    storage_start_ms: int
    segment_id: str

    def header(self, kind: str, version: int = 1) -> bytes:
        """The first line of a file of this segment: plain text, the same for every file of that kind and version."""
        return f"hushmeter {kind} {version} {self.deployment_id} {self.storage_start_ms} {self.segment_id}\n".encode()

    def associated(self, kind: str, number: int, bits: int) -> bytes:
        """What is authenticated beside a chunk, so that it is only ever read where it belongs."""
        return json.dumps([self.deployment_id, self.storage_start_ms, self.segment_id, kind, number, bits]).encode()

    def __str__(self) -> str:
        return f"segment {self.storage_start_ms}/{self.segment_id}"


def encode(batch: ReportBatch) -> memoryview:
    """Writes reports as one Arrow record batch, without its schema, and a second one for tokens if any point has one.

    Identifiers are stored as their 16 bytes, so that byte order is the numeric order of `pairs_of`.
    """
    ensure(int(batch.offsets[-1]) <= _POINTS_MAX, f"a chunk holds at most {_POINTS_MAX} points")
    n = len(batch)
    offsets = pa.py_buffer(np.ascontiguousarray(batch.offsets, np.int32))

    def flat(kind: pa.DataType, column: np.ndarray, dtype: str) -> pa.Array:
        return pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(np.ascontiguousarray(column, dtype))])

    def lists(name: str, points: pa.Array) -> pa.Array:
        return pa.Array.from_buffers(_SCHEMA.field(name).type, n, [None, offsets], children=[points])

    columns = [
        flat(pa.binary(16), batch.pseudonyms, ">u8"),
        flat(pa.binary(16), batch.report_ids, ">u8"),
        flat(pa.int64(), batch.received_at_ms, "<i8"),
        flat(pa.int64(), batch.interval_start_ms, "<i8"),
        flat(pa.int64(), batch.interval_end_ms, "<i8"),
        flat(pa.uint32(), batch.plan_versions, "<u4"),
        lists("series", flat(pa.uint32(), batch.series, "<u4")),
        lists("values", flat(pa.int64(), batch.values, "<i8")),
    ]
    rows = memoryview(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA).serialize()).cast("B")
    tokens, numbers = pruned_tokens(batch.tokens, batch.token_numbers)
    return memoryview(b"".join((rows, _encode_tokens(tokens, numbers)))) if tokens else rows


def _encode_tokens(tokens: tuple[bytes, ...], numbers: UInt32) -> memoryview:
    ensure(sum(map(len, tokens)) <= _POINTS_MAX, f"the tokens of a chunk have at most {_POINTS_MAX} bytes")

    def one_row(name: str, items: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items, _TOKENS_SCHEMA.field(name).type)

    columns = [
        one_row("tokens", pa.array(tokens, pa.binary())),
        one_row("token_numbers", pa.array(numbers, pa.uint32())),
    ]
    return memoryview(pa.RecordBatch.from_arrays(columns, schema=_TOKENS_SCHEMA).serialize()).cast("B")


def decode(data: Bytes) -> ReportBatch:
    """The inverse of `encode`: arrays are read-only, and views of `data` wherever the byte order allows."""
    reader = pa.BufferReader(data)
    columns = pa.ipc.read_record_batch(pa.ipc.read_message(reader), _SCHEMA).columns
    pseudonyms, report_ids, received, start, end, versions, series, values = columns
    offsets = _numbers(series.offsets, "<i4").astype(np.int64)
    offsets.flags.writeable = False
    ensure(series.offsets.equals(values.offsets), "the lists of a chunk are of equal lengths")
    return ReportBatch(
        _pairs(pseudonyms),
        _pairs(report_ids),
        _numbers(received, "<i8"),
        _numbers(start, "<i8"),
        _numbers(end, "<i8"),
        _numbers(versions, "<u4"),
        offsets,
        _numbers(series.values, "<u4"),
        _numbers(values.values, "<i8"),
        *(_decode_tokens(reader) if reader.tell() < reader.size() else ((), no_token_numbers())),
    )


def _decode_tokens(reader: pa.BufferReader) -> tuple[tuple[bytes, ...], UInt32]:
    tokens, numbers = pa.ipc.read_record_batch(pa.ipc.read_message(reader), _TOKENS_SCHEMA).columns
    return tuple(tokens.values.to_pylist()), _numbers(numbers.values, "<u4")


def encrypt(cipher: AESGCM, segment: SegmentName, kind: str, number: int, plain: Bytes, *, bits: int = 0) -> bytes:
    """Encrypts one chunk for its place: a fresh random nonce, then the AES-256-GCM ciphertext.

    Args:
        cipher: of the storage window's data key.
        segment: where the chunk belongs.
        kind: FRAME, RUN, FOOTER or CLAIM.
        number: of the chunk within the segment, from 0.
        plain: what is to be encrypted.
        bits: of a RUN, into how many runs the segment is cut.

    References:
        NIST SP 800-38D, 8.3: with random 96-bit nonces one key encrypts at most 2^32 chunks; a window's key has far fewer.
    """
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, segment.associated(kind, number, bits))


def decrypt(cipher: AESGCM, segment: SegmentName, kind: str, number: int, encrypted: Bytes, *, bits: int = 0) -> bytes:
    """The inverse of `encrypt`.

    Raises:
        SegmentLost: the chunk is damaged, or was encrypted by another key or for another place.
    """
    try:
        if len(encrypted) >= ENCRYPTION_BYTES:
            nonce, ciphertext = encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:]
            return cipher.decrypt(nonce, ciphertext, segment.associated(kind, number, bits))
    except InvalidTag:
        pass
    raise SegmentLost(f"{segment}: {kind} {number} is damaged or does not belong there; its rows cannot be had back")


@dataclass(frozen=True, slots=True)
class WriterClaim:
    """How much of a segment has been acknowledged, as its writer noted before it answered.

    Attributes:
        frames: how many, counted from the first.
        chain: over them, see `chained`.
    """

    frames: int
    chain: bytes


NOTHING_CLAIMED = WriterClaim(0, bytes(16))
_CLAIM = struct.Struct("<Q16s")
_CLAIM_BYTES = ENCRYPTION_BYTES + _CLAIM.size
_CLAIM_COPIES = 2
_UNCLAIMED_VERSION, _CLAIMED_VERSION = 1, 2
"""Of a file of frames: segments that an earlier hushmeter made have no claims."""


def chained(chain: bytes, frames: Iterable[Bytes]) -> bytes:
    """What a claim says of frames beside their number: a running hash of their tags, which authenticate their bytes.

    A frame that was written, cut off again and written with other content under the same number does not pass for it.
    """
    for frame in frames:
        chain = hashlib.blake2b(chain + bytes(frame[-16:]), digest_size=16, person=b"hushmeter-frames").digest()
    return chain


def empty_frames(segment: SegmentName) -> bytes:
    """A file of frames that holds none: the header line, and room for the claim, twice."""
    header = segment.header("frames", _CLAIMED_VERSION)
    return header + _unclaimed(header) * _CLAIM_COPIES


def encrypted_claim(cipher: AESGCM, segment: SegmentName, claim: WriterClaim) -> bytes:
    """What stands between the header line and the frames: the claim twice, so that either copy may be damaged."""
    return encrypt(cipher, segment, CLAIM, 0, _CLAIM.pack(claim.frames, claim.chain)) * _CLAIM_COPIES


def _unclaimed(header: bytes) -> bytes:
    """What stands in place of each copy before the first claim, which nothing but a new file holds."""
    return hashlib.blake2b(header, digest_size=_CLAIM_BYTES, person=b"hushmeter-none").digest()


@dataclass(frozen=True, slots=True)
class FramesFile:
    """A segment's file of frames, still encrypted.

    Attributes:
        segment: which segment.
        frames: as far as their lengths fit; what a crash has torn is left out.
        claims: both copies of the claim, encrypted; none in a file that an earlier hushmeter made.
    """

    segment: SegmentName
    frames: list[memoryview]
    claims: tuple[bytes, ...]

    @classmethod
    def of(cls, segment: SegmentName, data: memoryview) -> FramesFile:
        """Reads a whole file.

        Raises:
            SegmentLost: the header line is damaged or another segment's.
        """
        for version, copies in ((_CLAIMED_VERSION, _CLAIM_COPIES), (_UNCLAIMED_VERSION, 0)):
            header = segment.header("frames", version)
            first = len(header) + copies * _CLAIM_BYTES
            if data[: len(header)] == header and len(data) >= first:
                claims = (bytes(data[at : at + _CLAIM_BYTES]) for at in range(len(header), first, _CLAIM_BYTES))
                return cls(segment, list(_frames_in(data[first:])), tuple(claims))
        raise SegmentLost(f"{segment}: its file of frames does not begin as it should; its rows cannot be had back")

    def claim(self, cipher: AESGCM | None) -> WriterClaim:
        """What was acknowledged of it at least.

        Args:
            cipher: of the window's data key; None where there is none yet, and nothing can have been claimed.

        Raises:
            SegmentLost: neither copy can be read.
        """
        if not self.claims:
            return NOTHING_CLAIMED
        unclaimed = _unclaimed(self.segment.header("frames", _CLAIMED_VERSION))
        found = [NOTHING_CLAIMED for copy in self.claims if copy == unclaimed]
        for copy in self.claims:
            with contextlib.suppress(SegmentLost):
                if cipher is not None:
                    found.append(WriterClaim(*_CLAIM.unpack(decrypt(cipher, self.segment, CLAIM, 0, copy))))
        if not found:
            raise SegmentLost(
                f"{self.segment}: both notes of how many of its frames were acknowledged are damaged, so nothing proves"
                " that all of them are there"
            )
        return max(found, key=lambda claim: claim.frames)

    def ensure_claimed(self, cipher: AESGCM | None, frames: int) -> None:
        """Makes sure that the first so many frames hold all that was acknowledged.

        Raises:
            SegmentLost: there are fewer, or others, or more were acknowledged.
        """
        if len(self.frames) < frames:
            raise SegmentLost(f"{self.segment} holds {len(self.frames)} whole frames, but {frames} were closed")
        claim = self.claim(cipher)
        if claim.frames > frames:
            raise SegmentLost(
                f"{self.segment}: {claim.frames} frames were acknowledged, but {frames} were closed; the state store does"
                " not say what its writer did"
            )
        if chained(NOTHING_CLAIMED.chain, self.frames[: claim.frames]) != claim.chain:
            raise SegmentLost(f"{self.segment}: its first {claim.frames} frames are not those that were acknowledged")


def _frames_in(data: memoryview) -> Iterator[memoryview]:
    at = 0
    while at + LENGTH_BYTES <= len(data):
        first = at + LENGTH_BYTES
        at = first + int.from_bytes(data[at:first], "little")
        if at - first < ENCRYPTION_BYTES or at > len(data):
            return
        yield data[first:at]


def pieces(batch: ReportBatch, encrypted_bytes_max: int) -> Iterator[ReportBatch]:
    """Cuts reports into the fewest consecutive pieces of which each, encrypted, has at most so many bytes.

    There is at least one piece, and a piece of a batch that holds any report holds one at least. Nearly every batch is one
    piece: itself. Where one is cut, a token counts once for each report that has it, as if no two of them shared it.
    """
    room = encrypted_bytes_max - ENCRYPTION_BYTES - _ARROW_OVERHEAD_BYTES
    point_bytes = _POINT_BYTES + (_NUMBER_BYTES if batch.tokens else 0)
    points = int(batch.offsets[-1]) * point_bytes
    whole = len(batch) * _ROW_BYTES + points + sum(map(len, batch.tokens)) + len(batch.tokens) * _ENTRY_BYTES
    if not len(batch) or whole <= room:
        yield batch
        return
    ends = np.arange(1, len(batch) + 1) * _ROW_BYTES + batch.offsets[1:] * point_bytes
    if batch.tokens:
        ends += _token_bytes(batch)
    borders = [0]
    while borders[-1] < len(batch):
        first = borders[-1]
        used = int(ends[first - 1]) if first else 0
        borders.append(max(first + 1, int(np.searchsorted(ends, used + room, side="right"))))
    for first, last in itertools.pairwise(borders):
        yield batch.take(np.arange(first, last))


def _token_bytes(batch: ReportBatch) -> Int64:
    """What the dictionary takes up to each report, if every report had its own: int64[n], never decreasing."""
    sizes = np.array([0, *(len(token) + _ENTRY_BYTES for token in batch.tokens)], np.int64)
    report = np.repeat(np.arange(len(batch)), np.diff(batch.offsets))
    owners, numbers = np.divmod(np.unique(report * len(sizes) + batch.token_numbers), len(sizes))
    own = np.zeros(len(batch), np.int64)
    np.add.at(own, owners, sizes[numbers])
    return np.cumsum(own)


def bucket_numbers(pseudonyms: UInt64, bits: int) -> Int64:
    """The bucket of each unit: the top `bits` bits of its pseudonym.

    Args:
        pseudonyms: uint64[n, 2].
        bits: 0 to 63.

    Returns:
        int64[n], 0 to 2^bits - 1.
    """
    if bits == 0:
        return np.zeros(len(pseudonyms), np.int64)
    return (pseudonyms[:, 0] >> np.uint64(64 - bits)).astype(np.int64)


def _numbers(column: pa.Array, dtype: str) -> npt.NDArray[Any]:
    """A column that has no nulls, in place; `Array.to_numpy` would import pandas, where that is installed."""
    size = np.dtype(dtype).itemsize
    if not len(column):
        return np.zeros(0, dtype)
    numbers = np.frombuffer(column.buffers()[1], dtype, len(column), column.offset * size)
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)


def _pairs(column: pa.Array) -> UInt64:
    stored = np.frombuffer(column.buffers()[1], ">u8", 2 * len(column)) if len(column) else np.zeros(0, ">u8")
    pairs = stored.reshape(len(column), 2).astype(np.uint64)
    pairs.flags.writeable = False
    return pairs
