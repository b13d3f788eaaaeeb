"""Lesson 16's checks of the step and of text to image: right answers pass; wrong ones are told why."""

import torch
from support.answers import changed, right_and_wrong

from minildm.course.exercises import lesson_16_draw
from minildm.diffusion import guidance, samplers
from minildm.diffusion.schedules import scaled_linear

HELPERS = {"cfg": guidance.cfg, "ddim": samplers.ddim, "last": samplers.last, "scaled_linear": scaled_linear}
EPS = """
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    return b.sqrt() * x0 + (1 - b).sqrt() * eps
"""
V = """
    x0 = a.sqrt() * x - (1 - a).sqrt() * v
    eps = (1 - a).sqrt() * x + a.sqrt() * v
    return b.sqrt() * x0 + (1 - b).sqrt() * eps
"""
DRAW = """
    ids = parts.tokenizer([negative] * len(prompts) + prompts)
    states = parts.text_encoder(ids)[0]
    x = noise
    for i, j in zip(entries, [*entries[1:], 0]):
        uncond, cond = parts.unet(torch.cat([x, x]), i / 1000, states).chunk(2)
        prediction = uncond + scale * (cond - uncond)
        x = step(x, prediction, alpha_bar[i], alpha_bar[j])
    return parts.vae.decode(x / 0.18215).clamp(-1, 1)
"""
RIGHT = [
    ("eps_step", EPS),
    ("eps_step", "k = (b / a).sqrt()\nreturn k * x + ((1 - b).sqrt() - k * (1 - a).sqrt()) * eps"),
    ("v_step", V),
    ("v_step", """
        alpha, sigma = a**0.5, (1 - a)**0.5
        cos = alpha * b**0.5 + sigma * (1 - b)**0.5
        sin = alpha * (1 - b)**0.5 - sigma * b**0.5
        return cos * x + sin * v
     """),
    ("text_to_image", DRAW),
    ("text_to_image", """
        away = parts.text_encoder(parts.tokenizer([negative]))[0].expand(len(prompts), -1, -1)
        towards, _ = parts.text_encoder(parts.tokenizer(prompts))
        x = noise.clone()
        steps = entries.tolist() + [0]
        for k in range(len(entries)):
            now, then = steps[k], steps[k + 1]
            a = parts.unet(x, now / 1000, towards)
            b = parts.unet(x, now / 1000, away)
            x = step(x, scale * a + (1 - scale) * b, alpha_bar[now], alpha_bar[then])
        images = parts.vae.decode(x / 0.18215)
        return torch.clamp(images, min=-1, max=1)
     """),
    ("text_to_image", """
        states = parts.text_encoder(parts.tokenizer(prompts + len(prompts) * [negative]))[0]
        for k, i in enumerate(entries):
            j = entries[k + 1] if k < len(entries) - 1 else 0
            cond, null = torch.chunk(parts.unet(noise.repeat(2, 1, 1, 1), i / 1000, states), 2)
            noise = step(noise, null + scale * (cond - null), alpha_bar[i], alpha_bar[j])
        return parts.vae.decode(noise / 0.18215).clip(-1, 1)
     """),
]


def draw(old, new):
    return changed(DRAW, old, new)


