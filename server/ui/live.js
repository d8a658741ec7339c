// What happens to jobs, as it happens: one look at the newest jobs for all who listen, more often while something runs.

import {getJson} from './api.js';

const BUSY_MS = 1000, IDLE_MS = 4000, HIDDEN_MS = 30000, PAGE = 100;

class Live {
  #listeners = new Set();
  #states = new Set();
  #timer = null;
  #on = null;
  #ask = true; // whether a token may be asked for: once, not at every look

  /** Calls back with the newest jobs (medfusion.job/1) now and whenever they have been looked at; returns how to stop. */
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

  askAgain() {
    this.#ask = true;
    this.soon();
  }

  #tell(on) {
    if (on === this.#on) return;
    this.#on = on;
    for (const callback of this.#states) callback(on);
  }

  async #look() {
    let busy = false;
    try {
      const {jobs, next} = await getJson(`/v1/jobs?limit=${PAGE}`, {ask: this.#ask});
      busy = jobs.some((job) => job.state === 'queued' || job.state === 'running');
      this.#tell(true);
      for (const callback of this.#listeners) callback(jobs, next);
    } catch (error) {
      if (error.status === 401) this.#ask = false;
      this.#tell(error.status > 0 && error.status !== 503 && error.status !== 401);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), document.hidden ? HIDDEN_MS : busy ? BUSY_MS : IDLE_MS);
  }
}

export const live = new Live();
document.addEventListener('visibilitychange', () => !document.hidden && live.soon());
