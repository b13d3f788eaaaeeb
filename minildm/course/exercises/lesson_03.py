"""The checks of lesson 03: the walk, the table, the noise, the clock, the latents' scale."""

import math

import torch

from minildm.course.exercises.compare import compare
from minildm.course.exercises.fakes import (
    follows_generator,
    generator,
    randn,
    uniform,
    warped,
)
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules

# ---- the walk ------------------------------------------------------------------------------------

def walk(x, betas, generator):
    steps = [x]
    for beta in betas:
        fresh = torch.randn(x.shape, generator=generator)
        steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
    return torch.stack(steps)


@check(reference=walk)
def check_walk(answer):
    for shape, betas in ((3, 2), torch.linspace(0.05, 0.7, 4)), ((5,), 0.8 * uniform(3, seed=5)):
        x = 2 * randn(*shape, seed=6)
        got = follows_generator(answer, lambda source, x=x, betas=betas: (x, betas, source))
        compare(got, walk(x, betas, generator()), wrong_walks(x, betas), inputs={"x": x},
                where=f"x {shape}, {len(betas)} steps")


def wrong_walks(x, betas):
    """Where likely mistakes lead, with the noise of seed 0."""
    source = generator()
    fresh = torch.stack([torch.randn(x.shape, generator=source) for _ in betas])
    each = betas.reshape(-1, *[1] * x.ndim)
    right = walk(x, betas, generator())

    def steps(keep, add, noise=fresh):
        found = [x]
        for k, a, e in zip(keep, add, noise, strict=True):
            found.append(k * found[-1] + a * e)
        return torch.stack(found)

    root = (1 - each).sqrt()
    return {
        "roots are missing: variances add, so noise and data have roots": steps(1 - each, each),
        "the data's root is missing": steps(1 - each, each.sqrt()),
        "the noise's root is missing": steps(root, each),
        "the data is not shrunk: its size would grow": steps(torch.ones_like(each), each.sqrt()),
        "beta and 1 - beta changed places": steps(each.sqrt(), root),
        "all steps got the same noise: each has its own": steps(root, each.sqrt(), fresh[:1]
                                                                .expand_as(fresh)),
        "each step starts from what the last one left, not from x":
            torch.cat([x[None], root * x + each.sqrt() * fresh]),
        "entry 0, x itself, is missing": right[1:],
        "that is the end of the walk alone: all of it is wanted": right[-1],
        "the first beta comes first": walk(x, betas.flip(0), generator()),
    }


# ---- the table -----------------------------------------------------------------------------------

def alpha_bar(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), (1 - betas).cumprod(0)])


TABLES = schedules.from_betas, schedules.linear, schedules.scaled_linear


@check(reference=alpha_bar, forbidden=TABLES)
def check_alpha_bar(answer):
    # in the lesson betas rise; a table by another rule must not
    rising = torch.linspace(0.05, 0.4, 6)
    for where, betas in ("6 betas that rise", rising), ("9 betas in any order", 0.5 * uniform(9)):
        one = torch.ones(1)
        alphas = 1 - betas
        kept = alphas.cumprod(0)
        want = torch.cat([one, kept])
        answer.case((betas,), want, {
            "shares multiply: this is a sum":
                torch.cat([one, 1 - betas.cumsum(0)]),
            "shares multiply: these are single steps' shares": torch.cat([one, alphas]),
            "these are the betas' sums, not what is kept": torch.cat([one, betas.cumsum(0)]),
            "a root": want.sqrt(),
            "a square: alpha_bar is the variance's share already": want.square(),
            "each step keeps 1 - beta, without a root":
                torch.cat([one, alphas.sqrt().cumprod(0)]),
            "each step keeps 1 - beta, without a square":
                torch.cat([one, (1 - betas.square()).cumprod(0)]),
            "the product is of 1 - beta": torch.cat([one, betas.cumprod(0)]),
            "that is the noise's share: the data's is wanted": 1 - want,
            "the 1 in front is missing": kept,
            "the first entry is 1: before the first step all is there": torch.cat([one - 1, kept]),
            "the 1 stands at the end, not in front": torch.cat([kept, one]),
            "one place late: entry 1 is what the first step left":
                torch.cat([one, one, kept[:-1]]),
            "from the last step to the first: begin with the first":
                torch.cat([one, alphas.flip(0).cumprod(0)]),
            "that is an exponential of a sum: near 1 - beta for small ones only":
                torch.cat([one, (-betas.cumsum(0)).exp()]),
        }, where=where)


# ---- noise ---------------------------------------------------------------------------------------

