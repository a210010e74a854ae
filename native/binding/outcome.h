// What an operation on a lane hands back to JavaScript.
#ifndef KEEPGATE_BINDING_OUTCOME_H_
#define KEEPGATE_BINDING_OUTCOME_H_

#include <node_api.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "../core/file.h"

namespace keepgate {

using Names = std::vector<std::string>;
using Content = std::vector<uint8_t>;

// A number (negative: an errno), a range as [start, end], names as an array of strings, or bytes as a
// Uint8Array.
using Outcome = std::variant<int64_t, DataRange, Names, Content>;

// Null where the environment can no longer make values.
napi_value ToValue(napi_env env, const Outcome& outcome);

}  // namespace keepgate

#endif  // KEEPGATE_BINDING_OUTCOME_H_
