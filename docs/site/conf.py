"""Settings of Sphinx for the site. Everything that a page loads is served from the site itself."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from myst_nb.core.render import NbElementRenderer

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

import minildm  # noqa: E402
from docs.site import docstrings, links  # noqa: E402

project, author = "minildm", "The minildm authors"
copyright = "the minildm authors, Apache License 2.0"      # noqa: A001
version = release = minildm.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.githubpages"]

# ---- notebooks and Markdown ------------------------------------------------------------------------------

nb_execution_mode = "off"                  # a page shows the outputs that are committed
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"                # in docstrings indented lines are seldom Python
smartquotes = False                        # the text as it was written
suppress_warnings = ["myst.header"]        # a heading may skip a level
exclude_patterns = ["extra"]

# ---- formulas --------------------------------------------------------------------------------------------

# one file of MathJax with its fonts inside, copied from a package; no server elsewhere is asked
mathjax_folder = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
mathjax_path = "tex-svg.js"
html_static_path = [str(Path(__file__).parent / "static"), str(mathjax_folder / "tex-svg.js")]
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "local"}}

# ---- look ------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "minildm"
html_favicon = str(Path(__file__).parent / "static/favicon.svg")
html_context = {"default_mode": "auto"}     # light or dark, as the reader's system is
html_css_files, html_js_files = ["site.css"], ["site.js"]
html_show_sourcelink = html_copy_source = False
html_extra_path = [os.environ["MINILDM_SITE_EXTRA"]]   # `build` says where: the students' notebooks
html_baseurl = ""
settings = links.read()
html_theme_options = {
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if settings.repository:
    html_theme_options["icon_links"] = [
        {"name": "Repository", "url": settings.repository, "icon": "fa-solid fa-code-branch"}]
html_sidebars = {"index": [], "open": []}

# ---- reference -------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False         # torch's own docstrings stay in torch's reference
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False


def render_image_with_text(self, data, plain=NbElementRenderer.render_image):
    """myst-nb's, and the alternative text that a lesson stored with its figure."""
    nodes = plain(self, data)
    nodes[0]["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    return nodes


def setup(app):
    NbElementRenderer.render_image = render_image_with_text
    app.connect("autodoc-process-docstring", docstrings.to_rst)
