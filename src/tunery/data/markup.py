"""Text out of HTML, leaving alone what only looks like it: `x < y`, `<<48/2=24>>`, `List<String>`, `?a=1&copy=2`."""

from __future__ import annotations

import re

_BLOCKS = (
    "address|article|aside|blockquote|body|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer"
    "|form|h1|h2|h3|h4|h5|h6|head|header|hgroup|hr|html|legend|li|main|menu|nav|ol|optgroup|option|p|pre|section|select"
    "|summary|table|tbody|tfoot|thead|title|tr|ul"
)
_INLINE = (
    "a|abbr|area|audio|b|base|bdi|bdo|big|br|button|canvas|cite|code|col|colgroup|data|datalist|del|dfn|em|embed|font|i"
    "|iframe|img|input|ins|kbd|label|link|map|mark|meta|meter|nobr|noscript|object|output|param|picture|progress|q|rp|rt"
    "|ruby|s|samp|script|slot|small|source|span|strike|strong|style|sub|sup|svg|td|template|textarea|th|time|track|tt|u"
    "|var|video|wbr"
)
# Attributes need a "=": `a <b and c> d` is a comparison, not bold text.
_AFTER_LESS_THAN = rf"/?(?:{_BLOCKS}|{_INLINE})(?:\s[^<>]*=[^<>]*|\s*/?)>|!--.*?-->|!doctype[^<>]*>"
_ENTITY = r"&(?:#\d+|#x[0-9a-f]+|[a-z][a-z0-9]*);"
_MARKUP = re.compile(rf"<(?:{_AFTER_LESS_THAN})|{_ENTITY}", re.IGNORECASE | re.DOTALL)
_NOT_A_TAG = re.compile(rf"<(?!{_AFTER_LESS_THAN})", re.IGNORECASE | re.DOTALL)
_NOT_AN_ENTITY = re.compile(rf"&(?!{_ENTITY[1:]})", re.IGNORECASE)


def strip_markup(text: str) -> str:
    """The text without HTML tags, comments, scripts and styles, with entities resolved.

    Blocks end and `<br>` becomes a line break, so that words on both sides stay apart. A text without an HTML tag
    or entity comes back as it is.
    """
    from bs4 import BeautifulSoup

    if not _MARKUP.search(text):
        return text
    escaped = _NOT_A_TAG.sub("&lt;", _NOT_AN_ENTITY.sub("&amp;", text))
    soup = BeautifulSoup(escaped, "html.parser")
    for tag in soup.find_all("br"):
        tag.replace_with("\n")
    for tag in soup.find_all(_BLOCKS.split("|")):
        tag.append("\n")
    for tag in soup.find_all(["td", "th"]):
        tag.append(" ")
    return re.sub(r"\n{3,}", "\n\n", soup.get_text()).strip()
