"""Says what files are: layout, kind, events, jets, flavours, features that can be had, weights, taggers, speed.

Reads: PFNano (or NanoAOD) files, trees of jets; of these the branches that features and counts are made from.
Writes: a table, or with --json one JSON object {"files": [...]}, to standard output.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pfnano_tag.card.command import exit_code_of, parser_for
from pfnano_tag.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pfnano_tag.card.jets import Jets
    from pfnano_tag.nano.reader import Chunk, PFNanoFile

FLAVOURS = ("b", "bb", "c", "uds", "g", "undefined")
TRUTH = ("Jet_hadronFlavour", "Jet_partonFlavour", "Jet_nBHadrons", "Jet_FlavSplit")


def inspect_file(path: str, jets: Jets | None = None) -> dict[str, Any]:
    """Return what a file is.

    Parameters
    ----------
    path : str
        Local path or `root://` address.
    jets : Jets, optional
        Section of a card: the jet collection, and the names in a plain tree of jets.

    Returns
    -------
    dict
        JSON-ready: `path`, `trees` (entries by name), `container`, `compression`, `layout` (see `nano.layouts`;
        `unknown`: no jets), `jet_type`, `kind`, `events`, `jets`, `flavours` (jets by class; empty for data),
        `features` (identifier: `read`, `derived` or `missing`), `defaults` (identifier: share of placeholders among
        the jets or constituents that have the feature, null where there are none), `targets` (truth that further
        heads of a network learn from: the branches that the file lacks for it, none where it can be had; empty for
        data), `sums_of_weights`,
        `stored_taggers`, `reading` (collection: branches that features need, their uncompressed bytes, CPU seconds).

    Raises
    ------
    FileError
        When the file can't be opened, or has neither a tree `Events` nor one of jets.
    BadChunk
        When a branch that features or counts are made from can't be read.
    """
    from pfnano_tag.nano.reader import PFNanoFile
    from pfnano_tag.nano.schema import FEATURES, JET_VECTOR
    from pfnano_tag.nano.taggers import stored_branches
    from pfnano_tag.nano.targets import TARGETS, lacking

    with PFNanoFile(path, jets) as file:
        has_jets = {"Jet_pt", "nJet"} <= file.branches
        features = {name: file.contents.status(feature) for name, feature in FEATURES.items()}
        there = [name for name, status in features.items() if status != "missing"]
        counts = _count(file, there if file.branches.issuperset(JET_VECTOR) else [], has_jets)
        return {
            "path": path,
            "trees": dict(file.trees),
            "container": file.tree.kind,
            "compression": file.tree.compression,
            "layout": file.layout if has_jets else "unknown",
            "jet_type": file.jet_type,
            "kind": file.kind,
            "events": file.num_entries,
            **counts,
            "features": features,
            "targets": {name: lacking(name, file.branches) for name in TARGETS} if file.kind == "mc" else {},
            "sums_of_weights": _sums(file),
            "stored_taggers": stored_branches(file.branches),
        }


def _sums(file: PFNanoFile) -> dict[str, float] | None:
    """Return the sums of weights of tree `Runs`; None without (data)."""
    runs = file.runs
    return None if runs is None else {"count": runs.count, "sumw": runs.sumw, "sumw2": runs.sumw2}


def _count(file: PFNanoFile, features: list[str], has_jets: bool) -> dict[str, Any]:
    """Count jets, flavours and placeholders, chunk by chunk; measure the reading."""
    from pfnano_tag.nano.features import branches_for

    known = file.kind == "mc" and file.branches & set(TRUTH)
    jets, flavours = 0, Counter({name: 0 for name in FLAVOURS if known})
    entries: Counter[str] = Counter()
    placeholders: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    collections = _by_collection(branches_for(features, file.contents)) if features else {}
    for start, stop in _plan(file, collections) if has_jets else ():
        chunk = file.chunk(start, stop)
        for name, branches in collections.items():
            started = time.process_time()
            chunk.load(branches)
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
        jets += len(chunk["Jet_pt"].values)
        if file.kind == "mc":
            flavours.update(_flavours(chunk))
        for name, (total, default) in _placeholders(chunk, features).items():
            entries[name] += total
            placeholders[name] += default
        chunk.drop()
    shares = {name: placeholders[name] / entries[name] if entries[name] else None for name in features}
    reading = {
        name: {"branches": len(some), "bytes": file.uncompressed_bytes(some), "cpu_seconds": seconds.get(name, 0.0)}
        for name, some in collections.items()
    }
    return {"jets": jets, "flavours": dict(flavours), "defaults": shares, "reading": reading}


def _by_collection(branches: Iterable[str]) -> dict[str, list[str]]:
    """Return branches by their collection: `PFCands_pt` is of `PFCands`, `charged/ptrel` of `charged`."""
    found: dict[str, list[str]] = {}
    for name in sorted(branches):
        found.setdefault(name.partition("/" if "/" in name else "_")[0], []).append(name)
    return found


def _plan(file: PFNanoFile, collections: Mapping[str, list[str]]) -> Iterable[tuple[int, int]]:
    from pfnano_tag.card.resources import Resources

    branches = [name for some in collections.values() for name in some] or ["Jet_pt"]
    return file.plan(branches, Resources().chunk_bytes)


def _flavours(chunk: Chunk) -> dict[str, int]:
    """Count jets by `Jet_FlavSplit`, else by hadron and parton flavour (bb where b hadrons are counted; no lepb).

    AK8 jets have no parton flavour: their light jets are `light`.
    """
    import numpy as np

    if "Jet_FlavSplit" in chunk.branches:
        return _flavours_of_codes(chunk["Jet_FlavSplit"].values)
    if "Jet_hadronFlavour" not in chunk.branches:
        return {}
    chunk.load(name for name in TRUTH if name in chunk.branches)
    hadron = chunk["Jet_hadronFlavour"].values.astype(np.int64)
    two_b = chunk["Jet_nBHadrons"].values > 1 if "Jet_nBHadrons" in chunk.branches else np.zeros(len(hadron), bool)
    light = (hadron != 5) & (hadron != 4)
    masks = {
        "b": (hadron == 5) & ~two_b,
        "bb": (hadron == 5) & two_b,
        "c": hadron == 4,
    }
    if "Jet_partonFlavour" in chunk.branches:
        parton = np.abs(chunk["Jet_partonFlavour"].values.astype(np.int64))
        masks |= {"uds": light & (parton >= 1) & (parton <= 3), "g": light & (parton == 21)}
    else:
        masks["light"] = light
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    return {**counts, "undefined": len(hadron) - sum(counts.values())}


def _flavours_of_codes(codes: NDArray[Any]) -> dict[str, int]:
    """Count jets by `Jet_FlavSplit`."""
    hundreds = codes // 100
    counts = {
        "b": codes == 500,
        "lepb": (codes == 520) | (codes == 521),
        "bb": (codes == 510) | (codes == 511),
        "c": hundreds == 4,
        "uds": (codes == 1) | (codes == 2),
        "g": codes == 0,
    }
    found = {name: int(mask.sum()) for name, mask in counts.items()}
    return {**found, "undefined": len(codes) - sum(found.values())}


def _placeholders(chunk: Chunk, features: list[str]) -> dict[str, tuple[int, int]]:
    """Return, for each feature, how many values there are and how many are placeholders."""
    if not features:
        return {}
    import numpy as np

    from pfnano_tag.card.inputs import Inputs
    from pfnano_tag.nano.features import read_jets

    contents = chunk.file.contents
    caps = Inputs().caps.model_dump()
    for flat, slots in contents.slots.items():  # as many as the file holds
        group = {"Cpfcan": "charged", "Npfcan": "neutral", "sv": "sv"}[flat.partition("_")[0]]
        caps[group] = min(caps[group], len(slots))
    candidate_pt = Inputs().candidate_pt if contents.candidate_pt is None else contents.candidate_pt
    every_jet = np.ones(len(chunk["Jet_pt"].values), dtype=np.bool_)
    table = read_jets(chunk, features, every_jet, caps, candidate_pt)
    return {name: (len(table.column(name)), int(table.default_mask(name).sum())) for name in features}


def as_text(found: Mapping[str, Any]) -> str:
    """Return a file's description as a table for people."""
    trees = ", ".join(f"{name} ({entries})" for name, entries in found["trees"].items())
    lines = [
        found["path"],
        f"  container    {found['container']}, {found['compression']}; trees: {trees}",
        f"  layout       {found['layout']}{_layout_hint(found['layout'])}; jets: {found['jet_type']}",
        f"  kind         {found['kind']}",
        f"  events       {found['events']}",
        f"  jets         {found['jets']}",
    ]
    if found["flavours"]:
        lines.append("  flavours     " + ", ".join(f"{name} {count}" for name, count in found["flavours"].items()))
    sums = found["sums_of_weights"]
    if sums:
        lines.append(f"  sums         {sums['count']} events generated, sum of weights {sums['sumw']:.8g}")
    taggers = [f"{tagger} ({', '.join(scores)})" for tagger, scores in found["stored_taggers"].items()]
    lines.append(f"  taggers      {', '.join(taggers) or 'none stored'}")
    lines += _feature_lines(found["features"], found["defaults"])
    lines += [f"  truth    {_how(absent):<8} {name}" for name, absent in found["targets"].items()]
    lines += [f"  reading      {name}: {_speed(one)}" for name, one in found["reading"].items()]
    return "\n".join(lines)


