"""What lesson 17 shows of the stored scores of few steps: a table, and curves against the steps."""

import torch

from minildm.course.curves import panel

NAMES = {"teacher": "teacher, guided", "unguided": "teacher, no guidance",
         "consistency": "consistency", "shortcut": "shortcut"}
SCORES = {"fd_ratio": "FD in floors", "label_accuracy": "labels", "precision": "precision",
          "recall": "recall"}
TICKS = [1, 2, 4, 20]


def values(kept: dict, arm: str, steps, score: str):
    """One score of all seeds of an arm, (seeds,)."""
    return torch.tensor([row["steps"][str(steps)][score] for row in kept[arm].values()])


def steps_of(kept: dict, arm: str) -> list[str]:
    """What an arm was drawn with: numbers of steps, or one with a word."""
    return list(next(iter(kept[arm].values()))["steps"])


def print_scores(kept: dict):
    """Print a row per arm and number of steps: the mean of the seeds, of FD least and most too."""
    others = list(SCORES)[1:]
    head = "".join(f"{SCORES[score]:>11}" for score in others)
    print(f"{'':30}{'FD in floors':>22}{head}   seeds")
    # an arm that has not been measured yet has no row
    for arm in NAMES:
        if arm not in kept:
            continue
        for steps in steps_of(kept, arm):
            # "4 kept" is four steps in which the noise was kept
            count, _, word = steps.partition(" ")
            title = f"{NAMES[arm]}, {count}" + (", noise kept" if word else "")
            fd = values(kept, arm, steps, "fd_ratio")
            cell = f"{fd.mean():.2f} ({fd.min():.2f} to {fd.max():.2f})"
            means = [values(kept, arm, steps, score).mean() for score in others]
            rest = "".join(f"{mean:11.3f}" for mean in means)
            print(f"{title:30}{cell:>22}{rest}   {len(fd)}")


def score_panels(kept: dict):
    """FD and recall against steps, the seeds as bands: two panels."""
    arms = [arm for arm in ("teacher", "consistency", "shortcut") if arm in kept]
    found = []
    for score in ("fd_ratio", "recall"):
        lines = {}
        for arm in arms:
            steps = [k for k in steps_of(kept, arm) if k.isdigit()]
            rows = torch.stack([values(kept, arm, k, score) for k in steps], dim=1)
            lines[NAMES[arm]] = [int(k) for k in steps], rows
        found.append(panel([], lines, legend=score == "fd_ratio", xlabel="steps", xscale="log",
                           xticks=TICKS, xticklabels=list(map(str, TICKS)), ylabel=SCORES[score]))
    return found


def between(kept: dict, arm: str, steps, score: str) -> str:
    """The mean of the seeds, and, of two or more, the least and the most of them."""
    found = values(kept, arm, steps, score)
    span = f" ({found.min():.2f} to {found.max():.2f})" if len(found) > 1 else ""
    return f"{found.mean():.2f}{span}"
