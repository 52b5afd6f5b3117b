"""Features of jets by plain loops over objects, from their definitions: a twin without code of the package."""

from __future__ import annotations

import math
from typing import Any

from tests.nano.small_events import Event

PION = 0.13957
SV_ERROR = 0.0010
Row = dict[str, float]


def unit(eta: float, phi: float) -> list[float]:
    return [math.cos(phi) / math.cosh(eta), math.sin(phi) / math.cosh(eta), math.tanh(eta)]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def cross(a: list[float], b: list[float]) -> list[float]:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def length(a: list[float]) -> float:
    return math.sqrt(dot(a, a))


def turn(phi: float) -> float:
    return math.remainder(phi, 2 * math.pi)


def clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def nearest(event: Event, candidate: Row) -> float:
    known = [*event["vertices"], *(below(event, row) for row in event["jet_vertices"] if row["sVIdx"] < 0)]
    distances = [math.hypot(v["eta"] - candidate["eta"], turn(v["phi"] - candidate["phi"])) for v in known]
    return min([0.4, *distances])


def below(event: Event, row: Row) -> Row:
    """Direction of a vertex that SV lacks: from its jet's, on the side that its energy tells."""
    jet = event["jets"][int(row["jetIdx"])]
    size = math.sqrt(max((row["deltaR"] + 0.5) ** 2 - row["phirel"] ** 2, 0))
    jet_energy = math.sqrt((jet["pt"] * math.cosh(jet["eta"])) ** 2 + jet["mass"] ** 2)
    momentum = math.sqrt(max((row["enration"] * jet_energy) ** 2 - row["mass"] ** 2, 0))
    sides = [jet["eta"] + size, jet["eta"] - size]
    eta = min(sides, key=lambda side: abs(math.cosh(side) - momentum / row["pt"]))
    return {"eta": eta, "phi": jet["phi"] + row["phirel"]}


def charged(event: Event, jet: Row, link: Row, c: Row, stored: bool) -> Row:
    """All features of a charged candidate; `stored`: btag* branches are there."""
    t, j = unit(c["eta"], c["phi"]), unit(jet["eta"], jet["phi"])
    size = c["pt"] * math.cosh(c["eta"])
    ppar, ptrel = size * dot(t, j), size * length(cross(t, j))
    energy = math.sqrt(size**2 + PION**2)
    track = c["d0Err"] > 0
    out = {
        "trackEtaRel": 0.5 * math.log((energy + ppar) ** 2 / (ptrel**2 + PION**2)),
        "trackPtRel": clip(ptrel, -1, 4),
        "trackPPar": ppar,
        "trackDeltaR": math.hypot(c["eta"] - jet["eta"], turn(c["phi"] - jet["phi"])),
        "trackPParRatio": ppar / size,
        "ptrel": clip(c["pt"] / (jet["pt"] * (1 - jet["rawFactor"])) - 1, -1, 0),
        "drminsv": nearest(event, c) - 0.4,
        "VTX_ass": c["pvAssocQuality"],
        "puppiw": c["puppiWeight"],
        "chi2": c["trkChi2"] if track else -1,
        "quality": c["trkQuality"] if track else 1,
        **impact(c, t, j, jet),
    }
    if stored and track:
        out |= {f"track{name}": link[f"btag{name}"] for name in ("EtaRel", "PParRatio")}
    if stored:
        out |= {f"track{name}": link[f"btag{name}"] for name in ("Sip3dVal", "Sip3dSig", "JetDistVal")}
    impacts = {"trackSip2dVal": 70, "trackSip2dSig": 4e4, "trackSip3dVal": 1e5, "trackSip3dSig": 4e4}
    for name, highest in impacts.items():
        out[name] = clip(out[name], -1, highest) if track else 0
    out["trackJetDistVal"] = clip(out["trackJetDistVal"], -20, 1) if track else 0
    out["trackEtaRel"] = clip(out["trackEtaRel"], -5, 15)
    return out


