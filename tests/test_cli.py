"""The command line: what is refused, how fast, with which words; and that each command does its job."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from minildm import MinildmError, __version__, cli, options

WRONG = [  # arguments, what the answer must name
    ("demo --num 9", "--num takes 10 to 100000"), ("demo --num 100001", "--num takes 10 to 100000"),
    ("demo --num -5", "--num"), ("demo --num 0", "--num takes"), ("demo --num ten", "--num"),
    ("demo --num 1.5", "--num"), ("demo --num", "--num"), ("demo --num 1e3", "--num"),
    ("demo --seed -1", "--seed takes 0 to"), ("demo --seed 2147483648", "--seed takes 0 to"),
    ("demo --seed x", "--seed"), ("demo --seed 0.5", "--seed"),
    ("demo --data nope", "mnist, fashion-mnist"), ("demo --data ''", "--data takes"),
    ("demo --data MNIST", "--data takes"), ("demo --data folder:", "--data takes"),
    ("demo --data folder:/no/such/place", "folder that exists"), ("demo --data mnist,glyphs", "--data takes"),
    ("demo --recipe huge", "smoke"), ("demo --recipe ''", "smoke"), ("demo --recipe CPU", "smoke"),
    ("demo --backbone vit", "unet"), ("demo --objective score", "flow"), ("train --objective EPS", "eps"),
    ("demo --out pyproject.toml/x", "--out takes a place that can be written"), ("demo --ouT x", "--out"),
    ("demo --nun 10", "--num"), ("demo extra", "extra"), ("demo --guidance-scale 2", "guidance-scale"),
    ("train --num 5", "--num"), ("train --data auto", "--data takes"), ("train --data svhn", "--data takes"),
    ("train --seed -3", "--seed takes"), ("train --recipe tiny", "smoke"), ("train --steps 5", "--steps"),
    ("train --out pyproject.toml/x", "--out takes"), ("train cpu", "cpu"),
    ("sample --num 0", "--num takes 1 to 10000"), ("sample --num 10001", "--num takes 1 to 10000"),
    ("sample --steps 0", "--steps takes 1 to 1000"), ("sample --steps 1001", "--steps takes 1 to 1000"),
    ("sample --steps many", "--steps"), ("sample --guidance-scale -1", "--guidance-scale takes 0 to 100"),
    ("sample --guidance-scale 101", "--guidance-scale takes"),
    ("sample --guidance-scale nan", "--guidance-scale takes"),
    ("sample --guidance-scale inf", "--guidance-scale"), ("sample --guidance-scale big", "--guidance-scale"),
    ("sample --sampler dpm", "ddim"), ("sample --sampler", "--sampler"), ("sample --labels -1", "--labels"),
    ("sample --labels 1 --prompt red", "--prompt red"), ("sample --negative red", "beside --prompt"),
    ("demo --data scenes", "--data takes"), ("train --data scene", "scenes"),
    ("sample --labels a", "--labels"), ("sample --seed -1", "--seed takes"), ("sample --out x.jpg", ".png"),
    ("sample --out /no/such/x.txt", ".png"), ("sample --model /no/such", "there is no model"),
    ("evaluate --samples /no/such.npz", "--samples takes"), ("evaluate --data nope", "--data takes"),
    ("evaluate --num 5", "--num"), ("bench --rounds 2", "--rounds takes 3 to 1000"),
    ("bench --rounds 1001", "--rounds takes"), ("bench --peer jax", "diffusers"),
    ("bench --rounds x", "--rounds"),
    ("demo --out ''", "a path, which '' is not"), ("train --out=", "a path, which '' is not"),
    ("sample --model ''", "a path"), ("evaluate --samples ''", "a path"),
    ("demo --out /proc/x", "cannot"), ("train --out /sys/x/y", "cannot"),
    ("sample --out /proc/x.png", "cannot"),
    ("sample --out tests.png/x.png --labels " + "9" * 30, "class numbers from 0"),
    ("demo --out " + "x" * 300, "can exist here"), ("train --out " + "x/" * 2100, "can exist here"),
    ("train --out " + "x/" * 2020, "can exist here"), ("sample --model " + "m" * 300, "can exist here"),
    ("sample --out " + "x" * 300 + ".png", "can exist here"),
    ("evaluate --samples " + "s" * 300, "can exist"),
    ("demo --data folder:" + "d" * 300, "can exist here"), ("demo --data folder:~nobody-here/x", "without ~"),
    ("demo --out ~nobody-here/x", "without ~"), ("sample --out tests.d/.png", ".png"),
    ("demo --data mnist --size 64", "beside --data folder:PATH"), ("demo --size 7", "--size takes 8 to 256"),
    ("train --mirror --no-mirror", "no --no-mirror beside it"), ("demo --mirror x", "x"),
    ("", "demo"), ("paint", "demo"), ("--version-of-what", "demo"),
]


@pytest.mark.parametrize("line, named", WRONG)
def test_wrong_arguments_exit_2_and_name_the_cure(line, named, capsys):
    words = [word.strip("'") for word in line.split(" ") if word]
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert named in " ".join((said.out + said.err).replace("│", " ").split())
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) <= 6


def test_a_slip_is_answered_at_once_without_importing_torch():
    began = time.perf_counter()
    code = ("import sys; from minildm.cli import main; code = main(['demo', '--num', '3']);"
            "sys.exit(9 if 'torch' in sys.modules else code)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "--num takes" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6
    assert time.perf_counter() - began < 2 * (3 if os.cpu_count() < 4 else 1)    # 2 s on a quiet machine


def test_exit_codes_of_what_can_happen_in_a_command(monkeypatch, capsys):
    def raising(error):
        def run(self):
            raise error
        return run

    for error, code in ((MinildmError("a", "b", "c"), 2), (KeyboardInterrupt(), 130), (RuntimeError("x"), 1)):
        monkeypatch.setattr(cli.Demo, "run", raising(error))
        assert cli.main(["demo"]) == code
        assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        cli.main(["demo", "--debug"])


def test_the_version_is_said_without_torch():
    code = ("import sys; from minildm.cli import main; code = main(['--version']);"
            "sys.exit(9 if 'torch' in sys.modules else code)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f"minildm {__version__}\n"


@pytest.mark.skipif(os.name == "nt", reason="another kind of signal")
@pytest.mark.parametrize("module", ["tyro", "torch", "PIL"])
def test_interrupted_while_it_imports_it_ends_without_a_traceback(module, tmp_path):
    """Ctrl-C in the first seconds, when this module is looked for."""
    code = f"""if True:
        import os, signal, sys
        class Finder:
            def find_spec(name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder)
        sys.argv = ["minildm", "sample", "--num", "1"]
        from minildm.__main__ import main
        sys.exit(main())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130 and done.stderr == "minildm: interrupted\n"


