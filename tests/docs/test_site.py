"""The site as it is built: opened from its folder, at the width of a desk and of a telephone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import Browser

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_BUILD_S = 900
MEASURE = """(() => {
  const root = document.documentElement;
  const scrolls = e => {
    for (let box = e; box; box = box.parentElement)
      if (/auto|scroll|hidden|clip/.test(getComputedStyle(box).overflowX) && box !== document.body
          && box !== root) return true;
    return false;
  };
  const wide = [...document.querySelectorAll("main *, footer *, header *")].filter(e => {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    return box.width && style.visibility !== "hidden" && style.position !== "fixed"
      && box.right > root.clientWidth + 1 && !scrolls(e);
  });
  return JSON.stringify({
    width: root.clientWidth,
    scroll: root.scrollWidth,
    wide: wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120)),
    images: [...document.images].map(i => [i.naturalWidth, i.alt.length, i.src]),
    headings: document.querySelectorAll("h1").length,
    language: root.lang,
    math: [...document.querySelectorAll("math")]
      .filter(m => !m.getBoundingClientRect().width).length,
  });
})()"""
SEARCH = """new Promise((resolve, reject) => {
  const field = document.querySelector("input[data-md-component=search-query]");
  document.getElementById("__search").click();
  field.focus();
  field.value = %s;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  field.dispatchEvent(new KeyboardEvent("keyup", {bubbles: true}));
  const began = Date.now();
  const look = () => {
    const found = [...document.querySelectorAll(".md-search-result__link")].map(a => a.href);
    if (found.length) resolve(JSON.stringify(found));
    else if (Date.now() - began > 60000) reject(new Error("nothing found"));
    else setTimeout(look, 200);
  };
  look();
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the built site: the one that HIERMODELS_SITE names, else one that is built here."""
    named = os.environ.get("HIERMODELS_SITE")
    if named:
        return Path(named).resolve()
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=LONGEST_BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    named = os.environ.get("HIERMODELS_BROWSER")
    found = named or next((p for p in map(shutil.which, NAMES) if p), None)
    if found is None:
        pytest.skip(
            f"no browser found (looked for {', '.join(NAMES)}; HIERMODELS_BROWSER names one)"
        )
    opened = Browser(found, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def pages(site):
    return sorted(path for path in site.rglob("*.html") if path.name != "404.html")


@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_is_whole(site, browser, width):
    wrong = {}
    for path in pages(site):
        browser.open(path, width)
        seen = json.loads(browser.value(MEASURE))
        outside = [a for a in browser.requests if not a.startswith(("file:", "data:"))]
        faults = {
            # A scroll bar takes some of the width of a desk's window.
            "width": seen["width"] not in range(width - 20, width + 1),
            "overflow": seen["scroll"] > seen["width"],
            "wide": seen["wide"],
            "asked": outside,
            "console": browser.complaints,
            "pictures": [i for i in seen["images"] if i[0] < 100 or i[1] < 40],
            "title": seen["headings"] != 1,
            "language": seen["language"] != "en",
            "formulas": seen["math"],
        }
        found = {name: fault for name, fault in faults.items() if fault}
        if found:
            wrong[path.relative_to(site).as_posix()] = found
    assert not wrong, json.dumps(wrong, indent=1)[:4000]


@pytest.mark.parametrize(
    ("page", "words", "wanted"),
    [
        ("index.html", "pooling factor", "pooling.html"),
        ("from/lme4.html", "separation nested crossed", "which-model.html"),
        ("reference/models.html", "target_accept", "reference/models.html"),
    ],
)
def test_the_search_finds(site, browser, page, words, wanted):
    browser.open(site / page, 1280)
    found = json.loads(browser.value(SEARCH % json.dumps(words)))
    assert any(f"/{wanted}" in link for link in found), found
    assert not [a for a in browser.requests if not a.startswith(("file:", "data:", "blob:"))]


def test_the_measure_sees_what_it_must_see(browser, tmp_path):
    """A page that overflows, asks for something, complains and has a bare picture is found out."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><main><div style='width:3000px'>wide</div>"
        "<img src='http://example.invalid/a.png'></main><script>undefined.x</script>",
        encoding="utf-8",
    )
    browser.open(bad, 390)
    seen = json.loads(browser.value(MEASURE))
    assert seen["scroll"] > 390
    assert seen["wide"]
    assert any("example.invalid" in address for address in browser.requests)
    assert any("TypeError" in said for said in browser.complaints)
    assert seen["images"][0][:2] == [0, 0]
    assert (seen["headings"], seen["language"]) == (0, "")
