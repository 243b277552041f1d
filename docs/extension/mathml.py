"""Formulas as MathML, by the converter of docutils: no script, no host."""
import os
import shutil

from docutils import nodes
from docutils.utils.math import latex2mathml


def markup(node, inline):
    return latex2mathml.tex2mathml(node.astext(), inline=inline)


def visit_math(self, node):
    self.body.append(markup(node, True))
    raise nodes.SkipNode


def visit_math_block(self, node):
    self.body.append('<div class="math">%s</div>\n' % markup(node, False))
    raise nodes.SkipNode


def copy_font(app, exception):
    font = app.config.mathml_font
    if exception is None and font:
        shutil.copyfile(font, os.path.join(app.outdir, "_static", "math.otf"))


def setup(app):
    app.add_config_value("mathml_font", "", "html")
    app.connect("build-finished", copy_font)
    app.add_html_math_renderer(
        "mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True}
