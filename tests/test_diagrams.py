"""Diagrams can be read: nothing overlaps, leaves the page or is small; the U-Net has a real one's shapes."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from minildm.course import diagrams
from minildm.course.diagrams.networks import SMALL, unet_rows
from minildm.nn.unet import UNet, UNetConfig


@pytest.fixture(scope="module", params=diagrams.ALL, ids=str)
def figure(request):
    drawn = diagrams.ALL[request.param]()
    drawn.canvas.draw()
    return drawn


def texts(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", diagrams.ALL)
def test_it_draws_without_a_warning(name):
    diagrams.ALL[name]().canvas.draw()


def test_text_is_large_enough_and_inside_the_page(figure):
    page = figure.bbox
    for text in texts(figure):
        extent = text.get_window_extent()
        assert text.get_fontsize() >= 9, text
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1, text
        assert page.y0 <= extent.y0 and extent.y1 <= page.y1, text
    assert figure.get_figwidth() <= 8.5 and figure.dpi >= 110


def test_no_two_texts_overlap(figure):
    for one, other in combinations(texts(figure), 2):
        a, b = (text.get_window_extent().padded(-1) for text in (one, other))
        assert not a.overlaps(b), (one, other)


def test_text_is_inside_its_box_or_outside_all(figure):
    boxes = [p for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch) and p.get_gid() == "box"]
    for text in texts(figure):
        extent = text.get_window_extent()
        for patch in boxes:
            frame = patch.get_window_extent()
            if frame.overlaps(extent):
                inside = (frame.x0 <= extent.x0 and extent.x1 <= frame.x1
                          and frame.y0 <= extent.y0 + 2 and extent.y1 <= frame.y1 + 2)
                assert inside, text


def test_no_two_boxes_overlap_and_none_leaves_the_page(figure):
    boxes = [p for p in figure.axes[0].patches if p.get_gid() == "box"]
    for one, other in combinations(boxes, 2):
        assert not one.get_window_extent().padded(-1).overlaps(other.get_window_extent()), (one, other)
    for patch in (p for p in figure.axes[0].patches if p.get_gid()):
        extent, page = patch.get_window_extent(), figure.bbox
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1, patch
        assert page.y0 <= extent.y0 and extent.y1 <= page.y1, patch


def crosses(path, extent) -> bool:
    """Whether a polyline passes through a rectangle."""
    ways = np.linspace(0, 1, 101)[:, None]
    points = np.concatenate([a + (b - a) * ways for a, b in zip(path[:-1], path[1:], strict=True)])
    low, high = (extent.x0, extent.y0), (extent.x1, extent.y1)
    return bool(((points > low) & (points < high)).all(1).any())


def test_no_line_runs_through_a_text_and_no_arrow_through_a_box(figure):
    axes = figure.axes[0]
    arrows = [axes.transData.transform(p._path_original.vertices) for p in axes.patches
              if isinstance(p, FancyArrowPatch)]
    curves = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    for text in texts(figure):
        extent = text.get_window_extent().padded(-2)
        for path in arrows + curves:
            assert not crosses(path, extent), text
    for patch in (p for p in axes.patches if p.get_gid() == "box"):
        for path in arrows:
            assert not crosses(path, patch.get_window_extent().padded(-4)), patch


def test_it_is_described_in_words(figure):
    assert len(figure.alt) > 100 and "\n" not in figure.alt and "  " not in figure.alt
    assert figure.alt.endswith(".")


def test_every_text_of_a_picture_is_its_own():
    described = [draw().alt for draw in diagrams.ALL.values()]
    assert len(set(described)) == len(described) >= 14


def test_they_are_written_as_svg(tmp_path):
    command = [sys.executable, "-m", "minildm.course.diagrams", str(tmp_path / "svg")]
    subprocess.run(command, check=True)
    files = {path.stem: path.read_text() for path in (tmp_path / "svg").glob("*.svg")}
    assert set(files) == set(diagrams.ALL)
    assert "picture goes through the encoder" in files["vae"] and ">encoder<" in files["vae"]


# ---- the U-Net

CONFIGS = {
    "small": SMALL,
    "two levels": UNetConfig(3, 3, (32, 64), (False, True), blocks=1, context_dim=16, heads=4, groups=8),
    "blocks": UNetConfig(4, 8, (16, 24, 24, 32), (True, False, True, False), blocks=2, context_dim=16,
                         heads=2, groups=4),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_shapes_in_the_unet_are_those_of_a_real_one(config):
    network, shapes = UNet(config), {}
    skips = {}

    def remember(name):
        def hook(module, inputs, output):
            shapes[name] = tuple(output.shape[1:])
            skips[name] = inputs[0].shape[1]
        return hook

    levels = len(config.channels)
    for i, level in enumerate(network.down_blocks):
        level.resnets[-1].register_forward_hook(remember(f"down {i}"))
    for k, level in enumerate(network.up_blocks):
        for j, block in enumerate(level.resnets):
            block.register_forward_hook(remember(f"up {levels - 1 - k} {j}"))
    with torch.no_grad():
        network(torch.zeros(1, config.in_channels, 24, 16), 0.5, torch.zeros(1, 3, config.context_dim))
    rows = unet_rows(config, 24, 16)
    assert len(rows) == levels
    before = config.channels[-1]
    for i in reversed(range(levels)):
        row = rows[i]
        assert shapes[f"down {i}"] == (row["down"], *row["size"])
        assert len(row["skips"]) == config.blocks + 1
        for j, channels in enumerate(row["skips"]):
            assert skips[f"up {i} {j}"] == before + channels
            before = shapes[f"up {i} {j}"][0]
        assert shapes[f"up {i} {config.blocks}"] == (row["up"], *row["size"])


@pytest.mark.parametrize("config", [*CONFIGS.values(), UNetConfig()], ids=[*CONFIGS, "Stable Diffusion"])
def test_the_unet_of_any_configuration_is_drawn(config):
    figure = diagrams.unet(config, 64, 64)
    figure.canvas.draw()
    test_no_two_texts_overlap(figure)
    test_text_is_inside_its_box_or_outside_all(figure)
    test_text_is_large_enough_and_inside_the_page(figure)
