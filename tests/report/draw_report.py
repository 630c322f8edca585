#!/usr/bin/env python3
"""Draw the picture of the README: the first user in the gallery of a report.

    .venv/bin/python -m tests.report.draw_report lake/demo/_reports/1998-03-01.html .github/demo-report.png

A browser takes the picture; 32 colours keep it small.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.report.browser import open_page

WIDTH, HEIGHT, SCALE = 1000, 610, 0.9
"""The piece of the page in CSS pixels from the top of the first user; pixels of the picture for each."""


def draw(page: Path, target: Path) -> None:
    """Write the picture of ``page``, a report, to ``target``, a PNG."""
    with tempfile.TemporaryDirectory() as profile, open_page(page.absolute(), Path(profile), WIDTH) as tab:
        top = tab.value("document.querySelector('#gallery article, #gallery > div').getBoundingClientRect().top")
        piece = {"x": 0, "y": top - 8, "width": WIDTH, "height": HEIGHT, "scale": SCALE}
        shot = tab.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=piece)
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.quantize(32).save(target, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
