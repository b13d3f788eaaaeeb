"""Lesson 03's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion import schedules
from minildm.diffusion.schedules import expand

HELPERS = {"expand": expand, "schedules": schedules}

RIGHT = [
    ("alpha_bar", "torch.cat([torch.ones(1), (1 - betas).cumprod(0)])"),
    ("alpha_bar", "torch.cat([torch.zeros(1), torch.log1p(-betas).cumsum(0)]).exp()"),
    ("alpha_bar", """
        kept = [1.0]
        for beta in betas:
            kept.append(kept[-1] * (1 - beta.item()))
        return torch.tensor(kept)
     """),
    ("alpha_bar", """
        table = torch.ones(len(betas) + 1)
        for i in range(len(betas)):
            table[i + 1] = table[i] * (1 - betas[i])
        return table
     """),
    ("alpha_bar", "F.pad((1 - betas.double()).cumprod(0), (1, 0), value=1.0).float()"),
    ("add_noise", "t = t.reshape(-1, *[1] * (data.ndim - 1))\n"
                  "return schedule.alpha(t) * data + schedule.sigma(t) * noise"),
    ("add_noise", "schedule.alpha(expand(t, data)) * data + schedule.sigma(expand(t, data)) * "
                  "noise"),
    ("add_noise", "torch.stack([schedule.alpha(u) * x + schedule.sigma(u) * n "
                  "for x, n, u in zip(data, noise, t)])"),
    ("add_noise", "torch.einsum('b,b...->b...', schedule.alpha(t), data) "
                  "+ torch.einsum('b,b...->b...', schedule.sigma(t), noise)"),
    ("add_noise", "a, sd = schedule\nt = t.view(len(t), *(1 for _ in data.shape[1:]))\n"
                  "return torch.lerp(a(t) * data, sd(t) * noise, 0.5) * 2"),
    ("scale_factor", "1 / z.std()"),
    ("scale_factor", "1 / z.std(correction=0)"),
    ("scale_factor", "(1 / z.std()).item()"),
    ("scale_factor", "z.var() ** -0.5"),
    ("scale_factor", "1 / z.double().std()"),
    ("scale_factor", "1 / (z - z.mean()).square().mean((0, 1, 2, 3), keepdim=True).sqrt()"),
    ("scale_factor", "float(1 / z.numpy().std())"),
]

WRONG = [
    ("alpha_bar", "sum", "torch.cat([torch.ones(1), 1 - betas.cumsum(0)])"),
    ("alpha_bar", "1 - beta", "torch.cat([torch.ones(1), betas.cumprod(0)])"),
    ("alpha_bar", "in front", "(1 - betas).cumprod(0)"),
    ("alpha_bar", "late", "torch.cat([torch.ones(2), (1 - betas).cumprod(0)[:-1]])"),
    ("alpha_bar", "a root", "torch.cat([torch.ones(1), (1 - betas).cumprod(0)]).sqrt()"),
    ("alpha_bar", "without a root|a root",
     "torch.cat([torch.ones(1), (1 - betas).sqrt().cumprod(0)])"),
    ("alpha_bar", "a square", "torch.cat([torch.ones(1), (1 - betas).cumprod(0)**2])"),
    ("alpha_bar", "single steps", "torch.cat([torch.ones(1), 1 - betas])"),
    ("alpha_bar", "noise's share", "1 - torch.cat([torch.ones(1), (1 - betas).cumprod(0)])"),
    ("alpha_bar", "first entry is 1", "torch.cat([torch.zeros(1), (1 - betas).cumprod(0)])"),
    ("alpha_bar", "at the end", "torch.cat([(1 - betas).cumprod(0), torch.ones(1)])"),
    ("alpha_bar", "exponential of a sum",
     "torch.cat([torch.ones(1), torch.exp(-betas.cumsum(0))])"),
    ("alpha_bar", "begin with the first",
     "torch.cat([torch.ones(1), (1 - betas).flip(0).cumprod(0)])"),
    ("alpha_bar", "reverse", "torch.cat([torch.ones(1), (1 - betas).cumprod(0)]).flip(0)"),
    ("alpha_bar", "in place", "torch.cat([torch.ones(1), betas.neg_().add_(1).cumprod(0)])"),
    ("alpha_bar", "shape", "torch.cat([torch.ones(1), (1 - betas).prod(0, keepdim=True)])"),
    ("alpha_bar", "shape", "(1 - betas).prod()"),
    ("alpha_bar", "axis of length 1", "torch.cat([torch.ones(1), (1 - betas).cumprod(0)])[None]"),
    ("alpha_bar", "first inputs",
     "torch.cat([torch.ones(1), (1 - torch.linspace(0.05, 0.4, 6)).cumprod(0)])"),
    ("alpha_bar", "first inputs",
     "torch.cat([torch.ones(1), (1 - betas.sort().values).cumprod(0)])"),
    ("alpha_bar", "first inputs",
     "out = [1.0]\nfor i in range(6):\n    out.append(out[-1] * (1 - betas[i]))\n"
                                  "return torch.tensor(out)"),
    ("alpha_bar", "a list",
     "out = [1.0]\nfor b in betas:\n    out.append(out[-1] * (1 - b))\nreturn out"),
    ("alpha_bar", "float64",
     "torch.cat([torch.ones(1).double(), (1 - betas.double()).cumprod(0)])"),
    ("alpha_bar", "package",
     "schedules.from_betas(betas).alpha(torch.linspace(0, 1, len(betas) + 1))**2"),
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
    ("scale_factor", "standard deviation", "z.std()"),
    ("scale_factor", "1 / variance", "1 / z.var()"),
    ("scale_factor", "subtract it first", "1 / z.square().mean().sqrt()"),
    ("scale_factor", "each channel", "1 / z.std((0, 2, 3))"),
    ("scale_factor", "the shape", "1 / z.std(0)"),
    ("scale_factor", "the shape", "1 / z.std((1, 2, 3))"),
    ("scale_factor", "Stable Diffusion", "0.18215"),
    ("scale_factor", "Stable Diffusion", "torch.tensor(0.18215)"),
    ("scale_factor", "one std of all", "1 / z.std((0, 2, 3)).mean()"),
    ("scale_factor", "channels' factors", "(1 / z.std((0, 2, 3))).mean()"),
    ("scale_factor", "over pictures", "1 / z.std((1, 2, 3)).mean()"),
    ("scale_factor", "absolute value", "1 / z.abs().mean()"),
    ("scale_factor", "absolute deviation", "1 / (z - z.mean()).abs().mean()"),
    ("scale_factor", "largest", "1 / z.abs().max()"),
    ("scale_factor", "range", "1 / (z.max() - z.min())"),
    ("scale_factor", "one over the mean", "1 / z.mean()"),
    ("scale_factor", "scaled latents", "z / z.std()"),
    ("scale_factor", "should be", "1 / z.std((0, 2, 3)).square().mean().sqrt()"),
    ("scale_factor", "should be", "1 / z[0].std()"),
    ("scale_factor", "should be", "1 / (z.std() + 0.01)"),
    ("scale_factor", "should be", "round(1 / z.std().item(), 2)"),
    ("scale_factor", "in place", "1 / z.sub_(z.mean()).square().mean().sqrt()"),
    ("scale_factor", "return", "1 / z.std()\nreturn"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
