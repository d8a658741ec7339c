// What is drawn over an image: lung masks (medfusion.masks/1) and heat maps.

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
