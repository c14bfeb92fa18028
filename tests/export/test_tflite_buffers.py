"""Weights that the quantizer lays behind the flatbuffer (a larger student's) are read, and travel inside what is written."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.convert import tflite_file

WEIGHTS = np.arange(40, dtype=np.uint8)


def _with_weights_behind() -> bytes:
    """A file as litert-quantizer writes it: buffer 1 names where its data lie, at a multiple of 16 after the flatbuffer."""
    model = schema.ModelT()
    model.version, model.subgraphs = 3, []
    model.buffers = [schema.BufferT(), schema.BufferT()]
    behind = model.buffers[1]
    behind.offset, behind.size = 1, len(WEIGHTS)
    behind.offset = -(-len(tflite_file.pack(model)) // 16) * 16
    head = tflite_file.pack(model)
    return head.ljust(behind.offset, b"\0") + WEIGHTS.tobytes()


def test_defect_weights_behind_the_flatbuffer_are_not_lost() -> None:
    data = _with_weights_behind()
    np.testing.assert_array_equal(tflite_file.parse(data).buffers[1].data, WEIGHTS)
    written = tflite_file.strip_names(data)
    raw = schema.ModelT.InitFromObj(schema.Model.GetRootAs(written, 0)).buffers[1]
    assert raw.offset == raw.size == 0
    np.testing.assert_array_equal(raw.data, WEIGHTS)
    assert tflite_file.parse(written).buffers[0].data is None
