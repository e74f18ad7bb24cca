/** Texts under control codes, and the code that a text sounds like. */

import { category, css } from "./colours.js";
import { takeaway } from "./copy.js";
import { announce, button, counted, figure, h } from "./dom.js";
import { choice, number } from "./decoding.js";
import { Panel } from "./panel.js";
import { swatch } from "./legend.js";
import { Task } from "./task.js";
import { Attribution } from "./attribution.js";

const NUMBERS = {
  guidance: ["Guidance", { min: 0, max: 10, step: 0.5, value: 1 }],
  penalty: ["Repetition penalty", { min: 1, max: 3, step: 0.1, value: 1.2 }],
  temperature: ["Temperature", { min: 0.1, max: 3, step: 0.1, value: 1 }],
  top_p: ["Top p (nucleus)", { min: 0.05, max: 1, step: 0.05, value: 0.95 }],
  count: ["How many", { min: 1, max: 64, step: 1, value: 4 }],
  seed: ["Seed", { min: 0, max: 2147483647, step: 1, value: 0 }],
};

export class Control extends Panel {
  constructor(studio) {
    super(
      studio,
      "control",
      "Control",
      "Write texts under a code or a mixture of codes, and see which code a text sounds like.",
    );
    const { labels } = studio.run;
    this.weights = new Map();
    this.mixed = h("input", { type: "checkbox", onchange: () => this.codes() });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Codes" });
    this.prompt = h("input", {
      type: "text",
      id: "prompt",
      maxlength: studio.run.limits.text,
      placeholder: "How the text begins (optional)",
      onchange: () => this.keep(),
    });
    this.detail = h("input", {
      type: "text",
      id: "detail",
      maxlength: studio.run.limits.text,
      placeholder: "Free text after the code (optional)",
      onchange: () => this.keep(),
    });
    this.numbers = {};
    const fields = Object.entries(NUMBERS).map(([name, [words, limits]]) => {
      const field = number(words, limits, () => this.keep());
      this.numbers[name] = field.input;
      return field.element;
    });
    this.against = choice(
      "Steer away from",
      [
        ["", studio.run.null_code ? "no code" : "(choose a code)"],
        ...labels.map((label) => [label, label]),
      ],
      "",
      () => this.keep(),
    );
    this.mode = choice(
      "Penalty type",
      [
        ["additive", "subtracted from logits"],
        ["transformers", "as in transformers"],
        ["paper", "as in the CTRL paper"],
      ],
      "additive",
      () => this.keep(),
    );
    this.task = new Task();
    this.copies = takeaway();
    this.texts = h("div", { class: "written" });
    const write = h(
      "form",
      {
        class: "write",
        onsubmit: (event) => {
          event.preventDefault();
          this.go();
        },
      },
      h("h2", {}, "Write"),
      this.chips,
      labels.length > 1 ? h("label", { class: "tick" }, this.mixed, "mix several codes") : null,
      h(
        "div",
        { class: "stack" },
        h("label", { for: "prompt" }, "Prompt"),
        this.prompt,
        h("label", { for: "detail" }, "Detail"),
        this.detail,
      ),
      h(
        "div",
        { class: "fields" },
        ...fields.slice(0, 1),
        this.against.element,
        ...fields.slice(1, 2),
        this.mode.element,
        ...fields.slice(2),
      ),
      h(
        "div",
        { class: "row" },
        h("button", { class: "main", type: "submit" }, "Write"),
        button(
          "dice",
          "Another seed",
          () => {
            this.numbers.seed.value = (this.numbers.seed.valueAsNumber || 0) + 1;
            this.go();
          },
          { class: "quiet" },
        ),
      ),
      this.task.element,
      this.texts,
      this.copies.element,
    );
    this.attribution = new Attribution(studio, (entries) => this.remember(entries));
    this.add(h("div", { class: "halves" }, write, this.attribution.element));
  }

