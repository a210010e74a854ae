/**
 * Follows the gateway's events over fetch, since an EventSource cannot carry a token. Every stream begins with all there
 * is, so that a break needs nothing but a new one.
 */

const waitMsMin = 1000;
const waitMsMax = 10_000;
/** The gateway says every five seconds that it is there. */
const silenceMsMax = 15_000;

/**
 * @typedef {object} Follower
 * @property {() => void} opened  a new stream begins
 * @property {(event: string, data: any) => void} event
 * @property {(why: string) => void} lost  tries again by itself
 * @property {() => void} refused  it needs a token, or another one; follow anew with it
 */

/**
 * Returns how to end it.
 * @param {string | undefined} token
 * @param {Follower} follower
 */
export function follow(token, follower) {
  const ended = new AbortController();
  void (async () => {
    let waitMs = waitMsMin;
    while (!ended.signal.aborted) {
      try {
        const response = await fetch('/v1/events', { headers: authorization(token), signal: ended.signal });
        if (response.status === 401) return follower.refused();
        if (!response.ok || response.body === null) throw new Error(`the gateway answered ${response.status}`);
        waitMs = waitMsMin;
        follower.opened();
        await read(response.body.pipeThrough(new TextDecoderStream()).getReader(), follower);
        follower.lost('the gateway ended the connection');
      } catch (error) {
        if (ended.signal.aborted) return;
        follower.lost(error instanceof TypeError ? 'the gateway does not answer' : String(error));
      }
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      waitMs = Math.min(waitMsMax, waitMs * 2);
    }
  })();
  return () => ended.abort();
}

/** @param {string | undefined} token @returns {Record<string, string>} */
export function authorization(token) {
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

/**
 * Returns when the gateway ends the stream. @throws when it breaks, or nothing comes for too long
 * @param {ReadableStreamDefaultReader<string>} reader
 * @param {Follower} follower
 */
async function read(reader, follower) {
  let text = '';
  for (;;) {
    const silence = setTimeout(() => void reader.cancel('silence'), silenceMsMax);
    const beganMs = performance.now();
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done && performance.now() - beganMs >= silenceMsMax) throw new TypeError('silence');
    if (done) return;
    text += value;
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const match = /^event: (\S+)\ndata: (.*)$/.exec(block);
      if (match?.[1] !== undefined) follower.event(match[1], JSON.parse(match[2] ?? ''));
    }
  }
}
