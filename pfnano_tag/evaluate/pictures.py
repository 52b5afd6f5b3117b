"""Pictures of the evaluation.

All go to the evaluation's folder: `roc_<discriminant>`, `shape_<network>_<discriminant>`, `efficiency_...`,
`confusion_<network>`, `inputs_<group>`, `correlations`, and those of `epochs` (`training_<kind>`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.evaluate.confusion import confusion
from pfnano_tag.evaluate.discriminants import families
from pfnano_tag.evaluate.epochs import draw_courses
from pfnano_tag.evaluate.inputs import InputSurvey
from pfnano_tag.evaluate.performance import Performance
from pfnano_tag.evaluate.results import Evaluated
from pfnano_tag.evaluate.scores import Scores
from pfnano_tag.infer.discriminants import DISCRIMINANTS, UNDEFINED, discriminant
from pfnano_tag.nano.schema import FEATURES, GROUPS
from pfnano_tag.plotting import curves, distributions, matrices
from pfnano_tag.plotting.colours import LINE_STYLES, MARKERS, STORED_COLOURS, model_colours
from pfnano_tag.plotting.curves import Curve
from pfnano_tag.plotting.style import save, with_unit

TEST = "test split"


def draw(
    folder: Path, text: str, evaluation: Evaluation, scores: Scores, found: Evaluated, survey: InputSurvey
) -> None:
    """Draw everything.

    Parameters
    ----------
    folder : Path
        Where the pictures go.
    text : str
        What they say of their sample.
    evaluation : Evaluation
        The card's section.
    scores : Scores
        Of the test split.
    found : Evaluated
        What was computed.
    survey : InputSurvey
        Of the inputs.
    """
    for name in evaluation.discriminants:
        _roc(folder, text, name, found)
        _efficiencies(folder, text, name, evaluation, found)
        _shapes(folder, text, name, evaluation.bins, scores)
    for network, nodes_JK in scores.probabilities.items():
        matrix = confusion(nodes_JK, scores.label_J)
        save(
            matrices.confusion(matrix, scores.classes, text, f"{network}, {TEST}"),
            folder / f"confusion_{network}.png",
        )
    courses = {found.taggers[network].name: course for network, course in found.courses.items()}
    draw_courses(folder, text, courses)
    _inputs(folder, text, survey)


def _roc(folder: Path, text: str, name: str, found: Evaluated) -> None:
    lines = _lines(name, found)
    if not lines:
        return
    definition = DISCRIMINANTS[name]
    pieces = [
        Curve(
            f"{key}: AUC {_with_error(performance.auc.value, performance.auc.error)}",
            performance.roc.efficiency_E,
            performance.roc.mistag_E,
            performance.roc.error_E,
            colour,
            style,
        )
        for key, (performance, colour, style) in lines.items()
    ]
    drawn = curves.roc(
        pieces,
        f"{definition.signal_name}-jet efficiency",
        f"{definition.background_name} mistag rate",
        text,
        TEST,
        f"{name} ({definition.signal_name} against {definition.background_name})",
    )
    save(drawn, folder / f"roc_{name}.png")


def _efficiencies(folder: Path, text: str, name: str, evaluation: Evaluation, found: Evaluated) -> None:
    """Efficiency and mistag rate against pT, at the working point in the middle of the card's list."""
    mistag = sorted(evaluation.mistags)[len(evaluation.mistags) // 2]
    definition = DISCRIMINANTS[name]
    lines = {key: line for key, line in _lines(name, found).items() if mistag in line[0].in_pt}
    for kind, what in (("efficiency", definition.signal_name), ("mistag", definition.background_name)):
        if not lines:
            continue
        pieces = [
            Curve(
                key,
                found.pt_edges[1:],
                getattr(performance.in_pt[mistag], kind),
                getattr(performance.in_pt[mistag], f"{kind}_error"),
                colour,
                "none",
                MARKERS[i % len(MARKERS)],
            )
            for i, (key, (performance, colour, _)) in enumerate(lines.items())
        ]
        drawn = curves.against_bins(
            found.pt_edges,
            pieces,
            r"jet $p_T$ [GeV]",
            f"{what}-jet efficiency" if kind == "efficiency" else f"{what} mistag rate",
            text,
            TEST,
            logx=True,
            within=(-0.03, 1.03) if kind == "efficiency" else (-0.002, 1.03),
            title=f"{name}, {100 * mistag:g} % {definition.background_name} mistag rate over all $p_T$",
        )
        save(drawn, folder / f"{kind}_pt_{name}.png")


def _shapes(folder: Path, text: str, name: str, bins: int, scores: Scores) -> None:
    """Shapes by flavour; undefined values (-1) stand in a bin of their own below zero."""
    width = 1 / bins
    edges = np.linspace(-2 * width, 1, bins + 3)
    for network, nodes_JK in scores.probabilities.items():
        value_J = discriminant(name, nodes_JK, scores.classes)
        value_J = np.where(value_J == UNDEFINED, -1.5 * width, value_J)
        counts = {
            flavour: np.histogram(value_J[scores.label_J == i], edges)[0].astype(np.float64)
            for i, flavour in enumerate(scores.classes)
        }
        histograms = {flavour: (values, values) for flavour, values in counts.items()}
        drawn = distributions.shapes(edges, histograms, f"{name} ({network})", text, TEST, log=True)
        save(drawn, folder / f"shape_{network}_{name}.png")


def _inputs(folder: Path, text: str, survey: InputSurvey) -> None:
    """Input distributions, a page per group, by family of flavours (six lines would hide each other)."""
    family = families(survey.classes)
    for group in GROUPS:
        panels = [
            distributions.panel(
                survey.edges(feature.id),
                {name: survey.seen[feature.id].counts_K[places].sum(axis=0) for name, places in family.items()},
                with_unit(FEATURES[feature.id].label, FEATURES[feature.id].unit),
            )
            for feature in survey.features
            if feature.group == group
        ]
        if panels:
            save(distributions.page(panels, text, f"{TEST}, flow in edge bins"), folder / f"inputs_{group}.png")
    names = [feature.id for feature in survey.features]
    drawn = matrices.correlations(survey.correlations(), names, text, f"{TEST}; leading constituents")
    save(drawn, folder / "correlations.png")


def _lines(name: str, found: Evaluated) -> dict[str, tuple[Performance, str, str]]:
    """Return network or stored tagger -> (performance, colour, line style); stored ones dashed in grey shades."""
    colours = model_colours(found.networks)
    ours = {key: (by[name], colours[key], "-") for key, by in found.networks.items() if name in by}
    stored = {
        f"{key} (stored)": (by[name], STORED_COLOURS[i % len(STORED_COLOURS)], LINE_STYLES[1 + i % 3])
        for i, (key, by) in enumerate(found.stored.items())
        if name in by
    }
    return {**ours, **stored}


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
