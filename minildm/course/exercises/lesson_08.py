"""The checks of lesson 08 on what guides a denoiser."""

import torch

from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import Network, randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import guidance, schedules


@check(reference=guidance.classifier_guidance)
def check_classifier_guidance(answer):
    # shapes of pictures and of points; at the last time flow's alpha is 0
    cases = [((3, 2, 5, 4), warped, 0.63, 1.7), ((5, 2), schedules.flow, 0.3, 4.0),
             ((4, 3), schedules.flow, 1.0, 2.5)]
    for shape, schedule, time, scale in cases:
        x, first, t = randn(*shape), randn(*shape, seed=3), torch.tensor(time)
        weight = randn(*shape[1:], seed=4).requires_grad_()
        asked = []

        def denoise(x, t):
            return torch.sin(x) * (0.5 + t)

        def log_prob(x, t, weight=weight, asked=asked):
            asked.append(t)
            return -(torch.cosh(x - t) * weight).flatten(1).sum(1)

        gradient = -torch.sinh(x - t) * weight.detach()
        made = answer(denoise, log_prob, schedule, scale, first)
        guided = answer.wrap(made, "a function denoise(x, t)", ["x", "t"])
        guided.right = answer.right
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        # samplers run without gradients
        with torch.no_grad():
            if alpha == 0:
                judge_first(guided, (x, t), denoise(x, t), scale, first)
            else:
                likely = likely_steps(denoise(x, t), gradient, alpha, sigma, scale, first)
                want = denoise(x, t) + scale * sigma**2 / alpha * gradient
                guided.case((x, t), want, likely, where=f"shape {shape}, scale {scale}")
                if not asked:
                    fail("log_prob isn't asked")
        answer.right = guided.right


def judge_first(guided, inputs, x0, scale, first):
    """What happens where alpha is 0."""
    got = guided(*inputs)
    if isinstance(got, torch.Tensor) and not got.isfinite().all():
        fail("at alpha = 0 the step is 0 / 0: take `first` there")
    compare(got, x0 + scale * first, {
        "at alpha = 0 no step is taken: its limit is `first`": x0,
        "`first` is a step: add it to x0": scale * first,
        "the scale multiplies `first`, too": x0 + first,
    }, where="at alpha = 0")


def likely_steps(x0, gradient, alpha, sigma, w, first):
    step = w * gradient
    return {
        "the gradient itself is no step of x0: it needs sigma^2 / alpha": x0 + step,
        "sigma squared: one from eps, one from x0": x0 + sigma / alpha * step,
        "that is the step of eps added to x0: sigma / alpha is missing": x0 + sigma * step,
        "that is the step of eps, subtracted from x0: sigma / alpha is missing": x0 - sigma * step,
        "alpha is missing": x0 + sigma**2 * step,
        "sigma is missing": x0 + step / alpha,
        "downhill: x0 moves against eps, so the two signs cancel": x0 - sigma**2 / alpha * step,
        "divide by alpha, not by alpha squared": x0 + sigma**2 / alpha**2 * step,
        "divide by alpha": x0 + sigma**2 * alpha * step,
        "alpha and sigma changed places": x0 + alpha**2 / sigma * step,
        "sigma is given: alpha^2 + sigma^2 need not be 1": x0 + (1 - alpha**2) / alpha * step,
        "the scale is missing": x0 + sigma**2 / alpha * gradient,
        "the scale is ours, not the paper's less 1": x0 + (w - 1) * sigma**2 / alpha * gradient,
        "that is the step: add it to x0": sigma**2 / alpha * step,
        "the gradient of each picture's own log_prob: sum over the batch, don't average":
            x0 + sigma**2 / alpha * step / len(x0),
        "the gradient is used as it is: its length counts":
            x0 + sigma**2 / alpha * step / gradient.norm(),
        "`first` is for alpha = 0 alone": x0 + w * first,
        "`first` is for alpha = 0 alone, there in the gradient's place":
            x0 + sigma**2 / alpha * step + w * first,
    }


def cfg(denoiser, context, null, guidance_scale):
    def denoise(x, t):
        x0_null, x0_cond = guidance.uncond_and_cond(denoiser, x, t, context, null)
        return x0_null + guidance_scale * (x0_cond - x0_null)

    return denoise


# shapes of x and of a context, the times, the scale; labels, a time for each, then texts
ASKED = [
    ((3, 2, 5, 4), (3,), torch.tensor(0.63), 2.7),
    ((4, 2), (4,), torch.tensor([0.2, 0.85, 0.4, 0.6]), 0.4),
    ((2, 3, 4, 7), (2, 4, 6), torch.tensor(0.3), 5.0),
]


@check(reference=cfg, forbidden=[guidance.cfg, guidance.Cfg, guidance.uncond_and_cond,
                                 guidance.Condition, guidance.guided])
