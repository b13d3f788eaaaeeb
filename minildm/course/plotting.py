"""Pictures of what happens: images, paths from noise to data, schedules, losses, the package's own source.

Every function draws one figure, shows it and returns nothing, so a notebook cell holds that picture and no
text; with `path` it goes to a file instead, and no window system is touched. A grid of images is one array,
a montage, drawn by one `imshow`: figures stay small. Images are float in [-1, 1] or uint8, (N, C, H, W).
"""

import inspect
import math
import os
from pathlib import Path

import torch

from minildm import MinildmError
from minildm.diffusion.schedules import log_snr

DPI = 80
# logged with the losses, on other scales
ASIDE = {"step", "lr", "seconds", "accuracy", "unexplained", "data_std"}


def _figure(width: float, height: float, path):
    """An empty figure of so many pixels: pyplot's, which can be shown, or, with a path, one to be saved."""
    if path is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI)


def _finish(figure, path):
    """Show the figure and let go of it, or write `path` whole or not at all."""
    if path is None:
        import matplotlib.pyplot as plt

        if plt.get_backend().lower() != "agg":               # Agg has no window to show: it would only warn
            plt.show()
        plt.close(figure)
        return
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(part)
        os.replace(part, path)
    except (OSError, ValueError) as error:
        raise MinildmError(f"the picture can't be written: {error}", path,
                           "pass a path ending in .png in a folder that you may write to") from error
    finally:
        part.unlink(missing_ok=True)


def grid(images, cols: int | None = None, gap: tuple[int, int] = (1, 1)):
    """Images (N, C, H, W) in rows of `cols`, with white gaps (below, beside): uint8 (height, width, C)."""
    images = torch.as_tensor(images).detach().cpu()
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise MinildmError(f"images are {tuple(images.shape)}", "grid", "pass (N, 1, H, W) or (N, 3, H, W); "
                           "a latent's channels are images too: latents[0][:, None]")
    if images.dtype != torch.uint8:
        images = ((images.float().nan_to_num() + 1) * 127.5).round().clamp(0, 255).byte()
    n, channels, height, width = images.shape
    cols, down, right = _columns(n, cols), height + gap[0], width + gap[1]
    canvas = torch.full((math.ceil(n / cols) * down - gap[0], cols * right - gap[1], channels), 255).byte()
    for i, image in enumerate(images):
        y, x = i // cols * down, i % cols * right
        canvas[y:y + height, x:x + width] = image.permute(1, 2, 0)
    return canvas.numpy()


def _columns(n: int, cols: int | None) -> int:
    return min(cols or math.ceil(math.sqrt(n)), n)


