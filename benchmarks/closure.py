"""Scale factors that `calibrate` measures against the true ones: `python -m benchmarks.closure FOLDER [--quick]`.

FOLDER is a study of three regions with generated data, done as far as `analyze` and `evaluate` (`bash scripts/demo.sh
FOLDER regions`). Its data are made once more with the truth (mode `truth` of the generator), and go through the same
regions and networks. The true scale factor of a flavour is its efficiency there over that in simulation, both in the
region that measures it. Printed are

- per working point and flavour the measured and the true factor, the pull (their difference over the total error),
  and what the fit gives when it is told the true mixture of flavours: what is left then is no matter of the mixture;
- the mixture: what simulation says of each region's flavours, what is there in data, and the true factor of each
  flavour in each region, at the loosest working point: the fit takes one for all regions;
- per pair of discriminants and flavour, chi2 of simulation and the true jets of the flavour in data, without and with
  the shape weights (weights of 1 would leave it as it is), and the spread of the pulls of the weights.

The last line is JSON; `ratio` is the root mean square of all pulls, which is 1 for right errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.measuring import Missing
from benchmarks.printing import MISSING, Outcome, say
from benchmarks.unveiled import check_same, make_truth
from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.fit import FitFailed, Priors
from pfnano_tag.calibrate.measuring import Read, inclusive, reader
from pfnano_tag.calibrate.scale_factors import measure
from pfnano_tag.calibrate.templates import FLAVOURS, Templates, effective, templates_of
from pfnano_tag.calibrate.working_points import Score, cut_at, scores_of
from pfnano_tag.card import Card, read_card
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.normalization import normalise
from pfnano_tag.compare.outputs import find_jobs
from pfnano_tag.errors import Incomplete

KNOWN = 1e-3
"""Width of the prior on flavours' ratios in the fit that is told the mixture."""
LEAST = 5.0
"""Least effective number of jets of a cell that enters a chi2, in data and simulation."""


@dataclass(frozen=True)
class Factor:
    """One scale factor.

    Parameters
    ----------
    tagger, discriminant, mistag, flavour : str
        What it is of.
    measured, error : float
        By `calibrate`, with its total error.
    true : float
        Of the jets of this flavour in its region.
    told : float or None
        By the fit that knows the mixture of flavours; None where it failed.
    """

    tagger: str
    discriminant: str
    mistag: str
    flavour: str
    measured: float
    error: float
    true: float
    told: float | None

    @property
    def pull(self) -> float:
        """Measured less true, over the error."""
        return (self.measured - self.true) / self.error


@dataclass(frozen=True)
class Mixture:
    """One flavour in one region.

    Parameters
    ----------
    region, flavour : str
        Where and what.
    simulated, true : float
        Share of the region's yield.
    odds : float
        Its yield over that of the region's own flavour, in data over simulation: what the prior of
        `calibration.composition` says is 1.
    factor, error : float
        True scale factor of the flavour in this region, and its statistical error (data and simulation); NaN where
        nothing passes in simulation.
    """

    region: str
    flavour: str
    simulated: float
    true: float
    odds: float
    factor: float
    error: float


@dataclass(frozen=True)
class ShapeClosure:
    """Shape of one flavour in its region.

    Parameters
    ----------
    model, pair, flavour : str
        What it is of.
    before, after : float
        chi2 of simulation and the flavour's jets in data, without and with the weights.
    cells : int
        That enter.
    spread : float
        Root mean square of (weight - true weight) / its total error over these cells.
    """

    model: str
    pair: str
    flavour: str
    before: float
    after: float
    cells: int
    spread: float


