/** What a provider can read in a bucket (P8): looks for contents, addresses and names in every object, and its key. */

export interface StoredObject {
  readonly key: string;
  readonly body: Buffer;
}

export interface Secrets {
  /** What was written: no 16 bytes of it, at any offset, may be found. */
  readonly contents: Buffer;
  /** Bytes from the volume's start to where it was written. */
  readonly offset: number;
  readonly volumeName: string;
}

const windowBytes = 16;
const prefixBytes = 6;

/** One line for each thing that was found in clear. */
export function foundInClear(objects: readonly StoredObject[], secrets: Secrets): string[] {
  const found: string[] = [];
  const prefixes = new Set<number>();
  for (let at = 0; at + windowBytes <= secrets.contents.length; at += 1) {
    prefixes.add(secrets.contents.readUIntLE(at, prefixBytes));
  }
  const addresses = addressPatterns(secrets.offset);
  for (const { key, body } of objects) {
    if (key.includes(secrets.volumeName)) found.push(`the key ${key} holds the volume's name`);
    if (body.includes(secrets.volumeName)) found.push(`${key} holds the volume's name`);
    for (const [name, pattern] of addresses) if (body.includes(pattern)) found.push(`${key} holds the ${name}`);
    for (let at = 0; at + windowBytes <= body.length; at += 1) {
      if (!prefixes.has(body.readUIntLE(at, prefixBytes))) continue;
      if (secrets.contents.includes(body.subarray(at, at + windowBytes))) {
        found.push(`${key} holds 16 bytes of what was written, at ${at}`);
        break;
      }
    }
  }
  return found;
}

function addressPatterns(offset: number): [string, Buffer][] {
  const units = [
    ['byte offset', 1],
    ['sector number', 512],
    ['block number', 4096],
  ] as const;
  return units.flatMap(([name, bytes]): [string, Buffer][] => {
    const little = Buffer.alloc(8);
    const big = Buffer.alloc(8);
    little.writeBigUInt64LE(BigInt(offset / bytes));
    big.writeBigUInt64BE(BigInt(offset / bytes));
    return [
      [`${name}, little-endian`, little],
      [`${name}, big-endian`, big],
    ];
  });
}
