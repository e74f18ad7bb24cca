/** The page: one studio, its map, and the panels that the run supports. */

import { get, ServerError } from "./api.js";
import { Arithmetic } from "./arithmetic.js";
import { Codebook } from "./codebook.js";
import { Control } from "./control.js";
import { Decoding } from "./decoding.js";
import { Dimensions } from "./dimensions.js";
import { announce, button, counted, figure, h, icon, thing } from "./dom.js";
import { listen } from "./gestures.js";
import { Exchange } from "./exchange.js";
import { Health } from "./health.js";
import { Here } from "./here.js";
import { Look } from "./look.js";
import { SpaceMap } from "./map.js";
import { mapbar } from "./mapbar.js";
import { Neighbours } from "./neighbours.js";
import { Optimise } from "./optimise.js";
import { Pictures } from "./pictures.js";
import { Sample } from "./sample.js";
import { Signs } from "./signs.js";
import { begin, opened, visit } from "./state.js";
import { texts } from "./texts.js";
import { theme } from "./theme.js";
import { Walk } from "./walk.js";

// name, title, class, is the map shown next to it, does the run support it
const PANELS = [
  ["map", "Map", Look, true, ({ can, corpus }) => can.space && corpus],
  ["walk", "Walk", Walk, true, ({ can }) => can.space],
  ["exchange", "Exchange", Exchange, true, ({ can }) => can.exchange],
  ["codebook", "Codebook", Codebook, true, ({ can }) => can.codebook],
  ["arithmetic", "Arithmetic", Arithmetic, true, ({ can }) => can.space],
  [
    "dimensions",
    "Dimensions",
    Dimensions,
    true,
    ({ can, dimensions }) => can.space && dimensions.length,
  ],
  ["neighbours", "Neighbours", Neighbours, true, ({ can, corpus }) => can.space && corpus],
  ["sample", "Sample", Sample, true, ({ can }) => can.space],
  ["optimise", "Search", Optimise, true, ({ can }) => can.optimise],
  ["control", "Control", Control, false, ({ can }) => can.control],
  ["pictures", "Pictures", Pictures, false, ({ can }) => can.caption || can.draw],
  ["signs", "Signs", Signs, false, ({ can }) => can.signs],
  ["health", "Health", Health, false, ({ kind }) => kind !== "signs"],
];

class Studio {
  constructor(run) {
    this.run = run;
    thing.one = { text: "text", joint: "example" }[run.kind] ?? "picture";
    this.texts = texts;
    this.decoding = new Decoding(run);
    this.offered = PANELS.filter(([, , , , offers]) => offers(run));
    this.panels = new Map();
    this.map = run.can.space && run.corpus ? new SpaceMap() : null;
    this.here = new Here(this);
    this.main = document.getElementById("main");
    this.title();
    this.rail();
    if (this.map) this.place();
  }

  title() {
    const { name, system, parameters, latent_size: size, corpus } = this.run;
    document.title = `${name} · Isthmus studio`;
    document
      .getElementById("run")
      .replaceChildren(
        h("b", {}, name),
        h(
          "span",
          {},
          [
            system,
            parameters ? `${short(parameters)} parameters` : null,
            size ? counted(size, "dimension") : null,
            corpus ? `${counted(corpus.count, thing.one)} from ${corpus.source}` : null,
          ]
            .filter(Boolean)
            .join(" · "),
        ),
      );
  }

  rail() {
    this.links = new Map(
      this.offered.map(([name, words]) => [
        name,
        h(
          "a",
          {
            href: `#${name}`,
            onclick: (event) => {
              if (event.ctrlKey || event.metaKey || event.shiftKey) return;
              event.preventDefault();
              this.go(name);
            },
          },
          icon(name),
          h("span", {}, words),
        ),
      ]),
    );
    document.getElementById("rail").replaceChildren(...this.links.values());
  }

