"""A published ControlNet, in diffusers' layout, as our class: a control of one of its U-Nets.

    net = load_control(folder, model.denoiser.network)
    denoise = cfg(controlled(model.denoiser, net, hint), context, null, 7.5)

Its hints are pictures in [0, 1], as large as what is drawn. Names of tensors are ours.
"""

from pathlib import Path

import torch

from minildm import MinildmError
from minildm.nn.control import ControlNet
from minildm.nn.unet import UNet
from minildm.published.files import read_folder
from minildm.published.formats import CHANNELS, WIDEST, Config

# what we have no structure for, and the value that it must have
FIXED = {"controlnet_conditioning_channel_order": "rgb", "global_pool_conditions": False,
         "flip_sin_to_cos": True, "freq_shift": 0, "act_fn": "silu", "norm_eps": 1e-5,
         "downsample_padding": 1, "addition_embed_type": None, "class_embed_type": None,
         "mid_block_type": "UNetMidBlock2DCrossAttn", "transformer_layers_per_block": 1,
         "resnet_time_scale_shift": "default"}


def load_control(folder, unet: UNet, dtype=torch.float32, device="cpu") -> ControlNet:
    """diffusers' folder of a ControlNetModel, made for a U-Net of this one's sizes."""
    config = Config.read(folder)
    config.check(FIXED)
    widths = config.integers("conditioning_embedding_out_channels", WIDEST)
    channels = config.integer("conditioning_channels", CHANNELS)
    net = ControlNet(unet, channels, widths)
    wanted, tensors = net.state_dict(), read_folder(Path(folder))
    wrong = sorted(wanted.keys() ^ tensors.keys())
    wrong += [name for name in wanted if name not in wrong
              and wanted[name].shape != tensors[name].shape]
    if wrong:
        raise MinildmError(f"{len(wrong)} tensors do not fit this U-Net, {wrong[0]} among them",
                           folder, "load the U-Net that this control was made for")
    net.load_state_dict(tensors)
    return net.to(device, dtype).eval()
