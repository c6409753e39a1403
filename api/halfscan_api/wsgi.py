"""The app with the settings of the environment: ``flask --app halfscan_api.wsgi db upgrade``."""

from apiflask import APIFlask
from flask.cli import NoAppException

from halfscan_api import app as factory
from halfscan_api.errors import HalfscanError
from halfscan_api.logs import configure_logging
from halfscan_api.settings import Settings


def create_app() -> APIFlask:
    """Make the app from the environment variables ``HALFSCAN_API_*``.

    Raises
    ------
    flask.cli.NoAppException
        A setting is wrong; Flask's command line shows it as one line.
    """
    try:
        settings = Settings.load()
    except HalfscanError as error:
        raise NoAppException(str(error)) from error
    configure_logging(settings)
    return factory.create_app(settings)
