/** The card of a place on the map: what it decodes to, and links to other panels. */

import { takeaway } from "./copy.js";
import { announce, button, h, thing } from "./dom.js";
import { content, readout } from "./item.js";
import { recall, remember } from "./state.js";
import { Task } from "./task.js";
import { asValue } from "./texts.js";

export class Here {
  constructor(studio) {
    this.studio = studio;
    this.task = new Task();
    this.body = h("div", { class: "here-body" });
    this.copies = takeaway();
    this.title = h("h2", {}, "This place");
    this.element = h(
      "section",
      { class: "here", "aria-label": "The selected place", hidden: true },
      h(
        "header",
        {},
        this.title,
        button("close", "Close", () => this.leave(), { bare: true, class: "quiet" }),
      ),
      this.body,
      this.task.element,
      this.copies.element,
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.leave();
    });
    this.banner = h("div", { class: "banner", role: "status", hidden: true });
    studio.decoding.addEventListener("change", () => {
      if (this.place && !this.element.hidden) this.decode(this.place, this.index);
    });
  }

  /** Calls `then` with the next point that is clicked, instead of decoding it. */
  pick(message, then, places) {
    this.picking = { then, places };
    this.banner.replaceChildren(
      h("span", {}, message),
      button("close", "Cancel", () => this.unpick(), { class: "quiet small" }),
    );
    this.banner.hidden = false;
    this.studio.map.stage.classList.add("picking");
    this.studio.map.stage.focus({ preventScroll: true });
  }

  unpick() {
    this.picking = null;
    this.banner.hidden = true;
    this.studio.map.stage.classList.remove("picking");
  }

  async press(place, index) {
    const { picking } = this;
    if (!picking) return this.decode(place, index);
    if (index < 0 && !picking.places) {
      this.banner.firstChild.textContent = "There is no point there. Select one of the dots.";
      return;
    }
    this.unpick();
    if (index >= 0) {
      const [text] = await this.studio.texts.of([index]).catch(() => []);
      if (text) picking.then(asValue(text));
    } else {
      const item = await this.decode(place, index);
      if (item) picking.then({ z: item.z, text: item.text, picture: item.picture });
    }
  }

  /** Decodes a place [x, y] of the shown projection, or the example at a point. */
  async decode(place, index = -1) {
    Object.assign(this, { place, index, item: null });
    this.element.hidden = false;
    this.mark();
    const known = index < 0 ? null : this.original(index);
    const [result, original] = await Promise.all([this.ask(), known]);
    if (this.place !== place) return null; // another place was selected in the meantime
    if (!result) {
      this.body.replaceChildren();
      return null;
    }
    [this.item] = result.items;
    this.mark();
    this.copies.set(result);
    this.fill(original, result.how);
    return this.item;
  }

  async original(index) {
    const [original] = await this.studio.texts.of([index]).catch(() => []);
    return original ?? { index };
  }

  ask() {
    const { place, index, studio } = this;
    const decoding = studio.decoding.body;
    if (index >= 0) return this.task.run("api/encode", { inputs: [{ index }], decoding });
    const { projection } = studio.map;
    return this.task.run("api/decode", { place, projection, decoding });
  }

  fill(original, how) {
    const { item } = this;
    this.title.textContent = original
      ? `${thing.one[0].toUpperCase()}${thing.one.slice(1)} ${original.index}`
      : "This place";
    const before = original && [
      h("h3", {}, "In the corpus", original.label && h("small", { class: "tag" }, original.label)),
      h("div", { class: "original" }, content(original)),
      h("h3", {}, "Decoded from its latent"),
    ];
    const actions = this.studio.ways(
      original ? asValue(original) : { z: item.z, text: item.text, picture: item.picture },
    );
    this.body.replaceChildren(
      ...(before ?? []),
      readout(item, { before: original?.text, near: !original, actions }),
      how ? h("p", { class: "note" }, how) : "",
    );
    announce(item.text ?? "Picture decoded.");
  }

  /** Marks the place in every projection where it is known, and remembers it. */
  mark() {
    const { map } = this.studio;
    const { index, place } = this;
    const places = { ...this.item?.places, [map.projection]: place };
    map.draw("here", { marks: [index < 0 ? { places, kind: "here" } : { index, kind: "here" }] });
    const words = place.map((part) => part.toFixed(4)).join(",");
    remember("map", { here: index < 0 ? words : `#${index}` });
  }

  /** Moves to the same place in another projection; closes the card if it is not known there. */
  moved() {
    if (!this.place || this.index >= 0) return;
    const place = this.item?.places?.[this.studio.map.projection];
    if (!place) return this.leave();
    this.place = place;
    this.mark();
  }

  restore() {
    const { here } = recall("map");
    const index = here?.match(/^#(\d+)$/);
    const place = here?.split(",").map(Number);
    if (index && Number(index[1]) < this.studio.map.about.count) {
      this.decode(this.studio.map.place(Number(index[1])), Number(index[1]));
    } else if (place?.length === 2 && place.every(Number.isFinite)) {
      this.decode(place);
    } else if (this.place) {
      this.leave();
    }
  }

  leave() {
    if (this.picking) return this.unpick();
    this.task.stop();
    this.element.hidden = true;
    this.place = null;
    this.studio.map.clear("here");
    remember("map", { here: "" });
  }
}
