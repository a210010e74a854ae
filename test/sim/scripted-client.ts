/** A client that does one thing after another, each answered before the next; the shadow hears of all of it. */
import type { SimHost } from './host.js';
import { payloadOf } from './shadow.js';

export class ScriptedClient {
  private readonly host: SimHost;
  private lastId = 0;

  constructor(host: SimHost) {
    this.host = host;
  }

  write(offset: number, lengthBytes: number, fua = false): Promise<void> {
    const { host } = this;
    const bytes = payloadOf(++this.lastId, offset, lengthBytes);
    const ticket = host.shadow.begin({ kind: 'write', offset, lengthBytes, bytes });
    return new Promise((resolve) => {
      const done = host.completion(() => {
        host.shadow.acknowledged(ticket, fua);
        resolve();
      });
      host.device?.write(offset, lengthBytes, bytes, 0, fua, done);
    });
  }

  trim(offset: number, lengthBytes: number): Promise<void> {
    const { host } = this;
    const ticket = host.shadow.begin({ kind: 'trim', offset, lengthBytes, bytes: undefined });
    return new Promise((resolve) => {
      const done = host.completion(() => {
        host.shadow.acknowledged(ticket, false);
        resolve();
      });
      host.device?.trim(offset, lengthBytes, false, done);
    });
  }

  flush(): Promise<void> {
    const { host } = this;
    const lsn = host.shadow.promisedLsn;
    return new Promise((resolve) => {
      const done = host.completion(() => {
        host.shadow.flushed(lsn);
        resolve();
      });
      host.device?.flush(done);
    });
  }
}
