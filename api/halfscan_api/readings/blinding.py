"""What of the images a reader gets to see: identifiers that are made anew for each reading.

A blinded UID is an HMAC-SHA256 of the archive's UID under a secret of the study and the code of the
reading: the same for the same reading at any time, another for every other reading, and without the
secret nothing leads back. Its form is 2.25 and a UUID as a whole number (DICOM PS3.5, B.2).
"""

import hashlib
import hmac
import uuid
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.readings.tables import Reading, ReadingState
from halfscan_api.studies.protocol import Protocol
from halfscan_api.studies.tables import CaseSeries, Study


@dataclass(frozen=True, slots=True)
class BlindedSeries:
    """A series of a reading, as its reader may know it, and what it is in the archive.

    Attributes
    ----------
    number : int
        From 1, in the order of the protocol.
    sequence, label : str
        Name and label of the sequence: the same in every arm.
    series_instance_uid : str
        The blinded one.
    source : CaseSeries
        Never for the reader.
    """

    number: int
    sequence: str
    label: str
    series_instance_uid: str
    source: CaseSeries


def blinded_uid(study: Study, reading: Reading, uid: str) -> str:
    """Make the UID by which the reader of one reading knows an object of the archive.

    Parameters
    ----------
    study : Study
    reading : Reading
        A reading of this study.
    uid : str
        A UID of the archive: study, series, instance, frame of reference.
    """
    key = bytes.fromhex(study.secret)
    digest = hmac.digest(key, f"{reading.code}/{uid}".encode(), hashlib.sha256)
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def blinded_series(
    session: Session, study: Study, reading: Reading, protocol: Protocol
) -> list[BlindedSeries]:
    """Give the series of a reading under their blinded UIDs, in the order of the protocol."""
    rows = session.scalars(
        select(CaseSeries).where(
            CaseSeries.case_id == reading.case_id, CaseSeries.arm == reading.arm
        )
    )
    by_sequence = {row.sequence: row for row in rows}
    return [
        BlindedSeries(
            number=number,
            sequence=sequence.name,
            label=sequence.label,
            series_instance_uid=blinded_uid(
                study, reading, by_sequence[sequence.name].series_instance_uid
            ),
            source=by_sequence[sequence.name],
        )
        for number, sequence in enumerate(protocol.sequences, 1)
        if sequence.name in by_sequence
    ]


def blinded_study_uid(study: Study, reading: Reading) -> str:
    """Make the one StudyInstanceUID under which all series of a reading lie.

    It follows from the code alone: two series of one arm may come from two studies of the archive.
    """
    return blinded_uid(study, reading, "study")


def images_address(reading: Reading) -> str:
    """Path of the DICOMweb service that gives the images of a reading, and no others."""
    return f"/api/v1/blinded/{reading.code}/dicom-web"


def may_see_images(reading: Reading) -> bool:
    """Tell whether the reader may see the images: while the reading is open, and only then.

    Afterwards nobody can lay the images of two sessions side by side.
    """
    return reading.state == ReadingState.OPEN
