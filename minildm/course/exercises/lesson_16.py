"""The checks of lesson 16's tables and tensors: names, what fits, alpha_bar, entries."""

import numpy as np
import torch

from minildm.course.exercises.compare import close, describe, equal, fail
from minildm.course.exercises.fakes import randn
from minildm.course.exercises.harness import check
from minildm.diffusion import schedules
from minildm.published import load, names

# ---- tensors and their names

PARTS = [
    ("encoder.layers.", "blocks."), ("self_attn.out_proj", "attn1.to_out.0"),
    ("self_attn.q_proj", "attn1.to_q"), ("self_attn.k_proj", "attn1.to_k"),
    ("self_attn.v_proj", "attn1.to_v"), ("layer_norm1", "norm1"), ("layer_norm2", "norm2"),
    ("mlp.fc1", "ff.net.0.proj"), ("mlp.fc2", "ff.net.2"), ("final_layer_norm", "final_norm")]


def rename_text(tensors):
    ours = {}
    for name, tensor in tensors.items():
        if name.endswith("position_ids"):
            continue
        name = name.removeprefix("text_model.").removeprefix("embeddings.")
        for theirs, part in PARTS:
            name = name.replace(theirs, part)
        ours[name] = tensor
    return ours


def text_tensors(blocks: int, prefix: str) -> dict:
    """Tensors of a published text tower of so many blocks, small and all different."""
    layers = [f"{kind}.{end}" for kind in ("self_attn.q_proj", "self_attn.k_proj",
                                           "self_attn.v_proj", "self_attn.out_proj", "layer_norm1",
                                           "layer_norm2", "mlp.fc1", "mlp.fc2")
              for end in ("weight", "bias")]
    found = ["embeddings.token_embedding.weight", "embeddings.position_embedding.weight"]
    found += [f"encoder.layers.{i}.{layer}" for i in range(blocks) for layer in layers]
    found += ["final_layer_norm.weight", "final_layer_norm.bias"]
    # of two types, as files may have them
    return {prefix + name: randn(2, 3, seed=i).to(torch.float16 if i % 3 else torch.float32)
            for i, name in enumerate(found)}


@check(reference=rename_text, forbidden=[names.renamed, load.load_text])
def check_rename_text(answer):
    # fourteen blocks: the name of block 1 begins those of 10 and more
    cases = (2, "text_model.", True), (14, "", True), (11, "text_model.", False)
    for blocks, prefix, ids in cases:
        tensors = text_tensors(blocks, prefix)
        if ids:
            tensors[prefix + "embeddings.position_ids"] = torch.arange(5)[None]
        got = answer(tensors)
        if not isinstance(got, dict):
            fail(f"return a dict, name -> tensor: this is {describe(got)}")
        want = rename_text(tensors)
        judge_names(got, want)
        for name, tensor in want.items():
            if not isinstance(got[name], torch.Tensor) or not close(got[name], tensor, 0):
                fail(f"{name} is not the tensor that had that name in the file")
            if got[name].dtype != tensor.dtype:
                fail(f"{name} is {got[name].dtype} here and {tensor.dtype} in the file: the same "
                     "tensors are wanted")


WRONG_NAMES = {
    "position_ids": "position_ids are no weights: leave them out",
    "text_model.": "older files put text_model. before each name: ours have no such word",
    "encoder.": "encoder.layers.3 is our blocks.3",
    "layers.": "encoder.layers.3 is our blocks.3",
    "embeddings.": "our embeddings have no embeddings. before their names",
    "self_attn": "self_attn is our attn1",
    "_proj": "q_proj, k_proj, v_proj are our to_q, to_k, to_v",
    "final_layer_norm": "final_layer_norm is our final_norm",
    "layer_norm": "layer_norm1 and layer_norm2 are our norm1 and norm2",
    "mlp": "mlp.fc1 is our ff.net.0.proj, mlp.fc2 our ff.net.2",
    "fc1": "mlp.fc1 is our ff.net.0.proj", "fc2": "mlp.fc2 is our ff.net.2"}


def judge_names(got: dict, want: dict):
    """Say which name is wrong, and if a part of the published name was left, which."""
    if lost := [name for name in want if name not in got]:
        extra = [name for name in got if name not in want]
        for name in extra:
            for part, cause in WRONG_NAMES.items():
                if part in str(name):
                    fail(f"{cause} (you have {name})")
        instead = f", you have {extra[0]}" if extra else ""
        fail(f"{len(lost)} names are missing, {lost[0]} for one{instead}")
    for name in got:
        if name not in want:
            cause = next((c for part, c in WRONG_NAMES.items() if part in str(name)), "")
            fail(cause or f"{name} is no tensor of our network")


