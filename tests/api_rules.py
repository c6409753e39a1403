"""Who may do what: every route and the roles that it lets through, written down a second time."""

import re

BLINDED = "/api/v1/blinded/<code>/dicom-web"
IMAGE = "/studies/<study>/series/<series>/instances/<instance>"
NOISE = "/api/v1/studies/<int:study_id>/cases/<pseudonym>/noise-series/<arm>/<sequence>/<role>"
# Letters: service, coordinator, statistician, reader, admin; "public" needs no token.
# "@" is BLINDED, "~" is IMAGE, "%" is NOISE.
_TABLE = """
public  GET    /
public  GET    /healthz
public  GET    /readyz
public  GET    /metrics
public  GET    /docs
public  GET    /docs/assets/<path:name>
public  GET    /openapi.json

s c a   POST   /api/v1/reconstructions
s c t a GET    /api/v1/reconstructions
s a     POST   /api/v1/reconstructions/claim
s c t a GET    /api/v1/reconstructions/summary
s a     POST   /api/v1/reconstructions/departures
s c a   GET    /api/v1/reconstructions/standing
s c a   GET    /api/v1/reconstructions/sources
s a     POST   /api/v1/reconstructions/reconciliations
s c t a GET    /api/v1/reconstructions/reconciliations/last
s c t a GET    /api/v1/reconstructions/<int:reconstruction_id>
s a     POST   /api/v1/reconstructions/<int:reconstruction_id>/lease
s a     POST   /api/v1/reconstructions/<int:reconstruction_id>/outcome
s c a   POST   /api/v1/reconstructions/<int:reconstruction_id>/retry

s c t a POST   /api/v1/inspections
s c t a GET    /api/v1/inspections/<int:inspection_id>
s a     POST   /api/v1/inspections/claim
s a     POST   /api/v1/inspections/<int:inspection_id>/outcome

a       POST   /api/v1/tokens
a       GET    /api/v1/tokens
a       POST   /api/v1/tokens/<int:token_id>/revoke
a       GET    /api/v1/audit
a       GET    /api/v1/audit/verify

c a     POST   /api/v1/studies
c t a   GET    /api/v1/studies
c a     POST   /api/v1/studies/import
c t a   GET    /api/v1/studies/<int:study_id>
c t a   GET    /api/v1/studies/<int:study_id>/protocol
c a     PUT    /api/v1/studies/<int:study_id>/protocol
c t a   GET    /api/v1/studies/<int:study_id>/protocol/versions
s c a   POST   /api/v1/studies/<int:study_id>/cases
s c t a GET    /api/v1/studies/<int:study_id>/cases
s c t a GET    /api/v1/studies/<int:study_id>/cases/<pseudonym>
s c a   PUT    /api/v1/studies/<int:study_id>/cases/<pseudonym>/series/<arm>/<sequence>
s c a   PUT    %
c a     POST   %/withdraw
c a     POST   /api/v1/studies/<int:study_id>/cases/<pseudonym>/exclude
c a     POST   /api/v1/studies/<int:study_id>/cases/<pseudonym>/readmit
c a     POST   /api/v1/studies/<int:study_id>/enrolment
c t a   GET    /api/v1/studies/<int:study_id>/enrolment
c a     PUT    /api/v1/studies/<int:study_id>/enrolment
c a     POST   /api/v1/studies/<int:study_id>/readers
c t a   GET    /api/v1/studies/<int:study_id>/readers
c a     POST   /api/v1/studies/<int:study_id>/readers/<name>/token
c a     POST   /api/v1/studies/<int:study_id>/readers/<name>/token/revoke
c a     POST   /api/v1/studies/<int:study_id>/allocation
c a     GET    /api/v1/studies/<int:study_id>/allocation
c t a   GET    /api/v1/studies/<int:study_id>/sessions
c t a   GET    /api/v1/studies/<int:study_id>/audit
c t a   GET    /api/v1/studies/<int:study_id>/audit/verify
c t a   GET    /api/v1/studies/<int:study_id>/export
c t a   GET    /api/v1/studies/<int:study_id>/lineage

c t a   GET    /api/v1/studies/<int:study_id>/statistics
c t a   GET    /api/v1/studies/<int:study_id>/statistics/protocol
c t a   GET    /api/v1/studies/<int:study_id>/statistics/scan-time
c t a   GET    /api/v1/studies/<int:study_id>/statistics/image-quality
c t a   GET    /api/v1/studies/<int:study_id>/statistics/visual-grading
c t a   GET    /api/v1/studies/<int:study_id>/statistics/snr
c t a   GET    /api/v1/studies/<int:study_id>/statistics/agreement
c t a   GET    /api/v1/studies/<int:study_id>/statistics/detection
c t a   GET    /api/v1/studies/<int:study_id>/statistics/equivalence
c t a   GET    /api/v1/studies/<int:study_id>/statistics/mrmc
c t a   GET    /api/v1/studies/<int:study_id>/statistics/sample-size
c t a   GET    /api/v1/studies/<int:study_id>/statistics/participants
c t a   GET    /api/v1/studies/<int:study_id>/statistics/conduct
c t a   GET    /api/v1/studies/<int:study_id>/statistics/robustness
c t a   GET    /api/v1/studies/<int:study_id>/statistics/failures
c t a   GET    /api/v1/studies/<int:study_id>/statistics/lineage
c t a   GET    /api/v1/studies/<int:study_id>/statistics/figures
c t a   GET    /api/v1/studies/<int:study_id>/statistics/figures/<name>
c t a   GET    /api/v1/studies/<int:study_id>/statistics/report
c t a   POST   /api/v1/studies/<int:study_id>/statistics/report
c t a   GET    /api/v1/studies/<int:study_id>/statistics/report/progress
c t a   GET    /api/v1/studies/<int:study_id>/events

r       GET    /api/v1/sessions
r       GET    /api/v1/sessions/<code>/next
r       POST   /api/v1/sessions/<code>/next
c a     POST   /api/v1/sessions/<code>/override
r       GET    /api/v1/readings/<code>
r       PUT    /api/v1/readings/<code>/scores
r       PUT    /api/v1/readings/<code>/findings
r       PUT    /api/v1/readings/<code>/measurements
r       POST   /api/v1/readings/<code>/complete
r       POST   /api/v1/readings/<code>/amend
r       POST   /api/v1/readings/<code>/measurements
c a     POST   /api/v1/studies/<int:study_id>/measurements/transfer
c a     POST   /api/v1/studies/<int:study_id>/measurements/noise

r       POST   @/studies
r       POST   @/studies/<study>
r       GET    @/studies
r       GET    @/series
r       GET    @/instances
r       GET    @/studies/<study>/series
r       GET    @/studies/<study>/instances
r       GET    @/studies/<study>/series/<series>/instances
r       GET    @/studies/<study>
r       GET    @/studies/<study>/series/<series>
r       GET    @~
r       GET    @/studies/<study>/metadata
r       GET    @/studies/<study>/series/<series>/metadata
r       GET    @~/metadata
r       GET    @~/frames/<frames>
r       GET    @/studies/<study>/rendered
r       GET    @/studies/<study>/series/<series>/rendered
r       GET    @~/rendered
r       GET    @~/frames/<frames>/rendered
r       GET    @/studies/<study>/thumbnail
r       GET    @/studies/<study>/series/<series>/thumbnail
r       GET    @~/thumbnail
r       GET    @~/frames/<frames>/thumbnail
"""
_ROLES = {
    "s": "service",
    "c": "coordinator",
    "t": "statistician",
    "r": "reader",
    "a": "admin",
}


def _rules() -> dict[tuple[str, str], frozenset[str]]:
    rules = {}
    for line in filter(None, _TABLE.splitlines()):
        *who, method, short = line.split()
        route = short.replace("@", BLINDED).replace("~", IMAGE).replace("%", NOISE)
        roles = [] if who == ["public"] else [_ROLES[letter] for letter in who]
        rules[method, route] = frozenset(roles)
    return rules


# (method, route) -> names of the roles; none for a public route.
RULES = _rules()
PROTECTED = [key for key, roles in RULES.items() if roles]


def concrete(route: str) -> str:
    """An address of the route: its numbers are 1, its texts are x."""
    route = route.replace("<path:name>", "css/swagger-ui.css")
    return re.sub(r"<[^>]*>", "x", re.sub(r"<int:[^>]*>", "1", route))


def documented(route: str) -> str:
    """The route as the OpenAPI document writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)
