// How much there is to do and who does it, from GET /metrics and GET /v1/jobs: for the pages Quality and System.

import {getJson} from './api.js';
import {bytes, h, milliseconds, svg, table} from './dom.js';

const HOURS = 24, HOUR_MS = 3600000, MOST = 1000;

export const seconds = (s) => milliseconds(s === undefined ? null : 1000 * s);

/* Of a GPU: what the models took when they were loaded, of how much. */
function memory(metrics, worker) {
  const of = (kind) => metrics.value('medfusion_gpu_memory_bytes', {worker, kind});
  return of('total') ? `${bytes(of('models') ?? 0)} taken, ${bytes(of('available') ?? 0)} of ${bytes(of('total'))} free` : '–';
}

/** Each worker: its device, whether it is ready, what it has computed, its GPU's memory. */
export function workersTable(metrics) {
  const gpus = metrics.all('medfusion_gpu_memory_bytes').length > 0;
  const row = ({labels: {worker, device}, value}) => {
    const total = (name) => metrics.value(`medfusion_worker_${name}_total`, {worker}) ?? 0;
    const studies = total('studies'), batches = total('batches');
    return [worker, device, h(`span.chip${value ? '.absent' : '.uncertain'}`, {}, value ? 'ready' : 'starting'), studies,
      batches ? (studies / batches).toFixed(1) : '–', studies ? seconds(total('computing_seconds') / studies) : '–', gpus && memory(metrics, worker)].filter((cell) => cell !== false);
  };
  return table('Workers', ['Worker', 'Device', 'State', 'Studies', 'At a time', 'Computing, each', gpus && 'GPU memory when loaded'].filter(Boolean), metrics.all('medfusion_worker_ready').map(row));
}

/** Studies that were done in each of the last 24 hours, oldest first, from the newest thousand: {counts, whole}. */
export async function doneByHour() {
  const now = Date.now(), counts = Array(HOURS).fill(0);
  const from = new Date(now - (HOURS + 1) * HOUR_MS).toISOString(); // what was made before may have ended since
  const {jobs, next} = await getJson(`/v1/jobs?state=succeeded&limit=${MOST}&created_from=${encodeURIComponent(from)}`);
  for (const {finished} of jobs) {
    const ago = Math.floor((now - Date.parse(finished)) / HOUR_MS);
    if (ago >= 0 && ago < HOURS) counts[HOURS - 1 - ago]++;
  }
  return {counts, whole: !next};
}

export function hoursChart({counts}) {
  const most = Math.max(1, ...counts), left = 34, width = 480 / HOURS;
  const y = (n) => 90 - (78 * n) / most;
  return svg('svg', {viewBox: '0 0 520 112', class: 'chart', role: 'img', 'aria-label': `Studies done an hour over the last ${HOURS} hours: ${counts.at(-1)} in the last one, at most ${most}`},
    [0, most].flatMap((n) => [svg('line', {class: 'grid', x1: left, x2: 514, y1: y(n), y2: y(n)}), svg('text', {x: left - 6, y: y(n) + 4, 'text-anchor': 'end'}, String(n))]),
    counts.map((n, i) => n > 0 && svg('rect', {class: 'bar', x: left + i * width + 2, y: y(n), width: width - 4, height: 90 - y(n)}, svg('title', {}, `${n}, ${HOURS - i} to ${HOURS - i - 1} hours ago`))),
    svg('text', {x: left, y: 108}, `${HOURS} hours ago`), svg('text', {x: 514, y: 108, 'text-anchor': 'end'}, 'now'));
}
