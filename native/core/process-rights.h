// What keeps a gateway alive when the machine that it serves runs out of memory. Each function returns 0 or a
// negative errno; none is fatal, `keepgate doctor` says what is missing.
#ifndef KEEPGATE_CORE_PROCESS_RIGHTS_H_
#define KEEPGATE_CORE_PROCESS_RIGHTS_H_

#include <cstdint>
#include <string>

namespace keepgate {

// Marks all threads of the process as serving block I/O: their allocations never wait for write-back to the
// very disk that they serve. Threads inherit the mark from the one that starts them. Returns how many did not
// take it in time, or -EPERM without CAP_SYS_RESOURCE.
int64_t SetIoFlusher();

// Keeps the pages of the program and its libraries in memory, once touched: under memory pressure they would
// be read again from the disk that may be waiting for this very process. -EPERM where RLIMIT_MEMLOCK is
// finite and CAP_IPC_LOCK missing.
int64_t LockMemory();

// Has the allocator give freed payload buffers back to the system at once: by default it learns to keep
// blocks of up to 32 MiB, per thread. Always 0.
int64_t ReturnFreedMemory();

// Lets the threads of everything else go before the calling one, and before those that it starts from now on:
// adds to the nice value of the thread alone, which needs no right.
int64_t YieldToOthers(int nice);

// Sends one datagram to a service manager's socket (sd_notify(3)); a leading '@' names an abstract socket.
int64_t NotifyServiceManager(const std::string& socket_path, const std::string& message);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_PROCESS_RIGHTS_H_
