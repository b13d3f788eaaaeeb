"""minildm: latent diffusion built from scratch, small enough to read, real enough to run Stable Diffusion.

Reading order: layers, schedules, vae, unet, denoiser, samplers, guidance, training, pipeline.
A module imports only from tiers below its own; this file, which every tier may use, imports nothing heavy.
"""

import os

__version__ = "0.1.0"


class MinildmError(Exception):
    """An error that the user can cure: what is wrong, where, and what to do about it."""

    def __init__(self, what: str, where: str = "", fix: str = ""):
        self.what, self.where, self.fix = what, str(where), fix
        super().__init__("\n".join(line for line in (
            what, f"  where: {where}" if where else "", f"  fix:   {fix}" if fix else "") if line))


def budget(*, smoke, cpu, gpu):
    """The one dial for size: the value for `MINILDM_BUDGET`, by default `gpu` where CUDA is, else `cpu`."""
    name = os.environ.get("MINILDM_BUDGET", "")
    if not name:
        import torch

        name = "gpu" if torch.cuda.is_available() else "cpu"
    choices = {"smoke": smoke, "cpu": cpu, "gpu": gpu}
    if name not in choices:
        raise MinildmError(f"MINILDM_BUDGET={name!r} is not a budget", "environment", "set smoke, cpu or gpu")
    return choices[name]
