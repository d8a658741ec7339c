// Administration: which models run, having models, certificates and keys read anew, API keys, dead letters, the audit trail. For the scope admin.

import {getJson, request} from './api.js';
import {announce, card, h, moment, plural, replace, table} from './dom.js';

const POLL_MS = 1000;

/** A button that cannot be pressed again while its work runs; an error is told beside it. */
function action(text, kind, work) {
  const button = h(`button.button.${kind}`, {type: 'button', onclick: async () => {
    button.disabled = true;
    problem.hidden = true;
    try {
      await work();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  }}, text);
  const problem = h('p.alert', {role: 'alert', hidden: true});
  return [button, problem];
}

/* --- models and reload --- */

function reloadState({state, number, started, ended, reason}) {
  if (state === 'none') return h('p.muted', {}, 'Nothing was reloaded since the start.');
  const chip = {running: '.busy', succeeded: '.absent', failed: '.danger'}[state];
  return h('div', {role: 'status'},
    h('p', {}, h(`span.chip${chip}`, {}, state), ` reload ${number}, ${moment(ended ?? started)}`),
    reason && h('p.alert', {}, reason, ' What ran before goes on.'));
}

class Models {
  constructor() {
    this.list = h('div');
    this.state = h('div');
    this.node = card('Models', null, this.list, h('h3', {}, 'Reload'),
      h('p.muted', {}, 'Reads the configuration, bundles, certificates and keys anew. New models load beside those that run; nothing that was accepted is lost.'),
      action('Reload', 'primary', () => this.reload()), this.state);
  }

  async draw() {
    const [{generation, models}, reload] = await Promise.all([getJson('/v1/admin/models'), getJson('/v1/admin/reload')]);
    replace(this.list, table('Served models', ['Name', 'Version', 'Workers', 'Signed', 'Directory', 'Bundle'], models.map((m) => [
      m.name, m.version, m.workers.length ? m.workers.map((w) => w.device).join(', ') : h('span.chip.danger', {}, 'none ready'),
      m.signed ? 'required' : 'not asked for', h('code', {}, m.directory), h('code', {title: m.digest}, m.digest.slice(0, 12))])));
    replace(this.state, reloadState(generation < reload.generation ? {...reload, state: 'running'} : reload));
    return reload.state === 'running' || generation < reload.generation;
  }

  /* Until it has ended, and until answers come from the new front, not on connections that the old one still holds. */
  async reload() {
    await request('/v1/admin/reload', {method: 'POST'});
    while (await this.draw()) await new Promise((done) => setTimeout(done, POLL_MS));
    announce(this.state.textContent);
  }
}

/* --- keys --- */

const field = (name, label, props) => h('label', {}, label, h('input.field', {name, autocomplete: 'off', spellcheck: 'false', ...props}));

class Keys {
  constructor() {
    this.list = h('div');
    this.fresh = h('div', {role: 'status'});
    this.form = h('form.admin-form', {onsubmit: (e) => e.preventDefault()},
      field('name', 'Name', {maxlength: 64}), field('scopes', 'Scopes', {value: 'jobs.read jobs.write', maxlength: 500}),
      field('tenant', 'Tenant', {value: 'default', maxlength: 64}), field('days', 'Days it is good for', {type: 'number', min: 1, max: 36500, value: '365'}));
    this.node = card('API keys', null, this.list, h('h3', {}, 'New key'), this.form, action('Make the key', 'primary', () => this.add()), this.fresh);
  }

  async draw() {
    const {keys} = await getJson('/v1/admin/keys');
    const row = (k) => [k.name, k.tenant, h('div.wrap', {}, k.scopes), h(`span.chip${k.state === 'valid' ? '.absent' : '.plain'}`, {}, k.state), k.expires ? moment(k.expires) : 'never',
      h('code', {}, k.id), k.state === 'revoked' ? '' : action('Revoke', 'quiet', () => this.revoke(k))];
    replace(this.list, table('Keys', ['Name', 'Tenant', 'Scopes', 'State', 'Good until', 'Id', ''], keys.map(row)));
  }

  async add() {
    const value = (name) => this.form.elements[name].value.trim();
    const wanted = {name: value('name'), scopes: value('scopes'), tenant: value('tenant')};
    if (value('days')) wanted.days = Number(value('days'));
    const made = await getJson('/v1/admin/keys', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(wanted)});
    replace(this.fresh, h('p', {}, 'This key is shown once: ', h('code.wrap', {id: 'new-key'}, made.key)));
    await this.draw();
  }

  async revoke(key) {
    await request(`/v1/admin/keys/${encodeURIComponent(key.id)}`, {method: 'DELETE'});
    announce(`The key ${key.name} is revoked.`);
    await this.draw();
  }
}

/* --- dead letters --- */

class DeadLetters {
  constructor() {
    this.list = h('div');
    this.node = card('Dead letters', null, h('p.muted', {}, 'Results and webhooks that their destination did not take. They go with their job, unless they are delivered again or dropped.'),
      action('Deliver all again', 'primary', () => this.end('/v1/admin/dead-letters', 'POST')), this.list);
  }

  async draw() {
    const {dead_letters: letters, next} = await getJson('/v1/admin/dead-letters');
    const at = (letter) => `/v1/admin/dead-letters/${encodeURIComponent(letter.id)}`;
    const row = (letter) => [h('div.wrap', {}, letter.destination), letter.tenant, moment(letter.failed), String(letter.attempts), h('div.wrap', {}, letter.reason),
      h('code', {title: letter.job}, letter.job.slice(0, 8)), action('Deliver again', 'quiet', () => this.end(at(letter), 'POST')),
      action('Drop', 'quiet', () => this.end(at(letter), 'DELETE'))];
    replace(this.list, letters.length ? table('Dead letters', ['Destination', 'Tenant', 'Given up', 'Attempts', 'Reason', 'Job', '', ''], letters.map(row)) : h('p.muted', {}, 'There are none.'),
      next && h('p.muted', {}, 'There are more.'));
  }

  async end(path, method) {
    const {retried, dropped} = await getJson(path, {method});
    announce(dropped === undefined ? `${plural(retried, 'delivery', 'deliveries')} made again.` : 'Dropped.');
    await this.draw();
  }
}

/* --- the audit trail --- */

function auditCard() {
  const answer = h('div', {role: 'status'});
  const check = async () => {
    const {intact, rows, removed, head, reason} = await getJson('/v1/admin/audit');
    replace(answer, intact
      ? [h('p', {}, h('span.chip.absent', {}, 'intact'), ` ${plural(rows, 'row')}, ${removed} removed before them`), h('p.small', {}, 'Keep the head elsewhere: ', h('code.wrap', {}, head))]
      : h('p.alert', {role: 'alert'}, reason));
  };
  return card('Audit trail', null, h('p.muted', {}, 'Walks the whole chain: no row was changed, added or taken out.'), action('Check', 'primary', check), answer);
}

export async function admin(root) {
  const models = new Models(), keys = new Keys(), letters = new DeadLetters();
  await models.draw();
  await letters.draw();
  await keys.draw().catch((error) => {
    if (error.status !== 404) throw error;
    keys.node = card('API keys', null, h('p.muted', {}, error.message)); // tokens of an identity provider instead
  });
  for (const part of [models, letters]) part.node.classList.add('whole');
  replace(root, h('div.page-head', {}, h('h1', {}, 'Administration')), h('div.cards.wide', {}, models.node, keys.node, auditCard(), letters.node));
}
