/**
 * What the options of a handshake have agreed on besides the export ("NBD_OPT_STRUCTURED_REPLY",
 * "NBD_OPT_EXTENDED_HEADERS", "NBD_OPT_SET_META_CONTEXT" of proto.md). STARTTLS begins with a new one: nothing that was
 * agreed on in the clear may count behind it.
 */
import type { MetaContext } from './meta-context.js';
import { replyForm } from './reply-form.js';
import type { ReplyForm } from './reply-form.js';

export class Negotiated {
  #form: ReplyForm = replyForm.simple;
  #contexts: readonly MetaContext[] = [];
  #contextsOf: string | undefined;

  get form(): ReplyForm {
    return this.#form;
  }

  /** Replies come in chunks, structured or extended. */
  get chunked(): boolean {
    return this.#form !== replyForm.simple;
  }

  get extended(): boolean {
    return this.#form === replyForm.extended;
  }

  useStructuredReplies(): void {
    // Extended headers take precedence, whichever option came first.
    if (!this.extended) this.#form = replyForm.structured;
  }

  useExtendedHeaders(): void {
    this.#form = replyForm.extended;
  }

  /** Every SET_META_CONTEXT replaces what the one before selected, also where it fails. */
  forgetContexts(): void {
    this.#contexts = [];
    this.#contextsOf = undefined;
  }

  selectContexts(volume: string, contexts: readonly MetaContext[]): void {
    this.#contexts = contexts;
    this.#contextsOf = volume;
  }

  /** Selected contexts count for the volume that they were selected for, and for no other. */
  contextsFor(volume: string): readonly MetaContext[] {
    return this.#contextsOf === volume ? this.#contexts : [];
  }
}
