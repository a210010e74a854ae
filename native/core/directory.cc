#include "directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <utility>

#include "file.h"

namespace keepgate {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

int64_t OpenDescriptor(const std::string& path, int flags) {
  for (;;) {
    const int fd = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, kFileMode);
    if (fd >= 0) return fd;
    if (errno != EINTR) return -errno;
  }
}

class ScopedDescriptor {
 public:
  explicit ScopedDescriptor(int fd) : fd_(fd) {}
  ~ScopedDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  ScopedDescriptor(const ScopedDescriptor&) = delete;
  ScopedDescriptor& operator=(const ScopedDescriptor&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  int64_t Close() { return close(Release()) == 0 ? 0 : -errno; }

 private:
  int fd_;
};

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

int64_t WriteAll(int fd, const uint8_t* bytes, size_t length) {
  iovec part = {const_cast<uint8_t*>(bytes), length};
  return WriteFully(fd, &part, 1, 0);
}

int64_t WriteAndSync(const std::string& path, const uint8_t* bytes, size_t length) {
  const int64_t opened = OpenDescriptor(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (opened < 0) return opened;
  ScopedDescriptor file(static_cast<int>(opened));
  if (const int64_t error = WriteAll(file.get(), bytes, length); error < 0) return error;
  if (fsync(file.get()) != 0) return -errno;
  return file.Close();
}

// Of a lock file: a process id, spaces, a line feed.
constexpr int kHolderBytes = 24;

int64_t ReadHolder(int fd) {
  char text[kHolderBytes];
  const int64_t count = ReadFully(fd, reinterpret_cast<uint8_t*>(text), sizeof text, 0);
  int64_t holder = 0;
  if (count > 0) std::from_chars(text, text + count, holder);
  return holder;
}

}  // namespace

int64_t OpenFile(const std::string& path, OpenMode mode) {
  const int flags = mode == OpenMode::kRead    ? O_RDONLY
                    : mode == OpenMode::kWrite ? O_RDWR
                                               : O_RDWR | O_CREAT | O_EXCL;
  // O_NONBLOCK: opening a pipe that someone put there must not wait; regular files do not care.
  const int64_t opened = OpenDescriptor(path, flags | O_NONBLOCK);
  if (opened < 0) return opened;
  ScopedDescriptor file(static_cast<int>(opened));
  struct stat status;
  if (fstat(file.get(), &status) != 0) return -errno;
  if (S_ISDIR(status.st_mode)) return -EISDIR;
  if (!S_ISREG(status.st_mode)) return -EINVAL;
  if (fcntl(file.get(), F_SETFL, 0) != 0) return -errno;
  return file.Release();
}

int64_t OpenLock(const std::string& path, int64_t* holder) {
  const int64_t opened = OpenDescriptor(path, O_RDWR | O_CREAT);
  if (opened < 0) return opened;
  ScopedDescriptor file(static_cast<int>(opened));
  // A lock of the open file description: it excludes others of the same process too, and closing some other
  // descriptor of the file does not drop it (as it would the process-wide kind).
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  while (fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EACCES) return -errno;
    *holder = ReadHolder(file.get());
    return -EAGAIN;
  }
  // The number inside only serves a message. It is written over the one before, in as many bytes: a file that
  // was cut first would say nothing for a moment, and would need space that a full disk does not give back.
  // Any other failure shows a disk that cannot be written.
  char text[kHolderBytes + 1];
  snprintf(text, sizeof text, "%-*lld\n", kHolderBytes - 1, static_cast<long long>(getpid()));
  const int64_t error = WriteAll(file.get(), reinterpret_cast<const uint8_t*>(text), kHolderBytes);
  return error < 0 && error != -ENOSPC && error != -EDQUOT ? error : file.Release();
}

int64_t Exists(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) == 0) return 1;
  return errno == ENOENT ? 0 : -errno;
}

int64_t ListDirectory(const std::string& path, std::vector<std::string>* names) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return errno == ENOENT ? 0 : -errno;
  int64_t error = 0;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(directory);
    if (entry == nullptr) {
      error = -errno;
      break;
    }
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
      names->emplace_back(entry->d_name);
    }
  }
  closedir(directory);
  return error;
}

int64_t MakeDirectories(const std::string& path) {
  if (mkdir(path.c_str(), kDirectoryMode) == 0) return SyncDirectory(ParentOf(path));
  if (errno == EEXIST) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0) return -errno;
    return S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
  }
  if (errno != ENOENT) return -errno;
  const std::string parent = ParentOf(path);
  if (parent == path) return -ENOENT;
  if (const int64_t error = MakeDirectories(parent); error < 0) return error;
  if (mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST) return -errno;
  return SyncDirectory(parent);
}

int64_t Rename(const std::string& from, const std::string& to) {
  return rename(from.c_str(), to.c_str()) == 0 ? 0 : -errno;
}

int64_t Remove(const std::string& path) {
  if (unlink(path.c_str()) == 0) return 0;
  if (errno != EISDIR) return -errno;
  return rmdir(path.c_str()) == 0 ? 0 : -errno;
}

int64_t SyncDirectory(const std::string& path) {
  const int64_t opened = OpenDescriptor(path, O_RDONLY | O_DIRECTORY);
  if (opened < 0) return opened;
  const ScopedDescriptor directory(static_cast<int>(opened));
  // EINVAL: a file system without anything to sync for a directory.
  return fsync(directory.get()) == 0 || errno == EINVAL ? 0 : -errno;
}

int64_t ReadSmall(const std::string& path, size_t length_max, std::vector<uint8_t>* bytes) {
  const int64_t opened = OpenFile(path, OpenMode::kRead);
  if (opened < 0) return opened;
  const ScopedDescriptor file(static_cast<int>(opened));
  const int64_t size = FileSize(file.get());
  if (size < 0) return size;
  if (size > static_cast<int64_t>(length_max)) return -EFBIG;
  bytes->resize(static_cast<size_t>(size));
  const int64_t count = ReadFully(file.get(), bytes->data(), bytes->size(), 0);
  if (count >= 0) bytes->resize(static_cast<size_t>(count));
  return count;
}

int64_t WriteSmall(const std::string& path, const uint8_t* bytes, size_t length) {
  const std::string temporary = path + ".tmp";
  int64_t error = WriteAndSync(temporary, bytes, length);
  if (error == 0) error = Rename(temporary, path);
  if (error < 0) {
    unlink(temporary.c_str());
    return error;
  }
  return SyncDirectory(ParentOf(path));
}

int64_t FreeBytes(const std::string& path) {
  struct statvfs status;
  if (statvfs(path.c_str(), &status) != 0) return -errno;
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

}  // namespace keepgate
