"""Pictures are (N, C, H, W): uint8 0..255 in a set, float in [-1, 1] in a network."""

import math

import torch
import torch.nn.functional as F

from minildm import MinildmError


def to_float(images):
    """Turn uint8 0..255 into float32 in [-1, 1]; raises MinildmError for any other dtype."""
    if images.dtype != torch.uint8:
        raise MinildmError(f"to_float takes uint8 images, not {images.dtype}",
                           fix="pass pictures as they were loaded")
    return images.float() / 127.5 - 1


def to_uint8(images):
    """Turn float in [-1, 1] into uint8 0..255, rounded and clamped. to_uint8(to_float(x)) is x."""
    levels = (images.float() + 1) * 127.5
    return levels.round().clamp(0, 255).to(torch.uint8)


def pad_to(images, size: int):
    """(..., H, W) -> (..., size, size), centred on black: 0 for uint8, -1 for float."""
    height, width = images.shape[-2:]
    if size < max(height, width):
        raise MinildmError(f"can't pad {height}×{width} images to {size}×{size}",
                           fix=f"crop_to({size})")
    top = (size - height) // 2
    left = (size - width) // 2
    bottom = size - height - top
    right = size - width - left
    black = 0 if images.dtype == torch.uint8 else -1
    return F.pad(images, (left, right, top, bottom), value=black)


def crop_to(images, size: int):
    """(..., H, W) -> the central (..., size, size); undoes pad_to."""
    height, width = images.shape[-2:]
    if size > min(height, width):
        raise MinildmError(f"can't crop {height}×{width} images to {size}×{size}",
                           fix=f"pad_to({size})")
    # rounded as in pad_to, so that an odd difference comes off on the side where it was put on
    top = (height - size) // 2
    left = (width - size) // 2
    return images[..., top:top + size, left:left + size]


def check_range(images, where: str):
    """Refuse what is not float in [-1, 1]; raises MinildmError that names the conversion."""
    if not images.is_floating_point():
        raise MinildmError(f"images are {images.dtype}, not float in [-1, 1]", where,
                           "data.to_float(images)")
    low, high = images.min().item(), images.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MinildmError("images hold NaN or infinity", where,
                           "look for the first layer that puts it out")
    if low >= 0 and 0.5 < high <= 1:
        raise MinildmError("images lie in [0, 1], not in [-1, 1]", where, "pass images * 2 - 1")
    # models overshoot a little, so only clear mistakes are errors
    if max(-low, high) > 5:
        raise MinildmError(f"images lie in [{low:.3g}, {high:.3g}], not in [-1, 1]", where,
                           "pass images / 127.5 - 1, or decode the latents first")


def to_unit(images, where: str):
    """Turn uint8, or float in [-1, 1], into float32 in [-1, 1]; raises as check_range does."""
    if images.dtype == torch.uint8:
        return to_float(images)
    check_range(images, where)
    return images.float()
