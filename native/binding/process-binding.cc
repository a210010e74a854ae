// What concerns the whole process (src/platform/process-rights.ts, notify.ts), and the names of errors.
#include <string.h>

#include <string>

#include "../core/process-rights.h"
#include "arguments.h"
#include "bindings.h"

namespace keepgate {
namespace {

// setIoFlusher(): how many threads could not be marked, or a negative errno
napi_value MarkIoFlusher(napi_env env, napi_callback_info info) {
  return Arguments(env, info).Number(static_cast<double>(SetIoFlusher()));
}

// lockMemory(): 0 or a negative errno
napi_value KeepInMemory(napi_env env, napi_callback_info info) {
  return Arguments(env, info).Number(static_cast<double>(LockMemory()));
}

// returnFreedMemory(): 0
napi_value BoundAllocator(napi_env env, napi_callback_info info) {
  return Arguments(env, info).Number(static_cast<double>(ReturnFreedMemory()));
}

// yieldToOthers(nice): 0 or a negative errno
napi_value YieldThread(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t nice;
  if (!arguments.Integer(0, "nice", 19, &nice)) return nullptr;
  return arguments.Number(static_cast<double>(YieldToOthers(static_cast<int>(nice))));
}

// notifyServiceManager(socketPath, message): 0 or a negative errno
napi_value Notify(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string socket_path;
  std::string message;
  if (!arguments.Text(0, "socketPath", &socket_path) || !arguments.Text(1, "message", &message))
    return nullptr;
  return arguments.Number(static_cast<double>(NotifyServiceManager(socket_path, message)));
}

// errorText(errno): "Input/output error"
napi_value ErrorText(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t number;
  if (!arguments.Integer(0, "errno", 4095, &number)) return nullptr;
  char text[128];
  napi_value result = nullptr;
  napi_create_string_utf8(env, strerror_r(static_cast<int>(number), text, sizeof text), NAPI_AUTO_LENGTH,
                          &result);
  return result;
}

}  // namespace

bool DefineProcess(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {
      {"setIoFlusher", MarkIoFlusher},       {"lockMemory", KeepInMemory},
      {"returnFreedMemory", BoundAllocator}, {"yieldToOthers", YieldThread},
      {"notifyServiceManager", Notify},      {"errorText", ErrorText},
  };
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
