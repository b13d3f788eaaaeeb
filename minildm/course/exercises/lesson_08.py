"""The checks of lesson 08."""

import torch

from minildm.course.exercises.legacy import compare, passed, randn

NULL, COND, OTHER = (randn(3, 2, 4, 4, seed=seed) for seed in range(3))
EACH = (1, 2, 3)    # the axes of one picture


def check_guided_by_eps(f):
    x, alpha, sigma, w = OTHER, torch.tensor(0.6), torch.tensor(0.8), 4.0

    def x0(eps):
        return (x - sigma * eps) / alpha

    right = NULL + w * (COND - NULL)
    passed(compare("guided_by_eps", f(x, NULL, COND, alpha, sigma, w), x0(right), {
        "the paper's scale is ours less 1: its 0 is our 1": x0((1 + w) * COND - w * NULL),
        "conditional and unconditional changed places": x0(COND + w * (NULL - COND)),
        "the sign: it walks away from the condition": x0(NULL - w * (COND - NULL)),
        "a mean of the two never leaves the stretch between them": x0((NULL + w * COND) / (1 + w)),
        "that is eps, x0 is wanted": right,
        "x0 = (x - sigma eps) / alpha: alpha is missing": x - sigma * right,
        "x - sigma eps, not plus": (x + sigma * right) / alpha,
        "that is no guidance at all": x0(COND)}))


def check_classifier_step(f):
    alpha, sigma, w = torch.tensor(0.3), torch.tensor(0.8), 2.0
    step = w * COND
    passed(compare("classifier_step", f(NULL, COND, alpha, sigma, w), NULL + sigma**2 / alpha * step, {
        "the gradient itself is no x0: it needs sigma^2 / alpha": NULL + step,
        "sigma squared": NULL + sigma / alpha * step,
        "that is the step of eps, and alpha is missing": NULL + sigma**2 * step,
        "downhill: the sign is that of eps": NULL - sigma**2 / alpha * step,
        "divide by alpha, not by alpha squared": NULL + sigma**2 / alpha**2 * step,
        "the scale w is missing": NULL + sigma**2 / alpha * COND}))


def check_towards_both(f):
    asked = []

    def denoiser(x, t, context):
        asked.append(tuple(context.tolist()))
        return torch.cat([(NULL, COND, OTHER)[k][:1] for k in context])

    x, t = NULL[:1], torch.tensor(0.5)
    names = [torch.tensor([k]) for k in range(3)]       # the empty prompt, a, b
    n, a, b = NULL[:1], COND[:1], OTHER[:1]
    got = f(denoiser, names[1], names[2], names[0], 2.0, 3.0)
    if not callable(got):
        raise AssertionError("towards_both: return a function denoise(x, t), as cfg does")
    passed(compare("towards_both", got(x, t), n + 2 * (a - n) + 3 * (b - n), {
        "the two scales changed places": n + 3 * (a - n) + 2 * (b - n),
        "the empty prompt's answer is in the sum twice": 2 * n + 2 * (a - n) + 3 * (b - n),
        "the second difference is taken from a, not from the empty prompt": n + 2 * (a - n) + 3 * (b - a),
        "b is pushed away": n + 2 * (a - n) - 3 * (b - n),
        "the differences want a place to start from": 2 * (a - n) + 3 * (b - n),
        "b is never asked for": n + 2 * (a - n)}))


def check_rescaled(f):
    guided, phi = torch.tensor([2.0, 3.0, 5.0])[:, None, None, None] * COND + 0.5, 0.7
    ratio = COND.std(EACH, keepdim=True) / guided.std(EACH, keepdim=True)
    whole = COND.std() / guided.std()
    passed(compare("rescaled", f(COND, guided, phi), (phi * ratio + 1 - phi) * guided, {
        "each picture has its own spread: this one is of the whole batch": (phi * whole + 1 - phi) * guided,
        "phi is the share of the corrected one": ((1 - phi) * ratio + phi) * guided,
        "upside down: the guided spread belongs below": (phi / ratio + 1 - phi) * guided,
        "that is the whole correction: phi is not used": ratio * guided,
        "mixing in the conditional answer takes the guidance back": phi * COND + (1 - phi) * guided,
        "nothing has changed": guided}))


def check_scale_at(f):
    t, w = torch.tensor([0.0, 0.2, 0.3, 0.6, 0.7, 1.0]), 5.0
    inside, one = (t > 0.2) & (t <= 0.6), torch.ones(6)
    passed(compare("scale_at", f(t, w, 0.2, 0.6), torch.where(inside, w, one), {
        "outside the interval guidance is off, and off is 1": torch.where(inside, w, 0 * one),
        "inside and outside changed places": torch.where(inside, one, w * one),
        "it never ends: t <= high is missing": torch.where(t > 0.2, w, one),
        "it never begins: low < t is missing": torch.where(t <= 0.6, w, one),
        "low belongs outside, high inside": torch.where((t >= 0.2) & (t < 0.6), w, one),
        "high belongs inside": torch.where((t > 0.2) & (t < 0.6), w, one)}))