class Closure:
    """A study, its calibration, and its data with truth.

    Parameters
    ----------
    card : Card
        Of the study.
    results : dict
        `calibration/results.json`.
    study, truth : Merger
        Open.
    """

    def __init__(self, card: Card, results: dict[str, Any], study: Merger, truth: Merger) -> None:
        self.card, self.results, self.study = card, results, study
        self.read = reader(study, normalise(study))
        ones = {dataset.dataset.name: 1.0 for dataset in truth.found}

        def unveiled(name: str) -> Any:
            return truth.merged(name, ones), self.read(name)[1]

        self.unveiled: Read = unveiled

    def factors(self) -> Iterator[Factor]:
        """Yield all scale factors that were measured."""
        info = next(job.info for group in self.study.jobs.values() for job in group)
        for score in scores_of(self.card, info["models"], self.study.variables):
            points = self.results["scale_factors"][score.tagger][score.discriminant]
            simulation, lower_X = self._histogram(score, self.read)
            truth, _ = self._histogram(score, self.unveiled)
            check_same(truth.values_SRFX[0].sum(axis=1), truth.data_RX, score.variable)
            for name, point in points.items():
                if point["scale_factors"] is not None:
                    yield from self._of_point(score, name, point, simulation, truth, lower_X)

    def _histogram(self, score: Score, read: Read) -> tuple[Templates, Array]:
        templates, lower_X = inclusive(self.card, score, self.study.variables, read)
        return templates.of(0), lower_X

    def _of_point(
        self, score: Score, name: str, point: dict[str, Any], simulation: Templates, truth: Templates, lower_X: Array
    ) -> Iterator[Factor]:
        cut = cut_at(lower_X, point["asked"])
        assert cut is not None  # it was measured
        section = self.card.calibration
        try:
            priors = Priors(KNOWN, section.unmeasured)
            told_F = measure(with_mixture(simulation, truth), cut, section.templates, priors, 1.0).fitted.sf_F
        except FitFailed as failure:
            say(f"{score.tagger} {score.discriminant} {name}, told the mixture: {failure}")
            told_F = None
        true_F = efficiencies(truth, cut[0]) / efficiencies(simulation, cut[0])
        for flavour, found in point["scale_factors"].items():
            place = FLAVOURS.index(flavour)
            yield Factor(
                *(score.tagger, score.discriminant, name, flavour, found["value"], found["total"]),
                float(true_F[place]),
                None if told_F is None else float(told_F[place]),
            )

    def mixtures(self) -> Iterator[Mixture]:
        """Yield the flavours of each region, as the first tagger sees them."""
        info = next(job.info for group in self.study.jobs.values() for job in group)
        score = scores_of(self.card, info["models"], self.study.variables)[0]
        simulation, lower_X = self._histogram(score, self.read)
        truth, _ = self._histogram(score, self.unveiled)
        cut = cut_at(lower_X, min(value for value in score.thresholds.values() if value is not None))
        assert cut is not None  # a discriminant has edges
        simulated, true = (templates.values_SRFX[0].sum(axis=-1) for templates in (simulation, truth))
        for row, (home, region) in enumerate(self.card.calibration.regions.items()):
            own = FLAVOURS.index(home)
            for place, flavour in enumerate(FLAVOURS):
                expected, there = simulated[row, place], true[row, place]
                odds = there / true[row, own] / (expected / simulated[row, own]) if expected else float("nan")
                yield Mixture(
                    *(region, flavour, float(expected / simulated[row].sum()), float(there / true[row].sum())),
                    *(float(odds), *factor_of(truth, simulation, (0, row, place), cut[0])),
                )

    def shapes(self) -> Iterator[ShapeClosure]:
        """Yield the closure of all shape weights."""
        regions = self.card.calibration.regions
        for model, pairs in self.results["shapes"].items():
            for pair, content in pairs.items():
                if content["weights"] is None:
                    continue
                simulation, truth = (
                    templates_of(*read(pair), regions, model, pair).of(0).mapped(lambda cells: cells[..., 1:-1])
                    for read in (self.read, self.unveiled)
                )
                check_same(truth.values_SRFX[0].sum(axis=1), truth.data_RX, pair)
                for row, flavour in enumerate(regions):
                    weights_X, errors_X = (np.ravel(content[key][flavour]) for key in ("weights", "total"))
                    own = (0, row, FLAVOURS.index(flavour))
                    wanted = truth.values_SRFX[own], truth.variances_SRFX[own]
                    given = simulation.values_SRFX[own], simulation.variances_SRFX[own]
                    yield ShapeClosure(model, pair, flavour, *shape_closure(wanted, given, weights_X, errors_X))


