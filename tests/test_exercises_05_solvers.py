"""The checks of lesson 05's solvers and predictions: right answers pass, wrong ones are told why."""


import torch
from support.answers import right_and_wrong, written

from minildm.course.exercises.lesson_05_ddim import ddim_step
from minildm.course.exercises.lesson_05_solvers import to_x0
from minildm.diffusion import denoiser, samplers, schedules
from minildm.diffusion.schedules import log_snr

HELPERS = {"samplers": samplers, "schedules": schedules, "ddim_step": ddim_step,
           "denoiser": denoiser, "log_snr": log_snr, "to_x0": to_x0}

HEUN = """
    def noise_in(x, x0, t):
        return (x - schedule.alpha(t) * x0) / schedule.sigma(t)

    path = [noise]
    for t, s in zip(ts[:-1], ts[1:]):
        x = path[-1]
        x0 = denoise(x, t)
        eps = noise_in(x, x0, t)
        end = ddim_step(schedule, x, x0, t, s)
        if {more}:
            x0_end = denoise({second})
            eps_end = noise_in(end, x0_end, s)
            a, sd = schedule.alpha(s) - schedule.alpha(t), schedule.sigma(s) - schedule.sigma(t)
            end = {mean}
        path.append(end)
    return {out}
"""
H = {"more": "schedule.sigma(s) > 0", "second": "end, s", "out": "torch.stack(path)",
     "mean": "x + a * (x0 + x0_end) / 2 + sd * (eps + eps_end) / 2"}
TWO_M = """
    path, before = [noise], None
    lam = {clock}
    for i in range(len(ts) - 1):
        t, s, x = ts[i], ts[i + 1], path[-1]
        x0 = ahead = denoise(x, t)
        if {more}:
            old, new = lam[i] - lam[i - 1], lam[i + 1] - lam[i]
            ahead = {ahead}
        path.append(ddim_step(schedule, x, ahead, t, s))
        before = {kept}
    return {out}
"""
M = {"clock": "(schedule.alpha(ts) / schedule.sigma(ts)).square().log() / 2", "out": "torch.stack(path)",
     "more": "i > 0 and schedule.sigma(s) > 0", "kept": "x0",
     "ahead": "x0 + new / old / 2 * (x0 - before)"}


def heun(**changed):
    return HEUN.format(**H | changed)


def two_m(**changed):
    return TWO_M.format(**M | changed)


TO_X0 = """
    if kind == "eps":
        return {eps}
    if kind == "v":
        return {v}
    if kind == "flow":
        return {flow}
    return {x0}
"""
X = {"eps": "(x - sigma * said) / alpha", "v": "(alpha * x - sigma * said) / (alpha**2 + sigma**2)",
     "flow": "(x - sigma * said) / (alpha + sigma)", "x0": "said"}
FROM = "eps = {noise}\n" + """return {{"eps": {eps}, "x0": x0, "v": {v}, "flow": {flow}}}[kind]"""
F = {"noise": "(x - alpha * x0) / sigma", "eps": "eps", "v": "alpha * eps - sigma * x0",
     "flow": "eps - x0"}
ON = """
def denoise(x, t):
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    total = alpha + sigma
    return {guess}
return denoise
"""
GUESS = "x / total - sigma / total * network(x / total, sigma / total)"


def predicted(**changed):
    return TO_X0.format(**X | changed)


def says(**changed):
    return FROM.format(**F | changed)


def asks(guess=GUESS):
    return ON.format(guess=guess)


