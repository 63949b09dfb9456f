"""A page of the site loads nothing from elsewhere. Browsers are told so (theme/main.html); here the build says which page would."""

import logging
from html.parser import HTMLParser

log = logging.getLogger("mkdocs.hooks.origins")  # a warning fails a strict build


class _Loads(HTMLParser):
    """What a page loads: the sources of all elements, and links that are no mere reference."""

    def __init__(self):
        super().__init__()
        self.urls = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.urls += [attrs.get("src"), attrs.get("srcset"), attrs.get("poster"), attrs.get("data")]
        if tag == "link" and attrs.get("rel") not in ("canonical", "prev", "next"):
            self.urls.append(attrs.get("href"))


def on_post_page(output, page, config):
    loads = _Loads()
    loads.feed(output)
    for url in loads.urls:
        if url and ("//" in url or url.startswith("data:text")):
            log.warning("%s loads %s", page.file.src_uri, url)
    return output
