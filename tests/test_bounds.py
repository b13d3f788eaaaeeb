"""What a configuration cannot be is said before anything is built, whatever file it came from."""

import time
from dataclasses import asdict, fields, replace

import pytest

from minildm import MinildmError
from minildm.evaluation.classifier import ClassifierConfig
from minildm.nn.clip import CLIPConfig, TextConfig, VisionConfig
from minildm.nn.dit import DiTConfig
from minildm.nn.unet import UNetConfig
from minildm.nn.vae import VAEConfig
from minildm.training.checkpoint import from_dict

KINDS = UNetConfig, DiTConfig, VAEConfig, TextConfig, VisionConfig, CLIPConfig, ClassifierConfig
HOSTILE = -1, 10**9, 10**30, None, "4", 2.5, float("nan"), float("inf"), [], {}, [[1]], [None], [0], [-8, 8]
NUMBERS = [(kind, field.name) for kind in KINDS for field in fields(kind)
           if (kind, field.name) != (VAEConfig, "attention")]


@pytest.mark.parametrize("kind, name", NUMBERS, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_no_field_takes_what_no_network_has(kind, name):
    began = time.perf_counter()
    given = getattr(kind(), name)
    for value in HOSTILE:
        if isinstance(given, float) and value == 2.5 and kind is ClassifierConfig:
            continue                                                # 2.5 degrees are fine
        if name == "stem" and value == []:
            continue                                                # no stem is the default
        with pytest.raises(MinildmError, match="(?s)fix: "):
            replace(kind(), **{name: value})
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_defaults_come_back_from_json(kind):
    assert from_dict(kind, asdict(kind())) == kind()


@pytest.mark.parametrize("config, cure", [
    (lambda: UNetConfig(heads=7), "no multiple of 7 heads"),
    (lambda: UNetConfig(channels=(30, 60), attention=(True, True)), "no multiple of 32 groups"),
    (lambda: UNetConfig(channels=(33, 33), attention=(False, False), groups=3, heads=1), "sines and cosines"),
    (lambda: UNetConfig(attention=(True,)), "4 widths, 1 entries"),
    (lambda: UNetConfig(num_classes=3, context_dim=0), "set context_dim"),
    (lambda: DiTConfig(heads=7), "no multiple of 7 heads"),
    (lambda: DiTConfig(dim=18, heads=2), "multiple of 4"),
    (lambda: DiTConfig(cross_attention=True), "set context_dim"),
    (lambda: VAEConfig(channels=(30,)), "no multiple of 32 groups"),
    (lambda: TextConfig(heads=7), "no multiple of 7 heads"),
    (lambda: VisionConfig(stem=(4, 8)), "patch=4"),
    (lambda: ClassifierConfig(width=6), "no multiple of 4 groups"),
    (lambda: UNetConfig(attention=(1, True, True, False)), "attention is 1"),
    (lambda: VAEConfig(attention=None), "attention is None"),
    (lambda: UNetConfig(heads=True), "heads is True")])
def test_parts_that_do_not_fit_together_name_the_cure(config, cure):
    with pytest.raises(MinildmError, match=cure):
        config()