def check_cfg(answer):
    for shape, of_context, t, w in ASKED:
        network, x = Network(), randn(*shape)
        context, null = 2 * randn(*of_context, seed=1), 2 * randn(*of_context, seed=2)
        n, c = network(x, t, null), network(x, t, context)
        network.calls.clear()
        made = answer(network, context, null, w)
        denoise = answer.wrap(made, "a function denoise(x, t)", ["x", "t"])
        denoise.right = answer.right
        denoise.case((x, t), n + w * (c - n), {
            "that is the conditional answer alone": c,
            "that is the answer without the condition alone": n,
            "the two answers changed places": c + w * (n - c),
            "the guess starts from the answer without the condition": c + w * (c - n),
            "the paper counts from 0, here scale 1 is off": (1 + w) * c - w * n,
            "that is the difference alone: add it to the answer without the condition": w * (c - n),
            "the weights are w and 1 - w": n + w * c,
            "the scale is missing": n + c,
            "the sign of the difference is wrong": n - w * (c - n),
        }, where=f"shape {shape}, scale {w}")
        answer.right = denoise.right
        judge_calls(network, len(x))


def judge_calls(network, batch: int):
    """Both questions go to the network at once."""
    sizes = [len(x) for x, _, _ in network.calls]
    if sizes != [2 * batch]:
        fail(f"the network is asked in batches of {sizes}: put both questions into one of "
             f"{2 * batch}")


def towards_both(denoiser, a, b, null, w_a, w_b):
    def denoise(x, t):
        start = denoiser(x, t, null)
        towards_a = denoiser(x, t, a) - start
        towards_b = denoiser(x, t, b) - start
        return start + w_a * towards_a + w_b * towards_b

    return denoise


# shape of x, of a context, the times, the scales; labels and one time, then texts and a time each
BOTH = [
    ((3, 2, 5, 4), (3,), torch.tensor(0.63), 1.7, 3.1),
    ((2, 3, 4, 7), (2, 4, 6), torch.tensor([0.2, 0.85]), 1.5, -0.7),
]


@check(reference=towards_both, forbidden=[guidance.cfg])
def check_towards_both(answer):
    for shape, of_context, t, w_a, w_b in BOTH:
        network = Network()
        x = randn(*shape)
        # an answer that asks for all of them in one call is as good
        contexts = [2 * randn(*of_context, seed=seed) for seed in (1, 2, 3)]
        a, b, null = contexts
        n, of_a, of_b = (network(x, t, context) for context in (null, a, b))
        made = answer(network, a, b, null, w_a, w_b)
        denoise = answer.wrap(made, "a function denoise(x, t), as cfg does", ["x", "t"])
        likely = likely_towards_both(n, of_a, of_b, w_a, w_b)
        want = n + w_a * (of_a - n) + w_b * (of_b - n)
        denoise.case((x, t), want, likely, where=f"scales {w_a} and {w_b}")
        # it is asked anew at each step of a sampler
        later, time = randn(*shape, seed=9), torch.tensor(0.41)
        want = towards_both(network, a, b, null, w_a, w_b)(later, time)
        denoise.case((later, time), want, where="asked a second time, at another x and t")


def likely_towards_both(n, a, b, w_a, w_b):
    first = n + w_a * (a - n)
    second = w_b * (b - n)
    # where the scale is negative, away is where b has to go
    pushed = "b is pushed away" if w_b > 0 else "a negative scale pushes b away: it is drawn near"
    return {
        "the two scales changed places": n + w_b * (a - n) + w_a * (b - n),
        "both have the first scale": n + w_a * (a - n) + w_a * (b - n),
        "both have the second scale": n + w_b * (a - n) + w_b * (b - n),
        "the empty prompt's answer is in the sum twice": n + first + second,
        "it is b's difference from the empty prompt's answer that is scaled": first + w_b * b,
        "it is b's difference from the empty prompt's answer that is scaled; the start is missing":
            first - n + w_b * b,
        "it is a's difference from the empty prompt's answer that is scaled": n + w_a * a + second,
        "the empty prompt's answer is scaled by both, not subtracted":
            n + w_a * (a + n) + w_b * (b + n),
        "the second difference is taken from a, not from the empty prompt": first + w_b * (b - a),
        "the first difference is taken from b, not from the empty prompt":
            n + w_a * (a - b) + second,
        "the second difference starts where the first has led: both start from the empty prompt":
            first + w_b * (b - first),
        "the second step starts from b: both start from the empty prompt":
            n + second + w_a * (a - n - second),
        pushed: first - second,
        "a is pushed away": n - w_a * (a - n) + second,
        "both are pushed away": n - w_a * (a - n) - second,
        "the differences want a place to start from": first - n + second,
        "they start from the empty prompt's answer, not from a's": first - n + a + second,
        "they start from the empty prompt's answer, not from b's": first - n + b + second,
        "b is never asked for": first,
        "a is never asked for": n + second,
        "the sum of both answers: their differences from the empty prompt's are scaled":
            w_a * a + w_b * b,
        "the mean of two guided answers: their differences are added": n + (first - n + second) / 2,
        "the scales are shared out: they need not sum to 1": (w_a * a + w_b * b) / (w_a + w_b),
        "both differences have the same scale, their product": n + w_a * w_b * (a + b - 2 * n),
        "the empty prompt is never asked": a + w_a * (b - a),
        "b stands in for the empty prompt": b + w_a * (a - b),
    }
