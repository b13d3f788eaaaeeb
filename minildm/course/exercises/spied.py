"""What the checks of training loops share: a weight that watches, and words for what it saw."""

import torch
from torch import nn

from minildm.course.exercises.compare import fail


class Watched(nn.Module):
    """A network of one weight that knows of each gradient whether it was fresh: `sums`."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.fresh, self.sums = None, []
        self.weight.register_hook(self.note)
        self.weight.register_post_accumulate_grad_hook(self.compare_sums)

    def note(self, gradient):
        self.fresh = gradient.clone()

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
    path = torch.tensor([*weights, watched.weight.item()])
    moves = path.diff().abs()
    if moves.max() == 0:
        fail(f"the weights of {name} stay as they were: is optimizer.step() missing?")
    if not all(watched.sums):
        fail("gradients of earlier steps add up: is zero_grad missing?")
    # the gradient has one sign all along, so that a step of Adam's is as long as the rate
    if path[-1] > 0:
        fail("the weight moves away from the velocity: the loss is to fall")
    if not 0.6 * lr < moves.max() < 1.1 * lr:
        fail(f"the largest step is {moves.max():.4f}, with AdamW it would be about lr = {lr}")
    if moves[-1] > 0.3 * moves.max():
        fail(f"the last steps are as long as the first: step i's rate is {rate}")
    return moves
