"""The check of lesson 02 on one step of two players, each with an optimizer of its own."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_02_hinge import adaptive_weight
from minildm.training import losses


def adversarial_step(decoder, critic, optimizers, images, latents, reconstruction_loss, weight):
    of_decoder, of_critic = optimizers
    copies = decoder(latents)
    reconstruction = reconstruction_loss(images, copies)
    adversarial = losses.hinge_generator(critic(copies))
    balance = adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight).clamp(max=1)
    of_decoder.zero_grad()
    (reconstruction + weight * balance * adversarial).backward()
    of_decoder.step()
    # the line above left gradients in the critic as well
    of_critic.zero_grad()
    judged = losses.hinge_critic(critic(images), critic(copies.detach()))
    judged.backward()
    of_critic.step()
    return balance.item(), judged.item()


class SmallDecoder(nn.Module):
    """A decoder of latents (B, 3) to pictures (B, 2, 3, 4), with a `conv_out` as real ones have."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Parameter(randn(3, 60, seed=5) / 2)
        self.conv_out = nn.Conv2d(5, 2, 1)
        with torch.no_grad():
            self.conv_out.weight.copy_(randn(2, 5, 1, 1, seed=6) / 2)
            self.conv_out.bias.zero_()
        self.calls = 0

    def forward(self, latents):
        self.calls += 1
        return self.conv_out(torch.tanh(latents @ self.conv_in).unflatten(1, (5, 3, 4)))


class SmallCritic(nn.Module):
    """A critic of pictures (B, 2, 3, 4); steep, so that the balance is far from its limit."""

    def __init__(self, steepness: float):
        super().__init__()
        self.kernel = nn.Parameter(randn(4, 2, 1, 1, seed=7))
        self.head = nn.Parameter(steepness * randn(1, 4, 1, 1, seed=8))

    def forward(self, images):
        return F.conv2d(torch.tanh(F.conv2d(images, self.kernel)), self.head)


def l1(images, copies):
    return (images - copies).abs().mean()


@dataclass
class Played:
    """What some steps left behind: weights after each, and what the step returned."""

    decoder: torch.Tensor           # (steps, numbers)
    critic: torch.Tensor
    balances: torch.Tensor          # (steps,)
    judged: torch.Tensor
    decoders_gradient: torch.Tensor


def flat(module):
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def play(step, steepness: float, weight: float, steps: int = 3) -> Played:
    """Take steps with fresh small networks, by an answer or a mistake."""
    decoder, critic = SmallDecoder(), SmallCritic(steepness)
    # SGD, as Adam's steps would hide a wrong scale of a loss
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.2) for part in (decoder, critic)]
    rows = []
    for i in range(steps):
        # another number of pictures than of channels
        images, latents = randn(6, 2, 3, 4, seed=i), randn(6, 3, seed=20 + i)
        got = step(decoder, critic, optimizers, images, latents, l1, weight)
        rows.append((flat(decoder), flat(critic), *returned(got)))
    left = [p.grad.flatten() for p in decoder.parameters() if p.grad is not None]
    gradient = torch.cat(left) if left else torch.zeros(1)
    return Played(*(torch.stack(column) for column in zip(*rows, strict=True)), gradient)


def returned(got) -> tuple:
    if got is None:
        fail("the step returns the balance and the critic's loss: this is None")
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        fail(f"the step returns two numbers, the balance and the critic's loss: this is "
             f"{describe(got)}")
    values = [torch.as_tensor(value).detach().float() for value in got]
    if any(value.numel() != 1 for value in values):
        fail("the step returns two numbers, the balance and the critic's loss")
    return tuple(value.reshape(()) for value in values)


@dataclass
class Variant:
    """The step with likely mistakes; as it stands it makes none."""

    order: str = ("zero decoder, backward decoder, step decoder, "
                  "zero critic, backward critic, step critic")
    sign: float = 1.0               # of the adversarial term
    balanced: bool = True
    largest: float = 1.0
    weighted: bool = True
    detached: bool = True           # the copies that the critic judges
    swapped: bool = False           # real and fake
    again: bool = False             # the copies are decoded anew for the critic
    reconstructs: bool = True
    adversarial: bool = True

    def __call__(self, decoder, critic, optimizers, images, latents, reconstruction_loss, weight):
        parts = dict(zip(("decoder", "critic"), optimizers, strict=True))
        copies = decoder(latents)
        reconstruction = reconstruction_loss(images, copies)
        adversarial = losses.hinge_generator(critic(copies))
        balance = torch.ones(())
        if self.balanced:
            last = decoder.conv_out.weight
            balance = adaptive_weight(reconstruction, adversarial, last).clamp(max=self.largest)
        pull = self.sign * balance * adversarial * (weight if self.weighted else 1)
        loss = reconstruction * self.reconstructs + pull * self.adversarial
        judged = None
        for action in self.order.split(", "):
            verb, part = action.split()
            if verb == "zero":
                parts[part].zero_grad()
            elif verb == "step":
                parts[part].step()
            elif part == "decoder":
                loss.backward(retain_graph=not self.detached)
            else:
                judged = self.judge(decoder, critic, images, latents, copies)
                judged.backward()
        return balance.item(), judged.item()

    def judge(self, decoder, critic, images, latents, copies):
        """The critic's own loss."""
        if self.again:
            copies = decoder(latents)
        fake = critic(copies.detach() if self.detached else copies)
        real = critic(images)
        return losses.hinge_critic(fake, real) if self.swapped else losses.hinge_critic(real, fake)


