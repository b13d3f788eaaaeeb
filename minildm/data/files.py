"""Where pictures come from: anyone's files, or fonts.

Files: sub-folders are classes, a folder without any is one class; train/ and test/ on top stay apart, else a
tenth is for test. No file is trusted: formats come from a list, sizes have a cap, all is decoded to the last
byte, and what can't be read is named and skipped.
Fonts: digits under random poses, drawn by seed, so they need no download and are the same everywhere.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from minildm import MinildmError

SPLITS = ("train", "test")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 64_000_000  # larger images are skipped before they are decoded


def list_files(folder: Path) -> list[list]:
    """[split, class, file, size, time of change] of every file; split "" without train/ and test/."""
    if not folder.is_dir():
        raise MinildmError("there is no such folder", folder, "check the spelling; unpack an archive first")
    splits = [split for split in SPLITS if (folder / split).is_dir()]
    if len(splits) == 1:
        raise MinildmError(f"there is {splits[0]}/ but not the other of train/ and test/", folder,
                           "add it, or move the classes one level up: a tenth of them becomes test")
    rows = []
    for split in splits or [""]:
        for here, below, files in os.walk(folder / split, followlinks=True):
            real = Path(here).resolve()                  # a link to a folder above would never end
            below[:] = sorted(name for name in below
                              if name[0] != "." and not real.is_relative_to(Path(here, name).resolve()))
            inside = Path(here).relative_to(folder / split).parts
            label = inside[0] if inside else "" if below else folder.name
            for file in sorted(os.path.join(here, name) for name in files if name[0] != "."):
                try:
                    status = os.stat(file)
                except OSError:                          # a link to nothing
                    status = os.lstat(file)
                rows.append([split, label, file, status.st_size, status.st_mtime_ns])
    return rows


def read_picture(file, size: int | None = None) -> Image.Image:
    """RGB, upright, over white, size x size: shorter side resized, the middle of the longer kept.

    Without a size, squares up to 64 stay as they are, all else becomes 32. Raises as Pillow does, ValueError.
    """
    if not os.path.isfile(file):
        raise ValueError("not a file")
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}×{image.height} pixels are too many")
        image.load()                                     # all of it: verify() passes most truncated JPEGs
        image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":                            # convert() would clip 16 bits to 256 levels
        values = np.asarray(image, np.float64)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode} has no fixed white: save it with 8 or 16 bits")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    if size is None and image.width == image.height <= 64:
        return image
    return ImageOps.fit(image, (size or 32, size or 32))


def read_files(rows: list[list], name: str, size: int | None = None) -> dict[str, tuple]:
    """{split: (images (N, C, H, W) uint8, labels (N,), class names, skipped files)} of what list_files found.

    C is 1 if every image of both splits is grey, else 3; H = W = size, or 32 without one where they differ.
    """
    class_names = sorted({row[1] for row in rows} - {""})
    unseen = set(class_names) - {row[1] for row in rows if row[0] != "test"}
    if unseen:
        raise MinildmError(f"test/ has classes that train/ has not: {', '.join(sorted(unseen))[:99]}", name,
                           "give both the same sub-folders")

    def read_row(row):
        try:
            return read_picture(row[2], size) if row[1] else "it lies beside the classes' folders"
        except Exception as error:                       # Pillow raises anything; the other files may be good
            return f"{type(error).__name__}: {error}".replace("\n", " ")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(read_row, rows), f"reading {name}", len(rows), disable=None))
    sizes = {picture.size for picture in found if not isinstance(picture, str)}
    side = sizes.pop() if len(sizes) == 1 else (32, 32)
    found = [x if isinstance(x, str) else np.asarray(ImageOps.fit(x, side)).transpose(2, 0, 1) for x in found]
    channels = 1 if all((x[:1] == x).all() for x in found if not isinstance(x, str)) else 3
    seen, tenth, sets = Counter(), set(), {}
    for i in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist():
        if not isinstance(found[i], str):
            if seen[rows[i][1]] % 10 == 1:               # of each class; of a class with one image none
                tenth.add(i)
            seen[rows[i][1]] += 1
    for split in SPLITS:
        mine = [(row, x) for i, (row, x) in enumerate(zip(rows, found, strict=True))
                if (row[0] or SPLITS[i in tenth]) == split]
        good = [(class_names.index(row[1]), x[:channels]) for row, x in mine if not isinstance(x, str)]
        images = np.stack([x for _, x in good]) if good else np.zeros((0, channels, *side), np.uint8)
        sets[split] = (torch.from_numpy(images), torch.tensor([label for label, _ in good]).long(),
                       class_names, [f"{row[2]}: {x}" for row, x in mine if isinstance(x, str)])
    return sets

