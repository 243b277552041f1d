"""Formulas as MathML, by the converter of docutils: no script, no host."""
from docutils import nodes
from docutils.utils.math import latex2mathml, pick_math_environment


def markup(node, inline):
    text = node.astext()
    if not inline:
        # A line of dots between two formulas of one directive starts a row.
        text = "\\begin{%s}%s\\end{%s}" % (
            (environment := pick_math_environment(text)), text, environment)
    return "".join(latex2mathml.parse_latex_math(text, inline=inline).xml())


def visit_math(self, node):
    self.body.append(markup(node, True))
    raise nodes.SkipNode


def visit_math_block(self, node):
    self.body.append('<div class="math">%s</div>\n' % markup(node, False))
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer(
        "mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True}