def efficiencies(templates: Templates, cut: int) -> Array:
    """Return the share of each flavour [F] from bin `cut` on, in the region that is rich in it; NaN without one."""
    found_F = np.full(len(FLAVOURS), np.nan)
    for row, flavour in enumerate(templates.home_R):
        values_X = templates.values_SRFX[0, row, flavour]
        found_F[flavour] = values_X[cut:].sum() / values_X.sum()
    return found_F


def factor_of(truth: Templates, simulation: Templates, cell: tuple[int, int, int], cut: int) -> tuple[float, float]:
    """Return the true scale factor of a cell (systematic, region, flavour), and its statistical error."""
    shares, squares = [], []
    for templates in (truth, simulation):
        values_X, variances_X = templates.values_SRFX[cell], templates.variances_SRFX[cell]
        jets = float(effective(values_X.sum(), variances_X.sum()))
        share = float(values_X[cut:].sum() / values_X.sum()) if jets > 0 else 0.0
        if share <= 0:
            return float("nan"), float("nan")
        shares.append(share)
        squares.append(max(0.0, 1 - share) / (share * jets))  # relative, of a binomial share
    return shares[0] / shares[1], shares[0] / shares[1] * float(np.sqrt(sum(squares)))


def with_mixture(simulation: Templates, truth: Templates) -> Templates:
    """Return simulation with the yields that each flavour truly has in each region."""
    there, expected = (templates.values_SRFX[0].sum(axis=-1) for templates in (truth, simulation))
    scale_RF = np.divide(there, expected, out=np.zeros_like(there), where=expected != 0)
    scale_RF1 = np.maximum(scale_RF, 0.0)[..., None]  # opposite minus same sign may leave a flavour below zero
    return replace(
        simulation,
        values_SRFX=simulation.values_SRFX * scale_RF1,
        variances_SRFX=simulation.variances_SRFX * scale_RF1**2,
    )


def shape_closure(
    wanted: tuple[Array, Array], given: tuple[Array, Array], weights_X: Array, errors_X: Array
) -> tuple[float, float, int, float]:
    """Return chi2 without and with weights, cells, and the spread of the weights' pulls.

    Parameters
    ----------
    wanted, given : (ndarray [X], ndarray [X])
        Values and variances of a flavour in data and in simulation.
    weights_X, errors_X : ndarray of float64
        Weights and their total errors; an error of 0 says that the weight was not measured.
    """
    enough_X = (effective(*wanted) >= LEAST) & (effective(*given) >= LEAST)

    def chi2(factor_X: Array) -> float:
        scale = wanted[0].sum() / (factor_X * given[0]).sum()
        expected_X = scale * factor_X * given[0]
        variance_X = wanted[1] + (scale * factor_X) ** 2 * given[1]
        return float((((wanted[0] - expected_X) ** 2)[enough_X] / variance_X[enough_X]).sum())

    use_X = enough_X & (errors_X > 0)
    true_X = wanted[0][use_X] / given[0][use_X] * (given[0].sum() / wanted[0].sum())
    pulls = (weights_X[use_X] - true_X) / errors_X[use_X]
    spread = float(np.sqrt(np.mean(pulls**2))) if use_X.any() else float("nan")
    return chi2(np.ones_like(weights_X)), chi2(weights_X), int(enough_X.sum()), spread


