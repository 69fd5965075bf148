import dataclasses

import pytest
import torch

from sagemaker_byoc.training.library.guard import NonFiniteError, NonFiniteGuard


def program(**options):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(3))
    return weight, torch.optim.AdamW([weight], lr=0.1, **options)


def state_of(weight, optimizer):
    state = optimizer.state[weight]
    return [weight.detach().clone(), *(value.clone() for value in state.values())]


def test_finite_steps_are_taken():
    """The guard changes nothing where nothing is wrong."""
    guarded, plain = program(), program()
    guard = NonFiniteGuard(guarded[1])
    for step in range(1, 4):
        for weight, _ in (guarded, plain):
            weight.grad = torch.full((3,), float(step))
        guard.step(step)
        plain[1].step()
    assert torch.equal(guarded[0], plain[0])
    assert guard.skipped.item() == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_step_changes_nothing(bad):
    """Neither weights nor moments nor the optimizer's own count of steps."""
    weight, optimizer = program()
    guard = NonFiniteGuard(optimizer)
    weight.grad = torch.ones(3)
    guard.step(1)
    before = state_of(weight, optimizer)
    weight.grad = torch.tensor([1.0, bad, 1.0])
    guard.step(2)
    assert all(map(torch.equal, before, state_of(weight, optimizer)))
    assert guard.skipped.item() == 1


def test_the_norm_of_clipping_is_enough():
    """No second pass over the gradients where the script has their norm."""
    weight, optimizer = program()
    guard = NonFiniteGuard(optimizer)
    weight.grad = torch.ones(3)
    guard.step(1, torch.tensor(torch.nan))
    assert guard.skipped.item() == 1
    assert torch.equal(weight, torch.ones(3))


def test_a_fused_kernel_leaves_the_step_out_by_itself():
    """The way that is taken on a GPU: no branch in Python, and nothing changes."""
    weight, optimizer = program(fused=True)
    guard = NonFiniteGuard(optimizer)
    assert guard._is_fused
    weight.grad = torch.ones(3)
    guard._step_fused(torch.tensor(False))
    before = state_of(weight, optimizer)
    weight.grad = torch.full((3,), torch.nan)
    guard._step_fused(torch.tensor(True))
    assert all(map(torch.equal, before, state_of(weight, optimizer)))
    assert not hasattr(optimizer, "found_inf")


def test_an_ordinary_optimizer_is_not_taken_for_a_fused_one():
    """Its kernel would not look at the flag."""
    assert not NonFiniteGuard(program()[1])._is_fused


def test_too_many_bad_steps_on_end_stop_the_run_and_name_the_first():
    """The message leads to the step whose data or loss is to be looked at."""
    weight, optimizer = program()
    guard = NonFiniteGuard(optimizer, patience=3)

    def step(number, *, is_bad):
        weight.grad = torch.full((3,), torch.nan if is_bad else 1.0)
        guard.step(number)

    for number, is_bad in enumerate([True, False, True, True], 10):
        step(number, is_bad=is_bad)
    with pytest.raises(NonFiniteError, match=r"3 steps on end, from step 12 \(4 steps"):
        step(14, is_bad=True)


def test_bad_steps_with_good_ones_between_are_survived():
    """It is the run of them that counts."""
    weight, optimizer = program()
    guard = NonFiniteGuard(optimizer, patience=2)
    for step in range(1, 9):
        weight.grad = torch.full((3,), torch.nan if step % 2 else 1.0)
        guard.step(step)
    guard.check()
    assert guard.skipped.item() == 4


def test_patience_is_at_least_one_step():
    """Zero would stop a run in which nothing is wrong."""
    with pytest.raises(ValueError, match="at least 1"):
        NonFiniteGuard(program()[1], patience=0)


@pytest.mark.parametrize("pattern", ["0110111001", "1111", "0000", "1010111"])
def test_the_account_on_a_gpu_is_that_of_the_cpu(pattern):
    """The same numbers with and without an if."""
    guard = NonFiniteGuard(program()[1])
    for step, is_bad in enumerate(pattern, 5):
        guard._here.count(step, is_bad=is_bad == "1")
        guard._count(step, torch.tensor(is_bad == "1"))
        assert guard._there.tolist() == list(dataclasses.astuple(guard._here))


def test_an_ordinary_optimizer_on_a_gpu_steps_with_zero_gradients():
    """Not stepping would mean to wait for the GPU; NaN reaches neither weights nor moments."""
    weight, optimizer = program()
    guard = NonFiniteGuard(optimizer, patience=2)
    weight.grad = torch.full((3,), torch.nan)
    guard._step_there(1, torch.tensor(True))
    assert torch.isfinite(weight).all()
    with pytest.raises(NonFiniteError, match="from step 1"):
        guard._step_there(2, torch.tensor(True))
