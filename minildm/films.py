"""What a model of films has in the place of a picture model's parts: its latent space, its words.

A film is one sample: its frames are encoded one by one by the VAE of pictures, and drawn together.
`FilmLatents` keeps the frames of a film side by side, (F, c, h, w); `FilmWords` turns a label or a
sentence into three words that a `nn.video.VideoUNet` knows: digit, direction, whether it bounces.
"""

import re

import torch

from minildm import MinildmError
from minildm.conditioners import DROP, Labels
from minildm.data.moving import DIRECTIONS, Truth
from minildm.data.wordings import DIGITS
from minildm.diffusion.films import mixed_noise
from minildm.latents import Latents, VAELatents

BOUNCES = "does not bounce", "bounces"
VOCABULARY = (*DIGITS, *DIRECTIONS, *BOUNCES)
NOTHING = len(VOCABULARY)       # the word that says nothing
UNTOLD = 0.4, 0.7               # shares of films whose direction, whose bounce is not told
FILLERS = {"a", "an", "and", "moves", "the", "digit", "film", "of", "bounces"}
WAYS = {"right", "left", "up", "down"}


class FilmLatents:
    """The latents of a film's frames, (F, c, h, w), in the space of a VAE of pictures.

    `share` of the noise that a film is drawn from is common to its frames.
    """

    def __init__(self, space: VAELatents, frames: int, share: float = 0.0):
        self.space = space
        self.frames = frames
        self.share = share

    @property
    def vae(self):
        return self.space.vae

    @property
    def image_size(self) -> int:
        return self.space.image_size

    @property
    def stride(self) -> int:
        return self.space.stride

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames, *self.space.shape

    def noise(self, generator=None):
        """One film's noise."""
        return mixed_noise((1, *self.shape), self.share, generator)[0]

    def encode(self, films, mirror: bool = False) -> Latents:
        """uint8 films (N, F, C, size, size) -> their latents, mean and std (N, F, c, h, w)."""
        mean, std = self.space.encode(films.flatten(0, 1), mirror)
        return Latents(*(part.unflatten(0, (-1, self.frames)) for part in (mean, std)))

    def decode(self, latents) -> torch.Tensor:
        """Latents (N, F, c, h, w) -> float films (N, F, C, size, size) in [-1, 1]."""
        return self.space.decode(latents.flatten(0, 1)).unflatten(0, (-1, self.frames))


class FilmWords(Labels):
    """Labels or sentences about moving digits, told as three words (N, 3) of `VOCABULARY`."""

    def __init__(self, device="cpu"):
        super().__init__(DIGITS, device)

    def read(self, wanted) -> torch.Tensor:
        """Labels, or sentences like "a three moves left and up and bounces" -> words (N, 3).

        What a sentence does not say stays open. Words that the model does not know are refused.
        """
        sentences = isinstance(wanted, list | tuple) and any(isinstance(w, str) for w in wanted)
        if sentences:
            return torch.stack([self._words_of(sentence) for sentence in wanted])
        labels = super().read(wanted)
        words = torch.full((len(labels), 3), NOTHING)
        words[:, 0] = labels
        return words

    def _words_of(self, sentence: str):
        said = re.findall(r"[a-z]+", sentence.lower())
        digits = [word for word in said if word in DIGITS]
        ways = {word for word in said if word in WAYS}
        unknown = set(said) - FILLERS - WAYS - set(DIGITS)
        direction = [name for name in DIRECTIONS if ways == set(name.split()) - {"and"}]
        if unknown or len(digits) > 1 or (ways and not direction):
            raise MinildmError(f"{sentence!r:.80} is no film that this model draws", "generate",
                               'say it like "a three moves left and up and bounces"')
        words = [NOTHING] * 3
        if digits:
            words[0] = DIGITS.index(digits[0])
        if direction:
            words[1] = len(DIGITS) + DIRECTIONS.index(direction[0])
        if "bounces" in said:
            words[2] = VOCABULARY.index("bounces")
        return torch.tensor(words)

    def drop(self, asked, generator=None, share: float = DROP) -> torch.Tensor:
        """Leave out a film's direction or bounce, or all that is said of it."""
        chance = torch.rand(len(asked), 3, generator=generator, device=asked.device)
        asked = asked.clone()
        for word, untold in enumerate(UNTOLD, start=1):
            asked[chance[:, word] < untold, word] = NOTHING
        asked[chance[:, 0] < share] = NOTHING
        return asked

    def null(self, n: int, negative: str = "") -> torch.Tensor:
        if negative:
            return self.embed(self.read([negative])).expand(n, -1)
        return torch.full((n, 3), NOTHING, device=self.device)


def words_of(truth: Truth):
    """What is told of films with one digit: (N, 3)."""
    direction = len(DIGITS) + truth.directions[:, 0]
    bounce = len(DIGITS) + len(DIRECTIONS) + truth.bounces[:, 0].long()
    return torch.stack([truth.labels[:, 0], direction, bounce], 1)
