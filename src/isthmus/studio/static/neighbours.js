/** The examples of the corpus nearest to a query. */

import { takeaway } from "./copy.js";
import { counted, figure, h, thing } from "./dom.js";
import { number } from "./decoding.js";
import { Field } from "./field.js";
import { corpusList } from "./item.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

export class Neighbours extends Panel {
  constructor(studio) {
    super(
      studio,
      "neighbours",
      "Neighbours",
      `The ${thing.one}s of the corpus whose latents are nearest to a query.`,
    );
    this.field = new Field(studio, { label: "Query", places: true, changed: () => this.go() });
    this.many = number(
      "How many",
      { min: 1, max: Math.min(64, studio.run.corpus?.count ?? 64), step: 1, value: 10 },
      (input) => input.reportValidity() && this.go(),
    );
    this.task = new Task();
    this.copies = takeaway();
    this.list = h("div", { "aria-live": "polite" });
    this.add(
      this.field.element,
      h("div", { class: "fields" }, this.many.element),
      this.task.element,
      this.list,
      this.copies.element,
    );
  }

  open() {
    const kept = this.recall();
    if (kept.at) this.field.word = kept.at;
    else this.field.set(this.studio.example(0));
    this.many.input.value = kept.count ?? 10;
    this.go();
  }

  bring(value) {
    this.field.set(value);
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
  }

  async go() {
    const count = this.many.input.valueAsNumber || 10;
    this.remember({ at: this.field.word, count: count === 10 ? "" : count });
    if (!this.field.source) {
      this.list.replaceChildren(
        h("p", { class: "empty" }, "Fill in a query, or pick a place on the map."),
      );
      this.copies.set(null);
      return this.draw();
    }
    const result = await this.task.run("api/neighbours", { ...this.field.source, count });
    if (!result) return;
    this.copies.set(result);
    const farthest = Math.max(...result.neighbours.map(({ distance }) => distance), 1e-9);
    this.list.replaceChildren(
      h("p", { class: "note" }, `${counted(result.neighbours.length, thing.one)}, nearest first`),
      corpusList(result.neighbours, {
        press: ({ index }) => this.studio.visitPoint(index),
        hover: (text) => this.studio.hoverPoint(text),
        extra: ({ distance }) =>
          h(
            "small",
            { class: "distance" },
            h("meter", { min: 0, max: farthest, value: distance, "aria-hidden": "true" }),
            figure(distance, 2),
          ),
      }),
    );
    this.draw({ marks: result.neighbours.map(({ index }) => ({ index, kind: "dot" })) });
  }
}
