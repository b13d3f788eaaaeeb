"""Lesson 03's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
from support.answers import cases, passes, told, written

from minildm.diffusion import schedules
from minildm.diffusion.schedules import expand, log_snr

HELPERS = {"expand": expand, "schedules": schedules, "log_snr": log_snr}

RIGHT = [
    ("walk", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", """
        out = torch.empty(len(betas) + 1, *x.shape)
        out[0] = x
        for i in range(len(betas)):
            b = betas[i].item()
            out[i + 1] = math.sqrt(1 - b) * out[i] + b**0.5 * torch.randn(x.shape, generator=generator)
        return out
     """),
    ("walk", """
        shape = (-1, *[1] * x.ndim)
        noise = torch.stack([torch.randn(x.shape, generator=generator) for _ in betas])
        kept = (1 - betas).cumprod(0).reshape(shape)
        sums = (betas.reshape(shape).sqrt() / kept.sqrt() * noise).cumsum(0)
        return torch.cat([x[None], kept.sqrt() * (x + sums)])
     """),
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
    ("gaussian_gap", """
        spacing = grid[1] - grid[0]
        mean = (grid * density).sum() * spacing
        variance = ((grid - mean)**2 * density).sum() * spacing
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * spacing
     """),
    ("gaussian_gap", """
        share = density / density.sum()
        mean = (share * grid).sum()
        std = ((share * grid**2).sum() - mean**2).sqrt()
        gaussian = torch.distributions.Normal(mean, std).log_prob(grid).exp()
        return torch.trapezoid((density - gaussian).abs(), grid) / 2
     """),
    ("gaussian_gap", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        var = ((grid - mean)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * var)) / (2 * math.pi * var).sqrt()
        return ((density - gaussian).clamp(min=0).sum() * dx).item()
     """),
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
    ("log_snr", "2 * (schedule.alpha(t).log() - schedule.sigma(t).log())"),
    ("log_snr", "(schedule.alpha(t)**2 / schedule.sigma(t)**2).log()"),
    ("log_snr", "a, sd = schedule.alpha(t), schedule.sigma(t)\nreturn torch.log((a / sd).square())"),
    ("log_snr", "-2 * torch.log(schedule.sigma(t) / schedule.alpha(t))"),
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
    ("walk", "roots are missing", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta) * steps[-1] + beta * fresh)
        return torch.stack(steps)
     """),
    ("walk", "data's root", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta) * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", "noise's root", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta * fresh)
        return torch.stack(steps)
     """),
    ("walk", "not shrunk", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append(steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", "changed places", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append(beta.sqrt() * steps[-1] + (1 - beta).sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", "not from x", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * x + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", "is missing", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps[1:])
     """),
    ("walk", "end of the walk", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return steps[-1]
     """),
    ("walk", "list of", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return steps
     """),
    ("walk", "global", """
        steps = [x]
        for beta in betas:
            fresh = torch.randn(x.shape)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", "same noise", """
        steps, fresh = [x], torch.randn(x.shape, generator=generator)
        for beta in betas:
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
    ("walk", "first beta", """
        steps = [x]
        for beta in betas.flip(0):
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)
     """),
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
    ("gaussian_gap", "half is missing", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = ((grid - mean)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "spacing is missing", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = ((grid - mean)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum()
     """),
    ("gaussian_gap", "mean 0", """
        dx = grid[1] - grid[0]
        mean = torch.tensor(0.0)
        variance = ((grid - (grid * density).sum() * dx)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "variance 1", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = torch.tensor(1.0)
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "standard Gaussian", """
        dx = grid[1] - grid[0]
        mean = torch.tensor(0.0)
        variance = torch.tensor(1.0)
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "before the square", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = (grid**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "root of the variance", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = (((grid - mean)**2 * density).sum() * dx)**0.5
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "one already", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = (((grid - mean)**2 * density).sum() * dx)**2
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "grid's", """
        dx = grid[1] - grid[0]
        mean = grid.mean()
        variance = grid.var()
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).abs().sum() * dx
     """),
    ("gaussian_gap", "cancel", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = ((grid - mean)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).sum() * dx
     """),
    ("gaussian_gap", "squares", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = ((grid - mean)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return 0.5 * (density - gaussian).square().sum() * dx
     """),
    ("gaussian_gap", "largest difference", """
        dx = grid[1] - grid[0]
        mean = (grid * density).sum() * dx
        variance = ((grid - mean)**2 * density).sum() * dx
        gaussian = torch.exp(-(grid - mean)**2 / (2 * variance)) / (2 * math.pi * variance)**0.5
        return (density - gaussian).abs().max()
     """),
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
    ("add_noise", "raised", "return torch.stack([schedule.alpha(u) * x + schedule.sigma(u) * n "
                                "for x, n, u in zip(data, noise, t)])"),
    ("log_snr", "logarithm is missing", "(schedule.alpha(t) / schedule.sigma(t))**2"),
    ("log_snr", "amplitudes", "schedule.alpha(t) / schedule.sigma(t)"),
    ("log_snr", "squares are missing", "(schedule.alpha(t) / schedule.sigma(t)).log()"),
    ("log_snr", "upside down", "(schedule.sigma(t)**2 / schedule.alpha(t)**2).log()"),
    ("log_snr", "upside down", "(schedule.sigma(t) / schedule.alpha(t)).log()"),
    ("log_snr", "base 10", "((schedule.alpha(t) / schedule.sigma(t))**2).log10()"),
    ("log_snr", "base 2", "((schedule.alpha(t) / schedule.sigma(t))**2).log2()"),
    ("log_snr", "decibels", "10 * ((schedule.alpha(t) / schedule.sigma(t))**2).log10()"),
    ("log_snr", "logarithm of the square", "(schedule.alpha(t) / schedule.sigma(t)).log().square()"),
    ("log_snr", "1 - alpha.2",
     "a = schedule.alpha(t)\nreturn (a**2 / (1 - a**2).abs()).log()"),
    ("log_snr", "no ratio of logarithms", "schedule.alpha(t).log() / schedule.sigma(t).log()"),
    ("log_snr", "package", "schedules.log_snr(schedule, t)"),
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


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
