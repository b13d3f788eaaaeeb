"""Numbers that name a mistake which no loss shows: `look_over(model, images, labels)`.

The loss of a run with shuffled labels, a wrong null label or a misread prediction looks like any
other. What gives it away is asked of the trained model, in a second or two: of its pictures, its
latents, its guess, its labels and of what it draws. `judge` holds the numbers against the bounds
of healthy models, in the order in which one looks for a mistake: the first that is left is the
nearest to the cause, and those after it may follow from it.
"""

from collections.abc import Callable

import torch

from minildm import MinildmError
from minildm.diffusion.denoiser import PREDICTION_TYPES, Denoiser
from minildm.diffusion.guidance import guided
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import Schedule, add_noise, at_ratio, cosine, flow, linear
from minildm.images import pad_to, to_float
from minildm.training.monitor import Bound, Violation

SCHEDULES = {"flow": flow, "cosine": cosine, "linear": linear}
TIMES = 0.3, 0.5, 0.7       # where the guess is asked for
LABEL_TIME = 0.8            # so noisy that the label tells something
STEPS = 20                  # of the sampler

# Checked on ten healthy models and on ten of each mistake by benchmarks/monitor.py.
BOUNDS = (
    Bound("least_pixel", 1, -1.5, -0.5, "these pictures do not lie in [-1, 1]",
          "data.to_float(images), or images * 2 - 1"),
    Bound("copy_error", 1, 0, 0.15, "the VAE does not give these pictures back",
          "look at its weights, and at how pictures are prepared for it"),
    Bound("latent_std", 1, 0.8, 1.25, "the latents do not have the size of the noise",
          "vae.fit_latent_stats(images); normalise before the denoiser, denormalise after it"),
    Bound("two_calls", 1, 0, 1e-3, "the same question gets two answers: dropout is on",
          "model.eval() before drawing"),
    Bound("loaded_part", 1, 1, 1, "some of the saved tensors are not in this network",
          "load_state_dict(strict=True); compare the names of both sides"),
    Bound("average_gap", 1, 0, 1e-3, "these are not the averaged weights",
          "load the average (EMA) into the network that draws"),
    Bound("misread", 1, 0, 1.05, "another prediction type or schedule reads this network better",
          "take those of the training: see best_reading"),
    Bound("against_linear", 1, 0, 1, "the guess is worse than a factor times x_t",
          "train longer; look at the times, and for weights that were not loaded"),
    Bound("label_gain", 1, 0.02, 1, "the labels do not help to guess the data",
          "look at a few pictures of training beside their labels"),
    Bound("null_off", 1, 0, 0.5, "the null's answer is not the mean of the classes' answers",
          "guide away from the label that was dropped in: network.null_context"),
    Bound("drawn_std", 1, 0.8, 1.3, "what is drawn does not have the size of the data",
          "look at the sampler: its times from 1 to 0, its schedule, its first noise"),
    Bound("labels_read", 1, 0.4, 1, "what is drawn is not read as what was asked for",
          "look at the sampler and the guidance; train longer"),
)


def judge(numbers: dict[str, float]) -> list[Violation]:
    """The bounds that these numbers leave, the cause first; NaN leaves every bound."""
    return [Violation(bound, numbers[bound.metric]) for bound in BOUNDS
            if bound.metric in numbers and not bound.low <= numbers[bound.metric] <= bound.high]


# ---- what is asked of a guess: guess(x, t, labels) -> data, null_guess(x, t) -> data

def squared_error(guess: Callable, schedule: Schedule, data, labels, t: float, generator):
    """E |guess - data|^2, a number's mean, at one time."""
    noise = torch.randn(data.shape, generator=generator)
    t = torch.tensor(t)
    x = add_noise(schedule, data, noise, t)
    return (guess(x, t, labels) - data).square().mean()


def against_linear(guess: Callable, schedule: Schedule, data, labels, t: float, generator):
    """The guess's squared error over that of the best factor times x_t.

    With data of mean 0 and variance v, k x_t has its least error, v sigma^2 / (alpha^2 v +
    sigma^2), at k = alpha v / (alpha^2 v + sigma^2): Wiener's filter for white noise.
    """
    error = squared_error(guess, schedule, data, labels, t, generator)
    v, at = data.var(), torch.tensor(t)
    alpha, sigma = schedule.alpha(at), schedule.sigma(at)
    return error * (alpha**2 * v + sigma**2) / (v * sigma**2)


def label_gain(guess: Callable, null_guess: Callable, schedule: Schedule, data, labels, t: float,
               generator):
    """The share of the squared error that knowing the labels takes away, with the same noise."""
    # the same noise twice: the gain is a small difference
    state = generator.get_state()
    told = squared_error(guess, schedule, data, labels, t, generator)
    generator.set_state(state)
    untold = squared_error(lambda x, t, _: null_guess(x, t), schedule, data, labels, t, generator)
    return 1 - told / untold


def null_off(guess: Callable, null_guess: Callable, noise, classes: int):
    """How far the null's answer to pure noise is from the mean of the classes' answers.

    In units of how far the classes' are, squared. At t = 1 nothing is known of the data: a class's
    answer is E[data | c], the null's E[data], which is their mean where all are equally frequent.
    """
    t = torch.tensor(1.0)
    labels = torch.arange(classes)
    answers = torch.stack([guess(noise, t, label.expand(len(noise))) for label in labels])
    mean = answers.mean(0)
    spread = (answers - mean).square().mean()
    return (null_guess(noise, t) - mean).square().mean() / spread


def two_calls(guess: Callable, x, t, labels):
    """The difference of two answers to one question, relative to the answer."""
    first, second = guess(x, t, labels), guess(x, t, labels)
    return (first - second).square().mean().sqrt() / first.square().mean().sqrt()


