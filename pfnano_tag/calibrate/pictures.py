"""Pictures of a calibration: fits before and after, scale factors, shape weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.measuring import Found, Point, ShapeOf
from pfnano_tag.calibrate.scale_factors import Measurement
from pfnano_tag.calibrate.shapes import Shape
from pfnano_tag.calibrate.templates import FLAVOURS
from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import sample_text
from pfnano_tag.plotting.calibration import Points, scale_factors, weight_maps
from pfnano_tag.plotting.panels import Cell, stack_page
from pfnano_tag.plotting.style import save


def draw_all(card: Card, found: Found, luminosity: float, short: tuple[str, ...], folder: Path) -> list[Path]:
    """Draw and write all pictures.

    Parameters
    ----------
    card : Card
        The study.
    found : Found
        What was measured.
    luminosity : float
        [1/fb]
    short : tuple of str
        What the job outputs are short of: named on every picture.
    folder : Path
        Gets the PNGs; those of an earlier calibration are removed.
    """
    right = rf"{luminosity:.4g} fb$^{{-1}}$" + (f"; INCOMPLETE: {'; '.join(short)}" if short else "")
    text = sample_text(card, "analyze")
    drawn = [save(picture, folder / f"{name}.png") for name, picture in _pictures(card, found, text, right)]
    for old in set(folder.glob("*.png")) - set(drawn):
        old.unlink()
    return drawn


def _pictures(card: Card, found: Found, text: str, right: str) -> Iterator[tuple[str, Figure]]:
    for (tagger, discriminant), points in found.points.items():
        name = f"{tagger}_{discriminant}"
        shown = [point for point in points if point.measured is not None]
        for point in shown:
            if point.measured is not None:
                title = f"{text}, {tagger}, {discriminant} at mistag rate {point.name}"
                yield f"{name}_{point.name}_fit", fit_page(card, point.measured, title, right)
            if any(one.measured is not None for one in point.pt):
                yield (
                    f"{name}_{point.name}_pt",
                    _in_pt(card, point, f"{text}, {tagger}", f"{discriminant} at {point.name}, {right}"),
                )
        if shown:
            ticks = [point.name for point in shown]
            factors = _points(card, [point.measured for point in shown])
            words = f"mistag rate of the working point of {discriminant}"
            yield f"{name}_scale_factors", scale_factors(factors, words, f"{text}, {tagger}", right, ticks=ticks)
    for one in found.shapes:
        if one.shape is not None:
            yield (
                f"{one.model}_{one.variable.removeprefix('pair_')}_weights",
                _maps(card, one, one.shape, text, right),
            )


def fit_page(card: Card, measured: Measurement, text: str, right: str) -> Figure:
    """Return the fitted bins of all regions, before and after the fit.

    Parameters
    ----------
    card : Card
        Section `calibration`.
    measured : Measurement
        What was fitted.
    text, right : str
        Above and below the page.
    """
    counts, fitted, rows = measured.counts, measured.fitted, []
    edges = np.arange(counts.data_RX.shape[1] + 1, dtype=np.float64)
    below, above = int((~counts.passing_X).sum()), int(counts.passing_X.sum())
    names = (*_numbered("fail", below), *_numbered("pass", above))
    for row, (flavour, region) in enumerate(card.calibration.regions.items()):
        data = counts.data_RX[row], counts.data_variances_RX[row]
        place = FLAVOURS.index(flavour)
        factor = rf"SF({flavour}) = {fitted.sf_F[place]:.3f} $\pm$ {measured.total_F[place]:.3f}"
        cells = []
        for expected_FX, note in ((fitted.before_RFX[row], ""), (fitted.after_RFX[row], factor)):
            nominal = counts.values_RFX[row]
            scale = np.divide(expected_FX, nominal, out=np.ones_like(nominal), where=nominal != 0)
            variances = scale**2 * counts.variances_RFX[row]
            stack = {name: (expected_FX[i], variances[i]) for i, name in enumerate(FLAVOURS) if expected_FX[i].any()}
            cells.append(Cell(edges, stack, data, region, note, names=names))
        rows.append(cells)
    if fitted.p is not None:
        right += rf", $\chi^2$/ndf of the fit = {fitted.chi2:.3g} / {fitted.ndf}, p = {fitted.p:.2g}"
    return stack_page(rows, ["before (scaled to data)", "after"], text, right)


def _numbered(side: str, count: int) -> tuple[str, ...]:
    return (side,) if count == 1 else tuple(f"{side} {i + 1}" for i in range(count))


def _points(card: Card, measured: list[Measurement | None]) -> list[Points]:
    """Return scale factors by flavour; NaN where not measured."""

    def column(place: int, name: str) -> Array:
        return np.array([np.nan if one is None else _number(one, name)[place] for one in measured])

    return [
        Points(
            flavour,
            *(column(FLAVOURS.index(flavour), name) for name in ("value", "statistical", "total")),
        )
        for flavour in card.calibration.regions
    ]


def _number(measured: Measurement, name: str) -> Array:
    return {
        "value": measured.fitted.sf_F,
        "statistical": measured.statistical_F,
        "total": measured.total_F,
    }[name]


def _in_pt(card: Card, point: Point, text: str, right: str) -> Figure:
    edges = [*(one.low for one in point.pt), point.pt[-1].high]
    factors = _points(card, [one.measured for one in point.pt])
    return scale_factors(factors, r"jet $p_T$ [GeV]", text, right, edges=edges)


def _maps(card: Card, one: ShapeOf, shape: Shape, text: str, right: str) -> Figure:
    x, y = one.axes
    maps = {}
    for flavour in card.calibration.regions:
        place = FLAVOURS.index(flavour)
        known = shape.errors_FX[place] > 0
        maps[flavour] = np.where(known, shape.weights_FX[place], np.nan).reshape(x.places, y.places)
    return weight_maps(maps, x.edges, y.edges, (x.label, y.label), f"{text}, {one.model}", right)