  /** Adds the map to the page and handles its events. */
  place() {
    const { map, here } = this;
    const select = (polygon) => this.select(polygon);
    listen(map, {
      decode: (place, index) => here.press(place, index),
      select,
      leave: () => here.leave(),
    });
    const failed = h("p", { class: "error map-error", role: "alert", hidden: true });
    const section = h(
      "section",
      { class: "space", "aria-label": "Space" },
      map.stage,
      ...mapbar(map, select),
      here.banner,
      here.element,
      failed,
    );
    this.main.append(section);
    map.addEventListener("projection", () => {
      here.moved();
      if (map.final && !map.knows(opened())) this.panels.get(opened())?.go();
    });
    map.loaded = map.load();
    map.loaded
      .then(() => here.restore())
      .catch((failure) => {
        failed.textContent = failure.message;
        failed.hidden = false;
      });
  }

  /** The n-th example that the server offers, as the value of a field; null if there is none. */
  example(n) {
    const given = this.run.examples[n];
    if (given === undefined) return null;
    return typeof given === "string" ? { text: given } : { ...given };
  }

  /** Shows the panel that the address names; `fresh` reads its state from the address. */
  show(fresh) {
    const wanted = this.offered.find(([name]) => name === opened()) ?? this.offered[0];
    const [name, title, Kind, withMap] = wanted;
    for (const [other, panel] of this.panels) {
      if (other === name) continue;
      if (!panel.element.hidden) panel.close();
      panel.element.hidden = true;
    }
    let panel = this.panels.get(name);
    const first = !panel;
    if (first) {
      panel = new Kind(this);
      this.panels.set(name, panel);
      this.main.append(panel.element);
    }
    panel.element.hidden = false;
    this.main.classList.toggle("with-map", withMap && Boolean(this.map));
    for (const [other, link] of this.links) {
      if (other === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.links.get(name).scrollIntoView({ block: "nearest", inline: "center" });
    document.title = `${title} · ${this.run.name} · Isthmus studio`;
    if (!this.bringing) panel.open(fresh);
    return panel;
  }

  go(name) {
    visit(name);
    const panel = this.show(true);
    panel.element.scrollTop = 0;
    announce(name);
    return panel;
  }

  /** Opens a panel with a value from another panel. */
  bring(name, value) {
    const known = this.panels.get(name);
    const panel = this.go(name);
    if (known || panel.bring) panel.bring(value);
    panel.element.focus({ preventScroll: true });
  }

  /** Buttons that open other panels with this value, a place or an example. */
  ways(value) {
    const go = (name, words) =>
      button(name, words, () => this.bring(name, value), { class: "quiet small" });
    return [
      this.links.has("neighbours") ? go("neighbours", "Neighbours") : null,
      this.links.has("dimensions") ? go("dimensions", "Dimensions") : null,
      value.z ? null : go("walk", "Walk from here"),
    ].filter(Boolean);
  }

  /** Lists the points inside a polygon of places. */
  select(polygon) {
    const panel = opened() === "map" ? this.panels.get("map") : this.go("map");
    panel.select(polygon);
  }

  visitPoint(index) {
    const place = this.map?.place(index);
    if (!place) return;
    this.map.show(place);
    this.here.decode(place, index);
  }

  hoverPoint(text) {
    this.map?.draw("hover", text ? { marks: [{ index: text.index, kind: "ring" }] } : {});
  }
}

function short(parameters) {
  if (parameters >= 1e6) return `${figure(parameters / 1e6, 1)} M`;
  return parameters >= 1e3 ? `${figure(parameters / 1e3, 0)} k` : figure(parameters, 0);
}

async function start() {
  const waiting = document.getElementById("main");
  try {
    const run = await get("api/run");
    waiting.replaceChildren();
    let studio = null;
    begin(() => {
      studio.decoding.restore();
      studio.map?.revisit().then(() => studio.here.restore());
      studio.show(true);
    });
    studio = new Studio(run);
    theme(() => {
      studio.map?.repaint();
      studio.map?.dispatchEvent(new Event("theme"));
    });
    if (!opened()) history.replaceState(null, "", `#${studio.offered[0][0]}`);
    studio.show(true);
  } catch (failure) {
    waiting.replaceChildren(h("p", { class: "error", role: "alert" }, failure.message));
    if (!(failure instanceof ServerError)) throw failure;
  }
}

start();
