"""Answers on the wire: their content alone decides their bytes (R4)."""

from __future__ import annotations

from hushmeter.api.consent.v1.consent_pb2 import GetUnitResponse, HeldRows
from hushmeter.service.door.methods import unary


async def nothing(_request: bytes) -> GetUnitResponse:
    """Answers nobody."""
    return GetUnitResponse()


def test_entries_of_maps_are_sorted() -> None:
    """Whatever the order in which entries were added, and whichever process answers, the bytes are the same."""
    names = [f"metric_{i:02}" for i in range(40)]
    encoded = unary(nothing, None, GetUnitResponse).response_serializer
    found = encoded(GetUnitResponse(rows=[HeldRows(points=dict.fromkeys(reversed(names), 1))]))
    places = [found.index(name.encode()) for name in names]
    assert places == sorted(places)
    assert found == encoded(GetUnitResponse(rows=[HeldRows(points=dict.fromkeys(names, 1))]))
