"""Places of tokens against a loop over jets."""

import pytest
import torch
from synthetic import features, random_jets

from pfnano_tag.models.batch import call, collate
from pfnano_tag.models.registry import build
from pfnano_tag.models.tokens import REGISTER, Tokens

SMALL = {
    "particle_transformer": {"embed": [16, 24], "pair": [8, 8], "heads": 4, "blocks": 2},
    "multitask": {"embed": [16], "width": 24, "layers": 2, "heads": 4},
}


def masks(counts, width):
    return torch.arange(width) < torch.tensor(counts)[:, None]


def brute_force(groups, counts, slots):
    """Sequences of the tokens (B, slots, D), jet by jet, group behind group."""
    out = torch.zeros(len(counts[0]), slots, groups[0].shape[1])
    firsts = [0] * len(groups)
    for jet in range(len(out)):
        place = 0
        for number, rows in enumerate(groups):
            for _ in range(counts[number][jet]):
                out[jet, place] = rows[firsts[number]]
                firsts[number], place = firsts[number] + 1, place + 1
    return out


@pytest.mark.parametrize("limit", [None, 1, 9, 20])
@pytest.mark.parametrize(
    "counts", [([3, 0, 4, 2], [1, 0, 0, 5]), ([9, 9], [8, 8]), ([0, 0], [0, 0]), ([16, 16], [0, 0])], ids=str
)
@pytest.mark.parametrize("gradient", [True, False])
def test_sequences_are_those_of_a_loop(counts, limit, gradient):
    generator = torch.Generator().manual_seed(1)
    groups = [torch.randn(sum(some), 3, generator=generator) for some in counts]
    with torch.set_grad_enabled(gradient):
        tokens = Tokens.of([masks(some, 17) for some in counts])
        parts = tokens.parts(limit)
    rows_TD = torch.cat(groups)[tokens.order_T]
    every = torch.arange(len(counts[0]))
    totals = torch.tensor(counts).sum(0)
    whole = brute_force(groups, counts, 64)
    assert tokens.jet_T.tolist() == every.repeat_interleave(totals).tolist()
    assert torch.cat([every[part.jets] for part in parts]).tolist() == every.tolist()
    for part in parts:
        of_part, some_TD = part.tokens, rows_TD[part.rows]
        padded, keys = of_part.padded(some_TD), of_part.keys(some_TD)
        longest = max(1, int(totals[part.jets].max()))
        assert padded.shape[1] == longest
        assert torch.equal(padded, whole[part.jets, :longest])
        assert torch.equal(keys, whole[part.jets, : keys.shape[1]])
        assert keys.shape[1] >= (REGISTER if gradient else longest)
        assert torch.equal(of_part.mask_BL.sum(1), totals[part.jets])
        assert torch.equal(of_part.key_mask_BS.sum(1), totals[part.jets])
        assert torch.equal(of_part.rows(padded), some_TD)


@pytest.mark.parametrize("architecture", ["particle_transformer", "multitask"])
def test_outputs_do_not_depend_on_the_slots_of_keys(architecture):
    """With gradients there are others than without."""
    torch.manual_seed(4)
    module, flat = build(architecture, SMALL[architecture], features(), 6).double().eval(), random_jets(20)
    batch = collate(flat, torch.arange(20)).each(lambda x: x.double() if x.is_floating_point() else x)
    whole = call(module, batch)
    assert whole.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(call(module, batch), whole.detach(), rtol=0, atol=1e-12)
