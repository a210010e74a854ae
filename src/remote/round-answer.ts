/** The volume's end of the questions about rounds that its replicator asks from another thread (round-link.ts). */
import { GatewayError } from '../base/errors.js';
import type { RoundSource } from '../ports/replication.js';
import type { RoundAnswer, RoundAsk } from './replication-messages.js';

/** What the volume says to a question of its replicator. */
export async function answerRound(source: RoundSource, ask: RoundAsk): Promise<RoundAnswer> {
  try {
    switch (ask.do) {
      case 'begin':
        return { to: 'begin', result: await source.begin() };
      case 'read':
        return { to: 'read', result: await source.read(ask.round, ask.from, ask.blocksMax) };
      case 'end':
        return { to: 'end', result: await source.end(ask.round) };
    }
  } catch (error) {
    // A volume whose disk has failed ends its process itself.
    const code = error instanceof GatewayError ? error.code : 'disk-failed';
    return { to: 'failed', result: { code, message: error instanceof Error ? error.message : String(error) } };
  }
}
