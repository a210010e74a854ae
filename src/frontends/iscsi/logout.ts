/** Logout (RFC 7143, sections 11.14, 11.15) at error recovery level 0. */
import { readU16, readU32 } from '../../scsi/big-endian.js';
import type { Responder } from './responder.js';
import type { Session, SessionConnection } from './session.js';
import { field, FINAL, logoutReason, logoutResponse, rejectReason } from './wire.js';

/** The connection that a logout came on. */
interface AskingConnection extends SessionConnection {
  readonly session: Session;
  readonly responder: Responder;
  /** As `logOut`, with the answer to the logout as the last thing that is sent. */
  logOutWith(initiatorTaskTag: number, response: number): void;
}

export function logOut(connection: AskingConnection, header: Uint8Array, at: number): void {
  const { session, responder } = connection;
  const tag = readU32(header, at + field.initiatorTaskTag);
  const connectionId = readU16(header, at + field.connectionId);
  switch ((header[at + field.flags] ?? 0) & ~FINAL) {
    case logoutReason.closeSession:
      session.logoutOthers(connection);
      connection.logOutWith(tag, logoutResponse.closed);
      return;
    case logoutReason.closeConnection: {
      const other = session.connection(connectionId);
      if (other === undefined) {
        responder.logout(tag, logoutResponse.noConnection);
      } else if (other === connection) {
        connection.logOutWith(tag, logoutResponse.closed);
      } else {
        other.logOut();
        responder.logout(tag, logoutResponse.closed);
      }
      return;
    }
    case logoutReason.removeForRecovery:
      responder.logout(tag, logoutResponse.recoveryNotSupported);
      return;
    default:
      responder.reject(rejectReason.invalidPduField, header, at);
  }
}
