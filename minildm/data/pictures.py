"""One file, which nobody vouches for, becomes one square picture of 8-bit RGB, or an error.

Formats come from a list and sizes have a cap; everything is decoded to the last byte, and how
much is decoded at one time has a cap too. PNG files have checksums, which are looked at. JPEG,
WEBP and BMP have none: a damaged one that still decodes is taken as it is.
"""

import contextlib
import os
import stat
import threading

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 64_000_000     # larger images are skipped before they are decoded
OWN_SIZE = 64               # squares up to this side may keep their size
USUAL_SIZE = 32             # what all others become, unless a size is asked for
ORIENTATION = 0x0112        # the EXIF tag
STRIP = 1 << 20             # pixels of 16 bits that are converted at a time


class PixelBudget:
    """Lets threads decode side by side as long as they have at most `limit` pixels together."""

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, pixels: int):
        """Wait until there is room for `pixels`; a picture beyond the limit waits to be alone."""
        with self.changed:
            self.changed.wait_for(lambda: self.used == 0 or self.used + pixels <= self.limit)
            self.used += pixels
        try:
            yield
        finally:
            with self.changed:
                self.used -= pixels
                self.changed.notify_all()


# a picture costs up to 16 bytes a pixel while it is decoded: 1 GB for the largest, or for many
# together
BUDGET = PixelBudget(MAX_PIXELS)


def read_size(path) -> tuple[int, int]:
    """Width and height by a file's first bytes; raises ValueError, or anything as Pillow does."""
    with _open_file(path) as file, Image.open(file, formats=FORMATS) as image:
        _check_size(image)
        return image.size


def read_picture(path, side: int) -> Image.Image:
    """RGB, upright, over white, side × side: shorter side resized, the middle of the longer kept.

    Raises ValueError, or anything that Pillow raises.
    """
    with _open_file(path) as file:
        with Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            pixels = image.width * image.height
            if image.format == "PNG":
                # load() does not notice when the last rows are zeros that no chunk's checksum
                # covers
                image.verify()
        file.seek(0)                        # verify() leaves an image that can't be loaded
        with BUDGET.take(pixels), Image.open(file, formats=FORMATS) as image:
            image.load()                    # all of it: verify() passes most truncated JPEGs
            return _square_rgb(image, side)


def _open_file(path):
    """A file opened for reading; a pipe or a device, which may never end, is a ValueError."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a file")
    return open(path, "rb")


def _check_size(image: Image.Image):
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}×{image.height} pixels are too many")


def _square_rgb(image: Image.Image, side: int) -> Image.Image:
    # a broken EXIF block raises anything; the picture is then taken as it stands
    with contextlib.suppress(Exception):
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    # grey is resized before it takes three channels: the numbers are the same, the memory is not
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    if image.size != (side, side):
        image = ImageOps.fit(image, (side, side))
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as the nearest of 256 levels, where convert() would clip."""
    if image.mode == "F":
        raise ValueError("mode F has no fixed white: save it with 8 or 16 bits")
    width, height = image.size
    levels = np.empty((height, width), np.uint8)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = np.asarray(image.crop((0, top, width, bottom))).astype(np.int32)
        if strip.min() < 0 or strip.max() > 65535:
            raise ValueError(f"mode {image.mode} has no fixed white: save it with 8 or 16 bits")
        levels[top:bottom] = (strip + 128) // 257       # 65535 = 255 * 257; rounded to the nearest
    return Image.fromarray(levels)
