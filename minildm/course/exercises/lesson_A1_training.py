"""The checks of A1's mended cells that train and prepare. They run them; they do not read them."""

import copy
import math

import torch
from torch import nn

from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import generator, randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_09_training import as_losses
from minildm.course.patients import fit, in_units
from minildm.nn.vae import AutoencoderKL, VAEConfig
from minildm.training import ema, loop

LOOPS = [fit, loop.fit, loop.train, loop.take_steps, ema.EMA]


class Line(nn.Module):
    """A network of one matrix, (B, 3) -> (B, 2)."""

    def __init__(self, seed: int = 5):
        super().__init__()
        self.weight = nn.Parameter(randn(3, 2, seed=seed))

    def forward(self, x):
        return x @ self.weight


def line_loss(network, latents, labels, generator):
    noise = 0.1 * torch.randn(len(latents), 2, generator=generator)
    return (network(latents) - latents[:, :2].sin() - labels[:, None] - noise).square().mean()


def averaging(returned="average", share=lambda keep: 1 - keep, ramp=True, begin=None):
    """A loop that keeps an average, right as it is, or with a mistake."""
    def train(network, loss, latents, labels, steps, generator, decay=0.98):
        average = copy.deepcopy(network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
        losses = []
        for i in range(1, steps + 1):
            rows = torch.randint(len(latents), (64,), generator=generator)
            value = loss(network, latents[rows], labels[rows], generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            keep = min(decay, (1 + i) / (10 + i)) if ramp else decay
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                    slow.lerp_(fast, share(keep))
            losses.append(value.item())
        chosen = {"average": average, "network": network, "first": begin}[returned]
        return (chosen or Line()).eval(), losses

    return train


mended_e = averaging()

WRONG_AVERAGES = {
    "it is still the patient: the network that is returned has the weights that it had before the "
    "training": averaging(returned="first"),
    "that is the network of the last step, not its average": averaging(returned="network"),
    "the shares changed places: the average keeps the larger one":
        averaging(share=lambda keep: keep),
    "the ramp is gone: at first the average keeps less": averaging(ramp=False),
}


def trained(train, steps: int, decay: float):
    """What a loop returned, and the network that it trained."""
    network, labels = Line(), torch.arange(90) % 3
    result = train(network, line_loss, randn(90, 3, seed=8), labels, steps, generator(), decay)
    return result, network


@check(reference=mended_e, forbidden=LOOPS)
def check_mended_e(answer):
    for steps, decay in (12, 0.98), (40, 0.6):
        result, network = trained(answer, steps, decay)
        if not isinstance(result, tuple | list) or len(result) != 2:
            fail(f"a network and the losses are wanted, a pair: this is {describe(result)}")
        average, losses = result
        if not isinstance(average, nn.Module):
            fail(f"first comes the network that draws: this is {describe(average)}")
        losses = as_losses(losses, steps)
        (right, want), moved = trained(mended_e, steps, decay)
        compare(losses, torch.tensor(want), tol=1e-3, where="the losses")
        compare(network.weight.detach(), moved.weight.detach(), tol=1e-3,
                where="the trained network")
        # the loop is right: what is left is which weights come back
        got = average.weight.detach()
        if close(got, right.weight.detach(), 1e-3):
            if average.training:
                fail("the network that is returned is in training mode: it is for drawing")
            continue
        for cause, wrong in WRONG_AVERAGES.items():
            if close(got, trained(wrong, steps, decay)[0][0].weight.detach(), 1e-3):
                fail(cause)
        compare(got, right.weight.detach(), where="the average's weights")


# ---- pictures and labels

def mended_f(network, loss, latents, labels, epochs, generator):
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(latents), generator=generator)
        for rows in order.split(64):
            value = loss(network, latents[rows], labels[rows], generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return network.eval(), losses


@check(reference=mended_f, forbidden=LOOPS)
def check_mended_f(answer):
    for n, epochs in (150, 3), (128, 2):
        # each picture is its own number, from which its label follows
        latents, labels = torch.arange(n).reshape(n, 1, 1).float(), (7 * torch.arange(n)) % 10
        network, seen = nn.Linear(1, 1), []

        def loss(network, latents, labels, generator, seen=seen):
            seen.append((latents.flatten().long(), labels.clone()))
            return network.weight.square().sum() + network.bias.sum()

        before = network.weight.item()
        result = answer(network, loss, latents, labels, epochs, generator())
        judge_pairs(seen, n, epochs)
        if not isinstance(result, tuple | list) or len(result) != 2:
            fail(f"the network and the losses are wanted, a pair: this is {describe(result)}")
        as_losses(result[1], len(seen))
        if result[0] is not network or network.weight.item() == before:
            fail("return the network that was given, trained")
        if network.training:
            fail("the network that is returned is in training mode: it is for drawing")


def judge_pairs(seen, n: int, epochs: int):
    """Raise Wrong unless each epoch shows all pictures in a fresh order, with their labels."""
    # the last batch of an epoch may be smaller
    per_epoch = -(-n // 64)
    if len(seen) != epochs * per_epoch:
        fail(f"the loss is asked {len(seen)} times: {epochs} epochs of {n} pictures in batches of "
             f"64 are {epochs * per_epoch}")
    orders = []
    for epoch in range(epochs):
        part = seen[epoch * per_epoch:(epoch + 1) * per_epoch]
        pictures = torch.cat([rows for rows, _ in part])
        told = torch.cat([labels for _, labels in part])
        right = (told == 7 * pictures % 10).float().mean().item()
        if right < 1:
            fail(f"in epoch {epoch + 1} {right:.0%} of the pictures have their own label: it is "
                 "still the patient, or a little better")
        if not torch.equal(pictures.sort().values, torch.arange(n)):
            fail("an epoch shows each picture once")
        orders.append(pictures)
    if torch.equal(orders[0], torch.arange(n)) or torch.equal(orders[0], orders[1]):
        fail("each epoch has an order of its own")


# ---- what the network is trained on, and how its latents become pictures

def small_vae(channels: int, std: float) -> AutoencoderKL:
    """A VAE of random weights whose raw latents have about this std; their scale is not measured.
    """
    vae = AutoencoderKL(VAEConfig(1, channels, (8, 8), 0, False, 0, 1))
    with torch.no_grad():
        for i, p in enumerate(vae.parameters()):
            p.copy_(0.3 * randn(*p.shape, seed=i))
        size = vae.encode(pictures_of(30)).mean.std().item()
        vae = in_units(vae, std / size).eval().requires_grad_(False)
        # the posteriors are narrow
        vae.quant_conv.weight[channels:] = 0
        vae.quant_conv.bias[channels:] = 2 * math.log(0.1 * std)
        copies = vae.decode(vae.encode(pictures_of(30)).mean)
        for p in vae.decoder.conv_out.parameters():
            p /= 2 * copies.std()
    return vae


def pictures_of(n: int, side: int = 8):
    return randn(n, 1, side, side, seed=2).clamp(-1, 1)


class Recorded:
    """`train` and `draw` as the cells call them: what is drawn are latents of the training."""

    def __init__(self, n: int):
        self.n, self.latents, self.labels = n, None, None
        self.network = Line()

    def train(self, latents, labels):
        if not torch.is_grad_enabled():
            fail("`train` is called inside of no_grad: there are no gradients to learn from")
        self.latents, self.labels = latents.clone(), labels.clone()
        return self.network

    def draw(self, network):
        if network is not self.network:
            fail("the network that draws is the one that `train` returned")
        return self.latents[:self.n].clone()


def prepared(answer, vae, pictures, labels, n: int):
    """Run a cell; the latents that it trained on, and the pictures that it returned."""
    spy = Recorded(n)
    result = answer(vae, pictures, labels, spy.train, spy.draw)
    if spy.latents is None:
        fail("train(latents, labels) was not called")
    if not torch.equal(spy.labels, labels):
        fail("the labels of the latents are those of the pictures")
    if not isinstance(result, tuple | list) or len(result) != 3:
        fail(f"network, latents and pictures are wanted: this is {describe(result)}")
    return spy.latents, result


def mended_g(vae, pictures, labels, train, draw):
    with torch.no_grad():
        vae.fit_latent_stats(pictures)
        latents = vae.normalise(torch.cat([vae.encode(part).mean for part in pictures.split(500)]))
    network = train(latents, labels)
    with torch.no_grad():
        return network, latents, vae.decode(vae.denormalise(draw(network))).clamp(-1, 1)


@check(reference=mended_g, forbidden=[])
def check_mended_g(answer):
    for channels, std in (3, 5.5), (2, 0.2):
        vae, pictures = small_vae(channels, std), pictures_of(40)
        raw = vae.encode(pictures).mean
        latents, result = prepared(answer, vae, pictures, torch.arange(40) % 10, 6)
        if latents.shape != raw.shape:
            compare(latents, raw, where="the latents")
        # one factor for all, or one a channel: both are right
        size = latents.std().item()
        if close(latents, raw, 1e-3):
            fail(f"the network is trained on latents of std {size:.1f}: it is still the patient")
        if not 0.8 < size < 1.25:
            fail(f"the network is trained on latents of std {size:.3g}, which should be 1")
        order = torch.corrcoef(torch.stack([latents[:, 0].flatten(), raw[:, 0].flatten()]))[0, 1]
        if order < 0.99:
            fail("these are no longer the pictures' latents, in another size")
        want, wrong = vae.decode(raw[:6]), vae.decode(latents[:6])
        compare(result[2].clamp(-1, 1), want.clamp(-1, 1), {
            "what is drawn has the size of the noise: the decoder wants raw latents":
                wrong.clamp(-1, 1),
        }, tol=2e-2, where="the pictures")


def mended_h(vae, images, labels, train, draw):
    pictures = images.float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.normalise(torch.cat([vae.encode(part).mean for part in pictures.split(500)]))
    network = train(latents, labels)
    with torch.no_grad():
        return network, latents, vae.decode(vae.denormalise(draw(network))).clamp(-1, 1)


@check(reference=mended_h)
def check_mended_h(answer):
    for channels, n in (3, 40), (2, 25):
        vae = small_vae(channels, 1.0)
        vae.latent_mean.fill_(0.3)
        vae.latent_std.fill_(1.7)
        images = ((pictures_of(n) + 1) * 127.5).round().to(torch.uint8)
        latents, result = prepared(answer, vae, images, torch.arange(n) % 10, 5)

        def encoded(pictures, vae=vae):
            return vae.normalise(vae.encode(pictures).mean)

        unit = images.float() / 255
        compare(latents, encoded(2 * unit - 1), {
            "it is still the patient: its pictures lie in [0, 1]": encoded(unit),
            "these pictures lie in [-0.5, 0.5]": encoded(unit - 0.5),
            "black is 1 and white is -1": encoded(1 - 2 * unit),
            "255 becomes 0.992: divide by 127.5": encoded(images.float() / 128 - 1),
            "these pictures lie in [-1, 0]": encoded(unit - 1),
            "the numbers go from 0 to 255": encoded(images.float()),
            "the latents are not normalised any more": vae.encode(2 * unit - 1).mean,
        }, tol=1e-3, where="the latents")
        want = vae.decode(vae.denormalise(latents[:5]))
        compare(result[2], want.clamp(-1, 1), {
            "the pictures come in [0, 1]": (want.clamp(-1, 1) + 1) / 2,
            "the decoder wants raw latents: denormalise": vae.decode(latents[:5]).clamp(-1, 1),
        }, also=[want], tol=1e-3, where="the pictures")
