"""Reading what others published: JSON and tensors from files of which nothing is believed.

A file must be a regular one of a bounded size; JSON must be an object; tensors must be as large as
they say. Pickles hold nothing but tensors (torch.load's weights_only): no code is run.
"""

import json
import os
import re
import stat
import zipfile
from pathlib import Path

import safetensors.torch
import torch

from minildm import MinildmError

JSON_BYTES = 64 * 2**20     # the largest vocabulary has a few MB
HEADER_BYTES = 8 * 2**20    # of names and shapes: Stable Diffusion's 1,500 tensors take 0.2 MB
TENSORS = 20_000
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
# safetensors before pickles, float32 before fp16
KINDS = (("safetensors", ""), ("safetensors", ".fp16"), ("bin", ""), ("bin", ".fp16"))


def check_file(path: Path, largest: int | None = None):
    """Refuse a pipe or a device in a file's place, which would not end, and what is too large.

    Raises OSError for a file that is not there.
    """
    # links are followed: the caches of download programs hold nothing else
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise MinildmError(f"{path.name} is no regular file", path, "don't trust this folder")
    if largest is not None and found.st_size > largest:
        raise MinildmError(f"{path.name} has {found.st_size:,} bytes: no model needs so many", path,
                           "don't trust this folder")


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises MinildmError for anything else."""
    try:
        check_file(path, JSON_BYTES)
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not an object")
    # nesting without end is a RecursionError
    except (OSError, ValueError, RecursionError) as error:
        raise MinildmError(f"{path.name} cannot be read: {error}"[:200], path.parent,
                           "is it in diffusers' layout, and the download whole?") from None
    return values


def read(path: Path) -> dict:
    """The tensors of one file, by name, on the CPU; memory is taken when they are copied."""
    try:
        check_file(path)
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        return read_pickle(path)
    except MinildmError:
        raise
    # torch, pickle, zipfile and safetensors raise errors that have no common ancestor
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        what = f"{path.name} does not hold tensors and nothing else: {reason}"
        fix = "take this model's .safetensors, or download it again"
        raise MinildmError(what, path, fix) from None


def read_safetensors(path: Path) -> dict:
    """Tensors of a .safetensors file, whose first eight bytes are the length of its header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes")
    return safetensors.torch.load_file(path)


def read_pickle(path: Path) -> dict:
    """Tensors that torch.save wrote, alone or under the keys of CompVis' and DiT's training."""
    in_zip = zipfile.is_zipfile(path)
    if in_zip:
        check_archive(path)
    # mapped, a tensor takes no memory before it is used
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=in_zip)
    for key in ("state_dict", "ema"):
        state = state.get(key, state)
    if len(state) > TENSORS:
        raise ValueError(f"{len(state):,} tensors")
    for name, tensor in state.items():
        if not torch.is_tensor(tensor):
            raise TypeError(f"{name} is no tensor")
        check_tensor(name, tensor)
    return state


def check_archive(path: Path):
    """Refuse compressed files, which torch never writes: a small one can hold gigabytes."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{entry.filename} is compressed")
            if entry.filename.endswith(".pkl") and entry.file_size > HEADER_BYTES:
                raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")


def check_tensor(name: str, tensor):
    """Refuse a tensor that is larger than what is stored of it, and kinds that no weights have."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise TypeError(f"{name} is no plain tensor")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ValueError(f"{name} has more numbers than are stored")


def read_folder(folder: Path) -> dict:
    """The tensors of a component: one file or shards, safetensors before pickles."""
    for kind, variant in KINDS:
        for stem in STEMS:
            index = folder / f"{stem}.{kind}.index{variant}.json"
            if index.is_file():
                return read_shards(index, kind)
            whole = folder / f"{stem}{variant}.{kind}"
            if whole.is_file():
                return read(whole)
    fix = "it takes diffusion_pytorch_model or model, .safetensors or .bin, whole or in shards"
    raise MinildmError("there are no weights in this folder", folder, fix)


def read_shards(index: Path, kind: str) -> dict:
    """The tensors of all files that an index names, none of which may lie in another folder."""
    # a name with a folder in it could lead to any file of this machine
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict):
        raise MinildmError("weight_map is missing", index, "is the download whole?")
    shards = sorted(set(map(str, places.values())))
    for name in shards:
        if not re.fullmatch(rf"\w[\w.-]*\.{kind}", name):
            raise MinildmError(f"it names {name[:99]!r}, which is no file of this folder", index,
                               "don't trust this download")
    tensors = {}
    for name in shards:
        tensors |= read(index.parent / name)
    return tensors
