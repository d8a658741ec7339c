// The system, for who runs it: is it ready, what waits, who works, what is served, what failed, how requests are answered.

import {getJson, getOptional, request} from './api.js';
import {ago, bytes, card, h, milliseconds, moment, plural, replace, svg, table, tile} from './dom.js';
import {seconds, workersTable} from './load.js';
import {Metrics} from './metrics.js';

const REFRESH_MS = 5000, KEPT = 120, SHOWN = 12;


/* --- what is asked --- */

/* What needs a right that this reader lacks is null: the rest is shown. */
async function allowed(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.status === 403) return null;
    throw error;
  }
}

async function readiness() {
  try {
    await request('/v2/health/ready');
    return {on: true, detail: 'ready'};
  } catch (error) {
    return {on: false, detail: error.message};
  }
}

/* The bundles that are served, whether or not a job has run on them: [{name, version, digest, ready}]. */
async function served() {
  const answer = await allowed(getOptional('/v1/quality?last=1'));
  return Promise.all((answer?.models ?? []).map(async ({model, version}) => {
    const path = `/v2/models/${encodeURIComponent(model)}`;
    const [about, ready] = await Promise.all([getOptional(path), request(`${path}/ready`).then(() => true, () => false)]);
    return {name: model, version, digest: about?.digest ?? null, ready};
  }));
}

async function look() {
  const jobs = (state, limit) => getJson(`/v1/jobs?state=${state}&limit=${limit}`).then((answer) => answer.jobs);
  const [server, metrics, state, models, queued, running, failed] = await Promise.all([
    getJson('/v2'), allowed(Metrics.get()), readiness(), served(), jobs('queued', 200), jobs('running', 50), jobs('failed', 10)]);
  return {time: Date.now(), server, metrics, state, models, queued: queued.sort((a, b) => a.position - b.position), running, failed};
}

/* --- what is shown --- */

function tiles({metrics, queued, running}) {
  const jobs = (state) => metrics.value('medfusion_jobs', {state});
  const ended = (state) => metrics.value('medfusion_jobs_finished_total', {state}) ?? 0;
  if (!metrics) return [tile(String(queued.length), 'jobs queued'), tile(String(running.length), 'jobs running')];
  return [
    tile(String(jobs('queued') ?? '–'), 'jobs queued'),
    tile(String(jobs('running') ?? '–'), 'jobs running'),
    tile(String(ended('succeeded')), 'jobs done'),
    tile(String(ended('failed')), 'jobs failed'),
    tile(seconds(metrics.mean('medfusion_job_wait_seconds')), 'mean wait in the queue'),
    tile(seconds(metrics.mean('medfusion_job_run_seconds')), 'mean analysis')];
}

/* Open jobs since the page was opened: history is [{time, open}], oldest first. */
function historyChart(history) {
  if (history.length < 2) return null;
  const most = Math.max(1, ...history.map(({open}) => open));
  const [first, last] = [history[0].time, history.at(-1).time];
  const x = (time) => 34 + (480 * (time - first)) / Math.max(1, last - first), y = (open) => 86 - (76 * open) / most;
  const minutes = Math.max(1, Math.round((last - first) / 60000));
  return svg('svg', {viewBox: '0 0 520 110', class: 'chart', role: 'img', 'aria-label': `Jobs in work over ${plural(minutes, 'minute')}: now ${history.at(-1).open}, at most ${most}`},
    [0, most].map((v) => [svg('line', {class: 'grid', x1: 34, x2: 514, y1: y(v), y2: y(v)}), svg('text', {x: 28, y: y(v) + 4, 'text-anchor': 'end'}, String(v))]).flat(),
    svg('polyline', {class: 'line', points: history.map(({time, open}) => `${x(time).toFixed(1)},${y(open).toFixed(1)}`).join(' ')}),
    svg('text', {x: 34, y: 104}, moment(first)), svg('text', {x: 514, y: 104, 'text-anchor': 'end'}, 'now'));
}

function queueCard({queued, running, time}, history) {
  const row = (job) => [
    h(`span.chip${job.state === 'running' ? '.busy' : ''}`, {}, job.state === 'running' ? `running ${Math.round(100 * job.progress)} %` : `position ${job.position}`),
    job.priority, job.model ?? '–', milliseconds((job.started ? Date.parse(job.started) : time) - Date.parse(job.created)), job.attempts || '–', h('code', {}, job.id.slice(0, 8))];
  const open = [...running, ...queued];
  const oldest = queued.length && Math.max(...queued.map((job) => time - Date.parse(job.created)));
  return card('Queue', oldest ? `the oldest waits for ${milliseconds(oldest)}` : 'nothing waits',
    historyChart(history),
    !open.length && h('p.muted', {}, 'No job is open.'),
    open.length > 0 && table('Open jobs', ['State', 'Priority', 'Model', 'Waited', 'Attempt', 'Job'], open.slice(0, SHOWN).map(row)),
    open.length > SHOWN && h('p.muted.small', {}, `and ${plural(open.length - SHOWN, 'more job')}, in the `, h('a', {href: '#/'}, 'worklist')));
}

