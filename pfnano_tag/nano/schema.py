"""The one table of features: what each input is, where it comes from, how it is bounded and drawn.

Names are DeepJet's (cms-sw/cmssw: RecoBTag/FeatureTools; PFNano: JetConstituentTableProducer). Bounds and
replacements follow `catch_infs_and_bound` of cms-sw/cmssw:RecoBTag/FeatureTools/interface/deep_helpers.h. A feature
is addressed as `group/name`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.inputs import Inputs
from pfnano_tag.card.jets import JetTree
from pfnano_tag.errors import CardError, nearest

Group = Literal["jet", "charged", "neutral", "sv"]
GROUPS: tuple[Group, ...] = ("jet", "charged", "neutral", "sv")

LOG_SCALES = {"log": 1.0, "log100": 100.0}
"""Transforms sign(x) ln(1 + s abs(x)) by name, with their s; `none` leaves a value as it is. `log100` is for lengths
in cm whose typical size is 100 um."""

JET_VECTOR = ("Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass")
CANDIDATE_LINKS = ("JetPFCands_jetIdx", "JetPFCands_pFCandsIdx")
CANDIDATE_VECTOR = ("PFCands_pt", "PFCands_eta", "PFCands_phi", "PFCands_mass", "PFCands_charge")
CANDIDATES = (*JET_VECTOR, "Jet_rawFactor", *CANDIDATE_LINKS, *CANDIDATE_VECTOR)
SV_LINKS = ("JetSVs_jetIdx", "JetSVs_sVIdx")
SV_DIRECTION = ("SV_eta", "SV_phi")
NEUTRAL = (*CANDIDATES, *SV_DIRECTION)
"""What any feature of a neutral candidate needs: nearness to a vertex orders them."""
CHARGED = (*NEUTRAL, "PFCands_d0", "PFCands_d0Err")
"""The same for charged candidates, which significance orders first."""
TRACK = (*CHARGED, "PFCands_dz", "PFCands_dzErr")
SV_VECTOR = (
    *JET_VECTOR,
    "Jet_rawFactor",
    *SV_LINKS,
    *SV_DIRECTION,
    "JetSVs_pt",
    "JetSVs_mass",
    "JetSVs_phirel",
    "JetSVs_deltaR",
    "JetSVs_enration",
    "JetSVs_dxysig",
)


@dataclass(frozen=True)
class Feature:
    """One model input.

    Parameters
    ----------
    group, name : str
        Together the identifier `group/name`.
    unit : str
        Empty for pure numbers.
    label : str
        Axis label (LaTeX).
    axis : tuple
        (bins, low, high) of a plot.
    read : tuple of str
        Branches that hold the feature as it is (bounds apart); preferred where a file has them.
    derived : tuple of str
        Branches that it can be derived from; empty when it can't.
    default : float
        Placeholder, in the feature's own unit, where there is no value.
    replacement : float
        What a non-finite value becomes (it then counts as a default).
    low, high : float or None
        Bounds; None: unbounded.
    transform : str
        `none` or a key of `LOG_SCALES`; heavy tails are brought in before scaling.
    protected : bool
        Never attacked: integers, flags, puppi weight, track chi2.
    integer : bool
        Whether values are whole numbers.
    needs : str
        What must be there for the feature to have a value: `track` (`PFCands_d0Err > 0`), `vertex` (a secondary
        vertex within 0.4), or nothing.
    flat : str
        DeepNTuples' name of the feature, such as `Cpfcan_ptrel`: the branch of a tree with one entry per jet, and with
        `Jet_DeepJet_` before and the slot's number behind, the branches of the flat DeepJet layout.
    """

    group: Group
    name: str
    unit: str
    label: str
    axis: tuple[int, float, float]
    read: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    default: float = 0.0
    replacement: float = 0.0
    low: float | None = None
    high: float | None = None
    transform: str = "none"
    protected: bool = False
    integer: bool = False
    needs: Literal["", "track", "vertex"] = ""
    flat: str = ""

    @property
    def id(self) -> str:
        """Identifier `group/name`."""
        return f"{self.group}/{self.name}"


def _charged() -> list[Feature]:

    def feature(name: str, unit: str, label: str, axis: tuple[int, float, float], **options: object) -> Feature:
        flat = f"Cpfcan_{'BtagPf_' if name.startswith('track') else ''}{name}"
        return Feature("charged", name, unit, label, axis, flat=flat, **options)  # type: ignore[arg-type]

    def link(branch: str) -> tuple[str, ...]:
        return (*TRACK, f"JetPFCands_{branch}")

    return [
        feature("trackEtaRel", "", r"track $\eta_{rel}$", (100, 0, 8), read=link("btagEtaRel"), derived=TRACK, low=-5, high=15),
        feature("trackPtRel", "GeV", r"track $p_{T,rel}$", (100, 0, 4), derived=CHARGED, low=-1, high=4),
        feature("trackPPar", "GeV", r"track $p_{par}$", (100, 0, 300), derived=CHARGED, low=-1e5, high=1e5, transform="log"),
        feature("trackDeltaR", "", r"$\Delta R$(track, jet)", (100, 0, 0.4), derived=CHARGED, low=-5, high=5),
        feature("trackPParRatio", "", r"track $p_{par}/p$", (100, 0, 1), read=link("btagPParRatio"), derived=TRACK, low=-10, high=100),
        feature("trackSip2dVal", "cm", r"signed $IP_{2D}$", (100, -0.2, 0.5), derived=TRACK, low=-1, high=70, transform="log100", needs="track"),
        feature("trackSip2dSig", "", r"signed $IP_{2D}$ significance", (100, -1, 50), derived=TRACK, low=-1, high=4e4, transform="log", needs="track"),
        feature("trackSip3dVal", "cm", r"signed $IP_{3D}$", (100, -0.2, 0.5), read=link("btagSip3dVal"), derived=TRACK, low=-1, high=1e5, transform="log100", needs="track"),
        feature("trackSip3dSig", "", r"signed $IP_{3D}$ significance", (100, -1, 50), read=link("btagSip3dSig"), derived=TRACK, low=-1, high=4e4, transform="log", needs="track"),
        feature("trackJetDistVal", "cm", "distance(track, jet axis)", (100, -0.2, 0), read=link("btagJetDistVal"), derived=TRACK, low=-20, high=1, transform="log100", needs="track"),
        feature("ptrel", "", r"$p_T/p_T^{jet} - 1$", (100, -1, 0), derived=CHARGED, low=-1, high=0),
        feature("drminsv", "", r"min. $\Delta R$(cand., SV) $-$ 0.4", (100, -0.4, 0), derived=CHARGED, low=-0.4, high=0, needs="vertex"),
        feature("VTX_ass", "", "vertex association quality", (8, 0, 8), read=(*CHARGED, "PFCands_pvAssocQuality"), protected=True, integer=True),
        feature("puppiw", "", "PUPPI weight", (50, 0, 1), read=(*CHARGED, "PFCands_puppiWeight"), protected=True),
        feature("chi2", "", r"track $\chi^2$/ndf", (50, 0, 50), read=(*CHARGED, "PFCands_trkChi2"), default=-1, replacement=-1, low=-1, high=300, transform="log", protected=True, needs="track"),
        feature("quality", "", "track quality mask", (8, 0, 8), read=(*CHARGED, "PFCands_trkQuality"), default=1, replacement=1, protected=True, integer=True, needs="track"),
    ]  # fmt: skip


def _neutral() -> list[Feature]:
    def feature(name: str, label: str, axis: tuple[int, float, float], **options: object) -> Feature:
        return Feature("neutral", name, "", label, axis, flat=f"Npfcan_{name}", **options)  # type: ignore[arg-type]

    return [
        feature("ptrel", r"$p_T/p_T^{jet} - 1$", (100, -1, 0), derived=NEUTRAL, low=-1, high=0),
        feature("etarel", r"$|\Delta\eta|$(cand., jet) $-$ 0.5", (100, -0.5, 0), derived=NEUTRAL, low=-2, high=0),
        feature("phirel", r"$|\Delta\phi|$(cand., jet) $-$ 0.5", (100, -0.5, 0), derived=NEUTRAL, low=-2, high=0),
        feature("deltaR", r"$\Delta R$(cand., jet) $-$ 0.6", (100, -0.6, 0), derived=NEUTRAL, low=-0.6, high=0),
        feature("isGamma", "is a photon", (2, 0, 2), derived=(*NEUTRAL, "PFCands_pdgId"), protected=True, integer=True),
        feature("HadFrac", "hadronic calorimeter fraction", (50, 0, 1)),
        feature("drminsv", r"min. $\Delta R$(cand., SV) $-$ 0.4", (100, -0.4, 0), derived=NEUTRAL, low=-0.4, high=0, needs="vertex"),
        feature("puppiw", "PUPPI weight", (50, 0, 1), read=(*NEUTRAL, "PFCands_puppiWeight"), protected=True),
    ]  # fmt: skip


def _sv() -> list[Feature]:
    def feature(name: str, unit: str, label: str, axis: tuple[int, float, float], **options: object) -> Feature:
        if "derived" not in options:
            branch = {"enratio": "enration"}.get(name, name)
            options["read"] = (*SV_VECTOR, f"JetSVs_{branch}")
        return Feature("sv", name, unit, label, axis, flat=f"sv_{name}", **options)  # type: ignore[arg-type]

    return [
        feature("pt", "GeV", r"SV $p_T$", (100, 0, 400), transform="log"),
        feature("deltaR", "", r"$\Delta R$(SV, jet) $-$ 0.5", (100, -0.5, 0), low=-2, high=0),
        feature("mass", "GeV", "SV mass", (100, 0, 10), transform="log"),
        feature("etarel", "", r"$|\Delta\eta|$(SV, jet) $-$ 0.5", (100, -0.5, 0), derived=SV_VECTOR, low=-2, high=0),
        feature("phirel", "", r"$|\Delta\phi|$(SV, jet) $-$ 0.5", (100, -0.5, 0), derived=SV_VECTOR, low=-2, high=0),
        feature("ntracks", "", "SV tracks", (15, 0, 15), protected=True, integer=True),
        feature("chi2", "", r"SV $\chi^2$", (100, 0, 20), transform="log"),
        feature("normchi2", "", r"SV $\chi^2$/ndf", (100, 0, 8), replacement=1000, low=-1000, high=1000, transform="log"),
        feature("dxy", "cm", "SV 2D flight distance", (100, 0, 5), transform="log"),
        feature("dxysig", "", "SV 2D flight significance", (100, 0, 200), low=-1, high=800, transform="log"),
        feature("d3d", "cm", "SV 3D flight distance", (100, 0, 5), transform="log"),
        feature("d3dsig", "", "SV 3D flight significance", (100, 0, 200), low=-1, high=800, transform="log"),
        feature("costhetasvpv", "", r"cos $\theta$(SV momentum, flight)", (100, -1, 1)),
        feature("enratio", "", r"$E_{SV}/E_{jet}$", (100, 0, 1)),
    ]  # fmt: skip


def _jet() -> list[Feature]:
    def feature(name: str, unit: str, label: str, axis: tuple[int, float, float], **options: object) -> Feature:
        return Feature("jet", name, unit, label, axis, **options)  # type: ignore[arg-type]

    def deepcsv(name: str, label: str, axis: tuple[int, float, float], **options: object) -> Feature:
        settings: dict[str, object] = {"default": -999.0, "replacement": -999.0, **options}
        return feature(name, "", label, axis, read=(f"Jet_DeepCSV_{name}",), flat=f"TagVarCSV_{name}", **settings)

    counts = {"protected": True, "integer": True}
    return [
        feature("pt", "GeV", r"jet $p_T$", (60, 0, 300), read=("Jet_pt",), flat="jet_pt", transform="log"),
        feature("eta", "", r"jet $\eta$", (25, -2.5, 2.5), read=("Jet_eta",), flat="jet_eta"),
        feature("nCpfcand", "", "charged candidates", (50, 0, 50), derived=CANDIDATES, flat="nCpfcand", **counts),
        feature("nNpfcand", "", "neutral candidates", (50, 0, 50), derived=CANDIDATES, flat="nNpfcand", **counts),
        feature("nsv", "", "secondary vertices", (10, 0, 10), derived=("JetSVs_jetIdx",), flat="nsv", **counts),
        feature("npv", "", "primary vertices", (100, 0, 100), read=("PV_npvs",), flat="npv", **counts),
        deepcsv("trackSumJetEtRatio", r"$E_T$(tracks)/$E_T$(jet)", (28, 0, 5)),
        deepcsv("trackSumJetDeltaR", r"$\Delta R$(track sum, jet)", (30, -0.001, 0.301)),
        deepcsv("vertexCategory", "vertex category", (26, -0.6, 2.6), **counts),
        deepcsv("trackSip2dValAboveCharm", r"$IP_{2D}$ of the track above charm [cm]", (24, -0.06, 0.06), transform="log100"),
        deepcsv("trackSip2dSigAboveCharm", r"$IP_{2D}$ significance of the track above charm", (22, -5.5, 5.5), transform="log"),
        deepcsv("trackSip3dValAboveCharm", r"$IP_{3D}$ of the track above charm [cm]", (24, -0.06, 0.06), transform="log100"),
        deepcsv("trackSip3dSigAboveCharm", r"$IP_{3D}$ significance of the track above charm", (26, -6.5, 6.5), transform="log"),
        deepcsv("jetNSelectedTracks", "selected tracks", (25, 0, 25), high=100, **counts),
        deepcsv("jetNTracksEtaRel", r"tracks with $\eta_{rel}$", (15, 0, 15), default=-1, replacement=-1, **counts),
    ]  # fmt: skip


FEATURES: dict[str, Feature] = {feature.id: feature for feature in (*_jet(), *_charged(), *_neutral(), *_sv())}
"""All features by identifier, in the order of the inputs; a study's own ones come behind (`declare`)."""