def misfits(wanted, tensors):
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    for name, tensor in tensors.items():
        if name not in wanted:
            wrong.append(f"{name} is not expected")
        elif tensor.shape != wanted[name].shape:
            wrong.append(f"{name} is {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}")
    return wrong


@check(reference=misfits, forbidden=[load.load_weights])
def check_misfits(answer):
    network = {"a.weight": randn(3, 2), "a.bias": randn(3), "b.weight": randn(2, 3, 1, 1)}
    more = network | {"c.bias": randn(1)}
    less = {name: t for name, t in network.items() if name != "a.bias"}
    reshaped = network | {"b.weight": randn(2, 3), "a.weight": randn(2, 3)}
    all_three = {"c": randn(1), "a.weight": randn(2, 3), "b.weight": network["b.weight"]}
    for tensors, where in ((network, "all tensors fit"), (more, "one tensor too many"),
                           (less, "one is missing"), (reshaped, "two of other shapes"),
                           (all_three, "one of each kind"), ({}, "an empty file")):
        want = sorted(misfits(network, tensors))
        got = answer(network, tensors)
        if not isinstance(got, list | tuple):
            fail(f"return a list of sentences: this is {describe(got)} ({where})")
        equal(sorted(map(str, got)), want, {
            "wanted and tensors changed places: what the network wants is missing, and the "
            "shape in the file comes first": sorted(misfits(tensors, network)),
            "what is missing from the file is not told":
                [line for line in want if "missing" not in line],
            "what the network has no place for is not told":
                [line for line in want if "expected" not in line],
            "other shapes are not told": [line for line in want if ", not (" not in line],
        }, where=where)


# ---- the table and its entries

def alpha_bar_table(beta_start, beta_end, steps):
    roots = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
    return torch.cumprod(1 - roots**2, 0)


@check(reference=alpha_bar_table, forbidden=[schedules.from_betas])
def check_alpha_bar_table(answer):
    for start, end, steps in (0.00085, 0.012, 1000), (0.002, 0.3, 37), (0.01, 0.05, 6):
        want = alpha_bar_table(start, end, steps)
        likely = wrong_tables(start, end, steps)
        where = f"betas from {start} to {end}, {steps} steps"
        got = answer.case((start, end, steps), want, likely, tol=1e-6, where=where)
        if not close(got, want, 1e-10):
            fail("it is right to seven digits: float64 from the first line on, not at the end")


def wrong_tables(start, end, steps):
    even = torch.linspace(start, end, steps, dtype=torch.float64)
    roots = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64)
    longer = torch.linspace(start**0.5, end**0.5, steps + 1, dtype=torch.float64)
    betas = roots**2
    right = torch.cumprod(1 - betas, 0)
    one = torch.ones(1, dtype=torch.float64)
    powers = torch.logspace(0, 1, steps, base=end / start, dtype=torch.float64)
    squares = torch.linspace(start**2, end**2, steps, dtype=torch.float64).sqrt()

    def product(betas):
        return torch.cumprod(1 - betas, 0)

    return {
        "the roots of the betas are equally spaced, not the betas": product(even),
        "the roots are equally spaced, not the squares": product(squares),
        "the roots are equally spaced, not the logarithms": product(start * powers),
        "square them again: those were the roots": product(roots),
        "the betas' roots, not the betas to the power 4, count": product(betas**2),
        "the ends are roots, too": product(torch.linspace(start, end, steps).double()**2),
        "these are the betas": betas,
        "these are the roots of the betas": roots,
        "these are the alphas: they want to be multiplied up": 1 - betas,
        "that is sqrt(alpha_bar)": right.sqrt(),
        "that is the square of alpha_bar": right**2,
        "a running product, not a running sum": 1 - betas.cumsum(0),
        "a running product of 1 - beta, not of the betas": torch.cumprod(betas, 0),
        "a step leaves 1 - beta, not 1 + beta": product(-betas),
        "an exponential of a sum is near it for small betas only": (-betas.cumsum(0)).exp(),
        "that is 1 - alpha_bar": 1 - right,
        "that is the signal to the noise: alpha_bar is wanted": right / (1 - right),
        "the table begins with its first beta, not with 1": torch.cat([one, right[:-1]]),
        "the table begins with its first beta, not a 1 in front": torch.cat([one, right]),
        "the last beta is in the table, the first is not left out": product(longer[1:]**2),
        "the last beta is in the table, as the first is": product(longer[:-1]**2),
        "from beta_start to beta_end, not back": product(betas.flip(0)),
        "the first step comes first": right.flip(0),
    }


