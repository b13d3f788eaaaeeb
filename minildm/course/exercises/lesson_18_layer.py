"""The checks of lesson 18 on the temporal layer: to tokens and back, attention, the gates."""

from torch import nn

from minildm.course.exercises.answer import Answer, compare_gradients, copy_weights
from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_10_norm import made, randomise
from minildm.nn import video
from minildm.nn.layers import Attention, FeedForward

# ---- to tokens and back --------------------------------------------------------------------------

SHAPES = ((2, 3, 5, 4, 7), (3, 4, 2, 3, 5), (1, 6, 3, 2, 2))       # B, F, C, H, W


def maps_of(b, f, c, h, w):
    return randn(b * f, c, h, w)


@check(reference=video.to_time, forbidden=[video.from_time])
def check_to_time(answer):
    for b, f, c, height, width in SHAPES:
        h = maps_of(b, f, c, height, width)
        films = h.reshape(b, f, c, height, width)
        want = films.permute(0, 3, 4, 1, 2).reshape(-1, f, c)
        answer.case((h, f), want, {
            "a reshape alone mixes channels with positions: permute first": h.reshape(-1, f, c),
            "the batch of h is film after film, (B F): the frames are the inner part":
                h.reshape(f, b, c, height, width).permute(1, 3, 4, 0, 2).reshape(-1, f, c),
            "rows come before columns: (B, H, W, F, C)":
                films.permute(0, 4, 3, 1, 2).reshape(-1, f, c),
            "these are the positions of a frame: here the frames of a position are wanted":
                films.permute(0, 1, 3, 4, 2).reshape(-1, f, c),
            "the positions come first and the films inside: (B, H, W, F, C)":
                films.permute(3, 4, 0, 1, 2).reshape(-1, f, c),
        }, where=f"{b} films of {f} frames")


@check(reference=video.from_time, forbidden=[video.to_time])
def check_from_time(answer):
    for b, f, c, height, width in SHAPES:
        h = maps_of(b, f, c, height, width)
        tokens, like = video.to_time(h, f), randn(*h.shape, seed=8)
        grid = tokens.reshape(b, height, width, f, c)
        answer.case((tokens, like), h, {
            "a reshape alone mixes them: permute back first": tokens.reshape(h.shape),
            "`like` gives the shape alone: its numbers are added": h + like,
            "films before frames: (B, F, C, H, W), then B and F become one":
                grid.permute(3, 0, 4, 1, 2).reshape(h.shape),
            "channels come before rows: (B, F, C, H, W)":
                grid.permute(0, 3, 1, 2, 4).reshape(h.shape),
        }, where=f"{b} films of {f} frames")


# ---- the layer -----------------------------------------------------------------------------------

@check(reference=video.TemporalLayer)
def check_TemporalLayer(answer):
    for channels, frames, heads, inner, together in ((8, 3, 2, 10, True), (12, 4, 3, 7, False),
                                                     (6, 5, 1, 12, True)):
        layer = made(answer, channels, frames, heads, inner, together)
        h = randn(2 * frames, channels, 2, 3).requires_grad_()
        fresh_layer(layer, h, (channels, frames, inner, together))
        wanted = video.TemporalLayer(channels, frames, heads, inner, together)
        randomise(wanted)
        copy_weights(layer, wanted)
        want = wanted(h)
        where = f"{frames} frames, together {together}"
        got = Answer(layer, ["h"]).case((h,), want, likely_layers(h, wanted), where=where)
        compare_gradients(got, want, h=h)
        answer.right += 1


