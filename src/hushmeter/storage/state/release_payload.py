"""The noisy vectors of one release as one Arrow IPC stream: what the store keeps of them, and all that it keeps.

One row a partition, in the order of partition numbers; one `fixed_size_list<int64>` column a measurement. What the
mechanism did travels in the column's metadata, floats as hexadecimal ones, which round-trip exactly, and beside it the salt
of the vector's commitment, which is kept nowhere else (R1). A release of an open view begins with two columns more: the
number of the public partition, and the token, of each selected partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from hushmeter.errors import Failure, InvariantError, ensure
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector, PartitionKey

_MECHANISM: Final = b"mechanism"
_SCALE: Final = b"scale"
_LOSS: Final = b"loss"
_DELTA: Final = b"delta"
_THRESHOLD: Final = b"threshold"
_SALT: Final = b"salt"
_KEY_COLUMNS: Final = ["public partition", "token"]

PartitionKeys = tuple[PartitionKey, ...] | None


def encode_vectors(vectors: Mapping[MeasurementName, NoisyVector], keys: PartitionKeys = None) -> bytes:
    """Writes the vectors of one release.

    Args:
        vectors: at least one; all have one row a partition of the same view.
        keys: of an open view, the partitions that the rows are of.

    Returns:
        An Arrow IPC stream of one record batch; equal vectors give equal bytes.
    """
    ensure(vectors, "a release holds something")
    ensure(
        len({len(v.values) for v in vectors.values()} | ({len(keys)} if keys is not None else set())) == 1,
        "the vectors of a release have the same partitions",
    )
    fields, columns = [], []
    if keys is not None:
        fields += [pa.field(n, t, nullable=False) for n, t in zip(_KEY_COLUMNS, (pa.int64(), pa.string()), strict=True)]
        columns += [pa.array([k for k, _ in keys], pa.int64()), pa.array([t for _, t in keys], pa.string())]
    for name in MeasurementName:
        vector = vectors.get(name)
        if vector is None:
            continue
        width = vector.values.shape[1]
        ensure(width >= 1, f"the vector of {name} has no columns")
        kind = pa.list_(pa.field("item", pa.int64(), nullable=False), width)
        noise = {
            _MECHANISM: vector.mechanism.value.encode(),
            _SCALE: vector.scale.hex().encode(),
            _LOSS: vector.loss.hex().encode(),
            _DELTA: vector.delta.hex().encode(),
        }
        if vector.threshold is not None:
            noise[_THRESHOLD] = str(vector.threshold).encode()
        if vector.salt is not None:
            noise[_SALT] = vector.salt.hex().encode()
        fields.append(pa.field(name.value, kind, nullable=False, metadata=noise))
        # From its buffer: `pa.array` would first import pandas, where that is installed.
        cells = pa.Array.from_buffers(pa.int64(), vector.values.size, [None, pa.py_buffer(vector.values.tobytes())])
        columns.append(pa.FixedSizeListArray.from_arrays(cells, type=kind))
    batch = pa.record_batch(columns, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def decode_vectors(payload: bytes) -> tuple[dict[MeasurementName, NoisyVector], PartitionKeys]:
    """The inverse of `encode_vectors`.

    Args:
        payload: what `encode_vectors` wrote.

    Returns:
        The vectors by measurement; `values` are int64[partitions, columns], read-only, views of `payload`. The partitions
        of an open view.

    Raises:
        Failure: the payload is damaged.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
        keys: PartitionKeys = None
        first = 0
        if batch.schema.names[:2] == _KEY_COLUMNS:
            keys = tuple(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
            first = 2
        fields = list(enumerate(batch.schema))[first:]
        return {MeasurementName(f.name): _vector(f, batch.column(i)) for i, f in fields}, keys
    except (pa.ArrowInvalid, OSError, StopIteration, KeyError, TypeError, ValueError, AttributeError, InvariantError):
        raise Failure(
            "the payload of a release is damaged: not the Arrow stream that was written; restore the state from a backup"
        ) from None


def _vector(field: pa.Field, column: pa.FixedSizeListArray) -> NoisyVector:
    cells = column.flatten()
    if cells.null_count or column.type.value_type != pa.int64():
        raise ValueError("cells are int64 and never null")
    # From its buffer, as in `encode_vectors`; the last buffer, because the first tells which cells are null.
    values = np.frombuffer(cells.buffers()[-1] or b"", np.int64, len(cells), 8 * cells.offset)
    values = values[: len(column) * field.type.list_size].reshape(len(column), field.type.list_size)
    values.flags.writeable = False
    noise = {name: text.decode() for name, text in field.metadata.items()}
    scale, loss, delta = (float.fromhex(noise[name]) for name in (_SCALE, _LOSS, _DELTA))
    threshold = int(noise[_THRESHOLD]) if _THRESHOLD in noise else None
    salt = bytes.fromhex(noise[_SALT]) if _SALT in noise else None
    return NoisyVector(values, Mechanism(noise[_MECHANISM]), scale, loss, delta, threshold, salt)
