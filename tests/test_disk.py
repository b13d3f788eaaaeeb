"""Full disks, several processes, and file systems that cannot do what others can."""

import errno
import multiprocessing
import os
import shutil

import pytest
from support.folders import assert_same, names, run_of, tensors
from support.runs import CONFIG, equal, network, run_steps, state_of

from minildm import MinildmError
from minildm.training import checkpoint, disk
from minildm.training.state import TrainState


class FullDisk:
    """An open() for the checkpoint module whose files take `room` bytes in all."""

    def __init__(self, room):
        self.room = room

    def __call__(self, path, mode):
        file = open(path, mode)
        write = file.write

        class Limited:
            def __getattr__(_, name):
                return getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(_, *error):
                file.close()

            def write(_, content):
                write(content[:self.room])
                self.room -= len(content)
                if self.room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Limited()


@pytest.mark.parametrize("room", [0, 0.001, 0.2, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("step", [2, 3])
def test_a_full_disk_leaves_the_last_good_step_and_no_litter(tmp_path, monkeypatch, room, step):
    run_of(tmp_path, 1, 2)
    size = sum(p.stat().st_size for p in (tmp_path / "step-000002").iterdir())
    monkeypatch.setattr(disk, "open", FullDisk(int(room * size)), raising=False)
    with pytest.raises(MinildmError, match="No space left") as caught:
        run_of(tmp_path, step)
    assert "MB of disk" in caught.value.fix
    monkeypatch.undo()
    assert names(tmp_path) == ["step-000001", "step-000002"]
    assert_same(checkpoint.load(checkpoint.latest(tmp_path))[0], tensors(2))


def test_a_real_file_size_limit(tmp_path):
    resource = pytest.importorskip("resource")
    run_of(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(MinildmError, match="could not save"):
            run_of(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-000001"]
    checkpoint.verify(tmp_path / "step-000001")


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MinildmError, match="could not save") as caught:
        checkpoint.save(tmp_path / "file" / "model", tensors(), {})
    assert caught.value.fix


def test_a_save_while_another_process_saves_the_same_folder(tmp_path, monkeypatch):
    write, pid = disk.write, os.getpid()

    def other_first(path, content):
        monkeypatch.setattr(disk, "write", write)
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        checkpoint.save(tmp_path / "model", tensors(1), {})
        monkeypatch.setattr(os, "getpid", lambda: pid)
        write(path, content)

    monkeypatch.setattr(disk, "write", other_first)
    checkpoint.save(tmp_path / "model", tensors(0), {})
    assert_same(checkpoint.load(tmp_path / "model")[0], tensors(0))
    assert names(tmp_path) == ["model"]


def save_often(folder, seed):
    refused = 0
    for _ in range(20):
        try:
            checkpoint.save(folder, tensors(seed), {"seed": seed})
        except MinildmError:
            refused += 1                # lost a race for the name
    os._exit(refused == 20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_saving_the_same_folder_leave_a_whole_one(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=save_often, args=(tmp_path / "model", seed)) for seed in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    loaded, meta = checkpoint.load(tmp_path / "model")
    assert_same(loaded, tensors(meta["seed"]))
    assert not list(tmp_path.glob(".tmp-*"))


def hold(run_dir, pipe):
    with checkpoint.lock(run_dir):
        pipe.send("held")
        pipe.recv()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_second_process_is_told_the_pid_of_the_first(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    first = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, theirs))
    first.start()
    assert ours.poll(30) and ours.recv() == "held"
    with pytest.raises(MinildmError, match=f"process {first.pid} is"), checkpoint.lock(tmp_path):
        pass
    first.kill()                        # the system lets go of a killed process's lock
    first.join()
    with checkpoint.lock(tmp_path):
        with pytest.raises(MinildmError, match=f"process {os.getpid()} is"), checkpoint.lock(tmp_path):
            pass


# --- file systems that cannot do it

@pytest.fixture
def said_anew():
    disk.say_once.cache_clear()
    yield
    disk.say_once.cache_clear()


def fails(code):
    def function(*arguments, **named):
        raise OSError(code, os.strerror(code))
    return function


def test_a_save_goes_on_without_flushing(tmp_path, monkeypatch, capsys, said_anew):
    monkeypatch.setattr(os, "fsync", fails(errno.EINVAL))
    run_of(tmp_path, 1, 2)
    assert capsys.readouterr().err.count("cannot flush") == 1
    monkeypatch.setattr(os, "fsync", fails(errno.EIO))          # a broken disk is another matter
    with pytest.raises(MinildmError, match="could not save"):
        run_of(tmp_path, 3)


@pytest.mark.parametrize("broken", ["never", "while copying"])
def test_a_save_copies_where_folders_cannot_be_renamed(tmp_path, monkeypatch, capsys, said_anew,
                                                       broken):
    checkpoint.save(tmp_path / "model", tensors(0), {})
    monkeypatch.setattr(os, "replace", fails(errno.EXDEV))
    if broken == "never":
        checkpoint.save(tmp_path / "model", tensors(1), {})
        assert capsys.readouterr().err.count("cannot rename") == 1
    else:
        size = sum(path.stat().st_size for path in (tmp_path / "model").iterdir())
        monkeypatch.setattr(disk, "open", FullDisk(int(1.5 * size)), raising=False)
        with pytest.raises(MinildmError, match="the last save is intact"):
            checkpoint.save(tmp_path / "model", tensors(1), {})
    monkeypatch.undo()
    assert names(tmp_path) == ["model"]
    assert_same(checkpoint.load(tmp_path / "model")[0], tensors(1 if broken == "never" else 0))


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_run_goes_on_without_a_lock(tmp_path, monkeypatch, capsys, said_anew, code):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", fails(getattr(errno, code)))
    for _ in range(2):
        with checkpoint.lock(tmp_path):
            assert (tmp_path / "lock").read_text().strip() == str(os.getpid())
    assert capsys.readouterr().err.count("cannot lock") == 1


def test_the_last_save_is_intact_is_said_only_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "open", FullDisk(0), raising=False)
    with pytest.raises(MinildmError) as caught:
        run_of(tmp_path, 1)
    assert "intact" not in caught.value.what
    monkeypatch.undo()
    run_of(tmp_path, 1)
    monkeypatch.setattr(disk, "open", FullDisk(0), raising=False)
    with pytest.raises(MinildmError, match="the last save is intact"):
        run_of(tmp_path, 2)


# --- what may not be read or written

@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors", "state.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_read(tmp_path, name, kind):
    path = run_of(tmp_path, 1) / "step-000001" / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(MinildmError, match=f"{name} is damaged: .*not a plain file"):
        checkpoint.load(path.parent)


@pytest.mark.parametrize("name", ["lock", "metrics.csv"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_run_writes_through_no_link_or_pipe(tmp_path, name, kind):
    outside, run_dir = tmp_path / "diary", tmp_path / "run"
    outside.write_text("mine")
    run_dir.mkdir()
    if kind == "link":
        (run_dir / name).symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(run_dir / name)
    else:
        (run_dir / name).mkdir()
    with pytest.raises(MinildmError, match=f"{name} cannot be written"):
        run_steps(network(), run_dir=run_dir)
    assert outside.read_text() == "mine"


def test_a_place_is_looked_at_before_the_first_step(tmp_path, monkeypatch):
    """Room for three checkpoints: two are kept, a third is written; the sizes are named."""
    needed = TrainState(network(), CONFIG).size()
    run_steps(network(), run_dir=tmp_path / "before")
    saved = (tmp_path / "before" / "step-000012" / "state.safetensors").stat().st_size
    assert 0.3 * saved < needed < saved             # of so small a model half is names
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((3 * needed, True), (3 * needed - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        model, run_dir = network(), tmp_path / str(fits)
        before = state_of(model)
        if fits:
            run_steps(model, run_dir=run_dir)
            run_steps(model, run_dir=run_dir)       # all done: no room is needed
        else:
            with pytest.raises(MinildmError, match="3 checkpoints of .* MB need .* MB"):
                run_steps(model, run_dir=run_dir)
            assert equal(state_of(model), before)


def test_a_folder_where_nothing_can_be_made_is_refused_before_the_first_step(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(MinildmError, match="cannot be made"):
        run_steps(network(), run_dir=tmp_path / "file" / "run")
    monkeypatch.setattr(disk.Path, "mkdir", fails_for_probes(disk.Path.mkdir))
    with pytest.raises(MinildmError, match="nothing can be saved here: Read-only"):
        run_steps(network(), run_dir=tmp_path / "run")


def fails_for_probes(mkdir):
    def function(path, *arguments, **named):
        if path.name.startswith(".tmp-"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return mkdir(path, *arguments, **named)
    return function


def test_a_step_of_someone_else_stands_in_no_run_s_way_unseen(tmp_path):
    (tmp_path / "step-000012").mkdir()
    (tmp_path / "step-000012" / "notes.txt").write_text("mine")
    run_steps(network(), CONFIG, tmp_path / "other", stop=5)
    shutil.copytree(tmp_path / "other" / "step-000005", tmp_path / "step-000005")
    with pytest.raises(MinildmError, match="would be lost"):
        run_steps(network(), run_dir=tmp_path)
    assert names(tmp_path / "step-000012") == ["notes.txt"]
