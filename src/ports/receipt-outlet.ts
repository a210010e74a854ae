/** Where a volume's receipts are kept off its directory. */
export interface ReceiptOutlet {
  /** What was published last; undefined: nothing is there. Rejects where that cannot be found out. */
  readBack(): Promise<string | undefined>;
  /** Replaces what was published before, whole or not at all. */
  publish(text: string): Promise<void>;
}