def critic_first(decoder, critic, optimizers, images, latents, reconstruction_loss, weight):
    """The turns exchanged: the decoder meets a critic that has moved."""
    with torch.no_grad():
        copies = decoder(latents)
    of_decoder, of_critic = optimizers
    of_critic.zero_grad()
    judged = losses.hinge_critic(critic(images), critic(copies))
    judged.backward()
    of_critic.step()
    still = copy.deepcopy(critic)
    frozen = torch.optim.SGD(still.parameters(), lr=0.0)
    both = of_decoder, frozen
    balance, _ = adversarial_step(decoder, still, both, images, latents, reconstruction_loss,
                                  weight)
    return balance, judged.item()


TOGETHER = ("zero decoder, zero critic, backward decoder, backward critic, "
            "step decoder, step critic")
ZERO_BETWEEN = ("zero decoder, backward decoder, zero critic, backward critic, "
                "step decoder, step critic")
WRONG_STEPS = {
    "the critic's loss reached the decoder, which now learns to be caught: detach the copies":
        Variant(ZERO_BETWEEN, detached=False),
    "two things: the critic's loss reached the decoder (detach the copies), and the decoder's "
    "loss stayed in the critic's gradients": Variant(TOGETHER, detached=False),
    "the decoder's loss left gradients in the critic, and the critic's step used them: its "
    "zero_grad comes after the decoder's backward": Variant(TOGETHER),
    "the critic's gradients add up: its zero_grad is missing": Variant(
        "zero decoder, backward decoder, step decoder, backward critic, step critic"),
    "the decoder's gradients add up: its zero_grad is missing": Variant(
        "backward decoder, step decoder, zero critic, backward critic, step critic"),
    "the critic stays as it was: its optimizer's step is missing": Variant(
        "zero decoder, backward decoder, step decoder, zero critic, backward critic"),
    "the decoder stays as it was: its optimizer's step is missing": Variant(
        "zero decoder, backward decoder, zero critic, backward critic, step critic"),
    "the decoder was judged by the critic after its step: the decoder's turn comes first":
        critic_first,
    "the copies were decoded anew: the critic judges those that the decoder's loss saw":
        Variant(again=True),
    "the adversarial term has the wrong sign: the decoder wants to be taken for real":
        Variant(sign=-1),
    "the balance is missing: lambda multiplies the adversarial term": Variant(balanced=False),
    "the balance is at most 1": Variant(largest=1e9),
    "`weight` is missing: it multiplies the adversarial term": Variant(weighted=False),
    "real and fake have changed places in the critic's loss": Variant(swapped=True),
    "the reconstruction loss is missing": Variant(reconstructs=False),
    "the adversarial term is missing, or reaches nothing: in the decoder's loss no copies are "
    "detached": Variant(adversarial=False),
}


@check(reference=adversarial_step, forbidden=[losses.sharp_losses, losses.adversarial_terms])
def check_adversarial_step(answer):
    # a steep critic, whose balance is far below 1, and a flat one, whose balance would be above
    for steepness, weight in (3.0, 0.6), (0.02, 1.7):
        want = play(adversarial_step, steepness, weight)
        got = play(answer, steepness, weight)
        judge_weights(got, want, steepness, weight)
        compare(got.balances, want.balances, where="the balance, which comes first")
        compare(got.judged, want.judged, where="the critic's loss, which comes second")
        if not close(got.decoders_gradient, want.decoders_gradient):
            fail("the critic's loss left gradients in the decoder: detach the copies")
        answer.right += 1


def judge_weights(got: Played, want: Played, steepness: float, weight: float):
    """Whether both networks moved as they should; if not, why."""
    if close(got.decoder, want.decoder) and close(got.critic, want.critic):
        return
    for cause, step in WRONG_STEPS.items():
        wrong = play(step, steepness, weight)
        if close(got.decoder, wrong.decoder) and close(got.critic, wrong.critic):
            fail(cause)
    if close(got.decoder[0], want.decoder[0]) and close(got.critic[0], want.critic[0]):
        fail("the first step is right, the second isn't: do old gradients add up?")
    moved = "decoder" if close(got.critic[0], want.critic[0]) else "critic"
    fail(f"after one step the weights of the {moved} are not those that its loss asks for")
