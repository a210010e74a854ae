/** PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16), RESERVE(6) and RELEASE(6) (SPC-2). */
import type { Command } from '../command.js';
import { readFullStatus, readKeys, readReservation, reportCapabilities } from '../reserve-in-command.js';
import {
  acceptPersistentReserveOut,
  persistentReserveOut,
  release6,
  reserve6,
  reserveOut,
} from '../reserve-out-command.js';
import { row } from './row.js';

function reserveInRow(name: string, serviceAction: number, begin: Command['begin']): Command {
  return row({
    name: `PERSISTENT RESERVE IN, ${name}`,
    usage: '5e 1f 00 00 00 00 00 ff ff 00',
    serviceAction,
    needs: 'unit',
    inquiry: true,
    begin,
  });
}

/** Who may do what is a matter of keys, not of the reservation that there is: SPC-4 5.13.4. */
function reserveOutRow(name: string, serviceAction: number): Command {
  return row({
    name: `PERSISTENT RESERVE OUT, ${name}`,
    usage: '5f 1f ff 00 00 ff ff ff ff 00',
    serviceAction,
    needs: 'unit',
    begin: persistentReserveOut,
    accept: acceptPersistentReserveOut,
  });
}

export const reservation: readonly Command[] = [
  reserveInRow('READ KEYS', 0x00, readKeys),
  reserveInRow('READ RESERVATION', 0x01, readReservation),
  reserveInRow('REPORT CAPABILITIES', 0x02, reportCapabilities),
  reserveInRow('READ FULL STATUS', 0x03, readFullStatus),
  reserveOutRow('REGISTER', reserveOut.register),
  reserveOutRow('RESERVE', reserveOut.reserve),
  reserveOutRow('RELEASE', reserveOut.release),
  reserveOutRow('CLEAR', reserveOut.clear),
  reserveOutRow('PREEMPT', reserveOut.preempt),
  reserveOutRow('PREEMPT AND ABORT', reserveOut.preemptAndAbort),
  reserveOutRow('REGISTER AND IGNORE EXISTING KEY', reserveOut.registerAndIgnore),
  reserveOutRow('REGISTER AND MOVE', reserveOut.registerAndMove),
  row({
    name: 'RESERVE(6)',
    usage: '16 00 00 00 00 00',
    needs: 'unit',
    begin: reserve6,
  }),
  row({
    name: 'RELEASE(6)',
    usage: '17 00 00 00 00 00',
    needs: 'nothing',
    begin: release6,
  }),
];
