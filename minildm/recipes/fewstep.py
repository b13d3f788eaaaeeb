"""From a trained model to one that draws in a single step, its guidance baked in.

    teacher, guided -> consistency distillation on its own latents -> a student without guidance
"""

import copy
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from minildm.data.sets import ImageSet
from minildm.diffusion.fewstep import consistency_loss
from minildm.diffusion.guidance import Cfg, as_tuple, guided
from minildm.diffusion.schedules import time_grid
from minildm.latents import sample_latents
from minildm.model import LatentDiffusion
from minildm.training.loop import TrainConfig, train

TRAINING = TrainConfig(steps=250, batch_size=48, lr=1e-3, warmup=20, ema=0.95,
                       precision="float32")
GUIDANCE = Cfg(1.75)
# steps of the teacher from noise to data: what is known at the data needs as many steps of the
# average, at least, before it has reached the noise
GRID = 12


def with_average(student: nn.Module, loss: Callable, data: tuple, config: TrainConfig,
                 bar: bool = True) -> nn.Module:
    """Train by loss(average, *batch, generator=...), a number, and return that average.

    The average is the student's own, of all steps so far, as `training.ema` keeps it.
    """
    average = copy.deepcopy(student).requires_grad_(False).eval()

    def by_average(*batch, generator):
        return {"loss": loss(average, *batch, generator=generator)}

    for step in train(student, by_average, data, config, bar=bar):
        step.ema.copy_to(average)
    return average


def distil(model: LatentDiffusion, images: ImageSet, guidance=GUIDANCE,
           config: TrainConfig = TRAINING, bar: bool = True) -> LatentDiffusion:
    """A model that draws in one step what `model`, guided, draws in many (Song et al. 2023).

    The images are those that it learned; they are told by their labels.
    """
    teacher, told = model.denoiser.requires_grad_(False), model.conditioner
    student = copy.deepcopy(teacher).requires_grad_(True)
    mean, std = model.latent_space.encode(images.images)
    ts = time_grid(GRID)

    def loss(average, mean, std, labels, generator):
        context, null = told.embed(labels), told.null(len(labels))
        return consistency_loss(
            lambda x, t: student(x, t, context), lambda x, t: average(x, t, context),
            guided(teacher, context, null, as_tuple(guidance)), teacher.schedule,
            sample_latents(mean, std, generator), ts, generator)

    average = with_average(student, loss, (mean, std, images.labels), config, bar)
    sampling = replace(model.sampling, num_inference_steps=1, sampler="consistency")
    return LatentDiffusion(
        latent_space=model.latent_space, denoiser=average, conditioner=told, sampling=sampling,
        class_names=model.class_names, facts={"distillation_steps": config.steps})
