"""The checks of lesson 08."""

import torch

from minildm.course.exercises.fakes import Network, randn
from minildm.course.exercises.harness import check
from minildm.diffusion import guidance

__all__ = ["check_classifier_step", "check_guided_by_eps", "check_rescaled", "check_scale_at",
           "check_towards_both"]

# alpha, sigma: the second pair is of no schedule with alpha^2 + sigma^2 = 1 or alpha + sigma = 1
LEVELS = (0.6, 0.8), (0.4, 1.7)


def guided_by_eps(x, eps_null, eps_cond, alpha, sigma, guidance_scale):
    eps = eps_null + guidance_scale * (eps_cond - eps_null)
    return (x - sigma * eps) / alpha


@check(reference=guided_by_eps, forbidden=[guidance.cfg])
def check_guided_by_eps(answer):
    shapes = (3, 2, 5, 4), (2, 3, 4, 7)
    # alpha and sigma have no axes, as at one step of a sampler
    for shape, (alpha, sigma), w in zip(shapes, LEVELS, (4.0, 2.5), strict=True):
        x, null, cond = (randn(*shape, seed=seed) for seed in range(3))
        alpha, sigma = torch.tensor(alpha), torch.tensor(sigma)

        def x0(eps, x=x, alpha=alpha, sigma=sigma):
            return (x - sigma * eps) / alpha

        step = w * (cond - null)
        right = null + step
        paper = (1 + w) * cond - w * null
        mean = (null + w * cond) / (1 + w)
        answer.case((x, null, cond, alpha, sigma, w), x0(right), {
            "the paper's scale is ours less 1: its 0 is our 1": x0(paper),
            "the paper's scale is ours less 1, not ours plus 1": x0(right + 2 * (cond - null)),
            "one step beyond the conditional is subtracted once only": x0(w * cond - w * null),
            "the brackets of the paper's form: w' is subtracted, ours is w' + 1":
                x0(w * cond - (w + 1) * null),
            "conditional and unconditional changed places": x0(cond - step),
            "the sign: it walks away from the condition": x0(null - step),
            "the answers of both are added": x0(w * cond + (w - 1) * null),
            "a mean of the two never leaves the stretch between them": x0(mean),
            "that is eps, x0 is wanted": right,
            "x0 = (x - sigma eps) / alpha: alpha is missing": x - sigma * right,
            "x0 = (x - sigma eps) / alpha: sigma is missing": (x - right) / alpha,
            "x0 = (x - sigma eps) / alpha: x is divided as well": x - sigma / alpha * right,
            "divide by alpha": alpha * (x - sigma * right),
            "alpha and sigma changed places": (x - alpha * right) / sigma,
            "alpha isn't squared": (x - sigma * right) / alpha.square(),
            "alpha is no square here: no root": (x - sigma * right) / alpha.sqrt(),
            "sigma isn't squared": (x - sigma.square() * right) / alpha,
            "sigma is given: alpha^2 + sigma^2 need not be 1":
                (x - (1 - alpha**2).sqrt() * right) / alpha,
            "sigma is given: alpha + sigma need not be 1": (x - (1 - alpha) * right) / alpha,
            "x - sigma eps, not plus": (x + sigma * right) / alpha,
            "that is no guidance at all": x0(cond),
            "that is the answer without the condition": x0(null),
        }, where=f"shape {shape}, alpha {alpha:.1f}, sigma {sigma:.1f}, scale {w}")


def classifier_step(x0, gradient, alpha, sigma, w):
    return x0 + w * sigma**2 / alpha * gradient


@check(reference=classifier_step, forbidden=[guidance.classifier_guidance])
def check_classifier_step(answer):
    shapes = (3, 2, 5, 4), (2, 3, 4, 7)
    # scales at which no two mistakes give one result: alpha times w is not w - 1
    for shape, (alpha, sigma), w in zip(shapes, LEVELS, (2.3, 0.7), strict=True):
        x0, gradient = randn(*shape), randn(*shape, seed=1)
        alpha, sigma = torch.tensor(alpha), torch.tensor(sigma)
        step = w * gradient
        of_x0 = sigma**2 / alpha * step
        answer.case((x0, gradient, alpha, sigma, w), x0 + of_x0, {
            "the gradient itself is no step of x0: it needs sigma^2 / alpha": x0 + step,
            "sigma squared: one from eps, one from x0": x0 + sigma / alpha * step,
            "that is the step of eps added to x0: sigma / alpha is missing": x0 + sigma * step,
            "that is the step of eps, subtracted from x0: sigma / alpha is missing":
                x0 - sigma * step,
            "alpha is missing": x0 + sigma**2 * step,
            "sigma is missing": x0 + step / alpha,
            "downhill: x0 moves against eps, so the two signs cancel": x0 - of_x0,
            "downhill, and sigma squared: one from eps, one from x0": x0 - sigma / alpha * step,
            "divide by alpha, not by alpha squared": x0 + sigma**2 / alpha**2 * step,
            "divide by alpha, not by its root": x0 + sigma**2 / alpha.sqrt() * step,
            "divide by alpha": x0 + sigma**2 * alpha * step,
            "alpha and sigma changed places": x0 + alpha**2 / sigma * step,
            "sigma is given: alpha^2 + sigma^2 need not be 1": x0 + (1 - alpha**2) / alpha * step,
            "the gradient alone is divided by alpha: x0 is guided already":
                (x0 + sigma**2 * step) / alpha,
            "the scale w is missing": x0 + sigma**2 / alpha * gradient,
            "w isn't squared": x0 + w * of_x0,
            "the scale is the gradient's: x0 keeps its own": w * (x0 + sigma**2 / alpha * gradient),
            "the scale is ours, not the paper's less 1": x0 + (w - 1) * sigma**2 / alpha * gradient,
            "that is the step: add it to x0": of_x0,
            "the gradient is used as it is: its length counts": x0 + of_x0 / gradient.norm(),
        }, where=f"shape {shape}, alpha {alpha:.1f}, sigma {sigma:.1f}, scale {w}")


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


