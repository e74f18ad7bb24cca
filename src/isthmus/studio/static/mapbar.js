/** What stands at the edges of the map: projection, colours with their legend, zoom, lasso. */

import { category, css, ramp } from "./colours.js";
import { announce, button, figure, h, s } from "./dom.js";
import { inView } from "./gestures.js";
import { remember } from "./state.js";

const UNITS = { length: "tokens", reconstruction: "nats", kl: "nats" };
const WORDS = {
  label: "label",
  cluster: "cluster",
  length: "length",
  reconstruction: "reconstruction loss",
  kl: "KL",
};
const MOST = 12; // categories that a legend names

/** @param {SpaceMap} map  @param {(indices: Uint32Array) => void} select */
export function mapbar(map, select) {
  const projections = h("div", { class: "segments", role: "group", "aria-label": "Projection" });
  const colours = h("select", { "aria-label": "Colour the points by", onchange: () => pick() });
  const legend = h("div", { class: "legend" });
  const note = h("span", { class: "note", role: "status" });
  const tell = (failure) => {
    note.textContent = failure.message;
  };
  const pick = () => {
    const first = map.about.colours[0].name;
    remember("map", { by: colours.value === first ? "" : colours.value });
    map.colour(colours.value).catch(tell);
  };
  const show = (name) => {
    remember("map", { projection: name === "pca" ? "" : name });
    return map.project(name);
  };

  const project = (name) => async () => {
    note.textContent = "";
    try {
      if (["none", "failed"].includes(map.about.projections[name].state)) {
        await map.embed();
        announce("t-SNE is being computed.");
      } else {
        await show(name);
      }
    } catch (failure) {
      tell(failure);
    }
  };
  const NAMES = { pca: "PCA", tsne: "t-SNE" };
  let wanted = false;
  const state = h("div", { class: "map-state" }, "Asking for the map …");
  const fillState = () => {
    const { state: now, done, total } = map.about.projections.pca;
    state.hidden = now === "ready";
    state.classList.toggle("aside", now === "working");
    state.replaceChildren(
      `Encoding the corpus for the map${total ? `: ${figure(done, 0)} of ${figure(total, 0)}` : ""} …`,
      h("progress", { max: total || 1, value: done, "aria-label": "Encoding" }),
    );
  };
  const fillProjections = () => {
    fillState();
    projections.replaceChildren(
      ...Object.entries(map.about.projections).map(([name, it]) => {
        const busy = it.state === "queued" || it.state === "working";
        const share = it.total ? ` ${figure((100 * it.done) / it.total, 0)} %` : " …";
        if (name === "tsne" && busy) wanted = true;
        const title =
          name === "pca"
            ? `The two directions of largest variance${it.explained ? `: ${it.explained.map((part) => `${figure(100 * part, 0)} %`).join(" and ")} of it` : ""}`
            : "Neighbours stay neighbours; distances between groups mean nothing";
        return h(
          "button",
          {
            type: "button",
            title,
            onclick: project(name),
            disabled: busy,
            "aria-pressed": String(map.projection === name),
          },
          (NAMES[name] ?? name) + (busy ? share : ""),
        );
      }),
    );
    if (wanted && map.about.projections.tsne?.state === "ready") {
      wanted = false;
      announce("t-SNE is ready.");
      show("tsne").catch(tell);
    }
  };
  const fillColours = () => {
    colours.replaceChildren(
      ...map.about.colours.map(({ name, state }) =>
        h(
          "option",
          {
            value: name,
            disabled: state !== "ready",
            selected: name === map.by,
          },
          (WORDS[name] ?? name) + (state === "ready" ? "" : " (working)"),
        ),
      ),
    );
    colours.hidden = !map.about.colours.length;
    colours.value = map.by;
  };

  let alone = -1;
  const fillLegend = () => {
    alone = -1;
    const { colouring } = map;
    if (!colouring) return legend.replaceChildren();
    if (colouring.kind === "number") return legend.replaceChildren(scale(colouring));
    const values = map.values.get(map.by);
    const counts = new Map();
    for (const value of values) if (value >= 0) counts.set(value, (counts.get(value) ?? 0) + 1);
    const order = [...counts.keys()].sort((a, b) =>
      named(map, a).localeCompare(named(map, b), "en", { numeric: true }),
    );
    const entry = (value) =>
      h(
        "button",
        {
          type: "button",
          class: "key",
          "aria-pressed": "false",
          title: `${figure(counts.get(value), 0)} points; press to see them alone`,
          onclick: (event) => {
            alone = alone === value ? -1 : value;
            for (const other of legend.querySelectorAll(".key"))
              other.setAttribute("aria-pressed", "false");
            event.currentTarget.setAttribute("aria-pressed", String(alone === value));
            map.choose(
              alone < 0
                ? null
                : Uint32Array.from(values.keys()).filter((i) => values[i] === value),
            );
          },
        },
        swatch(css(category(value))),
        h("span", {}, named(map, value)),
      );
    const more =
      order.length > MOST ? h("span", { class: "note" }, `and ${order.length - MOST} more`) : null;
    legend.replaceChildren(...order.slice(0, MOST).map(entry), ...(more ? [more] : []));
  };

  const lasso = button(
    "lasso",
    "Lasso: draw around points to list them (or hold Shift)",
    () => {
      map.lassoing = !map.lassoing;
      lasso.setAttribute("aria-pressed", String(map.lassoing));
      map.stage.classList.toggle("lassoing", map.lassoing);
    },
    { bare: true, "aria-pressed": "false" },
  );
  const tools = h(
    "div",
    { class: "tools", role: "group", "aria-label": "Map" },
    button("in", "Zoom in", () => map.zoom(1.5), { bare: true }),
    button("out", "Zoom out", () => map.zoom(1 / 1.5), { bare: true }),
    button("fit", "Show all", () => map.fit(), { bare: true }),
    lasso,
    button("view", "List what is in view", () => select(inView(map)), { bare: true }),
  );

  map.addEventListener("about", () => {
    fillProjections();
    fillColours();
  });
  map.addEventListener("projection", fillProjections);
  map.addEventListener("colour", () => {
    fillColours();
    fillLegend();
  });
  map.addEventListener("theme", fillLegend);
  const top = h(
    "div",
    { class: "mapbar" },
    projections,
    h("label", { class: "by" }, h("span", {}, "Colour"), colours),
    note,
  );
  return [top, tools, legend, state];
}

/** The name of a category of the map's colouring. */
export function named(map, value) {
  const name = map.colouring.names?.[value] ?? String(value);
  return map.by === "cluster" ? `cluster ${name}` : name;
}

export function swatch(colour) {
  return s(
    "svg",
    { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
    s("circle", { cx: 5, cy: 5, r: 4.5, fill: colour }),
  );
}

function scale({ name, low, high }) {
  const steps = 24;
  const bar = s(
    "svg",
    {
      class: "scale",
      viewBox: `0 0 ${steps} 1`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    ...Array.from({ length: steps }, (_, n) =>
      s("rect", { x: n, width: 1.05, height: 1, fill: css(ramp(n / (steps - 1))) }),
    ),
  );
  const digits = high - low < 10 ? 1 : 0;
  return h(
    "div",
    { class: "number" },
    h("span", {}, figure(low, digits)),
    bar,
    h("span", {}, `${figure(high, digits)} ${UNITS[name] ?? ""}`),
  );
}
