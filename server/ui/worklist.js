// The worklist: the newest jobs, kept up to date, with what their results say.

import {getJson, outcome, request} from './api.js';
import {ago, day, h, milliseconds, moment, percent, personName, plural, replace} from './dom.js';
import {live} from './live.js';

const STATES = {queued: ['Queued', ''], running: ['Running', '.busy'], succeeded: ['Done', '.absent'], failed: ['Failed', '.danger'], cancelled: ['Cancelled', '']};
const FILTERS = [['all', 'All'], ['active', 'In work'], ['succeeded', 'Done'], ['failed', 'Failed']];
const ACTIVE = ['queued', 'running'];

function matches(row, view) {
  const {job} = row;
  const state = view.state === 'all' || (view.state === 'active' ? ACTIVE.includes(job.state) : view.state === 'failed' ? ['failed', 'cancelled'].includes(job.state) : job.state === view.state);
  if (!state || (view.priority && job.priority !== view.priority)) return false;
  return view.words.every((word) => row.text.includes(word));
}

/* What can be searched for. */
function textOf(row) {
  const {job, known} = row;
  const subject = known?.frames?.subject;
  const found = known?.result.predictions.filter((p) => p.state === 'present').map((p) => p.display) ?? [];
  return [job.id, job.model, job.state, job.priority, job.problem?.detail, known?.result.study.modality, known?.result.study.study_instance_uid,
    subject?.patient_id, personName(subject?.patient_name), subject?.accession_number, subject?.study_description, ...found].filter(Boolean).join(' ').toLowerCase();
}

function findingChips(result) {
  const present = result.predictions.filter((p) => p.state === 'present').sort((a, b) => b.probability - a.probability);
  const uncertain = result.predictions.filter((p) => p.state === 'uncertain').length;
  return h('div.found', {},
    present.map((p) => h(`span.chip.present${p.guarantee === 'valid' ? '' : '.loose'}`, {title: `present, probability ${percent(p.probability)}${p.guarantee === 'valid' ? '' : ', no promise holds'}`}, `${p.display} ${percent(p.probability)}`)),
    uncertain > 0 && h('span.chip.uncertain', {}, present.length ? `${uncertain} uncertain` : plural(uncertain, 'uncertain', 'uncertain')),
    !present.length && !uncertain && h('span.chip.absent', {}, 'no finding'));
}

function lastCells(job, known) {
  if (job.state === 'failed') return h('span.sub', {title: job.problem?.detail}, job.problem?.detail);
  if (job.purged) return h('span.sub', {}, 'The data was removed.');
  return known ? findingChips(known.result) : null;
}

function stateCell(job) {
  const [text, kind] = STATES[job.state];
  return [
    h(`span.chip${kind}`, {}, job.cancel_requested && ACTIVE.includes(job.state) ? 'Cancelling' : text),
    job.state === 'running' && h('div.progress', {role: 'progressbar', 'aria-label': 'Progress', 'aria-valuenow': Math.round(100 * job.progress)}, h('div', {style: {width: `${100 * job.progress}%`}})),
    job.state === 'queued' && job.position && h('div.sub', {}, `position ${job.position}`),
  ];
}

function drawRow(row, cancel) {
  const {job, known, element} = row;
  const subject = known?.frames?.subject;
  const name = personName(subject?.patient_name) || subject?.patient_id;
  const date = known?.result.study.frames.filter((f) => f.role === 'current').at(-1)?.acquired ?? subject?.study_date;
  const title = name || (known ? 'Unnamed patient' : `Job ${job.id.slice(0, 8)}`);
  const open = job.state === 'succeeded' && !job.purged;
  replace(element,
    h('td', {}, stateCell(job)),
    h('td', {},
      open ? h('a', {href: `#/study/${job.id}`}, title) : h('strong', {}, title),
      h('div.sub', {}, [subject?.patient_id !== name && subject?.patient_id, subject?.accession_number].filter(Boolean).join(' · ') || job.model)),
    h('td', {}, known && [h('div', {}, [known.result.study.modality, day(date)].filter(Boolean).join(' · ')),
      h('div.sub', {}, plural(known.result.study.frames.length, 'image'))]),
    h('td', {}, lastCells(job, known)),
    h('td', {}, h('div', {}, job.priority[0].toUpperCase() + job.priority.slice(1)), h('div.sub', {}, job.model)),
    h('td', {}, ACTIVE.includes(job.state) && !job.cancel_requested
      ? h('button.button.quiet', {type: 'button', onclick: (e) => cancel(e, job)}, 'Cancel')
      : [h('div', {title: moment(job.created)}, ago(job.created)), job.finished && job.started && h('div.sub', {}, `took ${milliseconds(new Date(job.finished) - new Date(job.started))}`)]));
  row.text = textOf(row);
}

