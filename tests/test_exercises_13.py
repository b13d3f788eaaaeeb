"""Lesson 13's checks: right answers in any style pass; wrong ones are told why."""

from support.answers import right_and_wrong

from minildm.course.exercises import lesson_13_prior
from minildm.diffusion import operators

CG = """
    x, r, p = torch.zeros_like(b), b, b
    for _ in range(iterations):
        mapped = matrix(p)
        step = dot(r, r) / dot(p, mapped)
        x = x + step * p
        new = r - step * mapped
        p = new + dot(new, new) / dot(r, r) * p
        r = new
    return x
"""
CONSISTENT = """
    ratio = (noise_sd / picture_sd)**2
    def matrix(d):
        return operator.transpose(operator.apply(d)) + ratio * d
    missing = y - operator.apply(picture)
    return picture + conjugate_gradients(matrix, operator.transpose(missing), 60)
"""
EXACT = """
    alpha, pull = schedule.alpha(t), world.pull(schedule, t)
    logs = world.exponents(schedule, x, t)[0].log_softmax(1)
    seen = world.centres[:, 0]
    mean = seen + pull * (x[:, :1] - alpha * seen)
    variance = sd**2 + (1 - alpha * pull) * world.width**2
    return (logs - (y - mean)**2 / (2 * variance) - (2 * torch.pi * variance).log() / 2).logsumexp(1)
"""
GUESS = """
    missing = y - apply(denoise(x, t))
    return -missing.square().flatten(1).sum(1) / (2 * variance)
"""
MEASURED = """
    def answer(x, t):
        x0 = denoise(x, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        if alpha == 0:
            return x0
        with torch.enable_grad():
            noisy = x.detach().requires_grad_()
            gradient, = torch.autograd.grad(log_likelihood(noisy, t).sum(), noisy)
        return x0 + sigma**2 / alpha * gradient
    return answer
"""
NEWTON = """
    out, pull = torch.func.vjp(decode, guess)
    def slope(d):
        return torch.func.jvp(decode, (guess,), (d,))[1]
    def back(w):
        return pull(operator.transpose(w))[0]
    def matrix(d):
        return back(operator.apply(slope(d))) / variance + d / target_variance
    right = back(y - operator.apply(out)) / variance + (target - guess) / target_variance
    return guess + conjugate_gradients(matrix, right, iterations)
"""
LOOP = """
    def fresh(like):
        return torch.randn(like.shape, generator=generator)
    x = noise
    variance = noise_sd**2 + operator.gain * decoder_sd**2
    for t, s in zip(ts[:-1], ts[1:]):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        guess = denoise(x, t)
        spread = sigma**2 / (alpha**2 + sigma**2)
        target = guess + spread.sqrt() * fresh(guess)
        seen = y + variance**0.5 * fresh(y)
        z = latents_given(decode, operator, seen, target, guess, variance, spread, 5)
        x = schedule.alpha(s) * z + schedule.sigma(s) * fresh(x)
    return x
"""
RANKS = """
    crowd = torch.cat([truth[None], samples]).flatten(2)
    others = (crowd.sum(0) - crowd) / len(samples)
    distances = (crowd - others).norm(dim=2)
    return (distances[1:] < distances[0]).sum(0)
"""
BACK = "y.repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2"
K = """
    k = torch.fft.fft2(x, norm="ortho") * mask
    return torch.cat([k.real, k.imag], 1)
"""
K_BACK = """
    c = y.shape[1] // 2
    k = torch.complex(y[:, :c], y[:, c:]) * mask
    return torch.fft.ifft2(k, norm="ortho").real
"""
HELPERS = {"conjugate_gradients": operators.conjugate_gradients, "dot": operators.dot,
           "latents_given": lesson_13_prior.latents_given}

