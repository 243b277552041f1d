"""Lets pages call an enumerator by its name alone, as C does.

Breathe declares it inside its enum, and the domain then knows it as
enum.ENUMERATOR only.
"""
from sphinx.util.nodes import make_refnode


def resolve(app, env, node, contnode):
    if node.get("refdomain") != "c" or node.get("reftype") != "enumerator":
        return None
    ending = "." + node["reftarget"]
    for name, _, kind, page, anchor, _ in env.get_domain("c").get_objects():
        if kind == "enumerator" and name.endswith(ending):
            return make_refnode(app.builder, node["refdoc"], page, anchor,
                                contnode, name)
    return None


def setup(app):
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
