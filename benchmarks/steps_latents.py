"""How many steps a flow and its rivals need to draw digits: small U-Nets on a VAE's latents.

The latents are those of the zoo's `mnist-unet`, all three of whose channels are used. The networks
are told no label and drawn without guidance, so what digit it will be is decided on the way. Arms
as in `steps_plane`; each learning rate is the best of three in short trainings, by the error of the
arm's own guess of the data on held-out digits.
"""

import torch

from minildm import LatentDiffusion, data
from minildm.diffusion.denoiser import Denoiser, on_schedule
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import add_noise, cosine, flow, linear, time_grid
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.evaluation.metrics import frechet_distance
from minildm.latents import encode_all, sample_latents
from minildm.nn.unet import UNet, UNetConfig
from minildm.training.loop import TrainConfig, fit

STEPS = 3, 5, 10, 20, 50
MANY = 100          # steps whose end stands for the exact one
SEEDS = (0,)        # three arms of one seed take 5 minutes of a core of its own
RATES = 2e-3, 4e-3, 8e-3
N, FEW = 500, 150       # drawn; of these, those whose end after many steps is found as well
TRAIN, SHORT, BATCH = 600, 60, 64
DIGITS = 12_000
LEVELS = torch.linspace(-4, 5, 7)       # log(sigma / alpha) at which guesses are compared
ARMS = {"flow on flow": ("flow", flow), "v on cosine": ("v", cosine),
        "eps on linear": ("eps", linear)}
NETWORK = UNetConfig(3, 3, (16, 32), (False, False), blocks=1, context_dim=0, heads=4, groups=8)


class Digits:
    """Latents to train on, others that are held out, and what drawn ones are compared with."""

    def __init__(self):
        self.model = LatentDiffusion.load("mnist-unet")
        vae = self.model.vae
        images = data.load("mnist", pad=32)
        self.latents = encode_all(vae, images.images[:DIGITS])
        held_out = encode_all(vae, images.images[-300:])
        self.held_out = sample_latents(*held_out, torch.Generator().manual_seed(0))
        self.classifier = load_classifier("mnist")
        # from behind those for training: as many for the floor, and 10,000 others
        self.features = self.of(images.images[DIGITS:DIGITS + N + 10_000])

    @torch.no_grad()
    def of(self, images):
        """Features of pictures of either size."""
        side = images.shape[-1]
        border = (side - 28) // 2
        cut = images[..., border:side - border, border:side - border]
        return in_batches(self.classifier.features, cut)

    def distance(self, features) -> float:
        return frechet_distance(features, self.features[N:])


def trained(arm: str, seed: int, lr: float, steps: int, digits: Digits) -> Denoiser:
    """A network of this arm after `steps` steps."""
    kind, schedule = ARMS[arm]
    torch.manual_seed(seed)
    model = Denoiser(UNet(NETWORK), schedule, kind)

    def loss(mean, std, generator):
        return model.loss(sample_latents(mean, std, generator), generator=generator)

    config = TrainConfig(steps, BATCH, lr, ema=0.98, seed=seed, precision="float32")
    fit(model, loss, tuple(digits.latents), config, bar=False)
    return model.eval()


@torch.no_grad()
def guess_errors(model: Denoiser, digits: Digits) -> list[float]:
    """The mean squared error of the guess of the data at equal sigma / alpha."""
    guess = on_schedule(model, model.schedule, flow)
    noise = torch.randn(digits.held_out.shape, generator=torch.Generator().manual_seed(1))
    times = torch.sigmoid(LEVELS)       # on flow sigma / alpha = t / (1 - t)
    errors = []
    for t in times:
        x = add_noise(flow, digits.held_out, noise, t)
        errors.append((guess(x, t) - digits.held_out).square().mean().item())
    return errors


def chosen_rate(arm: str, digits: Digits) -> dict:
    """The mean logarithm of the guess's error after a short training at each rate, seed 100."""
    scores = {}
    for lr in RATES:
        errors = guess_errors(trained(arm, 100, lr, SHORT, digits), digits)
        scores[lr] = torch.tensor(errors).log().mean().item()
    return {"lr": min(scores, key=scores.get), "tried": list(scores.items())}


def judged(arm: str, seed: int, lr: float, digits: Digits) -> dict:
    """Of one training: Frechet distances, and distances from its own many steps, by steps."""
    model = trained(arm, seed, lr, TRAIN, digits)
    noise = digits.model.noise(N, seed=seed)
    fd = []
    for k in STEPS:
        end = last(ddim(model, model.schedule, noise, time_grid(k)))
        fd.append(digits.distance(digits.of(digits.model.decode(end))))
    off = {arm: distances_from_many(model, model.schedule, noise[:FEW])}
    if arm == "eps on linear":
        moved = on_schedule(model, model.schedule, flow)
        off["eps on linear, walked on flow's times"] = distances_from_many(moved, flow, noise[:FEW])
    if arm == "flow on flow":
        moved = on_schedule(model, flow, linear)
        off["flow on flow, walked on linear's times"] = distances_from_many(
            moved, linear, noise[:FEW])
    return {"errors": guess_errors(model, digits), "fd": fd, "off": off}


def distances_from_many(denoise, schedule, noise) -> list[float]:
    """The root mean square distance of latents from those that many steps lead to, by steps."""
    exact = last(ddim(denoise, schedule, noise, time_grid(MANY)))
    ends = [last(ddim(denoise, schedule, noise, time_grid(k))) for k in STEPS]
    return [(end - exact).square().mean().sqrt().item() for end in ends]


def measured(keep) -> dict:
    """All of it; `keep(name, function)` calls the function, or knows what it returned before."""
    digits = Digits()
    rates, fd, off, errors = {}, {}, {}, {}
    for arm in ARMS:
        rates[arm] = keep(f"latents, rate, {arm}", lambda arm=arm: chosen_rate(arm, digits))
    for seed in SEEDS:
        for arm in ARMS:
            found = keep(f"latents, {arm}, seed {seed}", lambda arm=arm, seed=seed: judged(
                arm, seed, rates[arm]["lr"], digits))
            errors.setdefault(arm, []).append(found["errors"])
            fd.setdefault(arm, []).append(found["fd"])
            for row, values in found["off"].items():
                off.setdefault(row, []).append(values)
    return {"steps": STEPS, "n": N, "seeds": SEEDS, "rates": rates, "fd": fd, "off": off,
            "levels": LEVELS.tolist(), "errors": errors,
            "floor": digits.distance(digits.features[:N])}