WRONG = [
    ("eps_step", "changed places", "a, b = b, a" + EPS.replace("\n    ", "\n")),
    ("eps_step", "guess of the data",
     EPS.replace("return b.sqrt() * x0 + (1 - b).sqrt() * eps", "return x0")),
    ("eps_step", "is the root", EPS.replace("b.sqrt() * x0", "b * x0")),
    ("eps_step", "take their roots", "a, b = a**2, b**2" + EPS.replace("\n    ", "\n")),
    ("eps_step", "root of 1", EPS.replace("(1 - b).sqrt() * eps", "(1 - b) * eps")),
    ("eps_step", "part is missing", EPS.replace(" + (1 - b).sqrt() * eps", "")),
    ("eps_step", "reads it as v", V.replace("* v", "* eps").replace("    eps =", "    e =").replace(
        "(1 - b).sqrt() * eps", "(1 - b).sqrt() * e")),
    ("eps_step", "divide", EPS.replace(" / a.sqrt()", "")),
    ("eps_step", "in place",
     "x -= (1 - a).sqrt() * eps\nreturn (b / a).sqrt() * x + (1 - b).sqrt() * eps"),
    ("v_step", "changed places", "a, b = b, a" + V.replace("\n    ", "\n")),
    ("v_step", "guess of the data",
     V.replace("return b.sqrt() * x0 + (1 - b).sqrt() * eps", "return x0")),
    ("v_step", "wrong in the guess", V.replace("x - (1 - a)", "x + (1 - a)")),
    ("v_step", "wrong in the noise", V.replace("x + a.sqrt() * v", "x - a.sqrt() * v")),
    ("v_step", "reads it as the noise", V.replace("(1 - b).sqrt() * eps", "(1 - b).sqrt() * v")),
    ("v_step", "reads it as eps", EPS.replace("eps", "v")),
    ("v_step", "part is missing", V.replace(" + (1 - b).sqrt() * eps", "")),
    ("v_step", "NaN|others",
     V.replace("eps = (1 - a).sqrt() * x + a.sqrt() * v", "eps = (x - a.sqrt() * x0) / "
                                       "(1 - a).sqrt() + 0 * x / a")),
    ("text_to_image", "changed places",
     draw("[negative] * len(prompts) + prompts", "prompts + [negative] * len(prompts)")),
    ("text_to_image", "negative's answer", draw("uncond + scale", "cond + scale")),
    ("text_to_image", "not guided", draw("uncond + scale * (cond - uncond)", "cond")),
    ("text_to_image", "answer alone", draw("uncond + scale * (cond - uncond)", "uncond")),
    ("text_to_image", "not used", draw("[negative]", "[\"\"]")),
    ("text_to_image", "got the first", draw("+ prompts)", "+ prompts[:1] * len(prompts))")),
    ("text_to_image", "not to the data",
     draw("alpha_bar[j])", "alpha_bar[j] if j else alpha_bar[0]**0)")),
    ("text_to_image", "from data to noise", "entries = entries.flip(0)" + DRAW.replace("\n    ", "\n")),
    ("text_to_image", "not the entry", draw("i / 1000", "i")),
    ("text_to_image", "one later", draw("i / 1000", "(i + 1) / 1000")),
    ("text_to_image", "two alpha_bar", draw("alpha_bar[i], alpha_bar[j]", "alpha_bar[j], alpha_bar[i]")),
    ("text_to_image", "undo the latents' scale", draw("x / 0.18215", "x")),
    ("text_to_image", "not multiplied", draw("x / 0.18215", "x * 0.18215")),
    ("text_to_image", "clamp them", draw(".clamp(-1, 1)", "")),
    ("text_to_image", "not the latents",
     draw("(x / 0.18215).clamp(-1, 1)", "((x / 0.18215).clamp(-1, 1))")),
    ("text_to_image", "a pair|states of the texts",
     draw("parts.text_encoder(ids)[0]", "parts.text_encoder(ids)")),
    ("text_to_image", "states of the texts",
     draw("parts.text_encoder(ids)[0]", "parts.text_encoder(ids)[1]")),
    ("text_to_image", "one list of sentences",
     draw("parts.tokenizer([negative] * len(prompts) + prompts)",
                                                    "parts.tokenizer(negative)")),
    ("text_to_image", "stands in the batch twice", draw("torch.cat([x, x])", "x")),
    ("text_to_image", "not two steps, guided", draw(
        "x = step(x, prediction, alpha_bar[i], alpha_bar[j])",
        "one, other = (step(x, e, alpha_bar[i], alpha_bar[j]) for e in (uncond, cond))\n"
        "        x = one + scale * (other - one)")),
    ("text_to_image", "taken as they are", draw("alpha_bar[j])", "alpha_bar[j]).clamp(-10, 10)")),
    ("text_to_image", "in place", draw("x = noise", "x = noise\n    x *= 1.5")),
    ("text_to_image", "others|differs|wrong", draw("scale * (cond", "5.0 * (cond")),
    ("text_to_image", "NaN|others|differs|wrong", draw("step(x, prediction, alpha_bar[i], alpha_bar[j])",
     "((x - (1 - alpha_bar[i]).sqrt() * prediction) / alpha_bar[i].sqrt()) * alpha_bar[j].sqrt() "
     "+ (1 - alpha_bar[j]).sqrt() * prediction")),
]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_the_steps_are_ddims():
    """eps and v of one guess lead to one place, the package's."""
    t, s = torch.tensor(0.7), torch.tensor(0.4)
    x, x0 = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    want = samplers.last(samplers.ddim(lambda *_: x0, scaled_linear, x, torch.stack([t, s])))
    a, b = scaled_linear.alpha(t)**2, scaled_linear.alpha(s)**2
    eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
    torch.testing.assert_close(lesson_16_draw.eps_step(x, eps, a, b), want)
    v = a.sqrt() * eps - (1 - a).sqrt() * x0
    torch.testing.assert_close(lesson_16_draw.v_step(x, v, a, b), want)
