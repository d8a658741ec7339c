// The service: requests with the caller's token, problem documents as errors. The token lives in this module's memory and
// nowhere else: closing the page forgets it.

let token = null;
let askForToken = null; // () => Promise<string|null>, set by app.js

export class Problem extends Error {
  constructor(status, detail, document) {
    super(detail);
    this.status = status;
    this.document = document;
  }
}

export function onTokenNeeded(ask) {
  askForToken = ask;
}

export function setToken(value) {
  token = value;
}

function headers(extra) {
  return token ? {...extra, Authorization: `Bearer ${token}`} : {...extra};
}

export async function problemOf(response) {
  const text = await response.text();
  try {
    const document = JSON.parse(text);
    return new Problem(response.status, document.detail ?? document.title ?? `status ${response.status}`, document);
  } catch {
    return new Problem(response.status, `The server answered with status ${response.status}.`, null);
  }
}

let asking = null; // one dialog for all requests that were refused

/** fetch() that asks for a token when one is needed (unless `ask` is false); a refusal becomes a Problem. */
export async function request(path, {accept = 'application/json', headers: extra = {}, ask = true, ...options} = {}) {
  for (;;) {
    const used = token;
    let response;
    try {
      response = await fetch(path, {...options, headers: headers({Accept: accept, ...extra}), cache: 'no-store', credentials: 'omit'});
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0, 'The server cannot be reached.', null);
    }
    if (response.ok || response.status === 304) return response;
    if (response.status !== 401 || !ask || !askForToken) throw await problemOf(response);
    if (used === token) {
      asking ??= askForToken().finally(() => (asking = null));
      token = (await asking) ?? null;
      if (!token) throw await problemOf(response);
    }
  }
}

export const getJson = async (path, options) => (await request(path, options)).json();

/** null instead of an error for what is not there (404), so that optional parts of the service may be absent. */
export async function getOptional(path, options) {
  try {
    return await getJson(path, options);
  } catch (error) {
    if (error instanceof Problem && [404, 405, 410, 422].includes(error.status)) return null;
    throw error;
  }
}

/** Uploads form data with progress (fetch has none for uploads). */
export function upload(path, form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const x = new XMLHttpRequest();
    x.open('POST', path);
    for (const [name, value] of Object.entries(headers({Accept: 'application/json', 'Idempotency-Key': randomKey()}))) x.setRequestHeader(name, value);
    x.upload.addEventListener('progress', (e) => e.lengthComputable && onProgress(e.loaded / e.total));
    x.addEventListener('load', async () => {
      const response = new Response(x.responseText, {status: x.status});
      if (response.ok) resolve(await response.json());
      else reject(await problemOf(response));
    });
    x.addEventListener('error', () => reject(new Problem(0, 'The upload was interrupted: the server cannot be reached, or refused it.', null)));
    x.addEventListener('abort', () => reject(new DOMException('cancelled', 'AbortError')));
    signal?.addEventListener('abort', () => x.abort());
    x.send(form);
  });
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** Saves what is at a path: a link would go without the token. */
export async function save(path, accept, name) {
  const response = await request(path, {accept});
  const url = URL.createObjectURL(await response.blob());
  const a = document.createElement('a');
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// --- results, remembered while the page is open (they never change; a purge is noticed by the job's state) ---

const results = new Map();
const waiting = [];
let running = 0;

function next() {
  while (running < 4 && waiting.length) {
    running++;
    const {work, resolve, reject} = waiting.shift();
    work().then(resolve, reject).finally(() => {
      running--;
      next();
    });
  }
}

function queued(work) {
  return new Promise((resolve, reject) => {
    waiting.push({work, resolve, reject});
    next();
  });
}

/** {result, frames} of a job that succeeded; frames is null where the images cannot be named. */
export function outcome(id) {
  if (!results.has(id)) {
    const both = queued(async () => {
      const [result, frames] = await Promise.all([getJson(`/v1/jobs/${id}/result`), getOptional(`/v1/jobs/${id}/frames`)]);
      return {result, frames};
    });
    both.catch(() => results.delete(id));
    results.set(id, both);
  }
  return results.get(id);
}

export function forget() {
  results.clear();
}
