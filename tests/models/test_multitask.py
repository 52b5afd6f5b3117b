"""The network of several tasks against plain twins: encoder, pooling, heads, losses, and what must hold of each."""

import math

import pytest
import torch
import torch.nn.functional as F
from synthetic import CLASSES, TASKS, features, labelled_jets, random_jets, with_targets
from torch import nn

from pfnano_tag.errors import CardError
from pfnano_tag.models.batch import Batch, GroupBatch, call, call_all, collate
from pfnano_tag.models.batch_tasks import entries_of, total_loss
from pfnano_tag.models.heads import ConstituentHead, PairHead, pairs_of
from pfnano_tag.models.multitask import AttentionPooling, Multitask, MultitaskConfig
from pfnano_tag.models.registry import build, resolve
from pfnano_tag.models.task_losses import FixedWeights, GeometricMean, LearnedWeights, gaussian_nll
from pfnano_tag.models.tasks import KINDS, ConstituentClassification
from pfnano_tag.models.tokens import Tokens
from pfnano_tag.nano.targets import ORIGINS, TARGETS

SMALL = {"embed": [16], "width": 24, "layers": 2, "heads": 4, "out": 12, "head": [10], "activation": "gelu"}


def network(seed=4, **arguments):
    torch.manual_seed(seed)
    module = build("multitask", SMALL | {"tasks": TASKS} | arguments, features(), 6, CLASSES)
    for parameter in module.parameters():  # norms of one and biases of zero would hide mistakes
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0.5, 0.3)
    return module.double().eval()


def batch_of(count=24, seed=3, chosen=None):
    jets = with_targets(labelled_jets(count, seed=seed), seed)
    indices = torch.arange(count) if chosen is None else torch.tensor(chosen)
    return double(collate(jets.inputs, indices, jets.label, jets.weight, jets.targets))


def double(batch):
    groups = {name: GroupBatch(g.x_BNF.double(), g.mask_BN, g.default_BNF) for name, g in batch.groups.items()}
    return Batch(
        batch.jet_BF.double(), batch.jet_default_BF, groups, batch.label_B, batch.weight_B.double(), batch.targets
    )


def encoder_twin(module, layers, heads):
    """torch's own encoder with the weights of ours."""
    config = module.config
    layer = nn.TransformerEncoderLayer(
        config.width, heads, config.expansion * config.width, 0.0, "gelu", batch_first=True, norm_first=True
    )
    twin = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).double().eval()
    for theirs, mine in zip(twin.layers, module.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data = mine.project_in.weight.data
        theirs.self_attn.in_proj_bias.data = mine.project_in.bias.data
        theirs.self_attn.out_proj.load_state_dict(mine.project_out.state_dict())
        theirs.linear1.load_state_dict(mine.feed.linear_in.state_dict())
        theirs.linear2.load_state_dict(mine.feed.linear_out.state_dict())
        theirs.norm1.load_state_dict(mine.norm_in.state_dict())
        theirs.norm2.load_state_dict(mine.norm_feed.state_dict())
    return twin


def naive_outputs(module, batch, registers):
    """Padded, with every concatenation made; only weights are taken from the network."""
    tokens, masks, b = [], [], len(batch)
    for name, embed in module.embed.items():
        x, mask = batch.groups[name].x_BNF, batch.groups[name].mask_BN
        beside = torch.cat([batch.jet_BF[:, None].expand(-1, x.shape[1], -1), x], 2)
        tokens.append(embed.rest(F.linear(beside, embed.first.weight, embed.first.bias)))
        masks.append(mask)
    if registers:
        tokens.append(module.registers.expand(b, -1, -1))
        masks.append(torch.ones(b, registers, dtype=torch.bool))
    x, mask = torch.cat(tokens, 1), torch.cat(masks, 1)
    x = encoder_twin(module, 2, 4)(x, src_key_padding_mask=~mask)
    x = module.norm(module.project(x))
    pooled = torch.zeros(b, x.shape[2], dtype=x.dtype)
    for jet in range(b):
        real = x[jet][mask[jet]]
        if len(real):
            pooled[jet] = (
                torch.softmax(real @ module.pool.gate.weight[0] + module.pool.gate.bias, 0)[:, None] * real
            ).sum(0)
    summary = torch.cat([pooled, batch.jet_BF], 1) if module.config.jet_inputs else pooled
    found = {name: module.heads[name](summary) for name in ("flavour", "response", "b_response")}
    charged, origin, vertexing = batch.groups["charged"].mask_BN, module.heads["origin"], module.heads["vertexing"]
    rows, pairs = [], []
    for jet in range(b):
        own = x[jet, : charged.shape[1]][charged[jet]]
        g = summary[jet].expand(len(own), -1)
        rows.append(origin.rest(F.linear(torch.cat([g, own], 1), origin.first.weight, origin.first.bias)))
        for j in range(len(own)):
            for i in range(j):
                pairs.append(pair_twin(vertexing, summary[jet], own[i], own[j]))
    return found | {"origin": torch.cat(rows), "vertexing": torch.stack(pairs)}


def pair_twin(head, g, a, b):
    """Salt's head on [g, a, b] and [g, b, a], with one weight for both where ours has one."""
    weight = head.first.weight
    if not head.ordered:
        c = len(g)
        weight = torch.cat([weight, weight[:, c:]], 1)
    both = [head.rest(F.linear(torch.cat([g, *pair]), weight, head.first.bias)) for pair in ((a, b), (b, a))]
    if not head.ordered:
        torch.testing.assert_close(*both)
    return (0.5 * (both[0] + both[1])).squeeze()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"registers": 2, "jet_inputs": False},
        {"tasks": TASKS | {"vertexing": TASKS["vertexing"] | {"ordered": True}}},
    ],
)
def test_every_output_is_that_of_a_padded_twin_that_concatenates(arguments):
    module = network(**arguments)
    # The twin's encoder is not defined for jets without tokens.
    batch = batch_of(10, chosen=range(1, 10) if not module.config.registers else range(10))
    found = call_all(module, batch)
    expected = naive_outputs(module, batch, module.config.registers)
    assert set(found) == {*expected, "vertexing/pairs"}
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-10)
    assert torch.equal(call(module, batch), found["flavour"])


