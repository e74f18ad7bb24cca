/** A signs report: which pictures may be one sign, and which sign may be several. */

import { get } from "./api.js";
import { takeaway } from "./copy.js";
import { announce, button, counted, figure, h } from "./dom.js";
import { Panel } from "./panel.js";
import { Task } from "./task.js";

const PAGE = 30;
const DONE = { merge: "merged", split: "split", keep: "kept" };

export class Signs extends Panel {
  constructor(studio) {
    super(
      studio,
      "signs",
      "Signs",
      "Which pictures may be one sign, and which sign may be several. The sign list changes only when you apply the decisions.",
    );
    this.task = new Task();
    this.copies = takeaway();
    this.summary = h("p", {});
    this.progress = h("p", { class: "note", role: "status" });
    this.filter = h(
      "select",
      { id: "signs-filter", onchange: () => this.refill() },
      ...[
        ["open", "undecided"],
        ["merge", "may be one sign"],
        ["split", "may be several signs"],
        ["all", "all"],
      ].map(([value, words]) => h("option", { value }, words)),
    );
    this.list = h("div", { class: "candidates" });
    this.clusters = h("details", { class: "clusters" });
    this.apply = h(
      "button",
      { type: "button", class: "main", onclick: () => this.write() },
      "Apply the decisions",
    );
    this.add(
      this.summary,
      h(
        "div",
        { class: "row" },
        h("label", { for: "signs-filter" }, "Show"),
        this.filter,
        this.progress,
      ),
      h(
        "p",
        { class: "note" },
        "Keys on a candidate: M one sign, S several signs, K keep as it is, U undecided.",
      ),
      this.list,
      h("div", { class: "row" }, this.apply),
      this.task.element,
      this.copies.element,
      this.clusters,
    );
  }

  async open() {
    this.filter.value = this.recall().show ?? "open";
    try {
      this.report = await get("api/signs");
    } catch (failure) {
      this.task.fail(failure);
      return;
    }
    this.summary.textContent = summarised(this.report.summary);
    this.refill();
    this.fillClusters();
  }

  refill() {
    const show = this.filter.value;
    this.remember({ show: show === "open" ? "" : show });
    const fits = this.report.candidates.filter(
      ({ kind, decision }) => show === "all" || (show === "open" ? !decision : kind === show),
    );
    this.list.replaceChildren();
    this.count();
    if (!fits.length)
      this.list.append(
        h(
          "p",
          { class: "empty" },
          show === "open"
            ? "All candidates are decided. Apply the decisions, or show all."
            : "No such candidates.",
        ),
      );
    const more = button(null, "Show more", () => next(), { class: "quiet small" });
    let start = 0;
    const next = () => {
      more.before(...fits.slice(start, start + PAGE).map((candidate) => this.card(candidate)));
      start += PAGE;
      more.hidden = start >= fits.length;
    };
    this.list.append(more);
    next();
  }

  count() {
    const { candidates } = this.report;
    const done = candidates.filter(({ decision }) => decision).length;
    this.progress.textContent = `${done} of ${counted(candidates.length, "candidate")} decided`;
  }

