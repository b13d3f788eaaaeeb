"""A tokenizer's files, as transformers writes them: vocab.json and merges.txt, or tokenizer.json.

Tokens that were added later stand in tokenizer.json, in added_tokens.json, or in
tokenizer_config.json.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minildm import MinildmError

START, END = "<|startoftext|>", "<|endoftext|>"
LARGEST = 50_000_000        # bytes of a file; CLIP's are 2 MB


@dataclass(frozen=True)
class AddedToken:
    """A word with an id of its own; `normalized` ones are found in any case of letters."""

    word: str
    id: int
    normalized: bool = True


def read_vocabulary(folder: Path) -> tuple[list, dict[str, int], list[AddedToken]]:
    """Read merges, vocabulary and added tokens; raises MinildmError that says what is wrong."""
    try:
        whole = None
        if (folder / "tokenizer.json").is_file():
            whole = json.loads(_read_text(folder / "tokenizer.json"))
        if whole is not None and not (folder / "vocab.json").is_file():
            vocab = whole["model"]["vocab"]
            merges = [_pair(entry) for entry in whole["model"]["merges"]]
        else:
            vocab = json.loads(_read_text(folder / "vocab.json"))
            _, *lines = _read_text(folder / "merges.txt").split("\n")
            merges = [_pair(line) for line in lines if line]
        vocab = {str(token): int(i) for token, i in vocab.items()}
        if len(set(vocab.values())) < len(vocab):
            raise ValueError("two tokens have one id")
        return merges, vocab, _added_tokens(folder, whole or {}, vocab)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise MinildmError(f"no tokenizer can be read: {error}"[:200], folder,
                           "it takes vocab.json and merges.txt, or tokenizer.json") from error


def save_vocabulary(folder: Path, merges: list, vocab: dict[str, int], added: Iterable[AddedToken]):
    """Write what read_vocabulary reads."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vocab, ensure_ascii=False)
    (folder / "vocab.json").write_text(text, "utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    # where transformers looks for them; a tokenizer without any needs no such file
    if added:
        decoder = {str(token.id): {"content": token.word, "normalized": token.normalized,
                                   "special": not token.normalized, "single_word": False,
                                   "lstrip": False, "rstrip": False} for token in added}
        text = json.dumps({"pad_token": END, "added_tokens_decoder": decoder}, indent=1)
        (folder / "tokenizer_config.json").write_text(text, "utf-8")


def _read_text(path: Path) -> str:
    """A file's text; a device or a pipe, which may never end, is a ValueError."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is not a file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} is larger than {LARGEST / 1e6:.0f} MB")
    return path.read_text("utf-8")


def _pair(entry) -> tuple[str, str]:
    """Two tokens that merge, written with a blank between (transformers 4) or as a list (5)."""
    first, second = entry.split(" ") if isinstance(entry, str) else entry
    return first, second


def _added_tokens(folder: Path, whole: dict, vocab: dict[str, int]) -> list[AddedToken]:
    """The added tokens of a folder without start and end; raises as _check_added."""
    entries = [(entry["id"], entry) for entry in whole.get("added_tokens", [])]
    if (folder / "tokenizer_config.json").is_file():
        config = json.loads(_read_text(folder / "tokenizer_config.json"))
        entries += config.get("added_tokens_decoder", {}).items()
    if (folder / "added_tokens.json").is_file():
        plain = json.loads(_read_text(folder / "added_tokens.json"))
        entries += [(i, {"content": word}) for word, i in plain.items()]
    # SD's files list a token in several places
    added = {}
    for i, entry in entries:
        # transformers' own default: words that are not special are looked for in the normalised
        # text
        normalized = entry.get("normalized", not entry.get("special", False))
        token = AddedToken(str(entry["content"]), int(i), bool(normalized))
        # the first entry of a word stands: the later files say less about it
        known = added.setdefault(token.word, token)
        _check_added(entry, token, known, vocab, folder)
    return [token for token in added.values() if token.word not in (START, END)]


def _check_added(entry: dict, token: AddedToken, known: AddedToken, vocab: dict, folder: Path):
    if entry.get("single_word"):
        raise MinildmError(f"the added token {token.word!r} counts as a whole word only", folder,
                           "add it without single_word=True")
    taken = vocab.get(token.word, token.id) != token.id or known.id != token.id
    if taken or not token.word.strip():
        raise MinildmError(f"the added token {token.word!r} has two ids, or is empty", folder,
                           "save the tokenizer anew with transformers")
