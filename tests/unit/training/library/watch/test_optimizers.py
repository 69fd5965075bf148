"""What the watch sees with scalers, several optimizers, accumulation and schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sagemaker_byoc.training.library.watch.panel import VALIDATION
from sagemaker_byoc.training.library.watch.watch import WatchStop

pytestmark = pytest.mark.slow

RULES = ["VanishingGradient", "ExplodingTensor", "AllZero", "WeightUpdateRatio"]


def losses(found, name="train"):
    return [value for _, value in found.history.losses[name].points]


def gradients(found, number=0):
    return [value for _, row in found.history.gradients[number].points for value in row.values()]


def optimizers():
    sgd, adam, adagrad = torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad
    return [
        pytest.param(kind, options, id=f"{kind.__name__}-{'-'.join(options) or 'plain'}")
        for kind, options in [
            (sgd, {"fused": True}),
            (sgd, {"foreach": True}),
            (sgd, {}),
            (adam, {"fused": True}),
            (adam, {"foreach": True}),
            (adam, {}),
            (adagrad, {"fused": True}),
        ]
    ]


@pytest.mark.parametrize("clips", [False, True], ids=["", "clipped"])
@pytest.mark.parametrize(("kind", "options"), optimizers())
def test_scaler(watched, kind, options, clips):
    """Loss and gradients are the unscaled ones; a step that overflowed is not a finding, though
    `action: stop` would end the training for one."""
    found = watched(rules=RULES, action="stop")
    weight = torch.full((2, 2), 1.0, requires_grad=True)
    optimizer = kind([weight], lr=1e-3, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0, growth_interval=1000)
    for step in range(8):
        optimizer.zero_grad()
        factor = float("inf") if step in {0, 3, 4} else 1e-4
        scaler.scale((weight * 3).sum() * 1e-4).backward()
        weight.grad *= factor * 1e4
        if clips:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([weight], 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert found.findings == ()
    assert gradients(found) == [pytest.approx(3e-4)] * 5
    assert losses(found) == pytest.approx([1.2e-3] * 5, rel=0.05)


class Scaled(torch.optim.Optimizer):
    """An optimizer of somebody else's, which takes scaled gradients and leaves them scaled."""

    _step_supports_amp_scaling = True

    def __init__(self, params):
        super().__init__(params, {})

    def step(self):
        return None


def test_scaled_gradients_are_divided(watched):
    """What a kernel does not write back is still scaled afterwards."""
    found = watched(rules=["VanishingGradient"])
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = Scaled([weight])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((weight * 3).sum()).backward()
    scaler.step(optimizer)
    assert (gradients(found), losses(found)) == ([3.0], [3.0])


