"""The checks of lesson 15 on training an arm: a clipped step, and the race with its laps."""

import copy

import torch
from torch import nn

from minildm.course import arms
from minildm.course.exercises import lesson_04_training
from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import generator
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_04_loop import Diary, judge_counts, judge_optimizer
from minildm.course.exercises.lesson_04_training import Line
from minildm.training import loop

# ---- the step ------------------------------------------------------------------------------------

LARGE = 30.0        # the gradient's norm is then far above 1, in other steps below


def trained(step, decay) -> tuple:
    """Losses, weights and averages of four steps, of which every other has a large gradient."""
    return lesson_04_training.trained(step, decay, calls=4, lr=0.2,
                                      scale=lambda i: LARGE if i % 2 else 0.2)


def to_one(parameters):
    nn.utils.clip_grad_norm_(parameters, 1.0)


def variant(order="zero backward clip step average", change=None, clip=to_one):
    """A clipped step with a likely mistake, as `lesson_04_training.variant`."""
    return lesson_04_training.variant(order, change, clip)


def one_by_one(parameters):
    for parameter in parameters:
        nn.utils.clip_grad_norm_([parameter], 1.0)


WRONG_STEPS = {
    "gradients are clipped to a norm of 1: nothing is clipped between backward() and the step":
        variant("zero backward step average"),
    "the norm of all gradients together is clipped, not each number":
        variant(clip=lambda p: nn.utils.clip_grad_value_(p, 1.0)),
    "the norm of all gradients together is clipped, not each tensor's": variant(clip=one_by_one),
    "the norm is clipped to 1, not to a tenth":
        variant(clip=lambda p: nn.utils.clip_grad_norm_(p, 0.1)),
    "gradients of earlier steps add up: is zero_grad missing?":
        variant("backward clip step average"),
    "the weights stay as they were: optimizer.step() needs the gradients of backward()":
        variant("zero backward clip average"),
    "the average moves after the step: yours takes the weights from before it":
        variant("average zero backward clip step"),
    "the average stays as it was": variant("zero backward clip step"),
    "the average keeps the share `decay` of itself: yours moves that far":
        variant(change=lambda mean, weight, decay: mean.lerp_(weight, decay)),
    "the average became a copy of the network": variant(
        change=lambda mean, weight, decay: mean.copy_(weight)),
    "the network moves, not its average": variant(
        change=lambda mean, weight, decay: weight.lerp_(mean, 1 - decay)),
    "two steps instead of one": variant("zero backward clip step step average"),
}


@check(reference=arms.clipped_step, forbidden=[loop.fit, loop.train])
def check_clipped_step(answer):
    for decay in 0.9, 0.35:
        losses, weights, average = trained(answer, decay)
        want_losses, want_weights, want_average = trained(arms.clipped_step, decay)
        if not (close(weights, want_weights) and close(average, want_average)):
            for cause, step in WRONG_STEPS.items():
                _, wrong_weights, wrong_average = trained(step, decay)
                if close(weights, wrong_weights) and close(average, wrong_average):
                    fail(cause)
            fail("the network's weights after four steps are not right"
                 if not close(weights, want_weights) else
                 "the network's weights are right, its average isn't")
        for loss, want in zip(losses, want_losses, strict=True):
            judge_loss(loss, want)
        answer.right += 1


def judge_loss(loss, want: float):
    if loss is None:
        fail("return the loss, one number")
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        fail("that loss holds on to its graph: return loss.item()")
    if not isinstance(loss, (float, torch.Tensor)):
        fail(f"return the loss, one number: this is {describe(loss)}")
    compare(torch.as_tensor(loss), torch.tensor(want), where="the loss that is returned")


# ---- the race ------------------------------------------------------------------------------------

class Course(Diary):
    """The loss and the step of lesson 04's diary, and a batch that counts how often it is drawn."""

    def batch(self, source):
        if not isinstance(source, torch.Generator):
            fail(f"batch(generator) is called with {describe(source)}")
        picked = torch.randint(40, (6,), generator=source)
        return torch.stack([picked.float(), picked % 3 + 0.0], 1), picked % 3

    def loss(self, network, data, labels, generator):
        if not isinstance(generator, torch.Generator):
            fail(f"the loss's last input is the generator: this is {describe(generator)}")
        if not torch.equal(data[:, 1], labels.float()):
            fail("data and labels of a batch don't belong together: one call of batch() for both")
        return super().loss(network, data, labels, generator)


