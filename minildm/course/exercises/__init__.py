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
from minildm.course.exercises.lesson_04_loop import check_train_average
from minildm.course.exercises.lesson_04_training import check_ema_step, check_noise_loss
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
from minildm.course.exercises.lesson_07 import check_CrossAttention, check_WordBlock
from minildm.course.exercises.lesson_07_maps import (
    check_draw_watched,
    check_points_at,
    check_word_maps,
)
from minildm.course.exercises.lesson_07_net import check_WordNet
from minildm.course.exercises.lesson_07_training import (
    check_caption_loss,
    check_drop_captions,
    check_fit_captions,
)
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
from minildm.course.exercises.lesson_12 import check_edges, check_zero_conv
from minildm.course.exercises.lesson_12_copy import check_ControlCopy, check_encode
from minildm.course.exercises.lesson_12_forward import check_controlled_unet
from minildm.course.exercises.lesson_12_training import check_train_control
from minildm.course.exercises.lesson_13 import (
    check_average,
    check_average_back,
    check_conjugate_gradients,
    check_consistent,
    check_k_space,
    check_k_space_back,
)
from minildm.course.exercises.lesson_13_prior import (
    check_exact_log_likelihood,
    check_guess_log_likelihood,
    check_latents_given,
    check_measured_denoiser,
    check_ranks,
    check_restore,
)
from minildm.course.exercises.lesson_14 import check_coverage, check_mmd, check_ssim_window
from minildm.course.exercises.lesson_14_copies import check_closeness, check_share_of_copies
from minildm.course.exercises.lesson_14_crowds import (
    check_frechet,
    check_kernel_distance,
    check_precision_recall,
)
from minildm.course.exercises.lesson_15 import *  # noqa: F403
from minildm.course.exercises.lesson_15_loss import check_velocity_loss
from minildm.course.exercises.lesson_15_training import check_clipped_step, check_race
from minildm.course.exercises.lesson_16 import (
    check_alpha_bar_table,
    check_leading_entries,
    check_misfits,
    check_rename_text,
    check_trailing_entries,
    check_zero_terminal,
)
from minildm.course.exercises.lesson_16_draw import (
    check_eps_step,
    check_text_to_image,
    check_v_step,
)
from minildm.course.exercises.lesson_17 import *  # noqa: F403
from minildm.course.exercises.lesson_18 import (
    check_continued,
    check_film_noise,
    check_path_distances,
)
from minildm.course.exercises.lesson_18_layer import (
    check_from_time,
    check_TemporalLayer,
    check_to_time,
)
from minildm.course.exercises.lesson_18_training import check_train_step_of_films
from minildm.course.exercises.lesson_A1 import (
    check_against_linear,
    check_label_gain,
    check_null_off,
)
from minildm.course.exercises.lesson_A1_drawing import (
    check_mended_a,
    check_mended_b,
    check_mended_c,
    check_mended_d,
)
from minildm.course.exercises.lesson_A1_training import (
    check_mended_e,
    check_mended_f,
    check_mended_g,
    check_mended_h,
)
