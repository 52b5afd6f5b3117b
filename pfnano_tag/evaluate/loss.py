"""Loss, accuracy and AUCs of each epoch of a training, as the training wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from pfnano_tag.errors import StudyError

History = dict[str, list[float | None]]


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
