"""Files of which nothing is believed: pipes, bombs, endless JSON, configurations that no model has."""

import json
import os
import resource
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from minildm import MinildmError
from minildm.data.tokenizer import Tokenizer
from minildm.nn.clip import TextConfig, TextTransformer
from minildm.nn.unet import UNetConfig
from minildm.published import files, formats
from minildm.published.files import read, read_folder, read_json
from minildm.published.formats import Config
from minildm.published.load import load_text, load_tokenizer, load_weights

UNET = {"act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "norm_num_groups": 32,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
VAE = {"in_channels": 3, "out_channels": 3, "block_out_channels": [128, 256], "layers_per_block": 2,
       "latent_channels": 4, "norm_num_groups": 32}
TEXT = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 49408,
        "max_position_embeddings": 77, "hidden_act": "quick_gelu", "intermediate_size": 3072}
VISION = {**TEXT, "image_size": 224, "patch_size": 14}
DIT = {"num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8,
       "num_layers": 28, "patch_size": 2, "num_embeds_ada_norm": 1000, "norm_eps": 1e-5}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
READERS = {"unet": formats.unet_config, "vae": formats.vae_config, "text": formats.text_config,
           "clip": formats.clip_config, "dit": formats.dit_config, "schedule": formats.schedule_config}
GOOD = {"unet": UNET, "vae": VAE, "text": TEXT, "dit": DIT, "schedule": SCHEDULE,
        "clip": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 768}}
BAD = [0, -1, 10**7, 2.5, 1e400, "8", None, True, [], [320], {}, [0] * 4, [10**7] * 4, "x" * 10**6]


def variants():
    """Each configuration with each of its numbers, names and lists replaced by what no model has."""
    for part, good in GOOD.items():
        for key, value in good.items():
            for bad in BAD:
                if bad != value:
                    yield part, key, bad


def test_good_configurations_are_read():
    for part, good in GOOD.items():
        assert READERS[part](Config("x", good))
    assert formats.unet_config(Config("x", UNET)) == UNetConfig()


def test_what_no_model_has_is_refused_or_read_but_never_believed():
    """A bad value may be one that is allowed, as true is for a flag; anything else names the key."""
    began, refused = time.perf_counter(), 0
    for part, key, bad in variants():
        try:
            READERS[part](Config("x", GOOD[part] | {key: bad}))
        except MinildmError as error:
            refused += 1
            assert len(str(error)) < 1000
    assert refused > 500 and time.perf_counter() - began < 10


@pytest.mark.parametrize("part, key, bad", [
    ("unet", "block_out_channels", [20_000] * 4), ("unet", "block_out_channels", [32] * 99),
    ("unet", "layers_per_block", 10**7), ("unet", "attention_head_dim", 0), ("unet", "attention_head_dim", 7),
    ("unet", "norm_num_groups", 7), ("unet", "down_block_types", None), ("vae", "latent_channels", 10**6),
    ("vae", "norm_num_groups", 0), ("text", "num_hidden_layers", 10**7), ("text", "vocab_size", 10**9),
    ("text", "num_attention_heads", 0), ("text", "hidden_size", None), ("dit", "num_layers", "28"),
    ("dit", "num_layers", 10**7), ("dit", "patch_size", 0), ("dit", "norm_eps", "small"),
    ("clip", "vision_config", 3), ("schedule", "beta_start", "x"), ("schedule", "prediction_type", []),
    ("schedule", "steps_offset", -5), ("schedule", "timestep_spacing", {}),
])
def test_hostile_numbers_are_named(part, key, bad):
    with pytest.raises(MinildmError, match=key.replace("beta_start", "scaled_linear")
                       .replace("prediction_type", "not one of").replace("timestep_spacing", "not one of")):
        READERS[part](Config("x", GOOD[part] | {key: bad}))


