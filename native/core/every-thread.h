// Has every thread of the process do something that a thread can do for itself only.
#ifndef KEEPGATE_CORE_EVERY_THREAD_H_
#define KEEPGATE_CORE_EVERY_THREAD_H_

#include <chrono>
#include <cstddef>

namespace keepgate {

// Calls `work` on this thread and, by a real-time signal, on all others; returns how many of those had not
// called it when `wait_max` was over. They call it when they take the signal, however late: its handler
// stays. `work` runs inside that handler, so it may use async-signal-safe functions only. One call at a time.
size_t OnEveryThread(void (*work)(), std::chrono::milliseconds wait_max);

}  // namespace keepgate

#endif  // KEEPGATE_CORE_EVERY_THREAD_H_
