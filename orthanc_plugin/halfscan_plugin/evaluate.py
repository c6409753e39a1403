"""``halfscan evaluate``: the network against BM3D and NLM, on simulated and on given images."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from halfscan_plugin.errors import BadInput
from halfscan_plugin.progress import bars

if TYPE_CHECKING:
    from halfscan_models.evaluation.images import ImageSet
    from halfscan_models.evaluation.run import Evaluation, EvaluationSettings

__all__ = ["command", "given_sets"]

PATH = click.Path(path_type=Path)
# The clean images among the real cases that the tests use; CONTRIBUTING.md tells where they lie.
CASES = "MR_CASES"
CLEAN_CASES = ("derived_nifti2dicom_brain_t1", "ph_t5_se_nsa4_1024", "img_spine_sct")


@click.command()
@click.option("--images", multiple=True, type=PATH, metavar="PATH",
              help="Clean images: DICOM series or NIfTI files; also several times.")  # fmt: skip
@click.option("--slices", type=click.IntRange(min=1), default=1, show_default=True,
              help="Slices taken from each given volume.")  # fmt: skip
@click.option("--out", type=PATH, metavar="DIR", help="Write JSON, Markdown and pictures here.")
@click.option("--model", help="Name of the model; the default one if not given.")
@click.option("--weights", type=PATH, help="Folder of the models; the package's if not given.")
@click.option("--patients", type=click.IntRange(min=1), help="Simulated patients; 31 by default.")
@click.option("--trials", type=click.IntRange(min=80),
              help="Trials of each task of the model observers; 2000 by default.")  # fmt: skip
@click.option("--observed", multiple=True, metavar="SEQUENCE",
              help="Read by the model observers; sag_t2_fs by default; several times.")  # fmt: skip
@click.option("--processes", type=click.IntRange(min=1), help="Processes; by default the cores.")
@click.option("--quick", is_flag=True, help="Every measure on little: minutes, not accurate.")
@click.option("--full", is_flag=True, help="Measure the memory on all 512 slices.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(  # noqa: PLR0913 - options of a command
    *,
    images: tuple[Path, ...],
    slices: int,
    out: Path | None,
    model: str | None,
    weights: Path | None,
    patients: int | None,
    trials: int | None,
    observed: tuple[str, ...],
    processes: int | None,
    quick: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Measure the network: the whole table, one row a measure, with its bar.

    Real images are those of --images, or the clean ones in the folder that MR_CASES names. BM3D,
    NLM and the pictures need the extra "benchmark".
    """
    from halfscan_models.errors import ModelsError  # noqa: PLC0415  (heavy, only here)
    from halfscan_models.evaluation.report import as_text  # noqa: PLC0415  (as above)
    from halfscan_models.evaluation.run import run_evaluation  # noqa: PLC0415  (as above)

    try:
        settings = _settings(
            model,
            weights,
            processes,
            patients=patients,
            trials=trials,
            observed=observed,
            quick=quick,
            full=full,
        )
        given = list(given_sets(images, slices))
        skipped = [] if given else [f"real images: give --images PATH, or set {CASES}"]
        with bars() as add:
            evaluation = run_evaluation(settings, given, skipped=skipped, report=add)
        written = [] if out is None else _write(evaluation, settings, given, out)
    except ModelsError as error:
        raise BadInput(str(error)) from error
    click.echo(json.dumps(evaluation.as_dict(), indent=1) if as_json else as_text(evaluation))
    for path in written:
        click.echo(f"written: {path}", err=True)


def _settings(
    model: str | None,
    weights: Path | None,
    processes: int | None,
    *,
    patients: int | None,
    trials: int | None,
    observed: tuple[str, ...],
    quick: bool,
    full: bool,
) -> "EvaluationSettings":
    from dataclasses import replace  # noqa: PLC0415  (beside the next one)

    from halfscan_models.evaluation.memory import SLICES  # noqa: PLC0415  (heavy)
    from halfscan_models.evaluation.run import EvaluationSettings  # noqa: PLC0415  (as above)

    settings = EvaluationSettings(model=model, processes=processes)
    if quick:
        settings = settings.quick()
    if weights is not None:
        settings = replace(settings, weights=weights)
    if patients is not None:
        settings = replace(settings, patients=patients)
    if trials is not None:
        settings = replace(settings, trials=trials)
    if observed:
        settings = replace(settings, observed=observed)
    if full:
        settings = replace(settings, memory_slices=SLICES)
    return settings


def _write(
    evaluation: "Evaluation", settings: "EvaluationSettings", given: list["ImageSet"], out: Path
) -> list[Path]:
    """Write tables and pictures."""
    from halfscan_models.evaluation import pictures  # noqa: PLC0415  (heavy, only here)
    from halfscan_models.evaluation.arms import restorer  # noqa: PLC0415  (as above)
    from halfscan_models.evaluation.report import write_files  # noqa: PLC0415  (as above)
    from halfscan_models.reconstruct import load_reconstructor  # noqa: PLC0415  (as above)

    written = write_files(evaluation, out)
    if not pictures.can_draw():
        click.echo("no pictures: matplotlib is not installed", err=True)
        return written
    restore = restorer(load_reconstructor(settings.model, weights=settings.weights))
    written.append(
        pictures.draw_simulated(
            restore,
            out / "simulated.png",
            sequences=settings.sequences,
            matrix_scale=settings.matrix_scale,
        )
    )
    written.append(
        pictures.draw_trials(
            restore,
            out / "trials.png",
            sequence=settings.observed[0],
            matrix_scale=settings.matrix_scale,
        )
    )
    if given:
        written.append(pictures.draw_given(restore, out / "given.png", given))
    return written


def given_sets(paths: tuple[Path, ...], slices: int) -> Iterator["ImageSet"]:
    """Read the clean images that are compared, one set for each DICOM series or NIfTI file.

    Parameters
    ----------
    paths : tuple of Path
        Files and folders; where there are none, the clean cases in the folder that the
        environment variable MR_CASES names.
    slices : int
        Slices of each volume.

    Raises
    ------
    BadInput
        A path does not exist or holds no images.
    EvaluationError
        An image cannot be used.
    """
    cases = os.environ.get(CASES)
    if not paths and cases:
        paths = tuple(Path(cases) / name for name in CLEAN_CASES if (Path(cases) / name).is_dir())
    from halfscan_models.evaluation.images import (  # noqa: PLC0415  (heavy, only here)
        ImageSet,
        pick_slices,
        read_nifti,
    )

    for path in paths:
        if not path.exists():
            raise BadInput(f"--images: {path} does not exist")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        nifti = [file for file in files if file.name.endswith((".nii", ".nii.gz"))]
        for file in nifti:
            volume = read_nifti(file)
            yield ImageSet(file.name.split(".")[0], "given", pick_slices(volume, slices))
        if not nifti:
            yield from _dicom_sets(path, slices)


def _dicom_sets(path: Path, slices: int) -> Iterator["ImageSet"]:
    from halfscan_models.evaluation.images import ImageSet, pick_slices  # noqa: PLC0415  (heavy)
    from halfscan_plugin.files import read_folder, read_series  # noqa: PLC0415  (as above)
    from halfscan_plugin.volume import read_volume  # noqa: PLC0415  (as above)

    folder = read_folder([path])
    if not folder.series:
        raise BadInput(f"--images: no DICOM series and no NIfTI file in {path}")
    for number, items in enumerate(folder.series.values(), 1):
        volume = read_volume(read_series([file for file, _ in items])).volume
        name = path.stem if len(folder.series) == 1 else f"{path.stem} {number}"
        yield ImageSet(name, "given", pick_slices(volume, slices))
