// Findings: probability, the prediction set and what it promises, the trend over earlier results.

import {day, h, percent, plural, svg, words} from './dom.js';

const CHIPS = {present: 'Present', absent: 'Absent', uncertain: 'Uncertain', empty: 'Neither'};
const MEANS = {
  present: 'Only “present” is compatible with the calibration cases.',
  absent: 'Only “absent” is compatible with the calibration cases.',
  uncertain: 'Both “present” and “absent” remain possible.',
  empty: 'Neither answer fits: the case is unlike the calibration cases of both kinds.',
};

/** One sentence on what the sets of this result promise. */
export function promise(prediction, alpha) {
  const share = `${Math.round(100 * (1 - alpha))} %`;
  const group = prediction.taxonomy.startsWith('label_class_') ? ` (cases of the same ${prediction.taxonomy.slice('label_class_'.length)})` : '';
  switch (prediction.guarantee) {
    case 'valid':
      return `Among patients with this finding the set holds “present” at least ${share} of the time, among those without it “absent” as often${group}.`;
    case 'insufficient_calibration':
      return `No promise: ${plural(prediction.n_cal_pos, 'calibration case')} with the finding and ${prediction.n_cal_neg} without are too few for ${share}, so the answer that cannot be excluded stays in the set.`;
    case 'shifted':
      return 'No promise: this image lies outside the population that the model was calibrated on.';
    default:
      return 'No promise: the thresholds do not belong to the network that made this result.';
  }
}

function path(points) {
  return points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join(' ');
}

/* trend: [{acquired, probability}], oldest first, the last one is this result. */
function spark(trend) {
  if (trend.length < 2) return h('span');
  const points = trend.map(({probability}, i) => [2 + (i * 58) / (trend.length - 1), 20 - 18 * probability]);
  const [x, y] = points.at(-1);
  return svg('svg', {viewBox: '0 0 64 22', class: 'spark', 'aria-hidden': 'true'}, svg('path', {d: path(points)}), svg('circle', {cx: x, cy: y, r: 2.5}));
}

function trendChart(trend, name) {
  const [width, height, left, right, top, bottom] = [520, 110, 34, 10, 8, 20];
  const times = trend.map(({acquired}) => Date.parse(acquired));
  const span = times.at(-1) - times[0];
  const at = (i) => left + (width - left - right) * (span > 0 && times.every(Number.isFinite) ? (times[i] - times[0]) / span : i / (trend.length - 1));
  const up = (p) => top + (height - top - bottom) * (1 - p);
  const points = trend.map(({probability}, i) => [at(i), up(probability)]);
  return svg('svg', {viewBox: `0 0 ${width} ${height}`, class: 'trend', role: 'img', 'aria-label': `${name} over time: ${trend.map((t) => `${day(t.acquired)} ${percent(t.probability)}`).join(', ')}`},
    [0, 0.5, 1].map((p) => [
      svg('line', {class: 'axis', x1: left, x2: width - right, y1: up(p), y2: up(p)}),
      svg('text', {x: left - 6, y: up(p) + 4, 'text-anchor': 'end'}, `${100 * p}`)]).flat(),
    svg('path', {d: path(points)}),
    points.map(([x, y], i) => svg('circle', {cx: x, cy: y, r: 4}, svg('title', {}, `${day(trend[i].acquired)}: ${percent(trend[i].probability)}`))),
    svg('text', {x: left, y: height - 4}, day(trend[0].acquired)),
    svg('text', {x: width - right, y: height - 4, 'text-anchor': 'end'}, day(trend.at(-1).acquired)));
}

function codings(prediction) {
  const system = (s) => (s.includes('snomed') ? 'SNOMED CT' : s.includes('radlex') ? 'RadLex' : s);
  return prediction.coding.map((c) => `${system(c.system)} ${c.code}`).join(' · ');
}

const pValue = (p) => (p === null ? '–' : p < 0.001 ? '< 0.001' : p.toFixed(3));

