"""The conventions of pictures: uint8 0..255 in a set, float in [-1, 1] in a network, (N, C, H, W) in both."""

import math

import torch
import torch.nn.functional as F

from minildm import MinildmError


def to_float(images):
    """uint8 0..255 -> float [-1, 1]."""
    if images.dtype != torch.uint8:
        raise MinildmError(f"to_float takes uint8 images, not {images.dtype}",
                           fix="pass pictures as they were loaded")
    return images.float() / 127.5 - 1


def to_uint8(images):
    """float [-1, 1] -> uint8 0..255: rounded, and clamped outside. to_uint8(to_float(x)) is x."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def pad_to(images, size: int):
    """(..., H, W) -> (..., size, size), centred on black: 0 for uint8, -1 for float."""
    height, width = images.shape[-2:]
    if size < max(height, width):
        raise MinildmError(f"can't pad {height}×{width} images to {size}×{size}", fix=f"crop_to({size})")
    top, left = (size - height) // 2, (size - width) // 2
    border = (left, size - width - left, top, size - height - top)
    return F.pad(images, border, value=0 if images.dtype == torch.uint8 else -1)


def crop_to(images, size: int):
    """(..., H, W) -> the central (..., size, size); undoes pad_to."""
    height, width = images.shape[-2:]
    if size > min(height, width):
        raise MinildmError(f"can't crop {height}×{width} images to {size}×{size}", fix=f"pad_to({size})")
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top:top + size, left:left + size]


def check_range(images, where: str):
    """Refuse what is not float in [-1, 1]. Models overshoot a little, so only clear mistakes are errors."""
    if not images.is_floating_point():
        raise MinildmError(f"images are {images.dtype}, not float in [-1, 1]", where, "data.to_float(images)")
    low, high = images.min().item(), images.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MinildmError("images hold NaN or infinity", where, "look for the first layer that puts it out")
    if low >= 0 and 0.5 < high <= 1:
        raise MinildmError("images lie in [0, 1], not in [-1, 1]", where, "pass images * 2 - 1")
    if max(-low, high) > 5:
        raise MinildmError(f"images lie in [{low:.3g}, {high:.3g}], not in [-1, 1]", where,
                           "pass images / 127.5 - 1, or decode the latents first")


def to_unit(images, where: str):
    """Images, uint8 or float, as float in [-1, 1]."""
    if images.dtype == torch.uint8:
        return images.float() / 127.5 - 1
    check_range(images, where)
    return images.float()
