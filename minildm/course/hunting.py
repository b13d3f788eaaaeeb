"""What the bug hunt shows of a patient: curves, pictures and numbers beside the healthy run's."""

from dataclasses import dataclass

import torch

from minildm.course.figures import WIDTH, show
from minildm.course.plotting import running_mean, show_images
from minildm.course.tables import print_table
from minildm.images import crop_to

TIMES = 0.5, 0.8        # of the guess against a factor, and of the labels' gain


class Watched:
    """A network that notes the time and the size of x whenever it is asked."""

    def __init__(self, network):
        self.network, self.null_context = network, network.null_context
        self.times, self.sizes = [], []

    def __call__(self, x, t, labels):
        self.times.append(float(t))
        self.sizes.append(x.std().item())
        return self.network(x, t, labels)

    @property
    def line(self) -> tuple[list, list]:
        """Calls and sizes, as `show_case` wants them."""
        return list(range(len(self.sizes))), self.sizes


def guess_of(draw, network, **words):
    """What one step of a drawing function, from time t to 0, says the data is."""
    def guess(x, t, labels):
        return draw(network, x, labels, 1, float(t), **words)

    return guess


def null_of(draw, network, **words):
    """The same without a label: by the null label, or as a guided draw's own scale=0."""
    def guess(x, t):
        label = 0 if words else network.null_context
        return draw(network, x, torch.full((len(x),), label), 1, float(t), **words)

    return guess


@dataclass
class Numbers:
    """The student's three functions, asked with the same draws of every patient."""

    against_linear: object
    label_gain: object
    null_off: object

    @torch.no_grad()
    def __call__(self, guess, null_guess, latents, labels) -> dict[str, float]:
        """Three numbers of a guess for latents (N, ...) of labels (N,)."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(latents[:20].shape, generator=generator)
        found = {
            "against linear": self.against_linear(guess, latents, labels, TIMES[0], generator),
            "label gain": self.label_gain(guess, null_guess, latents, labels, TIMES[1], generator),
            "null off": self.null_off(guess, null_guess, noise, 10),
        }
        return {name: float(value) for name, value in found.items()}


class Ward:
    """The patients: what was measured of each, its curve and its pictures, by name.

    model: what decodes. seen, told: latents and labels of the numbers. many: pictures to be read.
    steps: of the drawing functions.
    """

    def __init__(self, model, classifier, numbers: Numbers, seen, told, many: int = 100,
                 steps: int = 20):
        self.model, self.classifier, self.numbers = model, classifier, numbers
        self.steps = steps
        self.seen, self.told = seen, told
        self.many, self.asked = torch.arange(many) % 10, torch.arange(10)
        self.noise = model.noise(10, seed=1)
        self.table, self.pictures, self.curves = {}, {}, {}

    @torch.no_grad()
    def examine(self, name: str, draw, network, losses=None, **words):
        """Draw with draw(network, x, labels, steps, **words), and take the numbers.

        The curve is that of the losses, or else of the size of x at each call of the network.
        """
        watched = Watched(network)
        # one noise for all patients: what differs is theirs
        first = draw(watched, self.noise, self.asked, self.steps, **words)
        self.pictures[name] = self.decoded(first)
        self.curves[name] = losses or watched.line
        # a guided draw is asked for its label's and its null's answer
        guided = bool(words)
        guess = guess_of(draw, network, **({"scale": 1.0} if guided else {}))
        null_guess = null_of(draw, network, **({"scale": 0.0} if guided else {}))
        noise = self.model.noise(len(self.many), seed=2)
        drawn = draw(network, noise, self.many, self.steps, **words)
        self.table[name] = {
            **self.numbers(guess, null_guess, self.seen, self.told),
            "drawn std": drawn.std().item(),
            "read": self.read(self.decoded(drawn), self.many),
        }

    def prepared(self, name: str, draw, result, losses):
        """The same of a run's (network, latents, pictures of the ten digits)."""
        network, latents, pictures = result
        self.pictures[name], self.curves[name] = crop_to(pictures, 28), losses
        self.table[name] = {
            **self.numbers(guess_of(draw, network), null_of(draw, network),
                           latents[:len(self.told)], self.told),
            "latents' std": latents.std().item(),
            "read": self.read(self.pictures[name], self.asked),
        }

    def decoded(self, latents):
        return self.model.decode(latents)

    def read(self, pictures, labels) -> float:
        """The share of pictures (N, 1, 28, 28) that the classifier reads as their labels."""
        return (self.classifier(pictures).argmax(1) == labels).float().mean().item()

    def show(self, *names: str, alt: str, smooth: bool = False, **labels):
        """Print the numbers of these, and draw their curves and pictures."""
        print_table({name: self.table[name] for name in names})
        show_case({name: self.curves[name] for name in names},
                  {name: self.pictures[name] for name in names}, alt, smooth, **labels)

    def compare(self, *names: str, alt: str):
        """Print the numbers of these, and draw their pictures in rows."""
        print_table({name: self.table[name] for name in names})
        rows = torch.cat([self.pictures[name] for name in names])
        show_images(rows, cols=10, row_names=names, alt=alt)


def montage(rows, gap: int = 2):
    """Rows of pictures (N, 1, H, W) in [-1, 1] as one array, black between them."""
    lines = []
    for row in rows:
        bordered = torch.nn.functional.pad(crop_to(row, 28), (gap,) * 4, value=1.0)
        lines.append(torch.cat(list(bordered[:, 0]), dim=1))
    return torch.cat(lines).clamp(-1, 1)


def show_case(curves: dict, pictures: dict, alt: str, smooth: bool = False, **labels):
    """Draw {name: (x, y) or values} on the left, and {name: pictures (10, 1, H, W)} on the right.

    smooth: curves are losses, of which a running mean is drawn. `labels` goes to `axes.set`.
    """
    import matplotlib.pyplot as plt

    height = max(1.9, 0.56 * len(pictures) + 0.35)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, height), width_ratios=[1, 2.4])
    styles = "-", "--", ":"
    # other styles as well as colours: curves may cover each other
    for i, (name, line) in enumerate(curves.items()):
        x, y = line if isinstance(line, tuple) else (range(1, len(line) + 1), line)
        y = torch.as_tensor(y, dtype=torch.float64)
        # single steps of a loss are too noisy to compare by eye
        if smooth:
            window = max(1, len(y) // 20)
            x, y = list(x)[window - 1:], running_mean(y, window)
        left.plot(list(x), y.tolist(), styles[i % 3], label=name, linewidth=1.6)
    left.set(**labels)
    left.legend()
    right.imshow(montage(pictures.values()).numpy(), cmap="gray", vmin=-1, vmax=1,
                 interpolation="nearest")
    # a picture and the gap on both of its sides
    side = 32
    right.set_yticks([side * (i + 0.5) for i in range(len(pictures))], list(pictures))
    right.set_xticks([])
    right.tick_params(length=0)
    for edge in right.spines.values():
        edge.set_visible(False)
    show(figure, alt=alt)


def counts(kept: dict) -> dict[str, tuple[int, int, int]]:
    """{mistake: (runs, those warned of, those whose own number was the first to leave its bound)}.

    kept: what benchmarks/monitor.py stored.
    """
    found = {}
    for name in ["healthy", *kept["named"]]:
        rows = [run[name] for run in kept["runs"].values()]
        warned = sum(bool(row["left"] + row["training"]) for row in rows)
        first = sum(row["left"][:1] == [kept["named"].get(name)] for row in rows)
        found[name] = len(rows), warned, first
    return found
