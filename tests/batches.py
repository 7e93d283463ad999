"""Hypothesis strategies for any batch of reports."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from hushmeter.model.report import ReportBatch

INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0])
UINT32 = st.integers(0, 2**32 - 1) | st.sampled_from([0, 2**32 - 1])
UINT64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**64 - 1])
TOKENS = st.sampled_from(["", "1.0", "1.00", "ä", "日本", "\U0001f600" * 64]) | st.text(max_size=5)


@st.composite
def any_batch(draw: st.DrawFn, with_tokens: bool | None = None) -> ReportBatch:
    """Any batch of a few reports; its dictionary may hold tokens that no point has."""
    lengths = draw(st.lists(st.integers(0, 4), max_size=6))
    n, m = len(lengths), sum(lengths)

    def column(values: st.SearchStrategy[int], dtype: type, count: int, width: int = 1) -> np.ndarray:
        drawn = draw(st.lists(values, min_size=count * width, max_size=count * width))
        return np.array(drawn, dtype).reshape((count, width) if width > 1 else (count,))

    texts: list[str] = []
    if draw(st.booleans()) if with_tokens is None else with_tokens:
        texts = draw(st.lists(TOKENS, unique=True, min_size=1, max_size=5))
    return ReportBatch(
        column(UINT64, np.uint64, n, 2),
        column(UINT64, np.uint64, n, 2),
        column(INT64, np.int64, n),
        column(INT64, np.int64, n),
        column(INT64, np.int64, n),
        column(UINT32, np.uint32, n),
        np.cumsum([0, *lengths]).astype(np.int64),
        column(UINT32, np.uint32, m),
        column(INT64, np.int64, m),
        tuple(text.encode() for text in texts),
        column(st.integers(0, len(texts)), np.uint32, m),
    )
