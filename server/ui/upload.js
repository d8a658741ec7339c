// Uploading a study: files dropped anywhere or chosen, what they are, options, progress, then the result.

import {Problem, getJson, getOptional, upload} from './api.js';
import {announce, bytes, h, icon, milliseconds, plural, replace} from './dom.js';
import {live} from './live.js';

const KINDS = {dicom: 'DICOM', zip: 'Zip', ehr: 'FHIR', other: 'Not usable'};

/* What a file is, by its first bytes. */
async function kindOf(file) {
  const head = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  const at = (offset, text) => [...text].every((c, i) => head[offset + i] === c.charCodeAt(0));
  if (at(128, 'DICM')) return 'dicom';
  if (at(0, 'PK\x03\x04')) return 'zip';
  if (/^[\s\uFEFF]*\{/.test(new TextDecoder().decode(head))) return 'ehr';
  return /\.(dcm|ima)$/i.test(file.name) ? 'dicom' : 'other';
}

/* All files of a drop, folders walked to the end. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const files = [];
  async function walk(entry) {
    if (entry.isFile) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const child of some) await walk(child);
      }
    }
  }
  for (const entry of entries) await walk(entry);
  return files;
}

/* Names of the models that are served; null where that may not be known, and the service chooses. */
async function served() {
  const answer = await getOptional('/v1/quality?last=1', {ask: false}).catch(() => null);
  return answer?.models.map(({model}) => model) ?? null;
}

/** One for the whole page: what was chosen survives a look at another page. */
export class Uploader {
  files = []; // {file, kind}
  options = {priority: 'routine', alpha: '0.1', model: '', priors: true, explain: false};
  #models = null; // names of those that are served, once they are known
  #root = null;
  #aborter = null;
  #busy = false;

  constructor() {
    let depth = 0;
    const hasFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes('Files');
    addEventListener('dragenter', (e) => hasFiles(e) && depth++ === 0 && document.body.classList.add('dragging'));
    addEventListener('dragleave', (e) => hasFiles(e) && --depth === 0 && document.body.classList.remove('dragging'));
    addEventListener('dragover', (e) => hasFiles(e) && e.preventDefault());
    addEventListener('drop', async (e) => {
      if (!hasFiles(e)) return;
      e.preventDefault();
      depth = 0;
      document.body.classList.remove('dragging');
      const files = await droppedFiles(e.dataTransfer);
      if (location.hash.length > 2) location.hash = '#/';
      await this.add(files);
    });
  }

  attach(root) {
    this.#root = root;
    if (!this.#busy) this.#draw();
    return () => (this.#root = null);
  }

  async add(files) {
    if (this.#busy) return;
    for (const file of files) {
      const same = this.files.some(({file: f}) => f.name === file.name && f.size === file.size && f.lastModified === file.lastModified);
      if (!same) this.files.push({file, kind: await kindOf(file)});
    }
    this.#models ??= await served();
    announce(`${plural(this.files.length, 'file')} chosen`);
    this.#draw();
  }

  #show(...children) {
    if (this.#root) replace(this.#root, ...children);
  }

  #chooser(label, attributes) {
    const input = h('input', {type: 'file', multiple: true, hidden: true, ...attributes, onchange: () => this.add([...input.files])});
    return [input, h('button.button', {type: 'button', onclick: () => input.click()}, label)];
  }

  #draw(problem) {
    if (!this.files.length) {
      this.#show(
        problem && h('p.alert', {role: 'alert', style: {'margin-bottom': '12px'}}, problem),
        h('div.drop', {},
          icon('upload'),
          h('strong', {}, 'Drop a study here'),
          h('span', {}, 'DICOM files, a folder or a zip, with earlier studies of the same patient as its history, and a FHIR Bundle with the patient’s data'),
          h('div.choose', {}, this.#chooser('Choose files', {'aria-label': 'Files of a study', id: 'files'}), this.#chooser('Choose a folder', {webkitdirectory: true, 'aria-label': 'Folder of a study'}))));
      return;
    }
    const images = this.files.filter(({kind}) => kind === 'dicom' || kind === 'zip');
    const ehr = this.files.filter(({kind}) => kind === 'ehr');
    const reason = !images.length ? 'Add at least one DICOM file or zip.' : ehr.length > 1 ? 'Only one FHIR Bundle can go with a study.' : null;
    this.#show(
      problem && h('p.alert', {role: 'alert', style: {'margin-bottom': '12px'}}, problem),
      h('section.card', {'aria-label': 'New study'},
        h('h2', {}, 'New study', h('span.note', {}, `${plural(this.files.length, 'file')}, ${bytes(this.files.reduce((n, {file}) => n + file.size, 0))}`)),
        h('ul.files', {}, this.files.map((entry, i) => h('li', {},
          h(`span.chip.plain${entry.kind === 'other' ? '.danger' : ''}`, {}, KINDS[entry.kind]),
          h('span.name', {title: entry.file.name}, entry.file.name),
          h('span.muted.number', {}, bytes(entry.file.size)),
          h('button.icon-button', {type: 'button', 'aria-label': `Remove ${entry.file.name}`, onclick: () => this.#remove(i)}, icon('close'))))),
        this.#optionFields(reason)));
  }

  #optionFields(reason) {
    const set = (name) => (e) => (this.options[name] = e.target.type === 'checkbox' ? e.target.checked : e.target.value);
    const select = (name, label, choices) => h('label', {}, label,
      h('select.field', {onchange: set(name), name}, choices.map(([value, text]) => h('option', {value, selected: value === this.options[name]}, text))));
    const check = (name, label, text) => h('label', {}, label,
      h('span.check', {}, h('input', {type: 'checkbox', name, checked: this.options[name], onchange: set(name)}), text));
    return h('div.options', {},
      this.#models?.length > 1 && select('model', 'Model', [['', 'The one for the study'], ...this.#models.map((name) => [name, name])]),
      select('priority', 'Priority', [['routine', 'Routine'], ['urgent', 'Urgent'], ['stat', 'Stat']]),
      select('alpha', 'Sets hold the truth', [['0.05', '95 % of the time'], ['0.1', '90 % of the time'], ['0.2', '80 % of the time']]),
      check('priors', 'Earlier studies', 'use as history'),
      check('explain', 'Explanation', 'heat maps (takes much longer)'),
      h('div.end', {},
        reason && h('span.muted.small', {style: {'align-self': 'center'}}, reason),
        this.#chooser('Add files', {'aria-label': 'More files'}),
        h('button.button.quiet', {type: 'button', onclick: () => this.#clear()}, 'Clear'),
        h('button.button.primary', {type: 'button', id: 'analyse', disabled: Boolean(reason), onclick: () => this.#send()}, 'Analyse')));
  }

  #remove(i) {
    this.files.splice(i, 1);
    this.#draw();
  }

  #clear() {
    this.files = [];
    this.#draw();
  }

  #form() {
    const form = new FormData();
    for (const {file, kind} of this.files) if (kind === 'dicom' || kind === 'zip') form.append('dicom', file, file.name);
    for (const {file, kind} of this.files) if (kind === 'ehr') form.append('ehr', new Blob([file], {type: 'application/fhir+json'}), file.name);
    const options = {alpha: Number(this.options.alpha), priors: this.options.priors, priority: this.options.priority};
    if (this.options.model) options.model = this.options.model;
    if (this.options.explain) options.explain = true;
    form.append('options', new Blob([JSON.stringify(options)], {type: 'application/json'}));
    return form;
  }

  async #send() {
    this.#busy = true;
    this.#aborter = new AbortController();
    try {
      const job = await upload('/v1/jobs', this.#form(), (share) => this.#stage(0, share, `${Math.round(share * 100)} %`), this.#aborter.signal);
      live.soon();
      const ended = await this.#follow(job);
      this.#busy = false;
      if (ended.state !== 'succeeded') throw new Problem(0, ended.problem?.detail ?? `The job was ${ended.state}.`, null);
      const watching = this.#root !== null;
      this.files = [];
      announce('The result is ready.');
      if (watching) location.hash = `#/study/${job.id}`;
      else this.#draw();
    } catch (error) {
      this.#busy = false;
      this.#draw(error.name === 'AbortError' ? 'The upload was cancelled.' : error.message);
    }
  }

  /* Polls more slowly the longer it takes. */
  async #follow(job) {
    for (let wait = 80; ; wait = Math.min(wait * 1.3, 1500)) {
      if (['succeeded', 'failed', 'cancelled'].includes(job.state)) return job;
      const queued = job.state === 'queued';
      const eta = job.eta_s ? `about ${milliseconds(1000 * job.eta_s)} left` : '';
      this.#stage(queued ? 1 : 2, queued ? 0 : job.progress, queued ? (job.position ? `position ${job.position}` : '') : eta);
      await new Promise((resolve) => setTimeout(resolve, wait));
      job = await getJson(`/v1/jobs/${job.id}`);
    }
  }

  #stage(at, share, note) {
    const steps = ['Upload', 'Queue', 'Analysis'];
    const total = at === 0 ? share * 0.4 : at === 1 ? 0.4 : 0.45 + share * 0.55;
    this.#show(h('section.card', {'aria-label': 'Progress'},
      h('div.stage', {},
        h('ol.steps', {}, steps.map((name, i) => h(`li${i < at ? '.done' : ''}`, {'aria-current': i === at && 'step'}, i === at && note ? `${name}: ${note}` : name))),
        h('div.progress', {role: 'progressbar', 'aria-valuenow': Math.round(total * 100), 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-label': 'Progress of the study'},
          h('div', {style: {width: `${total * 100}%`}})),
        at === 0 && h('div', {style: {'text-align': 'center'}}, h('button.button.quiet', {type: 'button', onclick: () => this.#aborter.abort()}, 'Cancel')))));
  }
}