def test_gradients_that_never_are_finite(watched):
    """After so many skipped steps it is not a matter of the scale."""
    found = watched(rules=["ExplodingTensor"])
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], fused=True)
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(40):
        optimizer.zero_grad()
        scaler.scale((weight * float("nan")).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert "gradient/parameter_0_1x1" in {one.tensor for one in found.findings}


def test_two_scaled_losses(watched):
    """Both scaled before either goes backward."""
    found = watched(rules=["VanishingGradient"])
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    both = [scaler.scale((weight * factor).sum()) for factor in (3, 4)]
    for one in both:
        (one / 2).backward()
    scaler.step(optimizer)
    assert losses(found) == [3.5]


def gan(found, steps, *, sets_to_none=True, losses_of=lambda step: (1.0, 1.0)):
    """The usual order of a GAN: the generator's loss feeds the discriminator's weights too."""
    generator, discriminator = nn.Linear(4, 4, bias=False), nn.Linear(4, 1, bias=False)
    for one in (generator, discriminator):
        nn.init.constant_(one.weight, 1.0)
    steps_of_d, steps_of_g = (
        torch.optim.SGD(one.parameters(), lr=1e-9) for one in (discriminator, generator)
    )
    noise = torch.ones(1, 4)
    for step in range(steps):
        of_d, of_g = losses_of(step)
        discriminator.zero_grad(set_to_none=sets_to_none)
        (discriminator(noise).sum() / 4 * of_d / 2).backward()
        (discriminator(generator(noise).detach()).sum() / 16 * of_d / 2).backward()
        steps_of_d.step()
        generator.zero_grad(set_to_none=sets_to_none)
        (discriminator(generator(noise)).sum() / 16 * of_g).backward()
        steps_of_g.step()
    return steps_of_d, steps_of_g


@pytest.mark.parametrize("sets_to_none", [True, False])
def test_gan(watched, sets_to_none):
    """To each its own loss, by which passes fed the gradients that it steps with."""
    found = watched(rules=["LossNotDecreasing"])
    gan(found, 4, sets_to_none=sets_to_none, losses_of=lambda step: (10.0 + step, 1.0 + step))
    assert losses(found) == pytest.approx([10, 11, 12, 13])
    assert losses(found, "train, optimizer1/loss") == pytest.approx([1, 2, 3, 4])


def test_a_loss_that_rises_is_found_in_the_second_optimizer(watched):
    """And the first one's, which falls, is not blamed; of two losses none may end the training."""
    found = watched(rules={"LossNotDecreasing": {"num_steps": 2}}, action="stop")
    gan(found, 8, losses_of=lambda step: (10.0 - step, 1.0 + step))
    assert {one.tensor for one in found.findings} == {"optimizer1/loss"}
    assert "rose" in found.findings[0].verdict
    found.close()
    assert "1 of 1 rules found something" in found.page.read_text()


def test_one_loss_of_two_optimizers(watched):
    """As with Muon and AdamW: the loss is judged once, and may end the training."""
    found = watched(rules={"LossNotDecreasing": {"num_steps": 2}}, action="stop")
    model = nn.Linear(1, 1)
    both = [torch.optim.SGD([one], lr=0.0) for one in model.parameters()]

    def train():
        for step in range(12):
            for one in both:
                one.zero_grad()
            (model(torch.ones(1, 1)).sum() * 0 + 1.0 + step).backward()
            for one in both:
                one.step()

    with pytest.raises(WatchStop, match="LossNotDecreasing at step 6: loss: it rose"):
        train()
    assert [*found.history.losses] == ["train"]


def test_validation_beside_two_losses(watched):
    """Which loss it belongs to can't be known: nothing is compared until the program says so."""
    found = watched(rules=["Overfit"])
    first, second = gan(found, 3)
    for _ in range(3):
        found.loss(99.0)
    assert found.findings == ()
    found._write_page()
    page = found.page.read_text()
    assert "compared with no training loss" in page
    assert 'class="good"' not in page
    for _ in range(3):
        found.loss(99.0, optimizer=first)
    assert {one.rule for one in found.findings} == {"Overfit"}
    assert found._compared("eval", second) == 1
    assert found._compared("eval", torch.optim.SGD([torch.ones(1)])) == VALIDATION


def test_gradient_pictures_are_per_optimizer(watched):
    """Their steps are counted apart."""
    found = watched(rules=["VanishingGradient"])
    gan(found, 3)
    assert [len(found.history.gradients[number].points) for number in (0, 1)] == [3, 3]
    found.close()
    assert found.page.read_text().count("<h2>Gradients (optimizer") == 2


def test_what_a_rule_remembers_is_per_optimizer(watched):
    """The first look at the second one's weights, which start at zero, is its first."""
    found = watched(rules=["AllZero"])
    for start in (1.0, 0.0):
        weight = torch.full((2, 2), start, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            weight.sum().backward()
            optimizer.step()
    assert found.findings == ()


def accumulate(found, micro_batches, *, steps=4, backward=torch.Tensor.backward, last=None):
    """`micro_batches` passes per step, each of 1/N of a loss of 6; fewer in each third step."""
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for step in range(steps):
        optimizer.zero_grad()
        count = last if last and step % 3 == 2 else micro_batches
        for _ in range(count):
            backward((weight * 6).sum() / micro_batches)
        optimizer.step()


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_accumulation(watched, micro_batches):
    """The loss of a step is the sum of its passes, comparable with the validation loss."""
    found = watched(rules=["Overfit"])
    accumulate(found, micro_batches)
    assert losses(found) == [6.0] * 4
    for _ in range(3):
        accumulate(found, micro_batches, steps=1)
        found.loss(6.1)
    assert found.findings == ()


def test_uneven_accumulation(watched):
    """The step at the end of an epoch, with fewer passes, is left out of the mean."""
    found = watched(rules=["Overfit"], save_interval=3)
    accumulate(found, 4, steps=7, last=1)
    assert losses(found) == [6.0, 6.0, 6.0]


def test_a_pass_within_a_pass(watched):
    """A checkpointed block goes backward again, with one number even: it is not a loss."""
    found = watched(rules=["Overfit"])

    def block(x):
        return (x * 6).sum()

    def backward(loss):
        torch.autograd.backward(checkpoint(lambda one: one * 1, loss, use_reentrant=True))

    accumulate(found, 2, backward=backward)
    assert losses(found) == [6.0] * 4


def test_one_loss_twice(watched):
    """retain_graph: the same loss counts once."""
    found = watched(rules=["Overfit"])

    def backward(loss):
        loss.backward(retain_graph=True)
        loss.backward()

    accumulate(found, 1, backward=backward)
    assert losses(found) == [6.0] * 4


def test_several_losses_and_weights(watched):
    """One step: two passes, a list of losses, a gradient that weighs one."""
    found = watched(rules=["Overfit"])

    def backward(loss):
        (loss / 2).backward(retain_graph=True)
        torch.autograd.backward([loss / 8, loss / 8], retain_graph=True)
        loss.backward(torch.tensor(0.25))

    accumulate(found, 1, backward=backward)
    assert losses(found) == [6.0] * 4


@pytest.mark.parametrize("sets_to_none", [True, False])
def test_closure(watched, sets_to_none):
    """LBFGS asks for the loss many times in one step: it is the last one, and not their sum."""
    found = watched(rules=["Overfit"])
    weight = torch.full((1, 1), 3.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], lr=1e-7, max_iter=5)

    def closure():
        optimizer.zero_grad(set_to_none=sets_to_none)
        loss = (weight - 1).square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert losses(found) == pytest.approx([4.0] * 3, rel=1e-4)


def test_two_passes_for_one_step(watched):
    """Sharpness-aware: the first gradients only say where the second are taken."""
    found = watched(rules=["Overfit"])
    weight = torch.full((1, 1), 3.0, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for _ in range(3):
        for _ in range(2):
            optimizer.zero_grad()
            (weight * 2).sum().backward()
        optimizer.step()
    assert losses(found) == [6.0] * 3


def test_step_within_backward(watched):
    """An optimizer for each parameter, which steps as soon as its gradient is there."""
    found = watched(rules={"LossNotDecreasing": {"num_steps": 2}})
    model = nn.Linear(2, 2)
    own = {one: torch.optim.SGD([one], lr=1e-9) for one in model.parameters()}

    def hook(parameter):
        own[parameter].step()
        own[parameter].zero_grad()

    for one in own:
        one.register_post_accumulate_grad_hook(hook)
    for step in range(4):
        (model(torch.ones(1, 2)).sum() * 0 + 6.0 + step).backward()
    assert losses(found) == [6.0, 7.0, 8.0, 9.0]
    assert {one.tensor for one in found.findings} == {"loss"}


def test_a_wrapped_optimizer_is_followed_once(watched):
    """An optimizer that lets another one step, with the same parameters."""

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, inner):
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self):
            self.inner.step()

    found = watched(rules={"VanishingGradient": {"threshold": 1e9}})
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = Wrapper(torch.optim.SGD([weight], lr=0.1))
    for _ in range(3):
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
    assert {one.tensor for one in found.findings} == {"gradient/parameter_0_1x1"}
    assert [one.step for one in found._every] == [2]


