// The map: the outlines of countries, streets where there are some, and the fixes.

import { byId, h, setText } from "./dom.js";
import { FixLayer } from "./fixes.js";
import { percent } from "./format.js";
import { authorization } from "./stream.js";

const WORLD = [
  [-60, -170],
  [75, 170],
];

/** Closer than this the outlines of countries mean nothing. */
const CLOSEST = 19;

/** Loads a script of the page. */
function loadScript(path) {
  return new Promise((resolve, reject) => {
    document.head.append(h("script", { src: path, onload: resolve, onerror: reject }));
  });
}

/** A country whose outline crosses the antimeridian, drawn on both sides of the map and not across it. */
function unwrapped(feature) {
  const { type, coordinates } = feature.geometry;
  const polygons = type === "Polygon" ? [coordinates] : coordinates;
  const all = polygons.flatMap((rings) => {
    let hasMoved = false;
    const moved = rings.map((ring) => {
      let turns = 0;
      let last = ring[0][0];
      const places = ring.map(([longitude, latitude]) => {
        turns += longitude - last > 180 ? -1 : longitude - last < -180 ? 1 : 0;
        last = longitude;
        return [longitude + 360 * turns, latitude];
      });
      // One that goes round a pole stays as it is.
      if (turns !== 0 || places.every(([longitude], at) => longitude === ring[at][0])) return ring;
      hasMoved = true;
      return places;
    });
    const aside = (by) =>
      moved.map((ring) => ring.map(([longitude, latitude]) => [longitude + by, latitude]));
    return hasMoved ? [moved, aside(360), aside(-360)] : [rings];
  });
  return { ...feature, geometry: { type: "MultiPolygon", coordinates: all } };
}

/** The view in the address, `#map=ZOOM/LATITUDE/LONGITUDE`. */
function viewOfAddress() {
  const [zoom, latitude, longitude] = (location.hash.match(/map=([^&]+)/)?.[1] ?? "").split("/").map(Number);
  return [zoom, latitude, longitude].every(Number.isFinite) ? { zoom, at: [latitude, longitude] } : null;
}

export class MapPanel {
  constructor(store, onSelect) {
    this.store = store;
    const map = L.map("map", {
      zoomAnimation: false,
      fadeAnimation: false,
      attributionControl: false,
      maxZoom: CLOSEST,
      minZoom: 1,
      maxBounds: [
        [-89, -200],
        [89, 200],
      ],
      preferCanvas: true,
    });
    this.map = map;
    const view = viewOfAddress();
    this.isPlaced = view !== null;
    if (view) map.setView(view.at, view.zoom);
    else map.fitBounds(WORLD);
    L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
    this.countries = L.geoJSON(null, { interactive: false, style: () => this.#countryStyle() }).addTo(map);
    this.#loadCountries();
    this.fixes = new FixLayer(store, onSelect).addTo(map);
    map.on("moveend", () => {
      const { lat, lng } = map.getCenter();
      history.replaceState(null, "", `#map=${map.getZoom()}/${lat.toFixed(5)}/${lng.toFixed(5)}`);
      this.draw();
    });
    byId("fit").addEventListener("click", () => this.fit());
    byId("window").addEventListener("change", ({ target }) => {
      this.fixes.window = Number(target.value);
      this.draw();
    });
    new ResizeObserver(() => map.invalidateSize({ animate: false })).observe(byId("map"));
    store.subscribe(150, () => this.update());
    // Ages grow, whether or not something arrives.
    setInterval(() => this.draw(), 1000);
  }

  #countryStyle() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { color: of("--border"), fillColor: of("--land"), fillOpacity: 1, weight: 0.8 };
  }

  async #loadCountries() {
    const atlas = await (await fetch("/page/vendor/countries-50m.json")).json();
    const { features } = topojson.feature(atlas, atlas.objects.countries);
    this.countries.addData({ type: "FeatureCollection", features: features.map(unwrapped) });
  }

  /** Adds the streets, once events may be read: the file needs the token, too. */
  async showBasemap() {
    const path = document.documentElement.dataset.basemap;
    if (!path || this.basemap) return;
    this.basemap = true;
    await Promise.all([
      loadScript("/page/vendor/pmtiles.js"),
      loadScript("/page/vendor/protomaps-leaflet.js"),
    ]);
    const url = new URL(path, location.href).href;
    const archive = new pmtiles.PMTiles(new pmtiles.FetchSource(url, new Headers(authorization())));
    const { tileType, maxZoom } = await archive.getHeader();
    this.#streets = () =>
      tileType === 1
        ? protomapsL.leafletLayer({
            url: archive,
            flavor: isDark() ? "dark" : "light",
            lang: "en",
            maxDataZoom: maxZoom,
          })
        : pmtiles.leafletRasterLayer(archive, { maxNativeZoom: maxZoom, maxZoom: CLOSEST });
    this.restyle();
  }

  #streets = null;

  /** Draws in the colours of the theme. */
  restyle() {
    this.countries.setStyle(this.#countryStyle());
    this.streets?.remove();
    this.streets = this.#streets?.().addTo(this.map);
    this.draw();
  }

  update() {
    if (!this.isPlaced && this.store.fixes.length > 0) this.fit();
    this.draw();
  }

  draw() {
    if (document.hidden) return;
    this.fixes.draw();
    const shares = new Set(this.fixes.drawn.map((kept) => kept.place.share).filter((share) => share != null));
    const grid = this.fixes.gridMetres;
    const grids = grid == null ? "" : `, grid ${grid >= 1000 ? `${grid / 1000} km` : `${grid} m`}`;
    const held = [...shares].map(percent).join(", ");
    setText(byId("legend"), held ? `ellipses hold ${held}${grids}` : "no fixes in this time");
  }

  /** Shows every fix and receiver. */
  fit() {
    const points = this.fixes.fixes().map((kept) => [kept.place.at[1], kept.place.at[0]]);
    for (const { receiver } of this.store.sources.values()) {
      if (receiver) points.push([receiver[1], receiver[0]]);
    }
    if (points.length === 0) return;
    this.isPlaced = true;
    const bounds = L.latLngBounds(points).pad(0.3);
    this.map.fitBounds(bounds, { maxZoom: 14 });
  }
}

export function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
