/** The point under the cursor, and the points inside a lasso. */

const SIDE = 256;
const cell = (value) => Math.min(SIDE - 1, Math.max(0, ((value + 1) * SIDE) >> 1));

/** Points [N 2] in [−1, 1] sorted into cells of a grid. */
export class Grid {
  constructor(places) {
    this.places = places;
    const count = places.length / 2;
    const cells = new Uint32Array(count);
    this.starts = new Uint32Array(SIDE * SIDE + 1);
    for (let i = 0; i < count; i++) {
      cells[i] = cell(places[2 * i + 1]) * SIDE + cell(places[2 * i]);
      this.starts[cells[i] + 1]++;
    }
    for (let c = 0; c < SIDE * SIDE; c++) this.starts[c + 1] += this.starts[c];
    const next = this.starts.slice();
    this.members = new Uint32Array(count);
    for (let i = 0; i < count; i++) this.members[next[cells[i]]++] = i;
  }

  /** The nearest point within reach of a place; −1 for none. */
  nearest(x, y, reach) {
    let found = -1;
    let best = reach * reach;
    this.each(x - reach, y - reach, x + reach, y + reach, (i) => {
      const away = (this.places[2 * i] - x) ** 2 + (this.places[2 * i + 1] - y) ** 2;
      if (away < best) [found, best] = [i, away];
    });
    return found;
  }

  each(left, low, right, high, visit) {
    for (let row = cell(low); row <= cell(high); row++) {
      const from = this.starts[row * SIDE + cell(left)];
      const to = this.starts[row * SIDE + cell(right) + 1];
      for (let n = from; n < to; n++) visit(this.members[n]);
    }
  }

  /** Indices inside a polygon of places [[x, y] …], by the even-odd rule. */
  inside(polygon) {
    const xs = polygon.map(([x]) => x);
    const ys = polygon.map(([, y]) => y);
    const left = Math.min(...xs);
    const right = Math.max(...xs);
    const low = Math.min(...ys);
    const high = Math.max(...ys);
    const found = [];
    this.each(left, low, right, high, (i) => {
      const x = this.places[2 * i];
      const y = this.places[2 * i + 1];
      if (x < left || x > right || y < low || y > high) return;
      let odd = false;
      for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
        const crosses = ys[a] > y !== ys[b] > y;
        if (crosses && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) odd = !odd;
      }
      if (odd) found.push(i);
    });
    return Uint32Array.from(found).sort();
  }
}
