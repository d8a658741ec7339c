// The study: images, findings, what they rest on, and everything that can be taken away.

import {getJson, getOptional, outcome, request, save} from './api.js';
import {day, h, icon, milliseconds, moment, personName, plural, replace, words} from './dom.js';
import {feedback} from './feedback.js';
import {live} from './live.js';
import {findings} from './findings.js';
import {heatMaps} from './overlays.js';
import {Viewer} from './viewer.js';

const STATUS = {used: '.absent', missing: '', stale: '.uncertain', implausible: '.danger'};
const STAGES = [['decode', '#7b8794'], ['segment', '#62bdf7'], ['vision', '#7fe3c4'], ['temporal', '#f0c75e'], ['ehr', '#ff9a7c'], ['fusion', '#c39bf5']];
const NAMES = {sr: 'SR', seg: 'SEG', sc: 'SC', gsps: 'GSPS', kos: 'KOS', map: 'Map', masks: 'Masks', explanation: 'Explanation'};

/* Probabilities of earlier results of the same patient by the same model: label → [{acquired, probability}], oldest first. */
async function trends(result) {
  const studies = new Map(result.study.frames.filter((f) => f.role === 'prior').map((f) => [f.study_instance_uid, f.acquired]));
  const found = new Map();
  if (!studies.size) return found;
  const {jobs} = await getJson('/v1/jobs?state=succeeded&limit=200');
  const earlier = new Map(); // the newest result of each earlier study
  await Promise.all(jobs.filter((job) => !job.purged && job.model === result.model.name).map(async (job) => {
    const {result: other} = await outcome(job.id).catch(() => ({result: null}));
    const uid = other?.study.study_instance_uid;
    if (studies.has(uid) && !(earlier.get(uid)?.created > job.created)) earlier.set(uid, {created: job.created, result: other});
  }));
  const inOrder = [...earlier].sort(([a], [b]) => (studies.get(a) ?? '').localeCompare(studies.get(b) ?? ''));
  for (const [uid, {result: other}] of inOrder)
    for (const p of other.predictions) {
      if (!found.has(p.label)) found.set(p.label, []);
      found.get(p.label).push({acquired: studies.get(uid), probability: p.probability});
    }
  return found;
}

function banner(result) {
  const {flags, ood_p_value: ood} = result.quality;
  const fallback = result.study.frames.filter((f) => f.segmentation.status === 'fallback').length;
  const notes = [];
  if (flags.length) notes.push(`The image may not be fit to be judged: ${flags.map(words).join(', ')}.`);
  if (ood !== null && ood < 0.05 && !flags.includes('out_of_distribution')) notes.push(`The case is unusual for this model (p = ${ood.toFixed(3)}).`);
  if (fallback) notes.push(`The lungs were not found in ${plural(fallback, 'image')}: the whole image was analysed.`);
  return notes.length ? h('div.banner', {}, notes.map((text) => h('p.notice', {role: 'note'}, text))) : null;
}

function ehrCard({features}) {
  const used = features.filter((f) => f.status === 'used').length;
  const value = (f) => (f.value === null ? '–' : [typeof f.value === 'number' ? Number(f.value.toPrecision(5)) : f.value, f.unit].filter(Boolean).join(' '));
  return h('section.card', {'aria-label': 'Patient data'},
    h('h2', {}, 'Patient data', h('span.note', {}, `${used} of ${features.length} used`)),
    h('div.scroll', {tabindex: 0, role: 'region', 'aria-label': 'Features'}, h('table', {},
      h('thead', {}, h('tr', {}, ['Feature', 'Value', 'Status', 'Source'].map((text) => h('th', {scope: 'col'}, text)))),
      h('tbody', {}, features.map((f) => h('tr', {},
        h('td', {}, words(f.id)), h('td.number', {}, value(f)), h('td', {}, h(`span.chip${STATUS[f.status] ?? ''}`, {}, f.status)), h('td.mono', {}, f.source ?? '–')))))));
}

