/** What was decoded, and whether it can be believed. */

import { changes } from "./diff.js";
import { figure, h, thing } from "./dom.js";
import { texts } from "./texts.js";

/**
 * How populated the space is where an item lies.
 *
 * @returns {{level: "among"|"edge"|"beyond", name: string, words: string} | null} null when there
 *   is no corpus to compare with.
 */
export function crowd(item) {
  if (item.crowd === null || item.crowd === undefined) return null;
  const share = 100 * item.crowd;
  const told = share >= 1 ? figure(share, 0) : figure(share, 1);
  if (item.crowd >= 0.1) {
    return {
      level: "among",
      name: `among the ${thing.one}s`,
      words: `As near to a ${thing.one} of the corpus as they are to each other.`,
    };
  }
  if (item.crowd > 0.005) {
    return {
      level: "edge",
      name: "at the edge",
      words: `Only ${told} % of the corpus lies as far from its nearest neighbour.`,
    };
  }
  return {
    level: "beyond",
    name: `beyond the ${thing.one}s`,
    words: `Hardly any ${thing.one} of the corpus is as far from all others: what is decoded here is a guess.`,
  };
}

/** The picture, the text, or both; words that `before` does not have are marked. */
export function content(item, before) {
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
  if (fresh > 0.3 * parts.length) return h("p", { class: "text" }, text); // all is new: no marks
  return h(
    "p",
    { class: "text" },
    ...parts.map((part) => (part.fresh ? h("mark", {}, part.text) : part.text)),
  );
}

const MEANINGS = {
  "log p(z)": "How likely the prior finds this place, in nats: the higher the more usual.",
  loss: "Reconstruction loss, −log p(x|z) of what is decoded at this place, in nats: the lower the surer.",
  distance: "To the nearest example of the corpus, in units of its spread.",
  KL: "How far the posterior of the input is from the prior, in nats.",
  input: "−log p(input|z): what the input itself costs at this place, in nats.",
};

/** log p(z), loss and distance in one line, with a word on how far out this is. */
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

/** The corpus' nearest text, in small. */
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

/** A list of texts of the corpus; pressing one does something with it. */
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
