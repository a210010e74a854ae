// Page-aligned buffers that JavaScript owns: the memory goes back to the pool when the ArrayBuffer is
// collected.
#include <cstdint>
#include <cstring>

#include "../core/aligned-pool.h"
#include "arguments.h"
#include "bindings.h"

namespace keepgate {
namespace {

constexpr int64_t kAlignedBytesMax = int64_t{1} << 30;
constexpr size_t kPageBytes = 4096;

napi_value View(const Arguments& arguments, napi_value buffer, size_t offset, size_t length) {
  napi_value bytes = nullptr;
  napi_create_typedarray(arguments.env(), napi_uint8_array, length, buffer, offset, &bytes);
  return bytes;
}

// Where the runtime allows no memory but its own: a larger buffer of its, and the aligned part of that.
napi_value AlignedPart(const Arguments& arguments, size_t length) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_arraybuffer(arguments.env(), length + kPageBytes, &data, &buffer) != napi_ok)
    return nullptr;
  const size_t beyond = reinterpret_cast<uintptr_t>(data) % kPageBytes;
  return View(arguments, buffer, beyond == 0 ? 0 : kPageBytes - beyond, length);
}

// alignedBuffer(lengthBytes)
napi_value AlignedBuffer(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t wanted;
  if (!arguments.Integer(0, "lengthBytes", kAlignedBytesMax, &wanted)) return nullptr;
  const auto length = static_cast<size_t>(wanted);
  uint8_t* memory = ProcessAlignedPool().Take(length);
  if (memory == nullptr) {
    napi_throw_error(env, "ENOMEM", "no memory for a page-aligned buffer");
    return nullptr;
  }
  const auto give = [](napi_env, void* data, void* hint) {
    ProcessAlignedPool().Give(static_cast<uint8_t*>(data), reinterpret_cast<uintptr_t>(hint));
  };
  napi_value buffer = nullptr;
  const napi_status status =
      napi_create_external_arraybuffer(env, memory, length, give, reinterpret_cast<void*>(length), &buffer);
  if (status == napi_ok) return View(arguments, buffer, 0, length);
  ProcessAlignedPool().Give(memory, length);
  return AlignedPart(arguments, length);
}

// discard(bytes)
napi_value Discard(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView view;
  if (arguments.Bytes(0, "bytes", &view)) DiscardPages(view.bytes, view.length);
  return nullptr;
}

}  // namespace

bool DefineBuffers(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {{"alignedBuffer", AlignedBuffer}, {"discard", Discard}};
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
