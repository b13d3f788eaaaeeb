"""The checks of lesson 09: the pair, somebody else's network, another schedule's times.

Those of training, of paths and of times have files of their own.
"""

import torch

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import Network, randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_09_paths import (
    check_arc_over_chord,
    check_at_unit_size,
    check_euler_path,
    check_straightness,
)
from minildm.course.exercises.lesson_09_times import check_shifted_logit_normal
from minildm.course.exercises.lesson_09_training import check_fit_network, check_flow_loss
from minildm.diffusion import denoiser
from minildm.diffusion.schedules import at_ratio, cosine, flow, linear

__all__ = ["check_arc_over_chord", "check_at_unit_size", "check_euler_path", "check_fit_network",
           "check_flow_loss", "check_flow_pair", "check_from_theirs", "check_on_schedule",
           "check_shifted_logit_normal", "check_straightness"]


def each(t, data):
    """t (B,) shaped to multiply data (B, ...)."""
    return t.reshape(-1, *[1] * (data.ndim - 1))


def flow_pair(data, noise, t):
    t = each(t, data)
    x_t = (1 - t) * data + t * noise
    return torch.stack([x_t, noise - data])


@check(reference=flow_pair)
def check_flow_pair(answer):
    for shape, times in ((3, 2, 5, 4), [0.4, 0.0, 0.8]), ((2, 7), [1.0, 0.3]):
        data, noise = randn(*shape), randn(*shape, seed=1)
        # a time for each picture, none of them 0, 1/2 or 1, where mistakes agree
        t = torch.tensor(times)
        answer.case((data, noise, t), flow_pair(data, noise, t), likely_pairs(data, noise, t),
                    where=f"shape {shape}")


def likely_pairs(data, noise, t):
    want = flow_pair(data, noise, t)
    x_t, target = want
    t = each(t, data)
    turned = (1 - t) * noise + t * data
    angle = t * torch.pi / 2
    arc = angle.cos() * data + angle.sin() * noise
    root = (1 - t**2).sqrt() * data + t * noise
    one_time = (1 - t[0]) * data + t[0] * noise

    def pair(place=x_t, line=target):
        return torch.stack([place, line])

    return {
        "the target points to the data: ours is noise - data": pair(line=-target),
        "data and noise changed places: t = 0 is data": pair(turned),
        "data and noise changed places": pair(turned, -target),
        "that is the arc of the cosine schedule: alpha is 1 - t": pair(arc),
        "alpha^2 + sigma^2 = 1 is an arc: on a line alpha is 1 - t": pair(root),
        "x_t is data + t noise: the data isn't scaled": pair(data + t * noise),
        "the noise isn't scaled": pair((1 - t) * data + noise),
        "x_t is data - t (noise - data): the way leads to the noise": pair(data - t * target),
        "x_t starts from the noise: at t = 0 it is the data": pair(noise + t * target),
        "x_t is the picture on the way at t: this is the data": pair(data),
        "the target is noise - data, not noise": pair(line=noise),
        "the target is noise - data, not data": pair(line=data),
        "the target is noise - data, not noise - x_t": pair(line=noise - x_t),
        "the target is the velocity on the way, not the place: noise - data": pair(line=x_t),
        "the target is noise - data, not t times that, which is x_t - data": pair(line=t * target),
        "the target is noise - data, not their sum": pair(line=noise + data),
        "that is the target of v-prediction: on a line it is noise - data":
            pair(line=(1 - t) * noise - t * data),
        "x_t comes first, then the target": want.flip(0),
        "x_t comes first, then the target: they stand side by side in one batch":
            torch.cat([x_t, target]),
        "x_t and target are the first axis: here they are the second": want.transpose(0, 1),
        "that is x_t alone: the target is wanted, too": x_t,
        "that is the target alone: x_t is wanted, too": target,
        "all pictures got the first one's time": pair(one_time),
    }


def from_theirs(network):
    def denoise(x, t):
        return x + t * network(x, 1 - t)

    return denoise


