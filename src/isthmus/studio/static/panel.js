/** What all panels have: a heading, what to do, a way to remember, and to start anew. */

import { h } from "./dom.js";
import { recall, remember } from "./state.js";

export class Panel {
  /** @param {object} studio  @param {string} name  @param {string} title  @param {string} told */
  constructor(studio, name, title, told) {
    this.studio = studio;
    this.name = name;
    this.element = h(
      "section",
      { class: `panel ${name}`, "aria-labelledby": `title-${name}`, tabindex: "-1" },
      h("h1", { id: `title-${name}` }, title),
      h("p", { class: "lead" }, told),
    );
  }

  add(...children) {
    this.element.append(...children.filter(Boolean));
  }

  recall() {
    return recall(this.name);
  }

  remember(entries) {
    remember(this.name, entries);
  }

  /** The panel comes to the front; `fresh` when the address is to be read again. */
  open() {}

  /** The panel is left. */
  close() {
    this.studio.map?.clear(this.name);
  }

  draw(layer) {
    this.studio.map?.draw(this.name, layer);
  }

  /** Asks again when the decoding changes, if the panel is open. */
  onDecoding(again) {
    this.studio.decoding.addEventListener("change", () => {
      if (!this.element.hidden) again();
    });
  }
}
