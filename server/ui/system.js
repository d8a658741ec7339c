// The system: is it ready, what works here, what it serves, how it answers.

import {getJson, getOptional, request} from './api.js';
import {h, milliseconds, moment, replace} from './dom.js';
import {Metrics} from './metrics.js';

const REFRESH_MS = 5000;

async function ready() {
  try {
    await request('/v2/health/ready');
    return h('span.chip.absent', {}, 'ready');
  } catch (error) {
    return h('span.chip.danger', {title: error.message}, 'not ready');
  }
}

async function models() {
  const {jobs} = await getJson('/v1/jobs?limit=200');
  const names = [...new Set(jobs.map((job) => job.model).filter(Boolean))];
  return (await Promise.all(names.map((name) => getOptional(`/v2/models/${encodeURIComponent(name)}`)))).filter(Boolean);
}

function routes(metrics) {
  const rows = new Map();
  const row = (labels) => {
    const key = `${labels.method} ${labels.route}`;
    if (!rows.has(key)) rows.set(key, {key, count: 0, errors: 0, seconds: 0});
    return rows.get(key);
  };
  for (const {labels, value} of metrics.all('medfusion_http_requests_total')) {
    row(labels).count += value;
    if (Number(labels.status ?? labels.code) >= 400) row(labels).errors += value;
  }
  for (const {labels, value} of metrics.all('medfusion_http_request_seconds_sum')) row(labels).seconds += value;
  return [...rows.values()].filter((r) => r.count > 0).sort((a, b) => b.count - a.count);
}

function table(label, head, rows) {
  return h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': label}, h('table', {},
    h('thead', {}, h('tr', {}, head.map((text) => h('th', {scope: 'col'}, text)))),
    h('tbody', {}, rows.map((cells) => h('tr', {}, cells.map((c) => h('td.number', {}, c)))))));
}

export async function system(root) {
  const content = h('div');
  replace(root, h('div.page-head', {}, h('h1', {}, 'System')), content);
  async function draw() {
    const [server, metrics, state, served] = await Promise.all([getJson('/v2'), Metrics.get(), ready(), models()]);
    const workers = metrics.all('medfusion_worker_ready');
    const started = metrics.value('medfusion_front_start_time_seconds');
    const value = (text, label) => h('section.card.tile', {}, h('div.value', {}, text), h('div.label', {}, label));
    replace(content,
      h('div.tiles', {},
        value(String(metrics.value('medfusion_jobs', {state: 'queued'}) ?? '–'), 'jobs queued'),
        value(String(metrics.value('medfusion_jobs', {state: 'running'}) ?? '–'), 'jobs running'),
        value(milliseconds(1000 * (metrics.mean('medfusion_job_wait_seconds') ?? NaN) || null), 'mean wait in the queue'),
        value(milliseconds(1000 * (metrics.mean('medfusion_job_run_seconds') ?? NaN) || null), 'mean analysis'),
        value(String(metrics.value('medfusion_job_crashes_total') ?? 0), 'crashes of workers')),
      h('div.cards', {},
        h('section.card', {'aria-label': 'Server'}, h('h2', {}, 'Server'), h('dl', {},
          h('dt', {}, 'State'), h('dd', {}, state),
          h('dt', {}, 'Version'), h('dd', {}, `${server.name} ${server.version}`),
          h('dt', {}, 'Started'), h('dd', {}, moment(started * 1000)),
          h('dt', {}, 'Workers'), h('dd', {}, workers.length ? workers.map(({labels, value: on}) => h(`span.chip${on ? '.absent' : '.uncertain'}`, {style: {'margin-right': '6px'}}, `${labels.device} ${on ? 'ready' : 'starting'}`)) : 'none'),
          h('dt', {}, 'Contract'), h('dd', {}, h('a', {href: '/openapi.json'}, 'openapi.json'), ' · ', h('a', {href: '/schemas/'}, 'JSON Schemas')))),
        h('section.card', {'aria-label': 'Models in use'}, h('h2', {}, 'Models in use'),
          served.length ? table('Models in use', ['Name', 'Version', 'Bundle'], served.map((m) => [m.name, m.versions.join(', '), h('code', {}, m.digest ?? '–')])) : h('p.muted', {}, 'No job has run yet.')),
        h('section.card', {'aria-label': 'Requests', style: {'grid-column': '1 / -1'}}, h('h2', {}, 'Requests since the start'),
          table('Requests', ['Route', 'Requests', 'Refused or failed', 'Mean time'], routes(metrics).map((r) => [h('code', {}, r.key), r.count, r.errors || '–', milliseconds((1000 * r.seconds) / r.count)])))));
  }
  await draw();
  const timer = setInterval(() => !document.hidden && draw().catch(() => {}), REFRESH_MS);
  return () => clearInterval(timer);
}
