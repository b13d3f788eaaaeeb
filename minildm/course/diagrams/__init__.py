"""Drawn schematics, all in one visual language; each function draws one and returns its figure.

    from minildm.course import diagrams
    from minildm.course.figures import show
    show(diagrams.vae())

Each figure carries its alternative text. `python -m minildm.course.diagrams FOLDER` writes all of
them as SVG.
"""

from minildm.course.diagrams.attending import (
    attention_along_time,
    cross_attention_block,
    self_attention,
    two_towers,
)
from minildm.course.diagrams.chains import forward_reverse, gan_step, pipeline, vae
from minildm.course.diagrams.editing import inversion_round_trip, strength_line
from minildm.course.diagrams.fewstep import one_end
from minildm.course.diagrams.hunting import decision_tree, where_to_measure
from minildm.course.diagrams.networks import (
    adaln_zero_block,
    control_copy,
    residual_block,
    time_embedding,
    unet,
)
from minildm.course.diagrams.restoring import decoupled_step, measurement
from minildm.course.diagrams.scores import judging_crowds, too_near
from minildm.course.diagrams.spaces import equal_cost, features_beside
from minildm.course.diagrams.vectors import (
    crossing_lines,
    guidance_vectors,
    mask_consistency,
    sampler_step,
    schedule_clock,
)

# in the order of the lessons
ALL = {function.__name__: function for function in (
    pipeline, vae, gan_step, forward_reverse, schedule_clock,
    residual_block, time_embedding, self_attention, unet, sampler_step,
    two_towers, cross_attention_block, guidance_vectors, crossing_lines, adaln_zero_block,
    strength_line, mask_consistency, inversion_round_trip, control_copy, measurement,
    decoupled_step, judging_crowds, too_near, equal_cost, features_beside, one_end,
    attention_along_time, where_to_measure, decision_tree,
)}
