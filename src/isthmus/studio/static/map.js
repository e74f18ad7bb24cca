/** The map: every text of the corpus as a point, and what the panels draw over it. */

import { floats, get, post } from "./api.js";
import { paint } from "./colours.js";
import { h, s, settled, still } from "./dom.js";
import { Grid } from "./nearest.js";
import { diameter, painter } from "./points.js";
import { recall, remember } from "./state.js";

const CLOSEST = 400; // how many times nearer than the whole map

export class SpaceMap extends EventTarget {
  constructor() {
    super();
    this.canvas = h("canvas", { class: "points" });
    this.overlay = s("svg", { class: "overlay", "aria-hidden": "true" });
    this.stage = h("div", {
      class: "stage", tabindex: "0", role: "application", "aria-roledescription": "map",
      "aria-label": "Map of the texts. Arrow keys move, plus and minus zoom, 0 shows all, Enter "
        + "decodes the place in the middle, S selects what is in view.",
    }, this.canvas, this.overlay);
    this.layers = new Map();
    this.view = { x: 0, y: 0, scale: 1 };
    this.projection = "pca";
    this.places = new Map();
    this.values = new Map();
    this.painter = painter(this.canvas);
    this.final = false; // whether every point has its place
    this.saved = settled(() => this.save(), 250);
    new ResizeObserver(() => this.resize()).observe(this.stage);
  }

  /** Reads the map and restores what the address says of it. */
  async load() {
    this.about = await get("api/map");
    await this.fetch();
    this.restore();
    this.poll();
  }

  /** Points and colours, as far as the server has them. */
  async fetch() {
    const { projections, colours } = this.about, { state } = projections.pca;
    if (state === "queued") return;
    this.places.clear();
    this.values.clear();
    this.final = state === "ready";
    const kept = recall("map"), wanted = this.shown ? this.projection : kept.projection;
    const found = projections[wanted]?.state === "ready" ? wanted : "pca";
    await this.project(found, false);
    const ready = colours.filter((colouring) => colouring.state === "ready");
    const by = ready.find(({ name }) => name === (this.by ?? kept.by)) ?? ready[0];
    if (by) await this.colour(by.name);
    else this.repaint();
  }

  restore() {
    const numbers = (recall("map").view ?? "").split(",").map(Number);
    if (numbers.length === 3 && numbers.every(Number.isFinite)) {
      const [x, y, zoom] = numbers;
      this.look({ x, y, scale: this.whole() * Math.min(CLOSEST, Math.max(0.5, zoom)) });
    } else {
      this.fit();
    }
  }

  save() {
    if (!this.final) return;
    const zoom = this.view.scale / this.whole();
    const home = Math.abs(zoom - 1) < 0.01 && Math.hypot(this.view.x, this.view.y) < 0.01;
    const view = [this.view.x, this.view.y, zoom].map((value) => value.toFixed(3)).join(",");
    remember("map", {
      view: home ? "" : view,
      projection: this.projection === "pca" ? "" : this.projection,
      by: this.by === this.about.colours[0]?.name ? "" : this.by,
    });
  }

  /** Asks again while something is being computed. */
  poll() {
    clearTimeout(this.asking);
    const { projections, colours } = this.about;
    const busy = [...Object.values(projections), ...colours].some(({ state }) =>
      state === "queued" || state === "working");
    this.dispatchEvent(new Event("about"));
    if (!busy && this.final) return;
    this.asking = setTimeout(async () => {
      try {
        this.about = await get("api/map");
        if (!this.final) await this.fetch();
      } catch { /* asked again */ }
      this.poll();
    }, 1500);
  }

  /** Starts t-SNE. */
  async embed() {
    await post("api/map/tsne", {});
    this.about = await get("api/map");
    this.poll();
  }

  /** Shows the points in another projection; they move there. */
  async project(name, moving = true) {
    if (!this.places.has(name)) {
      this.places.set(name, await floats(`api/map/points?projection=${name}`));
    }
    const from = this.shown, to = this.places.get(name);
    this.projection = name;
    this.grid = new Grid(to);
    this.shown = to;
    this.extent = reach(to);
    if (moving && from && !still()) this.glide(from, to);
    else this.painter.places(to);
    this.refresh();
    this.dispatchEvent(new Event("projection"));
    if (moving) this.saved();
  }

