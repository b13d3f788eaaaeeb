"""The checks of lesson 03: a schedule from betas, the noise, the clock."""

import torch

from minildm.course.exercises.answer import Answer
from minildm.course.exercises.compare import compare, describe, fail
from minildm.course.exercises.fakes import (
    follows_generator,
    generator,
    randn,
    uniform,
    warped,
)
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules

# ---- the schedule of a table ---------------------------------------------------------------------

class BetaSchedule:
    """The schedule of a table of betas (T,): exact at t = i / T, log alpha_bar linear between."""

    def __init__(self, betas):
        self.betas = betas
        kept = (1 - betas.double()).cumprod(0)
        self.alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), kept])

    def walk(self, x, generator):
        """x after 0, 1, ..., T steps: (T + 1, *x.shape)."""
        steps = [x]
        for beta in self.betas.to(x.dtype):
            fresh = torch.randn(x.shape, generator=generator)
            steps.append((1 - beta).sqrt() * steps[-1] + beta.sqrt() * fresh)
        return torch.stack(steps)

    def kept(self, t):
        """alpha_bar at times t."""
        place = t.double() * (len(self.alpha_bar) - 1)
        # t = 1 has no entry to its right
        low = place.long().clamp(max=len(self.alpha_bar) - 2)
        log = self.alpha_bar.log()
        return torch.lerp(log[low], log[low + 1], place - low).exp()

    def alpha(self, t):
        return self.kept(t).sqrt().to(t.dtype)

    def sigma(self, t):
        return (1 - self.kept(t)).sqrt().to(t.dtype)


TABLES = schedules.from_betas, schedules.linear, schedules.scaled_linear


@check(reference=BetaSchedule, forbidden=TABLES)
def check_BetaSchedule(answer):
    # in the lesson betas rise and are many; a table by another rule must not
    for betas in torch.linspace(0.05, 0.4, 6), 0.5 * uniform(9).double():
        made = answer(betas)
        for name in "walk", "kept", "alpha", "sigma":
            if not callable(getattr(made, name, None)):
                fail(f"the object has no method `{name}`: hand over the class")
        walk_case(made, betas)
        table_case(made, betas)
        for shape in (), (7,), (3, 1, 2):
            times_case(made, BetaSchedule(betas), shape)


def walk_case(made, betas):
    """One walk of a schedule that a student's class made."""
    walked = Answer(made.walk, ["x", "generator"])
    x = 2 * randn(3, 2, seed=6)
    got = follows_generator(walked, lambda source: (x, source))
    want = BetaSchedule(betas).walk(x, generator())
    compare(got, want, wrong_walks(x, betas.float()), inputs={"x": x},
            where=f"walk, {len(betas)} steps")


def wrong_walks(x, betas):
    """Where likely mistakes lead, with the noise of seed 0."""
    source = generator()
    fresh = torch.stack([torch.randn(x.shape, generator=source) for _ in betas])
    each = betas.reshape(-1, *[1] * x.ndim)
    right = BetaSchedule(betas).walk(x, generator())

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
        "the first beta comes first": BetaSchedule(betas.flip(0)).walk(x, generator()),
    }


def table_case(made, betas):
    """The table alpha_bar of a schedule that a student's class made."""
    got = getattr(made, "alpha_bar", None)
    if not isinstance(got, torch.Tensor):
        fail(f"`alpha_bar` is a tensor (T + 1,): this is {describe(got)}")
    alphas, one = 1 - betas.double(), torch.ones(1, dtype=torch.float64)
    kept, want = alphas.cumprod(0), BetaSchedule(betas).alpha_bar
    compare(got.double(), want, {
        "shares multiply: this is a sum": torch.cat([one, 1 - betas.double().cumsum(0)]),
        "shares multiply: these are single steps' shares": torch.cat([one, alphas]),
        "these are the betas' sums, not what is kept": torch.cat([one, betas.double().cumsum(0)]),
        "a root": want.sqrt(),
        "a square: alpha_bar is the variance's share already": want.square(),
        "each step keeps 1 - beta, without a root": torch.cat([one, alphas.sqrt().cumprod(0)]),
        "the product is of 1 - beta": torch.cat([one, betas.double().cumprod(0)]),
        "that is the noise's share: the data's is wanted": 1 - want,
        "the 1 in front is missing": kept,
        "the first entry is 1: before the first step all is there": torch.cat([one - 1, kept]),
        "the 1 stands at the end, not in front": torch.cat([kept, one]),
        "one place late: entry 1 is what the first step left": torch.cat([one, one, kept[:-1]]),
        "from the last step to the first: begin with the first":
            torch.cat([one, alphas.flip(0).cumprod(0)]),
        "that is an exponential of a sum: near 1 - beta for small ones only":
            torch.cat([one, (-betas.double().cumsum(0)).exp()]),
    }, where=f"alpha_bar, {len(betas)} betas")


def times_case(made, wanted, shape):
    """kept, alpha and sigma at times of a shape: in the table, between its entries, at the ends."""
    t = uniform(*shape, 1, seed=3)[..., 0] if shape else torch.tensor(0.43)
    if t.ndim == 1:
        t[0], t[1], t[2] = 0, 1, 1 / (len(wanted.alpha_bar) - 1)
    place = t.double() * (len(wanted.alpha_bar) - 1)
    low = place.long().clamp(max=len(wanted.alpha_bar) - 2)
    table = wanted.alpha_bar
    linear = torch.lerp(table[low], table[low + 1], place - low)
    log, kept = table.log(), wanted.kept(t)
    where = f"times of shape {tuple(shape)}"
    got = Answer(made.kept, ["t"])(t)
    compare(got.double() if isinstance(got, torch.Tensor) else got, kept, {
        "between two entries the logarithm is linear: this is linear without it": linear,
        "the entry before t: fill in between": table[low],
        "the entry after t: fill in between": table[low + 1],
        "the nearest entry: fill in between": table[place.round().long()],
        "that is the logarithm: take its exponential": kept.log(),
        "the weights of the two entries are exchanged":
            torch.lerp(log[low + 1], log[low], place - low).exp(),
        "time runs from 0, data, to 1, noise": wanted.kept(1 - t),
    }, tol=1e-5, where=f"kept, {where}")
    compare(Answer(made.alpha, ["t"])(t), wanted.alpha(t), {
        "alpha is the root of what is kept": kept.float(),
        "alpha is the data's factor, sigma the noise's": wanted.sigma(t),
    }, tol=1e-5, where=f"alpha, {where}")
    compare(Answer(made.sigma, ["t"])(t), wanted.sigma(t), {
        "the root is missing": (1 - kept).float(),
        "sigma is the root of 1 - alpha^2: this is 1 - alpha": 1 - wanted.alpha(t),
        "alpha is the data's factor, sigma the noise's": wanted.alpha(t),
    }, tol=1e-5, where=f"sigma, {where}")


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
        "that is the time of minus `wanted`: is the ratio upside down?": time_at(schedule, -wanted),
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
