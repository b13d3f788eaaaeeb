"""The checks of lesson 16's drawing: the step, from eps or v, and text to image around it."""

from typing import NamedTuple

import torch

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import Network, randn, uniform
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_16 import alpha_bar_table
from minildm.diffusion import guidance, samplers
from minildm.published.load import SCALE

# ---- one step

def eps_step(x, eps, a, b):
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    return b.sqrt() * x0 + (1 - b).sqrt() * eps


def v_step(x, v, a, b):
    x0 = a.sqrt() * x - (1 - a).sqrt() * v
    eps = (1 - a).sqrt() * x + a.sqrt() * v
    return b.sqrt() * x0 + (1 - b).sqrt() * eps


@check(reference=eps_step, forbidden=[samplers.ddim])
def check_eps_step(answer):
    for shape, a, b in ((2, 4, 3, 5), 0.3, 0.7), ((3, 1, 4, 2), 0.02, 0.05):
        x, eps = randn(*shape), randn(*shape, seed=1)
        a, b = torch.tensor(a), torch.tensor(b)
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        answer.case((x, eps, a, b), eps_step(x, eps, a, b), {
            "a and b changed places: x is at a": eps_step(x, eps, b, a),
            "that is the guess of the data: it is to be noised to b": x0,
            "alpha is the root of alpha_bar": b * x0 + (1 - b).sqrt() * eps,
            "a and b are alpha_bar, not alpha: take their roots":
                eps_step(x, eps, a**2, b**2),
            "sigma is the root of 1 - alpha_bar": b.sqrt() * x0 + (1 - b) * eps,
            "the noise's part is missing: sigma at b times eps": b.sqrt() * x0,
            "the network answered with eps: that reads it as v": v_step(x, eps, a, b),
            "divide the guess by alpha":
                b.sqrt() * (x - (1 - a).sqrt() * eps) + (1 - b).sqrt() * eps,
            "eps keeps its direction: DDIM draws no new noise": b.sqrt() * x0 + (1 - b).sqrt() * x,
        }, where=f"alpha_bar {a:.2f} to {b:.2f}")


@check(reference=v_step, forbidden=[samplers.ddim])
def check_v_step(answer):
    cases = ((2, 4, 3, 5), 0.3, 0.7), ((3, 1, 4, 2), 0.0, 0.05), ((1, 2, 2, 3), 0.9, 1.0)
    for shape, a, b in cases:
        x, v = randn(*shape), randn(*shape, seed=1)
        a, b = torch.tensor(a), torch.tensor(b)
        x0, eps = a.sqrt() * x - (1 - a).sqrt() * v, (1 - a).sqrt() * x + a.sqrt() * v
        likely = {
            "a and b changed places: x is at a": v_step(x, v, b, a),
            "that is the guess of the data: it is to be noised to b": x0,
            "the sign of v is wrong in the guess: v = alpha eps - sigma x0":
                b.sqrt() * (a.sqrt() * x + (1 - a).sqrt() * v) + (1 - b).sqrt() * eps,
            "the sign of v is wrong in the noise: v = alpha eps - sigma x0":
                b.sqrt() * x0 + (1 - b).sqrt() * ((1 - a).sqrt() * x - a.sqrt() * v),
            "a and b are alpha_bar, not alpha: take their roots": v_step(x, v, a**2, b**2),
            "the network answered with v: that reads it as the noise":
                b.sqrt() * x0 + (1 - b).sqrt() * v,
            "the noise's part is missing: sigma at b times eps": b.sqrt() * x0,
            "v is no velocity of the straight line: alpha and sigma weigh it":
                b.sqrt() * (x - (1 - a).sqrt() * v) + (1 - b).sqrt() * (x + a.sqrt() * v),
        }
        if a > 0:
            likely["the network answered with v: that reads it as eps"] = eps_step(x, v, a, b)
        answer.case((x, v, a, b), v_step(x, v, a, b), likely, where=f"alpha_bar {a:.2f} to {b:.2f}")


