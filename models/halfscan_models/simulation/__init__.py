"""Simulated lumbar examinations: phantom, signal, coils, k-space, parallel imaging.

NumPy and SciPy only; arrays in, arrays out. `simulate_patient` is the way in.
"""

from halfscan_models.simulation.errors import SimulationError
from halfscan_models.simulation.exam import PatientExam, SimulatedSeries, simulate_patient
from halfscan_models.simulation.geometry import Region, SliceStack
from halfscan_models.simulation.pathology import KINDS, LEVELS, Pathology, draw_pathologies
from halfscan_models.simulation.protocol import ARMS, PROTOCOL, SequenceProtocol

__all__ = [
    "ARMS",
    "KINDS",
    "LEVELS",
    "PROTOCOL",
    "Pathology",
    "PatientExam",
    "Region",
    "SequenceProtocol",
    "SimulatedSeries",
    "SimulationError",
    "SliceStack",
    "draw_pathologies",
    "simulate_patient",
]
