// Elements and formats: what every other module builds its view with. Text only ever becomes a text node, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'style') for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** h('div.card', {role: 'note', onclick}, child, …): strings are text; null, undefined and false children are left out. */
export function h(selector, props, ...children) {
  const [tag, ...classes] = selector.split('.');
  const element = document.createElement(tag || 'div');
  if (classes.length) element.className = classes.join(' ');
  return fill(element, props, children);
}

export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

const ICONS = {
  sun: 'M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12 1v3M12 20v3M1 12h3M20 12h3M4.2 4.2l2.1 2.1M17.7 17.7l2.1 2.1M4.2 19.8l2.1-2.1M17.7 6.3l2.1-2.1',
  moon: 'M20.5 14.2A8.5 8.5 0 0 1 9.8 3.5a8.5 8.5 0 1 0 10.7 10.7z',
  upload: 'M12 16V4M7 9l5-5 5 5M4 16v3a1.5 1.5 0 0 0 1.5 1.5h13A1.5 1.5 0 0 0 20 19v-3',
  download: 'M12 4v11M7 11l5 5 5-5M4 20h16',
  back: 'M15 5l-7 7 7 7',
  close: 'M6 6l12 12M18 6L6 18',
  reset: 'M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5',
  invert: 'M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18',
  plus: 'M12 5v14M5 12h14',
  minus: 'M5 12h14',
};

export function icon(name) {
  return svg('svg', {viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true'}, svg('path', {d: ICONS[name]}));
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

// --- parts of pages ---

export const tile = (value, label) => h('section.card.tile', {}, h('div.value', {}, value), h('div.label', {}, label));
export const card = (name, note, ...content) => h('section.card', {'aria-label': name}, h('h2', {}, name, note && h('span.note', {}, note)), content);

export function table(label, head, rows) {
  return h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': label}, h('table', {},
    h('thead', {}, h('tr', {}, head.map((text) => h('th', {scope: 'col'}, text)))),
    h('tbody', {}, rows.map((cells) => h('tr', {}, cells.map((c) => h('td.number', {}, c)))))));
}

/** Tells a screen reader. */
export function announce(text) {
  document.getElementById('announce').textContent = text;
}

// --- formats ---

export const percent = (p) => (p === null || p === undefined ? '–' : `${(100 * p).toFixed(p > 0 && p < 0.0995 ? 1 : 0)} %`);

export function bytes(n) {
  if (n < 1000) return `${n} B`;
  return n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(1)} GB`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return '–';
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const DATE = new Intl.DateTimeFormat('en-GB', {day: 'numeric', month: 'short', year: 'numeric'});
const DATE_TIME = new Intl.DateTimeFormat('en-GB', {day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit'});

/** A DICOM date (20160708) or ISO 8601 text as a day; what is no date is shown as it is. */
export function day(text) {
  if (!text) return 'no date';
  const m = /^(\d{4})-?(\d{2})-?(\d{2})/.exec(text);
  return m ? DATE.format(new Date(+m[1], m[2] - 1, +m[3])) : text;
}

export const moment = (text) => (text ? DATE_TIME.format(new Date(text)) : '–');

export function ago(text) {
  const s = (Date.now() - new Date(text)) / 1000;
  if (s < 45) return 'just now';
  if (s < 3600) return `${Math.max(1, Math.round(s / 60))} min ago`;
  if (s < 86400) return `${Math.round(s / 3600)} h ago`;
  return DATE.format(new Date(text));
}

/** "Doe^Jane^^Dr" as people write it. */
export function personName(dicom) {
  const [family, given] = (dicom ?? '').split('=')[0].split('^');
  return [family, given].filter(Boolean).join(', ');
}

export const words = (text) => (text ?? '').replaceAll('_', ' ');
export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