# ---- text to image

class Parts(NamedTuple):
    """What `from_pretrained` returns, by name."""

    tokenizer: object
    text_encoder: object
    unet: object
    vae: object


def text_to_image(parts, prompts, negative, noise, alpha_bar, entries, scale, step):
    ids = parts.tokenizer([negative] * len(prompts) + prompts)
    states = parts.text_encoder(ids)[0]
    x = noise
    for k, i in enumerate(entries):
        uncond, cond = parts.unet(torch.cat([x, x]), i / 1000, states).chunk(2)
        prediction = uncond + scale * (cond - uncond)
        after = entries[k + 1] if k + 1 < len(entries) else 0
        x = step(x, prediction, alpha_bar[i], alpha_bar[after])
    return parts.vae.decode(x / SCALE).clamp(-1, 1)


def tokenizer(texts):
    """In place of a tokenizer: ids (N, 5) that tell texts apart."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        fail("the tokenizer takes one list of sentences: the negative prompt's and the prompts")
    rows = [[sum(map(ord, text)) % 97, len(text), *text.encode()[:3].ljust(3)] for text in texts]
    return torch.tensor(rows)


def text_encoder(ids):
    """In place of a text tower: (states (N, 5, 3), pooled (N, 3))."""
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        fail("the text encoder takes ids (N, L), as the tokenizer makes them")
    states = torch.sin(ids[:, :, None] * torch.tensor([0.3, 0.7, 1.1]))
    return states, states.mean(1)


class Decoder:
    """In place of a VAE: pixels that depend on all latents, some of them beyond [-1, 1]."""

    def __init__(self, gain: float = 0.1):
        self.gain = gain

    def decode(self, z):
        if not isinstance(z, torch.Tensor) or z.ndim != 4 or z.shape[1] != 4:
            fail("vae.decode takes latents (B, 4, h, w), and isn't given such")
        mixed = z[:, :3] + 0.2 * z[:, 3:] ** 2
        return self.gain * mixed.repeat_interleave(2, 2).repeat_interleave(2, 3)


class States(Network):
    """A fake U-Net that wants the states of all its pictures' texts."""

    def __call__(self, x, t, context=None):
        if not isinstance(context, torch.Tensor) or context.ndim != 3:
            fail("the U-Net's third input is the states of the texts (B, L, D): the text encoder "
                 "returns them and the pooled ones, a pair")
        if len(context) != len(x):
            fail(f"the U-Net has {len(x)} pictures and {len(context)} texts: each picture stands "
                 "in the batch twice, once for its negative prompt, once for its prompt")
        if torch.as_tensor(t).max() > 1.01:
            fail("the U-Net is told i / 1000, a time from 0 to 1, not the entry i")
        return super().__call__(x, t, context.flatten(1))


def fake_parts(gain: float = 0.1) -> Parts:
    return Parts(tokenizer, text_encoder, States(), Decoder(gain))


def bent_step(x, prediction, a, b):
    """A step that is no straight line in the prediction."""
    return b.sqrt() * x + (a - b).abs() * torch.tanh(prediction)


@check(reference=text_to_image, forbidden=[samplers.ddim, guidance.cfg, guidance.guided])
def check_text_to_image(answer):
    table = alpha_bar_table(0.00085, 0.012, 1000)
    for n, entries, scale, step, gain, where in (
            (2, (901, 601, 301, 1), 5.0, eps_step, 0.1, "two prompts"),
            (3, (999, 749, 332), 2.5, v_step, 0.1, "three prompts, v"),
            (1, (700,), 3.0, eps_step, 0.1, "one step"),
            (2, (501, 101), 4.0, bent_step, 0.1, "a step that is no straight line"),
            # latents as large as only a clamp keeps them from being
            (2, (300, 20), 2.0, eps_step, 1e-4, "large latents, which are taken as they are")):
        prompts = ["a red three", "lighthouse", "zzz top"][:n]
        noise = (0.5 * randn(n, 4, 3, 5) + 0.1 * uniform(n, 4, 3, 5)) * (20 if gain < 0.1 else 1)
        inputs = prompts, "blurry", noise, table, torch.tensor(entries), scale, step
        want = text_to_image(fake_parts(gain), *inputs)
        answer.case((fake_parts(gain), *inputs), want, wrong_pictures(inputs, gain), where=where)