def _layout_hint(layout: str) -> str:
    return {
        "nano": " (no particle-flow candidates: networks can't run, stored taggers can be compared)",
        "unknown": " (no jets: branches nJet and Jet_pt are missing)",
    }.get(layout, "")


def _feature_lines(features: Mapping[str, str], defaults: Mapping[str, float | None]) -> list[str]:
    """Return one line per feature group and status; shares of placeholders stand behind the names."""
    lines = []
    for group in dict.fromkeys(name.split("/")[0] for name in features):
        for status in ("read", "derived", "missing"):
            names = [name for name, state in features.items() if state == status and name.startswith(f"{group}/")]
            if names:
                shown = ", ".join(name.split("/")[1] + _share(defaults.get(name)) for name in names)
                lines.append(f"  {group:<8} {status:<8} {shown}")
    return lines


def _how(absent: list[str]) -> str:
    return "missing" if absent else "derived"


def _share(share: float | None) -> str:
    return f" ({100 * share:.1f}% default)" if share else ""


def _speed(one: Mapping[str, float]) -> str:
    """Return size and speed of a collection's branches in words."""
    size, seconds = one["bytes"] / 1e6, one["cpu_seconds"]
    rate = f", {size / seconds:.0f} MB per CPU second" if seconds > 0.01 else ""
    return f"{one['branches']:.0f} branches, {size:.2f} MB uncompressed{rate}"


