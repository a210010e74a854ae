// Open files (src/platform/native-disk.ts). Every function answers with a result or a negative errno, at once
// or as a promise of it; only wrong arguments throw.
#include <errno.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../core/directory.h"
#include "../core/file.h"
#include "arguments.h"
#include "bindings.h"
#include "instance.h"

namespace keepgate {
namespace {

constexpr uint32_t kPartsMax = 65536;
constexpr int kWriteOutsQueuedMax = 16;

using FilePointer = std::shared_ptr<OpenedFile>;

bool GetLane(const Arguments& arguments, size_t index, Lane** lane) {
  size_t number;
  if (!arguments.Index(index, "lane", &number)) return false;
  *lane = arguments.instance().LaneAt(number);
  return *lane != nullptr || arguments.ThrowRange("there is no lane " + std::to_string(number));
}

// The file of argument 0; `file` is null where it is not open (any more). False after throwing.
bool GetFile(const Arguments& arguments, const FilePointer** file) {
  int64_t handle;
  if (!arguments.Integer(0, "file", kSafeIntegerMax, &handle)) return false;
  *file = arguments.instance().Find(handle);
  return true;
}

napi_value NotOpen(const Arguments& arguments) { return arguments.Number(-EBADF); }

// [position, position + length) at arguments `first` and `first` + 1.
bool GetRange(const Arguments& arguments, size_t first, int64_t* position, int64_t* length) {
  return arguments.Integer(first, "position", kSafeIntegerMax, position) &&
         arguments.Integer(first + 1, "lengthBytes", kSafeIntegerMax - *position, length);
}

// Lists the parts of an array of Uint8Arrays in `parts`, and their handles in `values`. Reading an element
// may run JavaScript, so where the bytes are is looked up only once all elements have been read.
bool GetParts(const Arguments& arguments, size_t index, std::vector<iovec>* parts,
              std::vector<napi_value>* values) {
  const napi_env env = arguments.env();
  uint32_t count;
  if (napi_get_array_length(env, arguments.value(index), &count) != napi_ok) {
    return arguments.ThrowType("parts must be an array");
  }
  if (count > kPartsMax)
    return arguments.ThrowRange("parts must not be more than " + std::to_string(kPartsMax));
  values->clear();
  for (uint32_t part = 0; part < count; ++part) {
    napi_value value;
    if (napi_get_element(env, arguments.value(index), part, &value) != napi_ok) return false;  // has thrown
    values->push_back(value);
  }
  parts->clear();
  for (const napi_value value : *values) {
    ByteView view;
    if (!GetBytes(env, value, &view)) return arguments.ThrowType("every part must be a Uint8Array");
    parts->push_back({view.bytes, view.length});
  }
  return true;
}

// lane(name, threadName, threadsMax): a lane's number
napi_value MakeLane(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string name;
  std::string thread_name;
  int64_t threads_max;
  if (!arguments.Text(0, "name", &name) || !arguments.Text(1, "threadName", &thread_name) ||
      !arguments.Integer(2, "threadsMax", 64, &threads_max)) {
    return nullptr;
  }
  if (threads_max == 0) {
    arguments.ThrowRange("threadsMax must not be 0");
    return nullptr;
  }
  return arguments.Number(static_cast<double>(
      arguments.instance().LaneNumber(name, thread_name, static_cast<size_t>(threads_max))));
}

// openFile(path, mode, readLane, writeLane, syncLane): a promise of a file's number; mode 0 reads, 1 writes,
// 2 creates
napi_value Open(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string path;
  int64_t mode;
  FileLanes lanes;
  if (!arguments.Text(0, "path", &path) || !arguments.Integer(1, "mode", 2, &mode) ||
      !GetLane(arguments, 2, &lanes.read) || !GetLane(arguments, 3, &lanes.write) ||
      !GetLane(arguments, 4, &lanes.sync)) {
    return nullptr;
  }
  Instance& instance = arguments.instance();
  auto file = std::make_shared<OpenedFile>(instance, lanes);
  return instance.Run(
      lanes.read,
      [file, path, mode]() -> Outcome {
        const int64_t opened = OpenFile(path, static_cast<OpenMode>(mode));
        if (opened >= 0) file->fd = static_cast<int>(opened);
        return opened;
      },
      {},
      [file, &instance](Outcome outcome) -> Outcome {
        if (file->fd >= 0) return static_cast<int64_t>(instance.Keep(file));
        return outcome;
      });
}

// openLock(path, lane): a promise of [file's number or negative errno, process id of the holder]
napi_value OpenLocked(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  std::string path;
  Lane* lane;
  if (!arguments.Text(0, "path", &path) || !GetLane(arguments, 1, &lane)) return nullptr;
  Instance& instance = arguments.instance();
  auto file = std::make_shared<OpenedFile>(instance, FileLanes{lane, lane, lane});
  return instance.Run(
      lane,
      [file, path]() -> Outcome {
        int64_t holder = 0;
        const int64_t opened = OpenLock(path, &holder);
        if (opened >= 0) file->fd = static_cast<int>(opened);
        return DataRange{opened, holder};
      },
      {},
      [file, &instance](Outcome outcome) -> Outcome {
        if (file->fd >= 0) return DataRange{static_cast<int64_t>(instance.Keep(file)), 0};
        return outcome;
      });
}

// closeFile(file)
napi_value Close(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  int64_t handle;
  if (!arguments.Integer(0, "file", kSafeIntegerMax, &handle)) return nullptr;
  const napi_value promise = arguments.instance().Close(handle);
  return promise == nullptr ? NotOpen(arguments) : promise;
}

struct ReadArguments {
  const FilePointer* file;
  uint8_t* target;
  size_t length;
  int64_t position;
};

// (file, target, targetStart, lengthBytes, position)
bool GetRead(const Arguments& arguments, ReadArguments* read) {
  ByteView target;
  size_t start;
  if (!GetFile(arguments, &read->file) || !arguments.Bytes(1, "target", &target) ||
      !arguments.Index(2, "targetStart", &start) || !arguments.Index(3, "lengthBytes", &read->length) ||
      !arguments.Integer(4, "position", kSafeIntegerMax, &read->position) ||
      !arguments.Inside("target", start, read->length, target.length)) {
    return false;
  }
  read->target = target.bytes + start;
  return true;
}

// readNow(…): true when all of it came from the page cache
napi_value ReadNow(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ReadArguments read;
  if (!GetRead(arguments, &read)) return nullptr;
  if (read.file == nullptr || !(*read.file)->answers_cached_reads) return arguments.Boolean(false);
  const int64_t count = ReadCached((*read.file)->fd, read.target, read.length, read.position);
  if (count == -EOPNOTSUPP) (*read.file)->answers_cached_reads = false;
  return arguments.Boolean(count == static_cast<int64_t>(read.length));
}

// read(…): a promise of the number of bytes
napi_value Read(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  ReadArguments read;
  if (!GetRead(arguments, &read)) return nullptr;
  if (read.file == nullptr) return NotOpen(arguments);
  FilePointer file = *read.file;
  return arguments.instance().Run(
      file->lanes.read,
      [file, read]() -> Outcome { return ReadFully(file->fd, read.target, read.length, read.position); },
      {arguments.value(1)});
}

// writeNow(file, parts, position)
napi_value WriteNow(napi_env env, napi_callback_info info) {
  // Kept between calls, which saves their allocation.
  static thread_local std::vector<iovec> parts;
  static thread_local std::vector<napi_value> values;
  const Arguments arguments(env, info);
  const FilePointer* file;
  int64_t position;
  if (!GetParts(arguments, 1, &parts, &values) ||
      !arguments.Integer(2, "position", kSafeIntegerMax, &position) || !GetFile(arguments, &file)) {
    return nullptr;
  }
  if (file == nullptr) return NotOpen(arguments);
  return arguments.Number(static_cast<double>(WriteFully((*file)->fd, parts.data(), parts.size(), position)));
}

// write(file, parts, position)
napi_value Write(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  std::vector<iovec> parts;
  std::vector<napi_value> values;
  int64_t position;
  if (!GetParts(arguments, 1, &parts, &values) ||
      !arguments.Integer(2, "position", kSafeIntegerMax, &position) || !GetFile(arguments, &opened)) {
    return nullptr;
  }
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(
      file->lanes.write,
      [file, parts = std::move(parts), position]() mutable -> Outcome {
        return WriteFully(file->fd, parts.data(), parts.size(), position);
      },
      values);
}

// Run k of `runs` as three numbers: start in the bytes, length, position in the file.
template <typename Run>
bool GetRun(const Arguments& arguments, const double* numbers, const ByteView& source, Run* run) {
  const auto whole = [](double number) {
    return number >= 0 && number <= static_cast<double>(kSafeIntegerMax) && number == std::floor(number);
  };
  if (!whole(numbers[0]) || !whole(numbers[1]) || !whole(numbers[2])) {
    return arguments.ThrowRange("runs must hold non-negative integers");
  }
  const auto start = static_cast<size_t>(numbers[0]);
  const auto length = static_cast<size_t>(numbers[1]);
  if (!arguments.Inside("bytes", start, length, source.length)) return false;
  *run = {source.bytes + start, length, static_cast<int64_t>(numbers[2])};
  return true;
}

// (file, bytes, runs, runCount)
template <typename Run, int64_t (*kCall)(int, const std::vector<Run>&), Lane* FileLanes::*kLane>
napi_value OnRuns(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  ByteView bytes;
  NumberView numbers;
  size_t count;
  if (!GetFile(arguments, &opened) || !arguments.Bytes(1, "bytes", &bytes) ||
      !arguments.Numbers(2, "runs", &numbers) || !arguments.Index(3, "runCount", &count)) {
    return nullptr;
  }
  if (count > numbers.length / 3) {
    arguments.ThrowRange("runCount must not be more than runs holds");
    return nullptr;
  }
  std::vector<Run> runs(count);
  for (size_t index = 0; index < count; ++index) {
    if (!GetRun(arguments, numbers.numbers + 3 * index, bytes, &runs[index])) return nullptr;
  }
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(
      file->lanes.*kLane, [file, runs = std::move(runs)]() -> Outcome { return kCall(file->fd, runs); },
      {arguments.value(1)});
}

// sync(file)
napi_value Sync(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  if (!GetFile(arguments, &opened)) return nullptr;
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(file->lanes.sync, [file]() -> Outcome { return SyncData(file->fd); });
}

// startWriteOut(file, position, lengthBytes): on the sync lane, as it waits where a sync would, and reads
// must not
napi_value BeginWriteOut(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  int64_t position;
  int64_t length;
  if (!GetFile(arguments, &opened) || !GetRange(arguments, 1, &position, &length)) return nullptr;
  if (opened == nullptr) return nullptr;
  FilePointer file = *opened;
  // A disk that hangs must not gather hints without end; the next sync writes out all the same.
  if (file->write_outs_queued >= kWriteOutsQueuedMax) return nullptr;
  ++file->write_outs_queued;
  arguments.instance().RunUnheeded(file->lanes.sync, [file, position, length] {
    --file->write_outs_queued;
    StartWriteOut(file->fd, position, length);
  });
  return nullptr;
}

using RangeCall = int64_t (*)(int, int64_t, int64_t);

// (file, position, lengthBytes)
template <RangeCall kCall>
napi_value OnRange(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  int64_t position;
  int64_t length;
  if (!GetFile(arguments, &opened) || !GetRange(arguments, 1, &position, &length)) return nullptr;
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(
      file->lanes.write, [file, position, length]() -> Outcome { return kCall(file->fd, position, length); });
}

// truncate(file, lengthBytes)
napi_value TruncateFile(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  int64_t length;
  if (!GetFile(arguments, &opened) || !arguments.Integer(1, "lengthBytes", kSafeIntegerMax, &length)) {
    return nullptr;
  }
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(file->lanes.write,
                                  [file, length]() -> Outcome { return Truncate(file->fd, length); });
}

// fileSize(file)
napi_value Size(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  if (!GetFile(arguments, &opened)) return nullptr;
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(file->lanes.read, [file]() -> Outcome { return FileSize(file->fd); });
}

// nextData(file, position): a promise of [start, end], of 0 when only holes follow, or of a negative errno
napi_value FindData(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const FilePointer* opened;
  int64_t position;
  if (!GetFile(arguments, &opened) || !arguments.Integer(1, "position", kSafeIntegerMax, &position)) {
    return nullptr;
  }
  if (opened == nullptr) return NotOpen(arguments);
  FilePointer file = *opened;
  return arguments.instance().Run(file->lanes.read, [file, position]() -> Outcome {
    DataRange range;
    const int64_t found = NextData(file->fd, position, &range);
    if (found == 1) return range;
    return found;
  });
}

}  // namespace

bool DefineFiles(napi_env env, napi_value exports, Instance* instance) {
  constexpr Binding kBindings[] = {
      {"lane", MakeLane},
      {"openFile", Open},
      {"openLock", OpenLocked},
      {"closeFile", Close},
      {"readNow", ReadNow},
      {"read", Read},
      {"writeNow", WriteNow},
      {"write", Write},
      {"readScattered", OnRuns<ReadRun, ReadRuns, &FileLanes::read>},
      {"writeScattered", OnRuns<WriteRun, WriteRuns, &FileLanes::write>},
      {"sync", Sync},
      {"startWriteOut", BeginWriteOut},
      {"allocate", OnRange<Allocate>},
      {"reserve", OnRange<Reserve>},
      {"zeroRange", OnRange<ZeroRange>},
      {"punch", OnRange<PunchHole>},
      {"truncate", TruncateFile},
      {"fileSize", Size},
      {"nextData", FindData},
  };
  return Define(env, exports, instance, kBindings, sizeof kBindings / sizeof *kBindings);
}

}  // namespace keepgate
