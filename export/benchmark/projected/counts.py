"""Instructions of one inference, counted once for each graph and kept in `counts.json` beside this file.

How many instructions a model takes depends on its graph (operators, shapes, types, options), not on what its weights
are. So a count is looked up by a hash over the graph. `python -m tools.arm64.count` of a checkout makes the file; it needs
an emulator, which this module does not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from export.benchmark.basis import Basis, Figure
from export.benchmark.errors import BenchmarkError, UncountedGraphError
from export.convert import tflite_file

COUNTS_FILE: Final = Path(__file__).with_name("counts.json")
COUNTS_SCHEMA: Final = "lsemvae-counts/1"
RUNTIMES: Final = ("litert", "onnx")
# A board without these ends the process at the first one, so each table shows that none ran.
MUST_NOT_RUN: Final = ("dotprod", "i8mm", "lse", "crypto")
# ONNX Runtime takes memory from the heap in each run, and how long a free block is searched for depends on the runs before.
_REPEATS: Final = {"litert": "the same to the digit in every run", "onnx": "the same within 0.2 % in every run"}
# Constants of integers up to this size are shapes, axes, orders and paddings: they decide the work. Longer ones are weights.
_MOST_SHAPE_VALUES: Final = 16
# Their third input is a bias: weights, however short it is.
_WITH_BIAS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_COUNTER: Final = Path(__file__).parents[3] / "tools" / "arm64" / "count.py"
_PROGRAMS: Final = ("qemu-aarch64", "mmdebstrap", "gcc", "setarch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What decides how much work a model is.

    Attributes
    ----------
    key
        Hash of operators, shapes, types and options. The values of weights are not in it.
    precision
        `int8` where a kernel holds 8-bit integers, else `fp32`.
    weights
        Numbers in the kernels (constants of two or more dimensions).
    """

    key: str
    runtime: str
    precision: str
    operators: tuple[str, ...]
    weights: int

    @property
    def title(self) -> str:
        """Runtime and precision for people."""
        return f"{'LiteRT' if self.runtime == 'litert' else 'ONNX Runtime'} {self.precision.replace('int8', 'INT8')}"


