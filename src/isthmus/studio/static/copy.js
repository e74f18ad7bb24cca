/** Buttons that copy a link or code. */

import { announce, button, h } from "./dom.js";
import { link } from "./state.js";

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // no permission, or a page served over plain http from another machine
    const area = h("textarea", { class: "offscreen", "aria-hidden": "true", value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/**
 * Buttons that copy a link, Python or a command; code is shown as well.
 *
 * @returns {{element: HTMLElement, set: (result: {python?: string, command?: string}) => void}}
 */
export function takeaway() {
  const shown = h("pre", { class: "code", tabindex: "0", "aria-label": "Code", hidden: true });
  const copy = (kind, what) => async () => {
    const words = what();
    const done = await toClipboard(words);
    const same = shown.dataset.kind === kind && !shown.hidden;
    shown.hidden = kind === "link" || same;
    shown.dataset.kind = kind;
    shown.textContent = words;
    shown.setAttribute("aria-label", `The ${kind}`);
    note.textContent = done ? "Copied" : "Could not copy; select the text yourself";
    announce(done ? `Copied the ${kind}.` : "Copying failed.");
    if (!done) shown.hidden = false;
    clearTimeout(note.timer);
    note.timer = setTimeout(() => {
      note.textContent = "";
    }, 2500);
  };
  let code = {};
  const note = h("span", { class: "copied", "aria-hidden": "true" });
  const python = button(
    "code",
    "Copy as Python",
    copy("Python", () => code.python),
    { class: "quiet small", hidden: true },
  );
  const command = button(
    "command",
    "Copy as command",
    copy("command", () => code.command),
    { class: "quiet small", hidden: true },
  );
  const address = button("link", "Copy link", copy("link", link), { class: "quiet small" });
  const element = h(
    "div",
    { class: "takeaway" },
    h("div", { class: "row" }, address, python, command, note),
    shown,
  );
  const set = (result) => {
    code = result ?? {};
    python.hidden = !code.python;
    command.hidden = !code.command;
    const kind = shown.dataset.kind;
    if (!shown.hidden && kind !== "link") {
      const words = kind === "Python" ? code.python : code.command;
      shown.hidden = !words;
      shown.textContent = words ?? "";
    }
  };
  return { element, set };
}