function workersCard({metrics}) {
  if (!metrics) return card('Workers', null, h('p.muted', {}, 'This needs the scope metrics.read.'));
  const workers = metrics.all('medfusion_worker_ready');
  const count = (name) => metrics.value(name) ?? 0;
  return card('Workers', plural(workers.filter((w) => w.value).length, 'worker') + ' ready',
    workers.length > 0
      ? workersTable(metrics)
      : h('p.alert', {role: 'alert'}, 'No worker is connected: jobs are kept, and wait.'),
    h('dl', {},
      h('dt', {}, 'Attempts that crashed'), h('dd.number', {}, count('medfusion_job_crashes_total')),
      h('dt', {}, 'Attempts that were lost'), h('dd.number', {}, count('medfusion_job_losses_total'))));
}

function modelsCard({models, metrics}) {
  const sum = (name, model) => metrics?.all(name).filter((s) => s.labels.model === model).reduce((n, s) => n + s.value, 0) ?? 0;
  const row = (m) => {
    const alarms = sum('medfusion_quality_alarms', m.name);
    return [m.name, m.version, h(`span.chip${m.ready ? '.absent' : '.danger'}`, {}, m.ready ? 'ready' : 'not ready'),
      metrics ? sum('medfusion_quality_results', m.name) : '–', metrics ? sum('medfusion_quality_feedback', m.name) : '–',
      alarms ? h('a', {href: '#/quality'}, plural(alarms, 'alarm')) : metrics ? 'none' : '–', h('code', {title: m.digest ?? ''}, m.digest?.slice(0, 12) ?? '–')];
  };
  return card('Models', plural(models.length, 'bundle'),
    models.length ? table('Models', ['Name', 'Version', 'State', 'Results', 'With feedback', 'Alarms', 'Bundle'], models.map(row)) : h('p.muted', {}, 'No model is served.'));
}

function failuresCard({failed}) {
  return card('Failures', failed.length ? 'the newest' : null,
    failed.length
      ? table('Failures', ['When', 'Reason', 'Attempts', 'Job'], failed.map((job) => [h('span', {title: moment(job.finished)}, ago(job.finished)), h('div.wrap', {}, job.problem?.detail ?? '–'), job.attempts, h('code', {}, job.id.slice(0, 8))]))
      : h('p.muted', {}, 'No job has failed.'));
}

function serverCard({server, metrics, state}) {
  return card('Server', null, h('dl', {},
    h('dt', {}, 'State'), h('dd', {}, h(`span.chip${state.on ? '.absent' : '.danger'}`, {title: state.detail}, state.on ? 'ready' : 'not ready')),
    h('dt', {}, 'Version'), h('dd', {}, `${server.name} ${server.version}`),
    metrics && [h('dt', {}, 'Started'), h('dd', {}, moment(metrics.value('medfusion_front_start_time_seconds') * 1000)),
      h('dt', {}, 'Connections'), h('dd.number', {}, metrics.value('medfusion_http_connections') ?? '–'),
      h('dt', {}, 'Received'), h('dd.number', {}, bytes(metrics.value('medfusion_http_received_bytes_total') ?? 0)),
      h('dt', {}, 'Jobs accepted'), h('dd.number', {}, `${metrics.value('medfusion_jobs_submitted_total') ?? 0}, and ${plural(metrics.value('medfusion_jobs_replayed_total') ?? 0, 'repeated request')}`)],
    h('dt', {}, 'Contract'), h('dd', {}, h('a', {href: '/openapi.json'}, 'openapi.json'), ' · ', h('a', {href: '/schemas/'}, 'JSON Schemas'))));
}

function requestsCard({metrics}) {
  const rows = new Map();
  const row = ({method, route}) => {
    const key = `${method} ${route}`;
    if (!rows.has(key)) rows.set(key, {key, count: 0, errors: 0, seconds: 0});
    return rows.get(key);
  };
  for (const {labels, value} of metrics.all('medfusion_http_requests_total')) {
    row(labels).count += value;
    if (Number(labels.status ?? labels.code) >= 400) row(labels).errors += value;
  }
  for (const {labels, value} of metrics.all('medfusion_http_request_seconds_sum')) row(labels).seconds += value;
  const seen = [...rows.values()].filter((r) => r.count > 0).sort((a, b) => b.count - a.count);
  const all = card('Requests', 'since the start',
    table('Requests', ['Route', 'Requests', 'Refused or failed', 'Mean time'], seen.map((r) => [h('code', {}, r.key), r.count, r.errors || '–', seconds(r.seconds / r.count)])));
  all.style.setProperty('grid-column', '1 / -1');
  return all;
}

export async function system(root) {
  const content = h('div');
  const problem = h('p.alert', {role: 'alert', hidden: true});
  const history = [];
  replace(root, h('div.page-head', {}, h('h1', {}, 'System')), problem, content);
  async function draw() {
    const seen = await look();
    history.push({time: seen.time, open: seen.queued.length + seen.running.length});
    if (history.length > KEPT) history.shift();
    const focused = content.contains(document.activeElement) ? document.activeElement.getAttribute('aria-label') : null;
    replace(content, h('div.tiles', {}, tiles(seen)), h('div.cards.wide', {},
      queueCard(seen, history), workersCard(seen), modelsCard(seen), failuresCard(seen), serverCard(seen), seen.metrics && requestsCard(seen)));
    if (focused) content.querySelector(`.scroll[aria-label="${focused}"]`)?.focus({preventScroll: true}); // who reads by keyboard stays there
    problem.hidden = true;
  }
  await draw();
  const timer = setInterval(() => !document.hidden && draw().catch((error) => {
    problem.textContent = `These figures are old: ${error.message}`;
    problem.hidden = false;
  }), REFRESH_MS);
  return () => clearInterval(timer);
}