@check(reference=from_theirs)
def check_from_theirs(answer):
    # points and pictures; at t = 1/2 both times agree
    for shape, time in ((4, 2), 0.3), ((3, 2, 5, 4), 0.85):
        x, t = randn(*shape), torch.tensor(time)
        inner = Network()

        # theirs is called as the stub says, network(z, s)
        def network(z, s, inner=inner):
            if not isinstance(z, torch.Tensor) or z.ndim < 2:
                fail("their network takes the noisy points z first, then the time s")
            return inner(z, s)

        theirs, at_our_time = network(x, 1 - t), network(x, t)
        made = answer(network)
        denoise = answer.wrap(made, "a function of (x, t), not its value", ["x", "t"])
        denoise.case((x, t), x + t * theirs, {
            "the sign is wrong: theirs points to the data": x - t * theirs,
            "the network wants its own time, s = 1 - t": x + t * at_our_time,
            "the network wants its own time, s = 1 - t, and it points to the data":
                x - t * at_our_time,
            "the network wants its own time, s = 1 - t, and the way to the data is t long":
                x + (1 - t) * at_our_time,
            "the way to the data is t long, not 1 - t": x + (1 - t) * theirs,
            "the way to the data is t long, not 1": x + theirs,
            "the way to the data is t long, and theirs points to it": x - theirs,
            "the network wants its own time, s = 1 - t, not -t": x + t * network(x, -t),
            "the network wants its own time, s = 1 - t, not t - 1": x + t * network(x, t - 1),
            "that is what the network says, not x0": theirs,
            "that is what the network says at another time, not x0": at_our_time,
            "that is our velocity, noise - data, not x0": -theirs,
            "that is the noise, not the data": x - (1 - t) * theirs,
            "that is the way to the data: it starts at x": t * theirs,
            "x isn't scaled: data = x - t (noise - data)": (1 - t) * x + t * theirs,
            "x isn't scaled by t": t * x + t * theirs,
            "the way is t long, not 1 / t": x + theirs / t,
            "x - t v is x0 already: nothing is divided by 1 - t": (x + t * theirs) / (1 - t),
            "x_t has alpha 1 - t on the line, but theirs is no noise": (x - t * theirs) / (1 - t),
        }, where=f"shape {shape}, t = {time}")


@check(reference=denoiser.on_schedule)
def check_on_schedule(answer):
    # at the second's t = 1 the other's alpha is 0, and its ratio infinite
    cases = ((cosine, flow, 0.3, (4, 2)), (linear, flow, 1.0, (3, 2)),
             (flow, warped, 0.6, (3, 2, 5, 4)), (linear, cosine, 0.8, (2, 5)))
    for number, (own, other, time, shape) in enumerate(cases):
        x, t = randn(*shape), torch.tensor(time)
        inner = Network()
        want = denoiser.on_schedule(inner, own, other)(x, t)
        at = at_ratio(own, other.sigma(t) / other.alpha(t))
        # where one schedule ends earlier than the other, no factor is exact: sigma's will do
        by_sigma = inner(own.sigma(at) / other.sigma(t) * x, at)
        moved = answer.wrap(answer(inner, own, other), "a function of (x, t), not its value",
                            ["x", "t"])
        moved.right = number
        moved.case((x, t), want, likely_moves(inner, own, other, x, t), tol=1e-3,
                   also=[by_sigma], where=f"t = {time}, shape {shape}")


def likely_moves(inner, own, other, x, t):
    """{cause: a wrong answer of a denoiser that moves from the schedule own to other}."""
    alpha, sigma = other.alpha(t), other.sigma(t)
    at = at_ratio(own, sigma / alpha)
    # by sigma: at the other's t = 1 its alpha may be 0
    scale = own.sigma(at) / sigma
    there = at_ratio(other, own.sigma(t) / own.alpha(t))
    upside_down = at_ratio(own, alpha / sigma)
    return {
        "x isn't scaled: where sigma / alpha is equal, x differs by a factor": inner(x, at),
        "the network is asked at its own time, where sigma / alpha is equal": inner(scale * x, t),
        "nothing has changed: scale x, and ask at another time": inner(x, t),
        "the factor is upside down": inner(x / scale, at),
        "own and other changed places":
            inner(other.sigma(there) / own.sigma(t) * x, there),
        "x / alpha is data + sigma / alpha noise: its own alpha is missing":
            inner(x / alpha, at),
        "that is in other's scale: its own x is alpha times it": inner(own.alpha(at) * x, at),
        "the guess is of the data, which has one scale: it isn't scaled":
            inner(scale * x, at) / scale,
        "the guess is of the data, which isn't scaled": inner(scale * x, at) * scale,
        "at_ratio wants sigma / alpha, not alpha / sigma":
            inner(own.sigma(upside_down) / sigma * x, upside_down),
        "at_ratio wants sigma / alpha, not sigma": inner(scale * x, at_ratio(own, sigma)),
        "sigma and alpha both shrink by the factor: one is enough": inner(scale**2 * x, at),
    }
