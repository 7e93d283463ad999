"""Whether tokens are what their open dimension takes: the pattern is matched in linear time, whatever is sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hushmeter.model.arrays import Bool
from hushmeter.model.plan import OpenValues

_CONTROL = r"\p{Cc}"


def lawful(tokens: Sequence[bytes], rule: OpenValues) -> Bool:
    """Judges many tokens of one open dimension.

    Args:
        tokens: n byte strings.
        rule: the dimension's.

    Returns:
        bool[n]: UTF-8 without control characters, at most `max_length` code points, wholly matched by the pattern.

    References:
        R. Cox: Regular Expression Matching in the Wild (2010), on RE2, which never backtracks.
    """
    texts = pa.array([_text(token) for token in tokens], pa.string())
    short = pc.less_equal(pc.utf8_length(texts), rule.max_length)
    plain = pc.invert(pc.match_substring_regex(texts, _CONTROL))
    matched = pc.match_substring_regex(texts, f"^(?:{rule.pattern})$")
    taken = pc.and_(pc.and_(short, plain), matched)
    # As a list: `to_numpy` would import pandas, where that is installed.
    return np.array([judged is True for judged in taken.to_pylist()], np.bool_)


def _text(token: bytes) -> str | None:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None
