"""Lesson 00's checks: right answers in any style pass; wrong ones are told what is wrong."""


from support.answers import right_and_wrong

from minildm.course.exercises import lesson_00_loop
from minildm.diffusion import schedules

# what a student has written before, for `generate`
BEFORE = {"draw": lesson_00_loop.draw, "guided": lesson_00_loop.guided, "flow": schedules.flow}
FULL = """
null = torch.full_like(labels, pipe.denoiser.network.null_context)
told = lambda x, t: pipe.denoiser(x, t, labels)
not_told = lambda x, t: pipe.denoiser(x, t, null)
denoise = guided(told, not_told, scale)
film = draw(denoise, *pipe.denoiser.schedule, noise, times)
return pipe.decode(film[-1][1])
"""

RIGHT = [
    ("to_uint8", "((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "(x.clamp(-1, 1) * 127.5 + 127.5).round().byte()"),
    ("to_uint8", "(x.double().clamp(-1, 1) * 127.5 + 128).floor().to(torch.uint8)"),
    ("to_uint8", "torch.clip(torch.round(255 * (x / 2 + 0.5)), 0, 255).type(torch.uint8)"),
    ("to_uint8", """
        x = x.clone()
        x += 1
        return x.mul_(127.5).round_().clamp_(0, 255).byte()
     """),
    ("psnr", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", """
        values = []
        for x, y in zip(a, b):
            mse = F.mse_loss(x, y).item()
            values.append(20 * math.log10(2) - 10 * math.log10(mse))
        return sum(values) / len(values)
     """),
    ("psnr", "-10 * (((a - b) / 2)**2).flatten(1).mean(1).log10().mean()"),
    ("psnr", "(10 * torch.log10(4 / (a.double() - b).pow(2).mean((1, 2, 3)))).mean().float()"),
    ("guess_error", """
        x = alpha(t) * data + sigma(t) * noise
        return F.mse_loss(denoise(x, t), data)
     """),
    ("guess_error", "((denoise(sigma(t) * noise + alpha(t) * data, t) - data)**2).mean().item()"),
    ("guess_error", """
        a, b = alpha(t), sigma(t)
        x0 = denoise(x=a * data + b * noise, t=t)
        return torch.mean(torch.square(data - x0))
     """),
    ("draw", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", """
        film = []
        for i in range(len(times) - 1):
            x0 = denoise(noise, times[i])
            ratio = sigma(times[i + 1]) / sigma(times[i])
            noise = ratio * noise + (alpha(times[i + 1]) - ratio * alpha(times[i])) * x0
            film += [[times[i + 1], noise, x0]]
        return tuple(film)
     """),
    ("draw", """
        x = noise.clone()
        film = []
        t = times[0]
        for s in times[1:]:
            x0 = denoise(x, t)
            x -= alpha(t) * x0
            x *= sigma(s) / sigma(t)
            x += alpha(s) * x0
            film.append((s.item(), x.clone(), x0))
            t = s
        return film
     """),
    ("guided", """
        def denoise(x, t):
            plain = without_label(x, t)
            return plain + scale * (with_label(x, t) - plain)
        return denoise
     """),
    ("guided", "lambda x, t: scale * with_label(x, t) + (1 - scale) * without_label(x, t)"),
    ("guided", """
        def f(x, t):
            return torch.lerp(without_label(x, t), with_label(x, t), scale)
        return f
     """),
    ("generate", FULL),
    ("generate", """
        m, b = pipe.denoiser, len(labels)
        blank = torch.tensor([m.network.null_context] * b)
        x, (alpha, sigma) = noise, m.schedule
        for t, s in zip(times[:-1], times[1:]):
            plain = m(x, t, blank)
            x0 = scale * m(x, t, labels) + (1 - scale) * plain
            x = alpha(s) * x0 + sigma(s) / sigma(t) * (x - alpha(t) * x0)
        return pipe.decode(x)
     """),
]

WRONG = [
    ("to_uint8", "in place", "x += 1\nreturn (x * 127.5).round().clamp(0, 255).byte()"),
    ("to_uint8", "in place", "x.clamp_(-1, 1)\nreturn ((x + 1) * 127.5).round().byte()"),
    ("to_uint8", "white turns black", "((x + 1) * 127.5).round().to(torch.int64).to(torch.uint8)"),
    ("to_uint8", "cut off: round", "((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "add 1", "(x * 127.5).round().clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "times 127.5", "((x + 1) * 255).round().clamp(0, 255).to(torch.uint8)"),
    ("to_uint8", "from -1 to 1", "(x * 255).round().clamp(0, 255).byte()"),
    ("to_uint8", "their type is torch.float32", "((x + 1) * 127.5).round().clamp(0, 255)"),
    ("to_uint8", "their type is torch.int64", "((x + 1) * 127.5).round().clamp(0, 255).long()"),
    ("to_uint8", "wrong", "((x + 1) * 128).round().clamp(0, 255).byte()"),
    ("to_uint8", "wrong", "((x + 1) * 127.5).ceil().clamp(0, 255).byte()"),
    ("to_uint8", "wrong", "((x + 1) * 127).round().clamp(0, 254).byte()"),
    ("to_uint8", "wrong", "((x.clamp(0, 1) + 1) * 127.5).round().byte()"),
    ("to_uint8", "differs", "((1 - x) * 127.5).round().clamp(0, 255).byte()"),
    ("to_uint8", "numpy array", "((x + 1) * 127.5).round().clamp(0, 255).byte().numpy()"),
    ("to_uint8", "wrong", "((x - x.min()) / (x.max() - x.min()) * 255).round().byte()"),
    ("to_uint8", "the shape", "((x[:1] + 1) * 127.5).round().clamp(0, 255).byte()"),
    ("to_uint8", "axis of length 1",
     "((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)"),
    ("to_uint8", "return", "y = ((x + 1) * 127.5).round().clamp(0, 255).byte()\nreturn None"),
    ("psnr", "peak is 2", "(10 * torch.log10(1 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "peak isn't squared",
     "(10 * torch.log10(2 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "not 255", "(10 * torch.log10(255**2 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "sign", "(10 * torch.log10((a - b).square().mean((1, 2, 3)) / 4)).mean()"),
    ("psnr", "base 10", "(10 * torch.log(4 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "20", "(20 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "averaged first", "10 * torch.log10(4 / (a - b).square().mean())"),
    ("psnr", "not a sum", "(10 * torch.log10(4 / (a - b).square().sum((1, 2, 3)))).mean()"),
    ("psnr", "not absolute", "(10 * torch.log10(4 / (a - b).abs().mean((1, 2, 3)))).mean()"),
    ("psnr", "0.1 times", "torch.log10(4 / (a - b).square().mean((1, 2, 3))).mean()"),
    ("psnr", "sum over the pictures",
     "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).sum()"),
    ("psnr", "mean over everything is missing",
     "10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))"),
    ("psnr", "should be", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).max()"),
    ("psnr", "should be", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).median()"),
    ("psnr", "should be",
     "(10 * torch.log10((a.max() - a.min())**2 / (a - b).square().mean((1, 2, 3)))).mean()"),
    ("psnr", "should be", "(10 * torch.log10(4 / (a - b).square().mean((2, 3)))).mean()"),
    ("psnr", "infinite|should be", "(10 * torch.log10(4 / (a - b).square())).mean()"),
    ("psnr", "NaN", "(10 * torch.log10(4 / (a - b).mean((1, 2, 3)))).mean()"),
    ("psnr", "in place",
     "a -= b\nreturn (10 * torch.log10(4 / a.square().mean((1, 2, 3)))).mean()"),
    ("psnr", "return", "(10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))).mean()\nreturn"),
    ("guess_error", "not with x", "x = alpha(t) * data + sigma(t) * noise\nreturn "
     "(denoise(x, t) - x).square().mean()"),
    ("guess_error", "not with the noise", "x = alpha(t) * data + sigma(t) * noise\nreturn "
     "(denoise(x, t) - noise).square().mean()"),
    ("guess_error", "ask denoise",
     "(alpha(t) * data + sigma(t) * noise - data).square().mean()"),
    ("guess_error", "not the clean data", "(denoise(data, t) - data).square().mean()"),
    ("guess_error", "not the noise alone", "(denoise(noise, t) - data).square().mean()"),
    ("guess_error", "alpha multiplies the data",
     "(denoise(sigma(t) * data + alpha(t) * noise, t) - data).square().mean()"),
    ("guess_error", "by alpha", "(denoise(data + sigma(t) * noise, t) - data).square().mean()"),
    ("guess_error", "by sigma", "(denoise(alpha(t) * data + noise, t) - data).square().mean()"),
    ("guess_error", "not always 1 - t",
     "(denoise((1 - t) * data + t * noise, t) - data).square().mean()"),
    ("guess_error", "cancel",
     "(denoise(alpha(t) * data + sigma(t) * noise, t) - data).mean()"),
    ("guess_error", "not absolute",
     "(denoise(alpha(t) * data + sigma(t) * noise, t) - data).abs().mean()"),
    ("guess_error", "without a root",
     "(denoise(alpha(t) * data + sigma(t) * noise, t) - data).square().mean().sqrt()"),
    ("guess_error", "not a sum",
     "(denoise(alpha(t) * data + sigma(t) * noise, t) - data).square().sum()"),
    ("guess_error", "in place",
     "data *= alpha(t)\nreturn (denoise(data + sigma(t) * noise, t) - data).square().mean()"),
    ("draw", "jumps to the guess", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            x = x0
            film.append((s, x, x0))
        return film
     """),
    ("draw", "find the noise in x", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            x = alpha(s) * x0 + sigma(s) * noise
            film.append((s, x, x0))
        return film
     """),
    ("draw", "not alpha", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(t) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "not sigma", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(t) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "divide by sigma", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = x - alpha(t) * x0
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "not x0", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "take the data out", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            x = alpha(s) * x0 + sigma(s) * x
            film.append((s, x, x0))
        return film
     """),
    ("draw", "multiplied by alpha", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "sign", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 - sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "noise is missing", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            x = alpha(s) * x0
            film.append((s, x, x0))
        return film
     """),
    ("draw", "not always 1 - t", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            x = x0 + s / t * (x - x0)
            film.append((s, x, x0))
        return film
     """),
    ("draw", "asked anew", """
        x, film = noise, []
        x0 = denoise(noise, times[0])
        for t, s in zip(times[:-1], times[1:]):
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "must see x", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(noise, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "tell it t, not s", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, s)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "same x", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            y = x
            eps = (x - alpha(t) * x0) / sigma(t)
            x = x
            film.append((s, x, x0))
        return film
     """),
    ("draw", "same x", """
        x, film = noise.clone(), []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            x.mul_(sigma(s) / sigma(t))
            film.append((s, x, x0))
        return film
     """),
    ("draw", "yours has 0", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
        return film
     """),
    ("draw", "frames in the film", """
        x, film = noise, []
        for t, s in zip(times[:-2], times[1:-1]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "the film, a list", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return x
     """),
    ("draw", "is \\(s, x, x0\\)", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((x, x0))
        return film
     """),
    ("draw", "the one that the step reached", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((t, x, x0))
        return film
     """),
    ("draw", "in place", """
        film = []
        x = noise.mul_(1)
        x += 0.1
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return film
     """),
    ("draw", "return", """
        x, film = noise, []
        for t, s in zip(times[:-1], times[1:]):
            x0 = denoise(x, t)
            eps = (x - alpha(t) * x0) / sigma(t)
            x = alpha(s) * x0 + sigma(s) * eps
            film.append((s, x, x0))
        return None
     """),
    ("guided", "with the label alone",
     "with_label"),
    ("guided", "without a label alone",
     "without_label"),
    ("guided", "start from the guess without",
     "lambda x, t: with_label(x, t) + scale * (with_label(x, t) - without_label(x, t))"),
    ("guided", "sign of the difference",
     "lambda x, t: without_label(x, t) - scale * (with_label(x, t) - without_label(x, t))"),
    ("guided", "changed places",
     "lambda x, t: with_label(x, t) + scale * (without_label(x, t) - with_label(x, t))"),
    ("guided", "difference alone",
     "lambda x, t: scale * (with_label(x, t) - without_label(x, t))"),
    ("guided", "weight 1 - scale",
     "lambda x, t: without_label(x, t) + scale * with_label(x, t)"),
    ("guided", "half of both",
     "lambda x, t: (without_label(x, t) + with_label(x, t)) / 2"),
    ("guided", "not enlarged",
     "lambda x, t: scale * with_label(x, t)"),
    ("guided", "return a function",
     "without_label(torch.ones(2, 3), 1) + scale"),
    ("guided", "return a function", """
        def f(x, t):
            return scale * with_label(x, t)
        return None
     """),
    ("guided", "your function takes",
     "lambda x: with_label(x, 0.5)"),
    ("guided", "told x and t|wrong|differs|should",
     "lambda x, t: without_label(x, t) + scale * (with_label(x, 1 - t) - without_label(x, t))"),
    ("generate", "decode it", FULL.replace("pipe.decode(film[-1][1])", "film[-1][1]")),
    ("generate", "not the last guess", FULL.replace("[-1][1]", "[-1][2]")),
    ("generate", "guidance is missing", FULL.replace("draw(denoise", "draw(told")),
    ("generate", "label is missing", FULL.replace("draw(denoise", "draw(not_told")),
    ("generate", "changed places", FULL.replace("told, not_told, scale", "not_told, told, scale")),
    ("generate", "null is not always", FULL.replace("pipe.denoiser.network.null_context", "10")),
    ("generate", "model.s, not always", FULL.replace("*pipe.denoiser.schedule", "*flow")),
    ("generate", "not the first", FULL.replace("[-1][1]", "[0][1]")),
    ("generate", "first guess", FULL.replace("film[-1][1]", "denoise(noise, times[0])")),
    ("generate", "alpha comes first",
     FULL.replace("*pipe.denoiser.schedule", "*pipe.denoiser.schedule[::-1]")),
    ("generate", "\\(B,\\)", FULL.replace("(x, t, null)", "(x, t, pipe.denoiser.network.null_context)")),
    ("generate", "None", FULL.replace("return pipe", "return None; pipe")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, BEFORE)
