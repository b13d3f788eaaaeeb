"""The check of lesson 04's training loop: what each step is given, and what comes back."""

import copy

import torch

from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import generator
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_04_training import Line, ema_step


def train_average(network, loss, step, data, labels, steps, generator, batch_size=64, lr=3e-3):
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.95))
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, (i + 1) / 50) * (1 - i / steps)
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        now = loss(network, data[rows], labels[rows], generator)
        decay = min(0.995, (i + 1) / (i + 10))
        losses.append(step(network, average, optimizer, now, decay))
    return average, losses


class Diary:
    """A loss and a step that write down what they are given."""

    def __init__(self, network):
        self.network, self.batches, self.losses = network, [], []
        self.rates, self.decays, self.averages, self.optimizers = [], [], [], []

    def loss(self, network, data, labels, generator):
        if network is not self.network:
            fail("the loss asks the network that is trained, not its average")
        self.batches.append((data.clone(), labels.clone()))
        # the mean of what it sees, times a weight
        return (network.bias.sum() - data.mean()).square() + 0 * network.weight.sum()

    def step(self, network, average, optimizer, loss, decay):
        if not isinstance(optimizer, torch.optim.Optimizer):
            fail(f"the step's third input is the optimizer: this is {describe(optimizer)}")
        if not isinstance(loss, torch.Tensor):
            fail(f"the step's fourth input is the loss, with its graph: this is {describe(loss)}")
        if len(self.averages) >= len(self.batches):
            fail("two steps with one loss: once in each of the steps")
        if average is network:
            fail("the average is a copy: yours is the network itself")
        if not self.averages and not same_weights(average, network):
            fail("the average begins as a copy of the network's weights")
        self.rates.append([group["lr"] for group in optimizer.param_groups])
        self.decays.append(decay)
        self.averages.append(average)
        self.optimizers.append(optimizer)
        self.losses.append(ema_step(network, average, optimizer, loss, decay))
        return self.losses[-1]


def same_weights(one, other) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a.detach(), b.detach()) for a, b in pairs)


@check(reference=train_average)
def check_train_average(answer):
    for steps, size, lr in (70, 8, 0.01), (56, 5, 0.2):
        # a datum's own number, and its label, can be read off it
        labels = torch.arange(40) % 3
        data = torch.stack([torch.arange(40.0), labels + 0.0], 1)
        network, source = Line(), generator()
        diary = Diary(network)
        got = answer(network, diary.loss, diary.step, data, labels, steps, source, size, lr)
        judge_counts(diary, steps)
        judge_batches(diary.batches, data, size)
        judge_optimizer(diary, network)
        judge_rates(diary.rates, lr, steps)
        judge_decays(diary.decays)
        judge_result(got, diary)
        answer.right += 1


def judge_counts(diary, steps):
    for what, calls in ("loss", diary.batches), ("step", diary.averages):
        if len(calls) != steps:
            fail(f"`{what}` is called {len(calls)} times in {steps} steps: once in each")


def judge_batches(batches, data, size):
    """Raise Wrong unless each batch has rows of its own, drawn by torch.randint."""
    for some, labels in batches:
        if some.shape != (size, 2) or labels.shape != (size,):
            fail(f"a batch has {size} data and their labels: these are {tuple(some.shape)} and "
                 f"{tuple(labels.shape)}")
        if not torch.equal(some[:, 1], labels.float()):
            fail("data and labels of a batch don't belong together: take the same rows of both")
    source = generator()
    for some, _ in batches:
        if not torch.equal(some, data[torch.randint(len(data), (size,), generator=source)]):
            fail("each step draws its rows anew: torch.randint(len(data), (batch_size,), "
                 "generator=generator), from all data")


def judge_optimizer(diary, network):
    first = diary.optimizers[0]
    if any(one is not first for one in diary.optimizers):
        fail("one optimizer for all steps: a new one forgets its moments")
    if any(one is not diary.averages[0] for one in diary.averages):
        fail("one average for all steps: a new copy forgets what it has seen")
    if any(p.requires_grad for p in diary.averages[0].parameters()):
        fail("the average asks for no gradients: requires_grad_(False)")
    if type(first) is not torch.optim.AdamW:
        fail(f"the optimizer is AdamW: yours is {type(first).__name__}")
    held = {id(p) for group in first.param_groups for p in group["params"]}
    if held != {id(p) for p in network.parameters()}:
        fail("the optimizer moves the network's parameters, all of them and no others")
    if any(tuple(group["betas"]) != (0.9, 0.95) for group in first.param_groups):
        fail(f"betas are 0.9 and 0.95: yours are {first.param_groups[0]['betas']}")


def judge_rates(rates, lr, steps):
    got = torch.tensor([one[0] for one in rates])
    i = torch.arange(steps)
    rise, fall = ((i + 1) / 50).clamp(max=1), 1 - i / steps
    compare(got, lr * rise * fall, {
        "the learning rate stays the same: it rises for 50 steps and falls to 0":
            torch.full((steps,), lr),
        "the learning rate doesn't rise at first": lr * fall,
        "the learning rate doesn't fall": lr * rise,
        "the rate of the step after: it is set before the step":
            lr * ((i + 2) / 50).clamp(max=1) * (1 - (i + 1) / steps),
        "the rate of the step before: it is set before the step":
            lr * (i / 50).clamp(max=1) * (1 - (i - 1).clamp(min=0) / steps),
        "the rise begins at 1 / 50, not at 0": lr * (i / 50).clamp(max=1) * fall,
        "the fall begins at 1, in the first step": lr * rise * (1 - (i + 1) / steps),
        "the smaller of rise and fall: their product": lr * torch.minimum(rise, fall),
        "lr isn't used": 3e-3 * rise * fall,
    }, where="the learning rates")


def judge_decays(decays):
    got = torch.tensor([float(decay) for decay in decays])
    i = torch.arange(len(got))
    compare(got, ((i + 1) / (i + 10)).clamp(max=0.995), {
        "the average's decay stays 0.995: at first it is smaller": torch.full(got.shape, 0.995),
        "that is what the average takes: 1 - decay": 1 - (i + 1) / (i + 10),
        "the decay of the step before: i counts from 0": i / (i + 9),
    }, where="the average's decays")


def judge_result(got, diary):
    if not isinstance(got, tuple | list) or len(got) != 2:
        fail(f"return the average and the losses: this is {describe(got)}")
    average, losses = got
    if average is not diary.averages[0]:
        fail("return the average first: this is not the module that the steps have moved")
    if isinstance(losses, list | tuple) and any(isinstance(one, torch.Tensor) for one in losses):
        fail("a loss kept with its graph keeps the whole step in memory: what `step` returned")
    if not isinstance(losses, list | tuple) or list(losses) != diary.losses:
        fail(f"return what each step returned, a list of {len(diary.losses)} numbers")
