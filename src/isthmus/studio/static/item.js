/** What was decoded, and how far it can be trusted. */

import { changes } from "./diff.js";
import { figure, h, thing } from "./dom.js";
import { texts } from "./texts.js";

/**
 * How far an item lies from the corpus.
 *
 * @returns {{level: "among"|"edge"|"beyond", name: string, words: string} | null} null without a
 *   corpus to compare with.
 */
export function crowd(item) {
  if (item.crowd === null || item.crowd === undefined) return null;
  const share = 100 * item.crowd;
  const percent = share >= 1 ? figure(share, 0) : figure(share, 1);
  if (item.crowd >= 0.1) {
    return {
      level: "among",
      name: `among the ${thing.one}s`,
      words: `About as close to the corpus as its ${thing.one}s are to each other.`,
    };
  }
  if (item.crowd > 0.005) {
    return {
      level: "edge",
      name: "at the edge",
      words: `Only ${percent} % of the corpus is this far from its own nearest neighbour.`,
    };
  }
  return {
    level: "beyond",
    name: `beyond the ${thing.one}s`,
    words: `Almost no ${thing.one} of the corpus is this far from its nearest neighbour: what is decoded here is a guess.`,
  };
}

/** The structure of a text that is a molecule, drawn by the server; null of any other. */
export function structure({ structure: src, text }) {
  return src ? h("img", { class: "structure", src, alt: `Structure of ${text}` }) : null;
}

/** The picture, the text, or both; words that `before` lacks are marked. */
export function content(item, before) {
  if (item.structure) return h("div", { class: "both" }, structure(item), words(item.text, before));
  if (!item.picture) return words(item.text ?? "", before);
  const picture = h("img", { class: "picture", src: item.picture, alt: "The picture" });
  if (item.text === undefined) return picture;
  return h("div", { class: "both" }, picture, words(item.text, before));
}

function words(text, before) {
  if (!text.trim()) return h("p", { class: "text none" }, "(an empty text)");
  if (before === undefined || before === null) return h("p", { class: "text" }, text);
  const parts = changes(before, text);
  const fresh = parts.filter((part) => part.fresh).length;
  if (fresh > 0.3 * parts.length) return h("p", { class: "text" }, text); // mostly new: no marks
  return h(
    "p",
    { class: "text" },
    ...parts.map((part) => (part.fresh ? h("mark", {}, part.text) : part.text)),
  );
}

const MEANINGS = {
  "log p(z)": "Log density of the prior at this place, in nats. Higher is more typical.",
  loss: "Reconstruction loss, −log p(x|z) of what is decoded at this place, in nats. Lower is more certain.",
  distance: "Distance to the nearest example of the corpus, in units of the spread of the corpus.",
  KL: "KL divergence from the posterior of the input to the prior, in nats.",
  input: "Reconstruction loss of the input itself at this place, −log p(input|z), in nats.",
};

/** log p(z), loss and distance in one line, with how far out this is. */
export function meters(item) {
  const values = [
    ["log p(z)", item.log_prior, 1],
    ["loss", item.reconstruction, 1],
    ["distance", item.distance, 2],
    ["KL", item.kl, 1],
    ["input", item.input_nats, 1],
  ].filter(([, value]) => value !== null && value !== undefined);
  const where = crowd(item);
  return h(
    "dl",
    { class: "meters" },
    where
      ? h(
          "div",
          { class: `crowd ${where.level}`, title: where.words },
          h("dt", { class: "offscreen" }, "place"),
          h("dd", {}, where.name),
        )
      : null,
    ...values.map(([name, value, decimals]) =>
      h("div", { title: MEANINGS[name] }, h("dt", {}, name), h("dd", {}, figure(value, decimals))),
    ),
  );
}

/** The nearest example of the corpus, small. */
export function nearest(item) {
  const near = item.neighbour;
  if (!near) return null;
  const shown = h("span", { class: "words" }, near.text);
  if (item.picture) {
    texts.of([near.index]).then(
      ([it]) =>
        shown.replaceChildren(h("img", { src: it.picture, alt: near.text, title: near.text })),
      () => {},
    );
  }
  return h("p", { class: "nearest" }, h("span", {}, "nearest "), shown);
}

/** An item in full. `actions` are buttons. */
export function readout(item, { before, actions = [], near = true } = {}) {
  return h(
    "article",
    { class: "item" },
    content(item, before),
    meters(item),
    near ? nearest(item) : null,
    actions.length ? h("div", { class: "row" }, ...actions) : null,
  );
}

/** A list of examples of the corpus that can be clicked. */
export function corpusList(texts, { press, hover = () => {}, extra = () => null }) {
  return h(
    "ol",
    { class: "list" },
    ...texts.map((text) =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: "line",
            onclick: () => press(text),
            onpointerenter: () => hover(text),
            onpointerleave: () => hover(null),
            onfocus: () => hover(text),
            onblur: () => hover(null),
          },
          text.picture ? h("img", { src: text.picture, alt: `Picture ${text.index}` }) : null,
          text.text === undefined ? null : h("span", { class: "text" }, text.text),
          text.label ? h("small", { class: "tag" }, text.label) : null,
          extra(text),
        ),
      ),
    ),
  );
}
