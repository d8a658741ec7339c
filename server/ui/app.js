// The page: which view is shown, the theme, signing in, keys that work everywhere.

import {onTokenNeeded, setToken, forget} from './api.js';
import {announce, h, icon, replace} from './dom.js';
import {live} from './live.js';
import {Uploader} from './upload.js';
import {worklist} from './worklist.js';
import {study} from './study.js';
import {quality} from './quality.js';
import {system} from './system.js';
import {admin} from './admin.js';

const main = document.getElementById('main');
const uploader = new Uploader();

/* A page is a function (root, parameter, context) that may return a clean-up function. */
const PAGES = [
  [/^#?\/?$/, 'worklist', 'Worklist', worklist],
  [/^#\/study\/([0-9a-f]{32})$/, 'worklist', 'Study', study],
  [/^#\/quality$/, 'quality', 'Quality', quality],
  [/^#\/system$/, 'system', 'System', system],
  [/^#\/admin$/, 'admin', 'Administration', admin],
];

let leave = null;
let shown = 0;

async function show() {
  const hash = location.hash;
  const page = PAGES.find(([pattern]) => pattern.test(hash));
  leave?.();
  leave = null;
  const turn = ++shown;
  for (const a of document.querySelectorAll('nav a')) {
    if (page && a.dataset.page === page[1]) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  document.title = `${page?.[2] ?? 'Not found'} · MedFusion`;
  const root = h('div');
  replace(main, root);
  if (!page) {
    replace(root, h('h1', {}, 'There is no such page'), h('p', {}, h('a', {href: '#/'}, 'To the worklist')));
    return;
  }
  try {
    const clean = await page[3](root, page[0].exec(hash)[1], {uploader});
    if (turn === shown) leave = clean;
    else clean?.();
  } catch (error) {
    if (turn !== shown) return;
    replace(root, h('h1', {}, page[2]), h('p.alert', {role: 'alert'}, error.message), h('p', {}, h('a', {href: '#/'}, 'To the worklist')));
  }
}

window.addEventListener('hashchange', () => {
  main.focus({preventScroll: true});
  scrollTo(0, 0);
  show();
});

// --- theme: the one thing that the browser keeps ---

const themeButton = document.getElementById('theme');

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  themeButton.setAttribute('aria-label', name === 'dark' ? 'Light theme' : 'Dark theme');
  replace(themeButton, icon(name === 'dark' ? 'sun' : 'moon'));
  dispatchEvent(new Event('theme'));
}

themeButton.addEventListener('click', () => {
  const name = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  localStorage.setItem('theme', name);
  setTheme(name);
});
setTheme(localStorage.getItem('theme') === 'light' ? 'light' : 'dark');

// --- signing in ---

const sign = document.getElementById('sign');

onTokenNeeded(
  () =>
    new Promise((resolve) => {
      const field = h('input.field', {type: 'password', autocomplete: 'off', spellcheck: 'false', id: 'token', required: true});
      const dialog = h('dialog', {'aria-labelledby': 'token-title'},
        h('form', {method: 'dialog'},
          h('h2', {id: 'token-title'}, 'Sign in'),
          h('label', {for: 'token'}, 'API key or access token of this service'),
          field,
          h('p.small.muted', {}, 'It is kept in memory and forgotten when the page is closed.'),
          h('div.actions', {},
            h('button.button.quiet', {type: 'button', onclick: () => dialog.close('')}, 'Cancel'),
            h('button.button.primary', {type: 'submit', value: 'in'}, 'Sign in'))));
      dialog.addEventListener('close', () => {
        dialog.remove();
        const token = dialog.returnValue === 'in' ? field.value.trim() : '';
        sign.hidden = false;
        sign.textContent = token ? 'Sign out' : 'Sign in';
        resolve(token || null);
      });
      document.body.append(dialog);
      dialog.showModal();
    }),
);

sign.addEventListener('click', () => {
  setToken(null);
  forget();
  sign.hidden = true;
  live.askAgain();
  show();
});

// --- keys ---

const KEYS = [
  ['?', 'This list'],
  ['/', 'Search the worklist'],
  ['g w, g q, g s, g a', 'Worklist, quality, system, administration'],
  ['Page Up, Page Down', 'Earlier, later images (in an image)'],
  ['+ and −', 'Zoom (in an image)'],
  ['Arrow keys', 'Move (in an image)'],
  ['Shift + arrow keys', 'Window: left and right width, up and down level'],
  ['m, h, b', 'Lung mask, heat map, analysed region on or off'],
  ['i', 'Invert'],
  ['0', 'Reset the view'],
];

function showKeys() {
  const dialog = h('dialog', {'aria-labelledby': 'keys-title'},
    h('form', {method: 'dialog'},
      h('h2', {id: 'keys-title'}, 'Keyboard and mouse'),
      h('table', {}, h('tbody', {}, KEYS.map(([key, what]) => h('tr', {}, h('td', {}, h('kbd', {}, key)), h('td', {}, what))))),
      h('p.small.muted', {}, 'In an image: drag to set the window, wheel to zoom, right button or Shift and drag to move, double click to reset.'),
      h('div.actions', {}, h('button.button.primary', {type: 'submit'}, 'Close'))));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.getElementById('keys').addEventListener('click', showKeys);

let awaited = false;
document.addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, textarea, select, dialog')) return;
  if (awaited) {
    const to = {w: '#/', q: '#/quality', s: '#/system', a: '#/admin'}[e.key];
    awaited = false;
    if (to) location.hash = to;
  } else if (e.key === 'g') awaited = true;
  else if (e.key === '?') showKeys();
  else if (e.key === '/') {
    const search = document.querySelector('input[type="search"]');
    if (search) {
      e.preventDefault();
      search.focus();
    }
  }
});

// --- live ---

const liveStatus = document.getElementById('live');
live.onState((on) => {
  liveStatus.dataset.state = on ? 'on' : 'off';
  const text = on ? 'Live' : 'No connection';
  if (liveStatus.textContent === text) return;
  if (!on) announce('The connection to the server is lost.');
  liveStatus.textContent = text;
  liveStatus.title = on ? 'The worklist follows the server' : 'Trying to reach the server again';
});

live.soon();
show();
