// What the kernel knows of a connection (src/platform/connection-delay.ts, socket.ts, socket-listener.ts),
// sending and receiving (socket.ts), and what it is to do with it (kernel-tls.ts).
#include <uv.h>

#include "../core/kernel-tls.h"
#include "../core/socket-now.h"
#include "../core/socket-peer.h"
#include "../core/tcp-delay.h"
#include "arguments.h"
#include "bindings.h"

namespace keepgate {
namespace {

constexpr int64_t kDescriptorMax = 0x7fffffff;
constexpr int64_t kAwakeUsMax = 1'000'000;

template <int64_t (*kAsk)(int)>
napi_value Ask(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t descriptor;
  if (!arguments.Integer(0, "fd", kDescriptorMax, &descriptor)) return nullptr;
  return arguments.Number(static_cast<double>(kAsk(static_cast<int>(descriptor))));
}

// sendNow(fd, bytes, start, end): the bytes taken, or a negative errno
napi_value Send(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t descriptor;
  ByteView view;
  size_t start, end;
  if (!arguments.Integer(0, "fd", kDescriptorMax, &descriptor) || !arguments.Bytes(1, "bytes", &view) ||
      !arguments.Index(2, "start", &start) || !arguments.Index(3, "end", &end) ||
      !arguments.Inside("start", end, 0, view.length) || !arguments.Inside("start", start, 0, end))
    return nullptr;
  return arguments.Number(
      static_cast<double>(SendNow(static_cast<int>(descriptor), view.bytes + start, end - start)));
}

// receiveSoon(fd, bytes, start, awakeUs): the bytes received, or a negative errno
napi_value Receive(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t descriptor;
  ByteView view;
  int64_t start;
  int64_t awake_us;
  if (!arguments.Integer(0, "fd", kDescriptorMax, &descriptor) || !arguments.Bytes(1, "bytes", &view) ||
      !arguments.Integer(2, "start", static_cast<int64_t>(view.length), &start) ||
      !arguments.Integer(3, "awakeUs", kAwakeUsMax, &awake_us))
    return nullptr;
  uv_loop_t* loop;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nullptr;
  // With a timer that is due, or an immediate, the loop would not sleep either.
  const std::chrono::microseconds awake{uv_backend_timeout(loop) == 0 ? 0 : awake_us};
  return arguments.Number(
      static_cast<double>(ReceiveSoon(static_cast<int>(descriptor), view.bytes + start,
                                      view.length - static_cast<size_t>(start), uv_backend_fd(loop), awake)));
}

// (fd, transmit, receive)
napi_value SetKernelTls(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t descriptor;
  ByteView transmit;
  ByteView receive;
  if (!arguments.Integer(0, "fd", kDescriptorMax, &descriptor) ||
      !arguments.Bytes(1, "transmit", &transmit) || !arguments.Bytes(2, "receive", &receive) ||
      !arguments.Inside("transmit", 0, kTlsDirectionBytes, transmit.length) ||
      !arguments.Inside("receive", 0, kTlsDirectionBytes, receive.length)) {
    return nullptr;
  }
  const int64_t result = InstallKernelTls(static_cast<int>(descriptor), transmit.bytes, receive.bytes);
  return arguments.Number(static_cast<double>(result));
}

}  // namespace

bool DefineTcp(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {
      {"tcpRoundTripUs", Ask<TcpRoundTripUs>},
      {"peerUserId", Ask<PeerUserId>},
      {"peerHasLeft", Ask<PeerHasLeft>},
      {"tcpOutstandingBytes", Ask<TcpOutstandingBytes>},
      {"tcpUnanswered", Ask<TcpUnanswered>},
      {"tcpSilentMs", Ask<TcpSilentMs>},
      {"sendNow", Send},
      {"receiveSoon", Receive},
      {"installKernelTls", SetKernelTls},
  };
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