  glide(from, to) {
    const start = performance.now(), between = new Float32Array(to.length);
    const step = (now) => {
      if (this.shown !== to) return;
      const t = Math.min(1, Math.max(0, (now - start) / 900)), share = t * t * (3 - 2 * t);
      for (let i = 0; i < to.length; i++) between[i] = from[i] + share * (to[i] - from[i]);
      this.painter.places(t < 1 ? between : to);
      this.refresh();
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** Colours the points by one of the colourings. */
  async colour(name) {
    const colouring = this.about.colours.find((one) => one.name === name);
    if (!this.values.has(name)) this.values.set(name, await floats(`api/map/colour?by=${name}`));
    this.by = name;
    this.colouring = colouring;
    this.repaint();
    this.dispatchEvent(new Event("colour"));
    this.saved();
  }

  /** Colours again: after a change of theme. */
  repaint() {
    if (!this.shown) return;
    const unknown = new Float32Array(this.shown.length / 2).fill(NaN);
    this.painter.colours(paint(this.colouring ?? {}, this.values.get(this.by) ?? unknown));
    const page = getComputedStyle(this.stage).backgroundColor;
    this.background = page.match(/\d+/g).slice(0, 3).map(Number);
    this.refresh();
  }

  /** Lets these points stand out; null for none. */
  choose(indices) {
    this.chosen = indices?.length ? indices : null;
    this.painter.choose(this.chosen);
    this.refresh();
  }

  /** CSS pixels per unit when all is in view. */
  whole() {
    const { width, height } = this.stage.getBoundingClientRect();
    const [x, y] = this.extent ?? [1, 1];
    return Math.max(1, Math.min(width / x, height / y) * 0.46);
  }

  fit() {
    this.look({ x: 0, y: 0, scale: this.whole() });
  }

  look(view) {
    const whole = this.whole();
    const [x, y] = this.extent ?? [1, 1];
    this.view = {
      x: Math.min(1.5 * x, Math.max(-1.5 * x, view.x)),
      y: Math.min(1.5 * y, Math.max(-1.5 * y, view.y)),
      scale: Math.min(CLOSEST * whole, Math.max(whole / 2, view.scale)),
    };
    this.refresh();
    this.saved();
  }

  /** Nearer by a factor, around a point of the stage in CSS pixels. */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const [left, up] = this.toMap(x, y);
    const whole = this.whole();
    const scale = Math.min(CLOSEST * whole, Math.max(whole / 2, this.view.scale * factor));
    const kept = this.view.scale / scale;
    this.look({ x: left + (this.view.x - left) * kept, y: up + (this.view.y - up) * kept, scale });
  }

  /** Moves so that a place is in the middle, unless it is well in view. */
  show([x, y]) {
    const [left, top] = this.toStage(x, y);
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (left < 30 || top < 30 || left > width - 30 || top > height - 30) {
      this.look({ x, y, scale: this.view.scale });
    }
  }

  toMap(x, y) {
    const { clientWidth: width, clientHeight: height } = this.stage;
    return [this.view.x + (x - width / 2) / this.view.scale, this.view.y - (y - height / 2) / this.view.scale];
  }

  toStage(x, y) {
    const { clientWidth: width, clientHeight: height } = this.stage;
    return [width / 2 + (x - this.view.x) * this.view.scale, height / 2 - (y - this.view.y) * this.view.scale];
  }

  /** Where a point of the corpus is. */
  place(index) {
    return this.shown ? [this.shown[2 * index], this.shown[2 * index + 1]] : null;
  }

  /** The point of the corpus under a place of the stage; −1 for none. */
  under(x, y, reach = 9) {
    return this.grid ? this.grid.nearest(...this.toMap(x, y), reach / this.view.scale) : -1;
  }

  /**
   * Draws for a panel: marks [{places | index, kind, label}] and a line through places.
   *
   * @param {string} owner a later drawing of the same owner takes the place of the earlier.
   */
  draw(owner, { marks = [], line = [] } = {}) {
    if (marks.length || line.length) this.layers.set(owner, { marks, line });
    else this.layers.delete(owner);
    this.refresh();
  }

  clear(owner) {
    this.draw(owner);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.fitted) this.look({ ...this.view, scale: (this.view.scale * this.whole()) / this.fitted });
    this.fitted = this.whole();
    this.paintNow();
  }

  refresh() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      this.paintNow();
    });
  }

  paintNow() {
    if (!this.background || !this.shown) return;
    const size = diameter(this.about.count, this.view.scale / this.whole());
    this.painter.draw(this.view, size, this.chosen ? 0.22 : 1, this.background);
    this.overlay.replaceChildren(...[...this.layers.values()].flatMap((layer) => this.layer(layer)));
    this.frames = (this.frames ?? 0) + 1;
  }

  layer({ marks, line }) {
    const drawn = [];
    const where = (mark) => mark.index !== undefined ? this.place(mark.index) : mark.places?.[this.projection];
    const ways = line.map(where);
    if (ways.length > 1 && ways.every(Boolean)) {
      const points = ways.map((way) => this.toStage(...way).map((value) => value.toFixed(1)).join(",")).join(" ");
      drawn.push(s("polyline", { class: "way halo", points }), s("polyline", { class: "way", points }));
    }
    for (const mark of marks) {
      const place = where(mark);
      if (!place) continue;
      const [x, y] = this.toStage(...place);
      if (x < -40 || y < -40 || x > this.stage.clientWidth + 40 || y > this.stage.clientHeight + 40) continue;
      const radius = { stop: 4, ring: 8, dot: 5 }[mark.kind] ?? 7;
      drawn.push(s("circle", { class: `mark ${mark.kind ?? ""}`, cx: x.toFixed(1), cy: y.toFixed(1), r: radius }));
      if (mark.label) {
        drawn.push(s("text", { class: "mark-label", x: (x + 11).toFixed(1), y: (y + 4).toFixed(1) }, mark.label));
      }
    }
    return drawn;
  }
}

/** The largest distance from the middle on either axis. */
function reach(places) {
  let x = 0, y = 0;
  for (let i = 0; i < places.length; i += 2) {
    if (Number.isNaN(places[i])) continue; // not encoded yet
    x = Math.max(x, Math.abs(places[i]));
    y = Math.max(y, Math.abs(places[i + 1]));
  }
  return [x || 1, y || 1];
}
