"""An optimizer for convolutions that a normalisation follows: in few steps it gets further than AdamW."""

import torch


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: a kernel moves as far in rare directions as in those all gradients share.

    (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon.) For kernels (rows, ...) alone, each taken
    as a matrix of `rows` filters. What follows must not depend on their lengths, as a batch norm does not:
    each kernel is kept at norm sqrt(rows), so that the learning rate is a relative one.
    """

    def __init__(self, kernels, lr: float, momentum: float = 0.6):
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                average = self.state[p]["momentum"].mul_(group["momentum"]).add_(p.grad)
                ahead = p.grad + group["momentum"] * average                            # Nesterov's
                p.mul_(len(p)**0.5 / p.norm())
                p.sub_(group["lr"] * orthogonal(ahead.flatten(1)).reshape(p.shape))


def orthogonal(matrix):
    """(n, m) -> the matrix of its singular vectors, its singular values brought to about 0.7 to 1.2.

    By matrix products alone: five times a quintic, which is applied to every singular value at once and moves
    it there unless it is tiny beside the others, x <- a x + b x x' x + c x x' x x' x.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if len(matrix) > matrix.shape[1] else x