def tables(factors: Sequence[Factor], mixtures: Sequence[Mixture], shapes: Sequence[ShapeClosure]) -> str:
    """Return all of it as tables in Markdown."""
    parts = [
        _table(
            ("scale factor", "mistag", "flavour", "measured", "true", "pull", "told the mixture"),
            [
                (
                    *(f"{one.tagger} {one.discriminant}", one.mistag, one.flavour),
                    f"{one.measured:.3f} ± {one.error:.3f}",
                    *(f"{one.true:.3f}", f"{one.pull:+.1f}", "–" if one.told is None else f"{one.told:.3f}"),
                )
                for one in factors
            ],
        ),
        _table(
            (
                "region",
                "flavour",
                "share in simulation",
                "in data",
                "odds, data over simulation",
                "true factor there",
            ),
            [
                (
                    *(one.region, one.flavour, f"{one.simulated:.3f}", f"{one.true:.3f}", f"{one.odds:.2f}"),
                    "–" if np.isnan(one.factor) else f"{one.factor:.2f} ± {one.error:.2f}",
                )
                for one in mixtures
            ],
        ),
        _table(
            ("shape", "flavour", "chi2 without weights", "with weights", "cells", "spread of pulls"),
            [
                (
                    f"{one.model} {one.pair}",
                    one.flavour,
                    *(f"{one.before:.1f}", f"{one.after:.1f}", f"{one.cells}", f"{one.spread:.2f}"),
                )
                for one in shapes
            ],
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def calibrated(card: Card, quick: bool) -> dict[str, Any]:
    """Return the results of `calibrate`, which is run unless it is quick and they are there."""
    from pfnano_tag.calibrate import stage

    path = card.folder / "calibration" / "results.json"
    if not (quick and path.is_file()):
        try:
            return stage.run(card)
        except Incomplete as short:
            say(str(short))
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def outcome_of(
    factors: Sequence[Factor], mixtures: Sequence[Mixture], shapes: Sequence[ShapeClosure], folder: str
) -> Outcome:
    """Return what the last line holds."""
    pulls = np.array([one.pull for one in factors])
    of_flavours = {
        flavour: {
            "ratio": _spread(np.array([one.pull for one in factors if one.flavour == flavour])),
            "ratio_is": f"the same, of {flavour} alone",
        }
        for flavour in FLAVOURS
        if any(one.flavour == flavour for one in factors)
    }
    return Outcome(
        "closure",
        _spread(pulls),
        "root mean square of (measured - true) / error of the scale factors: 1 for right errors",
        {"scale_factors": [asdict(one) | {"pull": one.pull} for one in factors]},
        {"mixtures": [asdict(one) for one in mixtures], "shapes": [asdict(one) for one in shapes]},
        {"study": folder, "scale_factors": len(factors), "shapes": len(shapes)},
        of_flavours,
    )


def _spread(pulls: Array) -> float:
    return round(float(np.sqrt(np.mean(pulls**2))), 3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and print the closure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closure", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", help="of the study")
    parser.add_argument("--card", default="regions", help="of the study [default: regions]")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="changes of the card")
    parser.add_argument("--quick", action="store_true", help="with the truth and the calibration that are there")
    options = parser.parse_args(arguments)
    quoted = options.folder.replace("'", "''")
    card = read_card(options.card, [f"study.folder='{quoted}'", *options.set])
    try:
        truth = make_truth(card, options.quick)
    except Missing as missing:
        print(f"closure: {missing}", file=sys.stderr)
        return MISSING
    results = calibrated(card, options.quick)
    with Merger(find_jobs(card)) as study, Merger(find_jobs(truth)) as unveiled:
        closure = Closure(card, results, study, unveiled)
        factors, mixtures, shapes = list(closure.factors()), list(closure.mixtures()), list(closure.shapes())
    print(tables(factors, mixtures, shapes))
    print(json.dumps(outcome_of(factors, mixtures, shapes, card.study.name).to_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
