#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace keepgate {
namespace {

// One read or write transfers at most this much (read(2)); asking for more is pointless.
constexpr size_t kTransferBytesMax = 0x7ffff000;
constexpr size_t kZeroBytes = 64 * 1024;
// One call makes page-cache folios as large as what it writes, and every later write of a few bytes walks
// over all blocks of its folio: an append of 4 KiB takes 2.5 us in a file that was filled 1 MiB at a
// time, 1.3 us with these pieces.
constexpr size_t kWritePieceBytes = 256 * 1024;
// Reading so much that nobody asked for costs less than another system call.
constexpr size_t kGapBytesMax = 16 * 1024;

// Not const, so that it lies in .bss and costs the file no space; nobody writes to it.
alignas(4096) uint8_t zeros[kZeroBytes];

int64_t WriteZeros(int fd, int64_t position, int64_t length) {
  while (length > 0) {
    iovec parts[16];
    size_t count = 0;
    int64_t bytes = 0;
    for (; count < 16 && bytes < length; ++count) {
      const int64_t piece = std::min<int64_t>(length - bytes, static_cast<int64_t>(kZeroBytes));
      parts[count] = {zeros, static_cast<size_t>(piece)};
      bytes += piece;
    }
    if (const int64_t error = WriteFully(fd, parts, count, position); error < 0) return error;
    position += bytes;
    length -= bytes;
  }
  return 0;
}

int64_t ZerosWithinSize(int fd, int64_t position, int64_t length) {
  const int64_t size = FileSize(fd);
  if (size < 0) return size;
  return position < size ? WriteZeros(fd, position, std::min(length, size - position)) : 0;
}

// Takes whole parts off the front, and the beginning of the next, that `count` bytes fill.
void Advance(iovec** parts, size_t* left, size_t count) {
  while (*left > 0 && count >= (*parts)->iov_len) {
    count -= (*parts)->iov_len;
    ++*parts;
    --*left;
  }
  if (count > 0) {
    (*parts)->iov_base = static_cast<uint8_t*>((*parts)->iov_base) + count;
    (*parts)->iov_len -= count;
  }
}

// Reads until the parts are full or the file ends. The parts are used up.
int64_t ReadParts(int fd, iovec* parts, size_t count, int64_t position) {
  int64_t done = 0;
  while (count > 0) {
    const ssize_t result = preadv(fd, parts, static_cast<int>(count), position + done);
    if (result == 0) break;
    if (result < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    done += result;
    Advance(&parts, &count, static_cast<size_t>(result));
  }
  return done;
}

}  // namespace

int64_t ReadCached(int fd, uint8_t* target, size_t length, int64_t position) {
  const iovec part = {target, std::min(length, kTransferBytesMax)};
  for (;;) {
    const ssize_t count = preadv2(fd, &part, 1, position, RWF_NOWAIT);
    if (count >= 0) return count;
    if (errno != EINTR) return -errno;
  }
}

int64_t ReadFully(int fd, uint8_t* target, size_t length, int64_t position) {
  size_t done = 0;
  while (done < length) {
    const size_t asked = std::min(length - done, kTransferBytesMax);
    const ssize_t count = pread(fd, target + done, asked, position + static_cast<int64_t>(done));
    if (count == 0) break;
    if (count < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    done += static_cast<size_t>(count);
  }
  return static_cast<int64_t>(done);
}

int64_t ReadRuns(int fd, const std::vector<ReadRun>& runs) {
  std::vector<uint8_t> gap(kGapBytesMax);
  std::vector<iovec> parts;
  int64_t done = 0;
  for (size_t first = 0; first < runs.size();) {
    int64_t end = runs[first].position;
    size_t next = first;
    int64_t wanted = 0;
    parts.clear();
    for (; next < runs.size() && parts.size() + 2 <= IOV_MAX; ++next) {
      const ReadRun& run = runs[next];
      if (run.position < end || run.position - end > static_cast<int64_t>(kGapBytesMax)) break;
      if (run.position > end) parts.push_back({gap.data(), static_cast<size_t>(run.position - end)});
      if (!parts.empty() &&
          static_cast<uint8_t*>(parts.back().iov_base) + parts.back().iov_len == run.bytes) {
        parts.back().iov_len += run.length;
      } else {
        parts.push_back({run.bytes, run.length});
      }
      end = run.position + static_cast<int64_t>(run.length);
      wanted += static_cast<int64_t>(run.length);
    }
    const int64_t asked = end - runs[first].position;
    const int64_t count = ReadParts(fd, parts.data(), parts.size(), runs[first].position);
    if (count < 0) return count;
    if (count < asked) return done;
    done += wanted;
    first = next;
  }
  return done;
}

int64_t WriteFully(int fd, iovec* parts, size_t count, int64_t position) {
  while (count > 0) {
    if (parts->iov_len == 0) {
      ++parts;
      --count;
      continue;
    }
    const size_t room = kWritePieceBytes - static_cast<size_t>(position) % kWritePieceBytes;
    const size_t most = std::min<size_t>(count, IOV_MAX);
    size_t used = 0;
    size_t length = 0;
    while (used < most && length < room) length += parts[used++].iov_len;
    const size_t over = length > room ? length - room : 0;
    parts[used - 1].iov_len -= over;
    const ssize_t result = pwritev(fd, parts, static_cast<int>(used), position);
    parts[used - 1].iov_len += over;
    if (result < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (result == 0) return -EIO;  // a regular file always takes something
    position += result;
    Advance(&parts, &count, static_cast<size_t>(result));
  }
  return 0;
}

int64_t WriteRuns(int fd, const std::vector<WriteRun>& runs) {
  std::vector<iovec> parts;
  for (size_t first = 0; first < runs.size();) {
    int64_t end = runs[first].position;
    size_t next = first;
    parts.clear();
    while (next < runs.size() && runs[next].position == end && parts.size() < IOV_MAX) {
      parts.push_back({const_cast<uint8_t*>(runs[next].bytes), runs[next].length});
      end += static_cast<int64_t>(runs[next].length);
      ++next;
    }
    if (const int64_t error = WriteFully(fd, parts.data(), parts.size(), runs[first].position); error < 0) {
      return error;
    }
    first = next;
  }
  return 0;
}

int64_t SyncData(int fd) { return fdatasync(fd) == 0 ? 0 : -errno; }

void StartWriteOut(int fd, int64_t position, int64_t length) {
  // A length of 0 would mean "to the end of the file".
  if (length > 0) static_cast<void>(sync_file_range(fd, position, length, SYNC_FILE_RANGE_WRITE));
}

int64_t Reserve(int fd, int64_t position, int64_t length) {
  if (length == 0) return 0;
  for (;;) {
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, position, length) == 0) return 0;
    if (errno != EINTR) return errno == ENOSYS ? -EOPNOTSUPP : -errno;
  }
}

int64_t Allocate(int fd, int64_t position, int64_t length) {
  const int64_t result = Reserve(fd, position, length);
  return result == -EOPNOTSUPP ? 0 : result;
}

int64_t ZeroRange(int fd, int64_t position, int64_t length) {
  if (length == 0) return 0;
  for (;;) {
    if (fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, position, length) == 0) return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS) break;
    if (errno != EINTR) return -errno;
  }
  return ZerosWithinSize(fd, position, length);
}

int64_t PunchHole(int fd, int64_t position, int64_t length) {
  if (length == 0) return 0;
  for (;;) {
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length) == 0) return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS) break;
    if (errno != EINTR) return -errno;
  }
  return ZerosWithinSize(fd, position, length);
}

int64_t Truncate(int fd, int64_t length) {
  for (;;) {
    if (ftruncate(fd, length) == 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

int64_t FileSize(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? static_cast<int64_t>(status.st_size) : -errno;
}

int64_t NextData(int fd, int64_t position, DataRange* range) {
  const off_t start = lseek(fd, position, SEEK_DATA);
  if (start < 0) {
    if (errno == ENXIO) return 0;
    if (errno != EINVAL) return -errno;
    // A file system that knows no holes: everything up to the end is data.
    const int64_t size = FileSize(fd);
    if (size < 0) return size;
    if (position >= size) return 0;
    *range = {position, size};
    return 1;
  }
  const off_t end = lseek(fd, start, SEEK_HOLE);
  if (end < 0) return errno == ENXIO ? 0 : -errno;  // ENXIO: truncated meanwhile
  *range = {start, end};
  return 1;
}

}  // namespace keepgate
