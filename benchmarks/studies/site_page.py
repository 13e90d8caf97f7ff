"""How fast the pages of a gallery of 20,000 tiles are built, opened, scrolled and sorted, and what memory they take.

    python -m benchmarks.studies.site_page [--repeats 5] [--keep FOLDER]

The tiles are small PNG files of smooth colours: half of them in one layer of 5,000 units, half in ten layers of 500.
Each page is opened from disk, each time by a new headless Chromium. Its first view is there when every image inside the
window is loaded; the seconds count from the start of the navigation. The memory is the private memory of the whole
renderer process, from /proc: the heap of JavaScript, the DOM, styles, layout, and decoded pictures. The heap and the
number of DOM nodes are also given, as Chromium reports them. A page is then scrolled to its end, 600 pixels a frame,
and a layer is sorted by its script.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, Playwright, sync_playwright

import featureviz as fv
from benchmarks.harness.record import describe_machine, write_result
from benchmarks.studies.made_gallery import draw_picture, fill_gallery, make_plan
from featureviz.gallery.planning.choosing import Group

LIMITS = {"seconds": 1.5, "megabytes": 150.0}
QUIET = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
WIDE = Group("channel", "wide", "Linear", 5000, (5000,))
GROUPS = [WIDE, *(Group("channel", f"layers.{i}", "Conv2d", 500, (500, 14, 14)) for i in range(10))]
PAGES = {
    "overview": "index.html", "layer of 500 units": "layers/channel-layers.3-*.html",
    "layer of 5,000 units": "layers/channel-wide-*.html", "unit": "units/channel-layers.3-7-*.html",
}  # fmt: skip
WATCH = """
(() => {
  const look = () => {
    if (document.readyState !== "loading") {
      let count = 0;
      for (const image of document.images) {
        const box = image.getBoundingClientRect();
        if (box.top >= innerHeight) break;
        if (!image.complete || !image.naturalWidth) return requestAnimationFrame(look);
        count++;
      }
      if (count) return void (window.firstView = performance.now(), window.inView = count, window.told?.());
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""
SCROLL = """
async () => {
  const frames = [];
  let last = performance.now();
  const frame = () => new Promise(requestAnimationFrame);
  for (let y = 0; y < document.documentElement.scrollHeight - innerHeight && frames.length < 3000; y += 600) {
    scrollTo({ top: y, behavior: "instant" });
    await frame();
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames;
}
"""
SORT = """
async () => {
  const select = document.querySelector("[name=sort]"), start = performance.now();
  select.value = "excites";
  select.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return (performance.now() - start) / 1000;
}
"""


def measure_page(playwright: Playwright, address: str) -> dict[str, float]:
    """Open a page in a new browser; its figures in seconds and megabytes."""
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH)
        page.goto(address, wait_until="commit")
        page.evaluate("new Promise(done => { window.told = done; window.firstView && done(); })")
        processes, session = browser.new_browser_cdp_session(), page.context.new_cdp_session(page)
        session.send("Performance.enable")
        found = {
            "first view, seconds": page.evaluate("firstView") / 1000, "images in view": page.evaluate("inView"),
            **_read_memory(processes, session),
        }  # fmt: skip
        return found | _use(page) | {"megabytes after scrolling": _read_memory(processes, session)["megabytes"]}
    finally:
        browser.close()


def _use(page: Page) -> dict[str, float]:
    """Scroll a page to its end; sort it if it is a layer's."""
    frames = page.evaluate(SCROLL)
    found: dict[str, float] = {"frames": len(frames)}
    if len(frames) > 1:
        found["frame, ms"], found["frame at the 95th percentile, ms"] = statistics.quantiles(frames, n=20)[9::9]
    if page.locator("[name=sort]").count():
        found["sorting, seconds"] = page.evaluate(SORT)
    return found


def _read_memory(processes: CDPSession, session: CDPSession) -> dict[str, float]:
    """Private memory of the renderer that holds the page, which is the largest one."""
    listed = processes.send("SystemInfo.getProcessInfo")["processInfo"]
    private = max(_read_private(process["id"]) for process in listed if process["type"] == "renderer")
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    return {
        "megabytes": private / 1e6, "heap of JavaScript, megabytes": metrics["JSHeapUsedSize"] / 1e6,
        "DOM nodes": metrics["Nodes"],
    }  # fmt: skip


def _read_private(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def read_version() -> str:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        try:
            return browser.version
        finally:
            browser.close()


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock, and seconds of the processor, which other work on the machine does not lengthen."""
    started, computed = time.perf_counter(), time.process_time()
    work()
    return {"seconds": round(time.perf_counter() - started, 2), "cpu": round(time.process_time() - computed, 2)}


def measure_site(folder: Path, repeats: int) -> dict[str, Any]:
    pictures = [draw_picture(i, size=64) for i in range(200)]
    plan = make_plan(GROUPS, WIDE.count, model="Wide")
    fill_gallery(folder, plan, draw=lambda i: pictures[i % len(pictures)])
    result: dict[str, Any] = {"tiles": len(plan), "limits": LIMITS, "chromium": read_version()}
    result["building"] = timed(lambda: fv.gallery.build_site(folder))
    result["files"] = sum(1 for path in folder.rglob("*.html"))
    with sync_playwright() as playwright:
        for name, pattern in PAGES.items():
            (path,) = folder.glob(pattern)
            runs = [measure_page(playwright, path.as_uri()) for _ in range(repeats)]
            result[name] = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
            result[name]["slowest first view, seconds"] = round(max(run["first view, seconds"] for run in runs), 3)
            print(name, result[name], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="how often each page is opened (default: 5)")
    parser.add_argument("--keep", type=Path, help="write the gallery to this folder and leave it there")
    args = parser.parse_args()
    machine = describe_machine(threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure_site(args.keep or Path(scratch, "gallery"), args.repeats)
    print(f"{result['tiles']:,} tiles: {result['files']:,} pages built in {result['building']}")
    print(write_result("site_page", result, measured=machine))


if __name__ == "__main__":
    main()
