"""The selections of regions once more, as loops over events in plain Python; they take the card's section."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import uproot

MUON, ELECTRON = 0.1056583755, 0.00051099895


@dataclass
class Found:
    """Raw cutflow by step, filled jets as (event, jet), weights and quantities of selected events."""

    left: dict[str, int] = field(default_factory=dict)
    jets: list[tuple[int, int]] = field(default_factory=list)
    factors: dict[int, float] = field(default_factory=dict)
    values: dict[int, dict[str, float]] = field(default_factory=dict)

    def passes(self, step, condition=True):
        self.left.setdefault(step, 0)
        self.left[step] += bool(condition)
        return condition


def read(path):
    """Return the events of a file as dictionaries of collections and of plain values."""
    with uproot.open(path) as file:
        tree = file["Events"]
        columns = tree.arrays(
            [b.name for b in tree.branches if not b.name.startswith("GenPart")], library="ak"
        ).to_list()
    events = []
    for column in columns:
        event = {key: value for key, value in column.items() if not isinstance(value, list)}
        for name in ("Jet", "Muon", "Electron"):
            keys = [key for key in column if key.startswith(f"{name}_")]
            event[name] = [
                {"index": i, "mass": ELECTRON if name == "Electron" else MUON}
                | {key.removeprefix(f"{name}_"): column[key][i] for key in keys}
                for i in range(len(column[f"{name}_pt"]))
            ]
        events.append(event)
    return events


def f4(value):
    return float(np.float32(value))


def distance(a, b):
    return math.hypot(a["eta"] - b["eta"], math.remainder(a["phi"] - b["phi"], 2 * math.pi))


def mass_of(*leptons):
    px = sum(o["pt"] * math.cos(o["phi"]) for o in leptons)
    py = sum(o["pt"] * math.sin(o["phi"]) for o in leptons)
    pz = sum(o["pt"] * math.sinh(o["eta"]) for o in leptons)
    energy = sum(math.sqrt((o["pt"] * math.cosh(o["eta"])) ** 2 + o["mass"] ** 2) for o in leptons)
    return math.sqrt(max(energy**2 - px**2 - py**2 - pz**2, 0))


def transverse_mass(lepton, event, met):
    angle = math.remainder(lepton["phi"] - event[f"{met}_phi"], 2 * math.pi)
    return 2 * math.sqrt(lepton["pt"] * event[f"{met}_pt"]) * abs(math.sin(angle / 2))


def good_muons(event, pt, isolation=0.15):
    return [
        m for m in event["Muon"]
        if m["pt"] > pt and abs(m["eta"]) < 2.4 and m["tightId"] and m["pfRelIso04_all"] <= f4(isolation)
    ]  # fmt: skip


def good_electrons(event, pt, tight=False):
    found = []
    for e in event["Electron"]:
        supercluster = abs(e["eta"] + e["deltaEtaSC"])
        wanted = e["cutBased"] == 4 if tight else e["mvaFall17V2Iso_WP80"]
        if e["pt"] > pt and abs(e["eta"]) < 2.5 and not 1.4442 <= supercluster <= 1.566 and wanted:
            found.append(e)
    return found


def soft_muons(event, region):
    low, high = region.soft_muon_pt
    return [
        m for m in event["Muon"]
        if low < m["pt"] < high and abs(m["eta"]) < 2.4 and m["tightId"]
        and m["pfRelIso04_all"] > f4(region.soft_muon_isolation)
    ]  # fmt: skip


def good_jets(event, region):
    """Jets in the acceptance of section `jets` by default, with the region's identification."""
    bits = {"none": 0, "tight": 2, "tight_lepton_veto": 4}[region.jet_id]
    isolated = good_muons(event, 12) + good_electrons(event, 15)
    return [
        j for j in event["Jet"]
        if 20 <= j["pt"] <= 1000 and abs(j["eta"]) <= 2.5 and j["jetId"] & bits == bits
        and all(distance(j, o) > 0.4 for o in isolated)
    ]  # fmt: skip


def hardest(jets, number):
    ordered = sorted(jets, key=lambda j: (-j["pt"], j["index"]))
    return ordered if number == "all" else ordered[:number]


def started(found, event, region, triggers):
    if not found.passes("events"):
        return False
    if triggers and not found.passes("trigger", any(event[name] for name in triggers)):
        return False
    filters = region.met_filters
    return not filters or found.passes("event filters", all(event[name] for name in filters))


def fill(found, number, jets, factor, values):
    found.jets += sorted((number, j["index"]) for j in jets)
    found.factors[number] = factor
    found.values[number] = values


def ttbar_dilepton(events, region):
    found = Found()
    for number, event in enumerate(events):
        if not started(found, event, region, region.triggers):
            continue
        mus, els = good_muons(event, region.muon_pt), good_electrons(event, region.electron_pt, tight=True)
        if not (found.passes("one muon", len(mus) == 1) and found.passes("one electron", len(els) == 1)):
            continue
        if not found.passes("opposite charge", mus[0]["charge"] + els[0]["charge"] == 0):
            continue
        away = region.lepton_jet_distance
        jets = [j for j in good_jets(event, region) if all(distance(j, o) > away for o in (mus[0], els[0]))]
        if found.passes("jets", len(jets) >= region.min_jets):
            values = {
                "muon_pt": mus[0]["pt"],
                "electron_pt": els[0]["pt"],
                "lepton_pair_mass": mass_of(mus[0], els[0]),
            }
            fill(found, number, hardest(jets, region.jets), 1, values)
    return found


