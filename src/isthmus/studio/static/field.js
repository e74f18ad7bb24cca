/**
 * An input of the user: a text, a picture, or a place on the map.
 *
 * A value is {text}, {index, picture} of the corpus, {picture} that was dropped, or {z} of a place;
 * the last three also have a text if one is known.
 */

import { button, h, settled, thing } from "./dom.js";
import { asValue } from "./texts.js";

let numbers = 0;

export class Field {
  /**
   * @param {object} studio
   * @param {{label: string, changed: () => void, places?: boolean, hint?: string}} options `places`:
   *   whether a place on the map is a valid input.
   */
  constructor(studio, { label, changed, places = false, hint = "" }) {
    this.studio = studio;
    this.changed = changed;
    this.places = places;
    this.value = null;
    this.pictures = studio.run.kind !== "text"; // a run of pictures with captions reads both
    this.writes = studio.run.kind !== "picture";
    const id = `field-${numbers++}`;
    const later = settled(() => this.changed(), 450);
    this.area = !this.writes
      ? null
      : h("textarea", {
          id,
          rows: 1,
          maxlength: studio.run.limits.text,
          placeholder: hint || "Write a text",
          spellcheck: "false",
          autocomplete: "off",
          oninput: () => {
            this.value = this.area.value.trim() ? { text: this.area.value } : null;
            this.chip();
            later();
          },
          onkeydown: (event) => {
            if (event.key === "Enter" && !event.shiftKey) {
              event.preventDefault();
              this.changed();
            }
          },
        });
    this.shown = h("div", { class: "shown" });
    const point = studio.map
      ? button("target", `Pick ${label} on the map`, () => this.point(label), {
          bare: true,
          class: "quiet",
        })
      : null;
    const dice = button(
      "dice",
      `Use a random ${thing.one} of the corpus as ${label}`,
      () => this.random(),
      { bare: true, class: "quiet" },
    );
    const open = this.pictures ? this.chooser(id, label) : null;
    this.element = h(
      "div",
      { class: `field ${this.pictures ? "pictures" : ""}` },
      h("label", { for: id }, label),
      this.area,
      this.shown,
      h(
        "div",
        { class: "field-tools" },
        point,
        studio.run.corpus || studio.run.examples.length ? dice : null,
        open,
      ),
    );
    if (this.pictures) this.droppable();
    this.chip();
  }

  chooser(id, label) {
    const file = h("input", {
      type: "file",
      accept: "image/*",
      id,
      class: "offscreen",
      onchange: () => {
        if (file.files[0]) this.take(file.files[0]);
      },
    });
    return h(
      "span",
      {},
      file,
      button("upload", `Choose a picture for ${label}`, () => file.click(), {
        bare: true,
        class: "quiet",
      }),
    );
  }

  droppable() {
    dropped(this.element, (picture) => this.use({ picture }));
  }

  async take(file) {
    this.use({ picture: await dataURL(file) });
  }

  /** Sets a value and reports the change. */
  use(value) {
    this.set(value);
    this.changed();
  }

  /** Sets a value without reporting it. */
  set(value) {
    this.value = value;
    const written = value && !value.z && value.index === undefined;
    if (this.area) this.area.value = written ? (value.text ?? "") : "";
    this.chip();
    if (this.pictures && value?.index !== undefined && !value.picture) {
      this.studio.texts.of([value.index]).then(
        ([text]) => {
          if (text && this.value === value) {
            Object.assign(value, text);
            this.chip();
          }
        },
        () => {},
      );
    }
  }

  /** Shows a value that is not written text. */
  chip() {
    const { value } = this;
    const chosen = value && (value.z || value.picture || value.index !== undefined);
    this.area?.toggleAttribute("hidden", Boolean(chosen));
    if (!chosen) {
      const hint = this.writes
        ? "Or drop a picture here, or pick one on the map."
        : "Drop a picture here, choose a file, or pick one on the map.";
      this.shown.replaceChildren(this.pictures && !value ? h("p", { class: "note" }, hint) : "");
      return;
    }
    const own = value.index === undefined && !value.z;
    const words = value.text ?? (value.z && !value.picture ? "a place on the map" : null);
    this.shown.replaceChildren(
      value.picture
        ? h("img", { class: "picture", src: value.picture, alt: "The chosen picture" })
        : "",
      words === null ? "" : h("p", { class: "text" }, words),
      own ? h("small", {}, " Links do not include your own pictures.") : "",
      this.writes
        ? button("close", "Write a text instead", () => this.use(null), { class: "quiet small" })
        : "",
    );
  }

  async random() {
    const { run, texts } = this.studio;
    if (run.corpus && run.can.space) {
      const [one] = await texts.of([Math.floor(Math.random() * run.corpus.count)]).catch(() => []);
      if (one) return this.use(asValue(one));
    }
    const { length } = run.examples;
    if (length) this.use(this.studio.example(Math.floor(Math.random() * length)));
  }

  point(label) {
    this.studio.here.pick(
      `Select a point on the map to use it as ${label}.`,
      (value) => this.use(value),
      this.places,
    );
  }

  /** The input as the server reads it: a text, {index} or a data URL; null if empty or a place. */
  get input() {
    const { value } = this;
    if (!value || value.z) return null;
    if (value.index !== undefined) return { index: value.index };
    return value.picture ?? value.text;
  }

  /** {input} or {z}; null if empty. */
  get source() {
    if (this.value?.z) return { z: this.value.z };
    return this.input === null ? null : { input: this.input };
  }

  /** The value in the address; a dropped picture is too long for it. */
  get word() {
    const { value } = this;
    if (!value) return "";
    if (value.z) return `z:${value.z.map((part) => +part.toFixed(4)).join(",")}`;
    if (value.index !== undefined) return `#${value.index}`;
    return value.picture ? "" : value.text;
  }

  /** Sets the value from the address. */
  set word(word) {
    if (!word) return this.set(null);
    const index = word.match(/^#(\d+)$/);
    if (word.startsWith("z:")) {
      const z = word.slice(2).split(",").map(Number);
      this.set(z.every(Number.isFinite) ? { z } : null);
    } else if (this.pictures && index) {
      this.set({ index: Number(index[1]) });
    } else if (this.writes) {
      this.set({ text: word });
    }
  }
}

/** A file as a data URL. */
export function dataURL(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** Lets pictures be dropped on an element. */
export function dropped(element, take) {
  const over = (on) => (event) => {
    event.preventDefault();
    element.classList.toggle("over", on);
  };
  element.addEventListener("dragover", over(true));
  element.addEventListener("dragleave", over(false));
  element.addEventListener("drop", async (event) => {
    over(false)(event);
    const file = [...event.dataTransfer.files].find(({ type }) => type.startsWith("image/"));
    if (file) take(await dataURL(file));
  });
}
