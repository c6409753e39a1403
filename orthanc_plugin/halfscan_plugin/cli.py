"""The ``halfscan`` command.

A lazy group: a command's module is imported when the command is called, so that a worker imports
no web server and the API no ONNX Runtime. Every package keeps its own commands in its ``cli.py``
or in a module of the command's name.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from halfscan_plugin.errors import ExtraMissing, HalfscanError

__all__ = ["main"]

# command: module and attribute, and the line that `halfscan --help` prints
COMMANDS = {
    "demo": ("halfscan_plugin.demo:command", "The whole stack on loopback, with a simulated exam."),
    "serve": ("halfscan_api.cli:serve", "Serve the API."),
    "worker": ("halfscan_plugin.commands:worker", "Reconstruct what the archive receives."),
    "doctor": ("halfscan_plugin.doctor:doctor", "Compare ledger and archive, and mend them."),
    "token": ("halfscan_api.cli:token", "Create, list and revoke the API's tokens."),
    "report": (
        "halfscan_api.statistics.report.cli:command",
        "Write the report of a reader study.",
    ),
    "inspect": ("halfscan_plugin.commands:inspect", "Say what would happen to a series, and why."),
    "reconstruct": ("halfscan_plugin.commands:reconstruct", "Reconstruct a folder, no archive."),
    "simulate": ("halfscan_plugin.commands:simulate", "Write simulated lumbar exams as DICOM."),
    "evaluate": ("halfscan_plugin.evaluate:command", "Measure the network against BM3D and NLM."),
    "published": ("halfscan_stats.cli:published", "Recompute the tables of the reference study."),
}
# The extra of the installation that a package's commands need, or a command of its own.
EXTRAS = {
    "halfscan_api": "api",
    "halfscan_archive": "worker",
    "halfscan_stats": "api",
    "halfscan_plugin": "worker",
    "halfscan_models": "worker",
    "halfscan_plugin.demo": "all",
}


class LazyGroup(click.Group):
    """Imports a command when it is called; help needs no import at all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of the table."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module_name, attribute = COMMANDS[cmd_name][0].split(":")
        with _extra_named(cmd_name):
            command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, which imports what is heavy only now."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError:
            if ctx.invoked_subcommand not in COMMANDS:
                raise
            with _extra_named(ctx.invoked_subcommand):
                raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the table without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@contextmanager
def _extra_named(command: str) -> Iterator[None]:
    """Turn a package that is not installed into one line with the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if not missing or missing in EXTRAS:
            raise  # a defect of ours, not a missing installation
        module_name = COMMANDS[command][0].split(":")[0]
        extra = EXTRAS.get(module_name) or EXTRAS[module_name.split(".")[0]]
        raise ExtraMissing(f"{command} needs {missing}: pip install 'halfscan[{extra}]'") from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="halfscan")
def group() -> None:
    """Halfscan: accelerated MR series, reconstructed in the archive, proven in a reader study."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; our own errors become one line and an exit status."""
    # pydicom warns of a value that breaks a rule by printing it, and it may be a patient's.
    warnings.filterwarnings("ignore", module="pydicom")
    try:
        return group.main(arguments, prog_name="halfscan")
    except HalfscanError as error:
        click.echo(f"halfscan: {error}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # `halfscan ... | head`: nobody reads on, and that is all right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
