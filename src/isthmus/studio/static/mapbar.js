/** Controls at the edges of the map: projection, colours, zoom, lasso. */

import { announce, button, figure, h } from "./dom.js";
import { inView } from "./gestures.js";
import { legend } from "./legend.js";
import { recall, remember } from "./state.js";

const WORDS = {
  label: "label",
  cluster: "cluster",
  length: "length",
  reconstruction: "reconstruction loss",
  kl: "KL",
};

/** @param {SpaceMap} map  @param {(polygon: number[][]) => void} select */
export function mapbar(map, select) {
  const projections = h("div", { class: "segments", role: "group", "aria-label": "Projection" });
  const colours = h("select", { "aria-label": "Colour the points by", onchange: () => pick() });
  const note = h("span", { class: "note", role: "status" });
  const fail = (failure) => {
    note.textContent = failure.message;
  };
  const pick = () => {
    const first = map.about.colours[0].name;
    remember("map", { by: colours.value === first ? "" : colours.value, only: "" });
    map.colour(colours.value).catch(fail);
  };
  const show = (name) => {
    remember("map", { projection: name === "pca" ? "" : name });
    return map.project(name);
  };

  const project = (name) => async () => {
    note.textContent = "";
    try {
      if (["none", "failed"].includes(map.about.projections[name].state)) {
        wanted = true;
        await map.embed();
        announce("t-SNE is being computed.");
      } else {
        await show(name);
      }
    } catch (failure) {
      fail(failure);
    }
  };
  const NAMES = { pca: "PCA", tsne: "t-SNE" };
  let wanted = recall("map").projection === "tsne"; // shown once it is ready
  const state = h("div", { class: "map-state" }, "Loading the map …");
  const fillState = () => {
    const { state: now, done, total } = map.about.projections.pca;
    state.hidden = now === "ready";
    state.classList.toggle("aside", now === "working");
    if (now === "failed") {
      state.textContent = "The map could not be made; see the server's terminal for the reason.";
      return;
    }
    state.replaceChildren(
      `Encoding the corpus for the map${total ? `: ${figure(done, 0)} of ${figure(total, 0)}` : ""} …`,
      h("progress", { max: total || 1, value: done, "aria-label": "Encoding" }),
    );
  };
  const fillProjections = () => {
    fillState();
    projections.replaceChildren(
      ...Object.entries(map.about.projections).map(([name, it]) => {
        const busy = it.state === "queued" || it.state === "working";
        const share = it.total ? ` ${figure((100 * it.done) / it.total, 0)} %` : " …";
        const title =
          name === "pca"
            ? `The two directions of largest variance${it.explained ? `: ${it.explained.map((part) => `${figure(100 * part, 0)} %`).join(" and ")} of the total` : ""}`
            : "Neighbours stay neighbours; distances between groups mean nothing";
        return h(
          "button",
          {
            type: "button",
            title,
            onclick: project(name),
            disabled: busy,
            "aria-pressed": String(map.projection === name),
          },
          (NAMES[name] ?? name) + (busy ? share : ""),
        );
      }),
    );
    if (map.about.projections.tsne?.state === "failed") {
      note.textContent = "t-SNE failed; see the server's terminal for the reason. Click t-SNE to try again.";
    }
    const there = map.about.projections.tsne?.state === "ready" && map.final;
    if (wanted && there) {
      wanted = false;
      if (map.projection === "tsne") return;
      announce("t-SNE is ready.");
      show("tsne").catch(fail);
    }
  };
  const fillColours = () => {
    colours.replaceChildren(
      ...map.about.colours.map(({ name, state }) =>
        h(
          "option",
          {
            value: name,
            disabled: state !== "ready",
            selected: name === map.by,
          },
          (WORDS[name] ?? name) + (state === "ready" ? "" : " (computing)"),
        ),
      ),
    );
    colours.hidden = !map.about.colours.length;
    colours.value = map.by;
  };

  const lasso = button(
    "lasso",
    "Lasso: draw around points to list them (or hold Shift)",
    () => {
      map.lassoing = !map.lassoing;
      lasso.setAttribute("aria-pressed", String(map.lassoing));
      map.stage.classList.toggle("lassoing", map.lassoing);
    },
    { bare: true, "aria-pressed": "false" },
  );
  const tools = h(
    "div",
    { class: "tools", role: "group", "aria-label": "Map" },
    button("in", "Zoom in", () => map.zoom(1.5), { bare: true }),
    button("out", "Zoom out", () => map.zoom(1 / 1.5), { bare: true }),
    button("fit", "Show all", () => map.fit(), { bare: true }),
    lasso,
    button("view", "List the points in view", () => select(inView(map)), { bare: true }),
  );

  map.addEventListener("about", () => {
    fillProjections();
    fillColours();
  });
  map.addEventListener("projection", fillProjections);
  map.addEventListener("colour", () => {
    fillColours();
  });
  const top = h(
    "div",
    { class: "mapbar" },
    projections,
    h("label", { class: "by" }, h("span", {}, "Colour"), colours),
    note,
  );
  return [top, tools, legend(map), state];
}
