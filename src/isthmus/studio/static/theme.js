/** Light, dark, or as the system is set; and the glossary dialog. */

import { announce, icon } from "./dom.js";

const NEXT = { "": "light", light: "dark", dark: "" };
const WORDS = { "": "as the system is set", light: "light", dark: "dark" };
const ICONS = { "": "auto", light: "sun", dark: "moon" };

/** @param {() => void} changed called when the colours of the page change. */
export function theme(changed) {
  const root = document.documentElement;
  const control = document.getElementById("theme");
  const set = (name) => {
    if (name) root.dataset.theme = name;
    else delete root.dataset.theme;
    control.replaceChildren(icon(ICONS[name]));
    control.setAttribute("aria-label", `Colours: ${WORDS[name]}. Change`);
    control.title = `Colours: ${WORDS[name]}`;
  };
  set(localStorage.getItem("theme") ?? "");
  control.addEventListener("click", () => {
    const name = NEXT[root.dataset.theme ?? ""];
    localStorage.setItem("theme", name);
    set(name);
    announce(`Colours: ${WORDS[name]}`);
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  const help = document.getElementById("help");
  const opener = document.getElementById("open-help");
  opener.replaceChildren(icon("help"));
  opener.addEventListener("click", () => help.showModal());
  document.getElementById("close-help").append(icon("close"));
  document.getElementById("close-help").addEventListener("click", () => help.close());
  help.addEventListener("click", (event) => {
    if (event.target === help) help.close();
  });
  changed();
}