function qualityCard(result) {
  const {quality} = result;
  const segmented = result.study.frames.map((f) => f.segmentation).filter((s) => s.status === 'ok' && s.iou !== null);
  return h('section.card', {'aria-label': 'Quality'},
    h('h2', {}, 'Quality'),
    h('dl', {},
      h('dt', {}, 'Flags'), h('dd', {}, quality.flags.length ? quality.flags.map((f) => h('span.chip.uncertain', {style: {'margin-right': '6px'}}, words(f))) : h('span.chip.absent', {}, 'none')),
      h('dt', {}, 'How usual'), h('dd.number', {}, quality.ood_p_value === null ? 'not available' : `p = ${quality.ood_p_value.toFixed(3)} (small = unlike the training images)`),
      h('dt', {}, 'Lungs found'), h('dd.number', {}, `${segmented.length} of ${plural(result.study.frames.length, 'image')}${segmented.length ? `, predicted IoU ${Math.min(...segmented.map((s) => s.iou)).toFixed(2)} or better` : ''}`),
      h('dt', {}, 'Not used'), h('dd', {}, quality.skipped.length ? h('ul', {style: {margin: 0, 'padding-left': '18px'}}, quality.skipped.map((s) => h('li', {}, `${s.reason} (`, h('code', {}, s.object), ')'))) : 'nothing')));
}

/* In two lines of one length where it does not fit into one. */
const digest = (hex) => h('code', {}, hex.slice(0, 32), h('wbr'), hex.slice(32));

function modelCard(result, job) {
  const {model, calibration, adaptation, timing_ms: t} = result;
  const stages = STAGES.filter(([name]) => t[name] > 0);
  const sum = stages.reduce((n, [name]) => n + t[name], 0);
  return h('section.card', {'aria-label': 'Model'},
    h('h2', {}, 'Model', h('span.note', {}, `${model.name} ${model.version}`)),
    h('dl', {},
      h('dt', {}, 'Weights'), h('dd', {}, digest(model.model_hash)),
      h('dt', {}, 'Bundle'), h('dd', {}, digest(model.digest)),
      h('dt', {}, 'Calibration'), h('dd', {}, calibration.id ? [`${calibration.patients} patients, ${day(calibration.created)} `, h('code', {}, calibration.id)] : 'none'),
      h('dt', {}, 'Adaptation'), h('dd', {}, adaptation.mode ?? 'off'),
      h('dt', {}, 'Ran on'), h('dd', {}, `${model.device}, ${model.dtype}, ${moment(job.finished)}`),
      h('dt', {}, 'Time'), h('dd', {}, milliseconds(t.total),
        sum > 0 && h('div.bars', {'aria-hidden': 'true'}, stages.map(([name, colour]) => h('div', {style: {width: `${(100 * t[name]) / sum}%`, background: colour}}))),
        h('div.legend', {}, stages.map(([name, colour]) => h('span', {}, h('i', {style: {background: colour}}), `${name} ${milliseconds(t[name])}`))))));
}

function downloads(id, artifacts) {
  const status = h('span.small.muted', {role: 'status'});
  const button = (text, path, accept, name) => h('button.button', {type: 'button', 'data-name': name, onclick: async () => {
    status.textContent = '';
    try {
      await save(path, accept, name);
    } catch (error) {
      status.textContent = `${text}: ${error.message}`;
    }
  }}, icon('download'), text);
  const result = `/v1/jobs/${id}/result`, short = id.slice(0, 8);
  const extension = {'application/dicom': 'dcm', 'application/json': 'json', 'image/png': 'png'};
  return h('section.card', {'aria-label': 'Downloads'},
    h('h2', {}, 'Downloads'),
    h('div.links', {},
      button('JSON', result, 'application/json', `result-${short}.json`),
      button('FHIR', result, 'application/fhir+json', `report-${short}.fhir.json`),
      button('Text', result, 'text/plain', `result-${short}.txt`),
      button('Report', `/v1/jobs/${id}/report`, 'text/html', `report-${short}.html`),
      (artifacts?.artifacts ?? []).filter((a) => a.media_type !== 'image/png').map((a) => button(NAMES[a.name] ?? a.name.toUpperCase(), a.href, a.media_type, `${a.name}-${short}.${extension[a.media_type] ?? 'bin'}`))),
    status);
}

