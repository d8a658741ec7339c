// Quality: what the newest results looked like, all together.

import {getJson, outcome} from './api.js';
import {h, percent, plural, replace, svg, words} from './dom.js';

const NEWEST = 200;

function shares(results) {
  const labels = new Map();
  for (const {predictions} of results)
    for (const p of predictions) {
      if (!labels.has(p.label)) labels.set(p.label, {display: p.display, n: 0, present: 0, uncertain: 0, absent: 0, empty: 0, probability: 0, valid: 0});
      const row = labels.get(p.label);
      row.n++;
      row[p.state]++;
      row.probability += p.probability ?? 0;
      row.valid += p.guarantee === 'valid';
    }
  return [...labels.values()];
}

function stack(row) {
  return h('div.bars', {role: 'img', 'aria-label': `${row.present} present, ${row.uncertain} uncertain, ${row.absent} absent of ${row.n}`},
    ['present', 'uncertain', 'empty', 'absent'].filter((k) => row[k]).map((k) => h('div', {style: {width: `${(100 * row[k]) / row.n}%`, background: `var(--${k === 'empty' ? 'none' : k})`}})));
}

/* How usual the cases are: under the calibration population p-values are spread evenly. */
function histogram(values) {
  const bins = new Array(10).fill(0);
  for (const p of values) bins[Math.min(9, Math.floor(p * 10))]++;
  const most = Math.max(1, ...bins), [width, height] = [420, 160];
  const x = (i) => 30 + i * 38, y = (n) => 130 - (110 * n) / most;
  return svg('svg', {viewBox: `0 0 ${width} ${height}`, class: 'chart', role: 'img', 'aria-label': `p-values of ${values.length} cases in ten equal bins: ${bins.join(', ')}`},
    svg('line', {class: 'ideal', x1: 28, x2: 412, y1: y(values.length / 10), y2: y(values.length / 10)}),
    bins.map((n, i) => svg('rect', {class: 'dot', x: x(i), y: y(n), width: 34, height: 130 - y(n), rx: 2})),
    [0, 0.5, 1].map((p) => svg('text', {x: 30 + p * 380, y: 150, 'text-anchor': 'middle'}, String(p))),
    svg('text', {x: 24, y: y(most) + 4, 'text-anchor': 'end'}, String(most)));
}

export async function quality(root) {
  const {jobs} = await getJson(`/v1/jobs?state=succeeded&limit=${NEWEST}`);
  const all = await Promise.all(jobs.filter((job) => !job.purged).map((job) => outcome(job.id).catch(() => null)));
  const results = all.filter(Boolean).map(({result}) => result);
  const head = h('div.page-head', {}, h('h1', {}, 'Quality'), h('p.muted', {}, `the newest ${plural(results.length, 'result')}`));
  if (!results.length) {
    replace(root, head, h('p.empty', {}, 'There are no results yet.'));
    return null;
  }
  const flagged = results.filter((r) => r.quality.flags.length);
  const fallback = results.filter((r) => r.study.frames.some((f) => f.role === 'current' && f.segmentation.status === 'fallback'));
  const ood = results.map((r) => r.quality.ood_p_value).filter((p) => p !== null);
  const flags = Object.entries(Object.groupBy(flagged.flatMap((r) => r.quality.flags), (f) => f)).map(([flag, of]) => [flag, of.length]);
  const predictions = results.flatMap((r) => r.predictions);
  const share = (list, of) => percent(list.length / of.length);
  const tile = (value, label) => h('section.card.tile', {}, h('div.value', {}, value), h('div.label', {}, label));
  replace(root, head,
    h('div.tiles', {},
      tile(share(predictions.filter((p) => p.guarantee === 'valid'), predictions), 'of sets with a promise that holds'),
      tile(share(predictions.filter((p) => p.state === 'uncertain'), predictions), 'of sets uncertain'),
      tile(share(flagged, results), 'of studies with a quality flag'),
      tile(share(fallback, results), 'of studies without lungs found')),
    h('div.cards', {},
      h('section.card', {'aria-label': 'Findings'}, h('h2', {}, 'Findings'),
        h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': 'Findings'}, h('table', {},
          h('thead', {}, h('tr', {}, ['Finding', 'Sets', 'Present', 'Uncertain', 'Mean probability'].map((text) => h('th', {scope: 'col'}, text)))),
          h('tbody', {}, shares(results).map((row) => h('tr', {}, h('td', {}, row.display), h('td', {style: {'min-width': '120px'}}, stack(row)),
            h('td.number', {}, row.present), h('td.number', {}, row.uncertain), h('td.number', {}, percent(row.probability / row.n)))))))),
      ood.length > 0 && h('section.card', {'aria-label': 'How usual the cases are'}, h('h2', {}, 'How usual the cases are'),
        h('p.small.muted', {}, 'p-values against the calibration population; evenly spread (dashed) when the cases are like it, heaped at the left when they are not.'), histogram(ood)),
      flags.length > 0 && h('section.card', {'aria-label': 'Quality flags'}, h('h2', {}, 'Quality flags'),
        h('dl', {}, flags.map(([flag, n]) => [h('dt', {}, words(flag)), h('dd.number', {}, plural(n, 'study', 'studies'))])))));
  return null;
}
