"""Lesson 08's checks of what guides: right answers in any style pass; wrong ones are told why."""


from support.answers import right_and_wrong, told

from minildm.diffusion.guidance import cfg, classifier_guidance, uncond_and_cond

LEVELS = """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    variance = alpha**2 * width**2 + sigma**2
    square = (x[:, None] - alpha * centres).square().sum(-1)
"""
NORM = "    norm = x.shape[1] / 2 * torch.log(2 * math.pi * variance)\n"
MEAN = LEVELS + "    p = (-square / (2 * variance)).softmax(1)\n"


def made(body):
    """towards_both whose denoise has this body; `ask` is the denoiser at x and t."""
    lines = [f"        {line.strip()}" for line in body.strip().splitlines()]
    if "return" not in body:
        lines = [f"        return {body}"]
    ask = "        ask = lambda context: denoiser(x, t, context)"
    return "\n".join(["    def denoise(x, t):", ask, *lines, "    return denoise"])


def asking(result, twice="torch.cat([x, x])", time="t if t.ndim == 0 else torch.cat([t, t])",
           contexts="torch.cat([null, context])"):
    """cfg that asks once for both, null first: n, c."""
    return f"""
    def denoise(x, t):
        n, c = denoiser({twice}, {time}, {contexts}).chunk(2)
        return {result}
    return denoise
"""


def climbing(step="scale * sigma**2 / alpha * gradient", first="x0 + guidance_scale * first",
             start="x.detach().clone().requires_grad_()", total="log_prob(noisy, t).sum()",
             enable="torch.enable_grad()"):
    """classifier_guidance with this step."""
    return f"""
    def guided(x, t):
        x0, scale = denoise(x, t), guidance_scale
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        if alpha == 0:
            return {first}
        with {enable}:
            noisy = {start}
            gradient, = torch.autograd.grad({total}, noisy)
        return x0 + {step}
    return guided
"""


