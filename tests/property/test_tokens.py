"""Tokens as columns: what a report says never depends on the numbers that its tokens have in a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter.errors import InvariantError
from hushmeter.ingest.raw import RawReports, SentReports
from hushmeter.model.report import ReportBatch, bytes_of, pruned_tokens
from hushmeter.sealing.copies import content_digests, copy_key
from hushmeter.storage.log.frames import decode, encode
from hushmeter.testing.batches import said
from tests.batches import any_batch
from tests.oracle.rows import content_digest, rows_of

KEY = copy_key(bytes(range(32)))


def renumbered(batch: ReportBatch, order: list[int]) -> ReportBatch:
    """The same reports with another dictionary: reordered, and with a token that no point has."""
    numbers = np.zeros(len(order) + 1, np.uint32)
    numbers[np.array(order, np.int64) + 1] = np.arange(len(order)) + 2
    tokens = (b"nobody has this", *(batch.tokens[i] for i in order))
    return replace(batch, tokens=tokens, token_numbers=numbers[batch.token_numbers])


@given(any_batch(), st.data())
def test_taking_rows_keeps_what_they_say(batch: ReportBatch, data: st.DataObject) -> None:
    """Any rows in any order, repeated or not, say what they said, under the same dictionary."""
    rows = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=8)) if len(batch) else []
    taken = batch.take(np.array(rows, np.int64))
    assert said(taken) == [said(batch)[row] for row in rows]
    assert taken.tokens == batch.tokens


@given(st.lists(any_batch(), max_size=4))
def test_batches_after_one_another_say_what_each_said(batches: list[ReportBatch]) -> None:
    """One dictionary takes the place of several, each token once, in the order in which they were seen."""
    merged = ReportBatch.concat(batches)
    assert said(merged) == [report for batch in batches for report in said(batch)]
    assert list(merged.tokens) == list(dict.fromkeys(token for batch in batches for token in batch.tokens))


@given(any_batch(), st.integers(0, 6))
def test_a_batch_cut_in_two_and_put_together_is_the_batch(batch: ReportBatch, border: int) -> None:
    """Cutting anywhere changes no column, not even the numbers of tokens."""
    rows = np.arange(len(batch))
    whole = ReportBatch.concat([batch.take(rows[:border]), batch.take(rows[border:])])
    assert whole.tokens == batch.tokens
    np.testing.assert_array_equal(whole.token_numbers, batch.token_numbers)
    assert said(whole) == said(batch)


@given(any_batch())
def test_pruning_leaves_the_tokens_that_points_have(batch: ReportBatch) -> None:
    """A pruned dictionary holds each token that some point has and no other, and no point changes."""
    tokens, numbers = pruned_tokens(batch.tokens, batch.token_numbers)
    pruned = replace(batch, tokens=tokens, token_numbers=numbers)
    assert said(pruned) == said(batch)
    assert set(tokens) == {token for *_, points in said(batch) for *_, token in points if token is not None}


def digests(batch: ReportBatch, key: bytes = KEY) -> list[bytes]:
    """The digest of every report of a batch."""
    return bytes_of(content_digests(batch, np.arange(len(batch)), key))


@given(any_batch(), any_batch(), st.randoms(use_true_random=False))
def test_a_content_digest_is_of_the_report_alone(batch: ReportBatch, other: ReportBatch, random: object) -> None:
    """Neither the numbering of tokens nor the reports beside it move a report's digest, and it is the slow one (P2)."""
    expected = [content_digest(row, KEY) for row in rows_of(batch)]
    order = list(range(len(batch.tokens)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert digests(batch) == expected
    assert digests(renumbered(batch, order)) == expected
    assert digests(ReportBatch.concat([other, batch]))[len(other) :] == expected


@given(any_batch(), st.data())
def test_a_content_digest_is_the_same_however_reports_are_stored(batch: ReportBatch, data: st.DataObject) -> None:
    """Frames, runs and pieces that are cut anywhere hold reports whose digests are those of the reports that came (P2)."""
    border = data.draw(st.integers(0, len(batch)))
    rows = np.arange(len(batch))
    parts = [decode(encode(batch.take(part))) for part in (rows[:border], rows[border:])]
    assert digests(ReportBatch.concat(parts)) == digests(batch)


@given(any_batch(with_tokens=True))
def test_a_content_digest_depends_on_the_bytes_of_tokens(batch: ReportBatch) -> None:
    """Other tokens, or none, make another digest of exactly the reports that have one; another key makes all others."""
    having = [any(token is not None for *_, token in points) for *_, points in said(batch)]
    changed = replace(batch, tokens=tuple(token + b"x" for token in batch.tokens))
    without = replace(batch, tokens=(), token_numbers=np.zeros(len(batch.series), np.uint32))
    for other in (changed, without):
        assert [a != b for a, b in zip(digests(batch), digests(other), strict=True)] == having
    assert not set(digests(batch)) & set(digests(batch, bytes(32)))


def test_a_column_that_cannot_be_is_refused() -> None:
    """Numbers beyond the dictionary, of another length or type, and a dictionary that repeats a token are defects."""
    none, ids, one = np.zeros(1, np.int64), np.zeros((1, 2), np.uint64), np.ones(1, np.uint32)

    def batch(tokens: tuple[bytes, ...], numbers: np.ndarray) -> ReportBatch:
        offsets = np.array([0, 1], np.int64)
        return ReportBatch(ids, ids, none, none, none, one, offsets, one, none, tokens, numbers)

    assert batch((), np.zeros(0, np.uint32)).token_numbers.tolist() == [0]
    assert batch((b"a",), one).token_numbers.tolist() == [1]
    for tokens, numbers in (
        ((), one),
        ((b"a",), 2 * one),
        ((b"a",), np.zeros(0, np.uint32)),
        ((b"a",), np.ones(1, np.int64)),
        ((b"a", b"a"), one),
    ):
        with pytest.raises(InvariantError, match="token"):
            batch(tokens, numbers)


def test_raw_reports_after_one_another_keep_their_tokens() -> None:
    """Messages with tokens, without, and with some of the same ones share a dictionary when they are put together."""

    def message(tokens: list[bytes], numbers: list[int]) -> SentReports:
        of_points = [np.array(numbers, "<u4").tobytes()] if tokens else [b""]
        series, values = [bytes(4 * len(numbers))], [bytes(8 * len(numbers))]
        return SentReports([(b"", b"", 0, 0, 0)], series, values, of_points, {0: tokens} if tokens else {})

    parts = [message([b"b", b"a"], [1, 2, 0]), message([], [0, 0]), message([b"c", b"b"], [2, 1])]
    merged = RawReports.of(parts)
    assert merged.tokens == (b"b", b"a", b"c")
    assert merged.token_numbers.tolist() == [1, 2, 0, 0, 0, 1, 3]
    assert RawReports.of(parts[1:2] * 2).token_numbers.tolist() == [0] * 4
