"""The file of a compacted segment: rows by bucket of units, one encrypted run a bucket, with an encrypted footer.

Layout: the header line, the runs one after another, the footer, and the footer's length in four little-endian bytes. The
footer says where each run is, so that one bucket is read and decrypted alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter import limits
from hushmeter.errors import SegmentLost, ensure
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.model.stored import grain
from hushmeter.ports import RewriteRows
from hushmeter.storage.log.frames import (
    ENCRYPTION_BYTES,
    FOOTER,
    LENGTH_BYTES,
    RUN,
    SegmentName,
    bucket_numbers,
    decode,
    decrypt,
    encode,
    encrypt,
)


@dataclass(frozen=True, slots=True)
class Footer:
    """What a compacted segment holds.

    Attributes:
        frames: how many frames it was made from.
        bits: it is cut into 2^bits runs.
        offsets: of each run in the file.
        lengths: of each run, encrypted.
        rows: of each run.
        kept_for: what the segment was rewritten for, see `IntakeLog.rewrite`; empty where it holds rows as they came.
    """

    frames: int
    bits: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    rows: tuple[int, ...]
    kept_for: str = ""


def run_bits(batch: ReportBatch) -> int:
    """Into 2^how many runs a segment is cut, for at most `RUN_BYTES_TARGET` in most of them."""
    return grain(batch.size_bytes, limits.RUN_BYTES_TARGET, limits.BUCKET_BITS_MAX)


def runs_file(cipher: AESGCM, segment: SegmentName, batch: ReportBatch, frames: int) -> Iterator[bytes]:
    """The parts of a compacted segment's file, in order.

    Args:
        cipher: of the storage window's data key.
        segment: which segment.
        batch: its rows, in the order of their arrival, which each run keeps.
        frames: how many frames they were read from.
    """
    bits = run_bits(batch)
    buckets = bucket_numbers(batch.pseudonyms, bits)
    order = np.argsort(buckets.astype(np.uint16), kind="stable")
    rows = np.bincount(buckets, minlength=1 << bits)
    ends = np.cumsum(rows)

    def runs() -> Iterator[tuple[bytes, int]]:
        for run, end in enumerate(ends.tolist()):
            chosen = batch.take(order[end - rows[run] : end]) if bits else batch
            yield encrypt(cipher, segment, RUN, run, encode(chosen), bits=bits), len(chosen)

    return _file_of(cipher, segment, frames, bits, runs())


def file_without(
    file: BinaryIO, cipher: AESGCM, segment: SegmentName, footer: Footer, units: Collection[bytes]
) -> Iterator[bytes] | None:
    """The parts of a compacted segment's file without the rows of some units; None where it holds none of them.

    Only runs that hold such rows are decrypted and encrypted anew; the others are copied as they are.

    Args:
        file: of the segment.
        cipher: of the storage window's data key.
        segment: which segment.
        footer: of the file.
        units: their pseudonyms.

    Raises:
        SegmentLost: a run is damaged.
    """
    touched = set(bucket_numbers(pairs_of(list(units)), footer.bits).tolist())
    changed = dict[int, ReportBatch]()
    for run in sorted(touched):
        before = _read_run(file, cipher, segment, footer, run)
        after = without_units(before, units)
        if len(after) < len(before):
            changed[run] = after
    if not changed:
        return None

    def runs() -> Iterator[tuple[bytes, int]]:
        for run, length in enumerate(footer.lengths):
            rows = changed.get(run)
            if rows is not None:
                yield encrypt(cipher, segment, RUN, run, encode(rows), bits=footer.bits), len(rows)
            else:
                file.seek(footer.offsets[run])
                yield file.read(length), footer.rows[run]

    return _file_of(cipher, segment, footer.frames, footer.bits, runs(), footer.kept_for)


def rewritten_file(
    cipher: AESGCM, segment: SegmentName, footer: Footer, buckets: Iterable[ReportBatch], bits: int, kept_for: str
) -> Iterator[bytes]:
    """The parts of a compacted segment's file with other rows.

    Args:
        cipher: of the storage window's data key.
        segment: which segment.
        footer: of the file as it was.
        buckets: the new rows of each of 2^bits buckets, in order.
        bits: how finely it is cut now.
        kept_for: what is said of it from now on.
    """
    runs = ((encrypt(cipher, segment, RUN, run, encode(b), bits=bits), len(b)) for run, b in enumerate(buckets))
    return _file_of(cipher, segment, footer.frames, bits, runs, kept_for)


def changed(batches: Sequence[ReportBatch], change: RewriteRows, number: int) -> ReportBatch:
    """What is left of one segment's rows.

    Args:
        batches: of each segment the rows of one bucket.
        change: see `IntakeLog.rewrite`.
        number: of the segment.
    """
    segments = np.repeat(np.arange(len(batches)), [len(b) for b in batches])
    left, was = change(ReportBatch.concat(batches), segments)
    return left.take(np.flatnonzero(segments[was] == number))


def without_units(rows: ReportBatch, units: Collection[bytes]) -> ReportBatch:
    """The rows that are of other units."""
    words = np.ascontiguousarray(rows.pseudonyms, ">u8").view("V16")[:, 0]
    gone = np.isin(words, np.frombuffer(b"".join(units), "V16"))
    return rows.take(np.flatnonzero(~gone)) if gone.any() else rows


def _file_of(
    cipher: AESGCM, segment: SegmentName, frames: int, bits: int, runs: Iterable[tuple[bytes, int]], kept_for: str = ""
) -> Iterator[bytes]:
    """The parts of a file: header, encrypted runs with their numbers of rows, and the footer, which says where they are."""
    part = segment.header("runs")
    offset, offsets, lengths, rows = 0, list[int](), list[int](), list[int]()
    for encrypted_run, count in runs:
        yield part
        offset += len(part)
        part = encrypted_run
        offsets.append(offset)
        lengths.append(len(part))
        rows.append(count)
    yield part
    footer = Footer(frames, bits, tuple(offsets), tuple(lengths), tuple(rows), kept_for)
    encrypted = encrypt(cipher, segment, FOOTER, 0, json.dumps(asdict(footer)).encode())
    yield encrypted + len(encrypted).to_bytes(LENGTH_BYTES, "little")


def read_footer(file: BinaryIO, cipher: AESGCM, segment: SegmentName) -> Footer:
    """The footer of a compacted segment's file.

    Raises:
        SegmentLost: the file is damaged or is another one's.
    """
    header = segment.header("runs")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(header)) != header or size < len(header) + ENCRYPTION_BYTES + LENGTH_BYTES:
        raise SegmentLost(f"{segment}: its compacted file does not begin as it should; its rows cannot be had back")
    file.seek(size - LENGTH_BYTES)
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    start = max(len(header), size - LENGTH_BYTES - length)
    file.seek(start)
    fields = json.loads(decrypt(cipher, segment, FOOTER, 0, file.read(size - LENGTH_BYTES - start)))
    offsets, lengths, rows = (tuple(fields[name]) for name in ("offsets", "lengths", "rows"))
    return Footer(fields["frames"], fields["bits"], offsets, lengths, rows, fields["kept_for"])


def read_bucket(
    file: BinaryIO, cipher: AESGCM, segment: SegmentName, footer: Footer, *, bucket: int, bits: int
) -> ReportBatch:
    """One of 2^bits buckets of a compacted segment: some runs, or the part of a coarser run that belongs to it.

    Raises:
        SegmentLost: a run is damaged.
    """
    if bits <= footer.bits:
        finer = footer.bits - bits
        return ReportBatch.concat(
            [_read_run(file, cipher, segment, footer, run) for run in range(bucket << finer, (bucket + 1) << finer)]
        )
    rows = _read_run(file, cipher, segment, footer, bucket >> (bits - footer.bits))
    return rows.take(np.flatnonzero(bucket_numbers(rows.pseudonyms, bits) == bucket))


def _read_run(file: BinaryIO, cipher: AESGCM, segment: SegmentName, footer: Footer, run: int) -> ReportBatch:
    file.seek(footer.offsets[run])
    rows = decode(decrypt(cipher, segment, RUN, run, file.read(footer.lengths[run]), bits=footer.bits))
    ensure(len(rows) == footer.rows[run], f"{segment}: run {run} does not hold as many rows as its footer says")
    return rows
