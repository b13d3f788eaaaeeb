"""The checks of lesson 18 on films: distances from a path, noise in common, given frames."""

import torch

from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import follows_generator, generator, randn, uniform
from minildm.course.exercises.harness import check
from minildm.data import moving
from minildm.diffusion import films
from minildm.diffusion.films import mixed_noise

# ---- a path that bounces -------------------------------------------------------------------------


def path_distances(points, start, velocity, low, high):
    i = torch.arange(points.shape[1])
    straight = start[:, None] + velocity[:, None] * i[:, None]
    return (points - moving.bounced(straight, low, high)).norm(dim=-1)


@check(reference=path_distances, forbidden=[moving.bounced, moving.paths])
def check_path_distances(answer):
    # the second path crosses its room several times, also backwards from the start
    for n, frames, low, high, speed in ((3, 6, 2.0, 7.0, 0.5), (4, 9, -1.0, 2.5, 5.0)):
        start = low + (high - low) * uniform(n, 2)
        velocity = speed * randn(n, 2, seed=1)
        points = low + (high - low) * uniform(n, frames, 2, seed=2)
        i = torch.arange(frames)[:, None]
        straight = start[:, None] + velocity[:, None] * i
        path = moving.bounced(straight, low, high)

        def off(path, points=points):
            return (points - path).norm(dim=-1)

        answer.case((points, start, velocity, low, high), off(path), {
            "the path runs straight on: it must turn round at low and at high": off(straight),
            "the path stops at the wall: it must come back": off(straight.clamp(low, high)),
            "the path jumps from one wall to the other: it must turn round":
                off((straight - low) % (high - low) + low),
            "the path does not move: add i times the velocity in frame i":
                off(start[:, None].expand_as(points)),
            "the first frame is i = 0: there the path is at its start":
                off(moving.bounced(straight + velocity[:, None], low, high)),
            "low and high are the walls': they are not always 9 and 23":
                off(moving.bounced(straight)),
            "the wall at low is not always 0: subtract it before folding, add it after":
                off(moving.bounced(straight, 0.0, high - low)),
            "the distance is a root: these are squares": off(path).square(),
            "the distance is that of x and y together, not their sum":
                (points - path).abs().sum(-1),
            "the distance sums the squares of x and y; yours takes their mean":
                off(path) / 2**0.5,
            "one distance a frame is wanted, (N, F): yours is averaged": off(path).mean(1),
        }, where=f"{frames} frames, speed {speed:g}, walls at {low:g} and {high:g}")


# ---- noise that frames share ---------------------------------------------------------------------

def film_noise(shape, share, generator):
    return mixed_noise(shape, share, generator)


@check(reference=film_noise, forbidden=[films.mixed_noise])
def check_film_noise(answer):
    for shape, share in (((3, 5, 2, 4, 3), 0.3), ((2, 4, 1, 3, 5), 0.0), ((2, 3, 4, 2, 2), 1.0),
                         ((4, 7, 3), 0.75)):
        got = follows_generator(answer, lambda g, shape=shape, share=share: (shape, share, g))
        g = generator(0)
        common = torch.randn(shape[0], 1, *shape[2:], generator=g)
        own = torch.randn(shape, generator=g)
        g = generator(0)
        own_first = torch.randn(shape, generator=g)
        common_second = torch.randn(shape[0], 1, *shape[2:], generator=g)
        a, b = share**0.5, (1 - share) ** 0.5
        everyone = torch.randn(1, 1, *shape[2:], generator=generator(0))
        compare(got, a * common + b * own, {
            "share is one of variances: multiply by its root, or the noise is too weak":
                share * common + (1 - share) * own,
            "the shares changed places: share 1 is one noise for all frames": b * common + a * own,
            "all frames have one noise: each needs a part of its own": common.expand(shape) + 0,
            "the frames have nothing in common": own_first,
            "the sum has a variance above 1: give each part its share": common + own,
            "each film has a common part of its own: (B, 1, ...)": everyone + 0 * own,
        }, also=[a * common_second + b * own_first], where=f"shape {shape}, share {share}")
        answer.right += 1


# ---- frames that are given -----------------------------------------------------------------------

def wave_network(x, t, words):
    """A fake network of films whose answer for a frame depends on all frames and on its time."""
    if t.shape != x.shape[:2]:
        fail(f"each frame has a time of its own: t is (B, F) = {tuple(x.shape[:2])}, "
             f"it got {tuple(t.shape)}")
    around = x.mean(1, keepdim=True) + 0.3 * x.flip(1)
    told = 0.1 * words.float().mean(1).reshape(-1, 1, 1, 1, 1)
    # of its own time and of all frames' times
    known_times = 0.5 + t + t.mean(1, keepdim=True)
    return torch.sin(x + around) * known_times[..., None, None, None] + told


def continued(network, known):
    k = known.shape[1]

    def denoise(x, t, words):
        x = torch.cat([known, x[:, k:]], dim=1)
        times = torch.full(x.shape[:2], float(t))
        times[:, :k] = 0
        x0 = x - times[..., None, None, None] * network(x, times, words)
        return torch.cat([known, x0[:, k:]], dim=1)

    return denoise


@check(reference=continued, forbidden=[films.continued])
def check_continued(answer):
    for (n, frames, *size), k, t in (((3, 5, 2, 4, 3), 2, 0.7), ((2, 4, 1, 3, 2), 3, 0.25)):
        known, x = randn(n, k, *size), randn(n, frames, *size, seed=1)
        words, t = torch.arange(2 * n).reshape(n, 2), torch.tensor(t)
        denoise = answer.wrap(answer(wave_network, known), "a function of x, t and words",
                              ["x", "t", "words"])
        denoise.right = answer.right

        def made(inside, told, outside, known=known, x=x, t=t, words=words, k=k, frames=frames):
            """x0 with the given frames put in, told their time, and put out, or not."""
            asked = torch.cat([known, x[:, k:]], 1) if inside else x
            times = torch.full((len(x), frames), t.item())
            if told:
                times[:, :k] = 0
            x0 = asked - times[..., None, None, None] * wave_network(asked, times, words)
            return torch.cat([known, x0[:, k:]], 1) if outside else x0

        asked = torch.cat([known, x[:, k:]], 1)
        times = torch.full((n, frames), t.item())
        times[:, :k] = 0
        prediction = wave_network(asked, times, words)
        denoise.case((x, t, words), made(True, True, True), {
            "the given frames are not shown to the network: put them into x":
                made(False, True, True),
            "the network is told t for the given frames too: their time is 0":
                made(True, False, True),
            "that is lesson 11's way: show the frames clean, and say so by t = 0":
                made(False, False, True),
            "the answer is x0 = x - t times the prediction, not the prediction":
                torch.cat([known, prediction[:, k:]], 1),
            "x0 = x - t times the prediction: the sign": torch.cat(
                [known, (asked + t * prediction)[:, k:]], 1),
            "x0 = x - t times the prediction: t is missing": torch.cat(
                [known, (asked - prediction)[:, k:]], 1),
            "the given frames are the first ones, not the last": torch.cat(
                [made(False, False, False)[:, :-k], known], 1),
        }, where=f"{k} of {frames} frames given")
        answer.right = denoise.right
