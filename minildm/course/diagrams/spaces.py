"""Latents or pixels at equal cost, and a classifier's features beside the latents."""

from minildm.course.diagrams.drawing import arrow, box, frame, label, page
from minildm.course.figures import describe


def equal_cost():
    """Two spaces, one network of 16 tokens, two questions, one loss."""
    figure, axes = page(2.9)
    photo = box(axes, 0.7, 1.45, "photograph", "data", "3 × 32 × 32", width=1.15, tensor=True)
    vae = box(axes, 2.15, 2.25, "VAE", "network", "encoder", width=0.95)
    latents = box(axes, 3.5, 2.25, "latents", "data", "16 tokens × 64", width=1.3, tensor=True)
    pixels = box(axes, 3.5, 0.65, "pixels", "data", "16 tokens × 192", width=1.3, tensor=True)
    network = box(axes, 5.15, 1.45, "one DiT", "network", "width 128", width=1.1, height=0.6)
    x0 = box(axes, 6.85, 2.25, "says $x_0$", "network", "$(x-x_0)/t$", width=1.2)
    flow = box(axes, 6.85, 0.65, "says $u$", "network", "as it is", width=1.2)
    box(axes, 7.45, 1.45, "loss", "loss", "of $u$", width=0.75)
    arrow(axes, photo.top, (0.7, 2.25), vae.left)
    arrow(axes, photo.bottom, (0.7, 0.65), pixels.left)
    arrow(axes, vae.right, latents.left)
    arrow(axes, latents.right, (5.0, 2.25), (5.0, 1.75), kind="data")
    arrow(axes, pixels.right, (5.0, 0.65), (5.0, 1.15), kind="data")
    arrow(axes, network.right, (5.98, 1.45), (5.98, 2.25), x0.left)
    arrow(axes, network.right, (5.98, 1.45), (5.98, 0.65), flow.left)
    arrow(axes, (7.25, 2.0), (7.25, 1.7))
    arrow(axes, (7.25, 0.9), (7.25, 1.2))
    label(axes, 2.15, 1.78, "costs minutes first")
    label(axes, 1.95, 0.82, "in patches of 8 × 8")
    return describe(figure, """A photograph becomes either a VAE's latents, 16 tokens of 64 numbers,
        for which the VAE must be trained first, or pixels in patches of 8 by 8, 16 tokens of 192
        numbers. Both go through the same DiT of width 128. It says either the data x0, from which
        the velocity is (x - x0) / t, or the velocity u itself. The loss is that of the velocity in
        all four cases.""")


def features_beside():
    """Latents and, less noisy, what a classifier sees: drawn together, one of them dropped."""
    figure, axes = page(3.0)
    photo = box(axes, 0.65, 1.5, "photograph", "data", width=1.1, tensor=True)
    vae = box(axes, 2.05, 2.3, "VAE", "network", "encoder", width=0.95)
    seer = box(axes, 2.05, 0.75, "classifier", "condition", "saw the labels", width=1.25)
    latents = box(axes, 3.55, 2.3, "latents", "data", "16 channels", width=1.1, tensor=True)
    features = box(axes, 3.65, 0.75, "features", "condition", "4 channels", width=1.1, tensor=True)
    both = box(axes, 4.75, 1.5, "side by\nside", "noise", width=0.75, tensor=True)
    network = box(axes, 5.9, 1.5, "denoiser", "network", "draws both", width=1.1, height=0.6)
    decoder = box(axes, 7.3, 2.3, "VAE", "network", "decoder", width=0.95)
    gone = box(axes, 7.3, 0.75, "dropped", "", "features", width=0.95, tensor=True)
    arrow(axes, photo.top, (0.65, 2.3), vae.left)
    arrow(axes, photo.bottom, (0.65, 0.75), seer.left)
    arrow(axes, vae.right, latents.left)
    arrow(axes, seer.right, features.left)
    arrow(axes, latents.right, (4.75, 2.3), both.top)
    arrow(axes, features.right, (4.75, 0.75), both.bottom)
    arrow(axes, both.right, network.left)
    arrow(axes, network.right, (6.62, 1.5), (6.62, 2.3), decoder.left)
    arrow(axes, network.right, (6.62, 1.5), (6.62, 0.75), gone.left)
    label(axes, 5.35, 2.45, "noisy as $t$ says", "noise")
    label(axes, 5.45, 0.58, "half as noisy as that", "noise")
    frame(axes, 1.3, 0.3, 4.35, 1.2)
    label(axes, 2.85, 0.13, "only while training")
    return describe(figure, """A photograph goes through a VAE's encoder, to latents of 16 channels,
        and through a classifier that saw the labels, to features of 4 channels; the classifier is
        used only while training. The two lie side by side, the features with half the noise of the
        latents at each time. A denoiser draws both together. The latents go to the VAE's decoder,
        the features are dropped.""")
