"""Work on many images in parallel: processes of one thread each."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from halfscan_models.evaluation.arms import Restore, restorer
from halfscan_models.reconstruct import load_reconstructor

__all__ = ["Progress", "Workers", "workers"]

Progress = Callable[[int, int], None]  # pieces done, pieces in all
Piece = TypeVar("Piece")
Result = TypeVar("Result")

_loaded: dict[str, Restore] = {}


def _start(model: str | None, weights: Path) -> None:
    """Load the network once in each process."""
    _loaded["restore"] = restorer(load_reconstructor(model, weights=weights, threads=1))


def _run(work: Callable[..., Result], piece: Any, options: dict[str, Any]) -> Result:
    return work(piece, _loaded["restore"], **options)


class Workers:
    """A pool of processes that hold the network; make one with `workers`."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def map(
        self,
        work: Callable[..., Result],
        pieces: Sequence[Piece],
        progress: Progress | None = None,
        **options: Any,
    ) -> list[Result]:
        """Call ``work(piece, restore, **options)`` for each piece; results in their order."""
        futures = {
            self._pool.submit(_run, work, piece, options): number
            for number, piece in enumerate(pieces)
        }
        results: dict[int, Result] = {}
        for done, future in enumerate(as_completed(futures), 1):
            results[futures[future]] = future.result()
            if progress is not None:
                progress(done, len(futures))
        return [results[number] for number in range(len(futures))]


@contextmanager
def workers(model: str | None, weights: Path, processes: int) -> Iterator[Workers]:
    """Start the processes; they end with the context, at once where an error left it."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start, initargs=(model, weights)
    )
    try:
        yield Workers(pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
