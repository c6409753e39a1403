"""Progress bars on standard error: standard output belongs to the result."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["bar", "bars"]

LONGEST_SILENCE_S = 10.0


@contextmanager
def bars(*, always: bool = False) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show any number of bars.

    Parameters
    ----------
    always : bool
        Without a terminal, write a line as a task begins and every ten seconds while it moves;
        else nothing is written there.

    Yields
    ------
    callable
        Takes a description and gives the function ``(done, total)`` that moves its bar.
    """
    console = Console(stderr=True)
    if always and not console.is_terminal:
        yield _lines
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with progress:

        def add(description: str) -> Callable[[int, int], None]:
            task = progress.add_task(description, total=None)

            def move(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            return move

        yield add


def _lines(description: str) -> Callable[[int, int], None]:
    """Say that a task begins, and give what says how far it is, not too often."""
    click.echo(f"halfscan: {description}", err=True)
    last = time.monotonic()

    def move(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LONGEST_SILENCE_S:
            last = time.monotonic()
            click.echo(f"halfscan: {description}, {done} of {total}", err=True)

    return move


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show one bar; yields the function ``(done, total)`` that moves it."""
    with bars() as add:
        yield add(description)
