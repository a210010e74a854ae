// The arguments of one call from JavaScript, each checked before it is used: a wrong kind is a TypeError, a
// number or range outside its bounds a RangeError, both naming the argument. Every getter returns false after
// it has thrown; the function then returns nullptr at once.
//
// Bare Node-API instead of node-addon-api's classes: those create a handle and an object per argument, which
// doubles what a call on the data path costs.
#ifndef KEEPGATE_BINDING_ARGUMENTS_H_
#define KEEPGATE_BINDING_ARGUMENTS_H_

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace keepgate {

class Instance;

// Of a JavaScript number that counts something: 2^53 - 1.
constexpr int64_t kSafeIntegerMax = (int64_t{1} << 53) - 1;

struct ByteView {
  uint8_t* bytes;
  size_t length;
};

struct SumView {
  uint32_t* sums;
  size_t length;
};

struct NumberView {
  const double* numbers;
  size_t length;
};

class Arguments {
 public:
  static constexpr size_t kCountMax = 8;

  Arguments(napi_env env, napi_callback_info info);

  napi_env env() const { return env_; }
  Instance& instance() const { return *instance_; }
  napi_value value(size_t index) const { return values_[index]; }

  // An integer in [0, max].
  bool Integer(size_t index, const char* name, int64_t max, int64_t* result) const;
  bool Index(size_t index, const char* name, size_t* result) const;
  bool Bytes(size_t index, const char* name, ByteView* result) const;
  bool Sums(size_t index, const char* name, SumView* result) const;
  bool Numbers(size_t index, const char* name, NumberView* result) const;
  bool Text(size_t index, const char* name, std::string* result) const;

  // True when [start, start + length) lies in `available`; else throws a RangeError that names the argument.
  bool Inside(const char* name, size_t start, size_t length, size_t available) const;

  bool ThrowType(const std::string& message) const;
  bool ThrowRange(const std::string& message) const;

  napi_value Boolean(bool value) const;
  napi_value Number(double value) const;

 private:
  napi_env env_;
  Instance* instance_ = nullptr;
  napi_value values_[kCountMax];
};

// A byte view of any Uint8Array (Buffer included); false, without throwing, for anything else.
bool GetBytes(napi_env env, napi_value value, ByteView* result);

}  // namespace keepgate

#endif  // KEEPGATE_BINDING_ARGUMENTS_H_