@check(reference=schedules.add_noise)
def check_add_noise(answer):
    # B = W in the first: who forgets to expand t gets a wrong result there, not torch's error
    for shape, name in ((4, 3, 5, 4), "warped"), ((5, 7), "flow"), ((3, 2, 6), "cosine"):
        schedule = warped if name == "warped" else getattr(schedules, name)
        t = 0.05 + 0.85 * uniform(shape[0], seed=2)
        noise_case(answer, schedule, shape, t, f"data {shape}, schedule {name}")
    for t in 0.3, torch.tensor(0.8):
        noise_case(answer, schedules.cosine, (2, 3, 4), t, "t is one number, for all pictures")


def noise_case(answer, schedule, shape, t, where):
    """One call of an answer, with times t, a number or (B,)."""
    x, noise = randn(*shape), randn(*shape, seed=1)
    ts = torch.as_tensor(t)
    each = ts.reshape(-1, *[1] * (len(shape) - 1))
    a, sd = schedule.alpha(each), schedule.sigma(each)
    mean = ts.mean()
    likely = {
        "alpha and sigma changed places": sd * x + a * noise,
        "alpha is missing": x + sd * noise,
        "sigma is missing": a * x + noise,
        "alpha is the root of alpha_bar already: no squares": a**2 * x + sd**2 * noise,
        "alpha is the root of alpha_bar already: no roots":
            a.abs().sqrt() * x + sd.sqrt() * noise,
        "sigma isn't always the root of 1 - alpha^2": a * x + (1 - a**2).abs().sqrt() * noise,
        "sigma isn't always 1 - alpha": a * x + (1 - a) * noise,
        "alpha isn't always 1 - t, nor sigma t": (1 - each) * x + each * noise,
        "noise is added, not subtracted": a * x - sd * noise,
        "data and noise changed places": a * noise + sd * x,
        "the noise is missing": a * x,
        "all pictures got the first one's time": a[:1] * x + sd[:1] * noise,
        "all pictures got the mean time":
            schedule.alpha(mean) * x + schedule.sigma(mean) * noise,
        "time runs from 0, data, to 1, noise":
            schedule.alpha(1 - each) * x + schedule.sigma(1 - each) * noise,
    }
    if ts.ndim and shape[-1] == shape[0]:
        by_column = schedule.alpha(ts) * x + schedule.sigma(ts) * noise
        likely["t (B,) met the last axis: each column has its own time"] = by_column
    if not ts.ndim:
        # one time is the first one's and the mean one's
        likely = {cause: wrong for cause, wrong in likely.items() if "all pictures" not in cause}
    answer.case((schedule, x, noise, t), a * x + sd * noise, likely, where=where)


# ---- the clock -----------------------------------------------------------------------------------

@check(reference=schedules.log_snr)
def check_log_snr(answer):
    for shape, name in ((7,), "warped"), ((3, 1, 1), "flow"), ((), "cosine"), ((4,), "linear"):
        schedule = warped if name == "warped" else getattr(schedules, name)
        t = 0.05 + 0.85 * uniform(*shape, 1, seed=3)[..., 0]
        a, sd = schedule.alpha(t), schedule.sigma(t)
        want = 2 * (a.log() - sd.log())
        answer.case((schedule, t), want, {
            "the logarithm is missing: that is the ratio": (a / sd)**2,
            "that is the ratio of the amplitudes, without square and logarithm": a / sd,
            "the squares are missing: the ratio is one of variances": want / 2,
            "upside down: signal over noise": -want,
            "upside down, and the squares are missing": -want / 2,
            "the natural logarithm is wanted, not the one to base 10": want / math.log(10),
            "the natural logarithm is wanted, not the one to base 2": want / math.log(2),
            "those are decibels": 10 * want / math.log(10),
            "the square of the logarithm: the logarithm of the square is wanted":
                (want / 2).square(),
            "that is the signal alone": 2 * a.log(),
            "sigma^2 isn't always 1 - alpha^2": (a**2 / (1 - a**2).abs()).log(),
            "sigma isn't always 1 - alpha": ((a / (1 - a).abs())**2).log(),
            "the ratio of signal to signal and noise": (a**2 / (a**2 + sd**2)).log(),
            "the logarithm of a ratio is a difference, no ratio of logarithms":
                a.log() / sd.log(),
        }, where=f"t {shape}, schedule {name}")


def time_at(schedule, wanted):
    return schedules.at_ratio(schedule, (-wanted / 2).exp())


# log-SNR 2 to -14, neither infinite at an end nor symmetric
short = schedules.Schedule(lambda t: torch.exp(1 - 8 * t**2), torch.ones_like)


