"""One segment as its only writer holds it: whole durable frames, or as before."""

from __future__ import annotations

import contextlib

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hushmeter import limits
from hushmeter.model.report import ReportBatch
from hushmeter.storage.disk import AppendFile, failure_of
from hushmeter.storage.log.frames import (
    FRAME,
    LENGTH_BYTES,
    NOTHING_CLAIMED,
    SegmentName,
    WriterClaim,
    chained,
    encode,
    encrypt,
    encrypted_claim,
    pieces,
)


class SegmentWriter:
    """Appends frames to a segment's file.

    Args:
        segment: which segment.
        file: its file, which holds no frame, durably.
        size: of that file, in bytes.
    """

    def __init__(self, segment: SegmentName, file: AppendFile, size: int) -> None:
        self._segment = segment
        self._file = file
        self._size = size
        self._claim_at = len(segment.header("frames"))
        self._written = self._claimed = NOTHING_CLAIMED
        self._torn = False
        self.cipher: AESGCM | None = None
        """Of the window's data key, once it is known."""

    def append(self, cipher: AESGCM, batch: ReportBatch) -> int:
        """Appends reports, in one write, as one frame, or as several where one would exceed `FRAME_MAX_BYTES`.

        Returns:
            The segment's size in bytes, all of it durable.

        Raises:
            StorageFull, Failure: nothing was appended, and the next append may be tried.
        """
        parts, chunks, frames = list[bytes](), list[bytes](), self._written.frames
        for piece in pieces(batch, limits.FRAME_MAX_BYTES):
            encrypted = encrypt(cipher, self._segment, FRAME, frames, encode(piece))
            parts += (len(encrypted).to_bytes(LENGTH_BYTES, "little"), encrypted)
            chunks.append(encrypted)
            frames += 1
        data = b"".join(parts)
        try:
            self._mend()
            self._torn = True
            self._file.write(data)
            self._file.datasync()
        except OSError as error:
            # Where even this fails, the next append mends before it writes.
            with contextlib.suppress(OSError):
                self._mend()
            raise failure_of(error, f"appending to {self._segment}") from None
        self._torn = False
        self._size += len(data)
        self._written = WriterClaim(frames, chained(self._written.chain, chunks))
        return self._size

    def acknowledge(self) -> None:
        """Notes that all frames so far may be acknowledged; they are durable, and so the note never says too much.

        The note outlives this process at once. A power cut may take it back to an earlier one, but for the frame behind it:
        each append makes the note before it durable, too.

        Raises:
            Failure: the disk refused; nothing may be acknowledged.
        """
        if self.cipher is None or self._claimed == self._written:
            return
        try:
            self._file.overwrite(self._claim_at, encrypted_claim(self.cipher, self._segment, self._written))
        except OSError as error:
            raise failure_of(error, f"noting what is acknowledged of {self._segment}") from None
        self._claimed = self._written

    def close(self) -> int:
        """Gives the file back and returns how many frames are durable; a torn rest that stays is beyond that number."""
        with contextlib.suppress(OSError):
            self._mend()
        with contextlib.suppress(OSError):
            self._file.close()
        return self._written.frames

    def _mend(self) -> None:
        """Cuts off what an append that failed left behind."""
        if self._torn:
            self._file.truncate(self._size)
            self._torn = False
