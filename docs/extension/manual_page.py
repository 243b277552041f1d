"""The directive manual-page: a page of the manual as HTML, by mandoc."""
import os
import re
import subprocess

from docutils import nodes
from docutils.parsers.rst import Directive


class ManualPage(Directive):
    required_arguments = 1

    def run(self):
        env = self.state.document.settings.env
        source = os.path.join(env.srcdir, self.arguments[0])
        env.note_dependency(source)
        html = subprocess.run(
            [env.config.manual_page_reader, "-T", "html",
             "-O", "fragment", source],
            check=True, capture_output=True, text=True).stdout
        # The site has a heading and a frame of its own; the headings of the
        # manual go below it, and its first and last line go.
        html = re.sub(r"<(/?)h([12])\b",
                      lambda m: "<%sh%d" % (m[1], int(m[2]) + 1), html)
        html = re.sub(r'<table class="(?:head|foot)">.*?</table>', "", html,
                      flags=re.DOTALL)
        return [nodes.raw("", html, format="html")]


def setup(app):
    app.add_config_value("manual_page_reader", "mandoc", "env")
    app.add_directive("manual-page", ManualPage)
    return {"parallel_read_safe": True}
