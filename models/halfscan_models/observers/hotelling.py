"""The Hotelling observer: the best linear decision between two kinds of images.

Its template is ``w = K^-1 (mean of one kind - mean of the other)`` with K the mean of the two
covariance matrices, and its score for an image is ``w . v``. On channel outputs v it is the
channelised Hotelling observer; where they are Gaussian with one covariance no observer of the same
channels does better.

Barrett HH, Yao J, Rolland JP, Myers KJ. Model observers for assessment of image quality. Proc Natl
Acad Sci USA 90 (1993) 9758, doi:10.1073/pnas.90.21.9758
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfscan_models.observers.errors import ObserverError

__all__ = ["HotellingObserver", "train_hotelling"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HotellingObserver:
    """A trained observer.

    Attributes
    ----------
    template : ndarray
        (channel,) weights.
    detectability : float
        d', the distance of the two means in standard deviations of the score, as the training
        images show it: too good, the more so the fewer they are.
    """

    template: Array
    detectability: float

    def scores(
        self,
        outputs: npt.ArrayLike,
        *,
        internal_noise: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Score images; the higher, the more it looks like the kind with the signal.

        Parameters
        ----------
        outputs : array_like
            (..., channel).
        internal_noise : float
            Standard deviation of what the observer adds to each score, as a share of the score's
            own; people have some, an observer for comparing scans need not. It divides d' by
            ``sqrt(1 + internal_noise^2)``.
        rng : numpy.random.Generator, optional
            Source of the internal noise.

        Raises
        ------
        ObserverError
            The number of channels is another one than the template's, `internal_noise` is
            negative or not finite, or there is no `rng` for it.
        """
        values = np.asarray(outputs, np.float64)
        if values.shape[-1:] != self.template.shape:
            raise ObserverError(
                f"outputs must have {self.template.size} channels, got shape {values.shape}"
            )
        if not 0.0 <= internal_noise < math.inf:
            raise ObserverError(f"internal_noise must be finite and >= 0, got {internal_noise!r}")
        found = np.asarray(values @ self.template)
        if internal_noise == 0.0:
            return found
        if rng is None:
            raise ObserverError(f"internal_noise of {internal_noise!r} needs rng")
        # With the template K^-1 s the score has the variance s K^-1 s = d'^2.
        spread = internal_noise * self.detectability
        return np.asarray(found + spread * rng.standard_normal(found.shape))


def train_hotelling(present: npt.ArrayLike, absent: npt.ArrayLike) -> HotellingObserver:
    """Train an observer on images of both kinds.

    Parameters
    ----------
    present, absent : array_like
        (image, channel), with the signal and without it.

    Raises
    ------
    ObserverError
        A value is not finite, the two have different channels, there are too few images for the
        channels, or the channels cannot be told apart.
    """
    kinds = [np.asarray(kind, np.float64) for kind in (present, absent)]
    if any(kind.ndim != 2 for kind in kinds) or kinds[0].shape[1] != kinds[1].shape[1]:
        raise ObserverError(
            "present and absent must be (image, channel) with the same channels, got shapes "
            f"{kinds[0].shape} and {kinds[1].shape}"
        )
    if not all(np.isfinite(kind).all() for kind in kinds):
        raise ObserverError("present and absent must be finite, got NaN or infinity")
    channels = kinds[0].shape[1]
    fewest = min(len(kind) for kind in kinds)
    if fewest <= channels:
        raise ObserverError(
            f"an observer of {channels} channels needs more than {channels} images of each kind "
            f"for its training, got {fewest}"
        )
    signal = kinds[0].mean(axis=0) - kinds[1].mean(axis=0)
    covariance = sum(np.cov(kind, rowvar=False).reshape(channels, channels) for kind in kinds) / 2
    try:
        template = np.linalg.solve(covariance, signal)
    except np.linalg.LinAlgError as error:
        raise ObserverError(f"the {channels} channels depend on each other: {error}") from error
    return HotellingObserver(template, math.sqrt(max(0.0, float(signal @ template))))
