"""Looking for a mistake: where each number is taken, and in which order one asks."""

from minildm.course.diagrams.drawing import arrow, box, chain, frame, label, page
from minildm.course.figures import describe

# what is asked, the number, and what it means if the answer is no
QUESTIONS = (
    ("pictures in [−1, 1]?", "least pixel", "range: images * 2 − 1"),
    ("latents of std 1?", "std of latents", "scale: measure it, then normalise"),
    ("the same answer twice?", "two calls", "dropout is on: eval()"),
    ("are these the saved weights?", "loaded part, gap to the average",
     "strict=False, or EMA not loaded"),
    ("is this the best reading?", "against other readings",
     "prediction type, schedule, meaning of t"),
    ("better than a factor times $x_t$?", "against linear",
     "too little training, or the loop's own step"),
    ("do labels help the guess?", "gain from labels", "labels shuffled, or never told"),
    ("is the null the classes' mean?", "null off", "another null label"),
    ("drawn as large as the data?", "std of the drawn", "the sampler: grid, schedule, noise"),
)


def decision_tree():
    """From the data to the drawing: the first "no" is the mistake to mend first."""
    gap = 0.62
    height = gap * len(QUESTIONS) + 0.85
    figure, axes = page(height)
    # each question below the one before it
    before = None
    for i, (question, number, cause) in enumerate(QUESTIONS):
        y = height - 0.4 - gap * i
        asked = box(axes, 1.75, y, question, "condition", number, width=2.9, height=0.44)
        found = box(axes, 6.15, y, cause, "loss", width=3.2, height=0.38)
        arrow(axes, asked.right, found.left, kind="loss")
        label(axes, 3.85, y + 0.12, "no", "loss")
        if before:
            arrow(axes, before.bottom, asked.top)
        before = asked
    end = box(axes, 1.75, 0.35, "train longer, a larger network", "network", width=2.9,
              height=0.38)
    arrow(axes, before.bottom, end.top)
    label(axes, 4.9, 0.35, "all yes: nothing is broken, it is only not good yet")
    return describe(figure, "A list of questions from top to bottom. Where the answer is no, an "
                    "arrow leads to the cause; where it is yes, to the next question. " + " ".join(
                        f"{question.replace('$', '')} If not: {cause}."
                        for question, _, cause in QUESTIONS)
                    + " If all are answered by yes: train longer, or a larger network.")


def where_to_measure():
    """The chain from pictures to pictures, with the number that is taken at each place."""
    figure, axes = page(3.1)
    frame(axes, 0.05, 2.1, 7.95, 3.05, "training: its loss sees no more than this row")
    pictures = box(axes, 0.65, 2.45, "pictures", "data", width=0.9, tensor=True)
    encode = box(axes, 2.0, 2.45, "encoder,\nscale", "network", width=1.0, height=0.56)
    latents = box(axes, 3.35, 2.45, "latents", "data", width=0.9, tensor=True)
    noise = box(axes, 4.6, 2.45, "+ noise", "noise", width=0.85)
    network = box(axes, 5.95, 2.45, "network", "network", "label or null", width=1.1, height=0.56)
    guess = box(axes, 7.3, 2.45, "guess", "data", width=0.9, tensor=True)
    chain(axes, pictures, encode, latents, noise, network, guess)
    sampler = box(axes, 5.95, 0.75, "sampler", "network", "grid of times", width=1.1, height=0.56)
    drawn = box(axes, 4.4, 0.75, "drawn\nlatents", "data", width=0.95, height=0.56, tensor=True)
    decode = box(axes, 2.85, 0.75, "scale,\ndecoder", "network", width=1.0, height=0.56)
    shown = box(axes, 1.2, 0.75, "pictures", "data", width=0.9, tensor=True)
    arrow(axes, guess.bottom, (7.3, 0.75), sampler.right)
    arrow(axes, sampler.left, drawn.right)
    arrow(axes, drawn.left, decode.right)
    arrow(axes, decode.left, shown.right)
    # what is measured stands below the place
    for x, y, text in ((0.65, 1.85, "least pixel"), (3.35, 1.85, "std of latents"),
                       (5.6, 1.75, "two calls, null off,\ngap to the average"),
                       (4.4, 0.25, "std of the drawn"), (1.2, 0.25, "labels read")):
        label(axes, x, y, text, "condition")
    label(axes, 7.2, 1.3, "against linear, gain from labels", "condition", align="right")
    return describe(figure, """Above, the row of training: pictures go through encoder and scale
        to latents, noise is added, and the network, told a label or the null, makes a guess. Below,
        the row of drawing: the sampler asks for guesses along its grid of times, its latents are
        scaled and decoded to pictures. In yellow the numbers: the least pixel at the pictures, the
        standard deviation at both kinds of latents, null off, two calls and the gap to the average
        at the network, against linear and gain from labels at the guess, and the share of labels
        read at the pictures drawn.""")
