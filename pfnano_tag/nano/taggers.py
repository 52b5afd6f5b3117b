"""Taggers whose scores are stored in the files, to stand beside ours."""

from __future__ import annotations

STORED_TAGGERS: dict[str, dict[str, str]] = {
    "DeepJet": {"BvsAll": "Jet_btagDeepFlavB", "CvsL": "Jet_btagDeepFlavCvL", "CvsB": "Jet_btagDeepFlavCvB"},
    "DeepCSV": {"BvsAll": "Jet_btagDeepB", "CvsL": "Jet_btagDeepCvL", "CvsB": "Jet_btagDeepCvB"},
    "CSVv2": {"BvsAll": "Jet_btagCSVV2"},
    "ParticleNet": {"BvsAll": "Jet_btagPNetB", "CvsL": "Jet_btagPNetCvL", "CvsB": "Jet_btagPNetCvB"},
    "RobustParT": {
        "BvsAll": "Jet_btagRobustParTAK4B",
        "CvsL": "Jet_btagRobustParTAK4CvL",
        "CvsB": "Jet_btagRobustParTAK4CvB",
    },
    "UParT": {"BvsAll": "Jet_btagUParTAK4B", "CvsL": "Jet_btagUParTAK4CvL", "CvsB": "Jet_btagUParTAK4CvB"},
    "JetProbability": {"BvsAll": "Jet_Proba"},
    "JetBProbability": {"BvsAll": "Jet_Bprob"},
}
"""Tagger -> what a score separates -> branch. `BvsAll` is b against all others (evaluated as BvsL)."""

SCORE_RANGES: dict[str, tuple[float, float]] = {"Jet_Proba": (0.0, 3.0), "Jet_Bprob": (0.0, 10.0)}
"""Range of a stored score where it isn't 0 to 1."""


def stored_branches(branches: frozenset[str]) -> dict[str, dict[str, str]]:
    """Return the stored taggers that a file has, in the form of `STORED_TAGGERS`.

    Parameters
    ----------
    branches : frozenset of str
        Branches of the file.
    """
    found = {
        tagger: {score: branch for score, branch in scores.items() if branch in branches}
        for tagger, scores in STORED_TAGGERS.items()
    }
    return {tagger: scores for tagger, scores in found.items() if scores}


def score_range(branch: str) -> tuple[float, float]:
    """Return the range (low, high) in which a stored score is drawn."""
    return SCORE_RANGES.get(branch, (0.0, 1.0))
