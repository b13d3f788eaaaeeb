"""The conventions of pictures: exact there and back, and mistakes that are named."""

import pytest
import torch

from minildm import MinildmError, data
from minildm.images import check_range, to_unit


def test_float_and_back_is_exact_for_all_256_levels():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = data.to_float(levels)
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(data.to_uint8(floats), levels)
    assert data.to_uint8(torch.tensor([-9.0, 9.0, 0.9 / 127.5 - 1])).tolist() == [0, 255, 1]
    assert torch.equal(data.to_uint8(floats.bfloat16()[[0, 255]]), levels[[0, 255]])
    with pytest.raises(MinildmError, match="float32"):
        data.to_float(floats)


@pytest.mark.parametrize("size, larger", [(28, 32), (27, 32), (5, 6)])
def test_crop_undoes_pad_and_the_border_is_black(size, larger):
    images = torch.randint(1, 256, (2, 3, size, size), dtype=torch.uint8)
    padded = data.pad_to(images, larger)
    assert padded.shape == (2, 3, larger, larger) and padded.sum() == images.sum()
    assert torch.equal(data.crop_to(padded, size), images)
    assert torch.equal(data.pad_to(data.to_float(images), larger), data.to_float(padded))
    with pytest.raises(MinildmError, match="crop_to"):
        data.pad_to(padded, size)
    with pytest.raises(MinildmError, match="pad_to"):
        data.crop_to(images, larger)


@pytest.mark.parametrize("wrong, cure", [
    (torch.rand(4), "images \\* 2 - 1"), (255 * torch.rand(4), "127.5 - 1"),
    (torch.tensor([0.0, float("nan")]), "first layer"), (torch.arange(4), "to_float")])
def test_another_range_is_refused_with_its_conversion(wrong, cure):
    with pytest.raises(MinildmError, match=cure):
        check_range(wrong, "here")


def test_either_type_becomes_unit_floats():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_unit(levels, "here"), to_unit(data.to_float(levels), "here"))
