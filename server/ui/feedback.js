// What a reader says about a result: PUT /v1/jobs/{id}/feedback.

import {getOptional, request} from './api.js';
import {announce, h, replace} from './dom.js';

const CHOICES = [['present', 'Present'], ['absent', 'Absent'], ['unknown', 'Not judged']];

/** The card, or null where the service takes no feedback. */
export async function feedback(job, result) {
  const path = `/v1/jobs/${job}/feedback`;
  const before = await getOptional(path);
  if (!before) return null;
  const status = h('span.muted.small', {role: 'status'});
  const reader = h('input.field', {id: 'reader', size: 12, required: true, maxlength: 64, autocomplete: 'off', placeholder: 'Initials or role'});
  const given = h('div.small.muted');
  const fields = h('div.feedback');
  const rank = {present: 0, uncertain: 1, empty: 2, absent: 3};
  const sorted = [...result.predictions].sort((a, b) => rank[a.state] - rank[b.state] || b.probability - a.probability);

  const fieldset = ({label, display}) => h('fieldset', {},
    h('legend', {}, display),
    h('div.choices', {}, CHOICES.map(([value, text]) => h('label', {}, h('input', {type: 'radio', name: `truth-${label}`, value, checked: value === 'unknown'}), text))));
  replace(fields, sorted.map(fieldset));

  const tell = ({feedback: all, agreed}) => replace(given, all.length > 0 &&
    `Read by ${all.map((f) => f.reader.replace(/^.*\//, '')).join(', ')}; ${Object.keys(agreed).length} of ${result.predictions.length} findings agreed.`);
  tell(before);

  const labels = () => Object.fromEntries(sorted.map(({label}) => [label, form.elements[`truth-${label}`].value]).filter(([, value]) => value !== 'unknown'));

  const form = h('form', {onsubmit: async (event) => {
    event.preventDefault();
    const said = labels();
    if (!Object.keys(said).length) {
      status.textContent = 'Judge at least one finding.';
      return;
    }
    status.textContent = 'Saving…';
    try {
      const response = await request(path, {method: 'PUT', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({reader: reader.value.trim(), labels: said})});
      tell(await response.json());
      status.textContent = 'Saved. Thank you.';
      announce('Feedback saved');
    } catch (error) {
      status.textContent = error.message;
    }
  }},
    fields,
    h('div.saying', {},
      h('label.small.muted', {for: 'reader'}, 'Reader'), reader,
      h('button.button', {type: 'button', onclick: () => sorted.forEach(({label, state}) => {
        if (state === 'present' || state === 'absent') form.elements[`truth-${label}`].value = state;
      })}, 'Confirm the clear ones'),
      h('button.button.primary', {type: 'submit'}, 'Save'), status));
  return h('section.card', {'aria-label': 'Feedback'},
    h('details.reading', {}, h('summary', {}, h('h2', {}, 'Your reading'), h('span.note', {}, 'confirm or correct')), form), given);
}
