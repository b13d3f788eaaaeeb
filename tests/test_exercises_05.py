"""The checks of lesson 05's steps: right answers in any style pass, wrong ones are told why."""


from support.answers import right_and_wrong

from minildm.course.exercises.lesson_05 import posterior
from minildm.course.exercises.lesson_05_ddim import ddim_step
from minildm.diffusion import samplers, schedules

HELPERS = {"samplers": samplers, "schedules": schedules, "posterior": posterior,
           "ddim_step": ddim_step}
AT = ("a, a_s = schedule.alpha(t), schedule.alpha(s)\n"
      "sd, sd_s = schedule.sigma(t), schedule.sigma(s)\n")
BAYES = AT + "r = a / a_s\nadded = sd**2 - r**2 * sd_s**2\n"
MEAN = "(r * sd_s**2 * x + added * a_s * x0) / sd**2"
VARIANCE = "added * sd_s**2 / sd**2"
EPS = AT + "eps = (x - a * x0) / sd\nreturn "


def pair(mean=MEAN, variance=VARIANCE):
    return BAYES + f"return {mean}, {variance}"


DDPM = """
    path = [noise]
    for t, s in zip({times}):
        x = path[-1]
        x0 = denoise({seen})
        mean, variance = posterior(schedule, {start}, x0, t, s)
        fresh = torch.randn(noise.shape, generator=generator)
        path.append({drawn})
    return {out}
"""
DDIM = """
    path = [noise]
    for t, s in zip({times}):
        x = path[-1]
        path.append(ddim_step(schedule, {start}, denoise({seen}), t, s))
    return {out}
"""
LOOP = {"times": "ts[:-1], ts[1:]", "seen": "x, t", "start": "x", "out": "torch.stack(path)",
        "drawn": "mean + variance.sqrt() * fresh"}


def ddpm(**changed):
    return DDPM.format(**LOOP | changed)


def ddim(**changed):
    return DDIM.format(**LOOP | changed)


RIGHT = [
    ("posterior", pair()),
    ("posterior", BAYES + f"return [{MEAN}, ({VARIANCE}).item()]"),
    ("posterior", BAYES + f"return {MEAN}, ({VARIANCE}).expand(x.shape)"),
    ("posterior", AT + """
keep = a / a_s * (sd_s / sd)**2
return keep * x + (a_s - keep * a) * x0, sd_s**2 - (keep * sd)**2
     """),
    ("posterior", BAYES + """
gain = r * sd_s**2 / (r**2 * sd_s**2 + added)
return a_s * x0 + gain * (x - r * a_s * x0), (1 - gain * r) * sd_s**2
     """),
    ("ddpm", ddpm()),
    ("ddpm", """
        x, out = noise, torch.empty(len(ts), *noise.shape)
        out[0] = noise
        for i in range(len(ts) - 1):
            mean, variance = posterior(schedule, x, denoise(x, ts[i]), ts[i], ts[i + 1])
            x = mean + variance.clamp(min=0)**0.5 * torch.randn(x.shape, generator=generator)
            out[i + 1] = x
        return out
     """),
    ("ddpm", """
        path = noise[None]
        for i in range(1, len(ts)):
            t, s, x = ts[i - 1], ts[i], path[-1]
            mean, variance = posterior(schedule, x, denoise(x, t), t, s)
            if variance > 0:
                mean = mean + torch.randn(x.shape, generator=generator) * variance.sqrt()
            path = torch.cat([path, mean[None]])
        return path
     """),
    ("ddim_step", EPS + "a_s * x0 + sd_s * eps"),
    ("ddim_step", AT + "r = sd_s / sd\nreturn r * x + (a_s - r * a) * x0"),
    ("ddim_step", "(a, b), (c, d) = ([part(u) for part in schedule] for u in (t, s))\n"
                  "return c * x0 + (x.double() - a * x0).mul(d / b).float()"),
    ("ddim", ddim()),
    ("ddim", """
        def walk(x, left):
            if len(left) < 2:
                return [x]
            return [x] + walk(ddim_step(schedule, x, denoise(x, left[0]), *left[:2]), left[1:])
        return torch.stack(walk(noise, ts))
     """),
]