def show_images(images, labels=None, cols: int | None = None, title=None, row_names=(), path=None):
    """A grid of images, a label above each or a name left of each row; about 60 screen pixels an image."""
    if not len(images):
        raise MinildmError("there are no images to show", "show_images", "pass one or more")
    height, width = images.shape[-2:]
    cols = _columns(len(images), cols)
    labels = [] if labels is None else [str(x.item() if hasattr(x, "item") else x) for x in labels]
    zoom = max(1, min(64 // width, 1000 // (cols * (width + 1))))
    text, longest = 15 if labels else 0, 6 * max(map(len, labels), default=0)              # screen pixels
    gap = max(1, math.ceil(text / zoom)), max(1, math.ceil(longest / zoom) - width)
    montage = grid(images, cols, gap)
    wide, high = montage.shape[1] * zoom, montage.shape[0] * zoom
    left = 8 + max(8 * max(map(len, row_names), default=0), gap[1] * zoom // 2)
    above = 8 + text + (20 if title else 0)
    size = (left + wide + 8 + gap[1] * zoom // 2, high + above + 8)
    figure = _figure(*size, path)
    axes = figure.add_axes((left / size[0], 8 / size[1], wide / size[0], high / size[1]))
    axes.imshow(montage, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.axis("off")
    for i, label in enumerate(labels):
        x, y = i % cols * (width + gap[1]) + width / 2, i // cols * (height + gap[0]) - 1
        axes.text(x, y, label, fontsize=8, ha="center", va="bottom")
    for i, name in enumerate(row_names):
        axes.text(-4 / zoom, i * (height + gap[0]) + height / 2, name, fontsize=9, ha="right", va="center")
    if title:
        figure.text(0.5, 1 - 4 / size[1], title, fontsize=10, ha="center", va="top")
    _finish(figure, path)


def save_grid(path, images, labels, class_names, per_class: int = 10):
    """Write a PNG of images with labels (N,): up to `per_class` of each class in a row beside its name."""
    if len(labels) != len(images):
        raise MinildmError(f"{len(labels)} labels of {len(images)} images", "save_grid", "pass one each")
    white = torch.full_like(images[:1], 255 if images.dtype == torch.uint8 else 1)
    rows = [torch.cat([images[labels == c], *[white] * per_class])[:per_class]
            for c in range(len(class_names))]
    show_images(torch.cat(rows), cols=per_class, row_names=class_names, path=path)


def trajectory(steps, decode=None, count: int = 8, title=None, path=None):
    """From noise to image, at `count` of a sampler's steps (t, x, x0): above x, below the x0 it believed in.

    Shows the first image of the batch; `decode` turns latents into images, where x is a latent.
    """
    steps = [step[-3:] for step in steps]                    # samplers.Step has i before (t, x, x0)
    if not steps:
        raise MinildmError("there are no steps", "trajectory", "pass list(ddim(...)): it runs only once")
    chosen = [steps[round(i)] for i in torch.linspace(0, len(steps) - 1, min(count, len(steps))).tolist()]
    strip = torch.cat([step[row][:1] for row in (1, 2) for step in chosen])        # (2 count, C, H, W)
    if decode is not None:
        with torch.no_grad():
            strip = decode(strip)
    times = [f"t = {float(t):.2f}" for t, _, _ in chosen]
    show_images(strip, times, cols=len(times), title=title, row_names=["x", "x0"], path=path)


def plot_schedule(schedules: dict, path=None):
    """Signal alpha(t), noise sigma(t) and log signal-to-noise ratio of named schedules against t."""
    figure = _figure(760, 300, path)
    levels, ratio = figure.subplots(1, 2)
    t = torch.linspace(0, 1, 501)
    for i, (name, schedule) in enumerate(schedules.items()):
        levels.plot(t, schedule.alpha(t), color=f"C{i}", label=f"{name}: alpha")
        levels.plot(t, schedule.sigma(t), color=f"C{i}", linestyle="--", label=f"{name}: sigma")
        ratio.plot(t[1:-1], log_snr(schedule, t[1:-1]), color=f"C{i}", label=name)
    levels.set(xlabel="t (0 data, 1 noise)", ylabel="alpha, sigma")
    ratio.set(xlabel="t (0 data, 1 noise)", ylabel="log(alpha² / sigma²)", ylim=(-15, 15))
    for axes in (levels, ratio):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.tight_layout()
    _finish(figure, path)


def plot_losses(history: dict, path=None, title=None):
    """Loss against step, on a log scale: each value faint, and a running mean over it.

    history is what `training.fit` returned, or `training.read_metrics` of a run.
    """
    losses = {name: torch.tensor(values, dtype=torch.float64) for name, values in history.items()
              if len(values) and name not in ASIDE and "grad_norm" not in name}
    if not losses:
        raise MinildmError("the history holds no losses", "plot_losses", "train for at least one step")
    figure = _figure(560, 320, path)
    axes = figure.subplots()
    for i, (name, values) in enumerate(losses.items()):
        at = torch.tensor(history.get("step", range(1, len(values) + 1)), dtype=torch.float64)
        window = max(1, len(values) // 50)
        total = torch.cat([values.new_zeros(1), values.cumsum(0)])
        axes.plot(at, values, color=f"C{i}", alpha=0.25, linewidth=0.8)
        axes.plot(at[window - 1:], (total[window:] - total[:-window]) / window, color=f"C{i}", label=name)
    if all(values.min() > 0 for values in losses.values()):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss", title=title or "")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    _finish(figure, path)


def show_source(obj):
    """Print the real code of a function, class or module of the package: it can't go stale."""
    try:
        lines, start = inspect.getsourcelines(inspect.unwrap(obj))
        file = Path(inspect.getsourcefile(inspect.unwrap(obj)))
    except (TypeError, OSError) as error:
        raise MinildmError(f"{obj!r} has no source", "show_source", "pass a function or a class") from error
    package = Path(__file__).parents[1]
    place = file.relative_to(package.parent) if file.is_relative_to(package) else file.name
    print(f"# {place}, line {max(start, 1)}\n{''.join(lines).rstrip()}")