PIXELS = 1, 2, 3    # the axes of one picture


def rescaled(x0_cond, x0_guided, phi):
    ratio = x0_cond.std(PIXELS, keepdim=True) / x0_guided.std(PIXELS, keepdim=True)
    return (phi * ratio + 1 - phi) * x0_guided


@check(reference=rescaled, forbidden=[guidance.rescaled, guidance.cfg_rescaled])
def check_rescaled(answer):
    for shape, phi in ((3, 2, 5, 4), 0.7), ((4, 3, 2, 6), 0.2):
        count, channels = shape[:2]
        # pictures and channels have spreads and means of their own
        gain = torch.linspace(0.4, 5, count).reshape(-1, 1, 1, 1)
        tilt = torch.linspace(0.5, 1.5, channels).reshape(-1, 1, 1)
        cond = randn(*shape) * tilt - 0.3
        guided = gain * (cond + 0.4 * randn(*shape, seed=1)) * tilt + 0.5
        want = rescaled(cond, guided, phi)
        answer.case((cond, guided, phi), want, likely_rescaled(cond, guided, phi),
                    where=f"shape {shape}, phi {phi}")


def likely_rescaled(cond, guided, phi):
    def ratio(*axes):
        return cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True)

    def mixed(ratio):
        return (phi * ratio + 1 - phi) * guided

    own = ratio(*PIXELS)
    mean = guided.mean(PIXELS, keepdim=True)
    length = cond.flatten(1).norm(dim=1) / guided.flatten(1).norm(dim=1)
    return {
        "each picture has its own spread: this one is of the whole batch":
            mixed(cond.std() / guided.std()),
        "a picture's spread is over its channels, too": mixed(ratio(2, 3)),
        "a picture's spread is over its positions, too": mixed(ratio(1)),
        "each picture has its own spread: this one is over the batch": mixed(ratio(0)),
        "each picture has its own spread: this one is over the batch and the positions":
            mixed(ratio(0, 2, 3)),
        "phi is the share of the corrected one": ((1 - phi) * own + phi) * guided,
        "upside down: the guided spread belongs below": mixed(1 / own),
        "the standard deviation, not the variance": mixed(own.square()),
        "the standard deviation, not its root": mixed(own.sqrt()),
        "a standard deviation is measured from the mean": mixed(length.reshape(-1, 1, 1, 1)),
        "that is the whole correction: phi is not used": own * guided,
        "the rest of the guided answer is missing": phi * own * guided,
        "1 - phi is the guided answer's share: it counts in full here":
            phi * own * guided + guided,
        "mixing in the conditional answer takes the guidance back": phi * cond + (1 - phi) * guided,
        "it is the guided answer that is corrected, not the conditional one":
            (phi * own + 1 - phi) * cond,
        "the other share is the guided answer's, not the conditional one's":
            phi * own * guided + (1 - phi) * cond,
        "the guided spread is brought to the conditional one's: not multiplied by it":
            mixed(cond.std(PIXELS, keepdim=True)),
        "divided by its own spread: then the conditional one's is missing":
            mixed(1 / guided.std(PIXELS, keepdim=True)),
        "the mean is scaled with the rest": mean + mixed(own) - mixed(own) / guided * mean,
        "the ratio is not a power of phi: the two answers are mixed": own**phi * guided,
        "nothing has changed": guided,
    }


def scale_at(t, w, low, high):
    inside = (low < t) & (t <= high)
    return torch.where(inside, w, 1.0)


# times, w, low, high; the borders are exact in binary, so that no rounding decides
INTERVALS = [
    ([0.0, 0.25, 0.3, 0.625, 0.7, 1.0], 5.0, 0.25, 0.625),
    ([0.9, 0.75, 0.5, 0.4, 0.125, 0.1, 0.13], 0.25, 0.125, 0.75),
    ([0.5, 0.2, 1.0], 3.0, 0.375, 1.0),
]


@check(reference=scale_at, forbidden=[guidance.interval])
def check_scale_at(answer):
    for times, w, low, high in INTERVALS:
        t = torch.tensor(times)
        one = torch.ones_like(t)
        all_w = w * one
        # t is on a border in two places
        inside = (t > low) & (t <= high)
        answer.case((t, w, low, high), torch.where(inside, all_w, one), {
            "outside the interval guidance is off, and off is 1": all_w * inside,
            "inside and outside changed places": torch.where(inside, one, all_w),
            "it is on everywhere: both conditions must hold, not one of them": all_w,
            "it is off everywhere": one,
            "it never ends: t <= high is missing": torch.where(t > low, all_w, one),
            "it never begins: low < t is missing": torch.where(t <= high, all_w, one),
            "low belongs outside, high inside": torch.where((t >= low) & (t < high), all_w, one),
            "high belongs inside": torch.where((t > low) & (t < high), all_w, one),
            "low belongs outside": torch.where((t >= low) & (t <= high), all_w, one),
            "the scale is w inside, not 1 + w": torch.where(inside, 1 + all_w, one),
            "the scale is w inside, not t": torch.where(inside, t, one),
            "the scale is w, the same all through the interval": torch.where(inside, w * t, one),
            "off is 1, not t": torch.where(inside, all_w, t),
            "that is where it is on: the scale is wanted": inside.float(),
            "that is where it is on: the scale is wanted, w or 1": inside,
        }, where=f"low {low}, high {high}, w {w}")
