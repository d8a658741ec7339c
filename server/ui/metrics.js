// GET /metrics, read (Prometheus text format 0.0.4).

import {request} from './api.js';

/** [{name, labels: {…}, value}] */
export function parseMetrics(text) {
  const samples = [];
  for (const line of text.split('\n')) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!m || line.startsWith('#')) continue;
    const labels = {};
    for (const [, key, value] of (m[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    samples.push({name: m[1], labels, value: Number(m[3])});
  }
  return samples;
}

export class Metrics {
  constructor(samples) {
    this.samples = samples;
  }

  static async get() {
    const response = await request('/metrics', {accept: 'text/plain'});
    return new Metrics(parseMetrics(await response.text()));
  }

  all(name) {
    return this.samples.filter((s) => s.name === name);
  }

  /** The value with these labels, or undefined. */
  value(name, labels = {}) {
    return this.all(name).find((s) => Object.entries(labels).every(([k, v]) => s.labels[k] === v))?.value;
  }

  /** Sum / count of a summary, in seconds; undefined before the first. */
  mean(name) {
    const count = this.value(`${name}_count`);
    return count ? this.value(`${name}_sum`) / count : undefined;
  }
}
