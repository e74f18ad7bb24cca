/** Marks and lines over the points, as SVG. */

import { s } from "./dom.js";

const RADIUS = { stop: 4, dot: 5, ring: 8 };
const MARGIN = 40; // pixels beyond the edge within which a mark or its label may still be visible

/**
 * The shapes of the drawing of a panel.
 *
 * @param {SpaceMap} map
 * @param {{marks: object[], lines: object[][]}} layer see SpaceMap.draw.
 */
export function shapes(map, { marks, lines }) {
  return [...lines.flatMap((line) => way(map, line)), ...marks.flatMap((each) => mark(map, each))];
}

/** The point of the stage for a mark in the shown projection; undefined if not known. */
function whereabouts(map, { index, places }) {
  const place = index !== undefined ? map.place(index) : places?.[map.projection];
  return place ? map.toStage(...place).map((value) => Number(value.toFixed(1))) : undefined;
}

function way(map, line) {
  const stops = line.map((each) => whereabouts(map, each));
  if (stops.length < 2 || !stops.every(Boolean)) return [];
  const points = stops.join(" ");
  return ["way halo", "way"].map((name) => s("polyline", { class: name, points }));
}

function mark(map, each) {
  const { clientWidth: width, clientHeight: height } = map.stage;
  const [x, y] = whereabouts(map, each) ?? [NaN, NaN];
  const seen = x > -MARGIN && y > -MARGIN && x < width + MARGIN && y < height + MARGIN;
  if (!seen) return [];
  const { kind = "", label } = each;
  const circle = s("circle", { class: `mark ${kind}`, cx: x, cy: y, r: RADIUS[kind] ?? 7 });
  if (!label) return [circle];
  return [circle, s("text", { class: "mark-label", x: x + 11, y: y + 4 }, label)];
}
