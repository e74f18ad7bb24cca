/**
 * A place in the latent space that a person names: by writing, by choosing a picture, by pointing
 * at the map.
 *
 * A value is {text}, {index, picture} of the corpus, {picture} that was dropped, or {z} of a place;
 * the last three have a text beside them where there is one.
 */

import { button, h, settled } from "./dom.js";
import { asValue } from "./texts.js";

let numbers = 0;

export class Field {
  /**
   * @param {object} studio
   * @param {{label: string, changed: () => void, places?: boolean, hint?: string}} options `places`:
   *   whether a decoded place of the map can stand here as well.
   */
  constructor(studio, { label, changed, places = false, hint = "" }) {
    this.studio = studio;
    this.changed = changed;
    this.places = places;
    this.value = null;
    this.pictures = studio.run.kind !== "text"; // a joint run takes both
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
      ? button("target", `Take ${label} from the map`, () => this.point(label), {
          bare: true,
          class: "quiet",
        })
      : null;
    const dice = button("dice", `Take any text of the corpus for ${label}`, () => this.random(), {
      bare: true,
      class: "quiet",
    });
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

  /** Takes a value and tells of it. */
  use(value) {
    this.set(value);
    this.changed();
  }

  /** Takes a value silently. */
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

  /** Shows what stands here when it is not written text. */
  chip() {
    const { value } = this;
    const chosen = value && (value.z || value.picture || value.index !== undefined);
    this.area?.toggleAttribute("hidden", Boolean(chosen));
    if (!chosen) {
      const hint = this.writes
        ? "Or drop a picture, or take one from the map."
        : "Drop a picture, choose a file, or take one from the map.";
      this.shown.replaceChildren(this.pictures && !value ? h("p", { class: "note" }, hint) : "");
      return;
    }
    const own = value.index === undefined && !value.z;
    const words = value.text ?? (value.z && !value.picture ? "a place on the map" : null);
    this.shown.replaceChildren(
      value.picture
        ? h("img", { class: "picture", src: value.picture, alt: "The picture chosen" })
        : "",
      words === null ? "" : h("p", { class: "text" }, words),
      own ? h("small", {}, " Your own picture is not part of a link.") : "",
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
      `Press a point of the map: it becomes ${label}.`,
      (value) => this.use(value),
      this.places,
    );
  }

  /** What the server reads: a text, {index}, a data URL; null when empty or a place. */
  get input() {
    const { value } = this;
    if (!value || value.z) return null;
    if (value.index !== undefined) return { index: value.index };
    return value.picture ?? value.text;
  }

  /** {input} or {z}; null when empty. */
  get source() {
    if (this.value?.z) return { z: this.value.z };
    return this.input === null ? null : { input: this.input };
  }

  /** For the address; a dropped picture is too long for one. */
  get word() {
    const { value } = this;
    if (!value) return "";
    if (value.z) return `z:${value.z.map((part) => +part.toFixed(4)).join(",")}`;
    if (value.index !== undefined) return `#${value.index}`;
    return value.picture ? "" : value.text;
  }

  /** From the address. */
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