WRONG = [
    ("posterior", "forward step", pair(variance="added")),
    ("posterior", "without x_t", pair(variance="sd_s**2")),
    ("posterior", "precisions do", pair(variance="added + sd_s**2")),
    ("posterior", "not its root", pair(variance=f"({VARIANCE}).sqrt()")),
    ("posterior", "alpha.2 . sigma.2 = 1", pair(variance="(sd_s / sd)**2 * (1 - r**2)")),
    ("posterior", "shrink by the square", pair(variance="(sd**2 - r * sd_s**2) * sd_s**2 / sd**2")),
    ("posterior", "on the way", pair(variance="(sd**2 - sd_s**2) * sd_s**2 / sd**2")),
    ("posterior", "of squares", pair(variance="added * sd_s / sd")),
    ("posterior", "NaN", pair(variance="1 / (r**2 / added + 1 / sd_s**2)",
                              mean="(r * x / added + a_s * x0 / sd_s**2) "
                                   "/ (r**2 / added + 1 / sd_s**2)")),
    ("posterior", "too much", pair("r * sd_s**2 / sd**2 * x + a_s * x0")),
    ("posterior", "alpha_s", pair("(r * sd_s**2 * x + added * x0) / sd**2")),
    ("posterior", "missing at x", pair("(sd_s**2 * x + added * a_s * x0) / sd**2")),
    ("posterior", "x and x0", pair("(r * sd_s**2 * x0 + added * a_s * x) / sd**2")),
    ("posterior", "not divided", pair("r * sd_s**2 * x + added * a_s * x0")),
    ("posterior", "counts more", pair("(r * added * x + sd_s**2 * a_s * x0) / sd**2")),
    ("posterior", "DDIM", pair("a_s * x0 + sd_s * (x - a * x0) / sd")),
    ("posterior", "without x_t", pair("a_s * x0")),
    ("posterior", "taken back", pair("x / r")),
    ("posterior", "two things", BAYES + f"return {MEAN}"),
    ("posterior", "shape of x", BAYES + f"return {VARIANCE}, {MEAN}"),
    ("posterior", "two things", BAYES + f"return torch.stack([{MEAN}, x * {VARIANCE}])"),
    ("posterior", "in place", BAYES + "x *= r * sd_s**2 / sd**2\n"
                              f"return x + added * a_s * x0 / sd**2, {VARIANCE}"),
    ("posterior", "two results", BAYES + f"return {MEAN} + torch.randn(x.shape), {VARIANCE}"),
    ("posterior", "t and s", "t, s = s, t\n" + pair()),
    ("posterior", "first inputs", "a, a_s, sd, sd_s = 1 - t, 1 - s, t, s\nr = a / a_s\n"
                  f"added = sd**2 - r**2 * sd_s**2\nreturn {MEAN}, {VARIANCE}"),
    ("posterior", "raised", BAYES + f"return ({MEAN}).reshape(3, 4), {VARIANCE}"),
    ("ddpm", "not by the variance", ddpm(drawn="mean + variance * fresh")),
    ("ddpm", "another seed gives the same", ddpm(drawn="mean")),
    ("ddpm", "not scaled", ddpm(drawn="mean + fresh")),
    ("ddpm", "jump and noise", ddpm(drawn="schedule.alpha(s) * x0 + schedule.sigma(s) * fresh")),
    ("ddpm", "anew", "first = denoise(noise, ts[0])\n" + ddpm().replace("denoise(x, t)", "first")
     .replace("\n    ", "\n")),
    ("ddpm", "at the time where x is", ddpm(seen="x, s")),
    ("ddpm", "goes on from", ddpm(seen="noise, t", start="noise")),
    ("ddpm", "last step", ddpm(out="torch.stack(path[:-1])")),
    ("ddpm", "start", ddpm(out="torch.stack(path[1:])")),
    ("ddpm", "end alone", ddpm(out="path[-1]")),
    ("ddpm", "a list", ddpm(out="path")),
    ("ddpm", "another seed", ddpm().replace("generator=generator", "generator=torch.Generator()"
                                            ".manual_seed(0)")),
    ("ddpm", "global generator|one seed", ddpm().replace("generator=generator", "generator=None")),
    ("ddpm", "differs|wrong|values", ddpm(drawn="mean - variance.sqrt() * fresh")),
    ("ddpm", "asked", ddpm().replace("x0 = denoise(x, t)", "denoise(x, t); x0 = denoise(x, t)")),
    ("ddpm", "package", "torch.stack([noise] + [step.x for step in samplers.ddpm("
                        "denoise, schedule, noise, ts, generator)])"),
    ("ddpm", "in place", "noise *= 1.01\n" + ddpm().replace("\n    ", "\n")),
    ("ddim_step", "those of t", EPS + "a * x0 + sd * eps"),
    ("ddim_step", "alpha is that of t", EPS + "a * x0 + sd_s * eps"),
    ("ddim_step", "sigma is that of t", EPS + "a_s * x0 + sd * eps"),
    ("ddim_step", "isn't multiplied", EPS + "x0 + sd_s * eps"),
    ("ddim_step", "unit size", EPS + "a_s * x0 + sd_s * (x - a * x0)"),
    ("ddim_step", "always the root", EPS + "a_s * x0 + (1 - a_s**2).abs().sqrt() * eps"),
    ("ddim_step", "at t either", AT + "eps = (x - a * x0) / (1 - a**2).abs().sqrt()\n"
                                      "return a_s * x0 + (1 - a_s**2).abs().sqrt() * eps"),
    ("ddim_step", "sign of the noise", EPS + "a_s * x0 - sd_s * eps"),
    ("ddim_step", "two results", EPS + "a_s * x0 + sd_s * torch.randn(x.shape)"),
    ("ddim_step", "x and x0", AT + "eps = (x0 - a * x) / sd\nreturn a_s * x + sd_s * eps"),
    ("ddim_step", "t and s", AT + "eps = (x - a_s * x0) / sd_s\nreturn a * x0 + sd * eps"),
    ("ddim_step", "that is the noise", EPS + "eps"),
    ("ddim_step", "the factor of `x`", EPS + "a_s * x + sd_s * eps"),
    ("ddim_step", "noise is missing", EPS + "a_s * x0"),
    ("ddim_step", "x - alpha_t x0", AT + "eps = (x - x0) / sd\nreturn a_s * x0 + sd_s * eps"),
    ("ddim_step", "data out", AT + "return a_s * x0 + sd_s * x"),
    ("ddim_step", "first inputs", "eps = (x - (1 - t) * x0) / t\nreturn (1 - s) * x0 + s * eps"),
    ("ddim_step", "those of t", "x"),
    ("ddim_step", "unchanged", "x0"),
    ("ddim_step", "in place", AT + "x -= a * x0\nreturn a_s * x0 + sd_s * x / sd"),
    ("ddim_step", "package",
     "samplers.last(samplers.ddim(lambda *_: x0, schedule, x, torch.stack([t, s])))"),
    ("ddim_step", "DDPM", BAYES + f"return {MEAN}"),
    ("ddim_step", "raised", "a, sd = schedule(t)\nreturn a * x0 + sd * x"),
    ("ddim", "anew", "first = denoise(noise, ts[0])\n" + ddim().replace("denoise(x, t)", "first")
     .replace("\n    ", "\n")),
    ("ddim", "at the time where x is", ddim(seen="x, s")),
    ("ddim", "goes on from", ddim(seen="noise, t", start="noise")),
    ("ddim", "goes on|anew|factor|values|differs", ddim(start="noise")),
    ("ddim", "NaN|go up", ddim(times="ts.flip(0)[:-1], ts.flip(0)[1:]")),
    ("ddim", "last step", ddim(times="ts[:-2], ts[1:-1]")),
    ("ddim", "start", ddim(out="torch.stack(path[1:])")),
    ("ddim", "end alone", ddim(out="path[-1]")),
    ("ddim", "a list", ddim(out="path")),
    ("ddim", "asked", ddim().replace("x = path[-1]", "x = path[-1]; denoise(x, t)")),
    ("ddim", "package", "torch.stack([noise] + [step.x for step in samplers.euler("
                        "denoise, schedule, noise, ts)])"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)
