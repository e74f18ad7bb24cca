/** A − B + C, or any weighted sum. */

import { takeaway } from "./copy.js";
import { announce, button, figure, h, settled } from "./dom.js";
import { Field } from "./field.js";
import { content, readout } from "./item.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

const LETTERS = "ABCDEF";

export class Arithmetic extends Panel {
  constructor(studio) {
    super(
      studio,
      "arithmetic",
      "Arithmetic",
      "Give C what A has and B lacks: z = A − B + C.",
    );
    this.rows = [];
    this.list = h("div", { class: "terms" });
    this.formula = h("p", { class: "formula", "aria-live": "off" });
    this.task = new Task();
    this.copies = takeaway();
    this.result = h("div", { class: "now" });
    this.parts = h("ol", { class: "parts" });
    this.more = button(
      "add",
      "Add a term",
      () => {
        this.append("", 1);
        this.go();
      },
      { class: "quiet small" },
    );
    this.add(
      this.list,
      h("div", { class: "row" }, this.more, this.formula),
      studio.decoding.section(),
      this.task.element,
      this.result,
      h("h2", {}, "Each term, decoded from its own latent"),
      this.parts,
      this.copies.element,
    );
    this.later = settled(() => this.go(), 200);
    this.onDecoding(() => this.go());
  }

  append(word, weight) {
    const letter = LETTERS[this.rows.length];
    const field = new Field(this.studio, { label: letter, changed: () => this.go() });
    const id = `weight-${letter}`;
    const input = h("input", {
      type: "number",
      id,
      class: "weight",
      min: -5,
      max: 5,
      step: 0.1,
      value: weight,
      oninput: () => this.later(),
    });
    const drop = button("close", `Remove ${letter}`, () => this.drop(row), {
      bare: true,
      class: "quiet",
    });
    const row = {
      field,
      input,
      element: h(
        "div",
        { class: "term" },
        h(
          "div",
          { class: "weigh" },
          h("label", { for: id, class: "offscreen" }, `Weight of ${letter}`),
          input,
          h("span", { "aria-hidden": "true" }, "×"),
        ),
        field.element,
        drop,
      ),
    };
    field.word = word;
    this.rows.push(row);
    this.list.append(row.element);
    this.count();
    return row;
  }

  drop(row) {
    const kept = this.rows
      .filter((other) => other !== row)
      .map(({ field, input }) => [field.value, input.value]);
    this.rows = [];
    this.list.replaceChildren();
    for (const [value, weight] of kept) this.append("", weight).field.set(value);
    this.go();
  }

  count() {
    this.more.hidden = this.rows.length >= LETTERS.length;
    for (const { element } of this.rows) element.lastChild.hidden = this.rows.length <= 2;
  }

  open() {
    const kept = this.recall();
    this.rows = [];
    this.list.replaceChildren();
    const letters = [...LETTERS].filter(
      (letter) => kept[letter] !== undefined || kept[`w${letter}`] !== undefined,
    );
    if (letters.length >= 2) {
      for (const letter of letters) this.append(kept[letter] ?? "", kept[`w${letter}`] ?? 1);
    } else {
      [1, -1, 1].forEach((weight, i) => {
        this.append("", weight).field.set(this.studio.example(i));
      });
    }
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
  }

  async go() {
    const entries = Object.fromEntries(
      [...LETTERS].flatMap((letter) => [
        [letter, ""],
        [`w${letter}`, ""],
      ]),
    );
    this.rows.forEach(({ field, input }, i) => {
      entries[LETTERS[i]] = field.word;
      entries[`w${LETTERS[i]}`] = input.value;
    });
    this.remember(entries);
    this.formula.textContent = this.rows
      .map(({ input }, i) => term(input.valueAsNumber, i))
      .join(" ");
    const used = this.rows.filter(
      ({ field, input }) => field.input !== null && Number.isFinite(input.valueAsNumber),
    );
    if (used.length < 2) {
      this.task.stop();
      this.result.replaceChildren(h("p", { class: "empty" }, "Fill in at least two terms."));
      this.parts.replaceChildren();
      this.copies.set(null);
      return this.draw();
    }
    const terms = used.map(({ field, input }) => ({
      input: field.input,
      weight: input.valueAsNumber,
    }));
    const result = await this.task.run("api/arithmetic", {
      terms,
      decoding: this.studio.decoding.body,
    });
    if (!result) return;
    const [item] = result.items;
    const { z, text, picture } = item;
    const actions = this.studio.ways({ z, text, picture });
    this.result.replaceChildren(readout(item, { actions }));
    announce(item.text ?? "Picture decoded.");
    this.copies.set(result);
    const names = used.map((row) => LETTERS[this.rows.indexOf(row)]);
    this.parts.replaceChildren(
      ...result.parts.map((part, i) =>
        h("li", {}, h("span", { class: "at" }, names[i]), content(part)),
      ),
    );
    // From C to the result is the same step as from B to A: two sides of a parallelogram.
    const plain = terms.map(({ weight }) => weight).join() === "1,-1,1";
    this.draw({
      lines: plain
        ? [
            [result.parts[1], result.parts[0]],
            [result.parts[2], item],
          ]
        : [],
      marks: [
        ...result.parts.map((part, i) => ({ ...part, kind: "part", label: names[i] })),
        { ...item, kind: "now", label: "result" },
      ],
    });
  }
}

/** "− 0.5 B". */
function term(weight, i) {
  if (!Number.isFinite(weight)) return "";
  const size = Math.abs(weight) === 1 ? "" : `${figure(Math.abs(weight), 1)} `;
  const sign = weight < 0 ? "− " : i ? "+ " : "";
  return `${sign}${size}${LETTERS[i]}`;
}