RIGHT = [
    ("heun", heun()),
    ("heun", heun(more="s > 0 and schedule.sigma(s) != 0")),
    ("heun", """
        x, path = noise, [noise]
        for i in range(len(ts) - 1):
            (a, b), (c, d) = ((schedule.alpha(u), schedule.sigma(u)) for u in (ts[i], ts[i + 1]))
            x0 = denoise(x, ts[i])
            eps = (x - a * x0) / b
            if d > 0:
                first = x + (c - a) * x0 + (d - b) * eps
                again = denoise(first, ts[i + 1])
                x0, eps = (x0 + again) / 2, (eps + (first - c * again) / d) / 2
            x = x + (c - a) * x0 + (d - b) * eps
            path.append(x)
        return torch.stack(path)
     """),
    ("dpmpp_2m", two_m()),
    ("dpmpp_2m", two_m(clock="log_snr(schedule, ts) / 2")),
    ("dpmpp_2m", two_m(clock="log_snr(schedule, ts)")),
    ("dpmpp_2m", two_m(clock="schedule.alpha(ts).clamp(min=1e-10).log() - schedule.sigma(ts).log()")),
    ("dpmpp_2m", two_m(ahead="(1 + new / old / 2) * x0 - new / old / 2 * before")),
    ("dpmpp_2m", """
        x, path, past = noise, [noise], []
        for t, s in zip(ts[:-1], ts[1:]):
            x0 = denoise(x, t)
            lam, lam_s = (math.log(max(schedule.alpha(u), 1e-9) / max(schedule.sigma(u), 1e-30))
                          for u in (t, s))
            used = x0
            if past and s > 0:
                then, guess = past[-1]
                used = x0 + (x0 - guess) / (lam - then) * (lam_s - lam) / 2
            past.append((lam, x0))
            x = schedule.alpha(s) * used + schedule.sigma(s) / schedule.sigma(t) * (
                x - schedule.alpha(t) * used)
            path.append(x)
        return torch.stack(path)
     """),
    ("to_x0", predicted()),
    ("to_x0", "{'eps': lambda: (x - sigma * said) / alpha, 'x0': lambda: said, 'v': lambda: "
              "(alpha * x - sigma * said) / (alpha**2 + sigma**2), 'flow': lambda: "
              "(x - sigma * said) / (alpha + sigma)}[kind]()"),
    ("from_x0", says()),
    ("from_x0", says(v="(alpha * x - (alpha**2 + sigma**2) * x0) / sigma")),
    ("from_flow", asks()),
    ("from_flow", asks("to_x0('flow', network(x / total, sigma / total), x / total, "
                         "alpha / total, sigma / total)")),
    ("from_flow", "return lambda x, t: (lambda y, u: y - u * network(y, u))("
     "x / (schedule.alpha(t) + schedule.sigma(t)), "
     "schedule.sigma(t) / (schedule.alpha(t) + schedule.sigma(t)))"),
]

