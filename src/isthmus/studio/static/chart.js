/** Charts drawn as SVG: lines over steps, bars, spreads. */

import { figure, h, s, thing } from "./dom.js";

const HIGH = 150;
const LEFT = 40;
const BOTTOM = 20;
const TOP = 8;
const RIGHT = 8;

/** About `count` round numbers between two ends. */
function ticks(low, high, count = 4) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((value) => value >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step)
    found.push(Number(value.toPrecision(12)));
  return found;
}

const short = (value) =>
  Math.abs(value) >= 10000
    ? `${figure(value / 1000, 0)}k`
    : figure(value, Number.isInteger(value) ? 0 : Math.abs(value) < 1 ? 2 : 1);

function frame(title, unit, summary, [x0, x1], [y0, y1], marksX, wide = 320) {
  const across = (x) => LEFT + ((x - x0) / (x1 - x0 || 1)) * (wide - LEFT - RIGHT);
  const up = (y) => HIGH - BOTTOM - ((y - y0) / (y1 - y0 || 1)) * (HIGH - BOTTOM - TOP);
  const svg = s("svg", {
    class: "chart",
    viewBox: `0 0 ${wide} ${HIGH}`,
    role: "img",
    "aria-label": `${title}. ${summary}`,
  });
  for (const y of ticks(y0, y1)) {
    svg.append(
      s("line", { class: "grid", x1: LEFT, x2: wide - RIGHT, y1: up(y), y2: up(y) }),
      s("text", { class: "y", x: LEFT - 5, y: up(y) + 3 }, short(y)),
    );
  }
  for (const [x, words] of marksX)
    svg.append(s("text", { class: "x", x: across(x), y: HIGH - 5 }, words));
  const reading = h("span", { class: "reading" });
  const figureElement = h(
    "figure",
    { class: "plot" },
    h("figcaption", {}, h("b", {}, title), h("small", {}, unit), reading),
    svg,
  );
  return { svg, across, up, reading, wide, element: figureElement };
}

/**
 * Lines over steps, or whatever `count` counts, from zero or from the lowest late value. Every
 * series is {name, points: [[x, y] …], dots: boolean}; dots are validation values, lines are
 * training averages.
 */
export function lines(title, unit, series, { count = "step", zero = true } = {}) {
  const all = series.flatMap(({ points }) => points);
  const xs = all.map(([x]) => x);
  const late = all.filter(([x]) => x >= Math.max(...xs) / 20).map(([, y]) => y); // the first steps would flatten the rest
  const [least, most] = [Math.min(...late), Math.max(...late)];
  const [low, high] = zero
    ? [Math.min(0, least), most * 1.06 || 1]
    : [least, most + 0.06 * (most - least || 1)];
  const summary = series
    .map(({ name, points }) => `${name} from ${short(points[0][1])} to ${short(points.at(-1)[1])}`)
    .join("; ");
  const x = [Math.min(...xs), Math.max(...xs)];
  const { svg, across, up, reading, wide, element } = frame(
    title,
    unit,
    summary,
    x,
    [low, high],
    ticks(...x).map((value) => [value, short(value)]),
  );
  const clip = (y) => Math.min(HIGH - BOTTOM, Math.max(TOP - 4, up(y)));
  series.forEach(({ points, dots }, n) => {
    if (dots)
      svg.append(
        ...points.map(([a, b]) =>
          s("circle", { class: `dot series-${n}`, cx: across(a), cy: clip(b), r: 2.6 }),
        ),
      );
    else
      svg.append(
        s("polyline", {
          class: `line series-${n}`,
          points: points
            .map(([a, b]) => `${across(a).toFixed(1)},${clip(b).toFixed(1)}`)
            .join(" "),
        }),
      );
  });
  const hair = s("line", { class: "hair", y1: TOP, y2: HIGH - BOTTOM, visibility: "hidden" });
  svg.append(hair);
  const last = series.map(({ name, points }) => `${name} ${short(points.at(-1)[1])}`).join(" · ");
  reading.textContent = last;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at =
      x[0] +
      ((((event.clientX - box.left) / box.width) * wide - LEFT) / (wide - LEFT - RIGHT)) *
        (x[1] - x[0]);
    const near = series.map(({ name, points }) => [
      name,
      points.reduce((best, point) =>
        Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best,
      ),
    ]);
    hair.setAttribute("x1", across(near[0][1][0]));
    hair.setAttribute("x2", across(near[0][1][0]));
    hair.setAttribute("visibility", "visible");
    reading.textContent = `${count} ${figure(near[0][1][0], 0)}: ${near.map(([name, [, y]]) => `${name} ${figure(y, 2)}`).join(" · ")}`;
  });
  svg.addEventListener("pointerleave", () => {
    hair.setAttribute("visibility", "hidden");
    reading.textContent = last;
  });
  return element;
}

