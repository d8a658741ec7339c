// Decoding the service's 16-bit grey PNGs (PNG specification, third edition): a canvas would cut them to 8 bits.

const text = new TextDecoder('latin1');

function* chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    yield {type: text.decode(bytes.subarray(at + 4, at + 8)), data: bytes.subarray(at + 8, at + 8 + length)};
    at += 12 + length;
  }
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function paeth(a, b, c) {
  const p = a + b - c, pa = Math.abs(p - a), pb = Math.abs(p - b), pc = Math.abs(p - c);
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* Undoes the filter of one row in place; `above` is the row before it, or null. */
function unfilter(type, row, above, step) {
  const n = row.length;
  if (type === 1) for (let i = step; i < n; i++) row[i] += row[i - step];
  else if (type === 2 && above) for (let i = 0; i < n; i++) row[i] += above[i];
  else if (type === 3) for (let i = 0; i < n; i++) row[i] += ((i >= step ? row[i - step] : 0) + (above ? above[i] : 0)) >> 1;
  else if (type === 4)
    for (let i = 0; i < n; i++) row[i] += paeth(i >= step ? row[i - step] : 0, above ? above[i] : 0, i >= step && above ? above[i - step] : 0);
}

/* pCAL: keyword, X0, X1, equation, count, unit, parameters; ours is linear from 0 to the largest sample. */
function calibration(data) {
  const nul = data.indexOf(0);
  const fields = text.decode(data.subarray(nul + 11)).split('\0'); // unit, low, range
  return {low: Number(fields[1]), range: Number(fields[2])};
}

/**
 * {rows, columns, samples: Uint16Array, low, high, black, white}: `low` and `high` are the values of samples 0 and 65535,
 * `black` and `white` those that the image is shown between.
 */
export async function decodeGrey16(buffer) {
  const bytes = new Uint8Array(buffer);
  const image = {low: 0, high: 65535, black: 0, white: 65535};
  const data = [];
  for (const chunk of chunks(bytes)) {
    if (chunk.type === 'IHDR') {
      const head = new DataView(chunk.data.buffer, chunk.data.byteOffset);
      [image.columns, image.rows] = [head.getUint32(0), head.getUint32(4)];
      if (chunk.data[8] !== 16 || chunk.data[9] !== 0 || chunk.data[12] !== 0) throw new Error('not a 16-bit grey picture');
    } else if (chunk.type === 'pCAL') {
      const {low, range} = calibration(chunk.data);
      [image.low, image.high] = [low, low + range];
    } else if (chunk.type === 'tEXt') {
      const [keyword, value] = text.decode(chunk.data).split('\0');
      if (keyword === 'Display range') [image.black, image.white] = value.split(' ').map(Number);
    } else if (chunk.type === 'IDAT') data.push(chunk.data);
  }
  const raw = await inflate(data);
  const stride = image.columns * 2;
  image.samples = new Uint16Array(image.columns * image.rows);
  let above = null;
  for (let y = 0, at = 0, out = 0; y < image.rows; y++, at += stride + 1) {
    const row = raw.subarray(at + 1, at + 1 + stride);
    unfilter(raw[at], row, above, 2);
    for (let i = 0; i < stride; i += 2) image.samples[out++] = (row[i] << 8) | row[i + 1];
    above = row;
  }
  return image;
}
