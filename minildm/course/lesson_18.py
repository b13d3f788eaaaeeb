"""What lesson 18 and its benchmark do with films: show them, draw with closed gates, judge them."""

import copy

import torch

from minildm.course import films
from minildm.course.plotting import running_mean, show_images
from minildm.data.moving import HIGH, LOW
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.films import film_loss
from minildm.diffusion.guidance import Cfg, Interval, guided
from minildm.films import NOTHING

CONTINUED = 1.0     # pixels, mean over the drawn frames, up to which a continued path is right


def show_films(clips, names, alt: str):
    """Show films (N, F, 1, H, W), a row each, with their names."""
    show_images(clips.flatten(0, 1), cols=clips.shape[1], row_names=names, alt=alt)


def told_apart(denoiser: Denoiser, words, scale: float):
    """denoise(x, t), guided at 0.3 < t <= 0.95 as the zoo's model is; scale 1 is without guidance.
    """
    null = torch.full_like(words, NOTHING)
    guidance = () if scale == 1 else (Interval(Cfg(scale), 0.3, 0.95),)
    return guided(denoiser, words, null, guidance)


def as_denoiser(model, network) -> Denoiser:
    """The model's denoiser with another network in it."""
    known = model.denoiser
    return Denoiser(network, known.schedule, known.prediction_type, known.times)


def with_closed_gates(denoiser: Denoiser) -> Denoiser:
    """A copy whose temporal layers do nothing: the image network, frame by frame."""
    shut = copy.deepcopy(denoiser)
    for layer in shut.network.temporal_layers():
        layer.init_weights()
    return shut


@torch.no_grad()
def loss_of(denoiser: Denoiser, latents, words, draws: int = 8, seed: int = 0) -> float:
    """The films' loss, each film at `draws` times: the same films, times and noise at every call.
    """
    generator = torch.Generator().manual_seed(seed)
    share = denoiser.network.config.noise_share
    found = [film_loss(denoiser, latents, words, generator, share)["loss"] for _ in range(draws)]
    return torch.stack(found).mean().item()


