"""``python -m halfscan_api``: the commands of the API alone."""

import click

from halfscan_api.cli import serve, token


@click.group()
def main() -> None:
    """The API of Halfscan."""


main.add_command(serve)
main.add_command(token)

if __name__ == "__main__":
    main(prog_name="halfscan")
