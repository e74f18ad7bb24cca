/** Which words of a text another lacks, by their longest common subsequence. */

const words = (text) => text.match(/\s+|[^\s]+/g) ?? [];

/** Parts [{text, fresh}] of `text`; fresh words are not in the common subsequence with `before`. */
export function changes(before, text) {
  const old = words(before).filter((word) => word.trim());
  const parts = words(text);
  const now = parts.filter((word) => word.trim());
  const wide = now.length + 1;
  const table = new Uint16Array((old.length + 1) * wide);
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      table[i * wide + j] =
        old[i] === now[j]
          ? table[(i + 1) * wide + j + 1] + 1
          : Math.max(table[(i + 1) * wide + j], table[i * wide + j + 1]);
    }
  }
  const same = new Set();
  for (let i = 0, j = 0; i < old.length && j < now.length;) {
    if (old[i] === now[j]) {
      same.add(j++);
      i++;
    } else if (table[(i + 1) * wide + j] >= table[i * wide + j + 1]) i++;
    else j++;
  }
  let place = 0;
  return parts.map((text) => ({ text, fresh: text.trim() !== "" && !same.has(place++) }));
}
