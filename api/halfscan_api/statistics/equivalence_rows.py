"""Rows of the table of non-inferiority, equivalence and interchangeability."""

from dataclasses import dataclass

from halfscan_api.statistics.adjusting import Adjusted
from halfscan_api.statistics.interchange import InterchangeRow
from halfscan_stats import NonInferiority, Tost


@dataclass(frozen=True, slots=True)
class ProportionRow:
    """Non-inferiority or equivalence of what is found.

    Attributes
    ----------
    kind : str
        ``proportion``.
    endpoint, role, hypothesis : str
        As the protocol declares them.
    item, label : str
        Finding.
    reader : str or None
        None where all readers are added up.
    reference_arm, test_arm : str
    margin : float
    test : NonInferiority
        Test minus reference: the score test that takes levels and readers for independent, and
        its `decision`, which allows for patients.
    p_value : float or None
        The one that decides: of one side for non-inferiority, the larger of both for equivalence.
    shown : bool or None
        Whether the hypothesis was shown by it, before the correction for several tests.
    adjusted : Adjusted
        The same after that correction.
    """

    endpoint: str
    role: str
    hypothesis: str
    item: str
    label: str
    reader: str | None
    reference_arm: str
    test_arm: str
    margin: float
    test: NonInferiority
    p_value: float | None
    shown: bool | None
    adjusted: Adjusted
    kind: str = "proportion"

    @property
    def estimate(self) -> float | None:
        """Share found with the test arm minus that with the reference."""
        return self.test.difference

    @property
    def result(self) -> NonInferiority:
        """What decides is its `decision`."""
        return self.test


@dataclass(frozen=True, slots=True)
class MeanRow:
    """Non-inferiority or equivalence of scores, SNR or scan time.

    Attributes
    ----------
    kind : str
        ``mean``.
    endpoint, role, hypothesis, item, label, reference_arm, test_arm, p_value, shown, adjusted
        See `ProportionRow`.
    place : str or None
        Sequence; None for the total scan time.
    reader : str or None
        None for the scan time.
    margin : float
        In the unit of what is compared.
    test : Tost
        Test minus reference, and its `decision`: one observation a patient.
    """

    endpoint: str
    role: str
    hypothesis: str
    item: str
    label: str
    place: str | None
    reader: str | None
    reference_arm: str
    test_arm: str
    margin: float
    test: Tost
    p_value: float | None
    shown: bool | None
    adjusted: Adjusted
    kind: str = "mean"

    @property
    def estimate(self) -> float | None:
        """Mean of the test arm minus that of the reference."""
        return self.test.mean_difference

    @property
    def result(self) -> Tost:
        """What decides is its `decision`."""
        return self.test


Row = ProportionRow | MeanRow | InterchangeRow
