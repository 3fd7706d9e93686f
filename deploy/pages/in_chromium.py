"""What `make screenshots` does in Chromium. Runs in an environment of its own, with playwright."""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER, URL, USER = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
# Name, page, width, height, colors.
PICTURES = (
    ("console-now", "/", 1000, 640, "light"),
    ("console-secret", "/secrets/web", 1000, 900, "dark"),
    ("console-phone", "/secrets", 360, 640, "light"),
)


def main() -> None:
    """Sign in, and write each picture."""
    password = sys.stdin.read()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, path, width, height, colors in PICTURES:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=colors
            )
            page = context.new_page()
            page.goto(f"{URL}/sign-in")
            page.fill("#name", USER)
            page.fill("#password", password)
            page.keyboard.press("Enter")
            page.wait_for_url(f"{URL}/")
            page.goto(URL + path)
            page.screenshot(path=FOLDER / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
