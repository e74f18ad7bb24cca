/** Moves single dimensions of the latent, most active first, in units of their spread. */

import { takeaway } from "./copy.js";
import { button, figure, h, settled } from "./dom.js";
import { Field } from "./field.js";
import { content, readout } from "./item.js";
import { Panel } from "./panel.js";
import { newest, Task } from "./task.js";

const SHOWN = 10;
const REACH = 4;
const SWEEP = [-3, -1.5, 0, 1.5, 3];

export class Dimensions extends Panel {
  constructor(studio) {
    super(
      studio,
      "dimensions",
      "Dimensions",
      "Move one dimension and see what changes. One unit is the spread of the corpus along it.",
    );
    this.offsets = {};
    this.field = new Field(studio, {
      label: "Start",
      places: true,
      changed: () => {
        this.base = null;
        this.go();
      },
    });
    this.task = new Task();
    this.copies = takeaway();
    this.result = h("div", { class: "now sticky", "aria-live": "polite" });
    this.rows = h("div", { class: "dials" });
    const reset = button(
      null,
      "Reset all to 0",
      () => {
        this.offsets = {};
        this.fill();
        this.go();
      },
      { class: "quiet small" },
    );
    this.more = button(
      null,
      "Show more dimensions",
      () => {
        this.shown += 20;
        this.fill();
      },
      { class: "quiet small" },
    );
    this.add(
      this.field.element,
      studio.decoding.section(),
      this.task.element,
      this.result,
      h("div", { class: "row" }, reset),
      this.rows,
      this.more,
      this.copies.element,
    );
    this.shown = SHOWN;
    this.wanted = []; // sweeps in the address, to open once the start is known
    this.ask = newest(() => this.decode());
    this.again = settled(() => this.swept.forEach((run) => run()), 600);
    this.onDecoding(() => this.go());
  }

  open() {
    const kept = this.recall();
    if (kept.at) this.field.word = kept.at;
    else this.field.set(this.studio.example(0));
    this.offsets = {};
    for (const part of (kept.offsets ?? "").split(",")) {
      const [dimension, offset] = part.split(":").map(Number);
      if (Number.isFinite(offset)) this.offsets[dimension] = offset;
    }
    this.base = null;
    this.wanted = (kept.sweep ?? "").split(",").filter(Boolean).map(Number);
    this.fill();
    this.go();
  }

  bring(value) {
    this.field.set(value);
    this.base = null;
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
  }

  fill() {
    this.toggles = new Map(); // dimension → opens or closes its sweep
    this.swept = new Map(); // dimension → runs its sweep again
    const { dimensions } = this.studio.run;
    const largest = Math.max(...dimensions.map(({ kl }) => kl), 1e-9);
    this.more.hidden = this.shown >= dimensions.length;
    this.rows.replaceChildren(
      ...dimensions.slice(0, this.shown).map((it) => this.dial(it, largest)),
    );
  }

  dial({ dimension, kl }, largest) {
    const id = `dimension-${dimension}`;
    const reading = h("output", { for: id });
    const read = () => {
      const offset = this.offsets[dimension] ?? 0;
      reading.textContent = `${offset > 0 ? "+" : ""}${figure(offset, 1)}`;
    };
    const slider = h("input", {
      type: "range",
      id,
      min: -REACH,
      max: REACH,
      step: 0.1,
      value: this.offsets[dimension] ?? 0,
      oninput: () => {
        if (slider.valueAsNumber) this.offsets[dimension] = slider.valueAsNumber;
        else delete this.offsets[dimension];
        read();
        this.go();
      },
    });
    read();
    const swept = h("ol", { class: "swept", hidden: true });
    const task = new Task();
    const run = () => this.sweep(dimension, swept, task);
    const toggle = () => {
      swept.hidden = !swept.hidden;
      sweep.setAttribute("aria-expanded", String(!swept.hidden));
      if (swept.hidden) this.swept.delete(dimension);
      else this.swept.set(dimension, run);
      this.remember({ sweep: [...this.swept.keys()].join(",") });
      if (!swept.hidden) run();
    };
    const attributes = { type: "button", class: "quiet small", "aria-expanded": "false" };
    const sweep = h("button", { ...attributes, onclick: toggle }, "Sweep");
    this.toggles.set(dimension, toggle);
    return h(
      "div",
      { class: "dial" },
      h("label", { for: id }, `z${sub(dimension)}`),
      h("meter", {
        min: 0,
        max: largest,
        value: Math.max(0, kl ?? 0),
        title: `KL ${figure(kl, 3)} nats`,
        "aria-label": `KL of dimension ${dimension}`,
      }),
      h("span", { class: "kl" }, kl === null ? "" : `${figure(kl, 2)} nats`),
      slider,
      reading,
      sweep,
      task.element,
      swept,
    );
  }

  /** Five points along one dimension; the others keep their offsets. */
  async sweep(dimension, list, task) {
    if (!this.base)
      return list.replaceChildren(h("li", { class: "empty" }, "Fill in a start."));
    const z = SWEEP.map((offset) => this.moved({ ...this.offsets, [dimension]: offset }));
    const result = await task.run("api/decode", { z, decoding: this.studio.decoding.body });
    if (!result) return;
    const middle = result.items[2].text;
    list.replaceChildren(
      ...result.items.map((item, i) =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "stop",
              onclick: () => {
                this.offsets[dimension] = SWEEP[i];
                if (!SWEEP[i]) delete this.offsets[dimension];
                const slider = this.rows.querySelector(`#dimension-${dimension}`);
                slider.value = SWEEP[i];
                slider.dispatchEvent(new Event("input"));
              },
            },
            h("span", { class: "at" }, `${SWEEP[i] > 0 ? "+" : ""}${figure(SWEEP[i], 1)}`),
            content(item, middle),
          ),
        ),
      ),
    );
  }

  moved(offsets) {
    const z = [...this.base.z];
    for (const { dimension, spread } of this.studio.run.dimensions) {
      if (offsets[dimension]) z[dimension] += offsets[dimension] * spread;
    }
    return z;
  }

  go() {
    this.remember({
      at: this.field.word,
      offsets: Object.entries(this.offsets)
        .map(([dimension, offset]) => `${dimension}:${offset}`)
        .join(","),
    });
    if (!this.field.source) {
      this.result.replaceChildren(
        h("p", { class: "empty" }, "Fill in a start, or pick a place on the map."),
      );
      this.copies.set(null);
      return this.draw();
    }
    this.ask();
  }

  async decode() {
    const result = await this.task.run("api/dimensions", {
      ...this.field.source,
      offsets: this.offsets,
      decoding: this.studio.decoding.body,
    });
    if (!result) return;
    this.base = result.base;
    for (const dimension of this.wanted) this.toggles.get(dimension)?.();
    this.wanted = [];
    this.again();
    const [item] = result.items;
    this.result.replaceChildren(readout(item, { before: result.base.text }));
    this.copies.set(result);
    const moved = Object.keys(this.offsets).length > 0;
    this.draw({
      lines: moved ? [[result.base, item]] : [],
      marks: [
        { ...result.base, kind: "part", label: moved ? "start" : "" },
        { ...item, kind: "now" },
      ],
    });
  }
}

const sub = (number) => [...String(number)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");