def test_pairs_against_a_loop():
    mask = torch.tensor([[True, True, True], [False] * 3, [True, False, False], [True, True, False]])
    i, j = pairs_of(mask)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (4, 5)]
    assert all(len(index) == 0 for index in pairs_of(mask[1:3]))


def test_pairs_are_symmetric_and_never_see_a_matrix_of_all_inputs():
    for ordered in (False, True):
        torch.manual_seed(2)
        head = PairHead(3, 5, (4,), "relu", ordered).double()
        x, g = torch.randn(2, 5, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
        mask = torch.ones(1, 2, dtype=torch.bool)
        torch.testing.assert_close(head(g, x, mask), head(g, x.flip(0), mask))
        seen = []
        handle = head.rest.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].shape))
        head(g, x, mask)
        handle.remove()
        assert seen == [(1, 4)] * (2 if ordered else 1)


def test_the_first_layer_of_a_head_is_that_of_salt():
    """[context, constituent] side by side, as its Dense takes them."""
    head = ConstituentHead(3, 5, (4,), 2, "relu")
    twin = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    twin[0].load_state_dict(head.first.state_dict())
    twin[2].load_state_dict(head.rest[1].state_dict())
    x, g, mask = torch.randn(3, 5), torch.randn(2, 3), torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(head(g, x, mask), twin(torch.cat([g[[0, 0, 1]], x], 1)))


def test_a_pooled_jet_without_tokens_is_zero():
    pool, mask = AttentionPooling(4), torch.tensor([[True, True], [False, False]])
    pooled = pool(torch.randn(2, 4), Tokens.of([mask]))
    assert pooled[0].abs().min() > 0
    assert pooled[1].eq(0).all()


@pytest.mark.parametrize("arguments", [{}, {"registers": 1, "jet_inputs": False, "gated": True, "out": 0}])
def test_padding_and_order_change_no_output(arguments):
    module, flat, batch = network(**arguments), random_jets(9, seed=5), None
    batch = double(collate(flat, torch.arange(9), weight=torch.ones(9)))
    expected = call_all(module, batch)
    turned, order = {}, {}
    for name, g in batch.groups.items():  # real constituents backwards, and more padding that holds anything
        counts = g.mask_BN.sum(1)
        slots = g.mask_BN.shape[1]
        order[name] = torch.where(g.mask_BN, counts[:, None] - 1 - torch.arange(slots), torch.arange(slots))
        x = g.x_BNF.gather(1, order[name][:, :, None].expand_as(g.x_BNF))
        x = torch.where(g.mask_BN[:, :, None], x, math.nan)
        turned[name] = GroupBatch(
            F.pad(x, (0, 0, 0, 3), value=math.nan), F.pad(g.mask_BN, (0, 3)), F.pad(g.default_BNF, (0, 0, 0, 3))
        )
    found = call_all(module, Batch(batch.jet_BF, batch.jet_default_BF, turned))
    for name in ("flavour", "response", "b_response"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-10)
    mask = batch.groups["charged"].mask_BN
    rows = torch.full(mask.shape, -1)
    rows[mask] = torch.arange(int(mask.sum()))
    moved_T = rows.gather(1, order["charged"])[mask]  # the old row of each new one
    torch.testing.assert_close(found["origin"], expected["origin"][moved_T], rtol=0, atol=1e-10)
    old = {frozenset(pair): value for *pair, value in _pairs(expected)}
    new = {frozenset(int(moved_T[row]) for row in pair): value for *pair, value in _pairs(found)}
    assert old.keys() == new.keys()
    assert max(abs(old[pair] - new[pair]) for pair in old) < 1e-10