def smoothed(losses: list[float]):
    """The running mean of losses over a fifth of them."""
    return running_mean(torch.tensor(losses), max(1, len(losses) // 5))


# ---- measures

def measures(clips, labels, classifier, path_distances) -> dict[str, float]:
    """What films show, by distances from a path (points, start, velocity, low, high) -> (N, F)."""
    points = films.centres_of(clips)
    found = films.fit_paths(points)
    distances = path_distances(points, found.start, found.velocity, LOW, HIGH)
    found = found._replace(distances=distances)
    read = films.digits_of(clips, classifier)
    return {"same digit": (read == read[:, :1]).all(1).float().mean().item(),
            "as asked": (read == labels[:, None]).all(1).float().mean().item(),
            "path error": found.error.mean().item(),
            "path right": found.right.float().mean().item(),
            "flicker": films.flicker(clips).mean().item()}


def predictions(ways: dict, truth, path_distances, given: int = 2) -> dict[str, dict]:
    """How far continued films are from the truth in the frames that were drawn, in pixels.

    The last row is a rule: straight on from the first two frames of the first entry.
    """
    true = truth.positions[:, :, 0]
    errors = {}
    for name, clips in ways.items():
        errors[name] = (films.centres_of(clips) - true).norm(dim=-1)
    points = films.centres_of(next(iter(ways.values())))
    errors["straight on, by rule"] = path_distances(true, points[:, 0], points[:, 1] - points[:, 0],
                                                    LOW, HIGH)
    table = {}
    for name, error in errors.items():
        drawn = error[:, given:].mean(1)
        table[name] = {"error": drawn.mean().item(), "last frame": error[:, -1].mean().item(),
                       "right": (drawn < CONTINUED).float().mean().item()}
    return table


# ---- what the benchmark kept

NAMES = {"real": "real films", "copies": "the VAE's copies",
         "closed, share 0": "gates closed, noise independent",
         "closed, share 0.5": "gates closed, half of the noise shared",
         "closed, share 1": "gates closed, one noise", "trained": "trained, by label",
         "captions": "trained, by caption"}
COLUMNS = ("same digit", "as asked", "path error", "path right", "flicker", "FD in floors")


class Results:
    """The numbers of `stored("video")`: an arm and what was measured of it, a value per seed."""

    def __init__(self, kept: dict):
        self.kept = kept

    def values(self, arm: str, name: str) -> list[float]:
        return [found[name] for found in self.kept["arms"][arm].values()]

    def mean(self, arm: str, name: str) -> float:
        values = self.values(arm, name)
        return sum(values) / len(values)

    def spread(self, arm: str, name: str) -> str:
        """The mean of the seeds, and from where to where they go."""
        values = self.values(arm, name)
        if len(values) == 1:
            return f"{values[0]:.2f}"
        return f"{self.mean(arm, name):.2f} ({min(values):.2f} to {max(values):.2f})"

    def of(self, arm: str) -> str:
        """How many films of how many seeds an arm has."""
        seeds = len(self.kept["arms"][arm])
        n = self.kept["n"] if arm in ("real", "copies", "trained") else self.kept["few"]
        return f"{n} films, {seeds} seed{'s' if seeds > 1 else ''}"

    def table(self) -> dict[str, dict]:
        """Rows of means as `tables.print_table` takes them."""
        return {title: {name: self.mean(arm, name) for name in COLUMNS}
                for arm, title in NAMES.items()}

    def predicted(self) -> dict[str, dict]:
        """The same of the predictions."""
        ways = ("real", "masked step", "told clean", "straight on, by rule")
        names = ("error", "last frame", "right")
        return {way: {name: self.mean("prediction", f"{way}, {name}") for name in names}
                for way in ways}


def claims(kept: Results, reached: dict[str, float]) -> list[tuple]:
    """The rows of the lesson's last table; `reached` are the losses of its two short trainings."""
    def row(text, arm, name, holds):
        verdict = "holds" if holds(kept.mean(arm, name)) else "refuted here"
        return text, f"{name} {kept.spread(arm, name)}", kept.of(arm), verdict

    first, own = kept.mean("closed, share 0", "same digit"), kept.mean("trained", "same digit")
    path = {arm: kept.mean(arm, "path error") for arm in ("closed, share 0", "trained", "real")}
    error = {way: kept.mean("prediction", f"{way}, error")
             for way in ("masked step", "told clean", "straight on, by rule")}
    flick = kept.mean("trained", "flicker") / kept.mean("real", "flicker")
    beside = f"{kept.of('trained')} (closed gates: {kept.kept['few']} films)"
    return [
        ("Frames drawn independently are no film",
         f"same digit in all frames {first:.2f}; path error {path['closed, share 0']:.1f} pixels",
         kept.of("closed, share 0"), "holds" if path["closed, share 0"] > 2 else "refuted here"),
        ("One noise for all frames makes them agree, and nothing moves",
         f"same digit {kept.mean('closed, share 1', 'same digit'):.2f}; path right "
         f"{kept.mean('closed, share 1', 'path right'):.2f}", kept.of("closed, share 1"),
         "holds" if kept.mean("closed, share 1", "path right") < 0.05 else "refuted here"),
        ("A temporal prior makes frames agree",
         f"same digit {own:.2f} against {first:.2f}; path error {path['trained']:.2f} against "
         f"{path['closed, share 0']:.2f}, real {path['real']:.2f}", beside,
         "holds partly" if path["trained"] > 0.4 or own < 0.85 else "holds"),
        arms_of(reached),
        row("Drawn digits follow a path as real ones do (right in 0.6 or more)", "trained",
            "path right", lambda x: x >= 0.6),
        ("Drawn digits flicker at most twice as much as real ones",
         f"{flick:.1f} times real films'", kept.of("trained"),
         "holds" if flick <= 2 else "refuted here"),
        ("The frames alone are nearly as good as real ones",
         f"{kept.mean('trained', 'FD in floors'):.2f} floors; independent frames have "
         f"{kept.mean('closed, share 0', 'FD in floors'):.2f}", beside, "not resolved"),
        ("A network that is shown the given frames continues better than the masked step",
         f"error {error['told clean']:.2f} against {error['masked step']:.2f} pixels; straight on "
         f"by rule {error['straight on, by rule']:.2f}", kept.of("prediction"),
         "holds" if error["told clean"] < 0.8 * error["masked step"] else "not resolved"),
        row("Seven in ten continued films are right", "prediction", "told clean, right",
            lambda x: x >= 0.7),
    ]


def arms_of(reached: dict[str, float]) -> tuple:
    """The row about the two kinds of temporal layers."""
    closed, alone, together = (reached[name] for name in (
        "gates closed", "each token by itself", "all frames together"))
    holds = closed - together > 2 * (closed - alone)
    return ("A layer that receives all frames at once learns more in few steps than one that "
            "sees each token by itself, each at its own rate", f"loss {together:.2f} against "
            f"{alone:.2f}, closed gates {closed:.2f}", "12 films, 1 seed, 120 steps",
            "holds" if holds else "refuted here")
