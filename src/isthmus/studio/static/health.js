/** Training curves, what the latent carries, and what the figures mean in plain words. */

import { get } from "./api.js";
import { bars, lines, spreads } from "./chart.js";
import { takeaway } from "./copy.js";
import { button, figure, h, thing } from "./dom.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

const CURVES = [
  ["reconstruction", "Reconstruction loss", "nats per example"],
  ["kl", "KL", "nats per example"],
  ["summary_reconstruction", "Reconstruction loss, summary alone", "nats per example"],
  ["summary_kl", "KL, summary alone", "nats per example"],
  ["beta", "β", "weight of KL"],
  ["mutual_information", "Mutual information", "nats"],
  ["active_units", "Active units", "dimensions"],
];
const LEVELS = { good: "good", note: "worth a look", warning: "warning" };

export class Health extends Panel {
  constructor(studio) {
    super(
      studio,
      "health",
      "Health",
      "Did the model learn, and does its latent carry information?",
    );
    this.task = new Task();
    this.copies = takeaway();
    this.body = h("div", { class: "health-body" });
    this.measuring = new Task();
    this.walking = h("section", { class: "health-body" });
    this.add(this.task.element, this.body, this.walking, this.copies.element);
  }

  async open() {
    if (this.loaded) return;
    this.task.wait();
    try {
      const [health, { dimensions }] = await Promise.all([get("api/health"), get("api/run")]);
      this.task.clear();
      this.loaded = true;
      this.copies.set(health);
      this.body.replaceChildren(
        ...[
          this.readings(health),
          ...this.curves(health),
          ...this.latent(health, dimensions),
        ].filter(Boolean),
      );
      this.offer();
    } catch (failure) {
      this.task.fail(failure);
    }
  }

  /** Meaning, walks and fluency take a minute: they are measured when asked for. */
  offer() {
    const { kind, can, corpus } = this.studio.run;
    if (kind !== "text" || !can.space || !corpus) return;
    const found = h("div", { class: "health-body" });
    const measure = button("health", "Measure", () => this.measure(found));
    const note =
      "Meaning, content words and fluency of what comes back; walks between pairs of texts; how far a text can be moved. On texts of the corpus, about a minute.";
    this.walking.replaceChildren(
      h("h2", {}, "Worth walking in?"),
      h("p", { class: "note" }, note),
      measure,
      this.measuring.element,
      found,
    );
  }

  async measure(found) {
    const answer = await this.measuring.run("api/meaning", {});
    if (!answer) return;
    this.copies.set(answer);
    const curve = (key, name) => ({
      name,
      points: answer.smoothness
        .filter((row) => Number.isFinite(row[key]))
        .map((row) => [row.radius, row[key]]),
    });
    const reach = [
      [
        "What is left of moved texts",
        [curve("exact_match", "word for word"), curve("meaning", "cosine")],
      ],
      ["Their perplexity, relative to unmoved ones", [curve("fluency", "perplexity")]],
    ];
    const unit = `over standard deviations of the space; one draw lies ${figure(answer.posterior_radius, 2)} away, another text 1.41`;
    const drawn = reach
      .map(([title, series]) => [title, series.filter(({ points }) => points.length)])
      .filter(([, series]) => series.length)
      .map(([title, series]) => lines(title, unit, series));
    found.replaceChildren(
      this.readings(answer),
      h("div", { class: "plots" }, ...drawn),
      ...answer.notes.map((line) => h("p", { class: "note" }, line)),
    );
  }

  readings({ readings }) {
    if (!readings?.length)
      return h(
        "p",
        { class: "empty" },
        `This run has not been evaluated. To fill this table, run isthmus evaluate ${this.studio.run.path} DATA.`,
      );
    return h(
      "section",
      {},
      h("h2", {}, "What the figures mean"),
      h(
        "ul",
        { class: "readings" },
        ...readings.map((it) =>
          h(
            "li",
            { class: `reading-row level-${it.level}` },
            h("span", { class: "level" }, LEVELS[it.level] ?? it.level),
            h("h3", {}, it.name),
            h(
              "p",
              { class: "value" },
              figure(it.value, Number.isInteger(it.value) ? 0 : 2),
              it.standard_error ? h("small", {}, ` ± ${figure(it.standard_error, 2)}`) : null,
              h("small", {}, ` ${it.unit ?? ""}`),
            ),
            h("p", {}, it.reading),
            it.why
              ? h("details", {}, h("summary", {}, "Why"), h("p", { class: "why" }, it.why))
              : null,
          ),
        ),
      ),
    );
  }

  curves({ curves }) {
    const drawn = CURVES.map(([key, title, unit]) => {
      const pick = (name) =>
        (curves ?? [])
          .filter((record) => Number.isFinite(record[name]))
          .map((record) => [record.step, record[name]]);
      const series = [
        { name: "training", points: pick(key) },
        { name: "validation", points: pick(`eval_${key}`), dots: true },
      ].filter(({ points }) => points.length);
      return series.length ? lines(title, unit, series) : null;
    }).filter(Boolean);
    if (!drawn.length) return [h("p", { class: "empty" }, "This run has no training log.")];
    return [
      h(
        "section",
        {},
        h("h2", {}, "Training"),
        h(
          "p",
          { class: "note" },
          "Lines: training averages between log entries. Dots: the bound on the validation split, at β = 1.",
        ),
        h("div", { class: "plots" }, ...drawn),
      ),
    ];
  }

  latent({ dimensions, posterior }, known) {
    const parts = [];
    const kl = new Map((dimensions ?? []).map((it) => [it.dimension, it.kl ?? 0]));
    const order = [...kl.keys()].sort((a, b) => kl.get(b) - kl.get(a));
    if (order.length) {
      const unit = "nats per example, largest first; pale bars are below 0.01";
      parts.push(
        bars(
          "KL of every dimension",
          unit,
          order.map((dimension) => ({ name: `z${dimension}`, value: kl.get(dimension) })),
          0.01,
        ),
      );
    }
    const outer = posterior?.aggregate_deviation;
    const inner = posterior?.mean_deviation;
    if (outer?.length) {
      const means = new Map(known.map(({ dimension, mean }) => [dimension, mean]));
      const middle = (i) => posterior.aggregate_mean?.[i] ?? means.get(i) ?? 0;
      const unit = `mean ± one deviation; pale band: prior; green: all ${thing.one}s${inner ? `; brown: one ${thing.one}` : ""}`;
      const all = order.length ? order : [...outer.keys()];
      parts.push(
        spreads(
          "Posterior and prior",
          unit,
          all.map((i) => ({
            name: `z${i}`,
            middle: middle(i),
            outer: outer[i],
            inner: inner?.[i] ?? null,
          })),
        ),
      );
    }
    if (!parts.length) return [];
    return [
      h("section", {}, h("h2", {}, "The latent"), h("div", { class: "plots wide" }, ...parts)),
    ];
  }
}
