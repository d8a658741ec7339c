// Quality: how the newest results of each model look beside its calibration, and what feedback says about its promises
// (GET /v1/quality, medfusion.quality/1).

import {getOptional} from './api.js';
import {card, h, moment, percent, plural, replace, svg, table, tile, words} from './dom.js';
import {doneByHour, hoursChart, seconds, workersTable} from './load.js';
import {Metrics} from './metrics.js';

const ALARMS = {score_drift: 'Scores', feature_drift: 'Patient data', out_of_distribution: 'Unusual images', coverage: 'Coverage', calibration: 'Calibration'};
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

const NAME_HEIGHT = 17; // names at the ends of lines stay apart
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

/* The reliability diagram over all findings, with Wilson intervals, and each finding's mean as a ring. */
function calibrationPlot(curve, labels) {
  const judged = labels.filter((l) => l.calibration);
  if (!curve.length) return h('p.empty', {}, 'No feedback yet. Readers give it in a study.');
  const said = (c) => `predicted ${percent(c.predicted)}, observed ${percent(c.observed)} of ${c.n}`;
  return [
    axes(`Calibration over all findings: ${curve.map(said).join('; ')}`, 'predicted probability, %', 'observed share, %',
      [svg('line', {class: 'ideal', x1: X(0), y1: Y(0), x2: X(1), y2: Y(1)}),
        judged.map(({label, calibration: c}) => svg('circle', {class: 'ring', cx: X(c.predicted), cy: Y(c.observed), r: 4}, svg('title', {}, `${words(label)}: ${said(c)}`))),
        svg('polyline', {class: 'line', points: curve.map((c) => `${X(c.predicted).toFixed(1)},${Y(c.observed).toFixed(1)}`).join(' ')}),
        curve.map((c) => [
          svg('line', {class: 'line', x1: X(c.predicted), x2: X(c.predicted), y1: Y(c.low), y2: Y(c.high)}),
          svg('circle', {class: 'dot', cx: X(c.predicted), cy: Y(c.observed), r: 4}, svg('title', {}, said(c)))]).flat()]),
    h('p.muted.small', {}, `Dots: all findings together, in ${plural(curve.length, 'bin')} of equal size, with 95 % intervals. Rings: the mean of each finding.`)];
}

/* Over all findings: how often sets at each α would have held the truth, beside what 1 − α promises. */
function alphaPlot(points) {
  const classes = ['present', 'absent'].map((side) => ({side, known: points.filter((p) => p[side] !== null)})).filter(({known}) => known.length);
  if (!classes.length) return null;
  const told = ({side, known}) => `${side}: ${known.map((p) => `${percent(p[side])} at ${percent(p.alpha)}`).join(', ')}`;
  const names = classes.map(({side, known}) => ({side, x: X(known.at(-1).alpha) + 6, y: Y(known.at(-1)[side]) + 4})).sort((a, b) => a.y - b.y);
  if (names.length === 2 && names[1].y - names[0].y < NAME_HEIGHT) {
    const middle = (names[0].y + names[1].y) / 2;
    names.forEach((name, i) => (name.y = middle + (i - 0.5) * NAME_HEIGHT));
  }
  return axes(`Coverage against alpha. ${classes.map(told).join('; ')}`, 'α, %', 'sets that hold the truth, %',
    [svg('line', {class: 'ideal', x1: X(0), y1: Y(1), x2: X(1), y2: Y(0)}),
      classes.map(({side, known}) => svg('polyline', {class: `line ${side}`, points: known.map((p) => `${X(p.alpha).toFixed(1)},${Y(p[side]).toFixed(1)}`).join(' ')})),
      names.map(({side, x, y}) => svg('text', {x, y}, side))]);
}

