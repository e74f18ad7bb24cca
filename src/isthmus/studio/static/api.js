/** Requests to the server. Every failure is a ServerError with a message to show. */

export class ServerError extends Error {}

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ServerError("The studio's server does not respond. Is isthmus studio still running?");
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    /* not JSON: the status is the message */
  }
  if (response.status === 401)
    message = "Open the studio with the link that isthmus studio printed.";
  throw new ServerError(message);
}

/** The response as JSON. */
export async function get(path) {
  return (await answer(fetch(path))).json();
}

/** The response as floats: little-endian, as on every machine that runs a browser. */
export async function floats(path) {
  return new Float32Array(await (await answer(fetch(path))).arrayBuffer());
}

/**
 * A request that may need the model.
 *
 * @param {string} path
 * @param {object} body
 * @param {{signal?: AbortSignal, progress?: (job: object) => void}} [options] when the signal
 *   aborts, the connection is closed, and the server cancels the job; progress receives the state of
 *   the job about three times a second.
 */
export async function post(path, body, { signal, progress } = {}) {
  const job = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  let over = false;
  const watch = async () => {
    if (over || !progress) return;
    try {
      const state = await get(`api/jobs/${job}`);
      if (!over) progress(state);
    } catch {
      /* the job is not known yet, or no longer */
    }
    if (!over) setTimeout(watch, 350);
  };
  setTimeout(watch, 450);
  try {
    const headers = { "Content-Type": "application/json", "X-Job": job };
    const request = fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
    return await (await answer(request)).json();
  } finally {
    over = true;
  }
}
