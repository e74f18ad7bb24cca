/** p(code | text), and which tokens favour which code. */

import { category, css } from "./colours.js";
import { takeaway } from "./copy.js";
import { figure, h, settled } from "./dom.js";
import { swatch } from "./legend.js";
import { Task } from "./task.js";

const END = " ∎"; // the end of the text, which is evidence as well
const DEPTHS = [0.05, 0.2, 0.5, 1]; // nats of evidence at which the shade deepens

export class Attribution {
  /** @param {object} studio  @param {(entries: object) => void} remember */
  constructor(studio, remember) {
    this.studio = studio;
    this.remember = remember;
    this.task = new Task();
    this.copies = takeaway();
    this.area = h("textarea", {
      id: "attributed",
      rows: 3,
      maxlength: studio.run.limits.text,
      placeholder: "A text to attribute",
      spellcheck: "false",
      oninput: settled(() => this.go(), 500),
    });
    this.one = h("select", {
      id: "attributed-by",
      onchange: () => {
        this.by = this.one.value;
        this.remember({ by: this.by });
        this.shade();
      },
    });
    this.bars = h("div", {
      class: "bars",
      role: "list",
      "aria-label": "Probability of each code",
    });
    this.tokens = h("p", { class: "text tokens" });
    this.table = h("details", { class: "numbers", hidden: true });
    this.element = h(
      "section",
      { class: "attribution", "aria-label": "Source attribution" },
      h("h2", {}, "Which code does a text sound like?"),
      h("label", { for: "attributed", class: "offscreen" }, "Text"),
      this.area,
      this.task.element,
      this.bars,
      (this.choose = h(
        "div",
        { class: "row", hidden: true },
        h("label", { for: "attributed-by" }, "Colour tokens by"),
        this.one,
      )),
      this.tokens,
      this.table,
      this.copies.element,
    );
  }

  restore(kept) {
    this.by = kept.by ?? "";
    this.area.value = kept.of ?? this.studio.run.examples[0] ?? "";
    this.go();
  }

  read(text) {
    this.area.value = text;
    this.element.scrollIntoView({ block: "nearest" });
    this.go();
  }

  async go() {
    const text = this.area.value;
    this.remember({ of: text });
    if (!text.trim()) {
      for (const part of [this.bars, this.tokens]) part.replaceChildren();
      this.choose.hidden = this.table.hidden = true;
      return;
    }
    const result = await this.task.run("api/attribute", { text });
    if (!result) return;
    this.result = result;
    this.copies.set(result);
    const order = result.posterior
      .map((share, i) => i)
      .sort((a, b) => result.posterior[b] - result.posterior[a]);
    this.bars.replaceChildren(
      ...order.map((i) =>
        h(
          "div",
          { class: "bar", role: "listitem" },
          swatch(css(category(this.colour(i)))),
          h("span", {}, result.codes[i]),
          h("meter", { min: 0, max: 1, value: result.posterior[i], "aria-hidden": "true" }),
          h("b", {}, `${figure(100 * result.posterior[i], 1)} %`),
          h("small", {}, `prior ${figure(100 * result.prior[i], 1)} %`),
        ),
      ),
    );
    const kept = this.by;
    this.one.replaceChildren(
      h("option", { value: "" }, "the code that each favours most"),
      ...result.codes.map((code, i) => h("option", { value: i }, `evidence for and against ${code}`)),
    );
    this.one.value = this.one.querySelector(`[value="${kept}"]`) ? kept : "";
    this.choose.hidden = false;
    this.fillTable();
    this.shade();
  }

  /** The colour follows the order of the run's labels, as on the map. */
  colour(i) {
    const place = this.studio.run.labels.indexOf(this.result.codes[i]);
    return place < 0 ? i : place;
  }

  shade() {
    const { tokens, codes } = this.result;
    const one = this.one.value;
    this.tokens.replaceChildren(
      ...tokens.map(({ text, evidence }) => {
        const best = evidence.indexOf(Math.max(...evidence));
        const code = one === "" ? best : Number(one);
        const nats = evidence[code];
        const depth = DEPTHS.filter((limit) => Math.abs(nats) >= limit).length;
        const title = `${nats < 0 ? "against" : "for"} ${codes[code]}: ${figure(Math.abs(nats), 2)} nats`;
        const token = h(
          "span",
          { class: `token depth-${depth} ${nats < 0 ? "against" : ""}`, title },
          text || END,
        );
        token.style.setProperty("--hue", css(category(this.colour(code))));
        return token;
      }),
    );
  }

  fillTable() {
    const { tokens, codes } = this.result;
    this.table.hidden = false;
    this.table.replaceChildren(
      h("summary", {}, "Evidence of each token, in nats"),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Evidence" },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "token"),
              ...codes.map((code) => h("th", { scope: "col" }, code)),
            ),
          ),
          h(
            "tbody",
            {},
            ...tokens.map(({ text, evidence }) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, text || END),
                ...evidence.map((nats) => h("td", {}, figure(nats, 2))),
              ),
            ),
          ),
        ),
      ),
    );
  }
}
