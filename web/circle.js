// The circle of Cursor on Target.

const DIRECTIONS = 360;

/**
 * The radius of the circle that holds a two-dimensional normal variable with these sigmas with a probability
 * of `covered`. In the frame where both sigmas are 1, the point at distance ρ in the direction φ is at
 * ρ·g(φ) with g² = (a cos φ)² + (b sin φ)², and ρ has Rayleigh's distribution, so the probability within r is
 * 1 − mean over φ of exp(−r² / 2g²). As `sferic watch --cot` has it.
 */
export function circleRadius(a, b, covered = 0.95) {
  if (![a, b].every((sigma) => Number.isFinite(sigma) && sigma >= 0)) return null;
  const stretched = Array.from({ length: DIRECTIONS }, (_, n) => {
    const angle = (2 * Math.PI * n) / DIRECTIONS;
    return (a * Math.cos(angle)) ** 2 + (b * Math.sin(angle)) ** 2;
  });
  const within = (radius) => {
    const outside = (g2) => (g2 === 0 ? 0 : Math.exp((-0.5 * radius * radius) / g2));
    return 1 - stretched.map(outside).reduce((sum, each) => sum + each, 0) / DIRECTIONS;
  };
  let low = 0;
  let high = Math.sqrt(-2 * Math.log(1 - covered)) * Math.max(a, b);
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (within(middle) < covered) low = middle;
    else high = middle;
  }
  return high;
}
