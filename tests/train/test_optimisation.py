import warnings

import pytest
import torch

from pfnano_tag.card.training import Training
from pfnano_tag.train.optimisation import OPTIMIZERS, SCHEDULES, make_optimizer, rate_factor


def factors(schedule, steps=25, epochs=4):
    return [rate_factor(schedule, step, steps, epochs) for step in range(steps * epochs)]


def test_one_cycle_is_the_one_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=100, cycle_momentum=False)
    expected = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants optimizer steps between scheduler steps
        for _ in range(100):
            expected.append(optimizer.param_groups[0]["lr"])
            scheduler.step() if len(expected) < 100 else None
    assert factors("one_cycle") == pytest.approx(expected, abs=1e-9)


def test_inverse_is_that_of_the_papers():
    found = factors("inverse", steps=3, epochs=61)
    assert found[:3] == [1.0, 1.0, 1.0]
    assert found[90] == pytest.approx(0.5)
    assert found[180] == pytest.approx(1 / 3)


def test_cosine_warms_up_and_ends_low():
    found = factors("cosine")
    top = found.index(max(found))
    assert found[0] < found[top] == 1.0
    assert 3 <= top <= 6
    assert all(a >= b for a, b in zip(found[top:], found[top + 1 :], strict=False))
    assert found[-1] == pytest.approx(0.01, abs=1e-9)


def test_flat_then_decay_is_that_of_b_hive():
    """101 steps: 1 up to step 70, then a line to 0.01 at step 100."""
    found = factors("flat_then_decay", steps=101, epochs=1)
    assert found[:71] == pytest.approx([1.0] * 71, abs=1e-12)
    assert found[70:] == pytest.approx([1 - 0.99 * i / 30 for i in range(31)], abs=1e-12)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_short_trainings_have_a_learning_rate(schedule, steps, epochs):
    assert all(0 < factor <= 1 for factor in factors(schedule, steps, epochs))


def test_card_and_registries_name_the_same():
    fields = Training.model_fields
    assert set(fields["optimizer"].annotation.__args__) == set(OPTIMIZERS)
    assert set(fields["schedule"].annotation.__args__) == set(SCHEDULES)
    for name in OPTIMIZERS:
        for lookahead in (None, {}):
            settings = Training(
                optimizer=name, learning_rate=0.3, weight_decay=0.2, betas=(0.8, 0.95), lookahead=lookahead
            )
            group = make_optimizer(settings, [torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
            assert (group["lr"], group["weight_decay"], group["betas"]) == (0.3, 0.2, (0.8, 0.95))


def test_muon_moves_matrices_along_their_orthogonalised_momentum_and_the_rest_as_adamw():
    """All singular values of the first step are equal, but for Newton-Schulz; AdamW has a twin."""
    torch.manual_seed(1)
    matrix, bias, twin = (torch.nn.Parameter(torch.randn(*shape)) for shape in ((6, 4), (6,), (6,)))
    with torch.no_grad():
        twin.copy_(bias)
    settings = Training(optimizer="muon", learning_rate=0.1, weight_decay=0.01, betas=(0.9, 0.99))
    optimizer = make_optimizer(settings, [matrix, bias])
    adamw = torch.optim.AdamW([twin], lr=0.1, weight_decay=0.01, betas=(0.9, 0.99))
    gradient, others = torch.randn(6, 4), [torch.randn(6) for _ in range(3)]
    before = matrix.detach().clone()
    for number, other in enumerate(others):
        matrix.grad, bias.grad, twin.grad = gradient.clone(), other.clone(), other.clone()
        optimizer.step()
        adamw.step()
        if number == 0:
            moved = before * (1 - 0.1 * 0.01) - matrix.detach()
    assert torch.equal(bias, twin)
    # 0.2 sqrt(max(rows, columns)) lr U V^T, with U V^T of the gradient (arXiv:2502.16982, equation 4)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    size = 0.1 * 0.2 * 6**0.5
    inside = left.T @ moved @ right.T / size
    assert torch.allclose(inside, torch.diag(inside.diag()), atol=0.03)
    assert ((inside.diag() > 0.6) & (inside.diag() < 1.3)).all()