WRONG = [
    ("heun", "that is DDIM", heun(more="False")),
    ("heun", "begins at x", heun(mean="end + a * (x0 + x0_end) / 2 + sd * (eps + eps_end) / 2")),
    ("heun", "far end alone", heun(mean="x + a * x0_end + sd * eps_end")),
    ("heun", "the sum of both", heun(mean="x + a * (x0 + x0_end) + sd * (eps + eps_end)")),
    ("heun", "averaged too", heun(mean="ddim_step(schedule, x, (x0 + x0_end) / 2, t, s)")),
    ("heun", "at time s", heun(second="end, t").replace("eps_end = noise_in(end, x0_end, s)",
                                                       "eps_end = noise_in(end, x0_end, t)")),
    ("heun", "not at x again", heun(second="x, s").replace("noise_in(end", "noise_in(x")),
    ("heun", "NaN", heun(mean="schedule.alpha(s) * (x / schedule.alpha(t) + (eps + eps_end) / 2"
     " * (schedule.sigma(s) / schedule.alpha(s) - schedule.sigma(t) / schedule.alpha(t)))")),
    ("heun", "NaN", heun(more="True")),
    ("heun", "asked", heun().replace("path.append(end)", "path.append(end); denoise(end, s)")),
    ("heun", "last step", heun(out="torch.stack(path[:-1])")),
    ("heun", "end alone", heun(out="path[-1]")),
    ("heun", "first step", heun(mean="x - a * (x0 + x0_end) / 2 - sd * (eps + eps_end) / 2")),
    ("heun", "package", "torch.stack([noise] + [step.x for step in samplers.heun("
                        "denoise, schedule, noise, ts)])"),
    ("dpmpp_2m", "that is DDIM", two_m(more="False")),
    ("dpmpp_2m", "a whole one", two_m(ahead="x0 + new / old * (x0 - before)")),
    ("dpmpp_2m", "upside down", two_m(ahead="x0 + old / new / 2 * (x0 - before)")),
    ("dpmpp_2m", "equally long", two_m(ahead="x0 + (x0 - before) / 2")),
    ("dpmpp_2m", "the sign", two_m(ahead="x0 - new / old / 2 * (x0 - before)")),
    ("dpmpp_2m", "from x0", two_m(ahead="before + new / old / 2 * (x0 - before)")),
    ("dpmpp_2m", "divide by the length", two_m(ahead="x0 + new / 2 * (x0 - before)")),
    ("dpmpp_2m", "in the past", two_m(ahead="(x0 + before) / 2")),
    ("dpmpp_2m", "not over t", two_m(clock="ts")),
    ("dpmpp_2m", "logarithm", two_m(clock="schedule.alpha(ts) / schedule.sigma(ts)")),
    ("dpmpp_2m", "not the extrapolated", two_m(kept="ahead")),
    ("dpmpp_2m", "NaN", two_m(more="i > 0")),
    ("dpmpp_2m", "NaN.*from t = 1",
     two_m(clock="(schedule.alpha(ts) / schedule.sigma(ts)).log()")),
    ("dpmpp_2m", "raised", two_m(more="schedule.sigma(s) > 0")),
    ("dpmpp_2m", "asked", two_m().replace("x0 = ahead = denoise(x, t)",
                                          "x0 = ahead = denoise(x, t); denoise(x, t)")),
    ("dpmpp_2m", "end alone", two_m(out="path[-1]")),
    ("dpmpp_2m", "package", "torch.stack([noise] + [step.x for step in samplers.dpmpp_2m("
                            "denoise, schedule, noise, ts)])"),
    ("to_x0", "eps: ", predicted(eps="x - sigma * said")),
    ("to_x0", "eps: alpha and sigma", predicted(eps="(x - alpha * said) / sigma")),
    ("to_x0", "v: .*alpha.2", predicted(v="alpha * x - sigma * said")),
    ("to_x0", "flow: .*alpha . sigma", predicted(flow="x - sigma * said")),
    ("to_x0", "what the network said", predicted(v="said")),
    ("to_x0", "differs|wrong|factor", predicted(v="(alpha * x + sigma * said) / (alpha**2 + sigma**2)")),
    ("to_x0", "factor|wrong|differs|times", predicted(x0="alpha * said")),
    ("to_x0", "in place", predicted(eps="x.sub_(sigma * said) / alpha")),
    ("to_x0", "package", "denoiser.to_x0(kind, said, x, alpha, sigma)"),
    ("to_x0", "None", TO_X0.format(**X).replace("return said", "pass")),
    ("from_x0", "x is no noise", says(noise="x")),
    ("from_x0", "division is missing", says(noise="x - alpha * x0")),
    ("from_x0", "alpha is missing", says(noise="(x - x0) / sigma")),
    ("from_x0", "v: the sign", says(v="sigma * x0 - alpha * eps")),
    ("from_x0", "flow: the sign", says(flow="x0 - eps")),
    ("from_x0", "v: alpha and sigma", says(v="sigma * eps - alpha * x0")),
    ("from_x0", "velocity", says(v="eps - x0")),
    ("from_x0", "that is v", says(flow="alpha * eps - sigma * x0")),
    ("from_x0", "that is the data", says(eps="x0")),
    ("from_x0", "package", "denoiser.target(kind, x0, (x - alpha * x0) / sigma, alpha, sigma)"),
    ("from_flow", "time of flow", asks("x / total - sigma / total * network(x / total, t)")),
    ("from_flow", "too large", asks("x - sigma / total * network(x, sigma / total)")),
    ("from_flow", "noise - data", asks("network(x / total, sigma / total)")),
    ("from_flow", "noise's share", asks("x / total")),
    ("from_flow", "not the x of the other",
     asks("x - sigma / total * network(x / total, sigma / total)")),
    ("from_flow", "flow's line belong",
     asks("to_x0('flow', network(x / total, sigma / total), x / total, alpha, sigma)")),
    ("from_flow", "changed places", asks("x / total - alpha / total * network(x / total, alpha / total)")),
    ("from_flow", "the sign", asks("x / total + sigma / total * network(x / total, sigma / total)")),
    ("from_flow", "a function denoise", "network(torch.zeros(2, 3), torch.tensor(0.5))"),
    ("from_flow", "in place|unchanged|differs", asks("x.div_(total) - sigma / total * "
                                                     "network(x, sigma / total)")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_a_network_of_flow_asked_on_cosine_gives_the_same_as_on_flow():
    """The change of schedule is exact: at one ratio sigma / alpha both give one guess."""
    def network(x, t):
        return torch.sin(x) * (1 + t)

    noise, ratio = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor(0.7)
    guesses = []
    for schedule in (schedules.cosine, schedules.flow):
        t = schedules.at_ratio(schedule, ratio.double()).float()
        x = schedule.sigma(t) * noise
        guesses.append(from_flow_answer()(network, schedule)(x, t))
    torch.testing.assert_close(*guesses, rtol=1e-4, atol=1e-5)


def from_flow_answer():
    return written("from_flow", asks(), HELPERS)
