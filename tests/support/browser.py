"""A headless Chromium for tests, if one is installed; folders served on this machine."""

import contextlib
import functools
import http.server
import os
import shutil
import threading

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"


def installed() -> str:
    """The path of a browser; skips the test where there is none."""
    found = [path for path in map(shutil.which, NAMES) if path]
    if not found:
        pytest.skip("no Chromium is installed: apt install chromium, or Google Chrome")
    return found[0]


@contextlib.contextmanager
def browser():
    """A Playwright browser."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is in the extra `site`")
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    path = installed()
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(folder):
    """The address at which this machine serves the files of a folder."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
