"""Plumbing of lesson 06: training on pairs, judging what is read, figures, stored results."""

import torch
import torch.nn.functional as F

from minildm.course.coloured import COLOURS, ColouredDigits
from minildm.course.figures import WIDTH, show
from minildm.data.wordings import DIGITS
from minildm.images import to_float


def rate_at(i: int, steps: int) -> float:
    """The share of the learning rate in step i: up in a tenth of the steps, then down to zero."""
    return min(1, 10 * (i + 1) / steps) * (1 - i / steps)


def train_pairs(model, step, pairs: ColouredDigits, tokens, steps: int, lr: float = 1e-3,
                batch: int = 64, seed: int = 0) -> list[float]:
    """Train on pictures, each with one of its thing's sentences, drawn anew: the loss of each step.

    tokens (60, W, L); step(model, optimizer, pictures, ids, things) -> the loss.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), fused=True)
    losses = []
    model.train()
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * rate_at(i, steps)
        picked = torch.randint(len(pairs), (batch,), generator=generator)
        things = pairs.things[picked]
        wording = torch.randint(tokens.shape[1], (batch,), generator=generator)
        loss = step(model, optimizer, to_float(pairs.pictures[picked]), tokens[things, wording],
                    things)
        losses.append(float(loss))
    model.eval()
    return losses


@torch.no_grad()
def encoded(encode, inputs, size: int = 500):
    """encode(...) of many pictures (uint8) or rows of ids, by batches."""
    return torch.cat([encode(to_float(part) if part.dtype == torch.uint8 else part)
                      for part in inputs.split(size)])


def read(towers, ids):
    """The vectors of sentences (K, W, L): (K, W, D)."""
    return encoded(towers.encode_text, ids.flatten(0, 1)).unflatten(0, ids.shape[:2])


def shuffled(tokens, end: int, seed: int = 0):
    """Ids (..., L) with the tokens between start and end in another order."""
    order = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
    # start keeps the first place, ends the last ones
    order[..., 0] = -1
    order = order.masked_fill(tokens == end, 2)
    return tokens.gather(-1, order.argsort(dim=-1, stable=True))


def right(found, pairs: ColouredDigits) -> dict:
    """How often things (N,) are the pictures', and their digits and their colours alone."""
    n = len(COLOURS)
    return {"both": (found == pairs.things).float().mean().item(),
            "digit": (found // n == pairs.digits).float().mean().item(),
            "colour": (found % n == pairs.colours).float().mean().item()}


def probe(states, targets, fit, penalty: float = 1e-2) -> float:
    """How well a linear map tells targets (N,) from states (N, D): fitted where `fit`, tested else.

    Least squares onto one column per class, with a penalty on the weights.
    """
    x = torch.cat([states - states[fit].mean(0), torch.ones(len(states), 1)], 1).double()
    wanted = F.one_hot(targets).double()
    inner = x[fit].T @ x[fit] + penalty * torch.eye(x.shape[1])
    weights = torch.linalg.solve(inner, x[fit].T @ wanted[fit])
    return ((x[~fit] @ weights).argmax(1) == targets[~fit]).double().mean().item()


def probe_positions(states) -> dict:
    """Probes at each position of one wording: states (60, L, D) -> {"digit": (L,), "colour": (L,)}.

    The digit's is tested on things in two colours that it was not fitted on, the colour's on four
    digits.
    """
    digit, colour = torch.cartesian_prod(torch.arange(10), torch.arange(len(COLOURS))).T
    found = {"digit": [], "colour": []}
    for k in range(states.shape[1]):
        found["digit"].append(probe(states[:, k], digit, colour < 4))
        found["colour"].append(probe(states[:, k], colour, digit < 6))
    return found


# ---- what the benchmark kept ---------------------------------------------------------------------

def rows_of(table: dict, arm: str) -> list[dict]:
    """The stored trainings of an arm with as many steps as all have, by their seeds."""
    steps = 0 if arm == "untrained" else table["facts"]["steps"]
    return [row for row in table["rows"] if row["arm"] == arm and row["steps"] == steps]


def arm_of(table: dict, arm: str, group: str, key: str):
    """What an arm's trainings reached, (seeds,): group "trained", "kept", ..., key "both", ..."""
    return torch.tensor([row[group][key] for row in rows_of(table, arm)])


# ---- the package's towers beside the student's ---------------------------------------------------

NAMES = {"token_embedding": "words", "position_embedding.weight": "places.weight",
         "final_norm": "norm", "attn1.to_out.0": "attention.to_out", "attn1": "attention",
         ".ff.": ".mlp.", "class_embedding": "patches.class_token",
         "patch_embedding.weight": "patches.linear.weight", "pre_norm": "norm1.",
         "post_norm": "norm2."}


@torch.no_grad()
def copy_tower(mine, theirs):
    """Give the student's text or image tower the weights of the package's."""
    own = dict(mine.named_parameters())
    for name, weight in theirs.named_parameters():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        # the image tower's places are a parameter, its norms are named by their order
        name = name.replace("..", ".").replace("places.weight", places_of(own))
        own[name].copy_(weight.flatten(1) if weight.ndim == 4 else weight)


def places_of(own: dict) -> str:
    return "places.weight" if "places.weight" in own else "patches.places"


# ---- figures and words ---------------------------------------------------------------------------

def name_of(thing: int) -> str:
    """A thing's name: "red three"."""
    return f"{COLOURS[thing % len(COLOURS)]} {DIGITS[thing // len(COLOURS)]}"


def show_matrices(matrices: dict, names: list[str], alt: str):
    """Draw matrices of cosines (K, K) on one scale, pictures down, sentences across."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(matrices), figsize=(WIDTH, 4.3), sharey=True)
    for each, (title, values) in zip(axes, matrices.items(), strict=True):
        drawn = each.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        each.set(title=title, xticks=range(len(names)), yticks=range(len(names)))
        each.set_xticklabels(names, rotation=90)
    axes[0].set_yticklabels(names)
    axes[0].set_ylabel("picture of a")
    figure.colorbar(drawn, ax=axes, label="cosine", shrink=0.6)
    show(figure, alt=alt)


def show_grid(values, words: list[str], alt: str, label: str, xlabel: str, ylabel: str):
    """Draw one matrix (L, L) whose rows and columns are a sentence's tokens."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    drawn = axes.imshow(values, cmap="Blues", vmin=0)
    axes.set(xlabel=xlabel, ylabel=ylabel, xticks=range(len(words)), yticks=range(len(words)))
    axes.set_xticklabels(words, rotation=60)
    axes.set_yticklabels(words)
    figure.colorbar(drawn, ax=axes, label=label)
    show(figure, alt=alt)


def tokens_in_words(tokenizer, ids) -> list[str]:
    """What each id of one sentence stands for, without the marks; "start" and "end" are words."""
    special = {tokenizer.start: "start", tokenizer.end: "end"}
    return [special.get(i) or tokenizer.token[i].removesuffix("</w>") for i in ids.tolist()]


def show_positions(lines: dict, words: list[str], alt: str):
    """Draw accuracies {name: (L,)} over the tokens of a sentence."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(WIDTH, 3))
    for name, values in lines.items():
        # an untrained tower's lines lie over a trained one's
        style = "o--" if "untrained" in name else "o-"
        axes.plot(range(len(words)), values[:len(words)], style, markersize=4, label=name)
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.06))
    axes.set_xticks(range(len(words)), words)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    show(figure, alt=alt)


def show_stored(table: dict):
    """Print what the arms of the stored study reached, seeds as a mean and a range."""
    print(f"{'':17} {'trained things':24} things kept from training")
    measured = [arm for arm in ("pairs alone", "labels known", "single words too", "classifier",
                                "wrong sentences") if rows_of(table, arm)]
    for arm in measured:
        cells = [interval(arm_of(table, arm, group, "both")) for group in ("trained", "kept")]
        print(f"{arm:17} {cells[0]:24} {cells[1]}")
    print(f"{'':17} {'the digit by its word':24} the colour by its word")
    for arm in (arm for arm in measured if arm in ("pairs alone", "single words too")):
        cells = [interval(arm_of(table, arm, "single words", key)) for key in ("digit", "colour")]
        print(f"{arm:17} {cells[0]:24} {cells[1]}")


def interval(values) -> str:
    """The mean of the seeds and their range, in hundredths."""
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
