"""Judges the operator's page in a browser; tests/daemon/page.rs runs it, each check on a daemon of its own.

    page.py CHECK --page http://HOST:PORT/ --nats nats://HOST:PORT [--sferic FILE] [--folder DIR]
                  [--seconds N]
    page.py write-streets FILE picture|vectors

Every check also holds that no request leaves the page's own origin, and that nothing is written to the
console.
"""

import argparse
import asyncio
import math
import os
import signal
import statistics
import sys
import threading
import time
from pathlib import Path

import msgpack
import numpy as np
from axe_playwright_python.sync_playwright import Axe

from page_browser import PATIENCE_S, TOKEN, Bus, browser_page, connected, fix, outcomes, project, wait_for
from page_files import check_exports, check_streets, write_streets

# A pixel of the layer of fixes within a pixel of a place that has the colour of the only source.
IS_DRAWN = """([x, y]) => {
  const canvas = document.querySelector("canvas.fixes");
  const ratio = canvas.width / canvas.clientWidth;
  const [left, top] = [x, y].map((at) => Math.round(at * ratio) - 1);
  const {data} = canvas.getContext("2d").getImageData(left, top, 3, 3);
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue, alpha] = data.slice(at, at + 4);
    if (alpha > 150 && red < 60 && green > 60 && green < 130 && blue > 130) return true;
  }
  return false;
}"""


def check_map(args, bus):
    """An ellipse lies where its GeoJSON says."""
    for latitude, longitude in [(45.01, 7.62), (-33.9, 151.2), (68.4, -17.3)]:
        read = outcomes(args.page, 1)
        bus.publish("north", fix("first", latitude, longitude))
        [outcome] = read()
        centre, ring = (each["coordinates"] for each in outcome["geojson"]["geometry"]["geometries"])
        [ring] = ring
        metres = outcome["ellipse"]["semi_major"]
        # So that it is some 150 pixels long.
        zoom = round(math.log2(150 * 40075016 * math.cos(math.radians(latitude)) / (256 * metres)))
        zoom = min(zoom, 19)
        with browser_page(args.page, color_scheme="light") as page:
            page.goto(f"{args.page}#map={zoom}/{centre[1]}/{centre[0]}")
            connected(page)
            size = page.evaluate(
                "(({clientWidth: x, clientHeight: y}) => [x, y])(document.getElementById('map'))"
            )
            bus.publish("north", fix("second", latitude, longitude, cache_enabled=False))
            middle = project(centre[1], centre[0])

            def pixel(place, stretched=1.0):
                at = project(place[1], place[0])
                return [half / 2 + (a - b) * 2**zoom * stretched for half, a, b in zip(size, at, middle)]

            wait_for("the fix", lambda: page.evaluate(IS_DRAWN, pixel(ring[0])))
            on = [page.evaluate(IS_DRAWN, pixel(place)) for place in ring]
            # A third of its size further out there is nothing, nor halfway to the middle.
            beside = [page.evaluate(IS_DRAWN, pixel(place, by)) for place in ring[::4] for by in (0.5, 1.3)]
            longest = max(math.dist(pixel(place), pixel(centre)) for place in ring)
            # The name of the source is written over some.
            assert (
                sum(on) >= 60
            ), f"{on.count(False)} of {len(on)} points of the outline are not drawn at zoom {zoom}"
            assert not any(beside), f"{beside.count(True)} points beside the outline are drawn"
            assert page.evaluate(IS_DRAWN, pixel(centre)), "the middle is not drawn"
            assert longest > 30, longest
            assert "ellipses hold 68 %" in page.inner_text("#legend")
            # One click on the fix shows it.
            box = page.locator("#map").bounding_box()
            page.mouse.click(box["x"] + size[0] / 2, box["y"] + size[1] / 2)
            page.wait_for_selector("#details:not([hidden])")
            assert "second" in page.inner_text("#details") and "inference" in page.inner_text("#details")


