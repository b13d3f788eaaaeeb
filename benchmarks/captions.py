"""Two small towers that learn from coloured digits and sentences:  python -m benchmarks captions

A picture shows a digit in a colour, sixty things in all, of which twelve are kept from training.
Towers learn from pairs alone, as CLIP's do, or with the labels known, so that two pictures of one
thing don't count as different. Beside them stand a third arm, for which three sentences in ten are
one word; towers whose sentences belong to other pictures, as a control; and an image tower that is
taught digits and colours by their labels. The learning rate is the best of four for pairs alone,
in short trainings with another seed; all arms have it. Test pictures are read by wordings that
training did not have, and what a reader's states know is compared with an untrained reader's.

Every training is kept in stored/captions.json, which lesson 06 shows, and none is repeated.
python -m benchmarks.captions 9  goes on for nine minutes, for machines that are needed elsewhere.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.claims import claims_of, machine
from minildm import data
from minildm.course.coloured import (
    COLOURS,
    LENGTH,
    WORDINGS_HELD_OUT,
    coloured,
    say,
    sentences_of,
    tokens_of,
    trained_sentences,
)
from minildm.course.lesson_06 import (
    arm_of,
    encoded,
    probe_positions,
    right,
    shuffled,
    train_pairs,
)
from minildm.data.tokenizer import Tokenizer
from minildm.data.wordings import DIGITS
from minildm.nn.clip import (
    CLIP,
    CLIPConfig,
    TextConfig,
    VisionConfig,
    VisionTransformer,
    class_vectors,
    contrastive_loss,
)

claim = claims_of("captions")

STORED = Path(__file__).parent / "stored" / "captions.json"
TRAINING, TEST = 30_000, 4_000          # digits
STEPS, SWEEP_STEPS = 350, 250
RATES = (5e-4, 1e-3, 2e-3, 4e-3)
SWEEP_SEED, SEEDS = 100, (0, 1, 2)
PROBED = "it says {d}, in {c} ink"
VISION = VisionConfig(3, 32, 8, dim=64, depth=2, heads=2)


def loss_of_pairs(towers, pictures, ids, things):
    return contrastive_loss(towers(pictures, ids))


def loss_of_labels(towers, pictures, ids, things):
    return contrastive_loss(towers(pictures, ids), things[:, None] == things)


def loss_of_classifier(tower, pictures, ids, things):
    digit, colour = tower(pictures)
    n = len(COLOURS)
    return F.cross_entropy(digit, things // n) + F.cross_entropy(colour, things % n)


class Classifier(torch.nn.Module):
    """The same image tower with two linear heads: what labels alone teach it."""

    def __init__(self):
        super().__init__()
        self.tower = VisionTransformer(VISION)
        self.digit = torch.nn.Linear(VISION.dim, 10)
        self.colour = torch.nn.Linear(VISION.dim, len(COLOURS))

    def forward(self, pictures):
        pooled = self.tower(pictures)[1]
        return self.digit(pooled), self.colour(pooled)

    def things(self, pictures):
        digit, colour = self(pictures)
        return len(COLOURS) * digit.argmax(1) + colour.argmax(1)


# the arm and its loss; the first one's learning rate is for all
ARMS = {
    "pairs alone": loss_of_pairs,
    "labels known": loss_of_labels,
    "untrained": loss_of_pairs,
    "single words too": loss_of_pairs,
    "classifier": loss_of_classifier,
    "wrong sentences": loss_of_pairs,
}


class Study:
    """The pairs that all arms learn from, and the table of trainings, kept in a file."""

    def __init__(self, path: Path = STORED):
        self.path = path
        self.rows = self.stored()
        train, test = data.load("mnist"), data.load("mnist", "test").subset(TEST)
        self.train = coloured(train.images[:TRAINING], train.labels[:TRAINING])
        self.test = {"trained": coloured(test.images, test.labels, 1),
                     "kept": coloured(test.images, test.labels, 1, held_out=True)}
        self.tokenizer = Tokenizer.train((s for row in trained_sentences() for s in row), 640)
        self.tokens = tokens_of(self.tokenizer, sentences_of())
        self.held_out = tokens_of(self.tokenizer, sentences_of(WORDINGS_HELD_OUT))

    def stored(self) -> list[dict]:
        return json.loads(self.path.read_text())["rows"] if self.path.exists() else []

    def words(self, names, times: int = 1):
        """A word as a sentence: (words, times, LENGTH)."""
        return tokens_of(self.tokenizer, [[name] * times for name in names])

    def sentences_for(self, arm: str):
        """What an arm reads in training, (60, W, L)."""
        if arm == "wrong sentences":
            order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
            return self.tokens[order]
        if arm != "single words too":
            return self.tokens
        # fourteen of twenty wordings, and six single words: three of the digit, three of the colour
        digits = self.words(DIGITS, 3).repeat_interleave(len(COLOURS), 0)
        colours = self.words(COLOURS, 3).repeat(10, 1, 1)
        return torch.cat([self.tokens[:, :14], digits, colours], 1)

    def trained(self, arm: str, seed: int, lr: float, steps: int):
        torch.manual_seed(seed)
        model = Classifier()
        if arm != "classifier":
            text = TextConfig(len(self.tokenizer), LENGTH, 64, 2, 2)
            model = CLIP(CLIPConfig(text, VISION, 64))
        loss_of = ARMS[arm]

        def step(model, optimizer, pictures, ids, things):
            loss = loss_of(model, pictures, ids, things)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        losses = train_pairs(model, step, self.train, self.sentences_for(arm), steps, lr, seed=seed)
        return model, losses

    @torch.no_grad()
    def measured(self, model) -> dict:
        """How well test pictures are read, and what the reader's states know."""
        if isinstance(model, Classifier):
            return {name: right(encoded(model.things, pairs.pictures), pairs)
                    for name, pairs in self.test.items()}
        looks = {name: encoded(model.encode_images, pairs.pictures)
                 for name, pairs in self.test.items()}
        classes = class_vectors(model, self.held_out)
        mixed = class_vectors(model, shuffled(self.held_out, self.tokenizer.end))
        # each picture names the nearest of the sixty
        found = {name: right((look @ classes.T).argmax(1), self.test[name])
                 for name, look in looks.items()}
        read = looks["trained"]
        found["shuffled words"] = right((read @ mixed.T).argmax(1), self.test["trained"])
        # a class is one word here, which no sentence of most arms' training is
        by_digit = class_vectors(model, self.words(DIGITS))
        by_colour = class_vectors(model, self.words(COLOURS))
        found["single words"] = {
            "digit": share((read @ by_digit.T).argmax(1), self.test["trained"].digits),
            "colour": share((read @ by_colour.T).argmax(1), self.test["trained"].colours)}
        # one wording about all things, position by position
        said = [[say(PROBED, digit, colour)] for digit in range(10) for colour in range(6)]
        ids = tokens_of(self.tokenizer, said)[:, 0]
        states = model.text_model(ids)[0]
        found["probes"] = probe_positions(states)
        vectors = F.normalize(model.text_projection(states), dim=-1)
        found["pointing"] = [right((read @ vectors[:, k].T).argmax(1), self.test["trained"])["both"]
                             for k in range(LENGTH)]
        return found

    def run(self, arm: str, seed: int, lr: float, steps: int) -> dict:
        """One training and what came of it, which is done if it isn't in the table yet."""
        for row in self.rows:
            if (row["arm"], row["seed"], row["lr"], row["steps"]) == (arm, seed, lr, steps):
                return row
        began = time.process_time()
        model, losses = self.trained(arm, seed, lr, steps)
        row = {"arm": arm, "seed": seed, "lr": lr, "steps": steps,
               "loss": sum(losses[-50:]) / 50,
               "seconds": time.process_time() - began}
        # two processes may fill one table
        self.rows = self.stored() + [row | self.measured(model)]
        self.save()
        print(f"{arm}, seed {seed}, lr {lr}: {self.rows[-1]['trained']}, {row['seconds']:.0f} s",
              flush=True)
        return self.rows[-1]

    def finish(self):
        # by accuracy after short trainings with another seed
        scores = {lr: self.run("pairs alone", SWEEP_SEED, lr, SWEEP_STEPS)["trained"]["both"]
                  for lr in RATES}
        rate = max(scores, key=scores.get)
        for arm in ARMS:
            for seed in SEEDS[:1] if arm == "wrong sentences" else SEEDS:
                self.run(arm, seed, rate, 0 if arm == "untrained" else STEPS)

    def save(self):
        facts = {"training": TRAINING, "test": TEST, "seeds": SEEDS, "steps": STEPS,
                 "sweep_steps": SWEEP_STEPS, "rates": RATES, "probed": PROBED,
                 "minutes": sum(row["seconds"] for row in self.rows) / 60,
                 "hardware": machine(), "day": time.strftime("%Y-%m-%d")}
        self.path.write_text(json.dumps({"facts": facts, "rows": rounded(self.rows)}, indent=1,
                                        ensure_ascii=False) + "\n")


def share(found, wanted) -> float:
    return (found == wanted).float().mean().item()


def rounded(value):
    """Numbers with five significant digits, in whatever holds them."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def measure():
    study = Study()
    study.finish()
    table = json.loads(study.path.read_text())
    seconds = 60 * table["facts"]["minutes"]
    for name, arm, group, key in (
            ("trained things by new wordings, of 60", "pairs alone", "trained", "both"),
            ("things kept from training, of 60", "pairs alone", "kept", "both")):
        values = arm_of(table, arm, group, key)
        yield claim(name, values.mean().item(), seconds, detail="3 seeds")
    known, alone = (arm_of(table, arm, "trained", "both")
                    for arm in ("labels known", "pairs alone"))
    yield claim("labels known - pairs alone", (known.mean() - alone.mean()).item(), seconds,
                detail="3 seeds")


if __name__ == "__main__":
    torch.set_num_threads(1)
    deadline = time.monotonic() + 60 * float(sys.argv[1])
    study, run = Study(), Study.run

    def until_deadline(self, *key):
        if time.monotonic() > deadline:
            sys.exit(0)
        return run(self, *key)

    Study.run = until_deadline
    study.finish()
