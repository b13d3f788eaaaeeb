"""What the server that children are forked from has in memory before the first answer."""

# ruff: noqa: F401  they are there so that no child imports them

import matplotlib.pyplot
import torch
import torch._dynamo  # an optimizer imports it, and it wraps functions of torch

import minildm.course.exercises
import minildm.course.plotting
import minildm.data.scenes
import minildm.grading.rules
import minildm.grading.sandbox
import minildm.model

# a fork takes no threads along: there must be none
torch.set_num_threads(1)
