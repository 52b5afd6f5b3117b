"""Study cards of benchmarks: one file, in which nearly all jets are training jets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_card(folder: str | Path, file: str, resources: dict[str, Any] | None = None, **sections: Any) -> Path:
    """Write the card of a study.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there; the study's folder is `study` in it.
    file : str
        Of the only dataset, unless `sections` says otherwise.
    resources : dict, optional
        Section `resources`.
    **sections
        Other sections.

    Returns
    -------
    Path
        `folder/card.yaml` (JSON is YAML).
    """
    content = {
        "study": {"name": "benchmark", "folder": str(Path(folder) / "study")},
        "datasets": [{"name": "ttbar", "files": file, "kind": "mc", "roles": ["train"]}],
        "splitting": {"fractions": [0.998, 0.002 - 1e-12, 1e-12]},
        "resources": resources or {},
        **sections,
    }
    path = Path(folder) / "card.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
