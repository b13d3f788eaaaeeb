"""Alternative texts of lesson 14's figures, for those who cannot see them."""

ALT = {
    "versions":
        "Ten digits, and seven rows of changed ones: noisy, pale, blurred, one pixel to the "
        "right, the nearest other digit, a blurry mean of ten digits, and black.",
    "maps":
        "Above, a digit and its seven changed versions; below, maps of SSIM: 1 everywhere for "
        "the digit itself, low along the strokes where they moved, near 0 for black where the "
        "digit was.",
    "drawn":
        "Three rows of twenty digits, which can nearly all be read; the lowest, at scale 4, "
        "are the boldest and most alike.",
    "FD":
        "FD against 1 / N. Real digits by chance rise steeply from 0.1 to 3.2 with a wide "
        "band; real balanced ones from 0.2 to 0.8; the model's at scale 1.5 lie a little "
        "above those.",
    "KD":
        "KD against 1 / N. Real digits by chance stay about 0 down to 200 pictures, and have "
        "-0.2 at 100; real balanced ones and the model's fall along one straight line to -0.6.",
    "balls":
        "Four panels of fakes on the grey balls of a ring. All of it: nearly all inside. Half "
        "of it: only the upper half has fakes. Too wide: many crosses outside. Half and four "
        "strays: four crosses in the corners.",
    "sets":
        "Rows of twenty digits: real, three rows of the model's, blurred, ten digits twice, "
        "the second time with odd ones at the end, mislabelled, all copied, and 5 % copied, of "
        "which these twenty are all the model's.",
    "scores":
        "A table of ten sets and seven scores. Shaded as worse than real: most cells of ten "
        "digits, ten and strays, scale 4; none of all copied; mislabelled as scale 1.5 but "
        "for a label accuracy of 0.",
    "power":
        "Share of sets that are caught against copies in 100. Your test: 0 at none, 0.11 at "
        "one, 0.89 at two, 1 from five on. The median: 0.02, 0.04, 0.08, 0.26, and 0.8 at "
        "ten.",
    "beside":
        "Twelve digits above their nearest training pictures; ten pairs are equal, the last "
        "two nearly.",
    "last":
        "The same table with a column of copies: about 0 for real, the model, blurred and "
        "mislabelled; 0.99 for ten digits and all copied, 0.05 for 5 % copied, all shaded.",
}
