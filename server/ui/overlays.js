// What is drawn over an image: lung masks (medfusion.masks/1) and heat maps (medfusion.explanation/1).

import {h, replace} from './dom.js';

const MASK_COLOURS = {image_left: [92, 200, 255], image_right: [127, 227, 196]};

/* Set pixels of a mask: runs are lengths of alternating clear and set pixels, row by row, clear first. */
function pixelsOf({rows, columns, runs}) {
  const pixels = new Uint8Array(rows * columns);
  let at = 0;
  runs.forEach((length, i) => {
    if (i % 2) pixels.fill(1, at, at + length);
    at += length;
  });
  return pixels;
}

/* The area and the outline of a mask as two pictures of its colour. */
function paint(mask) {
  const {rows, columns} = mask;
  const pixels = pixelsOf(mask);
  const [r, g, b] = MASK_COLOURS[mask.structure] ?? [255, 255, 255];
  const area = new OffscreenCanvas(columns, rows), outline = new OffscreenCanvas(columns, rows);
  const images = [area, outline].map((c) => c.getContext('2d').createImageData(columns, rows));
  const colour = (0xff << 24) | (b << 16) | (g << 8) | r;
  const [inside, edge] = images.map((i) => new Int32Array(i.data.buffer));
  for (let y = 0, i = 0; y < rows; y++)
    for (let x = 0; x < columns; x++, i++) {
      if (!pixels[i]) continue;
      inside[i] = colour;
      if (x === 0 || y === 0 || x === columns - 1 || y === rows - 1 || !pixels[i - 1] || !pixels[i + 1] || !pixels[i - columns] || !pixels[i + columns]) edge[i] = colour;
    }
  area.getContext('2d').putImageData(images[0], 0, 0);
  outline.getContext('2d').putImageData(images[1], 0, 0);
  return {area, outline};
}

/** Masks of all frames; a mask covers its whole frame, stretched. */
export function maskLayer({masks}) {
  const painted = new Map();
  return {
    draw(context, frame, {left, top, width, height}, view) {
      if (!view.showMask || view.mask === 0) return;
      if (!painted.has(frame.number)) painted.set(frame.number, masks.filter((m) => m.frame === frame.number).map(paint));
      for (const {area, outline} of painted.get(frame.number)) {
        context.globalAlpha = view.mask * 0.45;
        context.drawImage(area, left, top, width, height);
        context.globalAlpha = Math.min(1, view.mask * 2);
        context.drawImage(outline, left, top, width, height);
      }
      context.globalAlpha = 1;
    },
  };
}

const HEAT = {
  attribution: (v) => (v > 0 ? [255, 92, 60] : [80, 150, 255]), // speaks for the finding, against it
  relevance: () => [255, 200, 60],
  rollout: () => [255, 200, 60],
};

const LEGEND = {
  attribution: [['rgb(255 92 60)', 'for'], ['rgb(80 150 255)', 'against']],
  relevance: [['rgb(255 200 60)', 'evidence']],
  rollout: [['rgb(255 200 60)', 'attention']],
};

/* A map (rows × columns of values, largest magnitude `most`) as a picture; strength becomes opacity. */
function paintMap(values, [rows, columns], most, colourOf) {
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext('2d');
  const image = context.createImageData(columns, rows);
  values.forEach((v, i) => image.data.set([...colourOf(v), 255 * Math.min(1, Math.abs(v) / most)], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * Heat maps of a medfusion.explanation/1, over the region that was analysed: {layer, chooser(changed), legend}. `nameOf` gives the
 * display name of a label; the legend says what the colours mean.
 */
export function heatMaps(explanation, nameOf) {
  const maps = explanation.labels.flatMap(({label, frames}) => [
    {text: `${nameOf(label)}: for and against`, kind: 'attribution', values: frames.map((f) => f.attribution)},
    {text: `${nameOf(label)}: where evidence was found`, kind: 'relevance', values: frames.map((f) => f.relevance)}]);
  maps.push({text: 'Attention, all findings', kind: 'rollout', values: explanation.frames.map((f) => f.rollout)});
  let chosen = maps[0];
  const painted = new Map();
  const layer = {
    draw(context, frame, {left, top, width, height, rows, columns}, view) {
      const box = explanation.frames[frame.number]?.box;
      if (!view.showHeat || !box || !chosen.values[frame.number]) return;
      const key = `${maps.indexOf(chosen)} ${frame.number}`;
      if (!painted.has(key)) {
        const most = Math.max(1e-12, ...chosen.values.flat().map(Math.abs));
        painted.set(key, paintMap(chosen.values[frame.number], explanation.grid, most, HEAT[chosen.kind]));
      }
      const [x0, y0, x1, y1] = box.map((v, i) => (i % 2 ? top + (v * height) / rows : left + (v * width) / columns));
      context.globalAlpha = view.heat;
      context.drawImage(painted.get(key), x0, y0, x1 - x0, y1 - y0);
      context.globalAlpha = 1;
    },
  };
  const chooser = (changed) => {
    const select = h('select.field', {'aria-label': 'Heat map of', onchange: () => {
      chosen = maps[select.selectedIndex];
      explain();
      changed();
    }}, maps.map(({text}) => h('option', {}, text)));
    return select;
  };
  const legend = h('span.legend');
  const explain = () => replace(legend, (LEGEND[chosen.kind] ?? []).map(([colour, text]) => h('span', {}, h('i', {style: {background: colour}}), text)));
  explain();
  return {layer, chooser, legend};
}
