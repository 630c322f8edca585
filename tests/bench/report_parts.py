"""The parts of a report page, parsed."""

from html.parser import HTMLParser


class Parts(HTMLParser):
    """Tags with their attributes, and the cells of tables by caption."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self._cell, self._caption = [], {}, None, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("caption", "td", "th"):
            self._cell = ""
        if tag == "tr" and self._caption:
            self.tables[self._caption].append([])

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self._caption = self._cell
            self.tables[self._caption] = []
        elif tag in ("td", "th"):
            self.tables[self._caption][-1].append(self._cell)
        if tag in ("caption", "td", "th"):
            self._cell = None
        if tag == "table":
            self._caption = None