def average_gap(weights: dict, saved: dict):
    """The distance of weights to those of the same names that were saved, over the length of these.
    """
    common = weights.keys() & saved.keys()
    apart = sum((weights[name] - saved[name]).double().square().sum() for name in common)
    length = sum(saved[name].double().square().sum() for name in common)
    return (apart / length).sqrt() if common else torch.tensor(1.0)


def loaded_part(weights: dict, saved: dict) -> float:
    """The share of the saved tensors that the network has, where it has some of them; else 1.

    None at all are another set of weights, as those that were not averaged: see `average_gap`.
    """
    # bit for bit: a loaded tensor is the saved one
    there = [name in weights and torch.equal(weights[name], saved[name]) for name in saved]
    return sum(there) / len(there) if any(there) else 1.0


def best_reading(denoiser: Denoiser, data, labels, seed: int = 0) -> dict[tuple, float]:
    """{(prediction type, schedule): squared error}, least first: how a network may be read.

    Schedules are "own", the denoiser's, and those of `SCHEDULES` that are others. All are asked at
    times of one signal-to-noise ratio, so that x_t tells equally much of the data.
    """
    own = denoiser.schedule
    schedules = {"own": own}
    schedules |= {name: other for name, other in SCHEDULES.items() if other != own}
    t = torch.tensor(TIMES, dtype=torch.float64)
    ratio = own.sigma(t) / own.alpha(t)
    found = {}
    for name, schedule in schedules.items():
        times = TIMES if schedule is own else at_ratio(schedule, ratio).tolist()
        for kind in PREDICTION_TYPES:
            read = Denoiser(denoiser.network, schedule, kind, t_offset=denoiser.t_offset)
            # the same draws for each reading
            generator = torch.Generator().manual_seed(seed)
            errors = [squared_error(read, schedule, data, labels, t, generator) for t in times]
            found[kind, name] = (sum(errors) / len(errors)).item()
    return dict(sorted(found.items(), key=lambda item: item[1]))


# ---- a whole model

@torch.no_grad()
def look_over(model, images, labels, classifier: Callable | None = None,
              saved: dict | None = None, draw: Callable | None = None,
              seed: int = 0, many: int = 100) -> dict[str, float]:
    """The numbers of a `LatentDiffusion` on the CPU, by the names of `BOUNDS`.

    images (N, C, H, W), uint8 or what is fed to the VAE, of the labels (N,); a hundred will do.
    classifier: pictures to logits. saved: the averaged weights of a checkpoint, by name.
    draw(labels) -> latents takes the place of the model's own sampler; `many` are drawn. Numbers
    whose parts are missing are left out.
    """
    if not hasattr(model.conditioner, "null_label"):
        raise MinildmError("this model draws no labels", "look_over",
                           "use squared_error and against_linear with its own guess")
    pictures = to_float(images) if images.dtype == torch.uint8 else images
    numbers, data = of_pictures(model, pictures)
    numbers |= of_guess(model, data, labels, seed)
    if saved is not None:
        weights = model.denoiser.network.state_dict()
        numbers["loaded_part"] = loaded_part(weights, saved)
        numbers["average_gap"] = average_gap(weights, saved)
    numbers |= of_drawing(model, data, classifier, draw or sampler_of(model, seed), many)
    return {name: float(value) for name, value in numbers.items()}


def of_pictures(model, pictures) -> tuple[dict, torch.Tensor]:
    """Numbers of pictures (N, C, H, W) as they are fed to the VAE, and their latents."""
    vae, (_, height, _) = model.vae, model.latent_shape
    padded = pad_to(pictures, height * model.latent_space.stride)
    raw = vae.encode(padded).mean
    copies = vae.decode(raw)
    data = vae.normalise(raw)
    return {"least_pixel": pictures.min(), "copy_error": (copies - padded).abs().mean(),
            "latent_std": data.std()}, data


def of_guess(model, data, labels, seed: int) -> dict:
    """Numbers of the denoiser's guess for latents (N, c, h, w) of the labels (N,)."""
    denoiser, classes = model.denoiser, len(model.class_names)
    context, null = model.conditions(labels)

    def null_guess(x, t):
        return denoiser(x, t, null[:len(x)])

    def source():
        return torch.Generator().manual_seed(seed)

    schedule = denoiser.schedule
    readings = best_reading(denoiser, data, context, seed)
    noise = torch.randn(data.shape, generator=source())
    return {
        "two_calls": two_calls(denoiser, noise, torch.tensor(0.5), context),
        "misread": readings[denoiser.prediction_type, "own"] / min(readings.values()),
        "against_linear": max(against_linear(denoiser, schedule, data, context, t, source())
                              for t in TIMES),
        "label_gain": label_gain(denoiser, null_guess, schedule, data, context, LABEL_TIME,
                                 source()),
        "null_off": null_off(denoiser, null_guess, noise[:20], classes),
    }


def sampler_of(model, seed: int) -> Callable:
    """The model's own way to draw latents of labels (N,), with its guidance."""
    def draw(labels):
        context, null = model.conditions(labels)
        denoise = guided(model.denoiser, context, null, model.guidance)
        noise = model.noise(len(context), seed)
        return last(ddim(denoise, model.denoiser.schedule, noise, model.times(STEPS)))

    return draw


def of_drawing(model, data, classifier, draw: Callable, many: int) -> dict:
    """Numbers of so many latents that `draw` makes, beside those of the data."""
    # all classes equally often
    labels = torch.arange(many) % len(model.class_names)
    latents = draw(labels)
    numbers = {"drawn_std": latents.std() / data.std()}
    if classifier is not None:
        read = classifier(model.decode(latents)).argmax(1)
        numbers["labels_read"] = (read == labels).float().mean()
    return numbers

