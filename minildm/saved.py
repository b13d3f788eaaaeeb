"""Folders of models: which folder a name means, what is in it, and the parts that it describes."""

from pathlib import Path

import torch

from minildm import ZOO, MinildmError, legacy
from minildm.conditioners import Labels, Prompts
from minildm.data.tokenizer import Tokenizer
from minildm.films import FilmLatents, FilmWords
from minildm.nn.clip import TextTransformer
from minildm.nn.vae import AutoencoderKL
from minildm.spec import ModelSpec, guidance_from_json, network_class
from minildm.training import checkpoint

# of a VAE's latents: these stay float32, whatever the weights are
SCALE = "latent_mean", "latent_std"
# what Python raises when a whole and unchanged file says something that makes no model
MALFORMED = KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError


def find(folder) -> Path:
    """Where a model is: a folder that holds one, else the zoo's of that name."""
    path, zoo = Path(folder), ZOO / str(folder)
    if not str(folder):
        raise MinildmError("no model is named", "LatentDiffusion.load",
                           "pass a folder that holds one, or a name of the zoo")
    if is_saved(path):
        return path
    # a folder of that name without a manifest, a data set's, say, hides no model of the zoo
    if is_saved(zoo):
        return zoo
    if not path.is_dir():
        raise MinildmError(f"there is no model {str(folder)!r}", ZOO,
                           "pass a folder that holds one, or train it: minildm demo")
    return path


def is_saved(folder: Path) -> bool:
    return (folder / checkpoint.MANIFEST).is_file()


def read(folder) -> tuple[dict, dict]:
    """Tensors and meta of a model's folder; those of version 0.1 are converted."""
    tensors, meta = checkpoint.load(find(folder))
    if "recipe" in meta:
        tensors, meta = legacy.convert(tensors, meta)
    if "model" not in meta:
        raise MinildmError(
            f"this folder holds no model: it is {checkpoint.describe_kind(meta)}",
            folder,
            "take the folder `model` of a run, or a name of the zoo",
        )
    return tensors, meta


def load_parts(folder, device, dtype: torch.dtype | None) -> dict:
    """The arguments of `LatentDiffusion` from a model's folder.

    Raises MinildmError for a folder that is no model, and for one that describes none.
    """
    try:
        return parts_of(*read(folder), device, dtype)
    except MALFORMED as error:
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise MinildmError(f"this model's description or weights make no model: {reason}", folder,
                           "use a whole copy of this folder, or train it again") from error


def parts_of(tensors: dict, meta: dict, device, dtype: torch.dtype | None) -> dict:
    """The arguments of `LatentDiffusion`: networks built from the spec, with the saved weights."""
    spec = ModelSpec.from_json(meta["model"])
    vae = AutoencoderKL(spec.vae)
    space = spec.latent_space(vae, meta["image_size"])
    denoiser = spec.denoiser(network_class(spec.network)(spec.network), space)
    # one prefix a network: its weights are found by it
    modules = {"vae": vae, "denoiser": denoiser}
    guide = None
    if any(name.startswith("guide.") for name in tensors):
        guide = modules["guide"] = spec.denoiser(network_class(spec.network)(spec.network), space)
    conditioner = Labels(meta["class_names"], device)
    if isinstance(space, FilmLatents):
        conditioner = FilmWords(device)
    if spec.text:
        encoder = modules["text"] = TextTransformer(spec.text)
        conditioner = Prompts(encoder, Tokenizer([tuple(merge) for merge in meta["merges"]]))
    for part, module in modules.items():
        prefix = part + "."
        module.load_state_dict({name.removeprefix(prefix): tensor.float()
                                for name, tensor in tensors.items() if name.startswith(prefix)})
        module.to(device, dtype)
    for name in SCALE:
        setattr(vae, name, tensors[f"vae.{name}"].float().to(device))
    return {"latent_space": space, "denoiser": denoiser, "conditioner": conditioner,
            "guidance": guidance_from_json(spec.guidance, guide), "sampling": spec.sampling,
            "class_names": meta["class_names"], "dtype": dtype, "facts": meta.get("facts", {})}


def tensors_of(modules: dict[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    """All weights by part and name. A compiled network's have the names of the bare one."""
    return {f"{part}.{name}".replace("_orig_mod.", ""): tensor
            for part, module in modules.items() for name, tensor in module.state_dict().items()}


def half(tensors: dict, folder) -> dict[str, torch.Tensor]:
    """Weights as fp16; MinildmError names one that it can't hold."""
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    for name, tensor in halves.items():
        if not tensor.isfinite().all():
            raise MinildmError(f"{name} has weights that are not finite in 16 bits", folder,
                               "train with a smaller lr, or more weight decay: fp16 ends at 65504")
    return halves


def first_broken(modules: dict[str, torch.nn.Module]) -> str:
    """What to do about pictures of NaN: which weight is broken, if one is."""
    broken = [name for name, tensor in tensors_of(modules).items() if not tensor.isfinite().all()]
    if broken:
        return f"{broken[0]} is not finite: load the weights again, or take an earlier step"
    return "the weights are finite: take less guidance, or another sampler"