/* Coverage of each finding and class against what was promised (1 − α), with Clopper–Pearson intervals. */
function coverageTable(labels) {
  const rows = labels.flatMap(({label, coverage}) => ['present', 'absent'].map((side) => ({label, side, ...coverage[side]}))).filter((r) => r.n > 0);
  if (!rows.length) return h('p.empty', {}, 'No feedback yet: what the sets hold is known once readers say what is true.');
  return table('Coverage', ['Finding', 'Truth', 'Covered', '95 % interval', 'Promised'], rows.map((r) => [
    words(r.label), r.side, `${r.covered} of ${r.n}`, `${percent(r.low)} – ${percent(r.high)}`,
    r.promised === null ? '–' : h(`span.chip${r.high < r.promised ? '.danger' : '.absent'}`, {}, percent(r.promised))]));
}

function labelTable(labels) {
  const colours = [['present', 'present'], ['uncertain', 'uncertain'], ['absent', 'absent'], ['none', 'neither']];
  return [table('Findings', ['Finding', 'Sets', 'Mean size', 'Drift (PSI)', 'KS p-value'], labels.map((l) => [
    words(l.label), stack(l), fixed(l.sets?.mean_size), drift(l.scores), fixed(l.scores?.p_value, 3)])),
    h('p.legend', {}, 'Sets that say ', colours.map(([colour, text]) => h('span', {}, h('i', {style: {background: `var(--${colour})`}}), text)))];
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
      tile(alarms.length ? String(alarms.length) : 'none', alarms.length === 1 ? 'alarm' : 'alarms')),
    h('div.cards.wide', {},
      card('Calibration', 'by feedback', calibrationPlot(m.calibration_curve, labels)),
      card('Coverage against α', 'by feedback', alphaPlot(m.coverage_by_alpha) ?? h('p.empty', {}, 'No feedback yet.')),
      card('Findings', 'against the calibration cases', labelTable(labels)),
      card('Coverage', 'of the sets, by feedback', coverageTable(labels)),
      card('Patient data', 'against the calibration cases', table('Patient data', ['Feature', 'Used', 'Missing', 'Drift (PSI)'], features.map((f) => [words(f.id), f.used, f.missing, drift(f)]))),
      Object.keys(flags).length > 0 && card('Quality flags', null, h('dl', {}, Object.entries(flags).map(([flag, n]) => [h('dt', {}, words(flag)), h('dd.number', {}, plural(n, 'study', 'studies'))]))))];
}

/* Queue, throughput and devices; without the right to read metrics only what jobs tell. */
async function work() {
  const [metrics, done] = await Promise.all([Metrics.get().catch(() => null), doneByHour().catch(() => null)]);
  const count = (state) => String(metrics.value('medfusion_jobs', {state}) ?? '–');
  const day = done?.counts.reduce((a, b) => a + b, 0);
  return h('div', {},
    h('div.tiles', {},
      metrics && [tile(count('queued'), 'queued'), tile(count('running'), 'running')],
      done && tile(`${done.whole ? '' : '≥ '}${day}`, 'done in 24 hours'),
      metrics && [tile(seconds(metrics.mean('medfusion_job_run_seconds')), 'mean analysis'), tile(seconds(metrics.mean('medfusion_job_wait_seconds')), 'mean wait')]),
    h('div.cards.wide', {},
      done && card('Throughput', `studies an hour${done.whole ? '' : ', of the newest 1,000'}`, hoursChart(done)),
      metrics && card('Devices', null, workersTable(metrics))));
}

export async function quality(root) {
  const [answer, numbers] = await Promise.all([getOptional('/v1/quality'), work()]);
  const models = answer?.models ?? [];
  const content = h('div');
  const show = (m) => replace(content, report(m));
  const chooser = models.length > 1 && h('select.field', {'aria-label': 'Model', onchange: () => show(models[chooser.selectedIndex])}, models.map((m) => h('option', {}, `${m.model} ${m.version}`)));
  replace(root, h('div.page-head', {}, h('h1', {}, 'Quality'), chooser || h('p.muted', {}, models.length ? `${models[0].model} ${models[0].version}` : '')), content, h('h2.part', {}, 'Work'), numbers);
  if (models.length) show(models[0]);
  else replace(content, h('p.empty', {}, 'No model is served.'));
  return null;
}