@dataclass(frozen=True, slots=True)
class Count:
    """What one inference of a graph executes on one core.

    Attributes
    ----------
    record
        What was seen under the emulator: instructions, opcode classes, versions, comparison with the counting machine.
    """

    record: Mapping[str, Any]

    @property
    def instructions(self) -> int:
        """A64 instructions of one inference with its call from Python: one thread, after two warm-ups."""
        return int(self.record["instructions"])

    def figures(self) -> tuple[Figure, ...]:
        """Return the whole count, and the classes of opcodes that occurred or must not occur."""
        seen, opcodes = self.record, self.record["opcodes"]
        note = f"{seen['qemu']} -cpu {seen['cpu']}, one thread; {_REPEATS[seen['runtime']]}"
        shown = {"instructions": self.instructions}
        shown |= {f"opcodes_{name}": opcodes.get(name, 0) for name in MUST_NOT_RUN}
        shown |= {f"opcodes_{name}": count for name, count in opcodes.items() if count}
        return tuple(
            Figure(
                name=name,
                value=value,
                unit="instructions",
                basis=Basis.EMULATED,
                note=note if name == "instructions" else "",
            )
            for name, value in shown.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCount:
    """The counts of one graph.

    Attributes
    ----------
    what
        The model that was counted.
    float_form
        Key of the same network in float32, None where that was not counted.
    date, command
        When and how it was counted.
    boards
        Name of the board to what its core executes.
    """

    what: str
    date: str
    command: str
    float_form: str | None
    boards: Mapping[str, Count]


@cache
def recorded() -> Mapping[str, GraphCount]:
    """Return the counted graphs by their keys."""
    content = json.loads(COUNTS_FILE.read_text(encoding="utf-8"))
    if content.get("schema") != COUNTS_SCHEMA:
        raise BenchmarkError(f"found counts of schema {content.get('schema')!r}, expected {COUNTS_SCHEMA!r}")
    return MappingProxyType(
        {
            key: GraphCount(
                what=fields["what"],
                date=fields["date"],
                command=fields["command"],
                float_form=fields["float_form"],
                boards={name: Count(record) for name, record in fields["boards"].items()},
            )
            for key, fields in content["graphs"].items()
        }
    )


def counted(graph: Graph) -> GraphCount:
    """Return the counts of a graph.

    Raises
    ------
    UncountedGraphError
        It was never counted; the advice says how it is.
    """
    found = recorded().get(graph.key)
    if found is not None:
        return found
    measure = "Or measure on the board itself: lsemvae benchmark --ssh user@pi."
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if _COUNTER.is_file() and not absent:
        advice = (
            f"Count it once, about two minutes: cd {_COUNTER.parents[2]} && python -m tools.arm64.count BUNDLE --write; "
            f"then run this command again. {measure}"
        )
    else:
        lacking = ", ".join([*absent, *([] if _COUNTER.is_file() else ["tools/arm64 of a checkout"])])
        advice = (
            f"Counting needs x86-64 Linux, a checkout of the project and four programs (docs/explanation/aarch64.md); missing here: "
            f"{lacking}. {measure}"
        )
    raise UncountedGraphError(
        f"found a {graph.title} graph of {len(graph.operators)} operators and {graph.weights:,} weights ({graph.key[:12]}) "
        f"that was never counted, expected one of the {len(recorded())} in {COUNTS_FILE.name}",
        advice=advice,
    )


def read_graph(content: bytes, *, runtime: str) -> Graph:
    """Return what decides the work of a model file: `litert` reads `.tflite`, `onnx` reads `.onnx`."""
    if runtime not in RUNTIMES:
        raise BenchmarkError(f"found the runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    described, operators, kernels = (_tflite if runtime == "litert" else _onnx)(content)
    text = json.dumps([runtime, described], sort_keys=True, separators=(",", ":"))
    return Graph(
        key=hashlib.sha256(text.encode()).hexdigest(),
        runtime=runtime,
        precision="int8" if any("INT8" in kind for kind, _ in kernels) else "fp32",
        operators=operators,
        weights=sum(size for _, size in kernels),
    )


# The graph for the hash, the names of its operators, and type and size of each kernel.
_Described = tuple[list[Any], tuple[str, ...], list[tuple[str, int]]]


def _tflite(content: bytes) -> _Described:
    model = tflite_file.parse(content)
    described, names, kernels = [], [], []
    for graph in model.subgraphs:
        # By the order in which operators name them: their places in the file say nothing.
        numbers: dict[int, int] = {-1: -1}

        def tensor(index: int, *, is_bias: bool = False, graph: Any = graph, numbers: dict[int, int] = numbers) -> Any:
            entry = graph.tensors[index]
            stored, quantization = model.buffers[entry.buffer].data, entry.quantization
            kind, shape = tflite_file.TENSOR_TYPES[entry.type], [int(size) for size in entry.shape]
            scales = quantization.scale if quantization is not None else None
            found: list[Any] = [numbers.setdefault(int(index), len(numbers)), kind, shape, _plain(entry.shapeSignature)]
            # One scale or one a channel; what they are is a weight.
            found.append(None if scales is None else [len(scales) > 1, int(quantization.quantizedDimension)])
            found += [entry.sparsity is not None, stored is not None and len(stored) > 0]
            if found[-1] and kind in ("INT32", "INT64") and np.prod(shape) <= _MOST_SHAPE_VALUES and not is_bias:
                found.append(np.frombuffer(bytes(stored), kind.lower()).tolist())
            return found

        operations = []
        for operator in graph.operators:
            name = tflite_file.operator_name(model, operator)[0]
            options = [operator.builtinOptions, getattr(operator, "builtinOptions2", None), operator.customOptions]
            inputs = [
                tensor(index, is_bias=at == 2 and name in _WITH_BIAS) if index >= 0 else None
                for at, index in enumerate(operator.inputs)
            ]
            outputs = [tensor(index) for index in operator.outputs]
            operations.append([name, inputs, outputs, [_plain(option) for option in options]])
            names.append(name)
        ends = [[numbers.get(int(index), -1) for index in side] for side in (graph.inputs, graph.outputs)]
        described.append([ends, operations])
        for entry in graph.tensors:
            data, size = model.buffers[entry.buffer].data, int(np.prod(entry.shape))
            kind = tflite_file.TENSOR_TYPES[entry.type]
            if data is not None and len(data) and kind in ("INT8", "FLOAT32") and len(entry.shape) > 1 and size > 1:
                kernels.append((kind, size))
    return described, tuple(names), kernels


def _onnx(content: bytes) -> _Described:
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    type_name = onnx.TensorProto.DataType.Name
    stored = {entry.name: entry for entry in graph.initializer}
    numbers: dict[str, int] = {"": -1}

    def constant(entry: Any) -> list[Any]:
        found: list[Any] = [type_name(entry.data_type), list(entry.dims)]
        if entry.data_type == onnx.TensorProto.INT64 and np.prod(entry.dims) <= _MOST_SHAPE_VALUES:
            found.append(onnx.numpy_helper.to_array(entry).tolist())
        return found

    def attribute(entry: Any) -> list[Any]:
        value = onnx.helper.get_attribute_value(entry)
        return [entry.name, constant(value) if isinstance(value, onnx.TensorProto) else _plain(value)]

    entries = [
        [numbers.setdefault(entry.name, len(numbers)), entry.type.SerializeToString(deterministic=True).hex()]
        for entry in graph.input
        if entry.name not in stored
    ]
    operations = []
    for node in graph.node:
        inputs = [
            [numbers.setdefault(name, len(numbers)), constant(stored[name]) if name in stored else None]
            for name in node.input
        ]
        outputs = [numbers.setdefault(name, len(numbers)) for name in node.output]
        options = sorted((attribute(entry) for entry in node.attribute), key=lambda pair: str(pair[0]))
        operations.append([node.domain, node.op_type, inputs, outputs, options])
    opsets = sorted([entry.domain, entry.version] for entry in model.opset_import)
    described = [opsets, entries, [numbers[entry.name] for entry in graph.output], operations]
    kernels = [
        (type_name(entry.data_type), int(np.prod(entry.dims)))
        for entry in graph.initializer
        if type_name(entry.data_type) in ("FLOAT", "INT8", "UINT8") and len(entry.dims) > 1 and np.prod(entry.dims) > 1
    ]
    return described, tuple(node.op_type for node in graph.node), kernels


def _plain(value: Any) -> Any:
    """Return an option as JSON can hold it; what it cannot hold is hashed."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "SerializeToString"):
        return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()
    # Without what is zero or absent: a later schema has more fields, and an older file has none of them.
    found = {name: _plain(item) for name, item in sorted(vars(value).items())}
    return {type(value).__name__: {name: item for name, item in found.items() if item}}
