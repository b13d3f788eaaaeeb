"""Lesson 03's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import right_and_wrong, told

from minildm import exercises
from minildm.course.exercises import lesson_03
from minildm.diffusion import schedules
from minildm.diffusion.schedules import expand, log_snr

HELPERS = {"expand": expand, "schedules": schedules, "log_snr": log_snr}

RIGHT = [
    ("posterior_weights", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(dim=1)
     """),
    ("posterior_weights", """
        a, b = x.flatten(1), schedule.alpha(t) * world.flatten(1)
        squared = a.square().sum(1, keepdim=True) - 2 * a @ b.T + b.square().sum(1)
        return torch.softmax(-0.5 * squared / schedule.sigma(t)**2, 1)
     """),
    ("posterior_weights", """
        centres = (schedule.alpha(t) * world).flatten(1)
        rows = []
        for one in x.flatten(1):
            log = -(one - centres).square().sum(1) / (2 * schedule.sigma(t)**2)
            weights = (log - log.max()).exp()
            rows.append(weights / weights.sum())
        return torch.stack(rows)
     """),
    ("add_noise", "t = torch.as_tensor(t).reshape(-1, *[1] * (data.ndim - 1))\n"
                  "return schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "schedule.alpha(expand(t, data)) * data + schedule.sigma(expand(t, data)) * "
                  "noise"),
    ("add_noise", "each = torch.as_tensor(t).expand(len(data))\n"
                  "return torch.stack([schedule.alpha(u) * x + schedule.sigma(u) * n "
                  "for x, n, u in zip(data, noise, each)])"),
    ("add_noise", "each = torch.as_tensor(t).expand(len(data))\n"
                  "return torch.einsum('b,b...->b...', schedule.alpha(each), data) "
                  "+ torch.einsum('b,b...->b...', schedule.sigma(each), noise)"),
    ("add_noise", "a, sd = schedule\nif isinstance(t, float):\n    t = torch.full((len(data),), t)\n"
                  "t = t.expand(len(data)).view(len(data), *(1 for _ in data.shape[1:]))\n"
                  "return torch.lerp(a(t) * data, sd(t) * noise, 0.5) * 2"),
    ("add_noise", """
        t = torch.as_tensor(t)
        while 0 < t.ndim < data.ndim:
            t = t.unsqueeze(-1)
        return schedule.alpha(t) * data + schedule.sigma(t) * noise
     """),
    ("time_at", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", """
        t = torch.zeros_like(wanted)
        for i in range(1, 30):
            step = t + 0.5**i
            t = torch.where(log_snr(schedule, step) >= wanted, step, t)
        return t
     """),
    ("time_at", """
        found = []
        for level in wanted.flatten():
            low, high = 0.0, 1.0
            while high - low > 1e-8:
                middle = (low + high) / 2
                if log_snr(schedule, torch.tensor(middle)) > level:
                    low = middle
                else:
                    high = middle
            found.append(high)
        return torch.tensor(found, dtype=wanted.dtype).reshape(wanted.shape)
     """),
    ("reverse_step", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        density = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return density / (density.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", """
        ratio = schedule.alpha(t) / schedule.alpha(s)
        std = (schedule.sigma(t)**2 - (ratio * schedule.sigma(s))**2).sqrt()
        log = torch.distributions.Normal(ratio * grid, std).log_prob(x_t)
        both = (log + marginal(grid, s).log()).softmax(0)
        return both / (grid[1] - grid[0])
     """),
    ("reverse_step", """
        ratio = schedule.alpha(t) / schedule.alpha(s)
        variance = schedule.sigma(t)**2 - ratio**2 * schedule.sigma(s)**2
        joint = marginal(grid, s) / variance.sqrt() * (-0.5 * (x_t - ratio * grid)**2 / variance).exp()
        return joint / marginal(x_t[None], t) / torch.trapezoid(joint / marginal(x_t[None], t), grid)
     """),
    ("latent_scale", "1 / (mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))).sqrt()"),
    ("latent_scale", "(mean.var((0, 2, 3), correction=0) + (std**2).mean((0, 2, 3))) ** -0.5"),
    ("latent_scale", """
        factors = []
        for c in range(mean.shape[1]):
            total = mean[:, c].var() + (std[:, c] ** 2).mean()
            factors.append(1 / total.sqrt())
        return torch.stack(factors)
     """),
    ("latent_scale", """
        m, s = (x.transpose(0, 1).flatten(1) for x in (mean, std))
        second = (m**2 + s**2).mean(1)
        return (second - m.mean(1)**2).rsqrt()
     """),
]

WRONG = [
    ("posterior_weights", "add up to 1", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t)**2)).exp()
     """),
    ("posterior_weights", "axis 1", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(0)
     """),
    ("posterior_weights", "multiplied by alpha", """
        centres = world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(1)
     """),
    ("posterior_weights", "squared", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres)
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(1)
     """),
    ("posterior_weights", "not sigma", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t))).softmax(1)
     """),
    ("posterior_weights", "noise's variance", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / 2).softmax(1)
     """),
    ("posterior_weights", "the 2 of", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (schedule.sigma(t)**2)).softmax(1)
     """),
    ("posterior_weights", "sign", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (squared / (2 * schedule.sigma(t)**2)).softmax(1)
     """),
    ("posterior_weights", "changed places", """
        centres = schedule.sigma(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.alpha(t)**2)).softmax(1)
     """),
    ("posterior_weights", "unsure", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square() / centres.shape[1]
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(1)
     """),
    ("posterior_weights", "logarithms", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t)**2)).log_softmax(1)
     """),
    ("posterior_weights", "best guess", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return ((-squared / (2 * schedule.sigma(t)**2)).softmax(1) @ world.flatten(1)).reshape(x.shape)
     """),
    ("posterior_weights", "other way round", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(1).T
     """),
    ("posterior_weights", "NaN", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = torch.cdist(x.flatten(1), centres).square()
        unnormalised = (-squared / (2 * schedule.sigma(t)**2)).exp()
        return unnormalised / unnormalised.sum(1, keepdim=True)
     """),
    ("posterior_weights", "differences", """
        centres = schedule.alpha(t) * world.flatten(1)
        squared = (x.flatten(1)[:, None] - centres).square().sum(2)
        return (-squared / (2 * schedule.sigma(t)**2)).softmax(dim=1)
     """),
    ("add_noise", "column", "schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "squares", "t = expand(t, data)\n"
                             "return schedule.alpha(t)**2 * data + schedule.sigma(t)**2 * noise"),
    ("add_noise", "changed places", "t = expand(t, data)\n"
                                    "return schedule.sigma(t) * data + schedule.alpha(t) * noise"),
    ("add_noise", "alpha is missing", "data + schedule.sigma(expand(t, data)) * noise"),
    ("add_noise", "sigma is missing", "schedule.alpha(expand(t, data)) * data + noise"),
    ("add_noise", "first one's", "schedule.alpha(t[0]) * data + schedule.sigma(t[0]) * noise"),
    ("add_noise", "mean time",
     "schedule.alpha(t.mean()) * data + schedule.sigma(t.mean()) * noise"),
    ("add_noise", "not subtracted", "t = expand(t, data)\n"
                                    "return schedule.alpha(t) * data - schedule.sigma(t) * noise"),
    ("add_noise", "root of 1 - alpha", "a = schedule.alpha(expand(t, data))\n"
                                       "return a * data + (1 - a**2).abs().sqrt() * noise"),
    ("add_noise", "1 - t", "t = expand(t, data)\nreturn (1 - t) * data + t * noise"),
    ("add_noise", "noise is missing", "schedule.alpha(expand(t, data)) * data"),
    ("add_noise", "time runs", "t = expand(1 - t, data)\n"
                               "return schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "first inputs", "t = t[:, None, None, None]\n"
                                  "return schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "factor of `data`", "t = expand(t, data)\nreturn torch.cos(t * math.pi / 2) * data "
                                  "+ torch.sin(t * math.pi / 2) * noise"),
    ("add_noise", "in place", "t = expand(t, data)\ndata *= schedule.alpha(t)\n"
                              "return data + schedule.sigma(t) * noise"),
    ("add_noise", "in place", "t = t.resize_(len(t), *[1] * (data.ndim - 1))\n"
                              "return schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "two results", "t = expand(t, data)\n"
                             "return schedule.alpha(t) * data + schedule.sigma(t) * "
                             "torch.randn_like(data)"),
    ("add_noise", "times",
     "t = expand(t, data)\nx = schedule.alpha(t) * data + schedule.sigma(t) * noise\n"
                             "return x / x.std()"),
    ("add_noise", "wrong|differs", "t = expand(t, data)\n"
                                   "return (schedule.alpha(t) * data + schedule.sigma(t) * "
                                   "noise).clamp(-1, 1)"),
    ("add_noise", "raised",
     "t = t[:, None]\nreturn schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "package", "schedules.add_noise(schedule, data, noise, t)"),
    ("add_noise", "raised", "return torch.stack([schedule.alpha(u) * x + schedule.sigma(u) * n "
                                "for x, n, u in zip(data, noise, t)])"),
    ("time_at", "halves are exchanged", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) < wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", "minus `wanted`", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > -wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", "squares are missing", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > 2 * wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", "a square too many", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > wanted / 2
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", "1e-6", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early * 1000).round() / 1000
     """),
    ("time_at", "differs|wrong|should be", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(7):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", "1 - t", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) > wanted
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return 1 - late
     """),
    ("time_at", "cosine only", "torch.atan((-wanted / 2).exp()) * 2 / math.pi"),
    ("time_at", "flow only", "torch.sigmoid(-wanted / 2)"),
    ("time_at", "first one's", """
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(40):
            middle = (early + late) / 2
            too_early = log_snr(schedule, middle) .flatten()[0] > wanted.flatten()[0]
            early = torch.where(too_early, middle, early)
            late = torch.where(too_early, late, middle)
        return (early + late) / 2
     """),
    ("time_at", "ambiguous", """
        low, high = torch.zeros_like(wanted), torch.ones_like(wanted)
        while high[0] - low[0] > 1e-8:
            middle = (low + high) / 2
            if log_snr(schedule, middle) > wanted:
                low = middle
            else:
                high = middle
        return high
     """),
    ("time_at", "package", "schedules.at_ratio(schedule, (-wanted / 2).exp())"),
    ("time_at", "`wanted`, unchanged", "wanted"),
    ("reverse_step", "spacing is missing", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / p.sum()
     """),
    ("reverse_step", "divide by the sum", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p
     """),
    ("reverse_step", "`marginal`, is missing", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added))
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "is missing", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        p = marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "asked at t", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, t)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "all the noise at t", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        added = schedule.sigma(t)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "shrunk on the way", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        added = schedule.sigma(t)**2 - schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "factor is squared", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        added = schedule.sigma(t)**2 - keep * schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "root of the variance", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        added = added.sqrt()
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "it is one already", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        added = added**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "the 2 of", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        added = added / 2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "division is missing", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        keep = schedule.alpha(t)
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "factor is missing", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        keep = 1
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "not alpha_s", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        keep = 1 / keep
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "their sum", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) + marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("reverse_step", "differs|wrong", """
        keep = schedule.alpha(t) / schedule.alpha(s)
        added = schedule.sigma(t)**2 - keep**2 * schedule.sigma(s)**2
        keep = 1 / keep ** 2
        p = torch.exp(-(x_t - keep * grid)**2 / (2 * added)) * marginal(grid, s)
        return p / (p.sum() * (grid[1] - grid[0]))
     """),
    ("latent_scale", "own noise is missing", "1 / mean.std((0, 2, 3))"),
    ("latent_scale", "noise alone", "1 / std.square().mean((0, 2, 3)).sqrt()"),
    ("latent_scale", "variances add",
     "1 / (mean.std((0, 2, 3)) + std.square().mean((0, 2, 3)).sqrt())"),
    ("latent_scale", "variances add", "1 / (mean.std((0, 2, 3)) + std.mean((0, 2, 3)))"),
    ("latent_scale", "mean of squares", "(mean.var((0, 2, 3)) + std.mean((0, 2, 3))**2) ** -0.5"),
    ("latent_scale", "square of its std", "(mean.var((0, 2, 3)) + std.mean((0, 2, 3))) ** -0.5"),
    ("latent_scale", "average its squares", "(mean.var((0, 2, 3)) + std.var((0, 2, 3))) ** -0.5"),
    ("latent_scale", "root is missing",
     "1 / (mean.var((0, 2, 3)) + std.square().mean((0, 2, 3)))"),
    ("latent_scale", "wider", "(mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))).sqrt()"),
    ("latent_scale", "subtract them", "(mean.square() + std.square()).mean((0, 2, 3)).rsqrt()"),
    ("latent_scale", "one number for all", "(mean.var() + std.square().mean()).rsqrt()"),
    ("latent_scale", "single positions", "(mean.var(0) + std.square().mean(0)).rsqrt()"),
    ("latent_scale", "shape", "(mean.var((2, 3)) + std.square().mean((2, 3))).rsqrt()"),
    ("latent_scale", "in place", "mean -= mean.mean((0, 2, 3), keepdim=True)\n"
     "return (mean.square() + std.square()).mean((0, 2, 3)).rsqrt()"),
    ("latent_scale", "random",
     "(mean + std * torch.randn_like(std)).var((0, 2, 3)).rsqrt()"),
    ("latent_scale", "return", "(mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))).rsqrt()\nreturn"),
]


# ---- the schedule, a class: the right one, with some of its methods replaced

class Schedule:
    def __init__(self, betas):
        self.betas = betas
        table = [1.0]
        for beta in betas:
            table.append(table[-1] * (1 - beta.item()))
        self.alpha_bar = torch.tensor(table, dtype=torch.float64)

    def walk(self, x, generator):
        out = torch.empty(len(self.betas) + 1, *x.shape)
        out[0] = x
        for i, beta in enumerate(self.betas.tolist()):
            fresh = torch.randn(x.shape, generator=generator)
            out[i + 1] = (1 - beta)**0.5 * out[i] + beta**0.5 * fresh
        return out

    def kept(self, t):
        n = len(self.alpha_bar) - 1
        right = (t.double() * n).ceil().long().clamp(min=1)
        part = t.double() * n - (right - 1)
        return self.alpha_bar[right - 1]**(1 - part) * self.alpha_bar[right]**part

    def alpha(self, t):
        return (0.5 * self.kept(t).log()).exp().to(t)

    def sigma(self, t):
        return (1 - self.kept(t)).sqrt().to(t)


def schedule(**methods):
    return type("BetaSchedule", (Schedule,), {"__module__": "__main__"} | methods)


def table(make):
    """A schedule whose table is another one."""
    def build(self, betas):
        self.betas, self.alpha_bar = betas, make(betas.double())
    return schedule(__init__=build)


def steps(keep, add, first=True):
    def walk(self, x, generator):
        found = [x]
        for beta in self.betas.to(x.dtype):
            fresh = torch.randn(x.shape, generator=generator)
            found.append(keep(beta) * found[-1] + add(beta) * fresh)
        return torch.stack(found[0 if first else 1:])
    return schedule(walk=walk)


def at(place):
    """A schedule that looks its table up in another way."""
    return schedule(kept=lambda self, t: place(self.alpha_bar, t.double() * (len(self.alpha_bar) - 1)))


def lerp(values, place):
    low = place.long().clamp(max=len(values) - 2)
    return torch.lerp(values[low], values[low + 1], place - low)


ONE = torch.ones(1, dtype=torch.float64)
WRONG_SCHEDULES = [
    ("roots are missing", steps(lambda b: 1 - b, lambda b: b)),
    ("data's root", steps(lambda b: 1 - b, lambda b: b.sqrt())),
    ("noise's root", steps(lambda b: (1 - b).sqrt(), lambda b: b)),
    ("not shrunk", steps(lambda b: 1, lambda b: b.sqrt())),
    ("changed places", steps(lambda b: b.sqrt(), lambda b: (1 - b).sqrt())),
    ("entry 0", steps(lambda b: (1 - b).sqrt(), lambda b: b.sqrt(), first=False)),
    ("one seed|generator", schedule(walk=lambda self, x, generator: Schedule.walk(self, x, None))),
    ("alone", schedule(walk=lambda self, x, generator: Schedule.walk(self, x, generator)[-1])),
    ("in place", schedule(walk=lambda self, x, generator: Schedule.walk(self, x.mul_(2), generator))),
    ("this is a sum", table(lambda b: torch.cat([ONE, 1 - b.cumsum(0)]))),
    ("single steps", table(lambda b: torch.cat([ONE, 1 - b]))),
    ("a root", table(lambda b: torch.cat([ONE, (1 - b).cumprod(0)]).sqrt())),
    ("a root", table(lambda b: torch.cat([ONE, (1 - b).sqrt().cumprod(0)]))),
    ("product is of 1 - beta", table(lambda b: torch.cat([ONE, b.cumprod(0)]))),
    ("in front is missing", table(lambda b: (1 - b).cumprod(0))),
    ("at the end", table(lambda b: torch.cat([(1 - b).cumprod(0), ONE]))),
    ("begin with the first", table(lambda b: torch.cat([ONE, (1 - b).flip(0).cumprod(0)]))),
    ("exponential of a sum", table(lambda b: torch.cat([ONE, (-b.cumsum(0)).exp()]))),
    ("tensor", table(lambda b: [1.0])),
    ("linear without it", at(lerp)),
    ("entry before", at(lambda values, place: values[place.long().clamp(max=len(values) - 2)])),
    ("take its exponential", at(lambda values, place: lerp(values.log(), place))),
    ("raised", at(lambda values, place: torch.lerp(
        values.log()[place.long()], values.log()[place.long() + 1], place - place.long()).exp())),
    ("root of what is kept", schedule(alpha=lambda self, t: self.kept(t).to(t))),
    ("float64", schedule(alpha=lambda self, t: self.kept(t).sqrt())),
    ("root is missing", schedule(sigma=lambda self, t: (1 - self.kept(t)).to(t))),
    ("this is 1 - alpha", schedule(sigma=lambda self, t: 1 - self.alpha(t))),
    ("no method", schedule(sigma=None)),
    ("package", lesson_03.BetaSchedule),
]


def test_right_schedules_pass():
    exercises.check_BetaSchedule(Schedule)


@pytest.mark.parametrize("said, answer", WRONG_SCHEDULES, ids=str)
def test_wrong_schedules_are_told_what_is_wrong(said, answer):
    assert re.search(said, told("BetaSchedule", answer))


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)
