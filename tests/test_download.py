"""Downloads are whole, take turns and end in time; the server is one on this machine."""

import gzip
import hashlib
import http.server
import json
import subprocess
import sys
import threading
import time

import pytest
import torch
from support.images import write_mnist

from minildm import MinildmError, data
from minildm.data import cifar, download, idx

# two of these start together, on a server that takes its time; torchvision, of which only addresses
# and checksums are asked, would take seconds to import
CHILD = """
import json, sys, types, warnings
address, root, resources = sys.argv[1:]
MNIST = types.SimpleNamespace(mirrors=[address], resources=json.loads(resources))
vision = types.ModuleType("torchvision")
vision.datasets = types.SimpleNamespace(MNIST=MNIST)
sys.modules["torchvision"] = vision
warnings.simplefilter("ignore")
from minildm import data
found = data.load("mnist", root=root)
print(len(found), int(found.images.long().sum()))
"""


class Server:
    """Serves `contents` {name: bytes} on loopback, `part` bytes every `pause` seconds."""

    def __init__(self, contents, pause=0.0, part=1 << 20, length=True):
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = contents.get(self.path.lstrip("/"))
                asked.append(self.path)
                if content is None:
                    return self.send_error(404)
                self.send_response(200)
                if length:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    for i in range(0, len(content), part):
                        self.wfile.write(content[i:i + part])
                        self.wfile.flush()
                        time.sleep(pause)
                except OSError:             # the other side gave up
                    pass

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def serve():
    servers = []

    def start(*args, **options):
        servers.append(Server(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def packed(tmp_path):
    """The four files of a small MNIST as they are published: {name.gz: bytes}."""
    write_mnist(tmp_path / "made")
    return {f"{path.name}.gz": gzip.compress(path.read_bytes())
            for path in idx.IdxFiles("MNIST", ()).paths(tmp_path / "made")}


def test_two_processes_that_start_together_download_once(tmp_path, serve, packed):
    server = serve(packed, pause=0.15, part=2000)
    resources = [(f"{file}.gz", md5(packed[f"{file}.gz"])) for file in idx.FILES]
    command = [sys.executable, "-c", CHILD, server.address, str(tmp_path / "root"),
               json.dumps(resources)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(2)]
    try:
        outcomes = [child.communicate(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], outcomes
    assert outcomes[0][0] == outcomes[1][0] and outcomes[0][0].startswith("20 ")
    assert len(server.asked) == 4           # each file once, by one of the two


def test_a_server_that_drips_is_given_up(serve):
    server = serve({"file": b"x" * 1000}, pause=0.1, part=1)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="only 0.0 MB"):
        download.fetch([server.address + "file"] * 2, md5(b""), download.Clock(limit=0.5))
    assert time.monotonic() - began < 2     # all of it would take 100 seconds
    assert len(server.asked) == 1


def test_what_is_slow_but_comes_is_waited_for():
    clock = download.Clock(limit=1)
    clock.began -= 100
    clock.received = 200 * download.SLOWEST
    clock.check()
    clock.received = 50 * download.SLOWEST
    with pytest.raises(TimeoutError):
        clock.check()


def test_a_mirror_that_fails_or_lies_is_passed_over(serve):
    good = b"the file" * 1000
    server = serve({"good": good, "other": b"a page that asks to log in"})
    urls = [server.address + name for name in ("missing", "other", "good")]
    assert download.fetch(urls, md5(good), download.Clock()) == good
    with pytest.raises(OSError, match="its MD5 differs"):
        download.fetch(urls[:2], md5(good), download.Clock())
    with pytest.raises(OSError, match="404"):
        download.fetch(urls[:1], md5(good), download.Clock())


@pytest.mark.parametrize("length", [True, False])
def test_what_breaks_off_is_no_file(serve, monkeypatch, length):
    content = b"x" * 1000
    server = serve({"file": content}, length=length)
    monkeypatch.setattr(download, "LARGEST", 500)
    with pytest.raises(OSError, match="larger than"):
        download.fetch([server.address + "file"], md5(content), download.Clock())


def test_half_a_file_is_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    download.put(b"whole", path)
    assert path.read_bytes() == b"whole" and list(path.parent.iterdir()) == [path]

    def full(*args):
        raise OSError("full")

    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(OSError, match="full"):
        download.put(b"half", path)
    assert path.read_bytes() == b"whole" and list(path.parent.iterdir()) == [path]


def test_a_failed_download_names_set_reason_and_cure(tmp_path, serve, packed, monkeypatch):
    from torchvision import datasets

    server = serve({})
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server.address])
    with pytest.raises(MinildmError, match="mnist is missing.*404") as caught:
        data.load("mnist", root=tmp_path)
    assert "MINILDM_DATA" in caught.value.fix and not data.available("mnist", root=tmp_path)


@pytest.mark.filterwarnings("ignore:.*not the published ones")
def test_only_what_is_missing_is_downloaded(tmp_path, serve, packed, monkeypatch):
    from torchvision import datasets

    server = serve(packed)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server.address])
    monkeypatch.setattr(datasets.MNIST, "resources", [(f, md5(packed[f])) for f in packed])
    data.load("mnist", root=tmp_path)
    (tmp_path / "MNIST" / "raw" / idx.FILES[2]).unlink()
    before = data.load("mnist", root=tmp_path)
    assert server.asked[4:] == [f"/{idx.FILES[2]}.gz"]
    assert torch.equal(before.images, data.load("mnist", root=tmp_path).images)


def test_cifars_archive_is_downloaded_whole(tmp_path, serve, monkeypatch):
    from torchvision.datasets import CIFAR10

    server = serve({"archive": b"not a real archive"})
    monkeypatch.setattr(CIFAR10, "url", server.address + "archive")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(b"not a real archive"))
    cifar.CifarFiles(()).fetch(tmp_path)
    assert (tmp_path / cifar.ARCHIVE).read_bytes() == b"not a real archive"
