"""Routes of measurements that the server makes on the archived pixels."""

from typing import TypeVar

import structlog
from apiflask import APIBlueprint
from flask import Response
from sqlalchemy.orm import Session

from halfscan_api.auth import Role, caller, requires
from halfscan_api.blinded.answers import source_cache, viewing
from halfscan_api.blinded.service import ImagesNotFound
from halfscan_api.idempotency import Answer, ChangeHeaders, etag, write_once
from halfscan_api.measurements import noise, transfer
from halfscan_api.measurements.regions import measure_all
from halfscan_api.measurements.schemas import (
    MeasuredOut,
    MeasurementOut,
    NewRegions,
    NoiseMeasured,
    NoiseRequest,
    Transfer,
    Transferred,
)
from halfscan_api.measurements.service import RegionMeasured
from halfscan_api.readings import service as readings
from halfscan_api.readings.answers import Answers, missing_answers
from halfscan_api.readings.closing import check_replay
from halfscan_api.readings.service import Desk
from halfscan_api.state import state
from halfscan_api.studies.callers import callers_trail
from halfscan_api.studies.readers import reader_of
from halfscan_api.studies.service import get_study
from halfscan_api.studies.trail import note_look

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)
blueprint = APIBlueprint("measurements", __name__, tag="measurements")


@blueprint.post("/readings/<code>/measurements")
@requires(Role.READER)
@blueprint.input(NewRegions)
@blueprint.input(ChangeHeaders, location="headers")
@blueprint.output(MeasuredOut, description="Measured and saved; ETag is the new version")
@blueprint.doc(
    responses={
        404: "No open reading of the caller has this code",
        409: "The reading is complete, withdrawn or closed",
        412: "If-Match names another version than the newest",
        428: "If-Match is missing",
        503: "The archive does not answer",
    }
)
def measure(code: str, json_data: NewRegions, headers_data: ChangeHeaders) -> Response:
    """Measure regions on the archived pixels, and save mean, SD, area and SNR.

    A pixel counts if its centre lies inside; a region needs two. The noise of a sequence is
    measured like any other region.
    """
    # Pixels are fetched before the transaction: nobody waits for the archive with a lock in hand.
    try:
        made = measure_all(viewing(code), json_data.measurements)
    except ImagesNotFound:
        # The request may be a repeat of one that was answered while the reading was open.
        return save_measured(code, [], headers_data)
    return save_measured(code, made, headers_data)


def save_measured(code: str, made: list[RegionMeasured], headers: ChangeHeaders) -> Response:
    """Save what was measured for a reading of the caller.

    Raises
    ------
    ImagesNotFound
        Nothing was measured, because there is no such open reading.
    """

    def work(session: Session) -> Answer:
        if not made:
            raise ImagesNotFound
        reader = reader_of(session, caller())
        study = get_study(session, reader.study_id)
        trail = callers_trail(session, study, reader=reader.name)
        desk = readings.save(trail, reader, code, Answers(measured=made), headers)
        return Answer(_measured_out(desk, made), headers={"ETag": etag(desk.sheet.reading.version)})

    return write_once(work, headers=headers, check_replay=check_replay)


@blueprint.post("/studies/<int:study_id>/measurements/transfer")
@requires(Role.COORDINATOR)
@blueprint.input(Transfer)
@blueprint.output(Transferred)
@blueprint.doc(responses={404: "There is no such study", 503: "The archive does not answer"})
def transfer_regions(study_id: int, json_data: Transfer) -> Transferred:
    """Measure the regions of complete readings on the images of the other arms.

    Both arms must share the frame of reference. Readers see nothing of it; what is measured is kept
    apart from their own answers, and a repeated call measures only what is new.
    """
    done = transfer.transfer(
        study_id,
        json_data.readings,
        cache=source_cache(),
        actor=caller().actor(),
        now=state().clock(),
    )
    _note_look(study_id, "measurements/transfer")
    log.info("regions_transferred", study=study_id, measured=done.measured)
    return done


@blueprint.post("/studies/<int:study_id>/measurements/noise")
@requires(Role.COORDINATOR)
@blueprint.input(NoiseRequest)
@blueprint.output(NoiseMeasured)
@blueprint.doc(responses={404: "There is no such study", 503: "The archive does not answer"})
def measure_noise(study_id: int, json_data: NoiseRequest) -> NoiseMeasured:
    """Measure the SNR of complete readings' regions on repeats and noise maps.

    These are the series that the case has with such a role, in the arm and sequence of the
    reading. Readers see nothing of it; a repeated call measures only what is new.
    """
    done = noise.measure_noise(
        study_id,
        json_data.readings,
        cache=source_cache(),
        actor=caller().actor(),
        now=state().clock(),
    )
    _note_look(study_id, "measurements/noise")
    log.info("noise_measured", study=study_id, measured=done.measured)
    return done


def _note_look(study_id: int, what: str) -> None:
    """Note an answer that names readings with their arms."""
    with state().database.write() as session:
        study = get_study(session, study_id)
        note_look(callers_trail(session, study), study, what)


def _measured_out(desk: Desk, made: list[RegionMeasured]) -> MeasuredOut:
    reading = desk.sheet.reading
    rows = [desk.sheet.measurements[reading.arm, one.sequence, one.region] for one in made]
    return MeasuredOut(
        code=reading.code,
        missing=len(missing_answers(desk.sheet, desk.protocol)),
        measurements=[MeasurementOut.model_validate(row) for row in rows],
    )
