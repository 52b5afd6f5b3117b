"""Sites: defaults under the card's keys, key by key; shipped ones are sound; problems name the site file."""

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.showing import resolved_yaml
from pfnano_tag.card.site import SHIPPED, merged
from pfnano_tag.errors import CardError

CARD = "study: {name: s}\ndatasets: [{name: d, files: x.root, kind: data, luminosity: 1, roles: [analyze]}]\n"


@pytest.fixture
def card(tmp_path):
    def write(text, overrides=()):
        (tmp_path / "card.yaml").write_text(CARD + text)
        return read_card(tmp_path / "card.yaml", overrides)

    return write


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_shipped_sites_are_sound_and_say_that_they_are_not_tried(card, name):
    found = card(f"site: {name}\n")
    assert found.submit.backend in ("condor", "slurm")
    assert "NOT TRIED" in (SHIPPED / f"{name}.yaml").read_text()


def test_what_the_card_says_wins_key_by_key(card):
    found = card("site: lxplus\nsubmit: {memory: 3000, condor: {+AccountingGroup: '\"b\"'}}\n")
    assert found.submit.backend == "condor"
    assert found.submit.memory == 3000
    assert found.submit.condor == {"+JobFlavour": '"longlunch"', "+AccountingGroup": '"b"'}
    assert card("site: lxplus\n", ["submit.time=10", "submit.disk=500"]).submit.time == 10
    assert card("", ["site=naf"]).submit.memory == 1500


def test_a_resolved_card_reads_back_to_itself(card, tmp_path):
    found = card("site: naf\nsubmit: {memory: 1200}\n")
    (tmp_path / "again.yaml").write_text(resolved_yaml(found))
    assert read_card(tmp_path / "again.yaml") == found


def test_a_site_changes_no_result(card):
    assert card("site: rwth\n").hash("datasets", "jets") == card("").hash("datasets", "jets")


def test_own_site_files_and_their_problems(card, tmp_path):
    site = tmp_path / "my site.yaml"
    site.write_text("submit: {backend: slurm, slurm: {partition: short}}\nresources: {memory: 1.2}\n")
    found = card(f"site: '{site}'\n")
    assert (found.submit.slurm, found.resources.memory) == ({"partition": "short"}, 1.2)
    site.write_text("submit: {backnd: slurm}\njets: {}\n")
    with pytest.raises(CardError) as error:
        card(f"site: '{site}'\n")
    assert "my site.yaml" in str(error.value)
    assert "backend" in str(error.value)
    assert "jets" in str(error.value)
    with pytest.raises(CardError, match="no such site.*lxplus"):
        card("site: nowhere\n")
    with pytest.raises(CardError, match="site"):
        card("site: 3\n")


def test_merging_is_deep_and_touches_nothing():
    under, over = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}, "e": None}
    assert merged(under, over) == {"a": {"b": 1, "c": [2]}, "d": 2, "e": None}
    assert under == {"a": {"b": 1, "c": [1]}, "d": 2}
