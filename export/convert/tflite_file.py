"""Reading and rewriting `.tflite` flatbuffers, without a converter and without running them."""

from __future__ import annotations

import re
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER: Final = b"TFL3"
# Names of litert-torch: package.Type_attribute/package.Type_attribute;n, joined with ";" where operators were fused.
_ENCODER: Final = re.compile(r"_encoder[/;]")
_HEAD: Final = re.compile(r"_head[/;]")
_SHORT: Final = re.compile(r"(encoder|head|other)/\d+")
# What the quantizer must match: a whole operator scope inside the encoder, none that was fused with the head.
ENCODER_SCOPE: Final = r"^(?!.*_head[/;]).*_student/[^/;]*_encoder[/;]"

TENSOR_TYPES: Final[dict[int, str]] = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
OPERATORS: Final[dict[int, str]] = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}


def parse(data: bytes) -> Any:
    """Return the object form (`ModelT`) of a `.tflite` file, with all weights inside it."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for buffer in model.buffers:
        if buffer.offset:  # litert-quantizer lays the weights of a larger model behind the flatbuffer
            buffer.data = np.frombuffer(data, np.uint8, count=buffer.size, offset=buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any) -> bytes:
    """Return the bytes of a `ModelT`."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def operator_name(model: Any, operator: Any) -> tuple[str, int]:
    """Return the builtin name and the version of an operator."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Codes above 127 live in the newer field only; older files have only the older one.
    return OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)], int(code.version)


def tensor_name(tensor: Any) -> str:
    """Return a tensor's name as text."""
    return (tensor.name or b"").decode("utf-8", "replace")


def region_of(name: str) -> str:
    """Return `encoder`, `head` or `other` for a tensor name, in the converter's form or in the shipped short form."""
    if _SHORT.fullmatch(name):
        return name.split("/")[0]
    if _HEAD.search(name):
        return "head"
    return "encoder" if _ENCODER.search(name) else "other"


def strip_names(data: bytes) -> bytes:
    """Shorten tensor names to `region/number` and drop the converter's description and metadata.

    Module paths make up a quarter of a small INT8 file and tell how the builder's code is laid out. Inputs and outputs
    keep their names (and the signature its keys), so every runtime still finds them.
    """
    model = parse(data)
    for graph in model.subgraphs:
        keep = {int(i) for i in [*graph.inputs, *graph.outputs]}
        for index, tensor in enumerate(graph.tensors):
            if index not in keep:
                tensor.name = f"{region_of(tensor_name(tensor))}/{index}".encode()
    model.description = b""
    model.metadata = None
    return pack(model)
