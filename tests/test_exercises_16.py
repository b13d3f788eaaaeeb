"""Lesson 16's checks of tensors and tables: right answers in any style pass; wrong ones are told why."""

import torch
from support.answers import changed, right_and_wrong

from minildm.course.exercises import lesson_16
from minildm.course.lesson_16 import transformers_name
from minildm.diffusion.schedules import leading_grid, scaled_linear
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.published import names
from minildm.published.names import renamed

HELPERS = {"scaled_linear": scaled_linear, "leading_grid": leading_grid, "names": names, "renamed": renamed}
ENDS = ("a, b = beta_start**0.5, beta_end**0.5\n"
        "r = torch.linspace(a, b, steps, dtype=torch.float64)\n")
LINE = "b = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)\n"
RENAME = """
    words = {"text_model.": "", "embeddings.": "", "encoder.layers": "blocks",
             "self_attn.out_proj": "attn1.to_out.0", "self_attn.": "attn1.", "q_proj": "to_q",
             "k_proj": "to_k", "v_proj": "to_v", "layer_norm": "norm",
             "mlp.fc1": "ff.net.0.proj", "mlp.fc2": "ff.net.2"}
    ours = {}
    for name, tensor in tensors.items():
        if "position_ids" in name:
            continue
        for theirs, our in words.items():
            name = name.replace(theirs, our)
        ours[name] = tensor
    return ours
"""
MISFITS = """
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    for name, tensor in tensors.items():
        if name not in wanted:
            wrong.append(f"{name} is not expected")
        elif tensor.shape != wanted[name].shape:
            wrong.append(f"{name} is {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}")
    return wrong
"""
ZERO = "r = alpha_bar.sqrt()\nreturn ((r - r[-1]) * r[0] / (r[0] - r[-1]))**2"
EXACT = "i = 1000 - torch.arange(n, dtype=torch.float64) * 1000 / n\n"

RIGHT = [
    ("rename_text", RENAME),
    ("rename_text", """
        import re
        rules = [(r"^(text_model\\.)?(embeddings\\.)?", ""), (r"encoder\\.layers", "blocks"),
                 (r"self_attn\\.([qkv])_proj", r"attn1.to_\\1"), ("self_attn.out_proj", "attn1.to_out.0"),
                 (r"(final_)?layer_norm", r"\\1norm"), ("mlp.fc1", "ff.net.0.proj"), ("mlp.fc2", "ff.net.2")]
        def ours(name):
            for pattern, to in rules:
                name = re.sub(pattern, to, name)
            return name
        return {ours(k): v for k, v in tensors.items() if not k.endswith("position_ids")}
     """),
    ("misfits", MISFITS),
    ("misfits", """
        lost, extra = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
        both = wanted.keys() & tensors.keys()
        return ([name + " is missing" for name in lost] + [name + " is not expected" for name in extra]
                + [f"{k} is {tuple(tensors[k].shape)}, not {tuple(wanted[k].shape)}" for k in both
                   if tensors[k].shape != wanted[k].shape])
     """),
    ("alpha_bar_table", ENDS + "return torch.cumprod(1 - r**2, 0)"),
    ("alpha_bar_table", ENDS + "return (1 - r.square()).log().cumsum(0).exp()"),
    ("alpha_bar_table", """
        a, b = math.sqrt(beta_start), math.sqrt(beta_end)
        left, table = 1.0, []
        for i in range(steps):
            left *= 1 - (a + (b - a) * i / (steps - 1))**2
            table.append(left)
        return torch.tensor(table, dtype=torch.float64)
     """),
    ("leading_entries", "torch.arange(n - 1, -1, -1) * (1000 // n) + 1"),
    ("leading_entries", "return [1 + i * (1000 // n) for i in reversed(range(n))]"),
    ("leading_entries", "import numpy as np\n"
                        "return (np.arange(0, n) * (1000 // "
                        "n)).round()[::-1].copy().astype(np.int64) + 1"),
    ("leading_entries", "step = 1000 // n\nreturn range((n - 1) * step + 1, 0, -step)"),
    ("leading_entries", "return torch.arange(1, 1001, 1000 // n)[:n].flip(0).int()"),
    ("trailing_entries", EXACT + "return i.round().long() - 1"),
    ("trailing_entries", "return [round(1000 - k * 1000 / n) - 1 for k in range(n)]"),
    ("trailing_entries",
     "import numpy as np\nreturn np.round(np.arange(1000, 0, -1000 / n)).astype(int) - 1"),
    ("zero_terminal", ZERO),
    ("zero_terminal",
     "r = alpha_bar**0.5\nshare = (r - r[-1]) / (r[0] - r[-1])\nreturn alpha_bar[0] * share**2"),
]


