"""The noisy vectors of one release as one Arrow IPC stream: what the store keeps of them, and all that it keeps.

One row a partition, in the order of partition numbers; one `fixed_size_list<int64>` column a measurement. Scale and rho
travel in the column's metadata as hexadecimal floats, which round-trip exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from hushmeter.errors import Failure, ensure
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.release import NoisyVector

_SCALE: Final = b"scale"
_RHO: Final = b"rho"


def encode_vectors(vectors: Mapping[MeasurementName, NoisyVector]) -> bytes:
    """Writes the vectors of one release.

    Args:
        vectors: at least one; all have one row a partition of the same view.

    Returns:
        An Arrow IPC stream of one record batch; equal vectors give equal bytes.
    """
    ensure(vectors, "a release holds something")
    ensure(len({len(v.values) for v in vectors.values()}) == 1, "the vectors of a release have the same partitions")
    fields, columns = [], []
    for name in MeasurementName:
        vector = vectors.get(name)
        if vector is None:
            continue
        width = vector.values.shape[1]
        ensure(width >= 1, f"the vector of {name} has no columns")
        kind = pa.list_(pa.field("item", pa.int64(), nullable=False), width)
        noise = {_SCALE: vector.scale.hex().encode(), _RHO: vector.rho.hex().encode()}
        fields.append(pa.field(name.value, kind, nullable=False, metadata=noise))
        # From its buffer: `pa.array` would first import pandas, where that is installed.
        cells = pa.Array.from_buffers(pa.int64(), vector.values.size, [None, pa.py_buffer(vector.values.tobytes())])
        columns.append(pa.FixedSizeListArray.from_arrays(cells, type=kind))
    batch = pa.record_batch(columns, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def decode_vectors(payload: bytes) -> dict[MeasurementName, NoisyVector]:
    """The inverse of `encode_vectors`.

    Args:
        payload: what `encode_vectors` wrote.

    Returns:
        The vectors by measurement; `values` are int64[partitions, columns], read-only, views of `payload`.

    Raises:
        Failure: the payload is damaged.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
        return {MeasurementName(f.name): _vector(f, batch.column(i)) for i, f in enumerate(batch.schema)}
    except (pa.ArrowInvalid, OSError, StopIteration, KeyError, TypeError, ValueError, AttributeError):
        raise Failure(
            "the payload of a release is damaged: not the Arrow stream that was written; restore the state from a backup"
        ) from None


def _vector(field: pa.Field, column: pa.FixedSizeListArray) -> NoisyVector:
    cells = column.flatten()
    if cells.null_count or column.type.value_type != pa.int64():
        raise ValueError("cells are int64 and never null")
    # From its buffer, as in `encode_vectors`; the last buffer, because the first tells which cells are null.
    values = np.frombuffer(cells.buffers()[-1] or b"", np.int64, len(cells), 8 * cells.offset)
    values = values.reshape(len(column), field.type.list_size)
    values.flags.writeable = False
    scale, rho = field.metadata[_SCALE], field.metadata[_RHO]
    return NoisyVector(values, float.fromhex(scale.decode()), float.fromhex(rho.decode()))
