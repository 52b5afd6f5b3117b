"""Section `generate`: samples that the study makes itself with the embedded generator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section

#: decay modes that can be forced, by process; the first is the default
DECAYS: dict[str, tuple[str, ...]] = {
    "ttbar": ("all", "dilepton"),
    "qcd": ("all",),
    "dy": ("mumu", "ee", "leptons"),
    "wjets": ("leptons", "munu", "enu"),
}
#: flavours that can be asked for, by process; the first is the default
FLAVOURS: dict[str, tuple[str, ...]] = {
    "ttbar": ("all",),
    "qcd": ("all", "bb", "cc"),
    "dy": ("all",),
    "wjets": ("all", "charm"),
}


LAYOUTS = ("candidates", "btvnano", "deepjet", "jets")
CONTAINERS = ("ttree", "rntuple")
#: layouts with particle-flow candidates
WITH_CANDIDATES = ("candidates", "btvnano")


def layout_problem(layout: str, candidates: str, fat_jets: bool) -> str:
    """Say what a layout can't hold of what is asked for; empty where all fits."""
    if layout in WITH_CANDIDATES:
        return ""
    asked = [*(["all candidates"] if candidates == "all" else []), *(["AK8 jets"] if fat_jets else [])]
    if not asked:
        return ""
    return f"layout {layout} has no candidates: {' and '.join(asked)} need layout {' or '.join(WITH_CANDIDATES)}"


class GenerateOptions(Section):
    """What can be chosen about a hard process."""

    pt_hat: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.0, 0.0)
    """Range of the hard scattering's transverse momentum [GeV]; a lower end of 0 is the process's default
    (qcd 30, dy 20, wjets 20, ttbar none), an upper end of 0 is open."""

    flat: bool = False
    """QCD only: weighted events, flat in pT-hat."""

    decays: Literal["", "all", "dilepton", "mumu", "ee", "leptons", "munu", "enu"] = ""
    """Forced decays: ttbar all, dilepton; dy mumu, ee, leptons; wjets leptons, munu, enu
    [default: the first of the process]."""

    flavour: Literal["all", "bb", "cc", "charm"] = "all"
    """qcd: bb or cc, only heavy-quark pair production; wjets: charm, only W+c."""


class GenerateSample(Section):
    """One sample of generated files."""

    process: Literal["ttbar", "qcd", "dy", "wjets"]
    """Hard process."""

    events: Annotated[int, Field(ge=1, le=10_000_000)] = 5000
    """Events per file."""

    files: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Number of files."""

    mode: Literal["mc", "data", "truth"] = "mc"
    """`data`: another tune and another detector response, and no truth in the file; `truth`: the very events that
    `data` makes with the same name and seed, with the truth in the file, to check what was measured without it."""

    options: GenerateOptions = GenerateOptions()
    """Choices about the hard process."""

    @model_validator(mode="after")
    def _options_fit(self) -> GenerateSample:
        options, low, high = self.options, *self.options.pt_hat
        if options.decays and options.decays not in DECAYS[self.process]:
            allowed = ", ".join(DECAYS[self.process])
            raise ValueError(f"options.decays: {options.decays!r} is none of {self.process}'s: {allowed}")
        if options.flavour not in FLAVOURS[self.process]:
            allowed = ", ".join(FLAVOURS[self.process])
            raise ValueError(f"options.flavour: {options.flavour!r} is none of {self.process}'s: {allowed}")
        if high and high <= low:
            raise ValueError(f"options.pt_hat: must be two rising numbers (or an upper end of 0), not {[low, high]}")
        if options.flat and self.process != "qcd":
            raise ValueError(f"options.flat: for qcd only, not {self.process}")
        return self


class Generate(Section):
    """Samples of the embedded generator."""

    workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Processes that make files at the same time."""

    underlying_event: Literal["overlay", "pythia"] = "overlay"
    """`pythia`: full multiparton interactions; `overlay`: a minimum-bias event per event, several times faster."""

    compression: Literal["zstd", "lzma"] = "zstd"
    """`lzma`: as CMS files, smaller and much slower to write."""

    layout: Literal["candidates", "btvnano", "deepjet", "jets"] = "candidates"
    """How the same events are stored: PFNano's candidate collections, NanoAOD of Run 3 (v15) with the same, plain
    NanoAOD with flat DeepJet inputs, or a plain tree with one entry per jet (as DeepNTuples)."""

    container: Literal["ttree", "rntuple"] = "ttree"
    """What holds the events: ROOT's TTree or RNTuple."""

    fat_jets: bool = False
    """With AK8 jets, their candidates and vertices (layouts `candidates` and `btvnano`)."""

    candidates: Literal["jets", "all"] = "jets"
    """`all`: PFCands holds all candidates, not only those in jets (as some PFNano productions do)."""

    samples: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], GenerateSample] = Field(default_factory=dict)
    """Samples by name."""

    @model_validator(mode="after")
    def _layout_holds_all(self) -> Generate:
        problem = layout_problem(self.layout, self.candidates, self.fat_jets)
        if problem:
            raise ValueError(f"layout: {problem}")
        return self
