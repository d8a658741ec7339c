// What happens to jobs, as it happens: the server tells of each change (GET /v1/events), and a listing of the newest jobs says what it does
// not: places in the queue, and what happened before. Where events do not come (too many readers, a proxy that holds them back) there is
// the listing alone, more often.

import {getJson} from './api.js';
import {events} from './events.js';

const BUSY_MS = 1000, IDLE_MS = 4000, HIDDEN_MS = 30000; // between two listings without events
const QUEUE_MS = 3000, FOLLOWED_MS = 60000; // and with them: while jobs wait, and otherwise
const RETRY_MS = 500, RETRY_MOST_MS = 60000, PAGE = 100;

class Live {
  #listeners = new Set();
  #states = new Set();
  #timer = null;
  #on = null;
  #ask = true; // whether a token may be asked for: once, not at every look
  #stream = null; // AbortController of the events that are followed, or asked for
  #followed = false; // they come
  #last = null; // id of the last one
  #retry = {wait: RETRY_MS, at: 0};

  /** Calls back with jobs (medfusion.job/1) now and whenever some changed; the newest come with the address of the page behind them,
   * single ones without. Returns how to stop. */
  subscribe(callback) {
    this.#listeners.add(callback);
    this.soon();
    return () => this.#listeners.delete(callback);
  }

  onState(callback) {
    this.#states.add(callback);
  }

  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), 0);
  }

  /** Another reader, maybe: nothing goes on with the token of before. */
  askAgain() {
    this.#ask = true;
    this.stop();
    this.#last = null;
    this.soon();
  }

  stop() {
    this.#stream?.abort();
  }

  #tell(on) {
    if (on === this.#on) return;
    this.#on = on;
    for (const callback of this.#states) callback(on);
  }

  #pass(jobs, next) {
    for (const callback of this.#listeners) callback(jobs, next);
  }

  async #look() {
    let busy = false, queue = false;
    try {
      const {jobs, next} = await getJson(`/v1/jobs?limit=${PAGE}`, {ask: this.#ask});
      queue = jobs.some((job) => job.state === 'queued');
      busy = queue || jobs.some((job) => job.state === 'running');
      this.#tell(true);
      this.#pass(jobs, next);
      if (!document.hidden && !this.#stream && Date.now() >= this.#retry.at) this.#follow();
    } catch (error) {
      if (error.status === 401) this.#ask = false;
      this.#tell(error.status > 0 && error.status !== 503 && error.status !== 401);
    }
    clearTimeout(this.#timer);
    const wait = document.hidden ? HIDDEN_MS : this.#followed ? (queue ? QUEUE_MS : FOLLOWED_MS) : busy ? BUSY_MS : IDLE_MS;
    this.#timer = setTimeout(() => this.#look(), wait);
  }

  async #follow() {
    const stream = (this.#stream = new AbortController());
    try {
      for await (const {event, id, data} of events('/v1/events', {last: this.#last, signal: stream.signal})) {
        if (event === 'begin') {
          this.#followed = true;
          this.#retry.wait = RETRY_MS;
          if (data.lost || this.#last === null) this.soon(); // what changed before this is not told
        } else if (event === 'job') {
          this.#pass([data], undefined);
          if (data.state === 'queued') this.soon(); // its place, and those behind it
        }
        this.#last = id;
      }
    } catch { // the listing goes on; it tells when the server is away
    }
    this.#stream = null;
    this.#followed = false;
    this.#retry = {wait: Math.min(2 * this.#retry.wait, RETRY_MOST_MS), at: Date.now() + (stream.signal.aborted ? 0 : this.#retry.wait)};
    this.soon();
  }
}

export const live = new Live();
/* A page that nobody sees holds no stream: the server and the browser have few. */
document.addEventListener('visibilitychange', () => (document.hidden ? live.stop() : live.soon()));
