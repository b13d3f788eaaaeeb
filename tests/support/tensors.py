"""Random tensors and weights by seed, and how exactly two implementations must agree."""

import hashlib

import torch

EXACT = dict(rtol=0, atol=1e-5)     # parity bar: largest absolute difference in float32


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomise(module, seed=0):
    """Random weights that keep activations near 1, and norms that are not the identity; the module itself."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            r = torch.randn(p.shape, generator=generator)
            p.copy_(r / p[0].numel() ** 0.5 if p.ndim > 1 else 0.1 * r + name.endswith("weight"))
    return module.eval()


def same_weights(theirs, ours):
    """Both with the same random weights: names and shapes must be equal."""
    ours.load_state_dict(randomise(theirs).state_dict())
    return theirs, ours.eval()


def epsilons(module):
    return {name: m.eps for name, m in module.named_modules() if hasattr(m, "eps")}


def sha256(*tensors):
    """The first 16 letters of the sha256 of the tensors' bytes: for numbers that must stay as they are."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