@check(reference=time_at, forbidden=[schedules.at_ratio, schedules.ratio_grid])
def check_time_at(answer):
    cases = (short, "one that ends early", (5,)), (schedules.cosine, "cosine", (2, 3))
    for schedule, name, shape in cases:
        t = 0.1 + 0.8 * uniform(*shape, seed=4).double()
        time_case(answer, schedule, t, f"wanted {shape}, schedule {name}")
    time_case(answer, schedules.flow, torch.tensor(0.37).double(), "wanted is one number")
    beyond = torch.tensor([9.0, -1.0, -40.0], dtype=torch.float64)
    want = torch.tensor([0.0, (3 / 16)**0.5, 1.0], dtype=torch.float64)
    answer.case((short, beyond), want, {
        "what lies beyond an end is answered by that end: 0 above, 1 below": want.flip(0),
    }, tol=1e-5, where="log-SNR 9 and -40 on a schedule that has 2 to -14")


def time_case(answer, schedule, t, where):
    """One call of an answer that should find the times t."""
    wanted = schedules.log_snr(schedule, t)
    answer.case((schedule, wanted), t, {
        "that is 1 - t: with more time there is less signal": 1 - t,
        "all entries got the first one's time: each has its own":
            torch.full_like(t, t.flatten()[0]),
        "that is the time of minus `wanted`": time_at(schedule, -wanted),
        "`wanted` is a logarithm: that is the time at which the ratio itself is `wanted`":
            time_at(schedule, wanted.abs().log()),
        "that is the time at which log(alpha / sigma) is `wanted`: squares are missing":
            time_at(schedule, 2 * wanted),
        "that is the time at which twice the log-SNR is `wanted`: a square too many":
            time_at(schedule, wanted / 2),
        "the halves are exchanged: too much signal in the middle means that it is too early":
            (wanted > schedules.log_snr(schedule, torch.full_like(t, 0.5))).double(),
        "all are 0: was any interval halved?": torch.zeros_like(t),
        "all are 1: was any interval halved?": torch.ones_like(t),
        "that holds on cosine only: every schedule has its own clock":
            time_at(schedules.cosine, wanted),
        "that holds on flow only: every schedule has its own clock":
            time_at(schedules.flow, wanted),
        "that is right to a thousandth only: 1e-6 is wanted": (t * 1000).round() / 1000,
    }, tol=1e-5, where=where)


# ---- the latents' scale --------------------------------------------------------------------------

def latent_scale(mean, std):
    total = mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))
    return total.rsqrt()


@check(reference=latent_scale)
def check_latent_scale(answer):
    # no channel's mean is 0, and the posterior's noise is neither negligible nor all there is
    for shape, width in ((6, 4, 2, 3), 3.0), ((3, 5, 4, 2), 0.05):
        mean = width * (randn(*shape) + 2 * randn(shape[1], 1, 1, seed=1))
        std = width * (0.2 + 1.5 * uniform(*shape, seed=2)) * torch.linspace(
            0.3, 1.2, shape[1])[:, None, None]
        scale_case(answer, mean, std)


def scale_case(answer, mean, std):
    over = (0, 2, 3)
    means, own = mean.var(over), std.square().mean(over)
    biased = mean.var(over, correction=0)
    total = means + own
    answer.case((mean, std), total.rsqrt(), {
        "the posterior's own noise is missing: samples vary more than means": means.rsqrt(),
        "the variance of the means is missing: that is the posterior's noise alone": own.rsqrt(),
        "variances add, standard deviations don't": 1 / (means.sqrt() + own.sqrt()),
        "variances add, standard deviations don't: square before the mean":
            1 / (means.sqrt() + std.mean(over)),
        "the mean of squares is wanted, not the square of the mean std":
            (means + std.mean(over).square()).rsqrt(),
        "the posterior's variance is the square of its std": (means + std.mean(over)).rsqrt(),
        "std's variance is not the posterior's: average its squares":
            (means + std.var(over)).rsqrt(),
        "the root is missing: this is 1 / variance": 1 / total,
        "that is the standard deviation: times it, latents get wider": total.sqrt(),
        "that is the variance: the factor is 1 divided by its root": total,
        "the channels' means count as spread: subtract them":
            (mean.square().mean(over) + own).rsqrt(),
        "one number for all channels: each has its own":
            (mean.var() + std.square().mean()).rsqrt(),
        "over pictures and positions: these are single positions":
            (mean.var(0) + std.square().mean(0)).rsqrt(),
    }, also=[(biased + own).rsqrt()], where=f"posteriors {tuple(mean.shape)}")
