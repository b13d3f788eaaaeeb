"""The whole model, and what is trained in it: pipeline, autoencoder, noising chain, critic."""

from minildm.course.diagrams.drawing import (
    arrow,
    box,
    chain,
    fill,
    frame,
    label,
    operator,
    page,
)
from minildm.course.figures import COLOURS, describe

MEANINGS = {
    "data": "data: picture, latent",
    "noise": "noise",
    "network": "network: learned",
    "condition": "condition: time, text",
    "loss": "loss, gradient",
}


def key(axes, y: float):
    """Say what each colour means, in one row."""
    x = 0.25
    for kind, meaning in MEANINGS.items():
        axes.add_patch(_swatch(x, y, kind))
        label(axes, x + 0.25, y, meaning, align="left")
        x += 0.55 + 0.066 * len(meaning)


def _swatch(x, y, kind):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y - 0.07), 0.18, 0.14, facecolor=fill(kind), edgecolor=COLOURS[kind],
                     linewidth=1.4)


def pipeline():
    """From words and noise to a picture: what latent diffusion consists of."""
    figure, axes = page(4.5)
    key(axes, 0.2)
    _training(axes)
    _drawing(axes)
    return describe(figure, """Training: a picture goes through the VAE's encoder to a latent;
        time and noise are drawn, the latent is noised, and the loss compares the network's guess
        with what was drawn. Drawing: noise goes through denoiser, guidance and the sampler's step,
        n times in a loop from t = 1 to 0, then through the decoder to a picture. Time and the
        encoded text enter the denoiser. A key gives the five colours: data blue, noise grey,
        network green, condition orange, loss red.""")


def _training(axes):
    """Draw the upper half of the pipeline."""
    frame(axes, 0.1, 2.95, 7.9, 4.4, "training")
    picture = box(axes, 0.7, 3.55, "picture", "data", "(B, 3, H, W)", tensor=True)
    encoder = box(axes, 1.9, 3.55, "encoder", "network", "of the VAE", width=0.9)
    latent = box(axes, 3.1, 3.55, "latent $x_0$", "data", "(B, 4, h, w)", tensor=True)
    noising = box(axes, 4.5, 3.55, r"$x_t=\alpha\,x_0+\sigma\,\varepsilon$", "noise",
                  r"t and $\varepsilon$ drawn", width=1.3)
    told = box(axes, 5.9, 4.17, "t, text", "condition", width=0.7, height=0.3, tensor=True)
    network = box(axes, 5.9, 3.55, "denoiser", "network", "U-Net or DiT", width=1.05)
    loss = box(axes, 7.2, 3.55, "loss", "loss", "guess against\nwhat was drawn", width=1.15,
               height=0.7)
    chain(axes, picture, encoder, latent, noising, network, loss)
    arrow(axes, told.bottom, network.top)


def _drawing(axes):
    """Draw the lower half: a loop of the sampler, and what surrounds it."""
    frame(axes, 0.1, 0.5, 7.9, 2.8, "drawing")
    noise = box(axes, 0.75, 1.75, "noise", "noise", "(B, 4, h, w)", tensor=True)
    network = box(axes, 2.45, 1.75, "denoiser", "network", "U-Net or DiT", width=1.1)
    guidance = box(axes, 3.95, 1.75, "guidance", "condition", "scale w", width=1.0)
    step = box(axes, 5.35, 1.75, "step", "", "sampler, schedule", width=1.25)
    decoder = box(axes, 6.75, 1.75, "decoder", "network", "of the VAE", width=0.9)
    drawn = box(axes, 6.75, 0.85, "picture", "data", "(B, 3, H, W)", tensor=True)
    chain(axes, noise, network, guidance, step, decoder)
    arrow(axes, decoder.bottom, drawn.top)
    # what the network is told enters from above
    text = box(axes, 2.95, 2.5, "text", "condition", width=0.6, height=0.32, tensor=True)
    tower = box(axes, 4.35, 2.5, "text encoder", "network", width=1.15, height=0.32)
    arrow(axes, text.right, tower.left)
    arrow(axes, tower.bottom, (4.35, 2.17), (2.7, 2.17), network.at(0.4545, 1))
    time = box(axes, 1.75, 2.5, "time t", "condition", width=0.7, height=0.32, tensor=True)
    arrow(axes, time.at(0.7, -1), (time.at(0.7, -1)[0], 2.17), (2.15, 2.17),
          network.at(-0.5455, 1))
    # back to the network with the next, smaller time
    arrow(axes, step.bottom, (5.35, 1.1), (2.45, 1.1), network.bottom)
    label(axes, 3.9, 0.94, "n times, from t = 1 (noise) down to t = 0 (data)")


