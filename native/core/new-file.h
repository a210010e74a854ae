// Writes a file that nobody else knows yet, durably.
#ifndef KEEPGATE_CORE_NEW_FILE_H_
#define KEEPGATE_CORE_NEW_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace keepgate {

// Creates `path` (-EEXIST where there is something) with this content, synced; its directory is not. On
// failure the file may be left behind, with any content.
//
// From 1 MiB on without the page cache (O_DIRECT): it is synced at once anyway, and copying it into pages
// that have to be found, filled and written out costs twenty times the processor time of handing the disk the
// bytes, and pushes out pages that others read. Bytes that begin at a page are handed over where they are.
// Where the file system knows no direct I/O it is written as usual.
int64_t WriteNewFile(const std::string& path, const uint8_t* bytes, size_t length);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_NEW_FILE_H_