  card(candidate) {
    const { kind, names, score, clusters } = candidate;
    const task = new Task();
    const choices = [
      [kind, kind === "merge" ? "One sign" : "Several signs"],
      ["keep", kind === "merge" ? "Different signs" : "One sign"],
    ];
    const buttons = choices.map(([decision, words]) =>
      h("button", { type: "button", class: "choice", onclick: () => decide(decision) }, words),
    );
    const undo = button(null, "Undo", () => decide(""), { class: "quiet small" });
    const update = () => {
      card.classList.toggle("decided", Boolean(candidate.decision));
      buttons.forEach((each, i) =>
        each.setAttribute("aria-pressed", String(choices[i][0] === candidate.decision)),
      );
      undo.hidden = !candidate.decision;
    };
    const decide = async (decision) => {
      const result = await task.run("api/signs/decide", { id: candidate.id, decision });
      if (!result) return;
      candidate.decision = decision;
      update();
      this.count();
      announce(decision ? DONE[decision] : "undecided");
      const following = card.nextElementSibling;
      if (decision && following?.matches(".candidate") && card.contains(document.activeElement))
        following.focus();
    };
    const keys = { m: "merge", s: "split", k: "keep", u: "" };
    const facts = [
      score === null || score === undefined ? null : `distance ${figure(score, 2)}`,
      clusters.length === 1 ? `cluster ${clusters[0]}` : null,
      ...Object.entries(candidate.more ?? {}).map(([key, value]) =>
        value ? `${key} ${value}` : null,
      ),
    ]
      .filter(Boolean)
      .join(" · ");
    const question =
      kind === "merge" ? `${names.join(" and ")}: one sign?` : `${names[0]}: several signs?`;
    const card = h(
      "article",
      {
        class: "candidate",
        tabindex: "0",
        "aria-label": `${question} ${facts}`,
        onkeydown: (event) => {
          const decision = keys[event.key.toLowerCase()];
          if (
            event.target !== card ||
            decision === undefined ||
            (decision !== "" && decision !== "keep" && decision !== kind)
          )
            return;
          event.preventDefault();
          decide(decision);
        },
      },
      h("h2", {}, question),
      kind === "merge" ? this.pair(candidate) : this.parts(candidate),
      facts ? h("p", { class: "note" }, facts) : null,
      h("div", { class: "row" }, ...buttons, undo),
      task.element,
    );
    update();
    return card;
  }

  /** The pictures that may be one sign, each with the signs before and after it. */
  pair({ pictures, names, contexts }) {
    const context = (ids) =>
      h("span", { class: "context" }, ...(ids ?? []).slice(0, 3).map((id) => picture(id, 24)));
    return h(
      "div",
      { class: "glyphs" },
      ...pictures.map((id, i) =>
        h(
          "figure",
          {},
          h(
            "div",
            { class: "glyph" },
            context(contexts?.[i]?.before),
            picture(id, 72, names[i]),
            context(contexts?.[i]?.after),
          ),
          h("figcaption", {}, names[i]),
        ),
      ),
    );
  }

  /** The groups that a name may have to be split into. */
  parts({ parts }) {
    return h(
      "div",
      { class: "groups" },
      ...parts.map(({ cluster, pictures }) =>
        h(
          "figure",
          {},
          h("div", { class: "glyphs" }, ...pictures.slice(0, 6).map((id) => picture(id, 44))),
          h("figcaption", {}, `cluster ${cluster}, ${counted(pictures.length, "picture")}`),
        ),
      ),
    );
  }

  fillClusters() {
    this.clusters.replaceChildren(
      h("summary", {}, `All ${counted(this.report.clusters.length, "cluster")}`),
    );
    this.clusters.addEventListener(
      "toggle",
      () => {
        this.clusters.append(
          ...this.report.clusters.map(({ cluster, size, pictures, names }) =>
            h(
              "section",
              { class: "cluster" },
              h(
                "h3",
                {},
                `Cluster ${cluster} `,
                h(
                  "small",
                  {},
                  `${counted(size, "picture")} · ${[...new Set(names)].slice(0, 8).join(", ")}`,
                ),
              ),
              h("div", { class: "glyphs" }, ...pictures.slice(0, 40).map((id) => picture(id, 44))),
            ),
          ),
        );
      },
      { once: true },
    );
  }

  async write() {
    const result = await this.task.run("api/signs/apply", {});
    if (!result) return;
    this.copies.set(result);
    this.task.element.replaceChildren(
      h(
        "p",
        { class: "good", role: "status" },
        `Wrote a sign list with ${counted(result.signs, "sign")}: ${result.path}`,
      ),
    );
  }
}

function picture(id, size, name) {
  return h("img", {
    src: `api/signs/picture?id=${encodeURIComponent(id)}`,
    width: size,
    height: size,
    loading: "lazy",
    alt: name ?? `Picture ${id}`,
    title: name ?? `Picture ${id}`,
  });
}

/** The summary of the report in a sentence or two. */
function summarised(summary) {
  if (!summary) return "";
  const { pictures, tokens, clusters, working_names: names, number_of_signs: number } = summary;
  const counts = `${counted(pictures, "picture")}, ${counted(tokens, "token")}, ${counted(names, "working name")}, ${counted(clusters, "cluster")}.`;
  return number
    ? `${counts} The evidence supports ${number.low} to ${number.high} signs.`
    : counts;
}
