"""The studio's page in a browser without a graphics card: frames of the map, and clicks to text.

    python benchmarks/studio_page.py RUN    # a minute; results/studio_page.json

RUN is a text run with a latent on a built-in corpus, such as that of make demo. Its server and
the browser share the machine. The points are synthetic: ten clusters, coloured by cluster. A frame
redraws all points; the mouse drags the map all the time. A click is timed in the page, from the
release of the button to the frame after the decoded text appears: network, queue, model and page
together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from playwright.sync_api import Page, Route, sync_playwright

from common import write

COUNTS = (10_000, 100_000, 200_000)
SECONDS = 5.0
CLICKS = 30
PAINTED = """
window.painted = [];
for (const [kind, name] of [[CanvasRenderingContext2D, "putImageData"],
                            [WebGL2RenderingContext, "clear"]]) {
  const original = kind.prototype[name];
  kind.prototype[name] = function (...given) {
    window.painted.push(performance.now());
    return original.apply(this, given);
  };
}
window.shown = [];
addEventListener("pointerup", () => { window.pressed = performance.now(); }, true);
addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
  const text = changes.some(({ target }) => target.classList.contains("here-body")
    && target.querySelector(".item .text"));
  if (!text) return;
  requestAnimationFrame(() => setTimeout(() =>
    window.shown.push(performance.now() - window.pressed)));
}).observe(document.body, { childList: true, subtree: true }));
"""


@contextmanager
def studio(run: str) -> Iterator[str]:
    """The server of a run; yields its address."""
    words = [sys.executable, "-m", "isthmus", "studio", run, "--port", "0", "--no-browser"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("studio: http"):
                    yield line.split()[1]
                    return
            raise SystemExit("the server ended before it was ready")
        finally:
            process.terminate()


def answering(body: bytes) -> Callable[[Route], None]:
    """A handler that answers a request with these bytes."""
    return lambda route: route.fulfill(body=body)


def many_points(page: Page, count: int) -> None:
    """Show the page a map of `count` points."""
    generator = np.random.default_rng(0)
    cluster = generator.integers(0, 10, count)
    middles = generator.normal(0, 0.4, (10, 2))
    places = middles[cluster] + generator.normal(0, 0.1, (count, 2))
    places /= np.abs(places).max()
    colour = {"name": "cluster", "kind": "category", "names": [str(n) for n in range(10)]}
    about = {
        "count": count,
        "projections": {"pca": {"state": "ready", "done": count, "total": count}},
        "colours": [{**colour, "low": 0, "high": 9, "state": "ready"}],
    }
    bodies = {"**/api/map/points*": places, "**/api/map/colour*": cluster}
    for pattern, values in bodies.items():
        page.route(pattern, answering(values.astype("<f4").tobytes()))
    page.route("**/api/map", lambda route: route.fulfill(json=about))


def frames(page: Page, address: str, painter: str, count: int) -> dict[str, Any]:
    """Frames per second while the map is dragged back and forth."""
    page.add_init_script(PAINTED)
    many_points(page, count)
    page.goto(f"{address}?painter={painter}#map")
    page.locator(".legend .key").first.wait_for()
    box = page.locator(".stage").bounding_box()
    assert box is not None
    left, top = box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    page.evaluate("() => { window.painted.length = 0; }")
    begun = page.evaluate("() => performance.now()")
    forth = True
    while page.evaluate("() => performance.now()") - begun < 1000 * SECONDS:
        page.mouse.move(left + 300 * forth, top + 100 * forth, steps=60)
        forth = not forth
    ended, times = page.evaluate("() => [performance.now(), window.painted]")
    page.mouse.up()
    gaps = np.diff(times)
    return {
        "painter": painter,
        "points": count,
        "frames_per_second": round(1000 * len(times) / (ended - begun), 1),
        "slowest_frame_ms_95": round(float(np.quantile(gaps, 0.95)), 1),
        "frames": len(times),
        "canvas": [round(box["width"]), round(box["height"])],
    }


def clicks(page: Page, address: str) -> dict[str, Any]:
    """Milliseconds from a click on the map to the decoded text."""
    page.add_init_script(PAINTED)
    page.goto(f"{address}#map")
    page.locator(".legend > *").first.wait_for(timeout=120_000)
    page.locator(".map-state").wait_for(state="hidden", timeout=600_000)
    box = page.locator(".stage").bounding_box()
    assert box is not None
    generator = np.random.default_rng(0)
    for number in range(CLICKS + 3):
        across, down = generator.uniform(0.25, 0.75), generator.uniform(0.15, 0.45)
        page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
        while page.evaluate("() => window.shown.length") <= number:
            page.wait_for_timeout(20)
    page.wait_for_timeout(1000)
    times = page.evaluate("() => window.shown")
    assert len(times) == CLICKS + 3, "every click must give one text"
    times = times[3:]  # the first ones warm the model up
    return {
        "clicks": len(times),
        "median_ms": round(float(np.median(times)), 1),
        "percentile_95_ms": round(float(np.quantile(times, 0.95)), 1),
        "worst_ms": round(float(np.max(times)), 1),
    }


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/studio_page.py RUN")
    path = os.environ.get("ISTHMUS_CHROMIUM") or shutil.which("chromium")
    load = os.getloadavg()[0]
    with studio(sys.argv[1]) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        size = {"width": 1440, "height": 900}
        page = browser.new_page(viewport=size)
        clicked = clicks(page, address)
        page.close()
        print(json.dumps(clicked))
        found = []
        for painter, counts in {"canvas": COUNTS, "webgl": COUNTS[:2]}.items():
            for count in counts:
                page = browser.new_page(viewport=size)
                found.append(frames(page, address, painter, count))
                page.close()
                print(json.dumps(found[-1]))
        about = {"chromium": browser.version, "load_before": round(load, 1)}
        browser.close()
    write("studio_page", {**about, "panning": found, "click_to_text": clicked})


if __name__ == "__main__":
    main()
