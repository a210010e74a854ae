#include "arguments.h"

#include <cmath>

namespace keepgate {
namespace {

bool GetTyped(napi_env env, napi_value value, napi_typedarray_type wanted, void** data, size_t* length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, length, data, nullptr, nullptr) != napi_ok) return false;
  return type == wanted;
}

}  // namespace

Arguments::Arguments(napi_env env, napi_callback_info info) : env_(env) {
  size_t count = kCountMax;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, values_, nullptr, &data);  // missing arguments are undefined
  instance_ = static_cast<Instance*>(data);
}

bool Arguments::Integer(size_t index, const char* name, int64_t max, int64_t* result) const {
  double number;
  if (napi_get_value_double(env_, values_[index], &number) != napi_ok) {
    return ThrowType(std::string(name) + " must be a number");
  }
  // Written so that NaN fails.
  if (!(number >= 0 && number <= static_cast<double>(max)) || number != std::floor(number)) {
    return ThrowRange(std::string(name) + " must be an integer from 0 to " + std::to_string(max));
  }
  *result = static_cast<int64_t>(number);
  return true;
}

bool Arguments::Index(size_t index, const char* name, size_t* result) const {
  int64_t integer;
  if (!Integer(index, name, kSafeIntegerMax, &integer)) return false;
  *result = static_cast<size_t>(integer);
  return true;
}

bool Arguments::Bytes(size_t index, const char* name, ByteView* result) const {
  return GetBytes(env_, values_[index], result) || ThrowType(std::string(name) + " must be a Uint8Array");
}

bool Arguments::Sums(size_t index, const char* name, SumView* result) const {
  void* data;
  if (!GetTyped(env_, values_[index], napi_uint32_array, &data, &result->length)) {
    return ThrowType(std::string(name) + " must be a Uint32Array");
  }
  result->sums = static_cast<uint32_t*>(data);
  return true;
}

bool Arguments::Numbers(size_t index, const char* name, NumberView* result) const {
  void* data;
  if (!GetTyped(env_, values_[index], napi_float64_array, &data, &result->length)) {
    return ThrowType(std::string(name) + " must be a Float64Array");
  }
  result->numbers = static_cast<const double*>(data);
  return true;
}

bool Arguments::Text(size_t index, const char* name, std::string* result) const {
  size_t length = 0;
  if (napi_get_value_string_utf8(env_, values_[index], nullptr, 0, &length) != napi_ok) {
    return ThrowType(std::string(name) + " must be a string");
  }
  result->resize(length + 1);
  napi_get_value_string_utf8(env_, values_[index], result->data(), result->size(), &length);
  result->resize(length);
  if (result->find('\0') != std::string::npos)
    return ThrowRange(std::string(name) + " must not contain a NUL");
  return true;
}

bool Arguments::Inside(const char* name, size_t start, size_t length, size_t available) const {
  if (start <= available && length <= available - start) return true;
  return ThrowRange(std::to_string(length) + " elements from " + std::to_string(start) +
                    " do not fit into the " + std::to_string(available) + " of " + name);
}

bool Arguments::ThrowType(const std::string& message) const {
  napi_throw_type_error(env_, "ERR_INVALID_ARG_TYPE", message.c_str());
  return false;
}

bool Arguments::ThrowRange(const std::string& message) const {
  napi_throw_range_error(env_, "ERR_OUT_OF_RANGE", message.c_str());
  return false;
}

napi_value Arguments::Boolean(bool value) const {
  napi_value result = nullptr;
  napi_get_boolean(env_, value, &result);
  return result;
}

napi_value Arguments::Number(double value) const {
  napi_value result = nullptr;
  napi_create_double(env_, value, &result);
  return result;
}

bool GetBytes(napi_env env, napi_value value, ByteView* result) {
  void* data;
  if (!GetTyped(env, value, napi_uint8_array, &data, &result->length)) return false;
  result->bytes = static_cast<uint8_t*>(data);
  return true;
}

}  // namespace keepgate
