"""What the job histograms: variables with their axes, and the order of their categories.

Flavours of one (region, model, variant, systematic) are neighbours, and so are its bootstrap replicas: a block of
rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pfnano_tag.analyze.pairs import axis_of, cells_of, pair_name
from pfnano_tag.analyze.result import ALL_FLAVOURS, NO_MODEL, NOMINAL, Category, Kind, Variable
from pfnano_tag.analyze.selections import cut_quantities_of, quantities_of
from pfnano_tag.analyze.systematics import names_of
from pfnano_tag.card import Card
from pfnano_tag.errors import CardError
from pfnano_tag.infer.discriminants import DISCRIMINANTS
from pfnano_tag.nano.schema import FEATURES
from pfnano_tag.nano.taggers import score_range

UNDEFINED_FLAVOUR, DATA_FLAVOUR = "undefined", "data"
LOGIT_BINS, LOGIT_LOW, LOGIT_HIGH = 480, -12.0, 12.0
"""Fine binning of ln(D / (1 - D)), from which bins of equal simulated yield are made."""

_Axis = tuple[int, float, float]
KINEMATICS: dict[str, tuple[str, str, _Axis]] = {
    "jet_pt": (r"jet $p_T$", "GeV", (100, 0.0, 1000.0)),
    "jet_eta": (r"jet $\eta$", "", (50, -2.5, 2.5)),
    "num_jets": ("jets", "", (11, -0.5, 10.5)),
}
OF_REGIONS: dict[str, tuple[str, str, _Axis]] = {
    "dilepton_mass": (r"$m_{\ell\ell}$", "GeV", (62, 60.0, 122.0)),
    "dilepton_pt": (r"$p_T^{\ell\ell}$", "GeV", (60, 0.0, 300.0)),
    "lepton_pair_mass": ("mass of the two leptons", "GeV", (60, 0.0, 300.0)),
    "muon_pt": (r"muon $p_T$", "GeV", (60, 0.0, 300.0)),
    "electron_pt": (r"electron $p_T$", "GeV", (60, 0.0, 300.0)),
    "lepton_pt": (r"isolated lepton $p_T$", "GeV", (60, 0.0, 300.0)),
    "met": (r"$p_T^{miss}$", "GeV", (60, 0.0, 300.0)),
    "transverse_mass": (r"$m_T$", "GeV", (60, 0.0, 300.0)),
    "soft_muon_pt": (r"soft muon $p_T$", "GeV", (50, 0.0, 50.0)),
    "soft_muon_pt_ratio": (r"soft muon $p_T$ / jet $p_T$", "", (50, 0.0, 1.0)),
}
"""Quantities of events that only some selections have (`Recipe.quantities`)."""

WITHOUT_CUT: dict[str, _Axis] = {"dilepton_mass": (100, 0.0, 200.0)}
"""Axes of quantities without the cut on them (N-1), where that needs more room."""


@dataclass(frozen=True)
class Network:
    """What the histograms need to know of a network.

    Parameters
    ----------
    name : str
        Name in categories.
    classes : tuple of str
        Output nodes.
    inputs : tuple of str
        Identifiers of its inputs.
    """

    name: str
    classes: tuple[str, ...]
    inputs: tuple[str, ...]


def flavours_of(card: Card, kind: str) -> tuple[str, ...]:
    """Return the flavour axis: the study's classes and `undefined` for simulation, `data` for data."""
    return (DATA_FLAVOUR,) if kind == "data" else (*card.labels.classes, UNDEFINED_FLAVOUR)


def chosen_inputs(card: Card, networks: Iterable[Network]) -> tuple[str, ...]:
    """Return the identifiers of the inputs that are histogrammed, in the order of the feature table."""
    asked = card.histograms.inputs
    if asked == "none":
        return ()
    used = {name for network in networks for name in network.inputs}
    return tuple(name for name in FEATURES if name in (used if asked == "all" else asked))


def variables_of(card: Card, kind: str, networks: Sequence[Network], stored: Iterable[str]) -> dict[str, Variable]:
    """Return all variables of a job by name.

    Parameters
    ----------
    card : Card
        Sections `regions`, `labels`, `histograms`, `comparison`.
    kind : str
        `mc` or `data`.
    networks : sequence of Network
        Networks that are applied.
    stored : iterable of str
        Branches of stored taggers.
    """
    flavours = flavours_of(card, kind)
    builder = _Builder(
        tuple(card.regions),
        flavours,
        (NOMINAL, *card.histograms.variants),
        names_of(card, kind),
        card.comparison.replicas,
        card.histograms.systematics_of_variants,
    )
    found = [
        builder.plain(name, "kinematics", name, label, unit, axis) for name, (label, unit, axis) in KINEMATICS.items()
    ]
    for name, (label, unit, axis) in {**OF_REGIONS, "num_jets": KINEMATICS["num_jets"]}.items():
        having = tuple(region for region, section in card.regions.items() if name in quantities_of(section))
        if having and name in OF_REGIONS:
            found.append(builder.plain(name, "kinematics", name, label, unit, axis, having))
        cut = tuple(region for region, section in card.regions.items() if name in cut_quantities_of(section))
        if cut:
            found.append(builder.without_cut(name, label, unit, WITHOUT_CUT.get(name, axis), cut))
    for name, one in card.histograms.expressions.items():
        words, axis = one.label or one.expression, (one.bins, *one.range)
        found.append(builder.plain(name, "expression", one.expression, words, one.unit, axis))
    found += [builder.plain(f"stored_{b}", "stored", b, b, "", _stored_axis(card, b)) for b in stored]
    found += [builder.of_input(name, networks) for name in chosen_inputs(card, networks)]
    if networks:
        found += builder.of_scores(card, networks)
    for pair in card.histograms.pairs:
        of_scores = any(name in DISCRIMINANTS for name in pair)
        if networks or not of_scores:
            found.append(builder.pair(card, pair, [network.name for network in networks] if of_scores else []))
    return _each_once(found)


