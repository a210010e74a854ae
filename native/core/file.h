// System calls on open files, made whole: interrupted and partial ones are continued. Every function returns
// what it promises or a negative errno; none allocates per call beyond its arguments, none knows which thread
// it is on.
#ifndef KEEPGATE_CORE_FILE_H_
#define KEEPGATE_CORE_FILE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace keepgate {

// Bytes read without waiting for a disk (preadv2, RWF_NOWAIT): maybe fewer than asked for, -EAGAIN when none
// are cached, -EOPNOTSUPP where the file system cannot tell.
int64_t ReadCached(int fd, uint8_t* target, size_t length, int64_t position);

// Reads until `length` or the end of the file; returns how many bytes there were.
int64_t ReadFully(int fd, uint8_t* target, size_t length, int64_t position);

// Writes all parts one after another; 0, or a negative errno after which any prefix may have been written.
// The parts are used up.
int64_t WriteFully(int fd, iovec* parts, size_t count, int64_t position);

struct ReadRun {
  uint8_t* bytes;
  size_t length;
  int64_t position;
};
// Reads every run, together with what lies between two runs where that is little, in as few system calls as
// can be. Ends at the first that the file does not hold whole; returns how many bytes of runs there were.
int64_t ReadRuns(int fd, const std::vector<ReadRun>& runs);

struct WriteRun {
  const uint8_t* bytes;
  size_t length;
  int64_t position;
};
// Writes every run, joining those that follow on one another in the file into one system call.
int64_t WriteRuns(int fd, const std::vector<WriteRun>& runs);

int64_t SyncData(int fd);
// Begins write-out; what fails here fails again, and is reported, at the next SyncData.
void StartWriteOut(int fd, int64_t position, int64_t length);

// Reserves space without changing size or contents; 0 as well where the file system cannot reserve.
int64_t Allocate(int fd, int64_t position, int64_t length);
// As Allocate; -EOPNOTSUPP where the file system cannot reserve.
int64_t Reserve(int fd, int64_t position, int64_t length);
// Makes a range read as zero and keeps its space, wherever the file system can reserve any. The size stays.
int64_t ZeroRange(int fd, int64_t position, int64_t length);
// Makes a range read as zero, freeing its space where the file system can. The size stays.
int64_t PunchHole(int fd, int64_t position, int64_t length);
int64_t Truncate(int fd, int64_t length);
int64_t FileSize(int fd);

struct DataRange {
  int64_t start;
  int64_t end;
};
// The next range that is not a hole: 1 with `range` set, 0 when only holes follow.
int64_t NextData(int fd, int64_t position, DataRange* range);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_FILE_H_
