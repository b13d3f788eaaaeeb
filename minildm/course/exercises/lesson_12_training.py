"""The check of lesson 12 on the training of a control, by what a spying network sees of it."""

import torch

from minildm.course.exercises.compare import close, fail
from minildm.course.exercises.fakes import generator
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import (
    Watched,
    judge_list,
    judge_moves,
    judge_rows,
    judge_velocity,
    judge_way,
)
from minildm.diffusion.schedules import add_noise, flow

N, LENGTH, WIDTH = 40, 3, 2             # of the check's latents, and of their contexts
EXAMPLE = torch.arange(N).reshape(-1, 1, 1, 1)


def train_control(predict, control, latents, contexts, null, hints, times, steps, lr, generator,
                  batch=32):
    optimizer = torch.optim.AdamW(control.parameters(), lr=lr)
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        picked = torch.randint(len(latents), (batch,), generator=generator)
        data = latents[picked]
        noise = torch.randn(data.shape, generator=generator)
        t = times(batch, generator)
        dropped = torch.rand(batch, generator=generator) < 0.1
        context = torch.where(dropped[:, None, None], null, contexts[picked])
        velocity = predict(add_noise(flow, data, noise, t), t, context, hints[picked])
        loss = (velocity - (noise - data)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Spy:
    """The joined network: it remembers its calls, and answers with the control's weight.

    Latents of example k are all k, its context is k, its hint k as well: so each can be told.
    """

    def __init__(self, asked_times):
        self.control, self.calls, self.weights = Watched(), [], []
        self.asked_times = asked_times

    def times(self, n, generator=None, device=None):
        self.asked_times.append(n)
        return 0.1 + 0.8 * torch.rand(n, generator=generator)

    def predict(self, x, t, context, hint):
        if not isinstance(t, torch.Tensor) or t.shape != (len(x),):
            fail("each latent of a batch has a time of its own: t is (B,)")
        if context.shape != (len(x), LENGTH, WIDTH):
            fail(f"contexts are {(len(x), LENGTH, WIDTH)}, these are {tuple(context.shape)}")
        if hint.shape != (len(x), 1, 4, 4):
            fail(f"hints are {(len(x), 1, 4, 4)}, these are {tuple(hint.shape)}")
        self.calls.append((x.detach().clone(), t.clone(), context.clone(), hint.clone()))
        self.weights.append(self.control.value.item())
        return self.control.value + 0 * x


def run(answer, steps, lr=0.01, batch=32, seed=0):
    """Train a spy -> (spy, what the answer returned)."""
    asked = []
    spy = Spy(asked)
    latents = EXAMPLE.float().expand(-1, 2, 3, 4).clone()
    contexts = EXAMPLE[:, 0].float().expand(-1, LENGTH, WIDTH).clone()
    hints = EXAMPLE.float().expand(-1, 1, 4, 4).clone()
    null = torch.full((1, LENGTH, WIDTH), -1.0)
    losses = answer(spy.predict, spy.control, latents, contexts, null, hints, spy.times, steps, lr,
                    generator(seed), batch)
    if len(spy.calls) != steps:
        fail(f"the network is asked {len(spy.calls)} times in {steps} steps: once per step")
    sizes = {len(x) for x, *_ in spy.calls}
    if sizes != {batch}:
        fail(f"batches are of {sorted(sizes)} latents, {batch} are asked for")
    if asked != [batch] * steps:
        fail("the times of a step are `times(batch, generator)`: each step draws its own")
    return spy, losses


@check(reference=train_control)
def check_train_control(answer):
    spy, losses = run(answer, steps=60)
    judge_batches(spy)
    judge_noising(spy)
    judge_losses(spy, losses)
    judge_steps(spy, lr=0.01)
    answer.right += 1
    judge_steps(run(answer, steps=30, lr=0.003, batch=20)[0], lr=0.003)
    first, again, other = (torch.cat([call[0] for call in run(answer, 3, seed=seed)[0].calls])
                           for seed in (0, 0, 1))
    if not torch.equal(first, again):
        fail("one seed, two results: draw every random number from `generator`")
    if torch.equal(first, other):
        fail("another seed gives the same training: draw from `generator`, and don't seed it")


def judge_batches(spy):
    """Whether latents, contexts and hints are of the same examples, and a tenth of them is null."""
    lost = []
    for _, _, context, hint in spy.calls:
        told, drawn = context[:, 0, 0], hint[:, 0, 0, 0]
        null = told < -0.5
        lost.append(null)
        if not close(told[~null], drawn[~null]):
            fail("context and hint are not of the same scenes: one `picked` for all three")
    share = torch.cat(lost).float().mean()
    if share == 0:
        fail("no sentence is ever dropped: a tenth of the contexts becomes `null`")
    if share > 0.6:
        fail(f"{share:.0%} of the sentences are dropped: a tenth is to be, not kept")
    if not 0.07 < share < 0.13:
        fail(f"{share:.1%} of the sentences are dropped: 10 % are wanted")
    batches = {tuple(hint[:, 0, 0, 0].tolist()) for *_, hint in spy.calls}
    if len(batches) < len(spy.calls):
        fail("several steps have the same batch: draw one in each")
    judge_rows(torch.cat([hint[:, 0, 0, 0] for *_, hint in spy.calls]), N, "examples")


def parts_of(call):
    """(x, t, data) of a call, t to multiply with."""
    x, t, _, hint = call
    return x, t.reshape(-1, 1, 1, 1), hint[:, :, :1, :1].expand_as(x)


def judge_noising(spy):
    """Whether x is (1 - t) data + t noise, of the data that belong to the hints."""
    found = []
    for call in spy.calls:
        x, t, data = parts_of(call)
        found.append((x - (1 - t) * data) / t)
    noise = torch.cat(found)
    if noise.abs().mean() > 2:
        x, t, data = parts_of(spy.calls[0])
        if ((x - t * data) / (1 - t)).abs().mean() < 2:
            fail("data and noise changed places: at t = 0 there is data, at t = 1 noise")
        fail("x isn't (1 - t) data + t noise of the data that belong to these hints: one `picked` "
             "for all three")
    if abs(noise.mean()) > 0.1 or abs(noise.std() - 1) > 0.1:
        fail(f"the noise has mean {noise.mean():.2f} and standard deviation {noise.std():.2f}: "
             "0 and 1 are wanted")
    if found[0].std(0).max() < 0.3:
        fail("all latents get the same noise: draw it for the whole batch")


def judge_losses(spy, losses):
    """Whether each result is the mean square of velocity minus (noise - data)."""
    judge_list(losses, len(spy.calls))
    for call, weight, loss in zip(spy.calls, spy.weights, losses, strict=True):
        x, t, data = parts_of(call)
        noise = (x - (1 - t) * data) / t
        judge_velocity(loss, weight, data, noise, 0.01)


def judge_steps(spy, lr: float):
    """Whether gradients are fresh and steps have the size of the rate, which ends near zero."""
    moves = judge_moves(spy.control, spy.weights, lr, "the control", "lr * (1 - i / steps)")
    if moves[0] < 0.9 * lr:
        fail("the first step has the full rate: i = 0 there")
    n = len(spy.weights)
    i = torch.arange(n)
    way = torch.tensor([*spy.weights, spy.control.value.item()]).diff()
    if not judge_way(way, spy.control.gradients, lr * (1 - i / n), {
        "the rate falls one step early: step 0 has the full rate":
            {"rates": lr * (1 - (i + 1) / n)},
        "the rate falls one step late: it is set before the step":
            {"rates": lr * (1 - (i - 1).clamp(min=0) / n)},
    }):
        fail("the steps are not AdamW's with the rates lr * (1 - i / steps), and all else as "
             "torch has it")
