/** What does each of several latents change? */

import { takeaway } from "./copy.js";
import { announce, figure, h } from "./dom.js";
import { Field } from "./field.js";
import { content } from "./item.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

export class Exchange extends Panel {
  constructor(studio) {
    super(
      studio,
      "exchange",
      "Exchange",
      "Decode A with one latent from B at a time: what does each of them hold?",
    );
    this.a = new Field(studio, { label: "A", changed: () => this.go() });
    this.b = new Field(studio, { label: "B", changed: () => this.go() });
    this.task = new Task();
    this.copies = takeaway();
    this.list = h("ol", { class: "parts" });
    this.add(
      this.a.element,
      this.b.element,
      studio.decoding.section(),
      this.task.element,
      h("h2", {}, "Latents from B"),
      h(
        "p",
        { class: "note" },
        "In nats: how much less probable A is than under its own latents.",
      ),
      this.list,
      this.copies.element,
    );
    this.onDecoding(() => this.go());
  }

  open() {
    const kept = this.recall();
    if (kept.a || kept.b) {
      this.a.word = kept.a;
      this.b.word = kept.b;
    } else {
      this.a.set(this.studio.example(0));
      this.b.set(this.studio.example(1));
    }
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
  }

  async go() {
    this.remember({ a: this.a.word, b: this.b.word });
    if (this.a.input === null || this.b.input === null) {
      this.task.stop();
      this.list.replaceChildren(h("li", { class: "empty" }, "Fill in A and B."));
      this.copies.set(null);
      return this.draw();
    }
    const result = await this.task.run("api/exchange", {
      a: this.a.input,
      b: this.b.input,
      decoding: this.studio.decoding.body,
    });
    if (!result) return;
    this.copies.set(result);
    const { items } = result;
    const last = items.length - 1;
    const names = items.map(({ latents }, i) => {
      if (i === 0) return "none";
      if (i === last) return "all";
      return latents[0] === 0 && this.studio.run.summary ? "summary" : `${latents[0]}`;
    });
    this.list.replaceChildren(
      ...items.map((item, i) =>
        h(
          "li",
          {},
          h("span", { class: "at" }, names[i]),
          content(item, i ? items[0].text : undefined),
          h("small", {}, `${item.rise < 0 ? "" : "+"}${figure(item.rise, 1)} nats`),
        ),
      ),
    );
    announce(`${items.length} rows decoded.`);
    this.draw({
      lines: [],
      marks: items.map((item, i) => ({
        ...item,
        kind: i === 0 ? "a" : i === last ? "b" : "stop",
        label: i === 0 ? "A" : i === last ? "B" : names[i],
      })),
    });
  }
}
