/** A model call and its display: waiting, progress, a Stop button, an error. */

import { post, ServerError } from "./api.js";
import { announce, button, h } from "./dom.js";

export class Task {
  /** @param {() => void} [cancelled] called when the user stops it. */
  constructor(cancelled = () => {}) {
    this.element = h("div", { class: "task" });
    this.cancelled = cancelled;
  }

  /** The result; null if the call failed, was stopped, or was replaced by a newer one. */
  async run(path, body) {
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    const slow = setTimeout(() => this.wait(), 300);
    try {
      const progress = (job) => this.report(job);
      const result = await post(path, body, { signal: controller.signal, progress });
      if (this.controller !== controller) return null;
      this.clear();
      return result;
    } catch (failure) {
      if (this.controller === controller) this.fail(failure);
      return null;
    } finally {
      clearTimeout(slow);
      if (this.controller === controller) this.controller = null;
    }
  }

  /** Stops silently, when the panel closes. */
  stop() {
    this.controller?.abort();
    this.controller = null;
    this.clear();
  }

  wait() {
    this.bar = h("progress", { "aria-label": "Progress" });
    this.words = h("span", {}, "Working …");
    const stop = button(
      "close",
      "Stop",
      () => {
        this.stop();
        announce("Stopped.");
        this.cancelled();
      },
      { class: "quiet small" },
    );
    this.element.replaceChildren(h("div", { class: "busy" }, this.bar, this.words, stop));
  }

  report({ state, position, done, total }) {
    if (!this.words?.isConnected) return;
    if (state === "queued") {
      this.words.textContent = position ? `Waiting, ${position} ahead …` : "Waiting …";
    } else if (total > 1) {
      this.bar.max = total;
      this.bar.value = done;
      this.words.textContent = `${done} of ${total} …`;
    }
  }

  fail(failure) {
    if (failure.name === "AbortError") return this.clear();
    if (!(failure instanceof ServerError)) console.error(failure);
    this.say(failure.message);
  }

  /** Shows an error next to the input. */
  say(words) {
    this.element.replaceChildren(h("p", { class: "error", role: "alert" }, words));
  }

  clear() {
    this.element.replaceChildren();
  }
}

/** Runs one call at a time and keeps only the newest waiting one, as a slider needs. */
export function newest(work) {
  let busy = false;
  let waiting = null;
  return async function ask(...given) {
    if (busy) {
      waiting = given;
      return;
    }
    busy = true;
    try {
      await work(...given);
    } finally {
      busy = false;
      const next = waiting;
      waiting = null;
      if (next) ask(...next);
    }
  };
}
