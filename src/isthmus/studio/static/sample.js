/** Random latents, from the prior or from a mixture fitted to the corpus. */

import { takeaway } from "./copy.js";
import { announce, button, counted, h } from "./dom.js";
import { choice, number } from "./decoding.js";
import { readout } from "./item.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

export class Sample extends Panel {
  constructor(studio) {
    super(studio, "sample", "Sample", "Draw latents at random and decode them.");
    const sources = [["prior", "the prior"]];
    if (studio.run.corpus) sources.push(["aggregate", "a fit to the corpus"]);
    this.source = choice("From", sources, "prior", () => this.go());
    this.many = number(
      "How many",
      { min: 1, max: 64, step: 1, value: 6 },
      (input) => input.reportValidity() && this.go(),
    );
    this.seed = number(
      "Seed",
      { min: 0, max: 2147483647, step: 1, value: 0 },
      (input) => input.reportValidity() && this.go(),
    );
    this.task = new Task();
    this.copies = takeaway();
    this.list = h("div", { class: "samples" });
    const again = button(
      "dice",
      "Another seed",
      () => {
        this.seed.input.value = (this.seed.input.valueAsNumber || 0) + 1;
        this.go();
      },
      { class: "main" },
    );
    this.add(
      h("div", { class: "fields" }, this.source.element, this.many.element, this.seed.element),
      h(
        "p",
        { class: "note" },
        studio.run.corpus
          ? "Training pulls the latents towards the prior. “A fit to the corpus” is a mixture of Gaussians fitted to the latents of the corpus. If the two give different results, the prior has holes that no latent of the corpus fills."
          : "",
      ),
      studio.decoding.section(),
      h("div", { class: "row" }, again),
      this.task.element,
      this.list,
      this.copies.element,
    );
    this.onDecoding(() => this.go());
  }

  open() {
    const kept = this.recall();
    this.source.input.value =
      kept.source === "aggregate" && this.studio.run.corpus ? "aggregate" : "prior";
    this.many.input.value = kept.count ?? 6;
    this.seed.input.value = kept.seed ?? 0;
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
  }

  async go() {
    const count = this.many.input.valueAsNumber || 6;
    const seed = this.seed.input.valueAsNumber || 0;
    const source = this.source.input.value;
    this.remember({
      source: source === "prior" ? "" : source,
      count: count === 6 ? "" : count,
      seed: seed || "",
    });
    const result = await this.task.run("api/sample", {
      decoding: this.studio.decoding.body,
      count,
      seed,
      source,
    });
    if (!result) return;
    this.copies.set(result);
    announce(counted(result.items.length, "sample"));
    this.list.replaceChildren(
      ...result.items.map((item, i) => {
        const shown = readout(item, { actions: this.studio.ways(place(item)) });
        const on = (label) => () => this.mark(result.items, label);
        shown.addEventListener("pointerenter", on(i));
        shown.addEventListener("pointerleave", on(-1));
        return shown;
      }),
    );
    this.mark(result.items, -1);
  }

  mark(items, here) {
    this.draw({ marks: items.map((item, i) => ({ ...item, kind: i === here ? "now" : "dot" })) });
  }
}

/** A sample as the value of a field. */
const place = ({ z, text, picture }) => ({ z, text, picture });
