/** The status page: what the gateway's events say, as it comes. Without a token it only reads. */
import { authorization, follow } from './follow.js';
import { VolumeCard, make, say } from './volume-card.js';
import { bytes, duration, rate } from './wording.js';

/**
 * @typedef {import('../api/volume-report.js').VolumeReport} VolumeReport
 * @typedef {import('../api/gateway-view.js').Operation} Operation
 */

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** @type {string | undefined} */
let token;
let stop = () => {};
/** @type {Map<string, { card: VolumeCard, state: string, mode: string }>} */
const volumes = new Map();
/** @type {Map<string, { element: HTMLElement, state: string }>} */
const operations = new Map();
/** What the present stream named; undefined once it has named all. @type {Set<string> | undefined} */
let named = new Set();

/** For screen readers: one line that is read out. @param {string} text */
function announce(text) {
  byId('news').textContent = text;
}

/** @param {string} path @param {RequestInit} [init] */
async function ask(path, init = {}) {
  const response = await fetch(path, { ...init, headers: authorization(token) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? `the gateway answered ${response.status}`);
  return answer;
}

/** @param {VolumeReport} report */
function showVolume(report) {
  const { name, state, replication } = report;
  const { mode } = replication;
  let known = volumes.get(name);
  if (known === undefined) {
    const card = new VolumeCard(name, (action) => void act(name, action));
    card.allow(token !== undefined);
    known = { card, state, mode };
    volumes.set(name, known);
    byId('volumes').append(card.element);
  } else if (known.state !== state) {
    announce(`${name} is ${state}${report.reason === null ? '' : `: ${report.reason}`}`);
  } else if (known.mode !== mode && (mode === 'blocked' || known.mode === 'blocked')) {
    announce(mode === 'blocked' ? `${name} cannot reach its bucket` : `${name} reaches its bucket again`);
  }
  known.state = state;
  known.mode = mode;
  known.card.show(report);
  if (named !== undefined) void loadRates(name, known.card);
  summarize();
}

/** @param {string} name @param {VolumeCard} card */
async function loadRates(name, card) {
  // The next stream asks again where this fails.
  const rates = await ask(`/v1/volumes/${encodeURIComponent(name)}/rates`).catch(() => undefined);
  if (rates !== undefined) card.showRates(rates);
}

/** @param {string} name */
function removeVolume(name) {
  volumes.get(name)?.card.element.remove();
  volumes.delete(name);
  summarize();
}

function summarize() {
  byId('no-volumes').hidden = volumes.size > 0;
  const bad = [...volumes].filter(([, { state }]) => state === 'failed' || state === 'fenced' || state === 'stalled');
  document.title =
    bad.length === 0 ? 'Keepgate' : `${bad.map(([name, { state }]) => `${name} ${state}`).join(', ')} · Keepgate`;
}

/** @param {Operation} operation */
function showOperation(operation) {
  const { id, kind, volume, state, totalBytes, doneBytes, bytesPerSecond, reason } = operation;
  let known = operations.get(id);
  if (known === undefined) {
    const element = make('li');
    const progress = document.createElement('progress');
    progress.setAttribute('aria-label', `${kind} of ${volume}`);
    element.append(make('p'), progress);
    byId('operations').prepend(element);
    known = { element, state };
    operations.set(id, known);
  } else if (known.state !== state) {
    announce(`${kind} of ${volume} ${state === 'done' ? 'is done' : `failed: ${reason ?? ''}`}`);
  }
  known.state = state;
  const progress = known.element.querySelector('progress');
  const text = known.element.querySelector('p');
  if (progress === null || text === null) return;
  progress.hidden = state !== 'running';
  if (totalBytes > 0) {
    progress.max = totalBytes;
    progress.value = doneBytes;
  }
  const left = bytesPerSecond > 0 ? `, ${duration((totalBytes - doneBytes) / bytesPerSecond)} left` : '';
  const far =
    totalBytes > 0 ? `${bytes(doneBytes)} of ${bytes(totalBytes)} at ${rate(bytesPerSecond)}${left}` : 'running';
  const how = state === 'running' ? far : state;
  say(text, `${kind} of ${volume}: ${[how, reason].filter(Boolean).join(': ')}`);
  byId('no-operations').hidden = true;
}

/** @param {string} name @param {string} action */
async function act(name, action) {
  try {
    await ask(`/v1/volumes/${encodeURIComponent(name)}/${action}`, { method: 'POST' });
    announce(`${action} of ${name} began`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    say(byId('token-answer'), why);
    /** @type {HTMLDetailsElement} */ (byId('token-box')).open = true;
  }
}

/** Everything there is has been named: what was not is gone. */
function forgetTheRest() {
  if (named === undefined) return;
  for (const name of [...volumes.keys()]) if (!named.has(`volume ${name}`)) removeVolume(name);
  for (const [id, { element }] of [...operations]) {
    if (named.has(`operation ${id}`)) continue;
    element.remove();
    operations.delete(id);
  }
  named = undefined;
}

/** @param {string} text @param {boolean} lost */
function showConnection(text, lost) {
  const connection = byId('connection');
  connection.classList.toggle('lost', lost);
  if (connection.textContent === text) return;
  connection.textContent = text;
  announce(text);
}

function begin() {
  stop();
  stop = follow(token, {
    opened: () => {
      named = new Set();
      showConnection('Live', false);
    },
    event: (event, data) => {
      if (event === 'volume') named?.add(`volume ${data.name}`);
      if (event === 'operation') named?.add(`operation ${data.id}`);
      if (event === 'volume') showVolume(data);
      else if (event === 'operation') showOperation(data);
      else if (event === 'volume-removed') removeVolume(data.name);
      else if (event === 'rates') volumes.get(data.volume)?.card.addRates(data);
      else if (event === 'gateway') {
        say(byId('version'), data.version);
        forgetTheRest();
        showConnection(data.ready ? 'Live' : 'Live; the gateway is starting', false);
      }
    },
    lost: (why) => showConnection(`Not live: ${why}. Trying again…`, true),
    refused: () => {
      showConnection('This gateway wants its token', true);
      /** @type {HTMLDetailsElement} */ (byId('token-box')).open = true;
      byId('token').focus();
    },
  });
}

byId('token-form').addEventListener('submit', (submitted) => {
  submitted.preventDefault();
  const input = /** @type {HTMLInputElement} */ (byId('token'));
  token = input.value.trim() === '' ? undefined : input.value.trim();
  input.value = '';
  say(byId('token-answer'), token === undefined ? 'Forgotten: this page only reads.' : 'Used from now on.');
  for (const { card } of volumes.values()) card.allow(token !== undefined);
  begin();
});

begin();
