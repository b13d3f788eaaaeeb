"""minildm: latent diffusion from scratch, small enough to read, and it runs Stable Diffusion.

A folder is a wing of the house: `diffusion` is the subject, `nn` holds the networks, `training` the
loop, `model.py` what a trained model is. A wing imports only from those below it; this file, which
all may use, imports nothing heavy. What a lesson needs every time is offered here, and loaded when
it is asked for:

    from minildm import LatentDiffusion, data, exercises, plotting
"""

import importlib
import os
from pathlib import Path

__version__ = "0.1.0"


_HERE = Path(__file__).resolve().parent
# trained weights: inside the package where it was installed, beside the data in a clone
_PLACES = _HERE / "zoo", _HERE.parent / "data" / "zoo"
ZOO = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
_LAZY = {"LatentDiffusion": "minildm.model", "exercises": "minildm.course.exercises",
         "plotting": "minildm.course.plotting"}


def __getattr__(name: str):
    """The names of `_LAZY`, imported when they are first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'minildm' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return getattr(module, name, module)


class MinildmError(Exception):
    """An error that the user can cure: what is wrong, where, and what to do about it."""

    def __init__(self, what: str, where: str = "", fix: str = ""):
        self.what, self.where, self.fix = what, str(where), fix
        super().__init__("\n".join(line for line in (
            what, f"  where: {where}" if where else "", f"  fix:   {fix}" if fix else "") if line))


def budget(*, smoke, cpu, gpu):
    """The one dial for size: the value for `MINILDM_BUDGET`.

    By default that is `gpu` where CUDA is, else `cpu`; `smoke` while nbgrader grades, which runs
    a whole lesson for each student.
    """
    name = os.environ.get("MINILDM_BUDGET", "")
    if not name and os.environ.get("NBGRADER_EXECUTION"):
        name = "smoke"
    if not name:
        import torch

        name = "gpu" if torch.cuda.is_available() else "cpu"
    choices = {"smoke": smoke, "cpu": cpu, "gpu": gpu}
    if name not in choices:
        raise MinildmError(f"MINILDM_BUDGET={name!r} is not a budget", "environment",
                           "set smoke, cpu or gpu")
    return choices[name]
