// The parts of the addon, each of which defines its functions on `exports`.
#ifndef KEEPGATE_BINDING_BINDINGS_H_
#define KEEPGATE_BINDING_BINDINGS_H_

#include <node_api.h>

namespace keepgate {

class Instance;

struct Binding {
  const char* name;
  napi_callback function;
};

// Defines each as a function whose Arguments know the instance. False after throwing.
bool Define(napi_env env, napi_value exports, Instance* instance, const Binding* bindings, size_t count);

bool DefineChecksums(napi_env env, napi_value exports, Instance* instance);
bool DefineCipher(napi_env env, napi_value exports, Instance* instance);
bool DefineBuffers(napi_env env, napi_value exports, Instance* instance);
bool DefineFiles(napi_env env, napi_value exports, Instance* instance);
bool DefineDirectories(napi_env env, napi_value exports, Instance* instance);
bool DefineProcess(napi_env env, napi_value exports, Instance* instance);
bool DefineTcp(napi_env env, napi_value exports, Instance* instance);
bool DefineNetlink(napi_env env, napi_value exports, Instance* instance);

}  // namespace keepgate

#endif  // KEEPGATE_BINDING_BINDINGS_H_
