"""Messages as they are on the wire, encoded by hand, and how they are sent."""

from __future__ import annotations

import grpc

from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.report.v1.report_pb2 import Report
from tests.service.calls import SUBMIT
from tests.service.running_service import Running


def varint(n: int) -> bytes:
    """A number of at least zero, seven bits a byte."""
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def packed(field: int, *runs: bytes) -> bytes:
    """Each run as one occurrence of a field with a length."""
    return b"".join(varint(field << 3 | 2) + varint(len(run)) + run for run in runs)


def message_of(report: Report, fields: bytes) -> bytes:
    """A SubmitReportsRequest of one report, after whose own fields come those that are encoded by hand."""
    return packed(1, report.SerializeToString() + fields)


def with_points(report: Report, points: bytes) -> bytes:
    """A SubmitReportsRequest of one report whose points are encoded by hand."""
    bare = Report()
    bare.CopyFrom(report)
    bare.ClearField("series")
    bare.ClearField("value")
    return message_of(bare, points)


def submit_bytes(service: Running, message: bytes, method: str = SUBMIT) -> pb.Acknowledgement:
    """Calls a method with bytes, and returns what it acknowledges."""
    with grpc.insecure_channel(service.target) as channel:
        return pb.SubmitReportsResponse.FromString(channel.unary_unary(method)(message)).acknowledgement
