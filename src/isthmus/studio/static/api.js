/** Talking to the server. Every failure is a ServerError with a line that can be shown. */

export class ServerError extends Error {}

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ServerError("The studio's server does not answer. Is isthmus studio still running?");
  }
  if (response.ok) return response;
  let words = `The server answered ${response.status}`;
  try {
    words = (await response.json()).error ?? words;
  } catch {
    /* no JSON: the number has to do */
  }
  if (response.status === 401)
    words = "Open the studio with the link that isthmus studio printed.";
  if (response.status === 503) words = `${words} Too many are waiting: try again in a moment.`;
  throw new ServerError(words);
}

/** An answer as JSON. */
export async function get(path) {
  return (await answer(fetch(path))).json();
}

/** Numbers, little-endian as they are sent; every browser runs on such machines. */
export async function floats(path) {
  return new Float32Array(await (await answer(fetch(path))).arrayBuffer());
}

/**
 * A question that may need the model.
 *
 * @param {string} path
 * @param {object} body
 * @param {{signal?: AbortSignal, progress?: (job: object) => void}} [options] when the signal
 *   aborts, the connection is closed, by which the server knows to stop; progress hears of the job
 *   about three times a second.
 */
export async function post(path, body, { signal, progress } = {}) {
  const job = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  let over = false;
  const watch = async () => {
    if (over || !progress) return;
    try {
      const told = await get(`api/jobs/${job}`);
      if (!over) progress(told);
    } catch {
      /* the job is not known yet, or any more */
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
