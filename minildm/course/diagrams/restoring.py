"""Restoration: what a measurement is; a step that guesses, obeys it, and noises again."""

from minildm.course.diagrams.drawing import arrow, box, frame, label, operator, page
from minildm.course.figures import describe


def measurement():
    """y = A x + noise; the transpose leads back to a picture, though not to x."""
    figure, axes = page(2.2)
    x = box(axes, 0.85, 1.5, "picture $x$", "data", "(B, 1, 28, 28)", width=1.3, tensor=True)
    apply = box(axes, 2.6, 1.5, "$A$", "condition", "linear", width=0.9)
    total = operator(axes, 3.9, 1.5, "+")
    noise = box(axes, 3.9, 0.5, "noise", "noise", r"$\sigma_y\,\varepsilon$", width=0.9,
                tensor=True)
    y = box(axes, 5.2, 1.5, "$y$", "condition", "what is known", width=1.2, tensor=True)
    back = box(axes, 6.9, 1.5, "$A^\\top$", "condition", "transpose", width=0.9)
    shown = box(axes, 6.9, 0.5, r"$A^\top y$", "data", "like $x$ in shape", width=1.4, tensor=True)
    arrow(axes, x.right, apply.left)
    arrow(axes, apply.right, total.left)
    arrow(axes, noise.top, total.bottom, kind="noise")
    arrow(axes, total.right, y.left)
    arrow(axes, y.right, back.left)
    arrow(axes, back.bottom, shown.top)
    label(axes, 2.3, 0.5, "many pictures have the same $A\\,x$", "loss")
    return describe(figure, """A picture x goes through a linear map A; noise is added, which
        gives the measurement y. The transpose of A leads from y to something of the picture's
        shape. A remark says that many pictures have the same A x.""")


def decoupled_step():
    """Guess the data, draw it given y, and noise the draw to the next time."""
    figure, axes = page(2.7)
    x_t = box(axes, 0.7, 1.75, "$x_t$", "noise", "noisy latent", width=1.0, tensor=True)
    guess = box(axes, 2.3, 1.75, "denoise", "network", "the prior", width=1.05)
    middle = box(axes, 3.95, 1.75, r"$\mathcal{N}(\hat x_0,\,r_t^2)$", "network",
                 "what may have\nbecome $x_t$", width=1.3, height=0.75)
    given = box(axes, 5.75, 1.75, "a draw, given $y$", "condition",
                "least squares\nthrough $A$ and decode", width=1.55, height=0.75)
    x_s = box(axes, 7.35, 1.75, "$x_s$", "noise", r"$\alpha_s z+\sigma_s\varepsilon$", width=0.95,
              tensor=True)
    y = box(axes, 5.75, 0.75, "$y$", "condition", "measured", width=0.9, tensor=True)
    arrow(axes, x_t.right, guess.left)
    arrow(axes, guess.right, middle.left)
    arrow(axes, middle.right, given.left)
    arrow(axes, y.top, given.bottom)
    arrow(axes, given.right, x_s.left)
    arrow(axes, x_s.bottom, (7.35, 0.2), (0.7, 0.2), x_t.bottom)
    label(axes, 3.2, 0.37, "again from the next time, until $t=0$")
    frame(axes, 3.2, 1.25, 6.6, 2.55, "approximated: a Gaussian, the decoder as a line")
    return describe(figure, """From the noisy latent x_t the denoiser, the prior, makes a guess.
        A Gaussian around it stands for all data that may have become x_t. From it a latent is
        drawn, given the measurement y, by least squares through A and the decoder. It is noised to
        the next time, x_s, and all is done again until t = 0. A frame marks what is approximated: a
        Gaussian, and the decoder as a line.""")
