"""Labels: every code and every branch of the recipe, and ancestry against a loop."""

import awkward as ak
import numpy as np
import pytest

from pfnano_tag.card.labels import FLAVOURS
from pfnano_tag.errors import BadChunk, DataError, MissingBranch
from pfnano_tag.nano.columns import offsets_of
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.labeling import (
    DROP,
    FLAVSPLIT,
    flavours_from_hadrons,
    flavours_of_codes,
    from_heavy_hadron,
    indistinct_in,
    labels_of,
    lacks_neutrinos,
    truth_of,
)
from tests.prepare.candidates_file import content, write

# the table of the producer, written down a second time: code -> class or nothing
PUBLISHED = {
    0: "g", 1: "uds", 2: "uds", 400: "c", 410: "c", 411: "c", 500: "b", 510: "bb", 511: "bb", 520: "lepb",
    521: "lepb", 600: None, 999: None, 1000: None,
}  # fmt: skip


def test_every_code():
    codes = np.array(list(PUBLISHED))
    found = [None if f == DROP else FLAVOURS[f] for f in flavours_of_codes(codes)]
    assert found == list(PUBLISHED.values())
    assert set(FLAVSPLIT) == set(PUBLISHED)


@pytest.mark.parametrize("code", [-1, 3, 412, 998, 1001])
def test_unknown_code_is_refused(code):
    with pytest.raises(DataError, match=rf"sample.root: Jet_FlavSplit has the codes \[{code}\]"):
        flavours_of_codes(np.array([0, code]), "sample.root")


@pytest.mark.parametrize(
    ("hadron", "parton", "n_b", "n_c", "gen_jet", "leptonic", "expected"),
    [
        (5, 5, 1, 0, 0, False, "b"),
        (5, 5, 1, 3, 0, False, "b"),
        (5, 21, 2, 0, 0, True, "bb"),
        (5, 5, 1, 0, 0, True, "lepb"),
        (5, 5, 0, 0, 0, False, None),
        (5, 5, 1, 0, -1, False, None),
        (4, 4, 0, 1, 3, True, "c"),
        (4, 21, 0, 2, 0, False, "c"),
        (0, 21, 0, 0, 0, True, "g"),
        (0, -3, 0, 0, 0, False, "uds"),
        (0, 1, 0, 0, 0, False, "uds"),
        (0, -2, 0, 0, 0, False, "uds"),
        (0, 0, 0, 0, 0, False, None),
        (0, 4, 0, 0, 0, False, None),
        (0, -5, 0, 0, 0, False, None),
        (0, 21, 1, 0, 0, False, None),
        (0, 1, 0, 1, 0, False, None),
        (0, 21, 0, 0, -1, False, None),
        (0, 0, 0, 0, -1, False, None),
    ],
)
def test_recipe(hadron, parton, n_b, n_c, gen_jet, leptonic, expected):
    values = [np.array([x]) for x in (hadron, parton, n_b, n_c, gen_jet, leptonic)]
    (found,) = flavours_from_hadrons(*values)
    assert (None if found == DROP else FLAVOURS[found]) == expected


def test_without_hadron_counts_bb_is_b():
    b = [np.array([x]) for x in (5, 5)]
    rest = [np.array([x]) for x in (0, 0, False)]
    assert FLAVOURS[flavours_from_hadrons(*b, None, *rest)[0]] == "b"


def test_heavy_ancestors_equal_a_walk_to_the_root():
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 40, 50)
    offsets = offsets_of(counts)
    mother = np.concatenate(
        [rng.integers(-1, np.arange(n).clip(1), n) * (np.arange(n) > 0) - (np.arange(n) == 0) for n in counts]
    )
    code = rng.choice([21, 511, -4122, 5122, 411, 12, 600, 399, 3999, 5999, 6000], len(mother))

    def walk(start, i):
        while i >= 0:
            size = abs(code[start + i])
            if 400 <= size < 600 or 4000 <= size < 6000:
                return True
            i = mother[start + i]
        return False

    expected = [walk(offsets[e], i) for e, n in enumerate(counts) for i in range(n)]
    assert from_heavy_hadron(code, mother, offsets).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_a_long_chain_and_a_loop_end():
    chain = np.array([521] + [22] * 999)
    assert from_heavy_hadron(chain, np.arange(-1, 999), np.array([0, 1000])).all()
    assert not from_heavy_hadron(np.array([22, 22]), np.array([1, 0]), np.array([0, 2])).any()
    assert not from_heavy_hadron(np.array([22]), np.array([7]), np.array([0, 1])).any()  # mother out of range


