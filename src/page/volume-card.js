/** One volume: its state, what is known of it, and its plots. Made once and then changed, so that focus stays. */
import { Plot } from './plot.js';
import { bytes, counted, duration, frequency, moment, rate } from './wording.js';

/**
 * @typedef {import('../api/volume-report.js').VolumeReport} VolumeReport
 * @typedef {import('../metrics/rate-history.js').RateField} RateField
 * @typedef {Record<RateField, (number | null)[]> & { time: string | null }} RateColumns
 */

const samplesMax = 360;
const blockBytes = 4096;
const kinds = /** @type {Record<string, string>} */ ({ online: 'good', stalled: 'bad', failed: 'bad', fenced: 'bad' });
const actions = /** @type {const} */ (['drain', 'scrub']);
const plots = /** @type {const} */ ([
  ['writeBytesPerSecond', 'Written', rate],
  ['readBytesPerSecond', 'Read', rate],
  ['operationsPerSecond', 'Requests', frequency],
  ['uploadBytesPerSecond', 'Uploaded', rate],
  ['lagSeconds', 'Lag of the bucket', duration],
  ['bufferUsedBytes', 'Buffer used', bytes],
]);

export class VolumeCard {
  /** @param {string} name @param {(action: string) => void} act */
  constructor(name, act) {
    /** @type {RateColumns | undefined} */
    this.rates = undefined;
    this.element = document.createElement('article');
    this.element.className = 'volume';
    const title = make('h3', name);
    title.id = `volume-${name}`;
    this.element.setAttribute('aria-labelledby', title.id);
    this.state = make('span', '', 'state');
    this.size = make('span');
    this.actions = make('span', '', 'actions');
    this.actions.hidden = true;
    for (const action of actions) {
      const button = make('button', action === 'drain' ? 'Drain' : 'Scrub');
      button.setAttribute('aria-label', `${button.textContent ?? ''} ${name}`);
      button.addEventListener('click', () => act(action));
      this.actions.append(button);
    }
    const header = document.createElement('header');
    header.append(title, this.state, this.size, this.actions);
    this.reason = make('p', '', 'reason');
    this.facts = document.createElement('dl');
    this.facts.className = 'facts';
    this.clients = this.#fact('Clients');
    this.replication = this.#fact('Replication');
    this.pending = this.#fact('Not in the bucket yet');
    this.point = this.#fact('Recovery point');
    this.buffer = this.#fact('Buffer');
    this.meter = document.createElement('meter');
    this.meter.setAttribute('aria-label', `Buffer of ${name}`);
    this.buffer.description.append(this.meter);
    this.restore = this.#fact('Restore');
    this.progress = document.createElement('progress');
    this.progress.setAttribute('aria-label', `Restore of ${name}`);
    this.restore.description.append(this.progress);
    this.plots = plots.map(([field, label, wording]) => ({ field, plot: new Plot(label, wording) }));
    const area = make('div', '', 'plots');
    area.append(...this.plots.map(({ plot }) => plot.element));
    this.element.append(header, this.reason, this.facts, area);
    this.#draw();
  }

  /** @param {string} label */
  #fact(label) {
    const row = document.createElement('div');
    const text = document.createElement('span');
    const description = document.createElement('dd');
    description.append(text);
    row.append(make('dt', label), description);
    this.facts.append(row);
    return { row, text, description };
  }

  /** @param {VolumeReport} volume */
  show(volume) {
    const { state, reason, replication, buffer, clients } = volume;
    say(this.state, state);
    this.state.dataset['kind'] = kinds[state] ?? 'busy';
    say(this.size, `${bytes(volume.sizeBytes)}${volume.readOnly ? ', read-only' : ''}`);
    say(this.reason, reason ?? '');
    this.reason.hidden = reason === null;
    const attached = clients.map(
      ({ description, connections }) => `${description} (${counted(connections, 'connection')})`,
    );
    say(this.clients.text, attached.join(', ') || 'nobody');
    say(this.replication.text, [replication.mode, replication.reason].filter(Boolean).join(': '));
    const { lagSeconds, pendingBytes, recoveryPoint } = replication;
    const oldest = lagSeconds > 0 ? `, the oldest for ${duration(lagSeconds)}` : '';
    say(this.pending.text, pendingBytes === 0 && oldest === '' ? 'nothing' : `${bytes(pendingBytes)}${oldest}`);
    this.pending.row.hidden = replication.mode === 'off';
    const none = replication.mode === 'off' ? 'none: it does not replicate' : 'none yet';
    say(this.point.text, recoveryPoint === null ? none : moment(recoveryPoint.time));
    this.#showBuffer(buffer);
    this.#showRestore(volume);
  }

  /** @param {VolumeReport['buffer']} buffer */
  #showBuffer({ usedBytes, capacityBytes, timeToFullSeconds }) {
    const full = timeToFullSeconds === null ? '' : `, full in ${duration(timeToFullSeconds)}`;
    const text = `${bytes(usedBytes)} of ${bytes(capacityBytes)}${full}`;
    say(this.buffer.text, text);
    this.meter.max = capacityBytes;
    this.meter.high = capacityBytes * 0.75;
    this.meter.value = usedBytes;
    this.meter.setAttribute('aria-valuetext', text);
  }

  /** @param {VolumeReport} volume */
  #showRestore({ hydration, sizeBytes }) {
    this.restore.row.hidden = hydration === null;
    if (hydration === null) return;
    const { remainingBlocks, problem } = hydration;
    const left = remainingBlocks === null ? 'how much is still to come is not known yet' : '';
    const text = left || `${bytes((remainingBlocks ?? 0) * blockBytes)} still to come`;
    say(this.restore.text, problem === null ? text : `${text}: ${problem}`);
    if (remainingBlocks === null) return this.progress.removeAttribute('value');
    this.progress.max = sizeBytes;
    this.progress.value = Math.max(0, sizeBytes - remainingBlocks * blockBytes);
  }

  /** @param {boolean} may */
  allow(may) {
    this.actions.hidden = !may;
  }

  /** @param {RateColumns} rates */
  showRates(rates) {
    this.rates = rates;
    this.#draw();
  }

  /** One more. @param {Record<RateField, number> & { time: string }} sample */
  addRates(sample) {
    const { rates } = this;
    if (rates === undefined || (rates.time !== null && rates.time >= sample.time)) return;
    rates.time = sample.time;
    for (const { field } of this.plots) rates[field] = [...rates[field], sample[field]].slice(-samplesMax);
    this.#draw();
  }

  #draw() {
    for (const { field, plot } of this.plots) plot.show(this.rates?.[field] ?? []);
  }
}

/** What stays the same is left alone: a screen reader would take it for news. @param {Element} element @param {string} text */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [text]
 * @param {string} [className]
 */
export function make(tag, text = '', className = '') {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className !== '') element.className = className;
  return element;
}
