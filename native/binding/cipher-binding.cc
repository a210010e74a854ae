// src/ports/frame-cipher.ts with Node's own OpenSSL, whose symbols Node exports and whose headers lie beside
// its own: node:crypto allocates the ciphertext of every call anew, which costs several times what the
// encryption does. Where the headers are missing, or Node was built without OpenSSL, sealFrame is not
// defined.
#include <cstddef>
#include <cstdint>
#include <string>

#include "../core/block-sum.h"
#include "arguments.h"
#include "bindings.h"

#if __has_include(<openssl/evp.h>)
#include <openssl/evp.h>

// Null where this Node has none.
#pragma weak EVP_CIPHER_CTX_new
#pragma weak EVP_CIPHER_CTX_free
#pragma weak EVP_CIPHER_CTX_ctrl
#pragma weak EVP_EncryptInit_ex
#pragma weak EVP_EncryptUpdate
#pragma weak EVP_EncryptFinal_ex
#pragma weak EVP_aes_256_gcm

namespace keepgate {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kPlainBytesMax = size_t{1} << 30;

bool HasOpenSsl() {
  return EVP_CIPHER_CTX_new != nullptr && EVP_CIPHER_CTX_free != nullptr && EVP_CIPHER_CTX_ctrl != nullptr &&
         EVP_EncryptInit_ex != nullptr && EVP_EncryptUpdate != nullptr && EVP_EncryptFinal_ex != nullptr &&
         EVP_aes_256_gcm != nullptr;
}

// One per thread, so that the cipher is looked up once. Freeing it wipes the key.
class Context {
 public:
  Context() : context_(EVP_CIPHER_CTX_new()) {
    ready_ = context_ != nullptr &&
             EVP_EncryptInit_ex(context_, EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1 &&
             EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_SET_IVLEN, kNonceBytes, nullptr) == 1;
  }
  ~Context() { EVP_CIPHER_CTX_free(context_); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  bool Begin(const uint8_t* key, const uint8_t* nonce, const ByteView& associated) {
    return ready_ && EVP_EncryptInit_ex(context_, nullptr, nullptr, key, nonce) == 1 &&
           Update(nullptr, associated.bytes, associated.length);
  }
  bool Update(uint8_t* target, const uint8_t* plain, size_t length) {
    int written = 0;
    return EVP_EncryptUpdate(context_, target, &written, plain, static_cast<int>(length)) == 1 &&
           written == static_cast<int>(length);
  }
  bool Finish(uint8_t* tag) {
    int written = 0;
    uint8_t nothing[kTagBytes];
    return EVP_EncryptFinal_ex(context_, nothing, &written) == 1 && written == 0 &&
           EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag) == 1;
  }

 private:
  EVP_CIPHER_CTX* const context_;
  bool ready_ = false;
};

bool Has(const Arguments& arguments, const char* name, const ByteView& bytes, size_t length) {
  return bytes.length == length ||
         arguments.ThrowRange(std::string(name) + " must have " + std::to_string(length) + " bytes");
}

bool Overlap(const uint8_t* left, size_t left_length, const uint8_t* right, size_t right_length) {
  const auto left_start = reinterpret_cast<uintptr_t>(left);
  const auto right_start = reinterpret_cast<uintptr_t>(right);
  return left_start < right_start + right_length && right_start < left_start + left_length;
}

// The blocks `order` of `plain`, those that lie together in one piece.
bool UpdateBlocks(Context* context, uint8_t* target, const uint8_t* plain, const SumView& order) {
  for (size_t at = 0; at < order.length;) {
    size_t run = 1;
    while (at + run < order.length && order.sums[at + run] == order.sums[at] + run) ++run;
    if (!context->Update(target + at * kBlockBytes, plain + size_t{order.sums[at]} * kBlockBytes,
                         run * kBlockBytes)) {
      return false;
    }
    at += run;
  }
  return true;
}

// sealFrame(key, nonce, associated, plain, blocks, target, targetStart)
napi_value SealFrame(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ByteView key;
  ByteView nonce;
  ByteView associated;
  ByteView plain;
  SumView order = {nullptr, 0};
  ByteView target;
  size_t start;
  napi_valuetype type;
  if (!arguments.Bytes(0, "key", &key) || !arguments.Bytes(1, "nonce", &nonce) ||
      !arguments.Bytes(2, "associated", &associated) || !arguments.Bytes(3, "plain", &plain) ||
      !arguments.Bytes(5, "target", &target) || !arguments.Index(6, "targetStart", &start) ||
      !Has(arguments, "key", key, kKeyBytes) || !Has(arguments, "nonce", nonce, kNonceBytes) ||
      napi_typeof(env, arguments.value(4), &type) != napi_ok) {
    return nullptr;
  }
  const bool gathers = type != napi_undefined;
  if (gathers && !arguments.Sums(4, "blocks", &order)) return nullptr;
  for (size_t at = 0; at < order.length; ++at) {
    if (!arguments.Inside("plain", size_t{order.sums[at]} * kBlockBytes, kBlockBytes, plain.length)) {
      return nullptr;
    }
  }
  const size_t length = gathers ? order.length * kBlockBytes : plain.length;
  if (length > kPlainBytesMax || associated.length > kPlainBytesMax) {
    arguments.ThrowRange("a frame must not be larger than 1 GiB");
    return nullptr;
  }
  if (!arguments.Inside("target", start, length + kTagBytes, target.length)) return nullptr;
  uint8_t* sealed = target.bytes + start;
  if (Overlap(plain.bytes, plain.length, sealed, length + kTagBytes)) {
    arguments.ThrowRange("plain and target must not overlap");
    return nullptr;
  }
  static thread_local Context context;
  const bool done = context.Begin(key.bytes, nonce.bytes, associated) &&
                    (gathers ? UpdateBlocks(&context, sealed, plain.bytes, order)
                             : context.Update(sealed, plain.bytes, length)) &&
                    context.Finish(sealed + length);
  if (!done) napi_throw_error(env, "ERR_CRYPTO_OPERATION_FAILED", "AES-256-GCM failed");
  return nullptr;
}

}  // namespace

bool DefineCipher(napi_env env, napi_value exports, Instance* instance) {
  if (!HasOpenSsl()) return true;
  constexpr Binding kBindings[] = {{"sealFrame", SealFrame}};
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate

#else

namespace keepgate {

bool DefineCipher(napi_env, napi_value, Instance*) { return true; }

}  // namespace keepgate

#endif
