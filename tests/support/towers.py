"""A tiny CLIP, and transformers' model of the same form."""

import pytest

from minildm.nn.clip import CLIPConfig, TextConfig, VisionConfig

TINY = CLIPConfig(TextConfig(60, 10, 24, 2, 3), VisionConfig(2, 12, 4, 32, 3, 4), 16)


def transformers_clip(c: CLIPConfig):
    clip = pytest.importorskip("transformers.models.clip")
    text = dict(vocab_size=c.text.vocab_size, hidden_size=c.text.dim, intermediate_size=4 * c.text.dim,
                num_hidden_layers=c.text.depth, num_attention_heads=c.text.heads,
                max_position_embeddings=c.text.length, projection_dim=c.projection,
                bos_token_id=c.text.vocab_size - 2, eos_token_id=c.text.vocab_size - 1)
    vision = dict(num_channels=c.vision.in_channels, image_size=c.vision.image_size,
                  patch_size=c.vision.patch, hidden_size=c.vision.dim, intermediate_size=4 * c.vision.dim,
                  num_hidden_layers=c.vision.depth, num_attention_heads=c.vision.heads,
                  projection_dim=c.projection)
    return clip.CLIPModel(clip.CLIPConfig(text_config=text, vision_config=vision,
                                          projection_dim=c.projection)).eval()
