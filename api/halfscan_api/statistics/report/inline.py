"""An SVG as part of an HTML page: no prolog, no metadata, and identifiers of its own."""

import re

from markupsafe import Markup

# matplotlib writes every < and > of a text or an attribute as a reference: a > ends a tag.
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_POINTER = re.compile(r'( id="| xlink:href="#|url\(#)')


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
    text = content.decode()
    text = _METADATA.sub("", text[text.index("<svg ") :], count=1)
    text = _TAG.sub(lambda tag: _POINTER.sub(rf"\1{prefix}-", tag.group()), text)
    return Markup(text.replace("<svg ", '<svg role="img" ', 1))  # noqa: S704 - escaped by matplotlib
