/** A search for texts of which an objective says the most; the command line chose the objective. */

import { lines } from "./chart.js";
import { takeaway } from "./copy.js";
import { number } from "./decoding.js";
import { announce, button, counted, figure, h } from "./dom.js";
import { readout } from "./item.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

export class Optimise extends Panel {
  constructor(studio) {
    const { objective, corpus } = studio.run;
    super(studio, "optimise", "Search", `Search the space for texts of which ${objective} says the most.`);
    this.calls = number("Calls", { min: 10, max: 2000, step: 10, value: 300 }, () => {});
    this.seed = number("Seed", { min: 0, max: 2147483647, step: 1, value: 0 }, () => {});
    this.task = new Task();
    this.copies = takeaway();
    this.found = h("div", {});
    const others = corpus ? "draws of the prior and texts of the corpus" : "draws of the prior";
    this.add(
      h("div", { class: "fields" }, this.calls.element, this.seed.element),
      h("div", { class: "row" }, button("search", "Search", () => this.go(), { class: "main" })),
      h(
        "p",
        { class: "note" },
        `A call asks about a text that was not known before. The search stays where the prior is dense; ${others} get as many calls. Meanwhile other panels wait.`,
      ),
      this.task.element,
      this.found,
      this.copies.element,
    );
  }

  open() {
    const kept = this.recall();
    this.calls.input.value = kept.calls ?? 300;
    this.seed.input.value = kept.seed ?? 0;
  }

  close() {
    super.close();
    this.task.stop();
  }

  async go() {
    if (!this.calls.input.reportValidity() || !this.seed.input.reportValidity()) return;
    const calls = this.calls.input.valueAsNumber;
    const seed = this.seed.input.valueAsNumber;
    this.remember({ calls: calls === 300 ? "" : calls, seed: seed || "" });
    const result = await this.task.run("api/optimise", { calls, seed });
    if (!result) return;
    this.copies.set(result);
    const drawn = Object.entries(result.curves).map(([title, series]) =>
      lines(title, "", series.filter(({ points }) => points.length), { count: "call", zero: false }),
    );
    const names = Object.values(result.curves)[0].map(({ name }) => name);
    this.found.replaceChildren(
      h("div", { class: "plots" }, ...drawn),
      h(
        "p",
        { class: "note" },
        ...names.flatMap((name, n) => [n ? " · " : "", h("span", { class: `key series-${n}` }, name)]),
      ),
      h("h2", {}, `The ${counted(result.items.length, "best text")}`),
      ...result.items.map((item, i) => {
        const { z, text, value } = item;
        const shown = readout(item, { actions: this.studio.ways({ z, text }) });
        shown.prepend(h("p", { class: "value" }, figure(value, 4)));
        shown.addEventListener("pointerenter", () => this.mark(result.items, i));
        shown.addEventListener("pointerleave", () => this.mark(result.items, -1));
        return shown;
      }),
    );
    announce(`Best value ${figure(result.items[0].value, 4)}.`);
    this.mark(result.items, -1);
  }

  mark(items, here) {
    this.draw({ marks: items.map((item, i) => ({ ...item, kind: i === here ? "now" : "dot" })) });
  }
}
