"""What guidance costs on digits: lesson 08 judges a few, and shows what its benchmark stored."""

import torch

from minildm.course.curves import panel, show_curves
from minildm.course.tables import print_table
from minildm.evaluation.metrics import diversity, label_accuracy

BEYOND = 1.05       # pixels past this, before they are clipped, are no grey of a picture
AXIS = "guidance scale w"


@torch.no_grad()
def judge(pipe, classifier, latents, labels) -> dict:
    """Labels as asked, diversity, and the pixels that go beyond black and white, in percent."""
    pixels = pipe.vae.decode(pipe.vae.denormalise(latents))[..., 2:-2, 2:-2]
    seen = classifier.features(pixels.clamp(-1, 1))
    return {"label right": label_accuracy(classifier.head(seen), labels),
            "diversity": diversity(seen, labels),
            "pixels beyond, %": 100 * (pixels.abs() > BEYOND).float().mean().item()}


def runs_of(measured: dict, group: str) -> tuple[list[str], list[dict]]:
    """The scales of a group of the benchmark, and its results for each seed."""
    runs = [part for name, part in measured.items() if name.startswith(group + " ")]
    return [scale for scale in runs[0] if scale != "minutes"], runs


def scores_of(measured: dict, group: str, name: str):
    """One score of a group: (seeds, scales)."""
    scales, runs = runs_of(measured, group)
    return torch.tensor([[run[scale][name] for scale in scales] for run in runs])


def show_price(measured: dict, alt: str):
    """Draw the scores of classifier-free guidance against its scale, real digits' dashed."""
    scales = [float(scale) for scale in runs_of(measured, "cfg")[0]]

    def line(name):
        return scores_of(measured, "cfg", name)

    shares = {"label right": line("label_accuracy"), "precision": line("precision"),
              "recall": line("recall")}
    parts = [panel(scales, shares, xlabel=AXIS, title="shares")]
    for name, title in ("diversity", "diversity"), ("fd", "FD, a Fréchet distance"):
        lines = {"guided": line(name), "real digits": line(name + "_floor")}
        parts.append(panel(scales, lines, dashed=["real digits"], xlabel=AXIS, title=title,
                           ylim=(0, None)))
    show_curves(*parts, alt=alt)


COLUMNS = {"label right": "label_accuracy", "precision": "precision", "recall": "recall",
           "diversity": "diversity", "FD": "fd"}


def print_group(measured: dict, group: str, columns: dict = COLUMNS, real: bool = True):
    """Print the seeds' means of a group, a row per scale, real digits' below."""
    scales, runs = runs_of(measured, group)
    rows = {}
    for i, scale in enumerate(scales):
        at = f"w = {float(scale):g}" if scale[0].isdigit() else scale
        rows[at] = {title: scores_of(measured, group, name)[:, i].mean()
                    for title, name in columns.items()}
    if real:
        rows["real digits"] = {title: scores_of(measured, group, name + "_floor").mean()
                               for title, name in columns.items()}
    print_table(rows)
    if len(runs) > 1:
        ranges = []
        for title, name in columns.items():
            values = scores_of(measured, group, name)
            ranges.append(f"{title} {(values.amax(0) - values.amin(0)).max():.3f}")
        print(f"N = {measured['n']}, {len(runs)} seeds; widest range of the seeds:",
              ", ".join(ranges))


def print_words(words: dict):
    """Print what negative prompts in words took away: {prompt: colours and digits}."""
    rows = {}
    for prompt, found in words.items():
        if prompt in ("", "minutes"):
            continue
        colour = prompt.removeprefix("a ").removesuffix(" digit")
        rows[f"not {prompt}"] = {"had it before": words[""]["colours"][colour],
                                 "has it now": found["colours"][colour],
                                 "digit as asked": found["digit_right"]}
    print_table(rows)