def _pairs(outputs):
    i, j = outputs["vertexing/pairs"].tolist()
    return zip(i, j, outputs["vertexing"].tolist(), strict=True)


@pytest.mark.parametrize("weights", ["fixed", "learned"])
@pytest.mark.parametrize("chosen", [[0, 1, 2], [0, 0], [0], [1]])
def test_jets_without_constituents_and_tasks_without_labels_have_finite_gradients(chosen, weights):
    """The first jet has no constituents."""
    tasks = {name: {key: v for key, v in task.items() if key != "weight"} for name, task in TASKS.items()}
    module, batch = network(tasks=tasks, task_weights=weights), batch_of(4, chosen=chosen)
    for known in (batch.targets, {name: torch.full_like(t, _unknown(name)) for name, t in batch.targets.items()}):
        batch = Batch(batch.jet_BF, batch.jet_default_BF, batch.groups, batch.label_B, batch.weight_B, known)
        module.zero_grad()
        outputs = call_all(module, batch)
        total_loss(module, outputs["flavour"].square().sum(), outputs, batch).backward()
        assert all(values.isfinite().all() for values in outputs.values())
        for name, parameter in module.named_parameters():
            if name != "pool.gate.bias":  # a softmax does not see it
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
    sums = module.task_sums(outputs, entries_of(module, batch), batch.weight_B)
    assert all(value.item() == 0 for value in sums.values())
    assert all(module.heads[name].get_parameter(key).grad.eq(0).all() for name, key in LAST.items())


def _unknown(name):
    return math.nan if name == "jet/pt_ratio" else -1


LAST = {"origin": "rest.1.weight", "vertexing": "rest.1.weight", "response": "out.weight", "b_response": "out.weight"}


def test_losses_against_loops_over_what_has_a_label():
    module, batch = network(), batch_of()
    outputs = call_all(module, batch)
    sums = module.task_sums(outputs, entries_of(module, batch), batch.weight_B)
    w, mask, t = batch.weight_B, batch.groups["charged"].mask_BN, batch.targets
    jets = mask.nonzero()[:, 0].tolist()
    origin, vertex = t["charged/origin"][mask].tolist(), t["charged/vertex"][mask].tolist()
    expected = dict.fromkeys(TASKS, 0.0)
    counts = dict.fromkeys(TASKS, 0)
    for row, (jet, label) in enumerate(zip(jets, origin, strict=True)):
        if label >= 0:
            expected["origin"] -= w[jet] * outputs["origin"][row].log_softmax(0)[label]
            counts["origin"] += 1
    for i, j, logit in _pairs(outputs):
        assert i < j
        assert jets[i] == jets[j]
        if vertex[i] >= 0 and vertex[j] >= 0:
            p = 1 / (1 + math.exp(-logit))
            expected["vertexing"] -= w[jets[i]] * math.log(p if vertex[i] == vertex[j] else 1 - p)
            counts["vertexing"] += 1
    for jet, ratio in enumerate(t["jet/pt_ratio"].tolist()):
        if math.isnan(ratio):
            continue
        error = abs(outputs["response"][jet, 0].item() - ratio)
        expected["response"] += w[jet] * (error**2 / 0.2 if error < 0.1 else error - 0.05)
        counts["response"] += 1
        if CLASSES[batch.label_B[jet]] in ("b", "lepb"):
            mean, log_variance = outputs["b_response"][jet].tolist()
            likelihood = torch.distributions.Normal(mean, math.exp(log_variance / 2)).log_prob(torch.tensor(ratio))
            expected["b_response"] -= w[jet] * (likelihood + math.log(2 * math.pi) / 2)
            counts["b_response"] += 1
    for name, value in expected.items():
        torch.testing.assert_close(sums[name], value.to(sums[name].dtype), rtol=1e-5, atol=1e-5)
    assert {name: len(entries.jet_E) for name, entries in entries_of(module, batch).items()} == counts
    assert 0 < counts["b_response"] < counts["response"] < len(batch)


