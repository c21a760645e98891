"""The report in a real browser: nothing fetched, nothing overflowing, every picture with words."""

import html
import json
import os
import re
import shutil
import subprocess

import pytest

from hiermodels.show.reporting import report_html

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    # Whatever asks for a host gets none.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
# The page stands in a frame of the width asked for, since a headless window has a least width of
# its own. The frame's content is of the same origin, so that it can be measured from outside.
WRAPPER = """<!DOCTYPE html><title>waiting</title><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:2000px" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const page = document.getElementById("page").contentDocument, root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(e => {{
    const box = e.getBoundingClientRect();
    return box.right > root.clientWidth + 1 && !e.closest(".scroll, .math");
  }});
  const asked = page.defaultView.performance.getEntriesByType("resource").map(e => e.name);
  document.title = JSON.stringify({{
    width: root.clientWidth,
    scroll: root.scrollWidth,
    wide: wide.slice(0, 5).map(e => e.outerHTML.slice(0, 80)),
    asked: asked.filter(name => !name.startsWith("data:")),
    images: [...page.images].map(i => [i.naturalWidth, i.alt.length]),
    vectors: page.querySelectorAll("svg:not([aria-label])").length,
  }});
}};
</script>"""


@pytest.fixture(scope="module")
def browser():
    named = os.environ.get("HIERMODELS_BROWSER")
    found = named or next((p for p in map(shutil.which, NAMES) if p), None)
    if found is None:
        pytest.skip(
            f"no browser found (looked for {', '.join(NAMES)}; HIERMODELS_BROWSER names one)"
        )
    return found


def measure(browser, folder, page, width):
    """Return what the browser says about a page in a frame of this width."""
    wrapper = folder / f"wrapper-{width}.html"
    wrapper.write_text(WRAPPER.format(width=width, page=html.escape(page)), encoding="utf-8")
    log = folder / f"net-{width}.json"
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command += [f"--window-size={max(width, 500)},2000", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stdout[:500]
    return json.loads(html.unescape(title.group(1))), log.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("case", ["sleep", pytest.param("nested", marks=pytest.mark.slow)])
def test_a_browser_shows_it_whole(browser, request, tmp_path, case, width):
    page = report_html(request.getfixturevalue(case))
    seen, log = measure(browser, tmp_path, page, width)
    assert seen["width"] in range(width - 20, width + 1)
    assert seen["scroll"] <= seen["width"]
    assert seen["wide"] == []
    assert seen["asked"] == []
    assert len(seen["images"]) >= 5
    assert all(natural > 300 and words > 60 for natural, words in seen["images"])
    assert seen["vectors"] == 0
    # The log holds each address that the browser opened, its own housekeeping included.
    opened = set(re.findall(r'"url":"((?:https?|wss?)://[^"]*)"', log))
    assert not {u for u in opened if "google" not in u and "gvt1" not in u}


def test_the_measure_sees_what_it_must_see(browser, tmp_path):
    """A page that overflows, asks for something and has a bare picture is found out."""
    bad = (
        "<!DOCTYPE html><div style='width:3000px'>wide</div>"
        "<img src='http://example.invalid/a.png'><svg></svg>"
    )
    seen, log = measure(browser, tmp_path, bad, 400)
    assert seen["scroll"] > seen["width"]
    assert seen["wide"]
    assert any("example.invalid" in name for name in seen["asked"])
    assert seen["vectors"] == 1
    assert [0, 0] in seen["images"]
    assert "http://example.invalid/a.png" in log
