// Server-Sent Events (WHATWG HTML, 9.2) by fetch(): EventSource cannot send a token.

import {request} from './api.js';

const SILENCE_MS = 45000; // the server says something every 15 s

function parse(block) {
  const fields = {event: 'message', id: null, data: []};
  for (const line of block.split('\n')) {
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line);
    if (name === 'data') fields.data.push(value ?? '');
    else if (name === 'event' || name === 'id') fields[name] = value ?? '';
  }
  return fields.data.length ? {...fields, data: JSON.parse(fields.data.join('\n'))} : null;
}

/** {event, id, data} of each event until the server ends the stream or falls silent; last: id of the event to go on after, or null. */
export async function* events(path, {last = null, signal}) {
  const response = await request(path, {accept: 'text/event-stream', headers: last === null ? {} : {'Last-Event-ID': last}, ask: false, signal});
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      let timer;
      const silence = new Promise((resolve) => (timer = setTimeout(resolve, SILENCE_MS, {done: true})));
      const {value, done} = await Promise.race([reader.read(), silence]).finally(() => clearTimeout(timer));
      if (done) return;
      const blocks = (text + value).split('\n\n');
      text = blocks.pop();
      yield* blocks.map(parse).filter(Boolean);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
