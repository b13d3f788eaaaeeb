"""Sets of pictures, their captions and the tokenizer. Begin with `sets`."""

from minildm.data.sets import NAMES, ImageSet, available, data_root, default, load
from minildm.data.splits import printable
from minildm.images import crop_to, pad_to, to_float, to_uint8

__all__ = ["NAMES", "ImageSet", "available", "crop_to", "data_root", "default", "load", "pad_to",
           "printable", "to_float", "to_uint8"]