  open() {
    const kept = this.recall();
    const { labels } = this.studio.run;
    this.weights.clear();
    for (const part of (kept.codes ?? "").split("\n")) {
      const [, label, weight] = part.match(/^(.*)=([\d.]+)$/) ?? [];
      if (labels.includes(label)) this.weights.set(label, Number(weight));
    }
    if (!this.weights.size && labels.length) this.weights.set(labels[0], 1);
    this.mixed.checked = this.weights.size > 1;
    this.codes();
    this.prompt.value = kept.prompt ?? "";
    this.detail.value = kept.detail ?? "";
    this.against.input.value = kept.against ?? "";
    this.mode.input.value = kept.mode ?? "additive";
    for (const [name, [, { value }]] of Object.entries(NUMBERS))
      this.numbers[name].value = kept[name] ?? value;
    this.attribution.restore(kept);
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
    this.attribution.task.stop();
  }

  /** One button per code, with weights if several are mixed. */
  codes() {
    const { labels } = this.studio.run;
    const mixed = this.mixed.checked;
    if (!mixed && this.weights.size > 1) {
      const [first] = this.weights.keys();
      this.weights = new Map([[first, 1]]);
    }
    this.chips.replaceChildren(
      ...labels.map((label, i) => {
        const on = this.weights.has(label);
        const chip = h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(on),
            onclick: () => {
              if (!mixed) this.weights = new Map([[label, 1]]);
              else if (on && this.weights.size > 1) this.weights.delete(label);
              else this.weights.set(label, 0.5);
              this.codes();
              this.keep();
              this.chips.querySelectorAll(".chip")[i].focus();
            },
          },
          swatch(css(category(i))),
          label,
        );
        if (!mixed || !on) return chip;
        return h(
          "span",
          { class: "weighted" },
          chip,
          h("input", {
            type: "number",
            min: 0.05,
            max: 1,
            step: 0.05,
            value: this.weights.get(label),
            "aria-label": `Weight of ${label}`,
            onchange: (event) => {
              this.weights.set(label, event.target.valueAsNumber || 0.5);
              this.keep();
            },
          }),
        );
      }),
    );
  }

  keep() {
    const entries = {
      codes: [...this.weights].map(([label, weight]) => `${label}=${weight}`).join("\n"),
      prompt: this.prompt.value,
      detail: this.detail.value,
      against: this.against.input.value,
      mode: this.mode.input.value === "additive" ? "" : this.mode.input.value,
    };
    for (const [name, [, { value }]] of Object.entries(NUMBERS)) {
      entries[name] = this.numbers[name].valueAsNumber === value ? "" : this.numbers[name].value;
    }
    this.remember(entries);
  }

  async go() {
    this.keep();
    const wrong = Object.values(this.numbers).find((input) => !input.reportValidity());
    if (wrong) return;
    const body = { sample: true, penalty_mode: this.mode.input.value };
    for (const [name, input] of Object.entries(this.numbers)) body[name] = input.valueAsNumber;
    if (this.prompt.value) body.prompt = this.prompt.value;
    if (this.detail.value) body.detail = this.detail.value;
    if (this.against.input.value && body.guidance !== 1) body.against = this.against.input.value;
    if (this.weights.size > 1) body.mixture = Object.fromEntries(this.weights);
    else [body.code] = this.weights.keys();
    const result = await this.task.run("api/generate", body);
    if (!result) return;
    this.copies.set(result);
    announce(`${counted(result.texts.length, "text")} written`);
    this.texts.replaceChildren(
      ...result.texts.map(({ text, log_probability: nats }) =>
        h(
          "article",
          { class: "item" },
          h("p", { class: "text" }, text),
          h(
            "div",
            { class: "row" },
            h(
              "span",
              { class: "note" },
              nats === null || nats === undefined ? "" : `log p ${figure(nats, 1)} nats`,
            ),
            button(null, "Which code?", () => this.attribution.read(text), {
              class: "quiet small",
            }),
          ),
        ),
      ),
    );
  }
}
