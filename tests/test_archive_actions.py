"""Whatever happens to an archive: after each action, ledger and archive agree.

Random sequences of what archives live through, against the real Orthanc, worker and API. What fails
prints its seed and its actions; ``HALFSCAN_TEST_SEED`` and ``HALFSCAN_TEST_ACTIONS`` run others.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from archive_content import (
    check_agreement,
    delete,
    fast_series,
    get,
    post,
    series_of,
    settle,
    studies_of,
    upload,
)
from archive_fixtures import Site, SiteStack
from halfscan_plugin.derived import is_halfscan_output
from halfscan_plugin.stack import StartFailed, find_orthanc

pytestmark = [pytest.mark.archive, pytest.mark.timeout(1200)]

SEED = int(os.environ.get("HALFSCAN_TEST_SEED", "20261128"))
ACTIONS = int(os.environ.get("HALFSCAN_TEST_ACTIONS", "14"))
QUICK = {
    "HALFSCAN_WORKER_POLL_S": "0.2",
    "HALFSCAN_WORKER_LEASE_S": "5",
    "HALFSCAN_WORKER_THREADS": "1",
}


@dataclass
class History:
    """An archive to which something happens, and what has happened to it so far."""

    site: Site
    random: random.Random
    happened: list[str] = field(default_factory=list)
    sent: int = 0

    def act(self) -> None:
        """Let one thing happen, now and then with a program killed in the middle."""
        action = self.random.choice(self.possible())
        killed = self.random.choice(["api", "orthanc", "worker"])
        kills = self.random.random() < 0.25
        self.happened.append(f"{action.__name__}{f', {killed} killed' if kills else ''}")
        action()
        if kills:
            self.site.kill(killed)
            variables = QUICK if killed == "worker" else {}
            self.site.start(killed, **variables)

    def possible(self) -> list[Callable[[], None]]:
        studies = len(studies_of(self.site))
        actions: list[Callable[[], None]] = [self.send]
        if studies:
            actions += [
                self.resend_with_other_pixels,
                self.delete_an_image,
                self.delete_a_source,
                self.delete_a_study,
                self.correct_a_patient_id,
                self.anonymise_a_study,
            ]
        if studies > 1:
            actions.append(self.merge_two_studies)
        return actions

    def send(self) -> None:
        self.sent += 1
        upload(self.site, fast_series(f"r{self.sent}", seed=self.sent))

    def resend_with_other_pixels(self) -> None:
        """Send what the archive holds by now, corrected, under the UIDs and the patient of now."""
        rng = self.random.randrange(1000)
        objects = [self.site.archive.dataset(i) for i in self._source()]
        for dataset, other in zip(objects, fast_series("x", len(objects), seed=rng), strict=True):
            dataset.PixelData = other.PixelData
        upload(self.site, objects)

    def delete_an_image(self) -> None:
        delete(self.site, f"/instances/{self.random.choice(self._source())}")

    def delete_a_source(self) -> None:
        instance = get(self.site, f"/instances/{self._source()[0]}")
        delete(self.site, f"/series/{instance['ParentSeries']}")

    def delete_a_study(self) -> None:
        delete(self.site, f"/studies/{self._study()}")

    def correct_a_patient_id(self) -> None:
        self.sent += 1
        patient = get(self.site, f"/studies/{self._study()}")["ParentPatient"]
        body = {"Replace": {"PatientID": f"P-c{self.sent}"}, "Force": True}
        keeps = self.random.random() < 0.5
        post(self.site, f"/patients/{patient}/modify", {**body, "KeepSource": keeps})

    def anonymise_a_study(self) -> None:
        # Private attributes say that it was accelerated: each source has its derived series then.
        post(self.site, f"/studies/{self._study()}/anonymize", {"KeepPrivateTags": True})

    def merge_two_studies(self) -> None:
        source, target = self.random.sample(studies_of(self.site), 2)
        body = {"Resources": [source], "KeepSource": self.random.random() < 0.5}
        post(self.site, f"/studies/{target}/merge", body)

    def _study(self) -> str:
        return self.random.choice(studies_of(self.site))

    def _source(self) -> list[str]:
        """Choose a source series; give Orthanc's identifiers of its images."""
        series = [
            beside.instance_ids
            for study in studies_of(self.site)
            for beside in self.site.archive.series_of_study(study)
            if not is_halfscan_output(self.site.archive.header(beside.instance_ids[0]))
        ]
        return sorted(self.random.choice(sorted(series)))


@pytest.fixture
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    try:
        find_orthanc()
    except StartFailed as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("actions")
    site = Site(SiteStack(folder, stable_age_s=1, orthanc_options={"OverwriteInstances": True}))
    try:
        site.start()
        site.stop("worker")
        site.start("worker", **QUICK)
        yield History(site, random.Random(SEED))
    finally:
        site.close()


def test_ledger_and_archive_agree_whatever_happens(history: History) -> None:
    site, derived = history.site, 0
    try:
        for _ in range(ACTIONS):
            history.act()
            settle(site)
            check_agreement(site)
            derived += sum(len(series_of(site, study)[1]) for study in studies_of(site))
    except BaseException:
        print(f"seed {SEED}:", *history.happened, sep="\n  ")  # noqa: T201  (to play it again)
        raise
    assert derived > 0, "nothing was ever derived: nothing was tested"
