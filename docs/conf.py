"""How Sphinx makes the documents: `nox -s docs`, or `sphinx-build -W docs OUT`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Importing the packages must not need the user's data, a terminal or a second thread.
os.environ.pop("NETLLM_DATA", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")

from netllm import registry

project = "NetLLM"
author = "The NetLLM authors"
project_copyright = "The NetLLM authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "_aliases",
    "_docstrings",
    "_links",
    "_tables",
]
exclude_patterns = ["_build"]
default_role = "code"

html_theme = "furo"
html_title = "NetLLM"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "returns_style")]

# A signature names a class as its module does, which another package's class may be called too.
suppress_warnings = ["ref.python"]
nitpicky = True
TASKS = "|".join(registry.tasks())
# Only this project's public names are looked up: other projects' inventories are on the network,
# and signatures name classes by the modules that define them.
nitpick_ignore_regex = [
    ("py:.*", r"(?!netllm).*"),
    ("py:.*", rf"netllm\w*\.(?:(?:{TASKS})\.|(?!(?:{TASKS})\.))[a-z_]\w*\..*"),
]
