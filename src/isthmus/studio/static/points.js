/**
 * Draws many points fast: with WebGL 2, or pixel by pixel without it.
 *
 * A view is {x, y, scale}: the place in the centre of the canvas, and CSS pixels per unit of the
 * map. The y axis points up. Both painters have the same five methods.
 */

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour;
uniform vec2 middle, zoom; uniform float size, opacity;
out vec4 shade;
void main() {
  gl_Position = vec4((place - middle) * zoom, 0.0, 1.0);
  gl_PointSize = size;
  shade = vec4(colour.rgb, 1.0) * colour.a * opacity;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shade; uniform float edge; out vec4 pixel;
void main() {
  float inside = 0.5 - distance(gl_PointCoord, vec2(0.5));
  pixel = shade * clamp(inside * edge + 0.5, 0.0, 1.0);
}`;

/**
 * Diameter of a point in CSS pixels: smaller when points are dense, larger when zoomed in.
 */
export function diameter(count, room, zoom) {
  const far = Math.min(7, Math.max(1.3, 0.95 * (room / Math.max(1, count)) ** 0.38));
  return Math.min(12, far * Math.max(1, zoom) ** 0.35);
}

const OPTIONS = { antialias: false, depth: false, alpha: false };
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/**
 * The faster painter for this browser. Without a graphics card, WebGL is emulated and several times
 * slower than a loop over pixels. `?painter=webgl` or `?painter=canvas` in the address forces one.
 */
export function painter(canvas) {
  const probe = document.createElement("canvas").getContext("webgl2");
  const detail = probe?.getExtension("WEBGL_debug_renderer_info");
  const card = detail ? probe.getParameter(detail.UNMASKED_RENDERER_WEBGL) : "";
  probe?.getExtension("WEBGL_lose_context")?.loseContext();
  const asked = new URLSearchParams(location.search).get("painter");
  if (probe && (asked ? asked === "webgl" : !SOFTWARE.test(card))) {
    return new Shader(canvas, canvas.getContext("webgl2", OPTIONS));
  }
  return new Pixels(canvas);
}

class Shader {
  constructor(canvas, gl) {
    this.canvas = canvas;
    this.gl = gl;
    this.count = 0;
    this.chosen = 0;
    this.build();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.build();
      if (this.kept.places) this.places(this.kept.places);
      if (this.kept.colours) this.colours(this.kept.colours);
      if (this.kept.chosen) this.choose(this.kept.chosen);
    });
  }

  build() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "colour");
    gl.linkProgram(program);
    gl.useProgram(program);
    this.at = {};
    for (const name of ["middle", "zoom", "size", "opacity", "edge"]) {
      this.at[name] = gl.getUniformLocation(program, name);
    }
    this.buffers = [gl.createBuffer(), gl.createBuffer(), gl.createBuffer()];
    this.kept ??= {};
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Places [N 2], one after the other. */
  places(values) {
    this.kept.places = values;
    this.count = values.length / 2;
    this.fill(0, values, 2, this.gl.FLOAT, false);
  }

  /** Colours [N 4], bytes. */
  colours(values) {
    this.kept.colours = values;
    this.fill(1, values, 4, this.gl.UNSIGNED_BYTE, true);
  }

  fill(slot, values, width, kind, scaled) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[slot]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(slot);
    gl.vertexAttribPointer(slot, width, kind, scaled, 0, 0);
  }

  /** Indices of the highlighted points; the others fade. Null for none. */
  choose(indices) {
    const { gl } = this;
    this.kept.chosen = indices;
    this.chosen = indices ? indices.length : 0;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers[2]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices ?? new Uint32Array(1), gl.STATIC_DRAW);
  }

  draw(view, size, fade, background) {
    const { gl, canvas, at } = this;
    const ratio = canvas.width / canvas.clientWidth || 1;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...background.map((part) => part / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.count || !this.kept.colours) return;
    gl.uniform2f(at.middle, view.x, view.y);
    gl.uniform2f(
      at.zoom,
      (2 * view.scale) / canvas.clientWidth,
      (2 * view.scale) / canvas.clientHeight,
    );
    gl.uniform1f(at.size, size * ratio);
    gl.uniform1f(at.edge, size * ratio);
    gl.uniform1f(at.opacity, fade);
    gl.drawArrays(gl.POINTS, 0, this.count);
    if (!this.chosen) return;
    gl.uniform1f(at.opacity, 1);
    gl.uniform1f(at.size, (size + 2) * ratio);
    gl.uniform1f(at.edge, (size + 2) * ratio);
    gl.drawElements(gl.POINTS, this.chosen, gl.UNSIGNED_INT, 0);
  }

  get name() {
    return "WebGL";
  }
}

class Pixels {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.kept = {};
  }

  places(values) {
    this.kept.places = values;
  }

  colours(values) {
    this.kept.colours = new Uint32Array(values.buffer, 0, values.length / 4);
  }

  choose(indices) {
    this.kept.chosen = indices;
  }

  draw(view, size, fade, background) {
    const { width, height } = this.canvas;
    if (!width || !height) return;
    if (this.image?.width !== width || this.image.height !== height) {
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    const [red, green, blue] = background;
    this.pixels.fill((255 << 24) | (blue << 16) | (green << 8) | red);
    const { places, colours, chosen } = this.kept;
    if (places && colours) {
      const ratio = width / this.canvas.clientWidth;
      this.discs(view, ratio, stamp(size * ratio, width), fade, null);
      if (chosen) this.discs(view, ratio, stamp((size + 2) * ratio, width), 1, chosen);
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Blends a disc for every point, or for the chosen ones; integers only, for speed. */
  discs(view, ratio, { offsets, cover, size }, fade, chosen) {
    const {
      pixels,
      kept: { places, colours },
    } = this;
    const { width, height } = this.image;
    const scale = view.scale * ratio;
    const left = (width - size) / 2 + 0.5 - view.x * scale;
    const top = (height - size) / 2 + 0.5 + view.y * scale;
    const right = width - size;
    const bottom = height - size;
    const count = chosen ? chosen.length : colours.length;
    const parts = offsets.length;
    for (let n = 0; n < count; n++) {
      const i = chosen ? chosen[n] : n;
      const x = left + places[2 * i] * scale;
      const y = top - places[2 * i + 1] * scale;
      if (!(x >= 0 && y >= 0 && x <= right && y <= bottom)) continue;
      const colour = colours[i];
      const opacity = ((colour >>> 24) * fade) | 0;
      if (!opacity) continue;
      const start = (y | 0) * width + (x | 0);
      const outer = colour & 0xff00ff;
      const inner = (colour >>> 8) & 0xff;
      for (let k = 0; k < parts; k++) {
        const at = start + offsets[k];
        const under = pixels[at];
        const share = (cover[k] * opacity) >> 8;
        const rest = 256 - share;
        const sides = (Math.imul(outer, share) + Math.imul(under & 0xff00ff, rest)) >>> 8;
        const green = inner * share + ((under >>> 8) & 0xff) * rest;
        pixels[at] = 0xff000000 | (sides & 0xff00ff) | (green & 0xff00);
      }
    }
  }

  get name() {
    return "canvas";
  }
}

/** The pixels of a disc as offsets into an image, with how far each is covered, of 256. */
function stamp(diameter, width) {
  const size = Math.max(1, Math.ceil(diameter));
  const offsets = [];
  const cover = [];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const away = Math.hypot(x + 0.5 - size / 2, y + 0.5 - size / 2);
      const part = Math.min(1, Math.max(0, diameter / 2 - away + 0.5));
      if (part < 0.05) continue;
      offsets.push(y * width + x);
      cover.push(Math.round(256 * part));
    }
  }
  return { offsets: Int32Array.from(offsets), cover: Int32Array.from(cover), size };
}
