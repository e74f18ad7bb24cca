/** The base of all panels: a heading, an introduction, and state kept in the address. */

import { h } from "./dom.js";
import { recall, remember } from "./state.js";

export class Panel {
  /** @param {object} studio  @param {string} name  @param {string} title  @param {string} lead */
  constructor(studio, name, title, lead) {
    this.studio = studio;
    this.name = name;
    this.element = h(
      "section",
      { class: `panel ${name}`, "aria-labelledby": `title-${name}`, tabindex: "-1" },
      h("h1", { id: `title-${name}` }, title),
      h("p", { class: "lead" }, lead),
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

  /** Called when the panel is shown; `fresh` if it has to read the address. */
  open() {}

  /** Called when another panel is shown. */
  close() {
    this.studio.map?.clear(this.name);
  }

  draw(layer) {
    this.studio.map?.draw(this.name, layer);
  }

  /** Calls `again` when the decoding settings change while the panel is open. */
  onDecoding(again) {
    this.studio.decoding.addEventListener("change", () => {
      if (!this.element.hidden) again();
    });
  }
}
