"""What `make browser` does in Chromium. Runs in an environment of its own, with playwright."""

# pyright: basic, reportMissingImports=false

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

URL, PHRASE, AXE, FOLDER = (
    sys.argv[1],
    sys.argv[2],
    Path(sys.argv[3]) / "axe.min.js",
    Path(sys.argv[4]),
)
PAGES = (
    *(
        "/",
        "/secrets",
        "/secrets/secret-000001",
        "/secrets/secret-000003",
        "/calendar",
        "/consumers",
    ),
    *("/leases", "/incidents", "/requests", "/journal", "/journal?secret=secret-000003", "/report"),
    *("/secrets/secret-000003/request/rotate", "/secrets/secret-000003/request/kill", "/absent"),
)


def main() -> None:
    """Check every page; exit with 1 for any finding."""
    found: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in (360, 1280):
                found += look(browser, scheme, width)
        found += keyboard(browser)
        found += without_javascript(browser)
        browser.close()
    print(*(found or ["no findings"]), sep="\n")
    sys.exit(1 if found else 0)


def sign_in(page: object) -> None:
    """Sign in with the keyboard: the first field has the focus."""
    page.goto(f"{URL}/sign-in")
    page.locator("#name:focus").wait_for()
    page.keyboard.type("load")
    page.keyboard.press("Tab")
    page.keyboard.type(PHRASE)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{URL}/")


def look(browser: object, scheme: str, width: int) -> list[str]:
    """Return what axe, the width and the console of the browser find."""
    # axe is put into the page from outside, which its policy forbids to pages.
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page, found = context.new_page(), []
    page.on("pageerror", lambda error: found.append(f"{scheme} {width} error: {error}"))
    sign_in(page)
    count = 0
    for path in PAGES:
        page.goto(URL + path)
        page.add_script_tag(path=str(AXE))
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        count += 1
        for one in result["violations"]:
            where = ", ".join(str(node["target"]) for node in one["nodes"][:3])
            found.append(f"{scheme} {width} {path}: {one['impact']} {one['id']} at {where}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{scheme} {width} {path}: {wide} pixels wide")
    print(f"{scheme}, {width} px: {count} pages")
    context.close()
    return found


def keyboard(browser: object) -> list[str]:
    """Ask for a rotation with the keyboard alone, under the page's own policy; then see a step appear."""
    found: list[str] = []
    page = browser.new_context().new_page()
    page.on("console", lambda said: found.append(f"console: {said.text}"))
    sign_in(page)
    page.goto(f"{URL}/secrets/secret-000004/request/rotate")
    page.focus("#reason")
    page.keyboard.type("by the keyboard")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{URL}/requests")
    if "by the keyboard" not in page.content():
        found.append("the request is not listed")
    page.goto(f"{URL}/")
    page.wait_for_timeout(1_000)
    with sqlite3.connect(FOLDER / "rotator.db") as db:
        # A heartbeat's observation: the page says which process is alive.
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime())
        row = ("process", "boot/none/1/1/x", at, '{"name": "vm-web-test", "face": "daemon"}')
        db.execute("INSERT INTO observations (kind, subject, at, data) VALUES (?, ?, ?, ?)", row)
    begun = time.monotonic()
    try:
        page.get_by_text("vm-web-test").first.wait_for(timeout=6_000)
        print(f"on the screen after {time.monotonic() - begun:.1f} s")
    except Exception as error:  # noqa: BLE001 # reported like any finding
        found.append(f"the page does not follow: {type(error).__name__}")
    return found


def without_javascript(browser: object) -> list[str]:
    """Read without JavaScript."""
    page = browser.new_context(java_script_enabled=False).new_page()
    sign_in(page)
    missing = []
    for path in PAGES:
        page.goto(URL + path)
        if page.locator("main h1").count() != 1:
            missing.append(f"{path}: no heading without JavaScript")
    return missing


if __name__ == "__main__":
    main()
