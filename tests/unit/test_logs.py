"""A log that nobody can read any more stops nobody."""

from __future__ import annotations

import contextlib
import io
import os

import pytest
import structlog

from hushmeter.service.deployment.logs import configure_logs


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_reader_that_went_away_stops_no_writer(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs(log_format)
    os.close(reader)
    structlog.get_logger("test").warning("nobody reads this")
    with pytest.raises(BrokenPipeError):
        stream.flush()
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    structlog.get_logger("test").warning("the stream is closed")


def test_lines_are_written_again_once_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        full = True

        def write(self, text: str, /) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs("json")
    log = structlog.get_logger("test")
    log.warning("lost")
    stream.full = False
    log.warning("written")
    assert "lost" not in stream.getvalue()
    assert stream.getvalue().count("written") == 1
    assert stream.getvalue().endswith("\n")
