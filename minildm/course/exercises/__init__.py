"""The checks that turn a student's cell green, a file per lesson: `exercises.check_kl(my_kl)`.

A check compares the answer with the package or with exact maths. It knows the right answer and the
likely wrong ones, and says nothing about how to write the function. Each lesson calls a check right
under its stub, and the same call is the graded test. `exercises.yours("kl")` is the answer that
passed, or the package's until one has. `harness` says how to write a check.
"""

# ruff: noqa: F401  they are offered, not used, here

from minildm.course.exercises.harness import yours
from minildm.course.exercises.lesson_00 import check_guess_error, check_psnr, check_to_uint8
from minildm.course.exercises.lesson_00_loop import check_draw, check_generate, check_guided
from minildm.course.exercises.lesson_01 import (
    check_kl,
    check_reparameterise,
    check_VAE,
    check_vae_loss,
)
from minildm.course.exercises.lesson_01_training import check_draw_gaussian, check_train_step
from minildm.course.exercises.lesson_02 import (
    check_PatchCritic,
    check_perceptual,
    check_power_and_coherence,
)
from minildm.course.exercises.lesson_02_hinge import (
    check_adaptive_weight,
    check_hinge_critic,
    check_hinge_generator,
)
from minildm.course.exercises.lesson_02_step import check_adversarial_step
from minildm.course.exercises.lesson_03 import (
    check_add_noise,
    check_BetaSchedule,
    check_time_at,
)
from minildm.course.exercises.lesson_03_back import (
    check_latent_scale,
    check_posterior_weights,
    check_reverse_step,
)
from minildm.course.exercises.lesson_04 import check_Residual, check_sinusoid
from minildm.course.exercises.lesson_04_attention import check_multi_head, check_SelfAttention
from minildm.course.exercises.lesson_04_drawing import (
    check_draw_ddpm,
    check_langevin,
    check_score,
)
from minildm.course.exercises.lesson_04_training import (
    check_ema_step,
    check_noise_loss,
    check_train_average,
)
from minildm.course.exercises.lesson_04_unet import check_SmallUNet
from minildm.course.exercises.lesson_05 import check_ddpm, check_posterior
from minildm.course.exercises.lesson_05_ddim import check_ddim, check_ddim_step
from minildm.course.exercises.lesson_05_solvers import (
    check_dpmpp_2m,
    check_from_flow,
    check_from_x0,
    check_heun,
    check_to_x0,
)
from minildm.course.exercises.lesson_06 import *  # noqa: F403
from minildm.course.exercises.lesson_07 import *  # noqa: F403
from minildm.course.exercises.lesson_08 import (
    check_cfg,
    check_classifier_guidance,
    check_towards_both,
)
from minildm.course.exercises.lesson_08_exact import check_exact_x0, check_log_density
from minildm.course.exercises.lesson_08_training import (
    check_label_loss,
    check_PointNetwork,
    check_train,
)
from minildm.course.exercises.lesson_09 import *  # noqa: F403
from minildm.course.exercises.lesson_10 import *  # noqa: F403
from minildm.course.exercises.lesson_11 import check_img2img, check_inpaint
from minildm.course.exercises.lesson_11_back import (
    check_flow_edit,
    check_invert,
    check_step_back,
)
from minildm.course.exercises.lesson_11_repaint import (
    check_joined_step,
    check_noise_again,
    check_repaint,
)
from minildm.course.exercises.lesson_14 import check_coverage, check_mmd, check_ssim_window
from minildm.course.exercises.lesson_14_copies import check_closeness, check_share_of_copies
from minildm.course.exercises.lesson_14_crowds import (
    check_frechet,
    check_kernel_distance,
    check_precision_recall,
)
from minildm.course.exercises.lesson_15 import (
    check_minutes_to,
    check_noise_left,
    check_patch_cost,
    check_to_velocity,
    check_tokens_of,
)
from minildm.course.exercises.lesson_16 import (
    check_alpha_bar_table,
    check_cross_attention_parameters,
    check_leading_entries,
    check_place_of,
    check_to_pixels,
)
from minildm.course.exercises.lesson_A1 import check_diagnose, check_horizon, check_in_range
