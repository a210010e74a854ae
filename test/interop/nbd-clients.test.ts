/** The NBD clients that people use, each against a real gateway: libnbd's, QEMU's, fio's. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import {
  chunkError,
  contentOf,
  contextData,
  extendedRequest,
  filterPayload,
  parseChunks,
  statusOf,
} from '../fake/nbd-chunk.js';
import { clientFlags, CMD, E, FLAG, infoData, OPT, optionBytes, parseOptionReplies } from '../fake/nbd-client.js';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { attempt, run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const mebibyte = 1024 * 1024;
const sizeMiB = 64;

suite('NBD clients', ['nbdinfo', 'nbdcopy', 'nbdsh', 'qemu-io', 'qemu-img', 'fio'], () => {
  let gateway: TestGateway;
  let uri: string;
  before(async () => {
    const buffer = { size: '256MiB' };
    gateway = await TestGateway.start({
      volumes: [
        { name: 'disk', size: `${sizeMiB}MiB`, buffer },
        { name: 'large', size: '512MiB', buffer },
        { name: 'mapped', size: '32MiB', buffer: { size: '64MiB' }, replicate: { interval: '1h' } },
        { name: 'fixed', size: '32MiB', buffer: { size: '64MiB' }, readOnly: true },
      ],
    });
    uri = gateway.nbdUri('disk');
  });
  after(async () => {
    await gateway.dispose();
  });

  it('nbdinfo tells size, block sizes and what the volume can do', async () => {
    const text = await run(requiredTool('nbdinfo'), ['--json', uri]);
    const [shown] = (JSON.parse(text) as { exports: Record<string, unknown>[] }).exports;
    assert.equal(shown?.['export-size'], sizeMiB * mebibyte);
    assert.equal(shown['export-name'], 'disk');
    assert.equal(shown['is_read_only'], false);
    for (const ability of ['can_flush', 'can_fua', 'can_multi_conn', 'can_trim', 'can_zero', 'can_cache', 'can_df']) {
      assert.equal(shown[ability], true, ability);
    }
    assert.equal(shown['can_fast_zero'], true);
    assert.deepEqual(shown['contexts'], ['base:allocation', 'keepgate:dirty', 'keepgate:remote']);
    assert.equal(shown['description'], 'Keepgate volume disk');
  });

  it('nbdinfo --can says yes to all that there is', async () => {
    const abilities = [
      'connect',
      'read',
      'write',
      'flush',
      'fua',
      'trim',
      'zero',
      'cache',
      'df',
      'fast-zero',
      'multi-conn',
    ];
    for (const ability of [...abilities, 'structured-reply']) {
      const { status, stderr } = await attempt(requiredTool('nbdinfo'), ['--can', ability, uri]);
      assert.equal(status, 0, `--can ${ability}: ${stderr}`);
    }
  });

  it('nbdinfo --map and qemu-img map tell data from holes', async () => {
    const mapped = gateway.nbdUri('mapped');
    const commands = ['write -P 1 1M 2M', 'write -P 2 8192 4096', 'flush'];
    await run(requiredTool('qemu-io'), ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), mapped]);
    const map = JSON.parse(await run(requiredTool('nbdinfo'), ['--json', '--map', mapped])) as Record<
      string,
      unknown
    >[];
    const data = map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset, length]);
    assert.deepEqual(data, [[8192, 4096], [mebibyte, 2 * mebibyte]]); // prettier-ignore
    const totals = await run(requiredTool('nbdinfo'), ['--map', '--totals', mapped]);
    assert.match(totals, new RegExp(`\\b${2 * mebibyte + 4096}\\b.*\\b0 data`));
    assert.match(totals, /3 hole,zero/);
    const text = await run(requiredTool('qemu-img'), ['map', '-f', 'raw', '--output=json', mapped]);
    const extents = JSON.parse(text) as { start: number; length: number; data: boolean; zero: boolean }[];
    assert.deepEqual(extents.filter((extent) => extent.data).map(({ start, length }) => [start, length]), data); // prettier-ignore
    assert(extents.every((extent) => extent.data !== extent.zero));
  });

  it('nbdinfo --map=keepgate:dirty shows what is not replicated yet, and nothing after a drain', async () => {
    const mapped = gateway.nbdUri('mapped');
    const dirty = async (): Promise<unknown[][]> => {
      const text = await run(requiredTool('nbdinfo'), ['--json', '--map=keepgate:dirty', mapped]);
      const map = JSON.parse(text) as Record<string, unknown>[];
      return map.filter(({ type }) => type !== 0).map(({ offset, length }) => [offset, length]);
    };
    await gateway.drain('mapped');
    assert.deepEqual(await dirty(), []);
    // Its interval is an hour: nothing goes up by itself.
    await run(requiredTool('qemu-io'), ['-f', 'raw', '-c', 'write -P 3 5M 12288', '-c', 'flush', mapped]);
    assert.deepEqual(await dirty(), [[5 * mebibyte, 12_288]]);
    await gateway.drain('mapped');
    assert.deepEqual(await dirty(), []);
    const remote = JSON.parse(
      await run(requiredTool('nbdinfo'), ['--json', '--map=keepgate:remote', mapped]),
    ) as Record<string, unknown>[];
    assert(remote.every(({ type }) => type === 0));
  });

  it('nbdcopy with 4 connections and 64 requests, both ways', async () => {
    const from = join(gateway.folder, 'from');
    const to = join(gateway.folder, 'to');
    const contents = Buffer.concat([
      randomBytes(30 * mebibyte),
      Buffer.alloc(20 * mebibyte),
      randomBytes(14 * mebibyte),
    ]);
    await writeFile(from, contents);
    const parallel = ['--connections=4', '--requests=64'];
    await run(requiredTool('nbdcopy'), [...parallel, '--flush', from, uri]);
    await run(requiredTool('nbdcopy'), [...parallel, uri, to]);
    assert(contents.equals(await readFile(to)));
  });

  it('nbdsh meets every error there is, and its connection survives all of them', async () => {
    const script = `
import errno
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri("${uri}")
size = h.get_size()
def meets(code, what, f, *args, **named):
    try:
        f(*args, **named)
    except nbd.Error as e:
        assert e.errnum == code, (what, e)
    else:
        assert False, what
    h.pread(512, 0)
meets(errno.EINVAL, "read past the end", h.pread, 512, size - 1)
meets(errno.ENOSPC, "write past the end", h.pwrite, b"x" * 512, size - 1)
meets(errno.ENOSPC, "zeroes past the end", h.zero, 512, size)
meets(errno.EINVAL, "trim past the end", h.trim, 512, size)
meets(errno.EINVAL, "cache past the end", h.cache, 512, size)
meets(errno.EINVAL, "status past the end", h.block_status, 512, size, lambda *a: 0)
meets(errno.EINVAL, "read of nothing", h.pread, 0, 0)
meets(errno.EINVAL, "unknown flag", h.trim, 512, 0, nbd.CMD_FLAG_REQ_ONE)
meets(errno.ENOTSUP, "slow fast zero", h.zero, 100, 1, nbd.CMD_FLAG_FAST_ZERO)
h.zero(1048576, 0, nbd.CMD_FLAG_FAST_ZERO)
chunks = []
h.pread_structured(65536, 1, lambda buf, off, status, err: chunks.append(len(buf)), nbd.CMD_FLAG_DF)
assert chunks == [65536], chunks
entries = []
h.block_status(1048576, 0, lambda name, off, e, err: entries.extend(e), nbd.CMD_FLAG_REQ_ONE)
assert len(entries) == 2 and entries[1] == 3, entries
h.pwrite(b"y" * 33554432, 1)
assert bytes(h.pread(33554432, 1)) == b"y" * 33554432
h.shutdown()
r = nbd.NBD()
r.set_strict_mode(0)
r.connect_uri("${gateway.nbdUri('fixed')}")
assert r.is_read_only()
h = r
meets(errno.EPERM, "write", r.pwrite, b"x" * 512, 0)
meets(errno.EPERM, "trim", r.trim, 512, 0)
meets(errno.EPERM, "zeroes", r.zero, 512, 0)
r.flush()
r.shutdown()
`;
    // Debian's python, which has the module, before any other.
    const PATH = `/usr/bin:/bin:${process.env['PATH'] ?? ''}`;
    await run(requiredTool('nbdsh'), ['-c', script], { env: { PATH } });
  });

  it('extended headers, which none of these speaks yet, with the bytes of the protocol document', async () => {
    const write = { type: CMD.WRITE, flags: FLAG.PAYLOAD_LEN | FLAG.FUA, cookie: 1n, offset: 8192 };
    const sent = Buffer.concat([
      clientFlags(3),
      optionBytes(OPT.EXTENDED_HEADERS),
      optionBytes(OPT.SET_META_CONTEXT, contextData('mapped', ['base:allocation', 'keepgate:dirty'])),
      optionBytes(OPT.GO, infoData('mapped')),
      extendedRequest({ type: CMD.WRITE_ZEROES, flags: FLAG.FAST_ZERO, cookie: 9n, length: 32 * mebibyte }),
      extendedRequest({ ...write, payload: Buffer.alloc(4096, 7) }),
      extendedRequest({ type: CMD.FLUSH, cookie: 2n }),
    ]);
    const asked = Buffer.concat([
      extendedRequest({ type: CMD.READ, cookie: 3n, offset: 8000, length: 4096 }),
      extendedRequest({ type: CMD.BLOCK_STATUS, cookie: 4n, length: 32 * mebibyte }),
      extendedRequest({
        type: CMD.BLOCK_STATUS,
        flags: FLAG.PAYLOAD_LEN,
        cookie: 5n,
        payload: filterPayload(8192, [2]),
      }),
      extendedRequest({ type: CMD.TRIM, cookie: 6n, offset: 4096, length: 1n << 40n }),
      extendedRequest({ type: CMD.DISC }),
    ]);
    const socket = connect(gateway.nbdPort, '127.0.0.1');
    const received: Buffer[] = [];
    let asking = false;
    socket.on('data', (bytes) => {
      received.push(bytes);
      // What was written is asked for once it was acknowledged: requests of one time may be done in any order.
      if (asking || !Buffer.concat(received).includes(Buffer.from('0000000000000002' + '00'.repeat(16), 'hex'))) return;
      asking = true;
      socket.write(asked);
    });
    socket.write(sent);
    await once(socket, 'close');
    const { replies, rest } = parseOptionReplies(Buffer.concat(received).subarray(18));
    assert.deepEqual(replies.map(({ type }) => type), [1, 4, 4, 1, 3, 1]); // prettier-ignore
    const chunks = parseChunks(rest);
    const of = (cookie: bigint) => chunks.filter((chunk) => chunk.cookie === cookie);
    for (const cookie of [9n, 1n, 2n, 3n]) assert.equal(chunkError(of(cookie)), 0);
    const content = contentOf(of(3n), 8000, 4096);
    assert(content.subarray(0, 192).equals(Buffer.alloc(192)) && content.subarray(192).equals(Buffer.alloc(3904, 7)));
    const [allocation, dirty] = of(4n).map(statusOf);
    assert.deepEqual(allocation?.extents, [[8192, 3], [4096, 0], [32 * mebibyte - 12_288, 3]]); // prettier-ignore
    assert.deepEqual(dirty?.extents, [[32 * mebibyte, 1]]);
    assert.deepEqual(of(5n).map(statusOf), [{ context: 2, extents: [[8192, 1]] }]); // prettier-ignore
    assert.equal(chunkError(of(6n)), E.INVAL);
  });

  it('nbdinfo lists the volumes', async () => {
    const text = await run(requiredTool('nbdinfo'), ['--list', '--json', `nbd://127.0.0.1:${gateway.nbdPort}`]);
    const { exports } = JSON.parse(text) as { exports: Record<string, unknown>[] };
    assert.deepEqual(exports.map((each) => each['export-name']).sort(), ['disk', 'fixed', 'large', 'mapped']);
  });

  it('nbdcopy in and out gives the same bytes', async () => {
    const from = join(gateway.folder, 'in');
    const to = join(gateway.folder, 'out');
    const contents = Buffer.concat([randomBytes(40 * mebibyte), Buffer.alloc(24 * mebibyte)]);
    await writeFile(from, contents);
    await run(requiredTool('nbdcopy'), ['--flush', from, uri]);
    await run(requiredTool('nbdcopy'), [uri, to]);
    assert(contents.equals(await readFile(to)));
  });

  it('qemu-io finds its patterns, after writes, zeros and discards', async () => {
    const commands = [
      'write -P 0x11 0 1M',
      'write -P 0x22 5000 3000', // Not on any boundary of a block.
      'write -f -P 0x33 2M 64k',
      'write -z 512k 256k',
      'discard 2M 32k',
      'flush',
      'read -P 0x11 0 5000',
      'read -P 0x22 5000 3000',
      'read -P 0x11 8000 64k',
      'read -P 0 512k 256k',
      'read -P 0x11 768k 256k',
      'read -P 0 2M 32k',
      'read -P 0x33 2080k 32k',
    ];
    const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri];
    const text = await run(requiredTool('qemu-io'), args);
    assert.doesNotMatch(text, /failed|error/i);
  });

  it('qemu-img convert to and from the volume, and compare', async () => {
    const from = join(gateway.folder, 'in');
    await writeFile(from, randomBytes(sizeMiB * mebibyte));
    await run(requiredTool('qemu-img'), ['convert', '-n', '-f', 'raw', '-O', 'raw', from, uri]);
    await run(requiredTool('qemu-img'), ['compare', '-f', 'raw', '-F', 'raw', from, uri]);
  });

  it('fio verifies 512 MiB of random writes at depth 32', async () => {
    const text = await run(
      requiredTool('fio'),
      [
        ...['--name=verify', '--ioengine=nbd', `--uri=${gateway.nbdUri('large')}`, '--rw=randwrite', '--bs=4k'],
        ...['--iodepth=32', '--verify=crc32c', '--do_verify=1', '--size=512m', '--output-format=json'],
      ],
      { timeoutMs: 240_000, cwd: gateway.folder },
    );
    const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as { jobs: { error: number }[] };
    assert.equal(jobs[0]?.error, 0, text);
  });
});
