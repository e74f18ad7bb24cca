/** What the colours of the map mean; a click shows one category alone. */

import { category, css, ramp } from "./colours.js";
import { figure, h, s } from "./dom.js";
import { recall, remember } from "./state.js";

const UNITS = { length: "words", reconstruction: "nats", kl: "nats" };
const MOST = 12; // categories that the legend names

/** @param {SpaceMap} map */
export function legend(map) {
  const element = h("div", { class: "legend" });
  const fill = () => {
    const { colouring } = map;
    if (!colouring) return;
    element.replaceChildren(
      ...(colouring.kind === "number" ? [scale(colouring)] : categories(map, element)),
    );
  };
  map.addEventListener("colour", fill);
  map.addEventListener("theme", fill);
  return element;
}

function categories(map, element) {
  const values = map.values.get(map.by);
  const counts = new Map();
  for (const value of values) if (value >= 0) counts.set(value, (counts.get(value) ?? 0) + 1);
  const order = [...counts.keys()].sort((a, b) =>
    named(map, a).localeCompare(named(map, b), "en", { numeric: true }),
  );
  const keys = new Map();
  const alone = (value) => {
    for (const [other, key] of keys) key.setAttribute("aria-pressed", String(other === value));
    map.choose(value === null ? null : where(values, value));
  };
  for (const value of order.slice(0, MOST)) {
    const press = () => {
      const on = keys.get(value).getAttribute("aria-pressed") === "true";
      remember("map", { only: on ? "" : named(map, value) });
      alone(on ? null : value);
    };
    const title = `${figure(counts.get(value), 0)} points; click to show only these`;
    const key = { type: "button", class: "key", "aria-pressed": "false", title, onclick: press };
    keys.set(
      value,
      h("button", key, swatch(css(category(value))), h("span", {}, named(map, value))),
    );
  }
  const { only } = recall("map");
  const kept = [...keys.keys()].find((value) => named(map, value) === only);
  if (kept !== undefined) alone(kept);
  const left = order.length - MOST;
  return [...keys.values(), left > 0 ? h("span", { class: "note" }, `and ${left} more`) : ""];
}

function where(values, value) {
  const found = [];
  values.forEach((each, i) => each === value && found.push(i));
  return Uint32Array.from(found);
}

/** The name of a category in the colouring of the map. */
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
