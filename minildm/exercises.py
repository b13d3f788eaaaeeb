"""The checks that turn a student's cell green, by comparing the answer with the package or with exact maths.

A check knows the right answer and the likely wrong ones. It says nothing about how to write the function;
when the result equals a known wrong answer it names the cause, else it says where and by how much it is off.
Each lesson calls a check right under its stub, and the same call is the graded test.
"""

import torch

from minildm import layers, schedules
from minildm.data import to_uint8
from minildm.vae import Gaussian


def passed(name: str):
    """Say so; a check that failed has raised AssertionError before it gets here."""
    print(f"✓ {name}")


def fail(name: str, message: str):
    raise AssertionError(f"{name}: {message}") from None


def close(a, b, tol: float) -> bool:
    """Equal to `tol`, relative or absolute; False for other shapes or anything not finite."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tol, atol=tol)


def compare(name: str, got, want, likely: dict, tol: float = 1e-4):
    """Fail unless `got` equals `want`, `likely` maps a cause to the wrong answer it leads to; return name."""
    if got is None:
        fail(name, "your function returned None: is the `return` missing?")
    if not isinstance(got, torch.Tensor):
        fail(name, f"your function returned a {type(got).__name__}, a tensor is wanted")
    if close(got, want, tol):
        return name
    for cause, wrong in likely.items():
        if close(got, wrong, tol):
            fail(name, cause)
    if got.shape != want.shape:
        fail(name, f"the shape is {tuple(got.shape)}, {tuple(want.shape)} is wanted")
    if not got.isfinite().all():
        fail(name, "it has NaN or infinite values: look for a division by zero, a log or root of less than 0")
    error = (got.double() - want.double()).abs()
    at = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape))
    fail(name, f"differs by up to {error.max():.3g}, at {list(at)}: {got[at]:.4f}, should be {want[at]:.4f}")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- lesson 00

def check_to_uint8(f):
    x = torch.linspace(-1.3, 1.3, 24).reshape(1, 1, 4, 6)
    grey, got = (x + 1) * 127.5, f(x.clone())
    compare("to_uint8", got, to_uint8(x), {
        "255 + 1 is 0 in uint8, so white turns black: clamp first": (grey.round().long() % 256).byte(),
        "the fraction was cut off: round": grey.clamp(0, 255).byte(),
        "-1 is black, not grey: add 1 first": (x * 127.5).round().clamp(0, 255).byte(),
        "the range is 2 wide: times 127.5": ((x + 1) * 255).round().clamp(0, 255).byte()})
    if got.dtype != torch.uint8:
        fail("to_uint8", "the numbers are right, their type isn't: end with .to(torch.uint8)")
    passed("to_uint8")


def check_montage(f):
    rows = (x := randn(6, 1, 4, 5)).reshape(2, 3, 4, 5)
    compare("montage", f(x, 3), rows.transpose(1, 2).reshape(8, 15), {
        "reshape alone keeps the order in memory: permute before it": x.reshape(8, 15),
        "pictures 0, 1, 2 are the first row": x.reshape(3, 2, 4, 5).permute(1, 2, 0, 3).reshape(8, 15),
        "the pictures lie on their side": rows.permute(0, 3, 1, 2).reshape(10, 12),
        "cols is the number in a row": x.reshape(3, 2, 4, 5).transpose(1, 2).reshape(12, 10)})
    passed("montage")


def check_psnr(f):
    a, b = (randn(4, 1, 5, 5, seed=s).clamp(-1, 1) / torch.arange(1, 5).reshape(4, 1, 1, 1) for s in (0, 1))
    mse, got = (a - b).square().mean((1, 2, 3)), f(a, b)
    compare("psnr", got if got is None else torch.as_tensor(got), (10 * (4 / mse).log10()).mean(), {
        "the peak is 2, from -1 to 1, and it is squared": (10 * (1 / mse).log10()).mean(),
        "the peak isn't squared": (10 * (2 / mse).log10()).mean(), "base 10": (10 * (4 / mse).log()).mean(),
        "the sign is wrong": (10 * (mse / 4).log10()).mean(),
        "10, not 20: mse is a square already": (20 * (4 / mse).log10()).mean(),
        "the errors were averaged first: the mean of the pictures' PSNRs": 10 * (4 / mse.mean()).log10()})
    passed("psnr")


# --- lesson 01

def check_reparameterise(f):
    mean, logvar, noise = (randn(3, 4, seed=s).requires_grad_(s < 2) for s in range(3))
    got, name = f(mean, logvar, noise), "reparameterise"
    compare(name, got, mean + (logvar / 2).exp() * noise, {
        "exp(logvar) is the variance: std is its root": mean + logvar.exp() * noise,
        "logvar is a logarithm: exp of half of it": mean + logvar / 2 * noise,
        "the noise isn't multiplied by std": mean + noise,
        "std and mean have changed places": (logvar / 2).exp() + mean * noise})
    if got.requires_grad:
        got.sum().backward()
    for what, leaf in ("mean", mean), ("logvar", logvar):
        if leaf.grad is None:
            fail(name, f"right numbers, but no gradient reaches {what}: no detach(), no no_grad()")
    passed(name)


def check_kl(f):
    mean, logvar = randn(3, 4), randn(3, 4, seed=1)
    want, var = Gaussian(mean, logvar).kl(), logvar.exp()
    compare("kl", f(mean, logvar), want, {
        "the factor 1/2 is missing": 2 * want, "the sign: a divergence is never negative": -want,
        "the standard deviation stands in the variance's place": (mean**2 + var.sqrt() - 1 - logvar) / 2,
        "the mean isn't squared": (mean + var - 1 - logvar) / 2, "one for each value, not a sum": want.sum(),
        "one for each value, not their mean": want.mean()})
    passed("kl")


def check_vae_loss(f):
    (x, y), (mean, logvar) = randn(2, 5, 1, 6, 6), randn(2, 5, 3, seed=1)
    l1, l2, kl, w = (x - y).abs(), (x - y).square(), Gaussian(mean, logvar).kl(), 0.1
    compare("vae_loss", f(x, y, mean, logvar, w), l1.mean() + l2.mean() + w * kl.mean(), {
        "sums: a larger picture would weigh more. Means": l1.sum() + l2.sum() + w * kl.sum(),
        "the KL is summed over a picture's latents": l1.mean() + l2.mean() + w * kl.sum(1).mean(),
        "the KL is summed: its mean": l1.mean() + l2.mean() + w * kl.sum(),
        "the KL isn't weighted": l1.mean() + l2.mean() + kl.mean(),
        "L1 is missing": l2.mean() + w * kl.mean(), "L2 is missing": l1.mean() + w * kl.mean(),
        "the KL is missing": l1.mean() + l2.mean()})
    passed("vae_loss")


def check_normalise(f):
    z = (randn(64, 4, 3, 3) + 1) * torch.tensor([1, 3, 5, 0.5])[:, None, None]
    mean, std = (g((0, 2, 3), keepdim=True) for g in (z.mean, z.std))
    compare("normalise", f(z), (z - mean) / std, {
        "the mean isn't subtracted": z / std, "divided by the variance: by its root": (z - mean) / std**2,
        "one number for all channels: each has its own": (z - z.mean()) / z.std(),
        "each picture by itself: over the batch too": torch.nn.functional.instance_norm(z),
        "each position by itself: over h and w too": (z - z.mean(0)) / z.std(0),
        "brackets: subtract, then divide": z - mean / std}, tol=0.01)
    passed("normalise")


# --- lesson 03

def check_alpha_bar(f):
    betas, one = torch.linspace(0.05, 0.4, 6), torch.ones(1)
    kept = (1 - betas).cumprod(0)
    passed(compare("alpha_bar", f(betas.clone()), want := torch.cat([one, kept]), {
        "shares multiply: this is a sum": torch.cat([one, 1 - betas.cumsum(0)]), "a root": want.sqrt(),
        "the product is of 1 - beta": torch.cat([one, betas.cumprod(0)]), "the 1 in front is missing": kept,
        "one place late: entry 1 is what the first step left": torch.cat([one, one, kept[:-1]])}))


def check_add_noise(f):
    for shape, s in ((4, 4, 4, 4), schedules.cosine), ((4, 4), schedules.flow):
        x, n, t = randn(*shape), randn(*shape, seed=1), torch.tensor([0.1, 0.3, 0.6, 0.9])
        a, sd = (part(schedules.expand(t, x)) for part in s)
        compare("add_noise", f(s, x, n, t), schedules.add_noise(s, x, n, t), {
            "t (B,) met the last axis: each column has its own time": s.alpha(t) * x + s.sigma(t) * n,
            "alpha and sigma changed places": sd * x + a * n, "alpha is missing": x + sd * n,
            "alpha is the root of alpha_bar already: no squares": a**2 * x + sd**2 * n})
    passed("add_noise")


def check_scale_factor(f):
    z = 3 * randn(6, 4, 2, 2) + torch.tensor([5.0, -1, 0, 2])[:, None, None]
    passed(compare("scale_factor", torch.as_tensor(got) if (got := f(z)) is not None else None, 1 / z.std(), {
        "the standard deviation: times it, latents get wider": z.std(), "this is 1 / variance": 1 / z.var(),
        "a number for each channel: one for all is wanted": 1 / z.std((0, 2, 3))}, tol=0.01))


# --- lesson 04

def check_sinusoid(f):
    t = torch.tensor([0.0, 0.013, 0.4, 1.0])
    want, other = layers.sinusoid(t, 8), 1000 * t[:, None] * 10_000 ** (-torch.arange(4) / 3)
    compare("sinusoid", f(t, 8), want, {
        "t runs from 0 to 1, the waves were made for 0 to 1000: multiply": layers.sinusoid(t / 1000, 8),
        "cosines come first: these are sines, then cosines": want.roll(4, 1),
        "all cosines, then all sines: yours take turns": want.unflatten(1, (2, 4)).transpose(1, 2).flatten(1),
        "k is divided by dim / 2, not by dim / 2 - 1": torch.cat([other.cos(), other.sin()], 1)})
    passed("sinusoid")


def check_modulate(f):
    h, emb = randn(4, 4, 4, 4), randn(4, 8, seed=1)
    (scale, shift), (right, bottom) = emb[:, :, None, None].chunk(2, 1), emb.chunk(2, 1)
    compare("modulate", f(h, emb), h * (1 + scale) + shift, {
        "the 1 is missing: scale 0 should change nothing": h * scale + shift,
        "scale is the first half, shift the second": h * (1 + shift) + scale,
        "emb met the last axes, height and width: it is for pictures and channels": h * (1 + right) + bottom,
        "first scale, then shift: the shift isn't scaled": (h + shift) * (1 + scale)})
    passed("modulate")


def check_multi_head(f):
    q, k, v = randn(2, 6, 12), randn(2, 4, 12, seed=1), randn(2, 4, 12, seed=2)

    def way(k=k, v=v, unit=2.0, axis=-1, split=lambda x: x.unflatten(-1, (3, 4)).transpose(1, 2),
            merge=lambda x: x.transpose(1, 2).flatten(2)):
        return merge((split(q) @ split(k).transpose(-2, -1) / unit).softmax(axis) @ split(v))

    compare("multi_head", f(q, k, v, 3), way(), {
        "the scale is missing": way(unit=1), "divide by the root of d, not by d": way(unit=4),
        "the scale is of a head's width, D / heads": way(unit=12**0.5),
        "that softmax is over the queries: over the keys": way(axis=-2), "k and v changed places": way(v, k),
        "heads made of positions: split the width, then swap": way(split=lambda x: x.reshape(2, 3, -1, 4)),
        "swap the axes back before the heads are merged": way(merge=lambda x: x.reshape(2, 6, 12))})
    passed("multi_head")


def check_up_inputs(f):
    def way(channels, blocks, newest=-1, glue=1, halving=1):
        skips, h, widths = [channels[0]], channels[-1], []
        for level, c in enumerate(channels):
            skips += [c] * (blocks + halving * (level < len(channels) - 1))
        for c in [c for c in reversed(channels) for _ in range(blocks + 1)]:
            h = widths.append(h + glue * (skips.pop(newest) if skips else 0)) or c
        return torch.tensor(widths)

    for case in ((320, 640, 1280, 1280), 2), ((32, 48, 80), 1):
        compare("up_inputs", torch.tensor(f(*case)), way(*case), {
            "skips are glued on: their channels are added": way(*case, glue=0),
            "the oldest skip was taken: the newest fits": way(*case, newest=0),
            "the halvings leave a skip too": way(*case, halving=0)})
    passed("up_inputs")


def check_loss_each(f):
    data, noise, t = randn(4, 2, 3, 3), randn(4, 2, 3, 3, seed=1), torch.tensor([0.1, 0.3, 0.6, 0.9])
    x = schedules.add_noise(schedules.cosine, data, noise, t)

    def network(x, t):
        return x * (0.5 + schedules.expand(t, x))

    def square(target=noise, x=x, t=t):
        return (network(x, t) - target).square().mean((1, 2, 3))

    compare("loss_each", f(network, schedules.cosine, data, noise, t), square(), {
        "aim at the noise, not at the data": square(data), "aim at the noise, not at x_t": square(x),
        "that is one number: one for each picture": square().mean(), "a sum, not a mean": 18 * square(),
        "the network must see noisy x_t": square(x=data), "it wants t in [0, 1]": square(t=1000 * t)})
    passed("loss_each")


def check_drop_labels(f):
    def drop(labels):
        return f(labels, 10, 0.1, torch.Generator().manual_seed(0))

    given, name = torch.arange(10).repeat(1000), "drop_labels"
    labels, got = given.clone(), drop(given)
    compare(name, given, labels, {"the caller's labels were changed: work on a copy": given})
    share, kept = (got == 10).float().mean().item(), torch.where(got == 10, labels, got)
    compare(name, kept, labels, {"a dropped label becomes `null`, which is no digit": kept})
    if abs(share - 0.1) > 0.02:
        fail(name, f"a share of {share:.2f} became null, not p = 0.1; each by a random number of its own")
    compare(name, again := drop(labels), got, {"one seed, two answers: draw from `generator`": again})
    passed(name)


# --- lesson 05

T, S, X, X0 = torch.tensor(0.7), torch.tensor(0.4), randn(3, 2), randn(3, 2, seed=1)  # a step: T to S


def check_posterior(f):
    a, a_s, sd, sd_s = (part(t) for part in schedules.cosine for t in (T, S))
    keep, beta = a / a_s * (sd_s / sd)**2, (1 - (a / a_s)**2).expand(X.shape)
    mean, variance = keep * X + (a_s - keep * a) * X0, (sd_s / sd)**2 * beta
    passed(compare("posterior", f(schedules.cosine, X, X0, T, S), torch.stack([mean, variance]), {
        "the variance is wanted, not its root": torch.stack([mean, variance.sqrt()]),
        "the variance is the forward step's: knowing x0 makes it smaller": torch.stack([mean, beta]),
        "x_t has data in it: alpha_s x0 is too much": torch.stack([keep * X + a_s * X0, variance])}))


def check_ddim_step(f):
    flow = schedules.flow
    a, a_s, sd, sd_s = (part(t) for part in flow for t in (T, S))
    passed(compare("ddim_step", f(flow, X, X0, T, S), a_s * X0 + sd_s * (eps := (X - a * X0) / sd), {
        "alpha and sigma are those of t: you go to s": X, "x0 isn't multiplied by alpha": X0 + sd_s * eps,
        "not divided by sigma_t: this noise isn't of unit size": a_s * X0 + sd_s * sd * eps,
        "sigma isn't always the root of 1 - alpha^2": a_s * X0 + (1 - a_s**2).sqrt() * eps}))


def check_eps_to_v(f):
    (a, sd), eps = (part(T) for part in schedules.cosine), X
    passed(compare("eps_to_v", f(schedules.cosine, x := a * X0 + sd * eps, eps, T), a * eps - sd * X0, {
        "the sign is wrong: noise has the plus": sd * X0 - a * eps, "x isn't x0": a * eps - sd * x,
        "alpha and sigma changed places": sd * eps - a * X0, "this is flow's velocity": eps - X0}))


def check_sample(f):
    def run(x, t, *ts):
        return run(x * t + x * ts[0] + t, *ts) if ts else x

    got = f(lambda x, x0, t, s: x0 + x * s + t, lambda x, t: x * t, X, 4)
    passed(compare("sample", got, run(X, 1, .75, .5, .25, 0), {
        "the last step, to 0, is missing": run(X, 1, .75, .5, .25), "begin at 1": run(X, .75, .5, .25, 0),
        "n steps pass n + 1 times": run(X, 1, 2 / 3, 1 / 3, 0), "too many": run(X, 1, .8, .6, .4, .2, 0)}))