def ttbar_semileptonic(events, region):
    found = Found()
    for number, event in enumerate(events):
        if not started(found, event, region, region.triggers):
            continue
        mus = good_muons(event, region.muon_pt, region.muon_isolation)
        met = event[f"{region.met}_pt"]
        if not (found.passes("one muon", len(mus) == 1) and found.passes("missing momentum", met > region.met_pt)):
            continue
        jets = [j for j in good_jets(event, region) if distance(j, mus[0]) > region.lepton_jet_distance]
        if found.passes("jets", len(jets) >= region.min_jets):
            w_mass = transverse_mass(mus[0], event, region.met)
            values = {"muon_pt": mus[0]["pt"], "met": met, "transverse_mass": w_mass}
            fill(found, number, hardest(jets, region.jets), 1, values)
    return found


def qcd(events, region):
    found = Found()
    data = "genWeight" not in events[0]
    for number, event in enumerate(events):
        if not started(found, event, region, ()):
            continue
        jets = good_jets(event, region)
        if not found.passes("jets", jets):
            continue
        leading = max(j["pt"] for j in jets)
        fired = [
            p for p, (low, high) in region.windows.items() if low <= leading and (high is None or leading < high)
        ]
        if found.passes("trigger window", fired and event[fired[0]]):
            fill(found, number, hardest(jets, region.jets), region.prescales.get(fired[0], 1) if data else 1, {})
    return found


def qcd_muon(events, region):
    found = Found()
    for number, event in enumerate(events):
        if not started(found, event, region, region.triggers):
            continue
        jets = good_jets(event, region)
        muons = soft_muons(event, region)
        if not (found.passes("jets", jets) and found.passes("soft muon", muons)):
            continue
        inside = {j["index"]: [m for m in muons if m["jetIdx"] == j["index"]] for j in jets}
        for jet in jets:
            inside[jet["index"]] = [m for m in inside[jet["index"]] if distance(m, jet) <= region.soft_muon_distance]
        muon_jets = [j for j in jets if inside[j["index"]]]
        if found.passes("muon jet", muon_jets):
            first = inside[hardest(muon_jets, 1)[0]["index"]]
            values = {"soft_muon_pt": max(m["pt"] for m in first)}
            fill(found, number, hardest(muon_jets, region.jets), 1, values)
    return found


def w_c(events, region):
    found = Found()
    muon = region.lepton == "muon"

    def chosen(key, with_muons, with_electrons):
        value = getattr(region, key)
        return value if value is not None else with_muons if muon else with_electrons

    triggers = chosen("triggers", ("HLT_IsoMu24", "HLT_IsoMu27"), ("HLT_Ele32_WPTight_Gsf_L1DoubleEG",))
    veto = chosen("veto_mass", (80, 100), (-1, -1))
    for number, event in enumerate(events):
        if not started(found, event, region, triggers):
            continue
        pt = chosen("lepton_pt", 30, 34)
        leptons = good_muons(event, pt) if muon else good_electrons(event, pt)
        if not found.passes("one lepton", len(leptons) == 1):
            continue
        lepton, every = leptons[0], good_muons(event, 12) + good_electrons(event, 15)
        if not found.passes("no other lepton", len(every) == 1):
            continue
        prompt = lepton["pfRelIso04_all" if muon else "pfRelIso03_all"] < f4(region.lepton_isolation)
        prompt &= abs(lepton["dz"]) < f4(chosen("lepton_dz", 0.01, 0.02))
        prompt &= abs(lepton["dxy"]) < f4(chosen("lepton_dxy", 0.002, 0.01))
        prompt &= lepton["sip3d"] < chosen("lepton_sip3d", 2, 2.5)
        if lepton["jetIdx"] >= 0:
            prompt &= lepton["pt"] / event["Jet"][lepton["jetIdx"]]["pt"] > region.lepton_jet_pt_ratio
        if not found.passes("prompt lepton", prompt):
            continue
        jets = [j for j in good_jets(event, region) if distance(j, lepton) > region.lepton_jet_distance]
        if not found.passes("jets", region.num_jets[0] <= len(jets) <= region.num_jets[1]):
            continue
        least = chosen("soft_muon_dxy_significance", 1, 0)
        soft = [m for m in soft_muons(event, region) if m["dxyErr"] > 0 and abs(m["dxy"]) / m["dxyErr"] > least]
        if not found.passes("soft muon", soft):
            continue
        good = {j["index"]: j for j in jets if j["muEF"] + j["neEmEF"] < chosen("energy_fraction", 0.7, 1)}
        soft = [m for m in soft if m["jetIdx"] in good]
        soft = [m for m in soft if distance(m, good[m["jetIdx"]]) <= region.soft_muon_distance]
        if not found.passes("muon jet", soft):
            continue
        inner = hardest(soft, 1)[0]
        jet = good[inner["jetIdx"]]
        ratio, mass, w_mass = (
            inner["pt"] / jet["pt"],
            mass_of(lepton, inner),
            transverse_mass(lepton, event, region.met),
        )
        if not found.passes("muon pT share", ratio < chosen("soft_muon_pt_ratio", 0.4, 0.6)):
            continue
        if not found.passes("pair mass", mass > chosen("pair_mass", 12, 0) and not veto[0] <= mass <= veto[1]):
            continue
        if not found.passes("transverse mass", w_mass > region.transverse_mass):
            continue
        opposite = lepton["charge"] + inner["charge"] == 0
        if found.passes("OS - SS") if region.subtract_same_sign else found.passes("opposite sign", opposite):
            values = {"lepton_pt": lepton["pt"], "soft_muon_pt": inner["pt"], "soft_muon_pt_ratio": ratio}
            values |= {"lepton_pair_mass": mass, "transverse_mass": w_mass}
            fill(found, number, [jet], 1 if opposite else -1, values)
    return found
