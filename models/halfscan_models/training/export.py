"""Export of a trained network to ONNX, with the facts that the registry and the card need."""

import hashlib
import json
import warnings
from pathlib import Path

import torch

from halfscan_models.network import BackProjectionNetwork
from halfscan_models.training.settings import RunSettings

# Old enough for every ONNX Runtime that is supported, new enough for all the layers used.
_OPSET = 17


def export_model(
    network: BackProjectionNetwork,
    settings: RunSettings,
    figures: dict[str, float],
    step: int,
    seconds: float,
) -> Path:
    """Write `<name>.onnx` and `<name>.json` into the output folder.

    Parameters
    ----------
    network : BackProjectionNetwork
        What to export; input and output "image" and "restored", (batch, 1, height, width) with
        all but the channel free.
    settings : RunSettings
        Name, version and output folder.
    figures : dict
        Validation results, for the card.
    step, seconds : int, float
        Length of the training so far.

    Returns
    -------
    Path
        The ONNX file.
    """
    path = settings.output / f"{settings.name}.onnx"
    free = {0: "batch", 2: "height", 3: "width"}
    network.eval()
    with warnings.catch_warnings():
        # The exporter that traces is deprecated, but the one that replaces it needs a further
        # package and writes the same graph for a network without control flow.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 64, 64),),
            str(path),
            input_names=["image"],
            output_names=["restored"],
            dynamic_axes={"image": free, "restored": free},
            opset_version=_OPSET,
            dynamo=False,
        )
    network.train()
    facts = {
        "name": settings.name,
        "version": settings.version,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(part.numel() for part in network.parameters()),
        "steps": step,
        "minutes": round(seconds / 60, 1),
        "validation": figures,
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return path
