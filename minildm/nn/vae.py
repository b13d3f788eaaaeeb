"""The variational autoencoder: pictures to a small, smooth latent space and back (Kingma & Welling 2013).

The encoder answers with a Gaussian, not a point:  z = mean + std * noise.  The loss is reconstruction plus
KL(q(z|x) || N(0, I)), which keeps neighbouring latents meaningful (eq. 7, 10). Diffusion wants unit variance,
so the model stores its latents' mean and std per channel, measured on the training set, beside its weights.
Stable Diffusion 1.5's autoencoder is `VAEConfig()`: 83,653,863 parameters. Ours differ in numbers only.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.nn.layers import Attention, Downsample, ResidualBlock, Upsample, group_norm, zero_

EPS = 1e-6  # of the GroupNorms in Stable Diffusion's VAE; its U-Net has 1e-5


@dataclass(frozen=True)
class VAEConfig:
    in_channels: int = 3
    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 512)  # one width a level; each level halves height and width
    blocks: int = 2                                   # residual blocks a level; the decoder has one more
    attention: bool = True                            # one-head attention in the middle
    groups: int = 32                                  # of GroupNorm; 0: none, small VAEs learn sooner
    patch: int = 1                                    # pixels folded into channels at the door, patch x patch

    @property
    def factor(self) -> int:
        """Pixels a latent position stands for, along one side."""
        return self.patch * 2 ** (len(self.channels) - 1)


class Gaussian:
    """q(z|x), a Gaussian a latent value: mean and logvar (B, C, h, w), logvar clamped to [-30, 20]."""

    def __init__(self, mean, logvar):
        self.mean, self.logvar = mean.float(), logvar.float().clamp(-30, 20)

    @property
    def std(self):
        return (0.5 * self.logvar).exp()

    def sample(self, generator=None):
        """mean + std * noise: reparameterised, so gradients flow through (Kingma & Welling 2013, 2.4)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.std * noise

    def kl(self):
        """KL(q || N(0, 1)) in nats, each latent value, (B, C, h, w) (Kingma & Welling 2013, appendix B)."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar)


class AttentionBlock(Attention):
    """Attention over the positions of a feature map, with its own norm and residual; q, k, v have biases."""

    def __init__(self, channels: int, groups: int):
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = group_norm(groups, channels, EPS)

    def forward(self, x):
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)             # (B, H W, C)
        return x + super().forward(tokens).transpose(1, 2).reshape(x.shape)


class Stage(nn.Module):
    """Residual blocks of one level; the change of size is added by the encoder or decoder."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(in_channels if i == 0 else out_channels, out_channels, groups=groups, eps=EPS)
            for i in range(blocks))

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        for sampler in [*getattr(self, "downsamplers", []), *getattr(self, "upsamplers", [])]:
            x = sampler(x)
        return x


class Middle(nn.Module):
    """Residual, attention, residual at the smallest size."""

    def __init__(self, channels: int, config: VAEConfig):
        super().__init__()
        self.attentions = nn.ModuleList([AttentionBlock(channels, config.groups)] if config.attention else [])
        self.resnets = nn.ModuleList(
            ResidualBlock(channels, channels, groups=config.groups, eps=EPS) for _ in range(2))

    def forward(self, x):
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, 2 latent_channels, H / factor, W / factor)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        c, width = config, config.channels
        self.patch = c.patch
        self.conv_in = nn.Conv2d(c.in_channels * c.patch**2, width[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Stage(width[max(i - 1, 0)], width[i], c.blocks, c.groups) for i in range(len(width)))
        for i, stage in enumerate(self.down_blocks[:-1]):
            stage.downsamplers = nn.ModuleList([Downsample(width[i], asymmetric=True)])
        self.mid_block = Middle(width[-1], c)
        self.conv_norm_out = group_norm(c.groups, width[-1], EPS)
        self.conv_out = nn.Conv2d(width[-1], 2 * c.latent_channels, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(F.pixel_unshuffle(x, self.patch))
        for stage in self.down_blocks:
            h = stage(h)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))


