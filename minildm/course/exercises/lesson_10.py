"""The checks of lesson 10: tokens, the adaLN-Zero block, the whole DiT and its training."""

from minildm.course.exercises.lesson_10_block import check_AdaLNZeroBlock
from minildm.course.exercises.lesson_10_dit import check_DiT
from minildm.course.exercises.lesson_10_norm import check_FinalLayer, check_modulate
from minildm.course.exercises.lesson_10_tokens import (
    check_LabelEmbedding,
    check_patchify,
    check_unpatchify,
)
from minildm.course.exercises.lesson_10_training import check_train_dit

__all__ = ["check_AdaLNZeroBlock", "check_DiT", "check_FinalLayer", "check_LabelEmbedding",
           "check_modulate", "check_patchify", "check_train_dit", "check_unpatchify"]
