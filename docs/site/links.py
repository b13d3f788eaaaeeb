"""Addresses outside the site, all made from one setting: where the repository lives."""

import os
import tomllib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, urlparse

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Links:
    """The addresses of one lesson in the places where it can be opened."""

    repository: str
    branch: str
    site_branch: str
    jupyter: str

    @property
    def slug(self) -> str:
        """OWNER/NAME, as Colab and Binder want it."""
        return urlparse(self.repository).path.strip("/").removesuffix(".git")

    @property
    def on_github(self) -> bool:
        return urlparse(self.repository).hostname == "github.com"

    def colab(self, name: str) -> str:
        return f"https://colab.research.google.com/github/{self.slug}/blob/{self.site_branch}/notebooks/{name}"

    def binder(self, name: str) -> str:
        path = quote(f"notebooks/{name}", safe="")
        return f"https://mybinder.org/v2/gh/{self.slug}/{self.site_branch}?labpath={path}"

    def local(self, name: str) -> str:
        """In the JupyterLab that `make lab` started, after `make student`."""
        return f"{self.jupyter}/lab/tree/build/student/{name}"

    def file(self, path: str) -> str:
        return f"{self.repository}/blob/{self.branch}/{path}"

    def buttons(self, name: str, to_root: str) -> list[tuple[str, str, str]]:
        """(label, address, title) of each way to open a lesson; the notebook itself comes first."""
        rows = [("Download", f"{to_root}notebooks/{name}", "The student's notebook, without solutions")]
        if self.on_github:
            rows += [("Colab", self.colab(name), "Open the student's notebook in Google Colab"),
                     ("Binder", self.binder(name), "Open the student's notebook in Binder")]
        if self.repository:
            rows.append(("With solutions", self.file(f"lessons/{name}"), "The solved notebook"))
        rows.append(("Local Jupyter", self.local(name), "Open it in the JupyterLab that make lab started"))
        return rows

    def bar(self, name: str, to_root: str = "../") -> str:
        """The row of buttons as HTML."""
        links = [f'<a class="btn btn-sm btn-outline-primary" href="{escape(address)}" title="{escape(title)}"'
                 f'{" download" if label == "Download" else ""}>{label}</a>'
                 for label, address, title in self.buttons(name, to_root)]
        return f'<div class="open-lesson" role="group" aria-label="Open this lesson">{" ".join(links)}</div>'


def read(path: Path = HERE / "settings.toml") -> Links:
    """The settings, with what the environment says above them."""
    settings = tomllib.loads(path.read_text())
    settings["repository"] = os.environ.get("MINILDM_REPOSITORY", settings["repository"]).rstrip("/")
    return Links(**settings)
