"""What a study has on this server alone: told in the chain of the server, and compared with it.

Numbers of rows (the token of a reader, the reconstruction of a series) and the secret of the
blinded identifiers mean nothing on another server, so the chain of the study, which travels with
its export, does not hold them.
"""

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from halfscan_api.audit import SYSTEM, JsonObject, Trail
from halfscan_api.studies.tables import CaseSeries, Reader, Study, StudyCase


def local_subject(study: Study) -> str:
    """Name what a study has on this server, as the chain of the server does."""
    return f"study/{study.name}"


def local_state(session: Session, study: Study) -> JsonObject:
    """Give what a study has on this server; of the secret, its hash."""
    readers = session.execute(
        select(Reader.name, Reader.token_id).where(
            Reader.study_id == study.id, Reader.token_id.is_not(None)
        )
    )
    series = session.execute(
        select(
            StudyCase.pseudonym,
            CaseSeries.arm,
            CaseSeries.sequence,
            CaseSeries.reconstruction_id,
        )
        .join(StudyCase, StudyCase.id == CaseSeries.case_id)
        .where(StudyCase.study_id == study.id, CaseSeries.reconstruction_id.is_not(None))
    )
    made: JsonObject = {}
    for case, arm, sequence, reconstruction_id in series:
        made.setdefault(case, {}).setdefault(arm, {})[sequence] = reconstruction_id
    return {
        "id": study.id,
        "secret_sha256": hashlib.sha256(study.secret.encode()).hexdigest(),
        "readers": {row.name: row.token_id for row in readers},
        "reconstructions": made,
    }


def tell_locally(trail: Trail, study: Study, action: str, new: JsonObject) -> None:
    """Record in the chain of the server what a study has on it; the study must be locked."""
    system = Trail(trail.session, SYSTEM, trail.actor, trail.now)
    system.record(action, local_subject(study), new=new)
