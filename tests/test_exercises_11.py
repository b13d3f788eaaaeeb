"""Lesson 11's checks of img2img and inpainting: right answers in any style pass; wrong ones are told why."""

import re

import pytest
from support.answers import cases, changed, passes, told, written

from minildm.course.exercises import lesson_11_repaint
from minildm.diffusion import editing, samplers
from minildm.diffusion.schedules import add_noise

HELPERS = {"ddim": samplers.ddim, "last": samplers.last, "add_noise": add_noise,
           "joined_step": lesson_11_repaint.joined_step, "noise_again": lesson_11_repaint.noise_again}
LOOP = """
    start = torch.tensor([float(strength)])
    times = torch.cat([start, ts[ts < strength]])
    x = schedule.alpha(start) * latents + schedule.sigma(start) * noise
    for t, s in zip(times[:-1], times[1:]):
        x0 = denoise(x, t)
        eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
        x = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
    return x
"""
JOIN = """
    a_t, sd_t = schedule.alpha(t), schedule.sigma(t)
    a_s, sd_s = schedule.alpha(s), schedule.sigma(s)
    x0 = denoise(x, t)
    weight = a_t / a_s * (sd_s / sd_t)**2
    sd = sd_s * (1 - (a_t * sd_s / (a_s * sd_t))**2).sqrt()
    unknown = weight * x + (a_s - weight * a_t) * x0 + sd * noise_new
    known = a_s * latents + sd_s * noise_known
    return keep * known + (1 - keep) * unknown
"""
AGAIN = """
    ratio = schedule.alpha(t) / schedule.alpha(s)
    variance = schedule.sigma(t)**2 - (ratio * schedule.sigma(s))**2
    return ratio * x + variance.sqrt() * noise
"""
ROUNDS = """
    def fresh():
        return torch.randn(noise.shape, generator=generator)
    x = noise
    for t, s in zip(ts[:-1], ts[1:]):
        for left in reversed(range(rounds)):
            x = joined_step(denoise, schedule, x, t, s, latents, keep, fresh(), fresh())
            if left:
                x = noise_again(schedule, x, s, t, fresh())
    return x
"""

