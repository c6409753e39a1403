"""The ``halfscan`` command.

A lazy group: a command's module is imported when the command is called, so that a worker imports
no web server and the API no ONNX Runtime. Every package keeps its own commands in its ``cli.py``
or in a module of the command's name.
"""

import importlib
import os
import sys
import warnings
from typing import Any

import click

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
# What one of the two halves adds to the installation.
EXTRAS = {
    "halfscan_api": "api",
    "halfscan_stats": "api",
    "halfscan_plugin": "worker",
    "halfscan_models": "worker",
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
        try:
            command: click.Command = getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in EXTRAS:
                raise  # a defect of ours, not a missing installation
            extra = EXTRAS[module_name.split(".")[0]]
            raise click.ClickException(
                f"halfscan {cmd_name} needs {error.name}: pip install 'halfscan[{extra}]'"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the table without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="halfscan")
def group() -> None:
    """Halfscan: accelerated MR series, reconstructed in the archive, proven in a reader study."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; our own errors become one line and an exit status."""
    from halfscan_plugin.errors import HalfscanError  # noqa: PLC0415  (keeps --help fast)

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
