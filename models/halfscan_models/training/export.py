"""Export of a trained network to ONNX, with the facts that the registry and the card need."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
    """Write `<name>.onnx`, its facts `<name>.json` and the skeleton of its card `<name>.md`.

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
    device = next(network.parameters()).device
    network.cpu()
    write_onnx(network, path, "restored")
    network.to(device)
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
    path.with_suffix(".md").write_text(_card(facts, settings), encoding="utf-8")
    return path


def write_onnx(network: nn.Module, path: Path, answer: str) -> None:
    """Write a network as ONNX, "image" (batch, 1, height, width) to `answer`; it stays in `eval`.

    Parameters
    ----------
    network : nn.Module
        On the CPU.
    path : Path
        The file.
    answer : str
        Name of the output.
    """
    free = {0: "batch", 2: "height", 3: "width"}
    network.eval()
    with warnings.catch_warnings():
        # The exporter that traces is deprecated, but the one that replaces it needs a further
        # package and writes the same graph for a network without control flow.
        warnings.simplefilter("ignore", DeprecationWarning)
        # A margin that depends on the size of the image stays an operation of the graph.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 64, 64),),
            str(path),
            input_names=["image"],
            output_names=[answer],
            dynamic_axes={"image": free, answer: free},
            opset_version=_OPSET,
            dynamo=False,
        )


def _card(facts: dict[str, Any], settings: RunSettings) -> str:
    """Return what a model card needs of the run; its author adds results, limits and use."""
    figures = "\n".join(f"| {name} | {value} |" for name, value in facts["validation"].items())
    return f"""# {facts["name"]} {facts["version"]}

**Not a medical device. For research only.**

| | |
| --- | --- |
| Weights | `{facts["file"]}`, SHA-256 `{facts["sha256"]}` |
| Network | dense deep back-projection network, {settings.network.channels} feature maps, \
{settings.network.stages} up-projections, {facts["parameters"]} parameters |
| Training | {facts["steps"]} steps of {settings.crops} crops of {settings.pairs.crop} pixels, \
{facts["minutes"]} minutes, seed {settings.seed} |

## Validation on synthetic images

| Figure | Value |
| --- | ---: |
{figures}
"""
