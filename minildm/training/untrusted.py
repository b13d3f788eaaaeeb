"""JSON and safetensors of unknown origin: bounds before anything is built from them."""

import json
from pathlib import Path

import safetensors.torch
import torch

from minildm import MinildmError

# What a reader takes: Stable Diffusion has 1,100 tensors, and its longest list of names 0.2 MB.
MOST_TENSORS = 50_000
MOST_HEADER = 8_000_000


def read_json(content: bytes, where: str | Path):
    """Parse JSON of unknown origin; MinildmError if it is none, or nested without end."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise MinildmError(f"{Path(where).name} is not JSON: {reason}", where,
                           "use another copy of this file") from None


def decode_tensors(content: bytes, where: str | Path) -> dict[str, torch.Tensor]:
    """Decode safetensors of unknown origin; MinildmError if damaged, or with too many tensors."""
    size = int.from_bytes(content[:8], "little")
    if size > min(len(content), MOST_HEADER):
        raise MinildmError(f"{Path(where).name} is damaged: a header of {size} bytes", where,
                           "use another copy of this file")
    header = read_json(content[8:8 + size], where)
    if len(header) > MOST_TENSORS:
        raise MinildmError(f"{Path(where).name} has {len(header)} tensors, more than {MOST_TENSORS}",
                           where, "this is no model of ours")
    try:
        return safetensors.torch.load(content)
    except Exception as error:          # its own error, or KeyError for a type that torch lacks
        raise MinildmError(f"{Path(where).name} is damaged: {error}", where,
                           "use another copy of this file") from None
