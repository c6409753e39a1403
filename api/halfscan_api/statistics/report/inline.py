"""An SVG as part of an HTML page: no prolog, no metadata, and identifiers of its own."""

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_POINTER = re.compile(r"url\(#([^)]+)\)")


def inline_svg(content: bytes, prefix: str) -> Markup:
    """Make an SVG of ours fit for the middle of a page.

    Several figures of one page would otherwise share identifiers (clip paths, markers).

    Parameters
    ----------
    content : bytes
        What `canvas.render` wrote.
    prefix : str
        Put before every identifier; letters and digits.

    Returns
    -------
    Markup
    """
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(content)  # noqa: S314 - written by ourselves
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{prefix}-{value}")
            elif name == f"{{{_XLINK}}}href" and value.startswith("#"):
                element.set(name, f"#{prefix}-{value[1:]}")
            elif "url(#" in value:
                element.set(name, _POINTER.sub(rf"url(#{prefix}-\1)", value))
    root.set("role", "img")
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by ElementTree
