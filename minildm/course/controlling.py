"""What lesson 12 and its benchmark draw under control, and how they judge it."""

import warnings
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.edited import other_colours
from minildm.data.maps import edge_f1, edges
from minildm.data.scenes import COLOURS, Truth, agreement, captions, compose, detect, hsv_to_rgb
from minildm.diffusion.denoiser import Denoiser
from minildm.diffusion.guidance import cfg
from minildm.diffusion.samplers import ddim, last
from minildm.images import to_float
from minildm.nn.unet import UNet


@dataclass(frozen=True)
class Scenes:
    """Composed scenes, uint8 (N, 3, 32, 32), what stands in them, and a sentence about each."""

    images: torch.Tensor
    truth: Truth
    prompts: list[str]

    def __len__(self):
        return len(self.images)

    @property
    def pixels(self):
        """The pictures in [-1, 1]."""
        return to_float(self.images)


def some_scenes(digits, n: int, seed: int = 0) -> Scenes:
    """n scenes composed of an ImageSet's digits, none with a combination that training lacks."""
    images, truth = compose(digits.images, digits.labels, n, seed, held_out=False)
    return Scenes(images, truth, captions(truth, seed))


def other_words(scenes: Scenes, what: str, seed: int = 0) -> Scenes:
    """The same pictures, asked for in another "colour", or with other digits ("digit")."""
    generator = torch.Generator().manual_seed(seed)
    truth = scenes.truth
    if what == "colour":
        truth = replace(truth, colours=other_colours(truth.colours, generator))
    else:
        by = torch.randint(1, 10, truth.digits.shape, generator=generator)
        new = (truth.digits + by) % 10
        truth = replace(truth, digits=torch.where(truth.digits >= 0, new, truth.digits))
    return Scenes(scenes.images, truth, captions(truth, seed))


def conditions(model, prompts: list[str]):
    """The contexts of prompts, and as many nulls; the longest lose their last word in silence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* tokens, .* fit")
        return model.conditions(prompts)


@torch.no_grad()
def draw(model, denoiser, prompts: list[str], scale: float = 4.0, steps: int = 20, seed: int = 0):
    """Pictures of prompts by any denoiser(x, t, context) in the model's latent space."""
    context, null = conditions(model, prompts)
    denoise = cfg(denoiser, context, null, scale)
    noise = model.noise(len(prompts), seed)
    return model.decode(last(ddim(denoise, model.denoiser.schedule, noise, model.times(steps))))


def judged(drawn, scenes: Scenes, classifier) -> dict[str, float]:
    """The mean F1 of the edges, with a tolerance of one pixel and of none; the shares as asked."""
    found, wanted = edges(drawn), edges(scenes.pixels)
    right = agreement(detect(drawn, classifier), scenes.truth)
    names = "digit", "colour", "place", "all"
    shares = {name: right[name].float().mean().item() for name in names}
    return {"edges": edge_f1(found, wanted).mean().item(),
            "exact": edge_f1(found, wanted, tolerance=0).mean().item(), **shares}


def painted_regions(regions):
    """Maps of `segments` as pictures in [-1, 1]: each region in its colour."""
    hues = 60.0 * torch.arange(len(COLOURS))
    rgb = hsv_to_rgb(hues, 0.85, torch.full_like(hues, 0.9))                # (6, 3)
    return 2 * torch.einsum("nkhw,kc->nchw", regions[:, 10:].float(), rgb).clamp(max=1) - 1


def gradient_sizes(control) -> dict[str, float]:
    """The length of the gradient in the parts of a lesson's control, 0 where none has come."""
    parts = {"joints": control.joints, "copy": [control.conv_in, control.down_blocks,
                                                control.mid_block],
             "hint, last layer": control.hint.conv_out,
             "hint, other layers": [control.hint.conv_in, control.hint.blocks]}
    sizes = {}
    for name, modules in parts.items():
        modules = modules if isinstance(modules, list) else [modules]
        weights = [weight for module in modules for weight in module.parameters()]
        squares = [weight.grad.square().sum() for weight in weights if weight.grad is not None]
        sizes[name] = sum(squares, torch.zeros(())).sqrt().item()
    return sizes


@torch.no_grad()
def give_weights(control, net):
    """Give the package's `ControlNet` the weights of a lesson's control; -> the net."""
    last = len(control.joints) - 1
    names = {"hint": "controlnet_cond_embedding", f"joints.{last}": "controlnet_mid_block",
             "joints": "controlnet_down_blocks"}
    state = {}
    for name, weight in control.state_dict().items():
        start = next((own for own in names if name.startswith(own + ".")), None)
        state[name if start is None else names[start] + name.removeprefix(start)] = weight
    net.load_state_dict(state)
    return net


# ---- the other way: the map beside x

class Beside(nn.Module):
    """A U-Net whose input is x with a map as further channels: (x, t, context, hint) -> prediction.

    It begins as a copy of another; the weights of the new channels begin at zero.
    """

    def __init__(self, unet: UNet, hint_channels: int, stride: int = 4):
        super().__init__()
        before, self.stride = unet.config.in_channels, stride
        # the pixels of a latent position become its channels
        config = replace(unet.config, in_channels=before + hint_channels * stride**2)
        self.unet = UNet(config)
        state = dict(unet.state_dict())
        kernel = torch.zeros_like(self.unet.conv_in.weight)
        kernel[:, :before] = state["conv_in.weight"]
        self.unet.load_state_dict(state | {"conv_in.weight": kernel})

    def forward(self, x, t, context, hint):
        maps = F.pixel_unshuffle(hint, self.stride)                         # (B, C s s, h, w)
        return self.unet(torch.cat([x, maps], 1), t, context)


def told_beside(denoiser: Denoiser, network: Beside, hint) -> Denoiser:
    """The denoiser with `Beside` in its network's place, told the maps of one batch."""
    def predict(x, t, context=None):
        return network(x, t, context, hint.repeat(len(x) // len(hint), 1, 1, 1))

    return Denoiser(predict, denoiser.schedule, denoiser.prediction_type, denoiser.times)