def test_gaussian_likelihood_is_torchs():
    generator = torch.Generator().manual_seed(1)
    mean, s, target = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    expected = nn.GaussianNLLLoss(reduction="none")(mean, target, s.exp())
    torch.testing.assert_close(gaussian_nll(mean, s, target), expected)


def test_fixed_weights_are_factors():
    module, batch = network(), batch_of()
    outputs, entries = call_all(module, batch), entries_of(module, batch)
    sums = module.task_sums(outputs, entries, batch.weight_B)
    expected = torch.tensor(2.0, dtype=torch.float64)
    for name, task in TASKS.items():
        expected += task.get("weight", 1.0) * sums[name] / batch.weight_B[entries[name].jet_E].sum()
    torch.testing.assert_close(total_loss(module, torch.tensor(2.0), outputs, batch), expected)


def test_learned_weights_settle_where_the_likelihood_is_highest():
    """exp(-s) l + s/2 is least at exp(s) = 2 l, half of that for a regression: log(2 l) / 2 + 1/2 remain."""
    combine = LearnedWeights({"flavour": 1.0, "response": 0.5}, {"gauss": 0.3})
    losses = {"flavour": torch.tensor(0.7), "response": torch.tensor(0.02), "gauss": torch.tensor(-1.5)}
    combine.log_variance.data = torch.log(torch.tensor([2 * 0.7, 0.02]))
    value = combine(losses)
    value.backward()
    assert combine.log_variance.grad.abs().max() < 1e-6
    expected = (math.log(2 * 0.7) + math.log(0.02)) / 2 + 1 + 0.3 * -1.5
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert FixedWeights({"a": 2.0, "b": 0.5})({"a": torch.tensor(3.0), "b": torch.tensor(4.0)}).item() == 8.0


def test_geometric_mean_is_the_root_of_the_product_and_leaves_out_what_has_no_label():
    losses = {name: torch.tensor(v, requires_grad=True) for name, v in {"a": 2.0, "b": 4.0, "c": 27.0}.items()}
    value = GeometricMean()(losses)
    assert value.item() == pytest.approx((2 * 4 * 27) ** (1 / 3))
    value.backward()
    assert losses["c"].grad.item() == pytest.approx(value.item() / 3 / 27)
    assert GeometricMean()(losses | {"none": torch.tensor(0.0)}).item() == pytest.approx(value.item())


@pytest.mark.parametrize("weights", ["learned", "gls"])
def test_a_task_without_labels_has_no_part_in_the_combination(weights):
    tasks = {name: {"kind": TASKS[name]["kind"], "target": TASKS[name]["target"]} for name in ("origin", "vertexing")}
    module, batch = network(tasks=tasks, task_weights=weights), batch_of()
    batch.targets["charged/vertex"].fill_(-1)
    outputs = call_all(module, batch)
    value = total_loss(module, torch.tensor(0.5, dtype=torch.float64), outputs, batch)
    entries = entries_of(module, batch)
    origin = module.task_sums(outputs, entries, None)["origin"] / len(entries["origin"].jet_E)
    origin = (
        module.task_sums(outputs, entries, batch.weight_B)["origin"] / batch.weight_B[entries["origin"].jet_E].sum()
    )
    if weights == "gls":
        expected = (0.5 * origin).sqrt()
    else:
        s = module.combine.log_variance
        expected = 0.5 * (-s[0]).exp() + s[0] / 2 + origin * (-s[1]).exp() + s[1] / 2
    torch.testing.assert_close(value, expected)


