"""The checks of A1's mended cells that load and draw. They run them; they do not read them."""

from itertools import pairwise

import torch
from torch import nn

from minildm.course import patients
from minildm.course.exercises.answer import Raised
from minildm.course.exercises.compare import describe, fail
from minildm.course.exercises.fakes import Network, randn
from minildm.course.exercises.harness import check
from minildm.course.patients import compiled_checkpoint
from minildm.diffusion import guidance, samplers
from minildm.nn.unet import UNet, UNetConfig

SAMPLERS = [patients.draw, samplers.ddim, samplers.euler, samplers.heun, samplers.dpmpp_2m]


class Told(Network):
    """A fake network with a null label of its own."""

    def __init__(self, null: int):
        super().__init__()
        self.null_context = null


def euler(velocity, x, times):
    """Along a function velocity(x, t) through these times."""
    for t, s in pairwise(times):
        x = x + (s - t) * velocity(x, t)
    return x


def down(steps, start=1.0):
    return torch.linspace(start, 0, steps + 1)


def reading(to_both):
    """A draw that takes data and noise from the prediction by to_both(x, prediction, t)."""
    def draw(network, x, labels, steps, start=1.0):
        for t, s in pairwise(down(steps, start)):
            x0, eps = to_both(x, network(x, t, labels), t)
            x = (1 - s) * x0 + s * eps
        return x

    return draw


def as_v(x, v, t):
    length = (1 - t)**2 + t**2
    return ((1 - t) * x - t * v) / length, ((1 - t) * v + t * x) / length


mended_a = reading(lambda x, p, t: (x - t * p, x + (1 - t) * p))
patient_a = reading(as_v)


@check(reference=mended_a, forbidden=SAMPLERS)
def check_mended_a(answer):
    wrong = {
        "it still draws as the patient does: what does this network predict, and what would data "
        "and noise be then?": patient_a,
        "data and noise come from another reading: this one is of a network that predicts noise":
            reading(lambda x, p, t: ((x - t * p) / (1 - t).clamp(min=1e-3), p)),
        "this network does not predict the data": reading(lambda x, p, t: (
            p, (x - (1 - t) * p) / t)),
        "the sign: the prediction points from the data to the noise":
            reading(lambda x, p, t: (x + t * p, x - (1 - t) * p)),
        "the data is right, the noise is still the patient's":
            reading(lambda x, p, t: (x - t * p, as_v(x, p, t)[1])),
        "the noise is right, the data is still the patient's":
            reading(lambda x, p, t: (as_v(x, p, t)[0], x + (1 - t) * p)),
    }
    judge_drawing(answer, mended_a, wrong, Network)


def judge_drawing(answer, right, wrong: dict, make, *more):
    """Compare draws of odd shapes, numbers of steps and starts with the right one."""
    # one of three steps from the noise, one from halfway, a single step
    for shape, steps, start in ((3, 2, 4, 5), 3, 1.0), ((4, 6), 5, 0.7), ((2, 3), 1, 0.4):
        network, x = make(), randn(*shape, seed=steps)
        labels = torch.arange(shape[0]) % 3
        inputs = (network, x, labels, steps, start, *more)
        likely = {cause: way(*inputs) for cause, way in wrong.items()}
        answer.case(inputs, right(*inputs), likely, tol=1e-3,
                    where=f"{steps} steps from t = {start}")


def guided(null_of, mix=lambda told, untold, scale: untold + scale * (told - untold)):
    """A guided draw whose null labels are null_of(network, labels)."""
    def draw(network, x, labels, steps, start=1.0, scale=3.0):
        null = null_of(network, labels)

        def velocity(x, t):
            return mix(network(x, t, labels), network(x, t, null), scale)

        return euler(velocity, x, down(steps, start))

    return draw


def right_null(network, labels):
    return torch.full_like(labels, network.null_context)


mended_b = guided(right_null)


