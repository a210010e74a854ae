// Paths (src/platform/native-disk.ts). Every function takes a lane's number and paths, and answers with a
// promise of a result or a negative errno; only wrong arguments throw.
#include <memory>
#include <string>
#include <utility>

#include "../core/directory.h"
#include "../core/new-file.h"
#include "arguments.h"
#include "bindings.h"
#include "instance.h"

namespace keepgate {
namespace {

bool GetLaneAndPath(const Arguments& arguments, Lane** lane, std::string* path) {
  size_t number;
  if (!arguments.Index(0, "lane", &number) || !arguments.Text(1, "path", path)) return false;
  *lane = arguments.instance().LaneAt(number);
  return *lane != nullptr || arguments.ThrowRange("there is no lane " + std::to_string(number));
}

using PathCall = int64_t (*)(const std::string&);

// (lane, path)
template <PathCall kCall>
napi_value OnPath(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Lane* lane;
  std::string path;
  if (!GetLaneAndPath(arguments, &lane, &path)) return nullptr;
  return arguments.instance().Run(lane, [path]() -> Outcome { return kCall(path); });
}

// list(lane, path): a promise of names, without order
napi_value List(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Lane* lane;
  std::string path;
  if (!GetLaneAndPath(arguments, &lane, &path)) return nullptr;
  return arguments.instance().Run(lane, [path]() -> Outcome {
    Names names;
    const int64_t error = ListDirectory(path, &names);
    if (error < 0) return error;
    return names;
  });
}

// rename(lane, from, to)
napi_value RenamePath(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Lane* lane;
  std::string from;
  std::string to;
  if (!GetLaneAndPath(arguments, &lane, &from) || !arguments.Text(2, "to", &to)) return nullptr;
  return arguments.instance().Run(lane, [from, to]() -> Outcome { return Rename(from, to); });
}

// readSmall(lane, path, lengthMax): a promise of bytes
napi_value ReadSmallFile(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Lane* lane;
  std::string path;
  size_t length_max;
  if (!GetLaneAndPath(arguments, &lane, &path) || !arguments.Index(2, "lengthMax", &length_max))
    return nullptr;
  return arguments.instance().Run(lane, [path, length_max]() -> Outcome {
    Content content;
    const int64_t count = ReadSmall(path, length_max, &content);
    if (count < 0) return count;
    return content;
  });
}

using ContentCall = int64_t (*)(const std::string&, const uint8_t*, size_t);

// (lane, path, bytes)
template <ContentCall kCall>
napi_value OnContent(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  Lane* lane;
  std::string path;
  ByteView bytes;
  if (!GetLaneAndPath(arguments, &lane, &path) || !arguments.Bytes(2, "bytes", &bytes)) return nullptr;
  return arguments.instance().Run(
      lane, [path, bytes]() -> Outcome { return kCall(path, bytes.bytes, bytes.length); },
      {arguments.value(2)});
}

}  // namespace

bool DefineDirectories(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {
      {"exists", OnPath<Exists>},
      {"list", List},
      {"makeDirectories", OnPath<MakeDirectories>},
      {"rename", RenamePath},
      {"remove", OnPath<Remove>},
      {"syncDirectory", OnPath<SyncDirectory>},
      {"readSmall", ReadSmallFile},
      {"writeSmall", OnContent<WriteSmall>},
      {"writeNewFile", OnContent<WriteNewFile>},
      {"freeBytes", OnPath<FreeBytes>},
  };
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
