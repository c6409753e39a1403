"""C-STORE: send files to an archive as a scanner does (pynetdicom)."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from halfscan_plugin.errors import HalfscanError

__all__ = ["SendFailed", "send"]

AE_TITLE = "HALFSCAN"
ARCHIVE_TITLE = "ORTHANC"


class SendFailed(HalfscanError):
    """The archive did not take a file."""


def send(
    files: Sequence[Path],
    port: int,
    *,
    host: str = "127.0.0.1",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Send DICOM files by C-STORE over one association (PS3.4 Annex B).

    Parameters
    ----------
    files : sequence of Path
        Files with any transfer syntax; each is offered as it is.
    port : int
        DICOM port of the archive.
    host : str
        Its address.
    progress : callable, optional
        Called with (files sent, all).

    Raises
    ------
    SendFailed
        If no association comes about, or a file is not taken; the message names the file.
    """
    ae = AE(ae_title=AE_TITLE)
    for sop_class, syntax in sorted({_context(file) for file in files}):
        ae.add_requested_context(sop_class, syntax)
    association = ae.associate(host, port, ae_title=ARCHIVE_TITLE)
    if not association.is_established:
        raise SendFailed(f"no association with the archive at {host}:{port}")
    try:
        for number, file in enumerate(files, 1):
            try:
                status = association.send_c_store(file)
            except (RuntimeError, ValueError) as error:
                raise SendFailed(f"{file.name}: {error}") from error
            if not status or status.Status != 0x0000:
                code = f"0x{status.Status:04X}" if status else "no answer"
                raise SendFailed(f"{file.name}: C-STORE answered {code}")
            if progress is not None:
                progress(number, len(files))
    finally:
        association.release()


def _context(file: Path) -> tuple[str, str]:
    meta = dcmread(file, specific_tags=[], stop_before_pixels=True).file_meta
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
