"""How every figure of the course looks, and how it is shown with its alternative text.

`set_style()` once in a lesson's first cell; then `show(figure, alt="...")` in place of
`plt.show()`. The text says in words what the picture says to the eye. It goes into the output's
metadata as {"image/png": {"alt": ...}}, where nbconvert's templates look for it, and stands for the
picture where only text is shown. This file loads matplotlib and IPython only when they are used.
"""

import base64
import io

from minildm import MinildmError

DPI = 110
TEXT = 9            # points: no text of the course is smaller
WIDTH = 8           # inches: the width of a page

# Okabe and Ito's colours, which the colour-blind can tell apart; one meaning each
COLOURS = {
    "data": "#0072B2",          # pictures, latents: what is known or wanted
    "noise": "#767676",         # noise, and what is mostly noise
    "network": "#009E73",       # what is learned
    "condition": "#E69F00",     # time, label, text: what the network is told
    "loss": "#D55E00",          # losses and their gradients
}
CYCLE = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#767676", "#000000"]


def set_style():
    """Make matplotlib draw as the course does: 110 dpi, 9 points, colours that can be told."""
    import matplotlib

    sizes = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize",
             "ytick.labelsize", "legend.fontsize", "figure.titlesize")
    matplotlib.rcParams.update(dict.fromkeys(sizes, TEXT))
    matplotlib.rcParams.update({
        "figure.dpi": DPI,
        "figure.figsize": (WIDTH, 3),
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.cmap": "cividis",
        "legend.frameon": False,
    })


def describe(figure, alt: str):
    """Attach an alternative text to a figure and return the figure."""
    figure.alt = " ".join(alt.split())
    return figure


def grid_in_words(n: int, cols: int, labels: list, row_names: list, title=None) -> str:
    """What a grid of images holds, for those who can't see it; names as they are drawn."""
    words = f"{title}: " if title else ""
    words += f"{n} images in {-(-n // cols)} rows of {cols}"
    if row_names:
        words += "; rows: " + ", ".join(row_names)
    if labels:
        # a hundred labels tell a listener less than the first few
        words += "; labels: " + ", ".join(labels[:12]) + (", …" if len(labels) > 12 else "")
    return words + "."


def show(figure=None, alt: str | None = None):
    """Show a figure, pyplot's current one if none is given, with its alternative text; close it.

    `alt` is not needed for a figure that carries its own, as diagrams do. In a notebook the text is
    the output's metadata; in a script with a window, the window opens.
    """
    import matplotlib.pyplot as plt

    figure = plt.gcf() if figure is None else figure
    if alt is not None:
        describe(figure, alt)
    if not getattr(figure, "alt", ""):
        raise MinildmError("this figure has no alternative text", "show",
                           'say in words what it shows: show(fig, alt="...")')
    backend = plt.get_backend().lower()
    if any(name in backend for name in ("inline", "ipympl", "nbagg")):
        _display(figure)
    elif backend != "agg":          # Agg has no window to show: it would only warn
        plt.show()
    plt.close(figure)


def _display(figure):
    """Hand a notebook the figure's picture, with the text in its metadata."""
    from IPython.display import display

    # axes that were all placed by hand leave a layout engine nothing to do, and it would warn
    if all(axes.get_subplotspec() is None for axes in figure.axes):
        figure.set_layout_engine("none")
    picture = io.BytesIO()
    # as Jupyter's own backend crops it
    figure.savefig(picture, format="png", bbox_inches="tight")
    data = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": figure.alt}
    display(data, metadata={"image/png": {"alt": figure.alt}}, raw=True)
