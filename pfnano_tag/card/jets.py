"""Section `jets`: which jets are looked at, in training and in data/MC alike, and where files keep them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section

NTUPLE_LABELS: dict[str, tuple[str, ...]] = {
    "b": ("isB",),
    "bb": ("isBB", "isGBB"),
    "lepb": ("isLeptonicB", "isLeptonicB_C"),
    "c": ("isC", "isCC", "isGCC"),
    "uds": ("isUD", "isS"),
    "g": ("isG",),
}
"""Flags of DeepNTuples (DL4Jets/DeepNTuples: JetFlavor) by flavour class."""


class OwnFeature(Section):
    """An input that the table of features doesn't have, of a tree of jets."""

    branch: str
    """Branch of the tree: a value per jet, or (groups of constituents) a list of them."""

    label: str = ""
    """Axis label; empty: its name."""

    unit: str = ""
    """Unit; empty for pure numbers."""

    axis: tuple[Annotated[int, Field(ge=1)], float, float] = (100, 0.0, 1.0)
    """Bins, lower and upper end of plots."""

    default: float = 0.0
    """Value of a placeholder: where the branch holds NaN or infinity."""

    low: float | None = None
    """Lower bound; null: none."""

    high: float | None = None
    """Upper bound; null: none."""

    transform: Literal["none", "log", "log100"] = "none"
    """Before scaling: `log` is sign(x) ln(1 + abs(x)), `log100` the same of 100 x."""

    protected: bool = False
    """Never attacked."""

    integer: bool = False
    """Whether values are whole numbers."""


class JetTree(Section):
    """A plain tree with one entry per jet, as DeepNTuples and other trainings use; its branches by name."""

    name: str = ""
    """The tree; empty: the only one of a file that has no tree `Events`."""

    branches: dict[str, str | None] = Field(default_factory=dict)
    """What is where: `Jet_pt` (and eta, phi, mass), `run`, `luminosityBlock`, `event`, `genWeight`, features
    (`charged/ptrel`), four-vectors (`charged/px`, py, pz, energy), the number of constituents where a branch has a
    fixed length (`charged/n`). What is not named has DeepNTuples' name; null: the tree doesn't have it."""

    features: dict[Annotated[str, Field(pattern=r"^(jet|charged|neutral|sv)/[A-Za-z0-9_]+$")], OwnFeature] = Field(
        default_factory=dict
    )
    """Inputs that the table of features doesn't have, by `group/name`; name them in `inputs.features` to use them."""

    labels: dict[str, tuple[str, ...]] = Field(default_factory=lambda: dict(NTUPLE_LABELS))
    """Flavour class -> branches of flags, any of which makes a jet one of the class; `flavour=5` asks for a value."""

    position_identifies: bool = False
    """Trees without run, luminosity section and event: take file and entry as the event's identity. Jets of one event
    may then fall into different splits."""

    candidate_pt: Annotated[float, Field(ge=0)] = 0.95
    """Lowest transverse momentum of the candidates in the tree [GeV]; must be that of section `inputs`."""

    @model_validator(mode="after")
    def _labels(self) -> JetTree:
        for flavour, flags in self.labels.items():
            if flavour not in NTUPLE_LABELS:
                raise ValueError(f"labels: {flavour!r} is no flavour class; there are {', '.join(NTUPLE_LABELS)}")
            for flag in flags:
                _, asked, value = flag.partition("=")
                if asked and not _is_number(value):
                    raise ValueError(f"labels.{flavour}: {flag!r} asks for {value!r}, expected a number: branch=5")
        return self


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Jets(Section):
    """Acceptance of the jets, and their place in the files."""

    collection: Literal["Jet", "FatJet"] = "Jet"
    """Jet collection of the files: AK4 (`Jet`) or AK8 (`FatJet`)."""

    pt: tuple[float, float] = (20.0, 1000.0)
    """Range of the transverse momentum, both ends included [GeV]."""

    abs_eta: Annotated[float, Field(gt=0)] = 2.5
    """Upper end of abs(eta), included."""

    lepton_overlap: Annotated[float, Field(ge=0)] = 0.4
    """Jets closer than this to an isolated lepton are dropped (Delta R; 0: none are)."""

    mix: tuple[Literal["layouts", "types"], ...] = ()
    """What may differ between the files of one training: `layouts` of the files, `types` of jets (CHS, PUPPI)."""

    tree: JetTree = JetTree()
    """Files with one entry per jet instead of a tree `Events`."""

    @model_validator(mode="after")
    def _range(self) -> Jets:
        if not 0 <= self.pt[0] < self.pt[1]:
            raise ValueError(f"pt must be a range of two rising numbers, not {list(self.pt)}")
        return self
