"""Drawn schematics, all in one visual language; each function draws one and returns its figure.

    from minildm.course import diagrams
    from minildm.course.figures import show
    show(diagrams.vae())

Each figure carries its alternative text. `python -m minildm.course.diagrams FOLDER` writes all of
them as SVG.
"""

from minildm.course.diagrams.chains import forward_reverse, gan_step, pipeline, vae
from minildm.course.diagrams.vectors import (
    crossing_lines,
    guidance_vectors,
    mask_consistency,
    sampler_step,
    schedule_clock,
)

ALL = {function.__name__: function for function in (
    pipeline, vae, forward_reverse, gan_step,
    schedule_clock, sampler_step, guidance_vectors, crossing_lines, mask_consistency,
)}
