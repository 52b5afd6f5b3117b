"""Pictures of the trainings: every metric against the epoch, a page for each kind of metric.

`training_loss`, `training_accuracy`, `training_auc`, `training_efficiency`, `training_learning_rate`, and with
networks of several tasks `training_resolution` and `training_pair`: all networks overlaid, the best epoch of each
marked. Everything is as the training wrote it, from the validation split (but the training loss).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pfnano_tag.evaluate.loss import Course
from pfnano_tag.evaluate.metrics import KINDS, kind_of
from pfnano_tag.infer.discriminants import DISCRIMINANTS
from pfnano_tag.plotting.colours import LINE_STYLES, MODEL_COLOURS, model_colours
from pfnano_tag.plotting.curves import Curve
from pfnano_tag.plotting.epochs import EpochPanel, epoch_page
from pfnano_tag.plotting.style import save

COLUMNS = {"loss": 2, "accuracy": 3, "efficiency": 3, "auc": 3, "resolution": 2, "pair": 2}


def draw_courses(folder: Path, text: str, courses: Mapping[str, Course]) -> None:
    """Draw the pages.

    Parameters
    ----------
    folder : Path
        Where they go.
    text : str
        What they say of their sample.
    courses : mapping of Course
        Model -> what its training wrote; those that wrote nothing are passed over.
    """
    known = {name: course for name, course in courses.items() if course.history}
    chosen_by = {course.metric for course in known.values() if course.metric is not None}
    alike = len(chosen_by) == 1
    mark = f"best epoch (by {min(chosen_by)})" if alike else "best epoch"
    labels = {
        name: name if alike or course.metric is None else f"{name} (best by {course.metric})"
        for name, course in known.items()
    }
    names = dict.fromkeys(metric for course in known.values() for metric in course.history)
    for kind in KINDS:
        panels = [_panel(metric, known, labels) for metric in names if kind_of(metric) == kind]
        if panels:
            right = "" if kind in ("loss", "learning_rate") else "validation split"
            page = epoch_page(panels, COLUMNS.get(kind, 1), text, right, mark)
            save(page, folder / f"training_{kind}.png")


def axis_label(metric: str) -> str:
    """Return what stands beside the axis of a metric."""
    kind = kind_of(metric)
    if kind == "auc":
        return f"AUC {metric.partition('_')[2]}"
    if kind == "efficiency":
        _, name, mistag = metric.split("_")
        sides = DISCRIMINANTS[name]
        return f"{name}: {sides.signal_name} efficiency at {100 * float(mistag):g} % {sides.background_name}"
    return metric.replace("_", " ")


def _panel(metric: str, courses: Mapping[str, Course], labels: Mapping[str, str]) -> EpochPanel:
    colours = model_colours(courses)
    styles = {name: LINE_STYLES[i // len(MODEL_COLOURS) % len(LINE_STYLES)] for i, name in enumerate(courses)}
    having = {name: course for name, course in courses.items() if metric in course.history}
    curves = [
        Curve(labels[name], epochs, values, None, colours[name], styles[name])
        for name, course in having.items()
        for epochs, values in [(_numbers(course.history["epoch"]), _numbers(course.history[metric]))]
    ]
    return EpochPanel(axis_label(metric), curves, [course.best for course in having.values()])


def _numbers(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])
