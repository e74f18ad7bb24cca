/** From a picture to a caption, and from a sentence to a picture. */

import { takeaway } from "./copy.js";
import { announce, h } from "./dom.js";
import { dataURL, dropped } from "./field.js";
import { readout } from "./item.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

export class Pictures extends Panel {
  constructor(studio) {
    super(
      studio,
      "pictures",
      "Pictures",
      "Caption a picture, or draw a sentence.",
    );
    const halves = h("div", { class: "halves" });
    if (studio.run.can.caption) halves.append(this.caption());
    if (studio.run.can.draw) halves.append(this.drawing());
    this.add(halves);
  }

  caption() {
    const task = new Task();
    const copies = takeaway();
    const shown = h(
      "div",
      { class: "drop-shown" },
      h("span", {}, "Drop a picture here, or click to choose one"),
    );
    const result = h("div", { "aria-live": "polite" });
    const take = async (picture) => {
      shown.replaceChildren(
        h("img", { class: "picture", src: picture, alt: "The picture that was dropped" }),
      );
      const answer = await task.run("api/caption", { picture });
      if (!answer) return result.replaceChildren();
      result.replaceChildren(
        ...answer.items.map((item) => readout({ ...item, picture: undefined })),
      );
      copies.set(answer);
    };
    const file = h("input", {
      type: "file",
      accept: "image/*",
      id: "caption-file",
      class: "offscreen",
      onchange: async () => {
        if (file.files[0]) take(await dataURL(file.files[0]));
      },
    });
    const drop = h("label", { class: "drop", for: "caption-file" }, shown);
    dropped(drop, take);
    return h(
      "section",
      { "aria-label": "Caption" },
      h("h2", {}, "Caption"),
      file,
      drop,
      task.element,
      result,
      copies.element,
    );
  }

  drawing() {
    const task = (this.task = new Task());
    const copies = takeaway();
    this.area = h("textarea", {
      id: "drawn",
      rows: 3,
      maxlength: this.studio.run.limits.text,
      placeholder: "What to draw",
    });
    const result = h("div", {});
    this.drawNow = async () => {
      this.remember({ text: this.area.value });
      if (!this.area.value.trim()) return;
      const answer = await task.run("api/draw", { text: this.area.value });
      if (!answer) return;
      result.replaceChildren(...answer.items.map((item) => readout({ ...item, text: undefined })));
      announce("Picture drawn.");
      copies.set(answer);
    };
    return h(
      "form",
      {
        "aria-label": "Draw",
        onsubmit: (event) => {
          event.preventDefault();
          this.drawNow();
        },
      },
      h("h2", {}, "Draw"),
      h("label", { for: "drawn", class: "offscreen" }, "Sentence"),
      this.area,
      h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Draw")),
      task.element,
      result,
      copies.element,
    );
  }

  open() {
    const { text } = this.recall();
    if (!this.area || !text) return;
    this.area.value = text;
    this.drawNow();
  }
}
