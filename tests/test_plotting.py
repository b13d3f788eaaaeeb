"""Figures hold the pixels that were asked for and appear once; the source that is shown is what runs."""

import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from minildm import MinildmError, plotting
from minildm.course.plotting import (
    grid,
    plot_losses,
    plot_schedule,
    save_grid,
    show_images,
    show_source,
    trajectory,
)
from minildm.diffusion import samplers, schedules
from minildm.training.loop import read_metrics


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, channels=1, size=8, seed=0):
    return (torch.rand(n, channels, size, size, generator=rng(seed)) * 255).byte()


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were shown, kept open for the test to look into."""
    figures, finish = [], plotting._finish

    def keep(figure, path):
        figures.append(figure)
        finish(figure, path)

    monkeypatch.setattr(plotting, "_finish", keep)
    return figures


# ---- the montage

@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_every_image(channels):
    images = pictures(7, channels, 5)
    montage = grid(images, cols=3, gap=(2, 1))
    assert montage.shape == (3 * 5 + 2 * 2, 3 * 5 + 2, channels) and montage.dtype == np.uint8
    covered = np.zeros(montage.shape[:2], bool)
    for i in range(7):
        y, x = i // 3 * 7, i % 3 * 6
        assert (montage[y:y + 5, x:x + 5] == images[i].permute(1, 2, 0).numpy()).all()
        covered[y:y + 5, x:x + 5] = True
    assert (montage[~covered] == 255).all()  # gaps, and the two places without an image


def test_grid_of_floats_spans_minus_one_to_one_and_clips():
    image = torch.tensor([-1, -0.5, 0.5, 1, -3, 3, float("nan"), 0]).view(1, 1, 2, 4)
    assert grid(image).flatten().tolist() == [0, 64, 191, 255, 0, 255, 128, 128]


def test_grid_is_square_by_default_and_never_wider_than_its_images():
    assert grid(pictures(9)).shape[:2] == (26, 26)
    assert grid(pictures(2), cols=10).shape[:2] == (8, 17)


@pytest.mark.parametrize("shape", [(4, 4, 8, 8), (8, 8), (0, 1, 8, 8)])
def test_grid_refuses_what_is_no_picture(shape):
    with pytest.raises(MinildmError, match=r"latents\[0\]"):
        grid(torch.zeros(shape))


# ---- figures of images

def test_show_images_draws_one_montage_and_leaves_nothing_open(drawn):
    assert show_images(pictures(6, size=28), labels=torch.arange(6), cols=3, title="six") is None
    assert len(drawn) == 1 and plt.get_fignums() == []
    axes, = drawn[0].axes
    assert len(axes.images) == 1  # one imshow, however many images
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2", "3", "4", "5"]
    assert [text.get_text() for text in drawn[0].texts] == ["six"]
    assert drawn[0].dpi == 110


def test_saved_pixels_are_the_images_pixels(tmp_path):
    """Each pixel becomes a block of zoom x zoom equal ones, somewhere in the file."""
    images = pictures(4, 3, 28)
    show_images(images, cols=2, path=tmp_path / "a.png")
    montage = grid(images, cols=2)
    big = np.repeat(np.repeat(montage, 2, axis=0), 2, axis=1)  # 64 // 28
    file = pixels(tmp_path / "a.png")
    assert file.shape[0] == big.shape[0] + 16 and file.shape[1] == big.shape[1] + 16 + 2
    assert (file[8:8 + big.shape[0], 9:9 + big.shape[1]] == big).all()


def test_long_labels_do_not_overlap(drawn):
    show_images(pictures(4, 3, 32), ["a photo of an airplane"] * 4, cols=2)
    drawn[0].draw_without_rendering()
    first, second = (text.get_window_extent() for text in drawn[0].axes[0].texts[:2])
    assert first.x1 < second.x0


def test_save_grid_puts_each_class_in_a_row(tmp_path, drawn):
    labels = torch.tensor([2, 0, 2, 0, 0])
    images = torch.stack([torch.full((1, 28, 28), 10 * i) for i in range(5)]).byte()
    path = tmp_path / "deep" / "samples.png"
    assert save_grid(path, images, labels, ("cat", "dog", "ship"), per_class=2) is None
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts == ["cat", "dog", "ship"]
    montage = drawn[0].axes[0].images[0].get_array()
    corners = [[int(montage[29 * row, 29 * col].flat[0]) for col in range(2)] for row in range(3)]
    assert corners == [[10, 30], [255, 255], [0, 20]]  # white where a class has too few
    assert Image.open(path).format == "PNG" and os.listdir(path.parent) == ["samples.png"]


def test_save_grid_wants_a_label_for_each(tmp_path):
    with pytest.raises(MinildmError, match="one each"):
        save_grid(tmp_path / "a.png", pictures(5), torch.arange(4), ("cat", "dog"))


def test_no_images_are_refused():
    with pytest.raises(MinildmError, match="no images"):
        show_images(torch.zeros(0, 1, 8, 8))


def test_a_failed_save_keeps_the_old_file_and_leaves_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    show_images(pictures(4), path=path)
    before = path.read_bytes()

    def half(self, file, **_):
        with open(file, "wb") as stream:
            stream.write(b"half a pict")
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(MinildmError, match="No space left"):
        show_images(pictures(4, seed=1), path=path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["grid.png"]


def test_a_name_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(MinildmError, match=r"\.png"):
        show_images(pictures(4), path=tmp_path / "grid.xyz")
    assert os.listdir(tmp_path) == []


HOSTILE = [r"$\frac$", "$5 or $6", r"\alpha_{", "\ud800 half", "\x00\x1b[31m", "a\nb\tc", "", "x" * 5000,
           "紅い三", "🎨", "مرحبا", "^_%#&~{}"]


@pytest.mark.filterwarnings("error")
def test_words_are_drawn_as_they_are(tmp_path, drawn):
    """Nobody's prompt or class name is mathematics, has no glyph, or is too long."""
    n = len(HOSTILE)
    show_images(pictures(n), HOSTILE, title=HOSTILE[0], path=tmp_path / "a.png")
    save_grid(tmp_path / "b.png", pictures(n), torch.arange(n), HOSTILE, per_class=1)
    plot_losses({HOSTILE[0]: [2.0, 1.0]}, tmp_path / "c.png", title=HOSTILE[1])
    plot_schedule({HOSTILE[0]: schedules.flow}, tmp_path / "d.png")
    show_images(pictures(n), HOSTILE, title=HOSTILE[2])
    assert all((tmp_path / f"{name}.png").stat().st_size for name in "abcd")
    texts = [text.get_text() for text in drawn[0].axes[0].texts]
    assert texts[0] == r"$\frac$" and texts[3] == "\ufffd half" and texts[5] == "a b c"
    assert max(map(len, texts)) <= 80 and pixels(tmp_path / "a.png").shape[1] < 5000


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """Where a link lies it is replaced, not followed; the longest name that a file may have is written."""
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to(elsewhere)
    show_images(pictures(4), path=tmp_path / "link.png")
    assert elsewhere.read_bytes() == b"mine" and not (tmp_path / "link.png").is_symlink()
    longest = tmp_path / ("x" * 251 + ".png")
    show_images(pictures(4), path=longest)
    assert pixels(longest).size
    with pytest.raises(MinildmError, match="can't be written"):
        show_images(pictures(4), path=elsewhere / "below" / "a.png")
    assert sorted(os.listdir(tmp_path)) == sorted(["elsewhere.png", "link.png", longest.name])