def vae():
    """The variational autoencoder and the two terms of its loss."""
    figure, axes = page(2.85)
    picture = box(axes, 0.65, 1.75, "picture $x$", "data", "(B, C, H, W)", tensor=True)
    encoder = box(axes, 2.0, 1.75, "encoder", "network", r"$q(z\,|\,x)$", width=0.9)
    mean = box(axes, 3.3, 2.2, r"mean $\mu$", "data", "(B, c, h, w)", tensor=True)
    std = box(axes, 3.3, 1.3, r"std $s$", "data", "(B, c, h, w)", tensor=True)
    # z is computed from mean, std and noise drawn elsewhere
    total = operator(axes, 4.45, 2.2, "+")
    product = operator(axes, 4.45, 1.3, "×")
    noise = box(axes, 4.45, 0.45, r"noise $\varepsilon$", "noise", "N(0, I)", tensor=True)
    latent = box(axes, 5.3, 2.2, "$z$", "data", "(B, c, h, w)", tensor=True)
    decoder = box(axes, 6.35, 1.75, "decoder", "network", r"$p(x\,|\,z)$", width=0.8)
    again = box(axes, 7.42, 1.75, "$x'$", "data", "(B, C, H, W)", tensor=True)
    frame(axes, 2.72, 0.95, 3.88, 2.53)
    chain(axes, picture, encoder)
    arrow(axes, encoder.right, (2.62, 1.75), (2.62, 2.2), mean.left)
    arrow(axes, (2.62, 1.75), (2.62, 1.3), std.left)
    chain(axes, mean, total, latent)
    chain(axes, std, product)
    arrow(axes, noise.top, product.bottom)
    arrow(axes, product.top, total.bottom)
    arrow(axes, latent.bottom, (5.3, 1.75), decoder.left)
    chain(axes, decoder, again)
    # the two losses, under what they judge
    kl = box(axes, 3.0, 0.45, r"KL$(q\,\|\,N(0, I))$", "loss", "towards the prior", width=1.35)
    arrow(axes, (3.0, 0.95), kl.top, kind="loss")
    rebuilt = box(axes, 6.35, 0.45, "reconstruction", "loss", "$x'$ against $x$", width=1.35)
    arrow(axes, again.bottom, (again.x, 0.45), rebuilt.right, kind="loss")
    label(axes, 4.45, 2.68, r"$z=\mu+s\,\varepsilon$: gradients reach $\mu$ and $s$")
    return describe(figure, """A picture goes through the encoder, which gives a mean and a standard
        deviation per latent value. Noise times the standard deviation plus the mean is the latent
        z; the decoder makes a picture of it. Two losses: the KL divergence of the encoder's
        Gaussian from N(0, I), and the reconstruction's distance from the picture.""")


