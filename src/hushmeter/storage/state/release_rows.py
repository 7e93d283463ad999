"""Releases as rows of their table, as the state store holds them, and as files of publications that wait do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hushmeter.errors import Failure, InvariantError, ReleaseAltered, ensure
from hushmeter.model.release import Release, ReleaseKey
from hushmeter.model.time import Window
from hushmeter.storage.state.release_payload import decode_vectors, encode_vectors
from hushmeter.storage.state.schema import view_of, view_text


def rows_of(window: Window, published: Sequence[Release]) -> list[dict[str, object]]:
    """Releases of one window as rows; raises `InvariantError` for a release of another window."""
    return [_row(window, release) for release in published]


def release_of(row: Any) -> Release:
    """The inverse of what `rows_of` makes of a release.

    Args:
        row: has the table's columns as attributes.

    Raises:
        ReleaseAltered: it cannot have been stored so.
    """
    try:
        key = ReleaseKey(row.plan_version, row.metric, view_of(row.view), row.resolution, row.window_start_ms)
        # Not every database holds columns to their types.
        texts, numbers = (key.metric, key.resolution, *key.view), (key.plan_version, key.window_start_ms, row.window_end_ms)
        ensure(all(isinstance(t, str) for t in texts) and all(isinstance(n, int) for n in numbers), "columns have types")
        vectors, keys = decode_vectors(row.payload)
        return Release(key, row.window_end_ms, row.published_at_ms, row.completeness, vectors, keys)
    except (Failure, InvariantError, TypeError, ValueError):
        text = f"release {row.number} of {row.metric} at {row.resolution} cannot be read: it was altered in the database"
        raise ReleaseAltered(text) from None


def _row(window: Window, release: Release) -> dict[str, object]:
    key = release.key
    of_window = (key.resolution, key.window_start_ms, release.window_end_ms)
    ensure(
        of_window == (window.resolution, window.start_ms, window.end_ms),
        f"a release of {of_window} is not of window {window}",
    )
    return {
        "plan_version": key.plan_version,
        "metric": key.metric,
        "view": view_text(key.view),
        "resolution": key.resolution,
        "window_start_ms": key.window_start_ms,
        "window_end_ms": release.window_end_ms,
        "published_at_ms": release.published_at_ms,
        "completeness": release.completeness,
        "payload": encode_vectors(release.vectors, release.keys),
    }
