/** Elements without a template language: data from outside only ever becomes text. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element: h("button", {class: "quiet", onclick: go}, "Go"). Strings become text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const ICONS = {
  map: "M4 6l5-2 6 2 5-2v14l-5 2-6-2-5 2zM9 4v14M15 6v14",
  walk: "M5 19c0-8 14-6 14-14M5 19h.01M19 5h.01M3.5 19a1.5 1.5 0 1 0 3 0 1.5 1.5 0 1 0-3 0M17.5 5a1.5 1.5 0 1 0 3 0 1.5 1.5 0 1 0-3 0",
  exchange: "M4 9h16M16 5l4 4-4 4M20 16H4M8 12l-4 4 4 4",
  arithmetic: "M4 8h6M7 5v6M14 8h6M5 15l4 4M9 15l-4 4M14 16h6M14 19h6",
  dimensions: "M6 4v9M6 17v3M12 4v3M12 11v9M18 4v11M18 19v1M4 15h4M10 9h4M16 17h4",
  neighbours:
    "M12 12h.01M6 7h.01M18 8h.01M7 18h.01M17 17h.01M12 12L6 7M12 12l6-4M12 12l-5 6M12 12l5 5",
  sample: "M5 5h14v14H5zM9 9h.01M15 15h.01M15 9h.01M9 15h.01M12 12h.01",
  codebook: "M5 4h12v16H5zM5 8h12M5 12h12M5 16h12M17 6h2v14",
  optimise: "M3 20l5-9 4 4 5-10M17 5h-4M17 5v4M3 20h18",
  control:
    "M4 7h9M17 7h3M4 17h3M11 17h9M13 7a2 2 0 1 0 4 0 2 2 0 1 0-4 0M7 17a2 2 0 1 0 4 0 2 2 0 1 0-4 0",
  pictures: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  signs: "M6 4v16M6 5h9l-2 3 2 3H6M11 15a4 4 0 1 0 8 0 4 4 0 1 0-8 0",
  health: "M3 13h4l3-8 4 14 3-6h4",
  in: "M12 6v12M6 12h12",
  out: "M6 12h12",
  fit: "M5 9V5h4M19 9V5h-4M5 15v4h4M19 15v4h-4",
  lasso: "M12 5c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5M8 15c-2 1-2 4 0 4s2-2 1-4",
  view: "M4 8V4h4M20 8V4h-4M4 16v4h4M20 16v4h-4M9 9h6v6H9z",
  close: "M6 6l12 12M18 6L6 18",
  dice: "M5 5h14v14H5zM9 9h.01M15 15h.01M15 9h.01M9 15h.01",
  target: "M12 3v4M12 17v4M3 12h4M17 12h4M8 12a4 4 0 1 0 8 0 4 4 0 1 0-8 0",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  command: "M5 6l5 6-5 6M12 18h7",
  sun: "M8 12a4 4 0 1 0 8 0 4 4 0 1 0-8 0M12 3v1M12 20v1M3 12h1M20 12h1M5.6 5.6l.8.8M17.6 17.6l.8.8M5.6 18.4l.8-.8M17.6 6.4l.8-.8",
  moon: "M19 14a8 8 0 1 1-9-9 6 6 0 0 0 9 9z",
  auto: "M4 12a8 8 0 1 0 16 0 8 8 0 1 0-16 0M12 4v16M12 8h3M12 12h4M12 16h3",
  help: "M4 12a8 8 0 1 0 16 0 8 8 0 1 0-16 0M9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M12 16.5h.01",
  search: "M5 11a6 6 0 1 0 12 0 6 6 0 1 0-12 0M16 16l4 4",
  add: "M12 6v12M6 12h12",
  upload: "M12 16V5M7 9l5-5 5 5M5 19h14",
};

/** An icon, hidden from screen readers: the button around it has a name. */
export function icon(name) {
  return s(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
    s("path", { d: ICONS[name] }),
  );
}

/** A button with an icon and, unless `bare`, a visible label. */
export function button(name, words, onclick, { bare = false, ...more } = {}) {
  return h(
    "button",
    { type: "button", onclick, ...(bare ? { "aria-label": words, title: words } : {}), ...more },
    name ? icon(name) : null,
    bare ? null : h("span", {}, words),
  );
}

/** What the corpus consists of: "text", "picture" or "example". */
export const thing = { one: "text" };

let region;
/** Has a screen reader say something at its next pause. */
export function announce(words) {
  region ??= document.getElementById("live");
  region.textContent = words;
}

/** A formatted number, with thousands separators and a real minus sign. */
export function figure(value, decimals = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value
    .toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
    .replace("-", "−");
}

/** "1 text", "3 texts". */
export function counted(count, one, many = `${one}s`) {
  return `${figure(count, 0)} ${count === 1 ? one : many}`;
}

/** Debounces: calls once, `wait` milliseconds after the last of many calls. */
export function settled(work, wait = 300) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}

/** Whether the user prefers reduced motion. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