def feature_table() -> str:
    """Return where each layout has each feature, as a Markdown table."""
    from pfnano_tag.nano.layouts import source_in
    from pfnano_tag.nano.schema import FEATURES

    rows: list[tuple[str, ...]] = [("feature", "candidates, btvnano", "deepjet", "jets (DeepNTuples)")]
    for name, feature in FEATURES.items():
        rows.append((name, *(source_in(feature, layout) for layout in ("candidates", "deepjet", "jets"))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = parser_for("inspect", __doc__, card=False)
    made.add_argument("files", nargs="*", metavar="FILE", help="ROOT files, globs, .txt lists or root:// addresses")
    made.add_argument("--features", action="store_true", help="print where each layout has each feature, and end")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--collection", choices=["Jet", "FatJet"], help="jet collection (default: the card's, or Jet)")
    made.add_argument("--card", metavar="CARD", help="study card whose section jets names a plain tree's branches")
    return made


def run(options: argparse.Namespace) -> None:
    """Inspect all files, then print; a file that can't be read is an error before anything is printed."""
    import json

    from pfnano_tag.card.files import expand_files
    from pfnano_tag.errors import BadChunk, FileError

    if options.features:
        print(feature_table())
        return
    if not options.files:
        raise UserError("name files to inspect, or ask for --features")
    try:
        jets = _jets(options)
        found = [inspect_file(path, jets) for path in expand_files(options.files)]
    except BadChunk as error:
        raise FileError(f"{error} (the file is damaged)") from error
    if options.json:
        print(json.dumps({"files": found}, indent=1, allow_nan=False))
    else:
        print("\n\n".join(as_text(one) for one in found))


def _jets(options: argparse.Namespace) -> Jets:
    """Return the section `jets` that the options ask for."""
    from pfnano_tag.card import read_card
    from pfnano_tag.card.jets import Jets

    jets = read_card(options.card).jets if options.card else Jets()
    return jets.model_copy(update={"collection": options.collection}) if options.collection else jets


if __name__ == "__main__":
    arguments = parser().parse_args()
    sys.exit(exit_code_of(lambda: run(arguments), verbose=arguments.verbose))
