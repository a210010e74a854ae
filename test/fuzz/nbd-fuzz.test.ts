/** What the NBD fuzzer keeps, and a while of it; and that it finds what is wrong. `npm run fuzz -- nbd` goes on for as long as one likes. */
import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { SeededRandom } from '../fake/random.js';
import { attempt } from '../tool/process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from '../tool/source-patch.js';
import { Campaign } from './campaign.js';

const cases = process.env['KEEPGATE_TEST_LONG'] === '1' ? 50_000 : 1000;
const fuzzer = join(resolve(import.meta.dirname), 'fuzz.js');

interface Fault {
  readonly name: string;
  readonly patch: SourcePatch;
}
const fault = (name: string, file: string, find: string, replace: string): Fault => ({
  name,
  patch: { file: `src/${file.includes('/') ? file : `frontends/nbd/${file}`}.js`, find, replace },
});

/** Each breaks one rule; the fuzzer must see it. */
const faults: readonly Fault[] = [
  fault('a large read that fails keeps its buffers', 'large-read', 'piece.buffer.release();', ';'),
  fault('a large read gives its first piece again and again', 'large-read', 'device.read(offset + at,', 'device.read(offset,'), // prettier-ignore
  fault('every chunk says that it is the last', 'large-read', 'this.#offset, count, last);', 'this.#offset, count, true);'), // prettier-ignore
  fault('a write of a connection that dies stays open', 'incoming-payload', 'this.#partial?.abandon();', ''),
  fault('a refused payload is taken for requests', 'transmission', 'this.#payload.begin(slot, lengthBytes, undefined);', 'this.#payload.begin(slot, 0, undefined);'), // prettier-ignore
  fault('a header in pieces is put together once', 'transmission', 'if (next !== BLOCKED)\n            this.#carryBytes = 0;', ''), // prettier-ignore
  fault('a write that waits for room is forgotten', 'request-start', 'device.onceWritable(this.#onWritable);', ''), // prettier-ignore
  fault('DISC drops what is in flight', 'transmission', " || this.#ledger.used > 0)\n            return;\n        this.#writer.flush();\n        this.#stream.end()", ")\n            return;\n        this.#writer.flush();\n        this.#stream.end()"), // prettier-ignore
  fault('a trim goes to another place', 'transmission', 'this.device.trim(offset,', 'this.device.trim(0,'),
  fault('a READ is answered without chunks', 'reply-form', 'type === command.read || type === command.blockStatus', 'type === command.blockStatus'), // prettier-ignore
  fault('the offset of a request is not repeated', 'reply-form', 'writeU32(bytes, at + 20, slot.offsetLow);', 'writeU32(bytes, at + 20, 0);'), // prettier-ignore
  fault('a filter may name a context twice', 'block-status-reply', 'chosen.size === ids ?', 'chosen.size <= ids ?'),
  fault('contexts of one volume count for another', 'negotiated', 'this.#contextsOf === volume', 'true'),
  fault('what one client negotiated counts for all', 'handshake', '#negotiated = new Negotiated();', '#negotiated = (globalThis.kept ??= new Negotiated());'), // prettier-ignore
  fault('bytes in clear behind STARTTLS are overlooked', 'handshake', "throw new ProtocolError('bytes in clear follow STARTTLS');", 'return end - start;'), // prettier-ignore
  fault('who proves nothing over TLS is let in', 'platform/tls-security', 'this.#demandsCertificate && !proved', 'false'), // prettier-ignore
  fault('a volume is shown to whom it is not for', 'handshake', 'this.#host.refusal(volume) === undefined', 'true'),
  fault('a connection that is over keeps the volume', 'connection', 'this.#attachment?.release();', ''),
];

describe('NBD clients that do what comes to their mind', () => {
  it('meet no answer that is wrong in the cases that are kept', async () => {
    const campaign = await Campaign.start('nbd');
    assert(campaign.known > 50, 'there is a corpus');
    while (campaign.cases < campaign.known) await campaign.next(new SeededRandom(0));
  });

  const seed = Math.floor(Math.random() * 2 ** 31);
  it(`nor in ${cases} more`, async (t) => {
    t.diagnostic(`npm run fuzz -- nbd --seed ${seed}`);
    const campaign = await Campaign.start('nbd', { skipKnown: true });
    const random = new SeededRandom(seed);
    while (campaign.cases < cases) await campaign.next(random);
  });

  for (const { name, patch } of faults) {
    it(`are seen when ${name}`, async () => {
      const args = [...patchArguments, fuzzer, 'nbd', '--seed', '1', '--cases', '4000', '--minutes', '10'];
      const ended = await attempt(process.execPath, args, { env: patchEnvironment([patch]), timeoutMs: 600_000 });
      assert.match(ended.stdout, /^FAILED/m, ended.stdout + ended.stderr);
      assert.equal(ended.status, 1);
    });
  }
});