def steps_guided(parts, prompts, negative, noise, table, entries, scale, step):
    """The mistake to guide what two steps have made, in place of the U-Net's two answers."""
    states = text_encoder(tokenizer([negative] * len(prompts) + prompts))[0]
    x = noise
    for i, j in zip(entries, [*entries[1:], 0], strict=True):
        answers = parts.unet(torch.cat([x, x]), i / 1000, states).chunk(2)
        away, towards = (step(x, one, table[i], table[j]) for one in answers)
        x = away + scale * (towards - away)
    return parts.vae.decode(x / SCALE).clamp(-1, 1)


def wrong_pictures(inputs, gain: float) -> dict:
    """What likely mistakes lead to, each by the right function on wrong inputs."""
    prompts, negative, noise, table, entries, scale, step = inputs
    parts = fake_parts(gain)

    def draw(parts=parts, prompts=prompts, negative=negative, table=table, entries=entries,
             scale=scale, step=step):
        return text_to_image(parts, prompts, negative, noise, table, entries, scale, step)

    def told(change):
        return parts._replace(unet=lambda x, t, context: parts.unet(x, change(t), context))

    def to_the_data(x, prediction, a, b):
        last = torch.equal(a, table[entries[-1]])
        return step(x, prediction, a, torch.ones_like(b) if last else b)

    return {
        "the prompt and the negative prompt changed places": draw(scale=1 - scale),
        "guidance begins at the negative's answer, not at the prompt's": draw(scale=scale + 1),
        "that is not guided: the prompt's answer alone": draw(scale=1.0),
        "that is the negative prompt's answer alone": draw(scale=0.0),
        "the negative prompt is not used: the empty one was": draw(negative=""),
        "each picture has its own prompt: all got the first": draw(
            prompts=[prompts[0]] * len(prompts)),
        "the last step leads to entry 0, not to the data": draw(step=to_the_data),
        "the entries were walked from data to noise": draw(entries=entries.flip(0)),
        "the U-Net is told the entry, not one later": draw(told(lambda t: t + 1 / 1000)),
        "the step's two alpha_bar changed places: first where x is, then where it goes":
            draw(step=lambda x, prediction, a, b: step(x, prediction, b, a)),
        "x is at entry i: its alpha_bar is table[i]": draw(
            table=torch.cat([table[1:], table[-1:]])),
        **{cause: draw(parts._replace(vae=vae))
           for cause, vae in wrong_decoders(parts.vae).items()},
        "guide the U-Net's two answers, then take one step: not two steps, guided":
            steps_guided(parts, *inputs),
        # only clamping can bring these back into range
        "decoded pictures go a little beyond [-1, 1]: clamp them":
            100 * draw(parts._replace(vae=Changed(lambda z: parts.vae.decode(z) / 100))),
    }


class Changed:
    """A decoder that is another function of raw latents."""

    def __init__(self, decode):
        self.decode = decode


def wrong_decoders(vae) -> dict:
    """Decoders that undo what the right function does, or do more, by the mistake meant."""
    return {
        "undo the latents' scale: divide by 0.18215": Changed(lambda z: vae.decode(z * SCALE)),
        "the latents' scale is divided by, not multiplied with":
            Changed(lambda z: vae.decode(z * SCALE**2)),
        "clamp the pictures, not the latents": Changed(lambda z: vae.decode(z.clamp(-1, 1))),
    }
