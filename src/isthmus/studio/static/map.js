/** The map: every example of the corpus as a point, and what the panels draw over it. */

import { floats, get, post } from "./api.js";
import { paint } from "./colours.js";
import { h, s, settled, still } from "./dom.js";
import { Grid } from "./nearest.js";
import { shapes } from "./overlay.js";
import { diameter, painter } from "./points.js";
import { recall, remember } from "./state.js";

const CLOSEST = 400; // largest zoom; 1 shows the whole map

export class SpaceMap extends EventTarget {
  constructor() {
    super();
    this.canvas = h("canvas", { class: "points" });
    this.overlay = s("svg", { class: "overlay", "aria-hidden": "true" });
    this.stage = h(
      "div",
      {
        class: "stage",
        tabindex: "0",
        role: "application",
        "aria-roledescription": "map",
        "aria-label":
          "Map of the corpus. Arrow keys move, plus and minus zoom, 0 shows all, Enter " +
          "decodes the place in the centre, S lists the points in view.",
      },
      this.canvas,
      this.overlay,
    );
    this.layers = new Map();
    this.view = { x: 0, y: 0, zoom: 1 };
    this.whole = 1; // CSS pixels per unit of the map when all is in view
    this.projection = "pca";
    this.places = new Map();
    this.values = new Map();
    this.painter = painter(this.canvas);
    this.final = false; // whether every point has its final place
    this.saved = settled(() => this.save(), 250);
    new ResizeObserver(() => this.resize()).observe(this.stage);
  }

  /** Reads the map and restores its state from the address. */
  async load() {
    this.about = await get("api/map");
    await this.fetch();
    this.restore();
    this.poll();
  }

  /** Restores the state after the address has changed, by hand or by the Back button. */
  async revisit() {
    await this.fetch();
    this.restore();
  }

  /** Reads points and colours, as far as the server has them. */
  async fetch() {
    const { projections, colours } = this.about;
    const { state } = projections.pca;
    if (state === "queued" || state === "failed") return;
    this.places.clear();
    this.values.clear();
    this.final = state === "ready";
    const kept = recall("map");
    const wanted = kept.projection;
    await this.project(projections[wanted]?.state === "ready" ? wanted : "pca", false);
    const ready = colours.filter((colouring) => colouring.state === "ready");
    const by = ready.find(({ name }) => name === kept.by) ?? ready[0];
    if (by) await this.colour(by.name);
    else this.repaint();
  }

  restore() {
    const numbers = (recall("map").view ?? "").split(",").map(Number);
    if (numbers.length === 3 && numbers.every(Number.isFinite)) {
      const [x, y, zoom] = numbers;
      this.look({ x, y, zoom });
    } else {
      this.fit();
    }
  }

  save() {
    const { x, y, zoom } = this.view;
    const home = Math.abs(zoom - 1) < 0.01 && Math.hypot(x, y) < 0.01;
    remember("map", { view: home ? "" : [x, y, zoom].map((value) => value.toFixed(3)).join(",") });
  }

  /** Polls while the server computes something. */
  poll() {
    clearTimeout(this.asking);
    const { projections, colours } = this.about;
    const busy = [...Object.values(projections), ...colours].some(
      ({ state }) => state === "queued" || state === "working",
    );
    this.dispatchEvent(new Event("about"));
    if (!busy && (this.final || projections.pca.state === "failed")) return;
    this.asking = setTimeout(
      async () => {
        try {
          this.about = await get("api/map");
          if (!this.final) await this.fetch();
        } catch {
          /* the next poll tries again */
        }
        this.poll();
      },
      this.final ? 1500 : 3000,
    );
  }

  /** Starts t-SNE. */
  async embed() {
    await post("api/map/tsne", {});
    this.about = await get("api/map");
    this.poll();
  }

  /** Moves the points to another projection. */
  async project(name, moving = true) {
    if (!this.places.has(name)) {
      this.places.set(name, await floats(`api/map/points?projection=${name}`));
    }
    const from = this.shown;
    const to = this.places.get(name);
    this.projection = name;
    this.grid = new Grid(to);
    this.shown = to;
    this.extent = reach(to);
    this.measure();
    if (moving && from && !still()) this.glide(from, to);
    else this.painter.places(to);
    this.refresh();
    this.dispatchEvent(new Event("projection"));
  }

