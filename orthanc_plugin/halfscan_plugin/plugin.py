"""The Orthanc plugin: name this file as ``PythonScript`` in Orthanc's configuration.

It runs inside Orthanc, under the one interpreter lock that serves all of Orthanc's callbacks, so
it stays thin: standard library only. It starts the relay, wakes it when a series becomes stable,
tells it what was deleted, and answers ``GET /halfscan/status``.

An archive that has a Python script of its own keeps it and adds there::

    import sys
    sys.path.append("/opt/halfscan/lib/python3.11/site-packages")
    from halfscan_plugin.plugin import register
    register(orthanc, on_change=site_callback)

Orthanc takes one callback for changes: the site's own, if it has one, is called by ours.

A setting that breaks a rule is logged as an error and leaves the plugin off; the archive itself
starts all the same, because receiving images comes first. ``/halfscan/status`` then says what is
wrong.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "plugin":  # loaded by Orthanc as its script
    _here = Path(__file__).resolve().parent
    # Orthanc puts the script's folder first on the path, where our module names could shadow
    # others; what is needed is the folder that holds the package.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _here]
    sys.path.append(str(_here.parent))

from halfscan_plugin.relay import Relay
from halfscan_plugin.relay_client import ApiClient
from halfscan_plugin.relay_settings import RelaySettings, SettingsError

__all__ = ["register"]

ChangeCallback = Callable[[int, int, str], None]


def register(orthanc: Any, on_change: ChangeCallback | None = None) -> Relay | None:
    """Read the settings, register the callbacks and start the relay with Orthanc.

    Parameters
    ----------
    orthanc : module
        The module ``orthanc`` that the Python plugin provides.
    on_change : callable, optional
        The site's own callback for changes, which is called with (change type, level, resource).

    Returns
    -------
    Relay or None
        None where a setting breaks a rule, or another script took the callback for changes.
    """
    relay = None
    error = None
    try:
        configuration = json.loads(orthanc.GetConfiguration())
        settings = RelaySettings.from_section(configuration.get("Halfscan"))
        client = ApiClient(settings)
        relay = Relay(orthanc, settings, client)
    except SettingsError as problem:
        error = str(problem)
        orthanc.LogError(f"halfscan is off: {error}")

    def on_status(output: Any, _uri: str, **request: Any) -> None:
        if request.get("method") != "GET":
            output.SendMethodNotAllowed("GET")
            return
        state = {"enabled": relay is not None, "error": error}
        if relay is not None:
            state |= relay.status()
        output.AnswerBuffer(json.dumps(state, indent=1), "application/json")

    orthanc.RegisterRestCallback("/halfscan/status", on_status)
    if (relay is not None or on_change is not None) and not _follow(orthanc, relay, on_change):
        error, relay = "Orthanc has a callback for changes already, see its log", None
    return relay


def _follow(orthanc: Any, relay: Relay | None, site: ChangeCallback | None) -> bool:
    """Start, wake and stop the relay with Orthanc's own events; False where it cannot."""

    def on_change(change_type: int, level: int, resource_id: str) -> None:
        if relay is not None:
            _tell(orthanc, relay, change_type, level, resource_id)
        if site is not None:
            site(change_type, level, resource_id)

    try:
        orthanc.RegisterOnChangeCallback(on_change)
    except RuntimeError as error:
        # The site's script has registered one before; receiving images comes first.
        orthanc.LogError(
            f"halfscan is off: {error}; give the site's callback to "
            "register(orthanc, on_change=...) instead"
        )
        return False
    return True


def _tell(orthanc: Any, relay: Relay, change_type: int, level: int, resource_id: str) -> None:
    """Pass one of Orthanc's events on to the relay; never blocks."""
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        relay.start()
    elif change_type == orthanc.ChangeType.ORTHANC_STOPPED:
        relay.stop()
    elif change_type == orthanc.ChangeType.STABLE_SERIES:
        relay.wake()
    elif change_type == orthanc.ChangeType.DELETED and level == orthanc.ResourceType.SERIES:
        relay.note_deletion(resource_id)
    elif change_type == orthanc.ChangeType.DELETED and level == orthanc.ResourceType.INSTANCE:
        relay.note_deletion(None)


if __name__ == "plugin":
    import orthanc

    register(orthanc)
