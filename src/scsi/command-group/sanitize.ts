/** SANITIZE (SBC-3 5.33). */
import type { Command } from '../command.js';
import {
  acceptSanitizeOverwrite,
  exitSanitizeFailure,
  sanitizeBlockErase,
  sanitizeOverwrite,
} from '../sanitize-command.js';
import { row } from './row.js';

/** How long it takes depends on the volume. */
const timeouts = { nominalSeconds: 0, recommendedSeconds: 0 };

function sanitizeRow(name: string, serviceAction: number, rest: Pick<Command, 'begin' | 'accept'>): Command {
  return row({
    name: `SANITIZE, ${name}`,
    usage: '48 bf 00 00 00 00 00 ff ff 00',
    serviceAction,
    needs: 'write',
    changesMedium: true,
    servedAfterFailedSanitize: true,
    isSupported: ({ sanitizer }) => sanitizer !== undefined,
    timeouts,
    ...rest,
  });
}

export const sanitize: readonly Command[] = [
  sanitizeRow('OVERWRITE', 0x01, {
    begin: sanitizeOverwrite,
    accept: acceptSanitizeOverwrite,
  }),
  sanitizeRow('BLOCK ERASE', 0x02, { begin: sanitizeBlockErase }),
  sanitizeRow('EXIT FAILURE MODE', 0x1f, { begin: exitSanitizeFailure }),
];
