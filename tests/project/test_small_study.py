"""The study that other tests share is what they take it for."""

import json

from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint


def test_it_is_prepared_and_trained(small_study):
    card = read_card(small_study / "card.yaml")
    assert json.loads(prepared_path(card).read_text())
    tagger = load_checkpoint(find_checkpoint(card, "small:best"))
    assert tagger.classes == card.labels.classes
