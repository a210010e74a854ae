// System calls on paths. The caller has made sure that a path stays inside its root; here the last component
// is never followed when it is a symbolic link. Every function returns a negative errno on failure.
#ifndef KEEPGATE_CORE_DIRECTORY_H_
#define KEEPGATE_CORE_DIRECTORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace keepgate {

enum class OpenMode { kRead, kWrite, kCreate };

// The descriptor of a regular file, closed on exec. New files are readable by their owner only.
int64_t OpenFile(const std::string& path, OpenMode mode);
// The descriptor of a lock file that is held exclusively until it is closed, process id inside (on a full
// disk, perhaps not). -EAGAIN: another descriptor, of this process or another, holds it, and `holder` is the
// process id found inside (0: none).
int64_t OpenLock(const std::string& path, int64_t* holder);

int64_t Exists(const std::string& path);  // 1 or 0
int64_t ListDirectory(const std::string& path, std::vector<std::string>* names);
// Each one that it makes is durable in its parent.
int64_t MakeDirectories(const std::string& path);
int64_t Rename(const std::string& from, const std::string& to);
// A file or an empty directory.
int64_t Remove(const std::string& path);
int64_t SyncDirectory(const std::string& path);
// -EFBIG beyond `length_max`.
int64_t ReadSmall(const std::string& path, size_t length_max, std::vector<uint8_t>* bytes);
// Replaces the file atomically and durably, by way of PATH.tmp. Not for two writers of the same path at once.
int64_t WriteSmall(const std::string& path, const uint8_t* bytes, size_t length);
int64_t FreeBytes(const std::string& path);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_DIRECTORY_H_
