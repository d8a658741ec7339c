// Quality: how the newest results of each model look beside its calibration, and what feedback says about its promises
// (GET /v1/quality, medfusion.quality/1).

import {getOptional} from './api.js';
import {h, milliseconds, moment, percent, plural, replace, svg, words} from './dom.js';
import {Metrics} from './metrics.js';

const ALARMS = {score_drift: 'Scores', feature_drift: 'Patient data', out_of_distribution: 'Unusual images', coverage: 'Coverage', calibration: 'Calibration'};
const tile = (value, label) => h('section.card.tile', {}, h('div.value', {}, value), h('div.label', {}, label));
const fixed = (x, digits = 2) => (x === null || x === undefined ? '–' : x.toFixed(digits));

function stack({sets}) {
  if (!sets) return '–';
  const parts = ['present', 'uncertain', 'empty', 'absent'].filter((k) => sets[k] > 0);
  return h('div.bars', {role: 'img', 'aria-label': parts.map((k) => `${k} ${percent(sets[k])}`).join(', ')},
    parts.map((k) => h('div', {title: `${k} ${percent(sets[k])}`, style: {width: `${100 * sets[k]}%`, background: `var(--${k === 'empty' ? 'none' : k})`}})));
}

/* A sample this small says nothing: PSI below the noise of its size is no drift. */
function drift(d) {
  if (!d || d.psi === null) return '–';
  return h(`span.chip${d.psi > d.psi_noise + 0.2 ? '.uncertain' : '.plain'}`, {title: `PSI ${fixed(d.psi)}, noise of the sample ${fixed(d.psi_noise)}`}, fixed(d.psi));
}

const X = (share) => 46 + 360 * share, Y = (share) => 250 - 220 * share;

function axes(label, below, beside, children) {
  return svg('svg', {viewBox: '0 0 440 290', class: 'chart', role: 'img', 'aria-label': label},
    [0, 0.25, 0.5, 0.75, 1].flatMap((v) => [
      svg('line', {class: 'grid', x1: X(0), x2: X(1), y1: Y(v), y2: Y(v)}),
      svg('text', {x: X(0) - 6, y: Y(v) + 4, 'text-anchor': 'end'}, String(100 * v)),
      svg('text', {x: X(v), y: Y(0) + 16, 'text-anchor': 'middle'}, String(100 * v))]),
    svg('text', {x: X(0.5), y: 284, 'text-anchor': 'middle'}, below),
    svg('text', {x: X(0), y: 14}, beside), children);
}

/* Observed against predicted share of each finding, with Wilson intervals. */
function calibrationPlot(labels) {
  const judged = labels.filter((l) => l.calibration);
  if (!judged.length) return h('p.empty', {}, 'No feedback yet. Readers give it in a study.');
  return axes(`Calibration of ${plural(judged.length, 'finding')}: ${judged.map((l) => `${l.label} predicted ${percent(l.calibration.predicted)}, observed ${percent(l.calibration.observed)}`).join('; ')}`,
    'mean predicted probability, %', 'observed share, %',
    [svg('line', {class: 'ideal', x1: X(0), y1: Y(0), x2: X(1), y2: Y(1)}),
      judged.flatMap(({label, calibration: c}) => [
        svg('line', {class: 'line', x1: X(c.predicted), x2: X(c.predicted), y1: Y(c.low), y2: Y(c.high)}),
        svg('circle', {class: 'dot', cx: X(c.predicted), cy: Y(c.observed), r: 4}, svg('title', {}, `${label}: predicted ${percent(c.predicted)}, observed ${percent(c.observed)} of ${c.n}`))])]);
}

/* Coverage of each finding and class against what was promised (1 − α), with Clopper–Pearson intervals. */
function coverageTable(labels) {
  const rows = labels.flatMap(({label, coverage}) => ['present', 'absent'].map((side) => ({label, side, ...coverage[side]}))).filter((r) => r.n > 0);
  if (!rows.length) return h('p.empty', {}, 'No feedback yet: what the sets hold is known once readers say what is true.');
  return h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': 'Coverage'}, h('table', {},
    h('thead', {}, h('tr', {}, ['Finding', 'Truth', 'Covered', '95 % interval', 'Promised'].map((text) => h('th', {scope: 'col'}, text)))),
    h('tbody', {}, rows.map((r) => h('tr', {}, h('td', {}, words(r.label)), h('td', {}, r.side), h('td.number', {}, `${r.covered} of ${r.n}`),
      h('td.number', {}, `${percent(r.low)} – ${percent(r.high)}`),
      h('td', {}, r.promised === null ? '–' : h(`span.chip${r.high < r.promised ? '.danger' : '.absent'}`, {}, percent(r.promised))))))));
}

