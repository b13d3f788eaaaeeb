"""Downloads that end: whole and with the published checksum, or with an error, in a time that is
bounded.

A socket's timeout counts from the last byte, so a server that drips a byte every few seconds
never reaches it. Here one clock runs over all files and mirrors of a set.
"""

import hashlib
import os
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

TIMEOUT = 10                # seconds without a byte: a network that swallows packets counts as none
LIMIT = 120                 # seconds a download may take at any speed
SLOWEST = 100_000           # bytes per second, on average, that let it take longer
LARGEST = 400_000_000       # bytes of one file
CHUNK = 1 << 16


@dataclass
class Clock:
    """Counts bytes and seconds over all files; `check` raises TimeoutError when it is too slow."""

    limit: float = LIMIT
    received: int = 0
    began: float = field(default_factory=time.monotonic)

    def check(self):
        seconds = time.monotonic() - self.began
        if seconds > self.limit and self.received < SLOWEST * seconds:
            raise TimeoutError(f"only {self.received / 1e6:.1f} MB came in {seconds:.0f} s")


def fetch(urls: list[str], md5: str, clock: Clock) -> bytes:
    """Download the file with this MD5 from one of `urls`; raises OSError if none gives it."""
    failure = OSError("there is no address to download from")
    for url in urls:
        try:
            content = _read(url, clock)
        except TimeoutError:
            clock.check()           # the whole time is up: no other mirror
            failure = OSError(f"no answer in {TIMEOUT} s")
            continue
        except OSError as error:
            failure = error
            continue
        # MD5 is what was published; it finds accidents, which is what it is for here
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
            return content
        failure = OSError(f"{url} gave another file: its MD5 differs")
    raise failure


def _read(url: str, clock: Clock) -> bytes:
    """Download one address, looking at the clock whenever some bytes have come."""
    # some servers refuse what calls itself Python
    request = urllib.request.Request(url, headers={"User-Agent": "minildm"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        total = response.headers.get("Content-Length")
        total = int(total) if total and total.isdigit() else None
        content = bytearray()
        with tqdm(total=total, desc=url.rsplit("/", 1)[-1], unit="B", unit_scale=True,
                  disable=None) as bar:
            # read1 returns what has come; read would wait for a whole chunk
            while part := response.read1(CHUNK):
                content += part
                clock.received += len(part)
                bar.update(len(part))
                clock.check()
                if len(content) > LARGEST:
                    raise OSError(f"{url} is larger than {LARGEST / 1e6:.0f} MB")
    if total is not None and len(content) != total:
        raise OSError(f"{url} ended after {len(content)} of {total} bytes")
    return bytes(content)


def put(content: bytes, path: Path):
    """Write a file whole or not at all, so that no other process reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
