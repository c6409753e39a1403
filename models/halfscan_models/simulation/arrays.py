"""Array types that the simulation passes around; the axis order stands at each use."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BoolArray", "ComplexArray", "FloatArray", "LabelArray", "Point", "RealArray"]

BoolArray = npt.NDArray[np.bool_]
ComplexArray = npt.NDArray[np.complex64]
FloatArray = npt.NDArray[np.float32]
RealArray = npt.NDArray[np.floating[Any]]  # float32 or float64
LabelArray = npt.NDArray[np.uint8]
Point = tuple[float, float, float]  # x, y, z in patient coordinates [mm]: left, posterior, head
