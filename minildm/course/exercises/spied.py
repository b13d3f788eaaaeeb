"""What the checks of training loops share: a weight that watches, and words for what it saw."""

import torch
from torch import nn

from minildm.course.exercises.compare import close, fail

# where a weight begins: far from 0, where nobody sees that it decays
BEGIN = 3.0


class Watched(nn.Module):
    """A network of one weight that keeps its gradients, and whether each was `fresh`: `sums`."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(BEGIN))
        self.fresh, self.sums, self.gradients = None, [], []
        self.weight.register_hook(self.note)
        self.weight.register_post_accumulate_grad_hook(self.compare_sums)

    @property
    def value(self):
        """What the network answers with: 0 at the beginning."""
        return self.weight - BEGIN

    def note(self, gradient):
        self.fresh = gradient.clone()
        self.gradients.append(self.fresh)

    def compare_sums(self, weight):
        # unequal if a gradient of an earlier step is still there
        self.sums.append(torch.allclose(weight.grad, self.fresh))


def in_order(order: str, **parts):
    """Call the parts of a training step in an order: "zero backward step", a function for each."""
    for word in order.split():
        parts[word]()


def judge_mode(network):
    """Raise Wrong if a network that was trained was put into the mode for drawing."""
    if not network.training:
        fail("the network is trained in its training mode: eval() is for drawing, where dropout "
             "and the like are off")


def judge_list(losses, steps: int):
    """Raise Wrong unless the losses are a list of plain numbers, one per step."""
    if losses is None:
        fail("your function returned None: is the `return` missing?")
    if not isinstance(losses, (list, tuple)) or len(losses) != steps:
        fail(f"return a list with the loss of every step, {steps} of them")
    if not all(isinstance(loss, (float, int)) for loss in losses):
        fail("the losses are plain numbers, loss.item(): a tensor keeps its graph in memory")


def judge_rows(rows, count: int, what: str):
    """Raise Wrong unless each of count data is among many rows that were drawn."""
    missing = sorted(set(range(count)) - set(rows.long().tolist()))
    if missing:
        fail(f"of {count} {what}, 0 to {count - 1}, number {missing[-1]} is never drawn in "
             f"{len(rows)} draws: rows are drawn from all of them")


def judge_velocity(loss: float, weight: float, data, noise, tolerance: float):
    """Raise Wrong unless a loss is the mean square of the weight minus (noise - data)."""
    causes = {
        "": noise - data, "the velocity is noise - data, not data - noise": data - noise,
        "the network predicts the velocity, not the noise": noise,
        "the network predicts the velocity, not the data": data + 0 * noise,
    }
    errors = {cause: (weight - value).square().mean().item() for cause, value in causes.items()}
    errors["the loss is the mean over all numbers, not their sum"] = errors[""] * noise.numel()
    cause = min(errors, key=lambda cause: abs(errors[cause] - loss))
    if abs(errors[cause] - loss) > tolerance * abs(loss) + 0.01:
        fail(f"a loss is {loss:.3f}, {errors['']:.3f} is wanted: the mean of "
             "(velocity - (noise - data))^2")
    if cause:
        fail(cause)


def judge_moves(watched: Watched, weights: list, lr: float, name: str, rate: str):
    """Raise Wrong unless steps of Adam's were made whose rate falls from lr to nearly zero.

    weights: what the weight was before each step. name, rate: the network and step i's rate, in
    the lesson's words. Returns the steps' sizes.
    """
    if not watched.sums:
        fail(f"no gradient reaches {name}: is loss.backward() missing?")
    judge_mode(watched)
    path = torch.tensor([*weights, watched.value.item()])
    moves = path.diff().abs()
    if moves.max() == 0:
        fail(f"the weights of {name} stay as they were: is optimizer.step() missing?")
    if not all(watched.sums):
        fail("gradients of earlier steps add up: is zero_grad missing?")
    # the gradient has one sign all along, so that a step of Adam's is as long as the rate
    if path[-1] > 0:
        fail("the weight moves away from the velocity: the loss is to fall")
    if not 0.6 * lr < moves.max() < 1.5 * lr:
        fail(f"the largest step is {moves.max():.4f}, with AdamW it would be about lr = {lr}")
    if moves[-1] > 0.3 * moves.max():
        fail(f"the last steps are as long as the first: step i's rate is {rate}")
    return moves


# ---- the way that a weight goes ------------------------------------------------------------------

def replayed(gradients, rates, kind="Adam", anew=False, **options):
    """The moves of a weight by one of torch's optimizers; anew: by a new one in each step."""
    weight = nn.Parameter(torch.tensor(BEGIN))
    optimizer, path = None, [BEGIN]
    for gradient, rate in zip(gradients, rates, strict=True):
        if anew or optimizer is None:
            optimizer = getattr(torch.optim, kind)([weight], lr=1.0, **options)
        optimizer.param_groups[0]["lr"] = float(rate)
        weight.grad = torch.as_tensor(gradient).clone()
        optimizer.step()
        path.append(weight.item())
    return torch.tensor(path).diff()