function labelTable(labels) {
  return h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': 'Findings'}, h('table', {},
    h('thead', {}, h('tr', {}, ['Finding', 'Sets', 'Mean size', 'Drift (PSI)', 'KS p-value'].map((text) => h('th', {scope: 'col'}, text)))),
    h('tbody', {}, labels.map((l) => h('tr', {}, h('td', {}, words(l.label)), h('td', {style: {'min-width': '120px'}}, stack(l)),
      h('td.number', {}, fixed(l.sets?.mean_size)), h('td', {}, drift(l.scores)), h('td.number', {}, fixed(l.scores?.p_value, 3)))))));
}

function report(m) {
  const {window, outliers, flags, features, labels, alarms} = m;
  const uncertain = labels.filter((l) => l.sets).map((l) => l.sets.uncertain);
  const mean = uncertain.length ? uncertain.reduce((a, b) => a + b, 0) / uncertain.length : null;
  return [
    alarms.length
      ? h('div.banner', {}, alarms.map((a) => h('p.notice', {role: 'note'}, h('strong', {}, ALARMS[a.kind] ?? words(a.kind)), a.name ? ` (${words(a.name)})` : '', `: ${a.detail}`)))
      : null,
    h('div.tiles', {},
      tile(String(window.results), `results${window.from ? ` since ${moment(window.from)}` : ''}`),
      tile(String(window.with_feedback), 'with feedback'),
      tile(percent(mean), 'of sets uncertain'),
      tile(percent(outliers?.share_0_05 ?? null), 'unusual images (p < 0.05; 5 % expected)'),
      tile(alarms.length ? String(alarms.length) : 'none', 'alarms')),
    h('div.cards.wide', {},
      h('section.card', {'aria-label': 'Findings'}, h('h2', {}, 'Findings', h('span.note', {}, 'against the calibration cases')), labelTable(labels)),
      h('section.card', {'aria-label': 'Calibration'}, h('h2', {}, 'Calibration', h('span.note', {}, 'by feedback')), calibrationPlot(labels)),
      h('section.card', {'aria-label': 'Coverage'}, h('h2', {}, 'Coverage', h('span.note', {}, 'by feedback')), coverageTable(labels)),
      h('section.card', {'aria-label': 'Patient data'}, h('h2', {}, 'Patient data'),
        h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': 'Patient data'}, h('table', {},
          h('thead', {}, h('tr', {}, ['Feature', 'Used', 'Missing', 'Drift (PSI)'].map((text) => h('th', {scope: 'col'}, text)))),
          h('tbody', {}, features.map((f) => h('tr', {}, h('td', {}, words(f.id)), h('td.number', {}, f.used), h('td.number', {}, f.missing), h('td', {}, drift(f)))))))),
      Object.keys(flags).length > 0 && h('section.card', {'aria-label': 'Quality flags'}, h('h2', {}, 'Quality flags'),
        h('dl', {}, Object.entries(flags).map(([flag, n]) => [h('dt', {}, words(flag)), h('dd.number', {}, plural(n, 'study', 'studies'))]))))];
}

async function throughput() {
  const metrics = await Metrics.get().catch(() => null); // without the right to read metrics the rest is shown
  if (!metrics) return null;
  const count = (state) => String(metrics.value('medfusion_jobs', {state}) ?? '–');
  const seconds = (name) => milliseconds(1000 * (metrics.mean(name) ?? NaN) || null);
  return h('div.tiles', {}, tile(count('queued'), 'queued'), tile(count('running'), 'running'), tile(seconds('medfusion_job_run_seconds'), 'mean analysis'), tile(seconds('medfusion_job_wait_seconds'), 'mean wait'));
}

export async function quality(root) {
  const [answer, numbers] = await Promise.all([getOptional('/v1/quality'), throughput()]);
  const models = answer?.models ?? [];
  const content = h('div');
  const show = (m) => replace(content, report(m));
  const chooser = models.length > 1 && h('select.field', {'aria-label': 'Model', onchange: () => show(models[chooser.selectedIndex])}, models.map((m) => h('option', {}, `${m.model} ${m.version}`)));
  replace(root, h('div.page-head', {}, h('h1', {}, 'Quality'), chooser || h('p.muted', {}, models.length ? `${models[0].model} ${models[0].version}` : '')), numbers, content);
  if (models.length) show(models[0]);
  else replace(content, h('p.empty', {}, 'No model is served.'));
  return null;
}
