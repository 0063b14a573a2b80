// A grid in metres for the close view.

/** The smallest of 1, 2 and 5 times a power of ten that is at least so many pixels wide. */
export function spacing(metresPerPixel, pixels = 90) {
  const least = metresPerPixel * pixels;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= least);
}

/** Metres of a degree of latitude and of longitude there (WGS 84, to a few metres). */
export function degree(latitude) {
  const angle = (latitude * Math.PI) / 180;
  return [
    111132.92 - 559.82 * Math.cos(2 * angle) + 1.175 * Math.cos(4 * angle),
    111412.84 * Math.cos(angle) - 93.5 * Math.cos(3 * angle),
  ];
}

/** The latitudes and longitudes of the lines within bounds; they stay where they are as the map is moved. */
export function lines({ south, north, west, east }, metres) {
  const [perLatitude, perLongitude] = degree(Math.round((south + north) / 2));
  const multiples = (from, to, step) => {
    const first = Math.ceil(from / step);
    const number = Math.max(0, Math.min(200, Math.floor(to / step) - first + 1));
    return Array.from({ length: number }, (_, n) => (first + n) * step);
  };
  return {
    latitudes: multiples(south, north, metres / perLatitude),
    longitudes: multiples(west, east, metres / perLongitude),
  };
}
