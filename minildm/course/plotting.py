"""Pictures of what happens: images, paths from noise to data, schedules, losses, source code.

Every function draws one figure, shows it and returns nothing, so a notebook cell holds that picture
and no text; with `path` it goes to a file instead, and no window system is touched. A grid of
images is one array, a montage, drawn by one `imshow`: figures stay small. Images are float in [-1,
1] or uint8, (N, C, H, W). Words, which may be anybody's prompt or a folder's name, are drawn as
they are, never as mathematics.
"""

import contextlib
import inspect
import math
import os
import warnings
from pathlib import Path

import torch

from minildm import MinildmError
from minildm.course.figures import DPI, TEXT, describe, grid_in_words, show
from minildm.diffusion.schedules import log_snr

SCREEN = 1000       # screen pixels that a grid of images is wide, at most
LONGEST = 80        # letters of a label
# logged with the losses, on other scales
ASIDE = {"step", "lr", "seconds", "accuracy", "unexplained", "data_std"}


# ---- figures, text and files

def _figure(width: float, height: float, path):
    """Make an empty figure of so many pixels: pyplot's to show, or, with a path, one to save."""
    size = (width / DPI, height / DPI)
    if path is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=size, dpi=DPI, layout="none")
    # pyplot would choose a window system, which a machine without a screen may not have
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI)


def _finish(figure, path):
    """Show the figure and let go of it, or write `path` whole or not at all."""
    with warnings.catch_warnings():
        # matplotlib's fonts lack Chinese, say: a box stands for such a letter, and no warning
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if path is not None:
            write_whole(path, figure.savefig)
        else:
            show(figure)


