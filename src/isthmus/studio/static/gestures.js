/** Input on the map: drag, wheel, pinch, lasso, keys, and the example under the cursor. */

import { announce, counted, h, s, settled, thing } from "./dom.js";
import { structure } from "./item.js";
import { texts } from "./texts.js";

const STILL = 4; // pixels that the pointer may move during a click

/**
 * Handles the pointer and the keyboard on the stage of a map.
 *
 * @param {SpaceMap} map
 * @param {{decode: (place: number[], index: number) => void, select: (polygon: number[][]) => void,
 *   leave: () => void}} then
 */
export function listen(map, then) {
  const { stage } = map;
  const tip = h("div", { class: "tip", role: "tooltip", hidden: true });
  const cross = s("path", { class: "cross", d: "M-9 0h6M3 0h6M0-9v6M0 3v6" });
  const loop = s("polygon", { class: "lasso" });
  const drawing = s("svg", { class: "overlay front", "aria-hidden": "true" }, loop, cross);
  stage.append(drawing, tip);
  const hands = new Map();
  let start = null;
  let path = null;
  let moved = false;
  let spread = 0;

  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button, a, .tip")) return;
    stage.setPointerCapture(event.pointerId);
    hands.set(event.pointerId, at(event));
    hide();
    moved = hands.size > 1;
    if (hands.size === 1) {
      start = { from: at(event), view: { ...map.view } };
      path = map.lassoing || event.shiftKey ? [at(event)] : null;
    } else {
      path = null;
      spread = between();
    }
  });

  const between = () => {
    const [a, b] = [...hands.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };

  stage.addEventListener("pointermove", (event) => {
    if (!hands.has(event.pointerId)) return hover(event);
    const [x, y] = at(event);
    hands.set(event.pointerId, [x, y]);
    if (hands.size === 2) {
      const wider = between();
      const [a, b] = [...hands.values()];
      map.zoom(wider / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      spread = wider;
      return;
    }
    if (!start) return;
    const [dx, dy] = [x - start.from[0], y - start.from[1]];
    moved ||= Math.hypot(dx, dy) > STILL;
    if (path) {
      const [left, top] = path.at(-1);
      if (Math.hypot(x - left, y - top) > 3) path.push([x, y]);
      loop.setAttribute("points", path.map((point) => point.join(",")).join(" "));
    } else if (moved) {
      stage.classList.add("dragging");
      const { x: left, y: up, zoom } = start.view;
      map.look({ x: left - dx / map.scale, y: up + dy / map.scale, zoom });
    }
  });

  const lift = (event) => {
    if (!hands.delete(event.pointerId)) return;
    stage.classList.remove("dragging");
    if (hands.size) {
      start = null;
      return;
    }
    if (path && path.length > 2) {
      then.select(path.map(([x, y]) => map.toMap(x, y)));
    } else if (!moved && event.type === "pointerup") {
      const [x, y] = at(event);
      then.decode(map.toMap(x, y), map.under(x, y));
    }
    start = path = null;
    loop.removeAttribute("points");
  };
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);
  stage.addEventListener("pointerleave", () => hide());

  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      hide();
      const lines = event.deltaMode === 1 ? 24 : 1;
      map.zoom(Math.exp(-Math.max(-160, Math.min(160, event.deltaY * lines)) / 320), ...at(event));
    },
    { passive: false },
  );

  let over = -1;
  const hide = () => {
    over = -1;
    tip.hidden = true;
    map.clear("hover");
  };
  const fetched = settled(async (index, x, y) => {
    let text;
    try {
      [text] = await texts.of([index]);
    } catch {
      return; /* nothing to show; the next movement tries again */
    }
    if (over !== index || !text) return;
    tip.replaceChildren(...about(text));
    tip.hidden = false;
    const left = Math.min(x + 14, stage.clientWidth - tip.offsetWidth - 8);
    const top =
      y + 18 + tip.offsetHeight > stage.clientHeight ? y - tip.offsetHeight - 14 : y + 18;
    tip.style.translate = `${Math.max(8, left)}px ${Math.max(8, top)}px`;
  }, 25);
  const hover = (event) => {
    if (event.pointerType === "touch" || event.target.closest("button")) return;
    const [x, y] = at(event);
    const index = map.under(x, y);
    if (index === over) return;
    if (index < 0) return hide();
    over = index;
    map.draw("hover", { marks: [{ index, kind: "ring" }] });
    fetched(index, x, y);
  };

  const middle = () => [stage.clientWidth / 2, stage.clientHeight / 2];
  const crossed = () => cross.setAttribute("transform", `translate(${middle().join(" ")})`);
  const aimed = settled(async () => {
    const index = map.under(...middle(), 14);
    const [text] = index < 0 ? [] : await texts.of([index]).catch(() => []);
    announce(
      text
        ? `Near the centre: ${text.text ?? `picture ${index}`}`
        : `No ${thing.one} near the centre.`,
    );
  }, 500);
  const keys = {
    ArrowLeft: () => pan(-60, 0),
    ArrowRight: () => pan(60, 0),
    ArrowUp: () => pan(0, -60),
    ArrowDown: () => pan(0, 60),
    "+": () => map.zoom(1.3),
    "=": () => map.zoom(1.3),
    "-": () => map.zoom(1 / 1.3),
    0: () => map.fit(),
    Enter: () => then.decode(map.toMap(...middle()), map.under(...middle())),
    s: () => then.select(inView(map)),
    Escape: () => then.leave(),
  };
  const pan = (dx, dy) => {
    const { x, y, zoom } = map.view;
    map.look({ x: x + dx / map.scale, y: y - dy / map.scale, zoom });
  };
  stage.addEventListener("keydown", (event) => {
    if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    stage.classList.add("by-keys");
    crossed();
    act();
    if (event.key !== "Enter" && event.key !== "Escape") aimed();
  });
  stage.addEventListener("pointerdown", () => stage.classList.remove("by-keys"));
}

/** A short description of a point of the corpus. */
export function about(text) {
  const words = text.length && !text.structure ? counted(text.length, "word") : null;
  const facts = [text.label, words].filter(Boolean);
  return [
    structure(text),
    text.picture ? h("img", { class: "seen", src: text.picture, alt: `Picture ${text.index}` }) : null,
    text.text === undefined ? null : h("p", {}, text.text),
    facts.length ? h("small", {}, facts.join(" · ")) : null,
  ].filter(Boolean);
}

/** The corners of the visible part of the map. */
export function inView(map) {
  const { clientWidth: width, clientHeight: height } = map.stage;
  const corners = [
    [0, 0],
    [width, 0],
    [width, height],
    [0, height],
  ];
  return corners.map(([x, y]) => map.toMap(x, y));
}
