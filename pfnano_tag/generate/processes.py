"""Hard processes, their options, and the Pythia instances that make them.

Cross sections are Pythia's (leading order); the open branching fractions of forced decays are in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pfnano_tag.card.generate import DECAYS, FLAVOURS
from pfnano_tag.errors import MissingExtra, UserError

if TYPE_CHECKING:
    import pythia8mc

PROCESS_IDS = {"ttbar": 1, "qcd": 2, "dy": 3, "wjets": 4, "minbias": 9}


@dataclass(frozen=True)
class ProcessOptions:
    """What can be chosen about a hard process.

    Parameters
    ----------
    pt_hat : tuple[float, float]
        Range of the hard scattering's transverse momentum [GeV]; (0, 0): the process's default,
        an upper end of 0: open.
    flat : bool
        QCD only: weighted events, flat in pT-hat (`PhaseSpace:bias2Selection` with power 4.5).
    decays : str
        One of `DECAYS[process]`; empty: the first of them.
    flavour : str
        One of `FLAVOURS[process]`: `bb`, `cc` (QCD heavy-flavour production), `charm` (W+c).
    """

    pt_hat: tuple[float, float] = (0.0, 0.0)
    flat: bool = False
    decays: str = ""
    flavour: str = "all"

    def check(self, process: str) -> None:
        """Raise UserError when an option does not fit the process."""
        if process not in DECAYS:
            raise UserError(f"unknown process {process!r}: one of {', '.join(DECAYS)} is expected")
        for key, value, allowed in (
            ("decays", self.decays or DECAYS[process][0], DECAYS[process]),
            ("flavour", self.flavour, FLAVOURS[process]),
        ):
            if value not in allowed:
                raise UserError(f"process {process}: {key} is {value!r}, expected {' or '.join(allowed)}")
        low, high = self.pt_hat
        if low < 0 or (high and high <= low):
            raise UserError(f"process {process}: pt_hat is {low, high}, expected 0 <= low < high (or high 0)")
        if self.flat and process != "qcd":
            raise UserError(f"process {process}: flat is an option of qcd only")


_DEFAULT_PT_HAT = {"ttbar": 0.0, "qcd": 30.0, "dy": 20.0, "wjets": 20.0}

_HARD = {
    ("ttbar", "all"): ("Top:gg2ttbar=on", "Top:qqbar2ttbar=on"),
    ("qcd", "all"): ("HardQCD:all=on",),
    ("qcd", "bb"): ("HardQCD:hardbbbar=on",),
    ("qcd", "cc"): ("HardQCD:hardccbar=on",),
    ("dy", "all"): (
        "WeakBosonAndParton:qqbar2gmZg=on",
        "WeakBosonAndParton:qg2gmZq=on",
        "23:mMin=50",
        "PhaseSpace:mHatMin=50",
    ),
    ("wjets", "all"): ("WeakBosonAndParton:qqbar2Wg=on", "WeakBosonAndParton:qg2Wq=on"),
    ("wjets", "charm"): ("WeakBosonAndParton:qg2Wq=on",),
}

_DECAYS = {
    ("ttbar", "dilepton"): ("24:onMode=off", "24:onIfAny=11 13 15"),
    ("dy", "mumu"): ("23:onMode=off", "23:onIfAny=13"),
    ("dy", "ee"): ("23:onMode=off", "23:onIfAny=11"),
    ("dy", "leptons"): ("23:onMode=off", "23:onIfAny=11 13 15"),
    ("wjets", "leptons"): ("24:onMode=off", "24:onIfAny=11 13 15"),
    ("wjets", "munu"): ("24:onMode=off", "24:onIfAny=13"),
    ("wjets", "enu"): ("24:onMode=off", "24:onIfAny=11"),
}


def settings_of(process: str, options: ProcessOptions) -> list[str]:
    """Pythia settings of a hard process (without tune, seed and underlying event)."""
    options.check(process)
    low = options.pt_hat[0] or _DEFAULT_PT_HAT[process]
    lines = list(_HARD[process, options.flavour])
    lines += _DECAYS.get((process, options.decays or DECAYS[process][0]), ())
    lines += [f"PhaseSpace:pTHatMin={low:g}"]
    if options.pt_hat[1]:
        lines += [f"PhaseSpace:pTHatMax={options.pt_hat[1]:g}"]
    if options.flat:
        lines += ["PhaseSpace:bias2Selection=on", "PhaseSpace:bias2SelectionPow=4.5"]
        lines += [f"PhaseSpace:bias2SelectionRef={low:g}"]
    return lines


def import_pythia() -> Any:
    """The `pythia8mc` module, or a UserError that says how to get it."""
    try:
        import pythia8mc
    except ImportError as error:
        raise MissingExtra(
            f"making events needs pythia8mc, which can't be imported ({error}): pip install 'pfnano_tag[generate]'"
        ) from error
    return pythia8mc


def pythia_seed(sequence: np.random.SeedSequence) -> int:
    """A seed in Pythia's range 1 to 900 000 000."""
    return 1 + int(sequence.generate_state(1)[0]) % 899_999_999


def make_pythia(lines: list[str], tune: tuple[str, ...], mpi: bool, seed: int) -> pythia8mc.Pythia:
    """An initialised Pythia for 13 TeV pp.

    Particles live up to c tau = 1 m, so that K0s, Lambda and hyperons decay (Pythia has no detector).

    Raises
    ------
    UserError
        A setting is not understood, or Pythia can't initialise.
    """
    pythia = import_pythia().Pythia("", False)
    common = [
        "Print:quiet=on",
        "Beams:eCM=13000",
        "ParticleDecays:limitTau0=on",
        "ParticleDecays:tau0Max=1000",
        "Random:setSeed=on",
        f"Random:seed={seed}",
        f"PartonLevel:MPI={'on' if mpi else 'off'}",
    ]
    for line in [*tune, *common, *lines]:
        if not pythia.readString(line):
            raise UserError(f"Pythia does not accept the setting {line!r}")
    if not pythia.init():
        raise UserError(f"Pythia can't initialise with {', '.join(lines)}")
    return pythia