def test_merging_into_classes():
    flavour = np.array([0, 1, 2, 3, 4, 5, DROP], dtype=np.int8)
    assert labels_of(flavour, FLAVOURS).tolist() == [0, 1, 2, 3, 4, 5, DROP]
    assert labels_of(flavour, ("g", "uds", "c", "b")).tolist() == [3, 3, 3, 2, 1, 0, DROP]
    assert labels_of(flavour, ("b", "bb", "c", "uds", "g")).tolist() == [0, 1, 0, 2, 3, 4, DROP]


def brute_force_leptonic(branches, event):
    """Jets of an event near a stable neutrino from a heavy hadron (the third particle of each event)."""
    eta, phi = branches["GenPart_eta"][event][2], branches["GenPart_phi"][event][2]
    near = []
    for jet_eta, jet_phi in zip(branches["Jet_eta"][event], branches["Jet_phi"][event], strict=True):
        d_phi = abs(jet_phi - phi)
        near.append((jet_eta - eta) ** 2 + min(d_phi, 2 * np.pi - d_phi) ** 2 < 0.16)
    return near


def test_leptonic_jets_in_a_file(files):
    branches = content(1)
    with PFNanoFile(files[0]) as file:
        truth = truth_of(file.chunk(0, file.num_entries))
    assert truth.neutrinos == file.num_entries  # one from a heavy hadron per event, the other is prompt
    near = np.concatenate([brute_force_leptonic(branches, e) for e in range(len(branches["event"]))])
    single = np.isin(truth.flavour, [FLAVOURS.index("b"), FLAVOURS.index("lepb")])
    assert np.array_equal(truth.flavour[single] == FLAVOURS.index("lepb"), near.astype(bool)[single])
    assert truth.b_jets == single.sum() > 0


@pytest.mark.parametrize(
    ("branch", "dtype", "words"),
    [
        ("Jet_FlavSplit", "f4", "float32, expected whole"),
        ("Jet_hadronFlavour", "?", "bool, expected whole"),
        ("Jet_nBHadrons", "?", "bool, expected whole"),
        ("Jet_genJetIdx", "u2", "uint16, expected signed"),
        ("Jet_partonFlavour", "u4", "uint32, expected signed"),
        ("GenPart_genPartIdxMother", "f8", "float64, expected whole"),
        ("GenPart_pdgId", "u4", "uint32, expected signed"),
    ],
)
def test_truth_of_another_type_is_a_bad_chunk(tmp_path, branch, dtype, words):
    """Unsigned, -1 would be a large number, and jets without a generator jet would be trained on."""
    branches = content(4, 20)
    branches["Jet_FlavSplit"] = branches["Jet_hadronFlavour"] * 0 + 411
    if branch != "Jet_FlavSplit":
        del branches["Jet_FlavSplit"]
    branches[branch] = ak.values_astype(branches[branch], dtype)
    with (
        PFNanoFile(write(tmp_path / "types.root", branches)) as file,
        pytest.raises(BadChunk, match=f"{branch} holds {words}"),
    ):
        truth_of(file.chunk(0, 20))


def test_unsigned_counts_of_hadrons_are_fine(tmp_path):
    found = []
    for dtype in ("i4", "u1"):
        branches = content(4, 20)
        for name in ("Jet_hadronFlavour", "Jet_nBHadrons", "Jet_nCHadrons"):
            branches[name] = ak.values_astype(branches[name], dtype)
        with PFNanoFile(write(tmp_path / f"{dtype}.root", branches)) as file:
            found.append(truth_of(file.chunk(0, 20)).flavour)
    assert np.array_equal(*found)


def test_flavsplit_is_preferred(tmp_path):
    branches = content(4, 20)
    branches["Jet_FlavSplit"] = branches["Jet_hadronFlavour"] * 0 + 411
    with PFNanoFile(write(tmp_path / "split.root", branches)) as file:
        truth = truth_of(file.chunk(0, 20))
        assert indistinct_in(file.branches) == frozenset()
    assert (truth.flavour == FLAVOURS.index("c")).all()


def test_what_a_file_can_not_tell(tmp_path):
    branches = {name: v for name, v in content(5, 20).items() if name != "Jet_nBHadrons" and "GenPart" not in name}
    with PFNanoFile(write(tmp_path / "plain.root", branches)) as file:
        assert indistinct_in(file.branches) == {"bb", "lepb"}
        flavour = truth_of(file.chunk(0, 20)).flavour
    assert set(flavour) <= {FLAVOURS.index(name) for name in ("b", "c", "uds", "g")} | {DROP}
    assert lacks_neutrinos(100, 0)
    assert not lacks_neutrinos(100, 1)
    assert not lacks_neutrinos(3, 0)


def test_no_truth_is_named(tmp_path):
    branches = {name: v for name, v in content(6, 20).items() if name != "Jet_genJetIdx"}
    with (
        PFNanoFile(write(tmp_path / "none.root", branches)) as file,
        pytest.raises(MissingBranch, match="Jet_genJetIdx"),
    ):
        truth_of(file.chunk(0, 20))
