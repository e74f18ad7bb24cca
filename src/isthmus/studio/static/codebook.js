/** What does each entry of a codebook stand for? */

import { takeaway } from "./copy.js";
import { announce, counted, figure, h } from "./dom.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

export class Codebook extends Panel {
  constructor(studio) {
    super(studio, "codebook", "Codebook", "Each latent is one of these codes: what does it stand for?");
    this.task = new Task();
    this.copies = takeaway();
    this.note = h("p", { class: "note" });
    this.list = h("ol", { class: "codes" });
    this.add(this.task.element, this.note, this.list, this.copies.element);
  }

  async open() {
    if (this.result) return;
    const result = await this.task.run("api/codebook", {});
    if (!result) return;
    this.result = result;
    this.copies.set(result);
    const { entries, size, texts } = result;
    const used = new Set(entries.map(({ code }) => code)).size;
    this.note.textContent =
      `${used} of ${size} codes are used by ${counted(texts, "text")}. ` +
      "Beside each, how much of all uses it has, its rate −log p in nats, and what stands there " +
      "more often than elsewhere.";
    this.list.replaceChildren(...entries.map((entry) => row(entry)));
    announce(`${used} of ${size} codes are used.`);
  }

  close() {
    super.close();
    this.task.stop();
  }
}

function row({ code, latent, share, nats, pieces, example }) {
  const place = latent < 0 ? "" : `latent ${latent} `;
  return h(
    "li",
    { title: example },
    h("span", { class: "entry" }, `${place}${code}`),
    h(
      "span",
      { class: "pieces" },
      ...pieces.map(({ text, share: own }) =>
        h("span", { class: "piece" }, text, " ", h("small", {}, percent(own))),
      ),
    ),
    h("small", { class: "rate" }, `${percent(share)} · ${figure(nats, 1)} nats`),
  );
}

function percent(share) {
  return share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
}
