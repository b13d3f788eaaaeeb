"""The variational autoencoder: pictures to a small, smooth latent space and back.

The encoder answers with a Gaussian, not a point:
    z = mean + std * noise
The loss is reconstruction plus KL(q(z|x) || N(0, I)), which keeps neighbouring latents meaningful
(Kingma & Welling 2013, eq. 7 and 10, arXiv:1312.6114). Diffusion wants unit variance, so the model
stores its latents' mean and std per channel, measured on the training set, beside its weights.
Stable Diffusion 1.5's autoencoder is
`VAEConfig()`: 83,653,863 parameters. Ours differ in numbers only.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import MinildmError
from minildm.nn import bounds
from minildm.nn.layers import Attention, Downsample, ResidualBlock, Upsample, group_norm, zero_

EPS = 1e-6  # of the GroupNorms in Stable Diffusion's VAE; its U-Net has 1e-5


@dataclass(frozen=True)
class VAEConfig:
    """The numbers that define an `AutoencoderKL`."""

    in_channels: int = 3
    latent_channels: int = 4
    # one width a level; each level but the last halves height and width
    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2             # residual blocks a level; the decoder has one more
    attention: bool = True      # one-head attention in the middle
    groups: int = 32            # of GroupNorm; 0: none, small VAEs learn sooner
    patch: int = 1         # squares of patch x patch pixels become channels first (pixel_unshuffle)

    def __post_init__(self):
        at = "VAEConfig"
        bounds.check_int(at, 1, bounds.WIDTH, in_channels=self.in_channels,
                         latent_channels=self.latent_channels)
        bounds.check_ints(at, bounds.LEVELS, bounds.WIDTH, channels=self.channels)
        bounds.check_int(at, 0, bounds.DEPTH, blocks=self.blocks)
        bounds.check_int(at, 0, bounds.WIDTH, groups=self.groups)
        bounds.check_int(at, 1, bounds.DEPTH, patch=self.patch)
        bounds.check_bool(at, attention=self.attention)
        if self.groups:
            bounds.check_divides(at, self.groups, "groups", *self.channels)

    @property
    def factor(self) -> int:
        """Pixels along one side that a latent position stands for."""
        return self.patch * 2 ** (len(self.channels) - 1)


class Gaussian:
    """q(z|x), independent Gaussians: mean and logvar (B, C, h, w), logvar clamped to [-30, 20]."""

    def __init__(self, mean, logvar):
        self.mean = mean.float()
        # the published range; beyond it exp would overflow
        self.logvar = logvar.float().clamp(-30, 20)

    @property
    def std(self):
        return (0.5 * self.logvar).exp()

    def sample(self, generator=None):
        """mean + std * noise: reparameterised, so that gradients flow through (2.4)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.std * noise

    def kl(self):
        """KL(q || N(0, 1)) of each latent value in nats, (B, C, h, w) (appendix B)."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar)


class AttentionBlock(Attention):
    """Attention over the positions of a feature map, with norm, residual and biases."""

    def __init__(self, channels: int, groups: int):
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = group_norm(groups, channels, EPS)

    def forward(self, x):
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)             # (B, H W, C)
        attended = super().forward(tokens)
        return x + attended.transpose(1, 2).reshape(x.shape)               # (B, C, H, W)


class Level(nn.Module):
    """The residual blocks of one size, then the change of size that encoder or decoder add."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, groups: int):
        super().__init__()
        widths = [in_channels, *[out_channels] * blocks]
        self.resnets = nn.ModuleList(
            ResidualBlock(before, after, groups=groups, eps=EPS)
            for before, after in pairwise(widths))

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        for sampler in [*getattr(self, "downsamplers", []), *getattr(self, "upsamplers", [])]:
            x = sampler(x)
        return x


