/** The panel of the map: search by words or by latent, and the selected points. */

import { get } from "./api.js";
import { takeaway } from "./copy.js";
import { announce, button, counted, h, settled, thing } from "./dom.js";
import { category, css } from "./colours.js";
import { corpusList } from "./item.js";
import { named, swatch } from "./legend.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

const PAGE = 50;
const CORNERS = 40; // most corners of a lasso in a link

export class Look extends Panel {
  constructor(studio) {
    super(
      studio,
      "map",
      "Map",
      `Every dot is one ${thing.one}. Hover over a dot to see it; click anywhere to decode that place.`,
    );
    this.words = h("input", {
      type: "search",
      id: "find",
      placeholder: `Search the ${thing.one}s`,
      autocomplete: "off",
      oninput: settled(() => this.find(), 250),
    });
    const way = (value, words, checked) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: "way", value, checked, onchange: () => this.find() }),
        words,
      );
    this.ways = h(
      "div",
      { class: "ways", role: "radiogroup", "aria-label": "Search" },
      way("text", "contains", true),
      studio.run.kind !== "picture" ? way("latent", "nearest latent", false) : null,
    );
    this.task = new Task();
    this.copies = takeaway();
    this.list = h("div", { class: "found" });
    this.empty = h(
      "div",
      { class: "empty" },
      h("p", {}, "To list points here, draw around them with the lasso, or hold Shift and drag."),
      h(
        "p",
        {},
        "Keyboard: Tab to the map, arrow keys to move, + and − to zoom, Enter to decode the centre, S to list the points in view.",
      ),
    );
    this.add(
      h(
        "form",
        {
          class: "find",
          role: "search",
          onsubmit: (event) => {
            event.preventDefault();
            this.find();
          },
        },
        h("label", { for: "find", class: "offscreen" }, `Search the ${thing.one}s`),
        this.words,
        this.ways,
      ),
      this.task.element,
      this.list,
      this.empty,
      this.copies.element,
    );
  }

  get way() {
    return this.ways.querySelector(":checked").value;
  }

  open() {
    const kept = this.recall();
    if (this.listed) return;
    this.words.value = kept.find ?? "";
    const way = this.ways.querySelector(`[value="${kept.way === "latent" ? "latent" : "text"}"]`);
    if (way) way.checked = true;
    if (this.words.value) this.find();
    else if (kept.lasso) this.studio.map.loaded.then(() => this.select(polygon(kept.lasso)));
  }

  close() {}

  /** Lists the points inside a polygon of places of the shown projection. */
  select(places) {
    const step = Math.ceil(places.length / CORNERS);
    const kept = places.filter((_, i) => i % step === 0);
    const words = kept.map((place) => place.map((part) => part.toFixed(3)).join(",")).join(" ");
    this.words.value = "";
    this.remember({ find: "", lasso: words });
    this.copies.set(null);
    const indices = this.studio.map.grid.inside(polygon(words));
    const { length } = indices;
    this.show(indices, length ? `${counted(length, thing.one)} selected` : "No points selected");
  }

  async find() {
    const text = this.words.value.trim();
    this.remember({ find: text, way: this.way === "text" ? "" : this.way, lasso: "" });
    if (!text) return this.clear();
    const mine = (this.asked = {});
    try {
      if (this.way === "latent") {
        const result = await this.task.run("api/neighbours", { input: text, count: PAGE });
        if (!result || this.asked !== mine) return;
        this.copies.set(result);
        this.show(
          Uint32Array.from(result.neighbours, ({ index }) => index),
          `The ${counted(result.neighbours.length, thing.one)} nearest in latent space`,
          result.neighbours,
        );
      } else {
        this.task.clear();
        const { count, indices } = await get(
          `api/find?text=${encodeURIComponent(text)}&limit=5000`,
        );
        if (this.asked !== mine) return;
        this.copies.set(null);
        this.show(
          Uint32Array.from(indices),
          count
            ? `${counted(count, thing.one)} with “${text}”`
            : `No ${thing.one} contains “${text}”. Try fewer letters, or “nearest latent”.`,
        );
      }
    } catch (failure) {
      this.task.fail(failure);
    }
  }

  /** Lists points of the map. @param {Uint32Array} indices */
  async show(indices, words, texts = null) {
    const mine = (this.asked = {});
    this.listed = indices.length > 0;
    this.studio.map.choose(indices);
    this.empty.hidden = true;
    const clear = button(
      "close",
      "Clear",
      () => {
        this.words.value = "";
        this.remember({ find: "", lasso: "" });
        this.clear();
      },
      { class: "quiet small" },
    );
    const rows = h("div", {});
    this.list.replaceChildren(
      h("div", { class: "row head", role: "status" }, h("h2", {}, words), clear),
      ...this.shares(indices),
      rows,
    );
    announce(words);
    let start = 0;
    const more = button(null, "Show more", () => next(), { class: "quiet small" });
    const next = async () => {
      const part = indices.slice(start, start + PAGE);
      start += PAGE;
      more.hidden = start >= indices.length;
      try {
        const found = texts ?? (await this.studio.texts.of(part));
        if (this.asked !== mine) return;
        rows.append(
          corpusList(found, {
            press: ({ index }) => this.studio.visitPoint(index),
            hover: (text) => this.studio.hoverPoint(text),
          }),
        );
      } catch (failure) {
        this.task.fail(failure);
      }
    };
    this.list.append(more);
    await next();
  }

  /** The share of each category of the map in the selection. */
  shares(indices) {
    const { map } = this.studio;
    const { colouring } = map;
    if (colouring?.kind !== "category" || !indices.length) return [];
    const values = map.values.get(map.by);
    const counts = new Map();
    for (const i of indices) counts.set(values[i], (counts.get(values[i]) ?? 0) + 1);
    const order = [...counts]
      .filter(([value]) => value >= 0)
      .sort(([, a], [, b]) => b - a)
      .slice(0, 6);
    return [
      h(
        "ul",
        { class: "shares" },
        ...order.map(([value, count]) =>
          h(
            "li",
            {},
            swatch(css(category(value))),
            `${named(map, value)} ${Math.round((100 * count) / indices.length)} %`,
          ),
        ),
      ),
    ];
  }

  clear() {
    this.asked = {};
    this.listed = false;
    this.task.clear();
    this.list.replaceChildren();
    this.empty.hidden = false;
    this.copies.set(null);
    this.studio.map.choose(null);
  }
}

/** Places in the address: "x,y x,y …". */
function polygon(words) {
  return words.split(" ").map((place) => place.split(",").map(Number));
}
