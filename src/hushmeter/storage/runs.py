"""The file of a compacted segment: rows by bucket of units, one sealed run a bucket, with a sealed footer.

Layout: the header line, the runs one after another, the footer, and the footer's length in four little-endian bytes. The
footer says where each run is, so that one bucket is read and decrypted alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter import limits
from hushmeter.errors import SegmentLost, ensure
from hushmeter.model.report import ReportBatch
from hushmeter.storage.frames import (
    FOOTER,
    LENGTH_BYTES,
    RUN,
    SEAL_BYTES,
    SegmentName,
    bucket_numbers,
    decode,
    encode,
    seal,
    unseal,
)


@dataclass(frozen=True, slots=True)
class Footer:
    """What a compacted segment holds.

    Attributes:
        frames: how many frames it was made from.
        bits: it is cut into 2^bits runs.
        offsets: of each run in the file.
        lengths: of each run, sealed.
        rows: of each run.
    """

    frames: int
    bits: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    rows: tuple[int, ...]


def bits_for(rows: int) -> int:
    """Into 2^how many runs a segment of so many rows is cut, for about `ROWS_PER_BUCKET_TARGET` rows in each."""
    bits = 0
    while bits < limits.BUCKET_BITS_MAX and rows > limits.ROWS_PER_BUCKET_TARGET << bits:
        bits += 1
    return bits


def runs_file(cipher: AESGCM, segment: SegmentName, batch: ReportBatch, frames: int) -> Iterator[bytes]:
    """The parts of a compacted segment's file, in order.

    Args:
        cipher: of the storage window's data key.
        segment: which segment.
        batch: its rows, in the order of their arrival, which each run keeps.
        frames: how many frames they were read from.
    """
    bits = bits_for(len(batch))
    buckets = bucket_numbers(batch.pseudonyms, bits)
    order = np.argsort(buckets, kind="stable")
    rows = np.bincount(buckets, minlength=1 << bits)
    ends = np.cumsum(rows)
    part = segment.header("runs")
    offset, offsets, lengths = 0, list[int](), list[int]()
    for run, end in enumerate(ends.tolist()):
        yield part
        offset += len(part)
        chosen = batch.take(order[end - rows[run] : end]) if bits else batch
        part = seal(cipher, segment, RUN, run, encode(chosen), bits=bits)
        offsets.append(offset)
        lengths.append(len(part))
    yield part
    footer = Footer(frames, bits, tuple(offsets), tuple(lengths), tuple(rows.tolist()))
    sealed = seal(cipher, segment, FOOTER, 0, json.dumps(asdict(footer)).encode())
    yield sealed + len(sealed).to_bytes(LENGTH_BYTES, "little")


def read_footer(file: BinaryIO, cipher: AESGCM, segment: SegmentName) -> Footer:
    """The footer of a compacted segment's file.

    Raises:
        SegmentLost: the file is damaged or is another one's.
    """
    header = segment.header("runs")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(header)) != header or size < len(header) + SEAL_BYTES + LENGTH_BYTES:
        raise SegmentLost(f"{segment}: its compacted file does not begin as it should; its rows cannot be had back")
    file.seek(size - LENGTH_BYTES)
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    start = max(len(header), size - LENGTH_BYTES - length)
    file.seek(start)
    fields = json.loads(unseal(cipher, segment, FOOTER, 0, file.read(size - LENGTH_BYTES - start)))
    return Footer(
        fields["frames"], fields["bits"], tuple(fields["offsets"]), tuple(fields["lengths"]), tuple(fields["rows"])
    )


def read_bucket(
    file: BinaryIO, cipher: AESGCM, segment: SegmentName, footer: Footer, *, bucket: int, bits: int
) -> ReportBatch:
    """One of 2^bits buckets of a compacted segment: a whole run, or the part of a coarser run that belongs to it.

    Raises:
        SegmentLost: the run is damaged.
    """
    ensure(bits >= footer.bits, f"{segment} is cut into 2^{footer.bits} runs and cannot be read as 2^{bits} buckets")
    run = bucket >> (bits - footer.bits)
    file.seek(footer.offsets[run])
    rows = decode(unseal(cipher, segment, RUN, run, file.read(footer.lengths[run]), bits=footer.bits))
    ensure(len(rows) == footer.rows[run], f"{segment}: run {run} does not hold as many rows as its footer says")
    if bits == footer.bits:
        return rows
    return rows.take(np.flatnonzero(bucket_numbers(rows.pseudonyms, bits) == bucket))
