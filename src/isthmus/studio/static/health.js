/** How training went, what the latent carries, and what the figures mean in plain words. */

import { get } from "./api.js";
import { bars, lines, spreads } from "./chart.js";
import { takeaway } from "./copy.js";
import { figure, h } from "./dom.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

const CURVES = [
  ["reconstruction", "Reconstruction loss", "nats per example"], ["kl", "KL", "nats per example"], ["beta", "β", "weight of KL"],
  ["mutual_information", "Mutual information", "nats"], ["active_units", "Active units", "dimensions"],
];
const LEVELS = { good: "good", note: "worth a look", warning: "a warning" };

export class Health extends Panel {
  constructor(studio) {
    super(studio, "health", "Health", "Whether the model learnt, and whether its latent carries anything.");
    this.task = new Task();
    this.copies = takeaway();
    this.body = h("div", { class: "health-body" });
    this.add(this.task.element, this.body, this.copies.element);
  }

  async open() {
    if (this.loaded) return;
    this.task.wait();
    try {
      const health = await get("api/health");
      this.task.clear();
      this.loaded = true;
      this.copies.set(health);
      this.body.replaceChildren(...[this.readings(health), ...this.curves(health), ...this.latent(health)].filter(Boolean));
    } catch (failure) {
      this.task.fail(failure);
    }
  }

  readings({ readings }) {
    if (!readings?.length) return h("p", { class: "empty" }, `This run has not been evaluated: isthmus evaluate ${this.studio.run.path} DATA fills this table.`);
    return h("section", {}, h("h2", {}, "What the figures say"), h("ul", { class: "readings" }, ...readings.map((it) => h("li", { class: `reading-row level-${it.level}` },
      h("span", { class: "level" }, LEVELS[it.level] ?? it.level),
      h("h3", {}, it.name),
      h("p", { class: "value" }, figure(it.value, Number.isInteger(it.value) ? 0 : 2), it.standard_error ? h("small", {}, ` ± ${figure(it.standard_error, 2)}`) : null, h("small", {}, ` ${it.unit ?? ""}`)),
      h("p", {}, it.reading)))));
  }

  curves({ curves }) {
    const drawn = CURVES.map(([key, title, unit]) => {
      const pick = (name) => (curves ?? []).filter((record) => Number.isFinite(record[name])).map((record) => [record.step, record[name]]);
      const series = [{ name: "training", points: pick(key) }, { name: "validation", points: pick(`eval_${key}`), dots: true }].filter(({ points }) => points.length);
      return series.length ? lines(title, unit, series) : null;
    }).filter(Boolean);
    if (!drawn.length) return [h("p", { class: "empty" }, "This run has no log of its training.")];
    return [h("section", {}, h("h2", {}, "Training"), h("p", { class: "note" }, "Lines are averages over training between two logs; dots are the true bound on the validation part, at β = 1."), h("div", { class: "plots" }, ...drawn))];
  }

  latent({ dimensions, posterior }) {
    const parts = [];
    if (dimensions?.length) {
      const order = [...dimensions].sort((a, b) => b.kl - a.kl);
      parts.push(bars("KL of every dimension", "nats per example, largest first; a pale bar carries under 0.01", order.map(({ dimension, kl }) => ({ name: `z${dimension}`, value: kl })), 0.01));
    }
    if (posterior?.aggregate_mean?.length) {
      const kl = new Map((dimensions ?? []).map((it) => [it.dimension, it.kl]));
      const order = posterior.aggregate_mean.map((_, i) => i).sort((a, b) => (kl.get(b) ?? 0) - (kl.get(a) ?? 0));
      parts.push(spreads("Posterior and prior", "± one deviation; band: prior, wide: all texts, thin: one text", order.map((i) => ({
        name: `z${i}`, middle: posterior.aggregate_mean[i], outer: posterior.aggregate_deviation[i], inner: posterior.mean_deviation[i] }))));
    }
    if (!parts.length) return [];
    return [h("section", {}, h("h2", {}, "The latent"), h("div", { class: "plots wide" }, ...parts))];
  }
}
