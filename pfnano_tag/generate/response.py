"""Everything in which the generator's "data" differ from its simulation, in one place.

=====================================  ==========  ==========  =========================================
field                                  SIMULATION  DATA        meaning
=====================================  ==========  ==========  =========================================
tune                                   Monash      4C-like     Pythia settings (shower, fragmentation, MPI)
track_efficiency                       0.920       0.895       central charged hadrons above 0.5 GeV
ip_scale                               1.00        1.08        true over quoted impact-parameter resolution
ip_tail                                0.025       0.040       fraction of tracks with 3 times the resolution
ip_far_tail                            0.003       0.005       fraction of tracks with 5 times the resolution
ip_bias                                0           2 um        amplitude of a d0 shift, times sin(2 phi)
energy_scale                           1.000       0.985       scale of hadron and photon candidates (JES)
hcal_resolution                        1.00        1.15        factor on the neutral-hadron resolution
pt_resolution                          1.00        1.10        factor on the track pT resolution
vertex_efficiency                      0.93        0.89        chance that a found vertex is kept
fake_track_rate                        0.004       0.006       fake displaced tracks per good track
material                               1.00        1.12        factor on nuclear interactions and conversions
muon_efficiency                        0.96        0.945       tight identification of prompt muons
electron_efficiency                    0.80        0.775       WP80 identification of prompt electrons
trigger_efficiency                     0.94        0.91        per lepton leg at the plateau
pileup                                 30          34          mean number of pile-up interactions
beam_spot                              see below   see below   x, y, z of the beam spot and its length [cm]
=====================================  ==========  ==========  =========================================

Since the truth of the difference is known, a scale factor that is measured with these files can be
checked for closure: mode `truth` makes the events of data with the truth (`python -m benchmarks.closure`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    """Detector response and tune of one mode; the fields are explained in the module's table."""

    tune: tuple[str, ...]
    track_efficiency: float
    ip_scale: float
    ip_tail: float
    ip_far_tail: float
    ip_bias: float
    energy_scale: float
    hcal_resolution: float
    pt_resolution: float
    vertex_efficiency: float
    fake_track_rate: float
    material: float
    muon_efficiency: float
    electron_efficiency: float
    trigger_efficiency: float
    pileup: float
    beam_spot: tuple[float, float, float, float]


SIMULATION = Response(
    tune=("Tune:pp=14",),
    track_efficiency=0.920,
    ip_scale=1.0,
    ip_tail=0.025,
    ip_far_tail=0.003,
    ip_bias=0.0,
    energy_scale=1.0,
    hcal_resolution=1.0,
    pt_resolution=1.0,
    vertex_efficiency=0.93,
    fake_track_rate=0.004,
    material=1.0,
    muon_efficiency=0.96,
    electron_efficiency=0.80,
    trigger_efficiency=0.94,
    pileup=30.0,
    beam_spot=(-0.025, 0.069, 0.30, 3.6),
)

DATA = Response(
    tune=(
        "Tune:pp=5",
        "StringZ:rFactB=0.95",
        "TimeShower:alphaSvalue=0.134",
        "MultipartonInteractions:pT0Ref=2.15",
    ),
    track_efficiency=0.895,
    ip_scale=1.08,
    ip_tail=0.040,
    ip_far_tail=0.005,
    ip_bias=2e-4,
    energy_scale=0.985,
    hcal_resolution=1.15,
    pt_resolution=1.10,
    vertex_efficiency=0.89,
    fake_track_rate=0.006,
    material=1.12,
    muon_efficiency=0.945,
    electron_efficiency=0.775,
    trigger_efficiency=0.91,
    pileup=34.0,
    beam_spot=(0.084, -0.033, 0.80, 3.4),
)


def response_of(mode: str) -> Response:
    """The response of a mode, `"mc"` or `"data"`."""
    return {"mc": SIMULATION, "data": DATA}[mode]
