#include "new-file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "aligned-pool.h"
#include "file.h"

namespace keepgate {
namespace {

constexpr size_t kDirectBytesMin = size_t{1} << 20;
// What every disk takes for offset, length and memory.
constexpr size_t kAlignment = 4096;
constexpr size_t kStageBytes = size_t{1} << 20;

bool SetDirect(int fd, bool direct) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

int64_t WriteAt(int fd, const uint8_t* bytes, size_t length, size_t position) {
  iovec part = {const_cast<uint8_t*>(bytes), length};
  return WriteFully(fd, &part, 1, static_cast<int64_t>(position));
}

// By way of aligned memory, the last page filled up with zeros.
int64_t WriteStaged(int fd, const uint8_t* bytes, size_t length, size_t from) {
  uint8_t* stage = ProcessAlignedPool().Take(kStageBytes);
  if (stage == nullptr) return -ENOMEM;
  int64_t result = 0;
  for (size_t at = from; at < length && result == 0; at += kStageBytes) {
    const size_t piece = std::min(kStageBytes, length - at);
    const size_t padded = (piece + kAlignment - 1) / kAlignment * kAlignment;
    std::memcpy(stage, bytes + at, piece);
    std::memset(stage + piece, 0, padded - piece);
    result = WriteAt(fd, stage, padded, at);
  }
  ProcessAlignedPool().Give(stage, kStageBytes);
  return result;
}

int64_t WriteDirectly(int fd, const uint8_t* bytes, size_t length) {
  const bool aligned = reinterpret_cast<uintptr_t>(bytes) % kAlignment == 0;
  const size_t whole = aligned ? length / kAlignment * kAlignment : 0;
  if (whole > 0) {
    if (const int64_t error = WriteAt(fd, bytes, whole, 0); error < 0) return error;
  }
  if (whole == length) return 0;
  if (const int64_t error = WriteStaged(fd, bytes, length, whole); error < 0) return error;
  return Truncate(fd, static_cast<int64_t>(length));
}

// EINVAL: no direct I/O here. A short write that ends unaligned is answered so too, at its continuation.
bool IsRefusal(int64_t error) { return error == -EINVAL || error == -EOPNOTSUPP; }

int64_t WriteContent(int fd, const uint8_t* bytes, size_t length) {
  if (length >= kDirectBytesMin && SetDirect(fd, true)) {
    const int64_t error = WriteDirectly(fd, bytes, length);
    if (!IsRefusal(error)) return error;
    if (!SetDirect(fd, false)) return error;
    if (const int64_t emptied = Truncate(fd, 0); emptied < 0) return emptied;
  }
  return WriteAt(fd, bytes, length, 0);
}

}  // namespace

int64_t WriteNewFile(const std::string& path, const uint8_t* bytes, size_t length) {
  int fd;
  do {
    fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return -errno;
  int64_t result = WriteContent(fd, bytes, length);
  if (result == 0 && fsync(fd) != 0) result = -errno;
  if (close(fd) != 0 && result == 0 && errno != EINTR) result = -errno;
  return result;
}

}  // namespace keepgate