RIGHT = [
    ("log_density", LEVELS + NORM
     + "    return torch.logsumexp(-square / (2 * variance) - norm, 1) - math.log(len(centres))"),
    ("log_density", """
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        std = (alpha**2 * width**2 + sigma**2).sqrt()
        each = torch.distributions.Normal(alpha * centres, std).log_prob(x[:, None]).sum(2)
        return each.exp().mean(1).log()
     """),
    ("log_density", """
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        v = (alpha * width)**2 + sigma**2
        each = -torch.cdist(x, alpha * centres)**2 / (2 * v)
        top = each.amax(1)
        total = (each - top[:, None]).exp().mean(1)
        return top + total.log() - x.shape[1] / 2 * torch.log(2 * torch.pi * v)
     """),
    ("exact_x0", MEAN + """
    each = centres + alpha * width**2 / variance * (x[:, None] - alpha * centres)
    return (p[:, :, None] * each).sum(1)
     """),
    ("exact_x0", MEAN + """
    middle = p @ centres
    return (sigma**2 * middle + alpha * width**2 * x) / variance
     """),
    ("exact_x0", """
        rows = []
        for point in x:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            v = alpha**2 * width**2 + sigma**2
            p = torch.exp(-(point - alpha * centres).square().sum(1) / (2 * v))
            p = p / p.sum()
            rows.append(sum(k * (c + alpha * width**2 / v * (point - alpha * c))
                            for k, c in zip(p, centres)))
        return torch.stack(rows)
     """),
    ("cfg", asking("n + guidance_scale * (c - n)")),
    ("cfg", asking("torch.lerp(n, c, guidance_scale)")),
    ("cfg", """
        both = torch.cat([context, null])
        def guided(x, t):
            times = torch.as_tensor(t).expand(len(x)).repeat(2)
            told, not_told = denoiser(x.repeat(2, *[1] * (x.ndim - 1)), times, both).chunk(2)
            return guidance_scale * told + (1 - guidance_scale) * not_told
        return guided
     """),
    ("classifier_guidance", climbing()),
    ("classifier_guidance", climbing(step="scale * (sigma / alpha) * sigma * gradient")),
    ("classifier_guidance", """
        def guided(x, t):
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            with torch.enable_grad():
                x_in = x.detach().clone()
                x_in.requires_grad = True
                log_prob(x_in, t).sum().backward()
            step = x_in.grad * sigma**2 / alpha if alpha > 0 else first
            return denoise(x, t) + guidance_scale * step
        return guided
     """),
    ("towards_both", made("ask(null) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", made("(1 - w_a - w_b) * ask(null) + w_a * ask(a) + w_b * ask(b)")),
    ("towards_both", """
        def denoise(x, t):
            t = torch.as_tensor(t).expand(len(x))
            contexts = torch.cat([null, a, b])
            every = denoiser(x=torch.cat([x] * 3), t=t.repeat(3), context=contexts)
            x0, x0_a, x0_b = every.chunk(3)
            return x0 + w_a * (x0_a - x0) + w_b * (x0_b - x0)
        return denoise
     """),
    ("towards_both", """
        scales = {0: (a, w_a), 1: (b, w_b)}
        def denoise(x, t):
            start = denoiser(x, t, context=null)
            out = start.clone()
            for context, scale in scales.values():
                out += scale * (denoiser(x, t, context=context) - start)
            return out
        return denoise
     """),
]

WRONG = [
    ("log_density", "log K", LEVELS + NORM
     + "    return torch.logsumexp(-square / (2 * variance) - norm, 1)"),
    ("log_density", "exponentials are", LEVELS + NORM
     + "    return (-square / (2 * variance) - norm).sum(1) - math.log(len(centres))"),
    ("log_density", "mean of logarithms", LEVELS + NORM
     + "    return (-square / (2 * variance) - norm).mean(1)"),
    ("log_density", "nearest blob", LEVELS + NORM
     + "    return (-square / (2 * variance) - norm).amax(1) - math.log(len(centres))"),
    ("log_density", "that is the density", LEVELS + NORM
     + "    return (-square / (2 * variance) - norm).exp().mean(1)"),
    ("log_density", "over the blobs", LEVELS + NORM
     + "    return (-square / (2 * variance) - norm).logsumexp(0) - math.log(len(centres))"),
    ("log_density", "normalisation, log", LEVELS
     + "    return (-square / (2 * variance)).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "right for the first inputs", LEVELS
     + "    norm = torch.log(2 * math.pi * variance)\n"
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "one dimension", LEVELS + "    norm = torch.log(2 * math.pi * variance) / 2\n"
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "factor 1/2", LEVELS + NORM
     + "    return (-square / variance - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "negative", LEVELS + NORM
     + "    return (square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "own width", (LEVELS + NORM).replace("alpha**2 * width**2 + ", "")
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "shrinks with alpha", (LEVELS + NORM).replace("alpha**2 * width", "width")
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "square of a width", (LEVELS + NORM).replace("width**2", "width")
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "standard deviations do not",
     (LEVELS + NORM).replace("alpha**2 * width**2 + sigma**2", "(alpha * width + sigma)**2")
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "centres shrink", (LEVELS + NORM).replace("alpha * centres", "centres")
     + "    return (-square / (2 * variance) - norm).logsumexp(1) - math.log(len(centres))"),
    ("log_density", "return", LEVELS + "    return"),
    ("log_density", "type", LEVELS + NORM + "    each = -square / (2 * variance) - norm\n"
     + "    return (each.logsumexp(1) - math.log(len(centres))).double()"),
    ("log_density", "in place", "centres *= schedule.alpha(t)\nreturn x[:, 0]"),
    ("exact_x0", "mean of the centres", MEAN + "    return p @ centres"),
    ("exact_x0", "over the blobs", MEAN.replace("softmax(1)", "softmax(0)")
     + "    m = p @ centres\n    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "nearest blob is not all", MEAN + "    m = centres[p.argmax(1)]\n"
     + "    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "all blobs count", MEAN + "    m = centres.mean(0)\n"
     + "    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "alpha is missing", MEAN + "    m = p @ centres\n"
     + "    return m + width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "not alpha", MEAN + "    m = p @ centres\n"
     + "    return m + alpha**2 * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "width is squared", MEAN + "    m = p @ centres\n"
     + "    return m + alpha * width / variance * (x - alpha * m)"),
    ("exact_x0", "compared with alpha", MEAN + "    m = p @ centres\n"
     + "    return m + alpha * width**2 / variance * (x - m)"),
    ("exact_x0", "factor 1/2", MEAN.replace("2 * variance", "variance")
     + "    m = p @ centres\n    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "negative", MEAN.replace("-square", "square")
     + "    m = p @ centres\n    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "blob's width counts",
     MEAN.replace("(2 * variance)", "(2 * sigma**2)")
     + "    m = p @ centres\n    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "centres shrink",
     MEAN.replace("alpha * centres", "centres")
     + "    m = p @ centres\n    return m + alpha * width**2 / variance * (x - alpha * m)"),
    ("exact_x0", "noise, not the data", MEAN + "    m = p @ centres\n"
     + "    m = m + alpha * width**2 / variance * (x - alpha * m)\n"
     + "    return (x - alpha * m) / sigma"),
    ("exact_x0", "in place", "x -= schedule.alpha(t)\nreturn x"),
    ("exact_x0", "return", MEAN + "    p @ centres\n    return"),
    ("cfg", "conditional answer alone", asking("c")),
    ("cfg", "without the condition alone", asking("n")),
    ("cfg", "changed places", asking("n + guidance_scale * (c - n)",
                                     contexts="torch.cat([context, null])")),
    ("cfg", "starts from", asking("c + guidance_scale * (c - n)")),
    ("cfg", "difference alone", asking("guidance_scale * (c - n)")),
    ("cfg", "w and 1 - w", asking("n + guidance_scale * c")),
    ("cfg", "scale is missing", asking("n + c")),
    ("cfg", "sign", asking("n - guidance_scale * (c - n)")),
    ("cfg", "right for the first|should", asking("n + 2.7 * (c - n)")),
    ("cfg", "conditional answer alone", asking("torch.lerp(n, c, min(guidance_scale, 1.0))")),
    ("cfg", "in batches of", """
        def denoise(x, t):
            n, c = denoiser(x, t, null), denoiser(x, t, context)
            return n + guidance_scale * (c - n)
        return denoise
     """),
    ("cfg", "wants times|times of shape", asking("n + guidance_scale * (c - n)", time="t")),
    ("cfg", "return a function", "denoiser(context, 0.5, null)"),
    ("cfg", "raised|shape", asking("n + guidance_scale * (c - n)",
                                   contexts="torch.stack([null, context])")),
    ("cfg", "takes", "def denoise(x):\n    return x\nreturn denoise"),
    ("classifier_guidance", "no step of x0", climbing(step="scale * gradient")),
    ("classifier_guidance", "one from eps", climbing(step="scale * sigma / alpha * gradient")),
    ("classifier_guidance", "added to x0", climbing(step="scale * sigma * gradient")),
    ("classifier_guidance", "subtracted from", climbing(step="-scale * sigma * gradient")),
    ("classifier_guidance", "alpha is missing", climbing(step="scale * sigma**2 * gradient")),
    ("classifier_guidance", "sigma is missing", climbing(step="scale / alpha * gradient")),
    ("classifier_guidance", "downhill", climbing(step="-scale * sigma**2 / alpha * gradient")),
    ("classifier_guidance", "alpha squared",
     climbing(step="scale * sigma**2 / alpha**2 * gradient")),
    ("classifier_guidance", "changed places", climbing(step="scale * alpha**2 / sigma * gradient")),
    ("classifier_guidance", "need not be 1",
     climbing(step="scale * (1 - alpha**2) / alpha * gradient")),
    ("classifier_guidance", "scale is missing", climbing(step="sigma**2 / alpha * gradient")),
    ("classifier_guidance", "less 1", climbing(step="(scale - 1) * sigma**2 / alpha * gradient")),
    ("classifier_guidance", "add it", climbing(step="scale * sigma**2 / alpha * gradient - x0")),
    ("classifier_guidance", "don't average", climbing(total="log_prob(noisy, t).mean()")),
    ("classifier_guidance", "its length",
     climbing(step="scale * sigma**2 / alpha * gradient / gradient.norm()")),
    ("classifier_guidance", "no step is taken", climbing(first="x0")),
    ("classifier_guidance", "add it to x0", climbing(first="scale * first")),
    ("classifier_guidance", "multiplies `first`", climbing(first="x0 + first")),
    ("classifier_guidance", "0 / 0", climbing().replace("alpha == 0", "alpha < 0")),
    ("classifier_guidance", "raised", climbing(enable="torch.no_grad()")),
    ("classifier_guidance", "raised", climbing(start="x")),
    ("classifier_guidance", "first.*for alpha = 0", climbing(step="scale * first")),
    ("classifier_guidance", "return a function", "denoise(first, 0.5)"),
    ("towards_both", "scales changed",
     made("ask(null) + w_b * (ask(a) - ask(null)) + w_a * (ask(b) - ask(null))")),
    ("towards_both", "the first scale",
     made("ask(null) + w_a * (ask(a) - ask(null)) + w_a * (ask(b) - ask(null))")),
    ("towards_both", "taken from a",
     made("ask(null) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(a))")),
    ("towards_both", "first has led", made("""
        x0 = ask(null)
        x0 = x0 + w_a * (ask(a) - x0)
        return x0 + w_b * (ask(b) - x0)
     """)),
    ("towards_both", "first has led", made("""
        x0 = ask(null)
        x0 += w_a * (ask(a) - x0)
        x0 += w_b * (ask(b) - x0)
        return x0
     """)),
    ("towards_both", "second step starts", made("""
        x0 = ask(null)
        x0 = x0 + w_b * (ask(b) - x0)
        return x0 + w_a * (ask(a) - x0)
     """)),
    ("towards_both", "b is pushed",
     made("ask(null) + w_a * (ask(a) - ask(null)) - w_b * (ask(b) - ask(null))")),
    ("towards_both", "both are pushed",
     made("ask(null) - w_a * (ask(a) - ask(null)) - w_b * (ask(b) - ask(null))")),
    ("towards_both", "a place to start",
     made("w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "not from a's",
     made("ask(a) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "not from b's",
     made("ask(b) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "b is never", made("ask(null) + w_a * (ask(a) - ask(null))")),
    ("towards_both", "a is never", made("ask(null) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "sum of both", made("w_a * ask(a) + w_b * ask(b)")),
    ("towards_both", "in the sum twice",
     made("2 * ask(null) + w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))")),
    ("towards_both", "mean of two",
     made("ask(null) + (w_a * (ask(a) - ask(null)) + w_b * (ask(b) - ask(null))) / 2")),
    ("towards_both", "shared out", made("(w_a * ask(a) + w_b * ask(b)) / (w_a + w_b)")),
    ("towards_both", "start is missing",
     made("w_a * (ask(a) - ask(null)) + w_b * ask(b) + 0 * ask(null)")),
    ("towards_both", "scaled by both",
     made("ask(null) + w_a * (ask(a) + ask(null)) + w_b * (ask(b) + ask(null))")),
    ("towards_both", "return a function", "denoiser(a, 0.5, null)"),
    ("towards_both", "drawn near",
     made("ask(null) + w_a * (ask(a) - ask(null)) + abs(w_b) * (ask(b) - ask(null))")),
    ("towards_both", "should be|wrong|late", made("""
        x0 = denoiser(x, 0.5, null)
        return x0 + w_a * (denoiser(x, 0.5, a) - x0) + w_b * (denoiser(x, 0.5, b) - x0)
     """)),
    ("towards_both", "return",
     made("ask(null) + w_a * (ask(a) - ask(null))").replace("    return denoise", "")),
    ("towards_both", "second time", """
        kept = []
        def denoise(x, t):
            if not kept:
                kept.append(denoiser(x, t, null))
            x0 = kept[0]
            return x0 + w_a * (denoiser(x, t, a) - x0) + w_b * (denoiser(x, t, b) - x0)
        return denoise
     """),
    ("towards_both", "takes \\(x\\)", """
        def denoise(x):
            return denoiser(x, 0.5, null)
        return denoise
     """),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG)


def test_the_packages_functions_are_nobodys_answer():
    def by_cfg(denoiser, a, b, null, w_a, w_b):
        def denoise(x, t):
            more = cfg(denoiser, b, null, w_b)(x, t) - denoiser(x, t, null)
            return cfg(denoiser, a, null, w_a)(x, t) + more

        return denoise

    def by_parts(denoiser, context, null, guidance_scale):
        def denoise(x, t):
            n, c = uncond_and_cond(denoiser, x, t, context, null)
            return n + guidance_scale * (c - n)

        return denoise

    def by_name(denoise, log_prob, schedule, guidance_scale=1.0, first=None):
        return classifier_guidance(denoise, log_prob, schedule, guidance_scale, first)

    for name, answer in {"towards_both": by_cfg, "cfg": by_parts,
                         "classifier_guidance": by_name}.items():
        assert "write yours" in told(name, answer)
