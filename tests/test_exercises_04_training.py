"""Lesson 04's checks of loss, step, score, chain and loop: right answers pass; wrong ones hear why."""

import copy

from support.answers import changed, right_and_wrong

from minildm.diffusion import samplers
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.schedules import add_noise, expand

HELPERS = {"copy": copy, "add_noise": add_noise, "expand": expand, "Denoiser": Denoiser, "samplers": samplers}


LOSS = """
    t = torch.rand(len(data), generator=generator)
    noise = torch.randn(data.shape, generator=generator)
    x = add_noise(schedule, data, noise, t)
    return (network(x, t, labels) - noise).square().mean()
"""
STEP = """
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), network.parameters()):
            mean.lerp_(weight, 1 - decay)
    return loss.item()
"""
TRAIN = """
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.95))
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, (i + 1) / 50) * (1 - i / steps)
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        now = loss(network, data[rows], labels[rows], generator)
        decay = min(0.995, (i + 1) / (i + 10))
        losses.append(step(network, average, optimizer, now, decay))
    return average, losses
"""
SCORE = """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    eps = (x - alpha * denoise(x, t)) / sigma
    return -eps / sigma
"""
CHAIN = """
    for _ in range(n):
        noise = torch.randn(x.shape, generator=generator)
        x = x + step / 2 * score(x) + step**0.5 * noise
    return x
"""
LOOP = """
    x = noise
    for t, s in zip(ts[:-1], ts[1:]):
        k = schedule.alpha(t) / schedule.alpha(s)
        v = schedule.sigma(t)**2 - k**2 * schedule.sigma(s)**2
        mean = (x - v / schedule.sigma(t) * predict(x, t)) / k
        std = v.sqrt() * schedule.sigma(s) / schedule.sigma(t)
        x = mean + std * torch.randn(x.shape, generator=generator)
    return x
"""

RIGHT = [
    ("noise_loss", LOSS),
    ("noise_loss", """
        t = torch.rand(len(data), generator=generator)
        eps = torch.empty(data.shape).normal_(generator=generator)
        a, s = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
        return F.mse_loss(network(a * data + s * eps, t, labels), eps)
     """),
    ("noise_loss", """
        t = torch.rand(data.shape[:1], generator=generator)
        eps = torch.randn(data.shape, generator=generator)
        error = eps - network(add_noise(schedule, data, eps, t), t, labels)
        return (error ** 2).mean((1, 2, 3)).mean()
     """),
    ("ema_step", STEP),
    ("ema_step", """
        for p in network.parameters():
            p.grad = None
        loss.backward()
        optimizer.step()
        for mean, weight in zip(average.parameters(), network.parameters()):
            mean.data = decay * mean.data + (1 - decay) * weight.data
        return loss.detach()
     """),
    ("ema_step", """
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, mean in average.named_parameters():
                mean.mul_(decay).add_(network.get_parameter(name), alpha=1 - decay)
        return float(loss)
     """),
    ("train_average", TRAIN),
    ("train_average", """
        average = copy.deepcopy(network)
        for p in average.parameters():
            p.requires_grad = False
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=[0.9, 0.95])
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda i: min(1, (i + 1) / 50) * (1 - i / steps))
        losses = [0.0] * steps
        for i in range(steps):
            rows = torch.randint(0, data.shape[0], (batch_size,), generator=generator)
            losses[i] = step(network, average, optimizer,
                             loss(network, data[rows], labels[rows], generator),
                             min((i + 1) / (i + 10), 0.995))
            rate.step()
        return average, losses
     """),
    ("score", SCORE),
    ("score", "(schedule.alpha(t) * denoise(x, t) - x) / schedule.sigma(t)**2"),
    ("langevin", CHAIN),
    ("langevin", """
        for i in range(n):
            x = x + 0.5 * step * score(x)
            if i >= 0:
                x = x + math.sqrt(step) * torch.randn(x.shape, generator=generator)
        return x
     """.replace("x = x + 0.5 * step * score(x)", "drift = 0.5 * step * score(x)")
        .replace("x = x + math", "x = x + drift + math")),
    ("draw_ddpm", LOOP),
    ("draw_ddpm", changed(LOOP, "        x = mean + std", "        if s > 0:\n            mean = mean + std",
                          "generator=generator)\n    return x",
                          "generator=generator)\n        x = mean\n    return x")),
    ("draw_ddpm", """
        x = noise.clone()
        for i in range(len(ts) - 1):
            at, st = schedule.alpha(ts[i]), schedule.sigma(ts[i])
            a, s = schedule.alpha(ts[i + 1]), schedule.sigma(ts[i + 1])
            eps = predict(x, ts[i])
            x0 = (x - st * eps) / at
            k = at / a
            x = a * x0 + k * s**2 / st * eps
            x += s * (1 - (k * s / st)**2).sqrt() * torch.randn(x.shape, generator=generator)
        return x
     """),
]

