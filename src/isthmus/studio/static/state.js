/**
 * State kept in the address: `#walk?a=…&b=…&map.by=label`.
 *
 * It is the fragment, which a browser never sends: neither the server's log nor a proxy sees which
 * texts were looked at. Names with "map." or "decode." belong to the whole page, the others to the
 * open panel.
 */

const kept = new Map();
let open = "";
let writing = 0;

function read() {
  const [name, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  open = decodeURIComponent(name);
  for (const owner of [open, "map", "decode"]) kept.set(owner, {});
  for (const [key, value] of new URLSearchParams(query)) {
    const [, owner, rest] = key.match(/^(map|decode)\.(.*)$/) ?? [null, open, key];
    kept.get(owner)[rest] = value;
  }
}

function hash() {
  const query = new URLSearchParams();
  for (const owner of [open, "map", "decode"]) {
    const prefix = owner === open ? "" : `${owner}.`;
    for (const [key, value] of Object.entries(kept.get(owner) ?? {})) {
      query.set(prefix + key, value);
    }
  }
  const words = query.toString();
  return `#${encodeURIComponent(open)}${words ? `?${words}` : ""}`;
}

/** The state of a panel, of "map" or of "decode": strings by name. */
export function recall(owner) {
  return { ...kept.get(owner) };
}

/** Sets entries; null, undefined and "" remove one. The address follows after a short delay. */
export function remember(owner, entries) {
  const values = kept.get(owner) ?? {};
  for (const [key, value] of Object.entries(entries)) {
    if (value === null || value === undefined || value === "") delete values[key];
    else values[key] = String(value);
  }
  kept.set(owner, values);
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", hash()), 150);
}

/** The panel that the address names. */
export const opened = () => open;

/** Goes to a panel, with an entry in the history. */
export function visit(name) {
  clearTimeout(writing);
  history.replaceState(null, "", hash());
  open = name;
  history.pushState(null, "", hash());
}

/** The address that restores the page as it is. */
export function link() {
  const address = new URL(location.href);
  address.search = "";
  address.hash = hash();
  return address.href;
}

/** Starts; `restored` is called when the address changes, by hand or by the Back button. */
export function begin(restored) {
  read();
  addEventListener("popstate", () => {
    clearTimeout(writing);
    read();
    restored();
  });
}
