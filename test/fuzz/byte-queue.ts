/** Bytes of a stream that are put together again, and joined only where something whole is taken out. */
export class ByteQueue {
  private parts: Buffer[] = [];
  length = 0;

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.parts.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    this.length += bytes.length;
  }

  /** The first `count` bytes, which stay; there must be as many. */
  peek(count: number): Buffer {
    if ((this.parts[0]?.length ?? 0) < count) this.parts = [Buffer.concat(this.parts)];
    return (this.parts[0] ?? Buffer.alloc(0)).subarray(0, count);
  }

  take(count: number): Buffer {
    const taken = this.peek(count);
    const [first, ...rest] = this.parts;
    const left = first?.subarray(count);
    this.parts = left === undefined || left.length === 0 ? rest : [left, ...rest];
    this.length -= count;
    return taken;
  }

  clear(): void {
    this.parts = [];
    this.length = 0;
  }
}
