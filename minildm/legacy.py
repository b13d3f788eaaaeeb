"""Models that version 0.1 saved: its "recipe" of 24 fields, read as a `ModelSpec`.

The recipe told how a model was trained and how it draws in one list; what draws is picked out
here, and nothing else in the package knows that form.
"""

GUIDE = "weak."     # the name of the guide's weights then


def convert(tensors: dict, meta: dict) -> tuple[dict, dict]:
    """Tensors and meta of an old folder -> those that `LatentDiffusion.save` would write today."""
    recipe = meta["recipe"]
    model = {
        "vae": recipe["vae"],
        "network": named_network(recipe["network"]),
        "schedule": recipe.get("schedule", "flow"),
        "prediction_type": recipe.get("prediction_type", "flow"),
        "text": text_config(recipe.get("text")),
        "features": features(recipe),
        "guidance": guidance(recipe),
        "sampling": {
            "num_inference_steps": recipe.get("num_inference_steps", 30),
            "time_shift": recipe.get("shift", 1.0),
            "steps_offset": recipe.get("steps_offset"),
            "set_alpha_to_one": recipe.get("set_alpha_to_one", True),
        },
    }
    renamed = {"guide." + name.removeprefix(GUIDE) if name.startswith(GUIDE) else name: tensor
               for name, tensor in tensors.items()}
    # how long it trained was told by the recipe: it is kept, as what was measured is
    facts = {**(meta.get("measured") or {}), "vae_steps": recipe["vae_training"]["steps"],
             "denoiser_steps": recipe["training"]["steps"]}
    rest = {key: value for key, value in meta.items() if key not in ("recipe", "measured")}
    return renamed, {**rest, "model": model, "facts": facts}


def named_network(config: dict) -> dict:
    """The old form had no name in it: a DiT is known by its depth."""
    # a U-Net counts blocks, not depth
    if "depth" in config:
        return {**config, "module": "dit", "class": "DiT"}
    return {**config, "module": "unet", "class": "UNet"}


def text_config(text: dict | None) -> dict | None:
    """The text tower's numbers out of the recipe of its CLIP."""
    return text["clip"]["text"] if text else None


def features(recipe: dict) -> dict | None:
    channels = recipe.get("features", 0)
    return {"channels": channels, "shift": recipe.get("lead", 2.0)} if channels else None


def guidance(recipe: dict) -> list[dict]:
    """Classifier-free guidance first, then the guide's, on the latents' channels alone."""
    values = [
        {"kind": "Cfg", "scale": recipe.get("guidance_scale", 2.0), "phi": 0.0, "channels": None}
    ]
    if recipe.get("weak_step", 0):
        values.append(
            {
                "kind": "Autoguidance",
                "guide": True,
                "scale": recipe.get("weak_scale", 2.5),
                "phi": recipe.get("weak_phi", 0.0),
                "channels": recipe["vae"]["latent_channels"],
            }
        )
    return values