def cut(gradients):
    """Gradients as clip_grad_norm_(parameters, 1.0) leaves them, of a network of one weight."""
    return [gradient / max(1.0, abs(gradient) + 1e-6) for gradient in gradients]


def judge_way(moves, gradients, rates, likely=None, **options):
    """Raise Wrong if a weight's moves have a known mistake; tell whether they are Adam's.

    Adam, and AdamW with torch's own small decay, pass for each other. likely: {cause: other
    arguments of `replayed`}.
    """
    right = {"gradients": gradients, "rates": rates, **options}

    def same(other, kinds=("Adam", "AdamW")):
        return any(close(moves, replayed(**{**right, **other, "kind": kind}), 3e-3)
                   for kind in kinds)

    if len(moves) != len(gradients):
        fail(f"{len(gradients)} backward passes in {len(moves)} steps: one in each")
    if same({}):
        return True
    causes = {
        **(likely or {}),
        "one optimizer for all steps: a new one in each forgets its moments": {"anew": True},
        "the gradients are cut before the step: Adam gets them as they are":
            {"gradients": cut(gradients)},
    }
    # where all gradients are long, a step of those that were cut is one of a new optimizer's
    if found := [cause for cause, other in causes.items() if same(other)]:
        fail("; or else: ".join(found))
    judge_decay(moves, replayed(**right), rates)
    return False


def judge_decay(moves, plain, rates):
    """Raise Wrong if moves are the plain ones and a decay of the weight beside them."""
    path = BEGIN + torch.cat([torch.zeros(1), moves.cumsum(0)[:-1]])
    share = (plain - moves) / (torch.as_tensor(rates) * path)
    if share.mean() > 0.02 and share.std() < 0.1 * share.mean():
        fail(f"the weights decay, by {share.mean():.2g} of the rate in each step: leave "
             "weight_decay as torch has it")


SLOPES = 0.3, 2.0, 0.7, 4.0, 1.2        # of the loss below, step by step: unlike, and of one sign


class Slope(Watched):
    """A weight with a loss of another slope in each step; `seen`: where the weight then was."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def slope(self, i: int) -> float:
        return SLOPES[i % len(SLOPES)]

    def loss(self):
        self.seen.append(self.weight.item())
        return self.slope(len(self.seen) - 1) * self.weight

    def losses(self):
        """What the losses of all steps were."""
        return torch.tensor([self.slope(i) * weight for i, weight in enumerate(self.seen)])


def judge_slope(network, lr: float, steps: int):
    """Raise Wrong unless Adam moved a Slope, with a rate that falls in equal parts to 0."""
    judge_mode(network)
    if not all(network.sums):
        fail("gradients of earlier steps add up: is zero_grad missing?")
    moves = torch.tensor([*network.seen, network.weight.item()]).diff()
    if moves.abs().max() < 1e-9:
        fail("the weights don't move: is the optimizer's step there, and the backward pass?")
    if (moves > 1e-6).any():
        fail("uphill: the loss grows")
    i = torch.arange(steps)
    rates = lr * (1 - i / steps)
    right = judge_way(moves, network.gradients, rates, {
        "the learning rate stays the same: it falls to 0 in equal parts":
            {"rates": torch.full((steps,), lr)},
        "the learning rate falls one step early: in step 0 it is lr":
            {"rates": lr * (1 - (i + 1) / steps)},
        "the learning rate falls one step late: it is set before the step, and in step 0 it is lr":
            {"rates": lr * (1 - (i - 1).clamp(min=0) / steps)},
        "the rate is a share of lr, not of the last step's rate":
            {"rates": lr * (1 - i / steps).cumprod(0)},
    })
    if not right:
        want = replayed(network.gradients, rates)
        told, wanted = (", ".join(f"{-move:.3g}" for move in some[:4].tolist())
                        for some in (moves, want))
        fail(f"Adam with a rate that falls in equal parts from {lr} to 0: its steps are {told}, "
             f"{wanted} are wanted")