class Decoder(nn.Module):
    """(B, latent_channels, h, w) -> (B, C, h * factor, w * factor)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        c, width = config, config.channels[::-1]
        self.patch = c.patch
        self.conv_in = nn.Conv2d(c.latent_channels, width[0], 3, padding=1)
        self.mid_block = Middle(width[0], c)
        self.up_blocks = nn.ModuleList(
            Stage(width[max(i - 1, 0)], width[i], c.blocks + 1, c.groups) for i in range(len(width)))
        for i, stage in enumerate(self.up_blocks[:-1]):
            stage.upsamplers = nn.ModuleList([Upsample(width[i])])
        self.conv_norm_out = group_norm(c.groups, width[-1], EPS)
        self.conv_out = nn.Conv2d(width[-1], c.in_channels * c.patch**2, 3, padding=1)

    def forward(self, z):
        h = self.mid_block(self.conv_in(z))
        for stage in self.up_blocks:
            h = stage(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.conv_norm_out(h))), self.patch)


class AutoencoderKL(nn.Module):
    """Encoder, decoder and the scale of the latents between them."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = c = config
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quant_conv = nn.Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(c.latent_channels, c.latent_channels, 1)
        self.register_buffer("latent_mean", torch.zeros(c.latent_channels))
        self.register_buffer("latent_std", torch.ones(c.latent_channels))
        self.init_weights()

    def init_weights(self):
        """Every residual step starts as the identity: what is left is nearly linear, and learns at once."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                zero_(module.conv2)

    def encode(self, images) -> Gaussian:
        """Images (B, C, H, W) in [-1, 1] -> the posterior over raw latents."""
        f, c = self.config.factor, self.config.in_channels
        if images.shape[1] != c:
            raise MinildmError(f"images have {images.shape[1]} channels, this VAE takes {c}", "encode",
                               "build it with the data's VAEConfig(in_channels=...)")
        if images.shape[2] % f or images.shape[3] % f:
            raise MinildmError(f"images are {images.shape[2]}×{images.shape[3]}, this VAE wants "
                               f"multiples of {f}", "encode", "pad with data.pad_to")
        images = images.to(self.quant_conv.weight.dtype)
        return Gaussian(*self.quant_conv(self.encoder(images)).chunk(2, dim=1))

    def decode(self, z):
        """Raw latents (B, c, h, w) -> images (B, C, H, W), about [-1, 1]."""
        return self.decoder(self.post_quant_conv(z.to(self.post_quant_conv.weight.dtype)))

    def loss(self, images, generator=None, kl_weight: float = 1e-3):
        """L1 + L2 reconstruction + kl_weight * KL, all means over values: dict(loss, l1, l2, kl)."""
        posterior = self.encode(images)
        error = self.decode(posterior.sample(generator)).float() - images
        l1, l2, kl = error.abs().mean(), error.square().mean(), posterior.kl().mean()
        return {"loss": l1 + l2 + kl_weight * kl, "l1": l1, "l2": l2, "kl": kl}

    @torch.no_grad()
    def fit_latent_stats(self, images, batch_size: int = 500):
        """Measure and store mean and std per channel of the raw latents of float images (N, C, H, W)."""
        posteriors = [self.encode(batch) for batch in images.split(batch_size)]
        mean, variance = torch.cat([p.mean for p in posteriors]), torch.cat([p.std**2 for p in posteriors])
        self.latent_mean.copy_(mean.mean((0, 2, 3)))
        self.latent_std.copy_((mean.var((0, 2, 3)) + variance.mean((0, 2, 3))).sqrt())    # total variance

    def normalise(self, z):
        """Raw latents -> zero mean, unit variance, what the denoiser sees."""
        return (z - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def denormalise(self, z):
        """The way back: what the denoiser made -> raw latents for `decode`."""
        return z * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
