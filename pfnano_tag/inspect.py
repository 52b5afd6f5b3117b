"""Says what files are: layout, kind, events, jets, flavours, which features can be had, sums of weights, taggers.

Reads: PFNano (or NanoAOD) files, of which only the branches that are counted.
Writes: a table, or with --json one JSON object {"files": [...]}, to standard output.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pfnano_tag.card.command import exit_code_of, parser_for

if TYPE_CHECKING:
    from pfnano_tag.nano.reader import Chunk, PFNanoFile

FLAVOURS = ("b", "bb", "c", "uds", "g", "undefined")
TRUTH = ("Jet_hadronFlavour", "Jet_partonFlavour", "Jet_nBHadrons")


def inspect_file(path: str) -> dict[str, Any]:
    """Return what a file is.

    Parameters
    ----------
    path : str
        Local path or `root://` address.

    Returns
    -------
    dict
        JSON-ready: `path`, `trees` (entries by name), `container`, `compression`, `layout` (`candidates`, `nano`:
        no particle-flow candidates, `unknown`: no jets), `kind`, `events`, `jets`, `flavours` (jets by class;
        empty for data), `features` (identifier: `read`, `derived` or `missing`), `defaults` (identifier: share of
        placeholders among the jets or constituents that have the feature, null where there are none),
        `sums_of_weights`, `stored_taggers`.

    Raises
    ------
    FileError
        When the file can't be opened or has no tree `Events`.
    BadChunk
        When a branch that is counted can't be read.
    """
    from pfnano_tag.nano.layouts import status_of
    from pfnano_tag.nano.reader import PFNanoFile
    from pfnano_tag.nano.schema import FEATURES
    from pfnano_tag.nano.taggers import stored_branches

    with PFNanoFile(path) as file:
        has_jets = {"Jet_pt", "nJet"} <= file.branches
        features = {name: status_of(feature, file.branches) for name, feature in FEATURES.items()}
        counts = _count(file, [name for name, status in features.items() if status != "missing"], has_jets)
        return {
            "path": path,
            "trees": _trees(file),
            "container": file.tree.classname,
            "compression": _compression(file),
            "layout": file.layout if has_jets else "unknown",
            "kind": file.kind,
            "events": file.num_entries,
            **counts,
            "features": features,
            "sums_of_weights": _sums(file),
            "stored_taggers": stored_branches(file.branches),
        }


def _trees(file: PFNanoFile) -> dict[str, int]:
    """Return the entries of each tree of the file."""
    directory = file.tree.file.root_directory
    trees = [key.split(";")[0] for key, kind in directory.classnames(recursive=False).items() if kind == "TTree"]
    return {name: int(directory[name].num_entries) for name in dict.fromkeys(trees)}


def _compression(file: PFNanoFile) -> str:
    """Return the compression of most branches of `Events`, as `LZMA 9`."""
    kinds = Counter(
        "none" if branch.compression is None else f"{branch.compression.name} {branch.compression.level}"
        for branch in file.tree.branches
    )
    return kinds.most_common(1)[0][0] if kinds else "none"


def _sums(file: PFNanoFile) -> dict[str, float] | None:
    """Return the sums of weights of tree `Runs`; None without (data)."""
    runs = file.runs
    return None if runs is None else {"count": runs.count, "sumw": runs.sumw, "sumw2": runs.sumw2}


def _count(file: PFNanoFile, features: list[str], has_jets: bool) -> dict[str, Any]:
    """Count jets, flavours and placeholders, chunk by chunk."""
    jets, flavours = 0, Counter({name: 0 for name in FLAVOURS if file.kind == "mc"})
    entries: Counter[str] = Counter()
    placeholders: Counter[str] = Counter()
    for start, stop in _plan(file) if has_jets else ():
        chunk = file.chunk(start, stop)
        jets += int(chunk["nJet"].sum())
        if file.kind == "mc":
            flavours.update(_flavours(chunk))
        for name, (total, default) in _placeholders(chunk, features).items():
            entries[name] += total
            placeholders[name] += default
        chunk.drop()
    shares = {name: placeholders[name] / entries[name] if entries[name] else None for name in features}
    return {"jets": jets, "flavours": dict(flavours), "defaults": shares}


def _plan(file: PFNanoFile) -> Iterable[tuple[int, int]]:
    from pfnano_tag.card.resources import Resources

    branches = [name for name in file.branches if name.startswith(("Jet", "PFCands", "SV"))]
    return file.plan(branches, Resources().chunk_bytes)


def _flavours(chunk: Chunk) -> dict[str, int]:
    """Count jets by hadron and parton flavour; bb only where the file counts b hadrons; no leptonic b here."""
    import numpy as np

    if not {"Jet_hadronFlavour", "Jet_partonFlavour"} <= chunk.branches:
        return {}
    chunk.load(name for name in TRUTH if name in chunk.branches)
    hadron = chunk["Jet_hadronFlavour"].values.astype(np.int64)
    parton = np.abs(chunk["Jet_partonFlavour"].values.astype(np.int64))
    two_b = chunk["Jet_nBHadrons"].values > 1 if "Jet_nBHadrons" in chunk.branches else np.zeros(len(hadron), bool)
    light = (hadron != 5) & (hadron != 4)
    masks = {
        "b": (hadron == 5) & ~two_b,
        "bb": (hadron == 5) & two_b,
        "c": hadron == 4,
        "uds": light & (parton >= 1) & (parton <= 3),
        "g": light & (parton == 21),
    }
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    return {**counts, "undefined": len(hadron) - sum(counts.values())}


def _placeholders(chunk: Chunk, features: list[str]) -> dict[str, tuple[int, int]]:
    """Return, for each feature, how many values there are and how many are placeholders."""
    if not features:
        return {}
    import numpy as np

    from pfnano_tag.card.inputs import Inputs
    from pfnano_tag.nano.features import read_jets

    inputs = Inputs()
    every_jet = np.ones(int(chunk["nJet"].sum()), dtype=np.bool_)
    table = read_jets(chunk, features, every_jet, inputs.caps.model_dump(), inputs.candidate_pt)
    return {name: (len(table.column(name)), int(table.default_mask(name).sum())) for name in features}


def as_text(found: Mapping[str, Any]) -> str:
    """Return a file's description as a table for people."""
    trees = ", ".join(f"{name} ({entries})" for name, entries in found["trees"].items())
    lines = [
        found["path"],
        f"  container    {found['container']}, {found['compression']}; trees: {trees}",
        f"  layout       {found['layout']}{_layout_hint(found['layout'])}",
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


def _share(share: float | None) -> str:
    return f" ({100 * share:.1f}% default)" if share else ""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = parser_for("inspect", __doc__, card=False)
    made.add_argument("files", nargs="+", metavar="FILE", help="ROOT files, globs, .txt lists or root:// addresses")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def run(options: argparse.Namespace) -> None:
    """Inspect all files, then print; a file that can't be read is an error before anything is printed."""
    import json

    from pfnano_tag.card.files import expand_files
    from pfnano_tag.errors import BadChunk, FileError

    try:
        found = [inspect_file(path) for path in expand_files(options.files)]
    except BadChunk as error:
        raise FileError(f"{error} (the file is damaged)") from error
    if options.json:
        print(json.dumps({"files": found}, indent=1, allow_nan=False))
    else:
        print("\n\n".join(as_text(one) for one in found))


if __name__ == "__main__":
    arguments = parser().parse_args()
    sys.exit(exit_code_of(lambda: run(arguments), verbose=arguments.verbose))
