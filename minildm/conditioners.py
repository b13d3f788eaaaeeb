"""What a picture is asked for by: a label, or a sentence.

A `Conditioner` turns what a user asks for into integers (`read`), those into what the network is
told (`embed`), and knows what stands for "nothing in particular" (`null`), which guidance compares
with. Training replaces a share of the conditions by that nothing (`drop`), so that one network
learns both p(x | c) and p(x) (Ho & Salimans 2022, algorithm 1, arXiv:2207.12598).
"""

from typing import Protocol

import torch

from minildm import MinildmError
from minildm.data.tokenizer import Tokenizer
from minildm.devices import DeviceCopies
from minildm.diffusion.denoiser import drop_context
from minildm.nn.clip import TextTransformer

DROP = 0.1      # the share of conditions that training replaces by nothing
LISTED = 10     # class names that an error lists


class Conditioner(Protocol):
    """Labels or prompts. N is the number of pictures; asked is (N,) labels or (N, L) token ids."""

    def read(self, wanted) -> torch.Tensor:
        """Check what a user asks for and turn it into integers: (N,) or (N, L), on the CPU."""

    def embed(self, asked) -> torch.Tensor:
        """Turn the integers into the network's context: labels (N,), or states (N, L, D)."""

    def drop(self, asked, generator=None, share: float = DROP) -> torch.Tensor:
        """Replace a share of the integers, drawn by the generator, by what stands for nothing."""

    def null(self, n: int, negative: str = "") -> torch.Tensor:
        """Return n contexts that guidance leads away from: nothing, or a negative prompt."""


class Labels:
    """Class numbers 0 .. classes - 1; one more number stands for no class."""

    def __init__(self, class_names, device="cpu"):
        self.class_names = tuple(class_names)
        self.device = torch.device(device)

    @property
    def null_label(self) -> int:
        return len(self.class_names)

    def read(self, wanted) -> torch.Tensor:
        """One label, a list, a range or an integer tensor -> labels (N,) int64.

        Raises MinildmError for words, fractions, truth values, one-hot rows and numbers of no
        class.
        """
        if isinstance(wanted, str):
            raise self._refusal(f"{wanted!r} is no list of prompts or labels")
        if not torch.is_tensor(wanted) and not hasattr(wanted, "dtype"):
            wanted = list(wanted) if hasattr(wanted, "__iter__") else [wanted]
            if any(isinstance(word, str) for word in wanted):
                raise self._refusal("this model knows no words, it draws labels")
        try:
            labels = torch.as_tensor(wanted)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise self._refusal(f"{wanted!r} are no labels") from None
        if labels.ndim > 1:
            raise self._refusal(
                f"labels have the shape {tuple(labels.shape)}, not (N,): one-hot rows "
                "become labels by argmax(1)"
            )
        if not labels.numel():
            raise self._refusal(f"{wanted!r} is no list of prompts or labels")
        # True is no class, and 3.0 may be 2.9999 a line further up
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise self._refusal(f"labels are whole numbers, not {labels.dtype}")
        # uint8 would overflow, and index nothing: labels are int64 from here on
        labels = labels.reshape(-1).long().cpu()
        low, high = labels.min().item(), labels.max().item()
        if low < 0 or high >= len(self.class_names):
            raise self._refusal(f"labels {low}..{high} are not all classes")
        return labels

    def embed(self, asked) -> torch.Tensor:
        """Labels are told as they are: the network has an embedding of its own for them."""
        return asked.to(self.device)

    def drop(self, asked, generator=None, share: float = DROP) -> torch.Tensor:
        return drop_context(asked, self.null_label, share, generator)

    def null(self, n: int, negative: str = "") -> torch.Tensor:
        if negative:
            raise self._refusal("this model knows no words, it draws labels")
        return torch.full((n,), self.null_label, device=self.device)

    def _refusal(self, what: str) -> MinildmError:
        names = ", ".join(self.class_names[:LISTED])
        more = ", ..." if len(self.class_names) > LISTED else ""
        return MinildmError(what, "generate", f"use 0..{len(self.class_names) - 1}: {names}{more}")


class Prompts:
    """Sentences, told as the states of their tokens in a text tower that stays as it is."""

    def __init__(self, encoder: TextTransformer, tokenizer: Tokenizer):
        # a tower that moved with the denoiser would forget what its words mean
        self.encoder = encoder.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.empty: dict = {}       # the empty sentence by its length

    @property
    def length(self) -> int:
        return self.encoder.config.length

    def read(self, wanted) -> torch.Tensor:
        """A list of sentences -> token ids (N, L)."""
        if isinstance(wanted, str) or not hasattr(wanted, "__len__") or not len(wanted):
            raise MinildmError(
                f"{wanted!r} is no list of prompts or labels",
                "generate",
                'pass a list of sentences: ["a red three"]; this model draws prompts',
            )
        if not all(isinstance(word, str) for word in wanted):
            raise MinildmError("this model draws prompts, not labels", "generate",
                               'pass sentences: ["a red three"], or --prompt "a red three"')
        return self.tokenizer(list(wanted), self.length)

    @torch.no_grad()
    def embed(self, asked) -> torch.Tensor:
        """Token ids (N, L) -> states (N, L, D). Padding's states count, too, as in CLIP."""
        device = next(self.encoder.parameters()).device
        return self.encoder(asked.to(device))[0]

    def drop(self, asked, generator=None, share: float = DROP) -> torch.Tensor:
        length = asked.shape[1]
        # kept: to tokenize it and to copy it to a GPU would hold up each step of a training
        if length not in self.empty:
            self.empty[length] = DeviceCopies(self.tokenizer([""], length))
        return drop_context(asked, self.empty[length].like(asked), share, generator)      # (1, L)

    def null(self, n: int, negative: str = "") -> torch.Tensor:
        return self.embed(self.tokenizer([negative], self.length)).expand(n, -1, -1)