@pytest.mark.slow
def test_many_optimizers(watched, capsys):
    """As a program makes in each step: the first are followed, and it is said once."""
    found = watched(rules=["VanishingGradient"])
    weight = torch.ones(1, 1, requires_grad=True)
    for _ in range(70):
        optimizer = torch.optim.SGD([weight], lr=0.1)
        weight.sum().backward()
        optimizer.step()
    assert len(found._every) == 64
    assert capsys.readouterr().err.count("64 optimizers are followed") == 1


def test_schedule_that_ends_at_zero(watched):
    """Weights that rest by their schedule are neither unchanged nor updated too little."""
    found = watched(rules=["UnchangedTensor", "WeightUpdateRatio"])
    model = nn.Linear(4, 4, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 4))
    for step in range(10):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        schedule.step()
    assert found.findings == ()


def test_an_unknown_optimizer_ends_no_training(watched, capsys):
    """Whatever the watch does not expect costs its looks only."""
    found = watched(rules=["VanishingGradient"])
    weight = torch.ones(1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.param_groups[0]["lr"] = "fast"
    optimizer.step = lambda: None
    weight.sum().backward()
    torch.optim.SGD([weight], lr=0.1).step()
    followed = found._begin(optimizer)
    found._losses.of(optimizer)
    assert followed.look() == ([], {}, [])
    assert "tensors are not checked any more" in capsys.readouterr().err


def train_locally(steps):
    weight = torch.ones(2, 2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("steps", [1, 30])
def test_steps_of_an_optimizer_that_is_gone(watched, steps):
    """It was local to a function; the page counts its steps, and is written after the first."""
    found = watched(save_interval=500)
    train_locally(steps)
    found.close()
    assert f": {steps} steps, one in 500" in found.page.read_text()


def test_a_rule_that_compared_nothing_is_not_quiet(watched):
    """One look is too little for most rules; without any, the page is not green."""
    found = watched(rules=["UnchangedTensor", "Overfit", "ExplodingTensor", "Confusion"])
    train_locally(1)
    found.close()
    page = found.page.read_text()
    assert "None of 1 rules found anything. 3 more had nothing to judge, or too little." in page
    assert page.count("too little to compare") == 2
    assert page.count("had nothing to look at") == 1
    assert page.count(">quiet<") == 1


def test_no_loss_seen_is_not_green(watched):
    """As with torch.autograd.grad, whose gradients may be of anything."""
    found = watched(rules=["ExplodingTensor"])
    weight = torch.ones(2, 2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.01)
    for _ in range(3):
        [weight.grad] = torch.autograd.grad(weight.sum(), [weight])
        optimizer.step()
    found.close()
    page = found.page.read_text()
    assert "No training loss of optimizer 0 was seen" in page
    assert 'class="good">None' not in page


def test_no_page_without_a_step(watched):
    """Every process of a job that asks for the watch has one, and most of them do not train."""
    found = watched()
    found.close()
    assert not found.page.exists()