def _each_once(found: Iterable[Variable]) -> dict[str, Variable]:
    """Return variables by name; the card's own may not take that of another one."""
    variables: dict[str, Variable] = {}
    for variable in found:
        other = variables.setdefault(variable.name, variable)
        if other is not variable:
            raise CardError(f"histograms.expressions.{variable.name}: the job has a variable of that name already")
    return variables


def input_name(feature: str) -> str:
    """Return the variable name of an input `group/name`."""
    return "input_" + feature.replace("/", "_")


def without_cut_name(quantity: str) -> str:
    """Return the variable name of a quantity without the cut on it (N-1)."""
    return f"without_cut_{quantity}"


def _stored_axis(card: Card, branch: str) -> _Axis:
    low, high = score_range(branch)
    return card.histograms.bins, low, high


@dataclass(frozen=True)
class _Builder:
    regions: tuple[str, ...]
    flavours: tuple[str, ...]
    variants: tuple[str, ...]
    systematics: tuple[str, ...]
    replicas: int
    of_variants: bool

    def blocks(self, region: str, model: str = NO_MODEL, variant: str = NOMINAL, replicas: int = 0) -> list[Category]:
        """Return the categories of all systematics; the nominal one may have replicas."""
        found = []
        for systematic in self.systematics if variant == NOMINAL or self.of_variants else (NOMINAL,):
            found += [Category(region, flavour, model, variant, systematic) for flavour in self.flavours]
            if systematic == NOMINAL:
                found += [Category(region, ALL_FLAVOURS, model, variant, NOMINAL, i) for i in range(replicas)]
        return found

    def plain(
        self, name: str, kind: Kind, quantity: str, label: str, unit: str, axis: _Axis, regions: Sequence[str] = ()
    ) -> Variable:
        """Return a variable that needs no network."""
        categories = [category for region in regions or self.regions for category in self.blocks(region)]
        return Variable(name, kind, quantity, label, unit, *axis, tuple(categories))

    def without_cut(self, name: str, label: str, unit: str, axis: _Axis, regions: Sequence[str]) -> Variable:
        """Return a quantity of the events that pass all cuts but that on it."""
        words = f"{label}, all other cuts"
        return self.plain(without_cut_name(name), "kinematics", name, words, unit, axis, regions)

    def of_input(self, feature: str, networks: Sequence[Network]) -> Variable:
        """Return an input: nominal once, attacked per network that has it."""
        entry = FEATURES[feature]
        attacked = [] if entry.protected else [n.name for n in networks if feature in n.inputs]
        pairs = [(NO_MODEL, NOMINAL), *((model, v) for model in attacked for v in self.variants[1:])]
        categories = [
            category for region in self.regions for pair in pairs for category in self.blocks(region, *pair)
        ]
        bins, low, high = entry.axis
        unit, label = entry.unit, entry.label
        return Variable(input_name(feature), "input", feature, label, unit, bins, low, high, tuple(categories))

    def of_scores(self, card: Card, networks: Sequence[Network]) -> list[Variable]:
        """Return output nodes, discriminants and their logits."""
        nodes = list(dict.fromkeys(node for network in networks for node in network.classes))
        names = {node: [n.name for n in networks if node in n.classes] for node in nodes}
        everyone = [network.name for network in networks]
        bins = card.histograms.bins
        found = []
        if card.histograms.outputs:
            found += [self._scores(f"output_{n}", "output", n, f"P({n})", (bins, 0.0, 1.0), names[n]) for n in nodes]
        for name in card.histograms.discriminants:
            found.append(self._scores(name, "discriminant", name, name, (bins, 0.0, 1.0), everyone))
            label, axis = rf"$\ln\,({name}/(1-{name}))$", (LOGIT_BINS, LOGIT_LOW, LOGIT_HIGH)
            found.append(self._scores(f"agreement_{name}", "agreement", name, label, axis, everyone))
        return found

    def pair(self, card: Card, pair: tuple[str, str], models: Sequence[str]) -> Variable:
        """Return a two-dimensional variable; without models one of kinematics alone."""
        axes = axis_of(pair[0], card.histograms), axis_of(pair[1], card.histograms)
        name, quantity, label = pair_name(pair), ":".join(pair), " : ".join(pair)
        flat = cells_of(axes), 0.0, float(cells_of(axes))
        if models:
            return replace(self._scores(name, "pair", quantity, label, flat, models), axes=axes)
        return replace(self.plain(name, "pair", quantity, label, "", flat), axes=axes)

    def _scores(
        self, name: str, kind: Kind, quantity: str, label: str, axis: _Axis, models: Sequence[str]
    ) -> Variable:
        categories = []
        for region in self.regions:
            for model in models:
                for variant in self.variants:
                    categories += self.blocks(region, model, variant, self.replicas if kind == "agreement" else 0)
        return Variable(name, kind, quantity, label, "", *axis, tuple(categories))


def blocks_of(variable: Variable) -> Mapping[tuple[str, str, str, str], int]:
    """Return the first row of each (region, model, variant, systematic): its flavours follow, then its replicas."""
    starts: dict[tuple[str, str, str, str], int] = {}
    for row, category in enumerate(variable.categories):
        starts.setdefault((category.region, category.model, category.variant, category.systematic), row)
    return starts