def write_whole(path, write):
    """Let write(part) make a file beside `path`, then move it into place: whole, or not at all.

    A symbolic link at `path` is replaced, not followed. Raises MinildmError if that is not
    possible.
    """
    path = Path(path)
    part = path.with_name(f".part-{os.getpid()}{path.suffix}")      # however long the name is
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)                                # a link that lies in wait
        write(part)
        os.replace(part, path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        ending = ".npz" if path.suffix == ".npz" else ".png"
        fix = f"pass a path ending in {ending} in a folder that you may write to"
        raise MinildmError(f"the file can't be written: {reason}", path, fix) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _plain(text) -> str:
    """Make of any text one line that matplotlib can draw, without control characters."""
    text = " ".join(str(text).split())
    if len(text) > LONGEST:
        text = text[:LONGEST - 1] + "…"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _label(label) -> str:
    """The text of a label, which may be a number in a tensor."""
    return _plain(label.item() if hasattr(label, "item") else label)


def _legend(axes, size: int, loc="best"):
    for text in axes.legend(fontsize=size, loc=loc).get_texts():
        text.set_parse_math(False)


# ---- images

def grid(images, cols: int | None = None, gap: tuple[int, int] = (1, 1)):
    """Put images (N, C, H, W) in rows of `cols`, white gaps (below, beside): uint8 (H, W, C)."""
    images = torch.as_tensor(images).detach().cpu()
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise MinildmError(f"images are {tuple(images.shape)}", "grid",
                           "pass (N, 1, H, W) or (N, 3, H, W); "
                           "a latent's channels are images too: latents[0][:, None]")
    if images.dtype != torch.uint8:
        images = ((images.float().nan_to_num() + 1) * 127.5).round().clamp(0, 255).byte()
    n, channels, height, width = images.shape
    # one canvas, filled in place: a figure with one axes an image would be slow and large
    cols = _columns(n, cols)
    rows = math.ceil(n / cols)
    down, right = height + gap[0], width + gap[1]
    canvas = torch.full((rows * down - gap[0], cols * right - gap[1], channels), 255).byte()
    for i, image in enumerate(images):
        row, col = divmod(i, cols)
        y, x = row * down, col * right
        canvas[y:y + height, x:x + width] = image.permute(1, 2, 0)
    return canvas.numpy()


def _columns(n: int, cols: int | None) -> int:
    """As many columns as asked for, or a square's; never more than there are images."""
    return min(cols or math.ceil(math.sqrt(n)), n)


def show_images(images, labels=None, cols: int | None = None, title=None, row_names=(), path=None,
                alt=None):
    """Draw a grid of images, a label above each or a name left of each row.

    `alt` says in words what is seen; without it, their number, rows and labels are said. An image
    takes about 60 screen pixels; each of its own pixels becomes a block of equal ones.
    """
    if not len(images):
        raise MinildmError("there are no images to show", "show_images", "pass one or more")
    height, width = images.shape[-2:]
    cols = _columns(len(images), cols)
    labels = [] if labels is None else [_label(label) for label in labels]
    row_names = [_plain(name) for name in row_names]
    # a whole number of screen pixels a pixel, so that none is blurred
    zoom = max(1, min(64 // width, SCREEN // (cols * (width + 1))))
    # in screen pixels: what stands above each image, the widest label, the longest name of a row
    text_height = 18 if labels else 0
    label_width = 9 * max(map(len, labels), default=0)
    name_width = 9 * max(map(len, row_names), default=0)
    below = max(1, math.ceil(text_height / zoom))
    beside = max(1, math.ceil(label_width / zoom) - width)
    montage = grid(images, cols, (below, beside))
    wide, high = montage.shape[1] * zoom, montage.shape[0] * zoom
    overhang = beside * zoom // 2   # of the labels over the outermost images
    left = 8 + max(name_width, overhang)
    above = 8 + text_height + (22 if title else 0)
    full_width, full_height = left + wide + 8 + overhang, high + above + 8
    figure = _figure(full_width, full_height, path)
    sides = (wide / full_width, high / full_height)
    axes = figure.add_axes((left / full_width, 8 / full_height, *sides))
    axes.imshow(montage, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.axis("off")
    _write_labels(axes, labels, cols, (width, beside), (height, below))
    for i, name in enumerate(row_names):
        y = i * (height + below) + height / 2
        axes.text(-4 / zoom, y, name, fontsize=TEXT, ha="right", va="center", parse_math=False)
    if title:
        _write_title(figure, title, 1 - 4 / full_height)
    describe(figure, alt or grid_in_words(len(images), cols, labels, row_names, title))
    _finish(figure, path)


def _write_title(figure, title, top: float):
    words = figure.text(0.5, top, _plain(title), fontsize=TEXT + 1, ha="center", va="top")
    words.set_parse_math(False)


def _write_labels(axes, labels: list[str], cols: int, across: tuple, down: tuple):
    """Write a label above each image; across and down are a side and a gap, in image pixels."""
    for i, label in enumerate(labels):
        row, col = divmod(i, cols)
        x = col * sum(across) + across[0] / 2
        y = row * sum(down) - 1
        axes.text(x, y, label, fontsize=TEXT, ha="center", va="bottom", parse_math=False)


def save_grid(path, images, labels, class_names, per_class: int = 10):
    """Write a PNG of images with labels (N,): `per_class` of each class beside its name."""
    if len(labels) != len(images):
        what = f"{len(labels)} labels of {len(images)} images"
        raise MinildmError(what, "save_grid", "pass one each")
    white = torch.full_like(images[:1], 255 if images.dtype == torch.uint8 else 1)
    rows = []
    for label in range(len(class_names)):
        own = images[labels == label][:per_class]
        # a class with too few images keeps its row
        missing = white.expand(per_class - len(own), *white.shape[1:])
        rows.append(torch.cat([own, missing]))
    show_images(torch.cat(rows), cols=per_class, row_names=class_names, path=path)


def trajectory(steps, decode=None, count: int = 8, title=None, path=None, alt=None):
    """Draw the way from noise to image at `count` of a sampler's steps (t, x, x0), x above x0.

    It is the first image of the batch; `decode` turns latents into images, where x is a latent.
    """
    steps = [step[-3:] for step in steps]                    # samplers.Step has i before (t, x, x0)
    if not steps:
        fix = "pass list(ddim(...)): it runs only once"
        raise MinildmError("there are no steps", "trajectory", fix)
    places = torch.linspace(0, len(steps) - 1, min(count, len(steps))).tolist()
    chosen = [steps[round(place)] for place in places]
    # above what the sampler held, below what it took the data to be
    noisy = [x[:1] for _, x, _ in chosen]
    clean = [x0[:1] for _, _, x0 in chosen]
    strip = torch.cat(noisy + clean)                         # (2 count, C, H, W)
    if decode is not None:
        with torch.no_grad():
            strip = decode(strip)
    times = [f"t = {float(t):.2f}" for t, _, _ in chosen]
    show_images(strip, times, cols=len(times), title=title, row_names=["x", "x0"], path=path,
                alt=alt)


# ---- curves

def plot_schedule(schedules: dict, path=None, alt=None):
    """Draw alpha(t), solid, sigma(t), dashed, and the log signal-to-noise ratio of schedules."""
    figure = _figure(880, 340, path)
    levels, ratio = figure.subplots(1, 2)
    t = torch.linspace(0, 1, 501)
    inside = t[1:-1]                        # at both ends the ratio is infinite
    for i, (name, schedule) in enumerate(schedules.items()):
        levels.plot(t, schedule.alpha(t), color=f"C{i}", label=f"{name}: alpha")
        levels.plot(t, schedule.sigma(t), color=f"C{i}", linestyle="--", label=f"{name}: sigma")
        ratio.plot(inside, log_snr(schedule, inside), color=f"C{i}", label=name)
    levels.set(xlabel="t (0 data, 1 noise)", ylabel="alpha (solid), sigma (dashed)")
    ratio.set(xlabel="t (0 data, 1 noise)", ylabel="log(alpha² / sigma²)", ylim=(-15, 15))
    for axes in (levels, ratio):
        axes.grid(alpha=0.3)
    # at the upper right no falling curve comes by
    _legend(ratio, TEXT, loc="upper right")
    figure.tight_layout()
    names = ", ".join(map(_plain, schedules))
    describe(figure, alt or f"Curves over t: alpha falls from 1 and sigma rises to 1; the log "
             f"signal-to-noise ratio falls. Schedules: {names}.")
    _finish(figure, path)


def running_mean(values, window: int):
    """The mean of each `window` neighbours of values (N,): (N - window + 1,)."""
    total = torch.cat([values.new_zeros(1), values.cumsum(0)])
    return (total[window:] - total[:-window]) / window


def plot_losses(history: dict, path=None, title=None, alt=None):
    """Draw loss against step, on a log scale: each value faint, and a running mean over it.

    history is what `training.loop.fit` returned, or `read_metrics` of a run.
    """
    losses = {}
    for name, values in history.items():
        if len(values) and name not in ASIDE and "grad_norm" not in name:
            losses[name] = torch.tensor(values, dtype=torch.float64)
    if not losses:
        fix = "train for at least one step"
        raise MinildmError("the history holds no losses", "plot_losses", fix)
    figure = _figure(700, 400, path)
    axes = figure.subplots()
    for i, (name, values) in enumerate(losses.items()):
        steps = torch.tensor(history.get("step", range(1, len(values) + 1)), dtype=torch.float64)
        window = max(1, len(values) // 50)
        # single steps are too noisy to compare by eye: the mean is what is read
        axes.plot(steps, values, color=f"C{i}", alpha=0.25, linewidth=0.8)
        axes.plot(steps[window - 1:], running_mean(values, window), color=f"C{i}", label=name)
    # a loss may be negative, as a critic's is: then there is no logarithm
    if all(values.min() > 0 for values in losses.values()):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss")
    axes.tick_params(labelsize=TEXT)
    axes.set_title(_plain(title or ""), parse_math=False)
    axes.grid(alpha=0.3)
    _legend(axes, TEXT)
    figure.tight_layout()
    ends = [f"{_plain(name)} from {values[0]:.3g} to {values[-1]:.3g}"
            for name, values in losses.items()]
    describe(figure, alt or f"Losses over {len(values)} steps: {', '.join(ends)}.")
    _finish(figure, path)


# ---- code

def show_source(obj):
    """Print the real code of a function, class or module of the package: it can't go stale."""
    try:
        original = inspect.unwrap(obj)
        lines, start = inspect.getsourcelines(original)
        file = Path(inspect.getsourcefile(original))
    except (TypeError, OSError) as error:
        fix = "pass a function or a class"
        raise MinildmError(f"{obj!r} has no source", "show_source", fix) from error
    # paths as in the repository, wherever the package is installed
    package = Path(__file__).parents[1]
    place = file.relative_to(package.parent) if file.is_relative_to(package) else file.name
    code = "".join(lines).rstrip()
    print(f"# {place}, line {max(start, 1)}\n{code}")
