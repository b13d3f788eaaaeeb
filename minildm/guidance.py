"""Functions from denoiser to denoiser that steer what is drawn.

Classifier-free guidance asks the network twice, with and without the condition, and goes further in the
direction of the difference:  x0 = x0_null + w (x0_cond - x0_null)  (Ho & Salimans 2022, eq. 6). Written there
for eps; at one x and t, x0 is an affine function of eps (or v, or velocity), so it is the same rule.
"""

import torch


def cfg(denoiser, context, null, guidance_scale: float = 1.0):
    """denoise(x, t) guided towards `context` and away from `null`, both labels (B,) or contexts (B, L, D).

    guidance_scale 1 is the conditional model itself; 0 the unconditional. One batched call, null first.
    """
    def denoise(x, t):
        if guidance_scale == 1:
            return denoiser(x, t, context)
        t = torch.as_tensor(t)
        twice = t if t.ndim == 0 else torch.cat([t, t])
        x0_null, x0_cond = denoiser(torch.cat([x, x]), twice, torch.cat([null, context])).chunk(2)
        return x0_null + guidance_scale * (x0_cond - x0_null)

    return denoise
