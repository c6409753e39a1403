"""How much arithmetic a network does, and how fast this machine can do it."""

import json
import tempfile
import time
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from halfscan_models.evaluation.errors import EvaluationError
from halfscan_models.reconstruct import load_reconstructor
from halfscan_models.registry import WEIGHTS, find_model, read_weights

__all__ = ["matrix_product_rate", "multiply_adds"]

Shape = list[int]

# Operators that do next to nothing beside a convolution. Anything else is refused, so that a new
# kind of layer cannot go uncounted.
_LIGHT = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DepthToSpace",
        "DequantizeLinear",
        "Div",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GlobalAveragePool",
        "Identity",
        "LeakyRelu",
        "Max",
        "MaxPool",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Shape",
        "Sigmoid",
        "Slice",
        "Softplus",
        "SpaceToDepth",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)


def multiply_adds(model: str | None, rows: int, columns: int, *, weights: Path = WEIGHTS) -> int:
    """Count the multiply-adds of a network for one image.

    The graph as it was exported runs once, without any optimisation that would rewrite it, and
    ONNX Runtime's profile gives the shapes at each operator.

    Parameters
    ----------
    model : str or None
        Name of the model.
    rows, columns : int
        Size of the image; even.
    weights : Path
        Folder of the models.

    Raises
    ------
    EvaluationError
        The graph holds an operator whose arithmetic is not known here.
    """
    # Loading it checks the weights, and switches ONNX Runtime's telemetry off before its import.
    load_reconstructor(model, weights=weights, threads=1)
    import onnxruntime  # noqa: PLC0415  (see above)

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    # A kernel that was packed for the machine would be missing from the shapes.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    content = read_weights(find_model(model, weights=weights), weights=weights)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        channels = inputs[0].shape[1]
        size = (1, channels if isinstance(channels, int) else 1, rows, columns)
        session.run(None, {inputs[0].name: np.ones(size, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return sum(_of_node(event["args"]) for event in events if _is_kernel(event))


def _is_kernel(event: dict[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time")


def _of_node(args: dict[str, Any]) -> int:
    """Multiply-adds of one operator, a bias left aside."""
    kind = args["op_name"]
    if kind in _LIGHT:
        return 0
    inputs, output = _shapes(args["input_type_shape"]), _shapes(args["output_type_shape"])[0]
    if len(inputs) < 2:
        raise EvaluationError(f"the profile does not give the kernel of an operator {kind!r}")
    if kind == "Conv":
        return prod(output) * prod(inputs[1][1:])
    if kind == "ConvTranspose":
        return prod(inputs[0]) * prod(inputs[1][1:])
    if kind in {"MatMul", "Gemm"}:
        return prod(output) * inputs[0][-1]
    raise EvaluationError(f"the arithmetic of the operator {kind!r} is not known")


def _shapes(described: list[dict[str, Shape]]) -> list[Shape]:
    """Shapes from ONNX Runtime's profile: a list of {type: shape}."""
    return [next(iter(entry.values()), []) for entry in described]


def matrix_product_rate(size: int = 1536, repeats: int = 5) -> float:
    """Best rate of NumPy's float32 matrix product [floating-point operations per second].

    A multiply-add counts as two operations, here and where a network's rate is taken.
    """
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product = first @ second
        best = min(best, time.perf_counter() - start)
    if not np.isfinite(product).all():
        raise EvaluationError("the matrix product that the rate is taken from is not finite")
    return 2 * size**3 / best
