// Files and directories on a real file system.
#include "native/core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "check.h"
#include "native/core/directory.h"

namespace keepgate {
namespace {

using Bytes = std::vector<uint8_t>;

class File {
 public:
  File(const std::string& path, OpenMode mode) : fd_(OpenFile(path, mode)) { CHECK(fd_ >= 0); }
  ~File() { close(fd()); }
  int fd() const { return static_cast<int>(fd_); }

 private:
  int64_t fd_;
};

Bytes ReadAll(int fd) {
  Bytes bytes(static_cast<size_t>(FileSize(fd)));
  CHECK(ReadFully(fd, bytes.data(), bytes.size(), 0) == static_cast<int64_t>(bytes.size()));
  return bytes;
}

TEST(ManyPartsBecomeOneRun) {
  const test::TemporaryDirectory directory;
  const File file(directory / "parts", OpenMode::kCreate);
  // More than one system call takes, empty ones among them.
  Bytes source(3000 * 5);
  for (size_t index = 0; index < source.size(); ++index) source[index] = static_cast<uint8_t>(index * 31);
  std::vector<iovec> parts;
  for (size_t at = 0; at < source.size(); at += 5) {
    parts.push_back({&source[at], 2});
    parts.push_back({&source[at], 0});
    parts.push_back({&source[at + 2], 3});
  }
  CHECK(WriteFully(file.fd(), parts.data(), parts.size(), 100) == 0);
  CHECK(FileSize(file.fd()) == 100 + static_cast<int64_t>(source.size()));
  const Bytes written = ReadAll(file.fd());
  CHECK(std::equal(source.begin(), source.end(), written.begin() + 100));
}

TEST(LongPartsAreWrittenWhole) {
  const test::TemporaryDirectory directory;
  const File file(directory / "long", OpenMode::kCreate);
  // Longer than what is written in one call, from a position within a piece, with ends before, at and after a
  // piece's.
  Bytes source(1 << 20);
  for (size_t index = 0; index < source.size(); ++index)
    source[index] = static_cast<uint8_t>(index * 31 + index / 251);
  constexpr int64_t position = 4096 - 24;
  const size_t to_piece_end = 256 * 1024 - static_cast<size_t>(position);
  std::vector<iovec> parts;
  size_t at = 0;
  for (const size_t length : {size_t{1}, to_piece_end - 1, size_t{300'000}, size_t{0}, size_t{7}}) {
    parts.push_back({&source[at], length});
    at += length;
  }
  parts.push_back({&source[at], source.size() - at});
  CHECK(WriteFully(file.fd(), parts.data(), parts.size(), position) == 0);
  CHECK(FileSize(file.fd()) == position + static_cast<int64_t>(source.size()));
  const Bytes written = ReadAll(file.fd());
  CHECK(std::equal(source.begin(), source.end(), written.begin() + position));
}

TEST(AWriteThatEndsEarlyIsAnError) {
  const test::TemporaryDirectory directory;
  const pid_t child = fork();
  if (child == 0) {
    // Past this size a write is cut short first and refused then.
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {10000, 10000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const int64_t fd = OpenFile(directory / "limited", OpenMode::kCreate);
    Bytes bytes(16384, 1);
    iovec part = {bytes.data(), bytes.size()};
    const bool right =
        WriteFully(static_cast<int>(fd), &part, 1, 0) == -EFBIG && FileSize(static_cast<int>(fd)) == 10000;
    _exit(right ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(AFullDeviceIsENOSPC) {
  const int fd = open("/dev/full", O_RDWR);
  CHECK(fd >= 0);
  uint8_t byte = 1;
  iovec part = {&byte, 1};
  CHECK(WriteFully(fd, &part, 1, 0) == -ENOSPC);
  close(fd);
}

TEST(ReadsEndWithTheFile) {
  const test::TemporaryDirectory directory;
  const File file(directory / "short", OpenMode::kCreate);
  Bytes bytes(5000, 3);
  iovec part = {bytes.data(), bytes.size()};
  CHECK(WriteFully(file.fd(), &part, 1, 0) == 0);
  Bytes target(8192);
  CHECK(ReadFully(file.fd(), target.data(), target.size(), 4096) == 904);
  CHECK(ReadFully(file.fd(), target.data(), target.size(), 9000) == 0);
  CHECK(ReadFully(-1, target.data(), target.size(), 0) == -EBADF);
}

TEST(CachedReadsAnswerAtOnceOrNotAtAll) {
  const test::TemporaryDirectory directory;
  const File file(directory / "cached", OpenMode::kCreate);
  Bytes bytes(65536, 7);
  iovec part = {bytes.data(), bytes.size()};
  CHECK(WriteFully(file.fd(), &part, 1, 0) == 0);
  Bytes target(65536);
  const int64_t count = ReadCached(file.fd(), target.data(), target.size(), 0);
  if (count == -EOPNOTSUPP) return;  // such a file system takes the slow path always
  CHECK(count == 65536 && target == bytes);
  CHECK(ReadCached(file.fd(), target.data(), target.size(), 65536) == 0);
  CHECK(SyncData(file.fd()) == 0);
  CHECK(posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  const int64_t cold = ReadCached(file.fd(), target.data(), target.size(), 0);
  CHECK(cold == -EAGAIN || (cold >= 0 && cold <= 65536));
}

TEST(RunsThatFollowOnOneAnotherAreJoined) {
  const test::TemporaryDirectory directory;
  const File file(directory / "runs", OpenMode::kCreate);
  Bytes source(4096);
  for (size_t index = 0; index < source.size(); ++index) source[index] = static_cast<uint8_t>(index / 16);
  const std::vector<WriteRun> runs = {
      {&source[0], 1024, 0}, {&source[2048], 512, 1024}, {&source[1024], 1024, 8192}, {&source[0], 0, 9216}};
  CHECK(WriteRuns(file.fd(), runs) == 0);
  const Bytes written = ReadAll(file.fd());
  CHECK(written.size() == 9216);
  CHECK(std::equal(&source[0], &source[1024], &written[0]));
  CHECK(std::equal(&source[2048], &source[2560], &written[1024]));
  CHECK(std::equal(&source[1024], &source[2048], &written[8192]));
  CHECK(std::all_of(&written[1536], &written[8192], [](uint8_t byte) { return byte == 0; }));
}

TEST(HolesArePunchedFoundAndReserved) {
  const test::TemporaryDirectory directory;
  const File file(directory / "holes", OpenMode::kCreate);
  constexpr int64_t kSize = 1 << 20;
  Bytes bytes(kSize, 9);
  iovec part = {bytes.data(), bytes.size()};
  CHECK(WriteFully(file.fd(), &part, 1, 0) == 0);
  CHECK(PunchHole(file.fd(), 0, 65536) == 0);
  CHECK(PunchHole(file.fd(), 131072, kSize) == 0);
  CHECK(PunchHole(file.fd(), 70000, 0) == 0);
  CHECK(FileSize(file.fd()) == kSize);
  DataRange range = {};
  CHECK(NextData(file.fd(), 0, &range) == 1);
  CHECK(range.start <= 65536 && range.end >= 131072);
  CHECK(NextData(file.fd(), kSize, &range) == 0);
  CHECK(Allocate(file.fd(), kSize, 65536) == 0);
  CHECK(FileSize(file.fd()) == kSize);
  CHECK(Truncate(file.fd(), 2 * kSize) == 0);
  const Bytes after = ReadAll(file.fd());
  CHECK(std::all_of(after.begin(), after.begin() + 65536, [](uint8_t byte) { return byte == 0; }));
  CHECK(std::all_of(after.begin() + 65536, after.begin() + 131072, [](uint8_t byte) { return byte == 9; }));
  CHECK(std::all_of(after.begin() + 131072, after.end(), [](uint8_t byte) { return byte == 0; }));
  StartWriteOut(file.fd(), 0, kSize);
  StartWriteOut(-1, 0, kSize);
}

TEST(ReservedSpaceStaysWhenARangeIsMadeZero) {
  const test::TemporaryDirectory directory;
  const File file(directory / "reserved", OpenMode::kCreate);
  constexpr int64_t kSize = 1 << 20;
  const auto blocks = [&file] {
    struct stat status = {};
    CHECK(fstat(file.fd(), &status) == 0);
    return status.st_blocks;
  };
  CHECK(Truncate(file.fd(), kSize) == 0);
  if (Reserve(file.fd(), 0, 2 * kSize) == -EOPNOTSUPP) return;
  CHECK(FileSize(file.fd()) == kSize);
  const auto reserved = blocks();
  CHECK(reserved >= 2 * kSize / 512);
  Bytes bytes(kSize, 9);
  iovec part = {bytes.data(), bytes.size()};
  CHECK(WriteFully(file.fd(), &part, 1, 0) == 0);
  CHECK(ZeroRange(file.fd(), 65536, 65536) == 0);
  CHECK(ZeroRange(file.fd(), 0, 0) == 0);
  CHECK(ZeroRange(file.fd(), kSize - 65536, 65536) == 0);
  CHECK(blocks() >= reserved);
  CHECK(FileSize(file.fd()) == kSize);
  const Bytes after = ReadAll(file.fd());
  for (size_t at = 0; at < after.size(); at += 4096) {
    const bool zero = (at >= 65536 && at < 131072) || at >= kSize - 65536;
    CHECK(after[at] == (zero ? 0 : 9) && after[at + 4095] == after[at]);
  }
  CHECK(Truncate(file.fd(), kSize) == 0);
  CHECK(Reserve(-1, 0, 1) == -EBADF);
  CHECK(ZeroRange(-1, 0, 1) == -EBADF);
}

TEST(OnlyRegularFilesAreOpenedAndLinksAreNotFollowed) {
  const test::TemporaryDirectory directory;
  { const File file(directory / "real", OpenMode::kCreate); }
  CHECK(OpenFile(directory / "real", OpenMode::kCreate) == -EEXIST);
  CHECK(OpenFile(directory / "none", OpenMode::kWrite) == -ENOENT);
  CHECK(symlink("real", (directory / "link").c_str()) == 0);
  CHECK(OpenFile(directory / "link", OpenMode::kRead) == -ELOOP);
  CHECK(mkfifo((directory / "pipe").c_str(), 0600) == 0);
  CHECK(OpenFile(directory / "pipe", OpenMode::kRead) == -EINVAL);
  CHECK(OpenFile(directory.path(), OpenMode::kRead) == -EISDIR);
  struct stat status;
  CHECK(stat((directory / "real").c_str(), &status) == 0 && (status.st_mode & 0777) == 0600);
}

TEST(DirectoriesAreMadeListedAndRemoved) {
  const test::TemporaryDirectory directory;
  CHECK(MakeDirectories(directory / "a/b/c") == 0);
  CHECK(MakeDirectories(directory / "a/b/c") == 0);
  { const File file(directory / "a/file", OpenMode::kCreate); }
  CHECK(MakeDirectories(directory / "a/file") == -ENOTDIR);
  CHECK(MakeDirectories(directory / "a/file/d") == -ENOTDIR);
  std::vector<std::string> names;
  CHECK(ListDirectory(directory / "a", &names) == 0);
  std::sort(names.begin(), names.end());
  CHECK((names == std::vector<std::string>{"b", "file"}));
  names.clear();
  CHECK(ListDirectory(directory / "none", &names) == 0 && names.empty());
  CHECK(Exists(directory / "a/b") == 1 && Exists(directory / "a/z") == 0);
  CHECK(Remove(directory / "a/b") == -ENOTEMPTY);
  CHECK(Remove(directory / "a/b/c") == 0 && Remove(directory / "a/file") == 0);
  CHECK(Remove(directory / "a/file") == -ENOENT);
  CHECK(SyncDirectory(directory / "a") == 0 && SyncDirectory(directory / "z") == -ENOENT);
  CHECK(FreeBytes(directory.path()) > 0);
}

TEST(SmallFilesAreReplacedWhole) {
  const test::TemporaryDirectory directory;
  const Bytes first = {1, 2, 3};
  const Bytes second(5000, 4);
  CHECK(WriteSmall(directory / "small", first.data(), first.size()) == 0);
  CHECK(WriteSmall(directory / "small", second.data(), second.size()) == 0);
  Bytes read;
  CHECK(ReadSmall(directory / "small", 5000, &read) == 5000 && read == second);
  CHECK(ReadSmall(directory / "small", 4999, &read) == -EFBIG);
  CHECK(WriteSmall(directory / "empty", nullptr, 0) == 0);
  CHECK(ReadSmall(directory / "empty", 0, &read) == 0 && read.empty());
  CHECK(Exists(directory / "small.tmp") == 0);
  // What cannot take its place leaves nothing behind.
  CHECK(MakeDirectories(directory / "taken/full") == 0);
  CHECK(WriteSmall(directory / "taken", first.data(), first.size()) == -EISDIR);
  CHECK(Exists(directory / "taken.tmp") == 0);
}

TEST(ALockExcludesOthersUntilItsHolderIsGone) {
  const test::TemporaryDirectory directory;
  int64_t holder = 0;
  const int64_t held = OpenLock(directory / "lock", &holder);
  CHECK(held >= 0);
  CHECK(OpenLock(directory / "lock", &holder) == -EAGAIN && holder == getpid());
  const pid_t child = fork();
  if (child == 0) {
    int64_t seen = 0;
    // The child shares the parent's description, but its own is another.
    const bool right = OpenLock(directory / "lock", &seen) == -EAGAIN && seen == getppid();
    _exit(right ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  close(static_cast<int>(held));
  // Whoever comes next writes over what is there, whatever it is.
  std::vector<uint8_t> bytes;
  CHECK(ReadSmall(directory / "lock", 100, &bytes) >= 0 && bytes.size() == 24);
  const std::string older(24, '9');
  CHECK(WriteSmall(directory / "lock", reinterpret_cast<const uint8_t*>(older.data()), older.size()) == 0);
  const int64_t again = OpenLock(directory / "lock", &holder);
  CHECK(again >= 0);
  CHECK(OpenLock(directory / "lock", &holder) == -EAGAIN && holder == getpid());
  CHECK(ReadSmall(directory / "lock", 100, &bytes) >= 0 && bytes.size() == 24);
  close(static_cast<int>(again));
}

}  // namespace
}  // namespace keepgate