/* What moved the logit: Shapley values of the patient's data and what is lost without an image. */
function reasons(why, frames) {
  const rows = [
    ...why.features.map(({group, shapley}) => [words(group), shapley]),
    ...why.frames.map(({left_out: loss}, i) => [`image of ${day(frames[i].acquired)}`, loss])].filter(([, v]) => v !== null);
  const most = Math.max(1e-9, ...rows.map(([, v]) => Math.abs(v)));
  return rows.length > 0 && h('div', {}, h('p.muted.small', {}, 'What moved the logit'), h('dl.reasons', {}, rows.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 6).map(([name, v]) => [
    h('dt', {}, name),
    h('dd', {}, h('span.number', {}, `${v > 0 ? '+' : '−'}${Math.abs(v).toFixed(2)}`), h(`div.meter.${v > 0 ? 'present' : 'absent'}`, {'aria-hidden': 'true'}, h('div', {style: {width: `${(100 * Math.abs(v)) / most}%`}})))])));
}

function finding(p, alpha, trend, why, frames) {
  return h('details.finding', {'data-label': p.label},
    h('summary', {},
      h('span.name', {}, p.display),
      h(`span.chip.${p.state}${p.guarantee === 'valid' ? '' : '.loose'}`, {title: `${MEANS[p.state]}${p.guarantee === 'valid' ? '' : ' No promise holds.'}`}, CHIPS[p.state]),
      h(`div.meter.${p.state}`, {'aria-hidden': 'true'}, h('div', {style: {width: `${100 * (p.probability ?? 0)}%`}})),
      h('span.p', {}, percent(p.probability)),
      spark(trend)),
    h('div.more', {},
      h('p', {}, `${MEANS[p.state]} ${promise(p, alpha)}`),
      trend.length > 1 && trendChart(trend, p.display),
      why && reasons(why, frames),
      h('dl', {},
        h('dt', {}, 'Conformal p-values'), h('dd.number', {}, `present ${pValue(p.p_present)}, absent ${pValue(p.p_absent)}`),
        h('dt', {}, 'Calibration cases'), h('dd.number', {}, `${p.n_cal_pos} with, ${p.n_cal_neg} without the finding`),
        h('dt', {}, 'Method'), h('dd', {}, `${words(p.method)}, by ${words(p.taxonomy)}`),
        h('dt', {}, 'Logit'), h('dd.number', {}, p.logit === null ? '–' : p.logit.toFixed(3)),
        p.coding.length > 0 && [h('dt', {}, 'Codes'), h('dd', {}, codings(p))])));
}

/* What holds for most of the findings, once, above them. */
function general(result) {
  const {predictions, alpha, finding_set: set} = result;
  const share = `${Math.round(100 * (1 - alpha))} %`;
  const valid = predictions.filter((p) => p.guarantee === 'valid').length;
  const name = (label) => predictions.find((p) => p.label === label)?.display ?? label;
  return [
    h('p.guarantee', {}, valid > 0
      ? [`A set holds the truth at least `, h('strong', {}, share), ` of the time, for patients with and without the finding alike. This holds for ${valid === predictions.length ? 'every finding here' : `${valid} of ${predictions.length} findings`}; open one to see why. Dashed: no promise.`]
      : 'No promise holds for the sets of this result (dashed); open a finding to see why.'),
    set && valid > 0 && h('p.guarantee', {}, set.method === 'raps'
      ? ['The true finding is in this list at least ', h('strong', {}, `${Math.round(100 * (1 - set.alpha))} %`), ' of the time: ']
      : ['At most ', h('strong', {}, `${Math.round(100 * set.alpha)} %`), ' of a patient’s true findings are missed, on average, by this list: '],
    set.labels.map(name).join(', ') || 'nothing', '.'),
  ];
}

/** trends: Map of label → [{acquired, probability}] from earlier results (may be empty); explanation: medfusion.explanation/1 or null. */
export function findings(result, trends, explanation) {
  const now = result.study.frames.filter((f) => f.role === 'current').at(-1)?.acquired ?? null;
  const rank = {present: 0, uncertain: 1, empty: 2, absent: 3};
  const sorted = [...result.predictions].sort((a, b) => rank[a.state] - rank[b.state] || b.probability - a.probability);
  return h('section.card', {'aria-label': 'Findings'},
    h('h2', {}, 'Findings', h('span.note', {}, 'calibrated probability')),
    general(result),
    sorted.map((p) => finding(p, result.alpha, [...(trends.get(p.label) ?? []), {acquired: now, probability: p.probability}],
      explanation?.labels.find((l) => l.label === p.label), result.study.frames)));
}
