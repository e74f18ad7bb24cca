/** Examples of the corpus by index, requested in batches and cached. */

import { get } from "./api.js";

const kept = new Map();
const TOGETHER = 60;

export const texts = {
  /** @param {Iterable<number>} indices */
  async of(indices) {
    const wanted = [...indices];
    const missing = wanted.filter((index) => !kept.has(index));
    for (let start = 0; start < missing.length; start += TOGETHER) {
      const part = missing.slice(start, start + TOGETHER).join(",");
      for (const text of (await get(`api/texts?indices=${part}`)).texts)
        kept.set(text.index, text);
    }
    return wanted.map((index) => kept.get(index)).filter(Boolean);
  },
};

/** An example of the corpus as the value of a field; pictures are given by index. */
export function asValue({ index, text, picture }) {
  return picture === undefined ? { text } : { index, text, picture };
}