def forward_reverse():
    """The graphical model: noise is added by a fixed chain, and taken away by a learned one."""
    figure, axes = page(2.3)
    kinds = ["data", "data", "noise", "noise", "noise"]
    names = ["$x_0$", "$x_1$", "$x_{i-1}$", "$x_i$", "$x_T$"]
    places = [0.6, 2.1, 3.75, 5.45, 7.4]
    nodes = [box(axes, x, 1.2, name, kind, width=0.62, height=0.5, tensor=True)
             for x, name, kind in zip(places, names, kinds, strict=True)]
    for before, after in ((0, 1), (2, 3)):
        low, high = nodes[before], nodes[after]
        arrow(axes, low.at(1, 0.5), high.at(-1, 0.5), kind="noise")
        arrow(axes, high.at(-1, -0.5), low.at(1, -0.5), kind="network")
    for before, after in ((1, 2), (3, 4)):
        label(axes, (places[before] + places[after]) / 2, 1.2, "· · ·", size=12)
    label(axes, 4.6, 1.85, r"$q(x_i\,|\,x_{i-1})$: add a little noise", kind="noise")
    label(axes, 4.6, 0.55, r"$p_\theta(x_{i-1}\,|\,x_i)$: learned, takes it away", kind="network")
    # the marginal: x_i from x_0 at once
    arrow(axes, nodes[0].top, (0.6, 2.12), (7.4, 2.12), nodes[4].top, kind="noise")
    label(axes, 1.5, 1.88, "any step in one jump", kind="noise")
    label(axes, 0.6, 0.75, "data", kind="data")
    label(axes, 7.4, 0.75, "N(0, I)", kind="noise")
    label(axes, 4.0, 0.15, r"time $t=i/T$ runs from 0 (data) on the left to 1 (noise) on the right")
    return describe(figure, """A chain of variables from the data x_0 on the left to pure noise x_T
        on the right. Arrows to the right, q, add a little noise and are fixed; arrows to the left,
        p_theta, are learned and take it away. One long arrow goes from x_0 to x_T in one jump.""")


def gan_step():
    """The two half-steps of adversarial training, and who receives which gradient."""
    figure, axes = page(3.7)
    for y, name in ((2.85, "1 · step of the autoencoder"), (1.0, "2 · step of the critic")):
        frame(axes, 0.1, y - 0.85, 7.9, y + 0.75, name)
    real = box(axes, 0.7, 2.75, "real $x$", "data", width=0.8, tensor=True)
    coder = box(axes, 2.15, 2.75, "autoencoder", "network", "trained", width=1.1)
    fake = box(axes, 3.65, 2.75, "fake $x'$", "data", width=0.9, tensor=True)
    critic = box(axes, 5.2, 2.75, "critic", "network", "frozen", width=0.9)
    loss = box(axes, 6.95, 2.75, "adversarial", "loss", "score should rise", width=1.4)
    chain(axes, real, coder, fake, critic, loss)
    _gradient(axes, loss, critic, fake, coder)

    real = box(axes, 0.7, 1.15, "real $x$", "data", width=0.8, tensor=True)
    fake = box(axes, 0.7, 0.5, "fake $x'$", "data", width=0.8, tensor=True)
    # the critic learns from the fake, the autoencoder not from this step
    detach = box(axes, 2.35, 0.5, "detach", "", width=0.8, height=0.4)
    critic = box(axes, 4.6, 0.83, "critic", "network", "trained", width=0.9)
    loss = box(axes, 6.8, 0.83, "hinge loss", "loss", "real up, fake down", width=1.5)
    chain(axes, fake, detach)
    arrow(axes, real.right, (3.6, 1.15), (3.6, 0.95), critic.at(-1, 0.48))
    arrow(axes, detach.right, (3.6, 0.5), (3.6, 0.72), critic.at(-1, -0.44))
    chain(axes, critic, loss)
    _gradient(axes, loss, critic)
    label(axes, 2.35, 0.82, "no gradient passes")
    return describe(figure, """Two rows. Step of the autoencoder: a real picture goes through the
        autoencoder to a fake, through the frozen critic to the adversarial loss; the gradient,
        dashed, goes back through the critic to the autoencoder. Step of the critic: the real
        picture and the detached fake go to the critic and its hinge loss; the gradient stops at
        the critic.""")


def _gradient(axes, *boxes):
    """Draw a gradient's way back through boxes, below the arrows that carry values."""
    for after, before in zip(boxes, boxes[1:], strict=False):
        y = after.y - 0.12
        start, end = after.at(-1, 0)[0], before.at(1, 0)[0]
        arrow(axes, (start, y), (end, y), kind="loss", gradient=True)