export async function worklist(root, _, {uploader}) {
  const view = {state: 'all', priority: '', words: []};
  const rows = new Map();
  const body = h('tbody');
  const none = h('p.empty', {hidden: true});
  const summary = h('p.muted', {role: 'status'});
  const more = h('div.more', {hidden: true});
  const problem = h('p.alert', {role: 'alert', hidden: true});
  let older = null; // address of the page behind the oldest row

  const cancel = async (event, job) => {
    event.stopPropagation();
    event.target.disabled = true;
    try {
      await request(`/v1/jobs/${job.id}`, {method: 'DELETE'});
      problem.hidden = true;
    } catch (error) {
      problem.textContent = `Cancelling: ${error.message}`;
      problem.hidden = false;
    }
    live.soon();
  };

  function filter() {
    let shown = 0;
    for (const row of rows.values()) {
      row.element.hidden = !matches(row, view);
      shown += !row.element.hidden;
    }
    none.hidden = shown > 0;
    none.textContent = rows.size ? 'No job matches.' : 'No studies yet. Drop one above.';
    const count = (...states) => [...rows.values()].filter(({job}) => states.includes(job.state)).length;
    summary.textContent = rows.size ? `${count('running')} running · ${count('queued')} queued · ${count('succeeded')} done` : '';
  }

  async function enrich(row) {
    if (row.known || row.asked || row.job.state !== 'succeeded' || row.job.purged) return;
    row.asked = true;
    try {
      row.known = await outcome(row.job.id);
    } catch {
      row.asked = false; // the list goes on without; the study's own page says why
      return;
    }
    drawRow(row, cancel);
    filter();
  }

  const seen = new IntersectionObserver((entries) => {
    for (const e of entries) if (e.isIntersecting) enrich(rows.get(e.target.dataset.id));
  });

  function update(jobs) {
    for (const job of jobs) {
      let row = rows.get(job.id);
      const changed = !row || JSON.stringify(row.job) !== JSON.stringify(job);
      if (!row) {
        const element = h('tr', {'data-id': job.id, onclick: (e) => !e.target.closest('a, button') && element.querySelector('a')?.click()});
        rows.set(job.id, (row = {job, element, text: ''}));
        const after = [...body.children].find((e) => rows.get(e.dataset.id).job.created < job.created) ?? null;
        body.insertBefore(element, after);
        seen.observe(element);
      }
      row.job = job;
      if (changed) {
        drawRow(row, cancel);
        if (job.state === 'succeeded' && row.element.getBoundingClientRect().top < innerHeight) enrich(row);
      }
    }
    filter();
  }

  async function loadMore() {
    const page = await getJson(older);
    older = page.next;
    more.hidden = !older;
    update(page.jobs);
  }
  more.append(h('button.button', {type: 'button', onclick: loadMore}, 'Earlier jobs'));

  const states = FILTERS.map(([value, text]) => h('button', {type: 'button', 'aria-pressed': String(value === view.state), onclick: () => {
    view.state = value;
    states.forEach((b, i) => b.setAttribute('aria-pressed', String(FILTERS[i][0] === value)));
    filter();
  }}, text));
  const search = h('input.field', {type: 'search', placeholder: 'Search: patient, accession, finding, model …', 'aria-label': 'Search the worklist', oninput: () => {
    view.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    filter();
  }});
  const priority = h('select.field', {'aria-label': 'Priority', onchange: () => {
    view.priority = priority.value;
    filter();
  }}, [['', 'Any priority'], ['stat', 'Stat'], ['urgent', 'Urgent'], ['routine', 'Routine']].map(([value, text]) => h('option', {value}, text)));

  const uploadRoot = h('div.upload');
  replace(root,
    h('div.page-head', {}, h('h1', {}, 'Worklist'), summary),
    uploadRoot,
    h('div.filters', {}, search, h('div.segments', {role: 'group', 'aria-label': 'State'}, states), priority),
    problem,
    h('section.card.worklist', {'aria-label': 'Jobs'},
      h('table', {},
        h('thead', {}, h('tr', {}, ['State', 'Patient', 'Study', 'Findings', 'Priority', 'Received'].map((text) => h('th', {scope: 'col'}, text)))),
        body),
      none, more));
  const detach = uploader.attach(uploadRoot);
  let first = true;
  const stop = live.subscribe((jobs, next) => {
    if (first && next !== undefined) {
      older = next;
      more.hidden = !older;
      first = false;
    }
    update(jobs);
  });
  return () => {
    stop();
    detach();
    seen.disconnect();
  };
}