WRONG_NAMES = [
    ("no weights", changed(RENAME, "if \"position_ids\" in name", "if False")),
    ("older files", changed(RENAME, "\"text_model.\": \"\", ", "")),
    ("embeddings", changed(RENAME, "\"embeddings.\": \"\", ", "")),
    ("blocks.3", changed(RENAME, "\"encoder.layers\": \"blocks\",", "")),
    ("blocks.3", changed(RENAME, "encoder.layers", "encoder.")),
    ("attn1", changed(RENAME, "\"self_attn.\": \"attn1.\", ", "")),
    ("to_q", changed(RENAME, "\"q_proj\": \"to_q\",", "")),
    ("missing", changed(RENAME, "attn1.to_out.0", "attn1.to_out")),
    ("norm1", changed(RENAME, "\"layer_norm\": \"norm\",", "")),
    ("net.0", changed(RENAME, "\"mlp.fc1\": \"ff.net.0.proj\", ", "")),
    ("missing", changed(RENAME, "ff.net.2", "ff.net.1")),
    ("not the tensor", changed(RENAME, "ours[name] = tensor", "ours[name] = tensor.T")),
    ("not the tensor",
     changed(RENAME, "ours[name] = tensor", "ours[name] = next(iter(tensors.values()))")),
    ("no weights", changed(RENAME, "\"position_ids\" in name",
                           "name == \"text_model.embeddings.position_ids\"")),
    ("names are missing", changed(RENAME, "return ours",
                                  "return {k: v for k, v in ours.items() if 'blocks.12' not in k}")),
    ("same tensors", changed(RENAME, "ours[name] = tensor", "ours[name] = tensor.float()")),
    ("a dict", RENAME.replace("return ours", "return list(ours)")),
    ("in place", RENAME.replace("return ours", "tensors.clear()\n    return ours")),
    ("package", "return renamed(tensors, names.TEXT)"),
    ("a function|None|dict", "rename = tensors.copy()\nreturn"),
]
WRONG_MISFITS = [
    ("changed places",
     changed(MISFITS, "\n    wrong", "\n    wanted, tensors = tensors, wanted\n    wrong")),
    ("missing from the file",
     changed(MISFITS, "[f\"{name} is missing\" for name in wanted if name not in tensors]", "[]")),
    ("no place", changed(MISFITS, "wrong.append(f\"{name} is not expected\")", "pass")),
    ("other shapes", changed(MISFITS, "elif tensor.shape != wanted[name].shape", "elif False")),
    ("other shapes",
     changed(MISFITS, "tensor.shape != wanted[name].shape", "tensor.numel() != wanted[name].numel()")),
    ("changed places", changed(MISFITS, "is {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}",
                      "is {tuple(wanted[name].shape)}, not {tuple(tensor.shape)}")),
    ("should be", changed(MISFITS, "{tuple(tensor.shape)}", "{tensor.shape}")),
    ("should be", changed(MISFITS, "return wrong", "return wrong[:1]")),
    ("a list", changed(MISFITS, "return wrong", "return not wrong")),
    ("raised|KeyError", changed(MISFITS, "if name not in wanted:", "if False:")),
]
WRONG_TABLE = [
    ("not the betas", LINE + "return torch.cumprod(1 - b, 0)"),
    ("not the squares", "b = torch.linspace(beta_start**2, beta_end**2, steps).double().sqrt()\n"
                        "return torch.cumprod(1 - b, 0)"),
    ("logarithms", "b = torch.linspace(math.log(beta_start), math.log(beta_end), "
     "steps).double().exp()\n"
                   "return torch.cumprod(1 - b, 0)"),
    ("square them again", ENDS + "return torch.cumprod(1 - r, 0)"),
    ("power 4", ENDS + "return torch.cumprod(1 - r**4, 0)"),
    ("ends are roots", LINE + "return torch.cumprod(1 - b**2, 0)"),
    ("these are the betas", ENDS + "return r**2"),
    ("roots of the betas", ENDS + "return r"),
    ("multiplied up", ENDS + "return 1 - r**2"),
    ("sqrt", ENDS + "return torch.cumprod(1 - r**2, 0).sqrt()"),
    ("square of alpha_bar", ENDS + "return torch.cumprod(1 - r**2, 0)**2"),
    ("running sum", ENDS + "return 1 - torch.cumsum(r**2, 0)"),
    ("not of the betas", ENDS + "return torch.cumprod(r**2, 0)"),
    (r"not 1 \+ beta", ENDS + "return torch.cumprod(1 + r**2, 0)"),
    ("small betas", ENDS + "return torch.exp(-torch.cumsum(r**2, 0))"),
    ("1 - alpha_bar", ENDS + "return 1 - torch.cumprod(1 - r**2, 0)"),
    ("signal to the noise", ENDS + "a = torch.cumprod(1 - r**2, 0)\nreturn a / (1 - a)"),
    ("differs", ENDS + "return (1 - torch.cumprod(1 - r**2, 0)).sqrt()"),
    ("not with 1", ENDS + "return torch.cat([torch.ones(1), torch.cumprod(1 - r**2, 0)[:-1]])"),
    ("in front", ENDS + "return torch.cat([torch.ones(1), torch.cumprod(1 - r**2, 0)])"),
    ("last beta", ENDS.replace("steps", "steps + 1") + "return torch.cumprod(1 - r**2, 0)[:-1]"),
    ("not back", ENDS + "return torch.cumprod(1 - r.flip(0)**2, 0)"),
    ("first step comes first", ENDS + "return torch.cumprod(1 - r**2, 0).flip(0)"),
    ("type is", ENDS.replace(", dtype=torch.float64", "") + "return torch.cumprod(1 - r**2, 0)"),
    ("type is", ENDS + "return torch.cumprod(1 - r**2, 0).float()"),
    ("seven digits", ENDS.replace(", dtype=torch.float64)", ").double()")
     + "return torch.cumprod(1 - r**2, 0)"),
    ("first inputs", ENDS.replace("steps", "1000") + "return torch.cumprod(1 - r**2, 0)"),
    ("first inputs", "beta_start, beta_end = 0.00085, 0.012\n" + ENDS + "return torch.cumprod(1 "
     "- r**2, 0)"),
    ("type is", "t = torch.arange(1, steps + 1) / steps\nreturn scaled_linear.alpha(t)**2"),
    ("a list", ENDS + "return torch.cumprod(1 - r**2, 0).tolist()"),
    ("shape", ENDS + "return torch.prod(1 - r**2)"),
    ("None", ENDS + "torch.cumprod(1 - r**2, 0)\nreturn"),
    ("NaN", ENDS + "return torch.cumprod(1 - r**2, 0).sub(2).log()"),
]
STEP = "i, apart = torch.arange(n - 1, -1, -1), 1000 // n\nreturn "
WRONG_ENTRIES = [
    ("largest first", STEP + "(i * apart + 1).flip(0)"),
    ("one further on", STEP + "i * apart"),
    ("and the largest", STEP + "(i * apart).flip(0)"),
    ("plus -2", STEP + "i * apart - 1"),
    ("added once", STEP + "i * apart + 2"),
    ("not 1 a step", STEP + "i * (apart + 1)"),
    ("multiples from 0", STEP + "(i + 1) * apart + 1"),
    ("multiples from 0", STEP + "(i + 1) * apart"),
    ("linspace", "return torch.linspace(999, 0, n).round().long()"),
    ("linspace", "return torch.linspace(1000, 1, n).round().long()"),
    ("cut off", "return torch.linspace(999, 0, n).long()"),
    ("trailing", "return torch.arange(999, -1, -(1000 // n))[:n]"),
    ("multiples from 0", "return torch.arange(1000, 0, -(1000 // n))[:n]"),
    ("not of a fraction", STEP + "(i * 1000 / n).round().long() + 1"),
    ("fraction", STEP + "(i * 1000 / n).long() + 1"),
    ("20 always", STEP + "i * 20 + 1"),
    ("not a time", STEP + "(i * apart + 2) / 1000"),
    ("part of 1", STEP + "(i * apart + 1) / 1000"),
    ("too much|missing", "return torch.arange(n, -1, -1) * (1000 // n) + 1"),
    ("first n", "return torch.arange(n - 1, -1, -1)"),
    ("first n", "return torch.arange(n, 0, -1)"),
    ("distances", "return torch.full((n,), 1000 // n)"),
    ("type is", STEP + "(i * apart + 1).float()"),
    ("type is", STEP + "[float(k * apart + 1) for k in i]"),
    ("missing|too much|shape", "return torch.arange(1, 1000, 1000 // n).flip(0)[1:]"),
    ("first inputs|shape|should be", "return torch.arange(981, 0, -20)"),
    ("package", "return (leading_grid(n, 1)[:-1] * 1000).round().long() - 1"),
    ("None", STEP.replace("return ", "") + "i * apart + 1\nreturn"),
    ("shape", STEP + "(i * apart + 1)[:, None]"),
    ("raised", "return torch.arange(n) * (1000 // steps)"),
]
WRONG_TRAILING = [
    ("largest first", EXACT + "return i.round().long().flip(0) - 1"),
    ("999", EXACT + "return i.round().long()"),
    ("leading", "return torch.arange(n - 1, -1, -1) * (1000 // n) + 1"),
    ("leading", "return torch.arange(n - 1, -1, -1) * (1000 // n)"),
    ("rounded at the end", "return 999 - torch.arange(n) * (1000 // n)"),
    ("not down", EXACT + "return i.long() - 1"),
    ("type is", EXACT + "return i - 1"),
    ("linspace", "return torch.linspace(999, 0, n).round().long()"),
    ("type is", EXACT + "return i.round() - 1"),
    ("first inputs|shape", "return torch.arange(999, 0, -20)"),
]
WRONG_ZERO = [
    ("square it again", changed(ZERO, ")**2", ")")),
    ("not alpha_bar itself", "a = alpha_bar\nreturn (a - a[-1]) * a[0] / (a[0] - a[-1])"),
    ("stretch it", "r = alpha_bar.sqrt()\nreturn (r - r[-1])**2"),
    ("does not become 1", "r = alpha_bar.sqrt()\nreturn ((r - r[-1]) / (r[0] - r[-1]))**2"),
    ("not the last alone", "table = alpha_bar.clone()\ntable[-1] = 0\nreturn table"),
    ("in place", "alpha_bar[-1] = 0\nreturn alpha_bar"),
    ("the last becomes 0", "r = alpha_bar.sqrt()\nreturn ((r[0] - r) * r[0] / (r[0] - r[-1]))**2"),
    ("unchanged", "return alpha_bar"),
    ("type is", changed(ZERO, ")**2", ").float()**2")),
]
WRONG_ROWS = {"rename_text": WRONG_NAMES, "misfits": WRONG_MISFITS, "alpha_bar_table": WRONG_TABLE,
              "leading_entries": WRONG_ENTRIES,
              "trailing_entries": WRONG_TRAILING, "zero_terminal": WRONG_ZERO}