_SHIPPED = frozenset(FEATURES)

_CANDIDATE_JET = ("pt", "eta", "nCpfcand", "nNpfcand", "nsv", "npv")


def _names(group: Group, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(f.name for f in FEATURES.values() if f.group == group and f.name not in without)


INPUT_SETS: dict[str, dict[Group, tuple[str, ...]]] = {
    "constituents": {
        "jet": _CANDIDATE_JET,
        "charged": _names("charged"),
        "neutral": _names("neutral", without=("HadFrac",)),
        "sv": _names("sv"),
    },
    "deepjet": {
        "jet": _names("jet"),
        "charged": _names("charged"),
        "neutral": ("ptrel", "deltaR", "isGamma", "HadFrac", "drminsv", "puppiw"),
        "sv": _names("sv", without=("etarel", "phirel")),
    },
}
"""Shipped input sets: names per group, in order (cms-sw/cmssw:RecoBTag/ONNXRuntime/src/tensor_fillers.cc)."""


def features_of(input_set: str) -> tuple[str, ...]:
    """Return the identifiers of an input set, group by group, in order."""
    return tuple(f"{group}/{name}" for group, names in INPUT_SETS[input_set].items() for name in names)


def inputs_of(inputs: Inputs) -> tuple[str, ...]:
    """Return the identifiers of the card's inputs, group by group, in order: those it lists, or those of its set.

    Raises
    ------
    CardError
        Naming features that neither the table nor `jets.tree.features` has, or that stand twice.
    """
    if inputs.features is None:
        return features_of(inputs.set)
    unknown = [name for name in inputs.features if name not in FEATURES]
    if unknown:
        hints = ", ".join(nearest(unknown[0], FEATURES)) or "none"
        raise CardError(f"inputs.features: {unknown[0]!r} is no feature (group/name); nearest: {hints}")
    if len(set(inputs.features)) != len(inputs.features):
        raise CardError("inputs.features: a feature is named twice")
    return tuple(name for group in GROUPS for name in inputs.features if name.partition("/")[0] == group)


def declare(features: Iterable[Feature]) -> None:
    """Add a study's own features to the table; the table's shipped ones stay as they are.

    Raises
    ------
    CardError
        When a shipped feature is declared anew.
    """
    for feature in features:
        if feature.id in _SHIPPED:
            raise CardError(f"jets.tree.features: {feature.id} is in the table of features; give yours another name")
        FEATURES[feature.id] = feature


def own_features(tree: JetTree) -> list[Feature]:
    """Return the features that a card declares for its tree of jets."""
    found = []
    for identifier, own in tree.features.items():
        group, _, name = identifier.partition("/")
        settings = own.model_dump(exclude={"branch", "label"})
        label = own.label or name
        found.append(Feature(group, name, label=label, replacement=own.default, **settings))  # type: ignore[arg-type]
    return found


def transformed(values: NDArray[np.floating], transform: str) -> NDArray[np.floating]:
    """Apply a transform: sign(x) ln(1 + s abs(x)), or nothing for `none`.

    Parameters
    ----------
    values : ndarray of float, any shape
        In the feature's unit.
    transform : str
        `none` or a key of `LOG_SCALES`.

    Returns
    -------
    ndarray, same shape and dtype
    """
    if transform == "none":
        return values
    # not log1p: what it is better in, values far below 1/s, is below what float32 keeps once the mean is subtracted
    return np.copysign(np.log(1 + LOG_SCALES[transform] * np.abs(values)), values)


def transformed_back(values: NDArray[np.floating], transform: str) -> NDArray[np.floating]:
    """Undo `transformed`."""
    if transform == "none":
        return values
    return np.copysign(np.expm1(np.abs(values)) / LOG_SCALES[transform], values)
