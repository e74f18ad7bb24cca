/** Perceptually uniform colours: OKLCH (Ottosson 2020) to sRGB. */

/** Bytes [r, g, b] of a lightness, a chroma and a hue in degrees. */
function oklch(lightness, chroma, hue) {
  const angle = (hue * Math.PI) / 180;
  const a = chroma * Math.cos(angle);
  const b = chroma * Math.sin(angle);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const k = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * k,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * k,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * k,
  ].map((part) => {
    const light = Math.min(1, Math.max(0, part));
    return Math.round(
      255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055),
    );
  });
}

/** Whether the page is dark: by its own switch, else by the system's. */
export function dark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// Neighbours in the list have distant hues; lightness alternates for colour-blind readers.
const HUES = [245, 45, 150, 350, 85, 300, 195, 20, 125, 270];
const GREY = () => (dark() ? [95, 98, 104] : [176, 174, 168]);

/** The colour of the n-th category; beyond about ten, colours look alike. */
export function category(n) {
  if (!(n >= 0)) return GREY();
  const hue = n < HUES.length ? HUES[n] : (n * 137.508) % 360;
  const step = [0, 0.08, -0.05][n % 3];
  return oklch((dark() ? 0.72 : 0.58) + step, n < HUES.length ? 0.14 : 0.11, hue);
}

/** The colour of a value between 0 and 1: high values contrast most with the page. */
export function ramp(share) {
  if (Number.isNaN(share)) return GREY();
  const t = Math.min(1, Math.max(0, share));
  return dark()
    ? oklch(0.4 + 0.5 * t, 0.1 + 0.05 * t, 285 - 190 * t)
    : oklch(0.84 - 0.52 * t, 0.11 + 0.03 * t, 95 + 190 * t);
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/**
 * Bytes [N 4] for a colouring.
 *
 * @param {{kind: string, low: number, high: number}} colouring
 * @param {Float32Array} values [N], NaN where unknown.
 */
export function paint(colouring, values) {
  const bytes = new Uint8Array(4 * values.length);
  const opacity = values.length > 20000 ? 170 : 215;
  const table = Array.from({ length: 257 }, (_, n) =>
    colouring.kind === "category" ? category(n) : ramp(n / 256),
  );
  const grey = GREY();
  const scale = 256 / (colouring.high - colouring.low || 1);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    const slot =
      colouring.kind === "category"
        ? value
        : Math.round(Math.min(256, Math.max(0, (value - colouring.low) * scale)));
    const colour = table[slot] ?? (value >= 0 ? category(value) : grey);
    bytes[4 * i] = colour[0];
    bytes[4 * i + 1] = colour[1];
    bytes[4 * i + 2] = colour[2];
    bytes[4 * i + 3] = opacity;
  }
  return bytes;
}
