"""An optimizer for matrices and kernels: in few steps it gets further than AdamW."""

import torch


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: a kernel moves as far in rare directions as in common ones.

    The update is Muon's (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Kernels
    are (rows, ...), each taken as a matrix of `rows` filters.

    With `set_lengths` each kernel is kept at norm sqrt(rows), which makes the learning rate a
    relative one; what follows must not depend on its length, as a batch norm does not. This and
    momentum 0.6 are airbench94's (https://github.com/KellerJordan/cifar10-airbench). The length of
    a kernel that starts at zero has a meaning: it is left as it is.

    Without, lengths are learned as AdamW would, and a step of rate lr moves a number by about
    0.2 lr, whatever the matrix's shape: for any linear map and convolution (Liu et al. 2025,
    2.2, arXiv:2502.16982).
    """

    found_inf = None        # (): 1 says that this step moves nothing. As for torch's fused AdamW

    def __init__(self, kernels, lr: float, momentum: float = 0.6, set_lengths: bool = True):
        super().__init__(kernels, {"lr": lr, "momentum": momentum})
        self.set_lengths = set_lengths

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group["lr"], group["momentum"])

    def _move(self, p, lr, momentum: float) -> None:
        norm = p.norm()
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
            state["from_zero"] = norm == 0
        average = self._set(state["momentum"], momentum * state["momentum"] + p.grad)
        # Nesterov's: where the momentum will have led, one step ahead
        nesterov = p.grad + momentum * average
        step = lr * orthogonal(nesterov.flatten(1)).reshape(p.shape)
        if not self.set_lengths:
            # an orthogonal matrix's numbers have a mean square of 1 over its longer side
            self._set(p, p - 0.2 * max(len(p), p[0].numel())**0.5 * step)
            return
        ratio = len(p)**0.5 / norm
        # a tensor decides, not an `if`: the host need not wait for a GPU
        from_zero = state.get("from_zero")
        if from_zero is None:
            # a checkpoint from before zeros were known of: none of its kernels began there
            from_zero = torch.zeros_like(norm, dtype=torch.bool)
        kept = p * torch.where(from_zero, torch.ones_like(ratio), ratio)
        self._set(p, kept - step)

    def _set(self, old, new):
        """Put the new numbers in the place of the old, unless this step is to move nothing."""
        if self.found_inf is not None:
            # not a product with 0: NaN * 0 is NaN
            new = torch.where(self.found_inf > 0, old, new)
        return old.copy_(new)


def orthogonal(matrix):
    """Bring the singular values of a matrix (n, m) to about 0.7 to 1.2, keeping its vectors.

    By matrix products alone: five times a quintic, which acts on every singular value at once and
    moves it there unless it is tiny beside the others, x <- a x + b x x' x + c x x' x x' x.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    # x x' is the smaller product if x is wide
    tall = len(matrix) > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
