"""The checks of lesson 07 on training: captions that are dropped, the loss, and the loop."""

import torch

from minildm.course.exercises.compare import check_dtype, close, compare, describe, fail
from minildm.course.exercises.fakes import expand, follows_generator, generator, randn, warped
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_08_training import train
from minildm.course.exercises.spied import Slope, judge_rows, judge_slope
from minildm.diffusion import denoiser
from minildm.diffusion.schedules import add_noise, cosine
from minildm.training import loop


def drop_captions(ids, empty, share, generator):
    dropped = torch.rand(len(ids), 1, generator=generator) < share
    return torch.where(dropped, empty, ids)


# captions, their length, the share: so many that it is met to 0.025, four standard deviations
CAPTIONS = (6000, 5, 0.1), (7000, 3, 0.35), (8000, 4, 0.8)
CLOSE = 0.025


@check(reference=drop_captions, forbidden=[denoiser.drop_context])
def check_drop_captions(answer):
    for count, length, share in CAPTIONS:
        ids, empty = distinct(count, length)
        got = follows_random_rows(answer, ids, empty, share)
        judge_share(rows_dropped(got, ids, empty), share)
        check_dtype(got, ids)


def distinct(count: int, length: int):
    """Captions (count, length), no two alike, and an empty one that shares no token with them."""
    ids = (torch.arange(count * length) * 7919 % 99991 + 100).view(count, length)
    return ids, torch.arange(length).flip(0)[None] + 1


def follows_random_rows(answer, ids, empty, share):
    """The answer's result, once it is known to be a tensor of ids, from the generator alone."""
    # what is wrong with one result is told before what is wrong with its seed
    once = answer(ids, empty, share, generator())
    if isinstance(once, tuple):
        fail(f"return the ids alone: this is {describe(once)}")
    if not isinstance(once, torch.Tensor) or once.shape != ids.shape:
        # words for it, as it can't be right
        compare(once, ids)
    if torch.equal(once, ids):
        fail(f"no caption is dropped, a share of {share} is wanted")
    # all the same whatever the seed, which is no fault of the seed
    if torch.equal(once, empty.expand_as(ids)):
        judge_share(torch.ones(len(ids)), share)
    rows_dropped(once, ids, empty)
    return follows_generator(answer, lambda seeded: (ids, empty, share, seeded))


def rows_dropped(got, ids, empty):
    """Which rows became empty, (B,) bool, or why the rows are not the ids' or empty."""
    dropped = (got == empty).all(1)
    kept = (got == ids).all(1)
    strange = got[~(dropped | kept)]
    if not len(strange):
        return dropped
    # zeros, or one token in the place of all
    if (strange == strange[:, :1]).all():
        fail("a dropped caption becomes `empty`, not one number all along")
    in_part = (got == ids) | (got == empty)
    if in_part.all():
        fail("some captions are half dropped: one draw for a caption, not one for a token")
    fail("a row is neither a caption nor the empty one: captions are kept whole or replaced whole")


def judge_share(dropped, share):
    found = dropped.float().mean().item()
    if found in (0.0, 1.0):
        fail("all or nothing is dropped: one draw for a caption, not one for a batch")
    if abs(found - share) > CLOSE:
        if abs(found - (1 - share)) < CLOSE:
            fail("the wrong ones are dropped: those that should be kept, and not the others")
        if abs(found - 0.1) < CLOSE:
            fail(f"the share is the third argument, {share} here: a tenth is dropped all the same")
        fail(f"{found:.2f} of the captions are dropped, {share} is wanted")
    halves = dropped.float().unflatten(0, (2, -1)).mean(1)
    # a half has half as many, so its share is met less closely
    if (halves - share).abs().max() > 2 * CLOSE:
        fail("captions of one end of the batch are dropped: each has the same chance")


# ---- the loss ------------------------------------------------------------------------------------

def caption_loss(network, schedule, images, ids, generator):
    t = torch.rand(len(images), generator=generator).sqrt()
    noise = torch.randn(images.shape, generator=generator)
    x_t = add_noise(schedule, images, noise, t)
    return (network(x_t, t, ids) - images).square().mean()


