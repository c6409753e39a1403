"""`python -m halfscan_models.training RUNFILE`: train (or go on with) a run and export it."""

import argparse
import dataclasses
import sys
from importlib.util import find_spec
from pathlib import Path

from halfscan_models.errors import ModelsError, TrainingError
from halfscan_models.training.settings import RunSettings, read_run


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 1 the run failed."""
    parser = argparse.ArgumentParser(prog="python -m halfscan_models.training", description=__doc__)
    parser.add_argument("run", type=Path, help="TOML file that describes the run")
    parser.add_argument("--output", type=Path, help="folder to use instead of the file's output")
    options = parser.parse_args(arguments)
    try:
        settings = read_run(options.run)
        if options.output is not None:
            settings = dataclasses.replace(settings, output=options.output)
        print(_train(settings))
    except ModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _train(settings: RunSettings) -> Path:
    # Asked for before hours are spent: the export at the end needs onnx.
    for module in ("torch", "onnx"):
        if find_spec(module) is None:
            raise TrainingError(f"training needs {module}: pip install 'halfscan[train]'")
    from halfscan_models.training.train import train  # noqa: PLC0415  # needs PyTorch

    return train(settings)


if __name__ == "__main__":
    sys.exit(main())
