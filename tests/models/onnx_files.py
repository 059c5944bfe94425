"""Small networks in ONNX files, made here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_means(
    path: Path,
    outputs: Mapping[str, Any],
    *,
    side: int | str = 8,
    batch: int | str = "N",
    layout: str = "nchw",
) -> Path:
    """Write a network whose outputs are linear functions of the mean colour of a picture.

    outputs: name -> (weights (3, K), offsets (K,)). The mean colour has 3 numbers, in the order of the input.
    """
    shape = [batch, 3, side, side] if layout == "nchw" else [batch, side, side, 3]
    axes = [2, 3] if layout == "nchw" else [1, 2]
    nodes = [helper.make_node("ReduceMean", ["picture", "axes"], ["mean"], keepdims=0)]
    constants = [numpy_helper.from_array(np.array(axes, np.int64), "axes")]
    for name, (weights, offsets) in outputs.items():
        nodes.append(helper.make_node("Gemm", ["mean", f"{name}_w", f"{name}_b"], [name]))
        constants += [
            numpy_helper.from_array(np.asarray(weights, np.float32), f"{name}_w"),
            numpy_helper.from_array(np.asarray(offsets, np.float32), f"{name}_b"),
        ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return _save(path, nodes, shape, results, constants)


def write_fixed(path: Path, outputs: Mapping[str, Any], *, side: int) -> Path:
    """Write a network that gives the same numbers for each picture, but 0 for a dark one, whose brightest value is not
    above 0."""
    nodes = [
        helper.make_node("ReduceMax", ["picture"], ["most"], keepdims=0),
        helper.make_node("Sign", ["most"], ["sign"]),
        helper.make_node("Relu", ["sign"], ["lit"]),
        *(helper.make_node("Mul", [f"{name}_c", "lit"], [name]) for name in outputs),
    ]
    constants = [numpy_helper.from_array(np.asarray(value, np.float32), f"{name}_c") for name, value in outputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return _save(path, nodes, [1, 3, side, side], results, constants)


def _save(path: Path, nodes: Sequence[Any], shape: Sequence[Any], results: Sequence[Any], constants: Any) -> Path:
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "small", [picture], results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path