WRONG = [(name, *row) for name, rows in WRONG_ROWS.items() for row in rows]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_renaming_is_the_packages_and_the_way_back_of_the_lessons_folder():
    ours = TextTransformer(TextConfig(vocab_size=600, length=9, dim=12, depth=12, heads=3)).state_dict()
    theirs = {transformers_name(name): tensor for name, tensor in ours.items()}
    found = lesson_16.rename_text(theirs | {"text_model.embeddings.position_ids": torch.arange(9)[None]})
    assert found.keys() == ours.keys() == renamed(theirs, names.TEXT).keys()
    assert all(found[name] is theirs[transformers_name(name)] for name in ours)


def test_the_table_is_the_packages_schedule():
    table = lesson_16.alpha_bar_table(0.00085, 0.012, 1000)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(scaled_linear.alpha(t)**2, table)


def test_the_entries_are_the_packages_grid():
    times = leading_grid(30, 1)[:-1]
    entries = (times * 1000).round().long() - 1
    assert torch.equal(lesson_16.leading_entries(30), entries)


def test_zero_terminal_ends_at_no_signal_and_begins_as_before():
    table = lesson_16.alpha_bar_table(0.00085, 0.012, 1000)
    moved = lesson_16.zero_terminal(table)
    assert moved[-1] == 0 and abs(moved[0] - table[0]) < 1e-12 and (moved.diff() < 0).all()
