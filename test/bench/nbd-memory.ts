/**
 * `npm run bench:memory`: what memory a gateway takes that 64 connections ask 64 requests each of, reading and writing
 * 4 and 64 KiB, with log, sums, destaging and an upload that is limited to 20 MB/s. Prints the peak of its resident memory
 * after each step (VmHWM, which is set back before it), and fails where one is 256 MiB or more.
 *
 *   npm run bench:memory -- [--seconds 10] [--connections 64] [--depth 64] [--dir DIR]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { limits } from '../../src/base/limits.js';
import { KIB, MIB } from '../../src/base/units.js';
import { clientFlags, CMD, infoData, OPT, optionBytes, parseOptionReplies, requestBytes } from '../fake/nbd-client.js';
import { TestGateway } from '../tool/gateway.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    connections: { type: 'string', default: '64' },
    depth: { type: 'string', default: '64' },
    dir: { type: 'string', default: '/var/tmp' },
  },
});
const connections = Number(values.connections);
const depth = Number(values.depth);
const VOLUME_MIB = 1024;
const REPLY_BYTES = 16;

/** One connection that keeps `depth` requests in flight until it is told to stop. */
class Asker {
  answered = 0;
  private waiting = 0;
  private received = 0;
  private stopped: (() => void) | undefined;
  private request: Request = { type: CMD.READ, bytes: 4 * KIB, payload: undefined };

  private constructor(private readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => this.take(chunk.length));
  }

  static async attach(port: number): Promise<Asker> {
    const socket = connect(port, '127.0.0.1');
    socket.setNoDelay(true);
    socket.write(Buffer.concat([clientFlags(3), optionBytes(OPT.GO, infoData('demo'))]));
    await new Promise<void>((resolve, reject) => {
      let bytes: Buffer = Buffer.alloc(0);
      const onData = (chunk: Buffer): void => {
        bytes = Buffer.concat([bytes, chunk]);
        if (parseOptionReplies(bytes.subarray(18)).replies.at(-1)?.type !== 1) return;
        socket.off('data', onData);
        resolve();
      };
      socket.on('data', onData);
      socket.once('error', reject);
    });
    return new Asker(socket);
  }

  begin(request: Request): void {
    this.request = request;
    this.answered = 0;
    this.stopped = undefined;
    this.ask(depth);
  }

  /** Nothing new is asked; resolves when nothing is in flight. */
  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.stopped = resolve;
      if (this.waiting === 0) resolve();
    });
  }

  close(): void {
    this.socket.destroy();
  }

  /** All replies have one length: none is looked at, but a refused one would be short, and so missed. */
  private take(count: number): void {
    const replyBytes = REPLY_BYTES + (this.request.type === CMD.READ ? this.request.bytes : 0);
    this.received += count;
    const whole = Math.floor(this.received / replyBytes);
    this.received -= whole * replyBytes;
    this.answered += whole;
    this.waiting -= whole;
    if (this.stopped === undefined) this.ask(whole);
    else if (this.waiting === 0) this.stopped();
  }

  private ask(count: number): void {
    const { type, bytes, payload } = this.request;
    this.socket.cork();
    for (let left = count; left > 0; left--) {
      const offset = bytes * Math.floor(Math.random() * ((VOLUME_MIB * MIB) / bytes));
      this.socket.write(requestBytes({ type, offset, length: bytes }));
      if (payload !== undefined) this.socket.write(payload);
    }
    this.socket.uncork();
    this.waiting += count;
  }
}

interface Request {
  readonly type: number;
  readonly bytes: number;
  /** One for all: what it says does not matter. */
  readonly payload: Buffer | undefined;
}

const folder = await mkdtemp(join(values.dir, 'keepgate-bench-memory-'));
const settings = { name: 'demo', size: `${VOLUME_MIB}MiB`, buffer: { size: '4GiB' } };
try {
  await measureAll();
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function measureAll(): Promise<void> {
  const gateway = await TestGateway.start({ folder, volumes: [settings], bandwidth: { upload: '20MB/s' } });
  try {
    const askers = await Promise.all(Array.from({ length: connections }, () => Asker.attach(gateway.nbdPort)));
    console.log(`${connections} connections at depth ${depth}, ${values.seconds} s each`);
    for (const kib of [4, 64]) {
      const bytes = kib * KIB;
      const payload = Buffer.alloc(bytes, 0x5a);
      await measure(gateway, askers, `write ${kib} KiB`, { type: CMD.WRITE, bytes, payload });
      await measure(gateway, askers, `read ${kib} KiB`, { type: CMD.READ, bytes, payload: undefined });
    }
    for (const asker of askers) asker.close();
  } finally {
    await gateway.dispose();
  }
}

async function measure(gateway: TestGateway, askers: readonly Asker[], name: string, request: Request): Promise<void> {
  writeFileSync(`/proc/${gateway.pid}/clear_refs`, '5'); // Sets the peak back to what is resident now.
  const beganMs = performance.now();
  for (const asker of askers) asker.begin(request);
  await delay(Number(values.seconds) * 1000);
  await Promise.all(askers.map((asker) => asker.stop()));
  const seconds = (performance.now() - beganMs) / 1000;
  const requests = askers.reduce((sum, { answered }) => sum + answered, 0);
  const peakKib = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${gateway.pid}/status`, 'utf8'))?.[1]);
  const peakMib = peakKib / 1024;
  console.log(`${name}: ${Math.round(requests / seconds)} requests/s, at most ${peakMib.toFixed(0)} MiB resident`);
  if (!(peakKib * KIB < limits.memoryBytesTarget)) {
    console.log(`FAILED: that is not below ${limits.memoryBytesTarget / MIB} MiB`);
    process.exitCode = 1;
  }
}
