/** How texts are decoded from p(x|z): shared by all panels. */

import { h, settled } from "./dom.js";
import { recall, remember } from "./state.js";

const NUMBERS = {
  temperature: { words: "Temperature", min: 0.1, max: 3, step: 0.1, value: 1, sampled: true },
  top_p: { words: "Top p (nucleus)", min: 0.05, max: 1, step: 0.05, value: 1, sampled: true },
  top_k: { words: "Top k (0: all)", min: 0, max: 1000, step: 1, value: 0, sampled: true },
  seed: { words: "Seed", min: 0, max: 2147483647, step: 1, value: 0, sampled: true },
  beams: { words: "Beams", min: 1, max: 8, step: 1, value: 1, sampled: false },
  max_new_tokens: { words: "Maximum tokens", min: 1, max: 128, step: 1, value: 64 },
  penalty: { words: "Repetition penalty", min: 1, max: 3, step: 0.1, value: 1 },
};

let group = 0;

/** A number with its label. */
export function number(words, { min, max, step, value }, changed) {
  const id = `number-${group++}`;
  const input = h("input", {
    type: "number",
    id,
    min,
    max,
    step,
    value,
    onchange: () => changed(input),
  });
  return {
    input,
    element: h("div", { class: "number-field" }, h("label", { for: id }, words), input),
  };
}

/** A choice with its label. */
export function choice(words, options, value, changed) {
  const id = `choice-${group++}`;
  const select = h(
    "select",
    { id, onchange: () => changed(select) },
    ...options.map(([name, text]) => h("option", { value: name }, text)),
  );
  select.value = value;
  return {
    input: select,
    element: h("div", { class: "number-field" }, h("label", { for: id }, words), select),
  };
}

export class Decoding extends EventTarget {
  constructor(run) {
    super();
    this.run = run;
    this.kept = recall("decode");
    this.changed = settled(() => this.dispatchEvent(new Event("change")), 250);
  }

  restore() {
    this.kept = recall("decode");
  }

  set(name, value, usual) {
    if (value === usual || value === "") delete this.kept[name];
    else this.kept[name] = String(value);
    remember("decode", { [name]: this.kept[name] });
    this.changed();
  }

  /** The part of a request: only what differs from the defaults. */
  get body() {
    const body = {};
    const sampled = this.kept.sample === "1";
    if (sampled) body.sample = true;
    for (const [name, { sampled: where, max }] of Object.entries(NUMBERS)) {
      if (!(name in this.kept) || (where !== undefined && where !== sampled)) continue;
      const value = Number(this.kept[name]);
      if (Number.isFinite(value))
        body[name] = Math.min(value, name === "max_new_tokens" ? this.run.limits.new_tokens : max);
    }
    if (this.kept.label && this.run.labels.includes(this.kept.label)) {
      body.label = this.kept.label;
      const guidance = Number(this.kept.guidance ?? 1);
      if (Number.isFinite(guidance) && guidance !== 1) body.guidance = guidance;
    }
    return body;
  }

  /** A section that opens; null for pictures, which are decoded as means. */
  section() {
    if (this.run.kind === "picture") return null;
    const fields = h("div", { class: "fields" });
    const summary = h("span", { class: "note" });
    const fill = () => {
      const sampled = this.kept.sample === "1";
      const way = choice(
        "Method",
        [
          ["", "most probable"],
          ["1", "sampled"],
        ],
        sampled ? "1" : "",
        ({ value }) => {
          this.set("sample", value, "");
          fill();
        },
      );
      const parts = [way];
      for (const [name, it] of Object.entries(NUMBERS)) {
        if (it.sampled !== undefined && it.sampled !== sampled) continue;
        const limits = name === "max_new_tokens" ? { ...it, max: this.run.limits.new_tokens } : it;
        parts.push(
          number(it.words, { ...limits, value: this.kept[name] ?? it.value }, (input) => {
            if (input.reportValidity()) this.set(name, input.valueAsNumber, it.value);
          }),
        );
      }
      if (this.run.labels.length) {
        parts.push(
          choice(
            "Label",
            [["", "each text's own"], ...this.run.labels.map((label) => [label, label])],
            this.kept.label ?? "",
            ({ value }) => {
              this.set("label", value, "");
              fill();
            },
          ),
        );
        if (this.kept.label) {
          parts.push(
            number(
              "Guidance",
              { min: 0, max: 10, step: 0.5, value: this.kept.guidance ?? 1 },
              (input) => this.set("guidance", input.valueAsNumber, 1),
            ),
          );
        }
      }
      fields.replaceChildren(...parts.map(({ element }) => element));
      summary.textContent = sampled ? "sampled" : "";
      if (this.kept.label) summary.textContent += ` ${this.kept.label}`;
    };
    fill();
    return h("details", { class: "decoding" }, h("summary", {}, "Decoding ", summary), fields);
  }
}
