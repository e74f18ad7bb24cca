/** From one example to another. */

import { takeaway } from "./copy.js";
import { button, figure, h, thing } from "./dom.js";
import { Field } from "./field.js";
import { content, crowd, meters, nearest } from "./item.js";
import { choice, number } from "./decoding.js";
import { Panel } from "./panel.js";
import { newest, Task } from "./task.js";

export class Walk extends Panel {
  constructor(studio) {
    super(studio, "walk", "Walk", `Decode points on the way from one ${thing.one} to another.`);
    this.a = new Field(studio, { label: "A", changed: () => this.go() });
    this.b = new Field(studio, { label: "B", changed: () => this.go() });
    this.task = new Task();
    this.live = new Task();
    this.copies = takeaway();
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.01,
      value: 0.5,
      id: "walk-position",
      class: "way",
      oninput: () => this.slide(),
    });
    this.reading = h("output", { for: "walk-position" });
    this.now = h("div", { class: "now", "aria-live": "polite" });
    this.stops = h("ol", { class: "stops", "aria-label": "All points" });
    this.path = choice(
      "Path",
      [
        ["slerp", "along the sphere (slerp)"],
        ["lerp", "straight (lerp)"],
        ...(studio.run.can.sentences ? [["sentences", "sentence by sentence"]] : []),
      ],
      "slerp",
      () => this.go(),
    );
    this.steps = number(
      "Points between",
      { min: 0, max: 30, step: 1, value: 7 },
      (input) => input.reportValidity() && this.go(),
    );
    const swap = button(
      null,
      "Swap A and B",
      () => {
        const [a, b] = [this.a.value, this.b.value];
        this.a.set(b);
        this.b.set(a);
        this.go();
      },
      { class: "quiet small" },
    );
    const options = h("div", { class: "fields" }, this.path.element, this.steps.element, swap);
    const label = h("label", { for: "walk-position" }, "Position between A and B");
    this.add(
      this.a.element,
      this.b.element,
      h("div", { class: "slide" }, label, this.reading, this.slider),
      this.live.element,
      this.now,
      options,
      studio.decoding.section(),
      this.task.element,
      h("h2", {}, "All points"),
      this.stops,
      this.copies.element,
    );
    this.decode = newest(() => this.decodeHere());
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
    this.path.input.value = kept.path ?? "slerp";
    if (!this.path.input.value) this.path.input.value = "slerp"; // this run lacks that path
    this.steps.input.value = kept.steps ?? 7;
    this.slider.value = kept.at ?? 0.5;
    this.go();
  }

  bring(value) {
    this.a.set(value);
    this.go();
  }

  close() {
    super.close();
    this.task.stop();
    this.live.stop();
  }

  ask() {
    return {
      a: this.a.input,
      b: this.b.input,
      path: this.path.input.value,
      decoding: this.studio.decoding.body,
    };
  }

  /** Whether sentences change one by one: there is nothing between two points. */
  get inSentences() {
    return this.path.input.value === "sentences";
  }

  /** Decodes the whole walk. */
  async go() {
    const steps = this.steps.input.valueAsNumber;
    this.steps.element.hidden = this.inSentences;
    this.remember({
      a: this.a.word,
      b: this.b.word,
      at: this.slider.value === "0.5" ? "" : this.slider.value,
      path: this.path.input.value === "slerp" ? "" : this.path.input.value,
      steps: steps === 7 ? "" : steps,
    });
    this.known = new Map();
    if (this.a.input === null || this.b.input === null) {
      this.items = null;
      this.stops.replaceChildren();
      this.now.replaceChildren(
        h("p", { class: "empty" }, "Fill in A and B, or pick them on the map."),
      );
      this.copies.set(null);
      return this.draw();
    }
    const result = await this.task.run("api/walk", { ...this.ask(), steps });
    if (!result) return;
    this.items = result.items;
    this.copies.set(result);
    for (const item of this.items) this.known.set(item.position.toFixed(2), item);
    this.list();
    this.slide();
  }

  list() {
    this.stops.replaceChildren(...this.items.map((item, i) => h("li", {}, this.stop(item, i))));
  }

  /** A line of the list: position, content, and a note if it is far from the corpus. */
  stop(item, i) {
    const go = () => {
      this.slider.value = item.position;
      this.slide();
    };
    const place = crowd(item);
    return h(
      "button",
      { type: "button", class: "stop", onclick: go },
      h("span", { class: "at" }, figure(item.position, 2)),
      content(item, i ? this.items[i - 1].text : undefined),
      place && place.level !== "among"
        ? h("small", { class: `crowd ${place.level}`, title: place.words }, place.name)
        : null,
    );
  }

  slide() {
    const at = Number(this.slider.value);
    this.reading.textContent = at === 0 ? "A" : at === 1 ? "B" : figure(at, 2);
    this.slider.setAttribute("aria-valuetext", `${Math.round(100 * at)} % of the way from A to B`);
    this.remember({ at: at === 0.5 ? "" : at });
    const known = this.inSentences ? this.stopAt(at) : this.known?.get(at.toFixed(2));
    if (known) this.fill(known);
    else if (this.inSentences) return;
    else if (this.a.input !== null && this.b.input !== null) this.decode();
    else return;
    [...this.stops.children].forEach((stop, i) =>
      stop.toggleAttribute(
        "data-here",
        this.items && Math.abs(this.items[i].position - at) < 0.5 / (this.items.length - 1),
      ),
    );
  }

  /** The point of the list that is nearest to a position. */
  stopAt(at) {
    return this.items?.[Math.round(at * (this.items.length - 1))];
  }

  async decodeHere() {
    const at = Number(this.slider.value);
    const { known } = this;
    const result = await this.live.run("api/walk", { ...this.ask(), position: at });
    if (!result || this.known !== known) return;
    known.set(at.toFixed(2), result.items[0]);
    if (Number(this.slider.value).toFixed(2) === at.toFixed(2)) this.fill(result.items[0]);
    else this.decode();
  }

  fill(item) {
    this.now.replaceChildren(
      ...[content(item, this.last), meters(item), nearest(item)].filter(Boolean),
    );
    this.last = item.text;
    const items = this.items ?? [];
    this.draw({
      lines: [items],
      marks: [
        ...items.slice(1, -1).map((stop) => ({ ...stop, kind: "stop" })),
        ...(items.length
          ? [
              { ...items[0], kind: "a", label: "A" },
              { ...items.at(-1), kind: "b", label: "B" },
            ]
          : []),
        { ...item, kind: "now" },
      ],
    });
  }
}
