"""Few steps: learn where a trajectory ends, not only where it leads next.

The probability flow leads each noise along one trajectory to one picture, so the way can be learned
as a whole. A teacher, guided or not, is followed for a short step at a time, and a student learns
that all points of a trajectory have one end:
  consistency   f(x_t, t) = f(x_s, s),  f(x, 0) = x                Song et al. 2023
  shortcut      one jump from t to s is two jumps of half the length    Frans et al. 2024
f has the denoiser's form, denoise(x, t, context) -> x0, and f(x, 0) = x for every prediction type
but x0. Only what x0 means is another: the end of the trajectory, not the mean of all data that x_t
may come from. A jump's network is told both of its times and answers with the mean velocity.
"""

from collections.abc import Callable

import torch
from torch import nn

from minildm.diffusion.samplers import (
    Step,
    distinct,
    intervals,
    levels,
    normal_noise,
    without_gradients,
)
from minildm.diffusion.schedules import Schedule, add_noise, expand, flow
from minildm.nn.layers import TimeEmbedding, zero_

HALVINGS = 5        # jumps are 1, 1/2, ... 1/2^5 long; the shortest are the teacher's


# ---- consistency

def trajectory_step(denoise: Callable, schedule: Schedule, x, t, s):
    """One step of DDIM from t to s, each row of x (B, ...) at its own times (B,)."""
    x0 = denoise(x, t)
    t, s = expand(t, x), expand(s, x)
    eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
    return schedule.alpha(s) * x0 + schedule.sigma(s) * eps


def random_steps(ts, n: int, generator=None, device=None):
    """n steps of the grid ts (K + 1,), each alike often: where they begin and end, both (n,)."""
    i = torch.randint(len(ts) - 1, (n,), generator=generator, device=device)
    ts = ts.to(i.device)
    return ts[i], ts[i + 1]


def consistency_loss(student: Callable, average: Callable, teacher: Callable, schedule: Schedule,
                     data, ts, generator=None):
    """How far the student's end of a trajectory is from the average student's, a step further on.

    (Song et al. 2023, eq. 7, arXiv:2303.01469, with squares.) All three are f(x, t) -> x0, the
    condition given; the teacher may be guided: what it is, the student becomes. data (B, ...); ts
    (K + 1,) falls from 1 to 0. No gradient goes through the average.
    """
    t, s = random_steps(ts, len(data), generator, data.device)
    noise = torch.randn(data.shape, generator=generator, device=data.device)
    x_t = add_noise(schedule, data, noise, t)
    with torch.no_grad():
        x_s = trajectory_step(teacher, schedule, x_t, t, s)
        end = average(x_s, s)
    return (student(x_t, t) - end).square().mean()


@without_gradients
def consistency(denoise: Callable, schedule: Schedule, noise, ts, generator=None,
                noise_sampler=None):
    """Jump to the end of the trajectory, add new noise up to the next time, and jump again.

    (Song et al. 2023, algorithm 1.) One step is denoise(noise, 1). New noise, as x0 is a sample
    already: the old one belongs to it, and both together are no x_t of the data.
    """
    x, draw = noise, noise_sampler or normal_noise(noise, generator)
    for i, t, s in intervals(distinct(ts)):
        x0 = denoise(x, t)
        a_s, sd_s = levels(schedule, s, x)
        # at the data nothing is added, and no generator is moved
        x = a_s * x0 + sd_s * draw(i) if s > 0 else x0
        yield Step(i, s, x, x0)


# ---- shortcut

class BothTimes(nn.Module):
    """A time embedding for jumps: times (B, 2), from and to; it begins as that of the first."""

    def __init__(self, of_time: TimeEmbedding):
        super().__init__()
        self.of_time = of_time
        self.of_length = TimeEmbedding(of_time.dim, of_time.linear_2.out_features)
        zero_(self.of_length.linear_2)

    def forward(self, times):
        t, s = times.unbind(dim=-1)
        return self.of_time(t) + self.of_length(t - s)


class JumpNetwork(nn.Module):
    """u(x, t, s, context): the mean velocity of the way from t to s, t > s, each a number or (B,).

    It takes over a network of `minildm.nn` that predicts a flow, and begins as that velocity at t.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        network.time_embedding = BothTimes(network.time_embedding)
        self.network = network

    def forward(self, x, t, s, context=None):
        both = torch.stack(torch.broadcast_tensors(torch.as_tensor(t), torch.as_tensor(s)), dim=-1)
        return self.network(x, both.expand(len(x), 2), context)


def shortcut_target(velocity: Callable, average: Callable, x, t, s, shortest: float):
    """The mean velocity of a jump by its two halves, or the teacher's where it is the shortest.

    (Frans et al. 2024, eq. 4, arXiv:2410.12557.) velocity(x, t) and average(x, t, s), times (B,).
    """
    middle = (t + s) / 2
    first = average(x, t, middle)
    halfway = x + expand(middle - t, x) * first
    second = average(halfway, middle, s)
    whole = expand(t - s, x) > shortest
    return torch.where(whole, (first + second) / 2, velocity(x, t))


def random_jumps(n: int, generator=None, device=None, halvings: int = HALVINGS):
    """n jumps of random lengths 1, 1/2, ... at random places: where they begin and end, both (n,).

    A jump of the length 1 / 2^k has one of 2^k places, side by side from 1 down to 0.
    """
    level = torch.randint(halvings + 1, (n,), generator=generator, device=device)
    length = 0.5 ** level
    place = (torch.rand(n, generator=generator, device=device) / length).floor()
    return (place + 1) * length, place * length


def shortcut_loss(student: Callable, average: Callable, velocity: Callable, data, generator=None,
                  halvings: int = HALVINGS):
    """The error of a jump's mean velocity, for random jumps. On the schedule `flow`.

    student and average are u(x, t, s), velocity(x, t) is the teacher's, guided or not.
    """
    t, s = random_jumps(len(data), generator, data.device, halvings)
    noise = torch.randn(data.shape, generator=generator, device=data.device)
    x = add_noise(flow, data, noise, t)
    with torch.no_grad():
        wanted = shortcut_target(velocity, average, x, t, s, 0.5 ** halvings)
    return (student(x, t, s) - wanted).square().mean()


@torch.no_grad()
def jump(network: Callable, x, ts):
    """From x at the first of the times ts to the last, a jump each: network is u(x, t, s)."""
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x = x + (s - t) * network(x, t, s)
    return x