@check(reference=mended_b, forbidden=[*SAMPLERS, guidance.cfg, guidance.guided])
def check_mended_b(answer):
    wrong = {
        "it still draws as the patient does: what does the second question ask for?":
            guided(lambda network, labels: torch.zeros_like(labels)),
        "that is the last class, not the null: classes are counted from 0":
            guided(lambda network, labels: right_null(network, labels) - 1),
        "the null is written into it as 10: the network knows its own":
            guided(lambda network, labels: torch.full_like(labels, 10)),
        "the null is one more than the largest label of this batch: ask the network for it":
            guided(lambda network, labels: torch.full_like(labels, int(labels.max()) + 1)),
        "told and untold changed places":
            guided(right_null, lambda told, untold, w: told + w * (untold - told)),
        "the scale counts from the null's answer": guided(
            right_null, lambda told, untold, w: told + w * (told - untold)),
        "nothing is guided: the scale has no effect": guided(
            right_null, lambda told, untold, w: told),
    }
    for null, scale in (7, 2.5), (5, 0.0):
        judge_drawing(answer, mended_b, wrong, lambda null=null: Told(null), scale)


def mended_c(tensors, config):
    network = UNet(config)
    own = {name.removeprefix("network.").replace("_orig_mod.", ""): tensor.float()
           for name, tensor in tensors.items()}
    network.load_state_dict(own)
    return network.eval()


def small_unet(widths, classes: int, seed: int) -> UNet:
    """A U-Net with weights none of which is zero."""
    config = UNetConfig(2, 2, widths, (False, True), blocks=1, context_dim=6, heads=2, groups=4,
                        num_classes=classes)
    network = UNet(config)
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(0.2 * randn(*p.shape, seed=seed + i))
    return network


@check(reference=mended_c)
def check_mended_c(answer):
    for widths, classes, parts in (((8, 12), 3, ("up_blocks", "mid_block")),
                                   ((4, 8), 5, ("down_blocks", "time_embedding"))):
        source = small_unet(widths, classes, seed=classes)
        tensors = compiled_checkpoint(source, parts)
        network = answer(tensors, source.config)
        if not isinstance(network, nn.Module):
            fail(f"return the network: this is {describe(network)}")
        judge_loaded(network, source)
        # loading must be strict, not only right today
        for name in list(tensors)[3], list(tensors)[-1]:
            less = {key: value for key, value in tensors.items() if key != name}
            refuses(answer, less, source.config, f"without {name}")
        strange = {**tensors, "network.middle.weight": torch.zeros(3)}
        refuses(answer, strange, source.config, "with a tensor that no layer takes")


def judge_loaded(network, source):
    """Raise Wrong unless all weights of the source arrived, and nothing will be dropped."""
    theirs, ours = network.state_dict(), source.state_dict()
    if theirs.keys() != ours.keys():
        fail("the network has other weights than the configuration's: return the U-Net itself")
    missing = [name for name, tensor in ours.items() if not torch.equal(theirs[name], tensor)]
    if missing:
        fail(f"{len(missing)} of {len(ours)} tensors did not arrive, {missing[0]} among them: "
             "how is it called in the checkpoint?")
    if network.training:
        fail("the network is in training mode: it is for drawing")


def refuses(answer, tensors, config, what: str):
    try:
        answer(tensors, config)
    except Raised:
        return
    fail(f"a checkpoint {what} is taken in silence: let it raise an error")


def along(times_of, told=lambda t: t, sign=1):
    def draw(network, x, labels, steps, start=1.0):
        return euler(lambda x, t: sign * network(x, told(t), labels), x, times_of(steps, start))

    return draw


mended_d = along(down)


@check(reference=mended_d, forbidden=SAMPLERS)
def check_mended_d(answer):
    wrong = {
        "it still draws as the patient does: at which time is x when it begins, and at the end?":
            along(lambda steps, start: down(steps, start).flip(0)),
        "the network is told 1 - t": along(down, told=lambda t: 1 - t),
        "the sign: the velocity points from data to noise, and t falls": along(down, sign=-1),
        "it begins at 1 and not at start": along(lambda steps, start: down(steps)),
        "one step too few: steps + 1 times": along(
            lambda steps, start: torch.linspace(start, 0, steps) if steps > 1 else down(1, start)),
        "one step too many": along(lambda steps, start: down(steps + 1, start)),
        "it does not end at 0": along(
            lambda steps, start: torch.linspace(start, start / (steps + 1), steps + 1)),
    }
    judge_drawing(answer, mended_d, wrong, Network)
