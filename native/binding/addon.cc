// The addon's entry point, run once in every environment that loads it (src/platform/addon.ts declares what
// it exports).
#include <napi.h>

#include "bindings.h"
#include "instance.h"

namespace keepgate {

bool Define(napi_env env, napi_value exports, Instance* instance, const Binding* bindings, size_t count) {
  for (size_t index = 0; index < count; ++index) {
    napi_value function = nullptr;
    if (napi_create_function(env, bindings[index].name, NAPI_AUTO_LENGTH, bindings[index].function, instance,
                             &function) != napi_ok ||
        napi_set_named_property(env, exports, bindings[index].name, function) != napi_ok) {
      napi_throw_error(env, nullptr, "the addon cannot define its functions");
      return false;
    }
  }
  return true;
}

}  // namespace keepgate

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  keepgate::Instance* instance = keepgate::Instance::Create(env);
  if (instance == nullptr) return exports;
  static_cast<void>(
      keepgate::DefineChecksums(env, exports, instance) && keepgate::DefineCipher(env, exports, instance) &&
      keepgate::DefineBuffers(env, exports, instance) && keepgate::DefineFiles(env, exports, instance) &&
      keepgate::DefineDirectories(env, exports, instance) &&
      keepgate::DefineProcess(env, exports, instance) && keepgate::DefineTcp(env, exports, instance) &&
      keepgate::DefineNetlink(env, exports, instance));
  return exports;
}

NODE_API_MODULE(keepgate, Init)
