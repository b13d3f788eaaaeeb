"""A classifier that is trained on noisy latents, so that its gradient can guide (`classifier_guidance`).

It says which class a latent comes from at any time t: a small form of the classifier of Dhariwal &
Nichol 2021 (4.1, arXiv:2105.05233). One trained on clean latents would be sure, and wrong, about noise.
"""

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.diffusion.schedules import Schedule, add_noise
from minildm.nn.layers import ResidualBlock, TimeEmbedding


class NoisyClassifier(nn.Module):
    """Residual blocks that are told the time, then the mean over positions and a linear head.

    x (B, C, H, W), t a number or (B,) -> logits (B, classes).
    """

    def __init__(self, channels: int, classes: int, width: int = 64):
        super().__init__()
        self.time_embedding = TimeEmbedding(width, width)
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, width, groups=8) for _ in range(3))
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(width, classes)

    def forward(self, x, t):
        emb = F.silu(self.time_embedding(torch.as_tensor(t, device=x.device)))
        h = self.conv_in(x)
        h = self.blocks[0](h, emb)
        for block in self.blocks[1:]:
            h = block(self.pool(h), emb)
        return self.head(F.silu(h).mean((2, 3)))

    def loss(self, latents, labels, schedule: Schedule, generator=None):
        """Cross-entropy on latents (B, C, H, W) with noise of a random time: dict(loss, accuracy)."""
        n, device = len(latents), latents.device
        t = torch.rand(n, generator=generator, device=device)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        logits = self(add_noise(schedule, latents, noise, t), t).float()
        accuracy = (logits.argmax(1) == labels).float().mean()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}

    def log_prob(self, labels):
        """log p(labels | x_t), as a function of x and t: what `classifier_guidance` climbs.

        labels (B,) are whole numbers below `classes`, and others are refused.
        """
        classes = self.head.out_features
        if labels.is_floating_point() or labels.min() < 0 or labels.max() >= classes:
            raise MinildmError(f"labels are {labels.dtype} from {labels.min()} up to {labels.max()}",
                               "NoisyClassifier.log_prob",
                               f"pass whole numbers from 0 to {classes - 1}, one a picture")

        def log_prob(x, t):
            return -F.cross_entropy(self(x, t).float(), labels, reduction="none")

        return log_prob
