/**
 * The kernel NBD client's commands as generic netlink carries them (linux/nbd-netlink.h). Attributes are in the byte order
 * of the machine: length 2 (with these 4), type 2, payload padded to 4 bytes. Constants are the kernel's: never change one.
 */
import { endianness } from 'node:os';

const little = endianness() === 'LE';

export const nbdFamily = { name: 'nbd', version: 1, group: 'nbd_mc_group' } as const;

/** NBD_CMD_…; the last but one is what the kernel sends by itself. */
export const nbdCommand = { connect: 1, disconnect: 2, reconfigure: 3, linkDead: 4, status: 5 } as const;

/** NBD_ATTR_… */
const attribute = {
  index: 1,
  sizeBytes: 2,
  blockSizeBytes: 3,
  timeoutSeconds: 4,
  serverFlags: 5,
  sockets: 7,
  deadConnectionSeconds: 8,
  deviceList: 9,
  backend: 10,
} as const;
/** NBD_SOCK_ITEM holds NBD_SOCK_FD; NBD_DEVICE_ITEM holds NBD_DEVICE_INDEX and NBD_DEVICE_CONNECTED. */
const socketItem = { item: 1, fd: 1 } as const;
const deviceItem = { item: 1, index: 1, connected: 2 } as const;

export interface NbdSettings {
  readonly index: number;
  readonly sizeBytes?: number;
  readonly blockSizeBytes?: number;
  readonly timeoutSeconds?: number;
  readonly serverFlags?: number;
  readonly deadConnectionSeconds?: number;
  readonly sockets?: readonly number[];
  readonly backend?: string;
}

export function encodeSettings(settings: NbdSettings): Uint8Array {
  const wide = ['sizeBytes', 'blockSizeBytes', 'timeoutSeconds', 'serverFlags', 'deadConnectionSeconds'] as const;
  const parts = [encodeAttribute(attribute.index, u32(settings.index))];
  for (const name of wide) {
    const value = settings[name];
    if (value !== undefined) parts.push(encodeAttribute(attribute[name], u64(value)));
  }
  if (settings.backend !== undefined) {
    parts.push(encodeAttribute(attribute.backend, Buffer.from(`${settings.backend}\0`)));
  }
  if (settings.sockets !== undefined) {
    const items = settings.sockets.map((fd) =>
      encodeAttribute(socketItem.item, encodeAttribute(socketItem.fd, u32(fd))),
    );
    parts.push(encodeAttribute(attribute.sockets, Buffer.concat(items)));
  }
  return Buffer.concat(parts);
}

/** Of the answer to NBD_CMD_STATUS: whether the device is attached; false where it is not in there. */
export function isConnected(attributes: Uint8Array, index: number): boolean {
  for (const list of attributesOf(attributes, attribute.deviceList)) {
    for (const device of attributesOf(list, deviceItem.item)) {
      const [number] = attributesOf(device, deviceItem.index);
      const [connected] = attributesOf(device, deviceItem.connected);
      if (number?.length === 4 && readU32(number) === index) return connected?.[0] === 1;
    }
  }
  return false;
}

/** Of a message NBD_CMD_LINK_DEAD: whose connection died. */
export function deadIndex(attributes: Uint8Array): number | undefined {
  const [index] = attributesOf(attributes, attribute.index);
  return index?.length === 4 ? readU32(index) : undefined;
}

function encodeAttribute(type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((4 + payload.length) / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + payload.length, little);
  view.setUint16(2, type, little);
  bytes.set(payload, 4);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, little);
  return bytes;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), little);
  return bytes;
}

function readU32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, little);
}

/** The payloads of one type; what is cut short is left out. The type's two top bits are marks (NLA_F_NESTED). */
function attributesOf(bytes: Uint8Array, type: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 4 <= bytes.length;) {
    const lengthBytes = view.getUint16(at, little);
    if (lengthBytes < 4 || lengthBytes > bytes.length - at) break;
    if ((view.getUint16(at + 2, little) & 0x3fff) === type) found.push(bytes.subarray(at + 4, at + lengthBytes));
    at += Math.ceil(lengthBytes / 4) * 4;
  }
  return found;
}