RIGHT = [
    ("img2img", LOOP),
    ("img2img", """
        times = [torch.tensor(float(strength))] + [t for t in ts if t < strength]
        x = add_noise(schedule, latents, noise, times[0])
        for i in range(len(times) - 1):
            x0 = denoise(x, times[i])
            a, b = schedule.sigma(times[i + 1]) / schedule.sigma(times[i]), schedule.alpha(times[i + 1])
            x = a * x + (b - a * schedule.alpha(times[i])) * x0
        return x
     """),
    ("img2img", """
        if strength == 0:
            return latents
        times = torch.cat([torch.tensor([strength]), ts[ts <= strength]])
        return last(ddim(denoise, schedule, add_noise(schedule, latents, noise, times[0]), times))
     """),
    ("img2img", """
        t = torch.tensor(float(strength))
        x = schedule.alpha(t) * latents + schedule.sigma(t) * noise
        for s in ts:
            if s >= t:
                continue
            x0 = denoise(x, t)
            x = schedule.alpha(s) * x0 + schedule.sigma(s) / schedule.sigma(t) * (x - schedule.alpha(t) * x0)
            t = s
        return x
     """),
    ("inpaint", "return lambda x, t: keep * latents + (1 - keep) * denoise(x, t)"),
    ("inpaint", "def filled(x, t):\n    return torch.lerp(denoise(x, t), latents, keep.expand_as(latents))\n"
                "return filled"),
    ("inpaint", """
        class Filled(nn.Module):
            def forward(self, x, t):
                x0 = denoise(x, t)
                return x0 + keep * (latents - x0)
        return Filled()
     """),
    ("joined_step", JOIN),
    ("joined_step", """
        alpha, sigma = schedule
        guess = denoise(x, t)
        shrink = alpha(t) / alpha(s)
        added = sigma(t)**2 - (shrink * sigma(s))**2
        mean = (shrink * sigma(s)**2 * x + alpha(s) * added * guess) / sigma(t)**2
        drawn = mean + (added * sigma(s)**2 / sigma(t)**2).sqrt() * noise_new
        noised = add_noise(schedule, latents, noise_known, s)
        return drawn + keep * (noised - drawn)
     """),
    ("noise_again", AGAIN),
    ("noise_again", """
        k = schedule.alpha(t) / schedule.alpha(s)
        return k * x + torch.sqrt((schedule.sigma(t) - k * schedule.sigma(s))
                                  * (schedule.sigma(t) + k * schedule.sigma(s))) * noise
     """),
    ("noise_again", """
        ratio = (schedule.alpha(t) / schedule.alpha(s)).item()
        more = schedule.sigma(t).item()**2 - ratio**2 * schedule.sigma(s).item()**2
        return ratio * x + math.sqrt(more) * noise
     """),
    ("repaint", ROUNDS),
    ("repaint", """
        for i in range(len(ts) - 1):
            for r in range(rounds):
                if r > 0:
                    noise = noise_again(schedule, noise, ts[i + 1], ts[i],
                                        torch.randn(noise.shape, generator=generator))
                first = torch.randn(noise.shape, generator=generator)
                second = torch.randn(noise.shape, generator=generator)
                noise = joined_step(denoise, schedule, noise, ts[i], ts[i + 1], latents, keep, first, second)
        return noise
     """),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


def loop(old, new):
    return changed(LOOP, old, new)


def join(old, new):
    return changed(JOIN, old, new)


def rounds(old, new):
    return changed(ROUNDS, old, new)


def again(old, new):
    return changed(AGAIN, old, new)


SHORT = "times = torch.cat([start, ts[ts < strength]])"
WRONG = [
    ("img2img", "noisy picture", "t = torch.tensor(strength)\n"
     "return schedule.alpha(t) * latents + schedule.sigma(t) * noise"),
    ("img2img", "from noise alone", 
     loop("x = schedule.alpha(start) * latents + schedule.sigma(start) * noise", "x, times = noise, ts")),
    ("img2img", "whole grid", loop(SHORT, "times = ts")),
    ("img2img", "where the grid has no such time", loop("start = torch.tensor([float(strength)])",
                                                        "start = ts[ts < strength][:1]")),
    ("img2img", "not at the grid's time before",
     loop("start = torch.tensor([float(strength)])", "start = ts[ts > strength][-1:]")),
    ("img2img", "the first step begins there", loop(SHORT, "times = ts[ts < strength]")),
    ("img2img", "multiplied by alpha", loop("schedule.alpha(start) * latents", "latents")),
    ("img2img", "multiplied by sigma", loop("schedule.sigma(start) * noise", "noise")),
    ("img2img", "alpha belongs to the latents",
     loop("schedule.alpha(start) * latents + schedule.sigma(start) * noise",
          "schedule.sigma(start) * latents + schedule.alpha(start) * noise")),
    ("img2img", "no noise was added", loop("schedule.alpha(start) * latents + schedule.sigma(start) * noise",
                                           "latents")),
    ("img2img", "latents are missing", loop("schedule.alpha(start) * latents + ", "")),
    ("img2img", "not always 1 - t", loop("schedule.alpha(start) * latents + schedule.sigma(start)",
                                         "(1 - strength) * latents + strength")),
    ("img2img", "turned round", "strength = 1 - strength\n" + LOOP.replace("\n    ", "\n")),
    ("img2img", "asked anew", loop("    for t, s", "    x0 = denoise(x, times[0])\n    for t, s").replace(
        "        x0 = denoise(x, t)\n", "")),
    ("img2img", "last guess", loop("return x", "return x0")),
    ("img2img", "in place", "latents *= 0.5\nreturn latents"),
    ("img2img", "NaN", loop(SHORT, "times = torch.cat([start, ts[ts <= strength]])")),
    ("img2img", "others", loop("float(strength)", "0.7")),
    ("img2img", "`latents`, unchanged", "return latents"),
    ("inpaint", "function of x and t", "return keep * latents"),
    ("inpaint", "mask has no say", "return lambda x, t: denoise(x, t)\n_ = keep"),
    ("inpaint", "changed places", "return lambda x, t: (1 - keep) * latents + keep * denoise(x, t)"),
    ("inpaint", "not x", "return lambda x, t: keep * x + (1 - keep) * denoise(x, t)"),
    ("inpaint", "what denoise says", "return lambda x, t: keep * latents + (1 - keep) * x"),
    ("inpaint", "not the question", "return lambda x, t: denoise(keep * latents + (1 - keep) * x, t)"),
    ("inpaint", "only its answer", "return lambda x, t: keep * latents + (1 - keep) * "
     "denoise(keep * latents + (1 - keep) * x, t)"),
    ("inpaint", "blanked", "return lambda x, t: keep * latents + (1 - keep) * denoise((1 - keep) * x, t)"),
    ("inpaint", "rest is missing", "return lambda x, t: keep * latents"),
    ("inpaint", "kept part is missing", "return lambda x, t: (1 - keep) * denoise(x, t)"),
    ("inpaint", "weigh it", "return lambda x, t: keep * latents + denoise(x, t)"),
    ("inpaint", "soft masks", "return lambda x, t: torch.where(keep > 0.5, latents, denoise(x, t))"),
    ("inpaint", "any weight above 0", "return lambda x, t: torch.where(keep.bool(), latents, denoise(x, t))"),
    ("inpaint", "in place", "def filled(x, t):\n    x *= 1 - keep\n    x += keep * latents\n    return "
     "denoise(x, t)\nreturn filled"),
    ("inpaint", "first of the batch only", "keep = keep.expand(len(latents), 1, *latents.shape[2:])[0]\n"
     "return lambda x, t: keep * latents + (1 - keep) * denoise(x, 0.6 + 0 * t)"),
    ("joined_step", "changed places", join("keep * known + (1 - keep) * unknown",
                                           "keep * unknown + (1 - keep) * known")),
    ("joined_step", "unknown part alone", join("keep * known + (1 - keep) * unknown", "unknown")),
    ("joined_step", "known part alone", join("keep * known + (1 - keep) * unknown", "known")),
    ("joined_step", "as much as belongs", join("a_s * latents + sd_s * noise_known", "latents")),
    ("joined_step", "to time s, not t", join("a_s * latents + sd_s * noise_known",
                                             "a_t * latents + sd_t * noise_known")),
    ("joined_step", "both got noise_known", join("sd * noise_new", "sd * noise_known")),
    ("joined_step", "both got noise_new", join("sd_s * noise_known", "sd_s * noise_new")),
    ("joined_step", "noises changed places", join("sd * noise_new", "sd * noise_known").replace(
        "sd_s * noise_known\n    return", "sd_s * noise_new\n    return")),
    ("joined_step", "not only its mean", join(" + sd * noise_new", "")),
    ("joined_step", "as DDIM does", join("weight * x + (a_s - weight * a_t) * x0 + sd * noise_new",
                                         "a_s * x0 + sd_s * (x - a_t * x0) / sd_t")),
    ("joined_step", "keeps a part of x", join("weight * x + (a_s - weight * a_t) * x0 + sd * noise_new",
                                              "a_s * x0 + sd_s * noise_new")),
    ("joined_step", "not sigma", join("sd * noise_new", "sd_s * noise_new")),
    ("joined_step", "that is the variance", join("sd * noise_new", "sd**2 * noise_new")),
    ("joined_step", "not 1", join("sd * noise_new", "noise_new")),
    ("joined_step", "squared in the mean", join("(sd_s / sd_t)**2", "sd_s / sd_t")),
    ("joined_step", "weight alpha", join("(a_s - weight * a_t) * x0", "(1 - weight) * x0")),
    ("joined_step", "t, not s", join("denoise(x, t)", "denoise(x, s)")),
    ("joined_step", "as it is", join("denoise(x, t)", "denoise(keep * latents + (1 - keep) * x, t)")),
    ("joined_step", "in place", join("x0 = denoise(x, t)", "x0 = denoise(x, t)\n    x *= 1 - keep")),
    ("noise_again", "not alpha", again("ratio * x", "schedule.alpha(t) * x")),
    ("noise_again", "too much noise", again("variance.sqrt()", "schedule.sigma(t)")),
    ("noise_again", "as if it were data", "return schedule.alpha(t) * x + schedule.sigma(t) * noise"),
    ("noise_again", "has to shrink", again("ratio * x", "x")),
    ("noise_again", "variances subtract", again("variance.sqrt()",
                                                "(schedule.sigma(t) - ratio * schedule.sigma(s))")),
    ("noise_again", "shrinks with it", again("(ratio * schedule.sigma(s))**2", "schedule.sigma(s)**2")),
    ("noise_again", "squared with sigma", again("(ratio * schedule.sigma(s))**2",
                                                "ratio * schedule.sigma(s)**2")),
    ("noise_again", "root is missing", again("variance.sqrt()", "variance")),
    ("noise_again", "upside down", again("ratio * x", "x / ratio")),
    ("noise_again", "noise is missing", again(" + variance.sqrt() * noise", "")),
    ("noise_again", "not subtracted", again("+ variance", "- variance")),
    ("noise_again", "NaN", "s, t = t, s" + AGAIN.replace("\n    ", "\n")),
    ("noise_again", "package's `add_noise`", "return add_noise(schedule, x, noise, t)\n_ = s"),
    ("repaint", "is drawn first", rounds("latents, keep, fresh(), fresh())",
                                         "latents, keep, *[fresh(), fresh()][::-1])")),
    ("repaint", "x stays at s", rounds("if left", "if True")),
    ("repaint", "once only", rounds("range(rounds)", "range(1)")),
    ("repaint", "too few", rounds("range(rounds)", "range(max(1, rounds - 1))")),
    ("repaint", "too many", rounds("range(rounds)", "range(rounds + 1)")),
    ("repaint", "another seed", "return denoise(noise, ts[0])"),
    ("repaint", "global generator", rounds(", generator=generator", "")),
]


@pytest.mark.parametrize("name, cause, body", cases(WRONG))
def test_wrong_answers_are_told_why(name, cause, body):
    message = told(name, written(name, body, HELPERS))
    assert re.search(re.escape(cause), message), message


@pytest.mark.parametrize("name, function", [
    ("img2img", editing.img2img), ("inpaint", editing.inpaint),
    ("img2img", lambda *parts: editing.img2img(*parts) * 1),
    ("inpaint", lambda denoise, latents, keep: editing.inpaint(denoise, latents, 1 * keep))])
def test_the_packages_own_is_not_taken(name, function):
    assert "package" in told(name, function)
