"""Gets studies ready: prepares their cards; trains the networks of those that have some, or writes them untrained."""

from __future__ import annotations

import json

import torch

from benchmarks.measuring import options_of_side
from benchmarks.sides.untrained import write_untrained
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.train import stage as train


def main() -> None:
    """Prepare, then train or write; print the number of jets of each study."""
    torch.set_num_threads(1)
    jets = []
    options = options_of_side()
    for path in options["cards"]:
        card = read_card(path)
        prepare.run(card)
        prepared = read_prepared(prepared_path(card), card)
        jets.append(prepared.total("train"))
        if options.get("untrained"):
            write_untrained(card, prepared.inputs, prepared.classes)
        elif card.models:
            train.run(card)
    print(json.dumps({"jets": jets}))


if __name__ == "__main__":
    main()
