"""What edits keep and change, 200 of each kind a seed:  python -m benchmarks editing

The zoo's model of scenes edits composed pictures, by FlowEdit, by inversion and by noising; rules
read from the result whether everything is as asked, and the ink's overlap with the original says
what was kept. Inpainting is judged along its seam, inversion by its way back, and strength on
digits. Results are kept in stored/editing.json, which lesson 11 shows.
`python -m benchmarks.editing 0 colour` measures one seed's group again.
"""

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.claims import claims_of, machine
from minildm import LatentDiffusion, data, edits
from minildm.course.edited import Task, judged, overlap, readable_scenes, seam, task_of
from minildm.diffusion import editing
from minildm.diffusion.guidance import cfg
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import flow, time_grid
from minildm.evaluation.classifier import in_batches, load_classifier
from minildm.images import to_float

claim = claims_of("editing")

STORED = Path(__file__).parent / "stored" / "editing.json"
SEEDS = (0, 1, 2)
N, STEPS, BATCH = 200, 20, 100
SAFE_DRAWS = 3          # noises per step of FlowEdit
STRENGTHS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
ROUND_STEPS, ROUND_SWEEPS, ROUND_SCALES = (10, 20, 50), (0, 1, 3, 5), (1.0, 2.0, 4.0)
ROUND_SCENES = 16


# ---- the models, and ways to edit

class Judge:
    """The models, and the test digits that scenes are composed of."""

    def __init__(self):
        self.model = LatentDiffusion.load("scenes")
        self.classifier = load_classifier("mnist")
        self.digits = data.load("mnist", "test")

    def denoiser(self, prompts, scale: float):
        context, null = self.model.conditions(prompts)
        return cfg(self.model.denoiser, context, null, scale)


# ---- ways to edit: functions (judge, task, rows, latents, seed) -> latents

def by_flow_edit(target_scale: float, draws: int):
    def way(judge, task, rows, latents, seed):
        source = judge.denoiser([task.source[i] for i in rows], 1.0)
        target = judge.denoiser([task.target[i] for i in rows], target_scale)
        generator = torch.Generator().manual_seed(1000 * seed + int(rows[0]))
        return last(editing.flow_edit(source, target, flow, latents, time_grid(STEPS), draws=draws,
                                      generator=generator))

    return way


def by_inversion(target_scale: float, sweeps: int):
    def way(judge, task, rows, latents, seed):
        source = judge.denoiser([task.source[i] for i in rows], 1.0)
        target = judge.denoiser([task.target[i] for i in rows], target_scale)
        grid = editing.inversion_grid(STEPS)
        return editing.edit_by_inversion(source, target, flow, latents, grid, sweeps)

    return way


def by_noising(strength: float, scale: float):
    def way(judge, task, rows, latents, seed):
        target = judge.denoiser([task.target[i] for i in rows], scale)
        noise = judge.model.noise(len(rows), seed, first=int(rows[0]))
        return editing.img2img(target, flow, latents, noise, time_grid(STEPS), strength)

    return way


def copied(judge, task, rows, latents, seed):
    return latents


WAYS = {
    "the VAE's copy, no edit": copied,
    "noised to 0.6, scale 4": by_noising(0.6, 4.0),
    "noised to 0.8, scale 4": by_noising(0.8, 4.0),
    "inversion, plain, redrawn at 1": by_inversion(1.0, 0),
    "inversion, 3 sweeps, redrawn at 1": by_inversion(1.0, 3),
    "inversion, 3 sweeps, redrawn at 2": by_inversion(2.0, 3),
    "FlowEdit, scale 1": by_flow_edit(1.0, 1),
    "FlowEdit, scale 1, 3 draws": by_flow_edit(1.0, SAFE_DRAWS),
    "FlowEdit, scale 1.5": by_flow_edit(1.5, 1),
    "FlowEdit, scale 2": by_flow_edit(2.0, 1),
}


@torch.no_grad()
def edited(judge, task: Task, name: str, seed: int):
    """The pictures that one way makes of a task."""
    images = []
    for rows in torch.arange(len(task.images)).split(BATCH):
        latents = edits.latents_of(judge.model, task.images[rows])
        images.append(judge.model.decode(WAYS[name](judge, task, rows, latents, seed)))
    return torch.cat(images)


def measured_edits(judge, kind: str, seed: int, names=tuple(WAYS)) -> dict:
    task, found = task_of(judge.digits, judge.classifier, kind, N, seed), {}
    for name in names:
        began = time.perf_counter()
        images = edited(judge, task, name, seed)
        found[name] = judged(images, task, judge.classifier) | {"seconds": time.perf_counter() - began}
        print(kind, seed, name, {k: round(v, 3) for k, v in found[name].items()}, flush=True)
    return found