WRONG = [
    *(("train_average", said, changed(TRAIN, *pairs)) for said, *pairs in [
        ("rises for 50", " * min(1, (i + 1) / 50) * (1 - i / steps)", ""),
        ("doesn't rise", " * min(1, (i + 1) / 50)", ""),
        ("doesn't fall", " * (1 - i / steps)", ""),
        ("begins at 1 / 50", "min(1, (i + 1) / 50)", "min(1, i / 50)"),
        ("in the first step", "(1 - i / steps)", "(1 - (i + 1) / steps)"),
        ("learning rates", "min(1, (i + 1) / 50)", "((i + 1) / 50)"),
        ("lr isn't used|learning rates", "= lr * min", "= 3e-3 * min"),
        ("smaller of", "min(1, (i + 1) / 50) * (1 - i / steps)", "min((i + 1) / 50, 1 - i / steps)"),
        ("AdamW", "torch.optim.AdamW(", "torch.optim.Adam("),
        ("betas", ", betas=(0.9, 0.95)", ""),
        ("network's parameters", "network.parameters(), lr", "[network.weight], lr"),
        ("network's parameters", "network.parameters(), lr", "average.parameters(), lr"),
        ("a copy", "copy.deepcopy(network).requires_grad_(False)", "network"),
        ("no gradients", ".requires_grad_(False)", ""),
        ("begins as a copy", "requires_grad_(False)\n",
         "requires_grad_(False)\n    [p.zero_() for p in average.parameters()]\n"),
        ("draws its rows anew", "for i in range(steps):",
         "rows = torch.randint(len(data), (batch_size,), generator=generator)\n    for i in range(steps):",
         "        rows = torch.randint(len(data), (batch_size,), generator=generator)\n        now",
         "        now"),
        ("draws its rows anew", "torch.randint(len(data), (batch_size,), generator=generator)",
         "torch.arange(i, i + batch_size) % len(data)"),
        ("global generator", "torch.randint(len(data), (batch_size,), generator=generator)",
         "torch.randint(len(data), (batch_size,))"),
        ("draws its rows anew", "randint(len(data)", "randint(len(data) // 2"),
        ("a batch has", "(batch_size,)", "(64,)"),
        ("belong together", "labels[rows]", "labels[rows.flip(0)]"),
        ("a batch has|belong", "labels[rows]", "labels"),
        ("once in each", "range(steps)", "range(steps - 1)"),
        ("not its average", "loss(network", "loss(average"),
        ("stays 0.995", "min(0.995, (i + 1) / (i + 10))", "0.995"),
        ("stays 0.995", "min(0.995", "max(0.995"),
        ("decays", "(i + 1) / (i + 10)", "(i + 1) / (i + 2)"),
        ("what the average takes|decays", "decay = min", "decay = 1 - min"),
        ("step before|decays", "(i + 1) / (i + 10)", "i / (i + 9)"),
        ("average and the losses", "return average, losses", "return losses"),
        ("average first", "return average, losses", "return network, losses"),
        ("average first", "return average, losses", "return losses, average"),
        ("list of", "return average, losses", "return average, losses[-1]"),
        ("list of|with its graph", "losses.append(step(network, average, optimizer, now, decay))",
         "step(network, average, optimizer, now, decay)\n        losses.append(now)"),
        ("with its graph", "optimizer, now, decay", "optimizer, now.item(), decay"),
        ("forgets its moments", "        optimizer.param_groups",
         "        optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.95))\n"
         "        optimizer.param_groups"),
        ("new copy", "        optimizer.param_groups",
         "        average = copy.deepcopy(network).requires_grad_(False)\n"
         "        optimizer.param_groups"),
        ("once in each", "losses.append(", "step(network, average, optimizer, now, decay) if i else None"
         "\n        losses.append("),
    ]),
    ("noise_loss", "not at the data", changed(LOSS, "- noise)", "- data)")),
    ("noise_loss", "not at x_t", changed(LOSS, "- noise)", "- x)")),
    ("noise_loss", "not at noise - data", changed(LOSS, "- noise)", "- noise + data)")),
    ("noise_loss", "times of shape", changed(LOSS, "torch.rand(len(data)", "torch.rand(1")),
    ("noise_loss", "a time of its own", changed(
        LOSS, "torch.rand(len(data), generator=generator)",
        "torch.rand(1, generator=generator).expand(len(data))")),
    ("noise_loss", "the labels as well", changed(LOSS, ", labels", "")),
    ("noise_loss", "labels that the network gets|wrong|values", changed(LOSS, "labels)", "labels.flip(0))")),
    ("noise_loss", "times first", """
        noise = torch.randn(data.shape, generator=generator)
        t = torch.rand(len(data), generator=generator)
        return (network(add_noise(schedule, data, noise, t), t, labels) - noise).square().mean()
     """),
    ("noise_loss", "times first", """
        t = torch.randint(1, 1001, (len(data),), generator=generator) / 1000
        noise = torch.randn(data.shape, generator=generator)
        return (network(add_noise(schedule, data, noise, t), t, labels) - noise).square().mean()
     """),
    ("noise_loss", "lie in", changed(LOSS, "network(x, t,", "network(x, 1000 * t,")),
    ("noise_loss", "lie in", changed(LOSS, "torch.rand(len(data)", "torch.randn(len(data)")),
    ("noise_loss", "times are uniform", changed(LOSS, "generator=generator)\n    noise",
                                                "generator=generator) / 2\n    noise")),
    ("noise_loss", "isn't multiplied by alpha", changed(
        LOSS, "add_noise(schedule, data, noise, t)",
        "data + schedule.sigma(expand(t, data)) * noise")),
    ("noise_loss", "isn't multiplied by sigma|schedule scales them", changed(
        LOSS, "add_noise(schedule, data, noise, t)",
        "schedule.alpha(expand(t, data)) * data + noise")),
    ("noise_loss", "changed places", changed(LOSS, "schedule, data, noise", "schedule, noise, data")),
    ("noise_loss", "schedule scales them", changed(
        LOSS, "add_noise(schedule, data, noise, t)", "data + noise")),
    ("noise_loss", "this is the data", changed(LOSS, "network(x,", "network(data,")),
    ("noise_loss", "alpha isn't always", changed(
        LOSS, "add_noise(schedule, data, noise, t)",
        "(1 - expand(t, data)) * data + expand(t, data) * noise")),
    ("noise_loss", "time runs", changed(LOSS, "noise, t)", "noise, 1 - t)")),
    ("noise_loss", "standard normal|uniform or too weak", changed(
        LOSS, "torch.randn(data.shape", "torch.rand(data.shape")),
    ("noise_loss", "standard normal", changed(
        LOSS, "torch.randn(data.shape", "torch.randn(data.shape[1:]")),
    ("noise_loss", "global generator|one seed", changed(
        LOSS, "torch.randn(data.shape, generator=generator)", "torch.randn_like(data)")),
    ("noise_loss", "another seed", changed(LOSS, "t = torch.rand(len(data), generator=generator)",
                                           "generator.manual_seed(0)\n    t = torch.rand("
                                           "len(data), generator=generator)")),
    ("noise_loss", "mean, not|not a mean|a sum", changed(LOSS, ".mean()", ".sum()")),
    ("noise_loss", "for each picture", changed(LOSS, ".mean()", ".mean((1, 2, 3))")),
    ("noise_loss", "absolute", changed(LOSS, ".square()", ".abs()")),
    ("noise_loss", "no root", changed(LOSS, ".mean()", ".mean().sqrt()")),
    ("noise_loss", "cancel", changed(LOSS, ".square()", "")),
    ("noise_loss", "half of it", changed(LOSS, ".mean()", ".mean() / 2")),
    ("noise_loss", "no gradient", changed(LOSS, "network(x, t, labels)",
                                          "network(x, t, labels).detach()")),
    ("noise_loss", "asked once|asked it 2", changed(
        LOSS, "    return", "    network(x, t, labels)\n    return")),
    ("noise_loss", "without a graph", changed(LOSS, ".mean()", ".mean().item()")),
    ("noise_loss", "in place", changed(LOSS, "x = add_noise(schedule, data, noise, t)",
                                       "x = data.mul_(schedule.alpha(expand(t, data)))\n"
                                       "    x = x + schedule.sigma(expand(t, data)) * noise")),
    ("noise_loss", "Denoiser|loss", "Denoiser(network, schedule).loss(data, labels, generator)['loss']"),
    ("ema_step", "zero_grad", changed(STEP, "optimizer.zero_grad()\n", "pass\n")),
    ("ema_step", "stay as they were", changed(STEP, "optimizer.step()\n", "pass\n")),
    ("ema_step", "stay as they were", changed(STEP, "optimizer.zero_grad()\n", "pass\n",
                                           "loss.backward()\n",
                                           "loss.backward()\n    optimizer.zero_grad()\n")),
    ("ema_step", "average stays", changed(STEP, "mean.lerp_(", "mean.lerp(")),
    ("ema_step", "keeps the share", changed(STEP, "1 - decay", "decay")),
    ("ema_step", "a copy", changed(STEP, "mean.lerp_(weight, 1 - decay)", "mean.copy_(weight)")),
    ("ema_step", "network moves", changed(STEP, "mean.lerp_(weight", "weight.lerp_(mean")),
    ("ema_step", "takes 1 - decay", changed(STEP, "mean.lerp_(weight, 1 - decay)",
                                            "mean.mul_(decay).add_(weight)")),
    ("ema_step", "from before it", """
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters()):
                mean.lerp_(weight, 1 - decay)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
     """),
    ("ema_step", "two steps", changed(STEP, "optimizer.step()\n",
                                      "optimizer.step()\n    optimizer.step()\n")),
    ("ema_step", "return the loss", changed(STEP, "return loss.item()", "return None")),
    ("ema_step", "holds on to its graph", changed(STEP, "return loss.item()", "return loss")),
    ("ema_step", "step comes before|stay as they were", """
        optimizer.zero_grad()
        optimizer.step()
        loss.backward()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters()):
                mean.lerp_(weight, 1 - decay)
        return loss.item()
     """),
    ("ema_step", "raised|in place", changed(STEP, "    with torch.no_grad():\n", "    if True:\n",
                                   "mean.lerp_(weight, 1 - decay)",
                                   "weight.lerp_(mean, 1 - decay)")),
    ("ema_step", "not right|average", changed(STEP, "1 - decay", "0.1")),
    ("score", "points away", changed(SCORE, "-eps", "eps")),
    ("score", "divided by sigma|minus it", changed(SCORE, "-eps / sigma", "eps")),
    ("score", "once more", changed(SCORE, "-eps / sigma", "-eps")),
    ("score", "alpha is missing", changed(SCORE, "alpha * denoise", "denoise")),
    ("score", "expected data", "denoise(x, t)"),
    ("score", "the way from x", "denoise(x, t) - x"),
    ("score", "once more", changed(SCORE, "-eps / sigma",
                                      "(alpha * denoise(x, t) - x) / sigma")),
    ("score", "once too often", changed(SCORE, "-eps / sigma", "-eps / sigma**2")),
    ("score", "root of 1 - alpha", "a = schedule.alpha(t)\nreturn (a * denoise(x, t) - x) / (1 - a**2)"),
    ("langevin", "the 2 is missing", changed(CHAIN, "step / 2", "step")),
    ("langevin", "twice the size", changed(CHAIN, "step / 2", "step",
                                           "step**0.5", "(2 * step)**0.5")),
    ("langevin", "factor is the root", changed(CHAIN, "step**0.5", "step")),
    ("langevin", "isn't scaled", changed(CHAIN, "step**0.5 * noise", "noise")),
    ("langevin", "noise is missing", changed(CHAIN, " + step**0.5 * noise", "")),
    ("langevin", "uphill", changed(CHAIN, "x + step", "x - step")),
    ("langevin", "without aim", changed(CHAIN, "step / 2 * score(x) + ", "")),
    ("langevin", "too few", changed(CHAIN, "range(n)", "range(n - 1)")),
    ("langevin", "too many", changed(CHAIN, "range(n)", "range(n + 1)")),
    ("langevin", "where the chain began", changed(CHAIN, "    for _", "    start = x\n    for _",
                                                  "score(x)", "score(start)")),
    ("langevin", "each has its own", """
        noise = torch.randn(x.shape, generator=generator)
        for _ in range(n):
            x = x + step / 2 * score(x) + step**0.5 * noise
        return x
     """),
    ("langevin", "in place", changed(CHAIN, "x = x +", "x +=")),
    ("langevin", "one seed|global", changed(CHAIN, ", generator=generator", "")),
    ("draw_ddpm", "mean alone", changed(LOOP, "mean + std *", "mean + 0 * std *")),
    ("draw_ddpm", "v alone", changed(LOOP, " * schedule.sigma(s) / schedule.sigma(t)\n", "\n")),
    ("draw_ddpm", "variance in the place", changed(LOOP, "v.sqrt() * schedule.sigma(s) / "
                                                   "schedule.sigma(t)\n", "v * schedule.sigma(s)**2"
                                                   " / schedule.sigma(t)**2\n")),
    ("draw_ddpm", "of time s", changed(LOOP, "std = v.sqrt() * schedule.sigma(s) / "
                                       "schedule.sigma(t)\n", "std = schedule.sigma(s)\n")),
    ("draw_ddpm", "take all of it", changed(LOOP, "v / schedule.sigma(t) * predict",
                                            "schedule.sigma(t) * predict")),
    ("draw_ddpm", "that is v", changed(LOOP, "v / schedule.sigma(t) * predict", "v * predict")),
    ("draw_ddpm", "step of the score", changed(LOOP, "v / schedule.sigma(t) * predict",
                                               "v / schedule.sigma(t)**2 * predict")),
    ("draw_ddpm", "shrunk by it", changed(LOOP, ") / k\n", ")\n")),
    ("draw_ddpm", "the sign", changed(LOOP, "x - v", "x + v")),
    ("draw_ddpm", "not at s", changed(LOOP, "predict(x, t)", "predict(x, s)")),
    ("draw_ddpm", "a step is missing|one step is missing", changed(
        LOOP, "zip(ts[:-1], ts[1:])", "zip(ts[:-2], ts[1:-1])")),
    ("draw_ddpm", "each has its own", changed(
        LOOP, "    x = noise\n", "    x = noise\n    z = torch.randn(x.shape, generator=generator)\n",
        "std * torch.randn(x.shape, generator=generator)", "std * z")),
    ("draw_ddpm", "one seed|global", changed(LOOP, ", generator=generator", "")),
    ("draw_ddpm", "in place", changed(LOOP, "x = mean + std", "x[:] = mean + std")),
    ("draw_ddpm", "package|ddpm", "samplers.last(samplers.ddpm(predict, schedule, noise, ts, generator))"),
    ("draw_ddpm", "None", changed(LOOP, "return x", "return None")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)