  glide(from, to) {
    const start = performance.now();
    const between = new Float32Array(to.length);
    const step = (now) => {
      if (this.shown !== to) return;
      const t = Math.min(1, Math.max(0, (now - start) / 900));
      const share = t * t * (3 - 2 * t);
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
  }

  /** Repaints after a change of theme. */
  repaint() {
    if (!this.shown) return;
    const unknown = new Float32Array(this.shown.length / 2).fill(NaN);
    this.painter.colours(paint(this.colouring ?? {}, this.values.get(this.by) ?? unknown));
    const page = getComputedStyle(this.stage).backgroundColor;
    this.background = page.match(/\d+/g).slice(0, 3).map(Number);
    this.refresh();
  }

  /** Highlights these points; null for none. */
  choose(indices) {
    this.chosen = indices?.length ? indices : null;
    this.painter.choose(this.chosen);
    this.refresh();
  }

  fit() {
    this.look({ x: 0, y: 0, zoom: 1 });
  }

  look({ x, y, zoom }) {
    const [wide, high] = (this.extent ?? [1, 1]).map((value) => 1.5 * value);
    this.view = {
      x: Math.min(wide, Math.max(-wide, x)),
      y: Math.min(high, Math.max(-high, y)),
      zoom: Math.min(CLOSEST, Math.max(0.5, zoom)),
    };
    this.refresh();
    this.saved();
  }

  /** CSS pixels per unit of the map. */
  get scale() {
    return this.whole * this.view.zoom;
  }

  /** Zooms by a factor around a point of the stage, in CSS pixels. */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const [left, up] = this.toMap(x, y);
    const zoom = Math.min(CLOSEST, Math.max(0.5, this.view.zoom * factor));
    const kept = this.view.zoom / zoom;
    this.look({ x: left + (this.view.x - left) * kept, y: up + (this.view.y - up) * kept, zoom });
  }

  /** Centres a place, unless it is well in view. */
  show([x, y]) {
    const [left, top] = this.toStage(x, y);
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (left < 30 || top < 30 || left > width - 30 || top > height - 30) {
      this.look({ x, y, zoom: this.view.zoom });
    }
  }

  toMap(x, y) {
    const { clientWidth: width, clientHeight: height } = this.stage;
    return [
      this.view.x + (x - width / 2) / this.scale,
      this.view.y - (y - height / 2) / this.scale,
    ];
  }

  toStage(x, y) {
    const { clientWidth: width, clientHeight: height } = this.stage;
    return [
      width / 2 + (x - this.view.x) * this.scale,
      height / 2 - (y - this.view.y) * this.scale,
    ];
  }

  /** The place of an example on the map. */
  place(index) {
    return this.shown ? [this.shown[2 * index], this.shown[2 * index + 1]] : null;
  }

  /** The example under a point of the stage; −1 for none. */
  under(x, y, reach = 9) {
    return this.grid ? this.grid.nearest(...this.toMap(x, y), reach / this.scale) : -1;
  }

  /**
   * Draws for a panel: marks [{places | index, kind, label}] and lines through places.
   *
   * @param {string} owner a new drawing replaces the earlier one of the same owner.
   */
  draw(owner, { marks = [], lines = [] } = {}) {
    if (marks.length || lines.length) this.layers.set(owner, { marks, lines });
    else this.layers.delete(owner);
    this.refresh();
  }

  clear(owner) {
    this.draw(owner);
  }

  /** Whether the shown projection has a place for everything that a panel drew. */
  knows(owner) {
    const { marks = [] } = this.layers.get(owner) ?? {};
    return marks.every(({ index, places }) => index !== undefined || places?.[this.projection]);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.measure();
    this.paintNow();
  }

  measure() {
    const [x, y] = this.extent ?? [1, 1];
    this.whole = Math.max(
      1,
      Math.min(this.stage.clientWidth / x, this.stage.clientHeight / y) * 0.46,
    );
  }

  refresh() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      this.paintNow();
    });
  }

  paintNow() {
    if (!this.background || !this.shown || !this.stage.clientWidth) return;
    const room = this.stage.clientWidth * this.stage.clientHeight;
    const size = diameter(this.about.count, room, this.view.zoom);
    const { x, y } = this.view;
    this.painter.draw({ x, y, scale: this.scale }, size, this.chosen ? 0.22 : 1, this.background);
    this.overlay.replaceChildren(
      ...[...this.layers.values()].flatMap((layer) => shapes(this, layer)),
    );
  }
}

/** The largest distance from the centre on each axis. */
function reach(places) {
  let x = 0;
  let y = 0;
  for (let i = 0; i < places.length; i += 2) {
    if (Number.isNaN(places[i])) continue; // not encoded yet
    x = Math.max(x, Math.abs(places[i]));
    y = Math.max(y, Math.abs(places[i + 1]));
  }
  return [x || 1, y || 1];
}