RIGHT = [
    ("average", "F.avg_pool2d(x, factor)"),
    ("average", """
        b, c, h, w = x.shape
        return x.reshape(b, c, h // factor, factor, w // factor, factor).mean((3, 5))
    """),
    ("average_back", BACK),
    ("average_back", "F.interpolate(y, scale_factor=factor) / factor**2"),
    ("k_space", K),
    ("k_space", """
        k = torch.fft.fft2(x) / (x.shape[2] * x.shape[3])**0.5
        return torch.cat([k.real * mask, k.imag * mask], dim=1)
    """),
    ("k_space_back", K_BACK),
    ("conjugate_gradients", CG),
    ("consistent", CONSISTENT),
    ("consistent", """
        def matrix(d):
            return operator.transpose(operator.apply(d)) / noise_sd**2 + d / picture_sd**2
        right = operator.transpose(y - operator.apply(picture)) / noise_sd**2
        return picture + conjugate_gradients(matrix, right, 40)
    """),
    ("exact_log_likelihood", EXACT),
    ("exact_log_likelihood", """
        alpha, pull = schedule.alpha(t), world.pull(schedule, t)
        chances = world.weights(schedule, x, t)
        mean = world.centres[:, 0] + pull * (x[:, :1] - alpha * world.centres[:, 0])
        sd_each = (sd**2 + (1 - alpha * pull) * world.width**2).sqrt()
        density = torch.exp(-((y - mean) / sd_each)**2 / 2) / sd_each / (2 * math.pi)**0.5
        return (chances * density).sum(1).log()
    """),
    ("guess_log_likelihood", GUESS),
    ("measured_denoiser", MEASURED),
    ("latents_given", NEWTON),
    ("restore", LOOP),
    ("ranks", RANKS),
    ("ranks", """
        crowd = torch.cat([samples, truth[None]])
        far = (crowd - crowd.mean(0)).square().flatten(2).sum(2)
        return (far[:-1] < far[-1]).sum(0)
    """),
]