def impact(c: Row, t: list[float], j: list[float], jet: Row) -> Row:
    r = [-c["d0"] * math.sin(c["phi"]), c["d0"] * math.cos(c["phi"]), c["dz"]]
    along = dot(r, t)
    vector = [x - along * y for x, y in zip(r, t, strict=True)]
    value = math.copysign(length(vector), dot(vector, j))
    flat = math.copysign(abs(c["d0"]), r[0] * j[0] + r[1] * j[1])
    slope = c["dz"] / math.cosh(c["eta"]) ** 2
    variance = c["d0"] ** 2 * (c["d0Err"] ** 2 + SV_ERROR**2) + slope**2 * (c["dzErr"] ** 2 + SV_ERROR**2)
    normal = cross(j, t)
    return {
        "trackSip2dVal": flat,
        "trackSip2dSig": flat / c["d0Err"],
        "trackSip3dVal": value,
        "trackSip3dSig": value / (math.sqrt(variance) / length(vector)),
        "trackJetDistVal": -abs(dot(r, normal)) / length(normal),
    }


def neutral(event: Event, jet: Row, c: Row) -> Row:
    eta, phi = abs(c["eta"] - jet["eta"]), abs(turn(c["phi"] - jet["phi"]))
    return {
        "ptrel": clip(c["pt"] / (jet["pt"] * (1 - jet["rawFactor"])) - 1, -1, 0),
        "etarel": clip(eta - 0.5, -2, 0),
        "phirel": clip(phi - 0.5, -2, 0),
        "deltaR": clip(math.hypot(eta, phi) - 0.6, -0.6, 0),
        "isGamma": float(abs(c["pdgId"]) == 22),
        "drminsv": nearest(event, c) - 0.4,
        "puppiw": c["puppiWeight"],
    }


def vector(c: Row) -> Row:
    p = [c["pt"] * x for x in (math.cos(c["phi"]), math.sin(c["phi"]), math.sinh(c["eta"]))]
    return dict(zip(("px", "py", "pz", "energy"), [*p, math.sqrt(dot(p, p) + c["mass"] ** 2)], strict=True))


def vertex(event: Event, jet: Row, row: Row) -> Row:
    """Features of a secondary vertex, whose direction is that of SV where the file has it."""
    out = {name: row[name] for name in row if name not in ("jetIdx", "sVIdx", "enration", "phirel")}
    out["enratio"] = row["enration"] / (1 - jet["rawFactor"])
    if row["sVIdx"] >= 0:
        sv = event["vertices"][int(row["sVIdx"])]
        eta, phi = abs(sv["eta"] - jet["eta"]), abs(turn(sv["phi"] - jet["phi"]))
    else:
        phi = abs(row["phirel"])
        eta = math.sqrt(max((row["deltaR"] + 0.5) ** 2 - phi**2, 0))
    return out | {"etarel": clip(eta - 0.5, -2, 0), "phirel": clip(phi - 0.5, -2, 0)}


def jets_of(events: list[Event], caps: dict[str, int], lowest_pt: float, stored: bool) -> list[dict[str, Any]]:
    """Per jet: numbers before truncation, and the features of each group's constituents in order."""
    return [_jet(event, j, caps, lowest_pt, stored) for event in events for j in range(len(event["jets"]))]


def _jet(event: Event, j: int, caps: dict[str, int], lowest_pt: float, stored: bool) -> dict[str, Any]:
    jet = event["jets"][j]
    groups: dict[str, list[tuple[Any, Row]]] = {"charged": [], "neutral": [], "sv": []}
    for link in event["links"]:
        c = event["candidates"][int(link["pFCandsIdx"])]
        if link["jetIdx"] != j or c["pt"] < lowest_pt:
            continue
        if c["charge"]:
            row = charged(event, jet, link, c, stored) | vector(c)
            r = unit(c["eta"], c["phi"])
            significance = impact(c, r, unit(jet["eta"], jet["phi"]), jet)["trackSip2dSig"] if c["d0Err"] > 0 else 0
            groups["charged"].append(((-significance, row["drminsv"], -c["pt"]), row))
        else:
            row = neutral(event, jet, c) | vector(c)
            groups["neutral"].append(((row["drminsv"], -c["pt"]), row))
    for link in event["jet_vertices"]:
        if link["jetIdx"] == j:
            groups["sv"].append((-link["dxysig"], vertex(event, jet, link)))
    ordered = {name: [row for _, row in sorted(rows, key=lambda x: x[0])] for name, rows in groups.items()}
    counts = {"nCpfcand": len(ordered["charged"]), "nNpfcand": len(ordered["neutral"]), "nsv": len(ordered["sv"])}
    return {"counts": counts, **{name: rows[: caps[name]] for name, rows in ordered.items()}}