@check(reference=arms.race, forbidden=[loop.fit, loop.train])
def check_race(answer):
    for stops, lr in ([20, 30, 470], 0.01), ([7, 56], 0.2), ([5], 0.03):
        network = Line()
        diary = Course(network)
        laps = answer(network, diary.loss, diary.step, diary.batch, stops, lr, generator())
        found = collect(laps)
        judge_stops([steps for steps, _, _ in found], stops)
        judge_counts(diary, stops[-1])
        judge_optimizer(diary, network)
        judge_fresh(diary)
        judge_rates(diary.rates, lr)
        judge_decays(diary.decays)
        judge_laps(found, diary, stops)
        answer.right += 1


def collect(laps) -> list:
    """What comes at each stop, with the average's weights as they are at that moment."""
    if laps is None or not hasattr(laps, "__iter__"):
        fail(f"yield at each stop: this is {describe(laps) if laps is not None else 'None'}")
    found = []
    for lap in laps:
        if not isinstance(lap, tuple | list) or len(lap) != 3:
            fail(f"yield (steps, mean loss, average) at each stop: this is {describe(lap)}")
        steps, loss, average = lap
        if not isinstance(average, nn.Module):
            fail(f"the third is the averaged network: this is {describe(average)}")
        found.append((steps, loss, (average, copy.deepcopy(average))))
        if len(found) > 100:
            fail("it yields after every step: only at the stops")
    return found


def judge_stops(got: list, stops: list):
    if got == list(stops):
        return
    if got == [stop - 1 for stop in stops]:
        fail("stops count steps from 1: after the first step 1 is done")
    if not got:
        fail("nothing is yielded at the stops")
    fail(f"laps come after {got} steps: {stops} are the stops")


def judge_fresh(diary):
    first, *others = (data for data, _ in diary.batches)
    if others and all(torch.equal(first, other) for other in others):
        fail("every step has the same batch: call batch(generator) in each")


def judge_rates(rates, lr):
    got = torch.tensor([one[0] for one in rates])
    n = len(got)
    i = torch.arange(n)
    compare(got, lr * ((i + 1) / 50).clamp(max=1), {
        "the rate is lr from the start: it rises for 50 steps": torch.full((n,), lr),
        "the first step has a rate of 0: it is lr / 50": lr * (i / 50).clamp(max=1),
        "the rate of the step after: it is set before the step": lr * ((i + 2) / 50).clamp(max=1),
        "the rate goes on to rise after 50 steps": lr * (i + 1) / 50,
        "the rate falls: all laps have the same, so that each is also a shorter run":
            lr * ((i + 1) / 50).clamp(max=1) * (1 - i / n),
        "the rate rises to the end: for 50 steps": lr * (i + 1) / n,
    }, where="the learning rates")


def judge_decays(decays):
    got = torch.tensor([float(decay) for decay in decays])
    i = torch.arange(len(got))
    compare(got, ((i + 1) / (i + 10)).clamp(max=0.98), {
        "the average's decay stays 0.98: at first it is smaller": torch.full(got.shape, 0.98),
        "that is what the average takes: 1 - decay": 1 - ((i + 1) / (i + 10)).clamp(max=0.98),
        "the decay of the step before: i counts from 0": i / (i + 9),
        "it grows beyond 0.98": (i + 1) / (i + 10),
    }, where="the average's decays")


def judge_laps(found, diary, stops):
    """Whether each lap has the mean of its own losses and the average as it was then."""
    begin, averages = 0, [pair[0] for _, _, pair in found]
    if any(one is diary.network for one in averages):
        fail("at a stop yield the average, not the network")
    for (steps, loss, pair), before in zip(found, [None, *found[:-1]], strict=True):
        own = torch.tensor(diary.losses[begin:steps], dtype=torch.float64)
        whole = torch.tensor(diary.losses[:steps], dtype=torch.float64)
        compare(torch.as_tensor(loss), own.mean(), {
            "that is the last loss: the mean since the last stop": own[-1],
            "the mean since the beginning: since the last stop": whole.mean(),
            "their sum: the mean": own.sum(),
            "the mean of a lap counts its own steps": own.sum() / steps,
        }, where="the mean loss of a lap")
        if before is not None and same(pair[1], before[2][1]):
            fail("two laps have the same weights: yield at the stop, while the training goes on")
        begin = steps


def same(one, other) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
