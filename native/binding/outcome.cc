#include "outcome.h"

#include <cstring>

namespace keepgate {
namespace {

napi_value ToNumber(napi_env env, int64_t number) {
  napi_value value = nullptr;
  napi_create_double(env, static_cast<double>(number), &value);
  return value;
}

struct Converter {
  napi_env env;

  napi_value operator()(int64_t number) const { return ToNumber(env, number); }

  napi_value operator()(const DataRange& range) const {
    napi_value pair = nullptr;
    napi_create_array_with_length(env, 2, &pair);
    napi_set_element(env, pair, 0, ToNumber(env, range.start));
    napi_set_element(env, pair, 1, ToNumber(env, range.end));
    return pair;
  }

  napi_value operator()(const Names& names) const {
    napi_value list = nullptr;
    napi_create_array_with_length(env, names.size(), &list);
    for (uint32_t index = 0; index < names.size(); ++index) {
      napi_value name = nullptr;
      napi_create_string_utf8(env, names[index].data(), names[index].size(), &name);
      napi_set_element(env, list, index, name);
    }
    return list;
  }

  napi_value operator()(const Content& content) const {
    void* data = nullptr;
    napi_value buffer = nullptr;
    napi_value bytes = nullptr;
    if (napi_create_arraybuffer(env, content.size(), &data, &buffer) != napi_ok) return nullptr;
    if (!content.empty()) std::memcpy(data, content.data(), content.size());
    napi_create_typedarray(env, napi_uint8_array, content.size(), buffer, 0, &bytes);
    return bytes;
  }
};

}  // namespace

napi_value ToValue(napi_env env, const Outcome& outcome) { return std::visit(Converter{env}, outcome); }

}  // namespace keepgate
