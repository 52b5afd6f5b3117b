"""Loss, accuracy and AUCs of each epoch of a training, as the training wrote them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pfnano_tag.errors import StudyError

History = dict[str, list[float | None]]


@dataclass(frozen=True)
class Course:
    """What a training wrote.

    Parameters
    ----------
    history : dict of list
        See `read_history`.
    best : int or None
        The best epoch; None where no training has chosen one.
    metric : str or None
        What chose it.
    """

    history: History
    best: int | None
    metric: str | None


def read_course(folder: Path) -> Course:
    """Read a model's `metrics.jsonl` and `best.json`, as far as they are there.

    Raises
    ------
    StudyError
        When one of them can't be read.
    """
    path = folder / "best.json"
    try:
        best = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return Course(read_history(folder), best.get("epoch"), best.get("metric"))
    except (OSError, ValueError, AttributeError) as error:
        raise StudyError(f"{path}: can't be read as the choice of an epoch: {error}") from error


def read_history(folder: Path) -> History:
    """Read a model's `metrics.jsonl`.

    Parameters
    ----------
    folder : Path
        The model's folder.

    Returns
    -------
    dict of list
        Metric -> its value in each epoch, None where it is not known; `epoch` is among them. Empty when there is no
        such file (a checkpoint from elsewhere).

    Raises
    ------
    StudyError
        When a line can't be read.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = list(dict.fromkeys(name for line in lines for name in line))
        return {name: [_number(line.get(name)) for line in lines] for name in names}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StudyError(f"{path}: can't be read as metrics, one JSON object per line: {error}") from error


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
