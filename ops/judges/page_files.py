"""Checks of the operator's page that are about files: what it exports, and the streets it shows."""

import csv
import difflib
import json
import struct
import subprocess
import time
import zlib
from pathlib import Path

from page_browser import PATIENCE_S, TOKEN, browser_page, connected, fix, outcomes, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


def check_exports(args, bus):
    """What is exported is what `sferic watch` prints, and what its formats ask for."""
    frames = [
        (
            "north.rx1",
            fix(
                "e1", 45.01, 7.62, seq=1, frequency=868.3e6, session_id="s,1", datetime="2026-11-25T05:00:00Z"
            ),
        ),
        ("north.rx1", fix("e2", -33.25, 151.0, seq=2)),
        ("=cmd.rx2", fix("e3", 10.5, 179.9999, seq=3)),
        ("south.rx2", {"frame_id": "e4", "samples": b"", "datatype": "ci8"}),
    ]

    def watch(*arguments):
        command = [args.sferic, "watch", "--url", args.nats, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "listening" in process.stderr.readline()
        return process

    with browser_page(args.page) as page:
        page.goto(args.page)
        connected(page)
        read = outcomes(args.page, len(frames))
        watching = {"csv": watch("--csv", "--count", "4"), "cot": watch("--cot", "--count", "3")}
        time.sleep(0.3)
        for source, frame in frames:
            bus.publish(source, frame)
            # One after the other, so that they end in their order.
            page.get_by_role("button").first.wait_for()
            time.sleep(0.1)
        events = read()
        printed = {
            kind: process.communicate(timeout=PATIENCE_S)[0].splitlines()
            for kind, process in watching.items()
        }
        wait_for("all four", lambda: page.locator("#rows-of-outcomes tr:not([hidden])").count() == 4)

        def exported(kind):
            with page.expect_download() as downloading:
                page.select_option("#export", kind)
            return Path(downloading.value.path()).read_text()

        def cells(lines):
            """Numbers by what they are: JavaScript writes a whole one without its decimal."""
            return [[number(cell) for cell in row] for row in csv.reader(lines)]

        def number(cell):
            try:
                return float(cell)
            except ValueError:
                return cell

        assert cells(exported("csv").splitlines()) == cells(printed["csv"]), (exported("csv"), printed["csv"])
        found = [line for line in exported("cot").splitlines() if line.startswith("<event ")]
        assert found == printed["cot"], "\n".join(difflib.unified_diff(printed["cot"], found))
        collection = json.loads(exported("geojson"))
        expected = [event["geojson"]["geometry"] for event in events if "geojson" in event]
        assert [feature["geometry"] for feature in collection["features"]] == expected and len(expected) == 3
        assert collection["features"][0]["properties"]["frame_id"] == "e1"
        recording = json.loads(exported("sigmf"))
        assert [each["sferic:outcome"]["frame_id"] for each in recording["annotations"]] == [
            "e1",
            "e2",
            "e3",
            "e4",
        ]
        judge = ROOT / ".tools/judges/sigmf/bin/python"
        program = "import json, sys, sigmf; sigmf.SigMFFile(metadata=json.load(sys.stdin)).validate()"
        judged = subprocess.run(
            [judge, "-c", program], input=json.dumps(recording), text=True, capture_output=True
        )
        assert judged.returncode == 0, judged.stderr
        # What is filtered is what is exported.
        page.select_option('#filters select[name="code"]', "failures")
        wait_for("the filter", lambda: page.locator("#rows-of-outcomes tr:not([hidden])").count() == 1)
        assert len(exported("csv").splitlines()) == 2


def png(color):
    """A picture of one colour, 256 pixels wide."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 256, 256, 8, 2, 0, 0, 0)
    rows = zlib.compress(256 * (b"\0" + 256 * bytes(color)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_streets(path, kind):
    """A map of the world of one tile: a picture, or a polygon of land."""
    import mapbox_vector_tile
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import Writer

    if kind == "picture":
        tile, tile_type = png([250, 0, 250]), TileType.PNG
    else:
        square = "POLYGON((0 0, 1024 0, 1024 4096, 0 4096, 0 0))"
        land = {"name": "earth", "features": [{"geometry": square, "properties": {"kind": "earth"}}]}
        tile, tile_type = mapbox_vector_tile.encode([land]), TileType.MVT
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.write_tile(zxy_to_tileid(0, 0, 0), tile)
        bounds = {
            "min_lon_e7": -1800000000,
            "min_lat_e7": -850000000,
            "max_lon_e7": 1800000000,
            "max_lat_e7": 850000000,
        }
        header = {
            "tile_type": tile_type,
            "tile_compression": Compression.NONE,
            "center_zoom": 0,
            "center_lon_e7": 0,
            "center_lat_e7": 0,
            "min_zoom": 0,
            "max_zoom": 0,
            **bounds,
        }
        writer.finalize(header, {})


# The colours of the left and the right half of each tile that is drawn.
TILES = """() => [...document.querySelectorAll("canvas.leaflet-tile, img.leaflet-tile")].flatMap((tile) => {
  if (!(tile.naturalWidth ?? tile.width)) return [];
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 256;
  const context = canvas.getContext("2d");
  context.drawImage(tile, 0, 0, 256, 256);
  const colors = [60, 200].map((x) => [...context.getImageData(x, 128, 1, 1).data]);
  return colors.every((color) => color[3] === 255) ? [colors.map((color) => color.slice(0, 3))] : [];
})"""


def check_streets(args, bus):
    """Pictures and vectors of `page.basemap` are drawn; the file is asked for in parts, with the token."""
    kind = Path(args.folder).name
    with browser_page(args.page, strange_statuses=[401], color_scheme="light") as page:
        page.goto(f"{args.page}#map=1/0/0")
        page.fill("#dialog input[name=token]", TOKEN)
        page.click("#dialog button[type=submit]")
        connected(page)
        # A picture is drawn twice as large, vectors anew: a quarter of the one tile in each of four.
        least = 1 if kind == "picture" else 4
        tiles = wait_for(
            "tiles", lambda: (lambda tiles: tiles if len(tiles) >= least else None)(page.evaluate(TILES))
        )
        if kind == "picture":
            assert all(tile == [[250, 0, 250]] * 2 for tile in tiles), tiles
        else:
            [(land, sea)] = {(tuple(left), tuple(right)) for left, right in tiles if left != right}
            assert land != sea and [list(sea)] * 2 in tiles, tiles
