/** A question to the model and what is seen of it: waiting, progress, a way out, an error. */

import { post, ServerError } from "./api.js";
import { announce, button, h } from "./dom.js";

export class Task {
  /** @param {() => void} [cancelled] called when the person stopped it. */
  constructor(cancelled = () => {}) {
    this.element = h("div", { class: "task" });
    this.cancelled = cancelled;
  }

  /** The result, or null when it failed, was stopped, or a newer question took its place. */
  async run(path, body) {
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    const slow = setTimeout(() => this.wait(), 300);
    try {
      const progress = (job) => this.tell(job);
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

  /** Stops without a word: the panel is left. */
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

  tell({ state, position, done, total }) {
    if (!this.words?.isConnected) return;
    if (state === "queued") {
      this.words.textContent = position ? `Waiting, ${position} before this …` : "Waiting …";
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

  /** An error where the person acted. */
  say(words) {
    this.element.replaceChildren(h("p", { class: "error", role: "alert" }, words));
  }

  clear() {
    this.element.replaceChildren();
  }
}

/** Of many calls only the newest waits while one is at work: a slider asks as fast as it can. */
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