def test_an_interrupted_import_is_an_interruption_whatever_it_became(monkeypatch, capsys):
    def run(self):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("numpy.core failed to import") from None

    monkeypatch.setattr(cli.Bench, "run", run)
    assert cli.main(["bench"]) == 130
    assert capsys.readouterr().err == "minildm: interrupted\n"


def test_going_on_is_promised_only_where_there_is_a_checkpoint(tmp_path, monkeypatch, capsys):
    def run(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Run, "run", run, raising=False)
    monkeypatch.delattr(cli.Demo, "run")
    words = ["demo", "--data", "glyphs", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 130
    assert capsys.readouterr().err == "minildm: interrupted\n"
    (tmp_path / "out/vae/step-000007").mkdir(parents=True)
    assert cli.main(words) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err


def test_what_the_machine_refuses_is_no_bug_of_ours(monkeypatch, capsys):
    def run(self):
        raise OSError(28, "No space left on device", "/some/where")

    monkeypatch.setattr(cli.Bench, "run", run)
    assert cli.main(["bench"]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said and "/some/where" in said and "fix:" in said


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_refused_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o555)
    assert cli.main(["demo", "--data", "glyphs"]) == 2
    assert "--out takes a place that can be written" in capsys.readouterr().err
    tmp_path.chmod(0o755)


def test_places_are_tried_and_left_as_they_were(tmp_path, monkeypatch, capsys):
    """As root permissions say nothing: a refused mkdir stands for whatever the reason is."""
    monkeypatch.chdir(tmp_path)
    options.check_out_folder(tmp_path / "a/b")
    options.check_out_picture(tmp_path / "x.png")
    assert os.listdir(tmp_path) == []

    def refused(prefix, dir):
        raise OSError(30, "Read-only file system", str(dir))

    monkeypatch.setattr(options.tempfile, "mkdtemp", refused)
    for words in (["demo"], ["train", "--data", "glyphs"], ["sample"]):
        assert cli.main(words) == 2
        assert "Read-only file system" in capsys.readouterr().err


def test_a_name_that_the_terminal_cannot_show_is_no_failure(tmp_path):
    """A Chinese file name in a terminal of Windows' code page."""
    name = "紅い三.png"
    env = os.environ | {"PYTHONIOENCODING": "cp1252:strict", "PYTHONUTF8": "0"}
    words = ["sample", "--num", "2", "--steps", "1", "--out", name]
    code = f"import sys; from minildm.cli import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == [name] and rb"\u7d05" in done.stdout


def test_prompts_are_no_mathematics_and_guidance_is_said(tmp_path, capsys):
    words = ["sample", "--prompt", r"a $\frac$ red three", "--steps", "1"]
    words += ["--out", str(tmp_path / "a.png")]
    assert cli.main(words) == 0
    assert "1 picture" in (said := capsys.readouterr().out) and "classifier-free guidance 4" in said
    assert cli.main([*words, "--guidance-scale", "1"]) == 0
    assert "no guidance" in capsys.readouterr().out


def test_options_of_pictures_reach_the_training(monkeypatch, tmp_path):
    from minildm import demo

    asked = []
    monkeypatch.setattr(demo, "demo", lambda *words, **options: asked.append(options))
    monkeypatch.setattr(demo, "train_model", lambda *words, **options: asked.append(options))
    out = ["--out", str(tmp_path / "out")]
    for words in (["demo", "--data", f"folder:{tmp_path}", "--size", "64"], ["demo", "--mirror"],
                  ["train", "--no-mirror", "--data", "glyphs"], ["train"]):
        assert cli.main([*words, *out]) == 0
    assert asked == [{"size": 64}, {"mirror": True}, {"mirror": False}, {}]


def test_help_of_every_command_explains_every_flag(capsys):
    for command in ("demo", "train", "sample", "evaluate", "bench"):
        with pytest.raises(SystemExit) as stop:
            cli.main([command, "--help"])
        assert stop.value.code == 0 and "default" in capsys.readouterr().out


@pytest.mark.slow
def test_demo_writes_what_it_promises_and_goes_on_from_where_it_was(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINILDM_BUDGET", "smoke")
    from minildm import demo
    whole = demo.data.load
    monkeypatch.setattr(demo.data, "load", lambda name, *rest: whole(name, *rest).subset(400))
    out = tmp_path / "out"
    assert cli.main(["demo", "--data", "glyphs", "--out", str(out), "--num", "20", "--seed", "3"]) == 0
    with np.load(out / "samples.npz") as file:
        assert file["images"].shape == (20, 28, 28) and file["images"].dtype == np.uint8
        assert file["labels"].tolist() == list(range(10)) * 2
        first = file["images"]
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["seed"] == 3 and facts["scores"]["n"] == 20 and facts["scores"]["fd_floor"] > 0
    assert {"vae", "denoiser", "sampling", "total"} <= facts["seconds"].keys() and facts["hardware"]
    for name in ("samples.png", "losses.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")

    began = time.perf_counter()      # the second time nothing is trained, and the same pictures come
    assert cli.main(["demo", "--data", "glyphs", "--out", str(out), "--num", "20", "--seed", "3"]) == 0
    assert time.perf_counter() - began < 60
    assert (np.load(out / "samples.npz")["images"] == first).all()
    assert cli.main(["demo", "--data", "glyphs", "--out", str(out), "--num", "20", "--seed", "4"]) == 2
    assert "config.seed: 3 != 4" in capsys.readouterr().err

    assert cli.main(["evaluate", "--samples", str(out / "samples.npz"), "--data", "glyphs"]) == 0
    assert "fd / floor" in capsys.readouterr().out
    png = tmp_path / "one.png"
    assert cli.main(["sample", "--model", str(out / "model"), "--labels", "3", "1", "--steps", "2",
                     "--out", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["sample", "--model", str(out / "model"), "--labels", "10", "--out", str(png)]) == 2
    assert "0..9" in capsys.readouterr().err


def folder(line):
    """Where the command of these words writes."""
    found = cli.parse(line.split()).folders()
    assert len(found) == 1
    return found[0].as_posix()


def test_what_trains_another_model_has_a_folder_of_its_own():
    assert folder("demo --data mnist --num 100") == "runs/demo-mnist"
    assert folder("demo --data mnist --seed 1 --recipe smoke") == "runs/demo-mnist-smoke-seed1"
    assert folder("train --data mnist --captions") == "runs/train-mnist-captions"
    assert folder("train --data folder:a/b --backbone unet --objective eps") == "runs/train-b-unet-eps"
    assert folder("train --data folder:a/b --size 64 --no-mirror") == "runs/train-b-size64-no-mirror"
    assert folder("train --data folder:a/b/..") == "runs/train-a"
    assert folder("demo --data folder:a/mnist") == "runs/demo-folder-mnist"
    assert folder("demo --out x/y --data mnist --seed 1") == "x/y"
    auto = cli.parse(["demo"]).folders()
    assert [path.as_posix() for path in auto] == ["runs/demo-mnist", "runs/demo-glyphs"]


def test_falling_back_is_said_and_only_when_nothing_was_asked_for(monkeypatch):
    from minildm import demo

    def load(name, *rest):
        if name == "mnist":
            raise MinildmError("no network")
        return name_set

    class name_set:
        def to(device):
            return name_set

    for place in demo.data, demo.data.sets:
        monkeypatch.setattr(place, "load", load)
        monkeypatch.setattr(place, "available", lambda name, *root: False)
    assert demo.load_for_training("auto") == (name_set, demo.FALLBACK)
    with pytest.raises(MinildmError):
        demo.load_for_training("mnist")
    for place in demo.data, demo.data.sets:                                 # it is there, and damaged
        monkeypatch.setattr(place, "available", lambda name, *root: True)
    with pytest.raises(MinildmError):
        demo.load_for_training("auto")