def welch(samples, bins=1024):
    """What a row states: the mean of segments that overlap by half, dBFS, in rising frequency."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(bins) / bins)
    starts = range(0, len(samples) - bins + 1, bins // 2)
    powers = [np.abs(np.fft.fft(samples[start : start + bins] * window)) ** 2 for start in starts]
    return np.fft.fftshift(10 * np.log10(np.mean(powers, axis=0) / window.sum() ** 2))


# The colours of the newest row, as levels in dB of the scale in which they were drawn.
NEWEST_ROW = """async () => {
  const {COLORS} = await import("/page/waterfall.js");
  const canvas = document.getElementById("rows");
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1);
  const low = Number(canvas.dataset.low), high = Number(canvas.dataset.high);
  const level = new Map(COLORS.map((color, at) => [color.join(), low + (high - low) * at / 255]));
  const color = (at) => data.slice(4 * at, 4 * at + 3).join();
  const levels = Array.from({length: canvas.width}, (_, at) => level.get(color(at)));
  return {levels, low, high};
}"""


def check_waterfall(args, bus):
    """A row equals the spectrum, and nothing is computed while nobody looks."""
    random = np.random.default_rng(7)
    length = 8192
    tone = 0.3 * np.exp(2j * np.pi * 0.1731 * np.arange(length))
    noise = 0.01 * (random.standard_normal(length) + 1j * random.standard_normal(length))
    samples = (tone + noise).astype("<c8")
    frame = {"samples": samples.tobytes(), "datatype": "cf32_le", "sample_rate": 2e6, "frequency": 433e6}
    with browser_page(args.page) as page:
        page.goto(args.page)
        connected(page)
        sent = 0

        def is_seen():
            nonlocal sent
            sent += 1
            bus.publish("north", {**frame, "frame_id": str(sent)})
            return page.evaluate("document.getElementById('rows').dataset.high !== undefined")

        wait_for("a row", is_seen)
        # The scale comes to rest.
        for _ in range(30):
            is_seen()
            time.sleep(0.06)
        time.sleep(0.5)
        row = page.evaluate(NEWEST_ROW)
        assert row["levels"] and None not in row["levels"], "a colour is not of the scale"
        shown, expected = np.array(row["levels"]), welch(samples)
        # Half a step of the colours, half a step of the event.
        within = (row["high"] - row["low"]) / 255 / 2 + 0.25 + 0.02
        off = np.abs(shown - np.clip(expected, row["low"], row["high"])).max()
        assert off <= within, f"off by {off} dB, {within} are allowed"
        assert abs(shown.argmax() - (512 + 0.1731 * 1024)) < 1 and shown.max() > -13, shown.max()
        labels = page.locator("#frequencies span").all_inner_texts()
        assert labels[0] == "432.0000 MHz" and labels[2] == "433.0000 MHz", labels
        # A row keeps its own frequencies, whatever the receiver is tuned to later.
        for n in range(3):
            bus.publish("north", {**frame, "frame_id": f"retuned-{n}", "frequency": 868e6})
            time.sleep(0.06)
        labels = page.locator("#frequencies span")
        wait_for("the other centre", lambda: labels.nth(2).inner_text() == "868.0000 MHz")
        box = page.locator("#rows").bounding_box()
        for rows, megahertz in [(1, 868), (6, 433)]:
            page.mouse.move(box["x"] + box["width"] / 2 + 1, box["y"] + (rows + 0.5) * box["height"] / 200)
            assert page.inner_text("#waterfall-readout").startswith(f"{megahertz}.00"), rows
        # Out of sight it is not asked for.
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_viewport_size({"width": 1440, "height": 300})
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        time.sleep(1)
        page.evaluate("window.scrollTo(0, 0)")
        page.set_viewport_size({"width": 1440, "height": 1000})
        wait_for("that it is asked for again", lambda: any("waterfall" in url for url in asked))


def check_looks(args, bus):
    """Accessible in both themes and on a phone, and with the keyboard alone."""
    axe = Axe()
    for n in range(5):
        bus.publish(
            "north.rx1",
            fix(f"looks-{n}", 45 + n / 100, 7.6, geolocation={"type": "Point", "coordinates": [7.5, 45]}),
        )
    bus.publish("south.rx2", {"frame_id": "bad", "samples": b"", "datatype": "ci8"})

    def accessible(page, what):
        found = axe.run(
            page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
        )
        assert found.violations_count == 0, f"{what}: {found.generate_report()}"

    for scheme in ["light", "dark"]:
        for width in [1440, 360]:
            with browser_page(
                args.page, color_scheme=scheme, viewport={"width": width, "height": 900}
            ) as page:
                page.goto(args.page)
                connected(page)
                bus.publish(
                    "north.rx1", fix("seen", 45, 7.6, geolocation={"type": "Point", "coordinates": [7.5, 45]})
                )
                bus.publish("south.rx2", {"frame_id": "bad", "samples": b"", "datatype": "ci8"})
                page.wait_for_selector("#rows-of-outcomes tr.failed:not([hidden])")
                accessible(page, f"{scheme}, {width}")
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{wide} pixels on a screen of {width}"
                page.locator("#rows-of-outcomes .open").first.click()
                page.wait_for_selector("#details:not([hidden])")
                accessible(page, f"{scheme}, {width}, details")
                page.click("#help")
                accessible(page, f"{scheme}, {width}, dialog")

    with browser_page(args.page) as page:
        page.goto(args.page)
        connected(page)
        bus.publish("north.rx1", fix("one", 45, 7.6))
        bus.publish("north.rx1", fix("two", 45, 7.6))
        wait_for("both", lambda: page.locator("#rows-of-outcomes tr:not([hidden])").count() >= 2)
        focus = "document.activeElement.closest('tr')?.rowIndex"
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert page.evaluate(focus) == 2
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        page.wait_for_selector("#details:not([hidden])")
        page.keyboard.press("Escape")
        page.wait_for_selector("#details", state="hidden")
        page.keyboard.press("/")
        page.keyboard.type("two")
        wait_for("the search", lambda: page.locator("#rows-of-outcomes tr:not([hidden])").count() == 1)
        page.keyboard.press("Tab")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.keyboard.press("t")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        page.keyboard.press("?")
        assert page.evaluate("document.getElementById('dialog').open")


def check_control(args, bus):
    """Only who has the token sees anything and may act."""
    with browser_page(args.page, strange_statuses=[401]) as page:
        page.goto(args.page)
        page.wait_for_selector("#dialog[open] input[name=token]")
        assert page.locator("#rows-of-outcomes tr:not([hidden])").count() == 0
        for token, state in [("wrong", "unauthorized"), (TOKEN, "ok")]:
            page.wait_for_selector("#dialog[open] input[name=token]")
            page.fill("#dialog input[name=token]", token)
            page.click("#dialog button[type=submit]")
            page.wait_for_selector(f'#status[data-state="{state}"]')
        page.click('#models button:has-text("Circuit")')
        page.select_option("#dialog select[name=force]", "open")
        page.click("#dialog button[type=submit]")
        page.wait_for_selector('#dialog p[role=status]:has-text("done")')
        page.click("#dialog .close")
        page.wait_for_selector('#models td:has-text("open")')
        page.click('#models button:has-text("Reload")')
        page.click("#dialog button[type=submit]")
        page.wait_for_selector('#dialog p[role=status]:has-text("done")')


def check_frozen(args, bus):
    """A daemon that says nothing any more is not shown as well."""
    with browser_page(args.page, strange_statuses=["ERR"]) as page:
        page.goto(args.page)
        connected(page)
        os.kill(args.pid, signal.SIGSTOP)
        try:
            page.wait_for_selector('#status:not([data-state="ok"])', timeout=15_000)
            assert page.evaluate("document.body.classList.contains('stale')")
        finally:
            os.kill(args.pid, signal.SIGCONT)
        connected(page)
        assert not page.evaluate("document.body.classList.contains('stale')")


def check_flow(args, bus):
    """A hundred fixes a second for a while: the heap stays flat, and the page goes on being drawn."""
    with browser_page(args.page) as page:
        page.goto(args.page)
        connected(page)
        stop = threading.Event()
        sent = 0

        async def send():
            nonlocal sent
            begun = time.monotonic()
            while not stop.is_set():
                source, turn = sent % 10, sent / 200
                place = (45 + 0.05 * math.sin(turn + source), 7.6 + 0.05 * math.cos(turn + source))
                frame = fix(f"flow-{sent}", *place, seq=sent // 10)
                await bus.client.publish(f"iq.frames.flow.rx{source}", msgpack.packb(frame))
                sent += 1
                await asyncio.sleep(max(0, begun + sent / 100 - time.monotonic()))

        sending = asyncio.run_coroutine_threadsafe(send(), bus.loop)
        session = page.context.new_cdp_session(page)

        def heap():
            session.send("HeapProfiler.collectGarbage")
            return session.send("Runtime.getHeapUsage")["usedSize"]

        # Until its memory of outcomes is full: a thousand and some.
        time.sleep(min(20, args.seconds / 3))
        first = heap()
        page.evaluate("""() => {
          window.intervals = [];
          let last = performance.now();
          const frame = (now) => {
            window.intervals?.push(now - last);
            last = now;
            requestAnimationFrame(frame);
          };
          requestAnimationFrame(frame);
        }""")
        begun = time.monotonic()
        at_begin = sent
        time.sleep(args.seconds)
        rate = (sent - at_begin) / (time.monotonic() - begun)
        intervals = page.evaluate("window.intervals")
        page.evaluate("window.intervals = null")
        last = heap()
        stop.set()
        sending.result(PATIENCE_S)
        # The newest one is seen, and none was too many.
        wait_for(
            "the last fix",
            lambda: page.evaluate("document.querySelector('#rows-of-outcomes td.result').textContent !== ''"),
        )
        page.fill("#filters input", f"flow-{sent - 1}")
        wait_for("the last fix", lambda: page.locator("#rows-of-outcomes tr:not([hidden])").count() == 1)
        shown = page.inner_text("#shown")
        median, longest = statistics.median(intervals), max(intervals)
        figures = (
            f"{rate:.1f} fixes/s for {args.seconds} s; heap {first / 1e6:.1f} to {last / 1e6:.1f} MB; "
            f"frame interval median {median:.1f} ms, longest {longest:.0f} ms"
        )
        print(figures)
        assert rate > 95, figures
        assert median <= 50 and longest <= 1000, figures
        assert last <= first + max(2e6, 0.1 * first), figures
        assert "too slow" not in shown, shown


def check_pictures(args, bus):
    """Scenes of `sferic demo --page`, looked at in both themes and on a phone."""
    folder = Path(args.folder)
    for name, options in {
        "page.png": {"color_scheme": "light", "viewport": {"width": 1440, "height": 1010}},
        "page-dark.png": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 1010}},
        "page-phone.png": {"color_scheme": "light", "viewport": {"width": 390, "height": 1200}},
    }.items():
        with browser_page(args.page, **options) as page:
            page.goto(args.page)
            connected(page)
            wait_for("fixes", lambda: "ellipses hold 68 %" in page.inner_text("#legend"))
            wait_for(
                "receivers",
                lambda: page.evaluate("document.querySelectorAll('#waterfall-source option').length >= 4"),
            )
            wait_for(
                "a row", lambda: page.evaluate("document.getElementById('rows').dataset.high !== undefined")
            )
            time.sleep(args.seconds if "phone" not in name else 3)
            page.click("#fit")
            if name == "page.png":
                page.locator("#rows-of-outcomes tr:has-text('demo.scene') .open").first.click()
                page.evaluate("window.scrollTo(0, 0)")
            time.sleep(0.5)
            page.screenshot(path=folder / name)
            assert (folder / name).stat().st_size > 50_000


CHECKS = {
    "map": check_map,
    "waterfall": check_waterfall,
    "looks": check_looks,
    "exports": check_exports,
    "control": check_control,
    "streets": check_streets,
    "frozen": check_frozen,
    "flow": check_flow,
    "pictures": check_pictures,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--page", required=True)
    parser.add_argument("--nats")
    parser.add_argument("--sferic")
    parser.add_argument("--folder")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    bus = Bus(args.nats) if args.nats else None
    CHECKS[args.check](args, bus)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write-streets"]:
        write_streets(sys.argv[2], sys.argv[3])
    else:
        main()
