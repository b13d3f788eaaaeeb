"""Alternative texts of lesson 14's figures, for those who cannot see them."""

ALT = {
    "versions":
        "Ten digits, and seven rows of changed ones: noisy, pale, blurred, one pixel to "
        "the right, the nearest other digit, a blurry mean of ten digits, and black.",
    "maps":
        "Above, a digit and its seven changed versions; below, maps of SSIM: 1 "
        "everywhere for the digit itself, low along the strokes where they moved, near "
        "0 for black.",
    "drawn":
        "Three rows of twenty digits, which can nearly all be read; the lowest, at "
        "scale 4, are the boldest and most alike.",
    "FD":
        "to be written when it is drawn",
    "KD":
        "to be written when it is drawn",
    "balls":
        "to be written when it is drawn",
    "sets":
        "Rows of twenty digits: real, three rows of the model's, blurred, ten digits "
        "twice, the second time with odd ones at its end, mislabelled, the model's with "
        "a copy among them, all copied.",
    "scores":
        "to be written when it is drawn",
    "power":
        "to be written when it is drawn",
    "beside":
        "to be written when it is drawn",
    "last":
        "to be written when it is drawn",
}
