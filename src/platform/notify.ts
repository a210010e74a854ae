/** Tells a service manager (systemd, Type=notify) how the service is: sd_notify(3), without its library. */
import { loadAddon } from './addon.js';

/**
 * `state` as sd_notify takes it: "READY=1", "STOPPING=1", "STATUS=…", lines joined by newlines. False where there is no
 * service manager, or it does not answer: never worth failing for.
 */
export function notifyServiceManager(state: string): boolean {
  const socketPath = process.env.NOTIFY_SOCKET;
  if (socketPath === undefined || socketPath === '') return false;
  return loadAddon().notifyServiceManager(socketPath, state) >= 0;
}