# ---- a sampler's path

def test_trajectory_shows_x_above_x0_at_evenly_spread_steps(drawn):
    data = torch.full((2, 1, 8, 8), -0.5)
    ts = torch.linspace(1, 0, 11)
    steps = list(samplers.ddim(lambda x, t: data, schedules.cosine, torch.zeros(2, 1, 8, 8), ts))
    assert trajectory(steps, count=4) is None
    montage, axes = drawn[0].axes[0].images[0].get_array(), drawn[0].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["t = 0.90", "t = 0.60", "t = 0.30", "t = 0.00", "x", "x0"]
    width = (montage.shape[1] - 4 * 8) // 3
    tops = [int(montage[0, i * (8 + width)].flat[0]) for i in range(4)]
    bottoms = [int(montage[-1, i * (8 + width)].flat[0]) for i in range(4)]
    held = [steps[i].x[0, 0, 0, 0].item() for i in (0, 3, 6, 9)]
    assert tops == [round((x + 1) * 127.5) for x in held]
    assert bottoms == [64] * 4


def test_trajectory_decodes_latents_and_takes_bare_triples(drawn):
    steps = [(torch.tensor(1 - i / 3), torch.zeros(1, 4, 4, 4), torch.ones(1, 4, 4, 4)) for i in range(4)]
    with pytest.raises(MinildmError, match="latent"):
        trajectory(steps)
    trajectory(steps, decode=lambda z: z[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert len(drawn) == 1
    with pytest.raises(MinildmError, match="list"):
        trajectory([])


# ---- curves

def test_plot_schedule_draws_the_schedules(drawn, tmp_path):
    plot_schedule({"cosine": schedules.cosine, "flow": schedules.flow}, path=tmp_path / "s.png")
    levels, ratio = drawn[0].axes
    assert [line.get_label() for line in levels.lines] == ["cosine: alpha", "cosine: sigma", "flow: alpha",
                                                           "flow: sigma"]
    t, sigma = levels.lines[3].get_data()
    np.testing.assert_allclose(sigma, t)
    t, log_ratio = ratio.lines[1].get_data()
    np.testing.assert_allclose(log_ratio, 2 * np.log((1 - t) / t), rtol=1e-3, atol=1e-4)
    for axes in (levels, ratio):
        assert axes.get_xlabel() and axes.get_ylabel()
    assert pixels(tmp_path / "s.png").shape == (340, 880, 3)


def test_plot_losses_draws_losses_alone(drawn, tmp_path):
    """Of a run's file, too, whose last row a kill tore."""
    losses, kl = [5.0, 4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4, 0.5]
    table = {"step": [1, 2, 3, 4, 5], "lr": [1e-3] * 5, "loss": losses, "kl": kl, "accuracy": [0.5] * 5,
             "grad_norm": [1.0] * 5, "grad_norm_critic": [1.0] * 5}
    rows = [table, *zip(*table.values(), strict=True), (6, 0.001)]
    (tmp_path / "metrics.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    assert read_metrics(tmp_path) == table
    assert plot_losses(table, title="run") is None
    axes, = drawn[0].axes
    assert axes.get_legend_handles_labels()[1] == ["loss", "kl"]  # not lr, accuracy, norms
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3, 4, 5]
    assert list(axes.lines[0].get_ydata()) == [5, 4, 3, 2, 1]
    np.testing.assert_allclose(axes.lines[3].get_ydata(), [0.1, 0.2, 0.3, 0.4, 0.5])
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "step" and axes.get_ylabel() == "loss"


def test_plot_losses_smooths_by_a_running_mean_and_keeps_negative_losses_linear(drawn, tmp_path):
    values = (torch.rand(200, generator=rng()) - 0.5).tolist()
    plot_losses({"loss": values}, path=tmp_path / "l.png")
    raw, smooth = drawn[0].axes[0].lines
    assert len(raw.get_xdata()) == 200 and len(smooth.get_xdata()) == 197  # a window of 4 steps
    np.testing.assert_allclose(smooth.get_ydata(), np.convolve(values, np.ones(4) / 4, "valid"), atol=1e-9)
    assert (smooth.get_xdata()[0], smooth.get_xdata()[-1]) == (4, 200)
    assert drawn[0].axes[0].get_yscale() == "linear"
    assert pixels(tmp_path / "l.png").shape == (400, 700, 3)


def test_plot_losses_says_what_is_missing():
    for empty in ({}, {"loss": []}, {"step": [1, 2]}):
        with pytest.raises(MinildmError, match="no losses"):
            plot_losses(empty)


# ---- code

def test_show_source_prints_the_code_that_runs(capsys):
    assert show_source(samplers.ddim) is None
    printed = capsys.readouterr().out
    head, body = printed.split("\n", 1)
    file = open(samplers.__file__).read()
    assert body.rstrip("\n") in file and "def ddim(" in body and "yield Step(i, s, x, x0)" in body
    line = int(head.rsplit(" ", 1)[1])
    assert "minildm/diffusion/samplers.py" in head
    assert file.splitlines()[line - 1] == body.splitlines()[0]


def test_show_source_takes_classes_and_refuses_what_has_no_source(capsys):
    show_source(samplers.Step)
    assert "class Step(NamedTuple)" in capsys.readouterr().out
    for nothing in (len, 3):
        with pytest.raises(MinildmError, match="no source"):
            show_source(nothing)


# ---- where pictures go

def test_in_a_script_without_a_display_nothing_breaks_and_nothing_is_chosen(tmp_path):
    """No back-end is imposed; saving doesn't even load pyplot, which a window system might stop."""
    code = """if True:
        import sys, warnings, torch
        warnings.simplefilter("error")
        from minildm.course.plotting import show_images
        assert "matplotlib" not in sys.modules
        show_images(torch.zeros(4, 1, 8, 8), path="a.png")
        assert "matplotlib.pyplot" not in sys.modules
        show_images(torch.zeros(4, 1, 8, 8))
        import matplotlib.pyplot as plt
        assert plt.get_fignums() == [], plt.get_fignums()
    """
    clean = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=clean, check=True)
    assert (tmp_path / "a.png").exists()


def test_in_a_notebook_each_call_gives_one_picture_and_no_text(monkeypatch):
    """Under Jupyter's own back-end: no value to print, and nothing left to show again at the cell's end."""
    inline = pytest.importorskip("matplotlib_inline.backend_inline")
    displayed = []
    monkeypatch.setattr(inline, "display", lambda figure, metadata=None: displayed.append(None))
    monkeypatch.setattr("IPython.display.display",
                        lambda data, metadata, raw: displayed.append(metadata["image/png"]["alt"]))
    plt.switch_backend("module://matplotlib_inline.backend_inline")
    try:
        black = torch.zeros(4, 1, 8, 8)
        results = [show_images(black, labels=range(4)), plot_losses({"loss": [3.0, 2.0]}),
                   plot_schedule({"flow": schedules.flow}), trajectory([(torch.tensor(0.0), black, black)])]
        assert results == [None] * 4 and plt.get_fignums() == []
        assert displayed == [
            "4 images in 2 rows of 2; labels: 0, 1, 2, 3.", "Losses over 2 steps: loss from 3 to 2.",
            "Curves over t: alpha falls from 1 and sigma rises to 1; the log signal-to-noise ratio falls. "
            "Schedules: flow.", "2 images in 2 rows of 1; rows: x, x0; labels: t = 0.00."]
    finally:
        plt.switch_backend("Agg")
