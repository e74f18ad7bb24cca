/**
 * What the address remembers: `#walk?a=…&b=…&map.by=label`.
 *
 * It is the fragment, which a browser never sends: a shared link does not tell the server's log,
 * or anybody between, which texts were looked at. Names with "map." or "decode." belong to the
 * whole page, the others to the panel that is open.
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

/** What a panel, "map" or "decode" remembers: strings by name. */
export function recall(owner) {
  return { ...kept.get(owner) };
}

/** Remembers; null, undefined and "" forget. Written a little later, not on every key. */
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

/** The panel of the address. */
export const opened = () => open;

/** Goes to a panel; the way back is kept. */
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

/** Starts; `restored` is called when the address is changed by hand or by the way back. */
export function begin(restored) {
  read();
  addEventListener("popstate", () => {
    clearTimeout(writing);
    read();
    restored();
  });
}
