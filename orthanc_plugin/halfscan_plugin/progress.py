"""Progress bars on standard error: standard output belongs to the result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["bar", "bars"]


@contextmanager
def bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show any number of bars.

    Yields
    ------
    callable
        Takes a description and gives the function ``(done, total)`` that moves its bar. Without
        a terminal nothing is drawn.
    """
    console = Console(stderr=True)
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


@contextmanager
def bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show one bar; yields the function ``(done, total)`` that moves it."""
    with bars() as add:
        yield add(description)