def leading_entries(n):
    return torch.arange(n).flip(0) * (1000 // n) + 1


def as_a_tensor(answer):
    """The answer, whose lists and ranges of numbers are as good as a tensor."""
    def entries_of(n):
        entries = answer(n)
        if isinstance(entries, (range, list, tuple, np.ndarray)):
            entries = torch.as_tensor(np.asarray(entries))
        return entries

    return entries_of


@check(reference=leading_entries, forbidden=[schedules.leading_grid])
def check_leading_entries(answer):
    listed = answer.wrap(as_a_tensor(answer), names=["n"])
    for n in 50, 30, 7, 1:
        want = leading_entries(n)
        likely = wrong_entries(n)
        listed.case((n,), want, likely, tol=1e-6, where=f"n = {n}")


def wrong_entries(n):
    apart = 1000 // n
    back = torch.arange(n).flip(0)
    want = back * apart + 1
    over = back * 1000 / n
    return {
        "from noise to data: the largest first": want.flip(0),
        "steps_offset: each is one further on": want - 1,
        "steps_offset: each is one further on, and the largest comes first": want.flip(0) - 1,
        "steps_offset is 1, added once": want + 1,
        "the offset is 1, once, not 1 a step": back * (apart + 1),
        "multiples from 0, not from 1": want + apart,
        "multiples from 0, not from 1, and each one further on": want + apart - 1,
        "spread over the whole table: that is \"linspace\"": torch.linspace(999, 0, n).round(),
        "spread over the whole table: that's \"linspace\"": torch.linspace(1000, 1, n).round(),
        "spread over the whole table: that is \"linspace\", cut off":
            torch.linspace(999, 0, n).long(),
        "that counts down from the table's end: that is \"trailing\"": 999 - back.flip(0) * apart,
        "multiples of the whole 1000 // n, not of a fraction": over.round() + 1,
        "multiples of the whole 1000 // n, not of a fraction that is cut off": over.long() + 1,
        "multiples of the whole 1000 // n: it isn't 20 always": back * 20 + 1,
        "an entry is a number of 0..999, not a time of 0..1": (want + 1) / 1000,
        "an entry is a number of 0..999, not a part of 1": want / 1000,
        "the first n entries: they are spread over the table": back,
        "the first n entries: they are spread over the table, 1000 // n apart": back + 1,
        "entries, not the distances between them": torch.full((n,), apart),
    }


def trailing_entries(n):
    times = torch.arange(n, dtype=torch.float64) * 1000 / n
    return (1000 - times).round().long() - 1


@check(reference=trailing_entries)
def check_trailing_entries(answer):
    listed = answer.wrap(as_a_tensor(answer), names=["n"])
    for n in 50, 30, 7, 1:
        want = trailing_entries(n)
        apart = 1000 // n
        exact = 1000 - torch.arange(n, dtype=torch.float64) * 1000 / n
        listed.case((n,), want, {
            "from noise to data: the largest first": want.flip(0),
            "the last entry of a table of 1000 is 999": want + 1,
            "that is \"leading\"": leading_entries(n),
            "that is \"leading\", without the offset": leading_entries(n) - 1,
            "1000 / n apart, rounded at the end, not 1000 // n apart":
                999 - torch.arange(n) * apart,
            "round to the nearest, not down": exact.floor() - 1,
            "an entry is a whole number: round": exact - 1,
            "spread to entry 0: that is \"linspace\"": torch.linspace(999, 0, n).round(),
        }, tol=1e-6, where=f"n = {n}")


def zero_terminal(alpha_bar):
    root = alpha_bar.sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * first / (first - last))**2


@check(reference=zero_terminal)
def check_zero_terminal(answer):
    for start, end, steps in (0.00085, 0.012, 1000), (0.01, 0.3, 23):
        table = alpha_bar_table(start, end, steps)
        root = table.sqrt()
        first, last = root[0], root[-1]
        want = zero_terminal(table)
        inner = torch.cat([table[:-1], torch.zeros(1, dtype=table.dtype)])
        answer.case((table,), want, {
            "square it again: those are the roots": want.sqrt(),
            "the roots of alpha_bar are moved and stretched, not alpha_bar itself":
                (table - table[-1]) * table[0] / (table[0] - table[-1]),
            "stretch it, so that the first entry stays what it was": (root - last)**2,
            "the first entry stays what it was, it does not become 1":
                ((root - last) / (first - last))**2,
            "all entries are moved, not the last alone": inner,
            "the last becomes 0, not the first": ((first - root) * first / (first - last))**2,
        }, tol=1e-6, where=f"a table of {steps}")