/** Bars [{name, value}], largest first; `limit` draws a reference line. */
export function bars(title, unit, entries, limit = null) {
  const high = Math.max(...entries.map(({ value }) => value), limit ?? 0, 1e-6) * 1.06;
  const summary = `Largest ${entries[0]?.name}: ${short(entries[0]?.value)}`;
  const { svg, across, up, reading, wide, element } = frame(
    title,
    unit,
    summary,
    [0, entries.length],
    [0, high],
    [],
    480,
  );
  const thick = Math.max(0.6, across(1) - across(0) - Math.min(2, 60 / entries.length));
  entries.forEach(({ name, value }, i) => {
    const bar = s(
      "rect",
      {
        class: `barrect ${limit !== null && value < limit ? "low" : ""}`,
        x: across(i),
        y: up(value),
        width: thick,
        height: Math.max(0.5, up(0) - up(value)),
      },
      s("title", {}, `${name}: ${figure(value, 3)}`),
    );
    bar.addEventListener("pointerenter", () => {
      reading.textContent = `${name}: ${figure(value, 3)}`;
    });
    svg.append(bar);
  });
  if (limit !== null)
    svg.append(
      s("line", { class: "limit", x1: LEFT, x2: wide - RIGHT, y1: up(limit), y2: up(limit) }),
    );
  return element;
}

/** Spreads [{name, middle, inner, outer}], ± one deviation, over a standard normal. */
export function spreads(title, unit, entries) {
  const reach =
    Math.max(1.3, ...entries.map(({ middle, outer }) => Math.abs(middle) + outer)) * 1.05;
  const off = entries.filter(
    ({ middle, outer }) => Math.abs(middle) > 0.5 || outer < 0.5 || outer > 1.5,
  ).length;
  const { svg, across, up, reading, wide, element } = frame(
    title,
    unit,
    `${off} of ${entries.length} dimensions are far from the prior`,
    [0, entries.length],
    [-reach, reach],
    [],
    480,
  );
  svg.append(
    s("rect", {
      class: "band",
      x: LEFT,
      width: wide - LEFT - RIGHT,
      y: up(1),
      height: up(-1) - up(1),
    }),
    s("line", { class: "limit", x1: LEFT, x2: wide - RIGHT, y1: up(0), y2: up(0) }),
  );
  const thick = Math.max(1, Math.min(9, (across(1) - across(0)) * 0.6));
  entries.forEach(({ name, middle, inner, outer }, i) => {
    const x = across(i + 0.5);
    const words = `${name}: mean ${figure(middle, 2)}, deviation ${figure(outer, 2)}${inner === null ? "" : `, of one ${thing.one} ${figure(inner, 2)}`}`;
    const group = s(
      "g",
      {},
      s("rect", {
        class: "outer",
        x: x - thick / 2,
        width: thick,
        y: up(middle + outer),
        height: up(middle - outer) - up(middle + outer),
        rx: thick / 3,
      }),
      inner === null
        ? ""
        : s("rect", {
            class: "inner",
            x: x - thick / 6,
            width: thick / 3,
            y: up(middle + inner),
            height: Math.max(0.5, up(middle - inner) - up(middle + inner)),
          }),
      s("title", {}, words),
    );
    group.addEventListener("pointerenter", () => {
      reading.textContent = words;
    });
    svg.append(group);
  });
  return element;
}