def test_half_precision_keeps_the_losses_in_float32():
    module, batch = network().float(), batch_of()
    groups = {n: GroupBatch(g.x_BNF.float(), g.mask_BN, g.default_BNF) for n, g in batch.groups.items()}
    batch = Batch(
        batch.jet_BF.float(), batch.jet_default_BF, groups, batch.label_B, batch.weight_B.float(), batch.targets
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = call_all(module, batch)
        loss = total_loss(module, half["flavour"].float().square().mean(), half, batch)
    whole = call_all(module, batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        total_loss(module, whole["flavour"].square().mean(), whole, batch).item(), rel=0.05
    )
    loss.backward()


def test_targets_are_those_of_the_files():
    assert {target for kind in KINDS.values() for target in kind.targets} == set(TARGETS)
    assert ConstituentClassification.classes == {"charged/origin": len(ORIGINS)}
    assert network().targets == ("charged/origin", "charged/vertex", "jet/pt_ratio")
    assert network(tasks={}).targets == ()


def test_a_batch_without_a_target_is_named():
    batch = double(collate(random_jets(3), torch.arange(3), weight=torch.ones(3)))
    with pytest.raises(ValueError, match="task origin: the batch has no target charged/origin"):
        entries_of(network(), batch)


def task(**changes):
    return {"tasks": {"origin": TASKS["origin"] | changes}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tasks": ["origin"]}, "tasks: found ['origin'], expected a mapping of names to tasks"),
        (
            {"tasks": {"origin": "charged/origin"}},
            "tasks.origin: found 'charged/origin', expected a mapping with kind",
        ),
        (task(kind="heads"), "tasks.origin.kind: found 'heads', expected one of regression, gaussian, constituents"),
        ({"tasks": {"origin": {"target": "charged/origin"}}}, "tasks.origin.kind: missing, expected one of"),
        (
            task(target="jet/pt_ratio"),
            "tasks.origin.target: found 'jet/pt_ratio', expected one of charged/origin (kind c",
        ),
        ({"tasks": {"a": {"kind": "edges"}}}, "tasks.a.target: missing, expected one of charged/vertex (kind edges)"),
        (task(hiden=[3]), "tasks.origin.hiden: unknown key of kind constituents; nearest: hidden"),
        (task(flavours=["b"]), "tasks.origin.flavours: unknown key of kind constituents"),
        (task(weight=0), "tasks.origin.weight: found 0, expected a number above 0"),
        (task(hidden=8), "tasks.origin.hidden: found 8, expected a list of positive whole numbers"),
        ({"tasks": {"flavour": TASKS["origin"]}}, "tasks.flavour: can't be the name of a task"),
        ({"tasks": {"lepb": TASKS["origin"]}}, "tasks.lepb: can't be the name of a task"),
        ({"tasks": {"my-task": TASKS["origin"]}}, "tasks.my-task: can't be the name of a task"),
        ({"tasks": {"keys": TASKS["origin"]}}, "tasks.keys: can't be the name of a task"),
        (
            {"tasks": {"e": TASKS["response"] | {"flavours": ["tau"]}}},
            "tasks.e.flavours: tau is no flavour class; they",
        ),
        (
            {"tasks": {"e": TASKS["response"] | {"loss": "l1"}}},
            "tasks.e.loss: found 'l1', expected one of smooth_l1, mse",
        ),
        (
            {"tasks": {"e": TASKS["response"] | {"loss": "mse", "beta": 1}}},
            "tasks.e.beta: 1 has no effect with loss: mse",
        ),
        ({"task_weights": "gls"}, "task_weights: gls has no effect without tasks"),
        ({"task_weights": "equal"}, "task_weights: found 'equal', expected one of fixed, learned, gls"),
        (
            task(weight=2.0) | {"task_weights": "learned"},
            "tasks.origin.weight: 2 has no effect with task_weights: learned",
        ),
        (
            {"tasks": {"e": TASKS["b_response"]}, "task_weights": "gls"},
            "tasks.e: the loss of kind gaussian can be negative",
        ),
        ({"expansion": 0}, "expansion: found 0, expected at least 1"),
        ({"heads": 5}, "width: found 256, which heads = 5 does not divide"),
    ],
)
def test_wrong_tasks_are_named(arguments, words):
    with pytest.raises(CardError) as error:
        build("multitask", arguments, features(), 6, CLASSES)
    assert words in str(error.value)


def test_a_group_that_the_inputs_lack_is_named():
    with pytest.raises(CardError, match=r"tasks.origin.target: 'charged/origin' needs a group of .* has jet, sv"):
        build("multitask", task(), {"jet": 2, "sv": 3}, 6, CLASSES)
    with pytest.raises(CardError, match="no group of constituents"):
        build("multitask", {}, {"jet": 2}, 6, CLASSES)


def test_resolved_tasks_say_everything_and_build_the_same_network():
    resolved = resolve("multitask", {"tasks": TASKS})
    assert resolved["tasks"]["response"] == {
        "kind": "regression",
        "target": "jet/pt_ratio",
        "hidden": [8],
        "weight": 1.0,
        "flavours": [],
        "loss": "smooth_l1",
        "beta": 0.1,
    }
    assert resolve("multitask", resolved) == resolved
    module = Multitask(MultitaskConfig(features(), 6, tasks={"o": ConstituentClassification("charged/origin")}))
    assert module.targets == ("charged/origin",)
