"""What the figures of the bug hunt show, in words, by the patients' letters."""

ALT = {
    "A":
        "Left, the size of x over 20 steps: the healthy run's falls from 1 to 0.7 and comes back "
        "to 1, A's falls to 0.5 and rises to 1.5. Right, the ten digits of both: A's are fat and "
        "glaring.",
    "B":
        "Left, the size of x over 40 calls: both fall from 1 and come back, B less far down. "
        "Right, the ten digits of both: B's zero is thinner, its six is in two parts.",
    "AB":
        "Four rows of digits. A: fat; A mended: with strokes of usual width. B: a thin zero and a "
        "six in two parts; B mended: a bold zero and a whole six.",
    "C":
        "Left, the size of x: the healthy run's falls to 0.7 and comes back to 1, C's stays near "
        "1 and rises to 1.2. Right, the healthy digits, and C's strokes and specks, none of "
        "which is a digit.",
    "D":
        "Left, the size of x: the healthy run's falls to 0.7 and comes back to 1, D's stays near "
        "1 and then rises to 2. Right, the healthy digits, and D's bright specks around dark "
        "middles.",
    "CD":
        "Four rows: C strokes and specks without a digit, C mended ten digits, D a frame of "
        "bright specks around dark middles, D mended the same ten digits.",
    "SMALL":
        "Ten digits that a small network drew after 400 steps: ragged, and all but one or two "
        "clear.",
    "E":
        "Left, two losses that cover each other, from 1.6 to 0.95. Right, the small network's "
        "ragged digits, and E's dark pictures with faint specks.",
    "F":
        "Left, two losses that fall together from 1.6 to about 1.0; from step 150 on F's stays a "
        "little above. Right, the small network's digits, and F's blurred shapes, few of which "
        "are the digit asked for.",
    "EF":
        "Four rows: E dark with faint specks, E mended ten ragged digits, F blurred shapes which "
        "are other digits or none, F mended ten ragged digits.",
    "G":
        "Left, on a logarithmic scale, G's loss falls from 17 to 4, the small network's from 1.6 "
        "to 0.95. Right, the digits of both, which are about equally good.",
    "H":
        "Left, H's loss stays at 1.15 for 200 steps and then falls to 0.5, below the small "
        "network's 0.95. Right, the small network's digits, and H's grey noisy ground with "
        "shadows of digits.",
    "GH":
        "Four rows: G ten digits, of which the zero and the two are poor; G mended ten ragged "
        "digits; H a grey noisy ground with shadows of digits; H mended ten ragged digits.",
    "END":
        "Nine rows of ten. Left five digits of each patient as they were: A fat, B nearly right, "
        "C, D and E noise, F other shapes, G nearly right, H on a grey noisy ground. Right five "
        "digits after the repair, all readable. Last row: the package's.",
}
