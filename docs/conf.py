"""Settings of the site; docs/meson.build gives the version and the paths."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "extension"))

project = "libqrobust"
author = "the authors of libqrobust"
extensions = ["breathe", "myst_parser", "enumerators", "manual_page",
              "mathml"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["snippets"]
primary_domain = "c"
highlight_language = "none"
nitpicky = True

# Types that the C library declares.
nitpick_ignore = [("c:identifier", name) for name in (
    "size_t", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t",
    "uint32_t", "int64_t", "uint64_t")]

breathe_projects = {}
breathe_default_project = "qrobust"
breathe_domain_by_extension = {"h": "c"}
breathe_show_include = False
c_id_attributes = ["QRB_API"]

html_theme = "furo"
html_title = "libqrobust"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Formulas are MathML, which browsers draw themselves: pages load nothing
# from elsewhere.
html_math_renderer = "mathml"
