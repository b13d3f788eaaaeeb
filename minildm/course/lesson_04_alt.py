"""Alternative texts of lesson 04's figures, for those who cannot see them."""

ALT = {
    "noisy":
        "A latent with more and more noise, and the noise alone: at t = 0.02 the two differ, "
        "at 1 they are equal.",
    "mean":
        "Left: a cloud of noisy points with one place marked. Right: the heart; the data that "
        "led to that place lie along most of it, and their mean lies inside the heart, on "
        "none of its points.",
    "scores":
        "Arrows on three densities. At t = 0.6 the density is one round hill and all arrows "
        "point to its middle; at 0.25 a longish hill; at 0.05 a thin heart, and the arrows "
        "point to parts of it nearby.",
    "chains":
        "Left: scattered points. Then the path of one of them, which wanders about the lower "
        "right side of the heart; all points after the last step, which form a heart; and "
        "points drawn from the density itself, which form the same heart.",
    "taps":
        "The left edges of a digit: invisible at -8, bright on black at 0, a grey relief with "
        "dark edges as well at +8.",
    "unit":
        "Likeness to t = 0.5: with the factor 1000 a narrow peak at 0.5 and between 0.15 and "
        "0.6 elsewhere; without it the curve stays between 0.99 and 1.",
    "halved":
        "Six digits; their blocky averages over 4 by 4 pixels; and what was lost, the "
        "strokes' edges.",
    "loss":
        "The loss of the noise prediction falls from 0.8 to 0.18 within eighty steps, then "
        "slowly and with ups and downs to 0.125.",
    "ablation":
        "Error of the noise over t, log scale: as it is, it falls from 1 at t = 0.02 to 0.02 "
        "from 0.8 on; with the clock stopped it is just above that; with the skip cut it "
        "stays above 0.3.",
    "errors":
        "Left: errors of the noise fall with t, yours to a thousandth, mnist-unet's to "
        "0.00003. Right: errors of the data rise with t: mnist-unet's to 0.6, yours past 1 at "
        "t = 0.8 and to 13 at 0.98.",
    "weights":
        "Left: share of time over log-SNR: cosine and flow have a peak at 0, linear a broad "
        "one at -1 with a long tail to noise; the bound is flat. Right: weights of the data's "
        "error: 1 for data; for noise it falls without end towards noise; v and flow level "
        "off at 1.",
    "crowd":
        "A round cloud at t = 1, a longish one at 0.2, a thick heart at 0.05, a thin heart of "
        "forty blobs at 0.",
    "guesses":
        "A seven at eight times. Decoded x_t is lost after 0.3. Yours: a seven up to 0.6, "
        "broken from 0.7 on, static at 0.98. mnist-unet: a seven at all times, blurrier and "
        "smoother at large ones.",
    "own":
        "Thirty digits, three of each: ones, fours and sevens can be read; some of the others, "
        "twos, threes, fives, sixes and nines above all, are broken.",
    "plane":
        "Arrows in a plane through a 7, a 2 and a 1: they lead from all sides to three "
        "places, one at the 1, one beside the 7, one beside the 2. To the right the three "
        "digits.",
    "priors":
        "Rows of ten: N(0, I) gives sparks; the Gaussian smeared strokes; yours digits, some "
        "broken; the learned prior digits; real digits through the VAE.",
    "spectrum":
        "Variance along 192 directions, log scale. Real latents and the Gaussian fall "
        "together from 13 to 0.006; yours lies a little below them; N(0, I) falls only from 2 "
        "to 0.3.",
    "last":
        "Two rows of your digits, more than half readable, many broken; two rows of "
        "mnist-unet's, nearly all good; a row of real digits.",
}
