/**
 * What a store client's connections feel while they send: the kernel's round-trip time of each, and how long what it
 * still holds will take at the present rate. Both rise within moments when something else fills the line, long before
 * an object's answer would tell.
 */
import type { Agent as HttpAgent } from 'node:http';
import type { Agent as HttpsAgent } from 'node:https';
import type { Pace } from '../ports/pace.js';
import { loadAddon } from './addon.js';
import { descriptorOf } from './socket-descriptor.js';

const SAMPLE_MS = 100;

export class ConnectionDelay {
  readonly #agents: readonly (HttpAgent | HttpsAgent)[];
  #bodies = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(agents: readonly (HttpAgent | HttpsAgent)[]) {
    this.#agents = agents;
  }

  /** Samples while the body is sent, also while the line takes nothing; call what it returns once at the end. */
  watch(pace: Pace): () => void {
    this.#bodies++;
    this.#timer ??= setInterval(() => this.#sample(pace), SAMPLE_MS).unref();
    return () => {
      if (--this.#bodies > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  #sample(pace: Pace): void {
    if (!pace.listens) return;
    const addon = loadAddon();
    let outstandingBytes = 0;
    let busy = 0;
    for (const fd of this.#descriptors()) {
      const bytes = addon.tcpOutstandingBytes(fd);
      if (bytes < 0) continue;
      const roundTripUs = addon.tcpRoundTripUs(fd);
      if (bytes > 0 && roundTripUs > 0) pace.sample('round-trip', roundTripUs / 1000);
      outstandingBytes += bytes;
      busy++;
    }
    if (busy > 0) pace.sample('outstanding', (outstandingBytes * 1000) / pace.bytesPerSecond);
  }

  *#descriptors(): Generator<number> {
    for (const agent of this.#agents) {
      for (const sockets of Object.values(agent.sockets)) {
        for (const socket of sockets ?? []) {
          const fd = descriptorOf(socket);
          if (fd !== undefined) yield fd;
        }
      }
    }
  }
}
