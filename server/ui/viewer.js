// The viewer: images side by side in time order, with a window that the reader sets, and overlays. All views move together.

import {Problem, request} from './api.js';
import {day, h, icon, replace, words} from './dom.js';
import {decodeGrey16} from './png.js';
import {maskLayer} from './overlays.js';

const LAYOUTS = [1, 2, 4];
const ZOOM = {min: 0.5, max: 24};

/* --- one image --- */

/* Samples through the window to grey, on a canvas of the image's own size. */
class Picture {
  static async load(href) {
    try {
      const response = await request(`${href}?bits=16`, {accept: 'image/png'});
      return new Picture(await decodeGrey16(await response.arrayBuffer()));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 422) throw error;
    }
    const response = await request(href, {accept: 'image/png'}); // colour: as it is
    const bitmap = await createImageBitmap(await response.blob());
    const picture = new Picture({rows: bitmap.height, columns: bitmap.width});
    picture.canvas.getContext('2d').drawImage(bitmap, 0, 0);
    return picture;
  }

  constructor(data) {
    this.data = data;
    this.canvas = new OffscreenCanvas(data.columns, data.rows);
    this.applied = null;
  }

  /* The window in modality values: the image's own, moved and stretched by the view. */
  window({level, width, invert}) {
    const {black, white} = this.data;
    const half = ((white - black) / 2) * width;
    const centre = (black + white) / 2 + (white - black) * level;
    return invert ? [centre + half, centre - half] : [centre - half, centre + half];
  }

  apply(view) {
    const {samples, low, high} = this.data;
    const [black, white] = samples ? this.window(view) : [0, 0];
    const key = `${black} ${white}`;
    if (!samples || key === this.applied) return;
    this.applied = key;
    const table = new Uint8ClampedArray(65536);
    const step = (high - low) / 65535, scale = 255 / (white - black || 1e-9);
    for (let i = 0; i < 65536; i++) table[i] = (low + i * step - black) * scale;
    const context = this.canvas.getContext('2d');
    const image = context.createImageData(this.canvas.width, this.canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) {
      const grey = table[samples[i]];
      pixels[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    context.putImageData(image, 0, 0);
  }
}

/* --- one view of an image --- */

class View {
  constructor(viewer, frame) {
    this.viewer = viewer;
    this.frame = frame;
    this.canvas = h('canvas', {'aria-hidden': 'true'});
    this.message = h('div.message', {role: 'status'}, 'Loading…');
    this.readout = h('div.tag.br');
    this.zoomText = h('div.tag.bl');
    const {role, acquired, view, modality, rows, columns, spacing_mm: spacing} = frame;
    this.aspect = spacing ? spacing[1] / spacing[0] : 1; // of a pixel: width to height
    this.element = h('div.view', {tabindex: 0, role: 'img', 'aria-label': `${role === 'prior' ? 'Earlier image' : 'Current image'} of ${day(acquired)}${view ? `, ${view}` : ''}`},
      this.canvas, this.message,
      h('div.tag.tl', {}, h('b', {}, day(acquired)), h('br'), role === 'prior' ? 'Earlier' : 'Current'),
      h('div.tag.tr', {}, [modality, view].filter(Boolean).join(' '), h('br'), rows ? `${columns} × ${rows}` : ''),
      this.zoomText, this.readout);
    this.#listen();
    this.load();
  }

  async load() {
    if (!this.frame.href) {
      this.message.textContent = 'This image cannot be fetched: it has no UID.';
      return;
    }
    try {
      this.picture = await this.viewer.picture(this.frame);
      this.message.remove();
      this.viewer.draw();
    } catch (error) {
      this.message.textContent = error.message;
    }
  }

  /* How many pixels of the view a row is high when the image just fits. */
  #fit(width, height) {
    const {rows, columns} = this.picture.data;
    return Math.min(width / (columns * this.aspect), height / rows);
  }

  /* Where the whole image lies on the canvas, in device pixels. */
  #place() {
    const {width, height} = this.canvas;
    const {rows, columns} = this.picture.data;
    const {zoom, x, y} = this.viewer.view;
    const scale = this.#fit(width, height) * zoom;
    const [w, h] = [columns * this.aspect * scale, rows * scale];
    return {left: width / 2 - (0.5 + x) * w, top: height / 2 - (0.5 + y) * h, width: w, height: h};
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(this.element.clientWidth * ratio), Math.round(this.element.clientHeight * ratio)];
    if (!this.picture || !width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    const {view, layers} = this.viewer;
    this.picture.apply(view);
    const context = this.canvas.getContext('2d');
    const place = this.#place();
    const {rows, columns} = this.picture.data;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = '#000';
    context.fillRect(0, 0, width, height);
    context.imageSmoothingEnabled = place.height < 4 * rows;
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.picture.canvas, place.left, place.top, place.width, place.height);
    context.imageSmoothingEnabled = true;
    for (const layer of layers) layer.draw(context, this.frame, {...place, rows, columns, ratio}, view);
    this.#describe();
  }

  #describe() {
    const {view} = this.viewer;
    const [black, white] = this.picture.data.samples ? this.picture.window(view) : [null, null];
    this.readout.textContent = black === null ? 'Colour' : `W ${Math.round(Math.abs(white - black))}  L ${Math.round((black + white) / 2)}`;
    this.zoomText.textContent = view.zoom === 1 ? '' : `${Math.round(view.zoom * 100)} %`;
  }

  /* Zooms so that what is under the pointer stays there. */
  #zoomAt(event, factor) {
    const {view} = this.viewer;
    const zoom = Math.min(ZOOM.max, Math.max(ZOOM.min, view.zoom * factor));
    if (this.picture) {
      const box = this.element.getBoundingClientRect();
      const {rows, columns} = this.picture.data;
      const [dx, dy] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
      const gain = (1 / view.zoom - 1 / zoom) / this.#fit(box.width, box.height);
      view.x += (dx * gain) / (columns * this.aspect);
      view.y += (dy * gain) / rows;
    }
    view.zoom = zoom;
    this.viewer.changed();
  }

  #move(dx, dy) {
    if (!this.picture) return;
    const {view} = this.viewer;
    const box = this.element.getBoundingClientRect();
    const {rows, columns} = this.picture.data;
    const scale = this.#fit(box.width, box.height) * view.zoom;
    view.x = Math.min(0.6, Math.max(-0.6, view.x - dx / scale / (columns * this.aspect)));
    view.y = Math.min(0.6, Math.max(-0.6, view.y - dy / scale / rows));
    this.viewer.changed();
  }

  #window(dx, dy) {
    const {view} = this.viewer;
    view.width = Math.min(8, Math.max(0.02, view.width * Math.exp(dx * 0.005)));
    view.level = Math.min(4, Math.max(-4, view.level + dy * 0.0025));
    this.viewer.changed();
  }

  #listen() {
    const e = this.element;
    const pointers = new Map();
    e.addEventListener('contextmenu', (event) => event.preventDefault());
    e.addEventListener('dblclick', () => this.viewer.reset());
    e.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.#zoomAt(event, Math.exp(-event.deltaY * (event.deltaMode ? 0.06 : 0.0016)));
    }, {passive: false});
    e.addEventListener('pointerdown', (event) => {
      e.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
    });
    const end = (event) => pointers.delete(event.pointerId);
    e.addEventListener('pointerup', end);
    e.addEventListener('pointercancel', end);
    e.addEventListener('pointermove', (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      pointers.set(event.pointerId, event);
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      if (pointers.size === 2) {
        const other = [...pointers.values()].find((p) => p.pointerId !== event.pointerId);
        const far = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
        this.#move(dx / 2, dy / 2);
        this.#zoomAt(event, far(event) / Math.max(1, far(before)));
      } else if (event.shiftKey || event.buttons & 6) this.#move(dx, dy);
      else this.#window(dx, dy);
    });
    e.addEventListener('keydown', (event) => this.#key(event));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    const centre = () => {
      const box = this.element.getBoundingClientRect();
      return {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2};
    };
    if (arrows && event.shiftKey) this.#window(arrows[0] * 10, arrows[1] * 10);
    else if (arrows) this.#move(-arrows[0] * 24, -arrows[1] * 24);
    else if (event.key === '+' || event.key === '=') this.#zoomAt(centre(), 1.2);
    else if (event.key === '-') this.#zoomAt(centre(), 1 / 1.2);
    else if (event.key === '0') this.viewer.reset();
    else if (event.key === 'PageUp') this.viewer.step(-1);
    else if (event.key === 'PageDown') this.viewer.step(1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/* --- all of them --- */

const START = {level: 0, width: 1, invert: false, zoom: 1, x: 0, y: 0};

export class Viewer {
  view = {...START, mask: 0.35, showMask: true, heat: 0.5, showHeat: true, showBox: false};
  layers = [];
  #pictures = new Map();
  #views = [];
  #waiting = false;
  #count;
  #last; // the newest frame shown

  /** frames: medfusion.frames/1; result: the job's; masks: medfusion.masks/1 or null; heat: a heat map layer or null. */
  constructor(frames, result, masks, heat) {
    this.frames = frames.map((frame, i) => ({...frame, number: i, segmentation: result.study.frames[i].segmentation}));
    this.heat = heat;
    if (masks?.masks.length) this.layers.push(maskLayer(masks));
    if (heat) this.layers.push(heat.layer);
    this.layers.push(boxLayer());
    this.#last = this.frames.length - 1;
    this.#count = this.frames.length >= 4 ? 4 : this.frames.length >= 2 ? 2 : 1;
    this.grid = h('div.views');
    this.strip = h('div.strip', {role: 'group', 'aria-label': 'All images, oldest first'});
    this.element = h('section.viewer', {'aria-label': 'Images'}, this.#tools(Boolean(masks?.masks.length)), this.grid, this.frames.length > 1 && this.strip);
    this.#resize = new ResizeObserver(() => this.draw());
    this.#resize.observe(this.grid);
    this.#keys = (e) => this.#key(e);
    document.addEventListener('keydown', this.#keys);
    this.#thumbnails();
    this.#arrange();
  }

  #resize;
  #keys;

  close() {
    this.#resize.disconnect();
    document.removeEventListener('keydown', this.#keys);
    for (const url of this.#urls) URL.revokeObjectURL(url);
  }

  picture(frame) {
    if (!this.#pictures.has(frame.number)) {
      const loading = Picture.load(frame.href);
      loading.catch(() => this.#pictures.delete(frame.number));
      this.#pictures.set(frame.number, loading);
    }
    return this.#pictures.get(frame.number);
  }

  #arrange() {
    const first = Math.max(0, this.#last - this.#count + 1);
    const shown = this.frames.slice(first, first + this.#count);
    const old = new Map(this.#views.map((v) => [v.frame.number, v]));
    this.#views = shown.map((frame) => old.get(frame.number) ?? new View(this, frame));
    this.grid.dataset.count = String(shown.length);
    replace(this.grid, this.#views.map((v) => v.element));
    [...this.strip.children].forEach((b, i) => b.setAttribute('aria-pressed', String(i >= first && i < first + shown.length)));
    const near = new Set(shown.map((f) => f.number)); // pixels of what is far away are given back
    for (const number of this.#pictures.keys()) if (!near.has(number) && this.#pictures.size > 8) this.#pictures.delete(number);
    this.draw();
  }

  step(by) {
    this.#last = Math.min(this.frames.length - 1, Math.max(this.#count - 1, this.#last + by));
    this.#arrange();
    this.#views.at(-1).element.focus();
  }

  #urls = [];

  #thumbnails() {
    for (const frame of this.frames) {
      const image = h('span.thumb');
      const button = h('button', {type: 'button', 'aria-pressed': 'false', 'aria-label': `Show the image of ${day(frame.acquired)} (${frame.number + 1} of ${this.frames.length})`,
        onclick: () => {
          this.#last = Math.max(frame.number, this.#count - 1);
          this.#arrange();
        }}, image, h('span', {}, day(frame.acquired)));
      this.strip.append(button);
      if (!frame.href || this.frames.length === 1) continue;
      request(`${frame.href}?side=160`, {accept: 'image/png'})
        .then((response) => response.blob())
        .then((blob) => {
          this.#urls.push(URL.createObjectURL(blob));
          image.append(h('img', {src: this.#urls.at(-1), alt: ''}));
        })
        .catch(() => image.append('–'));
    }
  }

  draw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      for (const view of this.#views) view.draw();
    });
  }

  changed() {
    this.#sync?.();
    this.draw();
  }

  reset() {
    Object.assign(this.view, START);
    this.changed();
  }

  #sync = null; // puts the state into the tools

  #tools(hasMasks) {
    const {view} = this;
    const toggles = [];
    const toggle = (key, label, shortcut) => {
      const box = h('input', {type: 'checkbox', onchange: () => {
        view[key] = box.checked;
        this.changed();
      }});
      toggles.push([box, key]);
      return h('label', {title: `${label} (${shortcut})`}, box, label);
    };
    const opacity = (key, label) => h('input', {type: 'range', min: 0, max: 1, step: 0.05, value: view[key], 'aria-label': label, oninput: (e) => {
      view[key] = Number(e.target.value);
      this.changed();
    }});
    const invert = h('button.icon-button', {type: 'button', 'aria-label': 'Invert', title: 'Invert (i)', onclick: () => this.#flip('invert')}, icon('invert'));
    const layouts = LAYOUTS.filter((n) => n <= this.frames.length || n === 1).map((n) => [n, h('button', {type: 'button', 'aria-label': n === 1 ? 'One image' : `${n} images`, onclick: () => {
      this.#count = n;
      this.#last = Math.max(this.#last, n - 1);
      this.#arrange();
      this.#sync();
    }}, String(n))]);
    this.#sync = () => {
      for (const [box, key] of toggles) box.checked = view[key];
      invert.setAttribute('aria-pressed', String(view.invert));
      for (const [n, button] of layouts) button.setAttribute('aria-pressed', String(n === this.#count));
    };
    const tools = h('div.tools', {role: 'group', 'aria-label': 'Display'},
      layouts.length > 1 && h('div.segments', {role: 'group', 'aria-label': 'Images side by side'}, layouts.map(([, button]) => button)),
      h('div.group', {}, invert,
        h('button.icon-button', {type: 'button', 'aria-label': 'Reset the view', title: 'Reset the view (0)', onclick: () => this.reset()}, icon('reset'))),
      hasMasks && h('div.group', {}, toggle('showMask', 'Lung mask', 'm'), opacity('mask', 'Opacity of the lung mask')),
      this.heat && h('div.group', {}, toggle('showHeat', 'Heat map', 'h'), this.heat.chooser(() => this.changed()), opacity('heat', 'Opacity of the heat map'), this.heat.legend),
      toggle('showBox', 'Analysed region', 'b'));
    this.#sync();
    return tools;
  }

  #flip(key) {
    this.view[key] = !this.view[key];
    this.changed();
  }

  #key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, textarea, select, dialog')) return;
    const key = {m: 'showMask', h: 'showHeat', b: 'showBox', i: 'invert'}[e.key];
    if (key) this.#flip(key);
    else if (e.key === '0') this.reset();
  }
}

/* The region that the network looked at. */
function boxLayer() {
  return {
    draw(context, frame, {left, top, width, height, rows, columns, ratio}, view) {
      const {status, box} = frame.segmentation;
      if (!view.showBox) return;
      const [x0, y0, x1, y1] = box.map((v, i) => (i % 2 ? top + (v * height) / rows : left + (v * width) / columns));
      context.setLineDash([6 * ratio, 4 * ratio]);
      context.lineWidth = 1.5 * ratio;
      context.strokeStyle = '#f0c75e';
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      context.setLineDash([]);
      context.font = `${11 * ratio}px system-ui, sans-serif`;
      context.fillStyle = '#f0c75e';
      context.fillText(status === 'ok' ? 'analysed region' : `whole image (${words(status)})`, x0 + 6 * ratio, y0 + 15 * ratio);
    },
  };
}