@pytest.mark.parametrize("content", ["[" * 10**5, '{"a":' * 10**5, "[]", "3", "null", "{", "", "\xff"])
def test_json_that_is_no_object_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(MinildmError, match="config.json cannot be read"):
        Config.read(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(content.encode("latin-1"))
    with pytest.raises(MinildmError, match="cannot be read"):
        read_folder(tmp_path)


def test_an_index_without_a_map_is_refused(tmp_path):
    for places in ({}, {"weight_map": 3}, {"weight_map": ["a.safetensors"]}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(places))
        with pytest.raises(MinildmError, match="weight_map"):
            read_folder(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no pipes and no /dev")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for target in tmp_path / "pipe", "/dev/zero":
        for name, reading in (("config.json", read_json), ("a.safetensors", read), ("a.ckpt", read),
                              ("vocab.json", lambda path: load_tokenizer(path.parent)),
                              ("tokenizer_config.json", lambda path: load_tokenizer(path.parent))):
            (tmp_path / "in").mkdir()
            (tmp_path / "in" / name).symlink_to(target)
            with pytest.raises(MinildmError, match="no regular file"):
                reading(tmp_path / "in" / name)
            (tmp_path / "in" / name).unlink()
            (tmp_path / "in").rmdir()


def test_a_compressed_pickle_is_refused(tmp_path):
    """torch.save never compresses: 4 MB may stand for gigabytes."""
    torch.save({"weight": torch.zeros(1_000_000)}, tmp_path / "whole.ckpt")
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, \
            zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    assert (tmp_path / "small.ckpt").stat().st_size < 10_000
    assert read(tmp_path / "whole.ckpt")["weight"].shape == (1_000_000,)
    with pytest.raises(MinildmError, match="is compressed"):
        read(tmp_path / "small.ckpt")


@pytest.mark.parametrize("tensor, named", [
    (torch.zeros(1).expand(10**9), "more numbers than are stored"),
    (torch.zeros(3, device="meta"), "no plain tensor"),
])
def test_a_tensor_that_is_not_what_it_says_is_refused(tensor, named, tmp_path):
    torch.save({"weight": tensor}, tmp_path / "a.bin")
    with pytest.raises(MinildmError, match=named):
        read(tmp_path / "a.bin")


def test_hundreds_of_thousands_of_tensors_are_refused(tmp_path, monkeypatch):
    assert files.TENSORS <= 20_000 and files.HEADER_BYTES <= 2**23
    monkeypatch.setattr(files, "TENSORS", 200)
    monkeypatch.setattr(files, "HEADER_BYTES", 50_000)
    header = json.dumps({f"tensor{i:099}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
                         for i in range(600)}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(MinildmError, match="its header has"):
        read(tmp_path / "a.safetensors")
    torch.save(dict.fromkeys(map(str, range(300)), torch.zeros(0)), tmp_path / "a.bin")
    with pytest.raises(MinildmError, match="300 tensors"):
        read(tmp_path / "a.bin")


def text_folder(folder, config: TextConfig):
    """transformers' CLIPTextModel as a folder, with our names turned into theirs."""
    folder.mkdir()
    values = {**TEXT, "hidden_size": config.dim, "num_attention_heads": config.heads,
              "num_hidden_layers": config.depth, "vocab_size": config.vocab_size,
              "intermediate_size": 4 * config.dim}
    (folder / "config.json").write_text(json.dumps(values))
    save_file(TextTransformer(config).state_dict(), folder / "model.safetensors")
    return folder


def test_a_folder_that_says_more_than_it_holds_takes_no_memory(tmp_path):
    """Shapes are compared before anything is copied: gigabytes that a configuration asks for are not."""
    folder = text_folder(tmp_path / "text", TextConfig(vocab_size=600, dim=32, depth=2, heads=2))
    assert load_text(folder).config.dim == 32
    values = json.loads((folder / "config.json").read_text())
    large = {"hidden_size": 8192, "intermediate_size": 4 * 8192, "num_hidden_layers": 16}
    (folder / "config.json").write_text(json.dumps(values | large))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MinildmError, match="tensors do not fit TextTransformer"):
        load_text(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000        # KB


def test_what_does_not_fit_is_named_in_few_words():
    tensors = {f"left.over{i}": torch.zeros(1) for i in range(99)}
    with pytest.raises(MinildmError, match="and [0-9]+ more") as raised:
        load_weights(TextTransformer, TextConfig(600, 8, 16, 1, 1), tensors, "x", torch.float32, "cpu")
    listed = raised.value.what.split(": ")[1]
    assert listed.count("is missing") + listed.count("is not expected") == 30


# ---- words

@pytest.fixture
def words(tmp_path):
    Tokenizer.train(["a red three"], 520).save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("name, content", [
    ("added_tokens.json", {"<cat-toy>": 520}),
    ("tokenizer_config.json", {"added_tokens_decoder": {"520": {"content": "<cat-toy>"}}}),
])
def test_added_tokens_are_read_as_tokens_or_refused_by_name(name, content, words):
    assert load_tokenizer(words).encode("a red three")
    (words / name).write_text(json.dumps(content))
    try:
        assert load_tokenizer(words).encode("a <cat-toy>")[-1] == 520
    except MinildmError as error:
        assert "<cat-toy>" in error.what


def test_clips_own_tokens_are_no_added_ones(words):
    ids = Tokenizer.load(words).vocab
    own = {ids[word]: {"content": word} for word in ("<|startoftext|>", "<|endoftext|>")}
    (words / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": own}))
    assert load_tokenizer(words).encode("red")


@pytest.mark.parametrize("content", [{"x": "y"}, {"x": None}, {"x": []}])
def test_added_tokens_without_numbers_are_refused(content, words):
    (words / "added_tokens.json").write_text(json.dumps(content))
    with pytest.raises(MinildmError):
        load_tokenizer(words)


def test_a_vocabulary_nested_without_end_is_refused(words):
    (words / "vocab.json").write_text('{"a":' * 10**5)
    with pytest.raises(MinildmError):
        load_tokenizer(words)


@pytest.mark.skipif(os.name == "nt", reason="the limit of memory is a Unix one")
@pytest.mark.slow
def test_a_bomb_is_refused_within_the_memory_that_reading_takes(tmp_path):
    torch.save({"weight": torch.zeros(100_000_000, dtype=torch.uint8)}, tmp_path / "whole.ckpt")
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, \
            zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    code = """if True:
        import resource, sys
        from pathlib import Path
        from minildm import MinildmError
        from minildm.published.files import read
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read(Path(sys.argv[1]))
        except MinildmError:
            sys.exit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 50_000)
        sys.exit(3)"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "small.ckpt"]).returncode == 0
