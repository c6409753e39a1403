"""What the test that decides on findings holds to: its level, its power, and that it agrees.

    python benchmarks/patients_score.py [--simulations 4000] [--seed 1]

Patients give several levels and readers. In each simulated study the new method misses what the
reference finds in a share of the pairs that is larger by exactly the margin than what it finds
alone ("-5 %": 5 % against none; "-7 +2": 7 % against 2 %): a test at one-sided 5 % should call it
non-inferior in 5 % of the studies. The misses of a patient are alike: their probability is drawn
for each patient from a beta distribution with the given intra-patient correlation.

Printed beside each other: the score test that takes all pairs for independent (naive), Wald's t
with the sandwich standard error over patients, and the test that decides. Then power where both
methods find the same, p by the number of misses, and how often p-value and interval of the test
that decides contradict each other.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from halfscan_stats.inference import cluster_se, cluster_sums
from halfscan_stats.proportions import score_statistic
from halfscan_stats.rao_scott import patients_score

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
# Patients, pairs of each, margin.
DESIGNS = (
    *((31, 5, 0.05), (31, 10, 0.05), (12, 5, 0.05), (60, 5, 0.05), (100, 1, 0.05)),
    *((60, 10, 0.05), (31, 1, 0.1)),
)
CORRELATIONS = (0.0, 0.1, 0.2, 0.3, 0.5)
BOTH_WAYS = (0.0, 0.02)  # share that the new method finds alone
DISCORDANT = (0.005, 0.01, 0.02)  # share of either side, where there is no difference


@dataclass(frozen=True, slots=True)
class Design:
    """How a study is simulated.

    Attributes
    ----------
    patients, pairs : int
        Patients, and pairs of each.
    gained, lost : float
        Shares found by the new method alone, and by the reference alone.
    correlation : float
        Of the misses of a patient.
    """

    patients: int
    pairs: int
    gained: float
    lost: float
    correlation: float

    def studies(self, count: int, seed: int) -> Iterator[Floats]:
        """Give the differences of each study, new minus reference, patient by patient."""
        rng = np.random.default_rng(seed)
        shape = (self.patients, self.pairs)
        for _ in range(count):
            if self.correlation:
                spread = (1 - self.correlation) / self.correlation
                share = rng.beta(self.lost * spread, (1 - self.lost) * spread, (self.patients, 1))
            else:
                share = np.full((self.patients, 1), self.lost)
            lost = rng.random(shape) < share
            gained = ~lost & (rng.random(shape) < self.gained / (1 - self.lost))
            yield (gained.astype(float) - lost).ravel()


@dataclass(slots=True)
class Tally:
    """How many studies each test calls non-inferior."""

    studies: int = 0
    naive: int = 0
    wald: int = 0
    decides: int = 0
    contradictions: int = 0

    def shares(self) -> str:
        """Write them as shares."""
        counts = (self.naive, self.wald, self.decides)
        return " | ".join(f"{count / self.studies:.3f}" for count in counts)


def tally(design: Design, margin: float, simulations: int, seed: int) -> Tally:
    """Simulate studies of a design and test each."""
    codes = np.repeat(np.arange(design.patients), design.pairs)
    result = Tally()
    for differences in design.studies(simulations, seed):
        result.studies += 1
        b, c = int((differences > 0).sum()), int((differences < 0).sum())
        result.naive += special.ndtr(-score_statistic(b, c, codes.size, -margin)) <= ALPHA
        mean = float(differences.mean())
        se = cluster_se(cluster_sums(differences - mean, codes, design.patients), codes.size)
        if se > 0:
            result.wald += special.stdtr(design.patients - 1, -(mean + margin) / se) <= ALPHA
        score = patients_score(differences, codes, design.patients, margin=margin)
        assert score is not None  # noqa: S101 - every design has several patients
        shown = score.p_above(-margin) <= ALPHA
        result.decides += shown
        result.contradictions += shown != (score.interval(1 - 2 * ALPHA).low > -margin)
    return result


def print_levels(simulations: int, seed: int) -> int:
    """Print the type I errors; give the number of contradictions."""
    print(f"Type I error at one-sided {ALPHA:g}, {simulations} studies each")
    print("| patients x pairs, margin | correlation | shares | naive | Wald, sandwich | decides |")
    print("| --- | --- | --- | --- | --- | --- |")
    contradictions = 0
    for patients, pairs, margin in DESIGNS:
        for correlation in CORRELATIONS if pairs > 1 else CORRELATIONS[:1]:
            for gained in BOTH_WAYS:
                design = Design(patients, pairs, gained, gained + margin, correlation)
                found = tally(design, margin, simulations, seed)
                contradictions += found.contradictions
                shares = f"-{100 * design.lost:g} +{100 * gained:g} %"
                name = f"{patients} x {pairs}, {margin:g}"
                print(f"| {name} | {correlation:g} | {shares} | {found.shares()} |", flush=True)
    return contradictions


def print_power(simulations: int, seed: int) -> None:
    """Print the power where there is no difference."""
    print(f"\nPower without a difference, {simulations} studies each")
    print(
        "| patients x pairs, margin | correlation | discordant, each side | naive | "
        "Wald, sandwich | decides | of naive |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for patients, pairs, margin in DESIGNS:
        for correlation in (0.0, 0.3) if pairs > 1 else (0.0,):
            for share in DISCORDANT:
                design = Design(patients, pairs, share, share, correlation)
                found = tally(design, margin, simulations, seed)
                name = f"{patients} x {pairs}, {margin:g} | {correlation:g} | {100 * share:g} %"
                of_naive = found.decides / max(found.naive, 1)
                print(f"| {name} | {found.shares()} | {of_naive:.2f} |", flush=True)


def print_misses() -> None:
    """Print p by the number of misses, one a patient."""
    print("\np by misses, one a patient, nothing found more")
    print(f"| patients x pairs, margin | {' | '.join(map(str, range(7)))} |")
    print(f"| --- |{' --- |' * 7}")
    for patients, pairs, margin in DESIGNS:
        codes = np.repeat(np.arange(patients), pairs)
        found = []
        for misses in range(7):
            differences = np.zeros(codes.size)
            differences[: misses * pairs : pairs] = -1.0
            score = patients_score(differences, codes, patients, margin=margin)
            assert score is not None  # noqa: S101 - every design has several patients
            found.append(score.p_above(-margin))
        texts = " | ".join(f"{p_value:.4f}" for p_value in found)
        print(f"| {patients} x {pairs}, {margin:g} | {texts} |")


def print_further_misses(studies: int, seed: int) -> None:
    """Print whether a further miss, in whatever patient, ever turns "not met" into "met"."""
    rng = np.random.default_rng(seed)
    misses = turned = 0
    for _ in range(studies):
        patients, pairs = int(rng.integers(5, 61)), int(rng.choice([1, 2, 5, 10]))
        margin = float(rng.choice([0.03, 0.05, 0.1]))
        codes = np.repeat(np.arange(patients), pairs)
        differences, shown = np.zeros(codes.size), True
        # From misses that are spread out to misses of a few patients.
        leaning = rng.dirichlet(np.full(patients, rng.choice([0.05, 0.2, 1.0])))[codes] + 1e-9
        order = rng.choice(
            codes.size, min(codes.size // 2, 25), replace=False, p=leaning / leaning.sum()
        )
        for number, pair in enumerate(order):
            differences[pair] = -1.0
            score = patients_score(differences, codes, patients, margin=margin)
            assert score is not None  # noqa: S101 - every design has several patients
            now = score.p_above(-margin) <= ALPHA
            turned += number > 0 and now and not shown
            shown = now
            misses += 1
    print(f"\nFurther misses, in any patient: {misses}; turned not met into met: {turned}")


def print_difference(simulations: int, seed: int) -> int:
    """Print the level of the two-sided test of a difference; give the contradictions."""
    print(f"\nTwo-sided test of a difference where there is none, {simulations} studies each")
    print("| patients x pairs | correlation | discordant, each side | rejected at 5 % |")
    print("| --- | --- | --- | --- |")
    contradictions = 0
    for patients, pairs, _ in DESIGNS[:4]:
        codes = np.repeat(np.arange(patients), pairs)
        for correlation in (0.0, 0.3):
            rejected = 0
            for differences in Design(patients, pairs, 0.04, 0.04, correlation).studies(
                simulations, seed
            ):
                score = patients_score(differences, codes, patients)
                assert score is not None  # noqa: S101 - every design has several patients
                interval = score.interval(0.95)
                significant = score.p_two_sided() < 0.05
                rejected += significant
                contradictions += significant != (interval.low > 0 or interval.high < 0)
            share = rejected / simulations
            print(f"| {patients} x {pairs} | {correlation:g} | 4 % | {share:.3f} |", flush=True)
    return contradictions


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.simulations < 1:
        parser.error(f"--simulations must be at least 1, got {arguments.simulations}")
    contradictions = print_levels(arguments.simulations, arguments.seed)
    print_power(arguments.simulations, arguments.seed)
    print_misses()
    print_further_misses(arguments.simulations, arguments.seed)
    contradictions += print_difference(arguments.simulations, arguments.seed)
    print(f"\nStudies in which p-value and interval contradict each other: {contradictions}")


if __name__ == "__main__":
    main()