class MidBlock(nn.Module):
    """Residual block, attention where there is any, residual block at the smallest size."""

    def __init__(self, width: int, config: VAEConfig):
        super().__init__()
        self.attentions = nn.ModuleList()
        if config.attention:
            self.attentions.append(AttentionBlock(width, config.groups))
        self.resnets = nn.ModuleList(
            ResidualBlock(width, width, groups=config.groups, eps=EPS) for _ in range(2))

    def forward(self, x):
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, 2 latent_channels, H / factor, W / factor)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        c, widths = config, config.channels
        self.patch = c.patch
        self.conv_in = nn.Conv2d(c.in_channels * c.patch**2, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(before, after, c.blocks, c.groups)
            for before, after in pairwise([widths[0], *widths]))
        for width, level in zip(widths[:-1], self.down_blocks, strict=False):
            level.downsamplers = nn.ModuleList([Downsample(width, asymmetric=True)])
        self.mid_block = MidBlock(widths[-1], c)
        self.conv_norm_out = group_norm(c.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * c.latent_channels, 3, padding=1)

    def forward(self, x):
        # squares of pixels become channels: small VAEs save their largest maps
        h = self.conv_in(F.pixel_unshuffle(x, self.patch))
        for level in self.down_blocks:
            h = level(h)
        h = self.mid_block(h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


class Decoder(nn.Module):
    """(B, latent_channels, h, w) -> (B, C, h * factor, w * factor)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        c, widths = config, config.channels[::-1]
        self.patch = c.patch
        self.conv_in = nn.Conv2d(c.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MidBlock(widths[0], c)
        self.up_blocks = nn.ModuleList(
            Level(before, after, c.blocks + 1, c.groups)
            for before, after in pairwise([widths[0], *widths]))
        for width, level in zip(widths[:-1], self.up_blocks, strict=False):
            level.upsamplers = nn.ModuleList([Upsample(width)])
        self.conv_norm_out = group_norm(c.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], c.in_channels * c.patch**2, 3, padding=1)

    def forward(self, z):
        h = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            h = level(h)
        h = self.conv_out(F.silu(self.conv_norm_out(h)))
        return F.pixel_shuffle(h, self.patch)


class AutoencoderKL(nn.Module):
    """Encoder, decoder and the scale of the latents between them."""

    compiled_parts = ("encoder", "decoder")     # see `training.recorded`

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = c = config
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)
        self.quant_conv = nn.Conv2d(2 * c.latent_channels, 2 * c.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(c.latent_channels, c.latent_channels, 1)
        self.register_buffer("latent_mean", torch.zeros(c.latent_channels))
        self.register_buffer("latent_std", torch.ones(c.latent_channels))
        self.init_weights()

    def init_weights(self):
        """Every residual step starts as the identity; the rest, nearly linear, learns at once."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                zero_(module.conv2)

    def encode(self, images) -> Gaussian:
        """Images (B, C, H, W) in [-1, 1] -> the posterior over raw latents (B, c, h, w)."""
        factor, in_channels = self.config.factor, self.config.in_channels
        channels, height, width = images.shape[1:]
        if channels != in_channels:
            raise MinildmError(f"images have {channels} channels, this VAE takes {in_channels}",
                               "encode", "build it with the data's VAEConfig(in_channels=...)")
        if height % factor or width % factor:
            raise MinildmError(f"images are {height}×{width}, this VAE wants multiples of {factor}",
                               "encode", "pad with data.pad_to")
        images = images.to(self.quant_conv.weight.dtype)
        mean, logvar = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return Gaussian(mean, logvar)

    def decode(self, z):
        """Raw latents (B, c, h, w) -> images (B, C, H, W), about [-1, 1]."""
        z = z.to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(z))

    def loss(self, images, generator=None, kl_weight: float = 1e-3):
        """L1 + L2 + kl_weight * KL, all means over values: dict(loss, l1, l2, kl)."""
        posterior = self.encode(images)
        reconstructions = self.decode(posterior.sample(generator)).float()
        # L1 is pulled less by a few large errors; L2's gradient fades near the target
        error = reconstructions - images
        l1, l2 = error.abs().mean(), error.square().mean()
        kl = posterior.kl().mean()
        return {"loss": l1 + l2 + kl_weight * kl, "l1": l1, "l2": l2, "kl": kl}

    @torch.no_grad()
    def fit_latent_stats(self, images, batch_size: int = 500):
        """Measure and store the raw latents' mean and std per channel, for images (N, C, H, W)."""
        posteriors = [self.encode(batch) for batch in images.split(batch_size)]
        mean = torch.cat([p.mean for p in posteriors])                     # (N, c, h, w)
        variance = torch.cat([p.std**2 for p in posteriors])
        # law of total variance: that of the means, and the mean of the posteriors' own
        total = mean.var((0, 2, 3)) + variance.mean((0, 2, 3))
        self.latent_mean.copy_(mean.mean((0, 2, 3)))
        self.latent_std.copy_(total.sqrt())

    def normalise(self, z):
        """Raw latents (B, c, h, w) -> latents of zero mean and unit variance, the denoiser's."""
        return (z - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def denormalise(self, z):
        """The denoiser's latents (B, c, h, w) -> raw latents for `decode`."""
        return z * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
