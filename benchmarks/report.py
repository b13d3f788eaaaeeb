"""The figures that README quotes, measured: one JSON line each, and README's table is written from them.

    python benchmarks/report.py              everything, about 25 minutes on 2 cores
    python benchmarks/report.py demo kill    only these; the other rows of the table stay

Each row has a bar and says whether it holds. Needs MNIST: see data/README.md.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def row(name, value, bar, holds, seconds):
    from minildm.demo import hardware

    return {"name": name, "value": value, "bar": bar, "holds": bool(holds), "seconds": round(seconds, 1),
            "hardware": hardware()}


PYTEST = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]     # as the Makefile calls it
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))


def timed(command: list[str], **environment) -> float:
    """Seconds of a command that must succeed; what it prints goes to stderr, so that stdout is JSON only."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=sys.stderr, cwd=ROOT,
                   env=os.environ | environment)
    return time.perf_counter() - began


def run_demo(name: str, fresh: bool = True) -> tuple[dict, float, float]:
    """The demo on a set, seed 0: its metrics, the process's seconds, its peak memory in GiB.

    From nothing, or as it was last run.
    """
    import resource

    out = ROOT / "build" / f"report-demo-{name}"
    if fresh or not (out / "process.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        budget = os.environ.get("MINILDM_BUDGET", "auto")
        seconds = timed(["-m", "minildm", "demo", "--data", name, "--out", str(out), "--recipe", budget])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        (out / "process.json").write_text(json.dumps({"seconds": seconds, "peak": peak}))
    process = json.loads((out / "process.json").read_text())
    return json.loads((out / "metrics.json").read_text()), process["seconds"], process["peak"]


def demo():
    """Bars for 2 cores without a GPU."""
    facts, seconds, peak = run_demo("mnist")
    scores, training = facts["scores"], facts["seconds"]["vae"] + facts["seconds"]["denoiser"]
    yield row("demo: minutes in all", round(seconds / 60, 2), "<= 8", seconds <= 480, seconds)
    yield row("demo: minutes of training", round(training / 60, 2), "<= 4", training <= 240, training)
    yield row("demo: peak memory, GiB", round(peak, 2), "<= 3", peak <= 3, seconds)
    for name, key, bar, holds in (
            ("label accuracy", "label_accuracy", ">= 0.995", scores["label_accuracy"] >= 0.995),
            ("Fréchet distance / floor, N = 1,000", "fd_ratio", "<= 2.5", scores["fd_ratio"] <= 2.5),
            ("precision", "precision", ">= 0.85", scores["precision"] >= 0.85),
            ("recall", "recall", ">= 0.7", scores["recall"] >= 0.7)):
        yield row(f"demo: {name}", round(scores[key], 3), bar, holds, seconds)


def cifar():
    """The demo on CIFAR-10, and the classifier that judges it. Bars for 2 cores without a GPU."""
    facts, seconds, _ = run_demo("cifar10")
    scores, spent = facts["scores"], facts["seconds"]
    judge = json.loads((ROOT / "data" / "zoo" / "cifar10-classifier" / "state.json").read_text())["measured"]
    yield row("cifar: test accuracy of the classifier", judge["test_accuracy"], ">= 0.88",
              judge["test_accuracy"] >= 0.88, 60 * judge["minutes"])
    yield row("cifar: PSNR of test images at f4 c16, dB", round(scores["psnr"], 2), ">= 35",
              scores["psnr"] >= 35, spent["vae"])
    for part, minutes in ("vae", 6), ("denoiser", 25):
        yield row(f"cifar: minutes of training the {part}", round(spent[part] / 60, 2), f"<= {minutes}",
                  spent[part] <= 60 * minutes, spent[part])
    for name, key, bar, holds in (
            ("label accuracy", "label_accuracy", ">= 0.8", scores["label_accuracy"] >= 0.8),
            ("Fréchet distance / floor, N = 1,000", "fd_ratio", "<= 12", scores["fd_ratio"] <= 12),
            ("recall", "recall", ">= 0.6", scores["recall"] >= 0.6)):
        yield row(f"cifar: {name}", round(scores[key], 3), bar, holds, seconds)


def vae():
    """From the demo's run, so within its budget."""
    facts = run_demo("mnist", fresh=False)[0]
    value = facts["scores"]["psnr"]
    yield row("vae: PSNR of MNIST test images at f4 c3, dB", round(value, 2), ">= 30", value >= 30,
              facts["seconds"]["vae"])


def run_lesson(number: str) -> tuple[dict, float]:
    """A lesson's code, run: the names that it leaves and its seconds. So report and lesson can't differ."""
    import matplotlib
    import matplotlib.pyplot as plt
    import nbformat

    matplotlib.use("agg")
    lesson = nbformat.read(next(path for path in LESSONS if path.name.startswith(number)), 4)
    began, names = time.perf_counter(), {}
    for cell in (cell for cell in lesson.cells if cell.cell_type == "code"):
        exec(cell.source, names)
        plt.close("all")
    return names, time.perf_counter() - began


def sharp():
    """Lesson 02's own scores."""
    names, seconds = run_lesson("02")
    scores = names["scores"]
    if names["name"] != "cifar10":
        sys.exit("report: sharp is about photographs and needs CIFAR-10: see data/README.md")
    blurred, sharp = scores["L2"], scores["L1 + perceptual + adversarial"]
    ratio, lost = sharp["FD"] / blurred["FD"], blurred["PSNR"] - sharp["PSNR"]
    yield row("sharp: Fréchet distance of copies / L2's", round(ratio, 3), "<= 0.7", ratio <= 0.7, seconds)
    yield row("sharp: high-frequency power / real", round(sharp["high"], 3), "0.75 to 1.25",
              0.75 <= sharp["high"] <= 1.25, seconds)
    yield row("sharp: PSNR below L2's, dB", round(lost, 2), "< 2", lost < 2, seconds)


def steps():
    """Lesson 09's own scores: flow and eps, trained on MNIST's latents for equally many steps."""
    names, seconds = run_lesson("09")
    at, column, seeds = names["ladder"].index, names["column"], f"seeds: {len(names['seeds'])}"
    ratio = column("flow, Euler")[at(10)] / column("eps, DDIM")[at(50)]
    yield row(f"steps: Fréchet distance, flow in 10 Euler steps / eps in 50 of DDIM, {seeds}",
              round(ratio, 3), "<= 1", ratio <= 1, seconds)
    ratio = names["quick"] / names["exact"]
    yield row(f"steps: Fréchet distance, eps, DPM-Solver++ in 20 steps / DDIM in 100, {seeds}",
              round(ratio, 3), "<= 1.05", ratio <= 1.05, seconds)


def samplers():
    """Our ddim loop beside the loop of diffusers' pipelines, the same U-Net and weights."""
    from minildm.bench import bench as measure

    began = time.perf_counter()
    for r in measure(with_peer=True, rounds=20):
        if r["name"] == "sampler loop":
            yield row(f"samplers: pictures a second / diffusers', {r['precision']}", round(1 / r["ratio"], 3),
                      ">= 1.0", r["ratio"] <= 1, time.perf_counter() - began)


def dit():
    """Lesson 10's own race."""
    names, seconds = run_lesson("10")
    best, macs, keys, seeds = names["best"], names["macs"], list(names["racers"]), len(names["seeds"])
    for a, b in zip(keys[:3], keys[3:], strict=True):
        ratio, cost = best[a][0] / best[b][0], macs[a] / macs[b]
        yield row(f"dit: held-out loss, {a} / {b}, {cost:.2f} of its multiply-adds, {seeds} seeds",
                  round(ratio, 3), "< 1", ratio < 1, seconds)


def copies():
    """Are MNIST samples new, and do they teach? The demo's model, or the zoo's where no demo was run."""
    import torch

    from minildm import data
    from minildm.evaluation.metrics import memorisation
    from minildm.model import LatentDiffusion
    from minildm.recipes.classifier import CLASSIFIER, classification_accuracy

    folder = ROOT / "build" / "report-demo-mnist" / "model"
    labels = torch.arange(5000) % 10
    images = data.to_uint8(LatentDiffusion.load(folder if folder.is_dir() else "mnist").generate(labels))
    train, test, began = data.load("mnist"), data.load("mnist", "test").subset(10_000), time.perf_counter()
    pick = torch.cat([(test.labels == c).nonzero()[:100, 0] for c in range(10)])       # as in the samples
    found = memorisation(images[:1000], train.images, test.images[pick])
    yield row("copies: median distance to the nearest training image / held-out images'",
              round(found["ratio"], 3), ">= 0.95", found["ratio"] >= 0.95, time.perf_counter() - began)
    began = time.perf_counter()
    samples = data.ImageSet("samples", "train", images, labels, train.class_names)
    accuracy = classification_accuracy(samples, test, replace(CLASSIFIER, steps=600))
    yield row(f"copies: test accuracy of a classifier taught by {len(images):,} samples alone",
              round(accuracy, 4), ">= 0.95", accuracy >= 0.95, time.perf_counter() - began)


def metrics():
    """Ours against scipy and torchmetrics, on features and images of MNIST and of their blurred copies."""
    import scipy.linalg
    import torch
    import torch.nn.functional as F
    from torchmetrics.functional.image import peak_signal_noise_ratio
    from torchmetrics.functional.image.ssim import _ssim_update
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    from minildm import data
    from minildm.evaluation.classifier import in_batches, load_classifier
    from minildm.evaluation.metrics import frechet_distance, kernel_distance, psnr, ssim
    from minildm.evaluation.score import score

    began, classifier, train = time.perf_counter(), load_classifier("mnist"), data.load("mnist")
    x = data.to_float(train.images[:2000])
    y = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    a, b = (in_batches(classifier.features, images).double() for images in (x, y))
    (mean_a, cov_a), (mean_b, cov_b) = ((f.mean(0), f.T.cov()) for f in (a, b))
    root = torch.from_numpy(scipy.linalg.sqrtm((cov_a @ cov_b).numpy()).real)
    scipys = ((mean_a - mean_b).square().sum() + (cov_a + cov_b - 2 * root).trace()).item()
    places = _ssim_update(x.double() + 1, y.double() + 1, data_range=2.0, return_full_image=True)[1]
    pairs = {"Fréchet, scipy": (frechet_distance(a, b), scipys),
             "Fréchet, torchmetrics": (frechet_distance(a, b),
                                       _compute_fid(mean_a, cov_a, mean_b, cov_b).item()),
             "kernel, torchmetrics": (kernel_distance(a, b), poly_mmd(a, b).item()),
             "SSIM, torchmetrics": (ssim(x, y), places[..., 5:-5, 5:-5].mean().item()),
             "PSNR, torchmetrics": (psnr(x, y), peak_signal_noise_ratio(x, y, data_range=2.0,
                                                                        dim=(1, 2, 3)).item())}
    errors = {name: abs(ours / theirs - 1) for name, (ours, theirs) in pairs.items()}
    worst = max(errors, key=errors.get)
    yield row("metrics: worst relative error, scipy and torchmetrics", f"{errors[worst]:.1g}, {worst}",
              "<= 1e-4", errors[worst] <= 1e-4, time.perf_counter() - began)
    began = time.perf_counter()
    score(train.images[:50_000], train.labels[:50_000], train, classifier)
    seconds = time.perf_counter() - began
    yield row("metrics: seconds to score 50,000 images", round(seconds), "<= 180", seconds <= 180, seconds)


def scene_retrieval(clip, tokenizer, pairs, among: int = 256) -> tuple[float, float]:
    """Recall at 1, (text -> image, image -> text), among so many of `scene_pairs`; the mean of such groups.

    One sentence an image; another image of the same meaning is right, too.
    """
    import torch

    from minildm.nn.clip import retrieval
    from minildm.recipes.clip import embed

    images, meanings, sentences = pairs
    texts = tokenizer([sentences[m][0] for m in meanings.tolist()], clip.config.text.length)
    with torch.no_grad():
        images, texts = embed(clip, images), clip.encode_text(texts.to(images.device))
    found = [retrieval(i @ t.T, m[:, None] == m) for i, t, m in
             zip(images.split(among), texts.split(among), meanings.split(among), strict=True)]
    return tuple(torch.tensor(found).mean(0).tolist())


def clip():
    """Zero-shot on MNIST by wordings that training did not see; on scenes, sentences find their pictures.

    Both runs go on from what build/report-clip holds.
    """
    from minildm import data
    from minildm.data.scenes import compose
    from minildm.data.wordings import wordings
    from minildm.evaluation.metrics import label_accuracy
    from minildm.recipes.clip import RECIPES, embed, scene_pairs, train_clip, zero_shot

    train, test, run = data.load("mnist"), data.load("mnist", "test"), ROOT / "build" / "report-clip"
    towers, tokenizer, history = train_clip(RECIPES["mnist"], train.images, train.labels, wordings(train),
                                            run / "mnist")
    seconds = sum(history["seconds"])
    vectors, kept = embed(towers, test.images), wordings(test, held_out=True)
    asked = [kept, *([[text] for text in column] for column in zip(*kept, strict=True))]
    together, *alone = (label_accuracy(zero_shot(towers, tokenizer, vectors, texts), test.labels)
                        for texts in asked)
    yield row("clip: MNIST zero-shot, held-out wordings", round(together, 4), ">= 0.98", together >= 0.98,
              seconds)
    yield row("clip: MNIST zero-shot, the worst held-out wording alone", round(min(alone), 4), ">= 0.98",
              min(alone) >= 0.98, seconds)
    train = data.load("scenes")
    towers, tokenizer, history = train_clip(RECIPES["scenes"], *scene_pairs(train.images, train.truth),
                                            run / "scenes")
    seconds = sum(history["seconds"])
    yield row("clip: minutes of training on scenes", round(seconds / 60, 1), "<= 10", seconds <= 600, seconds)
    for name, held_out in ("", False), (", held-out combinations", True):
        pairs = scene_pairs(*compose(test.images, test.labels, 2560, seed=1, held_out=held_out), seed=1)
        to_image, _ = scene_retrieval(towers, tokenizer, pairs)
        yield row(f"clip: scenes, sentence to picture among 256{name}", round(to_image, 3), ">= 0.9",
                  to_image >= 0.9, seconds)


def scenes():
    """The zoo's model of scenes, 500 prompts of each kind; the floor is the same scenes, composed."""
    from minildm import ZOO, data
    from minildm.data.scenes import agreement, captions, compose, detect
    from minildm.evaluation.classifier import load_classifier
    from minildm.model import LatentDiffusion
    from minildm.training import checkpoint

    pipe, classifier = LatentDiffusion.load("scenes"), load_classifier("mnist")
    digits = data.load("mnist", "test")
    right, began = {}, time.perf_counter()
    for held_out in (False, True):
        real, truth = compose(digits.images, digits.labels, 500, seed=11, held_out=held_out)
        drawn = pipe.generate(captions(truth, seed=11))
        right[held_out], floors = ({name: each.float().mean().item() for name, each in
                                    agreement(detect(images, classifier), truth).items()}
                                   for images in (drawn, data.to_float(real)))
        for name, bar in (("colour", 0.95), ("digit", 0.9), ("place", 0.85)):
            value, seconds = right[held_out][name], time.perf_counter() - began
            floor = f"real scenes {floors[name]:.3f}"
            if held_out:
                yield row(f"scenes: {name} right, held-out combinations ({floor})", round(value, 3),
                          "at most 0.1 lower", value >= right[False][name] - 0.1, seconds)
            else:
                yield row(f"scenes: {name} right, 500 prompts ({floor})", round(value, 3), f">= {bar}",
                          value >= bar, seconds)
    training = checkpoint.load(ZOO / "scenes")[1]["measured"]["seconds"]
    minutes = (training["vae"] + training["denoiser"]) / 60
    yield row("scenes: minutes of training, beside CLIP's", round(minutes, 1), "<= 25", minutes <= 25,
              minutes * 60)
    began = time.perf_counter()
    pipe.generate(captions(truth[:16]), num_inference_steps=30)
    seconds = time.perf_counter() - began
    yield row("scenes: seconds for 16 at 30 steps", round(seconds, 1), "<= 10", seconds <= 10, seconds)


def pointing():
    """Where the words of a colour and a digit look, on pictures that show all that was asked for."""
    from minildm import data
    from minildm.data.scenes import (
        COLOURS,
        agreement,
        captions,
        centre_of_mass,
        compose,
        detect,
        inside,
    )
    from minildm.data.wordings import DIGITS
    from minildm.evaluation.classifier import load_classifier
    from minildm.model import LatentDiffusion
    from minildm.nn.attention_maps import mean_attention_map, record_attention

    began, pipe = time.perf_counter(), LatentDiffusion.load("scenes")
    digits = data.load("mnist", "test")
    _, truth = compose(digits.images, digits.labels, 250, seed=12, held_out=False)
    prompts = captions(truth, seed=12)
    with record_attention(pipe.denoiser.network) as maps:
        images = pipe.generate(prompts, guidance_scale=1.0, batch_size=len(prompts))
    found = detect(images, load_classifier("mnist"))
    centres = centre_of_mass(mean_attention_map(maps)).cpu()                       # (N, L, 2)
    ids = pipe.tokenizer(prompts, centres.shape[1])
    right, hits = agreement(found, truth)["all"], {"colour": [], "digit": []}
    for i in right.nonzero()[:, 0].tolist():
        for k in range(1 + (truth.digits[i, 1] >= 0)):
            word = {"colour": COLOURS[truth.colours[i, k]], "digit": DIGITS[truth.digits[i, k]]}
            if truth.digits[i, 0] == truth.digits[i, 1]:
                del word["digit"]                                        # two threes: which is meant?
            for kind in word:
                at = ids[i].tolist().index(pipe.tokenizer.encode(word[kind])[-1])
                hits[kind].append(inside(centres[i, at], found.boxes[i, k]).item())
    for kind, hit in hits.items():
        share = sum(hit) / max(1, len(hit))
        yield row(f"pointing: {kind} words whose attention is centred in their digit's box, of {len(hit)}",
                  round(share, 3), ">= 0.8", share >= 0.8, time.perf_counter() - began)


def guidance():
    """Negative prompts and cost on the zoo's scenes; on its MNIST adherence and diversity up to scale 7.5."""
    import torch

    from minildm.data.scenes import detect
    from minildm.data.wordings import DIGITS
    from minildm.diffusion.guidance import cfg
    from minildm.evaluation.classifier import load_classifier
    from minildm.evaluation.metrics import diversity, label_accuracy
    from minildm.model import LatentDiffusion

    began, pipe, classifier = time.perf_counter(), LatentDiffusion.load("scenes"), load_classifier("mnist")
    context, null = pipe.conditions(["a red three left of a blue eight"] * 16)
    noise, t = pipe.noise(16), torch.tensor(0.5)
    plain = cfg(pipe.denoiser, context, null, 1.0)(noise, t)
    same = torch.equal(plain, pipe.denoiser(noise, t, context))
    yield row("guidance: scale 1 is the conditional model, bit for bit", same, "True", same, 0)
    prompts = [f"a {DIGITS[k % 8]} in the middle" for k in range(480)]         # no eight: "an eight"
    base, *shares = ((detect(pipe.generate(prompts, guidance_scale=2.0, negative=negative), classifier)
                      .colours[:, 0] == 0).float().mean().item() for negative in ("", "red", "a red digit"))
    for negative, share in zip(("red", "a red digit"), shares, strict=True):
        drop = 1 - share / base
        yield row(f'guidance: of the share of red a negative prompt "{negative}" takes away',
                  f"{drop:.2f} of {base:.3f}", ">= 0.8", drop >= 0.8, time.perf_counter() - began)
    digits, labels = LatentDiffusion.load("mnist"), torch.arange(10).repeat_interleave(20)
    scales, adherence, spread = (1.0, 2.0, 3.0, 5.0, 7.5), [], []
    for scale in scales:
        seen = classifier.features(digits.generate(labels, guidance_scale=scale)).detach()
        adherence.append(label_accuracy(classifier.head(seen), labels))
        spread.append(diversity(seen, labels))
    rises = all(a <= b for a, b in zip(adherence[:-1], adherence[1:], strict=True))
    falls = all(a >= b for a, b in zip(spread[:-1], spread[1:], strict=True))
    yield row(f"guidance: MNIST, label right at scales {', '.join(map(str, scales))}",
              ", ".join(f"{a:.3f}" for a in adherence), "rises", rises, time.perf_counter() - began)
    falling = ", ".join(f"{a:.2f}" for a in spread)
    yield row("guidance: MNIST, diversity at these scales", falling, "falls", falls,
              time.perf_counter() - began)
    seconds = []
    for scale in (1.0, 4.0):
        denoise = torch.no_grad()(cfg(pipe.denoiser, context, null, scale))
        denoise(noise, t)
        rounds = []
        for _ in range(20):
            began = time.perf_counter()
            denoise(noise, t)
            rounds.append(time.perf_counter() - began)
        seconds.append(min(rounds))
    ratio = seconds[1] / seconds[0]
    yield row("guidance: a guided step / an unguided one, seconds", round(ratio, 2), "<= 2.1", ratio <= 2.1,
              sum(seconds))


def bench():
    from minildm.bench import bench as measure

    began = time.perf_counter()
    for r in measure(with_peer=True, rounds=20):
        name = f"bench: {r['name']}, {r['precision']}, time / diffusers'"
        yield row(name, round(r["ratio"], 3), "<= 1.0", r["ratio"] <= 1, time.perf_counter() - began)


def parity():
    """Ours against diffusers and transformers: the same small random weights, saved by them, loaded by us."""
    import torch
    from support import published
    from support.towers import TINY, transformers_clip
    from test_pretrained import NEGATIVE, PROMPTS

    from minildm.diffusion.samplers import ddim, dpmpp_2m
    from minildm.model import LatentDiffusion
    from minildm.published.load import load_clip

    began, found, g = time.perf_counter(), {}, torch.Generator().manual_seed(0)

    def compare(name, ours, theirs, bar=1e-5):
        found[name] = max((ours - theirs).abs().max().item(), found.get(name, (0,))[0]), bar

    with tempfile.TemporaryDirectory() as root, torch.no_grad():
        theirs, root = published.stable_diffusion(Path(root) / "words"), Path(root)
        theirs.save_pretrained(root / "sd")
        ours = LatentDiffusion.load(root / "sd", dtype=torch.float32)
        images = torch.randn(2, 3, 16, 16, generator=g)
        x, ids = torch.randn(2, 4, 8, 8, generator=g), ours.tokenizer(PROMPTS)
        states, wanted = ours.text_encoder(ids)[0], theirs.text_encoder(ids).last_hidden_state
        encoded = theirs.vae.encode(images).latent_dist
        compare("VAE encode", ours.vae.encode(images).mean, encoded.mean)
        compare("VAE decode", ours.vae.decode(x), theirs.vae.decode(x).sample)
        compare("text states", states, wanted)
        for i in (1, 500, 981):
            compare("U-Net at steps 1, 500, 981", ours.denoiser.network(x, i / 1000, states),
                    theirs.unet(x, i, wanted).sample)
        for sampler, scheduler in ((ddim, published.DDIM), (dpmpp_2m, published.DPMPP)):
            for n in (20, 50):
                theirs.scheduler = scheduler
                drawn = theirs(PROMPTS, negative_prompt=[NEGATIVE] * 2, num_inference_steps=n,
                               latents=ours.noise(2), output_type="pt").images          # guidance 7.5
                compare(f"images, {sampler.__name__}, {n} steps", ours.generate(
                    PROMPTS, n, 7.5, sampler=sampler, negative=NEGATIVE), 2 * drawn - 1, 1e-4)
        theirs = published.dit_pipeline()
        theirs.save_pretrained(root / "dit")
        ours, labels = LatentDiffusion.load(root / "dit", dtype=torch.float32), torch.tensor([7, 1000])
        compare("DiT", ours.denoiser.network(x, 0.5, labels),
                theirs.transformer(x, torch.full((2,), 500), labels).sample)
        clip = published.randomise(transformers_clip(TINY))
        clip.save_pretrained(root / "clip")
        images, ids = torch.randn(3, 2, 12, 12, generator=g), torch.tensor([[58, 7, 3, 59], [58, 1, 59, 59]])
        wanted, towers = clip(input_ids=ids, pixel_values=images), load_clip(root / "clip")
        compare("CLIP, pictures", towers.encode_images(images), wanted.image_embeds)
        compare("CLIP, texts", towers.encode_text(ids), wanted.text_embeds)
    for name, (value, bar) in found.items():
        yield row(f"parity: {name}, largest difference", f"{value:.1e}", f"<= {bar:.0e}", value <= bar,
                  time.perf_counter() - began)


def published_speed():
    """Inference beside diffusers, the same weights: Stable Diffusion's shape, smaller without a GPU."""
    import torch
    from support import published

    from minildm.bench import medians
    from minildm.model import LatentDiffusion

    cuda = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    with tempfile.TemporaryDirectory() as root:
        sizes = published.FULL if cuda else published.MEDIUM
        theirs = published.stable_diffusion(Path(root) / "words", sizes)
        theirs.save_pretrained(Path(root) / "sd")
        ours = LatentDiffusion.load(Path(root) / "sd", device, dtype)
    theirs.to(device, dtype)
    theirs.scheduler = published.DDIM
    z, ids = ours.noise(1).to(dtype), ours.tokenizer(published.WORDS[:1]).to(device)
    c = ours.text_encoder(ids)[0]
    x, context = torch.cat([z, z]), torch.cat([c, c])                       # as guidance asks for
    jobs = {
        "U-Net step": (lambda net=ours.denoiser.network: net(x, 0.5, context),
                       lambda net=theirs.unet: net(x, 500, context).sample),
        "VAE decode": (lambda: ours.vae.decode(z), lambda: theirs.vae.decode(z).sample),
        "text encoder": (lambda: ours.text_encoder(ids)[0],
                         lambda: theirs.text_encoder(ids).last_hidden_state),
        "whole image, 20 steps": (
            lambda: ours.generate(published.WORDS[:1], 20, 7.5),
            lambda: theirs(published.WORDS[:1], num_inference_steps=20, latents=z,
                           output_type="pt").images)}
    if cuda:
        nets = torch.compile(ours.denoiser.network), torch.compile(theirs.unet)
        jobs["U-Net step, compiled"] = (lambda: nets[0](x, 0.5, context),
                                        lambda: nets[1](x, 500, context).sample)
    kind = "bf16, Stable Diffusion's own size" if cuda else "float32, small"
    for name, pair in jobs.items():
        began = time.perf_counter()
        with torch.no_grad():
            ms = medians([lambda job=job: job().sum().item() for job in pair], 5 if "whole" in name else 20)
        yield row(f"published-speed: {name}, {kind}, diffusers' time / ours", round(ms[1] / ms[0], 3),
                  ">= 1.0", ms[1] >= ms[0], time.perf_counter() - began)


def kill():
    for in_place, holds in ((False, lambda r: r["identical"] == 50), (True, lambda r: r["identical"] < 50)):
        command = [sys.executable, "tests/support/kill.py", "50", *["--in-place"] * in_place]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        result = json.loads(output.strip().splitlines()[-1])
        name = "an in-place writer" if in_place else "resumed, bit-identical"
        yield row(f"kill: of 50 kills inside a save, {name}", result["identical"],
                  "< 50" if in_place else "= 50", holds(result), result["seconds"])


def nbval():
    """The spine's five lessons, then all of them."""
    spine = [path for path in LESSONS if path.name[:2] in ("00", "01", "03", "04", "05")]
    rest = [path for path in LESSONS if path not in spine]
    total = 0.0
    for name, files, bar in ("five lessons", spine, 180), ("all lessons", rest, 480):
        total += timed([*PYTEST, *map(str, files)], MINILDM_BUDGET="smoke")
        yield row(f"nbval: seconds over {name}", round(total), f"<= {bar}", total <= bar, total)


def at_cpu_budget(report: str, *numbers: str):
    """The lessons of these numbers, run from top to bottom as a student without a GPU does."""
    for path in (path for path in LESSONS if path.name[:2] in numbers):
        seconds = timed(["-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir",
                         str(ROOT / "build" / "lessons"), str(path)], MINILDM_BUDGET="cpu")
        yield row(f"{report}: minutes of lesson {path.name[:2]}", round(seconds / 60, 1), "<= 12",
                  seconds <= 720, seconds)


def lessons_sharp():
    yield from at_cpu_budget("lessons-sharp", "02", "14")


def lessons_language():
    yield from at_cpu_budget("lessons-language", "06", "07", "08")


def lessons_flow():
    yield from at_cpu_budget("lessons-flow", "05", "09", "10", "15")


def unit():
    seconds = timed([*PYTEST, "tests", "-m", "not slow"])
    yield row("unit: seconds of the unit tests", round(seconds), "<= 90", seconds <= 90, seconds)


REPORTS = {f.__name__.replace("_", "-"): f for f in (
    demo, vae, sharp, copies, metrics, clip, scenes, pointing, guidance, cifar, steps, samplers, dit, parity,
    published_speed, bench, kill, nbval, unit, lessons_sharp, lessons_language, lessons_flow)}
HEAD = "| what | measured | bar | holds | seconds | hardware |\n| --- | --- | --- | --- | --- | --- |\n"


def write_table(readme: Path, rows: list[dict]):
    """Put rows into README's table between its two marks; a row of the same name is replaced."""
    text = readme.read_text()
    before, table, after = re.split(r"(?<=<!-- results -->\n)(.*?)(?=<!-- /results -->)", text, flags=re.S)
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    for r in rows:
        holds = "yes" if r["holds"] else "**no**"
        cells = r["name"], r["value"], r["bar"], holds, r["seconds"], r["hardware"]
        lines[r["name"]] = "| " + " | ".join(map(str, cells)) + " |"
    order = [name for report in REPORTS for name in lines if name.startswith(report + ":")]
    readme.write_text(before + HEAD + "".join(lines[name] + "\n" for name in order) + after)


def main(names: list[str]):
    unknown = [name for name in names if name not in REPORTS]
    if unknown:
        sys.exit(f"report: no {', '.join(unknown)}; there are {', '.join(REPORTS)}")
    rows = []
    for name in names or REPORTS:
        with contextlib.redirect_stdout(sys.stderr):
            new = list(REPORTS[name]())
        for r in new:
            print(json.dumps(r), flush=True)
        rows += new
        write_table(ROOT / "README.md", rows)
    sys.exit(0 if all(r["holds"] for r in rows) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