WRONG = [
    ("average", "sum of each square", "F.avg_pool2d(x, factor) * factor**2"),
    ("average", "single pixels", "x[..., ::factor, ::factor]"),
    ("average", "right for the first inputs|raised|shape", "F.avg_pool2d(x, 3)"),
    ("average_back", "pseudo-inverse", BACK.replace(" / factor**2", "")),
    ("average_back", "1 / factor", BACK.replace("**2", "")),
    ("average_back", "tiled", "y.repeat(1, 1, factor, factor) / factor**2"),
    ("k_space", "multiply by the mask", K.replace(" * mask", "")),
    ("k_space", "unitary", K.replace(', norm="ortho"', "")),
    ("k_space", "real parts first", K.replace("k.real, k.imag", "k.imag, k.real")),
    ("k_space", "one axis", K.replace("fft2", "fft")),
    ("k_space", "complex", 'torch.fft.fft2(x, norm="ortho") * mask'),
    ("k_space_back", "not measured", K_BACK.replace(" * mask", "")),
    ("k_space_back", "ortho", K_BACK.replace(', norm="ortho"', "")),
    ("k_space_back", "conjugate", K_BACK.replace("ifft2", "fft2")),
    ("k_space_back", "real part", K_BACK.replace("return torch", "return abs(torch").replace(".real", ")")),
    ("conjugate_gradients", "steepest descent", CG.replace("new + dot(new, new) / dot(r, r) * p", "new")),
    ("conjugate_gradients", "too few", CG.replace("range(iterations)", "range(iterations - 1)")),
    ("conjugate_gradients", "too many", CG.replace("range(iterations)", "range(iterations + 1)")),
    ("conjugate_gradients", "its own step", CG.replace("dot(r, r)", "(r * r).sum()")
     .replace("dot(p, mapped)", "(p * mapped).sum()").replace("dot(new, new)", "(new * new).sum()")),
    ("conjugate_gradients", "in place", CG.replace("r = new\n", "r = new\n        b += 1\n")),
    ("conjugate_gradients", "the others go on", CG.replace(
        "        r = new\n", "        r = new\n        if (dot(r, r) < 1e-10).any():\n            break\n")),
    ("consistent", "half solved", CONSISTENT.replace("missing), 60)", "missing), 10)")),
    ("consistent", "add it to the picture", CONSISTENT.replace("picture + conj", "conj")),
    ("consistent", "wrong sign", CONSISTENT.replace("picture + conj", "picture - conj")),
    ("consistent", "turned round", CONSISTENT.replace("noise_sd / picture_sd", "picture_sd / noise_sd")),
    ("consistent", "squares of standard", CONSISTENT.replace("**2", "")),
    ("consistent", "taken off before", CONSISTENT.replace(" - operator.apply(picture)", "")),
    ("exact_log_likelihood", "own width",
     EXACT.replace(" + (1 - alpha * pull) * world.width**2", " + 0 * pull")),
    ("exact_log_likelihood", "pull is missing", EXACT.replace(" + pull * (x[:, :1] - alpha * seen)", "")),
    ("exact_log_likelihood", "weigh them",
     EXACT.replace(".log_softmax(1)", " * 0 - math.log(world.centres.shape[0])")),
    ("exact_log_likelihood", "first coordinate",
     EXACT.replace("[:, 0]", "[:, 1]").replace("x[:, :1]", "x[:, 1:]")),
    ("exact_log_likelihood", "noise of its own", EXACT.replace("sd**2 +", "")),
    ("exact_log_likelihood", "at the guess", """
        return -(y - world.denoiser(schedule)(x, t)[:, 0])**2 / (2 * sd**2)
    """),
    ("exact_log_likelihood", "gradient to x", EXACT.replace(".log_softmax(1)", ".log_softmax(1).detach()")),
    ("guess_log_likelihood", "no gradient flows", GUESS.replace("(x, t))", "(x, t)).detach()")),
    ("guess_log_likelihood", "measure the guess", GUESS.replace("denoise(x, t)", "x")),
    ("guess_log_likelihood", "1/2", GUESS.replace("2 * variance", "variance")),
    ("guess_log_likelihood", "sign is wrong", GUESS.replace("-missing", "missing")),
    ("guess_log_likelihood", "not averaged", """
        return -(y - apply(denoise(x, t))).square().flatten(1).mean(1) / (2 * variance)
    """),
    ("guess_log_likelihood", "not by its square", GUESS.replace("variance)", "variance**2)")),
    ("guess_log_likelihood", "number per row", "-(y - apply(denoise(x, t))).square().sum() / (2 * variance)"),
    ("measured_denoiser", "downhill", MEASURED.replace("x0 + sigma", "x0 - sigma")),
    ("measured_denoiser", "x.detach", MEASURED.replace("x.detach().requires_grad_()", "x.requires_grad_()")
     .replace("gradient\n    return", "gradient.detach()\n    return")),
    ("measured_denoiser", "leaves gradients switched on",
     MEASURED.replace("with torch.enable_grad():", "torch.set_grad_enabled(True)\n        if True:")),
    ("measured_denoiser", "squared", MEASURED.replace("sigma**2", "sigma")),
    ("measured_denoiser", "divide by alpha", MEASURED.replace(" / alpha", "")),
    ("measured_denoiser", "step alone", MEASURED.replace("x0 + sigma", "sigma")),
    ("measured_denoiser", "infinite|no step|NaN|nan", MEASURED.replace("alpha == 0", "False")),
    ("measured_denoiser", "raised", MEASURED.replace("with torch.enable_grad()", "with torch.no_grad()")),
    ("latents_given", "step d", NEWTON.replace("return guess + conj", "return conj")),
    ("latents_given", "not to the target", NEWTON.replace("return guess + conj", "return target + conj")),
    ("latents_given", "no say", NEWTON.replace(" + (target - guess) / target_variance", "")),
    ("latents_given", "changed places", NEWTON.replace(
        "\n    out", "\n    variance, target_variance = target_variance, variance\n    out")),
    ("latents_given", "too few", NEWTON.replace("right, iterations", "right, iterations - 1")),
    ("restore", "gain", LOOP.replace("operator.gain * ", "")),
    ("restore", "part of what y", LOOP.replace(" + operator.gain * decoder_sd**2", "")),
    ("restore", "5 iterations", LOOP.replace("spread, 5)", "spread, 50)")),
    ("restore", "new noise", LOOP.replace("schedule.sigma(s) * fresh(x)",
                                          "schedule.sigma(s) * (x - alpha * guess) / sigma")),
    ("restore", "sigma\\^2 / \\(alpha", LOOP.replace("sigma**2 / (alpha**2 + sigma**2)", "sigma**2")),
    ("restore", "not a draw",
     LOOP.replace("guess + spread.sqrt() * fresh(guess)", "guess + 0 * fresh(guess)")),
    ("restore", "as well", LOOP.replace("y + variance**0.5 * fresh(y)", "y + 0 * fresh(y)")),
    ("restore", "another seed|generator", LOOP.replace(", generator=generator", "")),
    ("ranks", "farther", RANKS.replace("<", ">")),
    ("ranks", "treated alike", """
        crowd = torch.cat([truth[None], samples])
        far = (crowd - samples.mean(0)).flatten(2).norm(dim=2)
        return (far[1:] < far[0]).sum(0)
    """),
    ("ranks", "nearer is <", RANKS.replace("<", "<=")),
    ("ranks", "counting begins", RANKS.rstrip() + " + 1"),
]

test_right_answers_pass, test_wrong_answers_are_told = right_and_wrong(RIGHT, WRONG, HELPERS)

