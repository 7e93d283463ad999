"""Attempts to carry content into a service and out of it again, each by another channel, with a mark of its own.

An attempt says where its sender is stopped: the reason of a rejection, a gRPC status, or `taken`. Where marks went is
looked for afterwards.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.patience import PATIENCE_S
from tests.service.calls import (
    GET_CONSENT,
    HEALTH_CHECK,
    ISSUE_UNIT_TOKEN,
    METHODS,
    QUERY_RELEASES,
    SET_CONSENT,
    STREAM,
    SUBMIT,
    VALIDATE,
)
from tests.service.smuggler import CROWD, UNIT, Smuggler
from tests.service.wire import varint

Attempt = Callable[[Smuggler, str], str]
ATTEMPTS: dict[str, tuple[Attempt, str]] = {}
"""By name: what is tried with a mark, and where the sender is stopped."""


def ends(expected: str) -> Callable[[Attempt], Attempt]:
    """Registers an attempt, with where its sender is stopped."""

    def register(attempt: Attempt) -> Attempt:
        ATTEMPTS[attempt.__name__] = attempt, expected
        return attempt

    return register


def one_of(fates: set[str]) -> str:
    """The fate that all attempts share."""
    (fate,) = fates
    return fate


def planted_for(s: Smuggler, report: Report, planted: bytes) -> str:
    """What becomes of a report in which bytes that are no text take the place of as many letters `x`."""
    sound = ingest_pb2.SubmitReportsRequest(reports=[report]).SerializeToString()
    (answer,) = s.call(SUBMIT, sound.replace(b"x" * len(planted), planted))
    (rejection,) = ingest_pb2.SubmitReportsResponse.FromString(answer).acknowledgement.rejections
    return RejectionReason.Name(rejection.reason).removeprefix("REJECTION_REASON_")


@ends("BAD_TOKEN")
def sentence_in_a_token(s: Smuggler, text: str) -> str:
    return s.send(*(s.report("joins", t) for t in (f"{text[:4]} hello", text[:12], f"{text[:9]}\n1", "1.0 " + text[:8])))


@ends("BAD_TOKEN")
def address_in_a_token(s: Smuggler, text: str) -> str:
    return s.send(s.report("joins", f"{text[:4]}@x.org"))


@ends("BAD_TOKEN")
def base64_in_a_token(s: Smuggler, text: str) -> str:
    return s.send(s.report("joins", base64.b64encode(text[:9].encode()).decode()))


@ends("BAD_TOKEN")
def letters_of_other_scripts_in_a_token(s: Smuggler, text: str) -> str:
    return s.send(*(s.report("joins", t) for t in ("\u0661\u0662", "\uff11.0", "1\u200b", "1.0\u0000")))


@ends("BAD_TOKEN")
def long_text_in_a_lax_token(s: Smuggler, text: str) -> str:
    return s.send(s.report("lax", text * 5), s.report("lax", text * 10_000))


@ends("BAD_TOKEN")
def token_of_a_closed_metric(s: Smuggler, text: str) -> str:
    return s.send(s.report("bytes", text))


@ends("MALFORMED")
def token_that_no_point_names(s: Smuggler, text: str) -> str:
    return s.send(s.report("joins", "1.0", token=["1.0", text]))


@ends("taken")
def text_in_chunks_by_one_unit(s: Smuggler, text: str) -> str:
    return s.send(*(s.report("lax", f"{i:03d}{text}") for i in range(100)))


@ends("taken")
def text_in_chunks_by_many_units(s: Smuggler, text: str) -> str:
    return s.send(*(s.report("lax", f"{i:03d}{text}", unit_id=unit) for i, unit in enumerate(CROWD[:100])))


@ends("taken")
def number_in_chunks_by_many_units(s: Smuggler, text: str) -> str:
    digits = str(int(text, 16))
    return s.send(*(s.report("joins", f"{i}.{digits[:9]}", unit_id=unit) for i, unit in enumerate(CROWD[:100])))


@ends("taken")
def text_in_values(s: Smuggler, text: str) -> str:
    return s.send(*(s.report(value=[byte]) for byte in text.encode()))


@ends("VALUE_OUT_OF_RANGE")
def text_in_large_values(s: Smuggler, text: str) -> str:
    raw = text.encode()
    return s.send(*(s.report(value=[int.from_bytes(raw[i : i + 8], "little", signed=True)]) for i in (0, 8)))


@ends("UNKNOWN_SERIES")
def text_in_series_numbers(s: Smuggler, text: str) -> str:
    raw = text.encode()
    return s.send(*(s.report(series=[int.from_bytes(raw[i : i + 4], "little")]) for i in range(0, 16, 4)))


@ends("taken")
def text_as_report_id(s: Smuggler, text: str) -> str:
    return s.send(s.report(report_id=text.encode()))


@ends("MALFORMED")
def oversized_report_id(s: Smuggler, text: str) -> str:
    return s.send(s.report(report_id=text.encode() + b"x"), s.report(report_id=text.encode() * 50_000))


@ends("taken")
def text_as_unit_id(s: Smuggler, text: str) -> str:
    assert s.code(SET_CONSENT, s.grant(text * 8)) == "taken"
    return s.send(s.report(unit_id=text * 8, interval_start_ms=s.now_ms(), interval_end_ms=s.now_ms() + 1))


@ends("BAD_UNIT_ID")
def oversized_unit_id(s: Smuggler, text: str) -> str:
    return s.send(s.report(unit_id=text * 8 + "x"), s.report(unit_id=text * 50_000))


@ends("INVALID_ARGUMENT")
def oversized_unit_id_of_a_decision(s: Smuggler, text: str) -> str:
    return s.code(SET_CONSENT, s.grant(text * 50_000))


@ends("BAD_UNIT_ID")
def invalid_utf8_as_unit_id(s: Smuggler, text: str) -> str:
    planted = text.encode() + b"\xff\xfe"
    return planted_for(s, s.report(unit_id="x" * len(planted)), planted)


@ends("BAD_TOKEN")
def invalid_utf8_as_token(s: Smuggler, text: str) -> str:
    planted = text.encode() + b"\xff\xfe"
    return planted_for(s, s.report("lax", "x" * len(planted)), planted)


@ends("INVALID_ARGUMENT")
def invalid_utf8_in_a_decision(s: Smuggler, text: str) -> str:
    sound = s.grant(source="y" * 20).SerializeToString()
    return s.code(SET_CONSENT, sound.replace(b"y" * 20, text.encode() + b"\xff" * 4))


@ends("taken")
def text_as_unit_token(s: Smuggler, text: str) -> str:
    for method, message in ((SET_CONSENT, s.grant()), (GET_CONSENT, consent_pb2.GetConsentRequest(unit_id=UNIT))):
        message.unit_token = text.encode() * 100
        assert s.code(method, message) == "taken"
    return s.send(s.report(unit_token=text.encode()), s.report(unit_token=text.encode() * 10_000))


@ends("UNKNOWN_PLAN_VERSION")
def text_as_plan_version(s: Smuggler, text: str) -> str:
    raw = text.encode()
    return s.send(*(s.report(plan_version=int.from_bytes(raw[i : i + 4], "little")) for i in range(0, 16, 4)))


@ends("taken")
def text_as_time_of_sending(s: Smuggler, text: str) -> str:
    sent = int.from_bytes(text.encode()[:8], "little")
    return s.code(SUBMIT, ingest_pb2.SubmitReportsRequest(reports=[s.report()], sent_at_ms=sent))


@ends("BAD_INTERVAL")
def text_as_interval(s: Smuggler, text: str) -> str:
    times = [int.from_bytes(text.encode()[i : i + 8], "little") for i in (0, 8)]
    return s.send(s.report(interval_start_ms=times[0], interval_end_ms=s.now_ms()), s.report(interval_start_ms=times[1]))


@ends("taken")
def text_in_odd_milliseconds(s: Smuggler, text: str) -> str:
    raw, now = text.encode(), s.now_ms()
    return s.send(*(s.report(interval_start_ms=now - 1 - int.from_bytes(raw[i : i + 2], "big")) for i in range(0, 16, 2)))


@ends("INVALID_ARGUMENT")
def text_as_message(s: Smuggler, text: str) -> str:
    methods = (SUBMIT, STREAM, VALIDATE, SET_CONSENT, GET_CONSENT, ISSUE_UNIT_TOKEN, QUERY_RELEASES)
    fates = {s.code(method, b"\x0a\xff\x7f" + text.encode() * 100) for method in methods}
    return one_of(fates)


@ends("INVALID_ARGUMENT")
def text_as_locale_of_a_grant(s: Smuggler, text: str) -> str:
    locales = (
        text,
        text * 2,
        f"de-{text[:8]}",
        f"de-x-{text[:8]}",
        f"en-US-u-ca-{text[:8]}",
        f"en_{text[:2]}",
        "en\n",
        "\u0434\u0435",
        "en",
        "DE",
        "pt-br",
    )
    fates = {s.code(SET_CONSENT, s.grant(locale=locale)) for locale in locales}
    return one_of(fates)


@ends("INVALID_ARGUMENT")
def text_as_source_of_a_grant(s: Smuggler, text: str) -> str:
    sources = (
        f"two words {text}",
        text.upper(),
        f"{text}@example",
        f"a{text}\n",
        f"\u00e9{text}",
        f"9{text[:9]}",
        f"a.{text}",
        text,
        "a",
        "Settings",
        "erasure",
    )
    fates = {s.code(SET_CONSENT, s.grant(source=source)) for source in sources}
    return one_of(fates)


@ends("taken")
def text_beside_a_withdrawal(s: Smuggler, text: str) -> str:
    planted = {"locale": text * 2, "source": f"two words {text}", "text_hash": text.encode() * 4}
    assert s.code(SET_CONSENT, s.grant("withdraws", given=True)) == "taken"
    return s.code(SET_CONSENT, s.grant("withdraws", given=False, **planted))


@ends("taken")
def oversized_text_beside_a_withdrawal(s: Smuggler, text: str) -> str:
    planted = {"locale": text * 1_000, "source": text * 1_000, "text_hash": text.encode() * 1_000}
    return s.code(SET_CONSENT, s.grant("withdraws", given=False, **planted))


@ends("INVALID_ARGUMENT")
def oversized_text_beside_a_decision(s: Smuggler, text: str) -> str:
    fields: list[dict[str, object]] = [
        {"locale": text * 3}, {"source": text * 3}, {"text_hash": text.encode() * 5}, {"text_hash": text.encode() * 2},
        {"purpose": text}, {"purpose": text * 50_000},
    ]  # fmt: skip
    fates = {s.code(SET_CONSENT, s.grant(**field)) for field in fields}
    return one_of(fates)


@ends("taken")
def text_in_metadata(s: Smuggler, text: str) -> str:
    metadata = [("x-note", text), ("x-note-bin", text.encode()), (f"x-{text}", "1"), ("authorization", f"Bearer {text}")]
    request = ingest_pb2.SubmitReportsRequest(reports=[s.report()]).SerializeToString()
    with grpc.insecure_channel(s.target, [("grpc.primary_user_agent", text)]) as channel:
        list(channel.stream_stream(SUBMIT)(iter([request]), metadata=metadata, timeout=PATIENCE_S))
    return s.code(SUBMIT, request, metadata)


@ends("UNIMPLEMENTED")
def text_as_method(s: Smuggler, text: str) -> str:
    return s.code(f"/hushmeter.api.{text}.v1.{text}/{text}", b"")


@ends("INVALID_ARGUMENT")
def text_in_questions(s: Smuggler, text: str) -> str:
    question = query_pb2.QueryReleasesRequest
    fates = {
        s.code(QUERY_RELEASES, question(**({"metric": "lax", "view": ["word"], "resolution": "1h"} | fields)))  # type: ignore[arg-type]
        for fields in (
            {"metric": text}, {"resolution": text}, {"view": [text]}, {"statistics": [text]},
            {"filters": [query_pb2.PartitionFilter(dimension=text)]},
        )
    }  # fmt: skip
    asked = query_pb2.PartitionFilter(dimension="word", values=[text])
    assert s.code(QUERY_RELEASES, question(metric="lax", view=["word"], resolution="1h", filters=[asked])) == "taken"
    return one_of(fates)


@ends("NOT_FOUND")
def text_asked_of_health(s: Smuggler, text: str) -> str:
    return s.code(HEALTH_CHECK, b"\x0a" + bytes([len(text)]) + text.encode())


@ends("taken")
def unknown_fields_everywhere(s: Smuggler, text: str) -> str:
    """In every message of every request of every method, also of methods that are yet to come."""
    for method, described in METHODS.items():
        sound = GetMessageClass(described.input_type)
        for message in (_filled(described.input_type, ()), *_sound(s, sound)):
            assert s.code(method, _with_unknown(message, text)) in {"taken", "INVALID_ARGUMENT", "PERMISSION_DENIED"}
    known = ingest_pb2.SubmitReportsRequest(reports=[s.report("joins", "7.0")])
    (answer,) = s.call(SUBMIT, _with_unknown(known, text))
    assert ingest_pb2.SubmitReportsResponse.FromString(answer).acknowledgement.accepted == 1
    return s.code(SET_CONSENT, _with_unknown(s.grant(), text))


def _sound(s: Smuggler, kind: type[Message]) -> Iterator[Message]:
    """Requests that are taken, of methods that keep anything."""
    if "reports" in kind.DESCRIPTOR.fields_by_name:
        yield kind(reports=[s.report(), s.report("lax", "word")])
    if kind is consent_pb2.SetConsentRequest:
        yield s.grant()


def _filled(described: Descriptor, above: tuple[Descriptor, ...]) -> Message:
    """A message with one message in each of its fields that takes messages, at every level."""
    message = GetMessageClass(described)()
    for field in described.fields:
        inner = field.message_type
        if inner is not None and inner not in above:
            filled = _filled(inner, (*above, described))
            target: Any = getattr(message, field.name)
            if field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED:
                target.append(filled)
            else:
                target.CopyFrom(filled)
    return message


def _with_unknown(message: Message, text: str) -> bytes:
    """A message's bytes with fields that nobody knows, of each wire type, in it and in all messages inside."""
    inner = {f.number for f, _ in message.ListFields() if f.message_type is not None}
    plain = type(message)()
    plain.CopyFrom(message)
    nested = b""
    for field, value in message.ListFields():
        if field.number in inner:
            plain.ClearField(field.name)
            for item in value if not isinstance(value, Message) else [value]:
                body = _with_unknown(item, text)
                nested += varint(field.number << 3 | 2) + varint(len(body)) + body
    raw = text.encode()
    unknown = varint(1000 << 3 | 2) + varint(len(raw)) + raw + varint(1001 << 3 | 1) + raw[:8]
    return plain.SerializeToString() + nested + unknown + varint(1002 << 3 | 0) + b"\x05"
