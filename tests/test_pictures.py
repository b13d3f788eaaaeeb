"""One file becomes one picture, or an error: odd modes, damage, hostile files, memory."""

import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from support.images import noise, save_image

from minildm.data import pictures
from minildm.data.pictures import PixelBudget, read_picture, read_size

pytestmark = pytest.mark.filterwarnings("error")


def grey(path, side):
    return np.asarray(read_picture(path, side))[..., 0]


def test_longer_side_is_cropped_in_the_middle(tmp_path):
    wide = noise(20, 60, 3)
    save_image(tmp_path / "wide.png", wide)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "wide.png", 20)), wide[:, 20:40])
    save_image(tmp_path / "tall.png", wide.swapaxes(0, 1).repeat(2, 0).repeat(2, 1))
    half = np.asarray(read_picture(tmp_path / "tall.png", 20), int)
    # made smaller by half, then the same middle
    assert np.abs(half - wide[:, 20:40].swapaxes(0, 1)).mean() < 20
    assert read_size(tmp_path / "wide.png") == (60, 20)


@pytest.mark.parametrize("strip", [1, 16, 1 << 20])
def test_sixteen_bits_become_the_nearest_of_256_levels(tmp_path, monkeypatch, strip):
    monkeypatch.setattr(pictures, "STRIP", strip)
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    save_image(tmp_path / "deep.png", deep)
    assert np.array_equal(grey(tmp_path / "deep.png", 256), np.round(deep / 65535 * 255))
    wide = Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8) * 1000)
    save_image(tmp_path / "wide.tif", wide)
    assert np.array_equal(grey(tmp_path / "wide.tif", 8), np.round(np.asarray(wide) / 257))
    save_image(tmp_path / "beyond.tif", Image.fromarray(np.full((8, 8), 70_000, np.int32)))
    with pytest.raises(ValueError, match="no fixed white"):
        read_picture(tmp_path / "beyond.tif", 8)


def test_odd_modes(tmp_path):
    red = Image.new("RGB", (8, 8), (250, 10, 10))
    save_image(tmp_path / "cmyk.jpg", red.convert("CMYK"), quality=95)
    shown = np.asarray(read_picture(tmp_path / "cmyk.jpg", 8), int)
    assert np.abs(shown - [250, 10, 10]).max() <= 6
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:4] = 0, 0, 255, 255
    save_image(tmp_path / "alpha.png", clear)
    picture = np.asarray(read_picture(tmp_path / "alpha.png", 8))
    assert (picture[:4] == [0, 0, 255]).all() and (picture[4:] == 255).all()
    palette = Image.fromarray(noise(8, 8, 3)).quantize(8)
    save_image(tmp_path / "palette.png", palette, transparency=3)
    index, shown = np.asarray(palette), np.asarray(read_picture(tmp_path / "palette.png", 8))
    assert (shown[index == 3] == 255).all()
    assert np.array_equal(shown[index != 3], np.asarray(palette.convert("RGB"))[index != 3])
    save_image(tmp_path / "bits.png", Image.fromarray(noise(8, 8) > 99))
    assert np.array_equal(grey(tmp_path / "bits.png", 8), (noise(8, 8) > 99) * 255)
    save_image(tmp_path / "float.tif", Image.new("F", (8, 8), 0.5))
    with pytest.raises(ValueError, match="no fixed white"):
        read_picture(tmp_path / "float.tif", 8)


@pytest.mark.parametrize("orientation, turned", [(3, 2), (6, 3), (8, 1)])
def test_exif_turns_upright(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_image(tmp_path / "x.png", Image.fromarray(noise(8, 8)), exif=exif)
    assert np.array_equal(grey(tmp_path / "x.png", 8), np.rot90(noise(8, 8), turned))


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("exif", [b"Exif\0\0not a block", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"x"])
def test_a_broken_exif_block_leaves_the_picture_as_it_stands(tmp_path, kind, exif):
    save_image(tmp_path / f"x.{kind}", Image.fromarray(noise(8, 8, 3)), exif=exif, lossless=True)
    shown = np.asarray(read_picture(tmp_path / f"x.{kind}", 8))
    assert np.array_equal(shown, noise(8, 8, 3))


def test_png_with_a_zeroed_tail_is_refused(tmp_path):
    """As an interrupted copy leaves it: Pillow's load() alone takes most of them for whole."""
    save_image(tmp_path / "x.png", noise(32, 32, 3))
    raw = (tmp_path / "x.png").read_bytes()
    for kept in range(len(raw) // 8, len(raw) - 1, len(raw) // 40):
        (tmp_path / "x.png").write_bytes(raw[:kept] + bytes(len(raw) - kept))
        with pytest.raises(Exception):      # noqa: B017 - Pillow raises anything
            read_picture(tmp_path / "x.png", 32)


def test_every_flipped_bit_of_a_png_is_found_or_harmless(tmp_path):
    save_image(tmp_path / "x.png", noise(16, 16, 3))
    raw, draw = (tmp_path / "x.png").read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(raw)
        damaged[draw.integers(len(raw))] ^= 1 << draw.integers(8)
        (tmp_path / "x.png").write_bytes(damaged)
        try:
            shown = np.asarray(read_picture(tmp_path / "x.png", 16))
        except Exception:
            continue
        assert np.array_equal(shown, noise(16, 16, 3))


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        for read in (read_size, lambda path: read_picture(path, 8)):
            with pytest.raises(ValueError, match="not a file"):
                read(tmp_path / name)


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    head = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + empty)
    for read in (read_size, lambda path: read_picture(path, 8)):
        with pytest.raises(ValueError, match="too many"):
            read(tmp_path / "x.png")


def test_pixels_decoded_at_one_time_are_bounded():
    budget, together, most = PixelBudget(100), [], []

    def work(pixels):
        with budget.take(pixels):
            together.append(pixels)
            most.append(sum(together))
            time.sleep(0.01)
            together.remove(pixels)

    threads = [threading.Thread(target=work, args=(pixels,))
               for pixels in [40, 30, 60, 90, 10, 250] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # one that is larger than the limit has its turn too, alone
    assert len(most) == 18 and sorted(set(most))[-1] == 250
    assert max(n for n in most if n != 250) <= 100 and budget.used == 0


CHILD = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from minildm.data.pictures import read_picture
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as pool:
    shown = list(pool.map(lambda _: read_picture(sys.argv[1], 32), range(8)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024)
"""


@pytest.mark.slow
def test_sixteen_bits_of_eight_thousand_squared_cost_little_memory(tmp_path):
    """Eight threads at once; as float64 each would take 1.6 GB."""
    deep = np.zeros((7990, 7990), np.uint16)
    deep[:4000] = 40_000
    save_image(tmp_path / "deep.png", deep, compress_level=1)
    done = subprocess.run([sys.executable, "-c", CHILD, tmp_path / "deep.png"], check=True,
                          capture_output=True, text=True)
    assert float(done.stdout) < 800         # MB