def fresh_layer(layer, h, sizes):
    """Whether a fresh layer is the identity, has its place vectors, and can learn all the same."""
    channels, frames, inner, together = sizes
    place = getattr(layer, "place", None)
    if not isinstance(place, nn.Parameter) or tuple(place.shape) != (frames, channels):
        fail(f"`self.place` is a parameter with a vector for each frame, ({frames}, {channels}) "
             "here")
    for name, kind in (("attention", Attention), ("norm1", nn.LayerNorm), ("norm2", nn.LayerNorm),
                       ("ff", FeedForward)):
        if not isinstance(getattr(layer, name, None), kind):
            fail(f"call its parts norm1, attention, norm2 and ff: stored weights go by these "
                 f"names, and `{name}` is missing, or is no {kind.__name__}")
    width = frames * channels if together else channels
    if tuple(layer.ff.net[-1].weight.shape) != (width, inner):
        got = tuple(layer.ff.net[-1].weight.shape)
        fail(f"with together={together} the feed-forward network goes from {width} numbers to "
             f"`inner` and back: its last weight is ({width}, {inner}), yours is {got}")
    fresh = Answer(layer, ["h"])(h)
    compare(fresh, h.detach(), {
        "a fresh layer answers zero, it should answer h: add each step to the tokens":
            0 * h.detach()}, where="a fresh layer is the identity: both gates are zero at first")
    (fresh * randn(*fresh.shape, seed=5)).sum().backward()
    gates = layer.attention.to_out[0].weight, layer.ff.net[-1].weight
    # a step that is left out has no gradient at all: that is told later
    if any(p.grad is not None and not p.grad.abs().max() > 0 for p in gates):
        fail("a fresh layer can't learn: close the last map of each step alone, not all of it")
    layer.zero_grad()
    h.grad = None
    judge_start(layer)


def judge_start(layer):
    """Whether a fresh layer's place vectors are as they should, and its nearness a buffer."""
    # few numbers, so a wide net: 0.3 is told from 1 and from 0.02
    if not 0.15 < layer.place.std() < 0.6:
        fail(f"`place` starts with a standard deviation of 0.3: here it is {layer.place.std():.2f}")
    if "near" not in dict(layer.named_buffers()):
        fail("`near` is a buffer, by register_buffer: so it goes where the layer goes, to a GPU "
             "or into another type")
    if "near" in layer.state_dict():
        fail("`near` is not saved with the weights, persistent=False: it is known without them")


def likely_layers(h, layer):
    """{cause: result} of layers whose parts are put together in a wrong way."""
    tokens = video.to_time(h, layer.frames)

    def think(x):
        seen = x.flatten(1) if layer.together else x
        return layer.ff(seen).reshape(x.shape)

    def attend(x, mask=layer.near):
        return layer.attention(x, mask=mask)

    def back(x):
        return video.from_time(x, h)

    def two(first, second=None):
        x = tokens + first
        second = second or (lambda x: think(layer.norm2(x)))
        return back(x + second(x))

    step = attend(layer.norm1(tokens) + layer.place)
    return {
        "the nearness is missing: hand the attention `mask=...`":
            two(attend(layer.norm1(tokens) + layer.place, None)),
        "the place vectors are missing: attention knows no order without them":
            two(attend(layer.norm1(tokens))),
        "the place is added after the norm: before it, the norm takes a part of it away":
            two(attend(layer.norm1(tokens + layer.place))),
        "the norm before the attention is missing": two(attend(tokens + layer.place)),
        "the norm before the feed-forward network is missing": two(step, think),
        "the feed-forward network is missing": back(tokens + step),
        "the attention is missing": back(tokens + think(layer.norm2(tokens))),
        "the place belongs to the attention's input, not to what the layer hands on":
            two(layer.place + attend(layer.norm1(tokens) + layer.place)),
        "the two steps follow each other: the second sees what the first has added":
            back(tokens + step + think(layer.norm2(tokens))),
        "each step is added to the tokens: the second one's input is lost":
            back(think(layer.norm2(tokens + step))),
        "the vector of a position is frame after frame: (B H W, F, C) becomes (B H W, F C)":
            two(step, lambda x: turned(x, layer)),
    }


def turned(x, layer):
    """The feed-forward step with channels outside and frames inside of a position's vector."""
    seen = layer.norm2(x)
    if not layer.together:
        return layer.ff(seen)
    return layer.ff(seen.mT.flatten(1)).unflatten(1, (x.shape[2], x.shape[1])).mT