function heading(id, result, subject, job) {
  const current = result.study.frames.filter((f) => f.role === 'current').at(-1);
  const priors = new Set(result.study.frames.filter((f) => f.role === 'prior').map((f) => f.study_instance_uid)).size;
  const person = [subject?.sex && {M: 'male', F: 'female'}[subject.sex], subject?.birth_date ? `born ${day(subject.birth_date)}` : subject?.age && `${parseInt(subject.age, 10)} years`].filter(Boolean).join(', ');
  const facts = [subject?.patient_id && `ID ${subject.patient_id}`, person, subject?.accession_number && `accession ${subject.accession_number}`,
    `${result.study.modality ?? ''} ${day(current?.acquired ?? subject?.study_date)}`.trim(), subject?.study_description, priors && plural(priors, 'earlier study', 'earlier studies')];
  const remove = h('button.button.quiet', {type: 'button', onclick: () => confirmPurge(id)}, 'Remove data');
  return h('div.study-head', {},
    h('a.icon-button', {href: '#/', 'aria-label': 'Back to the worklist', title: 'Back to the worklist'}, icon('back')),
    h('div.who', {}, h('h1', {}, personName(subject?.patient_name) || subject?.patient_id || 'Unnamed patient'), h('p', {}, facts.filter(Boolean).join(' · '))),
    h('div.end', {}, job.priority !== 'routine' && h('span.chip.danger', {}, job.priority), remove));
}

function confirmPurge(id) {
  const status = h('p.small', {role: 'alert'});
  const dialog = h('dialog', {'aria-labelledby': 'purge-title'},
    h('h2', {id: 'purge-title'}, 'Remove images and result?'),
    h('p', {}, 'The images, the patient’s data and the result of this job are deleted on the server. This cannot be undone.'), status,
    h('div.actions', {},
      h('button.button', {type: 'button', onclick: () => dialog.close()}, 'Keep'),
      h('button.button.primary', {type: 'button', onclick: async () => {
        try {
          await request(`/v1/jobs/${id}/data`, {method: 'DELETE'});
          dialog.close();
          location.hash = '#/';
        } catch (error) {
          status.textContent = error.message;
        }
      }}, 'Remove')));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

export async function study(root, id) {
  const job = await getJson(`/v1/jobs/${id}`);
  if (job.state !== 'succeeded') {
    replace(root, h('div.page-head', {}, h('h1', {}, `Job ${id.slice(0, 8)}`)), h('p.notice', {role: 'status'}, job.problem?.detail ?? `The job is ${job.state}.`), h('p', {}, h('a', {href: '#/'}, 'To the worklist')));
    const ended = ({id: other, state}) => other === id && !['queued', 'running'].includes(state) && state !== job.state;
    return live.subscribe((jobs) => jobs.some(ended) && dispatchEvent(new Event('hashchange'))); // shown anew when it has
  }
  const {result, frames} = await outcome(id);
  const artifacts = await getOptional(`/v1/jobs/${id}/artifacts`);
  const named = (name) => artifacts?.artifacts.some((a) => a.name === name) && getJson(`/v1/jobs/${id}/artifacts/${name}`);
  const [masks, explanation, earlier] = await Promise.all([named('masks'), named('explanation'), trends(result)]);
  const own = await feedback(id, result);
  const nameOf = (label) => result.predictions.find((p) => p.label === label)?.display ?? label;
  const viewer = frames ? new Viewer(frames.frames, result, masks || null, explanation ? heatMaps(explanation, nameOf) : null) : null;
  const subject = frames?.subject;
  document.title = `${personName(subject?.patient_name) || subject?.patient_id || 'Study'} · MedFusion`;
  replace(root,
    heading(id, result, subject, job),
    banner(result),
    h('div.study', {},
      h('div.images', {}, viewer?.element ?? h('p.empty', {}, 'There are no images to show.')),
      h('div.panel', {}, findings(result, earlier, explanation || null), own, downloads(id, artifacts), ehrCard(result.ehr), qualityCard(result), modelCard(result, job))));
  viewer?.draw();
  return () => viewer?.close();
}
