"""Two-alternative forced choice: of two images one has the signal, and the observer says which.

An observer that takes the image with the higher score is right with a probability that is the area
under its ROC curve (Green and Swets 1966), so that the share of correct choices checks the area;
every image is used once, where the area uses all pairs.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from halfscan_models.observers.errors import ObserverError
from halfscan_models.observers.roc import Bounded

__all__ = ["proportion_correct", "wilson_interval"]


def proportion_correct(present: npt.ArrayLike, absent: npt.ArrayLike) -> Bounded:
    """Share of the pairs in which the image with the signal has the higher score.

    Parameters
    ----------
    present, absent : array_like
        (pair,) scores of the two images; a tie counts half.

    Returns
    -------
    Bounded
        The share, with Wilson's interval for independent pairs.

    Raises
    ------
    ObserverError
        The two are not of one length, are empty, or are not finite.
    """
    first, second = np.asarray(present, np.float64), np.asarray(absent, np.float64)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise ObserverError(
            f"present and absent must be pairs, got shapes {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ObserverError("scores must be finite, got NaN or infinity")
    share = float(np.mean((first > second) + 0.5 * (first == second)))
    return wilson_interval(share, first.size)


def wilson_interval(share: float, count: int) -> Bounded:
    """95 % interval of a proportion.

    Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat Assoc
    22 (1927) 209, doi:10.1080/01621459.1927.10502953

    Raises
    ------
    ObserverError
        The share does not lie in 0 to 1, or there is nothing to count.
    """
    if not 0.0 <= share <= 1.0 or count < 1:
        raise ObserverError(f"a share must lie in 0 to 1 of >= 1 pairs, got {share!r} of {count!r}")
    z = float(ndtri(0.975))
    shrunk = z * z / count
    middle = (share + shrunk / 2) / (1 + shrunk)
    reach = z / (1 + shrunk) * math.sqrt((share * (1 - share) + shrunk / 4) / count)
    return Bounded(share, max(0.0, middle - reach), min(1.0, middle + reach))
