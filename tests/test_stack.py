"""What the real programs are started with; that they run is shown where they are used."""

import socket
from pathlib import Path

import pytest

from halfscan_plugin.stack import Stack, reserved_port


def test_a_reserved_port_is_taken_by_its_number_and_by_nobody_else() -> None:
    with reserved_port() as reserved:
        address = reserved.getsockname()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        # As Orthanc and gunicorn do it, again after each end.
        for _ in range(2):
            with socket.create_server(address), socket.create_connection(address):
                pass


def test_a_stack_has_three_ports_and_gives_them_back(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    ports = {stack.http_port, stack.dicom_port, stack.api_port}
    assert len(ports) == 3
    stack.stop()
    assert all(reserved.fileno() == -1 for reserved in stack._reserved)
