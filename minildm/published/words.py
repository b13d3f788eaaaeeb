"""Words of published models: diffusers' folder `tokenizer`, of which nothing is believed."""

from pathlib import Path

from minildm import MinildmError
from minildm.data.tokenizer import END, START, Tokenizer
from minildm.published.files import check_file, read_json
from minildm.published.formats import Config

VOCABULARY_BYTES = 64 * 2**20


def load_tokenizer(folder) -> Tokenizer:
    """diffusers' folder `tokenizer`, with the padding that its files name.

    Words that were added to the vocabulary, as textual inversion does, are refused if the tokenizer
    does not read each as its own token.
    """
    folder = Path(folder)
    # before the tokenizer opens them: a pipe in a file's place would not end
    for name in "vocab.json", "merges.txt", "tokenizer.json":
        if (folder / name).exists():
            check_file(folder / name, VOCABULARY_BYTES)
    config = Config(folder, {})
    if (folder / "tokenizer_config.json").exists():
        config = Config.read(folder, "tokenizer_config.json")
    try:
        tokenizer = Tokenizer.load(folder)
        pad = pad_token(folder, config)
        if pad not in tokenizer.vocab:
            what = f"pad_token is {pad!r:.99}, which is not in the vocabulary"
            raise MinildmError(what, folder, f"take a tokenizer that pads with {END}")
        if pad != END:
            tokenizer = Tokenizer(tokenizer.merges, tokenizer.vocab, tokenizer.added, pad)
    except RecursionError:
        what = "its JSON is nested without end"
        raise MinildmError(what, folder, "don't trust this folder") from None
    added = added_words(folder, config)
    # asked of the tokenizer itself, whatever it can and can't do
    lost = [word for word, i in added.items() if tokenizer.encode(word) != [i]]
    if lost:
        what = f"added tokens would be read as ordinary words: {', '.join(lost)[:200]}"
        raise MinildmError(what, folder, "take a tokenizer without added tokens")
    return tokenizer


def pad_token(folder: Path, config: Config) -> str:
    """The token that fills rows: "!" for Stable Diffusion 2, whose older files name it apart."""
    places = [config]
    # as transformers: the file of special tokens counts where no list of added ones is
    if "added_tokens_decoder" not in config and (folder / "special_tokens_map.json").exists():
        places.insert(0, Config.read(folder, "special_tokens_map.json"))
    for place in places:
        found = place.get("pad_token")
        if isinstance(found, dict):
            found = found.get("content")
        if found is not None:
            return str(found)
    return END


def added_words(folder: Path, config: Config) -> dict[str, int]:
    """Words beside CLIP's own that a tokenizer's files add to the vocabulary, and their ids."""
    found = {}
    if (folder / "added_tokens.json").exists():
        found |= read_json(folder / "added_tokens.json")
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, dict):
        found |= {token.get("content"): i for i, token in listed.items() if isinstance(token, dict)}
    try:
        return {str(word): int(i) for word, i in found.items() if word not in (START, END)}
    except (TypeError, ValueError) as error:
        what = f"its added tokens cannot be read: {error}"[:200]
        raise MinildmError(what, folder, "is the download whole?") from None