class Asked:
    """A fake network for pictures and captions that keeps what it is asked, and what it answers."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, ids, said=None):
        t = torch.as_tensor(t)
        if t.shape != x.shape[:1]:
            fail(f"each picture has a time of its own, (B,) = ({len(x)},): this is "
                 f"{tuple(t.shape)}")
        if not isinstance(ids, torch.Tensor) or ids.shape[:1] != x.shape[:1]:
            fail(f"the network is told a caption for each picture: this is {describe(ids)}")
        told = torch.cos(ids.float().mean(1))
        said = torch.sin(x) + 0.1 * expand(t, x) + 0.2 * expand(told, x)
        self.calls.append((x.clone(), t.clone(), ids.clone(), said))
        return said


@check(reference=caption_loss, forbidden=[denoiser.Denoiser, denoiser.Denoiser.loss])
def check_caption_loss(answer):
    n = 3000
    for schedule, shape in (cosine, (n, 2, 3, 1)), (warped, (n, 3, 2, 2)):
        images, (ids, _) = 0.5 + randn(*shape, seed=7), distinct(n, 4)
        network = Asked()
        loss = answer(network, schedule, images, ids, generator())
        if len(network.calls) != 1:
            fail(f"the network is asked {len(network.calls)} times: once for the batch")
        x, t, told, said = network.calls[0]
        judge_times(t)
        if x.shape != images.shape:
            fail(f"the network is given x_t, {tuple(images.shape)}: this is {tuple(x.shape)}")
        if not torch.equal(told, ids):
            fail("the network is told the captions as they are: dropping is a function of its own")
        noise = implied_noise(x, t, images, schedule)
        error = said - images
        compare(loss, error.square().mean(), {
            "a sum, the mean over all numbers is wanted": error.square().sum(),
            "summed over the numbers of a picture, then a mean: the mean over all is wanted":
                error.square().sum() / n,
            "one number: the mean over the batch too": error.square().mean((1, 2, 3)),
            "the square is missing: that is the mean absolute error": error.abs().mean(),
            "the root of the mean square: no root": error.square().mean().sqrt(),
            "half the loss": error.square().mean() / 2,
            "the target is the clean picture, not the noise": (said - noise).square().mean(),
            "the target is the clean picture, not a velocity":
                (said - (noise - images)).square().mean(),
            "the target is the clean picture, not x_t": (said - x).square().mean(),
        }, tol=1e-3, where=f"pictures {shape[1:]}")
        follows_generator(
            answer, lambda g, s=schedule, x0=images, c=ids: (Asked(), s, x0, c, g))
        answer.right += 1


def judge_times(t):
    if t.min() < 0 or t.max() > 1:
        fail("times lie between 0 and 1")
    if t.std() < 1e-6:
        fail("each picture has a time of its own")
    if abs(t.mean() - 0.5) < 0.05 and abs(t.std() - 0.2887) < 0.03:
        fail("these times are uniform: take their root")
    # the root of a uniform number has mean 2 / 3 and variance 1 / 18
    if abs(t.mean() - 0.6667) > 0.05 or abs(t.std() - 0.2357) > 0.03:
        fail("times are the root of a uniform number on [0, 1]: yours have mean "
             f"{t.mean():.2f}, std {t.std():.2f}")


def implied_noise(x, t, images, schedule):
    """The noise in x_t, which is standard normal, unless x_t was mixed wrongly."""
    if close(x, images):
        fail("the network must see noisy x_t, not the clean pictures")
    at = expand(t, x)
    noise = (x - schedule.alpha(at) * images) / schedule.sigma(at)
    # near the data rounding decides
    clear = t > 0.05
    seen = noise[clear]
    spread = torch.stack([seen.mean(), seen.std() - 1, seen.flatten(1).std(0).sub(1).abs().max()])
    if spread.abs().max() > 0.1:
        fail("x_t = alpha(t) picture + sigma(t) noise, with noise of unit size and the schedule "
             "that is given: they are mixed otherwise here")
    if abs(torch.corrcoef(torch.stack([seen.flatten(), images[clear].flatten()]))[0, 1]) > 0.1:
        fail("the noise is drawn anew for each number, whatever the pictures are")
    by_pixel = torch.corrcoef(seen.flatten(1).T).fill_diagonal_(0)
    if by_pixel.abs().max() > 0.2:
        fail("each number of a picture has a noise of its own")
    return noise


# ---- the loop ------------------------------------------------------------------------------------

def fit_captions(network, loss, images, ids, steps, generator, batch_size=32, lr=4e-3):
    return train(network, loss, images, ids, steps, generator, batch_size, lr)


@check(reference=fit_captions, forbidden=[loop.fit, loop.train])
def check_fit_captions(answer):
    # many draws from few pictures in the last, where none may be left out
    for steps, size, lr, count in (12, 8, 0.01, 60), (5, 16, 0.2, 60), (60, 8, 0.02, 12):
        # a picture's own number can be read off it, and off its caption
        images = torch.arange(count + 0.0).view(-1, 1, 1, 1)
        ids = torch.arange(count)[:, None].expand(-1, 3)
        network, batches = Slope(), []

        def loss(network, images, ids, generator, batches=batches):
            batches.append((images.clone(), ids.clone()))
            return network.loss()

        losses = answer(network, loss, images, ids, steps, generator(), size, lr)
        judge_batches(batches, steps, size, count)
        judge_slope(network, lr, steps)
        judge_losses(losses, steps, network.losses())


def judge_batches(batches, steps: int, size: int, count: int):
    if len(batches) != steps:
        fail(f"the loss is asked {len(batches)} times in {steps} steps: once in each")
    for images, ids in batches:
        if len(images) != size or ids.shape != (size, 3):
            fail(f"a batch has {size} pictures and their captions: these are "
                 f"{tuple(images.shape)} and {tuple(ids.shape)}")
        if not torch.equal(images[:, 0, 0, 0], ids[:, 0].float()):
            fail("pictures and captions of a batch don't belong together: take the same rows of "
                 "both")
    rows = torch.cat([ids[:, 0] for _, ids in batches])
    if torch.equal(batches[0][1], batches[1][1]):
        fail("each step has a batch of its own")
    if len(rows.unique()) < 0.6 * min(count, len(rows)):
        fail("batches are drawn at random from all pictures")
    if len(rows) > 30 * count:
        judge_rows(rows, count, "pictures")
    if (batches[0][1][1:, 0] > batches[0][1][:-1, 0]).all():
        fail("batches are drawn at random, not in the set's order")


def judge_losses(losses, steps: int, want):
    """Raise Wrong unless the losses are a list of the numbers that the steps had."""
    if not isinstance(losses, list | tuple) or len(losses) != steps:
        fail(f"return the losses, a list of {steps} numbers: this is {describe(losses)}")
    if any(isinstance(one, torch.Tensor) and one.requires_grad for one in losses):
        fail("a loss that is kept with its graph keeps all of the step in memory: .item()")
    compare(torch.tensor([float(one) for one in losses]), want, where="the list of losses")
