"""Gets studies ready: prepares their cards, and trains the networks of those that have some."""

from __future__ import annotations

import json

import torch

from benchmarks.measuring import options_of_side
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.train import stage as train


def main() -> None:
    """Prepare and train; print the number of jets of each study."""
    torch.set_num_threads(1)
    jets = []
    for path in options_of_side()["cards"]:
        card = read_card(path)
        prepare.run(card)
        jets.append(read_prepared(prepared_path(card), card).total("train"))
        if card.models:
            train.run(card)
    print(json.dumps({"jets": jets}))


if __name__ == "__main__":
    main()
