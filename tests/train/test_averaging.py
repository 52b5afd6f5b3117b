"""Lookahead and the moving average against plain loops and closed forms."""

import io

import pytest
import torch
from torch import nn

from pfnano_tag.train.averaging import Lookahead, moving_average


def quadratic(weights):
    """Loss 1/2 sum_i i w_i^2, and its gradient written down."""
    curvature = torch.arange(1, len(weights) + 1, dtype=weights.dtype)
    return curvature * weights


def plain_loop(steps, every, alpha, rate, start):
    """Algorithm 1 of arXiv:1907.08610 around gradient descent."""
    slow, fast = start.clone(), start.clone()
    path = []
    for step in range(1, steps + 1):
        fast = fast - rate * quadratic(fast)
        if step % every == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow.clone()
        path.append(fast.clone())
    return path


def looking_ahead(start, every=3, alpha=0.3, rate=0.1, inner=torch.optim.SGD):
    weights = nn.Parameter(start.clone())
    return weights, Lookahead(inner([weights], lr=rate), every, alpha)


def step(weights, optimizer):
    optimizer.zero_grad()
    weights.grad = quadratic(weights.detach())
    optimizer.step()
    return weights.detach().clone()


START = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)


def test_lookahead_is_the_plain_loop():
    weights, optimizer = looking_ahead(START)
    found = [step(weights, optimizer) for _ in range(10)]
    expected = plain_loop(10, every=3, alpha=0.3, rate=0.1, start=START)
    assert torch.allclose(torch.stack(found), torch.stack(expected), rtol=1e-14, atol=0)


def test_lookahead_in_closed_form():
    """With curvature c a cycle of k steps multiplies a weight by 1 + alpha ((1 - rate c)^k - 1)."""
    weights, optimizer = looking_ahead(START)
    for _ in range(9):
        step(weights, optimizer)
    cycle = 1 + 0.3 * ((1 - 0.1 * torch.arange(1, 4, dtype=torch.float64)) ** 3 - 1)
    assert torch.allclose(weights.detach(), START * cycle**3, rtol=1e-13, atol=0)


def test_lookahead_goes_on_bit_for_bit_in_the_middle_of_a_cycle():
    """Through a file, with a stateful optimiser; without the slow weights or the count it would be another path."""
    whole_weights, whole = looking_ahead(START, inner=torch.optim.RAdam)
    path = [step(whole_weights, whole) for _ in range(11)]
    weights, optimizer = looking_ahead(START, inner=torch.optim.RAdam)
    for _ in range(5):
        step(weights, optimizer)
    file = io.BytesIO()
    torch.save({"weights": weights.detach(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    weights, optimizer = looking_ahead(torch.zeros_like(START), inner=torch.optim.RAdam)
    with torch.no_grad():
        weights.copy_(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    assert torch.equal(torch.stack([step(weights, optimizer) for _ in range(6)]), torch.stack(path[5:]))


def test_moving_average_in_closed_form():
    """Weights w_t = 1 - 0.1 t for a constant gradient: a_t = w_t + 0.1 d (1 - d^(t-1)) / (1 - d), a_1 = w_1."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(layer.weight, 1.0)
    average = moving_average(layer, 0.8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for t in range(1, 30):
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step()
        average.update_parameters(layer)
        expected = (1 - 0.1 * t) + 0.1 * 0.8 * (1 - 0.8 ** (t - 1)) / 0.2
        assert average.module.weight.item() == pytest.approx(expected, abs=1e-12)
        assert layer.weight.item() == pytest.approx(1 - 0.1 * t, abs=1e-12)


def test_moving_average_copies_statistics_and_leaves_the_network_alone():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = moving_average(network, 0.5)
    generator = torch.Generator().manual_seed(1)
    expected = None
    for _ in range(4):
        network(torch.randn(20, 3, generator=generator)).sum().backward()
        with torch.no_grad():
            for weights in network.parameters():
                weights -= 0.1 * torch.randn(weights.shape, generator=generator)
        before = [weights.detach().clone() for weights in network.parameters()]
        average.update_parameters(network)
        assert all(map(torch.equal, before, network.parameters()))
        expected = before if expected is None else [(a + w) / 2 for a, w in zip(expected, before, strict=True)]
    for found, wanted in zip(average.module.parameters(), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert all(map(torch.equal, average.module.buffers(), network.buffers()))
    assert int(average.module[1].num_batches_tracked) == 4
